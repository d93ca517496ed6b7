"""Comparison of hashes: distances, the eight forms, candidates, stock pictures."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comparison.pictures import Hashed, candidates, stock
from shared.comparison.pictures.hashes import FORMS, NEAR, QUALITY, distance, nearest

HASH = st.integers(min_value=0, max_value=2**256 - 1)
FULL = st.lists(HASH, min_size=8, max_size=8).map(lambda forms: Hashed(tuple(forms), 100))


@given(HASH, st.sets(st.integers(0, 255)))
def test_the_distance_counts_the_bits_that_differ(hash: int, flipped: set[int]) -> None:
    other = hash
    for bit in flipped:
        other ^= 1 << bit
    assert distance(hash, other) == len(flipped)


@given(FULL, HASH, st.integers(0, 7))
def test_whichever_of_two_is_known_in_all_forms_finds_the_other(full: Hashed, noise: int, at: int) -> None:
    # 20 bits off the given form
    seen = Hashed((full.forms[at] ^ (noise & ((1 << 20) - 1)),), 100)
    bits, form = nearest(full, seen)
    assert bits <= 20
    assert bits == nearest(seen, full)[0]
    assert distance(full.forms[FORMS.index(form or "as_is")], seen.forms[0]) == bits


def test_a_published_hash_is_read_and_written_alike() -> None:
    text = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
    assert Hashed.published(text, 100).pdq == text
    assert Hashed.published("0" * 63 + "1", 100).forms == (1,)
    for bad in ("", text[:-1], "x" * 64, f" {text[2:]} "):
        with pytest.raises(ValueError):
            Hashed.published(bad, 100)


def test_candidates_are_within_31_bits_of_a_quality_that_tells_something() -> None:
    query = Hashed((0,), QUALITY)
    others = [
        ("at the limit", Hashed(((1 << NEAR) - 1,), QUALITY)),
        ("beyond it", Hashed(((1 << (NEAR + 1)) - 1,), 100)),
        ("equal", Hashed((0,), 100)),
        ("of no quality", Hashed((0,), QUALITY - 1)),
    ]
    assert candidates(query, others) == [(0, "equal"), (31, "at the limit")]
    assert candidates(Hashed((0,), QUALITY - 1), others) == []


def test_three_unrelated_sellers_make_a_stock_picture() -> None:
    assert not stock([])
    assert not stock(["e1", "e2", "e1", "e2"])
    assert stock(["e1", "e2", "e3"])


def test_hashes_are_compared_without_numpy_opencv_and_pillow() -> None:
    program = """
import sys
for name in ("numpy", "cv2", "PIL"):
    sys.modules[name] = None  # an import of it fails
from shared.comparison.pictures import Hashed, Picture, Reference, find
one = Picture(id="p", sha256="a", hashed=Hashed((7,), 90))
other = Picture(id="r", sha256="b", hashed=Hashed((6,), 90))
print([(found.rule, found.distance, found.against) for found in find([one], [Reference(other, "work")])])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[('alike', 1, ('details_unknown',))]\n"
