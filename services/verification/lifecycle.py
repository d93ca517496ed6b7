"""The life cycle of a claim item: a table of transitions, and the engine that applies it.

Pure: no I/O, no clock, no randomness. ``decide`` judges an event and ``fire`` a timer; both return an ``Outcome`` and
never raise on an event that is stale, repeated or out of order. ``TABLE`` has the rows of docs/explanation/domain.md,
"The life cycle of a claim item", by number. docs/reference/lifecycle.md is generated from it
(``python -m services.verification.lifecycle``).

Time of right: a command is judged as of ``min(accepted_at, now)``. Timers due before that fire first, each effective
at its due time. A command accepted by the due time of a timer that has already fired is judged on the state before
that timer (``Item.lapse``). So neither the order of processing nor an outage of ours decides who was in time.

The table and its engine are one module, although it has more than 600 lines: neither can be understood alone. Guards and
effects are in ``rules``.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from services.verification.draft import AGAINST, Draft
from services.verification.item import (
    ENDED,
    OPEN,
    UPHELD,
    Change,
    Facts,
    Frame,
    Item,
    Lapse,
    Outcome,
    Reopened,
    Timer,
)
from services.verification.refusals import detail
from services.verification.rules import complaints, counters, decisions, interruptions, notices, review
from shared.events import (
    COMMANDS,
    DECISIONS,
    Accept,
    AddInformation,
    ChangeRight,
    Command,
    CommandRefused,
    Complain,
    Counter,
    Decide,
    HoldChanged,
    Id,
    ItemSubmitted,
    Listing,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Withdraw,
)
from shared.policy import Policy

__all__ = ["TABLE", "Change", "Facts", "Frame", "Item", "Outcome", "Reopened", "Row", "Timer", "decide", "fire"]

Event = ItemSubmitted | Command | NoticeSent | NoticeUnreached | HoldChanged | PicturesCompared | Listing | Reopened

BACK: Final = "the state before"
STAY: Final = "(the same)"
AGAIN: Final = "(judged again)"
"""Target: the same state, which the rules judge again."""
AUTO: Final = "by rule"
"""Trigger: the item has just entered the state."""

Trigger = type[Any] | str


class Row(Struct, frozen=True, kw_only=True):
    """A transition. The first row in the table that fits state, trigger and guard applies.

    Attributes:
        number: row of domain.md's table.
        by: sides of the item that may send the command.
        when: guard.
        before, do: effects before the state is left, and after the new one is entered.
        keeps: whether the item may return to the state it leaves, and whether that state's timers run on or stop.
        emit: kind of the published event; None: named after the new state; "": nothing is published.
    """

    number: int
    name: str
    states: tuple[State, ...]
    on: Trigger
    to: State | Literal["the state before", "(the same)", "(judged again)"]
    by: tuple[str, ...] = ()
    when: Callable[[Draft], bool] | None = None
    before: Callable[[Draft], None] | None = None
    do: Callable[[Draft], None] | None = None
    keeps: Literal["", "running", "stopped"] = ""
    emit: str | None = None
    note: str = ""

    @property
    def rule(self) -> str:
        """The published name, such as ``7-upheld-prima-facie``."""
        return f"{self.number}-{self.name}"


def _row(
    number: int,
    name: str,
    states: State | Iterable[State],
    on: Trigger,
    to: State | Literal["the state before", "(the same)", "(judged again)"],
    note: str = "",
    **rest: Any,
) -> Row:
    found = (states,) if isinstance(states, State) else tuple(state for state in State if state in set(states))
    return Row(number=number, name=name, states=found, on=on, to=to, note=note, **rest)


S = State
HOLDER: Final = ("holder",)
SELLER: Final = ("seller",)
EITHER: Final = ("holder", "seller")
REVIEWER: Final = ("reviewer",)
SYSTEM: Final = ("system",)
COUNTERABLE: Final = {S.NOTIFIED} | UPHELD
SUSPENDABLE: Final = OPEN - {S.SUSPENDED}
AFTER_NOTICE: Final = (OPEN | UPHELD) - {S.RECEIVED, S.NEEDS_INFO, S.UNDER_REVIEW, S.NOTIFIED}
IN_COURT_FROM: Final = (OPEN | UPHELD) - {S.LITIGATION}

# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    # --- row 22 comes first of the automatic rows: an item may return from court to an open state without a right
    _row(22, "right-ended", SUSPENDABLE - {S.LITIGATION}, AUTO, S.SUSPENDED, "the right ended while the item was in court",
         when=interruptions.right_has_ended, do=interruptions.suspend, keeps="stopped"),

    # --- receipt and admission
    _row(20, "recurrence", (), ItemSubmitted, S.RECEIVED, "filed by the system: a near copy of an upheld item's listing; linked to that",
         when=review.recurs),
    _row(1, "submitted", (), ItemSubmitted, S.RECEIVED, "snapshot of the listing once it is known"),
    _row(1, "listing-known", S.RECEIVED, Listing, AGAIN, "the look-up's answer"),
    _row(1, "listing-asked", S.RECEIVED, "lookup", STAY, "ask again after `lookup_retry`",
         do=lambda d: d.start("lookup", d.after(d.policy.timers.lookup_retry)), emit=""),
    _row(2, "duplicate", (S.RECEIVED, S.NEEDS_INFO), AUTO, S.DUPLICATE, "same listing, right and reason is open or upheld",
         when=review.has_original, do=review.link_original),
    _row(2, "reopened", S.DUPLICATE, Reopened, S.RECEIVED, "the original ended without a takedown", do=review.reopen),
    _row(3, "link-invalid", (S.RECEIVED, S.NEEDS_INFO), AUTO, S.LINK_INVALID,
         "not of this site, or gone for another reason than our hold", when=review.link_gone),
    _row(3, "link-invalid", S.UNDER_REVIEW, Listing, S.LINK_INVALID, "the look-up's answer, after it was given up",
         when=review.flagged_and_gone),
    _row(4, "elements-missing", S.RECEIVED, AUTO, S.NEEDS_INFO, "`needs_info` from when the request was sent",
         when=review.elements_missing, do=review.ask),
    _row(4, "information-added", S.NEEDS_INFO, AddInformation, AGAIN, "what is still missing",
         by=HOLDER, do=review.add_information, emit="needs_info"),
    _row(4, "right-in-force", S.NEEDS_INFO, ChangeRight, AGAIN, "what is still missing",
         by=SYSTEM, when=interruptions.right_returns, do=interruptions.right_back, emit="needs_info"),
    _row(4, "window-opened", S.NEEDS_INFO, NoticeSent, STAY, when=notices.awaited, do=notices.open_window, emit="window_opened"),
    _row(4, "lapsed", S.NEEDS_INFO, "needs_info", S.LAPSED),
    _row(5, "complete", (S.RECEIVED, S.NEEDS_INFO), AUTO, S.UNDER_REVIEW, "24 hours from receipt (`review_sla`), less pauses",
         when=review.elements_complete, do=review.put_to_review),
    _row(5, "listing-not-found", S.RECEIVED, "lookup_give_up", AGAIN, "then a person decides, not the rule", do=review.flag),
    _row(5, "overdue", frozenset(S) - ENDED, "sla", STAY, "escalated, stays open, missed", do=review.miss, emit="overdue"),

    # --- review
    _row(6, "refused-by-rule", S.UNDER_REVIEW, AUTO, S.REJECTED, "no such reason, or not for this kind of right",
         when=review.misfit, do=review.refuse_misfit),
    _row(6, "own-listing", S.UNDER_REVIEW, AUTO, S.REJECTED, "the seller is the complainant or its principal",
         when=review.own_listing, do=review.refuse_own),
    _row(6, "plainly-unfounded", S.UNDER_REVIEW, AUTO, S.REJECTED, "`review` = triage: at `triage.refuse_at` or below",
         when=review.plainly_unfounded, do=review.refuse_unfounded),
    _row(6, "refused", S.UNDER_REVIEW, Decide, S.REJECTED, "reason code and how to cure",
         by=REVIEWER, when=decisions.decides("refuse"), do=review.refuse),
    _row(7, "upheld-prima-facie", S.UNDER_REVIEW, AUTO, S.NOTIFIED, "`review` = prima_facie, or triage at `triage.uphold_at` or above, on the evidence that `triage.needs`, and no `brake`, nor a listing of another seller than the claim names; hold if `removal` = on_notice",
         when=review.prima_facie, do=review.notify),
    _row(7, "upheld-by-reviewer", S.UNDER_REVIEW, Decide, S.NOTIFIED, "hold if `removal` = on_notice",
         by=REVIEWER, when=decisions.decides("uphold"), do=review.notify),
    _row(7, "pictures-suffice", S.UNDER_REVIEW, PicturesCompared, S.UNDER_REVIEW, "`review` = triage: weighed again, as the right's pictures are in the listing's and nothing else was lacking",
         before=review.note_pictures, when=review.pictures_suffice),
    _row(7, "pictures-noted", (S.RECEIVED, S.NEEDS_INFO, S.UNDER_REVIEW, S.LITIGATION, S.SUSPENDED), PicturesCompared, STAY, "for when it is weighed next",
         before=review.note_pictures, when=review.pictures_noted, emit=""),
    _row(9, "stands", S.NOTIFIED, NoticeSent, STAY, "`seller_silent` = nothing: no window; a counter is never late",
         when=notices.stands, do=notices.stand, emit="stands"),
    _row(7, "window-opened", S.NOTIFIED, NoticeSent, STAY, "the seller's `window` begins",
         when=notices.seller_notice_awaited, do=notices.open_window, emit="window_opened"),
    _row(7, "handled", frozenset(S) - ENDED, HoldChanged, STAY, "the marketplace's receipt for the hold",
         when=review.receipt_awaited, do=review.receipted, emit="handled"),
    _row(8, "accepted", S.NOTIFIED, Accept, S.UPHELD, by=SELLER),
    _row(9, "window-ended", S.NOTIFIED, "window", S.UPHELD_BY_DEFAULT),
    _row(9, "unreached", S.NOTIFIED, NoticeUnreached, AGAIN, "nobody owns the seller's inbox: no window begins until it is reached; after a counter it counts as NoticeSent",
         when=notices.unreached, do=notices.note_unreached, emit="unreached"),
    _row(9, "unreached", (S.LITIGATION, S.SUSPENDED), NoticeUnreached, STAY, "noted, for the item's return",
         when=notices.unreached_before, do=notices.note_unreached, emit="unreached"),
    _row(9, "put-to-person", S.NOTIFIED, AUTO, S.APPEALED, "not reached, and `sellers.unreachable` = review: a person looks at the takedown",
         when=notices.person_decides, do=notices.put_to_person, keeps="stopped"),
    _row(9, "reached", S.APPEALED, NoticeSent, BACK, "read by the seller, or the seller acts: its `window` begins",
         when=notices.reached, do=notices.begin_after_all),
    _row(9, "reached", S.APPEALED, AUTO, BACK, "it was reached while the item was in court, or suspended",
         when=notices.reached_meanwhile),
    _row(9, "upheld-unreached", S.APPEALED, Decide, S.UPHELD_BY_DEFAULT, "confirmed by a person; a counter is not late before the seller is reached",
         by=REVIEWER, when=complaints.confirms_unreached, do=complaints.give_reason),

    # --- counter-notification
    _row(10, "countered", COUNTERABLE, Counter, S.COUNTERED,
         "while rounds remain; in time, or late once within `late_counter` of the notice",
         by=SELLER, before=counters.count_round, do=counters.check_counter, keeps="running"),
    _row(11, "counter-incomplete", S.COUNTERED, AUTO, BACK, "`counter_check` = rule",
         when=counters.counter_incomplete, do=counters.send_back),
    _row(11, "counter-incomplete", S.COUNTERED, Decide, BACK, "may refile, at least `refile` from the notice of the defect",
         by=REVIEWER, when=decisions.decides("incomplete"), do=counters.send_back),
    _row(11, "counter-overdue", S.COUNTERED, "counter_check", BACK, "`overdue_counter_check` = incomplete",
         when=counters.overdue_incomplete, do=counters.send_back),
    _row(11, "window-opened", COUNTERABLE, NoticeSent, STAY, "the time to refile begins",
         when=notices.awaited, do=notices.open_window, emit="window_opened"),
    _row(12, "counter-complete", S.COUNTERED, AUTO, S.HOLDER_RESPONSE, "`counter_check` = rule",
         when=counters.checked_by_rule, do=counters.forward),
    _row(12, "counter-complete", S.COUNTERED, Decide, S.HOLDER_RESPONSE, "contact data of both exchanged",
         by=REVIEWER, when=decisions.decides("complete"), do=counters.forward),
    _row(12, "counter-overdue", S.COUNTERED, "counter_check", S.HOLDER_RESPONSE, "taken as complete after `counter_check`",
         do=counters.forward),
    _row(12, "window-opened", S.HOLDER_RESPONSE, NoticeSent, STAY, "`holder_response` begins",
         when=notices.awaited, do=notices.open_window, emit="window_opened"),
    _row(13, "holder-accepted", S.HOLDER_RESPONSE, Respond, S.RESTORED, "penalties reversed", by=HOLDER, when=counters.accepts),
    _row(14, "holder-rejected", S.HOLDER_RESPONSE, Respond, S.PLATFORM_REVIEW, "`holder_rejects` = platform_review",
         by=HOLDER, when=counters.rejects_to_platform, do=counters.platform_review),
    _row(14, "holder-rejected", S.HOLDER_RESPONSE, Respond, STAY, "`holder_rejects` = no_effect: only a filed action stops it",
         by=HOLDER, when=counters.rejects_in_vain, do=counters.holder_rejected, emit="holder_response"),
    _row(15, "holder-silent", S.HOLDER_RESPONSE, "holder_response", S.PLATFORM_REVIEW, "`holder_silent` = platform_review",
         when=counters.silent_to_platform, do=counters.platform_review),
    _row(15, "holder-silent", S.HOLDER_RESPONSE, "holder_response", S.RESTORED, "`holder_silent` = restore"),
    _row(15, "restored-by", S.HOLDER_RESPONSE, "restore_by", S.RESTORED, "`restore_by` from the counter, at the latest"),
    _row(17, "restored", S.PLATFORM_REVIEW, Decide, S.RESTORED, "penalties reversed",
         by=REVIEWER, when=decisions.decides("restore")),
    _row(17, "upheld", S.PLATFORM_REVIEW, Decide, S.UPHELD_AFTER_COUNTER, "a further counter within `round_window`",
         by=REVIEWER, when=decisions.decides("uphold"), do=counters.open_round),
    _row(17, "overdue", S.PLATFORM_REVIEW, "platform_review", STAY, "escalated after `platform_review`",
         do=counters.escalate, emit="overdue"),
    _row(17, "overdue-restored", S.PLATFORM_REVIEW, "platform_grace", S.RESTORED, "`overdue_decision` = restore",
         when=counters.overdue_restores),
    _row(17, "overdue-upheld", S.PLATFORM_REVIEW, "platform_grace", S.UPHELD_AFTER_COUNTER, "`overdue_decision` = uphold",
         do=counters.open_round),

    # --- complaints
    _row(19, "appealed", AGAINST, Complain, S.APPEALED, "by the side that it went against, within `appeals.within` of it",
         by=EITHER, do=complaints.complain, keeps="stopped"),
    _row(19, "audited", (S.UPHELD_BY_DEFAULT, S.UPHELD_AFTER_COUNTER, S.RESTORED), AUTO, S.APPEALED,
         "by the platform itself: the share that `audits` (or `audited_share`) has of what a silence brought about",
         when=complaints.audited, do=complaints.audit, keeps="stopped"),
    _row(2, "reopened", S.APPEALED, Decide, S.RECEIVED, "confirmed, but the original has ended without a takedown meanwhile",
         by=REVIEWER, when=complaints.confirms_without_original, do=complaints.reopen_appealed),
    _row(19, "confirmed", S.APPEALED, Decide, BACK, "by a reviewer who has not decided before, with reasons",
         by=REVIEWER, when=complaints.confirms, do=complaints.give_reason),
    _row(19, "reversed", S.APPEALED, Decide, S.UNDER_REVIEW, "never a takedown without notice and a window",
         by=REVIEWER, when=complaints.reverses_unheard, do=complaints.review_again),
    _row(19, "reversed", S.APPEALED, Decide, S.RESTORED, "penalties reversed",
         by=REVIEWER, when=complaints.reverses_takedown, do=complaints.give_reason),
    _row(19, "reversed", S.APPEALED, Decide, S.UPHELD_AFTER_COUNTER, "a further counter within `round_window`",
         by=REVIEWER, when=complaints.reverses_restoration, do=complaints.take_down_again),
    _row(19, "overdue", S.APPEALED, "appeal_review", STAY, "escalated after `appeals.review`, and again",
         do=complaints.appeal_review, emit="overdue"),

    # --- from any state
    _row(16, "action-filed", IN_COURT_FROM - {S.SUSPENDED}, ReportAction, S.LITIGATION, "with proof; timers stand still",
         by=EITHER, do=interruptions.remind, keeps="stopped"),
    _row(16, "action-filed", S.SUSPENDED, ReportAction, S.LITIGATION, "unless the suspended item is in court already",
         by=EITHER, do=interruptions.remind),
    _row(16, "reminded", S.LITIGATION, "reminder", STAY, "every `litigation_reminder`", do=interruptions.remind, emit="reminded"),
    _row(18, "withdrawn", OPEN | UPHELD, Withdraw, S.WITHDRAWN, "restore; penalties reversed unless settled",
         by=HOLDER, do=interruptions.withdraw),
    _row(21, "for-the-holder", S.LITIGATION, ReportResult, S.UPHELD_AFTER_COUNTER, "with proof",
         by=EITHER, when=interruptions.result_is("holder"), do=counters.open_round),
    _row(21, "for-the-seller", S.LITIGATION, ReportResult, S.RESTORED, "with proof", by=EITHER, when=interruptions.result_is("seller")),
    _row(21, "ended", S.LITIGATION, ReportResult, BACK, "with proof; timers go on",
         by=EITHER, when=interruptions.result_is("ended")),
    _row(22, "right-ended", SUSPENDABLE, ChangeRight, S.SUSPENDED, "keeps the state, stops the timers",
         by=SYSTEM, when=interruptions.right_ends, do=interruptions.suspend, keeps="stopped"),
    _row(22, "right-back", S.SUSPENDED, ChangeRight, BACK, "the right is back; timers go on",
         by=SYSTEM, when=interruptions.right_returns, do=interruptions.right_back),
    _row(22, "right-back", S.LITIGATION, ChangeRight, STAY, "noted, for the item's return",
         by=SYSTEM, when=interruptions.right_is_back, do=interruptions.right_back, emit=""),
    _row(22, "withdrawn", S.SUSPENDED, "suspended", S.WITHDRAWN, "after `suspended`; penalties reversed",
         do=interruptions.withdraw_ended),

    # --- notices for a state that the item has left, for a while or for good: only that it was reached is published
    _row(9, "reached", (S.LITIGATION, S.SUSPENDED), NoticeSent, STAY, "its window waits for the return",
         when=notices.reached_before, do=notices.open_window_before, emit="reached"),
    _row(9, "reached", AFTER_NOTICE, NoticeSent, STAY, "a person has confirmed the takedown: a counter may be late from now on",
         when=notices.reached_late, do=notices.note_late, emit="reached"),
    _row(7, "notice-noted", (S.COUNTERED, S.LITIGATION, S.SUSPENDED), NoticeSent, STAY, "its window waits for the return",
         when=notices.awaited_before, do=notices.open_window_before, emit=""),
    _row(7, "notice-noted", AFTER_NOTICE, NoticeSent, STAY,
         "the date of the seller's notice", when=notices.first_notice, do=notices.note_late, emit=""),
)
# fmt: on

CHECKS: Final[dict[type[Command], Callable[[Draft], str | None]]] = {
    Complain: complaints.complaint_refusal,
    Counter: counters.counter_refusal,
    Decide: decisions.decision_refusal,
    ReportAction: interruptions.action_refusal,
    ReportResult: interruptions.proof_refusal,
    Respond: counters.respond_refusal,
}
"""By command: the code with which it is refused although the state takes it; None if it is not refused."""

SIDES: Final[dict[Any, tuple[str, ...]]] = {row.on: row.by for row in TABLE if row.by}
NAMES: Final = {kind: name for name, kind in COMMANDS.items()}
LAPSING: Final = frozenset(
    {"needs_info", "window", "counter_check", "holder_response", "restore_by", "platform_grace", "suspended"}
)
"""Timers that end somebody's chance to act."""
EVENT_KINDS: Final = {state: state.lower() for state in State}
RULES: Final = {id(row): row.rule for row in TABLE}


