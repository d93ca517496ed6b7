"""The profiles other than ``ipp``: domain.md, "Profiles other than `ipp`", row by row. Rows without a word there are as in ``ipp``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from services.notification.domain import WindowRule, deadline, facts_of, window_rule
from shared.calendars import calendar
from shared.events import BrakeReason, Record, State
from shared.policy import Policy, current, load, profiles
from tests.unit.verification.world import DAY, HOUR, IPP, MICRO, VISIBLE, T, World, judged

S = State
DMCA, ECL, BPP, ZERO, DSA = (current(name) for name in ("dmca", "cn-ecl", "bpp", "project-zero", "dsa"))
US, CN = calendar("us"), calendar("cn")


def world(rules: Policy, **changes: Any) -> World:
    """An item filed with all that the profile asks for, and on evidence: a match, and a holder's record."""
    made = World(rules, listing=msgspec.structs.replace(VISIBLE, title="ACME shoes"))
    evidence = {"mark": "ACME", "good_faith": True, "record": Record(settled=50, upheld=50)}
    works = rules.profile == "dmca"
    reason = "copied_image_or_text" if works else "improper_use"
    right = "copyright" if works else "trademark"
    materials = (*rules.claim.required, *rules.reasons[reason].materials)
    made.submit(
        **{
            "profile": rules.profile,
            "reason": reason,
            "right_type": right,
            "materials": materials,
            **evidence,
            **changes,
        }
    )
    return made


def notified(rules: Policy, **changes: Any) -> World:
    """With receipt and notice."""
    made = world(rules, **changes)
    made.receipt()
    made.sent("seller_notice")
    assert (made.state, made.got.held) == (S.NOTIFIED, True), "removal: at once"
    return made


def countered(rules: Policy, **changes: Any) -> World:
    """With a complete counter that was forwarded."""
    made = notified(rules, **changes)
    assert made.counter(rules.counter.required).refused is None
    assert made.state is S.HOLDER_RESPONSE, "forwarded promptly"
    made.sent("counter_forwarded")
    return made


def test_the_profiles_of_the_domain() -> None:
    assert profiles() == ("bpp", "cn-ecl", "dmca", "dsa", "ipp", "project-zero")
    assert {name: current(name).calendar for name in ("dmca", "cn-ecl")} == {"dmca": "us", "cn-ecl": "cn"}


def test_a_profile_is_its_base_but_for_what_it_says() -> None:
    for rules in (DMCA, ECL, BPP, ZERO, DSA):
        assert rules.base == ("ipp-2026-12" if rules in (ZERO, DSA) else "ipp-2026-11")
        assert rules.refusals == load("ipp-2026-11").refusals
        assert rules.timers.review_sla == IPP.timers.review_sla
    assert set(DMCA.reasons) == {name for name, reason in IPP.reasons.items() if reason.rights == ("copyright",)}
    assert ECL.reasons == IPP.reasons


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP, ZERO, DSA, IPP], ids=lambda rules: rules.profile)
def test_7_who_acts_on_a_complete_notice_and_who_on_evidence(rules: Policy) -> None:
    rules = current("ipp") if rules is IPP else rules
    bare = world(rules, mark=None, good_faith=False, record=None)
    by_its_terms = rules in (DMCA, ECL, BPP)
    assert bare.state is (S.NOTIFIED if by_its_terms else S.UNDER_REVIEW)
    assert world(rules).state is S.NOTIFIED
    assert (rules.rules.review == "prima_facie") == by_its_terms


