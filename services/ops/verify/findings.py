"""What `goodfaith verify` finds, and the form in which checks are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Category = Literal["lost", "doubled", "problem"]
"""``lost``: something accepted or decided has no effect. ``doubled``: it has an effect twice. ``problem``: data that
must agree do not, or something waits for a person."""
Table = Mapping[tuple[Category, str], str]
"""Checks as rows: category, kind of finding, and SQL that selects one text per case."""
EXAMPLES: Final = 5


@dataclass(slots=True)
class Finding:
    """Something that is wrong: how often, and the first few cases."""

    kind: str
    category: Category
    count: int
    examples: list[str]


class Tally:
    """Collects findings one by one."""

    def __init__(self) -> None:
        self._found: dict[tuple[Category, str], Finding] = {}

    def add(self, category: Category, kind: str, example: str) -> None:
        """Add a case."""
        finding = self._found.setdefault((category, kind), Finding(kind, category, 0, []))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def findings(self) -> list[Finding]:
        """All findings so far."""
        return list(self._found.values())


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings of the same category and kind."""
    merged: dict[tuple[Category, str], Finding] = {}
    for finding in findings:
        known = merged.setdefault((finding.category, finding.kind), finding)
        if known is not finding:
            known.count += finding.count
            known.examples = (known.examples + finding.examples)[:EXAMPLES]
    return list(merged.values())
