"""Revisions leave the version before alone; what would not is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from shared import migrate
from tools import migrations

SERVICES = (*migrate.SERVICES, *migrate.DEMO)
REVISION = """
from alembic import op

revision = "0001"
down_revision = None
{phase}

def upgrade() -> None:
    {body}
"""


def revision(folder: Path, body: str, phase: str = 'phase = "expand"') -> tuple[Config, Script]:
    """A service's only revision."""
    (folder / "versions").mkdir()
    (folder / "env.py").write_text("from shared.migrate import run_env\n\nrun_env()\n")
    (folder / "versions" / "0001_made.py").write_text(REVISION.format(phase=phase, body=body))
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config, next(iter(ScriptDirectory.from_config(config).walk_revisions()))


def rules(folder: Path, statement: str, phase: str) -> set[str]:
    config, made = revision(folder, f"op.execute({statement!r})", f'phase = "{phase}"')
    return {finding.rule for finding in migrations.lint(config, made)}


@pytest.mark.parametrize("service", SERVICES)
def test_every_revision_says_what_it_is_and_breaks_nothing(service: str) -> None:
    found = [finding for config, made in migrations.revisions(service) for finding in migrations.lint(config, made)]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("service", SERVICES)
def test_a_baseline_is_a_revision_and_stands_where_it_stood(service: str) -> None:
    script = ScriptDirectory.from_config(migrate.script(service))
    assert script.get_revision(migrations.BASELINE[service]) is not None
    assert len(list(migrations.revisions(service))) == len(list(script.walk_revisions())) - int(
        migrations.BASELINE[service]
    )


BREAKS = {
    "alter table a drop column b": "ban-drop-column",
    "drop table a": "ban-drop-table",
    "drop view a": "ban-drop-view",
    "alter table a drop constraint c": "ban-drop-constraint",
    "alter table a alter column b drop default": "ban-drop-default",
    "alter table a alter column b set not null": "adding-not-nullable-field",
}
NEVER = {
    "alter table a rename column b to c": "renaming-column",
    "alter table a rename to c": "renaming-table",
    "alter table a alter column b type bigint": "changing-column-type",
    "alter table a alter column b drop not null": "ban-drop-not-null",
    "alter table a add column b text not null": "adding-required-field",
    "create index i on a (b)": "require-concurrent-index-creation",
    "drop index i": "require-concurrent-index-deletion",
    "alter table a add constraint c check (b > 1)": "constraint-missing-not-valid",
    "alter table a add constraint c foreign key (b) references d": "adding-foreign-key-constraint",
    "alter table a add constraint c unique (b)": "disallowed-unique-constraint",
}
HARMLESS = (
    "alter table a add column b text",
    "alter table a add column b text not null default ''",
    "create table a (b int primary key, c text not null); create index i on a (c)",
    "alter table a add constraint c check (b > 1) not valid",
    "alter table a validate constraint c",
    "comment on column a.b is 'what it is'",
)


@pytest.mark.parametrize("statement", BREAKS)
def test_what_breaks_the_version_before_waits_for_a_contraction(tmp_path: Path, statement: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert BREAKS[statement] in rules(tmp_path / "one", statement, "expand")
    assert rules(tmp_path / "two", statement, "contract") == set()


@pytest.mark.parametrize("phase", ["expand", "contract"])
@pytest.mark.parametrize("statement", NEVER)
def test_what_breaks_this_version_or_locks_for_long_is_refused(tmp_path: Path, statement: str, phase: str) -> None:
    assert NEVER[statement] in rules(tmp_path, statement, phase)


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_only_adds_is_taken(tmp_path: Path, statement: str) -> None:
    assert rules(tmp_path, statement, "expand") == set()


def test_a_statement_may_be_excused_where_it_stands(tmp_path: Path) -> None:
    statement = "-- squawk-ignore ban-drop-not-null\nalter table a alter column b drop not null"
    assert rules(tmp_path, statement, "expand") == set()


def test_an_index_is_built_beside_the_traffic(tmp_path: Path) -> None:
    body = 'with op.get_context().autocommit_block():\n        op.execute("create index concurrently i on a (b)")'
    config, made = revision(tmp_path, body)
    assert "COMMIT;\n\ncreate index concurrently i on a (b);" in migrations.sql(config, made)
    assert migrations.lint(config, made) == []


def test_what_says_no_phase_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "three").mkdir()
    config, made = revision(tmp_path / "one", 'op.execute("select 1")', "")
    assert [finding.rule for finding in migrations.lint(config, made)] == ["no-phase"]
    config, made = revision(tmp_path / "two", 'op.get_bind().exec_driver_sql("select 1")')
    assert [finding.rule for finding in migrations.lint(config, made)] == ["not-rendered"]
    _, made = revision(tmp_path / "three", 'op.execute("select 1")', 'phase = "both"')
    with pytest.raises(ValueError, match="'both', not 'expand' or 'contract'"):
        migrate.phase(made)


def test_unreadable_sql_is_no_clean_bill() -> None:
    assert migrations.judge("alter tabel a drop column b", "contract")


@pytest.mark.parametrize(
    ("phases", "expanded"),
    [
        ("e", 1),
        ("eee", 3),
        ("eec", 2),
        ("eecc", 2),
        ("eece", 4),  # of an earlier release: nobody minds it any more
        ("ececc", 3),
    ],
)
def test_a_contraction_waits_unless_an_expansion_stands_on_it(phases: str, expanded: int) -> None:
    said: dict[str, migrate.Phase] = {"e": "expand", "c": "contract"}
    latest_first = [(str(number), said[letter]) for number, letter in enumerate(phases, 1)][::-1]
    assert migrate.newest(latest_first, contract=False) == str(expanded)
    assert migrate.newest(latest_first, contract=True) == str(len(phases))


def test_two_revisions_of_one_number_are_found(tmp_path: Path) -> None:
    for name in ("0001_one.py", "0002_two.py", "0002_other.py"):
        (tmp_path / name).write_text("")
    assert [(finding.path, finding.rule) for finding in migrations.doubled(tmp_path)] == [("0002", "doubled")]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_one_revision_of_a_number(service: str) -> None:
    assert migrations.doubled(Path(ScriptDirectory.from_config(migrate.script(service)).versions)) == []
