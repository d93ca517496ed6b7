"""Explanations: replayed from the ledger alone, as of any time, and what does not agree is said."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import explain, penalties
from services.enforcement.penalties import Seller
from shared import policy
from shared.events import ViolationChanged
from shared.standing import Explanation, Record, Standing

RULES = policy.current("ipp").penalties
DAY = dt.timedelta(days=1)
BEGIN = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class Book:
    """A seller's ledger as it is kept, with when each entry was written, and the standing after each moment."""

    def __init__(self) -> None:
        self.seller = Seller("seller", 0, complete=True)
        self.records: list[Record] = []
        self.revision = 0

    def say(
        self, now: dt.datetime, claim: str, at: dt.datetime, severity: Any = "general", *, in_force: bool = True
    ) -> None:
        self.revision += 1
        change = ViolationChanged(
            seller="seller",
            claim=claim,
            item=f"{claim}-1",
            listing="l",
            severity=severity,
            in_force=in_force,
            revision=self.revision,
            at=at,
        )
        penalties.recount(self.seller, RULES, now)
        changed = penalties.change(self.seller, change, RULES, now)
        assert changed is not None
        self.record(changed[1], now)

    def record(self, rows: list[penalties.LedgerRow], now: dt.datetime) -> None:
        for row in rows:
            p = row.penalty
            self.records.append(
                Record(
                    entry=row.entry,
                    claim=p.claim,
                    ledger=p.ledger,
                    kind=row.kind,
                    points=p.points,
                    reverses=row.reverses,
                    effective_at=p.effective_at,
                    expires_at=p.expires_at,
                    recorded_at=now,
                )
            )

    @property
    def in_force(self) -> list[explain.InForce]:
        return [(v.at, v.claim, v.severity) for v in self.seller.history.values() if v.in_force]

    def stored(self, now: dt.datetime) -> Standing:
        penalties.recount(self.seller, RULES, now)
        s = self.seller
        return Standing(
            seller="seller",
            general_points=s.general_points,
            serious_strikes=s.serious_strikes,
            violations=s.violations,
            repeat_offender=s.violations >= 2,
            next_change=s.next_change,
            changed_at=now,
        )

    def explained(self, now: dt.datetime, **more: Any) -> Explanation:
        return explain.explain("seller", self.records, self.in_force, self.stored(now), RULES, "ipp", now, **more)


moves = st.lists(
    st.tuples(
        st.integers(0, 200),  # days until it is told
        st.integers(0, 7),  # claim
        st.integers(0, 30),  # days since it happened
        st.sampled_from(["general", "general", "serious"]),
        st.booleans(),
    ),
    max_size=25,
)


def written(
    steps: list[tuple[int, int, int, str, bool]],
) -> tuple[Book, dt.datetime, list[tuple[dt.datetime, tuple[int, int, int]]]]:
    """(book, now, what stood after each move)."""
    book, now, stood = Book(), BEGIN, []
    for days, claim, ago, severity, in_force in steps:
        now += days * DAY
        book.say(now, f"c{claim}", now - ago * DAY, severity, in_force=in_force)
        s = book.stored(now)
        stood.append((now, (s.general_points, s.serious_strikes, s.violations)))
    return book, now, stood


@given(moves, st.integers(0, 500))
def test_a_replayed_ledger_agrees_and_says_what_stood_then(
    steps: list[tuple[int, int, int, str, bool]], later: int
) -> None:
    book, now, stood = written(steps)
    end = now + later * DAY
    found = book.explained(end, most=None)
    assert found.agrees, found.differences
    kept = book.stored(end)
    assert (found.general_points, found.serious_strikes, found.violations) == (
        kept.general_points,
        kept.serious_strikes,
        kept.violations,
    )
    assert not [step.wrong for step in found.steps if step.wrong]
    # as of each moment: the last word that was said in it
    for at, sums in dict(stood).items():
        then = book.explained(end, at=at)
        assert (then.general_points, then.serious_strikes, then.violations) == sums
        assert then.agrees
        assert all(step.at <= at for step in then.steps)
    # each step's sums follow from the one before
    general = serious = 0
    for step in found.steps:
        general += step.points if step.ledger == "general" else 0
        serious += step.points if step.ledger == "serious" else 0
        assert (step.general_points, step.serious_strikes) == (general, serious)
    # thresholds are left as often as they are reached, but for those that are reached now
    crossed = [word for step in found.steps for word in step.crossed]
    for ledger, level in (("general", found.general_level), ("serious", found.serious_level)):
        up = sum(word.startswith(f"+{ledger}") for word in crossed)
        assert up - sum(word.startswith(f"-{ledger}") for word in crossed) == level


@given(moves.filter(lambda steps: any(step[4] for step in steps)), st.data())
def test_whatever_is_tampered_with_is_found(steps: list[tuple[int, int, int, str, bool]], data: st.DataObject) -> None:
    book, now, _ = written(steps)
    if not book.records:
        return
    place = data.draw(st.integers(0, len(book.records) - 1))
    record = book.records[place]
    kind = data.draw(st.sampled_from(["points", "gone", "date", "violation", "sum"]))
    in_force, stored, records = book.in_force, book.stored(now), list(book.records)
    if kind == "points":
        records[place] = msgspec.structs.replace(record, points=record.points + 1)
    elif kind == "gone":
        del records[place]
    elif kind == "date":
        records[place] = msgspec.structs.replace(record, expires_at=record.expires_at + DAY)
    elif kind == "violation":
        in_force = [*in_force, (now, "c-new", "general")]
    else:
        stored = msgspec.structs.replace(stored, general_points=stored.general_points + 6)
    found = explain.explain("seller", records, in_force, stored, RULES, "ipp", now)
    assert not found.agrees


