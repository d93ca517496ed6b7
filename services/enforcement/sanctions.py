"""Sanctions: what follows from a seller's standing, and when it ends.

Sources: docs/explanation/domain.md, "Penalties"; docs/decisions/0023.

A *ground* is a time during which a ledger's running sum was at or above a threshold. ``grounds`` finds all of them in
the unreversed entries, including expired ones, so that after a reversal it is as if the entry had never been. A
*sanction* answers a ground, once. ``decide`` compares the two. The marketplace is told the union of the measures of all
sanctions in force, so no measure is lifted for one cause while another holds.

The functions change the states passed to them, and only after everything that they return has been built.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from msgspec import Struct

from services.enforcement.domain import RESEND_AFTER, RESEND_MOST
from services.enforcement.penalties import NEVER, Entry, Ledger, level
from shared.events import LiftSanction, Measure, SanctionChanged, SellerCommand, SellerReceipt
from shared.policy import Penalties, Threshold

Scope = Literal["own", "entity"]
Change = Literal["imposed", "lifted", "ended"]
Cause = Literal["threshold", "replaced", "timer", "expiry", "reversal", "unlinked", "operator"]
LEDGERS: Final[tuple[Ledger, ...]] = ("general", "serious")
SUSPENDS: Final[frozenset[Measure]] = frozenset({"frozen", "closed"})
"""Measures that need a prior warning if the policy says so."""


# ------------------------------------------------------------------------------------------------------------- grounds


class Ground(Struct, frozen=True, omit_defaults=True):
    """A time during which a threshold was reached.

    Attributes:
        level: the threshold's number, from 1.
        crossed_at: when the entry that reached it took effect.
        fell_at: when entries expired and the sum fell below; None: it has not.
    """

    ledger: Ledger
    level: int
    crossed_at: dt.datetime
    entry: str
    claim: str
    fell_at: dt.datetime | None = None


class OpenGrounds(Struct, frozen=True, omit_defaults=True):
    """What the judgement of one more entry after all others depends on.

    Attributes:
        open: grounds that have not fallen, by ledger and level.
        expired: when the last entry expired.
        rules: version of the policy by which the grounds were found.
    """

    open: tuple[Ground, ...] = ()
    expired: dt.datetime = NEVER
    rules: str = ""


BEGIN: Final = OpenGrounds()


def thresholds(rules: Penalties, ledger: Ledger) -> tuple[Threshold, ...]:
    """A ledger's thresholds."""
    return rules.general.thresholds if ledger == "general" else rules.serious.thresholds


def reached(points: int, live: int, rules: Penalties, ledger: Ledger) -> int:
    """How many thresholds the sum of ``live`` unexpired entries reaches.

    A general entry reaches a first threshold that warns, whatever its points: the first violation costs none.
    """
    steps = thresholds(rules, ledger)
    warned = live > 0 and ledger == "general" and steps[0].consequence == "warning"
    return max(level(points, steps), int(warned))


def grounds(entries: Iterable[Entry], rules: Penalties, now: dt.datetime) -> tuple[Ground, ...]:
    """All grounds in a seller's unreversed entries, by ledger, level and time.

    Entries of one moment are taken in order of their claims, after those that expire at that moment.
    """
    found: list[Ground] = []
    by_ledger: dict[Ledger, list[Entry]] = {ledger: [] for ledger in LEDGERS}
    for entry in entries:
        by_ledger[entry.penalty.ledger].append(entry)
    for ledger, some in by_ledger.items():
        found += _course(some, rules, ledger, now)
    return tuple(sorted(found, key=lambda ground: (ground.ledger, ground.level, ground.crossed_at)))


def _course(entries: Sequence[Entry], rules: Penalties, ledger: Ledger, now: dt.datetime) -> list[Ground]:
    """A ledger's grounds: the running sum, step by step."""
    steps = [(entry.penalty.effective_at, 1, entry.penalty.claim, entry) for entry in entries]
    steps += [
        (entry.penalty.expires_at, -1, entry.penalty.claim, entry)
        for entry in entries
        if entry.penalty.expires_at <= now
    ]
    steps.sort(key=lambda step: step[:3])
    found: list[Ground] = []
    open_: list[Ground] = []  # thresholds rise: to reach one is to have reached those before it
    needed = [threshold.points for threshold in thresholds(rules, ledger)]
    warns = reached(0, 1, rules, ledger) > 0
    points = live = 0
    for at, sign, claim, entry in steps:
        points += sign * entry.penalty.points
        live += sign
        least = 1 if warns and live else 0
        while len(open_) < len(needed) and (len(open_) < least or points >= needed[len(open_)]):
            open_.append(Ground(ledger, len(open_) + 1, at, entry.entry, claim))
        while len(open_) > least and points < needed[len(open_) - 1]:
            found.append(msgspec.structs.replace(open_.pop(), fell_at=at))
    return found + open_


