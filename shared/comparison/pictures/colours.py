"""How alike the colours of two pictures are, whatever their brightness. Pure.

The hash and the details see no colours, so the same shoe in red and in blue are one picture to them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.comparison.pictures.pdq import Pixels
from shared.comparison.pictures.types import WHOLE, Box

SIDE: Final = 64
"""Points a side that are looked at."""
STEPS: Final = 9
"""Steps of each of the two scales, red to green and yellow to blue. The middle one has no colour."""
COLOURED: Final = 0.05
"""With a smaller share of coloured points in both, pictures are compared with what has no colour."""
_SPAN: Final = 160.0
"""The scales end at so much difference to either side; little is beyond that."""

Shades = NDArray[np.int16]
"""64 x 64 points, each with its place on the two scales."""


def shades(pixels: Pixels) -> Shades:
    """The colours of a picture without their brightness."""
    height, width = pixels.shape[:2]
    rows = ((np.arange(SIDE) + 0.5) * height / SIDE).astype(int)
    columns = ((np.arange(SIDE) + 0.5) * width / SIDE).astype(int)
    points = pixels[rows][:, columns].astype(np.int16)
    if points.ndim == 2:
        return np.zeros((SIDE, SIDE, 2), np.int16)
    red, green, blue = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([red - green, (red + green) // 2 - blue], axis=-1)


def _counted(part: Shades) -> NDArray[np.float64]:
    """Shares of each colour; a point between two steps counts for both, so a small change changes little."""
    at = np.clip((part.reshape(-1, 2) + _SPAN) / (2 * _SPAN), 0, 1) * (STEPS - 1)
    low = np.minimum(at.astype(int), STEPS - 2)
    over = at - low
    shares = np.zeros((STEPS, STEPS))
    for one in (0, 1):
        for two in (0, 1):
            weight = np.abs(1 - one - over[:, 0]) * np.abs(1 - two - over[:, 1])
            np.add.at(shares, (low[:, 0] + one, low[:, 1] + two), weight)
    return shares / len(at)


def alike(one: Shades, other: Shades, box: Box = WHOLE) -> float:
    """How alike the colours of ``other`` and of a part of ``one`` are, 0 to 1."""
    left, right = int(box.left * SIDE), max(int(box.left * SIDE) + 1, round(box.right * SIDE))
    top, bottom = int(box.top * SIDE), max(int(box.top * SIDE) + 1, round(box.bottom * SIDE))
    shown, meant = _counted(one[top:bottom, left:right]), _counted(other)
    common = float(np.minimum(shown, meant).sum())
    # a white ground around the goods is no likeness
    ground = float(min(shown[STEPS // 2, STEPS // 2], meant[STEPS // 2, STEPS // 2]))
    if ground <= 1 - COLOURED:
        common = (common - ground) / (1 - ground)
    return round(min(1.0, common), 3)
