"""Guards and effects of the life cycle's table: small pure functions on a draft of an item's next state.

A guard says whether a row applies; an effect does what the row requires beyond the change of state. Rows are numbered
as in docs/explanation/domain.md, "The life cycle of a claim item".
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any, Final

import msgspec

from services.verification.item import ENDED, SETTLED, UPHELD, Facts, Frame, Item, Lapse, Notice, Timer, TimerKind
from services.verification.triage import triage
from shared.calendars import Calendar, calendar
from shared.events import (
    DECISIONS,
    AddInformation,
    ChangeRight,
    Command,
    Complain,
    Counter,
    Decide,
    HoldChanged,
    NoticeSent,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Triage,
    Withdraw,
)
from shared.policy import Policy, Span

OWN_LISTING: Final = "own_listing"
PAUSING: Final = frozenset({State.NEEDS_INFO, State.SUSPENDED})
"""States that pause the 24-hour clock."""
DECIDED: Final = frozenset({State.DUPLICATE, State.LINK_INVALID, State.REJECTED, State.LAPSED})
"""First decisions that need no receipt (docs/explanation/domain.md, "Handled")."""


class Draft:
    """An item on its way from one state to the next."""

    __slots__ = (
        "appealed",
        "appeals",
        "at",
        "authority",
        "awaits",
        "calendar",
        "code",
        "counter_at",
        "counter_due",
        "counter_round",
        "decided_at",
        "deciders",
        "entered",
        "event",
        "facts",
        "flagged",
        "handled_at",
        "held",
        "identity_verified",
        "item",
        "lapse",
        "late_counters",
        "left_missing",
        "lookup",
        "materials",
        "missing",
        "notice_seen",
        "original",
        "path",
        "paused_at",
        "policy",
        "refiles",
        "revision",
        "right_ended",
        "right_status",
        "seller",
        "sla",
        "sla_due",
        "stack",
        "state",
        "timers",
        "title_digest",
        "triage",
        "upheld",
        "visit",
        "weighed",
        "when",
    )

    def __init__(
        self, item: Item, event: Any, facts: Facts, policy: Policy, at: dt.datetime, when: dt.datetime | None = None
    ) -> None:
        """``at``: when the change takes effect; ``when``: the time of right, by which the event is judged."""
        self.item = item
        self.event = event
        self.facts = facts
        self.policy = policy
        self.at = at
        self.when = at if when is None else when
        self.calendar: Calendar = calendar(policy.calendar)
        self.revision = item.revision + 1
        self.path: list[State] = []
        self.lookup = False
        self.left_missing: tuple[str, ...] = ()

        self.identity_verified = item.identity_verified
        self.authority = item.authority
        self.right_status = item.right_status
        self.materials = item.materials
        self.seller = item.seller
        self.title_digest = item.title_digest
        self.state = item.state
        self.visit = item.visit
        self.entered = item.entered
        self.timers: tuple[Timer, ...] = tuple([timer for timer in item.timers if timer.kind != "sla"])
        self.awaits: tuple[Notice, ...] = item.awaits
        self.stack: tuple[Frame, ...] = item.stack
        self.lapse: Lapse | None = item.lapse
        self.code = item.code
        self.missing = item.missing
        self.original = item.original
        self.held = item.held
        self.upheld = item.upheld
        self.notice_seen = item.notice_seen
        self.counter_round = item.counter_round
        self.counter_due = item.counter_due
        self.late_counters = item.late_counters
        self.refiles = item.refiles
        self.flagged = item.flagged
        self.right_ended = item.right_ended
        self.handled_at = item.handled_at
        self.sla = item.sla
        self.sla_due = item.sla_due
        self.paused_at = item.paused_at
        self.triage: Triage | None = item.triage
        self.weighed: Triage | None = None
        self.counter_at = item.counter_at
        self.decided_at = item.decided_at
        self.appealed = item.appealed
        self.appeals = item.appeals
        self.deciders = item.deciders

    # ------------------------------------------------------------------------------------------------ moving about

    def after(self, span: Span, start: dt.datetime | None = None) -> dt.datetime:
        """The end of ``span`` from ``start``, by default from ``at``."""
        return span.after(self.at if start is None else start, self.calendar)

    def start(self, kind: TimerKind, due: dt.datetime) -> None:
        """Start a timer, or restart it."""
        self.timers = (*[timer for timer in self.timers if timer.kind != kind], Timer(kind, due))

    def frame(self, *, stopped: bool) -> Frame:
        """The present state, as a frame to return to."""
        return Frame(
            self.state,
            self.visit,
            self.revision - 1,
            self.awaits,
            self.timers,
            self.held,
            self.upheld,
            self.counter_due,
            self.when if stopped else None,
            self.code,
            self.missing,
            self.entered,
        )

    def enter(self, state: State) -> None:
        """Leave the present state, which drops its timers, and enter a new one."""
        self.state = state
        self.path.append(state)
        self.visit = self.entered = self.revision
        self.timers = ()
        self.awaits = ()
        self.lapse = None
        self.code = None
        self.missing = ()
        if state in AGAINST:
            self.decided_at = self.at
            self.appealed = ()
        if state in UPHELD:
            self.held = self.upheld = True
            self.stack = ()
            self.right_ended = False  # row 22 is about open items
        elif state in ENDED:
            self.held = False
            if state is not State.WITHDRAWN:
                self.upheld = False
            self.stack = ()

    def back(self) -> None:
        """Return to the innermost state on the stack."""
        frame = self.stack[-1]
        self.stack = self.stack[:-1]
        self.state = frame.state
        self.path.append(frame.state)
        # the visit continues: a notice already on its way may still begin its window
        self.visit = frame.visit
        self.entered = self.revision
        self.awaits = frame.awaits
        self.timers = frame.timers
        self.counter_due = frame.counter_due
        self.held = frame.held
        self.upheld = frame.upheld
        self.lapse = None
        self.left_missing = self.missing
        self.code = frame.code
        self.missing = frame.missing
        if frame.stopped_at is not None:
            stood = self.at - frame.stopped_at
            self.timers = tuple([Timer(timer.kind, timer.due + stood) for timer in frame.timers])
            if self.counter_due is not None:
                self.counter_due += stood
        if frame.state in SETTLED:
            self.right_ended = False

    def finish(self, *, published: bool) -> Item:
        """The resulting item; ``published`` if a change announces it."""
        item = self.item
        self._rest()
        self._clock()
        timers = self.timers
        if self.sla is None and self.paused_at is None and self.state not in ENDED:
            timers = (*timers, Timer("sla", self.sla_due))
        if len(timers) > 1:
            timers = tuple(sorted(timers, key=_order))
        noticed_at = item.noticed_at
        if published and noticed_at is None:
            noticed_at = self.notice_seen
        return msgspec.structs.replace(
            item,
            identity_verified=self.identity_verified,
            authority=self.authority,
            right_status=self.right_status,
            materials=self.materials,
            seller=self.seller,
            title_digest=self.title_digest,
            state=self.state,
            revision=self.revision if published else item.revision,
            visit=self.visit,
            entered=self.entered,
            timers=timers,
            awaits=self.awaits,
            stack=self.stack,
            lapse=self.lapse,
            code=self.code,
            missing=self.missing,
            original=self.original,
            held=self.held,
            upheld=self.upheld,
            taken_down=item.taken_down or self.held,
            noticed_at=noticed_at,
            notice_seen=self.notice_seen,
            counter_round=self.counter_round,
            counter_due=self.counter_due,
            late_counters=self.late_counters,
            refiles=self.refiles,
            flagged=self.flagged,
            right_ended=self.right_ended,
            handled_at=self.handled_at,
            sla=self.sla,
            sla_due=self.sla_due,
            paused_at=self.paused_at,
            triage=self.triage,
            counter_at=self.counter_at,
            decided_at=self.decided_at,
            appealed=self.appealed,
            appeals=self.appeals,
            deciders=self.deciders,
        )

    def _rest(self) -> None:
        """Have an item that stays in RECEIVED wait for its listing."""
        if self.state is State.RECEIVED and not any(timer.kind == "lookup_give_up" for timer in self.timers):
            self.lookup = True
            self.start("lookup", self.after(self.policy.timers.lookup_retry))
            self.start("lookup_give_up", self.after(self.policy.timers.lookup_give_up))

    def _clock(self) -> None:
        """Pause or resume the 24-hour clock, and note once per item whether the target was met or missed."""
        pausing = self.state in PAUSING
        if self.handled_at is None and (
            self.state in DECIDED or (self.state is State.NOTIFIED and not self.held)  # no hold, no receipt to wait for
        ):
            self.handled_at = self.at
        if self.paused_at is not None and (self.handled_at is not None or not pausing):
            # up to when the information was accepted, not when we read it
            self.sla_due += max((self.handled_at or self.when) - self.paused_at, dt.timedelta())
            self.paused_at = None
        if self.sla is None:
            if self.handled_at is not None:
                self.sla = "met" if self.handled_at <= self.sla_due else "missed"
            elif self.state in ENDED and self.at > self.sla_due:
                self.sla = "missed"  # withdrawn or restored, unhandled and late; in time, no target is left to meet
        if pausing and self.paused_at is None and self.sla is None:
            self.paused_at = self.when


def _order(timer: Timer) -> tuple[dt.datetime, str]:
    return timer.due, timer.kind


# ------------------------------------------------------------------------------------------------------ rows 1-7: guards


def recurs(d: Draft) -> bool:
    """Row 20: the item was filed against a near copy."""
    return d.item.recurs is not None


def by_hand(d: Draft) -> bool:
    """Row 20: only a person decides, unless the policy leaves near copies to the rule."""
    rules = d.policy.recurrence
    return d.item.recurs is not None and (rules is None or rules.review == "manual")


def has_original(d: Draft) -> bool:
    """Row 2: an item of the same listing, right and reason is open or upheld."""
    return d.facts.original is not None


def link_gone(d: Draft) -> bool:
    """Row 3: the listing is not of this site, or is gone for another reason than our hold."""
    if not d.item.on_site:
        return True
    listing = d.facts.listing
    if listing is None:
        return False
    return listing.state in ("unknown", "ended") or (listing.state == "removed" and not d.facts.ours)


def flagged_and_gone(d: Draft) -> bool:
    """Row 3, when the answer comes after the look-up was given up."""
    return d.flagged and d.seller is None and link_gone(d)


def listing_known(d: Draft) -> bool:
    """The listing is known, or its look-up was given up."""
    return d.seller is not None or d.flagged or (d.facts.listing is not None and d.facts.listing.seller is not None)


def elements_missing(d: Draft) -> bool:
    """Row 4, once the listing is known: nobody is asked for information about a dead link."""
    return listing_known(d) and bool(lacking(d))


def lacking(d: Draft) -> tuple[str, ...]:
    """Elements of the claim that are missing (policy ``claim.required`` and the reason's materials)."""
    missing: list[str] = []
    for element in d.policy.claim.required:
        if element == "identity":
            present = d.identity_verified
        elif element == "authority":
            present = d.authority != "missing"
        elif element == "right":
            present = d.right_status == "active"
        else:
            present = element in d.materials
        if not present:
            missing.append(element)
    reason = d.policy.reasons.get(d.item.reason)
    if reason is not None:
        missing += [kind for kind in reason.needed(d.item.good_faith) if kind not in d.materials]
    return tuple(missing)


def elements_complete(d: Draft) -> bool:
    """Row 5: the listing is known and nothing is missing."""
    return listing_known(d) and not lacking(d)


def misfit(d: Draft) -> bool:
    """Row 6, by the rule: there is no such reason, or it is not for this type of right."""
    reason = d.policy.reasons.get(d.item.reason)
    return reason is None or d.item.right_type not in reason.rights


def own_listing(d: Draft) -> bool:
    """Row 6, by the rule: the seller is the complainant or principal; only if the policy says how to cure that."""
    return OWN_LISTING in d.policy.refusals and d.seller in (d.item.complainant, d.item.principal)


def prima_facie(d: Draft) -> bool:
    """Row 7, by the rule: the policy upholds on the face of the claim, or triage does."""
    review = d.policy.rules.review
    if review == "manual" or d.flagged or d.seller is None or by_hand(d):
        return False
    return review == "prima_facie" or _triaged(d).band == "uphold"


def plainly_unfounded(d: Draft) -> bool:
    """Row 6, by triage; never after a person has decided, as that means a complaint reversed a refusal."""
    if d.policy.rules.review != "triage" or d.flagged or d.seller is None:
        return False
    return _triaged(d).band == "refuse" and not d.deciders and not by_hand(d)


def _triaged(d: Draft) -> Triage:
    """The result of triage, weighed once each time the item comes to review."""
    if d.weighed is None:
        assert d.policy.triage is not None, "the policy was checked"
        d.weighed = d.triage = triage(d.item, d.facts, d.policy.triage)
    return d.weighed


def refuse_unfounded(d: Draft) -> None:
    """Row 6, by triage: the policy's code."""
    assert d.policy.triage is not None
    d.code = d.policy.triage.refusal


def decides(*decisions: str) -> Any:
    """Guard: the reviewer's decision is one of these."""

    def guard(d: Draft) -> bool:
        return d.event.decision in decisions

    return guard


# ------------------------------------------------------------------------------------------------------ rows 1-7: effects


def take_listing(d: Draft) -> None:
    """Keep the seller as known now: later sales do not change whom the claim concerns."""
    listing = d.facts.listing
    if d.seller is None and listing is not None and listing.seller is not None:
        d.seller = listing.seller
        d.title_digest = listing.title_digest


def link_original(d: Draft) -> None:
    """Row 2: link the duplicate to its original."""
    d.original = d.facts.original


def reopen(d: Draft) -> None:
    """Row 2, back: the item is judged afresh."""
    d.original = None
    d.flagged = False


def ask(d: Draft) -> None:
    """Row 4: ask for what is missing; the window begins when the request is sent."""
    take_listing(d)
    d.missing = lacking(d)
    d.awaits = ("info_request",)


def add_information(d: Draft) -> None:
    """Row 4: take in what the complainant added."""
    _renew(d)
    d.missing = lacking(d)


def _renew(d: Draft) -> None:
    """Update the proof on file with what the holder's side has now."""
    event: AddInformation | Complain = d.event
    d.identity_verified = d.identity_verified or event.identity_verified
    if event.authority != "missing":
        d.authority = event.authority
    d.right_status = event.right_status
    d.materials = tuple(sorted({*d.materials, *event.materials}))


def flag(d: Draft) -> None:
    """Row 5: the look-up found nothing out; a person decides, never the rule."""
    d.flagged = True
    d.timers = ()


def put_to_review(d: Draft) -> None:
    """Row 5: note the seller, or that the listing is unknown."""
    take_listing(d)
    if d.flagged:
        d.code = "listing_unknown"


def miss(d: Draft) -> None:
    """Row 5, overdue: the 24-hour target is missed."""
    d.sla = "missed"


def refuse_misfit(d: Draft) -> None:
    """Row 6, by the rule: the code for a reason that does not fit."""
    d.code = "reason_not_for_right" if d.item.reason in d.policy.reasons else "unknown_reason"


def refuse_own(d: Draft) -> None:
    """Row 6, by the rule: the code for a claim against one's own listing."""
    d.code = OWN_LISTING


def refuse(d: Draft) -> None:
    """Row 6: the reviewer's code."""
    d.code = d.event.code


def notify(d: Draft) -> None:
    """Row 7: set the hold, if the policy removes on notice; the seller's window begins when the notice is sent."""
    take_listing(d)
    d.held = d.policy.rules.removal == "on_notice"
    d.awaits = ("seller_notice",)
    d.counter_due = None


def receipt_awaited(d: Draft) -> bool:
    """Handled: the first receipt for a hold that the item still has."""
    event: HoldChanged = d.event
    return d.handled_at is None and event.held and d.held


def receipted(d: Draft) -> None:
    """Handled: note when the marketplace receipted the hold."""
    d.handled_at = d.event.at


# --------------------------------------------------------------------------------------------------- notices and windows


def awaited(d: Draft) -> bool:
    """The notice belongs to the present visit of the state, and its window has not begun."""
    event: NoticeSent = d.event
    return event.kind in d.awaits and d.visit <= event.revision < d.revision


def seller_notice_awaited(d: Draft) -> bool:
    """Row 7: the seller's notice, whose window has not begun."""
    return d.event.kind == "seller_notice" and awaited(d)


def awaited_before(d: Draft) -> bool:
    """The notice belongs to a state to which the item may return."""
    return any(_awaits(frame, d.event) for frame in d.stack)


def _awaits(frame: Frame, event: NoticeSent) -> bool:
    return event.kind in frame.awaits and frame.visit <= event.revision <= frame.until


def first_notice(d: Draft) -> bool:
    """The seller's notice, sent after the item had moved on: its date still counts (row 10)."""
    event: NoticeSent = d.event
    return (
        event.kind == "seller_notice"
        and event.revision < d.revision
        and d.item.noticed_at is None
        and d.notice_seen is None
    )


def _window(d: Draft, kind: Notice) -> tuple[TimerKind, Span]:
    timers = d.policy.timers
    if kind == "info_request":
        return "needs_info", timers.needs_info
    if kind == "counter_forwarded":
        abroad = timers.holder_response_abroad if d.item.abroad else None
        return "holder_response", abroad or timers.holder_response
    return "window", timers.refile if kind == "counter_defect" else timers.window


def open_window(d: Draft) -> None:
    """Begin the window of the present state, at the time that its notice says."""
    event: NoticeSent = d.event
    timer, span = _window(d, event.kind)
    due = d.after(span, event.begins)
    d.awaits = tuple([kind for kind in d.awaits if kind != event.kind])
    if timer == "window" and never_late(d):
        note(d)
        return
    if timer == "window":
        note(d)
        # a defective counter's new window never shortens the old one
        d.counter_due = due = due if d.counter_due is None else max(due, d.counter_due)
        if d.state is not State.NOTIFIED or d.awaits:
            return  # upheld items have no timer; and no window runs while a notice is still awaited
    d.start(timer, due)


def never_late(d: Draft) -> bool:
    """Row 9, where the seller's silence means nothing: no window runs."""
    return d.policy.rules.seller_silent == "nothing"


def stands(d: Draft) -> bool:
    """Row 9, where the seller's silence means nothing: its notice was sent."""
    return never_late(d) and seller_notice_awaited(d)


def stand(d: Draft) -> None:
    """Row 9: the takedown stands, and counts, until a counter or the complainant undoes it."""
    open_window(d)
    d.upheld = d.held


def open_window_before(d: Draft) -> None:
    """Begin the window of a state to which the item may return; what is left of it applies on the return."""
    event: NoticeSent = d.event
    note(d)
    stack: list[Frame] = []
    for frame in d.stack:
        if _awaits(frame, event):
            timer, span = _window(d, event.kind)
            due = d.after(span, event.begins)
            awaits = tuple([kind for kind in frame.awaits if kind != event.kind])
            counter_due = frame.counter_due
            timers = frame.timers
            upheld = frame.upheld
            if timer == "window" and never_late(d):
                upheld = upheld or (frame.held and event.kind == "seller_notice")
            else:
                if timer == "window":
                    counter_due = due = due if counter_due is None else max(due, counter_due)
                if timer != "window" or (frame.state is State.NOTIFIED and not awaits):
                    timers = (*timers, Timer(timer, due))
            frame = msgspec.structs.replace(frame, awaits=awaits, counter_due=counter_due, timers=timers, upheld=upheld)
        stack.append(frame)
    d.stack = tuple(stack)


def note(d: Draft) -> None:
    """Note when the seller was notified."""
    if d.event.kind == "seller_notice" and d.item.noticed_at is None:
        d.notice_seen = d.event.begins


def note_late(d: Draft) -> None:
    """Note when the seller was notified, and until when a counter is in time."""
    note(d)
    if d.counter_due is None and not never_late(d):
        d.counter_due = d.after(d.policy.timers.window, d.event.begins)


# ------------------------------------------------------------------------------------------------------- rows 8-15, 17


def counter_in_time(d: Draft) -> bool:
    """Row 10: the window has not begun, or has not ended."""
    return d.counter_due is None or "counter_defect" in d.awaits or d.when <= d.counter_due


def counter_refusal(d: Draft) -> str | None:
    """Row 10: the code if no round is left, or the counter is too late."""
    if d.counter_round >= d.policy.counter.rounds:
        return "rounds_used"
    if counter_in_time(d):
        return None
    if d.late_counters >= d.policy.counter.late:
        return "counter_too_late"
    noticed_at = d.item.noticed_at or d.notice_seen
    if noticed_at is not None and d.when > d.after(d.policy.timers.late_counter, noticed_at):
        return "counter_too_late"
    return None


def count_round(d: Draft) -> None:
    """Row 10, before the state is left: count the round, and whether it is late."""
    if not counter_in_time(d):
        d.late_counters += 1
    d.counter_round += 1
    d.counter_at = d.when


def check_counter(d: Draft) -> None:
    """Row 10: start the check's deadline, and note what is missing."""
    d.start("counter_check", d.after(d.policy.timers.counter_check))
    event: Counter = d.event
    d.missing = tuple([element for element in d.policy.counter.required if element not in event.materials])


def checked_by_rule(d: Draft) -> bool:
    """Rows 11, 12: the policy's list decides."""
    return d.policy.rules.counter_check == "rule"


def counter_incomplete(d: Draft) -> bool:
    """Row 11, by the rule: elements are missing."""
    return checked_by_rule(d) and bool(d.missing)


def overdue_incomplete(d: Draft) -> bool:
    """Row 11, overdue: the policy takes an unchecked counter as incomplete."""
    return d.policy.rules.overdue_counter_check == "incomplete"


def send_back(d: Draft) -> None:
    """Row 11: the round does not count; while refilings remain, a window to file again follows the notice."""
    d.code = "counter_incomplete"
    d.missing = d.left_missing
    d.counter_round -= 1
    if d.refiles < d.policy.counter.refiles:
        d.refiles += 1
        d.awaits = (*[kind for kind in d.awaits if kind != "counter_defect"], "counter_defect")
        d.timers = tuple([timer for timer in d.timers if timer.kind != "window"])
    else:
        # the rest of the window runs on; if nothing is left, it ends now
        d.timers = tuple([Timer(timer.kind, max(timer.due, d.at)) for timer in d.timers])


def forward(d: Draft) -> None:
    """Row 12: the holder's window begins when the counter is forwarded."""
    d.stack = d.stack[:-1]
    d.refiles = 0
    d.awaits = ("counter_forwarded",)
    restore_by = d.policy.timers.restore_by
    if restore_by is not None:
        d.start("restore_by", d.after(restore_by, d.counter_at))


def accepts(d: Draft) -> bool:
    """Row 13: the holder accepts the counter."""
    event: Respond = d.event
    return event.accept


def rejects_to_platform(d: Draft) -> bool:
    """Row 14: the holder rejects the counter, and the platform reviews it."""
    return not d.event.accept and d.policy.rules.holder_rejects == "platform_review"


def rejects_in_vain(d: Draft) -> bool:
    """Row 14: the holder rejects the counter, but only a filed action stops the restoration."""
    return not d.event.accept and d.policy.rules.holder_rejects == "no_effect"


def holder_rejected(d: Draft) -> None:
    """Row 14, without effect: note the answer."""
    d.code = "holder_rejected"


def silent_to_platform(d: Draft) -> bool:
    """Row 15: the holder is silent, and the platform reviews the counter."""
    return d.policy.rules.holder_silent == "platform_review"


def platform_review(d: Draft) -> None:
    """Rows 14, 15: start the platform's own deadline."""
    d.start("platform_review", d.after(d.policy.timers.platform_review))


def escalate(d: Draft) -> None:
    """Row 17, overdue: start the grace period."""
    d.timers = tuple([timer for timer in d.timers if timer.kind != "platform_review"])
    d.start("platform_grace", d.after(d.policy.timers.platform_review_grace))


def overdue_restores(d: Draft) -> bool:
    """Row 17, nobody decided: the policy restores."""
    return d.policy.rules.overdue_decision == "restore"


def open_round(d: Draft) -> None:
    """Rows 17, 19, 21: start the time for a further counter."""
    d.counter_due = d.after(d.policy.timers.round_window)


# --------------------------------------------------------------------------------------------------- rows 16, 18, 21, 22


def remind(d: Draft) -> None:
    """Row 16: start the time to the next reminder."""
    d.start("reminder", d.after(d.policy.timers.litigation_reminder))


def suspended_in_court(d: Draft) -> bool:
    """The item is suspended while in court."""
    return any(frame.state is State.LITIGATION for frame in d.stack)


def proof_refusal(d: Draft) -> str | None:
    """Rows 16, 21: the code if there is no proof."""
    event: ReportAction | ReportResult = d.event
    return None if event.proof else "proof_missing"


def action_refusal(d: Draft) -> str | None:
    """Row 16: the code if an action is known already, or there is no proof."""
    if d.state is State.LITIGATION or suspended_in_court(d):
        return "action_known"
    return proof_refusal(d)


def result_is(outcome: str) -> Any:
    """Guard, row 21: the result is this one."""

    def guard(d: Draft) -> bool:
        event: ReportResult = d.event
        return event.outcome == outcome

    return guard


def withdraw(d: Draft) -> None:
    """Row 18: penalties are reversed, unless the parties settled."""
    event: Withdraw = d.event
    _withdrawn(d, event.ground)


def withdraw_ended(d: Draft) -> None:
    """Row 22: the time of suspension is over."""
    _withdrawn(d, "right_ended")


def _withdrawn(d: Draft, ground: str) -> None:
    d.code = ground
    if ground in d.policy.withdrawal.reverses:
        d.upheld = False


def right_ends(d: Draft) -> bool:
    """Row 22: the right is no longer active."""
    event: ChangeRight = d.event
    return event.status != "active"


def right_returns(d: Draft) -> bool:
    """Row 22, back: the right is active."""
    return not right_ends(d)


def right_is_back(d: Draft) -> bool:
    """Row 22, back while in court."""
    return d.right_ended and not right_ends(d)


def right_has_ended(d: Draft) -> bool:
    """Row 22, for an item that returns from court to an open state."""
    return d.right_ended


def suspend(d: Draft) -> None:
    """Row 22: note how the right ended, and start the time of suspension."""
    if isinstance(d.event, ChangeRight):
        d.right_status = d.event.status
    d.right_ended = True
    d.code = f"right_{d.right_status}"
    d.start("suspended", d.after(d.policy.timers.suspended))


def right_back(d: Draft) -> None:
    """Row 22, back: note that the right is active again."""
    d.right_status = "active"
    d.right_ended = False
    if d.state is State.NEEDS_INFO:
        d.missing = lacking(d)


# --------------------------------------------------------------------------------------------------------------- row 19


def audited(d: Draft) -> bool:
    """Row 19, by the platform itself: a share of what no person has looked at, chosen by the item's id."""
    share = d.policy.rules.audited_share
    if not share or d.deciders or "platform" in d.appealed:
        return False
    return int.from_bytes(hashlib.blake2b(d.item.item.encode(), digest_size=4).digest(), "big") < share * 2**32


AGAINST: Final = {
    **dict.fromkeys((State.REJECTED, State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.RESTORED), "holder"),
    **dict.fromkeys(UPHELD, "seller"),
}
"""Decisions open to complaint, and the side that each goes against."""
UNHEARD: Final = frozenset({State.REJECTED, State.DUPLICATE, State.LINK_INVALID, State.LAPSED})
"""Ends before the seller was heard: if reversed, they go to review, never straight to a takedown."""


def complaint_refusal(d: Draft) -> str | None:
    """Row 19: the code if this side may not complain, or not any more."""
    event: Complain = d.event
    if AGAINST[d.state] != event.role:
        return "not_against_you"
    if event.role in d.appealed:
        return "complaint_known"
    if d.appeals >= d.policy.appeals.rounds:
        return "complaints_used"
    if d.decided_at is not None and d.when > d.after(d.policy.appeals.within, d.decided_at):
        return "complaint_too_late"
    return None


def complain(d: Draft) -> None:
    """Row 19: count the complaint, take in the holder's proof, and start the platform's own deadline."""
    event: Complain = d.event
    d.appeals += 1
    d.right_ended = False
    if event.role == "holder":
        d.appealed = (*d.appealed, "holder")
        _renew(d)
    else:
        d.appealed = (*d.appealed, "seller")
    appeal_review(d)


def audit(d: Draft) -> None:
    """Row 19, by the platform itself: uses up none of the parties' complaints."""
    d.appealed = (*d.appealed, "platform")
    appeal_review(d)


def appeal_review(d: Draft) -> None:
    """Row 19, and again when overdue: start the deadline. Only a person ends the appeal."""
    d.start("appeal_review", d.after(d.policy.appeals.review))


def confirms(d: Draft) -> bool:
    """Row 19: the decision is confirmed."""
    event: Decide = d.event
    return event.decision == "confirm"


def confirms_without_original(d: Draft) -> bool:
    """Row 2: the original ended without a takedown while a complaint about the duplicate was pending."""
    return confirms(d) and d.stack[-1].state is State.DUPLICATE and d.facts.original is None


def reverses_unheard(d: Draft) -> bool:
    """Row 19: an end before the seller was heard is reversed."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state in UNHEARD


def reverses_takedown(d: Draft) -> bool:
    """Row 19: a takedown is reversed."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state in UPHELD


def reverses_restoration(d: Draft) -> bool:
    """Row 19: a restoration is reversed."""
    event: Decide = d.event
    return event.decision == "reverse" and d.stack[-1].state is State.RESTORED


def give_reason(d: Draft) -> None:
    """Row 19: note the reviewer's reason code."""
    d.code = d.event.code


def reopen_appealed(d: Draft) -> None:
    """Row 2, after a complaint: reopen the duplicate."""
    d.stack = d.stack[:-1]
    reopen(d)


def review_anew(d: Draft) -> None:
    """Row 19, reversed: review the item on its own, under the right as it is now."""
    d.stack = d.stack[:-1]
    d.original = None
    put_to_review(d)
    d.right_ended = d.right_status in ("expired", "lost", "unauthorised")


def take_down_anew(d: Draft) -> None:
    """Row 19, a restoration reversed: take the listing down again, with time for a further counter."""
    give_reason(d)
    open_round(d)


def decision_refusal(d: Draft) -> str | None:
    """Rows 6, 7, 12, 17, 19: the code if a reviewer may not decide this, or the decision lacks something."""
    event: Decide = d.event
    # the item has left the state that was seen, though it may have returned to it
    if event.revision is not None and event.revision < max(d.item.visit, d.item.entered):
        return "stale"
    if event.decision not in DECISIONS.get(d.state, ()):
        return "decision_not_here"
    if event.decision == "refuse" and event.code not in d.policy.refusals:
        return "refusal_code"
    if d.state is State.APPEALED:
        if event.by in d.deciders:
            return "decided_before"
        if event.code not in d.policy.appeals.reasons:
            return "appeal_code"
    if d.state is State.UNDER_REVIEW and event.decision == "uphold" and d.seller is None:
        listing = d.facts.listing
        if listing is None or listing.seller is None:
            return "listing_unknown"
    return None


def note_decider(d: Draft) -> None:
    """Note who decided: they may not decide a complaint about the item (row 19)."""
    event: Decide = d.event
    d.deciders = tuple(dict.fromkeys((*d.deciders, event.by, *event.looked)))


def respond_refusal(d: Draft) -> str | None:
    """Row 14: the code if the holder has answered already."""
    return "already_answered" if d.code == "holder_rejected" else None


def is_party(item: Item, command: Command, side: str) -> bool:
    """Whether the command comes from that side of the item."""
    if side == "holder":
        return command.role == "holder" and command.by in (item.complainant, item.principal)
    if side == "seller":
        return command.role == "seller" and item.seller is not None and command.by == item.seller
    if side == "reviewer":
        return command.role in ("reviewer", "operator")
    return command.role == "system"
