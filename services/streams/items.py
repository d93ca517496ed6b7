"""The view ``items``, with one state per item: timeliness, outcome, where it is now, and how long each stage took."""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from msgspec.structs import replace

from services.streams import views
from services.streams.views import SECOND, Histogram, Meta, us
from shared import policy, topics
from shared.events import (
    DECISIONS,
    ENDED,
    Audit,
    AuditedOutcome,
    Data,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    NoticeSent,
    NoticeUnreached,
)
from shared.events import State as LifeState

Where = Literal["intake", "verification", "review", "complainant", "enforcement"]
"""What an open item waits for: verification to take it, verification's rules (or the listing's look-up), a person,
the complainant (the clock is paused), the marketplace's receipt."""
WHERE: Final[tuple[Where, ...]] = ("intake", "verification", "review", "complainant", "enforcement")
Stage = Literal["recorded", "notification", "enforcement"]
BUDGETS: Final[dict[Stage, int]] = {"recorded": 60, "notification": 300, "enforcement": 3600}
"""Seconds within which a stage should be done: acceptance to verification's first event, takedown to the seller's
notice, takedown to the marketplace's receipt."""
WITHIN: Final = (3600, 10800, 21600)
"""How many seconds ahead items that fall due are counted."""
HANDLING: Final = (60, 300, 900, 3600, 14_400, 43_200, 64_800, 86_400, 172_800)
"""Edges of the histogram of handling times, in seconds."""
STAGES: Final = (1, 5, 15, 60, 300, 900, 3600, 14_400)
"""Edges of the histograms of stages, in seconds."""
AUDITED: Final[tuple[AuditedOutcome, ...]] = get_args(AuditedOutcome)
WAITING: Final = "waiting"
FOUND: Final = (WAITING, "agrees", "overturned")
"""What came of an audit."""
PAUSING: Final = frozenset({LifeState.NEEDS_INFO, LifeState.SUSPENDED})
LEFT_OUT: Final = frozenset({LifeState.DUPLICATE, LifeState.LINK_INVALID})
"""Handled, but excluded from the takedown rate (docs/explanation/domain.md, "Terms with an exact meaning")."""
_MINUTE: Final = 60 * SECOND


class Item(views.State, frozen=True, array_like=True, omit_defaults=True):
    """An item. Times: ``views.us``.

    Attributes:
        revision: highest revision seen; 0: submitted, not recorded yet.
        received: 0 if only its notice or receipt has been seen so far.
        pauses: by how much pauses extended its 24 hours.
        taken: lowest revision with a hold; 0: never taken down.
        notified: lowest revision at which it was in NOTIFIED.
        noticed_at: when its seller's notice was first sent, even if to an inbox that nobody owns.
        receipted_at: when the marketplace first carried out a hold.
    """

    revision: int = 0
    claim_size: int = 0
    received: int = 0
    tier: str = "standard"
    right: str = ""
    reason: str = ""
    state: str = ""
    due: int = 0
    pauses: int = 0
    handled: int = 0
    sla: str = ""
    held: bool = False
    upheld: bool = False
    settled: bool = False
    recorded_at: int = 0
    taken: int = 0
    taken_at: int = 0
    notified: int = 0
    notified_at: int = 0
    noticed_at: int = 0
    receipted_at: int = 0
    audit: str = ""
    """Outcome, size class of the complainant and finding of an audit, with slashes; empty: none."""


EMPTY: Final = Item()


def key(data: Data) -> str | None:
    """An item's id. Canary items are not counted; their notices and receipts leave a state that counts as nothing."""
    if isinstance(data, ItemChanged | ItemSubmitted):
        return None if data.canary else data.item
    if isinstance(data, HoldChanged):
        return data.item
    if isinstance(data, NoticeSent | NoticeUnreached) and data.kind == "seller_notice":
        return data.item
    return None


