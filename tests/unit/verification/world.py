"""An item, a clock and the parties: what every test of the life cycle does with them, checked at each step."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import msgspec

from services.ops.verify.judge import Judge
from services.verification.item import ENDED, SETTLED, UPHELD
from services.verification.lifecycle import Change, Event, Facts, Item, Outcome, Reopened, decide, fire
from shared.events import (
    TYPES,
    Accept,
    AddInformation,
    ChangeRight,
    Command,
    CommandRefused,
    Complain,
    Counter,
    Decide,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    Listing,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    ReportAction,
    ReportResult,
    Respond,
    Role,
    State,
    Withdraw,
)
from shared.policy import Policy, current, load

T = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
"""A Tuesday; the next Chinese holiday is New Year's Day."""
MICRO = dt.timedelta(microseconds=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
IPP = msgspec.structs.replace(current("ipp"), triage=load("ipp-2026-11").triage, audits=None)
"""The newest, but nothing is audited, and triage upholds a claim against which nothing speaks: the table is tested."""
COMPLETE = ("identity", "statement")
VISIBLE = Listing(listing="l", seller="seller", state="visible", title_digest="d")
ITEM: dict[str, Any] = {"item": "i", "claim": "c", "listing": "l"}

_items = msgspec.json.Decoder(Item)
_changes = msgspec.json.Decoder(ItemChanged)


def policy(unreachable: str = "review", **changes: Any) -> Policy:
    """The ``ipp`` policy with other ``sellers``, ``rules`` or ``counter`` settings."""
    rules = {key: value for key, value in changes.items() if key in IPP.rules.__struct_fields__}
    counter = {key: value for key, value in changes.items() if key in IPP.counter.__struct_fields__}
    assert len(rules) + len(counter) == len(changes)
    return msgspec.structs.replace(
        IPP,
        rules=msgspec.structs.replace(IPP.rules, **rules),
        counter=msgspec.structs.replace(IPP.counter, **counter),
        sellers=msgspec.structs.replace(IPP.sellers, unreachable=unreachable),
    )


MANUAL = policy(review="manual", counter_check="manual")


class World:
    """One item. Every outcome is checked against what must hold of any outcome."""

    def __init__(self, rules: Policy = IPP, now: dt.datetime = T, listing: Listing | None = VISIBLE) -> None:
        self.policy = rules
        self.now = now
        self.listing = listing
        self.content: str | None = None
        self.original: str | None = None
        self.ours = False
        self.failed_before = 0
        self.item: Item | None = None
        self.changes: list[Change] = []
        self.last: Outcome = Outcome(None)
        self.count = 0
        self.heard: list[tuple[str, Event]] = []
        """What came in, each with an id."""
        self.log: list[tuple[dt.datetime, str | None, ItemChanged | CommandRefused]] = []
        """What was published: when, by which cause, what."""

    @property
    def got(self) -> Item:
        """The item, which there is."""
        assert self.item is not None
        return self.item

    @property
    def state(self) -> State:
        """Its state."""
        return self.got.state

    @property
    def facts(self) -> Facts:
        """What the store would say."""
        return Facts(
            self.listing, self.original, failed_before=self.failed_before, ours=self.ours, content=self.content
        )

    # ---- steps

    def do(self, event: Event) -> Outcome:
        """Judge an event now."""
        cause = None
        if not isinstance(event, Reopened):
            cause = f"e.{len(self.heard)}"
            self.heard.append((cause, event))
        return self.take(decide(self.item, event, self.facts, self.policy, self.now), cause)

    def tick(self, upto: dt.datetime | None = None) -> list[Change]:
        """Fire all that is due by then (else by now), as the worker does."""
        upto = self.now if upto is None else upto
        before = len(self.changes)
        while self.item is not None and self.item.next_due is not None and self.item.next_due <= upto:
            due = self.item.next_due
            outcome = self.take(fire(self.item, self.facts, self.policy, upto))
            assert all(change.at == due for change in outcome.changes)
            assert outcome.ignored is None
        return self.changes[before:]

    def pass_time(self, span: dt.timedelta | dt.datetime) -> list[Change]:
        """Let time go by (to a moment), and fire what falls due."""
        self.now = span if isinstance(span, dt.datetime) else self.now + span
        return self.tick()

    def take(self, outcome: Outcome, cause: str | None = None) -> Outcome:
        """Keep an outcome, and check it."""
        before = self.item
        if outcome.refused is not None:
            self.log.append((self.now, cause, outcome.refused))
        self.log += [(change.at, cause, change.data) for change in outcome.changes]
        for change in outcome.changes:
            self.check_change(before, change)
            self.changes.append(change)
        after = outcome.item
        if after is not None:
            check_item(after)
            assert _items.decode(msgspec.json.encode(after)) == after
            if outcome.changes:
                fold = max((change.data for change in self.changes), key=lambda data: data.revision)
                again = after.change(
                    previous=fold.previous,
                    via=fold.via,
                    rule=fold.rule,
                    command=fold.command,
                    by=fold.by,
                    begun_by=fold.begun_by,
                    content=fold.content,
                )
                assert again == fold
            elif self.item is not None and self.changes:
                last = self.changes[-1].data
                again = after.change(
                    previous=last.previous,
                    via=last.via,
                    rule=last.rule,
                    command=last.command,
                    by=last.by,
                    begun_by=last.begun_by,
                    content=last.content,
                )
                assert again == last, "public state changed without an event"
        if outcome.refused is not None:
            assert len(outcome.refused.detail) > 20
            assert "{" not in outcome.refused.detail
        if outcome.released:
            assert after is not None
            assert after.state in ENDED - {State.DUPLICATE}
        self.item = after
        self.last = outcome
        return outcome

    def check_change(self, before: Item | None, change: Change) -> None:
        """Revisions without gaps, one outcome of the 24 hours, previous states that join."""
        data = change.data
        assert _changes.decode(msgspec.json.encode(data)) == data
        history = [known.data for known in self.changes]
        assert data.revision == len(history) + 1
        assert data.previous == (history[-1].state if history else None)
        if history and history[-1].sla is not None:
            assert data.sla == history[-1].sla
            assert data.handled_at == history[-1].handled_at or history[-1].handled_at is None
        if change.kind not in {
            "handled",
            "window_opened",
            "stands",
            "unreached",
            "reached",
            "overdue",
            "reminded",
            "holder_response",
        }:
            assert change.kind == data.state.lower()

    # ---- events

    def submit(self, **changes: Any) -> Outcome:
        """A complete submission, but for ``changes``."""
        return self.do(self.submission(**changes))

    def submission(self, **changes: Any) -> ItemSubmitted:
        """The event of ``submit``."""
        return ItemSubmitted(
            **{
                **ITEM,
                "claim_size": 1,
                "complainant": "agent",
                "principal": "owner",
                "right": "r",
                "right_type": "trademark",
                "reason": "counterfeit",
                "profile": "ipp",
                "policy": self.policy.version,
                "identity_verified": True,
                "authority": "authorised",
                "materials": ("ownership",),
                "accepted_at": self.now,
                **changes,
            }
        )

    def command(
        self, kind: type[Command], by: str, role: Role, accepted_at: dt.datetime | None = None, **rest: Any
    ) -> Outcome:
        """A command of anybody."""
        self.count += 1
        accepted_at = self.now if accepted_at is None else accepted_at
        return self.do(kind(command=f"k{self.count}", **ITEM, by=by, role=role, accepted_at=accepted_at, **rest))

    def add_information(self, **rest: Any) -> Outcome:
        """Row 5."""
        return self.command(AddInformation, "agent", "holder", **rest)

    def withdraw(self, ground: str = "error", **rest: Any) -> Outcome:
        """Row 18."""
        return self.command(Withdraw, "owner", "holder", ground=ground, **rest)

    def accept(self, **rest: Any) -> Outcome:
        """Row 8."""
        return self.command(Accept, "seller", "seller", **rest)

    def counter(self, materials: tuple[str, ...] = COMPLETE, **rest: Any) -> Outcome:
        """Row 10."""
        return self.command(Counter, "seller", "seller", materials=materials, **rest)

    def respond(self, accept: bool, **rest: Any) -> Outcome:
        """Rows 13, 14."""
        return self.command(Respond, "agent", "holder", accept=accept, **rest)

    def action(self, proof: str | None = "p", by: str = "seller", **rest: Any) -> Outcome:
        """Row 16."""
        role: Role = "seller" if by == "seller" else "holder"
        return self.command(ReportAction, by, role, proof=proof, **rest)

    def result(self, outcome: str, proof: str | None = "p", by: str = "owner", **rest: Any) -> Outcome:
        """Row 21."""
        role: Role = "seller" if by == "seller" else "holder"
        return self.command(ReportResult, by, role, outcome=outcome, proof=proof, **rest)

    def decide(self, decision: str, code: str | None = None, **rest: Any) -> Outcome:
        """A reviewer."""
        return self.command(Decide, "rev", "reviewer", decision=decision, code=code, **rest)

    def complain(self, by: str = "agent", **rest: Any) -> Outcome:
        """Row 19."""
        role: Role = "seller" if by == "seller" else "holder"
        return self.command(Complain, by, role, **rest)

    def decide_complaint(self, decision: str, by: str = "other", code: str | None = "decision_stands") -> Outcome:
        """Row 19, by another reviewer."""
        return self.command(Decide, by, "reviewer", decision=decision, code=code)

    def right(self, status: str, **rest: Any) -> Outcome:
        """Row 22."""
        return self.command(ChangeRight, "intake", "system", status=status, **rest)

    def sent(
        self,
        kind: Literal["seller_notice", "counter_forwarded", "counter_defect", "info_request"],
        at: dt.datetime | None = None,
        revision: int | None = None,
    ) -> Outcome:
        """Notification's word for it that a notice was sent."""
        revision = self.got.revision if revision is None else revision
        sent_at = self.now if at is None else at
        return self.do(NoticeSent(**ITEM, message="m", kind=kind, revision=revision, sent_at=sent_at))

    def unreached(self, revision: int | None = None) -> Outcome:
        """Notification's word for it that nobody owns the seller's inbox."""
        revision = self.got.revision if revision is None else revision
        return self.do(NoticeUnreached(**ITEM, message="m", revision=revision, at=self.now))

    def pictures(self, match: float, content: str | None = None) -> Outcome:
        """Intake's word for what pictures show, by default those on which the item is judged."""
        content = content or self.got.content or "0" * 64
        return self.do(PicturesCompared(**ITEM, content=content, match=match, at=self.now))

    def receipt(self, held: bool = True, at: dt.datetime | None = None) -> Outcome:
        """The marketplace's receipt."""
        return self.do(HoldChanged(**ITEM, held=held, at=self.now if at is None else at))

    def listed(self, listing: Listing | None = VISIBLE) -> Outcome:
        """The marketplace says what the listing is."""
        self.listing = listing
        assert listing is not None
        return self.do(listing)

    def reopened(self) -> Outcome:
        """Row 2, back."""
        return self.do(Reopened(item="i", original="o"))

    # ---- ways there

    def knows(self, listing: Listing | None) -> World:
        """Let the store know this of the listing."""
        self.listing = listing
        return self

    def finds(self, original: str | None) -> World:
        """Let the store find this original."""
        self.original = original
        return self

    def to(self, state: State) -> World:
        """Bring a fresh item there by the usual way, with all notices and receipts."""
        S = State  # noqa: N806
        steps: dict[State, Any] = {
            S.RECEIVED: lambda: (self.knows(None), self.submit()),
            S.DUPLICATE: lambda: (self.finds("o"), self.submit(), self.finds(None)),
            S.LINK_INVALID: lambda: self.submit(on_site=False),
            S.NEEDS_INFO: lambda: (self.submit(materials=()), self.sent("info_request")),
            S.LAPSED: lambda: (self.to(S.NEEDS_INFO), self.pass_time(5 * DAY)),
            S.UNDER_REVIEW: self.submit,
            S.REJECTED: lambda: (self.to(S.UNDER_REVIEW), self.decide("refuse", "not_infringing")),
            S.NOTIFIED: lambda: (
                self.submit(),
                self.decide("uphold") if self.state is S.UNDER_REVIEW else None,
                self.receipt(),
                self.sent("seller_notice"),
            ),
            S.UPHELD: lambda: (self.to(S.NOTIFIED), self.accept()),
            S.UPHELD_BY_DEFAULT: lambda: (self.to(S.NOTIFIED), self.pass_time(3 * DAY + MICRO)),
            S.COUNTERED: lambda: (self.to(S.NOTIFIED), self.counter()),
            S.HOLDER_RESPONSE: lambda: (
                self.to(S.NOTIFIED),
                self.counter(),
                self.decide("complete") if self.state is S.COUNTERED else None,
                self.sent("counter_forwarded"),
            ),
            S.PLATFORM_REVIEW: lambda: (self.to(S.HOLDER_RESPONSE), self.respond(False)),
            S.UPHELD_AFTER_COUNTER: lambda: (self.to(S.PLATFORM_REVIEW), self.decide("uphold")),
            S.RESTORED: lambda: (self.to(S.HOLDER_RESPONSE), self.respond(True)),
            S.LITIGATION: lambda: (self.to(S.NOTIFIED), self.action()),
            S.WITHDRAWN: lambda: (self.to(S.NOTIFIED), self.withdraw()),
            S.SUSPENDED: lambda: (self.to(S.NOTIFIED), self.right("expired")),
            S.APPEALED: lambda: (self.to(S.UPHELD), self.complain("seller")),
        }
        steps[state]()
        assert self.state is state, self.state
        return self


def judged(world: World, upto: dt.datetime | None = None, blocked: tuple[str, ...] = ()) -> list[str]:
    """What `goodfaith verify` finds in the item's history, as far as it judges that (``services.ops.verify.judge``)."""
    found: list[str] = []
    judge = Judge(lambda category, kind, example: found.append(f"{kind}: {example}"), lambda _: world.policy)
    names = {kind: name for name, kind in TYPES.items()}
    rows = [
        (id_, names[type(event)], msgspec.json.encode({"data": event}).decode())
        for id_, event in world.heard
        if type(event) in names
    ]
    judge.learn(rows, {cause for _, cause, _ in world.log if cause is not None})
    for at, cause, data in world.log:
        if isinstance(data, ItemChanged):
            judge.changed(at, cause, data)
        else:
            judge.refused(at, cause, data)
    judge.end(upto, blocked)
    item = world.got
    kept = {timer.kind: timer.due for timer in item.timers if timer.kind != "lookup"}
    if judge.timers(item.item) not in (kept, None):
        found.append("timers-differ")
    return found


def check_item(item: Item) -> None:
    """What must hold of an item in any state."""
    kinds = [timer.kind for timer in item.timers]
    assert len(set(kinds)) == len(kinds)
    assert [timer.due for timer in item.timers] == sorted(timer.due for timer in item.timers)
    own = set(kinds) - {"sla"}
    waits = bool(item.awaits)
    match item.state:
        case State.RECEIVED:
            assert own == {"lookup", "lookup_give_up"}
        case State.NEEDS_INFO:
            assert own == {"needs_info"} or (waits and not own)
        case State.NOTIFIED:
            assert own == {"window"} or (waits and not own) or (item.upheld and not own)
        case State.HOLDER_RESPONSE:
            assert own - {"restore_by"} == {"holder_response"} or (waits and not own - {"restore_by"})
        case State.UNDER_REVIEW:
            assert not own  # the reviewer's turn; the 24 hours watch over it
        case State.COUNTERED:
            assert own == {"counter_check"}
        case State.PLATFORM_REVIEW:
            assert own in ({"platform_review"}, {"platform_grace"})
        case State.LITIGATION:
            assert own == {"reminder"}
        case State.APPEALED:
            assert own == {"appeal_review"}
        case State.SUSPENDED:
            assert own == {"suspended"}
        case _:
            assert item.state in SETTLED
            assert not own
    if item.state in UPHELD:
        assert item.held
        assert item.upheld
    if item.state in ENDED:
        assert not item.held
        assert not item.upheld or (item.state is State.WITHDRAWN and item.code == "settled")
        assert not item.timers
        assert not item.stack
    if item.upheld and item.state not in ENDED:
        assert item.held
    if item.state in (State.COUNTERED, State.LITIGATION, State.SUSPENDED, State.APPEALED):
        assert item.stack
    # exactly one outcome of the 24 hours: reached, or still to come, or no target is left
    running = "sla" in kinds or item.paused_at is not None
    if item.state in ENDED:
        assert item.sla is not None or item.handled_at is None
        assert not running
    else:
        assert (item.sla is None) == running
    if item.handled_at is not None:
        assert item.sla is not None
