"""How a standing came about: every entry, the rule that made it, and the sums, replayed from the ledger alone. Pure.

No stored sum is trusted. The ledger is walked in the order in which it was written, ``penalties`` assesses each entry
again on what stood before it, and every difference is reported. An entry counts as wrong only while it stands: one that
was reversed may have been right by the rules of its time. Sanctions are shown as stored; ``goodfaith verify`` decides
them again.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec.structs import replace

from services.enforcement import offenders, penalties, sanctions
from services.enforcement.penalties import BEGIN, NEVER, Entry, Penalty, Seller, Tail
from shared.policy import Penalties
from shared.standing import Explanation, Record, Rule, Sanction, Standing, Step

STEPS_MOST: Final = 1000
"""Default limit of the steps in an explanation; it shows the latest."""
What = Literal["entered", "reversed", "expired", "forgotten"]
InForce = tuple[dt.datetime, str, penalties.Severity]
"""(at, claim, severity) of a violation in force."""


def number_of(entry: str) -> int:
    """Number of an entry among its seller's, in order of writing; 0 if this is no entry's id."""
    tail = entry.rpartition(".")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 10 else 0


@dataclass(slots=True)
class _Unreversed:
    """What stands of the ledger during a walk: unreversed entries in order of effect, with the tails between them."""

    rules: Penalties
    keys: list[tuple[dt.datetime, str]] = field(default_factory=list)
    entries: list[Record] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    """``tails[n]``: the tail after the first n + 1 entries; shorter than ``keys`` after entries came or went."""

    def index(self, key: tuple[dt.datetime, str]) -> int:
        return bisect.bisect_left(self.keys, key)

    def before(self, index: int) -> Tail:
        """The tail on which an assessment at ``index`` depends."""
        while len(self.tails) < index:
            record = self.entries[len(self.tails)]
            last = self.tails[-1] if self.tails else BEGIN
            self.tails.append(penalties.step(last, record.effective_at, record.claim, record.ledger, self.rules)[1])
        return self.tails[index - 1] if index else BEGIN

    def add(self, record: Record) -> tuple[Tail, Penalty]:
        """Insert an entry in order; returns (the tail before it, what it should cost)."""
        key = (record.effective_at, record.claim)
        index = self.index(key)
        before = self.before(index)
        penalty, _ = penalties.step(before, record.effective_at, record.claim, record.ledger, self.rules)
        self.keys.insert(index, key)
        self.entries.insert(index, record)
        del self.tails[index:]
        return before, penalty

    def remove(self, record: Record) -> bool:
        key = (record.effective_at, record.claim)
        index = self.index(key)
        if index == len(self.keys) or self.entries[index].entry != record.entry:
            return False
        del self.keys[index], self.entries[index], self.tails[index:]
        return True


def rule_of(tail: Tail, penalty: Penalty, rules: Penalties) -> Rule:
    """The rule that gives an entry after ``tail`` the points that it should have."""
    if penalty.ledger == "serious":
        return "strike" if penalty.points else "grouped"
    expires = rules.general.expires.exact
    repeated = tail.general != NEVER and penalty.effective_at - tail.general < expires
    full = rules.general.repeat if repeated else rules.general.first
    if penalty.points < full:
        return "capped"
    return "repeat" if repeated else "first"


class _Walk:
    """One walk through a ledger."""

    def __init__(self, seller: str, rules: Penalties) -> None:
        self.rules = rules
        self.stood = _Unreversed(rules)
        self.seller = Seller(seller, 0)
        self.steps: list[Step] = []
        self.differences: list[str] = []
        self.wrong: dict[str, str] = {}
        """What is wrong with entries that stand."""
        self.levels = (0, 0)
        self.known: dict[str, Record] = {}
        self.pointed: set[str] = set()
        """Entries whose points count."""
        self.live = 0
        """Number of general entries among them: the first violation warns, though it costs nothing."""
        self.remembered: set[str] = set()
        """Entries whose violation counts."""

    def sums(self) -> tuple[int, int, int]:
        return self.seller.general_points, self.seller.serious_strikes, self.seller.violations

    def add(self, record: Record, sign: int) -> None:
        if record.ledger == "general":
            self.seller.general_points += sign * record.points
            self.live += sign
        else:
            self.seller.serious_strikes += sign * record.points

    def note(self, at: dt.datetime, what: What, record: Record, points: int, **more: object) -> None:
        general, serious, violations = self.sums()
        step = Step(
            at=at,
            what=what,
            entry=record.entry,
            claim=record.claim,
            ledger=record.ledger,
            points=points,
            effective_at=record.effective_at,
            expires_at=record.expires_at,
            general_points=general,
            serious_strikes=serious,
            violations=violations,
            **more,  # type: ignore[arg-type]
        )
        self.steps.append(step)

    def settle(self) -> None:
        """End a moment: say which thresholds it crossed. What it reversed and entered again crossed none."""
        general, serious, _ = self.sums()
        levels = (
            sanctions.reached(general, self.live, self.rules, "general"),
            sanctions.reached(serious, 0, self.rules, "serious"),
        )
        for ledger, old, new, part in (
            ("general", self.levels[0], levels[0], self.rules.general),
            ("serious", self.levels[1], levels[1], self.rules.serious),
        ):
            if old != new:
                sign, passed = ("+", range(old + 1, new + 1)) if new > old else ("-", range(old, new, -1))
                words = tuple(f"{sign}{ledger} {n} {part.thresholds[n - 1].consequence}" for n in passed)
                index = self._last_of(ledger)
                self.steps[index] = replace(self.steps[index], crossed=(*self.steps[index].crossed, *words))
        self.levels = levels

    def _last_of(self, ledger: str) -> int:
        """Index of the moment's last step that changed the ledger's sum; its last step if none did."""
        end = len(self.steps) - 1
        index = end
        while index >= 0 and self.steps[index].at == self.steps[end].at:
            if self.steps[index].ledger == ledger and self.steps[index].points:
                return index
            index -= 1
        return end

    def enter(self, record: Record) -> None:
        self.known[record.entry] = record
        before, penalty = self.stood.add(record)
        ought = (penalty.ledger, penalty.points, penalty.effective_at, penalty.expires_at)
        is_ = (record.ledger, record.points, record.effective_at, record.expires_at)
        wrong = None
        if ought != is_:
            wrong = f"{penalty.points} points until {penalty.expires_at:%Y-%m-%d %H:%M}"
            self.wrong[record.entry] = f"{record.entry}: {record.points} {record.ledger}, the rules make {wrong}"
        rule = rule_of(before, penalty, self.rules)
        grouped = None
        if rule == "grouped":
            strikes = [e for e in self.stood.entries if e.ledger == "serious" and e.effective_at == before.strike]
            grouped = strikes[0].claim if strikes else None
        day = before.points if before.general.date() == record.effective_at.date() else 0
        points = 0
        if record.expires_at > record.recorded_at:
            self.pointed.add(record.entry)
            self.add(record, 1)
            points = record.points
        if record.effective_at + self.rules.repeat_offender.within.exact > record.recorded_at:
            self.remembered.add(record.entry)
            self.seller.violations += 1
        self.note(
            record.recorded_at,
            "entered",
            record,
            points,
            rule=rule,
            wrong=wrong,
            grouped_with=grouped,
            day_before=day if rule in ("repeat", "capped") else 0,
        )

    def reverse(self, record: Record, *, reassessed: bool) -> None:
        taken = self.known.get(record.reverses or "")
        if taken is None or not self.stood.remove(taken):
            self.differences.append(f"{record.entry}: reverses {record.reverses}, which does not stand")
            return
        self.wrong.pop(taken.entry, None)
        is_ = (record.points, record.claim, record.ledger, record.effective_at, record.expires_at)
        if is_ != (-taken.points, taken.claim, taken.ledger, taken.effective_at, taken.expires_at):
            self.differences.append(f"{record.entry}: is not the reverse of {taken.entry}")
        points = 0
        if taken.entry in self.pointed:
            self.pointed.discard(taken.entry)
            self.add(taken, -1)
            points = -taken.points
        if taken.entry in self.remembered:
            self.remembered.discard(taken.entry)
            self.seller.violations -= 1
        self.note(record.recorded_at, "reversed", record, points, reverses=taken.entry, reassessed=reassessed)

    def expire(self, at: dt.datetime, record: Record) -> None:
        """End an entry's points, its violation, or both at once."""
        points = 0
        ended = False
        if record.entry in self.pointed and record.expires_at <= at:
            self.pointed.discard(record.entry)
            self.add(record, -1)
            points, ended = -record.points, True
        forgotten = (
            record.entry in self.remembered and record.effective_at + self.rules.repeat_offender.within.exact <= at
        )
        if forgotten:
            self.remembered.discard(record.entry)
            self.seller.violations -= 1
        if ended or forgotten:
            self.note(at, "expired" if ended else "forgotten", record, points)


