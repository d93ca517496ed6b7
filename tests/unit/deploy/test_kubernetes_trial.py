"""The checks of `make test-kubernetes`, without a cluster: each passes what is right and finds what is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.kubernetes import scaling
from deploy.kubernetes.model import PROCESSES
from deploy.kubernetes.trial import history, metrics_api, tools, trial
from deploy.kubernetes.trial.history import Moment
from deploy.local.children import StackError

DOCUMENT = "\n".join(one.read_text(encoding="utf-8") for one in trial.DOCUMENTS)


def pod(
    name: str, *, process: str = "verification", ready: bool = True, ending: bool = False, node: str = "node-a"
) -> dict[str, Any]:
    meta: dict[str, Any] = {"uid": name, "name": name, "labels": {history.COMPONENT: process}}
    if ending:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": meta, "spec": {"nodeName": node}, "status": {"conditions": conditions}}


def event(kind: str, one: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": one}


def test_moments_follow_the_events_of_one_process() -> None:
    events = [
        event("ADDED", pod("new", ready=False)),
        event("ADDED", pod("other", process="watch")),
        event("MODIFIED", pod("new")),
        event("MODIFIED", pod("old", ending=True)),
        event("DELETED", pod("old", ending=True)),
    ]
    seen = list(history.moments([pod("old"), pod("of another", process="watch")], events, "verification"))
    assert seen == [Moment(1, 1, 1), Moment(2, 2, 1), Moment(2, 2, 2), Moment(2, 1, 1), Moment(1, 1, 1)]


START = Moment(2, 2, 2)
ONE_MORE = [START, Moment(3, 3, 2), Moment(3, 3, 3), Moment(3, 2, 2), Moment(2, 2, 2)]
IN_TURN = [START, Moment(2, 1, 1), Moment(1, 1, 1), Moment(2, 2, 1), Moment(2, 2, 2)]
ALONE = [Moment(1, 1, 1), Moment(1, 0, 0), Moment(0, 0, 0), Moment(1, 1, 0), Moment(1, 1, 1)]


@pytest.mark.parametrize(
    ("way", "seen", "wrong"),
    [
        ("one more first", ONE_MORE, None),
        ("one more first", IN_TURN, "only 1 of 2"),
        ("one more first", [START, Moment(4, 4, 2), Moment(2, 2, 2)], "up to 4"),
        ("one more first", [START, START], "up to 2"),
        ("one more first", [*ONE_MORE, Moment(1, 1, 1)], "at the end"),
        ("one after the other", IN_TURN, None),
        ("one after the other", ONE_MORE, "instead of one missing"),
        ("one after the other", [START, Moment(2, 2, 0), START], "instead of one missing"),
        ("the old one ends first", ALONE, None),
        ("the old one ends first", [Moment(1, 1, 1), Moment(2, 1, 0), Moment(1, 1, 1)], "at the same time"),
        ("the old one ends first", [Moment(1, 1, 1)], "no pod changed"),
    ],
)
def test_rollouts_are_checked(way: str, seen: list[Moment], wrong: str | None) -> None:
    found = history.rollout(seen, way)
    assert found is None if wrong is None else found is not None and wrong in found


def test_each_process_has_a_way_of_the_table() -> None:
    ways = {process.name: trial.way(process) for process in PROCESSES}
    assert ways["streams"] == "one after the other"
    assert {name for name, way in ways.items() if way == "the old one ends first"} == {"watch", "canary"}
    assert all(f"| {way}" in DOCUMENT for way in ways.values())


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [(IN_TURN, False), ([START], False), ([START, Moment(0, 0, 0), START], True), ([START, Moment(1, 1, 1)], True)],
)
def test_disruptions_are_checked(seen: list[Moment], wrong: bool) -> None:
    assert (history.disruption(seen, 1) is not None) is wrong


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        ([(3, 160.0), (4, 220.0)], None),
        ([(3, 120.0), (4, 220.0)], "after only 20 s"),
        ([(3, 160.0), (4, 190.0)], "only 30 s between"),
        ([(4, 160.0)], "one by one"),
        ([], "one by one"),
    ],
)
def test_scaling_is_checked(steps: list[tuple[int, float]], wrong: str | None) -> None:
    found = history.scaling(steps, 2, 100.0, 60, 60)
    assert found is None if wrong is None else found is not None and wrong in found


def test_processes_in_one_zone_are_found() -> None:
    zones = {"node-a": "a", "node-b": "b"}
    pods = [
        pod("1"),
        pod("2"),
        pod("3", process="watch"),
        pod("4", process="streams"),
        pod("5", process="streams", node="node-b"),
    ]
    assert history.uneven(pods, zones) == ["verification"]


def test_differences_are_of_what_is_wanted() -> None:
    def one(version: str, *, replicas: int = 1, seen: int = 0) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}, "status": {"seen": seen}}

    before = {"a": one("1"), "b": one("1"), "c": one("1")}
    assert history.differences(before, {"a": one("2", seen=1), "b": one("1", replicas=2), "d": one("1")}) == [
        "b",
        "c",
        "d",
    ]


def test_commands_are_those_of_the_document() -> None:
    commands = trial.documented(DOCUMENT)
    assert commands[0] == "kubectl apply -f deploy/kubernetes/base/namespace.yaml"
    assert trial.installing(commands)[-1] == "kubectl apply -k OVERLAY"
    assert any("wait --for=condition=complete" in one for one in trial.installing(commands))
    assert trial.documented("    kubectl get pods\nkubectl is\n    make up\n") == ["kubectl get pods"]


def test_every_component_is_applied() -> None:
    production = trial.KUBERNETES / "overlays/production"
    missing = trial.lacking(production)
    named = yaml.safe_load((production / "kustomization.yaml").read_text(encoding="utf-8"))["components"]
    there = {path.name for path in (trial.KUBERNETES / "components").iterdir()}
    assert {path.name for path in missing} | {name.rpartition("/")[2] for name in named} >= there
    assert missing[-1].name == "other-logins"
    assert {path.relative_to(trial.KUBERNETES / "examples").parts[0] for path in trial.examples()} == {
        path.name for path in (trial.KUBERNETES / "examples").iterdir()
    }


def test_the_stand_in_for_keda_takes_what_is_in_the_objects() -> None:
    for process in scaling.by_lag():
        made = metrics_api.autoscaler(
            {**scaling.scaled_object(process), "metadata": {"name": process.name, "namespace": "goodfaith"}}
        )["spec"]
        assert made["scaleTargetRef"]["name"] == process.name
        assert made["metrics"][0]["external"]["target"] == {"type": "Value", "value": str(scaling.LAG_S)}
        assert made["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 1800


def stage(name: str, template: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchExpressions": []}, "next": {"statusTemplate": template}},
    }


def test_a_broken_image_runs_and_is_not_ready() -> None:
    template = 'conditions:\n- status: "True"\n  type: Initialized\n- status: "True"\n  type: Ready\n'
    made = {
        one["metadata"]["name"]: one["spec"]
        for one in tools.stages(iter([stage("pod-delete"), stage("pod-ready", template)]))
    }
    assert made["pod-ready"]["next"]["statusTemplate"] == template
    assert yaml.safe_load(made["pod-unready"]["next"]["statusTemplate"])["conditions"][1] == {
        "status": "False",
        "type": "Ready",
    }
    operators = {name: spec["selector"]["matchExpressions"] for name, spec in made.items()}
    assert [operators[name][0]["operator"] for name in ("pod-ready", "pod-unready")] == ["NotIn", "In"]
    assert operators["pod-delete"] == []
    with pytest.raises(StackError, match="pod-ready"):
        list(tools.stages(iter([stage("pod-ready", "other")])))


def test_versions_agree() -> None:
    text = (tools.HERE / "go.mod").read_text(encoding="utf-8")
    minor = re.fullmatch(r"v1\.(\d+\.\d+)", tools.kubernetes())
    assert minor is not None
    parts = re.findall(r"^\tk8s\.io/(\S+) => k8s\.io/(\S+) (\S+)$", text, flags=re.M)
    assert len(parts) > 30
    assert all(one == other and version == f"v0.{minor[1]}" for one, other, version in parts)
    # the operators' versions are those of the schemas that the unit tests use
    said = {"KEDA": "v2.20", "Prometheus operator": "v0.93", "CloudNativePG": "v1.30"}
    stored = [module.version.rpartition(".")[0] for module in tools.MODULES]
    assert set(said.values()) <= set(stored)
    assert all(f"{name} {version[1:]}" in DOCUMENT for name, version in said.items())
    assert "Strimzi 1.2" in DOCUMENT
    assert "api-1.2.0.jar" in (tools.HERE / "strimzi/jars.sha256").read_text(encoding="utf-8")
