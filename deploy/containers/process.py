"""How a process of the fleet runs in a container: where it listens, finds the others, and keeps its state.

Used by `deploy/compose` and `deploy/kubernetes`. Each process is a host of its own, so all use the same ports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.local import fleet, kafka, postgres, secured
from deploy.local.fleet import FLEET, Spec

HTTP_PORT: Final = 8080
METRICS_PORT: Final = 9100
SMTP_PORT: Final = 8025
BOUNCE_PORT: Final = 8026
KAFKA_PORT: Final = 9092
CONTROLLER_PORT: Final = 9093
PEER_PORT: Final = 9094
OPERATOR_PORT: Final = 9095
"""Port of a broker with logins, for clients that show a certificate."""
CLUSTER: Final = "2jtmyGz4QHqPkxmLKnk0bw"
"""Id of a single-node cluster; its value would matter only with several nodes."""
POSTGRES_PORT: Final = 5432
USER: Final = 10001
"""User and group in the image."""
STATE: Final = "/var/lib/goodfaith"
"""The only folder besides /tmp that a process writes to."""
SECRETS: Final = "/run/secrets"
"""Where its secrets are mounted, each as a file named after its setting."""
KEEPS: Final[dict[str, str]] = {
    "streams": "streams",
    "mailbox": "mailbox",
    "intake-api": "evidence",
    "intake-worker": "evidence",
}
"""The volume of each process that keeps files; intake's two share evidence files (or keep them in a bucket)."""


def serves(spec: Spec) -> dict[str, int]:
    """Ports of a process that others connect to, by name."""
    ports = {"metrics": METRICS_PORT}
    if spec.port is not None:
        ports["http"] = HTTP_PORT
    if spec.name == "mailbox":
        ports["smtp"] = SMTP_PORT
    if spec.name == "notification-bounces":
        ports["smtp"] = BOUNCE_PORT
    return ports


def addresses(host: Callable[[str], str] = str) -> dict[str, str]:
    """The settings that say where the processes are.

    Args:
        host: Maps a process's name to its host name.
    """
    urls = {
        f"GOODFAITH_{spec.port.upper()}_URL": f"http://{host(spec.name)}:{HTTP_PORT}"
        for spec in FLEET
        if spec.port not in (None, "status")
    }
    return {
        **urls,
        "GOODFAITH_SMTP_HOST": host("mailbox"),
        "GOODFAITH_SMTP_PORT": str(SMTP_PORT),
        "GOODFAITH_BOUNCE_HOST": host("notification-bounces"),
        "GOODFAITH_BOUNCE_PORT": str(BOUNCE_PORT),
    }


def listening(spec: Spec) -> dict[str, str]:
    """The settings that say where a process itself listens. They override those of `addresses`."""
    found = {"GOODFAITH_METRICS_HOST": "0.0.0.0", "GOODFAITH_METRICS_PORT": str(METRICS_PORT)}  # noqa: S104 (a container's own)
    if spec.port is not None:
        found |= {"GOODFAITH_HTTP_HOST": "0.0.0.0", "GOODFAITH_HTTP_PORT": str(HTTP_PORT)}  # noqa: S104
    if spec.name == "mailbox":
        found["GOODFAITH_SMTP_HOST"] = "0.0.0.0"  # noqa: S104
    if spec.name == "notification-bounces":
        found["GOODFAITH_BOUNCE_HOST"] = "0.0.0.0"  # noqa: S104
    return found


def command(spec: Spec) -> list[str]:
    """What follows the image's entry point, `python -m`."""
    return [part.format(dir=STATE) for part in spec.command]


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


def secrets(spec: Spec) -> Mapping[str, str]:
    """Where each secret of a process is kept, by its file name in `SECRETS`. The URL of its database login is one."""
    found = {name: fleet.source(spec, name) for name in spec.secrets}
    if spec.principal is not None:
        found |= {"kafka_ca": "kafka_ca", "kafka_password": f"{spec.principal}_kafka_password"}
    if spec.role is not None:
        found["database"] = f"{spec.role}_database"
    return found
