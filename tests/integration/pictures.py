"""`python -m tests.integration.pictures URL`: the pictures of the status page in docs/pictures, of a page that is served."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.integration.browser import browser

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"


async def take(url: str) -> None:
    """On a desk by day, on a phone by night."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with browser(Path(folder)) as tab:
            for name, width, dark in (("status-desk", 800, False), ("status-phone", 375, True)):
                await tab.open(url, width=width, dark=dark)
                # few colours are enough, and a third of the size
                picture = Image.open(io.BytesIO(await tab.picture())).convert("RGB").quantize(48)
                picture.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1]))
