"""Routes for the good-faith takedown mechanism: standing and figures, history, the declaration, leaving."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from litestar import Request, delete, get, post

from services.intake.goodfaith import answers
from services.intake.goodfaith import store as goodfaith_store
from services.intake.goodfaith.domain import Counts
from services.intake.goodfaith.store import StandingBasis
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.web import (
    EVERYONE,
    HOLDER,
    MAY_FAIL,
    STAFF,
    Body,
    context_of,
    known_id,
)
from shared import clock, declarations, policy
from shared.paging import Cursor, Limit, Page, RowNumber, key_of, page_of
from shared.refusals import Refused

_PURPOSE: Final = "declaration"
_basis: Final = msgspec.json.Decoder(StandingBasis)


class _Signatory(msgspec.Struct, frozen=True):
    """Who signed a declaration. Stored sealed."""

    name: str
    capacity: str


@get("/v1/good-faith", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["good faith"])
async def my_good_faith(request: Request[Account, Any, Any]) -> answers.GoodFaithOut:
    """The caller's standing with the good-faith mechanism, and its current figures."""
    return await context_of(request).run(_standing, request.user.id)


@get("/v1/good-faith/history", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["good faith"])
async def my_good_faith_history(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.GoodFaithChange]:
    """Changes to the caller's standing, latest first, each with the figures it was based on."""
    return await _history(request, request.user.id, cursor, limit)


@get("/v1/good-faith/declaration", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["good faith"])
async def get_declaration(request: Request[Account, Any, Any]) -> answers.DeclarationOut:
    """The *Declaration on Joining the Good-faith Takedown Mechanism* in force."""
    text = declarations.load(goodfaith_store.terms().declaration)
    return answers.DeclarationOut(version=text.version, sha256=text.sha256, text=text.text)


@post(
    "/v1/good-faith/declaration",
    opt={"roles": HOLDER},
    dto=Body[requests.ExecuteDeclaration],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["good faith"],
)
async def execute_declaration(
    request: Request[Account, Any, Any], data: requests.ExecuteDeclaration
) -> answers.GoodFaithOut:
    """Execute the declaration: a verified account that is not barred takes part from now on."""
    context, caller = context_of(request), request.user.id
    text = declarations.load(goodfaith_store.terms().declaration)
    for field, given, wanted in (("version", data.version, text.version), ("sha256", data.sha256, text.sha256)):
        if given != wanted:
            raise Refused(
                422,
                "not_this_text",
                "This is not the declaration in force.",
                field=field,
                cure="Read GET /v1/good-faith/declaration, and execute that text.",
            )
    signatory = msgspec.json.encode(_Signatory(data.name, data.capacity))

    def work(connection: sa.Connection) -> answers.GoodFaithOut:
        goodfaith_store.execute(
            connection,
            caller,
            text,
            lambda wrapped: context.contacts.seal_text(caller, wrapped, signatory, _PURPOSE),
            lambda: context.contacts.new_key(caller),
            context.settings.partitions,
            policy.current(context.settings.misuse_profile),
        )
        return _standing(connection, caller)

    answer = await context.run(work)
    context.forget(account=caller)
    return answer


@delete("/v1/good-faith", opt={"roles": HOLDER}, status_code=200, responses=MAY_FAIL, tags=["good faith"])
async def leave_good_faith(request: Request[Account, Any, Any]) -> answers.GoodFaithOut:
    """Leave the mechanism. The caller may not rejoin for the number of months that the policy sets."""
    context, caller = context_of(request), request.user.id

    def work(connection: sa.Connection) -> answers.GoodFaithOut:
        goodfaith_store.leave(connection, caller, context.settings.partitions)
        return _standing(connection, caller)

    answer = await context.run(work)
    context.forget(account=caller)
    return answer


@get("/v1/accounts/{account_id:str}/good-faith", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["good faith"])
async def good_faith_of(request: Request[Account, Any, Any], account_id: str) -> answers.GoodFaithOut:
    """An account's standing with the good-faith mechanism, and its current figures."""
    return await context_of(request).run(_standing, known_id(account_id))


