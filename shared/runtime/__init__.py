"""The runtime: effectively once, by the database (docs/architecture.md).

A service gives the runtime its decisions (``Service``); the runtime gives it records in order, one database
transaction a batch, and the promise that what the transaction appended to the event log is published.
"""

from shared.runtime.types import Batch, DeadLetter, Due, Incoming, Outgoing, Service, Tx
from shared.runtime.worker import Worker, run

__all__ = ["Batch", "DeadLetter", "Due", "Incoming", "Outgoing", "Service", "Tx", "Worker", "run"]
