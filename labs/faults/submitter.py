"""Submits a plan at a steady rate, by HTTP and by the upstream's topic, and keeps the outside record."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec
from kafka.errors import KafkaError

from deploy.local.children import StackError
from labs.clients import PATHS, Request
from labs.faults.plan import ACCOUNT, UPSTREAM, Claim, LoadPlan
from labs.faults.record import ClockReading, CloseCall, OutsideRecord
from shared import kafka_links, topics
from shared.callers import trust

DAY: Final = dt.timedelta(days=1)
STEP_S: Final = 10.0
"""Seconds between two steps of business time, each a day ahead, so that deadlines pass while faults happen."""
REACH: Final = dt.timedelta(seconds=STEP_S)
IN_FLIGHT: Final = 200
GIVE_UP_S: Final = 300.0
UNKNOWN_AGAIN_S: Final = 4.0
"""A seller becomes party to an item when verification has looked up the listing. Until then requests are sent again
after this many seconds, ``UNKNOWN_TRIES`` times."""
UNKNOWN_TRIES: Final = 10
CLOSE_S: Final = 2.0
"""Sellers who wait for their deadline counter at most this long before or after it."""


class Submitter:
    """Submits the plan at a steady rate; repeats each request with the same key until it is answered.

    Attributes:
        rate: Items filed a second; may be changed while it runs, 0 for a pause.
        record: The outside record.
        filed: Items filed so far.
        enough: Set it to end the plan early; requests that were sent are still answered.
        ended: Whether everything is answered, or submitting has failed.
        max_outstanding: The most requests that were outstanding at one time.
    """

    def __init__(
        self,
        plan: LoadPlan,
        settings: Any,
        tokens: dict[str, str],
        *,
        rate: float,
        step: Callable[[], ClockReading | None],
    ) -> None:
        self._plan = plan
        self.rate = rate
        self._tokens = tokens
        self._step = step
        self._dice = random.Random(len(tokens))
        self.record = OutsideRecord()
        self.filed = 0
        self.enough = False
        self.ended = False
        self.max_outstanding = 0
        self._agenda: list[tuple[float, int, Request]] = []
        self._waiting: list[tuple[dt.datetime, Request]] = []
        self._due: dict[str, dt.datetime] = {}
        self._clock: ClockReading | None = None
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
        """Submit everything; returns when everything is answered.

        Raises:
            StackError: a request was not answered for minutes.
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
        self._clock = await asyncio.to_thread(self._step)
        while claim is not None or self._agenda or self._tasks or self._close_call_expected:
            now = time.monotonic()
            if self.enough:
                claim = None
            # after intake was away, catch up slowly and not in one burst
            allowance = min(allowance + (now - begun) * self.rate, self.rate)
            begun = now
            while claim is not None and allowance > 0 and len(self._tasks) < IN_FLIGHT:
                allowance -= len(claim.listings)
                self._start(self._file(claim))
                self.filed += len(claim.listings)
                progress(len(claim.listings))
                claim = next(claims, None)
            while self._agenda and self._agenda[0][0] <= now and len(self._tasks) < IN_FLIGHT:
                self._start(self._act(heapq.heappop(self._agenda)[2]))
            self.max_outstanding = max(self.max_outstanding, len(self._tasks))
            if now - stepped > STEP_S:
                stepped = now
                self._schedule_close_calls(await asyncio.to_thread(self._step))
            await asyncio.sleep(0.02)

    @property
    def _close_call_expected(self) -> bool:
        """Whether no counter has come close to its deadline yet, and one will."""
        return bool(self._waiting) and not self.record.close_calls

    def _schedule_close_calls(self, clock: ClockReading | None) -> None:
        """Put counters on the agenda whose deadlines pass before the next step."""
        self._clock = clock or self._clock
        if clock is None:
            return
        later = []
        for due, request in self._waiting:
            if due > clock.business + REACH:
                later.append((due, request))
            elif due > clock.business:  # otherwise a step has passed it
                wait = (due - clock.business).total_seconds() + self._dice.uniform(-CLOSE_S, CLOSE_S)
                heapq.heappush(self._agenda, (clock.at + wait, next(self._order), request))
        self._waiting = later

    async def _look_up_deadline(self, request: Request) -> None:
        """Look up until when the seller may counter; the counter then waits for that time."""
        if self._clock is None:
            return  # business time is not stepped in this run
        headers = {"authorization": f"Bearer {self._tokens[request.by]}"}
        shown: dict[str, Any] = {}
        with contextlib.suppress(httpx.TransportError):
            response = await self._http.get(f"/v1/items/{request.item}", headers=headers)
            if response.status_code == 200:
                shown = response.json()
        if shown.get("state") == "NOTIFIED" and shown.get("noticed_at") and shown.get("due"):
            due, noticed = dt.datetime.fromisoformat(shown["due"]), dt.datetime.fromisoformat(shown["noticed_at"])
            if due - noticed > DAY:  # otherwise the earliest deadline is that of the 24 hours
                self._due[request.key] = due
                self._waiting.append((due, Request("counter", request.by, request.key, request.body, request.item)))
                return
        elif shown and shown["state"] not in ("RECEIVED", "NOTIFIED", "UNDER_REVIEW"):
            return
        self._unknown[request.key] += 1
        if self._unknown[request.key] < UNKNOWN_TRIES and not self.enough:
            heapq.heappush(self._agenda, (time.monotonic() + UNKNOWN_AGAIN_S, next(self._order), request))

    @property
    def outstanding(self) -> int:
        """Number of requests that were sent and are not answered."""
        return len(self._tasks)

    @property
    def busy(self) -> bool:
        """Whether requests are outstanding or still to be sent."""
        return bool(self._agenda or self._tasks)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:
            self.record.contradictions.append(f"not answered: {error}")

    async def _file(self, claim: Claim) -> None:
        record, request = self.record, claim.request
        if self._dice.random() < 0.3:
            await self._relay(request)
            record.claims += 1
            record.named.update(claim.listings)
            if self._dice.random() < 0.05:
                body = {"ground": "error", "submission": request.key}
                await self._relay(Request("withdraw", request.by, f"{request.key}.w", body))
            return
        answer = await self._post(request)
        if answer is None:
            return
        record.claims += 1
        record.named.update(claim.listings)
        items = {item["item"]: item["listing"] for item in answer["items"]}
        if sorted(items.values()) != sorted(claim.listings):
            record.contradictions.append(f"{request.key}: the answer names other listings")
        record.items.update(items)
        now = time.monotonic()
        for item, listing in items.items():
            for delay, reaction in self._plan.reactions(claim, item, listing):
                heapq.heappush(self._agenda, (now + delay, next(self._order), reaction))

    async def _act(self, request: Request) -> None:
        if request.kind == "look":
            await self._look_up_deadline(request)
            return
        answer = await self._post(request)
        if answer is None:
            return
        self.record.commands[request.item or "", request.kind] += 1
        if request.key in self._due:
            accepted_at = dt.datetime.fromisoformat(answer["accepted_at"])
            command = answer["commands"][0]["command"]
            call = CloseCall(request.item or "", command, self._due[request.key], accepted_at)
            self.record.close_calls.append(call)

    async def _post(self, request: Request) -> dict[str, Any] | None:
        """Send a request until it is answered; None for a refusal."""
        path = PATHS[request.kind].format(item=request.item)
        headers = {"authorization": f"Bearer {self._tokens[request.by]}", "idempotency-key": request.key}
        until = time.monotonic() + GIVE_UP_S
        for attempt in itertools.count():
            if attempt:
                self.record.retries += 1
                await asyncio.sleep(min(0.1 * 2 ** min(attempt, 10), 1.0) * self._dice.uniform(0.5, 1.0))
            try:
                response = await self._http.post(path, json=request.body, headers=headers)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code < 500:
                break
            if time.monotonic() > until:
                raise StackError(f"{request.kind} {request.key}: no answer within {GIVE_UP_S:.0f} s")
        assert response is not None
        answer: dict[str, Any] = response.json()
        if response.status_code == 404 and self._unknown[request.key] < UNKNOWN_TRIES:
            self._unknown[request.key] += 1
            heapq.heappush(self._agenda, (time.monotonic() + UNKNOWN_AGAIN_S, next(self._order), request))
            return None
        if response.status_code != 202:
            self.record.refused[f"{request.kind} {response.status_code} {answer.get('type', '')}"] += 1
            return None
        self.record.answers[request.by, request.key] = (
            answer["claim"] if request.kind == "submit_claim" else answer["commands"][0]["command"]
        )
        if self._dice.random() < 0.02:
            # as if the answer had been lost: the same key must get the same answer
            with contextlib.suppress(httpx.TransportError):
                again = await self._http.post(path, json=request.body, headers=headers)
                if again.status_code < 500 and (again.status_code != 202 or again.json() != answer):
                    self.record.contradictions.append(f"{request.key}: another answer the second time")
        return answer

    async def _relay(self, request: Request) -> None:
        """Send a request by the upstream's topic. It is acknowledged when the broker has it."""
        document = {
            "specversion": "1.0",
            "id": request.key,
            "source": f"/upstream/{UPSTREAM}",
            "type": f"goodfaith.request.{request.kind}.v1",
            "time": dt.datetime.now(dt.UTC),
            "data": {**request.body, "on_behalf_of": request.by},
        }
        value = msgspec.json.encode(document)
        until = time.monotonic() + GIVE_UP_S
        while True:
            try:
                future = await asyncio.to_thread(self._producer.send, self._topic, value, request.by.encode())
                while not future.is_done:
                    await asyncio.sleep(0.02)
                if not future.failed():
                    break
            except KafkaError:
                pass
            self.record.retries += 1
            if time.monotonic() > until:
                raise StackError(f"{request.kind} {request.key}: not accepted by the broker within {GIVE_UP_S:.0f} s")
            await asyncio.sleep(0.5)
        self.record.answers[ACCOUNT, request.key] = None
