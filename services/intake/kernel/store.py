"""Intake's tables. ``visible_to`` alone decides what a party may see.

The admission lock (docs/explanation/architecture.md, "Time of right"): a transaction that writes commands takes
``ADMISSION_LOCK`` shared, then reads the clock, and commits. The ``Barrier`` takes it exclusively and reads the clock,
so everything accepted before that is visible.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.intake.kernel.domain import Account, Authorisation, OnFile, Right, state_of
from services.intake.kernel.refusals import account_closed, not_found
from shared import clock, db, events
from shared.migrate import PARTY
from shared.refusals import Refused

ADMISSION_LOCK: Final = 0x600DD002
FORMER_NAMES: Final = 10
"""Most names that are kept of those that an account had."""
_TICK: Final = dt.timedelta(microseconds=1)


Row = dict[str, Any]


def all_rows(result: sa.CursorResult[Any]) -> list[Row]:
    return [dict(row) for row in result.mappings()]


def one_row(result: sa.CursorResult[Any]) -> Row | None:
    row = result.mappings().one_or_none()
    return None if row is None else dict(row)


_NOW: Final = """
    select wall, business, rate, clock_timestamp(), (select upto from admission_time) from platform.clock order by id desc limit 1"""


def enter_admission(connection: sa.Connection) -> tuple[dt.datetime, dt.datetime]:
    """Take the admission lock shared, then read (business, wall).

    Business is the time of right of all that this transaction writes. It is later than the last watermark even if the
    clock has gone back. The transaction also takes its id, before it reads anything about rights (``right_jobs``).
    """
    connection.exec_driver_sql("select pg_current_xact_id(), pg_advisory_xact_lock_shared(%s)", (ADMISSION_LOCK,))
    return right_now(connection)


def right_now(connection: sa.Connection) -> tuple[dt.datetime, dt.datetime]:
    """(business, wall). The business time is later than the last watermark."""
    *anchor, wall, upto = connection.exec_driver_sql(_NOW).one()
    now = clock.Anchor(*anchor).at(wall)
    return (now if upto is None else max(now, upto + _TICK)), wall


def close_admission(connection: sa.Connection) -> None:
    """Take the admission lock exclusively: everything accepted before is committed."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (ADMISSION_LOCK,))


def dead_letters_since(connection: sa.Connection, partitions: Collection[int]) -> dict[int, dt.datetime]:
    """By partition, when the first dead letter of the admission queue was accepted. No watermark may pass it."""
    return dict(
        map(
            tuple,
            connection.exec_driver_sql(
                """select partition, min((convert_from(value, 'UTF8')::jsonb -> 'data' ->> 'accepted_at')::timestamptz) as since
                from dead_letters where state <> 'done' and topic = '@queue' and partition = any(%s)
                group by partition having min(convert_from(value, 'UTF8')::jsonb -> 'data' ->> 'accepted_at') is not null""",
                (list(partitions),),
            ),
        )
    )


def wall_ms(wall: dt.datetime) -> int:
    """Milliseconds since 1970-01-01, for ids."""
    return int(wall.timestamp() * 1000)


# ------------------------------------------------------------------------------------------------------------ accounts

_ACCOUNT = """a.id, a.role, a.identity_verified, a.good_faith, a.registered, a.status, a.record, a.misuse, a.misuse_items,
    a.misuse_until, a.canary"""
_RECORD: Final = msgspec.json.Decoder(events.Record)


def _account(row: sa.Row[Any]) -> Account:
    return Account(
        row.id,
        row.role,
        row.identity_verified,
        row.good_faith,
        row.registered,
        row.status,
        None if row.record is None else _RECORD.decode(row.record),
        row.misuse,
        row.misuse_items,
        row.misuse_until,
        row.canary,
    )


def account_of_token(connection: sa.Connection, digest: bytes) -> tuple[Account, dt.datetime] | None:
    """The account that a token's digest belongs to, and when the token expires; None: unknown, revoked or expired."""
    row = connection.exec_driver_sql(
        f"""select {_ACCOUNT}, t.expires_wall from tokens t join accounts a on a.id = t.account
        where t.digest = %s and t.expires_wall > now() and t.revoked_wall is null""",
        (digest,),
    ).one_or_none()
    return None if row is None else (_account(row), row.expires_wall)


