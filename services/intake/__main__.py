"""python -m services.intake api|worker|inbound|registers|pictures"""

from __future__ import annotations

import sys

from shared import logs, tracing
from shared.runtime.worker import run
from shared.serving import Hook, serve
from shared.settings import Settings

USAGE = """usage: python -m services.intake PROCESS

  api      public HTTP API: accounts, rights, claims, commands, reading (GOODFAITH_HTTP_HOST, _PORT)
  worker   publishes accepted requests, by lanes and weights, and keeps the read model
  inbound  reads the upstreams' Kafka topics (GOODFAITH_UPSTREAMS)
  registers  asks registers for rights that wait (GOODFAITH_REGISTERS)
  pictures   compares pictures of listings with those of rights (GOODFAITH_PICTURES_HOSTS)

Settings come from the environment (GOODFAITH_*); `goodfaith settings` lists them."""


def api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM; requests in progress are answered first."""
    from services.intake.app import Timed, create

    details: dict[str, object] = {}

    def make(start: Hook, ready: Hook) -> Timed:
        return Timed(create(settings, on_start=start, on_ready=lambda _: ready(), details=details))

    own_bounds = frozenset({("POST", "/v1/evidence")})
    serve(settings, "intake-api", make, backlog=4096, details=details, own_bounds=own_bounds)


def worker(settings: Settings) -> None:
    """Run admission and the read model."""
    from services.intake.worker import Intake

    service = Intake(settings)
    try:
        run(service, settings)
    finally:
        service.close()


def inbound(settings: Settings) -> None:
    """Read the upstreams' topics."""
    from services.intake.filing.inbound import Inbound

    if not settings.upstreams:
        print("no upstreams are configured (GOODFAITH_UPSTREAMS)", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    service = Inbound(settings)
    try:
        run(service, settings)
    finally:
        service.close()


def registers(settings: Settings) -> None:
    """Ask registers for rights."""
    from services.intake.registry.asking import run as ask

    ask(settings)


def pictures(settings: Settings) -> None:
    """Compare pictures."""
    from services.intake.pictures.comparing import run as compare

    compare(settings)


def main() -> None:
    """Run the named process."""
    processes = {"api": api, "worker": worker, "inbound": inbound, "registers": registers, "pictures": pictures}
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        print(USAGE, file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    settings = Settings.at_start()
    logs.configure(settings, f"intake-{sys.argv[1]}")
    tracing.configure(settings, f"intake-{sys.argv[1]}")
    processes[sys.argv[1]](settings)


if __name__ == "__main__":
    main()
