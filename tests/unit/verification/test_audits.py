"""Audits: who is drawn, that the person comes instead of the rule or after the silence, and what is noted of it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verification.rules.audits import drawn
from shared import policy
from shared.events import Audit, AuditedOutcome, Listing, Record, State
from shared.policy import Audits, Policy
from tests.unit.verification.world import DAY, HOUR, IPP, World, judged

S = State
NEWEST = policy.current("ipp")
BRANDED = Listing(listing="l", seller="seller", state="visible", title="ACME shoes", brand="no name")
BAD = Record(settled=50, upheld=10, countered=20, declined=10)
OUTCOMES: tuple[AuditedOutcome, ...] = get_args(AuditedOutcome)


def auditing(rules: Policy, **shares: float) -> Policy:
    return msgspec.structs.replace(
        rules,
        audits=Audits(seed="s", shares=shares, agrees="decision_stands", overturned="facts_misjudged"),  # type: ignore[arg-type]
    )


def upheld_by_rule(**changes: Any) -> World:
    world = World(auditing(NEWEST, upheld_by_rule=1.0), listing=BRANDED)
    world.submit(reason="improper_use", mark="ACME", **changes)
    return world


@pytest.mark.parametrize(
    ("decision", "state", "found"), [("uphold", S.NOTIFIED, "agrees"), ("refuse", S.REJECTED, "overturned")]
)
def test_a_person_decides_instead_of_the_rule_that_would_uphold(decision: str, state: State, found: Any) -> None:
    world = upheld_by_rule()
    assert (world.state, world.got.held, world.got.taken_down) == (S.UNDER_REVIEW, False, False)
    assert world.got.triage is not None
    assert world.got.triage.band == "uphold"
    assert world.changes[-1].data.audit == Audit(outcome="upheld_by_rule", size="0")
    world.decide(decision, "not_infringing" if decision == "refuse" else None)
    assert (world.state, world.changes[-1].data.audit) == (
        state,
        Audit(outcome="upheld_by_rule", size="0", found=found),
    )
    assert judged(world) == []


@pytest.mark.parametrize(("decision", "found"), [("refuse", "agrees"), ("uphold", "overturned")])
def test_a_person_decides_instead_of_the_rule_that_would_refuse(decision: str, found: str) -> None:
    for share, state in ((0.0, S.REJECTED), (1.0, S.UNDER_REVIEW)):
        world = World(auditing(NEWEST, refused_by_rule=share))
        world.listing, world.failed_before = Listing(listing="l", seller="seller", state="visible", title="mug"), 1
        world.submit(mark="Zephyr", record=BAD)
        assert world.state is state
    assert world.got.audit == Audit(outcome="refused_by_rule", size="20-199")
    world.decide(decision, "not_infringing")
    assert world.got.audit is not None
    assert world.got.audit.found == found
    assert judged(world) == []


@pytest.mark.parametrize(
    ("decision", "state", "found"),
    [("confirm", S.UPHELD_BY_DEFAULT, "agrees"), ("reverse", S.RESTORED, "overturned")],
)
def test_a_person_looks_at_what_the_sellers_silence_led_to(decision: str, state: State, found: str) -> None:
    world = World(auditing(IPP, upheld_by_default=1.0)).to(S.NOTIFIED)
    world.pass_time(10 * DAY)
    assert (world.state, world.got.held, world.changes[-1].data.rule) == (S.APPEALED, True, "19-audited")
    assert world.got.audit == Audit(outcome="upheld_by_default", size="0")
    world.decide_complaint(decision)
    assert (world.state, world.got.audit and world.got.audit.found) == (state, found)
    assert world.got.appeals == 0, "it uses up none of the parties' complaints"
    assert judged(world) == []


@pytest.mark.parametrize(
    ("overdue", "outcome", "settled", "other"),
    [
        ("restore", "restored_by_default", S.RESTORED, S.UPHELD_AFTER_COUNTER),
        ("uphold", "upheld_by_default", S.UPHELD_AFTER_COUNTER, S.RESTORED),
    ],
)
@pytest.mark.parametrize("decision", ["confirm", "reverse"])
def test_a_person_looks_at_what_our_own_silence_led_to(
    overdue: Any, outcome: AuditedOutcome, settled: State, other: State, decision: str
) -> None:
    rules = msgspec.structs.replace(IPP, rules=msgspec.structs.replace(IPP.rules, overdue_decision=overdue))
    world = World(auditing(rules, **{outcome: 1.0})).to(S.PLATFORM_REVIEW)
    world.pass_time(30 * DAY)
    assert (world.state, world.got.held) == (S.APPEALED, settled is S.UPHELD_AFTER_COUNTER)
    assert world.got.audit == Audit(outcome=outcome, size="0")
    world.decide_complaint(decision)
    assert world.state is (settled if decision == "confirm" else other)
    assert world.got.audit == Audit(
        outcome=outcome, size="0", found="agrees" if decision == "confirm" else "overturned"
    )
    assert judged(world) == []


def test_the_time_to_complain_begins_once_an_audit_is_over() -> None:
    for later, code in ((184 * DAY, None), (184 * DAY + HOUR, "complaint_too_late")):
        world = World(auditing(IPP, upheld_by_default=1.0))
        world.submit()
        world.sent("seller_notice")
        world.pass_time(30 * DAY)
        assert world.state is S.APPEALED
        world.pass_time(200 * DAY)
        world.decide_complaint("confirm")
        world.now += later
        refused = world.complain("seller").refused
        assert (refused and refused.code) == code
        assert judged(world) == []


def test_what_a_person_decided_is_not_audited() -> None:
    everything = auditing(policy.current("ipp"), **dict.fromkeys(OUTCOMES, 1.0))
    world = World(everything, listing=BRANDED)
    world.submit(mark="ACME")  # a serious reason: a person decides anyway
    assert (world.state, world.got.audit) == (S.UNDER_REVIEW, None)
    world.decide("uphold")
    world.receipt()
    world.sent("seller_notice")
    world.pass_time(10 * DAY)
    assert (world.state, world.got.audit) == (S.UPHELD_BY_DEFAULT, None)


def test_an_audit_that_gets_no_answer_is_dropped() -> None:
    world = upheld_by_rule()
    world.withdraw()
    assert (world.state, world.got.audit) == (S.WITHDRAWN, None)
    assert judged(world) == []


def test_an_interruption_keeps_the_audit() -> None:
    world = upheld_by_rule()
    world.right("lost")
    assert (world.state, world.got.audit) == (S.SUSPENDED, Audit(outcome="upheld_by_rule", size="0"))
    world.right("active")
    assert (world.state, world.got.audit) == (S.UNDER_REVIEW, Audit(outcome="upheld_by_rule", size="0"))
    assert judged(world) == []


def test_nobody_audits_a_canary() -> None:
    assert upheld_by_rule(canary=True).state is S.NOTIFIED


@given(st.sampled_from(OUTCOMES), st.floats(0.05, 0.95))
def test_the_share_is_that_of_the_policy(outcome: AuditedOutcome, share: float) -> None:
    rules = auditing(IPP, **{outcome: share})
    count = sum(drawn(rules, outcome, f"c-01K{number:08}.1") for number in range(2000))
    assert abs(count / 2000 - share) < 0.06, "about five standard deviations"
    assert not any(
        drawn(rules, other, f"c-{number}.1") for other in OUTCOMES if other != outcome for number in range(50)
    )


@given(st.text(max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_draws_the_same_items_and_more(item: str, one: float, other: float) -> None:
    small, large = (auditing(IPP, upheld_by_rule=share) for share in sorted((one, other)))
    assert drawn(large, "upheld_by_rule", item) or not drawn(small, "upheld_by_rule", item)
    assert drawn(auditing(IPP, upheld_by_rule=1.0), "upheld_by_rule", item)
    assert not drawn(auditing(IPP, upheld_by_rule=0.0), "upheld_by_rule", item)


def test_versions_draw_independently() -> None:
    one = auditing(IPP, upheld_by_rule=0.5)
    assert one.audits is not None
    other = msgspec.structs.replace(one, audits=msgspec.structs.replace(one.audits, seed="t"))
    names = [f"c-{number}.1" for number in range(2000)]
    both = sum(drawn(one, "upheld_by_rule", name) and drawn(other, "upheld_by_rule", name) for name in names)
    assert 0.2 < both / 2000 < 0.3


def test_a_wrong_sample_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.verification.rules import audits

    monkeypatch.setattr(audits, "drawn", lambda *_: False)
    (found,) = judged(upheld_by_rule())
    assert "UNDER_REVIEW" in found
    monkeypatch.setattr(audits, "drawn", lambda *_: True)
    rules = auditing(NEWEST, upheld_by_rule=0.0)
    world = World(rules, listing=BRANDED)
    world.submit(reason="improper_use", mark="ACME")
    assert len(judged(world)) == 1
