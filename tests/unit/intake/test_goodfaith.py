"""Good faith: outcomes, windows to the day, verdicts in whole numbers, who joins and leaves; and equal to a naive recount."""

from __future__ import annotations

import datetime as dt
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from labs import deep, recount
from services.intake.goodfaith import domain as goodfaith
from services.intake.goodfaith.domain import (
    NOTHING,
    SETTLED,
    WORTH,
    Counts,
    GoodFaithStanding,
    Verdict,
    WindowFigures,
    bar_end,
    by_staff,
    figures_of,
    join,
    judge,
    leave,
    left_after,
    months_before,
    outcome_of,
    review,
)
from services.verification import item as life
from shared import declarations, policy
from shared.events import State
from shared.policy import GoodFaith, PolicyError, Rate
from shared.refusals import Refused
from tests.unit.shared.test_policy import TEXT
from tests.unit.verification import world as lives

S = State
TERMS = GoodFaith(min_items=10)
DAY = dt.date(2026, 11, 24)
MEETS, MISSES, TOO_FEW = Verdict("meets"), Verdict("misses"), Verdict("too_few")
days = st.dates(dt.date(2020, 1, 1), dt.date(2040, 12, 31))


def d(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


# ---- outcomes


def test_settled_states_are_the_life_cycles() -> None:
    assert goodfaith.SETTLED == life.SETTLED
    assert goodfaith.UPHELD == life.UPHELD


@pytest.mark.parametrize(
    ("state", "code", "down", "never"),
    [
        (S.UPHELD, None, "upheld", "upheld"),
        (S.UPHELD_BY_DEFAULT, None, "upheld", "upheld"),
        (S.UPHELD_AFTER_COUNTER, None, "upheld", "upheld"),
        (S.RESTORED, None, "countered", "declined"),
        (S.WITHDRAWN, "error", "countered", "declined"),
        (S.WITHDRAWN, "settled", "upheld", "declined"),
        (S.WITHDRAWN, "licensed", "lifted", "declined"),
        (S.WITHDRAWN, "right_ended", "lifted", "declined"),
        (S.REJECTED, "not_infringing", "lifted", "declined"),
        (S.LAPSED, None, "lifted", "declined"),
        (S.DUPLICATE, None, None, None),
        (S.LINK_INVALID, None, None, None),
        (S.NOTIFIED, None, None, None),
        (S.COUNTERED, None, None, None),
        (S.LITIGATION, None, None, None),
        (S.SUSPENDED, None, None, None),
    ],
)
def test_outcomes(state: State, code: str | None, down: str | None, never: str | None) -> None:
    assert outcome_of(state, code, True) == down
    assert outcome_of(state, code, False) == never


def test_every_state_has_an_outcome_or_none() -> None:
    for state in State:
        counted = outcome_of(state, None, True) is not None
        assert counted == (state in SETTLED - goodfaith.EXCLUDED)


def test_what_outcomes_are_worth() -> None:
    assert WORTH["upheld"] + WORTH["countered"] + WORTH["lifted"] + WORTH["declined"] == Counts(4, 1, 3, 1)
    assert WORTH["upheld"] + -WORTH["upheld"] == NOTHING


def test_a_withdrawal_in_time_takes_the_place_of_the_timers() -> None:
    """Row 18 accepted before row 22's timer, and read after it: the state is the same, the ground another."""
    first = deep.walk(random.Random(1), 1, "a-1", "design")[0][1]
    line = [
        (deep.BEGINS + dt.timedelta(days=number), replace(first, revision=number + 1, **values))
        for number, values in enumerate(
            (
                {"state": S.NOTIFIED, "held": True},
                {"state": S.WITHDRAWN, "previous": S.NOTIFIED, "code": "right_ended", "held": False, "settled": True},
                {"state": S.WITHDRAWN, "previous": S.WITHDRAWN, "code": "error", "held": False, "settled": True},
            )
        )
    ]
    book = deep.StatisticTables()
    for (at, change), counts in zip(line, (NOTHING, WORTH["lifted"], WORTH["countered"]), strict=True):
        book.batch([(0, at, change)])
        assert sum(book.buckets.values(), NOTHING) == counts
    found = recount.item(line)
    assert found is not None
    assert found[2] == line[2][0].date()


# ---- the window


@pytest.mark.parametrize(
    ("day", "last_out"),
    [
        ("2026-11-24", "2026-08-24"),
        ("2026-05-31", "2026-02-28"),
        ("2026-05-29", "2026-02-28"),
        ("2026-05-28", "2026-02-28"),
        ("2026-06-01", "2026-03-01"),
        ("2028-05-31", "2028-02-29"),
        ("2028-05-29", "2028-02-29"),
        ("2028-05-28", "2028-02-28"),
        ("2026-01-31", "2025-10-31"),
        ("2026-02-28", "2025-11-28"),
        ("2028-02-29", "2027-11-29"),
        ("2026-12-31", "2026-09-30"),
        ("2027-01-01", "2026-10-01"),
        ("2100-05-31", "2100-02-28"),
    ],
)
def test_boundary_days(day: str, last_out: str) -> None:
    assert left_after(d(day), 3) == d(last_out)
    assert not recount.in_window(d(last_out), d(day), 3)
    assert recount.in_window(d(last_out) + dt.timedelta(days=1), d(day), 3)


@given(days, st.integers(1, 24))
def test_a_window_only_moves_on(day: dt.date, months: int) -> None:
    tomorrow = day + dt.timedelta(days=1)
    step = left_after(tomorrow, months) - left_after(day, months)
    assert dt.timedelta() <= step <= dt.timedelta(days=4)
    assert 28 * months <= (day - left_after(day, months)).days <= 31 * months
    back = months_before(months_before(day, months), -months)
    assert back <= day
    assert (day - back).days <= 3


@given(days, days, st.integers(1, 12))
def test_the_recount_has_the_same_window(day: dt.date, end: dt.date, months: int) -> None:
    end = day + (end - day) % dt.timedelta(days=400)
    assert recount.in_window(day, end, months) == (left_after(end, months) < day <= end)


# ---- verdicts


def figures(
    settled: int, upheld: int, taken_down: int | None = None, restored: int = 0, **more: Counts
) -> WindowFigures:
    first = Counts(settled, upheld, upheld if taken_down is None else taken_down, restored)
    return figures_of([("counterfeit", first), *more.items()])


@pytest.mark.parametrize(
    ("sums", "kind", "missed"),
    [
        (figures(10, 9), "meets", []),
        (figures(9, 9), "too_few", []),
        (figures(9, 0), "too_few", []),
        (figures(1000, 899), "misses", [(None, "takedown"), ("counterfeit", "takedown")]),
        (figures(1000, 900), "meets", []),
        (figures(20, 19, 20, 1), "meets", []),
        (figures(20, 18, 19, 1), "misses", [(None, "counter"), ("counterfeit", "counter")]),
        # one reason spoils it, though the sum is good
        (figures(100, 100, design=Counts(1, 0, 0, 0)), "misses", [("design", "takedown")]),
        (figures(100, 100, design=Counts(3, 3, 3, 1)), "misses", [("design", "counter")]),
        # many good ones of a reason do not make up for it overall
        (
            figures(10, 0, 0, 0, design=Counts(10, 10, 10, 0)),
            "misses",
            [(None, "takedown"), ("counterfeit", "takedown")],
        ),
    ],
)
def test_verdicts(sums: WindowFigures, kind: str, missed: list[tuple[str | None, str]]) -> None:
    verdict = judge(sums, TERMS)
    assert verdict.kind == kind
    assert [(miss.reason, miss.rate) for miss in verdict.misses] == missed


def test_reasons_with_few_items_may_be_left_out() -> None:
    sums = figures(100, 100, design=Counts(4, 0, 0, 0))
    assert judge(sums, replace(TERMS, reason_min_items=5)).kind == "meets"
    assert judge(sums, replace(TERMS, reason_min_items=4)).kind == "misses"


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 1000))
def test_rates_are_compared_exactly(part: int, whole: int, thousandths: int) -> None:
    rate = Rate(f"{thousandths // 10}.{thousandths % 10} %")
    share = Fraction(thousandths, 1000)
    assert rate.reached(part, whole) == (part >= share * whole)
    assert rate.kept(part, whole) == (part <= share * whole)


