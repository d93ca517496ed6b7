"""The installation that a command works on: the one the environment names, else a local stack.

An installation is named by ``GOODFAITH_KAFKA`` and ``GOODFAITH_DATABASE`` (or the file of secrets that holds the URL). A local
stack is found by its name: `goodfaith up` writes its operator's settings to ``<state_dir>/<stack>/operator.json``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final
from unittest import mock

from shared.failures import Unavailable
from shared.settings import Settings

FILE: Final = "operator.json"
"""In a local stack's folder: environment variables and their values. Readable by its owner alone, since secrets are among them."""


def settings(stack: str = "default") -> Settings:
    """The operator's settings, secrets included.

    Raises:
        Unavailable: the environment names no installation, and no local stack of that name was started.
        pydantic.ValidationError: a setting is wrong.
    """
    own = Settings()
    if own.model_fields_set >= {"kafka", "database"}:
        return own
    try:
        kept: dict[str, str] = json.loads((own.state_dir / stack / FILE).read_bytes())
    except FileNotFoundError:
        raise Unavailable(
            f"no local stack {stack!r} was started here: start it with `goodfaith up`, or name an installation by"
            " GOODFAITH_KAFKA and GOODFAITH_DATABASE"
        ) from None
    return read(kept)


def read(environment: dict[str, str]) -> Settings:
    """Settings as a process with these variables would read them, beside the ones that this process has."""
    with mock.patch.dict(os.environ, environment):
        return Settings()


def folder(stack: str) -> Path:
    """Where commands keep the files they write: the local stack's folder, whether or not it exists."""
    return Settings().state_dir / stack
