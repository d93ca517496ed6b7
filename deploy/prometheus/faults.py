"""Classes of faults, as the series that each causes, and the one alert that may page for it.

Every world lasts for hours, with one sample per minute: healthy, then the fault, then a recovery in which a backlog
drains. `promtool` evaluates all rules on it, and `leaving` selects in PromQL the pages that pass the inhibitions of
`routing`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deploy.prometheus.areas import REQUIRED, area_of
from deploy.prometheus.model import Alert, Pace, Record
from deploy.prometheus.routing import INHIBITIONS
from deploy.prometheus.rules import groups

BEFORE: Final = 35
DURING: Final = 40
AFTER: Final = 30
MINUTE: Final = 60
DRAINS: Final = 4
"""Minutes that a backlog takes to drain after the fault."""

Parts = tuple[str, str, str]
"""A series' samples before, during and after the fault, in promtool's notation."""

GROUPS: Final = {
    "intake": "intake-worker",
    "verification": "verification",
    "enforcement": "enforcement-worker",
    "enforcement-ledger": "enforcement-ledger",
    "notification": "notification-worker",
    "streams": "streams",
    "marketplace": "marketplace",
}
"""Consumer groups, each with the process whose workers are its members."""


def steady(value: float, during: float | None = None, after: str = "") -> Parts:
    """A gauge, with another value while the fault lasts."""
    there = value if during is None else during
    return f"{value:g}x{BEFORE - 1}", f"{there:g}x{DURING - 1}", after or f"{value:g}x{AFTER - 1}"


def flows(rate: float = MINUTE, start: float = 0) -> Parts:
    """A counter, or a timestamp that keeps up with the clock, by its growth per minute."""
    fault, end = start + rate * BEFORE, start + rate * (BEFORE + DURING)
    return f"{start:g}+{rate:g}x{BEFORE - 1}", f"{fault:g}+{rate:g}x{DURING - 1}", f"{end:g}+{rate:g}x{AFTER - 1}"


def stops(flow: Parts) -> Parts:
    """A flow that stands still during the fault and has caught up right after it."""
    start, _, rate = re.split(r"([+x])", flow[0])[:3]
    last = float(start) + float(rate) * (BEFORE - 1)
    return flow[0], f"{last:g}x{DURING - 1}", flow[2]


def occurs(rate: float) -> Parts:
    """A counter that grows during the fault only."""
    end = rate * DURING
    return f"0x{BEFORE - 1}", f"0+{rate:g}x{DURING - 1}", f"{end:g}x{AFTER - 1}"


def waits(since: int = BEFORE * MINUTE) -> Parts:
    """Since when the oldest of something has waited; 0: nothing waits."""
    return steady(0, since)


def lags() -> Parts:
    """The age of the oldest unread record, which grows during the fault; then the backlog drains."""
    step = DURING * MINUTE / DRAINS
    drains = f"{DURING * MINUTE:g}-{step:g}x{DRAINS - 1} 0x{AFTER - DRAINS - 1}"
    return f"0x{BEFORE - 1}", f"{MINUTE}+{MINUTE}x{DURING - 1}", drains


def gone(series: Parts) -> Parts:
    """A series whose exporter is down during the fault."""
    return series[0], f"stale _x{DURING - 1}", series[2]


@dataclass
class World:
    """Series by selector; healthy until they are changed."""

    series: dict[str, Parts] = field(default_factory=dict)

    def set(self, name: str, parts: Parts, **labels: str) -> None:
        """Add a series, or replace it."""
        told = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        self.series[f"{name}{{{told}}}" if told else name] = parts

    def change(self, how: Callable[[Parts], Parts], name: str, *having: str) -> None:
        """Change all series of this name that have the labels, given as `label="value"`.

        Raises:
            KeyError: no series matches.
        """
        found = [
            one for one in self.series if re.match(rf"{name}(\{{|$)", one) and all(label in one for label in having)
        ]
        if not found:
            raise KeyError(f"{name} {having}")
        for one in found:
            self.series[one] = how(self.series[one])

    def lose(self, job: str) -> None:
        """Stop all instances of a process: it cannot be scraped, and its series are stale."""
        for one, parts in self.series.items():
            if f'job="{job}"' in one:
                self.series[one] = steady(1, 0) if one.startswith("up{") else gone(parts)


def healthy() -> World:
    """The series of a healthy installation that alerts use."""
    world = World()
    for job in (*REQUIRED, "marketplace"):
        at = {"job": job, "instance": f"{job}.0"}
        world.set("up", steady(1), **at)
        world.set("process_start_time_seconds", steady(1), **at)
        if job != "canary":
            world.set("goodfaith_worker_progress_timestamp_seconds", flows(), worker=job, **at)
    for group, job in GROUPS.items():
        at = {"job": job, "instance": f"{job}.0", "worker": group}
        for topic in ("a.events", "b.events"):
            world.set("goodfaith_consumer_position_timestamp_seconds", flows(), topic=topic, **at)
            for partition in range(4):
                world.set(
                    "goodfaith_consumer_lag_seconds",
                    steady(0),
                    job="watch",
                    instance="watch.0",
                    group=group,
                    topic=topic,
                    partition=str(partition),
                )
            world.set("goodfaith_unread_gone_partitions", steady(0), topic=topic, **at)
        world.set("goodfaith_consumer_assigned_partitions", steady(4), **at)
        world.set("goodfaith_database_went_back", steady(0), **at)
        world.set("goodfaith_outbox_oldest_timestamp_seconds", steady(0), **at)
        world.set("goodfaith_dead_letters_depth", steady(0), **at)
        world.set("goodfaith_dead_letters_oldest_timestamp_seconds", steady(0), **at)
    own = {"job": "verification", "instance": "verification.0", "worker": "verification"}
    world.set("goodfaith_watermark_timestamp_seconds", flows(start=100_000), **own)
    _figures(world)
    at = {"job": "watch", "instance": "watch.0"}
    for name in ("broker", "database"):
        world.set(f"goodfaith_{name}_up", steady(1), **at)
        world.set("goodfaith_watch_last_success_timestamp_seconds", flows(), part=name, **at)
    world.set("goodfaith_broker_offline_partitions", steady(0), **at)
    world.set("goodfaith_canary_last_completed_timestamp_seconds", flows(), job="canary", instance="canary.0")
    sender = {"job": "notification-sender", "instance": "notification-sender.0"}
    world.set("goodfaith_delivery_oldest_pending_timestamp_seconds", steady(0), channel="email", **sender)
    for state, count in (("open", 0), ("closed", 5)):
        at = {"job": "notification-webhooks", "instance": "notification-webhooks.0"}
        world.set("goodfaith_webhook_endpoints", steady(count), state=state, **at)
    at = {"job": "intake-api", "instance": "intake-api.0"}
    for status, rate in (("2xx", 100), ("5xx", 0)):
        world.set("goodfaith_http_request_duration_seconds_count", flows(rate), status=status, **at)
    at = {"job": "intake-worker", "instance": "intake-worker.0"}
    world.set("goodfaith_clocks_disagree", steady(0), **at)
    world.set("goodfaith_review_oldest_timestamp_seconds", steady(0), state="UNDER_REVIEW", tier="standard", **at)
    world.set("prometheus_rule_evaluation_failures_total", steady(0), rule_group="figures")
    return world


def _figures(world: World) -> None:
    """The series of the stream views, on two partitions."""
    for partition in ("0", "1"):
        at = {"job": "streams", "instance": "streams.0", "partition": partition}
        for stage in ("intake", "verification", "enforcement", "review", "complainant"):
            world.set("goodfaith_claim_items_open", steady(5), stage=stage, tier="standard", **at)
            world.set("goodfaith_claim_oldest_open_received_timestamp_seconds", flows(start=99_900), stage=stage, **at)
        world.set("goodfaith_claim_handling_duration_seconds_count", flows(), tier="standard", **at)
        for stage in ("recorded", "enforcement", "notification"):
            world.set("goodfaith_claim_stage_duration_seconds_count", flows(), stage=stage, **at)
            world.set("goodfaith_claim_stage_completed_total", flows(), stage=stage, result="in_budget", **at)
            world.set("goodfaith_claim_stage_completed_total", steady(0), stage=stage, result="late", **at)
        for outcome, rate in (("met", 60), ("missed", 0)):
            name = "goodfaith_claim_sla_outcomes_total"
            world.set(name, flows(rate), outcome=outcome, tier="standard", **at)
        world.set("goodfaith_takedowns_total", flows(), outcome="taken_down", **at)
        world.set("goodfaith_claim_items_due_soon", steady(0), within_seconds="3600", **at)
        world.set("goodfaith_streams_position_timestamp_seconds", flows(), topic="a.events", **at)
        world.set("goodfaith_streams_recovering", steady(0), **at)
        world.set("goodfaith_reconciliation_difference", steady(0), view="items", **at)
        world.set("goodfaith_reconciliation_last_timestamp_seconds", flows(), view="items", **at)
    world.set("goodfaith_clock_timestamp_seconds", flows(start=100_000), job="streams", instance="streams.0")


# ------------------------------------------------------------------------------------------------------ what breaks


def _behind(world: World, *which: str) -> None:
    world.change(lambda _: lags(), "goodfaith_consumer_lag_seconds", *which)


def _late(world: World, stage: str, rate: float = MINUTE) -> None:
    """Items of a stage are late."""
    name = "goodfaith_claim_stage_completed_total"
    world.change(stops, name, f'stage="{stage}"', 'result="in_budget"')
    world.change(lambda _: occurs(rate), name, f'stage="{stage}"', 'result="late"')


def _no_claim_moves(world: World) -> None:
    """The measured consequences of a fault that stops all claims."""
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")
    world.change(stops, "goodfaith_claim_handling_duration_seconds_count")
    for stage in ("recorded", "enforcement", "notification"):
        world.change(stops, "goodfaith_claim_stage_duration_seconds_count", f'stage="{stage}"')
        _late(world, stage)
    # no watermark passes a partition that has stopped
    world.change(stops, "goodfaith_watermark_timestamp_seconds")


def _platform_gone(world: World, part: str) -> None:
    world.change(lambda _: steady(1, 0), f"goodfaith_{part}_up")
    world.change(stops, "goodfaith_watch_last_success_timestamp_seconds", f'part="{part}"')
    _no_claim_moves(world)
    # the lag cannot be measured either: the backlog shows only after the fault
    world.change(lambda _: (f"0x{BEFORE - 1}", f"0x{DURING - 1}", lags()[2]), "goodfaith_consumer_lag_seconds")
    for name in ("worker_progress", "consumer_position", "streams_position"):
        world.change(stops, f"goodfaith_{name}_timestamp_seconds")
    world.change(lambda _: waits(), "goodfaith_outbox_oldest_timestamp_seconds")


def _broker_gone(world: World) -> None:
    _platform_gone(world, "broker")
    # leaders are elected when the broker is back
    world.change(lambda _: steady(0, 0, f"9x2 0x{AFTER - 4}"), "goodfaith_broker_offline_partitions")


def _database_gone(world: World) -> None:
    _platform_gone(world, "database")
    world.change(lambda _: occurs(90), "goodfaith_http_request_duration_seconds_count", 'status="5xx"')


def _database_back(world: World) -> None:
    """Every worker stops for good; its work in hand stays where it is."""
    _no_claim_moves(world)
    world.change(lambda _: steady(0, 1), "goodfaith_database_went_back")
    for name in ("worker_progress", "consumer_position"):
        world.change(stops, f"goodfaith_{name}_timestamp_seconds")
    world.change(lambda _: steady(4, 0), "goodfaith_consumer_assigned_partitions")
    world.change(lambda _: waits(), "goodfaith_outbox_oldest_timestamp_seconds")
    _behind(world)


def _clocks(world: World) -> None:
    """Watermarks are held, and deadlines with them; the canary's listing comes back late."""
    world.change(lambda _: steady(0, 1), "goodfaith_clocks_disagree")
    world.change(stops, "goodfaith_watermark_timestamp_seconds")
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")


