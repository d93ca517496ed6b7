"""`goodfaith export SUBJECT`: writes everything that all services hold on a subject, to answer its request for access.

It reads one snapshot of the database (repeatable read), and writes row by row: memory does not grow with the subject.
"""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec
import typer

from services.ops.terminal import JsonOption, StackOption

ROWS: Final = 500
"""Rows fetched at a time."""


@dataclass(frozen=True)
class Part:
    """A part of the export: rows of a table that are about the subject.

    Attributes:
        table: if it does not exist, as in an older installation, the part is left out.
        sql: ``%(s)s`` is the subject.
        people: columns with accounts; those of staff are not named.
        sealed: (column, purpose, name): a column to open with the subject's key. ``{id}`` in the purpose is the row's
            id; text is JSON.
    """

    name: str
    table: str
    sql: str
    people: tuple[str, ...] = ()
    sealed: tuple[str, str, str] | None = None


_RANGE: Final = "i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'"
_CLAIMS: Final = "(select id from intake.claims where complainant = %(s)s union select id from intake.claims where principal = %(s)s)"
_ITEMS: Final = f"""(select i.id from intake.items i where i.seller = %(s)s union
    select i.id from intake.claims c join intake.items i on {_RANGE} where c.id in {_CLAIMS})"""

PARTS: Final = (
    Part(
        "account",
        "intake.accounts",
        """select id, role, kind, status, identity_verified, good_faith, registered, opened_at, email_confirmed_at, erased_at, record
        from intake.accounts where id = %(s)s""",
    ),
    Part(
        "account_history",
        "intake.account_changes",
        "select kind, by, at, code, documents, seen from intake.account_changes where account = %(s)s order by id",
        ("by",),
    ),
    Part(
        "contact",
        "intake.contacts",
        "select account as id, changed_wall, fed, sealed from intake.contacts where account = %(s)s",
        sealed=("sealed", "contact", "contact"),
    ),
    Part(
        "former_names",
        "intake.former_names",
        "select id, until_wall, sealed from intake.former_names where account = %(s)s order by id",
        sealed=("sealed", "former_name", "name"),
    ),
    Part(
        "marketplace_feed",
        "intake.fed_sellers",
        "select revision, gone_at, tried_wall from intake.fed_sellers where seller = %(s)s",
    ),
    Part(
        "confirmation_of_address",
        "intake.email_codes",
        "select expires_at, tries, requested_at, requests, since from intake.email_codes where account = %(s)s",
    ),
    Part(
        "domains",
        "intake.account_domains",
        """select id, domain, token, state, reason, named_wall, asked_wall, due_wall, tries, since_wall, seen_wall
        from intake.account_domains where account = %(s)s order by id""",
    ),
    Part(
        "tokens",
        "intake.tokens",
        "select created_wall, expires_wall, name, revoked_wall from intake.tokens where account = %(s)s order by 1",
    ),
    Part(
        "channels",
        "intake.channels",
        "select preferred, digest_hour, digest_zone from intake.channels where account = %(s)s",
    ),
    Part(
        "webhooks",
        "intake.webhooks",
        """select id, kinds, status, reason, made_at, changed_at, sealed from intake.webhooks where account = %(s)s order by id""",
        sealed=("sealed", "webhook:{id}", "url"),
    ),
    Part(
        "webhooks_to_confirm",
        "intake.webhook_challenges",
        """select c.webhook, c.asks, c.asked_wall, c.expires_wall, c.calls, c.tries, c.result from intake.webhook_challenges c
        join intake.webhooks w on w.id = c.webhook where w.account = %(s)s order by c.webhook""",
    ),
    Part(
        "codes_for_webhooks",
        "intake.webhook_asks",
        "select at_wall from intake.webhook_asks where account = %(s)s order by at_wall",
    ),
    Part("usage", "intake.usage", "select hour, items from intake.usage where account = %(s)s order by hour"),
    Part(
        "requests",
        "intake.submissions",
        """select idempotency_key, resource, accepted_at from intake.submissions where account = %(s)s
        order by idempotency_key""",
    ),
    Part(
        "rights",
        "intake.rights",
        """select id, right_type, register, number, mark, registrant, classes, territory, status, pending_reason, expires_at,
            proof, registered_at, accepted, documents_at, published_on, published_where, offered_to, offered_by
        from intake.rights where owner = %(s)s order by id""",
    ),
    Part(
        "rights_history",
        "intake.right_changes",
        """select h.right_id as right, h.kind, h.by, h.at, h.was, h.now, h.code, h.documents, h.seen
        from intake.right_changes h
        join intake.rights r on r.id = h.right_id where r.owner = %(s)s order by h.id""",
        ("by",),
    ),
    Part(
        "queries_to_registers",
        "intake.register_queries",
        """select q.right_id as right, q.register, q.number, q.state, q.since_wall, q.tries, q.result
        from intake.register_queries q join intake.rights r on r.id = q.right_id where r.owner = %(s)s order by q.right_id""",
    ),
    Part(
        "authorisations",
        "intake.authorisations",
        """select id, agent, principal, rights, territory, expires_at, status, granted_at, basis, asked_by, pending_reason,
            documents_at from intake.authorisations where agent = %(s)s or principal = %(s)s order by id""",
    ),
    Part(
        "authorisations_history",
        "intake.authorisation_changes",
        """select h.authorisation, h.kind, h.by, h.at, h.code, h.documents, h.seen from intake.authorisation_changes h
        join intake.authorisations u on u.id = h.authorisation where u.agent = %(s)s or u.principal = %(s)s order by h.id""",
        ("by",),
    ),
    Part(
        "documents",
        "intake.evidence",
        """select id, kinds, digest as sha256, size, media, name, state, uploaded_at, (select array_agg(l.about order by l.about)
            from intake.evidence_links l where l.document = d.id) as named_in
        from intake.evidence d where account = %(s)s order by id""",
    ),
    Part(
        "documents_read_by",
        "intake.evidence_reads",
        """select r.document, r.reader, r.what, r.at_wall from intake.evidence_reads r join intake.evidence d on d.id = r.document
        where d.account = %(s)s order by r.id""",
        ("reader",),
    ),
    Part(
        "documents_read",
        "intake.evidence_reads",
        """select r.document, r.what, r.at_wall from intake.evidence_reads r join intake.evidence d on d.id = r.document
        where r.reader = %(s)s and d.account <> %(s)s order by r.id""",
    ),
    Part(
        "claims",
        "intake.claims",
        f"""select id, complainant, principal, right_id as right, right_type, reason, profile, lane, size, channel, accepted_at
        from intake.claims where id in {_CLAIMS} order by id""",
    ),
    Part(
        "items",
        "intake.items",
        f"""select i.id, i.claim, i.listing, i.link, i.seller, c.complainant, c.principal, c.reason, i.state, i.revision, i.changed_at
        from intake.items i join intake.claims c on c.id = i.claim where i.id in {_ITEMS} order by i.id""",
    ),
    Part(
        "timeline",
        "intake.timeline",
        f"select item, revision, type, state, by, code, at from intake.timeline where item in {_ITEMS} order by item, revision",
    ),
    Part(
        "commands",
        "intake.commands",
        """select id, claim, item, kind, role, accepted_at, status, code, detail from intake.commands where by = %(s)s
        order by id""",
    ),
    Part(
        "texts",
        "intake.texts",
        "select id, claim, kind, sealed from intake.texts where account = %(s)s order by id",
        sealed=("sealed", "text:{id}", "text"),
    ),
    Part(
        "inbox",
        "intake.messages",
        """select id, claim, about, kind, items, channel, template, version, digest, sent_at, read_at from intake.messages
        where party = %(s)s order by sent_at, id""",
    ),
    Part(
        "messages",
        "notification.messages",
        """select id, claim, kind, state, channel, result, digest, sent_at, delivered_at, read_at, begun_at, begun_by
        from notification.messages where party = %(s)s order by opened_wall, id""",
    ),
    Part(
        "message_centre",
        "notification.centre",
        """select message, handed_at, result, answered_at, read_at from notification.centre where party = %(s)s
        order by handed_at, message""",
    ),
    Part(
        "deliveries",
        "notification.deliveries",
        "select message, channel, state, reason, at from notification.deliveries where party = %(s)s order by id",
    ),
    Part(
        "daily_message",
        "notification.digests",
        "select hour, zone, next_at from notification.digests where account = %(s)s and hour is not null",
    ),
    Part(
        "webhook_calls",
        "notification.webhook_deliveries",
        """select endpoint as webhook, message, kind, state, result, tries, attempts, replays, made_wall, ended_wall
        from notification.webhook_deliveries where party = %(s)s order by made_wall, message""",
    ),
    Part(
        "webhook_states",
        "notification.endpoints",
        "select id as webhook, state, failures, proven, since_wall from notification.endpoints where party = %(s)s order by id",
    ),
    Part("bounces", "notification.bouncing", "select reason, since from notification.bouncing where party = %(s)s"),
    Part(
        "good_faith",
        "intake.good_faith_standings",
        "select state, how, since, demote_on, barred_until from intake.good_faith_standings where account = %(s)s",
    ),
    Part(
        "good_faith_history",
        "intake.good_faith_history",
        """select day, at, kind, by, state, demote_on, barred_until, basis from intake.good_faith_history where account = %(s)s
        order by id""",
        ("by",),
    ),
    Part(
        "good_faith_items",
        "intake.good_faith_items",
        "select item, reason, day, outcome from intake.good_faith_items where account = %(s)s order by item",
    ),
    Part(
        "declarations",
        "intake.good_faith_declarations",
        """select id, version, sha256, executed_at, sealed from intake.good_faith_declarations where account = %(s)s order by id""",
        sealed=("sealed", "declaration", "signed_by"),
    ),
    Part(
        "misuse_findings",
        "intake.misuse_findings",
        """select id, kind, state, document, claim, code, by, second, day, at from intake.misuse_findings where account = %(s)s
        order by id""",
        ("by", "second"),
    ),
    Part(
        "filing_days",
        "intake.filing_days",
        "select day, by_topic, items, held from intake.filing_days where account = %(s)s order by day, by_topic",
    ),
    Part(
        "brakes",
        "intake.brakes",
        """select since, until, released, complained_at, decided_at, decision, code from intake.brakes
        where account = %(s)s""",
    ),
    Part(
        "misuse_measures",
        "intake.misuse_measures",
        """select id, kind, state, day, at, until, items, prior, finding, ended, basis from intake.misuse_measures
        where account = %(s)s order by id""",
    ),
    Part(
        "misuse_complaints",
        "intake.misuse_complaints",
        """select measure as id, at, sealed, state, by, code, decided_at from intake.misuse_complaints where account = %(s)s
        order by measure""",
        ("by",),
        sealed=("sealed", "misuse-complaint", "statement"),
    ),
    Part(
        "misuse_history",
        "intake.misuse_history",
        "select measure, day, at, kind, by, basis from intake.misuse_history where account = %(s)s order by id",
        ("by",),
    ),
    Part(
        "standing",
        "enforcement.standings",
        """select general_points, serious_strikes, violations, repeat_offender, general_consequence, serious_consequence,
            changed_at from enforcement.standings where seller = %(s)s""",
    ),
    Part(
        "violations",
        "enforcement.violations",
        """select claim, in_force, severity, at, entry, ledger, points, effective_at, expires_at from enforcement.violations
        where seller = %(s)s order by claim""",
    ),
    Part(
        "penalties",
        "enforcement.ledger_entries",
        """select entry, claim, ledger, kind, points, reverses, effective_at, expires_at from enforcement.ledger_entries
        where seller = %(s)s order by recorded_wall, entry""",
    ),
    Part(
        "sanctions",
        "enforcement.sanctions",
        """select sanction, scope, ledger, level, measures, entry, claim, began, ends, state, cause, over_at, reason
        from enforcement.sanctions where seller = %(s)s order by number""",
    ),
    Part(
        "sanctions_lifted",
        "intake.lifts",
        "select sanction, by, reason, at from intake.lifts where seller = %(s)s order by at, command",
        ("by",),
    ),
    Part(
        "business",
        "enforcement.entity_members",
        "select entity from enforcement.entity_members where seller = %(s)s",
    ),
    Part(
        "business_keys",
        "enforcement.seller_keys",
        "select kind, digest from enforcement.seller_keys where seller = %(s)s order by kind, digest",
    ),
    Part(
        "review_decisions",
        "intake.review_decisions",
        """select item, state, decision, code, kind, outcome, decided_at from intake.review_decisions where reviewer = %(s)s
        order by id""",
    ),
    Part(
        "review_conflicts",
        "intake.review_conflicts",
        "select account, own, declared_wall from intake.review_conflicts where reviewer = %(s)s order by account",
    ),
)


