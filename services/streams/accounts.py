"""The view ``accounts``: each account's standing in the good-faith mechanism, from the notices sent to it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Final, Literal

from services.streams import views
from services.streams.views import Meta, position_of
from shared import topics
from shared.events import AccountNotice, Data

GoodFaith = Literal["in", "warned", "barred", "out"]
STATES: Final[tuple[GoodFaith, ...]] = ("in", "warned", "barred")
"""The states shown. ``barred``: out, and may not rejoin yet."""
_ABOUT: Final = "good_faith_"
_ENTERED: Final = frozenset({"upgraded", "joined", "declared", "warned", "warning_lifted", "admitted"})
"""Changes after which the account is in the mechanism (``services.intake.goodfaith.domain.Change``)."""


class Account(views.State, frozen=True, array_like=True, omit_defaults=True):
    """An account after its last notice in intake's log (``sequence``). ``until``: first day on which it may rejoin."""

    sequence: int
    state: GoodFaith
    until: str = ""


def key(data: Data) -> str | None:
    """The account that a good-faith notice is for."""
    return data.account if isinstance(data, AccountNotice) and data.kind.startswith(_ABOUT) else None


def fold(state: Account | None, data: Data, meta: Meta) -> Account | None:
    """The account after a notice."""
    position = position_of(meta.id)
    if position is None:
        raise ValueError(f"{meta.id}: not an event of a log")
    if not isinstance(data, AccountNotice) or (state is not None and position.sequence <= state.sequence):
        return state
    until = str(data.figures.get("barred_until", ""))
    if data.kind.removeprefix(_ABOUT) in _ENTERED:
        return Account(position.sequence, "warned" if "demote_on" in data.figures else "in", until)
    return Account(position.sequence, "barred" if until else "out", until)


class Totals:
    """How many accounts are in each state."""

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()

    def move(self, key: str, old: Account | None, new: Account | None) -> None:
        """As ``views.Totals``."""
        if old is not None:
            self._states[old.state] -= 1
        if new is not None:
            self._states[new.state] += 1

    def figures(self, now: dt.datetime) -> dict[str, int]:
        """By state."""
        return self.counts(now)

    def counts(self, now: dt.datetime) -> dict[str, int]:
        """By state; accounts that are out and may rejoin are not counted."""
        return {state: self._states[state] for state in STATES if self._states[state]}


VIEW: Final = views.View(
    name="accounts",
    reads=(topics.ACCOUNTS,),
    state=Account,
    key=key,
    fold=fold,
    totals=Totals,
)
