"""A message's text and its e-mail. Pure: the same input gives the same bytes, and so the same digest."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MethodType
from typing import Any, Final

from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.notification import strings
from services.notification.domain import (
    ACCOUNT,
    WINDOW_KINDS,
    Facts,
    counter_elements,
    cure,
    deadline,
    returns,
    stands,
)
from services.notification.layout import BLOCKS, Html, Layout, Text, parts
from services.notification.mime import address as mail_address
from services.notification.mime import compose
from services.notification.strings import FOLDER
from services.notification.wording import ELEMENTS, NAMES, RIGHTS
from shared import policy, right_refusals
from shared.events import AccountNotice, State
from shared.languages import LANGUAGES, SOURCE, translate
from shared.marketplace import listing_url

VERSIONS: Final = {
    "claim_receipt": 1,
    "info_request": 1,
    "seller_notice": 2,
    "counter_forwarded": 2,
    "counter_received": 1,
    "counter_defect": 1,
    "complaint_received": 1,
    "complaint_reversed": 1,
    "outcome": 1,
    "digest": 1,
}
"""Template in use by kind. A template that has been used is never edited; it gets a successor (CONTRIBUTING.md)."""
NOTICES: Final = {
    "account.notice": 1,
    "account.email_code": 1,
    "account.unconfirmed": 1,
    "account.right_expiring": 1,
    "account.good_faith_upgraded": 1,
    "account.good_faith_warned": 1,
    "account.good_faith_demoted": 1,
    "account.misuse_warned": 1,
    "account.misuse_limited": 1,
    "account.misuse_suspended": 1,
    "account.sanction_warning": 1,
    "account.sanction_prior_warning": 1,
    "account.sanction_imposed": 1,
    "account.sanction_lifted": 1,
    "account.sanction_ended": 1,
}
"""The same for notices to accounts. A kind without one uses ``account.notice``, which states kind and figures."""
SAYS: Final = {
    "account_verified": "Your identity is verified: claims may name up to 300 listings now, and are handled by rule.",
    "account_suspended": "Your account is suspended. You may read and act on what is open, but file nothing new.",
    "account_resumed": "Your account is no longer suspended.",
    "account_closed": "Your account is closed. What is open goes its way.",
    "authorisation_asked": "An account asks to file claims for you. Confirm it or decline; without your word a reviewer may accept its power of attorney.",
    "authorisation_by_power": "A reviewer has accepted a power of attorney by which an account files claims for you. If you did not give it, end the authorisation.",
    "authorisation_declined": "An authorisation that was asked for has come to nothing: it was declined or withdrawn.",
    "authorisation_given": "A right holder has authorised you to file claims for it.",
    "authorisation_ended": "An authorisation has ended. Open claims that it alone covered are on hold.",
    "authorisation_expired": "An authorisation of yours has expired. Open claims that it covered are on hold until there is a new one.",
    "authorisation_offered": "A right holder asks you to file claims for it. You may do so once you consent.",
    "authorisation_refused": "Your power of attorney was refused. Write to us if you hold that this is wrong.",
    "good_faith_admitted": "Your account takes part in the good-faith takedown mechanism now, by a reviewer's decision.",
    "good_faith_bar_ended": "Your account may join the good-faith takedown mechanism again.",
    "good_faith_declared": "Your declaration on joining the good-faith takedown mechanism is on file.",
    "good_faith_joined": "Your account takes part in the good-faith takedown mechanism now, by your declaration.",
    "good_faith_left": "Your account has left the good-faith takedown mechanism, as you asked. It may join again on the day named below.",
    "good_faith_removed": "Your account takes part in the good-faith takedown mechanism no longer.",
    "good_faith_warning_lifted": "Your record is good enough for the good-faith takedown mechanism again: the warning is lifted.",
    "misuse_found": "A reviewer has made a finding about what you filed; what it rests on is named below. It counts with your notices' record, and you may complain of any measure that stands on it.",
    "misuse_over": "The time of the measure named below is over.",
    "misuse_lifted": "Your record is good again: the measure named below is lifted.",
    "misuse_reversed": "The measure named below was reversed on your complaint. It counts as never taken.",
    "misuse_fallen": "The measure named below stood on another that was reversed, and falls with it. It counts as never taken.",
    "misuse_confirmed": "Your complaint was looked at by a person: the measure named below stands.",
    "right_accepted": "The right that you registered was accepted: you may file claims under it.",
    "right_assigned": "The right was assigned to another account. Your open claims under it are on hold and will end.",
    "right_expired": "The right has expired. Open claims under it are on hold until it is renewed.",
    "right_lost": "The right is registered here for another account now. Your open claims under it are on hold.",
    "right_offer_ended": "The assignment of the right has come to nothing: it was declined or withdrawn.",
    "right_offered": "A right is to be assigned to your account. It is yours once you consent.",
    "right_received": "A right was assigned to your account: you may file claims under it.",
    "right_refused": "The right that you registered was refused. Write to us if you hold that this is wrong.",
    "right_registered_elsewhere": "Another account has registered the same right. A reviewer looks at your proof; until then no claim under it goes on.",
}
"""What a notice means, by kind, for kinds about which ``account.notice`` can say more than their name."""
SAYS_BY_CODE: Final = {"right_refused": right_refusals.TEXTS, "authorisation_refused": right_refusals.POWERS}
"""The same by kind and code, for kinds whose code says more."""
UNCONFIRMED: Final = ACCOUNT + "unconfirmed"
"""Template of every mail to an unconfirmed address. It contains nothing that a party wrote."""
MASK: Final = "..."
"""Replaces a code in the text from which a message's digest is computed."""
FIGURES: Final = 20
"""Most figures of a notice in a message."""
LISTED: Final = 100
"""Most listings named in a message; it says how many more there are and where to find them."""
LISTED_IN_NOTICES: Final = 1000
"""The same for a message that begins a window: it names all that the party must answer, a few hundred at most."""

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
    State.APPEALED: "complained of; a person decides again",
}