class Access:
    """What is held on subjects at one moment.

    Args:
        connection: an administrator's, in a REPEATABLE READ transaction; it is made read-only.
        contacts: opens what is sealed (`services.intake.kernel.security.Contacts`).
    """

    def __init__(self, connection: Any, contacts: Any) -> None:
        self._connection = connection
        self._contacts = contacts
        connection.exec_driver_sql("set transaction read only")
        self._there = set(connection.exec_driver_sql("select schemaname || '.' || tablename from pg_tables").scalars())
        staff = connection.exec_driver_sql("select id from intake.accounts where role in ('reviewer', 'operator')")
        self._staff = frozenset(staff.scalars())

    def parts(self, subject: str) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """(name, rows) of each part, in order. Take a part's rows before you take the next part."""
        key = self._connection.exec_driver_sql(
            "select wrapped from intake.subject_keys where account = %s", (subject,)
        ).scalar()
        for part in PARTS:
            if part.table in self._there:
                yield part.name, self._rows(part, subject, None if key is None else bytes(key))

    def _rows(self, part: Part, subject: str, key: bytes | None) -> Iterator[dict[str, Any]]:
        from services.intake.accounts import access

        streamed = self._connection.execution_options(stream_results=True, max_row_buffer=ROWS)
        with closing(streamed.exec_driver_sql(part.sql, {"s": subject}).mappings()) as rows:
            for row in rows:
                given = dict(row)
                if part.sealed is not None:
                    column, purpose, name = part.sealed
                    given[name] = self._opened(subject, key, given.pop(column), purpose.format(id=row.get("id")), name)
                yield access.shaped(given, subject, self._staff, people=part.people)

    def _opened(self, subject: str, key: bytes | None, sealed: Any, purpose: str, name: str) -> Any:
        """What was sealed; None if its key was destroyed."""
        from cryptography.exceptions import InvalidTag

        if sealed is None or key is None:
            return None
        try:
            text = self._contacts.open_text(subject, key, bytes(sealed), purpose)
        except InvalidTag:
            return {"unreadable": True}
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text.decode("utf-8", "replace")
        # only the address of a webhook: anyone who has its secrets could impersonate it
        return value.get("url") if name == "url" and isinstance(value, dict) else value


