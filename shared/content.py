"""What a listing shows: its content, the digest by which two contents are compared, what differs, and answers. Pure.

The digest covers what a buyer sees and a seller can edit. It leaves out what changes without the seller: the
marketplace's own number of the content, and where a picture can be fetched.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from shared.events import Listing, Picture, Price


class Content(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A listing's content, as the marketplace published it. What is missing was not published."""

    revision: int | None = None
    title: str | None = None
    brand: str | None = None
    category: str | None = None
    price: Price | None = None
    condition: str | None = None
    description: str | None = None
    images: tuple[Picture, ...] = ()


EDITABLE: Final = tuple(name for name in Content.__struct_fields__ if name != "revision")
"""The fields that the digest covers. Their order is part of it."""
BULKY: Final = ("revision", "price", "condition", "description", "images")
"""The fields that no rule reads: kept apart, so that they are not decoded each time a rule looks at the listing."""
_encode: Final = msgspec.json.Encoder().encode


def content_of(listing: Listing) -> Content:
    """The content in a listing."""
    return Content(**{name: getattr(listing, name) for name in Content.__struct_fields__})


def without_bulk(listing: Listing) -> Listing:
    """The listing without the fields that no rule reads."""
    return msgspec.structs.replace(listing, revision=None, price=None, condition=None, description=None, images=())


def bulk_of(listing: Listing) -> Content | None:
    """What ``without_bulk`` takes away; None if that is nothing."""
    bulk = Content(**{name: getattr(listing, name) for name in BULKY})
    return None if bulk == Content() else bulk


def joined(listing: Listing, bulk: Content | None) -> Content:
    """The content, from what the two functions before made of a listing."""
    kept = {} if bulk is None else {name: getattr(bulk, name) for name in BULKY}
    return msgspec.structs.replace(content_of(listing), **kept)


def _compared(content: Content) -> tuple[Any, ...]:
    """The values of ``EDITABLE`` in the form that is compared."""
    price = content.price
    return (
        content.title or None,
        content.brand or None,
        content.category or None,
        None if price is None else (f"{Decimal(price.amount).normalize():f}", price.currency),
        content.condition,
        content.description or None,
        tuple(picture.sha256 for picture in content.images),
    )


_NOTHING: Final = _compared(Content())


def digest(content: Content) -> str | None:
    """SHA-256 of the content, hex; None if the marketplace published none."""
    compared = _compared(content)
    return None if compared == _NOTHING else hashlib.sha256(_encode(compared)).hexdigest()


def differing(before: Content, after: Content) -> tuple[str, ...]:
    """The fields that a buyer sees differently."""
    pairs = zip(EDITABLE, _compared(before), _compared(after), strict=True)
    return tuple(name for name, was, now in pairs if was != now)


# ------------------------------------------------------------------------------------------- answers of verification's API


class Seen(Struct, frozen=True, kw_only=True):
    """What an item's listing showed when the item was taken up, and what it shows now."""

    item: str
    listing: str
    state: Literal["visible", "suspended", "removed", "ended", "unknown"] | None
    """What the marketplace last said of it; None: it has not answered."""
    filed: Content | None
    """What the item is judged on; None: the listing was not known then, or the marketplace published no content."""
    filed_at: dt.datetime | None
    """Since when it showed that, as far as is known."""
    now: Content | None
    """What it shows now; None: the marketplace publishes no content."""
    edited: bool | None
    """Whether ``now`` differs from ``filed``; None: there is no ``filed``."""
    differing: tuple[str, ...] = ()
    """The fields that differ."""


class SeenItems(Struct, frozen=True, kw_only=True):
    """By item; unknown items are missing."""

    items: dict[str, Seen]


class Revision(Struct, frozen=True, kw_only=True):
    """What a listing showed for a while."""

    digest: str
    content: Content
    since: dt.datetime | None
    until: dt.datetime | None
    """When something else took its place, for the last time; None: it shows now."""
    filed: bool
    """An item is judged on it."""


class Revisions(Struct, frozen=True, kw_only=True):
    """What a listing showed since the first item was filed on it, oldest first."""

    revisions: tuple[Revision, ...]
