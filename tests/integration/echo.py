"""A service as small as can be, on the real runtime: it counts per key and echoes, and does what its input tells it to.

An ``Accept`` command of item ``i`` on listing (key) ``l`` appends to ``echo_items``; ``by`` steers it:
``poison`` raises while ``/tmp``-free table ``echo_poison`` is not empty, ``bad_row`` makes ``save`` fail in the database.
A timer stands for each key with a row in ``echo_timers``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from shared import events, logs, topics
from shared.runtime import Batch, Due, Incoming, Outgoing, Service, Tx, run
from shared.runtime.ddl import linked_events, runtime_v1, runtime_v2, topic_ids
from shared.settings import Settings

DDL = (
    runtime_v1()
    + runtime_v2()
    + topic_ids()
    + ";"
    + linked_events()
    + """
create table echo_items (n bigint generated always as identity, item text not null, listing text not null, event_id text not null);
create table echo_poison (dummy int);
create table echo_timers (partition int, listing text primary key, due timestamptz not null);
create table echo_fired (listing text, at timestamptz not null);
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
        self._rows.append(("\0" if data.by == "bad_row" else data.item, incoming.key, incoming.id))
        refused = events.CommandRefused(
            command=data.command, item=data.item, claim=data.claim, listing=data.listing, code="echo", detail="echo"
        )
        yield Outgoing(
            incoming.partition, topics.VERIFICATION, incoming.key, "goodfaith.command.refused.v1", refused, data.item,
            self._tx.now, data.claim, incoming.id,
        )  # fmt: skip

    def due(self, limit: int) -> Sequence[Due]:
        found = []
        for partition, mark in self._tx.watermarks.items():
            rows = self._tx.connection.execute(
                sa.text(
                    "select listing, due from echo_timers where partition = :p and due <= :m and listing <> all(:k) limit :n"
                ),
                {"p": partition, "m": mark, "k": list(self._tx.parked), "n": limit},
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
    reads = (topics.INTAKE,)
    keyed_like = frozenset({topics.VERIFICATION.name})
    queue = ""
    raw = False
    keeps_time = False

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        return ()

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        return EchoBatch(tx)  # type: ignore[return-value]


if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings, "echo")
    service: Service = Echo(sys.argv[1])
    run(service, settings)
