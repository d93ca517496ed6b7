"""`python -m labs.population.titles [FOLDER]`: real product titles into the user's cache, for `make population`.

They are of the entity matching sets in the public repository megagonlabs/ditto, fetched from GitHub, or read from FOLDER,
a checkout. They are not in this repository, because their licence does not clearly allow it. What is not what it was when
this was written is refused.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from labs.population.catalogue import Goods, composed, parse
from shared.failures import CommandError

SOURCE: Final = "https://raw.githubusercontent.com/megagonlabs/ditto/52985564a93fb11308439516d3e17a033d43ec8f/"
WHERE: Final = "data/er_magellan/Structured/Walmart-Amazon/"
FILES: Final[dict[str, str]] = {
    "train.txt": "092fccd11c1cc1ffe54a702af276641218ce9506e6d60fb5a29a3c67d87892c3",
    "valid.txt": "4b07b12d5eb411736da03385d7543a34c77e5d9d364c25d67e987ebabc58c92c",
    "test.txt": "85ee132c4e45073a4b5ab8168d5db8af3e354b7b46dae19fd111757c0a6a97f6",
}
"""Name -> SHA-256."""


def folder() -> Path:
    """Where they are kept."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "goodfaith" / "population"


def load() -> tuple[tuple[Goods, ...], str]:
    """Goods with real titles if these are in the cache, else with composed ones; and which: ``real`` or ``composed``.

    Raises:
        CommandError: a file in the cache is incomplete or altered.
    """
    kept = folder()
    if not all((kept / name).is_file() for name in FILES):
        return composed(), "composed"
    return parse([_checked(name, (kept / name).read_bytes()) for name in FILES]), "real"


def _checked(name: str, content: bytes) -> str:
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise CommandError(f"{name} is not the file that is expected: delete {folder()}, and fetch the titles again")
    return content.decode()


def keep(read: Callable[[str], bytes]) -> Path:
    """Put the files into the cache, all or none."""
    contents = {name: read(name) for name in FILES}
    for name, content in contents.items():
        _checked(name, content)
    kept = folder()
    kept.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        part = kept / f"{name}.part"
        part.write_bytes(content)
        part.replace(kept / name)
    return kept


def main() -> None:
    """Fetch them, or copy them from a checkout."""
    if len(sys.argv) > 1:
        checkout = Path(sys.argv[1]) / WHERE
        kept = keep(lambda name: (checkout / name).read_bytes())
    else:
        with httpx.Client(timeout=60, follow_redirects=True) as client:
            kept = keep(lambda name: client.get(f"{SOURCE}{WHERE}{name}").raise_for_status().content)
    print(f"{len(load()[0]):,} titles in {kept}")


if __name__ == "__main__":
    main()
