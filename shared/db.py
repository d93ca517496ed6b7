"""PostgreSQL: connections, rows in bulk, and which failures are transient."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg2
import psycopg2.errors
import sqlalchemy as sa
from psycopg2._psycopg import List as ArrayOfLiterals
from psycopg2.extensions import QuotedString, register_adapter
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.secret_files import Present

# Classes of SQLSTATE: connection, resources, operator intervention, transaction rollback; plus lock_not_available.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_STATES = ("55P03", "25P03")
# notice within seconds that the server's machine is gone, not when the kernel gives up
_REACH: Final = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
SILENT_S: Final = 15
"""Seconds after which a connection ends if the server acknowledges nothing: keepalives only watch an idle one."""
STATEMENT_S: Final = 60.0
"""Seconds, more than any statement of a worker takes; a wait for a lock ends earlier."""
IDLE_LIMIT_S = 10
"""Seconds without a statement after which a transaction is ended, so that a stopped process gives up its locks."""
# our code relies on these, whatever defaults a role or a database has
_PINNED: Final = (
    r"-c timezone=UTC -c default_transaction_isolation=read\ committed -c synchronous_commit=on -c lock_timeout=20000"
)


class UnknownOutcome(psycopg2.OperationalError):
    """A commit is in the server's log, but perhaps not in its synchronous follower's: it may still be lost."""


class _Connection(psycopg2.extensions.connection):
    """Raises ``UnknownOutcome`` when a commit stopped waiting for the synchronous follower."""

    def commit(self) -> None:
        """Commit. PostgreSQL only warns of an unknown outcome, in any language; it warns of nothing else here."""
        self.notices.clear()
        super().commit()
        for notice in self.notices:
            if not notice.startswith(("NOTICE", "INFO", "LOG", "DEBUG")):
                raise UnknownOutcome(f"commit: {notice.strip()}")


def connect(
    url: str | Present, *, schema: str, name: str, pool_size: int = 2, statement_timeout: float = STATEMENT_S
) -> sa.Engine:
    """An engine whose connections search ``schema`` first, then ``platform`` (the clock).

    Args:
        url: if it may change (``Settings.present``), user and password are looked up for each new connection.
        name: application name, as shown in ``pg_stat_activity``.
        statement_timeout: seconds after which PostgreSQL cancels a statement; 0: never.
    """
    options = (
        f"-c search_path={schema},platform {_PINNED} -c statement_timeout={int(statement_timeout * 1000)}"
        f" -c idle_in_transaction_session_timeout={IDLE_LIMIT_S * 1000}"
    )
    engine = sa.create_engine(
        _plain(url),
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=10,
        hide_parameters=True,
        connect_args={
            "options": options,
            "application_name": name,
            "connection_factory": _Connection,
            **_REACH,
            "tcp_user_timeout": SILENT_S * 1000,
        },
    )

    @event.listens_for(engine, "handle_error")
    def _invalidate_all(context: sa.engine.ExceptionContext) -> None:
        # a server that went away has taken every pooled connection with it
        if isinstance(context.original_exception, psycopg2.OperationalError) and context.is_disconnect:
            engine.pool.dispose()

    _hide_values(engine)
    _follow(engine, url)
    return engine


def _hide_values(engine: sa.Engine) -> None:
    """Hide values in this engine's errors: ``hide_parameters`` keeps PostgreSQL's text, which quotes rows and keys."""

    @event.listens_for(engine, "handle_error")
    def _without_values(context: sa.engine.ExceptionContext) -> None:
        original = context.original_exception
        if isinstance(original, psycopg2.Error) and _hidden(original) and context.sqlalchemy_exception is not None:
            kind = type(original)
            context.sqlalchemy_exception.args = (f"({kind.__module__}.{kind.__name__}) {original}",)


def _hidden(error: psycopg2.Error) -> bool:
    """Reduce an error to its first line; for bad data (class 22), whose first line quotes it, to the SQLSTATE."""
    if error.pgcode is None:
        return False
    said = None if error.pgcode.startswith("22") else error.diag.message_primary
    error.args = (said or f"SQLSTATE {error.pgcode}",)
    return True


def _plain(url: str | Present) -> sa.URL:
    return sa.make_url(url if isinstance(url, str) else url.read()).set(drivername="postgresql+psycopg2")


def _follow(engine: sa.Engine, url: str | Present) -> None:
    """Open each new connection with the user and password of that moment."""
    if isinstance(url, str):
        return

    @event.listens_for(engine, "do_connect")
    def _as_of_now(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
        now = _plain(url)
        options |= {"user": now.username, "password": now.password}


def administer(url: str | Present, *, autocommit: bool = False, pooled: bool = True) -> sa.Engine:
    """An engine for the operator's commands, benchmarks and tests, which look across the services' schemas."""
    engine = sa.create_engine(
        _plain(url),
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
        poolclass=None if pooled else sa.NullPool,
        hide_parameters=True,
        connect_args={"options": "-c timezone=UTC -c synchronous_commit=on", **_REACH, "tcp_user_timeout": 30_000},
    )
    _hide_values(engine)
    _follow(engine, url)
    return engine


def copy(connection: sa.Connection, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert rows given by column: half the work of ``insert ... select unnest`` for both sides.

    There is no ``on conflict``.
    Call it inside ``begin()``: SQLAlchemy does not see this statement and would not end a transaction that it began.

    Args:
        columns: values by column, of equal length: str, int, bool, aware datetime or None.

    Raises:
        psycopg2.Error: the database refuses the rows, for example a duplicate key; not wrapped by SQLAlchemy.
        TypeError: a value has another type.
    """
    rows = map("\t".join, zip(*map(_copied, columns.values()), strict=True))
    text = io.BytesIO("".join([row + "\n" for row in rows]).encode())
    copy_text(connection, f"copy {table} ({', '.join(columns)}) from stdin", text)


