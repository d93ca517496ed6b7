"""Mistakes that the API server must reject, planted in documents that it accepts without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deploy.kubernetes.trial.control_plane import Document


@dataclass(frozen=True)
class Mistake:
    """A mistake that the API server must reject.

    Attributes:
        kind: Kind of document it is planted in.
        spoil: Plants the mistake in a document.
        said: Pattern that the rejection must match.
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
    Mistake("IPv4-mapped network", "NetworkPolicy", _block, "must not have an IPv4-mapped|strict subset"),
    Mistake(
        "misspelled field",
        "Deployment",
        lambda one: _container(one).update(readinessprobe=_container(one).pop("readinessProbe")),
        "readinessprobe",
    ),
    Mistake(
        "selector that matches no pod",
        "StatefulSet",
        lambda one: one["spec"]["selector"]["matchLabels"].update(other="yes"),
        "does not match template|forbidden",
    ),
    Mistake(
        "port out of range", "Service", lambda one: one["spec"]["ports"][0].update(port=70000), "between 1 and 65535"
    ),
    Mistake(
        "unknown ScaledObject field",
        "ScaledObject",
        lambda one: one["spec"].update(maxReplicas=one["spec"].pop("maxReplicaCount")),
        "maxReplicas",
    ),
    Mistake(
        "alert rule without expression",
        "PrometheusRule",
        lambda one: one["spec"]["groups"][0]["rules"][0].pop("expr"),
        "expr",
    ),
    Mistake(
        "invalid interval",
        "PodMonitor",
        lambda one: one["spec"]["podMetricsEndpoints"][0].update(interval="soon"),
        "interval",
    ),
    Mistake(
        "unknown authentication type",
        "KafkaUser",
        lambda one: one["spec"]["authentication"].update(type="none"),
        "authentication",
    ),
    Mistake("unknown node role", "KafkaNodePool", lambda one: one["spec"].update(roles=["leader"]), "roles"),
    Mistake("zero instances", "Cluster", lambda one: one["spec"].update(instances=0), "instances"),
    Mistake(
        "invalid path type",
        "Ingress",
        lambda one: one["spec"]["rules"][0]["http"]["paths"][0].update(pathType="Regex"),
        "pathType",
    ),
    Mistake("Flux step without a source", "Kustomization", lambda one: one["spec"].pop("sourceRef"), "sourceRef"),
)

LOOSE: Final[dict[str, Callable[[Document], None]]] = {
    "root": lambda pod: pod["spec"]["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    "host network": lambda pod: pod["spec"].update(hostNetwork=True),
    "capability": lambda pod: pod["spec"]["containers"][0]["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "no seccomp": lambda pod: pod["spec"]["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "host path": lambda pod: pod["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
}
"""Ways to break a rule of the `restricted` standard."""
