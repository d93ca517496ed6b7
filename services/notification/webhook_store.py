"""Tables of webhooks, and who may write them.

- ``channels``: what intake says about an account (``AccountChannels``), folded by ``revision`` by the worker that
  owns the account's partition. It holds neither addresses nor secrets: processes ask intake for these at sending
  time.
- ``endpoints``: the state of a webhook. A process leases *endpoints*, not messages. So a webhook is called by one
  process at a time, its circuit has one writer, and messages for a failing webhook stay in the table without delaying
  others. ``due_wall`` is when the next delivery is due. Adding a delivery moves it forward; giving an endpoint back
  recomputes it **after** locking the row, so a delivery added in the meantime is not forgotten.
- ``webhook_deliveries``: a message for an endpoint: ``queued`` -> ``sending`` (committed before the first byte is
  sent) -> ``delivered``, ``failed`` (its time is over) or ``dropped`` (the endpoint is gone). A delivery taken in
  state ``sending`` has an unknown outcome: it is sent again under the same ``webhook-id`` and counted in ``repeats``.
  ``log`` has the last tries.
- ``messages`` with route ``webhook``: a webhooks process sets ``holder`` to ``HOLDER`` and ``due_wall`` to when the
  message goes by another channel if no webhook has accepted it. The first 2xx makes it sent. If all its deliveries
  have ended without one, it goes by another channel at once. If it was replayed before, its ended deliveries start
  again.

To give endpoints back, lock them first, then messages, then deliveries, each by id. To assign messages to endpoints,
take only messages that nobody holds. The database resolves any remaining deadlock, and the work is repeated.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.notification import history, routing, store
from services.notification.circuit import OPENS_AT, Circuit
from services.notification.domain import WINDOW_KINDS
from services.notification.types import Announcement, Failure, Message, PutOff
from shared.db import columns
from shared.events import AccountChannels, WebhookDisabled, WebhookKnown
from shared.topics import partition_of
from shared.webhooks import Replayed, WebhookDelivery, WebhookHealth, WebhookTry

HOLDER: Final = "webhooks"
"""Holder of messages with route ``webhook``, whichever process works on their deliveries."""
LOG: Final = 12
"""Tries kept per delivery."""
REPLAY_MOST: Final = 1000
"""Most messages that one request may replay."""

_FOLD = """
    insert into channels (party, revision, preferred, webhooks) values (%s, %s, %s, %s)
    on conflict (party) do update set revision = excluded.revision, preferred = excluded.preferred, webhooks = excluded.webhooks
    where channels.revision < excluded.revision returning party"""
_KNOWN = "select party, preferred, webhooks from channels where party = any(%s)"
_UPSERT = """
    insert into endpoints (id, party, generation)
    select * from unnest(%s::text[], %s::text[], %s::int[]) as n(id, party, generation) order by n.id
    on conflict (id) do update set generation = excluded.generation, state = 'enabled', failures = 0, since_wall = null,
        until_wall = null, proven = false, due_wall = clock_timestamp()
    where endpoints.generation < excluded.generation"""
_GONE = """
    update endpoints set state = 'disabled', due_wall = 'infinity'
    where party = %s and id <> all(%s) returning id"""
_WORKING = "select id from endpoints where id = any(%s) and state = 'enabled'"
_TAKE_MESSAGES = """
    select id, holder from messages where state in ('queued', 'sending') and route = 'webhook' and due_wall <= clock_timestamp()
    order by due_wall limit %s for update skip locked"""
_HOLD = """
    update messages as t set holder = %s, due_wall = clock_timestamp() + n.pause * interval '1 second'
    from unnest(%s::text[], %s::float8[]) as n(id, pause) where t.id = n.id"""
_ADD = """
    insert into webhook_deliveries (endpoint, message, party, kind)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[])
    on conflict (message, endpoint) do update set state = 'queued', tries = 0, result = null, ended_wall = null,
        began_wall = clock_timestamp(), due_wall = clock_timestamp()
    where webhook_deliveries.state not in ('queued', 'sending')"""
_WAKE = """
    update endpoints as t set due_wall = least(t.due_wall, greatest(clock_timestamp(), t.until_wall))
    from (select id from endpoints where id = any(%s) order by id for update) as n where t.id = n.id"""
_LEASE = """
    with first as (select id from endpoints where state = 'enabled' and proven and due_wall <= clock_timestamp()
            and lease_wall <= clock_timestamp() order by due_wall limit %s for update skip locked),
        second as (select id from endpoints where state = 'enabled' and not proven and due_wall <= clock_timestamp()
            and lease_wall <= clock_timestamp() order by due_wall limit %s for update skip locked)
    update endpoints as t set holder = %s, lease_wall = clock_timestamp() + %s * interval '1 second'
    from (select id from first union all select id from second) as n
    where t.id = n.id returning t.id, t.party, t.generation, t.failures, t.since_wall, t.until_wall, t.proven"""
_DUE = """
    select e.id, d.message, d.state, d.tries, d.began_wall, d.replays from unnest(%s::text[], %s::int[]) as e(id, room)
    cross join lateral (select * from webhook_deliveries d where d.endpoint = e.id and d.state in ('queued', 'sending')
        and d.due_wall <= clock_timestamp() order by d.due_wall limit e.room) as d"""
_BEGIN = """
    update webhook_deliveries as t set state = 'sending', attempts = t.attempts + 1, repeats = t.repeats + (t.state = 'sending')::int
    from unnest(%s::text[], %s::text[]) as n(endpoint, message)
    where t.endpoint = n.endpoint and t.message = n.message and t.state in ('queued', 'sending')
    returning t.endpoint, t.message"""
_BEGIN_MESSAGES = """
    update messages as t set state = 'sending', attempts = t.attempts + 1, repeats = t.repeats + n.repeats
    from (select message as id, max(again) as repeats from unnest(%s::text[], %s::int[]) as u(message, again)
          group by message order by message) as n
    where t.id = n.id and t.holder = %s and t.state in ('queued', 'sending')"""
_END = f"""
    update webhook_deliveries as t set state = n.state, result = n.result, tries = t.tries + n.tries,
        due_wall = coalesce(n.due, t.due_wall),
        ended_wall = case when n.state in ('delivered', 'failed', 'dropped') then clock_timestamp() end,
        log = (t.log || array_remove(array[n.entry], null))[greatest(1, cardinality(t.log) + 2 - {LOG}):]
    from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::timestamptz[], %s::text[])
        as n(endpoint, message, state, result, tries, due, entry)
    where t.endpoint = n.endpoint and t.message = n.message and t.state in ('queued', 'sending')"""
_NOT_SENDING = """
    update messages as t set state = 'queued' where t.id = any(%s) and t.holder = %s and t.state = 'sending'
    and not exists (select from webhook_deliveries d where d.message = t.id and d.state = 'sending')"""
_LOCK = "select id from endpoints where id = any(%s) and holder = %s order by id for update"
_RELEASE = """
    update endpoints as t set holder = null, lease_wall = '-infinity', failures = n.failures, since_wall = n.since,
        until_wall = n.until, proven = n.proven,
        due_wall = greatest(n.until, n.pause, coalesce((select min(d.due_wall) from webhook_deliveries d
            where d.endpoint = t.id and d.state in ('queued', 'sending')), 'infinity'))
    from unnest(%s::text[], %s::int[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::bool[], %s::timestamptz[])
        as n(id, generation, failures, since, until, proven, pause)
    where t.id = n.id and t.holder = %s and t.generation = n.generation and t.state = 'enabled'"""
_LET_GO = "update endpoints set holder = null, lease_wall = '-infinity' where id = any(%s) and holder = %s"
_DISABLE = """
    update endpoints as t set state = 'disabled', due_wall = 'infinity', holder = null, lease_wall = '-infinity'
    from unnest(%s::text[], %s::int[]) as n(id, generation)
    where t.id = n.id and t.generation = n.generation and t.state = 'enabled' returning t.id"""
_DROP = """
    update webhook_deliveries set state = 'dropped', result = 'disabled', ended_wall = clock_timestamp()
    where endpoint = any(%s) and state in ('queued', 'sending') returning message"""
_LEFT = """
    select id from messages t where id = any(%s) and route = 'webhook' and state in ('queued', 'sending') and holder = %s
    and not exists (select from webhook_deliveries d where d.message = t.id and d.state in ('queued', 'sending'))
    order by id for update"""
_CIRCUIT = """case when state = 'disabled' then 'disabled' when until_wall > clock_timestamp() then 'open'
        when failures >= %s then 'half_open' else 'closed' end as circuit"""
_STATES = f"select {_CIRCUIT}, count(*) as endpoints from endpoints group by circuit"
_SENT_AT = """
    select id, coalesce(rendered_at, sent_at) as at from messages where id = any(%s) and sent_at is not null
    and (id = any(%s) or begins is null or begun_at is not null)"""
_known = msgspec.json.Decoder(list[WebhookKnown])
_encode = msgspec.json.Encoder().encode


# --------------------------------------------------------------------------------------------------- the worker's


def fold(connection: sa.Connection, events: Sequence[AccountChannels]) -> None:
    """Record the accounts' channels; the order of the events does not matter.

    Messages that wait for a webhook no longer in use go by another channel.
    """
    for event in sorted(events, key=lambda event: (event.account, event.revision)):
        webhooks = _encode(list(event.webhooks)).decode()
        row = (event.account, event.revision, list(event.order), webhooks)
        if not connection.exec_driver_sql(_FOLD, row).rowcount:
            continue
        if event.webhooks:
            known = [(one.webhook, event.account, one.generation) for one in event.webhooks]
            connection.exec_driver_sql(_UPSERT, columns(known))
        ids = [one.webhook for one in event.webhooks]
        gone = list(connection.exec_driver_sql(_GONE, (event.account, ids)).scalars())
        if gone:
            drop(connection, gone)


def drop(connection: sa.Connection, endpoints: Sequence[str]) -> None:
    """Drop what waits for endpoints no longer called. Messages left without an endpoint become due at once."""
    messages = sorted(set(connection.exec_driver_sql(_DROP, (list(endpoints),)).scalars()))
    left(connection, messages)


def left(connection: sa.Connection, messages: Sequence[str]) -> None:
    """Make those messages due that no webhook will accept any more: they go by another channel."""
    if messages:
        ids = list(connection.exec_driver_sql(_LEFT, (list(messages), HOLDER)).scalars())
        if ids:
            connection.exec_driver_sql("update messages set due_wall = clock_timestamp() where id = any(%s)", (ids,))


# --------------------------------------------------------------------------------------------------- the senders'


@dataclass(frozen=True, slots=True)
class Preference:
    """How a party wants to receive messages."""

    order: Sequence[str] = ()
    webhooks: Sequence[WebhookKnown] = ()


def preferences(connection: sa.Connection, parties: Iterable[str]) -> dict[str, Preference]:
    """Preferences by party; parties that have stated none are missing."""
    rows = connection.exec_driver_sql(_KNOWN, (sorted(set(parties)),))
    return {party: Preference(order, _known.decode(webhooks)) for party, order, webhooks in rows}


def assign(
    connection: sa.Connection, limit: int, fallback_s: Mapping[bool, float], now: dt.datetime, wall: dt.datetime
) -> tuple[int, int]:
    """Assign due messages to webhooks; send those whose time is over or that have no webhook to another channel.

    Args:
        fallback_s: seconds until a message goes by another channel, by whether it begins a window.

    Returns:
        How many messages went to webhooks, and how many to another channel.
    """
    holders = {row.id: row.holder for row in connection.exec_driver_sql(_TAKE_MESSAGES, (limit,))}
    if not holders:
        return 0, 0
    ids = list(holders)
    messages = store.read(connection, ids)
    known = preferences(connection, (message.party for message in messages))
    # assigned to webhooks before. A delivery does not prove that: a replay creates one for a message sent another way
    begun = {id_ for id_, holder in holders.items() if holder == HOLDER}
    # a webhook disabled here a moment ago may still be in intake's list
    hooks = sorted({one.webhook for preference in known.values() for one in preference.webhooks})
    working = set(connection.exec_driver_sql(_WORKING, (hooks,)).scalars()) if hooks else set()
    added: list[tuple[str, str, str, str]] = []
    held: list[tuple[str, float]] = []
    away: list[tuple[Message, bool]] = []
    for message in messages:
        preference = known.get(message.party, Preference())
        webhooks = [one for one in routing.endpoints(message.kind, preference.webhooks) if one.webhook in working]
        if message.id in begun or not webhooks:
            away.append((message, message.id in begun))
            continue
        added += [(one.webhook, message.id, message.party, message.kind) for one in webhooks]
        held.append((message.id, fallback_s[message.kind in WINDOW_KINDS]))
    if held:
        connection.exec_driver_sql(_HOLD, (HOLDER, *columns(held)))
        connection.exec_driver_sql(_ADD, columns(added))
        connection.exec_driver_sql(_WAKE, (sorted({endpoint for endpoint, *_ in added}),))
    if away:
        connection.exec_driver_sql(_HOLD, (HOLDER, [message.id for message, _ in away], [0.0] * len(away)))
        back = [
            PutOff(
                message,
                "sending" if message.unknown else "queued",
                "fell_back",
                route="email",
                failure=Failure("webhook", "gave_up", "no_answer" if tried else "no_webhook"),
            )
            for message, tried in away
        ]
        store.put_off(connection, HOLDER, back, now, wall)
    return len(held), len(away)


@dataclass(slots=True)
class DueDelivery:
    """A delivery that is due. ``unknown``: an earlier call may have been accepted."""

    message: str
    unknown: bool
    tries: int
    began: dt.datetime
    replay: bool


@dataclass(slots=True)
class Endpoint:
    """An endpoint that this process holds, with its due deliveries."""

    id: str
    party: str
    generation: int
    circuit: Circuit
    due: list[DueDelivery]


def take(
    connection: sa.Connection, holder: str, lease_s: float, room: tuple[int, int], each: Mapping[bool, int]
) -> list[Endpoint]:
    """Lease endpoints with due deliveries, each with its oldest ones.

    Args:
        room: most endpoints that accepted the last call, and most others.
        each: most deliveries per endpoint, by whether it accepted the last call.
    """
    found = {
        id_: Endpoint(id_, party, generation, Circuit(failures, since, until, proven), [])
        for id_, party, generation, failures, since, until, proven in connection.exec_driver_sql(
            _LEASE, (*room, holder, lease_s)
        )
    }
    if found:
        rows = [(one.id, each[one.circuit.proven]) for one in found.values()]
        for id_, message, state, tries, began, replays in connection.exec_driver_sql(_DUE, columns(rows)):
            found[id_].due.append(DueDelivery(message, state == "sending", tries, began, replays > 0))
    return list(found.values())


def begin(connection: sa.Connection, due: Sequence[tuple[str, DueDelivery]]) -> set[tuple[str, str]]:
    """Record that calls begin, as (endpoint, delivery); returns (endpoint, message) of those still to be sent."""
    if not due:
        return set()
    rows = sorted((endpoint, one.message) for endpoint, one in due)
    connection.exec_driver_sql(_BEGIN_MESSAGES, (*columns([(one.message, int(one.unknown)) for _, one in due]), HOLDER))
    return {(endpoint, message) for endpoint, message in connection.exec_driver_sql(_BEGIN, columns(rows))}


@dataclass(slots=True)
class DeliveryOutcome:
    """The outcome of a delivery. ``due``: when it is tried again; None: never, or as due before."""

    endpoint: str
    message: str
    state: str
    result: str
    tried: bool = True
    due: dt.datetime | None = None
    entry: WebhookTry | None = None


def end(connection: sa.Connection, ended: Sequence[DeliveryOutcome]) -> None:
    """Record the outcomes of deliveries. Messages that no webhook will accept any more become due."""
    if not ended:
        return
    rows = [
        (
            one.endpoint,
            one.message,
            one.state,
            one.result,
            int(one.tried),
            one.due,
            None if one.entry is None else _encode(one.entry).decode(),
        )
        for one in sorted(ended, key=lambda one: (one.endpoint, one.message))
    ]
    connection.exec_driver_sql(_END, columns(rows))
    known = sorted({one.message for one in ended if one.state in ("queued", "failed", "dropped")})
    if known:
        connection.exec_driver_sql(_NOT_SENDING, (known, HOLDER))
    left(connection, sorted({one.message for one in ended if one.state in ("failed", "dropped")}))


@dataclass(slots=True)
class ReleasedEndpoint:
    """An endpoint to give back. ``pause``: not leased before this time, whatever is due."""

    endpoint: str
    generation: int
    circuit: Circuit
    pause: dt.datetime | None = None


def lock(connection: sa.Connection, holder: str, endpoints: Sequence[str]) -> None:
    """Lock endpoints to give back, before reading what is due to them."""
    if endpoints:
        connection.exec_driver_sql(_LOCK, (list(endpoints), holder)).all()


def release(connection: sa.Connection, holder: str, released: Sequence[ReleasedEndpoint]) -> None:
    """Give endpoints back with their new circuits; they must be locked."""
    if not released:
        return
    ids = [one.endpoint for one in released]
    rows = [
        (
            one.endpoint,
            one.generation,
            one.circuit.failures,
            one.circuit.since,
            one.circuit.until,
            one.circuit.proven,
            one.pause,
        )
        for one in released
    ]
    connection.exec_driver_sql(_RELEASE, (*columns(rows), holder))
    # an endpoint re-enabled in the meantime starts with a fresh circuit
    connection.exec_driver_sql(_LET_GO, (ids, holder))


def disable(
    connection: sa.Connection,
    endpoints: Sequence[Endpoint],
    reasons: Mapping[str, str],
    now: dt.datetime,
    partitions: int,
) -> list[str]:
    """Disable endpoints and announce it to intake, which tells their owners.

    Returns those that were in use until now. An endpoint re-enabled in the meantime stays enabled.
    """
    if not endpoints:
        return []
    rows = sorted((one.id, one.generation) for one in endpoints)
    done = set(connection.exec_driver_sql(_DISABLE, columns(rows)).scalars())
    out = []
    for one in endpoints:
        if one.id in done:
            event = msgspec.convert(
                {
                    "webhook": one.id,
                    "account": one.party,
                    "generation": one.generation,
                    "reason": reasons[one.id],
                    "at": now,
                },
                WebhookDisabled,
            )
            payload = _encode(event).decode()
            out.append(
                Announcement(
                    partition_of(one.party, partitions), one.party, one.id, "goodfaith.webhook.disabled.v1", payload
                )
            )
    if out:
        history.announce(connection, out)
        drop(connection, sorted(done))
    return sorted(done)


def sent_at(
    connection: sa.Connection, messages: Collection[str], replayed: Collection[str] = ()
) -> dict[str, dt.datetime]:
    """When sent messages were rendered (business time), because a repeat says what the message said then.

    Missing are messages that were never sent, and those whose windows have not begun, as these will begin later. A
    message that is ``replayed`` on request is always rendered as it was.
    """
    rows = connection.exec_driver_sql(_SENT_AT, (sorted(messages), sorted(replayed)))
    return {row.id: row.at for row in rows}


def states(connection: sa.Connection) -> dict[str, int]:
    """Number of webhooks by state of their circuit."""
    return {row.circuit: row.endpoints for row in connection.exec_driver_sql(_STATES, (OPENS_AT,))}


# ------------------------------------------------------------------------------------------------------- the API's


_try = msgspec.json.Decoder(WebhookTry)


def deliveries(
    connection: sa.Connection, endpoint: str, party: str, before: tuple[dt.datetime, str] | None, limit: int
) -> list[WebhookDelivery]:
    """Past and pending deliveries to a webhook of the party, latest first. Times are wall times."""
    where = "" if before is None else "and (made_wall, message) < (%s, %s)"
    rows = connection.exec_driver_sql(
        f"""select message, kind, state, result, attempts, repeats, replays, made_wall, due_wall, ended_wall, log
        from webhook_deliveries where endpoint = %s and party = %s {where} order by made_wall desc, message desc limit %s""",
        (endpoint, party, *(before or ()), limit),
    )
    return [
        WebhookDelivery(
            message=message,
            kind=kind,
            state=state,
            result=result,
            attempts=attempts,
            repeats=repeats,
            replays=replays,
            made_at=made,
            next_at=due if state in ("queued", "sending") else None,
            ended_at=ended,
            tries=[_try.decode(text) for text in log],
        )
        for message, kind, state, result, attempts, repeats, replays, made, due, ended, log in rows
    ]


_HEALTH = f"""
    select {_CIRCUIT}, failures, since_wall as failing_since,
        case when until_wall > clock_timestamp() then until_wall end as next_at,
        (select count(*) from (select from webhook_deliveries d where d.endpoint = e.id and d.state in ('queued', 'sending')
            limit 10000) t) as waiting
    from endpoints e where id = %s and party = %s"""


def health(connection: sa.Connection, endpoint: str, party: str) -> WebhookHealth:
    """The health of a webhook of the party; ``unknown``: intake has not announced it yet."""
    row = connection.exec_driver_sql(_HEALTH, (OPENS_AT, endpoint, party)).mappings().one_or_none()
    if row is None:
        return WebhookHealth(circuit="unknown")
    return WebhookHealth(**row)


_REPLAYED = """
    select m.id, m.party, m.kind, m.sent_wall from messages m
    where m.party = %s and m.sent_at is not null and m.kind <> all(%s) and {which} order by m.sent_wall, m.id limit %s"""
_REPLAY = """
    insert into webhook_deliveries (endpoint, message, party, kind, replays)
    select %s, n.*, 1 from unnest(%s::text[], %s::text[], %s::text[]) as n(message, party, kind)
    on conflict (message, endpoint) do update set state = 'queued', replays = webhook_deliveries.replays + 1, tries = 0,
        began_wall = clock_timestamp(), due_wall = clock_timestamp(), ended_wall = null, result = null
    where webhook_deliveries.state not in ('queued', 'sending')"""


def replay(
    connection: sa.Connection,
    endpoint: str,
    party: str,
    *,
    message: str | None = None,
    since: dt.datetime | None = None,
) -> Replayed | None:
    """Queue sent messages for a webhook again, under their ids: one message, or those sent since a wall time.

    Takes the oldest ``REPLAY_MOST``. Deliveries under way are not duplicated; a message that the webhook has already
    accepted is sent again.

    Returns:
        None if no such webhook is in use.
    """
    state = connection.exec_driver_sql(
        "select state from endpoints where id = %s and party = %s", (endpoint, party)
    ).scalar_one_or_none()
    if state != "enabled":
        return None
    never = sorted(routing.BY_MAIL_ONLY)
    which, value = ("m.id = %s", message) if message is not None else ("m.sent_wall >= %s", since)
    values: tuple[Any, ...] = (party, never, value, REPLAY_MOST + 1)
    rows = connection.exec_driver_sql(_REPLAYED.format(which=which), values).all()
    more, rows = len(rows) > REPLAY_MOST, rows[:REPLAY_MOST]
    if not rows:
        return Replayed(messages=0)
    ids, parties, kinds, times = columns([tuple(row) for row in rows])
    count: int = connection.exec_driver_sql(_REPLAY, (endpoint, ids, parties, kinds)).rowcount
    connection.exec_driver_sql(_WAKE, ([endpoint],))
    return Replayed(messages=count, more=more, upto=times[-1])
