"""The gate: how often an address may ask, try tokens and open accounts, and how often an account may ask.

State is this process's alone: with several API processes behind one name, a caller gets as much from each. An IPv6 client counts by its
/64, which is what one line gets. The address is the socket's; behind a proxy it is what the proxy says (``http_proxies``).
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import Final

from services.intake.kernel.domain import Refused
from shared.languages import mark
from shared.rates import Rates
from shared.settings import Settings

BURST_S: Final = 10.0
"""Seconds of an allowance that may be used at once."""
ALL: Final = "all"


class Gate:
    """Counts per address and account. Used from one event loop.

    Args:
        now: seconds, never going back.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._addresses = Rates(settings.http_address_rate, settings.http_address_rate * BURST_S)
        self._accounts = Rates(settings.http_account_rate, settings.http_account_rate * BURST_S)
        self._tries = Rates(settings.http_failures_a_minute / 60, settings.http_failures_a_minute)
        self._openings = Rates(settings.http_openings_an_hour / 3600, settings.http_openings_an_hour)
        self._all_openings = Rates(settings.http_all_openings_an_hour / 3600, settings.http_all_openings_an_hour)

    def arrives(self, address: str) -> None:
        """A request comes from this address.

        Raises:
            Refused: 429, too many.
        """
        _or_later(
            self._addresses.take(line_of(address), self._now()),
            "rate_limited",
            mark("Too many requests come from your address."),
        )

    def asks(self, account: str) -> None:
        """An account asks.

        Raises:
            Refused: 429, too often.
        """
        _or_later(
            self._accounts.take(account, self._now()), "rate_limited", mark("Your account sends too many requests.")
        )

    def tries(self, address: str) -> None:
        """A token that this process has not seen comes from this address; ``was_right`` gives the try back.

        Raises:
            Refused: 429, too many were wrong.
        """
        _or_later(
            self._tries.take(line_of(address), self._now()),
            "locked_out",
            mark("Too many wrong tokens came from your address."),
        )

    def was_right(self, address: str) -> None:
        """The token was one of ours."""
        self._tries.give_back(line_of(address))

    def opens(self, address: str) -> None:
        """Somebody without an account opens one.

        Raises:
            Refused: 429, too many were opened from there, or by anybody.
        """
        now = self._now()
        said = mark("Too many accounts were opened of late.")
        _or_later(self._openings.take(line_of(address), now), "too_many_accounts", said)
        _or_later(self._all_openings.take(ALL, now), "too_many_accounts", said)


def line_of(address: str) -> str:
    """What an address is counted as: itself, or the /64 of IPv6."""
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
            429, reason, detail, cure=mark("Send the request again after the seconds in Retry-After."), retry_after=math.ceil(wait)
        )  # fmt: skip
