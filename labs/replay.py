"""`goodfaith lab replay FILE`: real notices through the whole system (docs/explanation/domain.md).

Business time stands still and is stepped when the system is idle, so that every deadline falls between the same events
as in reality. Notices claim, counter, retract and reverse; what holders and reviewers do about counters is a seeded
model (``model.toml``).
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.local import fleet
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.local.up import StackOption, prepare_broker, running
from labs import model as people
from labs.clients import Channel, HttpClient, Request, UpstreamClient, seed
from labs.follower import Follower, ItemState
from labs.model import Dice, Model
from labs.notices import SAMPLE, NamedListing, Notice, parts, read
from services.ops.idle import Watch
from services.ops.terminal import JsonOption, console, errors, print_json
from shared import clock, db, policy
from shared.events import State
from shared.failures import CommandError
from shared.settings import Relayed

T = TypeVar("T")
PROFILE = "dmca"
"""The notices were given under 17 U.S.C. 512."""
HELD = frozenset({"identity", "authority", "right"})
"""Elements of a claim that intake knows; the others are named in the claim."""
UPSTREAM = "replay"
DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)
"""A deadline passes when business time is beyond it."""
POLL_S = 0.02
"""Seconds between two checks whether the system is idle. A check takes CPU from the work that it waits for."""
HORIZON = dt.timedelta(days=250)
"""How long business time goes on after the last notice, so that open items can end."""


@dataclass(slots=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        notices: Notices read.
        claims: Claims filed.
        items: Items filed.
        no_listing: Takedown notices without a listing, which are not filed.
        commands: Requests sent, by kind.
        without_item: Counters, retractions and reversals that no item matches, by kind.
        refused: Refusals by code.
        steps: Steps of business time.
        seconds: Wall time.
    """

    notices: int = 0
    claims: int = 0
    items: int = 0
    no_listing: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    without_item: Counter[str] = field(default_factory=Counter)
    refused: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "notices": self.notices,
            "claims": self.claims,
            "items": self.items,
            "expected_refusals": self.no_listing,
            "commands": dict(self.commands),
            "without_item": dict(self.without_item),
            "refused": self.refused,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
        }


Action = Callable[[], Iterator[Request]]


