"""Logins at a broker that Strimzi runs: a KafkaUser for each principal of `shared.access`, with its permissions.

    python -m deploy.kubernetes.users [--other]

prints the pods' first logins, or with `--other` their second ones, for a rotation (docs/how-to/rotate-secrets.md, "A
login at the broker"). It reads the installation's settings that name topics and users (`GOODFAITH_UPSTREAMS`,
`GOODFAITH_KAFKA_PRINCIPAL`, ...) from the environment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from deploy.kubernetes.manifests import NAMESPACE, Document, principals
from deploy.prometheus.model import dump
from shared import access
from shared.settings import Settings

CLUSTER: Final = "goodfaith"
"""Name of the Kafka of the example."""


def users(settings: Settings, *, other: bool = False, names: Collection[str] | None = None) -> Iterator[Document]:
    """The principals' first or second logins; both have the same permissions.

    Args:
        names: The principals to include; None: all.
    """
    allowed: dict[str, dict[tuple[str, str, bool], list[str]]] = {}
    for acl in sorted(access.acls(settings)):
        resources = allowed.setdefault(acl.principal.removeprefix("User:"), {})
        resources.setdefault((acl.resource, acl.name, acl.prefixed), []).append(acl.operation)
    for principal in access.principals(settings):
        if names is not None and principal.name not in names:
            continue
        name = access.login(settings, principal.name, other=other)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the documents."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.kubernetes.users", description="Logins of pods at a broker that Strimzi runs."
    )
    parser.add_argument("--other", action="store_true", help="print the second logins")
    given = parser.parse_args(arguments)
    sys.stdout.write("---\n".join(dump(one) for one in users(Settings(), other=given.other, names=principals())))


if __name__ == "__main__":
    main()
