"""Routes for misuse by complainants: standing, figures, history, reviewers' findings, complaints and decisions."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from litestar import Request, get, post

from services.intake.kernel import metrics, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.web import (
    HOLDER,
    MAY_FAIL,
    STAFF,
    Body,
    Context,
    context_of,
    known_id,
)
from services.intake.misuse import answers, complaints, findings, held
from services.intake.misuse import store as misuse_store
from services.intake.misuse.domain import MeasureChange
from services.intake.misuse.figures import MeasureBasis
from shared import clock, policy
from shared.paging import Cursor, Limit, Moment, Page, RowNumber, key_of, page_of

SHOWN: Final = 50
"""Measures that the standing shows."""
_PURPOSE: Final = "misuse-complaint"
_basis: Final = msgspec.json.Decoder(MeasureBasis)


@get("/v1/misuse", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["misuse"])
async def my_misuse(request: Request[Account, Any, Any]) -> answers.MisuseOut:
    """Measures against misuse by the caller, what they are based on, by which rules, and how to complain."""
    return await _standing(request, request.user.id)


@get("/v1/misuse/history", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["misuse"])
async def my_misuse_history(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.MisuseChange]:
    """History of measures against the caller, latest first, each entry with the figures it was based on."""
    return await _history(request, request.user.id, cursor, limit)


@get("/v1/accounts/{account_id:str}/misuse", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def misuse_of(request: Request[Account, Any, Any], account_id: str) -> answers.MisuseOut:
    """Measures against misuse by an account, what they are based on, and by which rules."""
    return await _standing(request, known_id(account_id))


@get("/v1/accounts/{account_id:str}/misuse/history", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def misuse_history_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.MisuseChange]:
    """History of measures against an account, latest first, each entry with the figures it was based on."""
    return await _history(request, known_id(account_id), cursor, limit)


@post(
    "/v1/accounts/{account_id:str}/misuse/findings",
    opt={"roles": STAFF},
    dto=Body[requests.FindMisuse],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["misuse"],
)
async def find_misuse(
    request: Request[Account, Any, Any], account_id: str, data: requests.FindMisuse
) -> answers.FindingOut:
    """Record a finding about an account's intent: a forged document, a claim known to be untrue, or no such intent."""
    context, account = context_of(request), known_id(account_id)

    def work(connection: sa.Connection) -> tuple[answers.FindingOut, list[MeasureChange]]:
        id, made = findings.record(connection, account, data, request.user, rules(context), context.settings.partitions)
        return answers.FindingOut(**findings.get(connection, id)), made

    answer, made = await context.run(work)
    _count(made)
    context.forget(account=account)
    return answer


@get("/v1/accounts/{account_id:str}/misuse/findings", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def findings_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.FindingOut]:
    """Findings about an account, latest first, with the rights and claims that rest on the documents."""
    account, before = known_id(account_id), key_of(cursor, tuple[Moment, str])

    def work(connection: sa.Connection) -> list[store.Row]:
        store.existing(connection, account)
        return findings.list_findings(connection, account, before, limit + 1)

    found = [answers.FindingOut(**row) for row in await context_of(request).run(work)]
    return page_of(found, limit, lambda finding: (finding.at, finding.id))


@post(
    "/v1/misuse/findings/{finding_id:str}/second",
    opt={"roles": STAFF},
    dto=Body[requests.SecondFinding],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["misuse"],
)
async def second_finding(
    request: Request[Account, Any, Any], finding_id: str, data: requests.SecondFinding
) -> answers.FindingOut:
    """Agree or disagree, as a second reviewer, with a finding that needs four eyes."""
    context, id = context_of(request), known_id(finding_id)

    def work(connection: sa.Connection) -> tuple[answers.FindingOut, list[MeasureChange]]:
        made = findings.second(connection, id, data.agree, request.user, rules(context), context.settings.partitions)
        return answers.FindingOut(**findings.get(connection, id)), made

    answer, made = await context.run(work)
    _count(made)
    context.forget(account=answer.account)
    return answer


@post(
    "/v1/misuse/{measure_id:str}/complaint",
    opt={"roles": HOLDER},
    dto=Body[requests.ComplainOfMeasure],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["misuse"],
)
async def complain_of_measure(
    request: Request[Account, Any, Any], measure_id: str, data: requests.ComplainOfMeasure
) -> answers.MeasureOut:
    """Complain about a measure against the caller, once, within six months. A person who had no part in it decides."""
    context, caller, id = context_of(request), request.user, known_id(measure_id)

    def work(connection: sa.Connection) -> answers.MeasureOut:
        complaints.file(
            connection,
            id,
            caller,
            data,
            lambda wrapped, text: context.contacts.seal_text(caller.id, wrapped, text, _PURPOSE),
            lambda: context.contacts.new_key(caller.id),
        )
        return measure_out(misuse_store.measure_row(connection, id))

    return await context.run(work)