def _index() -> dict[tuple[State | None, Trigger], tuple[Row, ...]]:
    index: dict[tuple[State | None, Trigger], tuple[Row, ...]] = {}
    for row in TABLE:
        for state in row.states or (None,):
            index[state, row.on] = (*index.get((state, row.on), ()), row)
    return index


INDEX: Final = _index()
NO_ROWS: Final[tuple[Row, ...]] = ()


# ----------------------------------------------------------------------------------------------------------- the engine


def decide(item: Item | None, event: Event, facts: Facts, policy: Policy, now: dt.datetime) -> Outcome:
    """Judge an event.

    Args:
        facts: used for ``ItemSubmitted``, ``Listing``, ``Reopened``, and for commands after which rules judge the item.
        policy: the one under which the item was filed.
        now: business time of processing.
    """
    if isinstance(event, Command):
        return _command(item, event, facts, policy, now)
    if isinstance(event, ItemSubmitted):
        if item is not None:
            return Outcome(item, ignored="the item is known")
        new = _filed(event, policy)
        # an accepted_at in the future is a clock error and gives nobody an advantage
        first = _run(Draft(new, event, facts, policy, max(now, new.received_at)), (None, ItemSubmitted), None)
        assert first is not None
        return first
    if item is None:
        return Outcome(None, ignored="there is no such item")
    if isinstance(event, NoticeUnreached) and item.counter_at is not None:
        event = _reached(item, event.message, event.revision, event.at)  # it has countered meanwhile, so it knows
    outcome = _run(Draft(item, event, facts, policy, now), (item.state, type(event)), item.state)
    return outcome or Outcome(item, ignored=f"{type(event).__name__} means nothing to an item in {item.state}")


