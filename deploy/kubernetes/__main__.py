"""`python -m deploy.kubernetes [--runbooks URL] [OUT]`: write base and components, by default the committed ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.kubernetes.writing import GENERATED, files
from deploy.prometheus.model import RUNBOOKS

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write the files, and remove those of processes that no longer exist."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes", description=__doc__)
    parser.add_argument("--runbooks", default=RUNBOOKS, help="URL of the folder of runbooks")
    parser.add_argument("out", nargs="?", type=Path, default=HERE, help="folder to write to")
    given = parser.parse_args()
    written = files(given.runbooks)
    for name, text in written.items():
        path = given.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if given.out == HERE:
        for old in stale(written):
            old.unlink()


def stale(written: dict[str, str]) -> set[Path]:
    """Files in generated folders that are no longer generated."""
    there = {path for folder in GENERATED for path in (HERE / folder).rglob("*") if path.is_file()}
    return there - {HERE / name for name in written}


if __name__ == "__main__":
    main()