UPHELD_UNREACHED: Final = {State.UPHELD_BY_DEFAULT: "upheld by a person; the seller could not be reached so far"}
"""Instead of ``STATES`` (row 9)."""

_GAPS: Final = re.compile(r"\n{3,}")
_ADDRESS_MOST: Final = 4000
_REFUSED: Final = frozenset({State.REJECTED, State.DUPLICATE, State.LINK_INVALID, State.LAPSED})
_PEOPLE: Final = frozenset({"reviewer", "operator"})


def line(text: object, limit: int = 200) -> str:
    """``text`` as one safe line: no control, format (including bidirectional) or line separator characters."""
    if not isinstance(text, str):
        return ""
    if text.isascii() and text.isprintable():
        return text.strip()[:limit]
    # do not process what is cut off anyway
    text = text.lstrip()[: 8 * limit]
    kept = (" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)
    return " ".join("".join(char for char in kept if unicodedata.category(char) not in ("Cf", "Cs")).split())[:limit]


@dataclass(frozen=True, slots=True)
class Contact:
    """A party's contact data, cleaned. ``email`` is empty if the address on file is not valid."""

    name: str = ""
    lines: tuple[str, ...] = ()
    email: str = ""
    language: str = SOURCE
    confirmed: bool = False
    """The account has confirmed the address."""

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None) -> Contact | None:
        """The contact from intake's answer; None for an unknown party."""
        if raw is None:
            return None
        address = raw.get("address")
        parts = address[:_ADDRESS_MOST].splitlines() if isinstance(address, str) else []
        language = raw.get("language")
        return cls(
            line(raw.get("name")),
            tuple(filter(None, map(line, parts[:8]))),
            mail_address(raw.get("email")),
            language if language in LANGUAGES else SOURCE,
            raw.get("confirmed") is True,
        )


@dataclass(frozen=True, slots=True)
class MessageItem:
    """An item in a message."""

    id: str
    facts: Facts
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's text and how it was made."""

    subject: str
    body: str
    template: str
    version: int
    locale: str = SOURCE
    html: str = ""
    edition: str = ""
    """Hash of template and translations, to detect later changes to them."""
    at: dt.datetime | None = None
    """The time as of which it was rendered."""


def words(code: str) -> str:
    """One of our codes in readable form."""
    return code.replace("_", " ")


def moment(at: dt.datetime) -> str:
    """A time in readable form, rounded down to the minute (UTC)."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


# ---------------------------------------------------------------------------------------------------------- templates


@cache
def _html(locale: str) -> Html:
    return Html(locale)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox with shortcuts for what templates do most: read a value of the model, call the layout."""

    def __init__(self, ui: Layout, **options: Any) -> None:
        super().__init__(**options)
        self._ui = ui
        self.globals |= {"ui": ui, "_": ui.say}

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        if obj is self._ui and attribute in BLOCKS:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if type(__obj) is MethodType and __obj.__self__ is __self._ui and __obj.__name__ in BLOCKS:
            return __obj(*args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)


@cache
def _environment(locale: str, html: bool) -> ImmutableSandboxedEnvironment:
    return _Environment(
        _html(locale) if html else Text(locale),
        loader=FileSystemLoader(FOLDER),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )


@cache
def _template(kind: str, version: int, locale: str, html: bool) -> Template:
    return _environment(locale, html).get_template(f"{kind}.v{version}.jinja")


@cache
def edition(kind: str, version: int, locale: str) -> str:
    """Hash of everything in a message but its facts: templates and the translations of their texts."""
    made = hashlib.sha256()
    for source, said in strings.sources(kind, version):
        made.update(source.encode())
        for context, text in said:
            made.update("\0".join(parts(locale, text, context)).encode())
    return made.hexdigest()[:16]


def _rendered(
    kind: str, version: int, locale: str, at: dt.datetime, model: Mapping[str, Any], pages: bool = True
) -> Rendered:
    text = _template(kind, version, locale, False).render(m=model).lstrip("\n")
    subject, _, body = text.partition("\n")
    subject = " ".join(subject.split())[:400]
    html = ""
    if pages:
        page = _template(kind, version, locale, True).render(m=model)
        html = _html(locale).page(subject, _GAPS.sub("\n\n", page.strip("\n") + "\n"))
    return Rendered(
        subject,
        _GAPS.sub("\n\n", body.strip("\n") + "\n"),
        kind,
        version,
        locale,
        html,
        edition(kind, version, locale),
        at,
    )


def _rules(version: str) -> policy.Policy | None:
    try:
        return policy.load(version)
    except policy.PolicyError:
        return None


def _says(locale: str, texts: Mapping[Any, str], code: str) -> str:
    """The name of a code; a code without a name is shown as it is."""
    known = texts.get(code)
    return words(code) if known is None else "".join(parts(locale, known))


def _becomes(locale: str, facts: Facts) -> str:
    """What became of an item."""
    return _says(locale, UPHELD_UNREACHED if facts.unreached else STATES, facts.state)


def _law(rules: policy.Policy | None, kind: str, right_type: str, locale: str) -> dict[str, Any]:
    """What the policy requires in addition to the facts."""
    if rules is None:
        return {"texts": (), "law": None, "law_means": None, "territory": (), "appeal_days": None}
    wanted = rules.statements
    stated = wanted is not None and wanted.enabled
    ground = wanted.grounds.get(right_type) if wanted is not None and stated else None  # type: ignore[call-overload]
    return {
        "texts": tuple(translate(text, locale) for text in rules.texts.get(kind, ())),
        "law": None if ground is None else translate(ground.legal_ground, locale),
        "law_means": None if ground is None else translate(ground.explanation, locale),
        "territory": wanted.territorial_scope if wanted is not None and stated else (),
        "appeal_days": rules.appeals.within.exact.days,
    }


def _item(item: MessageItem, site: str, locale: str) -> dict[str, Any]:
    facts = item.facts
    cured = cure(facts)
    return {
        "id": item.id,
        "link": listing_url(site, facts.listing),
        "becomes": _becomes(locale, facts),
        "code": facts.code and words(facts.code),
        "cure_said": cured and translate(cured, locale),
        "lacks": [_says(locale, ELEMENTS, code) for code in facts.missing],
        "original": facts.original,
        "recurs": facts.recurs,
        "due": None if facts.due is None else moment(facts.due),
    }


def render(
    *,
    id: str,
    claim: str,
    party: str,
    kind: str,
    items: Sequence[MessageItem],
    claim_size: int,
    contacts: Mapping[str, Contact | None],
    right_number: str | None,
    site: str,
    now: dt.datetime,
    locale: str | None = None,
    version: int | None = None,
    pages: bool = True,
) -> Rendered:
    """The text of a message as of ``now`` (business time).

    Args:
        contacts: by account id; a message discloses only those intended for its kind.
        site: base of the listings' public links.
        locale: one of our languages; None: the party's.
        version: of the template; None: the one in use.
        pages: also render HTML.

    Raises:
        jinja2.TemplateError: a template is wrong or missing.
    """
    first = items[0].facts
    ends = deadline(kind, [item.facts for item in items], now)
    version = version or VERSIONS[kind]
    to = contacts.get(party)
    locale = locale or (SOURCE if to is None else to.language)
    most = LISTED_IN_NOTICES if kind in WINDOW_KINDS else LISTED
    listed = [_item(item, site, locale) for item in items[:most]]
    rules = _rules(first.policy)
    reason = None if rules is None else rules.reasons.get(first.reason)
    counted = Counter(_becomes(locale, item.facts) for item in items)
    model = {
        "id": id,
        "kind": kind,
        "claim": claim,
        "counts": [(state, f"{number}") for state, number in counted.most_common()],
        "now": moment(now),
        "party": to,
        "to_seller": party == first.seller and party != first.complainant,
        "complainant": contacts.get(first.complainant),
        "principal": contacts.get(first.principal),
        "seller": contacts.get(first.seller) if first.seller else None,
        "agent_files": first.complainant != first.principal,
        "right": first.right,
        "right_label": _says(locale, RIGHTS, first.right_type),
        "right_number": line(right_number) or None,
        "reason_title": translate(reason.title, locale) if reason and reason.title else words(first.reason),
        "reason_means": translate(reason.explanation, locale) if reason and reason.explanation else None,
        "recurs": first.recurs,
        "automated": None
        if first.by is None
        else True
        if first.by == "system"
        else False
        if first.by in _PEOPLE
        else None,
        "at_once": rules is not None and rules.rules.removal == "on_notice",
        "refused": any(item.facts.state in _REFUSED for item in items),
        "claim_size": claim_size,
        "stands": stands(first),
        "returns": returns(first),
        "deadline": None if ends is None else moment(ends),
        "counter_needs": [_says(locale, ELEMENTS, code) for code in counter_elements(first)],
        "number": len(items),
        "listed": listed,
        "unlisted": len(items) - len(listed),
        **_law(rules, kind, first.right_type, locale),
    }
    return _rendered(kind, version, locale, now, model, pages)


