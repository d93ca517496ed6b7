"""Folds verification's log into items for `goodfaith verify`, and compares them with the stored items."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from services.ops.verify.findings import Category, Tally
from services.ops.verify.item_state import FINAL
from services.ops.verify.judge import AS_FILED, Judge, StoredItem
from services.ops.verify.records import copy_text
from services.ops.verify.telling import CLOSED
from services.ops.verify.telling import told as must_be_told
from shared.events import CommandRefused, ItemChanged, State


class _Event(Struct):
    """The fields that are read of verification's events."""

    time: dt.datetime
    data: msgspec.Raw
    causationid: str | None = None


_event = msgspec.json.Decoder(_Event)
_change = msgspec.json.Decoder(ItemChanged)
_refused = msgspec.json.Decoder(CommandRefused)
_item = msgspec.json.Decoder(StoredItem)
_REFUSED: Final = "goodfaith.command.refused.v1"
_RECURRENCE: Final = "goodfaith.recurrence.found.v1"
_CONSTANT: Final = (*AS_FILED, "severity")
_ONCE: Final = ("seller", "noticed_at", "handled_at", "sla")
"""Fields that never change once they are set."""
_COLUMNS: Final = ("state", "original", "blocks", "waits", "next_due", "revision")
"""Columns of stored items that repeat what is in their bodies."""


class FoldLines(NamedTuple):
    """Lines for the tables of these names."""

    v_change: list[str]
    v_refused: list[str]
    v_told: list[str]


def _moments(timers: dict[str, dt.datetime]) -> str:
    return ", ".join(f"{name} {at.isoformat()}" for name, at in sorted(timers.items())) or "none"


class Fold:
    """The items of one partition, as verification's log has them. ``judge`` sees every row."""

    def __init__(self, tally: Tally, judge: Judge) -> None:
        self.judge = judge
        self._tally = tally
        self._last: dict[str, ItemChanged] = {}
        self._content: dict[str, str] = {}
        """By item, the digest of what its listing showed when it was taken in."""

    def take(self, partition: int, rows: Iterable[tuple[int, str, str]]) -> FoldLines:
        """Fold rows of the log: number, type, payload."""
        lines = FoldLines([], [], [])
        for seq, type_, payload in rows:
            if type_ == _RECURRENCE:
                continue  # it is about a listing, and changes no item
            try:
                event = _event.decode(payload)
                if type_ == _REFUSED:
                    refusal = _refused.decode(event.data)
                    lines.v_refused.append(f"{seq}\t{refusal.command}")
                    self.judge.refused(event.time, event.causationid, refusal)
                    continue
                change = _change.decode(event.data)
            except msgspec.DecodeError as error:
                self._tally.add("problem", "event-unreadable", f"verification.{partition}.{seq}: {error}")
                continue
            self._next(f"verification.{partition}.{seq}", change)
            self.judge.changed(event.time, event.causationid, change)
            values = (
                partition,
                seq,
                change.item,
                change.revision,
                type_,
                change.state.value,
                change.rule,
                change.command,
                change.held,
                change.upheld,
                change.handled_at is not None,
                change.claim,
                change.listing,
                change.seller,
                change.severity,
                event.time.isoformat(),
                event.causationid is not None,
                change.complainant,
                change.reason,
                change.code,
                change.settled,
                change.recurs,
                change.canary,
            )
            lines.v_change.append("\t".join(map(copy_text, values)))
            for kind, party in must_be_told(type_, change):
                lines.v_told.append(f"{change.item}\t{change.revision}\t{kind}\t{party}")
        return lines

    def _next(self, event: str, change: ItemChanged) -> None:
        """Check that a change follows from the item's previous one."""
        before = self._last.get(change.item)
        revision = 0 if before is None else before.revision
        if change.revision != revision + 1:
            kind = "revision-gap" if change.revision > revision else "revision-fork"
            category: Category = "lost" if change.revision > revision else "doubled"
            self._tally.add(category, kind, f"{event}: {change.item} has revision {change.revision} after {revision}")
            if change.revision <= revision:
                return
        self._last[change.item] = change
        if change.content is not None:
            if change.item in self._content:
                self._tally.add("doubled", "content-twice", f"{event}: {change.item}")
            self._content[change.item] = change.content
        if change.previous is not (None if before is None else before.state):
            self._tally.add("problem", "state-torn", f"{event}: {change.item} came from {change.previous}")
        stands = change.state is State.NOTIFIED and change.upheld  # where no window runs
        if change.settled != (change.state in CLOSED or stands):
            self._tally.add("problem", "settled-wrong", f"{event}: {change.item} in {change.state}")
        if change.handled_at is not None and change.sla is None:
            self._tally.add("problem", "sla-open", f"{event}: {change.item} is handled")
        if before is None:
            return
        for name in _CONSTANT:
            if getattr(change, name) != getattr(before, name):
                self._tally.add("problem", "item-altered", f"{event}: {name} of {change.item}")
        for name in _ONCE:
            known = getattr(before, name)
            if known is not None and getattr(change, name) != known:
                self._tally.add("doubled", f"{name.replace('_', '-')}-twice", f"{event}: {change.item}")
        if before.state in FINAL and change.state is not before.state:
            self._tally.add("problem", "final-left", f"{event}: {change.item} left {before.state}")

    def compare(self, rows: Iterable[Any]) -> list[str]:
        """Compare the result with the stored items of the partition. Returns lines for ``v_item``."""
        lines: list[str] = []
        for row in rows:
            last = self._last.pop(row.item, None)
            item = _item.decode(row.body)
            values = (
                item.item,
                item.claim,
                item.listing,
                item.state.value,
                item.revision,
                item.seller,
                item.held,
                item.upheld,
                item.severity,
                bool(item.awaits),
                item.noticed_at,
                item.handled_at,
                item.sla,
                item.canary,
                item.content,
            )
            lines.append("\t".join(map(copy_text, values)))
            if last is None:
                self._tally.add("problem", "item-untold", f"{row.item} has no event")
                continue
            # version 0.2.0 drops it from items that it changes
            if item.content not in (None, self._content.get(item.item)):
                self._tally.add("problem", "content-differs", row.item)
            if wrong := item.differs(last):
                self._tally.add("problem", "state-differs", f"{row.item}: {', '.join(wrong)}")
            due = self.judge.timers(row.item)
            kept = {timer: at for timer, at in item.timers if timer != "lookup"}
            if due is not None and kept != due:
                self._tally.add("problem", "timers-differ", f"{row.item}: {_moments(kept)}, not {_moments(due)}")
            if any(getattr(row, name) != getattr(item, name) for name in _COLUMNS):
                self._tally.add("problem", "item-columns", row.item)
        for name in self._last:
            self._tally.add("lost", "item-forgotten", f"{name} has events and no row")
        return lines
