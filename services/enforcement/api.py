"""The internal API about sellers. Intake's API calls it, and decides what a person may see."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Annotated, Any, Final

import sqlalchemy as sa
import structlog
from litestar import Request, get
from litestar.params import QueryParameter

from services.enforcement import explain, offenders, reading
from shared import clock, internal, metrics, policy
from shared.events import Measure
from shared.internal import GivenId, Parts
from shared.paging import Cursor, Limit, Moment, Page, bad_cursor, key_of, page_of
from shared.refusals import Refused
from shared.settings import Settings
from shared.standing import Consequence, Entry, Explanation, Figures, Sanction, Sort, Standing, Violation

log = structlog.get_logger(__name__)

NAME: Final = "enforcement-api"
FRESH_S: Final = 2.0
"""Wall seconds for which counted figures are shown again, at least: requests cannot keep the database counting."""
FRESH_TIMES: Final = 20
"""The same, as a multiple of the time that counting took."""

SELLERS = metrics.gauge(
    "goodfaith_sellers",
    "Sellers with violations in force from the last 365 days, by tier; counted every `GOODFAITH_FIGURES_S`.",
    {"tier": metrics.Values("the policy's tiers: `1`, `2`, `3-5`, `6+`", r"\d+(-\d+|\+)?")},
    of=NAME,
    do="`6+` grows: sanctions do not stop them; look at `goodfaith standing list --tier 6+`",
)
UNDER = metrics.gauge(
    "goodfaith_sellers_under",
    "Sellers under each measure.",
    {"measure": ("listing_restricted", "frozen", "may_not_list", "closed")},
    of=NAME,
    do="a jump: did the policy change, or reviewers? `goodfaith standing list --measure closed`",
)
Tier = Annotated[str | None, QueryParameter(max_length=20)]
Time = Annotated[str | None, QueryParameter(max_length=40)]
Entity = Annotated[str | None, QueryParameter(min_length=1, max_length=120, pattern=r"^[\x21-\x7e]+$")]


class EnforcementParts(Parts):
    """The API's parts, the penalty rules in force, and the figures as counted last."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, schema="enforcement", name=NAME)
        rules = policy.current(settings.penalties_profile)
        self.policy = rules.version
        self.rules = rules.penalties
        self._figures: tuple[float, Figures] | None = None
        """(until when they are shown, in monotonic seconds; the figures)."""
        self._counting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        if settings.figures_s:
            self._watching = asyncio.get_running_loop().create_task(self._watch(settings.figures_s))

    async def figures(self) -> Figures:
        """All figures, as fresh as their cost allows; while they are being counted, the previous ones."""
        if self._figures is not None and self._counting.locked():
            return self._figures[1]
        async with self._counting:
            known = self._figures
            begun = time.monotonic()
            if known is None or known[0] < begun:

                def count(connection: sa.Connection) -> Figures:
                    return reading.figures(connection, self.rules.repeat_offender, clock.read(connection)[0])

                counted = await self.run(count)
                ended = time.monotonic()
                known = self._figures = (ended + max(FRESH_S, FRESH_TIMES * (ended - begun)), counted)
                show(known[1])
        return known[1]

    async def _watch(self, every_s: float) -> None:
        while True:
            try:
                await self.figures()
            except Refused:
                log.warning("figures could not be counted")
            except Exception as error:
                log.error("figures could not be counted", error=type(error).__name__)
            await asyncio.sleep(every_s)

    def close(self) -> None:
        """Stop counting, and close the parts."""
        if self._watching is not None:
            self._watching.cancel()
        super().close()


def show(figures: Figures) -> None:
    """Set the gauges."""
    for tier in figures.tiers:
        SELLERS.labels(tier.tier).set(tier.sellers)
    for measure, sellers in figures.measures.items():
        UNDER.labels(measure).set(sellers)


def _parts(request: Request[Any, Any, Any]) -> EnforcementParts:
    return request.app.state.parts  # type: ignore[no-any-return]


def _time(text: str | None, field: str) -> dt.datetime | None:
    """Parse a time with its zone.

    Raises:
        Refused: 422, the text is no such time.
    """
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text).astimezone(dt.UTC) if len(text) > 10 else None
    except (ValueError, OverflowError):
        at = None
    if at is None or not 1900 <= at.year <= 2300:
        raise Refused(
            422, "bad_time", "A time with date and zone is needed.", field=field, cure="Say it as 2026-11-24T12:00:00Z."
        )
    return at


@get("/internal/standing")
async def standing(request: Request[Any, Any, Any], seller: GivenId) -> Standing:
    """A seller's standing; all zero if it never had a violation."""
    parts = _parts(request)
    return await parts.run(reading.standing, seller, parts.rules.repeat_offender)


