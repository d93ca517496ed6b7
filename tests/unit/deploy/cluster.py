"""A cluster in the mind: what overlays render to, who may connect to whom, and whether pods would be let in."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("small", "production")
WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
Document = dict[str, Any]


def renderer() -> list[str] | None:
    """The command that renders a kustomization."""
    if (ours := ROOT / ".local/tools/kustomize").is_file():
        return [str(ours), "build"]
    if found := shutil.which("kustomize"):
        return [found, "build"]
    return [found, "kustomize"] if (found := shutil.which("kubectl")) else None


def missing(what: str, *, ci: bool = False) -> NoReturn:
    """Leave a test out; not in `make manifests`, which has installed what is needed.

    Args:
        ci: whether CI has it too.
    """
    wanted = os.environ.get("MANIFESTS") or (ci and os.environ.get("CI"))
    stop = pytest.fail if wanted else pytest.skip
    stop(f"{what} is installed: make manifests")
    raise AssertionError


def tool(name: str) -> str:
    """A program that `make manifests` has installed."""
    path = ROOT / ".local/tools" / name
    if not path.is_file():
        missing(f"no {name}")
    return str(path)


@functools.cache
def rendered(folder: Path) -> tuple[Document, ...]:
    """All documents of a kustomization, as `kubectl apply -k` would send them."""
    command = renderer()
    if command is None:
        # without it no overlay is looked at, and nobody would see that in CI
        missing("neither kustomize nor kubectl", ci=True)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def of_kind(documents: tuple[Document, ...], *kinds: str) -> dict[str, Document]:
    """Documents of some kinds, by name."""
    return {one["metadata"]["name"]: one for one in documents if one["kind"] in kinds}


def pod_of(workload: Document) -> Document:
    """The pod that a workload makes."""
    spec = workload["spec"]
    template: Document = spec["jobTemplate"]["spec"]["template"] if workload["kind"] == "CronJob" else spec["template"]
    return template


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In", one
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


class Network:
    """Which connections inside a namespace its policies let through, by the rules of the networking API."""

    def __init__(self, documents: tuple[Document, ...]) -> None:
        self._policies = [one["spec"] for one in of_kind(documents, "NetworkPolicy").values()]
        self.pods = {name: pod_of(one) for name, one in of_kind(documents, *WORKLOADS).items()}
        (space,) = of_kind(documents, "Namespace").values()
        self._space = {**space["metadata"]["labels"], "kubernetes.io/metadata.name": space["metadata"]["name"]}

    def _labels(self, name: str) -> dict[str, str]:
        labels: dict[str, str] = self.pods[name]["metadata"]["labels"]
        return labels

    def _ports(self, name: str) -> dict[str, int]:
        ports = self.pods[name]["spec"]["containers"][0].get("ports", ())
        return {port["name"]: port["containerPort"] for port in ports}

    def _peer(self, peer: Mapping[str, Any], name: str) -> bool:
        if "ipBlock" in peer:
            return False  # a pod's address is private, and those are left out of every block here
        space = peer.get("namespaceSelector")
        if space is not None and not selects(space, self._space):
            return False
        return selects(peer.get("podSelector", {}), self._labels(name))

    def _lets(self, way: str, owner: str, other: str, target: str, port: int) -> bool:
        towards = {"Egress": "to", "Ingress": "from"}[way]
        mine = [
            policy
            for policy in self._policies
            if way in policy["policyTypes"] and selects(policy["podSelector"], self._labels(owner))
        ]
        assert mine, f"no policy denies {owner} {way}"
        for policy in mine:
            for rule in policy.get(way.lower()) or ():
                ports = [self._ports(target).get(one["port"], one["port"]) for one in rule.get("ports", ())]
                peers = rule.get(towards)
                if (not ports or port in ports) and (peers is None or any(self._peer(one, other) for one in peers)):
                    return True
        return False

    def connects(self, asker: str, asked: str, port: int) -> bool:
        """Whether one pod may open a connection to another."""
        return self._lets("Egress", asker, asked, asked, port) and self._lets("Ingress", asked, asker, asked, port)

    def reaches(self, name: str, space: Mapping[str, str], port: int) -> bool:
        """Whether a pod may open a connection to any pod of another namespace, by that one's labels."""
        for policy in self._policies:
            if "Egress" in policy["policyTypes"] and selects(policy["podSelector"], self._labels(name)):
                for rule in policy.get("egress") or ():
                    if port not in [one["port"] for one in rule["ports"]]:
                        continue
                    for peer in rule["to"]:
                        if "namespaceSelector" in peer and selects(peer["namespaceSelector"], space):
                            return True
        return False

    def addresses(self, name: str, port: int) -> set[str]:
        """Blocks of addresses outside to which a pod may open a connection."""
        return {
            peer["ipBlock"]["cidr"]
            for policy in self._policies
            if "Egress" in policy["policyTypes"] and selects(policy["podSelector"], self._labels(name))
            for rule in policy.get("egress") or ()
            if port in [one["port"] for one in rule["ports"]]
            for peer in rule["to"]
            if "ipBlock" in peer
        }


_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def not_restricted(pod: Document) -> list[str]:
    """What the pod security standard `restricted` refuses in a pod."""
    spec = pod["spec"]
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {one['name']}" for one in spec.get("volumes", ()) if set(one) - {"name"} - _VOLUMES]
    whole = spec.get("securityContext", {})
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        own = container.get("securityContext", {})
        both = {**whole, **own}
        wants = {
            "runAsNonRoot": both.get("runAsNonRoot") is True and both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities", {}).get("drop") == ["ALL"]
            and set(own["capabilities"].get("add", ())) <= {"NET_BIND_SERVICE"},
            "privileged": not own.get("privileged"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {what}" for what, good in wants.items() if not good]
    return found
