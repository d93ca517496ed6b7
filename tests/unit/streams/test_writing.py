"""What is written: rows of a table, batches of the changelog, gaps in it, and events that cannot be folded."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from services.streams import items, tables
from services.streams.changelog import BATCH_MAX, Changelog, ForeignWrite, WriteAbandoned
from services.streams.fold import Change, Partition, Position, Record
from services.streams.views import Meta, View, position_of
from shared.topics import INTAKE
from tests.unit.streams.made import submitted

AT = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)


# ---------------------------------------------------------------------------------------------------------------- tables


@given(st.text(max_size=30), st.integers(0, 2**40), st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9)))
def test_rows_come_back(key: str, received: int, offsets: dict[str, int]) -> None:
    codec = tables.Codec([items.VIEW])
    state, failure = items.Item(received=received), tables.failed("t", 7, 1.5, "items", KeyError("x"), b"{}")
    changes = [Change("items", key, state), Change("positions", "0/x", Position(4))]
    rows = codec.rows(changes, tables.ReadPositions(offsets, {}, 3), [failure], [b"gone"])
    assert rows[-1][0] == tables.READ, "what was read is written last"
    assert tables.read_of(rows[-1][1]) == tables.ReadPositions(offsets, {}, 3)
    assert (b"gone", None) in rows
    kept = [(row, value) for row, value in rows if value is not None]
    assert list(codec.load(kept)) == [("items", key, state), ("positions", "0/x", Position(4))]
    assert [tables.failed_of(value) for row, value in kept if row.startswith(tables.FAILED)] == [failure]
    assert codec.key("items", key) == kept[0][0]


def test_nothing_was_read_of_an_empty_table() -> None:
    assert tables.read_of(None) == tables.ReadPositions()


def test_a_failure_keeps_no_more_than_fits_into_a_batch() -> None:
    failure = tables.failed("t", 1, 0.0, "items", ValueError("x" * 9000), b"x" * 2_000_000)
    assert failure.raw == b""
    assert len(tables.encode(failure)) < 1000


# ------------------------------------------------------------------------------------------------------------- changelog


@dataclass
class Broker:
    """Stands for the producer: appends whole batches, can refuse some, and lets others write between."""

    log: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    refuse: int = 0
    foreign_before: int | None = None

    def create_batch(self) -> Any:
        """A batch."""
        rows: list[tuple[bytes, bytes | None]] = []

        class Batch:
            def append(self, *, timestamp: Any, key: bytes, value: bytes | None) -> Any:
                size = sum(len(k) + len(v or b"") + 40 for k, v in [*rows, (key, value)])
                if size > BATCH_MAX:
                    return None
                rows.append((key, value))
                return object()

        batch = Batch()
        batch.rows = rows  # type: ignore[attr-defined]
        return batch

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        """Append it."""
        if self.refuse:
            self.refuse -= 1
            raise KafkaTimeoutError
        if self.foreign_before == len(self.batches):
            self.log.append((b"foreign", b""))
        base = len(self.log)
        self.log += batch.rows
        self.batches.append(len(batch.rows))

        async def sent() -> Any:
            return type("Sent", (), {"offset": base})

        return sent()


def changelog(broker: Broker) -> Changelog:
    """A changelog on it, without a connection."""
    made = Changelog.__new__(Changelog)
    made.topic, made._retry_max_s, made._producer, made.ends = "t", 0.001, broker, {0: 0}
    return made


def write(broker: Broker, rows: list[tuple[bytes, bytes | None]], going_on: Any = lambda: True) -> int:
    return asyncio.run(changelog(broker).write(0, rows, going_on))


def test_rows_are_one_batch_as_long_as_they_fit() -> None:
    broker = Broker()
    assert write(broker, [(b"%d" % number, b"x" * 400) for number in range(1000)]) == 999
    assert broker.batches == [1000]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=12))
def test_what_does_not_fit_is_written_in_order_the_last_row_last(sizes: list[int]) -> None:
    broker = Broker()
    rows: list[tuple[bytes, bytes | None]] = [(b"%d" % number, b"x" * size) for number, size in enumerate(sizes)]
    assert write(broker, rows) == len(rows) - 1
    assert broker.log == rows


def test_a_refused_batch_is_tried_again() -> None:
    broker = Broker(refuse=3)
    assert write(broker, [(b"k", b"v")]) == 0
    assert broker.log == [(b"k", b"v")]


def test_a_gap_says_that_somebody_else_wrote() -> None:
    broker = Broker(foreign_before=0)
    with pytest.raises(ForeignWrite) as caught:
        write(broker, [(b"k", b"v")])
    assert (caught.value.first, caught.value.last) == (0, 1)
    assert broker.log[-1] == (b"k", b"v")


def test_who_lost_the_partition_writes_nothing() -> None:
    broker = Broker(refuse=1)
    answers = iter((True, False))
    with pytest.raises(WriteAbandoned):
        write(broker, [(b"k", b"v")], lambda: next(answers))
    assert not broker.log


# -------------------------------------------------------------------------------------------------- what cannot be folded


def _picky(state: Any, data: Any, meta: Meta) -> Any:
    if data.item == "i-3":
        raise ValueError("no")
    return items.fold(state, data, meta)


PICKY = View("picky", (INTAKE,), items.Item, items.key, _picky, items.Totals)


def test_an_event_that_cannot_be_folded_leaves_its_view_as_it_was_and_others_go_on() -> None:
    partition = Partition(0, [items.VIEW, PICKY])
    records = [
        Record(INTAKE.name, number, submitted(number), Meta(f"intake.0.{number}", AT, AT)) for number in (1, 3, 5)
    ]
    records.append(Record(INTAKE.name, 6, None, Meta("intake.0.6", AT, AT)))
    changes, failures = partition.fold(records, lambda _table, _key: None)
    folded = {(change.table, change.key) for change in changes if change.table != "positions"}
    assert folded == {("items", "i-1"), ("items", "i-3"), ("items", "i-5"), ("picky", "i-1"), ("picky", "i-5")}
    assert [(failure.view, failure.record.offset) for failure in failures] == [("picky", 3)]
    assert partition.positions["intake.0@intake.events"] == 6, (
        "also past what failed and what is not known: both are kept or mean nothing"
    )

    # tried again, by the one view alone, when it is mended
    mended = Partition(0, [items.VIEW, View("picky", (INTAKE,), items.Item, items.key, items.fold, items.Totals)])
    changes, failures = mended.fold(records[1:2], lambda _table, _key: None, "picky")
    assert [change.key for change in changes if change.table == "picky"] == ["i-3"]
    assert not failures
    assert not [change for change in changes if change.table == "items"]


def _keyless(data: Any) -> str | None:
    if data.item == "i-3":
        raise ValueError("no")
    return "\ud800" if data.item == "i-5" else items.key(data)


def _too_large(state: Any, data: Any, meta: Meta) -> Any:
    return items.Item(received=2**70 if data.item == "i-7" else 1)


def test_a_key_or_a_state_that_cannot_be_written_is_that_events_failure() -> None:
    view = View("odd", (INTAKE,), items.Item, _keyless, _too_large, items.Totals)
    partition = Partition(0, [view])
    records = [
        Record(INTAKE.name, number, submitted(number), Meta(f"intake.0.{number}", AT, AT)) for number in (1, 3, 5, 7, 9)
    ]
    changes, failures = partition.fold(records, lambda _table, _key: None)
    assert [failure.record.offset for failure in failures] == [3, 5, 7]
    assert [change.key for change in changes if change.table == "odd"] == ["i-1", "i-9"]
    tables.Codec([view]).rows(changes, tables.ReadPositions(), [], [])


def test_an_id_beyond_64_bits_is_no_position() -> None:
    assert position_of("intake.0." + "9" * 18) == ("intake", 0, 10**18 - 1)
    assert position_of("intake.0." + "9" * 19) is None
    assert position_of("intake.0." + "9" * 5000) is None
