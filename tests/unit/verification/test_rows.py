"""The table of domain.md, row by row."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from services.verification.item import ENDED, OPEN, UPHELD
from services.verification.lifecycle import Facts, decide
from shared.calendars import calendar
from shared.events import Listing, NoticeSent, State
from tests.unit.verification.world import DAY, HOUR, IPP, MANUAL, VISIBLE, T, World, judged, policy

S = State
CN = calendar("cn")
LIVE = sorted(OPEN | UPHELD)


def world_for(state: State) -> World:
    """Under the rules that let an item rest in the state."""
    return World(MANUAL if state in (S.UNDER_REVIEW, S.COUNTERED, S.REJECTED) else IPP).to(state)


class TestRow1:
    """- -> RECEIVED."""

    def test_1_a_plain_submission_is_one_event(self) -> None:
        world = World()
        outcome = world.submit()
        (change,) = outcome.changes
        assert change.kind == "notified"
        assert change.data.previous is None
        assert change.data.via == (S.RECEIVED, S.UNDER_REVIEW)
        assert change.data.rule == "7-upheld-prima-facie"
        assert (change.data.revision, change.data.seller, change.data.severity) == (1, "seller", "serious")
        assert world.got.title_digest == "d"
        assert not outcome.lookup

    def test_1_unknown_listing_waits_for_the_look_up(self) -> None:
        world = World(listing=None)
        outcome = world.submit()
        assert outcome.lookup
        assert outcome.changes[0].data.rule == "1-submitted"
        assert (world.state, world.got.due) == (S.RECEIVED, T + 24 * HOUR)
        # asked again, without an event
        world.now += IPP.timers.lookup_retry.exact
        assert world.tick() == []
        assert world.last.lookup
        outcome = world.listed()
        assert outcome.changes[0].data.via == (S.UNDER_REVIEW,)
        assert outcome.changes[0].data.previous is S.RECEIVED
        assert world.state is S.NOTIFIED

    def test_1_what_the_listing_showed_is_kept_and_told_once(self) -> None:
        filed, edited = "ab" * 32, "cd" * 32
        world = World(MANUAL, listing=None)
        world.submit()
        assert (world.got.content, world.changes[0].data.content) == (None, None)
        world.content = filed
        world.listed()
        assert world.state is S.UNDER_REVIEW
        assert world.got.content == filed
        world.content = edited  # the seller edits it while the claim is open
        world.decide("uphold")
        world.withdraw()
        assert world.state is S.WITHDRAWN
        assert world.got.content == filed
        assert [change.data.content for change in world.changes] == [None, filed, None, None]

    def test_1_a_listing_of_which_nothing_is_published_has_no_content(self) -> None:
        world = World()
        world.submit()
        assert (world.got.seller, world.got.content) == ("seller", None)

    def test_1_the_listing_of_a_seller_unknown_is_unknown(self) -> None:
        world = World(listing=Listing(listing="l", state="visible"))
        assert world.submit().lookup
        assert world.state is S.RECEIVED
        assert world.listed(world.listing).ignored

    def test_1_known_twice(self) -> None:
        world = World()
        world.submit()
        assert world.submit().ignored


class TestRow2:
    """RECEIVED -> DUPLICATE, and back."""

    def test_2_duplicate_and_reopened(self) -> None:
        world = World().to(S.DUPLICATE)
        assert world.got.original == "o"
        assert (world.got.sla, world.got.handled_at) == ("met", T)
        outcome = world.reopened()
        assert world.state is S.NOTIFIED
        assert world.got.original is None
        assert outcome.changes[0].data.via == (S.RECEIVED, S.UNDER_REVIEW)

    def test_2_duplicate_wins_over_dead_link(self) -> None:
        world = World(listing=Listing(listing="l", state="unknown"))
        world.original = "o"
        world.submit()
        assert world.state is S.DUPLICATE

    def test_2_reopened_into_another_original(self) -> None:
        world = World().to(S.DUPLICATE)
        world.original = "other"
        world.reopened()
        assert (world.state, world.got.original) == (S.DUPLICATE, "other")

    @pytest.mark.parametrize("state", sorted(set(S) - {S.DUPLICATE}))
    def test_2_nothing_else_reopens(self, state: State) -> None:
        assert world_for(state).reopened().ignored

    @pytest.mark.parametrize("state", sorted(S))
    def test_2_which_ends_release_the_duplicates(self, state: State) -> None:
        world = world_for(state)
        if state in ENDED - {S.DUPLICATE}:
            assert world.last.released
        assert world.got.blocks == (state not in ENDED)


class TestRow3:
    """RECEIVED -> LINK_INVALID."""

    @pytest.mark.parametrize("state", ["unknown", "ended", "removed"])
    def test_3_gone(self, state: Any) -> None:
        world = World(listing=None)
        world.submit()
        world.listed(Listing(listing="l", seller="seller", state=state))
        assert world.state is S.LINK_INVALID
        assert world.got.sla == "met"

    def test_3_not_of_this_site(self) -> None:
        world = World(listing=None)
        outcome = world.submit(on_site=False)
        assert not outcome.lookup
        assert world.state is S.LINK_INVALID

    @pytest.mark.parametrize("state", ["suspended", "removed"])
    def test_3_down_by_our_own_hold_is_not_gone(self, state: Any) -> None:
        world = World(listing=Listing(listing="l", seller="seller", state=state))
        world.ours = True
        world.submit()
        assert world.state is S.NOTIFIED

    def test_3_the_answer_after_the_look_up_was_given_up(self) -> None:
        world = World(listing=None)
        world.submit()
        world.pass_time(20 * HOUR)
        world.listed(Listing(listing="l", state="unknown"))
        assert world.state is S.LINK_INVALID


class TestRow4:
    """RECEIVED -> NEEDS_INFO -> LAPSED."""

    @pytest.mark.parametrize(
        ("lacks", "missing"),
        [
            ({"identity_verified": False}, ("identity",)),
            ({"authority": "missing"}, ("authority",)),
            ({"right_status": "pending"}, ("right",)),
            ({"materials": ("other",)}, ("ownership",)),
            ({"identity_verified": False, "materials": ()}, ("identity", "ownership")),
        ],
    )
    def test_4_elements_missing(self, lacks: dict[str, object], missing: tuple[str, ...]) -> None:
        world = World()
        world.submit(**lacks)
        assert (world.state, world.got.missing) == (S.NEEDS_INFO, missing)
        assert world.got.seller == "seller"

    def test_4_fewer_proofs_in_good_faith(self) -> None:
        world = World()
        world.submit(right_type="copyright", reason="copied_image_or_text", materials=(), good_faith=True)
        assert world.state is S.NOTIFIED

    @pytest.mark.parametrize("good_faith", [True, False])
    def test_4_a_right_in_no_register_may_need_more(self, good_faith: bool) -> None:
        reason = msgspec.structs.replace(IPP.reasons["pirated_product"], unregistered_materials=("comparison",))
        rules = msgspec.structs.replace(IPP, reasons={**IPP.reasons, "pirated_product": reason})
        filed = {"right_type": "copyright", "reason": "pirated_product", "good_faith": good_faith}
        for registered, state in ((True, S.NOTIFIED), (False, S.NEEDS_INFO)):
            world = World(rules)
            world.submit(**filed, right_registered=registered)
            assert world.state is state
            assert world.got.missing == (() if registered else ("comparison",))
        world = World(rules)
        world.submit(**filed, right_registered=False, materials=("ownership", "comparison"))
        assert world.state is S.NOTIFIED

    def test_4_a_right_that_is_accepted_proves_ownership(self) -> None:
        world = World()
        world.submit(right_status="pending", materials=())
        assert (world.state, world.got.missing) == (S.NEEDS_INFO, ("right", "ownership"))
        outcome = world.right("active", materials=("ownership",))
        assert (world.state, world.got.materials) == (S.NOTIFIED, ("ownership",))
        assert outcome.changes[0].data.via[0] is S.UNDER_REVIEW

    def test_4_a_right_that_only_comes_into_force_leaves_the_rest_missing(self) -> None:
        world = World()
        world.submit(right_status="pending", materials=())
        world.right("active")
        assert (world.state, world.got.missing) == (S.NEEDS_INFO, ("ownership",))

    def test_4_window_begins_with_the_request(self) -> None:
        world = World()
        world.submit(materials=())
        assert world.pass_time(30 * DAY) == []
        world.sent("info_request")
        assert world.changes[-1].kind == "window_opened"
        end = world.got.due
        assert end is not None
        (change,) = world.pass_time(end)
        assert (change.kind, change.at, change.data.rule) == ("lapsed", end, "4-lapsed")
        assert world.got.sla == "met"

    def test_4_a_dead_link_is_not_asked_about(self) -> None:
        world = World(listing=None)
        world.submit(materials=())
        assert world.got.state is S.RECEIVED
        world.listed()
        assert world.state is S.NEEDS_INFO


class TestRow5:
    """RECEIVED, NEEDS_INFO -> UNDER_REVIEW; the 24 hours."""

    def test_5_complete(self) -> None:
        world = World(MANUAL)
        world.submit()
        assert world.state is S.UNDER_REVIEW
        assert world.got.due == T + 24 * HOUR

    def test_5_information_added_in_parts(self) -> None:
        world = World()
        world.submit(materials=(), identity_verified=False)
        world.sent("info_request")
        due = world.got.due
        world.add_information(identity_verified=True)
        assert (world.state, world.got.missing, world.got.due) == (S.NEEDS_INFO, ("ownership",), due)
        assert world.changes[-1].kind == "needs_info"
        outcome = world.add_information(materials=("ownership",), authority="owner")
        assert world.state is S.NOTIFIED
        assert outcome.changes[0].data.command == "k2"

    def test_5_the_clock_stands_still_meanwhile(self) -> None:
        world = World(MANUAL)
        world.submit(materials=())
        world.now += 2 * HOUR
        world.sent("info_request")
        world.now += 8 * HOUR
        assert world.got.due == T + 2 * HOUR + 3 * DAY
        accepted = world.now
        world.now += HOUR  # our own delay counts
        world.add_information(materials=("ownership",), accepted_at=accepted)
        assert world.got.sla_due == T + 34 * HOUR

    def test_5_overdue_stays_open(self) -> None:
        world = World(MANUAL)
        world.submit()
        (change,) = world.pass_time(30 * HOUR)
        assert (change.kind, change.at, change.data.rule) == ("overdue", T + 24 * HOUR, "5-overdue")
        assert (change.data.sla, change.data.state) == ("missed", S.UNDER_REVIEW)
        world.decide("uphold")
        world.receipt()
        assert (world.state, world.got.sla) == (S.NOTIFIED, "missed")
        assert world.got.handled_at == T + 30 * HOUR

    def test_5_look_up_given_up(self) -> None:
        world = World(listing=None)
        world.submit()
        (change,) = world.pass_time(20 * HOUR)
        assert (world.state, world.got.code, change.at) == (S.UNDER_REVIEW, "listing_unknown", T + 20 * HOUR)
        refused = world.decide("uphold").refused
        assert refused is not None
        assert refused.code == "listing_unknown"
        assert world.listed(VISIBLE).ignored  # never by the rule
        world.decide("uphold")
        assert (world.state, world.got.seller) == (S.NOTIFIED, "seller")

    def test_5_given_up_with_elements_missing(self) -> None:
        world = World(listing=None)
        world.submit(materials=())
        world.pass_time(20 * HOUR)
        assert world.state is S.NEEDS_INFO
        world.add_information(materials=("ownership",))
        assert (world.state, world.got.code) == (S.UNDER_REVIEW, "listing_unknown")

    def test_5_the_right_came_into_force(self) -> None:
        world = World()
        world.submit(right_status="pending", materials=())
        world.right("active")
        assert (world.state, world.got.missing) == (S.NEEDS_INFO, ("ownership",))
        world.add_information(materials=("ownership",))
        assert world.state is S.NOTIFIED


class TestRow6:
    """UNDER_REVIEW -> REJECTED."""

    @pytest.mark.parametrize(
        ("reason", "right_type", "code"),
        [("nonsense", "trademark", "unknown_reason"), ("counterfeit", "copyright", "reason_not_for_right")],
    )
    def test_6_by_rule(self, reason: str, right_type: str, code: str) -> None:
        world = World()
        outcome = world.submit(reason=reason, right_type=right_type)
        assert (world.state, world.got.code, world.got.sla) == (S.REJECTED, code, "met")
        assert outcome.changes[0].data.via == (S.RECEIVED, S.UNDER_REVIEW)
        assert code in IPP.refusals

    @pytest.mark.parametrize("rules", [IPP, MANUAL])
    @pytest.mark.parametrize("who", [{"complainant": "seller"}, {"principal": "seller"}])
    def test_6_a_claim_against_ones_own_listing(self, rules: Any, who: dict[str, str]) -> None:
        world = World(rules)
        world.submit(**who)
        assert (world.state, world.got.code, world.got.held) == (S.REJECTED, "own_listing", False)
        assert "own_listing" in rules.refusals

    def test_6_own_listings_are_judged_under_policies_that_say_so_only(self) -> None:
        refusals = {code: cure for code, cure in IPP.refusals.items() if code != "own_listing"}
        world = World(msgspec.structs.replace(IPP, refusals=refusals))
        world.submit(complainant="seller")
        assert world.state == S.NOTIFIED

    def test_6_by_reviewer(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.decide("refuse", "wrong_listing")
        assert (world.state, world.got.code, world.got.held) == (S.REJECTED, "wrong_listing", False)

    @pytest.mark.parametrize("code", [None, "nonsense"])
    def test_6_needs_a_code(self, code: str | None) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        refused = world.decide("refuse", code).refused
        assert refused is not None
        assert refused.code == "refusal_code"
        assert "not_infringing" in refused.detail


class TestRow7:
    """UNDER_REVIEW -> NOTIFIED + hold."""

    def test_7_on_notice(self) -> None:
        world = World()
        world.submit()
        assert (world.got.held, world.got.upheld, world.got.handled_at) == (True, False, None)
        assert world.receipt(at=T + HOUR).changes[0].kind == "handled"
        assert (world.got.handled_at, world.got.sla) == (T + HOUR, "met")
        assert world.receipt(at=T + 2 * HOUR).ignored

    def test_7_after_the_window(self) -> None:
        world = World(policy(removal="after_window"))
        world.submit()
        assert (world.got.held, world.got.handled_at, world.got.sla) == (False, T, "met")
        world.sent("seller_notice")
        world.pass_time(10 * DAY)
        assert (world.state, world.got.held) == (S.UPHELD_BY_DEFAULT, True)

    def test_7_by_reviewer(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.decide("uphold")
        assert world.changes[-1].data.rule == "7-upheld-by-reviewer"
        assert world.changes[-1].data.by == "reviewer"

    def test_7_window_begins_when_the_notice_was_sent(self) -> None:
        world = World()
        world.submit()
        world.receipt()
        assert world.pass_time(60 * DAY) == []
        world.sent("seller_notice", at=world.now - HOUR)
        assert world.changes[-1].data.noticed_at == world.now - HOUR
        assert world.got.due == IPP.timers.window.after(world.now - HOUR, CN)
        assert world.sent("seller_notice").ignored  # once

    def test_7_window_begins_when_the_policy_says(self) -> None:
        """Not with the sending but when the message was read: days later, and said so with the change."""
        world = World()
        world.submit()
        world.receipt()
        sent, read = world.now, world.now + 2 * DAY
        notice = NoticeSent(
            item=world.got.item,
            claim="c",
            listing="l",
            message="m",
            kind="seller_notice",
            revision=world.got.revision,
            sent_at=sent,
            begins_at=read,
            begun_by="read",
        )
        assert world.pass_time(2 * DAY) == []
        world.do(notice)
        change = world.changes[-1].data
        assert (change.noticed_at, change.due, change.begun_by) == (read, IPP.timers.window.after(read, CN), "read")
        world.counter()
        assert world.changes[-1].data.begun_by is None, "of that change alone"

    def test_7_a_notice_of_another_visit_is_stale(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.decide("uphold")
        assert world.sent("info_request").ignored
        assert world.sent("seller_notice", revision=world.got.revision + 1).ignored
        assert world.got.noticed_at is None


class TestRow8:
    """NOTIFIED -> UPHELD."""

    def test_8_seller_accepts(self) -> None:
        world = World().to(S.UPHELD)
        assert (world.got.held, world.got.upheld) == (True, True)
        assert world.changes[-1].data.settled


class TestRow9:
    """NOTIFIED -> UPHELD_BY_DEFAULT."""

    def test_9_window_ends(self) -> None:
        world = World().to(S.NOTIFIED)
        due = world.got.due
        assert due == T + 3 * DAY
        world.now = due + 5 * DAY
        (change,) = world.tick()
        assert (change.kind, change.at) == ("upheld_by_default", due)
        assert (world.got.held, world.got.upheld) == (True, True)


class TestRow9Unreached:
    """Nobody owns the seller's inbox: its silence counts for nothing."""

    @staticmethod
    def lost(unreachable: str = "review", **changes: Any) -> World:
        world = World(policy(unreachable=unreachable, **changes))
        world.submit()
        world.receipt()
        world.unreached()
        return world

    def test_9_no_window_begins_however_long_it_lies_there(self) -> None:
        world = self.lost("wait")
        assert [change.kind for change in world.changes][-1] == "unreached"
        assert (world.state, world.got.unreached, world.got.timers) == (S.NOTIFIED, True, ())
        assert world.pass_time(400 * DAY) == []
        assert (world.got.held, world.got.upheld, world.got.settled) == (True, False, False)

    def test_9_it_is_said_once_and_only_of_the_present_notice(self) -> None:
        world = self.lost("wait")
        assert world.unreached().ignored
        assert World().to(S.NOTIFIED).unreached().ignored, "the notice was sent, and the window runs"
        assert World().to(S.UPHELD).unreached().ignored

    def test_9_reading_begins_the_window(self) -> None:
        world = self.lost("wait")
        revision = world.got.revision
        world.pass_time(100 * DAY)
        world.sent("seller_notice", revision=revision)
        assert (world.got.unreached, world.got.due) == (False, IPP.timers.window.after(world.now, CN))
        assert world.changes[-1].data.rule == "7-window-opened"
        world.pass_time(10 * DAY)
        assert world.state is S.UPHELD_BY_DEFAULT

    def test_9_a_person_decides_and_nothing_else_does(self) -> None:
        world = self.lost()
        assert (world.changes[-1].kind, world.changes[-1].data.rule) == ("appealed", "9-put-to-person")
        assert world.state is S.APPEALED
        world.pass_time(400 * DAY)
        assert (world.state, world.got.held, world.got.upheld) == (S.APPEALED, True, False)
        assert {change.kind for change in world.changes[-10:]} == {"overdue"}

    def test_9_confirmed_by_a_person(self) -> None:
        world = self.lost()
        (change,) = world.decide_complaint("confirm").changes
        assert (change.data.state, change.data.rule) == (S.UPHELD_BY_DEFAULT, "9-upheld-unreached")
        assert (change.data.by, change.data.code, change.data.upheld) == ("reviewer", "decision_stands", True)
        assert change.data.noticed_at is None
        # the platform does not audit what a person has looked at, and the seller may still say its word
        world.pass_time(300 * DAY)
        assert world.counter().refused is None
        assert world.state is S.HOLDER_RESPONSE
        assert world.got.late_counters == 0

    @pytest.mark.parametrize("reads", [True, False])
    def test_9_the_time_to_complain_begins_once_the_seller_is_told(self, reads: bool) -> None:
        for later, code in ((184 * DAY, None), (184 * DAY + HOUR, "complaint_too_late")):
            world = self.lost()
            revision = world.got.revision - 1
            world.decide_complaint("confirm")
            world.pass_time(300 * DAY)
            if reads:
                world.sent("seller_notice", revision=revision)
                world.pass_time(later)
            refused = world.complain("seller").refused
            assert (refused and refused.code) == (code if reads else None)
            assert judged(world) == []

    def test_9_reversed_by_a_person(self) -> None:
        world = self.lost()
        (change,) = world.decide_complaint("reverse", code="facts_misjudged").changes
        assert (change.data.state, change.data.rule, world.got.held) == (S.RESTORED, "19-reversed", False)

    def test_9_not_by_who_decided_before(self) -> None:
        world = World(policy(review="manual"))
        world.submit()
        world.decide("uphold")
        world.unreached()
        refused = world.decide_complaint("confirm", "rev").refused
        assert refused is not None
        assert refused.code == "decided_before"

    def test_9_reached_while_a_person_looks(self) -> None:
        world = self.lost()
        revision = world.got.revision - 1
        world.pass_time(DAY)
        (change,) = world.sent("seller_notice", revision=revision).changes
        assert (change.data.state, change.data.previous, change.data.rule) == (S.NOTIFIED, S.APPEALED, "9-reached")
        assert (world.got.noticed_at, world.got.due) == (world.now, IPP.timers.window.after(world.now, CN))
        world.pass_time(10 * DAY)
        assert world.state is S.UPHELD_BY_DEFAULT

    @pytest.mark.parametrize("unreachable", ["review", "wait"])
    def test_9_whoever_acts_has_been_reached(self, unreachable: str) -> None:
        world = self.lost(unreachable)
        world.pass_time(DAY)
        reached, acted = world.counter(accepted_at=world.now - HOUR).changes
        assert (reached.data.state, reached.data.command, reached.data.by) == (S.NOTIFIED, None, "system")
        assert (acted.data.state, acted.data.command) == (S.HOLDER_RESPONSE, "k1")
        assert (world.got.unreached, world.got.noticed_at) == (False, world.now - HOUR)
        accepting = self.lost(unreachable)
        accepting.accept()
        assert accepting.state is S.UPHELD
        # even by something that is refused; a holder's act says nothing of the seller
        refused = self.lost(unreachable)
        assert refused.complain("seller").refused is not None
        assert (refused.state, refused.got.due) == (S.NOTIFIED, IPP.timers.window.after(refused.now, CN))
        held = self.lost(unreachable)
        held.action(by="owner")
        assert held.got.unreached

    def test_9_reached_in_court_or_while_suspended(self) -> None:
        for go, back in (
            (World.action, lambda world: world.result("ended")),
            (lambda world: world.right("expired"), lambda world: world.right("active")),
        ):
            world = self.lost()
            revision = world.got.revision - 1
            go(world)  # type: ignore[operator]
            world.pass_time(DAY)
            if world.got.unreached:
                (change,) = world.sent("seller_notice", revision=revision).changes
                assert (change.kind, change.data.unreached) == ("reached", False)
            back(world)
            assert (world.state, world.got.unreached) == (S.NOTIFIED, False)
            assert world.got.due is not None
            assert world.got.due >= IPP.timers.window.after(world.now - DAY, CN)

    def test_9_not_reached_while_away_is_noted_for_the_return(self) -> None:
        world = World(policy())
        world.submit()
        world.receipt()
        revision = world.got.revision
        world.right("expired")
        (change,) = world.unreached(revision=revision).changes
        assert (change.kind, change.data.unreached) == ("unreached", True)
        world.right("active")
        assert (world.state, world.changes[-1].data.via) == (S.APPEALED, (S.NOTIFIED,))

    @pytest.mark.parametrize("unreachable", ["review", "wait"])
    @pytest.mark.parametrize("noted", ["countered", "sent back"])
    def test_9_who_has_countered_before_is_there(self, unreachable: str, noted: str) -> None:
        world = World(policy(unreachable=unreachable, counter_check="manual"))
        world.submit()
        world.receipt()
        revision = world.got.revision
        world.counter()
        if noted == "countered":
            assert not world.unreached(revision=revision).changes
        world.decide("incomplete")
        if noted == "sent back":
            (change,) = world.unreached(revision=revision).changes
            assert change.kind == "window_opened"
        assert (world.state, world.got.unreached, world.got.noticed_at) == (S.NOTIFIED, False, world.now)
        assert world.got.due is None or world.got.due <= world.got.sla_due, "the notice of the defect is still awaited"
        world.sent("counter_defect")
        world.pass_time(30 * DAY)
        assert world.state is S.UPHELD_BY_DEFAULT

    def test_9_said_in_each_change_and_why_a_person_looks(self) -> None:
        world = self.lost()
        assert (world.changes[-1].data.unreached, world.got.code) == (True, "seller_unreached")
        world.action(by="owner")
        world.result("ended")
        assert (world.state, world.got.code) == (S.APPEALED, "seller_unreached")
        world.sent("seller_notice", revision=2)
        assert (world.changes[-1].data.unreached, world.got.code) == (False, None)

    def test_9_where_silence_means_nothing(self) -> None:
        world = self.lost(seller_silent="nothing")
        world.sent("seller_notice", revision=world.got.revision - 1)
        assert (world.state, world.got.upheld, world.got.due) == (S.NOTIFIED, True, None)


