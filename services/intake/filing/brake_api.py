"""Routes about the brake: what holds an account's claims back, since when, what ends it, and complaints about it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, Literal

import sqlalchemy as sa
from litestar import Request, get, post

from services.intake.filing import answers, brake, brakes
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.web import HOLDER, MAY_FAIL, STAFF, Body, context_of, known_id
from shared import clock, languages, policy
from shared.languages import mark
from shared.paging import Cursor, Limit, Page, key_of, page_of
from shared.problems import language_of
from shared.refusals import Refused

PROFILE: Final = "ipp"
"""Whose newest version explains: an account has one history, whatever the profiles of its claims."""
ENDS: Final = {
    "probation": mark("It ends once {number} of your items are settled, or when a person releases your account."),
    "rate": mark("It ends on {day}, or when a person releases your account."),
}


def terms() -> policy.Brake:
    """The terms in force.

    Raises:
        Refused: 404, the programme has no brake.
    """
    found = policy.current(PROFILE).brake
    if found is None:
        raise Refused(404, "not_found", "The programme has no brake.", cure="Nothing to do.")
    return found


def brake_out(found: brakes.Standing, day: dt.date, rules: policy.Brake, language: str) -> answers.BrakeOut:
    """Where an account stands, in the reader's language."""
    state = brake.holding(found.counters, day, rules)
    put_on = found.brake
    ends = None
    if state is not None:
        ends = ENDS[state].format(number=rules.probation_settled, day=found.counters.until)
    complaint: Literal["none", "open", "confirmed", "released"] = "none"
    if put_on is not None and put_on["complained_at"] is not None:
        complaint = "open" if put_on["decided_at"] is None else "confirmed"
        if put_on["decision"] == "release":
            complaint = "released"
    return answers.BrakeOut(
        state=state or "none",
        # nothing was more than rules may decide unless something was held back
        why=languages.translate(rules.says[state], language) if state == "rate" or (state and found.held) else None,
        since=put_on["since"] if put_on is not None and state == "rate" else None,
        until=found.counters.until if state == "rate" else None,
        ends=None if ends is None else languages.translate(ends, language),
        decided_by_rules_today=found.counters.today,
        held_back_today=found.held,
        most_today=0 if state == "rate" else brake.allowed(found.counters, rules),
        best_day=found.counters.best,
        settled=found.counters.settled,
        complaint=complaint,
        released_until=found.counters.released,
    )


async def _standing(request: Request[Account, Any, Any], account: str | None) -> answers.BrakeOut:
    rules = terms()

    def work(connection: sa.Connection) -> answers.BrakeOut:
        person = store.existing(connection, request.user.id if account is None else account)
        now, _ = clock.read(connection)
        day = now.astimezone(dt.UTC).date()
        found = brakes.standing(connection, person, day, rules)
        return brake_out(found, day, rules, language_of(request))

    return await context_of(request).run(work)


@get("/v1/brake", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["brake"])
async def my_brake(request: Request[Account, Any, Any]) -> answers.BrakeOut:
    """Whether people decide the caller's claims because of how much it filed: why, since when, and what ends it."""
    return await _standing(request, None)


@get("/v1/accounts/{account_id:str}/brake", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["brake"])
async def brake_of(request: Request[Account, Any, Any], account_id: str) -> answers.BrakeOut:
    """Whether people decide an account's claims because of how much it filed."""
    return await _standing(request, known_id(account_id))


@post("/v1/brake/complaint", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["brake"])
async def complain_of_brake(request: Request[Account, Any, Any]) -> answers.BrakeOut:
    """Complain, once, about what holds the caller's claims back. A person decides."""
    rules = terms()

    def work(connection: sa.Connection) -> None:
        now, _ = clock.read(connection)
        brakes.complain(connection, store.existing(connection, request.user.id), now, rules)

    await context_of(request).run(work)
    return await _standing(request, None)


@get("/v1/brake/complaints", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["brake"])
async def list_brake_complaints(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.BrakeComplaint]:
    """Undecided complaints about what holds accounts' claims back, by account."""
    (after,) = key_of(cursor, tuple[str]) or (None,)
    rows = await context_of(request).run(brakes.complaints, after, limit + 1)
    found = [
        answers.BrakeComplaint(account=row["account"], since=row["since"], complained_at=row["complained_at"])
        for row in rows
    ]
    return page_of(found, limit, lambda one: (one.account,))


@post(
    "/v1/accounts/{account_id:str}/brake/decision",
    opt={"roles": STAFF},
    dto=Body[requests.DecideBrake],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["brake"],
)
async def decide_brake(
    request: Request[Account, Any, Any], account_id: str, data: requests.DecideBrake
) -> answers.BrakeOut:
    """Decide a complaint: `release` lets rules decide the account's claims again, for as long as a brake lasts."""
    rules, account = terms(), known_id(account_id)
    reasons = policy.current(PROFILE).appeals.reasons
    if data.code not in reasons:
        raise Refused(
            422,
            "unknown_code",
            "There is no such reason for a decision on a complaint.",
            field="code",
            cure=f"Use one of: {', '.join(sorted(reasons))}.",
        )

    def work(connection: sa.Connection) -> None:
        now, _ = clock.read(connection)
        store.existing(connection, account)
        release = data.decision == "release"
        brakes.decide(connection, account, request.user, now, rules, release=release, code=data.code)

    await context_of(request).run(work)
    return await _standing(request, account)


ROUTES: Final[list[Any]] = [my_brake, brake_of, complain_of_brake, list_brake_complaints, decide_brake]
