"""What text reads as, and the way back to the original."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comparison import normalise
from shared.comparison.letters import PLAIN, SKELETON, WORDS, confusables
from shared.comparison.proposals import JOINED, SPELT, TIGHT
from shared.comparison.reading import Reading

ANYTHING = st.text(max_size=80) | st.text(
    alphabet="aAmMiIl10oO -.\u0301\u200b\u0430\u0391\ufb01\u00df\u8010\u30ac", max_size=40
)
TABLES = st.sampled_from([SKELETON, PLAIN, WORDS, TIGHT, JOINED, SPELT])
POINTS = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("  Nike,  Air-Max  ", "nike air max"),
        ("\uff21\uff23\uff2d\uff25\u3000\uff53\uff48\uff4f\uff45\uff53", "acme shoes"),
        (
            "N\u0456k\u0435 \u039d\u0399\u039a\u0395 \u1d4f\u026a\u1d0b\u1d07",
            "nike nike kike",
        ),  # Cyrillic, Greek, small capitals
        ("\u0412\u0410\u0422\u0410 \u0432\u0430\u0442\u0430", "bata bata"),  # capitals and small letters of Cyrillic
        ("\U0001d4dd\U0001d4f2\U0001d4f4\U0001d4ee \U0001f17d\U0001f178\U0001f17a\U0001f174", "nike nike"),
        ("S\u00f8strene \u0141\u00f3d\u017a stra\u00dfe \u00c6on H\u00e4agen", "sostrene lodz strasse aeon haagen"),
        ("\u0663\u0664 \u0967\u0968 \u00b2\u00bd", "34 12 21 2"),
        ("N\u200bi\u00adk\u0301e", "nike"),
        ("Nike\u00d7Adidas | Puma \u2503 10\u00d720", "nike adidas puma 10 20"),
        ("modern 10 mm lamp, Illinois", "modern 10 mm lamp illinois"),  # ASCII stays as it is
        (
            "\uff76\uff9e \u30ac \u30ab",
            unicodedata.normalize("NFD", "\u30ac \u30ac \u30ab").replace("\u30ab", "\u529b"),
        ),
        ("", ""),
        ("?!", ""),
    ],
)
def test_what_text_reads_as(text: str, reads: str) -> None:
    assert normalise(text).text == reads


def test_composed_and_decomposed_read_alike() -> None:
    for text in ("\ub098\uc774\ud0a4", "\u30ac\u30f3\u30c0\u30e0", "\u00e9\u00e8\u0144", "\u0439\u0451"):
        assert normalise(unicodedata.normalize("NFD", text)).text == normalise(unicodedata.normalize("NFC", text)).text


def test_letters_of_the_whole_list_read_as_their_prototype() -> None:
    """Except where the module says otherwise: the two read alike, if the prototype is a Latin letter."""
    differ = []
    for char, prototype in confusables().items():
        bare = "".join(c for c in unicodedata.normalize("NFKD", prototype) if not unicodedata.combining(c))
        if bare.isascii() and bare.isalpha() and char.isalpha() and not char.isascii() and bare not in ("l", "rn"):
            reads = SKELETON[ord(char)]
            if reads != bare.lower() and unicodedata.normalize("NFKD", char)[0] == char:
                differ.append(char)
    # a letter before a digit, I before l, and capitals by name
    assert len(differ) < 40, differ


@pytest.mark.parametrize("table", [SKELETON, PLAIN], ids=["skeleton", "plain"])
def test_every_character_is_folded_once_for_all(table: dict[int, str]) -> None:
    for char in POINTS:
        folded = char.translate(table)
        assert folded.translate(table) == folded, hex(ord(char))
        assert all(one == " " or one.isalnum() or unicodedata.category(one)[0] == "M" for one in folded), hex(ord(char))


@given(ANYTHING)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text).text
    assert normalise(once).text == once
    assert once == once.strip()
    assert "  " not in once


@given(ANYTHING, TABLES, st.data())
def test_a_span_covers_what_it_comes_from(text: str, table: dict[int, str], data: st.DataObject) -> None:
    reading = Reading(text, table)  # type: ignore[arg-type]
    if not reading.text:
        return
    start = data.draw(st.integers(0, len(reading.text) - 1))
    end = data.draw(st.integers(start + 1, len(reading.text)))
    first, last = reading.span(start, end)
    assert 0 <= first < last <= len(text)
    # a character may read as several, so the span may cover more, never less
    assert reading.text[start:end].strip() in " ".join(text[first:last].translate(table).split())


@given(ANYTHING, TABLES)
def test_spans_of_words_read_as_these_words(text: str, table: dict[int, str]) -> None:
    reading, start = Reading(text, table), 0  # type: ignore[arg-type]
    for word in reading.text.split():
        first, last = reading.span(start, start + len(word))
        assert word in text[first:last].translate(table).split()
        assert text[last : last + 1].translate(table) != "" or last == len(text), "marks belong to the letter before"
        start += len(word) + 1


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 0), (2, 1), (0, 5)])
def test_a_part_that_there_is_not(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no part"):
        normalise("nike").span(start, end)
