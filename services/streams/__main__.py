"""``python -m services.streams``."""

from __future__ import annotations

import sys

from shared import logs, tracing
from shared.settings import Settings


def main(arguments: list[str]) -> int:
    """Run the service's process until SIGTERM."""
    if arguments not in ([], ["worker"]):
        sys.stderr.write(f"{arguments[0]!r} is not worker\n")
        return 2
    settings = Settings.at_start()
    logs.configure(settings, "streams")
    tracing.configure(settings, "streams")
    from services.streams import process

    process.run(settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
