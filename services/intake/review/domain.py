"""Rules of the review queue: what a case is, how urgent it is, who may decide it, and when two must. Pure: no I/O.

A case is an item in a state that a person decides (``shared.events.DECISIONS``). A reviewer works on cases under a
lease and files decisions with the lease's token through the group commit. Where the policy requires four eyes, the
first decision is kept as a proposal that nobody is shown; a second person decides, and a third if the two differ.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from services.intake.kernel import requests
from services.intake.kernel.commands import ItemRef, Part, command_targets
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Rows
from services.intake.kernel.ids import new_id
from shared import events, policy
from shared.events import DECISIONS, ItemChanged, State
from shared.refusals import Refused

REVIEWABLE: Final = frozenset(DECISIONS)
NO_DEADLINE: Final = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
"""Stands for no deadline; sorts last."""
HELD_MAX: Final = 200
"""Cases that one reviewer may hold under leases at a time."""
BLIND: Final = ("uphold", "refuse")
"""What a person decides in an audit, whatever happened without one."""
UPHELD: Final = frozenset({"upheld_by_rule", "upheld_by_default"})
"""Outcomes without a person that were for the holder."""
OVERDUE: Final = "goodfaith.item.overdue.v1"
ESCALATED: Final = 0
_RANKS: Final = {"express": 1, "standard": 2, "bulk": 3}

Kind = Literal["proposal", "decision", "break_glass"]


def new_lease() -> str:
    """Make a lease's token: 256 random bits, shown once, to the reviewer who holds the lease."""
    return f"gl_{secrets.token_urlsafe(32)}"


def digest(token: str) -> bytes:
    """Digest of a lease's token; the token itself is not stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


# ------------------------------------------------------------------------------------------------------------- the queue


@dataclass(slots=True)
class CaseChange:
    """What a batch of changes means for an item's case.

    Attributes:
        entered: revision at which the item entered its state; None: it was there before this batch.
        rank: order in the queue, lowest first; never rises while the item stays in its state.
        at: when ``entered``.
    """

    change: ItemChanged
    entered: int | None
    rank: int
    at: dt.datetime

    @property
    def is_case(self) -> bool:
        """Whether the item is a case now."""
        return self.change.state in REVIEWABLE

    @property
    def due(self) -> dt.datetime:
        """Next deadline."""
        return self.change.due or NO_DEADLINE


def concerns(change: ItemChanged) -> bool:
    """Whether a change concerns the queue at all. Called for every change."""
    return (change.state in REVIEWABLE or change.previous in REVIEWABLE) and not change.canary


def follow(before: CaseChange | None, change: ItemChanged, *, overdue: bool, at: dt.datetime) -> CaseChange:
    """The case after a change; ``before``: the result of earlier changes of the same batch."""
    if before is not None and before.change.revision >= change.revision:
        return before
    stays = change.previous == change.state and not change.via
    rank = rank_of(change, overdue=overdue)
    if not stays:
        return CaseChange(change, change.revision, rank, at)
    if before is None:
        return CaseChange(change, None, rank, at)
    return CaseChange(change, before.entered, min(before.rank, rank), before.at)


def rank_of(change: ItemChanged, *, overdue: bool) -> int:
    """Escalated first, then by lane: good faith, everyone else, over quota or unregistered."""
    late = change.sla == "missed" and change.handled_at is None
    return ESCALATED if overdue or late else _RANKS[change.lane]


# ------------------------------------------------------------------------------------------------------------- deciding


@dataclass(slots=True)
class Case:
    """A case as the group commit locked it.

    Attributes:
        entered: revision at which the item entered ``state``.
        lease: digest of the lease's token, if there is one; ``live``: it has not expired.
        seen: the item's revision when the lease was taken.
        command: a decision that is on its way to the item's owner.
        audited: the outcome without a person that an audit is about, which the reviewer is not shown.
    """

    item: str
    state: str
    entered: int
    reason: str
    severity: str
    policy: str
    lease: bytes | None = None
    reviewer: str | None = None
    live: bool = False
    seen: int | None = None
    leased_wall: dt.datetime | None = None
    command: str | None = None
    audited: str | None = None

    def held(self, account: str, token: bytes) -> bool:
        """Whether the account holds it under that lease."""
        return self.live and self.lease == token and self.reviewer == account


@dataclass(frozen=True, slots=True)
class EarlierDecision:
    """An earlier decision on an item, unless the item's owner refused it."""

    entered: int
    reviewer: str
    decision: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class AcceptedDecision:
    """A decision that is accepted now.

    Attributes:
        command: what carries it out; None: a proposal.
        agreed: whether the only earlier proposal said the same; None: there was none, or two that differ.
        settles: whether it settles earlier proposals.
    """

    item: str
    claim: str
    entered: int
    state: str
    reviewer: str
    role: str
    decision: str
    code: str | None
    kind: Kind
    command: str | None
    leased_wall: dt.datetime | None
    at: dt.datetime
    agreed: bool | None = None
    settles: bool = False


