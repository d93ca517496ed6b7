"""The good-faith takedown mechanism: outcomes, sums, verdicts, and who joins and leaves. Pure: no I/O.

The rules are in docs/explanation/domain.md, "Good faith". The account that counts is the **complainant**'s: the one
that files is judged, and has the benefits. An item counts once, as it is settled now, on the business day (UTC) on
which it entered that state. When it leaves the state, its count is taken back.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from services.intake.misuse import domain as misuse
from shared.events import SETTLED, UPHELD, ItemChanged, State
from shared.policy import GoodFaith
from shared.refusals import Refused

STANDS: Final = "9-stands"
"""Rule by which a takedown stands where the seller's silence means nothing: the item is settled, in NOTIFIED."""
EXCLUDED: Final = frozenset({State.DUPLICATE, State.LINK_INVALID})
"""Settled states that are left out of both rates."""

Outcome = Literal["upheld", "countered", "lifted", "declined"]
"""What a settled item counts as: upheld; taken down, then restored or withdrawn as an error; taken down, then
withdrawn on another ground; never taken down."""


class Counts(Struct, frozen=True):
    """Settled items, and how many of them were upheld, were taken down, and came back by a successful counter."""

    settled: int = 0
    upheld: int = 0
    taken_down: int = 0
    restored: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.settled + other.settled,
            self.upheld + other.upheld,
            self.taken_down + other.taken_down,
            self.restored + other.restored,
        )

    def __neg__(self) -> Counts:
        return Counts(-self.settled, -self.upheld, -self.taken_down, -self.restored)


NOTHING: Final = Counts()
WORTH: Final[dict[Outcome, Counts]] = {
    "upheld": Counts(1, 1, 1, 0),
    "countered": Counts(1, 0, 1, 1),
    "lifted": Counts(1, 0, 1, 0),
    "declined": Counts(1, 0, 0, 0),
}


def outcome_of(state: State, code: str | None, taken_down: bool) -> Outcome | None:
    """What an item in this state counts as; None: nothing.

    Args:
        code: of a withdrawn item, the ground.
        taken_down: whether it has ever taken its listing down.
    """
    if state in UPHELD:
        return "upheld"
    if state not in SETTLED or state in EXCLUDED:
        return None
    if not taken_down:
        return "declined"
    if state is State.RESTORED:
        return "countered"
    if state is State.WITHDRAWN and code == "settled":
        return "upheld"
    if state is State.WITHDRAWN and code == "error":
        return "countered"
    return "lifted"


# ------------------------------------------------------------------------------------------------------- item by item


class OutcomeChange(Struct, frozen=True):
    """An item entered a settled state or left one.

    Attributes:
        down: what it counts as if it was ever taken down; ``never``: if it was not. None: nothing.
        grounds: why it was unfounded (``misuse``), in the same two cases.
        serious: whether the alleged reason is serious.
    """

    item: str
    account: str
    reason: str
    partition: int
    revision: int
    day: dt.date
    down: Outcome | None
    never: Outcome | None
    grounds: tuple[str | None, str | None] = (None, None)
    serious: bool = False


def outcome_change(change: ItemChanged, at: dt.datetime, partition: int) -> OutcomeChange | None:
    """What a change means for the statistic; None, as for most changes: nothing. ``at``: when it took effect."""
    state, previous = change.state, change.previous
    if change.recurs is not None or change.canary:
        return None  # row 20: the complainant did not file it and is not judged by it; nobody is judged by a canary
    # a state passed through in one instant was never left. But a withdrawal may be reported again, on another ground:
    # one that was accepted in time replaces the end that a timer brought
    again = state is previous and state is not State.WITHDRAWN
    stands = state is State.NOTIFIED and change.settled  # where no window runs
    if stands:
        turns = not again or change.rule == STANDS
    else:
        stood = previous is State.NOTIFIED and change.upheld
        turns = not again and (state in SETTLED or previous in SETTLED or stood)
    if not turns:
        return None
    return OutcomeChange(
        change.item,
        change.complainant,
        change.reason,
        partition,
        change.revision,
        at.astimezone(dt.UTC).date(),
        "upheld" if stands else outcome_of(state, change.code, True),
        "upheld" if stands else outcome_of(state, change.code, False),
        misuse.grounds_of(change),
        change.severity == "serious",
    )


def follow(before: OutcomeChange | None, turn: OutcomeChange) -> OutcomeChange:
    """The last turn of an item in a batch. If it keeps the grounds, they are those of the turn before."""
    if before is None or turn.grounds != (misuse.KEPT, misuse.KEPT):
        return turn
    return replace(turn, grounds=before.grounds)


