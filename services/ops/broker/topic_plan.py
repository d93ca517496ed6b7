"""Plans how to make a broker's topics and ACLs as declared, and refuses what would lose something.

Pure: the command (`topics.py`) fetches what exists, and carries out the plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from shared import access, topics
from shared.access import Acl
from shared.settings import Settings

RETENTION: Final = "retention.ms"
POLICY: Final = "cleanup.policy"
IN_SYNC: Final = "min.insync.replicas"
ALLOWANCES: Final = ("shorter-retention", "fewer-in-sync")
"""Changes that an operator may allow by name. Each loses something, perhaps on purpose."""
Allowance = Literal["shorter-retention", "fewer-in-sync"]
FOREVER: Final = -1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as declared. Its full name is its key in `Declared.topics`."""

    partitions: int
    replication: int
    configs: Mapping[str, str]
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it.

    Attributes:
        replicas: by partition, from 0, the brokers that have it, the preferred leader first.
        configs: values in force of the declared settings.
        unread_ms: wall age of the oldest record that one of its readers has not read; 0: there is none.
    """

    replicas: tuple[tuple[int, ...], ...]
    configs: Mapping[str, str]
    unread_ms: int = 0

    @property
    def replication(self) -> int:
        """Number of replicas of the partition that has the fewest."""
        return min(map(len, self.replicas), default=0)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What exists.

    Attributes:
        brokers: ids of the brokers that are alive.
        acls: None: the broker has no authorizer and lets every client do everything.
    """

    brokers: tuple[int, ...]
    topics: Mapping[str, Found]
    acls: frozenset[Acl] | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What must exist.

    Attributes:
        ours: principals whose ACLs are ours to remove, including those of former upstreams.
        names: topics and groups that are ours, likewise. Another installation's principals may have the same names.
    """

    topics: Mapping[str, Wanted]
    acls: frozenset[Acl]
    ours: re.Pattern[str]
    names: re.Pattern[str]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """A missing topic."""

    topic: str
    wanted: Wanted

    def __str__(self) -> str:
        return f"create {self.topic}: {self.wanted.partitions} partitions, {self.wanted.replication} replicas, {_listed(self.wanted.configs)}"


@dataclass(frozen=True, slots=True)
class Grow:
    """More partitions, for a topic whose order does not depend on them."""

    topic: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.topic}: partitions {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Spread:
    """More replicas. `replicas` has only the partitions that change."""

    topic: str
    replicas: Mapping[int, tuple[int, ...]]

    def __str__(self) -> str:
        count = max(map(len, self.replicas.values()))
        return f"{self.topic}: {count} replicas of {len(self.replicas)} partitions"


@dataclass(frozen=True, slots=True)
class Configure:
    """A topic's settings that differ."""

    topic: str
    before: Mapping[str, str]
    after: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.topic}: " + ", ".join(
            f"{name} {self.before.get(name, 'unset')} -> {value}" for name, value in sorted(self.after.items())
        )


@dataclass(frozen=True, slots=True)
class Allow:
    """A missing permission."""

    acl: Acl

    def __str__(self) -> str:
        return f"allow {self.acl}"


@dataclass(frozen=True, slots=True)
class Forbid:
    """A permission of one of our principals that is not declared."""

    acl: Acl

    def __str__(self) -> str:
        return f"no longer allow {self.acl}"


Change = Create | Grow | Spread | Configure | Allow | Forbid


@dataclass(frozen=True, slots=True)
class Refusal:
    """A difference that stays, because removing it would lose data, order or safety.

    Attributes:
        allowance: the name by which an operator may allow it; None: it cannot be allowed.
    """

    topic: str
    what: str
    cure: str
    allowance: Allowance | None = None

    def __str__(self) -> str:
        allow = f", or allow it (--allow {self.allowance})" if self.allowance else ""
        return f"{self.topic}: {self.what}; {self.cure}{allow}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes to make, in this order; what is refused; and notes for the operator, on which the plan does not act."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "changes": [str(change) for change in self.changes],
            "refusals": [str(refusal) for refusal in self.refusals],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Making:
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def declared(settings: Settings) -> Declared:
    """What the code declares for an installation with these settings."""
    wanted = {
        settings.topic_prefix + topic.name: Wanted(
            settings.partitions, settings.replication, topic.configs(settings), topic.ordered
        )
        for topic in topics.of(settings)
    }
    return Declared(wanted, access.acls(settings), access.ours(settings), access.names(settings), settings.topic_prefix)


