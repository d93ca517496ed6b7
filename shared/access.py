"""Who may do what at the broker: for each principal the topics that it reads and writes, and the groups that it reads by.

The broker's ACLs are made of it (`goodfaith topics apply`), so that each service can read its inputs and write its outputs and
nothing else. What is written is declared by the topics (``Topic.writer``); that what is read here is what the workers read,
and that every ACL is one that a running installation uses, is tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shared import topics
from shared.settings import Settings
from shared.topics import Topic

Resource = Literal["topic", "group", "cluster"]
Operation = Literal["READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "ALTER_CONFIGS", "DESCRIBE_CONFIGS"]

OTHER: Final = "other."
"""Before a principal's name: its second login, by which a login is exchanged while both are good."""
UPSTREAM: Final = "upstream."
"""Before an upstream's name: its principal."""
STREAMS: Final = "streams-"
"""Beginning of names of topics and groups that belong to the stream views, generation by generation."""
CLUSTER: Final = "kafka-cluster"
"""As the broker calls itself in ACLs."""
ADMINISTERS: Final[tuple[Operation, ...]] = ("CREATE", "DELETE", "ALTER", "ALTER_CONFIGS", "DESCRIBE_CONFIGS")
"""What an operator does with topics beside reading and writing them."""
INTERNAL: Final = ("__consumer_offsets", "__transaction_state")
"""The broker's own topics, of which an observer must know whether all replicas are there."""


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One permission. READ and WRITE let a principal see that the resource is there as well.

    Attributes:
        principal: as the broker calls it, ``User:...``.
        prefixed: it holds for all names that begin with ``name``.
    """

    principal: str
    resource: Resource
    name: str
    prefixed: bool
    operation: Operation

    def __str__(self) -> str:
        return f"{self.principal} {self.operation} {self.resource} {self.name}{'*' if self.prefixed else ''}"


@dataclass(frozen=True, slots=True)
class Access:
    """What one principal does at the broker; names are without the installation's prefix.

    Attributes:
        reads: topics that it consumes.
        groups: consumer groups that it is a member of.
        writes: topics that it produces to.
        compares: of these, topics whose last records its workers compare with their logs when they start.
        sees: topics of which it asks where they end, or whether they are whole.
        follows: groups of which it asks how far they are.
        views: what it may do with topics and groups of the stream views, whatever their generation.
        administers: whether topics, groups and ACLs are its to make and change.
    """

    name: str
    reads: tuple[Topic, ...] = ()
    groups: tuple[str, ...] = ()
    writes: tuple[Topic, ...] = ()
    compares: tuple[Topic, ...] = ()
    sees: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    views: tuple[tuple[Resource, Operation], ...] = ()
    administers: bool = False


READS: Final[dict[str, dict[str, tuple[Topic, ...]]]] = {
    "intake": {"intake": (topics.VERIFICATION, topics.NOTIFICATION)},
    "verification": {
        "verification": (topics.INTAKE, topics.NOTIFICATION, topics.ENFORCEMENT, topics.MARKETPLACE_LISTINGS)
    },
    "enforcement": {
        "enforcement": (topics.VERIFICATION, topics.MARKETPLACE_RECEIPTS, topics.MARKETPLACE_LISTINGS),
        "enforcement-ledger": (
            topics.VIOLATIONS,
            topics.SELLER_RECEIPTS,
            topics.ACCOUNTS,
            topics.MARKETPLACE_SELLERS,
        ),
    },
    "notification": {"notification": (topics.VERIFICATION, topics.ACCOUNTS, topics.LEDGER)},
    "marketplace": {"marketplace": (topics.MARKETPLACE_COMMANDS, topics.SELLER_COMMANDS)},
}
"""By principal and consumer group: what its workers read. Intake's for upstreams is added where there are any."""
COMPARES: Final[dict[str, tuple[Topic, ...]]] = {
    "intake": (topics.INTAKE, topics.ACCOUNTS, topics.FILINGS),
    "verification": (topics.VERIFICATION, topics.MARKETPLACE_COMMANDS),
    "enforcement": (topics.ENFORCEMENT, topics.MARKETPLACE_COMMANDS, topics.LEDGER, topics.SELLER_COMMANDS),
    "notification": (topics.NOTIFICATION,),
    "marketplace": (
        topics.MARKETPLACE_RECEIPTS,
        topics.MARKETPLACE_LISTINGS,
        topics.MARKETPLACE_SELLERS,
        topics.SELLER_RECEIPTS,
    ),
}
"""By principal: what of its own it reads again, to know whether the database went back in time (docs/decisions/0051)."""
INBOUND_GROUP: Final = "intake-inbound"
VIEWED: Final = (
    topics.INTAKE,
    topics.ACCOUNTS,
    topics.FILINGS,
    topics.VERIFICATION,
    topics.NOTIFICATION,
    topics.ENFORCEMENT,
    topics.VIOLATIONS,
    topics.LEDGER,
)
"""What the stream views read."""
FOLLOWS: Final = {"intake": ("verification",)}
"""Groups by whose lag a service holds back what it lets in."""