def fold(state: Item | None, data: Data, meta: Meta) -> Item | None:
    """The item after an event."""
    item = state or EMPTY
    if isinstance(data, ItemChanged):
        return _changed(item, data, us(meta.at))
    if isinstance(data, ItemSubmitted):
        if item.received:
            return item
        return replace(
            item,
            claim_size=data.claim_size,
            received=us(data.accepted_at),
            tier=data.lane,
            right=data.right_type,
            reason=data.reason,
            due=us(data.accepted_at) + _target_of(data.policy),
        )
    if isinstance(data, NoticeSent | NoticeUnreached) and data.kind == "seller_notice":
        at = us(data.sent_at if isinstance(data, NoticeSent) else data.at)
        return item if item.noticed_at and item.noticed_at <= at else replace(item, noticed_at=at)
    if isinstance(data, HoldChanged) and data.held:
        at = us(data.at)
        return item if item.receipted_at and item.receipted_at <= at else replace(item, receipted_at=at)
    return state


def _changed(item: Item, data: ItemChanged, at: int) -> Item:
    revision = data.revision
    first: dict[str, int] = {}
    if revision == 1 and not item.recorded_at:
        first["recorded_at"] = at
    if data.held and (not item.taken or revision < item.taken):
        first["taken"], first["taken_at"] = revision, at
    if LifeState.NOTIFIED in (data.state, *data.via) and (not item.notified or revision < item.notified):
        first["notified"], first["notified_at"] = revision, at
    if revision <= item.revision:
        return replace(item, **first) if first else item
    received = us(data.received_at)
    due = us(data.sla_due) or item.due
    return replace(
        item,
        revision=revision,
        claim_size=data.claim_size,
        received=received,
        tier=data.lane,
        right=data.right_type,
        reason=data.reason,
        state=data.state.value,
        due=due,
        pauses=max(due - received - _target_of(data.policy), 0),
        handled=us(data.handled_at),
        sla=data.sla or "",
        held=data.held,
        upheld=data.upheld,
        settled=data.settled,
        audit=_audit(data.audit),
        **first,
    )


def _audit(audit: Audit | None) -> str:
    return "" if audit is None else f"{audit.outcome}/{audit.size}/{audit.found or WAITING}"


def _target_of(version: str) -> int:
    """Microseconds within which the policy requires an item to be handled."""
    found = _TARGETS.get(version)
    if found is None:
        found = _TARGETS[version] = policy.load(version).timers.review_sla.exact // dt.timedelta(microseconds=1)
    return found


_TARGETS: Final[dict[str, int]] = {}


# --------------------------------------------------------------------------------------------------------- what it is


def is_open(item: Item) -> bool:
    """Whether it is neither handled nor ended without being handled."""
    return bool(item.received) and not item.handled and item.state not in ENDED


def where(item: Item) -> Where:
    """What an open item waits for."""
    if not item.revision:
        return "intake"
    if item.state in PAUSING:
        return "complainant"
    if item.held:
        return "enforcement"
    return "review" if item.state in _DECIDED_BY_PEOPLE else "verification"


_DECIDED_BY_PEOPLE: Final = frozenset(DECISIONS)


def paused(item: Item) -> bool:
    """Whether its 24-hour clock is paused."""
    return is_open(item) and not item.sla and item.state in PAUSING


def since(item: Item) -> int:
    """When it was received, plus the pauses of its clock; it is due 24 hours later."""
    return item.received + item.pauses


def takedown(item: Item) -> Literal["taken_down", "declined"] | None:
    """The outcome of a handled item; None if it is not handled, a duplicate or a dead link."""
    if not item.handled or item.state in LEFT_OUT:
        return None
    return "taken_down" if item.taken else "declined"


def handling(item: Item) -> int:
    """Microseconds from receipt to handled, less pauses: what the 24-hour target measures."""
    return max(item.handled - item.received - item.pauses, 0)