@dataclass(slots=True)
class DecisionContext:
    """What the group commit knows, in its transaction, about the items to decide; updated as it goes."""

    cases: dict[str, Case] = field(default_factory=dict)
    past: dict[str, list[EarlierDecision]] = field(default_factory=dict)
    conflicts: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Accounts that a reviewer may not decide about."""


def decide_rows(
    body: requests.Decide,
    account: Account,
    items: Sequence[ItemRef],
    context: DecisionContext,
    *,
    whole: bool,
    now: dt.datetime,
    wall_ms: int,
) -> Rows:
    """Accept a decision about one item, or (``whole``) about the items of a claim that the lease covers.

    Raises:
        Refused: 403, not this person's to decide; 404; 409, no lease, a lost one, decided already, or stale; 422.
    """
    part, targets = command_targets("decide", account, items)
    token = None if body.lease is None else digest(body.lease)
    if whole:
        if token is None:
            raise lease_needed()
        if body.revision is not None:
            raise Refused(
                422,
                "revision_of_a_claim",
                "A claim has no revision.",
                field="revision",
                cure="Leave the field out: each item's is the one of the lease. Or decide item by item.",
            )
        held = [ref for ref in targets if (case := context.cases.get(ref.item)) and case.held(account.id, token)]
        if not held:
            raise lease_lost()
        targets = held
    made = [_decide(body, account, part, ref, context, token, now, wall_ms) for ref in targets]
    rows = Rows(
        resource=next((command.command for command, _ in made if command is not None), new_id("p", wall_ms)),
        answer={
            "claim": targets[0].claim,
            "accepted_at": now,
            "commands": [
                {"command": command.command, "item": command.item} for command, _ in made if command is not None
            ],
            "proposed": [decided.item for command, decided in made if command is None],
        },
        commands=[command for command, _ in made if command is not None],
        command_kind="decide",
        decisions=[decided for _, decided in made],
    )
    for _, decided in made:
        _note(context, decided)
    return rows


def _decide(
    body: requests.Decide,
    account: Account,
    part: Part,
    ref: ItemRef,
    context: DecisionContext,
    token: bytes | None,
    now: dt.datetime,
    wall_ms: int,
) -> tuple[events.Decide | None, AcceptedDecision]:
    """The command, unless it is a proposal, and the decision to keep."""
    case = context.cases.get(ref.item)
    if case is not None:
        body = seen_through(body, case, ref.claim, by_lease=token is not None)
    if token is None:
        # break-glass: an operator may decide at once and alone, and the decision is marked as such. The item's owner,
        # who is ahead of what is known here, says whether the item still takes it
        if account.role != "operator":
            raise lease_needed()
    elif case is not None and case.command is not None:
        raise Refused(
            409,
            "already_decided",
            "The item has been decided already.",
            cure="Read the item: its state shows the decision.",
        )
    elif case is None or not case.held(account.id, token):
        raise lease_lost()
    check_conflict(account.id, (ref.complainant, ref.principal, ref.seller), context.conflicts.get(account.id, ()))
    entered = 0 if case is None else case.entered
    state = ref.state if case is None else case.state
    past = context.past.get(ref.item, [])
    # without a lease, the item's owner knows its state better than we do
    if barred(account.id, state if token is not None else "", entered, past):
        raise Refused(
            403,
            "decided_before",
            "You have decided this item before.",
            cure="Give it back, so that another person can decide it.",
        )
    proposals = [one for one in past if case is not None and one.kind == "proposal" and one.entered == entered]
    kind: Kind = "break_glass"
    if token is not None:
        assert case is not None
        kind = "decision"
        _check(body, case)
        if not proposals and _needs_two(case, body.decision):
            kind = "proposal"
        elif len(proposals) == 1 and proposals[0].decision != body.decision:
            kind = "proposal"  # two differ: a third person decides
    command = None
    if kind != "proposal":
        seen = case.seen if case is not None and token is not None else None
        command = events.Decide(
            command=new_id("k", wall_ms),
            item=ref.item,
            claim=ref.claim,
            listing=ref.listing,
            by=account.id,
            role=part,
            accepted_at=now,
            decision=body.decision,
            code=body.code,
            revision=seen if body.revision is None else body.revision,
            looked=tuple(one.reviewer for one in proposals),
            break_glass=kind == "break_glass",
        )
    return command, AcceptedDecision(
        item=ref.item,
        claim=ref.claim,
        entered=entered,
        state=state,
        reviewer=account.id,
        role=account.role,
        decision=body.decision,
        code=body.code,
        kind=kind,
        command=None if command is None else command.command,
        leased_wall=case.leased_wall if case is not None and token is not None else None,
        at=now,
        agreed=True if kind == "decision" and len(proposals) == 1 else None,
        settles=bool(proposals) and command is not None,
    )


def seen_through(body: requests.Decide, case: Case, claim: str, *, by_lease: bool) -> requests.Decide:
    """A decision in an audit, as one about the outcome that the reviewer was not shown.

    Of a rule's decision the audit is instead of it: there it is a decision like any other. Without a lease, an operator
    may decide about the outcome itself.

    Raises:
        Refused: 422, the decision is not one of an audit.
    """
    if case.audited is None or case.state != State.APPEALED or (not by_lease and body.decision not in BLIND):
        return body
    if body.decision not in BLIND:
        raise Refused(
            422,
            "decision_blind",
            f"An item of claim {claim} is decided as if nothing had happened to it yet.",
            field="decision",
            cure=f"Decide it by itself, with one of: {', '.join(BLIND)}.",
        )
    rules = policy.load(case.policy).audits
    assert rules is not None, "the policy drew it"
    agrees = (body.decision == "uphold") == (case.audited in UPHELD)
    return msgspec.structs.replace(
        body, decision="confirm" if agrees else "reverse", code=rules.agrees if agrees else rules.overturned
    )


def _check(body: requests.Decide, case: Case) -> None:
    """Refuse at once what the item's owner would refuse; for a proposal, that refusal would come late."""
    if body.revision is not None and body.revision < case.entered:
        raise Refused(
            409,
            "stale",
            "The item has left the state that was decided on, and has come back to it since.",
            field="revision",
            cure="Look at it again, then decide.",
        )
    takes = DECISIONS[State(case.state)]
    if body.decision not in takes:
        raise Refused(
            422,
            "decision_not_here",
            f"This decision does not fit an item in {case.state}.",
            field="decision",
            cure=f"Use one of: {', '.join(takes)}.",
        )
    known = codes(case.state, case.policy)
    if (body.decision == "refuse" or case.state == State.APPEALED) and known and body.code not in known:
        raise Refused(
            422,
            "reason_code",
            "This decision needs a reason code of the policy.",
            field="code",
            cure=f"Use one of: {', '.join(known)}.",
        )


