"""Reads what was recorded back from the event logs, listing by listing, for `goodfaith policy backtest`.

Inputs come from the logs of intake, notification, enforcement and, if it is in the database, the marketplace. They
keep the order and business time in which verification judged them: its `reads_log` (or its inbox, for events from
outside) and its log tell the transaction of each input, and its log tells when timers fired. Everything is read in one
read-only transaction and one pass, ordered by listing, so memory is bounded by the busiest listing.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from services.verification.backtest import Input, Past, Replay, Tally, Timeline, past
from shared import clock, policy, topics
from shared.events import (
    Command,
    HoldChanged,
    ItemChanged,
    ItemSubmitted,
    Listing,
    NoticeSent,
    NoticeUnreached,
    PicturesCompared,
    State,
    Triage,
    decode_data,
    decode_envelope,
)
from shared.policy import Policy

_WRITERS: Final = {
    "intake": (
        topics.INTAKE.name,
        "(l.type = 'goodfaith.item.submitted.v1' or l.type like 'goodfaith.command.%%')",
    ),
    "notification": (
        topics.NOTIFICATION.name,
        "l.type in ('goodfaith.notice.sent.v1', 'goodfaith.notice.unreached.v1')",
    ),
    "enforcement": (topics.ENFORCEMENT.name, "l.type = 'goodfaith.hold.changed.v1'"),
    "marketplace": (topics.MARKETPLACE_LISTINGS.name, "l.type = 'goodfaith.marketplace.listing.v1'"),
}
"""The logs that hold verification's inputs: writer -> topic, and SQL condition for the rows."""
_INPUTS: Final = """
    select l.key, '{name}' as writer, l.target as partition, l.seq,
        coalesce(i.event_id, case when h.seq is not null then '{name}.' || l.partition || '.' || l.seq end) as id,
        coalesce(i.received_wall, h.recorded_wall) as wall, l.payload
    from {name}.event_log l left join verification.inbox i on i.event_id = '{name}.' || l.partition || '.' || l.seq
        left join verification.reads n on n.topic = '{topic}' and n.partition = l.target and n.writer = '{name}'
            and n.log_partition = l.partition and n.seq >= l.seq
        left join lateral (select g.previous, g.seq, g.recorded_wall from verification.reads_log g where g.topic = '{topic}'
            and g.partition = l.target and g.writer = '{name}' and g.log_partition = l.partition and g.seq >= l.seq
            order by g.seq limit 1) h on h.previous < l.seq
    where {types} and (i.event_id is not null or n.topic is not null)"""
_EFFECTS: Final = """
    select key, '', partition, seq, null, recorded_wall, payload from verification.event_log
    where type like 'goodfaith.item.%%' or type = 'goodfaith.command.refused.v1'"""
_LISTINGS: Final = "select listing, 'listings', 0, 0, null, null, body from verification.listings"
# our envelopes are compact, with their fields before the data. An event without a cause comes from a timer, except for
# duplicates that were reopened
_STEPS: Final = """
    select partition, recorded_wall, max(split_part(split_part(payload, '"time":"', 2), '"', 1)::timestamptz)
    from verification.event_log where type like 'goodfaith.item.%%'
        and strpos(payload, '"causationid":"') = 0 and strpos(payload, '"previous":"DUPLICATE"') = 0
    group by partition, recorded_wall order by partition, recorded_wall"""
_MARKS: Final = "select partition, watermark from verification.partitions"
_SETTINGS: Final = (
    "set local enable_nestloop = off; set local work_mem = '192MB'; set local jit = off; set local cursor_tuple_fraction = 1;"
    " set transaction read only"
)
_BLOCK: Final = 2_000


class _Change(Struct):
    """The fields of a change or refusal that are needed here."""

    item: str
    revision: int = 0
    previous: State | None = None
    triage: Triage | None = None


class _Effect(Struct):
    time: dt.datetime
    data: msgspec.Raw
    causationid: str | None = None


class _Position(NamedTuple):
    """When verification judged an input: the transaction, the effect there, and the position in the writer's log."""

    wall: dt.datetime
    effect: int
    writer: int
    seq: int


class _Row(NamedTuple):
    key: str
    writer: str
    partition: int
    seq: int
    id: str | None
    wall: dt.datetime | None
    payload: str


_effect = msgspec.json.Decoder(_Effect)
_facts = msgspec.json.Decoder(_Change)
_change = msgspec.json.Decoder(ItemChanged)
_listing = msgspec.json.Decoder(Listing)


