"""The query API for the views. Internal (``shared/callers.py``), on loopback; no personal data.

Answers come from views and may lag some moments behind the services' tables, which are the source of truth. A state
is held by the worker that owns its partition; any worker answers a query and asks the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

import structlog
from litestar import Litestar, Request, get
from litestar.params import QueryParameter
from msgspec import Struct

from services.streams import filings, items, sellers
from services.streams.fold import Partition
from services.streams.reconcile import Reconciler
from services.streams.views import at_of
from shared import concentration, internal
from shared.callers import Callers
from shared.ids import items_of
from shared.internal import Client, GivenId, ServiceUnavailable
from shared.refusals import Refused
from shared.settings import Settings
from shared.standing import bounds
from shared.topics import partition_of

log = structlog.get_logger(__name__)

Local = Annotated[bool, QueryParameter()]
"""Answer for this worker only."""
ITEMS_MOST: Final = 300
"""Most items of a claim (docs/explanation/domain.md, "Terms")."""
TOGETHER: Final = 25
"""Ids looked up before yielding to other tasks."""
_US: Final = 1_000_000


class Source(Protocol):
    """The part of the runtime that the API uses."""

    def get(self, view: str, key: str) -> Any:
        """The state of a key, from any partition that this process owns; None if there is none."""

    def partitions(self) -> Mapping[int, Partition]:
        """The recovered and owned partitions."""

    def peers(self) -> Mapping[int, str]:
        """By partition of another worker, the URL of its query API."""


class Stage(Struct, frozen=True, kw_only=True):
    """A stage of an item's handling; ``seconds`` is null while it is under way."""

    stage: items.Stage
    begun: dt.datetime
    seconds: float | None
    late: bool


class ItemView(Struct, frozen=True, kw_only=True):
    """An item in the view. ``waits_for``: whom an open item waits for. Times are business time."""

    item: str
    state: str
    revision: int
    tier: str
    right_type: str
    reason: str
    received: dt.datetime
    due: dt.datetime | None
    handled: dt.datetime | None
    sla: str | None
    paused: bool
    taken_down: bool
    held: bool
    settled: bool
    waits_for: items.Where | None
    stages: list[Stage]


class ClaimView(Struct, frozen=True, kw_only=True):
    """A claim's items in the view. ``missing``: how many of its items are not (yet) in it."""

    claim: str
    size: int
    open: int
    missing: int
    items: list[ItemView]


class OldItem(Struct, frozen=True, kw_only=True):
    """An open item, whom it waits for, and when it was received (business time)."""

    item: str
    waits_for: items.Where
    received: dt.datetime


class OldestView(Struct, frozen=True, kw_only=True):
    """The items open for longest, oldest first. If ``partitions`` is less than ``of``, some could not be queried."""

    now: dt.datetime
    partitions: int
    of: int
    items: list[OldItem]


class Complainant(Struct, frozen=True, kw_only=True):
    """A complainant, its items in the window, and their share of all items (0 to 1)."""

    account: str
    items: int
    share: float


class FilingsView(Struct, frozen=True, kw_only=True):
    """How far filings are concentrated on few complainants.

    Attributes:
        since: when the window begins.
        partitions: how many partitions the figures cover; less than ``of`` if some could not be queried.
        squares: sum of the squares of each complainant's items.
        hhi: Herfindahl-Hirschman index, above 0 and up to 1; null if nothing was filed.
        largest: the largest complainants, largest first.
    """

    now: dt.datetime
    since: dt.datetime
    partitions: int
    of: int
    complainants: int
    items: int
    squares: int
    hhi: float | None
    largest: list[Complainant]


class SanctionView(Struct, frozen=True, kw_only=True):
    """A sanction in force."""

    sanction: str
    ledger: str
    level: int
    measures: tuple[str, ...]
    begins: dt.datetime | None
    ends: dt.datetime | None