def explain(
    seller: str,
    records: Sequence[Record],
    in_force: Iterable[InForce],
    stored: Standing,
    rules: Penalties,
    policy: str,
    now: dt.datetime,
    *,
    account: sanctions.Account | None = None,
    at: dt.datetime | None = None,
    most: int | None = STEPS_MOST,
) -> Explanation:
    """How the seller's standing ``at`` a time came about, from what had been entered by then.

    ``agrees`` and ``differences`` cover everything that is stored, whatever ``at`` is.

    Args:
        records: all entries ever written for the seller.
        in_force: its violations in force, as stored.
        stored: its standing, as stored.
        account: all its sanctions and what the marketplace was told, as stored.
        at: business time; None: now.
        most: steps to show at most; None: all.
    """
    upto = now if at is None else min(at, now)
    walk = walked(seller, records, rules, upto)
    whole = walk if upto == now else walked(seller, records, rules, now)
    differences = [*whole.differences, *whole.wrong.values(), *_against(whole, in_force)]
    if stored.changed_at is None:
        if records:
            differences.append("there are entries, and no standing")
    else:
        # the standing is exact for the time at which it was last counted
        then = whole if stored.changed_at >= now else walked(seller, records, rules, stored.changed_at)
        offences = max(then.seller.violations, stored.entity_violations)
        counted = (*then.sums(), offences >= rules.repeat_offender.violations)
        kept = (stored.general_points, stored.serious_strikes, stored.violations, stored.repeat_offender)
        if counted != kept:
            differences.append(
                f"the standing of {stored.changed_at:%Y-%m-%d %H:%M} is {kept}, the ledger makes {counted}"
            )
        if stored.next_change is not None and stored.next_change <= now:
            differences.append(f"the standing should have been counted again at {stored.next_change:%Y-%m-%d %H:%M}")
        if account is not None:
            differences += unanswered(account, then.stood.entries, rules, policy, stored.changed_at)
    general, serious, violations = walk.sums()
    steps = walk.steps if most is None else walk.steps[-most:]
    return Explanation(
        seller=seller,
        at=upto,
        policy=policy,
        steps=steps,
        left_out=len(walk.steps) - len(steps),
        general_points=general,
        serious_strikes=serious,
        violations=violations,
        repeat_offender=violations >= rules.repeat_offender.violations,
        tier=offenders.tier_of(violations, rules.repeat_offender),
        general_level=walk.levels[0],
        serious_level=walk.levels[1],
        stored=stored,
        sanctions=shown(account.sanctions, rules, upto) if account is not None else [],
        agrees=not differences,
        differences=differences[:100],
    )


