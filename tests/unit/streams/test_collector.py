"""The exposition of the views."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.streams import collector, items, registry, sellers
from services.streams.fold import Partition, Record
from shared.events import Audit, AuditedOutcome, ItemChanged, State
from shared.topics import INTAKE, VERIFICATION
from tests.unit.streams.made import BEGIN, changed, histories, record, submitted
from tests.unit.streams.test_fold import run

DAY = dt.timedelta(days=1)


def exposed(*partitions: Partition, now: dt.datetime = BEGIN + DAY) -> dict[str, float]:
    """Samples, by name and labels as they are spelled."""
    return dict(_samples(_text(*partitions, now=now)))


def _text(*partitions: Partition, now: dt.datetime) -> str:
    known = CollectorRegistry()
    known.register(collector.ViewsCollector(lambda: partitions, lambda: now))
    return generate_latest(known).decode()


def _samples(text: str) -> list[tuple[str, float]]:
    found = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()) if key != "partition")
            found.append((f"{sample.name}{{{labels}}}", sample.value))
    return found


def test_every_series_is_there_from_the_start_and_few() -> None:
    partitions = [Partition(number, registry.VIEWS) for number in range(24)]
    samples = _samples(_text(*partitions, now=BEGIN))
    assert len(samples) < 5500
    assert {value for name, value in samples if not name.startswith("goodfaith_clock")} == {0}


@settings(max_examples=10)
@given(histories())
def test_what_happens_makes_no_series(events: list[Record]) -> None:
    partition = run([events])
    assert exposed(partition).keys() == exposed(Partition(0, registry.VIEWS)).keys()


def test_figures_of_some_items() -> None:
    received = BEGIN
    events = [
        record(INTAKE, 0, submitted(1), "intake.0.1", received),
        record(VERIFICATION, 0, changed(0, 1, State.NOTIFIED, held=True), "verification.0.1", received),
        record(
            VERIFICATION,
            1,
            changed(0, 2, State.NOTIFIED, held=True, handled_at=received + dt.timedelta(hours=24), sla="met"),
            "verification.0.2",
            received + dt.timedelta(hours=24),
        ),
        record(
            VERIFICATION,
            2,
            changed(2, 1, State.REJECTED, handled_at=received + dt.timedelta(minutes=1), sla="met"),
            "verification.0.3",
            received + dt.timedelta(seconds=61),
        ),
        record(VERIFICATION, 3, changed(4, 1, State.NEEDS_INFO), "verification.0.4", received),
        record(VERIFICATION, 4, changed(7, 1, State.RECEIVED, canary=True), "verification.0.5", received),
        record(
            VERIFICATION,
            5,
            changed(8, 1, State.DUPLICATE, handled_at=received, sla="met"),
            "verification.0.6",
            received,
        ),
    ]
    told = exposed(run([events]), now=received + dt.timedelta(hours=19))
    some = {
        name: value
        for name, value in told.items()
        if value and "duration" not in name and "clock_timestamp" not in name
    }
    assert some == {
        "goodfaith_claim_sla_outcomes_total{outcome=met,tier=express}": 1,
        "goodfaith_claim_sla_outcomes_total{outcome=met,tier=bulk}": 2,
        "goodfaith_claim_items_open{stage=intake,tier=standard}": 1,
        "goodfaith_claim_items_open{stage=complainant,tier=standard}": 1,
        "goodfaith_claim_oldest_open_received_timestamp_seconds{stage=intake}": received.timestamp(),
        "goodfaith_claim_oldest_open_received_timestamp_seconds{stage=complainant}": received.timestamp(),
        "goodfaith_claim_items_due_soon{within_seconds=21600}": 1,
        "goodfaith_claim_clock_paused{reason=needs_info}": 1,
        "goodfaith_takedowns_total{outcome=taken_down,reason=counterfeit,right_type=trademark}": 1,
        "goodfaith_takedowns_total{outcome=declined,reason=design,right_type=design}": 1,
        "goodfaith_claim_stage_completed_total{result=in_budget,stage=recorded}": 3,
        "goodfaith_claim_stage_completed_total{result=late,stage=recorded}": 2,
        "goodfaith_claim_stage_completed_total{result=late,stage=notification}": 1,
        "goodfaith_claim_stage_completed_total{result=late,stage=enforcement}": 1,
    }
    handling = "goodfaith_claim_handling_duration_seconds"
    assert told[f"{handling}_bucket{{le=86400.0,tier=express}}"] == 1
    assert told[f"{handling}_bucket{{le=64800.0,tier=express}}"] == 0
    assert told[f"{handling}_sum{{tier=express}}"] == 86400


def test_what_audits_found_counts_once_as_it_is_now() -> None:
    def audited(number: int, revision: int, outcome: AuditedOutcome, found: Any = None) -> ItemChanged:
        audit = Audit(outcome=outcome, size="20-199", found=found)
        return changed(number, revision, State.UNDER_REVIEW, audit=audit)

    changes = [
        audited(0, 1, "upheld_by_rule"),
        audited(0, 2, "upheld_by_rule", "overturned"),
        audited(0, 3, "upheld_by_rule", "overturned"),
        audited(1, 1, "upheld_by_rule"),
        audited(2, 1, "restored_by_default", "agrees"),
        audited(3, 1, "refused_by_rule"),
        changed(3, 2, State.WITHDRAWN),  # unanswered
    ]
    events = [record(VERIFICATION, n, one, f"verification.0.{n + 1}", BEGIN) for n, one in enumerate(changes)]
    told = exposed(run([events]))
    assert {name: value for name, value in told.items() if name.startswith("goodfaith_audited") and value} == {
        "goodfaith_audited_items{found=overturned,outcome=upheld_by_rule,size=20-199}": 1,
        "goodfaith_audited_items{found=waiting,outcome=upheld_by_rule,size=20-199}": 1,
        "goodfaith_audited_items{found=agrees,outcome=restored_by_default,size=20-199}": 1,
    }


def test_an_item_that_was_paused_is_no_older_than_its_clock_says() -> None:
    received, paused = BEGIN, dt.timedelta(days=3)
    events = [
        record(VERIFICATION, 0, changed(0, 1, State.NEEDS_INFO), "verification.0.1", received),
        record(
            VERIFICATION,
            1,
            changed(0, 2, State.UNDER_REVIEW, sla_due=received + paused + dt.timedelta(days=1)),
            "verification.0.2",
            received + paused,
        ),
    ]
    told = exposed(run([events]), now=received + paused)
    since = told["goodfaith_claim_oldest_open_received_timestamp_seconds{stage=review}"]
    assert since == (received + paused).timestamp()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_finds_nothing_to_say() -> None:
    text = _text(Partition(0, registry.VIEWS), now=BEGIN)
    subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True, capture_output=True)


def test_heaps_stay_small_while_nobody_looks() -> None:
    totals, offenders = items.Totals(), sellers.Violations()
    state = violated = None
    for number in range(6000):
        new = items.Item(received=number + 1, due=1)
        totals.move("i-1", state, new)
        at = sellers.Violation((sellers.ViolationItem("i-1", number, True, False, number + 1),))
        offenders.move("s-1/c-1", violated, at)
        state, violated = new, at
    assert max(len(heap) for heap in totals._by_age.values()) < 1100
    assert len(totals._over) < 1100
    assert len(offenders._wakes) < 1100
    assert totals.figures(BEGIN).oldest == {"intake": 6000}