class TestRow10:
    """-> COUNTERED."""

    @pytest.mark.parametrize("state", [S.NOTIFIED, *sorted(UPHELD)])
    def test_10_countered(self, state: State) -> None:
        world = World(MANUAL).to(state)
        upheld, rounds = world.got.upheld, world.got.counter_round
        world.counter()
        assert (world.state, world.got.upheld, world.got.held) == (S.COUNTERED, upheld, True)
        assert world.got.counter_round == rounds + 1
        assert world.got.due == IPP.timers.counter_check.after(world.now, CN)

    def test_10_three_rounds(self) -> None:
        world = World().to(S.UPHELD_AFTER_COUNTER)
        for _ in range(2):
            assert world.got.counter_due == IPP.timers.round_window.after(world.now, CN)
            assert world.counter().refused is None
            world.respond(False)
            world.decide("uphold")
        refused = world.counter().refused
        assert refused is not None
        assert refused.code == "rounds_used"
        assert "complaint" in refused.detail

    def test_10_late_once(self) -> None:
        world = World().to(S.UPHELD_BY_DEFAULT)
        world.now = T + 180 * DAY
        assert world.counter().refused is None
        assert world.got.upheld
        world.respond(False)
        world.decide("uphold")
        world.now += 8 * DAY  # in time again: a round of its own
        assert world.counter(accepted_at=world.got.counter_due).refused is None
        world.respond(False)
        world.decide("uphold")
        world.now += 30 * DAY
        refused = world.counter().refused
        assert refused is not None
        assert refused.code == "counter_too_late"
        assert "complaint" in refused.detail

    def test_10_too_late(self) -> None:
        world = World().to(S.UPHELD_BY_DEFAULT)
        world.now = T + 180 * DAY + dt.timedelta(microseconds=1)
        refused = world.counter().refused
        assert refused is not None
        assert refused.code == "counter_too_late"

    def test_10_before_the_notice_is_in_time(self) -> None:
        world = World()
        world.submit()
        world.now += 300 * DAY
        world.counter()
        assert (world.state, world.got.late_counters) == (S.HOLDER_RESPONSE, 0)
        world.sent("seller_notice", revision=1)  # on its way meanwhile: noted, and published with the next change
        assert world.got.noticed_at is None
        world.respond(False)
        assert world.got.noticed_at == world.now