def walked(seller: str, records: Sequence[Record], rules: Penalties, upto: dt.datetime) -> _Walk:
    """Walk through what was entered, and what expired, up to a time."""
    written = sorted((r for r in records if r.recorded_at <= upto), key=lambda r: number_of(r.entry))
    again = {(r.claim, r.recorded_at) for r in written if r.kind == "violation"}
    within = rules.repeat_offender.within.exact
    # at the same moment, ends come before entries: what expires then no longer counts
    happens: list[tuple[dt.datetime, int, int, Record]] = []
    for index, record in enumerate(written):
        happens.append((record.recorded_at, 1, index, record))
        if record.kind == "violation":
            ends = {record.expires_at, record.effective_at + within}
            happens += [(end, 0, index, record) for end in ends if record.recorded_at < end <= upto]
    happens.sort(key=lambda entry: entry[:3])
    walk = _Walk(seller, rules)
    last = None
    for at, order, _, record in happens:
        if at != last:
            walk.settle()
            last = at
        if not order:
            walk.expire(at, record)
        elif record.kind == "violation":
            walk.enter(record)
        else:
            walk.reverse(record, reassessed=(record.claim, record.recorded_at) in again)
    walk.settle()
    return walk


def _against(walk: _Walk, in_force: Iterable[InForce]) -> list[str]:
    """Differences between the entries that stand and what the violations in force should cost together."""
    found = []
    wanted, _ = penalties.assess(in_force, walk.rules)
    stands = {record.claim: record for record in walk.stood.entries}
    if len(stands) != len(walk.stood.entries):
        found.append("a claim has two entries that stand")
    for penalty in wanted:
        record = stands.pop(penalty.claim, None)
        if record is None:
            found.append(f"{penalty.claim}: a violation is in force, and no entry stands")
        elif (record.ledger, record.points, record.effective_at, record.expires_at) != (
            penalty.ledger,
            penalty.points,
            penalty.effective_at,
            penalty.expires_at,
        ):
            found.append(
                f"{penalty.claim}: {record.points} {record.ledger} stand, it should be {penalty.points} {penalty.ledger}"
            )
    found += [f"{claim}: an entry stands, and no violation is in force" for claim in stands]
    return found


