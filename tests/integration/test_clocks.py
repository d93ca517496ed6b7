"""Clocks that step or disagree: watermarks never go back, and nothing is accepted at or before one that was published."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaError

from deploy.local import clocks
from deploy.local.stack import Stack
from services.intake.filing.inbound import Inbound, TopicEnds
from services.intake.filing.watermark import Barrier, BrokerClock
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filing
from services.intake.worker import Intake
from shared import clock, db, kafka_links, metrics, topics
from shared.clocks import Offset
from shared.events import Data
from shared.runtime import Tx
from shared.runtime.types import Incoming
from shared.topics import CLOCK
from tests.integration.intake_parts import PARTITIONS, Parts, on_file, wait
from tests.integration.test_intake_worker import BOUND, HOLDER, file, read, running, submit, upto
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
DAY = dt.timedelta(days=1)
BROKER_BEHIND = Offset(-9.0, -8.9)


@pytest.fixture
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack, tmp_path_factory.mktemp("intake"), upstreams={"market": "a-market"}, upstream_may=BOUND, watermark_ms=50
    )
    with parts.engine.begin() as connection:
        for account in (HOLDER, Account("a-market", "upstream")):
            store.open_account(connection, account, "company", by=None)
        on_file(connection, HOLDER.id)
        connection.exec_driver_sql(
            """insert into rights (id, owner, right_type, number, status, proof, registered_at)
            values ('r-1', %s, 'trademark', '1', 'active', 'd', now())""",
            (HOLDER.id,),
        )
    yield parts
    parts.close()


@pytest.fixture
def ahead(parts: Parts) -> Iterator[Callable[[float], None]]:
    """Sets the database's clock ahead, or back."""
    engine = db.administer(parts.admin_url)

    def set_ahead(seconds: float) -> None:
        with engine.begin() as connection:
            clocks.set_ahead(connection, seconds)

    yield set_ahead
    engine.dispose()


@pytest.fixture
def barrier(parts: Parts) -> Barrier:
    """A worker's, with no upstream."""
    return Barrier(parts.engine, parts.settings, ())


def accepted(parts: Parts, item: str) -> dt.datetime:
    """A command as intake takes it; when it was accepted."""
    withdraw = Filing(HOLDER, None, HOLDER.id, b"", "withdraw", requests.Withdraw(ground="error"), "http", item=item)
    return dt.datetime.fromisoformat(file(parts, withdraw)[0]["accepted_at"])


def value(name: str, **labels: str) -> float:
    """A gauge of this process."""
    found = metrics.REGISTRY.get_sample_value(name, labels)
    assert found is not None
    return found


def test_a_step_forward_moves_no_watermark(parts: Parts, barrier: Barrier, ahead: Callable[[float], None]) -> None:
    assert barrier.turn()
    before = upto(parts)
    assert before is not None
    ahead(3600.0)
    for _ in range(3):
        assert not barrier.turn()
    assert upto(parts) == before
    assert value("goodfaith_clocks_disagree") == 1
    assert 3590 < value("goodfaith_clock_offset_seconds", clock="database") <= 3600
    ahead(0)
    assert barrier.turn()
    after = upto(parts)
    assert after is not None
    assert before < after < before + DAY / 48
    assert value("goodfaith_clocks_disagree") == 0


def test_after_a_step_back_everything_is_accepted_later_than_the_watermark(
    parts: Parts, barrier: Barrier, ahead: Callable[[float], None]
) -> None:
    items = [item["item"] for item in file(parts, submit(HOLDER, *map(str, range(6))))[0]["items"]]
    assert barrier.turn()
    published = upto(parts)
    assert published is not None
    ahead(-3600.0)
    times = [accepted(parts, item) for item in items[:3]]
    assert all(at > published for at in times)
    assert not barrier.turn()
    assert upto(parts) == published
    ahead(0)
    assert barrier.turn()
    assert accepted(parts, items[3]) > (upto(parts) or published)


