"""`goodfaith erase SUBJECT`: erases a person's or company's data by destroying its key. Event logs stay intact."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.ops.terminal import JsonOption, StackOption, YesOption


def erased(engine: Any, subject: str, *, partitions: int, force: bool, reason: str | None, dry_run: bool) -> Any:
    """Erase a subject in the installation's database. `engine` is an administrator's.

    Raises:
        CommandError: there is no such account, or `force` without a reason.
        Finding: something stands against erasing it.
    """
    from services.intake.accounts import erasure_store
    from shared.failures import CommandError, Finding
    from shared.refusals import Refused

    with engine.begin() as connection:
        connection.exec_driver_sql("set local search_path = intake, platform")
        try:
            return erasure_store.erase(
                connection, subject, by="operator", partitions=partitions, force=force, reason=reason, dry_run=dry_run
            )
        except Refused as refused:
            failure = Finding if refused.reason == "matters_open" else CommandError
            raise failure(f"{refused.detail} {refused.cure}") from None


def erase(
    subject: Annotated[str, typer.Argument(help="Id of the account.")],
    force: Annotated[
        bool, typer.Option("--force", help="Erase although the account has open matters. Needs --reason.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Reason as a code, such as court_order. It stays in the log: no personal data.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what stands against it, and what would stay.")
    ] = False,
    stack: StackOption = "default",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Erase a subject by destroying its key. This cannot be undone.

    Its contact data, signatures, webhooks, statements and texts can no longer be read. If the command fails, repeat it:
    steps that are done are not done twice. Exit code 1 if something stands against it (section `erasure` of the policy).
    """
    import re

    import msgspec

    from services.intake.accounts import erasure
    from services.ops import installation
    from services.ops.terminal import confirm, console, print_json
    from shared import db
    from shared.failures import CommandError

    if reason is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}", reason) is None:
        raise CommandError("--reason: a code such as court_order, not a sentence: it is kept in the log")
    confirm(f"Erase the data of {subject} for good?", yes=yes or dry_run)
    settings = installation.settings(stack)
    engine = db.administer(settings.database.get_secret_value(), pooled=False)
    try:
        partitions = settings.partitions
        found = erased(engine, subject, partitions=partitions, force=force, reason=reason, dry_run=dry_run)
    finally:
        engine.dispose()
    facts = msgspec.structs.asdict(found)
    if found.already:
        console.print(f"{subject} was erased before; nothing was left to do")
    elif dry_run:
        against = ", ".join(f"{count} {matter}" for matter, count in found.matters.items()) or "nothing"
        console.print(f"{subject}: not over yet: {against}")
    else:
        console.print(
            f"{subject} is erased: key {'destroyed' if found.contact else 'was none'}, {found.tokens} tokens revoked,"
            f" {found.webhooks} webhooks forgotten, {found.documents_going} documents go"
        )
    for name, text in erasure.STAYS.items():
        console.print(f"  stays: {name}{f' ({found.documents_kept})' if name == 'documents' else ''}. {text}")
    if json:
        print_json({**facts, "stays": dict(erasure.STAYS)})


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(erase)
