"""A service as small as can be, on the real runtime: it counts per key and echoes, and does what its input tells it to.

An ``Accept`` command of item ``i`` on listing (key) ``l`` appends to ``echo_items``; ``by`` steers it:
``poison`` raises while ``/tmp``-free table ``echo_poison`` is not empty, ``bad_row`` makes ``save`` fail in the database,
``slow`` takes its time without a word to the database; with ``@hasty`` among its arguments a transaction may do so for 1 s only.
A timer stands for each key with a row in ``echo_timers``; the database refuses to have one fire whose key begins with ``refused``.
With ``@queue`` among its arguments it also takes the rows of ``echo_queue``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from shared import db, events, logs, topics
from shared.runtime import Batch, Due, Incoming, Outgoing, Service, Tx, run
from shared.runtime.ddl import runtime_v1
from shared.settings import Settings

DDL = (
    runtime_v1()
    + """
create table echo_items (n bigint generated always as identity, item text not null, listing text not null, event_id text not null);
create table echo_poison (dummy int);
create table echo_timers (partition int, listing text primary key, due timestamptz not null);
create table echo_fired (listing text check (left(listing, 7) <> 'refused'), at timestamptz not null);
create table echo_queue (id bigint generated always as identity primary key, partition int not null, listing text not null, bad boolean not null default false);
"""
)


class EchoBatch:
    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._rows: list[tuple[str, str, str]] = []
        self._fired: list[Due] = []

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        data = incoming.data
        assert isinstance(data, events.Accept)
        if (
            data.by == "poison"
            and self._tx.connection.execute(sa.text("select exists (select from echo_poison)")).scalar()
        ):
            raise RuntimeError("poison")
        if data.by == "slow":
            time.sleep(0.05)
        self._rows.append(("\0" if data.by == "bad_row" else data.item, incoming.key, incoming.id))
        refused = events.CommandRefused(
            command=data.command, item=data.item, claim=data.claim, listing=data.listing, code="echo", detail="echo"
        )
        yield Outgoing(
            incoming.partition,
            topics.VERIFICATION,
            incoming.key,
            "goodfaith.command.refused.v1",
            refused,
            data.item,
            self._tx.now,
            data.claim,
            incoming.id,
        )

    def due(self, limit: int) -> Sequence[Due]:
        found = []
        for partition, mark in self._tx.watermarks.items():
            rows = self._tx.connection.execute(
                sa.text(
                    "select listing, due from echo_timers where partition = :p and due <= :m and listing <> all(:k) limit :n"
                ),
                {"p": partition, "m": mark, "k": list(self._tx.blocked), "n": limit},
            )
            found.extend(Due(partition, listing, listing, at) for listing, at in rows)
        return found

    def fire(self, due: Due) -> Iterable[Outgoing]:
        self._fired.append(due)
        return ()

    def save(self) -> None:
        for row in self._rows:
            self._tx.connection.exec_driver_sql(
                "insert into echo_items (item, listing, event_id) values (%s, %s, %s)", row
            )
        for due in self._fired:
            self._tx.connection.exec_driver_sql("insert into echo_fired values (%s, %s)", (due.key, due.at))
            self._tx.connection.exec_driver_sql("delete from echo_timers where listing = %s", (due.key,))

    def marks(self) -> dict[int, object]:
        return {}


class Echo:
    name = "echo"
    prefix = ""
    reads: tuple[topics.Topic, ...] = (topics.INTAKE,)
    keyed_like = frozenset({topics.VERIFICATION.name})
    raw = False
    keeps_time = False

    def __init__(self, schema: str, *more: str) -> None:
        self.schema = schema
        self.queue = "echo_queue" if "@queue" in more else ""
        self.reads = (*type(self).reads, *(topic for topic in topics.TOPICS if topic.name in more))

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        if not self.queue or not room:
            return ()
        rows = tx.connection.exec_driver_sql(
            "delete from echo_queue where id in (select id from echo_queue where partition = any(%s) order by id limit %s)"
            " returning id, partition, listing, bad",
            (list(tx.partitions), room),
        )
        return [
            Incoming(
                "@queue",
                partition,
                id_,
                listing,
                f"q{id_}",
                "goodfaith.command.accept.v1",
                events.Accept(
                    command=f"k{id_}",
                    item=f"q{id_}",
                    claim="c",
                    listing=listing,
                    by="bad_row" if bad else "x",
                    role="seller",
                    accepted_at=tx.now,
                ),
            )
            for id_, partition, listing, bad in sorted(rows)
        ]

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        return EchoBatch(tx)  # type: ignore[return-value]


if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings, "echo")
    if "@hasty" in sys.argv:
        db.IDLE_LIMIT_S = 1
    service: Service = Echo(*sys.argv[1:])
    run(service, settings)