def _leaderless(world: World) -> None:
    world.change(lambda _: steady(0, 7), "goodfaith_broker_offline_partitions")
    _behind(world, 'group="verification"')
    world.change(lambda _: waits(), "goodfaith_outbox_oldest_timestamp_seconds", 'job="verification"')
    _no_claim_moves(world)


def _process_gone(job: str) -> Callable[[World], None]:
    def breaks(world: World) -> None:
        for group, process in GROUPS.items():
            if process == job:
                _behind(world, f'group="{group}"')
        if area_of({"job": job}) == "claims":
            _no_claim_moves(world)
            world.change(lambda _: waits(), "goodfaith_delivery_oldest_pending_timestamp_seconds")
            world.change(lambda _: occurs(90), "goodfaith_http_request_duration_seconds_count", 'status="5xx"')
        world.lose(job)

    return breaks


def _host_gone(world: World) -> None:
    _no_claim_moves(world)
    for job in REQUIRED:
        if job not in ("watch", "streams"):
            world.lose(job)
    _behind(world)


def _target_gone(world: World) -> None:
    world.lose("watch")
    world.change(lambda _: gone(steady(1)), "up", 'job="watch"')


def _hangs(world: World) -> None:
    world.change(stops, "goodfaith_worker_progress_timestamp_seconds", 'job="verification"')
    world.change(stops, "goodfaith_consumer_position_timestamp_seconds", 'job="verification"')
    world.change(lambda _: waits(), "goodfaith_outbox_oldest_timestamp_seconds", 'job="verification"')
    _behind(world, 'group="verification"')
    _no_claim_moves(world)


