"""Pictures of a population: works of holders, copies of them, and what sellers took themselves.

Pure: a name and a seed make the same picture. All are drawn, so nobody has rights in them. How they are drawn, copied
and told apart has nothing in common with the library that compares them.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from labs.population.generator import PICTURED, Listing

SIDES: Final = (640, 480)


def drawn(name: str) -> Image.Image:
    """A picture of its own: goods of some shapes in front of a background."""
    dice = random.Random(f"picture {name}")

    def colour() -> tuple[int, int, int]:
        return dice.randrange(256), dice.randrange(256), dice.randrange(256)

    across, down = dice.randint(8, 60), dice.randint(6, 45)
    cloth = Image.frombytes("L", (across, down), dice.randbytes(across * down)).resize(SIDES, Image.Resampling.BICUBIC)
    image = ImageOps.colorize(cloth, colour(), colour())
    draw = ImageDraw.Draw(image)
    width, height = SIDES
    for _ in range(dice.randint(12, 30)):
        across, down = dice.randint(20, width // 3), dice.randint(20, height // 3)
        left, top = dice.randint(0, width - across), dice.randint(0, height - down)
        box = (left, top, left + across, top + down)
        shape = dice.choice(("ellipse", "rectangle", "line", "polygon"))
        if shape == "ellipse":
            draw.ellipse(box, fill=colour(), outline=colour(), width=dice.randint(1, 6))
        elif shape == "rectangle":
            draw.rounded_rectangle(box, dice.randint(0, 30), fill=colour(), outline=colour(), width=dice.randint(1, 6))
        elif shape == "line":
            draw.line(box, fill=colour(), width=dice.randint(2, 12))
        else:
            corners = [(dice.randint(left, box[2]), dice.randint(top, box[3])) for _ in range(dice.randint(3, 7))]
            draw.polygon(corners, fill=colour(), outline=colour())
    return image


def _framed(image: Image.Image, dice: random.Random) -> Image.Image:
    """In the frame that a shop puts around all of its pictures."""
    return ImageOps.expand(image, dice.randint(10, 40), dice.choice(("white", "gold", "navy")))


def _cut(image: Image.Image, dice: random.Random) -> Image.Image:
    left, top, right, bottom = (dice.uniform(0, 0.12) for _ in range(4))
    width, height = image.size
    return image.crop((int(width * left), int(height * top), int(width * (1 - right)), int(height * (1 - bottom))))


def _captioned(image: Image.Image, dice: random.Random) -> Image.Image:
    image = image.copy()
    draw, (width, height) = ImageDraw.Draw(image), image.size
    top = dice.choice((0, int(height * 0.85)))
    draw.rectangle((0, top, width, top + int(height * 0.15)), fill=dice.choice(("red", "black", "white")))
    draw.text((width // 10, top + height // 25), dice.choice(("SALE -50%", "FREE SHIPPING", "BEST PRICE")), "yellow")
    return image


WAYS: Final[tuple[Callable[[Image.Image, random.Random], Image.Image], ...]] = (
    lambda image, _: image,
    _framed,
    _cut,
    _captioned,
    lambda image, dice: image.rotate(dice.uniform(-4, 4), fillcolor="white"),
    lambda image, _: ImageOps.mirror(image),
)
"""What a seller does to a picture that it copies."""


def _file(image: Image.Image, dice: random.Random) -> bytes:
    share = dice.uniform(0.4, 1.0)
    out = io.BytesIO()
    image.resize((int(image.width * share), int(image.height * share))).save(out, "JPEG", quality=dice.randint(55, 95))
    return out.getvalue()


def _work(mark: str) -> Image.Image:
    return drawn(f"work {mark}")


def specimen(mark: str) -> bytes:
    """The work of a holder, as it filed it."""
    out = io.BytesIO()
    _work(mark).save(out, "PNG")
    return out.getvalue()


def shown(listing: Listing) -> bytes | None:
    """What a listing shows; None: no picture that matters to a claim.

    Of kind ``copied`` and ``shared`` it is the holder's work; whose picture that is in truth, no picture tells.
    """
    if listing.kind not in PICTURED:
        return None
    dice = random.Random(f"shown {listing.id}")
    picture = drawn(listing.id) if listing.kind == "own" else _work(listing.mark)
    return _file(dice.choice(WAYS)(picture, dice), dice)
