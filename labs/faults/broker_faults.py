"""Faults of three brokers that replicate each other (``breakage``)."""

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
from labs.faults.plan import UPSTREAM
from services.observer.watch import replication
from services.ops.restore import unread
from shared import db, kafka_links, topics
from shared.callers import trust
from shared.runtime import seen
from shared.settings import Settings

IN_SYNC_S: Final = 180.0
LASTS_S: Final = 20.0
"""Seconds for which a node is away, cut off or slow."""
FREEZE_S: Final = 4.0
"""Less than the six seconds after which a node counts as dead."""
SLOW_S: Final = 0.3
"""Delay in each direction: a round trip takes over half a second."""
ROOM: Final = 128 << 20
"""Free bytes on a small disk before it is filled."""
UNREAD: Final = 60


@contextlib.contextmanager
def admin_of(settings: Settings) -> Iterator[Any]:
    """A client for requests to the brokers."""
    admin = kafka_links.admin(settings, client_id="goodfaith-faults", request_timeout_ms=10_000)
    try:
        yield admin
    finally:
        admin.close()


def in_sync(bed: FaultBed) -> float:
    """Wait until all replicas are in sync, and let each node lead its preferred partitions; returns the seconds taken.

    The controller elects preferred leaders by itself only every five minutes. Until then a node that was away leads
    nothing, and its loss would go unnoticed.

    Raises:
        StackError: the replicas are not in sync in time.
    """

    def whole() -> bool:
        try:
            with admin_of(bed.settings) as admin:
                return len(admin.describe_cluster()["brokers"]) == len(NODES) and replication(
                    admin.describe_topics()
                ) == (0, 0)
        except KafkaError:
            return False

    def balanced() -> bool:
        with contextlib.suppress(KafkaError), admin_of(bed.settings) as admin:
            admin.elect_leaders(ElectionType.PREFERRED)
            return True
        return False

    took = bed.wait("all replicas are in sync", whole, IN_SYNC_S)
    return took + bed.wait("each node leads its preferred partitions", balanced, IN_SYNC_S)


def bring_back(bed: FaultBed, *nodes: NodeName) -> None:
    """Start nodes again, and wait until they have caught up: only then may the next one be killed."""
    bed.stack.start_kafka(*nodes)
    in_sync(bed)


def _leaders(bed: FaultBed) -> None:
    for node in NODES:
        bed.start_timer()
        bed.stack.kill_kafka(node)
        bed.wait_until_flowing()
        bring_back(bed, node)


def _controller(bed: FaultBed) -> None:
    with admin_of(bed.settings) as admin:
        before = _quorum_leader(admin)
    bed.start_timer()
    bed.stack.kill_kafka(NODES[before - 1])
    bed.wait_until_flowing()
    after = before

    def another() -> bool:
        nonlocal after
        with contextlib.suppress(KafkaError), admin_of(bed.settings) as admin:
            after = _quorum_leader(admin)
        return after not in (before, -1)

    bed.wait("another controller is elected", another)
    # only a controller can do this
    name = f"{bed.settings.topic_prefix}faults-{bed.run.plan.ns}"
    with admin_of(bed.settings) as admin:
        topics.create_one(admin, bed.settings, name, {})
        admin.delete_topics([name], timeout_ms=30_000)
    bed.notes.append(f"controller: node {before}, then {after}")
    bring_back(bed, NODES[before - 1])


def _quorum_leader(admin: Any) -> int:
    (topic,) = admin.describe_metadata_quorum()["topics"]
    (partition,) = topic["partitions"]
    return int(partition["leader_id"])


