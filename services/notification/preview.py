"""Previews of messages, rendered from made-up facts. Pure.

``python -m services.notification.preview`` prints the hashes that protect templates from changes (``frozen``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
from dataclasses import replace
from typing import Any, Final

from services.notification.domain import ACCOUNT, Facts
from services.notification.render import (
    NOTICES,
    SAYS,
    VERSIONS,
    Contact,
    MessageItem,
    Rendered,
    render,
    render_notice,
)
from shared import policy
from shared.events import AccountNotice, State
from shared.languages import LANGUAGES, SOURCE

NOW: Final = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
SITE: Final = "https://market.example"
HOLDER, SELLER, AGENT = "a-holder", "a-seller", "a-agent"
CONTACTS: Final = {
    HOLDER: Contact("Owl & Moon Ltd", ("3 Owner Road", "Oslo"), "legal@owl.example"),
    SELLER: Contact("Sam Seller", ("2 Shop Lane", "75001 Paris"), "sam@shop.example"),
    AGENT: Contact("Ann Agent", ("1 Right Street", "10115 Berlin"), "ann@agent.example"),
}
CODE: Final = "ABCD-EFGH-JKMN"
FIGURES: Final[dict[str, int | float | str]] = {
    "minutes": 60,
    "expires_at": "2026-12-24T12:00:00Z",
    "window_from": "2026-08-25",
    "window_to": "2026-11-24",
    "settled": 31,
    "upheld": 27,
    "taken_down": 28,
    "restored": 1,
    "takedown_rate": "90 %",
    "counter_rate": "5 %",
    "misses": "overall takedown 27/31",
    "demote_on": "2026-12-08",
    "barred_until": "2027-02-24",
}
"""Figures of all kinds of notices."""
_STATES: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "claim_receipt": (
        {"state": State.NOTIFIED, "by": "system"},
        {"state": State.REJECTED, "by": "system", "code": "unknown_reason"},
        {"state": State.DUPLICATE, "by": "system", "original": "i-older.1"},
        {"state": State.NEEDS_INFO, "by": "system", "missing": ("ownership",)},
    ),
    "info_request": ({"state": State.NEEDS_INFO, "missing": ("identity", "ownership")},),
    "seller_notice": ({"state": State.NOTIFIED, "by": "system"},),
    "counter_forwarded": ({"state": State.HOLDER_RESPONSE, "by": "seller"},),
    "counter_received": ({"state": State.HOLDER_RESPONSE, "by": "seller"},),
    "counter_defect": ({"state": State.NOTIFIED, "missing": ("statement",)},),
    "complaint_received": ({"state": State.APPEALED},),
    "complaint_reversed": ({"state": State.UNDER_REVIEW},),
    "outcome": (
        {"state": State.UPHELD_AFTER_COUNTER, "by": "reviewer"},
        {"state": State.RESTORED, "by": "reviewer"},
        {"state": State.REJECTED, "by": "reviewer", "code": "not_infringing"},
    ),
}
_STATES["digest"] = (*_STATES["claim_receipt"], *_STATES["outcome"])
_TO_SELLER: Final = frozenset({"seller_notice", "counter_received", "counter_defect"})


def kinds() -> list[str]:
    """Kinds of messages that can be previewed."""
    return [*VERSIONS, *NOTICES, *sorted(ACCOUNT + kind for kind in SAYS if ACCOUNT + kind not in NOTICES)]


def preview(
    kind: str,
    *,
    locale: str = SOURCE,
    profile: str = "ipp",
    items: int = 4,
    to_seller: bool = False,
    abroad: bool = False,
    version: int | None = None,
    now: dt.datetime = NOW,
) -> Rendered:
    """A message of that kind as of ``now``.

    Args:
        to_seller: the seller's version of a kind that both sides receive.
        abroad: the holder is abroad.

    Raises:
        KeyError: no such kind.
        shared.policy.PolicyError: no such profile.
    """
    contacts = {account: replace(contact, language=locale) for account, contact in CONTACTS.items()}
    if kind.startswith(ACCOUNT):
        said = kind.removeprefix(ACCOUNT)
        if kind not in kinds():
            raise KeyError(kind)
        notice = AccountNotice(notice="n-1", account=SELLER, kind=said, about="r-9", figures=FIGURES, at=now)
        return render_notice(
            id="m-preview",
            notice=notice,
            party=contacts[SELLER],
            secret=CODE,
            now=now,
            template=None if version is None else (kind, version),
        )
    rules = policy.current(profile)
    code, reason = next(iter(rules.reasons.items()))
    shapes = _STATES[kind]
    told = []
    for number in range(max(1, items)):
        facts = Facts(
            listing=f"listing-{number + 1}",
            seller=SELLER,
            complainant=AGENT,
            principal=HOLDER,
            right="r-9",
            right_type=reason.rights[0],
            reason=code,
            policy=rules.version,
            abroad=abroad,
            **shapes[number % len(shapes)],
        )
        told.append(MessageItem(f"i-preview.{number + 1}", facts))
    return render(
        id="m-preview",
        claim="c-preview",
        party=SELLER if kind in _TO_SELLER or to_seller else AGENT,
        kind=kind,
        items=told,
        claim_size=len(told),
        contacts=contacts,
        right_number="1234567",
        site=SITE,
        now=now,
        version=version,
    )


def frozen() -> dict[str, str]:
    """Template and language -> hash of its output for fixed facts. A template that was used never changes."""
    found = {}
    versions = [(kind, n) for kind, newest in {**VERSIONS, **NOTICES}.items() for n in range(1, newest + 1)]
    for kind, version in versions:
        for locale in LANGUAGES:
            made = preview(kind, locale=locale, version=version)
            text = "\0".join((made.subject, made.body, made.html))
            found[f"{kind}.v{version} {locale}"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(frozen(), indent=1, sort_keys=True) + "\n")
