"""The internal API: what items are judged on. Intake calls it and decides what a person may see."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from litestar import Request, get, post
from msgspec import Meta

from services.verification.item import Item
from shared import internal
from shared.content import Content, Revision, Revisions, Seen, SeenItems, differing, digest, joined
from shared.events import Id, Listing
from shared.internal import GivenId, Parts, StrictStruct, body_of, parts_of
from shared.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "verification-api"
MOST: Final = 50
"""Most items in one call: an item has up to two contents of almost 100 kB."""

_ITEMS: Final = "select body from items where item = any(%s)"
_PRESENT: Final = "select listing, body, bulk, digest, seen_at, filed from listings where listing = any(%s)"
_BEFORE: Final = """
    select s.listing, s.body, s.bulk, s.digest, s.seen_at from unnest(%s::text[], %s::text[]) as n(listing, digest)
    join snapshots s on s.listing = n.listing and s.digest = n.digest"""
_ALL: Final = """
    select s.body, s.bulk, s.digest, s.seen_at, s.until, s.filed from items i join snapshots s on s.listing = i.listing
    where i.item = %s order by s.seen_at nulls first, s.until"""
_item: Final = msgspec.json.Decoder(Item).decode
_listing: Final = msgspec.json.Decoder(Listing).decode
_bulk: Final = msgspec.json.Decoder(Content).decode


def content_of_row(row: Any) -> Content | None:
    """The content in a row; None if it does not have the row's digest, so that nothing is shown as what it is not.

    A row differs only after version 0.2.0 has written the listing anew, which knows no content.
    """
    content = joined(_listing(row.body), _bulk(row.bulk) if row.bulk else None)
    if row.digest is not None and digest(content) != row.digest:
        log.warning("content does not have its digest", digest=row.digest)
        return None
    return content


def seen(connection: sa.Connection, ids: Iterable[str]) -> list[Seen]:
    """What the items are judged on, and what their listings show now. Unknown items are left out."""
    items = [_item(body) for (body,) in connection.exec_driver_sql(_ITEMS, (sorted(set(ids)),))]
    names = sorted({item.listing for item in items})
    present = {row.listing: row for row in connection.exec_driver_sql(_PRESENT, (names,))}
    wanted = sorted({(i.listing, i.content) for i in items if i.content is not None})
    before: Mapping[tuple[str, str], Any] = {}
    if wanted:
        rows = connection.exec_driver_sql(_BEFORE, tuple(map(list, zip(*wanted, strict=True))))
        before = {(row.listing, row.digest): row for row in rows}
    return [_seen(item, present.get(item.listing), before) for item in items]


def _seen(item: Item, present: Any, before: Mapping[tuple[str, str], Any]) -> Seen:
    now = None if present is None else content_of_row(present)
    shows = None if now is None else digest(now)
    filed: Content | None = None
    filed_at: dt.datetime | None = None
    if item.content is not None:
        if shows == item.content:
            filed, filed_at = now, present.seen_at
        elif (row := before.get((item.listing, item.content))) is not None:
            filed, filed_at = content_of_row(row), row.seen_at
    return Seen(
        item=item.item,
        listing=item.listing,
        state=None if present is None else _listing(present.body).state,
        filed=filed,
        filed_at=filed_at,
        now=None if shows is None else now,
        edited=None if filed is None else shows != item.content,
        differing=() if filed is None else differing(filed, now or Content()),
    )


def revisions(connection: sa.Connection, item: str) -> list[Revision]:
    """What the item's listing showed since the first item was filed on it, oldest first."""
    found = [
        Revision(digest=row.digest, content=content, since=row.seen_at, until=row.until, filed=row.filed)
        for row in connection.exec_driver_sql(_ALL, (item,))
        if (content := content_of_row(row)) is not None
    ]
    names = [_item(body).listing for (body,) in connection.exec_driver_sql(_ITEMS, ([item],))]
    present = connection.exec_driver_sql(_PRESENT, (names,)).one_or_none()
    if present is not None and present.digest is not None and (found or present.filed):
        content = content_of_row(present)
        if content is not None:
            found = [one for one in found if one.digest != present.digest]
            found.append(
                Revision(digest=present.digest, content=content, since=present.seen_at, until=None, filed=present.filed)
            )
    return found


class Items(StrictStruct, frozen=True, kw_only=True):
    """Items to look at."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=MOST)]


@post("/internal/seen", status_code=200)
async def seen_items(request: Request[Any, Any, Any]) -> SeenItems:
    """What items are judged on, and what their listings show now."""
    wanted = await body_of(request, Items)
    found = await parts_of(request).run(seen, wanted.items)
    return SeenItems(items={one.item: one for one in found})


@get("/internal/revisions")
async def all_revisions(request: Request[Any, Any, Any], item: GivenId) -> Revisions:
    """What an item's listing showed since the first item was filed on it."""
    return Revisions(revisions=tuple(await parts_of(request).run(revisions, item)))


ROUTES: Final[list[Any]] = [seen_items, all_revisions]


def run(settings: Settings) -> None:
    """Serve until SIGTERM.

    Raises:
        ValueError: a setting is missing.
    """
    internal.run(settings, NAME, ROUTES, lambda: Parts(settings, schema="verification", name=NAME))
