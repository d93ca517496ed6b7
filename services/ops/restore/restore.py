"""`goodfaith restore topics|unread`: repairs topics after the database was restored, or after topics lost records.

If the database was restored to the end of its log, it knows everything that is on the topics, and the workers simply
continue. If it was restored to an earlier moment, the topics are ahead of it: they hold events that no log knows,
under ids that the logs will give to other events ("ghosts"). So our own topics are recreated and filled from the logs. Topics of
upstreams and of a marketplace stay, and reading continues from the restored cursors. What was asked of the
marketplace after that moment is undone, or asked again, with a higher number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import sqlalchemy as sa
import typer

from services.ops import installation
from services.ops.restore.common import CHUNK, none_connected, producing, rebuild_views
from services.ops.terminal import JsonOption, StackOption, YesOption
from shared import kafka_links, topics
from shared.settings import Settings

if TYPE_CHECKING:
    from services.ops.idle import Reader

app = typer.Typer(no_args_is_help=True, help="Repair topics after a restore of the database, or after lost records.")
GONE_S: Final = 60.0
"""Wall seconds that the broker may take to delete topics."""
MARGIN: Final = 1_000
"""How far to go above the highest known number: with the HTTP adapter, the last commands may not be recorded here."""


@app.callback()
def _group() -> None:
    """Repair topics after a restore of the database, or after lost records."""


@dataclass(slots=True)
class Ghosts:
    """Events that the topics have and the restored logs do not, and what they said.

    Attributes:
        events: number of events, by type.
        claims: ids of claims that were accepted, published and lost.
        items: listings that these claims named.
        listings: listing -> highest number of a command on it.
        sellers: seller -> highest number of a command on it.
    """

    events: Counter[str] = field(default_factory=Counter)
    claims: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    listings: dict[str, int] = field(default_factory=dict)
    sellers: dict[str, int] = field(default_factory=dict)


class _Document(msgspec.Struct):
    id: str
    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


_document: Final = msgspec.json.Decoder(_Document)


def is_ghost(id_: str, heads: Mapping[str, Mapping[int, int]]) -> bool:
    """Whether an event of a log has a number that the log, as restored, has not reached.

    Args:
        heads: last number by writer and partition.
    """
    writer, _, rest = id_.partition(".")
    partition, _, number = rest.partition(".")
    if writer not in heads or not (partition.isdigit() and number.isdigit()):
        return False
    return int(number) > heads[writer].get(int(partition), 0)


def lost(raw: bytes, heads: Mapping[str, Mapping[int, int]], ghosts: Ghosts) -> bool:
    """Whether a record is a ghost; if so, note what it said. An unreadable record is not: no log of ours wrote it."""
    try:
        document = _document.decode(raw)
        if not is_ghost(document.id, heads):
            return False
        take(ghosts, document.type, msgspec.json.decode(document.data))
    except (msgspec.DecodeError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False
    return True


def take(ghosts: Ghosts, type_: str, data: Mapping[str, Any]) -> None:
    """Note what a ghost said."""
    ghosts.events[type_] += 1
    if type_ == "goodfaith.item.submitted.v1":
        ghosts.claims.add(data["claim"])
        ghosts.items.add(data["listing"])
    elif type_ == "goodfaith.marketplace.command.v1" and data.get("seq"):
        _most(ghosts.listings, data["listing"], int(data["seq"]))
    elif type_ == "goodfaith.hold.changed.v1" and data.get("action"):
        # with the HTTP adapter commands are on no topic; their ids end in the number
        _most(ghosts.listings, data["listing"], int(data["action"].rpartition(".")[2]))
    elif type_ == "goodfaith.marketplace.seller_command.v1":
        _most(ghosts.sellers, data["seller"], int(data["seq"]))
    elif type_ == "goodfaith.sanction.changed.v1" and data.get("measures"):
        # with the HTTP adapter these name the seller, but no number
        _most(ghosts.sellers, data["seller"], 0)


def _most(found: dict[str, int], name: str, number: int) -> None:
    found[name] = max(found.get(name, 0), number)


@dataclass(slots=True)
class RestoredTopics:
    """What `restore_topics` did.

    Attributes:
        refilled: number of records written from the logs.
        generation: of the stream views, which are rebuilt; 0: there were none.
        unknown_sellers: sellers under measures of which the database knows nothing; free them at the marketplace by
            hand.
        applied_ghosts: "reader topic writer.partition from-to" of events that a reader applied but their log has lost.
    """

    topics: list[str]
    ghosts: Ghosts
    refilled: int = 0
    generation: int = 0
    unknown_sellers: list[str] = field(default_factory=list)
    applied_ghosts: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "topics": len(self.topics),
            "ghosts": sum(self.ghosts.events.values()),
            "lost_claims": len(self.ghosts.claims),
            "listings_asked_again": len(self.ghosts.listings.keys() | self.ghosts.items),
            "sellers_asked_again": len(self.ghosts.sellers),
            "unknown_sellers": self.unknown_sellers,
            "applied_ghosts": self.applied_ghosts,
            "refilled": self.refilled,
            "generation": self.generation,
            "seconds": round(self.seconds, 1),
        }


_BUMP_LISTINGS: Final = f"""
    update enforcement.listings l set seq = greatest(l.seq, n.seq) + {MARGIN}, tries = 0, resend_at = now(),
        action = case when l.action = '' then 'restore' else l.action end
    from unnest(%s::text[], %s::int[]) as n(listing, seq) where l.listing = n.listing"""
# the database knows of no hold: the listing is shown again
_FREE_LISTINGS: Final = """
    insert into enforcement.listings (listing, partition, holds, seq, action, confirmed, result, resend_at)
    select n.listing, n.partition, 0, n.seq, 'restore', 0, 'done', now()
    from unnest(%s::text[], %s::int[], %s::int[]) as n(listing, partition, seq)
    on conflict (listing) do nothing"""
_BUMP_SELLERS: Final = f"""
    update enforcement.standings s set seq = greatest(s.seq, n.seq) + {MARGIN}, tries = 0, resend_at = now()
    from unnest(%s::text[], %s::int[]) as n(seller, seq) where s.seller = n.seller returning s.seller"""
# Records keep their original time, so the broker may delete those beyond the topic's retention while more are written
# after them; a reader that begins there would find its position gone. A day is left for reading.
_ROWS: Final = """
    select l.topic, l.key, l.target, l.payload, l.recorded_wall
    from {table} l join unnest(%s::text[], %s::bigint[]) as n(topic, keep_ms) on n.topic = l.topic
    where n.keep_ms < 0 or l.recorded_wall > now() - n.keep_ms * interval '1 millisecond' + interval '1 day'
    order by l.partition, l.seq"""


def written_by(logs: Iterable[Reader]) -> list[topics.Topic]:
    """Topics that have a log here, so that their records can be written again."""
    here = {log.schema for log in logs}
    return [topic for topic in topics.TOPICS if here & set(topic.writers)]


def restore_topics(
    settings: Settings, engine: sa.Engine, keep: Path, tell: Callable[[str], None] = lambda _: None
) -> RestoredTopics:
    """Recreate our topics and fill them from the logs. Stop all processes first. If it is interrupted, repeat it.

    Args:
        engine: an administrator's.
        keep: file to which events are appended that the topics have and the logs do not, one document per line.

    Raises:
        CommandError: a process is still connected to the database.
        Unavailable: the broker does not delete topics.
    """
    from services.ops.idle import present, readers
    from services.ops.restore.unread import commit_cursors

    begun = time.monotonic()
    none_connected(engine)
    with engine.begin() as connection:
        logs = present(connection, readers(settings))
        ours = written_by(logs)
        heads = {
            log.name: dict(map(tuple, connection.exec_driver_sql(f"select partition, seq from {log.tables}partitions")))
            for log in logs
        }
        read_upto: dict[tuple[str, int], int] = {}
        for log in logs:
            rows = connection.exec_driver_sql(f"select topic, partition, next_offset from {log.tables}cursors")
            for topic, partition, offset in rows:
                key = (str(topic), int(partition))
                read_upto[key] = min(read_upto.get(key, offset), offset)
    tell("reading what the topics have and the logs do not")
    made = RestoredTopics([settings.topic_prefix + topic.name for topic in ours], Ghosts())
    with keep.open("ab") as file:
        for raw in _unread(settings, ours, read_upto):
            if lost(raw, heads, made.ghosts):
                file.write(raw + b"\n")
    with engine.begin() as connection:
        names = [topic.name for topic in ours]
        for log in logs:
            table = log.tables
            connection.exec_driver_sql(f"delete from {table}cursors where topic = any(%s)", (names,))
            connection.exec_driver_sql(f"delete from {table}topic_ids where topic = any(%s)", (names,))
            connection.exec_driver_sql(f"delete from {table}gaps where topic = any(%s)", (names,))
            connection.exec_driver_sql(f"update {table}partitions set published_upto = seq")
        made.applied_ghosts = _forget_ghosts(connection, logs)
        # accepted before that moment and published after it: they wait for admission, and will be published again
        known = connection.exec_driver_sql(
            "select id from intake.claims where id = any(%s)", (sorted(made.ghosts.claims),)
        )
        made.ghosts.claims.difference_update(known.scalars())
        made.unknown_sellers = _ask_again(connection, made.ghosts, settings.partitions)
    tell("recreating the topics")
    _recreate(settings, made.topics)
    tell("filling topics from the logs")
    keep_ms = {settings.topic_prefix + topic.name: topic.kept_ms(settings) for topic in ours}
    made.refilled = sum(_refill(settings, engine, f"{log.tables}event_log", keep_ms) for log in logs)
    with engine.begin() as connection:
        commit_cursors(settings, connection, logs)
        connection.exec_driver_sql("delete from platform.went_back")
    tell("rebuilding the stream views from the logs")
    made.generation = rebuild_views(settings)
    made.seconds = time.monotonic() - begun
    return made


def _forget_ghosts(connection: sa.Connection, logs: Iterable[Reader]) -> list[str]:
    """Set readers back to where the logs end, so that they apply the next event under a lost number.

    Returns the lost events that they had applied.
    """
    logs, found = list(logs), []
    for reader in logs:
        table = f"{reader.tables}reads"
        for log in logs:
            rows = connection.exec_driver_sql(
                f"with ahead as (select r.*, p.seq as head from {table} r join {log.tables}partitions p"
                " on p.partition = r.log_partition where r.writer = %s and r.seq > p.seq)"
                f" update {table} r set seq = a.head from ahead a where r.topic = a.topic and r.partition = a.partition"
                " and r.writer = a.writer and r.log_partition = a.log_partition returning a.topic, a.log_partition, a.head, a.seq",
                (log.name,),
            )
            found += [f"{reader.name} {topic} {log.name}.{p} {head + 1}-{seq}" for topic, p, head, seq in rows]
    return sorted(found)


def _ask_again(connection: sa.Connection, ghosts: Ghosts, partitions: int) -> list[str]:
    """Have the present state sent to the marketplace, under numbers above those it has seen. Returns unknown sellers."""
    numbers = {**dict.fromkeys(sorted(ghosts.items), 0), **ghosts.listings}
    above = [number + MARGIN for number in numbers.values()]
    connection.exec_driver_sql(_BUMP_LISTINGS, (list(numbers), list(numbers.values())))
    parts = [topics.partition_of(listing, partitions) for listing in numbers]
    connection.exec_driver_sql(_FREE_LISTINGS, (list(numbers), parts, above))
    told = (list(ghosts.sellers), list(ghosts.sellers.values()))
    known = set(connection.exec_driver_sql(_BUMP_SELLERS, told).scalars())
    return sorted(set(ghosts.sellers) - known)


def _unread(
    settings: Settings, ours: Sequence[topics.Topic], read_upto: Mapping[tuple[str, int], int]
) -> Iterator[bytes]:
    """Records of our topics that not every reader has read. What all have read, the restored logs had published."""
    from kafka import TopicPartition

    consumer: Any = kafka_links.consumer(settings, enable_auto_commit=False)
    try:
        there = consumer.topics()
        names = {settings.topic_prefix + topic.name: topic.name for topic in ours}
        parts = [
            TopicPartition(name, partition)
            for name in names
            if name in there
            for partition in sorted(consumer.partitions_for_topic(name) or ())
        ]
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        consumer.assign(parts)
        left = set()
        for part in parts:
            at = max(begins[part], read_upto.get((names[part.topic], part.partition), 0))
            consumer.seek(part, at)
            if at < ends[part]:
                left.add(part)
        while left:
            for part, records in consumer.poll(timeout_ms=500).items():
                yield from (record.value for record in records if record.value is not None)
                if records[-1].offset + 1 >= ends[part]:
                    left.discard(part)
    finally:
        consumer.close()


def _recreate(settings: Settings, names: Iterable[str]) -> None:
    from kafka.errors import KafkaError

    from shared.failures import Unavailable

    admin: Any = kafka_links.admin(settings, client_id="goodfaith-restore")
    try:
        if doomed := sorted(set(names) & set(admin.list_topics())):
            admin.delete_topics(doomed, timeout_ms=30_000)
        until = time.monotonic() + GONE_S
        while set(doomed) & set(admin.list_topics()):
            if time.monotonic() > until:
                raise Unavailable(f"the broker has not deleted the topics within {GONE_S:.0f} s")
            time.sleep(0.2)
    finally:
        admin.close()
    while True:
        try:
            topics.create(settings)
            return
        except KafkaError:
            # a broker that has just come back, or is busy, refuses for a moment
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def _refill(settings: Settings, engine: sa.Engine, table: str, keep_ms: Mapping[str, int]) -> int:
    """Write a log's rows to their topics in order, except those that the broker would delete. Returns how many.

    Args:
        keep_ms: retention by topic; -1: forever.
    """
    count = 0
    with producing(settings) as send, engine.connect() as connection:
        rows = connection.execution_options(stream_results=True, yield_per=CHUNK).exec_driver_sql(
            _ROWS.format(table=table), (list(keep_ms), list(keep_ms.values()))
        )
        for topic, key, target, payload, wall in rows:
            # with its original time, from which retention and the views count
            send(topic, key, payload, target, int(wall.timestamp() * 1000))
            count += 1
    return count


@app.command(name="topics")
def topics_(
    stack: StackOption = "default",
    out: Annotated[
        Path | None,
        typer.Option(help="File for events that only the topics have; default: a file in the stack's folder."),
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Recreate the topics from the event logs, after the database was restored to an earlier moment.

    Stop all processes first. For an installation, set `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE` (an administrator's
    URL).
    """
    from services.ops.terminal import confirm, console, print_json, progress
    from shared import db

    confirm("Delete our topics and fill them again from the event logs?", yes=yes)
    settings = installation.settings(stack)
    file = out or installation.folder(stack) / f"lost-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.jsonl"
    engine = db.administer(settings.database.get_secret_value())
    try:
        with progress("comparing topics and event logs") as tell:
            made = restore_topics(settings, engine, file, tell)
    finally:
        engine.dispose()
    facts = made.as_json()
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}", markup=False, highlight=False)
    console.print(f"events that only the topics had: {file}", markup=False, highlight=False)
    if json:
        print_json({**facts, "file": str(file)})


