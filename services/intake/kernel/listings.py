"""Links to listings. A link is parsed and never fetched."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shared.refusals import Refused
from shared.site_links import SiteLinks

_NOT_IN_A_LINK: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
"""ASCII that RFC 3986 requires to be percent-encoded: spaces, control characters, and markup."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True)
class ListingRef:
    """A parsed link: the listing that it points to, or a digest if it is not a listing of this site."""

    listing: str
    on_site: bool
    link: str


def listing_of(link: str, site: SiteLinks) -> ListingRef:
    """Parse a link; nothing is ever fetched.

    Raises:
        Refused: not an http(s) URL, too long, a seller's shop, or with characters that are invisible, change the
            direction of text, or make markup.
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
        if site.shop(parts, host) is not None:
            raise Refused(
                422,
                "shop_link",
                "A link leads to a seller's shop, not to a listing.",
                field="listings",
                cure="Name each listing of the shop that infringes.",
            )
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


def listings_of(links: Sequence[str], site: SiteLinks) -> list[ListingRef]:
    """Parse a claim's links; one that is named twice counts once.

    Raises:
        Refused: naming the first bad link's position.
    """
    found: dict[str, ListingRef] = {}
    for index, link in enumerate(links):
        try:
            ref = listing_of(link, site)
        except Refused as refused:
            refused.field = f"listings[{index}]"
            raise
        found.setdefault(ref.listing, ref)
    return list(found.values())