class Replay:
    """One replay.

    Args:
        stack: A running stack.
        via: How requests are submitted: by HTTP, or by an upstream's topic.
        days: Days between two steps of business time; 0: the clock is left alone, and everything is filed at once.
        per_second: The most items a second; 0: as fast as intake accepts them.
        namespace: Appended to all ids, so that the same notices can be filed again on the same stack.
        model: What people do.
        profile: The policy profile to file under.
        tell: Called with what is being done.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        via: Literal["http", "kafka"],
        days: int,
        per_second: float,
        namespace: str,
        model: Model,
        profile: str = PROFILE,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._stack = stack
        self.settings = fleet.settings_of(stack, secret=True)
        self._engine = db.administer(stack.admin_url)
        self._http = HttpClient(self.settings)
        self._channel: Channel = self._http if via == "http" else UpstreamClient(self.settings, UPSTREAM)
        self._via = via
        self._stride = days * DAY
        self._per_second = per_second
        self._suffix = f".{namespace}" if namespace else ""
        self._model = model
        self._rules = policy.current(profile)
        self._dice = Dice(model.seed)
        self._tell = tell
        # the end of a sanction takes effect at its own time, so no step waits for it
        self._watch = Watch(self._engine, self.settings, ignore=frozenset({"sanctions"}))
        self._follower = Follower(self.settings)
        self._agenda: list[tuple[dt.datetime, int, Action, bool]] = []
        self._filed: set[str] = set()
        self._order = itertools.count()
        self._rights: dict[str, str] = {}
        self._reviewer = f"reviewer{self._suffix or '.replay'}"
        self._offset = dt.timedelta()
        self._now = dt.datetime.min.replace(tzinfo=dt.UTC)
        self.report = ReplayReport()

    def close(self) -> None:
        """Close connections."""
        self._http.close()
        if self._channel is not self._http:
            self._channel.close()
        self._follower.close()
        self._watch.close()
        self._engine.dispose()

    # ---- preparation

    def prepare(self, notices: list[Notice]) -> None:
        """Set the clock, open accounts, register rights, and put listings and sellers into the demo marketplace."""
        self._set_clock(notices)
        named = {one.url: one for notice in notices for one in notice.listings}
        sellers = {one.seller for one in named.values()}
        acting = {one.seller for notice in notices if notice.kind == "counter" for one in notice.listings}
        reachable = acting | {s for s in sellers if self._dice.roll("e-mail", s) < self._model.seller.has_email}
        accepting = {s for s in sellers if people.accepts(self._model, self._dice, self._id(s))}
        self._tell("accounts and rights")
        self._http.all(
            itertools.chain(
                # makes the decisions of the notices, without a lease, as operators may
                [self._http.open_account("operator", self._reviewer, None)],
                (
                    self._http.open_account("holder", self._id(c), _contact(c))
                    for c in sorted({notice.complainant for notice in notices})
                ),
                (
                    self._http.open_account("seller", self._id(s), _contact(s) if s in reachable else None)
                    for s in sorted(reachable | accepting)
                ),
            )
        )
        claiming = sorted({self._id(n.complainant) for n in notices if n.kind == "takedown" and n.listings})
        works = ({"right_type": "copyright", "proof": f"work-{owner}"[:120]} for owner in claiming)
        rights = self._http.all(map(self._http.register_right, claiming, works))
        self._rights = dict(zip(claiming, rights, strict=True))
        self._tell(f"{len(named)} listings to the demo marketplace")
        self._seed(named)
        self._watch.wait(timeout_s=300)

    def _set_clock(self, notices: list[Notice]) -> None:
        first = dt.datetime.combine(min(n.date for n in notices), dt.time(9), dt.UTC)
        with self._engine.begin() as connection:
            if self._stride:
                clock.set_anchor(connection, business=None, rate=0)
            now, _ = clock.read(connection)
        self._now = now
        # business time never goes back: where it is later than the notices, their dates are moved ahead
        self._offset = dt.timedelta(days=max((now - first).days + 1, 0)) if now > first else dt.timedelta()

    def _id(self, name: str) -> str:
        return name + self._suffix

    def _link(self, url: str) -> str:
        return url + self._suffix

    def _seed(self, named: dict[str, NamedListing]) -> None:
        listings = (
            {
                "listing": self._link(one.url).rpartition("/")[2],
                "seller": self._id(one.seller),
                "title": f"Listing {one.url.rpartition('/')[2]}",
                "ended": self._dice.roll("ended", one.url) < self._model.listings.ended,
            }
            for one in named.values()
        )
        seed(self.settings, listings)

    # ---- the run

    def run(self, notices: list[Notice], progress: Callable[[int], None]) -> ReplayReport:
        """File everything, act on it, and wait until nothing is in progress; `progress` is called with each notice."""
        begun = time.monotonic()
        limit = self._rules.claim.max_items
        for notice in notices:
            when = dt.datetime.combine(notice.date, dt.time(9), dt.UTC) + self._offset
            self._at(when, self._notice(notice, limit, progress), early=self._is_new(notice))
        if not self._stride:
            self._file_at_once()
        else:
            self._days()
        self._watch.wait(timeout_s=600)
        self._follower.drain()
        self.report.refused = dict(self._channel.refused + self._follower.refused)
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _is_new(self, notice: Notice) -> bool:
        """Whether it claims only listings that no earlier notice has named: its result depends on no other item."""
        listings = {one.url for one in notice.listings}
        new = notice.kind == "takedown" and self._filed.isdisjoint(listings)
        self._filed |= listings
        return new

    def _at(self, when: dt.datetime, action: Action, *, early: bool = False) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action, early))

    def _file_at_once(self) -> None:
        for _, _, action, _ in sorted(self._agenda, key=lambda entry: entry[:2]):
            self._send(list(action()))

    def _days(self) -> None:
        end = max((entry[0] for entry in self._agenda), default=self._now) + HORIZON
        while True:
            when = self._next(end)
            if when is None:
                return
            if when > self._now:
                self._advance(when)
            actions: list[tuple[Action, bool]] = []
            while self._agenda and self._agenda[0][0] <= self._now:
                actions.append(heapq.heappop(self._agenda)[2:])
            # independent claims are filed while deadlines take effect, the rest afterwards
            self._send([request for action, early in actions if early for request in action()])
            self._settle()
            requests = [request for action, early in actions if not early for request in action()]
            if requests:
                self._send(requests)
                self._settle()

    def _settle(self) -> None:
        """Wait until nothing is in progress, and let people react to changes."""
        self._watch.wait(timeout_s=300, poll_s=POLL_S)
        for seen in self._follower.drain():
            self._react(seen)

    def _next(self, end: dt.datetime) -> dt.datetime | None:
        """Where business time is stepped to: a stride from the next entry of the agenda or the next deadline."""
        with self._engine.connect() as connection:
            due = connection.exec_driver_sql(
                "select min(next_due) from verification.items where next_due is not null"
            ).scalar()
        # a deadline takes effect at its own time, whenever the step that passes it ends
        candidates = [self._agenda[0][0]] if self._agenda else []
        if due is not None:
            candidates.append(max(due + SECOND, self._now + DAY))
        when = min(candidates, default=None)
        return when + self._stride - DAY if when is not None and when <= end else None

    def _advance(self, when: dt.datetime) -> None:
        with self._engine.begin() as connection:
            self._now = clock.set_anchor(connection, business=when, rate=0).business
        self.report.steps += 1
        if self._via == "kafka":
            # a record's time is in whole milliseconds: one from the anchor's millisecond would count as earlier
            time.sleep(0.002)

    def _send(self, requests: list[Request]) -> None:
        for some in _chunks(requests, 500):
            begun = time.monotonic()
            self._channel.send(some)
            self.report.commands.update(request.kind for request in some)
            if self._per_second:
                items = sum(len(request.body.get("listings", ())) or 1 for request in some)
                time.sleep(max(items / self._per_second - (time.monotonic() - begun), 0))

    # ---- notices

    def _notice(self, notice: Notice, limit: int, progress: Callable[[int], None]) -> Action:
        def action() -> Iterator[Request]:
            self.report.notices += 1
            progress(1)
            if notice.kind == "takedown":
                yield from self._takedown(notice, limit)
            else:
                yield from self._about_items(notice)

        return action

    def _takedown(self, notice: Notice, limit: int) -> Iterator[Request]:
        if not notice.listings:
            # intake would refuse it
            self.report.no_listing += 1
            return
        complainant = self._id(notice.complainant)
        reason = people.reason(self._model, self._dice, notice.notice)
        for number, part in enumerate(parts(notice, limit)):
            self.report.claims += 1
            self.report.items += len(part)
            body = {
                "right": self._rights[complainant],
                "reason": reason,
                "listings": [self._link(one.url) for one in part],
                "profile": self._rules.profile,
                "materials": [kind for kind in self._rules.claim.required if kind not in HELD],
            }
            yield Request("submit_claim", complainant, f"{notice.notice}.{number}{self._suffix}", body)

    def _about_items(self, notice: Notice) -> Iterator[Request]:
        """Counters, retractions and reversals, about the latest item of the same complainant and listing."""
        complainant = self._id(notice.complainant)
        for one in notice.listings:
            listing = self._link(one.url).rpartition("/")[2]
            items = [self._follower.items[name] for name in self._follower.by_pair.get((complainant, listing), ())]
            alive = [seen for seen in items if seen.state not in _DEAF]
            if not alive:
                self.report.without_item[notice.kind] += 1
                continue
            seen = alive[-1]
            key = f"{notice.notice}.{seen.item}"
            if notice.kind == "counter":
                body: dict[str, Any] = {"materials": list(self._rules.counter.required)}
                yield Request("counter", self._id(one.seller), key, body, seen.item)
            elif notice.kind == "reversal" and seen.state is State.PLATFORM_REVIEW:
                yield Request("decide", self._reviewer, key, {"decision": "restore"}, seen.item)
            else:
                # a reversal without a pending decision counts as the holder's error
                yield Request("withdraw", complainant, key, {"ground": "error"}, seen.item)

    # ---- people

    def _react(self, seen: ItemState) -> None:
        """Put on the agenda what people do about an item's new state."""
        item = seen.item
        if seen.state is State.NOTIFIED and seen.seller in self._http.tokens:
            days = people.seller_accepts(self._model, self._dice, seen.seller or "", item)
            if days is not None:
                self._plan(days, Request("accept", seen.seller or "", f"accept.{item}", {}, item), State.NOTIFIED)
        elif seen.state is State.HOLDER_RESPONSE:
            answer = people.holder_answers(self._model, self._dice, item, seen.round)
            if answer is not None:
                what, days = answer
                key = f"answer.{item}.{seen.round}"
                if what == "action":
                    request = Request("report_action", seen.complainant, key, {"proof": f"court-{item}"[:120]}, item)
                else:
                    request = Request("respond", seen.complainant, key, {"accept": what == "accept"}, item)
                self._plan(days, request, State.HOLDER_RESPONSE)
        elif seen.state is State.PLATFORM_REVIEW:
            restore, days = people.reviewer_restores(self._model, self._dice, item, seen.round)
            body = {"decision": "restore" if restore else "uphold"}
            self._plan(
                days,
                Request("decide", self._reviewer, f"decide.{item}.{seen.round}", body, item),
                State.PLATFORM_REVIEW,
            )
        elif seen.state is State.LITIGATION:
            outcome, days = people.court_decides(self._model, self._dice, item)
            body = {"outcome": outcome, "proof": f"judgment-{item}"[:120]}
            self._plan(days, Request("report_result", seen.complainant, f"court.{item}", body, item), State.LITIGATION)

    def _plan(self, days: int, request: Request, while_: State) -> None:
        def action() -> Iterator[Request]:
            # people do nothing if the state has changed meanwhile
            seen = self._follower.items[request.item or ""]
            if seen.state is while_:
                yield request

        # at the same time of the day as notices: the fewer moments, the fewer steps
        self._at(self._now.replace(hour=9, minute=0, second=0, microsecond=0) + max(days, 1) * DAY, action)


