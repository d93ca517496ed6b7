"""Connections to PostgreSQL, and which of its failures pass by themselves."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes of SQLSTATE: connection, resources, operator intervention, transaction rollback; plus lock_not_available.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_STATES = ("55P03", "25P03")


def connect(url: str, *, schema: str, name: str, pool_size: int = 2) -> sa.Engine:
    """An engine whose connections see ``schema`` first, then ``platform`` (the clock).

    Args:
        name: application name, seen in ``pg_stat_activity``.
    """
    # PostgreSQL ends a transaction whose process was stopped (SIGSTOP) in the middle: its locks go back to the living
    options = f"-c search_path={schema},platform -c timezone=UTC -c idle_in_transaction_session_timeout=10000 -c lock_timeout=20000"
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg2"),
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=10,
        connect_args={
            "options": options,
            "application_name": name,
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )

    @event.listens_for(engine, "handle_error")
    def _invalidate_all(context: sa.engine.ExceptionContext) -> None:
        # a server that went away has taken every pooled connection with it
        if isinstance(context.original_exception, psycopg2.OperationalError) and context.is_disconnect:
            engine.pool.dispose()

    return engine


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later: lost connection, deadlock, serialisation, resources, shutdown."""
    if isinstance(error, PoolTimeout):
        return True
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, psycopg2.Error):
        state = original.pgcode
        if state:
            return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES
        return isinstance(original, psycopg2.OperationalError | psycopg2.InterfaceError)
    return False
