"""Domains of accounts, and the queue of look-ups. A domain that was removed stays for its history until an erasure."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

import sqlalchemy as sa

from services.intake.accounts import domains
from services.intake.accounts import store as accounts_store
from services.intake.accounts.domains import Answer, Standing
from services.intake.kernel import store
from services.intake.kernel.ids import new_id
from services.intake.kernel.refusals import account_closed, not_found
from shared import clock
from shared.refusals import Refused

MOST: Final = 10
"""Domains that an account may have at a time."""
EVER: Final = 50
"""The same with those that it removed."""
_STANDING: Final = (
    "state, reason, asked_wall as asked_at, due_wall as due_at, tries, since_wall as since, seen_wall as seen_at"
)
_TAKE: Final = """
    update account_domains d set due_wall = now() + %s * interval '1 s', tries = d.tries + 1 from (
        select n.id from account_domains n join accounts a on a.id = n.account and a.status <> 'closed'
        where n.due_wall <= now() order by n.due_wall limit %s for update of n skip locked) n
    where d.id = n.id returning d.id, d.domain, d.token, d.tries"""


class LookUp(NamedTuple):
    """A domain to look up. ``tries`` tells this look-up from those before and after it."""

    id: str
    domain: str
    token: str
    tries: int


def _standing(row: store.Row) -> Standing:
    return Standing(**{name: row[name] for name in Standing.__dataclass_fields__})


def _rows(connection: sa.Connection, where: str, *values: object) -> list[store.Row]:
    rows = connection.exec_driver_sql(
        f"select id, account, domain, token, named_wall, {_STANDING} from account_domains where {where}", values
    )
    return [dict(row) for row in rows.mappings()]


def of_account(connection: sa.Connection, account: str, *, removed: bool) -> list[store.Row]:
    """An account's domains as they stand now, in the order in which it named them."""
    _, wall = clock.read(connection)
    rows = _rows(connection, "account = %s order by id", account)
    now = [(row, domains.shown(_standing(row), wall)) for row in rows]
    return [
        {**row, "state": one.state, "reason": one.reason, "since": one.since}
        for row, one in now
        if removed or one.state != "removed"
    ]


def confirmed_at(connection: sa.Connection, account: str) -> dt.datetime | None:
    """When the address on file was confirmed."""
    found: dt.datetime | None = connection.exec_driver_sql(
        "select email_confirmed_at from accounts where id = %s", (account,)
    ).scalar()
    return found


def name(connection: sa.Connection, account: str, domain: str) -> None:
    """Add a domain. Naming one again changes nothing; one that was removed begins again, with a new token.

    Raises:
        Refused: 401, the account was erased; 422, it has too many.
    """
    _, wall = clock.read(connection)
    open_ = connection.exec_driver_sql(
        "select erased_at is null from accounts where id = %s for no key update", (account,)
    ).scalar()
    if not open_:
        raise account_closed()
    rows = _rows(connection, "account = %s", account)
    known = next((row for row in rows if row["domain"] == domain), None)
    if known is not None and known["state"] != "removed":
        return
    if sum(row["state"] != "removed" for row in rows) >= MOST or (known is None and len(rows) >= EVER):
        raise Refused(
            422,
            "too_many_domains",
            f"An account names at most {MOST} domains at a time, and {EVER} in all.",
            field="domain",
            cure="Remove one that says nothing of who you are: DELETE /v1/domains/{domain_id}.",
        )
    connection.exec_driver_sql(
        """insert into account_domains (id, account, domain, token, named_wall) values (%s, %s, %s, %s, %s)
        on conflict (account, domain) do update set state = 'pending', token = excluded.token, reason = null,
            named_wall = excluded.named_wall, tries = 0""",
        (new_id("dn", store.wall_ms(wall)), account, domain, domains.new_token(), wall),
    )


def _one(connection: sa.Connection, account: str, id: str) -> store.Row:
    rows = _rows(connection, "id = %s and account = %s and state <> 'removed' for update", id, account)
    if not rows:
        raise not_found()
    return rows[0]


def ask(connection: sa.Connection, account: str, id: str) -> None:
    """Have a domain looked up soon.

    Raises:
        Refused: 404; 422, it was asked for just before.
    """
    _, wall = clock.read(connection)
    _put(connection, id, domains.asked(_standing(_one(connection, account, id)), wall))


def remove(connection: sa.Connection, account: str, id: str) -> None:
    """Remove a domain: it is looked up no more, and says nothing more of the account.

    Raises:
        Refused: 404.
    """
    row = _one(connection, account, id)
    # when it was asked for stays: naming it again is no way around the pause
    _put(connection, id, Standing("removed", asked_at=row["asked_at"]))
    if row["state"] == "verified":
        now, _ = clock.read(connection)
        accounts_store.note(connection, account, "domain_removed", account, now, id)


def _put(connection: sa.Connection, id: str, to: Standing) -> None:
    connection.exec_driver_sql(
        """update account_domains set state = %s, reason = %s, asked_wall = %s, due_wall = %s, tries = %s,
            since_wall = %s, seen_wall = %s where id = %s""",
        (to.state, to.reason, to.asked_at, to.due_at, to.tries, to.since, to.seen_at, id),
    )


def take(connection: sa.Connection, limit: int, lease_s: float) -> list[LookUp]:
    """Take domains that are due; each becomes due again after ``lease_s``."""
    return [LookUp(*row) for row in connection.exec_driver_sql(_TAKE, (lease_s, limit))]


def record(connection: sa.Connection, done: LookUp, answer: Answer) -> bool:
    """Record what a look-up found. False: it counts for nothing, for the account or another look-up came between."""
    now, wall = clock.read(connection)
    rows = _rows(
        connection,
        "id = %s and token = %s and tries = %s and due_wall is not null for update",
        done.id,
        done.token,
        done.tries,
    )
    if not rows:
        return False
    before = _standing(rows[0])
    after = domains.looked_up(domains.shown(before, wall), answer, wall)
    _put(connection, done.id, after)
    if before.since != after.since:
        kind = "domain_verified" if after.state == "verified" else "domain_lapsed"
        # the domain is in its own row, which an erasure deletes; histories stay
        accounts_store.note(connection, rows[0]["account"], kind, "a-system", now, done.id)
    return True


def forget(connection: sa.Connection, account: str) -> None:
    """Delete the domains of an account whose key is destroyed."""
    connection.exec_driver_sql("delete from account_domains where account = %s", (account,))
