"""The process: a worker with its sidecar, health server, metrics and signal handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys

import structlog
from prometheus_client import REGISTRY

from services.streams import sidecar
from services.streams.collector import ViewsCollector
from services.streams.figures import NAME
from services.streams.worker import Worker
from shared.runtime.crashes import crash_from
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run as this process, with health server and signal handlers, until SIGTERM or SIGINT."""
    for loud in ("faust", "mode", "aiokafka"):
        logging.getLogger(loud).setLevel(max(logging.getLogger().level, logging.WARNING))
    health = Health(NAME)
    server = health.serve(settings)
    log.info("started", worker=NAME, health_port=server.server_address[1])
    worker = Worker(settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), NAME))

    views = ViewsCollector(lambda: worker.partitions().values(), worker.now)
    REGISTRY.register(views)
    listening = sidecar.listen(settings)
    worker.url = sidecar.url_of(listening, tls=settings.http_certificate is not None)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        async with sidecar.running(settings, worker, views, listening):
            stopped = await worker.run()
        if stopped:
            log.info("stopped", worker=NAME)
            sys.stderr.flush()
            # exit without waiting for Faust's tasks and threads: some never end
            os._exit(0)
        pause = random.uniform(0.2, min(2.0, settings.retry_max_s))
        log.info("again", worker=NAME, pause_s=round(pause, 3))
        await asyncio.sleep(pause)
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very process again

    asyncio.run(work())
