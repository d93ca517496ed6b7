"""``python -m services.notification worker|sender``."""

from __future__ import annotations

import sys

from services.notification import sender, worker
from shared import logs
from shared.runtime import run
from shared.settings import Settings


def main() -> None:
    """Run one of the two processes until SIGTERM."""
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ("worker", "sender"):
        sys.exit("usage: python -m services.notification worker|sender")
    settings = Settings()
    logs.configure(settings, f"notification-{role}")
    if role == "worker":
        run(worker.Notification(), settings)
    else:
        sender.run(settings)


main()
