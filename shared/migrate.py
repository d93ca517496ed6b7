"""Roles, schemas and migrations: what an administrator runs before the services first start and at each upgrade.

Each service has its own role (``goodfaith_<service>``). The role owns nothing and may write only in its own schema,
where event logs and the tables in ``INSERT_ONLY`` are insert-only. The clock (schema ``platform``) is read-only for
all roles.

Revisions *expand* (the previous version can live with them) or *contract* (they remove what it still needed); see
``docs/decisions/0047-expand-then-contract.md`` and ``tools/migrations.py``, which checks their SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa
import stamina
from alembic import command, context
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.exc import OperationalError

from shared import clock, db
from shared.failures import Unavailable

Phase = Literal["expand", "contract"]

SERVICES: Final = ("intake", "verification", "enforcement", "notification")
DEMO: Final = ("marketplace",)
INSERT_ONLY: Final = {
    "intake": (
        "submissions",
        "right_changes",
        "authorisation_changes",
        "account_changes",
        "lifts",
        "evidence_reads",
        "good_faith_history",
        "good_faith_declarations",
        "misuse_history",
    )
}
"""Tables, besides the event logs, that a service may add to but never change: what it is accountable for."""
READS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "streams": {
        "verification.items": ("partition", "state", "reason", "body"),
        "verification.event_log": ("partition", "seq", "topic"),
        "enforcement.violations": ("seller", "in_force", "severity", "at"),
        "enforcement.violation_items": ("seller", "in_force"),
        "enforcement.standings": ("seller", "partition", "violations", "general_points", "serious_strikes"),
        "enforcement.sanctions": ("seller", "ledger", "level", "state"),
        "enforcement.ledger_event_log": ("partition", "seq", "topic"),
        "enforcement.ledger_cursors": ("partition", "topic", "next_offset"),
        "intake.good_faith_standings": ("account", "state", "barred_until"),
        "intake.event_log": ("partition", "seq", "topic", "type"),
        "intake.admission_queue": ("partition", "type", "kind", "claim"),
        "intake.claims": ("id", "complainant", "size", "channel", "accepted_at", "told_partition"),
    },
    # how far each worker has read
    "watch": dict.fromkeys(
        (
            "intake.cursors",
            "intake.inbound_cursors",
            "verification.cursors",
            "enforcement.cursors",
            "enforcement.ledger_cursors",
            "notification.cursors",
            "marketplace.cursors",
        ),
        ("topic", "partition", "next_offset"),
    ),
}
"""Services without tables, and the columns that each may read besides the clock, for reconciliation and lag."""
MEMBERS: Final = {"watch": "pg_monitor"}
"""PostgreSQL's predefined roles that they are members of: shows other sessions, and sizes."""
PARTY: Final = "goodfaith_intake_party"
"""The role that intake assumes to read for a party: no login, no writes, only rows that row-level policies allow."""
PARTY_READS: Final = (
    "claims",
    "items",
    "timeline",
    "commands",
    "texts",
    "messages",
    "rights",
    "right_changes",
    "authorisations",
    "authorisation_changes",
)
"""Tables of intake that are read for parties under this role; each has row-level security."""
ROLES: Final = (*SERVICES, *DEMO, *READS)
"""Services with a role of their own."""
OTHER: Final = "_other"
"""Suffix of a second role that is a member of the first. Both passwords are valid while one replaces the other."""
_LOCK: Final = 0x600DFA17
LOCK_TIMEOUT_MS: Final = 4_000
"""Longest wait of a revision for a table: everybody else who wants the table queues up after it meanwhile."""
LOCK_TRIES: Final = 30


class Waiting(Unavailable):
    """A revision did not get its locks despite retries; the message names the service. Nothing is left half done."""


def _folder(service: str) -> Path:
    root = Path(__file__).resolve().parent.parent
    return root / ("deploy" if service in DEMO else "services") / service / "migrations"


def script(service: str) -> Config:
    """Alembic's configuration for one service's revisions."""
    config = Config()
    # `%` would begin an interpolation
    config.set_main_option("script_location", str(_folder(service)).replace("%", "%%"))
    return config


