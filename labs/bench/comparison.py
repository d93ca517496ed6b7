"""`python -m labs.bench.comparison TITLES`: listings per second against 100,000 marks, the index's memory and build time.

TITLES has a listing a line: its title, and after a tab its brand, if known. Real ones are not in the repository: those
measured are of the entity matching sets in the public repository megagonlabs/ditto. The marks are the brands of the
listings, ordinary English words, pairs of these, and made-up names.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from shared.comparison import Content, Mark, Marks
from shared.comparison.gates import dictionary

MARKS: Final = 100_000
WORDS: Final = 4_000
PAIRS: Final = 12_000
ROUNDS: Final = 3
_BEFORE: Final = [*"bcdfghjklmnprstvwxz", "br", "ch", "cl", "cr", "dr", "fl", "gr", "kr", "pl", "sh", "st", "tr", "th"]
_AFTER: Final = [*"aeiou", "ai", "ee", "oo", "ou"]


def names(brands: list[str]) -> list[str]:
    """What the marks are called, the same each time."""
    dice = random.Random(7)
    words = sorted(dictionary("en"))
    found = dict.fromkeys([*brands, *dice.sample(words, WORDS)])
    found.update(dict.fromkeys(f"{dice.choice(words)} {dice.choice(words)}" for _ in range(PAIRS)))
    while len(found) < MARKS:
        parts = [dice.choice(_BEFORE) + dice.choice(_AFTER) for _ in range(dice.randint(2, 4))]
        found["".join(parts).title() + dice.choice(["", "", "n", "x", "s"])] = None
    return list(found)[:MARKS]


def main() -> None:
    """Print one JSON object; times are of the fastest round, in CPU time."""
    lines = [line.split("\t") for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    listings = [
        Content(title=line[0], brand=line[1] if len(line) > 1 else "", language="en", classes=(9, 25), territory="DE")
        for line in lines
    ]
    called = names(sorted({listing.brand for listing in listings} - {""}))
    marks = [Mark(f"r-{n}", name, f"o-{n // 3}", (n % 45 + 1,), ("DE",)) for n, name in enumerate(called)]
    process = psutil.Process()
    gc.collect()
    before, begun = process.memory_info().rss, time.process_time()
    index = Marks.build(marks)
    built = time.process_time() - begun
    gc.collect()
    memory = process.memory_info().rss - before
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        found = sum(len(index.find(listing)) for listing in listings)
        times.append(time.process_time() - begun)
    print(
        json.dumps(
            {
                "listings_per_second": round(len(listings) / min(times)),
                "us": round(min(times) / len(listings) * 1e6, 1),
                "findings_per_listing": round(found / len(listings), 2),
                "build_seconds": round(built, 1),
                "index_mb": round(memory / 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
