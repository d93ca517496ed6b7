"""Tables of accounts' channels and webhooks.

``channels.revision`` rises with every change that notification must know of; its row is locked first, so that the events
about an account are in order. Addresses and secrets are in ``webhooks.sealed`` and nowhere else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
import structlog
from cryptography.exceptions import InvalidTag

from services.intake import domain, registry_store, security, store
from services.intake.domain import Refused
from services.intake.webhooks import Sealed
from shared import clock, events

log = structlog.get_logger(__name__)

_COLUMNS: Final = (
    "w.id, w.account, w.kinds, w.status, w.reason, w.generation, w.made_at, w.changed_at, w.sealed, k.wrapped"
)
_sealed: Final = msgspec.json.Decoder(Sealed)


def _purpose(id: str) -> str:
    return f"webhook:{id}"


def seal(contacts: security.Contacts, account: str, wrapped: bytes, id: str, what: Sealed) -> bytes:
    """Encrypt address and secrets for this webhook of this account."""
    return contacts.seal_text(account, wrapped, msgspec.json.encode(what), _purpose(id))


def opened(contacts: security.Contacts, row: store.Row) -> Sealed | None:
    """Address and secrets of a row; None, and logged, when they cannot be decrypted."""
    try:
        text = contacts.open_text(row["account"], bytes(row["wrapped"]), bytes(row["sealed"]), _purpose(row["id"]))
    except InvalidTag:
        log.error("webhook cannot be decrypted", webhook=row["id"])
        return None
    return _sealed.decode(text)


# ------------------------------------------------------------------------------------------------------------- channels


def digest(connection: sa.Connection, account: str) -> tuple[int, str] | None:
    """Hour and zone at which the account wants one message a day."""
    row = connection.exec_driver_sql(
        "select digest_hour, digest_zone from channels where account = %s", (account,)
    ).first()
    return None if row is None or row[0] is None else (row[0], row[1])


def preferred(connection: sa.Connection, account: str) -> list[str]:
    """The account's order of channels; empty: it has not said."""
    found = connection.exec_driver_sql("select preferred from channels where account = %s", (account,)).scalar()
    return list(found or [])


def prefer(
    connection: sa.Connection, account: str, order: Sequence[str], digest: tuple[int, str] | None, partitions: int
) -> None:
    """Note the account's order of channels, and the hour (with its zone) at which it wants one message a day."""
    connection.exec_driver_sql(
        """insert into channels (account, preferred, digest_hour, digest_zone) values (%s, %s, %s, %s)
        on conflict (account) do update set preferred = excluded.preferred, digest_hour = excluded.digest_hour,
            digest_zone = excluded.digest_zone""",
        (account, list(order), *(digest or (None, None))),
    )
    publish(connection, account, partitions)


