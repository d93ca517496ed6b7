"""Tables of evidence, and the order in which the database and the object store change:

1. ``arrive``: a row says that bytes are about to be stored under a path of their own; commit.
2. The bytes are stored.
3. ``settle``: the row says that they are there; commit. If an account uploads the same content twice, the first wins.
4. ``retire`` and ``leave`` mark a row's bytes for deletion and destroy their key. The bytes are deleted; then ``gone``
   records that. Each step may be repeated.

A process that dies in between leaves a row that the clean-up finds; the object store is never listed. Requests that
name a document lock it, and so does the clean-up, so no document is named that is about to be deleted.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.intake.evidence import domain as evidence
from services.intake.evidence.blobs import Blobs
from services.intake.evidence.domain import Document, Ties
from services.intake.evidence.tables import evidence as _evidence
from services.intake.evidence.tables import evidence_reads
from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import not_found
from shared import clock
from shared.events import SETTLED
from shared.refusals import Refused

Row = dict[str, Any]

UPLOAD_MAX: Final = dt.timedelta(hours=1)
"""Wall time after which an upload that has not settled counts as dead."""
LOOK_AGAIN: Final = dt.timedelta(days=1)
BATCH: Final = 200
"""Documents handled at a time."""
CLOSED: Final = tuple(sorted(SETTLED))
"""States in which nothing is under way: documents named there are deleted after a time. Elsewhere they stay."""
_ROW: Final = "d.id, d.account as owner, d.kinds, d.digest, d.size, d.media, d.name, d.uploaded_at, d.sealed, d.key"
_ITEMS: Final = "i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'"


def _rows(result: sa.CursorResult[Any]) -> list[Row]:
    return [
        {**row, "digest": bytes(row["digest"]), "key": None if row["key"] is None else bytes(row["key"])}
        for row in result.mappings()
    ]


def path_of(document: Row) -> str:
    """Path of a document's bytes."""
    return evidence.object_path(document["id"], None if document["sealed"] else document["digest"])


# ------------------------------------------------------------------------------------------------------------- uploads


def _known(connection: sa.Connection, account: str, digest: bytes, kind: str) -> Row | None:
    """The account's document with that content, if any; from now on it stands for ``kind`` as well."""
    rows = _rows(
        connection.exec_driver_sql(
            f"""update evidence d set kinds = case when %s = any(kinds) then kinds else kinds || %s::text end
            where account = %s and digest = %s and state = 'kept' returning {_ROW}""",
            (kind, kind, account, digest),
        )
    )
    if rows and len(rows[0]["kinds"]) > evidence.KINDS_MAX:
        raise Refused(
            422,
            "too_many_kinds",
            f"A document stands for {evidence.KINDS_MAX} kinds at most.",
            field="kind",
            cure="Use the kinds that it has.",
        )
    return rows[0] if rows else None


def arrive(
    connection: sa.Connection, document: Row, kind: str, now: dt.datetime, *, most_bytes: int, unused: dt.timedelta
) -> Row | None:
    """Record that a document's bytes are about to be stored; or, if the account has that content already, return it.

    Args:
        document: ``id``, ``owner``, ``digest``, ``size``, ``media``, ``name``, and ``key`` (wrapped) that seals it.
        unused: wall time for which it may stay without being named in anything.

    Raises:
        Refused: 422, the account has too much on file.
    """
    known = _known(connection, document["owner"], document["digest"], kind)
    if known is not None:
        return known
    on_file = connection.exec_driver_sql(
        "select coalesce(sum(size), 0)::bigint from evidence where account = %s and state in ('arriving', 'kept')",
        (document["owner"],),
    ).scalar_one()
    if on_file + document["size"] > most_bytes:
        raise Refused(
            422,
            "too_much_on_file",
            f"An account may have {most_bytes} bytes of evidence on file; yours has {on_file}.",
            field="body",
            cure="Delete documents that you do not need.",
        )
    connection.execute(
        sa.insert(_evidence).values(
            **{name: document[name] for name in ("id", "digest", "size", "media", "name", "key")},
            account=document["owner"],
            kinds=[kind],
            uploaded_at=now,
            sealed=True,
            looked_wall=sa.func.now() + unused,
        )
    )
    return None


