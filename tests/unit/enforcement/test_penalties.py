"""Ledgers: as if the reversed had never been, checked against an assessment from scratch."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import penalties
from services.enforcement.penalties import LedgerRow, Seller, Violation
from shared import policy
from shared.events import PenaltyEntered, StandingChanged, ViolationChanged

RULES = policy.current("ipp").penalties
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def event(
    claim: str, item: str, revision: int, at: dt.datetime, *, in_force: bool = True, severity: Any = "general"
) -> ViolationChanged:
    return ViolationChanged(
        seller="seller",
        claim=claim,
        item=item,
        listing=f"listing-{item}",
        severity=severity,
        in_force=in_force,
        revision=revision,
        at=at,
    )


class Book:
    """A seller's ledger as the worker keeps it: forgets between batches, completes the history only when it must."""

    def __init__(self) -> None:
        self.seller = Seller("seller", 0)
        self.stored: dict[str, Violation] = {}
        self.rows: list[LedgerRow] = []
        self.completions = 0

    def apply(self, change: ViolationChanged, now: dt.datetime = NOW) -> list[Any]:
        self.seller.complete = False
        self.seller.history = {c: v for c, v in self.stored.items() if c == change.claim}
        if penalties.needs_history(self.seller, change, now):
            self._complete()
        result = penalties.change(self.seller, change, RULES, now)
        self.stored |= self.seller.history
        if result is None:
            return []
        out, written = result
        self.rows += written
        return out

    def tick(self, now: dt.datetime) -> None:
        if self.seller.next_change is not None and self.seller.next_change <= now:
            self._complete()
            penalties.recount(self.seller, RULES, now)

    def _complete(self) -> None:
        self.completions += 1
        self.seller.history = dict(self.stored)
        self.seller.complete = True

    def sums(self, now: dt.datetime) -> tuple[int, int]:
        """By the ledger alone: every unexpired row, reversals negated."""
        sums = Counter[str]()
        for row in self.rows:
            if row.penalty.expires_at > now:
                sums[row.penalty.ledger] += row.penalty.points
        return sums["general"], sums["serious"]

    def unreversed(self) -> set[tuple[str, str, int, dt.datetime]]:
        reversed_ = {row.reverses for row in self.rows}
        return {
            (row.penalty.claim, row.penalty.ledger, row.penalty.points, row.penalty.effective_at)
            for row in self.rows
            if row.kind == "violation" and row.entry not in reversed_
        }


def oracle(events: list[ViolationChanged]) -> set[tuple[str, str, int, dt.datetime]]:
    """From scratch, in other words than the code's."""
    items: dict[tuple[str, str], ViolationChanged] = {}
    for change in events:
        known = items.get((change.claim, change.item))
        if known is None or change.revision > known.revision:
            items[(change.claim, change.item)] = change
    violations = []
    for claim in {claim for claim, _ in items}:
        live = [change for change in items.values() if change.claim == claim and change.in_force]
        if live:
            serious = any(change.severity == "serious" for change in live)
            violations.append((min(change.at for change in live), claim, "serious" if serious else "general"))
    violations.sort()
    result = set()
    general = [v for v in violations if v[2] == "general"]
    a_day = Counter[dt.date]()
    for index, (at, claim, _) in enumerate(general):
        earlier = [other for other in general[:index] if at - other[0] < 365 * DAY]
        points = min(6 if earlier else 0, 6 - a_day[at.date()])
        a_day[at.date()] += points
        result.add((claim, "general", points, at))
    group = None
    for at, claim, severity in violations:
        if severity == "serious":
            new = group is None or at - group >= 3 * DAY
            group = at if new else group
            result.add((claim, "serious", int(new), at))
    return result


def moments() -> st.SearchStrategy[dt.datetime]:
    return st.integers(0, 30 * 24).map(lambda hours: NOW - 20 * DAY + dt.timedelta(hours=hours)) | st.integers(
        0, 900
    ).map(lambda days: NOW - days * DAY)


@st.composite
def streams(draw: st.DrawFn) -> list[ViolationChanged]:
    """Items' revisions alternate between in force and not; then mixed and repeated."""
    made = []
    for claim in range(draw(st.integers(1, 7))):
        for item in range(draw(st.integers(1, 3))):
            severity = draw(st.sampled_from(["general", "serious"]))
            made += [
                event(
                    f"claim-{claim}",
                    f"item-{claim}-{item}",
                    revision + 1,
                    draw(moments()),
                    in_force=revision % 2 == 0,
                    severity=severity,
                )
                for revision in range(draw(st.integers(1, 3)))
            ]
    return list(draw(st.permutations(made + draw(st.lists(st.sampled_from(made), max_size=3)))))


