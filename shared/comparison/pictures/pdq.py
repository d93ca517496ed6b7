"""The PDQ hash of a picture, by matrices. Pure.

PDQ (Meta, 2018) blurs the luminance by a tent filter, samples 64 x 64 points, and takes 16 x 16 frequencies of their
cosine transform; a bit says whether a frequency is above their median. The filter works on rows and columns apart, so
filter and sampling are one matrix for each side. ``tests/unit/shared/comparison/pictures`` compares the result with
that of the authors' own program.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.comparison.pictures.hashes import Hashed

Pixels = NDArray[np.uint8]
"""Rows of pixels: grey (two dimensions), or red, green and blue (three)."""
Floats = NDArray[np.float32]

SIDE_MIN: Final = 5
SIDE_MAX: Final = 2048
"""Longest side that is hashed. A larger picture is made smaller before, which changes next to nothing."""
SAMPLES: Final = 64
FREQUENCIES: Final = 16
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def luma(pixels: Pixels) -> Floats:
    """The luminance, 0 to 255."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    found: Floats = pixels.astype(np.float32) @ _LUMA
    return found


@lru_cache(maxsize=64)
def _sampling(side: int) -> Floats:
    """64 rows: how much each of ``side`` pixels counts in a sample, after two passes of a box filter."""
    window = -(-side // (2 * SAMPLES))
    right = (window + 2) // 2 - 1
    left = window - 1 - right
    at = np.arange(side)
    low, high = np.maximum(at - left, 0), np.minimum(at + right, side - 1) + 1
    share = 1.0 / (high - low)
    rows = np.zeros((SAMPLES, side))
    for row, centre in enumerate(((np.arange(SAMPLES) + 0.5) * side / SAMPLES).astype(int)):
        second = slice(low[centre], high[centre])
        weight = share[second] * share[centre]
        steps = np.zeros(side + 1)
        np.add.at(steps, low[second], weight)
        np.add.at(steps, high[second], -weight)
        rows[row] = np.cumsum(steps)[:side]
    return rows.astype(np.float32)


@lru_cache(maxsize=1)
def _cosines() -> Floats:
    wave, point = np.arange(1, FREQUENCIES + 1)[:, None], 2 * np.arange(SAMPLES)[None, :] + 1
    found: Floats = (np.sqrt(2 / SAMPLES) * np.cos(np.pi / 2 / SAMPLES * wave * point)).astype(np.float32)
    return found


def sampled(grey: Floats) -> Floats:
    """The picture as 64 x 64 points."""
    rows, columns = grey.shape
    return np.asarray(_sampling(rows) @ grey @ _sampling(columns).T, np.float32)


def quality(points: Floats) -> int:
    """How much there is in a picture, 0 to 100: its steep gradients."""
    steps = (np.diff(points, axis=0), np.diff(points, axis=1))
    return min(100, int(sum(np.abs(np.trunc(step * 100 / 255)).sum() for step in steps)) // 90)


_ODD: Final = np.arange(FREQUENCIES) % 2 == 1
_SIGN: Final = np.where(_ODD, 1, -1).astype(np.float32)
"""Mirroring turns the sign of the frequencies 1, 3, 5 ..., which are at the even places."""


def _forms(found: Floats) -> tuple[Floats, ...]:
    """The frequencies of the picture turned in eight ways, in the order of ``FORMS``."""
    down, side = found * _SIGN[:, None], found * _SIGN[None, :]
    both = down * _SIGN[None, :]
    return (found, side.T, both, down.T, down, side, found.T, both.T)


def _bits(found: Floats) -> int:
    flat = found.ravel()
    median = np.partition(flat, flat.size // 2 - 1)[flat.size // 2 - 1]
    return int.from_bytes(np.packbits(flat > median, bitorder="little").tobytes(), "little")


def hashed(pixels: Pixels) -> Hashed:
    """The hash of a picture in all its forms. Of quality 0 if it is too small to be hashed.

    Raises:
        ValueError: a side is longer than ``SIDE_MAX``.
    """
    if max(pixels.shape[:2]) > SIDE_MAX:
        raise ValueError(f"a picture to be hashed has at most {SIDE_MAX} pixels a side")
    if min(pixels.shape[:2]) < SIDE_MIN:
        return Hashed((0,) * 8, 0)
    points = sampled(luma(pixels))
    frequencies = np.asarray(_cosines() @ points @ _cosines().T, np.float32)
    return Hashed(tuple(map(_bits, _forms(frequencies))), quality(points))
