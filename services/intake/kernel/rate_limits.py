"""Rate limits: how often an address may send requests, try tokens and open accounts, and an account send requests.

The counts are this process's own: with several API processes behind one name, a caller gets the allowance from each.
An IPv6 client counts by its /64, which is what one line gets. The address is the socket's, or behind a proxy the one
that the proxy reports (``http_proxies``).
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import Final

from shared.languages import mark
from shared.rates import Rates
from shared.refusals import Refused
from shared.settings import Settings

BURST_S: Final = 10.0
"""Seconds' worth of an allowance that may be used at once."""
ALL: Final = "all"


class RateLimits:
    """Counts per address and account. Used from one event loop.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._addresses = Rates(settings.http_address_rate, settings.http_address_rate * BURST_S)
        self._accounts = Rates(settings.http_account_rate, settings.http_account_rate * BURST_S)
        self._tries = Rates(settings.http_failures_a_minute / 60, settings.http_failures_a_minute)
        self._openings = Rates(settings.http_openings_an_hour / 3600, settings.http_openings_an_hour)
        self._all_openings = Rates(settings.http_all_openings_an_hour / 3600, settings.http_all_openings_an_hour)

    def arrives(self, address: str) -> None:
        """Count a request from this address.

        Raises:
            Refused: 429, too many.
        """
        _or_later(
            self._addresses.take(line_of(address), self._now()),
            "rate_limited",
            mark("Too many requests come from your address."),
        )

    def asks(self, account: str) -> None:
        """Count a request of this account.

        Raises:
            Refused: 429, too many.
        """
        _or_later(
            self._accounts.take(account, self._now()), "rate_limited", mark("Your account sends too many requests.")
        )

    def tries(self, address: str) -> None:
        """Count a token from this address that this process has not seen; ``was_right`` gives the try back.

        Raises:
            Refused: 429, too many were wrong.
        """
        _or_later(
            self._tries.take(line_of(address), self._now()),
            "locked_out",
            mark("Too many wrong tokens came from your address."),
        )

    def was_right(self, address: str) -> None:
        """Give the try back: the token was valid."""
        self._tries.give_back(line_of(address))

    def opens(self, address: str) -> None:
        """Count an account opened from this address by somebody who has none.

        Raises:
            Refused: 429, too many were opened from there, or in all.
        """
        now = self._now()
        said = mark("Too many accounts were opened recently.")
        _or_later(self._openings.take(line_of(address), now), "too_many_accounts", said)
        _or_later(self._all_openings.take(ALL, now), "too_many_accounts", said)


def line_of(address: str) -> str:
    """What an address is counted as: itself, or its /64 for IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _or_later(wait: float, reason: str, detail: str) -> None:
    if wait:
        raise Refused(
            429,
            reason,
            detail,
            cure=mark("Send the request again after the seconds in Retry-After."),
            retry_after=math.ceil(wait),
        )
