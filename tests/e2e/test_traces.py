"""One trace from a request to the notice, the marketplace's receipt, and what follows from them, over all services."""

from __future__ import annotations

import json
import secrets

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.collector import CollectedSpan
from tests.e2e.world import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
REACHED = {
    ("intake-api", "POST /v1/claims"),
    ("intake-worker", "process admission_queue"),
    ("verification", "process intake.events"),
    ("marketplace", "process marketplace.commands"),
    ("enforcement-worker", "process verification.events"),
    ("enforcement-worker", "process marketplace.receipts"),
    ("verification", "process enforcement.events"),
    ("notification-worker", "process verification.events"),
    ("notification-sender", "send message"),
    ("notification-worker", "process announcements"),
    ("verification", "process notification.events"),
    ("intake-worker", "process verification.events"),
    ("intake-worker", "process notification.events"),
    ("streams", "process intake.events"),
    ("streams", "process verification.events"),
}


def failed(world: World) -> list[str]:
    """Processes that could not send spans."""
    return [
        process.name
        for process in world.fleet
        if 'goodfaith_spans_total{result="failed"} 0.0'
        not in httpx.get(f"http://127.0.0.1:{process.metrics_port}/metrics").text
    ]


def test_a_claim_is_one_trace(world: World) -> None:
    holder, seller = world.account("h-trace"), world.account("s-trace", "seller")
    right, links = world.right(holder), world.offer(seller, "trace-1", "trace-2")
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    with world.traced(f"00-{trace}-{caller}-01"):
        claim = world.file(holder, right, links)
    for item in claim.items:
        world.notified(item)

    def all_there() -> list[CollectedSpan]:
        found = world.collector.spans(trace)
        return found if {(span.process, span.name) for span in found} >= REACHED else []

    try:
        spans = world.until(all_there)
    except AssertionError:
        missing = REACHED - {(span.process, span.name) for span in world.collector.spans(trace)}
        raise AssertionError(f"never seen: {sorted(missing)}; failed: {failed(world)}") from None
    # connected: each span's parent is another's id, but for the request's, whose parent is the caller's
    ids = {span.id for span in spans}
    orphans = {(span.process, span.name) for span in spans if span.parent not in ids | {caller}}
    assert orphans == set()
    assert [span.name for span in spans if span.parent == caller] == ["POST /v1/claims"]
    # each batch's span is in a trace of its own, and links to those of its records
    assert all(span.links for span in spans if span.name.startswith("process "))
    assert {span.attributes.get("goodfaith.claim") for span in spans if span.process == "verification"} <= {
        claim.id,
        None,
    }
    shown = json.dumps([span.attributes for span in spans])
    for party in (holder, seller, right):
        assert party not in shown


def test_what_takes_exemplars_is_given_them(world: World) -> None:
    """As Prometheus asks: OpenMetrics, which its parser takes strictly; of every process."""
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    shown = set()
    for process in world.fleet:
        answer = httpx.get(f"http://127.0.0.1:{process.metrics_port}/metrics", headers=accept, trust_env=False)
        if not answer.headers["content-type"].startswith("application/openmetrics-text"):
            continue  # the mailbox has a server of its own
        families = list(text_string_to_metric_families(answer.text))
        assert families
        names = {family.name for family in families for sample in family.samples if sample.exemplar}
        shown |= {(process.name, name) for name in names}
    assert shown >= {
        ("intake-api.0", "goodfaith_http_request_duration_seconds"),
        ("verification.0", "goodfaith_event_processing_duration_seconds"),
    }


def test_a_trace_is_in_the_log_and_on_the_topic_and_nothing_is_where_none_was_asked(world: World) -> None:
    holder, seller = world.account("h-untraced"), world.account("s-untraced", "seller")
    right, links = world.right(holder), world.offer(seller, "trace-3", "trace-4")
    trace = secrets.token_hex(16)
    with world.traced(f"00-{trace}-{secrets.token_hex(8)}-01"):
        asked = world.file(holder, right, links[:1])
    with world.traced("00-" + secrets.token_hex(16) + "-rubbish-01"):
        rubbish = world.file(holder, right, links[1:])
    for claim in (asked, rubbish):
        world.notified(claim.items[0])
    kept = {
        claim.id: [
            json.loads(payload).get("traceparent")
            for (payload,) in world.rows("select payload from verification.event_log where claim = %s", claim.id)
        ]
        for claim in (asked, rubbish)
    }
    assert kept[asked.id]
    assert all(context is not None and context[3:35] == trace for context in kept[asked.id])
    assert set(kept[rubbish.id]) == {None}
