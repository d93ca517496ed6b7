"""Routes about sellers: their standing, the reasons for it, and what operators watch about repeat offenders.

They ask enforcement's internal API; who may ask what is decided here. While it is unavailable these routes, and no
others, answer 503.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from litestar import Request, get, post
from litestar.params import QueryParameter

from services.intake.kernel import judged, requests
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import busy
from services.intake.kernel.web import (
    MAY_FAIL,
    OPERATOR,
    SELLER,
    STAFF,
    Body,
    answered,
    context_of,
    known_id,
    out,
)
from services.intake.sellers import answers
from services.intake.sellers import store as standing_store
from shared.events import Measure
from shared.languages import mark, translate
from shared.paging import Cursor, Limit, Page
from shared.problems import language_of
from shared.refusals import Refused
from shared.standing import Consequence, Entry, Explanation, Figures, Sanction, Sort, Standing, Violation

_T = TypeVar("_T")
Tier = Annotated[
    str | None, QueryParameter(min_length=1, max_length=20, pattern=r"^[0-9+-]+$", description="`2`, `3-5`, `6+`.")
]
Entity = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=120,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="A business: `entity` of a standing.",
    ),
]
Time = Annotated[str | None, QueryParameter(max_length=40, description="A time with its zone: `2026-11-24T12:00:00Z`.")]
Steps = Annotated[int, QueryParameter(ge=1, le=1000, description="Most steps to show; the latest ones are shown.")]


async def ask(request: Request[Account, Any, Any], path: str, kind: type[_T], **params: Any) -> _T:
    """Ask enforcement.

    Raises:
        Refused: what enforcement refuses; 503 while it is unavailable.
    """
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    call = context_of(request).enforcement.get(f"/internal/{path}", kind, given)
    return await answered(call, busy("Sellers' standings cannot be read at present."))


async def page(request: Request[Account, Any, Any], path: str, kind: type[_T], **params: Any) -> Page[_T]:
    """A page from enforcement."""
    return await ask(request, path, Page[kind], **params)  # type: ignore[valid-type]


# ----------------------------------------------------------------------------------------------------------------- staff


@get("/v1/sellers", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def list_sellers(
    request: Request[Account, Any, Any],
    sort: Sort = "violations",
    tier: Tier = None,
    repeat_offender: bool | None = None,
    consequence: Consequence | None = None,
    measure: Measure | None = None,
    entity: Entity = None,
    since: Time = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Standing]:
    """Sellers that ever had a violation, highest first by `sort`; `since`: with a violation in force since then."""
    return await page(
        request,
        "sellers",
        Standing,
        sort=sort,
        tier=tier,
        repeat_offender=repeat_offender,
        consequence=consequence,
        measure=measure,
        entity=entity,
        since=since,
        cursor=cursor,
        limit=limit,
    )


@get("/v1/sellers/{seller_id:str}/standing", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_standing(request: Request[Account, Any, Any], seller_id: str) -> Standing:
    """A seller's standing. It is empty for a seller that never had a violation."""
    return await ask(request, "standing", Standing, seller=known_id(seller_id))


