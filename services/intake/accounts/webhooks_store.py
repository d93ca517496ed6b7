"""Tables of accounts' channels and webhooks.

``channels.revision`` rises with every change that notification must know about. Its row is locked first, to keep the
events about an account in order. Addresses, secrets and codes are stored only in ``webhooks.sealed``.

A webhook with a row in ``webhook_challenges`` is unconfirmed, and is not used whatever its status.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from cryptography.exceptions import InvalidTag

from services.intake.accounts import tables, webhooks
from services.intake.accounts.webhooks import CodeRequests, Sealed
from services.intake.kernel import outbox, security, store
from services.intake.kernel.refusals import not_found
from shared import clock, events
from shared.refusals import Refused

log = structlog.get_logger(__name__)

_COLUMNS: Final = (
    "w.id, w.account, w.kinds, w.status, w.reason, w.generation, w.made_at, w.changed_at, w.sealed, k.wrapped,"
    " c.webhook is not null as pending, c.asks, c.asked_wall, c.expires_wall, c.due_wall, c.calls, c.tries, c.result"
)
_FROM: Final = "from webhooks w join subject_keys k using (account) left join webhook_challenges c on c.webhook = w.id"
_IN_USE: Final = "status = 'enabled' and not exists (select from webhook_challenges c where c.webhook = webhooks.id)"
_sealed: Final = msgspec.json.Decoder(Sealed)


def _purpose(id: str) -> str:
    return f"webhook:{id}"


def seal(contacts: security.Contacts, account: str, wrapped: bytes, id: str, what: Sealed) -> bytes:
    """Encrypt address, secrets and code for this webhook of this account."""
    return contacts.seal_text(account, wrapped, msgspec.json.encode(what), _purpose(id))


def opened(contacts: security.Contacts, row: store.Row) -> Sealed | None:
    """Decrypt a row's address, secrets and code. Returns None, and logs an error, if that fails."""
    try:
        text = contacts.open_text(row["account"], bytes(row["wrapped"]), bytes(row["sealed"]), _purpose(row["id"]))
    except InvalidTag:
        log.error("webhook cannot be decrypted", webhook=row["id"])
        return None
    return _sealed.decode(text)


# ------------------------------------------------------------------------------------------------------------- channels


def digest(connection: sa.Connection, account: str) -> tuple[int, str] | None:
    """Hour and zone at which the account wants one message per day; None: it does not."""
    row = connection.exec_driver_sql(
        "select digest_hour, digest_zone from channels where account = %s", (account,)
    ).first()
    return None if row is None or row.digest_hour is None else (row.digest_hour, row.digest_zone)


def preferred(connection: sa.Connection, account: str) -> list[str]:
    """The account's order of channels; empty: it has not chosen one."""
    found = connection.exec_driver_sql("select preferred from channels where account = %s", (account,)).scalar()
    return list(found or [])


def prefer(
    connection: sa.Connection, account: str, order: Sequence[str], digest: tuple[int, str] | None, partitions: int
) -> None:
    """Store the account's order of channels, and the hour (with its zone) at which it wants one message per day."""
    connection.exec_driver_sql(
        """insert into channels (account, preferred, digest_hour, digest_zone) values (%s, %s, %s, %s)
        on conflict (account) do update set preferred = excluded.preferred, digest_hour = excluded.digest_hour,
            digest_zone = excluded.digest_zone""",
        (account, list(order), *(digest or (None, None))),
    )
    publish(connection, account, partitions)


def publish(connection: sa.Connection, account: str, partitions: int) -> None:
    """Publish how the account wants to receive messages from now on."""
    now, _ = clock.read(connection)
    revision, order, hour, zone = connection.exec_driver_sql(
        """insert into channels (account, revision) values (%s, 1)
        on conflict (account) do update set revision = channels.revision + 1
        returning revision, preferred, digest_hour, digest_zone""",
        (account,),
    ).one()
    known = connection.exec_driver_sql(
        f"select id, generation, kinds from webhooks where account = %s and {_IN_USE} order by id", (account,)
    )
    event = events.AccountChannels(
        account=account,
        revision=revision,
        order=tuple(order),
        digest=None if hour is None else events.DigestWanted(hour=hour, zone=zone),
        webhooks=tuple(
            events.WebhookKnown(webhook=id, generation=generation, kinds=tuple(kinds))
            for id, generation, kinds in known
        ),
        at=now,
    )
    outbox.publish_accounts(connection, [event], partitions)


# ------------------------------------------------------------------------------------------------------------- webhooks