def open_grounds(found: Iterable[Ground], entries: Iterable[Entry], rules: str, now: dt.datetime) -> OpenGrounds:
    """What all grounds and entries leave for the next violation; ``rules``: the policy's version."""
    expired = max((e.penalty.expires_at for e in entries if e.penalty.expires_at <= now), default=NEVER)
    return OpenGrounds(tuple(ground for ground in found if ground.fell_at is None), expired, rules)


def advance(before: OpenGrounds, entry: Entry, points: int, rules: Penalties, now: dt.datetime) -> OpenGrounds:
    """The open grounds after one more entry that comes after all others.

    Requires that nothing has expired since ``before``, and that the entry took effect after everything that had expired
    (``needs_history``).

    Args:
        points: the ledger's unexpired sum, including the entry.
    """
    penalty = entry.penalty
    if penalty.expires_at <= now:
        return OpenGrounds(before.open, max(before.expired, penalty.expires_at), before.rules)
    known = sum(ground.ledger == penalty.ledger for ground in before.open)
    levels = reached(points, 1, rules, penalty.ledger)
    if levels <= known:
        return before
    more = [
        Ground(penalty.ledger, number, penalty.effective_at, entry.entry, penalty.claim)
        for number in range(known + 1, levels + 1)
    ]
    open_ = sorted((*before.open, *more), key=lambda ground: (ground.ledger, ground.level))
    return OpenGrounds(tuple(open_), before.expired, before.rules)


def levels(known: OpenGrounds) -> tuple[int, int]:
    """(general, serious) thresholds reached."""
    general = sum(ground.ledger == "general" for ground in known.open)
    return general, len(known.open) - general


def needs_history(known: OpenGrounds, rules: str, at: dt.datetime) -> bool:
    """Whether the open grounds are not enough to judge a violation at ``at``: it lies before an expiry, or rules have changed.

    ``penalties.needs_history`` says the same of the penalty.
    """
    return at < known.expired or known.rules != rules


# ----------------------------------------------------------------------------------------------------------- sanctions


