"""Accepts or refuses claims and commands, and writes them: a whole group in one transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import compress
from operator import not_
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import Document
from services.intake.filing import brakes as filing_brakes
from services.intake.filing import domain as filing_domain
from services.intake.filing import quotas as limits
from services.intake.kernel import domain, requests
from services.intake.kernel.commands import RENEWING, ItemRef
from services.intake.kernel.filings import Filed, Filing, Rows, TextKind, TextRow
from services.intake.kernel.outbox import QueuedCommand, insert_commands
from services.intake.kernel.refusals import account_closed
from services.intake.kernel.security import Contacts
from services.intake.kernel.store import accounts, grants, on_file, rights, subject_keys, wall_ms
from services.intake.review import domain as review
from services.intake.review import store as review_store
from shared import db, events, policy
from shared.events import State
from shared.refusals import Refused
from shared.topics import partition_of

_DECODE: Final = msgspec.json.Decoder(events.ItemSubmitted)


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
    contacts: Contacts | None = None,
) -> list[Filed | Refused]:
    """Accept or refuse requests, in order, and write what was accepted: all in the caller's transaction.

    Call ``enter_admission`` first (for upstreams, their progress takes its index).

    Args:
        held_max: items of an account that may wait for the end of a suspension.
        contacts: seals what parties say; None: none of the requests says anything.
    """
    results: list[Filed | Refused | None] = [None] * len(filings)
    # locks the counters first, so that a request which another process is committing is known, and not counted again
    brakes = filing_brakes.load(connection, [filing for filing in filings if filing.kind == "submit_claim"], now)
    _replay(connection, filings, range(len(filings)), results)
    todo = [index for index, result in enumerate(results) if result is None]
    claims = [index for index in todo if filings[index].kind == "submit_claim"]
    others = [index for index in todo if filings[index].kind != "submit_claim"]
    ms = wall_ms(wall)
    saying = {filings[index].account.id for index in todo if requests.worded(filings[index].body)}
    keys = subject_keys(connection, saying, contacts.new_key) if saying and contacts is not None else {}
    wanted = {id for index in todo for id in getattr(filings[index].body, "evidence", ())}
    documents = evidence_store.lock(connection, wanted) if wanted else {}
    made: list[tuple[int, Rows]] = []
    first: set[tuple[str, str]] = set()

    def decide(indexes: Sequence[int], how: Callable[[Filing, Collection[str]], Rows]) -> None:
        for index in indexes:
            key = filings[index].key
            if key is not None and (filings[index].scope, key) in first:
                continue  # a copy uses up nothing: it is answered like those that lost a race
            try:
                named = _with_documents(filings[index], documents)
                rows = how(filings[index], evidence.kinds_of(named))
                rows.documents = named
                if saying and (said := filing_domain.words_of(filings[index], rows)):
                    rows.texts = _sealed(filings[index].account.id, rows.answer["claim"], said, keys, contacts)
                made.append((index, rows))
                if key is not None:
                    first.add((filings[index].scope, key))
            except Refused as refused:
                results[index] = refused

    limited: limits.FilingLimits | None = None
    if claims:
        asked = [filings[index] for index in claims]
        limited = limits.load(connection, [filing.account for filing in asked if filing.recurs is None], now, held_max)
        decide(claims, _claim_maker(connection, asked, now, ms, limited, brakes))
    if others:
        decide(others, _command_maker(connection, [filings[index] for index in others], now, ms))
    made.sort(key=lambda pair: pair[0])
    entered = _enter(connection, filings, made)
    fresh = [(index, rows) for index, rows in made if index in entered]
    for index, rows in fresh:
        results[index] = Filed(entered[index], rows=rows)
    # lost a race for the key, to another process or to a request of this group
    lost = [index for index in todo if results[index] is None]
    if lost:
        _replay(connection, filings, lost, results)
    _insert(connection, [(filings[index], rows) for index, rows in fresh], partitions)
    if limited is not None:
        counted: dict[str, int] = {}
        for index, rows in fresh:
            account = filings[index].account
            if rows.claim is not None and filings[index].recurs is None and account.under("quota", limited.day):
                counted[account.id] = counted.get(account.id, 0) + len(rows.items)
        limits.write(connection, limited.day, counted)
    if brakes is not None:
        filing_brakes.write(
            connection,
            brakes,
            now,
            [
                filing_brakes.Counted(filings[index].account.id, len(rows.items), rows.brake)
                for index, rows in fresh
                if rows.claim is not None and filing_brakes.terms_of(filings[index]) is not None
            ],
        )
    # a request sent twice may be refused only because its first copy was accepted, and decided or used up the quota
    refused = [
        index
        for index in (*claims, *others)
        if isinstance(result := results[index], Refused) and (filings[index].kind == "decide" or result.status == 429)
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


def _sealed(
    account: str,
    claim: str,
    said: Sequence[tuple[str, str, TextKind]],
    keys: Mapping[str, bytes],
    contacts: Contacts | None,
) -> list[TextRow]:
    """What a party says, sealed under its key.

    Raises:
        Refused: the account was erased: nothing of it is kept, even if a process still trusts its token.
    """
    assert contacts is not None
    wrapped = keys.get(account)
    if wrapped is None:
        raise account_closed()
    return [
        TextRow(id, claim, account, kind, contacts.seal_words(account, wrapped, id, text)) for id, text, kind in said
    ]


def _with_documents(filing: Filing, known: Mapping[str, Document]) -> Sequence[Document]:
    """The documents that a request names. The first one is the proof of an action or result that names no other.

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
    return named


