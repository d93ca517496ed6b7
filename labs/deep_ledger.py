"""The second half of `goodfaith lab deep`: ledgers, standings and entities against a recount (``recount_ledger.py``).

It runs enforcement's own code: event by event through ``penalties.change``, with as little history as the worker
loads, expiries through ``penalties.recount``, and ``entities`` over accounts that are linked and separated. Events
come out of order and twice, claims concern several accounts, and times lie exactly on the edges of days, groups and
years.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from typing import Final

from labs import recount_ledger
from services.enforcement import entities, penalties, sanctions
from services.enforcement.entities import AccountViolation
from services.enforcement.penalties import LedgerRow, Seller, Violation
from services.enforcement.sanctions import Ground
from shared import policy
from shared.events import SellerKey, ViolationChanged
from shared.policy import Penalties

BLOCK: Final = 20_000
"""Number of entries for a process at a time."""
BEGINS: Final = dt.datetime(2027, 10, 1, tzinfo=dt.UTC)
"""The years include 29 February 2028."""
HOUR: Final = dt.timedelta(hours=1)
AHEAD: Final = tuple(
    hours * HOUR for hours in (0, 0, 0, 0, 1, 1, 5, 11, 23, 24, 24, 47, 72, 72, 73, 24 * 9, 24 * 40, 24 * 120, 24 * 365)
)
BACK: Final = tuple(hours * HOUR for hours in (1, 3, 24, 24, 71, 72, 73, 24 * 20, 24 * 364, 24 * 365, 24 * 366))
LINKS: Final = policy.Entity(links={"registration": 4, "payment": 3, "device": 2}, largest=4)
KEYS: Final = tuple(
    SellerKey(kind, digest * 64) for kind in ("registration", "payment", "device") for digest in ("a", "b")
)


class SellerLedger:
    """A seller's ledger as the worker keeps it: without the history between batches, which it loads when necessary."""

    def __init__(self, name: str, rules: Penalties) -> None:
        self.rules = rules
        self.seller = Seller(name, 0)
        self.stored: dict[str, Violation] = {}
        self.rows: list[LedgerRow] = []

    def apply(self, event: ViolationChanged, now: dt.datetime, *, forget: bool) -> None:
        """Fold an event in."""
        seller = self.seller
        if forget or not seller.history:
            seller.complete = False
            known = self.stored.get(event.claim)
            seller.history = {} if known is None else {event.claim: known}
        elif not seller.complete and event.claim in self.stored:
            seller.history.setdefault(event.claim, self.stored[event.claim])
        if penalties.needs_history(seller, event, now):
            self._complete()
        changed = penalties.change(seller, event, self.rules, now)
        if changed is not None:
            self.stored[event.claim] = seller.history[event.claim]
            self.rows += changed[1]

    def tick(self, now: dt.datetime) -> None:
        """Let due entries expire."""
        if self.seller.next_change is not None and self.seller.next_change <= now:
            self._complete()
            penalties.recount(self.seller, self.rules, now)

    def _complete(self) -> None:
        self.seller.history = dict(self.stored)
        self.seller.complete = True

    def own(self) -> list[AccountViolation]:
        """Violations in force."""
        name = self.seller.seller
        return [
            AccountViolation(name, v.claim, v.severity, v.at, v.entry.entry)
            for v in self.stored.values()
            if v.entry is not None
        ]

    def wrong(self, events: list[ViolationChanged], now: dt.datetime) -> int:
        """Number of differences between the stored sums, rows and unreversed entries and the recount."""
        seller, name = self.seller, self.seller.seller
        violations = recount_ledger.live(events, [name])
        costs = recount_ledger.costs(violations, self.rules)
        points, strikes, count = recount_ledger.sums(violations, self.rules, now)
        undone = {row.reverses for row in self.rows}
        standing = [row for row in self.rows if row.kind == "violation" and row.entry not in undone]
        grounds = sanctions.grounds((v.entry for v in self.stored.values() if v.entry is not None), self.rules, now)
        by_rows = {"general": 0, "serious": 0}
        for row in self.rows:
            if row.penalty.expires_at > now:
                by_rows[row.penalty.ledger] += row.penalty.points
        return (
            (seller.general_points != points)
            + (seller.serious_strikes != strikes)
            + (seller.violations != count)
            + (_times(grounds) != recount_ledger.times(violations, self.rules, now))
            + (by_rows != {"general": points, "serious": strikes})
            + (
                sorted(
                    (r.penalty.claim, r.penalty.ledger, r.penalty.points, r.penalty.effective_at, r.penalty.expires_at)
                    for r in standing
                )
                != sorted(tuple(cost) for cost in costs)
            )
            + (len({row.entry for row in self.rows}) != len(self.rows) or len(self.rows) != seller.entries)
        )


def _times(grounds: Iterable[Ground]) -> recount_ledger.Times:
    found: recount_ledger.Times = {}
    for ground in grounds:
        found.setdefault((ground.ledger, ground.level), set()).add((ground.crossed_at, ground.fell_at))
    return found


