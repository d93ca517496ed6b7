"""Boards: committed JSON is that of the declarations, is what Grafana takes, and asks for what there is."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.__main__ import FOLDER, path_of
from deploy.grafana.render import as_json
from services.observer.boards import BOARDS, PANELS, Board, Panel, queries
from services.observer.boards.model import Limits, duration, show
from shared import metrics

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "grafana-10.1.schemas.json").read_bytes())
# the first step has none: -Infinity, as the SDK's types say and Grafana itself writes
SCHEMAS["dashboard"]["definitions"]["Threshold"]["properties"]["value"]["type"] = ["number", "null"]
each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.key)
each_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=lambda panel: panel.key)


@each_board
def test_committed_json_is_fresh(board: Board) -> None:
    assert path_of(board).read_text(encoding="utf-8") == as_json(board), "run: python -m deploy.grafana"


def test_no_json_of_a_board_that_is_no_more() -> None:
    assert set(FOLDER.glob("*.json")) == {path_of(board) for board in BOARDS}


def _errors(schema: str, part: str | None, value: Any) -> list[str]:
    document = SCHEMAS[schema]
    if part is not None:
        document = {**document, "$ref": f"#/definitions/{part}"}
    found = jsonschema_rs.validator_for(document).iter_errors(value)
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in found]


@each_board
def test_json_is_valid_by_grafanas_schemas(board: Board) -> None:
    document = json.loads(path_of(board).read_bytes())
    assert not _errors("dashboard", None, document)
    for panel in document["panels"]:
        if panel["type"] == "row":
            continue
        assert not _errors(panel["type"], "Options", panel["options"]), panel["title"]
        if panel["type"] == "timeseries":
            assert not _errors("timeseries", "FieldConfig", panel["fieldConfig"]["defaults"]["custom"]), panel["title"]
        for target in panel["targets"]:
            assert not _errors("prometheus", None, target), panel["title"]


def test_the_schemas_find_what_is_wrong() -> None:
    document = json.loads(path_of(BOARDS[0]).read_bytes())
    document["panels"][1]["gridpos"] = {}
    document["refresh"] = 17
    assert len(_errors("dashboard", None, document)) == 2


@each_board
def test_json_comes_back_from_grafanas_types_as_it_was(board: Board) -> None:
    register_default_plugins()
    document = json.loads(path_of(board).read_bytes())
    assert json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder)) == document


@each_board
def test_rows_are_full_and_panels_do_not_overlap(board: Board) -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(path_of(board).read_bytes())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@each_panel
def test_a_panel_says_what_to_do(panel: Panel) -> None:
    assert panel.help.endswith((".", "?"))
    assert len(panel.help) > 25
    assert len({query.legend for query in panel.queries}) == len(panel.queries), "series could not be told apart"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (deploy/local/setup.sh prometheus)"
)
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{panel.key}:{place}", "expr": q.expr} for place, (panel, q) in enumerate(queries())]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@cache
def _rules(kind: str) -> frozenset[str]:
    files = (ROOT / "deploy/prometheus/rules").glob("*.yaml")
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return frozenset(rule[kind] for group in groups for rule in group["rules"] if kind in rule)


def test_runbooks_are_those_of_alerts_that_there_are() -> None:
    named = {name for panel in PANELS.values() for name in panel.runbooks}
    assert named <= _rules("alert")
    assert not [name for name in named if not (ROOT / f"docs/runbooks/{name}.md").exists()]


OURS = {"job", "instance", "le", "__name__"}
"""Labels that Prometheus and its client give."""


def _labels(series: str, known: dict[str, Any]) -> set[str] | None:
    """The labels of a series; None: it is of no metric of ours."""
    for name in (series, re.sub("_(bucket|count|sum)$", "", series)):
        if name in known:
            return {*known[name][1], *OURS}
    return None


@each_panel
def test_a_query_asks_for_what_there_is(panel: Panel) -> None:
    known = metrics.catalogue()
    for query in panel.queries:
        labels: set[str] = set()
        for series in query.series():
            found = _labels(series, known)
            if found is not None:
                labels |= found
            else:
                assert series in _rules("record") or series in ("up", "ALERTS") or series.startswith("process_"), series
                labels |= OURS | set(re.findall(r"{{(\w+)}}", query.legend))  # the rules' own tests know their labels
        used = {
            *re.findall(r"{{(\w+)}}", query.legend),
            *re.findall(r"(\w+)=~?\"", query.expr),
            *re.findall(r"(\w+)!=\"", query.expr),
        }
        for group in re.findall(r"by \(([\w, ]+)\)", query.expr):
            used |= set(group.split(", "))
        assert used - labels - {"slo", "stage", "alertstate", "severity"} == set()


def test_provisioning_names_what_there_is() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards/goodfaith.yaml").read_text())["providers"]
    assert source["type"] == "prometheus"
    assert provider["options"]["path"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0, "ratio", "100 %"),
        (0.999999, "ratio", "99.99 %"),
        (0.99123, "ratio", "99.12 %"),
        (0.834, "ratio", "83.4 %"),
        (0.0, "ratio", "0.0 %"),
        (0.25, "seconds", "250 ms"),
        (0.0, "seconds", "0 s"),
        (4.0, "seconds", "4 s"),
        (11_530.0, "seconds", "3 h 12 min"),
        (86_400.0, "seconds", "1 d"),
        (90_061.0, "seconds", "1 d 1 h"),
        (-61.0, "seconds", "-1 min 1 s"),
        (math.inf, "seconds", "never ends"),
        (math.nan, "seconds", "-"),
        (1204.0, "count", "1,204"),
        (0.016, "count", "0.02"),
        (1_234_567.0, "bytes", "1.2 MB"),
        (0.0, "up", "down"),
        (12.34, "per_second", "12.3/s"),
    ],
)
def test_values_as_people_read_them(value: float, unit: Any, text: str) -> None:
    assert show(value, unit) == text


def test_limits() -> None:
    assert [Limits(10, 20).level(value) for value in (9, 10, 20, math.nan)] == ["good", "warn", "bad", "good"]
    assert [Limits(0.99, 0.9, below=True).level(value) for value in (1, 0.95, 0.5)] == ["good", "warn", "bad"]
    assert duration(59.7) == "1 min"
