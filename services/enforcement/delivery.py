"""The HTTP adapter: takes queued commands to the marketplace and hands its answers to the worker.

A taken command comes up again by itself after its lease, so a killed process loses nothing; the marketplace knows a
repeated one by its idempotency key.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import structlog
from prometheus_client import Counter

from services.enforcement import store
from shared import db, marketplace
from shared.events import MarketplaceCommand, Receipt
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)
POSTS = Counter("goodfaith_marketplace_posts_total", "Requests of the HTTP adapter, by outcome.", ["outcome"])

_AT_ONCE = 8
_LEASE_S = 2.0
_TIMEOUT_S = 10.0
_IDLE_S = 0.1


class Delivery:
    """Takes, posts, notes; ``once`` is one round of it."""

    def __init__(self, settings: Settings, client: httpx.Client | None = None) -> None:
        """Raises:
        ValueError: no secret to sign with.
        """
        if settings.marketplace_secret is None:
            raise ValueError(
                "marketplace_secret: the HTTP adapter signs its requests; set GOODFAITH_MARKETPLACE_SECRET"
            )
        self._secret = settings.marketplace_secret.get_secret_value()
        self._url = settings.marketplace_url.rstrip("/") + marketplace.COMMANDS_PATH
        self._client = client or httpx.Client(timeout=_TIMEOUT_S)
        self._engine = db.connect(
            settings.database.get_secret_value(), schema="enforcement", name="enforcement-delivery"
        )
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="post")

    def once(self) -> int:
        """Deliver what is due; returns how many commands were tried."""
        with self._engine.begin() as connection:
            commands = store.take(connection, _AT_ONCE * 4, _LEASE_S)
        if not commands:
            return 0
        results: dict[str, str] = {}
        errors: dict[str, str] = {}
        for command, outcome in zip(commands, self._pool.map(self._post, commands), strict=True):
            if isinstance(outcome, Receipt):
                results[command.command] = outcome.result
            else:
                errors[command.command] = outcome
        with self._engine.begin() as connection:
            store.answered(connection, results)
            store.failed(connection, errors)
        if errors:
            log.warning("not answered", count=len(errors), first=next(iter(errors.values())))
        return len(commands)

    def _post(self, command: MarketplaceCommand) -> Receipt | str:
        """The receipt, or why there is none."""
        body = msgspec.json.encode(command)
        headers = marketplace.signed_headers(self._secret, int(time.time()), command.command, body)
        try:
            response = self._client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            POSTS.labels("unreachable").inc()
            return f"{type(error).__name__}: {error}"[:500]
        POSTS.labels(str(response.status_code)).inc()
        if response.status_code != 200:
            return f"HTTP {response.status_code}: {response.text[:300]}".replace("\0", "\ufffd")
        try:
            receipt = msgspec.json.decode(response.content, type=Receipt)
        except msgspec.DecodeError as error:
            return f"not a receipt: {error}"[:500]
        if receipt.command != command.command:
            return "the receipt is of another command"
        return receipt

    def close(self) -> None:
        """Let go of connections."""
        self._pool.shutdown()
        self._client.close()
        self._engine.dispose()


def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT; a database that is away is waited for."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    health = Health("enforcement-delivery")
    server = health.serve(settings)
    delivery = Delivery(settings)
    failures = 0
    while not stop.is_set():
        try:
            busy = delivery.once()
            failures = 0
            health.ready()
            pause = 0.0 if busy else _IDLE_S
        except Exception as error:
            if not db.is_transient(error):
                raise
            failures += 1
            pause = random.uniform(0.5, 1.0) * min(settings.retry_max_s, 0.1 * 2 ** min(failures, 10))
            log.warning("paused", pause_s=round(pause, 3), error=str(error))
        health.progress()
        stop.wait(pause)
    delivery.close()
    server.shutdown()
