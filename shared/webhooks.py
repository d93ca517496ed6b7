"""How messages went to a webhook, as notification tells intake's front: neither addresses nor texts."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

State = Literal["queued", "sending", "delivered", "failed", "dropped"]


class WebhookTry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call to a webhook."""

    at: dt.datetime
    result: str
    """HTTP status, or a word: `timeout`, `unreachable`, `tls`, `broken`, `url_private`, `url_unresolved`."""
    ms: int
    replay: bool = False


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """A message for a webhook. Times are wall times."""

    message: str
    kind: str
    state: State
    """`sending`: being sent, or an earlier call got no answer."""
    result: str | None
    attempts: int
    repeats: int
    """Calls that were made again because nobody knew whether the one before was taken."""
    replays: int
    made_at: dt.datetime
    next_at: dt.datetime | None
    ended_at: dt.datetime | None
    tries: list[WebhookTry]
    """The latest, oldest first."""


class WebhookHealth(Struct, frozen=True, kw_only=True):
    """How a webhook fares."""

    circuit: Literal["closed", "open", "half_open", "disabled", "unknown"]
    failures: int = 0
    """In a row, up to now."""
    failing_since: dt.datetime | None = None
    next_at: dt.datetime | None = None
    """It is not called before."""
    waiting: int = 0
    """Messages that wait for it."""


class Replayed(Struct, frozen=True, kw_only=True):
    """Messages that will be sent again."""

    messages: int
    more: bool = False
    """Whether there are more than one request replays: ask again with a later `since`."""
    upto: dt.datetime | None = None
    """When the last of them had been sent."""
