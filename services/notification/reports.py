"""Return paths and delivery reports (RFC 3464) for our messages. Pure.

A report is trusted only for the message named in the address it was sent to. The address contains the message's id
and a keyed hash of it, so nobody can bounce a message whose return path they have not seen. Nothing else in a report,
such as addresses and returned headers, is read.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Final, Literal

from services.notification.channels import status

PREFIX: Final = "bounces+"
MAX_BYTES: Final = 1_000_000
"""Largest report accepted: some servers return the whole message."""
READ: Final = 65_536
"""Bytes of a report that are read: its status comes before the returned message."""
_PATH: Final = re.compile(r"bounces\+([0-9a-f]{32})-([0-9a-f]{20})@([a-z0-9.-]{1,253})")
_ID: Final = re.compile(r"m-([0-9a-f]{32})")
PARTS: Final = 50
"""Most parts of a report that are read."""

ReportOutcome = Literal["delivered", "bounced", "delayed", "relayed"]
_ACTIONS: Final[dict[str, ReportOutcome]] = {
    "failed": "bounced",
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "relayed",
    "expanded": "relayed",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a message, and the enhanced status (RFC 3463) reported for it."""

    outcome: ReportOutcome
    reason: str


def return_path(key: str, id: str, domain: str) -> str:
    """The address to which reports about a message go; at most 61 octets before the ``@``.

    Raises:
        ValueError: ``id`` is not a message id.
    """
    found = _ID.fullmatch(id)
    if found is None:
        raise ValueError("not a message's id")
    return f"{PREFIX}{found[1]}-{_mark(key, id)}@{domain}"


def message_of(key: str, address: str, domain: str) -> str | None:
    """The message whose return path an address is, or None. Ignores case, because relays may change it."""
    found = _PATH.fullmatch(address.lower())
    if found is None or found[3] != domain.lower():
        return None
    id = f"m-{found[1]}"
    return id if hmac.compare_digest(found[2], _mark(key, id)) else None


def _mark(key: str, id: str) -> str:
    return hmac.new(key.encode(), b"bounce\0" + id.encode(), hashlib.sha256).hexdigest()[:20]


def parse(raw: bytes) -> Report | None:
    """What mail to a return path reports; None if it reports nothing, like an automatic reply or junk.

    If it reports on several recipients (we send to one, but that may be a list), a failure takes precedence over a
    delivery, and a delivery over a delay. Never raises, whatever the input.
    """
    try:
        # the returned message comes last and is not needed
        message = email.message_from_bytes(raw[:READ], policy=email.policy.compat32)
        found = list(_fields(message))
    except Exception:
        # the parser is documented not to raise, but this input is written by others
        return None
    order: tuple[ReportOutcome, ...] = ("bounced", "delivered", "relayed", "delayed")
    return min(found, key=lambda report: order.index(report.outcome), default=None)


def _fields(message: Message) -> Iterator[Report]:
    """The report about each recipient."""
    kind = message.get_param("report-type")
    if message.get_content_type() != "multipart/report" or not isinstance(kind, str):
        return
    if kind.lower() != "delivery-status":
        return
    for part in _within(message, PARTS):
        if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
            # the first group concerns the report itself, each further one a recipient
            for group in _within(part, PARTS)[1:]:
                if (report := _recipient(group)) is not None:
                    yield report


def _within(message: Message, most: int) -> list[Message]:
    parts = message.get_payload()
    return [part for part in parts[:most] if isinstance(part, Message)] if isinstance(parts, list) else []


def _recipient(group: Message) -> Report | None:
    action = _ACTIONS.get(str(group.get("Action", "")).split("(")[0].strip().lower())
    if action is None:
        return None
    reason = status(str(group.get("Status", "")).strip())
    fallback = {"bounced": "5.0.0", "delayed": "4.0.0"}.get(action, "2.0.0")
    return Report(action, fallback if reason is None else reason)
