"""What is read out of Prometheus' answers, and what is not known."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.observer import observing
from services.observer.boards import PANELS
from services.observer.boards.model import Limits, Panel, Query
from services.observer.observing import Answer, Observer, Series, Snapshot, Unusable, level
from tests.unit.observer.observed import ALERT, AT, calm, transport

OPEN = PANELS["open"]
OLDEST = PANELS["outbox_oldest"]
PANEL = Panel("key", "Title", "Help.", (Query("goodfaith_x", "{{stage}}"),), limits=Limits(1, 10))


def _look(transport: httpx.AsyncBaseTransport, *panels: Panel) -> Snapshot:
    async def look() -> Snapshot:
        observer = Observer("http://127.0.0.1:1", timeout_s=0.5, transport=transport)
        try:
            return await observer.look(panels)
        finally:
            await observer.close()

    return asyncio.run(look())


def _values(expr: str) -> list[tuple[dict[str, str], str]]:
    if "timestamp(up)" in expr:
        return [({}, str(AT.timestamp() - 3))]
    if "__name__" in expr:
        return [
            ({"__name__": "goodfaith:items_open:sum"}, "5"),
            ({"__name__": "goodfaith_outbox_oldest_timestamp_seconds"}, "1"),
        ]
    return [({}, "17")] if "items_open" in expr else []


def test_a_snapshot_is_of_one_moment() -> None:
    alerts = (
        '[{"labels": {"alertname": "A", "severity": "ticket", "team": "sre"}, "annotations": {"summary": "S"}, "state": "firing",'
        ' "activeAt": "2026-11-25T11:00:00Z", "value": "1"},'
        ' {"labels": {"alertname": "B", "severity": "page"}, "annotations": {}, "state": "firing",'
        ' "activeAt": "2026-11-25T11:30:00.123456789Z", "value": "1"},'
        ' {"labels": {"alertname": "C", "severity": "page"}, "annotations": {}, "state": "pending",'
        ' "activeAt": "2026-11-25T11:30:00Z", "value": "1"},'
        ' {"labels": {"alertname": "Watchdog", "severity": "none"}, "annotations": {}, "state": "firing",'
        ' "activeAt": "2026-11-25T11:30:00Z", "value": "1"}]'
    )
    snapshot = _look(transport(_values, alerts), OPEN, OLDEST)
    assert snapshot.at == AT
    assert snapshot.trouble == ""
    assert snapshot.answer(OPEN).series == (Series("", 17.0, {}),)
    assert snapshot.answer(OLDEST) == Answer()  # the series is there, and nothing waits
    assert [alert.name for alert in snapshot.alerts or ()] == ["B", "A"]
    assert observing.value_of(snapshot, OPEN) == 17


def test_nothing_is_known_of_what_nobody_exports() -> None:
    snapshot = _look(transport(lambda expr: _values(expr) if "timestamp" in expr else []), OPEN, OLDEST)
    assert snapshot.answer(OPEN).error == "the rules have no value of goodfaith:items_open:sum"
    assert "outbox_oldest" in snapshot.answer(OLDEST).error
    assert level(OPEN, snapshot.answer(OPEN)) == "unknown"


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (lambda _: httpx.Response(200, text="<html>a proxy</html>"), "no answer of Prometheus'"),
        (lambda _: httpx.Response(503, json={"status": "error", "error": "starting"}), "Prometheus refuses: starting"),
        (lambda _: httpx.Response(200, content=b"x" * (observing.ANSWER_MAX + 1)), "longer than"),
        (lambda _: httpx.Response(200, json=[]), "no answer of Prometheus'"),
    ],
)
def test_what_is_no_answer(handler: object, says: str) -> None:
    snapshot = _look(httpx.MockTransport(handler), OPEN)  # type: ignore[arg-type]
    assert says in snapshot.trouble
    assert snapshot.answer(OPEN).error == snapshot.trouble
    assert snapshot.alerts is None


def test_prometheus_away_and_slow() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    assert "does not answer" in _look(httpx.MockTransport(refuse), OPEN).trouble

    async def slow() -> Snapshot:
        return await Observer("http://127.0.0.1:1", timeout_s=0.01, transport=httpx.MockTransport(hang)).look([OPEN])

    assert "does not answer in time" in asyncio.run(slow()).trouble


def test_figures_that_nobody_scrapes_any_more_are_not_of_now() -> None:
    old = replace(calm(), scraped=AT - dt.timedelta(seconds=observing.STALE_S + 1))
    assert "scraped no process for 121 s" in old.trouble
    assert old.answer(OPEN).error == old.trouble
    assert observing.value_of(old, OPEN) is None
    assert replace(old, scraped=None).trouble == "Prometheus scrapes no process"


def test_alerts_of_one_name_are_told_together() -> None:
    later = replace(ALERT, since=AT, labels={"stage": "intake", "team": "sre", "layer": "flow"})
    other = replace(ALERT, name="BrokerDown", labels={})
    first, second = observing.grouped([later, ALERT, other, later])
    assert (first.name, first.which, first.since) == (ALERT.name, "intake, review", ALERT.since)
    assert (second.name, second.which) == ("BrokerDown", "")


def test_an_answer_that_is_none_says_so() -> None:
    for data in ({}, {"resultType": "vector", "result": [{"metric": {}}]}, {"resultType": "vector", "result": 7}, None):
        with pytest.raises(Unusable):
            observing.series_of(PANEL, PANEL.queries[0], data)
    for data in ({}, {"alerts": [{"state": "firing"}]}, None):
        with pytest.raises(Unusable):
            observing.alerts_of(data)


@given(st.lists(st.floats(), max_size=5))
def test_a_panel_is_as_bad_as_its_worst_series(values: list[float]) -> None:
    answer = Answer(tuple(Series(str(place), value) for place, value in enumerate(values)))
    real = [value for value in values if not math.isnan(value)]
    expected = "bad" if any(v >= 10 for v in real) else "warn" if any(v >= 1 for v in real) else "good"
    assert level(PANEL, answer) == expected
    assert level(PANEL, Answer(error="away")) == "unknown"


@given(st.lists(st.sampled_from(["within 3600 s", "within 10800 s", "p50", "", "a", "1"]), max_size=6))
def test_series_are_in_order_and_bounded(names: list[str]) -> None:
    result = [{"metric": {"stage": name}, "value": [0, "1"]} for name in names * 20]
    found = observing.series_of(PANEL, PANEL.queries[0], {"resultType": "vector", "result": result})
    assert len(found) == min(len(result), observing.MOST)
    shown = [one.name for one in found]
    if {"within 3600 s", "within 10800 s"} <= set(shown):
        assert shown.index("within 3600 s") < shown.index("within 10800 s")
