"""Pictures that code draws, the same each time: no file of others is needed, and nothing depends on a library's random."""

from __future__ import annotations

import random

import numpy as np

from shared.comparison.pictures.pdq import Pixels


def scene(seed: int, height: int, width: int, things: int = 60) -> Pixels:
    """Rectangles and ellipses of many sizes and colours on a sloping ground, by whole numbers only."""
    dice = random.Random(seed)
    y, x = np.mgrid[0:height, 0:width]
    slope = (dice.randrange(-90, 90) * y // height + dice.randrange(-90, 90) * x // width) + 128
    picture = np.clip(slope, 0, 255)[:, :, None] * np.ones(3, dtype=int)
    for _ in range(things):
        top, left = dice.randrange(height), dice.randrange(width)
        tall = 2 + dice.randrange(max(1, height // dice.choice((3, 6, 12, 24))))
        wide = 2 + dice.randrange(max(1, width // dice.choice((3, 6, 12, 24))))
        rows = slice(max(0, top - tall), top + tall + 1)
        columns = slice(max(0, left - wide), left + wide + 1)
        down, across = abs(y[rows, columns] - top) * 2, abs(x[rows, columns] - left) * 2
        if dice.random() < 0.5:
            inside = (down < tall) & (across < wide)
        else:
            inside = (down * wide) ** 2 + (across * tall) ** 2 < (tall * wide) ** 2
        picture[rows, columns][inside] = [dice.randrange(256) for _ in range(3)]
    return picture.astype(np.uint8)