def accounts(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Account]:
    """Accounts by id."""
    rows = connection.exec_driver_sql(f"select {_ACCOUNT} from accounts a where a.id = any(%s)", (sorted(set(ids)),))
    return {row.id: _account(row) for row in rows}


def existing(connection: sa.Connection, id: str) -> Account:
    """An account.

    Raises:
        Refused: 404.
    """
    found = accounts(connection, [id]).get(id)
    if found is None:
        raise not_found()
    return found


def without_staff(connection: sa.Connection, me: Account, rows: list[Row], column: str = "by") -> list[Row]:
    """The rows as the account may see them: a party learns that a reviewer or operator acted, not which one."""
    if me.sees_all:
        return rows
    people = accounts(connection, {row[column] for row in rows})
    return [
        {**row, column: person.role} if (person := people.get(row[column])) is not None and person.sees_all else row
        for row in rows
    ]


def keep_records(connection: sa.Connection, records: Mapping[str, events.Record]) -> None:
    """Store what became of accounts' items. Triage weighs their next claims by it."""
    ids = sorted(records)
    connection.exec_driver_sql(
        """update accounts a set record = n.record from unnest(%s::text[], %s::text[]) as n(id, record)
        where a.id = n.id and a.record is distinct from n.record""",
        (ids, [msgspec.json.encode(records[id]).decode() for id in ids]),
    )


def open_account(connection: sa.Connection, account: Account, kind: str, *, by: str | None) -> bool:
    """Create an account; False: the id is taken."""
    now, _ = clock.read(connection)
    return bool(
        connection.exec_driver_sql(
            """insert into accounts (id, role, kind, identity_verified, good_faith, registered, opened_at, opened_by, canary)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing""",
            (
                account.id,
                account.role,
                kind,
                account.identity_verified,
                account.good_faith,
                account.registered,
                now,
                by,
                account.canary,
            ),
        ).rowcount
    )


ACCOUNT_ROW: Final = """
    select a.id, a.role, a.kind, a.identity_verified, a.good_faith, a.registered, a.opened_at, a.status, a.canary,
        a.email_confirmed_at is not null as email_confirmed,
        exists (select from contacts c where c.account = a.id) as has_contact
    from accounts a"""


def with_state(row: Row) -> Row:
    """The account's row with the state that follows from it."""
    return {**row, "state": state_of(row["status"], row["identity_verified"], row["email_confirmed"])}


def account_row(connection: sa.Connection, account: str) -> Row:
    """The account as it describes itself, with its state.

    Raises:
        Refused: 404.
    """
    row = one_row(connection.exec_driver_sql(f"{ACCOUNT_ROW} where a.id = %s", (account,)))
    if row is None:
        raise not_found()
    return with_state(row)


# names a token in its owner's list; the token cannot be derived from it
_ID_OF_TOKEN: Final = "'t-' || encode(substr(t.digest, 1, 10), 'hex')"  # noqa: S105 - SQL, no secret
_IN_FORCE: Final = "t.revoked_wall is null and t.expires_wall > now()"
TOKENS_MOST: Final = 50
"""Tokens of an account that may be in force at a time."""


def add_token(
    connection: sa.Connection, account: str, digest: bytes, days: int, name: str = ""
) -> tuple[str, dt.datetime]:
    """Store a token's digest. Returns the token's id, and when it expires (wall time).

    Raises:
        Refused: 401, the account was erased; 409, it has too many.
    """
    erased = connection.exec_driver_sql(
        "select erased_at is not null from accounts where id = %s for no key update", (account,)
    ).scalar()
    if erased is not False:
        raise account_closed()
    if len(tokens(connection, account)) >= TOKENS_MOST:
        raise Refused(
            409, "too_many_tokens", f"The account has {TOKENS_MOST} tokens.", cure="Revoke one: DELETE /v1/tokens/{id}."
        )
    row = connection.exec_driver_sql(
        f"""insert into tokens as t (digest, account, name, expires_wall) values (%s, %s, %s, now() + %s * interval '1 day')
        returning {_ID_OF_TOKEN} as id, expires_wall""",
        (digest, account, name, days),
    ).one()
    return row.id, row.expires_wall


def tokens(connection: sa.Connection, account: str) -> list[Row]:
    """The account's tokens that are in force, latest first."""
    rows = connection.exec_driver_sql(
        f"""select {_ID_OF_TOKEN} as id, t.name, t.created_wall as created, t.expires_wall as expires, t.digest
        from tokens t where t.account = %s and {_IN_FORCE} order by t.created_wall desc, id""",
        (account,),
    )
    return all_rows(rows)


