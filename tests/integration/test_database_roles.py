"""Each service's login may write its own schema and no other; what is a record of what happened it may only add to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
import psycopg2.errors
import pytest

from deploy.local.stack import Stack
from deploy.local.up import prepare
from shared import migrate

pytestmark = pytest.mark.stack
ROLES = (*migrate.SERVICES, *migrate.DEMO)
CHANGES = ("update {0} set {1} = {1}", "delete from {0}", "truncate {0}")


class Logins:
    """A session of each role, and of the administrator."""

    def __init__(self, stack: Stack) -> None:
        self.sessions = {role: psycopg2.connect(stack.role_url(role)) for role in (*ROLES, "watch")}
        self.sessions["admin"] = psycopg2.connect(stack.admin_url)
        for session in self.sessions.values():
            session.autocommit = True

    def run(self, role: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement, which is rolled back."""
        session = self.sessions[role]
        with session.cursor() as cursor:
            cursor.execute("begin")
            try:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
            finally:
                cursor.execute("rollback")

    def denied(self, role: str, statement: str) -> bool:
        """Whether the role lacks the right to it."""
        try:
            self.run(role, statement)
        except psycopg2.errors.InsufficientPrivilege:
            return True
        return False

    def tables(self, schema: str) -> dict[str, str]:
        """Tables of a schema, each with a column."""
        rows = self.run(
            "admin",
            f"select table_name, min(column_name) from information_schema.columns join pg_tables on tablename = table_name"
            f" and schemaname = table_schema where table_schema = '{schema}' and is_generated = 'NEVER' and"
            f" is_identity = 'NO' group by table_name",
        )
        return {str(table): str(column) for table, column in rows}


@pytest.fixture(scope="module")
def logins(stack: Stack) -> Iterator[Logins]:
    prepare(stack)
    logins = Logins(stack)
    yield logins
    for session in logins.sessions.values():
        with contextlib.suppress(psycopg2.Error):
            session.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_no_other_schema(logins: Logins, role: str) -> None:
    for schema in ROLES:
        tables = logins.tables(schema)
        assert tables
        for table, column in tables.items():
            for statement in ("select from {0}", "insert into {0} default values", *CHANGES):
                if schema != role:
                    assert logins.denied(role, statement.format(f"{schema}.{table}", column)), (
                        schema,
                        table,
                        statement,
                    )


@pytest.mark.parametrize("role", ROLES)
def test_a_role_owns_nothing(logins: Logins, role: str) -> None:
    owned = logins.run("admin", f"select relname from pg_class where relowner = 'goodfaith_{role}'::regrole")
    assert owned == []
    for statement in (
        f"create table {role}.extra (n int)",
        f"alter table {role}.event_log add column extra int",
        f"drop table {role}.event_log",
        f"create schema {role}_extra",
        "create role extra",
        f"alter table {role}.event_log disable trigger all",
    ):
        assert logins.denied(role, statement), statement
    attributes = "rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication"
    assert logins.run("admin", f"select {attributes} from pg_roles where rolname = 'goodfaith_{role}'") == [(False,)]


@pytest.mark.parametrize("role", ROLES)
def test_logs_are_added_to_and_never_changed(logins: Logins, role: str) -> None:
    tables = logins.tables(role)
    kept = [name for name in tables if name.endswith("event_log")] + list(migrate.INSERT_ONLY.get(role, ()))
    assert kept
    for table in kept:
        for statement in CHANGES:
            assert logins.denied(role, statement.format(f"{role}.{table}", tables[table])), (table, statement)
        rights = f"has_table_privilege('goodfaith_{role}', '{role}.{table}', 'insert')"
        assert logins.run("admin", f"select {rights}") == [(True,)]
        assert not logins.denied(role, f"select from {role}.{table}")
    # and its other tables it may change
    assert not logins.denied(role, f"update {role}.cursors set next_offset = next_offset")


@pytest.mark.parametrize("role", ROLES)
def test_the_clock_and_the_migrations_are_read_only(logins: Logins, role: str) -> None:
    assert not logins.denied(role, "select business from platform.clock")
    insert = "insert into {0} default values"
    for table, column in (("platform.clock", "rate"), (f"{role}.alembic_version", "version_num")):
        for statement in (insert, *CHANGES):
            assert logins.denied(role, statement.format(table, column)), (table, statement)


def test_who_watches_sees_sessions_and_cursors_alone(logins: Logins) -> None:
    assert not logins.denied("watch", "select business from platform.clock")
    # another session's transaction is seen
    with logins.sessions["intake"].cursor() as cursor:
        cursor.execute("begin; select 1")
        seen = logins.run(
            "watch",
            "select count(*) from pg_stat_activity where usename = 'goodfaith_intake' and xact_start is not null",
        )
        cursor.execute("rollback")
    assert seen != [(0,)]
    for schema in ROLES:
        for table, column in logins.tables(schema).items():
            place = f"{schema}.{table}"
            assert logins.denied("watch", f"select from {place}") != table.endswith("cursors"), place
            for statement in ("insert into {0} default values", *CHANGES):
                assert logins.denied("watch", statement.format(place, column)), (place, statement)