class Record(Struct):
    """What was recorded about one listing."""

    listing: str
    partition: int
    inputs: list[Input]
    nows: dict[dt.datetime, dt.datetime]
    """Business time of the transactions that judged this listing's items, by wall time."""
    stored: dict[str, ItemChanged]
    """Last change of each item."""
    weighed: dict[str, list[Triage]]
    """The triages of each item that was triaged, in order."""


class Recorded:
    """The event logs of an installation.

    Args:
        connection: an administrator's, in a REPEATABLE READ transaction; it is made read-only.
        marketplace: whether to use the marketplace's log if there is one; otherwise what it said is inferred from the
            effects.

    Attributes:
        forgotten: number of listings left out because the order in which they were judged is no longer known.
    """

    def __init__(self, connection: Any, *, marketplace: bool = True) -> None:
        self._connection = connection
        connection.exec_driver_sql(_SETTINGS)
        there = set(
            connection.exec_driver_sql("select schemaname from pg_tables where tablename = 'event_log'").scalars()
        )
        self._writers = [name for name in _WRITERS if name in there and (marketplace or name != "marketplace")]
        self._history = clock.History.load(connection)
        self.forgotten = 0
        self.timelines = self._steps()

    def _steps(self) -> dict[int, Timeline]:
        ends = dict(map(tuple, self._connection.exec_driver_sql(_MARKS)))
        found = {
            partition: Timeline(((wall, mark, self._history.at(wall)) for _, wall, mark in steps), ends.get(partition))
            for partition, steps in itertools.groupby(self._rows(_STEPS), _first)
        }
        return found | {partition: Timeline((), end) for partition, end in ends.items() if partition not in found}

    def _rows(self, sql: str) -> Iterator[Any]:
        """Rows of a server-side cursor."""
        options = {"stream_results": True, "yield_per": _BLOCK}
        yield from self._connection.exec_driver_sql(sql, execution_options=options)

    def listings(self) -> Iterator[Record]:
        """What was recorded, one listing at a time."""
        parts = [_INPUTS.format(name=name, topic=_WRITERS[name][0], types=_WRITERS[name][1]) for name in self._writers]
        sql = " union all ".join([*parts, _EFFECTS, _LISTINGS])
        rows = (_Row(*row) for row in self._rows(f'select * from ({sql}) t order by key collate "C"'))
        for listing, group in itertools.groupby(rows, lambda row: row.key):
            record = self._record(listing, list(group))
            if record is not None:
                yield record

    def _record(self, listing: str, rows: Sequence[_Row]) -> Record | None:
        effects = sorted((row for row in rows if not row.writer), key=lambda row: row.seq)
        if any(row.id is None for row in rows if row.writer in _WRITERS):
            self.forgotten += 1  # `goodfaith prune` deleted the rows that tell when these were judged
            return None
        given = [row for row in rows if row.id is not None]
        if not any(row.writer == "intake" for row in given):
            return None  # no claim was filed against the listing
        caused: dict[str, tuple[int, dt.datetime]] = {}
        nows: dict[dt.datetime, dt.datetime] = {}
        weighed: dict[str, list[Triage]] = {}
        last: dict[str, tuple[int, msgspec.Raw]] = {}
        changes: list[tuple[_Row, msgspec.Raw]] = []
        for row in effects:
            effect = _effect.decode(row.payload)
            assert row.wall is not None
            if effect.causationid is not None:
                caused.setdefault(effect.causationid, (row.seq, row.wall))
            told = _facts.decode(effect.data)
            # an event without a cause comes from a timer and has its time, except for duplicates that were reopened
            if effect.causationid is not None or told.previous is State.DUPLICATE:
                nows[row.wall] = max(nows.get(row.wall, effect.time), effect.time)
            if told.triage is not None:
                weighed.setdefault(told.item, []).append(told.triage)
            if told.revision:
                last[told.item] = max(last.get(told.item, (0, effect.data)), (told.revision, effect.data), key=_first)
                changes.append((row, effect.data))
        positioned = [
            (position, self._input(row, position.wall, nows))
            for position, row in _positioned(given, caused, self._writers)
        ]
        if not any(row.writer == "marketplace" for row in given):
            latest = next((row.payload for row in rows if row.writer == "listings"), None)
            positioned += self._inferred(listing, changes, None if latest is None else _listing.decode(latest), nows)
        positioned.sort(key=_first)
        partition = next(row.partition for row in given if row.writer == "intake")
        stored = {item: _change.decode(data) for item, (_, data) in last.items()}
        return Record(
            listing, partition, [found for _, found in positioned if found is not None], nows, stored, weighed
        )

    def _inferred(
        self,
        listing: str,
        changes: Iterable[tuple[_Row, msgspec.Raw]],
        latest: Listing | None,
        nows: Mapping[dt.datetime, dt.datetime],
    ) -> list[tuple[_Position, Input | None]]:
        """What the marketplace must have said for the items to be judged as they were."""
        found: list[tuple[_Position, Input | None]] = []
        said: Listing | None = None
        sellers: dict[str, str | None] = {}
        for row, data in changes:
            change = _change.decode(data)
            new = change.seller is not None and sellers.get(change.item) is None
            sellers[change.item] = change.seller
            if State.LINK_INVALID in (change.state, *change.via):
                unknown = latest is not None and latest.state == "unknown"
                word = Listing(listing=listing, state="unknown" if unknown else "ended", seller=change.seller)
            elif new:
                known = latest or Listing(listing=listing, state="visible")
                word = msgspec.structs.replace(known, state="visible", seller=change.seller)
            else:
                continue
            if word != said:
                assert row.wall is not None
                now = nows.get(row.wall) or self._history.at(row.wall)
                found.append((_Position(row.wall, row.seq, -1, 0), Input(row.wall, now, word)))
                said = word
        return found

    def _input(self, row: _Row, wall: dt.datetime, nows: Mapping[dt.datetime, dt.datetime]) -> Input | None:
        envelope = decode_envelope(row.payload)
        data = decode_data(envelope)
        if not isinstance(
            data, ItemSubmitted | Command | NoticeSent | NoticeUnreached | HoldChanged | PicturesCompared | Listing
        ):
            return None
        assert envelope.time is not None
        return Input(wall, nows.get(wall) or max(self._history.at(wall), envelope.time), data)