@dataclass(slots=True)
class Sanction:
    """An answer to a ground.

    Attributes:
        number: its number among the seller's sanctions.
        measures: its measures; none for a warning.
        withheld: measures that a prior warning replaces.
        ends: when its days are over; None: it lasts until the standing falls below the threshold, or it is lifted.
        cause: cause of the last change.
        stands: whether the ground that it answers still exists, so no other answer is due; it need not be in force.
        reason: code that an operator gave for lifting it.
        after: when the warning was given that a later violation turned into this; None: imposed for the threshold.
    """

    seller: str
    number: int
    scope: Scope
    ledger: Ledger
    level: int
    measures: tuple[Measure, ...]
    withheld: tuple[Measure, ...]
    entry: str
    claim: str
    began: dt.datetime
    ends: dt.datetime | None
    state: Literal["in_force", "lifted", "ended"] = "in_force"
    cause: Cause = "threshold"
    over_at: dt.datetime | None = None
    stands: bool = True
    reason: str | None = None
    after: dt.datetime | None = None

    @property
    def sanction(self) -> str:
        """Its id."""
        return f"{hashlib.sha256(self.seller.encode()).hexdigest()[:24]}.s{self.number}"

    @property
    def in_force(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state == "in_force"

    @property
    def asked(self) -> tuple[Measure, ...]:
        """What the threshold asked for."""
        return self.withheld or self.measures

    @property
    def matters(self) -> bool:
        """Whether a later decision depends on it."""
        return self.in_force or self.stands or self.served or (not self.measures and self.state != "lifted")

    @property
    def served(self) -> bool:
        """Whether it was the entity's and is over for good: if the link is cut and returns, it is the answer again."""
        return self.scope == "entity" and self.cause in ("timer", "operator")

    def event(self, change: Change, now: dt.datetime) -> SanctionChanged:
        """The event that publishes a change of this sanction."""
        return SanctionChanged(
            seller=self.seller,
            sanction=self.sanction,
            change=change,
            cause=self.cause,
            measures=self.measures,
            scope=self.scope,
            ledger=self.ledger,
            level=self.level,
            prior=bool(self.withheld),
            begins=self.began,
            ends=self.ends,
            entry=self.entry,
            claim=self.claim,
            reason=self.reason,
            at=now,
        )


class EntityRecord(Struct, frozen=True, omit_defaults=True):
    """The business behind a seller, if it has more accounts than this one.

    Attributes:
        entity: its id.
        grounds: grounds of the merged history of all accounts, including fallen ones.
        last: time of the last violation of any account.
        warned: when any of its accounts was warned, without warnings that were lifted.
    """

    entity: str
    grounds: tuple[Ground, ...] = ()
    last: dt.datetime = NEVER
    warned: tuple[dt.datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision is based on.

    Attributes:
        own: the seller's own grounds.
        whole: ``own`` is complete, including fallen grounds; else nothing fell or was reversed since the last decision.
        last: time of its own last violation in force; ``NEVER`` if there is none.
        counts: whether one of its own violations still counts.
    """

    own: Sequence[Ground]
    whole: bool
    last: dt.datetime
    counts: bool
    entity: EntityRecord | None = None

    @property
    def latest(self) -> dt.datetime:
        """Time of the last violation in force of the seller or of any other account of its entity."""
        return self.last if self.entity is None else max(self.last, self.entity.last)


@dataclass(slots=True)
class Account:
    """A seller's sanctions, as far as they matter, and what the marketplace was told last.

    Attributes:
        made: number of sanctions ever made; numbers the next one.
        seq, measures, until: content of the latest command; ``seq`` is 0 before the first.
        confirmed: highest ``seq`` with a receipt; below ``seq`` a command is under way.
        result: result of the confirmed command.
        resend_at: wall time at which the command under way is sent again.
        tries: how often the command under way was sent again.
    """

    seller: str
    open_grounds: OpenGrounds = BEGIN
    made: int = 0
    seq: int = 0
    measures: tuple[Measure, ...] = ()
    until: dt.datetime | None = None
    confirmed: int = 0
    result: Literal["done", "unknown_seller"] = "done"
    resend_at: dt.datetime | None = None
    tries: int = 0
    sanctions: list[Sanction] = field(default_factory=list)

    @property
    def next_end(self) -> dt.datetime | None:
        """When the next sanction's days are over."""
        return min((s.ends for s in self.sanctions if s.in_force and s.ends is not None), default=None)


def measures(threshold: Threshold) -> tuple[Measure, ...]:
    """The measures for an account that has reached a threshold."""
    own: set[Measure] = set() if threshold.consequence == "warning" else {threshold.consequence}
    return tuple(sorted(own.union(entity_measures(threshold))))


def entity_measures(threshold: Threshold) -> tuple[Measure, ...]:
    """Those of the measures that reach every account of the business."""
    parts: set[Measure] = set()
    if threshold.entity_may_not_list:
        parts.add("may_not_list")
    if threshold.entity_closed:
        parts.add("closed")
    return tuple(sorted(parts))


def decide(account: Account, facts: Facts, rules: Penalties, now: dt.datetime) -> list[SanctionChanged]:
    """End, lift and impose sanctions so that each ground in force is answered once, and nothing else is."""
    found: dict[tuple[Ledger, int], list[tuple[Scope, Ground]]] = {}
    for ground in facts.own:
        found.setdefault((ground.ledger, ground.level), []).append(("own", ground))
    for ground in facts.entity.grounds if facts.entity is not None else ():
        found.setdefault((ground.ledger, ground.level), []).append(("entity", ground))
    out = [
        _over(sanction, "ended", "timer", sanction.ends)
        for sanction in account.sanctions
        if sanction.in_force and sanction.ends is not None and sanction.ends <= now
    ]
    if facts.whole:
        for sanction in account.sanctions:
            if sanction.in_force or sanction.stands:
                out += _review(sanction, [g for _, g in found.get((sanction.ledger, sanction.level), ())], facts, now)
    for key in sorted(found):
        steps = thresholds(rules, key[0])
        if key[1] > len(steps):
            continue  # from older rules with more thresholds: it will be counted again by the present ones
        open_ = {scope: ground for scope, ground in found[key] if ground.fell_at is None}
        if open_:
            out += _answer(account, open_, steps[key[1] - 1], facts, rules, now)
    return out


def _over(
    sanction: Sanction, change: Literal["lifted", "ended"], cause: Cause, now: dt.datetime, reason: str | None = None
) -> SanctionChanged:
    sanction.state, sanction.cause, sanction.over_at, sanction.reason = change, cause, now, reason
    return sanction.event(change, now)


def _review(sanction: Sanction, found: Sequence[Ground], facts: Facts, now: dt.datetime) -> list[SanctionChanged]:
    """End or lift a sanction if its ground has fallen or was never there."""
    gone: Cause = "unlinked" if sanction.scope == "entity" and facts.entity is None else "reversal"
    if sanction.in_force and sanction.after is not None and facts.latest <= sanction.after:
        # no violation since the warning stands any more: the warning is the answer again
        sanction.stands = False
        return [_over(sanction, "lifted", gone, now)]
    # it answered what had not fallen when it began; a reversal may have moved the crossing since
    answered = [ground for ground in found if ground.fell_at is None or ground.fell_at > sanction.began]
    if not answered:
        sanction.stands = False
        if not sanction.in_force:
            return []
        return [_over(sanction, "lifted", gone, now)]
    since = min((ground.crossed_at for ground in answered if ground.fell_at is None), default=None)
    closed = "closed" in sanction.measures and sanction.in_force
    if since is not None and (
        closed or not any(ground.fell_at is not None and ground.fell_at <= since for ground in answered)
    ):
        sanction.stands = True
        return []
    # it fell; if it is back, it needs an answer of its own
    sanction.stands = False
    if sanction.in_force and sanction.ends is None and not closed:
        fell = max(ground.fell_at for ground in answered if ground.fell_at is not None)
        return [_over(sanction, "ended", "expiry", fell)]
    return []


def _answer(
    account: Account,
    open_: dict[Scope, Ground],
    threshold: Threshold,
    facts: Facts,
    rules: Penalties,
    now: dt.datetime,
) -> list[SanctionChanged]:
    """Answer a threshold that is reached by the seller itself, its entity or both."""
    scope: Scope = "own" if "own" in open_ else "entity"
    ground = open_[scope]
    parts = entity_measures(threshold)
    # an account without a violation gets only what reaches the whole business
    full = scope == "own" or facts.counts
    wanted = measures(threshold) if full else parts
    last = facts.latest
    after = None
    given = next(
        (s for s in reversed(account.sanctions) if s.stands and (s.ledger, s.level) == (ground.ledger, ground.level)),
        None,
    )
    if given is None and scope == "entity":
        # the link was cut and is back: the same occasion
        given = next(
            (
                s
                for s in reversed(account.sanctions)
                if s.served and (s.ledger, s.level) == (ground.ledger, ground.level) and s.began >= ground.crossed_at
            ),
            None,
        )
        if given is not None:
            given.stands = True
    out = []
    at = ground.crossed_at
    if given is not None:
        given.scope = scope
        if full or (parts and given.asked == parts):
            more = set(wanted) - set(given.asked)
            again = bool(given.withheld) and given.in_force and last > given.began
            if not more and not again:
                return []
            at = max(at, last)
            after = given.began if again else given.after
            if given.in_force:
                out.append(_over(given, "ended", "replaced", now))
        elif not given.in_force:
            if set(parts) <= set(given.asked):
                return []
        elif facts.last == NEVER:
            # its own violations were reversed: it is answerable only as a part of the business
            out.append(_over(given, "lifted", "reversal", now))
        elif given.ends is not None or "closed" in given.measures:
            return []
        else:
            out.append(_over(given, "ended", "expiry", now))
        given.stands = False
    if full or parts:
        out.append(_impose(account, scope, ground, wanted, threshold, facts, rules, at, after, now))
    return out


def _impose(
    account: Account,
    scope: Scope,
    ground: Ground,
    wanted: tuple[Measure, ...],
    threshold: Threshold,
    facts: Facts,
    rules: Penalties,
    at: dt.datetime,
    after: dt.datetime | None,
    now: dt.datetime,
) -> SanctionChanged:
    """Impose a sanction; ``at``: time of the violation it is for; ``after``: time of the warning it replaces."""
    withheld: tuple[Measure, ...] = ()
    if rules.prior_warning and not SUSPENDS.isdisjoint(wanted) and not _warned(account, facts, rules, at):
        wanted, withheld = (), wanted
    ends = now + dt.timedelta(days=threshold.days) if threshold.days and wanted else None
    account.made += 1
    sanction = Sanction(
        account.seller,
        account.made,
        scope,
        ground.ledger,
        ground.level,
        wanted,
        withheld,
        ground.entry,
        ground.claim,
        now,
        ends,
        after=None if withheld else after,
    )
    account.sanctions.append(sanction)
    return sanction.event("imposed", now)


def _warned(account: Account, facts: Facts, rules: Penalties, at: dt.datetime) -> bool:
    """Whether a warning preceded a violation at ``at`` by no more than the policy's ``warned_within``."""
    times = [s.began for s in account.sanctions if not s.measures and s.state != "lifted"]
    if facts.entity is not None:
        times += facts.entity.warned
    return any(at - rules.warned_within.exact <= time < at for time in times)


def lift(account: Account, asked: LiftSanction, now: dt.datetime) -> list[SanctionChanged] | None:
    """Lift a sanction for an operator; None if none of that id is in force.

    It is not imposed again for the same ground.
    """
    for sanction in account.sanctions:
        if sanction.in_force and sanction.sanction == asked.sanction:
            return [_over(sanction, "lifted", "operator", now, asked.reason)]
    return None


# ------------------------------------------------------------------------------------------------------------ commands


def in_force(sanctions: Iterable[Sanction]) -> tuple[tuple[Measure, ...], dt.datetime | None]:
    """All measures in force, and when the first of them ends by itself (None: unknown)."""
    ends: dict[Measure, dt.datetime | None] = {}
    for sanction in sanctions:
        if sanction.in_force:
            for measure in sanction.measures:
                known = ends.get(measure, sanction.ends)
                ends[measure] = None if known is None or sanction.ends is None else max(known, sanction.ends)
    return tuple(sorted(ends)), min((end for end in ends.values() if end is not None), default=None)


def command_id(seller: str, seq: int) -> str:
    """Id of a seller's command: stays the same when the command is sent again, and never equals a listing's."""
    return f"seller-{hashlib.sha256(seller.encode()).hexdigest()[:32]}.{seq}"


def latest(account: Account) -> SellerCommand:
    """The latest command on a seller, which must have one."""
    return SellerCommand(
        command=command_id(account.seller, account.seq),
        seller=account.seller,
        seq=account.seq,
        measures=account.measures,
        until=account.until,
    )


def command(account: Account, wall: dt.datetime, resend: dt.timedelta = RESEND_AFTER) -> SellerCommand | None:
    """The command that tells the marketplace what is in force; None if that is what it was told last.

    If the marketplace did not know the seller then, it is told again: the seller may have appeared since.

    Args:
        wall: wall time, from which the receipt is awaited.
    """
    wanted, until = in_force(account.sanctions)
    unknown = bool(wanted) and account.confirmed == account.seq and account.result == "unknown_seller"
    if (wanted, until) == (account.measures, account.until) and not unknown:
        return None
    account.seq += 1
    account.measures, account.until = wanted, until
    account.tries = 0
    account.resend_at = wall + resend
    return latest(account)


def receive(account: Account | None, receipt: SellerReceipt) -> bool:
    """Take in a receipt; False if it confirms nothing: it is not of the command under way, or known already."""
    if (
        account is None
        or account.confirmed == account.seq
        or receipt.command != command_id(account.seller, account.seq)
    ):
        return False
    account.confirmed = account.seq
    account.result = receipt.result
    account.resend_at = None
    return True


def again(account: Account, wall: dt.datetime, resend: dt.timedelta = RESEND_AFTER) -> SellerCommand | None:
    """Send the command under way again; None if there is none."""
    if account.confirmed == account.seq:
        account.resend_at = None
        return None
    account.tries += 1
    account.resend_at = wall + min(resend * 2 ** min(account.tries, 10), max(resend, RESEND_MOST))
    return latest(account)
