"""`python -m deploy.containers trial|images`: test images and compose file, or only build the images.

Without an engine that answers or can be started, it says why and is skipped; in CI (`CI` set) it fails.
"""

from __future__ import annotations

import argparse
import os
import sys

from deploy.containers import build, engine, trial
from deploy.local.children import StackError


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.containers", description=__doc__)
    parser.add_argument("what", choices=("trial", "images"))
    parser.add_argument("--notices", type=int, default=500, help="how many notices to replay")
    given = parser.parse_args(arguments)
    if not 1 <= given.notices <= 100_000:
        parser.error("--notices takes 1 to 100000")
    try:
        if given.what == "trial":
            trial.run(given.notices)
        else:
            with engine.running() as one:
                for variable, name in build.all_of(one).items():
                    sys.stdout.write(f"{variable}={name}\n")
    except engine.Unavailable as error:
        sys.stderr.write(f"{'failed' if os.environ.get('CI') else 'skipped'}: {error}\n")
        return 1 if os.environ.get("CI") else 0
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
