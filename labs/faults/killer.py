"""Kills processes, broker and database with SIGKILL at random, and starts them again."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Final

from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack

PARTS: Final = ("broker", "database")
SPARED: Final = frozenset({"mailbox"})
"""Not ours: it stands for the world's mail servers."""
MOST_DOWN: Final = 2
"""At most this many are down at a time. What has just recovered is left alone for twice the time that its recovery
took, so that work gets done between the kills on a slow machine too."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what was killed, and after how many seconds it was ready again."""

    name: str
    recovered_s: float


class Killer:
    """Kills something every few seconds, and starts it again after a short pause; several may be down at once.

    Args:
        every: Mean seconds between two kills.
        seed: The same seed makes the same choices.
        thorough: First kill each once, in random order.
    """

    def __init__(self, stack: Stack, processes: Fleet, *, every: float, seed: int, thorough: bool = True) -> None:
        self._stack = stack
        self._fleet = processes
        self._every = every
        self._dice = random.Random(seed)
        self.targets = [p.name for p in processes if p.name.partition(".")[0] not in SPARED] + list(PARTS)
        self._next = self._dice.sample(self.targets, len(self.targets)) if thorough else []
        self._down: dict[str, threading.Thread] = {}
        self._spared_until: dict[str, float] = {}
        self._enough = threading.Event()
        self.kills: list[Kill] = []
        self.troubles: list[str] = []
        self._thread = threading.Thread(target=self._run, name="killer")

    def start(self) -> None:
        """Start killing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop killing, and wait until everything that was killed is ready again."""
        self._enough.set()
        self._thread.join()
        for thread in list(self._down.values()):
            thread.join()
        self._revive()

    @property
    def complete(self) -> bool:
        """Whether each was killed at least once."""
        return not self._next

    def _run(self) -> None:
        while not self._enough.wait(self._every * self._dice.uniform(0.6, 1.4)):
            self._down = {name: thread for name, thread in self._down.items() if thread.is_alive()}
            self._revive()
            name = self._choose() if len(self._down) < MOST_DOWN else None
            if name is not None:
                pause = self._dice.uniform(0.1, 2.0)
                self._down[name] = threading.Thread(target=self._kill, args=(name, pause), name=f"kill-{name}")
                self._down[name].start()

    def _choose(self) -> str | None:
        now = time.monotonic()
        free = [t for t in self.targets if t not in self._down and self._spared_until.get(t, now) <= now]
        for index, name in enumerate(self._next):
            if name in free:
                return self._next.pop(index)
        return self._dice.choice(free) if free else None

    def _revive(self) -> None:
        """Start what ended by itself, and note it as trouble."""
        for process in self._fleet:
            if process.name not in self._down and not process.alive():
                self.troubles.append(f"{process.name} ended by itself")
                process.start()

    def _kill(self, name: str, pause: float) -> None:
        begun = time.monotonic()
        try:
            if name == "broker":
                self._stack.kill_kafka()
                time.sleep(pause)
                self._stack.start_kafka()
            elif name == "database":
                self._stack.kill_postgres()
                time.sleep(pause)
                self._stack.start_postgres()
            else:
                self._fleet[name].kill9()
                time.sleep(pause)
                self._fleet[name].start().wait_ready(120)
        except StackError as error:
            self.troubles.append(f"{name}: {str(error).splitlines()[0]}")
        took = time.monotonic() - begun
        self._spared_until[name] = time.monotonic() + 2 * took
        self.kills.append(Kill(name, took))