def settle(connection: sa.Connection, document: Row, kind: str) -> tuple[Row, bool]:
    """Record that a document's bytes are stored. Returns the document, and whether it is new.

    Raises:
        Refused: 503, the upload took so long that it was given up.
    """
    connection.exec_driver_sql(
        "select pg_advisory_xact_lock(hashtextextended(%s, 7))", (f"{document['owner']}\n{document['digest'].hex()}",)
    )
    known = _known(connection, document["owner"], document["digest"], kind)
    if known is not None:
        leave(connection, document["id"])
        return known, False
    rows = _rows(
        connection.exec_driver_sql(
            f"update evidence d set state = 'kept', changed_wall = now() where id = %s and state = 'arriving' returning {_ROW}",
            (document["id"],),
        )
    )
    if not rows:
        raise Refused(503, "unavailable", "The upload took too long.", cure="Send the file again.")
    return rows[0], True


def leave(connection: sa.Connection, document: str) -> None:
    """Mark the bytes of an upload that came to nothing for deletion."""
    _mark(connection, _evidence.c.id == document, _evidence.c.state == "arriving")


def _mark(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> int:
    """Mark documents' bytes for deletion, and destroy their keys. Returns how many."""
    marked = sa.update(_evidence).where(*which).values(state="going", key=None, changed_wall=sa.func.now())
    return connection.execute(marked).rowcount


# --------------------------------------------------------------------------------------------------------------- naming


def lock(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Document]:
    """Lock the documents that are kept, until the transaction ends. Returns them by id."""
    rows = connection.exec_driver_sql(
        """select id, account, kinds, forged is not null as forged from evidence where id = any(%s) and state = 'kept'
        order by id for share""",
        (sorted(set(ids)),),
    )
    return {row.id: Document(row.id, row.account, tuple(row.kinds), row.forged) for row in rows}


def tie(connection: sa.Connection, links: Sequence[tuple[Document, str, str]], now: dt.datetime) -> None:
    """Record what documents, which the caller has locked, were named in: (document, about, kind of ``about``)."""
    if not links:
        return
    unique = sorted({(document.id, about): (document, about, kind) for document, about, kind in links}.items())
    for _, (document, about, kind) in unique:
        connection.exec_driver_sql(
            """insert into evidence_links (document, about, about_kind, owner, kinds, linked_at) values (%s, %s, %s, %s, %s, %s)
            on conflict (document, about) do update set kinds = excluded.kinds""",
            (document.id, about, kind, document.account, list(document.kinds), now),
        )


def name_in(
    connection: sa.Connection, ids: Sequence[str], account: str, about: str, kind: str, now: dt.datetime
) -> list[Document]:
    """Name an account's documents in a right, an account or an authorisation.

    Raises:
        Refused: 422, naming the first that is not the account's.
    """
    if not ids:
        return []
    documents = evidence.named(ids, account, lock(connection, ids))
    tie(connection, [(document, about, kind) for document in documents], now)
    return documents


def lock_named(connection: sa.Connection, about: str) -> dict[str, Document]:
    """Lock the documents named in a right, account or authorisation that are still kept and were not found to be forged, by id."""
    rows = connection.exec_driver_sql(
        """select d.id, d.account, d.kinds from evidence d join evidence_links l on l.document = d.id
        where l.about = %s and d.state = 'kept' and d.forged is null order by d.id for share of d""",
        (about,),
    )
    return {row.id: Document(row.id, row.account, tuple(row.kinds)) for row in rows}


def kinds_named(connection: sa.Connection, claims: Sequence[str]) -> dict[tuple[str, str], set[str]]:
    """Kinds of proof of the documents named so far, by (claim, owner), except those found to be forged."""
    found: dict[tuple[str, str], set[str]] = {}
    for about, owner, kinds in connection.exec_driver_sql(
        """select l.about, l.owner, l.kinds from evidence_links l join evidence d on d.id = l.document and d.forged is null
        where l.about = any(%s) and l.about_kind = 'claim'""",
        (list(claims),),
    ):
        found.setdefault((about, owner), set()).update(kinds)
    return found


def documents_named(connection: sa.Connection, claims: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Documents named in claims, by (claim, owner), that are still kept and were not found to be forged."""
    found: dict[tuple[str, str], list[str]] = {}
    for about, owner, document in connection.exec_driver_sql(
        """select l.about, l.owner, l.document from evidence_links l join evidence d on d.id = l.document and d.state = 'kept'
            and d.forged is null
        where l.about = any(%s) and l.about_kind = 'claim'""",
        (list(claims),),
    ):
        found.setdefault((about, owner), []).append(document)
    return found


def kinds_of_right(connection: sa.Connection, right: str) -> set[str]:
    """Kinds of the documents that are named in the right, still kept, and were not found to be forged."""
    return evidence.kinds_of(lock_named(connection, right).values())


def views_of(connection: sa.Connection, right: str) -> int:
    """Number of documents that are named in the right as its views."""
    found: int = connection.exec_driver_sql(
        "select count(*) from evidence_links where about = %s and %s = any(kinds)", (right, evidence.VIEW)
    ).scalar_one()
    return found


# -------------------------------------------------------------------------------------------------------------- reading


def ties(connection: sa.Connection, reader: str, documents: Sequence[str]) -> dict[str, Ties]:
    """How a reader is tied to documents by the claims in which they were named, and by the designs that they show."""
    rows = connection.exec_driver_sql(
        f"""select l.document,
            coalesce(max(i.told) filter (where i.seller = %s and l.owner in (c.complainant, c.principal)), 0) as as_seller,
            coalesce(max(i.told) filter (where i.seller = l.owner and %s in (c.complainant, c.principal)), 0) as as_holder
        from evidence_links l join claims c on c.id = l.about join items i on {_ITEMS}
        where l.document = any(%s) and l.about_kind = 'claim' and (i.seller in (%s, l.owner)) group by l.document""",
        (reader, reader, list(documents), reader),
    )
    found = {row.document: Ties(row.as_seller, row.as_holder) for row in rows}
    views = connection.exec_driver_sql(
        """select l.document, max(i.told) as told from evidence_links l
        join items i on i.seller = %s join claims c on c.id = i.claim and c.right_id = l.about
        where l.document = any(%s) and l.about_kind = 'right' and %s = any(l.kinds) group by l.document""",
        (reader, list(documents), evidence.VIEW),
    )
    for row in views:
        found[row.document] = dataclasses.replace(found.get(row.document, Ties()), view=row.told)
    return found


def readable(connection: sa.Connection, me: Account, rows: Sequence[Row], private: Sequence[str]) -> list[Row]:
    """The rows that the account may read; for the owner and for staff, with what the documents were named in."""
    others = [] if me.sees_all else [row["id"] for row in rows if row["owner"] != me.id]
    tied = ties(connection, me.id, others) if others else {}
    allowed = [
        row for row in rows if evidence.may_read(me, row["owner"], row["kinds"], tied.get(row["id"], Ties()), private)
    ]
    full = [row["id"] for row in allowed if me.sees_all or row["owner"] == me.id]
    abouts: dict[str, list[str]] = {}
    if full:
        for document, about in connection.exec_driver_sql(
            "select document, about from evidence_links where document = any(%s) order by document, about limit 2000",
            (full,),
        ):
            abouts.setdefault(document, []).append(about)
    return [{**row, "named_in": abouts.get(row["id"], [])} for row in allowed]


def get(connection: sa.Connection, me: Account, id: str, private: Sequence[str]) -> Row:
    """One document.

    Raises:
        Refused: 404; it does not exist, or the account may not read it.
    """
    rows = _rows(connection.exec_driver_sql(f"select {_ROW} from evidence d where id = %s and state = 'kept'", (id,)))
    found = readable(connection, me, rows, private)
    if not found:
        raise not_found()
    return found[0]


def list_own(connection: sa.Connection, me: Account, after: str, limit: int) -> list[Row]:
    """Documents of the account, by id."""
    return _rows(
        connection.exec_driver_sql(
            f"select {_ROW} from evidence d where account = %s and state = 'kept' and id > %s order by id limit %s",
            (me.id, after, limit),
        )
    )


_TIED: Final = f"""
    d.account = %s or not d.kinds && %s::text[] and exists (
        select from evidence_links t join claims c on c.id = t.about join items i on {_ITEMS}
        where t.document = d.id and t.about_kind = 'claim' and (
            i.seller = %s and i.told >= 1 and t.owner in (c.complainant, c.principal)
            or i.seller = t.owner and i.told >= 2 and %s in (c.complainant, c.principal)))
    or not d.kinds && %s::text[] and %s = any(l.kinds) and l.about_kind = 'right' and exists (
        select from items i join claims c on c.id = i.claim where i.seller = %s and i.told >= 1 and c.right_id = l.about)"""
"""``evidence.may_read`` for a party, in SQL, so that a page ends with a document that its reader may see."""


def list_about(
    connection: sa.Connection, me: Account, about: str, private: Sequence[str], after: str, limit: int
) -> list[Row]:
    """Documents named in a claim, right or account that the caller may read, by id."""
    tied = "true" if me.sees_all else f"({_TIED})"
    values = () if me.sees_all else (me.id, list(private), me.id, me.id, list(private), evidence.VIEW, me.id)
    return _rows(
        connection.exec_driver_sql(
            f"""select {_ROW} from evidence_links l join evidence d on d.id = l.document
            where l.about = %s and d.state = 'kept' and d.id > %s and {tied} order by d.id limit %s""",
            (about, after, *values, limit),
        )
    )


def note_read(connection: sa.Connection, document: str, reader: str, what: str) -> None:
    """Record that a link or a file was handed out."""
    connection.execute(sa.insert(evidence_reads).values(document=document, reader=reader, what=what))


def list_reads(connection: sa.Connection, document: str, before: int | None, limit: int) -> list[Row]:
    """Who received a link to a document or the file itself, latest first."""
    read = evidence_reads.c
    query = sa.select(read.id, read.reader, read.what, read.at_wall.label("at")).where(read.document == document)
    if before is not None:
        query = query.where(read.id < before)
    return [dict(row) for row in connection.execute(query.order_by(read.id.desc()).limit(limit)).mappings()]


# ------------------------------------------------------------------------------------------------------------- deleting


def _needed(
    connection: sa.Connection, ids: Sequence[str], now: dt.datetime, kept: Mapping[str, dt.timedelta]
) -> set[str]:
    """The documents, locked by the caller, to which something open, or closed a short time ago, refers."""
    longest = max(kept.values())
    rows = connection.exec_driver_sql(
        f"""select distinct l.document from evidence_links l where l.document = any(%s) and (
            l.about_kind = 'account' and exists (
                select from accounts a where a.id = l.about
                and (a.status <> 'closed' or (select max(h.at) from account_changes h where h.account = a.id) + %s > %s))
            or l.about_kind = 'claim' and exists (
                select from claims c join items i on {_ITEMS} left join unnest(%s::text[], %s::interval[]) as p(profile, kept) using (profile)
                where c.id = l.about and (i.state <> all(%s) or i.changed_at + coalesce(p.kept, %s) > %s))
            or l.about_kind = 'right' and exists (
                select from rights r where r.id = l.about
                and (r.status in ('active', 'pending') or greatest(
                    r.expires_at, l.linked_at, (select max(h.at) from right_changes h where h.right_id = r.id)) + %s > %s))
            or l.about_kind = 'authorisation' and exists (
                select from authorisations u where u.id = l.about
                and (u.status = 'active' or u.pending_reason is not null or greatest(l.linked_at,
                    (select max(h.at) from authorisation_changes h where h.authorisation = u.id)) + %s > %s)))""",
        (
            list(ids),
            longest,
            now,
            list(kept),
            [f"{span.total_seconds()} seconds" for span in kept.values()],
            [str(state) for state in CLOSED],
            longest,
            now,
            longest,
            now,
            longest,
            now,
        ),
    )
    return set(rows.scalars())


def delete(connection: sa.Connection, me: Account, id: str, now: dt.datetime, kept: Mapping[str, dt.timedelta]) -> None:
    """Delete a document for its owner.

    Raises:
        Refused: 404; 409, it was named in something.
    """
    rows = connection.exec_driver_sql(
        "select id from evidence where id = %s and account = %s and state = 'kept' for update", (id, me.id)
    ).all()
    if not rows:
        raise not_found()
    if _needed(connection, [id], now, kept):
        raise Refused(
            409,
            "in_use",
            "The document was named in a matter that is open, or was until recently.",
            cure="It is deleted automatically when it is no longer needed.",
        )
    _mark(connection, _evidence.c.id == id)


def let_go(
    connection: sa.Connection, account: str, now: dt.datetime, kept: Mapping[str, dt.timedelta]
) -> tuple[int, int]:
    """Mark the documents of an erased account that nothing needs for deletion, proofs of identity among them.

    Returns how many are marked, and how many stay until nothing needs them. Their names are erased at once.
    """
    ids = list(
        connection.exec_driver_sql(
            "select id from evidence where account = %s and state in ('arriving', 'kept') order by id for update",
            (account,),
        ).scalars()
    )
    connection.exec_driver_sql("delete from evidence_links where about = %s and owner = about", (account,))
    needed = _needed(connection, ids, now, kept) if ids else set()
    connection.exec_driver_sql("update evidence set name = null where id = any(%s)", (ids,))
    _mark(connection, _evidence.c.id.in_(sorted(set(ids) - needed)))
    return len(ids) - len(needed), len(needed)


def retire(connection: sa.Connection, now: dt.datetime, kept: Mapping[str, dt.timedelta], limit: int = BATCH) -> int:
    """Mark dead uploads, and documents that nothing needs any more, for deletion. Returns how many."""
    dead = sa.select(_evidence.c.id).where(
        _evidence.c.state == "arriving", _evidence.c.changed_wall < sa.func.now() - UPLOAD_MAX
    )
    dead = dead.order_by(_evidence.c.changed_wall).limit(limit).with_for_update(skip_locked=True)
    count = _mark(connection, _evidence.c.id.in_(dead))
    # once they are locked, nobody can name them; the next statement sees all that were named before
    ids = list(
        connection.exec_driver_sql(
            """select id from evidence where state = 'kept' and looked_wall < now() order by looked_wall limit %s
            for update skip locked""",
            (limit,),
        ).scalars()
    )
    if ids:
        needed = _needed(connection, ids, now, kept)
        connection.exec_driver_sql(
            "update evidence set looked_wall = now() + %s where id = any(%s)", (LOOK_AGAIN, sorted(needed))
        )
        rest = sorted(set(ids) - needed)
        count += _mark(connection, _evidence.c.id.in_(rest))
    return count


def going(connection: sa.Connection, limit: int = BATCH) -> list[Row]:
    """Documents whose bytes are marked for deletion."""
    return _rows(
        connection.exec_driver_sql(
            f"select {_ROW} from evidence d where state = 'going' order by changed_wall limit %s", (limit,)
        )
    )


def gone(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Record that the bytes are deleted. The row stays, without the document's name."""
    connection.exec_driver_sql(
        "update evidence set state = 'gone', name = null, changed_wall = now() where id = any(%s) and state = 'going'",
        (list(ids),),
    )


def sweep(engine: sa.Engine, blobs: Blobs, kept: Mapping[str, dt.timedelta]) -> int:
    """Run the clean-up once. Returns how many documents are gone. Blocks; several processes may run it at once.

    Raises:
        BlobsUnavailable: some are not deleted yet; the next run continues with them.
    """
    with engine.begin() as connection:
        now, _ = clock.read(connection)
        retire(connection, now, kept)
    count = 0
    while True:
        with engine.begin() as connection:
            found = going(connection)
        for document in found:
            blobs.delete(path_of(document))
        if found:
            with engine.begin() as connection:
                gone(connection, [document["id"] for document in found])
        count += len(found)
        if len(found) < BATCH:
            return count