def _rules(dice: random.Random, rules: Penalties) -> Penalties:
    from msgspec.structs import replace

    if dice.random() < 0.6:
        return rules
    general = replace(
        rules.general,
        first=dice.choice((0, 0, 2)),
        repeat=dice.choice((6, 4)),
        daily_cap=dice.choice((6, 9, 12)),
        expires=policy.Span(dice.choice(("365 d", "90 d"))),
    )
    serious = replace(rules.serious, grouping=policy.Span(dice.choice(("3 d", "1 d"))))
    return replace(rules, general=general, serious=serious)


class World:
    """Some accounts, their keys, and all events about them."""

    def __init__(self, dice: random.Random, rules: Penalties) -> None:
        self.dice = dice
        self.rules = _rules(dice, rules)
        self.now = BEGINS + dice.randrange(24 * 400) * HOUR
        self.ledgers = {
            name: SellerLedger(name, self.rules) for name in ("s-1", "s-2", "s-3", "s-4", "s-5")[: dice.randint(1, 5)]
        }
        self.keys: dict[str, set[SellerKey]] = {name: set() for name in self.ledgers}
        self.events: list[ViolationChanged] = []
        self.items: dict[str, tuple[str, str, int, bool]] = {}
        self.serious = dice.choice((0.1, 0.5, 0.9))
        self.undoes = dice.choice((0.1, 0.3, 0.5))
        self.mixed = dice.choice((0.0, 0.1, 0.5))

    def play(self, steps: int) -> int:
        """Apply this many events; returns the number of differences."""
        dice = self.dice
        wrong = 0
        for _ in range(steps):
            ahead = dice.choice(AHEAD)
            self.now += ahead
            event = self._event()
            self.events.append(event)
            # expiries are counted after a batch's records, as in the worker, or when no record comes
            if ahead and dice.random() < 0.3:
                self._tick()
            self.ledgers[event.seller].apply(event, self.now, forget=dice.random() < 0.7)
            if ahead:
                self._tick()
            if dice.random() < 0.15:
                self._link()
            if dice.random() < 0.02:
                wrong += self.wrong()
        return wrong + self.wrong()

    def _tick(self) -> None:
        for ledger in self.ledgers.values():
            ledger.tick(self.now)

    def _event(self) -> ViolationChanged:
        dice = self.dice
        if self.events and dice.random() < 0.04:
            return dice.choice(self.events)  # repeated, or late
        if self.items and dice.random() < self.undoes:
            item = dice.choice(list(self.items))
            seller, claim, revision, in_force = self.items[item]
        else:
            item, revision, in_force = f"i-{len(self.items)}", 0, False
            seller, claim = dice.choice(list(self.ledgers)), f"c-{dice.randrange(len(self.items) + 2)}"
        revision += dice.choice((1, 1, 1, 2))
        in_force = not in_force if dice.random() < 0.9 else in_force
        self.items[item] = (seller, claim, revision, in_force)
        at = self.now - (dice.choice(BACK) if dice.random() < self.mixed else dt.timedelta())
        return ViolationChanged(
            seller=seller,
            claim=claim,
            item=item,
            listing="l",
            severity="serious" if dice.random() < self.serious else "general",
            in_force=in_force,
            revision=revision,
            at=at,
        )

    def _link(self) -> None:
        """Give an account a key, or take it away."""
        self.keys[self.dice.choice(list(self.keys))] ^= {self.dice.choice(KEYS)}

    def wrong(self) -> int:
        """Number of differences between accounts and entities and the recount."""
        now, rules = self.now, self.rules
        wrong = sum(ledger.wrong(self.events, now) for ledger in self.ledgers.values())
        holders: dict[SellerKey, set[str]] = {}
        for seller, held in self.keys.items():
            for key in held:
                holders.setdefault(key, set()).add(seller)
        linked = entities.components(holders, LINKS)
        wrong += {frozenset(members) for members in linked} != {
            members for members in recount_ledger.together(self.keys, LINKS) if len(members) > 1
        }
        for members in linked:
            sums, grounds = entities.count([own for name in members for own in self.ledgers[name].own()], rules, now)
            wrong += _times(grounds) != recount_ledger.entity_times(self.events, members, rules, now)
            counted = recount_ledger.entity(self.events, members, rules, now)
            wrong += (sums.general_points, sums.serious_strikes, sums.violations) != counted
            for name in members:
                own = self.ledgers[name].seller
                wrong += sums.general_points < own.general_points
                wrong += sums.serious_strikes < own.serious_strikes
                wrong += sums.violations < own.violations
        return wrong


def run_block(seed: int, number: int, entries: int) -> dict[str, int]:
    """Make and compare random ledgers until this many entries are written."""
    dice = random.Random(f"{seed}.ledger.{number}")
    rules = policy.current("ipp").penalties
    found = {"penalty_entries": 0, "penalty_differences": 0}
    while found["penalty_entries"] < entries:
        world = World(dice, rules)
        found["penalty_differences"] += world.play(dice.choice((5, 20, 30, 40)))
        found["penalty_entries"] += sum(len(ledger.rows) for ledger in world.ledgers.values())
    return found
