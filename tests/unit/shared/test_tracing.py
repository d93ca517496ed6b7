"""Contexts from outside, what becomes a trace, and what is in its spans."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shared import events, metrics, topics, tracing
from shared.runtime.health import Health
from shared.runtime.traced import Traced
from shared.runtime.types import Due, Incoming, Outgoing
from shared.settings import Settings
from shared.tracing import Allowance, Tracing, of_payload, only, parse, trace_id
from tests.patience import PATIENCE_S

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
CLAIM = "c-01K9ABCDEFGHJKMNPQRSTVW000"
NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
_hex = st.text("0123456789abcdef", max_size=34)
_shaped = st.builds(
    lambda *parts: "-".join(parts),
    st.sampled_from(["00", "01", "fe", "ff", "0", "000", "AA"]),
    st.one_of(st.just(TRACE), st.just("0" * 32), _hex),
    st.one_of(st.just(SPAN), st.just("0" * 16), _hex),
    st.sampled_from(["00", "01", "03", "ff", "0", "zz", "01-", "01-x", "01 ", "01\n"]),
)


@given(st.one_of(st.text(max_size=80), _shaped))
@example(SAMPLED)
@example(f" {SAMPLED}\t")
@example(f"01-{TRACE}-{SPAN}-01-what-comes-later")
@example(f"00-{TRACE}-{SPAN}-01-what-comes-later")
@example(f"00-{TRACE.upper()}-{SPAN}-01")
@example(f"00-{TRACE}-{SPAN}-01\n")
def test_a_context_is_read_as_opentelemetry_reads_it(text: str) -> None:
    found = parse(text)
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = trace.get_current_span(context).get_span_context()
    if text != text.strip("\n"):
        assert found is None  # `$` lets a newline through there
    elif theirs.is_valid:
        assert found is not None
        assert (int(found.trace, 16), int(found.span, 16)) == (theirs.trace_id, theirs.span_id)
        assert found.sampled == theirs.trace_flags.sampled
        assert parse(str(found)) == found
    else:
        assert found is None
    assert parse(text.encode("utf-8", "surrogatepass")) in (found, None)


@pytest.mark.parametrize("value", [None, "", b"", b"\xff" * 55, "0" * 10_000, SAMPLED + "-" + "x" * 500])
def test_what_is_no_context_is_none(value: Any) -> None:
    assert parse(value) is None


def test_of_headers_there_may_be_one() -> None:
    one = (b"traceparent", SAMPLED.encode())
    assert only([(b"host", b"x"), one]) == parse(SAMPLED)
    assert only([one, one]) is None
    assert only([one, (b"traceparent", b"rubbish")]) is None
    assert only([("traceparent", SAMPLED.encode())]) == parse(SAMPLED)
    assert only([("traceparent", None)]) is None
    assert only([("tracestate", b"x=y"), ("Traceparent", SAMPLED.encode())]) is None
    assert only([]) is None


def test_an_event_gives_back_the_context_that_it_was_logged_with() -> None:
    data = events.Accept(command="k", item="i", claim="c", listing="l", by="s", role="seller", accepted_at=NOW)

    def logged(context: str | None) -> bytes:
        return events.encode(
            data,
            id="e.1",
            source="/x",
            type="goodfaith.command.accept.v1",
            subject="i",
            time=NOW,
            key="l",
            trace=context,
        )

    assert of_payload(logged(SAMPLED)) == of_payload(logged(SAMPLED).decode()) == SAMPLED
    assert of_payload(logged(None)) is None
    assert b"traceparent" not in logged(None)
    assert events.decode_data(events.decode_envelope(logged(SAMPLED))) == data


@given(st.binary(max_size=60))
def test_a_payload_of_anything_is_read(rubbish: bytes) -> None:
    assert of_payload(b'{"traceparent":' + rubbish) is None
    assert of_payload(rubbish) is None
    assert of_payload(b'{"traceparent":"%b"}' % SAMPLED.replace("-01", "-00").encode()) is None  # not sampled


@given(st.floats(0, 50), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_an_allowance_gives_no_more_than_so_many_a_second(per_s: float, pauses: list[float]) -> None:
    allowance, now, given_ = Allowance(per_s, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        given_ += allowance.take(now)
    assert given_ <= (max(per_s, 1.0) + now * per_s + 1e-6 if per_s else 0)
    assert not per_s or given_ >= 1 or sum(pauses) * per_s < 1


# ------------------------------------------------------------------------------------------------------------- spans


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing_(spans: InMemorySpanExporter) -> Iterator[Tracing]:
    made = Tracing(_settings(), "here", spans)
    yield made
    made.close()


def _settings(**given_: Any) -> Settings:
    return Settings(**{"traces_url": "http://127.0.0.1:9/v1/traces", "traces_ratio": 0.0, **given_})


def _shown(tracing_: Tracing, spans: InMemorySpanExporter) -> dict[str, Any]:
    tracing_.flush()
    return {span.name: span for span in spans.get_finished_spans()}


def _record(number: int = 1, **given_: Any) -> Incoming:
    data = events.Accept(
        command="k", item="i", claim=CLAIM, listing="li-1", by="s-jane", role="seller", accepted_at=NOW
    )
    envelope = events.Envelope(id=f"e.{number}", source="/x", type="goodfaith.command.accept.v1", correlationid=CLAIM)
    return Incoming(
        "intake.events", 3, number, "li-1", envelope.id, envelope.type, data, envelope, NOW, b"raw", **given_
    )


def _caused(incoming: Incoming) -> list[Outgoing]:
    assert len(structlog.contextvars.get_contextvars()["trace_id"]) == 32
    return [Outgoing(3, topics.VERIFICATION, "li-1", incoming.type, incoming.data, "i", NOW)]


def test_what_begins_outside_is_traced_as_its_caller_says_within_bounds(spans: InMemorySpanExporter) -> None:
    never = Tracing(_settings(traces_asked_per_s=2), "x", spans)
    asked = parse(SAMPLED)
    answers = [never.begins(asked) for _ in range(50)]
    assert answers[0] == (True, SAMPLED)
    assert 2 <= sum(heeded for heeded, _ in answers) <= 3
    assert never.begins(None) == (False, None)
    assert never.begins(parse(f"00-{TRACE}-{SPAN}-00")) == (False, None)
    never.close()
    always = Tracing(_settings(traces_ratio=1, traces_asked_per_s=0), "x", spans)
    assert always.begins(None) == (True, None)
    assert always.begins(parse(f"00-{TRACE}-{SPAN}-00")) == (False, None)
    assert always.begins(asked) == (False, None)
    # inside, what is traced stays traced, and nothing begins
    header = [("traceparent", SAMPLED.encode())]
    assert always.of_record(header, outside=False) == (True, SAMPLED)
    assert always.of_record([], outside=False) == (False, None)
    assert always.of_record([], outside=True) == (True, None)
    # what answers us from outside begins nothing, and is heeded within bounds
    assert always.of_record([("x", b"y")], outside=True, answer=True) == (False, None)
    assert always.of_record(header, outside=True, answer=True) == (False, None)
    always.close()


def test_a_batch_has_a_span_for_each_traced_record_and_what_they_cause_carries_it(
    tracing_: Tracing, spans: InMemorySpanExporter
) -> None:
    records = [_record(1), _record(2, traced=True, parent=SAMPLED), _record(3, traced=True)]
    batch = Traced(tracing_, "verification", "", records)
    assert records[0].trace is None
    second, third = records[1].trace, records[2].trace
    assert second is not None
    assert third is not None
    assert trace_id(second) == TRACE
    assert parse(second) != parse(SAMPLED)
    assert trace_id(third) != TRACE
    assert [out.trace for out in batch.apply(_caused, records[1])] == [second]
    batch.committed(3, 0)
    assert batch.trace_id == TRACE
    tracing_.flush()
    made = spans.get_finished_spans()
    assert sorted(span.name for span in made) == [
        "process intake.events",
        "process intake.events",
        "process verification",
    ]
    whole = next(span for span in made if span.name == "process verification")
    ours = [span for span in made if span is not whole]
    assert {link.context.span_id for link in whole.links} == {span.context.span_id for span in ours if span.context}
    for span in ours:
        assert span.attributes is not None
        assert span.attributes["goodfaith.claim"] == CLAIM
        assert span.attributes["messaging.kafka.offset"] in (2, 3)


@pytest.mark.parametrize("claim", ["jane@mail.example", "c-1", CLAIM + "0", CLAIM.lower(), f"{CLAIM}\n", ""])
def test_what_is_no_claims_id_is_in_no_span(tracing_: Tracing, spans: InMemorySpanExporter, claim: str) -> None:
    Traced(tracing_, "verification", "", []).record("x", 0, 1, None, "", claim, SAMPLED).end()
    assert "goodfaith.claim" not in _shown(tracing_, spans)["process x"].attributes


def test_a_batch_without_traced_records_has_no_spans(tracing_: Tracing, spans: InMemorySpanExporter) -> None:
    batch = Traced(tracing_, "verification", "", [_record(1), _record(2)])
    batch.committed(2, 0)
    assert batch.trace_id is None
    assert _shown(tracing_, spans) == {}


def test_a_transaction_that_is_rolled_back_leaves_no_spans(tracing_: Tracing, spans: InMemorySpanExporter) -> None:
    record = _record(1, traced=True, parent=SAMPLED)
    Traced(tracing_, "verification", "", [record])
    first = record.trace
    again = Traced(tracing_, "verification", "", [record])
    again.committed(1, 0)
    assert record.trace != first
    assert len(_shown(tracing_, spans)) == 2
    assert len(spans.get_finished_spans()) == 2


def test_a_timer_begins_a_trace(tracing_: Tracing, spans: InMemorySpanExporter) -> None:
    batch = Traced(tracing_, "verification", "", [])
    made = batch.fire(lambda _: _caused(_record()), Due(3, "li-1", "i-1", NOW))
    batch.committed(0, 1)
    fired = _shown(tracing_, spans)["fire verification"]
    assert fired.parent is None
    assert [trace_id(out.trace or "") for out in made] == [f"{fired.context.trace_id:032x}"]


def test_a_failure_is_named_by_its_type_and_not_by_its_text(tracing_: Tracing, spans: InMemorySpanExporter) -> None:
    record = _record(1, traced=True, parent=SAMPLED)
    batch = Traced(tracing_, "verification", "", [record])

    def fails(_: Incoming) -> Iterable[Outgoing]:
        raise RuntimeError("jane@mail.example lives at 1 Long Lane")

    with pytest.raises(RuntimeError):
        batch.apply(fails, record)
    batch.committed(1, 0)
    span = _shown(tracing_, spans)["process intake.events"]
    assert span.attributes["error.type"] == "RuntimeError"
    assert not span.status.is_ok
    assert "jane" not in span.to_json()


def test_a_request_is_named_by_its_template_and_nothing_else_of_it_is_kept(
    tracing_: Tracing, spans: InMemorySpanExporter
) -> None:
    seen: list[str | None] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(tracing.here.get())
        scope["path_template"] = "/v1/accounts/{account_id}"
        await send({"type": "http.response.start", "status": 503, "headers": []})

    async def send(_message: Any) -> None: ...

    async def receive() -> Any: ...

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/accounts/s-jane",
        "query_string": b"email=jane@mail.example",
        "client": ("203.0.113.7", 1),
        "headers": [(b"authorization", b"Bearer gf_secret"), (b"cookie", b"jane"), (b"traceparent", SAMPLED.encode())],
    }
    asyncio.run(tracing.Requests(app, tracing_)(scope, receive, send))
    span = _shown(tracing_, spans)["GET /v1/accounts/{account_id}"]
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/accounts/{account_id}",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert seen == [tracing.context_of(span)]
    assert scope[tracing.TRACE] == TRACE
    for hidden in ("jane", "gf_secret", "203.0.113.7"):
        assert hidden not in span.to_json()
    assert tracing.here.get() is None


def test_a_collector_that_is_away_keeps_nothing_waiting() -> None:
    """It does not answer before all is over: nobody who waited for it would come this far."""
    asked, over = threading.Event(), threading.Event()

    class Away(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            asked.set()
            over.wait()
            return super().export(spans)

    away = Away()
    made = Tracing(_settings(), "x", away)
    for _ in range(tracing.QUEUE + 100):
        made.span("GET", "SERVER", None, {}).end()
    assert asked.wait(PATIENCE_S)
    made.close(0.1)
    assert not away.get_finished_spans()
    over.set()


def test_exemplars_are_in_the_metrics_of_scrapers_that_take_them(
    tracing_: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health("here")
    metrics.BATCH_SECONDS.labels("exemplary").observe(0.01, {"trace_id": TRACE})
    wanted = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    assert TRACE.encode() not in health.answer("/metrics", wanted)[1]  # off: as ever
    monkeypatch.setattr(tracing, "_tracing", tracing_)
    status, body, kind = health.answer("/metrics", wanted)
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    found = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.exemplar and sample.labels.get("worker") == "exemplary"
    ]
    assert found == [{"trace_id": TRACE}]
    assert TRACE.encode() not in health.answer("/metrics", "*/*")[1]


def test_off_is_off() -> None:
    tracing.configure(Settings(), "x")
    assert tracing.current() is None
