"""Documents of the base and of its optional parts, as plain values. Pure.

They are the same in every cluster. What an installation decides (addresses, numbers of processes, images) is in its
overlay, which is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from deploy.kubernetes.model import BASE, PROCESSES, Process
from deploy.local import fleet
from deploy.process import HTTP_PORT, METRICS_PORT, STATE, USER
from deploy.prometheus.model import dump
from shared import access
from shared.settings import Settings

Document = dict[str, Any]

NAMESPACE: Final = "goodfaith"
PREFIX: Final = "goodfaith.example"
"""Prefix of our own labels."""
FIRST: Final = {f"{PREFIX}/first": "yes"}
"""Label of what must exist before any process of a version starts: the migration, and what it needs."""
WAVES: Final = {"needed": -2, "migration": -1}
"""Argo CD applies waves in ascending order, documents without one as wave 0. A PreSync hook would run the migration
before settings, accounts and policies exist, so it would wait for them in vain at the first installation.
"""
IMAGE: Final = "goodfaith"
LOGIN: Final = f"{PREFIX}/kafka-user"
"""Annotation of a pod: its user at the broker, for a login whose Secret does not name it."""
OPERATOR: Final = "operator"
"""The principal that commands use at the broker."""
SETTINGS: Final = "goodfaith-settings"
KAFKA: Final = "goodfaith-kafka"
"""Settings of processes that use the broker; the others have no login and must not be configured to use one."""
SECRETS: Final = "/run/secrets/goodfaith"
AUTHORITIES: Final = "/etc/goodfaith/authorities"
STREAMS_DISK: Final = "10Gi"
STUCK_S: Final = 120
"""Seconds after which `/live` reports a loop as stuck (`shared.runtime.health`)."""
END_S: Final = 60
"""Seconds that a process has to finish its work in hand: a batch, requests, messages being sent."""


def labels(component: str) -> dict[str, str]:
    """Labels that select a process's pods. Never change them: the selector of a Deployment is immutable."""
    return {"app.kubernetes.io/name": "goodfaith", "app.kubernetes.io/component": component}


def _meta(name: str, component: str, **more: str) -> Document:
    return {"name": name, "labels": {**labels(component), **more}}


def wave(name: str) -> dict[str, str]:
    """Annotation with a document's Argo CD wave."""
    return {"argocd.argoproj.io/sync-wave": str(WAVES[name])}


def _principal(process: Process) -> str:
    """The principal that a process uses at the broker."""
    return process.spec.service


def principals() -> frozenset[str]:
    """All principals that pods use at the broker."""
    return frozenset({OPERATOR, *(_principal(process) for process in PROCESSES if process.kafka)})


# one process


def settings_of(name: str) -> Document:
    """Variables from a ConfigMap; kustomize adds a digest to its name, so a change restarts the processes."""
    return {"configMapRef": {"name": name}}


