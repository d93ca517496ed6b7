"""Compares what the life cycle makes of recorded inputs under two policies. Pure.

``Replay`` runs the items of one listing through the engine, as the worker does; only items of the same listing can
influence each other (row 2). A second replay, under other policies, follows the first (``lead``). Where an item is in
the same situation, it gets what was recorded. What must have happened differently is made up at once: a notice that
was not sent, a receipt for a hold that was not set. A reviewer's decision counts only in the state it was made in.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.verification import lifecycle
from services.verification.item import UPHELD, Bounds, Facts, Item, Notice, Outcome, PastDecision, Reopened, past_of
from shared.events import (
    ChangeRight,
    Command,
    Decide,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    Listing,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    State,
    Triage,
)
from shared.policy import Policy, SignalName
from shared.policy import Triage as TriageRules

FIRST: Final = frozenset(
    {State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.REJECTED, State.NOTIFIED, State.WITHDRAWN}
)
"""States that are a first decision about an item: the seller is notified, or the item ends."""
FAILED: Final = frozenset({State.REJECTED, State.RESTORED})
UNREACHED: Final = "state_not_reached"
"""Code that counts recorded decisions which an item does not get: it is not in the state they were made in."""
MADE_UP: Final = "backtest"
EXAMPLES: Final = 5
_TIMERS_MOST: Final = 10_000

Policies = Callable[[ItemSubmitted], Policy]


class Input(Struct, frozen=True):
    """A recorded event. ``wall`` orders it among the partition's timers; ``now``: business time of its judgement."""

    wall: dt.datetime
    now: dt.datetime
    data: ItemSubmitted | Command | NoticeSent | NoticeUnreached | HoldChanged | PicturesCompared | Listing


class Timeline:
    """How far a partition's timers had fired, by wall time.

    Args:
        steps: (wall, latest deadline that had fired by then, business time then), each ascending.
        end: the watermark up to which timers fire after the last input; None: no more timers fire.
    """

    def __init__(
        self, steps: Iterable[tuple[dt.datetime, dt.datetime, dt.datetime]] = (), end: dt.datetime | None = None
    ) -> None:
        self._walls: list[dt.datetime] = []
        self._marks: list[dt.datetime] = []
        self._nows: list[dt.datetime] = []
        for wall, mark, now in steps:
            if not self._marks or mark > self._marks[-1]:
                self._walls.append(wall)
                self._marks.append(mark)
                self._nows.append(now)
        self.end = end

    def before(self, wall: dt.datetime) -> dt.datetime | None:
        """The latest deadline that had fired before the transaction at ``wall``; None if none had."""
        index = bisect_left(self._walls, wall)
        return self._marks[index - 1] if index else None

    def fired(self, due: dt.datetime) -> tuple[dt.datetime | None, dt.datetime]:
        """Wall time (None: after the last input) and business time of the transaction in which a deadline fired."""
        index = bisect_left(self._marks, due)
        if index < len(self._nows):
            return self._walls[index], max(self._nows[index], due)
        return None, due if self.end is None else max(self.end, due)


class Spell:
    """A period in which an item waits for a notice to be sent."""

    __slots__ = ("at", "done", "revision", "turn", "visit")

    def __init__(self, turn: int, item: Item, at: dt.datetime) -> None:
        self.turn = turn
        self.revision = item.revision
        self.visit = item.visit
        self.at = at
        self.done = False


class Result(Struct, frozen=True):
    """The outcome of an item."""

    first: State | None
    state: State
    upheld: bool
    held: bool
    taken_down: bool
    sla: str | None


class Track:
    """An item's course under one policy."""

    __slots__ = ("filed", "first", "holds", "last", "notices", "policy", "receipts", "spells", "taken_down")

    def __init__(self, filed: ItemSubmitted, policy: Policy) -> None:
        self.filed = filed
        self.policy = policy
        self.first: State | None = None
        self.taken_down = False
        self.last: ItemChanged | None = None
        self.spells: dict[Notice, list[Spell]] = {}
        self.notices: dict[tuple[Notice, int], int] = {}
        """(kind, which spell) -> turn of the recorded notice."""
        self.holds: list[int] = []
        self.receipts: list[int] = []


class Past(Struct, frozen=True):
    """What is known of signals that cannot be computed again as they were."""

    violations: int | None = None
    title_similarity: Bounds | None = None