def fire(item: Item, facts: Facts, policy: Policy, upto: dt.datetime) -> Outcome:
    """Fire the item's earliest timer, if it is due by ``upto`` (the watermark), effective at its due time.

    Call again while ``next_due <= upto``: timers that this one starts count from its due time.
    """
    if not item.timers or item.timers[0].due > upto:
        return Outcome(item, ignored="no timer is due")
    timer = item.timers[0]
    draft = Draft(item, timer, facts, policy, timer.due)
    lapse = None
    if timer.kind in LAPSING:
        lapse = Lapse(timer.due, draft.frame(stopped=False), item.stack, item.counter_round, item.refiles)
    draft.timers = tuple([other for other in draft.timers if other.kind != timer.kind])
    outcome = _run(draft, (item.state, timer.kind), item.state, lapse)
    assert outcome is not None, f"no row for timer {timer.kind} in {item.state}"
    return outcome


def _filed(event: ItemSubmitted, policy: Policy) -> Item:
    reason = policy.reasons.get(event.reason)
    return Item(
        item=event.item,
        claim=event.claim,
        claim_size=event.claim_size,
        listing=event.listing,
        on_site=event.on_site,
        complainant=event.complainant,
        principal=event.principal,
        right=event.right,
        right_type=event.right_type,
        right_registered=event.right_registered,
        reason=event.reason,
        severity="general" if reason is None else reason.severity,
        profile=event.profile,
        policy=event.policy,
        lane=event.lane,
        abroad=event.abroad,
        canary=event.canary,
        brake=event.brake,
        sellers=event.sellers,
        mark=event.mark,
        record=event.record,
        recurs=event.recurs,
        good_faith=event.good_faith,
        received_at=event.accepted_at,
        identity_verified=event.identity_verified,
        authority=event.authority,
        right_status=event.right_status,
        materials=event.materials,
        sla_due=event.accepted_at + policy.timers.review_sla.exact,
    )


