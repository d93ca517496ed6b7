"""A population with known truth: who files what against which listings, whether rightly, and when. Pure.

The same goods, rates, number of items and seed make the same population. Shares are kept exactly, up to rounding: only
who, what and when is left to chance. The words that sellers use are this module's own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from labs.population.catalogue import Goods
from shared.failures import CommandError

FILE: Final = Path(__file__).with_name("population.toml")

Share = Annotated[float, Meta(ge=0, le=1)]
Span = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]
Conduct = Literal["careful", "sloppy", "malicious"]
Kind = Literal["counterfeit", "passing_off", "copied", "genuine", "resale", "compatible", "unrelated", "own", "shared"]
Reason = Literal["counterfeit", "improper_use", "copied_image_or_text"]
Offer = Literal["plain", "admitted", "disguised"]
INFRINGING: Final[frozenset[Kind]] = frozenset({"counterfeit", "passing_off", "copied"})
PICTURED: Final[frozenset[Kind]] = frozenset({"copied", "own", "shared"})
"""Of these the question is whose picture the listing shows."""
OF_PICTURES: Final[Reason] = "copied_image_or_text"
"""What claims about these allege."""
MOMENTS: Final = (4, 12)
"""Hours of a day at which claims are filed: holders are all over the world."""
A_NOTIFIER: Final = 40
"""Items of the average notifier, as long as there are brands enough."""
DAYS_MOST: Final = 28
A_DAY: Final = 60
"""Items of the average day, until they no longer fit into ``DAYS_MOST``."""

T = TypeVar("T")


class Behaviour(Struct, frozen=True, forbid_unknown_fields=True):
    """How notifiers of one conduct behave; the file explains the fields."""

    items: Share
    infringing: Share
    infringing_kinds: dict[Kind, float]
    lawful_kinds: dict[Kind, float]
    claim: Span
    counterfeit: Share
    known: Share
    yields: Share
    insists: Share
    complains: Share


class SellerDoes(Struct, frozen=True, forbid_unknown_fields=True):
    """What sellers do about a notice."""

    counters: Share
    accepts: Share
    late: Share
    complains: Share


class SellerRates(Struct, frozen=True, forbid_unknown_fields=True):
    """Sellers."""

    listings: Span
    mixed: Share
    lawful: SellerDoes
    infringing: SellerDoes


class Days(Struct, frozen=True, forbid_unknown_fields=True):
    """After how many days people act."""

    seller: Span
    holder: Span
    late: Span
    complaint: Span


class HolderRates(Struct, frozen=True, forbid_unknown_fields=True):
    """Holders whose item is well founded."""

    yields: Share
    insists: Share


class PanelRates(Struct, frozen=True, forbid_unknown_fields=True):
    """The panel of reviewers."""

    reviewers: Annotated[int, Meta(ge=3)]
    """Three at least: two who look at the same case may differ, and a third then decides."""
    cases_an_hour: Annotated[int, Meta(ge=1)]
    hours: tuple[Annotated[int, Meta(ge=0, le=24)], Annotated[int, Meta(ge=0, le=24)]]
    weekdays: tuple[Annotated[int, Meta(ge=0, le=6)], ...]
    sitting: Annotated[int, Meta(ge=1, le=24)]
    errors: dict[Kind, tuple[Share, Share]]


class Rates(Struct, frozen=True, forbid_unknown_fields=True):
    """``population.toml``."""

    conduct: dict[Conduct, Behaviour]
    offers: dict[Offer, float]
    sellers: SellerRates
    days: Days
    holders: HolderRates
    panel: PanelRates


class Listing(Struct, frozen=True):
    """A listing, and the truth about it as to one mark."""

    id: str
    seller: str
    mark: str
    kind: Kind
    title: str
    category: str
    price: str
    condition: Literal["new", "used"]
    description: str
    brand: str | None = None
    offer: Offer | None = None
    """How a counterfeit is offered."""

    @property
    def infringing(self) -> bool:
        """The truth."""
        return self.kind in INFRINGING


class Notifier(Struct, frozen=True):
    """A right holder."""

    id: str
    conduct: Conduct
    mark: str
    known: bool
    """It had joined the good-faith mechanism before."""


class Filing(Struct, frozen=True):
    """A claim: one notifier, one reason."""

    id: str
    notifier: str
    day: int
    hour: int
    reason: Reason
    listings: tuple[str, ...]


class Population(Struct, frozen=True):
    """All of it. Every listing is claimed once."""

    seed: int
    days: int
    notifiers: tuple[Notifier, ...]
    listings: tuple[Listing, ...]
    filings: tuple[Filing, ...]


def load(path: Path = FILE) -> Rates:
    """Read the rates.

    Raises:
        msgspec.DecodeError: the file is invalid; the message names the key.
    """
    return msgspec.toml.decode(path.read_bytes(), type=Rates)


def divided(count: int, weights: Mapping[T, float]) -> dict[T, int]:
    """Whole numbers in proportion to the weights, whose sum is `count`: each is exact up to rounding."""
    whole = sum(weights.values())
    exact = {name: count * weight / whole for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[: count - sum(found.values())]:
        found[name] += 1
    return found


# ------------------------------------------------------------------------------------------------------------ listings

_COPY: Final = ("replica", "1:1 quality", "AAA grade", "mirror copy", "super clone", "high copy", "OEM no box")
_LIKE: Final = ("{goods} like {mark}", "{goods} {mark} style", "{mark} look {goods}", "{goods} inspired by {mark}")
_HELD: Final = ("used", "second hand", "pre-owned", "like new", "open box", "refurbished")
_PART: Final = ("replacement strap", "hard case", "screen protector", "charging cable", "spare filter", "mounting bracket",
                "battery door", "adapter", "carry pouch", "refill pack")  # fmt: skip
_FITS: Final = ("{part} for {mark} {model}", "{part} fits {mark} {model}", "{part} compatible with {mark} {model}",
                "{part} suitable for {mark} {model}")  # fmt: skip
_SAID: Final[dict[Kind, tuple[str, ...]]] = {
    "counterfeit": ("Ships from our warehouse within 3 days.", "Brand new. No invoice.", "Top quality, great price."),
    "passing_off": ("Everybody will think it is the real one.", "Great look for less.", "New design, good quality."),
    "genuine": ("New in the maker's box, with invoice and warranty.", "Authorised dealer. Serial number on the box."),
    "resale": ("Bought two years ago, works well. Receipt on hand.", "From my own collection, see pictures for wear."),
    "compatible": (
        "Made by us. Not affiliated with the maker of the device.",
        "Third-party accessory, 2-year warranty.",
    ),
    "unrelated": ("New, sealed, ships tomorrow.", "Last one in stock."),
    "copied": ("As in the picture.", "Same as shown, ships today."),
    "own": ("Photographed by us in our shop.", "The picture shows the very piece that you get."),
    "shared": ("Picture by the maker, with its permission.", "Press photo of the maker."),
}
_SUBSTITUTES: Final = str.maketrans({"a": "а", "e": "е", "o": "0", "i": "1", "s": "5", "c": "с", "p": "р", "x": "х"})


def disguised(mark: str, dice: random.Random) -> str:
    """The mark spelt so that a search for it finds nothing, and a person still reads it."""
    ways = [way for way in (mark.lower().translate(_SUBSTITUTES), ".".join(mark), "-".join(mark)) if way.casefold() != mark.casefold()]  # fmt: skip
    return dice.choice(ways)


def bare(goods: Goods) -> str:
    """What goods are called without their maker's name."""
    return " ".join(re.sub(re.escape(goods.brand), " ", goods.title, flags=re.IGNORECASE).split()) or goods.category