def _replay(
    connection: sa.Connection, filings: Sequence[Filing], indexes: Iterable[int], results: list[Filed | Refused | None]
) -> None:
    """Answer requests whose key is known: with the earlier answer, or 409 if the request differs."""
    keyed = [index for index in indexes if filings[index].key is not None]
    if not keyed:
        return
    rows = connection.exec_driver_sql(
        """select account, idempotency_key, digest, answer from submissions
        join unnest(%s::text[], %s::text[]) as n(account, idempotency_key) using (account, idempotency_key)""",
        ([filings[index].scope for index in keyed], [filings[index].key for index in keyed]),
    )
    known = {(account, key): (bytes(digest), answer) for account, key, digest, answer in rows}
    for index in keyed:
        found = known.get((filings[index].scope, filings[index].key))
        if found is None:
            continue
        digest, answer = found
        if digest == filings[index].digest:
            results[index] = Filed(answer.encode(), replayed=True)
        else:
            results[index] = Refused(
                409,
                "key_reused",
                "The idempotency key was used for another request.",
                field="Idempotency-Key",
                cure="Use a new key for a new request.",
            )


def _claim_maker(
    connection: sa.Connection,
    filings: Sequence[Filing],
    now: dt.datetime,
    ms: int,
    limited: limits.FilingLimits | None,
    brakes: filing_brakes.Brakes | None,
) -> Callable[[Filing, Collection[str]], Rows]:
    bodies = [filing.body for filing in filings]
    known = rights(connection, [body.right for body in bodies if isinstance(body, requests.SubmitClaim)])
    pairs = [
        (filing.account.id, filing.body.principal)
        for filing in filings
        if isinstance(filing.body, requests.SubmitClaim) and filing.body.principal not in (None, filing.account.id)
    ]
    granted = grants(connection, pairs)
    principals = accounts(connection, [principal for _, principal in pairs]) if pairs else {}
    contacts = on_file(connection, {filing.account.id for filing in filings}.union(*pairs))

    def make(filing: Filing, kinds: Collection[str]) -> Rows:
        body = filing.body
        assert isinstance(body, requests.SubmitClaim)
        assert filing.rules is not None
        if (principal := principals.get(body.principal or "")) is not None and principal.status != "closed":
            domain.check_lends(principal, now.date(), "principal")
        route: limits.Route = "usual"
        reason = None if brakes is None else brakes.ask(filing)
        if limited is not None and filing.recurs is None:
            route = limited.route(filing.account, len(filing.listings), filing.channel)
        rows = filing_domain.claim_rows(
            body,
            filing.listings,
            rules=filing.rules,
            complainant=filing.account,
            right=known.get(body.right),
            granted=granted.get((filing.account.id, body.principal or filing.account.id), ()),
            over_quota=filing.over_quota or route != "usual",
            channel=filing.channel,
            recurs=filing.recurs,
            behalf=filing.recurs is None and filing.via is not None,
            brake=reason,
            sellers=filing.sellers,
            contacts=contacts,
            now=filing.accepted_at or now,
            wall_ms=ms,
            # what proved the older item proves its near copy
            kinds=kinds if filing.recurs is None else {*kinds, *body.materials},
        )
        if brakes is not None:
            brakes.took(filing, reason)
        if limited is not None:
            limited.took(filing.account, len(rows.items), route)
            if route == "held":
                rows.held = True
                rows.answer["held_until"] = filing.account.misuse_until
        return rows

    return make