class TestRow11:
    """COUNTERED -> the state before."""

    def test_11_by_rule(self) -> None:
        world = World().to(S.NOTIFIED)
        (change,) = world.counter(("identity",)).changes
        assert (change.kind, change.data.state, change.data.via) == ("notified", S.NOTIFIED, (S.COUNTERED,))
        assert (change.data.rule, change.data.missing) == ("11-counter-incomplete", ("statement",))
        assert (change.data.code, change.data.counter_round) == ("counter_incomplete", 0)

    @pytest.mark.parametrize("state", [S.NOTIFIED, *sorted(UPHELD)])
    def test_11_by_reviewer(self, state: State) -> None:
        world = World(MANUAL).to(state)
        upheld = world.got.upheld
        world.counter()
        world.decide("incomplete")
        assert (world.state, world.got.upheld, world.got.awaits) == (state, upheld, ("counter_defect",))

    def test_11_refile_at_least_three_days_from_the_notice(self) -> None:
        world = World().to(S.NOTIFIED)
        world.pass_time(2 * DAY)
        world.counter(())
        assert world.pass_time(30 * DAY) == []  # no window while the notice was not sent
        world.sent("counter_defect")
        assert world.got.due == IPP.timers.refile.after(world.now, CN)
        assert world.changes[-1].kind == "window_opened"
        world.pass_time(world.got.due)
        assert world.state is S.UPHELD_BY_DEFAULT

    def test_11_never_shorter_than_the_window(self) -> None:
        long = msgspec.structs.replace(IPP, timers=msgspec.structs.replace(IPP.timers, refile=IPP.timers.lookup_retry))
        world = World(long).to(S.NOTIFIED)
        world.counter(())
        world.sent("counter_defect")
        assert world.got.due == T + 3 * DAY

    def test_11_refiled_from_an_upheld_state(self) -> None:
        world = World().to(S.UPHELD_BY_DEFAULT)
        world.now += 10 * DAY
        world.counter(())
        assert world.got.late_counters == 1
        world.now += 10 * DAY
        world.sent("counter_defect")
        due = world.got.counter_due
        world.now += 30 * DAY
        assert world.counter(accepted_at=due).refused is None
        assert world.state is S.HOLDER_RESPONSE

    def test_11_the_window_is_not_prolonged_for_ever(self) -> None:
        world = World().to(S.NOTIFIED)
        for _ in range(IPP.counter.refiles):
            world.counter(())
            world.sent("counter_defect")
            world.pass_time(DAY)
        world.now += DAY
        world.counter(())
        world.pass_time(30 * DAY)
        assert world.state is S.UPHELD_BY_DEFAULT

    def test_11_a_complete_counter_gives_the_refiles_back(self) -> None:
        world = World().to(S.NOTIFIED)
        for _ in range(IPP.counter.refiles):
            world.counter(())
        world.counter()
        world.respond(False)
        world.decide("uphold")
        world.counter(())
        assert (world.state, world.got.awaits) == (S.UPHELD_AFTER_COUNTER, ("counter_defect",))

    def test_11_a_defective_counter_is_no_round(self) -> None:
        world = World().to(S.NOTIFIED)
        for _ in range(2 * IPP.counter.rounds):
            assert world.counter(()).refused is None
        assert world.got.counter_round == 0

    def test_11_both_notices_outstanding(self) -> None:
        world = World()
        world.submit()
        world.counter(())
        assert set(world.got.awaits) == {"seller_notice", "counter_defect"}
        world.sent("seller_notice", revision=1)
        assert world.pass_time(30 * DAY)[0].kind == "overdue"
        assert world.got.state is S.NOTIFIED
        world.sent("counter_defect")
        world.pass_time(10 * DAY)
        assert world.state is S.UPHELD_BY_DEFAULT

    def test_11_overdue_if_the_policy_says_so(self) -> None:
        world = World(policy(counter_check="manual", overdue_counter_check="incomplete")).to(S.NOTIFIED)
        world.counter()
        world.pass_time(2 * DAY)
        assert (world.state, world.changes[-1].data.rule) == (S.NOTIFIED, "11-counter-overdue")