class SellerView(Struct, frozen=True, kw_only=True):
    """A seller in the views.

    Attributes:
        violations: violations in force within the last 365 days.
        violations_ever: all violations in force.
        tier: the policy's tier of repeat offenders; null if none.
        mean_interval_days: mean time between violations in force; null if fewer than two.
        recidivist: its second violation came less than 365 days after its first.
        general_points, serious_strikes, entity*: as last published by the ledger, at ``standing_at``.
    """

    seller: str
    violations: int
    violations_ever: int
    tier: str | None
    first: dt.datetime | None
    last: dt.datetime | None
    mean_interval_days: float | None
    recidivist: bool
    general_points: int
    serious_strikes: int
    standing_at: dt.datetime | None
    entity: str | None
    entity_points: int
    entity_strikes: int
    entity_violations: int
    sanctions: list[SanctionView]


class Compared(Struct, frozen=True, kw_only=True):
    """The last comparison of a view on a partition with the database. ``upto``: the common position."""

    view: str
    partition: int
    difference: int
    upto: int
    wall: dt.datetime
    differing: dict[str, tuple[int, int]]


class PartitionView(Struct, frozen=True, kw_only=True):
    """A partition that this worker owns, and how far each source is folded."""

    partition: int
    positions: dict[str, int]


class Status(Struct, frozen=True, kw_only=True):
    """This worker's partitions and comparisons."""

    partitions: list[PartitionView]
    compared: list[Compared]


class Parts:
    """What the routes work with.

    Args:
        source: the runtime.
        now: business time.
    """

    def __init__(
        self, settings: Settings, source: Source, now: Callable[[], dt.datetime], reconciler: Reconciler | None = None
    ) -> None:
        self.settings = settings
        self.source = source
        self.now = now
        self.reconciler = reconciler
        self.callers = Callers(settings.internal_callers, "streams")
        self._given = None if settings.internal_token is None else settings.internal_token.get_secret_value()
        self._clients: dict[str, Client] = {}

    def client(self, url: str) -> Client:
        """The query API of another worker."""
        if url not in self._clients:
            if len(self._clients) > 1000:
                self._clients.clear()  # workers that came and went
            self._clients[url] = Client(
                url, self._given, timeout_s=self.settings.internal_timeout_s, authorities=self.settings.internal_ca
            )
        return self._clients[url]

    async def run(self, work: Callable[..., Any]) -> Any:
        """Do nothing: there is no database."""
        return None

    def close(self) -> None:
        """Do nothing: connections end with the process."""


def _parts(request: Request[Any, Any, Any]) -> Parts:
    return request.app.state.parts  # type: ignore[no-any-return]


def _no_owner() -> Refused:
    return Refused(
        503,
        "no_owner",
        "No worker owns the partition at the moment: it is being taken over.",
        cure="Try again later.",
    )


# -------------------------------------------------------------------------------------------------------------- claim


@get("/internal/streams/claim")
async def claim(request: Request[Any, Any, Any], claim: GivenId, local: Local = False) -> ClaimView:
    """A claim's items. They are on several partitions, so the other owners are asked too unless ``local``."""
    parts = _parts(request)
    found, size = await _local(parts, claim)
    asked_all = True
    if not local:
        asked_all = len({*parts.source.partitions(), *parts.source.peers()}) >= parts.settings.partitions
        answers = await asyncio.gather(
            *(_ask(parts, url, "/internal/streams/claim", ClaimView, claim=claim) for url in _others(parts))
        )
        for answer in answers:
            if answer is None:
                asked_all = False
            else:
                found.update({item.item: item for item in answer.items})
                size = max(size, answer.size)
    elif not found:
        return ClaimView(claim=claim, size=0, open=0, missing=0, items=[])
    if not found and not asked_all:
        raise _no_owner()
    if not found:
        raise Refused(404, "not_found", "No view has this claim.", cure="Check the id; a new claim takes some seconds.")
    told = [found[item] for item in sorted(found)]
    return ClaimView(
        claim=claim,
        size=size,
        open=sum(item.waits_for is not None for item in told),
        missing=size - len(told),
        items=told,
    )


