"""`python -m shared.probe [ready|live]`: exit 0 if this container's process says so on its metrics port.

A container's health check. It starts Python each time, so it imports nothing of ours and little else.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 5.0


def ask(path: str, port: int, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether GET `path` on this loopback port answers 200 within `timeout_s`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Exit code: 0: yes, 1: no, 2: wrong arguments or port."""
    what = arguments[0] if arguments else "ready"
    port = os.environ.get("GOODFAITH_METRICS_PORT", "")
    if len(arguments) > 1 or what not in ("ready", "live"):
        sys.stderr.write("takes ready or live\n")
        return 2
    if not port.isdigit() or not 0 < int(port) < 65_536:
        sys.stderr.write("GOODFAITH_METRICS_PORT is no port: set the one that the process serves /ready on\n")
        return 2
    return 0 if ask(f"/{what}", int(port)) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
