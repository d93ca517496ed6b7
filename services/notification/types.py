"""What the tables' modules take and return: messages, their items, and the outcome of a sending. Data only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from services.notification.domain import Facts
from shared.events import AccountNotice

UNREACHABLE: Final = "unreachable"
"""Result of a seller's notice that lies in an inbox that nobody owns."""


@dataclass(slots=True)
class ItemRows:
    """Rows of ``message_items`` to insert, by column."""

    items: list[str] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    parties: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    traces: list[str | None] = field(default_factory=list)


@dataclass(slots=True)
class Item:
    """An item in a message."""

    item: str
    revision: int
    partition: int
    facts: Facts
    claim: str = ""


@dataclass(slots=True)
class Message:
    """A message that this sender holds. ``unknown``: an earlier sending began, and its outcome is unknown."""

    id: str
    claim: str
    party: str
    kind: str
    unknown: bool
    tries: int
    opened_wall: dt.datetime
    claim_size: int = 1
    items: list[Item] = field(default_factory=list)
    notice: AccountNotice | None = None
    """A notice to an account about itself; ``items`` is then empty."""
    partition: int = 0
    """The notice's partition."""
    tried: Sequence[str] = ()
    """Channels that failed permanently."""
    first: bool = True
    """Whether it was never sent by any channel; otherwise it has been announced already."""
    result: str | None = None
    """Result of the previous try."""
    traces: list[str] = field(default_factory=list)
    """Trace contexts of its items that are traced."""

    @property
    def parties(self) -> set[str]:
        """Accounts whose contact data it may contain."""
        found = {self.party}
        if self.notice is None:
            facts = self.items[0].facts
            found.update(filter(None, (facts.complainant, facts.principal, facts.seller)))
        return found


@dataclass(frozen=True, slots=True)
class Failure:
    """A channel that failed permanently for a message, which now goes by another one.

    Args:
        outcome: one of ``channels.ChannelOutcome``: ``refused`` or ``gave_up``.
        reason: enhanced mail status, HTTP status or a word of ours; never a server's text.
        address: keyed hash of an address to remember because it takes no mail at all.
    """

    channel: str
    outcome: Literal["refused", "gave_up"]
    reason: str | None = None
    address: str | None = None


@dataclass(slots=True)
class Sent:
    """A message that a channel has accepted, for ``finish``.

    Args:
        address: keyed hash of the address that it went to.
        delivered: whether the channel's answer says that it arrived (a webhook's 2xx).
        failure: the channel that was tried just before and failed.
        trace: trace context of the sending, if it is traced.
    """

    message: Message
    channel: str
    result: str
    template: str
    version: int
    digest: str
    locale: str = "en"
    edition: str = ""
    rendered_at: dt.datetime | None = None
    address: str | None = None
    delivered: bool = False
    failure: Failure | None = None
    trace: str | None = None


@dataclass(slots=True)
class PutOff:
    """A message given back, to be taken again after ``pause_s``. State ``sending`` records that an outcome is unknown.

    Args:
        route: the other channel that it takes from now on.
        failure: why this channel is given up.
    """

    message: Message
    state: str
    result: str
    pause_s: float = 0.0
    tried: bool = False
    route: str | None = None
    failure: Failure | None = None


class Announcement(NamedTuple):
    """An event to publish, with its partition and key. ``subject``: the message or webhook that it is about."""

    partition: int
    key: str
    subject: str
    type: str
    payload: str


class QueuedAnnouncement(NamedTuple):
    """An announcement in the queue. ``trace``: its trace context, if it is traced."""

    id: int
    partition: int
    key: str
    subject: str
    type: str
    payload: str
    trace: str | None


class HistoryEntry(NamedTuple):
    """A row of ``deliveries``, without its time."""

    message: str
    party: str
    channel: str
    state: str
    reason: str | None
