"""Receives delivery reports: a small SMTP server to which the operator's mail server routes mail for our return paths.

An address that is not one of our return paths is refused at RCPT. Everything else is answered with 250 once the
report is committed, or with 451 while the message is being sent or the database is unavailable; the server in front
keeps the report and retries. So no report is lost and none is queued here. ``reports`` parses reports; automatic
replies and junk are counted and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from services.notification import bounce_store, store
from services.notification.reports import MAX_BYTES, message_of, parse
from shared import clock, db, metrics
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "notification-bounces"
CONNECTIONS: Final = 50
"""Most connections at a time; further ones are asked to retry."""
RECIPIENTS: Final = 10
"""Most recipients of one report. A report is about one message, so it has one return path."""
TIMEOUT_S: Final = 60.0
THREADS: Final = 4
"""Reports recorded at a time."""

REPORTS = metrics.counter(
    "goodfaith_bounces_total",
    "Mail to return paths by outcome: `bounced`, `delivered`, `delayed`, `relayed` (recorded); `late` (already known, "
    "or the message went by another channel); `unknown` (no such message); `busy` (asked to retry); `ignored` "
    "(automatic replies, junk); `refused` (not one of our return paths).",
    {
        "result": (
            "bounced",
            "delivered",
            "delayed",
            "relayed",
            "late",
            "unknown",
            "busy",
            "ignored",
            "refused",
        )
    },
    of=NAME,
    do="many `bounced`: check the sender's reputation and `reason` in `notification.deliveries`. `busy` that does not "
    "end: a sender died; its leases expire by themselves",
)


class BounceHandler:
    """aiosmtpd's callbacks.

    Raises:
        ValueError: a setting is missing.
    """

    def __init__(self, settings: Settings, health: Health | None = None) -> None:
        if settings.mail_key is None:
            raise ValueError("GOODFAITH_MAIL_KEY: needed to recognise return paths")
        self._key = settings.mail_key.get_secret_value()
        self.domain = settings.bounce_domain or settings.smtp_from.rpartition("@")[2]
        self._health = health or Health(NAME)
        self._engine = db.connect(settings.present("database"), schema=store.SCHEMA, name=NAME, pool_size=THREADS)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="report")

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Accept only return paths that we issued."""
        if message_of(self._key, address, self.domain) is None:
            REPORTS.labels("refused").inc()
            return "550 5.1.1 no such return path"
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Record what the report says; 250 once that is committed."""
        raw = envelope.content
        assert isinstance(raw, bytes)
        ids = {message_of(self._key, address, self.domain) for address in envelope.rcpt_tos}
        loop = asyncio.get_running_loop()
        busy = await loop.run_in_executor(self._pool, self.note, sorted(filter(None, ids)), raw)
        return "451 4.3.0 come again" if busy else "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Ask for a retry after a failure of ours. No traceback is logged: it would show addresses."""
        log.error("report not recorded", error=type(error).__name__)
        return "451 4.3.0 come again"

    def note(self, ids: list[str], raw: bytes) -> bool:
        """Record a report about messages; returns whether the sending server must retry."""
        self._health.progress()
        metrics.PROGRESS.labels(NAME).set_to_current_time()
        report = parse(raw)
        if report is None:
            REPORTS.labels("ignored").inc()
            return False
        busy = False
        for id in ids:
            try:
                with self._engine.begin() as connection:
                    now, wall = clock.read(connection)
                    result = bounce_store.report(connection, id, report.outcome, report.reason, now, wall)
            except Exception as error:
                if not db.is_transient(error):
                    raise
                log.warning("paused", part="database", error=type(error).__name__)
                result = "busy"
            busy = busy or result == "busy"
            REPORTS.labels(report.outcome if result == "noted" else result).inc()
        return busy

    def close(self) -> None:
        """Finish recording and close connections."""
        self._pool.shutdown()
        self._engine.dispose()


class Server(SMTP):
    """aiosmtpd's server with a limit on connections."""

    open: int = 0

    def connection_made(self, transport: Any) -> None:
        """Accept a connection unless there are too many."""
        Server.open += 1
        if Server.open > CONNECTIONS:
            transport.write(b"421 4.3.2 too many connections\r\n")
            transport.close()
            return
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that ended."""
        Server.open -= 1
        if self.transport is not None:
            super().connection_lost(error)


async def serve(handler: BounceHandler, settings: Settings) -> asyncio.Server:
    """Start accepting reports.

    Raises:
        OSError: the port is taken.
    """
    # aiosmtpd's own log contains addresses
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Server(
            handler, hostname=handler.domain, ident="Goodfaith", data_size_limit=MAX_BYTES, timeout=TIMEOUT_S, loop=loop
        ),
        settings.bounce_host,
        settings.bounce_port,
    )


def run(settings: Settings) -> None:
    """Run as this process, with health server and signal handlers, until SIGTERM or SIGINT.

    Raises:
        ValueError: a setting is missing.
        OSError: a port is taken.
    """
    health = Health(NAME)
    handler = BounceHandler(settings, health)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await serve(handler, settings)
        health.ready()
        log.info("started", worker=NAME, domain=handler.domain)
        while not stop.is_set():
            health.progress()
            metrics.PROGRESS.labels(NAME).set_to_current_time()
            try:
                await asyncio.wait_for(stop.wait(), 5.0)
            except TimeoutError:
                continue
        health.ready(False)
        server.close()

    server = health.serve(settings)
    asyncio.run(main())
    handler.close()
    log.info("stopped", worker=NAME)
    server.shutdown()
