"""A Kubernetes control plane on loopback: etcd, API server, controllers, scheduler, and nodes that kwok simulates.

Nothing runs in the pods. Everything that decides about them is real: validation, admission, controllers, scheduling.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.kubernetes.trial.tools import KUBECTL, Tools
from deploy.local import children
from deploy.local.children import StackError

Document = dict[str, Any]
T = TypeVar("T")
ZONES: Final = ("a", "b", "c")
START_S: Final = 180.0
WAIT_S: Final = 300.0
ADMINISTRATOR: Final = "trial"
MERGE: Final = "application/merge-patch+json"
QUICK: Final = (
    "--horizontal-pod-autoscaler-sync-period=2s",
    # simulated pods are ready at once, and so are their measurements
    "--horizontal-pod-autoscaler-cpu-initialization-period=0s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=0s",
    # a busy machine is late with heartbeats
    "--node-monitor-grace-period=10m",
)
"""Options of the controller manager that shorten the trial. None of them overrides the manifests."""


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = WAIT_S) -> T:
    """Call `look` until it returns something true; returns that.

    Raises:
        StackError: it takes too long.
    """
    until = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        if time.monotonic() > until:
            raise StackError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.2)


class ControlPlane:
    """One control plane, with an empty state at each start.

    Attributes:
        api: A client of the API server, as an administrator.
        environment: Environment variables for commands that use kubectl.
        certificate: The API server's certificate.
        key: Its private key.
    """

    def __init__(self, tools: Tools, folder: Path) -> None:
        self._tools = tools
        self._folder = folder
        self._running: list[tuple[str, int, str]] = []
        self._token = secrets.token_hex(16)
        self._port = children.free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self.certificate = folder / "api" / "apiserver.crt"
        self.key = folder / "api" / "apiserver.key"
        self._config = folder / "kubeconfig"
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self._config),
            # kubectl would otherwise reuse what it cached about another server
            "KUBECACHEDIR": str(folder / "cache"),
            "PATH": f"{tools.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.api: httpx.Client

    # processes

    def _start(self, name: str, program: str, *options: str, marker: str) -> None:
        pid = children.spawn([program, *options, marker], self._folder / f"{name}.log")
        self._running.append((name, pid, marker))

    def _wait(self, what: str, look: Callable[[], bool]) -> None:
        """Wait for something; fails as soon as a program has ended."""

        def seen() -> bool:
            for name, pid, marker in self._running:
                if not children.alive(pid, marker):
                    raise StackError(f"{name} ended{children.tail(self._folder / f'{name}.log', 30)}")
            return look()

        wait_for(what, seen, START_S)

    def _answers(self, url: str, verify: ssl.SSLContext | bool = True) -> bool:
        try:
            return httpx.get(url, headers=self._headers, verify=verify, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def start(self) -> None:
        """Start everything and wait until the API server is ready.

        Raises:
            StackError: a program is missing or ended, or is not ready in time.
        """
        etcd = shutil.which("etcd")
        if etcd is None:
            raise StackError("etcd is missing: `sh deploy/local/setup.sh cluster` installs it or says how")
        store = f"http://127.0.0.1:{children.free_port({self._port})}"
        peer = f"http://127.0.0.1:{children.free_port({self._port})}"
        self._start(
            "etcd",
            etcd,
            "--name=trial",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=trial={peer}",
            marker=f"--data-dir={self._folder / 'etcd'}",
        )
        self._wait("etcd", lambda: self._answers(f"{store}/health"))
        self._write()
        accounts = self._folder / "accounts.key"
        self._start(
            "kube-apiserver",
            self._tools.program("kube-apiserver"),
            f"--etcd-servers={store}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            f"--service-account-issuer={self.url}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            # keeps the full history of pods readable; and no endpoint of the server itself, which may not be on loopback
            "--watch-cache=false",
            "--etcd-compaction-interval=0",
            "--endpoint-reconciler-type=none",
            marker=f"--cert-dir={self.certificate.parent}",
        )
        self._wait("the API server's certificate", self.certificate.exists)
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        self._wait("the API server", lambda: self._answers(f"{self.url}/readyz", trusted))
        self.api = httpx.Client(base_url=self.url, headers=self._headers, verify=trusted, timeout=60)
        common = (f"--kubeconfig={self._config}", "--leader-elect=false", "--bind-address=127.0.0.1")
        self._start(
            "kube-controller-manager",
            self._tools.program("kube-controller-manager"),
            *common,
            f"--secure-port={children.free_port()}",
            f"--service-account-private-key-file={accounts}",
            f"--root-ca-file={self.certificate}",
            *QUICK,
            marker=f"--cert-dir={self._folder / 'manager'}",
        )
        self._start(
            "kube-scheduler",
            self._tools.program("kube-scheduler"),
            *common,
            f"--secure-port={children.free_port()}",
            marker=f"--cert-dir={self._folder / 'scheduler'}",
        )
        self._start(
            "kwok",
            self._tools.program("kwok"),
            f"--kubeconfig={self._config}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=60",
            marker=f"--config={self._tools.stages}",
        )
        self._nodes()

    def _write(self) -> None:
        """Write the service account key, the administrator's token and the kubeconfig."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self._folder / "accounts.key").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        (self._folder / "tokens.csv").write_text(f"{self._token},{ADMINISTRATOR},1,system:masters\n")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "trial", "cluster": {"server": self.url, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": ADMINISTRATOR, "user": {"token": self._token}}],
            "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": ADMINISTRATOR}}],
            "current-context": "trial",
        }
        self._config.write_text(yaml.safe_dump(config))

    def _nodes(self) -> None:
        """Create a node for each zone, a storage class and volumes."""
        size = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250"}
        made: list[Document] = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"node-{zone}",
                    "labels": {
                        "topology.kubernetes.io/zone": zone,
                        "kubernetes.io/hostname": f"node-{zone}",
                        "kubernetes.io/os": "linux",
                    },
                },
                "status": {"capacity": size, "allocatable": size},
            }
            for zone in ZONES
        ]
        made.append(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "disks", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                "provisioner": "kubernetes.io/no-provisioner",
            }
        )
        made += [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"disk-{number}"},
                "spec": {
                    "storageClassName": "disks",
                    "capacity": {"storage": "10Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": f"/disks/{number}"},
                },
            }
            for number in range(12)
        ]
        self.kubectl("apply", "-f", "-", said=yaml.safe_dump_all(made))
        self._wait("nodes", lambda: all(_is(node, "Ready") for node in self.items("/api/v1/nodes")))

    def stop(self) -> None:
        """Stop everything, last started first."""
        for _, pid, marker in reversed(self._running):
            children.end(pid, marker)

    # asking

    def kubectl(self, *words: str, said: str | None = None, timeout_s: float = 600.0) -> str:
        """Run kubectl; returns its output.

        Raises:
            StackError: it failed.
        """
        done = self.try_kubectl(*words, said=said, timeout_s=timeout_s)
        if done.returncode:
            raise StackError(f"kubectl {' '.join(words)} failed:\n{(done.stdout + done.stderr)[-6000:]}")
        return done.stdout

    def try_kubectl(
        self, *words: str, said: str | None = None, timeout_s: float = 600.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which may fail."""
        command = [self._tools.program(KUBECTL), *words]
        return subprocess.run(
            command, env=self.environment, input=said or "", capture_output=True, text=True, timeout=timeout_s
        )

    def items(self, path: str, **asked: str) -> list[Document]:
        """All objects of a list."""
        found: list[Document] = self.get(path, **asked)["items"]
        return found

    def get(self, path: str, **asked: str) -> Document:
        """One object or list.

        Raises:
            StackError: the answer is an error.
        """
        answer = self.api.get(path, params=asked)
        if answer.status_code != 200:
            raise StackError(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        found: Document = answer.json()
        return found

    def patch(self, path: str, change: Mapping[str, Any]) -> None:
        """Change an object by a merge patch.

        Raises:
            StackError: the answer is an error.
        """
        answer = self.api.patch(path, content=json.dumps(change), headers={"Content-Type": MERGE})
        if answer.status_code != 200:
            raise StackError(f"PATCH {path}: {answer.status_code} {answer.text[:500]}")

    def events(self, path: str, since: str) -> list[Document]:
        """All events about the objects of a list since a version of it, in order."""
        asked = {"watch": "1", "resourceVersion": since, "timeoutSeconds": "3"}
        with self.api.stream("GET", path, params=asked) as answer:
            found = [json.loads(line) for line in answer.iter_lines()]
        if wrong := [one for one in found if one["type"] == "ERROR"]:
            raise StackError(f"the history of {path} is incomplete: {wrong[0]}")
        return found


def _is(one: Document, condition: str) -> bool:
    conditions = one.get("status", {}).get("conditions", ())
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


@contextlib.contextmanager
def running(tools: Tools, folder: Path) -> Iterator[ControlPlane]:
    """A control plane in an empty folder.

    Raises:
        StackError: it does not start, or another one runs in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"another control plane runs in {folder}") from None
        shutil.rmtree(folder)
        folder.mkdir()
        one = ControlPlane(tools, folder)
        try:
            one.start()
            yield one
        finally:
            one.stop()
