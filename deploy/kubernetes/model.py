"""How each process of `FLEET` is run in a cluster: what its table does not say. No YAML is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from deploy.local.fleet import BY_NAME, FLEET, Spec

Kind = Literal["worker", "stored", "leased", "api", "single"]
"""How several of a process share the work.

`worker`: by partition, up to as many as there are partitions. `stored`: the same, each with a disk of its own. `leased`: by
leases, without such a bound. `api`: behind a Service. `single`: not at all.
"""

Place = Literal["kafka", "postgres", "mail", "internet", "marketplace", "store", "prometheus", "site"]
"""What lies outside, and is reached by a policy of its own: `internet` is whatever is public, `store` that of evidence files,
`site` the marketplace's public pages.
"""

STAND_INS: Final = ("mailbox", "marketplace")
"""Processes of `FLEET` that play the outside on a local stack; no installation has them."""


@dataclass(frozen=True)
class Shape:
    """One process in a cluster.

    Attributes:
        kind: How several of it share the work.
        reaches: Places outside that it opens connections to, beside database and broker.
        asks: Processes whose HTTP interface it asks.
        group: The consumer group whose lag is its own.
        kafka: Whether it speaks to the broker without being such a group's worker.
        cpu: Processor time asked for, in thousandths of a core.
        memory: Memory asked for, in MiB; twice that is the limit.
        scratch: Size of its /tmp, in MiB.
        overlap: Whether a new one may start before the old one has ended.
        standby: Whether a second one waits to take over: an advisory lock lets one work at a time.
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
        # uploads lie in /tmp (16 at a time), and two judges of files beside it take up to 1 GB of addresses each
        "api", ("store",), asks=("enforcement-api", "notification-api"), cpu=250, memory=512, scratch=1024,
    ),
    "intake-worker": Shape("worker", ("store",), group="intake"),
    "intake-inbound": Shape("worker", group="intake-inbound"),
    "verification": Shape("worker", group="verification"),
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
}  # fmt: skip
"""Every process of `FLEET` but the stand-ins."""

OPTIONAL: Final = {name: spec for name, spec in BY_NAME.items() if name in SHAPES and spec.needs is not None}
"""Processes that not every installation runs: each is a component of its own."""

MORE_SECRETS: Final[dict[str, tuple[str, ...]]] = {
    "intake-api": ("contact_key_other",),
    "notification-sender": ("smtp_password", "dkim_key"),
}
"""Secrets that a local stack does not need."""

REQUIRED: Final[frozenset[str]] = frozenset({"internal_token", "internal_callers", "contact_key"})
"""Secrets without which a process that is given them is not started."""

REQUIRED_BY: Final[dict[str, frozenset[str]]] = {
    "enforcement-delivery": frozenset({"marketplace_secret"}),
    "enforcement-statements": frozenset({"statements_token"}),
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
        """Whether it speaks to the broker."""
        return self.shape.kafka or self.shape.group is not None

    @property
    def secrets(self) -> tuple[tuple[str, bool], ...]:
        """Its secrets beside the logins at database and broker, each with whether it must be there."""
        must = REQUIRED | REQUIRED_BY.get(self.name, frozenset())
        return tuple((name, name in must) for name in (*self.spec.secrets, *MORE_SECRETS.get(self.name, ())))

    @property
    def reaches(self) -> tuple[Place, ...]:
        """All places outside that it opens connections to."""
        own: tuple[Place, ...] = ("kafka",) if self.kafka else ()
        return (*own, *(("postgres",) if self.spec.role else ()), *self.shape.reaches)


PROCESSES: Final = tuple(Process(spec, SHAPES[spec.name]) for spec in FLEET if spec.name not in STAND_INS)
"""In the order of `FLEET`. A row without a shape is an error at import."""

BASE: Final = tuple(process for process in PROCESSES if process.name not in OPTIONAL)
"""What every installation runs, but for its canary."""
