"""What a run under load files: claims from a seed, and what the parties do about their items."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from labs.clients import Request
from shared import policy

UPSTREAM: Final = "faults"
ACCOUNT: Final = f"upstream.{UPSTREAM}"
"""The upstream's account. It acts for all parties."""
HOLDERS: Final = 24
SELLERS: Final = 200
REASONS: Final = ("copied_image_or_text", "unauthorised_work_on_product", "pirated_product")
LOOK_S: Final = 3.0
"""Seconds after filing at which a seller who waits for the last moment first looks up the deadline."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim to file, and the listings that it names."""

    request: Request
    listings: tuple[str, ...]


class LoadPlan:
    """Claims from a seed: mostly small, some against listings that were claimed before, a few with dead links.

    Args:
        items: Number of items, and of listings on the site.
        seed: The same seed gives the same claims.
        namespace: Part of all ids, so that several plans can share a stack.
        pace: Scales the time that the parties wait before they act; 1: up to half a minute.
    """

    def __init__(self, items: int, seed: int, namespace: str, *, pace: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._pace = pace
        self.items = items
        self.ns = namespace
        self.holders = [f"h-{namespace}-{number}" for number in range(HOLDERS)]
        self.sellers = [f"s-{namespace}-{number}" for number in range(min(SELLERS, max(items // 20, 5)))]
        self.reviewer = f"r-{namespace}"
        self.rights: dict[str, str] = {}

    def seller(self, listing: str) -> str:
        """The seller of a listing."""
        return self.sellers[int(listing.rpartition("-")[2]) % len(self.sellers)]

    def listings(self) -> Iterator[str]:
        """All listings on the site."""
        return (f"{self.ns}-{number}" for number in range(self.items))

    def claims(self) -> Iterator[Claim]:
        """Claims until all items are filed."""
        dice = self._random
        fresh = 0
        left = self.items
        for number in itertools.count():
            if left <= 0:
                return
            roll = dice.random()
            span = (1, 1) if roll < 0.70 else (2, 5) if roll < 0.90 else (6, 20) if roll < 0.98 else (21, 50)
            size = min(dice.randint(*span), left)
            left -= size
            chosen: dict[str, None] = {}
            while len(chosen) < size:
                roll = dice.random()
                if roll < 0.05 and fresh > 10 * size:
                    chosen[f"{self.ns}-{dice.randrange(fresh)}"] = None
                elif roll < 0.06:
                    chosen[f"{self.ns}-gone-{number}x{len(chosen)}"] = None
                else:
                    chosen[f"{self.ns}-{fresh}"] = None
                    fresh += 1
            holder = dice.choice(self.holders)
            body = {
                "right": self.rights[holder],
                "reason": dice.choice(REASONS),
                "listings": [f"https://market.example/items/{listing}" for listing in chosen],
            }
            yield Claim(Request("submit_claim", holder, f"{self.ns}.{number}", body), tuple(chosen))

    def reactions(self, claim: Claim, item: str, listing: str) -> list[tuple[float, Request]]:
        """What the parties do about an item, as (seconds from now, request)."""
        dice = self._random
        roll = dice.random()
        soon = dice.uniform(1.0, 15.0) * self._pace
        if roll < 0.03:
            ground = dice.choice(("error", "settled", "licensed"))
            return [(soon, Request("withdraw", claim.request.by, f"w.{item}", {"ground": ground}, item))]
        if "-gone-" in listing:
            return []
        seller = self.seller(listing)
        if roll < 0.08:
            return [(soon, Request("accept", seller, f"a.{item}", {}, item))]
        materials = list(policy.current("ipp").counter.required)
        if 0.16 <= roll < 0.30:
            # this seller waits for the last moment: it looks up the deadline, and counters then
            return [(LOOK_S, Request("look", seller, f"z.{item}", {"materials": materials}, item))]
        if roll >= 0.16:
            return []
        actions = [(soon, Request("counter", seller, f"c.{item}", {"materials": materials}, item))]
        answer = dice.random()
        if answer < 0.7:
            later = soon + dice.uniform(5.0, 20.0) * self._pace
            actions.append((later, Request("respond", claim.request.by, f"r.{item}", {"accept": answer < 0.3}, item)))
            if answer >= 0.3:
                body = {"decision": dice.choice(("restore", "uphold"))}
                actions.append((later + 10.0 * self._pace, Request("decide", self.reviewer, f"d.{item}", body, item)))
        return actions
