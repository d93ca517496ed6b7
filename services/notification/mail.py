"""SMTP, one connection for many messages, with each failure told apart by what is known of the message."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
from typing import Literal

Answer = Literal["sent", "refused", "later"]
_DOT = re.compile(rb"^\.", re.MULTILINE)


class Down(Exception):
    """The server cannot be used now; the message in hand was not accepted."""


class Unknown(Exception):
    """The connection was lost between the end of the message and the server's answer."""


class Mailer:
    """A connection, opened when needed and kept.

    Args:
        timeout_s: longest wait for each answer but the last.
        final_s: longest wait for the answer to the message itself.
    """

    def __init__(self, host: str, port: int, sender: str, *, timeout_s: float, final_s: float) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._timeout_s = timeout_s
        self._final_s = final_s
        self._smtp: smtplib.SMTP | None = None

    def send(self, to: str, raw: bytes) -> tuple[Answer, int]:
        """(answer, SMTP code) for one message.

        Raises:
            Down: no connection, or the server will not take mail from us now.
            Unknown: the message may have been accepted.
        """
        smtp = self._connect()
        try:
            options = [] if to.isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
            if options and not smtp.has_extn("smtputf8"):
                return "refused", 553
            code, _ = smtp.mail(self._sender, options)
            if code != 250:
                raise Down(f"MAIL FROM answered {code}")
            code, _ = smtp.rcpt(to)
            if code not in (250, 251):
                return self._refused(smtp, code)
            code, _ = smtp.docmd("DATA")
            if code != 354:
                return self._refused(smtp, code)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise Down(type(error).__name__) from error
        except Down:
            self.close()
            raise
        try:
            assert smtp.sock is not None
            smtp.sock.settimeout(self._final_s)
            smtp.send(_DOT.sub(b"..", raw) + (b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n"))
            code, _ = smtp.getreply()
            smtp.sock.settimeout(self._timeout_s)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise Unknown(type(error).__name__) from error
        if code == 250:
            return "sent", code
        if code == 421:
            self.close()
        return ("refused" if code >= 500 else "later"), code

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

    def _refused(self, smtp: smtplib.SMTP, code: int) -> tuple[Answer, int]:
        if code == 421:
            raise Down("421")
        smtp.docmd("RSET")
        return ("refused" if code >= 500 else "later"), code

    def _connect(self) -> smtplib.SMTP:
        if self._smtp is None:
            smtp = None
            try:
                smtp = smtplib.SMTP(local_hostname=socket.gethostname(), timeout=self._timeout_s)
                code, _ = smtp.connect(self._host, self._port)
                if code != 220:
                    raise Down(f"greeting {code}")
                smtp.ehlo_or_helo_if_needed()
            except (OSError, smtplib.SMTPException, Down) as error:
                if smtp is not None:
                    smtp.close()
                raise Down(str(error) if isinstance(error, Down) else type(error).__name__) from error
            self._smtp = smtp
        return self._smtp
