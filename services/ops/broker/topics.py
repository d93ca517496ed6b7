"""`goodfaith topics plan|apply`: compares the broker's topics and ACLs with the declared ones, and applies these.

It deletes no topic, and loses neither records nor their order. A change that would is refused, and then nothing at all
is applied.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.ops.terminal import JsonOption, StackOption, YesOption

if TYPE_CHECKING:
    from services.ops.broker.topic_plan import Cluster, Create, Declared, Plan
    from shared.access import Acl
    from shared.settings import Settings

EXIT_FOUND: Final = 1
TIMEOUT_MS: Final = 30_000
SHOWN_S: Final = 60.0
MOVED_S: Final = 600.0
"""Wall seconds that new replicas may take to catch up."""

app = typer.Typer(no_args_is_help=True, help="Compare the broker's topics and ACLs with the code's, and apply these.")

AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Allow a refused change: shorter-retention or fewer-in-sync. May be repeated."),
]


class Broker:
    """The broker, as far as planning needs it.

    Raises:
        kafka.errors.KafkaError: from the constructor and each method: it cannot be reached, or refuses.
    """

    def __init__(self, settings: Settings) -> None:
        from shared import kafka_links

        self._settings = settings
        self._admin: Any = kafka_links.admin(settings, client_id="goodfaith-topics")

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def look(self, wanted: Declared) -> Cluster:
        """The brokers, topics and ACLs that exist."""
        from services.ops.broker.topic_plan import Cluster

        brokers = tuple(sorted(node["broker_id"] for node in self._admin.describe_cluster()["brokers"]))
        return Cluster(brokers, self._topics(wanted), self._acls())

    def _topics(self, wanted: Declared) -> dict[str, Any]:
        from kafka.admin import ConfigResource, ConfigResourceType

        from services.ops.broker.topic_plan import RETENTION, Found

        described = {topic["name"]: topic for topic in self._admin.describe_topics() if not topic.get("is_internal")}
        names = sorted(described.keys() & wanted.topics.keys())
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        configs = self._admin.describe_configs(asked, config_filter="all").get("topic", {}) if asked else {}
        found = {}
        for name, topic in described.items():
            partitions = sorted(topic["partitions"], key=lambda partition: int(partition["partition_index"]))
            replicas = tuple(tuple(partition["replica_nodes"]) for partition in partitions)
            values = {
                config: str(configs[name][config]["value"])
                for config in (wanted.topics[name].configs if name in wanted.topics else ())
                if config in configs.get(name, {})
            }
            unread = 0
            if name in wanted.topics and values.get(RETENTION) != wanted.topics[name].configs[RETENTION]:
                unread = self._unread_ms(name, len(replicas))
            found[name] = Found(replicas, values, unread)
        return found

    def _unread_ms(self, name: str, partitions: int) -> int:
        """Age of the topic's oldest record that one of our readers has not consumed, by its committed offsets."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        from services.streams import generations
        from services.streams.app import app_id
        from shared import access, kafka_links

        prefix = self._settings.topic_prefix
        groups = [
            prefix + group
            for by_group in (*access.READS.values(), {access.INBOUND_GROUP: access.inbound(self._settings)})
            for group, read in by_group.items()
            if name in {prefix + topic.name for topic in read}
        ]
        if name in {prefix + topic.name for topic in access.VIEWED} and (number := generations.newest(self._settings)):
            groups.append(app_id(self._settings, number))
        parts = [TopicPartition(name, number) for number in range(partitions)]
        ends = self._admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.LATEST), timeout_ms=TIMEOUT_MS)
        begins = self._admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.EARLIEST), timeout_ms=TIMEOUT_MS)
        oldest: dict[Any, int] = {}
        for group in groups:
            committed = self._admin.list_group_offsets({group: parts})[group]
            for part in parts:
                at = committed.get(part)
                unread = max(begins[part].offset, at.offset if at is not None and at.offset >= 0 else 0)
                if unread < ends[part].offset:
                    oldest[part] = min(oldest.get(part, unread), unread)
        if not oldest:
            return 0
        consumer = kafka_links.consumer(self._settings, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            return int(time.time() * 1000) - _first_stamp(consumer, oldest)
        finally:
            consumer.close()

    def _acls(self) -> frozenset[Acl] | None:
        from kafka.admin import (
            ACLFilter,
            ACLOperation,
            ACLPermissionType,
            ACLResourcePatternType,
            ResourcePatternFilter,
            ResourceType,
        )
        from kafka.errors import SecurityDisabledError

        from shared.access import Acl

        every = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
        try:
            there, _ = self._admin.describe_acls(
                ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ALLOW, every)
            )
        except SecurityDisabledError:
            return None
        return frozenset(
            Acl(
                acl.principal,
                acl.resource_pattern.resource_type.name.lower(),
                acl.resource_pattern.resource_name,
                acl.resource_pattern.pattern_type is ACLResourcePatternType.PREFIXED,
                acl.operation.name,
            )
            for acl in there
            if acl.host == "*"
        )

    def carry_out(self, plan: Plan) -> None:
        """Carry out a plan. If a step fails, those before it stay done, and the next plan continues from there."""
        from services.ops.broker import topic_plan

        self._create([change for change in plan.changes if isinstance(change, topic_plan.Create)])
        adding = [change.acl for change in plan.changes if isinstance(change, topic_plan.Allow)]
        removing = [change.acl for change in plan.changes if isinstance(change, topic_plan.Forbid)]
        for change in plan.changes:
            match change:
                case topic_plan.Spread(name, replicas):
                    self._spread(name, replicas)
                case topic_plan.Grow(name, _, count):
                    self._admin.create_partitions({name: count}, timeout_ms=TIMEOUT_MS)
                case topic_plan.Configure(name, _, values):
                    self._configure(name, values)
        self._allow(adding)
        self._forbid(removing)

    def _create(self, creations: Sequence[Create]) -> None:
        """Create all topics at once; try again while some brokers are not visible yet."""
        from kafka.admin import NewTopic
        from kafka.errors import InvalidReplicationFactorError, NoError, TopicAlreadyExistsError, for_code

        left = {
            one.topic: NewTopic(
                one.topic, one.wanted.partitions, one.wanted.replication, topic_configs=dict(one.wanted.configs)
            )
            for one in creations
        }
        until = time.monotonic() + SHOWN_S
        while left:
            answers = self._admin.create_topics(list(left.values()), timeout_ms=TIMEOUT_MS, raise_errors=False)[
                "topics"
            ]
            for answer in answers:
                error = for_code(answer["error_code"])
                # another process may have applied the same plan at the same time
                if error in (NoError, TopicAlreadyExistsError):
                    del left[answer["name"]]
                elif error is not InvalidReplicationFactorError or time.monotonic() > until:
                    raise error(f"{answer['name']}: {answer['error_message']}")
            if left:
                time.sleep(0.5)

    def _spread(self, name: str, replicas: Mapping[int, Sequence[int]]) -> None:
        from kafka import TopicPartition
        from kafka.errors import KafkaTimeoutError

        wanted = {TopicPartition(name, number): list(brokers) for number, brokers in replicas.items()}
        answers = self._admin.alter_partition_reassignments(wanted, timeout_ms=TIMEOUT_MS)
        for error in answers.values():
            if error is not None:
                raise error(name)
        until = time.monotonic() + MOVED_S
        while self._admin.list_partition_reassignments(list(wanted)):
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"replicas of {name} were not there within {MOVED_S:.0f} s; they still come")
            time.sleep(0.5)

    def _configure(self, name: str, values: Mapping[str, str]) -> None:
        from kafka.admin import ConfigResource, ConfigResourceType
        from kafka.errors import KafkaError

        answer = self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(values))])
        result = answer["topic"][name]
        if result != "OK":
            raise KafkaError(f"{name}: {result}")

    def _allow(self, acls: Sequence[Acl]) -> None:
        if not acls:
            return
        answer = self._admin.create_acls(list(map(_acl, acls)))
        if answer["failed"]:
            raise answer["failed"][0](f"{len(answer['failed'])} of {len(acls)} ACLs could not be set")

    def _forbid(self, acls: Iterable[Acl]) -> None:
        from kafka.errors import NoError

        for _, _, error in self._admin.delete_acls(list(map(_filter, acls))) if acls else ():
            if error is not NoError:
                raise error("an ACL could not be removed")


