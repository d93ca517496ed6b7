"""A steady load, the record of what was acknowledged, kept outside, and kills with SIGKILL at random: of `goodfaith faults`.

What was filed and acknowledged is written down here, outside the system. At the end everything runs again and comes to
rest; then `verify` must find nothing, and what was acknowledged must be stored, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, get_args

import httpx
import msgspec
import sqlalchemy as sa
from kafka.errors import KafkaError

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from labs.clients import PATHS, Ask, Http
from services.ops.idle import Watch
from services.ops.verify.verify import Report, verify_stack
from shared import clock, db, kafka_links, policy, topics
from shared.callers import trust
from shared.settings import Relayed

UPSTREAM: Final = "faults"
ACCOUNT: Final = f"upstream.{UPSTREAM}"
ENVIRONMENT: Final = {
    "GOODFAITH_UPSTREAMS": msgspec.json.encode({UPSTREAM: ACCOUNT}).decode(),
    # it plays all parties of the load
    "GOODFAITH_UPSTREAM_MAY": msgspec.json.encode(
        {UPSTREAM: {"accounts": ["*"], "commands": get_args(Relayed)}}
    ).decode(),
    "GOODFAITH_COLLECT_S": "0.5",
    # a killed member's partitions are given away after this; a run is to see many of these in little time
    "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
    "GOODFAITH_RETRY_MAX_S": "2",
    # what a killed sender had in hand is sent by another after this
    "GOODFAITH_SEND_LEASE_S": "8",
}
PARTS: Final = ("broker", "database")
SPARED: Final = frozenset({"mailbox"})
"""Not ours: it stands for the world's mail servers."""
READY_S: Final = 300.0
SEED_AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0, 0.0)
HOLDERS: Final = 24
SELLERS: Final = 200
REASONS: Final = ("copied_image_or_text", "unauthorised_work_on_product", "pirated_product")
DOWN_MOST: Final = 2
"""So many are down at a time; and what has just recovered is left alone twice as long as that took: work is to be done
between the kills, also on a slow machine."""
STEP_S: Final = 10.0
"""Every so many seconds business time goes a day ahead, so that deadlines pass amid the kills."""
IN_FLIGHT: Final = 200
GIVE_UP_S: Final = 300.0
UNKNOWN_AGAIN_S: Final = 4.0
"""A seller is party to an item once verification has looked the listing up: until then asked again, so many times."""
UNKNOWN_TRIES: Final = 10
DAY: Final = dt.timedelta(days=1)
CLOSE_S: Final = 2.0
"""So close to the seller's deadline, before and after it, come the counters of those who wait for it."""
LOOK_S: Final = 3.0
REACH: Final = dt.timedelta(seconds=STEP_S)


# -------------------------------------------------------------------------------------------------------- the outside


class Moment(NamedTuple):
    """Business time at a moment of our own clock (monotonic)."""

    business: dt.datetime
    at: float


class Close(NamedTuple):
    """A counter close to its deadline: what the seller was shown, and what it was answered."""

    item: str
    command: str
    due: dt.datetime
    accepted_at: dt.datetime

    @property
    def in_time(self) -> bool:
        """By right."""
        return self.accepted_at <= self.due


class Step(NamedTuple):
    """A change of an item in verification's log, oldest first."""

    at: dt.datetime
    states: tuple[str | None, ...]
    """The state before, those passed through, the new one."""
    command: str | None


def submission(account: str, key: str) -> str:
    """How a submission is named where it is lost."""
    return f"submission {account} {key}"


def close_call(call: Close, history: Sequence[Step]) -> str | None:
    """What is wrong with the end of a counter close to its deadline: in time it beats the default, later it does not."""
    name = f"counter {call.command} of {call.item}, accepted at {call.accepted_at.isoformat()}, due at {call.due.isoformat()}"
    own = next((step for step in history if step.command == call.command), None)
    if call.in_time:
        if own is None:
            return f"{name}, in time: not applied"
        # where the default had fired already, it is undone
        return None if "NOTIFIED" in own.states[:-1] else f"{name}, in time: lost to the default"
    before = history if own is None else history[: history.index(own)]
    if any(step.at == call.due and "UPHELD_BY_DEFAULT" in step.states[1:] for step in before):
        return None
    return f"{name}, too late: the default did not fire before it"