def _command_maker(
    connection: sa.Connection, filings: Sequence[Filing], now: dt.datetime, ms: int
) -> Callable[[Filing, Collection[str]], Rows]:
    items = [filing.item for filing in filings if filing.item is not None]
    claims = [filing.claim for filing in filings if filing.item is None]
    refs: dict[str, list[ItemRef]] = {}
    if items:
        for row in connection.exec_driver_sql(_ITEM_REFS, (items,)):
            ref = ItemRef(*row)
            refs[ref.item] = [ref]
    if claims:
        for row in connection.exec_driver_sql(_CLAIM_ITEM_REFS, (claims,)):
            ref = ItemRef(*row)
            refs.setdefault(ref.claim, []).append(ref)
    informing = [
        ref for filing in filings if filing.kind in RENEWING for ref in refs.get(filing.item or filing.claim or "", ())
    ]
    standing = _standing(connection, informing, now) if informing else _unasked
    deciding = [filing for filing in filings if filing.kind == "decide"]
    context = review.DecisionContext()
    if deciding:
        about = [ref.item for filing in deciding for ref in refs.get(filing.item or filing.claim or "", ())]
        context = review_store.lock_cases(connection, about, [filing.account.id for filing in deciding])

    # held items are still in the state in which they were filed, so only those are looked up
    fresh = [ref.item for found in refs.values() for ref in found if ref.state == State.RECEIVED]
    held: frozenset[str] = frozenset()
    if fresh:
        rows = connection.exec_driver_sql("select item from held_items where item = any(%s)", (fresh,))
        held = frozenset(rows.scalars())

    def make(filing: Filing, kinds: Collection[str]) -> Rows:
        rows = decide(filing, kinds)
        if held and any(command.item in held for command in rows.commands):
            raise Refused(
                409,
                "held",
                "The claim waits for the end of a suspension and is not being processed yet.",
                cure="Try again when its processing has begun; GET /v1/misuse says when.",
            )
        return rows

    def decide(filing: Filing, kinds: Collection[str]) -> Rows:
        if isinstance(filing.body, requests.Decide):
            return review.decide_rows(
                filing.body,
                filing.account,
                [
                    ref
                    for ref in refs.get(filing.item or filing.claim or "", ())
                    if filing.listing in (None, ref.listing)
                ],
                context,
                whole=filing.item is None,
                now=filing.accepted_at or now,
                wall_ms=ms,
            )
        return filing_domain.command_rows(
            filing.kind,
            filing.body,
            filing.account,
            [ref for ref in refs.get(filing.item or filing.claim or "", ()) if filing.listing in (None, ref.listing)],
            standing=standing,
            now=filing.accepted_at or now,
            wall_ms=ms,
            kinds=kinds,
        )

    return make


def _unasked(_item: ItemRef) -> dict[str, Any]:
    raise AssertionError("only what renews the proof on file asks for it")


