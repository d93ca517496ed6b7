"""``python -m tools.migrations``: checks that the previous version can run alongside each revision.

Alembic writes the SQL of a revision, and squawk judges whether a statement breaks code that does not know of it, or
locks a table for as long as it takes to scan it. A revision says ``phase = "expand"`` or ``phase = "contract"``. What
may break the previous version belongs in the latter, which ``goodfaith migrate`` leaves out while that version runs.

Not judged: statements on data (``update``, ``delete``, ``truncate``), grants, and what a trigger does. To excuse a
statement that is right nevertheless, write ``-- squawk-ignore RULE`` there, with the reason.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from shared import migrate

POSTGRES: Final = "15.0"
"""The oldest supported server. Statements that lock a table for long there are refused."""
BASELINE: Final = dict.fromkeys(("intake", "verification", "enforcement", "notification", "marketplace"), "0001")
"""Revisions up to these are not judged: no version ran before them."""
EXCLUDED: Final = {
    "require-lock-timeout": "`shared.migrate` sets it, and tries again",
    "require-statement-timeout": "validating a constraint or building an index may take long without harm",
    "prefer-text-field": "style",
    "prefer-bigint-over-int": "partitions, counts and revisions are small",
    "prefer-bigint-over-smallint": "the same",
    "prefer-identity": "style",
    "prefer-robust-stmts": "a revision is one transaction",
}
"""Rules of squawk that we do not apply, and why."""
CONTRACTS: Final = frozenset(
    {
        "ban-drop-column",
        "ban-drop-table",
        "ban-drop-view",
        "ban-drop-function",
        "ban-drop-constraint",
        "ban-drop-default",
        "ban-drop-trigger",
        "adding-not-nullable-field",
    }
)
"""Allowed once the previous version is gone. Renaming never is, since this version knows only one of the names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a revision must not do."""

    path: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}: {self.message}"


class _Violation(msgspec.Struct):
    rule_name: str
    message: str
    help: str | None = None


def sql(config: Config, revision: Script) -> str:
    """The SQL of one revision, as Alembic would run it.

    Raises:
        Exception: the revision does something that needs a connection, such as ``op.get_bind()``.
    """
    out = io.StringIO()
    config.output_buffer = out
    command.upgrade(config, f"{revision.down_revision or 'base'}:{revision.revision}", sql=True)
    return out.getvalue()


def judge(text: str, phase: migrate.Phase) -> list[tuple[str, str]]:
    """(rule, message) for everything that the SQL must not do in this phase.

    Raises:
        FileNotFoundError: squawk is not installed (the development requirements include it).
        ValueError: squawk cannot read it.
    """
    # next to this interpreter first, in case its environment is not activated
    found = shutil.which("squawk", path=sysconfig.get_path("scripts")) or shutil.which("squawk")
    if found is None:
        raise FileNotFoundError("squawk is not installed: `make setup`")
    done = subprocess.run(
        [found, "--reporter", "json", "--pg-version", POSTGRES, "--exclude", ",".join(EXCLUDED)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        violations = msgspec.json.decode(done.stdout, type=list[_Violation])
    except msgspec.DecodeError:
        raise ValueError(f"squawk: {done.stderr or done.stdout}") from None
    return [
        (one.rule_name, one.message + (f" {one.help}" if one.help else ""))
        for one in violations
        if not (phase == "contract" and one.rule_name in CONTRACTS)
    ]


def revisions(service: str) -> Iterator[tuple[Config, Script]]:
    """A service's revisions after its baseline, oldest first."""
    config = migrate.script(service)
    judged = []
    for revision in ScriptDirectory.from_config(config).walk_revisions():
        if revision.revision == BASELINE.get(service):
            break
        judged.append(revision)
    return ((config, revision) for revision in reversed(judged))


def doubled(folder: Path) -> list[Finding]:
    """Numbers that two revisions share, as after a merge. Alembic only warns, and takes one of them."""
    numbers = Counter(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))
    return [
        Finding(number, "doubled", "two revisions have this number: put one on top of the other")
        for number, count in sorted(numbers.items())
        if count > 1
    ]


def lint(config: Config, revision: Script) -> list[Finding]:
    """What is wrong with one revision."""
    path = str(Path(revision.path).name)
    if not hasattr(revision.module, "phase"):
        return [Finding(path, "no-phase", 'it must say phase = "expand" or phase = "contract"')]
    try:
        text = sql(config, revision)
    except Exception as error:
        return [Finding(path, "not-rendered", f"{error!r}: its statements must go through op.execute alone")]
    return [Finding(path, rule, message) for rule, message in judge(text, migrate.phase(revision))]


def main() -> int:
    """Judge all revisions. Returns the exit code."""
    services = (*migrate.SERVICES, *migrate.DEMO)
    twice = [
        (service, finding)
        for service in services
        for finding in doubled(Path(ScriptDirectory.from_config(migrate.script(service)).versions))
    ]
    for service, finding in twice:
        sys.stderr.write(f"{service}: {finding}\n")
    if twice:
        return 1
    every = [(service, config, revision) for service in services for config, revision in revisions(service)]
    found = [(service, finding) for service, config, revision in every for finding in lint(config, revision)]
    for service, finding in found:
        sys.stderr.write(f"{service}: {finding}\n")
    sys.stdout.write(f"{len(every)} revisions judged, {len(found)} findings\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
