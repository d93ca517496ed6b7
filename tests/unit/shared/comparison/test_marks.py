"""Which marks are in a text, by which rule, as what, and what speaks against it: titles as on marketplaces."""

from __future__ import annotations

import gc
import weakref

import pytest
from msgspec.structs import replace

from shared.comparison import (
    OBFUSCATED,
    Content,
    Finding,
    Mark,
    Marks,
    Permission,
    comparable,
    compare,
    gates,
    normalise,
    roles,
)
from shared.comparison.letters import SKELETON
from tests.costs import cost

NAMES = (
    "Apple", "iPhone", "3M", "HP", "Nike", "Adidas", "Rolex", "New Balance", "PlayStation", "Louis Vuitton", "Puma",
    "Modem", "Born", "Warner", "Chanel", "Samsung", "Dyson", "Bata", "Levi's", "H&M", "\u8010\u514b", "\u30ca\u30a4\u30ad", "\u039d\u03af\u03ba\u03b7",
    "\u041d\u041e\u0412\u0410", "4711", "RayBan", "L'Or\u00e9al", "H\u00e4agen-Dazs", "Reebok", "Mail", "Calvin Klein", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
)  # fmt: skip
CLASSES = (9, 25)
MARKS = Marks.build(Mark(name, name, f"owner of {name}", CLASSES, ("DE", "FR")) for name in NAMES)


def find(title: str, language: str | None = "en", **values: str) -> tuple[Finding, ...]:
    return MARKS.find(Content(title=title, language=language, classes=CLASSES, territory="DE", **values))


def only(title: str, language: str | None = "en") -> Finding:
    (found,) = find(title, language)
    return found


def shown(title: str, language: str | None = "en") -> list[tuple[str, str, str, str]]:
    """Mark, its place in the original, rule and role."""
    return [(one.mark, title[slice(*one.span)], one.rule, one.role) for one in find(title, language)]