def coordinator_partition(group: str, partitions: int) -> int:
    """The partition of `__consumer_offsets` whose leader coordinates a group (by Java's `String.hashCode`)."""
    value = 0
    for unit in memoryview(group.encode("utf-16-le")).cast("H"):
        value = (value * 31 + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >> 31 else value
    return (abs(signed) if signed > -(1 << 31) else 0) % partitions


def _coordinator(bed: FaultBed) -> None:
    group = f"{bed.settings.topic_prefix}verification"
    with admin_of(bed.settings) as admin:
        (offsets,) = admin.describe_topics(["__consumer_offsets"])
        leaders = {one["partition_index"]: one["leader_id"] for one in offsets["partitions"]}
    node = NODES[leaders[coordinator_partition(group, len(leaders))] - 1]
    bed.start_timer()
    bed.stack.kill_kafka(node)
    bed.wait_until_flowing()
    bring_back(bed, node)


def _two_down(bed: FaultBed) -> None:
    """No write to a topic is acknowledged. Intake still accepts claims, and reports that publishing is delayed."""
    lost = NODES[1:]
    for node in lost:
        bed.stack.kill_kafka(node)
    begun, before = time.monotonic(), len(bed.record.items)
    bed.wait("intake reports that publishing is delayed", lambda: health(bed)["publishing"] == "delayed", 60)
    said_after = time.monotonic() - begun
    time.sleep(max(LASTS_S - said_after, 5.0))
    if (taken := len(bed.record.items) - before) <= 0:
        raise StackError("intake accepts no claims while two of three brokers are down")
    bed.notes.append(f"intake accepted {taken} items meanwhile, and reported the delay after {said_after:.0f} s")
    bed.start_timer()
    bed.stack.start_kafka(*lost)
    bed.wait_until_flowing()
    bed.wait("intake reports that publishing is current", lambda: health(bed)["publishing"] == "current", 60)
    in_sync(bed)


def health(bed: FaultBed) -> dict[str, Any]:
    """The answer of intake's `/healthz`."""
    with contextlib.suppress(httpx.HTTPError):
        answer: dict[str, Any] = httpx.get(
            f"{bed.settings.intake_url}/healthz",
            timeout=10,
            trust_env=False,
            verify=trust(bed.settings.intake_url, bed.settings.internal_ca),
        ).json()
        return answer
    return {"publishing": "no answer"}


def _bounce(bed: FaultBed) -> None:
    """Kill each broker in turn, until everything is filed."""
    bounces = 0
    while bounces < len(NODES) or not bed.filed_enough:
        node = NODES[bounces % len(NODES)]
        bed.start_timer()
        bed.stack.kill_kafka(node)
        time.sleep(1.0)
        bed.stack.start_kafka(node)
        bed.wait_until_flowing()
        in_sync(bed)
        bounces += 1
    bed.notes.append(f"{bounces} kills")


def _cut(bed: FaultBed) -> None:
    """Cut one node off from clients but not from its peers: it stays leader."""
    link = bed.links[1]
    before = len(bed.record.items)
    link.cut()
    time.sleep(LASTS_S)
    taken = len(bed.record.items) - before
    bed.notes.append(f"intake accepted {taken} items meanwhile")
    bed.start_timer()
    link.heal()
    if bed.in_flight < taken / 6:
        raise StackError(f"{bed.in_flight} of {taken} items waited for a broker that leads a third of the partitions")
    bed.wait_until_flowing()


def _slow(bed: FaultBed) -> None:
    """One node hangs, not long enough to count as dead; then it answers late."""
    node = bed.stack.nodes()[2]
    bed.start_timer()
    send(node.handle, node.marker, signal.SIGSTOP)
    time.sleep(FREEZE_S)
    send(node.handle, node.marker, signal.SIGCONT)
    bed.wait_until_flowing()
    link = bed.links[2]
    link.slow(SLOW_S)
    try:
        bed.start_timer()
        took = bed.wait_until_flowing()
        bed.notes.append(f"while it answers {2 * SLOW_S:.1f} s late, items need {took:.1f} s")
        time.sleep(LASTS_S / 2)
    finally:
        link.heal()
    bed.start_timer()
    bed.wait_until_flowing()
    in_sync(bed)


def _full(bed: FaultBed) -> None:
    """One node has no room for its log, and ends; the others go on."""
    name = NODES[2]
    node = bed.stack.nodes()[2]
    bed.stack.kill_kafka(name)
    with disks.limited(node.data, ROOM):
        bring_back(bed, name)
        bed.start_timer()
        ballast = disks.fill(node.data)
        try:
            bed.wait("the node with the full disk ends", lambda: not bed.stack.nodes()[2].running, 90)
            bed.notes.append("the node ended")
        except StackError:
            # it had room in existing files, or only its log folder went off-line
            bed.notes.append("the node went on without its log folder")
        bed.wait_until_flowing()
        bed.stack.kill_kafka(name)
        ballast.unlink()
        bring_back(bed, name)
        bed.stack.kill_kafka(name)
    bring_back(bed, name)


def gone(bed: FaultBed) -> float:
    """Number of partitions that workers have halted because unread records are gone, by their own metrics."""
    return total(bed.fleet, "goodfaith_unread_gone_partitions")


def bring_back_records(bed: FaultBed, *, give_up: bool = False) -> None:
    """Follow the runbook UnreadGone: stop all processes, run `goodfaith restore unread`, and start them.

    Args:
        give_up: Whether the gaps are in an upstream's topic, whose records cannot be restored here.

    Raises:
        StackError: records were not restored, or workers still halt partitions.
    """
    took = bed.wait("the workers report that unread records are gone", lambda: gone(bed) > 0, 150)
    bed.notes.append(f"reported after {took:.0f} s")
    engine = db.administer(bed.stack.admin_url, pooled=False)
    try:
        with bed.all_stopped():
            made = unread.refill(bed.settings, engine, give_up=give_up)
    finally:
        engine.dispose()
    if bool(made.theirs) != give_up or bool(made.records) == give_up:
        raise StackError(f"not restored: {made.as_json()}")
    bed.notes.append(f"{len(made.gaps)} gaps, {made.records} records from the event logs")
    bed.wait_until_flowing()
    if gone(bed):
        raise StackError("workers still halt partitions")


def delete_unread(settings: Settings, least: int, within_s: float) -> None:
    """Wait until more than `least` new records are on intake's topic, which is not being read, and delete all of it.

    Raises:
        StackError: there are too few within `within_s` seconds.
    """
    name = settings.topic_prefix + topics.INTAKE.name
    partitions = [TopicPartition(name, number) for number in range(settings.partitions)]
    with admin_of(settings) as admin:

        def ends() -> dict[Any, int]:
            found = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST), timeout_ms=10_000)
            return {partition: one.offset for partition, one in found.items()}

        begun, until = sum(ends().values()), time.monotonic() + within_s
        while sum(ends().values()) - begun <= least:
            if time.monotonic() > until:
                raise StackError(f"not within {within_s:.0f} s: records wait for the worker")
            time.sleep(0.1)
        admin.delete_records(ends(), timeout_ms=30_000)


