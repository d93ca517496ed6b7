"""Failures of a command that its user can fix. The message says how; a traceback never does."""

from __future__ import annotations

from typing import ClassVar


class CommandError(Exception):
    """The command was asked for something it cannot do."""

    exit_code: ClassVar[int] = 2


class Unavailable(CommandError):
    """Something the command needs does not answer; the same command may work later."""

    exit_code: ClassVar[int] = 75


class Finding(CommandError):
    """The command ended because of what it found; the message says what."""

    exit_code: ClassVar[int] = 1
