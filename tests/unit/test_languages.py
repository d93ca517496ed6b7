"""Languages: what a reader asks for is understood, and every text of a policy and a form has its translation."""

from __future__ import annotations

import re
from string import Formatter

import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from services.intake.evidence import domain as evidence
from services.intake.kernel.listings import listing_of
from services.intake.registry import registers
from services.notification import layout
from services.verification import refusals
from shared import languages, policy
from shared.languages import LANGUAGES, catalogue, choose, translate
from shared.refusals import Refused
from shared.site_links import SiteLinks
from tools import messages

OTHERS = LANGUAGES[1:]
each_language = pytest.mark.parametrize("language", OTHERS)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9", "de"),
        ("zh-Hant-TW", "zh"),
        ("fr, zh;q=0.5, de;q=0.8", "de"),
        ("fr", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=0, zh;q=0.1", "zh"),
        ("en;q=0.5,de", "de"),
        ("ZH-cn", "zh"),
        ("de;q=x, zh", "zh"),
        (";;;,,,=", "en"),
        ("de" * 1000, "en"),
        ("en, de", "en"),
    ],
)
def test_a_header_is_understood(header: str | None, language: str) -> None:
    assert choose(header) == language


@given(st.text(max_size=600))
def test_any_header_gives_a_language(header: str) -> None:
    assert choose(header) in LANGUAGES


@each_language
def test_texts_of_policies_and_forms_are_translated(language: str) -> None:
    wanted = {**messages.of_policies(), **messages.of_forms()}
    missing = messages.missing(messages.catalogue(language, languages.DOMAIN, wanted))
    assert not missing, f"run `make messages`, then translate in {languages.file(language)}"


@each_language
def test_messages_are_translated(language: str) -> None:
    wanted = messages.of_messages()
    missing = messages.missing(messages.catalogue(language, layout.DOMAIN, wanted))
    assert not missing, f"run `make messages`, then translate in {languages.file(language, 'messages')}"
    stale = [text for context, text in layout.catalogue(language) if (context, text) not in wanted]
    assert not stale, "run `make messages`"


@each_language
def test_translations_of_messages_have_the_places_of_their_texts(language: str) -> None:
    for (_, english), translated in layout.catalogue(language).items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", translated)), english
        assert "<" not in translated, english


@each_language
def test_the_catalogue_has_nothing_stale_of_policies_and_forms(language: str) -> None:
    """Refusals of intake are looked at by `make messages`: what has no translation yet is shown in English."""
    places = {
        place for group in (messages.of_policies(), messages.of_forms()) for where in group.values() for place in where
    }
    wanted = messages.texts()
    with languages.file(language).open("rb") as stream:
        for message in read_po(stream, locale=language):
            where = {place for place, _ in message.locations}
            if message.id and where and where <= places:
                assert ("", str(message.id)) in wanted, f"run `make messages`: {message.id!r} is gone"


@each_language
def test_translations_have_the_places_of_their_texts(language: str) -> None:
    with languages.file(language).open("rb") as stream:
        entries = [message for message in read_po(stream, locale=language, abort_invalid=True) if message.id]
    assert len(entries) > 100
    for message in entries:
        if message.string and languages.is_template(str(message.id)):
            names = [
                {name for _, name, _, _ in Formatter().parse(str(text)) if name}
                for text in (message.id, message.string)
            ]
            assert names[0] == names[1], message.id
        assert message.string != message.id or str(message.id) in ("Design", "Patent"), message.id


@each_language
def test_bringing_it_up_to_date_changes_nothing_that_is(language: str) -> None:
    wanted = messages.texts()
    made = messages.catalogue(language, languages.DOMAIN, wanted)
    again = messages.written(made, language)
    kept = {str(message.id): str(message.string) for message in made if message.id and message.string}
    assert kept.items() <= catalogue(language).texts.items()
    assert again == messages.written(messages.catalogue(language, languages.DOMAIN, wanted), language)
    assert b"POT-Creation-Date" not in again


def test_what_is_composed_is_translated_too() -> None:
    with pytest.raises(Refused) as refused:
        registers.normalise("us", "trademark", "twelve")
    assert translate(refused.value.detail, "de") == "Eine Nummer hat die Form: bis zu 7 Ziffern."
    assert translate(refused.value.cure, "zh") == "请照证书抄录号码。"
    with pytest.raises(Refused) as refused:
        listing_of("gopher://x", SiteLinks(("market.example/items/{id}",)))
    assert translate(refused.value.detail, "de") == "Ein Link ist keine http- oder https-Adresse."
    rules = policy.load("ipp-2026-11")
    late = refusals.detail(
        "counter_too_late",
        rules,
        state="RESTORED",
        takes="",
        due="",
        counter_due="2026-11-24T12:00:00+00:00",
        decisions="",
    )
    assert translate(late, "de").startswith("Die Zeit für eine Gegendarstellung endete am 2026-11-24T12:00:00+00:00; ")
    remark = evidence.refusal("polyglot", "bytes after the picture's end").detail
    assert translate(remark, "de").endswith(" enthält etwas hinter ihrem Ende (bytes after the picture's end).")
    only = refusals.detail("not_a_party", rules, party="the seller of the listing")
    assert translate(only, "zh").startswith("只有商品的卖家可以")


@each_language
def test_refusals_of_commands_are_told_in_the_language(language: str) -> None:
    told = 0
    for code, text in refusals.TEXTS.items():
        if text in catalogue(language).texts:
            names = {name for _, name, _, _ in Formatter().parse(text) if name}
            said = translate(text.format(**dict.fromkeys(names, "X1")), language)
            assert said.count("X1") >= len(names)
            assert said != text.format(**dict.fromkeys(names, "X1")), code
            told += 1
    assert told > 10


@pytest.mark.parametrize("text", ["", "no such words", "A number has", "x" * 5000, "A link ", "{}", "A link {why}"])
def test_what_is_not_known_stays_english(text: str) -> None:
    assert {translate(text, language) for language in LANGUAGES} == {text}


@given(st.text(max_size=300), st.sampled_from(LANGUAGES))
def test_any_text_can_be_asked_for(text: str, language: str) -> None:
    assert isinstance(translate(text, language), str)


@given(st.lists(st.text("ab ", max_size=6), min_size=1, max_size=3))
def test_what_fills_a_template_is_found_in_it(values: list[str]) -> None:
    literals = ("<start> ", *(f" <{number}> " for number in range(1, len(values))), " <end>")
    names = tuple(f"n{number}" for number in range(len(values)))
    text = "".join(literal + value for literal, value in zip(literals, [*values, ""], strict=True))
    assert languages.Template(literals, names, "").match(text) == dict(zip(names, values, strict=True))


def test_a_template_has_words_of_its_own() -> None:
    assert languages.is_template("A number has {looks}.")
    assert not languages.is_template("No place")
    assert not languages.is_template("{a}: {b}")
    assert not languages.is_template("Between {a}{b} is nothing")


def test_intake_speaks_to_be_translated() -> None:
    """What the extraction finds: texts, f-strings, texts handed through helpers, and constants."""
    found = messages.of_code()
    for text in (
        "The principal has no such right.",
        "Your claims may name at most {limit} listings; this one names {number}.",
        "Copy the number from the certificate.",
        "contains spaces, invisible characters or markup",
        "The database cannot be reached.",
        "Unprocessable content",
    ):
        assert ("", text) in found, text
    assert not any(re.fullmatch(r"[a-z_]+", text) for _, text in found), "codes are no words"
