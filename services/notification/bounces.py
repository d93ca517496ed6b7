"""Takes delivery reports: a small SMTP server behind the operator's own, which routes the return paths' addresses to it.

An address that is no return path of ours is refused at RCPT; whatever else comes is answered 250 once what it says is
committed, and 451 while the message is being sent or the database is away: the server before this one keeps it, and
comes again. So nothing is lost, and nothing is queued here. Reports are read by ``reports``; automatic answers and junk
are counted, and end here.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from services.notification import store
from services.notification.reports import MAX_BYTES, message_of, parse
from shared import clock, db, metrics
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "notification-bounces"
CONNECTIONS: Final = 50
"""At once; further ones are told to come again."""
RECIPIENTS: Final = 10
"""Of one report: there is one message, and so one return path, in a report."""
TIMEOUT_S: Final = 60.0
THREADS: Final = 4
"""Reports that are noted at once."""

REPORTS = metrics.counter(
    "goodfaith_bounces_total",
    "Mail that came to return paths, by what became of it: `bounced`, `delivered`, `delayed`, `relayed` (noted); `late` (says what is "
    "known, or the message went another way); `unknown` (no such message); `busy` (asked to come again); `ignored` (automatic "
    "answers, junk); `refused` (no return path of ours).",
    {
        "result": (
            "bounced", "delivered", "delayed", "relayed", "late", "unknown", "busy", "ignored", "refused",
        )
    },
    of=NAME,
    do="many `bounced`: look at the sender's reputation, and at `reason` in `notification.deliveries`. `busy` that does not end: a "
    "sender died, its leases run out by themselves",
)  # fmt: skip


class BounceHandler:
    """What aiosmtpd asks at each step.

    Raises:
        ValueError: a setting is missing.
    """

    def __init__(self, settings: Settings, health: Health | None = None) -> None:
        if settings.mail_key is None:
            raise ValueError("GOODFAITH_MAIL_KEY: needed to know return paths again")
        self._key = settings.mail_key.get_secret_value()
        self.domain = settings.bounce_domain or settings.smtp_from.rpartition("@")[2]
        self._health = health or Health(NAME)
        self._engine = db.connect(settings.present("database"), schema=store.SCHEMA, name=NAME, pool_size=THREADS)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="report")

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Only return paths that we gave out."""
        if message_of(self._key, address, self.domain) is None:
            REPORTS.labels("refused").inc()
            return "550 5.1.1 no such return path"
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Note what the report says; 250 once that is committed."""
        raw = envelope.content
        assert isinstance(raw, bytes)
        ids = {message_of(self._key, address, self.domain) for address in envelope.rcpt_tos}
        loop = asyncio.get_running_loop()
        busy = await loop.run_in_executor(self._pool, self.note, sorted(filter(None, ids)), raw)
        return "451 4.3.0 come again" if busy else "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """A failure of ours: it must come again. The traceback would show addresses."""
        log.error("not noted", error=type(error).__name__)
        return "451 4.3.0 come again"

    def note(self, ids: list[str], raw: bytes) -> bool:
        """Note a report about messages; whether it must come again."""
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
                    result = store.report(connection, id, report.outcome, report.reason, now, wall)
            except Exception as error:
                if not db.is_transient(error):
                    raise
                log.warning("paused", part="database", error=type(error).__name__)
                result = "busy"
            busy = busy or result == "busy"
            REPORTS.labels(report.outcome if result == "noted" else result).inc()
        return busy

    def close(self) -> None:
        """Finish what is being noted, and close connections."""
        self._pool.shutdown()
        self._engine.dispose()


class Server(SMTP):
    """aiosmtpd's, with a bound on connections."""

    open: int = 0

    def connection_made(self, transport: Any) -> None:
        """Take a connection, unless there are too many."""
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


async def serve(door: BounceHandler, settings: Settings) -> asyncio.Server:
    """Take reports from now on.

    Raises:
        OSError: the port is taken.
    """
    # its own log tells addresses
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Server(
            door, hostname=door.domain, ident="Goodfaith", data_size_limit=MAX_BYTES, timeout=TIMEOUT_S, loop=loop
        ),
        settings.bounce_host,
        settings.bounce_port,
    )


def run(settings: Settings) -> None:
    """Take reports as this process, with health server and signals, until SIGTERM or SIGINT.

    Raises:
        ValueError: a setting is missing.
        OSError: a port is taken.
    """
    health = Health(NAME)
    door = BounceHandler(settings, health)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await serve(door, settings)
        health.ready()
        log.info("started", worker=NAME, domain=door.domain)
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
    door.close()
    log.info("stopped", worker=NAME)
    server.shutdown()