def _run(
    d: Draft, trigger: tuple[State | None, Trigger], previous: State | None, lapse: Lapse | None = None
) -> Outcome | None:
    """Apply the first row that fits, then the automatic rows; None if nothing came of it."""
    row = _apply(d, trigger)
    if row is None:
        return None
    if row.on is Decide:
        decisions.note_decider(d)
    last, published = row, row.emit
    if row.to is not STAY:
        while (then := _apply(d, (d.state, AUTO))) is not None:
            last = then
        d.lapse = lapse if d.path else d.lapse
    if not d.path and row.to is AGAIN and published is None:
        return None  # judged again, without effect
    kind = EVENT_KINDS[d.state] if d.path or published is None else published
    item = d.finish(published=bool(kind))
    if not kind:
        return Outcome(item, lookup=d.lookup or row.on == "lookup")
    event = d.event
    command = event if isinstance(event, Command) else None
    data = item.change(
        previous=previous,
        via=tuple(d.path[:-1]),
        rule=RULES[id(last)],
        command=None if command is None else command.command,
        by="system" if command is None else command.role,
        begun_by=event.begun_by if isinstance(event, NoticeSent) and event.begun_by != "sent" else None,
        content=None if item.content == d.item.content else item.content,
    )
    released = bool(d.path) and d.state in ENDED and d.state is not State.DUPLICATE
    return Outcome(item, (Change(kind, d.at, data),), lookup=d.lookup, released=released)


