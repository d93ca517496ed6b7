"""The story of `make tour`, run as it is told: docs/tour.md says what happens, word for word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_tour_is_as_written(tmp_path: Path) -> None:
    told = tmp_path / "tour.md"
    env = {key: value for key, value in os.environ.items() if not key.startswith("GOODFAITH_")}
    done = subprocess.run(
        [
            sys.executable, "-m", "services.operator.cli", "tour", "--stack", f"test-{os.getpid()}-tour", "--json", "--write", str(told),
            "--check", str(ROOT / "docs" / "tour.md"),
        ],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.exists(), done.stderr[-3000:]
    assert told.read_text(encoding="utf-8") == (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["clean"]
