"""Declarations of metrics, and what a process shows of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from deploy.local import fleet
from shared import metrics

ROOT = Path(__file__).resolve().parents[3]
COMING = {"streams", "canary"}


@pytest.fixture
def everything() -> Iterator[dict[str, metrics.Declared]]:
    """All declarations; afterwards all of them are shown again, as other tests of this session expect."""
    found = metrics.load()
    yield found
    for one in found.values():
        if one.metric is not None and one.name in metrics._hidden:
            metrics._hidden.discard(one.name)
            REGISTRY.register(one.metric)


def test_modules_that_declare_are_named() -> None:
    declaring = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("services", "shared", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\b(?:counter|gauge|histogram|collected|_declare)\(\s*\"", path.read_text(encoding="utf-8"))
    }
    assert declaring == set(metrics.DECLARING)


def test_nothing_is_exported_that_is_not_declared() -> None:
    """The client's own classes are made in one place."""
    for folder in ("services", "shared", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "metrics.py" or path.parent.name != "shared":
                text = path.read_text(encoding="utf-8")
                assert not re.search(r"\b(?:Counter|Gauge|Histogram|Summary)\(\s*\"", text), path


def test_processes_are_those_of_the_fleet(everything: dict[str, metrics.Declared]) -> None:
    named = {process for one in everything.values() for process in one.processes}
    assert named <= set(fleet.BY_NAME) | COMING
    assert set(metrics._JOBS.values()) <= set(metrics.WORKERS) <= set(fleet.BY_NAME)


def test_every_process_has_metrics(everything: dict[str, metrics.Declared]) -> None:
    assert set(fleet.BY_NAME) <= {process for one in everything.values() for process in one.processes}


def test_a_process_shows_its_own_series_from_zero(everything: dict[str, metrics.Declared]) -> None:
    for name, process in (("notification-sender", "notification-sender"), ("intake", "intake-worker")):
        metrics.begin_process(name)
        shown = set(re.findall(r"^# TYPE (goodfaith_\w+)", generate_latest().decode(), flags=re.M))
        assert shown == {one.name for one in everything.values() if process in one.processes and one.metric is not None}
    assert REGISTRY.get_sample_value("goodfaith_misuse_changes_total", {"kind": "warned"}) is not None
    assert REGISTRY.get_sample_value("goodfaith_deliveries_total", {"channel": "email", "result": "sent"}) is None


def test_a_name_is_declared_once_and_fits_its_kind() -> None:
    with pytest.raises(ValueError, match="twice"):
        metrics.counter("goodfaith_timers_fired_total", "again", of="verification")
    with pytest.raises(ValueError, match="no name"):
        metrics.collected("gauge", "goodfaith_things_total", "no gauge", of="verification")
    with pytest.raises(ValueError, match="no name"):
        metrics.collected("counter", "things_total", "without prefix", of="verification")


def test_no_label_is_an_id(everything: dict[str, metrics.Declared]) -> None:
    forbidden = {"claim", "item", "seller", "holder", "account", "complainant", "listing", "right", "entity", "message"}
    assert not [one.name for one in everything.values() if forbidden & set(one.labels)]


ASKED = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "deploy/prometheus/rules/*.yaml",
        "deploy/grafana/dashboards/*.json",
        "services/observer/**/*.py",
        "services/ops/**/*.py",
        "labs/**/*.py",
    )
    for path in ROOT.glob(pattern)
    if re.search(r"goodfaith_[a-z0-9_]+\{", path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("path", ASKED, ids=str)
def test_who_asks_names_values_that_there_are(path: Path, everything: dict[str, metrics.Declared]) -> None:
    """A selector with a value that no series has is empty for ever, and nobody notices."""
    text = (ROOT / path).read_text(encoding="utf-8").replace(r"\"", '"')
    for name, inside in re.findall(r"\b(goodfaith_[a-z0-9_]+)\{([^}]*)\}", text):
        declared = everything.get(name) or everything.get(re.sub(r"_(bucket|sum|count)$", "", name))
        assert declared is not None, name
        for label, values in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"", inside):
            if label in ("job", "instance", "le"):
                continue
            known = declared.labels[label]
            for value in values.split("|"):
                if re.fullmatch(r"[\w@-]+", value):
                    assert known.matches(value) if isinstance(known, metrics.Values) else value in known, (name, value)