@pytest.mark.parametrize(
    ("title", "mark", "place", "rule"),
    [
        ("NIKE shoes", "Nike", "NIKE", "exact"),
        ("Shoes, \uff2e\uff49\uff4b\uff45!", "Nike", "\uff2e\uff49\uff4b\uff45", "exact"),
        ("loreal cream", "L'Or\u00e9al", "loreal", "split"),
        ("L'Oreal cream", "L'Or\u00e9al", "L'Oreal", "exact"),
        ("haagen dazs", "H\u00e4agen-Dazs", "haagen dazs", "exact"),
        ("Levi\u2019s 501", "Levi's", "Levi\u2019s", "exact"),
        ("levis 501", "Levi's", "levis", "split"),
        ("Newbalance 574", "New Balance", "Newbalance", "split"),
        ("Play Station 5", "PlayStation", "Play Station", "split"),
        ("Ray-Ban sunglasses", "RayBan", "Ray-Ban", "split"),
        ("ni.ke air", "Nike", "ni.ke", "split"),
        ("n i k e air", "Nike", "n i k e", "spaced"),
        ("shoes n.i.k.e", "Nike", "n.i.k.e", "spaced"),
        ("a n-i-k-e b", "Nike", "n-i-k-e", "spaced"),
        (f"{'x ' * 22}n i k e", "Nike", "n i k e", "spaced"),  # however many other letters there are
        ("s a m s u n g tv", "Samsung", "s a m s u n g", "spaced"),
        ("N\u0456k\u0435 shoes", "Nike", "N\u0456k\u0435", "lookalike"),  # Cyrillic
        ("\u039d\u0399\u039a\u0395 shoes", "Nike", "\u039d\u0399\u039a\u0395", "lookalike"),  # Greek
        ("N\u200bike shoes", "Nike", "N\u200bike", "lookalike"),
        ("Nike\u2122 shoes", "Nike", "Nike", "exact"),
        ("Nike\u200b shoes", "Nike", "Nike\u200b", "exact"),  # after it, such as a direction mark, hides nothing
        ("\u062d\u0630\u0627\u0621 Nike\u200f \u0623\u0635\u0644\u064a", "Nike", "Nike\u200f", "exact"),
        ("Ni\u0301\u200bke shoes", "Nike", "Ni\u0301\u200bke", "lookalike"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "exact",
        ),  # as Persian is written
        ("Ni\u00adke shoes", "Nike", "Ni\u00adke", "exact"),  # a hyphenation, not a disguise
        ("N1ke shoes", "Nike", "N1ke", "lookalike"),
        ("NlKE SHOES", "Nike", "NlKE", "lookalike"),
        ("R0lex watch", "Rolex", "R0lex", "lookalike"),
        ("Case iPhone15, black", "iPhone", "iPhone", "exact"),  # the number of a model
        ("ADIDAS2024", "Adidas", "ADIDAS", "exact"),
        ("Sarnsung Galaxy", "Samsung", "Sarnsung", "lookalike"),
        ("S@msung TV", "Samsung", "S@msung", "leet"),
        ("W4rner poster", "Warner", "W4rner", "leet"),  # an rn of its own
        ("cheap 4didas!", "Adidas", "4didas", "leet"),
        ("Ad!das shirt", "Adidas", "Ad!das", "leet"),
        ("adiddas shirt", "Adidas", "adiddas", "edit"),
        ("addias shirt", "Adidas", "addias", "edit"),
        ("Louis Vuiton bag", "Louis Vuitton", "Louis Vuiton", "edit"),
        ("Calvin Klien boxer", "Calvin Klein", "Calvin Klien", "edit"),
        ("\u6b63\u54c1\u8010\u514b\u8fd0\u52a8\u978b", "\u8010\u514b", "\u8010\u514b", "exact"),
        ("\u30ca\u30a4\u30ad\u30a8\u30a2\u30de\u30c3\u30af\u30b9", "\u30ca\u30a4\u30ad", "\u30ca\u30a4\u30ad", "exact"),
        ("\u039d\u0399\u039a\u0397 shop", "\u039d\u03af\u03ba\u03b7", "\u039d\u0399\u039a\u0397", "exact"),
        ("\u043d\u043e\u0432\u0430 shop", "\u041d\u041e\u0412\u0410", "\u043d\u043e\u0432\u0430", "exact"),
    ],
)
def test_a_mark_is_found(title: str, mark: str, place: str, rule: str) -> None:
    assert [one[:3] for one in shown(title)] == [(mark, place, rule)]


@pytest.mark.parametrize(
    "title",
    [
        "Pineapple slicer",
        "3m cable, 3M cable",  # a length; and too short outside the brand field
        "HP sauce",
        "Snike and nikes",  # four letters: no edit
        "Rebook your flight",  # an ordinary word is no misspelling
        "Mall bag, MALL BAG",
        "N1k3 shoes",  # four letters: no leetspeak
        "54m5un9 t3l3",  # fewer letters than signs
        "ni ke",  # four letters: not in two words
        "Metro 1 cable",
        "Modern lamp, modern lamp",  # an ordinary word is no disguise of Modem
        "muito bom",  # rn passes for m, m not for rn
        "SARNSUNG",  # not in capitals
        "mail4you, puma3d, bata2b",  # numbers in a word
        "",
        "\u200b\u200b",
    ],
)
def test_a_mark_is_not_found(title: str) -> None:
    assert shown(title) == []