def _environment(process: Process) -> list[Document]:
    field = "status.podIP" if process.shape.kind == "stored" else None
    http: Document = {"valueFrom": {"fieldRef": {"fieldPath": field}}} if field else {"value": "0.0.0.0"}  # noqa: S104
    listens = [{"name": "GOODFAITH_HTTP_HOST", **http}, {"name": "GOODFAITH_HTTP_PORT", "value": str(HTTP_PORT)}]
    return [
        {"name": "GOODFAITH_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "GOODFAITH_SECRETS_DIR", "value": SECRETS},
        {"name": "GOODFAITH_STATE_DIR", "value": STATE if process.shape.kind == "stored" else "/tmp"},  # noqa: S108
        {"name": "GOODFAITH_METRICS_HOST", "value": "0.0.0.0"},  # noqa: S104
        {"name": "GOODFAITH_METRICS_PORT", "value": str(METRICS_PORT)},
        *(listens if process.spec.port else ()),
        *([{"name": "GOODFAITH_BOUNCE_HOST", "value": "0.0.0.0"}] if process.name == "notification-bounces" else ()),  # noqa: S104
    ]


def _secret(name: str, items: Mapping[str, str], *, optional: bool = False) -> Document:
    source: Document = {"name": name, "items": [{"key": key, "path": path} for key, path in items.items()]}
    return {"secret": source | ({"optional": True} if optional else {})}


def login(principal: str, *, other: bool = False) -> str:
    """Name of a principal's first or second user at the broker, and of its Secret."""
    return access.login(Settings.model_construct(), principal, other=other)


def kafka_login(principal: str) -> list[Document]:
    """Files of a login at the broker; absent if the broker needs none.

    Name and password are files in a folder that changes as a whole, so both are exchanged together, without a restart.
    A Secret of Strimzi's user operator does not contain the name, so the pod provides it as `kafka_user`. A name in the
    Secret (`GOODFAITH_KAFKA_USER`) takes precedence (`shared.secret_files`).
    """
    keys = {
        "user": "GOODFAITH_KAFKA_USER",
        "password": "kafka_password",
        "user.crt": "kafka.crt",
        "user.key": "kafka.key",
    }
    field = {"fieldPath": f"metadata.annotations['{LOGIN}']"}
    return [
        _secret(login(principal), keys, optional=True),
        {"downwardAPI": {"items": [{"path": "kafka_user", "fieldRef": field}]}},
    ]


def template(component: str, principal: str | None, spec: Document) -> Document:
    """A pod template, annotated with its user at the broker if it has one."""
    said = {"annotations": {LOGIN: login(principal)}} if principal else {}
    return {"metadata": {"labels": labels(component), **said}, "spec": spec}


def secrets_volume(sources: Iterable[Document]) -> Document:
    """The folder of secrets, readable only by the process, which runs in the volumes' group."""
    return {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": list(sources)}}


def _sources(process: Process) -> Iterator[Document]:
    if process.spec.role:
        yield _secret(f"goodfaith-database-{process.spec.role}", {"url": "database"})
    for must in (True, False):
        wanted = {fleet.source(process.spec, name): name for name, required in process.secrets if required is must}
        if wanted:
            yield _secret("goodfaith", wanted, optional=not must)
    if process.kafka:
        yield from kafka_login(_principal(process))


def _probe(path: str, **more: int) -> Document:
    return {"httpGet": {"path": path, "port": "metrics"}, "timeoutSeconds": 5, **more}


SAFE: Final[Document] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SAFE_POD: Final[Document] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # otherwise each start of a worker with a disk goes through all its files
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _container(process: Process) -> Document:
    shape = process.shape
    ports = [{"name": "metrics", "containerPort": METRICS_PORT}]
    if process.spec.port:
        ports.insert(0, {"name": "http", "containerPort": HTTP_PORT})
    if process.name == "notification-bounces":
        ports.insert(0, {"name": "smtp", "containerPort": Settings.model_fields["bounce_port"].default})
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "authorities", "mountPath": AUTHORITIES, "readOnly": True}]  # noqa: S108
    if list(_sources(process)):
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    if shape.kind == "stored":
        mounts.append({"name": "state", "mountPath": STATE})
    container: Document = {
        "name": process.name,
        "image": IMAGE,
        "args": list(process.spec.command),
        "envFrom": [settings_of(name) for name in (SETTINGS, *((KAFKA,) if process.kafka else ()))],
        "env": _environment(process),
        "ports": ports,
        # the first start may have to take over every partition
        "startupProbe": _probe("/live", periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/live", periodSeconds=20, failureThreshold=3),
        "readinessProbe": _probe("/ready", periodSeconds=5, failureThreshold=3),
        "resources": {
            # no CPU limit: a worker throttled within a transaction holds up all others that wait for its rows
            "requests": {"cpu": f"{shape.cpu}m", "memory": f"{shape.memory}Mi", "ephemeral-storage": "64Mi"},
            # ephemeral storage holds /tmp, and logs until the node has collected them
            "limits": {"memory": f"{2 * shape.memory}Mi", "ephemeral-storage": f"{shape.scratch + 256}Mi"},
        },
        "securityContext": SAFE,
        "volumeMounts": mounts,
    }
    if "store" in shape.reaches:
        # the store's client reads keys only from variables; none if the cluster authenticates the service account
        container["envFrom"].append({"secretRef": {"name": "goodfaith-evidence-store", "optional": True}})
    if shape.kind == "api":
        # time for every proxy to learn that this pod is ending
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    return container


def _pod(process: Process) -> Document:
    volumes: list[Document] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{process.shape.scratch}Mi"}},
        {"name": "authorities", "configMap": {"name": "goodfaith-authorities", "optional": True}},
    ]
    sources = list(_sources(process))
    if sources:
        volumes.append(secrets_volume(sources))
    pod: Document = {
        "serviceAccountName": f"goodfaith-{process.spec.service}",
        "automountServiceAccountToken": False,
        # otherwise a Service named goodfaith-... would add variables that look like settings (GOODFAITH_..._PORT)
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": END_S,
        "securityContext": SAFE_POD,
        "containers": [_container(process)],
        "volumes": volumes,
    }
    if process.shape.kind != "single" or process.shape.standby:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(process.name)},
                "matchLabelKeys": ["pod-template-hash"]
                if process.shape.kind != "stored"
                else ["controller-revision-hash"],
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return pod


