"""Shapes what is held on a subject for an export to it, without other people's names. Pure: no I/O, no clock.

The queries of an export, and the columns of their rows, are in ``services/ops/privacy/export.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

WORDS: Final = frozenset({"rule", "system", "policy", "timer", "day"})
"""Stand-ins for the actor where no person acted."""

NOT_INCLUDED: Final[dict[str, str]] = {
    "other_parties": "Names, addresses and documents of others: they are theirs. Their accounts are named by id.",
    "staff": "Who of the staff decided, and notes among them.",
    "secrets": "Tokens and secrets of webhooks: of tokens a digest is kept that says nothing.",
    "texts_of_messages": "Texts of messages are not kept: template, version and digest are.",
    "copies": "Events on topics and in logs repeat by ids what is here; backups hold what the database held.",
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
