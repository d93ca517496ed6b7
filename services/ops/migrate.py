"""`goodfaith migrate|settings`: brings roles, schemas and topics up to date, and lists all settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr
from rich.padding import Padding
from rich.text import Text

from services.ops import installation
from services.ops.terminal import JsonOption, StackOption, YesOption, confirm, console, print_json, progress
from shared.failures import CommandError
from shared.migrate import ROLES
from shared.settings import Settings

MOST_PASSWORD: Final = 1000
BROKER_S: Final = 60.0
"""Wall seconds for which `migrate` retries while the broker refuses."""


def secure_broker(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Set up the broker's logins, topics and permissions. Idempotent.

    Args:
        passwords: By principal; principals without one log in with certificates.
    """
    from services.ops.broker.login import at_broker
    from services.ops.broker.topics import apply_to
    from shared import access

    at_broker(settings, {access.login(settings, name): password for name, password in passwords.items()})
    if refusals := apply_to(settings).refusals:
        raise CommandError("\n".join(map(str, refusals)))


def migrate(
    stack: StackOption = "default",
    passwords: Annotated[
        Path | None,
        typer.Option(
            envvar="GOODFAITH_PASSWORDS_DIR",
            exists=True,
            file_okay=False,
            help="Folder of password files: one for each database role (goodfaith_intake, ...) and, if the broker has"
            " logins, one for each of those (intake_kafka_password, ...).",
        ),
    ] = None,
    contract: Annotated[
        bool,
        typer.Option("--contract", help="Remove what only the previous version needed, once it no longer runs."),
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Bring roles, schemas and topics up to date.

    Works on the installation that the environment names, otherwise on the local stack. For an installation,
    `GOODFAITH_DATABASE` must be the URL of a role that may create roles and schemas. Passwords without a file stay as
    they are. If the folder has passwords of broker logins, their permissions are set too (`goodfaith topics apply`).
    """
    import stamina
    from kafka.errors import KafkaError

    from shared import migrate as migrations
    from shared import topics

    confirm("Remove what only the previous version needed?", yes=yes or not contract)
    own = installation.settings(stack)
    given = read_passwords(passwords) if passwords is not None else {}
    logins = read_broker_passwords(own, passwords) if passwords is not None else {}
    with progress("migrating schemas") as tell:
        left = migrations.migrate(own.database.get_secret_value(), given, contract=contract)
        tell("creating topics")
        # a broker that has just started refuses for a moment
        for attempt in stamina.retry_context(on=KafkaError, timeout=BROKER_S, attempts=None, wait_max=2.0):
            with attempt:
                if logins:
                    secure_broker(own, logins)
                else:
                    topics.create(own)
    console.print("roles, schemas and topics are up to date")
    if left:
        what = ", ".join(f"{service} {revision}" for service, revision in left.items())
        console.print(f"once every process is of this version: goodfaith migrate --contract ({what})", markup=False)
    if json:
        print_json({"left": left})


def read_passwords(folder: Path) -> dict[str, str]:
    """Read passwords from files `goodfaith_<role>`, by the role's short name. A role without one keeps its password.

    Raises:
        CommandError: there is no such file, or one cannot be a password; the message says which.
    """
    found = _passwords({role: folder / f"goodfaith_{role}" for role in ROLES})
    if not found:
        names = ", ".join(f"goodfaith_{role}" for role in ROLES)
        raise CommandError(f"no role's password is in {folder}: it holds files named {names}")
    return found


def read_broker_passwords(settings: Settings, folder: Path) -> dict[str, str]:
    """Read passwords of broker logins from those files `<principal>_kafka_password` that exist, by principal.

    Raises:
        CommandError: one cannot be a password; the message names the file.
    """
    from shared import access

    names = [one.name for one in access.principals(settings)]
    return _passwords({name: folder / f"{name}_kafka_password" for name in names})


def _passwords(files: Mapping[str, Path]) -> dict[str, str]:
    found = {}
    for name, file in files.items():
        if not file.exists():
            continue
        try:
            password = file.read_bytes()[: MOST_PASSWORD + 2].decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise CommandError(f"{file} cannot be read as text: write the password into it") from None
        if not 8 <= len(password) <= MOST_PASSWORD or not password.isprintable():
            raise CommandError(f"{file}: a password has 8 to {MOST_PASSWORD} printable characters on one line")
        found[name] = password
    return found


def settings(json: JsonOption = False) -> None:
    """List every setting: environment variable, current value, default and meaning. Secrets are masked."""
    present = Settings()
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        variable = f"GOODFAITH_{name.upper()}"
        default, value = field.get_default(call_default_factory=True), getattr(present, name)
        # a default URL holds no secret and shows the format; the current one may hold a password
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        values[variable] = str(value) if isinstance(value, SecretStr | Path) else value
        style = "bold" if variable in os.environ else None
        console.print(f"{variable}={_text(values[variable])}", style=style, markup=False, highlight=False)
        if _text(plain) != _text(values[variable]):
            console.print(f"    Default: {_text(plain)}", markup=False, highlight=False)
        console.print(Padding(Text(field.description or ""), (0, 0, 0, 4)))
    if json:
        print_json({"settings": values})


def _text(value: object) -> str:
    return "" if value is None else str(value)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(migrate)
    app.command()(settings)