class Replay:
    """Runs the items of one listing under the policies that ``policies`` returns for them.

    Args:
        inputs: in the order in which they were judged.
        lead: the replay of the same inputs under the policies they were recorded under.
        nows: exact business time of transactions by wall time, where known; it overrides the timeline.
        pasts: by item, what its recorded triage tells (``past``).

    Attributes:
        applied: number of commands that changed an item.
        refused: number of refused commands, by code.
        made_up: number of notices and receipts made up because none was recorded.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        timeline: Timeline,
        policies: Policies,
        lead: Replay | None = None,
        nows: Mapping[dt.datetime, dt.datetime] | None = None,
        pasts: Mapping[str, Past] | None = None,
    ) -> None:
        self._timeline = timeline
        self._policies = policies
        self._lead = lead
        self._nows = nows or {}
        self._pasts = pasts or {}
        # what was told of pictures concerned what the item is judged on; what that is was not recorded with the inputs
        self._contents = {one.data.item: one.data.content for one in inputs if isinstance(one.data, PicturesCompared)}
        self.items: dict[str, Item] = {}
        self.tracks: dict[str, Track] = {}
        self.applied = 0
        self.refused: defaultdict[str, int] = defaultdict(int)
        self.made_up: defaultdict[str, int] = defaultdict(int)
        self.seen: dict[int, Any] = {}
        """By turn: which spell a notice was for; the states a decision was made in, and whether it was stale."""
        self._listing: Listing | None = None
        self._blocking: dict[tuple[str, str], list[str]] = {}
        self._past: list[PastDecision] = []
        """Decisions about the listing when the transaction began."""
        self._wall: dt.datetime | None = None
        self._turn = 0
        """Turn of the next input."""
        for turn, given in enumerate(inputs):
            upto = timeline.before(given.wall)
            if upto is not None:
                self._fire(upto)
            self._turn = turn + 1
            self._begin(given.wall)
            self._apply(turn, given)
        self._turn = len(inputs)
        if timeline.end is not None:
            self._fire(timeline.end)
        if lead is not None and self._overdue(lead) and timeline.end is not None:
            self._fire(timeline.end)

    def result(self, item: str) -> Result:
        """The outcome of an item."""
        found, track = self.items[item], self.tracks[item]
        return Result(track.first, found.state, found.upheld, found.held, track.taken_down, found.sla)

    # ---- inputs

    def _begin(self, wall: dt.datetime | None) -> None:
        """Begin a transaction unless ``wall`` is the present one's: the worker reads past decisions once in each."""
        if wall is None or wall != self._wall:
            self._wall = wall
            self._past = [
                PastDecision(item.listing, item.right, item.reason, item.item, item.state in UPHELD)
                for item in self.items.values()
                if item.state in UPHELD or item.state in FAILED
            ]

    def _apply(self, turn: int, given: Input) -> None:
        data = given.data
        if isinstance(data, Listing):
            self._listing = data
            waiting = [item for item in self.items.values() if item.waits]
            for item in sorted(waiting, key=_age):
                self._judge(item.item, data, given.now)
            return
        if isinstance(data, ItemSubmitted):
            if data.item not in self.tracks:
                self.tracks[data.item] = Track(data, self._policies(data))
            self._judge(data.item, data, given.now)
            return
        track = self.tracks.get(data.item)
        if track is None:
            if isinstance(data, Command) and not isinstance(data, ChangeRight):
                self.refused["unknown_item"] += 1
            return
        if isinstance(data, NoticeSent):
            self._notice(turn, track, data, given.now)
        elif isinstance(data, NoticeUnreached):
            self._unreached(turn, track, data, given.now)
        elif isinstance(data, HoldChanged):
            if data.held:
                track.receipts.append(turn)
            self._judge(data.item, data, given.now)
        elif isinstance(data, Decide):
            self._decision(turn, data, given.now)
        else:
            self._judge(data.item, data, given.now)

    def _notice(self, turn: int, track: Track, data: NoticeSent, now: dt.datetime) -> None:
        spells = track.spells.get(data.kind, [])
        if self._lead is None:
            which = sum(spell.revision <= data.revision for spell in spells)
            self.seen[turn] = which
            track.notices.setdefault((data.kind, which), turn)
        else:
            which = self._lead.seen[turn]
            if which > len(spells) or (which and spells[which - 1].done):
                return  # its state does not come, comes later, or has had its notice
            if which:
                recorded = self._lead.tracks[data.item].spells[data.kind][which - 1].revision
                if spells[which - 1].revision != recorded:
                    data = msgspec.structs.replace(data, revision=spells[which - 1].revision)
        before = self.items.get(data.item)
        self._judge(data.item, data, now)
        # a notice that opened nothing (of a revision that does not exist) leaves the spell to one that does
        if which and self.items.get(data.item) is not before:
            spells[which - 1].done = True

    def _unreached(self, turn: int, track: Track, data: NoticeUnreached, now: dt.datetime) -> None:
        """A seller was not reached. Where the policy proceeds all the same, its notice counts as sent."""
        spells = track.spells.get(data.kind, [])
        if self._lead is None:
            which = self.seen[turn] = sum(spell.revision <= data.revision for spell in spells)
        else:
            which = self._lead.seen[turn]
            if not 0 < which <= len(spells) or spells[which - 1].done:
                return  # its state does not come, comes later, or has had its notice
            data = msgspec.structs.replace(data, revision=spells[which - 1].revision)
        if which and track.policy.sellers.unreachable == "proceed":
            self._judge(data.item, self._make_up(self.items[data.item], data.kind, spells[which - 1]), now)
        else:
            self._judge(data.item, data, now)

    def _decision(self, turn: int, data: Decide, now: dt.datetime) -> None:
        item = self.items[data.item]
        here = {item.state} if item.lapse is None else {item.state, item.lapse.frame.state}
        if self._lead is None:
            before = self.refused.get("stale", 0)
            self._judge(data.item, data, now)
            self.seen[turn] = here, self.refused.get("stale", 0) > before
            return
        there, stale = self._lead.seen[turn]
        if not here & there:
            self.refused[UNREACHED] += 1
            return
        # revisions differ under this policy
        self._judge(data.item, msgspec.structs.replace(data, revision=0 if stale else None), now)

    # ---- judging

    def _facts(self, item: str, right: str, reason: str) -> Facts:
        blocking = self._blocking.get((right, reason))
        original = blocking[0] if blocking else None
        listing = self._listing
        ours = listing is not None and listing.state in ("suspended", "removed")
        failed, upheld = past_of(self._past, right, reason, item)
        known = self._pasts.get(item, Past())
        return Facts(
            listing=listing,
            original=None if original == item else original,
            failed_before=failed,
            upheld_here=upheld,
            seller_violations=known.violations,
            title_similarity=known.title_similarity,
            ours=ours,
            content=self._contents.get(item),
        )

    def _judge(self, name: str, event: lifecycle.Event, now: dt.datetime) -> None:
        track, before = self.tracks[name], self.items.get(name)
        facts = self._facts(name, track.filed.right, track.filed.reason)
        outcome = lifecycle.decide(before, event, facts, track.policy, now)
        if isinstance(event, Command):
            if outcome.refused is not None:
                self.refused[outcome.refused.code] += 1
            elif outcome.ignored is None:
                self.applied += 1
        self._take(track, before, outcome, now)

    def _take(self, track: Track, before: Item | None, outcome: Outcome, now: dt.datetime) -> None:
        after = outcome.item
        if after is None or after is before:
            return
        self.items[after.item] = after
        blocking = self._blocking.setdefault((after.right, after.reason), [])
        if after.blocks:
            if after.item not in blocking:
                blocking.append(after.item)
        elif after.item in blocking:
            blocking.remove(after.item)
        at = now
        for change in outcome.changes:
            at = change.at
            track.last = change.data
            track.taken_down = track.taken_down or change.data.held
            if track.first is None:
                track.first = next((state for state in (*change.data.via, change.data.state) if state in FIRST), None)
        due: list[NoticeSent | HoldChanged] = []
        for kind in after.awaits:
            if before is None or kind not in before.awaits:
                due += self._awaits(track, after, kind, at)
        if after.held and not (before is not None and before.held):
            due += self._held(track, after, at)
        if outcome.released:
            for item in sorted(self._duplicates(after.item), key=_age):
                self._judge(item.item, Reopened(item=item.item, original=after.item), now)
        for event in due:
            self._judge(after.item, event, at)

    def _duplicates(self, original: str) -> list[Item]:
        return [item for item in self.items.values() if item.state is State.DUPLICATE and item.original == original]

    # ---- what was not recorded

    def _awaits(self, track: Track, item: Item, kind: Notice, at: dt.datetime) -> list[NoticeSent]:
        spells = track.spells.setdefault(kind, [])
        if spells and spells[-1].visit == item.visit and not spells[-1].done:
            return []  # the item returned to the state: the same spell goes on
        spell = Spell(self._turn, item, at)
        spells.append(spell)
        if self._lead is None or self._told(self._lead.tracks[item.item], kind, len(spells), spell):
            return []
        return [self._make_up(item, kind, spell)]

    def _told(self, lead: Track, kind: Notice, which: int, spell: Spell) -> bool:
        """Whether the notice was recorded for the same spell and is still to come, or was not sent there either."""
        there = lead.spells.get(kind, [])
        if which > len(there) or there[which - 1].turn > spell.turn:
            return False
        recorded = lead.notices.get((kind, which))
        if recorded is None:
            return there[which - 1].turn == spell.turn and there[which - 1].revision == spell.revision
        return recorded >= spell.turn

    def _make_up(self, item: Item, kind: Notice, spell: Spell) -> NoticeSent:
        spell.done = True
        self.made_up["notices"] += 1
        return NoticeSent(
            item=item.item,
            claim=item.claim,
            listing=item.listing,
            message=MADE_UP,
            kind=kind,
            revision=spell.revision,
            sent_at=spell.at,
        )

    def _held(self, track: Track, item: Item, at: dt.datetime) -> list[HoldChanged]:
        track.holds.append(self._turn)
        if self._lead is None or item.handled_at is not None:
            return []
        lead = self._lead.tracks[item.item]
        index = bisect_right(lead.holds, self._turn)
        if index:
            hold = lead.holds[index - 1]
            receipt = next((turn for turn in lead.receipts if turn >= hold), None)
            if hold == self._turn if receipt is None else receipt >= self._turn:
                return []
        self.made_up["receipts"] += 1
        return [HoldChanged(item=item.item, claim=item.claim, listing=item.listing, held=True, at=at)]

    def _overdue(self, lead: Replay) -> bool:
        """Make up notices that the lead did not send because its item moved on, while here it still waits.

        Returns whether there were any.
        """
        found = False
        for item in list(self.items.values()):
            if item.unreached:
                continue  # its notice was recorded as read by nobody
            for kind in item.awaits:
                spell = self.tracks[item.item].spells[kind][-1]
                if not spell.done and kind not in lead.items[item.item].awaits:
                    self._judge(item.item, self._make_up(item, kind, spell), spell.at)
                    found = True
        return found

    # ---- timers

    def _fire(self, upto: dt.datetime) -> None:
        for _ in range(_TIMERS_MOST):
            due = [item for item in self.items.values() if item.timers and item.timers[0].due <= upto]
            if not due:
                return
            before = min(due, key=_next)
            track = self.tracks[before.item]
            wall, now = self._timeline.fired(before.timers[0].due)
            if wall is not None:
                now = self._nows.get(wall, now)
            self._begin(wall)
            outcome = lifecycle.fire(before, self._facts(before.item, before.right, before.reason), track.policy, upto)
            self._take(track, before, outcome, now)


