"""The brokers of a stack: one, or three that replicate each other; what each is called in the stack's state.

Three combined nodes, each broker and controller: every topic has three replicas, a write is acknowledged by two, so that one
node may be away without anybody noticing for longer than it takes to elect others (docs/decisions/0044).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from deploy.local.children import StackError
from deploy.local.kafka import Node, cluster_id

NodeName = Literal["kafka", "kafka-2", "kafka-3"]
NODES: Final[tuple[NodeName, ...]] = ("kafka", "kafka-2", "kafka-3")
"""Parts of a stack that are brokers, by number from 1."""
SIZES: Final = (1, 3)
"""Two would be no better than one: a majority of two is both."""
PORTS: Final = ("port", "peer_port", "controller_port")


def begin(state: dict[str, Any], count: int, *, proxied: bool = False, secured: bool = False) -> tuple[NodeName, ...]:
    """Note in a stack's state which nodes it has; returns their names. How many is settled once.

    Args:
        count: how many; 0: as it was, else one.
        proxied: whether clients are told to find each at a port of its own (``advertised_port``), which something that
            stands in between listens on.
        secured: whether clients can show certificates, on a port of its own (``certificates_port``).

    Raises:
        StackError: the stack has another number of them, or no stack has so many.
    """
    there = tuple(names(state))
    if count not in (0, *SIZES):
        raise StackError(f"a stack has {' or '.join(map(str, SIZES))} brokers, not {count}")
    if there and count not in (0, len(there)):
        raise StackError(f"this stack has {len(there)} brokers, not {count}; destroy it first, or take another --stack")
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
    """Which ports a node needs, of what is kept of it."""
    return (*PORTS, *(port for port in ("advertised_port", "certificates_port") if port in kept))


def node(state: Mapping[str, Any], name: NodeName) -> Node:
    """A node's place, of what the state keeps of all."""
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
    """Where clients begin: all nodes; ``certificates``: clients who show one."""
    nodes = [node(state, name) for name in names(state)]
    return ",".join(f"127.0.0.1:{one.certificates_port}" if certificates else one.address for one in nodes)
