"""What happens to a batch that fails, and to dead letters that are run again: one by one, each on its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import structlog
from kafka.errors import KafkaError

from shared import db, tracing
from shared.events import decode_envelope
from shared.runtime.assignment import OUTSIDE
from shared.runtime.dead_letters import TIMER
from shared.runtime.records import Polled, Unreadable, decode_known
from shared.runtime.store import Fenced
from shared.runtime.traced import Traced
from shared.runtime.transactor import Refusal, Transactor
from shared.runtime.types import Incoming, Unacceptable

log = structlog.get_logger(__name__)


def isolate(transactor: Transactor, polled: Polled, *, queue: int, timers: int, alive: Callable[[], None]) -> int:
    """Run records, queue rows and timers one by one, and set aside each that fails; returns how many were run.

    The cursor moves along, so a worker that dies meanwhile sets nothing aside twice. No timer fires until all records
    are done: one of them may be the reason why it must not fire.

    Args:
        queue: most queue rows.
        timers: most timers.
        alive: called before each.

    Raises:
        Exception: a failure that is transient, or that none of them is the reason for.
    """
    tried = 0
    for arrival in polled.arrivals():
        tried += 1
        alive()
        single = Polled(cursors={(arrival.topic, arrival.partition): arrival.offset + 1})
        if isinstance(arrival, Unreadable):
            single.unreadable.append(arrival)
            transactor.run(single, room=0, timers=0)
            continue
        single.records.append(arrival)
        try:
            transactor.run(single, room=0, timers=0)
        except Exception as cause:
            if must_stop(cause):
                raise
            transactor.run(single, room=0, timers=0, refusal=Refusal(arrival, cause))
    transactor.run(replace(polled, records=[], unreadable=[]), room=0, timers=0)
    tried += _isolate_queue(transactor, queue, alive)
    for _ in range(timers):
        alive()
        try:
            fired = transactor.run(Polled(), room=0, timers=1)
        except Exception as cause:
            if must_stop(cause) or transactor.firing is None:
                raise
            fired = transactor.run(Polled(), room=0, timers=1, refusal=Refusal(transactor.firing, cause))
        tried += fired
        if not fired:
            break
    transactor.again = True
    return tried


def must_stop(error: Exception) -> bool:
    """Whether a failure says nothing about the record that was being processed."""
    return isinstance(error, Fenced | KafkaError) or db.is_transient(error)


def _isolate_queue(transactor: Transactor, limit: int, alive: Callable[[], None]) -> int:
    """Take rows from the service's queue and apply each under its own savepoint; returns how many there were.

    One row per transaction would not work: ``pull`` decides which rows it takes together.
    """
    service, store, letters = transactor.service, transactor.store, transactor.letters
    withheld: set[int] = set()
    marks: dict[int, dt.datetime] = {}
    with transactor.engine.begin() as connection:
        work = transactor.begin(connection)
        rows = service.pull(work.tx, limit)
        for row in rows:
            alive()
            if row.key in work.blocked:
                letters.set_aside(work, row, None)
                withheld.add(row.partition)
                continue
            step = connection.begin_nested()
            try:
                batch = service.open(work.tx, [row])
                made = list(batch.apply(row))
                batch.save()
                marks.update(batch.marks())
                step.commit()
                work.outgoing.extend(made)
            except Exception as error:
                if db.is_transient(error):
                    raise
                step.rollback()
                letters.set_aside(work, row, error)
                withheld.add(row.partition)
        sent = store.append(connection, work.heads, work.outgoing)
        store.save_heads(connection, work.heads)
    transactor.committed(work, sent)
    letters.committed(work)
    marks = {partition: mark for partition, mark in marks.items() if partition not in withheld}
    transactor.publisher.publish(sent, marks, transactor.offsets({}, sent))
    return len(rows)


def replay(transactor: Transactor) -> None:
    """Run the dead letters again that an operator has asked for, in order, each in its own transaction.

    Raises:
        Exception: a failure that is transient.
    """
    store = transactor.store
    with transactor.engine.begin() as connection:
        rows = store.replays(connection, sorted(transactor.epochs))
    stopped: set[str] = set()
    for row_id, partition, key, topic, offset, event_id, value in rows:
        if key in stopped:
            continue
        try:
            _replay(transactor, row_id, partition, key, topic, offset, event_id, bytes(value))
        except Exception as error:
            if must_stop(error):
                raise
            stopped.add(key)
            log.exception("replay failed", worker=transactor.service.name, topic=topic, key=key, event_id=event_id)
            with transactor.engine.begin() as connection:
                transactor.begin(connection)
                store.replay_failed(connection, row_id, partition, key, f"{type(error).__name__}: {error}")


def _replay(
    transactor: Transactor,
    row_id: int,
    partition: int,
    key: str,
    topic: str,
    offset: int,
    event_id: str | None,
    value: bytes,
) -> None:
    service, store = transactor.service, transactor.store
    traced: Traced | None = None
    with transactor.engine.begin() as connection:
        work = transactor.begin(connection, partition)
        if topic != TIMER:
            envelope = decode_envelope(value)
            outside = any(one.name == topic and one.writer in OUTSIDE for one in service.reads)
            data = decode_known(envelope, outside=outside)
            # what was unreadable when it arrived has no id, so that never reached the inbox
            already = event_id is None and not store.fresh(connection, {envelope.id})
            event_id = event_id or envelope.id
            if data is not None and not already:
                incoming = Incoming(topic, partition, offset, key, event_id, envelope.type, data, envelope, None, value)
                if transactor.tracing is not None and (parent := tracing.of_payload(value)) is not None:
                    incoming.traced, incoming.parent = True, parent
                    traced = Traced(transactor.tracing, service.name, service.queue, [incoming])
                step = connection.begin_nested()
                try:
                    batch = service.open(work.tx, [incoming])
                    made = list(batch.apply(incoming) if traced is None else traced.apply(batch.apply, incoming))
                    batch.save()
                    step.commit()
                    work.outgoing.extend(made)
                except Unacceptable as error:
                    # it had waited behind another; those after it need not wait for it
                    step.rollback()
                    log.error("refused", worker=service.name, topic=topic, key=key, event_id=event_id, error=str(error))
        store.replayed(connection, row_id)
        released = not store.key_open(connection, partition, key)
        since = store.blocked_since(connection, sorted(transactor.epochs))
        sent = store.append(connection, work.heads, work.outgoing)
        store.save_heads(connection, work.heads)
    transactor.committed(work, sent)
    if traced is not None:
        traced.committed(1, 0)
    transactor.letters.replayed(key, released=released, since=since)
    log.info("replayed", worker=service.name, topic=topic, key=key, event_id=event_id, released=released)
    transactor.publisher.publish(sent, {}, transactor.offsets({}, sent))