def phase(revision: Script) -> Phase:
    """The phase that a revision declares; one without a declaration expands.

    Raises:
        ValueError: it declares something else.
    """
    said = getattr(revision.module, "phase", "expand")
    if said not in ("expand", "contract"):
        raise ValueError(f"{revision.path}: phase is {said!r}, not 'expand' or 'contract'")
    return "contract" if said == "contract" else "expand"


def newest(phases: Iterable[tuple[str, Phase]], *, contract: bool) -> str:
    """The revision to go to: the latest, or the latest that expands.

    A contraction followed by an expansion belongs to an earlier release: no version that needs the old schema runs any
    more.

    Args:
        phases: revisions with their phases, latest first.
        contract: go to the latest.

    Raises:
        StopIteration: none expands.
    """
    return next(revision for revision, said in phases if contract or said == "expand")


def migrate(admin_url: str, passwords: Mapping[str, str], *, contract: bool = False) -> dict[str, str]:
    """Bring the database up to date. Idempotent; safe to run concurrently and while the previous version runs.

    Args:
        admin_url: URL of a role that may create roles and schemas.
        passwords: password of each service's role; services that are left out keep the password they have.
        contract: remove what only the previous version needed. It must no longer run, and you cannot go back to it. A
            new installation is always brought to the latest revision.

    Returns:
        By service, the contraction that remains to be done; services without one are left out.

    Raises:
        Waiting: a table was in use for minutes; what was done until then is kept.
    """
    left = {}
    engine = db.administer(admin_url, autocommit=True)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.exec_driver_sql(clock.DDL)
            # row-level policies name them
            for reader in READS:
                _role(connection, reader, None)
            _party(connection)
            for service in (*SERVICES, *DEMO):
                if _folder(service).is_dir():
                    reached, latest = _migrate_one(connection, service, passwords.get(service), contract)
                    if reached != latest:
                        left[service] = latest
            for reader, columns in READS.items():
                _let_read(connection, reader, columns, passwords.get(reader))
    finally:
        engine.dispose()  # ends the session and its lock, whatever happened
    return left