_first: Final = itemgetter(0)


def _positioned(
    given: Iterable[_Row], caused: Mapping[str, tuple[int, dt.datetime]], writers: Sequence[str]
) -> list[tuple[_Position, _Row]]:
    """Inputs with their positions. One that had no effect comes after its writer's earlier inputs."""
    found: list[tuple[_Position, _Row]] = []
    behind: dict[tuple[str, dt.datetime], int] = {}
    for row in sorted(given, key=lambda row: (row.writer, row.partition, row.seq)):
        assert row.id is not None
        assert row.wall is not None
        effect, wall = caused.get(row.id, (0, row.wall))
        effect = behind[row.writer, wall] = effect or behind.get((row.writer, wall), 0)
        found.append((_Position(wall, effect, writers.index(row.writer), row.seq), row))
    return found


def _pasts(filed: Iterable[ItemSubmitted], weighed: Mapping[str, Sequence[Triage]], old: Policy) -> dict[str, Past]:
    """What each item's recorded triages tell."""
    found: dict[str, Past] = {}
    for item in filed:
        told = weighed.get(item.item)
        rules = old.triage if item.policy == old.version else policy.load(item.policy).triage
        if told and rules is not None:
            found[item.item] = past(told, rules)
    return found


def compare(
    recorded: Recorded,
    old: Policy,
    new: Policy,
    *,
    everything: bool = False,
    limit: int | None = None,
    since: dt.datetime | None = None,
    top: int = 100,
) -> Tally:
    """Replay what was recorded under both policies.

    Args:
        everything: try both policies on all items, else only on those of ``old``'s profile, and handle the others
            under their own policy both times.
        limit: stop after this many items, at the end of a listing.
        since: only items filed at or after this time.

    Raises:
        PolicyError: an item names a policy that does not exist.
    """

    def under(chosen: Policy) -> Callable[[ItemSubmitted], Policy]:
        def policy_of(filed: ItemSubmitted) -> Policy:
            return chosen if everything or filed.profile == old.profile else policy.load(filed.policy)

        return policy_of

    tally = Tally(top)
    for record in recorded.listings():
        filed = [given.data for given in record.inputs if isinstance(given.data, ItemSubmitted)]
        chosen = [
            item
            for item in filed
            if not item.canary
            and (everything or item.profile == old.profile)
            and (since is None or item.accepted_at >= since)
        ]
        if not chosen:
            continue
        timeline = recorded.timelines.get(record.partition) or Timeline()
        pasts = _pasts(filed, record.weighed, old)
        before = Replay(record.inputs, timeline, under(old), None, record.nows, pasts)
        after = Replay(record.inputs, timeline, under(new), before, record.nows, pasts)
        tally.replays(before, after)
        for item in chosen:
            name = item.item
            tally.outcome(item, before.result(name), after.result(name), settled=after.items[name].settled)
            if item.policy == old.version:
                tally.stored(name, before.tracks[name].last, record.stored.get(name))
        if limit is not None and tally.items >= limit:
            break
    return tally