class CountedItem(Struct, frozen=True):
    """What an item is counted as; ``outcome`` None: no longer counted. ``ground``: why it was unfounded, if it was."""

    item: str
    account: str
    reason: str
    day: dt.date
    outcome: Outcome | None
    revision: int
    ground: str | None = None
    serious: bool = False


class Bucket(NamedTuple):
    """What sums are kept by. Each partition has its own buckets, so workers never wait for one another."""

    account: str
    day: dt.date
    reason: str
    partition: int


def settle(
    turns: Iterable[OutcomeChange], counted: Mapping[str, CountedItem], taken_down: Mapping[str, bool]
) -> tuple[list[CountedItem], dict[Bucket, Counts]]:
    """Take back what items were counted as, and count them as they are now.

    Args:
        turns: the last of each item.
        counted: what is stored, by item.
        taken_down: by item; a missing item is not ours.

    Returns:
        what to store, and what to add to buckets, both in key order.
    """
    rows: list[CountedItem] = []
    sums: dict[Bucket, Counts] = {}
    for turn in sorted(turns, key=lambda turn: turn.item):
        old = counted.get(turn.item)
        down = taken_down.get(turn.item)
        if down is None or (old is not None and old.revision >= turn.revision):
            continue
        outcome = turn.down if down else turn.never
        ground = turn.grounds[0 if down else 1]
        if ground == misuse.KEPT:
            ground = None if old is None else old.ground
        if old is None and outcome is None and ground is None:
            continue
        rows.append(
            CountedItem(turn.item, turn.account, turn.reason, turn.day, outcome, turn.revision, ground, turn.serious)
        )
        if old is not None and old.outcome is not None:
            _add(sums, Bucket(old.account, old.day, old.reason, turn.partition), -WORTH[old.outcome])
        if outcome is not None:
            _add(sums, Bucket(turn.account, turn.day, turn.reason, turn.partition), WORTH[outcome])
    return rows, {key: sums[key] for key in sorted(sums) if sums[key] != NOTHING}


def _add(sums: dict[Bucket, Counts], key: Bucket, counts: Counts) -> None:
    sums[key] = sums.get(key, NOTHING) + counts


# -------------------------------------------------------------------------------------------------------------- window


def months_before(day: dt.date, months: int) -> dt.date:
    """The same day of the month, that many months earlier (negative: later); in a shorter month, its last day."""
    month = day.year * 12 + day.month - 1 - months
    year, month = divmod(month, 12)
    return dt.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def left_after(day: dt.date, months: int) -> dt.date:
    """The last day that is no longer in the window of ``day``.

    The window runs from the next day to ``day`` itself: on 24 November, from 25 August to 24 November; on 31 May,
    from 1 March to 31 May (28 or 29 February is the last day outside). No day ever returns to it.
    """
    return months_before(day, months)


class WindowFigures(Struct, frozen=True):
    """Sums of a window: all items, and those of each reason that has items."""

    overall: Counts
    reasons: dict[str, Counts]


def figures_of(rows: Iterable[tuple[str, Counts]]) -> WindowFigures:
    """Sum up (reason, counts)."""
    reasons: dict[str, Counts] = {}
    overall = NOTHING
    for reason, counts in rows:
        reasons[reason] = reasons.get(reason, NOTHING) + counts
        overall += counts
    return WindowFigures(overall, {reason: reasons[reason] for reason in sorted(reasons) if reasons[reason] != NOTHING})


# ------------------------------------------------------------------------------------------------------------- verdict


class Miss(Struct, frozen=True):
    """A rate that was missed, for a reason or overall (``reason`` None)."""

    reason: str | None
    rate: Literal["takedown", "counter"]
    part: int
    whole: int


class Verdict(Struct, frozen=True):
    """Whether figures meet the rates of good faith; ``too_few``: there are too few items to tell."""

    kind: Literal["meets", "misses", "too_few"]
    misses: tuple[Miss, ...] = ()


def judge(figures: WindowFigures, terms: GoodFaith) -> Verdict:
    """Compare figures with the policy's rates, overall and for every reason, in integer arithmetic."""
    if figures.overall.settled < terms.min_items:
        return Verdict("too_few")
    misses: list[Miss] = []
    for reason, counts in ((None, figures.overall), *figures.reasons.items()):
        if reason is not None and counts.settled < terms.reason_min_items:
            continue
        if not terms.takedown_rate.reached(counts.upheld, counts.settled):
            misses.append(Miss(reason, "takedown", counts.upheld, counts.settled))
        if not terms.counter_rate.kept(counts.restored, counts.taken_down):
            misses.append(Miss(reason, "counter", counts.restored, counts.taken_down))
    return Verdict("misses", tuple(misses)) if misses else Verdict("meets")


