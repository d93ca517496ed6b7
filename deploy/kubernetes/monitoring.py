"""What the Prometheus operator reads: targets and rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.kubernetes.manifests import Document
from deploy.prometheus.model import Pace
from deploy.prometheus.rules import groups

_LABELS = {"app.kubernetes.io/name": "goodfaith", "app.kubernetes.io/component": "monitoring"}


def targets() -> Document:
    """Scrapes every process with the labels that rules and boards use: `job` is the process, `instance` the pod."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "goodfaith", "labels": _LABELS},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "goodfaith"}},
            "podMetricsEndpoints": [
                {
                    "port": "metrics",
                    "interval": "15s",
                    "scrapeTimeout": "10s",
                    # keeps the labels `process` and `partition` as the processes set them
                    "honorLabels": True,
                    "relabelings": [
                        {
                            "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
                            "targetLabel": "job",
                        },
                        {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"},
                        {"action": "labeldrop", "regex": "pod|container|endpoint|namespace"},
                    ],
                }
            ],
        },
    }


def rules(pace: Pace) -> Iterator[Document]:
    """The recording rules, objectives and alerts of `deploy/prometheus`."""
    for name, those in groups(pace).items():
        yield {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"goodfaith-{name}", "labels": _LABELS},
            "spec": {"groups": [group.plain(pace) for group in those]},
        }