def test_a_ledger_that_was_brought_in_line_with_other_rules_agrees() -> None:
    """What was right by the rules of its time is wrong by today's; once it is reversed and entered again, all is right."""
    book = Book()
    for number in range(3):
        book.say(BEGIN + number * DAY, f"c{number}", BEGIN + number * DAY)
    now = BEGIN + 5 * DAY
    rules = msgspec.structs.replace(RULES, general=msgspec.structs.replace(RULES.general, repeat=8, daily_cap=8))

    def explained() -> Explanation:
        return explain.explain("seller", book.records, book.in_force, book.stored(now), rules, "new", now)

    assert explained().differences[0].startswith(book.records[1].entry)
    book.record(penalties.reassess(book.seller, rules, now)[1], now)
    assert [record.points for record in book.records] == [0, 6, 6, -6, -6, 8, 8]
    found = explained()
    assert found.agrees, found.differences
    assert found.general_points == 16
    assert [step.wrong is not None for step in found.steps] == [False, True, True, False, False, False, False]


def test_the_rules_are_named() -> None:
    book = Book()
    day = BEGIN
    book.say(day, "c1", day)
    book.say(day + DAY, "c2", day + DAY)
    book.say(day + DAY, "c3", day + DAY + dt.timedelta(hours=1))
    book.say(day + 2 * DAY, "s1", day + 2 * DAY, "serious")
    book.say(day + 3 * DAY, "s2", day + 3 * DAY, "serious")
    book.say(day + 9 * DAY, "c1", day, in_force=False)
    now = day + 9 * DAY
    found = book.explained(now)
    words = [
        (step.what, step.claim, step.rule, step.points, step.reassessed, step.grouped_with) for step in found.steps
    ]
    assert words == [
        ("entered", "c1", "first", 0, False, None),
        ("entered", "c2", "repeat", 6, False, None),
        ("entered", "c3", "capped", 0, False, None),
        ("entered", "s1", "strike", 1, False, None),
        ("entered", "s2", "grouped", 0, False, "s1"),
        ("reversed", "c1", None, 0, False, None),
        ("reversed", "c2", None, -6, True, None),
        ("reversed", "c3", None, 0, True, None),
        ("entered", "c2", "first", 0, False, None),
        ("entered", "c3", "repeat", 6, False, None),
    ]
    assert (found.general_points, found.serious_strikes, found.violations, found.tier) == (6, 1, 4, "3-5")
    # what is reversed and entered again in one moment crosses nothing
    assert [step.crossed for step in found.steps[5:]] == [()] * 5
    assert found.steps[0].crossed == ("+general 1 warning",)
    assert found.steps[1].crossed == ("+general 2 listing_restricted",)
    assert found.steps[3].crossed == ("+serious 1 frozen",)
    texts = [explain.says(step, RULES) for step in found.steps]
    assert texts[2] == "at most 6 points a day, 6 of that day's were taken"
    assert texts[4] == "within 3 d of the strike of s1: counts with it"
    assert texts[5].endswith("the claim does not stand")
    assert texts[6].endswith("because an earlier violation came or went, or the rules changed")
    # a year later nothing is left, and says so
    late = book.explained(day + 400 * DAY)
    assert (late.general_points, late.serious_strikes, late.violations, late.tier) == (0, 0, 0, None)
    assert {step.what for step in late.steps[10:]} == {"expired"}


def test_only_the_latest_steps_are_shown_and_the_rest_is_counted() -> None:
    book = Book()
    for number in range(20):
        book.say(BEGIN + number * DAY, f"c{number}", BEGIN + number * DAY)
    found = book.explained(BEGIN + 20 * DAY, most=5)
    assert (len(found.steps), found.left_out) == (5, 15)
    assert found.steps[-1].claim == "c19"
    assert found.general_points == 19 * 6


def test_nothing_is_explained_by_nothing() -> None:
    found = explain.explain("seller", [], [], Standing(seller="seller"), RULES, "ipp", BEGIN)
    assert found.agrees
    assert (found.steps, found.general_points, found.tier) == ([], 0, None)


def test_a_standing_that_was_forgotten_is_found() -> None:
    book = Book()
    book.say(BEGIN, "c1", BEGIN)
    missing = explain.explain("seller", book.records, book.in_force, Standing(seller="seller"), RULES, "ipp", BEGIN)
    assert missing.differences == ["there are entries, and no standing"]
    late = explain.explain("seller", book.records, book.in_force, book.stored(BEGIN), RULES, "ipp", BEGIN + 366 * DAY)
    assert "should have been counted again" in late.differences[0]


@pytest.mark.parametrize("entry", ["x.1", "x.9", "x.10", "x.y.12"])
def test_entries_are_numbered(entry: str) -> None:
    assert explain.number_of(entry) == int(entry.rpartition(".")[2])


@pytest.mark.parametrize("entry", ["", "x", "x.", "x.y", "x.-1", "x.99999999999999999999"])
def test_what_is_no_entry_has_no_number(entry: str) -> None:
    assert explain.number_of(entry) == 0
