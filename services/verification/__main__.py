"""``python -m services.verification``: runs one worker. Run one per core, up to the number of partitions."""

from services.verification.worker import Verification
from shared import logs, tracing
from shared.runtime import run
from shared.settings import Settings

if __name__ == "__main__":
    settings = Settings.at_start()
    logs.configure(settings, "verification")
    tracing.configure(settings, "verification")
    run(Verification(), settings)
