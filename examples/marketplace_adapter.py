"""A marketplace that Goodfaith moderates by HTTP (docs/reference/events.md, "HTTP adapter").

    GOODFAITH_MARKETPLACE_SECRET=... python examples/marketplace_adapter.py mug-1=s-anna mug-2=s-ben --port 8090

has two listings of two sellers, in memory. On Goodfaith's side set GOODFAITH_MARKETPLACE=http,
GOODFAITH_MARKETPLACE_URL=http://127.0.0.1:8090 and the same GOODFAITH_MARKETPLACE_SECRET. GET /items/mug-1 is a
listing's page: 200, 410 when Goodfaith has taken it down, 404 when its seller is frozen or closed.

Commands come by HTTP, the rest by topic: a marketplace publishes its listings on `marketplace.listings`, and answers
`lookup` there. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_S = 300
MOST_BYTES = 1_000_000
VISIBLE = {"suspend": False, "remove": False, "restore": True}


@dataclass
class Listing:
    """A listing; `seq` is the number of the last command that was carried out."""

    seller: str
    visible: bool = True
    seq: int = 0


@dataclass
class Seller:
    """A seller, and all the measures that it is under."""

    measures: list[str] = field(default_factory=list)
    seq: int = 0


class Shop(ThreadingHTTPServer):
    """The marketplace: listings and sellers in two dicts."""

    def __init__(self, port: int, secret: str, listings: dict[str, Listing]) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.listings = listings
        self.sellers = {listing.seller: Seller() for listing in listings.values()}
        self._secret = secret.encode()
        self._lock = threading.Lock()

    def signed(self, id: str, timestamp: str, signatures: str, body: bytes) -> bool:
        """Whether the request was signed now, by who shares the secret (https://www.standardwebhooks.com)."""
        if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE_S:
            return False
        digest = hmac.new(self._secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        made = b"v1," + base64.b64encode(digest)
        return any(hmac.compare_digest(made, given.encode()) for given in signatures.split(" "))

    def on_listing(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command on a listing; the receipt. One that is not above the last changes nothing, and is done."""
        receipt = {"command": command["command"], "listing": command["listing"], "seq": command["seq"]}
        visible = VISIBLE[command["action"]]
        with self._lock:
            found = self.listings.get(command["listing"])
            if found is None:
                return {**receipt, "result": "unknown_listing"}
            if command["seq"] > found.seq:
                found.visible, found.seq = visible, command["seq"]
        return {**receipt, "result": "done"}

    def on_seller(self, command: dict[str, Any]) -> dict[str, Any]:
        """The same for a seller: the measures are all that it is under from now on, none where they are left out."""
        receipt = {"command": command["command"], "seller": command["seller"], "seq": command["seq"]}
        with self._lock:
            found = self.sellers.get(command["seller"])
            if found is None:
                return {**receipt, "result": "unknown_seller"}
            if command["seq"] > found.seq:
                found.measures, found.seq = list(command.get("measures", ())), command["seq"]
        return {**receipt, "result": "done"}

    def page(self, listing: str) -> int:
        """The status of a listing's page."""
        with self._lock:
            found = self.listings.get(listing)
            if found is None or {"frozen", "closed"} & set(self.sellers[found.seller].measures):
                return 404
            return 200 if found.visible else 410


COMMANDS = {
    "/commands": ("goodfaith.marketplace.command.v1", Shop.on_listing),
    "/seller-commands": ("goodfaith.marketplace.seller_command.v1", Shop.on_seller),
}
"""By path, the type of its commands. The signature covers it, so a request is valid for its own path only."""


class Request(BaseHTTPRequestHandler):
    """One request."""

    server: Shop
    timeout = 15

    def do_GET(self) -> None:
        """A listing's page."""
        self._answer(self.server.page(self.path.removeprefix("/items/")), {})

    def do_POST(self) -> None:
        """A command of Goodfaith's."""
        type_, carry_out = COMMANDS.get(self.path, ("", None))
        length = self.headers.get("Content-Length", "")
        if carry_out is None or not length.isdecimal() or int(length) > MOST_BYTES:
            return self._answer(404 if carry_out is None else 413, {})
        body = self.rfile.read(int(length))
        id_, timestamp, signatures = (
            self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if not self.server.signed(id_, timestamp, signatures, body):
            return self._answer(401, {"detail": "not signed by Goodfaith, or not now"})
        try:
            command = json.loads(body)
            if (command["type"], command["command"]) != (type_, id_):
                return self._answer(401, {"detail": "signed for another path or command"})
            receipt = carry_out(self.server, command)
        except (LookupError, TypeError, ValueError) as error:
            return self._answer(422, {"detail": f"not a command: {error!r}"})
        print(json.dumps({**command, "result": receipt["result"]}), flush=True)
        return self._answer(200, receipt)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A marketplace that takes Goodfaith's commands by HTTP.")
    parser.add_argument("listing", nargs="+", help="LISTING=SELLER")
    parser.add_argument("--port", type=int, default=8090)
    given = parser.parse_args()
    pairs = (pair.partition("=") for pair in given.listing)
    listings = {name: Listing(seller) for name, _, seller in pairs}
    shop = Shop(given.port, os.environ["GOODFAITH_MARKETPLACE_SECRET"], listings)
    with contextlib.suppress(KeyboardInterrupt):
        shop.serve_forever()


if __name__ == "__main__":
    main()
