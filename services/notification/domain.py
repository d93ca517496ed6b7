"""Which messages each party gets, and which items go into one message. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from shared import calendars, policy
from shared.calendars import CalendarError
from shared.events import (
    SETTLED,
    UPHELD,
    AccountNotice,
    AccountTold,
    Id,
    ItemChanged,
    MessageSent,
    Moment,
    NoticeSent,
    NoticeUnreached,
    Role,
    SanctionChanged,
    State,
)
from shared.policy import PolicyError

Kind = Literal[
    "claim_receipt",
    "info_request",
    "seller_notice",
    "counter_forwarded",
    "counter_received",
    "counter_defect",
    "complaint_received",
    "complaint_reversed",
    "outcome",
]

WINDOW_KINDS: Final = frozenset({"seller_notice", "counter_forwarded", "counter_defect", "info_request"})
"""Messages that begin a window of the party (``window_rule`` says when). Each of their items gets a ``NoticeSent``."""
_WindowKind = Literal["seller_notice", "counter_forwarded", "counter_defect", "info_request"]

ACCOUNT: Final = "account."
"""Prefix of the kind of a message to an account about itself; the notice's own kind follows."""

DIGEST: Final = "digest"
"""A message with a party's receipts and outcomes of one day, of any claims. Its rows keep their own kinds."""
HELD: Final = ("claim_receipt", "outcome")
"""Kinds that wait for the digest if the party asked for one."""
SECRET: Final = frozenset({ACCOUNT + "email_code"})
"""Messages with a code that intake makes at sending time. The code is on no topic, in no table and in no log."""

_COUNTERABLE: Final = UPHELD | {State.NOTIFIED}
_SELLER_KNOWS: Final = frozenset(
    {
        State.NOTIFIED,
        State.COUNTERED,
        State.HOLDER_RESPONSE,
        State.PLATFORM_REVIEW,
        State.UPHELD,
        State.UPHELD_BY_DEFAULT,
        State.UPHELD_AFTER_COUNTER,
        State.RESTORED,
    }
)
"""States that an item reaches only after the seller's notice."""
_PAUSES: Final = frozenset({State.SUSPENDED, State.LITIGATION})
_ENTERS: Final = {f"goodfaith.item.{state.lower()}.v1": state for state in State}


def messages_for(event_type: str, change: ItemChanged) -> list[tuple[Kind, Id]]:
    """The messages about this change, as (kind, party), each at most once.

    The receipt covers the first event, whatever became of the item in that instant, so an end reached then needs no
    further message to the complainant. A plain return from SUSPENDED or LITIGATION to an open state sends nothing:
    the message sent when the item first entered that state stands, and may still begin its window.
    """
    first = change.revision == 1
    told: list[tuple[Kind, Id]] = [("claim_receipt", change.complainant)] if first else []
    state, previous, seller = change.state, change.previous, change.seller
    if _ENTERS.get(event_type) is not state:
        return told  # handled, window_opened, overdue, reminded: the state has not changed
    if (previous is State.COUNTERED or State.COUNTERED in change.via) and state in _COUNTERABLE:
        # row 11: the counter was sent back; the item returns to its previous state
        if seller is not None:
            told.append(("counter_defect", seller))
        return told
    if state in SETTLED:
        if first or state is previous:
            return told
        told.append(("outcome", change.complainant))
        # its notice may lie unread in its inbox: what became of the claim then lies there too
        knows = change.noticed_at is not None or previous in _SELLER_KNOWS or change.unreached
        if knows and seller is not None and seller != change.complainant:
            told.append(("outcome", seller))
        return told
    if state is previous or (previous in _PAUSES and not change.via):
        return told
    if state is State.NOTIFIED and (previous, *change.via)[-1] is State.APPEALED:
        return told  # reached while a person looked at the takedown: the notice that it has read stands
    if state is State.APPEALED:
        if change.by == "system" or (previous, *change.via)[-1] is State.NOTIFIED:
            return told  # the platform reviews its own decision; only the result is sent
        # both sides that know of the item: the one that complained and the one that may be affected
        told.append(("complaint_received", change.complainant))
        if (change.noticed_at is not None or previous in _SELLER_KNOWS) and seller not in (None, change.complainant):
            assert seller is not None
            told.append(("complaint_received", seller))
        return told
    if previous is State.APPEALED and change.by in ("reviewer", "operator"):
        # reversed and judged again; the result gets a message of its own
        told.append(("complaint_reversed", change.complainant))
    if state is State.NEEDS_INFO:
        told.append(("info_request", change.complainant))
    elif state is State.NOTIFIED and seller is not None:
        told.append(("seller_notice", seller))
    elif state is State.HOLDER_RESPONSE:
        told.append(("counter_forwarded", change.complainant))
        if seller is not None:
            told.append(("counter_received", seller))
    return told


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message says about one item, as kept in ``message_items.facts``: ids and codes, no personal data."""

    listing: Id
    seller: Id | None = None
    complainant: Id
    principal: Id
    right: Id
    right_type: Id
    reason: Id
    policy: Id
    state: State
    via: tuple[State, ...] = ()
    code: Id | None = None
    missing: tuple[Id, ...] = ()
    original: Id | None = None
    due: dt.datetime | None = None
    counter_round: int = 0
    recurs: Id | None = None
    by: Role | None = None
    """Who brought the item into its state; None in rows written before this field existed."""
    unreached: bool = False
    """A person upheld the item because its seller could not be reached (row 9)."""
    abroad: bool = False
    """The holder is abroad and may have longer to answer a counter."""


def facts_of(change: ItemChanged) -> Facts:
    """The part of the item's state that messages mention."""
    return Facts(
        listing=change.listing,
        seller=change.seller,
        complainant=change.complainant,
        principal=change.principal,
        right=change.right,
        right_type=change.right_type,
        reason=change.reason,
        policy=change.policy,
        state=change.state,
        via=change.via,
        code=change.code,
        missing=change.missing,
        original=change.original,
        due=change.due,
        counter_round=change.counter_round,
        recurs=change.recurs,
        by=change.by,
        unreached=change.rule == "9-upheld-unreached",
        abroad=change.abroad,
    )


