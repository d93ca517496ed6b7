"""Traces across the topics: which request caused what, and how long each part took (W3C Trace Context, OpenTelemetry).

Off unless ``traces_url`` is set. While it is off, OpenTelemetry is not even imported, and no context is read or kept.
A *context* is a ``traceparent`` as text. Only sampled contexts are kept and passed on.

Whether something is traced is decided once, where it begins (a request, an upstream's record, a timer), and passed on
from there. Tracing never fails the traced work: malformed contexts are ignored, and a collector that cannot be reached
only costs spans.

Spans contain no header, no body, no path except its template, no exception text, and no id except the claim's.
"""

from __future__ import annotations

import atexit
import logging
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import structlog

from shared import metrics
from shared.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    Attributes = Mapping[str, str | int | float | bool]

HEADER: Final = "traceparent"
"""Header of HTTP requests and Kafka records; also the CloudEvents extension that keeps it in the event log."""
LONGEST: Final = 512
QUEUE: Final = 8192
"""Most spans that wait for the collector; any more are lost."""
LINKS: Final = 128
"""Most links of a span (OpenTelemetry's default)."""
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_CLAIM: Final = "goodfaith.claim"

here: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""Context of the request in progress."""


# ------------------------------------------------------------------------------------------------------------------ pure


class Parent(NamedTuple):
    """The trace and span that a caller says it belongs to."""

    trace: str
    span: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller records this trace."""
        return bool(self.flags & 1)

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"


def parse(value: str | bytes | None) -> Parent | None:
    """Parse a ``traceparent`` (W3C Trace Context, 3.2); None if it is not one.

    Only the fields of version 00 are read, even from later versions.
    """
    if not value or len(value) > LONGEST:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    found = _FORM.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or trace == "0" * 32 or span == "0" * 16:
        return None
    return Parent(trace, span, int(flags, 16) & 3)


def only(headers: Iterable[tuple[str | bytes, Any]]) -> Parent | None:
    """The ``traceparent`` among headers; None unless there is exactly one."""
    found: list[Any] = []
    for name, value in headers:
        # ASGI gives names as lower-case bytes; Kafka as they were written
        if name in (HEADER, b"traceparent"):
            found.append(value)
    if len(found) != 1 or not isinstance(found[0], str | bytes):
        return None
    return parse(found[0])


def trace_id(context: str) -> str:
    """The trace's id, 32 hex digits, as shown in logs and exemplars."""
    return context[3:35]


class Allowance:
    """A token bucket: ``per_s`` per second, and as many at once.

    Args:
        per_s: 0: nothing is allowed.
    """

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = max(per_s, 1.0) if per_s else 0.0
        self._at = now

    def take(self, now: float) -> bool:
        """Take one if possible; ``now``: seconds, never going back."""
        self._left = min(self._left + (now - self._at) * self._per_s, max(self._per_s, 1.0))
        self._at = now
        if self._left < 1.0 or not self._per_s:
            return False
        self._left -= 1.0
        return True


class _Extension(msgspec.Struct):
    traceparent: Any = None


_extension = msgspec.json.Decoder(_Extension)


def of_payload(payload: str | bytes) -> str | None:
    """The context that an event of ours was logged with; None if it has none. Never raises."""
    if isinstance(payload, str):
        # nearly all have none, and this shows it without decoding them
        if f'"{HEADER}":' not in payload:
            return None
    elif b'"traceparent":' not in payload:
        return None
    try:
        value = _extension.decode(payload).traceparent
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    parent = parse(value) if isinstance(value, str) else None
    return str(parent) if parent is not None and parent.sampled else None


# --------------------------------------------------------------------------------------------------------------- tracing


