"""The runtime: effectively-once processing, based on the database (docs/explanation/architecture.md).

A service supplies the decisions (``Service``). The runtime supplies records in order and one database transaction per
batch, and guarantees that whatever the transaction appended to the event log is published.
"""

from shared.runtime.types import Batch, DeadLetter, Due, Incoming, Outgoing, Service, Tx
from shared.runtime.worker import Worker, run

__all__ = ["Batch", "DeadLetter", "Due", "Incoming", "Outgoing", "Service", "Tx", "Worker", "run"]