def _apply(d: Draft, trigger: tuple[State | None, Trigger]) -> Row | None:
    """Apply the first row that fits and return it."""
    for row in INDEX.get(trigger, NO_ROWS):
        if row.before is not None:
            row.before(d)
        if row.when is not None and not row.when(d):
            continue
        to = row.to
        if isinstance(to, State):
            frame = d.frame(stopped=row.keeps == "stopped") if row.keeps else None
            d.enter(to)
            if frame is not None:
                d.stack = (*d.stack, frame)
        elif to is BACK:
            d.back()
        if row.do is not None:
            row.do(d)
        return row
    return None


# ------------------------------------------------------------------------------------------------------------- commands


def _command(item: Item | None, command: Command, facts: Facts, policy: Policy, now: dt.datetime) -> Outcome:
    if item is None:
        return Outcome(None, refused=_refusal(command, "unknown_item", policy))
    sides = SIDES[type(command)]
    if not any(decisions.is_party(item, command, side) for side in sides):
        return Outcome(
            item, refused=_refusal(command, "not_a_party", policy, party=" or ".join(PARTIES[side] for side in sides))
        )
    when = min(command.accepted_at, now)

    changes: tuple[Change, ...] = ()
    lookup = released = False
    # timers due before the command was accepted fire first
    while item.timers and item.timers[0].due < when:
        fired = fire(item, facts, policy, when)
        assert fired.item is not None
        item = fired.item
        changes += fired.changes
        lookup, released = lookup or fired.lookup, fired.released
    if item.unreached and command.role == "seller":
        # whoever acts has been reached, even if it has not read the notice
        until = (frame.until for frame in reversed(item.stack) if "seller_notice" in frame.awaits)
        heard = decide(item, _reached(item, command.command, next(until, item.revision), when), facts, policy, now)
        assert heard.item is not None
        item = heard.item
        changes += heard.changes

    outcome = _judge(item, item, command, facts, policy, now, when)
    if item.lapse is not None and when <= item.lapse.due:
        # accepted in time for a deadline that has since passed: judge it on the state that the timer ended
        undone = _judge(_undo(item, item.lapse), item, command, facts, policy, now, when)
        if undone.refused is None and undone.ignored is None:
            outcome = undone
    if not changes:
        return outcome
    moved = outcome.changes != ()
    return Outcome(
        outcome.item,
        changes + outcome.changes,
        outcome.refused,
        lookup or outcome.lookup,
        outcome.released if moved else released,
        outcome.ignored,
    )