@pytest.mark.parametrize(
    ("title", "language", "mark", "why"),
    [
        ("Case for iPhone 15", "en", "iPhone", "compatibility"),
        ("Battery compatible with Samsung S24", "en-US", "Samsung", "compatibility"),
        ("Replacement Dyson filter", "en", "Dyson", "compatibility"),
        ("Dyson compatible filter", "en", "Dyson", "compatibility"),
        ("Phone holder (fits iPhone 15)", "en", "iPhone", "compatibility"),
        ("Case for Galaxy S24 Ultra Plus, iPhone 15", "en", "iPhone", "compatibility"),
        ("Shoes like Nike", "en", "Nike", "comparison"),
        ("Nike-style shoes", "en", "Nike", "comparison"),
        ("Bag in the style of Chanel", "en", "Chanel", "comparison"),
        ("H\u00fclle f\u00fcr iPhone 15", "de", "iPhone", "compatibility"),
        ("Akku passend f\u00fcr Samsung", "de-AT", "Samsung", "compatibility"),
        ("Schuhe wie Nike", "de", "Nike", "comparison"),
        ("coque pour iPhone 15", "fr", "iPhone", "compatibility"),
        ("coque compatible avec iPhone", "fr", "iPhone", "compatibility"),
        ("sac fa\u00e7on Chanel", "fr", "Chanel", "comparison"),
        ("funda para iPhone", "es", "iPhone", "compatibility"),
        ("bolso estilo Chanel", "es", "Chanel", "comparison"),
        ("cover per iPhone", "it", "iPhone", "compatibility"),
        ("borsa in stile Chanel", "it", "Chanel", "comparison"),
        ("\u9002\u7528\u4e8e\u8010\u514b\u7684\u978b\u5e26", "zh", "\u8010\u514b", "compatibility"),
        ("\u8010\u514b\u540c\u6b3e\u8fd0\u52a8\u978b", "zh", "\u8010\u514b", "comparison"),
        ("H\u00fclle f\u00fcr iPhone", None, "iPhone", "compatibility"),
        ("4711 pcs beads", "en", "4711", "unit"),
        ("Case for the brand new iPhone", "en", "iPhone", "compatibility"),  # fillers are not counted
        ("kompatibel: iPhone", "de", "iPhone", "compatibility"),
    ],
)
def test_descriptive_use(title: str, language: str | None, mark: str, why: str) -> None:
    found = only(title, language)
    assert (found.mark, found.role) == (mark, "descriptive")
    assert why in found.against
    assert found.score <= 0.2


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("Nike Air Max", "brand"),
        ("New original Nike shoes", "brand"),
        ("Running shoes Nike", "brand"),
        ("White running shoes with laces, Nike", "mention"),
        ("Shoes for men Nike", "mention"),  # who wears them is no cue
        ("Sneakers for women, by Nike", "mention"),
        ("4711 perfume", "brand"),
        ("Nike. For running", "brand"),
        ("Nike like new", "brand"),  # in what state it is, not what it is like
        ("Like new Nike shoes", "brand"),
        ("Nike Fit Tee", "brand"),
    ],
)
def test_brand_or_mention(title: str, role: str) -> None:
    assert only(title).role == role


def test_a_maker_ends_what_a_cue_reaches() -> None:
    assert [one[3] for one in shown("Case for iPhone by Samsung")] == ["descriptive", "mention"]
    assert [one[3] for one in shown("Case for iPhone | Samsung")] == ["descriptive", "mention"]
    assert [one[3] for one in shown("Case for iPhone and Samsung")] == ["descriptive", "descriptive"]


def test_stuffing_needs_three_owners_who_are_not_related() -> None:
    title = "Shirt Nike Adidas Reebok Chanel"
    assert {one.role for one in find(title)} == {"stuffing"}
    assert {one.role for one in find("Shirt Nike Adidas")} <= {"brand", "mention"}
    assert "stuffing" not in {one.role for one in find("Case for iPhone, Samsung, Dyson, Nike")}
    related = Marks.build(Mark(name, name, "one owner") for name in NAMES)
    assert "stuffing" not in {one.role for one in related.find(Content(title=title))}
    within = Marks.build(
        [Mark("1", "Zorb Max", "a"), Mark("2", "Zorb", "b"), Mark("3", "Max", "c"), Mark("4", "Quix", "d")]
    )
    assert "stuffing" not in {one.role for one in within.find(Content(title="Zorb Max Quix"))}


def test_short_marks_count_in_the_brand_field_only() -> None:
    for brand in ("3M", "3m", "3M Deutschland", "H & M", "HP"):
        (found,) = find("3M tape by HP, H&M", brand=brand)
        assert (found.field, found.rule, found.role, found.score) == ("brand", "exact", "brand", 1.0)
    assert find("x", brand="3N") == ()


