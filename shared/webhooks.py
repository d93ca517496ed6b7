"""How messages to a webhook fared, as notification's internal API tells intake: no addresses and no texts."""

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
    """Calls made again because nobody knew whether the one before had been accepted."""
    replays: int
    made_at: dt.datetime
    next_at: dt.datetime | None
    ended_at: dt.datetime | None
    tries: list[WebhookTry]
    """The latest, oldest first."""


class WebhookHealth(Struct, frozen=True, kw_only=True):
    """The state of a webhook."""

    circuit: Literal["closed", "open", "half_open", "disabled", "unknown"]
    failures: int = 0
    """Consecutive failures up to now."""
    failing_since: dt.datetime | None = None
    next_at: dt.datetime | None = None
    """It is not called before this time."""
    waiting: int = 0
    """Messages that wait for it."""


class Replayed(Struct, frozen=True, kw_only=True):
    """Messages that will be sent again."""

    messages: int
    more: bool = False
    """Whether there are more than one request replays: repeat the request with a later `since`."""
    upto: dt.datetime | None = None
    """When the last of them was originally sent."""