def _names(mark: str, title: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(mark)}(?!\w)", title, flags=re.IGNORECASE) is not None


class _Shop:
    """Makes listings out of goods."""

    def __init__(self, goods: Sequence[Goods], offers: Mapping[Offer, float], dice: random.Random) -> None:
        self._goods = goods
        self._offers = offers
        self._dice = dice
        self._own: dict[str, list[Goods]] = {}
        for one in goods:
            self._own.setdefault(one.brand, []).append(one)

    def _others(self, mark: str) -> Goods:
        """Goods of another maker that do not name the mark."""
        for _ in range(1000):
            found = self._dice.choice(self._goods)
            if found.brand != mark and not _names(mark, found.title):
                return found
        raise CommandError(f"there are no goods that do not name {mark}: take another seed")

    def listing(self, id: str, mark: str, kind: Kind) -> Listing:
        """A listing of this kind; its seller is named later."""
        dice = self._dice
        own = dice.choice(self._own[mark])
        goods = self._others(mark) if kind in ("passing_off", "unrelated") else own
        brand: str | None = goods.brand
        title, low, high, offer = goods.title, 0.85, 1.1, None
        if kind == "counterfeit":
            offer = dice.choices(list(self._offers), list(self._offers.values()))[0]
            low, high = (0.1, 0.5) if dice.random() < 0.7 else (0.6, 0.95)
            if offer == "admitted":
                title = f"{title} {dice.choice(_COPY)}"
            elif offer == "disguised":
                title = f"{disguised(mark, dice)} {bare(goods)}"
            brand = dice.choice((mark, None)) if offer != "disguised" else None
        elif kind == "passing_off":
            title = dice.choice(_LIKE).format(goods=bare(goods), mark=mark)
            brand, low, high = dice.choice((None, "no name")), 0.4, 0.9
        elif kind == "resale":
            held = dice.choice(_HELD)
            title, low, high = dice.choice((f"{title} {held}", f"{held} {title}")), 0.3, 0.75
        elif kind == "compatible":
            model = " ".join(bare(goods).split()[:3])
            title = dice.choice(_FITS).format(part=dice.choice(_PART), mark=mark, model=model)
            brand, low, high = dice.choice((None, "no name")), 0.1, 0.3
        return Listing(
            id=id,
            seller="",
            mark=mark,
            kind=kind,
            title=self._cased(title)[:290],
            category=goods.category,
            price=f"{max(goods.price * dice.uniform(low, high), 0.5):.2f}",
            condition="used" if kind == "resale" else "new",
            description=dice.choice(_SAID[kind]),
            brand=brand,
            offer=offer,
        )

    def _cased(self, title: str) -> str:
        roll = self._dice.random()
        return title if roll < 0.5 else title.title() if roll < 0.85 else title.upper()