# ------------------------------------------------------------------------------------------------------------ standing

How = Literal["declaration", "statistic", "staff"]
ChangeKind = Literal[
    "upgraded",  # by the statistic
    "joined",  # by a declaration
    "declared",  # a declaration by a member
    "warned",
    "warning_lifted",
    "demoted",  # and barred
    "left",  # and barred
    "bar_ended",
    "admitted",  # by reviewer or operator
    "removed",  # by reviewer or operator, or because the account is suspended, closed or no longer verified
]


class GoodFaithStanding(Struct, frozen=True):
    """An account's standing with the mechanism. Days are business days, UTC.

    Attributes:
        how: how it joined; None when it is out.
        since: day of the last change of ``state``.
        demote_on: day on which a warned account is demoted if its figures still miss the rates.
        barred_until: first day on which it may join again.
    """

    state: Literal["out", "in", "warned"] = "out"
    how: How | None = None
    since: dt.date | None = None
    demote_on: dt.date | None = None
    barred_until: dt.date | None = None

    @property
    def member(self) -> bool:
        """Whether it takes part, and so has the benefits."""
        return self.state != "out"

    def barred(self, day: dt.date) -> bool:
        """Whether it may not join on that day."""
        return self.barred_until is not None and day < self.barred_until


def review(
    standing: GoodFaithStanding, verified: bool, verdict: Verdict, day: dt.date, terms: GoodFaith
) -> tuple[GoodFaithStanding, tuple[ChangeKind, ...]]:
    """Judge an account on ``day``, by its figures up to the day before.

    At most one step per day is taken, except that an upgrade may follow the end of a bar. Nobody is demoted without a
    warning, and with too few items nobody is upgraded, warned or demoted.

    Args:
        verified: whether the account is, and neither suspended nor closed.
    """
    made: list[ChangeKind] = []
    if standing.barred_until is not None and day >= standing.barred_until:
        standing = replace(standing, barred_until=None)
        made.append("bar_ended")
    if not standing.member:
        if verified and verdict.kind == "meets" and not standing.barred(day):
            standing = GoodFaithStanding("in", "statistic", day)
            made.append("upgraded")
    elif not verified:
        standing = GoodFaithStanding("out", None, day, barred_until=standing.barred_until)
        made.append("removed")
    elif verdict.kind != "misses":
        if standing.state == "warned":
            standing = replace(standing, state="in", since=day, demote_on=None)
            made.append("warning_lifted")
    elif standing.state == "in":
        demote_on = day + terms.warning.exact
        standing = replace(standing, state="warned", since=day, demote_on=demote_on)
        made.append("warned")
    elif standing.demote_on is None or day >= standing.demote_on:
        standing = GoodFaithStanding("out", None, day, barred_until=bar_end(day, terms))
        made.append("demoted")
    return standing, tuple(made)


def bar_end(day: dt.date, terms: GoodFaith) -> dt.date:
    """First day on which an account that leaves on ``day`` may join again."""
    return months_before(day, -terms.bar_months)


def join(standing: GoodFaithStanding, verified: bool, day: dt.date) -> tuple[GoodFaithStanding, ChangeKind]:
    """Join by an executed declaration.

    Raises:
        Refused: the account is not verified, or barred.
    """
    if not verified:
        raise Refused(
            403,
            "not_verified",
            "Only a verified account may join the mechanism.",
            cure="Have the account's identity verified first.",
        )
    if standing.barred(day):
        raise Refused(
            409,
            "barred",
            f"The account left the mechanism and may not join again before {standing.barred_until}.",
            cure="Execute the declaration on that day or later.",
        )
    if standing.member:
        return replace(standing, how="declaration"), "declared"
    return GoodFaithStanding("in", "declaration", day), "joined"


def leave(standing: GoodFaithStanding, day: dt.date, terms: GoodFaith) -> tuple[GoodFaithStanding, ChangeKind]:
    """Leave of one's own accord.

    Raises:
        Refused: the account is not in.
    """
    if not standing.member:
        raise Refused(409, "not_a_member", "The account does not take part in the mechanism.", cure="Nothing to do.")
    return GoodFaithStanding("out", None, day, barred_until=bar_end(day, terms)), "left"


def by_staff(standing: GoodFaithStanding, member: bool, day: dt.date) -> tuple[GoodFaithStanding, ChangeKind | None]:
    """Admit or remove an account on the word of staff. That ends a bar, and a removal brings none."""
    if member == standing.member:
        return standing, None
    if member:
        return GoodFaithStanding("in", "staff", day), "admitted"
    return GoodFaithStanding("out", None, day), "removed"
