"""``python -m services.enforcement [worker|ledger|entities|delivery|statements|api]``."""

from __future__ import annotations

import sys

from shared import logs, runtime, tracing
from shared.settings import Settings


def main(arguments: list[str]) -> int:
    """Run one of the service's processes until SIGTERM; returns the exit status."""
    part = arguments[0] if arguments else "worker"
    settings = Settings.at_start()
    logs.configure(settings, f"enforcement-{part}")
    tracing.configure(settings, f"enforcement-{part}")
    if part == "worker":
        from services.enforcement.worker import Enforcement

        runtime.run(Enforcement(settings), settings)
    elif part == "ledger":
        from services.enforcement.ledger import EnforcementLedger

        runtime.run(EnforcementLedger(settings), settings)
    elif part == "entities":
        from services.enforcement import entities_worker

        entities_worker.run(settings)
    elif part == "delivery":
        from services.enforcement import delivery

        delivery.run(settings)
    elif part == "statements":
        from services.enforcement import transparency

        transparency.run(settings)
    elif part == "api":
        from services.enforcement import api

        api.run(settings)
    else:
        sys.stderr.write(f"unknown part {part!r}: give worker, ledger, entities, delivery, statements or api\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
