"""Routes of misuse by complainants: standing and figures, history, reviewers' findings, complaints and decisions on them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa
from litestar import Request, get

from services.intake import answers, domain, misuse_store, store
from services.intake.domain import Account
from services.intake.misuse_store import Basis
from services.intake.web import HOLDER, MAY_FAIL, STAFF, Cursor, Front, Limit, front_of, key_of, known_id, page_of
from shared import clock, policy

SHOWN: Final = 50
"""Measures that the standing shows."""
_basis: Final = msgspec.json.Decoder(Basis)


@get("/v1/misuse", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["misuse"])
async def my_misuse(request: Request[Account, Any, Any]) -> answers.MisuseOut:
    """Measures against misuse by the caller, what they stand on, by which rules, and how to complain."""
    return await _standing(request, request.user.id)


@get("/v1/misuse/history", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["misuse"])
async def my_misuse_history(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.MisuseChange]:
    """What happened to measures against the caller, latest first, each with the numbers that it stood on."""
    return await _history(request, request.user.id, cursor, limit, staff=False)


@get("/v1/accounts/{account_id:str}/misuse", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def misuse_of(request: Request[Account, Any, Any], account_id: str) -> answers.MisuseOut:
    """Measures against misuse by an account, what they stand on, and by which rules."""
    return await _standing(request, known_id(account_id))


@get("/v1/accounts/{account_id:str}/misuse/history", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["misuse"])
async def misuse_history_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.MisuseChange]:
    """What happened to measures against an account, latest first, each with the numbers that it stood on."""
    return await _history(request, known_id(account_id), cursor, limit, staff=True)


ROUTES: Final = [my_misuse, my_misuse_history, misuse_of, misuse_history_of]


# --------------------------------------------------------------------------------------------------------------- helpers


def rules(front: Front) -> policy.Policy:
    """By which misuse is judged now."""
    return policy.current(front.settings.misuse_profile)


def _known(connection: sa.Connection, account: str) -> Account:
    found = store.accounts(connection, [account]).get(account)
    if found is None:
        raise domain.not_found()
    return found


async def _standing(request: Request[Account, Any, Any], account: str) -> answers.MisuseOut:
    front = front_of(request)
    given = rules(front)

    def work(connection: sa.Connection) -> answers.MisuseOut:
        who = _known(connection, account)
        day = clock.read(connection)[0].date()
        runs = who.misuse_until is None or day < who.misuse_until
        limited = who.under("quota", day)
        return answers.MisuseOut(
            account=account,
            state=who.misuse if runs else "clear",
            until=who.misuse_until if runs else None,
            items=who.misuse_items if limited else None,
            used=misuse_store.used(connection, account, day) if limited else None,
            held=misuse_store.held(connection, account),
            figures=figures_out(misuse_store.basis_now(connection, account, day, given)),
            rules=[
                answers.MisuseRule(
                    measure=step.measure, number=step.number, share=step.share.text, weight=step.weight, again=step.again,
                    after=step.after.text, lasts=None if step.lasts is None else step.lasts.text, items=step.items,
                )
                for step in given.misuse.steps
            ],
            measures=[measure_out(row) for row in misuse_store.rows(connection, account, SHOWN)],
        )  # fmt: skip

    return await front.run(work)


async def _history(
    request: Request[Account, Any, Any], account: str, cursor: str | None, limit: int, *, staff: bool
) -> answers.Page[answers.MisuseChange]:
    (before,) = key_of(cursor, tuple[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]]) or (None,)

    def work(connection: sa.Connection) -> list[dict[str, Any]]:
        _known(connection, account)
        return misuse_store.history(connection, account, before, limit + 1)

    rows = await front_of(request).run(work)
    changes = [
        answers.MisuseChange(
            id=row["id"], measure=row["measure"], day=row["day"], at=row["at"], kind=row["kind"],
            by=_by(row["by"], account, staff), figures=figures_out(_basis.decode(row["basis"])),
        )
        for row in rows
    ]  # fmt: skip
    return page_of(changes, limit, lambda change: (change.id,))


def _by(by: str, account: str, staff: bool) -> str:
    """Who did it: which reviewer it was is no business of the account's."""
    return by if staff or by in (account, misuse_store.SYSTEM) else "reviewer"


def figures_out(basis: Basis) -> answers.MisuseFigures:
    """The numbers as shown."""
    facts = basis.facts
    return answers.MisuseFigures(
        window_from=basis.window_from,
        window_to=basis.window_to,
        settled=facts.settled,
        unfounded=facts.items,
        number=facts.number,
        share=round(facts.items / facts.settled, 6) if facts.settled else None,
        weight=facts.weight,
        knowingly=facts.knowingly,
        again=facts.again,
        grounds=facts.grounds,
        policy=basis.policy,
    )


def measure_out(row: Mapping[str, Any]) -> answers.MeasureOut:
    """A measure as shown."""
    basis = _basis.decode(row["basis"])
    own: dict[str, Any] = {name: row[name] for name in answers.MeasureOut.__struct_fields__ if name in row}
    last: dt.datetime = row["at"] + policy.load(basis.policy).misuse.complaint.exact
    return answers.MeasureOut(**own, complain_until=last, figures=figures_out(basis))
