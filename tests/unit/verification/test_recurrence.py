"""Near copies: what makes two listings alike, and what does not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from services.verification.recurrence import Traits, UpheldItem, copies, near, owners, plain, traits
from shared import policy
from shared.comparison.letters import confusables
from shared.events import Listing
from tests.costs import cost

NOW = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
IPP = policy.current("ipp").recurrence
assert IPP is not None
RULES: policy.Recurrence = IPP
SHOES = "Runner Pro 2 men's running shoes, white, all sizes"
PICTURE = "c3c3a5a53c3c5a5a"
TITLES = st.text(max_size=300)
PICTURES = st.integers(0, 2**64 - 1).map(lambda bits: f"{bits:016x}")
LOOKALIKES = {
    letter: [char for char in (letter, *confusables()) if plain(f"x{char}x") == f"x{letter}x"]
    for letter in "abcdehijklmnopqstuwxyz"
} | {" ": [" ", "\u00a0"]}
"""Characters that read as a letter, those of Unicode's list."""
LISTINGS = st.builds(
    Listing, listing=st.just("l"), state=st.just("visible"), title=st.none() | TITLES, image_hash=st.none() | PICTURES
)


def rules(**changes: Any) -> policy.Recurrence:
    return msgspec.structs.replace(RULES, **changes)


def titled(old: str, new: str) -> int | None:
    """Per cent, if near."""
    found = near(Traits(plain(old)), Traits(plain(new)), RULES)
    return None if found is None else found.title


def flip(picture: str, bits: int) -> str:
    return f"{int(picture, 16) ^ (2**bits - 1):016x}"


@pytest.mark.parametrize(
    "again",
    [
        SHOES.upper(),
        "  " + SHOES.replace(" ", "\u00a0\u3000") + "!!!",
        SHOES.replace(" ", "."),
        "All sizes: Running shoes, white (men's) Runner Pro 2",
        SHOES.replace("o", "\u043e").replace("e", "\u0435").replace("R", "\u0420"),  # Cyrillic
        SHOES.upper().replace("O", "\u039f").replace("N", "\u039d").replace("H", "\u0397"),  # Greek
        "".join(chr(ord(char) + 0xFEE0) if char.isalnum() and char.isascii() else char for char in SHOES),  # full width
        "\u200b".join(SHOES),
        SHOES.replace("u", "\u00fc"),
        "Runner-Pro 2 men's runningshoes white all sizes",
        SHOES.replace("white", "whitee"),
    ],
)
def test_the_same_title_written_otherwise(again: str) -> None:
    assert titled(SHOES, again) is not None


@pytest.mark.parametrize(
    "other",
    [
        "Runner Pro 2 women's hiking boots, brown, sizes 36 to 40",
        "Runner Pro",  # a part of it, and shorter than what says anything
        "white running shoes for men",
        "A book about running",
        "",
    ],
)
def test_another_title(other: str) -> None:
    assert titled(SHOES, other) is None


def test_titles_without_spaces() -> None:
    assert titled("正品跑步鞋男士白色透气轻便夏季新款", "正品跑步鞋男士白色透气轻便夏季新款") == 100
    assert titled("正品跑步鞋男士白色透气轻便夏季新款", "女士手提包真皮大容量时尚单肩斜挎包") is None


@pytest.mark.parametrize("short", ["", "   ", "!!!", "shoes", "item 12345"])
def test_empty_and_short_titles_never_match(short: str) -> None:
    assert near(Traits(plain(short)), Traits(plain(short)), RULES) is None
    assert titled(short, SHOES) is None


def test_pictures() -> None:
    old = Traits("", PICTURE)
    for bits in range(RULES.picture + 1):
        found = near(old, Traits("", flip(PICTURE, bits)), RULES)
        assert found is not None
        assert (found.title, found.distance) == (None, bits)
    assert near(old, Traits("", flip(PICTURE, RULES.picture + 1)), RULES) is None
    assert near(old, Traits(""), RULES) is None


@pytest.mark.parametrize("picture", ["0000000000000000", "8000000000000000", "ffffffffffffffff", "fffffffffffffffe"])
def test_a_plain_surface_is_no_picture(picture: str) -> None:
    assert traits(Listing(listing="l", state="visible", image_hash=picture)) is None


def test_either_or_both() -> None:
    old, far = Traits(plain(SHOES), PICTURE), flip(PICTURE, 30)
    same, title, picture = (
        old,
        Traits(plain(SHOES), far),
        Traits(plain("Something else altogether, brand-new"), PICTURE),
    )
    for new, either, both in ((same, True, True), (title, True, False), (picture, True, False)):
        assert (near(old, new, rules(needs="either")) is not None) == either
        assert (near(old, new, rules(needs="both")) is not None) == both
    assert near(old, Traits(plain(SHOES)), rules(needs="both")) is None  # what is not known is not near