def stages(item: Item) -> Iterable[tuple[Stage, int, int]]:
    """(stage, begun, done) of the stages that it has reached; done 0: still under way.

    A stage that the item left unfinished (because it was withdrawn, say) does not count.
    """
    if not item.received:
        return
    if item.recorded_at or not item.revision:
        yield "recorded", item.received, item.recorded_at
    if item.notified and (item.noticed_at or item.state == LifeState.NOTIFIED):
        yield "notification", item.notified_at, item.noticed_at
    if item.taken and (item.receipted_at or item.held):
        yield "enforcement", item.taken_at, item.receipted_at


# ------------------------------------------------------------------------------------------------------------- totals


@dataclass(frozen=True, slots=True)
class ItemFigures:
    """The figures that the collector exports. Keys are label values in the order used there."""

    outcomes: Mapping[tuple[str, str], int]
    """(met or missed, tier)"""
    open: Mapping[tuple[str, str], int]
    """(where, tier)"""
    oldest: Mapping[str, int]
    """where -> since; missing if there is none"""
    due_soon: Mapping[int, int]
    """Seconds ahead -> items that fall due by then or are overdue and not handled, rounded up to the minute."""
    paused: Mapping[str, int]
    takedowns: Mapping[tuple[str, str, str], int]
    """(outcome, kind of right, reason)"""
    completed: Mapping[tuple[str, str], int]
    """(stage, in_budget or late); a stage under way after its budget counts as late"""
    handling: Mapping[str, Histogram]
    """By tier."""
    durations: Mapping[Stage, Histogram]
    audits: Mapping[str, int]
    """By ``Item.audit``."""


