"""Routes about sellers: where they stand, why, and what operators watch of repeat offenders.

Enforcement's internal API is asked; who may ask what is decided here. While it is away these routes answer 503, and no others.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import structlog
from litestar import Request, get
from litestar.params import QueryParameter

from services.intake import answers
from services.intake.domain import Account, Refused
from services.intake.door import busy
from services.intake.web import MAY_FAIL, SELLER, STAFF, Cursor, Limit, front_of, known_id
from shared.internal import Away
from shared.internal import Page as Given
from shared.languages import mark
from shared.standing import Consequence, Entry, Explanation, Figures, Sort, Standing, Violation

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
Tier = Annotated[
    str | None, QueryParameter(min_length=1, max_length=20, pattern=r"^[0-9+-]+$", description="`2`, `3-5`, `6+`.")
]
Time = Annotated[str | None, QueryParameter(max_length=40, description="A time with its zone: `2026-11-24T12:00:00Z`.")]
Steps = Annotated[int, QueryParameter(ge=1, le=1000, description="Most steps to show: the latest.")]


async def ask(request: Request[Account, Any, Any], path: str, kind: type[_T], **params: Any) -> _T:
    """Enforcement's answer.

    Raises:
        Refused: what it refuses; 503 while it is away.
    """
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    try:
        return await front_of(request).enforcement.get(f"/internal/{path}", kind, given)
    except Away as away:
        log.warning("enforcement", error=str(away))
        raise busy("Sellers' standings cannot be read at present.") from away
    except Refused as refused:
        cure = refused.cure or mark("Correct the parameter; see /openapi.json.")
        raise Refused(refused.status, refused.reason, refused.detail, field=refused.field, cure=cure) from None


async def page(request: Request[Account, Any, Any], path: str, kind: type[_T], **params: Any) -> answers.Page[_T]:
    """A page of enforcement's."""
    found = await ask(request, path, Given[kind], **params)  # type: ignore[valid-type]
    return answers.Page(items=found.items, next=found.next)


# ----------------------------------------------------------------------------------------------------------------- staff


@get("/v1/sellers", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def list_sellers(
    request: Request[Account, Any, Any],
    sort: Sort = "violations",
    tier: Tier = None,
    repeat_offender: bool | None = None,
    consequence: Consequence | None = None,
    since: Time = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> answers.Page[Standing]:
    """Sellers that ever had a violation, the highest first by `sort`; `since`: with a violation in force since then."""
    return await page(
        request, "sellers", Standing, sort=sort, tier=tier, repeat_offender=repeat_offender, consequence=consequence,
        since=since, cursor=cursor, limit=limit,
    )  # fmt: skip


@get("/v1/sellers/{seller_id:str}/standing", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_standing(request: Request[Account, Any, Any], seller_id: str) -> Standing:
    """A seller's standing; for one that never had a violation, nothing."""
    return await ask(request, "standing", Standing, seller=known_id(seller_id))


@get("/v1/sellers/{seller_id:str}/ledger", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_ledger(
    request: Request[Account, Any, Any], seller_id: str, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[Entry]:
    """Entries of a seller's penalty ledgers, the latest first."""
    return await page(request, "ledger", Entry, seller=known_id(seller_id), cursor=cursor, limit=limit)


@get("/v1/sellers/{seller_id:str}/violations", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_violations(
    request: Request[Account, Any, Any],
    seller_id: str,
    in_force: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> answers.Page[Violation]:
    """A seller's violations, the latest first, those that no longer stand included unless `in_force` says which."""
    return await page(
        request, "violations", Violation, seller=known_id(seller_id), in_force=in_force, cursor=cursor, limit=limit
    )


@get("/v1/sellers/{seller_id:str}/why", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_why(
    request: Request[Account, Any, Any], seller_id: str, at: Time = None, steps: Steps = 200
) -> Explanation:
    """How a seller came to stand where it stands, or stood `at` a time: every entry, its rule and the sums, replayed."""
    return await ask(request, "why", Explanation, seller=known_id(seller_id), at=at, steps=steps)


@get("/v1/offenders/figures", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["sellers"])
async def get_offender_figures(request: Request[Account, Any, Any]) -> Figures:
    """Repeat offenders: tiers, recidivism, time between offences."""
    return await ask(request, "offenders", Figures)


# ---------------------------------------------------------------------------------------------------------------- sellers


@get("/v1/standing", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_standing(request: Request[Account, Any, Any]) -> Standing:
    """Where the caller stands: points, strikes, violations, and what follows from them."""
    return await ask(request, "standing", Standing, seller=request.user.id)


@get("/v1/standing/ledger", opt={"roles": SELLER}, responses=MAY_FAIL, tags=["sellers"])
async def my_ledger(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[Entry]:
    """Entries of the caller's penalty ledgers, the latest first."""
    return await page(request, "ledger", Entry, seller=request.user.id, cursor=cursor, limit=limit)


ROUTES: Final = [
    list_sellers, get_standing, get_ledger, get_violations, get_why, get_offender_figures, my_standing, my_ledger,
]  # fmt: skip
