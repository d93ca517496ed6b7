"""Routes of message deliveries. They ask notification's internal API; while it is down, only they answer 503."""

from __future__ import annotations

from typing import Any, Final

import structlog
from litestar import Request, get

from services.intake.kernel import answers
from services.intake.kernel.domain import Account, Refused, busy
from services.intake.kernel.web import EVERYONE, MAY_FAIL, STAFF, Cursor, Limit, context_of, known_id
from shared.deliveries import Delivery
from shared.internal import Page as Given
from shared.internal import ServiceUnavailable
from shared.languages import mark

log = structlog.get_logger(__name__)


async def _of(
    request: Request[Account, Any, Any], party: str, cursor: str | None, limit: int
) -> answers.Page[Delivery]:
    given = {
        name: value for name, value in {"party": party, "cursor": cursor, "limit": limit}.items() if value is not None
    }
    try:
        found = await context_of(request).notification.get("/internal/deliveries", Given[Delivery], given)
    except ServiceUnavailable as away:
        log.warning("notification failed", error=str(away))
        raise busy("Deliveries cannot be read at present.") from away
    except Refused as refused:
        cure = refused.cure or mark("Correct the parameter; see /openapi.json.")
        raise Refused(refused.status, refused.reason, refused.detail, field=refused.field, cure=cure) from None
    return answers.Page(items=found.items, next=found.next)


@get("/v1/deliveries", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["messages"])
async def my_deliveries(
    request: Request[Account, Any, Any], cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[Delivery]:
    """Deliveries of the caller's messages, latest first: each channel that was tried, when, and with what result."""
    return await _of(request, request.user.id, cursor, limit)


@get("/v1/accounts/{account_id:str}/deliveries", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["messages"])
async def deliveries_of(
    request: Request[Account, Any, Any], account_id: str, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[Delivery]:
    """Deliveries of any party's messages. They contain no address and no text."""
    return await _of(request, known_id(account_id), cursor, limit)


ROUTES: Final = [my_deliveries, deliveries_of]