def _first_stamp(consumer: Any, parts: Mapping[Any, int]) -> int:
    """The earliest timestamp of the records at these offsets."""
    consumer.assign(list(parts))
    for part, offset in parts.items():
        consumer.seek(part, offset)
    left, found = set(parts), []
    until = time.monotonic() + TIMEOUT_MS / 1000
    while left and time.monotonic() < until:
        for part, records in consumer.poll(timeout_ms=500).items():
            if part in left:
                found.append(records[0].timestamp)
                left.discard(part)
                consumer.pause(part)
    # a record that cannot be read may be of any age: assume the oldest
    return 0 if left else min(found)


def _pattern(acl: Acl) -> Any:
    from kafka.admin import ACLResourcePatternType, ResourcePattern, ResourceType

    kind = ACLResourcePatternType.PREFIXED if acl.prefixed else ACLResourcePatternType.LITERAL
    return ResourcePattern(ResourceType[acl.resource.upper()], acl.name, kind)


def _acl(acl: Acl) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType

    return ACL(acl.principal, "*", ACLOperation[acl.operation], ACLPermissionType.ALLOW, _pattern(acl))


def _filter(acl: Acl) -> Any:
    from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType

    return ACLFilter(acl.principal, "*", ACLOperation[acl.operation], ACLPermissionType.ALLOW, _pattern(acl))