class TestRow12:
    """COUNTERED -> HOLDER_RESPONSE."""

    def test_12_by_rule(self) -> None:
        world = World().to(S.NOTIFIED)
        (change,) = world.counter().changes
        assert (change.kind, change.data.via) == ("holder_response", (S.COUNTERED,))
        assert (change.data.rule, change.data.counter_round) == ("12-counter-complete", 1)

    def test_12_by_reviewer(self) -> None:
        world = World(MANUAL).to(S.COUNTERED)
        world.decide("complete")
        assert world.state is S.HOLDER_RESPONSE

    def test_12_overdue_is_taken_as_complete(self) -> None:
        world = World(MANUAL).to(S.COUNTERED)
        due = world.got.due
        assert due == T + 2 * DAY
        (change,) = world.pass_time(due)
        assert (world.state, change.data.rule, change.at) == (S.HOLDER_RESPONSE, "12-counter-overdue", due)

    def test_12_window_begins_when_it_was_forwarded(self) -> None:
        world = World().to(S.NOTIFIED)
        world.counter()
        assert world.pass_time(60 * DAY) == []
        world.sent("counter_forwarded")
        assert world.got.due == IPP.timers.holder_response.after(world.now, CN)


class TestRow13:
    """HOLDER_RESPONSE -> RESTORED."""

    def test_13_holder_accepts(self) -> None:
        world = World().to(S.RESTORED)
        assert (world.got.held, world.got.upheld, world.last.released) == (False, False, True)