def plan(wanted: Declared, cluster: Cluster, allowed: frozenset[str] = frozenset()) -> Plan:
    """Compare the declaration with the cluster.

    Args:
        allowed: names from ``ALLOWANCES``.
    """
    making = _Making()
    for name, topic in sorted(wanted.topics.items()):
        there = cluster.topics.get(name)
        if there is None:
            _create(making, name, topic, cluster)
        else:
            # in this order: new partitions get as many replicas as the others have
            _replicas(making, name, topic, there, cluster)
            _partitions(making, name, topic, there)
            _configs(making, name, topic, there, allowed)
    for name in sorted(cluster.topics.keys() - wanted.topics.keys()):
        if _ours(wanted, name):
            making.notes.append(
                f"{name} is not declared and is left as it is: delete it by hand if it is no longer needed"
            )
    if cluster.acls is None:
        making.notes.append("the broker has no authorizer: every client may do everything, and ACLs are not compared")
    else:
        _acls(making, wanted, cluster.acls)
    return Plan(tuple(making.changes), tuple(making.refusals), tuple(making.notes))


def _ours(wanted: Declared, name: str) -> bool:
    """Whether an undeclared topic looks like this installation's: it has its prefix, or an upstream's name."""
    if not name.startswith(wanted.prefix):
        return False
    rest = name.removeprefix(wanted.prefix)
    return not rest.startswith(access.STREAMS) if wanted.prefix else rest.startswith("inbound.")


def _create(making: _Making, name: str, topic: Wanted, cluster: Cluster) -> None:
    if topic.replication > len(cluster.brokers):
        making.refusals.append(_too_few(name, topic, cluster))
    else:
        making.changes.append(Create(name, topic))


def _too_few(name: str, topic: Wanted, cluster: Cluster) -> Refusal:
    return Refusal(
        name,
        f"{topic.replication} replicas are declared, and {len(cluster.brokers)} brokers are alive",
        "start the others, or set GOODFAITH_REPLICATION",
    )


def _partitions(making: _Making, name: str, topic: Wanted, there: Found) -> None:
    count = len(there.replicas)
    if count > topic.partitions:
        making.refusals.append(
            Refusal(
                name,
                f"has {count} partitions, {topic.partitions} are declared, and a partition cannot be removed without its records",
                f"set GOODFAITH_PARTITIONS={count}",
            )
        )
    elif count < topic.partitions and topic.ordered:
        making.refusals.append(
            Refusal(
                name,
                f"has {count} partitions, {topic.partitions} are declared, and with more, keys would move to other partitions and lose their order",
                f"set GOODFAITH_PARTITIONS={count}",
            )
        )
    elif count < topic.partitions:
        making.changes.append(Grow(name, count, topic.partitions))


def _replicas(making: _Making, name: str, topic: Wanted, there: Found, cluster: Cluster) -> None:
    if there.replication > topic.replication:
        making.refusals.append(
            Refusal(
                name,
                f"has {there.replication} replicas, {topic.replication} are declared, and fewer are less safe",
                f"set GOODFAITH_REPLICATION={there.replication}, or move them away with the broker's tools",
            )
        )
    elif there.replication < topic.replication:
        if topic.replication > len(cluster.brokers):
            making.refusals.append(_too_few(name, topic, cluster))
        else:
            making.changes.append(Spread(name, _spread(topic.replication, there, cluster)))


def _spread(count: int, there: Found, cluster: Cluster) -> dict[int, tuple[int, ...]]:
    """Brokers of each partition that needs more replicas: those that it has, then those with the fewest replicas."""
    load = dict.fromkeys(sorted(cluster.brokers), 0)
    for replicas in there.replicas:
        for broker in replicas:
            load[broker] = load.get(broker, 0) + 1
    found: dict[int, tuple[int, ...]] = {}
    for number, replicas in enumerate(there.replicas):
        new = list(replicas)
        while len(new) < count:
            broker = min((one for one in cluster.brokers if one not in new), key=lambda one: (load[one], one))
            load[broker] += 1
            new.append(broker)
        if len(new) > len(replicas):
            found[number] = tuple(new)
    return found


