"""How many of a process there are: by lag in seconds, as `watch` sees it from outside, and by the processor. Pure.

A worker is one process and one core. So lag counts only while its workers are busy: where they wait for database or broker,
more of them would make batches smaller and nothing faster. When lag is gone, what the processor does keeps the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from deploy.kubernetes.manifests import Document, labels
from deploy.kubernetes.model import BASE, Process
from shared.settings import Settings

PROMETHEUS: Final = "http://prometheus-operated.monitoring.svc:9090"
LAG_S: Final = 10
"""Seconds that half of a topic's partitions may wait before more workers are started: a budget of 60 s is watched by alerts."""
BUSY: Final = 0.5
"""Share of a core above which a worker is busy."""
KEEP: Final = "700m"
"""Processor time of a worker that is right."""
MOST: Final = Settings.model_fields["partitions"].default // 2
"""Workers of a kind: one for two partitions at most, so that a rebalance moves few and batches stay large."""


def busy(process: str) -> str:
    """1 while processes of a kind are busy, else 0; nothing where none is scraped."""
    return f'avg(rate(process_cpu_seconds_total{{job="{process}"}}[2m])) > bool {BUSY}'


def lag(process: Process) -> str:
    """How far a kind of process is behind, in seconds, while it is busy; nothing where it is not known."""
    if process.shape.group is not None:
        behind = f'max(quantile by (topic) (0.5, goodfaith_consumer_lag_seconds{{group="{process.shape.group}"}}))'
    else:
        oldest = "goodfaith_delivery_oldest_pending_timestamp_seconds"
        behind = f'max(time() - ({oldest}{{job="{process.name}"}} > 0) or {oldest}{{job="{process.name}"}} == 0)'
    return f"{behind}\n* ({busy(process.name)})"


def by_lag() -> tuple[Process, ...]:
    """What is scaled by lag: workers, and the senders of mail."""
    return tuple(process for process in BASE if process.shape.kind == "worker" or process.name == "notification-sender")


def scaled_object(process: Process) -> Document:
    """For KEDA, which makes an autoscaler of it."""
    triggers: list[dict[str, Any]] = [
        {
            "type": "prometheus",
            "name": "lag",
            # the whole lag, not a share for each: it does not add up over workers
            "metricType": "Value",
            "metadata": {
                "serverAddress": PROMETHEUS,
                "query": lag(process),
                "threshold": str(LAG_S),
                # without an answer the number stays
                "ignoreNullValues": "false",
            },
        },
        {"type": "cpu", "metricType": "AverageValue", "metadata": {"value": KEEP}},
    ]
    behaviour = {
        # one more a minute: each moves partitions, and what it brings is seen only then
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
            # KEDA takes it beside a trigger of type Value from 2.18 on
            "fallback": {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
            "triggers": triggers,
        },
    }


def door() -> Document:
    """The front door: by its processor, which is what it is bound by."""
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
    """All."""
    yield door()
    for process in by_lag():
        yield scaled_object(process)