def copy_text(connection: sa.Connection, statement: str, text: Any) -> None:
    """Run ``copy ... from stdin`` with a binary file in COPY's text format.

    Raises:
        psycopg2.Error: as in ``copy``.
    """
    cursor: Any = connection.connection.cursor()
    with cursor:
        try:
            cursor.copy_expert(statement, text, 1 << 20)
        except psycopg2.Error as error:
            _hidden(error)
            raise


def _copied(values: Sequence[Any]) -> Sequence[str]:
    """Values in COPY's text format."""
    return _spelled(values, _COPY_ESCAPES, None, "\\N")


def _array(values: Sequence[Any]) -> str:
    """Values as an array literal."""
    return "{" + ",".join(_spelled(values, _ARRAY_ESCAPES, '"', "NULL")) + "}"


def _spelled(values: Sequence[Any], escapes: Sequence[tuple[str, str]], quote: str | None, null: str) -> Sequence[str]:
    kinds = set(map(type, values))
    if kinds and all(issubclass(kind, str) for kind in kinds):
        # one pass over all of them; NUL separates them, as the database takes no value that contains it
        joined = "\0".join(values)
        if joined.count("\0") != len(values) - 1:
            raise ValueError("a string literal cannot contain NUL (0x00) characters.")
        for plain, escaped in escapes:
            joined = joined.replace(plain, escaped)
        if quote is None:
            return joined.split("\0")
        return (quote + joined.replace("\0", f"{quote}\0{quote}") + quote).split("\0")
    if kinds <= {int}:
        return list(map(str, values))
    result: list[str] = [null] * len(values)
    for kind in kinds - {type(None)}:
        places = [place for place, value in enumerate(values) if type(value) is kind]
        if issubclass(kind, str):
            spelled = _spelled([values[place] for place in places], escapes, quote, null)
        else:
            spell = _SPELL.get(kind)
            if spell is None:
                raise TypeError(f"cannot write a {kind.__name__}")
            spelled = [spell(values[place]) for place in places]
        for place, text in zip(places, spelled, strict=True):
            result[place] = text
    return result


