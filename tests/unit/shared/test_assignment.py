"""Who owns which partition numbers, and with which topics a worker can go on."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from shared import topics
from shared.runtime import assignment

READ = {"x.intake.events": topics.INTAKE, "x.marketplace.listings": topics.MARKETPLACE_LISTINGS}


def member(name: str, *subscribed: str) -> SimpleNamespace:
    return SimpleNamespace(member_id=name, group_instance_id=None, metadata=SimpleNamespace(topics=list(subscribed)))


@given(st.lists(st.text("abc", min_size=1), unique=True, min_size=1), st.integers(1, 40))
def test_every_number_has_one_owner_and_shares_are_even(members: list[str], partitions: int) -> None:
    shares = assignment.ranges(members, partitions)
    assert sorted(number for share in shares.values() for number in share) == list(range(partitions))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


def test_the_leaders_metadata_do_not_matter() -> None:
    """``None`` for the cluster: a topic that it does not know is assigned all the same."""
    found = assignment.ByNumber(3).assign(None, [member("b", "t", "u"), member("a", "t", "u")])
    assert {name: one.assigned_partitions for name, one in found.items()} == {
        "a": [("t", [0, 1]), ("u", [0, 1])],
        "b": [("t", [2]), ("u", [2])],
    }


def test_a_member_of_another_version_gets_its_numbers_of_what_it_reads() -> None:
    found = assignment.ByNumber(2).assign(None, [member("a", "t"), member("b", "t", "new")])
    assert found["a"].assigned_partitions == [("t", [0])]
    assert found["b"].assigned_partitions == [("new", [1]), ("t", [1])]


def test_more_members_than_partitions() -> None:
    found = assignment.ByNumber(1).assign(None, [member("a", "t"), member("b", "t")])
    assert list(found["b"].partitions()) == []


def test_a_number_is_owned_in_all_topics_or_not_at_all() -> None:
    assert assignment.owned(["t", "u"], [("t", 0), ("u", 0)]) == (frozenset({0}), frozenset())
    assert assignment.owned(["t", "u"], [("t", 0), ("t", 1), ("u", 1)]) == (frozenset({0, 1}), frozenset({("u", 0)}))
    assert assignment.owned(["t"], []) == (frozenset(), frozenset())


def test_numbers_without_an_owner() -> None:
    assert assignment.unowned(3, [("t", 1), ("u", 1)]) == [0, 2]
    assert assignment.unowned(2, [("t", 0), ("t", 1)]) == []


def test_which_reader_stops_when_a_topic_has_another_number_of_partitions() -> None:
    fit = dict.fromkeys(READ, 4)
    assert assignment.unfit(READ, fit, 4) == []
    assert assignment.unfit(READ, {**fit, "x.intake.events": 8}, 4) == [], "our writers never use the new ones"
    (outside,) = assignment.unfit(READ, {**fit, "x.marketplace.listings": 8}, 4)
    assert "x.marketplace.listings has 8 partitions" in outside
    (fewer,) = assignment.unfit(READ, {**fit, "x.intake.events": 2}, 4)
    assert "add 2" in fewer
    (missing,) = assignment.unfit(READ, {"x.intake.events": 4}, 4)
    assert missing == "topic x.marketplace.listings does not exist: run goodfaith migrate"
