"""All checks of `goodfaith verify`, and the loop that runs them: what must hold between the services' data at rest."""

from __future__ import annotations

import time
from typing import Final

from services.ops.verify import (
    account_checks,
    enforcement_checks,
    entity_checks,
    filing_checks,
    item_checks,
    log_checks,
    message_checks,
    sanction_checks,
)
from services.ops.verify.evidence import Check, Evidence
from services.ops.verify.findings import Finding, merged

CHECKS: Final[dict[str, Check]] = {
    **filing_checks.CHECKS,
    **log_checks.CHECKS,
    **item_checks.CHECKS,
    **account_checks.CHECKS,
    **enforcement_checks.CHECKS,
    **entity_checks.CHECKS,
    **sanction_checks.CHECKS,
    **message_checks.CHECKS,
}
_NEEDS: Final = {**dict.fromkeys(message_checks.CHECKS, "notification"), "visibility": "marketplace"}
"""Checks that are left out where a service is not part of the installation."""


def run(e: Evidence, seconds: dict[str, float] | None = None) -> list[Finding]:
    """Run all checks on gathered evidence.

    Args:
        seconds: receives how long each check took.
    """
    found: list[Finding] = []
    for name, check in CHECKS.items():
        begun = time.monotonic()
        if name not in _NEEDS or e.has(_NEEDS[name]):
            found += check(e) if callable(check) else e.find(check)
        if seconds is not None:
            seconds[name] = time.monotonic() - begun
    return merged(found)
