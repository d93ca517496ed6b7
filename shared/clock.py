"""Business time: one stored anchor that every process reads in its own transactions.

``business(wall) = anchor.business + (wall - anchor.wall) * anchor.rate``. Wall time is the database server's
``clock_timestamp()``, so all processes agree, even after a restart. Anchors are kept: the business time of a past
wall time (a broker's LogAppendTime) follows from the anchor that was valid then. Rate 1 with business = wall is the
ordinary clock. At rate 0 the clock stands still, and a replay steps it.

Leases, tokens, backoff and liveness use wall or monotonic time, never this clock.
"""

from __future__ import annotations

import bisect
import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

DDL = """
create schema if not exists platform;
create table if not exists platform.clock (
    id bigint generated always as identity primary key,
    wall timestamptz not null,
    business timestamptz not null,
    rate double precision not null check (rate >= 0)
);
insert into platform.clock (wall, business, rate)
    select now(), now(), 1 where not exists (select from platform.clock);
-- a worker has found that the database lacks what it had committed: no worker goes on until `goodfaith restore topics`
create table if not exists platform.went_back (
    worker text not null,
    reason text not null,
    found_wall timestamptz not null default now()
);
"""


@dataclass(frozen=True, slots=True)
class Anchor:
    """From ``wall`` on, business time runs from ``business`` at ``rate`` business seconds per wall second."""

    wall: dt.datetime
    business: dt.datetime
    rate: float

    def at(self, wall: dt.datetime) -> dt.datetime:
        """Business time at a wall time."""
        if self.rate == 1.0:
            return self.business + (wall - self.wall)
        return self.business + (wall - self.wall) * self.rate


_READ = sa.text("select wall, business, rate, clock_timestamp() from platform.clock order by id desc limit 1")
_HISTORY = sa.text("select wall, business, rate from platform.clock order by wall, id")
# never back: the clock may stand still or jump ahead, but a deadline that has passed must not lie in the future again
_SET = sa.text(
    """
    with last as (select * from platform.clock order by id desc limit 1 for update),
         at as (select clock_timestamp() as wall),
         running as (select last.business + extract(epoch from at.wall - last.wall) * last.rate * interval '1 second' as business
                     from last, at)
    insert into platform.clock (wall, business, rate)
    select at.wall, greatest(coalesce(cast(:business as timestamptz), running.business), running.business), :rate
    from at, running returning wall, business, rate
    """
)
# a new installation may begin at any time, as long as it has no events
_START = sa.text("insert into platform.clock (wall, business, rate) values (clock_timestamp(), :business, :rate)")


def read(connection: sa.Connection) -> tuple[dt.datetime, dt.datetime]:
    """(business now, wall now), by the database's clock."""
    wall, business, rate, now = connection.execute(_READ).one()
    return Anchor(wall, business, rate).at(now), now


def anchor(connection: sa.Connection) -> tuple[Anchor, dt.datetime]:
    """The anchor in force, and wall time now, by the database's clock."""
    wall, business, rate, now = connection.execute(_READ).one()
    return Anchor(wall, business, rate), now


def set_anchor(connection: sa.Connection, *, business: dt.datetime | None, rate: float) -> Anchor:
    """Move the clock ahead to ``business`` (None: keep the time) and run it at ``rate``. It never goes back."""
    return Anchor(*connection.execute(_SET, {"business": business, "rate": rate}).one())


def start_at(connection: sa.Connection, *, business: dt.datetime, rate: float) -> None:
    """Begin business time at ``business``, even in the past. Only for an installation without events."""
    connection.execute(_START, {"business": business, "rate": rate})


class History:
    """All anchors, to convert past wall times to business time."""

    def __init__(self, anchors: list[Anchor]) -> None:
        self._anchors = anchors
        self._walls = [anchor.wall for anchor in anchors]

    @classmethod
    def load(cls, connection: sa.Connection) -> History:
        """Read every anchor."""
        return cls([Anchor(*row) for row in connection.execute(_HISTORY)])

    def at(self, wall: dt.datetime) -> dt.datetime:
        """Business time at ``wall``, by the anchor valid then; never later than where the next one begins."""
        index = max(bisect.bisect_right(self._walls, wall) - 1, 0)
        return self._anchors[index].at(wall)
