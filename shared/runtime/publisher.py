"""Event log rows on their way to the topics: sent in order, settled once the broker has acknowledged them."""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka.errors import KafkaError

from shared import metrics, tracing
from shared.events import Watermark, encode
from shared.runtime.types import Sent
from shared.settings import Settings
from shared.topics import INTAKE

HEADERS: Final = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
STOP_PATIENCE_S: Final = 10.0


@dataclass(slots=True)
class _Handed:
    """Rows handed to the producer but not yet known to be acknowledged."""

    futures: list[Any]
    upto: dict[int, int]
    marks: dict[int, dt.datetime]
    offsets: dict[Any, Any]
    topics: dict[str, int]
    since: float
    """Wall time since which the oldest row waits."""


class Publisher:
    """Hands rows to a session's producer, and once they are acknowledged sends watermarks and commits offsets.

    Args:
        alive: called while it waits for the broker.
        stopping: whether the worker is to stop; the publisher then gives up after ten seconds.
        crash: called with the name of each step, for fault tests.
    """

    def __init__(
        self,
        worker: str,
        settings: Settings,
        *,
        alive: Callable[[], None],
        stopping: Callable[[], bool],
        crash: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._prefix = settings.topic_prefix
        self._alive = alive
        self._stopping = stopping
        self._crash = crash
        self._producer: Any = None
        self._commit: Callable[[dict[Any, Any]], object] = lambda _offsets: None
        self._handed: deque[_Handed] = deque()
        self._settled: dict[int, int] = {}
        self._stopping_since: float | None = None

    def begin_session(self, producer: Any) -> None:
        """Use this producer from now on. What an earlier one had not acknowledged is read from the log again."""
        self._producer = producer
        self.forget()

    def commit_with(self, commit: Callable[[dict[Any, Any]], object]) -> None:
        """Commit offsets with this function, without waiting."""
        self._commit = commit

    def forget(self) -> None:
        """Forget what is under way: the log tells what is not published."""
        self._handed.clear()
        self._settled.clear()

    @property
    def busy(self) -> bool:
        """Whether rows wait for the broker's acknowledgement."""
        return bool(self._handed)

    @property
    def unrecorded(self) -> bool:
        """Whether something is to be settled: rows that wait, or acknowledgements that the log does not have yet."""
        return bool(self._handed or self._settled)

    def publish(self, sent: Sent, marks: Mapping[int, dt.datetime], offsets: Mapping[Any, Any]) -> None:
        """Hand rows to the producer once all earlier ones are acknowledged: the topic keeps the log's order."""
        if not (sent.rows or marks or offsets):
            return
        if self._handed:
            self.settle(wait=True)
        topics: dict[str, int] = {}
        futures = []
        send = self._producer.send
        for topic, key, raw, target, trace in sent.rows:
            headers = HEADERS if trace is None else [*HEADERS, (tracing.HEADER, trace.encode())]
            futures.append(send(topic, value=raw, key=key.encode(), partition=target, headers=headers))
            topics[topic] = topics.get(topic, 0) + 1
        self._handed.append(_Handed(futures, sent.upto, dict(marks), dict(offsets), topics, sent.since or time.time()))
        self.show()
        self._crash("after_produce")
        if not futures:
            self.settle(wait=False)

    def settle(self, *, wait: bool) -> None:
        """Note what the broker has acknowledged; only then send watermarks and commit offsets.

        Raises:
            KafkaError: the broker refused a record permanently, or did not acknowledge in time before the stop.
        """
        while self._handed:
            head = self._handed[0]
            for future in head.futures:
                while not future.is_done:
                    if not wait:
                        return
                    if self._stopping() and self._stop_deadline_passed():
                        raise KafkaError("stopped before the broker acknowledged; the next owner publishes the rest")
                    self._alive()
                    time.sleep(0.001)
                if future.failed():
                    raise future.exception
            self._handed.popleft()
            self._settled.update(head.upto)
            for topic, count in head.topics.items():
                metrics.EVENTS_PRODUCED.labels(self._worker, topic.removeprefix(self._prefix)).inc(count)
            self.show()
            self._send_marks(head.marks)
            self._crash("before_offsets")
            if head.offsets:
                self._commit(head.offsets)

    def _stop_deadline_passed(self) -> bool:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        return time.monotonic() - self._stopping_since > STOP_PATIENCE_S

    def _send_marks(self, marks: Mapping[int, dt.datetime]) -> None:
        topic = self._prefix + INTAKE.name
        for partition, upto in marks.items():
            raw = encode(
                Watermark(upto=upto),
                id=f"watermark.{partition}.{upto:%Y%m%dT%H%M%S.%f}",
                source=f"/goodfaith/{self._worker}",
                type="goodfaith.watermark.v1",
                subject=None,
                time=upto,
                key=None,
            )
            self._producer.send(topic, value=raw, partition=partition, headers=HEADERS)

    def acknowledged(self) -> dict[int, int]:
        """Number up to which the log is known to be published, by partition."""
        if self._handed:
            self.settle(wait=False)
        return dict(self._settled)

    def recorded(self, upto: Mapping[int, int]) -> None:
        """The log has these acknowledgements now."""
        for partition, number in upto.items():
            if self._settled.get(partition) == number:
                del self._settled[partition]

    def show(self) -> None:
        """Show how many rows wait for the broker, and since when."""
        pending = sum(len(one.futures) for one in self._handed)
        oldest = next((one.since for one in self._handed if one.futures), 0.0)
        metrics.OUTBOX_PENDING.labels(self._worker).set(pending)
        metrics.OUTBOX_OLDEST.labels(self._worker).set(oldest)
