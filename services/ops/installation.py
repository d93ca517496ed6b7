"""The installation that a command works on: the one that the environment names, otherwise a local stack.

``GOODFAITH_KAFKA`` and ``GOODFAITH_DATABASE`` (or the secret file that holds the URL) name an installation. A local
stack is found by its name: `goodfaith up` writes its operator's settings to ``<state_dir>/<stack>/operator.json``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final
from unittest import mock

from shared.failures import CommandError, Unavailable
from shared.settings import Settings

FILE: Final = "operator.json"
"""File in a local stack's folder with environment variables. Only its owner can read it, since it contains secrets."""


def settings(stack: str = "default") -> Settings:
    """The operator's settings, secrets included.

    Raises:
        CommandError: `GOODFAITH_DATABASE` is not a URL.
        Unavailable: the environment names no installation, and no local stack of that name has been started.
        pydantic.ValidationError: a setting is wrong.
    """
    own = Settings()
    if own.model_fields_set >= {"kafka", "database"}:
        _check(own)
        return own
    try:
        kept: dict[str, str] = json.loads((own.state_dir / stack / FILE).read_bytes())
    except FileNotFoundError:
        raise Unavailable(
            f"no local stack {stack!r} was started here: start it with `goodfaith up`, or name an installation by"
            " GOODFAITH_KAFKA and GOODFAITH_DATABASE"
        ) from None
    return read(kept)


def _check(settings: Settings) -> None:
    import sqlalchemy as sa

    try:
        sa.make_url(settings.database.get_secret_value())
    except (sa.exc.ArgumentError, ValueError):
        # not the reason, which may quote a password
        raise CommandError(
            "GOODFAITH_DATABASE is not a database's URL, such as postgresql://name:password@host:5432/database"
        ) from None


def read(environment: dict[str, str]) -> Settings:
    """Read settings as a process would that has these variables in addition to our own."""
    with mock.patch.dict(os.environ, environment):
        return Settings()


def folder(stack: str) -> Path:
    """The local stack's folder, to which commands write their files. It may not exist yet."""
    return Settings().state_dir / stack