# ------------------------------------------------------------------------------------------------------ collecting


class Pending(Struct, frozen=True, array_like=True):
    """An item to tell a party about that is in no message yet."""

    claim: Id
    kind: str
    party: Id
    item: Id
    revision: int
    claim_size: int
    partition: int
    listing: Id
    opened_wall: dt.datetime


@dataclass(slots=True)
class GatheredMessage:
    """The items of one message. ``rows`` are in the order in which the message numbers them."""

    rows: list[Pending] = field(default_factory=list)
    digest: bool = False

    @property
    def kind(self) -> str:
        """The message's kind: that of its rows, unless it is a digest."""
        return DIGEST if self.digest else self.rows[0].kind

    @property
    def id(self) -> Id:
        """The message id, the same for the same items: a (kind, party, item, revision) is in only one message."""
        first = self.rows[0]
        name = f"{first.claim}|{first.kind}|{first.party}|{first.item}|{first.revision}"
        return "m-" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def gather(
    rows: Sequence[Pending], now: dt.datetime, collect: dt.timedelta, *, full: bool = False
) -> list[GatheredMessage]:
    """The messages that can be closed: one per (claim, kind, party), with each item at most once.

    A message is closed when any of these holds:

    - it has all items of its claim;
    - the claim's receipt has all of them, and everything in the message happened in the items' first instant, so that
      no row of that occasion is still to come;
    - ``collect`` has passed since its first row.

    Args:
        rows: by ``opened_wall``, oldest first.
        now: wall time.
        full: there may be more rows than these; messages that might have a row beyond them stay open.
    """
    if full:
        # all rows of a worker's batch share one opened_wall: only batches older than the last row's are complete here
        last = rows[-1].opened_wall
        rows = [row for row in rows if row.opened_wall < last]
        now = min(now, last)
    seen: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
    groups: dict[tuple[str, str, str, int], list[Pending]] = {}
    for row in rows:
        key = (row.claim, row.kind, row.party, row.item)
        # the same item again is another occasion, so another message
        groups.setdefault((row.claim, row.kind, row.party, seen[key]), []).append(row)
        seen[key] += 1
    received = {
        claim
        for (claim, kind, _, nth), group in groups.items()
        if kind == "claim_receipt" and nth == 0 and len(group) == group[0].claim_size
    }
    closed = []
    for (claim, _, _, _), group in groups.items():
        if (
            len(group) >= group[0].claim_size
            or group[0].opened_wall + collect <= now
            or (claim in received and all(row.revision == 1 for row in group))
        ):
            closed.append(GatheredMessage(sorted(group, key=lambda row: (natural(row.item), row.revision))))
    return closed


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key that compares digits by value, so item 2 comes before item 10."""
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d{1,18})", text))


# ------------------------------------------------------------------------------------------------------- deadlines

_TIMERS: Final = {
    "seller_notice": "window",
    "counter_forwarded": "holder_response",
    "counter_defect": "refile",
    "info_request": "needs_info",
}


def _window(timers: policy.Timers, timer: str, abroad: bool) -> policy.Span:
    """The window that verification starts (``services.verification.rules.notices.open_window``)."""
    if timer == "holder_response" and abroad and timers.holder_response_abroad is not None:
        return timers.holder_response_abroad
    span: policy.Span = getattr(timers, timer)
    return span


def deadline(kind: str, items: Sequence[Facts], now: dt.datetime) -> dt.datetime | None:
    """The date until which the party may act if the message is sent ``now`` (business time); None if no window begins.

    The window itself begins when the message has been sent, a moment after ``now``, so the stated date is never too
    late. For a counter that was sent back, it is the window already running if that ends later (row 11).
    """
    timer = _TIMERS.get(kind)
    if timer is None:
        return None
    ends = []
    for facts in items:
        try:
            rules = policy.load(facts.policy)
            if stands(facts) and kind in ("seller_notice", "counter_defect"):
                continue
            end = _window(rules.timers, timer, facts.abroad).after(now, calendars.calendar(rules.calendar))
        except (PolicyError, CalendarError):
            continue
        ends.append(max(end, facts.due) if kind == "counter_defect" and facts.due is not None else end)
    return min(ends, default=None)


def stands(facts: Facts) -> bool:
    """Whether the seller's silence changes nothing, so there is no deadline for a counter."""
    try:
        return policy.load(facts.policy).rules.seller_silent == "nothing"
    except PolicyError:
        return False


