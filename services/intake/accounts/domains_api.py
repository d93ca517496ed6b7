"""Routes for the domains that an account controls. Reviewers see them with the account (``GET /v1/accounts/{id}``)."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from litestar import Request, delete, get, post

from services.intake.accounts import answers, domains, domains_store
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import not_found
from services.intake.kernel.web import HOLDER, MAY_FAIL, Body, Context, context_of, known_id, out
from shared.refusals import Refused


def seen_of(connection: sa.Connection, context: Context, account: str, *, removed: bool) -> list[store.Row]:
    """An account's domains, each with the two signs that it is the account's.

    An address counts as long as it is confirmed and on file: nothing of it is stored here.
    """
    rows = domains_store.of_account(connection, account, removed=removed)
    confirmed = domains_store.confirmed_at(connection, account) if rows else None
    at = None
    if confirmed is not None:
        contact = context.opened(store.sealed_contacts(connection, [account])).get(account)
        at = None if contact is None else domains.domain_of(contact.email)
    return [
        {**row, "mail_since": confirmed if row["domain"] == at and row["state"] != "removed" else None} for row in rows
    ]


async def _listed(request: Request[Account, Any, Any]) -> list[answers.DomainOut]:
    context, account = context_of(request), request.user.id
    rows = await context.run(seen_of, context, account, removed=False)
    return [
        out(
            answers.DomainOut,
            {**row, "name": domains.NAME + row["domain"], "record": domains.RECORD + row["token"]},
        )
        for row in rows
    ]


async def _one(request: Request[Account, Any, Any], field: str, value: str) -> answers.DomainOut:
    for one in await _listed(request):
        if getattr(one, field) == value:
            return one
    # removed in between
    raise not_found()


@post(
    "/v1/domains",
    opt={"roles": HOLDER},
    dto=Body[requests.NameDomain],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def name_domain(request: Request[Account, Any, Any], data: requests.NameDomain) -> answers.DomainOut:
    """Name a domain that the caller controls. The answer says which TXT record to publish, and under which name."""
    context, account = context_of(request), request.user.id
    if not context.settings.domains:
        raise Refused(
            422,
            "domains_not_checked",
            "Domains are not looked up here.",
            field="domain",
            cure="Send documents that prove your identity: POST /v1/me/evidence.",
        )
    domain = domains.parse(data.domain)
    await context.run(domains_store.name, account, domain)
    return await _one(request, "domain", domain)


@get("/v1/domains", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["accounts"])
async def list_domains(request: Request[Account, Any, Any]) -> list[answers.DomainOut]:
    """The caller's domains, and what is known of each."""
    return await _listed(request)


@post(
    "/v1/domains/{domain_id:str}/check", opt={"roles": HOLDER}, status_code=202, responses=MAY_FAIL, tags=["accounts"]
)
async def check_domain(request: Request[Account, Any, Any], domain_id: str) -> answers.DomainOut:
    """Have the record looked up: now, and for a day at growing intervals until it is found."""
    id = known_id(domain_id)
    await context_of(request).run(domains_store.ask, request.user.id, id)
    return await _one(request, "id", id)


@delete("/v1/domains/{domain_id:str}", opt={"roles": HOLDER}, responses=MAY_FAIL, tags=["accounts"])
async def remove_domain(request: Request[Account, Any, Any], domain_id: str) -> None:
    """Remove a domain. Its record may then be deleted."""
    await context_of(request).run(domains_store.remove, request.user.id, known_id(domain_id))


ROUTES: Final = [name_domain, list_domains, check_domain, remove_domain]
