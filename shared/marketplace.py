"""The port to the marketplace: what Goodfaith asks and what it answers. A site that implements it can be moderated.

**Commands** (outward, keyed by listing): ``suspend`` and ``remove`` take the listing's page down, ``restore`` brings
it back, ``lookup`` asks for the listing to be published. A command is idempotent by its id. ``seq`` rises by one with
each command on a listing. A command whose ``seq`` is not above the highest one carried out is answered ``done`` and
has no effect, so late and repeated commands do no harm. ``lookup`` changes nothing and has ``seq`` 0.

**Receipts** (inward, keyed by listing): one per command, naming it: ``done``, or ``unknown_listing``. A command
without a receipt is sent again with the same id, forever, at growing intervals.

**Listings** (inward, compacted, keyed by listing): what a listing is, who sells it, and what it shows. ``ended``: the
seller has taken it down; ``unknown``: there is no such listing. A field that is left out counts as gone from the page.
Published at each change that the marketplace makes itself and
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

**Contacts** (inward, keyed by seller): how to reach a seller, and its language. Name, address and e-mail are sealed
under the installation's feed key (``sealing.py``). Each record says all of it, and a higher ``revision`` replaces what
was known; ``gone``: the marketplace has erased the seller. Contacts come by topic with either adapter.

**Messages** (outward, keyed by seller): what to put into a seller's message centre, idempotent by ``message``. Subject
and body are a JSON document, sealed under the marketplace's own key. Sent only if the installation has that key.

**Messages' receipts** (inward, keyed by seller): ``delivered``, ``read`` or ``refused``. Without ``delivered`` or
``read`` within ``GOODFAITH_CENTRE_WAIT_S``, the message goes by another channel. Both come by topic with either adapter.

Two adapters carry commands and receipts (``GOODFAITH_MARKETPLACE``):

``kafka``: topics ``marketplace.commands``, ``marketplace.receipts``, ``marketplace.listings``,
``marketplace.seller_commands``, ``marketplace.seller_receipts``; CloudEvents, with the default partitioner (murmur2
over the key).

``http``: ``POST /commands`` for ``suspend``, ``remove`` and ``restore`` (``lookup`` stays on its topic), and
``POST /seller-commands`` for sellers' commands. The body is the command as JSON, with its ``type``. Requests are
signed as the Standard Webhooks specification defines (``webhook_signatures.py``): ``webhook-id`` is the command's id
and makes a repeated request recognisable; the key is the shared secret as UTF-8. The signature covers the path by the
body's ``type``, so no request is valid for another path (docs/decisions/0067). Answers: 200 with the receipt; 202:
accepted, ask again with the same id; 401: not signed, signed wrongly or out of tolerance; 422: not a command.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from shared import webhook_signatures
from shared.events import (
    Listing,
    MarketplaceCommand,
    MarketplaceSeller,
    Receipt,
    SellerCommand,
    SellerContact,
    SellerKey,
    SellerReceipt,
)
from shared.webhook_signatures import BadSignature

__all__ = [
    "COMMANDS_PATH",
    "SELLER_COMMANDS_PATH",
    "TYPES",
    "BadSignature",
    "Letter",
    "Listing",
    "MarketplaceCommand",
    "MarketplaceSeller",
    "Receipt",
    "SellerCommand",
    "SellerContact",
    "SellerKey",
    "SellerReceipt",
    "check",
    "listing_url",
    "path_of",
    "seller_key",
    "signed_request",
]

COMMANDS_PATH: Final = "/commands"
SELLER_COMMANDS_PATH: Final = "/seller-commands"
TYPES: Final = {
    COMMANDS_PATH: "goodfaith.marketplace.command.v1",
    SELLER_COMMANDS_PATH: "goodfaith.marketplace.seller_command.v1",
}
"""The ``type`` of the bodies sent to each path."""


class Letter(msgspec.Struct, frozen=True):
    """What is sealed in a message to a seller's message centre, as JSON."""

    subject: str
    body: str


def listing_url(base: str, listing: str) -> str:
    """URL of the listing's public page."""
    return f"{base.rstrip('/')}/items/{quote(listing, safe=':')}"


def seller_key(secret: str, kind: Literal["registration", "payment", "device"], value: str) -> SellerKey:
    """A key as the marketplace publishes it: hex HMAC-SHA256 of ``<kind>:<value>`` under a secret it never shares."""
    return SellerKey(kind, hmac.new(secret.encode(), f"{kind}:{value}".encode(), hashlib.sha256).hexdigest())


def path_of(command: MarketplaceCommand | SellerCommand) -> str:
    """Path to which a command is posted."""
    return SELLER_COMMANDS_PATH if isinstance(command, SellerCommand) else COMMANDS_PATH


def signed_request(
    secret: str, command: MarketplaceCommand | SellerCommand, at: dt.datetime
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request that delivers a command ``at`` (wall time, UTC)."""
    body = msgspec.json.encode({"type": TYPES[path_of(command)], **msgspec.to_builtins(command)})
    headers = webhook_signatures.signed_headers(command.command, body, [secret.encode()], at)
    return body, {"content-type": "application/json", **headers}


class _Named(msgspec.Struct):
    type: Any = None
    command: Any = None


def check(secret: str, headers: Mapping[str, str], path: str, body: bytes) -> None:
    """Check that a POST to ``path`` was signed for it, now, under the id of the command in its body.

    A body that is no JSON object is not checked further: no command can be read from it.

    Raises:
        BadSignature: the signature is missing, wrong or out of tolerance, or for another path or command.
    """
    id_ = webhook_signatures.check(secret.encode(), headers, body)
    try:
        named = msgspec.json.decode(body, type=_Named)
    except msgspec.DecodeError:
        return
    if named.type != TYPES[path]:
        raise BadSignature(f"type: expected {TYPES[path]} on {path}")
    if named.command != id_:
        raise BadSignature(f"{webhook_signatures.ID} is not the command's id")
