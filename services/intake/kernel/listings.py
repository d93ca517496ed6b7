"""Links to listings. A link is parsed and never fetched."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shared.refusals import Refused

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")
_NOT_IN_A_LINK: Final = re.compile(r"[\x00-\x20\"<>\\^`{|}\x7f]")
"""ASCII that RFC 3986 requires to be percent-encoded: spaces, control characters, and markup."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True)
class ListingRef:
    """A parsed link: the listing that it points to, or a digest if it is not a listing of this site."""

    listing: str
    on_site: bool
    link: str


def listing_of(link: str, hosts: Collection[str]) -> ListingRef:
    """Parse a link. ``https://<site host>/items/<id>`` is a listing of this site; nothing is ever fetched.

    Raises:
        Refused: not an http(s) URL, too long, or with characters that are invisible, change the direction of text, or
            make markup.
    """
    # the common shape, without a parser
    for host in hosts:
        start = f"https://{host}/items/"
        if link.startswith(start) and _ID.fullmatch(name := link[len(start) :]) and not name.startswith("x-"):
            return ListingRef(name, True, link)
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
    if host in hosts and port in (None, default) and parts.username is None and parts.password is None:
        path = re.fullmatch(r"/items/([^/]+)/?", parts.path)
        # "x-" is reserved for links elsewhere
        if path and _ID.fullmatch(path[1]) and not path[1].startswith("x-"):
            return ListingRef(path[1], True, link)
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


def listings_of(links: Sequence[str], hosts: Collection[str]) -> list[ListingRef]:
    """Parse a claim's links; one that is named twice counts once.

    Raises:
        Refused: naming the first bad link's position.
    """
    found: dict[str, ListingRef] = {}
    for index, link in enumerate(links):
        try:
            ref = listing_of(link, hosts)
        except Refused as refused:
            refused.field = f"listings[{index}]"
            raise
        found.setdefault(ref.listing, ref)
    return list(found.values())
