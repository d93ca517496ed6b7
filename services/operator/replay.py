"""``goodfaith replay FILE``: the real notices through the whole system (domain.md, "The real notices as input").

The clock stands still and steps from day to day, once nothing is under way, so that every deadline falls between the
events it fell between in the world. Notices claim, counter, retract and reverse; what holders and reviewers do about
counters is a seeded model (``model.toml``).
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

import httpx
import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from services.operator import model as people
from services.operator.cli import console, errors, print_json
from services.operator.doors import Ask, Door, Http, Upstream
from services.operator.follower import Follower, Seen
from services.operator.idle import Watch
from services.operator.model import Dice, Model
from services.operator.notices import SAMPLE, Named, Notice, NoticeError, parts, read
from services.operator.up import JsonOption, StackOption, prepare_broker, running
from shared import clock, db, policy
from shared.events import State
from shared.settings import Relayed

T = TypeVar("T")
PROFILE = "dmca"
"""The notices were given under 17 U.S.C. 512."""
HELD = frozenset({"identity", "authority", "right"})
"""Elements of a claim that intake knows for itself; the others are named with it."""
UPSTREAM = "replay"
DAY = dt.timedelta(days=1)
SECOND = dt.timedelta(seconds=1)
"""A deadline passes when the clock is beyond it."""
POLL_S = 0.02
"""Between two looks at whether anything is under way: looks cost what they wait for."""
HORIZON = dt.timedelta(days=250)
"""How long after the last notice the clock goes on, so that what is open can end."""


@dataclass(slots=True)
class Report:
    """What a replay did."""

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
            "notices": self.notices, "claims": self.claims, "items": self.items, "expected_refusals": self.no_listing,
            "commands": dict(self.commands), "without_item": dict(self.without_item), "refused": self.refused,
            "steps": self.steps, "seconds": round(self.seconds, 1),
        }  # fmt: skip


Act = Callable[[], Iterator[Ask]]


class Replay:
    """One run.

    Args:
        days: between two steps of the clock; 0: it is left alone, and everything is filed at once.
        per_second: most items a second; 0 for as fast as the door takes them.
        namespace: appended to all ids, so that the same notices can be filed again on the same stack.
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
        self._http = Http(self.settings)
        self._door: Door = self._http if via == "http" else Upstream(self.settings, UPSTREAM)
        self._via = via
        self._stride = days * DAY
        self._per_second = per_second
        self._suffix = f".{namespace}" if namespace else ""
        self._model = model
        self._rules = policy.current(profile)
        self._dice = Dice(model.seed)
        self._tell = tell
        # the end of a sanction takes effect as of its own time: no stop waits for it
        self._watch = Watch(self._engine, self.settings, ignore=frozenset({"sanctions"}))
        self._follower = Follower(self.settings)
        self._agenda: list[tuple[dt.datetime, int, Act, bool]] = []
        self._filed: set[str] = set()
        self._order = itertools.count()
        self._rights: dict[tuple[str, str], str] = {}
        self._reviewer = f"reviewer{self._suffix or '.replay'}"
        # business time never goes back: where it is later than the notices, their dates are moved ahead
        self._offset = dt.timedelta()
        self._now = dt.datetime.min.replace(tzinfo=dt.UTC)
        self.report = Report()

    def close(self) -> None:
        """Close connections."""
        self._http.close()
        if self._door is not self._http:
            self._door.close()
        self._follower.close()
        self._watch.close()
        self._engine.dispose()

    # ---- preparation

    def prepare(self, notices: list[Notice]) -> None:
        """Clock, accounts, contacts, rights, and the demo marketplace's listings and sellers."""
        self._set_clock(notices)
        named = {one.url: one for notice in notices for one in notice.listings}
        sellers = {one.seller for one in named.values()}
        acting = {one.seller for notice in notices if notice.kind == "counter" for one in notice.listings}
        reachable = acting | {s for s in sellers if self._dice.roll("e-mail", s) < self._model.seller.has_email}
        accepting = {s for s in sellers if people.accepts(self._model, self._dice, self._id(s))}
        self._tell("accounts and rights")
        self._http.all(
            itertools.chain(
                # decides what the world decided, without a lease: an operator may
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

    def _seed(self, named: dict[str, Named]) -> None:
        assert self.settings.internal_token is not None
        headers = {"authorization": f"Bearer {self.settings.internal_token.get_secret_value()}"}
        listings = [
            {
                "listing": self._link(one.url).rpartition("/")[2],
                "seller": self._id(one.seller),
                "title": f"Listing {one.url.rpartition('/')[2]}",
                "ended": self._dice.roll("ended", one.url) < self._model.listings.ended,
            }
            for one in named.values()
        ]
        with httpx.Client(
            base_url=self.settings.marketplace_url, headers=headers, timeout=60, trust_env=False
        ) as client:
            for some in _chunks(listings, 5000):
                response = client.post("/seed", json=some)
                if response.status_code != 202:
                    raise StackError(f"the demo marketplace answers {response.status_code}: {response.text[:200]}")

    # ---- the run

    def run(self, notices: list[Notice], progress: Callable[[int], None]) -> Report:
        """File everything, act on it, and wait until nothing is under way."""
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
        self.report.refused = dict(self._door.refused + self._follower.refused)
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _is_new(self, notice: Notice) -> bool:
        """Whether it claims listings that no earlier notice has named: what becomes of it hangs on no other item."""
        listings = {one.url for one in notice.listings}
        new = notice.kind == "takedown" and self._filed.isdisjoint(listings)
        self._filed |= listings
        return new

    def _at(self, when: dt.datetime, act: Act, *, early: bool = False) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), act, early))

    def _file_at_once(self) -> None:
        for _, _, act, _ in sorted(self._agenda, key=lambda entry: entry[:2]):
            self._send(list(act()))

    def _days(self) -> None:
        end = max((entry[0] for entry in self._agenda), default=self._now) + HORIZON
        while True:
            when = self._next(end)
            if when is None:
                return
            if when > self._now:
                self._advance(when)
            acts: list[tuple[Act, bool]] = []
            while self._agenda and self._agenda[0][0] <= self._now:
                acts.append(heapq.heappop(self._agenda)[2:])
            # what hangs on nothing goes in while the deadlines of the day take effect, the rest when they have
            self._send([ask for act, early in acts if early for ask in act()])
            self._settle()
            asks = [ask for act, early in acts if not early for ask in act()]
            if asks:
                self._send(asks)
                self._settle()

    def _settle(self) -> None:
        """Wait until nothing is under way, and let people react to what has changed."""
        self._watch.wait(timeout_s=300, poll_s=POLL_S)
        for seen in self._follower.drain():
            self._react(seen)

    def _next(self, end: dt.datetime) -> dt.datetime | None:
        """When something happens next: on the agenda, or a deadline."""
        with self._engine.connect() as connection:
            due = connection.exec_driver_sql(
                "select min(next_due) from verification.items where next_due is not null"
            ).scalar()
        # a deadline takes effect as of its own time, however long after it the clock stops
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
            # a record's time is in whole milliseconds: one written in the anchor's own would count as before it
            time.sleep(0.002)

    def _send(self, asks: list[Ask]) -> None:
        for some in _chunks(asks, 500):
            begun = time.monotonic()
            self._door.send(some)
            self.report.commands.update(ask.kind for ask in some)
            if self._per_second:
                items = sum(len(ask.body.get("listings", ())) or 1 for ask in some)
                time.sleep(max(items / self._per_second - (time.monotonic() - begun), 0))

    # ---- notices

    def _notice(self, notice: Notice, limit: int, progress: Callable[[int], None]) -> Act:
        def act() -> Iterator[Ask]:
            self.report.notices += 1
            progress(1)
            if notice.kind == "takedown":
                yield from self._takedown(notice, limit)
            else:
                yield from self._about_items(notice)

        return act

    def _takedown(self, notice: Notice, limit: int) -> Iterator[Ask]:
        if not notice.listings:
            # nothing to act on: the door would refuse it
            self.report.no_listing += 1
            return
        complainant = self._id(notice.complainant)
        reason = people.reason(self._model, self._dice, notice.notice)
        right = self._right(complainant)
        for number, part in enumerate(parts(notice, limit)):
            self.report.claims += 1
            self.report.items += len(part)
            body = {
                "right": right,
                "reason": reason,
                "listings": [self._link(one.url) for one in part],
                "profile": self._rules.profile,
                "materials": [kind for kind in self._rules.claim.required if kind not in HELD],
            }
            yield Ask("submit_claim", complainant, f"{notice.notice}.{number}{self._suffix}", body)

    def _right(self, complainant: str) -> str:
        key = (complainant, "copyright")
        if key not in self._rights:
            body = {"right_type": "copyright", "proof": f"work-{complainant}"[:120]}
            self._rights[key] = self._http.all([self._http.register_right(complainant, body)])[0]
        return self._rights[key]

    def _about_items(self, notice: Notice) -> Iterator[Ask]:
        """Counters, retractions and reversals: on the latest item of the same complainant and listing."""
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
                yield Ask("counter", self._id(one.seller), key, body, seen.item)
            elif notice.kind == "reversal" and seen.state is State.PLATFORM_REVIEW:
                yield Ask("decide", self._reviewer, key, {"decision": "restore"}, seen.item)
            else:
                # a reversal that is no pending decision is the holder's error as well
                yield Ask("withdraw", complainant, key, {"ground": "error"}, seen.item)

    # ---- people

    def _react(self, seen: Seen) -> None:
        """Put on the agenda what people will do about an item's new state."""
        item = seen.item
        if seen.state is State.NOTIFIED and seen.seller in self._http.tokens:
            days = people.seller_accepts(self._model, self._dice, seen.seller or "", item)
            if days is not None:
                self._plan(days, Ask("accept", seen.seller or "", f"accept.{item}", {}, item), State.NOTIFIED)
        elif seen.state is State.HOLDER_RESPONSE:
            answer = people.holder_answers(self._model, self._dice, item, seen.round)
            if answer is not None:
                what, days = answer
                key = f"answer.{item}.{seen.round}"
                if what == "action":
                    ask = Ask("report_action", seen.complainant, key, {"proof": f"court-{item}"[:120]}, item)
                else:
                    ask = Ask("respond", seen.complainant, key, {"accept": what == "accept"}, item)
                self._plan(days, ask, State.HOLDER_RESPONSE)
        elif seen.state is State.PLATFORM_REVIEW:
            restore, days = people.reviewer_restores(self._model, self._dice, item, seen.round)
            body = {"decision": "restore" if restore else "uphold"}
            self._plan(
                days, Ask("decide", self._reviewer, f"decide.{item}.{seen.round}", body, item), State.PLATFORM_REVIEW
            )
        elif seen.state is State.LITIGATION:
            outcome, days = people.court_decides(self._model, self._dice, item)
            body = {"outcome": outcome, "proof": f"judgment-{item}"[:120]}
            self._plan(days, Ask("report_result", seen.complainant, f"court.{item}", body, item), State.LITIGATION)

    def _plan(self, days: int, ask: Ask, while_: State) -> None:
        def act() -> Iterator[Ask]:
            # people who find the matter settled do nothing
            seen = self._follower.items[ask.item or ""]
            if seen.state is while_:
                yield ask

        # at noon of a day: the fewer moments, the fewer steps
        self._at(self._now.replace(hour=9, minute=0, second=0, microsecond=0) + max(days, 1) * DAY, act)


