"""Pictures compared: what a change leaves recognisable, where it is found, and what speaks against it."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image, ImageFilter, ImageOps

from shared.comparison.pictures import Box, Finding, Hashed, Picture, Reference, compare, find
from shared.comparison.pictures.comparing import ENOUGH, SURE, WEIGHTS
from shared.comparison.pictures.looking import SIDE, looked, pixels
from shared.comparison.pictures.types import WHOLE, Kind
from tests.unit.shared.comparison.pictures.drawn import scene

Change = Callable[[Image.Image], Image.Image]
SEEDS: Final = range(30, 34)


@cache
def drawn(seed: int, things: int = 120) -> Image.Image:
    return Image.fromarray(scene(seed, 600, 800, things))


def listed(image: Image.Image, *, stock: bool = False) -> Picture:
    return looked("p", "listed", pixels(image), stock=stock)


def right(image: Image.Image, kind: Kind = "work") -> Reference:
    return Reference(looked("r", "right", pixels(image)), kind)


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=35)
    return Image.open(io.BytesIO(file.getvalue()))


def cut(image: Image.Image) -> Image.Image:
    return image.crop((80, 60, 720, 540))


def pasted(image: Image.Image) -> Image.Image:
    """In the lower right quarter of another picture."""
    ground = drawn(99).resize((1200, 900))
    ground.paste(image.resize((600, 450)), (600, 450))
    return ground


WHOLE_PICTURE: Final[dict[str, Change]] = {
    "recompressed": recompressed,
    "smaller": lambda image: image.resize((400, 300)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "a quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
}
PARTS: Final[dict[str, tuple[Change, Box]]] = {
    "tilted": (lambda image: image.rotate(6, expand=True, fillcolor=(255, 255, 255)), WHOLE),
    # beyond the edges, as far as there is a picture
    "cut": (cut, WHOLE),
    "framed": (lambda image: ImageOps.expand(image, border=100, fill=(200, 30, 30)), Box(0.1, 0.125, 0.9, 0.875)),
    "pasted": (pasted, Box(0.5, 0.5, 1.0, 1.0)),
}


def near(one: Box, other: Box, within: float = 0.05) -> bool:
    pairs = zip(
        (one.left, one.top, one.right, one.bottom), (other.left, other.top, other.right, other.bottom), strict=True
    )
    return all(abs(a - b) <= within for a, b in pairs)


@pytest.mark.parametrize("name", WHOLE_PICTURE)
def test_a_whole_picture_is_found_by_its_hash_and_confirmed_by_its_details(name: str) -> None:
    for seed in SEEDS:
        original = drawn(seed)
        found = compare(listed(WHOLE_PICTURE[name](original)), right(original))
        assert found is not None
        assert (found.rule, found.against) == ("same_picture", ()), (seed, found)
        assert found.score == 0.98
        assert near(found.box, WHOLE)
        assert found.mirrored == (name in ("mirrored", "upside down"))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_found_by_its_details_alone_and_where_it_is(name: str) -> None:
    change, box = PARTS[name]
    for seed in SEEDS:
        original = drawn(seed)
        found = compare(listed(change(original)), right(original))
        assert found is not None
        assert (found.rule, found.against, found.mirrored) == ("same_parts", (), False), (seed, found)
        assert found.distance is not None
        assert found.distance > 31
        assert near(found.box, box), (seed, found.box)
        assert 0.7 <= found.score <= 0.9
        assert (found.score == 0.9) == ((found.inliers or 0) >= SURE)


def test_unrelated_pictures_have_nothing_in_common() -> None:
    all_of_them = [
        looked("p", f"{seed}", pixels(drawn(seed, things)))
        for things in (15, 60, 240)
        for seed in range(things, things + 6)
    ]
    for number, one in enumerate(all_of_them):
        for other in all_of_them[number + 1 :]:
            assert compare(one, Reference(other, "work")) is None


def found_of(**changes: object) -> Finding:
    """The finding of a smaller copy, of which something else is known than is."""
    original = drawn(40)
    known = listed(original.resize((400, 300)))
    fields = {name: getattr(known, name) for name in Picture.__slots__} | changes
    found = compare(Picture(**fields), right(original))
    assert found is not None
    return found


def test_the_same_file_is_the_same_picture_whatever_else_is_known() -> None:
    found = found_of(sha256="right", hashed=None, details=None, shades=None)
    assert (found.rule, found.certainty, found.score, found.against) == ("same_file", 1.0, 1.0, ())
    empty = found_of(sha256="right", hashed=Hashed((0,) * 8, 12))
    assert (empty.score, empty.against) == (WEIGHTS["low_quality"], ("low_quality",))


def test_hashes_alone_are_no_more_than_alike() -> None:
    known = found_of()
    only = found_of(details=None, shades=None)
    assert known.rule == "same_picture"
    assert (only.rule, only.against, only.inliers, only.colours) == ("alike", ("details_unknown",), None, None)
    assert only.distance == known.distance
    assert 0.3 <= only.score <= 0.6
    assert found_of(details=None, hashed=Hashed(listed(drawn(40)).hashed.forms, 100)).score == 0.6  # type: ignore[union-attr]


def test_details_that_differ_outweigh_near_hashes() -> None:
    other = listed(drawn(41))
    found = found_of(details=other.details)
    assert (found.rule, found.against) == ("alike", ("details_differ",))
    assert found.score == round(found.certainty * WEIGHTS["details_differ"], 4)
    assert (found.inliers or 0) < ENOUGH


def test_a_hash_of_low_quality_counts_for_little_where_only_hashes_are_near() -> None:
    hashed = listed(drawn(40)).hashed
    assert hashed is not None
    low = replace(hashed, quality=49)
    found = found_of(hashed=low, details=None)
    assert found.against == ("details_unknown", "low_quality")
    assert found.score == round(found.certainty * WEIGHTS["low_quality"], 4)
    # details that agree need no hash
    assert (found_of(hashed=low).rule, found_of(hashed=low).against) == ("same_parts", ())


def product(seed: int, colour: str) -> Image.Image:
    """Goods of one colour, before white."""
    goods = ImageOps.colorize(drawn(seed).convert("L"), "black", "white", mid=colour).resize((400, 300))
    ground = Image.new("RGB", (800, 600), "white")
    ground.paste(goods, (200, 150))
    return ground


def test_other_colours_are_another_product() -> None:
    red, blue = product(42, "red"), product(42, "blue")
    found = compare(listed(blue), right(red))
    assert found is not None
    assert found.colours is not None
    assert found.colours < 0.5
    assert found.against == ("other_colours",)
    assert found.score == round(found.certainty * WEIGHTS["other_colours"], 4)


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: image.point(lambda value: value * 0.8),
        lambda image: ImageOps.expand(image, border=100, fill="white"),
        lambda image: image.convert("L"),
    ],
    ids=["recompressed", "darker", "framed", "grey"],
)
def test_colours_are_the_same_in_another_light_or_on_a_larger_ground(
    change: Change, request: pytest.FixtureRequest
) -> None:
    original = product(42, "red")
    found = compare(listed(change(original)), right(original))
    assert found is not None
    assert found.colours is not None
    # without colours it is another picture of the goods
    assert ("other_colours" in found.against) == (found.colours < 0.5) == ("grey" in request.node.name)


@pytest.mark.parametrize(("kind", "aid"), [("work", False), ("goods", False), ("design", True), ("logo", True)])
def test_designs_and_logos_help_a_person_and_weigh_nothing(kind: Kind, aid: bool) -> None:
    original = drawn(43)
    found = compare(listed(original.resize((400, 300))), right(original, kind))
    assert found is not None
    assert found.certainty == 0.98
    assert found.score == (0.0 if aid else 0.98)
    assert ("aid" in found.against) == aid


def test_a_stock_picture_proves_nothing_and_stays_visible() -> None:
    original = drawn(44)
    found = compare(listed(original, stock=True), right(original))
    assert found is not None
    assert (found.certainty, found.score, found.against) == (0.98, 0.0, ("stock",))


def test_findings_come_surest_first_and_name_both_pictures() -> None:
    one, other = drawn(45), drawn(46)
    listing = [
        looked("p1", "1", pixels(cut(one))),
        looked("p2", "2", pixels(other)),
        looked("p3", "3", pixels(drawn(47))),
    ]
    rights = [
        Reference(looked("r1", "4", pixels(one)), "work"),
        Reference(looked("r2", "2", pixels(other)), "goods"),
        Reference(looked("r3", "5", pixels(other)), "design"),
    ]
    found = find(listing, rights)
    assert [(finding.picture, finding.reference, finding.rule) for finding in found] == [
        ("p2", "r2", "same_file"),
        ("p1", "r1", "same_parts"),
        ("p2", "r3", "same_picture"),
    ]


def test_a_picture_is_looked_at_as_a_page_shows_it() -> None:
    original = drawn(48)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    original.transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=95, exif=exif)
    shown = pixels(Image.open(turned))
    assert shown.shape == (600, 800, 3)
    assert np.abs(shown.astype(int) - np.asarray(original)).mean() < 6
    clear = original.convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    assert (pixels(clear) == 255).all()
    assert pixels(Image.new("1", (3000, 20))).shape == (7, SIDE, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 1024), (1024, 1), (4, 4), (5, 5), (7, 1024), (31, 33), (1024, 1024)])
def test_a_picture_of_any_size_is_looked_at_and_has_itself_only(size: tuple[int, int]) -> None:
    there = right(drawn(50))
    for colour in ("white", "black", "red"):
        plain = listed(Image.new("RGB", size, colour))
        assert compare(plain, there) is None
        itself = compare(plain, Reference(looked("r", "right", pixels(Image.new("RGB", size, colour))), "work"))
        # two plain surfaces are the same hash, which says nothing
        assert itself is not None
        assert itself.against == ("few_details", "low_quality")
        assert itself.score < 0.2
    small = listed(drawn(51).resize(size))
    assert compare(small, there) is None


def test_a_large_jpeg_is_not_decoded_whole_and_looks_the_same() -> None:
    original = drawn(49).resize((4000, 3000))
    file = io.BytesIO()
    original.save(file, "JPEG", quality=90)
    shown = pixels(Image.open(file))
    assert shown.shape == (768, 1024, 3)
    found = compare(looked("p", "a", shown), right(drawn(49)))
    assert found is not None
    assert found.rule == "same_picture"
