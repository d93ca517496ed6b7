"""Routes that file claims and commands."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, post

from services.intake.filing import answers
from services.intake.filing.domain import check_canary, check_claim, explained
from services.intake.kernel import filings, requests
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filing
from services.intake.kernel.listings import named_by
from services.intake.kernel.web import (
    HOLDER,
    MAY_FAIL,
    PARTIES,
    SELLER,
    STAFF,
    Body,
    IdempotencyKey,
    context_of,
    known_id,
)
from shared import site_links


@post(
    "/v1/claims",
    opt={"roles": HOLDER},
    dto=Body[requests.ExplainedClaim],
    return_dto=None,
    status_code=202,
    responses=MAY_FAIL,
    tags=["claims"],
)
async def submit_claim(
    request: Request[Account, Any, Any], data: requests.ExplainedClaim, idempotency_key: IdempotencyKey = None
) -> Response[answers.ClaimAccepted]:
    """File a claim. Once answered with 202, it is durable and can be read."""
    context, caller = context_of(request), request.user
    rules = check_claim(data, caller, context.settings.pinned_policies, context.settings.profiles)
    listings, sellers = named_by(data.listings, site_links.of(context.settings.site_links))
    check_canary(caller, listings, context.settings.canary_listing)
    return await accept(
        request,
        Filing(
            caller,
            idempotency_key,
            caller.id,
            filings.digest("submit_claim", "", await request.body()),
            "submit_claim",
            data,
            caller.channel,
            listings=listings,
            sellers=sellers,
            rules=rules,
            explained=explained(data, listings) if data.explanations else None,
            over_quota=context.group_commit.quota.over(caller.id),
        ),
    )


async def accept(request: Request[Account, Any, Any], filing: Filing) -> Response[Any]:
    """File a request through the group commit: 202 once it is durable.

    Raises:
        KeyMissing: it says something, and nothing can be sealed.
    """
    context = context_of(request)
    if requests.worded(filing.body):
        _ = context.contacts.master
    result = await context.group_commit.file(filing)
    headers = {"Idempotency-Replayed": "true"} if result.replayed else None
    return Response(result.answer, status_code=202, media_type="application/json", headers=headers)


async def command(
    request: Request[Account, Any, Any],
    kind: str,
    body: requests.In,
    key: str | None,
    *,
    item: str | None = None,
    claim: str | None = None,
) -> Response[Any]:
    """File a command about an item, or about all items of a claim."""
    target = known_id(item or claim or "")
    return await accept(
        request,
        Filing(
            request.user,
            key,
            request.user.id,
            filings.digest(kind, target, await request.body()),
            kind,
            body,
            request.user.channel,
            item=item,
            claim=claim,
        ),
    )


def _routes(
    path: str,
    kind: str,
    body: type[requests.In],
    roles: frozenset[str],
    text: str,
    *,
    whole: str = "For all of the claim's items that the caller is party to.",
) -> list[Any]:
    """Make a command's two routes: for one item, and for items of a claim (``whole`` says which)."""
    options: dict[str, Any] = {
        "opt": {"roles": roles},
        "dto": Body[body],  # type: ignore[valid-type]
        "return_dto": None,
        "status_code": 202,
        "responses": MAY_FAIL,
        "tags": ["commands"],
    }

    async def for_item(
        request: Request[Account, Any, Any],
        item_id: str,
        data: Any,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[answers.CommandsAccepted]:
        return await command(request, kind, data, idempotency_key, item=item_id)

    async def for_claim(
        request: Request[Account, Any, Any],
        claim_id: str,
        data: Any,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[answers.CommandsAccepted]:
        return await command(request, kind, data, idempotency_key, claim=claim_id)

    made = []
    for function, owner in ((for_item, "item"), (for_claim, "claim")):
        # the annotations are resolved here, where `body` is known
        function.__annotations__ = {
            "request": Request[Account, Any, Any],
            f"{owner}_id": str,
            "data": body,
            "idempotency_key": IdempotencyKey,
            "return": Response[answers.CommandsAccepted],
        }
        function.__doc__ = text if owner == "item" else f"{text} {whole}"
        function.__name__ = f"{kind}_{owner}"
        made.append(
            post(f"/v1/{owner}s/{{{owner}_id:str}}/{path}", operation_id=f"{kind}_{owner}", **options)(function)
        )
    return made


_COMMANDS: Final = [
    *_routes("information", "add_information", requests.AddInformation, HOLDER, "Add what was missing (row 5)."),
    *_routes("withdraw", "withdraw", requests.Withdraw, HOLDER, "Withdraw the claim (row 18)."),
    *_routes("accept", "accept", requests.Accept, SELLER, "The seller accepts the takedown (row 8)."),
    *_routes("counter", "counter", requests.WordedCounter, SELLER, "The seller's counter-notification (row 10)."),
    *_routes(
        "response",
        "respond",
        requests.WordedResponse,
        HOLDER,
        "The holder accepts or rejects the counter (rows 13, 14).",
    ),
    *_routes(
        "action",
        "report_action",
        requests.ReportAction,
        PARTIES,
        "Report that a court or authority action was filed (row 16).",
    ),
    *_routes("result", "report_result", requests.ReportResult, PARTIES, "Report how the action ended (row 21)."),
    *_routes(
        "complaint",
        "complain",
        requests.WordedComplaint,
        PARTIES,
        "Complain about the decision, as the side that it went against (row 19).",
    ),
    *_routes(
        "decision",
        "decide",
        requests.Decide,
        STAFF,
        "A reviewer's decision, under a lease (rows 6, 7, 12, 17, 19).",
        whole="For all of the claim's items that the lease covers.",
    ),
]


ROUTES: Final = [submit_claim, *_COMMANDS]
