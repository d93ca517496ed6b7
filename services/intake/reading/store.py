"""What parties and staff read: claims, items, timelines, commands, messages.

``visible_to`` decides what a party may see.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from services.intake.kernel.domain import Account
from services.intake.kernel.ids import item_range
from services.intake.kernel.outbox import publish_accounts
from services.intake.kernel.refusals import not_found
from services.intake.kernel.store import Row, all_rows, enter_admission, one_row, visible_to
from services.intake.kernel.weighed import AUDITED, STATE_SHOWN
from services.intake.reading import domain
from shared import events
from shared.paging import bad_cursor

_OF_CLAIM = "i.id between r.low and r.high"


def _state(me: Account) -> str:
    """SQL: the state of an item ``i`` as the account is shown it. A reviewer may be asked to audit it."""
    return STATE_SHOWN if me.role == "reviewer" else "i.state"


def _range(claim: str) -> str:
    """SQL of ``r``, a claim's range of item ids. Under row-level security an index serves plain comparisons only."""
    base = f"'i-' || substr({claim}.id, 3, 23)"
    return f"(select {base} || '000' as low, {base} || 'ZZZ' as high offset 0) as r"


_CLAIM = """c.id, c.complainant, c.principal, c.right_id as right, c.right_type, c.reason, c.profile, c.lane, c.size,
    c.accepted_at, c.via"""


def list_claims(
    connection: sa.Connection, me: Account, *, state: str | None, before: str | None, limit: int
) -> list[Row]:
    """Claims that the account is party to, latest first, with the items that it may see counted by state."""
    mine, values = visible_to(me)
    if me.sees_all:
        source: str = "select id from claims where true"
        source_values: tuple[Any, ...] = ()
    else:
        source = """select id from (select id from claims where complainant = %s union select id from claims where principal = %s
            and principal <> complainant union select claim as id from items where seller = %s) as own where true"""
        source_values = values
    if before is not None:
        source += " and id < %s"
        source_values += (before,)
    has_state, state_values = "", tuple[Any, ...]()
    if state is not None:
        has_state = f"""cross join lateral {_range("own")} cross join lateral (
            select from items i join claims c on c.id = i.claim where {_OF_CLAIM} and {_state(me)} = %s and {mine} limit 1) as found"""
        state_values = (state, *values)
    # select the page first, so that only its claims are counted, however many there are
    rows = connection.exec_driver_sql(
        f"""with page as materialized (select own.id from ({source}) as own {has_state} order by own.id desc limit %s)
        select {_CLAIM}, s.states from page join claims c using (id) cross join lateral {_range("c")}
        cross join lateral (select json_object_agg(state, n)::text as states from (
            select {_state(me)} as state, count(*) as n from items i where {_OF_CLAIM} and {mine} group by 1) as counts) as s
        where s.states is not null order by c.id desc""",
        (*source_values, *state_values, limit, *values),
    )
    return all_rows(rows)


def get_claim(connection: sa.Connection, me: Account, id: str) -> Row:
    """One claim.

    Raises:
        Refused: 404.
    """
    mine, values = visible_to(me)
    row = one_row(
        connection.exec_driver_sql(
            f"""select {_CLAIM}, s.states from claims c cross join lateral {_range("c")}
            cross join lateral (select json_object_agg(state, n)::text as states from (
                select {_state(me)} as state, count(*) as n from items i where {_OF_CLAIM} and {mine} group by 1) as counts) as s
            where c.id = %s and s.states is not null""",
            (*values, id),
        )
    )
    if row is None:
        raise not_found()
    return row


_ITEM = """i.id, i.claim, i.listing, i.on_site, i.link, i.state, i.revision, i.changed_at, i.last, i.seller, i.triage,
    c.complainant, c.principal, c.right_id as right, c.right_type, c.reason, c.lane, c.accepted_at"""


def _page_range(claim: str, after: str | None) -> tuple[str, str]:
    """The id range of a page's items, which never reaches into other claims, whatever the cursor says.

    Raises:
        Refused: 400, the cursor is another claim's.
    """
    low, high = item_range(claim)
    if after is not None and not low <= after <= high:
        raise bad_cursor()
    return after or low, high