async def _local(parts: Parts, claim: str) -> tuple[dict[str, ItemView], int]:
    found: dict[str, ItemView] = {}
    size = 0
    for number, item in enumerate(items_of(claim, ITEMS_MOST)):
        if number % TOGETHER == 0:
            await asyncio.sleep(0)
        state = parts.source.get("items", item)
        if isinstance(state, items.Item) and state.received:
            size = state.claim_size
            found[item] = item_view(item, state, parts.now())
        if size and number + 1 >= size:
            break
    return found, size


def item_view(item: str, state: items.Item, now: dt.datetime) -> ItemView:
    """The view of an item from its state."""
    received = at_of(state.received)
    assert received is not None
    return ItemView(
        item=item,
        state=state.state or "RECEIVED",
        revision=state.revision,
        tier=state.tier,
        right_type=state.right,
        reason=state.reason,
        received=received,
        due=at_of(state.due),
        handled=at_of(state.handled),
        sla=state.sla or None,
        paused=items.paused(state),
        taken_down=bool(state.taken),
        held=state.held,
        settled=state.settled,
        waits_for=items.where(state) if items.is_open(state) else None,
        stages=[_stage(stage, begun, done, now) for stage, begun, done in items.stages(state)],
    )


def _stage(stage: items.Stage, begun: int, done: int, now: dt.datetime) -> Stage:
    at = at_of(begun)
    assert at is not None
    took = max(done - begun, 0) / _US if done else None
    passed = (now - at).total_seconds() if took is None else took
    return Stage(stage=stage, begun=at, seconds=took, late=passed > items.BUDGETS[stage])


def _others(parts: Parts) -> Sequence[str]:
    owned = parts.source.partitions()
    return sorted({url for number, url in parts.source.peers().items() if number not in owned})


async def _ask(parts: Parts, url: str, path: str, kind: type[Any], **given: str) -> Any:
    """Another worker's answer; None if it is unavailable or has nothing."""
    try:
        return await parts.client(url).get(path, kind, {**given, "local": "true"})
    except (ServiceUnavailable, Refused) as error:
        log.warning("worker did not answer", error=str(error)[:200])
        return None


# ------------------------------------------------------------------------------------------------------------- oldest


@get("/internal/streams/oldest")
async def oldest(
    request: Request[Any, Any, Any], limit: Annotated[int, QueryParameter(ge=1, le=100)] = 10, local: Local = False
) -> OldestView:
    """The items open for longest, over all workers unless ``local``."""
    parts = _parts(request)
    owned = parts.source.partitions()
    found: list[OldItem] = []
    for partition in owned.values():
        await asyncio.sleep(0)
        told = partition.totals["items"]
        assert isinstance(told, items.Totals)
        for received, waits_for, item in told.oldest(limit):
            at = at_of(received)
            assert at is not None
            found.append(OldItem(item=item, waits_for=waits_for, received=at))
    told_of = len(owned)
    if not local:
        answers = await asyncio.gather(
            *(_ask(parts, url, "/internal/streams/oldest", OldestView, limit=str(limit)) for url in _others(parts))
        )
        for answer in answers:
            if answer is not None:
                found += answer.items
                told_of += answer.partitions
    found.sort(key=lambda one: (one.received, one.item))
    return OldestView(now=parts.now(), partitions=told_of, of=parts.settings.partitions, items=found[:limit])


# ------------------------------------------------------------------------------------------------------------ filings


@get("/internal/streams/filings")
async def filed(
    request: Request[Any, Any, Any], most: Annotated[int, QueryParameter(ge=1, le=100)] = 10, local: Local = False
) -> FilingsView:
    """The largest complainants and the concentration of filings, over all workers unless ``local``."""
    parts = _parts(request)
    now, owned = parts.now(), parts.source.partitions()
    found: list[tuple[str, int]] = []
    figures: filings.FilingFigures
    told_of, complainants, items_, squares = len(owned), 0, 0, 0
    for partition in owned.values():
        await asyncio.sleep(0)
        figures, largest = partition.look("filings", lambda told: (told.figures(now), told.largest(now, most)))
        found += largest
        complainants += sum(figures.complainants.values())
        items_ += sum(figures.items.values())
        squares += figures.squares
    if not local:
        answers = await asyncio.gather(
            *(_ask(parts, url, "/internal/streams/filings", FilingsView, most=str(most)) for url in _others(parts))
        )
        for answer in answers:
            if answer is not None:
                found += [(one.account, one.items) for one in answer.largest]
                told_of += answer.partitions
                complainants += answer.complainants
                items_ += answer.items
                squares += answer.squares
    found.sort(key=lambda one: (-one[1], one[0]))
    return FilingsView(
        now=now,
        since=concentration.since(now),
        partitions=told_of,
        of=parts.settings.partitions,
        complainants=complainants,
        items=items_,
        squares=squares,
        hhi=concentration.index(squares, items_),
        largest=[Complainant(account=account, items=count, share=count / items_) for account, count in found[:most]],
    )


