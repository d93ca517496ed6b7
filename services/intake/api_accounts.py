"""Routes of accounts: opening, tokens, contacts, confirming an address, verification, suspending and closing."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from litestar import Request, delete, get, post, put
from litestar.params import QueryParameter

from services.intake import (
    accounts_store,
    answers,
    domain,
    erasure,
    erasure_store,
    goodfaith_store,
    requests,
    review_store,
    security,
    store,
    webhooks_store,
)
from services.intake.domain import Account, Refused
from services.intake.web import (
    EVERYONE,
    INTERNAL,
    MAY_FAIL,
    OPERATOR,
    PUBLIC,
    STAFF,
    Body,
    Cursor,
    Limit,
    front_of,
    key_of,
    known_id,
    language_of,
    out,
    page_of,
)
from shared import clock, languages, policy

AccountState = Annotated[
    Literal["applied", "email_confirmed", "verified", "suspended", "closed"] | None,
    QueryParameter(name="state", description="Only what is in this state."),
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
    """Open an account; the answer has its token, this once. Other roles than `holder` are opened by an operator."""
    operator = request.user.role == "operator"
    if not operator:
        for field, wanted in (
            ("role", data.role != "holder"), ("id", data.id is not None),
            ("identity_verified", data.identity_verified), ("good_faith", data.good_faith),
        ):  # fmt: skip
            if wanted:
                raise Refused(
                    403, "operators_only", "Only an operator may set this.", field=field, cure="Leave the field out."
                )
    front = front_of(request)
    token = security.new_token()

    def work(connection: sa.Connection) -> answers.AccountOpened:
        _, wall = clock.read(connection)
        account = Account(
            data.id or domain.new_id("a", store.wall_ms(wall)),
            data.role,
            data.identity_verified,
            data.good_faith,
            operator,
        )
        if not store.open_account(connection, account, data.kind, by=request.user.id or None):
            raise Refused(
                409, "account_exists", "There is such an account already.", field="id", cure="Use another id."
            )
        if account.good_faith:
            partitions = front.settings.partitions
            goodfaith_store.by_staff(connection, account.id, True, request.user.id, partitions)
        expires = store.add_token(connection, account.id, security.digest(token), front.settings.token_ttl_days)
        return answers.AccountOpened(account=account.id, role=account.role, token=token, expires=expires)

    return await front.run(work)


@post("/v1/tokens", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def issue_token(request: Request[Account, Any, Any]) -> answers.TokenIssued:
    """A further token of the caller's account: use it, then delete the old one."""
    front = front_of(request)
    token = security.new_token()
    expires = await front.run(store.add_token, request.user.id, security.digest(token), front.settings.token_ttl_days)
    return answers.TokenIssued(account=request.user.id, token=token, expires=expires)


