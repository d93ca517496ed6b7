"""Intake's tables. What a party may see is decided in one place: ``_mine``.

The door's rule (architecture.md, "Time of right"): whoever writes commands takes ``DOOR_LOCK`` shared, then reads the clock, and
commits. Who holds it exclusively and reads the clock therefore knows: everything accepted before is visible (``barrier``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.intake.accounts.domain import state_of
from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import Document
from services.intake.filing import quotas as limits
from services.intake.kernel import domain, requests
from services.intake.kernel.domain import Account, Authorisation, ItemRef, ListingRef, Refused, Right, Rows
from services.intake.review import domain as review
from services.intake.review import store as review_store
from shared import clock, db, events, policy
from shared.events import State
from shared.migrate import PARTY
from shared.paging import bad_cursor
from shared.topics import partition_of

DOOR_LOCK: Final = 0x600DD002
_TICK: Final = dt.timedelta(microseconds=1)
_TYPES: Final = {kind: name for name, kind in events.TYPES.items() if issubclass(kind, events.Command)}
_DECODE: Final = msgspec.json.Decoder(events.ItemSubmitted)


Row = dict[str, Any]


def _all(result: sa.CursorResult[Any]) -> list[Row]:
    return [dict(row) for row in result.mappings()]


def _one(result: sa.CursorResult[Any]) -> Row | None:
    row = result.mappings().one_or_none()
    return None if row is None else dict(row)


_NOW: Final = """
    select wall, business, rate, clock_timestamp(), (select upto from door_time) from platform.clock order by id desc limit 1"""


def enter_door(connection: sa.Connection) -> tuple[dt.datetime, dt.datetime]:
    """Take the door's lock shared, then read (business, wall): the time of right of all that this transaction writes.

    It is later than the last watermark even where the clock has gone back. The transaction takes its id, too, before it
    reads anything of rights (``right_jobs``).
    """
    connection.exec_driver_sql("select pg_current_xact_id(), pg_advisory_xact_lock_shared(%s)", (DOOR_LOCK,))
    return right_now(connection)


def right_now(connection: sa.Connection) -> tuple[dt.datetime, dt.datetime]:
    """(business, wall), the former later than the last watermark."""
    *anchor, wall, upto = connection.exec_driver_sql(_NOW).one()
    now = clock.Anchor(*anchor).at(wall)
    return (now if upto is None else max(now, upto + _TICK)), wall


def close_door(connection: sa.Connection) -> None:
    """Take the door's lock exclusively: all that was accepted before is committed."""
    connection.exec_driver_sql("select pg_advisory_xact_lock(%s)", (DOOR_LOCK,))


def parked_since(connection: sa.Connection, partitions: Collection[int]) -> dict[int, dt.datetime]:
    """By partition when the first of the door's rows was accepted that are parked; no watermark may pass it."""
    return dict(
        map(
            tuple,
            connection.exec_driver_sql(
                """select partition, min((convert_from(value, 'UTF8')::jsonb -> 'data' ->> 'accepted_at')::timestamptz) as since
                from parked where state <> 'done' and topic = '@queue' and partition = any(%s)
                group by partition having min(convert_from(value, 'UTF8')::jsonb -> 'data' ->> 'accepted_at') is not null""",
                (list(partitions),),
            ),
        )
    )


def wall_ms(wall: dt.datetime) -> int:
    """Milliseconds since 1970, for ids."""
    return int(wall.timestamp() * 1000)


# ------------------------------------------------------------------------------------------------------------ accounts

_ACCOUNT = """a.id, a.role, a.identity_verified, a.good_faith, a.registered, a.status, a.record, a.misuse, a.misuse_items,
    a.misuse_until, a.canary"""
_RECORD: Final = msgspec.json.Decoder(events.Record)


def _account(row: Sequence[Any]) -> Account:
    record = None if row[6] is None else _RECORD.decode(row[6])
    return Account(row[0], row[1], row[2], row[3], row[4], row[5], record, row[7], row[8], row[9], row[10])


def account_of_token(connection: sa.Connection, digest: bytes) -> tuple[Account, dt.datetime] | None:
    """The account that a token's digest belongs to, and when the token expires; None when unknown or expired."""
    row = connection.exec_driver_sql(
        f"""select {_ACCOUNT}, t.expires_wall from tokens t join accounts a on a.id = t.account
        where t.digest = %s and t.expires_wall > now() and t.revoked_wall is null""",
        (digest,),
    ).one_or_none()
    return None if row is None else (_account(row), row[11])


def accounts(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Account]:
    """Accounts by id."""
    rows = connection.exec_driver_sql(f"select {_ACCOUNT} from accounts a where a.id = any(%s)", (sorted(set(ids)),))
    return {row[0]: _account(row) for row in rows}


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
    """Write down what became of accounts' items: what their next claims are weighed by (triage)."""
    ids = sorted(records)
    connection.exec_driver_sql(
        """update accounts a set record = n.record from unnest(%s::text[], %s::text[]) as n(id, record)
        where a.id = n.id and a.record is distinct from n.record""",
        (ids, [msgspec.json.encode(records[id]).decode() for id in ids]),
    )


def open_account(connection: sa.Connection, account: Account, kind: str, *, by: str | None) -> bool:
    """Create an account; False when the id is taken."""
    now, _ = clock.read(connection)
    return bool(
        connection.exec_driver_sql(
            """insert into accounts (id, role, kind, identity_verified, good_faith, registered, opened_at, opened_by, canary)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing""",
            (
                account.id, account.role, kind, account.identity_verified, account.good_faith, account.registered, now, by,
                account.canary,
            ),
        ).rowcount
    )  # fmt: skip