@pytest.mark.parametrize("text", ["90", "90%", "101 %", "100.1 %", "-1 %", " 5 %", "5. %", "٥ %", 0.9, None, ""])
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match="Expected a share"):
        Rate(text)


def test_the_policy() -> None:
    terms = policy.current("ipp").good_faith
    assert (terms.takedown_rate.text, terms.counter_rate.text) == ("90 %", "5 %")
    assert (terms.window_months, terms.bar_months, terms.warning.text) == (3, 3, "14 d")
    assert declarations.load(terms.declaration).version == terms.declaration
    for old, new, message in (
        ('takedown_rate = "90 %"', "takedown_rate = 0.9", "good_faith.takedown_rate: Expected a share"),
        ('warning = "14 d"', 'warning = "3 wd"', "good_faith.warning: expected days"),
        ("min_items = 20", "min_items = 0", "good_faith.min_items: "),
    ):
        with pytest.raises(PolicyError, match=message):
            policy.parse(TEXT.replace(old, new, 1), "ipp-2026-11.toml")
    # an older file has no such table
    head = TEXT.split("\n[good_faith]", 1)[0]
    assert policy.parse(head, "ipp-2026-11.toml").good_faith == GoodFaith()


def test_the_declaration_is_what_was_executed() -> None:
    """A version that somebody executed is never edited: its digest stands in the book."""
    text = declarations.load("good-faith-2026-11")
    assert text.sha256 == "915786ae6132bfdf370eeef24ea37b6b7522bf32a0c1a573d13bc407b0916e90"
    assert text.text.startswith("# Declaration on Joining the Good-faith Takedown Mechanism\n")
    for name in ("nope", "../policies/ipp-2026-11", ""):
        with pytest.raises(KeyError):
            declarations.load(name)


