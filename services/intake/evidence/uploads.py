"""Receives a file: takes a slot for it, reads its bytes, and finds out what it is.

The request's body goes to an unnamed temporary file, which the system removes with the process, however that ends.
``detection.py`` judges it there, in a process of its own, before anything is stored. So an upload that breaks off
leaves nothing, and nothing unchecked is ever stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import InternalServerException

from services.intake.evidence import detection
from services.intake.evidence import domain as evidence
from services.intake.evidence.blobs import Blobs
from services.intake.evidence.domain import FileLinks
from services.intake.kernel.refusals import busy
from shared.refusals import Refused
from shared.settings import Settings

log = structlog.get_logger(__name__)

UPLOADS_MAX: Final = 32
"""Uploads at a time in this process."""
UPLOADS_OF_ONE_MAX: Final = 4
"""Of these, by one account."""
UPLOADS_OF_ADDRESS_MAX: Final = 8
"""Of these, from one address."""
UPLOADS_OF_UNVERIFIED_MAX: Final = 16
"""Of these, by all unverified accounts together: anyone can open as many of them as they like."""
PROMPT_S: Final = 5.0
"""Seconds of grace in which an upload may be slower than ``evidence_least_rate``."""
PIECE: Final = 1 << 20
"""Bytes that are gathered before they are written and hashed."""
DETECTION_S: Final = 40.0
"""Wall seconds for judging a file; ``detection.py`` limits its processor time."""
DETECTORS: Final = 2
"""Files judged at a time."""
MEGAPIXELS: Final = 50


@dataclass(frozen=True, slots=True)
class EvidenceContext:
    """What the evidence routes of one process share."""

    links: FileLinks
    blobs: Blobs
    slots: UploadSlots

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Build it from the settings."""
        secret = settings.evidence_key
        return cls(FileLinks(None if secret is None else secret.get_secret_value()), Blobs.of(settings), UploadSlots())


class UploadSlots:
    """Limits shared by the uploads of one process: how many run, and how many files are judged, at a time."""

    def __init__(self) -> None:
        self.judging = asyncio.Semaphore(DETECTORS)
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def slot(self, account: str, line: str, *, verified: bool) -> Iterator[None]:
        """Hold a slot for one upload.

        Args:
            line: what the caller's address is counted as.

        Raises:
            Refused: 429, the caller has its share; 503, all slots are taken.
        """
        own = {f"account {account}": UPLOADS_OF_ONE_MAX, f"line {line}": UPLOADS_OF_ADDRESS_MAX}
        others = {"all": UPLOADS_MAX, **({} if verified else {"unverified": UPLOADS_OF_UNVERIFIED_MAX})}
        if any(self._taken[name] >= most for name, most in own.items()):
            raise Refused(
                429,
                "too_many_uploads",
                "Too many of your files are being uploaded.",
                cure="Wait until one is done.",
                retry_after=2,
            )
        if any(self._taken[name] >= most for name, most in others.items()):
            raise busy("Too many files are being uploaded.")
        counted = [*own, *others]
        self._taken.update(counted)
        try:
            yield
        finally:
            self._taken.subtract(counted)
            self._taken = +self._taken


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

    clock = asyncio.get_running_loop().time
    prompt_until = clock() + PROMPT_S
    try:
        async with asyncio.timeout(settings.evidence_upload_s):
            body = request.stream()
            while True:
                async with asyncio.timeout_at(_next_by(clock(), prompt_until, size, settings)):
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
        raise Refused(
            408, "too_slow", "The file came too slowly.", cure="Send it again over a faster connection."
        ) from None
    except InternalServerException:  # the client disconnected
        raise Refused(400, "interrupted", "The upload broke off.", cure="Send the file again.") from None
    await asyncio.to_thread(file.flush)
    return size, total.digest()


def _next_by(now: float, prompt_until: float, size: int, settings: Settings) -> float:
    """Deadline for the next piece, so that an upload neither stalls nor falls below the least rate."""
    stalled = now + settings.evidence_upload_s / 10
    return min(stalled, prompt_until + size / settings.evidence_least_rate) if settings.evidence_least_rate else stalled


async def judge(file: IO[bytes], slots: UploadSlots) -> str:
    """Find out the file's type.

    Raises:
        Refused: 422, the file is not accepted.
    """
    async with slots.judging:
        # isolated and without our environment, so an attacker finds nothing in that process
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(detection.__file__)),
            str(MEGAPIXELS),
            stdin=file.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        try:
            async with asyncio.timeout(DETECTION_S):
                said, errors = await child.communicate()
        except TimeoutError:
            raise evidence.refusal("too_complex", "") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
    if child.returncode is not None and child.returncode < 0:
        # by a signal: out of processor time, or the decoder crashed
        log.warning("a signal ended a decoder", signal=-child.returncode)
        raise evidence.refusal("too_complex", "")
    if child.returncode:
        raise RuntimeError(f"detection: {errors.decode(errors='replace')[-500:]}")
    verdict = msgspec.json.decode(said, type=dict[str, str])
    if "media" not in verdict:
        raise evidence.refusal(verdict["reason"], verdict["note"])
    return verdict["media"]
