"""No sequence of events, in any order, leaves an item without an exit; and an independent model agrees on its state."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.notification.domain import messages_for
from services.ops.verify.item_model import ItemModel
from services.ops.verify.item_state import TIMERS, Filed, Proof
from services.ops.verify.telling import told
from services.verification.item import ENDED
from services.verification.lifecycle import Change, Item, decide
from shared.events import (
    Accept,
    AddInformation,
    AuditedOutcome,
    ChangeRight,
    Command,
    Complain,
    Counter,
    Decide,
    HoldChanged,
    Listing,
    NoticeSent,
    NoticeUnreached,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Withdraw,
)
from shared.policy import Audits, Policy, TriageNeeds, current
from tests.unit.verification.world import COMPLETE, HOUR, IPP, ITEM, MICRO, VISIBLE, T, World, judged, policy

S = State
POLICIES = [
    policy(
        unreachable=unreachable,
        removal=removal,
        review=review,
        counter_check=check,
        holder_silent=silent,
        overdue_decision=overdue,
        overdue_counter_check=taken,
    )
    for unreachable, removal, review, check, silent, overdue, taken in itertools.product(
        ("review", "wait"),
        ("on_notice", "after_window"),
        ("prima_facie", "manual"),
        ("rule", "manual"),
        ("platform_review", "restore"),
        ("restore", "uphold"),
        ("complete", "incomplete"),
    )
]
ALL = Audits(
    seed="s",
    shares=dict.fromkeys(get_args(AuditedOutcome), 1.0),
    agrees="decision_stands",
    overturned="facts_misjudged",
)
_FIRST = next(iter(IPP.reasons))
_STRICT = msgspec.structs.replace(IPP.reasons[_FIRST], unregistered_materials=("sworn_statement",))
POLICIES += [
    msgspec.structs.replace(policy(review=review), reasons={**IPP.reasons, _FIRST: _STRICT})
    for review in ("prima_facie", "manual")
]
"""Rights that are in no register need more."""
PROFILES = [
    msgspec.structs.replace(
        rules, rules=msgspec.structs.replace(rules.rules, audited_share=share), audits=audits if not share else None
    )
    for rules in map(current, ("bpp", "cn-ecl", "dmca", "ipp", "project-zero"))
    for share, audits in ((0.0, None), (0.0, ALL), (1.0, None))
]
"""Other laws and programmes, with audits of nothing and of everything, and as versions before had them."""
_TRIAGE = current("ipp").triage
assert _TRIAGE is not None
_PICTURE = (("copied_work",),)
_MATCH = msgspec.structs.replace(_TRIAGE, needs=TriageNeeds(general=_PICTURE, serious=_PICTURE))
PROFILES += [msgspec.structs.replace(current("ipp"), triage=_MATCH, audits=audits) for audits in (None, ALL)]
"""A picture suffices."""
GONE = Listing(listing="l", state="unknown")
LISTINGS = [None, VISIBLE, GONE, Listing(listing="l", seller="seller", state="ended")]
NOTICES = ["seller_notice", "counter_forwarded", "counter_defect", "info_request"]
DECISIONS = ["uphold", "refuse", "complete", "incomplete", "restore", "confirm", "reverse"]
SPANS = st.sampled_from([dt.timedelta(), MICRO, HOUR, 20 * HOUR, 30 * HOUR, 80 * HOUR, 24 * 8 * HOUR, 24 * 60 * HOUR])
DELAYS = st.sampled_from([dt.timedelta(), dt.timedelta(), MICRO, HOUR, 50 * HOUR, 24 * 40 * HOUR])


class Informed(ItemModel):
    """A model that is given the band of triage, as `verify` takes it from the log."""

    def __init__(self, world: World) -> None:
        self.world = world
        super().__init__(world.policy)

    @property
    def band(self) -> str:
        """The band of the item's last triage."""
        weighed = None if self.world.item is None else self.world.item.triage
        return "review" if weighed is None else weighed.band

    @band.setter
    def band(self, value: str) -> None:
        self.__dict__["band"] = value  # among its attributes, but never read


