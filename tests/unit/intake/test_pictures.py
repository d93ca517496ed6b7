"""Pictures are opened and compared in a confined process, and one that breaks it costs only itself."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labs.attacks.files import BOMBS, PICTURES
from services.intake.pictures import confined, seeing
from services.intake.pictures.fetching import Fetcher, Unseen
from services.intake.pictures.seeing import Eyes
from shared.comparison.pictures import Finding
from shared.events import Picture
from shared.settings import Settings
from tests.unit.shared.comparison.pictures.drawn import scene


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return out.getvalue()


WORK = Image.fromarray(scene(1, 450, 600))
COPY = jpeg(WORK.resize((300, 225)))


async def look(eyes: Eyes, id: str, data: bytes, kind: Any = None) -> str | None:
    return await eyes.look(id, hashlib.sha256(data).hexdigest(), data, kind)


def with_eyes(work: Callable[[Eyes], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with Eyes() as eyes:
            return await work(eyes)

    return asyncio.run(run())


def test_a_copy_is_found_and_another_picture_is_not() -> None:
    async def work(eyes: Eyes) -> list[Finding]:
        assert await look(eyes, "d-1", png(WORK), "work") is None
        assert await look(eyes, "front", COPY) is None
        assert await look(eyes, "back", png(Image.fromarray(scene(2, 450, 600)))) is None
        return await eyes.find()

    (found,) = with_eyes(work)
    assert (found.picture, found.reference, found.rule, found.against) == ("front", "d-1", "same_picture", ())
    assert found.score > 0.9


@pytest.mark.parametrize("name", [*BOMBS, *PICTURES, "a text", "nothing"])
def test_what_is_no_plain_picture_is_refused_and_the_others_are_compared(name: str) -> None:
    files = {**BOMBS, **PICTURES, "a text": lambda: b"an owl", "nothing": lambda: b""}

    async def work(eyes: Eyes) -> list[Finding]:
        assert await look(eyes, "d-1", png(WORK), "work") is None
        reason = await look(eyes, "bad", files[name]())
        assert reason is not None
        assert await look(eyes, "front", COPY) is None
        return await eyes.find()

    assert [found.picture for found in with_eyes(work)] == ["front"]


def test_a_picture_that_breaks_the_process_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(eyes: Eyes) -> list[Finding]:
        assert await look(eyes, "d-1", png(WORK), "work") is None
        assert eyes._child is not None
        eyes._child.kill()
        assert await look(eyes, "killer", COPY) == "too_complex"
        assert await look(eyes, "front", COPY) is None
        monkeypatch.setattr(seeing, "ANSWER_S", 0.0)
        assert await look(eyes, "endless", COPY) == "too_complex"
        monkeypatch.undo()
        return await eyes.find()

    assert [found.picture for found in with_eyes(work)] == ["front"]


def test_an_answer_about_pictures_that_it_was_not_shown_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(eyes: Eyes) -> None:
        assert await look(eyes, "d-1", png(WORK), "work") is None
        assert await look(eyes, "front", COPY) is None
        eyes._shown.pop()
        with pytest.raises(seeing.Broken):
            await eyes.find()

    with_eyes(work)


class Zone:
    """Names as an attacker would have them."""

    def __init__(self, **addresses: str) -> None:
        self.known = {name.replace("_", "."): address for name, address in addresses.items()}

    async def addresses(self, host: str) -> list[str]:
        return [self.known[host]]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://in.example/a", "url_private"),
        ("https://meta.example/a", "url_private"),
        ("https://out.example:8443/a", "host_not_named"),
        ("https://in.example.evil.example/a", "host_not_named"),
        ("https://in.example@evil.example/a", "url_user"),
        ("https://evil.example/in.example", "host_not_named"),
        ("http://out.example/a", "url_scheme"),
        ("https://2130706433/a", "url_host"),
        ("https://127.0.0.1/a", "url_private"),
        ("https://out.example/a#b", "url_malformed"),
        (None, "no_url"),
    ],
)
def test_nothing_is_fetched_from_where_it_must_not(url: str | None, reason: str) -> None:
    settings = Settings(pictures_hosts=("in.example", "META.example", "out.example"))
    fetcher = Fetcher(settings, Zone(in_example="10.0.0.1", meta_example="169.254.169.254", out_example="127.0.0.1"))
    with pytest.raises(Unseen) as unseen:
        asyncio.run(fetcher.fetch(Picture(id="p", sha256="0" * 64, url=url)))
    assert unseen.value.reason == reason


def test_a_confined_process_opens_no_file_and_no_connection_and_starts_nothing() -> None:
    code = f"""
import os, socket, sys
sys.path.insert(0, {str(Path(confined.__file__).parent)!r})
import confined
confined.confine()
for work in (lambda: open("/etc/hostname"), lambda: socket.socket(), lambda: os.pipe()):
    try:
        work()
    except OSError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 3