def _watch_hangs(world: World) -> None:
    world.change(stops, "goodfaith_watch_last_success_timestamp_seconds")


def _unowned(world: World) -> None:
    world.change(lambda _: steady(4, 0), "goodfaith_consumer_assigned_partitions", 'job="verification"')
    _behind(world, 'group="verification"')
    _no_claim_moves(world)


def _unread_gone(world: World) -> None:
    world.change(lambda _: steady(0, 2), "goodfaith_unread_gone_partitions", 'job="verification"', 'topic="a.events"')
    _behind(world, 'group="verification"', 'topic="a.events"')
    _no_claim_moves(world)


def _one_partition(world: World) -> None:
    """The canary's claims may be on any partition, so sooner or later one of them hangs on this one."""
    for topic in ("a.events", "b.events"):
        _behind(world, 'group="verification"', f'topic="{topic}"', 'partition="3"')
    world.change(stops, "goodfaith_consumer_position_timestamp_seconds", 'job="verification"')
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")
    world.change(stops, "goodfaith_watermark_timestamp_seconds")
    _late(world, "recorded", 15)


def _group_behind(group: str) -> Callable[[World], None]:
    def breaks(world: World) -> None:
        _behind(world, f'group="{group}"', 'topic="a.events"')
        # fewer records come on the other topic: some of its partitions have none
        _behind(world, f'group="{group}"', 'topic="b.events"', 'partition="1"')
        _no_claim_moves(world)

    return breaks


