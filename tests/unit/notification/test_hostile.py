"""Whatever others say in names, addresses, numbers and figures: it stays words, in text and in HTML."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import escape

from services.notification.layout import WIDTH, columns, fill, isolated
from services.notification.preview import AGENT, CONTACTS, HOLDER, NOW, SELLER, SITE
from services.notification.render import (
    LISTED,
    NOTICES,
    VERSIONS,
    Contact,
    MessageItem,
    Rendered,
    line,
    render,
    render_notice,
)
from shared.events import AccountNotice
from shared.languages import LANGUAGES
from tests.costs import cost
from tests.unit.notification.making import facts

FSI, PDI = "\u2068", "\u2069"
ALLOWED = {
    "html": {"lang", "dir"},
    "head": set(),
    "meta": {"charset"},
    "title": set(),
    "body": {"style"},
    "p": {"style"},
    "h2": {"style"},
    "table": set(),
    "tr": set(),
    "th": {"scope", "style"},
    "td": {"style"},
    "ul": set(),
    "ol": set(),
    "li": set(),
    "a": {"href"},
    "br": set(),
    "hr": set(),
    "small": set(),
    "bdi": set(),
}
"""All that the layout writes: no script, nothing that is loaded from elsewhere."""
NASTY = st.one_of(
    st.text(max_size=300),
    st.text("<>&\"'{}%/=ab \u202e\u2066\u05d0\u0627\u0661\x00\r\n\u2028漢", max_size=120),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "{{ 7 * 7 }}{% raw %}",
            "{name}",
            "%(name)s",
            "</p></body>",
            "\u202eevil",
            "a\u2067b",
            "שלום עולם",
            "x" * 5000,
            "&lt;b&gt;",
            "<!--",
            "]]>",
            "\ud800",
            "{{ m.secret }}",
            "--=_m-1",
        ]
    ),
)


class Page(HTMLParser):
    """Elements with their attributes, and the words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "bdi":
            self.elements.append((tag, tuple(attrs)))
        assert tag in ALLOWED
        assert {name for name, _ in attrs} <= ALLOWED[tag]

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


def made(kind: str, contact: Contact, number: str | None, locale: str) -> Rendered:
    told = [MessageItem("i-1", facts(complainant=AGENT, principal=HOLDER, seller=SELLER))]
    contacts = {account: replace(contact, language=locale) for account in CONTACTS}
    return render(
        id="m-1",
        claim="c-1",
        party=SELLER if kind == "seller_notice" else AGENT,
        kind=kind,
        items=told,
        claim_size=1,
        contacts=contacts,
        right_number=number,
        site=SITE,
        now=NOW,
    )


def squash(text: str) -> str:
    """Without spaces and what isolates."""
    return "".join(text.split()).replace(FSI, "").replace(PDI, "")


def harmless(text: str) -> None:
    """No controls but line ends, and what is isolated ends where it should."""
    for row in text.split("\n"):
        assert all(unicodedata.category(char) != "Cc" for char in row)
        assert {char for char in row if unicodedata.category(char) == "Cf"} <= {FSI, PDI}
        depth = 0
        for char in row:
            depth += (char == FSI) - (char == PDI)
            assert depth in (0, 1)
        assert depth == 0


@given(NASTY, NASTY, NASTY, st.sampled_from(["seller_notice", "counter_forwarded"]), st.sampled_from(LANGUAGES))
def test_contact_data_stay_words(name: str, address: str, number: str, kind: str, locale: str) -> None:
    contact = Contact.of({"name": name, "address": address, "email": "ann@holder.example"})
    assert contact is not None
    plain = Contact("Ann" if contact.name else "", ("x",) * len(contact.lines), contact.email)
    shown, calm = made(kind, contact, number, locale), made(kind, plain, "1" if line(number) else None, locale)
    page = Page(shown.html)
    assert page.elements == Page(calm.html).elements
    harmless(shown.subject + "\n" + shown.body)
    for said in (contact.name, *contact.lines):
        assert said in page.words
        assert squash(said) in squash(shown.body)
        turned = any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in said)
        assert not turned or f"{FSI}{said}{PDI}" in shown.body
        assert (f"<bdi>{escape(said)}</bdi>" in shown.html) or said.isascii()


@given(
    st.sampled_from([*(kind.removeprefix("account.") for kind in NOTICES), "x"]),
    st.dictionaries(NASTY, st.one_of(st.integers(), NASTY), max_size=6),
    st.sampled_from(LANGUAGES),
)
def test_figures_of_notices_stay_words(kind: str, figures: dict[str, Any], locale: str) -> None:
    notice = AccountNotice(notice="n-1", account="a-1", kind=kind, figures=figures, at=NOW)
    party = replace(CONTACTS[SELLER], language=locale)
    shown = render_notice(id="m-1", notice=notice, party=party, secret="S3CRET", now=NOW)
    Page(shown.html)
    harmless(shown.subject + "\n" + shown.body)
    assert ("S3CRET" in shown.body) == (kind == "email_code")


@pytest.mark.parametrize("char", ["a", "<", "\u05d0", "\u202e", "漢", "\n"])
def test_a_megabyte_is_cut_off_at_once(char: str) -> None:
    def show(length: int) -> None:
        contact = Contact.of({"name": char * length, "address": char * length, "email": char * length})
        assert contact is not None
        shown = made("seller_notice", contact, char * length, "en")
        assert len(shown.html) < 40_000
        assert len(shown.body) < 20_000

    # what read all of it would take a hundred times as long
    assert cost(lambda: show(1_000_000)) < 40 * cost(lambda: show(10_000))


@pytest.mark.parametrize("kind", VERSIONS)
def test_messages_of_many_items_are_bounded(kind: str) -> None:
    told = [MessageItem(f"i-{n}", facts(f"listing-{n}", missing=("identity",) * 3)) for n in range(5_000)]
    shown = render(
        id="m-1",
        claim="c-1",
        party=SELLER,
        kind=kind,
        items=told,
        claim_size=5_000,
        contacts=CONTACTS,
        right_number="1",
        site=SITE,
        now=NOW,
    )
    assert len(shown.body) + len(shown.html) < 600_000
    named = shown.body.count(f"{SITE}/items/")
    assert named == (
        1_000 if kind in ("seller_notice", "counter_forwarded", "counter_defect", "info_request") else LISTED
    )
    assert f"{5_000 - named} more" in " ".join(shown.body.split())


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf")), max_size=400), st.sampled_from(["", "- ", "     "])
)
@example("漢" * 100, "")
@example("a " * 100, "- ")
def test_lines_are_filled_and_nothing_is_lost(text: str, first: str) -> None:
    text = " ".join(text.split())
    lines = fill(text, first, " " * len(first)).split("\n")
    assert "".join("".join(lines).removeprefix(first).split()) == "".join(text.split())
    for row in lines:
        assert columns(row) <= WIDTH or " " not in row[len(first) :].strip()


@given(st.text(max_size=60))
def test_what_is_isolated_ends(text: str) -> None:
    shown = isolated(text)
    assert shown in (text, f"{FSI}{text}{PDI}")
    if any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in text):
        assert shown != text
