"""Which brokers a stack has, and what each is told of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.local import cluster
from deploy.local.kafka import Node
from shared.failures import CommandError


def chosen(count: int, *, proxied: bool = False) -> dict[str, Any]:
    state: dict[str, Any] = {}
    port = iter(range(20_000, 21_000))
    for name in cluster.begin(state, count, proxied=proxied):
        for key in cluster.ports_of(state[name]):
            state[name][key] = next(port)
    return state


def properties(node: Node) -> dict[str, str]:
    lines = node.properties(Path("data")).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_one_broker_replicates_nothing() -> None:
    said = properties(cluster.node(chosen(0), "kafka"))
    assert (said["default.replication.factor"], said["min.insync.replicas"]) == ("1", "1")
    assert said["offsets.topic.replication.factor"] == "1"
    assert said["controller.quorum.voters"].count("@") == 1


def test_three_know_each_other_and_two_acknowledge() -> None:
    state = chosen(3)
    nodes = [cluster.node(state, name) for name in cluster.NODES]
    told = [properties(node) for node in nodes]
    assert [each["node.id"] for each in told] == ["1", "2", "3"]
    assert len({each["controller.quorum.voters"] for each in told}) == 1
    assert len({node.cluster for node in nodes}) == 1
    for each in told:
        for name, value in each.items():
            if name.endswith("replication.factor"):
                assert value == "3", name
            if name.endswith(("min.isr", "min.insync.replicas")):
                assert value == "2", name
    ports = [each["listeners"].split(",") for each in told]
    assert len({place for listeners in ports for place in listeners}) == 9
    assert cluster.bootstrap(state) == ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def test_clients_are_sent_to_what_stands_in_between_and_nodes_are_not() -> None:
    state = chosen(3, proxied=True)
    for name in cluster.NODES:
        kept, said = state[name], properties(cluster.node(state, name))
        assert f"CLIENTS://127.0.0.1:{kept['advertised_port']}" in said["advertised.listeners"]
        assert f"CLIENTS://127.0.0.1:{kept['port']}" in said["listeners"]
        assert f"PEERS://127.0.0.1:{kept['peer_port']}" in said["advertised.listeners"]
    assert cluster.bootstrap(state).split(",")[1].endswith(str(state["kafka-2"]["advertised_port"]))


def test_how_many_is_settled_once() -> None:
    state = chosen(3)
    assert cluster.begin(state, 0) == cluster.NODES
    with pytest.raises(CommandError, match="has 3 brokers, not 1"):
        cluster.begin(state, 1)
    with pytest.raises(CommandError, match="1 or 3 brokers, not 2"):
        cluster.begin({}, 2)


def test_a_stack_of_an_earlier_version_goes_on() -> None:
    state: dict[str, Any] = {"kafka": {"port": 20_001, "controller_port": 20_002, "handle": 1}}
    assert cluster.begin(state, 0) == ("kafka",)
    assert cluster.node(state, "kafka").port == 20_001
