"""Links to the site's listings: the patterns that a setting names, matched and written; nothing is fetched. Pure.

A pattern is ``host/path``, such as ``market.example/{locale}/items/{slug}-{id}``, or has the id in the query:
``market.example/item?number={id}``. A shop may have a host of its own: ``{seller}.market.example/items/{id}``. It leads to a listing if it contains ``{id}``, else to a seller's shop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final
from urllib.parse import SplitResult, parse_qs, quote

from pydantic import AfterValidator

_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}"
_is_id: Final = re.compile(_ID).fullmatch
VARIABLES: Final = {
    "id": _ID,
    "slug": r"[^/]+",
    "locale": r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?",
    "seller": _ID,
}
"""Regular expressions of what may stand for a variable. ``{slug}`` takes as much as it can, so in ``{slug}-{id}`` the id has no dash."""
_PATTERN: Final = re.compile(
    r"(?P<shop>\{seller\}\.)?(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?P<path>/(?:[A-Za-z0-9._~/-]|\{[a-z]+\})*)(?:\?(?P<query>[A-Za-z0-9_.-]+)=\{id\})?"
)


class _Compiled:
    """A pattern, ready to match."""

    def __init__(self, pattern: str) -> None:
        match = _PATTERN.fullmatch(pattern)
        if match is None:
            raise ValueError(f"{pattern!r}: write host/path, such as market.example/{{locale}}/items/{{slug}}-{{id}}")
        self.host, path, self._query = match["host"], match["path"], match["query"]
        self.of_shop = match["shop"] is not None
        """The host is one label below ``host``."""
        parts = re.split(r"\{([a-z]+)\}", path)
        names = ["seller"] * self.of_shop + parts[1::2] + (["id"] if self._query else [])
        unknown = set(names) - VARIABLES.keys()
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"{pattern!r}: each of {{{'}, {'.join(VARIABLES)}}} may stand in it once, and nothing else"
            )
        if not {"id", "seller"} & set(names):
            raise ValueError(f"{pattern!r}: needs {{id}} for a listing, or {{seller}} for a shop")
        self.listing = "id" in names
        self.written = names == ["id"]
        self._regex = re.compile(
            "".join(
                f"(?P<{part}>{VARIABLES[part]})" if index % 2 else re.escape(part) for index, part in enumerate(parts)
            ).rstrip("/")
            + "/?",
            re.ASCII,
        )

    def match(self, shop: str | None, path: str, query: str) -> str | None:
        """The id of the listing, or of the shop's seller; ``shop``: the label that stands for the seller."""
        match = self._regex.fullmatch(path)
        if match is None:
            return None
        if self._query is None:
            return match["id"] if self.listing else shop or match["seller"]
        try:
            given = parse_qs(query, max_num_fields=50).get(self._query, [])
        except ValueError:  # too many
            return None
        return given[0] if len(given) == 1 and _is_id(given[0]) else None


class SiteLinks:
    """The links of one site.

    Args:
        patterns: the first one that has ``{id}`` and no other variable is the one that links are written in.

    Raises:
        ValueError: a string is no pattern, or no link could be written.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        compiled = [_Compiled(pattern) for pattern in patterns]
        self._by_host: dict[tuple[str, bool], list[_Compiled]] = {}
        for one in compiled:
            self._by_host.setdefault((one.host, one.of_shop), []).append(one)
        written = [pattern for pattern, one in zip(patterns, compiled, strict=True) if one.written]
        if not written:
            raise ValueError("one pattern needs {id} and no other variable: links are written in it")
        self._written = f"https://{written[0]}"
        self._starts = tuple(f"https://{pattern[:-4]}" for pattern in written if pattern.endswith("/{id}"))

    def common(self, link: str) -> str | None:
        """The listing of a link in the most common form, without a parser; None says nothing."""
        for start in self._starts:
            if link.startswith(start) and _is_id(name := link[len(start) :]) and not name.startswith("x-"):
                return name
        return None

    def listing(self, parts: SplitResult, host: str) -> str | None:
        """The listing that a link leads to. Ids with ``x-`` are reserved for links elsewhere."""
        found = self._find(parts, host, listing=True)
        return None if found is None or found.startswith("x-") else found

    def shop(self, parts: SplitResult, host: str) -> str | None:
        """The seller whose shop a link leads to."""
        return self._find(parts, host, listing=False)

    def link(self, listing: str) -> str:
        """Link to a listing."""
        return self._written.replace("{id}", quote(listing, safe=":"))

    def _find(self, parts: SplitResult, host: str, *, listing: bool) -> str | None:
        own = self._by_host.get((host, False), ())
        for one in own:
            if one.listing is listing and (found := one.match(None, parts.path, parts.query)) is not None:
                return found
        shop, _, site = host.partition(".")
        # a host that has patterns of its own, such as www, is no shop's
        if own or not _is_id(shop):
            return None
        for one in self._by_host.get((site, True), ()):
            if one.listing is listing and (found := one.match(shop, parts.path, parts.query)) is not None:
                return found
        return None


@lru_cache(maxsize=16)
def of(patterns: tuple[str, ...]) -> SiteLinks:
    """The links that the setting describes."""
    return SiteLinks(patterns)


def _check_all(patterns: tuple[str, ...]) -> tuple[str, ...]:
    of(patterns)
    return patterns


Patterns = Annotated[tuple[str, ...], AfterValidator(_check_all)]
"""Patterns as a setting."""