def _passed(bed: FaultBed) -> None:
    """A worker is away, and the topic loses records that it has not read."""
    worker = bed.fleet["verification.0"]
    worker.kill9()
    delete_unread(bed.settings, UNREAD, 120)
    bed.start_timer()
    worker.start()
    bring_back_records(bed)


def _created_again(bed: FaultBed, name: str, old: object) -> bool:
    """Create missing topics; True once the new topic exists. A broker may list a deleted topic for a while."""
    with contextlib.suppress(KafkaError):
        topics.create(bed.settings)
        with admin_of(bed.settings) as admin:
            (found,) = admin.describe_topics([name])
            return not found["error_code"] and found["topic_id"] != old
    return False


def _recreate(bed: FaultBed, name: str) -> None:
    """Delete a topic and create it again, so that the same offsets have other records."""
    with admin_of(bed.settings) as admin:
        (old,) = admin.describe_topics([name])
        admin.delete_topics([name], timeout_ms=30_000)
        bed.wait("the topic is gone", lambda: name not in admin.list_topics())
    bed.wait("the topic exists again", lambda: _created_again(bed, name, old["topic_id"]))


def _recreated(bed: FaultBed) -> None:
    """All processes keep running. What is published meanwhile goes to the new topic, and is not read."""
    bed.start_timer()
    _recreate(bed, bed.settings.topic_prefix + topics.VERIFICATION.name)
    bring_back_records(bed)