def test_a_slower_follower_does_not_take_the_watermark_back(
    parts: Parts, barrier: Barrier, ahead: Callable[[float], None]
) -> None:
    """Within the bound nothing is held, and T stands until the clock has come to it again."""
    (item,) = file(parts, submit(HOLDER, "l"))[0]["items"]
    ahead(0.4)
    assert barrier.turn()
    high = upto(parts)
    assert high is not None
    ahead(-0.4)
    assert barrier.turn()  # intake was closed, and T is what it was
    assert upto(parts) == high
    assert accepted(parts, item["item"]) == high + dt.timedelta(microseconds=1)
    seen = [upto(parts)]
    until = time.monotonic() + PATIENCE_S
    while seen[-1] == high and time.monotonic() < until:
        barrier.turn()
        seen.append(upto(parts))
    assert seen[-1] is not None
    assert seen[-1] > high
    assert seen == sorted(seen, key=lambda at: at or high)


def test_a_process_with_a_wrong_clock_leaves_the_watermarks_to_another(parts: Parts) -> None:
    wrong = Barrier(parts.engine, parts.settings, (), wall=lambda: time.time() - 7)
    good = Barrier(parts.engine, parts.settings, ())
    assert not wrong.turn()
    assert upto(parts) is None
    assert good.turn()
    before = upto(parts)
    for _ in range(2):
        assert not wrong.turn()
        assert good.turn()
    assert (upto(parts) or DAY) != before
    # a broker's clock counts as well
    behind = Barrier(parts.engine, parts.settings, (), brokers=lambda: [BROKER_BEHIND])
    assert not behind.turn()


def test_one_worker_closes_intake_and_all_use_what_it_found(parts: Parts) -> None:
    barriers = [Barrier(parts.engine, parts.settings, ()) for _ in range(4)]
    for barrier in barriers:  # each takes its first look at once
        barrier.turn()
    counts = [0] * len(barriers)
    for _ in range(20):
        for place, barrier in enumerate(barriers):
            counts[place] += barrier.turn()
    assert max(counts) >= 19
    assert sum(counts) <= 22
    # who did it goes away: another goes on
    leader = counts.index(max(counts))
    rest = [barrier for place, barrier in enumerate(barriers) if place != leader]
    assert sum(barrier.turn() for _ in range(3) for barrier in rest) >= 2


def test_a_slow_batch_of_an_upstream_holds_up_no_command_and_no_watermark(parts: Parts) -> None:
    """It used to take intake's lock for as long as it lasts, so that the barrier gave up again and again."""
    for partition in range(PARTITIONS):
        parts.query("insert into inbound_progress values ('inbound.market', %s, now() + interval '1 hour')", partition)
    service = Inbound(parts.settings, background=False)
    barrier = Barrier(parts.engine, parts.settings, ["inbound.market"])
    with contextlib.closing(service), parts.engine.begin() as connection:
        service.open(transaction(connection), [incoming(parts, 0, dt.datetime.now(dt.UTC))])
        found = []
        for _ in range(3):
            assert barrier.turn()
            found.append(upto(parts))
        file(parts, submit(HOLDER, "l"))
    assert found == sorted({at for at in found if at is not None})


def transaction(connection: Any) -> Tx:
    """As the runtime begins one."""
    now, wall = clock.read(connection)
    return Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset())


def incoming(parts: Parts, offset: int, stamped: dt.datetime, partition: int = 0) -> Incoming:
    """A claim of the upstream's, as the broker has stamped it."""
    from tests.integration.test_intake_worker import CLAIM, request_event

    raw = request_event(
        f"e-{partition}-{offset}",
        "submit_claim",
        {**CLAIM, "listings": [f"https://market.example/items/{partition}-{offset}"]},
    )
    id = f"inbound.market.{partition}.{offset}"
    return Incoming("inbound.market", partition, offset, f"@{id}", id, "", Data(), None, stamped, raw)