_COPY_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
_ARRAY_ESCAPES = (("\\", "\\\\"), ('"', '\\"'))
_SPELL: dict[type, Callable[[Any], str]] = {
    int: str,
    bool: lambda value: "t" if value else "f",
    dt.datetime: dt.datetime.isoformat,
}


class _Array:
    """A list as one array literal: the server parses psycopg2's ``ARRAY['a', 'b', ...]`` into a tree of nodes."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self._connection: Any = None

    def prepare(self, connection: Any) -> None:
        """Keep the connection, which knows how strings are quoted."""
        self._connection = connection

    def getquoted(self) -> bytes:
        """The literal as SQL; nested lists and other types are left to psycopg2."""
        try:
            quoted: Any = QuotedString(_array(self._values))
        except TypeError:
            quoted = ArrayOfLiterals(self._values)
        quoted.prepare(self._connection)
        return bytes(quoted.getquoted())


register_adapter(list, _Array)


def columns(rows: Iterable[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """Rows as arrays for ``unnest``, one per column; empty if there are no rows."""
    return tuple(map(list, zip(*rows, strict=True)))


def unnest(connection: sa.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run a statement that takes the rows' columns as arrays; does nothing if there are no rows."""
    if rows:
        connection.exec_driver_sql(statement, columns(rows))


_REFUSALS: Final = (
    (
        re.compile(
            r'password authentication failed for user "([^"]{1,100})"|role "([^"]{1,100})" (?:does not exist|is not permitted)'
        ),
        "the database does not take user {} with this password: mend GOODFAITH_DATABASE or the role",
    ),
    (
        re.compile(r'server certificate for "([^"]{1,200})".*does not match host name'),
        "the database's certificate is for {} and not for the name in GOODFAITH_DATABASE: name the server as its certificate does",
    ),
    (re.compile(r"certificate has expired"), "the database's certificate, or this process's, has expired: renew it"),
    (
        re.compile(r"certificate verify failed|root certificate file"),
        "the database's certificate is not vouched for by the authorities that GOODFAITH_DATABASE names (sslrootcert): add the one that issued it",
    ),
    (
        re.compile(r"server does not support SSL"),
        "the database does not speak TLS, which GOODFAITH_DATABASE asks for (sslmode)",
    ),
    (
        re.compile(r"no pg_hba.conf entry for host .*no encryption"),
        "the database lets nobody in without TLS: set sslmode=verify-full in GOODFAITH_DATABASE",
    ),
)


def refused(error: BaseException) -> str | None:
    """Why database and process do not trust each other, in a sentence with the cure; None for any other error."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, psycopg2.OperationalError):
        return None
    text = str(original)
    for pattern, sentence in _REFUSALS:
        if found := pattern.search(text):
            names = [name for name in found.groups() if name]
            return sentence.format(repr(names[0])) if names else sentence
    return None


@contextmanager
def ending_stopped(engine: sa.Engine) -> Iterator[None]:
    """If a wait for a lock in this block times out, end the sessions that stopped in the middle of a COPY.

    A process that is stopped there keeps its locks: none of PostgreSQL's timeouts ends its session. Only sessions of the
    same role are ended, and only after ``IDLE_LIMIT_S``. The error is raised all the same; the caller tries again.
    """
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg2.errors.LockNotAvailable):
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user"
                    " and datname = current_database() and state = 'active' and wait_event = 'ClientRead'"
                    " and query_start < clock_timestamp() - make_interval(secs => %s)",
                    (IDLE_LIMIT_S,),
                )
        raise


def timed_out(error: BaseException) -> bool:
    """Whether PostgreSQL cancelled the statement because it took longer than ``statement_timeout``."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg2.errors.QueryCanceled)


def was_too_slow(error: BaseException, took_s: float) -> bool:
    """Whether the server ended a transaction because it took too long: retry it in smaller parts."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, psycopg2.Error):
        return False
    if original.pgcode:
        return original.pgcode in ("25P03", "57014")
    # the server closed the connection, and the reason was not read
    return took_s >= IDLE_LIMIT_S and is_transient(error)


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
