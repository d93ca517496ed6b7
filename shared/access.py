"""Who may do what at the broker: the topics that each principal reads and writes, and its consumer groups.

`goodfaith topics apply` turns this into the broker's ACLs, so each service can read its inputs and write its outputs,
and nothing else. The topics declare who writes them (``Topic.writer``). Tests check that the workers read exactly
what is declared here, and that a running installation uses every ACL.
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
"""Prefix of a principal's second login. Both logins are valid while one replaces the other."""
UPSTREAM: Final = "upstream."
"""Prefix of an upstream's principal."""
STREAMS: Final = "streams-"
"""Prefix of the stream views' topics and groups; each generation has its own."""
CLUSTER: Final = "kafka-cluster"
"""The cluster's resource name in ACLs."""
ADMINISTERS: Final[tuple[Operation, ...]] = ("CREATE", "DELETE", "ALTER", "ALTER_CONFIGS", "DESCRIBE_CONFIGS")
"""What an operator does with topics besides reading and writing them."""
INTERNAL: Final = ("__consumer_offsets", "__transaction_state")
"""The broker's own topics; an observer must know whether all their replicas are there."""


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One permission. READ and WRITE also let the principal see that the resource exists.

    Attributes:
        principal: the broker's name for it, ``User:...``.
        prefixed: whether it applies to all names that begin with ``name``.
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
    """What one principal does at the broker. Names are without the installation's prefix.

    Attributes:
        reads: topics it consumes.
        groups: consumer groups it is a member of.
        writes: topics it produces to.
        compares: of these, topics whose last records its workers compare with their logs at start.
        sees: topics whose end offsets or replicas it looks up.
        follows: groups whose progress it looks up.
        views: what it may do with the stream views' topics and groups of any generation.
        administers: whether it may create and change topics, groups and ACLs.
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
    "intake": {"intake": (topics.VERIFICATION, topics.NOTIFICATION, topics.MARKETPLACE_CONTACTS)},
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
    "notification": {"notification": (topics.VERIFICATION, topics.ACCOUNTS, topics.LEDGER, topics.CENTRE_RECEIPTS)},
    "marketplace": {"marketplace": (topics.MARKETPLACE_COMMANDS, topics.SELLER_COMMANDS, topics.CENTRE_MESSAGES)},
}
"""What the workers read, by principal and consumer group. Intake's group for upstreams is added if there are any."""
COMPARES: Final[dict[str, tuple[Topic, ...]]] = {
    "intake": (topics.INTAKE, topics.ACCOUNTS, topics.FILINGS),
    "verification": (topics.VERIFICATION, topics.MARKETPLACE_COMMANDS),
    "enforcement": (topics.ENFORCEMENT, topics.MARKETPLACE_COMMANDS, topics.LEDGER, topics.SELLER_COMMANDS),
    "notification": (topics.NOTIFICATION, topics.CENTRE_MESSAGES),
    "marketplace": (
        topics.MARKETPLACE_RECEIPTS,
        topics.MARKETPLACE_LISTINGS,
        topics.MARKETPLACE_SELLERS,
        topics.SELLER_RECEIPTS,
        topics.CENTRE_RECEIPTS,
    ),
}
"""By principal: its own topics that its workers read at start, to detect a database that went back (docs/decisions/0051)."""
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
"""Groups whose lag makes a service hold back admission."""


def upstream(name: str) -> str:
    """The principal of an upstream."""
    return UPSTREAM + name


def inbound(settings: Settings) -> tuple[Topic, ...]:
    """The topics of the upstreams."""
    return tuple(topics.inbound(name) for name in settings.upstreams)


def principals(settings: Settings) -> tuple[Access, ...]:
    """All principals of an installation."""
    inbound_topics = inbound(settings)
    groups = {**READS, "intake": {**READS["intake"], **({INBOUND_GROUP: inbound_topics} if inbound_topics else {})}}
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
    """The name of a principal's login at the broker; ``other``: of its second one."""
    return settings.kafka_principal.format(name=(OTHER if other else "") + name)


def ours(settings: Settings) -> re.Pattern[str]:
    """Matches the principals of this installation, those of its former and possible upstreams included."""
    names = "|".join(re.escape(one.name) for one in principals(settings) if not one.name.startswith(UPSTREAM))
    before, _, behind = settings.kafka_principal.partition("{name}")
    name = rf"(?:{re.escape(OTHER)})?(?:{names}|{re.escape(UPSTREAM)}.+)"
    return re.compile(f"User:{re.escape(before)}{name}{re.escape(behind)}")


def names(settings: Settings) -> re.Pattern[str]:
    """Matches the topics and groups of this installation, of former and possible upstreams, and of all stream views.

    Another installation on the same broker has another prefix, but its principals may have the same names.
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
        # ACLs and users belong to the cluster
        yield "cluster", CLUSTER, False, "ALTER"
        yield "cluster", CLUSTER, False, "DESCRIBE"