def workload(process: Process) -> Document:
    """The Deployment or StatefulSet of a process.

    If there may be several replicas, it does not set their number, so overlays and autoscalers do not fight over it.
    """
    pod = template(process.name, _principal(process) if process.kafka else None, _pod(process))
    spec: Document = {"selector": {"matchLabels": labels(process.name)}, "revisionHistoryLimit": 3}
    shape = process.shape
    kind = {f"{PREFIX}/kind": shape.kind}
    if shape.kind == "stored":
        disk = {
            "metadata": {"name": "state"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": STREAMS_DISK}}},
        }
        spec |= {
            "serviceName": process.name,
            # they share partitions and need not wait for each other
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            # a worker's disk can be rebuilt from the changelog
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "minReadySeconds": 5,
            "template": pod,
            "volumeClaimTemplates": [disk],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": _meta(process.name, process.name, **kind),
            "spec": spec,
        }
    if shape.overlap:
        # one more first: it takes over partitions while the rest go on working
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        spec["minReadySeconds"] = 5
    else:
        spec["strategy"] = {"type": "Recreate"}
    if shape.kind == "single" and not shape.standby:
        spec["replicas"] = 1  # must not be changed
    spec["template"] = pod
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(process.name, process.name, **kind),
        "spec": spec,
    }


def service(process: Process) -> Document | None:
    """The Service for a process's HTTP interface or mail port; None if it has neither."""
    if process.name == "notification-bounces":
        ports = [{"name": "smtp", "port": 25, "targetPort": "smtp"}]
    elif process.spec.port:
        ports = [{"name": "http", "port": HTTP_PORT, "targetPort": "http"}]
    else:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(process.name, process.name),
        # the Service of a StatefulSet is headless, since its pods have their own names; any of them may be asked
        "spec": {"selector": labels(process.name), "ports": ports}
        | ({"clusterIP": "None"} if process.shape.kind == "stored" else {}),
    }


def disruption_budget(process: Process) -> Document | None:
    """Allows the eviction of one pod at a time; an unready pod never blocks the draining of a node."""
    if process.shape.kind == "single" and not process.shape.standby:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(process.name, process.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels(process.name)},
        },
    }


def of(process: Process) -> list[Document]:
    """All documents of one process."""
    made = (workload(process), service(process), disruption_budget(process))
    return [document for document in made if document is not None]


# what they share