@get("/v1/misuse/complaints", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def open_complaints(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.MeasureComplaint]:
    """Undecided complaints about measures, oldest first."""
    context = context_of(request)
    rows = await context.run(complaints.open_complaints, key_of(cursor, tuple[Moment, str]), limit + 1)
    found = []
    for row in rows:
        statement: str | None = None
        if row["sealed"] is not None and row["wrapped"] is not None:
            with contextlib.suppress(InvalidTag):  # sealed under a key that was erased since
                statement = context.contacts.open_text(
                    row["account"], bytes(row["wrapped"]), bytes(row["sealed"]), _PURPOSE
                ).decode()
        found.append(
            answers.MeasureComplaint(
                measure=row["measure"],
                account=row["account"],
                kind=row["kind"],
                finding=row["finding"],
                at=row["at"],
                statement=statement,
            )
        )
    return page_of(found, limit, lambda complaint: (complaint.at, complaint.measure))


@post(
    "/v1/misuse/{measure_id:str}/decision",
    opt={"roles": STAFF},
    dto=Body[requests.DecideMeasure],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["misuse"],
)
async def decide_measure(
    request: Request[Account, Any, Any], measure_id: str, data: requests.DecideMeasure
) -> answers.MeasureOut:
    """Decide a complaint: the measure stands, or it and what followed from it count as never taken."""
    context, id = context_of(request), known_id(measure_id)

    def work(connection: sa.Connection) -> tuple[str, answers.MeasureOut, list[MeasureChange]]:
        account, made = complaints.decide(
            connection, id, data, request.user, rules(context), context.settings.partitions
        )
        return account, measure_out(misuse_store.measure_row(connection, id)), made

    account, answer, made = await context.run(work)
    _count(made)
    context.forget(account=account)
    return answer


ROUTES: Final = [
    my_misuse,
    my_misuse_history,
    misuse_of,
    misuse_history_of,
    find_misuse,
    findings_of,
    second_finding,
    complain_of_measure,
    open_complaints,
    decide_measure,
]


# --------------------------------------------------------------------------------------------------------------- helpers


def rules(context: Context) -> policy.Policy:
    """The policy by which misuse is judged now."""
    return policy.current(context.settings.misuse_profile)


def _count(made: Iterable[MeasureChange]) -> None:
    """Count what followed from a person's decision, once it is committed."""
    for change in made:
        metrics.MISUSE_CHANGES.labels(change.kind).inc()


async def _standing(request: Request[Account, Any, Any], account: str) -> answers.MisuseOut:
    context = context_of(request)
    given = rules(context)

    def work(connection: sa.Connection) -> answers.MisuseOut:
        who = store.existing(connection, account)
        day = clock.read(connection)[0].date()
        runs = who.misuse_until is None or day < who.misuse_until
        limited = who.under("quota", day)
        return answers.MisuseOut(
            account=account,
            state=who.misuse if runs else "clear",
            until=who.misuse_until if runs else None,
            items=who.misuse_items if limited else None,
            used=misuse_store.used(connection, account, day) if limited else None,
            held=held.waiting(connection, account),
            figures=figures_out(misuse_store.basis_now(connection, account, day, given)),
            rules=[
                answers.MisuseRule(
                    measure=step.measure,
                    notices=step.notices,
                    number=step.number,
                    share=step.share.text,
                    weight=step.weight,
                    again=step.again,
                    after=step.after.text,
                    lasts=None if step.lasts is None else step.lasts.text,
                    items=step.items,
                )
                for step in given.misuse.steps
            ],
            measures=[measure_out(row) for row in misuse_store.measure_rows(connection, account, SHOWN)],
        )

    return await context.run(work)


async def _history(
    request: Request[Account, Any, Any], account: str, cursor: str | None, limit: int
) -> Page[answers.MisuseChange]:
    (before,) = key_of(cursor, tuple[RowNumber]) or (None,)

    def work(connection: sa.Connection) -> list[dict[str, Any]]:
        store.existing(connection, account)
        found = misuse_store.history(connection, account, before, limit + 1)
        return store.without_staff(connection, request.user, found)

    rows = await context_of(request).run(work)
    changes = [
        answers.MisuseChange(
            id=row["id"],
            measure=row["measure"],
            day=row["day"],
            at=row["at"],
            kind=row["kind"],
            by=row["by"],
            figures=figures_out(_basis.decode(row["basis"])),
        )
        for row in rows
    ]
    return page_of(changes, limit, lambda change: (change.id,))


def figures_out(basis: MeasureBasis) -> answers.MisuseFigures:
    """Figures as the API shows them."""
    facts = basis.facts
    return answers.MisuseFigures(
        window_from=basis.window_from,
        window_to=basis.window_to,
        settled=facts.settled,
        unfounded=facts.items,
        notices=facts.notices,
        number=facts.number,
        share=round(facts.items / facts.settled, 6) if facts.settled else None,
        weight=facts.weight,
        knowingly=facts.knowingly,
        again=facts.again,
        grounds=facts.grounds,
        policy=basis.policy,
    )


def measure_out(row: Mapping[str, Any]) -> answers.MeasureOut:
    """A measure as the API shows it."""
    basis = _basis.decode(row["basis"])
    own: dict[str, Any] = {name: row[name] for name in answers.MeasureOut.__struct_fields__ if name in row}
    last: dt.datetime = row["at"] + policy.load(basis.policy).misuse.complaint.exact
    return answers.MeasureOut(**own, complain_until=last, figures=figures_out(basis))
