"""`goodfaith message preview|reproduce`: previews messages with made-up facts, and reproduces one that was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption

if TYPE_CHECKING:
    from services.notification.reproduce import SentMessage

app = typer.Typer(no_args_is_help=True, help="Preview messages, and reproduce one that was sent.")
HtmlOption = Annotated[bool, typer.Option("--html", help="Print the HTML instead of the text.")]


@app.callback()
def _group() -> None:
    """Preview messages, and reproduce one that was sent."""


@app.command()
def preview(
    kind: Annotated[str, typer.Argument(help="Kind of message, such as seller_notice. An unknown kind lists all.")],
    locale: Annotated[str, typer.Option(help="Language: en, zh or de.")] = "en",
    profile: Annotated[str, typer.Option(help="Policy profile of the claim.")] = "ipp",
    items: Annotated[int, typer.Option(help="Number of listings in the claim.", min=1, max=2000)] = 4,
    to_seller: Annotated[
        bool, typer.Option("--to-seller", help="If both sides get this kind, show the seller's message.")
    ] = False,
    html: HtmlOption = False,
    json: JsonOption = False,
) -> None:
    """Show a message with made-up facts, from the current template. Needs no stack and sends nothing."""
    from services.notification import preview as made_up
    from services.ops.terminal import print_json
    from shared import languages
    from shared.failures import CommandError

    if kind not in made_up.kinds():
        raise CommandError(f"there is no kind {kind!r}, only {', '.join(made_up.kinds())}")
    if locale not in languages.LANGUAGES:
        raise CommandError(f"there is no language {locale!r}, only {', '.join(languages.LANGUAGES)}")
    made = made_up.preview(kind, locale=locale, profile=profile, items=items, to_seller=to_seller)
    if not json:
        print(made.html if html else f"Subject: {made.subject}\n\n{made.body}")
    else:
        print_json(
            {
                "kind": kind,
                "template": made.template,
                "version": made.version,
                "locale": made.locale,
                "edition": made.edition,
                "subject": made.subject,
                "text": made.body,
                "html": made.html,
            }
        )


_ROW: Final = """
    select claim, party, kind, items, revisions, coalesce(channel, '') as channel, template, version, locale, edition,
        coalesce(rendered_at, sent_at) as rendered_at, sent_wall, digest
    from notification.messages where id = %s and digest is not null"""
_ITEMS: Final = """
    select i.item, i.facts, i.claim_size, i.claim from unnest(%s::text[], %s::int[]) with ordinality as n(item, revision, position)
    join notification.message_items i on i.item = n.item and i.revision = n.revision and i.party = %s
        and (i.kind = %s or i.message = %s)
    order by n.position"""
_LOGGED: Final = """
    select payload::jsonb -> 'data' ->> 'digest' from notification.event_log
    where (claim = %s or key = %s or claim is null) and strpos(payload, %s) > 0
        and payload::jsonb -> 'data' ->> 'message' = %s and payload::jsonb -> 'data' ->> 'digest' is not null"""
_CHANGED: Final = "select account, changed_wall from intake.contacts where account = any(%s)"


def kept_of(connection: Any, id: str) -> tuple[SentMessage, set[str]] | None:
    """What is stored of a sent message, and its digests in the event log. None: there is no such message."""
    import msgspec

    from services.notification.domain import ACCOUNT, Facts
    from services.notification.render import MessageItem
    from services.notification.reproduce import SentMessage
    from shared.events import AccountNotice

    row = connection.exec_driver_sql(_ROW, (id,)).first()
    if row is None:
        return None
    items = connection.exec_driver_sql(_ITEMS, (row.items, row.revisions, row.party, row.kind, id)).all()
    notice, told = None, []
    if row.kind.startswith(ACCOUNT):
        notice = msgspec.json.decode(items[0].facts, type=AccountNotice)
    else:
        told = [MessageItem(one.item, msgspec.json.decode(one.facts, type=Facts), one.claim) for one in items]
    logged = set(connection.exec_driver_sql(_LOGGED, (row.claim, row.party, id, id)).scalars())
    kept = SentMessage(
        id=id,
        claim=row.claim,
        party=row.party,
        kind=row.kind,
        channel=row.channel,
        template=row.template,
        version=row.version,
        locale=row.locale,
        edition=row.edition,
        rendered_at=row.rendered_at,
        sent_wall=row.sent_wall,
        digest=row.digest,
        claim_size=items[0].claim_size,
        items=told,
        notice=notice,
    )
    return kept, logged


@app.command()
def reproduce(
    message: Annotated[str, typer.Argument(help="Id of a sent message.")],
    html: HtmlOption = False,
    stack: StackOption = "default",
    json: JsonOption = False,
) -> None:
    """Reproduce a sent message, and compare its hash with the one in the event log.

    Exit code 1 if the hashes differ; the reason is printed. The printed text contains contact data as on file now.
    """
    from services.notification.intake_client import IntakeClient, IntakeDown
    from services.notification.render import digest
    from services.notification.reproduce import again, differences
    from services.ops import installation
    from services.ops.terminal import console, print_json
    from shared import db
    from shared.failures import CommandError, Unavailable

    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    with engine.connect() as connection:
        found = kept_of(connection, message)
        if found is None:
            raise CommandError(f"no message {message!r} was sent")
        kept, logged = found
        changed: dict[str, Any] = dict(connection.exec_driver_sql(_CHANGED, (kept.parties,)).all())
    if settings.internal_token is None:
        raise CommandError("GOODFAITH_INTERNAL_TOKEN is not set: intake needs it to release contact data")
    intake = IntakeClient(settings.intake_url, settings.internal_token.get_secret_value(), settings.internal_ca)
    try:
        contacts = intake.contacts(kept.parties)
        numbers = {} if kept.notice is not None else intake.right_numbers([kept.claim])
    except IntakeDown as away:
        raise Unavailable(f"intake does not answer: {away}") from None
    finally:
        intake.close()
    why, made = differences(kept, contacts, changed), ""
    if kept.digest not in logged:
        why.insert(0, "the event log has another hash than the table of messages")
    try:
        shown, raw = again(
            kept, contacts, numbers.get(kept.claim), site=settings.marketplace_url, sender=settings.smtp_from
        )
        made = digest(raw)
        if not json:
            print(shown.html if html else f"Subject: {shown.subject}\n\n{shown.body}")
    except ValueError as error:
        why.append(str(error))
    same = made == kept.digest and kept.digest in logged
    if same:
        why = []
    elif not why:
        why = ["perhaps the right's number, GOODFAITH_SMTP_FROM or GOODFAITH_MARKETPLACE_URL has changed"]
    console.print(
        f"{kept.kind} to {kept.party}, {kept.template} version {kept.version}, {kept.locale}, by {kept.channel}",
        markup=False,
    )
    console.print("the hash is that of the event log" if same else "; ".join(("the hash differs", *why)), markup=False)
    if json:
        print_json(
            {
                "message": message,
                "kind": kept.kind,
                "party": kept.party,
                "channel": kept.channel,
                "template": kept.template,
                "version": kept.version,
                "locale": kept.locale,
                "edition": kept.edition,
                "rendered_at": kept.rendered_at,
                "digest": kept.digest,
                "made": made,
                "same": same,
                "why": why,
            }
        )
    if not same:
        raise typer.Exit(1)


def register(parent: typer.Typer) -> None:
    """Add this module's commands."""
    parent.add_typer(app, name="message")
