"""A request as the group commit takes it, and its result."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.intake.kernel import requests
from services.intake.kernel.domain import Account, ListingRef, Rows
from shared import policy


@dataclass(slots=True)
class Filing:
    """One request, its form already checked.

    Attributes:
        key: idempotency key, if the client gave one.
        scope: account that the key belongs to (an upstream's, when it files for another).
        digest: SHA-256 of kind, target and body.
        item, claim: what a command is about; one of the two.
        listing: limits a command to the claim's item of this listing.
        over_quota: the account has filed more than its quota in 24 hours.
        accepted_at: time of right, if not by intake's own clock (an upstream's record).
        recurs: upheld item that the claim's listing is a near copy of (row 20).
        trace: the request's trace context, if it is traced.
    """

    account: Account
    key: str | None
    scope: str
    digest: bytes
    kind: str
    body: requests.In
    channel: str
    listings: Sequence[ListingRef] = ()
    rules: policy.Policy | None = None
    item: str | None = None
    claim: str | None = None
    listing: str | None = None
    over_quota: bool = False
    accepted_at: dt.datetime | None = None
    recurs: str | None = None
    trace: str | None = None

    @property
    def via(self) -> str | None:
        """The upstream's account that filed it for another."""
        return None if self.scope == self.account.id else self.scope


@dataclass(slots=True)
class Filed:
    """An accepted request: the answer as JSON, and whether it repeats an earlier one."""

    answer: bytes
    replayed: bool = False
    rows: Rows | None = None


def digest(kind: str, target: str, body: bytes) -> bytes:
    """Digest of the request's kind, target and body, which a reused idempotency key is compared by."""
    return hashlib.sha256(f"{kind}\n{target}\n".encode() + body).digest()
