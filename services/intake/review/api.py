"""Routes for the review queue: leases, cases, notes, conflicts of interest, figures. ``app.py`` takes decisions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from litestar import Request, delete, get, post, put
from litestar.params import HeaderParameter, QueryParameter

from services.intake.kernel import judged, metrics, requests
from services.intake.kernel import store as tables
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.web import (
    MAY_FAIL,
    STAFF,
    Body,
    ItemState,
    context_of,
    known_id,
    out,
)
from services.intake.kernel.weighed import audit_of, last_of, why_person
from services.intake.review import answers
from services.intake.review import domain as review
from services.intake.review import store as review_store
from shared import clock
from shared.events import DECISIONS, Lane, RightType, State, Triage
from shared.paging import Cursor, Limit, Moment, Page, key_of, page_of
from shared.problems import language_of
from shared.refusals import Refused

LeaseToken = Annotated[
    str | None,
    HeaderParameter(
        name="Lease-Token",
        required=False,
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Token of the lease, as `POST /v1/review/lease` returned it.",
    ),
]
Name = Annotated[str | None, QueryParameter(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
Rank = Annotated[int, msgspec.Meta(ge=0, lt=2**15)]
"""The rank of a case in a cursor."""
SPAN: Final = dt.timedelta(days=366)


_triage = msgspec.json.Decoder(Triage).decode


def triage_out(details: Mapping[str, Any], version: str, language: str) -> answers.CaseTriage | None:
    """What triage found, with what its rules look at, and in words why it decided nothing."""
    if details["triage"] is None:
        return None
    found = _triage(details["triage"])
    base, fired = review.triage_of(found, version)
    last = last_of(details["last"])
    return answers.CaseTriage(
        score=found.score,
        base=base,
        band=found.band,
        reasons=[
            answers.TriageReason(rule=name, weight=weight, signal=None)
            if rule is None
            else answers.TriageReason(
                rule=name, weight=weight, signal=rule.signal, at_least=rule.at_least, at_most=rule.at_most
            )
            for name, weight, rule in fired
        ],
        lacks=list(found.lacks),
        why_person=why_person(found, version, language, last.brake, other_seller=last.other_seller),
        signals=found.signals,
    )


def case_out(row: Mapping[str, Any], details: Mapping[str, Any], language: str) -> answers.CaseOut:
    """A case's row as the answer."""
    blind = audit_of(details["last"]) is not None
    return out(
        answers.CaseOut,
        {
            **row,
            "code": None if blind else row["code"],
            "due": None if blind else row["due"],  # how long there is tells a rule's outcome from a silence's
            "state": State.UNDER_REVIEW.value if blind else row["state"],
            "escalated": row["rank"] == review.ESCALATED,
            "blind": blind,
            "brake": last_of(details["last"]).brake,
            "decisions": list(review.BLIND if blind else DECISIONS[State(row["state"])]),
            "right": details["right"],
            "right_details": judged.right_of(details),
            "pictures": judged.pictures_of(details),
            "triage": None if blind else triage_out(details, row["policy"], language),
        },
    )


async def cases_out(
    request: Request[Account, Any, Any], rows: Sequence[Mapping[str, Any]], *, contents: bool
) -> list[answers.CaseOut]:
    """Cases' rows as the answer; ``contents``: with what the listings show."""
    context, items = context_of(request), [row["item"] for row in rows]
    details = await context.run(judged.details, items) if rows else {}
    cases = [case_out(row, details[row["item"]], language_of(request)) for row in rows]
    if contents:
        found = await judged.contents(context, items)
        for case in cases:
            case.listing_content = found[case.item]
            if case.blind:
                case.listing_content.state = None  # it tells of a hold
    return cases


async def lease_out(
    request: Request[Account, Any, Any], rows: Sequence[Mapping[str, Any]], token: str | None
) -> answers.LeaseOut:
    """A lease's cases as the answer."""
    cases = await cases_out(request, rows, contents=token is not None)
    codes: dict[str, str] = {}
    for case in cases:
        codes |= review.codes(case.state, case.policy)
    return answers.LeaseOut(
        token=token, expires=min((row["expires"] for row in rows), default=None), cases=cases, codes=codes
    )


def digest_of(token: str | None) -> bytes:
    """Digest of the lease token that a request names.

    Raises:
        Refused: 409, it names none.
    """
    if token is None:
        raise review.lease_needed()
    return review.digest(token)


# --------------------------------------------------------------------------------------------------------------- leases


