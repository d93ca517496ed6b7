"""Autoscaling by lag in seconds, as `watch` measures it from outside, and by CPU. Pure.

A worker is one process on one core, so lag counts only while the workers are busy: if they wait for the database or the
broker, more of them would only make batches smaller. Once the lag is gone, CPU time determines the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from deploy.kubernetes.manifests import Document, labels
from deploy.kubernetes.model import BASE, Process
from shared.settings import Settings

PROMETHEUS: Final = "http://prometheus-operated.monitoring.svc:9090"
LAG_S: Final = 10
"""Seconds that half of a topic's partitions may wait before more workers start; alerts watch a budget of 60 s."""
BUSY: Final = 0.5
"""Share of a core above which a worker is busy."""
KEEP: Final = "700m"
"""Target CPU time of a worker."""
MOST: Final = Settings.model_fields["partitions"].default // 2
"""Maximum workers of a kind: one per two partitions, so that a rebalance moves few and batches stay large."""


def busy(process: str) -> str:
    """PromQL: 1 while processes of a kind are busy, else 0; empty if none is scraped."""
    return f'avg(rate(process_cpu_seconds_total{{job="{process}"}}[2m])) > bool {BUSY}'


def lag(process: Process) -> str:
    """PromQL: how far a kind of process is behind, in seconds, while it is busy; empty if unknown."""
    if process.shape.group is not None:
        behind = f'max(quantile by (topic) (0.5, goodfaith_consumer_lag_seconds{{group="{process.shape.group}"}}))'
    else:
        oldest = "goodfaith_delivery_oldest_pending_timestamp_seconds"
        behind = f'max(time() - ({oldest}{{job="{process.name}"}} > 0) or {oldest}{{job="{process.name}"}} == 0)'
    return f"{behind}\n* ({busy(process.name)})"


def by_lag() -> tuple[Process, ...]:
    """Processes scaled by lag: workers, and the senders of mail."""
    return tuple(process for process in BASE if process.shape.kind == "worker" or process.name == "notification-sender")


def scaled_object(process: Process) -> Document:
    """A ScaledObject, from which KEDA creates an autoscaler."""
    triggers: list[dict[str, Any]] = [
        {
            "type": "prometheus",
            "name": "lag",
            # the lag itself, not divided by the number of workers: it does not add up over them
            "metricType": "Value",
            "metadata": {
                "serverAddress": PROMETHEUS,
                "query": lag(process),
                "threshold": str(LAG_S),
                # without a result the number stays
                "ignoreNullValues": "false",
            },
        },
        {"type": "cpu", "metricType": "AverageValue", "metadata": {"value": KEEP}},
    ]
    behaviour = {
        # one more per minute: each moves partitions, and its effect shows only afterwards
        "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
        "scaleDown": {
            "stabilizationWindowSeconds": 1800,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
        },
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": process.name, "labels": labels(process.name)},
        "spec": {
            "scaleTargetRef": {"name": process.name},
            "minReplicaCount": 2,
            "maxReplicaCount": MOST,
            "pollingInterval": 15,
            # KEDA accepts it with a trigger of type Value from 2.18 on
            "fallback": {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
            "triggers": triggers,
        },
    }


def intake_api() -> Document:
    """The autoscaler of intake's API: by CPU, which is its bottleneck."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "intake-api", "labels": labels("intake-api")},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "intake-api"},
            "minReplicas": 2,
            "maxReplicas": 8,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "600m"}},
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    }


def documents() -> Iterator[Document]:
    """All documents of the component."""
    yield intake_api()
    for process in by_lag():
        yield scaled_object(process)
