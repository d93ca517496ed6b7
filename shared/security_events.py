"""Security events: what happened to credentials, accounts and limits, as log lines of one form.

``docs/explanation/security.md`` lists them. A line is ``{"event": "security", "kind": ..., ...}``. It names accounts
by id, and networks instead of addresses. It never contains a secret or what a person wrote.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final, Literal, get_args

import structlog

from shared import metrics
from shared.rates import Rates

log = structlog.get_logger(__name__)

Kind = Literal[
    "unauthenticated",
    "forbidden",
    "rate_limited",
    "locked_out",
    "internal_refused",
    "token_made",
    "token_revoked",
    "account_opened",
    "account_status",
    "account_verified",
    "account_erased",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FLOODS: Final = frozenset({"unauthenticated", "forbidden", "rate_limited", "locked_out", "internal_refused"})
"""Kinds that anybody can cause at any rate: a process logs a limited number of each and counts the rest."""
LINES_PER_S: Final = 10.0
LINES_AT_ONCE: Final = 100

EVENTS = metrics.counter(
    "goodfaith_security_events_total",
    "Security events by kind (docs/explanation/security.md), including those that were too many to log.",
    {"kind": KINDS},
    of=("intake-api", "verification-api", "enforcement-api", "notification-api", "streams", "status"),
    do="`locked_out` or `unauthenticated` grows: somebody is trying tokens; `internal_refused` grows: a service has a"
    " credential that another service does not know",
)
_lines = Rates(LINES_PER_S, LINES_AT_ONCE)
_dropped: dict[str, int] = {}


def begin() -> None:
    """Start every kind at 0 in this process."""
    for kind in KINDS:
        EVENTS.labels(kind)


def network_of(address: str) -> str:
    """The network of an address. It is logged and counted instead of the address, which is personal data."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def note(kind: Kind, *, address: str | None = None, **facts: str | int | bool | None) -> None:
    """Log and count a security event.

    Args:
        address: where the request came from; only its network is logged.
        facts: ids, codes and numbers; None is left out.
    """
    EVENTS.labels(kind).inc()
    if kind in FLOODS and _lines.take(kind, time.monotonic()):
        _dropped[kind] = _dropped.get(kind, 0) + 1
        return
    told: dict[str, Any] = {name: value for name, value in facts.items() if value is not None}
    if address is not None:
        told["network"] = network_of(address)
    if dropped := _dropped.pop(kind, 0):
        told["dropped"] = dropped
    log.warning("security", kind=kind, **told)
