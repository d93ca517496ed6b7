"""A message's text, and the e-mail that carries it. Pure: the same input gives the same bytes, and so the same digest."""

from __future__ import annotations

import datetime as dt
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.notification.domain import ACCOUNT, Facts, counter_elements, cure, deadline, returns, stands
from services.notification.mime import address as mail_address
from services.notification.mime import compose
from shared.events import AccountNotice, State
from shared.marketplace import listing_url

LANGUAGE: Final = "en"
VERSIONS: Final = {
    "claim_receipt": 2,
    "info_request": 1,
    "seller_notice": 2,
    "counter_forwarded": 2,
    "counter_received": 1,
    "counter_defect": 1,
    "complaint_received": 1,
    "complaint_reversed": 1,
    "outcome": 1,
}
"""Template in use by kind. A template that messages were sent by is never edited: it gets a successor."""
NOTICES: Final = {
    "account.notice": 1,
    "account.email_code": 1,
    "account.right_expiring": 1,
    "account.good_faith_upgraded": 1,
    "account.good_faith_warned": 1,
    "account.good_faith_demoted": 1,
}
"""The same for notices to accounts; a kind that has none is told by ``account.notice``, which states kind and figures."""
SAYS: Final = {
    "account_verified": "Your identity is verified: claims may name up to 300 listings now, and are handled by rule.",
    "account_suspended": "Your account is suspended. You may read and act on what is open, but file nothing new.",
    "account_resumed": "Your account is no longer suspended.",
    "account_closed": "Your account is closed. What is open goes its way.",
    "authorisation_given": "A right holder has authorised you to file claims for it.",
    "authorisation_ended": "A right holder has ended your authorisation. Open claims that it covered are on hold.",
    "authorisation_expired": "An authorisation of yours has expired. Open claims that it covered are on hold until there is a new one.",
    "good_faith_admitted": "Your account takes part in the good-faith takedown mechanism now, by a reviewer's decision.",
    "good_faith_bar_ended": "Your account may join the good-faith takedown mechanism again.",
    "good_faith_declared": "Your declaration on joining the good-faith takedown mechanism is on file.",
    "good_faith_joined": "Your account takes part in the good-faith takedown mechanism now, by your declaration.",
    "good_faith_left": "Your account has left the good-faith takedown mechanism, as you asked. It may join again on the day named below.",
    "good_faith_removed": "Your account takes part in the good-faith takedown mechanism no longer.",
    "good_faith_warning_lifted": "Your record is good enough for the good-faith takedown mechanism again: the warning is lifted.",
    "misuse_warned": "Many of your notices were manifestly unfounded: the numbers are below. This is a warning. If more such notices are filed, a daily quota follows, and then a suspension of processing. You may complain of the warning in your account.",
    "misuse_limited": "After a warning more of your notices were manifestly unfounded: the numbers are below. Your account has a daily quota of items now. You may complain of it in your account.",
    "misuse_suspended": "The processing of your new claims is suspended: why and until when is below. What you file waits and is processed afterwards; open claims go on. You may complain of it in your account.",
    "misuse_over": "The time of the measure named below is over.",
    "misuse_lifted": "Your record is good again: the measure named below is lifted.",
    "misuse_reversed": "The measure named below was reversed on your complaint. It counts as never taken.",
    "misuse_fallen": "The measure named below stood on another that was reversed, and falls with it. It counts as never taken.",
    "misuse_confirmed": "Your complaint was looked at by a person: the measure named below stands.",
    "right_accepted": "The right that you registered was accepted: you may file claims under it.",
    "right_assigned": "The right was assigned to another account. Your open claims under it are on hold and will end.",
    "right_expired": "The right has expired. Open claims under it are on hold until it is renewed.",
    "right_lost": "The right is registered here for another account now. Your open claims under it are on hold.",
    "right_received": "A right was assigned to your account: you may file claims under it.",
    "right_refused": "The right that you registered was refused. Write to us if you hold that this is wrong.",
    "right_registered_elsewhere": "Another account has registered the same right. A reviewer looks at your proof; until then no claim under it goes on.",
}
"""What a notice means, by kind, where ``account.notice`` can say more than the kind's words."""
MASK: Final = "..."
"""Stands for a code in what the digest of a message is made of."""
FIGURES: Final = 20
"""Figures of a notice that a message states at most."""

STATES: Final = {
    State.RECEIVED: "received",
    State.DUPLICATE: "already claimed for the same right and reason",
    State.LINK_INVALID: "the link is not a listing of this site",
    State.NEEDS_INFO: "information is missing",
    State.LAPSED: "lapsed, because the missing information did not come in time",
    State.UNDER_REVIEW: "under review",
    State.REJECTED: "refused",
    State.NOTIFIED: "taken up; the seller is notified",
    State.UPHELD: "upheld; the seller has accepted",
    State.UPHELD_BY_DEFAULT: "upheld; the seller's time to answer has passed",
    State.COUNTERED: "countered by the seller",
    State.HOLDER_RESPONSE: "countered; the right holder is asked to respond",
    State.PLATFORM_REVIEW: "countered; the platform decides",
    State.UPHELD_AFTER_COUNTER: "upheld after the counter-notification",
    State.RESTORED: "restored; the claim against this listing has ended",
    State.LITIGATION: "before a court or an authority",
    State.WITHDRAWN: "withdrawn; the claim against this listing has ended",
    State.SUSPENDED: "on hold, because of the right behind it",
    State.APPEALED: "complained of; a person decides anew",
}


