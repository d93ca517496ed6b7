"""Limits the rate of mail to each domain, and pauses a domain that pushes back. Pure: the caller passes the time.

A domain's rate is a bucket, kept as the time at which it will be empty (the generic cell rate algorithm). A message
that finds no room books the next free moment and comes back then, so a backlog is put off once and keeps its order,
and other domains never wait for it. Senders share every limit equally.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

BURST_S: Final = 5.0
"""After a pause, this many seconds' worth of messages may go at once."""
FIRST_REST_S: Final = 5.0
LONGEST_REST_S: Final = 900.0
DOMAINS: Final = 10_000
"""Domains whose pace is remembered; the least recently used are forgotten first."""
ANY: Final = "*"
"""Key of the limit for domains without one of their own."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a domain may get from all senders together. 0: no limit.

    Raises:
        ValueError: negative.
    """

    per_minute: float = 0.0
    concurrent: int = 0

    def __post_init__(self) -> None:
        if self.per_minute < 0 or self.concurrent < 0:
            raise ValueError("a limit below 0")


@dataclass(slots=True)
class _Pace:
    full_at: float = 0.0
    """When everything booked will have been sent."""
    rests_until: float = 0.0
    rests: int = 0


@dataclass(slots=True)
class Pacer:
    """The paces of all domains, as one sender sees them.

    Args:
        limits: by domain; ``ANY`` for all others.
        share: number of senders running.
    """

    limits: Mapping[str, Limit]
    share: int = 1
    _paces: OrderedDict[str, _Pace] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        """Convert domains to lower case for comparison."""
        self.limits = {name.lower(): limit for name, limit in self.limits.items()}

    def limit(self, domain: str) -> Limit:
        """The limit of a domain."""
        return self.limits.get(domain) or self.limits.get(ANY) or Limit()

    def wait(self, domain: str, now: float, *, booked: bool = False) -> float:
        """Seconds until a message may go to a domain; 0: now. The call books that moment.

        Args:
            booked: the message is back at the moment it booked earlier.
        """
        pace = self._paces.get(domain)
        if pace is not None and pace.rests_until > now:
            # book again, each one later, or all would come back at the same moment
            booked = False
        elif booked:
            return 0.0
        limit = self.limit(domain)
        if limit.per_minute == 0.0 and (pace is None or pace.rests_until <= now):
            return 0.0
        pace = self._of(domain)
        begin = max(now, pace.rests_until)
        if limit.per_minute == 0.0:
            return begin - now
        each = 60.0 / limit.per_minute * self.share
        at = max(begin, pace.full_at - max(0.0, BURST_S - each))
        pace.full_at = max(begin, pace.full_at) + each
        return at - now

    def lane(self, domain: str, party: int, lanes: int) -> int:
        """The sender's connection for a party's messages; a domain gets no more connections than its limit allows."""
        most = self.limit(domain).concurrent
        if most == 0:
            return party % lanes
        ours = min(lanes, max(1, most // self.share))
        first = sum(domain.encode()) % lanes
        return (first + party % ours) % lanes

    def slowed(self, domain: str, now: float) -> float:
        """Pause a domain, longer each time, after a temporary refusal that concerns the whole domain; the seconds."""
        pace = self._of(domain)
        if pace.rests_until <= now:
            rest = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(pace.rests, 12))
            pace.rests += 1
            pace.rests_until = now + rest
        return pace.rests_until - now

    def eased(self, domain: str) -> None:
        """Reset a domain's pauses after it accepted a message."""
        pace = self._paces.get(domain)
        if pace is not None:
            pace.rests = 0
            pace.rests_until = 0.0

    def _of(self, domain: str) -> _Pace:
        pace = self._paces.setdefault(domain, _Pace())
        self._paces.move_to_end(domain)
        if len(self._paces) > DOMAINS:
            self._paces.popitem(last=False)
        return pace


def of_domain(reason: str) -> bool:
    """Whether a temporary refusal (4xx) concerns the recipient's domain and not this mailbox or message.

    RFC 3463: 4.1.x and 4.2.x concern an address, 4.6.x the content; all others, and a bare code, the system.
    """
    return not reason.startswith(("4.1.", "4.2.", "4.6."))


@dataclass(frozen=True, slots=True)
class QuietPeriod:
    """Hours during which messages that can wait are held back.

    Args:
        begins: local time of day.
        ends: local time of day; if before ``begins``, on the next day.
        zone: IANA name, used for a party whose own zone is unknown.
    """

    begins: dt.time
    ends: dt.time
    zone: str


def quiet_until(quiet: QuietPeriod, zone: str | None, now: dt.datetime) -> dt.datetime | None:
    """When the quiet hours around ``now`` end; None outside quiet hours.

    Args:
        zone: the party's, if known. The policy's zone is used if it is missing or unknown.
    """
    for name in (zone, quiet.zone):
        try:
            local_zone = ZoneInfo(name) if name else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
        if local_zone is not None:
            break
    else:
        return None
    local = now.astimezone(local_zone)
    time = local.time()
    if quiet.begins == quiet.ends:
        return None
    if quiet.begins < quiet.ends:
        if not quiet.begins <= time < quiet.ends:
            return None
        day = local.date()
    elif time >= quiet.begins:
        day = local.date() + dt.timedelta(days=1)
    elif time < quiet.ends:
        day = local.date()
    else:
        return None
    # when the clock is put back, this hour occurs twice: quiet hours end at the second one
    return dt.datetime.combine(day, quiet.ends, local_zone).replace(fold=1).astimezone(dt.UTC)