@app.command()
def unread(
    stack: StackOption = "default",
    give_up: Annotated[
        bool,
        typer.Option(
            "--give-up", help="Continue even where records of others (upstreams, a marketplace) are lost for good."
        ),
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Restore records from the event logs that were deleted before they were read, or with their topic.

    Stop all processes first. For an installation, set `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE` (an administrator's
    URL). Exit code 1 if records of others are lost and `--give-up` is not given.
    """
    from services.ops.restore import unread as gone
    from services.ops.terminal import confirm, console, print_json, progress
    from shared import db

    confirm("Replace what the topics have behind each gap by the records of the event logs?", yes=yes)
    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value())
    try:
        with progress("looking for gaps") as tell:
            made = gone.refill(settings, engine, give_up=give_up, tell=tell)
    finally:
        engine.dispose()
    for gap in made.gaps:
        console.print(str(gap), markup=False, highlight=False)
    console.print(f"{len(made.gaps)} gaps, {made.records} records restored", highlight=False)
    if made.theirs:
        text = "left as lost" if give_up else "not in our logs: have their writers send them again, then use --give-up"
        console.print(f"{len(made.theirs)} gaps in topics of others: {text}", style="red", highlight=False)
    if json:
        print_json(made.as_json())
    if made.theirs and not give_up:
        raise typer.Exit(1)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="restore")
