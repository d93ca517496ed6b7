"""`goodfaith login`: sets and removes passwords at the broker and the database.

Each login has a second one with the same rights, so that one can replace the other while both are valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption, YesOption, confirm

if TYPE_CHECKING:
    from shared.settings import Settings

ITERATIONS: Final = 8192
"""Iterations of the hash that the broker keeps. Passwords are random, so more would only slow down each connection."""
SHORTEST: Final = 16
"""Minimum length of a password: anyone who has the hash can guess without limit."""

app = typer.Typer(
    no_args_is_help=True, help="Set passwords of logins at the broker and the database, or remove logins."
)

OtherOption = Annotated[bool, typer.Option("--other", help="Work on the second login, which can replace the first.")]
PasswordOption = Annotated[
    Path | None, typer.Option(help="File with the new password. (Other users could read an argument.)")
]
RemoveOption = Annotated[bool, typer.Option("--remove", help="Remove the login. Open connections continue.")]


def _settings(stack: str) -> Settings:
    from services.ops import installation

    return installation.settings(stack)


def _password(file: Path | None, remove: bool) -> str | None:
    """The new password; None: remove the login."""
    from shared import secret_files
    from shared.failures import CommandError

    if remove == (file is not None):
        raise CommandError("give either --password-file or --remove")
    if file is None:
        return None
    password = secret_files.read(file, "--password-file")
    if len(password) < SHORTEST:
        raise CommandError(f"the password in {file} has fewer than {SHORTEST} characters: take a random one")
    return password


def _say(user: str, password: str | None, json: bool) -> None:
    from services.ops.terminal import console, print_json

    console.print(f"{user}: {'removed' if password is None else 'password set'}", markup=False, highlight=False)
    if json:
        print_json({"login": user, "removed": password is None})


@app.command()
def broker(
    principal: Annotated[str, typer.Argument(help="intake, verification, ... or upstream.NAME: shared/access.py.")],
    other: OtherOption = False,
    password_file: PasswordOption = None,
    remove: RemoveOption = False,
    stack: StackOption = "default",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Set the password of a principal's login at the broker (SCRAM-SHA-512), or remove the login."""
    from shared import access
    from shared.failures import CommandError

    settings = _settings(stack)
    known = {one.name for one in access.principals(settings)}
    if principal not in known:
        raise CommandError(f"there is no principal {principal!r}, only {', '.join(sorted(known))}")
    password = _password(password_file, remove)
    user = access.login(settings, principal, other=other)
    confirm(f"Remove the login {user} at the broker?", yes=yes or not remove)
    at_broker(settings, {user: password})
    _say(user, password, json)


@app.command()
def database(
    service: Annotated[str, typer.Argument(help="intake, verification, ..., streams or watch.")],
    other: OtherOption = False,
    password_file: PasswordOption = None,
    remove: RemoveOption = False,
    stack: StackOption = "default",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Set the password of a service's database role or its second role (--other), or drop the second role."""
    from shared import migrate
    from shared.failures import CommandError

    if service not in (known := migrate.ROLES):
        raise CommandError(f"there is no service {service!r} with a role, only {', '.join(known)}")
    if remove and not other:
        raise CommandError(
            "a service's own role cannot be removed, because it holds the rights of both: set a random password instead"
        )
    password = _password(password_file, remove)
    confirm(f"Drop the second database role of {service}?", yes=yes or not remove)
    role = migrate.set_login(_settings(stack).database.get_secret_value(), service, password, other=other)
    _say(role, password, json)


def at_broker(settings: Settings, passwords: Mapping[str, str | None]) -> None:
    """Set passwords of the broker's users (SCRAM-SHA-512). None removes one; removing one that is missing is no error.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached, or refuses.
    """
    from kafka.admin import UserScramCredentialDeletion, UserScramCredentialUpsertion
    from kafka.errors import KafkaError

    from shared import kafka_links

    if not passwords:  # all log in with certificates
        return
    admin: Any = kafka_links.admin(settings, client_id="goodfaith-logins")
    try:
        there = admin.describe_user_scram_credentials()
        answers = admin.alter_user_scram_credentials(
            [
                UserScramCredentialDeletion(user, kafka_links.MECHANISM)
                if password is None
                else UserScramCredentialUpsertion(user, kafka_links.MECHANISM, password, iterations=ITERATIONS)
                for user, password in passwords.items()
                if password is not None or user in there
            ]
        )
    finally:
        admin.close()
    if failed := {user: error for user, error in answers.items() if error}:
        raise KafkaError(f"logins could not be changed: {failed}")


def register(commands: typer.Typer) -> None:
    """Add this module's commands."""
    commands.add_typer(app, name="login")