def test_a_brand_field_may_say_what_the_goods_fit() -> None:
    for brand, role in (
        ("For iPhone", "descriptive"),
        ("Compatible with Nike", "descriptive"),
        ("Nike Style", "brand"),
    ):
        (found,) = find("x", brand=brand)
        assert (found.field, found.role) == ("brand", role)


@pytest.mark.parametrize(
    "title", ["\u8010\u514b\u98ce\u8863", "\u4eff\u76ae\u8010\u514b\u978b", "\u6444\u50cf\u8010\u514b"]
)
def test_parts_of_chinese_words_are_no_cues(title: str) -> None:
    """A windbreaker, shoes of faux leather, a camera."""
    assert only(title, "zh").role == "brand"


def test_places_of_a_mark_are_bounded() -> None:
    """A title of 300 characters has fewer; a description has at most 64 of each mark."""
    assert len(find("nike " * 60)) == 60
    assert len(find("x", description="nike " * 800)) == 64


def test_what_is_remembered_is_bounded() -> None:
    """Hostile texts fill no memory: neither languages, nor code points that are no characters, nor other words."""
    mark = Mark("1", "Adidas", "o")
    for number in range(300):
        content = Content(title=f"Word{chr(97 + number % 26)} adibas", brand=f"b{number}", language=f"x{number}-YY")
        compare(mark, content)
    assert roles.cues("x1-YY") is roles.cues("x2-ZZ") is roles.cues(None)
    assert gates.dictionary("de-AT") is gates.dictionary("de-CH")
    index = Marks.build([mark])
    for letter in "abcdefgh":
        index.find(Content(title=f"adibas{letter} quix{letter}", brand=f"brand {letter}"))
    assert len(index._brands) <= 1
    assert len(index._index._typos._remembered) <= 1
    before = len(SKELETON)
    assert normalise("\U000e5678\U000f1234\ud800").text == ""
    assert len(SKELETON) == before


