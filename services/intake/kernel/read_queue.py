"""Turns at the reading threads: one caller never holds all of them, and the number of waiting requests is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from shared.refusals import Refused

caller: contextvars.ContextVar[str | None] = contextvars.ContextVar("caller", default=None)
"""The caller that this task works for; None: the process itself, which never waits."""
WAITING_OF_ONE: Final = 64
"""Requests of one caller that may wait for its turn."""
WAITING_MAX: Final = 1000
"""Requests of all callers that may wait or run."""


@dataclass(slots=True)
class _Line:
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """Limits how many requests of each caller run at a time. Used from one event loop.

    Args:
        of_one: requests of one caller that may run at a time; fewer than there are threads.
    """

    def __init__(self, of_one: int) -> None:
        self._of_one = of_one
        self._lines: dict[str, _Line] = {}
        self._all = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the caller's turn.

        Raises:
            Refused: 429, too many of the caller's own requests wait; 503, too many of all callers'.
        """
        if self._all >= WAITING_MAX:
            raise Refused(
                503,
                "unavailable",
                "Too many requests are waiting.",
                cure="Try again shortly, with the same Idempotency-Key.",
            )
        who = caller.get()
        self._all += 1
        try:
            if who is None:
                yield
                return
            line = self._lines.setdefault(who, _Line())
            await self._enter(who, line)
            try:
                yield
            finally:
                self._leave(who, line)
        finally:
            self._all -= 1

    async def _enter(self, who: str, line: _Line) -> None:
        if line.running < self._of_one:
            line.running += 1
            return
        if len(line.waiting) >= WAITING_OF_ONE:
            raise Refused(
                429,
                "too_many_at_once",
                f"{WAITING_OF_ONE} of your requests are waiting already.",
                cure="Send fewer requests at a time.",
                retry_after=1,
            )
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(mine)
        try:
            await mine  # a request that finishes hands over its turn
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._leave(who, line)
            else:
                line.waiting.remove(mine)
            raise

    def _leave(self, who: str, line: _Line) -> None:
        """Hand the turn over to the same caller's request that has waited longest."""
        while line.waiting:
            following = line.waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        line.running -= 1
        if not line.running:
            del self._lines[who]