class Tracing:
    """One process's tracing. Thread-safe.

    Args:
        process: name of the process, as in ``deploy.local.fleet``; shown as ``service.name``.
        exporter: where spans go; by default to ``traces_url``.
    """

    def __init__(self, settings: Settings, process: str, exporter: SpanExporter | None = None) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        # failures to reach the collector are counted, not logged again and again
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._api = trace
        self.ratio = settings.traces_ratio
        self._asked = Allowance(settings.traces_asked_per_s, time.monotonic())
        self._lock = threading.Lock()
        resource = {"service.name": process, "service.namespace": "goodfaith"}
        if settings.instance:
            resource["service.instance.id"] = settings.instance
        # anything unsampled never gets as far as the SDK
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(resource), shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(
            cast("SpanExporter", _Counting(exporter or _exporter(settings))),
            max_queue_size=QUEUE,
            schedule_delay_millis=1000,
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("goodfaith")

    # ---- whether

    def drawn(self) -> bool:
        """Whether something that begins here is traced."""
        return random.random() < self.ratio

    def begins(self, parent: Parent | None) -> tuple[bool, str | None]:
        """Whether something from outside is traced, and as part of which trace: parent-based, within limits.

        A caller's sampling is honoured ``traces_asked_per_s`` times per second: nobody outside can make us trace all.
        """
        if parent is None:
            return self.drawn(), None
        if not parent.sampled:
            return False, None
        with self._lock:
            heeded = self._asked.take(time.monotonic())
        return heeded, str(parent) if heeded else None

    def of_record(
        self, headers: Iterable[tuple[str, bytes | None]], *, outside: bool, answer: bool = False
    ) -> tuple[bool, str | None]:
        """Whether a record is traced, and as part of which trace.

        Args:
            outside: an upstream wrote it, so a trace may begin here. Otherwise only existing traces continue.
            answer: written outside, but about something of ours: its trace continues, within limits; none begins here.
        """
        parent = only(headers)
        if outside:
            return (False, None) if parent is None and answer else self.begins(parent)
        return (True, str(parent)) if parent is not None and parent.sampled else (False, None)

    # ---- spans

    def span(
        self,
        name: str,
        kind: str,
        parent: str | None,
        attributes: Attributes,
        *,
        start_ns: int | None = None,
        links: Iterable[str] = (),
    ) -> Span:
        """Begin a span; it is lost unless ``end`` is called.

        Args:
            kind: a name in ``opentelemetry.trace.SpanKind``.
            parent: context; None: the span is the first of its trace.
            links: contexts of related spans; any beyond ``LINKS`` are left out.
        """
        api = self._api
        context = api.set_span_in_context(api.INVALID_SPAN if parent is None else self._remote(parent))
        return self._tracer.start_span(
            name,
            context,
            getattr(api.SpanKind, kind),
            attributes,
            [api.Link(self._remote(link).get_span_context()) for link in list(links)[:LINKS]],
            start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )

    def _remote(self, context: str) -> Span:
        api = self._api
        found = parse(context)
        if found is None:
            return cast("Span", api.INVALID_SPAN)
        flags = api.TraceFlags(found.flags)
        place = api.SpanContext(int(found.trace, 16), int(found.span, 16), is_remote=True, trace_flags=flags)
        return cast("Span", api.NonRecordingSpan(place))

    def failed(self, span: Span, error: BaseException) -> None:
        """Mark a span as failed, with the error's type only: its text may contain what no trace should."""
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(self._api.StatusCode.ERROR)

    def close(self, within_s: float = 3.0) -> None:
        """Send waiting spans, and shut down; any that cannot be sent within ``within_s`` seconds are lost."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(within_s)

    def answered(self, span: Span, status: int) -> None:
        """Record the status of a server's HTTP response."""
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(self._api.StatusCode.ERROR)

    def flush(self) -> None:
        """Send waiting spans."""
        self._processor.force_flush()


def context_of(span: Span) -> str:
    """A span's context as text."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


class _Counting:
    """Counts spans by result."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Any) -> Any:
        """Send."""
        result = self._exporter.export(spans)
        metrics.SPANS.labels("exported" if result.name == "SUCCESS" else "failed").inc(len(spans))
        return result

    def shutdown(self) -> None:
        """End."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


def _exporter(settings: Settings) -> SpanExporter:
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    session = requests.Session()
    session.trust_env = False  # as everywhere here: no proxy from the environment
    return OTLPSpanExporter(endpoint=settings.traces_url, timeout=10, session=session)


_tracing: Tracing | None = None


def configure(settings: Settings, process: str) -> None:
    """Turn on tracing for the whole process if ``traces_url`` is set. Call it before the process's parts are made."""
    global _tracing
    if settings.traces_url and _tracing is None:
        _tracing = Tracing(settings, process)
        atexit.register(_tracing.close)


def current() -> Tracing | None:
    """The process's tracing; None if it is off."""
    return _tracing


# ------------------------------------------------------------------------------------------------------------------ HTTP

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
TRACE: Final = "goodfaith.trace"
"""Key of the trace's id in the ASGI scope of a traced request, for exemplars."""


class Requests:
    """ASGI: a span per traced request, named by method and route template; ``here`` is set while it is in progress."""

    def __init__(self, app: App, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traced, parent = self._tracing.begins(only(scope["headers"]))
        if not traced:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracing.span(method, "SERVER", parent, {"http.request.method": method})
        context = context_of(span)
        scope[TRACE] = trace_id(context)
        status = 500

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = here.set(context)
        try:
            with structlog.contextvars.bound_contextvars(trace_id=scope[TRACE]):
                await self._app(scope, receive, watched)
        except BaseException as error:
            self._tracing.failed(span, error)
            raise
        finally:
            here.reset(token)
            route = scope.get("path_template")
            if route:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
            self._tracing.answered(span, status)
            span.end()
