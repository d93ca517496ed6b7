"""`python -m deploy.mailbox FOLDER`: SMTP on `GOODFAITH_SMTP_PORT` until SIGTERM.

It answers 250 once a message's line is written to the operating system, so the message survives a kill of the process.
If a sender asks for delivery reports (DSN), mail to `bounces.example` is reported as undeliverable, and other mail as
delivered if the sender asks for that. Reports go to `GOODFAITH_BOUNCE_HOST`:`GOODFAITH_BOUNCE_PORT`.
Every path on `GOODFAITH_METRICS_PORT` answers 200 while mail is accepted; `/metrics` has the counters.
"""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from email.errors import MessageError
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session
from prometheus_client import start_http_server

from deploy.mailbox.server import Server, deliver, ehlo, envelope_of, outcome_of, report
from shared import metrics
from shared.settings import Settings

ACCEPTED = metrics.counter(
    "goodfaith_mailbox_messages_total", "Messages accepted by the demo's mail server since it started.", of="mailbox"
)
MAX_BYTES = 10_000_000


class Keeper:
    """The handler for aiosmtpd: stores each message, then accepts it."""

    def __init__(self, folder: Path, reports_to: tuple[str, int] | None = None) -> None:
        self._mail = folder / "mail"
        self._mail.mkdir(parents=True, exist_ok=True)
        # Unbuffered and in append mode: one write per line, intact even while a stopped mailbox finishes its own.
        self._lines = (folder / "mailbox.jsonl").open("ab", buffering=0)
        self._parser = email.parser.BytesHeaderParser(policy=email.policy.default)
        self._number = 0
        self._reports_to = reports_to
        self._reports: set[asyncio.Task[bool]] = set()
        self.handle_EHLO = ehlo

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd's)
        """Store one message; 250 once it is written."""
        raw = envelope.original_content or b""
        self._number += 1
        # a folder per thousand messages: a single one would be slow to list
        file = self._mail / f"{self._number // 1000:04d}" / f"{time.time_ns()}.{self._number}.eml"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(raw)
        line = {
            "time": datetime.now(UTC).isoformat(),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": self._header(raw, "Subject"),
            "message_id": self._header(raw, "Message-ID"),
            "size": len(raw),
            "file": str(file.relative_to(self._mail.parent)),
        }
        self._lines.write(json.dumps(line).encode() + b"\n")
        ACCEPTED.inc()
        self._report(envelope, raw)
        return "250 OK"

    def close(self) -> None:
        """Close the file of lines."""
        self._lines.close()

    def _report(self, envelope: Envelope, raw: bytes) -> None:
        back, recipients, notify = envelope_of(envelope)
        for recipient in recipients if back and self._reports_to else ():
            if found := outcome_of(recipient, notify):
                assert self._reports_to is not None
                text = report(to=back, about=recipient, outcome=found[0], reason=found[1], original=raw)
                task = asyncio.create_task(deliver(*self._reports_to, back, text))
                self._reports.add(task)
                task.add_done_callback(self._reports.discard)

    def _header(self, raw: bytes, name: str) -> str | None:
        try:
            value = self._parser.parsebytes(raw).get(name)
        except (MessageError, ValueError, IndexError):  # raised for malformed headers
            return None
        return None if value is None else str(value).strip()


async def serve(folder: Path, settings: Settings) -> None:
    """Accept mail until SIGTERM or SIGINT.

    Raises:
        OSError: a port is taken.
    """
    keeper = Keeper(folder, (settings.bounce_host, settings.bounce_port))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(
        lambda: Server(keeper, hostname="mailbox.localhost", data_size_limit=MAX_BYTES, enable_SMTPUTF8=True),
        settings.smtp_host,
        settings.smtp_port,
    )
    metrics.begin_process("mailbox")
    start_http_server(settings.metrics_port, settings.metrics_host)
    await stop.wait()
    server.close()
    keeper.close()


if __name__ == "__main__":
    os.umask(0o077)  # messages hold names and addresses
    asyncio.run(serve(Path(sys.argv[1]), Settings()))
