"""Row 20: finds listings that are near copies of an upheld one of the same seller or entity. Pure.

Compares titles as they read and pictures as they look. The thresholds are the policy's (``[recurrence]``).
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from msgspec import Struct
from rapidfuzz import fuzz

from services.verification.item import Item
from shared import policy
from shared.comparison import normalise
from shared.events import Listing
from shared.policy import PolicyError, Recurrence

MOST: Final = 200
"""A listing is compared with at most this many upheld items of one owner, the latest."""
FLAT: Final = 4
"""A picture's 64-bit hash must have at least this many bits set and unset: all plain surfaces look alike."""


class Traits(Struct, frozen=True):
    """What a listing is compared by."""

    title: str = ""
    """Normalised by ``plain``."""
    picture: str | None = None
    """Hash of the first picture, 16 hex digits."""


class UpheldItem(Struct, frozen=True):
    """What recurrence needs to know of an upheld item."""

    item: str
    claim: str
    listing: str
    right: str
    reason: str
    profile: str
    upheld_at: dt.datetime
    traits: Traits


class Likeness(Struct, frozen=True, order=True):
    """How near two listings are: likeness of titles in per cent, differing bits of pictures; None: not compared."""

    title: int | None
    distance: int | None

    @property
    def rank(self) -> tuple[int, int]:
        """Greater is nearer."""
        return (self.title or 0) + (100 if self.distance is not None else 0) - (self.distance or 0), self.title or 0


@lru_cache(maxsize=20_000)
def plain(text: str) -> str:
    """A text as it reads (``shared.comparison``), whatever its case: letters such as Greek ones look like others then."""
    return unicodedata.normalize("NFC", normalise(text.upper()).text)


def traits(listing: Listing) -> Traits | None:
    """What the listing is compared by; None if it has nothing to compare."""
    title = plain(listing.title) if listing.title else ""
    picture = listing.image_hash
    if picture is not None and not FLAT <= int(picture, 16).bit_count() <= 64 - FLAT:
        picture = None
    return Traits(title, picture) if title or picture is not None else None


def near(old: Traits, new: Traits, rules: Recurrence) -> Likeness | None:
    """How near two listings are; None if not near enough. Their order makes no difference."""
    title = distance = None
    if old.picture is not None and new.picture is not None:
        distance = (int(old.picture, 16) ^ int(new.picture, 16)).bit_count()
    looks = distance is not None and distance <= rules.picture
    if not looks and rules.needs == "both":
        return None
    joined, other = old.title.replace(" ", ""), new.title.replace(" ", "")
    if min(len(joined), len(other)) >= rules.title_length:
        # most titles are far apart, which a cutoff finds cheaply; listings that look alike are measured in any case
        least = 0 if looks else rules.title
        # words in another order, then words joined or split
        title = int(
            max(
                fuzz.token_sort_ratio(old.title, new.title, score_cutoff=least),
                fuzz.ratio(joined, other, score_cutoff=least),
            )
        )
    alike = title is not None and title >= rules.title
    enough = alike and looks if rules.needs == "both" else alike or looks
    return Likeness(title, distance) if enough else None


def rules_of(profile: str) -> Recurrence | None:
    """The rules of a profile's newest policy, under which near copies are filed; None if it does not look for them."""
    try:
        rules = policy.current(profile).recurrence
    except PolicyError:
        return None
    return rules if rules is not None and rules.enabled else None


def copies(
    listing: str, new: Traits, upheld: Iterable[UpheldItem], now: dt.datetime
) -> list[tuple[UpheldItem, Likeness]]:
    """The upheld items that the listing is a near copy of: the nearest per right, among equals the latest."""
    found: dict[str, tuple[UpheldItem, Likeness]] = {}
    known: dict[str, Recurrence | None] = {}
    for old in upheld:
        if old.profile not in known:
            known[old.profile] = rules_of(old.profile)
        rules = known[old.profile]
        if old.listing == listing or rules is None or old.upheld_at + rules.within.exact < now:
            continue
        likeness = near(old.traits, new, rules)
        if likeness is None:
            continue
        best = found.get(old.right)
        if best is None or (likeness.rank, old.upheld_at, old.item) > (best[1].rank, best[0].upheld_at, best[0].item):
            found[old.right] = (old, likeness)
    return [found[right] for right in sorted(found)]


def owners(listing: Listing) -> tuple[str, ...]:
    """Keys of the listing's owners: its seller, and the entity behind it."""
    keys = (("seller", listing.seller), ("entity", listing.entity))
    return tuple([f"{kind}:{name}" for kind, name in keys if name is not None])


def owners_of(item: Item, listing: Listing) -> tuple[str, ...]:
    """Keys of an item's owners: whom it concerns does not change when the listing is sold on."""
    if listing.seller == item.seller:
        return owners(listing)
    return () if item.seller is None else (f"seller:{item.seller}",)