def write(
    out: IO[bytes], head: Mapping[str, Any], parts: Iterable[tuple[str, Iterable[dict[str, Any]]]]
) -> dict[str, int]:
    """Write the export as one JSON document, row by row. Returns the number of rows by part."""
    encode = msgspec.json.Encoder().encode
    counts: dict[str, int] = {}
    out.write(b"{")
    for name, value in head.items():
        out.write(encode(name) + b":" + encode(value) + b",")
    out.write(b'"held":{')
    for place, (name, rows) in enumerate(parts):
        out.write((b"," if place else b"") + b"\n" + encode(name) + b":[")
        count = 0
        for row in rows:
            out.write((b",\n" if count else b"\n") + encode(row))
            count += 1
        out.write(b"]")
        counts[name] = count
    out.write(b"\n}}\n")
    return counts


_ENDINGS: Final = {
    "application/pdf": "pdf",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "text/plain": "txt",
}


def add_files(archive: zipfile.ZipFile, rows: Iterable[Mapping[str, Any]], blobs: Any, contacts: Any) -> int:
    """Add documents (rows of ``_FILES``) to the archive, piece by piece. Returns how many.

    Raises:
        BlobsUnavailable, Altered: the store does not return what was stored.
    """
    from services.intake.evidence import store as evidence_store

    count = 0
    for row in rows:
        key = contacts.unwrap(row["id"], bytes(row["key"])) if row["sealed"] else None
        pieces = blobs.read(
            evidence_store.path_of({**row, "digest": bytes(row["digest"])}), row["size"], bytes(row["digest"]), key
        )

        async def copy(to: IO[bytes], pieces: Any = pieces) -> None:
            async for piece in pieces:
                to.write(piece)

        with archive.open(f"files/{row['id']}.{_ENDINGS.get(row['media'], 'bin')}", "w", force_zip64=True) as file:
            asyncio.run(copy(file))
        count += 1
    return count


