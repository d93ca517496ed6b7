"""What the parties must be told, stated independently of notification. `goodfaith verify` compares messages with it.

One line per rule; each rule that applies yields a message. Shares event and policy types with the services, but no
code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shared.events import ItemChanged, SanctionChanged

ACCOUNT: Final = "account."
"""Prefix of the kinds of messages to an account about itself."""
WINDOW_KINDS: Final = ("seller_notice", "counter_forwarded", "counter_defect", "info_request")
"""Kinds of messages that begin a window."""
CLOSED: Final = (
    "DUPLICATE",
    "LINK_INVALID",
    "LAPSED",
    "REJECTED",
    "RESTORED",
    "WITHDRAWN",
    "UPHELD",
    "UPHELD_BY_DEFAULT",
    "UPHELD_AFTER_COUNTER",
)
"""States in which nothing is in progress."""
_UPHELD: Final = ("UPHELD", "UPHELD_BY_DEFAULT", "UPHELD_AFTER_COUNTER")
_AFTER_NOTICE: Final = (
    "NOTIFIED",
    "COUNTERED",
    "HOLDER_RESPONSE",
    "PLATFORM_REVIEW",
    "RESTORED",
    *_UPHELD,
)
"""States that an item reaches only after its seller was notified."""


class Step(NamedTuple):
    """A change, as far as it matters here.

    Attributes:
        entered: the state was entered, not merely published again with a window, a receipt or an escalation.
        before: states that the change left: the previous one and those passed through.
    """

    entered: bool
    before: tuple[str | None, ...]
    change: ItemChanged

    @property
    def first(self) -> bool:
        return self.change.revision == 1

    @property
    def returned(self) -> bool:
        """An incomplete counter was returned: the item is back where it was before."""
        return self.entered and "COUNTERED" in self.before and self.change.state in ("NOTIFIED", *_UPHELD)

    @property
    def resumed(self) -> bool:
        """The item is back from a pause with nothing decided: the state's first message still holds."""
        paused = self.change.previous in ("SUSPENDED", "LITIGATION") and not self.change.via
        # its seller was reached while a person looked at the takedown
        return paused or (self.change.state == "NOTIFIED" and self.before[-1] == "APPEALED")

    @property
    def new(self) -> bool:
        return self.entered and not self.returned and self.change.state != self.change.previous

    @property
    def ended(self) -> bool:
        return self.new and self.change.state in CLOSED and not self.first

    def opened(self, *states: str) -> bool:
        """One of these open states was entered, other than from a pause."""
        return self.new and not self.resumed and self.change.state in states

    @property
    def appealed(self) -> bool:
        """A party complained. When the platform itself looks again, parties are told only the result."""
        return self.opened("APPEALED") and self.change.by != "system" and self.before[-1] in CLOSED

    @property
    def reversed(self) -> bool:
        """A person reversed the contested decision, and the item is judged again."""
        change = self.change
        again = self.new and change.state not in (*CLOSED, "APPEALED")
        return again and change.previous == "APPEALED" and change.by in ("reviewer", "operator")

    @property
    def seller(self) -> bool:
        """The seller knows of the item, and is not its complainant."""
        change = self.change
        # a notice that nobody has read is in the inbox all the same
        knows = change.noticed_at is not None or change.previous in _AFTER_NOTICE or change.unreached
        return knows and change.seller is not None and change.seller != change.complainant

    @property
    def has_seller(self) -> bool:
        return self.change.seller is not None


RULES: Final[tuple[tuple[str, str, Callable[[Step], bool]], ...]] = (
    ("claim_receipt", "complainant", lambda s: s.first),
    ("info_request", "complainant", lambda s: s.opened("NEEDS_INFO")),
    ("seller_notice", "seller", lambda s: s.opened("NOTIFIED") and s.has_seller),
    ("counter_defect", "seller", lambda s: s.returned and s.has_seller),
    ("counter_forwarded", "complainant", lambda s: s.opened("HOLDER_RESPONSE")),
    ("counter_received", "seller", lambda s: s.opened("HOLDER_RESPONSE") and s.has_seller),
    ("complaint_received", "complainant", lambda s: s.appealed),
    ("complaint_received", "seller", lambda s: s.appealed and s.seller),
    ("complaint_reversed", "complainant", lambda s: s.reversed),
    ("outcome", "complainant", lambda s: s.ended),
    ("outcome", "seller", lambda s: s.ended and s.seller),
)
"""Kind of message, party, and condition."""


def told(type_: str, change: ItemChanged) -> Iterator[tuple[str, str]]:
    """(kind, party) of every message that a change must lead to."""
    entered = type_ == f"goodfaith.item.{change.state.lower()}.v1"
    if not entered and change.revision > 1:
        return
    step = Step(entered, (change.previous, *change.via), change)
    for kind, party, applies in RULES:
        if applies(step):
            yield kind, str(getattr(change, party))


def told_of_sanction(change: SanctionChanged) -> str | None:
    """The kind of notice that a seller must get about a sanction; None: another message covers it."""
    if change.change == "imposed":
        if change.prior:
            return "sanction_prior_warning"
        return "sanction_imposed" if change.measures else "sanction_warning"
    over = change.change == "ended" and not change.measures
    return None if over or change.cause == "replaced" else f"sanction_{change.change}"
