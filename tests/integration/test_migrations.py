"""Migrations on a database in use: locks are waited for in short turns, and a contraction waits until it is asked for."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from shared import db, migrate
from tests.integration.databases import execute

pytestmark = pytest.mark.stack
CONTRACT = '''"""Of no use any more."""

from alembic import op

revision = "{revision}"
down_revision = "{down}"
phase = "{phase}"


def upgrade() -> None:
    op.execute("{statement}")
'''


@pytest.fixture
def url(stack: Stack, migrated: str) -> Iterator[str]:
    """A migrated database of its own."""
    name = f"migrations_{uuid.uuid4().hex[:8]}"
    execute(stack, f"create database {name} template {migrated}")
    yield stack.admin_url.rpartition("/")[0] + f"/{name}"
    execute(stack, f"drop database {name} with (force)")


@pytest.fixture
def revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Verification's revisions, to which others may be added."""
    there = migrate._folder("verification")
    copied = tmp_path / "verification"
    shutil.copytree(there, copied)
    real = migrate._folder
    monkeypatch.setattr(migrate, "_folder", lambda service: copied if service == "verification" else real(service))
    return copied / "versions"


def add(folder: Path, revision: str, phase: str, statement: str) -> None:
    down = max(path.name.split("_")[0] for path in folder.glob("*.py"))
    text = CONTRACT.format(revision=revision, down=down, phase=phase, statement=statement)
    (folder / f"{revision}_made.py").write_text(text)


def version(url: str) -> str:
    engine = db.administer(url, pooled=False)
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("select version_num from verification.alembic_version").scalar_one())


def test_a_contraction_waits_until_it_is_asked_for(url: str, revisions: Path) -> None:
    before = version(url)
    add(revisions, "9001", "expand", "create table newer (a int primary key)")
    add(revisions, "9002", "contract", "drop table listings")
    assert migrate.migrate(url, {}) == {"verification": "9002"}
    assert version(url) == "9001" > before
    assert migrate.migrate(url, {}) == {"verification": "9002"}
    assert migrate.migrate(url, {}, contract=True) == {}
    assert version(url) == "9002"
    migrate.migrate(url, {})
    assert version(url) == "9002"
    # of an earlier release by now: what the next one adds stands on it
    add(revisions, "9003", "expand", "create table newest (a int primary key)")
    assert migrate.migrate(url, {}) == {}
    assert version(url) == "9003"


def test_a_contraction_of_an_earlier_release_that_was_forgotten_is_made_up_for(url: str, revisions: Path) -> None:
    add(revisions, "9001", "contract", "drop table listings")
    add(revisions, "9002", "expand", "create table newer (a int primary key)")
    assert migrate.migrate(url, {}) == {}
    assert version(url) == "9002"


def test_a_table_in_use_is_waited_for_in_short_turns(
    url: str, revisions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 100)
    add(revisions, "9001", "expand", "alter table items add column newer text")
    engine = db.administer(url, pooled=False)
    session = engine.connect()
    begun = session.begin()
    session.exec_driver_sql("select count(*) from verification.items")
    before = version(url)
    monkeypatch.setattr(migrate, "LOCK_TRIES", 2)
    with pytest.raises(migrate.Waiting, match="verification: a table was in use"):
        migrate.migrate(url, {})
    assert version(url) == before
    monkeypatch.setattr(migrate, "LOCK_TRIES", 30)
    ended = threading.Timer(0.5, lambda: (begun.rollback(), session.close()))
    ended.start()
    migrate.migrate(url, {})
    ended.join()
    assert version(url) == "9001"


def test_a_revision_is_there_whole_or_not_at_all(url: str, revisions: Path) -> None:
    before = version(url)
    add(revisions, "9001", "expand", "create table newer (a int primary key); select 1 / 0")
    with pytest.raises(sa.exc.DataError, match="DivisionByZero"):
        migrate.migrate(url, {})
    assert version(url) == before
    engine = db.administer(url, pooled=False)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select to_regclass('verification.newer')").scalar_one() is None
