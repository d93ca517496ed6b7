"""The barrier: finds T, the time up to which everything accepted is committed.

One worker takes the admission lock exclusively for a moment and reads the clock: T. All workers publish watermarks up
to the T in ``admission_time``. T never goes back, and ``store.enter_admission`` accepts nothing at or before it,
whatever the clock says. While the clocks of database, broker and process disagree, T stays where it is.
See docs/explanation/architecture.md, "Time of right".
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
import structlog

from services.intake.kernel import metrics, store
from shared import clock, kafka_links
from shared.backoff import Quiet
from shared.clocks import Offset, apart
from shared.settings import Settings
from shared.topics import CLOCK

log = structlog.get_logger(__name__)

TICK: Final = dt.timedelta(microseconds=1)
"""T is this much short of the clock: if the clock stands still, what is accepted next carries the clock's time."""
GOOD_S: Final = 60.0
"""Seconds after which a broker's last answer no longer counts."""
NOT_STAMPED: Final = 1
"""Sent as a record's timestamp, in ms. It comes back only if the broker does not stamp the topic."""
_LOOK: Final = """
    select c.wall, c.business, c.rate, clock_timestamp(), t.turn from platform.clock c, admission_time t
    order by c.id desc limit 1"""
_SEEN: Final = "select count(*), min(upto) from inbound_progress where topic = any(%s)"
_MOVE: Final = "update admission_time set upto = greatest(upto, %s), turn = turn + 1 returning turn"


def bound_s(settings: Settings) -> float:
    """Seconds by which clocks may differ: never more than deadlines wait for records that the brokers stamp."""
    return min(settings.clock_bound_ms, settings.broker_skew_ms) / 1000


def patience_ms(failures: int) -> int:
    """Milliseconds to wait for the admission lock, with filing held up behind it: more after each failed attempt."""
    return int(min(200 * 2**failures, 5_000))


class BrokerClock:
    """The brokers' clocks, measured by records that they stamp.

    Args:
        wall: this process's clock.
    """

    def __init__(self, settings: Settings, wall: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._wall = wall
        self._producer: Any = None
        self._next = 0
        self._known: dict[int, tuple[float, Offset]] = {}

    def offsets(self) -> list[Offset]:
        """Clock offsets of the partitions' leaders, as last measured."""
        now = time.monotonic()
        return [offset for at, offset in list(self._known.values()) if now - at < GOOD_S]

    def look(self) -> None:
        """Have records stamped: on the next partition, and wherever the clock was wrong.

        Raises:
            KafkaError: a broker cannot be reached.
        """
        if self._producer is None:
            self._producer = kafka_links.producer(
                self._settings,
                client_id="intake-clock",
                acks=1,
                enable_idempotence=False,
                retries=0,
                linger_ms=0,
                max_block_ms=5_000,
                delivery_timeout_ms=10_000,
                request_timeout_ms=5_000,
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=5_000,
            )
        bound = bound_s(self._settings)
        wrong = {partition for partition, (_, offset) in self._known.items() if abs(offset.certain) > bound}
        self._next = (self._next + 1) % self._settings.partitions
        futures = []
        for partition in sorted(wrong | {self._next}):
            before = self._wall()
            future = self._producer.send(
                self._settings.topic_prefix + CLOCK.name, value=b"", partition=partition, timestamp_ms=NOT_STAMPED
            )
            futures.append(future)
            future.add_callback(self._heard, partition, before)
        for future in futures:
            future.get(timeout=10)

    def _heard(self, partition: int, before: float, record: Any) -> None:
        after = self._wall()
        if record.timestamp != NOT_STAMPED:
            self._known[partition] = (time.monotonic(), Offset.of(record.timestamp / 1000, before, after, 0.001))

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close(timeout=1.0)


class Clocks:
    """Checks whether clocks agree, and logs when that changes."""

    def __init__(self, settings: Settings) -> None:
        self._bound_s = bound_s(settings)
        self._held = False

    def agree(self, database: Offset, brokers: Sequence[Offset] = ()) -> bool:
        """Whether no two clocks, this process's included, differ for certain by more than the bound."""
        seconds = apart([database, *brokers])
        metrics.CLOCK_OFFSET.labels("database").set(database.certain)
        metrics.CLOCK_OFFSET.labels("broker").set(max((one.certain for one in brokers), key=abs, default=0.0))
        held = seconds > self._bound_s
        metrics.CLOCKS_DISAGREE.set(held)
        if held and not self._held:
            log.error(
                "clocks disagree: watermarks are held",
                apart_s=round(seconds, 3),
                database_s=round(database.certain, 3),
                brokers_s=[round(one.certain, 3) for one in brokers if one.certain],
                cure="docs/runbooks/ClocksDisagree.md",
            )
        elif self._held and not held:
            log.info("clocks agree again", apart_s=round(seconds, 3))
        self._held = held
        return not held


class Barrier:
    """One process's part in moving T: call ``turn`` every ``watermark_ms``.

    Args:
        inbound: topics of upstreams, whose partitions must have been read as far.
        quiet: notified whenever the business clock has been set or is running faster than real time.
        wall: this process's clock.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        inbound: Sequence[str],
        brokers: Callable[[], list[Offset]] = list,
        quiet: Quiet | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._inbound = list(inbound)
        self._brokers = brokers
        self._wall = wall
        self._turn: int | None = None
        self._failures = 0
        self._clocks = Clocks(settings)
        self._anchor: clock.Anchor | None = None
        self._quiet = quiet or Quiet()
        self.today: dt.date | None = None
        """The business day."""

    def turn(self) -> bool:
        """Move T on, unless another process has since the last turn, or clocks disagree. Returns whether it did."""
        with self._engine.begin() as connection:
            before = self._wall()
            *row, now, turn = connection.exec_driver_sql(_LOOK).one()
            database = Offset.of(now.timestamp(), before, self._wall())
        anchor = clock.Anchor(*row)
        if anchor != self._anchor or anchor.rate > 1:
            self._anchor = anchor
            self._quiet.worked()  # the business clock was set, or runs faster than real time
        self.today = anchor.at(now).date()
        seen, self._turn = self._turn, turn
        if not self._clocks.agree(database, self._brokers()) or seen not in (None, turn):
            return False
        return self._close()

    def _close(self) -> bool:
        with self._engine.begin() as connection:
            # while this waits for a slow transaction, everyone who wants to file waits behind it. T needs no flush of
            # its own: the worker that publishes it commits afterwards, and that flushes
            connection.exec_driver_sql(
                f"set local lock_timeout = {patience_ms(self._failures)}; set local synchronous_commit = off"
            )
            try:
                store.close_admission(connection)
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "pgcode", None) == "55P03":
                    self._failures += 1
                    return False
                raise
            self._failures = 0
            before = self._wall()
            now, wall = clock.read(connection)
            if not self._clocks.agree(Offset.of(wall.timestamp(), before, self._wall()), self._brokers()):
                return False
            mark: dt.datetime | None = now - TICK
            if self._inbound:
                count, read = connection.exec_driver_sql(_SEEN, (self._inbound,)).one()
                whole = count >= len(self._inbound) * self._settings.partitions
                mark = min(now - TICK, read) if whole else None
            self._turn = connection.exec_driver_sql(_MOVE, (mark,)).scalar_one()
        return True


def published_upto(connection: sa.Connection) -> dt.datetime | None:
    """T. Reads after this one see everything that was accepted up to it. None: no T was found yet."""
    upto: dt.datetime | None = connection.exec_driver_sql("select upto from admission_time").scalar_one()
    return upto
