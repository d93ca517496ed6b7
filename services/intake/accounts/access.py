"""Shapes the data of a subject for its export, without other people's names. Pure: no I/O, no clock.

The queries of an export, and the columns of their rows, are in ``services/ops/privacy/export.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

WORDS: Final = frozenset({"rule", "system", "policy", "timer", "day"})
"""Stand-ins for the actor where no person acted."""

NOT_INCLUDED: Final[dict[str, str]] = {
    "other_parties": "Names, addresses and documents of other people. Their accounts appear by id only.",
    "staff": "Which members of staff decided, and notes between them.",
    "secrets": "Tokens, and the secrets of webhooks. Only a digest of each token is stored.",
    "texts_of_messages": "The texts of messages. Only template, version and digest are stored.",
    "copies": "Events in topics and logs, which repeat this data by ids, and backups, which hold what the database held.",
}
"""What an export leaves out, and why."""


def whose(by: str | None, subject: str, staff: Collection[str]) -> str | None:
    """Name the actor without identifying staff: ``self``, ``staff``, one of ``WORDS``, or a counterpart's id."""
    if by is None or by in WORDS:
        return by
    if by == subject:
        return "self"
    return "staff" if by in staff or by == "operator" else by


def shaped(
    row: Mapping[str, Any], subject: str, staff: Collection[str], *, people: Collection[str] = ()
) -> dict[str, Any]:
    """Return a row as its subject sees it: without nulls, and without names of staff in the columns ``people``."""
    return {
        name: whose(value, subject, staff) if name in people else plain(value)
        for name, value in row.items()
        if value is not None
    }


def plain(value: Any) -> Any:
    """Convert a value for JSON: digests become hex; the encoder turns dates and times into text."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