@get("/v1/sellers/{seller_id:str}/ledger", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_ledger(
    request: Request[Account, Any, Any], seller_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[Entry]:
    """Entries of a seller's penalty ledgers, latest first."""
    found = await page(request, "ledger", Entry, seller=known_id(seller_id), cursor=cursor, limit=limit)
    return Page(items=await judged.without_audited(request, found.items), next=found.next)


@get("/v1/sellers/{seller_id:str}/violations", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_violations(
    request: Request[Account, Any, Any],
    seller_id: str,
    in_force: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Violation]:
    """A seller's violations, latest first, including those that no longer stand unless `in_force` says which."""
    found = await page(
        request, "violations", Violation, seller=known_id(seller_id), in_force=in_force, cursor=cursor, limit=limit
    )
    return Page(items=await judged.without_audited(request, found.items), next=found.next)


@get("/v1/sellers/{seller_id:str}/sanctions", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_sanctions(
    request: Request[Account, Any, Any],
    seller_id: str,
    in_force: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[answers.SellerSanction]:
    """A seller's sanctions, latest first; those lifted by an operator, with what the operator wrote."""
    found = await page(
        request, "sanctions", Sanction, seller=known_id(seller_id), in_force=in_force, cursor=cursor, limit=limit
    )
    lifts = await context_of(request).run(standing_store.lifts, [one.sanction for one in found.items])
    shown = [
        answers.SellerSanction(
            sanction=one,
            # a request that came too late lifted nothing
            lift=_lifted(lifts.get(one.sanction)) if one.state == "in_force" or one.cause == "operator" else None,
        )
        for one in found.items
    ]
    return Page(items=shown, next=found.next)


def _lifted(row: dict[str, Any] | None) -> answers.Lifted | None:
    return None if row is None else out(answers.Lifted, row)


@post(
    "/v1/sellers/{seller_id:str}/sanctions/{sanction_id:str}/lift",
    opt={"roles": OPERATOR},
    dto=Body[requests.LiftSanction],
    return_dto=None,
    status_code=202,
    responses=MAY_FAIL,
    tags=["sellers"],
)
async def lift_sanction(
    request: Request[Account, Any, Any], seller_id: str, sanction_id: str, data: requests.LiftSanction
) -> answers.LiftAccepted:
    """Lift a sanction that is in force. What it was imposed for does not impose it again."""
    seller, id = known_id(seller_id), known_id(sanction_id)
    found = await ask(request, "sanction", Sanction, seller=seller, sanction=id)
    if found.state != "in_force":
        raise Refused(
            409, "not_in_force", "The sanction is not in force.", cure="Read GET /v1/sellers/{seller_id}/sanctions."
        )
    context = context_of(request)

    def work(connection: sa.Connection) -> answers.LiftAccepted:
        command, at = standing_store.lift(
            connection, seller, found.sanction, request.user.id, data.reason, data.note, context.settings.partitions
        )
        return answers.LiftAccepted(command=command, sanction=found.sanction, accepted_at=at)

    return await context.run(work)


@get("/v1/sellers/{seller_id:str}/why", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_why(
    request: Request[Account, Any, Any], seller_id: str, at: Time = None, steps: Steps = 200
) -> Explanation:
    """How a seller reached its standing, now or `at` a time: every entry, its rule and the sums, replayed."""
    found = await ask(request, "why", Explanation, seller=known_id(seller_id), at=at, steps=steps)
    return msgspec.structs.replace(found, steps=await judged.without_audited(request, found.steps))


@get("/v1/offenders/figures", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_offender_figures(request: Request[Account, Any, Any]) -> Figures:
    """Repeat offenders: tiers, recidivism, time between offences."""
    return await ask(request, "offenders", Figures)


# ---------------------------------------------------------------------------------------------------------------- sellers


@get("/v1/standing", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_standing(request: Request[Account, Any, Any]) -> Standing:
    """The caller's standing: points, strikes, violations, and what follows from them."""
    return await ask(request, "standing", Standing, seller=request.user.id)


@get("/v1/standing/ledger", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_ledger(request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50) -> Page[Entry]:
    """Entries of the caller's penalty ledgers, latest first."""
    return await page(request, "ledger", Entry, seller=request.user.id, cursor=cursor, limit=limit)


@get("/v1/standing/violations", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_violations(
    request: Request[Account, Any, Any], in_force: bool | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[Violation]:
    """The caller's violations, latest first: one per claim, however many listings."""
    return await page(
        request, "violations", Violation, seller=request.user.id, in_force=in_force, cursor=cursor, limit=limit
    )


@get("/v1/standing/sanctions", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_sanctions(
    request: Request[Account, Any, Any], in_force: bool | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.OwnSanction]:
    """Sanctions against the caller's account, latest first: why, until when, and how they are undone."""
    found = await page(
        request, "sanctions", Sanction, seller=request.user.id, in_force=in_force, cursor=cursor, limit=limit
    )
    language = language_of(request)
    shown = [
        answers.OwnSanction(
            sanction=one,
            why=translate(_why(one), language),
            undone=[translate(text, language) for text in _undone(one)],
        )
        for one in found.items
    ]
    return Page(items=shown, next=found.next)


_OWN: Final = mark("The account's own violations reached a threshold of its penalty ledgers.")
_ENTITY: Final = mark(
    "The violations of the business that the account belongs to reached a threshold of its penalty ledgers."
)
_PRIOR: Final = mark(
    "A threshold was reached that suspends accounts. As the account had not been warned, this is a warning instead."
)
_CLAIM: Final = mark(
    "You can counter claims against you, or complain about them: a violation that does not stand is taken back, and so is what followed from it."
)
_DAYS: Final = mark("It ends automatically when its time is over.")
_FALLS: Final = mark(
    "It ends automatically when enough violations have expired that the threshold is no longer reached."
)
_STAYS: Final = mark("It does not end automatically.")
_WRITE: Final = mark("Write to the operator of the programme, who can lift it.")
_OVER: Final = mark("It is over.")


def _why(one: Sanction) -> str:
    return _PRIOR if one.withheld else _OWN if one.scope == "own" else _ENTITY


def _undone(one: Sanction) -> list[str]:
    if one.state != "in_force":
        return [_OVER]
    end = _DAYS if one.ends is not None else _STAYS if "closed" in one.measures else _FALLS
    return [end, _CLAIM, _WRITE]


ROUTES: Final = [
    list_sellers,
    get_standing,
    get_ledger,
    get_violations,
    get_sanctions,
    lift_sanction,
    get_why,
    get_offender_figures,
    my_standing,
    my_ledger,
    my_violations,
    my_sanctions,
]