def _upstream_recreated(bed: FaultBed) -> None:
    """Everything on the topic was read. The new topic has other records at the same offsets."""
    topic = topics.inbound(UPSTREAM).name
    rate, bed.submitter.rate = bed.submitter.rate, 0.0
    bed.wait("the upstream pauses", lambda: not bed.submitter.outstanding)
    bed.wait("everything is read", lambda: _is_read(bed, topic))
    ((before,),) = bed.sql("select sum(next_offset) from intake.inbound_cursors where topic = %s", topic)
    _recreate(bed, bed.settings.topic_prefix + topic)
    bed.submitter.rate = rate
    bed.start_timer()
    bring_back_records(bed, give_up=True)
    bed.wait(
        "as much of the new topic is read as of the old one",
        lambda: bed.sql("select sum(next_offset) from intake.inbound_cursors where topic = %s", topic)[0][0] >= before,
        120,
    )


def _is_read(bed: FaultBed, topic: str) -> bool:
    """Whether intake has read an upstream's topic to its end."""
    partitions = [TopicPartition(bed.settings.topic_prefix + topic, one) for one in range(bed.settings.partitions)]
    with admin_of(bed.settings) as admin:
        ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST), timeout_ms=10_000)
    rows = bed.sql("select partition, next_offset from intake.inbound_cursors where topic = %s", topic)
    read = {int(partition): int(offset) for partition, offset in rows}
    return all(read.get(partition.partition, 0) >= found.offset for partition, found in ends.items())


_UNPUBLISHED: Final = """
    select l.partition, l.seq from verification.event_log l join verification.partitions p using (partition)
    where l.seq > p.published_upto and l.topic = %s"""
_PUBLISHED: Final = "update verification.partitions set published_upto = seq where published_upto < seq"


def _die_after(worker: Process, commits: int, within_s: float) -> None:
    """Start a worker of verification that kills itself after this many commits."""
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
    """Keep some events of verification, but not later ones, from reaching their topic; returns how many, by partition.

    A worker is killed between commit and publishing, and its log is marked as published. To a reader this looks like a
    broker that acknowledged records and lost them. Records that the log does not list as published may be on the topic,
    so its end is read first.

    Raises:
        StackError: no worker died with unpublished rows.
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


def _hole(bed: FaultBed) -> None:
    """Leave a gap in the middle of a topic."""
    lost = lose_events(bed.settings, bed.fleet, bed.run.engine)
    bed.notes.append(f"{lost.total()} events of {len(lost)} partitions never reached the topic")
    bed.start_timer()
    bring_back_records(bed)


FAULTS: Final = (
    Fault(
        "leaders",
        "each broker in turn is killed, with the partition leaders on it",
        "other brokers lead",
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
    Fault("cut", "clients cannot reach one broker, but its peers can", "clients reach it again", _cut, "brokers"),
    Fault("slow", "a broker hangs for 4 s, then answers 0.6 s late", "it answers", _slow, "brokers"),
    Fault(
        "full log",
        "the disk of a broker is full, and the broker ends",
        "space is freed, and it is started",
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
        "some events of verification never reach their topic, but later ones do",
        "`goodfaith restore unread`",
        _hole,
        "brokers",
    ),
    # the last one: a fault after it would have to copy and verify all of its records
    Fault(
        "bounce",
        "each broker in turn is killed and started, as long as claims are filed",
        "it is started",
        _bounce,
        "brokers",
        items=100_000,
        rate=100.0,
    ),
)
