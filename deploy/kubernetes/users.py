"""Logins at a broker that Strimzi runs: a KafkaUser for each principal of `shared.access`, with what it may do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.kubernetes.manifests import NAMESPACE, Document
from shared import access
from shared.settings import Settings

CLUSTER: Final = "goodfaith"
"""Name of the Kafka of the example."""


def users(settings: Settings) -> Iterator[Document]:
    """Each principal's first login. Its second, of the same rights, is made for an exchange and taken away behind it."""
    allowed: dict[str, dict[tuple[str, str, bool], list[str]]] = {}
    for acl in sorted(access.acls(settings)):
        resources = allowed.setdefault(acl.principal.removeprefix("User:"), {})
        resources.setdefault((acl.resource, acl.name, acl.prefixed), []).append(acl.operation)
    for principal in access.principals(settings):
        name = access.login(settings, principal.name)
        yield {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"strimzi.io/cluster": CLUSTER}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {
                    "type": "simple",
                    "acls": [
                        {"resource": _resource(*resource), "operations": [_operation(one) for one in operations]}
                        for resource, operations in allowed[name].items()
                    ],
                },
            },
        }


def _resource(kind: str, name: str, prefixed: bool) -> Document:
    if kind == "cluster":
        return {"type": kind}
    return {"type": kind, "name": name, "patternType": "prefix" if prefixed else "literal"}


def _operation(name: str) -> str:
    """DESCRIBE_CONFIGS as DescribeConfigs."""
    return "".join(word.capitalize() for word in name.split("_"))
