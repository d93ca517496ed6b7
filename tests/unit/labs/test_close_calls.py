"""The oracle for counters close to their deadlines: what it accepts, and each way in which it must complain."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from unittest.mock import AsyncMock, MagicMock

import httpx
import pytest

from labs.faults import plan as load_plan
from labs.faults import submitter as submitting
from labs.faults.plan import LoadPlan
from labs.faults.record import ClockReading, CloseCall, LoggedChange, judge_close_call
from labs.faults.submitter import DAY, Submitter

DUE = dt.datetime(2026, 12, 4, 10, tzinfo=dt.UTC)
MICRO = dt.timedelta(microseconds=1)
NOTICED = LoggedChange(DUE - dt.timedelta(days=3), (None, "RECEIVED", "NOTIFIED"), None)
DEFAULT = LoggedChange(DUE, ("NOTIFIED", "UPHELD_BY_DEFAULT"), None)
EARLY = DEFAULT._replace(at=DUE - MICRO)
COUNTERED = LoggedChange(DUE, ("NOTIFIED", "COUNTERED", "HOLDER_RESPONSE"), "k")
UNDONE = LoggedChange(DUE, ("UPHELD_BY_DEFAULT", "NOTIFIED", "COUNTERED", "HOLDER_RESPONSE"), "k")
LATE = LoggedChange(DUE, ("UPHELD_BY_DEFAULT", "COUNTERED", "HOLDER_RESPONSE"), "k")


def said(after: dt.timedelta, *history: LoggedChange) -> str | None:
    return judge_close_call(CloseCall("i", "k", DUE, DUE + after), [NOTICED, *history])


@pytest.mark.parametrize("after", [-MICRO, 0 * MICRO])
def test_in_time_beats_the_default(after: dt.timedelta) -> None:
    assert said(after, COUNTERED) is None
    assert said(after, DEFAULT, UNDONE) is None
    assert "lost to the default" in (said(after, DEFAULT, LATE) or "")
    assert "not applied" in (said(after, DEFAULT) or "")
    assert "not applied" in (said(after) or "")


def test_too_late_does_not() -> None:
    assert said(MICRO, DEFAULT, LATE) is None
    assert said(MICRO, DEFAULT) is None
    assert "did not fire" in (said(MICRO, COUNTERED) or "")
    assert "did not fire" in (said(MICRO, EARLY, LATE) or "")
    assert "did not fire" in (said(MICRO, LATE, DEFAULT) or "")


# ---- the load


class Intake:
    """An intake with a clock that is set ahead: items are noticed when they are filed, and their windows end three days later."""

    def __init__(self) -> None:
        self.anchor = (DUE, time.monotonic())
        self.answers: dict[str, httpx.Response] = {}
        self.noticed: dict[str, dt.datetime] = {}
        self.counters: list[tuple[dt.datetime, dt.datetime]] = []

    def now(self) -> dt.datetime:
        business, at = self.anchor
        return business + dt.timedelta(seconds=time.monotonic() - at)

    def step(self) -> ClockReading:
        self.anchor = (self.anchor[0] + DAY, time.monotonic())
        return ClockReading(*self.anchor)

    def answer(self, request: httpx.Request) -> httpx.Response:
        key = request.headers.get("idempotency-key", "")
        if key not in self.answers:
            self.answers[key] = self.decide(request)
            if not key:
                return self.answers.pop(key)
        first = self.answers[key]
        return httpx.Response(first.status_code, content=first.content)

    def decide(self, request: httpx.Request) -> httpx.Response:
        path, now = request.url.path, self.now()
        if path == "/v1/claims":
            listings = [link.rpartition("/")[2] for link in json.loads(request.content)["listings"]]
            items = [{"item": f"i-{len(self.answers)}-{listing}", "listing": listing} for listing in listings]
            self.noticed |= {item["item"]: now for item in items}
            return httpx.Response(202, json={"claim": "c", "items": items})
        noticed = self.noticed[path.split("/")[3]]
        if request.method == "GET":
            due = {"noticed_at": noticed.isoformat(), "due": (noticed + 3 * DAY).isoformat()}
            return httpx.Response(200, json={"state": "NOTIFIED", **due})
        if request.headers["idempotency-key"].startswith("z."):
            self.counters.append((noticed + 3 * DAY, now))
        return httpx.Response(202, json={"commands": [{"command": f"k-{path}"}], "accepted_at": now.isoformat()})


def test_the_load_counters_on_both_sides_of_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEP_S", 0.6), ("CLOSE_S", 0.1), ("REACH", dt.timedelta(seconds=0.6))):
        monkeypatch.setattr(submitting, name, value)
    monkeypatch.setattr(load_plan, "LOOK_S", 0.01)
    monkeypatch.setattr(submitting.kafka_links, "producer", MagicMock())
    monkeypatch.setattr(submitting.Submitter, "_relay", AsyncMock())
    plan = LoadPlan(300, 1, "n", pace=0.01)
    plan.rights = dict.fromkeys(plan.holders, "r")
    tokens = dict.fromkeys((*plan.holders, *plan.sellers, plan.reviewer), "t")
    intake = Intake()
    submitter = Submitter(
        plan, MagicMock(topic_prefix="", intake_url="http://intake"), tokens, rate=400, step=intake.step
    )
    submitter._http = httpx.AsyncClient(base_url="http://intake", transport=httpx.MockTransport(intake.answer))
    asyncio.run(submitter.run(lambda _: None))
    assert submitter.record.contradictions == []
    close = submitter.record.close_calls
    assert len(close) == len(intake.counters) > 5
    # what is answered is what is compared
    assert sorted((call.due, call.accepted_at) for call in close) == sorted(intake.counters)
    assert {call.in_time for call in close} == {True, False}
    assert all(count == 1 for (_, kind), count in submitter.record.commands.items() if kind == "counter")
