"""Entities: who hangs together, and where they stand together."""

from __future__ import annotations

import datetime as dt
import random
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import entities, penalties
from services.enforcement.entities import AccountViolation, Sums
from shared import marketplace, policy
from shared.events import SellerKey
from shared.policy import Entity, Penalties

RULES = policy.current("ipp").penalties
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
KINDS: Any = ("registration", "payment", "device")
LINKS = Entity(links={"registration": 4, "payment": 3, "device": 2}, largest=5)


def key(kind: Any, number: int) -> SellerKey:
    return marketplace.seller_key("ours", kind, str(number))


def holders(keys: dict[str, set[tuple[str, int]]]) -> dict[SellerKey, set[str]]:
    found: dict[SellerKey, set[str]] = {}
    for seller, names in keys.items():
        for kind, number in names:
            found.setdefault(key(kind, number), set()).add(seller)
    return found


def test_a_key_is_told_hashed_and_by_kind() -> None:
    told = key("registration", 1)
    assert told == key("registration", 1)
    assert len({told, key("payment", 1), key("registration", 2), marketplace.seller_key("other", "payment", "1")}) == 4
    assert len(told.digest) == 64


def test_shared_keys_link_and_keys_shared_by_chance_do_not() -> None:
    r, d = ("registration", 1), ("device", 1)
    assert entities.components(holders({"a": {r}, "b": {r, d}, "c": {d}, "d": set()}), LINKS) == [("a", "b", "c")]
    assert entities.components(holders({"a": {r}, "b": {r, d}, "c": {d}, "d": {d}}), LINKS) == [("a", "b")]
    assert entities.components(holders({"a": {r}, "b": {r}}), Entity()) == []
    assert entities.components({}, LINKS) == []


def test_what_becomes_too_large_is_taken_apart_by_the_strongest_keys() -> None:
    chain = {f"s{n}": {("device", n), ("device", n + 1)} for n in range(6)}
    assert entities.components(holders(chain), LINKS) == []
    chain["s0"].add(("registration", 1))
    chain["s1"].add(("registration", 1))
    assert entities.components(holders(chain), LINKS) == [("s0", "s1")]
    del chain["s5"]
    assert entities.components(holders(chain), LINKS) == [("s0", "s1", "s2", "s3", "s4")]


@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"), st.sets(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=4)
    ),
    st.integers(2, 8),
)
def test_components_are_those_of_a_naive_walk(keys: dict[str, set[tuple[str, int]]], largest: int) -> None:
    rules = Entity(links=LINKS.links, largest=largest)
    of = holders(keys)

    def walk(sellers: set[str], kinds: list[str]) -> set[tuple[str, ...]]:
        near = {seller: {seller} for seller in sellers}
        for one, sharing in of.items():
            if one.kind in kinds and len(sharing) <= LINKS.links[one.kind]:
                for x, y in combinations(sharing & sellers, 2):
                    near[x].add(y)
                    near[y].add(x)
        found = set()
        for seller in sellers:
            reached: set[str] = {seller}
            while (more := set().union(*(near[x] for x in reached))) != reached:
                reached = more
            found.add(tuple(sorted(reached)))
        whole: set[tuple[str, ...]] = set()
        for members in found:
            whole |= {members} if len(members) <= largest or not kinds else walk(set(members), kinds[:-1])
        return whole

    assert set(entities.components(of, rules)) == {m for m in walk(set(keys), list(KINDS)) if len(m) > 1}


def moments() -> st.SearchStrategy[dt.datetime]:
    near = st.integers(0, 12 * 24).map(lambda hours: NOW - 370 * DAY + dt.timedelta(hours=hours))
    return near | st.integers(0, 500).map(lambda days: NOW - days * DAY)


@st.composite
def histories(draw: st.DrawFn) -> list[AccountViolation]:
    """Violations of some accounts; a claim may be against several of them."""
    made = {}
    for _ in range(draw(st.integers(0, 10))):
        own = AccountViolation(
            draw(st.sampled_from("abc")),
            f"c{draw(st.integers(0, 6))}",
            draw(st.sampled_from(("general", "serious"))),
            draw(moments()),
        )
        made[own.seller, own.claim] = own
    return list(made.values())


