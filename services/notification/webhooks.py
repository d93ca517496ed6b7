"""Sends messages to webhooks: leases endpoints, renders what is due to each, calls them and records the outcomes.

The main thread works with the database and intake, in batches; calls run on the ``Caller``'s thread. A round: record
the results that have arrived; assign new messages to endpoints; lease as many endpoints with due deliveries as there
is room for; ask intake for addresses, secrets and contacts, in one call each; render; record ``sending`` (committed);
call. So a message is sent at least once. It is sent again, under the same id, if it is unknown whether it was
accepted; repeats are counted.

New webhooks are also called, with a challenge for their owners to confirm. Intake says which and when; nothing about
challenges is stored here.

Leases, pauses and circuits are wall time; times in messages are business time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import resource
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from services.notification import circuit, payload, store, webhook_store, windows
from services.notification.call_results import call_spans, circuits_after, outcome_of, sent_of, untried
from services.notification.calling import BatchEnded, Call, CallBatch, Caller, CallResult, ChallengeCall
from services.notification.circuit import Circuit
from services.notification.closing import Closer
from services.notification.intake_client import ChallengeEnded, IntakeClient, IntakeDown
from services.notification.metrics import DELIVERIES, OLDEST
from services.notification.metrics import WEBHOOKS as NAME
from services.notification.render import Contact, digest
from services.notification.types import Message, Sent
from services.notification.webhook_metrics import (
    ATTEMPTS,
    CHALLENGES_SENT,
    DISABLED,
    ENDPOINTS,
    IN_FLIGHT,
    REPLAYS,
    SECONDS,
)
from services.notification.webhook_store import DeliveryOutcome, DueDelivery, Endpoint, ReleasedEndpoint
from shared import clock, db, metrics, tracing
from shared.backoff import Quiet, pause_s
from shared.outbound import Names
from shared.runtime.crashes import crash_from
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

TAKE: Final = 250
"""Endpoints leased at a time."""
EACH: Final = {True: 4, False: 1}
"""Deliveries taken per endpoint, by whether it accepted the last call: one that may be failing gets one."""
BYTES_MOST: Final = 64_000_000
"""Bytes of rendered messages above which nothing more is leased."""
ASSIGN: Final = 500
"""Messages assigned to endpoints at a time."""
GAUGES_S: Final = 5.0
"""Wall seconds between updates of the gauges."""
CHALLENGE_S: Final = 3.0
"""Wall seconds between requests for new webhooks."""
CHALLENGES: Final = 20
"""New webhooks called at a time."""


class Webhooks:
    """Works until ``stop``. Any number of processes may run.

    Args:
        crash: called with the name of each step; tests pass one that kills the process.
        names: the resolver; tests pass one with their own zone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        health: Health | None = None,
        crash: Callable[[str], None] | None = None,
        names: Names | None = None,
    ) -> None:
        if settings.internal_token is None:
            raise ValueError("GOODFAITH_INTERNAL_TOKEN: needed to ask intake for addresses and contacts")
        self.settings = settings
        self.health = health or Health(NAME)
        self._crash = crash or (lambda _step: None)
        self._holder = f"{settings.instance or os.getpid()}.{uuid.uuid4().hex[:12]}"
        self._engine = db.connect(
            settings.present("database"),
            schema=store.SCHEMA,
            name=f"{NAME}-{settings.instance or os.getpid()}",
        )
        self._intake = IntakeClient(
            settings.intake_url, settings.internal_token.get_secret_value(), settings.internal_ca
        )
        self._closer = Closer(self._engine, dt.timedelta(seconds=settings.collect_s), webhooks=True)
        # long enough for several answers that each come at the last moment
        self._lease_s = 4 * settings.webhook_timeout_s + 10
        self._begin_within_s = self._lease_s - settings.webhook_timeout_s - 5
        self._lasts = dt.timedelta(seconds=settings.webhook_retry_s)
        self._hopeless = dt.timedelta(seconds=settings.webhook_disable_s)
        self._fallback_s = {True: settings.webhook_fallback_s, False: settings.webhook_retry_s}
        self._caller = Caller(settings, names=names, after_call=lambda: self._crash("after_call"))
        self._held: dict[str, tuple[bool, int]] = {}
        """Endpoints being called: whether each accepted its previous call, and the bytes being sent to it."""
        self._quiet = Quiet()
        self._failures = 0
        self._stop = False
        self._tracing = tracing.current()
        self._gauges_at = 0.0
        self._challenge_at = 0.0
        self._asking = 0
        """New webhooks being called, or whose result has not been reported to intake yet."""
        self._ended: list[ChallengeEnded] = []
        self._results: list[CallResult | BatchEnded] = []

    def stop(self) -> None:
        """Start no further call, and record the outcome of those under way. Safe from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Work until ``stop``. Transient failures are retried forever, with growing pauses."""
        while not self._stop:
            try:
                worked = self.turn()
                self.health.ready()
                self._caller.news.wait(self._quiet.after_s(worked, self.settings.poll_ms / 1000))
            except Exception as error:
                if not db.is_transient(error):
                    raise
                self._pause("database", type(error).__name__)
        self.health.ready(False)
        self.close()

    def close(self) -> None:
        """Let calls under way end, record their outcomes and release everything."""
        self._caller.stop_calls()
        self._caller.close(self.settings.webhook_timeout_s + 1)
        until = time.monotonic() + 10
        while True:
            try:
                self._note()
                break
            except Exception as error:
                if not db.is_transient(error) or time.monotonic() > until:
                    raise
                self._pause("database", type(error).__name__)
        self._hear()
        with contextlib.suppress(IntakeDown):  # intake repeats challenges without a reported result
            self._intake.challenges(self._ended, 0)
        self._intake.close()
        self._engine.dispose()

    def turn(self) -> bool:
        """Run one round; returns whether there was anything to do."""
        self._progress()
        noted = self._note()
        assigned = self._assign()
        called = 0
        try:
            called = self._call()
            self._failures = 0
        except IntakeDown as error:
            self._pause("intake", str(error))
        self._challenge()
        closed = 0 if called >= TAKE else self._closer.close()
        self._observe()
        return bool(noted or assigned or called or closed)

    # ---------------------------------------------------------------------------------------------------- calls

    def _assign(self) -> int:
        """Assign messages with route ``webhook`` to endpoints or to another channel."""
        with self._engine.begin() as connection:
            now, wall = clock.read(connection)
            held, fell_back = webhook_store.assign(connection, ASSIGN, self._fallback_s, now, wall)
        if fell_back:
            DELIVERIES.labels("webhook", "gave_up").inc(fell_back)
        return held + fell_back

    def _room(self) -> tuple[int, int]:
        """How many endpoints may be leased: those that accepted the last call, and others.

        Others may take at most half of the room, so failing endpoints, however many, leave room for the rest.
        """
        if sum(size for _, size in self._held.values()) > BYTES_MOST:
            return 0, 0
        most = self.settings.webhook_in_flight
        free = most - len(self._held)
        second = max(0, min(TAKE, free, most // 2 - sum(not proven for proven, _ in self._held.values())))
        return max(0, min(TAKE, free - second)), second

    def _call(self) -> int:
        """Lease endpoints, render what is due to them and start calling. Returns how many calls will be made.

        Raises:
            IntakeDown: nothing is called, and leased endpoints are given back.
        """
        room = self._room()
        if self._stop or not any(room):
            return 0
        started = time.monotonic()
        with self._engine.begin() as connection:
            endpoints = webhook_store.take(connection, self._holder, self._lease_s, room, EACH)
            ids = sorted({one.message for endpoint in endpoints for one in endpoint.due})
            messages = {message.id: message for message in store.read(connection, ids)} if ids else {}
            replayed = {one.message for endpoint in endpoints for one in endpoint.due if one.replay}
            sent = webhook_store.sent_at(connection, ids, replayed) if ids else {}
            now, wall = clock.read(connection)
        if not endpoints:
            return 0
        self._crash("after_take")
        try:
            batches, ended = self._prepare(endpoints, messages, sent, now)
        except IntakeDown:
            pause = wall + dt.timedelta(seconds=self._next_pause())
            self._give_back([ReleasedEndpoint(one.id, one.generation, one.circuit, pause) for one in endpoints])
            raise
        called = {batch.endpoint for batch in batches}
        idle = [ReleasedEndpoint(one.id, one.generation, one.circuit) for one in endpoints if one.id not in called]
        with self._engine.begin() as connection:
            wanted = [(batch.endpoint, call.due) for batch in batches for call in batch.calls]
            webhook_store.lock(connection, self._holder, [one.endpoint for one in idle])
            ours = webhook_store.begin(connection, wanted)
            webhook_store.end(connection, ended)
            webhook_store.release(connection, self._holder, idle)
        self._crash("after_sending")
        repeated = count = 0
        for batch in batches:
            kept = [call for call in batch.calls if (batch.endpoint, call.due.message) in ours]
            batch.calls.clear()
            batch.calls.extend(kept)
            batch.until = started + self._begin_within_s
            self._held[batch.endpoint] = (batch.circuit.proven, sum(len(call.raw) for call in kept))
            repeated += sum(call.due.unknown for call in kept)
            count += len(kept)
        if repeated:
            DELIVERIES.labels("webhook", "repeated").inc(repeated)
            log.warning("called again after an unknown outcome", count=repeated)
        self._caller.start(batches)
        return count

    def _prepare(
        self,
        endpoints: Sequence[Endpoint],
        messages: dict[str, Message],
        sent: dict[str, dt.datetime],
        now: dt.datetime,
    ) -> tuple[list[CallBatch], list[DeliveryOutcome]]:
        """The calls to make, and the deliveries that end without a call.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        parties = {endpoint.party for endpoint in endpoints}
        hooks = self._intake.webhooks(parties)
        contacts = self._intake.contacts(parties.union(*(message.parties for message in messages.values())))
        claims = [message.claim for message in messages.values() if message.notice is None]
        numbers = self._intake.right_numbers(claims) if claims else {}
        batches: list[CallBatch] = []
        ended: list[DeliveryOutcome] = []
        rendered: dict[tuple[str, bool], Call | None] = {}
        for endpoint in endpoints:
            hook = hooks.get(endpoint.party, {}).get(endpoint.id)
            if hook is None:
                # deleted, disabled or erased: the event that says so is on its way
                ended += [
                    DeliveryOutcome(endpoint.id, one.message, "dropped", "disabled", tried=False)
                    for one in endpoint.due
                ]
                continue
            batch = CallBatch(
                endpoint.id, endpoint.party, endpoint.generation, endpoint.circuit, hook.url, hook.secrets
            )
            for one in endpoint.due:
                message = messages.get(one.message)
                if message is None:
                    ended.append(DeliveryOutcome(endpoint.id, one.message, "dropped", "unknown", tried=False))
                    continue
                key = (message.id, one.replay)
                if key not in rendered:
                    rendered[key] = self._render(message, one, contacts, numbers, sent.get(message.id, now))
                call = rendered[key]
                if call is None:
                    ended.append(DeliveryOutcome(endpoint.id, one.message, "failed", "not_rendered", tried=False))
                    continue
                batch.calls.append(replace(call, due=one))
            if batch.calls:
                batches.append(batch)
        return batches, ended

    def _render(
        self,
        message: Message,
        due: DueDelivery,
        contacts: dict[str, Contact | None],
        numbers: dict[str, str | None],
        at: dt.datetime,
    ) -> Call | None:
        try:
            raw, shown = payload.body(
                message, contacts, numbers.get(message.claim), site=self.settings.marketplace_url, now=at
            )
        except Exception as error:
            # a bug of ours; log no traceback, which would show contact data
            log.error("rendering failed", message=message.id, kind=message.kind, error=type(error).__name__)
            DELIVERIES.labels("webhook", "failed").inc()
            return None
        return Call(due, message, raw, digest(raw), replace(shown, body="", html=""))

    def _give_back(self, released: Sequence[ReleasedEndpoint]) -> None:
        with self._engine.begin() as connection:
            webhook_store.lock(connection, self._holder, [one.endpoint for one in released])
            webhook_store.release(connection, self._holder, released)

    # -------------------------------------------------------------------------------------------------- results

    def _note(self) -> int:
        """Record the results that have arrived, in one transaction; returns how many."""
        self._results += self._caller.drain()
        if not self._results:
            return 0
        results = [one for one in self._results if isinstance(one, CallResult)]
        spans = {} if self._tracing is None else call_spans(self._tracing, results)
        ended = [one.batch for one in self._results if isinstance(one, BatchEnded)]
        with self._engine.begin() as connection:
            now, wall = clock.read(connection)
            circuits = circuits_after(results, ended, wall)
            reasons = {
                batch.endpoint: "failing"
                for batch in ended
                if circuit.hopeless(circuits[batch.endpoint], wall, self._hopeless)
            }
            reasons |= {batch.endpoint: "gone" for batch in ended if batch.gone}
            webhook_store.lock(connection, self._holder, [batch.endpoint for batch in ended])
            accepted = sent_of(results)
            for sent in accepted:
                found = spans.get(sent.message.id)
                sent.trace = next(iter(sent.message.traces), None) if found is None else tracing.context_of(found[0])
            noted = store.finish(connection, webhook_store.HOLDER, accepted, now, wall)
            # sent before by another channel or webhook: arriving here may still begin a window
            before = {one.message.id for one in accepted} - {one.message.id for one in noted}
            windows.begin_windows(connection, sorted(before), "delivered", now, now=now)
            outcomes = [outcome_of(result, wall, self._lasts) for result in results]
            webhook_store.end(connection, outcomes + untried(ended))
            webhook_store.release(
                connection,
                self._holder,
                [ReleasedEndpoint(batch.endpoint, batch.generation, circuits[batch.endpoint]) for batch in ended],
            )
            hopeless = [
                Endpoint(batch.endpoint, batch.party, batch.generation, Circuit(), [])
                for batch in ended
                if batch.endpoint in reasons
            ]
            disabled = webhook_store.disable(connection, hopeless, reasons, now, self.settings.partitions)
        self._crash("after_commit")
        for span, ended_ns in spans.values():
            span.end(ended_ns)
        for result in results:
            result.batch.circuit = circuits[result.batch.endpoint]
        self._count(results, ended, noted, {id_: reasons[id_] for id_ in disabled})
        done, self._results = len(self._results), []
        return done

    def _count(
        self,
        results: Sequence[CallResult],
        ended: Sequence[CallBatch],
        noted: Sequence[Sent],
        disabled: dict[str, str],
    ) -> None:
        for result in results:
            outcome = result.answer.outcome
            ATTEMPTS.labels(outcome).inc()
            if result.call.due.replay:
                REPLAYS.inc()
            if outcome == "delivered":
                SECONDS.observe(result.answer.ms / 1000)
            else:
                DELIVERIES.labels("webhook", "refused" if outcome == "gone" else "later").inc()
            proven, size = self._held.get(result.batch.endpoint, (False, 0))
            self._held[result.batch.endpoint] = (proven, size - len(result.call.raw))
        for batch in ended:
            self._held.pop(batch.endpoint, None)
        for sent in noted:
            DELIVERIES.labels(sent.channel, sent.result).inc()
        for endpoint, reason in disabled.items():
            DISABLED.labels(reason).inc()
            log.warning("webhook disabled", webhook=endpoint, reason=reason)

    # ------------------------------------------------------------------------------------------------ challenges

    def _challenge(self) -> None:
        """Report the results of challenges to intake, and call further new webhooks."""
        self._hear()
        if self._stop or time.monotonic() < self._challenge_at:
            return
        self._challenge_at = time.monotonic() + CHALLENGE_S
        try:
            found = self._intake.challenges(self._ended, CHALLENGES - self._asking)
        except IntakeDown as error:
            # nothing else depends on challenges
            log.info("challenges unavailable", error=str(error))
            return
        self._asking -= len(self._ended)
        self._ended.clear()
        self._crash("after_challenges")
        now = dt.datetime.now(dt.UTC)
        self._asking += len(found)
        self._caller.challenge(
            [
                ChallengeCall(
                    one.id, one.ask, one.url, one.secrets, payload.challenge(one.id, one.code, one.expires_at, now)
                )
                for one in found
            ]
        )

    def _hear(self) -> None:
        for call, answer in self._caller.challenge_answers():
            CHALLENGES_SENT.labels(answer.outcome).inc()
            over = answer.outcome in ("delivered", "gone")
            self._ended.append(ChallengeEnded(call.endpoint, call.ask, answer.reason, over))

    # ---------------------------------------------------------------------------------------------------- health

    def _observe(self) -> None:
        IN_FLIGHT.set(len(self._held))
        if time.monotonic() < self._gauges_at:
            return
        self._gauges_at = time.monotonic() + GAUGES_S
        with self._engine.connect() as connection:
            oldest = store.oldest(connection, "webhook")
            states = webhook_store.states(connection)
        OLDEST.labels("webhook").set(0.0 if oldest is None else oldest.timestamp())
        for name in ("closed", "open", "half_open", "disabled"):
            ENDPOINTS.labels(name).set(states.get(name, 0))

    def _progress(self) -> None:
        self.health.progress()
        metrics.PROGRESS.labels(NAME).set_to_current_time()

    def _next_pause(self) -> float:
        return pause_s(self._failures + 1, self.settings.retry_max_s)

    def _pause(self, part: str, error: str) -> None:
        """Wait before the next round: doubling from 100 ms, at most ``retry_max_s``, with jitter."""
        pause = self._next_pause()
        self._failures += 1
        metrics.RETRIES.labels(NAME, part).inc()
        log.warning("paused", part=part, pause_s=round(pause, 3), error=error)
        until = time.monotonic() + pause
        while not self._stop and (left := until - time.monotonic()) > 0:
            self._progress()
            time.sleep(min(0.1, left))


def room_for_sockets() -> None:
    """Raise the limit on open files to what the system allows, at most 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(settings: Settings) -> None:
    """Run as this process, with health server and signal handlers, until SIGTERM or SIGINT.

    Raises:
        ValueError: a required setting is missing.
    """
    room_for_sockets()
    health = Health(NAME)
    webhooks = Webhooks(settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), NAME))

    def stop(*_: Any) -> None:
        webhooks.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server = health.serve(settings)
    metrics.begin_sender(NAME)
    OLDEST.labels("webhook")
    log.info("started", worker=NAME, health_port=server.server_address[1])
    webhooks.run()
    log.info("stopped", worker=NAME)
    server.shutdown()
