"""SMTP: many messages over one connection. Failures are distinguished by what they say about the message.

``smtplib`` opens the session (greeting, TLS, login). If the server offers PIPELINING (RFC 2920), commands then go in
groups: a message's text is followed at once by the next one's MAIL, RCPT and DATA, so a message costs one round trip.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from services.notification.channels import status

Tls = Literal["off", "opportunistic", "required", "implicit"]
Reports = Literal["off", "failures", "all"]
_DOT: Final = re.compile(rb"^\.", re.MULTILINE)
_NOTIFY: Final = {"failures": " NOTIFY=FAILURE,DELAY", "all": " NOTIFY=SUCCESS,FAILURE,DELAY"}


class RelayDown(Exception):
    """The server cannot be used now; the current message was not accepted."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to be sent.

    Args:
        id: message id, which delivery reports return to us (ENVID).
        to: the only recipient.
        back: return path.
        raw: the message with CR LF line ends.
    """

    id: str
    to: str
    back: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class MailResult:
    """The outcome of sending a letter.

    Args:
        result: ``sent``; ``refused`` (permanently); ``later``; ``unknown``: the connection was lost between the end of
            the message and the server's answer, so it may have been accepted.
        reason: the enhanced status if the server gave one, else the code; never the server's text.
        text: whether the answer was to the message's text and not to its recipient.
    """

    result: Literal["sent", "refused", "later", "unknown"]
    reason: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True)
class Relay:
    """The mail server that takes our messages.

    Args:
        host: also the name that its certificate must carry.
        tls: ``required`` and ``implicit`` verify the server; ``opportunistic`` encrypts if it can, without verifying.
        ca_file: certificates to trust instead of the system's.
        user: for a login; it is never sent unencrypted to another host.
        reports: which delivery reports to ask for if the server offers them.
        timeout_s: longest wait for each answer but the last.
        final_s: longest wait for the answer to the message itself.

    Raises:
        ValueError: a login would be sent unencrypted or to an unverified server.
    """

    host: str
    port: int
    tls: Tls = "off"
    ca_file: str = ""
    user: str = ""
    password: str = ""
    reports: Reports = "failures"
    timeout_s: float = 10.0
    final_s: float = 10.0

    def __post_init__(self) -> None:
        if self.user and self.tls not in ("required", "implicit") and not _loopback(self.host):
            raise ValueError("smtp_user: a login needs smtp_tls=required or implicit")

    def context(self) -> ssl.SSLContext:
        """The TLS settings of a connection.

        Raises:
            OSError: ``ca_file`` cannot be read.
        """
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.tls == "opportunistic":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Mailer:
    """A connection to the relay, opened when needed and kept open."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._context = None if relay.tls == "off" else relay.context()
        self._smtp: smtplib.SMTP | None = None

    def send(self, letters: Iterable[Letter], deadline: float = float("inf")) -> Iterator[MailResult]:
        """Send letters and yield the outcome of each, in order. Reads one letter ahead.

        Args:
            deadline: by ``time.monotonic``; no wait goes beyond it.

        Raises:
            RelayDown: no connection, or the server takes no mail from us now. The current letter was not accepted, and
                later ones were not tried.
        """
        todo = iter(letters)
        letter = next(todo, None)
        opened = False  # the commands of `letter` have been sent already
        try:
            while letter is not None:
                kept = self._smtp is not None
                smtp = self._connect(deadline)
                try:
                    refused = self._begun(smtp) if opened else self._begin(smtp, letter, deadline)
                except (OSError, smtplib.SMTPException) as error:
                    self.close()
                    if kept and not opened and not isinstance(error, TimeoutError):
                        continue  # the server had closed an idle connection: reconnect at once
                    raise RelayDown(type(error).__name__) from error
                except RelayDown:
                    self.close()
                    raise
                opened = False
                if refused is not None:
                    yield refused
                    letter = next(todo, None)
                    continue
                following = next(todo, None)
                ahead = b""
                if following is not None and smtp.has_extn("pipelining") and not self._unfit(smtp, following):
                    ahead = self._commands(smtp, following)
                try:
                    self._patience(smtp, self._relay.final_s, deadline)
                    assert smtp.sock is not None
                    smtp.sock.sendall(_text(letter.raw) + ahead)
                    code, said = smtp.getreply()
                except (OSError, smtplib.SMTPException) as error:
                    self.close()
                    answer = MailResult("unknown", type(error).__name__)
                else:
                    opened = bool(ahead) and code != 421
                    if code == 421:
                        self.close()
                    answer = _of_text(code, said)
                letter = following
                yield answer
        finally:
            if opened:
                self.close()

    def close(self) -> None:
        """Drop the connection. The server discards a message that is not complete, as SMTP requires."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def quit(self) -> None:
        """Send QUIT and close the connection."""
        if self._smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()
        self.close()

    # ------------------------------------------------------------------------------------------------ a transaction

    def _unfit(self, smtp: smtplib.SMTP, letter: Letter) -> bool:
        """Whether the server does not support such an address."""
        return not letter.to.isascii() and not smtp.has_extn("smtputf8")

    def _commands(self, smtp: smtplib.SMTP, letter: Letter) -> bytes:
        """MAIL, RCPT and DATA of a letter."""
        mail, rcpt = f"MAIL FROM:<{letter.back}>", f"RCPT TO:<{letter.to}>"
        if not letter.to.isascii():
            mail += " BODY=8BITMIME SMTPUTF8"
        if smtp.has_extn("size"):
            mail += f" SIZE={len(letter.raw)}"
        if smtp.has_extn("dsn") and self._relay.reports != "off":
            mail += f" RET=HDRS ENVID={letter.id}"
            rcpt += _NOTIFY[self._relay.reports]
        for command in (mail, rcpt):
            if "\r" in command or "\n" in command:
                raise ValueError("a line end within an address")
        return f"{mail}\r\n{rcpt}\r\nDATA\r\n".encode()

    def _begin(self, smtp: smtplib.SMTP, letter: Letter, deadline: float) -> MailResult | None:
        """Send a letter's three commands; None if its text may follow."""
        if self._unfit(smtp, letter):
            return MailResult("refused", "5.6.7")
        assert smtp.sock is not None
        self._patience(smtp, self._relay.timeout_s, deadline)
        commands = self._commands(smtp, letter)
        if smtp.has_extn("pipelining"):
            smtp.sock.sendall(commands)
            return self._begun(smtp)
        mail, rcpt, data, _ = commands.split(b"\r\n")
        smtp.sock.sendall(mail + b"\r\n")
        refused = _of_sender(*smtp.getreply())
        if refused is None:
            smtp.sock.sendall(rcpt + b"\r\n")
            refused = _of_recipient(*smtp.getreply())
        if refused is None:
            smtp.sock.sendall(data + b"\r\n")
            code, said = smtp.getreply()
            if code == 354:
                return None
            refused = _of_recipient(code, said)
        self._reset(smtp)
        return refused

    def _begun(self, smtp: smtplib.SMTP) -> MailResult | None:
        """Read the answers to a letter's three commands; None if its text may follow."""
        refused = _of_sender(*smtp.getreply())
        recipient = _of_recipient(*smtp.getreply())
        refused = refused or recipient
        code, said = smtp.getreply()
        if refused is None and code == 354:
            return None
        if code == 354:
            # the server would accept a message without recipients: send an empty one (RFC 2920, 3.1)
            assert smtp.sock is not None
            smtp.sock.sendall(b".\r\n")
            if smtp.getreply()[0] // 100 == 2:
                raise RelayDown("takes mail for recipients that it refused")
        elif refused is None:
            refused = _of_recipient(code, said)
        self._reset(smtp)
        return refused

    def _reset(self, smtp: smtplib.SMTP) -> None:
        if smtp.docmd("RSET")[0] != 250:
            raise RelayDown("RSET refused")

    def _patience(self, smtp: smtplib.SMTP, wait_s: float, deadline: float) -> None:
        assert smtp.sock is not None
        smtp.sock.settimeout(max(0.05, min(wait_s, deadline - time.monotonic())))

    def _connect(self, deadline: float) -> smtplib.SMTP:
        if self._smtp is not None:
            return self._smtp
        relay = self._relay
        wait = max(0.05, min(relay.timeout_s, deadline - time.monotonic()))
        name = socket.gethostname()
        smtp: smtplib.SMTP | None = None
        try:
            if relay.tls == "implicit":
                smtp = smtplib.SMTP_SSL(local_hostname=name, timeout=wait, context=self._context)
                smtp._host = relay.host  # type: ignore[attr-defined]
            else:
                smtp = smtplib.SMTP(local_hostname=name, timeout=wait)
                smtp._host = relay.host  # type: ignore[attr-defined]
            code, _ = smtp.connect(relay.host, relay.port)
            if code != 220:
                raise RelayDown(f"greeting {code}")
            smtp.ehlo_or_helo_if_needed()
            if relay.tls in ("required", "opportunistic"):
                if smtp.has_extn("starttls"):
                    code, _ = smtp.starttls(context=self._context)
                    if code != 220:
                        raise RelayDown(f"STARTTLS {code}")
                    smtp.ehlo_or_helo_if_needed()
                elif relay.tls == "required":
                    raise RelayDown("no STARTTLS")
            if relay.user:
                smtp.login(relay.user, relay.password)
            assert smtp.sock is not None
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, smtplib.SMTPException, RelayDown) as error:
            if smtp is not None:
                smtp.close()
            # the text of a failed login may contain the user's name: report only the kind of error
            raise RelayDown(str(error) if isinstance(error, RelayDown) else type(error).__name__) from None
        self._smtp = smtp
        return smtp


def _text(raw: bytes) -> bytes:
    """A message as sent after DATA, with the terminator."""
    if raw.startswith(b".") or b"\n." in raw:
        raw = _DOT.sub(b"..", raw)
    return raw + (b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n")


def _reason(code: int, said: bytes) -> str:
    return status(said.decode("ascii", "replace")) or str(code)


def _of_text(code: int, said: bytes) -> MailResult:
    if code // 100 == 2:
        return MailResult("sent", text=True)
    return MailResult("refused" if code >= 500 else "later", _reason(code, said), text=True)


def _of_sender(code: int, said: bytes) -> MailResult | None:
    if code == 250:
        return None
    if code == 552:
        return MailResult("refused", _reason(code, said), text=True)
    if code == 452 and (_reason(code, said)).startswith("4.3.4"):
        return MailResult("later", _reason(code, said), text=True)
    # not the message's fault: the server takes no mail from us
    raise RelayDown(f"MAIL FROM answered {code}")


def _of_recipient(code: int, said: bytes) -> MailResult | None:
    if code in (250, 251):
        return None
    if code == 421:
        raise RelayDown("421")
    return MailResult("refused" if code >= 500 else "later", _reason(code, said))
