"""Manifests: committed files are those of the code, an API server would take them, and they fit together."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from deploy.grafana.__main__ import FOLDER as BOARDS
from deploy.kubernetes import manifests, network, scaling, secrets, users
from deploy.kubernetes.__main__ import HERE, stale
from deploy.kubernetes.manifests import LOGIN, SECRETS
from deploy.kubernetes.model import OPTIONAL, PROCESSES, STAND_INS
from deploy.kubernetes.trial.trial import DOCUMENTS
from deploy.kubernetes.writing import files
from deploy.local.fleet import FLEET
from deploy.marketplace.worker import Marketplace
from deploy.process import METRICS_PORT
from services.intake.app import ROUTES
from services.ops import cli, idle
from services.ops.verify import records
from shared import access, callers, metrics, migrate, outbound, secret_files
from shared.settings import Settings
from tests.unit.deploy.cluster import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    WORKLOADS,
    Document,
    Network,
    missing,
    not_restricted,
    of_kind,
    pod_of,
    rendered,
    tool,
)
from tests.unit.deploy.kubernetes_schemas import NEWEST, OLDEST, errors

GENERATED = files()
COMMANDS = ("migrate", "verify", "prune")
"""Pods that run commands, and serve nothing."""
HOW_TO = "\n".join(one.read_text(encoding="utf-8") for one in DOCUMENTS)
PROSE = " ".join(HOW_TO.split())
PERFORMANCE = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def read(text: str) -> tuple[Document, ...]:
    return tuple(yaml.load_all(text, Loader=yaml.CSafeLoader))


def overlay_of(name: str) -> tuple[Document, ...]:
    return rendered(KUBERNETES / "overlays" / name)


# what is generated


@pytest.mark.parametrize("name", GENERATED)
def test_committed_files_are_fresh(name: str) -> None:
    assert (HERE / name).read_text(encoding="utf-8") == GENERATED[name], "run: python -m deploy.kubernetes"


def test_no_file_of_a_process_that_is_no_more() -> None:
    assert not stale(GENERATED)


@pytest.mark.parametrize("name", [name for name in GENERATED if name.endswith(".yaml")])
def test_an_api_server_takes_it(name: str) -> None:
    for document in yaml.safe_load_all(GENERATED[name]):
        if document["kind"] not in ("Kustomization", "Component"):
            assert not errors(document, OLDEST), document["metadata"]["name"]


def test_the_schemas_find_what_is_wrong() -> None:
    (deployment, budget) = yaml.safe_load_all(GENERATED["base/verification.yaml"])
    broken = copy.deepcopy(deployment)
    container = broken["spec"]["template"]["spec"]["containers"][0]
    container["readinessprobe"] = container.pop("readinessProbe")
    container["ports"][0]["containerPort"] = "metrics"
    del broken["spec"]["selector"]
    assert len(errors(broken, NEWEST)) == 3
    assert errors(budget | {"kind": "PodDisruption"}, NEWEST)
    scaled = next(
        one
        for one in yaml.safe_load_all(GENERATED["components/autoscaling/autoscaling.yaml"])
        if one["kind"] == "ScaledObject"
    )
    scaled["spec"]["maxReplicas"] = scaled["spec"].pop("maxReplicaCount")
    assert errors(scaled, NEWEST)


@pytest.mark.parametrize(
    ("cidr", "left_out"),
    [
        ("::/0", "::ffff:0:0/96"),
        ("::/0", "10.0.0.0/8"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8", "11.0.0.0/16"),
        ("10.0.0.0/8", "10.0.0.1/16"),
        ("10.0.0.0/8", "ten"),
    ],
)
def test_address_blocks_that_an_api_server_rejects_are_found(cidr: str, left_out: str) -> None:
    policy = next(iter(network.policies()))
    for excluded, refused in (([left_out], True), ([], False)):
        peer = {"ipBlock": {"cidr": cidr, "except": excluded}}
        assert bool(errors(policy | {"spec": policy["spec"] | {"egress": [{"to": [peer]}]}}, NEWEST)) is refused


def test_every_process_is_run() -> None:
    assert {process.name for process in PROCESSES} | set(STAND_INS) == {spec.name for spec in FLEET}


def test_secrets_are_settings() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {name for process in PROCESSES for name, _ in process.secrets} <= secret


@pytest.mark.parametrize(
    ("variables", "ci", "stops"),
    [
        ({}, True, pytest.skip.Exception),
        ({"CI": "true"}, True, pytest.fail.Exception),
        ({"CI": "true"}, False, pytest.skip.Exception),
        ({"MANIFESTS": "1"}, False, pytest.fail.Exception),
    ],
    ids=["by hand", "a renderer in CI", "the linter in CI", "make manifests"],
)
def test_what_is_missing_is_left_out_where_it_may_be(
    variables: dict[str, str], ci: bool, stops: type[BaseException]
) -> None:
    with mock.patch.dict(os.environ, variables):
        for name in {"CI", "MANIFESTS"} - set(variables):
            os.environ.pop(name, None)
        with pytest.raises(stops, match="no such tool"):
            missing("no such tool", ci=ci)


def test_nothing_is_rendered_without_a_renderer_and_ci_says_so(tmp_path: Path) -> None:
    with (
        mock.patch.dict(os.environ, {"CI": "true"}),
        mock.patch("tests.unit.deploy.cluster.renderer", return_value=None),
        pytest.raises(pytest.fail.Exception, match="kustomize"),
    ):
        rendered(tmp_path)


# what overlays make of it


@each_overlay
def test_an_api_server_takes_an_overlay(overlay: str) -> None:
    for document in overlay_of(overlay):
        for version in (OLDEST, NEWEST):
            assert not errors(document, version), f"{document['kind']} {document['metadata']['name']} {version}"


@each_overlay
def test_pods_meet_the_restricted_standard(overlay: str) -> None:
    documents = overlay_of(overlay)
    (space,) = of_kind(documents, "Namespace").values()
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, workload in of_kind(documents, *WORKLOADS).items():
        assert not not_restricted(pod_of(workload)), name
        spec = pod_of(workload)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_is_not_restricted_is_found() -> None:
    pod = pod_of(of_kind(overlay_of("small"), "Deployment")["verification"])
    for where, key, value in (
        ("spec", "hostNetwork", True),
        ("context", "runAsUser", 0),
        ("container", "allowPrivilegeEscalation", True),
        ("container", "capabilities", {"drop": ["NET_RAW"]}),
        ("context", "seccompProfile", {"type": "Unconfined"}),
    ):
        broken = copy.deepcopy(pod)
        places = {
            "spec": broken["spec"],
            "context": broken["spec"]["securityContext"],
            "container": broken["spec"]["containers"][0]["securityContext"],
        }
        places[where][key] = value
        assert len(not_restricted(broken)) == 1, key


@each_overlay
def test_everything_that_is_named_is_there(overlay: str) -> None:
    documents = overlay_of(overlay)
    there = {(one["kind"], one["metadata"]["name"]) for one in documents}
    for document in documents:
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "goodfaith"
    for name, workload in of_kind(documents, *WORKLOADS).items():
        spec = pod_of(workload)["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in there
        container = spec["containers"][0]
        assert not container["image"].endswith(":unset")
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", ())}
        mounts = {
            mount["name"] for one in (*spec.get("initContainers", ()), container) for mount in one["volumeMounts"]
        }
        assert mounts == set(volumes) | claims, name
        for source in container["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in there
                assert re.fullmatch(r"goodfaith-(settings|kafka)-\w+", source["configMapRef"]["name"]), (
                    "changes would start nothing again"
                )
        assert not [one for one in container["env"] if "secretKeyRef" in one.get("valueFrom", {})], "secrets are files"
    scaled = [one for one in documents if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    for one in scaled:
        target = of_kind(documents, "Deployment")[one["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "the overlay and the autoscaler would fight over it"
    assert bool(scaled) == (overlay == "production")
    pods = [pod_of(one)["metadata"]["labels"] for one in of_kind(documents, "Deployment", "StatefulSet").values()]
    for one in documents:
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            assert sum(wanted <= labels.items() for labels in pods) == 1, one["metadata"]["name"]


@each_overlay
def test_selectors_tell_processes_apart(overlay: str) -> None:
    workloads = of_kind(overlay_of(overlay), "Deployment", "StatefulSet")
    selectors = [one["spec"]["selector"]["matchLabels"] for one in workloads.values()]
    for workload in workloads.values():
        labels = pod_of(workload)["metadata"]["labels"]
        assert sum(selector.items() <= labels.items() for selector in selectors) == 1


# what comes first

WAVE = "argocd.argoproj.io/sync-wave"
HOOK = "argocd.argoproj.io/hook"


def named(documents: Iterable[Document]) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in documents}


def referred(workload: Document) -> set[tuple[str, str]]:
    """What a pod cannot start without, of what an overlay has."""
    spec = pod_of(workload)["spec"]
    containers = (*spec.get("initContainers", ()), *spec["containers"])
    maps = {
        source["configMapRef"]["name"] for one in containers for source in one["envFrom"] if "configMapRef" in source
    }
    return {("ConfigMap", name) for name in maps} | {("ServiceAccount", spec["serviceAccountName"])}


@each_overlay
def test_argo_has_the_migration_behind_it_before_a_process_is_started(overlay: str) -> None:
    documents = overlay_of(overlay)
    noted = {(one["kind"], one["metadata"]["name"]): one["metadata"].get("annotations", {}) for one in documents}
    waves = {name: int(annotations.get(WAVE, "0")) for name, annotations in noted.items()}
    first = named(one for one in documents if one["metadata"].get("labels", {}).get("goodfaith.example/first") == "yes")
    job = ("Job", "migrate")
    assert {name for name, annotations in noted.items() if HOOK in annotations} == {job}
    # PreSync would be before all waves, and so before what it needs
    assert noted[job][HOOK] == "Sync"
    assert noted[job]["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    migrate = of_kind(documents, "Job")["migrate"]
    needs = referred(migrate) | {("Namespace", "goodfaith")} | named(of_kind(documents, "NetworkPolicy").values())
    assert first == {job} | needs | {name for name in first if name[0] == "ServiceAccount"}
    assert all(waves[name] < waves[job] for name in first - {job})
    assert all(waves[job] < waves[name] for name in set(noted) - first)


@each_overlay
def test_nothing_is_tidied_up_that_is_still_needed(overlay: str) -> None:
    documents = overlay_of(overlay)
    used = set[str]()
    for workload in of_kind(documents, *WORKLOADS).values():
        used |= {name for kind, name in referred(workload) if kind == "ConfigMap"}
    (space,) = of_kind(documents, "Namespace").values()
    for one in (space, *(of_kind(documents, "ConfigMap")[name] for name in used)):
        assert one["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
        option = one["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
        assert option == ("Prune=false,Delete=false" if one is space else "PruneLast=true")


def flux() -> list[Document]:
    return list(yaml.safe_load_all((KUBERNETES / "examples/flux/goodfaith.yaml").read_text(encoding="utf-8")))


def test_flux_waits_for_the_migration() -> None:
    first, rest = flux()
    assert rest["spec"]["dependsOn"] == [{"name": first["metadata"]["name"]}]
    assert first["metadata"]["namespace"] == rest["metadata"]["namespace"]
    # else Flux does not wait for the same revision
    assert all(first["spec"][key] == rest["spec"][key] for key in ("sourceRef", "path"))
    assert first["spec"]["wait"] is True
    deadline = manifests.migration()["spec"]["activeDeadlineSeconds"]
    assert int(first["spec"]["timeout"].removesuffix("m")) * 60 > deadline


def copy_to(folder: Path) -> None:
    """Lay all of the manifests out elsewhere, to be changed."""
    shutil.copytree(KUBERNETES, folder / "deploy/kubernetes")
    shutil.copytree(BOARDS, folder / "deploy/grafana/dashboards")


@each_overlay
def test_flux_applies_everything_once(overlay: str, tmp_path: Path) -> None:
    applied = []
    for step in flux():
        root = tmp_path / step["metadata"]["name"]
        copy_to(root)
        written = root / "deploy/kubernetes/overlays" / overlay / "kustomization.yaml"
        plain = yaml.safe_load(written.read_text(encoding="utf-8"))
        # as Flux does it: patches of its own are added to those of the folder
        patches = [*plain.get("patches", ()), *step["spec"]["patches"]]
        written.write_text(yaml.safe_dump(plain | {"patches": patches}), encoding="utf-8")
        applied.append(rendered(written.parent))
    first, rest = applied
    assert not named(first) & named(rest)
    whole = {(one["kind"], one["metadata"]["name"]): one for one in overlay_of(overlay)}
    assert {(one["kind"], one["metadata"]["name"]): one for one in (*first, *rest)} == whole
    assert ("Job", "migrate") in named(first)
    assert not named(of_kind(first, "Deployment", "StatefulSet", "CronJob").values())


# what a process is given


def environment_of(container: Document, documents: tuple[Document, ...]) -> dict[str, str]:
    """The variables that a container is given."""
    maps = of_kind(documents, "ConfigMap")
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= maps[source["configMapRef"]["name"]]["data"]
    fields = {"metadata.name": f"{container['name']}-7d9c5b6f7d-x2x4z", "status.podIP": "10.0.0.7"}
    for one in container["env"]:
        found[one["name"]] = one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
    return found


def sources_of(pod: Document) -> list[Document]:
    """What a pod's folder of secrets is made of."""
    return [source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", ())]


def secrets_of(pod: Document) -> list[Document]:
    return [source["secret"] for source in sources_of(pod) if "secret" in source]


def mount(pod: Document, folder: Path, *lacking: str) -> set[str]:
    """Write a pod's folder of secrets; returns the files. Secrets that may lack a key lack those that are named."""
    noted = pod["metadata"].get("annotations", {})
    found = {}
    for source in sources_of(pod):
        for item in source.get("downwardAPI", {}).get("items", ()):
            (name,) = re.findall(r"metadata\.annotations\['(.*)'\]", item["fieldRef"]["fieldPath"])
            found[item["path"]] = noted[name]
        for item in source.get("secret", {}).get("items", ()):
            if source["secret"].get("optional") and item["key"] in lacking:
                continue
            special = {
                "database": "postgresql://role@db/goodfaith",
                "internal_callers": callers.written({"status": "x"}),
            }
            value = special.get(item["path"], "x" * 40)
            found[item["path"]] = f"{source['secret']['name']}-said" if item["key"] == "user" else value
    folder.mkdir()
    for path, value in found.items():
        (folder / path).write_text(value)
    return set(found)


@each_overlay
def test_every_process_could_read_its_settings(overlay: str, tmp_path: Path) -> None:
    documents = overlay_of(overlay)
    known = {f"GOODFAITH_{name.upper()}" for name in Settings.model_fields}
    known |= {secret_files.DIRECTORY, "PYTHON_CPU_COUNT"}
    for name, workload in of_kind(documents, *WORKLOADS).items():
        pod = pod_of(workload)
        (container,) = pod["spec"]["containers"]
        given = environment_of(container, documents)
        assert {key for key in given if not key.startswith("AWS_")} <= known, name
        files = mount(pod, tmp_path / name, "user")
        with mock.patch.dict(os.environ, given | {secret_files.DIRECTORY: str(tmp_path / name)}, clear=True):
            settings = Settings()
        held = {field for field in Settings.model_fields if field in files} - {"kafka_user"}
        assert all(getattr(settings, field).get_secret_value() for field in held), "what is mounted is read"
        if name not in ("status", "canary"):
            assert "database" in held
        processes = {process.name: process for process in PROCESSES}
        if name in COMMANDS or processes[name].kafka:
            principal = "operator" if name in COMMANDS else processes[name].spec.service
            assert principal in {one.name for one in access.principals(settings)}
            assert settings.kafka_user == access.login(settings, principal)
            assert settings.kafka_security == "sasl_tls"
        if name not in COMMANDS:
            assert settings.metrics_port == METRICS_PORT
            assert settings.metrics_host == "0.0.0.0"  # noqa: S104
            assert settings.instance
        assert settings.intake_url == "http://intake-api:8080"


@each_overlay
def test_a_login_at_the_broker_is_exchanged_by_its_secret(overlay: str, tmp_path: Path) -> None:
    documents = overlay_of(overlay)
    exchanged = set()
    for name, workload in of_kind(documents, *WORKLOADS).items():
        pod = pod_of(workload)
        if LOGIN not in pod["metadata"].get("annotations", {}):
            continue
        mount(pod, tmp_path / name)
        given = environment_of(pod["spec"]["containers"][0], documents)
        with mock.patch.dict(os.environ, given | {secret_files.DIRECTORY: str(tmp_path / name)}, clear=True):
            settings = Settings()
        user, password = settings.present("kafka_user"), settings.present("kafka_password")
        (secret,) = {one["name"] for one in secrets_of(pod) if "password" in {item["key"] for item in one["items"]}}
        assert user.read() == f"{secret}-said", "what the Secret says goes before what the pod says"
        (path,) = [
            item["path"]
            for one in secrets_of(pod)
            if one["name"] == secret
            for item in one["items"]
            if item["key"] == "user"
        ]
        (tmp_path / name / path).write_text("the-other")
        (tmp_path / name / "kafka_password").write_text("y" * 40)
        assert (user.read(), password.read()) == ("the-other", "y" * 40)
        exchanged.add(name)
    assert exchanged == {process.name for process in PROCESSES if process.kafka} - set(OPTIONAL) | {
        name for name in of_kind(documents, *WORKLOADS) if name in COMMANDS
    }


def with_components(folder: Path, *names: str) -> tuple[Document, ...]:
    """The small overlay with more components."""
    copy_to(folder)
    written = folder / "deploy/kubernetes/overlays/small/kustomization.yaml"
    plain = yaml.safe_load(written.read_text(encoding="utf-8"))
    plain["components"] += [f"../../components/{name}" for name in names]
    written.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return rendered(written.parent)


def test_all_pods_log_in_as_the_second_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users.main(["--other"])
    second = of_kind(read(capsys.readouterr().out), "KafkaUser")
    users.main([])
    first = of_kind(read(capsys.readouterr().out), "KafkaUser")
    assert len(first) == len(second)
    for name, one in second.items():
        assert not errors(one, OLDEST)
        assert one["spec"] == first[name.replace("other.", "", 1)]["spec"], "the same rights"
    documents = with_components(tmp_path, "intake-inbound", "other-logins")
    pods = [pod_of(one) for one in of_kind(documents, *WORKLOADS).values()]
    logging_in = [pod for pod in pods if LOGIN in pod["metadata"].get("annotations", {})]
    assert {pod["metadata"]["annotations"][LOGIN] for pod in logging_in} == set(second)
    for pod in pods:
        names = {one["name"] for one in secrets_of(pod)}
        assert not names & set(first)
        if pod in logging_in:
            assert pod["metadata"]["annotations"][LOGIN] in names


@each_overlay
def test_a_pod_has_its_own_secrets_only(overlay: str) -> None:
    specs = {spec.name: spec for spec in FLEET}
    secrets = {process.name: {name for name, _ in process.secrets} for process in PROCESSES}
    for name, workload in of_kind(overlay_of(overlay), "Deployment", "StatefulSet").items():
        sources = secrets_of(pod_of(workload))
        keys = {item["path"] for source in sources if source["name"] == "goodfaith" for item in source["items"]}
        assert keys == secrets[name]
        databases = {source["name"] for source in sources if source["name"].startswith("goodfaith-database-")}
        assert databases == ({f"goodfaith-database-{specs[name].role}"} if specs[name].role else set())
        assert all("items" in source for source in sources), "a whole Secret"
        (container,) = pod_of(workload)["spec"]["containers"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        if sources:
            assert mounts["secrets"]["mountPath"] == SECRETS


@each_overlay
def test_jobs_run_commands_that_there_are(overlay: str) -> None:
    commands: Any = typer.main.get_command(cli.build())
    found = 0
    for workload in of_kind(overlay_of(overlay), "Job", "CronJob", "Deployment", "StatefulSet").values():
        spec = pod_of(workload)["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            module, *words = container["args"]
            if module != cli.__name__:
                assert importlib.util.find_spec(f"{module}.__main__") is not None, module
                assert module != "services.observer" or words[0] in ("canary", "status", "watch")
                continue
            command = commands
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            options = {name for option in command.params for name in option.opts}
            assert {word for word in words if word.startswith("--")} <= options, container["name"]
            found += 1
    assert found >= 2


# what is proved each night


def test_what_never_rests_is_not_verified_each_night() -> None:
    assert set(of_kind(overlay_of("production"), "CronJob")) == {"prune"}
    assert set(of_kind(overlay_of("small"), "CronJob")) == {"prune", "verify"}


def test_the_nightly_proof_is_given_what_its_history_costs() -> None:
    measured = re.search(r"([\d,]+) items, ([\d,]+) events.*?`goodfaith verify` took (\d+) s", PERFORMANCE, flags=re.S)
    assert measured is not None
    items, events, seconds = (int(number.replace(",", "")) for number in measured.groups())
    job = of_kind(overlay_of("small"), "CronJob")["verify"]
    spec = job["spec"]["jobTemplate"]["spec"]
    wait = int(dict(itertools.pairwise(pod_of(job)["spec"]["containers"][0]["args"]))["--timeout"])
    assert wait + manifests.VERIFIABLE * seconds / items < spec["activeDeadlineSeconds"]
    value = b'{"specversion":"1.0","id":"verification.11.12345678","source":"/goodfaith/verification"}'
    line = records.line("verification.events", 11, 12_345_678, b"L-1", value)
    assert line is not None
    (tmp,) = [volume["emptyDir"] for volume in pod_of(job)["spec"]["volumes"] if volume["name"] == "tmp"]
    assert manifests.VERIFIABLE * events / items * len(line) < int(tmp["sizeLimit"].removesuffix("Mi")) * 2**20
    storage = pod_of(job)["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"]
    assert int(storage.removesuffix("Mi")) > int(tmp["sizeLimit"].removesuffix("Mi"))
    # and what the document says of it
    assert f"{seconds} s for {items:,} items" in PROSE
    minutes, hours = 1e6 * seconds / items / 60, spec["activeDeadlineSeconds"] / 3600
    assert f"{minutes:.0f} minutes for each million" in PROSE
    assert f"{1e6 * events / items * len(line) / 1e9:.1f} GB for each million" in PROSE
    assert f"beyond {hours:.0f} hours with the {hours * 60 / minutes:.0f}th million" in PROSE


# examples

EXAMPLES = ("kafka", "postgres", "ingress")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_api_server_takes_an_example(example: str) -> None:
    for document in rendered(KUBERNETES / "examples" / example):
        for version in (OLDEST, NEWEST):
            assert not errors(document, version), f"{document['kind']} {document['metadata']['name']} {version}"


def test_users_of_the_broker_are_those_that_pods_log_in_as() -> None:
    known = of_kind(rendered(KUBERNETES / "examples/kafka"), "KafkaUser")
    documents = overlay_of("small")
    noted = [pod_of(one)["metadata"].get("annotations", {}) for one in of_kind(documents, *WORKLOADS).values()]
    assert {one[LOGIN] for one in noted if LOGIN in one} == set(known) - {"goodfaith-marketplace"}
    verification = known["goodfaith-verification"]["spec"]["authorization"]["acls"]
    allowed = {(one["resource"].get("name"), operation) for one in verification for operation in one["operations"]}
    assert ("verification.events", "Write") in allowed
    assert ("intake.events", "Read") in allowed
    assert ("intake.events", "Write") not in allowed


def test_roles_of_the_database_are_those_that_pods_log_in_as() -> None:
    (cluster,) = of_kind(rendered(KUBERNETES / "examples/postgres"), "Cluster").values()
    managed = {role["name"]: role for role in cluster["spec"]["managed"]["roles"]}
    assert managed.pop(migrate.PARTY) == {"name": migrate.PARTY, "login": False}
    roles = {name: role["passwordSecret"]["name"] for name, role in managed.items()}
    wanted = {process.spec.role for process in PROCESSES} - {None}
    assert roles == {f"goodfaith_{role}": f"goodfaith-database-{role}" for role in wanted}
    assert {name: role["inRoles"] for name, role in managed.items() if "inRoles" in role} == {
        f"goodfaith_{role}": [group] for role, group in {**migrate.MEMBERS, "intake": migrate.PARTY}.items()
    }


def test_a_second_role_as_the_document_has_it_may_do_the_same() -> None:
    (text,) = re.findall(r"^(?: {4}.*\n)*? {4}- name: goodfaith_\w+\n(?: {4}.*\n)+", HOW_TO, flags=re.M)
    (second,) = yaml.safe_load(text)
    (cluster,) = of_kind(rendered(KUBERNETES / "examples/postgres"), "Cluster").values()
    roles = cluster["spec"]["managed"]["roles"]
    (first,) = second["inRoles"]
    assert second["name"] == f"{first}{migrate.OTHER}"
    assert first in {role["name"] for role in roles}
    changed = copy.deepcopy(cluster)
    changed["spec"]["managed"]["roles"].append(second)
    assert not errors(changed, NEWEST)
    assert second["passwordSecret"]["name"] not in {role["passwordSecret"]["name"] for role in roles if role["login"]}


def test_the_public_sees_intake_public_paths_only() -> None:
    (ingress,) = of_kind(rendered(KUBERNETES / "examples/ingress"), "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    shown = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]

    def public(path: str) -> bool:
        return any(path == one or (kind == "Prefix" and path.startswith(f"{one}/")) for one, kind in shown)

    for handler in ROUTES:
        for path in handler.paths:
            assert public(path) is not path.startswith("/internal"), path


def test_secrets_are_made_once(tmp_path: Path) -> None:
    out = tmp_path / "secrets.yaml"
    given = [str(out), "--database-namespace", "postgres"]
    assert secrets.main(given) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    made = list(yaml.safe_load_all(out.read_text()))
    for document in made:
        assert not errors(document, OLDEST)
    ours = {one["metadata"]["name"]: one["stringData"] for one in made if one["metadata"]["namespace"] == "goodfaith"}
    wanted = {
        one["name"]
        for workload in of_kind(overlay_of("production"), *WORKLOADS).values()
        for one in secrets_of(pod_of(workload))
        if not one.get("optional")
    }
    assert wanted == set(ours)
    needed = {name for process in PROCESSES for name, must in process.secrets if must and process.name not in OPTIONAL}
    assert needed <= set(ours["goodfaith"])
    for one in made:
        if one["metadata"]["namespace"] == "postgres":
            assert f":{one['stringData']['password']}@" in ours[one["metadata"]["name"]]["url"]
            assert one["metadata"]["labels"]["cnpg.io/reload"] == "true", "a new password waits for something else"
    values = [value for one in made for value in one["stringData"].values() if not value.startswith("goodfaith")]
    assert len(set(values)) == len(values)
    assert secrets.main(given) == 1
    assert list(yaml.safe_load_all(out.read_text())) == made


def test_roles_of_a_database_of_ones_own_get_their_passwords(tmp_path: Path) -> None:
    out = tmp_path / "secrets.yaml"
    assert secrets.main([str(out), "--database", "db.example:5433/goodfaith"]) == 0
    made = {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(out.read_text())}
    passwords = made["goodfaith-database-passwords"]
    assert set(passwords) == {f"goodfaith_{process.spec.role}" for process in PROCESSES if process.spec.role}
    for login, password in passwords.items():
        url = made[f"goodfaith-database-{login.removeprefix('goodfaith_')}"]["url"]
        assert url.startswith(f"postgresql://{login}:{password}@db.example:5433/goodfaith?sslmode=verify-full")
    spec = pod_of(of_kind(overlay_of("production"), "Job")["migrate"])["spec"]
    folder = {one["name"]: one.get("value") for one in spec["initContainers"][0]["env"]}["GOODFAITH_PASSWORDS_DIR"]
    mounts = {one["mountPath"]: one["name"] for one in spec["initContainers"][0]["volumeMounts"]}
    (volume,) = [one for one in spec["volumes"] if one["name"] == mounts[folder]]
    assert volume["secret"]["secretName"] == "goodfaith-database-passwords"
    assert mounts[folder] not in {one["name"] for one in spec["containers"][0]["volumeMounts"]}


# what one types by the document


def steps() -> list[list[str]]:
    """Commands of the document's section, in its order, as words."""
    lines = re.findall(r"^ {4}((?:kubectl|python) .*)$", HOW_TO, flags=re.M)
    return [shlex.split(line, comments=True) for line in lines]


def documents_in(path: Path) -> tuple[Document, ...]:
    return read(path.read_text(encoding="utf-8"))


def written_by(step: list[str], tmp_path: Path) -> dict[str, list[Document]]:
    """Files that a step makes; of Secrets, what is in them."""
    made: dict[str, list[Document]] = {word: [] for before, word in itertools.pairwise(step) if before == ">"}
    if step[:3] == ["python", "-m", "deploy.kubernetes.secrets"]:
        file, *more = step[3:]
        assert secrets.main([str(tmp_path / file), *more]) == 0
        made[file] = list(documents_in(tmp_path / file))
    return made


def applied_by(step: list[str], made: dict[str, list[Document]]) -> list[Document]:
    """Documents that a step gives the cluster; an overlay is the reader's."""
    found: list[Document] = []
    for option, name in itertools.pairwise(step):
        if option == "-f" and name in made:
            found += made[name]
        elif option == "-f":
            found += documents_in(ROOT / name)
        elif option == "-k" and name != "OVERLAY":
            (listed,) = documents_in(ROOT / name / "kustomization.yaml")
            for resource in listed["resources"]:
                found += documents_in(ROOT / name / resource)
            for one in found:
                if "namespace" in listed and one["kind"] != "Namespace":
                    one["metadata"].setdefault("namespace", listed["namespace"])
        elif name.startswith("--from-file="):
            assert name.removeprefix("--from-file=") in made
    return found


def test_steps_of_the_document_name_what_there_is_in_an_order_that_works(tmp_path: Path) -> None:
    made: dict[str, list[Document]] = {}
    spaces: set[str] = set()
    given: set[str] = set()
    for step in steps():
        documents = applied_by(step, made)
        spaces |= {one["metadata"]["name"] for one in documents if one["kind"] == "Namespace"}
        into = {one["metadata"]["namespace"] for one in documents if one["kind"] != "Namespace"}
        if "-n" in step:
            into.add(step[step.index("-n") + 1])
        assert into <= spaces, step
        given |= {one["metadata"]["name"] for one in documents if one["kind"] == "Secret"}
        made |= written_by(step, tmp_path)
    assert "goodfaith-database-admin" in given, "Secrets are made and never applied"
    assert ["kubectl", "apply", "-k", "OVERLAY"] in steps()


# a policy linter

LEFT_OUT = {
    # images are named by version or digest, and those do not change
    "container-image-pull-policy",
    # topologySpreadConstraints do it, over zones and hosts
    "deployment-has-host-podantiaffinity",
    "statefulset-has-host-podantiaffinity",
    # how many there are is said by overlays and autoscalers
    "deployment-replicas",
    # policies of processes that an overlay does not run select nothing
    "networkpolicy-targets-pod",
}
"""Checks of kube-score that do not apply, and why."""


@each_overlay
def test_the_policy_linter_finds_nothing(overlay: str, tmp_path: Path) -> None:
    linter = tool("kube-score")
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(overlay_of(overlay)))
    ignored = [word for name in sorted(LEFT_OUT) for word in ("--ignore-test", name)]
    done = subprocess.run(
        [
            linter,
            "score",
            "--output-format",
            "json",
            "--kubernetes-version",
            f"v{OLDEST}",
            # no limit: a worker that is held up in a transaction holds up others
            "--ignore-container-cpu-limit",
            *ignored,
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    found = [
        f"{one['object_name']}: {check['check']['id']}: {comment['summary']}"
        for one in json.loads(done.stdout)
        for check in one["checks"] or ()
        if not check["skipped"] and check["grade"] < 10  # what is good may have comments too
        for comment in check["comments"] or ()
    ]
    assert done.stdout.count('"check"') > 300
    assert not found, "\n".join(found)


# who may speak to whom


@each_overlay
def test_processes_reach_whom_they_ask_and_nobody_else(overlay: str) -> None:
    net = Network(overlay_of(overlay))
    shapes = {process.name: process.shape for process in PROCESSES}
    served = {process.name for process in PROCESSES if process.spec.port}
    for asker in net.pods:
        for asked in net.pods:
            asks = asker in shapes and asked in shapes[asker].asks
            assert net.connects(asker, asked, 8080) is (asks and asked in served), f"{asker} -> {asked}"
            assert not net.connects(asker, asked, METRICS_PORT), f"{asker} -> {asked}"


def test_places_outside_are_reached_by_those_who_need_them() -> None:
    ports = {"kafka": 9093, "postgres": 5432, "mail": 587, "monitoring": 9090, "evidence-store": 443}
    places = {"monitoring": "prometheus", "evidence-store": "store"}
    processes = {process.name: process for process in PROCESSES}
    for label, port in ports.items():
        space = {f"goodfaith.example/{label}": "yes"}
        # the small overlay has the store elsewhere
        net = Network(rendered(KUBERNETES / "base") if label == "evidence-store" else overlay_of("small"))
        for name in net.pods:
            needs = (
                label in ("kafka", "postgres")
                if name in COMMANDS
                else places.get(label, label) in processes[name].reaches
            )
            assert net.reaches(name, space, port) is needs, f"{name} -> {label}"
            assert not net.reaches(name, {}, port)
            assert not net.reaches(name, space, 22)


def places_of(settings: Mapping[str, str]) -> dict[str, list[tuple[str, int]]]:
    """Hosts and ports that settings name, by the label of the namespaces that may hold them."""
    assert settings["GOODFAITH_EVIDENCE_URL"].startswith("s3://")
    store = urlsplit(settings.get("AWS_ENDPOINT_URL", f"https://s3.{settings['AWS_REGION']}.amazonaws.com"))
    brokers = [server.rsplit(":", 1) for server in settings["GOODFAITH_KAFKA"].split(",")]
    return {
        "evidence-store": [(str(store.hostname), store.port or 443)],
        "kafka": [(host, int(port)) for host, port in brokers],
        "mail": [(settings["GOODFAITH_SMTP_HOST"], int(settings["GOODFAITH_SMTP_PORT"]))],
    }


@each_overlay
def test_what_the_settings_name_is_reached(overlay: str) -> None:
    documents = overlay_of(overlay)
    net = Network(documents)
    settings: dict[str, str] = {}
    for one in of_kind(documents, "ConfigMap").values():
        settings |= one["data"]
    for label, named_places in places_of(settings).items():
        place = {"evidence-store": "store"}.get(label, label)
        for name in [process.name for process in PROCESSES if place in process.reaches and process.name in net.pods]:
            for host, port in named_places:
                if host.endswith(".svc"):
                    assert net.reaches(name, {f"goodfaith.example/{label}": "yes"}, port), f"{name} -> {host}"
                else:
                    assert net.addresses(name, port), f"{name} -> {host}: no address outside is named for port {port}"


def test_the_public_network_is_what_webhooks_may_be_in() -> None:
    blocks = [one["ipBlock"] for one in network.public()]
    nets = [(ip_network(one["cidr"]), [ip_network(other) for other in one["except"]]) for one in blocks]
    for text in (
        "1.1.1.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "2606:4700::1111",
        "2001:db8::1",
        "fc00::1",
        "::ffff:0:7f00:1",
        "64:ff9b::808:808",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
    ):
        address = ip_address(text)
        reached = any(address in net and not any(address in other for other in special) for net, special in nets)
        assert reached == outbound.allowed(address, outbound.Rules()), text


def test_the_denial_has_nothing_that_a_server_drops() -> None:
    (denial,) = [one["spec"] for one in network.policies() if one["metadata"]["name"] == "default-deny"]
    assert denial == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_without_the_denial_everything_would_be_let_through() -> None:
    documents = overlay_of("small")
    net = Network(documents)
    assert not net.connects("verification", "intake-api", 8080)
    opened = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "open"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
    }
    assert Network((*documents, opened)).connects("verification", "intake-api", 8080)


# what is measured


def test_targets_are_named_as_rules_and_boards_name_them() -> None:
    (target,) = of_kind(overlay_of("production"), "PodMonitor").values()
    (endpoint,) = target["spec"]["podMetricsEndpoints"]
    pods = [pod_of(one) for one in of_kind(overlay_of("production"), "Deployment", "StatefulSet").values()]
    assert len(pods) == len(PROCESSES) - len(OPTIONAL) + 2
    for pod in pods:
        assert target["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert endpoint["port"] in ports
    jobs = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
    assert jobs <= {spec.name for spec in FLEET}
    source = endpoint["relabelings"][0]
    assert source == {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "job"}


def test_all_boards_are_shown() -> None:
    maps = of_kind(overlay_of("production"), "ConfigMap")
    shown = {key for one in maps.values() for key in one["data"] if key.endswith(".json")}
    assert shown == {path.name for path in BOARDS.glob("*.json")}


def _cases(name: str, group: str | None, query: str) -> list[dict[str, Any]]:
    """A lag that counts, one that does not because its workers wait, none, and nothing known."""
    lag = f'goodfaith_consumer_lag_seconds{{group="{group}",topic="a",partition="%d",instance="watch-0"}}'
    cpu = f'process_cpu_seconds_total{{job="{name}",instance="%d"}}'
    sent = f'goodfaith_delivery_oldest_pending_timestamp_seconds{{job="{name}",channel="email"}}'
    mail = group is None

    def case(lags: list[int], busy: float | None, value: float | None) -> dict[str, Any]:
        series = [{"series": lag % n, "values": f"{value}x120"} for n, value in enumerate(lags)]
        if mail:
            # 900 s are over when it is looked at
            series = [{"series": sent, "values": f"{900 - lags[1] if lags[1] else 0}x120"}] if lags else []
        if busy is not None:
            series += [{"series": cpu % n, "values": f"0+{busy * 15}x120"} for n in range(2)]
        found = [] if value is None else [{"labels": "{}", "value": value}]
        return {
            "interval": "15s",
            "input_series": series,
            "promql_expr_test": [{"expr": query, "eval_time": "15m", "exp_samples": found}],
        }

    return [
        case([40, 40, 0] if not mail else [0, 40], 0.9, 40),
        case([40, 40, 0] if not mail else [0, 40], 0.2, 0),
        case([0, 0, 0] if not mail else [0, 0], 0.9, 0),
        case([], 0.9, None),
        case([40, 40, 0] if not mail else [0, 40], None, None),
    ]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (deploy/local/setup.sh prometheus)"
)
def test_lag_counts_while_workers_are_busy(tmp_path: Path) -> None:
    tests = [
        case for process in scaling.by_lag() for case in _cases(process.name, process.shape.group, scaling.lag(process))
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_of_keda_is_told_that_the_fallback_needs() -> None:
    scaled = [scaling.scaled_object(process)["spec"] for process in scaling.by_lag()]
    assert all("fallback" in one and one["triggers"][0]["metricType"] == "Value" for one in scaled)
    overlay = (KUBERNETES / "overlays/production/kustomization.yaml").read_text(encoding="utf-8")
    assert "KEDA 2.18 or newer" in overlay
    assert "KEDA, 2.18 or newer" in PROSE


def test_lag_is_of_series_that_there_are() -> None:
    known = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")  # which is tested to be fresh
    for process in scaling.by_lag():
        for series in re.findall(r"goodfaith_\w+", scaling.lag(process)):
            assert f"| `{series}` | gauge |" in known, series


def test_groups_are_those_that_are_watched() -> None:
    readers = idle.readers(Settings(upstreams={"crm": "a-crm"}))
    groups = {reader.name for reader in readers} - {Marketplace.name}
    assert {process.shape.group for process in PROCESSES} - {None} == groups
    assert {process.name for process in PROCESSES if process.shape.group} == set(metrics.WORKERS) - {"marketplace"}


def test_settings_of_overlays_say_each_thing_once() -> None:
    for overlay in OVERLAYS:
        folder = KUBERNETES / "overlays" / overlay
        lines = [line for path in folder.glob("*.env") for line in path.read_text(encoding="utf-8").splitlines()]
        names = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
        assert len(set(names)) == len(names)
        assert not [line for line in lines if line.startswith("GOODFAITH") and line.endswith("=")]


def test_nothing_here_names_this_machine() -> None:
    for path in sorted((ROOT / "deploy/kubernetes").rglob("*")):
        if path.suffix in (".yaml", ".env", ".md"):
            assert not re.search(r"/home/|/root/|127\.0\.0\.1(?!/8)", path.read_text(encoding="utf-8")), path
