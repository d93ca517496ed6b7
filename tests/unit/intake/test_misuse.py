"""Misuse by complainants: what is unfounded, how it weighs, and that no step is taken without the one before."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from labs import deep
from services.intake.goodfaith import domain as goodfaith
from services.intake.misuse import domain as misuse
from services.intake.misuse.domain import KEPT, MisuseFacts, MisuseMeasure
from services.verification.lifecycle import TABLE
from shared import policy
from shared.events import ItemChanged, State
from shared.policy import MEASURES, Forged, Misuse, MisuseStep, PolicyError, Rate, Span, UnfoundedEnd
from shared.refusals import Refused
from tests.unit.shared.test_policy import TEXT

S = State
NOW = dt.datetime(2030, 1, 14, 9, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TERMS = Misuse(
    ends={
        "rejected": UnfoundedEnd(weight=1, serious=2, codes=("plainly_unfounded",)),
        "restored_by_person": UnfoundedEnd(weight=3),
    },
    steps=(
        MisuseStep(measure="warning", number=3, share=Rate("20 %"), weight=3),
        MisuseStep(
            measure="quota",
            number=5,
            share=Rate("20 %"),
            weight=6,
            again=2,
            after=Span("3 d"),
            items=10,
            lasts=Span("10 d"),
        ),
        MisuseStep(
            measure="suspension",
            number=8,
            share=Rate("30 %"),
            weight=10,
            again=2,
            after=Span("3 d"),
            lasts=Span("20 d"),
        ),
    ),
    knowingly=30,
    forged_weight=5,
)
BAD = MisuseFacts(settled=10, number=10, items=10, weight=100, again=10, notices=10)
GOOD = MisuseFacts(settled=100)


def change(state: State, rule: str, **values: Any) -> ItemChanged:
    return ItemChanged(
        **{
            "item": "i-1",
            "claim": "c",
            "claim_size": 1,
            "listing": "l",
            "complainant": "a",
            "principal": "a",
            "right": "r",
            "right_type": "trademark",
            "reason": "counterfeit",
            "profile": "ipp",
            "policy": "p",
            "revision": 1,
            "state": state,
            "rule": rule,
            "settled": state in goodfaith.SETTLED,
            "received_at": NOW,
            **values,
        }
    )


# ---- what is unfounded


@pytest.mark.parametrize(
    ("state", "rule", "code", "grounds"),
    [
        (S.REJECTED, "6-refused", "not_infringing", ("rejected:not_infringing",) * 2),
        (S.REJECTED, "6-plainly-unfounded", "plainly_unfounded", ("rejected_by_rule:plainly_unfounded",) * 2),
        (S.REJECTED, "19-confirmed", "decision_stands", (KEPT, KEPT)),
        (S.RESTORED, "13-holder-accepted", None, ("counter_accepted",) * 2),
        (S.RESTORED, "17-restored", None, ("restored_by_person",) * 2),
        (S.RESTORED, "19-reversed", "facts_misjudged", ("reversed",) * 2),
        (S.RESTORED, "21-for-the-seller", None, ("restored_by_court",) * 2),
        # silence, and deadlines of ours, say nothing about the notice
        (S.RESTORED, "15-holder-silent", None, (None, None)),
        (S.RESTORED, "17-overdue-restored", None, (None, None)),
        (S.WITHDRAWN, "18-withdrawn", "error", ("withdrawn_error", "withdrawn_early")),
        (S.WITHDRAWN, "18-withdrawn", "settled", (None, None)),
        (S.DUPLICATE, "2-duplicate", None, (None, None)),
        (S.LINK_INVALID, "3-link-invalid", None, (None, None)),
        (S.LAPSED, "4-lapsed", None, (None, None)),
        (S.UPHELD_AFTER_COUNTER, "17-upheld", None, (None, None)),
        (S.APPEALED, "19-appealed", None, (KEPT, KEPT)),
    ],
)
def test_grounds(state: State, rule: str, code: str | None, grounds: tuple[str | None, str | None]) -> None:
    assert misuse.grounds_of(change(state, rule, code=code)) == grounds
    assert rule in {row.rule for row in TABLE}


def test_rows_that_are_named_are_in_the_table() -> None:
    assert {*misuse.RESTORED_BY, misuse.PERSON, misuse.CONFIRMED} <= {row.rule for row in TABLE}


def test_ends_of_the_policies_are_those_that_items_have() -> None:
    ends = {"rejected", "rejected_by_rule", "withdrawn_error", "withdrawn_early", *misuse.RESTORED_BY.values()}
    for profile in policy.profiles():
        assert set(policy.current(profile).misuse.ends) <= ends


@pytest.mark.parametrize("split", range(5))
def test_what_a_confirmed_refusal_was_for_is_kept_however_it_is_batched(split: int) -> None:
    line = [
        change(S.REJECTED, "6-refused", revision=1, previous=S.UNDER_REVIEW, code="plainly_unfounded"),
        change(S.APPEALED, "19-appealed", revision=2, previous=S.REJECTED, code="plainly_unfounded"),
        change(S.REJECTED, "19-confirmed", revision=3, previous=S.APPEALED, code="decision_stands"),
    ]
    known: dict[str, goodfaith.CountedItem] = {}
    for batch in (line[:split], line[split:]) if split < 4 else ([one] for one in line):
        turns: dict[str, goodfaith.OutcomeChange] = {}
        for one in batch:
            turn = goodfaith.outcome_change(one, NOW, 0)
            assert turn is not None
            turns[one.item] = goodfaith.follow(turns.get(one.item), turn)
        rows, _ = goodfaith.settle(turns.values(), known, {"i-1": False})
        known.update({row.item: row for row in rows})
    assert known["i-1"].ground == "rejected:plainly_unfounded"
    assert known["i-1"].outcome == "declined"


def test_any_history_in_any_batches_has_the_ground_of_its_last_settling() -> None:
    dice = random.Random(5)
    rules = [*misuse.RESTORED_BY, misuse.PERSON, misuse.CONFIRMED, "6-plainly-unfounded", "15-holder-silent"]
    seen = set()
    for number in range(400):
        line = [
            (at, replace(one, rule=dice.choice(rules), code=dice.choice((None, "error", "plainly_unfounded"))))
            for at, one in deep.walk(dice, number, "a-1", "design")
        ]
        naive = None
        for place, (_, one) in enumerate(line):
            down = any(before.held for _, before in line[: place + 1])
            if place and one.state is one.previous and one.state is not S.WITHDRAWN:
                continue
            turn = goodfaith.outcome_change(one, NOW, 0)
            if turn is not None and turn.grounds != (KEPT, KEPT):
                naive = turn.grounds[0 if down else 1]
        book = deep.StatisticTables()
        while line:
            size = dice.randrange(1, 5)
            book.batch([(0, at, one) for at, one in line[:size]])
            line = line[size:]
        found = book.counted.get(f"i-{number}")
        assert (None if found is None else found.ground) == naive
        seen.add(naive)
    assert len(seen) > 6


def test_weights() -> None:
    weights = [
        ("rejected:plainly_unfounded", False, 1),
        ("rejected:plainly_unfounded", True, 2),
        ("rejected:not_infringing", True, 0),
        ("rejected", True, 0),
        ("restored_by_person", False, 3),
        ("restored_by_person", True, 3),
        ("reversed", True, 0),
        ("nonsense", True, 0),
        ("", False, 0),
    ]
    for ground, serious, weight in weights:
        assert misuse.weight_of(ground, serious, TERMS) == weight


def test_grounds_that_count_are_those_that_weigh() -> None:
    for profile in policy.profiles():
        terms = policy.current(profile).misuse
        refused = [name for name in terms.ends if name.startswith("rejected")]
        names = [*terms.ends, *(f"{name}:{code}" for name in refused for code in policy.current(profile).refusals)]
        assert misuse.counted(terms) == sorted(name for name in names if misuse.weight_of(name, False, terms))


def test_facts_add_up_and_leave_out_what_does_not_count() -> None:
    grounds = [("rejected:plainly_unfounded", True, 3), ("restored_by_person", False, 2), ("reversed", True, 9)]
    facts = misuse.facts_of(40, grounds, {"knowingly_false": 1, "forged_document": 2, "none": 5}, TERMS, 4, 4)
    assert facts == MisuseFacts(
        40,
        8,
        5,
        3 * 2 + 2 * 3 + 30 + 2 * 5,
        True,
        4,
        {"forged_document": 2, "knowingly_false": 1, "rejected:plainly_unfounded": 3, "restored_by_person": 2},
        7,
    )


def test_number_share_and_weight_must_all_be_reached() -> None:
    step = TERMS.steps[0]
    assert misuse.reaches(MisuseFacts(15, 3, 3, 3, notices=9), step)
    assert not misuse.reaches(MisuseFacts(16, 3, 3, 3, notices=9), step)  # 18.75 %
    assert not misuse.reaches(MisuseFacts(15, 2, 2, 3, notices=9), step)
    assert not misuse.reaches(MisuseFacts(15, 3, 3, 2, notices=9), step)
    assert not misuse.reaches(
        MisuseFacts(15, 3, 3, 3, notices=1), replace(step, notices=2)
    )  # one claim is not frequently
    # an account that does it knowingly cannot hide behind a large number
    assert misuse.reaches(MisuseFacts(1000, 3, 2, 33, knowingly=True, notices=2), step)


counts = st.integers(0, 40)
facts_ = st.builds(
    lambda settled, items, findings, weight, knowingly, again: MisuseFacts(
        settled + items, items + findings, items, weight, knowingly, again, notices=items + findings
    ),
    counts,
    counts,
    st.integers(0, 3),
    st.integers(0, 60),
    st.booleans(),
    st.integers(0, 5),
)


@given(facts_, counts, counts, st.integers(0, 5), st.booleans(), st.sampled_from(TERMS.steps))
def test_more_misuse_never_reaches_less(
    facts: MisuseFacts, items: int, weight: int, again: int, knowingly: bool, step: MisuseStep
) -> None:
    # further unfounded items are settled items too
    worse = replace(
        facts,
        settled=facts.settled + items,
        items=facts.items + items,
        number=facts.number + items,
        notices=facts.notices + (items > 0),
        weight=facts.weight + weight,
        knowingly=facts.knowingly or knowingly,
        again=facts.again + again,
    )
    assert misuse.reaches(worse, step) or not misuse.reaches(facts, step)


@given(facts_, counts)
def test_further_good_items_never_reach_more(facts: MisuseFacts, good: int) -> None:
    for step in TERMS.steps:
        better = replace(facts, settled=facts.settled + good)
        assert misuse.reaches(facts, step) or not misuse.reaches(better, step)


# ---- the steps


def lived(
    history: list[tuple[int, MisuseFacts | str]], terms: Misuse = TERMS
) -> tuple[list[MisuseMeasure], dt.datetime]:
    """Measures after a history of (days later, facts, or ``forged``)."""
    measures: dict[str, MisuseMeasure] = {}
    now = NOW
    for place, (days, facts) in enumerate(history):
        now += days * DAY
        name = f"m-{place:03}"
        if isinstance(facts, str):
            change_ = misuse.at_once("f-1", now, name, terms)
            made: tuple[misuse.MeasureChange, ...] = () if change_ is None else (change_,)
        else:
            made = misuse.review(list(measures.values()), facts, now, name, terms)
        for one in made:
            measures[one.measure.id] = one.measure
    return list(measures.values()), now


def test_the_ladder_step_by_step() -> None:
    measures, now = lived([(0, BAD)])
    assert [(m.kind, m.until) for m in measures] == [("warning", None)]
    assert misuse.review(measures, BAD, now + 2 * DAY, "m-x", TERMS) == ()  # the warning's time
    assert misuse.review(measures, replace(BAD, again=1), now + 5 * DAY, "m-x", TERMS) == ()  # it was heeded
    measures, now = lived([(0, BAD), (3, BAD)])
    quota = measures[1]
    assert (quota.kind, quota.items, quota.until, quota.prior) == ("quota", 10, now.date() + 10 * DAY, "m-000")
    assert misuse.current(measures, now.date()) is quota
    measures, now = lived([(0, BAD), (3, BAD), (3, BAD)])
    assert misuse.current(measures, now.date()).kind == "suspension"  # type: ignore[union-attr]
    assert misuse.review(measures, BAD, now + DAY, "m-x", TERMS) == ()
    # what ends by its time falls back to what runs still: the quota until the 13th day, then the warning
    measures, now = lived([(0, BAD), (3, BAD), (3, BAD), (20, replace(BAD, again=0))])
    assert [m.state for m in measures] == ["on", "over", "over"]
    assert measures[2].ended == measures[2].until
    assert misuse.current(measures, now.date()) is measures[0]
    # and a good record lifts it
    (lifted,) = misuse.review(measures, GOOD, now + DAY, "m-x", TERMS)
    assert (lifted.kind, lifted.measure.id) == ("lifted", "m-000")


def test_a_measure_with_a_time_runs_its_time_on_a_good_record() -> None:
    measures, now = lived([(0, BAD), (3, BAD), (1, GOOD)])
    assert [m.state for m in measures] == ["lifted", "on"]
    # and misuse that begins again is warned of again
    measures, _ = lived([(0, BAD), (3, BAD), (1, GOOD), (3, BAD)])
    assert [(m.kind, m.state) for m in measures] == [("warning", "lifted"), ("quota", "on"), ("warning", "on")]
    assert misuse.current(measures, now.date()).kind == "quota"  # type: ignore[union-attr]


def test_what_is_over_is_followed_by_the_next_step_and_the_last_step_is_repeated() -> None:
    measures, now = lived([(0, BAD), (3, BAD), (12, replace(BAD, again=1))])
    assert [(m.kind, m.state) for m in measures] == [("warning", "on"), ("quota", "over")]
    # filed under the quota it counts, though it came out after its end
    assert misuse.last_step(measures) == measures[1].at
    measures, _ = lived([(0, BAD), (3, BAD), (12, BAD)])
    assert (measures[2].kind, measures[2].prior) == ("suspension", "m-001")
    # the end of a suspension is a beginning; who goes on is suspended again
    history: list[tuple[int, MisuseFacts | str]] = [(0, BAD), (3, BAD), (3, BAD), (22, BAD)]
    measures, now = lived(history)
    assert [m.state for m in measures] == ["on", "over", "over"]
    measures, now = lived([*history, (1, BAD)])
    assert [(m.kind, m.state, m.prior) for m in measures[2:]] == [
        ("suspension", "over", "m-001"),
        ("suspension", "on", "m-001"),
    ]
    assert misuse.review(measures, BAD, now + 5 * DAY, "m-x", TERMS) == ()
    # a new warning begins again
    measures, _ = lived([(0, BAD), (3, BAD), (12, GOOD), (1, BAD), (3, BAD)])
    assert [(m.kind, m.state) for m in measures] == [
        ("warning", "lifted"),
        ("quota", "over"),
        ("warning", "on"),
        ("quota", "on"),
    ]


@given(facts_, st.integers(0, 30))
def test_judged_twice_nothing_changes(facts: MisuseFacts, days: int) -> None:
    measures, now = lived([(0, BAD), (days, facts)])
    assert misuse.review(measures, facts, now, "m-x", TERMS) == ()


histories = st.lists(
    st.tuples(st.integers(0, 15), st.one_of(facts_, st.just(BAD), st.just("forged"))), min_size=1, max_size=12
)


@given(histories)
def test_no_measure_without_a_warning_that_stood_before_it(history: list[tuple[int, MisuseFacts | str]]) -> None:
    measures, _ = lived(history)
    for measure in measures:
        if measure.kind == "warning" or measure.finding is not None:
            continue
        assert any(
            other.kind == "warning" and other.day < measure.day and (other.ended is None or other.ended >= measure.day)
            for other in measures
        ), measures
        # one rung at a time, unless a finding stands above
        prior = next(m for m in measures if m.id == measure.prior)
        assert MEASURES.index(prior.kind) == MEASURES.index(measure.kind) - 1


@given(histories, st.data())
def test_a_reversal_leaves_what_would_be_if_the_measure_had_never_been(
    history: list[tuple[int, MisuseFacts | str]], data: st.DataObject
) -> None:
    measures, now = lived(history)
    if not measures:
        return
    chosen = data.draw(st.sampled_from(measures))
    if chosen.state in ("reversed", "fallen"):
        return
    after = {m.id: m for m in measures}
    after.update({one.measure.id: one.measure for one in misuse.reverse(measures, chosen.id, now.date())})

    def stands_on(measure: MisuseMeasure) -> bool:
        while measure.finding is None and measure.prior is not None:
            if measure.prior == chosen.id:
                return True
            measure = next(m for m in measures if m.id == measure.prior)
        return measure.id == chosen.id

    never = [m for m in measures if not stands_on(m) and m.id != chosen.id]
    for later in range(0, 60, 7):
        day = now.date() + later * DAY
        assert misuse.current(after.values(), day) == misuse.current(never, day)
        assert misuse.warned(after.values(), day) == misuse.warned(never, day)
    assert misuse.last_step(after.values()) == misuse.last_step(never)
    assert misuse.reverse(list(after.values()), chosen.id, now.date()) == ()


def test_a_forged_document_needs_no_warning_and_does_not_fall_with_one() -> None:
    measures, now = lived([(0, BAD), (1, "forged")])
    forged = measures[1]
    assert (forged.kind, forged.finding, forged.prior, forged.until) == (
        "suspension",
        "f-1",
        None,
        now.date() + 90 * DAY,
    )
    # each finding has its own measure: that one is reversed says nothing of the other
    second = misuse.at_once("f-2", now, "m-x", TERMS)
    assert second is not None
    after = [one.measure for one in misuse.reverse(measures, forged.id, now.date())]
    assert misuse.current([*after, second.measure], now.date()) == second.measure
    reversed_ = misuse.reverse(measures, "m-000", now.date())
    assert [(one.measure.id, one.kind) for one in reversed_] == [("m-000", "reversed")]
    assert misuse.at_once("f-1", now, "m-x", replace(TERMS, forged=Forged(measure="none"))) is None


def test_without_steps_nothing_follows() -> None:
    assert misuse.review([], BAD, NOW, "m-x", replace(TERMS, steps=())) == ()


# ---- complaints


def test_complaints() -> None:
    measure = lived([(0, BAD)])[0][0]
    misuse.check_complaint(measure, False, NOW + 184 * DAY, TERMS)
    for what, complained, now in (
        (measure, False, NOW + 185 * DAY),
        (measure, True, NOW),
        (replace(measure, state="reversed"), False, NOW),
    ):
        with pytest.raises(Refused):
            misuse.check_complaint(what, complained, now, TERMS)
    for state in ("reversed", "fallen"):
        with pytest.raises(Refused):
            misuse.check_standing(replace(measure, state=state))
    # what is over may still be wrong
    misuse.check_complaint(replace(measure, state="over"), False, NOW, TERMS)
    misuse.check_decider("a-3", ("a-1", None))
    with pytest.raises(Refused):
        misuse.check_decider("a-1", ("a-1", "a-2"))


# ---- the policy


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ('[[misuse.steps]]\nmeasure = "quota"\nnumber = 1\nshare = "1 %"\nweight = 1\nitems = 5', "misuse.steps"),
        (
            '[[misuse.steps]]\nmeasure = "warning"\nnumber = 1\nshare = "1 %"\nweight = 1\nitems = 5',
            "misuse.warning.items",
        ),
        ('[misuse.ends.reversed]\nweight = 1\ncodes = ["own_listing"]', "misuse.ends.reversed.codes"),
        ('[misuse.ends.rejected]\nweight = 1\ncodes = ["no_such"]', "misuse.ends.rejected.codes"),
        ("[misuse.ends.nonsense]\nweight = 1", "misuse.ends"),
        ('[misuse]\nwindow = "3 wd"', "misuse.window"),
        ('[misuse.forged]\nmeasure = "quota"', "misuse.quota.items"),
    ],
)
def test_wrong_policies_are_refused(extra: str, key: str) -> None:
    with pytest.raises(PolicyError, match=key.replace(".", r"\.")):
        policy.parse(f"{TEXT.partition('[misuse]')[0]}\n{extra}\n", "ipp-2026-11.toml")
