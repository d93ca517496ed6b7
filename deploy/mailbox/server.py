"""The mailbox's SMTP server: aiosmtpd, extended by delivery reports (RFC 3461)."""

from __future__ import annotations

import asyncio
import re
import smtplib
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session

_NOTIFY: Final = re.compile(r" NOTIFY=([A-Z,]+)", re.IGNORECASE)
_OURS: Final = re.compile(r" (?:RET|ENVID|ORCPT|NOTIFY)=\S+", re.IGNORECASE)
TRIES: Final = 30
BOUNCING: Final = "bounces.example"
"""Mail to this domain is accepted, and reported as undeliverable."""
ACTIONS: Final = {"bounced": "failed", "delivered": "delivered", "delayed": "delayed", "relayed": "relayed"}


class Server(SMTP):
    """aiosmtpd's server, extended to accept the parameters of DSN."""

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 (aiosmtpd's)
        """MAIL; drops the parameters of DSN."""
        await super().smtp_MAIL(None if arg is None else _OURS.sub("", arg))

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT; notes in the envelope for which outcomes a report is wanted."""
        wanted = _NOTIFY.search(arg or "")
        self.envelope.notify = (  # type: ignore[union-attr]
            frozenset(wanted[1].upper().split(",")) if wanted else frozenset({"FAILURE"})
        )
        await super().smtp_RCPT(None if arg is None else _OURS.sub("", arg))


async def ehlo(_server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]) -> list[str]:
    """``handle_EHLO``: announces DSN and PIPELINING in addition to aiosmtpd's extensions."""
    session.host_name = hostname
    return [*responses[:-1], "250-DSN", "250-PIPELINING", responses[-1]]


def report(
    *, to: str, about: str, outcome: str, reason: str, original: bytes = b"", reporter: str = "mailbox"
) -> bytes:
    """A delivery report (RFC 3464) as a mail server writes it."""
    head = (
        f"From: MAILER-DAEMON@{reporter}.example\r\nTo: {to}\r\nSubject: Delivery report\r\nAuto-Submitted: auto-replied\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="=_report"'
    )
    headers = original.partition(b"\r\n\r\n")[0]
    fields = (
        f"Reporting-MTA: dns; {reporter}.example\r\n\r\n"
        f"Final-Recipient: rfc822; {about}\r\nAction: {ACTIONS[outcome]}\r\nStatus: {reason}\r\n"
    )
    rule = b"--=_report"
    return b"\r\n".join(
        (
            head.encode(),
            b"",
            rule,
            b"Content-Type: text/plain",
            b"",
            b"This is a report.",
            rule,
            b"Content-Type: message/delivery-status",
            b"",
            fields.encode(),
            rule,
            b"Content-Type: text/rfc822-headers",
            b"",
            headers,
            b"",
            rule + b"--",
            b"",
        )
    )


def outcome_of(recipient: str, notify: frozenset[str]) -> tuple[str, str] | None:
    """The outcome and the status to report for a message to ``recipient``; None if nothing is reported."""
    if "NEVER" in notify:
        return None
    if recipient.rpartition("@")[2] == BOUNCING:
        return ("bounced", "5.1.1") if "FAILURE" in notify else None
    return ("delivered", "2.0.0") if "SUCCESS" in notify else None


async def deliver(host: str, port: int, to: str, raw: bytes) -> bool:
    """Deliver a report, with retries until it is accepted or refused for good; returns whether it was accepted."""

    def once() -> int:
        with smtplib.SMTP(host, port, timeout=10) as smtp:
            refused = smtp.sendmail("", [to], raw)
            return next((code for code, _ in refused.values()), 250)

    for turn in range(TRIES):
        try:
            return await asyncio.to_thread(once) == 250
        except smtplib.SMTPRecipientsRefused:
            return False
        except (OSError, smtplib.SMTPException):
            await asyncio.sleep(min(5.0, 0.1 * 2**turn))
    return False


def envelope_of(envelope: Any) -> tuple[str, list[str], frozenset[str]]:
    """(return path, recipients, outcomes to report)."""
    return envelope.mail_from or "", list(envelope.rcpt_tos), getattr(envelope, "notify", frozenset({"FAILURE"}))