def bounds(signal: SignalName, fired: Collection[str], rules: TriageRules) -> Iterator[Bounds]:
    """The ranges of a signal in which of its rules exactly those fire that fired, ascending; none without such rules."""
    about = {name: rule for name, rule in rules.rules.items() if rule.signal == signal and not rule.needs_settled}
    limits = {
        name: (
            -math.inf if rule.at_least is None else rule.at_least,
            math.inf if rule.at_most is None else rule.at_most,
        )
        for name, rule in about.items()
    }
    starts = {start for low, high in limits.values() for start in (low, math.nextafter(high, math.inf))}
    edges = sorted({-math.inf, *starts, math.inf}) if about else []
    for low, after in pairwise(edges):
        if all((least <= low <= most) == (name in fired) for name, (least, most) in limits.items()):
            high = math.nextafter(after, -math.inf) if after < math.inf else math.inf
            yield Bounds(low, high, known=any(name in fired for name in about))


def violations(fired: Collection[str], rules: TriageRules) -> int | None:
    """The smallest number of claims upheld against the seller at which the recorded rules about it fire; None if none.

    The true number concerns other listings and is not recorded.
    """
    numbers = ((math.ceil(max(0, found.low)), found.high) for found in bounds("seller_violations", fired, rules))
    return next((number for number, high in numbers if number <= high), None)


