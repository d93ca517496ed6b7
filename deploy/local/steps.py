"""The steps of a long trial: their times and results, and a table of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

console = Console()


@dataclass
class Steps:
    """The steps so far, with their times and results.

    Attributes:
        title: Title of the table.
    """

    title: str
    done: list[tuple[str, float, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; yields a function that records its result."""
        console.print(f"[bold]{name}[/]")
        said = ""

        def say(text: str) -> None:
            nonlocal said
            said = text
            console.print(f"  {text}", markup=False, highlight=False)

        begun = time.monotonic()
        try:
            yield say
        except BaseException:
            said = f"FAILED {said}"
            raise
        finally:
            self.done.append((name, time.monotonic() - begun, said))

    @property
    def seconds(self) -> float:
        """Total time of the steps."""
        return sum(seconds for _, seconds, _ in self.done)

    def table(self) -> Table:
        """All steps, for people."""
        table = Table("step", "seconds", "what came of it", title=self.title)
        for name, seconds, said in self.done:
            table.add_row(name, f"{seconds:.1f}", said)
        table.add_row("all", f"{self.seconds:.1f}", "", style="bold")
        return table