_FILES: Final = (
    "select id, digest, size, media, sealed, key from intake.evidence where account = %s and state = 'kept' order by id"
)


def collect(
    connection: Any, contacts: Any, subject: str, path: Path, *, blobs: Any = None, made_at: Any = None
) -> dict[str, int]:
    """Write a subject's export to a file: JSON or, with ``blobs``, a ZIP archive with its documents.

    Returns the number of rows by part.

    Raises:
        FileExistsError: the file exists.
    """
    from services.intake.accounts import access

    given = Access(connection, contacts)
    head = {"subject": subject, "made_at": made_at, "not_included": dict(access.NOT_INCLUDED)}
    with open(path, "xb", opener=_private) as out:
        try:
            return _written(out, head, given, subject, connection, blobs, contacts)
        except BaseException:
            # a partial file would look complete
            path.unlink()
            raise


def _written(
    out: IO[bytes], head: Mapping[str, Any], given: Access, subject: str, connection: Any, blobs: Any, contacts: Any
) -> dict[str, int]:
    if blobs is None:
        return write(out, head, given.parts(subject))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("export.json", "w", force_zip64=True) as document:
            counts = write(document, head, given.parts(subject))
        rows = connection.exec_driver_sql(_FILES, (subject,)).mappings()
        counts["files"] = add_files(archive, rows, blobs, contacts)
    return counts


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    import os

    return os.open(path, flags, 0o600)


