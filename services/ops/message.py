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
    from shared import languages, policy
    from shared.failures import CommandError

    if kind not in made_up.kinds():
        raise CommandError(f"no kind {kind!r}; there are {', '.join(made_up.kinds())}")
    if locale not in languages.LANGUAGES:
        raise CommandError(f"no language {locale!r}; there are {', '.join(languages.LANGUAGES)}")
    try:
        made = made_up.preview(kind, locale=locale, profile=profile, items=items, to_seller=to_seller)
    except policy.PolicyError as error:
        raise CommandError(str(error)) from None
    print(made.html if html else f"Subject: {made.subject}\n\n{made.body}")
    if json:
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
    select claim, party, kind, items, revisions, coalesce(channel, ''), template, version, locale, edition,
        coalesce(rendered_at, sent_at), sent_wall, digest
    from notification.messages where id = %s and digest is not null"""
_ITEMS: Final = """
    select i.item, i.facts, i.claim_size, i.claim from unnest(%s::text[], %s::int[]) with ordinality as n(item, revision, place)
    join notification.message_items i on i.item = n.item and i.revision = n.revision and i.party = %s
        and (i.kind = %s or i.message = %s)
    order by n.place"""
_LOGGED: Final = """
    select payload::jsonb -> 'data' ->> 'digest' from notification.event_log
    where (claim = %s or key = %s or claim is null) and strpos(payload, %s) > 0
        and payload::jsonb -> 'data' ->> 'message' = %s and payload::jsonb -> 'data' ->> 'digest' is not null"""
_CHANGED: Final = "select account, changed_wall from intake.contacts where account = any(%s)"


def kept_of(connection: Any, id: str) -> tuple[SentMessage, set[str]] | None:
    """What is stored of a sent message, and its digests in the event log. None: there is no such message."""
    import msgspec

    from services.notification.domain import ACCOUNT, Facts
    from services.notification.render import Told
    from services.notification.reproduce import SentMessage
    from shared.events import AccountNotice

    row = connection.exec_driver_sql(_ROW, (id,)).first()
    if row is None:
        return None
    (
        claim,
        party,
        kind,
        items,
        revisions,
        channel,
        template,
        version,
        locale,
        edition,
        rendered_at,
        sent_wall,
        digest,
    ) = row
    rows = connection.exec_driver_sql(_ITEMS, (items, revisions, party, kind, id)).all()
    notice, told = None, []
    if kind.startswith(ACCOUNT):
        notice = msgspec.json.decode(rows[0][1], type=AccountNotice)
    else:
        told = [Told(item, msgspec.json.decode(facts, type=Facts), claim) for item, facts, _, claim in rows]
    logged = set(connection.exec_driver_sql(_LOGGED, (claim, party, id, id)).scalars())
    kept = SentMessage(
        id,
        claim,
        party,
        kind,
        channel,
        template,
        version,
        locale,
        edition,
        rendered_at,
        sent_wall,
        digest,
        rows[0][2],
        told,
        notice,
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
    from services.notification.render import digest
    from services.notification.reproduce import again, differences
    from services.notification.sender import IntakeClient, IntakeDown
    from services.ops import installation
    from services.ops.terminal import console, print_json
    from shared import db
    from shared.failures import CommandError

    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    with engine.connect() as connection:
        found = kept_of(connection, message)
        if found is None:
            raise CommandError(f"no message {message!r} was sent")
        kept, logged = found
        changed: dict[str, Any] = dict(connection.exec_driver_sql(_CHANGED, (kept.parties,)).all())
    assert settings.internal_token is not None
    intake = IntakeClient(settings.intake_url, settings.internal_token.get_secret_value(), settings.internal_ca)
    try:
        contacts = intake.contacts(kept.parties)
        numbers = {} if kept.notice is not None else intake.right_numbers([kept.claim])
    except IntakeDown as away:
        raise CommandError(f"intake gives no answer: {away}") from None
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
