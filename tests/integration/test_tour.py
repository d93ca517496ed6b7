"""The stories of `make tour`, run as they are told: their pages say what happens, word for word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.stack
@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("story", "page"), [("holder", "tour.md"), ("entity", "story-entity.md")])
def test_the_tour_is_as_written(tmp_path: Path, story: str, page: str) -> None:
    told = tmp_path / page
    env = {key: value for key, value in os.environ.items() if not key.startswith("GOODFAITH_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "services.ops.cli",
            "lab",
            "tour",
            "--story",
            story,
            "--stack",
            f"test-{os.getpid()}-{story}",
            "--json",
            "--write",
            str(told),
            "--check",
            str(ROOT / "docs" / "tutorials" / page),
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.exists(), done.stderr[-3000:]
    assert told.read_text(encoding="utf-8") == (ROOT / "docs" / "tutorials" / page).read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["clean"]