class Totals:
    """Totals of items."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()
        self._paused: Counter[str] = Counter()
        self._takedowns: Counter[tuple[str, str, str]] = Counter()
        self._completed: Counter[tuple[str, str]] = Counter()
        self._audits: Counter[str] = Counter()
        self._handling: dict[str, Histogram] = {}
        self._durations: dict[Stage, Histogram] = {stage: Histogram(STAGES) for stage in BUDGETS}
        self._due: Counter[int] = Counter()
        """Open items with a running clock that are not missed yet, by the minute in which they fall due."""
        self._waiting: dict[str, tuple[Where, int]] = {}
        """Open items: where they are and since when."""
        self._by_age: dict[str, list[tuple[int, str]]] = {waits_for: [] for waits_for in WHERE}
        """Heaps of (since, key); an entry is valid while it agrees with ``_waiting``."""
        self._running: dict[tuple[str, str], int] = {}
        """Stages under way: (stage, key) -> when the budget ends."""
        self._over: list[tuple[int, str, str]] = []
        self._late: dict[tuple[str, str], int] = {}
        """Stages in ``_running`` already counted as late."""

    def move(self, key: str, old: Item | None, new: Item | None) -> None:
        """As ``views.Totals``."""
        if old is not None:
            self._add(key, old, -1)
        if new is not None:
            self._add(key, new, 1)

    def _add(self, key: str, item: Item, sign: int) -> None:
        if not item.received:
            return
        tier = item.tier
        if item.revision:
            self._states[item.state] += sign
        if item.sla:
            self._outcomes[item.sla, tier] += sign
        if item.audit:
            self._audits[item.audit] += sign
        outcome = takedown(item)
        if outcome is not None:
            self._takedowns[outcome, item.right, item.reason] += sign
        if item.handled:
            histogram = self._handling.get(tier)
            if histogram is None:
                histogram = self._handling[tier] = Histogram(HANDLING)
            histogram.add(handling(item), sign)
        elif is_open(item):
            self._wait(key, item, sign)
        for stage, begun, done in stages(item):
            self._stage(key, stage, begun, done, sign)

    def _wait(self, key: str, item: Item, sign: int) -> None:
        waits_for = where(item)
        self._open[waits_for, item.tier] += sign
        if paused(item):
            self._paused[item.state] += sign
        elif not item.sla:
            self._due[item.due // _MINUTE] += sign
            if not self._due[item.due // _MINUTE]:
                del self._due[item.due // _MINUTE]
        if sign < 0:
            del self._waiting[key]
        else:
            begun = since(item)
            self._waiting[key] = (waits_for, begun)
            heap = self._by_age[waits_for]
            heapq.heappush(heap, (begun, key))
            if len(heap) > 2 * len(self._waiting) + 1000:
                self._tidy()

    def _stage(self, key: str, stage: Stage, begun: int, done: int, sign: int) -> None:
        budget = BUDGETS[stage] * SECOND
        if done:
            took = max(done - begun, 0)
            self._durations[stage].add(took, sign)
            self._completed[stage, "in_budget" if took <= budget else "late"] += sign
        elif sign > 0:
            self._running[stage, key] = begun + budget
            heapq.heappush(self._over, (begun + budget, stage, key))
            if len(self._over) > 2 * len(self._running) + 1000:
                self._tidy()
        else:
            del self._running[stage, key]
            if self._late.pop((stage, key), None) is not None:
                self._completed[stage, "late"] -= 1

    def figures(self, now: dt.datetime) -> ItemFigures:
        """As ``views.Totals``; ``now`` must not go back."""
        micros = us(now)
        while self._over and self._over[0][0] < micros:
            until, stage, key = heapq.heappop(self._over)
            if self._running.get((stage, key)) == until and (stage, key) not in self._late:
                self._late[stage, key] = until
                self._completed[stage, "late"] += 1
        oldest = {}
        self._tidy()
        for waits_for, heap in self._by_age.items():
            while heap and self._waiting.get(heap[0][1]) != (waits_for, heap[0][0]):
                heapq.heappop(heap)
            if heap:
                oldest[waits_for] = heap[0][0]
        ahead = {seconds: (micros + seconds * SECOND) // _MINUTE for seconds in WITHIN}
        due_soon = dict.fromkeys(WITHIN, 0)
        for minute, count in self._due.items():
            for seconds, upto in ahead.items():
                if minute <= upto:
                    due_soon[seconds] += count
        return ItemFigures(
            outcomes=dict(self._outcomes),
            open=dict(self._open),
            oldest=oldest,
            due_soon=due_soon,
            paused=dict(self._paused),
            takedowns=dict(self._takedowns),
            completed=dict(self._completed),
            handling={tier: histogram.copy() for tier, histogram in self._handling.items()},
            durations={stage: histogram.copy() for stage, histogram in self._durations.items()},
            audits=dict(self._audits),
        )

    def oldest(self, most: int) -> list[tuple[int, Where, str]]:
        """The items open for longest: (since, where, key), oldest first. Reads every open item."""
        waiting = ((received, waits_for, key) for key, (waits_for, received) in self._waiting.items())
        return heapq.nsmallest(most, waiting)

    def _tidy(self) -> None:
        """Rebuild heaps that consist mostly of stale entries."""
        for waits_for, heap in self._by_age.items():
            if len(heap) > 2 * len(self._waiting) + 1000:
                entries = [(received, key) for key, (at, received) in self._waiting.items() if at == waits_for]
                heapq.heapify(entries)
                self._by_age[waits_for] = entries
        if len(self._over) > 2 * len(self._running) + 1000:
            self._over = [(until, *which) for which, until in self._running.items()]
            heapq.heapify(self._over)

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """Counts that depend only on verification's events: states, outcomes, takedowns, recorded open items."""
        found = {f"state/{state}": count for state, count in self._states.items()}
        found |= {f"sla/{'/'.join(outcome)}": count for outcome, count in self._outcomes.items()}
        found |= {f"takedown/{'/'.join(outcome)}": count for outcome, count in self._takedowns.items()}
        found |= {f"open/{waits_for}/{tier}": n for (waits_for, tier), n in self._open.items() if waits_for != "intake"}
        found |= {f"paused/{reason}": count for reason, count in self._paused.items()}
        found |= {f"audit/{audit}": count for audit, count in self._audits.items()}
        return {name: count for name, count in found.items() if count}


VIEW: Final = views.View(
    name="items",
    reads=(topics.INTAKE, topics.VERIFICATION, topics.NOTIFICATION, topics.ENFORCEMENT),
    state=Item,
    key=key,
    fold=fold,
    totals=Totals,
)
