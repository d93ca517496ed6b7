"""``python -m services.observer canary|status|watch``: processes that watch an installation from outside."""

from __future__ import annotations

import sys

from shared import logs
from shared.settings import Settings


def main(arguments: list[str]) -> int:
    """Run one of them until SIGTERM."""
    part = arguments[0] if arguments else ""
    settings = Settings()
    logs.configure(settings, part)
    if part == "canary":
        from services.observer import canary_rounds

        canary_rounds.run(settings)
    elif part == "status":
        from services.observer import status_page

        status_page.run(settings)
    elif part == "watch":
        from services.observer import watch

        watch.run(settings)
    else:
        sys.stderr.write(f"unknown part {part!r}: give canary, status or watch\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