def of_account(connection: sa.Connection, account: str, *, lock: bool = False) -> list[store.Row]:
    """The account's webhooks, oldest first, without those whose key was destroyed."""
    if lock:
        # every change to an account's webhooks holds this row, so counting them and adding one is atomic
        connection.exec_driver_sql(
            "insert into channels (account) values (%s) on conflict (account) do update set preferred = channels.preferred",
            (account,),
        )
    rows = connection.exec_driver_sql(f"select {_COLUMNS} {_FROM} where w.account = %s order by w.id", (account,))
    return [dict(row) for row in rows.mappings()]


def one(connection: sa.Connection, account: str, id: str, *, lock: bool = False) -> store.Row:
    """A webhook of the account.

    Raises:
        Refused: 404.
    """
    for row in of_account(connection, account, lock=lock):
        if row["id"] == id:
            return row
    raise not_found()


def of_accounts(connection: sa.Connection, accounts: Iterable[str]) -> tuple[list[store.Row], dt.datetime]:
    """Webhooks in use of many accounts, and the wall time that decides which of their secrets sign."""
    _, wall = clock.read(connection)
    rows = connection.exec_driver_sql(
        f"""select {_COLUMNS} {_FROM}
        where w.account = any(%s) and w.status = 'enabled' and c.webhook is null order by w.id""",
        (sorted(set(accounts)),),
    )
    return [dict(row) for row in rows.mappings()], wall


def add(
    connection: sa.Connection, account: str, id: str, sealed: bytes, kinds: Collection[str], lasts: dt.timedelta
) -> None:
    """Store a new webhook. It is used once its owner has confirmed it.

    Args:
        lasts: how long its code is valid.
    """
    now, wall = clock.read(connection)
    connection.execute(
        sa.insert(tables.webhooks).values(
            id=id,
            account=account,
            sealed=sealed,
            kinds=sorted(set(kinds)),
            status="disabled",
            generation=0,
            made_at=now,
            changed_at=now,
        )
    )
    connection.execute(
        sa.insert(tables.webhook_challenges).values(
            webhook=id, asked_wall=wall, expires_wall=wall + lasts, due_wall=wall
        )
    )


def _change(connection: sa.Connection, id: str, **values: Any) -> None:
    """Change columns of a webhook, and note when."""
    now, _ = clock.read(connection)
    connection.execute(sa.update(tables.webhooks).where(tables.webhooks.c.id == id).values(changed_at=now, **values))


def reseal(connection: sa.Connection, id: str, sealed: bytes) -> None:
    """Store a changed sealed part."""
    _change(connection, id, sealed=sealed)


