"""Routes for accounts: opening, tokens, contacts, address confirmation, verification, suspension, closing, erasure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from litestar import Request, delete, get, post, put
from litestar.params import QueryParameter

from services.intake.accounts import answers, domains_api, domains_store, erasure, erasure_store, webhooks_store
from services.intake.accounts import store as accounts_store
from services.intake.goodfaith import store as goodfaith_store
from services.intake.kernel import requests, security, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.refusals import not_found
from services.intake.kernel.web import (
    EVERYONE,
    INTERNAL,
    MAY_FAIL,
    OPERATOR,
    PUBLIC,
    STAFF,
    Body,
    Context,
    address_of,
    context_of,
    known_id,
    out,
)
from services.intake.review import store as review_store
from shared import clock, languages, policy, security_events
from shared.paging import Cursor, Limit, Page, key_of, page_of
from shared.problems import language_of
from shared.refusals import Refused

AccountState = Annotated[
    Literal["applied", "email_confirmed", "verified", "suspended", "closed"] | None,
    QueryParameter(name="state", description="Only accounts in this state."),
]


@post(
    "/v1/accounts",
    opt={"roles": PUBLIC},
    dto=Body[requests.OpenAccount],
    return_dto=None,
    responses=MAY_FAIL,
    security=[{}, {"bearer": []}],
    tags=["accounts"],
)
async def open_account(request: Request[Account, Any, Any], data: requests.OpenAccount) -> answers.AccountOpened:
    """Open an account. The answer contains its token, which is shown only once.

    Only an operator can open accounts with a role other than `holder`.
    """
    operator = request.user.role == "operator"
    if not operator:
        for field, wanted in (
            ("role", data.role != "holder"),
            ("id", data.id is not None),
            ("identity_verified", data.identity_verified),
            ("seen", data.seen is not None),
            ("good_faith", data.good_faith),
        ):
            if wanted:
                raise Refused(
                    403, "operators_only", "Only an operator may set this.", field=field, cure="Leave the field out."
                )
    context = context_of(request)
    if not operator:
        context.rate_limits.opens(address_of(request))
    if data.identity_verified and data.seen is None:
        raise Refused(
            422,
            "nothing_seen",
            "Nobody has seen the identity of the account's owner.",
            field="seen",
            cure="Say where you have seen it, or leave `identity_verified` out.",
        )
    token = security.new_token()

    def work(connection: sa.Connection) -> answers.AccountOpened:
        now, wall = clock.read(connection)
        account = Account(
            data.id or new_id("a", store.wall_ms(wall)),
            data.role,
            data.identity_verified,
            data.good_faith,
            operator,
        )
        if not store.open_account(connection, account, data.kind, by=request.user.id or None):
            raise Refused(
                409, "account_exists", "An account with this id exists already.", field="id", cure="Use another id."
            )
        if account.identity_verified:
            accounts_store.note(connection, account.id, "verified", request.user.id, now, seen=data.seen)
        if account.good_faith:
            partitions = context.settings.partitions
            goodfaith_store.by_staff(connection, account.id, True, request.user.id, partitions)
        _, expires = store.add_token(
            connection, account.id, security.digest(token), context.settings.token_ttl_days, "first"
        )
        return answers.AccountOpened(account=account.id, role=account.role, token=token, expires=expires)

    opened = await context.run(work)
    if operator:
        security_events.note("account_opened", account=opened.account, role=opened.role, by=request.user.id)
    return opened


def _given(request: Request[Account, Any, Any]) -> bytes:
    """Digest of the token that the request carries."""
    return security.digest(request.headers["authorization"].partition(" ")[2].strip())


@post(
    "/v1/tokens",
    opt={"roles": EVERYONE},
    dto=Body[requests.NewToken],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def issue_token(
    request: Request[Account, Any, Any], data: requests.NewToken | None = None
) -> answers.TokenIssued:
    """Issue another token for the caller's account. To rotate tokens, start to use it, then revoke the old one."""
    context, account = context_of(request), request.user.id
    wanted = data or requests.NewToken()
    days = min(wanted.days or context.settings.token_ttl_days, context.settings.token_ttl_days)
    token, name = security.new_token(), wanted.name or ""
    id, expires = await context.run(store.add_token, account, security.digest(token), days, name)
    security_events.note("token_made", account=account, credential=id, by=account)
    return answers.TokenIssued(account=account, id=id, name=name, token=token, expires=expires)