def compare(settings: Settings, allowed: Iterable[str] = ()) -> Plan:
    """Plan what must change on the broker.

    Raises:
        kafka.errors.KafkaError: it cannot be reached, or refuses to answer.
    """
    from services.ops.broker import topic_plan

    wanted = topic_plan.declared(settings)
    broker = Broker(settings)
    try:
        return topic_plan.plan(wanted, broker.look(wanted), frozenset(allowed))
    finally:
        broker.close()


def apply_to(settings: Settings, allowed: Iterable[str] = ()) -> Plan:
    """Plan and, unless something is refused, apply; wait until the broker shows the result. Returns the plan.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached, refuses, or does not show the result in time.
    """
    from kafka.errors import KafkaTimeoutError

    from services.ops.broker import topic_plan

    wanted, allowed = topic_plan.declared(settings), frozenset(allowed)
    broker = Broker(settings)
    try:
        plan = topic_plan.plan(wanted, broker.look(wanted), allowed)
        if not plan.changes or plan.refusals:
            return plan
        broker.carry_out(plan)
        # a broker learns a moment later what its controller has done
        until = time.monotonic() + SHOWN_S
        while left := topic_plan.plan(wanted, broker.look(wanted), allowed).changes:
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"the broker does not show, after {SHOWN_S:.0f} s: {left[0]}")
            time.sleep(0.1)
        return plan
    finally:
        broker.close()


def _settings(stack: str) -> Settings:
    from services.ops import installation

    return installation.settings(stack)


def _allowed(given: Sequence[str] | None) -> frozenset[str]:
    from services.ops.broker.topic_plan import ALLOWANCES
    from shared.failures import CommandError

    if unknown := sorted(set(given or ()) - set(ALLOWANCES)):
        raise CommandError(f"--allow takes {' or '.join(ALLOWANCES)}, not {unknown[0]!r}")
    return frozenset(given or ())


def _show(plan: Plan, said: str) -> None:
    from services.ops.terminal import console

    for change in plan.changes:
        console.print(f"{said} {change}", markup=False, highlight=False)
    for refusal in plan.refusals:
        console.print(f"refused: {refusal}", style="red", markup=False, highlight=False)
    for note in plan.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    if not plan.changes and not plan.refusals:
        console.print("topics and ACLs are as declared")


@app.command("plan")
def plan_(
    stack: StackOption = "default",
    allow: AllowOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with code 1 if changes are needed or refused.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what `apply` would change, and what it would refuse. Changes nothing.

    For an installation, set `GOODFAITH_KAFKA` and `GOODFAITH_DATABASE`.
    """
    from services.ops.terminal import print_json

    plan = compare(_settings(stack), _allowed(allow))
    _show(plan, "to do:")
    if json:
        print_json(plan.as_json())
    if exit_code and (plan.refusals or plan.changes):
        raise typer.Exit(EXIT_FOUND)


@app.command("apply")
def apply_(
    stack: StackOption = "default", allow: AllowOption = None, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Make the broker's topics and ACLs as the code declares them. May be repeated.

    If anything is refused, nothing is changed, and the exit code is 1.
    """
    from services.ops.terminal import confirm, print_json, progress

    allowed = _allowed(allow)
    settings = _settings(stack)
    confirm(f"Change topics although it may lose records ({', '.join(sorted(allowed))})?", yes=yes or not allowed)
    with progress("comparing topics and ACLs, and applying the declared ones"):
        plan = apply_to(settings, allowed)
    _show(plan, "not done:" if plan.refusals else "done:")
    if json:
        print_json({**plan.as_json(), "applied": bool(plan.changes) and not plan.refusals})
    if plan.refusals:
        raise typer.Exit(EXIT_FOUND)


def register(commands: typer.Typer) -> None:
    """Add this module's commands."""
    commands.add_typer(app, name="topics")
