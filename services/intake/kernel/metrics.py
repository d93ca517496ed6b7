"""Intake's own metrics (docs/reference/metrics.md). Labels are bounded: route templates, enumerations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Final

from services.intake.kernel.requests import COMMANDS
from shared.events import DECISIONS
from shared.metrics import CHANNELS, CODE, HTTP_STATUS, RIGHT_TYPES, ROUTE, TIERS, counter, gauge, histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_API: Final = "intake-api"
_WORKER: Final = "intake-worker"
_ENTRANCES: Final = ("intake-api", "intake-inbound")
_FILED: Final = ("http", "kafka", "canary")
_STATES: Final = tuple(state.value for state in DECISIONS)
_STATUS: Final = ("free", "leased", "decided")

CLAIMS_RECEIVED = counter(
    "goodfaith_claims_received_total",
    "Claims accepted, by channel (`recurrence`: filed by the system), kind of right and lane.",
    {"channel": CHANNELS, "right_type": RIGHT_TYPES, "tier": TIERS},
    of=(*_ENTRANCES, _WORKER),
)
ITEMS_RECEIVED = counter(
    "goodfaith_items_received_total",
    "Items of claims accepted.",
    {"channel": CHANNELS, "tier": TIERS},
    of=(*_ENTRANCES, _WORKER),
)
COMMANDS_RECEIVED = counter(
    "goodfaith_commands_received_total",
    "Commands accepted, by kind.",
    {"channel": _FILED, "kind": tuple(COMMANDS)},
    of=_ENTRANCES,
)
REQUESTS_REFUSED = counter(
    "goodfaith_requests_refused_total",
    "Requests refused, by reason.",
    {"channel": CHANNELS, "reason": CODE},
    of=(*_ENTRANCES, _WORKER),
    do="one reason jumps: a client changed, or ignores answers",
    series=[("http", "busy"), ("http", "unavailable")],
)
HTTP_SECONDS = histogram(
    "goodfaith_http_request_duration_seconds",
    "Wall time of a request, by route template and status class.",
    {
        "method": ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "any"),
        "route": ROUTE,
        "status": ("1xx", "2xx", "3xx", "4xx", "5xx"),
    },
    buckets=_SECONDS,
    of=_API,
    do="`5xx`: the database; else logs",
)
GROUP_COMMIT_REQUESTS = histogram(
    "goodfaith_group_commit_requests",
    "Requests in one group commit.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    of=_ENTRANCES,
)
GROUP_COMMIT_SECONDS = histogram(
    "goodfaith_group_commit_seconds",
    "Wall time of one group commit.",
    buckets=_SECONDS,
    of=_ENTRANCES,
    do="grows: the database's disk",
)
RIGHT_JOBS_SINCE = gauge(
    "goodfaith_right_jobs_oldest_timestamp_seconds",
    "When the oldest change of a right was made that open items are still being told about; 0: none.",
    of=_WORKER,
    do="minutes ago: a transaction has been open for as long, in any database of the server (`goodfaith status`)",
)
CLOCKS_DISAGREE = gauge(
    "goodfaith_clocks_disagree",
    "1 while the clocks of this process, the database and the brokers are further apart than `GOODFAITH_CLOCK_BOUND_MS`: this process moves neither watermarks nor the progress of upstreams.",
    of=(_WORKER, "intake-inbound"),
    do="[ClocksDisagree](../runbooks/ClocksDisagree.md)",
)
CLOCK_OFFSET = gauge(
    "goodfaith_clock_offset_seconds",
    "By how much another clock is certainly ahead of this process's (negative: behind); for brokers the worst one.",
    {"clock": ("database", "broker")},
    of=(_WORKER, "intake-inbound"),
)
UNDER_WAY = gauge(
    "goodfaith_admission_under_way",
    "Records on intake.events that verification has not consumed yet.",
    of=_WORKER,
    do="above the windows for long: add verification workers",
)
ADMITTED = counter(
    "goodfaith_admitted_total",
    "Items and commands taken from the admission queue: items by lane, commands as `command`.",
    {"tier": (*TIERS, "command")},
    of=_WORKER,
    do="`standard` or `bulk` flat while claims come: back-pressure",
)
EVIDENCE = counter(
    "goodfaith_evidence_files_total",
    "Files sent as evidence: `kept`, `known` already, or why they were refused.",
    {"outcome": CODE},
    of=_API,
    do="`unavailable`: the store, or too many uploads at once; `too_complex`: somebody tries bombs",
    series=[("kept",), ("known",), ("unavailable",), ("too_complex",)],
)
EVIDENCE_DELETED = counter(
    "goodfaith_evidence_deleted_total", "Evidence files that the clean-up deleted from the store.", of=_WORKER
)
GOOD_FAITH_CHANGES = counter(
    "goodfaith_good_faith_changes_total",
    "Changes of good-faith standing by the daily judgement, by what happened.",
    {"kind": ("upgraded", "warned", "warning_lifted", "demoted", "bar_ended", "removed")},
    of=_WORKER,
    do="many `warned` on one day: did the policy change, or reviewers?",
)
MISUSE_CHANGES = counter(
    "goodfaith_misuse_changes_total",
    "Measures against misuse by complainants, by what happened to them.",
    {"kind": ("warned", "limited", "suspended", "over", "lifted", "reversed", "fallen")},
    of=(_WORKER, _API),
    do="many `warned` on one day: did the policy change, or reviewers? `reversed` grows: findings or the policy are too strict",
)
WEBHOOK_CONFIRMATIONS = counter(
    "goodfaith_webhook_confirmations_total",
    "Codes by which owners confirm webhooks: `asked`, `confirmed`, `refused`; `forgotten`: webhooks that nobody confirmed in time.",
    {"result": ("asked", "confirmed", "refused", "forgotten")},
    of=(_API, _WORKER),
    do="many `asked`, few `confirmed`: calls fail (`goodfaith_webhook_challenges_total`), or somebody points webhooks at others' servers",
)
FED = counter(
    "goodfaith_seller_contacts_total",
    "Records of the marketplace's feed of sellers' contacts: `opened` an account; `changed`, `withdrawn`: the contact on file; `own`: the seller set its contact itself, which stands; `gone`: to be erased; `stale`: no higher revision; `closed`: of a closed account.",
    {"result": ("opened", "changed", "withdrawn", "own", "gone", "stale", "closed")},
    of=_WORKER,
    do="refused ones are in `goodfaith_dead_letters_total`; many `stale`: the marketplace repeats itself, or its revisions do not rise",
)
RELEASED = counter(
    "goodfaith_misuse_released_total",
    "Items that had waited for the end of a suspension and entered the admission queue.",
    of=_WORKER,
)
DECIDED = counter(
    "goodfaith_review_decisions_total",
    "People's decisions accepted: `proposal` is the first of four eyes, `break_glass` an operator's without a lease.",
    {"kind": ("proposal", "decision", "break_glass")},
    of=_ENTRANCES,
    do="`break_glass` grows: somebody bypasses the queue; the log says who",
)
LEASES = counter(
    "goodfaith_review_leases_total",
    "Requests for a lease, by result.",
    {"result": ("taken", "empty", "refused")},
    of=_API,
)
CASES = gauge(
    "goodfaith_review_cases",
    "Cases in the review queue, counted every 15 s by each worker; `decided`: a decision is on its way.",
    {"state": _STATES, "tier": TIERS, "status": _STATUS},
    of=_WORKER,
    do="`free` grows: too few reviewers, or a conflict of interest bars them all",
)
OLDEST_CASE = gauge(
    "goodfaith_review_oldest_timestamp_seconds",
    "Since when the oldest undecided case has waited, in business time; 0: none does.",
    {"state": _STATES, "tier": TIERS},
    of=_WORKER,
    do="near 24 h in `UNDER_REVIEW`: the 24-hour target is at risk",
)


def show_queue(depth: Iterable[Mapping[str, Any]]) -> None:
    """Set the review queue's gauges; states and lanes without cases are 0."""
    found = {(row["state"], row["lane"]): row for row in depth}
    for state, tier in product(DECISIONS, TIERS):
        row = found.get((state.value, tier))
        for status in _STATUS:
            CASES.labels(state.value, tier, status).set(0 if row is None else row[status])
        oldest = None if row is None else row["oldest"]
        OLDEST_CASE.labels(state.value, tier).set(0 if oldest is None else oldest.timestamp())