def publish(connection: sa.Connection, account: str, partitions: int) -> None:
    """Say how the account wants to be told from now on."""
    now, _ = clock.read(connection)
    revision, order, hour, zone = connection.exec_driver_sql(
        """insert into channels (account, revision) values (%s, 1)
        on conflict (account) do update set revision = channels.revision + 1
        returning revision, preferred, digest_hour, digest_zone""",
        (account,),
    ).one()
    known = connection.exec_driver_sql(
        "select id, generation, kinds from webhooks where account = %s and status = 'enabled' order by id", (account,)
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
    store.publish_accounts(connection, [event], "goodfaith.account.channels.v1", partitions)


# ------------------------------------------------------------------------------------------------------------- webhooks


def of_account(connection: sa.Connection, account: str, *, lock: bool = False) -> list[store.Row]:
    """The account's webhooks, oldest first; those whose key was destroyed are none."""
    if lock:
        # whoever changes an account's webhooks holds this row: counting them and adding one is one step
        connection.exec_driver_sql(
            "insert into channels (account) values (%s) on conflict (account) do update set preferred = channels.preferred",
            (account,),
        )
    rows = connection.exec_driver_sql(
        f"select {_COLUMNS} from webhooks w join subject_keys k using (account) where w.account = %s order by w.id",
        (account,),
    )
    return [dict(row) for row in rows.mappings()]


def one(connection: sa.Connection, account: str, id: str, *, lock: bool = False) -> store.Row:
    """A webhook of the account.

    Raises:
        Refused: 404.
    """
    for row in of_account(connection, account, lock=lock):
        if row["id"] == id:
            return row
    raise domain.not_found()


def of_accounts(connection: sa.Connection, accounts: Iterable[str]) -> tuple[list[store.Row], dt.datetime]:
    """Webhooks in use of many accounts, and the time by which their secrets are judged (wall time)."""
    _, wall = clock.read(connection)
    rows = connection.exec_driver_sql(
        f"""select {_COLUMNS} from webhooks w join subject_keys k using (account)
        where w.account = any(%s) and w.status = 'enabled' order by w.id""",
        (sorted(set(accounts)),),
    )
    return [dict(row) for row in rows.mappings()], wall


def add(
    connection: sa.Connection, account: str, id: str, sealed: bytes, kinds: Collection[str], partitions: int
) -> dt.datetime:
    """Keep a new webhook; returns when that was (business time)."""
    now, _ = clock.read(connection)
    connection.exec_driver_sql(
        "insert into webhooks (id, account, sealed, kinds, made_at, changed_at) values (%s, %s, %s, %s, %s, %s)",
        (id, account, sealed, sorted(set(kinds)), now, now),
    )
    publish(connection, account, partitions)
    return now


def reseal(connection: sa.Connection, id: str, sealed: bytes) -> None:
    """Keep changed secrets."""
    now, _ = clock.read(connection)
    connection.exec_driver_sql("update webhooks set sealed = %s, changed_at = %s where id = %s", (sealed, now, id))


def enable(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Put a webhook in use again: what notification knew against it is forgotten, for its generation is another."""
    now, _ = clock.read(connection)
    connection.exec_driver_sql(
        """update webhooks set status = 'enabled', reason = null, generation = generation + 1, changed_at = %s
        where id = %s""",
        (now, id),
    )
    publish(connection, account, partitions)


def disable(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Put a webhook out of use, as its owner wants."""
    now, _ = clock.read(connection)
    connection.exec_driver_sql(
        "update webhooks set status = 'disabled', reason = 'owner', changed_at = %s where id = %s", (now, id)
    )
    publish(connection, account, partitions)


def remove(connection: sa.Connection, account: str, id: str, partitions: int) -> None:
    """Forget a webhook.

    Raises:
        Refused: 404.
    """
    gone = connection.exec_driver_sql("delete from webhooks where id = %s and account = %s", (id, account)).rowcount
    if not gone:
        raise domain.not_found()
    publish(connection, account, partitions)


def forget(connection: sa.Connection, account: str, partitions: int) -> None:
    """Forget all webhooks of an account: its key is destroyed."""
    if connection.exec_driver_sql("delete from webhooks where account = %s", (account,)).rowcount:
        publish(connection, account, partitions)


def disabled(connection: sa.Connection, found: Sequence[events.WebhookDisabled], partitions: int) -> None:
    """Notification calls webhooks no more: note it and tell their owners. One that was put in use since stays so."""
    for event in sorted(found, key=lambda event: (event.account, event.webhook)):
        now, wall = clock.read(connection)
        changed = connection.exec_driver_sql(
            """update webhooks set status = 'disabled', reason = %s, changed_at = %s
            where id = %s and account = %s and generation = %s and status = 'enabled'""",
            (event.reason, now, event.webhook, event.account, event.generation),
        ).rowcount
        if changed:
            publish(connection, event.account, partitions)
            told = registry_store.notice(
                event.account, "webhook_disabled", event.webhook, now, wall, reason=event.reason
            )
            store.tell_accounts(connection, [told], partitions)


def room(rows: Sequence[store.Row], most: int) -> None:
    """Whether an account may have a further webhook.

    Raises:
        Refused: it has as many as it may.
    """
    if len(rows) >= most:
        raise Refused(
            422, "too_many_webhooks", f"An account has at most {most} webhooks.", cure="Delete one that is not in use."
        )