def list_items(
    connection: sa.Connection, me: Account, claim: str, *, state: str | None, after: str | None, limit: int
) -> list[Row]:
    """Items of a claim, in their order.

    Raises:
        Refused: 404, or 400: the cursor is another claim's.
    """
    get_claim(connection, me, claim)
    mine, values = visible_to(me)
    low, high = _page_range(claim, after)
    rows = connection.exec_driver_sql(
        f"""select {_ITEM} from items i join claims c on c.id = i.claim
        where i.id > %s and i.id <= %s and {mine} and (%s::text is null or {_state(me)} = %s) order by i.id limit %s""",
        (low, high, *values, state, state, limit),
    )
    return all_rows(rows)


def get_item(connection: sa.Connection, me: Account, id: str) -> Row:
    """One item.

    Raises:
        Refused: 404.
    """
    mine, values = visible_to(me)
    row = one_row(
        connection.exec_driver_sql(
            f"select {_ITEM} from items i join claims c on c.id = i.claim where i.id = %s and {mine}", (id, *values)
        )
    )
    if row is None:
        raise not_found()
    return row


def timeline(
    connection: sa.Connection, me: Account, claim: str, *, after: tuple[str, int] | None, limit: int
) -> list[Row]:
    """What happened to a claim's items, item by item in order of revision; to reviewers not of items that are audited.

    Raises:
        Refused: 404, or 400: the cursor is another claim's.
    """
    get_claim(connection, me, claim)
    mine, values = visible_to(me)
    item, revision = after or (None, 0)
    low, high = _page_range(claim, item)
    # a reviewer may be asked to audit it
    shown = f"not {AUDITED}" if me.role == "reviewer" else "true"
    rows = connection.exec_driver_sql(
        f"""select t.item, i.listing, t.revision, t.type, t.state, t.by, t.code, t.at
        from timeline t join items i on i.id = t.item join claims c on c.id = i.claim
        where (t.item, t.revision) > (%s, %s) and t.item <= %s and {mine} and {shown} order by t.item, t.revision limit %s""",
        (low, revision, high, *values, limit),
    )
    return all_rows(rows)


def texts(
    connection: sa.Connection, me: Account, claim: str, *, after: str | None, limit: int
) -> tuple[list[Row], str | None]:
    """What the parties said in their own words about a claim, sealed, as far as the account is shown it.

    Returns the rows and, if there may be more, the id to go on after. A page may have fewer than ``limit``.

    Raises:
        Refused: 404.
    """
    found = get_claim(connection, me, claim)
    rows = all_rows(
        connection.exec_driver_sql(
            """select id, account, kind, sealed from texts where claim = %s and (%s::text is null or id > %s)
            order by id limit %s""",
            (claim, after, after, limit + 1),
        )
    )
    page = rows[:limit]
    if not page:
        return [], None
    mine, values = visible_to(me)
    low, high = item_range(claim)
    items = {
        row.id: domain.Place(row.seller, row.told)
        for row in connection.exec_driver_sql(
            f"select i.id, i.seller, i.told from items i join claims c on c.id = i.claim where i.id > %s and i.id <= %s and {mine}",
            (low, high, *values),
        )
    }
    # a reviewer may be asked to audit it, and an answer to a takedown tells of one
    shown_to = f"not {AUDITED}" if me.role == "reviewer" else "true"
    said: dict[str, list[domain.Said]] = {}
    times: dict[str, dt.datetime] = {}
    for text, item, role, at, since in connection.exec_driver_sql(
        f"""select k.text, k.item, k.role, k.accepted_at, s.since from commands k join items i on i.id = k.item
        join claims c on c.id = k.claim cross join lateral (
            select coalesce(array_agg(t.state order by t.revision), '{{}}') as since from timeline t
            where t.item = k.item and t.revision >= k.revision) as s
        where k.item > %s and k.item <= %s and k.text = any(%s) and {mine} and {shown_to}""",
        (low, high, [row["id"] for row in page], *values),
    ):
        said.setdefault(text, []).append(domain.Said(item, role, since))
        times[text] = at
    holders = frozenset((found["complainant"], found["principal"]))
    shown = []
    for row in page:
        id, commands = row["id"], said.get(row["id"], ())
        about = domain.about(me, holders, items, kind=row["kind"], id=id, author=row["account"], commands=commands)
        if about is not None:
            part = commands[0].role if commands else "holder"
            at = times.get(id, found["accepted_at"])
            shown.append({**row, "part": part, "at": at, "items": about})
    return shown, page[-1]["id"] if len(rows) > limit else None