_REGISTERS: Final = "intake-registers"
_ASKED: Final = ("eu", "us")
_RESULTS: Final = (
    "accepted",
    "another_mark",
    "another_number",
    "another_owner",
    "name_unverified",
    "not_a_company",
    "not_found",
    "not_in_force",
    "not_waiting",
    "refused_before",
    "right_registered_elsewhere",
    "silent",
)
REGISTER_CALLS = counter(
    "goodfaith_register_calls_total",
    "Requests to registers of rights, by outcome.",
    {"register": _ASKED, "outcome": HTTP_STATUS},
    of=_REGISTERS,
    do="`401`, `403`: check the credential; `429`: fewer processes; `unreachable`: the register does not answer",
)
REGISTER_ANSWERS = counter(
    "goodfaith_register_answers_total",
    "What came of asking registers for rights; `silent`: no answer for too long. All but `accepted` leave it to a person.",
    {"register": _ASKED, "result": _RESULTS},
    of=_REGISTERS,
    do="`silent`: see `goodfaith_register_calls_total`",
)
REGISTERS_WAITING = gauge(
    "goodfaith_register_queries_waiting", "Rights for which a register is yet to answer.", of=_REGISTERS
)
REGISTERS_OLDEST = gauge(
    "goodfaith_register_queries_oldest_timestamp_seconds",
    "Since when the oldest query to a register has waited; 0: none.",
    of=_REGISTERS,
    do="old: a register does not answer, or no process asks it",
)