def as_one(violations: list[AccountViolation], now: dt.datetime) -> tuple[int, int, int]:
    """The standing of one seller who did it all, by the ledger's own way of taking events in."""
    seller = penalties.Seller("one", 0, complete=True)
    for number, own in enumerate(violations):
        change = penalties.ViolationChanged(
            seller="one",
            claim=own.claim,
            item=f"i{number}",
            listing="l",
            severity=own.severity,
            in_force=True,
            revision=1,
            at=own.at,
        )
        penalties.change(seller, change, RULES, now)
    return seller.general_points, seller.serious_strikes, seller.violations


def standing(violations: list[AccountViolation], rules: Penalties, now: dt.datetime) -> Sums:
    return entities.count(violations, rules, now)[0]


def numbers(sums: Sums) -> tuple[int, int, int]:
    return sums.general_points, sums.serious_strikes, sums.violations


@given(histories(), st.integers(0, 400), st.randoms())
def test_an_entity_stands_as_one_seller_and_no_better_than_any(
    violations: list[AccountViolation], days: int, dice: random.Random
) -> None:
    dice.shuffle(violations)
    now = NOW + days * DAY
    sums = standing(violations, RULES, now)
    one = as_one(violations, now)
    own = [as_one([v for v in violations if v.seller == seller], now) for seller in {v.seller for v in violations}]
    assert numbers(sums) == tuple(max(column) for column in zip(one, *own, strict=True))
    if sums.next_change is not None:
        assert sums.next_change > now
        # nothing happens before it
        just = sums.next_change - dt.timedelta(microseconds=1)
        assert numbers(standing(violations, RULES, just)) == numbers(sums)
    else:
        assert numbers(sums) == (0, 0, 0)


def test_the_first_is_free_once_for_all_accounts() -> None:
    first, second = (
        AccountViolation("a", "c1", "general", NOW - 5 * DAY),
        AccountViolation("b", "c2", "general", NOW - 2 * DAY),
    )
    assert numbers(standing([first], RULES, NOW)) == (0, 0, 1)
    assert numbers(standing([first, second], RULES, NOW)) == (6, 0, 2)
    # a claim against two accounts of a business is one violation of it
    both = [first, AccountViolation("b", "c1", "general", NOW - 4 * DAY)]
    assert numbers(standing(both, RULES, NOW)) == (0, 0, 1)


def test_being_linked_gains_no_account_a_day() -> None:
    old, new = (
        AccountViolation("a", "c1", "serious", NOW - 366 * DAY),
        AccountViolation("b", "c2", "serious", NOW - 364 * DAY),
    )
    # as one seller both are one group, whose strike has expired with the first
    as_one = [(own.at, own.claim, own.severity) for own in entities.merged([old, new])]
    assert penalties.assess(as_one, RULES)[0][1].points == 0
    assert numbers(standing([old, new], RULES, NOW)) == (0, 1, 1)


def test_thresholds_are_reached_together_or_alone_and_every_ground_names_an_entry() -> None:
    serious = [
        AccountViolation("a", "c1", "serious", NOW - 366 * DAY, "a.1"),
        AccountViolation("b", "c2", "serious", NOW - 364 * DAY, "b.1"),
        AccountViolation("a", "c3", "serious", NOW - 20 * DAY, "a.2"),
        AccountViolation("b", "c4", "serious", NOW - 10 * DAY, "b.2"),
    ]
    _, grounds = entities.count(serious, RULES, NOW)
    found = [(g.level, g.entry, (NOW - g.crossed_at).days, g.fell_at and (NOW - g.fell_at).days) for g in grounds]
    # b's first is in a's group, and keeps the first threshold reached when that has expired; the second never falls
    assert found == [(1, "a.1", 366, None), (2, "a.2", 20, None), (3, "b.2", 10, 1)]


@given(histories(), st.integers(0, 400))
def test_an_entity_has_reached_what_one_of_its_accounts_has(violations: list[AccountViolation], days: int) -> None:
    now = NOW + days * DAY
    _, grounds = entities.count(violations, RULES, now)
    for seller in {own.seller for own in violations}:
        for ground in entities.count([own for own in violations if own.seller == seller], RULES, now)[1]:
            assert any(
                (whole.ledger, whole.level) == (ground.ledger, ground.level)
                and whole.crossed_at <= ground.crossed_at
                and (whole.fell_at is None or (ground.fell_at is not None and ground.fell_at <= whole.fell_at))
                for whole in grounds
            )


def test_an_id_stays_while_later_accounts_come_and_go() -> None:
    assert entities.entity_id(["b", "a"]) == entities.entity_id(["a", "z", "c"]) != entities.entity_id(["b"])
