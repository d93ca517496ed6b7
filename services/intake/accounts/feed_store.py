"""Takes in the marketplace's feed of sellers' contacts (table ``fed_sellers``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa
import structlog

from services.intake.accounts import erasure_store, feed
from services.intake.accounts import store as accounts_store
from services.intake.accounts.feed import FedContact, Known, Step
from services.intake.kernel import store
from services.intake.kernel.security import Contacts
from shared import clock, db
from shared.events import SellerContact
from shared.refusals import Refused

log = structlog.get_logger(__name__)

BY: Final = "marketplace"
"""Who opened, confirmed or erased an account, in its history."""
ERASURES: Final = 100
"""Most erasures that one turn tries."""
AGAIN: Final = "1 hour"
"""Wall time until an erasure that something stood against is tried again."""

_OPEN: Final = """
    insert into accounts (id, role, kind, registered, opened_at, opened_by)
    select n.seller, 'seller', 'company', true, %s, %s from unnest(%s::text[], %s::bigint[]) as n(seller, revision)
    where not exists (select from fed_sellers f where f.seller = n.seller and f.revision >= n.revision)
    order by n.seller on conflict do nothing returning id"""
_LOCK: Final = "select from accounts where id = any(%s) order by id for no key update"
_KNOWN: Final = """
    select n.seller, a.role, a.status = 'closed' as closed, f.revision, not c.fed as own, c.sealed, k.wrapped,
        a.email_confirmed_at is not null as confirmed
    from unnest(%s::text[]) as n(seller) left join accounts a on a.id = n.seller
        left join fed_sellers f on f.seller = n.seller left join contacts c on c.account = n.seller
        left join subject_keys k on k.account = n.seller"""
_NOTE: Final = """
    insert into fed_sellers (seller, revision, gone_at)
    select seller, revision, case when gone then %s::timestamptz end
    from unnest(%s::text[], %s::bigint[], %s::bool[]) as n(seller, revision, gone)
    on conflict (seller) do update set revision = excluded.revision, tried_wall = null,
        gone_at = case when excluded.gone_at is null then null else coalesce(fed_sellers.gone_at, excluded.gone_at) end"""
_CONTACTS: Final = """
    insert into contacts (account, sealed, fed) select account, sealed, true from unnest(%s::text[], %s::bytea[]) as n(account, sealed)
    on conflict (account) do update set sealed = excluded.sealed, fed = true, changed_wall = now()"""
_DUE: Final = f"""
    update fed_sellers f set tried_wall = clock_timestamp() from (
        select seller from fed_sellers where gone_at is not null
            and (tried_wall is null or tried_wall < clock_timestamp() - interval '{AGAIN}')
            and exists (select from accounts a where a.id = seller and a.role = 'seller' and a.erased_at is null)
        order by tried_wall nulls first, seller limit %s for update skip locked) as n
    where f.seller = n.seller returning f.seller"""


def take(
    connection: sa.Connection, records: Sequence[tuple[SellerContact, FedContact | None]], contacts: Contacts
) -> Counter[str]:
    """Take in records of the feed, each with its contact data; returns how many there were by result.

    Raises:
        Unacceptable: an account is not a seller's.
        KeyMissing: contacts cannot be sealed.
    """
    newest = feed.latest(record for record, _ in records)
    given = {record.seller: data for record, data in records if newest[record.seller] is record}
    now, _ = clock.read(connection)
    sellers = sorted(newest)
    opened = _open(connection, [newest[seller] for seller in sellers if not newest[seller].gone])
    connection.exec_driver_sql(_LOCK, (sellers,))
    known = _known(connection, sellers, contacts)
    steps: dict[str, Step] = {}
    for seller in sellers:
        about = known[seller]._replace(role=None) if seller in opened else known[seller]
        steps[seller] = feed.step(about, newest[seller], given[seller])
    taken = [newest[seller] for seller in sellers if steps[seller].result != "stale"]
    if taken:
        # an account that is opened later under this id is not the one that is gone
        noted = ((one.seller, one.revision, one.gone and known[one.seller].role is not None) for one in taken)
        connection.exec_driver_sql(_NOTE, (now, *db.columns(noted)))
    _save(connection, steps, contacts)
    counts = Counter[str](step.result for step in steps.values())
    if len(records) > len(newest):
        counts["stale"] += len(records) - len(newest)
    return counts


def _open(connection: sa.Connection, records: Sequence[SellerContact]) -> set[str]:
    """Open the accounts that do not exist; returns them."""
    if not records:
        return set()
    now, _ = clock.read(connection)
    columns = db.columns((one.seller, one.revision) for one in records)
    return set(connection.exec_driver_sql(_OPEN, (now, BY, *columns)).scalars())


def _known(connection: sa.Connection, sellers: Sequence[str], contacts: Contacts) -> dict[str, Known]:
    found = {}
    for row in connection.exec_driver_sql(_KNOWN, (list(sellers),)):
        email = None
        if row.sealed is not None and row.wrapped is not None:
            email = contacts.open(row.seller, bytes(row.wrapped), bytes(row.sealed)).email
        found[row.seller] = Known(row.role, bool(row.closed), row.revision, row.own, email, bool(row.confirmed))
    return found


def _save(connection: sa.Connection, steps: Mapping[str, Step], contacts: Contacts) -> None:
    written = {seller: step.contact for seller, step in steps.items() if step.contact is not None}
    if written:
        keys = store.subject_keys(connection, written, contacts.new_key)
        rows = [(seller, contacts.seal(seller, keys[seller], contact)) for seller, contact in written.items()]
        connection.exec_driver_sql(_CONTACTS, db.columns(rows))
    if withdrawn := [seller for seller, step in steps.items() if step.withdraw]:
        connection.exec_driver_sql("delete from contacts where account = any(%s)", (withdrawn,))
    now, _ = clock.read(connection)
    for seller, step in steps.items():
        if step.confirmed is False:
            accounts_store.unconfirm(connection, seller)
        elif step.confirmed:
            connection.exec_driver_sql("update accounts set email_confirmed_at = %s where id = %s", (now, seller))
            connection.exec_driver_sql("delete from email_codes where account = %s", (seller,))
            accounts_store.note(connection, seller, "email_confirmed", BY, now)


def erase_gone(engine: sa.Engine, partitions: int) -> int:
    """Erase sellers that the marketplace has erased, as the policy allows; returns how many.

    What stands against it now is tried again later.
    """
    with engine.begin() as connection:
        due = list(connection.exec_driver_sql(_DUE, (ERASURES,)).scalars())
    erased = 0
    for seller in due:
        try:
            with engine.begin() as connection:
                erased += erasure_store.erase(connection, seller, by=BY, partitions=partitions).done
        except Refused as refused:
            log.info("not erased yet", account=seller, reason=refused.reason)
    return erased
