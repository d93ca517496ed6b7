"""Folds: whatever the order, the repeats and the batches, the same states; and totals by moves are those from scratch."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.streams import items, registry, views
from services.streams.fold import POSITIONS, Partition, Record
from services.streams.views import Meta
from shared.events import NoticeUnreached, State
from tests.unit.streams.made import BEGIN, changed, histories

LATER = BEGIN + dt.timedelta(days=3)


class Store:
    """A table in memory."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], Any] = {}

    def get(self, table: str, key: str) -> Any:
        """A state."""
        return self.states.get((table, key))

    def views(self) -> dict[tuple[str, str], Any]:
        """All but positions."""
        return {place: state for place, state in self.states.items() if place[0] != POSITIONS}


def run(batches: list[list[Record]], store: Store | None = None, partition: Partition | None = None) -> Partition:
    """Fold batches into a store."""
    store = store or Store()
    partition = partition or Partition(0, registry.VIEWS)
    for batch in batches:
        for change in partition.fold(batch, store.get)[0]:
            store.states[change.table, change.key] = change.state
    return partition


def told(partition: Partition, now: dt.datetime = LATER) -> dict[str, Any]:
    """All that totals say."""
    return {name: (totals.counts(now), plain(totals.figures(now))) for name, totals in partition.totals.items()}


def plain(value: Any) -> Any:
    """Figures without zeros, so that what was never there and what came and went are the same."""
    if hasattr(value, "__slots__"):
        names = value.__slots__
        return {name: plain(getattr(value, name)) for name in names if name != "_edges"}
    if isinstance(value, dict):
        found = {key: plain(one) for key, one in value.items()}
        return {
            key: one
            for key, one in found.items()
            if one not in (0, {"buckets": [0] * 10, "total": 0}, {"buckets": [0] * 7, "total": 0})
        }
    return value


def reloaded(store: Store) -> Partition:
    """A partition made of what the tables have."""
    partition = Partition(0, registry.VIEWS)
    for table in (POSITIONS, *registry.BY_NAME):
        partition.load(table, [(key, state) for (name, key), state in store.states.items() if name == table])
    return partition


@settings(max_examples=50)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_repeats_and_batches_change_nothing(events: list[Record], dice: Any, size: int) -> None:
    straight = Store()
    first = run([events], straight)
    mixed = [*events, *dice.sample(events, dice.randrange(len(events)))]
    dice.shuffle(mixed)
    other = Store()
    second = run([mixed[i : i + size] for i in range(0, len(mixed), size)], other)
    assert straight.views() == other.views()
    assert told(first) == told(second) == told(reloaded(straight))


@settings(max_examples=15)
@given(histories(), st.data())
def test_totals_with_time_are_those_from_scratch(events: list[Record], data: st.DataObject) -> None:
    store, partition = Store(), Partition(0, registry.VIEWS)
    now = BEGIN
    for event in events:
        run([[event]], store, partition)
        now = max(now, event.meta.at + dt.timedelta(seconds=data.draw(st.integers(0, 10_000))))
        assert told(partition, now) == told(reloaded(store), now)


@settings(max_examples=20)
@given(histories(), st.integers(0, 4))
def test_the_oldest_are_the_oldest(events: list[Record], most: int) -> None:
    store = Store()
    totals = run([events], store).totals["items"]
    assert isinstance(totals, items.Totals)
    waiting = [
        (items.since(state), items.where(state), key)
        for (name, key), state in store.views().items()
        if name == "items" and not state.handled and items.is_open(state)
    ]
    assert totals.oldest(most) == sorted(waiting)[:most]


@settings(max_examples=20)
@given(histories())
def test_states_survive_their_encoding(events: list[Record]) -> None:
    store = Store()
    run([events], store)
    for (name, _), state in store.views().items():
        view = registry.BY_NAME[name]
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=view.state) == state


@settings(max_examples=20)
@given(histories())
def test_a_repeat_writes_nothing(events: list[Record]) -> None:
    store = Store()
    partition = run([events], store)
    assert partition.fold(events, store.get) == ([], [])


def test_a_notice_in_an_inbox_that_nobody_owns_was_sent_in_time_or_late_all_the_same() -> None:
    """The stage is notification's work: it ends with the sending, whoever may read it."""
    item = items.fold(None, changed(0, 1, State.NOTIFIED, held=True), Meta("v", BEGIN, BEGIN))
    sent = BEGIN + dt.timedelta(seconds=3)
    lost = NoticeUnreached(item="i-0", claim="c-0", listing="l-0", message="m", revision=1, at=sent)
    assert items.key(lost) == "i-0"
    assert item is not None
    assert ("notification", views.us(BEGIN), 0) in items.stages(item)
    after = items.fold(item, lost, Meta("n", sent, sent))
    assert after is not None
    assert ("notification", views.us(BEGIN), views.us(sent)) in items.stages(after)
