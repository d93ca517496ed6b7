"""What a canary files goes the way of all items, and no figure counts it."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import domain, statements
from services.enforcement.domain import Hold, Listing
from services.intake.goodfaith import domain as goodfaith
from shared import events, policy
from shared.events import HoldChanged, MarketplaceCommand, ViolationChanged
from tests import statements_policy
from tests.unit.verification import world as lives

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


def upheld(*, canary: bool) -> lives.World:
    """An item that nobody withdrew: its seller's window lapsed."""
    world = lives.World()
    world.submit(canary=canary)
    world.sent("seller_notice")
    world.receipt()
    world.pass_time(30 * lives.DAY)
    assert world.got.upheld
    return world


def test_every_change_of_a_canary_says_so() -> None:
    assert all(change.data.canary for change in upheld(canary=True).changes)
    assert not any(change.data.canary for change in upheld(canary=False).changes)


def test_records_of_before_are_of_no_canary() -> None:
    (change, *_) = upheld(canary=False).changes
    assert b"canary" not in msgspec.json.encode(change.data)
    assert msgspec.json.decode(msgspec.json.encode(change.data), type=events.ItemChanged).canary is False


@given(st.data())
def test_a_listing_is_held_for_a_canary_and_its_seller_has_no_violation(data: st.DataObject) -> None:
    changes = [change.data for change in upheld(canary=True).changes]
    listing, hold = Listing("l", 0), Hold("i", "c", "l")
    out: list[events.Data] = []
    for change in data.draw(st.permutations(changes)):
        out += domain.change(listing, hold, change, "suspend", NOW, NOW, NOW) or []
    assert (hold.held, hold.violation, hold.seller) == (True, False, None)
    assert [type(one) for one in out if not isinstance(one, HoldChanged)] == [MarketplaceCommand]
    counted = [change.data for change in upheld(canary=False).changes]
    out = domain.change(Listing("l", 0), Hold("i", "c", "l"), counted[-1], "suspend", NOW, NOW, NOW) or []
    assert any(isinstance(one, ViolationChanged) for one in out)


def test_no_statement_of_reasons_goes_to_the_authorities_for_a_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = policy.parse(statements_policy.text(), f"{statements_policy.VERSION}.toml")
    monkeypatch.setattr(policy, "load", lambda _: rules)
    for canary in (False, True):
        change = msgspec.structs.replace(
            upheld(canary=canary).changes[-1].data, profile="sor", policy=statements_policy.VERSION
        )
        assert (statements.statement_of(change, "suspend", NOW) is None) == canary


def test_nobodys_good_faith_is_judged_by_a_canary() -> None:
    for canary in (False, True):
        turns = [goodfaith.outcome_change(change.data, change.at, 0) for change in upheld(canary=canary).changes]
        assert any(turns) != canary
