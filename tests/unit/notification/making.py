"""Events and facts for tests."""

from __future__ import annotations

import datetime as dt
from typing import Any

from services.notification.domain import Facts
from shared.events import ItemChanged, State

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
HOLDER, SELLER, OWNER = "holder-1", "seller-1", "owner-1"


def changed(state: State, **more: Any) -> ItemChanged:
    """An item after a change; ``more`` replaces defaults."""
    fields: dict[str, Any] = {
        "item": "claim-1.1",
        "claim": "claim-1",
        "claim_size": 1,
        "listing": "listing-1",
        "seller": SELLER,
        "complainant": HOLDER,
        "principal": HOLDER,
        "right": "right-1",
        "right_type": "trademark",
        "reason": "counterfeit",
        "profile": "ipp",
        "policy": "ipp-2026-11",
        "revision": 2,
        "rule": "1-test",
        "received_at": NOW,
    }
    return ItemChanged(state=state, **{**fields, **more})


def entered(state: State) -> str:
    """Type of the event that says that an item is in ``state`` now."""
    return f"goodfaith.item.{state.lower()}.v1"


def facts(listing: str = "listing-1", **more: Any) -> Facts:
    """What a message says of one item."""
    fields: dict[str, Any] = {
        "listing": listing,
        "seller": SELLER,
        "complainant": HOLDER,
        "principal": HOLDER,
        "right": "right-1",
        "right_type": "trademark",
        "reason": "counterfeit",
        "policy": "ipp-2026-11",
        "state": State.NOTIFIED,
    }
    return Facts(**{**fields, **more})