def set_login(admin_url: str, service: str, password: str | None, *, other: bool = False) -> str:
    """Set the password of a service's role or, if ``other``, of its second role. Returns the role's name.

    Args:
        service: one of ``ROLES``; its own role exists.
        password: None: drop the second role, once nobody is logged in with it.

    Raises:
        ValueError: asked to drop the service's own role.
        sqlalchemy.exc.DBAPIError: the service has no role yet, or the database cannot be reached.
    """
    if password is None and not other:
        raise ValueError("a service's own role stays")
    role = f"goodfaith_{service}" + (OTHER if other else "")
    engine = db.administer(admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        if password is None:
            connection.exec_driver_sql(f"drop role if exists {role}")
        else:
            _role(connection, role.removeprefix("goodfaith_"), password)
            if other:
                connection.exec_driver_sql(f"grant goodfaith_{service} to {role}")
    return role


def _role(connection: sa.Connection, service: str, password: str | None) -> str:
    """Create a service's role if it is missing, and set its password. Returns the role."""
    role = f"goodfaith_{service}"
    exists = connection.execute(
        sa.text("select exists (select from pg_roles where rolname = :r)"), {"r": role}
    ).scalar()
    if not exists:
        connection.exec_driver_sql(f"create role {role} login")
    if password is not None:
        # the server hashes it; format() quotes it
        statement = connection.execute(
            sa.text("select format('alter role %I password %L', cast(:r as text), cast(:p as text))"),
            {"r": role, "p": password},
        ).scalar_one()
        connection.exec_driver_sql(statement.replace("%", "%%"))
    return role


def _party(connection: sa.Connection) -> None:
    """Create the role under which intake reads for parties, and let intake assume it."""
    intake = _role(connection, "intake", None)
    known = sa.text("select exists (select from pg_roles where rolname = :r)")
    if not connection.execute(known, {"r": PARTY}).scalar():
        connection.exec_driver_sql(f"create role {PARTY} nologin")
    # if somebody else manages the roles, this administrator may not be able to grant them
    member = sa.text("select pg_has_role(:i, :r, 'member')")
    if not connection.execute(member, {"i": intake, "r": PARTY}).scalar():
        connection.exec_driver_sql(f"grant {PARTY} to {intake}")


def _let_read(
    connection: sa.Connection, reader: str, columns: Mapping[str, tuple[str, ...]], password: str | None
) -> None:
    role = _role(connection, reader, password)
    for schema in sorted({table.partition(".")[0] for table in columns} | {"platform"}):
        connection.exec_driver_sql(f"grant usage on schema {schema} to {role}")
    connection.exec_driver_sql(f"grant select on platform.clock to {role}")
    for table, names in columns.items():
        connection.exec_driver_sql(f"grant select ({', '.join(names)}) on {table} to {role}")
    if reader in MEMBERS:
        connection.exec_driver_sql(f"grant {MEMBERS[reader]} to {role}")


def _migrate_one(connection: sa.Connection, service: str, password: str | None, contract: bool) -> tuple[str, str]:
    """Migrate one service's schema. Returns the revision that it has reached, and the latest."""
    role = _role(connection, service, password)
    connection.exec_driver_sql(f"create schema if not exists {service}")
    config = script(service)
    new = not connection.execute(
        sa.text("select exists (select from pg_tables where schemaname = :s)"), {"s": service}
    ).scalar()
    revisions = [(one.revision, phase(one)) for one in ScriptDirectory.from_config(config).walk_revisions()]
    target = newest(revisions, contract=contract or new)
    config.attributes["schema"] = service
    _upgrade(connection, config, target)
    for statement in (
        f"grant usage on schema {service}, platform to {role}",
        f"grant select, insert, update, delete on all tables in schema {service} to {role}",
        f"grant usage, select on all sequences in schema {service} to {role}",
        f"grant select on platform.clock to {role}",
        f"grant select, insert on platform.went_back to {role}",
        f"revoke insert, update, delete on {service}.alembic_version from {role}",
    ):
        connection.exec_driver_sql(statement)
    logs = connection.execute(
        sa.text("select tablename from pg_tables where schemaname = :s and tablename like '%event_log'"), {"s": service}
    ).scalars()
    for table in (*logs, *INSERT_ONLY.get(service, ())):
        connection.exec_driver_sql(f"revoke update, delete, truncate on {service}.{table} from {role}")
    if service == "intake":
        connection.exec_driver_sql(f"grant usage on schema {service} to {PARTY}")
        connection.exec_driver_sql(
            f"grant select on {', '.join(f'{service}.{table}' for table in PARTY_READS)} to {PARTY}"
        )
    # a schema that was contracted before is further than the target
    reached = connection.exec_driver_sql(f"select version_num from {service}.alembic_version").scalar_one()
    return reached, revisions[0][0]


def _upgrade(connection: sa.Connection, config: Config, target: str) -> None:
    """Run each revision in its own transaction, and retry it if it does not get its locks in time."""
    service = config.attributes["schema"]
    engine = db.administer(connection.engine.url.render_as_string(hide_password=False), pooled=False)
    try:
        for attempt in stamina.retry_context(
            on=_not_locked, attempts=LOCK_TRIES, timeout=None, wait_initial=0.5, wait_max=5.0
        ):
            with attempt, engine.connect() as session:
                session.exec_driver_sql(f"set search_path = {service}, platform")
                session.exec_driver_sql(f"set lock_timeout = {LOCK_TIMEOUT_MS}")
                session.commit()
                config.attributes["connection"] = session
                command.upgrade(config, target)
    except OperationalError as error:
        if _not_locked(error):
            raise Waiting(
                f"{service}: a table was in use whenever a revision wanted to change it; look for long transactions"
                " (pg_stat_activity), then run this again"
            ) from error
        raise
    finally:
        engine.dispose()


def _not_locked(error: Exception) -> bool:
    return isinstance(error, OperationalError) and getattr(error.orig, "pgcode", None) == "55P03"


def run_env() -> None:
    """Body of each service's ``migrations/env.py``. Without a connection (``alembic upgrade --sql``) it prints SQL."""
    connection: sa.Connection | None = context.config.attributes.get("connection")
    if connection is None:
        context.configure(dialect_name="postgresql", transaction_per_migration=True)
    else:
        context.configure(
            connection=connection,
            version_table_schema=context.config.attributes["schema"],
            transaction_per_migration=True,
        )
    with context.begin_transaction():
        context.run_migrations()
