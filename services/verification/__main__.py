"""``python -m services.verification``: one worker; run as many as there are cores, up to the partition count."""

from services.verification.worker import Verification
from shared import logs, tracing
from shared.runtime import run
from shared.settings import Settings

if __name__ == "__main__":
    settings = Settings.at_start()
    logs.configure(settings, "verification")
    tracing.configure(settings, "verification")
    run(Verification(), settings)