@dataclass(slots=True)
class Record:
    """What was filed and acknowledged, kept outside the system.

    Attributes:
        answers: (submission's account, key) -> resource, once acknowledged; None: by an upstream's topic.
        items: item id -> listing, as answers named them.
        named: listing -> how many acknowledged claims named it.
        asked: (item, kind) -> acknowledged commands.
        close: counters that came close to their deadlines.
    """

    answers: dict[tuple[str, str], str | None] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    named: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    close: list[Close] = field(default_factory=list)
    claims: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    contradictions: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim to be filed."""

    ask: Ask
    listings: tuple[str, ...]


class Plan:
    """What is filed, from a seed: mostly small claims, some of listings that were claimed before, a few dead links.

    Args:
        pace: Of what the parties wait before they act; 1: up to half a minute.
    """

    def __init__(self, items: int, seed: int, namespace: str, *, pace: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._pace = pace
        self.items = items
        self.ns = namespace
        self.holders = [f"h-{namespace}-{number}" for number in range(HOLDERS)]
        self.sellers = [f"s-{namespace}-{number}" for number in range(min(SELLERS, max(items // 20, 5)))]
        self.reviewer = f"r-{namespace}"
        self.rights: dict[str, str] = {}

    def seller(self, listing: str) -> str:
        """Whose listing it is."""
        return self.sellers[int(listing.rpartition("-")[2]) % len(self.sellers)]

    def listings(self) -> Iterator[str]:
        """All listings that are on the site."""
        return (f"{self.ns}-{number}" for number in range(self.items))

    def claims(self) -> Iterator[Claim]:
        """Claims until all items are filed."""
        dice = self._random
        fresh = 0
        left = self.items
        for number in itertools.count():
            if left <= 0:
                return
            roll = dice.random()
            span = (1, 1) if roll < 0.70 else (2, 5) if roll < 0.90 else (6, 20) if roll < 0.98 else (21, 50)
            size = min(dice.randint(*span), left)
            left -= size
            chosen: dict[str, None] = {}
            while len(chosen) < size:
                roll = dice.random()
                if roll < 0.05 and fresh > 10 * size:
                    chosen[f"{self.ns}-{dice.randrange(fresh)}"] = None
                elif roll < 0.06:
                    chosen[f"{self.ns}-gone-{number}x{len(chosen)}"] = None
                else:
                    chosen[f"{self.ns}-{fresh}"] = None
                    fresh += 1
            holder = dice.choice(self.holders)
            body = {
                "right": self.rights[holder],
                "reason": dice.choice(REASONS),
                "listings": [f"https://market.example/items/{listing}" for listing in chosen],
            }
            yield Claim(Ask("submit_claim", holder, f"{self.ns}.{number}", body), tuple(chosen))

    def about(self, claim: Claim, item: str, listing: str) -> list[tuple[float, Ask]]:
        """What the parties will do about an item: (seconds from now, request)."""
        dice = self._random
        roll = dice.random()
        soon = dice.uniform(1.0, 15.0) * self._pace
        if roll < 0.03:
            ground = dice.choice(("error", "settled", "licensed"))
            return [(soon, Ask("withdraw", claim.ask.by, f"w.{item}", {"ground": ground}, item))]
        if "-gone-" in listing:
            return []
        seller = self.seller(listing)
        if roll < 0.08:
            return [(soon, Ask("accept", seller, f"a.{item}", {}, item))]
        materials = list(policy.current("ipp").counter.required)
        if 0.16 <= roll < 0.30:
            # waits for the last moment: looks when that is, and counters then
            return [(LOOK_S, Ask("look", seller, f"z.{item}", {"materials": materials}, item))]
        if roll >= 0.16:
            return []
        acts = [(soon, Ask("counter", seller, f"c.{item}", {"materials": materials}, item))]
        answer = dice.random()
        if answer < 0.7:
            later = soon + dice.uniform(5.0, 20.0) * self._pace
            acts.append((later, Ask("respond", claim.ask.by, f"r.{item}", {"accept": answer < 0.3}, item)))
            if answer >= 0.3:
                decision = {"decision": dice.choice(("restore", "uphold"))}
                acts.append((later + 10.0 * self._pace, Ask("decide", self.reviewer, f"d.{item}", decision, item)))
        return acts


class Submitter:
    """Files the plan at a steady pace; asks again, with the same key, until it is answered.

    Attributes:
        rate: Items filed a second; may be changed while it runs, 0 for a pause.
        busy: Whether something was asked and not answered, or is to be asked.
        enough: Set it to end the plan early: what was asked is still answered.
        ended: Whether all is answered, or it has failed.
        most: Most requests that were outstanding at a time.
    """

    def __init__(
        self, plan: Plan, settings: Any, tokens: dict[str, str], *, rate: float, step: Callable[[], Moment | None]
    ) -> None:
        self._plan = plan
        self.rate = rate
        self._tokens = tokens
        self._step = step
        self._dice = random.Random(len(tokens))
        self.record = Record()
        self.filed = 0
        self.enough = False
        self.ended = False
        self.most = 0
        self._agenda: list[tuple[float, int, Ask]] = []
        self._aims: list[tuple[dt.datetime, Ask]] = []
        self._due: dict[str, dt.datetime] = {}
        self._moment: Moment | None = None
        self._unknown: Counter[str] = Counter()
        self._order = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(
            base_url=settings.intake_url,
            verify=trust(settings.intake_url, settings.internal_ca),
            timeout=15,
            trust_env=False,
            limits=httpx.Limits(max_connections=32),
        )
        self._topic = settings.topic_prefix + topics.inbound(UPSTREAM).name
        self._producer: Any = kafka_links.producer(
            settings,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            delivery_timeout_ms=int(GIVE_UP_S * 1000),
            reconnect_backoff_max_ms=1_000,
            max_block_ms=20_000,
        )

    async def run(self, progress: Callable[[int], None]) -> None:
        """File everything; returns when all is answered.

        Raises:
            StackError: something was not answered for minutes.
        """
        try:
            await self._run(progress)
        finally:
            self.ended = True
            await self._http.aclose()
            await asyncio.to_thread(self._producer.close, 5)

    async def _run(self, progress: Callable[[int], None]) -> None:
        begun = stepped = time.monotonic()
        allowance = 0.0
        claims = self._plan.claims()
        claim = next(claims, None)
        self._moment = await asyncio.to_thread(self._step)
        while claim is not None or self._agenda or self._tasks or self._one_is_to_come:
            now = time.monotonic()
            if self.enough:
                claim = None
            # what intake could not take is made up for slowly, not in one burst
            allowance = min(allowance + (now - begun) * self.rate, self.rate)
            begun = now
            while claim is not None and allowance > 0 and len(self._tasks) < IN_FLIGHT:
                allowance -= len(claim.listings)
                self._start(self._file(claim))
                self.filed += len(claim.listings)
                progress(len(claim.listings))
                claim = next(claims, None)
            while self._agenda and self._agenda[0][0] <= now and len(self._tasks) < IN_FLIGHT:
                self._start(self._ask(heapq.heappop(self._agenda)[2]))
            self.most = max(self.most, len(self._tasks))
            if now - stepped > STEP_S:
                stepped = now
                self._aim(await asyncio.to_thread(self._step))
            await asyncio.sleep(0.02)

    @property
    def _one_is_to_come(self) -> bool:
        """Whether no counter has come close to its deadline yet, and one will."""
        return bool(self._aims) and not self.record.close

    def _aim(self, moment: Moment | None) -> None:
        """Put counters on the agenda whose deadlines come up before the next step."""
        self._moment = moment or self._moment
        if moment is None:
            return
        later = []
        for due, ask in self._aims:
            if due > moment.business + REACH:
                later.append((due, ask))
            elif due > moment.business:  # else a step has passed it
                wait = (due - moment.business).total_seconds() + self._dice.uniform(-CLOSE_S, CLOSE_S)
                heapq.heappush(self._agenda, (moment.at + wait, next(self._order), ask))
        self._aims = later

    async def _look(self, ask: Ask) -> None:
        """Look up until when the seller may counter; until then it waits."""
        if self._moment is None:
            return  # business time is nobody's to step here
        headers = {"authorization": f"Bearer {self._tokens[ask.by]}"}
        shown: dict[str, Any] = {}
        with contextlib.suppress(httpx.TransportError):
            response = await self._http.get(f"/v1/items/{ask.item}", headers=headers)
            if response.status_code == 200:
                shown = response.json()
        if shown.get("state") == "NOTIFIED" and shown.get("noticed_at") and shown.get("due"):
            due, noticed = dt.datetime.fromisoformat(shown["due"]), dt.datetime.fromisoformat(shown["noticed_at"])
            if due - noticed > DAY:  # else the earliest deadline is that of the 24 hours
                self._due[ask.key] = due
                self._aims.append((due, Ask("counter", ask.by, ask.key, ask.body, ask.item)))
                return
        elif shown and shown["state"] not in ("RECEIVED", "NOTIFIED", "UNDER_REVIEW"):
            return
        self._unknown[ask.key] += 1
        if self._unknown[ask.key] < UNKNOWN_TRIES and not self.enough:
            heapq.heappush(self._agenda, (time.monotonic() + UNKNOWN_AGAIN_S, next(self._order), ask))

    @property
    def outstanding(self) -> int:
        """Requests that were asked and are not answered."""
        return len(self._tasks)

    @property
    def busy(self) -> bool:
        return bool(self._agenda or self._tasks)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:
            self.record.contradictions.append(f"not answered: {error}")

    async def _file(self, claim: Claim) -> None:
        record = self.record
        if self._dice.random() < 0.3:
            await self._relay(claim.ask)
            record.claims += 1
            record.named.update(claim.listings)
            if self._dice.random() < 0.05:
                ask = Ask(
                    "withdraw", claim.ask.by, f"{claim.ask.key}.w", {"ground": "error", "submission": claim.ask.key}
                )
                await self._relay(ask)
            return
        answer = await self._post(claim.ask)
        if answer is None:
            return
        record.claims += 1
        record.named.update(claim.listings)
        items = {item["item"]: item["listing"] for item in answer["items"]}
        if sorted(items.values()) != sorted(claim.listings):
            record.contradictions.append(f"{claim.ask.key}: the answer names other listings")
        record.items.update(items)
        now = time.monotonic()
        for item, listing in items.items():
            for delay, ask in self._plan.about(claim, item, listing):
                heapq.heappush(self._agenda, (now + delay, next(self._order), ask))

    async def _ask(self, ask: Ask) -> None:
        if ask.kind == "look":
            await self._look(ask)
            return
        answer = await self._post(ask)
        if answer is None:
            return
        self.record.asked[ask.item or "", ask.kind] += 1
        if ask.key in self._due:
            accepted_at = dt.datetime.fromisoformat(answer["accepted_at"])
            command = answer["commands"][0]["command"]
            self.record.close.append(Close(ask.item or "", command, self._due[ask.key], accepted_at))

    async def _post(self, ask: Ask) -> dict[str, Any] | None:
        """Ask until there is an answer; None when it is a refusal."""
        path = PATHS[ask.kind].format(item=ask.item)
        headers = {"authorization": f"Bearer {self._tokens[ask.by]}", "idempotency-key": ask.key}
        until = time.monotonic() + GIVE_UP_S
        for attempt in itertools.count():
            if attempt:
                self.record.retries += 1
                await asyncio.sleep(min(0.1 * 2 ** min(attempt, 10), 1.0) * self._dice.uniform(0.5, 1.0))
            try:
                response = await self._http.post(path, json=ask.body, headers=headers)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code < 500:
                break
            if time.monotonic() > until:
                raise StackError(f"{ask.kind} {ask.key}: no answer within {GIVE_UP_S:.0f} s")
        assert response is not None
        answer: dict[str, Any] = response.json()
        if response.status_code == 404 and self._unknown[ask.key] < UNKNOWN_TRIES:
            self._unknown[ask.key] += 1
            heapq.heappush(self._agenda, (time.monotonic() + UNKNOWN_AGAIN_S, next(self._order), ask))
            return None
        if response.status_code != 202:
            self.record.refused[f"{ask.kind} {response.status_code} {answer.get('type', '')}"] += 1
            return None
        self.record.answers[ask.by, ask.key] = (
            answer["claim"] if ask.kind == "submit_claim" else answer["commands"][0]["command"]
        )
        if self._dice.random() < 0.02:
            # as if the answer had been lost: the same key must give the same answer
            with contextlib.suppress(httpx.TransportError):
                again = await self._http.post(path, json=ask.body, headers=headers)
                if again.status_code < 500 and (again.status_code != 202 or again.json() != answer):
                    self.record.contradictions.append(f"{ask.key}: answered otherwise the second time")
        return answer

    async def _relay(self, ask: Ask) -> None:
        """By the upstream's topic; acknowledged when the broker has it."""
        document = {
            "specversion": "1.0",
            "id": ask.key,
            "source": f"/upstream/{UPSTREAM}",
            "type": f"goodfaith.request.{ask.kind}.v1",
            "time": dt.datetime.now(dt.UTC),
            "data": {**ask.body, "on_behalf_of": ask.by},
        }
        value = msgspec.json.encode(document)
        until = time.monotonic() + GIVE_UP_S
        while True:
            try:
                future = await asyncio.to_thread(self._producer.send, self._topic, value, ask.by.encode())
                while not future.is_done:
                    await asyncio.sleep(0.02)
                if not future.failed():
                    break
            except KafkaError:
                pass
            self.record.retries += 1
            if time.monotonic() > until:
                raise StackError(f"{ask.kind} {ask.key}: not taken by the broker within {GIVE_UP_S:.0f} s")
            await asyncio.sleep(0.5)
        self.record.answers[ACCOUNT, ask.key] = None