def _sold(listings: Sequence[Listing], rates: SellerRates, dice: random.Random) -> list[Listing]:
    """The listings with their sellers. Who offers infringing goods may also offer some lawful ones."""
    lawful = [one for one in listings if not one.infringing]
    infringing = [one for one in listings if one.infringing]
    dice.shuffle(lawful)
    dice.shuffle(infringing)
    found, number = {}, 0
    for some, others in ((infringing, lawful), (lawful, [])):
        while some:
            number += 1
            count = dice.randint(*rates.listings)
            taken = [some.pop() for _ in range(min(count, len(some)))]
            if others and dice.random() < rates.mixed:
                taken.append(others.pop())
            for one in taken:
                found[one.id] = msgspec.structs.replace(one, seller=f"s-{number:05}")
    return [found[one.id] for one in listings]


# ---------------------------------------------------------------------------------------------------------- population


def _marks(goods: Iterable[Goods], dice: random.Random) -> list[str]:
    marks = sorted({one.brand for one in goods})
    dice.shuffle(marks)
    return marks


def generate(goods: Sequence[Goods], rates: Rates, items: int, seed: int) -> Population:
    """A population of so many items, on goods of the seed's brands.

    Raises:
        CommandError: there are fewer than three brands, or every title names the same one.
    """
    dice = random.Random(f"population {seed}")
    marks = _marks(goods, dice)
    if len(marks) < len(get_args(Conduct)):
        raise CommandError(f"seed {seed} has {len(marks)} brands, and needs one for each conduct: take another seed")
    shop = _Shop(goods, rates.offers, dice)
    days = max(5, min(DAYS_MOST, items // A_DAY))
    notifiers: list[Notifier] = []
    listings: list[Listing] = []
    filings: list[Filing] = []
    by_conduct = divided(items, {conduct: one.items for conduct, one in rates.conduct.items()})
    # one each, and the other marks in proportion
    most = min(len(marks), max(len(by_conduct), items // A_NOTIFIER))
    extra = divided(most - len(by_conduct), by_conduct)
    for conduct, count in by_conduct.items():
        behaviour = rates.conduct[conduct]
        holders = [marks.pop() for _ in range(1 + extra[conduct])]
        # one at least: an account in good standing is worth stealing
        known = max(round(behaviour.known * len(holders)), bool(behaviour.known))
        infringing = round(behaviour.infringing * count)
        kinds = [
            *_spread(divided(infringing, behaviour.infringing_kinds)),
            *_spread(divided(count - infringing, behaviour.lawful_kinds)),
        ]
        dice.shuffle(kinds)
        for number, mark in enumerate(holders):
            notifier = Notifier(f"h-{conduct}-{number:03}", conduct, mark, known=number < known)
            notifiers.append(notifier)
            own = [
                shop.listing(f"l-{len(listings) + at:06}", mark, kind)
                for at, kind in enumerate(kinds[number :: len(holders)])
            ]
            listings += own
            filings += _filed(notifier, own, behaviour, days, dice)
    filings.sort(key=lambda one: (one.day, one.hour, one.id))
    return Population(seed, days, tuple(notifiers), tuple(_sold(listings, rates.sellers, dice)), tuple(filings))


def _spread(counts: Mapping[Kind, int]) -> list[Kind]:
    return [kind for kind, count in counts.items() for _ in range(count)]


def _filed(
    notifier: Notifier, listings: Sequence[Listing], behaviour: Behaviour, days: int, dice: random.Random
) -> Iterable[Filing]:
    """Claims of at most so many listings with one reason. Whoever is right knows what it is about."""
    by_reason: dict[Reason, list[str]] = {reason: [] for reason in get_args(Reason)}
    for one in listings:
        alleged = one.kind == "counterfeit" if one.infringing else dice.random() < behaviour.counterfeit
        about: Reason = "counterfeit" if alleged else "improper_use"
        by_reason[OF_PICTURES if one.kind in PICTURED else about].append(one.id)
    number = 0
    for reason, claimed in by_reason.items():
        while claimed:
            count = max(dice.randint(*behaviour.claim), 1)
            some, claimed = tuple(claimed[:count]), claimed[count:]
            yield Filing(
                f"c-{notifier.id}-{number:04}", notifier.id, dice.randrange(days), dice.choice(MOMENTS), reason, some
            )
            number += 1


def attack(goods: Sequence[Goods], rates: Rates, victim: Notifier, count: int, seed: int) -> tuple[Listing, ...]:
    """Lawful listings of the victim's own goods, for a thief to file against from its account."""
    dice = random.Random(f"attack {seed}")
    shop = _Shop(goods, rates.offers, dice)
    kinds = _spread(divided(count, {"genuine": 0.7, "resale": 0.3}))
    dice.shuffle(kinds)
    listings = [shop.listing(f"a-{at:06}", victim.mark, kind) for at, kind in enumerate(kinds)]
    return tuple(
        msgspec.structs.replace(one, seller=f"v-{number:05}")
        for one, number in zip(listings, _numbers(count, rates.sellers.listings, dice), strict=True)
    )


def _numbers(count: int, span: Span, dice: random.Random) -> list[int]:
    """Numbers of sellers, each as often as it has listings."""
    found: list[int] = []
    while len(found) < count:
        found += [len(found)] * max(dice.randint(*span), 1)
    return found[:count]
