"""Pages of a listing: an opaque cursor holds the key of the last row shown."""

from __future__ import annotations

import base64
from typing import TypeVar

import msgspec

from shared.refusals import Refused

_T = TypeVar("_T")


def cursor_of(*key: object) -> str:
    """An opaque cursor that holds ``key``."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def key_of(cursor: str | None, kind: type[_T]) -> _T | None:
    """The key in a cursor.

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