def _unpublished(world: World) -> None:
    world.change(lambda _: waits(), "goodfaith_outbox_oldest_timestamp_seconds", 'job="intake-worker"')
    _no_claim_moves(world)


def _watermark(world: World) -> None:
    world.change(stops, "goodfaith_watermark_timestamp_seconds")


def _intake_fails(world: World) -> None:
    world.change(lambda _: occurs(90), "goodfaith_http_request_duration_seconds_count", 'status="5xx"')
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")


def _streams_stand(world: World) -> None:
    """Every figure stops, so claims seem to have stopped."""
    for name in ("claim_handling_duration_seconds_count", "claim_stage_duration_seconds_count"):
        world.change(stops, f"goodfaith_{name}")
    world.change(stops, "goodfaith_claim_oldest_open_received_timestamp_seconds")
    world.change(stops, "goodfaith_streams_position_timestamp_seconds")
    world.change(stops, "goodfaith_worker_progress_timestamp_seconds", 'job="streams"')
    world.change(stops, "goodfaith_reconciliation_last_timestamp_seconds")
    _behind(world, 'group="streams"')


def _streams_recover(world: World) -> None:
    _streams_stand(world)
    world.change(lambda _: steady(0, 1), "goodfaith_streams_recovering", 'partition="1"')
    world.change(gone, "goodfaith_claim_items_open", 'partition="1"')
    world.change(lambda _: steady(0), "goodfaith_consumer_lag_seconds", 'group="streams"')


def _partition_unexported(world: World) -> None:
    world.change(gone, "goodfaith_claim_items_open", 'partition="1"')


def _canary_fails(world: World) -> None:
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")


def _marketplace_gone(world: World) -> None:
    world.lose("marketplace")
    _behind(world, 'group="marketplace"')
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")
    world.change(stops, "goodfaith_claim_handling_duration_seconds_count")
    world.change(stops, "goodfaith_claim_stage_duration_seconds_count", 'stage="enforcement"')
    _late(world, "enforcement")


def _none_handled(world: World) -> None:
    """No claim is handled, but the canary comes through."""
    world.change(stops, "goodfaith_claim_handling_duration_seconds_count")
    for stage in ("recorded", "enforcement"):
        world.change(stops, "goodfaith_claim_stage_duration_seconds_count", f'stage="{stage}"')
        _late(world, stage)