ACCOUNT_ROW: Final = """
    select a.id, a.role, a.kind, a.identity_verified, a.good_faith, a.registered, a.opened_at, a.status, a.canary,
        a.email_confirmed_at is not null as email_confirmed,
        exists (select from contacts c where c.account = a.id) as has_contact
    from accounts a"""


def with_state(row: Row) -> Row:
    """The account with the state that its facts make."""
    return {**row, "state": state_of(row["status"], row["identity_verified"], row["email_confirmed"])}


def account_row(connection: sa.Connection, account: str) -> Row | None:
    """The account as it describes itself, with its state."""
    row = _one(connection.exec_driver_sql(f"{ACCOUNT_ROW} where a.id = %s", (account,)))
    return None if row is None else with_state(row)


# what names a token, for its owner's list: nobody finds the token by it
_ID_OF_TOKEN: Final = "'t-' || encode(substr(t.digest, 1, 10), 'hex')"  # noqa: S105 - SQL, no secret
_IN_FORCE: Final = "t.revoked_wall is null and t.expires_wall > now()"
TOKENS_MOST: Final = 50
"""Tokens of an account that are in force at a time."""


def add_token(
    connection: sa.Connection, account: str, digest: bytes, days: int, name: str = ""
) -> tuple[str, dt.datetime]:
    """Keep a token's digest; returns its id, and when it expires (wall time).

    Raises:
        Refused: 401, the account was erased; 409, it has too many.
    """
    erased = connection.exec_driver_sql(
        "select erased_at is not null from accounts where id = %s for no key update", (account,)
    ).scalar()
    if erased is not False:
        raise _closed()
    if len(tokens(connection, account)) >= TOKENS_MOST:
        raise Refused(
            409, "too_many_tokens", f"The account has {TOKENS_MOST} tokens.", cure="Revoke one: DELETE /v1/tokens/{id}."
        )
    row = connection.exec_driver_sql(
        f"""insert into tokens as t (digest, account, name, expires_wall) values (%s, %s, %s, now() + %s * interval '1 day')
        returning {_ID_OF_TOKEN}, expires_wall""",
        (digest, account, name, days),
    ).one()
    return row[0], row[1]


def tokens(connection: sa.Connection, account: str) -> list[Row]:
    """The account's tokens that are in force, latest first."""
    rows = connection.exec_driver_sql(
        f"""select {_ID_OF_TOKEN} as id, t.name, t.created_wall as created, t.expires_wall as expires, t.digest
        from tokens t where t.account = %s and {_IN_FORCE} order by t.created_wall desc, id""",
        (account,),
    )
    return _all(rows)


def revoke_tokens(
    connection: sa.Connection, account: str, *, id: str | None = None, keep: bytes | None = None
) -> list[str]:
    """Revoke the account's tokens, or one of them; returns the ids of those that were in force.

    A revoked token's digest stays: a token of the settings does not return at the next start. It also expires, for processes of a
    version that does not know ``revoked_wall``.

    Args:
        keep: digest of one that stays in force.
    """
    rows = connection.exec_driver_sql(
        f"""update tokens t set revoked_wall = now(), expires_wall = least(t.expires_wall, now())
        where t.account = %s and {_IN_FORCE} and (%s::text is null or {_ID_OF_TOKEN} = %s) and (%s::bytea is null or t.digest <> %s)
        returning {_ID_OF_TOKEN}""",
        (account, id, id, keep, keep),
    )
    return [row[0] for row in rows]


def ensure_token(connection: sa.Connection, account: str, digest: bytes, days: int, name: str) -> bool:
    """Keep a token that the settings give; False: this very one is known, revoked and expired ones included, or the account was erased."""
    return bool(
        connection.exec_driver_sql(
            """insert into tokens (digest, account, name, expires_wall) select %s, id, %s, now() + %s * interval '1 day'
            from accounts where id = %s and erased_at is null on conflict do nothing""",
            (digest, name, days, account),
        ).rowcount
    )


def ensure_operator(connection: sa.Connection, token_digest: bytes, days: int) -> None:
    """The first operator, ``a-operator``, with the token that the installation was given."""
    open_account(connection, Account("a-operator", "operator", True, False, True), "company", by=None)
    ensure_token(connection, "a-operator", token_digest, days, "first operator")


# ------------------------------------------------------------------------------------------------------------ contacts


def subject_key(connection: sa.Connection, account: str, make: Callable[[], bytes]) -> bytes:
    """The account's wrapped key, made when there is none; the account is not erased until the transaction ends.

    Raises:
        Refused: 401, it was erased: nothing of it is kept any more, whoever still trusts its token.
    """
    erased = connection.exec_driver_sql(
        "select erased_at is not null from accounts where id = %s for no key update", (account,)
    ).scalar_one()
    if erased:
        raise _closed()
    found = connection.exec_driver_sql("select wrapped from subject_keys where account = %s", (account,)).scalar()
    if found is None:
        found = connection.exec_driver_sql(
            "insert into subject_keys (account, wrapped) values (%s, %s) returning wrapped", (account, make())
        ).scalar_one()
    return bytes(found)


def _closed() -> Refused:
    return Refused(401, "account_closed", "The account is closed.", cure="Write to the operator of the programme.")


def put_contact(connection: sa.Connection, account: str, sealed: bytes) -> None:
    """Keep an encrypted contact."""
    connection.exec_driver_sql(
        """insert into contacts (account, sealed) values (%s, %s)
        on conflict (account) do update set sealed = excluded.sealed, changed_wall = now()""",
        (account, sealed),
    )