@get("/v1/tokens", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def list_tokens(request: Request[Account, Any, Any]) -> list[answers.TokenOut]:
    """The caller's valid tokens, latest first."""
    return await _tokens(request, request.user.id)


@delete("/v1/tokens/current", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def drop_token(request: Request[Account, Any, Any]) -> None:
    """Revoke the token that this request carries. Other processes notice within `token_cache_s`."""
    context, account = context_of(request), request.user.id
    mine = [one for one in await context.run(store.tokens, account) if bytes(one["digest"]) == _given(request)]
    for one in mine:
        await _revoked(request, account, id=one["id"])


@delete("/v1/tokens/{token_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def revoke_token(request: Request[Account, Any, Any], token_id: str) -> None:
    """Revoke one of the caller's tokens."""
    if not await _revoked(request, request.user.id, id=known_id(token_id)):
        raise not_found()


@delete("/v1/tokens", opt={"roles": EVERYONE}, status_code=200, responses=MAY_FAIL, tags=["accounts"])
async def revoke_tokens(request: Request[Account, Any, Any], current: bool = False) -> answers.TokensRevoked:
    """Revoke the caller's other tokens; with `current`, also the one that this request carries."""
    keep = None if current else _given(request)
    return answers.TokensRevoked(revoked=await _revoked(request, request.user.id, keep=keep))


@get("/v1/accounts/{account_id:str}/tokens", opt={"roles": OPERATOR}, responses=MAY_FAIL, tags=["accounts"])
async def list_tokens_of(request: Request[Account, Any, Any], account_id: str) -> list[answers.TokenOut]:
    """An account's valid tokens, latest first."""
    return await _tokens(request, known_id(account_id))


@delete(
    "/v1/accounts/{account_id:str}/tokens/{token_id:str}",
    opt={"roles": OPERATOR},
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def revoke_token_of(request: Request[Account, Any, Any], account_id: str, token_id: str) -> None:
    """Revoke a token of an account."""
    if not await _revoked(request, known_id(account_id), id=known_id(token_id)):
        raise not_found()


@delete(
    "/v1/accounts/{account_id:str}/tokens",
    opt={"roles": OPERATOR},
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def revoke_tokens_of(request: Request[Account, Any, Any], account_id: str) -> answers.TokensRevoked:
    """Revoke all tokens of an account."""
    return answers.TokensRevoked(revoked=await _revoked(request, known_id(account_id)))


async def _tokens(request: Request[Account, Any, Any], account: str) -> list[answers.TokenOut]:
    context = context_of(request)

    def work(connection: sa.Connection) -> list[store.Row]:
        store.existing(connection, account)
        return store.tokens(connection, account)

    given = _given(request)
    return [out(answers.TokenOut, {**row, "current": bytes(row["digest"]) == given}) for row in await context.run(work)]


async def _revoked(
    request: Request[Account, Any, Any], account: str, *, id: str | None = None, keep: bytes | None = None
) -> list[str]:
    context = context_of(request)

    def work(connection: sa.Connection) -> list[str]:
        store.existing(connection, account)
        return store.revoke_tokens(connection, account, id=id, keep=keep)

    revoked = await context.run(work)
    context.forget(account=account)
    for one in revoked:
        security_events.note("token_revoked", account=account, credential=one, by=request.user.id)
    return revoked


@get("/v1/me", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def me(request: Request[Account, Any, Any]) -> answers.AccountOut:
    """The caller's account."""
    return await _account(request, request.user.id)


async def _account(request: Request[Account, Any, Any], account: str) -> answers.AccountOut:
    return out(answers.AccountOut, await context_of(request).run(store.account_row, account))


def rules() -> policy.Policy:
    """The policy in force, with the programme's rules for accounts."""
    return policy.current("ipp")


@put(
    "/v1/contact",
    opt={"roles": EVERYONE},
    dto=Body[requests.Contact],
    return_dto=None,
    status_code=204,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def put_contact(request: Request[Account, Any, Any], data: requests.Contact) -> None:
    """Set the caller's contact data.

    It is stored encrypted, and released to a counterpart only as the life cycle says.
    """
    context = context_of(request)
    if data.language is None:
        data = msgspec.structs.replace(data, language=language_of(request))

    def work(connection: sa.Connection) -> None:
        account = request.user.id
        accounts_store.lock_seller(connection, account)
        before = context.opened(store.sealed_contacts(connection, [account])).get(account)
        wrapped = store.subject_key(connection, account, lambda: context.contacts.new_key(account))
        renamed = before is None or before.name != data.name
        store.put_contact(connection, account, context.contacts.seal(account, wrapped, data), renamed=renamed)
        if before is not None and before.name != data.name:
            store.keep_name(connection, account, context.contacts.seal_name(account, wrapped, before.name))
        if before is None or before.email != data.email:
            accounts_store.unconfirm(connection, account)
        accounts_store.verify_by_rule(connection, account, rules().accounts, context.settings.partitions)

    await context.run(work)
    context.forget(account=request.user.id)


@get("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def get_contact(request: Request[Account, Any, Any]) -> answers.ContactFor:
    """The caller's own contact data."""
    found = await _contacts_for(context_of(request), [request.user.id])
    if not found:
        raise not_found()
    return found[request.user.id]


async def _contacts_for(context: Context, ids: Sequence[str]) -> dict[str, answers.ContactFor]:
    rows = await context.run(accounts_store.addresses, ids)
    confirmed = {account for account, _, _, is_confirmed in rows if is_confirmed}
    return {
        account: answers.ContactFor(
            account=account,
            name=contact.name,
            address=contact.address,
            email=contact.email,
            language=contact.language or languages.SOURCE,
            confirmed=account in confirmed,
        )
        for account, contact in context.opened([row[:3] for row in rows]).items()
    }


@delete("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def erase_contact(request: Request[Account, Any, Any]) -> None:
    """Erase the caller's contact data, webhooks and domains by destroying the caller's key.

    Refused while matters that the caller is party to are open.
    """
    partitions = context_of(request).settings.partitions

    def work(connection: sa.Connection) -> None:
        erasure_store.check_own(connection, request.user.id)
        store.erase_contact(connection, request.user.id)
        webhooks_store.forget(connection, request.user.id, partitions)
        domains_store.forget(connection, request.user.id)
        accounts_store.unconfirm(connection, request.user.id)

    await context_of(request).run(work)


@post(
    "/v1/accounts/{account_id:str}/erasure",
    opt={"roles": OPERATOR},
    dto=Body[requests.Erase],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def erase_account(
    request: Request[Account, Any, Any], account_id: str, data: requests.Erase
) -> answers.AccountErased:
    """Erase a subject: destroy its key, revoke its tokens and close its account for good. This cannot be undone."""
    context, account = context_of(request), known_id(account_id)
    done = await context.run(
        erasure_store.erase,
        account,
        by=request.user.id,
        partitions=context.settings.partitions,
        force=data.force,
        reason=data.reason,
    )
    context.forget(account=account)
    security_events.note("account_erased", account=account, by=request.user.id, forced=done.forced)
    language = language_of(request)
    stays = {name: languages.translate(text, language) for name, text in erasure.STAYS.items()}
    return out(answers.AccountErased, {**msgspec.structs.asdict(done), "stays": stays})


@post("/v1/contact/code", opt={"roles": EVERYONE}, status_code=202, responses=MAY_FAIL, tags=["accounts"])
async def request_code(request: Request[Account, Any, Any]) -> answers.CodeRequested:
    """Have a code mailed to the caller's address, to confirm the address. A new code voids the previous one."""
    context = context_of(request)
    again = await context.run(
        accounts_store.request_code, request.user.id, rules().accounts, context.settings.partitions
    )
    return answers.CodeRequested(again_at=again)


@post(
    "/v1/contact/confirmation",
    opt={"roles": EVERYONE},
    dto=Body[requests.Confirm],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def confirm_contact(request: Request[Account, Any, Any], data: requests.Confirm) -> answers.AccountOut:
    """Confirm the caller's address with the code that was mailed to it."""
    context, account = context_of(request), request.user.id
    refused = await context.run(
        accounts_store.confirm, account, data.code, rules().accounts, context.settings.partitions
    )
    if refused is not None:
        raise refused
    context.forget(account=account)
    return await _account(request, account)


@get("/v1/accounts", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["accounts"])
async def list_accounts(
    request: Request[Account, Any, Any], account_state: AccountState = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.AccountOut]:
    """Accounts by id; with `state`, only those in it, such as `email_confirmed` for a reviewer to verify."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await context_of(request).run(accounts_store.list_accounts, account_state, after, limit + 1)
    return page_of([out(answers.AccountOut, row) for row in rows], limit, lambda account: (account.id,))


@get("/v1/accounts/{account_id:str}", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["accounts"])
async def get_account(request: Request[Account, Any, Any], account_id: str) -> answers.AccountWithHistory:
    """An account, its state, the domains that it has named, and its history."""
    context, account = context_of(request), known_id(account_id)

    def work(connection: sa.Connection) -> store.Row:
        row = store.account_row(connection, account)
        entries = [out(answers.AccountChange, entry) for entry in accounts_store.history(connection, account)]
        named = [
            out(answers.DomainSeen, one) for one in domains_api.seen_of(connection, context, account, removed=True)
        ]
        return {**row, "history": entries, "domains": named}

    return out(answers.AccountWithHistory, await context.run(work))


@post(
    "/v1/accounts/{account_id:str}/status",
    opt={"roles": OPERATOR},
    dto=Body[requests.ChangeStatus],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def change_status(
    request: Request[Account, Any, Any], account_id: str, data: requests.ChangeStatus
) -> answers.AccountOut:
    """Suspend an account (it can start nothing new), resume it, or close it for good (its tokens are refused).

    Its open claims stay.
    """
    context, account = context_of(request), known_id(account_id)
    await context.run(
        accounts_store.change_status, account, data.status, data.code, request.user, context.settings.partitions
    )
    context.forget(account=account)
    security_events.note("account_status", account=account, status=data.status, code=data.code, by=request.user.id)
    return await _account(request, account)


@post(
    "/v1/accounts/{account_id:str}/verify",
    opt={"roles": STAFF},
    dto=Body[requests.Verify],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["accounts"],
)
async def verify_account(
    request: Request[Account, Any, Any], account_id: str, data: requests.Verify
) -> answers.AccountOut:
    """Record that an account's identity is verified, its address is its own, or it is in the good-faith mechanism."""
    context = context_of(request)
    account = known_id(account_id)

    def work(connection: sa.Connection) -> store.Row:
        review_store.check_unbiased(connection, request.user, account)
        if data.identity_verified is not msgspec.UNSET:
            accounts_store.verify(
                connection, account, data.identity_verified, data, request.user, context.settings.partitions
            )
        if data.email_confirmed is True:
            accounts_store.attest(connection, account, request.user.id)
        if data.good_faith is not msgspec.UNSET:
            goodfaith_store.by_staff(connection, account, data.good_faith, request.user.id, context.settings.partitions)
        return store.account_row(connection, account)

    row = await context.run(work)
    context.forget(account=account)
    security_events.note("account_verified", account=account, verified=row["identity_verified"], by=request.user.id)
    return out(answers.AccountOut, row)


@post(
    "/internal/contacts",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_contacts(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.ContactsFor:
    """Contact data of many accounts in one call, for sending messages."""
    context = context_of(request)
    return answers.ContactsFor(
        unowned=await context.run(accounts_store.unowned, data.ids), contacts=await _contacts_for(context, data.ids)
    )


@post(
    "/internal/codes",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_codes(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.CodesFor:
    """New codes by notice, for sending messages. They exist only in this answer and in the message."""
    found = await context_of(request).run(accounts_store.codes, data.ids, rules().accounts)
    return answers.CodesFor(codes={notice: answers.CodeFor(code=code) for notice, code in found.items()})


ROUTES: Final = [
    open_account,
    issue_token,
    list_tokens,
    drop_token,
    revoke_token,
    revoke_tokens,
    list_tokens_of,
    revoke_token_of,
    revoke_tokens_of,
    me,
    put_contact,
    get_contact,
    erase_contact,
    erase_account,
    request_code,
    confirm_contact,
    list_accounts,
    get_account,
    verify_account,
    change_status,
    internal_contacts,
    internal_codes,
]
