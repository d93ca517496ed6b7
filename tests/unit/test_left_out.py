"""Tests may skip themselves, but in CI only for a reason that is listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no promtool here")
def test_needs_a_tool(): ...

def test_asks_for_a_tool():
    pytest.skip("no kube-score is installed")

@pytest.mark.skipif(True, reason="minutes long: make streams")
def test_runs_elsewhere(): ...

@pytest.mark.xfail(strict=True)
def test_fails_as_expected():
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"CI": "true"}, 1, "1 failed, 1 skipped, 1 xfailed, 1 error"),
        ({}, 0, "3 skipped, 1 xfailed"),
        ({"CI": "true", "GOODFAITH_TESTS_END": "1"}, 0, "4 skipped"),
    ],
    ids=["in CI", "by hand", "in CI without time"],
)
def test_a_missing_tool_is_no_reason_in_ci(tmp_path: Path, variables: dict[str, str], code: int, said: str) -> None:
    (tmp_path / "test_one.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.left_out",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