@given(streams())
def test_the_ledger_is_as_if_the_reversed_had_never_been(stream: list[ViolationChanged]) -> None:
    book = Book()
    for number, change in enumerate(stream, 1):
        before = book.sums(NOW), book.seller.violations
        out = book.apply(change)
        book.tick(NOW)
        assert book.unreversed() == oracle(stream[:number])
        assert (book.seller.general_points, book.seller.serious_strikes) == book.sums(NOW)
        standings = [data for data in out if isinstance(data, StandingChanged)]
        if (book.sums(NOW), book.seller.violations) != before:
            assert standings
        assert len([data for data in out if isinstance(data, PenaltyEntered)]) == len(out) - len(standings)
    assert len({row.entry for row in book.rows}) == len(book.rows)


@given(streams(), st.integers(0, 800))
def test_a_standing_counts_what_has_not_expired(stream: list[ViolationChanged], days: int) -> None:
    book = Book()
    for change in stream:
        book.apply(change)
    later = NOW + days * DAY
    book.tick(later)
    assert (book.seller.general_points, book.seller.serious_strikes) == book.sums(later)
    live = [at for _, _, _, at in oracle(stream) if at + 365 * DAY > later]
    assert book.seller.violations == len(live)


def points(book: Book) -> list[tuple[str, int]]:
    return sorted((claim, count) for claim, _, count, _ in book.unreversed())


def test_first_costs_nothing_and_repeats_six_but_six_a_day_at_most() -> None:
    book = Book()
    for number, hours in enumerate((0, 1, 2, 30, 31)):
        book.apply(event(f"c{number}", f"i{number}", 1, NOW - 10 * DAY + dt.timedelta(hours=hours)))
    assert points(book) == [("c0", 0), ("c1", 6), ("c2", 0), ("c3", 6), ("c4", 0)]
    assert book.completions == 0  # in order of time nothing but the end is looked at


def test_a_violation_is_one_however_many_listings() -> None:
    book = Book()
    for number in range(5):
        book.apply(event("c", f"i{number}", 1, NOW + number * dt.timedelta(minutes=1)))
    assert (len(book.rows), book.seller.violations, book.completions) == (1, 1, 0)
    for number in range(4):
        book.apply(event("c", f"i{number}", 2, NOW, in_force=False))
    assert book.seller.violations == 1
    book.apply(event("c", "i4", 2, NOW, in_force=False))
    assert book.seller.violations == 0
    assert book.unreversed() == set()


def test_serious_within_three_days_count_as_one() -> None:
    book = Book()
    for number, day in enumerate((0, 2, 4, 5)):
        book.apply(event(f"c{number}", f"i{number}", 1, NOW - 20 * DAY + day * DAY, severity="serious"))
    # the group is counted from its first: the third is four days after it, the fourth one day after the third
    assert points(book) == [("c0", 1), ("c1", 0), ("c2", 1), ("c3", 0)]
    book.apply(event("c0", "i0", 2, NOW, in_force=False, severity="serious"))
    assert points(book) == [("c1", 1), ("c2", 0), ("c3", 1)]
    assert book.seller.serious_strikes == 2


def test_the_reversal_of_the_first_makes_the_second_the_first() -> None:
    book = Book()
    for number in range(3):
        book.apply(event(f"c{number}", f"i{number}", 1, NOW - (9 - number) * DAY))
    assert book.seller.general_points == 12
    out = book.apply(event("c0", "i0", 2, NOW, in_force=False))
    kinds = [(data.kind, data.claim, data.points) for data in out if isinstance(data, PenaltyEntered)]
    assert kinds == [("reversal", "c0", 0), ("reversal", "c1", -6), ("violation", "c1", 0)]
    assert book.seller.general_points == 6


def test_entries_expire_after_a_year() -> None:
    book = Book()
    book.apply(event("c0", "i0", 1, NOW - 364 * DAY))
    book.apply(event("c1", "i1", 1, NOW - 363 * DAY))
    assert (book.seller.general_points, book.seller.violations) == (6, 2)
    book.tick(NOW + DAY)
    assert (book.seller.general_points, book.seller.violations) == (6, 1)
    book.tick(NOW + 2 * DAY)
    assert (book.seller.general_points, book.seller.violations, book.seller.next_change) == (0, 0, None)
    # and a violation after that is a first one again
    book.apply(event("c2", "i2", 1, NOW + 3 * DAY), NOW + 3 * DAY)
    assert ("c2", 0) in points(book)
