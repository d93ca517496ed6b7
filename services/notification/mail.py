"""SMTP, one connection for many messages, with each failure told apart by what is known of the message.

``smtplib`` opens the session (greeting, TLS, login). Then commands go in groups where the server offers PIPELINING (RFC
2920): a message's text is followed at once by the next one's MAIL, RCPT and DATA, so that a message costs one round trip.
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


class Down(Exception):
    """The server cannot be used now; the message in hand was not accepted."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message for the wire.

    Args:
        id: given back to us by reports (ENVID).
        to: the only recipient.
        back: return path.
        raw: the message, lines ended by CR LF.
    """

    id: str
    to: str
    back: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a letter after its turn.

    Args:
        result: ``sent``, ``refused`` for good, or ``later``; ``unknown``: the connection was lost between the end of the
            message and the server's answer, it may have been accepted.
        reason: enhanced status where the server gave one, else the code; never the server's text.
        text: whether the answer was to the message's text, not to its recipient.
    """

    result: Literal["sent", "refused", "later", "unknown"]
    reason: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True)
class Relay:
    """The mail server that takes our messages.

    Args:
        host: also the name that its certificate must be for.
        tls: ``required`` and ``implicit`` are verified; ``opportunistic`` encrypts where it can and proves nothing.
        ca_file: certificates to trust instead of the system's.
        user: for a login, which never goes over an unencrypted line to another host.
        reports: which delivery reports are asked for, where the server offers them.
        timeout_s: longest wait for each answer but the last.
        final_s: longest wait for the answer to the message itself.

    Raises:
        ValueError: a login that would go unencrypted, or to anybody.
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
        """What a TLS connection is to prove.

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
    """A connection to the relay, opened when needed and kept."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._context = None if relay.tls == "off" else relay.context()
        self._smtp: smtplib.SMTP | None = None

    def send(self, letters: Iterable[Letter], deadline: float = float("inf")) -> Iterator[Answer]:
        """What became of each letter, in their order. Letters are taken from the iterable one ahead.

        Args:
            deadline: by ``time.monotonic``: no wait goes beyond it.

        Raises:
            Down: no connection, or the server will not take mail from us now. The letter whose turn it is was not
                accepted, and those after it were not tried.
        """
        todo = iter(letters)
        letter = next(todo, None)
        opened = False  # the transaction of `letter` was asked for already
        try:
            while letter is not None:
                kept = self._smtp is not None
                smtp = self._connect(deadline)
                try:
                    refused = self._begun(smtp) if opened else self._begin(smtp, letter, deadline)
                except (OSError, smtplib.SMTPException) as error:
                    self.close()
                    if kept and not opened and not isinstance(error, TimeoutError):
                        continue  # the server had closed an idle connection: a new one, at once
                    raise Down(type(error).__name__) from error
                except Down:
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
                    answer = Answer("unknown", type(error).__name__)
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
        """Drop the connection; a message in hand is lost on the server's side, as SMTP has it."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def quit(self) -> None:
        """Take leave."""
        if self._smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()
        self.close()

    # ------------------------------------------------------------------------------------------------ a transaction

    def _unfit(self, smtp: smtplib.SMTP, letter: Letter) -> bool:
        """Whether the server cannot write to such an address at all."""
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

    def _begin(self, smtp: smtplib.SMTP, letter: Letter, deadline: float) -> Answer | None:
        """Ask for a transaction; None when the text may come."""
        if self._unfit(smtp, letter):
            return Answer("refused", "5.6.7")
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

    def _begun(self, smtp: smtplib.SMTP) -> Answer | None:
        """Read the answers to a letter's three commands; None when its text may come."""
        refused = _of_sender(*smtp.getreply())
        recipient = _of_recipient(*smtp.getreply())
        refused = refused or recipient
        code, said = smtp.getreply()
        if refused is None and code == 354:
            return None
        if code == 354:
            # the server would take a message for nobody: it gets an empty one (RFC 2920, 3.1)
            assert smtp.sock is not None
            smtp.sock.sendall(b".\r\n")
            if smtp.getreply()[0] // 100 == 2:
                raise Down("takes mail for recipients that it refused")
        elif refused is None:
            refused = _of_recipient(code, said)
        self._reset(smtp)
        return refused

    def _reset(self, smtp: smtplib.SMTP) -> None:
        if smtp.docmd("RSET")[0] != 250:
            raise Down("RSET refused")

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
                raise Down(f"greeting {code}")
            smtp.ehlo_or_helo_if_needed()
            if relay.tls in ("required", "opportunistic"):
                if smtp.has_extn("starttls"):
                    code, _ = smtp.starttls(context=self._context)
                    if code != 220:
                        raise Down(f"STARTTLS {code}")
                    smtp.ehlo_or_helo_if_needed()
                elif relay.tls == "required":
                    raise Down("no STARTTLS")
            if relay.user:
                smtp.login(relay.user, relay.password)
            assert smtp.sock is not None
            smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, smtplib.SMTPException, Down) as error:
            if smtp is not None:
                smtp.close()
            # a failed login's text may hold the user's name: only the kind of error is told
            raise Down(str(error) if isinstance(error, Down) else type(error).__name__) from None
        self._smtp = smtp
        return smtp


def _text(raw: bytes) -> bytes:
    """A message as the text after DATA, with its end."""
    if raw.startswith(b".") or b"\n." in raw:
        raw = _DOT.sub(b"..", raw)
    return raw + (b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n")


def _reason(code: int, said: bytes) -> str:
    return status(said.decode("ascii", "replace")) or str(code)


def _of_text(code: int, said: bytes) -> Answer:
    if code // 100 == 2:
        return Answer("sent", text=True)
    return Answer("refused" if code >= 500 else "later", _reason(code, said), text=True)


def _of_sender(code: int, said: bytes) -> Answer | None:
    if code == 250:
        return None
    if code == 552:
        return Answer("refused", _reason(code, said), text=True)
    if code == 452 and (_reason(code, said)).startswith("4.3.4"):
        return Answer("later", _reason(code, said), text=True)
    # not the message's fault: the server will not take mail from us
    raise Down(f"MAIL FROM answered {code}")


def _of_recipient(code: int, said: bytes) -> Answer | None:
    if code in (250, 251):
        return None
    if code == 421:
        raise Down("421")
    return Answer("refused" if code >= 500 else "later", _reason(code, said))
