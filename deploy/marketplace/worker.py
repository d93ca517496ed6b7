"""The single writer of listings and sellers' measures: reads commands from topics and queue, seeds from the queue."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Meta, Struct

from deploy.marketplace import centre, domain, store
from deploy.marketplace.domain import Page, Seller
from shared import events
from shared.content import Content
from shared.events import (
    CentreMessage,
    Data,
    Id,
    MarketplaceCommand,
    MarketplaceSeller,
    Picture,
    Price,
    Receipt,
    SellerCommand,
    SellerReceipt,
)
from shared.marketplace import Letter
from shared.runtime import Batch, Due, Incoming, Outgoing, Tx
from shared.topics import (
    CENTRE_MESSAGES,
    CENTRE_RECEIPTS,
    MARKETPLACE_COMMANDS,
    MARKETPLACE_LISTINGS,
    MARKETPLACE_RECEIPTS,
    MARKETPLACE_SELLERS,
    SELLER_COMMANDS,
    SELLER_RECEIPTS,
    Topic,
)

log = structlog.get_logger(__name__)

CHUNK: Final = 500
"""Most listings in one queue row."""
_CHUNKS_A_BATCH: Final = 4
_COMMAND: Final = "goodfaith.marketplace.command.v1"
_RECEIPT: Final = "goodfaith.marketplace.receipt.v1"
_LISTING: Final = "goodfaith.marketplace.listing.v1"
_SELLER: Final = "goodfaith.marketplace.seller.v1"
_SELLER_COMMAND: Final = "goodfaith.marketplace.seller_command.v1"
_CENTRE_RECEIPT: Final = "goodfaith.marketplace.message_receipt.v1"
_SELLER_RECEIPT: Final = "goodfaith.marketplace.seller_receipt.v1"


class Seed(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A listing to put on the site."""

    listing: Id
    seller: Id
    title: Annotated[str, Meta(max_length=300, pattern="^[^\\x00]*$")] = ""
    ended: bool = False
    locale: Annotated[str, Meta(max_length=20, pattern="^[A-Za-z0-9-]+$")] = "en"
    entity: Id | None = None
    image_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")] | None = None
    brand: Annotated[str, Meta(max_length=200, pattern="^[^\\x00]*$")] | None = None
    category: Annotated[str, Meta(max_length=300, pattern="^[^\\x00]*$")] | None = None
    price: Price | None = None
    condition: Id | None = None
    description: Annotated[str, Meta(max_length=4000, pattern="^[^\\x00]*$")] | None = None
    images: Annotated[tuple[Picture, ...], Meta(max_length=12)] = ()
    """These as in ``shared.events.Listing``."""


class Seeds(Data, frozen=True, kw_only=True):
    """Listings of one partition."""

    listings: tuple[Seed, ...]


class Linked(Data, frozen=True, kw_only=True):
    """Sellers of one partition, with their keys."""

    sellers: tuple[MarketplaceSeller, ...]


_sellers = msgspec.json.Decoder(tuple[MarketplaceSeller, ...])
_seeds = msgspec.json.Decoder(tuple[Seed, ...])
_command = msgspec.json.Decoder(MarketplaceCommand)
_seller_command = msgspec.json.Decoder(SellerCommand)


