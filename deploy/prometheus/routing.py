"""Alertmanager's configuration: who is notified of an alert, and which alerts are muted while another fires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from deploy.prometheus.model import LAYERS, Pace

SECRETS: Final = "/etc/alertmanager/secrets"
RECEIVERS: Final[dict[str, dict[str, Any]]] = {
    "nobody": {},
    "deadman": {
        "webhook_configs": [
            {
                "url": "https://deadman.example/goodfaith",
                "send_resolved": False,
                "http_config": {"authorization": {"credentials_file": f"{SECRETS}/deadman"}},
            }
        ]
    },
    "pager": {
        "pagerduty_configs": [
            {
                "routing_key_file": f"{SECRETS}/pagerduty",
                "severity": "critical",
                "description": "{{ .CommonAnnotations.summary }}",
                "details": {
                    "alerts": "{{ range .Alerts.Firing }}{{ .Annotations.description }} {{ .Annotations.runbook_url }} {{ end }}"
                },
            }
        ]
    },
    "tickets": {
        "slack_configs": [{"api_url_file": f"{SECRETS}/slack", "channel": "#goodfaith", "send_resolved": True}]
    },
    "review": {"slack_configs": [{"api_url_file": f"{SECRETS}/slack", "channel": "#reviewers", "send_resolved": True}]},
    "compliance": {
        "slack_configs": [{"api_url_file": f"{SECRETS}/slack", "channel": "#compliance", "send_resolved": True}]
    },
}
"""An example of each receiver. Change the addresses; secrets are only ever in files."""


def _inhibits(source: Sequence[str], target: Sequence[str], *equal: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"source_matchers": list(source), "target_matchers": list(target)}
    return rule | ({"equal": list(equal)} if equal else {})


FROM_FIGURES: Final = "ClaimsStalled|StageStalled|DrainTooSlow|StageBurn.*|HandledBurn.*|OldestItemOld|ItemsDueSoon"
"""Alerts that depend on what the stream views export."""


def _layers() -> list[dict[str, Any]]:
    """A page mutes every alert of later layers in its area; a platform page mutes them everywhere."""
    return [
        _inhibits(
            [PAGED, f'layer="{layer}"'],
            [f'layer=~"{"|".join(LAYERS[place + 1 :])}"'],
            *(() if layer == "platform" else ("area",)),
        )
        for place, layer in enumerate(LAYERS[:-1])
    ]


def _in_order(*alerts: str) -> list[dict[str, Any]]:
    """Each of these pages mutes those after it in its area: one fault raises them one after another."""
    return [_page_mutes(alert, "|".join(alerts[place + 1 :]), "area") for place, alert in enumerate(alerts[:-1])]


def _page_mutes(page: str, alerts: str, *equal: str) -> dict[str, Any]:
    return _inhibits([PAGED, f'page=~"{page}"'], [f'alertname=~"{alerts}"'], *equal)


PAGED: Final = 'severity=~"page|none"'
"""What mutes: a page and its Aftermath, never a ticket. So whenever an alert is muted, somebody has been paged."""
INHIBITIONS: Final = (
    *_layers(),
    # while the broker comes back, its partitions have no leader yet
    *_in_order("BrokerDown", "BrokerOfflinePartitions"),
    _page_mutes("OutboxOld|ConsumerLag|PartitionStuck", "WatermarkBehind", "area"),
    *_in_order("ClaimsStalled", "StageStalled", "StageBurnFast", "DrainTooSlow"),
    *_in_order("DeliveryLate", "StageBurnFast"),
    *_in_order("OldestItemOld", "ItemsDueSoon", "HandledBurnFast"),
    # while the figures have stopped, claims seem to have stopped too
    _inhibits([PAGED, 'area="figures"'], [f'alertname=~"{FROM_FIGURES}"']),
    # tickets for the same fault as a page
    _page_mutes("ProcessDown", "InstanceDown|ProcessFlapping", "job"),
    _page_mutes("StageBurnFast", "StageBurnSlow", "slo"),
    _page_mutes("HandledBurnFast", "HandledBurnSlow"),
    _page_mutes("DeadLettersOld", "DeadLetters", "worker"),
    _page_mutes("ConsumerLag|PartitionStuck", "WorkerBehind", "area"),
)


def configuration(pace: Pace, sink: str | None = None) -> dict[str, Any]:
    """Alertmanager's configuration.

    Args:
        pace: How fast time passes.
        sink: Send everything to `<sink>/<receiver>` instead; empty: nowhere. For a local stack.
    """
    receivers = RECEIVERS
    if sink is not None:
        receivers = {name: {} for name in RECEIVERS}
        if sink:
            for name, those in receivers.items():
                those["webhook_configs"] = [{"url": f"{sink}/{name}", "send_resolved": True}]
    return {
        "global": {"resolve_timeout": pace("5m")},
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", "job", "slo"],
            "group_wait": pace("30s"),
            "group_interval": pace("5m"),
            "repeat_interval": pace("1d"),
            "routes": [
                {
                    "matchers": ['alertname="Watchdog"'],
                    "receiver": "deadman",
                    "group_wait": "0s",
                    "group_interval": pace("1m"),
                    "repeat_interval": pace("1m"),
                },
                {"matchers": ['severity="none"'], "receiver": "nobody"},
                {
                    "matchers": ['severity="page"'],
                    "receiver": "pager",
                    # a lost host stops several processes: one page names them all
                    "group_by": ["alertname"],
                    "group_interval": pace("1m"),
                    "repeat_interval": pace("1h"),
                },
                {"matchers": ['team="review"'], "receiver": "review"},
                {"matchers": ['team="compliance"'], "receiver": "compliance"},
            ],
        },
        "receivers": [{"name": name, **those} for name, those in receivers.items()],
        "inhibit_rules": list(INHIBITIONS),
    }
