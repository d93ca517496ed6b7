"""Secrets from files, as orchestrators mount them; a file may change while a process runs.

``GOODFAITH_X_FILE`` names the file that holds the setting ``GOODFAITH_X``. ``GOODFAITH_SECRETS_DIR`` names a folder of
such files, each called like the variable or the setting (``GOODFAITH_KAFKA_PASSWORD`` or ``kafka_password``).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

PREFIX: Final = "GOODFAITH_"
DIRECTORY: Final = "GOODFAITH_SECRETS_DIR"
MOST_BYTES: Final = 65_536
"""A private key has 4 KB, so anything larger is some other file."""
BESIDE_SECRETS: Final = ("kafka_user",)
"""Settings that are not secret but change together with a secret."""


class SecretFileError(ValueError):
    """A file cannot be used as a secret; the message names the setting and the cure, never the file's contents."""


def read(file: Path, variable: str) -> str:
    """A file's contents, without the line end that editors add.

    Args:
        variable: name of the variable, for the error message.

    Raises:
        SecretFileError: the file cannot be read, is empty, too large or not text.
    """
    try:
        with file.open("rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise SecretFileError(f"{variable} names {file}, which is not a file: name a regular one")
            raw = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise SecretFileError(
            f"{variable} names {file}, which cannot be read ({error.strerror}): mend path or mode"
        ) from None
    if len(raw) > MOST_BYTES:
        raise SecretFileError(
            f"{variable} names {file}, which has more than {MOST_BYTES} bytes: it holds the secret and nothing else"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable} names {file}, which is no UTF-8 text: write the secret as text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretFileError(f"{variable} names {file}, which is empty: write the secret into it")
    return text


class Present:
    """A setting's present value, read again from its file if it came from one. Its ``repr`` does not show it.

    If the file cannot be read for a moment (because it is being replaced), the last value counts.
    """

    def __init__(self, value: str, file: Path | None = None) -> None:
        self._value = value
        self._file = file

    def read(self) -> str:
        """The value."""
        if self._file is not None:
            with contextlib.suppress(SecretFileError):
                self._value = read(self._file, "")
        return self._value

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Kafka clients call this on a password for each connection."""
        return self.read().encode(encoding, errors)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "**********"


class PresentName(Present):
    """A user's name, which is not secret but comes from a file next to one that is."""

    def replace(self, old: str, new: str) -> str:
        """Kafka clients call this on a name for each connection."""
        return self.read().replace(old, new)

    def __repr__(self) -> str:
        return self._value


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret."""
    return "SecretStr" in str(field.annotation)


class Source(PydanticBaseSettingsSource):
    """Settings source for values that files hold.

    Args:
        given: fields that the caller passes itself, which take precedence.

    Raises:
        SecretFileError: when called: a file cannot be read, or a setting is given both directly and as a file.
    """

    def __init__(self, settings: type[BaseSettings], given: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._given = given
        self.files: dict[str, tuple[Path, str]] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One field's value, or None if no file holds it."""
        if field_name in self._given or not (is_secret(field) or field_name in BESIDE_SECRETS):
            return None, field_name, False
        variable = PREFIX + field_name.upper()
        # compose files set an empty variable where there is no file
        name = os.environ.get(f"{variable}_FILE", "")
        file, said = (Path(name), f"{variable}_FILE") if name else (self._mounted(field_name), DIRECTORY)
        if file is None:
            return None, field_name, False
        if os.environ.get(variable):
            if said == DIRECTORY:
                return None, field_name, False
            raise SecretFileError(f"{variable} and {variable}_FILE are both set: keep one of them")
        value = read(file, said)
        self.files[field_name] = (file, value)
        return value, field_name, False

    @staticmethod
    def _mounted(name: str) -> Path | None:
        folder = os.environ.get(DIRECTORY, "")
        if not folder:
            return None
        for spelled in (PREFIX + name.upper(), name):
            if (file := Path(folder, spelled)).exists():
                return file
        return None

    def __call__(self) -> dict[str, Any]:
        """All settings that files hold."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = SecretStr(value) if is_secret(field) else value
        return found
