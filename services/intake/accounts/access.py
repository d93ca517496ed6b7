"""What is held on a subject, shaped for itself: other people's names stay out. Pure: no I/O, no clock.

Each part of an export is a query (``services/ops/privacy/export.py``) and the columns of its rows; here is what becomes of these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

WORDS: Final = frozenset({"rule", "system", "policy", "timer", "day"})
"""What stands for who did something where nobody did."""

NOT_INCLUDED: Final[dict[str, str]] = {
    "other_parties": "Names, addresses and documents of others: they are theirs. Their accounts are named by id.",
    "staff": "Who of the staff decided, and notes among them.",
    "secrets": "Tokens and secrets of webhooks: of tokens a digest is kept that says nothing.",
    "texts_of_messages": "Texts of messages are not kept: template, version and digest are.",
    "copies": "Events on topics and in logs repeat by ids what is here; backups hold what the database held.",
}  # fmt: skip
"""What an export leaves out, and why."""


def whose(by: str | None, subject: str, staff: Collection[str]) -> str | None:
    """Who did something, without naming anybody of the staff: ``self``, ``staff``, a word of ours, or a counterpart's id."""
    if by is None or by in WORDS:
        return by
    if by == subject:
        return "self"
    return "staff" if by in staff or by == "operator" else by


def shaped(
    row: Mapping[str, Any], subject: str, staff: Collection[str], *, people: Collection[str] = ()
) -> dict[str, Any]:
    """A row as its subject is shown it: what is not there is left out, and of columns ``people`` nobody of the staff is named."""
    return {
        name: whose(value, subject, staff) if name in people else plain(value)
        for name, value in row.items()
        if value is not None
    }


def plain(value: Any) -> Any:
    """A value that JSON knows: digests in hex, dates and times as text by the encoder."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
