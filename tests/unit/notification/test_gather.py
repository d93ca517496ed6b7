"""What goes into one message, in whatever order and company it comes."""

from __future__ import annotations

import datetime as dt
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import GatheredMessage, Pending, gather, natural
from tests.unit.notification.making import HOLDER, NOW, SELLER

COLLECT = dt.timedelta(seconds=2)


def row(
    item: int,
    *,
    kind: str = "outcome",
    party: str = HOLDER,
    revision: int = 2,
    size: int = 3,
    at: float = 0.0,
    claim: str = "c",
) -> Pending:
    return Pending(
        claim, kind, party, f"{claim}.{item}", revision, size, item % 4, f"l{item}", NOW + dt.timedelta(seconds=at)
    )


def told(messages: list[GatheredMessage]) -> list[list[str]]:
    return [[each.item for each in message.rows] for message in messages]


def test_a_message_waits_for_the_whole_claim() -> None:
    rows = [row(1), row(2)]

    assert gather(rows, NOW, COLLECT) == []
    assert told(gather([*rows, row(3, at=1)], NOW, COLLECT)) == [["c.1", "c.2", "c.3"]]


def test_a_message_waits_no_longer_than_that() -> None:
    assert told(gather([row(1), row(2, at=1.9)], NOW + COLLECT, COLLECT)) == [["c.1", "c.2"]]


def test_sellers_of_a_claim_wait_for_nobody_once_the_receipt_is_complete() -> None:
    receipt = [row(n, kind="claim_receipt", revision=1) for n in (1, 2, 3)]
    notices = [
        row(1, kind="seller_notice", party=SELLER, revision=1),
        row(2, kind="seller_notice", party="s2", revision=1),
    ]

    assert len(gather([*receipt, *notices], NOW, COLLECT)) == 3
    assert gather([*receipt[:2], *notices], NOW, COLLECT) == []


def test_an_item_told_of_twice_makes_two_messages() -> None:
    messages = gather([row(1, size=1), row(1, revision=5, size=1, at=0.1)], NOW, COLLECT)

    assert told(messages) == [["c.1"], ["c.1"]]
    assert messages[0].id != messages[1].id


def test_items_are_numbered_as_people_count() -> None:
    rows = [row(n, size=12) for n in range(12, 0, -1)]

    assert told(gather(rows, NOW, COLLECT)) == [[f"c.{n}" for n in range(1, 13)]]
    assert natural("a10b2") > natural("a9b10")


def test_a_window_of_rows_does_not_tear_messages() -> None:
    """The last opened_wall of a full window may have more rows behind it; older ones are there as a whole."""
    rows = [row(1, size=9), row(2, size=9, at=5), row(3, size=9, at=5)]

    assert told(gather(rows, NOW + dt.timedelta(hours=1), COLLECT, full=True)) == [["c.1"]]
    assert gather([row(1), row(2)], NOW + dt.timedelta(hours=1), COLLECT, full=True) == []


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[float, list[Pending]]]:
    """Batches of several workers: claims of 1 to 6 items, each item told of on several occasions, some rows twice."""
    rows = []
    for claim in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 6))
        for item in range(size):
            for revision, kind in enumerate(
                draw(st.lists(st.sampled_from(["outcome", "counter_defect"]), max_size=3)), 2
            ):
                rows.append(
                    row(
                        item,
                        kind=kind,
                        revision=revision,
                        size=size,
                        claim=f"c{claim}",
                        party=draw(st.sampled_from([HOLDER, SELLER])),
                    )
                )
            rows.append(row(item, kind="claim_receipt", revision=1, size=size, claim=f"c{claim}"))
    rows += draw(st.lists(st.sampled_from(rows), max_size=5))
    rows = draw(st.permutations(rows))
    batches = []
    at = 0.0
    while rows:
        take = draw(st.integers(1, 5))
        at += draw(st.floats(0, 3))
        batches.append((at, rows[:take]))
        rows = rows[take:]
    return batches


@given(history=histories(), limit=st.integers(1, 12), data=st.data())
def test_each_thing_is_told_in_exactly_one_message(
    history: list[tuple[float, list[Pending]]], limit: int, data: st.DataObject
) -> None:
    """As store.py does it: an insert that keeps to its key, and rounds that stamp, with a window of rows, now and then."""
    table: dict[tuple[str, int, str, str], Pending] = {}
    stamped: Counter[tuple[str, int, str, str]] = Counter()
    ids: set[str] = set()

    def collect(now: dt.datetime) -> None:
        window = limit
        while True:
            pending = sorted((r for k, r in table.items() if not stamped[k]), key=lambda r: r.opened_wall)
            rows = pending[:window]
            full = len(rows) == window
            closed = gather(rows, now, COLLECT, full=full) if rows else []
            for message in closed:
                assert message.id not in ids
                ids.add(message.id)
                assert len({r.item for r in message.rows}) == len(message.rows)
                assert len({(r.claim, r.kind, r.party) for r in message.rows}) == 1
                stamped.update((r.item, r.revision, r.kind, r.party) for r in message.rows)
            if not full and not closed:
                return
            window = window * 2 if full and not closed else limit

    now = NOW
    for at, batch in history:
        now = NOW + dt.timedelta(seconds=at)
        for r in batch:
            opened = Pending(r.claim, r.kind, r.party, r.item, r.revision, r.claim_size, r.partition, r.listing, now)
            table.setdefault((r.item, r.revision, r.kind, r.party), opened)
        if data.draw(st.booleans()):
            collect(now)
    collect(now + COLLECT)

    assert stamped == Counter(dict.fromkeys(table, 1))
