"""What the topics have and a restored log does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.restore.restore import Ghosts, is_ghost, lost, take

HEADS = {"verification": {0: 10, 3: 0}, "enforcement-ledger": {1: 5}}


@pytest.mark.parametrize(
    ("id_", "ghost"),
    [
        ("verification.0.10", False),
        ("verification.0.11", True),
        ("verification.3.1", True),
        ("verification.7.1", True),  # a partition that the log has not begun
        ("enforcement-ledger.1.5", False),
        ("enforcement-ledger.1.6", True),
        ("watermark.0.20261124T120000.000000", False),
        ("market.42", False),
        ("verification.x.11", False),
        ("", False),
    ],
)
def test_a_ghost_has_a_number_that_its_log_has_not_come_to(id_: str, ghost: bool) -> None:
    assert is_ghost(id_, HEADS) is ghost


@given(st.integers(0, 20), st.integers(1, 20))
def test_of_a_log_exactly_what_is_behind_its_head_is_a_ghost(head: int, number: int) -> None:
    assert is_ghost(f"intake.2.{number}", {"intake": {2: head}}) is (number > head)


def test_ghosts_tell_what_was_lost_and_how_far_the_marketplace_has_come() -> None:
    ghosts = Ghosts()
    take(ghosts, "goodfaith.item.submitted.v1", {"claim": "c-1", "listing": "l-1"})
    take(ghosts, "goodfaith.item.submitted.v1", {"claim": "c-1", "listing": "l-2"})
    take(ghosts, "goodfaith.marketplace.command.v1", {"listing": "l-1", "action": "suspend", "seq": 3})
    take(ghosts, "goodfaith.marketplace.command.v1", {"listing": "l-1", "action": "restore", "seq": 4})
    take(ghosts, "goodfaith.marketplace.command.v1", {"listing": "l-9", "action": "lookup"})
    take(ghosts, "goodfaith.hold.changed.v1", {"listing": "l-3", "held": True, "action": "ab12.7"})
    take(ghosts, "goodfaith.hold.changed.v1", {"listing": "l-4", "held": True})
    take(ghosts, "goodfaith.marketplace.seller_command.v1", {"seller": "s-1", "seq": 2})
    take(ghosts, "goodfaith.sanction.changed.v1", {"seller": "s-1", "measures": ["suspension"]})
    take(ghosts, "goodfaith.sanction.changed.v1", {"seller": "s-2", "measures": ["suspension"]})
    take(ghosts, "goodfaith.sanction.changed.v1", {"seller": "s-3", "measures": []})  # a warning: nothing was asked for
    assert (ghosts.claims, ghosts.items) == ({"c-1"}, {"l-1", "l-2"})
    assert (ghosts.listings, ghosts.sellers) == ({"l-1": 4, "l-3": 7}, {"s-1": 2, "s-2": 0})
    assert sum(ghosts.events.values()) == 11


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"no json",
        b"[]",
        b'{"id": 7, "type": "x"}',
        b"[" * 100_000,
        b'{"id": "verification.0.11", "type": "goodfaith.item.submitted.v1", "data": {}}',
        b'{"id": "verification.0.11", "type": "goodfaith.item.submitted.v1", "data": []}',
    ],
    ids=lambda raw: raw[:60].decode("latin-1"),
)
def test_a_record_that_cannot_be_read_is_no_ghost(raw: bytes) -> None:
    assert not lost(raw, HEADS, Ghosts())


def test_a_record_of_a_log_is_a_ghost_by_its_number() -> None:
    ghosts = Ghosts()
    said = b'{"id": "verification.0.%d", "type": "goodfaith.marketplace.seller_command.v1", "data": {"seller": "s-1", "seq": 2}}'
    assert not lost(said % 10, HEADS, ghosts)
    assert lost(said % 11, HEADS, ghosts)
    assert ghosts.sellers == {"s-1": 2}
