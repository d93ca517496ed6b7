"""`python -m deploy.compose [--count NAME=NUMBER]... [OUT]`: write compose.yaml and the files that it mounts.

Without OUT it overwrites the committed ones. `python -m deploy.compose secrets [FOLDER]` generates missing secrets.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.compose import model, secrets
from shared.failures import CommandError


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compose", description=__doc__)
    parser.add_argument(
        "--count", action="append", default=[], metavar="NAME=NUMBER", help="instances of a process; repeatable"
    )
    parser.add_argument("words", nargs="*", metavar="OUT | secrets [FOLDER]")
    given = parser.parse_args(arguments)
    words = given.words
    try:
        if words[:1] == ["secrets"] and len(words) <= 2:
            folder = Path(words[1]) if len(words) == 2 else model.FOLDER / "secrets"
            made = secrets.write(folder)
            sys.stdout.write(f"{folder}: {', '.join(made) or 'nothing was missing'}\n")
            return 0
        if len(words) > 1:
            parser.error("one folder to write to")
        out = Path(words[0]) if words else model.FOLDER
        for name, text in model.written(_counts(given.count)).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text, encoding="utf-8")
    except CommandError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _counts(given: list[str]) -> dict[str, int] | None:
    from deploy.local.up import counts

    return counts(given)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
