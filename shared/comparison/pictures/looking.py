"""What is taken from a picture's pixels. Pure: whoever decodes a stranger's file does so in a process of its own.

Needs NumPy, OpenCV and Pillow.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageOps

from shared.comparison.pictures.colours import shades
from shared.comparison.pictures.comparing import Picture
from shared.comparison.pictures.details import details
from shared.comparison.pictures.pdq import Pixels, hashed

SIDE: Final = 1024
"""Pixels of the longer side to which a picture is made smaller. Hash, details and colours need no more."""


def pixels(image: Image.Image) -> Pixels:
    """The picture as a page shows it: turned as its camera says, on white where it is transparent, at most 1024 a side.

    Opens the file's data if they are not yet: an error of the decoder comes from here.
    """
    if image.format == "JPEG" and max(image.size) > 2 * SIDE:
        image.draft("RGB", (SIDE, SIDE))  # the decoder then leaves out what would be thrown away
    turned = ImageOps.exif_transpose(image)
    if turned.has_transparency_data:
        clear = turned.convert("RGBA")
        turned = Image.new("RGB", clear.size, (255, 255, 255))
        turned.paste(clear, mask=clear.getchannel("A"))
    shown = turned.convert("RGB")
    if max(shown.size) > SIDE:
        shown.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(shown)


def looked(id: str, sha256: str, found: Pixels, *, stock: bool = False) -> Picture:
    """All that is compared of a picture."""
    return Picture(
        id=id, sha256=sha256, hashed=hashed(found), details=details(found), shades=shades(found), stock=stock
    )