def line(text: object, limit: int = 200) -> str:
    """``text`` as one harmless line: no control, format (bidirectional too) or line separator characters."""
    if not isinstance(text, str):
        return ""
    if text.isascii() and text.isprintable():
        return text.strip()[:limit]
    kept = (" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)
    return " ".join("".join(char for char in kept if unicodedata.category(char) not in ("Cf", "Cs")).split())[:limit]


@dataclass(frozen=True, slots=True)
class Contact:
    """A party's contact data, cleaned. ``email`` is empty when what is on file is no address."""

    name: str = ""
    lines: tuple[str, ...] = ()
    email: str = ""

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None) -> Contact | None:
        """From intake's answer; None for an unknown party."""
        if raw is None:
            return None
        address = raw.get("address")
        parts = address.splitlines() if isinstance(address, str) else []
        return cls(line(raw.get("name")), tuple(filter(None, map(line, parts[:8]))), mail_address(raw.get("email")))


@dataclass(frozen=True, slots=True)
class Told:
    """An item that a message tells of."""

    id: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's text."""

    subject: str
    body: str
    template: str
    version: int


def words(code: str) -> str:
    """A code of ours for a reader."""
    return code.replace("_", " ")


def moment(at: dt.datetime) -> str:
    """A time for a reader, to the minute below (UTC)."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


@cache
def _template(kind: str, version: int) -> Template:
    return _environment().get_template(f"{LANGUAGE}/{kind}.v{version}.txt.jinja")


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # plain text: there is nothing to escape for
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def render(
    *,
    id: str,
    claim: str,
    party: str,
    kind: str,
    items: Sequence[Told],
    claim_size: int,
    contacts: Mapping[str, Contact | None],
    right_number: str | None,
    site: str,
    now: dt.datetime,
) -> Rendered:
    """The text of a message as of ``now`` (business time).

    Args:
        contacts: by account id; a message discloses only those that its kind is meant to.
        site: base of the listings' public links.

    Raises:
        jinja2.TemplateError: a template is wrong or missing.
    """
    first = items[0].facts
    ends = deadline(kind, [item.facts for item in items], now)
    version = VERSIONS[kind]
    model = {
        "id": id,
        "claim": claim,
        "now": moment(now),
        "party": contacts.get(party),
        "to_seller": party == first.seller and party != first.complainant,
        "complainant": contacts.get(first.complainant),
        "principal": contacts.get(first.principal),
        "seller": contacts.get(first.seller) if first.seller else None,
        "agent_files": first.complainant != first.principal,
        "right": first.right,
        "right_type": words(first.right_type),
        "right_number": line(right_number) or None,
        "reason": words(first.reason),
        "claim_size": claim_size,
        "stands": stands(first),
        "returns": returns(first),
        "deadline": None if ends is None else moment(ends),
        "counter_elements": [words(code) for code in counter_elements(first)],
        "told": [
            {
                "id": item.id,
                "link": listing_url(site, item.facts.listing),
                "state": STATES[item.facts.state],
                "code": item.facts.code and words(item.facts.code),
                "cure": cure(item.facts),
                "missing": [words(code) for code in item.facts.missing],
                "original": item.facts.original,
                "recurs": item.facts.recurs,
                "due": None if item.facts.due is None else moment(item.facts.due),
            }
            for item in items
        ],
    }
    subject, _, body = _template(kind, version).render(m=model).partition("\n")
    return Rendered(line(subject.removeprefix("Subject:")), body, f"{LANGUAGE}.{kind}", version)


def render_notice(
    *, id: str, notice: AccountNotice, party: Contact | None, secret: str | None, now: dt.datetime
) -> Rendered:
    """The text of a message that tells an account of itself.

    Args:
        secret: a code that intake gave for this sending.

    Raises:
        jinja2.TemplateError: a template is wrong or missing.
    """
    kind = ACCOUNT + notice.kind
    if kind not in NOTICES:
        kind = ACCOUNT + "notice"
    figures = {line(name): _figure(value) for name, value in sorted(notice.figures.items())[:FIGURES]}
    model = {
        "id": id,
        "claim": notice.about or notice.notice,
        "now": moment(now),
        "party": party,
        "account": notice.account,
        "kind": words(notice.kind),
        "about": notice.about,
        "says": SAYS.get(notice.kind),
        "at": moment(notice.at),
        "figures": [(words(name), value) for name, value in figures.items()],
        "of": figures,
        "secret": secret,
    }
    version = NOTICES[kind]
    subject, _, body = _template(kind, version).render(m=model).partition("\n")
    return Rendered(line(subject.removeprefix("Subject:")), body, f"{LANGUAGE}.{kind}", version)


def _figure(value: int | float | str) -> str:
    """A figure for a reader: a moment to the minute, a share with two decimals."""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value}"
    try:
        at = dt.datetime.fromisoformat(value) if len(value) <= 40 else None
    except ValueError:
        at = None
    return moment(at) if at is not None and at.tzinfo is not None else line(value)


def mail(rendered: Rendered, *, id: str, sender: str, to: Contact, at: dt.datetime) -> bytes:
    """The e-mail, ready to be signed and sent. ``Message-ID`` is the message's id: a repeat can be recognised.

    Raises:
        ValueError: an address that is none.
    """
    return compose(id=id, sender=sender, to=to.email, name=to.name, subject=rendered.subject, at=at, text=rendered.body)


def digest(raw: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(raw).hexdigest()