def export(
    subject: Annotated[str, typer.Argument(help="Id of the account, or of a seller without an account.")],
    out: Annotated[Path, typer.Option(help="File to write, readable only by its owner. It must not exist yet.")],
    files: Annotated[bool, typer.Option("--files", help="Write a ZIP archive that has the documents too.")] = False,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Write everything that all services hold on a subject to a file (GDPR, Article 15).

    Other people's personal data are left out. Needs the installation's `GOODFAITH_CONTACT_KEY`. Exit code 1 if nothing
    is held.
    """
    from services.intake.evidence.blobs import Blobs
    from services.ops import installation
    from services.ops.privacy.rewrap import contacts_of
    from services.ops.terminal import console, print_json, progress
    from shared import clock, db
    from shared.failures import CommandError, Finding

    settings = installation.settings(stack)
    contacts = contacts_of(settings)
    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    try:
        with (
            progress(f"collecting what is held on {subject}"),
            engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
        ):
            now, _ = clock.read(connection)
            blobs = Blobs.of(settings) if files else None
            counts = collect(connection, contacts, subject, out, blobs=blobs, made_at=now)
    except FileExistsError:
        raise CommandError(f"{out} is there already") from None
    finally:
        engine.dispose()
    if not sum(counts.values()):
        out.unlink()
        raise Finding(f"nothing is held on {subject!r}")
    console.print(f"{sum(counts.values())} rows in {sum(map(bool, counts.values()))} parts, in {out}")
    if json:
        print_json({"subject": subject, "file": str(out), "rows": sum(counts.values()), "parts": counts})


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(export)
