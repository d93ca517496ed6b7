"""Who is told of an alert, and which alerts say nothing new while another fires: Alertmanager's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from deploy.prometheus.model import Pace

SECRETS: Final = "/etc/alertmanager/secrets"
RECEIVERS: Final[dict[str, dict[str, Any]]] = {
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
"""An example for each receiver; addresses are to be changed, secrets are files and stand nowhere else."""


def _inhibits(source: Sequence[str], target: Sequence[str], *equal: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"source_matchers": list(source), "target_matchers": list(target)}
    return rule | ({"equal": list(equal)} if equal else {})


INHIBITIONS: Final = (
    # a dead broker or database pages once, whatever stands still because of it
    _inhibits(['alertname=~"BrokerDown|DatabaseDown"'], ['layer=~"process|flow|promise"']),
    _inhibits(['alertname="ProcessDown"'], ['layer="flow"'], "job"),
    _inhibits(['alertname="ProcessDown"'], ['alertname=~"InstanceDown|ProcessFlapping"'], "job"),
    # who measures is dead: that nothing is measured is no news
    _inhibits(
        ['alertname="ProcessDown"', 'job="streams"'],
        ['alertname=~"SeriesAbsent|FiguresIncomplete|Streams.*|Reconciliation.*|PartitionStuck|ConsumerLag"'],
    ),
    _inhibits(['alertname="ProcessDown"', 'job="watch"'], ['alertname=~"SeriesAbsent|WatchOld"']),
    _inhibits(['alertname="ProcessDown"', 'job="canary"'], ['alertname=~"SeriesAbsent|CanaryOld"']),
    _inhibits(['alertname="StreamsRecovering"'], ['alertname=~"StreamsBehind|FiguresIncomplete"']),
    # the streams say themselves that they stand; that their group is behind is the same
    _inhibits(['alertname="StreamsBehind"'], ['alertname=~"ConsumerLag|PartitionStuck"', 'group="streams"'], "topic"),
    _inhibits(
        ['alertname="WorkerStuck"', 'job="streams"'], ['alertname=~"ConsumerLag|PartitionStuck"', 'group="streams"']
    ),
    # the same thing, less sharply
    _inhibits(['alertname="HandledBurnFast"'], ['alertname="HandledBurnSlow"']),
    _inhibits(['alertname="StageBurnFast"'], ['alertname="StageBurnSlow"'], "slo"),
    _inhibits(['alertname="ClaimsStalled"'], ['alertname=~"StageStalled|DrainTooSlow"']),
    _inhibits(['alertname=~"ConsumerLag|PartitionStuck"'], ['alertname="WorkerBehind"'], "topic"),
    _inhibits(['alertname="WorkerStuck"'], ['alertname="WorkerBehind"'], "instance"),
    _inhibits(['alertname="UnreadGone"'], ['alertname=~"ConsumerLag|PartitionStuck|WorkerBehind"'], "topic"),
    _inhibits(['alertname="DeadLettersOld"'], ['alertname="DeadLetters"'], "worker"),
    # deadlines are held on purpose, and whoever waits for one waits
    _inhibits(['alertname="ClocksDisagree"'], ['alertname=~"WatermarkBehind|CanaryOld"']),
)


def configuration(pace: Pace, sink: str | None = None) -> dict[str, Any]:
    """Alertmanager's configuration.

    Args:
        pace: How fast time goes.
        sink: Take all that is sent here instead, at `<sink>/<receiver>`; empty: nowhere. For a local stack.
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
                {
                    "matchers": ['severity="page"'],
                    "receiver": "pager",
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
