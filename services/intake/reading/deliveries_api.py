"""Routes of message deliveries. They ask notification's internal API; while it is down, only they answer 503."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, get

from services.intake.kernel import judged
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import busy
from services.intake.kernel.web import EVERYONE, MAY_FAIL, STAFF, answered, context_of, known_id
from shared.deliveries import Delivery
from shared.paging import Cursor, Limit, Page


async def _of(request: Request[Account, Any, Any], party: str, cursor: str | None, limit: int) -> Page[Delivery]:
    params = {"party": party, "cursor": cursor, "limit": limit}
    call = context_of(request).notification.get("/internal/deliveries", Page[Delivery], params)
    return await answered(call, busy("Deliveries cannot be read at present."))


@get("/v1/deliveries", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["messages"])
async def my_deliveries(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> Page[Delivery]:
    """Deliveries of the caller's messages, latest first: each channel that was tried, when, and with what result."""
    return await _of(request, request.user.id, cursor, limit)


@get("/v1/accounts/{account_id:str}/deliveries", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["messages"])
async def deliveries_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[Delivery]:
    """Deliveries of any party's messages. They contain no address and no text."""
    found = await _of(request, known_id(account_id), cursor, limit)
    return Page(items=await judged.without_audited(request, found.items), next=found.next)


ROUTES: Final = [my_deliveries, deliveries_of]
