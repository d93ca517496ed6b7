"""Stands in for the metrics server and KEDA's metrics adapter. The autoscaler that reads it is the real one."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from deploy.kubernetes.trial.control_plane import ControlPlane
from deploy.kubernetes.trial.history import component

Document = dict[str, Any]
GROUPS: Final = {
    "metrics.k8s.io": ("pods", "PodMetrics"),
    "external.metrics.k8s.io": ("lag", "ExternalMetricValueList"),
}
LAG: Final = "s0-prometheus"
"""KEDA's name for the metric of the first trigger of a ScaledObject."""
NAMESPACE: Final = "trial"


@dataclass
class Told:
    """The metrics that are served.

    Attributes:
        cpu: Processor time of each pod of a process, in thousandths of a core; 100 where it is not given.
        lag: Lag of a process in seconds; 0 where it is not given.
        silent: Whether lags are unavailable.
    """

    cpu: dict[str, int] = field(default_factory=dict)
    lag: dict[str, int] = field(default_factory=dict)
    silent: bool = False


def autoscaler(scaled: Mapping[str, Any]) -> Document:
    """The autoscaler that KEDA creates for a ScaledObject with a lag trigger and a processor trigger."""
    spec = scaled["spec"]
    name = scaled["metadata"]["name"]
    lag, cpu = spec["triggers"]
    selector = {"matchLabels": {"scaledobject.keda.sh/name": name}}
    external = {
        "metric": {"name": LAG, "selector": selector},
        "target": {"type": lag["metricType"], "value": lag["metadata"]["threshold"]},
    }
    resource = {"name": "cpu", "target": {"type": cpu["metricType"], "averageValue": cpu["metadata"]["value"]}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{name}", "namespace": scaled["metadata"]["namespace"]},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec["scaleTargetRef"]["name"]},
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
            "metrics": [{"type": "External", "external": external}, {"type": "Resource", "resource": resource}],
        },
    }


def _answer(plane: ControlPlane, told: Told, url: str) -> Document | None:
    """The document at a path; None if there is none."""
    parts = urlsplit(url)
    _, first, group, version, *rest = [*parts.path.split("/"), "", ""]
    if first != "apis" or group not in GROUPS or not version:
        return None
    rest = [one for one in rest if one]
    resource, kind = GROUPS[group]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if not rest:
        listed = {"name": resource, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}",
            "resources": [listed],
        }
    asked = parse_qs(parts.query)
    selector = asked.get("labelSelector", [""])[0]
    if group == "external.metrics.k8s.io":
        name = re.fullmatch(r"scaledobject\.keda\.sh/name=([\w-]+)", selector)
        if told.silent or name is None or rest[-1] != LAG:
            return None
        value = {"metricName": LAG, "metricLabels": {}, "timestamp": now, "value": str(told.lag.get(name[1], 0))}
        return {"kind": kind, "apiVersion": f"{group}/{version}", "metadata": {}, "items": [value]}
    pods = plane.items(f"/api/v1/namespaces/{rest[1]}/pods", labelSelector=selector)
    items = [
        {
            "metadata": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
            "timestamp": now,
            "window": "10s",
            "containers": [
                {"name": one["name"], "usage": {"cpu": f"{told.cpu.get(component(pod), 100)}m", "memory": "64Mi"}}
                for one in pod["spec"]["containers"]
            ],
        }
        for pod in pods
    ]
    return {"kind": "PodMetricsList", "apiVersion": f"{group}/{version}", "metadata": {}, "items": items}


@contextlib.contextmanager
def serving(plane: ControlPlane) -> Iterator[Told]:
    """Serve both metrics APIs through the API server's aggregation layer; the caller may change the metrics."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = _answer(plane, told, self.path)
            body = json.dumps(
                found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            ).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.certificate, plane.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    documents: list[Document] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics", "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        *(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"v1beta1.{group}"},
                "spec": {
                    "group": group,
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "insecureSkipTLSVerify": True,
                    "service": {"name": "metrics", "namespace": NAMESPACE, "port": server.server_address[1]},
                },
            }
            for group in GROUPS
        ),
    ]
    try:
        plane.kubectl("apply", "-f", "-", said=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
        plane.kubectl(
            "wait", "--for=condition=Available", "--timeout=120s", *(f"apiservice/v1beta1.{group}" for group in GROUPS)
        )
        yield told
    finally:
        # an API that does not answer would block the deletion of namespaces
        plane.kubectl("delete", "apiservice", *(f"v1beta1.{group}" for group in GROUPS))
        server.shutdown()
        server.server_close()
