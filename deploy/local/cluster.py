"""The brokers of a stack: one, or three that replicate each other; and what the stack's state keeps of them.

Three combined nodes are each broker and controller. Every topic has three replicas and two acknowledge a write, so with
one node down clients only notice the election of new leaders (docs/decisions/0044).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from deploy.local.kafka import Node, cluster_id
from shared.failures import CommandError

NodeName = Literal["kafka", "kafka-2", "kafka-3"]
NODES: Final[tuple[NodeName, ...]] = ("kafka", "kafka-2", "kafka-3")
"""Parts of a stack that are brokers, by number from 1."""
SIZES: Final = (1, 3)
"""Two would be no better than one: a majority of two is both."""
PORTS: Final = ("port", "peer_port", "controller_port")


def begin(state: dict[str, Any], count: int, *, proxied: bool = False, secured: bool = False) -> tuple[NodeName, ...]:
    """Record in a stack's state which nodes it has; returns their names. Their number never changes.

    Args:
        count: number of nodes; 0: as recorded, else one.
        proxied: whether clients connect to each node through a proxy, which listens on ``advertised_port``.
        secured: whether clients can log in with certificates, on a separate port (``certificates_port``).

    Raises:
        CommandError: the stack has a different number of nodes, or the number is not supported.
    """
    there = tuple(names(state))
    if count not in (0, *SIZES):
        raise CommandError(f"a stack has {' or '.join(map(str, SIZES))} brokers, not {count}")
    if there and count not in (0, len(there)):
        raise CommandError(
            f"this stack has {len(there)} brokers, not {count}; destroy it first, or take another --stack"
        )
    if not there:
        there = NODES[: count or 1]
        for name in there:
            state[name] = dict.fromkeys([*["advertised_port"] * proxied, *["certificates_port"] * secured])
    state[NODES[0]].setdefault("cluster", cluster_id())
    return there


def names(state: Mapping[str, Any]) -> Iterator[NodeName]:
    """Names of a stack's nodes."""
    return (name for name in NODES if name in state)


def ports_of(kept: Mapping[str, Any]) -> tuple[str, ...]:
    """The ports that a node needs, from its entry in the state."""
    return (*PORTS, *(port for port in ("advertised_port", "certificates_port") if port in kept))


def node(state: Mapping[str, Any], name: NodeName) -> Node:
    """A node and its place in the cluster, from the stack's state."""
    kept = state[name]
    return Node(
        NODES.index(name) + 1,
        kept["port"],
        kept.get("peer_port") or 0,
        {NODES.index(other) + 1: state[other]["controller_port"] for other in names(state)},
        state[NODES[0]]["cluster"],
        kept.get("advertised_port") or 0,
        kept.get("certificates_port") or 0,
    )


def bootstrap(state: Mapping[str, Any], *, certificates: bool = False) -> str:
    """The bootstrap addresses, of all nodes; ``certificates``: for clients that show one."""
    nodes = [node(state, name) for name in names(state)]
    return ",".join(f"127.0.0.1:{one.certificates_port}" if certificates else one.address for one in nodes)
