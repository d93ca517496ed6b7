"""Faults of three brokers that replicate each other: what each breaks, and how it heals (``breakage``)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx
import sqlalchemy as sa
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from kafka.protocol.admin import ElectionType

from deploy.local import disks
from deploy.local.children import StackError, send
from deploy.local.cluster import NODES, NodeName
from deploy.local.processes import Fleet, Process
from labs.exposition import total
from labs.faults.breakage import Fault, FaultBed
from labs.faults.load import UPSTREAM
from services.observer.watch import replication
from services.ops.restore import unread
from shared import db, kafka_links, topics
from shared.callers import trust
from shared.runtime import seen
from shared.settings import Settings

IN_SYNC_S: Final = 180.0
LASTS_S: Final = 20.0
"""For so long a node is away, cut off or slow."""
FREEZE_S: Final = 4.0
"""Less than the six seconds after which a node is taken for dead."""
SLOW_S: Final = 0.3
"""Each way: a round trip of over half a second."""
ROOM: Final = 128 << 20
"""Bytes that are left on a small disk before it is filled."""
UNREAD: Final = 60


@contextlib.contextmanager
def admin_of(settings: Settings) -> Iterator[Any]:
    """A client for what only the broker knows."""
    admin = kafka_links.admin(settings, client_id="goodfaith-faults", request_timeout_ms=10_000)
    try:
        yield admin
    finally:
        admin.close()


def in_sync(ground: FaultBed) -> float:
    """Wait until every partition has all its replicas again, and have each node lead what is its to lead; returns for how long.

    The broker does the latter by itself, every five minutes: until then who was away leads nothing, and would not be missed.

    Raises:
        StackError: it has not in time.
    """

    def whole() -> bool:
        try:
            with admin_of(ground.settings) as admin:
                return len(admin.describe_cluster()["brokers"]) == len(NODES) and replication(
                    admin.describe_topics()
                ) == (0, 0)
        except KafkaError:
            return False

    def balanced() -> bool:
        with contextlib.suppress(KafkaError), admin_of(ground.settings) as admin:
            admin.elect_leaders(ElectionType.PREFERRED)
            return True
        return False

    took = ground.wait("all replicas are in sync", whole, IN_SYNC_S)
    return took + ground.wait("each node leads what is its to lead", balanced, IN_SYNC_S)


def bring_back(ground: FaultBed, *nodes: NodeName) -> None:
    """Start nodes again, and wait until they have caught up: only then may the next be taken."""
    ground.stack.start_kafka(*nodes)
    in_sync(ground)


def _leaders(ground: FaultBed) -> None:
    for node in NODES:
        ground.clock()
        ground.stack.kill_kafka(node)
        ground.flows()
        bring_back(ground, node)


def _controller(ground: FaultBed) -> None:
    with admin_of(ground.settings) as admin:
        before = _quorum_leader(admin)
    ground.clock()
    ground.stack.kill_kafka(NODES[before - 1])
    ground.flows()
    after = before

    def another() -> bool:
        nonlocal after
        with contextlib.suppress(KafkaError), admin_of(ground.settings) as admin:
            after = _quorum_leader(admin)
        return after not in (before, -1)

    ground.wait("another controller is elected", another)
    # what only a controller does
    name = f"{ground.settings.topic_prefix}faults-{ground.run.plan.ns}"
    with admin_of(ground.settings) as admin:
        topics.create_one(admin, ground.settings, name, {})
        admin.delete_topics([name], timeout_ms=30_000)
    ground.notes.append(f"controller: node {before}, then {after}")
    bring_back(ground, NODES[before - 1])


def _quorum_leader(admin: Any) -> int:
    (topic,) = admin.describe_metadata_quorum()["topics"]
    (partition,) = topic["partitions"]
    return int(partition["leader_id"])


def coordinator_partition(group: str, partitions: int) -> int:
    """The partition of `__consumer_offsets` whose leader coordinates a group, as Kafka finds it (Java's `String.hashCode`)."""
    value = 0
    for unit in memoryview(group.encode("utf-16-le")).cast("H"):
        value = (value * 31 + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >> 31 else value
    return (abs(signed) if signed > -(1 << 31) else 0) % partitions


def _coordinator(ground: FaultBed) -> None:
    group = f"{ground.settings.topic_prefix}verification"
    with admin_of(ground.settings) as admin:
        (offsets,) = admin.describe_topics(["__consumer_offsets"])
        leaders = {one["partition_index"]: one["leader_id"] for one in offsets["partitions"]}
    node = NODES[leaders[coordinator_partition(group, len(leaders))] - 1]
    ground.clock()
    ground.stack.kill_kafka(node)
    ground.flows()
    bring_back(ground, node)


def _two_down(ground: FaultBed) -> None:
    """Nobody acknowledges a write to a topic any more: intake takes claims all the same, and says that they wait."""
    lost = NODES[1:]
    for node in lost:
        ground.stack.kill_kafka(node)
    begun, before = time.monotonic(), len(ground.record.items)
    ground.wait("intake says that publishing is delayed", lambda: health(ground)["publishing"] == "delayed", 60)
    said_after = time.monotonic() - begun
    time.sleep(max(LASTS_S - said_after, 5.0))
    if (taken := len(ground.record.items) - before) <= 0:
        raise StackError("intake takes no claims while two of three brokers are down")
    ground.notes.append(f"intake took {taken} items meanwhile, said so after {said_after:.0f} s")
    ground.clock()
    ground.stack.start_kafka(*lost)
    ground.flows()
    ground.wait("intake says that publishing is current", lambda: health(ground)["publishing"] == "current", 60)
    in_sync(ground)


def health(ground: FaultBed) -> dict[str, Any]:
    """What intake says of itself."""
    with contextlib.suppress(httpx.HTTPError):
        answer: dict[str, Any] = httpx.get(
            f"{ground.settings.intake_url}/healthz",
            timeout=10,
            trust_env=False,
            verify=trust(ground.settings.intake_url, ground.settings.internal_ca),
        ).json()
        return answer
    return {"publishing": "no answer"}


def _bounce(ground: FaultBed) -> None:
    """Each in turn, again and again until all is filed."""
    bounces = 0
    while bounces < len(NODES) or not ground.filed_enough:
        node = NODES[bounces % len(NODES)]
        ground.clock()
        ground.stack.kill_kafka(node)
        time.sleep(1.0)
        ground.stack.start_kafka(node)
        ground.flows()
        in_sync(ground)
        bounces += 1
    ground.notes.append(f"{bounces} kills")


def _cut(ground: FaultBed) -> None:
    """Clients cannot reach one node, which its peers can: it goes on leading."""
    link = ground.links[1]
    before = len(ground.record.items)
    link.cut()
    time.sleep(LASTS_S)
    taken = len(ground.record.items) - before
    ground.notes.append(f"intake took {taken} items meanwhile")
    ground.clock()
    link.heal()
    if ground.in_flight < taken / 6:
        raise StackError(
            f"{ground.in_flight} of {taken} items waited for a broker that leads a third of the partitions"
        )
    ground.flows()


def _slow(ground: FaultBed) -> None:
    """One node hangs for as long as it may, then answers late."""
    node = ground.stack.nodes()[2]
    ground.clock()
    send(node.handle, node.marker, signal.SIGSTOP)
    time.sleep(FREEZE_S)
    send(node.handle, node.marker, signal.SIGCONT)
    ground.flows()
    link = ground.links[2]
    link.slow(SLOW_S)
    try:
        ground.clock()
        took = ground.flows()
        ground.notes.append(f"while it answers {2 * SLOW_S:.1f} s late: {took:.1f} s through")
        time.sleep(LASTS_S / 2)
    finally:
        link.heal()
    ground.clock()
    ground.flows()
    in_sync(ground)


def _full(ground: FaultBed) -> None:
    """One node has no room for its log: it ends; the others go on."""
    name = NODES[2]
    node = ground.stack.nodes()[2]
    ground.stack.kill_kafka(name)
    with disks.limited(node.data, ROOM):
        bring_back(ground, name)
        ground.clock()
        ballast = disks.fill(node.data)
        try:
            ground.wait("the node with the full disk ends", lambda: not ground.stack.nodes()[2].running, 90)
            ground.notes.append("the node ended")
        except StackError:
            # it had room in files that were there already, or its partitions alone went off-line
            ground.notes.append("the node went on without its log folder")
        ground.flows()
        ground.stack.kill_kafka(name)
        ballast.unlink()
        bring_back(ground, name)
        ground.stack.kill_kafka(name)
    bring_back(ground, name)


def gone(ground: FaultBed) -> float:
    """Places that the workers leave alone, since what was unread there is no more: of their own metrics."""
    return total(ground.fleet, "goodfaith_unread_gone_partitions")


def bring_back_records(ground: FaultBed, *, give_up: bool = False) -> None:
    """As the runbook UnreadGone has it: the alert, all processes stopped, `goodfaith restore unread`, started; all flows again.

    Args:
        give_up: whether the gaps are in a topic of an upstream's, whose records nobody here has.
    """
    took = ground.wait("the workers say that unread records are gone", lambda: gone(ground) > 0, 150)
    ground.notes.append(f"said after {took:.0f} s")
    engine = db.administer(ground.stack.admin_url, pooled=False)
    try:
        with ground.everybody_stopped():
            made = unread.refill(ground.settings, engine, give_up=give_up)
    finally:
        engine.dispose()
    if bool(made.theirs) != give_up or bool(made.records) == give_up:
        raise StackError(f"not brought back: {made.as_json()}")
    ground.notes.append(f"{len(made.gaps)} places, {made.records} records from the event logs")
    ground.flows()
    if gone(ground):
        raise StackError("workers still leave places alone")


def delete_unread(settings: Settings, least: int, within_s: float) -> None:
    """Wait until so many records more lie on intake's topic, which nobody reads meanwhile, and delete all that it has.

    Raises:
        StackError: they do not come in time.
    """
    name = settings.topic_prefix + topics.INTAKE.name
    places = [TopicPartition(name, number) for number in range(settings.partitions)]
    with admin_of(settings) as admin:

        def ends() -> dict[Any, int]:
            found = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST), timeout_ms=10_000)
            return {place: one.offset for place, one in found.items()}

        begun, until = sum(ends().values()), time.monotonic() + within_s
        while sum(ends().values()) - begun <= least:
            if time.monotonic() > until:
                raise StackError(f"not within {within_s:.0f} s: records wait for the worker")
            time.sleep(0.1)
        admin.delete_records(ends(), timeout_ms=30_000)


