"""What a command does to a listing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from shared.events import Listing, MarketplaceCommand, Receipt

Measure = Literal["none", "suspended", "removed"]
MEASURES: dict[str, Measure] = {"suspend": "suspended", "remove": "removed", "restore": "none"}


@dataclass(slots=True)
class Page:
    """A listing as the marketplace keeps it.

    Attributes:
        ended: the seller has taken it away.
        measure: what Goodfaith has had done to it.
        seq: highest command carried out.
    """

    listing: str
    partition: int
    seller: str
    title: str = ""
    locale: str = "en"
    entity: str | None = None
    ended: bool = False
    measure: Measure = "none"
    seq: int = 0
    image_hash: str | None = None

    @property
    def visible(self) -> bool:
        """Whether its page is there."""
        return not self.ended and self.measure == "none"


def published(listing: str, page: Page | None) -> Listing:
    """What the world is told of a listing; ``unknown`` when there is none."""
    if page is None:
        return Listing(listing=listing, state="unknown")
    return Listing(
        listing=listing,
        seller=page.seller,
        state="ended" if page.ended else "visible" if page.measure == "none" else page.measure,
        title_digest=hashlib.sha256(page.title.encode()).hexdigest()[:32] if page.title else None,
        locale=page.locale,
        entity=page.entity,
        title=page.title or None,
        image_hash=page.image_hash,
    )


def carry_out(page: Page | None, command: MarketplaceCommand) -> Receipt:
    """Carry a command out; one that is not above the last is done already."""
    if page is None and command.action != "lookup":
        return Receipt(command=command.command, listing=command.listing, seq=command.seq, result="unknown_listing")
    if page is not None and command.action != "lookup" and command.seq > page.seq:
        page.seq = command.seq
        page.measure = MEASURES[command.action]
    return Receipt(command=command.command, listing=command.listing, seq=command.seq)
