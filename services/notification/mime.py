"""Builds an e-mail as bytes. Pure: the same input gives the same bytes.

Written by hand because ``email.message`` takes as long for one message as everything else together; the tests parse
every message with ``email`` and compare. Every value from outside passes through ``address``, ``phrase`` or
``unstructured``, which can write no line end but their own folds.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import unicodedata
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

import idna

LOCAL: Final = 64
"""Octets of a local part (RFC 5321, 4.5.3.1.1)."""
DOMAIN: Final = 255
LINE: Final = 76
"""Characters of a header line, where it can be folded (RFC 5322 recommends at most 78)."""
MOST: Final = 300
"""Most characters of a name or subject; the rest is cut off."""
LONGEST: Final = 998
"""Most octets of a line of text, without its line end (RFC 5322)."""

_ATOM: Final = r"[^\s@<>(),;:\"\\\[\].\x00-\x1f\x7f]+"
_ADDRESS: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@([^\s@<>(),;:\"\\\[\]]{{1,255}})")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_BAD: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_ENDS: Final = re.compile(r"\r\n|\r|\n")


@lru_cache(maxsize=4096)
def domain(text: str) -> str | None:
    """A mail domain as looked up in DNS (lower case, internationalised labels in ASCII); None if it is not one."""
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            return None
    labels = name.split(".")
    if len(name) > DOMAIN - 2 or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        return None
    return name


def address(text: object) -> str:
    """An address as sent, with its domain in ASCII; empty if it is not an address.

    Supports only the common form of RFC 5321: no quoted local parts and no address literals.
    """
    if not isinstance(text, str) or len(text) > LOCAL + 1 + DOMAIN:
        return ""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return ""
    local, name = found[1], domain(found[2])
    if name is None or len(local.encode("utf-8", "replace")) > LOCAL:
        return ""
    if not local.isascii() and any(unicodedata.category(char) in _BAD for char in local):
        return ""
    return f"{local}@{name}"


def _words(text: str) -> list[str]:
    """``text`` as encoded words (RFC 2047) of at most 75 characters, none of which splits a character."""
    words = []
    part: list[str] = []
    size = 0
    for char in text:
        octets = len(char.encode("utf-8", "replace"))
        if size + octets > 42:
            words.append("".join(part))
            part, size = [], 0
        part.append(char)
        size += octets
    words.append("".join(part))
    return [f"=?utf-8?b?{base64.b64encode(word.encode('utf-8', 'replace')).decode()}?=" for word in words]


def _harmless(text: str) -> str:
    """``text`` as one line of limited length, without control, format and separator characters."""
    text = text[: 4 * MOST]
    if not (text.isascii() and text.isprintable()):
        kept = (" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)
        text = "".join(char for char in kept if unicodedata.category(char) not in _BAD)
    return " ".join(text.split())[:MOST].rstrip()


def _fold(name: str, words: list[str]) -> str:
    """A header of words, folded between them."""
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > LINE and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


def unstructured(name: str, text: str) -> str:
    """A header whose value is text, such as ``Subject``."""
    text = _harmless(text)
    if text.isascii() and "=?" not in text and all(len(word) <= LONGEST - LINE for word in text.split(" ")):
        # a run of spaces would be lost at a fold, if anywhere
        return _fold(
            name, text.split(" ") if "  " not in text else [text] if len(text) < LONGEST - LINE else _words(text)
        )
    return _fold(name, _words(text))


def phrase(text: str) -> list[str]:
    """A display name as words of a header."""
    text = _harmless(text)
    if not text:
        return []
    if text.isascii() and "=?" not in text:
        if _PLAIN.fullmatch(text):
            return text.split(" ")
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return [f'"{escaped}"']
    return _words(text)


def _mailbox(name: str, display: str, addr: str) -> str:
    words = phrase(display)
    return _fold(name, [*words, f"<{addr}>"] if words else [addr])


def _part(kind: str, text: str, avoid: str = "") -> tuple[str, bytes]:
    """(headers, body) of a text part; the body ends with a line end."""
    lines = _ENDS.split(text)
    if lines and lines[-1] == "":
        lines.pop()
    plain = text.isascii() and "\0" not in text and not (avoid and avoid in text)
    if plain and all(len(line) <= LONGEST for line in lines):
        headers = f'Content-Type: {kind}; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit'
        return headers, ("\r\n".join(lines) + "\r\n").encode()
    coded = base64.b64encode(("\r\n".join(lines) + "\r\n").encode("utf-8", "replace"))
    rows = [coded[start : start + 76] for start in range(0, len(coded), 76)]
    headers = f'Content-Type: {kind}; charset="utf-8"\r\nContent-Transfer-Encoding: base64'
    return headers, b"\r\n".join(rows) + b"\r\n"


def compose(
    *,
    id: str,
    sender: str,
    to: str,
    name: str,
    subject: str,
    at: dt.datetime,
    text: str,
    html: str | None = None,
    language: str = "en",
) -> bytes:
    """A message, ready to be signed and sent.

    There is no ``List-Unsubscribe``: nobody may opt out of legal notices.

    Args:
        id: the message's id. ``Message-ID`` is derived from it, so a repeat can be recognised.
        sender: the address set by the operator.
        to: an address as returned by ``address``; the only recipient.
        name: the recipient's name on file.
        language: of ``text`` and ``html``, for ``Content-Language``.

    Raises:
        ValueError: ``sender`` or ``to`` is not an address.
    """
    if not to or address(to) != to:
        raise ValueError("no address to send to")
    home = domain(sender.rpartition("@")[2])
    if home is None:
        raise ValueError("no address to send from")
    head = [
        f"From: {sender}",
        _mailbox("To", name, to),
        unstructured("Subject", subject),
        f"Date: {format_datetime(at)}",
        f"Message-ID: <{id}@{home}>",
        "Auto-Submitted: auto-generated",
        f"Content-Language: {language}",
        "MIME-Version: 1.0",
    ]
    if html is None:
        headers, body = _part("text/plain", text)
        return "\r\n".join([*head, headers]).encode() + b"\r\n\r\n" + body
    # base64 has no "_", and a text that contains the boundary is sent as base64
    boundary = f"=_{id}"
    parts = [_part("text/plain", text, boundary), _part("text/html", html, boundary)]
    head.append(f'Content-Type: multipart/alternative; boundary="{boundary}"')
    out = ["\r\n".join(head).encode(), b"\r\n"]
    for headers, body in parts:
        # the line end before a boundary belongs to the boundary
        out += [f"\r\n--{boundary}\r\n{headers}\r\n\r\n".encode(), body]
    out.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(out)