# ---- standings


def test_upgraded_when_verified_and_good() -> None:
    out = GoodFaithStanding()
    assert review(out, True, MEETS, DAY, TERMS) == (GoodFaithStanding("in", "statistic", DAY), ("upgraded",))
    for verified, verdict in ((False, MEETS), (True, MISSES), (True, TOO_FEW)):
        assert review(out, verified, verdict, DAY, TERMS) == (out, ())


def test_warned_then_demoted_and_barred() -> None:
    member = GoodFaithStanding("in", "statistic", d("2026-06-01"))
    warned, made = review(member, True, MISSES, DAY, TERMS)
    assert made == ("warned",)
    assert warned.member
    assert warned.demote_on == d("2026-12-08")
    for day in ("2026-11-25", "2026-12-07"):
        assert review(warned, True, MISSES, d(day), TERMS) == (warned, ())
    out, made = review(warned, True, MISSES, d("2026-12-08"), TERMS)
    assert made == ("demoted",)
    assert out == GoodFaithStanding("out", None, d("2026-12-08"), barred_until=d("2027-03-08"))
    assert review(out, True, MEETS, d("2027-03-07"), TERMS) == (out, ())
    back, made = review(out, True, MEETS, d("2027-03-08"), TERMS)
    assert made == ("bar_ended", "upgraded")
    assert back == GoodFaithStanding("in", "statistic", d("2027-03-08"))
    free, made = review(out, True, MISSES, d("2027-03-08"), TERMS)
    assert (free.barred_until, made) == (None, ("bar_ended",))