_DEAF = frozenset({State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.REJECTED, State.WITHDRAWN})
"""States in which later notices cannot act on an item."""


def _chunks(things: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]


def _contact(name: str) -> tuple[str, str, str]:
    return f"Party {name}", f"{name}, 1 Example Street", f"{name}@party.example"


def upstream_ready(stack: Stack, counts: Mapping[str, int] | None = None) -> None:
    """Give the stack an upstream for replays, bound to its own account, and start `intake-inbound`.

    Args:
        stack: A running local stack.
        counts: Number of instances, as in ``bring_up``.

    Raises:
        CommandError: the upstream is missing, and the stack is not a local one.
    """
    settings = fleet.settings_of(stack, secret=True)
    if UPSTREAM in settings.upstreams:
        return
    if not stack.ours:
        raise CommandError(f"GOODFAITH_UPSTREAMS lacks an upstream {UPSTREAM!r}, which is created on local stacks only")
    http = HttpClient(settings)
    account = f"upstream.{UPSTREAM}"
    try:
        http.all([http.open_account("upstream", account, None)])
    finally:
        http.close()
    upstreams = msgspec.json.encode({**settings.upstreams, UPSTREAM: account}).decode()
    may = {name: bound.model_dump() for name, bound in settings.upstream_may.items()}
    # the upstream acts for all parties of the notices, and for the reviewer
    may[UPSTREAM] = {"accounts": ["*"], "commands": get_args(Relayed)}
    stack.environment(GOODFAITH_UPSTREAMS=upstreams, GOODFAITH_UPSTREAM_MAY=msgspec.json.encode(may).decode())
    prepare_broker(stack)
    # restart the processes that read the list of upstreams
    processes = Fleet.load(stack)
    for name in ("intake-api.0", "intake-worker.0"):
        processes[name].terminate()
    Fleet.start(stack, counts).wait_ready()


