"""`OPENBLAS_NUM_THREADS=1 python -m labs.bench.pictures FOLDER`: what comparing pictures costs, and what it finds again.

FOLDER has pictures of any kind, in folders of any depth; of those that show the same thing, one is taken. They are not
in the repository: those measured are of `pdq/data` in the public repository facebook/ThreatExchange. Times are CPU times
on one thread, each as a multiple of the time for decoding, since machines differ. What is found again is counted among
pictures whose hash tells something.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from shared.comparison.pictures import Picture, Reference, compare, find
from shared.comparison.pictures.colours import shades
from shared.comparison.pictures.details import agreement, details
from shared.comparison.pictures.hashes import QUALITY
from shared.comparison.pictures.looking import looked, pixels
from shared.comparison.pictures.pdq import hashed

ROUNDS: Final = 3
MOST: Final = 200
"""Pictures that are looked at."""
Change = Callable[[Image.Image], Image.Image]


def recompressed(image: Image.Image, quality: int = 30) -> Image.Image:
    """Through a JPEG of low quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


def _cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    left, top = round(width * share), round(height * share)
    return image.crop((left, top, width - left, height - top))


CHANGES: Final[dict[str, Change]] = {
    "recompressed": recompressed,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "a quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": ImageOps.mirror,
    "tilted by 6 degrees": lambda image: image.rotate(6, expand=True, fillcolor="white"),
    "cut by 10 %": lambda image: _cut(image, 0.1),
    "framed by 10 %": lambda image: ImageOps.expand(image, border=round(max(image.size) * 0.1), fill="red"),
    "cut by 25 %": lambda image: _cut(image, 0.25),
}


def pictures(folder: Path) -> list[Image.Image]:
    """The pictures of a folder, at most 1024 pixels a side, without those that show the same as one before."""
    taken: list[Image.Image] = []
    references: list[Reference] = []
    for path in sorted(folder.rglob("*")):
        try:
            found = pixels(Image.open(path))
        except (UnidentifiedImageError, IsADirectoryError):
            continue
        picture = looked(path.name, str(path), found)
        if picture.hashed is not None and picture.hashed.quality >= QUALITY and not find([picture], references):
            references.append(Reference(picture, "work"))
            taken.append(Image.fromarray(found))
        if len(taken) == MOST:
            break
    return taken


def spent(work: Callable[[], object]) -> float:
    """CPU seconds, the least of all rounds."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def main() -> None:
    """Print one JSON object."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        sys.exit("set OPENBLAS_NUM_THREADS=1: threads that wait for each other would be measured")
    cv2.setNumThreads(1)
    images = pictures(Path(sys.argv[1]))
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    shown = [pixels(image) for image in images]
    known = [looked(f"{number}", f"{number}", found) for number, found in enumerate(shown)]
    pairs = [(one, other) for number, one in enumerate(known) for other in known[number + 1 :]]
    decoding = spent(lambda: [pixels(Image.open(io.BytesIO(file))) for file in files])
    ratios = {
        "hash": spent(lambda: [hashed(found) for found in shown]) / decoding,
        "details": spent(lambda: [details(found) for found in shown]) / decoding,
        "colours": spent(lambda: [shades(found) for found in shown]) / decoding,
        "pair": spent(lambda: [compare(one, Reference(other, "work")) for one, other in pairs])
        / len(pairs)
        / (decoding / len(files)),
    }
    print(
        json.dumps(
            {
                "pictures": len(images),
                "megapixels": round(sum(image.width * image.height for image in images) / 1e6, 1),
                "decoding_ms": round(decoding / len(files) * 1000, 1),
                "times_decoding": {name: round(ratio, 2) for name, ratio in ratios.items()},
                "inliers_by_chance": max(_inliers(one, other) for one, other in pairs),
                "found_again": {name: _found(change, images, known) for name, change in CHANGES.items()},
            },
            indent=1,
        )
    )


def _inliers(one: Picture, other: Picture) -> int:
    assert one.details is not None
    assert other.details is not None
    return agreement(one.details, other.details).inliers


def _found(change: Change, images: list[Image.Image], known: list[Picture]) -> dict[str, float]:
    """Shares of the pictures that are found in their changed copies at all, and by their details."""
    found = [
        compare(looked("changed", "changed", pixels(change(image))), Reference(one, "work"))
        for image, one in zip(images, known, strict=True)
    ]
    rules = [one.rule for one in found if one is not None]
    sure = [rule for rule in rules if rule != "alike"]
    return {"at_all": round(len(rules) / len(known), 2), "by_details": round(len(sure) / len(known), 2)}


if __name__ == "__main__":
    main()
