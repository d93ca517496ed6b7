"""Runs the manifests on a control plane: the documented commands, both overlays, all components and examples.

The commands are those of docs/how-to/deploy-on-kubernetes.md.
"""

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
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.images import ROOT
from deploy.kubernetes.manifests import NAMESPACE
from deploy.kubernetes.model import PROCESSES, Process
from deploy.kubernetes.trial import history, metrics_api, tools
from deploy.kubernetes.trial.control_plane import ZONES, ControlPlane, Document, running, wait_for
from deploy.kubernetes.trial.metrics_api import Told
from deploy.kubernetes.trial.mistakes import LOOSE, MISTAKES
from deploy.kubernetes.trial.tools import BROKEN
from deploy.local.children import StackError
from deploy.local.steps import Steps

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
DOCUMENTS: Final = tuple(
    ROOT / "docs" / "how-to" / name
    for name in ("deploy-on-kubernetes.md", "secure-links.md", "upgrade-on-kubernetes.md")
)
"""Whose commands are run, in this order."""
FOLDER: Final = ROOT / ".local" / "kubernetes"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
WORKLOADS: Final = ("deployments", "statefulsets")
SPACES: Final = (NAMESPACE, "kafka", "postgres", "flux-system")


def documented(text: str) -> list[str]:
    """The commands for a cluster that a document tells people to type, in its order."""
    return re.findall(r"^ {4}((?:kubectl|python -m deploy\.kubernetes)\b.*)$", text, flags=re.M)


def installing(commands: Sequence[str]) -> Sequence[str]:
    """The commands up to and including the first installation of an overlay."""
    return commands[: commands.index("kubectl apply -k OVERLAY") + 1]


def upgrading(commands: Sequence[str]) -> Sequence[str]:
    """The commands that upgrade to an overlay."""
    found = installing(commands)
    return found[next(number for number, one in enumerate(found) if "delete job migrate" in one) :]


def way(process: Process) -> str:
    """How a process is rolled out, in the words of the table in docs/how-to/deploy-on-kubernetes.md."""
    if process.shape.kind == "stored":
        return "one after the other"
    return "one more first" if process.shape.overlap else "the old one ends first"


