"""One batch's spans: one per traced record and timer, and one for the batch that links to them.

Spans end after the commit: a transaction that is rolled back leaves no spans, just as it leaves no events. A record's
span begins and ends with the batch, because that is how long the record took.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared import tracing
from shared.runtime.types import Due, Incoming, Outgoing
from shared.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

# records from outside may have anything there
_CLAIM: Final = re.compile(r"c-[0-9A-Z]{26}")


class Traced:
    """The spans of one transaction.

    Args:
        worker: the worker's name, which is also its consumer group's.
        queue: the service's own queue.
        records: the records to apply; sets ``trace`` on those that are traced.
    """

    def __init__(self, tracing_: Tracing, worker: str, queue: str, records: Sequence[Incoming]) -> None:
        self._tracing = tracing_
        self._worker = worker
        self._queue = queue or "queue"
        self._began = time.time_ns()
        self._batch: Span | None = None
        self._spans: list[Span] = []
        self._of: dict[str, Span] = {}
        for incoming in records:
            if incoming.traced:
                span = self._of[incoming.id] = self._event(incoming)
                incoming.trace = tracing.context_of(span)

    def _event(self, incoming: Incoming) -> Span:
        envelope = incoming.envelope
        claim = envelope.correlationid if envelope is not None else getattr(incoming.data, "claim", None)
        wall = None if incoming.wall is None else incoming.wall.timestamp()
        if incoming.topic == "@queue":
            return self.record(self._queue, incoming.partition, None, wall, incoming.type, claim, incoming.parent)
        # of a record that is not decoded yet (``Service.raw``) only topic, partition and offset are known
        return self.record(
            incoming.topic, incoming.partition, incoming.offset, wall, incoming.type, claim, incoming.parent
        )

    def record(
        self,
        place: str,
        partition: int,
        offset: int | None,
        wall: float | None,
        type: str,
        claim: str | None,
        parent: str | None,
    ) -> Span:
        """A span of a traced record.

        Args:
            place: topic without prefix, or the service's own queue, which has no ``offset``.
            wall: when it was written, in seconds.
            parent: context that it came with.
        """
        attributes: dict[str, Any] = {
            "messaging.system": "postgresql" if offset is None else "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": place,
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": self._worker,
        }
        if offset is not None:
            attributes["messaging.kafka.offset"] = offset
        if wall is not None:
            attributes["goodfaith.waited_s"] = round(self._began / 1e9 - wall, 3)
        if type:
            attributes["cloudevents.event_type"] = type
        if claim and _CLAIM.fullmatch(claim):
            attributes["goodfaith.claim"] = claim
        return self._begin(f"process {place}", "CONSUMER", parent, attributes)

    def _begin(self, name: str, kind: str, parent: str | None, attributes: dict[str, Any]) -> Span:
        if self._batch is None:
            self._batch = self._tracing.span(
                f"process {self._worker}",
                "INTERNAL",
                None,
                {"messaging.consumer.group.name": self._worker},
                start_ns=self._began,
            )
        links = [tracing.context_of(self._batch)]
        span = self._tracing.span(name, kind, parent, attributes, start_ns=self._began, links=links)
        if len(self._spans) < tracing.LINKS:
            self._batch.add_link(span.get_span_context())
        self._spans.append(span)
        return span

    @property
    def trace_id(self) -> str | None:
        """One of the traces that this batch belongs to, for exemplars."""
        return None if not self._spans else tracing.trace_id(tracing.context_of(self._spans[0]))

    def apply(self, apply: Callable[[Incoming], Iterable[Outgoing]], incoming: Incoming) -> list[Outgoing]:
        """Apply a traced record. The events it causes carry its context; log lines meanwhile carry its trace's id."""
        assert incoming.trace is not None
        return self._follow(apply, incoming, self._of[incoming.id], incoming.trace)

    def fire(self, fire: Callable[[Due], Iterable[Outgoing]], timer: Due) -> list[Outgoing]:
        """Fire a timer, which begins a trace."""
        span = self._begin(f"fire {self._worker}", "INTERNAL", None, {"goodfaith.due_at": timer.at.isoformat()})
        return self._follow(fire, timer, span, tracing.context_of(span))

    def _follow(self, work: Callable[[Any], Iterable[Outgoing]], on: Any, span: Span, context: str) -> list[Outgoing]:
        with structlog.contextvars.bound_contextvars(trace_id=tracing.trace_id(context)):
            try:
                made = list(work(on))
            except Exception as error:
                self._tracing.failed(span, error)
                raise
        for outgoing in made:
            if outgoing.trace is None:
                outgoing.trace = context
        return made

    def committed(self, records: int, timers: int) -> None:
        """End the spans: the transaction is committed."""
        if self._batch is None:
            return
        end = time.time_ns()
        for span in self._spans:
            span.end(end)
        self._batch.set_attribute("messaging.batch.message_count", records)
        self._batch.set_attribute("goodfaith.timers", timers)
        self._batch.end(end)
