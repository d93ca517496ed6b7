"""Writes what intake's worker publishes: commands, and events about accounts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import sqlalchemy as sa

from services.intake.kernel.ids import new_id
from services.intake.kernel.store import wall_ms
from shared import db, events
from shared.topics import partition_of

AccountEvent: TypeAlias = (
    events.AccountNotice | events.AccountChannels | events.AccountErased | events.MessageRead | events.LiftSanction
)
"""Events on ``intake.accounts``."""
_TYPES: Final = {
    kind: name
    for name, kind in events.TYPES.items()
    if issubclass(kind, events.Command | AccountEvent | events.PicturesCompared)
}


class QueuedCommand(NamedTuple):
    """A command, and what the admission queue needs to know of it.

    Attributes:
        trace: trace context, if it is traced.
        via: the upstream that filed it for somebody else.
        text: id of what the party says with it.
    """

    kind: str
    lane: str
    complainant: str
    command: events.Command
    trace: str | None = None
    via: str | None = None
    text: str | None = None


def insert_commands(connection: sa.Connection, queued: Sequence[QueuedCommand], partitions: int) -> None:
    """Insert commands and their rows of the admission queue."""
    commands = [one.command for one in queued]
    connection.exec_driver_sql(
        """with new as (
            select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
                as n(id, claim, item, kind, by, role, at, lane, complainant, partition, listing, type, payload, traceparent, via, text)
        ), commands as (
            insert into commands (id, claim, item, kind, by, role, accepted_at, via, text)
            select id, claim, item, kind, by, role, at, via, text from new
        )
        insert into admission_queue (kind, lane, complainant, partition, claim, item, listing, type, payload, accepted_at, traceparent)
        select 'command', lane, complainant, partition, claim, item, listing, type, payload, at, traceparent from new""",
        (
            [command.command for command in commands],
            [command.claim for command in commands],
            [command.item for command in commands],
            [one.kind for one in queued],
            [command.by for command in commands],
            [command.role for command in commands],
            [command.accepted_at for command in commands],
            [one.lane for one in queued],
            [one.complainant for one in queued],
            [partition_of(command.listing, partitions) for command in commands],
            [command.listing for command in commands],
            [_TYPES[type(command)] for command in commands],
            [msgspec.json.encode(command).decode() for command in commands],
            [one.trace for one in queued],
            [one.via for one in queued],
            [one.text for one in queued],
        ),
    )


def put_commands(connection: sa.Connection, queued: Sequence[QueuedCommand], partitions: int) -> None:
    """Queue the system's own commands for admission, in bounded statements."""
    for start in range(0, len(queued), 5000):
        insert_commands(connection, queued[start : start + 5000], partitions)


def moment_of(event: AccountEvent) -> dt.datetime:
    """When an event about an account took effect."""
    return event.read_at if isinstance(event, events.MessageRead) else event.at


def publish_accounts(connection: sa.Connection, about: Sequence[AccountEvent], partitions: int) -> None:
    """Queue events about accounts. The worker publishes each on ``intake.accounts``, once and in order."""
    _put(connection, [(event.account, event, moment_of(event)) for event in about], partitions)


def publish_pictures(connection: sa.Connection, compared: events.PicturesCompared, partitions: int) -> None:
    """Queue what was found of an item's pictures. The worker publishes it on ``intake.events``."""
    _put(connection, [(compared.listing, compared, compared.at)], partitions)


def _put(
    connection: sa.Connection,
    rows: Sequence[tuple[str, AccountEvent | events.PicturesCompared, dt.datetime]],
    partitions: int,
) -> None:
    """Queue events by (key, event, moment)."""
    if not rows:
        return
    none = [""] * len(rows)
    db.copy(
        connection,
        "admission_queue",
        {
            "kind": ["account"] * len(rows),
            "lane": ["standard"] * len(rows),
            "complainant": none,
            "claim": none,
            "item": none,
            "listing": [key for key, _, _ in rows],
            "partition": [partition_of(key, partitions) for key, _, _ in rows],
            "type": [_TYPES[type(event)] for _, event, _ in rows],
            "payload": [msgspec.json.encode(event).decode() for _, event, _ in rows],
            "accepted_at": [at for _, _, at in rows],
        },
    )


def notice(
    account: str, kind: str, about: str | None, now: dt.datetime, wall: dt.datetime, **figures: int | float | str
) -> events.AccountNotice:
    """Make a notice to an account."""
    return events.AccountNotice(
        notice=new_id("n", wall_ms(wall)), account=account, kind=kind, about=about, figures=figures, at=now
    )
