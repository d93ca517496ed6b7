"""What of the parties' own words a reader is shown. Pure. Nothing is shown unless a rule here says so.

The tenant filter has said which items the reader may see at all; these rules come on top of it. Staff read everything
at once, each side its own. The other side reads what the life cycle has released:

- an explanation: the seller, once it was notified of the item
- a counter: the holder's side, once that very counter was forwarded (row 12), never one that was sent back (row 11)
- a response: the seller, once the item was decided
- a complaint: nobody but staff
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.intake.kernel.domain import TOLD_SELLER, Account
from services.intake.kernel.filings import TextKind
from shared.events import State

_STILL: Final = frozenset({State.COUNTERED, State.LITIGATION, State.SUSPENDED})
"""States in which a counter waits to be checked, or the item for its return to that."""
_FORWARDED: Final = frozenset({State.HOLDER_RESPONSE, State.PLATFORM_REVIEW})
_DECIDED: Final = frozenset({State.RESTORED, State.UPHELD_AFTER_COUNTER})


@dataclass(frozen=True, slots=True)
class Place:
    """An item as the reader may see it: its seller, and how far it has come (``kernel.domain.told``)."""

    seller: str | None
    told: int


@dataclass(frozen=True, slots=True)
class Said:
    """One of a text's commands. ``since``: the item's states from the change that applied it, in order."""

    item: str
    role: str
    since: Sequence[str] = ()


def released(kind: TextKind, since: Sequence[str]) -> bool:
    """Whether the life cycle has released a command's text to the other side."""
    states = [State(state) for state in since]
    if kind == "counter":
        return next((state in _FORWARDED for state in states if state not in _STILL), False)
    return kind == "response" and any(state in _DECIDED for state in states)


def about(
    me: Account,
    holders: frozenset[str],
    items: Mapping[str, Place],
    *,
    kind: TextKind,
    id: str,
    author: str,
    commands: Sequence[Said] = (),
) -> list[str] | None:
    """The items for which the reader is shown a text; empty: it is about the whole claim. None: it is not shown.

    Args:
        holders: complainant and principal.
        items: the claim's items that the reader may see.
        id: of the text; that of an explanation is its claim's or item's.
    """
    if kind == "explanation":
        concerned = [id] if id in items else [] if id.startswith("i-") else list(items)
        mine = me.sees_all or me.id in holders
        told = any(items[item].seller == me.id and items[item].told >= TOLD_SELLER for item in concerned)
        if not (mine or told) or not concerned:
            return None
        return [id] if id in items else []
    return sorted(_where(me, holders, items, kind, author, commands)) or None


def _where(
    me: Account,
    holders: frozenset[str],
    items: Mapping[str, Place],
    kind: TextKind,
    author: str,
    commands: Sequence[Said],
) -> Iterator[str]:
    for one in commands:
        place = items.get(one.item)
        if place is None:
            continue
        by_holder = one.role == "holder"
        own = me.id == author or (by_holder and me.id in holders)
        other = me.id == place.seller if by_holder else me.id in holders
        if me.sees_all or own or (other and released(kind, one.since)):
            yield one.item