def returns(facts: Facts) -> bool:
    """Whether the listing returns when the holder's time ends, unless an action is filed."""
    try:
        rules = policy.load(facts.policy).rules
    except PolicyError:
        return False
    return rules.holder_silent == "restore" and rules.holder_rejects == "no_effect"


def cure(facts: Facts) -> str | None:
    """How to cure a refusal, or what a decision on a complaint rests on, according to the item's policy."""
    if facts.code is None:
        return None
    try:
        rules = policy.load(facts.policy)
    except PolicyError:
        return None
    return rules.refusals.get(facts.code) or rules.appeals.reasons.get(facts.code)


def counter_elements(facts: Facts) -> tuple[str, ...]:
    """Elements that a counter must have."""
    try:
        return policy.load(facts.policy).counter.required
    except PolicyError:
        return ()


# ---------------------------------------------------------------------------------------------------- announcing


def announcement_of(sent: MessageSent, notice: AccountNotice) -> AccountTold:
    """The event that says an account was sent a notice."""
    return AccountTold(
        message=sent.message,
        notice=notice.notice,
        account=notice.account,
        kind=notice.kind,
        about=notice.about,
        channel=sent.channel,
        template=sent.template,
        version=sent.version,
        digest=sent.digest,
        sent_at=sent.sent_at,
        locale=sent.locale,
        edition=sent.edition,
        rendered_at=sent.rendered_at,
    )


def notices_of(
    message: Id, claim: Id, kind: str, sent_at: dt.datetime, begun: WindowStart, items: Sequence[ItemRevision]
) -> list[NoticeSent]:
    """The windows that a message begins, one per item; none for kinds that begin no window."""
    if kind not in WINDOW_KINDS:
        return []
    return [
        NoticeSent(
            item=item,
            claim=claim,
            listing=listing,
            message=message,
            kind=msgspec.convert(kind, _WindowKind),
            revision=revision,
            sent_at=sent_at,
            begins_at=None if begun.by == "sent" else begun.at,
            begun_by=begun.by,
        )
        for item, revision, listing in items
    ]