def test_records_stamped_by_a_clock_that_goes_back_come_after_the_watermark(parts: Parts) -> None:
    """Another broker leads the partition by now, and its clock is behind."""
    skew = dt.timedelta(milliseconds=parts.settings.broker_skew_ms)
    service = Inbound(parts.settings, background=False)
    barrier = Barrier(parts.engine, parts.settings, ["inbound.market"])
    stamped = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(seconds=10)
    with contextlib.closing(service):
        with parts.engine.begin() as connection:
            records = [incoming(parts, 0, stamped, partition) for partition in range(PARTITIONS)]
            service.open(transaction(connection), records)
        progress = set(parts.query("select upto from inbound_progress"))
        assert progress == {(stamped - skew - dt.timedelta(microseconds=1),)}
        assert barrier.turn()
        assert {(upto(parts),)} == progress
        # within the skew: the stamp stands
        with parts.engine.begin() as connection:
            service.open(
                transaction(connection),
                [incoming(parts, 1, stamped - skew / 2), incoming(parts, 2, stamped - skew / 4)],
            )
        times = parts.query("select accepted_at from claims where accepted_at < %s order by 1", stamped)
        assert times == [(stamped - skew / 2,), (stamped - skew / 4,)]
        # everything was read to its end as of a moment ago, and T with it; then a record comes from longer ago
        with parts.engine.begin() as connection:
            at = clock.read(connection)[1]
            places = {("inbound.market", partition): 0 for partition in range(PARTITIONS)}
            service._ends = TopicEnds(at, places, places, {})
            service.pull(transaction(connection), 10)
        assert barrier.turn()
        published = upto(parts)
        assert published == at - skew - dt.timedelta(microseconds=1)
        with parts.engine.begin() as connection:
            service.open(transaction(connection), [incoming(parts, 3, stamped)])
        assert parts.query("select max(accepted_at) from claims") == [(published + dt.timedelta(microseconds=1),)]


def test_an_upstreams_progress_does_not_follow_a_clock_that_is_wrong(
    parts: Parts, ahead: Callable[[float], None]
) -> None:
    """Else all that the upstream sends in the hour to come would be late."""
    topics.create(parts.settings)
    service = Inbound(parts.settings, background=False)

    def progress() -> set[tuple[dt.datetime]]:
        service.observe()
        with parts.engine.begin() as connection:
            service.pull(transaction(connection), 10)
        return set(parts.query("select upto from inbound_progress"))  # type: ignore[arg-type]

    with contextlib.closing(service):
        (before,) = progress()
        ahead(3600.0)
        assert progress() == {before}
        ahead(0)
        (after,) = progress()
        assert before < after < (before[0] + DAY / 48,)
        stamped = dt.datetime.now(dt.UTC)
        with parts.engine.begin() as connection:
            service.open(transaction(connection), [incoming(parts, 0, stamped)])
    ((at,),) = parts.query("select accepted_at from claims")
    assert at == stamped


def test_a_new_upstreams_old_records_come_after_the_watermark(parts: Parts, barrier: Barrier) -> None:
    """Watermarks went on without it until now."""
    assert barrier.turn()
    published = upto(parts)
    assert published is not None
    service = Inbound(parts.settings, background=False)
    with contextlib.closing(service), parts.engine.begin() as connection:
        service.open(transaction(connection), [incoming(parts, 0, published - DAY)])
    assert parts.query("select accepted_at from claims") == [(published + dt.timedelta(microseconds=1),)]


# ---- on the broker


def looked(clock: BrokerClock) -> bool:
    """Whether a look succeeded: like the worker's, it fails while a new topic's partitions have no leader yet."""
    with contextlib.suppress(KafkaError):
        clock.look()
        return True
    return False