# ----------------------------------------------------------------------------------------------------------- the kills


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what, and after how many seconds it was ready again."""

    name: str
    recovered_s: float


class Killer:
    """Kills something every few seconds and starts it again after a short pause; several may be down at once.

    Args:
        thorough: at first each once, in random order.
    """

    def __init__(self, stack: Stack, processes: Fleet, *, every: float, seed: int, thorough: bool = True) -> None:
        self._stack = stack
        self._fleet = processes
        self._every = every
        self._dice = random.Random(seed)
        self.targets = [p.name for p in processes if p.name.partition(".")[0] not in SPARED] + list(PARTS)
        self._next = self._dice.sample(self.targets, len(self.targets)) if thorough else []
        self._down: dict[str, threading.Thread] = {}
        self._spared_until: dict[str, float] = {}
        self._enough = threading.Event()
        self.kills: list[Kill] = []
        self.troubles: list[str] = []
        self._thread = threading.Thread(target=self._run, name="killer")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Kill no more, and wait until all that was killed is ready again."""
        self._enough.set()
        self._thread.join()
        for thread in list(self._down.values()):
            thread.join()
        self._look()

    @property
    def complete(self) -> bool:
        """Whether each was killed at least once."""
        return not self._next

    def _run(self) -> None:
        while not self._enough.wait(self._every * self._dice.uniform(0.6, 1.4)):
            self._down = {name: thread for name, thread in self._down.items() if thread.is_alive()}
            self._look()
            name = self._choose() if len(self._down) < DOWN_MOST else None
            if name is not None:
                pause = self._dice.uniform(0.1, 2.0)
                self._down[name] = threading.Thread(target=self._fell, args=(name, pause), name=f"kill-{name}")
                self._down[name].start()

    def _choose(self) -> str | None:
        now = time.monotonic()
        free = [t for t in self.targets if t not in self._down and self._spared_until.get(t, now) <= now]
        for place, name in enumerate(self._next):
            if name in free:
                return self._next.pop(place)
        return self._dice.choice(free) if free else None

    def _look(self) -> None:
        """What has ended by itself is a trouble; it is started again all the same."""
        for process in self._fleet:
            if process.name not in self._down and not process.alive():
                self.troubles.append(f"{process.name} ended by itself")
                process.start()

    def _fell(self, name: str, pause: float) -> None:
        begun = time.monotonic()
        try:
            if name == "broker":
                self._stack.kill_kafka()
                time.sleep(pause)
                self._stack.start_kafka()
            elif name == "database":
                self._stack.kill_postgres()
                time.sleep(pause)
                self._stack.start_postgres()
            else:
                self._fleet[name].kill9()
                time.sleep(pause)
                self._fleet[name].start().wait_ready(120)
        except StackError as error:
            self.troubles.append(f"{name}: {str(error).splitlines()[0]}")
        took = time.monotonic() - begun
        self._spared_until[name] = time.monotonic() + 2 * took
        self.kills.append(Kill(name, took))


