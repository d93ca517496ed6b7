"""The port to the marketplace: what Goodfaith asks and what it answers. A site that implements it can be moderated.

**Commands** (outward, keyed by listing): ``suspend`` and ``remove`` take the listing's page down, ``restore`` brings
it back, ``lookup`` asks for the listing to be published. A command is idempotent by its id. ``seq`` rises by one with
each command on a listing. A command whose ``seq`` is not above the highest one carried out is answered ``done`` and
has no effect, so late and repeated commands do no harm. ``lookup`` changes nothing and has ``seq`` 0.

**Receipts** (inward, keyed by listing): one per command, naming it: ``done``, or ``unknown_listing``. A command
without a receipt is sent again with the same id, forever, at growing intervals.

**Listings** (inward, compacted, keyed by listing): what a listing is and who sells it. ``ended``: the seller has
taken it down; ``unknown``: there is no such listing. Published at each change that the marketplace makes itself and
at each ``lookup``, before its receipt. A measure of ours is not such a change. Listings come by topic with either
adapter.

**Sellers' commands** (outward, keyed by seller): the whole set of measures on a seller's account from now on; an
empty set frees it. ``listing_restricted``: its offers are shown less; the marketplace decides how. ``frozen``: none
of its listings shows, and it may sell nothing. ``may_not_list``: it may offer nothing new. ``closed``: ``frozen`` and
``may_not_list``, for good. Idempotent by id. A command whose ``seq`` is not above the highest one carried out is
answered ``done`` and has no effect. ``until`` is for display only: a measure ends with the next command. What was on
the site before a freeze shows again after it.

**Sellers' receipts** (inward, keyed by seller): one per seller's command: ``done``, or ``unknown_seller``. Commands
without one are sent again, like those on a listing.

**Sellers** (inward, compacted, keyed by seller): all current keys of an account: ``registration`` (of the business),
``payment`` (the account that is paid out to), ``device``. The marketplace hashes each under a secret of its own
(``seller_key``), because a registration number that is merely hashed can be found by trying them all. Accounts that
share a key are linked to one business, as far as the policy lets keys of that kind link. Published with all keys
whenever an account's keys change: a key that is no longer named is cut. Sellers come by topic with either adapter.

Two adapters carry commands and receipts (``GOODFAITH_MARKETPLACE``):

``kafka``: topics ``marketplace.commands``, ``marketplace.receipts``, ``marketplace.listings``,
``marketplace.seller_commands``, ``marketplace.seller_receipts``; CloudEvents, with the default partitioner (murmur2
over the key).

``http``: ``POST /commands`` for ``suspend``, ``remove`` and ``restore`` (``lookup`` stays on its topic), and
``POST /seller-commands`` for sellers' commands. The body is the command as JSON. Headers: ``Idempotency-Key`` (the
command's id), ``Goodfaith-Timestamp`` (Unix seconds) and ``Goodfaith-Signature`` (``v2=`` + hex HMAC-SHA256 of
``<timestamp>.POST.<path>.<body>`` under the shared secret; ``<path>`` is ``/commands`` or ``/seller-commands``,
without any prefix from the marketplace's base address). Answers: 200 with the receipt; 202: accepted, ask again with
the same key; 401: not signed, signed wrongly or out of tolerance; 422: not a command. The idempotency key catches a
request that is replayed within the tolerance.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal
from urllib.parse import quote

from shared.events import (
    Listing,
    MarketplaceCommand,
    MarketplaceSeller,
    Receipt,
    SellerCommand,
    SellerKey,
    SellerReceipt,
)

__all__ = [
    "COMMANDS_PATH",
    "IDEMPOTENCY_KEY",
    "SELLER_COMMANDS_PATH",
    "SIGNATURE",
    "TIMESTAMP",
    "TOLERANCE_S",
    "BadSignature",
    "Listing",
    "MarketplaceCommand",
    "MarketplaceSeller",
    "Receipt",
    "SellerCommand",
    "SellerKey",
    "SellerReceipt",
    "check",
    "listing_url",
    "seller_key",
    "sign",
    "signed_headers",
]

COMMANDS_PATH: Final = "/commands"
SELLER_COMMANDS_PATH: Final = "/seller-commands"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
TIMESTAMP: Final = "Goodfaith-Timestamp"
SIGNATURE: Final = "Goodfaith-Signature"
TOLERANCE_S: Final = 300
"""Seconds that a request's timestamp may lie in the past or future (five minutes, as usual for signed webhooks)."""


class BadSignature(ValueError):
    """Not signed with the shared secret, or not within the tolerance."""


def listing_url(base: str, listing: str) -> str:
    """URL of the listing's public page."""
    return f"{base.rstrip('/')}/items/{quote(listing, safe=':')}"


def seller_key(secret: str, kind: Literal["registration", "payment", "device"], value: str) -> SellerKey:
    """A key as the marketplace publishes it: hex HMAC-SHA256 of ``<kind>:<value>`` under a secret it never shares."""
    return SellerKey(kind, hmac.new(secret.encode(), f"{kind}:{value}".encode(), hashlib.sha256).hexdigest())


def sign(secret: str, timestamp: int, path: str, body: bytes) -> str:
    """The signature of a POST to one of the port's paths, valid only for that path."""
    signed = f"{timestamp}.POST.{path}.".encode() + body
    return "v2=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def signed_headers(secret: str, timestamp: int, path: str, command: str, body: bytes) -> dict[str, str]:
    """Headers of a command to ``path``; ``timestamp`` in Unix seconds of wall time."""
    return {
        "Content-Type": "application/json",
        IDEMPOTENCY_KEY: command,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(secret, timestamp, path, body),
    }


def check(secret: str, timestamp: str | None, signature: str | None, path: str, body: bytes, now: float) -> None:
    """Check the signature of a POST to ``path``; ``now`` in Unix seconds.

    Raises:
        BadSignature: missing, wrong, or out of tolerance.
    """
    if timestamp is None or signature is None:
        raise BadSignature("not signed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("the timestamp is not a number of Unix seconds")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature(f"the timestamp is more than {TOLERANCE_S} seconds off")
    # bytes, because compare_digest raises an error for non-ASCII text
    if not hmac.compare_digest(sign(secret, int(timestamp), path, body).encode(), signature.encode()):
        raise BadSignature("the signature does not match path and body")
