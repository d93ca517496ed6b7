"""How each process of `FLEET` runs in a cluster, as far as the table itself does not say. Contains no YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from deploy.local.fleet import BY_NAME, FLEET, Spec

Kind = Literal["worker", "stored", "leased", "api", "single"]
"""How several instances of a process share the work.

`worker`: by partition, at most one per partition. `stored`: the same, each with its own disk. `leased`: by leases,
without such a limit. `api`: behind a Service. `single`: not at all.
"""

Place = Literal["kafka", "postgres", "mail", "internet", "marketplace", "store", "prometheus", "site"]
"""An external system, reached through its own network policy: `internet` is everything public, `store` the store of
evidence files, `site` the marketplace's public pages.
"""

STAND_INS: Final = ("mailbox", "marketplace")
"""Processes of `FLEET` that stand in for external systems on a local stack; installations do not run them."""


@dataclass(frozen=True)
class Shape:
    """One process in a cluster.

    Attributes:
        kind: How several instances share the work.
        reaches: External systems that it connects to, besides database and broker.
        asks: Processes whose HTTP interface it calls.
        group: The consumer group whose lag is its own.
        kafka: Whether it uses the broker without being a worker of such a group.
        cpu: CPU request, in thousandths of a core.
        memory: Memory request, in MiB; the limit is twice that.
        scratch: Size of its /tmp, in MiB.
        overlap: Whether a new instance may start before the old one has ended.
        standby: Whether a second instance waits to take over: an advisory lock lets one work at a time.
    """

    kind: Kind
    reaches: tuple[Place, ...] = ()
    asks: tuple[str, ...] = ()
    group: str | None = None
    kafka: bool = False
    cpu: int = 100
    memory: int = 192
    scratch: int = 64
    overlap: bool = True
    standby: bool = False


SHAPES: Final[dict[str, Shape]] = {
    "intake-api": Shape(
        # uploads are in /tmp (16 at a time), and two processes that examine them take up to 1 GB of address space each
        "api",
        ("store",),
        asks=("verification-api", "enforcement-api", "notification-api"),
        cpu=250,
        memory=512,
        scratch=1024,
    ),
    "intake-worker": Shape("worker", ("store",), group="intake"),
    "intake-inbound": Shape("worker", group="intake-inbound"),
    "intake-registers": Shape("leased", ("internet",)),
    # it holds the files of an item, and the process that opens them takes up to 1.5 GB of address space
    "intake-pictures": Shape("leased", ("internet", "store"), asks=("verification-api",), cpu=250, memory=768),
    "verification": Shape("worker", group="verification"),
    "verification-api": Shape("api"),
    "enforcement-worker": Shape("worker", group="enforcement"),
    "enforcement-ledger": Shape("worker", group="enforcement-ledger"),
    "enforcement-entities": Shape("single", standby=True),
    "enforcement-delivery": Shape("leased", ("marketplace",)),
    "enforcement-statements": Shape("leased", ("internet",)),
    "enforcement-api": Shape("api"),
    "notification-worker": Shape("worker", group="notification"),
    "notification-webhooks": Shape("leased", ("internet",), asks=("intake-api",), memory=256),
    "notification-sender": Shape("leased", ("mail",), asks=("intake-api",)),
    "notification-api": Shape("api"),
    "notification-bounces": Shape("leased"),
    "streams": Shape("stored", asks=("streams",), kafka=True, memory=512),
    "status": Shape("api", ("prometheus",), asks=("streams",)),
    # two would duplicate each other's claims
    "canary": Shape("single", ("site",), asks=("intake-api",), overlap=False),
    "watch": Shape("single", kafka=True, overlap=False),
}
"""Every process of `FLEET` except the stand-ins."""

OPTIONAL: Final = {name: spec for name, spec in BY_NAME.items() if name in SHAPES and spec.needs is not None}
"""Processes that not every installation runs; each is a component of its own."""

MORE_SECRETS: Final[dict[str, tuple[str, ...]]] = {
    "intake-api": ("contact_key_other",),
    "intake-worker": ("contact_key_other", "feed_key_other"),
    "intake-pictures": ("contact_key_other",),
    "notification-sender": ("smtp_password", "dkim_key"),
}
"""Secrets that a local stack does not need."""

REQUIRED: Final[frozenset[str]] = frozenset({"internal_token", "internal_callers", "contact_key"})
"""Secrets without which a process that uses them does not start."""

REQUIRED_BY: Final[dict[str, frozenset[str]]] = {
    "enforcement-delivery": frozenset({"marketplace_secret"}),
    "enforcement-statements": frozenset({"statements_token"}),
    # a register's own credential is required if it is asked, which the process checks
    "intake-registers": frozenset(),
    "canary": frozenset({"canary_token"}),
}


@dataclass(frozen=True)
class Process:
    """A row of `FLEET` with its shape."""

    spec: Spec
    shape: Shape

    @property
    def name(self) -> str:
        """The process' name."""
        return self.spec.name

    @property
    def kafka(self) -> bool:
        """Whether it uses the broker."""
        return self.shape.kafka or self.shape.group is not None

    @property
    def secrets(self) -> tuple[tuple[str, bool], ...]:
        """Its secrets besides its logins at database and broker, each with whether it is required."""
        must = REQUIRED | REQUIRED_BY.get(self.name, frozenset())
        return tuple((name, name in must) for name in (*self.spec.secrets, *MORE_SECRETS.get(self.name, ())))

    @property
    def reaches(self) -> tuple[Place, ...]:
        """All external systems that it connects to."""
        own: tuple[Place, ...] = ("kafka",) if self.kafka else ()
        return (*own, *(("postgres",) if self.spec.role else ()), *self.shape.reaches)


PROCESSES: Final = tuple(Process(spec, SHAPES[spec.name]) for spec in FLEET if spec.name not in STAND_INS)
"""In the order of `FLEET`. A row without a shape is an error at import."""

BASE: Final = tuple(process for process in PROCESSES if process.name not in OPTIONAL)
"""What every installation runs, except its canary."""
