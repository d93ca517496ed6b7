"""The port to the marketplace: what Goodfaith asks of it and what it answers. Whoever implements this can be moderated.

**Commands** (outward, keyed by listing): ``suspend`` and ``remove`` take the listing's page down, ``restore`` brings it
back, ``lookup`` has the listing published. A command is idempotent by its id. ``seq`` rises by one with each command on a
listing; one whose ``seq`` is not above the highest that was carried out is answered ``done`` and has no effect, so late
and repeated commands do no harm. ``lookup`` changes nothing and has ``seq`` 0.

**Receipts** (inward, keyed by listing): one for each command, naming it: ``done``, or ``unknown_listing``. A command without
a receipt is sent again with the same id, for ever, with growing pauses.

**Listings** (inward, compacted, keyed by listing): what a listing is and who sells it; ``ended``: the seller has taken it
away; ``unknown``: there is none. Published at the marketplace's own changes and at each ``lookup``, before its receipt.
A measure of ours is not a change of the marketplace's own. Listings come by topic under either adapter.

**Sellers' commands** (outward, keyed by seller): the whole set of measures that a seller's account is under from now on, none
to set it free. ``listing_restricted``: its offers are shown less, how is the marketplace's affair; ``frozen``: none of its
listings shows, and it may sell nothing; ``may_not_list``: it may offer nothing new; ``closed``: as both, for good. Idempotent by
id; one whose ``seq`` is not above the highest that was carried out is answered ``done`` and has no effect. ``until`` is for
showing: a measure ends by the next command. What was on the site before a freeze shows again after it.

**Sellers' receipts** (inward, keyed by seller): one for each such command: ``done``, or ``unknown_seller``. Sent again like a
listing's.

**Sellers** (inward, compacted, keyed by seller): all keys of an account as they are now: ``registration`` (of the business),
``payment`` (account that is paid out to), ``device``. Each is hashed by the marketplace, under a secret of its own
(``seller_key``): a registration number that is only hashed is found by trying them all. Accounts that share a key are linked to
one business, as far as the policy lets keys of that kind link. Published when an account's keys change, with all of them: one
that is no longer named is cut. They come by topic under either adapter.

Two adapters carry commands and receipts (``GOODFAITH_MARKETPLACE``):

``kafka``: topics ``marketplace.commands``, ``marketplace.receipts``, ``marketplace.listings``, ``marketplace.seller_commands``,
``marketplace.seller_receipts``; CloudEvents, the default partitioner (murmur2 over the key).

``http``: ``POST /commands`` for ``suspend``, ``remove`` and ``restore`` (a ``lookup`` stays on its topic), and
``POST /seller-commands`` for sellers' commands. The body is the
command as JSON. Headers: ``Idempotency-Key`` (the command's id), ``Goodfaith-Timestamp`` (Unix seconds) and
``Goodfaith-Signature`` (``v2=`` + hex HMAC-SHA256 of ``<timestamp>.POST.<path>.<body>`` under the shared secret; ``<path>`` is
``/commands`` or ``/seller-commands``, without what the marketplace's base address may have before it). Answers: 200 with the
receipt; 202: taken, ask again with the same key; 401: not signed, signed wrongly or out of tolerance; 422: not a command.
A request that is replayed within the tolerance meets the idempotency key.
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
"""Seconds that a request's timestamp may lie in the past or the future (the usual five minutes of signed webhooks)."""


class BadSignature(ValueError):
    """Not signed by who shares the secret, or not now."""


def listing_url(base: str, listing: str) -> str:
    """The listing's public page."""
    return f"{base.rstrip('/')}/items/{quote(listing, safe=':')}"


def seller_key(secret: str, kind: Literal["registration", "payment", "device"], value: str) -> SellerKey:
    """A key as the marketplace tells of it: hex HMAC-SHA256 of ``<kind>:<value>`` under a secret that it shares with nobody."""
    return SellerKey(kind, hmac.new(secret.encode(), f"{kind}:{value}".encode(), hashlib.sha256).hexdigest())


def sign(secret: str, timestamp: int, path: str, body: bytes) -> str:
    """The signature of a POST to one of the port's paths: good for that path alone."""
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
    # bytes: compare_digest refuses non-ASCII text with an error of its own
    if not hmac.compare_digest(sign(secret, int(timestamp), path, body).encode(), signature.encode()):
        raise BadSignature("the signature does not match path and body")