def unanswered(
    account: sanctions.Account, entries: Iterable[Record], rules: Penalties, policy: str, at: dt.datetime
) -> list[str]:
    """Differences between a seller's own thresholds and its sanctions. Ignores the thresholds of its entity.

    Args:
        entries: those that stand.
        at: when the seller was last judged.
    """
    found = []
    if account.open_grounds.rules == policy:  # else it is still to be judged by these rules
        stands = [Entry(r.entry, Penalty(r.claim, r.ledger, r.points, r.effective_at, r.expires_at)) for r in entries]
        grounds = sanctions.grounds(stands, rules, at)
        answers = [(s.ledger, s.level) for s in account.sanctions if s.stands]
        for ledger, level in sorted({(g.ledger, g.level) for g in grounds if g.fell_at is None}):
            if (ledger, level) not in answers:
                found.append(f"threshold {ledger} {level} is reached, and no sanction answers it")
        for s in account.sanctions:
            reached = any(
                (g.ledger, g.level) == (s.ledger, s.level) and (g.fell_at is None or g.fell_at > s.began)
                for g in grounds
            )
            if s.scope == "own" and (s.in_force or s.stands) and not reached:
                found.append(f"sanction {s.sanction} stands, and threshold {s.ledger} {s.level} was not reached")
    wanted, until = sanctions.in_force(account.sanctions)
    if (wanted, until) != (account.measures, account.until):
        found.append(
            f"in force: {', '.join(wanted) or 'nothing'}; the marketplace was told {', '.join(account.measures) or 'nothing'}"
        )
    return found


def shown(found: Iterable[sanctions.Sanction], rules: Penalties, upto: dt.datetime | None = None) -> list[Sanction]:
    """Sanctions as they are shown, latest first; ``upto``: only those that had begun by then, as they stood then."""
    out = []
    for s in sorted(found, key=lambda one: one.number, reverse=True):
        if upto is not None and s.began > upto:
            continue
        over = s.over_at is not None and (upto is None or s.over_at <= upto)
        steps = sanctions.thresholds(rules, s.ledger)
        out.append(
            Sanction(
                sanction=s.sanction,
                ledger=s.ledger,
                level=s.level,
                measures=s.measures,
                withheld=s.withheld,
                scope=s.scope,
                consequence=steps[s.level - 1].consequence if s.level <= len(steps) else None,
                state=s.state if over else "in_force",
                cause=s.cause if over or s.in_force else "threshold",
                claim=s.claim,
                entry=s.entry,
                begins=s.began,
                ends=s.ends,
                over_at=s.over_at if over else None,
                reason=s.reason if over else None,
            )
        )
    return out


def says(step: Step, rules: Penalties) -> str:
    """A step in words, for people (English)."""
    if step.what == "expired":
        return f"expired: {step.points:+d}" if step.points else "expired; it cost nothing"
    if step.what == "forgotten":
        return "no longer one of the violations that are counted"
    if step.what == "reversed":
        again = "assessed again, because an earlier violation came or went, or the rules changed"
        why = again if step.reassessed else "the claim does not stand"
        return f"reverses {step.reverses}: {why}"
    general, serious = rules.general, rules.serious
    if step.rule == "first":
        return f"first violation: {general.first} points, and a warning"
    if step.rule == "repeat":
        return f"repeat within {general.expires.text}: {general.repeat} points"
    if step.rule == "capped":
        return f"at most {general.daily_cap} points a day, {step.day_before} of that day's were taken"
    if step.rule == "grouped":
        return f"within {serious.grouping.text} of the strike of {step.grouped_with}: counts with it"
    return "serious: a strike"