def _reached(item: Item, message: Id, revision: int, at: dt.datetime) -> NoticeSent:
    """The notice that lies in the seller's inbox, as if it were read at that time: the seller acts, so it knows."""
    return NoticeSent(
        item=item.item,
        claim=item.claim,
        listing=item.listing,
        message=message,
        kind="seller_notice",
        revision=revision,
        sent_at=at,
        begins_at=at,
        begun_by="read",
    )


def _judge(
    item: Item, stored: Item, command: Command, facts: Facts, policy: Policy, now: dt.datetime, when: dt.datetime
) -> Outcome:
    """Judge the command on ``item``: ``stored``, or ``stored`` as it was before its last timer."""
    kind = type(command)
    draft = Draft(item, command, facts, policy, now, when)
    if item is not stored:
        draft.path.append(item.state)
    check = CHECKS.get(kind)
    if (item.state, kind) in INDEX or (kind is ReportAction and item.state is State.LITIGATION):
        code = None if check is None else check(draft)
        if code is not None:
            return Outcome(stored, refused=_refusal(command, code, policy, item))
        outcome = _run(draft, (item.state, kind), stored.state)
        if outcome is not None:
            return outcome
    if kind is ChangeRight:
        return Outcome(stored, ignored=f"the right's change means nothing to an item in {item.state}")
    if item.lapse is not None and (item.lapse.frame.state, kind) in INDEX:
        return Outcome(stored, refused=_refusal(command, "too_late", policy, item))
    return Outcome(stored, refused=_refusal(command, "ended" if item.state in ENDED else "not_now", policy, item))