def erase_contact(connection: sa.Connection, account: str) -> None:
    """Destroy the subject's key, and the row with it."""
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


# ------------------------------------------------------------------------------------------- rights and authorisations


def rights(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Right]:
    """Rights by id, as a claim needs them."""
    rows = connection.exec_driver_sql(
        """select id, owner, right_type, status, expires_at, proof, mark, territory,
            coalesce(pending_reason, '') = 'refused' from rights where id = any(%s)""",
        (sorted(set(ids)),),
    )
    return {row[0]: Right(*row) for row in rows}


def grants(connection: sa.Connection, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Authorisation]]:
    """Active authorisations by (agent, principal). A closed account authorises nobody to begin anything."""
    wanted = sorted(set(pairs))
    found: dict[tuple[str, str], list[Authorisation]] = {}
    if wanted:
        rows = connection.exec_driver_sql(
            """select agent, principal, u.rights, u.expires_at, u.territory from authorisations u
            join unnest(%s::text[], %s::text[]) as n(agent, principal) using (agent, principal)
            join accounts p on p.id = principal where u.status = 'active' and p.status <> 'closed'""",
            ([pair[0] for pair in wanted], [pair[1] for pair in wanted]),
        )
        for agent, principal, named, expires_at, territory in rows:
            found.setdefault((agent, principal), []).append(
                Authorisation(None if named is None else frozenset(named), expires_at, territory)
            )
    return found


# ------------------------------------------------------------------------------------------------------------ the door


@dataclass(slots=True)
class Filing:
    """One request at the door, its form already checked.

    Attributes:
        key: idempotency key, if the client gave one.
        scope: account that the key belongs to (an upstream's, when it files for another).
        digest: SHA-256 of the body and of what it was sent to.
        item, claim: what a command is about: one of them.
        listing: only the claim's item of this listing.
        over_quota: the account has filed more than its quota in 24 hours.
        accepted_at: time of right where it is not the door's own clock (an upstream's record).
        recurs: upheld item of which the claim's listing is a near copy (row 20).
        trace: context that the request belongs to, when it is traced.
    """

    account: Account
    key: str | None
    scope: str
    digest: bytes
    kind: str
    body: requests.In
    channel: str
    listings: Sequence[ListingRef] = ()
    rules: policy.Policy | None = None
    item: str | None = None
    claim: str | None = None
    listing: str | None = None
    over_quota: bool = False
    accepted_at: dt.datetime | None = None
    recurs: str | None = None
    trace: str | None = None

    @property
    def via(self) -> str | None:
        """The upstream's account that filed it for another."""
        return None if self.scope == self.account.id else self.scope


@dataclass(slots=True)
class Filed:
    """An accepted request: the answer as JSON, and whether it is the answer of an earlier time."""

    answer: bytes
    replayed: bool = False
    rows: Rows | None = None


_ITEM_REFS = """
    select i.id, i.claim, i.listing, c.complainant, c.principal, i.seller, c.right_id, i.state, c.lane
    from items i join claims c on c.id = i.claim where i.id = any(%s)"""
_CLAIM_ITEM_REFS = """
    select i.id, i.claim, i.listing, c.complainant, c.principal, i.seller, c.right_id, i.state, c.lane
    from claims c join items i on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
    where c.id = any(%s) order by i.id"""


def file(
    connection: sa.Connection,
    filings: Sequence[Filing],
    now: dt.datetime,
    wall: dt.datetime,
    partitions: int,
    held_max: int = policy.Misuse().held_max,
) -> list[Filed | Refused]:
    """Accept or refuse requests, in order, and write what was accepted: all in the caller's transaction.

    ``enter_door`` comes first (for upstreams, their progress takes its place).

    Args:
        held_max: items of an account that may wait for the end of a suspension.
    """
    results: list[Filed | Refused | None] = [None] * len(filings)
    _replay(connection, filings, range(len(filings)), results)
    todo = [place for place, result in enumerate(results) if result is None]
    claims = [place for place in todo if filings[place].kind == "submit_claim"]
    others = [place for place in todo if filings[place].kind != "submit_claim"]
    ms = wall_ms(wall)
    wanted = {id for place in todo for id in getattr(filings[place].body, "evidence", ())}
    documents = evidence_store.lock(connection, wanted) if wanted else {}
    made: list[tuple[int, Rows]] = []

    def decide(places: Sequence[int], how: Callable[[Filing], Rows]) -> None:
        for place in places:
            try:
                named = _with_documents(filings[place], documents)
                rows = how(filings[place])
                rows.documents = named
                made.append((place, rows))
            except Refused as refused:
                results[place] = refused

    limited: limits.Limits | None = None
    if claims:
        asked = [filings[place] for place in claims]
        limited = limits.load(connection, [filing.account for filing in asked if filing.recurs is None], now, held_max)
        decide(claims, _claim_maker(connection, asked, now, ms, limited))
    if others:
        decide(others, _command_maker(connection, [filings[place] for place in others], now, ms))
    made.sort(key=lambda pair: pair[0])
    entered = _enter(connection, filings, made)
    fresh = [(place, rows) for place, rows in made if place in entered]
    for place, rows in fresh:
        results[place] = Filed(entered[place], rows=rows)
    # lost a race for the key, to another process or to a request of this very group
    lost = [place for place, _ in made if place not in entered]
    if lost:
        _replay(connection, filings, lost, results)
    _insert(connection, [(filings[place], rows) for place, rows in fresh], partitions)
    if limited is not None:
        counted: dict[str, int] = {}
        for place, rows in fresh:
            account = filings[place].account
            if rows.claim is not None and filings[place].recurs is None and account.under("quota", limited.day):
                counted[account.id] = counted.get(account.id, 0) + len(rows.items)
        limits.write(connection, limited.day, counted)
    # refused, perhaps, only because this very request, sent twice, was accepted: it has decided, or has used up the quota
    refused = [
        place
        for place in (*claims, *others)
        if isinstance(result := results[place], Refused) and (filings[place].kind == "decide" or result.status == 429)
    ]
    if refused:
        _replay(connection, filings, refused, results)
    evidence_store.tie(
        connection, [(document, rows.answer["claim"], "claim") for _, rows in fresh for document in rows.documents], now
    )
    final: list[Filed | Refused] = []
    for result in results:
        assert result is not None
        final.append(result)
    return final


