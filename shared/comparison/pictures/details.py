"""Whether the details of one picture lie in another as they should: ORB and RANSAC. Pure.

Details are corners, each described by 256 bits that a turn does not change. Those of two pictures are paired, and the
shift, turn and scale is sought on which most pairs agree. So a picture is found after a cut, in a frame, tilted, or as
a part of another. This module needs OpenCV; what compares hashes does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.comparison.pictures.pdq import Pixels, luma
from shared.comparison.pictures.types import WHOLE, Box

SIDE: Final = 640
"""Pixels of the longer side at which details are sought, so that those of a small copy have the same size."""
LARGER: Final = 4.0
"""A smaller picture is enlarged by no more."""
MOST: Final = 800
"""Details of a picture."""
RATIO: Final = 0.8
"""A detail is paired with its nearest if that is nearer than the second by this factor."""
REACH: Final = 4.0
"""Pixels by which a pair may miss the place that the others say."""
SCALES: Final = (1 / 8, 8.0)
TRIES: Final = 2000
EDGE: Final = 31
"""Pixels from each edge within which ORB seeks no details."""


@dataclass(frozen=True, slots=True)
class Details:
    """The details of a picture.

    Attributes:
        places: in shares of the longer side, a row each.
        signs: 32 bytes each; ``mirrored``: as in a mirror, where ``turned`` are the places.
    """

    width: float
    height: float
    places: NDArray[np.float32]
    signs: Pixels
    turned: NDArray[np.float32]
    mirrored: Pixels

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two pictures agree on.

    Attributes:
        inliers: details that lie where they should.
        share: of the second picture that these span.
        box: where the second picture is in the first.
    """

    inliers: int
    share: float
    box: Box
    mirrored: bool


def _sought(grey: Pixels) -> tuple[NDArray[np.float32], Pixels]:
    if min(grey.shape) <= 2 * EDGE:
        # OpenCV fails on a picture of a few pixels
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    orb: Any = cv2.ORB_create(nfeatures=MOST, scaleFactor=1.2, nlevels=8, edgeThreshold=EDGE, fastThreshold=10)  # type: ignore[attr-defined,unused-ignore]
    points, signs = orb.detectAndCompute(grey, None)
    if signs is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    return np.array([point.pt for point in points], np.float32), np.asarray(signs, np.uint8)


def details(pixels: Pixels) -> Details:
    """The details of a picture."""
    height, width = pixels.shape[:2]
    grey = np.rint(luma(pixels)).astype(np.uint8)
    scale = min(SIDE / max(width, height), LARGER)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        grey = np.asarray(cv2.resize(grey, size, interpolation=how), np.uint8)
    side = np.float32(max(grey.shape))
    places, signs = _sought(grey)
    turned, mirrored = _sought(np.ascontiguousarray(grey[:, ::-1]))
    return Details(grey.shape[1] / side, grey.shape[0] / side, places / side, signs, turned / side, mirrored)


def agreement(one: Details, other: Details) -> Agreement:
    """What two pictures agree on, the second as it is or mirrored."""
    plain, mirrored = (
        _agreed(one, other, other.places, other.signs, mirrored=False),
        _agreed(one, other, other.turned, other.mirrored, mirrored=True),
    )
    return mirrored if mirrored.inliers > plain.inliers else plain


def _agreed(one: Details, other: Details, places: NDArray[np.float32], signs: Pixels, *, mirrored: bool) -> Agreement:
    nothing = Agreement(0, 0.0, WHOLE, mirrored)
    if len(signs) < 2 or one.count < 2:
        return nothing
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    pairs = [
        (pair[0].queryIdx, pair[0].trainIdx)
        for pair in matcher.knnMatch(signs, one.signs, k=2)
        if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance
    ]
    if len(pairs) < 3:
        return nothing
    source = places[[pair[0] for pair in pairs]] * SIDE
    target = one.places[[pair[1] for pair in pairs]] * SIDE
    matrix, mask = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=TRIES
    )
    if matrix is None:
        return nothing
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not SCALES[0] <= scale <= SCALES[1]:
        return nothing
    agreed = np.asarray(mask).ravel().astype(bool)
    # several details of one spot count once
    spots = {tuple(spot) for spot in np.rint(target[agreed] / (2 * REACH)).astype(int).tolist()}
    within = source[agreed]
    share = float(np.ptp(within[:, 0]) * np.ptp(within[:, 1])) / (other.width * other.height * SIDE * SIDE)
    corners = np.array([(x, y) for x in (0, other.width) for y in (0, other.height)], np.float32) * SIDE
    there = corners @ np.asarray(matrix)[:, :2].T + np.asarray(matrix)[:, 2]
    left, top = np.clip(there.min(axis=0) / SIDE / (one.width, one.height), 0, 1).tolist()
    right, bottom = np.clip(there.max(axis=0) / SIDE / (one.width, one.height), 0, 1).tolist()
    if right <= left or bottom <= top:
        return nothing
    box = Box(*(round(edge, 3) for edge in (left, top, right, bottom)))
    return Agreement(len(spots), round(share, 3), box, mirrored)