@given(LISTINGS, LISTINGS, st.sampled_from(["either", "both"]))
def test_near_is_symmetric(one: Listing, other: Listing, needs: str) -> None:
    a, b = traits(one), traits(other)
    if a is not None and b is not None:
        assert near(a, b, rules(needs=needs)) == near(b, a, rules(needs=needs))


@given(LISTINGS)
def test_near_is_reflexive_where_there_is_anything_to_compare(one: Listing) -> None:
    look = traits(one)
    if look is None:
        return
    enough = len(look.title.replace(" ", "")) >= RULES.title_length or look.picture is not None
    found = near(look, look, RULES)
    assert (found is not None) == enough
    if found is not None:
        assert found.title in (None, 100)
        assert found.distance in (None, 0)


@given(TITLES)
def test_plain_is_stable_and_bare(title: str) -> None:
    once = plain(title)
    assert plain(once) == once
    assert "  " not in once
    assert once == once.strip()
    assert not any(char in once for char in "\u200b.,!\n\x00")


@given(st.text(alphabet="abcdehijklmnopqstuwxyz ", min_size=20), st.randoms(use_true_random=False))
def test_lookalikes_make_no_difference(title: str, dice: Any) -> None:
    disguised = "".join(dice.choice(LOOKALIKES[char]) if dice.random() < 0.5 else char for char in title)
    assert plain(disguised) == plain(title)


def test_case_makes_no_difference_in_any_script() -> None:
    for title in ("Κομψά γυναικεία παπούτσια", "Мужские кроссовки для бега", "Straße, Łódź und Ærø"):
        assert plain(title) == plain(title.upper()) == plain(title.lower())


@pytest.mark.parametrize(
    ("title", "stored"),
    [
        ("Мужские кроссовки для бега, размер 42", "myжckиe kpoccobkи для бeгa paзmep 42"),
        ("Κομψά γυναικεία παπούτσια", "komψa γynaikeia πaπoytσia"),
        ("Łódź Straße Ærø skjorte", "łodz strasse ærø skjorte"),
        ("Зимние сапоги", "зиmhиe caпoги"),
    ],
)
def test_titles_that_0_2_0_stored_read_as_they_do_now(title: str, stored: str) -> None:
    assert plain(stored) == plain(title)


# ---- among many


def upheld(item: str = "i", **values: Any) -> UpheldItem:
    return UpheldItem(
        **{
            "item": item,
            "claim": "c",
            "listing": f"l-{item}",
            "right": "r",
            "reason": "counterfeit",
            "profile": "ipp",
            "upheld_at": NOW - DAY,
            "traits": Traits(plain(SHOES), PICTURE),
            **values,
        }
    )


SAME = Traits(plain(SHOES))


def found(*old: UpheldItem, look: Traits = SAME) -> list[str]:
    return [one.item for one, _ in copies("new", look, old, NOW)]


def test_the_nearest_of_each_right() -> None:
    worse = upheld("worse", traits=Traits(plain(SHOES + "s")))
    older = upheld("older", upheld_at=NOW - 2 * DAY)
    assert found(worse, older, upheld("i")) == found(upheld("i"), older, worse) == ["i"]
    assert found(older, worse) == ["older"]
    assert found(upheld("i"), upheld("j", right="other")) == ["j", "i"]


def test_not_itself_not_for_ever_and_not_where_the_policy_is_silent() -> None:
    assert found(upheld(listing="new")) == []
    assert found(upheld(upheld_at=NOW - RULES.within.exact)) == ["i"]
    assert found(upheld(upheld_at=NOW - RULES.within.exact - dt.timedelta(microseconds=1))) == []
    assert found(upheld(profile="dmca")) == []
    assert found(upheld(profile="gone")) == []


def test_whose_a_listing_is() -> None:
    assert owners(Listing(listing="l", state="visible", seller="s", entity="e")) == ("seller:s", "entity:e")
    assert owners(Listing(listing="l", state="visible")) == ()


def test_two_hundred_comparisons_are_cheap() -> None:
    old = [
        upheld(str(number), traits=Traits(plain(f"{SHOES} {number} other words here"), PICTURE))
        for number in range(200)
    ]
    look = Traits(plain("Leather handbag for women with a long strap and two pockets"), flip(PICTURE, 32))
    assert not copies("new", look, old, NOW)

    def measured() -> None:
        for one in old:
            fuzz.token_sort_ratio(one.traits.title, look.title)

    # little more than to measure the titles once
    assert cost(lambda: copies("new", look, old, NOW)) < 20 * cost(measured)
