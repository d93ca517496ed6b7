"""Intake's own metrics (names: operating.md). Labels are bounded: route templates, enumerations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from shared.events import DECISIONS

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

CLAIMS_RECEIVED = Counter(
    "goodfaith_claims_received_total", "Claims accepted at the door.", ["channel", "right_type", "tier"]
)
ITEMS_RECEIVED = Counter("goodfaith_items_received_total", "Items of claims accepted at the door.", ["channel", "tier"])
COMMANDS_RECEIVED = Counter("goodfaith_commands_received_total", "Commands accepted at the door.", ["channel", "kind"])
REQUESTS_REFUSED = Counter(
    "goodfaith_requests_refused_total", "Requests refused at the door, by reason.", ["channel", "reason"]
)
HTTP_SECONDS = Histogram(
    "goodfaith_http_request_duration_seconds",
    "Wall time of a request, by route template and status class.",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
DOOR_COMMIT_REQUESTS = Histogram(
    "goodfaith_door_commit_requests", "Requests in one commit.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
DOOR_COMMIT_SECONDS = Histogram("goodfaith_door_commit_seconds", "Wall time of one commit.", buckets=_SECONDS)
UNDER_WAY = Gauge("goodfaith_admission_under_way", "Records on intake.events that verification has not consumed yet.")
ADMITTED = Counter("goodfaith_admitted_total", "Rows of the door that were published, by lane.", ["tier"])
EVIDENCE = Counter(
    "goodfaith_evidence_files_total",
    "Files sent as evidence: kept, known already, or why they were refused.",
    ["outcome"],
)
EVIDENCE_DELETED = Counter("goodfaith_evidence_deleted_total", "Evidence files deleted from the store.")
GOOD_FAITH_CHANGES = Counter(
    "goodfaith_good_faith_changes_total", "Changes of standing by the daily judgement, by what happened.", ["kind"]
)
MISUSE_CHANGES = Counter(
    "goodfaith_misuse_changes_total", "Measures against misuse by complainants, by what happened to them.", ["kind"]
)
RELEASED = Counter(
    "goodfaith_misuse_released_total", "Items that had waited for the end of a suspension and entered the door."
)

DECIDED = Counter("goodfaith_review_decisions_total", "Decisions of people accepted at the door, by kind.", ["kind"])
LEASES = Counter("goodfaith_review_leases_total", "Requests for a lease, by what came of them.", ["result"])
CASES = Gauge("goodfaith_review_cases", "Cases in the review queue.", ["state", "tier", "status"])
OLDEST_CASE = Gauge(
    "goodfaith_review_oldest_timestamp_seconds",
    "Since when the oldest case that is not decided waits, in business time; 0: none does.",
    ["state", "tier"],
)
_TIERS: Final = ("express", "standard", "bulk")
_STATUS: Final = ("free", "leased", "decided")
for _kind in ("proposal", "decision", "break_glass"):
    DECIDED.labels(_kind)
for _result in ("taken", "empty", "refused"):
    LEASES.labels(_result)


for _kind in ("warned", "limited", "suspended", "over", "lifted", "reversed", "fallen"):
    MISUSE_CHANGES.labels(_kind)


def show_queue(depth: Iterable[Mapping[str, Any]]) -> None:
    """Set the queue's gauges; what is not there is 0."""
    found = {(row["state"], row["lane"]): row for row in depth}
    for state, tier in product(DECISIONS, _TIERS):
        row = found.get((state.value, tier))
        for status in _STATUS:
            CASES.labels(state.value, tier, status).set(0 if row is None else row[status])
        oldest = None if row is None else row["oldest"]
        OLDEST_CASE.labels(state.value, tier).set(0 if oldest is None else oldest.timestamp())