def unreached_of(message: Id, claim: Id, at: dt.datetime, items: Sequence[ItemRevision]) -> list[NoticeUnreached]:
    """What is announced of a seller's notice that lies in an inbox that nobody owns."""
    return [
        NoticeUnreached(item=item, claim=claim, listing=listing, message=message, revision=revision, at=at)
        for item, revision, listing in items
    ]


# ----------------------------------------------------------------------------------------------- when a window begins


class ItemRevision(NamedTuple):
    """An item in a message, as of a revision."""

    item: Id
    revision: int
    listing: Id


class WindowStart(NamedTuple):
    """When a window began, and what began it."""

    by: Moment
    at: dt.datetime


class WindowRule(NamedTuple):
    """The policy's rule for when a message's window begins: by which event, and at the latest at the deemed time."""

    by: Literal["sent", "delivered", "read"]
    deemed_at: dt.datetime | None


def window_rule(kind: str, rules: str, sent_at: dt.datetime, *, reached: bool = True) -> WindowRule | None:
    """What begins the windows of a message sent at ``sent_at``; None if its kind begins none.

    Not ``reached``: it lies in an inbox that nobody owns. Unless the policy proceeds all the same, only its reading
    then begins a window, and nothing is deemed.

    ``rules`` is the policy version of its items. If it cannot be read here, the windows begin when the message is
    sent; verification cannot read it either and sets the notices aside as dead letters.
    """
    if kind not in WINDOW_KINDS:
        return None
    try:
        found = policy.load(rules)
        notice = found.notice
        if not reached and found.sellers.unreachable != "proceed":
            return WindowRule("read", None)
        if notice.begins == "sent" or notice.deemed is None:
            return WindowRule("sent", None)
        return WindowRule(notice.begins, notice.deemed.after(sent_at, calendars.calendar(found.calendar)))
    except (PolicyError, CalendarError):
        return WindowRule("sent", None)


def window_start(
    by: Literal["sent", "delivered", "read"],
    *,
    sent_at: dt.datetime | None,
    delivered_at: dt.datetime | None,
    read_at: dt.datetime | None,
    deemed_at: dt.datetime | None,
    now: dt.datetime,
) -> WindowStart | None:
    """When a message's windows begin, as far as is known ``now``; None: not yet. All times are business time.

    No window begins before the message was sent, whatever another system's clock says. A message that was read was
    delivered. The earliest known moment counts; the deemed one counts once it has passed.
    """
    if sent_at is None:
        return None
    known: list[tuple[dt.datetime, int, Moment]] = []
    if by == "sent":
        known.append((sent_at, 0, "sent"))
    if by == "delivered" and delivered_at is not None:
        known.append((delivered_at, 2, "delivered"))
    if by != "sent" and read_at is not None:
        # a message that was read was delivered by then; reading is the fact that is known
        known.append((read_at, 1, "read"))
    if by != "sent" and deemed_at is not None and deemed_at <= now:
        known.append((deemed_at, 3, "deemed"))
    if not known:
        return None
    at, _, moment = min(known)
    return WindowStart(moment, max(at, sent_at))


# ------------------------------------------------------------------------------------------------------- sanctions


def notice_of(change: SanctionChanged) -> AccountNotice | None:
    """The notice that tells a seller about a sanction; None if another message says it or there is nothing to say.

    A sanction replaced by another of the same threshold is covered by that one's message, and a warning that expires
    changes nothing.
    """
    if change.change == "imposed":
        kind = (
            "sanction_prior_warning" if change.prior else "sanction_imposed" if change.measures else "sanction_warning"
        )
    elif change.cause == "replaced" or (change.change == "ended" and not change.measures):
        return None
    else:
        kind = f"sanction_{change.change}"
    figures: dict[str, int | float | str] = {
        "ledger": change.ledger,
        "level": change.level,
        "scope": change.scope,
        "cause": change.cause,
        "claim": change.claim,
        "begins": change.begins.isoformat(),
    }
    if change.measures:
        figures["measures"] = ",".join(change.measures)
    if change.ends is not None:
        figures["ends"] = change.ends.isoformat()
    if change.reason is not None:
        figures["reason"] = change.reason
    return AccountNotice(
        notice=f"{change.sanction}.{change.change}",
        account=change.seller,
        kind=kind,
        about=change.sanction,
        figures=figures,
        at=change.at,
    )