def _passed(ground: FaultBed) -> None:
    """A worker is away, and the topic keeps less than it has not read."""
    worker = ground.fleet["verification.0"]
    worker.kill9()
    delete_unread(ground.settings, UNREAD, 120)
    ground.clock()
    worker.start()
    bring_back_records(ground)


def _made_anew(ground: FaultBed, name: str, old: object) -> bool:
    """Create a topic again; True once there is another one. A broker may take the old one for there a while after it has gone."""
    with contextlib.suppress(KafkaError):
        topics.create(ground.settings)
        with admin_of(ground.settings) as admin:
            (found,) = admin.describe_topics([name])
            return not found["error_code"] and found["topic_id"] != old
    return False


def _recreate(ground: FaultBed, name: str) -> None:
    """Delete a topic and create it again: an offset of the old one means another record in the new one."""
    with admin_of(ground.settings) as admin:
        (old,) = admin.describe_topics([name])
        admin.delete_topics([name], timeout_ms=30_000)
        ground.wait("the topic is gone", lambda: name not in admin.list_topics())
    ground.wait("the topic is there again", lambda: _made_anew(ground, name, old["topic_id"]))


def _recreated(ground: FaultBed) -> None:
    """While all run; what is published meanwhile goes to the new topic, and is read by nobody."""
    ground.clock()
    _recreate(ground, ground.settings.topic_prefix + topics.VERIFICATION.name)
    bring_back_records(ground)


