"""What intake's worker does between batches, on threads: expiry, right jobs, releases, clean-up, and the judgement.

Each job is safe to run in several workers at once.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
import structlog

from services.intake.accounts import feed_store, webhooks_store
from services.intake.accounts.looking_up import LookUps
from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from services.intake.evidence.blobs import Blobs
from services.intake.goodfaith import store as goodfaith_store
from services.intake.kernel import metrics, right_jobs
from services.intake.misuse import held
from services.intake.registry import authority_store
from services.intake.registry import store as registry_store
from services.intake.review import store as review_store
from shared import policy
from shared.settings import Settings

log = structlog.get_logger(__name__)

EXPIRE_S: Final = 5.0
RIGHTS_S: Final = 0.5
QUEUE_S: Final = 15.0
EVIDENCE_S: Final = 60.0
WEBHOOKS_S: Final = 60.0
GONE_S: Final = 60.0
DOMAINS_S: Final = 5.0
JUDGE_S: Final = 2.0
"""Seconds between searches for accounts due for judgement. The barrier notices a new business day at once."""
NOTICE_DAY_S: Final = 0.1
NAME: Final = "intake"


class Housekeeping:
    """The jobs, each one step of what a thread repeats.

    Args:
        today: the business day; None: not known yet.

    Raises:
        ValueError: a setting names something else than a resolver.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, today: Callable[[], dt.date | None]) -> None:
        self._engine = engine
        self._settings = settings
        self._today = today
        self._lookups = LookUps(engine, settings)
        self._judged: tuple[dt.date | None, float] = (None, 0.0)

    def jobs(self) -> list[tuple[str, float, Callable[[], object]]]:
        """(name, seconds between runs, job)."""
        return [
            ("expiry", EXPIRE_S, self.expire),
            ("held", EXPIRE_S, self.release),
            ("rights", RIGHTS_S, self.tell_rights),
            ("review", QUEUE_S, self.look_at_the_queue),
            ("evidence", EVIDENCE_S, self.sweep),
            ("webhooks", WEBHOOKS_S, self.forget_webhooks),
            ("gone", GONE_S, self.erase_gone),
            ("good-faith", NOTICE_DAY_S, self.watch_day),
            *([("domains", DOMAINS_S, self._lookups.once)] if self._settings.domains else []),
        ]

    def expire(self) -> None:
        """Expire rights and authorisations, and warn owners of rights that expire soon."""
        warn = policy.current("ipp").registry.warn.exact
        with self._engine.begin() as connection:
            count = registry_store.expire(connection, self._settings.partitions, warn)
        with self._engine.begin() as connection:
            count += authority_store.expire(connection, self._settings.partitions)
        if count:
            log.info("expired", worker=NAME, count=count)

    def tell_rights(self) -> None:
        """Tell open items what changed about their rights."""
        with self._engine.begin() as connection:
            right_jobs.pick_up(connection)
        items = 0
        while True:
            with self._engine.begin() as connection:
                told = right_jobs.tell_next(connection, self._settings.partitions)
            if told is None:
                break
            items += told
        if items:
            log.info("items told about their rights", worker=NAME, items=items)
        with self._engine.begin() as connection:
            metrics.RIGHT_JOBS_SINCE.set(right_jobs.oldest(connection))

    def release(self) -> None:
        """Move items whose account is no longer suspended to the admission queue."""
        while True:
            with self._engine.begin() as connection:
                count = held.release(connection, self._settings.partitions)
            if not count:
                return
            metrics.RELEASED.inc(count)
            log.info("held items released", worker=NAME, items=count)

    def look_at_the_queue(self) -> None:
        """Delete expired skips, and set the review queue's gauges."""
        with self._engine.begin() as connection:
            review_store.forget_skips(connection)
            metrics.show_queue(review_store.depth(connection))

    def sweep(self) -> None:
        """Delete evidence that is no longer needed."""
        count = evidence_store.sweep(self._engine, Blobs.of(self._settings), evidence.keeping())
        if count:
            metrics.EVIDENCE_DELETED.inc(count)
            log.info("evidence deleted", worker=NAME, count=count)

    def forget_webhooks(self) -> None:
        """Delete webhooks that nobody confirmed in time."""
        with self._engine.begin() as connection:
            count = webhooks_store.forget_unconfirmed(connection)
        if count:
            metrics.WEBHOOK_CONFIRMATIONS.labels("forgotten").inc(count)
            log.info("webhooks not confirmed", worker=NAME, count=count)

    def erase_gone(self) -> None:
        """Erase sellers that the marketplace has erased, once nothing stands against it."""
        erased = feed_store.erase_gone(self._engine, self._settings.partitions)
        if erased:
            log.info("sellers erased", worker=NAME, count=erased)

    def watch_day(self) -> None:
        """Judge when the business day changes, and every ``JUDGE_S`` for accounts that become due in between."""
        day, at = self._judged
        today = self._today()
        if today is None or (today == day and time.monotonic() - at < JUDGE_S):
            return
        self.judge()
        self._judged = (today, time.monotonic())

    def judge(self) -> None:
        """Judge good faith and misuse of the accounts that are due, some accounts per transaction."""
        rules = policy.current(self._settings.misuse_profile)
        with self._engine.begin() as connection:
            goodfaith_store.find_due(connection, rules.misuse)
        judged = changed = 0
        while True:
            with self._engine.begin() as connection:
                accounts, changes, measures = goodfaith_store.judge_due(
                    connection, self._settings.partitions, rules=rules
                )
            if not accounts:
                break
            judged, changed = judged + accounts, changed + len(changes) + len(measures)
            for kind in changes:
                metrics.GOOD_FAITH_CHANGES.labels(kind).inc()
            for measure in measures:
                metrics.MISUSE_CHANGES.labels(measure.kind).inc()
        if judged:
            log.info("good faith judged", worker=NAME, accounts=judged, changes=changed)
