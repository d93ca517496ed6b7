"""A trace collector: accepts OTLP over HTTP, and returns spans as plain values."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span. ``parent`` is empty for the root of its trace."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: frozenset[str]


class Collector:
    """Listens on loopback until ``close``."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def spans(self, trace: str) -> list[CollectedSpan]:
        """The spans of a trace received so far."""
        wanted = bytes.fromhex(trace)
        found = []
        for body in list(self.bodies):
            if wanted not in body:
                continue
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                found += [
                    CollectedSpan(
                        names["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        {pair.key: _value(pair.value) for pair in span.attributes},
                        frozenset(link.span_id.hex() for link in span.links),
                    )
                    for scope in resource.scope_spans
                    for span in scope.spans
                    if span.trace_id == wanted
                ]
        return found


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