class TestRow14:
    """HOLDER_RESPONSE -> PLATFORM_REVIEW."""

    def test_14_holder_rejects(self) -> None:
        world = World().to(S.PLATFORM_REVIEW)
        assert world.got.due == IPP.timers.platform_review.after(world.now, CN)
        assert world.got.held

    def test_14_without_effect_where_only_an_action_counts(self) -> None:
        world = World(policy(holder_rejects="no_effect", holder_silent="restore")).to(S.HOLDER_RESPONSE)
        due = world.got.due
        world.respond(False)
        assert (world.state, world.got.due, world.changes[-1].kind) == (S.HOLDER_RESPONSE, due, "holder_response")
        refused = world.respond(True).refused
        assert refused is not None
        assert refused.code == "already_answered"
        world.pass_time(5 * DAY)
        assert world.state is S.RESTORED


class TestRow15:
    """HOLDER_RESPONSE, silence."""

    def test_15_platform_review(self) -> None:
        world = World().to(S.HOLDER_RESPONSE)
        due = world.got.due
        assert due is not None
        (change,) = world.pass_time(due)
        assert (world.state, change.at) == (S.PLATFORM_REVIEW, due)
        assert world.got.due == IPP.timers.platform_review.after(due, CN)

    def test_15_restored(self) -> None:
        world = World(policy(holder_silent="restore")).to(S.HOLDER_RESPONSE)
        world.pass_time(5 * DAY)
        assert (world.state, world.got.held, world.last.released) == (S.RESTORED, False, True)