def enable(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Enable a webhook under a new generation, so that notification forgets what it knew against the former one."""
    _change(connection, id, status="enabled", reason=None, generation=tables.webhooks.c.generation + 1)
    publish(connection, account, partitions)


def disable(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Disable a webhook at its owner's request."""
    _change(connection, id, status="disabled", reason="owner")
    publish(connection, account, partitions)


def remove(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Delete a webhook.

    Raises:
        Refused: 404.
    """
    gone = connection.exec_driver_sql("delete from webhooks where id = %s and account = %s", (id, account)).rowcount
    if not gone:
        raise not_found()
    publish(connection, account, partitions)


def forget(connection: sa.Connection, account: str, partitions: int) -> None:
    """Delete all webhooks of an account whose key is destroyed."""
    if connection.exec_driver_sql("delete from webhooks where account = %s", (account,)).rowcount:
        publish(connection, account, partitions)


def disabled(connection: sa.Connection, found: Sequence[events.WebhookDisabled], partitions: int) -> None:
    """Record webhooks that notification has disabled and tell their owners. Those enabled again since stay enabled."""
    for event in sorted(found, key=lambda event: (event.account, event.webhook)):
        now, wall = clock.read(connection)
        changed = connection.exec_driver_sql(
            """update webhooks set status = 'disabled', reason = %s, changed_at = %s
            where id = %s and account = %s and generation = %s and status = 'enabled'""",
            (event.reason, now, event.webhook, event.account, event.generation),
        ).rowcount
        if changed:
            publish(connection, event.account, partitions)
            told = outbox.notice(event.account, "webhook_disabled", event.webhook, now, wall, reason=event.reason)
            outbox.publish_accounts(connection, [told], partitions)


# ----------------------------------------------------------------------------------------------------------- challenges


def ask(
    connection: sa.Connection, account: str, host: bytes, wall: dt.datetime, *, a_day: int, host_an_hour: int
) -> None:
    """Record a request for a code. The caller has locked the account's row in ``channels``.

    Raises:
        Refused: 429, the limit is reached.
    """
    asked = connection.exec_driver_sql(
        """select count(*) filter (where account = %(account)s), min(at_wall) filter (where account = %(account)s),
            count(*) filter (where host = %(host)s and at_wall > %(hour)s),
            min(at_wall) filter (where host = %(host)s and at_wall > %(hour)s)
        from webhook_asks where at_wall > %(day)s and (account = %(account)s or host = %(host)s)""",
        {"account": account, "host": host, "hour": wall - webhooks.HOUR, "day": wall - webhooks.DAY},
    ).one()
    webhooks.check_asking(CodeRequests(*asked), wall, a_day, host_an_hour)
    connection.execute(sa.insert(tables.webhook_asks).values(account=account, host=host, at_wall=wall))


def ask_again(connection: sa.Connection, id: str, sealed: bytes, wall: dt.datetime, lasts: dt.timedelta) -> None:
    """Store another code, which voids the previous one."""
    reseal(connection, id, sealed)
    connection.exec_driver_sql(
        """update webhook_challenges set asks = asks + 1, asked_wall = %s, expires_wall = %s, due_wall = %s, calls = 0,
            tries = 0, result = null where webhook = %s""",
        (wall, wall + lasts, wall, id),
    )


def take_challenges(connection: sa.Connection, most: int) -> list[store.Row]:
    """Take the webhooks whose codes are due now. Each becomes due again after a pause, even if the caller crashes."""
    _, wall = clock.read(connection)
    rows = connection.exec_driver_sql(
        f"""with due as (
            select webhook from webhook_challenges where due_wall <= %(wall)s and expires_wall > %(wall)s
            order by due_wall limit %(most)s for update skip locked
        ), taken as (
            update webhook_challenges c set calls = calls + 1,
                due_wall = %(wall)s + (%(pauses)s::interval[])[calls + 1]  -- null after the last
            from due where c.webhook = due.webhook returning c.webhook
        )
        select {_COLUMNS} {_FROM} join taken on taken.webhook = w.id order by w.id""",
        {"wall": wall, "most": most, "pauses": list(webhooks.PAUSES)},
    )
    return [dict(row) for row in rows.mappings()]


def called(connection: sa.Connection, ended: Iterable[tuple[str, int, str, bool]]) -> None:
    """Record the results of calls: (webhook, ask, result, whether it was the last one)."""
    for id, asks, result, over in sorted(ended):
        connection.exec_driver_sql(
            """update webhook_challenges set result = %s, due_wall = case when %s then null else due_wall end
            where webhook = %s and asks = %s""",
            (result, over, id, asks),
        )


def confirm(
    connection: sa.Connection, contacts: security.Contacts, account: str, id: str, code: str, partitions: int
) -> Refused | None:
    """Confirm a webhook and enable it. A refusal is returned, not raised, so that the try is still counted.

    Raises:
        Refused: 404.
    """
    _, wall = clock.read(connection)
    row = one(connection, account, id, lock=True)
    if not row["pending"]:
        return webhooks.confirmed_already()
    sealed = opened(contacts, row)
    if sealed is None:
        raise not_found()
    refused = webhooks.check_code(id, sealed.code, code, row["expires_wall"], row["tries"], wall)
    if refused is not None:
        connection.exec_driver_sql("update webhook_challenges set tries = tries + 1 where webhook = %s", (id,))
        return refused
    connection.exec_driver_sql("delete from webhook_challenges where webhook = %s", (id,))
    reseal(
        connection, id, seal(contacts, account, bytes(row["wrapped"]), id, msgspec.structs.replace(sealed, code=None))
    )
    enable(connection, account, id, partitions)
    return None


def forget_unconfirmed(connection: sa.Connection) -> int:
    """Delete old requests for codes, and some of the webhooks not confirmed in time; returns how many webhooks."""
    _, wall = clock.read(connection)
    connection.exec_driver_sql("delete from webhook_asks where at_wall < %s", (wall - webhooks.DAY,))
    return connection.exec_driver_sql(
        """delete from webhooks where id in (
            select webhook from webhook_challenges where expires_wall < %s limit 500 for update skip locked
        )""",
        (wall - webhooks.KEPT,),
    ).rowcount


def room(rows: Sequence[store.Row], most: int) -> None:
    """Check that an account may have another webhook.

    Raises:
        Refused: it has as many as it may.
    """
    if len(rows) >= most:
        raise Refused(
            422, "too_many_webhooks", f"An account has at most {most} webhooks.", cure="Delete one that you do not use."
        )
