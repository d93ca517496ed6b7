"""`python -m deploy.kubernetes.trial [--json]`: test the manifests on a real control plane; prints a table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import httpx

from deploy.kubernetes.trial import trial
from deploy.local.children import StackError
from deploy.local.steps import Steps, console


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes.trial", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object in the last line")
    given = parser.parse_args(arguments)
    steps = Steps("make test-kubernetes")
    figures: dict[str, object] = {}
    failure: str | None = None
    try:
        figures = trial.run(steps)
    except (StackError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
        failure = f"{type(error).__name__}: {error}"
    console.print(steps.table())
    if failure is not None:
        sys.stderr.write(f"{failure}\n")
    if given.json:
        said = {**figures, "seconds": round(steps.seconds, 1), "failed": int(failure is not None)}
        sys.stdout.write(f"{json.dumps(said)}\n")
    return int(failure is not None)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
