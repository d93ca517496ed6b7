"""Has pictures opened and compared by ``confined.py``. A picture that breaks that process costs only itself."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
import structlog
from msgspec import Meta

from services.intake.evidence.detection import REASONS
from services.intake.evidence.uploads import MEGAPIXELS
from services.intake.pictures import confined
from shared.comparison.pictures import Finding
from shared.comparison.pictures.types import Kind

log = structlog.get_logger(__name__)

ANSWER_S: Final = 20.0
"""Wall seconds for one picture; the processor's are limited by the process itself."""
ANSWER_MOST: Final = 1 << 20
"""Bytes of an answer: 120 pairs of pictures have at most so many findings."""


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None = None
    findings: Annotated[list[Finding], Meta(max_length=200)] | None = None


_answer = msgspec.json.Decoder(_Answer).decode


class Broken(Exception):
    """The process ended, did not answer in time, or answered something else."""


class Eyes:
    """The pictures of one item. Ends its process when it is left."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._shown: list[tuple[dict[str, Any], bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def look(self, id: str, sha256: str, data: bytes, kind: Kind | None) -> str | None:
        """Show it a picture, of the right if it has a ``kind``. Returns why that could not be opened; None: it was."""
        order = {"id": id, "sha256": sha256, "kind": kind, "size": len(data)}
        try:
            await self._ready()
            reason = (await self._order(order, data)).reason
        except Broken:
            await self._end()
            return "too_complex"
        if reason is None:
            self._shown.append((order, data))
        elif reason not in REASONS:
            return "damaged"  # the process no longer says what it should
        return reason

    async def find(self) -> list[Finding]:
        """The right's pictures in the listing's, the surest first.

        Raises:
            Broken: there is no answer.
        """
        await self._ready()
        found = (await self._order({"size": None}, b"")).findings or []
        # the answer comes from a process that met strangers' files: nothing in it is believed that can be checked
        known = {(order["kind"] is None, order["id"]) for order, _ in self._shown}
        if any((True, one.picture) not in known or (False, one.reference) not in known for one in found):
            raise Broken
        return found

    async def _ready(self) -> None:
        """Start the process, and show it again what it could open before."""
        if self._child is not None:
            return
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(confined.__file__)),
            str(MEGAPIXELS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # OpenBLAS would reserve memory for a thread of each processor
            env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            cwd="/",
            limit=ANSWER_MOST,
        )
        for order, data in self._shown:
            await self._order(order, data)

    async def _order(self, order: dict[str, Any], data: bytes) -> _Answer:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                child.stdin.write(msgspec.json.encode(order) + b"\n" + data)
                await child.stdin.drain()
                return _answer(await child.stdout.readline())
        except (TimeoutError, OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("a picture broke its decoder", error=type(error).__name__)
            raise Broken from None

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
