"""Triage: scores, bands, what is kept of them, and that a machine never has the last word."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verification.item import Facts, Item
from services.verification.triage import SIGNALS, triage
from shared import policy
from shared.events import Listing, Record, State
from tests.unit.verification.world import IPP, World

S = State
assert IPP.triage is not None
RULES: policy.Triage = IPP.triage
GOOD, BAD = Record(settled=50, upheld=49), Record(settled=50, upheld=10, countered=20, declined=10)


def listing(title: str | None) -> Listing:
    return Listing(listing="l", seller="seller", state="visible", title=title)


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
    assert SIGNALS["mark_use"](item(mark="iPhone"), facts) == use
    assert SIGNALS["mark_use"](item(mark=None), facts) is None


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
