"""Ends of partitions that no fetch has told a worker about."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from shared import metrics
from shared.runtime import reader as module
from shared.runtime.reader import Reader
from shared.settings import Settings

IDLE, BUSY = ("marketplace.listings", 0), ("intake.events", 0)


class Consumer:
    """A client that was told the end of one partition only."""

    def __init__(self) -> None:
        self.asked: list[list[TopicPartition]] = []
        self.away = False

    def highwater(self, place: TopicPartition) -> int | None:
        return 9 if place.topic == "p.intake.events" else None

    def end_offsets(self, places: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        self.asked.append(places)
        if self.away:
            raise KafkaTimeoutError("away")
        return dict.fromkeys(places, 4)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"now": 100.0}
    monkeypatch.setattr(module.time, "monotonic", lambda: now["now"])
    return now


def made(consumer: Consumer, at: dict[str, float], offset: int, monkeypatch: pytest.MonkeyPatch) -> Reader:
    service = SimpleNamespace(name="idle-ends", reads=(), raw=False)
    reader = Reader(service, Settings(topic_prefix="p."), None)  # type: ignore[arg-type, call-arg, unused-ignore]
    reader.begin_session(consumer)
    reader._ask_at = 102.0
    reader._positions.begin({IDLE: offset, BUSY: 9}, 50.0)
    monkeypatch.setattr(reader, "_heard", lambda: at["now"])
    return reader


def shown(topic: str) -> float:
    return float(metrics.POSITION.labels("idle-ends", topic)._value.get())


def test_an_idle_partition_that_no_fetch_tells_of_does_not_age(
    at: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer()
    reader = made(consumer, at, 4, monkeypatch)
    reader.show_positions()
    assert (shown(IDLE[0]), shown(BUSY[0]), consumer.asked) == (50.0, 100.0, [])
    for now in (103.0, 104.0, 200.0):
        at["now"] = now
        reader.show_positions()
        assert shown(IDLE[0]) == now
    assert consumer.asked == [[TopicPartition("p.marketplace.listings", 0)]]


def test_what_waits_there_ages(at: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = made(Consumer(), at, 3, monkeypatch)
    at["now"] = 103.0
    reader.show_positions()
    assert shown(IDLE[0]) == 50.0


def test_a_broker_that_does_not_say_is_asked_seldom(at: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer()
    consumer.away = True
    reader = made(consumer, at, 4, monkeypatch)
    for now in range(103, 133):
        at["now"] = float(now)
        reader.show_positions()
    assert len(consumer.asked) == 2
    assert shown(IDLE[0]) == 50.0
