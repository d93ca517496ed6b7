"""`python -m labs.bench.tracing`: the cost of traces in a worker, in microseconds of CPU time per event.

An event passes through everything that the runtime does with it except broker and database: it is read, applied,
logged, and given to the producer. `--sink PORT` is a collector that discards spans, for `goodfaith lab bench` with
traces (docs/explanation/performance.md).
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import json
import time
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from unittest import mock

from opentelemetry.sdk.trace.export import SpanExportResult

from shared import events, topics, tracing
from shared.runtime.links import Links
from shared.runtime.publisher import Publisher
from shared.runtime.records import Decoder, Polled
from shared.runtime.store import Head, Store
from shared.runtime.traced import Traced
from shared.runtime.types import Incoming, Outgoing
from shared.settings import Settings

BATCH = 500
TOGETHER = 10
"""Number of batches between two exports: about one second of work."""
SETTINGS = Settings(traces_url="http://127.0.0.1:9/v1/traces")


class DiscardingExporter:
    """An exporter that encodes spans and sends nothing."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Encode the spans, and discard them."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        encode_spans(spans).SerializePartialToString()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""


class DetachedWorker:
    """What a worker does with an event, without broker and database."""

    def __init__(self, on: tracing.Tracing) -> None:
        links = Links()
        self.decoders = {
            one: Decoder(NAME, raw=False, partitions=SETTINGS.partitions, links=links, tracing=one)
            for one in (None, on)
        }
        keyed_like = frozenset({topics.VERIFICATION.name})
        self.store = Store(NAME, "", SETTINGS.partitions, SETTINGS.topic_prefix, keyed_like)
        self.publisher = Publisher(NAME, SETTINGS, alive=lambda: None, stopping=lambda: False, crash=lambda _step: None)
        acknowledged = SimpleNamespace(is_done=True, failed=lambda: False)
        self.publisher.begin_session(SimpleNamespace(send=lambda *_a, **_k: acknowledged))
        self.head = {0: Head(0, "", 0, None)}
        self.seq = 0

    def records(self, traced: float) -> list[Any]:
        """The records of a batch; this share of them, spread evenly, has a trace context."""
        made = []
        for _ in range(BATCH):
            self.seq += 1
            data = events.Accept(
                command=f"k-{self.seq}",
                item=f"i-{self.seq}",
                claim="c-1",
                listing="li-1",
                by="s-1",
                role="seller",
                accepted_at=NOW,
            )
            raw = events.encode(
                data,
                id=f"intake.0.{self.seq}",
                source="/goodfaith/intake",
                type=TYPE,
                subject=data.item,
                time=NOW,
                key="li-1",
                correlation="c-1",
                previous=self.seq - 1,
            )
            headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
            if int(self.seq * traced) != int((self.seq - 1) * traced):
                headers.append(("traceparent", f"00-{self.seq:032x}-{self.seq:016x}-01".encode()))
            made.append(
                SimpleNamespace(
                    value=raw, key=b"li-1", partition=0, offset=self.seq, headers=headers, timestamp=1_764_000_000_000
                )
            )
        return made

    def batch(self, records: list[Any], tracing_: tracing.Tracing | None) -> None:
        """Process a batch."""
        polled = Polled()
        for record in records:
            self.decoders[tracing_].add(topics.INTAKE, record, polled)
        assert len(polled.records) == len(records)
        traced = None if tracing_ is None else Traced(tracing_, NAME, "", polled.records)
        outgoing: list[Outgoing] = []
        for incoming in polled.records:
            if traced is not None and incoming.traced:
                outgoing.extend(traced.apply(_apply, incoming))
            else:
                outgoing.extend(_apply(incoming))
        sent = self.store.append(mock.Mock(), self.head, outgoing)
        if traced is not None:
            traced.committed(len(outgoing), 0)
        self.publisher.publish(sent, {}, {})
        self.publisher.forget()


NAME = "verification"
NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
TYPE = "goodfaith.command.accept.v1"


def _apply(incoming: Incoming) -> Iterable[Outgoing]:
    return (Outgoing(0, topics.VERIFICATION, "li-1", TYPE, incoming.data, "i-1", NOW, "c-1", incoming.id),)


def measure(seconds: float) -> dict[str, float]:
    """Microseconds of CPU time per event by setting, with the exporter's thread: the minimum of many batches' means."""
    found: dict[str, list[float]] = {}
    cases = {"off": (None, 0.0), "on_0": (1, 0.0), "on_1_percent": (1, 0.01), "on_100_percent": (1, 1.0)}
    on = tracing.Tracing(SETTINGS, "bench", DiscardingExporter())  # type: ignore[arg-type]
    bench = DetachedWorker(on)
    # as workers do
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    until = time.monotonic() + seconds
    with mock.patch("shared.db.copy"):
        while time.monotonic() < until:
            # in turn, so that other load on the machine affects all settings equally
            for name, (with_, share) in cases.items():
                batches = [bench.records(share) for _ in range(TOGETHER)]
                began = time.process_time()
                for records in batches:
                    bench.batch(records, on if with_ else None)
                if with_:
                    on.flush()
                found.setdefault(name, []).append((time.process_time() - began) / BATCH / TOGETHER * 1e6)
    return {name: round(min(values), 2) for name, values in found.items()}


def sink(port: int) -> None:
    """Receive spans, and discard them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sink", type=int, metavar="PORT")
    arguments = parser.parse_args()
    if arguments.sink:
        sink(arguments.sink)
    print(json.dumps(measure(arguments.seconds)))


if __name__ == "__main__":
    main()
