"""One batch, one transaction: inbox, decisions, timers, event log and cursors are committed together or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from shared import clock, metrics
from shared.runtime import seen
from shared.runtime.dead_letters import DeadLetters, Work
from shared.runtime.history import History
from shared.runtime.positions import Place
from shared.runtime.publisher import Publisher
from shared.runtime.reader import Reader
from shared.runtime.records import Polled, Unreadable
from shared.runtime.store import Store
from shared.runtime.traced import Traced
from shared.runtime.types import Batch, Due, Incoming, Sent, Service, Tx
from shared.settings import Settings
from shared.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record or timer that fails even when run alone, and why."""

    subject: Incoming | Due
    error: Exception


class Transactor:
    """Runs a service on batches, one transaction each, and hands what they log to the publisher.

    Attributes:
        epochs: the claim's epoch, by owned partition.
        again: whether the last transaction left work that is due now.
        firing: the timer that fired last, for finding out which one fails.
        took_s: seconds that the last batch's transaction took.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        engine: sa.Engine,
        store: Store,
        *,
        owner: str,
        history: History,
        reader: Reader,
        publisher: Publisher,
        letters: DeadLetters,
        tracing: Tracing | None,
        crash: Callable[[str], None],
    ) -> None:
        self.service = service
        self.engine = engine
        self.store = store
        self.letters = letters
        self.publisher = publisher
        self.tracing = tracing
        self.epochs: dict[int, int] = {}
        self.again = False
        self.firing: Due | None = None
        self.took_s = 0.0
        self._prefix = settings.topic_prefix
        self._owner = owner
        self._history = history
        self._reader = reader
        self._crash = crash

    def begin(self, connection: sa.Connection, partition: int | None = None) -> Work:
        """Lock the owned partitions, or one of them, and read the clock.

        Raises:
            Fenced: another worker has taken one over.
            WentBack: a log lacks what this process saw committed.
        """
        epochs = self.epochs if partition is None else {partition: self.epochs[partition]}
        heads = self.store.lock(connection, self._owner, epochs, self._history.ends)
        now, wall = clock.read(connection)
        marks = {p: head.watermark for p, head in heads.items() if head.watermark is not None}
        blocked = self.letters.blocked
        return Work(connection, heads, Tx(connection, now, wall, sorted(heads), marks, blocked), set(blocked))

    def committed(self, work: Work, sent: Sent) -> None:
        """The work was committed: rely on it, and count what was counted in it."""
        self._history.committed(work.heads)
        self.store.appended(sent)
        work.tx.counted()

    def offsets(self, cursors: Mapping[Place, int], sent: Sent) -> dict[Any, Any]:
        """What to commit to the group: it shows lag to others, and is a witness of the logs outside the database."""
        places = dict(cursors)
        # a partition that appended without reading commits one of its offsets again
        for partition in sent.upto.keys() - {partition for _, partition in cursors}:
            if (known := next((mine for mine in self._reader.cursors if mine[1] == partition), None)) is not None:
                places[known] = self._reader.cursors[known]
        return {
            TopicPartition(self._prefix + topic, partition): OffsetAndMetadata(
                offset, seen.metadata(*self._history.ends[partition]), -1
            )
            for (topic, partition), offset in places.items()
        }

    def run(self, polled: Polled, *, room: int, timers: int, refusal: Refusal | None = None) -> int:
        """Run one transaction, with up to ``room`` queue rows and ``timers`` timers; returns how many timers fired.

        Args:
            refusal: a record or timer that failed alone: it is set aside as a dead letter.
        """
        service, store, publisher = self.service, self.store, self.publisher
        started = time.monotonic()
        with self.engine.begin() as connection:
            work = self.begin(connection)
            heads, tx = work.heads, work.tx
            before = {partition: (head.seq, head.published_upto, head.watermark) for partition, head in heads.items()}
            settled = publisher.acknowledged()
            for partition, upto in settled.items():
                if partition in heads:
                    heads[partition].published_upto = max(heads[partition].published_upto, upto)
            for partition, mark in polled.marks.items():
                head = heads[partition]
                if head.watermark is None or mark > head.watermark:
                    head.watermark = tx.watermarks[partition] = mark
            todo = self._unseen(connection, polled)
            stage = self.stage("inbox", started)
            if room:
                todo.extend(service.pull(tx, room))
            fresh = [
                one
                for one in todo
                if isinstance(one, Incoming)
                and one.key not in work.blocked
                and (refusal is None or one is not refusal.subject)
            ]
            traced = None if self.tracing is None else Traced(self.tracing, service.name, service.queue, fresh)
            batch = service.open(tx, fresh)
            stage = self.stage("load", stage)
            withheld = self._apply(work, batch, todo, traced, refusal)
            stage = self.stage("decide", stage)
            fired = self._fire(work, batch, traced, timers, refusal)
            stage = self.stage("timers", stage)
            batch.save()
            stage = self.stage("save", stage)
            # rows taken from the queue and set aside are not published: no watermark may pass them
            marks = {partition: mark for partition, mark in batch.marks().items() if partition not in withheld}
            sent = store.append(connection, heads, work.outgoing)
            changed = {
                partition: head
                for partition, head in heads.items()
                if (head.seq, head.published_upto, head.watermark) != before[partition]
            }
            store.save_heads(connection, changed)
            store.read(connection, polled.last_numbers())
            moves = {mine: (offset, polled.leader_epochs.get(mine, -1)) for mine, offset in polled.cursors.items()}
            store.move(connection, moves, self._reader.cursors)
            gaps = dict(self._reader.unsaved)
            for mine, (offset, reason, detail) in gaps.items():
                store.gap(connection, {mine: offset}, reason, detail)
            self._crash("before_commit")
        stage = self.stage("log", stage)
        self.took_s = stage - started
        self._crash("after_commit")
        self.committed(work, sent)
        self._reader.committed(polled, gaps)
        if traced is not None:
            traced.committed(len(fresh), fired)
        self.letters.committed(work)
        publisher.recorded(settled)
        self.again = fired >= timers > 0 or len(fresh) - len(polled.records) >= room > 0
        self._observe(polled, fresh, fired, work, started, traced)
        publisher.publish(sent, marks, self.offsets(polled.cursors, sent))
        self.stage("publish", stage)
        return fired

    def _unseen(self, connection: sa.Connection, polled: Polled) -> list[Incoming | Unreadable]:
        """What arrived without duplicates: linked events have their numbers, all others are entered in the inbox."""
        fresh_ids = self.store.fresh(connection, {one.id for one in polled.records if one.link is None})
        todo: list[Incoming | Unreadable] = []
        for arrival in polled.arrivals():
            if isinstance(arrival, Unreadable) or arrival.link is not None:
                todo.append(arrival)
            elif arrival.id in fresh_ids:
                fresh_ids.discard(arrival.id)  # the same id again in this batch is a duplicate too
                todo.append(arrival)
            else:
                metrics.EVENTS_DUPLICATE.labels(self.service.name, arrival.topic).inc()
        return todo

    def _apply(
        self,
        work: Work,
        batch: Batch,
        todo: list[Incoming | Unreadable],
        traced: Traced | None,
        refusal: Refusal | None,
    ) -> set[int]:
        """Decide on records and queue rows; returns partitions of which a queue row was set aside."""
        letters = self.letters
        withheld: set[int] = set()
        for one in todo:
            if isinstance(one, Unreadable):
                letters.set_aside_unreadable(work, one)
                continue
            if one.key in work.blocked:
                letters.set_aside(work, one, None)
            elif refusal is not None and one is refusal.subject:
                letters.set_aside(work, one, refusal.error)
            else:
                try:
                    if traced is not None and one.traced:
                        work.outgoing.extend(traced.apply(batch.apply, one))
                    else:
                        work.outgoing.extend(batch.apply(one))
                    continue
                except Exception as error:
                    letters.set_aside(work, one, error)
            if one.topic == "@queue":
                withheld.add(one.partition)
        return withheld

    def _fire(self, work: Work, batch: Batch, traced: Traced | None, limit: int, refusal: Refusal | None) -> int:
        self.firing = None
        due = batch.due(limit)[:limit] if limit else ()
        for timer in due:
            if timer.key in work.blocked:
                continue
            self.firing = timer
            try:
                if refusal is not None and timer == refusal.subject:
                    raise refusal.error
                if traced is not None and self.tracing is not None and self.tracing.drawn():
                    work.outgoing.extend(traced.fire(batch.fire, timer))
                else:
                    work.outgoing.extend(batch.fire(timer))
            except Exception as error:
                self.letters.set_aside_timer(work, timer, error)
        if due:
            metrics.TIMERS_FIRED.labels(self.service.name).inc(len(due))
        return len(due)

    def stage(self, stage: str, since: float) -> float:
        """Add the time since ``since`` to a stage's; returns the present time."""
        now = time.monotonic()
        metrics.STAGE_SECONDS.labels(self.service.name, stage).inc(now - since)
        return now

    def _observe(
        self, polled: Polled, fresh: list[Incoming], fired: int, work: Work, started: float, traced: Traced | None
    ) -> None:
        name = self.service.name
        counts: dict[str, int] = {}
        for incoming in fresh:
            counts[incoming.topic] = counts.get(incoming.topic, 0) + 1
        for topic, count in counts.items():
            metrics.EVENTS_CONSUMED.labels(name, topic, "applied").inc(count)
        for topic, when in polled.oldest.items() if polled.records else ():
            metrics.LAG_SECONDS.labels(name, topic).observe(max(work.tx.wall.timestamp() - when, 0.0))
        if fresh or fired:
            exemplar = None if traced is None or traced.trace_id is None else {"trace_id": traced.trace_id}
            metrics.BATCH_RECORDS.labels(name).observe(len(fresh))
            metrics.BATCH_SECONDS.labels(name).observe(time.monotonic() - started, exemplar)
        marks = [head.watermark for head in work.heads.values() if head.watermark is not None]
        if marks and len(marks) == len(work.heads):
            metrics.WATERMARK.labels(name).set(min(marks).timestamp())
