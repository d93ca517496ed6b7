"""Network policies: only the connections that are named here are allowed. Pure.

A policy cannot name hosts, so external systems are namespaces with a label (`goodfaith.example/kafka: "yes"`), which
their administrators set. For a system outside the cluster an overlay adds the address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from deploy.kubernetes.manifests import FIRST, PREFIX, Document, labels, wave
from deploy.kubernetes.model import PROCESSES, Place, Process
from deploy.process import HTTP_PORT, METRICS_PORT
from shared.outbound import INTERNET
from shared.settings import Settings

KAFKA_PORTS: Final = (9092, 9093, 9094)
POSTGRES_PORT: Final = 5432
TRACES_PORT: Final = 4318
PROMETHEUS_PORT: Final = 9090
MAIL_PORTS: Final = (25, 465, 587)

_PORTS: Final[dict[Place, tuple[int, ...]]] = {
    "kafka": KAFKA_PORTS,
    "postgres": (POSTGRES_PORT,),
    "mail": MAIL_PORTS,
    "internet": tuple(Settings.model_fields["webhook_ports"].default),
    "marketplace": (443, 8443, HTTP_PORT),
    "store": (443, 9000),
    "prometheus": (PROMETHEUS_PORT,),
    "site": (443,),
}
_LABEL: Final[dict[Place, str]] = {
    "kafka": "kafka",
    "postgres": "postgres",
    "mail": "mail",
    "marketplace": "marketplace",
    "store": "evidence-store",
    "prometheus": "monitoring",
}
"""Labels of the namespaces that hold an external system; systems without one are public."""

NAMESPACE_LABELS: Final = (*dict.fromkeys((*_LABEL.values(), "ingress", "traces")),)
"""All labels that an installation may put on namespaces."""


def _policy(name: str, selector: Document, **rules: Any) -> Document:
    # without rules it denies both directions; the API server drops an empty list, and each apply would add it again
    kinds = [kind for kind in ("Ingress", "Egress") if kind.lower() in rules or not rules]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "goodfaith", **FIRST},
            "annotations": wave("needed"),
        },
        "spec": {"podSelector": selector, "policyTypes": kinds, **rules},
    }


def _ports(*numbers: int | str, protocol: str = "TCP") -> list[Document]:
    return [{"protocol": protocol, "port": number} for number in numbers]


def _holding(label: str) -> Document:
    return {"namespaceSelector": {"matchLabels": {f"{PREFIX}/{label}": "yes"}}}


def _pods(*names: str) -> Document:
    """A selector of pods by process."""
    return {
        "matchLabels": {"app.kubernetes.io/name": "goodfaith"},
        "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": list(names)}],
    }


def public() -> list[Document]:
    """The public networks, exactly as `shared.outbound` allows them."""
    return [
        {"ipBlock": {"cidr": str(network), "except": [str(one) for one in special]}}
        for network, special in INTERNET.items()
    ]


def _reaching(place: Place) -> list[str]:
    names = [process.name for process in PROCESSES if place in process.reaches]
    return [*names, "migrate", "verify", "prune"] if place in ("kafka", "postgres") else names


def _asked() -> dict[str, list[Process]]:
    """The callers of each process with an HTTP interface."""
    asked: dict[str, list[Process]] = {process.name: [] for process in PROCESSES if process.spec.port}
    for process in PROCESSES:
        for name in process.shape.asks:
            asked[name].append(process)
    return asked


def policies() -> Iterator[Document]:
    """All policies of the namespace."""
    ours: Document = {"matchLabels": {"app.kubernetes.io/name": "goodfaith"}}
    yield _policy("default-deny", {})

    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    names = [*_ports(53, protocol="UDP"), *_ports(53)]
    yield _policy("reach-names", ours, egress=[{"to": [dns], "ports": names}])

    for place, ports in _PORTS.items():
        to = [_holding(_LABEL[place])] if place in _LABEL else public()
        yield _policy(f"reach-{place}", _pods(*_reaching(place)), egress=[{"to": to, "ports": _ports(*ports)}])
    yield _policy("reach-traces", ours, egress=[{"to": [_holding("traces")], "ports": _ports(TRACES_PORT)}])

    http = _ports("http")
    for name, askers in _asked().items():
        admitted = [{"podSelector": _pods(*(process.name for process in askers))}] if askers else []
        if name in ("intake-api", "status"):
            admitted.append(_holding("ingress"))
        if admitted:
            yield _policy(f"admit-{name}", _pods(name), ingress=[{"from": admitted, "ports": http}])
        if askers:
            to = [{"podSelector": {"matchLabels": labels(name)}}]
            asking = _pods(*(process.name for process in askers))
            yield _policy(f"ask-{name}", asking, egress=[{"to": to, "ports": _ports(HTTP_PORT)}])

    yield _policy("admit-scrapes", ours, ingress=[{"from": [_holding("monitoring")], "ports": _ports(METRICS_PORT)}])
    reports = [{"from": [_holding("mail")], "ports": _ports("smtp")}]
    yield _policy("admit-reports", _pods("notification-bounces"), ingress=reports)
