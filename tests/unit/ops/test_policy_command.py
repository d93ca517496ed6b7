"""`goodfaith policy check`: what is wrong is told with file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.ops.cli import build
from services.ops.policy import read
from shared import policy
from shared.policy import PolicyError

TEXT = (policy.FOLDER / "ipp-2026-11.toml").read_text(encoding="utf-8")


def check(*files: Path) -> tuple[int, dict[str, Any]]:
    answer = CliRunner().invoke(build(), ["policy", "check", *map(str, files), "--json"])
    return answer.exit_code, json.loads(answer.stdout.splitlines()[-1])


def edited(folder: Path, *changes: tuple[str, str], name: str = "ipp-2026-11.toml") -> Path:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_installed_is_sound() -> None:
    code, found = check()
    assert code == 0
    assert found["problems"] == found["notes"] == []
    assert [row["version"] for row in found["policies"]] == list(policy.versions())
    assert {row["profile"] for row in found["policies"]} == set(policy.profiles())
    assert all(row["sound"] for row in found["policies"])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('lookup_give_up = "20 h"', 'lookup_give_up = "30 h"', "timers.lookup_give_up: not before review_sla"),
        ('lookup_retry = "1 h"', 'lookup_retry = "20 h"', "timers.lookup_retry: not before lookup_give_up"),
        ('late_counter = "180 d"', 'late_counter = "2 d"', "timers.late_counter: not after window"),
        ('calendar = "cn"', 'calendar = "moon"', "calendar: "),
        ("[timers]", "[timers]\nnext = 1", "timers: Object contains unknown field `next`"),
        ("[timers]", "[timers", "Expected"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(tmp_path: Path, old: str, new: str, problem: str) -> None:
    code, found = check(edited(tmp_path, (old, new)))
    assert code == 1
    assert len(found["problems"]) == 1
    assert found["problems"][0].startswith("ipp-2026-11.toml: ")
    assert problem in found["problems"][0]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    wrong = edited(
        tmp_path,
        ('review_sla = "24 h"', 'review_sla = "1 wd"'),
        ('calendar = "cn"', 'calendar = "moon"'),
        name="x.toml",
    )
    code, found = check(wrong, tmp_path / "none.toml", policy.FOLDER / "dmca-2026-11.toml")
    assert code == 1
    assert [text.split(": ")[1] for text in found["problems"][:3]] == ["version", "calendar", "timers.review_sla"]
    assert "none.toml" in found["problems"][3]
    assert [row["sound"] for row in found["policies"]] == [False, True]


def test_a_restoration_that_comes_before_the_holders_time_has_ended(tmp_path: Path) -> None:
    text = (policy.FOLDER / "dmca-2026-11.toml").read_text(encoding="utf-8")
    path = tmp_path / "dmca-2026-11.toml"
    path.write_text(text.replace('restore_by = "14 wd"', 'restore_by = "10 wd"'), encoding="utf-8")
    _, found = check(path)
    assert found["problems"] == [
        "dmca-2026-11.toml: timers.restore_by: not after holder_response: the holder's time is cut short"
    ]


def test_a_kind_of_proof_that_nobody_else_names_is_noted(tmp_path: Path) -> None:
    code, found = check(edited(tmp_path, ('materials = ["ownership"]', 'materials = ["onwership"]')))
    assert code == 0
    assert "'onwership' is a kind of proof that no newest installed policy names" in found["notes"][0]


def test_a_policy_is_read_by_version_or_from_any_file(tmp_path: Path) -> None:
    assert read("ipp-2026-11") is policy.load("ipp-2026-11")
    path = edited(tmp_path, ('version = "ipp-2026-11"', 'version = "ipp-2027-01"'), name="tried.toml")
    assert read(str(path)).version == "ipp-2027-01"
    for name, problem in (("ipp-1", "no such policy"), (str(tmp_path / "none.toml"), "none.toml")):
        with pytest.raises(PolicyError, match=problem):
            read(name)
    with pytest.raises(PolicyError, match=r"tried\.toml: timers\.window: Expected a duration"):
        read(str(edited(tmp_path, ('\nwindow = "3 wd"', "\nwindow = 3"), name="tried.toml")))
