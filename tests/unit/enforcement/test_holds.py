"""Holds: whatever the order and however often events come, a listing is down exactly while it is held."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from deploy.marketplace.domain import Page, carry_out
from services.enforcement import domain
from services.enforcement.domain import Hold, Listing
from shared import events
from shared.events import Data, HoldChanged, ItemChanged, MarketplaceCommand, Receipt, State, ViolationChanged

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
ID = msgspec.json.Decoder(MarketplaceCommand)


def item(name: str, revision: int, *, held: bool, upheld: bool = False, seller: str | None = "seller") -> ItemChanged:
    return ItemChanged(
        item=name,
        claim=f"claim-{name}",
        claim_size=1,
        listing="shoe",
        seller=seller,
        complainant="holder",
        principal="holder",
        right="right",
        right_type="trademark",
        reason="reason",
        profile="ipp",
        policy="ipp-2026-11",
        revision=revision,
        state=State.NOTIFIED,
        rule="7",
        held=held,
        upheld=upheld,
        received_at=NOW,
    )


@dataclass
class Bench:
    """One listing between its items and a marketplace that answers when it is asked to."""

    listing: Listing = field(default_factory=lambda: Listing("shoe", 0))
    page: Page = field(default_factory=lambda: Page("shoe", 0, "seller"))
    holds: dict[str, Hold] = field(default_factory=dict)
    sent: list[MarketplaceCommand] = field(default_factory=list)
    told: list[HoldChanged] = field(default_factory=list)
    violations: list[ViolationChanged] = field(default_factory=list)

    def change(self, event: ItemChanged, type: str = "goodfaith.item.notified.v1") -> list[Data] | None:
        if not domain.matters(type, event):
            return None
        hold = self.holds.setdefault(event.item, Hold(event.item, event.claim, event.listing))
        out = domain.change(self.listing, hold, event, "suspend", NOW, NOW, NOW)
        for data in out or ():
            if isinstance(data, MarketplaceCommand):
                self.sent.append(data)
            elif isinstance(data, HoldChanged):
                self.told.append(data)
            elif isinstance(data, ViolationChanged):
                self.violations.append(data)
        return out

    def receive(self, receipt: Receipt) -> None:
        self.told += domain.receive(self.listing, self.holds.values(), receipt, NOW) or []

    def answer(self, command: MarketplaceCommand) -> None:
        self.receive(carry_out(self.page, command))


def last_told(bench: Bench) -> dict[str, bool]:
    return {told.item: told.held for told in bench.told}


histories = st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5), min_size=1, max_size=4)


@given(histories, st.data())
def test_any_order_and_any_repetition_lead_to_the_same_end(
    history: list[list[tuple[bool, bool]]], data: st.DataObject
) -> None:
    all_events = [
        item(f"item-{number}", revision, held=held, upheld=upheld)
        for number, changes in enumerate(history)
        for revision, (held, upheld) in enumerate(changes, 1)
    ]
    repeated = data.draw(st.lists(st.sampled_from(all_events), max_size=6))
    bench = Bench()
    for event in data.draw(st.permutations(all_events + repeated)):
        bench.change(event)
        held = [hold for hold in bench.holds.values() if hold.held]
        assert bench.listing.holds == len(held)
        if bench.sent:
            assert (bench.sent[-1].action == "suspend") == bool(held)
        # receipts come late, twice, of any command, in any order
        for command in data.draw(st.lists(st.sampled_from(bench.sent), max_size=2)) if bench.sent else ():
            bench.answer(command)
    for command in data.draw(st.permutations(bench.sent)):
        bench.answer(command)
    assert bench.listing.confirmed == bench.listing.seq
    ends = {f"item-{number}": changes[-1] for number, changes in enumerate(history)}
    held_at_end = {name for name, (held, _) in ends.items() if held}
    assert bench.page.visible == (not held_at_end)
    assert bench.listing.resend_at is None
    # everyone was told how it ended, and nobody is told of a hold that never was
    told = last_told(bench)
    assert {name for name, held in told.items() if held} == held_at_end
    in_force: dict[str, bool] = {change.item: change.in_force for change in bench.violations}
    assert {name for name, value in in_force.items() if value} == {name for name, (_, upheld) in ends.items() if upheld}


@given(st.lists(st.integers(0, 30), min_size=2, max_size=40))
def test_the_marketplace_may_see_commands_in_any_order(order: list[int]) -> None:
    commands = [
        MarketplaceCommand(command=f"c{seq}", listing="shoe", action="suspend" if seq % 2 else "restore", seq=seq)
        for seq in range(1, 32)
    ]
    page = Page("shoe", 0, "seller")
    for number in order:
        carry_out(page, commands[number])
    assert page.seq == max(order) + 1
    assert page.visible == (page.seq % 2 == 0)


def test_first_hold_suspends_and_last_lift_restores() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    bench.change(item("b", 1, held=True))
    assert [command.action for command in bench.sent] == ["suspend"]
    assert bench.told == []
    bench.answer(bench.sent[0])
    assert last_told(bench) == {"a": True, "b": True}
    bench.change(item("c", 1, held=True))
    assert (bench.told[-1].item, bench.told[-1].action) == ("c", None)
    bench.change(item("a", 2, held=False))
    bench.change(item("c", 2, held=False))
    assert [(told.item, told.held, told.action) for told in bench.told[-2:]] == [("a", False, None), ("c", False, None)]
    bench.change(item("b", 2, held=False))
    assert [command.action for command in bench.sent] == ["suspend", "restore"]
    assert last_told(bench)["b"] is True
    bench.answer(bench.sent[1])
    assert last_told(bench)["b"] is False
    assert bench.page.visible


def test_a_receipt_of_an_overtaken_command_confirms_nothing() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    bench.change(item("a", 2, held=False))
    bench.answer(bench.sent[0])
    assert (bench.told, bench.listing.confirmed) == ([], 0)
    bench.answer(bench.sent[1])
    assert last_told(bench) == {"a": False}


def test_a_foreign_receipt_is_ignored() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    bench.receive(Receipt(command="of-someone-else", listing="shoe", seq=1))
    assert domain.receive(None, (), Receipt(command="x", listing="shoe", seq=1), NOW) is None
    assert bench.told == []


def listed(state: str) -> events.Listing:
    return events.Listing(listing="shoe", seller="seller", state=state)  # type: ignore[arg-type]


def test_a_held_listing_that_shows_is_taken_down_anew() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    assert domain.reappeared(bench.listing, listed("visible"), "suspend", NOW) is None, "its command is under way"
    bench.answer(bench.sent[-1])
    bench.page.measure = "none"
    for state in ("suspended", "removed", "ended", "unknown"):
        assert domain.reappeared(bench.listing, listed(state), "suspend", NOW) is None
    command = domain.reappeared(bench.listing, listed("visible"), "suspend", NOW)
    assert command is not None
    assert (command.action, command.seq) == ("suspend", 2)
    bench.answer(command)
    assert bench.page.measure == "suspended"
    assert bench.listing.confirmed == 2
    assert len(bench.told) == 1, "the item was told of its hold once"
    bench.change(item("a", 2, held=False))
    bench.answer(bench.sent[-1])
    assert domain.reappeared(bench.listing, listed("visible"), "suspend", NOW) is None, "nobody holds it"
    assert domain.reappeared(None, listed("visible"), "suspend", NOW) is None


def test_an_unknown_listing_counts_as_told() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    bench.receive(carry_out(None, bench.sent[0]))
    bench.change(item("b", 1, held=True))
    assert [(told.item, told.held, told.result) for told in bench.told] == [
        ("a", True, "unknown_listing"),
        ("b", True, "unknown_listing"),
    ]


def test_a_command_is_sent_again_as_it_was_with_growing_pauses() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True))
    pauses = []
    wall = NOW
    for _ in range(12):
        assert domain.again(bench.listing, wall) == bench.sent[0]
        assert bench.listing.resend_at is not None
        pauses.append(bench.listing.resend_at - wall)
    assert pauses[:3] == [dt.timedelta(seconds=60), dt.timedelta(seconds=120), dt.timedelta(seconds=240)]
    assert max(pauses) == domain.RESEND_MOST
    bench.answer(bench.sent[0])
    assert domain.again(bench.listing, wall) is None


def test_no_violation_before_the_seller_is_known() -> None:
    bench = Bench()
    bench.change(item("a", 1, held=True, upheld=True, seller=None))
    assert bench.violations == []
    bench.change(item("a", 2, held=True, upheld=True, seller="late"))
    bench.change(item("a", 3, held=False))
    assert [(v.seller, v.in_force, v.revision) for v in bench.violations] == [("late", True, 2), ("late", False, 3)]


def test_what_only_tells_of_times_is_left_out() -> None:
    event = item("a", 5, held=True)
    for kind in ("window_opened", "overdue", "reminded", "handled"):
        assert not domain.matters(f"goodfaith.item.{kind}.v1", event)
    assert domain.matters("goodfaith.item.handled.v1", item("a", 5, held=False))
    assert not domain.matters("goodfaith.item.rejected.v1", item("a", 1, held=False))


def test_command_ids_fit_whatever_the_listing_is_called() -> None:
    for listing in ("a", "x" * 120, "a:1"):
        command = MarketplaceCommand(command=domain.command_id(listing, 7), listing=listing, action="suspend", seq=7)
        assert ID.decode(msgspec.json.encode(command)) == command
    assert domain.command_id("a", 11) != domain.command_id("a1", 1)