def _with_documents(filing: Filing, known: Mapping[str, Document]) -> Sequence[Document]:
    """The documents that a request names; their kinds are added to its materials, or the first is its proof.

    Raises:
        Refused: one is not the account's.
    """
    body = filing.body
    ids = getattr(body, "evidence", ())
    if not ids:
        return ()
    named = evidence.named(ids, filing.account.id, known)
    if isinstance(body, requests.ReportAction | requests.ReportResult):
        filing.body = msgspec.structs.replace(body, proof=body.proof or named[0].id)
    elif isinstance(body, requests.SubmitClaim | requests.AddInformation | requests.Counter | requests.Complain):
        filing.body = msgspec.structs.replace(body, materials=evidence.materials(body.materials, named))
    return named


def _replay(
    connection: sa.Connection, filings: Sequence[Filing], places: Iterable[int], results: list[Filed | Refused | None]
) -> None:
    """Answer requests whose key is known: as before, or 409."""
    keyed = [place for place in places if filings[place].key is not None]
    if not keyed:
        return
    rows = connection.exec_driver_sql(
        """select account, idempotency_key, digest, answer from submissions
        join unnest(%s::text[], %s::text[]) as n(account, idempotency_key) using (account, idempotency_key)""",
        ([filings[place].scope for place in keyed], [filings[place].key for place in keyed]),
    )
    known = {(account, key): (bytes(digest), answer) for account, key, digest, answer in rows}
    for place in keyed:
        found = known.get((filings[place].scope, filings[place].key))
        if found is None:
            continue
        if found[0] == filings[place].digest:
            results[place] = Filed(found[1].encode(), replayed=True)
        else:
            results[place] = Refused(
                409, "key_reused", "The idempotency key was used for another request.", field="Idempotency-Key",
                cure="Use a fresh key for a fresh request.",
            )  # fmt: skip


def _claim_maker(
    connection: sa.Connection, filings: Sequence[Filing], now: dt.datetime, ms: int, limited: limits.Limits | None
) -> Callable[[Filing], Rows]:
    bodies = [filing.body for filing in filings]
    known = rights(connection, [body.right for body in bodies if isinstance(body, requests.SubmitClaim)])
    pairs = [
        (filing.account.id, filing.body.principal)
        for filing in filings
        if isinstance(filing.body, requests.SubmitClaim) and filing.body.principal not in (None, filing.account.id)
    ]
    granted = grants(connection, pairs)
    principals = accounts(connection, [principal for _, principal in pairs]) if pairs else {}

    def make(filing: Filing) -> Rows:
        body = filing.body
        assert isinstance(body, requests.SubmitClaim)
        assert filing.rules is not None
        if (principal := principals.get(body.principal or "")) is not None and principal.status != "closed":
            domain.check_lends(principal, now.date(), "principal")
        place: limits.Place = "usual"
        if limited is not None and filing.recurs is None:
            place = limited.place(filing.account, len(filing.listings), filing.channel)
        rows = domain.claim_rows(
            body,
            filing.listings,
            rules=filing.rules,
            complainant=filing.account,
            right=known.get(body.right),
            granted=granted.get((filing.account.id, body.principal or filing.account.id), ()),
            over_quota=filing.over_quota or place != "usual",
            channel=filing.channel,
            recurs=filing.recurs,
            now=filing.accepted_at or now,
            wall_ms=ms,
        )
        if limited is not None:
            limited.took(filing.account, len(rows.items), place)
            if place == "held":
                rows.held = True
                rows.answer["held_until"] = filing.account.misuse_until
        return rows

    return make


