"""The manifests on a control plane: what docs/deploying.md has people type, both overlays, all components and examples."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.images import ROOT
from deploy.kubernetes.manifests import NAMESPACE
from deploy.kubernetes.model import PROCESSES, Process
from deploy.kubernetes.trial import history, metrics_api, tools
from deploy.kubernetes.trial.control_plane import ZONES, ControlPlane, Document, running, wait_for
from deploy.kubernetes.trial.metrics_api import Told
from deploy.kubernetes.trial.tools import BROKEN
from deploy.local.children import StackError
from deploy.local.steps import Steps

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
DOCUMENT: Final = ROOT / "docs" / "deploying.md"
FOLDER: Final = ROOT / ".local" / "kubernetes"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
WORKLOADS: Final = ("deployments", "statefulsets")
SPACES: Final = (NAMESPACE, "kafka", "postgres", "flux-system")


def documented(text: str) -> list[str]:
    """The commands for a cluster that a document tells people to type, in its order."""
    return re.findall(r"^ {4}((?:kubectl|python -m deploy\.kubernetes)\b.*)$", text, flags=re.M)


def installing(commands: Sequence[str]) -> Sequence[str]:
    """Of these the ones up to an installed overlay."""
    return commands[: commands.index("kubectl apply -k OVERLAY") + 1]


def upgrading(commands: Sequence[str]) -> Sequence[str]:
    """Of these the ones that upgrade to an overlay."""
    found = installing(commands)
    return found[next(number for number, one in enumerate(found) if "delete job migrate" in one) :]


@dataclass(frozen=True)
class Mistake:
    """A manifest with something wrong, and what the API server says of it.

    Attributes:
        kind: Of the document that it is made of.
        spoil: Puts the mistake into the document.
        said: Found in the refusal.
    """

    name: str
    kind: str
    spoil: Callable[[Document], None]
    said: str


def _container(one: Document) -> Document:
    found: Document = one["spec"]["template"]["spec"]["containers"][0]
    return found


def _block(one: Document) -> None:
    peers = [peer for rule in one["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
    peers[-1]["ipBlock"] = {"cidr": "::/0", "except": ["::ffff:0:0/96"]}


MISTAKES: Final = (
    Mistake("mapped network", "NetworkPolicy", _block, "must not have an IPv4-mapped|strict subset"),
    Mistake("misspelt field", "Deployment", lambda one: _container(one).update(readinessprobe=_container(one).pop("readinessProbe")), "readinessprobe"),
    Mistake("selector of another", "StatefulSet", lambda one: one["spec"]["selector"]["matchLabels"].update(other="yes"), "does not match template|forbidden"),
    Mistake("no such port", "Service", lambda one: one["spec"]["ports"][0].update(port=70000), "between 1 and 65535"),
    Mistake("unknown field of KEDA's", "ScaledObject", lambda one: one["spec"].update(maxReplicas=one["spec"].pop("maxReplicaCount")), "maxReplicas"),
    Mistake("rule without expression", "PrometheusRule", lambda one: one["spec"]["groups"][0]["rules"][0].pop("expr"), "expr"),
    Mistake("interval that is none", "PodMonitor", lambda one: one["spec"]["podMetricsEndpoints"][0].update(interval="soon"), "interval"),
    Mistake("login of no kind", "KafkaUser", lambda one: one["spec"]["authentication"].update(type="none"), "authentication"),
    Mistake("role of no kind", "KafkaNodePool", lambda one: one["spec"].update(roles=["leader"]), "roles"),
    Mistake("no instances", "Cluster", lambda one: one["spec"].update(instances=0), "instances"),
    Mistake("path of no type", "Ingress", lambda one: one["spec"]["rules"][0]["http"]["paths"][0].update(pathType="Regex"), "pathType"),
    Mistake("step without a source", "Kustomization", lambda one: one["spec"].pop("sourceRef"), "sourceRef"),
)  # fmt: skip

LOOSE: Final[dict[str, Callable[[Document], None]]] = {
    "root": lambda pod: pod["spec"]["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    "host network": lambda pod: pod["spec"].update(hostNetwork=True),
    "capability": lambda pod: pod["spec"]["containers"][0]["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "no seccomp": lambda pod: pod["spec"]["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "host path": lambda pod: pod["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
}
"""Ways in which a pod does not meet the standard `restricted`."""


def way(process: Process) -> str:
    """How a process gets a new version, as the document's table has it."""
    if process.shape.kind == "stored":
        return "one after the other"
    return "one more first" if process.shape.overlap else "the old one ends first"


