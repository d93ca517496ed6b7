"""What the status page says of fixed answers."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.observer import status_view
from services.observer.boards import PANELS
from services.observer.observing import Alert, Answer, Series, Snapshot
from services.observer.status_view import Old, Page, page
from services.streams.items import WHERE
from tests.unit.observer.observed import ALERT, AT, AWAY, calm

ROOT = Path(__file__).resolve().parents[3]
OLD = [Old("i-00001", "review", 11_530), Old("i-00002", "enforcement", 300)]
TICKET = Alert("WebhookCircuitsOpen", "ticket", "Many webhooks do not answer", AT - dt.timedelta(hours=2))


def one(value: float, name: str = "") -> Answer:
    return Answer((Series(name, value),))


def test_all_is_well() -> None:
    made = page(calm(), OLD)
    assert (made.level, made.verdict, made.unknown) == ("good", "Claims are handled in time", ())
    assert [figure.value for figure in made.target][:1] == ["99.93 %"]
    assert made.target[0].note == "target 99%; 12 in time, 12 missed"
    assert all(not figure.word for figure in (*made.target, *made.now, *made.flow))
    assert [place.stage for place in made.places] == list(status_view.STAGES.values())


def test_the_page_knows_all_stages_and_the_target() -> None:
    assert tuple(status_view.STAGES) == WHERE
    slo = tomllib.loads((ROOT / "deploy/prometheus/slo.toml").read_text())["slo"]["handled"]
    assert slo["objective"] / 100 == status_view.TARGET


@pytest.mark.parametrize(
    ("snapshot", "level", "verdict", "because"),
    [
        (replace(calm(), alerts=(ALERT, TICKET)), "bad", "A person is needed now", "1 alert: OldestItemOld."),
        (calm(oldest=one(70_000)), "bad", "The 24-hour target is at risk", "Oldest open item."),
        (
            replace(calm(), alerts=(TICKET,)),
            "warn",
            "Claims flow; something waits for a person",
            "1 ticket: WebhookCircuitsOpen.",
        ),
        (calm(broker=Answer(error="nobody exports it")), "unknown", "Not all is known", "Not known: Broker."),
        (
            calm(forecast=Answer(error="too young")),
            "good",
            "Claims are handled in time",
            "No alert fires. A part is not known, see below.",
        ),
        (calm(handled_1d=one(0.98)), "warn", "Claims are handled in time", "Worth a look: Handled in time, last day."),
        (
            AWAY,
            "unknown",
            "Nothing is known",
            "Prometheus does not answer (ConnectError). Claims may well be in order.",
        ),
        (
            replace(calm(), alerts=None),
            "unknown",
            "Nothing is known",
            "alerts are not known. Claims may well be in order.",
        ),
    ],
)
def test_the_verdict(snapshot: Snapshot, level: str, verdict: str, because: str) -> None:
    made = page(snapshot, OLD)
    assert (made.level, made.verdict, made.because) == (level, verdict, because)


def test_nothing_old_is_shown_when_prometheus_is_away() -> None:
    for snapshot in (AWAY, replace(calm(), scraped=AT - dt.timedelta(hours=1))):
        made = page(snapshot, "streams does not answer")
        assert {figure.value for figure in (*made.target, *made.now, *made.flow)} == {"not known"}
        assert {(place.open, place.oldest) for place in made.places} == {("not known", "not known")}
        assert made.alerts is None
        assert made.waiting is None
        assert made.unknown[0].startswith("All figures and alerts: Prometheus")
        assert made.unknown[1] == "The oldest items: streams does not answer."


def test_what_is_not_known_is_said_once_for_each_reason() -> None:
    gone = Answer(error="nobody exports goodfaith_broker_up")
    made = page(calm(broker=gone, canary_age=gone, database=Answer(error="a bug")), [])
    assert made.unknown == (
        "Canary, last completed, Broker: nobody exports goodfaith_broker_up.",
        "Database: a bug.",
    )
    assert made.waiting == ()


def test_the_worst_of_several_is_shown_and_named() -> None:
    lags = Answer((Series("enforcement", 5.0), Series("notification", 400.0), Series("intake", float("nan"))))
    (shown,) = [
        figure for figure in page(calm(lag_outside=lags), []).flow if figure.label == PANELS["lag_outside"].title
    ]
    assert (shown.value, shown.note, shown.word) == ("6 min 40 s", "notification", "bad")


def test_ids_are_for_operators_only() -> None:
    assert [old.item for old in page(calm(), OLD).waiting or ()] == ["", ""]
    assert [old.item for old in page(calm(), OLD, ids=True).waiting or ()] == ["i-00001", "i-00002"]
    assert "i-00001" not in json.dumps(page(calm(), OLD).as_json())


def test_a_paused_item_is_never_too_old() -> None:
    ages = Answer(tuple(Series(stage, 200_000.0) for stage in WHERE))
    made = page(calm(oldest_by_stage=ages), [])
    assert [place.level for place in made.places] == ["bad", "bad", "bad", "good", "bad"]


def test_links_of_alerts_are_addresses() -> None:
    sly = replace(ALERT, runbook="javascript:alert(1)")
    assert [alert.runbook for alert in page(replace(calm(), alerts=(sly,)), []).alerts or ()] == [""]


_answers = st.dictionaries(
    st.sampled_from([panel.key for panel in status_view.SHOWN]),
    st.builds(
        Answer,
        st.lists(st.builds(Series, st.sampled_from(["", "met", "missed", *WHERE]), st.floats()), max_size=4).map(tuple),
        st.sampled_from(["", "away"]),
    ),
)


@given(_answers, st.sampled_from([None, (), (ALERT,)]), st.sampled_from(["", "away"]))
def test_whatever_is_answered_makes_a_page(
    answers: dict[str, Answer], alerts: tuple[Alert, ...] | None, error: str
) -> None:
    made = page(Snapshot(AT, error=error, scraped=AT, answers=answers, alerts=alerts), OLD)
    assert isinstance(made, Page)
    json.dumps(made.as_json(), allow_nan=False)
    if error or alerts is None:
        assert made.level == "unknown"