class TestRow16:
    """Any open or upheld -> LITIGATION."""

    @pytest.mark.parametrize("state", [state for state in LIVE if state is not S.LITIGATION])
    @pytest.mark.parametrize("by", ["seller", "owner"])
    def test_16_action_filed(self, state: State, by: str) -> None:
        world = world_for(state)
        if world.got.seller is None:
            by = "owner"
        held, upheld = world.got.held, world.got.upheld
        world.action(by=by)
        assert (world.state, world.got.held, world.got.upheld) == (S.LITIGATION, held, upheld)

    def test_16_reminder_every_90_days(self) -> None:
        world = World().to(S.LITIGATION)
        reminders = world.pass_time(300 * DAY)
        assert [(change.kind, change.at) for change in reminders] == [
            ("reminded", T + 90 * DAY),
            ("reminded", T + 180 * DAY),
            ("reminded", T + 270 * DAY),
        ]

    def test_16_needs_proof(self) -> None:
        world = World().to(S.NOTIFIED)
        refused = world.action(proof=None).refused
        assert refused is not None
        assert refused.code == "proof_missing"

    @pytest.mark.parametrize("suspended", [False, True])
    def test_16_once(self, suspended: bool) -> None:
        world = World().to(S.LITIGATION)
        if suspended:
            world.right("lost")
        refused = world.action().refused
        assert refused is not None
        assert refused.code == "action_known"


class TestRow17:
    """PLATFORM_REVIEW -> RESTORED or UPHELD_AFTER_COUNTER."""

    def test_17_restored(self) -> None:
        world = World().to(S.PLATFORM_REVIEW)
        world.decide("restore")
        assert (world.state, world.got.held, world.got.upheld) == (S.RESTORED, False, False)

    def test_17_upheld(self) -> None:
        world = World().to(S.UPHELD_AFTER_COUNTER)
        assert (world.got.held, world.got.upheld) == (True, True)

    @pytest.mark.parametrize(("choice", "state"), [("restore", S.RESTORED), ("uphold", S.UPHELD_AFTER_COUNTER)])
    def test_17_overdue(self, choice: str, state: State) -> None:
        world = World(policy(overdue_decision=choice)).to(S.PLATFORM_REVIEW)
        due = world.got.due
        assert due is not None
        (escalated,) = world.pass_time(due)
        assert (escalated.kind, escalated.data.rule, world.state) == ("overdue", "17-overdue", S.PLATFORM_REVIEW)
        after = IPP.timers.platform_review_grace.after(due, CN)
        (decided,) = world.pass_time(after)
        assert (world.state, decided.at) == (state, after)


