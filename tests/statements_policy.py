"""A policy that asks for statements of reasons, for tests: `ipp` under another name, with a table `[statements]`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from shared import calendars, policy
from shared.events import RightType

VERSION = "sor-2026-11"
TABLE = """
[statements]
enabled = true
territorial_scope = ["DE", "FR", "NL"]
facts = "A right holder filed a notice under Article 16 against the listing."
"""


def text(table: str = TABLE) -> str:
    """The policy's document."""
    ipp = (policy.FOLDER / "ipp-2026-11.toml").read_text(encoding="utf-8")
    renamed = ipp.replace('profile = "ipp"', 'profile = "sor"').replace('"ipp-2026-11"', f'"{VERSION}"')
    grounds = "".join(
        f'[statements.grounds.{kind}]\nlegal_ground = "The law of {kind}"\nexplanation = "It infringes a {kind}."\n'
        for kind in get_args(RightType)
    )
    return renamed + table + grounds


def write(folder: Path) -> None:
    """Write a folder with all policies and this one."""
    folder.mkdir(exist_ok=True)
    for path in policy.FOLDER.glob("*.toml"):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / f"{VERSION}.toml").write_text(text(), encoding="utf-8")
    assert (folder / calendars.FILE.name).exists()