def _configs(making: _Making, name: str, topic: Wanted, there: Found, allowed: frozenset[str]) -> None:
    different = {
        config: value for config, value in topic.configs.items() if there.configs.get(config) not in (value, None)
    } | {config: value for config, value in topic.configs.items() if config not in there.configs}
    for config in list(different):
        refusal = _judged(name, config, different[config], there, allowed)
        if refusal is not None:
            making.refusals.append(refusal)
            del different[config]
    if different:
        before = {config: there.configs[config] for config in different if config in there.configs}
        making.changes.append(Configure(name, before, different))


def _judged(name: str, config: str, value: str, there: Found, allowed: frozenset[str]) -> Refusal | None:
    """Why a topic must not get this setting; None: it may."""
    now = there.configs.get(config)
    if now is None:
        return None
    if config == POLICY:
        return Refusal(
            name,
            f"has the cleanup policy {now!r}, {value!r} is declared, and the change would delete records",
            "create a new topic instead",
        )
    if config == RETENTION and _shorter(int(value), int(now)):
        if int(value) != FOREVER and there.unread_ms >= int(value):
            return Refusal(
                name,
                f"is kept for {_days(now)}, {_days(value)} are declared, and its oldest unread record is"
                f" {_days(there.unread_ms)} old",
                "let its readers catch up first",
            )
        if "shorter-retention" not in allowed:
            return Refusal(
                name,
                f"is kept for {_days(now)}, {_days(value)} are declared, and what is older would be deleted at once",
                "declare the present retention",
                "shorter-retention",
            )
    if config == IN_SYNC and int(value) < int(now) and "fewer-in-sync" not in allowed:
        return Refusal(
            name,
            f"needs {now} in-sync replicas, {value} are declared, and records on fewer brokers are lost with them",
            "declare the present number",
            "fewer-in-sync",
        )
    return None


def _shorter(new: int, old: int) -> bool:
    return new != FOREVER and (old == FOREVER or new < old)


def _days(milliseconds: str | int) -> str:
    days = int(milliseconds) / topics.DAY_MS
    return "ever" if int(milliseconds) == FOREVER else f"{days:.3g} days"


def _acls(making: _Making, wanted: Declared, there: frozenset[Acl]) -> None:
    # add before removing, so that no principal is locked out in between
    making.changes += [Allow(acl) for acl in sorted(wanted.acls - there)]
    others = []
    for acl in sorted(there - wanted.acls):
        mine, touches = bool(wanted.ours.fullmatch(acl.principal)), _touches(wanted, acl)
        if mine and touches:
            making.changes.append(Forbid(acl))
        elif mine:
            others.append(acl)
        elif touches and acl.resource == "topic":
            making.notes.append(f"{acl} is of another principal and is left as it is")
    if others:
        making.notes.append(
            f"{len(others)} permissions of principals with our names on what is not ours, such as {others[0]}: left as they"
            " are, because they may be another installation's"
        )


def _touches(wanted: Declared, acl: Acl) -> bool:
    """Whether the permission is about anything of this installation."""
    if acl.resource not in ("topic", "group") or acl.name == "*" or wanted.names.fullmatch(acl.name):
        return True
    # the operator has permissions on every topic
    ours = (one.name for one in wanted.acls if one.resource == acl.resource)
    return acl.prefixed and any(name.startswith(acl.name) for name in ours)


def after(cluster: Cluster, made: Plan) -> Cluster:
    """What exists once a plan has been carried out, as far as planning looks at it."""
    found = dict(cluster.topics)
    acls = cluster.acls
    for change in made.changes:
        match change:
            case Create(name, topic):
                replicas = cluster.brokers[: topic.replication]
                found[name] = Found((replicas,) * topic.partitions, dict(topic.configs))
            case Grow(name, _, count):
                there = found[name]
                more = (there.replicas[-1],) * (count - len(there.replicas))
                found[name] = replace(there, replicas=there.replicas + more)
            case Spread(name, moved):
                there = found[name]
                spread = tuple(moved.get(number, before) for number, before in enumerate(there.replicas))
                found[name] = replace(there, replicas=spread + there.replicas[len(spread) :])
            case Configure(name, _, values):
                found[name] = replace(found[name], configs={**found[name].configs, **values})
            case Allow(acl):
                acls = (acls or frozenset()) | {acl}
            case Forbid(acl):
                acls = (acls or frozenset()) - {acl}
    return replace(cluster, topics=found, acls=acls)


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(_items(values))


def _items(values: Mapping[str, str]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in sorted(values.items()))
