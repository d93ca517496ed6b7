"""python -m services.intake api|worker|inbound"""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvicorn

from shared import logs
from shared.runtime.health import Health
from shared.runtime.worker import run
from shared.settings import Settings

log = structlog.get_logger(__name__)

USAGE = """usage: python -m services.intake PROCESS

  api      the HTTP door: accounts, rights, claims, commands, reading (GOODFAITH_HTTP_HOST, _PORT)
  worker   publishes what the door accepted, by lanes and weights, and keeps the read model
  inbound  the upstreams' door: their Kafka topics (GOODFAITH_UPSTREAMS)

Settings come from the environment (GOODFAITH_*); `goodfaith settings` lists them."""


def api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM; requests in hand are answered first."""
    from services.intake.api import Timed, create

    health = Health("intake-api")

    async def beat() -> None:
        # the event loop comes round: that is this process's progress
        while True:
            health.progress()
            await asyncio.sleep(1)

    beats: list[asyncio.Task[None]] = []

    def start() -> None:
        beats.append(asyncio.get_running_loop().create_task(beat()))

    server = health.serve(settings)
    log.info("started", worker="intake-api", health_port=server.server_address[1], http_port=settings.http_port)
    uvicorn.run(
        Timed(create(settings, on_start=start, on_ready=lambda _: health.ready())),
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    server.shutdown()


def worker(settings: Settings) -> None:
    """Admission and read model."""
    from services.intake.worker import Intake

    service = Intake(settings)
    try:
        run(service, settings)
    finally:
        service.close()


def inbound(settings: Settings) -> None:
    """The upstreams' door."""
    from services.intake.inbound import Inbound

    if not settings.upstreams:
        print("no upstreams are configured (GOODFAITH_UPSTREAMS)", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    service = Inbound(settings)
    try:
        run(service, settings)
    finally:
        service.close()


def main() -> None:
    """Run the process that is named."""
    processes = {"api": api, "worker": worker, "inbound": inbound}
    if len(sys.argv) != 2 or sys.argv[1] not in processes:
        print(USAGE, file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    settings = Settings()
    logs.configure(settings, f"intake-{sys.argv[1]}")
    processes[sys.argv[1]](settings)


if __name__ == "__main__":
    main()