class Marketplace:
    """Service ``marketplace``.

    Args:
        key: opens what is sent to the message centre.
    """

    name = "marketplace"
    schema = "marketplace"
    prefix = ""
    reads: Sequence[Topic] = (MARKETPLACE_COMMANDS, SELLER_COMMANDS, CENTRE_MESSAGES)
    keyed_like = frozenset(
        {
            MARKETPLACE_RECEIPTS.name,
            MARKETPLACE_LISTINGS.name,
            MARKETPLACE_SELLERS.name,
            SELLER_RECEIPTS.name,
            CENTRE_RECEIPTS.name,
        }
    )
    queue = "queue"
    raw = False
    keeps_time = False

    def __init__(self, key: X25519PrivateKey | None = None) -> None:
        self._key = key

    def pull(self, tx: Tx, room: int) -> Sequence[Incoming]:
        """Commands and seeds that came by HTTP."""
        found = []
        for id_, partition, kind, body in store.pull(tx.connection, tx.partitions, min(room, _CHUNKS_A_BATCH)):
            data: Data
            if kind == "seed":
                data, key, name, type_ = Seeds(listings=_seeds.decode(body)), f"seed.{id_}", f"seed.{id_}", "seed"
                raw = b""
            elif kind == "sellers":
                data, key, name, type_ = Linked(sellers=_sellers.decode(body)), f"seed.{id_}", f"seed.{id_}", "sellers"
                raw = b""
            elif kind == "seller_command":
                data = _seller_command.decode(body)
                key, name, type_ = data.seller, f"http.{data.command}", _SELLER_COMMAND
                raw = events.encode(data, id=name, source="/http", type=type_, subject=key, time=tx.now, key=key)
            else:
                data = _command.decode(body)
                key, name, type_ = data.listing, f"http.{data.command}", _COMMAND
                raw = events.encode(data, id=name, source="/http", type=type_, subject=key, time=tx.now, key=key)
            found.append(Incoming("@queue", partition, id_, key, name, type_, data, raw=raw))
        return found

    def open(self, tx: Tx, incoming: Sequence[Incoming]) -> Batch:
        """Load the listings of all commands and seeds, and the sellers of both."""
        ids: set[str] = set()
        commanded: set[str] = set()
        offering: set[str] = set()
        linked: set[str] = set()
        told: set[str] = set()
        for record in incoming:
            if isinstance(record.data, MarketplaceCommand):
                ids.add(record.data.listing)
            elif isinstance(record.data, Seeds):
                ids.update(seed.listing for seed in record.data.listings)
                offering.update(seed.seller for seed in record.data.listings)
            elif isinstance(record.data, SellerCommand):
                commanded.add(record.data.seller)
            elif isinstance(record.data, CentreMessage):
                told.add(record.data.seller)
            elif isinstance(record.data, Linked):
                linked.update(one.seller for one in record.data.sellers)
        pages = store.pages(tx.connection, ids)
        sellers = store.sellers(tx.connection, commanded | offering | linked | told)
        asked = commanded | told
        known = store.offering(tx.connection, asked - set(sellers)) | (asked & offering)
        return Pages(tx, pages, sellers, known, centre.habits(tx.connection, told), self._key)