def namespace() -> Document:
    """The namespace, which enforces the strictest pod security standard."""
    enforced = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    # deleting it would delete the Secrets, and with `contact_key` all contacts: pruning must leave it alone
    kept = {
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": enforced | FIRST, "annotations": wave("needed") | kept},
    }


def accounts() -> list[Document]:
    """A service account for each service, without a token: no process uses the cluster's API."""
    names = dict.fromkeys((*(process.spec.service for process in PROCESSES), "operator"))
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {**_meta(f"goodfaith-{name}", name, **FIRST), "annotations": wave("needed")},
            "automountServiceAccountToken": False,
        }
        for name in names
    ]


VERIFIABLE: Final = 3_000_000
"""Total items for which the nightly `verify` is sized, as its cost grows with history
(docs/how-to/deploy-on-kubernetes.md, "Verify that nothing is lost").
"""
VERIFY_SCRATCH: Final = 4_096
"""MiB of its /tmp: a line of 90 bytes per record on the topics, 15.6 records per item."""
NIGHT_S: Final = 6 * 3600
"""Seconds that a nightly command may take."""
REST_S: Final = 3600
"""Seconds that `verify` waits for a moment when nothing is in progress."""
READERS: Final = 2
"""Processes with which `verify` reads the topics; one per core of a node would not fit into the memory limit."""


def _operating(*commands: tuple[str, ...], scratch: int = 64) -> Document:
    """A pod that runs commands one after another, as the operator.

    Args:
        scratch: Size of its /tmp, in MiB.
    """

    def container(words: tuple[str, ...]) -> Document:
        return {
            "name": "-".join(word for word in words if word.isalpha()),
            "image": IMAGE,
            "args": ["services.ops.cli", *words],
            "envFrom": [settings_of(SETTINGS), settings_of(KAFKA)],
            "env": [
                {"name": "GOODFAITH_SECRETS_DIR", "value": SECRETS},
                {"name": "GOODFAITH_STATE_DIR", "value": "/tmp"},  # noqa: S108
                # the number of cores for Python 3.13; set for all commands, as any may be run in a copy of this pod
                {"name": "PYTHON_CPU_COUNT", "value": str(READERS)},
            ],
            "resources": {
                "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
                "limits": {"memory": "2Gi", "ephemeral-storage": f"{scratch + 192}Mi"},
            },
            "securityContext": SAFE,
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                {"name": "authorities", "mountPath": AUTHORITIES, "readOnly": True},
                {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
            ],
        }

    *first, last = map(container, commands)
    return {
        "serviceAccountName": "goodfaith-operator",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": SAFE_POD,
        **({"initContainers": first} if first else {}),
        "containers": [last],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": f"{scratch}Mi"}},
            {"name": "authorities", "configMap": {"name": "goodfaith-authorities", "optional": True}},
            secrets_volume([_secret("goodfaith-database-admin", {"url": "database"}), *kafka_login(OPERATOR)]),
        ],
    }


def migration() -> Document:
    """Brings roles, schemas and topics up to date. Must finish before anything else of a version starts."""
    meta = _meta("migrate", "migrate", **FIRST)
    # a Job is immutable, so applying manifests again must recreate it. As a hook of the Sync phase it runs at each
    # sync, and the next wave waits until it has finished
    meta["annotations"] = wave("migration") | {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "kustomize.toolkit.fluxcd.io/force": "enabled",
    }
    # then `topics apply`, for settings of existing topics and permissions at the broker
    pod = _operating(("migrate",), ("topics", "apply"))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": 5,
            "activeDeadlineSeconds": 3600,
            "template": template("migrate", OPERATOR, pod),
        },
    }