def _stage_stalls(world: World) -> None:
    world.change(stops, "goodfaith_claim_stage_duration_seconds_count", 'stage="enforcement"')
    _late(world, "enforcement")


def _stage_slow(world: World) -> None:
    _late(world, "recorded", 30)


def _overload(world: World) -> None:
    """100,000 items came at once and are open, and the oldest has waited for 23 hours."""
    world.change(lambda _: steady(5, 100_000), "goodfaith_claim_items_open", 'stage="verification"')


def _mail_gone(world: World) -> None:
    world.change(lambda _: waits(), "goodfaith_delivery_oldest_pending_timestamp_seconds")
    _late(world, "notification", 30)


def _mail_gone_for_the_canary(world: World) -> None:
    _mail_gone(world)
    world.change(stops, "goodfaith_canary_last_completed_timestamp_seconds")


def _poison(world: World) -> None:
    world.change(lambda _: steady(0, 3), "goodfaith_dead_letters_depth", 'job="verification"')
    world.change(lambda _: waits(), "goodfaith_dead_letters_oldest_timestamp_seconds", 'job="verification"')


def _forgotten(world: World) -> None:
    """Some cases wait in review for 18 hours, for 23 hours, and past their deadline."""
    old = (
        f"99900+60x{BEFORE - 1}",
        f"{100_000 + 60 * BEFORE - 19 * 3600}+0x{DURING - 1}",
        f"{99_900 + 60 * (BEFORE + DURING)}+60x{AFTER - 1}",
    )
    world.change(lambda _: old, "goodfaith_claim_oldest_open_received_timestamp_seconds", 'stage="review"')
    world.change(lambda _: steady(0, 30, f"0x{AFTER - 1}"), "goodfaith_claim_items_due_soon")
    world.change(lambda _: occurs(30), "goodfaith_claim_sla_outcomes_total", 'outcome="missed"')


def _due(world: World) -> None:
    world.change(lambda _: steady(0, 30), "goodfaith_claim_items_due_soon")
    world.change(lambda _: occurs(30), "goodfaith_claim_sla_outcomes_total", 'outcome="missed"')


def _missed(world: World) -> None:
    world.change(lambda _: occurs(30), "goodfaith_claim_sla_outcomes_total", 'outcome="missed"')


def _webhooks(world: World) -> None:
    world.change(lambda _: steady(0, 9), "goodfaith_webhook_endpoints", 'state="open"')


def _rules(world: World) -> None:
    world.change(lambda _: occurs(4), "prometheus_rule_evaluation_failures_total")


def _series_gone(world: World) -> None:
    world.change(gone, "goodfaith_watermark_timestamp_seconds")


@dataclass(frozen=True)
class Fault:
    """A class of faults.

    Attributes:
        what: What is broken.
        pages: The one alert that pages for it, from its beginning until all its consequences are over.
        breaks: Applies the fault to a healthy world.
    """

    what: str
    pages: str
    breaks: Callable[[World], None]
    minutes: int = DURING
    """How long it lasts. For one that lasts longer than the default, the recovery is not tested."""


PROCESSES: Final = (
    "intake-api",
    "verification",
    "notification-sender",
    "enforcement-ledger",
    "notification-bounces",
    "streams",
    "watch",
    "canary",
)
"""One or more of each area."""

