"""What the tables say of sellers, for the internal API: shapes and queries. Nothing here writes."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from msgspec import Struct

_STANDING = """
    select seller, general_points, serious_strikes, violations, repeat_offender, general_consequence, serious_consequence,
        next_change, changed_at
    from standings where seller = %s"""


class Standing(Struct, frozen=True, kw_only=True):
    """A seller's standing as it was counted at ``changed_at``; it is counted anew at ``next_change``."""

    seller: str
    general_points: int = 0
    serious_strikes: int = 0
    violations: int = 0
    repeat_offender: bool = False
    general_consequence: str | None = None
    serious_consequence: str | None = None
    next_change: dt.datetime | None = None
    changed_at: dt.datetime | None = None


def standing(connection: sa.Connection, seller: str, now: dt.datetime) -> Standing:
    """Of one seller."""
    row = connection.exec_driver_sql(_STANDING, (seller,)).mappings().one_or_none()
    return Standing(seller=seller) if row is None else Standing(**row)
