"""The index against a reference that tries every part of a title, and properties that hold for any marks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.comparison import Content, Mark, Marks, compare
from shared.comparison.judging import SHORT, Words, edited, judge
from shared.comparison.reading import normalise
from shared.comparison.typos import Typos

WORD = st.text(alphabet="abiklmnors0", min_size=1, max_size=8)
NAME = st.sampled_from(
    ["nike", "adidas", "samsung", "new balance", "louis vuitton", "levi's", "3m", "h&m", "rolex", "olimil"]
)
TEXT = st.lists(WORD | NAME, min_size=1, max_size=3).map(" ".join)
NOISE = st.sampled_from([" ", "-", ", ", " | ", ".", " for ", " 1", "\u0456", "\u200b", "I", "0", "rn", "4"])
TITLE = st.lists(TEXT | NOISE | NAME.map(str.upper), max_size=8).map("".join) | st.lists(TEXT, max_size=4).map(" ".join)
MARK = st.lists(TEXT | st.text(max_size=6), min_size=1, max_size=8)


def marks_of(texts: list[str]) -> list[Mark]:
    return [Mark(f"{number:02}", text, f"o{number}") for number, text in enumerate(texts)]


def reference(mark: Mark, title: str) -> set[tuple[tuple[int, int], str]]:
    """Places of whole words in which a mark is, as it is or with an edit: every window of words, judged."""
    words, normal = Words(mark.text), normalise(title)
    found: set[tuple[tuple[int, int], str]] = set()
    starts = [at for at in range(len(normal.text)) if at == 0 or normal.text[at - 1] == " "]
    ends = [at for at in range(1, len(normal.text) + 1) if at == len(normal.text) or normal.text[at] == " "]
    if words.size <= SHORT:
        return found
    for start in starts:
        for end in [end for end in ends if end > start]:
            span = normal.span(start, end)
            rule = judge(title[slice(*span)], words)
            if rule in ("exact", "lookalike"):
                found.add((span, rule))
            elif rule is None and edited(normal.text[start:end], words):
                found.add((span, "edit"))
    return found


@settings(max_examples=300)
@given(MARK, TITLE)
def test_the_index_finds_what_trying_everything_finds(texts: list[str], title: str) -> None:
    marks = marks_of(texts)
    found = Marks.build(marks).find(Content(title=title))
    for mark in marks:
        index = {(one.span, one.rule) for one in found if one.mark == mark.id}
        tried = reference(mark, title)
        for span, rule in tried:
            # one place has one finding: a surer one may overlap it
            overlapping = [one for one in index if one[0][0] < span[1] and span[0] < one[0][1]]
            assert (span, rule) in index or overlapping, (mark.text, title, span, rule)
        assert {one for one in index if one[1] in ("exact", "lookalike", "edit")} <= tried | {
            one for one in index if judge(title[slice(*one[0])], Words(mark.text)) == one[1]
        }


@given(MARK, TITLE, st.randoms(use_true_random=False))
def test_the_order_of_marks_makes_no_difference(texts: list[str], title: str, dice: object) -> None:
    marks = marks_of(texts)
    shuffled = list(marks)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    content = Content(title=title, brand=title[:10], description=title)
    assert Marks.build(marks).find(content) == Marks.build(shuffled).find(content)


@given(MARK, TITLE)
def test_one_mark_is_found_alone_as_among_others(texts: list[str], title: str) -> None:
    """But for stuffing, which is about several: so all have one owner here."""
    marks = [Mark(mark.id, mark.text, "o") for mark in marks_of(texts)]
    content = Content(title=title, brand=title, language="en")
    alone = [one for mark in marks for one in compare(mark, content)]
    assert sorted(Marks.build(marks).find(content)) == sorted(alone)


@given(MARK, st.text(max_size=60) | TITLE)
def test_findings_are_in_range_and_repeatable(texts: list[str], title: str) -> None:
    marks, content = marks_of(texts), Content(title=title, brand=title, description=title)
    found = Marks.build(marks).find(content)
    for one in found:
        assert 0 <= one.span[0] < one.span[1] <= len(title)
        assert 0 <= one.score <= one.certainty <= 1
        assert title[slice(*one.span)].strip() != ""
    assert found == Marks.build(marks).find(content)


@given(st.lists(st.text(alphabet="abcd", min_size=2, max_size=7), max_size=30), st.text(alphabet="abcd", max_size=8))
def test_words_within_one_edit(words: list[str], word: str) -> None:
    def near(one: str, other: str) -> bool:
        if one == other:
            return False
        fewer = {one[:at] + one[at + 1 :] for at in range(len(one))}
        more = {other[:at] + other[at + 1 :] for at in range(len(other))}
        swapped = {one[:at] + one[at : at + 2][::-1] + one[at + 2 :] for at in range(len(one) - 1)}
        same = len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
        return other in fewer or one in more or other in swapped or same

    assert Typos(words).near(word) == tuple(number for number, one in enumerate(words) if near(word, one))