def _command_maker(
    connection: sa.Connection, filings: Sequence[Filing], now: dt.datetime, ms: int
) -> Callable[[Filing], Rows]:
    items = [filing.item for filing in filings if filing.item is not None]
    claims = [filing.claim for filing in filings if filing.item is None]
    refs: dict[str, list[ItemRef]] = {}
    if items:
        for row in connection.exec_driver_sql(_ITEM_REFS, (items,)):
            refs[row[0]] = [ItemRef(*row)]
    if claims:
        for row in connection.exec_driver_sql(_CLAIM_ITEM_REFS, (claims,)):
            refs.setdefault(row[1], []).append(ItemRef(*row))
    informing = [
        ref
        for filing in filings
        if filing.kind in domain.RENEWING
        for ref in refs.get(filing.item or filing.claim or "", ())
    ]
    standing = _standing(connection, informing, now) if informing else _unasked
    deciding = [filing for filing in filings if filing.kind == "decide"]
    desk = review.Desk()
    if deciding:
        about = [ref.item for filing in deciding for ref in refs.get(filing.item or filing.claim or "", ())]
        desk = review_store.desk(connection, about, [filing.account.id for filing in deciding])

    # what is held is still as it was filed: only then is it looked for
    fresh = [ref.item for found in refs.values() for ref in found if ref.state == State.RECEIVED]
    held: frozenset[str] = frozenset()
    if fresh:
        rows = connection.exec_driver_sql("select item from door_held where item = any(%s)", (fresh,))
        held = frozenset(rows.scalars())

    def make(filing: Filing) -> Rows:
        rows = decide(filing)
        if held and any(command.item in held for command in rows.commands):
            raise Refused(
                409, "held", "The claim waits for the end of a suspension: it is not under way yet.",
                cure="Come again when its processing has begun; GET /v1/misuse says from when on.",
            )  # fmt: skip
        return rows

    def decide(filing: Filing) -> Rows:
        if isinstance(filing.body, requests.Decide):
            return review.decide_rows(
                filing.body,
                filing.account,
                [
                    ref
                    for ref in refs.get(filing.item or filing.claim or "", ())
                    if filing.listing in (None, ref.listing)
                ],
                desk,
                whole=filing.item is None,
                now=filing.accepted_at or now,
                wall_ms=ms,
            )
        return domain.command_rows(
            filing.kind,
            filing.body,
            filing.account,
            [ref for ref in refs.get(filing.item or filing.claim or "", ()) if filing.listing in (None, ref.listing)],
            standing=standing,
            now=filing.accepted_at or now,
            wall_ms=ms,
        )

    return make


def _unasked(_item: ItemRef) -> dict[str, Any]:
    raise AssertionError("only what renews the proof on file asks for it")


def _standing(
    connection: sa.Connection, refs: Sequence[ItemRef], now: dt.datetime
) -> Callable[[ItemRef], dict[str, Any]]:
    """Identity, authority, right and materials of items' claims as they are now."""
    people = accounts(connection, [ref.complainant for ref in refs])
    known = rights(connection, [ref.right for ref in refs])
    granted = grants(connection, [(ref.complainant, ref.principal) for ref in refs])
    terms = {
        row[0]: _DECODE.decode(row[1]).materials
        for row in connection.exec_driver_sql(
            "select id, terms from claims where id = any(%s)", (sorted({ref.claim for ref in refs}),)
        )
    }
    earlier = evidence_store.kinds_named(connection, sorted(terms))

    def standing(ref: ItemRef) -> dict[str, Any]:
        right = known[ref.right]
        return {
            "identity_verified": people[ref.complainant].identity_verified,
            "authority": domain.authority_of(
                ref.complainant, ref.principal, right, granted.get((ref.complainant, ref.principal), ()), now
            ),
            "right_status": right.status_at(now),
            "materials": domain.materials_of(
                right, {*terms[ref.claim], *earlier.get((ref.claim, ref.complainant), ())}
            ),
        }

    return standing


def _enter(connection: sa.Connection, filings: Sequence[Filing], made: Sequence[tuple[int, Rows]]) -> dict[int, bytes]:
    """Enter what was made under its key; by place, the answers of those that were first."""
    if not made:
        return {}
    first: dict[tuple[str, str], tuple[int, Rows, bytes]] = {}
    for place, rows in made:
        filing = filings[place]
        key = (filing.scope, filing.key or rows.resource)
        if key not in first:
            first[key] = (place, rows, msgspec.json.encode(rows.answer))
    # in order of the key, so that two processes that share keys wait and do not deadlock
    ordered = sorted(first.items())
    entered = connection.exec_driver_sql(
        """insert into submissions (account, idempotency_key, digest, resource, answer, accepted_at)
        select * from unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::timestamptz[])
        on conflict do nothing returning account, idempotency_key""",
        (
            [key[0] for key, _ in ordered],
            [key[1] for key, _ in ordered],
            [filings[place].digest for _, (place, _, _) in ordered],
            [rows.resource for _, (_, rows, _) in ordered],
            [answer.decode() for _, (_, _, answer) in ordered],
            [rows.answer["accepted_at"] for _, (_, rows, _) in ordered],
        ),
    )
    return {first[key][0]: first[key][2] for key in (tuple(row) for row in entered)}


# COPY goes into no table with row-level security
_INSERT_CLAIMS: Final = """
    insert into claims (id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel, accepted_at, terms,
        told_partition, via)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],
        %s::text[], %s::timestamptz[], %s::text[], %s::int[], %s::text[])"""
_INSERT_ITEMS: Final = """
    insert into items (id, claim, listing, on_site, link, changed_at)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::timestamptz[])"""


