"""A process's /live, /ready and /metrics, on a port that is never public."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.exposition import choose_encoder

from shared import metrics, tracing
from shared.settings import Settings


class Health:
    """What the process says about itself.

    Live: the loop completed a turn within ``stuck_after_s`` seconds. Ready: also, the process called ``ready()``
    (partitions joined, port open).
    """

    def __init__(self, process: str, stuck_after_s: float = 120.0) -> None:
        self.process = process
        self.details: dict[str, object] = {}
        self._stuck_after_s = stuck_after_s
        self._progress = time.monotonic()
        self._ready = False

    def progress(self) -> None:
        """Note that the loop has completed a turn."""
        self._progress = time.monotonic()

    def ready(self, ready: bool = True) -> None:
        """Note that the process can do its work now (or no longer)."""
        self._ready = ready

    @property
    def age_s(self) -> float:
        """Seconds since the last progress."""
        return time.monotonic() - self._progress

    def answer(self, path: str, accept: str = "") -> tuple[int, bytes, str]:
        """(status, body, content type) for a path.

        If the process traces and the client accepts it, metrics are in OpenMetrics with exemplars.
        """
        if path == "/metrics" and tracing.current() is not None:
            encode, kind = choose_encoder(accept)
            return 200, encode(REGISTRY), kind
        if path == "/metrics":
            return 200, generate_latest(), CONTENT_TYPE_LATEST
        if path in ("/live", "/ready"):
            good = (
                self.age_s < self._stuck_after_s
                if path == "/live"
                else self._ready and self.age_s < self._stuck_after_s
            )
            body = {"process": self.process, "ok": good, "progress_age_s": round(self.age_s, 3), **self.details}
            return 200 if good else 503, json.dumps(body).encode(), "application/json"
        return 404, b'{"title":"not found"}', "application/json"

    def serve(self, settings: Settings) -> ThreadingHTTPServer:
        """Serve in a background thread; ``server_address`` has the actual port."""
        health = self
        metrics.begin_process(self.process)

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                # the client may have hung up
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    super().handle()

            def do_GET(self) -> None:
                status, body, kind = health.answer(self.path.partition("?")[0], self.headers.get("accept", ""))
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def end_headers(self) -> None:
                self.send_header("x-content-type-options", "nosniff")
                super().end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer((settings.metrics_host, settings.metrics_port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        return server