def _standing(
    connection: sa.Connection, refs: Sequence[ItemRef], now: dt.datetime
) -> Callable[[ItemRef], dict[str, Any]]:
    """Returns a function for the identity, authority, right and materials of an item's claim as they are now."""
    people = accounts(connection, [ref.complainant for ref in refs])
    known = rights(connection, [ref.right for ref in refs])
    granted = grants(connection, [(ref.complainant, ref.principal) for ref in refs])
    terms = {
        claim: _DECODE.decode(text).materials
        for claim, text in connection.exec_driver_sql(
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
            "materials": filing_domain.materials_of(
                right, {*terms[ref.claim], *earlier.get((ref.claim, ref.complainant), ())}
            ),
        }

    return standing


def _enter(connection: sa.Connection, filings: Sequence[Filing], made: Sequence[tuple[int, Rows]]) -> dict[int, bytes]:
    """Store what was made under its key. Returns the answers of the requests that were first, by position."""
    if not made:
        return {}
    first: dict[tuple[str, str], tuple[int, Rows, bytes]] = {}
    for index, rows in made:
        filing = filings[index]
        key = (filing.scope, filing.key or rows.resource)
        if key not in first:
            first[key] = (index, rows, msgspec.json.encode(rows.answer))
    # in key order, so that two processes with the same keys wait instead of deadlocking
    ordered = sorted(first.items())
    entered = connection.exec_driver_sql(
        """insert into submissions (account, idempotency_key, digest, resource, answer, accepted_at)
        select * from unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::timestamptz[])
        on conflict do nothing returning account, idempotency_key""",
        (
            [account for (account, _), _ in ordered],
            [key for (_, key), _ in ordered],
            [filings[index].digest for _, (index, _, _) in ordered],
            [rows.resource for _, (_, rows, _) in ordered],
            [answer.decode() for _, (_, _, answer) in ordered],
            [rows.answer["accepted_at"] for _, (_, rows, _) in ordered],
        ),
    )
    return {first[key][0]: first[key][2] for key in (tuple(row) for row in entered)}


# COPY does not work on tables with row-level security
_INSERT_CLAIMS: Final = """
    insert into claims (id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel, accepted_at, terms,
        told_partition, via)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],
        %s::text[], %s::timestamptz[], %s::text[], %s::int[], %s::text[])"""


_INSERT_ITEMS: Final = """
    insert into items (id, claim, listing, on_site, link, changed_at)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::timestamptz[])"""


_INSERT_TEXTS: Final = """
    insert into texts (id, claim, account, kind, sealed)
    select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[])"""


def _insert(connection: sa.Connection, accepted: Sequence[tuple[Filing, Rows]], partitions: int) -> None:
    claims = [rows.claim for _, rows in accepted if rows.claim is not None]
    if claims:
        filed = [
            filing_domain.claim_filed(rows.claim, canary=filing.account.canary)
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
        item_partitions = [partition_of(listing, partitions) for listing in listings]
        submitted: dict[str, list[Any]] = {
            "lane": lanes,
            "complainant": complainants,
            "partition": item_partitions,
            "item": ids,
            **common,
            "accepted_at": times,
        }
        if any(filing.trace for filing, _ in accepted):
            submitted["traceparent"] = [filing.trace for filing, rows in accepted for _ in rows.items]
        if any(rows.held for _, rows in accepted):
            waits = [rows.held for _, rows in accepted for _ in rows.items]
            db.copy(connection, "held_items", {n: list(compress(column, waits)) for n, column in submitted.items()})
            submitted = {n: list(compress(column, map(not_, waits))) for n, column in submitted.items()}
        # one statement for both, because every round trip counts here
        count, filings = len(submitted["item"]), _filings(filed, told)
        both = {name: [*column, *filings[name]] for name, column in submitted.items() if name in filings}
        if "traceparent" in submitted:
            both["traceparent"] = [*submitted["traceparent"], *([None] * len(filed))]
        both |= {name: [*([None] * count), *filings[name]] for name in ("type", "payload")}
        db.copy(connection, "admission_queue", {"kind": [*(["submit"] * count), *filings["kind"]], **both})
    texts = [text for _, rows in accepted for text in rows.texts]
    if texts:
        connection.exec_driver_sql(_INSERT_TEXTS, db.columns(texts))
    commands = [
        QueuedCommand(
            rows.command_kind,
            "standard",
            "",
            command,
            filing.trace,
            filing.via,
            rows.texts[0].id if rows.texts else None,
        )
        for filing, rows in accepted
        for command in rows.commands
    ]
    if commands:
        insert_commands(connection, commands, partitions)
    decisions = [decided for _, rows in accepted for decided in rows.decisions]
    if decisions:
        review_store.keep(connection, decisions)


def _filings(filed: Sequence[events.ClaimFiled], partitions: Sequence[int]) -> dict[str, list[Any]]:
    """Rows of the admission queue that publish claims, by column."""
    none = [""] * len(filed)
    accounts = [one.account for one in filed]
    return {
        "kind": ["filing"] * len(filed),
        "lane": ["standard"] * len(filed),
        "complainant": none,
        "partition": list(partitions),
        "claim": [one.claim for one in filed],
        "item": none,
        "listing": accounts,
        "on_site": [True] * len(filed),
        "type": ["goodfaith.claim.filed.v1"] * len(filed),
        "payload": [msgspec.json.encode(one).decode() for one in filed],
        "accepted_at": [one.at for one in filed],
    }


def claims_of_keys(connection: sa.Connection, account: str, keys: Iterable[str]) -> dict[str, str]:
    """Claims that the account filed under these idempotency keys, by key."""
    rows = connection.exec_driver_sql(
        """select idempotency_key, resource from submissions
        where account = %s and idempotency_key = any(%s) and resource like 'c-%%'""",
        (account, sorted(set(keys))),
    )
    return {row.idempotency_key: row.resource for row in rows}


def add_usage(connection: sa.Connection, counts: Mapping[str, int], now: dt.datetime) -> None:
    """Add to the items that accounts have filed in this hour."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    connection.exec_driver_sql(
        """insert into usage (account, hour, items) select n.account, %s, n.items from unnest(%s::text[], %s::bigint[]) as n(account, items)
        order by n.account on conflict (account, hour) do update set items = usage.items + excluded.items""",
        (hour, list(counts), list(counts.values())),
    )


def usage(connection: sa.Connection, ids: Sequence[str], now: dt.datetime) -> dict[str, int]:
    """Items filed in the last 24 hours by account, to the hour."""
    rows = connection.exec_driver_sql(
        "select account, sum(items)::bigint as items from usage where account = any(%s) and hour > %s group by account",
        (list(ids), now - dt.timedelta(hours=24)),
    )
    return {row.account: row.items for row in rows}
