"""``python -m services.verification [worker|api]``. Run one worker per core, up to the number of partitions."""

from __future__ import annotations

import sys

from shared import logs, runtime, tracing
from shared.settings import Settings


def main(arguments: list[str]) -> int:
    """Run one of the service's processes until SIGTERM; returns the exit status."""
    part = arguments[0] if arguments else "worker"
    name = "verification" if part == "worker" else f"verification-{part}"
    settings = Settings.at_start()
    logs.configure(settings, name)
    tracing.configure(settings, name)
    if part == "worker":
        from services.verification.worker import Verification

        runtime.run(Verification(), settings)
    elif part == "api":
        from services.verification import api

        api.run(settings)
    else:
        sys.stderr.write(f"unknown part {part!r}: give worker or api\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