def test_brokers_tell_what_time_it_is(parts: Parts) -> None:
    topics.create(parts.settings)
    right = BrokerClock(parts.settings)
    slow = BrokerClock(parts.settings, wall=lambda: time.time() - 3600)
    with contextlib.closing(right), contextlib.closing(slow):
        wait(lambda: looked(right) and len(right.offsets()) == PARTITIONS)
        wait(lambda: looked(slow) and len(slow.offsets()) == PARTITIONS)
        assert all(abs(offset.certain) < 0.002 for offset in right.offsets())
        assert all(3500 < offset.certain <= 3600 for offset in slow.offsets())
        # wherever the clock was wrong is looked at each time
        slow._wall = time.time
        wait(lambda: looked(slow))
        assert all(abs(offset.certain) < 0.002 for offset in slow.offsets())


def test_a_broker_that_stamps_within_the_same_millisecond_is_heard(parts: Parts) -> None:
    clock = BrokerClock(parts.settings, wall=lambda: 1_800_000_000.0)
    clock._heard(0, 1_800_000_000.0, SimpleNamespace(timestamp=1_800_000_000_000))
    assert [offset.certain for offset in clock.offsets()] == [0.0]


def test_a_topic_that_brokers_do_not_stamp_says_nothing_about_their_clocks(parts: Parts) -> None:
    clock = BrokerClock(parts.settings)
    topic = parts.settings.topic_prefix + CLOCK.name
    with contextlib.closing(kafka_links.admin(parts.settings)) as admin:
        assert topics.create_one(admin, parts.settings, topic, {"message.timestamp.type": "CreateTime"})
    with contextlib.closing(clock):
        wait(lambda: looked(clock))
    assert not clock.offsets()


def test_watermarks_on_the_topic_while_the_clock_steps(parts: Parts, ahead: Callable[[float], None]) -> None:
    """A running worker, commands all the while, and a clock that is an hour wrong for seconds, forward and back."""
    topics.create(parts.settings)
    settings = parts.settings.model_copy(update={"upstreams": {}})
    items = [
        item["item"]
        for number in range(4)
        for item in file(parts, submit(HOLDER, *(f"{number}-{n}" for n in range(60))))[0]["items"]
    ]
    stop = threading.Event()
    waiting = iter(items)
    done: list[str] = []

    def command() -> None:
        for item in waiting:
            if stop.wait(0.02):
                return
            accepted(parts, item)
            done.append(item)

    service = Intake(settings)
    thread = threading.Thread(target=command)
    with contextlib.closing(service), running(service, parts):
        wait(lambda: upto(parts) is not None)
        thread.start()
        for seconds in (3600.0, 0.0, -3600.0, 0.0):
            ahead(seconds)
            count = len(done)
            wait(lambda count=count: len(done) > count + 5)  # type: ignore[misc]
            if seconds:
                held = upto(parts)
                time.sleep(0.3)
                assert upto(parts) == held
            else:
                moved = upto(parts)
                wait(lambda moved=moved: upto(parts) != moved)  # type: ignore[misc]
        stop.set()
        thread.join()
        wait(lambda: parts.query("select count(*) from admission_queue where kind = 'command'") == [(0,)])
        last = upto(parts)
        assert last is not None
        # a mark that speaks of them all
        wait(
            lambda: (
                (upto(parts) or last)
                > max(
                    at
                    for (at,) in parts.query(
                        "select max(accepted_at) from commands where accepted_at < now() + interval '30 min'"
                    )
                )
            )
        )
    marks: dict[int, dt.datetime] = {}
    commands = 0
    for event in read(parts, topics.INTAKE):
        if event["type"] == "goodfaith.watermark.v1":
            partition, at = int(event["id"].split(".")[1]), dt.datetime.fromisoformat(event["data"]["upto"])
            assert at >= marks.get(partition, at)
            marks[partition] = at
        elif event["type"].startswith("goodfaith.command."):
            commands += 1
            partition = topics.partition_of(event["data"]["listing"], PARTITIONS)
            mark = marks.get(partition)
            assert mark is None or dt.datetime.fromisoformat(event["data"]["accepted_at"]) > mark
    assert commands == len(done)
    assert marks
    assert max(marks.values()) < dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