def _upstream_recreated(ground: FaultBed) -> None:
    """Everything on it was read; the new topic gives the same offsets to other records."""
    topic = topics.inbound(UPSTREAM).name
    rate, ground.submitter.rate = ground.submitter.rate, 0.0
    ground.wait("the upstream pauses", lambda: not ground.submitter.outstanding)
    ground.wait("all is read", lambda: _is_read(ground, topic))
    ((before,),) = ground.sql("select sum(next_offset) from intake.inbound_cursors where topic = %s", topic)
    _recreate(ground, ground.settings.topic_prefix + topic)
    ground.submitter.rate = rate
    ground.clock()
    bring_back_records(ground, give_up=True)
    ground.wait(
        "as much is read of the new topic as of the old",
        lambda: (
            ground.sql("select sum(next_offset) from intake.inbound_cursors where topic = %s", topic)[0][0] >= before
        ),
        120,
    )


def _is_read(ground: FaultBed, topic: str) -> bool:
    """Whether intake has read an upstream's topic to its end."""
    places = [TopicPartition(ground.settings.topic_prefix + topic, one) for one in range(ground.settings.partitions)]
    with admin_of(ground.settings) as admin:
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST), timeout_ms=10_000)
    rows = ground.sql("select partition, next_offset from intake.inbound_cursors where topic = %s", topic)
    read = {int(partition): int(offset) for partition, offset in rows}
    return all(read.get(place.partition, 0) >= found.offset for place, found in ends.items())