class Trial:
    """One run. What is not as it should be raises StackError."""

    def __init__(self, plane: ControlPlane, steps: Steps) -> None:
        self.plane = plane
        self.steps = steps
        self.desk = FOLDER / "desk"
        self.applied: dict[str, Document] = {}

    # operators

    @contextlib.contextmanager
    def operators(self) -> Iterator[None]:
        """Say what Strimzi and CloudNativePG would: that everything is ready, and who vouches for it."""
        ended = threading.Event()
        places = (
            ("/apis/kafka.strimzi.io/v1", "kafkas", "kafka", "goodfaith-cluster-ca-cert"),
            ("/apis/kafka.strimzi.io/v1", "kafkausers", NAMESPACE, None),
            ("/apis/postgresql.cnpg.io/v1", "clusters", "postgres", "goodfaith-ca"),
        )
        condition = {"type": "Ready", "status": "True", "reason": "Trial", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip

        def say(api: str, plural: str, space: str, secret: str | None) -> None:
            for one in self.plane.items(f"{api}/namespaces/{space}/{plural}"):
                if one.get("status", {}).get("conditions"):
                    continue
                if secret:
                    self._secret(space, secret, {"ca.crt": "a certificate\n"})
                path = f"{api}/namespaces/{space}/{plural}/{one['metadata']['name']}/status"
                self.plane.patch(path, {"status": {"conditions": [condition]}})

        def work() -> None:
            while not ended.wait(0.5):
                for place in places:
                    with contextlib.suppress(StackError):  # what is being deleted
                        say(*place)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield
        finally:
            ended.set()
            worker.join(60)

    def _secret(self, space: str, name: str, values: dict[str, str]) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        one = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": space}, "data": data}
        self.plane.kubectl("apply", "-f", "-", said=json.dumps(one))

    # documents

    def type(self, commands: Sequence[str], overlay: Path) -> int:
        """Type commands of the document, in an empty folder; how many.

        Raises:
            StackError: one failed.
        """
        shutil.rmtree(self.desk, ignore_errors=True)
        self.desk.mkdir()
        (self.desk / "deploy").symlink_to(ROOT / "deploy")
        with self.operators():
            for command in commands:
                self._type(command, overlay)
        return len(commands)

    def _type(self, command: str, overlay: Path) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("OVERLAY", str(overlay))],
            cwd=self.desk, env=self.plane.environment | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        if done.returncode:
            raise StackError(f"{command}\n{(done.stdout + done.stderr)[-4000:]}")

    def rendered(self, folder: Path) -> list[Document]:
        """The documents of a kustomization, or of a file."""
        text = folder.read_text() if folder.is_file() else self.plane.kubectl("kustomize", str(folder))
        return [one for one in yaml.safe_load_all(text) if one]

    def snapshot(self, documents: Sequence[Document]) -> dict[str, Document]:
        """What is in the cluster of some documents."""
        said = yaml.safe_dump_all(documents)
        found = json.loads(self.plane.kubectl("get", "-f", "-", "-o", "json", said=said))
        items = found.get("items", [found])
        return {f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in items}

    def apply(self, documents: Sequence[Document]) -> None:
        """Apply strictly on the server's side, and wait until everything is at rest.

        Raises:
            StackError: something is refused.
        """
        command = ("apply", "--server-side", "--validate=strict", "--force-conflicts", "-f", "-")
        self.plane.kubectl(*command, said=yaml.safe_dump_all(documents))
        self.rest()

    def twice(self, folder: Path) -> int:
        """Apply a kustomization or a file twice; how many objects there are.

        Raises:
            StackError: something is refused, or the second time changes something.
        """
        documents = self.rendered(folder)
        self.apply(documents)
        before = self.snapshot(documents)
        self.apply(documents)
        after = self.snapshot(documents)
        if changed := history.differences(before, after):
            raise StackError(f"applied again, it changes {', '.join(changed)}")
        if len(after) != len(documents):
            raise StackError(f"{len(documents)} documents of {folder} are {len(after)} objects")
        self.applied |= after
        return len(documents)

    # pods

    def rest(self) -> list[Document]:
        """Wait until all workloads have as many ready pods as they want; their pods.

        Raises:
            StackError: they do not in time, or a pod was refused.
        """

        def look() -> bool:
            return not [name for name, one in self.workloads().items() if not settled(one)]

        try:
            wait_for("all pods to be ready", look)
        except StackError as error:
            events = self.plane.items(f"/api/v1/namespaces/{NAMESPACE}/events")
            said = {one["message"] for one in events if one["type"] == "Warning"}
            waiting = [name for name, one in self.workloads().items() if not settled(one)]
            raise StackError(f"{error}: {', '.join(waiting)}; {'; '.join(sorted(said))[:3000]}") from None
        return self.plane.items(PODS)

    def workloads(self) -> dict[str, Document]:
        """Deployments and StatefulSets, by name."""
        lists = [self.plane.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}") for kind in WORKLOADS]
        return {one["metadata"]["name"]: one for found in lists for one in found}

    def restricted(self) -> str:
        """Check that no pod was let in by an exception, and that pods that do not meet the standard are refused."""
        space = self.plane.get(f"/api/v1/namespaces/{NAMESPACE}")
        if space["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            raise StackError("the namespace does not enforce `restricted`")
        specs = self.pod_specs()
        for name, spec in specs.items():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "planted"}, "spec": spec}
            if wrong := self._admitted(pod):
                raise StackError(f"{name}: {wrong}")
            for how, spoil in LOOSE.items():
                spoiled = copy.deepcopy(pod)
                spoil(spoiled)
                if 'violates PodSecurity "restricted' not in (wrong := self._admitted(spoiled)):
                    raise StackError(f"{name} with {how} is not refused as it should be: {wrong or 'admitted'}")
        return f"{len(specs)} kinds of pods admitted; each is refused with any of: {', '.join(LOOSE)}"

    def pod_specs(self) -> dict[str, Document]:
        """What the pods of each workload are made of."""
        found = {name: one["spec"]["template"]["spec"] for name, one in self.workloads().items()}
        for one in self.plane.items(f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"):
            found[one["metadata"]["name"]] = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for name, one in self.workloads().items():
            claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())]
            found[name]["volumes"] += [{"name": claim, "emptyDir": {}} for claim in claims]
        return found

    def _admitted(self, pod: Document) -> str:
        """Why a pod is refused; empty where it would be admitted."""
        answer = self.plane.api.post(PODS, json=pod, params={"dryRun": "All", "fieldValidation": "Strict"})
        return "" if answer.status_code == 201 else str(answer.json()["message"])

    def _refused(self, one: Document, said: str | None, name: str = "") -> None:
        """Try a document without applying it; `said` is found in the refusal, None: it is accepted."""
        command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "--force-conflicts", "-f", "-")
        done = self.plane.try_kubectl(*command, said=json.dumps(one))
        what = f"{one['kind']} {one['metadata']['name']} {name}"
        if said is None and done.returncode:
            raise StackError(f"{what} is refused: {done.stderr[-2000:]}")
        if said is not None and not (done.returncode and re.search(said, done.stderr)):
            raise StackError(f"{what}: refused as {said!r} was expected, and not: {done.stdout}{done.stderr[-2000:]}")

    def mistakes(self, documents: Sequence[Document]) -> str:
        """Plant each of `MISTAKES` in a document that is accepted without it."""
        for mistake in MISTAKES:
            good = [one for one in documents if one["kind"] == mistake.kind]
            if mistake.kind == "NetworkPolicy":
                good = [one for one in good if one["metadata"]["name"] == "reach-internet"]
            if not good:
                raise StackError(f"nothing that is applied is a {mistake.kind}")
            self._refused(good[0], None)
            spoiled = copy.deepcopy(good[0])
            mistake.spoil(spoiled)
            self._refused(spoiled, mistake.said, mistake.name)
        return f"{len(MISTAKES)} wrong manifests refused: {', '.join(one.name for one in MISTAKES)}"

    def clear(self) -> None:
        """Delete all namespaces that were made, and wait until they are gone."""
        spaces = [space for space in SPACES if self.plane.api.get(f"/api/v1/namespaces/{space}").status_code == 200]
        self.plane.kubectl("delete", "namespace", *spaces, "--timeout=300s")
        # of disks nothing is kept here, and a disk is used once
        for one in self.plane.items("/api/v1/persistentvolumes"):
            if one["status"].get("phase") == "Released":
                self.plane.patch(f"/api/v1/persistentvolumes/{one['metadata']['name']}", {"spec": {"claimRef": None}})

    # how they behave

    def now(self) -> tuple[str, list[Document]]:
        """A version of the list of pods, and the pods."""
        listed = self.plane.get(PODS)
        return listed["metadata"]["resourceVersion"], listed["items"]

    def rollout(self, commands: Sequence[str], changed: Path) -> str:
        """Upgrade to a change of all pods, and see each process get it as the document says."""
        since, before = self.now()
        self.type(commands, changed)
        self.rest()
        events = self.plane.events(PODS, since)
        counted: dict[str, int] = {}
        for process in PROCESSES:
            if wrong := history.rollout(history.moments(before, events, process.name), way(process)):
                raise StackError(f"{process.name}: {wrong}")
            counted[way(process)] = counted.get(way(process), 0) + 1
        return ", ".join(f"{how}: {count}" for how, count in counted.items()) + f"; {len(events)} events"

    def broken(self, name: str = "verification") -> str:
        """A version that never gets ready: what was there goes on serving."""
        since, before = self.now()
        self.plane.kubectl("-n", NAMESPACE, "set", "image", f"deployment/{name}", f"{name}={BROKEN}")
        wait_for("the broken version's pod", lambda: any(self._is_broken(pod) for pod in self.plane.items(PODS)))
        time.sleep(10)  # twice minReadySeconds
        seen = list(history.moments(before, self.plane.events(PODS, since), name))
        self.plane.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self.rest()
        if min(one.serve for one in seen) < seen[0].serve or seen[-1].wanted != seen[0].serve + 1:
            raise StackError(f"a version that is not ready took something away: {seen}")
        return f"all {seen[0].serve} of the former version serve"

    def _is_broken(self, pod: Document) -> bool:
        running_ = pod["status"].get("phase") == "Running"
        return running_ and any(one["image"] == BROKEN for one in pod["spec"]["containers"])

    def evict(self, pod: Document) -> int:
        """Ask for a pod's eviction; the status of the answer."""
        name = pod["metadata"]["name"]
        wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
        return self.plane.api.post(f"{PODS}/{name}/eviction", json=wanted).status_code

    def budgets(self) -> str:
        """Of each process one at a time may be evicted, and one that is not ready always."""
        nodes = [f"node-{zone}" for zone in ZONES]
        name = "verification"
        self.plane.kubectl("-n", NAMESPACE, "set", "image", f"deployment/{name}", f"{name}={BROKEN}")
        unready = wait_for("the broken version's pod", lambda: [pod for pod in self.plane.items(PODS) if self._is_broken(pod)])  # fmt: skip
        self.plane.kubectl("cordon", *nodes)  # so that nobody takes the place of who goes
        try:
            held = [process for process, budget in self.budgeted().items() if self._holds(process, budget)]
            code = self.evict(unready[0])
            if code != 201:
                raise StackError(f"a pod that is not ready may not be evicted: {code}")
        finally:
            self.plane.kubectl("uncordon", *nodes)
            self.plane.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self.rest()
        return f"the second of two is refused for {len(held)} processes; one that is not ready goes"

    def _holds(self, process: str, budget: str) -> bool:
        """Whether a process has two pods, of which its budget lets one go and holds the other."""
        pods = [pod for pod in self.plane.items(PODS) if history.component(pod) == process and history.ready(pod)]
        if len(pods) < 2:
            return False
        wait_for(f"the budget of {process}", lambda: self.plane.get(budget)["status"].get("disruptionsAllowed"))
        codes = [self.evict(pod) for pod in pods[:2]]
        if codes != [201, 429]:
            raise StackError(f"evictions of two pods of {process}: {codes}")
        return True

    def budgeted(self) -> dict[str, str]:
        """Processes with a disruption budget, and its path."""
        base = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"
        return {one["metadata"]["name"]: f"{base}/{one['metadata']['name']}" for one in self.plane.items(base)}

    def drained(self, node: str) -> str:
        """Empty a node: never is more than one of a process with a budget missing."""
        since, before = self.now()
        there = [pod for pod in before if pod["spec"].get("nodeName") == node and history.ready(pod)]
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=300s")
        self.plane.kubectl("drain", node, *options)
        self.rest()
        events = self.plane.events(PODS, since)
        self.plane.kubectl("uncordon", node)
        left = [pod for pod in self.plane.items(PODS) if pod["spec"].get("nodeName") == node and history.ready(pod)]
        if left or not there:
            raise StackError(f"{len(there)} pods were on {node}, {len(left)} still are")
        for process in self.budgeted():
            if wrong := history.disruption(history.moments(before, events, process), 1):
                raise StackError(f"{process}, while {node} is emptied: {wrong}")
        return f"{len(there)} pods moved off {node}, at most one of a process missing"

    # scaling

    def replicas(self, name: str) -> int:
        """How many of a process are wanted."""
        return int(self.plane.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")["spec"]["replicas"])

    def scaled(self, documents: Sequence[Document], told: Told) -> str:
        """Workers follow their lag, one more a minute; the front door its processor; without an answer the number stays."""
        objects = [one for one in documents if one["kind"] == "ScaledObject"]
        made = [metrics_api.autoscaler(one) for one in objects]
        self.plane.kubectl("apply", "-f", "-", said=yaml.safe_dump_all(made))
        least = {one["metadata"]["name"]: one["spec"]["minReplicaCount"] for one in objects}
        wait_for("the least number of workers", lambda: {name: self.replicas(name) for name in least} == least)
        behind, others = "verification", sorted(set(least) - {"verification"})
        begun = time.monotonic()
        told.lag[behind] = 40
        told.cpu["intake-api"] = 1200
        wait_for("a worker more", lambda: self.replicas(behind) == least[behind] + 1)
        after = time.monotonic() - begun
        if after < 55:
            raise StackError(f"a worker more already after {after:.0f} s of lag")
        wait_for("another worker", lambda: self.replicas(behind) >= least[behind] + 2)
        again = time.monotonic() - begun
        if self.replicas(behind) != least[behind] + 2 or again - after < 40:
            raise StackError(f"{self.replicas(behind)} workers, the third {again - after:.0f} s after the second")
        most = self.plane.get(f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/intake-api")["spec"]["maxReplicas"]  # fmt: skip
        wait_for("as many doors as there may be", lambda: self.replicas("intake-api") == most)
        if moved := [name for name in others if self.replicas(name) != least[name]]:
            raise StackError(f"scaled without being behind: {', '.join(moved)}")
        kept = self.replicas(behind)
        told.silent = True
        self._autoscaler_says(behind, "ScalingActive", "False")
        time.sleep(10)
        if self.replicas(behind) != kept:
            raise StackError(f"without an answer the number went from {kept} to {self.replicas(behind)}")
        told.silent = False
        told.lag[behind] = 0
        told.cpu.clear()
        self._autoscaler_says(behind, "AbleToScale", "True", "ScaleDownStabilized")
        if self.replicas(behind) != kept:
            raise StackError("a worker was taken away at once")
        self.rest()
        return f"{behind}: one more after {after:.0f} s of lag, another after {again:.0f} s; intake-api: {most}; others stay; without an answer and after the lag {kept} stay"

    def _autoscaler_says(self, name: str, kind: str, status: str, reason: str | None = None) -> None:
        path = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/keda-hpa-{name}"

        def look() -> bool:
            found = {one["type"]: one for one in self.plane.get(path)["status"].get("conditions", ())}
            one = found.get(kind, {})
            return one.get("status") == status and reason in (None, one.get("reason"))

        wait_for(f"{kind} {status} {reason or ''} of the autoscaler of {name}", look, 120)


def settled(workload: Document) -> bool:
    """Whether a workload's controller has seen it, and all its pods are of its version and ready."""
    wanted = workload["spec"].get("replicas", 1)
    status = workload.get("status", {})
    seen = status.get("observedGeneration") == workload["metadata"]["generation"]
    numbers = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return seen and numbers == [wanted] * 4


def layer(
    folder: Path, resources: Sequence[Path], components: Sequence[Path] = (), settings: Sequence[str] = ()
) -> Path:
    """Write an overlay on others."""
    folder.mkdir()
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(path, folder) for path in resources],
        "components": [os.path.relpath(path, folder) for path in components],
        "images": [{"name": "goodfaith", "newName": "registry.example/goodfaith", "newTag": "0.1.0"}],
        "configMapGenerator": [{"name": "goodfaith-settings", "behavior": "merge", "literals": list(settings)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return folder


def lacking(overlay: Path) -> list[Path]:
    """Components that an overlay does not have; last the one that patches what others bring."""
    there = {Path(name).name for name in yaml.safe_load((overlay / "kustomization.yaml").read_text())["components"]}
    found = [one for one in (KUBERNETES / "components").iterdir() if one.name not in there]
    return sorted(found, key=lambda one: (one.name == "other-logins", one.name))


def examples() -> list[Path]:
    """What an example is applied by: its folder, or its file where it is none of kustomize's."""
    found: list[Path] = []
    for folder in sorted((KUBERNETES / "examples").iterdir()):
        found += [folder] if (folder / "kustomization.yaml").is_file() else sorted(folder.glob("*.yaml"))
    return found


def run(steps: Steps) -> dict[str, Any]:
    """All of it; figures for the report.

    Raises:
        StackError: something is not as it should be.
    """
    with steps.step("programs") as say:
        built = tools.built()
        say(f"Kubernetes {tools.kubernetes()}: {', '.join(tools.PROGRAMS)}, in {built.folder.relative_to(ROOT)}")
    with contextlib.ExitStack() as stack:
        with steps.step("control plane") as say:
            plane = stack.enter_context(running(built, FOLDER))
            say(f"{len(ZONES)} simulated nodes")
        with steps.step("resource definitions") as say:
            plane.kubectl("apply", "--server-side", "-f", str(built.definitions))
            plane.kubectl("wait", "--for=condition=Established", "--timeout=300s", "-f", str(built.definitions))
            say(f"{len(list(built.definitions.iterdir()))} of KEDA, Prometheus operator, CloudNativePG, Flux, Strimzi")
        trial = Trial(plane, steps)
        return _run(trial, steps)


def _run(trial: Trial, steps: Steps) -> dict[str, Any]:
    small, production = KUBERNETES / "overlays" / "small", KUBERNETES / "overlays" / "production"
    commands = documented(DOCUMENT.read_text(encoding="utf-8"))
    plane = trial.plane
    found: dict[str, Any] = {"kubernetes": tools.kubernetes(), "commands": len(commands)}
    with steps.step("commands of deploying.md, on small") as say:
        say(f"{trial.type(commands, small)} commands; {len(trial.rest())} pods")
    with steps.step("small, twice") as say:
        say(f"{trial.twice(small)} objects, unchanged the second time")
    with steps.step("examples, twice") as say:
        plane.kubectl("create", "namespace", "flux-system")
        say(", ".join(f"{path.relative_to(KUBERNETES / 'examples')}: {trial.twice(path)}" for path in examples()))
    with steps.step("remove small") as say:
        trial.clear()
    with steps.step("install production") as say:
        trial.type(installing(commands), production)
        say(f"{len(trial.rest())} pods")
    with steps.step("production, twice") as say:
        say(f"{trial.twice(production)} objects, unchanged the second time")
    whole = layer(FOLDER / "everything", [production], components=lacking(production))
    with steps.step("all components, twice") as say:
        trial.type(upgrading(commands), whole)
        say(f"{trial.twice(whole)} objects, unchanged the second time")
        found["pods"] = len(trial.rest())
    documents = [*trial.rendered(whole), *(one for path in examples() for one in trial.rendered(path))]
    with steps.step("pod security") as say:
        say(trial.restricted())
    with steps.step("wrong manifests") as say:
        plane.kubectl("create", "namespace", "flux-system")
        say(trial.mistakes(documents))
        found["refused"] = len(MISTAKES)
    zones = {f"node-{zone}": zone for zone in ZONES}
    with steps.step("rollout of a changed setting") as say:
        changed = layer(FOLDER / "changed", [whole], settings=["GOODFAITH_LOG_LEVEL=debug"])
        say(trial.rollout(upgrading(commands), changed))
    with steps.step("spread over zones") as say:
        if uneven := history.uneven(plane.items(PODS), zones):
            raise StackError(f"all pods are in one zone: {', '.join(uneven)}")
        say("no process has all of its pods in one")
    with metrics_api.serving(plane) as told:
        with steps.step("scaling") as say:
            say(trial.scaled(documents, told))
        with steps.step("rollout that never becomes ready") as say:
            say(trial.broken())
        with steps.step("disruption budgets") as say:
            say(trial.budgets())
        with steps.step("drained node") as say:
            say(trial.drained("node-a"))
    found["applied"] = len(trial.applied)
    return found
