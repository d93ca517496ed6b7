"""`python -m deploy.prometheus [--speed N] [OUT]`: write rules, tests and routes, by default the committed ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.prometheus.model import RUNBOOKS, Pace
from deploy.prometheus.rules import HERE
from deploy.prometheus.writing import files


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m deploy.prometheus", description=__doc__)
    parser.add_argument(
        "--speed", type=float, default=1.0, help="divide every wait, range and threshold in wall time by this"
    )
    parser.add_argument("--runbooks", default=RUNBOOKS, help="URL of the folder of runbooks")
    parser.add_argument("out", nargs="?", type=Path, default=HERE.parent, help="folder to write to")
    given = parser.parse_args()
    for name, text in files(Pace(given.speed, given.runbooks)).items():
        path = given.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