# ------------------------------------------------------------------------------------------------------------ the whole


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    items: int
    kills: list[Kill]
    record: Record
    verified: Report
    lost: list[str]
    doubled: list[str]
    problems: list[str]
    load_s: float
    seconds: float
    in_flight: int = 0
    """Most requests that were asked and not answered at a time."""

    def json(self) -> dict[str, Any]:
        """As printed: `lost`, `doubled`, `problems` of `verify` and of the outside record together."""
        counts = self.verified.counts
        slowest = max(self.kills, key=lambda kill: kill.recovered_s, default=None)
        return {
            "items": self.items,
            "kills": len(self.kills),
            "lost": len(self.lost) + counts.get("lost", 0),
            "doubled": len(self.doubled) + counts.get("doubled", 0),
            "problems": len(self.problems) + counts.get("problems", 0),
            "claims": self.record.claims,
            "commands": counts.get("commands", 0),
            "acknowledged": len(self.record.answers),
            "close": len(self.record.close),
            "close_in_time": sum(call.in_time for call in self.record.close),
            "retries": self.record.retries,
            "refused": dict(self.record.refused),
            "message_repeats": self.verified.totals.get("message_repeats", 0),
            "resent_records": self.verified.totals.get("resent_records", 0),
            "kills_by_process": dict(sorted(Counter(kill.name for kill in self.kills).items())),
            "longest_recovery_s": round(slowest.recovered_s, 1) if slowest else None,
            "slowest_to_recover": slowest.name if slowest else None,
            "load_s": round(self.load_s, 1),
            "seconds": round(self.seconds, 1),
            "examples": self.examples,
            "kinds": self.verified.kinds,
        }

    @property
    def examples(self) -> list[str]:
        """Of what was found, in words."""
        kinds = [f"{kind['kind']}: {', '.join(map(str, kind['examples'][:2]))}" for kind in self.verified.kinds]
        return (self.lost + self.doubled + self.problems + kinds)[:20]

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled or otherwise wrong."""
        found = self.json()
        return not (found["lost"] or found["doubled"] or found["problems"])


class Faults:
    """One run on a stack that is up, with ``ENVIRONMENT``."""

    def __init__(self, stack: Stack, processes: Fleet, plan: Plan) -> None:
        self.stack = stack
        self.fleet = processes
        self.plan = plan
        self.settings = fleet.settings_of(stack, secret=True)
        self.engine = db.administer(stack.admin_url, pooled=False)
        self.tokens: dict[str, str] = {}
        self._landed: dt.datetime | None = None

    def prepare(self) -> None:
        """Accounts, rights, and listings on the site; business time runs."""
        plan, http = self.plan, Http(self.settings)
        try:
            with self.engine.connect() as connection:
                known = connection.execute(sa.text("select 1 from intake.accounts where id = :id"), {"id": ACCOUNT})
                openings = [] if known.scalar() else [http.open_account("upstream", ACCOUNT, None)]
            people = [("holder", plan.holders), ("seller", plan.sellers), ("operator", [plan.reviewer])]
            for role, names in people:
                openings += [
                    http.open_account(role, name, (name, "1 Long Lane", f"{name}@party.example")) for name in names
                ]
            http.all(openings)
            proof = {"right_type": "copyright", "proof": f"proof-{plan.ns}"}
            rights = http.all(http.register_right(holder, proof) for holder in plan.holders)
            plan.rights = dict(zip(plan.holders, rights, strict=True))
            self.tokens = http.tokens
        finally:
            http.close()
        self._seed()
        self.step(dt.timedelta())
        self.settle(300)

    def _seed(self) -> None:
        assert self.settings.internal_token is not None
        headers = {"authorization": f"Bearer {self.settings.internal_token.get_secret_value()}"}
        seeds = ({"listing": name, "seller": self.plan.seller(name), "title": name} for name in self.plan.listings())
        with httpx.Client(base_url=self.settings.marketplace_url, headers=headers, timeout=60, trust_env=False) as http:
            while some := list(itertools.islice(seeds, 5000)):
                # 503: it finds only now that its database is another since the last fault
                for pause in SEED_AGAIN_S:
                    response = http.post("/seed", json=some)
                    if response.status_code != 503:
                        break
                    time.sleep(pause)
                if response.status_code != 202:
                    raise StackError(f"the demo marketplace answers {response.status_code}: {response.text[:200]}")

    def step(self, ahead: dt.timedelta) -> None:
        """Set business time ahead; it runs on from there."""
        with self.engine.begin() as connection:
            now, _ = clock.read(connection)
            clock.set_anchor(connection, business=now + ahead, rate=1)

    def next_day(self) -> Moment:
        """Set business time ahead to a day after the last time.

        So time runs through the same seconds of each day, and those are the seconds in which windows end that began in them.
        """
        with self.engine.begin() as connection:
            now, _ = clock.read(connection)
            landed = now if self._landed is None else self._landed
            while landed <= now:
                landed += DAY
            at = time.monotonic()
            clock.set_anchor(connection, business=landed, rate=1)
        self._landed = landed
        return Moment(landed, at)

    def step_if_possible(self) -> Moment | None:
        """A day ahead, unless the database is away."""
        # while the database is away time does not jump either
        with contextlib.suppress(sa.exc.OperationalError, sa.exc.InterfaceError):
            return self.next_day()
        return None

    def settle(
        self,
        timeout_s: float,
        tell: Callable[[str], None] = lambda _: None,
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        """Wait until nothing is under way, but for what is ignored (``Watch``).

        Raises:
            TimeoutError: something still is.
        """
        watch = Watch(self.engine, self.settings, ignore=ignore)
        try:
            watch.wait(
                timeout_s=timeout_s, poll_s=0.2, looks=2, tell=lambda pending: tell(f"under way: {pending}"[:100])
            )
        finally:
            watch.close()

    def run(
        self, *, every: float, rate: float, seed: int, progress: Callable[[int], None], tell: Callable[[str], None]
    ) -> Outcome:
        """Load and kills, then rest, then look."""
        begun = time.monotonic()
        submitter = Submitter(self.plan, self.settings, self.tokens, rate=rate, step=self.step_if_possible)
        killer = Killer(self.stack, self.fleet, every=every, seed=seed)
        killer.start()
        try:
            asyncio.run(submitter.run(progress))
            load_s = time.monotonic() - begun
            while not killer.complete:
                time.sleep(0.1)
        finally:
            killer.stop()
        outcome = self.judge(submitter, killer.troubles, begun, tell)
        outcome.kills, outcome.load_s = killer.kills, load_s
        return outcome

    def judge(
        self, submitter: Submitter, troubles: list[str], begun: float, tell: Callable[[str], None] = lambda _: None
    ) -> Outcome:
        """Let everything come to rest, then look: what `verify` finds, and the record kept outside.

        Args:
            troubles: problems that were met already.
            begun: when the run began (monotonic).
        """
        problems = troubles + submitter.record.contradictions
        tell("coming to rest")
        try:
            self.fleet.wait_ready(READY_S)
            self.settle(120 + self.plan.items / 50, tell)
            # what is open runs into its deadlines
            for _ in range(3):
                self.step(8 * DAY)
                self.settle(120 + self.plan.items / 50, tell)
        except TimeoutError as error:
            problems.append(str(error))
        tell("verifying")
        report = verify_stack(fleet.settings_of(self.stack))
        lost, doubled = self.compare(submitter.record)
        lost += self.close_calls(submitter.record)
        seconds = time.monotonic() - begun
        most = submitter.most
        return Outcome(submitter.filed, [], submitter.record, report, lost, doubled, problems, 0.0, seconds, most)

    def compare(self, record: Record) -> tuple[list[str], list[str]]:
        """(lost, doubled): the outside record beside the tables."""
        lost: list[str] = []
        doubled: list[str] = []
        like = {"own": f"{self.plan.ns}-%", "holders": f"h-{self.plan.ns}-%"}
        with self.engine.connect() as connection:

            def rows(sql: str) -> list[tuple[Any, ...]]:
                return [tuple(row) for row in connection.execute(sa.text(sql), like)]

            stored = {
                (account, key): resource
                for account, key, resource in rows("select account, idempotency_key, resource from intake.submissions")
            }
            refused = {
                row[0]
                for row in rows(
                    "select payload::jsonb -> 'data' ->> 'event' from intake.inbound_event_log"
                    " where type = 'goodfaith.inbound.refused.v1'"
                )
            }
            for (account, key), resource in record.answers.items():
                found = stored.get((account, key))
                if found is None and not (resource is None and key in refused):
                    lost.append(submission(account, key))
                elif resource is not None and found is not None and found != resource:
                    doubled.append(f"submission {account} {key}: {found}, answered {resource}")
            record.refused["by topic"] = len(refused)

            items = dict(rows("select id, listing from intake.items where listing like :own"))
            judged = {row[0] for row in rows("select item from verification.items where listing like :own")}
            lost += [f"item {item}" for item in record.items if item not in items]
            lost += [f"item {item} not judged" for item in record.items if item in items and item not in judged]
            stored_named = Counter(items.values())
            for listing in stored_named.keys() | record.named.keys():
                difference = stored_named[listing] - record.named[listing]
                if difference:
                    (doubled if difference > 0 else lost).append(f"listing {listing}: {difference:+} items")
            claims = rows("select count(*) from intake.claims where complainant like :holders")[0][0]
            if claims > record.claims:
                doubled.append(f"{claims - record.claims} claims more than were acknowledged")
            commands = Counter(
                {
                    (item, kind): count
                    for item, kind, count in rows(
                        "select item, kind, count(*) from intake.commands group by item, kind"
                    )
                }
            )
            for (item, kind), count in record.asked.items():
                if commands[item, kind] != count:
                    (doubled if commands[item, kind] > count else lost).append(
                        f"{kind} of {item}: {commands[item, kind]}, acknowledged {count}"
                    )
        return lost, doubled

    def close_calls(self, record: Record) -> list[str]:
        """Counters close to their deadlines that did not end as they must; those that were lost are told as such."""
        history: dict[str, list[Step]] = {call.item: [] for call in record.close}
        with self.engine.connect() as connection:
            stored = set(
                connection.execute(
                    sa.text("select id from intake.commands where id = any(:ids)"),
                    {"ids": [c.command for c in record.close]},
                ).scalars()
            )
            rows = connection.execute(
                sa.text(
                    "select payload::jsonb ->> 'time', payload::jsonb -> 'data' from verification.event_log"
                    " where claim in (select claim from intake.items where id = any(:items))"
                    " and starts_with(type, 'goodfaith.item.') order by partition, seq"
                ),
                {"items": list(history)},
            )
            for at, data in rows:
                if data["item"] in history:
                    states = (data.get("previous"), *data.get("via", ()), data["state"])
                    history[data["item"]].append(Step(dt.datetime.fromisoformat(at), states, data.get("command")))
        calls = (close_call(call, history[call.item]) for call in record.close if call.command in stored)
        return [wrong for wrong in calls if wrong is not None]

    def close(self) -> None:
        """Close connections."""
        self.engine.dispose()
