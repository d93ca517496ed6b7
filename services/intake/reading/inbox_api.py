"""Routes of the inbox: messages that were sent to an account, and their receipt by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import sqlalchemy as sa
from litestar import Request, get, post
from litestar.params import QueryParameter

from services.intake.kernel import domain, store
from services.intake.kernel.domain import Account
from services.intake.kernel.web import (
    EVERYONE,
    MAY_FAIL,
    Context,
    context_of,
    known_id,
)
from services.intake.reading import answers
from services.intake.reading import store as reading_store
from shared.paging import Cursor, Limit, Moment, key_of, page_of

Unread = Annotated[bool, QueryParameter(name="unread", description="Only unread messages.")]


@get("/v1/inbox", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["messages"])
async def inbox(
    request: Request[Account, Any, Any], only_unread: Unread = False, cursor: Cursor = None, limit: Limit = 50
) -> answers.Inbox:
    """Messages that were sent to the caller, latest first, with the counterpart's contact where it is released."""
    context, caller = context_of(request), request.user
    before = key_of(cursor, tuple[Moment, str])

    def work(connection: sa.Connection) -> tuple[list[store.Row], int]:
        rows = reading_store.list_messages(connection, caller, before=before, unread=only_unread, limit=limit + 1)
        return rows, reading_store.unread(connection, caller)

    rows, unread = await context.read(caller, work)
    sealed = await context.run(_sealed, caller, rows)
    page = page_of(_shown(context, caller, rows, sealed), limit, lambda message: (message.sent_at, message.id))
    return answers.Inbox(items=page.items, next=page.next, unread=unread)


@get("/v1/inbox/{message_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["messages"])
async def get_message(request: Request[Account, Any, Any], message_id: str) -> answers.MessageOut:
    """One message that was sent to the caller. Fetching it does not count as its receipt."""
    context, caller, id = context_of(request), request.user, known_id(message_id)

    rows = [await context.read(caller, reading_store.get_message, caller, id)]
    sealed = await context.run(_sealed, caller, rows)
    return _shown(context, caller, rows, sealed)[0]


@post(
    "/v1/inbox/{message_id:str}/read", opt={"roles": EVERYONE}, status_code=200, responses=MAY_FAIL, tags=["messages"]
)
async def read_message(request: Request[Account, Any, Any], message_id: str) -> answers.MessageRead:
    """Record that the caller has read a message sent to it. The first time counts, and may begin a window."""
    context, caller, id = context_of(request), request.user, known_id(message_id)
    return await context.run(
        lambda connection: answers.MessageRead(
            message=id, read_at=reading_store.read_message(connection, caller, id, context.settings.partitions)
        )
    )


def _sealed(connection: sa.Connection, caller: Account, rows: Sequence[store.Row]) -> list[tuple[str, bytes, bytes]]:
    """Sealed contacts of those whose contact data is released with these messages."""
    wanted = {account for row in rows for account, _ in released(caller.id, row)}
    return store.sealed_contacts(connection, wanted) if wanted else []


def _shown(
    context: Context, caller: Account, rows: Sequence[store.Row], sealed: Sequence[tuple[str, bytes, bytes]]
) -> list[answers.MessageOut]:
    contacts = context.opened(sealed)
    return [
        answers.MessageOut(
            **{name: row[name] for name in answers.MessageOut.__struct_fields__ if name in row},
            contacts=[
                answers.ContactOut(account=account, part=part, name=c.name, address=c.address, email=c.email)
                for account, part in released(caller.id, row)
                if (c := contacts.get(account)) is not None
            ],
        )
        for row in rows
    ]


def released(account: str, row: Mapping[str, Any]) -> list[tuple[str, Literal["complainant", "principal", "seller"]]]:
    """Whose contact data the account may see with a message, and their part (rows 7 and 12).

    The seller sees the holder's from NOTIFIED on, the holder the seller's from HOLDER_RESPONSE on. Nobody else sees
    any, and nobody sees any with another account's message.
    """
    if row["party"] != account:
        return []
    if account in (row["complainant"], row["principal"]):
        return [(seller, "seller") for seller in row["sellers"] or () if seller != account]
    if row["told"] >= domain.TOLD_SELLER:
        both: list[tuple[str, Literal["complainant", "principal", "seller"]]] = [(row["complainant"], "complainant")]
        if row["principal"] != row["complainant"]:
            both.append((row["principal"], "principal"))
        return both
    return []


ROUTES: Final = [inbox, get_message, read_message]
