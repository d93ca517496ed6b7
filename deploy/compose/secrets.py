"""The secrets of a compose installation: one file each, generated once from random bytes, never overwritten."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.local import fleet, postgres, secured, server_images
from deploy.local.authority import Authority
from deploy.local.stack import new_secret
from shared import callers
from shared.failures import CommandError

HOST: Final = "postgres"
"""Host name of the database's container."""
BROKER_HOSTS: Final = ("kafka", "127.0.0.1")
"""Host names of the broker's container."""
VALID: Final = dt.timedelta(days=3650)
"""Validity of the broker's certificates, which only these containers trust."""


def write(folder: Path) -> list[str]:
    """Generate the missing secrets; returns their names.

    Only the owner can enter the folder (0700). The files in it are readable by everyone (0444): a container runs as a
    different user from the one who started it, and the engine mounts the file itself.

    Raises:
        CommandError: the folder is open to others, or cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            raise CommandError(f"{folder} is open to others; `chmod 700 {folder}`, or name a folder of its own")
        return _fill(folder)
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}") from None


def _fill(folder: Path) -> list[str]:
    made: list[str] = []

    def put(name: str, text: str) -> None:
        fresh = folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        # renamed once complete: half a key would pass for a whole one
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(text)
            os.fchmod(opened.fileno(), 0o444)
        fresh.rename(folder / name)
        made.append(name)

    def keep(name: str, make: Callable[[], str]) -> str:
        file = folder / name
        if not file.exists():
            put(name, make())
        return file.read_text(encoding="utf-8").strip()

    for name in fleet.KEPT:
        keep(name, lambda name=name: new_secret(name))  # type: ignore[misc]
    tokens = {caller: (folder / name).read_text(encoding="utf-8").strip() for caller, name in fleet.CALLERS.items()}
    keep("internal_callers", lambda: callers.written(tokens))
    administrator = keep("postgres_password", lambda: secrets.token_hex(24))
    keep("admin_database", lambda: _url(postgres.SUPERUSER, administrator))
    for role in fleet.ROLES:
        password = keep(f"{role}_password", lambda: secrets.token_hex(24))
        keep(f"{role}_database", lambda role=role, password=password: _url(f"goodfaith_{role}", password))  # type: ignore[misc]
    for principal in fleet.PRINCIPALS:
        keep(f"{principal}_kafka_password", secured.new_password)
    if not all((folder / name).exists() for name in LINKS):
        for name, text in _links().items():
            put(name, text)
    keep("grafana_password", lambda: secrets.token_urlsafe(18))
    return made


LINKS: Final = ("kafka_ca", "kafka_broker", "kafka_operator_certificate", "kafka_operator_key")
"""Certificates of the broker and its operator: issued together, since the authority's key is not kept."""


def _links() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as place:
        authority = Authority(Path(place), "goodfaith broker authority", VALID)
        broker = authority.issue(secured.BROKER, BROKER_HOSTS)
        operator = authority.issue(secured.user(secured.OPERATOR))
        files = (authority.certificate, broker.both, operator.certificate, operator.key)
        return {name: file.read_text(encoding="utf-8") for name, file in zip(LINKS, files, strict=True)}


def _url(login: str, password: str) -> str:
    return f"postgresql://{login}:{password}@{HOST}:{server_images.POSTGRES_PORT}/{postgres.DATABASE}"