@post(
    "/v1/review/lease",
    opt={"roles": STAFF},
    dto=Body[requests.TakeLease],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["review"],
)
async def take_lease(request: Request[Account, Any, Any], data: requests.TakeLease) -> answers.LeaseOut:
    """Lease the most urgent free case that the caller may decide, and more cases of its claim, up to `count`."""
    context = context_of(request)
    token = review.new_lease()
    try:
        rows = await context.run(
            review_store.take, request.user, data, review.digest(token), lease_s=context.settings.review_lease_s
        )
    except Refused:
        metrics.LEASES.labels("refused").inc()
        raise
    metrics.LEASES.labels("taken" if rows else "empty").inc()
    return await lease_out(request, rows, token if rows else None)


@post("/v1/review/lease/heartbeat", opt={"roles": STAFF}, status_code=200, responses=MAY_FAIL, tags=["review"])
async def prolong_lease(request: Request[Account, Any, Any], lease_token: LeaseToken = None) -> answers.LeaseOut:
    """Extend the lease. 409 once it is lost."""
    context = context_of(request)
    rows = await context.run(
        review_store.prolong,
        request.user,
        digest_of(lease_token),
        lease_s=context.settings.review_lease_s,
        hold_s=context.settings.review_hold_s,
    )
    return await lease_out(request, rows, None)