_DEAF = frozenset({State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.REJECTED, State.WITHDRAWN})
"""States in which the notices' later commands have nothing to act on."""


def _chunks(things: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]


def _contact(name: str) -> tuple[str, str, str]:
    return f"Party {name}", f"{name}, 1 Example Street", f"{name}@party.example"


def upstream_ready(stack: Stack, counts: Mapping[str, int] | None = None) -> None:
    """Give the stack an upstream for replays, bound to an account of its own, and start its door (``counts``: as in ``up``)."""
    settings = fleet.settings_of(stack, secret=True)
    if UPSTREAM in settings.upstreams:
        return
    if not stack.ours:
        raise StackError(f"an upstream {UPSTREAM!r} is missing in GOODFAITH_UPSTREAMS: it is made on local stacks only")
    http = Http(settings)
    account = f"upstream.{UPSTREAM}"
    try:
        http.all([http.open_account("upstream", account, None)])
    finally:
        http.close()
    upstreams = msgspec.json.encode({**settings.upstreams, UPSTREAM: account}).decode()
    may = {name: bound.model_dump() for name, bound in settings.upstream_may.items()}
    # it plays all of the notices' parties, and their reviewer
    may[UPSTREAM] = {"accounts": ["*"], "commands": get_args(Relayed)}
    stack.environment(GOODFAITH_UPSTREAMS=upstreams, GOODFAITH_UPSTREAM_MAY=msgspec.json.encode(may).decode())
    prepare_broker(stack)
    # every process that looks at the upstreams starts anew with them
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
) -> Report:
    """Replay notices on a running stack, with a progress bar.

    Raises:
        StackError: the stack has seen these notices already, or a part does not answer.
        TimeoutError: something stays under way.
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
    via: Annotated[str, typer.Option(help="Door: http or kafka.")] = "http",
    rate: Annotated[float, typer.Option(min=0, help="Most items a second; 0: as fast as the door takes them.")] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first notices of the file.")] = None,
    step: Annotated[bool, typer.Option(help="Step the clock with the notices, so that deadlines pass.")] = True,
    days: Annotated[int, typer.Option(min=1, help="Days between two steps: the more, the faster.")] = 1,
    namespace: Annotated[
        str, typer.Option(help="Appended to all ids: the same notices once more on the same stack.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Seed of the people's model (default: its file's).")] = None,
    profile: Annotated[
        str, typer.Option(help="Policy profile that the notices are filed under: one that takes copyright claims.")
    ] = PROFILE,
    json: JsonOption = False,
) -> None:
    """File real notices, act on them as their parties did, and wait until all is handled."""
    if via not in ("http", "kafka"):
        raise StackError(f"--via takes http or kafka, not {via!r}")
    if profile not in policy.profiles():
        raise StackError(f"--profile takes one of {', '.join(policy.profiles())}, not {profile!r}")
    try:
        notices = list(read(file, limit))
    except NoticeError as error:
        raise StackError(str(error)) from None
    if not notices:
        raise StackError(f"{file.name}: no notices in it")
    report = execute(
        running(stack), notices, via=via, days=days if step else 0, per_second=rate, namespace=namespace, seed=seed, profile=profile, quiet=json  # type: ignore[arg-type]
    )  # fmt: skip
    if json:
        print_json(report.json())
    else:
        console.print(report.json())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)