@get("/v1/accounts/{account_id:str}/good-faith/history", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["good faith"])
async def good_faith_history_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.GoodFaithChange]:
    """Changes to an account's standing, latest first, each with the figures it was based on."""
    return await _history(request, known_id(account_id), cursor, limit)


@get(
    "/v1/accounts/{account_id:str}/good-faith/declarations",
    opt={"roles": STAFF},
    responses=MAY_FAIL,
    tags=["good faith"],
)
async def declarations_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.DeclarationExecuted]:
    """Declarations that an account executed, latest first, and who signed."""
    context, account = context_of(request), known_id(account_id)
    (before,) = key_of(cursor, tuple[RowNumber]) or (None,)

    def work(connection: sa.Connection) -> list[dict[str, Any]]:
        store.existing(connection, account)
        return goodfaith_store.executed(connection, account, before, limit + 1)

    rows = await context.run(work)
    found = []
    for row in rows:
        signed: _Signatory | None = None
        if row["wrapped"] is not None:
            try:
                plain = context.contacts.open_text(account, bytes(row["wrapped"]), bytes(row["sealed"]), _PURPOSE)
                signed = msgspec.json.decode(plain, type=_Signatory)
            except InvalidTag:  # sealed under a key that was erased since
                signed = None
        found.append(
            answers.DeclarationExecuted(
                id=row["id"],
                version=row["version"],
                sha256=row["sha256"],
                executed_at=row["executed_at"],
                name=None if signed is None else signed.name,
                capacity=None if signed is None else signed.capacity,
            )
        )
    return page_of(found, limit, lambda entry: (entry.id,))


ROUTES: Final = [
    my_good_faith,
    my_good_faith_history,
    get_declaration,
    execute_declaration,
    leave_good_faith,
    good_faith_of,
    good_faith_history_of,
    declarations_of,
]


# --------------------------------------------------------------------------------------------------------------- helpers


def _standing(connection: sa.Connection, account: str) -> answers.GoodFaithOut:
    store.existing(connection, account)
    today = clock.read(connection)[0].date()
    now = goodfaith_store.standing(connection, account)
    return answers.GoodFaithOut(
        account=account,
        member=now.member,
        state=now.state,
        how=now.how,
        since=now.since,
        demote_on=now.demote_on,
        barred_until=now.barred_until if now.barred(today) else None,
        figures=_figures(goodfaith_store.basis_now(connection, account, today)),
    )


async def _history(
    request: Request[Account, Any, Any], account: str, cursor: str | None, limit: int
) -> Page[answers.GoodFaithChange]:
    (before,) = key_of(cursor, tuple[RowNumber]) or (None,)

    def work(connection: sa.Connection) -> list[store.Row]:
        store.existing(connection, account)
        found = goodfaith_store.history(connection, account, before, limit + 1)
        return store.without_staff(connection, request.user, found)

    rows = await context_of(request).run(work)
    changes = [
        answers.GoodFaithChange(
            **{name: value for name, value in row.items() if name != "basis"},
            figures=_figures(_basis.decode(row["basis"])),
        )
        for row in rows
    ]
    return page_of(changes, limit, lambda change: (change.id,))


def _counts(counts: Counts) -> answers.CountsOut:
    return answers.CountsOut(
        settled=counts.settled,
        upheld=counts.upheld,
        taken_down=counts.taken_down,
        restored=counts.restored,
        takedown_rate=round(counts.upheld / counts.settled, 6) if counts.settled else None,
        counter_rate=round(counts.restored / counts.taken_down, 6) if counts.taken_down else None,
    )


def _figures(basis: StandingBasis) -> answers.FiguresOut:
    return answers.FiguresOut(
        window_from=basis.window_from,
        window_to=basis.window_to,
        overall=_counts(basis.overall),
        reasons={reason: _counts(counts) for reason, counts in basis.reasons.items()},
        verdict=basis.verdict,
        misses=[answers.MissOut(reason=m.reason, rate=m.rate, part=m.part, whole=m.whole) for m in basis.misses],
        takedown_rate=basis.takedown_rate,
        counter_rate=basis.counter_rate,
        min_items=basis.min_items,
        reason_min_items=basis.reason_min_items,
        policy=basis.policy,
    )
