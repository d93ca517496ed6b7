"""Runbooks, and the on-call engineer who follows them: finds an alert's commands and runs them in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import deploy
from deploy.local.children import StackError
from deploy.local.stack import Stack

REPOSITORY: Final = Path(deploy.__file__).resolve().parents[1]
RUNBOOKS: Final = REPOSITORY / "docs" / "runbooks"
COMMAND_S: Final = 240.0
"""Seconds after which a command is killed."""


@dataclass(frozen=True, slots=True)
class CommandRun:
    """A command of a runbook, and its result."""

    command: str
    status: int
    output: str
    seconds: float

    @property
    def broken(self) -> str:
        """Why the command does not work as it stands in the runbook; empty if it works.

        It works if it finds something (`verify` and `status` then exit with 1).
        """
        if self.status in (2, 126, 127) or self.status < 0:
            return f"exit {self.status}"
        return "traceback" if "Traceback (most recent call last)" in self.output else ""


def blocks(text: str, heading: str) -> list[str]:
    """The `sh` blocks below a second-level heading of a runbook, in order; none if there is no such heading."""
    found = re.search(rf"^## {re.escape(heading)}\s*$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    return re.findall(r"^ *```sh\n(.*?)^ *```", found[1], flags=re.M | re.S) if found else []


class Engineer:
    """The engineer on call, who has the runbooks, a shell, and nothing else."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._folder = folder
        program = folder / "goodfaith"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m services.ops.cli "$@"\n')
        program.chmod(0o755)
        observers = stack.observers()
        self.env = {
            **os.environ,
            "PATH": f"{folder}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(REPOSITORY),
            "GOODFAITH_STACK_NAME": stack.name,
            "GOODFAITH_STATE_DIR": str(stack.dir.parent),
            # keep `goodfaith up` from setting the rules' clock back to normal
            "GOODFAITH_OBSERVE": "false",
            "GOODFAITH_PROMETHEUS_URL": observers["prometheus"],
            "GOODFAITH_ALERTMANAGER_URL": observers["alertmanager"],
        }

    def run(self, command: str) -> CommandRun:
        """Run lines of shell; after ``COMMAND_S`` seconds they are killed, with status -1."""
        begun = time.monotonic()
        shell = subprocess.Popen(
            ["sh", "-c", command],
            cwd=REPOSITORY,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = shell.communicate(timeout=COMMAND_S)
            status = shell.returncode
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, 9)
            output, _ = shell.communicate()
            status = -1
        return CommandRun(command.strip(), status, output[-4000:], time.monotonic() - begun)

    def steps(self, alert: str, heading: str) -> list[str]:
        """The commands below a heading of the alert's runbook, in order.

        Raises:
            StackError: the alert has no runbook.
        """
        book = RUNBOOKS / f"{alert}.md"
        if not book.exists():
            raise StackError(f"{alert} has no runbook")
        return blocks(book.read_text(encoding="utf-8"), heading)

    def run_all(self, commands: Sequence[str]) -> list[CommandRun]:
        """Run commands that only look, two at a time; their order does not matter."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.run, commands))