def _insert(connection: sa.Connection, accepted: Sequence[tuple[Filing, Rows]], partitions: int) -> None:
    claims = [rows.claim for _, rows in accepted if rows.claim is not None]
    if claims:
        filed = [
            domain.filed(rows.claim, canary=filing.account.canary)
            for filing, rows in accepted
            if rows.claim is not None
        ]
        told = [partition_of(filing.account, partitions) for filing in filed]
        vias = [filing.via for filing, rows in accepted if rows.claim is not None]
        connection.exec_driver_sql(_INSERT_CLAIMS, (*db.columns(claims), told, vias))
        ids, claim_ids, listings, on_site, links, lanes, complainants, times = map(
            list, zip(*(item for _, rows in accepted for item in rows.items), strict=True)
        )
        common = {"claim": claim_ids, "listing": listings, "on_site": on_site}
        connection.exec_driver_sql(_INSERT_ITEMS, (ids, claim_ids, listings, on_site, links, times))
        places = [partition_of(listing, partitions) for listing in listings]
        submitted: dict[str, list[Any]] = {
            "lane": lanes, "complainant": complainants, "partition": places, "item": ids, **common, "accepted_at": times,
        }  # fmt: skip
        if any(filing.trace for filing, _ in accepted):
            submitted["traceparent"] = [filing.trace for filing, rows in accepted for _ in rows.items]
        if any(rows.held for _, rows in accepted):
            waits = [rows.held for _, rows in accepted for _ in rows.items]
            db.copy(connection, "door_held", {n: list(compress(column, waits)) for n, column in submitted.items()})
            submitted = {n: list(compress(column, map(not_, waits))) for n, column in submitted.items()}
        # one statement for both: here every round trip counts
        count, filings = len(submitted["item"]), _filings(filed, told)
        both = {name: [*column, *filings[name]] for name, column in submitted.items() if name in filings}
        if "traceparent" in submitted:
            both["traceparent"] = [*submitted["traceparent"], *([None] * len(filed))]
        both |= {name: [*([None] * count), *filings[name]] for name in ("type", "payload")}
        db.copy(connection, "door", {"kind": [*(["submit"] * count), *filings["kind"]], **both})
    commands = [(rows.kinds, "standard", "", command) for _, rows in accepted for command in rows.commands]
    if commands:
        traces = [filing.trace for filing, rows in accepted for _ in rows.commands]
        vias = [filing.via for filing, rows in accepted for _ in rows.commands]
        _insert_commands(connection, commands, partitions, traces, vias)
    decisions = [decided for _, rows in accepted for decided in rows.decisions]
    if decisions:
        review_store.keep(connection, decisions)


def _filings(filed: Sequence[events.ClaimFiled], partitions: Sequence[int]) -> dict[str, list[Any]]:
    """Rows of the door that tell of claims, by column."""
    none = [""] * len(filed)
    accounts = [one.account for one in filed]
    return {
        "kind": ["filing"] * len(filed), "lane": ["standard"] * len(filed), "complainant": none,
        "partition": list(partitions), "claim": [one.claim for one in filed], "item": none, "listing": accounts,
        "on_site": [True] * len(filed), "type": ["goodfaith.claim.filed.v1"] * len(filed),
        "payload": [msgspec.json.encode(one).decode() for one in filed], "accepted_at": [one.at for one in filed],
    }  # fmt: skip


_UNTOLD: Final = """
    select id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel, accepted_at, terms
    from claims where told_partition is null and accepted_at >= %s order by id limit %s for update skip locked"""
_TOLD: Final = """
    update claims as c set told_partition = n.partition from unnest(%s::text[], %s::int[]) as n(id, partition)
    where c.id = n.id"""


def tell_untold(connection: sa.Connection, since: dt.datetime, partitions: int, limit: int = 1000) -> int:
    """Tell of claims that a version before accepted, and told nothing of; how many. 0: all are told.

    Args:
        since: business time; older ones stay untold, as no figure has them.
    """
    rows = [tuple(row) for row in connection.exec_driver_sql(_UNTOLD, (since, limit))]
    if rows:
        filed = [domain.filed(row, canary=_DECODE.decode(row[-1]).canary) for row in rows]
        told = [partition_of(one.account, partitions) for one in filed]
        connection.exec_driver_sql(_TOLD, ([one.claim for one in filed], told))
        db.copy(connection, "door", _filings(filed, told))
    return len(rows)


def _insert_commands(
    connection: sa.Connection,
    commands: Sequence[tuple[str, str, str, events.Command]],
    partitions: int,
    traces: Sequence[str | None] | None = None,
    vias: Sequence[str | None] | None = None,
) -> None:
    """Commands with their place in the door: (kind, lane, complainant, command), the contexts of those that are traced, and the
    upstreams that filed them for others."""
    made = [command for _, _, _, command in commands]
    connection.exec_driver_sql(
        """with new as (
            select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
                as n(id, claim, item, kind, by, role, at, lane, complainant, partition, listing, type, payload, traceparent, via)
        ), commands as (
            insert into commands (id, claim, item, kind, by, role, accepted_at, via)
            select id, claim, item, kind, by, role, at, via from new
        )
        insert into door (kind, lane, complainant, partition, claim, item, listing, type, payload, accepted_at, traceparent)
        select 'command', lane, complainant, partition, claim, item, listing, type, payload, at, traceparent from new""",
        (
            [command.command for command in made],
            [command.claim for command in made],
            [command.item for command in made],
            [kind for kind, _, _, _ in commands],
            [command.by for command in made],
            [command.role for command in made],
            [command.accepted_at for command in made],
            [lane for _, lane, _, _ in commands],
            [complainant for _, _, complainant, _ in commands],
            [partition_of(command.listing, partitions) for command in made],
            [command.listing for command in made],
            [_TYPES[type(command)] for command in made],
            [msgspec.json.encode(command).decode() for command in made],
            list(traces or [None] * len(made)),
            list(vias or [None] * len(made)),
        ),
    )


def put_commands(
    connection: sa.Connection, commands: Sequence[tuple[str, str, str, events.Command]], partitions: int
) -> None:
    """Commands of the system's own into the door: (kind, lane, complainant, command), in bounded statements."""
    for start in range(0, len(commands), 5000):
        _insert_commands(connection, commands[start : start + 5000], partitions)


