"""A receiver of Goodfaith's webhooks (docs/reference/mail-and-webhooks.md, "Webhooks"): verifies calls and prints them.

    INTAKE=https://ip.market.example TOKEN=gf_... python examples/webhook_receiver.py https://hooks.example/goodfaith

registers the address for the account with that token, then takes calls at 127.0.0.1:8443. In front of it belongs a
proxy with the certificate of hooks.example. The first call brings a code, which is printed. The account confirms the
webhook with it, and then gets its messages here. To start again without registering: SECRET=whsec_... and no address.

A local stack calls an address on this machine if it was started like this:

    export GOODFAITH_WEBHOOK_HTTP=true GOODFAITH_WEBHOOK_NETWORKS='["127.0.0.0/8"]' GOODFAITH_WEBHOOK_PORTS='[]'
    make up && eval "$(.venv/bin/goodfaith env)"
    TOKEN="$SELLER_TOKEN" python examples/webhook_receiver.py http://127.0.0.1:8443/

Prints one JSON object a line. Needs httpx and standardwebhooks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from standardwebhooks import Webhook

MOST_BYTES = 1_000_000
MOST_IDS = 10_000


def tell(**values: object) -> None:
    """Print a line."""
    print(json.dumps(values), flush=True)


def register(url: str) -> str:
    """Register the address, and return the secret that signs calls to it: Goodfaith shows it this once."""
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    response = httpx.post(os.environ["INTAKE"] + "/v1/webhooks", json={"url": url}, headers=headers, timeout=30)
    if response.status_code != 201:
        sys.exit(f"not registered: {response.text}")
    made = response.json()
    tell(registered=made["id"], secret=made["secret"])
    return str(made["secret"])


class Receiver(ThreadingHTTPServer):
    """Takes calls that are signed with the secret, and handles each message once."""

    secret = ""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Call)
        self._seen: OrderedDict[str, None] = OrderedDict()

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Verify a call before looking at it; the status to answer with."""
        try:
            message = Webhook(self.secret).verify(body, headers)
        except Exception as error:  # the library raises its own error, and ValueError for a malformed header
            tell(refused=str(error))
            return 401
        if headers["webhook-id"] in self._seen:
            return 204  # calls may come twice; real receivers remember ids where they keep their data
        self._seen[headers["webhook-id"]] = None
        if len(self._seen) > MOST_IDS:
            self._seen.popitem(last=False)
        self.handle_message(message)
        return 204

    def handle_message(self, message: dict[str, Any]) -> None:
        """What to do with a message. A real receiver puts it into a queue here, and answers at once."""
        data = message["data"]
        if message["type"] == "webhook.challenge":
            tell(code=data["code"], webhook=data["webhook"], confirm=data["confirm"])
        else:
            tell(type=message["type"], message=data["message"], claim=data.get("claim"), subject=data["subject"])


class Call(BaseHTTPRequestHandler):
    """One call."""

    server: Receiver
    timeout = 15

    def do_POST(self) -> None:
        """Take it, and answer with a status alone."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            status = 413
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = self.server.take(self.rfile.read(int(length)), headers)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main() -> None:
    """Receive until interrupted."""
    parser = argparse.ArgumentParser(description="Receive webhooks of Goodfaith's.")
    parser.add_argument("url", nargs="?", help="address to register; none: $SECRET is that of a registered one")
    parser.add_argument("--port", type=int, default=8443, help="port to listen on")
    given = parser.parse_args()
    # it listens before the address is registered, so that the first call finds it
    receiver = Receiver(given.port)
    receiver.secret = register(given.url) if given.url else os.environ["SECRET"]
    with contextlib.suppress(KeyboardInterrupt):
        receiver.serve_forever()


if __name__ == "__main__":
    main()