@pytest.mark.parametrize(
    "part",
    [
        "nike ",
        "for nike ",
        "n i k e ",
        "a ",
        "a.",
        "lIl1 ",
        "\u0412\u0410\u0422\u0410 ",
        "for men like ",
        "nike, and ",
        "4",
        "-a",
        "()",
    ],
)
def test_hostile_texts_take_time_in_proportion(part: str) -> None:
    """In a title of 300 characters and a description of 4,000, with 50 rights in one word."""
    index = Marks.build(
        Mark(f"{n}", "Nike" if n < 50 else name, f"o{n}") for n, name in enumerate([*NAMES, "Bata"] * 5)
    )

    def time_of(share: int) -> float:
        text, head = part * (4_000 // share // len(part)), 300 // share
        return cost(lambda: index.find(Content(title=text[:head], brand=text[:head], description=text)))

    # a quarter of the text: what grows with the square of its length would take sixteen times as long
    assert time_of(1) < 12 * time_of(4)


def test_an_ordinary_word_needs_the_brand_field_and_the_class() -> None:
    assert only("Apple peeler").against == ("dictionary_word",)
    assert only("Apple peeler").score == 0.3
    (found,) = find("x", brand="Apple")
    assert (found.against, found.score) == ((), 1.0)
    mark = Mark("r", "Apple", "o", (9,))
    (elsewhere,) = compare(mark, Content(brand="Apple", classes=(31,), language="en"))
    assert "dictionary_word" in elsewhere.against
    assert "other_class" in elsewhere.against
    (unknown,) = compare(mark, Content(brand="Apple", language="en"))
    assert {"dictionary_word", "class_unknown"} <= set(unknown.against)
    assert "dictionary_word" in compare(Mark("r", "Schuhe", "o"), Content(title="Schuhe", language="de"))[0].against
    assert "dictionary_word" not in compare(Mark("r", "Schuhe", "o"), Content(title="Schuhe", language="fr"))[0].against


def test_gates_say_what_they_do_not_know() -> None:
    mark = Mark("r", "Nike", "o", (25,), ("DE",))

    def against(mark: Mark, **values: object) -> tuple[str, ...]:
        (found,) = compare(mark, Content(title="Nike shoes", **values))  # type: ignore[arg-type]
        return found.against

    assert against(mark) == ("class_unknown", "territory_unknown")
    assert against(mark, classes=(25, 9), territory="DE") == ()
    assert against(mark, classes=(), territory="DE") == ("other_class",)
    assert against(mark, classes=(9,), territory="US") == ("other_class", "other_territory")
    assert against(replace(mark, classes=(), territories=()), classes=(9,), territory="US") == (
        "class_unknown",
        "territory_unknown",
    )
    assert against(replace(mark, figurative=True), classes=(25,), territory="DE") == ("figurative",)


def test_permission_comes_before_the_score() -> None:
    content = Content(title="Nike shoes", classes=CLASSES, territory="DE")
    (free,) = MARKS.find(content)
    permitted = [Permission("Nike", "reseller"), Permission("Nike", "invoice"), Permission("Adidas", "owner")]
    (found,) = MARKS.find(content, permitted)
    assert (free.score, free.against) == (1.0, ())
    assert (found.score, found.against) == (0.0, ("invoice", "reseller"))
    assert replace(found, score=1.0, against=()) == free, "it is found all the same"


def test_a_word_of_another_language_is_not_a_disguise() -> None:
    """Russian for cotton wool reads as the mark Bata."""
    found = only(
        "\u041c\u0435\u0434\u0438\u0446\u0438\u043d\u0441\u043a\u0430\u044f \u0432\u0430\u0442\u0430 100 \u0433", "ru"
    )
    assert (found.mark, found.rule) == ("Bata", "lookalike")
    assert "native_script" in found.against
    assert found.score < 0.2
    assert "native_script" not in only("\u0412\u0410\u0422\u0410 shoes").against
    assert "native_script" not in only("\u0412\u0410TA \u043e\u0431\u0443\u0432\u044c").against


def test_fields() -> None:
    content = Content(
        title="Shoes", brand="Nike", description="The adiddas and Adidas lines. For iPhone.", language="en"
    )
    assert [(one.field, one.mark, one.rule, one.role) for one in MARKS.find(content)] == [
        ("brand", "Nike", "exact", "brand"),
        ("description", "Adidas", "exact", "mention"),  # edits are not looked for in descriptions
        ("description", "iPhone", "exact", "descriptive"),
    ]


def test_each_mark_and_each_place_once() -> None:
    assert [one[:3] for one in shown("Nike nike N1ke Nike")] == [
        ("Nike", "Nike", "exact"),
        ("Nike", "nike", "exact"),
        ("Nike", "N1ke", "lookalike"),
        ("Nike", "Nike", "exact"),
    ]
    both = Marks.build([Mark("b", "Nike", "o"), Mark("a", "NIKE", "p")])
    assert [one.mark for one in both.find(Content(title="nike"))] == ["a", "b"]


def test_marks_without_words_and_ids_that_come_twice() -> None:
    marks = Marks.build([Mark("1", "\u2122 ???", "o"), Mark("2", "", "o")])
    assert len(marks) == 2
    assert marks.find(Content(title="\u2122 ??? anything", brand="?")) == ()
    assert Marks.build([]).find(Content(title="Nike")) == ()
    with pytest.raises(ValueError, match="two marks with id 1"):
        Marks.build([Mark("1", "a", "o"), Mark("1", "b", "o")])


def test_what_can_be_compared_at_all() -> None:
    assert comparable("Nike", Content(title="shoes"))
    assert not comparable("3M", Content(title="3M tape"))
    assert not comparable("Nike", Content(title="???"))
    assert comparable("\u8010\u514b", Content(title="x"))


def test_disguises_are_those_that_nobody_makes_by_accident() -> None:
    assert OBFUSCATED.isdisjoint({"exact", "split", "edit"})


def test_an_index_that_is_dropped_is_freed_at_once() -> None:
    """It is in no cycle, so swapping indexes does not wait for the garbage collector."""

    class Watched(Marks):
        __slots__ = ("__weakref__",)

    index = Watched.build([Mark("1", "Adidas", "o")])
    index.find(Content(title="addidas adiddas", brand="Adidas"))
    gone = weakref.ref(index)
    gc.disable()
    try:
        del index
        assert gone() is None
    finally:
        gc.enable()