def render_notice(
    *,
    id: str,
    notice: AccountNotice,
    party: Contact | None,
    secret: str | None,
    now: dt.datetime,
    locale: str | None = None,
    template: tuple[str, int] | None = None,
    pages: bool = True,
) -> Rendered:
    """The text of a message to an account about itself.

    Args:
        secret: the code that intake issued for this sending.
        locale: one of our languages; None: the party's.
        template: kind and version; None: the one in use.
        pages: also render HTML.

    Raises:
        jinja2.TemplateError: a template is wrong or missing.
    """
    kind, version = template or _in_use(notice.kind)
    locale = locale or (SOURCE if party is None else party.language)
    figures = {line(name): _figure(value) for name, value in sorted(notice.figures.items())[:FIGURES]}
    says = SAYS_BY_CODE.get(notice.kind, {}).get(str(notice.figures.get("code"))) or SAYS.get(notice.kind)
    model = {
        "id": id,
        "claim": notice.about or notice.notice,
        "now": moment(now),
        "party": party,
        "account": notice.account,
        "kind_here": "".join(parts(locale, words(notice.kind))),
        "about": notice.about,
        "says_here": says and "".join(parts(locale, says)),
        "at": moment(notice.at),
        "figures_here": [(_says(locale, NAMES, name), value) for name, value in figures.items()],
        "of": figures,
        "secret": secret,
    }
    return _rendered(kind, version, locale, now, model, pages)


def render_unconfirmed(
    *,
    id: str,
    account: str,
    ends: dt.datetime | None,
    now: dt.datetime,
    locale: str,
    version: int | None = None,
) -> Rendered:
    """What an unconfirmed address is mailed instead of the message.

    Anyone who opens an account can give somebody else's address, so this contains only our own ids and dates.

    Args:
        ends: until when the party may act.
    """
    figures: dict[str, int | float | str] = {} if ends is None else {"deadline": ends.isoformat()}
    notice = AccountNotice(notice=id, account=account, kind="unconfirmed", figures=figures, at=now)
    template = UNCONFIRMED, version or NOTICES[UNCONFIRMED]
    return render_notice(id=id, notice=notice, party=None, secret=None, now=now, locale=locale, template=template)


def _in_use(kind: str) -> tuple[str, int]:
    """Template in use for a notice."""
    name = ACCOUNT + kind
    if name not in NOTICES:
        name = ACCOUNT + "notice"
    return name, NOTICES[name]


def _figure(value: int | float | str) -> str:
    """A figure in readable form: a time to the minute, a fraction with two decimals."""
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
    """The e-mail, ready to be signed and sent. ``Message-ID`` is the message's id, so a repeat can be recognised.

    Raises:
        ValueError: an address is not valid.
    """
    return compose(
        id=id,
        sender=sender,
        to=to.email,
        name="" if _nameless(rendered) else to.name,
        subject=rendered.subject,
        at=at,
        text=rendered.body,
        html=rendered.html or None,
        language=rendered.locale,
    )


def _nameless(rendered: Rendered) -> bool:
    """Whether to leave out the name, in header and text: the address may be a stranger's and the name unverified."""
    return rendered.template in (UNCONFIRMED, "account.email_code")


def digest(raw: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(raw).hexdigest()