@pytest.mark.parametrize("verdict", [MEETS, TOO_FEW])
def test_a_warning_is_lifted(verdict: Verdict) -> None:
    warned = GoodFaithStanding("warned", "declaration", DAY, demote_on=DAY)
    back, made = review(warned, True, verdict, DAY, TERMS)
    assert (back.state, back.how, back.demote_on, made) == ("in", "declaration", None, ("warning_lifted",))


def test_who_is_not_verified_any_more_leaves_without_a_bar() -> None:
    out, made = review(GoodFaithStanding("in", "statistic", DAY), False, MEETS, DAY, TERMS)
    assert (out.member, out.barred_until, made) == (False, None, ("removed",))


def test_joining_and_leaving() -> None:
    joined, made = join(GoodFaithStanding(), True, DAY)
    assert (joined, made) == (GoodFaithStanding("in", "declaration", DAY), "joined")
    assert join(GoodFaithStanding("in", "statistic", DAY), True, DAY) == (
        GoodFaithStanding("in", "declaration", DAY),
        "declared",
    )
    with pytest.raises(Refused) as refused:
        join(GoodFaithStanding(), False, DAY)
    assert refused.value.reason == "not_verified"
    left, _ = leave(joined, d("2026-11-30"), TERMS)
    assert left.barred_until == d("2027-02-28")
    with pytest.raises(Refused) as refused:
        join(left, True, d("2027-02-27"))
    assert refused.value.reason == "barred"
    assert "2027-02-28" in refused.value.detail
    assert join(left, True, d("2027-02-28"))[1] == "joined"
    with pytest.raises(Refused):
        leave(left, DAY, TERMS)


def test_a_persons_word() -> None:
    barred = GoodFaithStanding("out", None, DAY, barred_until=bar_end(DAY, TERMS))
    admitted, made = by_staff(barred, True, DAY)
    assert (admitted, made) == (GoodFaithStanding("in", "staff", DAY), "admitted")
    assert by_staff(admitted, True, DAY) == (admitted, None)
    assert by_staff(admitted, False, DAY) == (GoodFaithStanding("out", None, DAY), "removed")


@given(
    st.lists(st.tuples(st.sampled_from([MEETS, MISSES, TOO_FEW]), st.booleans(), st.integers(1, 60)), max_size=40),
    st.lists(st.sampled_from(["join", "leave", "admit", "remove", ""]), min_size=40, max_size=40),
)
def test_no_history_of_judgements_breaks_the_rules(steps: list[tuple[Verdict, bool, int]], acts: list[str]) -> None:
    at, day = GoodFaithStanding(), DAY
    warned_on: dt.date | None = None
    barred_until: dt.date | None = None
    for (verdict, verified, span), act in zip(steps, acts, strict=False):
        day += dt.timedelta(days=span)
        before = at
        at, made = review(at, verified, verdict, day, TERMS)
        if "warned" in made:
            warned_on = day
        if "demoted" in made:
            assert warned_on is not None
            assert day >= warned_on + TERMS.warning.exact
            assert verdict is MISSES
            barred_until = at.barred_until
            assert barred_until == bar_end(day, TERMS)
        if "upgraded" in made:
            assert verified
            assert verdict is MEETS
            assert barred_until is None or day >= barred_until
        assert review(at, verified, verdict, day, TERMS)[1] == () or "upgraded" in made
        if before.member and verdict is not MISSES and verified:
            assert at.member
        assert (at.demote_on is not None) == (at.state == "warned")
        assert at.member == (at.how is not None)
        try:
            if act == "join":
                at, _ = join(at, verified, day)
                assert barred_until is None or day >= barred_until or before.member or at.how == "staff"
            elif act == "leave":
                at, _ = leave(at, day, TERMS)
                barred_until = at.barred_until
            elif act in ("admit", "remove"):
                at, said = by_staff(at, act == "admit", day)
                if said is not None:
                    barred_until = None
        except Refused:
            continue