def tell_accounts(connection: sa.Connection, notices: Sequence[events.AccountNotice], partitions: int) -> None:
    """Put notices to accounts into the door: the worker publishes each on ``intake.accounts``, once and in order."""
    publish_accounts(connection, notices, "goodfaith.account.notice.v1", partitions)


def publish_accounts(
    connection: sa.Connection,
    notices: Sequence[
        events.AccountNotice | events.AccountChannels | events.AccountErased | events.MessageRead | events.LiftSanction
    ],
    type_: str,
    partitions: int,
) -> None:
    """Put events about accounts, all of one type, into the door for ``intake.accounts``."""
    if not notices:
        return
    none = [""] * len(notices)
    db.copy(
        connection,
        "door",
        {
            "kind": ["command"] * len(notices), "lane": ["standard"] * len(notices), "complainant": none, "claim": none,
            "item": none, "listing": [notice.account for notice in notices],
            "partition": [partition_of(notice.account, partitions) for notice in notices],
            "type": [type_] * len(notices),
            "payload": [msgspec.json.encode(notice).decode() for notice in notices],
            "accepted_at": [
                notice.read_at if isinstance(notice, events.MessageRead) else notice.at for notice in notices
            ],
        },
    )  # fmt: skip


def claims_of_keys(connection: sa.Connection, account: str, keys: Iterable[str]) -> dict[str, str]:
    """Claims that were filed under idempotency keys of the account."""
    rows = connection.exec_driver_sql(
        """select idempotency_key, resource from submissions
        where account = %s and idempotency_key = any(%s) and resource like 'c-%%'""",
        (account, sorted(set(keys))),
    )
    return {row[0]: row[1] for row in rows}


def digest(kind: str, target: str, body: bytes) -> bytes:
    """What a reused idempotency key is compared by: the request's kind, its target and its body."""
    return hashlib.sha256(f"{kind}\n{target}\n".encode() + body).digest()


# --------------------------------------------------------------------------------------------------------------- quota


def add_usage(connection: sa.Connection, counts: Mapping[str, int], now: dt.datetime) -> None:
    """Add to what accounts have filed in this hour."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    connection.exec_driver_sql(
        """insert into usage (account, hour, items) select n.account, %s, n.items from unnest(%s::text[], %s::bigint[]) as n(account, items)
        order by n.account on conflict (account, hour) do update set items = usage.items + excluded.items""",
        (hour, list(counts), list(counts.values())),
    )


def usage(connection: sa.Connection, ids: Sequence[str], now: dt.datetime) -> dict[str, int]:
    """Items filed in the last 24 hours, to the hour."""
    rows = connection.exec_driver_sql(
        "select account, sum(items)::bigint from usage where account = any(%s) and hour > %s group by account",
        (list(ids), now - dt.timedelta(hours=24)),
    )
    return {row[0]: row[1] for row in rows}


# ------------------------------------------------------------------------------------------------------------- reading


def become(connection: sa.Connection, reader: Account) -> None:
    """Until the transaction ends, have the database show what the reader is party to and nothing else (row-level security).

    A second filter behind ``_mine``, for a query that forgets it.
    """
    if not reader.sees_all:
        connection.exec_driver_sql(
            "select set_config('goodfaith.account', %s, true), set_config('role', %s, true)", (reader.id, PARTY)
        )


def _mine(me: Account, item: str = "i", claim: str = "c") -> tuple[str, tuple[Any, ...]]:
    """THE tenant filter: what of items and their claims an account is party to. Every query of a party goes through it."""
    if me.sees_all:
        return "true", ()
    return f"({claim}.complainant = %s or {claim}.principal = %s or {item}.seller = %s)", (me.id, me.id, me.id)


_OF_CLAIM = "i.id between r.low and r.high"


def _range(claim: str) -> str:
    """``r``: between which ids a claim's items are. Under row-level security an index serves plain comparisons only."""
    base = f"'i-' || substr({claim}.id, 3, 23)"
    return f"(select {base} || '000' as low, {base} || 'ZZZ' as high offset 0) as r"


_CLAIM = """c.id, c.complainant, c.principal, c.right_id as right, c.right_type, c.reason, c.profile, c.lane, c.size,
    c.accepted_at, c.via"""