@delete("/v1/tokens/current", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def drop_token(request: Request[Account, Any, Any]) -> None:
    """Revoke the token that this request carries. Other processes notice within `token_cache_s`."""
    token = request.headers["authorization"].partition(" ")[2].strip()
    await front_of(request).run(store.drop_token, security.digest(token))
    front_of(request).forget(token=token)


@get("/v1/me", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def me(request: Request[Account, Any, Any]) -> answers.AccountOut:
    """The caller's account."""
    return await _account(request, request.user.id)


async def _account(request: Request[Account, Any, Any], account: str) -> answers.AccountOut:
    row = await front_of(request).run(store.account_row, account)
    if row is None:
        raise domain.not_found()
    return out(answers.AccountOut, row)


def rules() -> policy.Policy:
    """The programme's rules for accounts: those of the policy in force."""
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
    """How to reach the caller. Kept encrypted; released to a counterpart only as the life cycle says."""
    front = front_of(request)
    if data.language is None:
        data = msgspec.structs.replace(data, language=language_of(request))

    def work(connection: sa.Connection) -> None:
        account = request.user.id
        before = front.opened(store.sealed_contacts(connection, [account])).get(account)
        wrapped = store.subject_key(connection, account, lambda: front.contacts.new_key(account))
        store.put_contact(connection, account, front.contacts.seal(account, wrapped, data))
        if before is None or before.email != data.email:
            accounts_store.unconfirm(connection, account)
        accounts_store.verify_by_rule(connection, account, rules().accounts, front.settings.partitions)

    await front.run(work)
    front.forget(account=request.user.id)


@get("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def get_contact(request: Request[Account, Any, Any]) -> answers.ContactFor:
    """The caller's own contact."""
    front, caller = front_of(request), [request.user.id]
    found = front.opened(await front.run(store.sealed_contacts, caller)).get(request.user.id)
    confirmed = await front.run(accounts_store.confirmed, caller)
    if found is None:
        raise domain.not_found()
    return answers.ContactFor(
        account=request.user.id,
        name=found.name,
        address=found.address,
        email=found.email,
        language=found.language or languages.SOURCE,
        confirmed=bool(confirmed),
    )


@delete("/v1/contact", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["accounts"])
async def erase_contact(request: Request[Account, Any, Any]) -> None:
    """Erase the caller's contact, and its webhooks, by destroying its key; not while what it is party to is open."""
    partitions = front_of(request).settings.partitions

    def work(connection: sa.Connection) -> None:
        erasure_store.check_own(connection, request.user.id)
        store.erase_contact(connection, request.user.id)
        webhooks_store.forget(connection, request.user.id, partitions)
        accounts_store.unconfirm(connection, request.user.id)

    await front_of(request).run(work)


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
    """Erase a subject: its key is destroyed, its tokens are revoked, its account is closed for good. Once, and not to be undone."""
    front, account = front_of(request), known_id(account_id)
    done = await front.run(
        erasure_store.erase, account, by=request.user.id, partitions=front.settings.partitions, force=data.force,
        reason=data.reason,
    )  # fmt: skip
    front.forget(account=account)
    language = language_of(request)
    stays = {name: languages.translate(text, language) for name, text in erasure.STAYS.items()}
    return out(answers.AccountErased, {**msgspec.structs.asdict(done), "stays": stays})


@post("/v1/contact/code", opt={"roles": EVERYONE}, status_code=202, responses=MAY_FAIL, tags=["accounts"])
async def request_code(request: Request[Account, Any, Any]) -> answers.CodeRequested:
    """Have a code mailed to the caller's address, which confirms it. A code voids the one before."""
    front = front_of(request)
    again = await front.run(accounts_store.request_code, request.user.id, rules().accounts, front.settings.partitions)
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
    """The code that came by e-mail: the caller's address is confirmed."""
    front, account = front_of(request), request.user.id
    refused = await front.run(accounts_store.confirm, account, data.code, rules().accounts, front.settings.partitions)
    if refused is not None:
        raise refused
    front.forget(account=account)
    return await _account(request, account)


@get("/v1/accounts", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["accounts"])
async def list_accounts(
    request: Request[Account, Any, Any], account_state: AccountState = None, cursor: Cursor = None, limit: Limit = 50
) -> answers.Page[answers.AccountOut]:
    """Accounts by id; with `state`, those in it, such as `email_confirmed`: a reviewer verifies them."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await front_of(request).run(accounts_store.list_accounts, account_state, after, limit + 1)
    return page_of([out(answers.AccountOut, row) for row in rows], limit, lambda account: (account.id,))


@get("/v1/accounts/{account_id:str}", opt={"roles": STAFF}, responses=MAY_FAIL, tags=["accounts"])
async def get_account(request: Request[Account, Any, Any], account_id: str) -> answers.AccountWithHistory:
    """An account, its state, and what happened to it."""
    account = known_id(account_id)

    def work(connection: sa.Connection) -> store.Row:
        row = store.account_row(connection, account)
        if row is None:
            raise domain.not_found()
        entries = [out(answers.AccountChange, entry) for entry in accounts_store.history(connection, account)]
        return {**row, "history": entries}

    return out(answers.AccountWithHistory, await front_of(request).run(work))


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
    """Suspend an account (it begins nothing new), let it go on, or close it for good (its tokens are refused). Open claims stay."""
    front, account = front_of(request), known_id(account_id)
    await front.run(
        accounts_store.change_status, account, data.status, data.code, request.user, front.settings.partitions
    )
    front.forget(account=account)
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
    """Write down that an account's identity was verified, that its address is its own, or that it takes part in the good-faith mechanism."""
    front = front_of(request)
    account = known_id(account_id)

    def work(connection: sa.Connection) -> store.Row:
        review_store.check_unbiased(connection, request.user, account)
        if data.identity_verified is not msgspec.UNSET:
            accounts_store.verify(connection, account, data.identity_verified, request.user, front.settings.partitions)
        if data.email_confirmed is True:
            accounts_store.attest(connection, account, request.user.id)
        if data.good_faith is not msgspec.UNSET:
            goodfaith_store.by_staff(connection, account, data.good_faith, request.user.id, front.settings.partitions)
        row = store.account_row(connection, account)
        if row is None:
            raise domain.not_found()
        return row

    row = await front.run(work)
    front.forget(account=account)
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
    """Contacts for the sending of messages, many in one call."""
    front = front_of(request)
    found = front.opened(await front.run(store.sealed_contacts, data.ids))
    confirmed = await front.run(accounts_store.confirmed, data.ids)
    return answers.ContactsFor(
        contacts={
            account: answers.ContactFor(
                account=account,
                name=contact.name,
                address=contact.address,
                email=contact.email,
                language=contact.language or languages.SOURCE,
                confirmed=account in confirmed,
            )
            for account, contact in found.items()
        }
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
    """Fresh codes for the sending of messages, by notice: they exist in this answer and in the message only."""
    found = await front_of(request).run(accounts_store.codes, data.ids, rules().accounts)
    return answers.CodesFor(codes={notice: answers.CodeFor(code=code) for notice, code in found.items()})


ROUTES: Final = [
    open_account, issue_token, drop_token, me, put_contact, get_contact, erase_contact, erase_account, request_code, confirm_contact,
    list_accounts, get_account, verify_account, change_status, internal_contacts, internal_codes,
]  # fmt: skip
