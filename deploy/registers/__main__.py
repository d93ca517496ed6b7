"""`python -m deploy.registers FILE`: serve on `GOODFAITH_HTTP_PORT` until SIGTERM.

FILE has one mark on each line, as JSON: register (`eu`, `us`), number, mark, owner, and optionally status, ends.

Set `GOODFAITH_REGISTERS` to `["eu", "us"]`, `GOODFAITH_EUIPO_URL` to `http://127.0.0.1:<port>/trademark-search`, `GOODFAITH_EUIPO_TOKEN_URL` to
`http://127.0.0.1:<port>/oidc/accessToken`, and `GOODFAITH_USPTO_URL` to `http://127.0.0.1:<port>`. Clients need the
credentials in `GOODFAITH_EUIPO_CLIENT` and `GOODFAITH_USPTO_KEY`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.registers.server import Registers
from deploy.standin import until_signal
from shared.settings import Settings


def main() -> int:
    """Serve."""
    settings = Settings.at_start()
    if len(sys.argv) != 2 or settings.euipo_client is None or settings.uspto_key is None:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    served = Registers(
        settings.euipo_client.get_secret_value(),
        settings.uspto_key.get_secret_value(),
        host=settings.http_host,
        port=settings.http_port,
    )
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        served.add(**json.loads(line))
    until_signal(served)
    return 0


if __name__ == "__main__":
    sys.exit(main())
