"""A stand-in for the on-call engineer's pager: receives Alertmanager's notifications, and remembers when they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import msgspec

MAX_BODY: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Note:
    """One alert in one notification.

    Attributes:
        at: When it came (`time.monotonic()`).
        receiver: The receiver, as named in Alertmanager's configuration.
        alert: Name of the alert.
        firing: Whether it fires; otherwise it is resolved.
        labels: Its labels.
        annotations: Its annotations.
    """

    at: float
    receiver: str
    alert: str
    firing: bool
    labels: dict[str, str]
    annotations: dict[str, str]


class _Alert(msgspec.Struct):
    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}


class _Notification(msgspec.Struct):
    receiver: str
    alerts: list[_Alert]


class Notes:
    """The alerts that came, in order. Any thread may add notifications, and wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notes: list[Note] = []

    def take(self, body: bytes, now: float | None = None) -> None:
        """Add a notification as Alertmanager sends it.

        Args:
            body: The JSON document.
            now: When it came (monotonic); None: now.

        Raises:
            msgspec.DecodeError: it is not a notification.
        """
        at = time.monotonic() if now is None else now
        notification = msgspec.json.decode(body, type=_Notification)
        with self._changed:
            self._notes += [
                Note(
                    at,
                    notification.receiver,
                    one.labels.get("alertname", ""),
                    one.status == "firing",
                    one.labels,
                    one.annotations,
                )
                for one in notification.alerts
            ]
            self._changed.notify_all()

    def notes(self, since: float = 0.0) -> list[Note]:
        """Notes that came after `since` (monotonic), oldest first."""
        with self._changed:
            return [note for note in self._notes if note.at >= since]

    def open(self, alert: str, since: float) -> tuple[int, float]:
        """Number of alerts of this name that fired after `since` and are not resolved, and the time of the last note."""
        last: dict[tuple[tuple[str, str], ...], Note] = {}
        for note in self.notes(since):
            key = tuple(sorted(note.labels.items()))
            if note.alert == alert and (note.firing or key in last):
                last[key] = note
        return sum(note.firing for note in last.values()), max((note.at for note in last.values()), default=0.0)

    def wait_resolved(self, alert: str, *, since: float, timeout_s: float) -> float | None:
        """Wait until all alerts of this name that fired after `since` are resolved; returns when, None on timeout."""
        until = time.monotonic() + timeout_s
        while True:
            left, at = self.open(alert, since)
            if not left:
                return at
            if time.monotonic() > until:
                return None
            with self._changed:
                self._changed.wait(0.2)

    def wait(self, wanted: Callable[[Note], bool], *, since: float, timeout_s: float) -> Note | None:
        """Wait for the first `wanted` note after `since`; None on timeout."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for note in self._notes:
                    if note.at >= since and wanted(note):
                        return note
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)


def pages(notes: Iterable[Note]) -> list[str]:
    """The alerts that paged, in order. An alert pages once, from its first instance until all are resolved."""
    woken: list[str] = []
    open_: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for note in notes:
        if note.labels.get("severity") != "page":
            continue
        instances = open_.setdefault(note.alert, set())
        key = tuple(sorted(note.labels.items()))
        if note.firing:
            if not instances:
                woken.append(note.alert)
            instances.add(key)
        else:
            instances.discard(key)
    return woken


class Pager(Notes):
    """An HTTP server on loopback, on a free port, in a thread of its own.

    Attributes:
        url: URL for Alertmanager to call, without the receiver's name.
    """

    def __init__(self) -> None:
        super().__init__()
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                if not 0 < size <= MAX_BODY:
                    return self.send_error(413)
                try:
                    pager.take(self.rfile.read(size))
                except msgspec.DecodeError:
                    return self.send_error(400)
                self.send_response(200)
                self.send_header("content-length", "0")
                return self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="pager", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