def revoke_tokens(
    connection: sa.Connection, account: str, *, id: str | None = None, keep: bytes | None = None
) -> list[str]:
    """Revoke the account's tokens, or one of them. Returns the ids of those that were in force.

    A revoked token's digest is kept, so that a token from the settings does not return at the next start.

    Args:
        keep: digest of a token that stays in force.
    """
    rows = connection.exec_driver_sql(
        f"""update tokens t set revoked_wall = now()
        where t.account = %s and {_IN_FORCE} and (%s::text is null or {_ID_OF_TOKEN} = %s) and (%s::bytea is null or t.digest <> %s)
        returning {_ID_OF_TOKEN}""",
        (account, id, id, keep, keep),
    )
    return list(rows.scalars())


def ensure_token(connection: sa.Connection, account: str, digest: bytes, days: int, name: str) -> bool:
    """Store a token from the settings. False: it is known, even if revoked or expired, or the account was erased."""
    return bool(
        connection.exec_driver_sql(
            """insert into tokens (digest, account, name, expires_wall) select %s, id, %s, now() + %s * interval '1 day'
            from accounts where id = %s and erased_at is null on conflict do nothing""",
            (digest, name, days, account),
        ).rowcount
    )


def ensure_operator(connection: sa.Connection, token_digest: bytes, days: int) -> None:
    """Create the first operator, ``a-operator``, with the token from the settings."""
    open_account(connection, Account("a-operator", "operator", True, False, True), "company", by=None)
    ensure_token(connection, "a-operator", token_digest, days, "first operator")


# ------------------------------------------------------------------------------------------------------------ contacts


def subject_key(connection: sa.Connection, account: str, make: Callable[[], bytes]) -> bytes:
    """The account's wrapped key, made if missing. The account cannot be erased until the transaction ends.

    Raises:
        Refused: 401, it was erased: nothing of it is kept, even if a process still trusts its token.
    """
    erased = connection.exec_driver_sql(
        "select erased_at is not null from accounts where id = %s for no key update", (account,)
    ).scalar_one()
    if erased:
        raise account_closed()
    found = connection.exec_driver_sql("select wrapped from subject_keys where account = %s", (account,)).scalar()
    if found is None:
        found = connection.exec_driver_sql(
            "insert into subject_keys (account, wrapped) values (%s, %s) returning wrapped", (account, make())
        ).scalar_one()
    return bytes(found)


def subject_keys(
    connection: sa.Connection, accounts: Collection[str], make: Callable[[str], bytes] | None = None
) -> dict[str, bytes]:
    """Wrapped keys by account. With ``make``, missing ones are made, and no account can be erased until the
    transaction ends; an erased one is missing.

    Before anything else that an erasure locks, so that neither waits for the other.
    """
    ids = sorted(set(accounts))
    if make is not None:
        rows = connection.exec_driver_sql(
            "select id from accounts where id = any(%s) and erased_at is null order by id for key share", (ids,)
        )
        ids = list(rows.scalars())
    known = "select account, wrapped from subject_keys where account = any(%s)"
    keys = {account: bytes(wrapped) for account, wrapped in connection.exec_driver_sql(known, (ids,))}
    if make is not None and (missing := [id for id in ids if id not in keys]):
        connection.exec_driver_sql(
            """insert into subject_keys (account, wrapped) select * from unnest(%s::text[], %s::bytea[])
            on conflict do nothing""",
            (missing, [make(id) for id in missing]),
        )
        # another process may have been first
        keys = {account: bytes(wrapped) for account, wrapped in connection.exec_driver_sql(known, (ids,))}
    return keys


def put_contact(connection: sa.Connection, account: str, sealed: bytes, *, renamed: bool) -> None:
    """Store an encrypted contact that the account gave itself. The marketplace's feed no longer changes it.

    Args:
        renamed: its name is another than before, or there was none.
    """
    connection.exec_driver_sql(
        """insert into contacts (account, sealed, named_wall) values (%s, %s, now())
        on conflict (account) do update set sealed = excluded.sealed, changed_wall = now(), fed = false,
            named_wall = case when %s then now() else contacts.named_wall end""",
        (account, sealed, renamed),
    )