@pytest.mark.parametrize("brake", ["probation", "rate"])
@pytest.mark.parametrize("rules", [DMCA, ECL, BPP, ZERO, DSA, IPP], ids=lambda rules: rules.profile)
def test_7_under_a_brake_a_person_decides_under_every_profile(rules: Policy, brake: BrakeReason) -> None:
    rules = current(rules.profile)
    assert rules.brake == current("ipp").brake, "an account has one history, whatever its claims' profiles"
    for decision, then in (("uphold", S.NOTIFIED), ("refuse", S.REJECTED)):
        made = world(rules, brake=brake)
        assert (made.state, made.got.held, made.changes[-1].data.brake) == (S.UNDER_REVIEW, False, brake)
        made.pass_time(T + 24 * HOUR - MICRO)
        assert made.state is S.UNDER_REVIEW, "within the 24 hours"
        assert made.decide(decision, "right_not_proven" if decision == "refuse" else None).refused is None
        assert (made.state, made.got.held) == (then, decision == "uphold")
        assert judged(made, made.now) == []
    late = world(rules, brake=brake)
    (overdue,) = late.pass_time(T + 24 * HOUR)
    assert (overdue.kind, late.state, late.got.held) == ("overdue", S.UNDER_REVIEW, False), "no takedown by waiting"


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP, ZERO, DSA, IPP], ids=lambda rules: rules.profile)
def test_7_a_listing_of_no_shop_that_the_claim_names_is_for_a_person(rules: Policy) -> None:
    rules = current(rules.profile)
    named = world(rules, sellers=("another", "seller"))
    assert (named.state, named.changes[-1].data.other_seller) == (world(rules).state, False)
    made = world(rules, sellers=("another",))
    assert (made.state, made.got.held, made.changes[-1].data.other_seller) == (S.UNDER_REVIEW, False, True)
    assert made.decide("uphold").refused is None
    assert made.state is S.NOTIFIED
    assert judged(made, made.now) == []


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_7_the_versions_before_have_no_brake(rules: Policy) -> None:
    assert load(f"{rules.profile}-2026-11").brake is None


# --------------------------------------------------------------------------------------- row 9: a seller is not reached


@pytest.mark.parametrize(
    ("rules", "then"),
    [(IPP, "review"), (ZERO, "review"), (DSA, "review"), (BPP, "wait"), (ECL, "wait"), (DMCA, "proceed")],
    ids=lambda value: value.profile if isinstance(value, Policy) else value,
)
def test_9_a_seller_that_cannot_be_reached_is_never_upheld_by_its_silence(rules: Policy, then: str) -> None:
    assert rules.sellers.unreachable == then
    assert load(f"{rules.profile}-2026-11").sellers.unreachable == "proceed", "as before, under the version before"
    made = world(rules)
    made.receipt()
    notice, began = made.got.revision, window_rule("seller_notice", rules.version, made.now, reached=False)
    if then == "proceed":
        assert began == WindowRule("sent", None)
        made.sent("seller_notice")
    else:
        assert began == WindowRule("read", None), "and nothing is deemed"
        made.unreached()
    made.pass_time(400 * DAY)
    assert S.UPHELD_BY_DEFAULT not in {change.data.state for change in made.changes}
    assert made.got.held, "what was taken down stays down"
    assert judged(made, made.now) == []
    if then == "proceed":
        assert (made.state, made.got.upheld, made.got.due) == (S.NOTIFIED, True, None), "no time runs, none is late"
        return
    assert not made.got.upheld, "and nothing counts against the seller"
    if then == "review":
        assert made.state is S.APPEALED
        made.decide_complaint("confirm")
        assert (made.state, made.changes[-1].data.by) == (S.UPHELD_BY_DEFAULT, "reviewer")
        return
    assert made.state is S.NOTIFIED
    made.sent("seller_notice", revision=notice)
    if rules is ECL:
        assert (made.state, made.got.upheld) == (S.NOTIFIED, True)
    else:
        assert made.got.due == made.now + 4 * DAY
        made.pass_time(4 * DAY + MICRO)
        assert made.state is S.UPHELD_BY_DEFAULT


# ------------------------------------------------------------------------------------------------------- rows 4 and 11


@pytest.mark.parametrize("element", DMCA.claim.required)
def test_dmca_4_each_element_of_512_c_3(element: str) -> None:
    materials = tuple(kind for kind in DMCA.claim.required if kind != element)
    changes: dict[str, Any] = {
        "identity": {"identity_verified": False},
        "authority": {"authority": "missing"},
        "right": {"right_status": "pending"},
    }.get(element, {"materials": materials})
    made = world(DMCA, **changes)
    assert (made.state, made.got.missing) == (S.NEEDS_INFO, (element,))


@pytest.mark.parametrize("element", DMCA.counter.required)
def test_dmca_11_each_element_of_512_g_3(element: str) -> None:
    made = notified(DMCA)
    made.counter(tuple(kind for kind in DMCA.counter.required if kind != element))
    assert (made.state, made.got.missing) == (S.NOTIFIED, (element,))
    assert made.got.upheld, "the takedown stands as before"
    made.sent("counter_defect")
    made.pass_time(400 * DAY)
    assert made.state is S.NOTIFIED, "and may be countered again, at any time"
    assert made.counter(DMCA.counter.required).refused is None


