"""The tables that the services declare are those that the migrations create."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects.postgresql.base import ischema_names

import services.intake
from deploy.local.stack import Stack
from deploy.marketplace import tables as marketplace
from services.enforcement import tables as enforcement
from services.intake.kernel import tables as intake
from services.notification import tables as notification
from services.verification import tables as verification
from shared import db, migrate
from shared.columns import XID8

pytestmark = pytest.mark.stack

# each context of intake adds its tables to the same metadata
for path in sorted(Path(services.intake.__file__).parent.glob("*/tables.py")):
    importlib.import_module(f"services.intake.{path.parent.name}.tables")
ischema_names["xid8"] = XID8  # SQLAlchemy does not know this type

DECLARED: Final = {
    str(module.metadata.schema): module.metadata
    for module in (intake, verification, enforcement, notification, marketplace)
}
each_service = pytest.mark.parametrize("service", [*migrate.SERVICES, *migrate.DEMO])

CATALOG: Final = sa.text(
    """
    select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), l.collname
    from pg_class c join pg_attribute a on a.attrelid = c.oid left join pg_collation l on l.oid = a.attcollation
    where c.relnamespace = to_regnamespace(:schema) and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
        and c.relname <> 'alembic_version'
    union all
    select c.relname, k.conname, pg_get_constraintdef(k.oid), null from pg_class c join pg_constraint k on k.conrelid = c.oid
    where c.relnamespace = to_regnamespace(:schema) and c.relname <> 'alembic_version' and k.contype in ('c', 'f', 'p', 'u')
    union all
    select tablename, indexname, indexdef, null from pg_indexes
    where schemaname = :schema and tablename <> 'alembic_version'
    """
)


@pytest.fixture
def connection(stack: Stack, migrated: str) -> Iterator[sa.Connection]:
    """A transaction on a migrated database, which is rolled back."""
    engine = db.administer(stack.admin_url.rpartition("/")[0] + f"/{migrated}", pooled=False)
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def compared(connection: sa.Connection, metadata: sa.MetaData) -> list[Any]:
    """What Alembic would do to make the database as declared."""
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == metadata.schema,
            "version_table_schema": metadata.schema,
            "compare_server_default": True,
        },
    )
    return list(compare_metadata(context, metadata))


def described(connection: sa.Connection, schema: str) -> set[Any]:
    """Collations, constraints and indexes, as PostgreSQL describes them."""
    return {tuple(row) for row in connection.execute(CATALOG, {"schema": schema})}


def create_declared(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Replace the schema by one with the declared tables only."""
    connection.exec_driver_sql(f"drop schema {metadata.schema} cascade")
    connection.exec_driver_sql(f"create schema {metadata.schema}")
    metadata.create_all(connection, checkfirst=False)


@each_service
def test_migrations_create_what_is_declared(connection: sa.Connection, service: str) -> None:
    assert compared(connection, DECLARED[service]) == []


@each_service
def test_constraints_and_indexes_are_the_same(connection: sa.Connection, service: str) -> None:
    """Alembic does not compare primary keys, checks, predicates of partial indexes, or missing collations."""
    migrated = described(connection, service)
    create_declared(connection, DECLARED[service])
    assert described(connection, service) == migrated


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("alter table items alter column revision type bigint", "modify_type"),
        ("alter table items alter column claim drop not null", "modify_nullable"),
        ("alter table items add column newer text", "remove_column"),
        ("drop index items_due", "add_index"),
        ("create table newer (a int primary key)", "remove_table"),
        ("drop table listings", "add_table"),
    ],
)
def test_a_difference_is_found(connection: sa.Connection, change: str, found: str) -> None:
    connection.exec_driver_sql("set local search_path = verification")
    connection.exec_driver_sql(change)
    connection.exec_driver_sql("set local search_path = public")
    differences = compared(connection, DECLARED["verification"])
    assert {difference[0] if isinstance(difference, tuple) else difference[0][0] for difference in differences} == {
        found
    }


@pytest.mark.parametrize(
    "change",
    [
        "alter table gaps drop constraint gaps_reason_check",
        "alter table reads drop constraint reads_pkey, add primary key (topic, partition)",
        "alter table items alter column listing type text",
        "drop index items_due; create index items_due on items (partition, next_due) where next_due is null",
    ],
)
def test_a_difference_that_alembic_does_not_see_is_found(connection: sa.Connection, change: str) -> None:
    declared = DECLARED["verification"]
    before = described(connection, "verification")
    connection.exec_driver_sql("set local search_path = verification")
    connection.exec_driver_sql(change)
    connection.exec_driver_sql("set local search_path = public")
    assert compared(connection, declared) == []
    assert described(connection, "verification") != before
