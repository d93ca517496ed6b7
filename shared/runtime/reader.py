"""The consumer's side of a worker: which topics exist, which records come next, and which are missing for good."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import structlog
from kafka import TopicPartition
from kafka.errors import IllegalStateError, KafkaError, LogTruncationError, OffsetOutOfRangeError

from shared import kafka_links, log_limits, metrics
from shared.runtime import assignment
from shared.runtime.links import Gap, Links
from shared.runtime.positions import Place, Positions
from shared.runtime.records import Decoder, Polled
from shared.runtime.types import Service
from shared.settings import Settings
from shared.topics import Topic
from shared.tracing import Tracing

log = structlog.get_logger(__name__)

GATHER_MAX_S: Final = 0.1
ASK_ENDS_S: Final = 15.0


class Reader:
    """Reads a worker's topics, and stops reading where records are missing.

    Attributes:
        consumer: the session's consumer.
        topics: topics by their full names.
        links: the numbers of the last events applied, by which duplicates and gaps are recognised.
        cursors: next offsets to read, as this process last saw them committed.
        missing: names of topics that the broker does not have now.
        unsaved: of the gaps, those not yet in the database: offset, reason and details.
    """

    def __init__(self, service: Service, settings: Settings, tracing: Tracing | None) -> None:
        self._worker = service.name
        self._partitions = settings.partitions
        self._prefix = settings.topic_prefix
        self._ends_ms = settings.fetch_max_wait_ms + 1_000
        self.consumer: Any = None
        self.topics: dict[str, Topic] = {settings.topic_prefix + topic.name: topic for topic in service.reads}
        self.links = Links()
        self.cursors: dict[Place, int] = {}
        self.missing: frozenset[str] = frozenset()
        self.unsaved: dict[Place, tuple[int, str, str]] = {}
        self._decoder = Decoder(
            service.name, raw=service.raw, partitions=settings.partitions, links=self.links, tracing=tracing
        )
        self._positions = Positions()
        # topic partitions whose records at the cursor are missing
        self._stopped: set[Place] = set()
        # ends of partitions that no fetch has told, and that were asked for
        self._asked_ends: dict[Place, int] = {}
        self._ask_at = 0.0
        self._heartbeat: Any = None

    def begin_session(self, consumer: Any) -> None:
        """Use this consumer from now on."""
        self.consumer = consumer
        self._heartbeat = None

    # ------------------------------------------------------------------------------------------------------ topics

    def load_topics(self) -> None:
        """Load the topics' metadata between subscribing and joining.

        kafka-python 3.0.12 knows the topics only once metadata arrive. A leader that joins before then may assign
        nothing to anyone, permanently. When metadata do arrive it rebalances again, which with short polls may never
        finish (docs/decisions/0004-rebalance-traps.md). Loading metadata before the first join avoids both.

        Raises:
            KafkaError: a topic does not exist, or its number of partitions does not fit (``assignment.unfit``).
        """
        self.consumer.topics()
        counts = {name: len(self.consumer.partitions_for_topic(name) or ()) for name in self.topics}
        self._set_missing(topic.name for name, topic in self.topics.items() if not counts[name])
        if unfit := assignment.unfit(self.topics, counts, self._partitions):
            raise KafkaError("; ".join(unfit))

    def check_topics(self) -> bool:
        """Report missing topics; True if one of them has appeared, so that only now it is known where it begins.

        The worker waits for missing topics and continues to read the others.

        Raises:
            KafkaError: a topic's number of partitions does not fit (``assignment.unfit``).
        """
        counts = kafka_links.partition_counts(self.consumer, self.topics)
        there = {name: topic for name, topic in self.topics.items() if counts[name]}
        if unfit := assignment.unfit(there, counts, self._partitions):
            raise KafkaError("; ".join(unfit))
        before = self.missing
        self._set_missing(topic.name for name, topic in self.topics.items() if name not in there)
        for name in self.missing:
            if log_limits.seldom(f"missing {name}"):
                log.error("topic is missing", worker=self._worker, topic=name, cure="goodfaith migrate")
        return bool(before - self.missing)

    def _set_missing(self, names: Iterable[str]) -> None:
        self.missing = frozenset(names)
        metrics.MISSING_TOPICS.labels(self._worker).set(len(self.missing))

    def current_ids(self) -> dict[str, str]:
        """Topic ids by topic, from the client's last metadata; unknown topics are left out."""
        found = kafka_links.topic_ids(self.consumer, self.topics)
        return {self.topics[name].name: id_ for name, id_ in found.items()}

    def was_recreated(self, partitions: Collection[int]) -> bool:
        """Whether a topic was deleted and created again since its partitions were claimed."""
        known = self._decoder.topic_ids
        return any(
            known.get(topic, id_) != id_ and not all((topic, p) in self._stopped for p in partitions)
            for topic, id_ in self.current_ids().items()
        )

    # ----------------------------------------------------------------------------------------------------- reading

    def poll(self, patience_ms: int, *, room: int, gather_s: float, interrupted: Callable[[], bool]) -> Polled:
        """Gather records until there are ``room``, or for ``gather_s`` after the first ones.

        A transaction of a few records costs nearly as much as one of hundreds. On a busy machine transactions take
        long, so batches become larger and fewer; on an idle one there is hardly any wait.

        Args:
            patience_ms: milliseconds to wait for the first records.
            gather_s: seconds that the last batch's transaction took.
            interrupted: whether the group has rebalanced meanwhile.
        """
        polled = Polled()
        count = 0
        until = 0.0
        while count < room:
            try:
                fetched = self.consumer.poll(timeout_ms=patience_ms, max_records=room - count)
            except OffsetOutOfRangeError as error:
                # keep what was already fetched from other partitions, and fetch no more
                self.stop({(self.topics[at.topic].name, at.partition) for at in error.args[0]}, "deleted")
                break
            except LogTruncationError as error:
                # the topic lost records that its broker had acknowledged; later offsets now mean other records
                self.stop({(self.topics[at.topic].name, at.partition) for at in error.divergent_offsets}, "truncated")
                break
            if interrupted():
                break
            now = time.monotonic()
            if not until:
                if not fetched:
                    break
                until = now + min(gather_s, GATHER_MAX_S)
            elif now >= until and not fetched:
                break
            patience_ms = max(int((until - now) * 1000), 0)
            count += sum(self._take(place, records, polled) for place, records in fetched.items())
        return polled

    def _take(self, place: TopicPartition, records: list[Any], polled: Polled) -> int:
        """Decode a partition's records up to the first gap; returns how many."""
        topic = self.topics[place.topic]
        mine = (topic.name, place.partition)
        if mine in self._stopped:
            return 0
        first = records[0].timestamp / 1000
        for count, record in enumerate(records):
            try:
                self._decoder.add(topic, record, polled)
            except Gap as gap:
                self.stop({mine}, "gap", str(gap), record.offset)
                return count
            polled.sizes[topic.name] = polled.sizes.get(topic.name, 0) + 1
            polled.cursors[mine] = record.offset + 1
            polled.leader_epochs[mine] = record.leader_epoch
            polled.stamps[mine] = record.timestamp / 1000
            polled.oldest[topic.name] = min(first, polled.oldest.get(topic.name, first))
        return len(records)

    def stop(self, places: set[Place], reason: str, detail: str = "", offset: int | None = None) -> None:
        """Stop reading topic partitions whose next records are missing, until an operator has restored them.

        Other partitions are read on. Deadlines wait, because the partition's watermark does not arrive.

        Args:
            reason: ``deleted`` (by retention), ``gap`` (a number is missing), ``recreated`` (the topic), ``truncated``.
            offset: offset of the first record after the missing ones; None: the cursor's.
        """
        for mine in sorted(places - self._stopped):
            log.error(
                "unread records are gone",
                worker=self._worker,
                topic=mine[0],
                partition=mine[1],
                reason=reason,
                detail=detail,
                cure="goodfaith restore unread",
            )
            self.unsaved[mine] = (self.cursors.get(mine, 0) if offset is None else offset, reason, detail)
        self._stopped |= places
        self.consumer.pause(*(TopicPartition(self._prefix + topic, partition) for topic, partition in places))
        self._positions.stop(places)
        for topic in self.topics.values():
            count = sum(name == topic.name for name, _ in self._stopped)
            metrics.UNREAD_GONE.labels(self._worker, topic.name).set(count)

    def begin(
        self,
        partitions: Collection[int],
        cursors: Mapping[Place, tuple[int, int]],
        topic_ids: Mapping[str, str],
        gaps: Mapping[Place, tuple[int, str]],
        recreated: Collection[str],
    ) -> None:
        """Continue reading these partitions from the cursors, or from the beginning where there is none.

        Args:
            cursors: offset and leader epoch, by topic and partition.
            topic_ids: ids of the topics that the cursors are valid for.
            gaps: topic partitions where records are missing: offset and reason.
            recreated: topics that were created again since the cursors were written.

        Raises:
            IllegalStateError, KeyError, ValueError: the group has revoked the partitions meanwhile.
        """
        self._decoder.topic_ids = dict(topic_ids)
        places = [TopicPartition(name, partition) for name in self.topics for partition in partitions]
        new = [place for place in places if self._place(place) not in cursors]
        # ask where a missing topic begins once it exists
        counts = kafka_links.partition_counts(self.consumer, self.topics)
        waiting = {place for place in new if not counts[place.topic]}
        places = [place for place in places if place not in waiting]
        new = [place for place in new if place not in waiting]
        begins = self.consumer.beginning_offsets(new) if new else {}
        offsets: dict[Place, int] = {}
        ours = {topic.name for topic in self.topics.values()}
        stopped = {mine for mine in gaps if mine[0] in ours}
        for place in places:
            mine = self._place(place)
            offsets[mine], leader_epoch = cursors[mine] if mine in cursors else (begins[place], -1)
            kafka_links.seek(self.consumer, place, offsets[mine], leader_epoch)
            if mine[0] in recreated:
                stopped.add(mine)
        paused = [TopicPartition(self._prefix + topic, partition) for topic, partition in stopped]
        self.consumer.pause(*waiting, *paused)
        self.consumer.resume(*(place for place in places if place not in paused))
        self.cursors = {mine: offset for mine, offset in offsets.items() if mine in cursors}
        self._positions.begin(offsets, time.time())
        self._stopped.clear()
        self.unsaved.clear()
        for reason in sorted({reason for _, reason in gaps.values()}):
            self.stop({mine for mine in stopped if gaps.get(mine, (0, ""))[1] == reason}, reason)
        self.stop({mine for mine in stopped if mine not in gaps}, "recreated")
        self._asked_ends.clear()
        self._ask_at = time.monotonic() + 2.0  # by then fetches have told most ends

    def _place(self, place: TopicPartition) -> Place:
        return place.topic.removeprefix(self._prefix), place.partition

    def committed(self, polled: Polled, saved: Iterable[Place]) -> None:
        """The poll's transaction was committed, with these gaps."""
        self.cursors.update(polled.cursors)
        for mine in saved:
            del self.unsaved[mine]
        self._positions.consumed(polled.cursors, polled.stamps)

    # --------------------------------------------------------------------------------------------------- positions

    def show_positions(self) -> None:
        """Show how far the worker has read; a partition's end is only as certain as the broker's last answer."""
        try:
            ends = [
                (at, self.consumer.highwater(TopicPartition(self._prefix + at[0], at[1])))
                for at in self._positions
                if at[0] not in self.missing  # its former end says nothing
            ]
        except IllegalStateError:
            return  # the partitions were revoked meanwhile
        if unknown := [at for at, end in ends if end is None and at not in self._asked_ends]:
            self._ask_ends(unknown)
        known = ((at, self._asked_ends.get(at) if end is None else end) for at, end in ends)
        self._positions.ends(((at, end) for at, end in known if end is not None), self._heard())
        for topic, when in self._positions.least().items():
            metrics.POSITION.labels(self._worker, topic).set(when)

    def _ask_ends(self, unknown: Iterable[Place]) -> None:
        """Ask for ends that no fetch has told: within a fetch session a broker tells an unchanged end only once.

        If that answer got lost because the partition was claimed again meanwhile, it would never be known that an
        idle partition is read to its end. An end that was asked for is as good as a fetched one: the next record comes
        with a fetch, which tells the new end.
        """
        now = time.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_ENDS_S
        places = {TopicPartition(self._prefix + at[0], at[1]): at for at in unknown}
        try:
            # the broker answers after the fetch that it holds on the same connection
            found = self.consumer.end_offsets(list(places), timeout_ms=self._ends_ms)
        except KafkaError:
            return
        self._asked_ends.update((places[place], end) for place, end in found.items())

    def _heard(self) -> float:
        """Wall time of the last heartbeat to the group's coordinator, sent only while that answers; 0: none.

        The client does not say when its last fetch was answered: the end it knows may be an hour old.
        """
        if self._heartbeat is None:
            found = (self.consumer.metrics(raw=True) or {}).items()
            self._heartbeat = next((one for key, one in found if key.name == "last-heartbeat-seconds-ago"), None)
        ago = math.inf if self._heartbeat is None else float(self._heartbeat.value())
        return time.time() - ago if math.isfinite(ago) else 0.0