_UNPUBLISHED: Final = """
    select l.partition, l.seq from verification.event_log l join verification.partitions p using (partition)
    where l.seq > p.published_upto and l.topic = %s"""
_PUBLISHED: Final = "update verification.partitions set published_upto = seq where published_upto < seq"


def _die_after(worker: Process, commits: int, within_s: float) -> None:
    """Start a worker of verification that kills itself after so many commits."""
    worker.env["GOODFAITH_CRASH_AT"] = f"verification:after_commit:{commits}"
    try:
        worker.start()
        until = time.monotonic() + within_s
        while worker.alive():
            if time.monotonic() > until:
                raise StackError(f"verification did not die within {within_s:.0f} s")
            time.sleep(0.1)
    finally:
        del worker.env["GOODFAITH_CRASH_AT"]


def lose_events(settings: Settings, fleet: Fleet, engine: sa.Engine, within_s: float = 60.0) -> Counter[int]:
    """Have events of verification missing from their topic; later ones follow. Returns how many, by partition.

    A worker dies between commit and publishing, and its log says that all is published: to a reader that is a broker that
    acknowledged records and lost them. What the log does not know to be published may yet lie on the topic, so the topic is asked.

    Raises:
        StackError: no worker died with rows that it had not published.
    """
    workers = [process for process in fleet if process.name.startswith("verification.")]
    for worker in workers:
        worker.terminate()
    name = settings.topic_prefix + topics.VERIFICATION.name
    for commits in (2, 3, 5, 8, 13, 21):  # not every transaction has events
        _die_after(workers[0], commits, within_s)
        tails = seen.tails(settings, "verification", [topics.VERIFICATION.name], range(settings.partitions))
        ends = {one.partition: one.seq for one in tails}
        with engine.begin() as connection:
            rows = connection.exec_driver_sql(_UNPUBLISHED, (name,))
            lost = Counter(partition for partition, seq in rows if seq > ends.get(partition, 0))
            if lost:
                connection.exec_driver_sql(_PUBLISHED)
                break
    for worker in workers:
        worker.start()
    if not lost:
        raise StackError("verification had published everything when it died")
    return lost


def _hole(ground: FaultBed) -> None:
    """Events are missing from the middle of a topic."""
    lost = lose_events(ground.settings, ground.fleet, ground.run.engine)
    ground.notes.append(f"{lost.total()} events of {len(lost)} partitions never reached the topic")
    ground.clock()
    bring_back_records(ground)


FAULTS: Final = (
    Fault(
        "leaders",
        "each broker in turn is killed, and with it the leaders of its partitions",
        "others lead",
        _leaders,
        "brokers",
    ),
    Fault("controller", "the controller is killed", "another is elected", _controller, "brokers"),
    Fault(
        "coordinator",
        "the coordinator of verification's group is killed",
        "another coordinates it",
        _coordinator,
        "brokers",
    ),
    Fault(
        "two down",
        "two of three brokers are killed: no write is acknowledged",
        "they are started",
        _two_down,
        "brokers",
    ),
    Fault("cut", "clients cannot reach one broker, its peers can", "they can again", _cut, "brokers"),
    Fault("slow", "a broker hangs for 4 s, then answers 0.6 s late", "it answers", _slow, "brokers"),
    Fault(
        "full log",
        "the disk of a broker is full: it ends",
        "room is made, it is started",
        _full,
        "brokers",
        disks.missing,
    ),
    Fault(
        "retention",
        "records are deleted before verification has read them",
        "`goodfaith restore unread`",
        _passed,
        "brokers",
    ),
    Fault(
        "recreated",
        "verification's topic is deleted and created again",
        "`goodfaith restore unread`",
        _recreated,
        "brokers",
    ),
    Fault(
        "upstream",
        "an upstream's topic is deleted and created again",
        "`goodfaith restore unread --give-up`",
        _upstream_recreated,
        "brokers",
    ),
    Fault(
        "hole",
        "events of verification never reach their topic, and later ones do",
        "`goodfaith restore unread`",
        _hole,
        "brokers",
    ),
    # the last: each that comes after it would have all of its records to copy, and to verify
    Fault(
        "bounce",
        "each broker in turn is killed and started, for as long as is filed",
        "it is started",
        _bounce,
        "brokers",
        items=100_000,
        rate=100.0,
    ),
)