def list_claims(
    connection: sa.Connection, me: Account, *, state: str | None, before: str | None, limit: int
) -> list[Row]:
    """Claims that the account is party to, latest first, with counts by state of the items that it may see."""
    mine, values = _mine(me)
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
            select from items i join claims c on c.id = i.claim where {_OF_CLAIM} and i.state = %s and {mine} limit 1) as found"""
        state_values = (state, *values)
    # the page first, so that only its claims are looked at, however many there are
    rows = connection.exec_driver_sql(
        f"""with page as materialized (select own.id from ({source}) as own {has_state} order by own.id desc limit %s)
        select {_CLAIM}, s.states from page join claims c using (id) cross join lateral {_range("c")}
        cross join lateral (select json_object_agg(state, n)::text as states from (
            select i.state, count(*) as n from items i where {_OF_CLAIM} and {mine} group by i.state) as counts) as s
        where s.states is not null order by c.id desc""",
        (*source_values, *state_values, limit, *values),
    )
    return _all(rows)


def get_claim(connection: sa.Connection, me: Account, id: str) -> Row:
    """One claim.

    Raises:
        Refused: 404.
    """
    mine, values = _mine(me)
    row = _one(
        connection.exec_driver_sql(
            f"""select {_CLAIM}, s.states from claims c cross join lateral {_range("c")}
            cross join lateral (select json_object_agg(state, n)::text as states from (
                select i.state, count(*) as n from items i where {_OF_CLAIM} and {mine} group by i.state) as counts) as s
            where c.id = %s and s.states is not null""",
            (*values, id),
        )
    )
    if row is None:
        raise domain.not_found()
    return row


_ITEM = """i.id, i.claim, i.listing, i.on_site, i.link, i.state, i.revision, i.changed_at, i.last, i.seller, i.triage,
    c.complainant, c.principal, c.right_id as right, c.right_type, c.reason, c.lane, c.accepted_at"""


def _page_range(claim: str, after: str | None) -> tuple[str, str]:
    """The ids between which the items of a page lie: never those of other claims, whatever the cursor says.

    Raises:
        Refused: 400.
    """
    low, high = domain.item_range(claim)
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
    mine, values = _mine(me)
    low, high = _page_range(claim, after)
    rows = connection.exec_driver_sql(
        f"""select {_ITEM} from items i join claims c on c.id = i.claim
        where i.id > %s and i.id <= %s and {mine} and (%s::text is null or i.state = %s) order by i.id limit %s""",
        (low, high, *values, state, state, limit),
    )
    return _all(rows)


def get_item(connection: sa.Connection, me: Account, id: str) -> Row:
    """One item.

    Raises:
        Refused: 404.
    """
    mine, values = _mine(me)
    row = _one(
        connection.exec_driver_sql(
            f"select {_ITEM} from items i join claims c on c.id = i.claim where i.id = %s and {mine}", (id, *values)
        )
    )
    if row is None:
        raise domain.not_found()
    return row


def timeline(
    connection: sa.Connection, me: Account, claim: str, *, after: tuple[str, int] | None, limit: int
) -> list[Row]:
    """What happened to a claim's items, item by item in order of revision.

    Raises:
        Refused: 404, or 400: the cursor is another claim's.
    """
    get_claim(connection, me, claim)
    mine, values = _mine(me)
    item, revision = after or (None, 0)
    low, high = _page_range(claim, item)
    rows = connection.exec_driver_sql(
        f"""select t.item, i.listing, t.revision, t.type, t.state, t.by, t.code, t.at
        from timeline t join items i on i.id = t.item join claims c on c.id = i.claim
        where (t.item, t.revision) > (%s, %s) and t.item <= %s and {mine} order by t.item, t.revision limit %s""",
        (low, revision, high, *values, limit),
    )
    return _all(rows)


def get_command(connection: sa.Connection, me: Account, id: str) -> Row:
    """One command: a party sees its own and those about what it is party to.

    Raises:
        Refused: 404.
    """
    mine, values = _mine(me)
    row = _one(
        connection.exec_driver_sql(
            f"""select k.id, k.claim, k.item, k.kind, k.role, k.accepted_at, k.status, k.code, k.detail, k.via
            from commands k join items i on i.id = k.item join claims c on c.id = k.claim where k.id = %s and {mine}""",
            (id, *values),
        )
    )
    if row is None:
        raise domain.not_found()
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

    ``told`` is the furthest that any of the message's items of this very seller has come; ``sellers`` are those whose own
    items have come to the holder's answer: a message to a holder may be about items of several sellers.
    """
    where = "" if before is None else "and (m.sent_at, m.id) < (%s, %s)"
    if unread:
        where += " and m.read_at is null"
    rows = connection.exec_driver_sql(
        f"select {_MESSAGE} where m.party = %s {where} order by m.sent_at desc, m.id desc limit %s",
        (me.id, *(before or ()), limit),
    )
    return _all(rows)


def unread(connection: sa.Connection, me: Account) -> int:
    """Messages of the account that it has not read; counted up to ``UNREAD_MOST``."""
    found: int = connection.exec_driver_sql(
        "select count(*) from (select from messages where party = %s and read_at is null limit %s) as t",
        (me.id, UNREAD_MOST),
    ).scalar_one()
    return found


def get_message(connection: sa.Connection, me: Account, id: str) -> Row:
    """One message of the account's own, as ``list_messages`` has it.

    Raises:
        Refused: 404.
    """
    row = _one(connection.exec_driver_sql(f"select {_MESSAGE} where m.party = %s and m.id = %s", (me.id, id)))
    if row is None:
        raise domain.not_found()
    return row


def read_message(connection: sa.Connection, me: Account, id: str, partitions: int) -> dt.datetime:
    """The account has read a message of its own; returns when, the first time. The event goes by the door, once.

    Raises:
        Refused: 404; also to staff, for whom it was not.
    """
    now, _ = enter_door(connection)
    row = connection.exec_driver_sql(
        "select read_at, sent_at from messages where id = %s and party = %s for update", (id, me.id)
    ).one_or_none()
    if row is None:
        raise domain.not_found()
    if row[0] is not None:
        return row[0]  # type: ignore[no-any-return]
    connection.exec_driver_sql("update messages set read_at = %s where id = %s", (now, id))
    read = events.MessageRead(message=id, account=me.id, read_at=now)
    publish_accounts(connection, [read], "goodfaith.message.read.v1", partitions)
    return now


def claim_facts(connection: sa.Connection, ids: Iterable[str]) -> list[Row]:
    """What a message says of claims (internal call): right, reason, parties. No personal data."""
    rows = connection.exec_driver_sql(
        """select c.id as claim, c.complainant, c.principal, c.right_id as right, c.right_type, r.number as right_number,
            c.reason, c.profile, c.size, c.accepted_at
        from claims c left join rights r on r.id = c.right_id where c.id = any(%s) order by c.id""",
        (sorted(set(ids)),),
    )
    return _all(rows)
