"""The brake on automatic decisions: how much an account may file before a person decides what it files. Pure: no I/O.

What an account files is compared with what it used to file, and an account without a record is on probation. Nothing is
refused, and nothing waits longer to be accepted: what is *held back* goes to a person, whatever the rules would say of
it. So a stolen account, or a new one that was opened for it, takes down no more listings unseen than it did before.
"""

from __future__ import annotations

import datetime as dt

from msgspec import Struct
from msgspec.structs import replace

from shared.events import BrakeReason
from shared.policy import Brake


class Counters(Struct, frozen=True):
    """What is known of an account. Days are business days, UTC; only items that were not held back count.

    Attributes:
        settled: its settled items, as last judged.
        today: items that it filed today.
        best: most items of one day of the window that is at least as long ago as a brake lasts.
        until: first day on which a brake no longer stands; None: none was put on.
        released: a person has released it up to this day, not included.
    """

    settled: int = 0
    today: int = 0
    best: int = 0
    until: dt.date | None = None
    released: dt.date | None = None


def allowed(counters: Counters, terms: Brake) -> int:
    """Items a day that rules may decide: a little more than the account's best day or, on probation, a few."""
    if counters.settled < terms.probation_settled:
        return terms.probation_items
    return max(terms.floor, terms.times * counters.best)


def holding(counters: Counters, day: dt.date, terms: Brake) -> BrakeReason | None:
    """What holds the account back at present, whatever it files: a brake that stands, or probation."""
    if counters.released is not None and day < counters.released:
        return None
    if counters.until is not None and day < counters.until:
        return "rate"
    return "probation" if counters.settled < terms.probation_settled else None


def held_back(counters: Counters, items: int, day: dt.date, terms: Brake) -> BrakeReason | None:
    """Why a claim of so many items is held back as a whole; None: it is not."""
    if counters.released is not None and day < counters.released:
        return None
    if counters.until is not None and day < counters.until:
        return "rate"
    if counters.today + items <= allowed(counters, terms):
        return None
    return "probation" if counters.settled < terms.probation_settled else "rate"


def filed(counters: Counters, items: int, reason: BrakeReason | None, day: dt.date, terms: Brake) -> Counters:
    """The counters after an accepted claim. A brake for the rate stands for a while: tomorrow is no new beginning."""
    if reason is None:
        return replace(counters, today=counters.today + items)
    if reason == "rate" and (counters.until is None or day >= counters.until):
        return replace(counters, until=day + terms.lasts.exact)
    return counters
