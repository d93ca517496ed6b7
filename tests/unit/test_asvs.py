"""docs/reference/asvs.md goes through every requirement of ASVS 5.0.0, levels 1 and 2, and says of each what shows it or why not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "asvs.md").read_text(encoding="utf-8")
STATES = ("met", "part", "not met", "n/a")
NUMBERS = """
1.1:/1-2 1.2:1-5/6-9 1.3:1-2/3-11 1.4:/1-3 1.5:1/2 2.1:1/2-3 2.2:1-2/3 2.3:1/2-4 2.4:/1 3.2:1-2/ 3.3:1/2-4 3.4:1-2/3-6 3.5:1-3/4-5
3.7:/1-2 4.1:1/2-3 4.2:/1 4.3:/1-2 4.4:1/2-4 5.1:/1 5.2:1-2/3 5.3:1-2/ 5.4:/1-3 6.1:1/2-3 6.2:1-8/9-12 6.3:1-2/3-4 6.4:1-2/3-4
6.5:/1-5 6.6:/1-3 6.8:/1-4 7.1:/1-3 7.2:1-4/ 7.3:/1-2 7.4:1-2/3-5 7.5:/1-2 7.6:/1-2 8.1:1/2 8.2:1-2/3 8.3:1/ 8.4:/1 9.1:1-3/
9.2:1/2-4 10.1:/1-2 10.2:/1-2 10.3:/1-4 10.4:1-5/6-11 10.5:/1-5 10.6:/1-2 10.7:/1-3 11.1:/1-2 11.2:/1-3 11.3:1-2/3 11.4:1/2-4
11.5:/1 11.6:/1 12.1:1/2-3 12.2:1-2/ 12.3:/1-4 13.1:/1 13.2:/1-5 13.3:/1-2 13.4:1/2-5 14.1:/1-2 14.2:1/2-4 14.3:1/2-3 15.1:1/2-3
15.2:1/2-3 15.3:1/2-7 16.1:/1 16.2:/1-5 16.3:/1-4 16.4:/1-3 16.5:/1-3 17.1:/1 17.2:/1-4 17.3:/1-2
"""
"""Requirements by section: those of level 1, then those of level 2."""


def required() -> dict[str, int]:
    """The level of each requirement."""
    found = {}
    for word in NUMBERS.split():
        section, _, levels = word.partition(":")
        for level, spans in enumerate(levels.split("/"), 1):
            for span in filter(None, spans.split(",")):
                first, _, last = span.partition("-")
                found |= {f"{section}.{number}": level for number in range(int(first), int(last or first) + 1)}
    return found


def rows() -> list[list[str]]:
    """Rows about requirements."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TEXT.splitlines()
        if re.match(r"\| \d+\.\d+\.\d+ \|", line)
    ]


def test_every_requirement_has_one_row() -> None:
    assert len(required()) == 253
    assert [(row[0], int(row[1])) for row in rows()] == list(required().items())
    assert Counter(row[1] for row in rows()) == {"1": 70, "2": 183}


def test_a_row_names_a_test_a_document_or_what_is_missing() -> None:
    for number, _, summary, state, reason in rows():
        assert summary, number
        assert state in STATES, number
        assert reason, number
        if state == "met":
            assert re.search(r"`test_\w+`|\]\([\w./-]+\.md", reason), f"{number} is met by nothing"


def test_the_totals_are_those_of_the_rows() -> None:
    counted = Counter((row[1], row[3]) for row in rows())
    for level in ("1", "2"):
        said = [counted[level, state] for state in STATES]
        assert f"| {level} | {' | '.join(map(str, said))} |" in TEXT
