"""Operators' requests to enforcement to lift sanctions (table ``lifts``)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from services.intake.kernel import outbox, store
from services.intake.kernel.ids import new_id
from services.intake.sellers import tables
from shared.events import LiftSanction

_LIFTS = """
    select distinct on (sanction) sanction, by, reason, note, at from lifts where sanction = any(%s) order by sanction, at, command"""


def lift(
    connection: sa.Connection, seller: str, sanction: str, by: str, reason: str, note: str | None, partitions: int
) -> tuple[str, dt.datetime]:
    """Ask, once and under the admission lock, for a sanction to be lifted. Returns (command, when it was accepted)."""
    now, wall = store.enter_admission(connection)
    command = new_id("k", store.wall_ms(wall))
    asked = LiftSanction(command=command, account=seller, sanction=sanction, by=by, reason=reason, at=now)
    connection.execute(
        sa.insert(tables.lifts).values(
            command=command, seller=seller, sanction=sanction, by=by, reason=reason, note=note, at=now
        )
    )
    outbox.publish_accounts(connection, [asked], partitions)
    return command, now


def lifts(connection: sa.Connection, sanctions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The first request for each sanction, which is the one that takes effect."""
    if not sanctions:
        return {}
    rows = connection.exec_driver_sql(_LIFTS, (list(sanctions),)).mappings()
    return {row["sanction"]: dict(row) for row in rows}