@get("/internal/sellers")
async def sellers(
    request: Request[Any, Any, Any],
    sort: Sort = "violations",
    tier: Tier = None,
    repeat_offender: bool | None = None,
    consequence: Consequence | None = None,
    measure: Measure | None = None,
    entity: Entity = None,
    since: Time = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Standing]:
    """Sellers that have a standing, sorted."""
    parts = _parts(request)
    after = _after(cursor, sort)
    names = [name for name, _, _ in offenders.bounds(parts.rules.repeat_offender)]
    if tier is not None and tier not in names:
        raise Refused(
            422, "no_such_tier", "There is no such tier.", field="tier", cure=f"There are: {', '.join(names)}."
        )
    rows = await parts.run(
        reading.sellers,
        parts.rules.repeat_offender,
        sort=sort,
        limit=limit + 1,
        after=after,
        tier=tier,
        repeat_offender=repeat_offender,
        consequence=consequence,
        measure=measure,
        entity=entity,
        since=_time(since, "since"),
    )
    return page_of(rows, limit, lambda row: (sort, reading.sort_value(row, sort), row.seller))


def _after(cursor: str | None, sort: Sort) -> tuple[Any, str] | None:
    """Where a page begins; a cursor is valid only with the sort it was made for."""
    if cursor is None:
        return None
    kinds: dict[Sort, Any] = {"changed": tuple[str, Moment, str], "seller": tuple[str, str, str]}
    key: Any = key_of(cursor, kinds.get(sort, tuple[str, int, str]))
    if key is None or key[0] != sort:
        raise bad_cursor()
    if isinstance(key[1], int) and abs(key[1]) >= 2**31:
        raise bad_cursor()
    return key[1], key[2]


@get("/internal/ledger")
async def ledger(
    request: Request[Any, Any, Any], seller: GivenId, cursor: Cursor = None, limit: Limit = 50
) -> Page[Entry]:
    """A seller's ledger entries, latest first."""
    (before,) = key_of(cursor, tuple[str]) or (None,)
    if before is not None and not explain.number_of(before):
        raise bad_cursor()

    def work(connection: sa.Connection) -> list[Entry]:
        return reading.entries(connection, seller, clock.read(connection)[0], before=before, limit=limit + 1)

    return page_of(await _parts(request).run(work), limit, lambda entry: (entry.entry,))


@get("/internal/violations")
async def violations(
    request: Request[Any, Any, Any],
    seller: GivenId,
    in_force: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Violation]:
    """A seller's violations, latest first, including those that no longer stand."""
    before = key_of(cursor, tuple[Moment, str])
    rows = await _parts(request).run(reading.violations, seller, in_force=in_force, before=before, limit=limit + 1)
    return page_of(rows, limit, lambda violation: (violation.at, violation.claim))


@get("/internal/sanctions")
async def sanctions(
    request: Request[Any, Any, Any],
    seller: GivenId,
    in_force: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Sanction]:
    """A seller's sanctions, latest first."""
    parts = _parts(request)
    (before,) = key_of(cursor, tuple[str]) or (None,)
    if before is not None and not reading.number_of(before):
        raise bad_cursor()
    rows = await parts.run(
        reading.sanctioned,
        seller,
        parts.rules,
        in_force=in_force,
        limit=limit + 1,
        before=None if before is None else reading.number_of(before),
    )
    return page_of(rows, limit, lambda sanction: (sanction.sanction,))


@get("/internal/sanction")
async def sanction(request: Request[Any, Any, Any], seller: GivenId, sanction: GivenId) -> Sanction:
    """One sanction of a seller."""
    parts = _parts(request)
    rows = await parts.run(reading.sanctioned, seller, parts.rules, sanction=sanction, limit=1)
    if not rows:
        raise Refused(
            404, "not_found", "There is no such resource.", cure="Check the id; you see only what you are party to."
        )
    return rows[0]


@get("/internal/why")
async def why(
    request: Request[Any, Any, Any],
    seller: GivenId,
    at: Time = None,
    steps: Annotated[int, QueryParameter(ge=1, le=1000)] = 200,
) -> Explanation:
    """How the seller's standing came about, now or at a given time, replayed from its ledger."""
    parts = _parts(request)

    def work(connection: sa.Connection) -> Explanation:
        now, _ = clock.read(connection)
        return reading.why(connection, seller, parts.rules, parts.policy, now, at=_time(at, "at"), most=steps)

    return await parts.run(work)


@get("/internal/offenders")
async def figures(request: Request[Any, Any, Any]) -> Figures:
    """Tiers, recidivism, time between offences."""
    return await _parts(request).figures()


ROUTES: Final = [standing, sellers, ledger, violations, sanctions, sanction, why, figures]


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    internal.run(settings, NAME, ROUTES, lambda: EnforcementParts(settings))
