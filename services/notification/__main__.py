"""``python -m services.notification worker|sender|webhooks|api``."""

from __future__ import annotations

import sys

from services.notification import api, sender, webhooks, worker
from shared import logs
from shared.runtime import run
from shared.settings import Settings


def main() -> None:
    """Run one of the processes until SIGTERM."""
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ("worker", "sender", "webhooks", "api"):
        sys.exit("usage: python -m services.notification worker|sender|webhooks|api")
    settings = Settings()
    logs.configure(settings, f"notification-{role}")
    if role == "worker":
        run(worker.Notification(), settings)
    elif role == "webhooks":
        webhooks.run(settings)
    elif role == "api":
        api.run(settings)
    else:
        sender.run(settings)


main()
