"""``python -m services.notification worker|sender|webhooks|bounces|api``."""

from __future__ import annotations

import sys

from services.notification import api, bounces, sender, webhooks, worker
from shared import logs, tracing
from shared.runtime import run
from shared.settings import Settings

ROLES = {
    "worker": lambda settings: run(worker.Notification(), settings),
    "sender": sender.run,
    "webhooks": webhooks.run,
    "bounces": bounces.run,
    "api": api.run,
}


def main() -> None:
    """Run the process named on the command line until SIGTERM."""
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        sys.exit(f"usage: python -m services.notification {'|'.join(ROLES)}")
    settings = Settings.at_start()
    logs.configure(settings, f"notification-{role}")
    tracing.configure(settings, f"notification-{role}")
    ROLES[role](settings)


main()