def upstream(name: str) -> str:
    """The principal of an upstream."""
    return UPSTREAM + name


def inbound(settings: Settings) -> tuple[Topic, ...]:
    """The topics of the upstreams."""
    return tuple(topics.inbound(name) for name in settings.upstreams)


def principals(settings: Settings) -> tuple[Access, ...]:
    """All principals of an installation."""
    doors = inbound(settings)
    groups = {**READS, "intake": {**READS["intake"], **({INBOUND_GROUP: doors} if doors else {})}}
    services = tuple(
        Access(
            name,
            reads=tuple(dict.fromkeys(topic for read in by_group.values() for topic in read)),
            groups=tuple(by_group),
            writes=tuple(topic for topic in (*topics.TOPICS, topics.CLOCK) if name in topic.writers),
            compares=COMPARES[name],
            follows=FOLLOWS.get(name, ()),
        )
        for name, by_group in groups.items()
    )
    everything = topics.of(settings)
    all_groups = tuple(group for by_group in groups.values() for group in by_group)
    return (
        *services,
        Access(
            "streams",
            reads=VIEWED,
            views=(("topic", "READ"), ("topic", "WRITE"), ("topic", "CREATE"), ("group", "READ")),
        ),
        *(Access(upstream(name), writes=(topics.inbound(name),)) for name in settings.upstreams),
        Access(
            "watch",
            reads=everything,
            sees=INTERNAL,
            follows=all_groups,
            views=(("topic", "DESCRIBE"), ("group", "DESCRIBE")),
        ),
        Access(
            "operator",
            reads=everything,
            writes=everything,
            follows=all_groups,
            views=(
                *(("topic", operation) for operation in (*ADMINISTERS, "READ", "WRITE")),
                *(("group", operation) for operation in ("DESCRIBE", "DELETE")),
            ),
            administers=True,
        ),
    )


def login(settings: Settings, name: str, *, other: bool = False) -> str:
    """What a principal's user is called at the broker; ``other``: its second one."""
    return settings.kafka_principal.format(name=(OTHER if other else "") + name)


def ours(settings: Settings) -> re.Pattern[str]:
    """Principals of this installation, and of upstreams that it has had or may have."""
    names = "|".join(re.escape(one.name) for one in principals(settings) if not one.name.startswith(UPSTREAM))
    before, _, behind = settings.kafka_principal.partition("{name}")
    name = rf"(?:{re.escape(OTHER)})?(?:{names}|{re.escape(UPSTREAM)}.+)"
    return re.compile(f"User:{re.escape(before)}{name}{re.escape(behind)}")


def names(settings: Settings) -> re.Pattern[str]:
    """Topics and groups of this installation, of upstreams that it has had or may have, and of the stream views' generations.

    Another installation on the same broker, with another prefix, has others; its principals may be called the same.
    """
    fixed = {topic.name for topic in (*topics.TOPICS, topics.CLOCK)}
    fixed |= {group for one in principals(settings) for group in one.groups}
    inbound, streams = re.escape(topics.inbound("").name), re.escape(STREAMS)
    known = "|".join([*map(re.escape, sorted(fixed)), f"{inbound}.+", f"{streams}.*"])
    internal = "|".join(map(re.escape, INTERNAL))
    return re.compile(f"{re.escape(settings.topic_prefix)}(?:{known})|{internal}")


def acls(settings: Settings) -> frozenset[Acl]:
    """All ACLs of an installation, for both logins of each principal."""
    return frozenset(
        Acl(f"User:{login(settings, access.name, other=other)}", *rest)
        for access in principals(settings)
        for rest in _of(access, settings.topic_prefix)
        for other in (False, True)
    )


def _of(access: Access, prefix: str) -> Iterator[tuple[Resource, str, bool, Operation]]:
    for topic in (*access.reads, *access.compares):
        yield "topic", prefix + topic.name, False, "READ"
    for topic in access.writes:
        yield "topic", prefix + topic.name, False, "WRITE"
    for group in access.groups:
        yield "group", prefix + group, False, "READ"
    for group in access.follows:
        yield "group", prefix + group, False, "DESCRIBE"
    for name in access.sees:
        yield "topic", name, False, "DESCRIBE"
    for resource, operation in access.views:
        yield resource, prefix + STREAMS, True, operation
    if access.administers:
        for topic in access.reads:
            yield from (("topic", prefix + topic.name, False, operation) for operation in ADMINISTERS)
        # ACLs and users are the cluster's
        yield "cluster", CLUSTER, False, "ALTER"
        yield "cluster", CLUSTER, False, "DESCRIBE"
