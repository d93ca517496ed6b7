"""Taking a file in: a place for it, its bytes, and what it is.

A file comes as the request's body and goes to an unnamed temporary file, which the system removes with the process however that
ends. It is judged there (``sniff``, in a process of its own), before anything is stored. So an upload that breaks off leaves nothing,
and nothing unchecked is ever stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import InternalServerException

from services.intake import evidence, sniff
from services.intake.domain import Refused
from services.intake.door import busy
from shared.settings import Settings

log = structlog.get_logger(__name__)

UPLOADS_MAX: Final = 16
"""Uploads at a time in this process."""
UPLOADS_OF_ONE_MAX: Final = 4
"""Of these, of one account."""
PIECE: Final = 1 << 20
"""Bytes that are gathered before they are written and hashed."""
SNIFF_S: Final = 40.0
"""Wall seconds for judging a file; its processor time is limited in ``sniff``."""
SNIFFERS: Final = 2
"""Files judged at a time."""
MEGAPIXELS: Final = 50


class Desk:
    """What uploads of one process share: how many there are, and how many files are judged at a time."""

    def __init__(self) -> None:
        self.judging = asyncio.Semaphore(SNIFFERS)
        self._of: dict[str, int] = {}

    @contextlib.contextmanager
    def place(self, account: str) -> Iterator[None]:
        """A place for one upload.

        Raises:
            Refused: 503, there is none.
        """
        mine = self._of.get(account, 0)
        if mine >= UPLOADS_OF_ONE_MAX or sum(self._of.values()) >= UPLOADS_MAX:
            raise busy("Too many files are being uploaded.")
        self._of[account] = mine + 1
        try:
            yield
        finally:
            self._of[account] -= 1
            if not self._of[account]:
                del self._of[account]


async def receive(request: Request[Any, Any, Any], file: IO[bytes], settings: Settings) -> tuple[int, bytes]:
    """Write the body to a file. Returns its size and SHA-256.

    Raises:
        Refused: 413, 408, or 400 when it breaks off.
    """
    limit = settings.evidence_max_bytes
    if (request.content_length or 0) > limit:
        raise evidence.too_large(limit)
    total = hashlib.sha256()
    size = 0
    gathered = bytearray()

    def write(piece: bytes) -> None:
        file.write(piece)
        total.update(piece)

    try:
        async with asyncio.timeout(settings.evidence_upload_s):
            body = request.stream()
            while True:
                async with asyncio.timeout(settings.evidence_upload_s / 10):
                    piece = await anext(body, None)
                if piece is None:
                    break
                size += len(piece)
                if size > limit:
                    raise evidence.too_large(limit)
                gathered += piece
                if len(gathered) >= PIECE:
                    await asyncio.to_thread(write, bytes(gathered))
                    gathered.clear()
            await asyncio.to_thread(write, bytes(gathered))
    except TimeoutError:
        raise Refused(408, "too_slow", "The file came too slowly.", cure="Send it again over a faster line.") from None
    except InternalServerException:  # the client has gone
        raise Refused(400, "interrupted", "The upload broke off.", cure="Send the file again.") from None
    await asyncio.to_thread(file.flush)
    return size, total.digest()


async def judge(file: IO[bytes], desk: Desk) -> str:
    """What type the file is.

    Raises:
        Refused: 422, it is not taken.
    """
    async with desk.judging:
        # isolated, without our environment: there is nothing to be had in that process
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(Path(sniff.__file__)), str(MEGAPIXELS),
            stdin=file.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"LC_ALL": "C.UTF-8"}, cwd="/",
        )  # fmt: skip
        try:
            async with asyncio.timeout(SNIFF_S):
                said, errors = await child.communicate()
        except TimeoutError:
            raise evidence.refusal("too_complex", "") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
    if child.returncode is not None and child.returncode < 0:
        # by a signal: out of processor time, or a decoder that fell over
        log.warning("a decoder ended by a signal", signal=-child.returncode)
        raise evidence.refusal("too_complex", "")
    if child.returncode:
        raise RuntimeError(f"sniff: {errors.decode(errors='replace')[-500:]}")
    verdict = msgspec.json.decode(said, type=dict[str, str])
    if "media" not in verdict:
        raise evidence.refusal(verdict["reason"], verdict["note"])
    return verdict["media"]
