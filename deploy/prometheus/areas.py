"""What stops together: processes and consumer groups by area, and the series that alerts cannot do without."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SLI: Final = {
    "goodfaith_clock_timestamp_seconds": "figures",
    "goodfaith_claim_sla_outcomes_total": "figures",
    "goodfaith_claim_items_open": "figures",
    "goodfaith_claim_oldest_open_received_timestamp_seconds": "figures",
    "goodfaith_claim_items_due_soon": "figures",
    "goodfaith_claim_handling_duration_seconds_count": "figures",
    "goodfaith_claim_stage_completed_total": "figures",
    "goodfaith_takedowns_total": "figures",
    "goodfaith_streams_position_timestamp_seconds": "figures",
    "goodfaith_reconciliation_difference": "figures",
    "goodfaith_reconciliation_last_timestamp_seconds": "figures",
    "goodfaith_canary_last_completed_timestamp_seconds": "canary",
    "goodfaith_consumer_position_timestamp_seconds": "claims",
    "goodfaith_consumer_lag_seconds": "watch",
    "goodfaith_consumer_assigned_partitions": "claims",
    "goodfaith_worker_progress_timestamp_seconds": "claims",
    "goodfaith_watermark_timestamp_seconds": "claims",
    "goodfaith_clocks_disagree": "claims",
    "goodfaith_outbox_oldest_timestamp_seconds": "claims",
    "goodfaith_dead_letters_depth": "claims",
    "goodfaith_delivery_oldest_pending_timestamp_seconds": "claims",
    "goodfaith_review_oldest_timestamp_seconds": "claims",
    "goodfaith_http_request_duration_seconds_count": "claims",
    "goodfaith_broker_up": "watch",
    "goodfaith_database_up": "watch",
    "goodfaith_watch_last_success_timestamp_seconds": "watch",
}
"""Series without which alerts would be silent for the wrong reason, each with the area whose processes export it. An
absent one raises an alert."""

AREAS: Final = {
    "claims": "intake-.*|verification|verification-api|enforcement-(worker|delivery|api)|notification-(worker|sender|api)",
    "sellers": "enforcement-(ledger|entities)",
    "figures": "streams",
}
"""Processes (label `job`) by the area of the system that stops with them. Every other process is an area of its own."""
GROUPS: Final = {
    "claims": "intake|intake-inbound|verification|enforcement|notification|marketplace",
    "sellers": "enforcement-ledger",
}
"""Consumer groups by area."""
STAND_INS: Final = "marketplace|mailbox"
"""Processes of a local stack that stand in for external systems. Nobody is paged for them, only for what they cause."""

REQUIRED: Final = (
    "intake-api",
    "intake-worker",
    "verification",
    "verification-api",
    "enforcement-worker",
    "enforcement-ledger",
    "enforcement-entities",
    "enforcement-api",
    "notification-worker",
    "notification-sender",
    "notification-webhooks",
    "notification-api",
    "notification-bounces",
    "streams",
    "watch",
    "canary",
)
"""Processes (label `job`) that every installation runs; the others depend on settings or belong to the demo."""


def area_of(labels: Mapping[str, str]) -> str:
    """The label `area` that `of_area` gives an alert with these labels."""
    label = "job" if "job" in labels else "group"
    known = AREAS if label == "job" else GROUPS
    return next((area for area, names in known.items() if re.fullmatch(names, labels[label])), labels[label])


def of_area(expr: str, label: str = "job") -> str:
    """`expr` with the label `area`, taken from its label `job` or `group`."""
    made = f'label_replace({expr}, "area", "$1", "{label}", "(.*)")'
    for area, names in (AREAS if label == "job" else GROUPS).items():
        made = f'label_replace({made}, "area", "{area}", "{label}", "{names}")'
    return made