def _undo(item: Item, lapse: Lapse) -> Item:
    """The item as it was before its last timer; fields that do not belong to the state stay."""
    frame = lapse.frame
    return msgspec.structs.replace(
        item,
        state=frame.state,
        visit=frame.visit,
        entered=frame.entered,
        awaits=frame.awaits,
        timers=tuple(sorted((*frame.timers, *[timer for timer in item.timers if timer.kind == "sla"]), key=_due)),
        held=frame.held,
        upheld=frame.upheld,
        counter_due=frame.counter_due,
        code=frame.code,
        missing=frame.missing,
        stack=lapse.stack,
        counter_round=lapse.counter_round,
        refiles=lapse.refiles,
        audit=None if item.audit is not None and item.audit.found is None else item.audit,
        lapse=None,
    )


def _due(timer: Timer) -> dt.datetime:
    return timer.due


PARTIES: Final = {
    "holder": "the complainant or the right holder",
    "seller": "the seller of the listing",
    "reviewer": "a reviewer",
    "system": "the system",
}


def _refusal(command: Command, code: str, policy: Policy, item: Item | None = None, **values: object) -> CommandRefused:
    if item is not None:
        values |= {
            "state": item.state,
            "takes": ", ".join(sorted(NAMES[kind] for state, kind in INDEX if state is item.state and kind in NAMES)),
            "due": item.lapse.due.isoformat() if item.lapse else "",
            "counter_due": item.counter_due.isoformat() if item.counter_due else "",
            "decisions": ", ".join(DECISIONS.get(item.state, ("none",))),
        }
    return CommandRefused(
        command=command.command,
        item=command.item,
        claim=command.claim,
        listing=command.listing,
        code=code,
        detail=detail(code, policy, **values),
    )