# ------------------------------------------------------------------------------------------------------------- seller


@get("/internal/streams/seller")
async def seller(request: Request[Any, Any, Any], seller: GivenId, local: Local = False) -> SellerView:
    """A seller's violations and standing. A seller in no view has none."""
    parts = _parts(request)
    number = partition_of(seller, parts.settings.partitions)
    partition = parts.source.partitions().get(number)
    if partition is not None:
        state = parts.source.get("standings", seller)
        told = partition.totals["violations"]
        assert isinstance(told, sellers.Violations)
        return seller_view(seller, told.times(seller), state, parts.now())
    url = parts.source.peers().get(number)
    if local or url is None:
        raise _no_owner()
    answer = await _ask(parts, url, "/internal/streams/seller", SellerView, seller=seller)
    if answer is None:
        raise _no_owner()
    return answer  # type: ignore[no-any-return]


def seller_view(seller: str, times: Sequence[int], standing: sellers.Standing | None, now: dt.datetime) -> SellerView:
    """The view of a seller. ``times``: of its violations in force, sorted, in microseconds."""
    rules = sellers.rules()
    year = rules.within.exact
    recent = sum(at is not None and at + year > now for at in map(at_of, times))
    known = standing or sellers.Standing()
    tier = None
    for name, least, _ in bounds(rules):
        if recent >= least:
            tier = name
    return SellerView(
        seller=seller,
        violations=recent,
        violations_ever=len(times),
        tier=tier,
        first=at_of(times[0]) if times else None,
        last=at_of(times[-1]) if times else None,
        mean_interval_days=round((times[-1] - times[0]) / (len(times) - 1) / _US / 86_400, 3)
        if len(times) > 1
        else None,
        recidivist=len(times) > 1 and times[1] - times[0] < year // dt.timedelta(microseconds=1),
        general_points=known.general_points,
        serious_strikes=known.serious_strikes,
        standing_at=at_of(known.at),
        entity=known.entity or None,
        entity_points=known.entity_points,
        entity_strikes=known.entity_strikes,
        entity_violations=known.entity_violations,
        sanctions=[
            SanctionView(
                sanction=one.sanction,
                ledger=one.ledger,
                level=one.level,
                measures=one.measures,
                begins=at_of(one.begins),
                ends=at_of(one.ends),
            )
            for one in known.sanctions
            if one.in_force
        ],
    )


# ------------------------------------------------------------------------------------------------------------- status


@get("/internal/streams/status")
async def status(request: Request[Any, Any, Any]) -> Status:
    """This worker: how far its partitions are folded, and the last comparison of each with the database."""
    parts = _parts(request)
    owned = parts.source.partitions()
    found = {} if parts.reconciler is None else parts.reconciler.found
    return Status(
        partitions=[
            PartitionView(partition=number, positions=dict(partition.positions)) for number, partition in owned.items()
        ],
        compared=[
            Compared(
                view=view,
                partition=number,
                difference=one.difference,
                upto=one.upto,
                wall=dt.datetime.fromtimestamp(wall, dt.UTC),
                differing=one.differing,
            )
            for (view, number), (one, wall) in sorted(found.items())
            if number in owned
        ],
    )


ROUTES: Final = [claim, seller, oldest, filed, status]


def create(parts: Parts) -> Litestar:
    """The application."""
    return internal.create(ROUTES, lambda: parts)  # type: ignore[arg-type, return-value]