# ----------------------------------------------------------------------------------------------------------------- row 9


@pytest.mark.parametrize("rules", [DMCA, ECL], ids=lambda rules: rules.profile)
def test_9_the_sellers_silence_means_nothing(rules: Policy) -> None:
    made = notified(rules)
    change = made.changes[-1]
    assert (change.kind, change.data.settled, change.data.due) == ("stands", True, None)
    assert (made.got.upheld, made.got.timers) == (True, ())
    assert made.pass_time(1000 * DAY) == []
    assert (made.state, made.got.held) == (S.NOTIFIED, True)
    assert made.counter(rules.counter.required).refused is None, "a counter is never late"


def test_9_a_notice_that_comes_after_the_counter_makes_it_stand_too() -> None:
    made = world(DMCA)
    made.receipt()
    made.action()
    made.sent("seller_notice", revision=made.changes[0].data.revision)
    made.result("ended")
    assert (made.state, made.got.upheld, made.got.settled) == (S.NOTIFIED, True, True)


def test_bpp_9_silent_for_four_days_is_deleted() -> None:
    made = notified(BPP)
    (change,) = made.pass_time(4 * DAY)
    assert (made.state, change.at) == (S.UPHELD_BY_DEFAULT, T + 4 * DAY)


@pytest.mark.parametrize("rules", [ZERO, DSA], ids=lambda rules: rules.profile)
def test_9_the_others_have_the_window_of_the_programme(rules: Policy) -> None:
    made = notified(rules)
    made.pass_time(calendar(rules.calendar).add_working_days(T, 3))
    assert made.got.upheld


# ---------------------------------------------------------------------------------------------------------------- row 10


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_10_one_counter_only(rules: Policy) -> None:
    made = countered(rules)
    made.action(by="owner")
    made.result("holder")
    assert made.state is S.UPHELD_AFTER_COUNTER
    refused = made.counter(rules.counter.required).refused
    assert refused is not None
    assert refused.code == "rounds_used"


# ---------------------------------------------------------------------------------------------------------- rows 13 to 15


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_13_the_holder_accepts(rules: Policy) -> None:
    made = countered(rules)
    made.respond(True)
    assert (made.state, made.got.upheld) == (S.RESTORED, False)


@pytest.mark.parametrize(
    ("rules", "until"),
    [(DMCA, US.add_working_days(T, 10)), (ECL, T + 15 * DAY), (BPP, T + 4 * DAY)],
    ids=["dmca", "cn-ecl", "bpp"],
)
@pytest.mark.parametrize("rejects", [True, False])
def test_14_15_rejection_has_no_effect_and_silence_restores(rules: Policy, until: dt.datetime, rejects: bool) -> None:
    made = countered(rules)
    if rejects:
        assert made.respond(False).refused is None
        assert made.state is S.HOLDER_RESPONSE
    made.pass_time(until - MICRO)
    assert (made.state, made.got.held) == (S.HOLDER_RESPONSE, True), "not before"
    made.pass_time(until)
    assert (made.state, made.got.held, made.got.upheld) == (S.RESTORED, False, False)


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_16_only_an_action_filed_in_time_stops_it(rules: Policy) -> None:
    made = countered(rules)
    due = made.got.timers[0].due
    made.pass_time(due - HOUR)
    made.action(by="owner")
    made.pass_time(60 * DAY)
    assert made.state is S.LITIGATION
    # accepted in time, however late it is read
    late = countered(rules)
    late.pass_time(due + DAY)
    assert late.state is S.RESTORED
    late.action(by="owner", accepted_at=due)
    assert late.state is S.LITIGATION


def test_dmca_15_ten_business_days_from_the_forwarding_and_no_more_than_fourteen_from_the_counter() -> None:
    made = notified(DMCA)
    made.counter(DMCA.counter.required)
    made.now += 3 * DAY
    made.sent("counter_forwarded")
    assert [(timer.kind, timer.due) for timer in made.got.timers] == [
        ("holder_response", US.add_working_days(T + 3 * DAY, 10)),
        ("restore_by", US.add_working_days(T, 14)),
    ]


