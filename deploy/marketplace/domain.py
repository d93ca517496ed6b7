"""The effect of commands on listings and sellers."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from shared import events
from shared.content import Content, digest
from shared.events import Listing, MarketplaceCommand, Receipt, SellerCommand, SellerReceipt

Measure = Literal["none", "suspended", "removed"]
MEASURES: dict[str, Measure] = {"suspend": "suspended", "remove": "removed", "restore": "none"}


@dataclass(slots=True)
class Page:
    """A listing as the marketplace keeps it.

    Attributes:
        ended: whether the seller has ended it.
        measure: the measure that Goodfaith has ordered.
        seq: highest sequence number of a command carried out.
        content: what its page shows, the title included.
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
    content: Content = field(default_factory=Content)

    @property
    def visible(self) -> bool:
        """Whether its page is shown."""
        return not self.ended and self.measure == "none"


def edited(before: Content, after: Content) -> Content:
    """The content after an edit, under its number: one above that before if anything differs that a buyer sees."""
    number = before.revision or 0
    return msgspec.structs.replace(after, revision=number + (number == 0 or digest(before) != digest(after)))


def published(listing: str, page: Page | None) -> Listing:
    """A listing as it is published; ``unknown`` if there is none."""
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
        revision=page.content.revision,
        brand=page.content.brand,
        category=page.content.category,
        price=page.content.price,
        condition=page.content.condition,
        description=page.content.description,
        images=page.content.images,
    )


def carry_out(page: Page | None, command: MarketplaceCommand) -> Receipt:
    """Carry out a command; one whose sequence number is not above the last has been carried out already."""
    if page is None and command.action != "lookup":
        return Receipt(command=command.command, listing=command.listing, seq=command.seq, result="unknown_listing")
    if page is not None and command.action != "lookup" and command.seq > page.seq:
        page.seq = command.seq
        page.measure = MEASURES[command.action]
    return Receipt(command=command.command, listing=command.listing, seq=command.seq)


@dataclass(slots=True)
class Seller:
    """A seller as the marketplace keeps it.

    Attributes:
        measures: the measures that Goodfaith has imposed.
        until: when they are planned to be reduced.
        seq: highest sequence number of a command carried out.
    """

    seller: str
    partition: int
    measures: tuple[events.Measure, ...] = ()
    until: dt.datetime | None = None
    seq: int = 0

    @property
    def hidden(self) -> bool:
        """Whether all its listings are hidden."""
        return "frozen" in self.measures or "closed" in self.measures

    @property
    def barred(self) -> str | None:
        """Why it may not offer anything new; None if it may."""
        if "closed" in self.measures:
            return "The account is closed."
        return "The account may offer nothing new." if "may_not_list" in self.measures else None


def sanction(seller: Seller | None, command: SellerCommand) -> SellerReceipt:
    """Carry out a command on a seller; one whose sequence number is not above the last has been carried out already."""
    if seller is None:
        return SellerReceipt(command=command.command, seller=command.seller, seq=command.seq, result="unknown_seller")
    if command.seq > seller.seq:
        seller.measures, seller.until, seller.seq = command.measures, command.until, command.seq
    return SellerReceipt(command=command.command, seller=command.seller, seq=command.seq)