def get_command(connection: sa.Connection, me: Account, id: str) -> Row:
    """One command. A party sees its own, and those about what it is party to.

    Raises:
        Refused: 404.
    """
    mine, values = visible_to(me)
    row = one_row(
        connection.exec_driver_sql(
            f"""select k.id, k.claim, k.item, k.kind, k.role, k.accepted_at, k.status, k.code, k.detail, k.via
            from commands k join items i on i.id = k.item join claims c on c.id = k.claim where k.id = %s and {mine}""",
            (id, *values),
        )
    )
    if row is None:
        raise not_found()
    return row


_MESSAGE = """m.id, m.party, m.claim, m.about, m.kind, m.items, m.channel, m.template, m.version, m.digest, m.sent_at, m.read_at,
    c.complainant, c.principal, t.told, t.sellers
    from messages m left join claims c on c.id = m.claim
    cross join lateral (
        select coalesce(max(i.told) filter (where i.seller = m.party), 0) as told,
            array_agg(distinct i.seller) filter (where i.told >= 2 and i.seller is not null) as sellers
        from items i where i.id = any(m.items)) as t"""


UNREAD_MOST: Final = 1000


def list_messages(
    connection: sa.Connection, me: Account, *, before: tuple[dt.datetime, str] | None, unread: bool = False, limit: int
) -> list[Row]:
    """The account's inbox, latest first, with what is needed to release the counterpart's contact data.

    ``told`` is how far the furthest of the message's items of this seller has come. ``sellers`` are those whose own
    items have reached the holder's response: a message to a holder may be about items of several sellers.
    """
    where = "" if before is None else "and (m.sent_at, m.id) < (%s, %s)"
    if unread:
        where += " and m.read_at is null"
    rows = connection.exec_driver_sql(
        f"select {_MESSAGE} where m.party = %s {where} order by m.sent_at desc, m.id desc limit %s",
        (me.id, *(before or ()), limit),
    )
    return all_rows(rows)


def unread(connection: sa.Connection, me: Account) -> int:
    """Number of the account's unread messages, counted up to ``UNREAD_MOST``."""
    found: int = connection.exec_driver_sql(
        "select count(*) from (select from messages where party = %s and read_at is null limit %s) as t",
        (me.id, UNREAD_MOST),
    ).scalar_one()
    return found


def get_message(connection: sa.Connection, me: Account, id: str) -> Row:
    """One of the account's own messages, with the columns of ``list_messages``.

    Raises:
        Refused: 404.
    """
    row = one_row(connection.exec_driver_sql(f"select {_MESSAGE} where m.party = %s and m.id = %s", (me.id, id)))
    if row is None:
        raise not_found()
    return row


def read_message(connection: sa.Connection, me: Account, id: str, partitions: int) -> dt.datetime:
    """Record that the account has read one of its messages. Returns when it first did. The event is queued once.

    Raises:
        Refused: 404, also for staff if the message was not sent to them.
    """
    now, _ = enter_admission(connection)
    row = connection.exec_driver_sql(
        "select read_at from messages where id = %s and party = %s for update", (id, me.id)
    ).one_or_none()
    if row is None:
        raise not_found()
    if row.read_at is not None:
        return row.read_at  # type: ignore[no-any-return]
    connection.exec_driver_sql("update messages set read_at = %s where id = %s", (now, id))
    read = events.MessageRead(message=id, account=me.id, read_at=now)
    publish_accounts(connection, [read], partitions)
    return now


def claim_facts(connection: sa.Connection, ids: Iterable[str]) -> list[Row]:
    """What messages say about claims (internal call): right, reason, parties. No personal data."""
    rows = connection.exec_driver_sql(
        """select c.id as claim, c.complainant, c.principal, c.right_id as right, c.right_type, r.number as right_number,
            c.reason, c.profile, c.size, c.accepted_at
        from claims c left join rights r on r.id = c.right_id where c.id = any(%s) order by c.id""",
        (sorted(set(ids)),),
    )
    return all_rows(rows)
