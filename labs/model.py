"""What people do in a replay: a seeded model, with rates from ``model.toml``. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

FILE = Path(__file__).with_name("model.toml")

Share = Annotated[float, Meta(ge=0, le=1)]
Days = tuple[int, int]


class Listings(Struct, frozen=True, forbid_unknown_fields=True):
    """Listings, before they are claimed."""

    ended: Share


class Seller(Struct, frozen=True, forbid_unknown_fields=True):
    """Sellers who do not counter a notice."""

    has_email: Share
    accepts: Share
    accepts_after_days: Days


class Holder(Struct, frozen=True, forbid_unknown_fields=True):
    """Holders whose claims are countered."""

    accepts: Share
    rejects: Share
    answers_after_days: Days
    files_action: Share


class Reviewer(Struct, frozen=True, forbid_unknown_fields=True):
    """The platform's reviewers."""

    restores: Share
    decides_after_days: Days


class Court(Struct, frozen=True, forbid_unknown_fields=True):
    """Courts."""

    for_holder: Share
    for_seller: Share
    decides_after_days: Days


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """All rates."""

    seed: int
    reasons: dict[str, Annotated[float, Meta(gt=0)]]
    listings: Listings
    seller: Seller
    holder: Holder
    reviewer: Reviewer
    court: Court


def load(path: Path = FILE) -> Model:
    """Read the rates.

    Raises:
        msgspec.DecodeError: the file is invalid; the message names the key.
    """
    return msgspec.toml.decode(path.read_bytes(), type=Model)


class Dice:
    """Random choices by name: the same seed and name give the same number, in any order of calls."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def roll(self, *names: object) -> float:
        """A number in [0, 1)."""
        text = "\x1f".join(map(str, (self._seed, *names)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / (1 << 56)

    def days(self, span: Days, *names: object) -> int:
        """A whole number of days within `span`, ends included."""
        low, high = span
        return low + int(self.roll(*names) * (high - low + 1))


def reason(model: Model, dice: Dice, notice: str) -> str:
    """The reason of a notice's claims."""
    left = dice.roll("reason", notice) * sum(model.reasons.values())
    for name, weight in model.reasons.items():
        left -= weight
        if left < 0:
            return name
    return next(iter(model.reasons))


def accepts(model: Model, dice: Dice, seller: str) -> bool:
    """Whether a seller accepts takedowns."""
    return dice.roll("seller", seller) < model.seller.accepts


def seller_accepts(model: Model, dice: Dice, seller: str, item: str) -> int | None:
    """Days after the notice at which the seller accepts; None: the seller does not."""
    if not accepts(model, dice, seller):
        return None
    return dice.days(model.seller.accepts_after_days, "seller days", item)


def holder_answers(
    model: Model, dice: Dice, item: str, round_: int
) -> tuple[Literal["accept", "reject", "action"], int] | None:
    """What the holder does about a counter, and after how many days; None: nothing."""
    roll = dice.roll("holder", item, round_)
    days = dice.days(model.holder.answers_after_days, "holder days", item, round_)
    for answer, share in (
        ("accept", model.holder.accepts),
        ("reject", model.holder.rejects),
        ("action", model.holder.files_action),
    ):
        if roll < share:
            return answer, days  # type: ignore[return-value]
        roll -= share
    return None


def reviewer_restores(model: Model, dice: Dice, item: str, round_: int) -> tuple[bool, int]:
    """Whether the reviewer restores the item, and after how many days."""
    days = dice.days(model.reviewer.decides_after_days, "reviewer days", item, round_)
    return dice.roll("reviewer", item, round_) < model.reviewer.restores, days


def court_decides(model: Model, dice: Dice, item: str) -> tuple[Literal["holder", "seller", "ended"], int]:
    """How a court decides, and after how many days."""
    roll = dice.roll("court", item)
    days = dice.days(model.court.decides_after_days, "court days", item)
    if roll < model.court.for_holder:
        return "holder", days
    return ("seller" if roll < model.court.for_holder + model.court.for_seller else "ended"), days