def keep_name(connection: sa.Connection, account: str, sealed: bytes) -> None:
    """Keep a name that an account had until now: the last ``FORMER_NAMES`` of them."""
    connection.exec_driver_sql("insert into former_names (account, sealed) values (%s, %s)", (account, sealed))
    connection.exec_driver_sql(
        """delete from former_names where account = %s and id not in (
            select id from former_names where account = %s order by id desc limit %s)""",
        (account, account, FORMER_NAMES),
    )


def sealed_former_names(connection: sa.Connection, account: str) -> list[tuple[str, bytes, bytes]]:
    """(account, wrapped key, sealed name) of the names that an account had, latest first."""
    rows = connection.exec_driver_sql(
        """select f.account, k.wrapped, f.sealed from former_names f join subject_keys k using (account)
        where f.account = %s order by f.id desc""",
        (account,),
    )
    return [(account, bytes(wrapped), bytes(sealed)) for account, wrapped, sealed in rows]


def erase_contact(connection: sa.Connection, account: str) -> None:
    """Delete the subject's key, the contact and names that the account had."""
    connection.exec_driver_sql("delete from former_names where account = %s", (account,))
    connection.exec_driver_sql("delete from subject_keys where account = %s", (account,))
    connection.exec_driver_sql("delete from contacts where account = %s", (account,))


def sealed_contacts(connection: sa.Connection, ids: Iterable[str]) -> list[tuple[str, bytes, bytes]]:
    """(account, wrapped key, sealed contact) of those that have one."""
    rows = connection.exec_driver_sql(
        """select c.account, k.wrapped, c.sealed from contacts c join subject_keys k using (account)
        where c.account = any(%s)""",
        (sorted(set(ids)),),
    )
    return [(account, bytes(wrapped), bytes(sealed)) for account, wrapped, sealed in rows]


def on_file(connection: sa.Connection, ids: Iterable[str]) -> dict[str, OnFile]:
    """Whether accounts' contacts are on file and confirmed, by account. It is read here, not from a cached account."""
    rows = connection.exec_driver_sql(
        """select a.id, case when c.account is null then 'missing' when a.email_confirmed_at is null then 'unconfirmed'
            else 'confirmed' end as contact
        from accounts a left join contacts c on c.account = a.id where a.id = any(%s)""",
        (sorted(set(ids)),),
    )
    return {row.id: row.contact for row in rows}


# ------------------------------------------------------------------------------------------- rights and authorisations


def rights(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Right]:
    """Rights by id, as a claim needs them."""
    rows = connection.exec_driver_sql(
        """select id, owner, right_type, status, expires_at, mark, territory,
            coalesce(pending_reason, '') = 'refused', not (right_type = 'copyright' and number is null)
        from rights where id = any(%s)""",
        (sorted(set(ids)),),
    )
    return {row.id: Right(*row) for row in rows}


def grants(connection: sa.Connection, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Authorisation]]:
    """Active authorisations by (agent, principal). A closed account authorises nobody to begin anything."""
    wanted = sorted(set(pairs))
    found: dict[tuple[str, str], list[Authorisation]] = {}
    if wanted:
        rows = connection.exec_driver_sql(
            """select agent, principal, u.rights, u.expires_at, u.territory from authorisations u
            join unnest(%s::text[], %s::text[]) as n(agent, principal) using (agent, principal)
            join accounts p on p.id = principal where u.status = 'active' and p.status <> 'closed'""",
            db.columns(wanted),
        )
        for agent, principal, named, expires_at, territory in rows:
            found.setdefault((agent, principal), []).append(
                Authorisation(None if named is None else frozenset(named), expires_at, territory)
            )
    return found


# ------------------------------------------------------------------------------------------------------------- reading


def become(connection: sa.Connection, reader: Account) -> None:
    """Until the transaction ends, make the database show only what the reader is party to (row-level security).

    A second filter besides ``visible_to``, for a query that forgets it.
    """
    if not reader.sees_all:
        connection.exec_driver_sql(
            "select set_config('goodfaith.account', %s, true), set_config('role', %s, true)", (reader.id, PARTY)
        )


def visible_to(me: Account, item: str = "i", claim: str = "c") -> tuple[str, tuple[Any, ...]]:
    """The tenant filter: which items and claims an account is party to. Every query for a party must use it."""
    if me.sees_all:
        return "true", ()
    return f"({claim}.complainant = %s or {claim}.principal = %s or {item}.seller = %s)", (me.id, me.id, me.id)