class TestRow18:
    """Any open, any upheld -> WITHDRAWN."""

    @pytest.mark.parametrize("state", LIVE)
    @pytest.mark.parametrize("ground", ["error", "settled", "licensed"])
    def test_18_withdrawn(self, state: State, ground: str) -> None:
        world = world_for(state)
        upheld = world.got.upheld
        world.withdraw(ground)
        assert (world.state, world.got.code, world.got.held) == (S.WITHDRAWN, ground, False)
        assert world.got.upheld == (upheld and ground == "settled")
        assert world.last.released

    def test_18_before_it_was_handled_no_target_is_left(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.withdraw()
        assert (world.got.handled_at, world.got.sla) == (None, None)

    def test_18_after_the_deadline_it_was_missed(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.now += 25 * HOUR
        world.withdraw()
        assert [change.kind for change in world.changes] == ["under_review", "overdue", "withdrawn"]
        assert world.got.sla == "missed"


class TestRow19:
    """What is decided -> APPEALED -> as before, or reversed."""

    UNHEARD = (S.REJECTED, S.DUPLICATE, S.LINK_INVALID, S.LAPSED)

    def appealed(self, state: State) -> World:
        world = world_for(state)
        world.complain("seller" if state in UPHELD else "agent")
        assert world.last.refused is None
        return world

    @pytest.mark.parametrize("state", sorted((ENDED - {S.WITHDRAWN}) | UPHELD))
    def test_19_confirmed_is_the_state_before(self, state: State) -> None:
        before = world_for(state).got
        world = self.appealed(state)
        assert world.state is S.APPEALED
        assert (world.got.held, world.got.upheld, world.got.blocks) == (before.held, before.upheld, before.blocks)
        if state is S.DUPLICATE:
            world.finds("o")
        world.decide_complaint("confirm")
        assert (world.state, world.got.held, world.got.upheld) == (state, before.held, before.upheld)
        assert (world.got.code, world.changes[-1].data.settled) == ("decision_stands", True)

    @pytest.mark.parametrize("state", [S.REJECTED, S.DUPLICATE, S.LAPSED])
    def test_19_reversed_goes_to_review_and_never_straight_to_a_takedown(self, state: State) -> None:
        world = self.appealed(state)
        world.decide_complaint("reverse")
        change = world.changes[-1].data
        assert S.UNDER_REVIEW in (change.state, *change.via)
        if change.state is S.NOTIFIED:  # by the rule: with a notice, and a window that begins when it was sent
            assert not world.got.upheld
            assert world.got.awaits == ("seller_notice",)
        assert world.got.original is None

    def test_19_reversed_dead_link_waits_for_a_person(self) -> None:
        world = self.appealed(S.LINK_INVALID).knows(None)
        world.decide_complaint("reverse")
        assert world.state is S.UNDER_REVIEW
        refused = world.decide("uphold").refused
        assert refused is not None
        assert refused.code == "listing_unknown"

    @pytest.mark.parametrize("state", sorted(UPHELD))
    def test_19_reversed_takedown_is_restored_with_its_penalties(self, state: State) -> None:
        world = self.appealed(state)
        assert (world.got.held, world.got.upheld) == (True, True), "nothing changes while it is looked at"
        world.decide_complaint("reverse", code="new_evidence")
        assert (world.state, world.got.held, world.got.upheld) == (S.RESTORED, False, False)
        assert (world.got.code, world.last.released) == ("new_evidence", True)

    def test_19_reversed_restoration_is_upheld_with_a_further_round(self) -> None:
        world = self.appealed(S.RESTORED)
        world.decide_complaint("reverse")
        assert (world.state, world.got.held, world.got.upheld) == (S.UPHELD_AFTER_COUNTER, True, True)
        assert world.got.counter_due == CN.add_working_days(T, 7)

    @pytest.mark.parametrize("state", sorted((ENDED - {S.WITHDRAWN}) | UPHELD))
    def test_19_only_the_side_that_it_went_against(self, state: State) -> None:
        world = world_for(state)
        refused = world.complain("agent" if state in UPHELD else "seller").refused
        assert refused is not None
        assert refused.code in ("not_against_you", "not_a_party")

    def test_19_for_six_months(self) -> None:
        world = world_for(S.REJECTED)
        world.now = T + 184 * DAY
        assert world.complain().refused is None
        world = world_for(S.REJECTED)
        world.now = T + 184 * DAY + HOUR
        refused = world.complain().refused
        assert refused is not None
        assert refused.code == "complaint_too_late"

    def test_19_accepted_in_time_counts_however_late_it_is_read(self) -> None:
        world = world_for(S.REJECTED)
        world.now = T + 300 * DAY
        assert world.complain(accepted_at=T + 184 * DAY).refused is None

    def test_19_once_for_each_decision(self) -> None:
        world = self.appealed(S.UPHELD)
        world.decide_complaint("confirm")
        refused = world.complain("seller").refused
        assert refused is not None
        assert refused.code == "complaint_known"

    def test_19_two_parties_do_not_go_on_for_ever(self) -> None:
        world = self.appealed(S.UPHELD)
        world.decide_complaint("reverse", "a")
        world.complain()
        world.decide_complaint("reverse", "b")
        world.complain("seller")
        world.decide_complaint("reverse", "c")
        assert world.state is S.RESTORED
        refused = world.complain().refused
        assert refused is not None
        assert refused.code == "complaints_used"

    def test_19_not_by_who_looked_before(self) -> None:
        """Under four eyes the first has had its say, though the second gave the command."""
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.decide("refuse", "not_infringing", looked=("other",))
        world.complain("agent")
        refused = world.decide_complaint("confirm", "other").refused
        assert refused is not None
        assert refused.code == "decided_before"
        assert world.decide_complaint("confirm", "third").refused is None

    def test_19_not_by_who_decided_before(self) -> None:
        world = self.appealed(S.REJECTED)
        before = world.item
        refused = world.decide_complaint("confirm", "rev").refused
        assert refused is not None
        assert (refused.code, world.item) == ("decided_before", before)
        assert world.decide_complaint("confirm", "other").refused is None

    def test_19_with_reasons(self) -> None:
        refused = self.appealed(S.REJECTED).decide_complaint("confirm", code=None).refused
        assert refused is not None
        assert "decision_stands" in refused.detail

    def test_19_overdue_is_escalated_again_and_again_and_never_decided_by_itself(self) -> None:
        world = self.appealed(S.UPHELD)
        changes = world.pass_time(100 * DAY)
        assert {change.kind for change in changes} == {"overdue"}
        assert len(changes) >= 4
        assert world.state is S.APPEALED

    def test_19_the_time_to_counter_stands_still(self) -> None:
        world = World().to(S.UPHELD_AFTER_COUNTER)
        due = world.got.counter_due
        assert due is not None
        world.complain("seller")
        world.pass_time(60 * DAY)
        world.decide_complaint("confirm")
        assert world.got.counter_due == due + 60 * DAY

    def test_19_a_duplicate_whose_original_ended_meanwhile_reopens(self) -> None:
        world = self.appealed(S.DUPLICATE)
        world.decide_complaint("confirm")
        assert (world.state, world.changes[-1].data.via) == (S.NOTIFIED, (S.RECEIVED, S.UNDER_REVIEW))

    def test_19_a_right_lost_meanwhile_suspends_what_is_reversed(self) -> None:
        world = world_for(S.REJECTED)
        world.complain(right_status="lost")
        world.decide_complaint("reverse")
        assert (world.state, world.got.code) == (S.SUSPENDED, "right_lost")


assert IPP.recurrence is not None
AS_USUAL = msgspec.structs.replace(IPP, recurrence=msgspec.structs.replace(IPP.recurrence, review="as_usual"))


class TestRow20:
    """A near copy of an upheld item's listing -> a new item."""

    def test_20_a_person_decides(self) -> None:
        world = World()
        (change,) = world.submit(recurs="old").changes
        assert world.state is S.UNDER_REVIEW
        assert (change.data.recurs, change.data.rule) == ("old", "5-complete")
        assert not world.got.held
        world.decide("uphold")
        assert world.state is S.NOTIFIED
        assert world.changes[-1].data.recurs == "old"

    def test_20_nobody_decides_in_time(self) -> None:
        world = World()
        world.submit(recurs="old")
        world.pass_time(25 * HOUR)
        assert (world.state, world.got.sla) == (S.UNDER_REVIEW, "missed")

    def test_20_as_usual(self) -> None:
        world = World(AS_USUAL)
        (change,) = world.submit(recurs="old").changes
        assert (world.state, change.data.rule) == (S.NOTIFIED, "7-upheld-prima-facie")
        assert World(AS_USUAL).submit().changes[0].data.recurs is None

    def test_20_a_policy_that_says_nothing_of_it(self) -> None:
        world = World(msgspec.structs.replace(IPP, recurrence=None))
        world.submit(recurs="old")
        assert world.state is S.UNDER_REVIEW

    def test_20_triage_weighs_and_refuses_nothing_by_itself(self) -> None:
        assert IPP.triage is not None
        harsh = msgspec.structs.replace(
            policy(review="triage"), triage=msgspec.structs.replace(IPP.triage, refuse_at=10_000, uphold_at=10_001)
        )
        world = World(harsh)
        world.submit()
        assert world.state is S.REJECTED
        world = World(harsh)
        world.submit(recurs="old")
        assert world.state is S.UNDER_REVIEW
        assert world.got.triage is not None
        assert world.got.triage.band == "refuse"

    def test_20_linked_while_it_waits_for_the_listing(self) -> None:
        world = World(listing=None)
        (change,) = world.submit(recurs="old").changes
        assert (world.state, change.data.rule, change.data.recurs) == (S.RECEIVED, "20-recurrence", "old")
        world.listed()
        assert (world.state, world.changes[-1].data.recurs) == (S.UNDER_REVIEW, "old")

    def test_20_reversed_after_a_complaint_it_is_a_persons_still(self) -> None:
        world = World()
        world.submit(recurs="old")
        world.decide("refuse", "not_infringing")
        world.complain()
        world.decide_complaint("reverse")
        assert world.state is S.UNDER_REVIEW


class TestRow21:
    """LITIGATION -> by the result."""

    @pytest.mark.parametrize(("outcome", "state"), [("holder", S.UPHELD_AFTER_COUNTER), ("seller", S.RESTORED)])
    @pytest.mark.parametrize("by", ["seller", "owner"])
    def test_21_result(self, outcome: str, state: State, by: str) -> None:
        world = World().to(S.LITIGATION)
        world.result(outcome, by=by)
        assert world.state is state

    @pytest.mark.parametrize("state", [state for state in LIVE if state not in (S.LITIGATION, S.SUSPENDED, S.RECEIVED)])
    def test_21_ended(self, state: State) -> None:
        world = world_for(state)
        before = world.got
        world.action()
        world.pass_time(200 * DAY)
        world.result("ended")
        assert (world.state, world.got.held, world.got.upheld) == (state, before.held, before.upheld)
        left = [(timer.kind, timer.due - T) for timer in before.timers if timer.kind != "sla"]
        assert [(timer.kind, timer.due - world.now) for timer in world.got.timers if timer.kind != "sla"] == left

    def test_21_ended_for_an_item_that_waits_for_its_listing(self) -> None:
        world = World().to(S.RECEIVED)
        world.action(by="owner")
        assert world.listed().ignored
        world.result("ended")
        assert world.state is S.NOTIFIED

    def test_21_the_time_to_counter_stood_still_too(self) -> None:
        world = World().to(S.UPHELD_AFTER_COUNTER)
        due = world.got.counter_due
        assert due is not None
        world.action()
        world.pass_time(200 * DAY)
        world.result("ended")
        assert world.got.counter_due == due + 200 * DAY
        world.now = due + 200 * DAY
        assert world.counter().refused is None
        assert world.got.late_counters == 0

    def test_21_needs_proof(self) -> None:
        world = World().to(S.LITIGATION)
        refused = world.result("ended", proof=None).refused
        assert refused is not None
        assert refused.code == "proof_missing"

    def test_21_notice_sent_while_in_court(self) -> None:
        world = World()
        world.submit()
        world.receipt()
        world.action()
        world.sent("seller_notice", revision=1)
        world.pass_time(80 * DAY)
        world.result("ended")
        assert (world.state, world.got.due, world.got.noticed_at) == (S.NOTIFIED, world.now + 3 * DAY, T)


class TestRow22:
    """Any open -> SUSPENDED."""

    @pytest.mark.parametrize("state", sorted(OPEN - {S.SUSPENDED}))
    @pytest.mark.parametrize("status", ["expired", "lost", "unauthorised"])
    def test_22_suspended_and_back(self, state: State, status: str) -> None:
        world = world_for(state)
        before = world.got
        world.right(status)
        assert (world.state, world.got.held, world.got.code) == (S.SUSPENDED, before.held, f"right_{status}")
        assert world.right(status).ignored
        world.pass_time(10 * DAY)
        world.right("active")
        assert world.state is state
        assert world.got.missing == before.missing
        assert (world.got.held, world.got.upheld) == (before.held, before.upheld)
        assert [(t.kind, t.due) for t in world.got.timers] == [(t.kind, t.due + 10 * DAY) for t in before.timers]

    @pytest.mark.parametrize("state", sorted(OPEN - {S.SUSPENDED}))
    def test_22_after_30_days_withdrawn(self, state: State) -> None:
        world = world_for(state)
        world.right("lost")
        (change,) = world.pass_time(40 * DAY)
        assert (world.state, change.at, world.got.upheld) == (S.WITHDRAWN, T + 30 * DAY, False)
        assert (world.got.code, world.last.released) == ("right_ended", True)

    def test_22_after_30_days_penalties_are_reversed(self) -> None:
        world = World(MANUAL).to(S.UPHELD)
        world.counter()
        world.right("lost")
        assert world.got.upheld
        world.pass_time(30 * DAY)
        assert not world.got.upheld

    @pytest.mark.parametrize("state", sorted(set(S) - OPEN))
    def test_22_nothing_to_an_item_that_is_not_open(self, state: State) -> None:
        assert world_for(state).right("lost").ignored

    def test_22_action_filed_while_suspended(self) -> None:
        world = World().to(S.SUSPENDED)
        world.action()
        world.pass_time(50 * DAY)
        assert world.state is S.LITIGATION
        world.result("ended")  # the right is still lost
        assert (world.state, world.changes[-1].data.via) == (S.SUSPENDED, (S.NOTIFIED,))
        world.right("active")
        assert (world.state, world.got.due) == (S.NOTIFIED, world.now + 3 * DAY)

    def test_22_right_back_while_in_court(self) -> None:
        world = World().to(S.SUSPENDED)
        world.action()
        world.right("active")
        world.result("ended")
        assert world.state is S.NOTIFIED

    def test_22_the_court_ruled_all_the_same(self) -> None:
        world = World().to(S.SUSPENDED)
        world.action()
        world.result("holder")
        world.counter()
        assert world.state is S.HOLDER_RESPONSE

    def test_22_undone_withdrawal_still_knows_of_the_right(self) -> None:
        world = World().to(S.SUSPENDED)
        world.pass_time(40 * DAY)
        assert world.got.state is S.WITHDRAWN
        world.action(accepted_at=T + DAY)
        world.result("ended")
        assert world.state is S.SUSPENDED

    def test_22_in_court_and_suspended(self) -> None:
        world = World().to(S.LITIGATION)
        world.right("lost")
        assert world.got.state is S.SUSPENDED
        world.right("active")
        assert world.state is S.LITIGATION

    def test_22_the_24_hours_stand_still(self) -> None:
        world = World(MANUAL).to(S.UNDER_REVIEW)
        world.now += HOUR
        world.right("lost")
        world.pass_time(5 * DAY)
        world.right("active")
        assert world.got.sla_due == T + 24 * HOUR + 5 * DAY
        assert world.got.due == world.got.sla_due

    def test_22_a_receipt_while_suspended_is_in_time(self) -> None:
        world = World()
        world.submit()
        world.right("lost")
        world.now += 5 * DAY
        world.receipt()
        assert (world.got.sla, world.got.sla_due) == ("met", T + 24 * HOUR + 5 * DAY)


def test_events_for_an_item_that_is_not_there() -> None:
    assert decide(None, VISIBLE, Facts(), IPP, T).ignored
