"""Group commit: requests that arrive within a few milliseconds share one transaction, then all are answered.

An answer goes out only after the commit, so a 202 is durable and what it names can be read at once. If the outcome of
a commit is unknown, the answer is 503 and the client tries again with the same idempotency key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
import structlog

from services.intake.filing import store as filing_store
from services.intake.kernel import domain, metrics, store
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.refusals import busy
from services.intake.kernel.security import Contacts
from shared import clock, db, policy, tracing
from shared.refusals import Refused
from shared.settings import Settings

log = structlog.get_logger(__name__)

COMMITS: Final = 2
"""Concurrent commits: while one waits for the disk, the next is prepared."""
WAITING_MAX: Final = 20_000
"""Requests that may wait for a commit. Beyond that the answer is 503 at once instead of late."""
USAGE_S: Final = 5.0


@dataclass(slots=True)
class Quota:
    """Items that accounts filed in 24 hours, a few seconds old. Over quota, further claims go to the bulk lane."""

    known: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    _flushed: float = 0.0

    def over(self, account: str) -> bool:
        """Whether the account is over its quota."""
        return self.known.get(account, 0) + self.pending.get(account, 0) > domain.QUOTA_ITEMS

    def add(self, account: str, items: int) -> None:
        """Count accepted items."""
        self.pending[account] = self.pending.get(account, 0) + items

    def flush(self, engine: sa.Engine) -> None:
        """Store the counts and read the totals of all processes, every few seconds."""
        if not self.pending or time.monotonic() - self._flushed < USAGE_S:
            return
        self._flushed = time.monotonic()
        counts, self.pending = self.pending, {}
        with engine.begin() as connection:
            now, _ = clock.read(connection)
            filing_store.add_usage(connection, counts, now)
            if len(self.known) > 100_000:
                self.known.clear()
            self.known.update(filing_store.usage(connection, list(counts), now))


class GroupCommit:
    """Collects filings and commits them in groups, on its own threads. Used from one event loop."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._held_max = policy.current(settings.misuse_profile).misuse.held_max
        self._contacts = Contacts.of(settings)
        self._waiting: list[tuple[Filing, asyncio.Future[Filed]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running = 0
        self._threads = ThreadPoolExecutor(COMMITS, thread_name_prefix="group-commit")
        self._tasks: set[asyncio.Task[None]] = set()
        self.quota = Quota()

    async def file(self, filing: Filing) -> Filed:
        """File a request and wait for its commit.

        Raises:
            Refused: the request was refused, or the database cannot be reached (503).
        """
        if len(self._waiting) >= WAITING_MAX:
            raise busy("Too many requests are waiting.")
        filing.trace = tracing.here.get()
        future: asyncio.Future[Filed] = asyncio.get_running_loop().create_future()
        self._waiting.append((filing, future))
        if self._running < COMMITS:
            if len(self._waiting) >= self._settings.group_commit_max:
                self._start()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._settings.group_commit_ms / 1000, self._start)
        return await future

    async def close(self) -> None:
        """Commit what waits, and stop."""
        while self._tasks or self._waiting:
            if not self._tasks:
                self._start()
            await asyncio.gather(*self._tasks)
        self._threads.shutdown()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting or self._running >= COMMITS:
            return
        limit = self._settings.group_commit_max
        group, self._waiting = self._waiting[:limit], self._waiting[limit:]
        self._running += 1
        task = asyncio.create_task(self._run(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, group: list[tuple[Filing, asyncio.Future[Filed]]]) -> None:
        filings = [filing for filing, _ in group]
        results: Sequence[Filed | Exception]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self.commit, filings)
        except Exception as error:
            results = [error] * len(group)
        finally:
            self._running -= 1
        for (_, future), result in zip(group, results, strict=True):
            if future.done():  # the client has gone; what was accepted stays accepted
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        # requests that arrived meanwhile have waited long enough
        self._start()

    def commit(self, filings: Sequence[Filing]) -> list[Filed | Exception]:
        """Commit a group; blocks. A request that the database refuses fails alone."""
        started = time.monotonic()
        results: list[Filed | Exception]
        try:
            with self._engine.begin() as connection:
                now, wall = store.enter_admission(connection)
                results = list(
                    filing_store.file(
                        connection, filings, now, wall, self._settings.partitions, self._held_max, self._contacts
                    )
                )
        except Exception as error:
            if db.is_transient(error):
                log.warning("group commit failed", requests=len(filings), error=f"{type(error).__name__}: {error}")
                return [busy("The database cannot be reached.")] * len(filings)
            if len(filings) == 1:
                log.exception("request failed in the database", kind=filings[0].kind)
                return [error]
            return [result for filing in filings for result in self.commit([filing])]
        metrics.GROUP_COMMIT_REQUESTS.observe(len(filings))
        metrics.GROUP_COMMIT_SECONDS.observe(time.monotonic() - started)
        for filing, result in zip(filings, results, strict=True):
            observe(filing, result)
            if isinstance(result, Filed) and result.rows and result.rows.items and not filing.account.canary:
                self.quota.add(filing.account.id, len(result.rows.items))
        try:
            self.quota.flush(self._engine)
        except Exception as error:
            # the commit stands; the quota is an estimate
            log.warning("quota not written", error=f"{type(error).__name__}: {error}")
        return results


def observe(filing: Filing, result: Filed | Exception) -> None:
    """Count what became of a request."""
    if isinstance(result, Refused):
        metrics.REQUESTS_REFUSED.labels(filing.channel, result.reason).inc()
    elif isinstance(result, Filed) and result.rows is not None:
        rows = result.rows
        if rows.claim is not None:
            lane = rows.answer["lane"]
            metrics.CLAIMS_RECEIVED.labels(filing.channel, rows.claim.right_type, lane).inc()
            metrics.ITEMS_RECEIVED.labels(filing.channel, lane).inc(len(rows.items))
        else:
            metrics.COMMANDS_RECEIVED.labels(filing.channel, rows.command_kind).inc(len(rows.commands))
            for decided in rows.decisions:
                metrics.DECIDED.labels(decided.kind).inc()
                if decided.kind == "break_glass":
                    log.info("decided without a lease", item=decided.item, by=decided.reviewer)