class Trial:
    """One run. Each check raises StackError when it fails."""

    def __init__(self, plane: ControlPlane, steps: Steps) -> None:
        self.plane = plane
        self.steps = steps
        self.desk = FOLDER / "desk"
        self.applied: dict[str, Document] = {}

    # operators

    @contextlib.contextmanager
    def operators(self) -> Iterator[None]:
        """Stand in for Strimzi and CloudNativePG: report their resources as ready and create their CA Secrets."""
        ended = threading.Event()
        places = (
            ("/apis/kafka.strimzi.io/v1", "kafkas", "kafka", "goodfaith-cluster-ca-cert"),
            ("/apis/kafka.strimzi.io/v1", "kafkausers", NAMESPACE, None),
            ("/apis/postgresql.cnpg.io/v1", "clusters", "postgres", "goodfaith-ca"),
        )
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "Trial",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }

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
                    with contextlib.suppress(StackError):  # it may be deleted meanwhile
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

    def follow(self, commands: Sequence[str], overlay: Path) -> int:
        """Run commands of the document in an empty folder; returns how many.

        Raises:
            StackError: one failed.
        """
        shutil.rmtree(self.desk, ignore_errors=True)
        self.desk.mkdir()
        (self.desk / "deploy").symlink_to(ROOT / "deploy")
        with self.operators():
            for command in commands:
                self._follow(command, overlay)
        return len(commands)

    def _follow(self, command: str, overlay: Path) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("OVERLAY", str(overlay))],
            cwd=self.desk,
            env=self.plane.environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise StackError(f"{command}\n{(done.stdout + done.stderr)[-4000:]}")

    def rendered(self, folder: Path) -> list[Document]:
        """The documents of a kustomization, or of a file."""
        text = folder.read_text() if folder.is_file() else self.plane.kubectl("kustomize", str(folder))
        return [one for one in yaml.safe_load_all(text) if one]

    def snapshot(self, documents: Sequence[Document]) -> dict[str, Document]:
        """The live objects of some documents, by kind and name."""
        said = yaml.safe_dump_all(documents)
        found = json.loads(self.plane.kubectl("get", "-f", "-", "-o", "json", said=said))
        items = found.get("items", [found])
        return {f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in items}

    def apply(self, documents: Sequence[Document]) -> None:
        """Apply with server-side strict validation, and wait for all pods.

        Raises:
            StackError: a document is rejected.
        """
        command = ("apply", "--server-side", "--validate=strict", "--force-conflicts", "-f", "-")
        self.plane.kubectl(*command, said=yaml.safe_dump_all(documents))
        self.rest()

    def twice(self, folder: Path) -> int:
        """Apply a kustomization or a file twice; returns the number of objects.

        Raises:
            StackError: a document is rejected, or the second apply changes one.
        """
        documents = self.rendered(folder)
        self.apply(documents)
        before = self.snapshot(documents)
        self.apply(documents)
        after = self.snapshot(documents)
        if changed := history.differences(before, after):
            raise StackError(f"a second apply changes {', '.join(changed)}")
        if len(after) != len(documents):
            raise StackError(f"{len(documents)} documents of {folder} are {len(after)} objects")
        self.applied |= after
        return len(documents)

    # pods

    def rest(self) -> list[Document]:
        """Wait until every workload has all its pods, ready and of its current version; returns all pods.

        Raises:
            StackError: that takes too long, for example because pods are rejected.
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
        """Check that every kind of pod is admitted under `restricted`, and rejected once it breaks one of its rules."""
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
                    raise StackError(f"{name} with {how} is not rejected under `restricted`: {wrong or 'admitted'}")
        return f"{len(specs)} kinds of pods admitted; each rejected with any of: {', '.join(LOOSE)}"

    def pod_specs(self) -> dict[str, Document]:
        """The pod specification of every workload and CronJob."""
        found = {name: one["spec"]["template"]["spec"] for name, one in self.workloads().items()}
        for one in self.plane.items(f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"):
            found[one["metadata"]["name"]] = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for name, one in self.workloads().items():
            claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())]
            found[name]["volumes"] += [{"name": claim, "emptyDir": {}} for claim in claims]
        return found

    def _admitted(self, pod: Document) -> str:
        """Why the API server rejects a pod; empty if it admits it."""
        answer = self.plane.api.post(PODS, json=pod, params={"dryRun": "All", "fieldValidation": "Strict"})
        return "" if answer.status_code == 201 else str(answer.json()["message"])

    def _refused(self, one: Document, said: str | None, name: str = "") -> None:
        """Dry-run a document. It must be rejected with a message that matches `said`, or accepted if that is None."""
        command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "--force-conflicts", "-f", "-")
        done = self.plane.try_kubectl(*command, said=json.dumps(one))
        what = f"{one['kind']} {one['metadata']['name']} {name}"
        if said is None and done.returncode:
            raise StackError(f"{what} is rejected: {done.stderr[-2000:]}")
        if said is not None and not (done.returncode and re.search(said, done.stderr)):
            raise StackError(
                f"{what}: expected a rejection that matches {said!r}, got: {done.stdout}{done.stderr[-2000:]}"
            )

    def mistakes(self, documents: Sequence[Document]) -> str:
        """Plant each of `MISTAKES` in a document that is accepted without it; each must be rejected."""
        for mistake in MISTAKES:
            good = [one for one in documents if one["kind"] == mistake.kind]
            if mistake.kind == "NetworkPolicy":
                good = [one for one in good if one["metadata"]["name"] == "reach-internet"]
            if not good:
                raise StackError(f"no document is a {mistake.kind}")
            self._refused(good[0], None)
            spoiled = copy.deepcopy(good[0])
            mistake.spoil(spoiled)
            self._refused(spoiled, mistake.said, mistake.name)
        return f"{len(MISTAKES)} mistakes rejected: {', '.join(one.name for one in MISTAKES)}"

    def clear(self) -> None:
        """Delete all namespaces of the manifests, and wait until they are gone."""
        spaces = [space for space in SPACES if self.plane.api.get(f"/api/v1/namespaces/{space}").status_code == 200]
        self.plane.kubectl("delete", "namespace", *spaces, "--timeout=300s")
        # a released disk cannot be claimed again until its old claim is cleared
        for one in self.plane.items("/api/v1/persistentvolumes"):
            if one["status"].get("phase") == "Released":
                self.plane.patch(f"/api/v1/persistentvolumes/{one['metadata']['name']}", {"spec": {"claimRef": None}})

    # how they behave

    def now(self) -> tuple[str, list[Document]]:
        """The current version of the list of pods, and the pods."""
        listed = self.plane.get(PODS)
        return listed["metadata"]["resourceVersion"], listed["items"]

    def rollout(self, commands: Sequence[str], changed: Path) -> str:
        """Upgrade to an overlay that changes all pods, and check each process' rollout against the table."""
        since, before = self.now()
        self.follow(commands, changed)
        self.rest()
        events = self.plane.events(PODS, since)
        counted: dict[str, int] = {}
        for process in PROCESSES:
            if wrong := history.rollout(history.moments(before, events, process.name), way(process)):
                raise StackError(f"{process.name}: {wrong}")
            counted[way(process)] = counted.get(way(process), 0) + 1
        return ", ".join(f"{how}: {count}" for how, count in counted.items()) + f"; {len(events)} events"

    def broken(self, name: str = "verification") -> str:
        """Roll out a version that never becomes ready; the old pods must go on serving."""
        since, before = self.now()
        self.plane.kubectl("-n", NAMESPACE, "set", "image", f"deployment/{name}", f"{name}={BROKEN}")
        wait_for("the broken version's pod", lambda: any(self._is_broken(pod) for pod in self.plane.items(PODS)))
        time.sleep(10)  # twice minReadySeconds
        seen = list(history.moments(before, self.plane.events(PODS, since), name))
        self.plane.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self.rest()
        if min(one.serve for one in seen) < seen[0].serve or seen[-1].wanted != seen[0].serve + 1:
            raise StackError(f"an unready version replaced running pods: {seen}")
        return f"all {seen[0].serve} pods of the old version go on serving"

    def _is_broken(self, pod: Document) -> bool:
        running_ = pod["status"].get("phase") == "Running"
        return running_ and any(one["image"] == BROKEN for one in pod["spec"]["containers"])

    def evict(self, pod: Document) -> int:
        """Request the eviction of a pod; returns the HTTP status."""
        name = pod["metadata"]["name"]
        wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
        return self.plane.api.post(f"{PODS}/{name}/eviction", json=wanted).status_code

    def budgets(self) -> str:
        """One pod of each process may be evicted at a time; an unready one always."""
        nodes = [f"node-{zone}" for zone in ZONES]
        name = "verification"
        self.plane.kubectl("-n", NAMESPACE, "set", "image", f"deployment/{name}", f"{name}={BROKEN}")
        unready = wait_for(
            "the broken version's pod", lambda: [pod for pod in self.plane.items(PODS) if self._is_broken(pod)]
        )
        self.plane.kubectl("cordon", *nodes)  # so that evicted pods are not replaced
        try:
            held = [process for process, budget in self.budgeted().items() if self._holds(process, budget)]
            code = self.evict(unready[0])
            if code != 201:
                raise StackError(f"the eviction of an unready pod is refused: {code}")
        finally:
            self.plane.kubectl("uncordon", *nodes)
            self.plane.kubectl("-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self.rest()
        return f"second eviction refused for {len(held)} processes; an unready pod is evicted"

    def _holds(self, process: str, budget: str) -> bool:
        """Whether a process has two ready pods; then the budget must allow one eviction and refuse the second."""
        pods = [pod for pod in self.plane.items(PODS) if history.component(pod) == process and history.ready(pod)]
        if len(pods) < 2:
            return False
        wait_for(f"the budget of {process}", lambda: self.plane.get(budget)["status"].get("disruptionsAllowed"))
        codes = [self.evict(pod) for pod in pods[:2]]
        if codes != [201, 429]:
            raise StackError(f"evictions of two pods of {process}: {codes}")
        return True

    def budgeted(self) -> dict[str, str]:
        """Processes with a disruption budget, and the path of that budget."""
        base = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"
        return {one["metadata"]["name"]: f"{base}/{one['metadata']['name']}" for one in self.plane.items(base)}

    def drained(self, node: str) -> str:
        """Drain a node; at most one pod of each process with a budget may be missing at a time."""
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
                raise StackError(f"{process}, while {node} is drained: {wrong}")
        return f"{len(there)} pods moved off {node}, at most one of each process missing at a time"

    # scaling

    def replicas(self, name: str) -> int:
        """How many pods a Deployment asks for."""
        return int(self.plane.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")["spec"]["replicas"])

    def scaled(self, documents: Sequence[Document], told: Told) -> str:
        """Workers scale by lag, one more per minute; intake's API by CPU time; without metrics the number stays."""
        objects = [one for one in documents if one["kind"] == "ScaledObject"]
        made = [metrics_api.autoscaler(one) for one in objects]
        self.plane.kubectl("apply", "-f", "-", said=yaml.safe_dump_all(made))
        least = {one["metadata"]["name"]: one["spec"]["minReplicaCount"] for one in objects}
        wait_for("the minimum number of workers", lambda: {name: self.replicas(name) for name in least} == least)
        behind, others = "verification", sorted(set(least) - {"verification"})
        begun = time.time()
        told.lag[behind] = 40
        told.cpu["intake-api"] = 1200
        wait_for("two more workers", lambda: self.replicas(behind) >= least[behind] + 2)
        steps = self.rescaled(f"keda-hpa-{behind}", least[behind])
        up = next(one for one in objects if one["metadata"]["name"] == behind)["spec"]["advanced"][
            "horizontalPodAutoscalerConfig"
        ]["behavior"]["scaleUp"]
        if wrong := history.scaling(
            steps, least[behind], begun, up["stabilizationWindowSeconds"], up["policies"][0]["periodSeconds"]
        ):
            raise StackError(f"{behind}: {wrong}")
        most = self.plane.get(f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/intake-api")[
            "spec"
        ]["maxReplicas"]
        wait_for("the maximum of intake-api", lambda: self.replicas("intake-api") == most)
        if moved := [name for name in others if self.replicas(name) != least[name]]:
            raise StackError(f"scaled up without lag: {', '.join(moved)}")
        told.silent = True
        self._autoscaler_says(behind, "ScalingActive", "False")
        kept = self.replicas(behind)
        time.sleep(10)
        if self.replicas(behind) != kept:
            raise StackError(f"without metrics the number went from {kept} to {self.replicas(behind)}")
        told.lag[behind] = 0
        told.cpu.clear()
        told.silent = False
        self._autoscaler_says(behind, "AbleToScale", "True", "ScaleDownStabilized")
        if self.replicas(behind) != kept:
            raise StackError("scaled down at once")
        self.rest()
        return f"{behind}: one more after {steps[0][1] - begun:.0f} s of lag, two after {steps[1][1] - begun:.0f} s; intake-api: {most}; no other changes; {kept} stay without metrics and right after the lag"

    def rescaled(self, autoscaler: str, above: int) -> list[tuple[int, float]]:
        """The sizes above a number that an autoscaler has chosen, and when (Unix time, in whole seconds)."""
        selector = f"involvedObject.name={autoscaler},reason=SuccessfulRescale"
        found = []
        for one in self.plane.items(f"/api/v1/namespaces/{NAMESPACE}/events", fieldSelector=selector):
            size = re.match(r"New size: (\d+);", one["message"])
            if size and int(size[1]) > above:
                found.append((int(size[1]), datetime.fromisoformat(one["firstTimestamp"]).timestamp()))
        return sorted(found, key=lambda step: step[1])

    def _autoscaler_says(self, name: str, kind: str, status: str, reason: str | None = None) -> None:
        path = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/keda-hpa-{name}"

        def look() -> bool:
            found = {one["type"]: one for one in self.plane.get(path)["status"].get("conditions", ())}
            one = found.get(kind, {})
            return one.get("status") == status and reason in (None, one.get("reason"))

        wait_for(f"{kind} {status} {reason or ''} of the autoscaler of {name}", look, 120)


def settled(workload: Document) -> bool:
    """Whether the controller has acted on the current specification, and all pods are up to date and available."""
    wanted = workload["spec"].get("replicas", 1)
    status = workload.get("status", {})
    seen = status.get("observedGeneration") == workload["metadata"]["generation"]
    numbers = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return seen and numbers == [wanted] * 4


def layer(
    folder: Path, resources: Sequence[Path], components: Sequence[Path] = (), settings: Sequence[str] = ()
) -> Path:
    """Write an overlay on top of others."""
    folder.mkdir()
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(path, folder) for path in resources],
        "components": [os.path.relpath(path, folder) for path in components],
        "images": [{"name": "goodfaith", "newName": "registry.example/goodfaith", "newTag": "0.2.0"}],
        "configMapGenerator": [{"name": "goodfaith-settings", "behavior": "merge", "literals": list(settings)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return folder


def lacking(overlay: Path) -> list[Path]:
    """Components that an overlay lacks; `other-logins` comes last, since it patches the others."""
    there = {Path(name).name for name in yaml.safe_load((overlay / "kustomization.yaml").read_text())["components"]}
    found = [one for one in (KUBERNETES / "components").iterdir() if one.name not in there]
    return sorted(found, key=lambda one: (one.name == "other-logins", one.name))


def examples() -> list[Path]:
    """The kustomization folders and plain files of the examples."""
    found: list[Path] = []
    for folder in sorted((KUBERNETES / "examples").iterdir()):
        found += [folder] if (folder / "kustomization.yaml").is_file() else sorted(folder.glob("*.yaml"))
    return found


def run(steps: Steps) -> dict[str, Any]:
    """Run all steps; returns figures for the report.

    Raises:
        StackError: a check failed.
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
    commands = documented("\n".join(one.read_text(encoding="utf-8") for one in DOCUMENTS))
    plane = trial.plane
    found: dict[str, Any] = {"kubernetes": tools.kubernetes(), "commands": len(commands)}
    with steps.step("commands of deploy-on-kubernetes.md, on small") as say:
        say(f"{trial.follow(commands, small)} commands; {len(trial.rest())} pods")
    with steps.step("small, twice") as say:
        say(f"{trial.twice(small)} objects, unchanged the second time")
    with steps.step("examples, twice") as say:
        plane.kubectl("create", "namespace", "flux-system")
        say(", ".join(f"{path.relative_to(KUBERNETES / 'examples')}: {trial.twice(path)}" for path in examples()))
    with steps.step("remove small") as say:
        trial.clear()
    with steps.step("install production") as say:
        trial.follow(installing(commands), production)
        say(f"{len(trial.rest())} pods")
    with steps.step("production, twice") as say:
        say(f"{trial.twice(production)} objects, unchanged the second time")
    whole = layer(FOLDER / "everything", [production], components=lacking(production))
    with steps.step("all components, twice") as say:
        trial.follow(upgrading(commands), whole)
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
            raise StackError(f"all pods in one zone: {', '.join(uneven)}")
        say("every process with several pods is in several zones")
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
