"""What a batch does with deadlines that the database says are due, and the batch itself has overtaken."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.verification import store
from services.verification.worker import VerificationBatch
from tests.unit.verification.world import DAY, T, World


def test_a_deadline_of_an_item_that_ended_in_this_batch_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.submit()
    due = world.item
    assert due is not None
    assert due.timers
    ended = msgspec.structs.replace(due, timers=())
    batch: Any = object.__new__(VerificationBatch)
    batch._tx = type("Tx", (), {"connection": None, "watermarks": {0: T + DAY}, "blocked": []})()
    batch._items, batch._changed = {ended.item: ended}, {ended.item: (0, ended)}
    batch._learn = lambda listings, triples: None
    monkeypatch.setattr(store, "due", lambda *_: [(0, due)])
    (timer,) = batch.due(10)
    assert batch._fire(timer) == []
