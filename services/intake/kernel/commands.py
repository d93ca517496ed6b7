"""Who may give which command about which item. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.intake.kernel.domain import Account
from services.intake.kernel.refusals import not_found
from shared.events import State
from shared.refusals import Refused


@dataclass(frozen=True, slots=True)
class ItemRef:
    """An item as a command needs it."""

    item: str
    claim: str
    listing: str
    complainant: str
    principal: str
    seller: str | None
    right: str
    state: str
    lane: str


Part = Literal["holder", "seller", "reviewer", "operator"]
MAY: Final[dict[str, frozenset[Part]]] = {
    "add_information": frozenset({"holder"}),
    "withdraw": frozenset({"holder"}),
    "respond": frozenset({"holder"}),
    "accept": frozenset({"seller"}),
    "counter": frozenset({"seller"}),
    "report_action": frozenset({"holder", "seller"}),
    "report_result": frozenset({"holder", "seller"}),
    "complain": frozenset({"holder", "seller"}),
    "decide": frozenset({"reviewer", "operator"}),
}
"""Which parts in an item may give each command."""
RENEWING: Final = frozenset({"add_information", "complain"})
"""Commands of the holder's side that carry what is now known of it: identity, authority, right and materials."""


def part_in(account: Account, item: ItemRef) -> Part | None:
    """The account's part in the item; None: it is not party to it, and must not learn that it exists."""
    if account.role in ("reviewer", "operator"):
        return "reviewer" if account.role == "reviewer" else "operator"
    if account.id in (item.complainant, item.principal):
        return "holder"
    if item.seller is not None and account.id == item.seller:
        return "seller"
    return None


def command_targets(kind: str, account: Account, items: Sequence[ItemRef]) -> tuple[Part, list[ItemRef]]:
    """(part, items): which of the items the account may give this command about, and its part in them.

    The item's owner decides, in order, whether an item's state allows the command. Only what can never succeed is left
    out here.

    Raises:
        Refused: 404 if it is party to none, 403 if its part may not give the command.
    """
    parts = [(part_in(account, item), item) for item in items]
    mine = [(part, item) for part, item in parts if part is not None]
    if not mine:
        raise not_found()
    allowed = [(part, item) for part, item in mine if part in MAY[kind]]
    if not allowed:
        raise Refused(
            403,
            "not_your_part",
            f"A {mine[0][0]} cannot give this command.",
            cure=f"It is for: {', '.join(sorted(MAY[kind]))}.",
        )
    live = [(part, item) for part, item in allowed if item.state != State.WITHDRAWN] or allowed
    return live[0][0], [item for _, item in live]
