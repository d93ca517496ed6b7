"""PDQ hashes, compared with those that the authors' own program gave for the same pixels (``reference.json``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.comparison.pictures.hashes import FORMS, MIRRORED, NEAR, QUALITY, Form, distance
from shared.comparison.pictures.pdq import SIDE_MAX, Pixels, _sampling, hashed, luma
from tests.unit.shared.comparison.pictures.drawn import scene

# in each picture the frequencies nearest to the median are a hundred rounding errors away from it
REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "reference.json").read_text())


@pytest.mark.parametrize("given", REFERENCE["pictures"], ids=lambda one: f"{one['width']}x{one['height']}")
def test_hash_quality_and_all_forms_are_those_of_the_authors_program(given: dict[str, Any]) -> None:
    found = hashed(scene(given["seed"], given["height"], given["width"], given["things"]))
    assert [f"{form:064x}" for form in found.forms] == given["forms"]
    assert found.quality == given["quality"]
    assert found.pdq == given["forms"][0]


def turned(picture: Pixels, form: Form) -> Pixels:
    """The picture turned by moving its pixels."""
    by: dict[Form, Pixels] = {
        "as_is": picture,
        "quarter": np.rot90(picture),
        "half": np.rot90(picture, 2),
        "three_quarters": np.rot90(picture, 3),
        "upside_down": picture[::-1],
        "mirrored": picture[:, ::-1],
        "transposed": picture.swapaxes(0, 1),
        "transverse": np.rot90(picture, 2).swapaxes(0, 1),
    }
    return by[form]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_hash_of_the_picture_turned_that_way_and_of_no_other(form: Form) -> None:
    picture = scene(20, 400, 300)
    there = hashed(turned(picture, form)).forms[0]
    apart = {name: distance(one, there) for name, one in zip(FORMS, hashed(picture).forms, strict=True)}
    assert apart.pop(form) <= NEAR
    assert min(apart.values()) > 2 * NEAR


def test_a_mirror_turns_a_hand_into_the_other_and_a_turn_does_not() -> None:
    # the sign of the area of three corners tells
    corners = np.zeros((3, 9, 9), np.uint8)
    for number, (row, column) in enumerate(((0, 0), (0, 8), (8, 0))):
        corners[number, row, column] = 1
    for form in FORMS:
        (a, b, c) = (np.argwhere(turned(one, form) == 1)[0] for one in corners)
        area = (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]
        assert (area > 0) == (form in MIRRORED), form


def test_grey_is_what_its_three_equal_channels_are() -> None:
    grey = scene(21, 200, 200)[..., 0]
    assert hashed(grey) == hashed(np.repeat(grey[:, :, None], 3, axis=2))
    assert np.allclose(luma(np.array([[[100, 0, 0], [0, 100, 0], [0, 0, 100]]], np.uint8)), [[29.9, 58.7, 11.4]])


@pytest.mark.parametrize("side", [5, 63, 64, 65, 128, 129, 1000, SIDE_MAX])
def test_a_sample_weighs_its_pixels_to_one_and_looks_both_ways(side: int) -> None:
    rows = _sampling(side)
    assert rows.shape == (64, side)
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert (rows >= -1e-9).all()
    # a sample far from the edges reaches as many pixels as two windows do
    window = -(-side // 128)
    assert (np.count_nonzero(rows[32] > 1e-9)) == 2 * window - 1


def test_what_has_nothing_in_it_has_no_quality() -> None:
    assert hashed(np.full((300, 300, 3), 200, np.uint8)).quality == 0
    assert hashed(scene(22, 300, 300, things=1)).quality < QUALITY
    assert hashed(scene(22, 300, 300, things=200)).quality >= QUALITY
    # too small for the filter
    assert hashed(np.zeros((4, 400), np.uint8)).quality == 0


def test_a_side_is_bounded() -> None:
    with pytest.raises(ValueError, match="2048"):
        hashed(np.zeros((10, SIDE_MAX + 1), np.uint8))
