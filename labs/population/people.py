"""What sellers, holders and reviewers of a population do, by what is true. Pure: seeded by names (``labs.model.Dice``)."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from labs.model import Dice
from labs.population.generator import Behaviour, Listing, PanelRates, Rates

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
Answer = Literal["accept", "reject"]


def seller_acts(rates: Rates, dice: Dice, listing: Listing) -> tuple[Literal["counter", "accept"], int] | None:
    """What the seller does within its window, and after how many days; None: nothing."""
    does = rates.sellers.infringing if listing.infringing else rates.sellers.lawful
    roll, days = dice.roll("seller", listing.id), dice.days(rates.days.seller, "seller days", listing.id)
    if roll < does.counters:
        return "counter", days
    return ("accept", days) if roll < does.counters + does.accepts else None


def seller_late(rates: Rates, dice: Dice, listing: Listing) -> int | None:
    """After how many days a seller who let its window pass counters; None: never."""
    does = rates.sellers.infringing if listing.infringing else rates.sellers.lawful
    late = dice.roll("late", listing.id) < does.late
    return dice.days(rates.days.late, "late days", listing.id) if late else None


def seller_complains(rates: Rates, dice: Dice, listing: Listing) -> int | None:
    """After how many days a seller whose counter failed complains; None: it does not."""
    does = rates.sellers.infringing if listing.infringing else rates.sellers.lawful
    complains = dice.roll("complains", listing.id) < does.complains
    return dice.days(rates.days.complaint, "complaint days", listing.id) if complains else None


def holder_answers(
    rates: Rates, dice: Dice, behaviour: Behaviour, listing: Listing, round_: int
) -> tuple[Answer, int] | None:
    """What the holder says to a counter, and after how many days; None: nothing."""
    yields, insists = (
        (rates.holders.yields, rates.holders.insists) if listing.infringing else (behaviour.yields, behaviour.insists)
    )
    roll = dice.roll("holder", listing.id, round_)
    days = dice.days(rates.days.holder, "holder days", listing.id, round_)
    if roll < yields:
        return "accept", days
    return ("reject", days) if roll < yields + insists else None


def holder_complains(rates: Rates, dice: Dice, behaviour: Behaviour, listing: Listing) -> int | None:
    """After how many days a holder complains of a refusal; None: it does not. It knows whether it was right."""
    if not listing.infringing and behaviour.infringing > 0.5:
        return None
    complains = dice.roll("holder complains", listing.id) < behaviour.complains
    return dice.days(rates.days.complaint, "holder complaint days", listing.id) if complains else None


class Panel:
    """Reviewers with stated hours, speed and errors."""

    def __init__(self, rates: PanelRates, dice: Dice) -> None:
        self.rates = rates
        self._dice = dice
        self.reviewers = tuple(f"reviewer-{number:02}" for number in range(rates.reviewers))

    def next_sitting(self, now: dt.datetime) -> dt.datetime:
        """The end of the first sitting that ends after `now`."""
        opens, closes = self.rates.hours
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        while True:
            if day.weekday() in self.rates.weekdays:
                for hour in range(opens + self.rates.sitting, closes + 1, self.rates.sitting):
                    if (end := day + hour * HOUR) > now:
                        return end
            day += DAY

    @property
    def quota(self) -> int:
        """Cases that one reviewer decides in a sitting."""
        return self.rates.cases_an_hour * self.rates.sitting

    def right(self, look: int, listing: Listing, state: str, round_: int) -> bool:
        """Whether a reviewer sees the truth: the first who looks at the case is `look` 0, the second 1."""
        before, after = self.rates.errors[listing.kind]
        error = before if state == "UNDER_REVIEW" else after
        return self._dice.roll("reviewer", look, listing.id, state, round_) >= error

    def decides(
        self, look: int, listing: Listing, state: str, round_: int, *, stands: bool
    ) -> Literal["uphold", "refuse", "complete", "restore", "confirm", "reverse"]:
        """What the reviewer decides; `stands`: of a complaint, whether the decision complained of was a takedown."""
        infringes = listing.infringing is self.right(look, listing, state, round_)
        if state == "UNDER_REVIEW":
            return "uphold" if infringes else "refuse"
        if state == "PLATFORM_REVIEW":
            return "uphold" if infringes else "restore"
        if state == "APPEALED":
            return "confirm" if infringes is stands else "reverse"
        return "complete"
