"""Attacks by the pictures of a listing: files that break who opens them, and addresses that lead elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from deploy.local.children import StackError
from labs.attacks.accounts import started
from labs.attacks.bed import Attack, AttackBed, AttackOutcome, listed
from labs.attacks.files import BOMBS, PICTURES, png

GIVES_UP_S: Final = 120.0
ENDLESS: Final = 40_000_000
"""Bytes after which even a picture without end ends."""


class _Server(ThreadingHTTPServer):
    """Serves pictures, and says in verification's place which ones a listing shows."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.elsewhere = ""
        self.shown: list[dict[str, Any]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def show(self, name: str, data: bytes, url: str | None = None) -> None:
        """Have the listing show a picture."""
        self.files[f"/{name}"] = data
        self.shown.append(
            {
                "id": name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "url": f"{self.url}/{name}" if url is None else url,
            }
        )


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Which pictures a listing shows."""
        (item,) = json.loads(self.rfile.read(int(self.headers["content-length"])))["items"]
        seen = {"item": item, "listing": "l", "state": "visible", "filed": {"images": self.server.shown}}
        self._send(json.dumps({"items": {item: {**seen, "filed_at": None, "now": None, "edited": False}}}).encode())

    def do_GET(self) -> None:
        """A picture."""
        self.server.asked.append(self.path)
        with contextlib.suppress(OSError):
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", self.server.elsewhere)
                self.end_headers()
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(ENDLESS // 100_000):
                    self.wfile.write(bytes(100_000))
            elif self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                for _ in range(300):
                    self.wfile.write(b"\xff")
                    time.sleep(0.2)
            elif self.path == "/packed":
                self._send(self.server.files[self.path], "Content-Encoding", "deflate")
            else:
                self._send(self.server.files[self.path])

    def _send(self, data: bytes, *header: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        if header:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def _serving() -> Iterator[_Server]:
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hostile_pictures(bed: AttackBed) -> AttackOutcome:
    """Have a listing show bombs, other files, pictures without end and such that lead to internal addresses."""
    owner, work = bed.person(), png()
    documents = [
        bed.upload(owner, content, kind=kind).json()["id"]
        for kind, content in (("sworn_statement", secrets.token_hex(9).encode()), ("specimen", work))
    ]
    body = {
        "right_type": "copyright",
        "published": {"on": "2020-01-01", "where": "work.example"},
        "evidence": documents,
    }
    right = bed.must(owner, "POST", "/v1/rights", body)["id"]
    bed.must(bed.reviewer, "POST", f"/v1/rights/{right}/decision", {"accept": True, "documents": documents})
    claim = bed.claim(owner, right, reason="copied_image_or_text")["claim"]
    item = bed.must(owner, "GET", f"/v1/claims/{claim}/items")["items"][0]["id"]
    with _serving() as shop, _serving() as internal:
        internal.files["/secret"] = work
        shop.elsewhere = f"{internal.url}/secret"
        hostile = {**{name: make() for name, make in {**BOMBS, **PICTURES}.items()}, "text": b"no picture", "none": b""}
        for number, data in enumerate(hostile.values()):
            shop.show(f"file-{number}", data)
        shop.show("packed", zlib.compress(bytes(50_000_000), 9))
        for name in ("moved", "endless", "slow"):
            shop.show(name, work)
        shop.show("another-port", work, shop.elsewhere)
        shop.show("another-host", work, f"http://127.0.0.2:{internal.server_address[1]}/secret")
        shop.show("metadata", work, "http://169.254.169.254/latest/meta-data/")
        shop.show("genuine", work)
        bed.query(
            """insert into intake.picture_checks (item, right_id, since_wall) values (%s, %s, now() - interval '1 day')
            returning item""",
            item,
            right,
        )
        settings = {
            "GOODFAITH_PICTURES_HOSTS": json.dumps([shop.url.removeprefix("http://")]),
            "GOODFAITH_PICTURES_NETWORKS": '["127.0.0.1/32"]',
            "GOODFAITH_PICTURES_HTTP": "true",
            "GOODFAITH_PICTURES_TIMEOUT_S": "2",
            "GOODFAITH_VERIFICATION_URL": shop.url,
        }
        child, _ = started(bed, "intake-pictures", settings)

        def compared() -> Any:
            found = bed.query("select state, body from intake.picture_checks where item = %s", item)
            return child.poll() is not None or (found[0] if found[0][0] != "waiting" else None)

        try:
            told = bed.wait(compared, GIVES_UP_S)
            if told is None:
                return AttackOutcome(True, f"nothing was compared within {GIVES_UP_S:.0f} s")
            if told is True:
                return AttackOutcome(True, "the process ended")
        finally:
            child.kill()
            child.wait()
        state, text = told
        if text is None:
            raise StackError(f"the check was {state}")
        found = json.loads(text)
        unseen = Counter(one["reason"] for one in found["unseen"])
        opened = len(shop.shown) - 1 - unseen.total()
        matches = [one["picture"] for one in found["findings"]]
        # the genuine one must be found in spite of the others
        succeeded = bool(internal.asked) or opened > 0 or matches != ["genuine"]
        return AttackOutcome(
            succeeded,
            f"{len(shop.shown)} pictures, {opened} of the hostile opened, {len(internal.asked)} calls elsewhere;"
            f" {'the genuine one found' if matches == ['genuine'] else f'found: {matches}'}; {listed(unseen)}",
        )


PICTURED: Final[Sequence[Attack]] = (
    Attack("hostile pictures", "break who compares pictures, or send it elsewhere", hostile_pictures),
)
