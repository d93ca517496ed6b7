"""Triage: scores, bands, what is kept of them, and that a machine never has the last word."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verification.item import Facts, Item
from services.verification.triage import SIGNALS, lacking, measure, triage, weigh
from shared import policy
from shared.events import Listing, Record, State
from tests.unit.verification.world import IPP, World, judged

S = State
assert IPP.triage is not None
RULES: policy.Triage = IPP.triage
GOOD, BAD = Record(settled=50, upheld=49), Record(settled=50, upheld=10, countered=20, declined=10)


def listing(title: str | None, brand: str | None = None) -> Listing:
    return Listing(listing="l", seller="seller", state="visible", title=title, brand=brand)


def item(**changes: Any) -> Item:
    world = World()
    world.submit()
    return msgspec.structs.replace(world.got, **changes)


def fired(facts: Facts | None = None, **changes: Any) -> dict[str, int]:
    return triage(item(**changes), facts or Facts(listing=listing(None)), RULES).rules


def test_a_complete_claim_against_which_nothing_speaks_is_upheld_at_once() -> None:
    world = World()
    (change,) = world.submit().changes
    assert world.state is S.NOTIFIED
    assert change.data.triage is not None
    assert (change.data.triage.band, change.data.triage.score, change.data.triage.rules) == ("uphold", RULES.base, {})


@pytest.mark.parametrize(
    ("changes", "facts", "rule"),
    [
        ({"good_faith": True}, {}, "complainant_in_good_faith"),
        ({"record": GOOD}, {}, "complainant_reliable"),
        ({"record": BAD}, {}, "complainant_unreliable"),
        ({"record": BAD}, {}, "complainant_often_countered"),
        ({"materials": ("a", "b", "c")}, {}, "well_evidenced"),
        ({"mark": "ACME"}, {"listing": listing("acme shoes, size 42")}, "mark_in_title"),
        ({"mark": "ACME"}, {"listing": listing("АСМЕ shoes")}, "mark_in_title"),  # in Cyrillic letters
        ({"mark": "ACME"}, {"listing": listing("ＡＣＭＥ　ｓｈｏｅｓ")}, "mark_in_title"),  # in full width
        ({"mark": "ACME"}, {"listing": listing("A.C.M.E shoes")}, "mark_in_title"),
        ({"mark": "Zephyr"}, {"listing": listing("blue mug")}, "mark_not_in_title"),
        ({"mark": "Apple"}, {"listing": listing("pineapple slicer")}, "mark_not_in_title"),
        ({"mark": "iPhone"}, {"listing": listing("case for iPhone 15")}, "mark_in_title"),  # as what: `mark_use`
        ({"mark": "Zephyr"}, {"listing": listing("blue mug with a big handle, zephyr")}, "mark_in_title"),
        ({}, {"failed_before": 1}, "same_claim_failed_before"),
        ({}, {"upheld_here": 1}, "listing_upheld_before"),
        ({}, {"seller_violations": 2}, "seller_offends_repeatedly"),
    ],
)
def test_each_rule_of_the_policy_fires(changes: dict[str, Any], facts: dict[str, Any], rule: str) -> None:
    assert fired(Facts(**{"listing": listing(None), **facts}), **changes)[rule] == RULES.rules[rule].weight
    assert rule not in fired()


def test_every_rule_of_the_policies_looks_at_a_signal_that_there_is() -> None:
    for version in policy.versions():
        rules = policy.load(version).triage
        assert rules is None or {rule.signal for rule in rules.rules.values()} <= set(SIGNALS)


def test_a_short_record_says_nothing() -> None:
    assert fired(record=Record(settled=19, upheld=0, declined=19)) == {}


def test_what_is_not_known_fires_nothing() -> None:
    for title, mark in ((None, "ACME"), ("x", None), ("", "ACME"), ("???", "ACME"), ("x", "\u0301")):
        assert fired(Facts(listing=listing(title)), mark=mark) == {}


@pytest.mark.parametrize(
    ("mark", "title"),
    [
        ("3M", "3m cable"),  # too short to be looked for in a title
        ("Zephyr", "zephir mug"),  # perhaps misspelt
    ],
)
def test_a_title_that_says_too_little_fires_nothing(mark: str, title: str) -> None:
    assert fired(Facts(listing=listing(title)), mark=mark) == {}


@pytest.mark.parametrize(
    ("title", "locale", "use"),
    [
        ("iPhone 15", "en", 1.0),
        ("blue mug with a big handle, iPhone", "en", 0.6),
        ("case for iPhone 15", "en", 0.2),
        ("Hülle für iPhone", "de-AT", 0.2),
        ("Hülle für iPhone", "en", 0.2),  # also the locale of listings that name none
        ("Hülle für iPhone", "fr", 1.0),
        ("blue mug", "en", None),
        (None, "en", None),
    ],
)
def test_as_what_a_mark_stands_in_the_title(title: str | None, locale: str, use: float | None) -> None:
    facts = Facts(listing=msgspec.structs.replace(listing(title), locale=locale))
    assert measure(item(mark="iPhone"), facts).get("mark_use") == use
    assert "mark_use" not in measure(item(mark=None), facts)


@pytest.mark.parametrize(
    ("brand", "named"),
    [
        ("iPhone", 1.0),
        ("IPHONE (Apple)", 1.0),
        ("1Phone", 1.0),
        ("no name", 0.0),
        ("Phone", 0.0),
        ("", None),
        (None, None),
    ],
)
def test_whether_the_listing_names_the_mark_as_its_brand(brand: str | None, named: float | None) -> None:
    facts = Facts(listing=listing("phone", brand))
    assert measure(item(mark="iPhone"), facts).get("brand_named") == named
    assert "brand_named" not in measure(item(mark=None), facts)


def test_in_between_a_person_decides_and_sees_why() -> None:
    world = World()
    world.listing = listing("blue mug")
    (change,) = world.submit(mark="Zephyr").changes
    assert world.state is S.UNDER_REVIEW
    assert change.data.triage is not None
    assert (change.data.triage.band, change.data.triage.rules) == ("review", {"mark_not_in_title": -20})
    assert world.decide("uphold").refused is None
    assert world.got.triage == change.data.triage, "kept"


def unfounded() -> World:
    world = World()
    world.listing = listing("blue mug")
    world.failed_before = 1
    world.submit(mark="Zephyr", record=BAD)
    return world


def test_plainly_unfounded_is_refused_at_once_with_the_cure() -> None:
    world = unfounded()
    assert (world.state, world.got.code) == (S.REJECTED, "plainly_unfounded")
    assert world.changes[-1].data.rule == "6-plainly-unfounded"
    assert "plainly_unfounded" in world.policy.refusals


def test_a_person_who_reverses_it_is_not_overruled_by_the_rule() -> None:
    world = unfounded()
    world.complain()
    world.decide_complaint("reverse")
    assert world.state is S.UNDER_REVIEW
    assert world.decide("uphold").refused is None
    assert world.state is S.NOTIFIED


def test_a_listing_that_is_not_known_is_weighed_by_nobody() -> None:
    world = World(listing=None)
    world.submit(record=BAD)
    world.pass_time(IPP.timers.lookup_give_up.exact)
    assert (world.state, world.got.triage) == (S.UNDER_REVIEW, None)


@given(
    record=st.none()
    | st.builds(
        Record,
        settled=st.integers(0, 100),
        upheld=st.integers(0, 100),
        countered=st.integers(0, 100),
        declined=st.integers(0, 100),
    ),
    mark=st.none() | st.text(max_size=20),
    title=st.none() | st.text(max_size=40),
    failed=st.integers(0, 3),
)
def test_the_score_is_the_base_and_the_weights(
    record: Record | None, mark: str | None, title: str | None, failed: int
) -> None:
    result = triage(item(record=record, mark=mark), Facts(listing=listing(title), failed_before=failed), RULES)
    assert result.score == RULES.base + sum(result.rules.values())
    assert (result.band == "uphold") == (result.score >= RULES.uphold_at)
    assert (result.band == "refuse") == (result.score <= RULES.refuse_at)
    assert result.rules == {name: RULES.rules[name].weight for name in result.rules}


# ------------------------------------------------------------------------------------------- what an uphold needs besides

NEWEST = policy.current("ipp")
assert NEWEST.triage is not None
TRIAGE: policy.Triage = NEWEST.triage
MATCH = {"mark": "ACME"}
BRANDED, ACCESSORY, OTHER = (listing(title, "no name") for title in ("ACME shoes", "laces for ACME shoes", "shoes"))
OWN, UNSAID = (listing("ACME shoes", brand) for brand in ("Acme", None))
"""Says that the goods are of the mark; says nothing."""
IN_GOOD_FAITH: dict[str, Any] = {"good_faith": True, "record": Record(settled=50, upheld=49)}


def newest(shown: Listing | None = BRANDED, **changes: Any) -> World:
    """A complete claim under the newest version of the profile."""
    world = World(NEWEST)
    world.listing = shown
    world.submit(**changes)
    return world


@pytest.mark.parametrize(
    ("reason", "shown", "changes", "lacks"),
    [
        # what the version before takes down unseen: a complete claim, of which nothing is known
        ("improper_use", OTHER, {}, ("match", "other_goods", "copied_work", "record")),
        ("counterfeit", OTHER, {}, ("match", "record", "copied_work")),
        ("improper_use", BRANDED, MATCH, ()),
        # the mark on what may be the holder's own goods
        ("improper_use", OWN, MATCH, ("other_goods", "copied_work", "record")),
        ("improper_use", UNSAID, MATCH, ("other_goods", "copied_work", "record")),
        ("improper_use", OWN, {**MATCH, **IN_GOOD_FAITH}, ()),
        ("counterfeit", OWN, {**MATCH, **IN_GOOD_FAITH}, ()),
        ("improper_use", OTHER, IN_GOOD_FAITH, ()),
        (
            "improper_use",
            OTHER,
            {"good_faith": True},
            ("match", "other_goods", "copied_work", "record"),
        ),  # without a record
        (
            "improper_use",
            OTHER,
            {**IN_GOOD_FAITH, "good_faith": False},
            ("match", "other_goods", "copied_work", "record"),
        ),
        (
            "improper_use",
            OTHER,
            {**IN_GOOD_FAITH, "record": Record(settled=19, upheld=19)},
            ("match", "other_goods", "copied_work", "record"),
        ),
        # a serious reason takes both
        ("counterfeit", BRANDED, MATCH, ("record", "copied_work")),
        ("counterfeit", OTHER, IN_GOOD_FAITH, ("match", "copied_work")),
        ("counterfeit", BRANDED, {**MATCH, **IN_GOOD_FAITH}, ()),
        ("counterfeit", BRANDED, {**MATCH, **IN_GOOD_FAITH, "record": BAD}, ("record", "copied_work")),
        (
            "improper_use",
            listing("zephir mug", "no name"),
            {"mark": "Zephyr"},
            ("match", "copied_work", "record"),
        ),  # perhaps misspelt
        ("improper_use", ACCESSORY, MATCH, ("match", "copied_work", "record")),
    ],
)
def test_positive_evidence(reason: str, shown: Listing, changes: dict[str, Any], lacks: tuple[str, ...]) -> None:
    world = newest(shown, reason=reason, **changes)
    weighed = world.got.triage
    assert weighed is not None
    assert weighed.score >= TRIAGE.uphold_at or weighed.rules.keys() & {
        "mark_only_descriptive",
        "complainant_unreliable",
    }
    assert weighed.lacks == lacks
    assert (weighed.band, world.state) == (("review", S.UNDER_REVIEW) if lacks else ("uphold", S.NOTIFIED))
    assert world.decide("uphold").refused is None or not lacks, "a person may"


@pytest.mark.parametrize(
    ("shown", "more", "against"),
    [
        (ACCESSORY, {"mark": "ACME"}, "mark_only_descriptive"),
        (OTHER, {"mark": "ACME"}, "mark_not_in_title"),
        (BRANDED, {"mark": "ACME", "failed": 1}, "same_claim_failed_before"),
    ],
)
def test_what_speaks_against_it_is_outweighed_by_nothing(shown: Listing, more: dict[str, Any], against: str) -> None:
    world = World(NEWEST)
    world.listing, world.failed_before = shown, more.get("failed", 0)
    world.submit(reason="improper_use", mark=more["mark"], materials=("a", "b", "ownership"), **IN_GOOD_FAITH)
    weighed = world.got.triage
    assert weighed is not None
    assert (weighed.lacks, weighed.rules[against] < 0) == ((), True)
    assert (weighed.band, world.state) == ("review", S.UNDER_REVIEW)


def test_the_right_counts_as_it_is_when_the_item_comes_to_review() -> None:
    world = newest(reason="improper_use", right_status="pending", **MATCH)
    assert world.state is S.NEEDS_INFO
    world.right("active")
    assert (world.state, world.got.triage and world.got.triage.signals["right_in_force"]) == (S.NOTIFIED, 1.0)


WORK: dict[str, Any] = {"right_type": "copyright", "reason": "copied_image_or_text"}


def pictured(rules: policy.Policy = NEWEST, **changes: Any) -> World:
    """A claim on a work, about a listing whose content is known, that waits for a person."""
    world = World(rules)
    world.listing, world.content = OTHER, "c" * 64
    world.submit(**{**WORK, **changes})
    assert world.state is S.UNDER_REVIEW
    return world


def test_a_work_that_is_found_in_the_pictures_completes_the_evidence() -> None:
    world = pictured()
    weighed = world.got.triage
    assert weighed is not None
    assert (weighed.band, weighed.lacks) == ("review", ("match", "other_goods", "copied_work", "record"))
    assert "picture_match" not in weighed.signals
    (change,) = world.pictures(0.98).changes
    assert (world.state, change.kind, change.data.rule) == (S.NOTIFIED, "notified", "7-upheld-prima-facie")
    assert change.data.via == (S.UNDER_REVIEW,)
    assert change.data.triage is not None
    assert (change.data.triage.band, change.data.triage.lacks) == ("uphold", ())
    assert change.data.triage.signals["picture_match"] == 0.98
    assert judged(world) == []
    assert world.pictures(0.5).ignored is not None
    # verify knows what was told
    told = world.heard[1][1]
    world.heard[1] = (world.heard[1][0], msgspec.structs.replace(told, match=0.97))
    (found,) = judged(world)
    assert "pictures of which nothing was told" in found


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, 0.0),
        ({}, 0.6),
        ({}, 0.89),
        ({"reason": "pirated_product"}, 1.0),  # a serious reason takes a record as well
        ({"brake": "rate"}, 1.0),
        ({"record": BAD}, 1.0),  # something speaks against it
    ],
)
def test_pictures_that_do_not_suffice_are_noted_and_a_person_decides(changes: dict[str, Any], match: float) -> None:
    world = pictured(**changes)
    before = world.got
    assert world.pictures(match).changes == ()
    assert world.got == msgspec.structs.replace(before, picture_match=match)
    assert world.decide("uphold").refused is None
    assert judged(world) == []


def test_only_pictures_of_what_the_item_is_judged_on_count() -> None:
    world = pictured()
    before = world.got
    assert world.pictures(1.0, content="d" * 64).ignored is not None
    assert world.got == before
    none = World(NEWEST)
    none.listing = OTHER
    none.submit(**WORK)
    assert none.pictures(1.0, content="d" * 64).ignored is not None


def test_pictures_change_nothing_once_a_person_is_at_it() -> None:
    world = pictured()
    world.decide("refuse", code="plainly_unfounded")
    world.pictures(1.0)
    assert world.state is S.REJECTED
    world.complain()
    world.decide_complaint("reverse", code="facts_misjudged")
    assert world.state is S.UNDER_REVIEW
    assert world.pictures(1.0).changes == ()
    assert judged(world) == []


def test_pictures_under_an_audit_leave_it_to_the_person() -> None:
    assert NEWEST.audits is not None
    audits = msgspec.structs.replace(NEWEST.audits, shares={"upheld_by_rule": 1.0})
    world = pictured(msgspec.structs.replace(NEWEST, audits=audits))
    (change,) = world.pictures(1.0).changes
    assert (world.state, change.kind, change.data.via) == (S.UNDER_REVIEW, "under_review", ())
    assert change.data.audit is not None
    assert world.pictures(0.95).changes == ()
    assert world.state is S.UNDER_REVIEW
    assert judged(world) == []


def test_pictures_that_come_while_the_item_is_away_count_on_its_return() -> None:
    world = pictured()
    world.right("expired")
    assert world.state is S.SUSPENDED
    assert world.pictures(1.0).changes == ()
    world.right("active")
    assert (world.state, world.got.triage and world.got.triage.signals["picture_match"]) == (S.NOTIFIED, 1.0)
    assert judged(world) == []


def test_under_a_policy_that_does_not_look_at_them_pictures_are_noted() -> None:
    world = World(IPP)
    world.listing, world.content, world.failed_before = OTHER, "c" * 64, 1
    world.submit(**WORK)
    assert world.state is S.UNDER_REVIEW
    world.failed_before = 0  # what else changed is no occasion
    assert world.pictures(1.0).changes == ()
    assert world.got.picture_match == 1.0


@pytest.mark.parametrize("brake", ["probation", "rate"])
def test_under_a_brake_a_person_decides_whatever_the_evidence(brake: str) -> None:
    world = newest(reason="improper_use", brake=brake, **MATCH, **IN_GOOD_FAITH)
    assert (world.state, world.changes[-1].data.brake) == (S.UNDER_REVIEW, brake)
    assert world.decide("uphold").refused is None
    assert judged(world) == []
    # nor does a rule refuse it
    bad = World(NEWEST)
    bad.listing, bad.failed_before = listing("mug"), 1
    bad.submit(mark="Zephyr", record=BAD, brake=brake)
    assert (bad.state, bad.got.triage and bad.got.triage.band) == (S.UNDER_REVIEW, "refuse")
    assert judged(bad) == []


def test_a_canary_needs_no_evidence() -> None:
    assert newest(OTHER, canary=True).state is S.NOTIFIED


def test_all_that_is_known_is_kept_whether_a_rule_looks_at_it_or_not() -> None:
    for rules in (IPP, NEWEST):
        world = World(rules)
        world.listing = BRANDED
        world.submit(reason="improper_use", claim_size=7, **MATCH)
        assert world.got.triage is not None
        assert world.got.triage.signals == {
            "good_faith": 0.0,
            "evidence": 1.0,
            "claim_size": 7.0,
            "title_similarity": 100.0,
            "mark_use": 1.0,
            "brand_named": 0.0,
            "failed_before": 0.0,
            "upheld_here": 0.0,
            "registered": 1.0,
            "right_in_force": 1.0,
        }


values = st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.floats(0, 100), max_size=len(SIGNALS))
ways = st.lists(st.lists(st.sampled_from(sorted(TRIAGE.findings)), min_size=1, max_size=3).map(tuple), max_size=3)


@given(values, st.sampled_from(("general", "serious")), ways.map(tuple), st.integers(-500, 500))
def test_no_score_upholds_what_lacks_evidence_or_has_something_against_it(
    signals: dict[str, float], severity: str, needed: policy.Ways, base: int
) -> None:
    needs = policy.TriageNeeds(general=needed, serious=needed)
    found = weigh(signals, severity, msgspec.structs.replace(TRIAGE, base=base, needs=needs))
    bare = weigh(signals, severity, msgspec.structs.replace(TRIAGE, base=base, needs=None))
    there = {
        name
        for name, finding in TRIAGE.findings.items()
        if all(
            bound.signal in signals
            and (bound.at_least is None or signals[bound.signal] >= bound.at_least)
            and (bound.at_most is None or signals[bound.signal] <= bound.at_most)
            for bound in finding.all
        )
    }
    enough = any(set(way) <= there for way in needed) and all(weight >= 0 for weight in found.rules.values())
    assert (found.band == "uphold") == (bare.band == "uphold" and enough)
    assert (found.band == "refuse") == (bare.band == "refuse"), "what is lacking refuses nobody"
    assert not set(found.lacks) & there
    assert (found.score, found.rules) == (bare.score, bare.rules)


@given(values, ways.filter(bool).map(tuple))
def test_more_evidence_never_lacks_more(signals: dict[str, float], needed: policy.Ways) -> None:
    less = lacking(signals, needed, TRIAGE)
    for name in list(signals):
        fewer = lacking({key: value for key, value in signals.items() if key != name}, needed, TRIAGE)
        assert less == () or (fewer is not None and less is not None and set(less) <= set(fewer))


def test_versions_of_before_weigh_as_before() -> None:
    for version in ("ipp-2026-11", "dsa-2026-11"):
        rules = policy.load(version).triage
        assert rules is not None
        assert (rules.needs, rules.findings) == (None, {})
        assert "mark_use" not in {rule.signal for rule in rules.rules.values()}


def test_where_a_profile_weighs_its_newest_version_needs_evidence() -> None:
    for profile in policy.profiles():
        rules = policy.current(profile)
        if rules.rules.review == "triage":
            assert rules.triage is not None
            assert rules.triage.needs == TRIAGE.needs, profile
            assert rules.triage.findings == TRIAGE.findings, profile
            assert rules.triage.rules == TRIAGE.rules, profile
