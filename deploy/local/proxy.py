"""A proxy between clients and a server on loopback that can cut or slow down connections, for network faults.

A link forwards bytes without interpreting them, so it works with TLS as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 65_536
BACKLOG: Final = 16
"""Chunks that may be in flight in one direction; at that number reading pauses."""
STARTED_S: Final = 10.0


class Link:
    """One listening port and the server behind it. Its methods may be called from any thread.

    Attributes:
        port: The port that it listens on.
        target: Port of the server.
        carried: Bytes forwarded so far, in both directions.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.carried = 0
        self._delay_s = 0.0
        self._cut = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def cut(self) -> None:
        """Reset all connections, and every new one immediately, until `heal`."""
        self._cut = True
        self._soon(self._reset)

    def slow(self, seconds: float) -> None:
        """Deliver each byte this many seconds late, in order and in both directions; not those in flight already."""
        self._delay_s = seconds

    def heal(self) -> None:
        """Undo `cut` and `slow`. Clients that were cut off reconnect by themselves."""
        self._cut = False
        self._delay_s = 0.0

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """End all connections and stop listening."""
        if self._server is not None:
            self._server.close()
            self._reset()
            await self._server.wait_closed()

    def _soon(self, call: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call)  # type: ignore[arg-type]

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self._cut:
                return
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(far)
            if self._cut:
                return
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, far))
                both.create_task(self._forward(far_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # the server is down, or one side has gone: the other is closed too
        finally:
            for end in (writer, far):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until one side closes, which ends the connection: Kafka and PostgreSQL use no half-closed ones."""
        loop = asyncio.get_running_loop()
        waiting: deque[tuple[float, bytes]] = deque()
        room = asyncio.Semaphore(BACKLOG)
        more = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not waiting:
                    more.clear()
                    await more.wait()
                due, data = waiting.popleft()
                room.release()
                if not data:
                    raise ConnectionResetError
                # checked repeatedly: after `heal` it need not wait any longer
                while self._delay_s and loop.time() < due:
                    await asyncio.sleep(min(0.05, max(due - loop.time(), 0.0)))
                self.carried += len(data)  # first: bytes that have arrived are always counted
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            while True:
                await room.acquire()
                data = await reader.read(CHUNK)
                waiting.append((loop.time() + self._delay_s, data))
                more.set()
                if not data:
                    break


class Links:
    """Runs links on a thread of their own for as long as the context lasts."""

    def __init__(self, *links: Link) -> None:
        self.links = links
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            for link in self.links:
                asyncio.run_coroutine_threadsafe(link.open(), self._loop).result(STARTED_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all links and the thread."""

        async def end() -> None:
            for link in self.links:
                link.heal()
                await link.close()
            # tasks end by themselves without their connections; asyncio's streams would log a cancelled one as an error
            if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(tasks, timeout=STARTED_S / 2)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(STARTED_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STARTED_S)
        self._loop.close()
