"""Links to listings. A link is parsed and never fetched."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from shared.refusals import Refused
from shared.site_links import SiteLinks

_NOT_IN_A_LINK: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
"""ASCII that RFC 3986 requires to be percent-encoded: spaces, control characters, and markup."""
SHOPS: Final = 10
"""Most shops that a claim may name."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True)
class ListingRef:
    """A parsed link: the listing that it points to, or a digest if it is not a listing of this site."""

    listing: str
    on_site: bool
    link: str


class Named(NamedTuple):
    """What a claim's links name: listings, and the sellers whose shops they lead to."""

    listings: list[ListingRef]
    sellers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShopRef:
    """A parsed link to a seller's shop."""

    seller: str


def listing_of(link: str, site: SiteLinks) -> ListingRef | ShopRef:
    """Parse a link; nothing is ever fetched.

    Raises:
        Refused: not an http(s) URL, too long, or with characters that are invisible, change the direction of text, or
            make markup.
    """
    if (found := site.common(link)) is not None:
        return ListingRef(found, True, link)
    if len(link) > 2000:
        raise _bad_link("longer than 2,000 characters")
    if _NOT_IN_A_LINK.search(link) or any(unicodedata.category(char) in _INVISIBLE for char in link if char > "\x7f"):
        raise _bad_link("contains spaces, invisible characters or markup")
    try:
        parts = urlsplit(link)
        host = (parts.hostname or "").rstrip(".").lower()
        port = parts.port
    except ValueError as error:
        raise _bad_link(str(error)[:100]) from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise _bad_link("not an http or https URL")
    default = {"http": 80, "https": 443}[parts.scheme.lower()]
    if port in (None, default) and parts.username is None and parts.password is None:
        if (found := site.listing(parts, host)) is not None:
            return ListingRef(found, True, link)
        if (seller := site.shop(parts, host)) is not None:
            return ShopRef(seller)
    try:
        digest = hashlib.sha256(link.encode()).hexdigest()
    except UnicodeEncodeError:
        raise _bad_link("not valid Unicode") from None
    return ListingRef(f"x-{digest[:24]}", False, link)


def _bad_link(why: str) -> Refused:
    return Refused(
        422,
        "bad_link",
        f"A link is {why}." if why.startswith(("longer", "not")) else f"A link {why}.",
        field="listings",
        cure="Give the full address of each listing, such as https://market.example/items/123.",
    )


def named_by(links: Sequence[str], site: SiteLinks) -> Named:
    """Parse a claim's links; one that is named twice counts once.

    Raises:
        Refused: naming the first bad link's position; the links name no listing, or too many shops.
    """
    found: dict[str, ListingRef] = {}
    sellers: dict[str, int] = {}
    for index, link in enumerate(links):
        try:
            ref = listing_of(link, site)
        except Refused as refused:
            refused.field = f"listings[{index}]"
            raise
        if isinstance(ref, ListingRef):
            found.setdefault(ref.listing, ref)
        else:
            sellers.setdefault(ref.seller, index)
    if not found:
        raise Refused(
            422,
            "shop_link",
            "The links lead to sellers' shops, and to no listing.",
            field=f"listings[{min(sellers.values())}]",
            cure="Name each listing of the shop that infringes, too.",
        )
    if len(sellers) > SHOPS:
        raise Refused(
            422,
            "too_many_shops",
            f"A claim may name at most {SHOPS} shops; this one names {len(sellers)}.",
            field="listings",
            cure="Split the claim.",
        )
    return Named(list(found.values()), tuple(sellers))
