"""Writes what intake's worker publishes: commands, and events about accounts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from services.intake.kernel import domain
from services.intake.kernel.store import wall_ms
from shared import db, events
from shared.topics import partition_of

_TYPES: Final = {kind: name for name, kind in events.TYPES.items() if issubclass(kind, events.Command)}


def _insert_commands(
    connection: sa.Connection,
    commands: Sequence[tuple[str, str, str, events.Command]],
    partitions: int,
    traces: Sequence[str | None] | None = None,
    vias: Sequence[str | None] | None = None,
) -> None:
    """Insert commands and their rows of the admission queue.

    Args:
        commands: (kind, lane, complainant, command).
        traces: trace context of each command; None: not traced.
        vias: upstream that filed each command for somebody else, or None.
    """
    made = [command for _, _, _, command in commands]
    connection.exec_driver_sql(
        """with new as (
            select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
                as n(id, claim, item, kind, by, role, at, lane, complainant, partition, listing, type, payload, traceparent, via)
        ), commands as (
            insert into commands (id, claim, item, kind, by, role, accepted_at, via)
            select id, claim, item, kind, by, role, at, via from new
        )
        insert into admission_queue (kind, lane, complainant, partition, claim, item, listing, type, payload, accepted_at, traceparent)
        select 'command', lane, complainant, partition, claim, item, listing, type, payload, at, traceparent from new""",
        (
            [command.command for command in made],
            [command.claim for command in made],
            [command.item for command in made],
            [kind for kind, _, _, _ in commands],
            [command.by for command in made],
            [command.role for command in made],
            [command.accepted_at for command in made],
            [lane for _, lane, _, _ in commands],
            [complainant for _, _, complainant, _ in commands],
            [partition_of(command.listing, partitions) for command in made],
            [command.listing for command in made],
            [_TYPES[type(command)] for command in made],
            [msgspec.json.encode(command).decode() for command in made],
            list(traces or [None] * len(made)),
            list(vias or [None] * len(made)),
        ),
    )


def put_commands(
    connection: sa.Connection, commands: Sequence[tuple[str, str, str, events.Command]], partitions: int
) -> None:
    """Queue the system's own commands for admission, as (kind, lane, complainant, command), in bounded statements."""
    for start in range(0, len(commands), 5000):
        _insert_commands(connection, commands[start : start + 5000], partitions)


def tell_accounts(connection: sa.Connection, notices: Sequence[events.AccountNotice], partitions: int) -> None:
    """Queue notices to accounts for admission. The worker publishes each on ``intake.accounts``, once and in order."""
    publish_accounts(connection, notices, "goodfaith.account.notice.v1", partitions)


def publish_accounts(
    connection: sa.Connection,
    notices: Sequence[
        events.AccountNotice | events.AccountChannels | events.AccountErased | events.MessageRead | events.LiftSanction
    ],
    type_: str,
    partitions: int,
) -> None:
    """Queue events about accounts, all of one type, for ``intake.accounts``."""
    if not notices:
        return
    none = [""] * len(notices)
    db.copy(
        connection,
        "admission_queue",
        {
            "kind": ["command"] * len(notices),
            "lane": ["standard"] * len(notices),
            "complainant": none,
            "claim": none,
            "item": none,
            "listing": [notice.account for notice in notices],
            "partition": [partition_of(notice.account, partitions) for notice in notices],
            "type": [type_] * len(notices),
            "payload": [msgspec.json.encode(notice).decode() for notice in notices],
            "accepted_at": [
                notice.read_at if isinstance(notice, events.MessageRead) else notice.at for notice in notices
            ],
        },
    )


def notice(
    account: str, kind: str, about: str | None, now: dt.datetime, wall: dt.datetime, **figures: int | float | str
) -> events.AccountNotice:
    """Make a notice to an account."""
    return events.AccountNotice(
        notice=domain.new_id("n", wall_ms(wall)), account=account, kind=kind, about=about, figures=figures, at=now
    )