FAULTS: Final = (
    Fault("the broker is gone", "BrokerDown", _broker_gone),
    Fault("the database is gone", "DatabaseDown", _database_gone),
    Fault("the database went back in time", "DatabaseWentBack", _database_back),
    Fault("the clocks disagree", "ClocksDisagree", _clocks),
    Fault("partitions have no leader", "BrokerOfflinePartitions", _leaderless),
    *(Fault(f"{job} is gone", "ProcessDown", _process_gone(job)) for job in PROCESSES),
    Fault("a host is gone with all its processes", "ProcessDown", _host_gone),
    Fault("a process is not looked for", "ProcessAbsent", _target_gone),
    Fault("a worker hangs and its port answers", "WorkerStuck", _hangs),
    Fault("what watches broker and database sees neither", "WatchOld", _watch_hangs),
    Fault("workers run and own no partition", "PartitionsUnowned", _unowned),
    Fault("unread records were deleted", "UnreadGone", _unread_gone),
    Fault("one partition stands", "PartitionStuck", _one_partition),
    Fault("a group is too slow", "ConsumerLag", _group_behind("verification")),
    Fault("the marketplace is gone", "ConsumerLag", _marketplace_gone),
    Fault("events cannot be published", "OutboxOld", _unpublished),
    Fault("the watermark stands", "WatermarkBehind", _watermark),
    Fault("intake's API answers with errors", "IntakeErrors", _intake_fails),
    Fault("the streams hang and their port answers", "StreamsBehind", _streams_stand),
    Fault("the streams recover for long", "StreamsRecovering", _streams_recover),
    Fault("figures leave a partition out", "FiguresIncomplete", _partition_unexported),
    Fault("a series is not exported any more", "SeriesAbsent", _series_gone),
    Fault("rules cannot be evaluated", "RulesFail", _rules),
    Fault("only the canary fails", "CanaryOld", _canary_fails),
    Fault("no claim is handled, but the canary is", "ClaimsStalled", _none_handled),
    Fault("one stage stands", "StageStalled", _stage_stalls),
    Fault("one stage is slow", "StageBurnFast", _stage_slow),
    Fault("more is open than can be handled in time", "DrainTooSlow", _overload),
    Fault("the mail server is gone", "DeliveryLate", _mail_gone),
    Fault("the mail server is gone, and the canary writes mail", "CanaryOld", _mail_gone_for_the_canary),
    Fault("dead letters wait, and nobody handles them", "DeadLettersOld", _poison, minutes=250),
    Fault("items are forgotten until they are late", "OldestItemOld", _forgotten),
    Fault("items came late, and are due", "ItemsDueSoon", _due),
    Fault("items miss their time without a warning", "HandledBurnFast", _missed),
    Fault("most webhooks fail", "WebhookCircuitsOpen", _webhooks),
)
"""Every alert that pages is the page of one of these. Add an alert together with its fault."""


def leaving(rules: Iterable[Mapping[str, Any]] = INHIBITIONS) -> str:
    """PromQL for the pages that are not muted: Alertmanager's inhibition rules, applied to the series ALERTS."""
    expression = 'ALERTS{alertstate="firing",severity="page"}'
    for rule in rules:
        source, target = (",".join(rule[f"{side}_matchers"]) for side in ("source", "target"))
        on = ", ".join(rule.get("equal", ()))
        expression += (
            f'\nunless (ALERTS{{alertstate="firing",{target}}} and on ({on}) ALERTS{{alertstate="firing",{source}}})'
        )
    return expression


def rule_file(pace: Pace) -> dict[str, Any]:
    """The rules of alerts that page, and the recording rules they need. Tickets mute nothing."""
    those = [group for files in groups(pace).values() for group in files]
    records = [rule for group in those for rule in group.rules if isinstance(rule, Record)]
    wanted = [rule.expr for group in those for rule in group.rules if _pages(rule)]
    needed: set[str] = set()
    while wanted:
        found = set(re.findall(r"goodfaith:[a-z0-9_:]+", wanted.pop())) - needed
        needed |= found
        wanted += [record.expr for record in records if record.name in found]
    kept = (
        replace(group, rules=tuple(rule for rule in group.rules if _pages(rule) or rule.name in needed))
        for group in those
    )
    return {"groups": [group.plain(pace) for group in kept if group.rules]}


def _pages(rule: Alert | Record) -> bool:
    return isinstance(rule, Alert) and (rule.severity == "page" or rule.name == "Aftermath")


def test_of(fault: Fault, rules: str) -> dict[str, Any]:
    """A test for promtool: exactly the fault's page leaves. `rules` is the path of the `rule_file`."""
    recovers = fault.minutes == DURING
    length = BEFORE + fault.minutes + AFTER * recovers
    world = healthy()
    fault.breaks(world)
    expected = {
        "expr": f"group by (alertname) (max_over_time(({leaving()})[{length}m:1m]))",
        "eval_time": f"{length - 1}m",
        "exp_samples": [{"labels": f'{{alertname="{fault.pages}"}}', "value": 1}],
    }
    series = [
        {"series": one, "values": " ".join(parts) if recovers else f"{parts[0]} {_lasting(parts[1], fault.minutes)}"}
        for one, parts in world.series.items()
    ]
    return {
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [{"name": fault.what, "interval": "1m", "input_series": series, "promql_expr_test": [expected]}],
    }


def _lasting(samples: str, minutes: int) -> str:
    return re.sub(r"x\d+$", f"x{minutes - 1}", samples)
