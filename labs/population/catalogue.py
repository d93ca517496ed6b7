"""Goods as their makers sell them: title, brand, category, price. Real ones, or ones composed of real names. Pure.

Brands are dealt into ``FOLDS`` sets by a digest of their name, and a seed takes one set: two seeds that differ modulo
``FOLDS`` share no brand. Seeds that end in an even digit are for tuning rules, those that end in an odd one for
reporting.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

NAMES: Final = Path(__file__).with_name("names.toml")
FOLDS: Final = 10
LONGEST: Final = 200
"""Most characters of a title: the marketplace takes 300, and sellers add words."""
FEWEST: Final = 3
"""Fewest letters of a brand, and fewest titles of it."""
_RECORD: Final = re.compile(r"COL (\w+) VAL (.*?)(?= COL |$)")


class Goods(Struct, frozen=True, order=True):
    """Something on sale, under the title that its maker or a dealer gave it."""

    brand: str
    title: str
    category: str
    price: float


class Kinds(Struct, frozen=True, forbid_unknown_fields=True):
    """Makers of one field, and what they sell, with its price."""

    names: Annotated[tuple[str, ...], Meta(min_length=1)]
    goods: dict[str, Annotated[float, Meta(gt=0)]]


def _digest(*names: object) -> int:
    text = "\x1f".join(map(str, names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def fold_of(brand: str) -> int:
    """The set that a brand belongs to."""
    return _digest("fold", brand.casefold()) % FOLDS


def of_seed(goods: Iterable[Goods], seed: int) -> tuple[Goods, ...]:
    """The goods whose brands are in the seed's set, in a fixed order."""
    return tuple(sorted(one for one in goods if fold_of(one.brand) == seed % FOLDS))


def _records(text: str) -> Iterator[Goods]:
    for side in re.split(r"[\t\n]", text):
        found = {name: value.strip() for name, value in _RECORD.findall(side)}
        brand, title = found.get("brand", ""), found.get("title", "")
        # as a maker's own goods are called: elsewhere in the title the name may stand for what the goods are made for
        if not re.match(rf"{re.escape(brand)}\b", title) or sum(map(str.isalpha, brand)) < FEWEST:
            continue
        price = found.get("price", "")
        yield Goods(
            brand,
            title[:LONGEST],
            found.get("category", "") or "other",
            float(price) if re.fullmatch(r"\d{1,5}(\.\d+)?", price) and float(price) >= 1 else 20.0,
        )


def parse(texts: Iterable[str]) -> tuple[Goods, ...]:
    """The goods in files of the format ``COL title VAL ... COL brand VAL ...``, each title once.

    Left out are brands with fewer than ``FEWEST`` titles: a title of theirs is often misread.
    """
    by_title = {one.title: one for text in texts for one in _records(text)}
    titles = Counter(one.brand for one in by_title.values())
    return tuple(sorted(one for one in by_title.values() if titles[one.brand] >= FEWEST))


def composed(path: Path = NAMES) -> tuple[Goods, ...]:
    """Goods of real names with titles that nobody wrote: name, a model's number, what it is."""
    kinds = msgspec.toml.decode(path.read_bytes(), type=dict[str, Kinds])
    return tuple(
        sorted(
            Goods(name, f"{name} {_model(name, what)} {what}", category, price)
            for category, kind in kinds.items()
            for name in kind.names
            for what, price in kind.goods.items()
        )
    )


def _model(name: str, what: str) -> str:
    number = _digest("model", name, what)
    return f"{chr(ord('A') + number % 26)}{chr(ord('A') + number // 26 % 26)}{100 + number // 676 % 900}"
