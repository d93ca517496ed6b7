"""Which channel a message goes by, and what an answer or a delivery report says about an address. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from typing import Final, Literal

Channel = Literal["centre", "email", "webhook", "inbox"]
ChannelOutcome = Literal["sent", "relayed", "delayed", "delivered", "bounced", "refused", "gave_up", "failed"]
"""What a message's timeline says about one channel. ``delayed`` and ``relayed`` change nothing; after ``bounced``,
``refused`` or ``gave_up`` the message goes by another channel."""

ORDER: Final[tuple[Channel, ...]] = ("centre", "email", "webhook", "inbox")
"""The order of channels for a party that has not chosen one. Only sellers have the marketplace's message centre."""
ROUTES: Final[frozenset[Channel]] = frozenset({"email", "webhook"})
"""Channels that one of our processes sends by. The inbox needs none: an announced message is in it."""

_STATUS: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")


def choose(order: Sequence[Channel], available: Collection[Channel], tried: Collection[str]) -> Channel:
    """The channel to try now: the first of ``order`` that the party has and that has not failed for this message.

    A legal notice is never lost for lack of a channel: the party's other channels follow those in ``order``, and the
    inbox is always available.
    """
    for channel in (*order, *ORDER):
        if channel == "inbox" or (channel in available and channel not in tried):
            return channel
    return "inbox"


def status(text: object) -> str | None:
    """The enhanced status code (RFC 3463) at the beginning of ``text``, or None."""
    found = _STATUS.match(text) if isinstance(text, str) else None
    return None if found is None else ".".join(str(int(part)) for part in found.groups())


def bad_address(code: str) -> bool:
    """Whether an enhanced status says that the address itself takes no mail at all.

    These are bad addressing (5.1.x), a disabled mailbox (5.2.1), and 5.0.0, which says only that the failure is
    permanent. A full mailbox, an oversized message or a policy of the receiver (5.2.2, 5.3.4, 5.7.x) concerns this
    message only.
    """
    return code.startswith("5.1.") or code in ("5.2.1", "5.0.0")


def address_key(key: str, address: str) -> str:
    """A keyed hash of an address: recognises the address, and reveals nothing without the key."""
    return hmac.new(key.encode(), b"address\0" + address.lower().encode(), hashlib.sha256).hexdigest()[:32]