def codes(state: str, version: str) -> dict[str, str]:
    """Reason codes that the policy has for decisions in that state, with their texts.

    A text says how to cure a refusal, or why a complaint was decided so. Empty if this process does not know the
    version yet.
    """
    try:
        rules = policy.load(version)
    except policy.PolicyError:
        return {}
    if state == State.APPEALED:
        return dict(rules.appeals.reasons)
    return dict(rules.refusals) if state == State.UNDER_REVIEW else {}


def triage_of(
    triage: events.Triage, version: str
) -> tuple[int | None, list[tuple[str, int, policy.TriageRule | None]]]:
    """The score without any rule, and the rules that fired with their weights, the heaviest first.

    The rules themselves are None if this process does not know the version yet.
    """
    try:
        rules = policy.load(version).triage
    except policy.PolicyError:
        rules = None
    known = {} if rules is None else rules.rules
    fired = sorted(triage.rules.items(), key=lambda rule: (-abs(rule[1]), rule[0]))
    return None if rules is None else rules.base, [(name, weight, known.get(name)) for name, weight in fired]


def _needs_two(case: Case, decision: str) -> bool:
    try:
        rules = policy.load(case.policy).review
    except policy.PolicyError:
        return True  # an unknown version: require two, to be safe
    return rules.two(case.reason, case.severity, decision)


def barred(account: str, state: str, entered: int, past: Sequence[EarlierDecision]) -> bool:
    """Whether the account decided before: by a proposal in this visit of the state or, on an appeal, at any time."""
    return any(
        one.reviewer == account and (state == State.APPEALED or (one.kind == "proposal" and one.entered == entered))
        for one in past
    )


def check_conflict(account: str, parties: Sequence[str | None], conflicts: Collection[str]) -> None:
    """Check that a person decides neither about their own account nor about one they have an interest in.

    Raises:
        Refused: 403.
    """
    if any(party is not None and (party == account or party in conflicts) for party in parties):
        raise Refused(
            403,
            "conflict_of_interest",
            "You have a conflict of interest in this case.",
            cure="Give it back, so that another person can decide it.",
        )


def _note(context: DecisionContext, decided: AcceptedDecision) -> None:
    """Note the decision for later requests of the same transaction."""
    case = context.cases.get(decided.item)
    if case is not None:
        case.lease, case.reviewer, case.live = None, None, False
        case.command = case.command or decided.command
    past = EarlierDecision(decided.entered, decided.reviewer, decided.decision, decided.kind)
    context.past.setdefault(decided.item, []).append(past)


def lease_needed() -> Refused:
    """409: a reviewer needs a lease to decide."""
    return Refused(
        409,
        "lease_needed",
        "A decision needs a lease on the case.",
        field="lease",
        cure="Take one: POST /v1/review/lease.",
    )


def lease_lost() -> Refused:
    """409: one answer for a lease that has ended, belongs to someone else, or never existed."""
    return Refused(
        409,
        "lease_lost",
        "You hold no such lease: it has expired, was given back, or the item has left the queue.",
        field="lease",
        cure="Take a new one: POST /v1/review/lease.",
    )


# -------------------------------------------------------------------------------------------------------------- figures


def share(part: int, of: int) -> float | None:
    """A share, rounded for display; None if ``of`` is zero."""
    return round(part / of, 4) if of else None