# ---- the recount


@pytest.mark.parametrize("engine_every", [1, 0])
def test_counting_is_equal_to_a_naive_recount(engine_every: int) -> None:
    found = deep.run_block(seed=engine_every, first=0, count=2000 if engine_every else 6000, engine_every=engine_every)
    assert found["differences"] == 0
    assert found["by_engine"] == (2000 if engine_every else 0)


@given(st.integers(0, 2**32))
def test_any_history_of_the_life_cycle_is_counted_as_the_recount_says(seed: int) -> None:
    dice = random.Random(seed)
    engine = deep.Engine()
    histories = [
        engine.history(dice, number, dice.choice(deep.ACCOUNTS), dice.choice(("counterfeit", "design")))
        for number in range(8)
    ]
    terms = replace(TERMS, min_items=1, takedown_rate=Rate("50 %"), counter_rate=Rate("33.3 %"))
    assert deep.differences(dice, histories, terms) == 0


def test_the_histories_of_the_engine_go_everywhere() -> None:
    dice = random.Random(3)
    engine = deep.Engine()
    ends: set[Any] = set()
    revised = 0
    for number in range(1500):
        history = engine.history(dice, number, "a-1", "counterfeit")
        settled = [change.state for _, change in history if change.settled and change.state is not change.previous]
        revised += len(settled) > 1
        ends |= {(change.state, change.code if change.state is S.WITHDRAWN else None) for _, change in history}
    assert {state for state, _ in ends} == set(State)
    assert {code for state, code in ends if state is S.WITHDRAWN} == {"error", "settled", "licensed", "right_ended"}
    assert revised > 50


@pytest.mark.parametrize("broken", ["nothing is taken back", "counted again", "dated again", "never down"])
def test_a_broken_count_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle, outcome_change = goodfaith.settle, goodfaith.outcome_change
    if broken == "nothing is taken back":
        monkeypatch.setattr(goodfaith, "settle", lambda turns, counted, down: settle(turns, {}, down))
    elif broken == "counted again":
        forgotten = lambda counted: {name: replace(row, revision=0) for name, row in counted.items()}  # noqa: E731
        monkeypatch.setattr(
            goodfaith,
            "settle",
            lambda turns, counted, down: (settle(turns, forgotten(counted), down)[0], settle(turns, {}, down)[1]),
        )
    elif broken == "dated again":
        monkeypatch.setattr(
            goodfaith,
            "outcome_change",
            lambda change, at, partition: (
                outcome_change(replace(change, previous=None), at, partition)
                if change.settled
                else outcome_change(change, at, partition)
            ),
        )
    else:
        monkeypatch.setattr(
            goodfaith, "settle", lambda turns, counted, down: settle(turns, counted, dict.fromkeys(down, False))
        )
    assert deep.run_block(seed=1, first=0, count=1500, engine_every=3)["differences"] > 0


def test_a_takedown_that_stands_without_a_window_counts_until_it_is_left() -> None:
    """By the life cycle itself, under a policy by which the seller's silence means nothing."""
    world = lives.World(policy.current("dmca"))
    rules = world.policy
    kinds = tuple(kind for kind in rules.claim.required if kind not in ("identity", "authority", "right"))
    world.submit(profile="dmca", reason="copied_image_or_text", right_type="copyright", materials=kinds)
    world.sent("seller_notice")
    world.receipt()
    world.counter(())  # sent back in the same instant
    world.counter(rules.counter.required)
    world.action(by="owner")
    world.result("ended")
    world.pass_time(60 * lives.DAY)
    turns = [
        turn for change in world.changes if (turn := goodfaith.outcome_change(change.data, change.at, 0)) is not None
    ]
    assert [turn.down for turn in turns] == ["upheld", None, "countered"]
    assert turns[0].revision == 2
