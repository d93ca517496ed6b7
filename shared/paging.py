"""Pages of a listing: an opaque cursor holds the key of the last row shown."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from shared.refusals import Refused

_T = TypeVar("_T")

Cursor = Annotated[str | None, QueryParameter(max_length=400, description="`next` of the previous page.")]
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="Maximum number of entries.")]
Moment = Annotated[dt.datetime, Meta(tz=True)]
"""A time in a cursor."""
RowNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A ``bigint`` in a cursor."""
Int = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""An ``int`` in a cursor."""


class Page(Struct, Generic[_T], frozen=True, kw_only=True):
    """A page of a list. ``next`` is the cursor of the next page, null at the end."""

    items: list[_T]
    next: str | None = None


def page_of(rows: Sequence[_T], limit: int, key: Callable[[_T], tuple[object, ...]]) -> Page[_T]:
    """A page of up to ``limit + 1`` rows; the extra one shows that there is more."""
    return Page(items=list(rows[:limit]), next=cursor_of(*key(rows[limit - 1])) if len(rows) > limit else None)


def cursor_of(*key: object) -> str:
    """An opaque cursor that holds ``key``."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def key_of(cursor: str | None, kind: type[_T]) -> _T | None:
    """The key in a cursor.

    Args:
        kind: a tuple. Times must be ``Moment``: one without a zone cannot be compared.

    Raises:
        Refused: 400: the cursor is not one of ours.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        key = msgspec.json.decode(raw, type=kind)
    except (ValueError, msgspec.DecodeError):
        raise bad_cursor() from None
    if "\0" in raw.decode(errors="replace") or b"\\u0000" in raw:
        raise bad_cursor()
    return key


def bad_cursor() -> Refused:
    """The refusal of a cursor that is not one of ours."""
    return Refused(
        400, "bad_cursor", "The cursor is not one of ours.", field="cursor", cure="Use `next` of the previous page."
    )
