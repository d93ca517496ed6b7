"""Traces across the topics: which request caused what, and how long each part took (W3C Trace Context, OpenTelemetry).

Off unless ``traces_url`` is set; then nothing of OpenTelemetry is even imported, and no context is read or kept. A *context*
is a ``traceparent`` as text. Only contexts that are sampled are kept and passed on: what is not sampled carries nothing.

Whether there is a trace is decided once, where something begins (a request, an upstream's record, a timer), and is passed
on from there. Nothing here ever fails the work that is traced: what is malformed is ignored, and a collector that is away
costs spans.

In spans there is no header, no body, no path but its template, no text of an exception, and of all ids only the claim's.
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
"""Of HTTP requests and of Kafka records; also the CloudEvents extension by which the event log keeps it."""
LONGEST: Final = 512
QUEUE: Final = 8192
"""Spans that wait for the collector at most; further ones are lost."""
LINKS: Final = 128
"""Links of a span at most (OpenTelemetry's default)."""
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_CLAIM: Final = "goodfaith.claim"

here: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""Context of the request that is being answered."""


# ------------------------------------------------------------------------------------------------------------------ pure


class Parent(NamedTuple):
    """Where a caller says that it comes from."""

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
    """A ``traceparent``; None for what is none (W3C Trace Context, 3.2). Of later versions only what version 00 has is read."""
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
    """The ``traceparent`` among headers; None when there is none, or more than one."""
    found: list[Any] = []
    for name, value in headers:
        # ASGI has names as lower-case bytes; on Kafka they are as they were written
        if name in (HEADER, b"traceparent"):
            found.append(value)
    if len(found) != 1 or not isinstance(found[0], str | bytes):
        return None
    return parse(found[0])


def trace_id(context: str) -> str:
    """The trace's id, 32 hex digits, as it stands in logs and exemplars."""
    return context[3:35]


class Allowance:
    """So many a second, and as many at once (a token bucket).

    Args:
        per_s: 0: none at all.
    """

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = max(per_s, 1.0) if per_s else 0.0
        self._at = now

    def take(self, now: float) -> bool:
        """Take one, if there is one; ``now``: seconds, never going back."""
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
    """The context that an event of ours was logged with; None where it has none. Never raises."""
    if isinstance(payload, str):
        # nearly all have none, and this tells it without reading them
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

        # that the collector is away is counted, and not said again and again
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._api = trace
        self.ratio = settings.traces_ratio
        self._asked = Allowance(settings.traces_asked_per_s, time.monotonic())
        self._lock = threading.Lock()
        resource = {"service.name": process, "service.namespace": "goodfaith"}
        if settings.instance:
            resource["service.instance.id"] = settings.instance
        # what is not sampled never comes as far as the SDK
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
        """Whether something that begins of itself is traced."""
        return random.random() < self.ratio

    def begins(self, parent: Parent | None) -> tuple[bool, str | None]:
        """Whether something that comes from outside is traced, and as part of what: parent-based, within bounds.

        A caller that samples is heeded ``traces_asked_per_s`` times a second, so that nobody outside makes us trace everything.
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
        """Whether a record is traced, and as part of what.

        Args:
            outside: an upstream wrote it: something begins here. Else only what was traced before goes on.
            answer: written outside, but about something of ours: what it says goes on, within bounds, and nothing begins.
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
        """A span that has begun; it is lost unless ``end`` is called.

        Args:
            kind: of ``opentelemetry.trace.SpanKind``.
            parent: context; None: the first of its trace.
            links: contexts that it also has to do with; what is beyond ``LINKS`` is left out.
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
        """Note that what a span is about failed: by the error's type, for its text may say what no trace should."""
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(self._api.StatusCode.ERROR)

    def close(self, within_s: float = 3.0) -> None:
        """Send what waits, and end; what cannot be sent within so many seconds is lost."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(within_s)

    def answered(self, span: Span, status: int) -> None:
        """Note the status of an HTTP answer that a server gave."""
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(self._api.StatusCode.ERROR)

    def flush(self) -> None:
        """Send what waits."""
        self._processor.force_flush()


def context_of(span: Span) -> str:
    """A span's context as text."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


class _Counting:
    """Counts what became of spans."""

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
    session.trust_env = False  # as everywhere here: no proxy of the environment's
    return OTLPSpanExporter(endpoint=settings.traces_url, timeout=10, session=session)


_tracing: Tracing | None = None


def configure(settings: Settings, process: str) -> None:
    """Turn tracing of the whole process on, if ``traces_url`` says so. To be called before its parts are made."""
    global _tracing
    if settings.traces_url and _tracing is None:
        _tracing = Tracing(settings, process)
        atexit.register(_tracing.close)


def current() -> Tracing | None:
    """The process's tracing; None when it is off."""
    return _tracing


# ------------------------------------------------------------------------------------------------------------------ HTTP

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
TRACE: Final = "goodfaith.trace"
"""Where in the ASGI scope of a traced request its trace's id is, for exemplars."""


class Requests:
    """ASGI: a span for each traced request, named by method and route template; ``here`` is set while it is answered."""

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