_PICTURES: Final = "intake-pictures"
_UNSEEN: Final = (
    "another_file",
    "document_gone",
    "document_not_accepted",
    "file",
    "host_not_named",
    "no_url",
    "not_answered",
    "store_unavailable",
    "too_large",
    "too_slow",
    "unreachable",
    "url_host",
    "url_malformed",
    "url_port",
    "url_private",
    "url_scheme",
    "url_user",
)
PICTURE_CHECKS = counter(
    "goodfaith_picture_checks_total",
    "Items whose pictures were compared; `given_up`: nothing could be compared for too long.",
    {"result": ("compared", "given_up")},
    of=_PICTURES,
    do="`given_up`: does `verification api` answer? What does the log say?",
)
PICTURES_UNSEEN = counter(
    "goodfaith_pictures_unseen_total",
    "Pictures that were left out of a comparison, by why; `file`: it is no picture that is opened.",
    {"reason": _UNSEEN},
    of=_PICTURES,
    do="see [compare pictures](../how-to/pictures.md)",
)
PICTURES_WAITING = gauge(
    "goodfaith_picture_checks_waiting", "Items whose pictures are yet to be compared.", of=_PICTURES
)
PICTURES_OLDEST = gauge(
    "goodfaith_picture_checks_oldest_timestamp_seconds",
    "Since when the oldest comparison of pictures has waited; 0: none.",
    of=_PICTURES,
    do="old: pictures cannot be fetched, or no process compares them",
)

DOMAIN_LOOKUPS = counter(
    "goodfaith_domain_lookups_total",
    "Look-ups of domains that accounts named, by what was found.",
    {"result": ("found", "no_record", "other_record", "alias", "too_long", "no_answer")},
    of=_WORKER,
    do="mostly `no_answer`: does the resolver answer?",
)