@delete("/v1/review/lease", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def give_back(request: Request[Account, Any, Any], lease_token: LeaseToken = None) -> None:
    """Give back all cases of the lease. They are offered again at once."""
    await context_of(request).run(review_store.give_back, request.user, digest_of(lease_token), None)


@post(
    "/v1/review/lease/skip",
    opt={"roles": STAFF},
    dto=Body[requests.SomeCases],
    return_dto=None,
    status_code=204,
    responses=MAY_FAIL,
    tags=["review"],
)
async def skip_cases(
    request: Request[Account, Any, Any], data: requests.SomeCases, lease_token: LeaseToken = None
) -> None:
    """Give cases back. The caller is not offered them again for a while."""
    context = context_of(request)
    await context.run(
        review_store.skip, request.user, digest_of(lease_token), data.items, skip_s=context.settings.review_skip_s
    )


@post(
    "/v1/review/lease/hand-over",
    opt={"roles": STAFF},
    dto=Body[requests.HandOver],
    return_dto=None,
    status_code=204,
    responses=MAY_FAIL,
    tags=["review"],
)
async def hand_over(
    request: Request[Account, Any, Any], data: requests.HandOver, lease_token: LeaseToken = None
) -> None:
    """Hand cases over to another reviewer, who is offered them before all others."""
    context = context_of(request)
    await context.run(
        review_store.hand_over,
        request.user,
        digest_of(lease_token),
        data.items,
        data.to,
        hand_over_s=context.settings.review_hand_over_s,
    )


# ---------------------------------------------------------------------------------------------------------------- cases


@get("/v1/review/cases", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def list_cases(
    request: Request[Account, Any, Any],
    item_state: ItemState = None,
    reason: Name = None,
    right_type: RightType | None = None,
    severity: Literal["general", "serious"] | None = None,
    lane: Lane | None = None,
    profile: Name = None,
    claim: Name = None,
    reviewer: Name = None,
    free: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[answers.CaseOut]:
    """Cases in the order in which they are offered. `reviewer`: those they hold; `free`: those nobody holds."""
    after = key_of(cursor, tuple[Rank, Moment, str])
    rows = await context_of(request).run(
        review_store.list_cases,
        after=after,
        limit=limit + 1,
        free=free,
        reviewer=reviewer,
        state=item_state,
        reason=reason,
        right_type=right_type,
        severity=severity,
        lane=lane,
        profile=profile,
        claim=claim,
    )
    page = page_of(rows, limit, review_store.key_of)
    return Page(items=await cases_out(request, page.items, contents=False), next=page.next)


@get("/v1/review/cases/{item_id:str}", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def get_case(request: Request[Account, Any, Any], item_id: str) -> answers.CaseOut:
    """One case, by its item."""
    row = await context_of(request).run(review_store.get_case, known_id(item_id))
    (case,) = await cases_out(request, [row], contents=True)
    return case


@post(
    "/v1/review/cases/{item_id:str}/notes",
    opt={"roles": STAFF},
    dto=Body[requests.AddNote],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["review"],
)
async def add_note(request: Request[Account, Any, Any], item_id: str, data: requests.AddNote) -> answers.NoteOut:
    """Add a note on an item, for staff only.

    It is stored unencrypted, for as long as the item, so leave out personal data.
    """

    def work(connection: sa.Connection) -> review_store.Row:
        now, wall = clock.read(connection)
        id = new_id("n", tables.wall_ms(wall))
        return review_store.add_note(connection, id, known_id(item_id), request.user.id, data.text, now)

    return out(answers.NoteOut, await context_of(request).run(work))


@get("/v1/review/cases/{item_id:str}/notes", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def list_notes(
    request: Request[Account, Any, Any], item_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.NoteOut]:
    """Notes on an item, oldest first."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await context_of(request).run(review_store.notes, known_id(item_id), after, limit + 1)
    return page_of([out(answers.NoteOut, row) for row in rows], limit, lambda note: (note.id,))


# ------------------------------------------------------------------------------------------------------------ conflicts


def _whose(caller: Account, reviewer: str | None) -> str:
    if reviewer not in (None, caller.id) and caller.role != "operator":
        raise Refused(
            403, "operators_only", "Only an operator may name another.", field="reviewer", cure="Leave the field out."
        )
    return reviewer or caller.id


@get("/v1/review/conflicts", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def list_conflicts(request: Request[Account, Any, Any], reviewer: Name = None) -> answers.ConflictsOut:
    """Accounts that the caller may not decide about. An operator may ask for another reviewer's."""
    whose = _whose(request.user, reviewer)
    declared, set_by_operator = await context_of(request).run(review_store.declared, whose)
    return answers.ConflictsOut(reviewer=whose, declared=declared, set_by_operator=set_by_operator)


@put(
    "/v1/review/conflicts",
    opt={"roles": STAFF},
    dto=Body[requests.DeclareConflicts],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["review"],
)
async def declare_conflicts(
    request: Request[Account, Any, Any], data: requests.DeclareConflicts
) -> answers.ConflictsOut:
    """Declare accounts that the caller, or a reviewer named by an operator, may not decide about.

    Leases on their cases end.
    """
    whose = _whose(request.user, data.reviewer)

    def work(connection: sa.Connection) -> tuple[list[str], list[str]]:
        review_store.declare(connection, whose, data.accounts, own=whose == request.user.id)
        return review_store.declared(connection, whose)

    declared, set_by_operator = await context_of(request).run(work)
    return answers.ConflictsOut(reviewer=whose, declared=declared, set_by_operator=set_by_operator)


# -------------------------------------------------------------------------------------------------------------- figures


@get("/v1/review/figures", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["review"])
async def figures(
    request: Request[Account, Any, Any],
    since: Annotated[dt.date | None, QueryParameter(description="First day (UTC); default: 30 days ago.")] = None,
    until: Annotated[dt.date | None, QueryParameter(description="Last day (UTC); default: today.")] = None,
    reviewer: Name = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> answers.ReviewFigures:
    """The queue's depth, and what reviewers did by day. A reviewer sees their own work, an operator everyone's."""
    after = key_of(cursor, tuple[str, dt.date])
    if request.user.role != "operator":
        reviewer = _whose(request.user, reviewer)

    def work(connection: sa.Connection) -> tuple[list[review_store.Row], list[review_store.Row]]:
        now, _ = clock.read(connection)
        last = until or now.date()
        first = since or last - min(dt.timedelta(days=30), last - dt.date.min)
        if not 1900 <= first.year <= last.year <= 2300 or not first <= last <= first + SPAN:
            raise Refused(
                422,
                "bad_span",
                "The last day must not be before the first one, nor more than 366 days after it.",
                field="until",
                cure="Ask for a shorter span.",
            )
        begin, end = (dt.datetime.combine(day, dt.time(), dt.UTC) for day in (first, last + dt.timedelta(days=1)))
        return review_store.depth(connection), review_store.by_day(
            connection, since=begin, until=end, reviewer=reviewer, after=after, limit=limit + 1
        )

    depth, rows = await context_of(request).run(work)
    page = page_of([_day_out(row) for row in rows], limit, lambda day: (day.reviewer, day.day))
    return answers.ReviewFigures(
        queue=[out(answers.QueueDepth, row) for row in depth], reviewers=page.items, next=page.next
    )


def _day_out(row: Mapping[str, Any]) -> answers.ReviewerDay:
    return out(
        answers.ReviewerDay,
        {
            **row,
            "agreement": review.share(row["agreed"], row["compared"]),
            "confirmation": review.share(row["confirmed"], row["appealed"]),
        },
    )


ROUTES: Final = [
    take_lease,
    prolong_lease,
    give_back,
    skip_cases,
    hand_over,
    list_cases,
    get_case,
    add_note,
    list_notes,
    list_conflicts,
    declare_conflicts,
    figures,
]
