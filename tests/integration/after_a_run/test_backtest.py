"""`goodfaith policy backtest` on a small real run: the same policy comes out as stored, an edited one changes what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from services.ops.backtest import Recorded, compare
from services.ops.cli import build
from services.ops.policy import read
from services.verification.backtest import Tally
from shared import policy
from tests.integration.small_run import IPP as VERSION
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

DMCA = policy.current("dmca").version
MANUAL = ('review = "triage"', 'review = "manual"')
COMMANDS = """
    select case when d ? 'code' and type = 'goodfaith.command.refused.v1' then d ->> 'code' else 'applied' end, count(*)
    from (select type, payload::jsonb -> 'data' as d from verification.event_log) t where d ? 'command' and not d ? 'action' group by 1"""
TEXT = (policy.FOLDER / f"{VERSION}.toml").read_text(encoding="utf-8")


def edited(folder: Path, *changes: tuple[str, str], version: str = "ipp-2027-01") -> Path:
    text = TEXT.replace(f'version = "{VERSION}"', f'version = "{version}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "tried.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tried(run: SmallRun, old: str, new: str, **more: Any) -> Tally:
    options = {key: more.pop(key) for key in ("marketplace",) if key in more}
    engine = run.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, connection.begin():
        return compare(Recorded(connection, **options), read(old), read(new), **more)


def test_the_same_policy_comes_out_as_stored(run: SmallRun) -> None:
    tally = tried(run, VERSION, VERSION)
    found = tally.as_json()
    assert found["differences"] == []
    assert found["items"] == found["compared"] == found["agreed"] == sum(map(len, run.items.values())) + 2
    assert (found["agreement"], found["changed"], found["transitions"]) == (1.0, 0, {})
    with run.engine.connect() as connection:
        ends = connection.exec_driver_sql(COMMANDS)
        stored = dict(map(tuple, ends))
    assert stored["applied"] >= 12
    assert len(stored) > 1
    assert found["commands"] == {"old": stored, "new": stored}
    assert found["made_up"] == {"notices": 0, "receipts": 0}


def test_what_the_marketplace_said_is_inferred_where_its_log_is_not(run: SmallRun) -> None:
    found = tried(run, VERSION, VERSION, marketplace=False).as_json()
    assert found["differences"] == []
    assert found["agreement"] == 1.0


def test_a_removed_reason_and_no_other_changes(run: SmallRun, tmp_path: Path) -> None:
    begin, end = TEXT.index("[reasons.copied_image_or_text]"), TEXT.index("[reasons.design]")
    found = tried(run, VERSION, str(edited(tmp_path, (TEXT[begin:end], "")))).as_json()
    assert found["agreement"] == 1.0
    by_reason = found["by_reason"]
    assert by_reason["copied_image_or_text"]["changed"] == by_reason["copied_image_or_text"]["items"] == 8
    assert found["changed"] == 8
    assert all(move.endswith("-> REJECTED") for move in found["transitions"])
    assert found["by_complainant"] == [{"complainant": "h-owl", "items": 24, "changed": 8}]


def test_a_longer_window_is_open_and_a_person_never_comes(run: SmallRun, tmp_path: Path) -> None:
    longer = tried(run, VERSION, str(edited(tmp_path, ('\nwindow = "3 wd"', '\nwindow = "90 d"')))).as_json()
    assert longer["transitions"]["UPHELD_BY_DEFAULT -> NOTIFIED"] == longer["changed_but_open"] > 0
    manual = tried(run, VERSION, str(edited(tmp_path, MANUAL))).as_json()
    assert manual["transitions"]["UPHELD_BY_DEFAULT -> UNDER_REVIEW"] > 0
    assert manual["commands"]["new"]["state_not_reached"] == 1
    assert manual["agreement"] == 1.0
    strict = tried(run, VERSION, str(edited(tmp_path, ("uphold_at = 40", "uphold_at = 400")))).as_json()
    assert strict["transitions"] == manual["transitions"]


def test_a_policy_edited_after_items_were_filed_under_it_is_found(run: SmallRun, tmp_path: Path) -> None:
    path = str(edited(tmp_path, ('\nwindow = "3 wd"', '\nwindow = "90 d"'), version=VERSION))
    found = tried(run, path, VERSION).as_json()
    assert found["agreement"] < 1
    assert found["differences"][0]["examples"]


def test_limits_and_other_profiles(run: SmallRun) -> None:
    assert tried(run, VERSION, VERSION, limit=3).items in range(3, 6)
    assert tried(run, DMCA, DMCA).items == 0
    everything = tried(run, DMCA, VERSION, everything=True)
    assert everything.agreement is None
    assert everything.items == sum(map(len, run.items.values())) + 2


def test_nothing_is_written(run: SmallRun) -> None:
    engine = run.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, connection.begin():
        Recorded(connection)
        with pytest.raises(sa.exc.InternalError, match="read-only"):
            connection.exec_driver_sql("delete from verification.items")


def test_the_command(run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_KAFKA", run.stack.kafka)
    monkeypatch.setenv("GOODFAITH_DATABASE", run.stack.admin_url)
    path = edited(tmp_path, MANUAL)
    answer = CliRunner().invoke(build(), ["policy", "backtest", VERSION, str(path), "--json"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout.splitlines()[-1])
    assert {"items", "changed", "agreement", "by_reason", "by_complainant", "transitions"} <= set(found)
    assert (found["old"], found["new"], found["agreement"]) == (VERSION, "ipp-2027-01", 1.0)
    assert "@" not in answer.stdout  # ids only
    shown = CliRunner().invoke(build(), ["policy", "backtest", VERSION, str(path)])
    assert shown.exit_code == 0, shown.output
    assert "items come out under" in " ".join(shown.stdout.split())