def moved(change: Change) -> bool:
    """Whether a change is one of state."""
    return bool(change.data.via) or change.data.state is not change.data.previous


class LifeCycle(RuleBasedStateMachine):
    """An item, its model, and parties who do anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model = ItemModel(IPP)
        self.blocked = False

    @initialize(
        rules=st.one_of(st.sampled_from(POLICIES), st.sampled_from(PROFILES)),
        listing=st.sampled_from([VISIBLE, VISIBLE, VISIBLE, None, GONE]),
        original=st.integers(0, 9).map(lambda n: n == 9),
        complete=st.integers(0, 3).map(bool),
        rest=st.fixed_dictionaries(
            {},
            optional={
                "recurs": st.just("old"),
                "abroad": st.booleans(),
                "good_faith": st.booleans(),
                "on_site": st.integers(0, 9).map(bool),
                "right_type": st.sampled_from(["trademark", "copyright"]),
                "right_registered": st.booleans(),
            },
        ),
    )
    def submit(
        self, rules: Policy, listing: Listing | None, original: bool, complete: bool, rest: dict[str, Any]
    ) -> None:
        self.world = World(rules, listing=listing)
        self.model: ItemModel = Informed(self.world)
        self.know(listing, original)
        self.world.content = "c" * 64
        reason = next(iter(rules.reasons))
        materials = tuple({*rules.claim.required, *rules.reasons[reason].materials}) if complete else ()
        named = {"reason": reason, "right_type": rules.reasons[reason].rights[0], "materials": materials, **rest}
        event = self.world.submission(**named)
        self.world.do(event)
        proof = Proof(True, "authorised", "active", frozenset(materials))
        self.model.submit(Filed.of(event), proof, T, T)

    def know(self, listing: Listing | None, original: bool) -> None:
        self.blocked |= original
        self.world.listing, self.world.original = listing, "o" if original else None
        self.model.listing, self.model.original = listing, original

    @rule(span=SPANS)
    def time_passes(self, span: dt.timedelta) -> None:
        self.world.now += span

    @rule(lag=DELAYS)
    def timers_fire(self, lag: dt.timedelta) -> None:
        upto = self.world.now - lag
        self.told()
        self.world.tick(upto)
        self.model.pass_to(upto)

    def told(self) -> None:
        """What the model is told of the item: its revision."""
        if self.world.item is not None:
            self.model.revision = self.world.item.revision

    @rule()
    def to_the_deadline(self) -> None:
        if self.world.got.next_due is not None:
            self.world.now = max(self.world.now, self.world.got.next_due)

    @rule(listing=st.sampled_from(LISTINGS), original=st.booleans())
    def marketplace_answers(self, listing: Listing | None, original: bool) -> None:
        self.know(listing, original)
        if listing is not None:
            self.told()
            self.world.listed(listing)
            self.model.listed(self.world.now)

    @rule(original=st.booleans())
    def original_ends(self, original: bool) -> None:
        self.know(self.world.listing, original)
        self.told()
        self.world.reopened()
        self.model.reopened(self.world.now)

    @rule(kind=st.sampled_from(NOTICES), lag=DELAYS)
    def notice_sent(self, kind: Any, lag: dt.timedelta) -> None:
        """The notice that belongs to the state, if one is awaited (deep in the stack or not)."""
        item = self.world.got
        if kind == "seller_notice" and not self._was_notified():
            return
        sent_at = max(self.world.now - lag, T)
        self.told()
        self.world.sent(kind, at=sent_at, revision=self._visit(item, kind))
        self.model.sent(kind, sent_at, self.world.now)

    def _visit(self, item: Item, kind: str) -> int:
        if kind in item.awaits:
            return item.visit
        return next((frame.visit for frame in reversed(item.stack) if kind in frame.awaits), item.revision)

    def _was_notified(self) -> bool:
        return any(S.NOTIFIED in (change.data.state, *change.data.via) for change in self.world.changes)

    @rule()
    def nobody_owns_the_inbox(self) -> None:
        if not self._was_notified():
            return
        self.told()
        self.world.unreached(revision=self._visit(self.world.got, "seller_notice"))
        self.model.not_reached(self.world.now, self.world.now)

    @rule(kind=st.sampled_from(NOTICES), offset=st.integers(1, 20))
    def stale_notice(self, kind: Any, offset: int) -> None:
        before = self.world.item
        self.world.sent(kind, revision=self.world.got.revision + offset)
        assert self.world.item is before
        self.world.unreached(revision=self.world.got.revision + offset)
        assert self.world.item is before

    @rule(match=st.sampled_from([0.0, 0.95]), judged_on=st.integers(0, 9).map(bool))
    def pictures_compared(self, match: float, judged_on: bool) -> None:
        self.told()
        outcome = self.world.pictures(match, None if judged_on else "d" * 64)
        assert not outcome.changes or (match and judged_on)
        if outcome.changes:
            assert self.model.pictured(self.world.now)

    @rule(held=st.booleans(), lag=DELAYS)
    def receipt(self, held: bool, lag: dt.timedelta) -> None:
        at = max(self.world.now - lag, T)
        self.told()
        self.world.receipt(held, at=at)
        if held:
            self.model.receipt(at, self.world.now)

    # ---- what usually comes next: without it, random histories seldom get far

    def _usual(self, choice: int, lag: dt.timedelta) -> None:
        now = dt.timedelta()
        item = self.world.got
        if "seller_notice" in item.awaits and not item.unreached and choice == 4:
            self.nobody_owns_the_inbox()
            return
        if item.awaits and choice % 3:
            self.notice_sent(item.awaits[0], now)
            return
        if choice == 5 and item.held and item.handled_at is None:
            self.receipt(True, now)
            return
        steps: list[Callable[[], None]]
        match item.state:
            case S.RECEIVED:
                steps = [self.deadline, lambda: self.marketplace_answers(VISIBLE, False)]
            case S.NEEDS_INFO:
                steps = [self.deadline, lambda: self.add_information(lag, True, True)]
            case S.UNDER_REVIEW:
                steps = [
                    lambda: self.decide(now, "uphold"),
                    lambda: self.marketplace_answers(VISIBLE, False),
                    lambda: self.pictures_compared(0.95, True),
                ]
            case S.NOTIFIED:
                steps = [self.deadline, lambda: self.counter(lag, True), lambda: self.counter(lag, False)]
            case S.COUNTERED:
                steps = [lambda: self.decide(now, "complete"), lambda: self.decide(now, "incomplete"), self.deadline]
            case S.HOLDER_RESPONSE:
                steps = [self.deadline, lambda: self.respond(lag, False)]
            case S.PLATFORM_REVIEW:
                steps = [lambda: self.decide(now, "uphold"), self.deadline, lambda: self.respond(lag, True)]
            case S.LITIGATION:
                steps = [lambda: self.result(now, "ended", True), lambda: self.right_changes(now, "lost")]
            case S.SUSPENDED:
                steps = [lambda: self.right_changes(now, "active"), lambda: self.action(now, True), self.deadline]
            case S.DUPLICATE:
                steps = [lambda: self.original_ends(False), lambda: self.complain(lag, "holder", "active")]
            case S.APPEALED if item.unreached:
                steps = [
                    lambda: self.notice_sent("seller_notice", lag),
                    lambda: self.counter(lag, True),
                    lambda: self.decide(now, "confirm", "third"),
                    lambda: self.decide(now, "reverse", "third"),
                    lambda: self.action(now, True),
                    lambda: self.accept(lag),
                ]
            case S.APPEALED:
                steps = [
                    lambda: self.decide(now, "reverse", "other"),
                    lambda: self.decide(now, "confirm", "third"),
                    lambda: self.decide(now, "reverse", "rev"),
                    lambda: self.right_changes(now, "lost"),
                ]
            case _:  # an upheld item, or one that has ended: in time, late, too late
                steps = [
                    lambda: self.counter(lag, True),
                    lambda: self.counter(lag, False),
                    lambda: self.add_information(lag, True, choice > 2),
                    lambda: self.respond(lag, choice > 2),
                    lambda: self.right_changes(lag, "active"),
                    lambda: self.complain(lag, "holder", "active" if choice % 2 else "lost"),
                    lambda: self.complain(lag, "seller", "active"),
                ]
        steps[choice % len(steps)]()

    def deadline(self) -> None:
        self.to_the_deadline()
        self.timers_fire(dt.timedelta())

    @rule(choices=st.lists(st.tuples(st.integers(0, 5), DELAYS), min_size=1, max_size=12))
    def usual(self, choices: list[tuple[int, dt.timedelta]]) -> None:
        for choice, lag in choices:
            self._usual(choice, lag)
            self.the_model_agrees()

    # ---- commands

    def both(self, name: str, kind: type[Command], by: str, role: Any, lag: dt.timedelta, rest: Any, told: Any) -> None:
        accepted_at = max(self.world.now - lag, T)
        self.told()
        if role == "seller" and self.world.got.seller is None:
            outcome = self.world.command(kind, by, role, accepted_at=accepted_at, **rest)
            assert outcome.refused is not None
            return
        outcome = self.world.command(kind, by, role, accepted_at=accepted_at, **rest)
        applied = self.model.command(name, accepted_at, self.world.now, by_seller=role == "seller", **told)
        assert applied == (outcome.refused is None and outcome.ignored is None)

    @rule(lag=DELAYS, identity=st.booleans(), ownership=st.booleans())
    def add_information(self, lag: dt.timedelta, identity: bool, ownership: bool) -> None:
        materials: tuple[str, ...] = ("ownership",) if ownership else ()
        told = {"proof": Proof(identity, "owner", "active", frozenset(materials))}
        rest = {"identity_verified": identity, "authority": "owner", "materials": materials}
        self.both("information", AddInformation, "agent", "holder", lag, rest, told)

    @rule(lag=DELAYS, ground=st.sampled_from(["error", "settled", "licensed"]), really=st.integers(0, 9))
    def withdraw(self, lag: dt.timedelta, ground: str, really: int) -> None:
        if not really:
            self.both("withdraw", Withdraw, "owner", "holder", lag, {"ground": ground}, {"ground": ground})

    @rule(lag=DELAYS)
    def accept(self, lag: dt.timedelta) -> None:
        self.both("accept", Accept, "seller", "seller", lag, {}, {})

    @rule(lag=DELAYS, complete=st.booleans())
    def counter(self, lag: dt.timedelta, complete: bool) -> None:
        materials = COMPLETE if complete else ()
        self.both("counter", Counter, "seller", "seller", lag, {"materials": materials}, {"materials": materials})

    @rule(lag=DELAYS, accept=st.booleans())
    def respond(self, lag: dt.timedelta, accept: bool) -> None:
        self.both("respond", Respond, "agent", "holder", lag, {"accept": accept}, {"accept": accept})

    @rule(lag=DELAYS, proof=st.booleans())
    def action(self, lag: dt.timedelta, proof: bool) -> None:
        self.both("action", ReportAction, "owner", "holder", lag, {"proof": "p" if proof else None}, {"proof": proof})

    @rule(lag=DELAYS, outcome=st.sampled_from(["holder", "seller", "ended", "ended"]), proof=st.booleans())
    def result(self, lag: dt.timedelta, outcome: str, proof: bool) -> None:
        rest = {"outcome": outcome, "proof": "p" if proof else None}
        self.both("result", ReportResult, "owner", "holder", lag, rest, {"outcome": outcome, "proof": proof})

    @rule(lag=DELAYS, side=st.sampled_from(["holder", "seller"]), right=st.sampled_from(["active", "active", "lost"]))
    def complain(self, lag: dt.timedelta, side: str, right: str) -> None:
        told = {"side": side, "proof": Proof(True, "owner", right, frozenset())}
        rest = {"identity_verified": True, "authority": "owner", "right_status": right}
        self.both("complain", Complain, "owner" if side == "holder" else "seller", side, lag, rest, told)

    @rule(lag=DELAYS, decision=st.sampled_from(DECISIONS), by=st.sampled_from(["rev", "other", "third"]))
    def decide(self, lag: dt.timedelta, decision: str, by: str = "rev") -> None:
        code = "decision_stands" if decision in ("confirm", "reverse") else "not_infringing"
        rest = {"decision": decision, "code": code}
        self.both("decide", Decide, by, "reviewer", lag, rest, {"decision": decision, "by": by, "code": code})

    @rule(
        lag=DELAYS,
        status=st.sampled_from(["active", "active", "expired", "lost", "unauthorised"]),
        ownership=st.booleans(),
    )
    def right_changes(self, lag: dt.timedelta, status: str, ownership: bool = False) -> None:
        materials = ("ownership",) if ownership else ()
        rest = {"status": status, "materials": materials}
        self.both("right", ChangeRight, "intake", "system", lag, rest, {**rest, "materials": frozenset(materials)})

    # ---- what holds

    @invariant()
    def the_model_agrees(self) -> None:
        item, model = self.world.item, self.model
        if item is None:
            return
        assert self.world.state == model.state
        assert [
            (change.at, (*change.data.via, change.data.state)) for change in self.world.changes if moved(change)
        ] == [(move.at, move.path) for move in model.moves]
        timers = {timer.kind: timer.due for timer in item.timers if timer.kind != "lookup"}
        assert timers == {TIMERS[name]: due for due, name in model.running()}
        assert (item.held, item.upheld) == (model.held, model.upheld)
        assert (item.handled_at, item.sla, item.sla_due) == (model.handled, model.sla, model.sla_due)
        assert item.due == model.next_due
        assert item.blocks == model.blocks
        assert (item.audit and (item.audit.outcome, item.audit.found)) == model.audit
        assert item.counter_round == model.rounds
        if self.world.changes:
            change = self.world.changes[-1]
            kind = f"goodfaith.item.{change.kind}.v1"
            assert sorted(told(kind, change.data)) == sorted(messages_for(kind, change.data))

    @invariant()
    def one_outcome_of_the_24_hours(self) -> None:
        outcomes = [change.data.sla for change in self.world.changes]
        assert len({outcome for outcome in outcomes if outcome}) <= 1
        assert len([change for change in self.world.changes if change.data.rule == "5-overdue"]) <= 1

    def teardown(self) -> None:
        """From wherever it is: with notices sent and reviewers at work, everybody else silent, the item settles."""
        world = self.world
        if world.item is None:
            return
        if not self.blocked:  # the judge takes it from the log which items block one another, and here there is one
            assert judged(world) == []
        world.listing, world.original = VISIBLE, None
        for _ in range(100):
            item = world.got
            if item.settled:
                break
            if item.awaits:
                world.sent(item.awaits[0])
            elif item.state is S.UNDER_REVIEW:
                world.decide("refuse", "not_infringing")
            elif item.state is S.LITIGATION:
                world.result("ended")
            elif item.state is S.APPEALED:
                world.decide_complaint("confirm", "fourth")
            else:
                assert item.next_due is not None
                world.now = max(world.now, item.next_due)
                world.tick()
        assert world.got.settled


@pytest.mark.parametrize("complete", [True, False], ids=["seller_notice", "info_request"])
@pytest.mark.parametrize("first", [True, False], ids=["first_absence", "second_absence"])
def test_a_notice_of_a_state_that_the_item_left_twice(complete: bool, first: bool) -> None:
    """The log does not say in which absence the notice was sent; the judge finds out by what follows."""
    history = LifeCycle()
    rest = {"abroad": True, "good_faith": True, "right_type": "trademark"}
    history.submit(rules=current("cn-ecl"), listing=VISIBLE, original=False, complete=complete, rest=rest)
    for notice in (first, not first):
        history.action(dt.timedelta(), proof=True)
        if notice:
            history.time_passes(HOUR)
            history.notice_sent(history.world.got.stack[-1].awaits[0], dt.timedelta())
        history.result(dt.timedelta(), "ended", proof=True)
        history.the_model_agrees()
    history.teardown()


@pytest.mark.parametrize("profile", ["ipp", "bpp"])
@pytest.mark.parametrize("first", [True, False], ids=["acts_before", "acts_after"])
def test_a_seller_acts_in_vain_while_its_notice_is_found_unreached(profile: str, first: bool) -> None:
    """Only a command after the notice was found unreached says that the seller is reached."""
    history = LifeCycle()
    rules = msgspec.structs.replace(
        current(profile), rules=msgspec.structs.replace(current(profile).rules, review="prima_facie")
    )
    history.submit(rules=rules, listing=VISIBLE, original=False, complete=True, rest={})
    history.right_changes(lag=dt.timedelta(), ownership=False, status="expired")
    for acts in (first, not first):
        history.time_passes(HOUR)
        if acts:
            history.counter(dt.timedelta(), complete=False)
        else:
            history.nobody_owns_the_inbox()
    history.right_changes(lag=dt.timedelta(), ownership=False, status="active")
    history.the_model_agrees()
    history.teardown()


@pytest.mark.parametrize("absences", ["n", "-n", "n-", "-n-", "--n"])
@pytest.mark.parametrize("lag", [dt.timedelta(0), 30 * MICRO], ids=["at_once", "late"])
@pytest.mark.parametrize("then", [None, dt.timedelta(0), dt.timedelta(days=40)], ids=["ends", "goes_on", "window_ends"])
def test_a_notice_whose_window_no_change_shows(absences: str, lag: dt.timedelta, then: dt.timedelta | None) -> None:
    """While the 24 hours end first, `due` does not say whether the time to counter again has begun."""
    history = LifeCycle()
    rules = msgspec.structs.replace(
        current("ipp"), rules=msgspec.structs.replace(current("ipp").rules, review="prima_facie")
    )
    history.submit(rules=rules, listing=VISIBLE, original=False, complete=True, rest={})
    history.nobody_owns_the_inbox()
    history.counter(dt.timedelta(), complete=False)
    for absence in absences:
        history.right_changes(lag=dt.timedelta(), ownership=False, status="expired")
        history.time_passes(HOUR)
        if absence == "n":
            history.notice_sent("counter_defect", lag)
        history.time_passes(HOUR)
        history.right_changes(lag=dt.timedelta(), ownership=False, status="active")
        history.the_model_agrees()
        history.time_passes(HOUR)
    if then is not None:
        history.right_changes(lag=dt.timedelta(), ownership=False, status="expired")
        history.right_changes(lag=dt.timedelta(), ownership=False, status="active")
        history.time_passes(then)
    history.teardown()


def test_a_seller_acts_in_vain_after_a_deadline_and_after_it_was_unreached() -> None:
    """The refusal, what was due before it, and that the seller is reached are one record's outcome."""
    world = World(policy())
    world.submit()
    world.unreached()
    world.action(by="owner")
    world.now += 30 * HOUR
    outcome = world.counter(materials=())
    assert outcome.refused is not None
    assert [change.kind for change in outcome.changes] == ["overdue", "reached"]
    assert not world.got.unreached
    assert judged(world) == []


