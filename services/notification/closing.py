"""Closes messages: decides which items each covers and which channel it tries first. Any sending process may do it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from services.notification import digests, routing, store, webhook_store
from services.notification.domain import DIGEST, gather
from services.notification.webhook_store import Preference
from shared import clock

WINDOW: Final = 2000
"""Rows read when closing messages; grows while none of them can be closed."""
RELEASE_S: Final = 5.0
"""Wall seconds between checks for rows that wait for a digest whose party no longer wants one."""


def _route(connection: sa.Connection, account: str) -> str:
    """The channel to try first for an account's digest."""
    preference = webhook_store.preferences(connection, (account,)).get(account, Preference())
    chosen = routing.channel(DIGEST, preference.order, preference.webhooks)
    return "webhook" if chosen == "webhook" else "email"


class Closer:
    """Closes the messages that can be closed, unless another process is doing so.

    Args:
        collect: how long a message waits for further items of its claim.
        webhooks: close only messages of parties with webhooks, which need not wait for an unavailable mail server.
    """

    def __init__(self, engine: sa.Engine, collect: timedelta, *, webhooks: bool = False) -> None:
        self._engine = engine
        self._webhooks = webhooks
        self._collect = collect
        self._window = WINDOW
        self._release_at = 0.0

    def close(self) -> int:
        """Close messages; returns how many."""
        with self._engine.begin() as connection:
            if not store.lock_collect(connection):
                return 0
            now, wall = clock.read(connection)
            if time.monotonic() >= self._release_at:
                digests.release(connection)
                self._release_at = time.monotonic() + RELEASE_S
            together = digests.close(connection, now, lambda account: _route(connection, account))
            rows = store.pending(connection, self._window, webhooks=self._webhooks)
            if not rows:
                return together
            full = len(rows) == self._window
            closed = gather(rows, wall, self._collect, full=full)
            known = webhook_store.preferences(connection, (one.rows[0].party for one in closed)) if closed else {}
            routes = {}
            for one in closed if known else ():
                preference = known.get(one.rows[0].party, Preference())
                if routing.channel(one.rows[0].kind, preference.order, preference.webhooks) == "webhook":
                    routes[one.id] = "webhook"
            store.close(connection, closed, routes)
        self._window = min(self._window * 2, 100 * WINDOW) if full and not closed else WINDOW
        return len(closed) + together