def past(weighed: Sequence[Triage], rules: TriageRules) -> Past:
    """What the recorded triages of an item tell, each time it came to review: exactly, if they kept their signals."""
    if all(told.signals for told in weighed):
        known = weighed[0].signals.get("seller_violations")
        exact = {told.signals.get("title_similarity") for told in weighed}
        title = exact.pop() if len(exact) == 1 else None
        return Past(None if known is None else int(known), None if title is None else Bounds(title, title, known=True))
    titles = {next(bounds("title_similarity", told.rules, rules), None) for told in weighed}
    return Past(violations(weighed[0].rules, rules), titles.pop() if len(titles) == 1 else None)


def _age(item: Item) -> tuple[dt.datetime, str]:
    return item.received_at, item.item


def _next(item: Item) -> tuple[dt.datetime, str]:
    return item.timers[0].due, item.item


# ------------------------------------------------------------------------------------------------------------ comparing


class Tally:
    """Sums over all compared items. ``top``: how many complainants to list at most."""

    def __init__(self, top: int = 100) -> None:
        self._top = top
        self.items = self.changed = 0
        self.fields: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}
        self.reason_items: Counter[str] = Counter()
        self.reason_changed: Counter[str] = Counter()
        self.complainant_items: Counter[str] = Counter()
        self.complainant_changed: Counter[str] = Counter()
        self.open_at_end = 0
        self.compared = self.agreed = 0
        self.differences: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.commands: dict[str, Counter[str]] = {"old": Counter(), "new": Counter()}
        self.made_up: Counter[str] = Counter()

    def replays(self, old: Replay, new: Replay) -> None:
        """Count what a listing's replays did with commands, and what was made up."""
        for name, replay in (("old", old), ("new", new)):
            self.commands[name]["applied"] += replay.applied
            self.commands[name].update(replay.refused)
        self.made_up.update(new.made_up)

    def outcome(self, filed: ItemSubmitted, old: Result, new: Result, *, settled: bool) -> None:
        """Compare an item's outcomes under both policies. ``settled``: the new one is final."""
        self.items += 1
        self.reason_items[filed.reason] += 1
        self.complainant_items[filed.complainant] += 1
        if old == new:
            return
        self.changed += 1
        self.open_at_end += not settled
        self.reason_changed[filed.reason] += 1
        self.complainant_changed[filed.complainant] += 1
        for name in Result.__struct_fields__:
            self.fields[name] += getattr(old, name) != getattr(new, name)
        move = f"{old.state} -> {new.state}"
        self.transitions[move] += 1
        self.reasons.setdefault(filed.reason, Counter())[move] += 1

    def stored(self, item: str, simulated: ItemChanged | None, stored: ItemChanged | None) -> None:
        """Compare an item's last simulated change with the last one in verification's log."""
        self.compared += 1
        # what a triage looked at is its input: what it found of it is compared
        simulated, stored = _without_signals(simulated), _without_signals(stored)
        if simulated == stored:
            self.agreed += 1
            return
        kind = difference(simulated, stored)
        self.differences[kind] += 1
        found = self.examples.setdefault(kind, [])
        if len(found) < EXAMPLES:
            found.append(item)

    @property
    def agreement(self) -> float | None:
        """Share of the compared items whose simulation equals what is stored; None if none was compared."""
        return self.agreed / self.compared if self.compared else None

    def as_json(self) -> dict[str, Any]:
        """The printed form: ids and counts only."""
        agreement = self.agreement
        return {
            "items": self.items,
            "changed": self.changed,
            "changed_but_open": self.open_at_end,
            # rounded down: 1 means all of them
            "agreement": agreement if agreement is None else int(agreement * 1_000_000) / 1_000_000,
            "compared": self.compared,
            "agreed": self.agreed,
            "differences": [
                {"kind": kind, "count": count, "examples": self.examples[kind]}
                for kind, count in self.differences.most_common()
            ],
            "fields": {name: count for name, count in self.fields.items() if count},
            "transitions": dict(self.transitions.most_common()),
            "by_reason": {
                reason: {
                    "items": count,
                    "changed": self.reason_changed[reason],
                    "transitions": dict(self.reasons.get(reason, Counter()).most_common()),
                }
                for reason, count in sorted(self.reason_items.items())
            },
            "by_complainant": [
                {"complainant": name, "items": self.complainant_items[name], "changed": count}
                for name, count in sorted(self.complainant_changed.items(), key=lambda pair: (-pair[1], pair[0]))[
                    : self._top
                ]
            ],
            "commands": {
                name: {"applied": 0, **dict(sorted(counts.items()))} for name, counts in self.commands.items()
            },
            "made_up": {name: self.made_up[name] for name in ("notices", "receipts")},
        }


def _without_signals(change: ItemChanged | None) -> ItemChanged | None:
    if change is None or change.triage is None or not change.triage.signals:
        return change
    return msgspec.structs.replace(change, triage=msgspec.structs.replace(change.triage, signals={}))


def difference(simulated: ItemChanged | None, stored: ItemChanged | None) -> str:
    """How two forms of an item differ: both states, or the names of the fields."""
    if simulated is None or stored is None:
        return "not judged" if stored is None else "not simulated"
    if simulated.state != stored.state:
        return f"state: {stored.state} stored, {simulated.state} simulated"
    names = ItemChanged.__struct_fields__
    return ", ".join(name for name in names if getattr(simulated, name) != getattr(stored, name))
