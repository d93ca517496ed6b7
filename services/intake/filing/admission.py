"""Admission: which rows of the admission queue are published now.

Commands and events about accounts go first, in the order of their acceptance, and are never held back. Then
submissions: lanes share the room by weight, and within a lane complainants share it evenly. A lane pauses while more
is under way to verification than its window. A paused lane gets its weight's share of what the open lanes get, and at
least a trickle. So nobody's million claims make another wait.

Rows that publish claims (``filing``) go last, because a figure may wait and an item may not. They get what is left,
and at least an eighth.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import sqlalchemy as sa

from services.intake.filing.shares import Shares, share_out
from services.intake.kernel.domain import LANES
from shared import db
from shared.events import Lane

PAIRS_MAX: Final = 256
"""Pairs looked at in one scan. The next scan starts after the last one."""
TRICKLE_S: Final = 1.0
"""Seconds that a lane may stand still because its window is full."""
TRICKLE_ROWS: Final = 10
"""Rows that it then gets per second."""
FILINGS_SHARE: Final = 8
"""One row in this many is for filings, however full the queue is."""

_COLUMNS: Final = """d.id, d.kind, d.lane, d.complainant, d.partition, d.claim, d.item, d.listing, d.on_site, d.type, d.payload,
    d.accepted_at, d.traceparent"""
_ALL: Final = f"select {_COLUMNS} from admission_queue d order by d.id limit %s"
_DELETE: Final = "delete from admission_queue where id = any(%s)"
_COMMANDS: Final = f"""
    select {_COLUMNS} from unnest(%s::int[]) as p(partition) cross join lateral (
        select * from admission_queue where kind in ('command', 'account') and partition = p.partition
        order by accepted_at, id limit %s) as d
    order by d.accepted_at, d.id limit %s"""
_FILINGS: Final = f"""
    select {_COLUMNS} from unnest(%s::int[]) as p(partition) cross join lateral (
        select * from admission_queue where kind = 'filing' and partition = p.partition order by id limit %s) as d
    order by d.id limit %s"""
_PROMOTED: Final = f"""
    select {_COLUMNS} from admission_queue d where d.kind = 'submit' and d.item = any(%s) and d.partition = any(%s)"""
# a loose index scan: one probe per pair, however many rows each has
_PAIRS: Final = """
    with recursive pair as (
        (select partition, complainant from admission_queue where kind = 'submit' and lane = %(lane)s
            and (partition, complainant) > (%(partition)s, %(complainant)s) order by partition, complainant limit 1)
        union all
        select next.* from pair cross join lateral (
            select partition, complainant from admission_queue where kind = 'submit' and lane = %(lane)s
                and (partition, complainant) > (pair.partition, pair.complainant)
            order by partition, complainant limit 1) as next
    ) select partition, complainant from pair limit %(limit)s"""
_WAITING: Final = """
    select p.partition, p.complainant, (select count(*) from (
        select from admission_queue where kind = 'submit' and lane = %s and partition = p.partition and complainant = p.complainant
        limit %s) as found)
    from unnest(%s::int[], %s::text[]) as p(partition, complainant)"""
_TAKE: Final = f"""
    select {_COLUMNS} from unnest(%s::int[], %s::text[], %s::int[]) as p(partition, complainant, n) cross join lateral (
        select * from admission_queue where kind = 'submit' and lane = %s and partition = p.partition and complainant = p.complainant
        order by id limit p.n) as d"""


class Pair(NamedTuple):
    """A partition, and a complainant whose submissions wait on it."""

    partition: int
    complainant: str


_START: Final = Pair(-1, "")
"""Sorts before all pairs."""


@dataclass(slots=True)
class QueueRow:
    """A row of the admission queue.

    Attributes:
        kind: an item of a claim (``submit``), a command, an event about an account or
            about pictures (``account``), or a claim to publish (``filing``).
    """

    id: int
    kind: Literal["submit", "command", "account", "filing"]
    lane: Lane
    complainant: str
    partition: int
    claim: str
    item: str
    listing: str
    on_site: bool
    type: str | None
    payload: str | None
    accepted_at: dt.datetime
    traceparent: str | None = None


@dataclass(slots=True)
class Pressure:
    """Items under way: published but not yet consumed by verification, as last observed, and those admitted since."""

    windows: Mapping[Lane, int]
    observed: int = 0
    since: int = 0

    def room(self, lane: Lane) -> int | None:
        """Items that the lane may add; None: no limit."""
        window = self.windows.get(lane)
        return None if window is None else max(window - self.observed - self.since, 0)

    def observe(self, under_way: int) -> None:
        """Record a new observation."""
        self.observed = under_way
        self.since = 0


@dataclass(slots=True)
class Admitted:
    """Rows to publish, in order, already deleted from the queue.

    Attributes:
        cut: by partition, the time up to which its commands were taken, if not all were.
    """

    rows: list[QueueRow] = field(default_factory=list)
    cut: dict[int, dt.datetime] = field(default_factory=dict)


class Admission:
    """Takes rows from the admission queue, in the worker's transaction."""

    def __init__(self, weights: Sequence[int], pressure: Pressure) -> None:
        self._shares = Shares(dict(zip(LANES, weights, strict=True)))
        self._pressure = pressure
        self._after: dict[Lane, Pair] = {}
        self._stood: dict[Lane, float] = {}
        self._crowded = False

    def take(self, connection: sa.Connection, partitions: Sequence[int], room: int) -> Admitted:
        """Take up to about ``room`` rows of the owned partitions, and delete them from the queue."""
        owned = frozenset(partitions)
        if not self._crowded:
            taken = self._take_all(connection, owned, room)
            if taken is not None:
                return taken
        taken = self._commands(connection, partitions, room)
        admitted = self._lanes(connection, owned, max(room - len(taken.rows), 0))
        taken.rows.extend(admitted)
        taken.rows.extend(self._filings(connection, partitions, max(room - len(taken.rows), room // FILINGS_SHARE, 1)))
        return taken

    def _take_all(self, connection: sa.Connection, owned: frozenset[int], room: int) -> Admitted | None:
        """Fast path: take the whole queue. None: it is too long, or a window is in the way."""
        rows = [QueueRow(*row) for row in connection.exec_driver_sql(_ALL, (room + 1,))]
        if len(rows) > room:
            self._crowded = True
            return None
        mine = [row for row in rows if row.partition in owned]
        counts = dict.fromkeys(LANES, 0)
        for row in mine:
            if row.kind == "submit":
                counts[row.lane] += 1
        for lane, count in counts.items():
            allowed = self._pressure.room(lane)
            if count and allowed is not None and sum(counts.values()) > allowed:
                self._crowded = True
                return None
        commands = sorted(
            (row for row in mine if row.kind in ("command", "account")), key=lambda row: (row.accepted_at, row.id)
        )
        submissions = [row for row in mine if row.kind == "submit"]
        self._note(submissions)
        filings = [row for row in mine if row.kind == "filing"]
        # submissions first: each must come before any command about it
        taken = Admitted([*submissions, *commands, *filings])
        self._delete(connection, taken.rows)
        return taken

    def _commands(self, connection: sa.Connection, partitions: Sequence[int], room: int) -> Admitted:
        limit = max(room, 1)
        rows = [
            QueueRow(*row) for row in connection.exec_driver_sql(_COMMANDS, (list(partitions), limit + 1, limit + 1))
        ]
        taken = Admitted()
        if len(rows) > limit:
            # the last moment may have been taken in part only, so it does not count as complete
            last = rows[limit - 1].accepted_at - dt.timedelta(microseconds=1)
            taken.cut = dict.fromkeys(partitions, last)
            rows = rows[:limit]
        if rows:
            items = sorted({row.item for row in rows})
            promoted = [QueueRow(*row) for row in connection.exec_driver_sql(_PROMOTED, (items, list(partitions)))]
            promoted.sort(key=lambda row: row.id)
            self._note(promoted)
            taken.rows = [*promoted, *rows]
            self._delete(connection, taken.rows)
        return taken

    def _filings(self, connection: sa.Connection, partitions: Sequence[int], limit: int) -> list[QueueRow]:
        rows = [QueueRow(*row) for row in connection.exec_driver_sql(_FILINGS, (list(partitions), limit, limit))]
        self._delete(connection, rows)
        return rows

    def _lanes(self, connection: sa.Connection, owned: frozenset[int], room: int) -> list[QueueRow]:
        """Take submissions by lane."""
        waiting = {lane: pairs for lane in LANES if (pairs := self._pairs(connection, lane, owned))}
        if not waiting:
            self._crowded = False
            return []
        rooms = {lane: self._pressure.room(lane) for lane in waiting}
        open_ = [lane for lane, allowed in rooms.items() if allowed is None or allowed > 0]
        paused = [lane for lane in waiting if lane not in open_]
        now = time.monotonic()
        admitted: list[QueueRow] = []
        left = room
        more = list(open_)
        for _ in range(2):  # the second round gives the others what a lane did not need
            if not more or left <= 0:
                break
            split = self._shares.split(left, more)
            for lane in tuple(more):
                wanted = split[lane] if rooms[lane] is None else min(split[lane], rooms[lane] or 0)
                rows = self._take(connection, lane, waiting[lane], wanted)
                exhausted = len(rows) < wanted
                self._shares.took(lane, len(rows), exhausted=exhausted or wanted < split[lane])
                if rooms[lane] is not None:
                    rooms[lane] = max((rooms[lane] or 0) - len(rows), 0)
                if exhausted or rooms[lane] == 0:
                    more.remove(lane)
                admitted.extend(rows)
                left -= len(rows)
        taken_open = len(admitted)
        for lane in paused:
            wanted = self._shares.paused(lane, taken_open, open_) if open_ else 0
            if not wanted and now - self._stood.setdefault(lane, now) >= TRICKLE_S:
                wanted = TRICKLE_ROWS
            rows = self._take(connection, lane, waiting[lane], wanted)
            self._shares.took(lane, len(rows), exhausted=len(rows) < wanted)
            admitted.extend(rows)
        for lane in {row.lane for row in admitted} | set(open_):
            self._stood.pop(lane, None)
        if not paused and taken_open < room:
            self._crowded = False
        self._note(admitted)
        return admitted

    def _pairs(self, connection: sa.Connection, lane: Lane, owned: Collection[int]) -> list[Pair]:
        """The pairs that wait in the lane: after the last one served, then from the start."""
        after = self._after.get(lane, _START)
        pairs = self._scan(connection, lane, after, PAIRS_MAX)
        if after != _START and len(pairs) < PAIRS_MAX:
            seen = set(pairs)
            pairs += [pair for pair in self._scan(connection, lane, _START, PAIRS_MAX - len(pairs)) if pair not in seen]
        self._after[lane] = pairs[-1] if len(pairs) >= PAIRS_MAX else _START
        return [pair for pair in pairs if pair.partition in owned]

    def _scan(self, connection: sa.Connection, lane: Lane, after: Pair, limit: int) -> list[Pair]:
        return [
            Pair(*row) for row in connection.exec_driver_sql(_PAIRS, {"lane": lane, "limit": limit, **after._asdict()})
        ]

    def _take(self, connection: sa.Connection, lane: Lane, pairs: Sequence[Pair], wanted: int) -> list[QueueRow]:
        if wanted <= 0 or not pairs:
            return []
        if len(pairs) == 1:
            sizes = [wanted]
        else:
            # count up to a limit first; pairs that reach it are counted further only if the room is not filled
            most = max(-(-wanted // len(pairs)) * 4, 8)
            counts = self._count(connection, lane, pairs, most)
            if sum(counts.values()) < wanted:
                counts |= self._count(connection, lane, [pair for pair in pairs if counts[pair] == most], wanted)
            sizes = share_out([(pair.complainant, counts[pair]) for pair in pairs], wanted)
        partitions, complainants = db.columns(pairs)
        rows = [QueueRow(*row) for row in connection.exec_driver_sql(_TAKE, (partitions, complainants, sizes, lane))]
        rows.sort(key=lambda row: row.id)
        self._delete(connection, rows)
        return rows

    def _count(self, connection: sa.Connection, lane: Lane, pairs: Sequence[Pair], most: int) -> dict[Pair, int]:
        """Rows that wait for each pair, counted up to ``most``."""
        if not pairs:
            return {}
        rows = connection.exec_driver_sql(_WAITING, (lane, most, *db.columns(pairs)))
        return {Pair(partition, complainant): count for partition, complainant, count in rows}

    def _delete(self, connection: sa.Connection, rows: Iterable[QueueRow]) -> None:
        ids = [row.id for row in rows]
        if ids:
            connection.exec_driver_sql(_DELETE, (ids,))

    def _note(self, submissions: Sequence[QueueRow]) -> None:
        self._pressure.since += len(submissions)


def payloads(connection: sa.Connection, rows: Sequence[QueueRow]) -> dict[str, str]:
    """Stored terms of the claims that the submissions belong to, by claim."""
    claims = sorted({row.claim for row in rows if row.kind == "submit"})
    if not claims:
        return {}
    found = connection.exec_driver_sql("select id, terms from claims where id = any(%s)", (claims,))
    return {row.id: row.terms for row in found}