def execute(
    stack: Stack,
    notices: list[Notice],
    *,
    via: Literal["http", "kafka"] = "http",
    days: int = 1,
    per_second: float = 0.0,
    namespace: str = "",
    seed: int | None = None,
    profile: str = PROFILE,
    quiet: bool = False,
) -> ReplayReport:
    """Replay notices on a running stack, with a progress bar unless `quiet`.

    The other arguments are those of ``Replay``; `seed` replaces the model's.

    Raises:
        StackError: these notices were replayed on the stack before, or a part does not answer.
        TimeoutError: work stays in progress.
    """
    model = people.load()
    if seed is not None:
        model = msgspec.structs.replace(model, seed=seed)
    if via == "kafka":
        upstream_ready(stack)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=quiet) as progress:
        task = progress.add_task("preparing", total=len(notices))
        replay = Replay(
            stack,
            via=via,
            days=days,
            per_second=per_second,
            namespace=namespace,
            model=model,
            profile=profile,
            tell=lambda text: progress.update(task, description=text),
        )
        try:
            replay.prepare(notices)
            progress.update(task, description="notices")
            return replay.run(notices, lambda count: progress.advance(task, count))
        finally:
            replay.close()


def replay(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Notices: JSON Lines, plain or .gz.")
    ] = SAMPLE,
    stack: StackOption = "default",
    via: Annotated[str, typer.Option(help="How to submit requests: http or kafka.")] = "http",
    rate: Annotated[
        float, typer.Option(min=0, help="The most items a second; 0: as fast as intake accepts them.")
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Replay only this many notices.")] = None,
    days: Annotated[int, typer.Option(min=1, help="Days between two steps of the clock: the more, the faster.")] = 1,
    step: Annotated[
        bool, typer.Option(help="Step the clock, so that deadlines pass; else file everything at once.")
    ] = True,
    namespace: Annotated[
        str, typer.Option(help="Appended to all ids, to replay the same notices again on the same stack.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(help="Seed of the model of people. Default: that of labs/model.toml.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Policy profile to file under; it must accept copyright claims.")
    ] = PROFILE,
    json: JsonOption = False,
) -> None:
    """File real notices, act on them as their parties did, and wait until everything is handled."""
    if via not in ("http", "kafka"):
        raise CommandError(f"--via takes http or kafka, not {via!r}")
    if profile not in policy.profiles():
        raise CommandError(f"--profile takes one of {', '.join(policy.profiles())}, not {profile!r}")
    notices = list(read(file, limit))
    if not notices:
        raise CommandError(f"{file.name} has no notices")
    report = execute(
        running(stack),
        notices,
        via=via,  # type: ignore[arg-type]
        days=days if step else 0,
        per_second=rate,
        namespace=namespace,
        seed=seed,
        profile=profile,
        quiet=json,
    )
    if json:
        print_json(report.json())
    else:
        console.print(report.json())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)