def test_life_cycle() -> None:
    run_state_machine_as_test(
        LifeCycle,
        settings=settings(
            max_examples=250, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# ---- properties of any event on any reachable item

_commands = st.one_of(
    st.builds(dict, kind=st.just(AddInformation), materials=st.sampled_from([(), ("ownership",)])),
    st.builds(dict, kind=st.just(Withdraw), ground=st.sampled_from(["error", "settled", "licensed"])),
    st.builds(dict, kind=st.just(Accept)),
    st.builds(dict, kind=st.just(Counter), materials=st.sampled_from([(), COMPLETE])),
    st.builds(dict, kind=st.just(Respond), accept=st.booleans()),
    st.builds(dict, kind=st.just(ReportAction), proof=st.sampled_from([None, "p"])),
    st.builds(
        dict,
        kind=st.just(ReportResult),
        outcome=st.sampled_from(["holder", "seller", "ended"]),
        proof=st.sampled_from([None, "p"]),
    ),
    st.builds(dict, kind=st.just(Complain), right_status=st.sampled_from(["active", "lost"])),
    st.builds(
        dict,
        kind=st.just(Decide),
        code=st.sampled_from([None, "not_infringing", "decision_stands", "x"]),
        decision=st.sampled_from(DECISIONS),
    ),
    st.builds(dict, kind=st.just(ChangeRight), status=st.sampled_from(["active", "expired", "lost", "unauthorised"])),
)
_parties = st.sampled_from(
    [("agent", "holder"), ("owner", "holder"), ("seller", "seller"), ("rev", "reviewer"), ("intake", "system")]
)
_moments = st.integers(0, 24 * 400).map(lambda hours: T + hours * HOUR)


@st.composite
def _events(draw: st.DrawFn) -> Any:
    match draw(st.integers(-1, 6)):
        case -1:
            return NoticeUnreached(**ITEM, message="m", revision=draw(st.integers(1, 12)), at=draw(_moments))
        case 0:
            return NoticeSent(
                **ITEM,
                message="m",
                kind=draw(st.sampled_from(NOTICES)),
                revision=draw(st.integers(1, 12)),
                sent_at=draw(_moments),
            )
        case 1:
            return HoldChanged(**ITEM, held=draw(st.booleans()), at=draw(_moments))
        case 2:
            return draw(st.sampled_from([listing for listing in LISTINGS if listing]))
        case _:
            fields = dict(draw(_commands))
            kind = fields.pop("kind")
            by, role = draw(_parties)
            return kind(command="k", **ITEM, by=by, role=role, accepted_at=draw(_moments), **fields)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    rules=st.sampled_from(POLICIES),
    events=st.lists(st.tuples(_events(), st.booleans()), max_size=25),
    listing=st.sampled_from(LISTINGS),
    order=st.randoms(use_true_random=False),
)
def test_repeated_and_reordered_events_never_raise(
    rules: Policy, events: list[tuple[Any, bool]], listing: Listing | None, order: Any
) -> None:
    world = World(rules, listing=listing)
    world.submit()
    doubled = [*events, *(pair for pair in events if pair[1])]
    order.shuffle(doubled)
    for event, timers in doubled:
        world.now = max(world.now, getattr(event, "accepted_at", world.now))
        before = world.item
        outcome = world.do(event)
        ended = before is not None and before.state in ENDED - {S.DUPLICATE} and before.lapse is None
        if ended and not isinstance(event, Complain):
            assert outcome.item is before, "final states stay final"
        if isinstance(event, Command) and not isinstance(event, ChangeRight):
            applied = [change for change in outcome.changes if change.data.command == "k"]
            assert len(applied) == (outcome.refused is None)
        if timers:
            world.tick()
        # the same event once more changes nothing that it has not changed
        if isinstance(event, NoticeSent | NoticeUnreached | HoldChanged):
            assert not decide(world.item, event, world.facts, rules, world.now).changes


@settings(max_examples=200)
@given(rules=st.sampled_from(POLICIES), events=st.lists(_events(), max_size=15))
def test_judging_is_a_function(rules: Policy, events: list[Any]) -> None:
    """The same history gives the same item, byte by byte, and survives storage between any two events."""
    results = []
    for stored in (False, True):
        world = World(rules)
        world.submit()
        for event in events:
            world.now = max(world.now, getattr(event, "accepted_at", world.now))
            if stored:
                world.item = msgspec.json.decode(msgspec.json.encode(world.item), type=Item)
            world.do(event)
            world.tick()
        results.append((msgspec.json.encode(world.item), [msgspec.json.encode(c.data) for c in world.changes]))
    assert results[0] == results[1]


def test_every_state_is_reached_by_the_machine_of_the_tests() -> None:
    """The helpers of the tests reach each state, so that the properties speak of all of them."""
    for state in State:
        manual = state in (S.UNDER_REVIEW, S.COUNTERED, S.REJECTED)
        assert World(policy(review="manual", counter_check="manual") if manual else IPP).to(state).state is state