# ------------------------------------------------------------------------------------------------------- documentation


def markdown() -> str:
    """The text of docs/reference/lifecycle.md."""
    lines = [
        "# The life cycle of a claim item",
        "",
        "Written from `services/verification/lifecycle.py` by `python -m services.verification.lifecycle`; do not edit.",
        "Rows have the numbers of domain.md's table. Where several rows fit, the first applies. Names in `code` are",
        "settings of the policy (`shared/policies/`).",
        "",
        "| rule | from | event (by) | to | what it says | published |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(TABLE, key=lambda row: row.number):
        by = f" ({', '.join(row.by)})" if row.by else ""
        emit = EVENT_KINDS[row.to] if isinstance(row.to, State) else row.emit
        published = "-" if emit == "" else f"`{emit}`" if emit else "the state"
        lines.append(
            f"| `{row.rule}` | {_states(row.states)} | {_trigger(row.on)}{by} | {row.to} | {row.note} | {published} |"
        )
    lines += ["", "## States", "", "| state | exits by | |", "|---|---|---|"]
    for state in State:
        exits = sorted(
            {row.number for row in TABLE if state in row.states and row.to not in (STAY, AGAIN) and row.to is not state}
        )
        kind = "ended without a takedown" if state in ENDED else "upheld" if state in UPHELD else "open"
        lines.append(f"| {state} | {', '.join(map(str, exits)) or 'final'} | {kind} |")
    return "\n".join([*lines, ""])


def _states(states: tuple[State, ...]) -> str:
    found = set(states)
    for name, group in (("any open or upheld", OPEN | UPHELD), ("any open", OPEN)):
        if found == group:
            return name
        if found < group and len(group - found) <= 2:
            return f"{name} but {', '.join(sorted(group - found))}"
    return ", ".join(states) or "-"


def _trigger(trigger: Trigger) -> str:
    if trigger == AUTO:
        return "by rule"
    if isinstance(trigger, str):
        return f"timer `{trigger}`"
    return NAMES.get(trigger, trigger.__name__)


if __name__ == "__main__":
    sys.stdout.write(markdown())
