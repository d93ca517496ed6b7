"""`python -m deploy.transparency FILE`: serve on `GOODFAITH_HTTP_PORT` until SIGTERM.

Accepted statements are appended to FILE.

Clients need the token in `GOODFAITH_STATEMENTS_TOKEN`. Set the sender's `GOODFAITH_STATEMENTS_URL` to
`http://127.0.0.1:<port>/api/v1/statements`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.standin import until_signal
from deploy.transparency.server import Database
from shared.settings import Settings


def main() -> int:
    """Serve."""
    settings = Settings.at_start()
    if len(sys.argv) != 2 or settings.statements_token is None:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    database = Database(
        settings.statements_token.get_secret_value(),
        file=Path(sys.argv[1]),
        host=settings.http_host,
        port=settings.http_port,
    )
    until_signal(database)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
