"""How a process of the fleet runs in a container: where it listens, finds the others, and keeps its state.

Used by `deploy/compose` and `deploy/kubernetes`. Each process is a host of its own, so all use the same ports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from deploy.local import fleet
from deploy.local.fleet import FLEET, Spec

HTTP_PORT: Final = 8080
METRICS_PORT: Final = 9100
SMTP_PORT: Final = 8025
BOUNCE_PORT: Final = 8026
USER: Final = 10001
"""User and group in the image."""
STATE: Final = "/var/lib/goodfaith"
"""The only folder besides /tmp that a process writes to."""
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


def secrets(spec: Spec) -> Mapping[str, str]:
    """Where each secret of a process is kept, by its file name in `SECRETS`. The URL of its database login is one."""
    found = {name: fleet.source(spec, name) for name in spec.secrets}
    if spec.principal is not None:
        found |= {"kafka_ca": "kafka_ca", "kafka_password": f"{spec.principal}_kafka_password"}
    if spec.role is not None:
        found["database"] = f"{spec.role}_database"
    return found