class Pages:
    """One batch."""

    def __init__(
        self,
        tx: Tx,
        pages: dict[str, Page],
        sellers: dict[str, Seller],
        offering: set[str],
        habits: Mapping[str, centre.Habit],
        key: X25519PrivateKey | None,
    ) -> None:
        self._habits = habits
        self._key = key
        self._letters: list[tuple[CentreMessage, Letter]] = []
        self._tx = tx
        self._pages = pages
        self._sellers = sellers
        self._offering = offering
        self._sanctioned: dict[str, Seller] = {}
        self._told: list[SellerReceipt] = []
        self._changed: dict[str, Page] = {}
        self._answers: list[Receipt] = []

    def apply(self, incoming: Incoming) -> Iterable[Outgoing]:
        """Carry out a command, or put listings on the site."""
        data = incoming.data
        if isinstance(data, MarketplaceCommand):
            return self._command(incoming, data)
        if isinstance(data, Seeds):
            return [told for seed in data.listings if (told := self._seed(incoming, seed)) is not None]
        if isinstance(data, SellerCommand):
            return self._sanction(incoming, data)
        if isinstance(data, CentreMessage):
            return self._put(incoming, data)
        if isinstance(data, Linked):
            return [self._seller(incoming, seller) for seller in data.sellers]
        return ()

    def _command(self, incoming: Incoming, command: MarketplaceCommand) -> list[Outgoing]:
        page = self._pages.get(command.listing)
        seq = page.seq if page is not None else 0
        receipt = domain.carry_out(page, command)
        if page is not None and page.seq != seq:
            self._changed[page.listing] = page
        if incoming.topic == "@queue":
            self._answers.append(receipt)  # a command that came by HTTP is answered by HTTP
            return []
        out = []
        if command.action == "lookup":
            out.append(self._listing(incoming, command.listing))
        out.append(self._out(incoming, MARKETPLACE_RECEIPTS, command.listing, _RECEIPT, receipt))
        return out

    def _sanction(self, incoming: Incoming, command: SellerCommand) -> list[Outgoing]:
        seller = self._sellers.get(command.seller)
        if seller is None and command.seller in self._offering:
            seller = self._sellers[command.seller] = Seller(command.seller, incoming.partition)
        receipt = domain.sanction(seller, command)
        if seller is not None:
            self._sanctioned[seller.seller] = seller
        if incoming.topic == "@queue":
            self._told.append(receipt)
            return []
        return [self._out(incoming, SELLER_RECEIPTS, command.seller, _SELLER_RECEIPT, receipt)]

    def _put(self, incoming: Incoming, told: CentreMessage) -> list[Outgoing]:
        known = told.seller in self._sellers or told.seller in self._offering
        letter, receipts = centre.take(told, known=known, habit=self._habits.get(told.seller), key=self._key)
        if letter is not None:
            self._letters.append((told, letter))
        return [
            self._out(incoming, CENTRE_RECEIPTS, told.seller, _CENTRE_RECEIPT, receipt, told.message)
            for receipt in receipts
        ]

    def _seed(self, incoming: Incoming, seed: Seed) -> Outgoing | None:
        page = self._pages.get(seed.listing)
        seller = self._sellers.get(seed.seller)
        if (page is None or page.seller != seed.seller) and seller is not None and seller.barred is not None:
            # the API has checked already: the seller was barred in between
            log.warning("not listed", listing=seed.listing, seller=seed.seller, reason=seller.barred)
            return None
        if page is None:
            page = self._pages[seed.listing] = Page(seed.listing, incoming.partition, seed.seller)
        page.seller, page.title, page.locale = seed.seller, seed.title, seed.locale
        page.entity, page.ended, page.image_hash = seed.entity, seed.ended, seed.image_hash
        shown = Content(
            title=seed.title or None,
            brand=seed.brand,
            category=seed.category,
            price=seed.price,
            condition=seed.condition,
            description=seed.description,
            images=seed.images,
        )
        page.content = domain.edited(page.content, shown)
        self._changed[seed.listing] = page
        return self._listing(incoming, seed.listing)

    def _seller(self, incoming: Incoming, told: MarketplaceSeller) -> Outgoing:
        if told.seller not in self._sellers:
            # known from now on, even without listings: measures against its business reach it before it offers anything
            self._sanctioned[told.seller] = self._sellers[told.seller] = Seller(told.seller, incoming.partition)
        return self._out(incoming, MARKETPLACE_SELLERS, told.seller, _SELLER, told)

    def _listing(self, incoming: Incoming, listing: str) -> Outgoing:
        told = domain.published(listing, self._pages.get(listing))
        return self._out(incoming, MARKETPLACE_LISTINGS, listing, _LISTING, told)

    def _out(
        self, incoming: Incoming, topic: Topic, key: str, type_: str, data: Data, subject: str | None = None
    ) -> Outgoing:
        """What a record causes; its subject is the key, unless another is given."""
        return Outgoing(incoming.partition, topic, key, type_, data, subject or key, self._tx.now, None, incoming.id)

    def due(self, limit: int) -> Sequence[Due]:
        """No timers."""
        return ()

    def fire(self, due: Due) -> Iterable[Outgoing]:
        """No timers."""
        return ()

    def save(self) -> None:
        """Write what changed."""
        store.save(self._tx.connection, self._changed.values())
        store.answered(self._tx.connection, self._answers)
        store.save_sellers(self._tx.connection, self._sanctioned.values())
        store.answered_sellers(self._tx.connection, self._told)
        centre.keep(self._tx.connection, self._letters)

    def marks(self) -> dict[int, dt.datetime]:
        """None: watermarks are intake's."""
        return {}
