"""The quick start's page shows the commands of its script, and the script says what is missing before it begins."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.local.children import StackError
from deploy.local.stack import Stack
from deploy.local.up import shell_variables
from shared.failures import CommandError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/quickstart.sh"
PAGE = ROOT / "docs/tutorials/quickstart.md"


def commands() -> list[str]:
    """Lines of the script between its two marks, without comments and what it tells the reader."""
    _, _, rest = SCRIPT.read_text(encoding="utf-8").partition("# ---- from here on")
    part, _, _ = rest.partition("# ---- the end")
    assert part
    return [line for line in part.splitlines()[1:] if line and not line.startswith(("#", "say "))]


def test_the_page_has_the_scripts_commands_in_order() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    shown = [line for block in blocks for line in block.splitlines() if line]
    assert len(blocks) > 10
    assert shown == commands()


def test_nothing_on_the_page_can_be_mistaken_for_a_comment() -> None:
    """An interactive zsh takes `#` for a command."""
    assert not [line for line in commands() if re.search(r"(^|\s)#", line)]


def test_the_page_has_80_columns() -> None:
    assert not [line for line in PAGE.read_text(encoding="utf-8").splitlines() if len(line) > 80]


def test_the_page_names_every_variable_that_is_printed_and_used() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", text, flags=re.M))
    given = {"INTAKE", "OPERATOR_TOKEN", "MARKETPLACE", "MARKETPLACE_TOKEN", "KAFKA", "MAILBOX"}
    assert named == given
    script = "\n".join(commands())
    used = set(re.findall(r"\$([A-Z][A-Z_]*)", script))
    assert used - set(re.findall(r"^([A-Z][A-Z_]*)=", script, flags=re.M)) - {"STATE"} <= given


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The shell, with nothing in its environment."""
    return subprocess.run(["sh", *arguments], env={"PATH": os.defpath}, capture_output=True, text=True, check=False)


def test_the_script_is_of_the_shell_that_there_is() -> None:
    assert run("-n", SCRIPT).returncode == 0


def test_the_script_says_what_is_missing() -> None:
    done = run(SCRIPT)
    assert done.returncode == 1
    assert "goodfaith env" in done.stderr


def test_tokens_are_printed_for_a_local_stack_only(tmp_path: Path) -> None:
    elsewhere = Stack(tmp_path, "elsewhere")
    elsewhere.ours = False
    with pytest.raises(CommandError, match="local stack only"):
        shell_variables(elsewhere)
    with pytest.raises(StackError, match=r"not running .*intake-api\.0"):
        shell_variables(Stack(tmp_path, "stopped"))
