"""Dead letters: records, queue rows and timers that cannot be processed, set aside with the later ones of their key.

A record from outside that is unreadable or ``Unacceptable`` is refused and noted. Everything else blocks its key until an operator has dealt with
it (``goodfaith dlq``), because order holds per key.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
import structlog

from shared import metrics, tracing
from shared.events import encode
from shared.runtime.records import Unreadable
from shared.runtime.store import Head, Store
from shared.runtime.types import DeadLetter, Due, Incoming, Outgoing, Tx, Unacceptable
from shared.topics import DEAD_LETTERS

log = structlog.get_logger(__name__)

TIMER = "@timer"
"""What a dead letter of a timer has for a topic."""


@dataclass(slots=True)
class Work:
    """One transaction under way: what it has locked, what it will log, and which keys are blocked by its end."""

    connection: sa.Connection
    heads: dict[int, Head]
    tx: Tx
    blocked: set[str]
    outgoing: list[Outgoing] = field(default_factory=list)


class DeadLetters:
    """The keys that wait for dead letters in the owned partitions, and how something is set aside.

    Attributes:
        blocked: the keys, as of the last commit.
    """

    def __init__(self, worker: str, store: Store) -> None:
        self._worker = worker
        self._store = store
        self.blocked: frozenset[str] = frozenset()
        self._since = 0.0

    def load(self, connection: sa.Connection, partitions: Sequence[int]) -> None:
        """Start from what the database says about these partitions."""
        self.blocked = frozenset(self._store.blocked_keys(connection, partitions))
        self._since = self._store.blocked_since(connection, partitions)

    def committed(self, work: Work) -> None:
        """The work's transaction was committed."""
        if len(work.blocked) != len(self.blocked):
            self._since = self._since or work.tx.wall.timestamp()
        self.blocked = frozenset(work.blocked)
        self.show()

    def replayed(self, key: str, *, released: bool, since: float) -> None:
        """A dead letter was run again; ``since``: wall time of the oldest that is left, 0 if none."""
        if released:
            self.blocked = self.blocked - {key}
        self._since = since
        self.show()

    def show(self) -> None:
        """Show how many keys wait, and since when."""
        if not self.blocked:
            self._since = 0.0
        metrics.DEAD_LETTERS_DEPTH.labels(self._worker).set(len(self.blocked))
        metrics.DEAD_LETTERS_OLDEST.labels(self._worker).set(self._since)

    def set_aside(self, work: Work, incoming: Incoming, error: BaseException | None) -> None:
        """Set aside a record that cannot be processed, or a later one of its key (``error`` None)."""
        text = "waits behind an earlier record of its key" if error is None else _text(error)
        refused = isinstance(error, Unacceptable)
        reason = "behind" if error is None else "refused" if refused else "poison"
        metrics.DEAD_LETTERS.labels(self._worker, incoming.topic, reason).inc()
        log.error(
            "dead letter",
            worker=self._worker,
            topic=incoming.topic,
            event_id=incoming.id,
            key=incoming.key,
            reason=reason,
            error=text,
            exc_info=None if refused else error,
            **({} if incoming.trace is None else {"trace_id": tracing.trace_id(incoming.trace)}),
        )
        value = incoming.raw or encode(
            incoming.data,
            id=incoming.id,
            source=f"/goodfaith/{self._worker}",
            type=incoming.type,
            subject=None,
            time=work.tx.now,
            key=incoming.key,
        )
        self._store.set_aside(
            work.connection,
            partition=incoming.partition,
            key=incoming.key,
            topic=incoming.topic,
            offset=incoming.offset,
            event_id=incoming.id,
            type=incoming.type,
            headers=None,
            value=value,
            error=text,
            state="done" if refused else "waiting",
        )
        if not refused:
            work.blocked.add(incoming.key)
        if error is not None:
            work.outgoing.append(
                self._copy(
                    incoming.partition, incoming.topic, incoming.offset, incoming.key, incoming.raw, text, work.tx.now
                )
            )

    def set_aside_timer(self, work: Work, timer: Due, error: BaseException) -> None:
        """Set aside a timer that cannot fire."""
        text = _text(error)
        metrics.DEAD_LETTERS.labels(self._worker, TIMER, "poison").inc()
        log.error(
            "dead letter",
            worker=self._worker,
            topic=TIMER,
            key=timer.key,
            item=timer.subject,
            error=text,
            exc_info=error,
        )
        value = msgspec.json.encode({"subject": timer.subject, "at": timer.at})
        self._store.set_aside(
            work.connection,
            partition=timer.partition,
            key=timer.key,
            topic=TIMER,
            offset=0,
            event_id=None,
            type="timer",
            headers=None,
            value=value,
            error=text,
        )
        work.blocked.add(timer.key)
        work.outgoing.append(self._copy(timer.partition, TIMER, 0, timer.key, value, text, work.tx.now))

    def set_aside_unreadable(self, work: Work, bad: Unreadable) -> None:
        """Refuse and note an unreadable record from outside; one of ours is a bug and blocks its key."""
        reason = "refused" if bad.outside else "unreadable"
        metrics.DEAD_LETTERS.labels(self._worker, bad.topic, reason).inc()
        log.error(
            "dead letter",
            worker=self._worker,
            topic=bad.topic,
            partition=bad.partition,
            offset=bad.offset,
            reason=reason,
            error=bad.error,
        )
        self._store.set_aside(
            work.connection,
            partition=bad.partition,
            key=bad.key,
            topic=bad.topic,
            offset=bad.offset,
            event_id=bad.id,
            type=None,
            headers=bad.headers,
            value=bad.raw,
            error=bad.error,
            state="done" if bad.outside else "waiting",
        )
        if not bad.outside:
            work.blocked.add(bad.key)
        work.outgoing.append(self._copy(bad.partition, bad.topic, bad.offset, bad.key, bad.raw, bad.error, work.tx.now))

    def _copy(
        self, partition: int, topic: str, offset: int, key: str, raw: bytes, error: str, now: dt.datetime
    ) -> Outgoing:
        """The copy for the dead-letter topic."""
        letter = DeadLetter(
            worker=self._worker,
            topic=topic,
            partition=partition,
            offset=offset,
            key=base64.b64encode(key.encode()).decode(),
            value=base64.b64encode(raw[:100_000]).decode(),
            error=error[:2000],
        )
        subject = f"{topic}.{partition}.{offset}"
        return Outgoing(partition, DEAD_LETTERS, subject, "goodfaith.dead_letter.v1", letter, subject, now)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
