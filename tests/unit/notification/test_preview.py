"""Every message can be looked at, in every language; templates in use are what they were; what was sent can be made again."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from services.notification import payload
from services.notification.layout import Html, Text, catalogue
from services.notification.preview import AGENT, CONTACTS, HOLDER, NOW, SELLER, SITE, frozen, kinds, preview
from services.notification.render import (
    NOTICES,
    VERSIONS,
    Contact,
    MessageItem,
    Rendered,
    digest,
    mail,
    render,
    render_notice,
)
from services.notification.reproduce import SentMessage, again, differences
from services.notification.strings import FOLDER, in_layout, in_template, templates
from services.notification.types import Item, Message
from shared.events import AccountNotice
from shared.languages import LANGUAGES
from tests.unit.notification.making import facts

FROZEN = Path(__file__).with_name("frozen.json")
SENDER = "ip@market.example"


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("kind", kinds())
def test_every_kind_can_be_looked_at(kind: str, locale: str) -> None:
    shown = preview(kind, locale=locale)
    assert shown.subject
    assert shown.locale == locale
    assert f'<html lang="{locale}" dir="ltr">' in shown.html
    assert "None" not in shown.body
    assert "{" not in shown.body + shown.subject
    if locale != "en":
        assert shown.body.split("\n")[0] != preview(kind).body.split("\n")[0]


def test_templates_in_use_are_what_they_were() -> None:
    """A template that messages were sent by is never edited, nor are its translations: make a successor (CONTRIBUTING.md).

    One that no message was sent by yet may be: python -m services.notification.preview > tests/unit/notification/frozen.json
    """
    was, now = json.loads(FROZEN.read_text()), frozen()
    changed = sorted(name for name in was.keys() & now.keys() if was[name] != now[name])
    new = sorted(now.keys() - was.keys())
    assert not changed, test_templates_in_use_are_what_they_were.__doc__
    assert not new, "python -m services.notification.preview > tests/unit/notification/frozen.json"


def test_every_template_is_used_and_says_its_words_by_the_catalogue() -> None:
    # also those before: what was sent by them must come out again
    newest = {**VERSIONS, **NOTICES}
    used = {f"{kind}.v{version}.jinja" for kind in newest for version in range(1, newest[kind] + 1)}
    for name in templates():
        source = (FOLDER / name).read_text()
        assert name in used or any(f'"{name}"' in (FOLDER / other).read_text() for other in used), (
            f"{name} is used nowhere"
        )
        assert in_template(name), name
        assert not re.search(r"<[a-z/!]", source), f"{name}: markup is the layout's"
    for said in in_layout():
        for locale in LANGUAGES[1:]:
            assert said in catalogue(locale), said


def test_a_language_without_a_word_falls_back_to_english() -> None:
    assert Text("de").say("no such text {place}", place="x") == "no such text x"
    assert Html("zh").say("no such <text> {place}", place="<x>") == "no such &lt;text&gt; &lt;x&gt;"
    assert Contact.of({"name": "x", "language": "fr"}) == Contact("x")


def test_the_partys_language_is_the_messages() -> None:
    contacts = {
        **CONTACTS,
        AGENT: replace(CONTACTS[AGENT], language="de"),
        HOLDER: replace(CONTACTS[HOLDER], language="zh"),
    }
    told = [MessageItem("i-1", facts(complainant=AGENT, principal=HOLDER))]
    made = render(
        id="m-1",
        claim="c-1",
        party=AGENT,
        kind="outcome",
        items=told,
        claim_size=1,
        contacts=contacts,
        right_number=None,
        site=SITE,
        now=NOW,
    )
    assert (made.locale, made.template, made.version) == ("de", "outcome", VERSIONS["outcome"])
    assert made.body.startswith("Guten Tag Ann Agent,")
    assert len(made.edition) == 16


# ---- made again


def sent(kind: str, locale: str, channel: str = "email") -> tuple[SentMessage, dict[str, Contact | None]]:
    contacts: dict[str, Contact | None] = {a: replace(c, language=locale) for a, c in CONTACTS.items()}
    told = [
        MessageItem(f"i-{n}", facts(f"l-{n}", complainant=AGENT, principal=HOLDER, seller=SELLER)) for n in range(3)
    ]
    notice, party = None, SELLER if kind == "seller_notice" else AGENT
    if kind.startswith("account."):
        notice = AccountNotice(notice="n-1", account=AGENT, kind=kind.removeprefix("account."), at=NOW)
        shown: Rendered = render_notice(id="m-1", notice=notice, party=contacts[party], secret="...", now=NOW)
    else:
        shown = render(
            id="m-1",
            claim="c-1",
            party=party,
            kind=kind,
            items=told,
            claim_size=3,
            contacts=contacts,
            right_number="1",
            site=SITE,
            now=NOW,
        )
    to = contacts[party]
    assert to is not None
    raw = mail(shown, id="m-1", sender=SENDER, to=to, at=NOW)
    if channel == "webhook":
        message = Message(
            "m-1",
            "c-1",
            party,
            kind,
            False,
            0,
            NOW,
            claim_size=3,
            items=[Item(one.id, 1, 0, one.facts) for one in told],
            notice=notice,
        )
        raw, shown = payload.body(message, contacts, "1", site=SITE, now=NOW)
    elif channel != "email":
        raw = f"{shown.subject}\n{shown.body}".encode()
    kept = SentMessage(
        "m-1",
        "c-1",
        party,
        kind,
        channel,
        shown.template,
        shown.version,
        shown.locale,
        shown.edition,
        NOW,
        NOW,
        digest(raw),
        claim_size=3,
        items=() if notice else told,
        notice=notice,
    )
    return kept, contacts


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("channel", ["email", "inbox", "webhook"])
@pytest.mark.parametrize(
    "kind", ["seller_notice", "outcome", "account.right_expiring", "account.email_code", "account.unknown"]
)
def test_what_was_sent_comes_out_again(kind: str, channel: str, locale: str) -> None:
    kept, contacts = sent(kind, locale, channel)
    # the language that the party wants now does not matter
    now = {a: None if c is None else replace(c, language="en") for a, c in contacts.items()}
    _, raw = again(kept, now, "1", site=SITE, sender=SENDER)
    assert digest(raw) == kept.digest
    assert not differences(kept, contacts, dict.fromkeys(contacts, NOW - dt.timedelta(days=1)))


def test_what_does_not_come_out_again_is_explained() -> None:
    kept, contacts = sent("seller_notice", "de")
    later = NOW + dt.timedelta(days=1)
    moved = {**contacts, AGENT: Contact("Ann", ("elsewhere",), "ann@agent.example")}
    _, raw = again(kept, moved, "1", site=SITE, sender=SENDER)
    assert digest(raw) != kept.digest
    assert differences(kept, moved, {AGENT: later}) == [
        f"the contact of {AGENT} was changed on 2026-11-25 12:00 UTC, after the sending"
    ]
    with pytest.raises(ValueError, match="no longer an address"):
        again(kept, {**contacts, SELLER: None}, "1", site=SITE, sender=SENDER)
    (why,) = differences(kept, {**contacts, SELLER: None}, {})
    assert "erased" in why
    (why,) = differences(replace(kept, edition="0" * 16), contacts, {})
    assert "edited since" in why
