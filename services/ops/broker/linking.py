"""`goodfaith upgrade finish`: from here on numbers, not ids, tell duplicates (docs/decisions/0050).

In an installation that was upgraded from a version without linked events, readers keep ids as that version does, so that both can
work on a partition, forward and back. Once no process of that version runs, and none is to run again, this sets each reader's
numbers from the logs and its inbox, and marks its partitions as linked. It may run beside the workers, and again if it broke off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from services.ops.idle import Reader, present, readers
from shared.settings import Settings

# by the log's partition: the last row that was read, and the first that was not, of those after `n.seq`
_READ: Final = """
    select l.partition, coalesce(max(l.seq) filter (where r.yes), 0), coalesce(min(l.seq) filter (where not r.yes), 0)
    from {log}event_log l join unnest(%(partitions)s::int[], %(numbers)s::bigint[]) as n(partition, seq)
        on n.partition = l.partition and l.seq > n.seq
    cross join lateral (select exists (select from {reader}inbox i where i.event_id = %(writer)s || '.' || l.partition || '.' || l.seq)
        or l.seq <= coalesce((select m.upto from {reader}inbox_marks m
            where m.topic = %(name)s and m.writer = %(writer)s and m.partition = l.partition), 0) as yes) r
    where l.topic = %(topic)s and l.target = %(target)s group by 1"""
_SET: Final = """
    insert into {reader}reads (topic, partition, writer, log_partition, seq)
    select %(name)s, %(target)s, %(writer)s, * from unnest(%(partitions)s::int[], %(numbers)s::bigint[])
    on conflict (topic, partition, writer, log_partition) do update set seq = excluded.seq"""


def contiguous(start: int, read: int, unread: int) -> int | None:
    """Number of the last row read, where everything before it was read too; None: there is a hole.

    Args:
        start: up to which everything is known to be read.
        read: the last row after it that was read; 0: none.
        unread: the first row after it that was not; 0: none.
    """
    if not read:
        return start
    return None if 0 < unread < read else read


@dataclass(slots=True)
class Linked:
    """What `finish` did.

    Attributes:
        partitions: by reader, those that were linked.
        holes: "reader topic writer.partition" of events that were never read though later ones were: their partitions stay as they are.
    """

    partitions: dict[str, list[int]] = field(default_factory=dict)
    holes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"linked": self.partitions, "holes": self.holes}


def finish(engine: sa.Engine, settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Linked:
    """Link what is not linked yet.

    Args:
        engine: as an administrator, not AUTOCOMMIT.
    """
    made = Linked()
    with engine.connect() as connection:
        logs = present(connection, readers(settings), table="reads")
    for reader in logs:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(
                f"select partition from {reader.schema}.{reader.prefix}partitions where not linked order by 1"
            )
            partitions = list(rows.scalars())
        for partition in partitions:
            tell(f"{reader.name} {partition}")
            # most of the work without the lock, then the rest of it under the lock
            with engine.connect() as connection:
                first, _ = _numbers(connection, settings, logs, reader, partition, {})
            if _link(engine, settings, logs, reader, partition, first, made):
                made.partitions.setdefault(reader.name, []).append(partition)
    return made


_Source = tuple[str, str]
"""Writer, and topic without prefix."""


def _numbers(
    connection: sa.Connection,
    settings: Settings,
    logs: Iterable[Reader],
    reader: Reader,
    partition: int,
    known: Mapping[_Source, Mapping[int, int]],
) -> tuple[dict[_Source, dict[int, int]], list[str]]:
    """By writer and topic, for each partition of the log, the last row read; and where there are holes."""
    numbers: dict[_Source, dict[int, int]] = {}
    holes: list[str] = []
    for log in logs:
        table = f"{log.schema}.{log.prefix}"
        for topic in reader.reads:
            if log.schema not in topic.writers or topic.writer == "marketplace":
                continue
            ends = connection.exec_driver_sql(f"select partition from {table}partitions").scalars()
            start = dict.fromkeys(ends, 0) | dict(known.get((log.name, topic.name), {}))
            rows = connection.exec_driver_sql(
                _READ.format(reader=f"{reader.schema}.{reader.prefix}", log=table),
                {
                    "partitions": list(start), "numbers": list(start.values()), "writer": log.name, "name": topic.name,
                    "topic": settings.topic_prefix + topic.name, "target": partition,
                },
            )  # fmt: skip
            found = dict(start)
            for source, read, unread in rows:
                last = contiguous(start[source], read, unread)
                if last is None:
                    holes.append(f"{reader.name} {topic.name} {log.name}.{source}.{unread}")
                else:
                    found[source] = last
            numbers[log.name, topic.name] = found
    return numbers, holes


def _link(
    engine: sa.Engine,
    settings: Settings,
    logs: Iterable[Reader],
    reader: Reader,
    partition: int,
    known: Mapping[_Source, Mapping[int, int]],
    made: Linked,
) -> bool:
    table = f"{reader.schema}.{reader.prefix}"
    with engine.begin() as connection:
        # the owner's transactions wait here; afterwards its epoch is not the latest, and it claims the partition again
        connection.exec_driver_sql(
            f"select from {table}partitions where partition = %s for no key update", (partition,)
        )
        numbers, holes = _numbers(connection, settings, logs, reader, partition, known)
        if holes:
            made.holes += holes
            return False
        for (writer, name), upto in numbers.items():
            upto = {source: number for source, number in upto.items() if number}
            connection.exec_driver_sql(
                _SET.format(reader=table),
                {
                    "name": name, "target": partition, "writer": writer, "partitions": list(upto), "numbers": list(upto.values()),
                },
            )  # fmt: skip
        connection.exec_driver_sql(
            f"update {table}partitions set linked = true, epoch = epoch + 1 where partition = %s", (partition,)
        )
    return True
