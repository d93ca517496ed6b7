"""`goodfaith rewrap`: wraps the keys of subjects and documents under a new key (docs/how-to/rotate-secrets.md)."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption
from shared.settings import Settings

if TYPE_CHECKING:
    from services.intake.kernel.security import Contacts

CHUNK: Final = 1_000
_TABLES: Final = (("intake.subject_keys", "account", "wrapped"), ("intake.evidence", "id", "key"))
"""Tables with wrapped keys: table, column of the key's owner, column of the key."""


def contacts_of(settings: Settings) -> Contacts:
    """The installation's contact keys.

    Raises:
        CommandError: there is none, or it is not a key.
    """
    from services.intake.kernel.security import Contacts, KeyMissing
    from shared.failures import CommandError

    try:
        found = Contacts.of(settings)
        found.master  # noqa: B018 (raises if there is none)
    except KeyMissing:
        raise CommandError("GOODFAITH_CONTACT_KEY is not set: give the installation's key") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    return found


def rewrap_all(engine: Any, contacts: Contacts) -> Counter[str]:
    """Rewrap the keys of all subjects and documents, in batches of one transaction each.

    May be repeated. May run while the services run, once all of them know both keys.

    Args:
        engine: an administrator's.

    Returns:
        How many were ``rewrapped``, ``kept`` (done before), or are ``unreadable``.
    """
    counts = Counter[str](rewrapped=0, kept=0, unreadable=0)
    for table, whose, key in _TABLES:
        _rewrap(engine, contacts, counts, table, whose, key)
    return counts


def _rewrap(engine: Any, contacts: Contacts, counts: Counter[str], table: str, whose: str, key: str) -> None:
    from cryptography.exceptions import InvalidTag

    some = f"select {whose}, {key} from {table} where {whose} > %s and {key} is not null order by {whose} limit %s"
    # a key that was erased meanwhile stays erased, and one that was replaced is under the new key already
    update = f"""
        update {table} k set {key} = n.new from unnest(%s::text[], %s::bytea[], %s::bytea[]) as n(whose, old, new)
        where k.{whose} = n.whose and k.{key} = n.old"""
    after = ""
    while True:
        with engine.begin() as connection:
            rows = [(account, bytes(wrapped)) for account, wrapped in connection.exec_driver_sql(some, (after, CHUNK))]
            if not rows:
                return
            after = rows[-1][0]
            made: list[tuple[str, bytes, bytes]] = []
            for account, wrapped in rows:
                try:
                    new = contacts.rewrap(account, wrapped)
                except InvalidTag:
                    counts["unreadable"] += 1
                    continue
                if new is None:
                    counts["kept"] += 1
                else:
                    made.append((account, wrapped, new))
            if made:
                columns = tuple(list(column) for column in zip(*made, strict=True))
                counts["rewrapped"] += connection.exec_driver_sql(update, columns).rowcount


def rewrap(stack: StackOption = "default", json: JsonOption = False) -> None:
    """Wrap the keys of subjects and documents under a new contact key.

    The new key is `GOODFAITH_CONTACT_KEY`; what is wrapped under `GOODFAITH_CONTACT_KEY_OTHER` is opened with that
    one. Exit code 1 if anything opens with neither.
    """
    from services.ops import installation
    from services.ops.terminal import console, print_json, progress
    from shared import db

    settings = installation.settings(stack)
    # a stack's own key, unless the environment names one
    keys = Settings() if os.environ.get("GOODFAITH_CONTACT_KEY") else settings
    contacts = contacts_of(keys)
    engine = db.administer(settings.database.get_secret_value())
    try:
        with progress("wrapping keys"):
            counts = rewrap_all(engine, contacts)
    finally:
        engine.dispose()
    console.print(", ".join(f"{name} {count}" for name, count in counts.items()))
    if json:
        print_json(dict(counts))
    if counts["unreadable"]:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(rewrap)
