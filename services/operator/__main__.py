"""``python -m services.operator status``: processes of the operator's."""

from __future__ import annotations

import sys

from shared import logs
from shared.settings import Settings


def main(arguments: list[str]) -> int:
    """Run one of the operator's processes until SIGTERM."""
    part = arguments[0] if arguments else ""
    settings = Settings()
    logs.configure(settings, part)
    if part == "status":
        from services.operator import status_page

        status_page.run(settings)
    else:
        sys.stderr.write(f"{part!r} is none of status\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