def test_dmca_15_restored_after_fourteen_though_the_counter_was_never_forwarded() -> None:
    made = notified(DMCA)
    made.counter(DMCA.counter.required)
    made.pass_time(US.add_working_days(T, 14))
    assert (made.state, made.changes[-1].data.rule) == (S.RESTORED, "15-restored-by")


def test_dmca_15_business_days_leave_out_weekends_and_federal_holidays() -> None:
    """24 November 2026 is a Tuesday; Thanksgiving is the 26th."""
    assert US.add_working_days(T, 10).date() == dt.date(2026, 12, 9)
    assert US.add_working_days(T, 14).date() == dt.date(2026, 12, 15)


def test_ecl_15_holders_abroad_have_longer() -> None:
    made = countered(ECL, abroad=True)
    made.pass_time(CN.add_working_days(T, 20) - MICRO)
    assert made.state is S.HOLDER_RESPONSE
    made.pass_time(CN.add_working_days(T, 20))
    assert made.state is S.RESTORED


@pytest.mark.parametrize("abroad", [False, True])
@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_12_the_holder_is_told_the_time_that_runs(rules: Policy, abroad: bool) -> None:
    made = notified(rules, abroad=abroad)
    assert made.counter(rules.counter.required).refused is None
    assert made.state is S.HOLDER_RESPONSE
    told = deadline("counter_forwarded", [facts_of(made.changes[-1].data)], made.now)
    made.sent("counter_forwarded")
    assert [timer.due for timer in made.got.timers if timer.kind == "holder_response"] == [told]


@pytest.mark.parametrize("rules", [DMCA, ECL, BPP], ids=lambda rules: rules.profile)
def test_14_the_platform_never_judges(rules: Policy) -> None:
    for answers in (None, False):
        made = countered(rules)
        if answers is not None:
            made.respond(answers)
        made.pass_time(400 * DAY)
        assert not any(S.PLATFORM_REVIEW in (change.data.state, *change.data.via) for change in made.changes)


@pytest.mark.parametrize("rules", [ZERO, DSA], ids=lambda rules: rules.profile)
def test_14_15_the_others_go_to_the_platform(rules: Policy) -> None:
    made = countered(rules)
    made.respond(False)
    assert made.state is S.PLATFORM_REVIEW


# ----------------------------------------------------------------------------------------------------- audit, complaints


def test_project_zero_19_a_sample_is_audited() -> None:
    assert ZERO.audits is not None
    rules = msgspec.structs.replace(
        ZERO, audits=msgspec.structs.replace(ZERO.audits, shares={"upheld_by_default": 1.0})
    )
    made = notified(rules)
    made.pass_time(10 * DAY)
    assert (made.state, made.got.held, made.changes[-1].data.rule) == (S.APPEALED, True, "19-audited")
    made.decide_complaint("confirm")
    assert made.state is S.UPHELD_BY_DEFAULT
    assert made.complain("seller").refused is None, "the audit takes no complaint away"
    made.decide_complaint("reverse", "third", "new_evidence")
    assert made.state is S.RESTORED


def test_project_zero_19_the_share_is_that_of_the_policy() -> None:
    count = 0
    for number in range(4000):
        made = world(ZERO, item=f"i-{number}")
        made.do(made.last.item and msgspec.structs.replace(_sent(made), item=f"i-{number}"))
        made.pass_time(10 * DAY)
        count += made.state is S.APPEALED
    assert 0.03 < count / 4000 < 0.07


def _sent(made: World) -> Any:
    from shared.events import NoticeSent

    return NoticeSent(
        item=made.got.item, claim="c", listing="l", message="m", kind="seller_notice", revision=1, sent_at=made.now
    )


def test_dsa_19_complaints_for_six_months_and_by_a_person() -> None:
    made = notified(DSA)
    made.pass_time(10 * DAY)
    assert made.state is S.UPHELD_BY_DEFAULT
    assert DSA.appeals.within.exact >= 184 * DAY
    made.complain("seller")
    assert {change.kind for change in made.pass_time(1000 * DAY)} == {"overdue"}, "no automation decides it"


def test_dsa_23_a_warning_comes_before_any_suspension() -> None:
    for ledger in (DSA.penalties.general, DSA.penalties.serious):
        assert ledger.thresholds[0].consequence == "warning"
