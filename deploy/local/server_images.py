"""Broker and database in the public images: their settings, the same as those of a local stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from deploy.local import kafka, postgres, secured

KAFKA_PORT: Final = 9092


CONTROLLER_PORT: Final = 9093


PEER_PORT: Final = 9094


OPERATOR_PORT: Final = 9095
"""Port of a broker with logins, for clients that show a certificate."""


CLUSTER: Final = "2jtmyGz4QHqPkxmLKnk0bw"
"""Id of a single-node cluster; its value would matter only with several nodes."""


POSTGRES_PORT: Final = 5432


SECRETS: Final = "/run/secrets"
"""Where its secrets are mounted, each as a file named after its setting."""


def kafka_environment(host: str, port: int = KAFKA_PORT, *, logins: bool = False) -> dict[str, str]:
    """Variables for Apache Kafka's image: one node configured like a local stack's, with clients at `host`:`port`.

    Its data is in /var/lib/kafka/data, the image's folder for it.

    Args:
        logins: Whether its links are secured, with `kafka_broker` and `kafka_ca` in `SECRETS`.
    """
    node = kafka.Node(1, port, PEER_PORT, {1: CONTROLLER_PORT}, CLUSTER, certificates_port=OPERATOR_PORT)
    text = node.properties(Path("/var/lib/kafka/data"))
    if logins:
        text += secured.properties(node, Path(SECRETS, "kafka_broker"), Path(SECRETS, "kafka_ca"))
    properties = _properties(text)
    # only clients connect from outside the container
    listeners = properties["listeners"].replace(f"CLIENTS://127.0.0.1:{port}", f"CLIENTS://:{KAFKA_PORT}")
    advertised = properties["advertised.listeners"].replace(f"CLIENTS://127.0.0.1:{port}", f"CLIENTS://{host}:{port}")
    properties |= {
        "listeners": listeners.replace("CERTIFICATES://127.0.0.1", "CERTIFICATES://"),
        "advertised.listeners": advertised.replace("CERTIFICATES://127.0.0.1", f"CERTIFICATES://{host}"),
    }
    # the image turns each KAFKA_* variable into a property, and has no defaults of its own once there is one
    return {
        "CLUSTER_ID": CLUSTER,
        "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
        **{f"KAFKA_{_variable(key)}": value for key, value in properties.items()},
    }


def postgres_options() -> dict[str, str]:
    """A local server's configuration as options for a container, whose image sets where it listens."""
    own = ("listen_addresses", "port", "unix_socket_directories")
    lines = _properties(postgres.CONFIGURATION.format(port=POSTGRES_PORT))
    pairs = {key.strip(): value.strip().strip("'") for key, value in lines.items()}
    return {key: value for key, value in pairs.items() if key not in own and not key.startswith("ssl")}


def _properties(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _variable(name: str) -> str:
    """How Apache Kafka's image spells a property: `.` as `_`, `_` as two, `-` as three."""
    return re.sub(r"[._-]", lambda found: {".": "_", "_": "__", "-": "___"}[found[0]], name).upper()