def passwords() -> str:
    """A patch that has the migration Job set the roles' passwords, for databases without an operator that does."""
    at = "/spec/template/spec"
    folder = "/run/secrets/passwords"
    volume = {"name": "passwords", "secret": {"secretName": "goodfaith-database-passwords", "defaultMode": 0o440}}
    patch = [
        {
            "op": "add",
            "path": f"{at}/initContainers/0/env/-",
            "value": {"name": "GOODFAITH_PASSWORDS_DIR", "value": folder},
        },
        {
            "op": "add",
            "path": f"{at}/initContainers/0/volumeMounts/-",
            "value": {"name": "passwords", "mountPath": folder, "readOnly": True},
        },
        {"op": "add", "path": f"{at}/volumes/-", "value": volume},
    ]
    return dump(patch).rstrip("\n")


def _nightly(name: str, schedule: str, *words: str, scratch: int = 64) -> Document:
    """Runs a command every night (UTC), one at a time; a failed Job means that it found something."""
    job = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": NIGHT_S,
        "template": template(name, OPERATOR, _operating(words, scratch=scratch)),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _meta(name, name),
        "spec": {
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {"spec": job},
        },
    }


def verification() -> Document:
    """`goodfaith verify`: nothing lost, duplicated or inconsistent. For small installations that are idle at night."""
    words = ("verify", "--wait", "--timeout", str(REST_S), "--json")
    return _nightly("verify", "30 3 * * *", *words, scratch=VERIFY_SCRATCH)


def pruning() -> Document:
    """`goodfaith prune`, at a different time from `verify`, which reads the same tables."""
    return _nightly("prune", "30 1 * * *", "prune", "--yes", "--json")


def other_logins() -> Iterator[Document]:
    """Patches that make pods log in to the broker as their principals' second users, with those users' Secrets."""
    workloads = [(workload(process), _principal(process)) for process in PROCESSES if process.kafka]
    for document, principal in (*workloads, *((job, OPERATOR) for job in (migration(), verification(), pruning()))):
        at, spec = "/spec/template", document["spec"]
        if document["kind"] == "CronJob":
            at, spec = "/spec/jobTemplate/spec/template", spec["jobTemplate"]["spec"]
        volumes = [volume.get("projected", {}).get("sources", ()) for volume in spec["template"]["spec"]["volumes"]]
        ((volume, source),) = [
            (volume, number)
            for volume, sources in enumerate(volumes)
            for number, source in enumerate(sources)
            if source.get("secret", {}).get("name") == login(principal)
        ]
        other = login(principal, other=True)
        patch = [
            {"op": "replace", "path": f"{at}/metadata/annotations/{LOGIN.replace('/', '~1')}", "value": other},
            {
                "op": "replace",
                "path": f"{at}/spec/volumes/{volume}/projected/sources/{source}/secret/name",
                "value": other,
            },
        ]
        target = {"kind": document["kind"], "name": document["metadata"]["name"]}
        yield {"target": target, "patch": dump(patch).rstrip("\n")}


def kustomization(resources: Iterable[str], **more: Any) -> Document:
    """A kustomization of the base's namespace."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(resources),
        **more,
    }


def component(resources: Iterable[str], **more: Any) -> Document:
    """An optional part that an overlay may add."""
    return {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "resources": list(resources), **more}


def addresses() -> dict[str, str]:
    """Settings with the addresses of the processes."""
    return {
        f"GOODFAITH_{name.upper()}_URL": f"http://{process}:{HTTP_PORT}"
        for name, process in {
            "intake": "intake-api",
            "verification": "verification-api",
            "enforcement": "enforcement-api",
            "notification": "notification-api",
            "streams": "streams",
        }.items()
    }


def links() -> dict[str, str]:
    """Settings for the connection to the broker, unless an overlay overrides them."""
    return {"GOODFAITH_KAFKA_SECURITY": "sasl_tls", "GOODFAITH_KAFKA_CA": f"{AUTHORITIES}/kafka.crt"}


assert {process.name for process in BASE} >= {
    "intake-api",
    "verification-api",
    "enforcement-api",
    "notification-api",
    "streams",
}
