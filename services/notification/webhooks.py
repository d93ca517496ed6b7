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
import random
import resource
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from services.notification import circuit, payload, retrying, store, webhook_store
from services.notification.calling import Caller, Flight, FlightEnded, Landed, Parcel, Question
from services.notification.circuit import Circuit
from services.notification.closing import Closer
from services.notification.render import Contact, digest
from services.notification.sender import DELIVERIES, OLDEST, ChallengeEnded, IntakeClient, IntakeDown
from services.notification.store import Message, Sent
from services.notification.webhook_store import Due, Ended, Endpoint, Released
from shared import clock, db, metrics, tracing
from shared.outbound import Names
from shared.runtime.health import Health
from shared.runtime.worker import crash_from
from shared.settings import Settings
from shared.webhooks import WebhookTry

log = structlog.get_logger(__name__)

NAME: Final = "notification-webhooks"
TAKE: Final = 250
"""Endpoints leased at a time."""
EACH: Final = {True: 4, False: 1}
"""Deliveries taken per endpoint, by whether it accepted the last call: one that may be failing gets one."""
BYTES_MOST: Final = 64_000_000
"""Bytes of rendered messages above which nothing more is leased."""
ASSIGN: Final = 500
"""Messages assigned to endpoints at a time."""
SWEEP_S: Final = 5.0
CHALLENGE_S: Final = 3.0
CHALLENGES: Final = 20
"""New webhooks called at a time."""

ATTEMPTS = metrics.counter(
    "goodfaith_webhook_attempts_total",
    "Calls to webhooks by outcome: `delivered`, `failed`, `unknown` (may have been accepted), `wait` (429 or "
    "`Retry-After`), `gone` (410).",
    {"outcome": ("delivered", "failed", "unknown", "wait", "gone")},
    of=NAME,
    do="mostly `failed` or `unknown`: is it one receiver, or our own outbound network?",
)
CHALLENGES_SENT = metrics.counter(
    "goodfaith_webhook_challenges_total",
    "Calls to new webhooks with the code that confirms them, by outcome as for other calls.",
    {"outcome": ("delivered", "failed", "unknown", "wait", "gone")},
    of=NAME,
    do="mostly `failed` or `unknown`: our own outbound network, or webhooks that point at servers that expect none",
)
REPLAYS = metrics.counter(
    "goodfaith_webhook_replays_total",
    "Calls to webhooks made for a replay; also counted among the others.",
    of=NAME,
)
SECONDS = metrics.histogram(
    "goodfaith_webhook_seconds",
    "How long webhooks took to answer the calls that they accepted.",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
    of=NAME,
)
IN_FLIGHT = metrics.gauge(
    "goodfaith_webhook_in_flight",
    "Webhooks that this process is calling now.",
    of=NAME,
    do="at `GOODFAITH_WEBHOOK_IN_FLIGHT` for long: run more processes",
)
ENDPOINTS = metrics.gauge(
    "goodfaith_webhook_endpoints",
    "Webhooks by state of their circuit.",
    {"state": ("closed", "open", "half_open", "disabled")},
    of=NAME,
    do="many `open` at once: check our own outbound network",
)
DISABLED = metrics.counter(
    "goodfaith_webhooks_disabled_total",
    "Webhooks that were disabled because they are gone (410) or have been failing for days.",
    {"reason": ("gone", "failing")},
    of=NAME,
    do="nothing: their owners are told",
)


class Webhooks:
    """Runs until told to stop. Any number of processes may run.

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
        self._caller = Caller(settings, names=names, landed=lambda: self._crash("after_call"))
        self._held: dict[str, tuple[bool, int]] = {}
        """Endpoints being called: whether each accepted its previous call, and the bytes being sent to it."""
        self._failures = 0
        self._stop = False
        self._tracing = tracing.current()
        self._sweep_at = 0.0
        self._challenge_at = 0.0
        self._asking = 0
        """New webhooks being called, or whose result has not been reported to intake yet."""
        self._told: list[ChallengeEnded] = []
        self._back: list[Landed | FlightEnded] = []

    def stop(self) -> None:
        """Start no further call, and record the outcome of those under way. Safe from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Work until ``stop``. Transient failures are retried forever, with growing pauses."""
        while not self._stop:
            try:
                worked = self.turn()
                self.health.ready()
                if not worked:
                    self._caller.news.wait(self.settings.poll_ms / 1000)
            except Exception as error:
                if not db.is_transient(error):
                    raise
                self._pause("database", type(error).__name__)
        self.health.ready(False)
        self.close()

    def close(self) -> None:
        """Let calls under way end, record their outcomes and release everything."""
        self._caller.stop_flights()
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
            self._intake.challenges(self._told, 0)
        self._intake.close()
        self._engine.dispose()

    def turn(self) -> bool:
        """Run one round; returns whether there was anything to do."""
        self._progress()
        noted = self._note()
        assigned = self._assign()
        flown = 0
        try:
            flown = self._fly()
            self._failures = 0
        except IntakeDown as away:
            self._pause("intake", str(away))
        self._challenge()
        closed = 0 if flown >= TAKE else self._closer.close()
        self._observe()
        return bool(noted or assigned or flown or closed)

    # ------------------------------------------------------------------------------------------------------ a round

    def _assign(self) -> int:
        """Assign messages with route ``webhook`` to endpoints or to another channel."""
        with self._engine.begin() as connection:
            now, wall = clock.read(connection)
            held, away = webhook_store.assign(connection, ASSIGN, self._fallback_s, now, wall)
        if away:
            DELIVERIES.labels("webhook", "gave_up").inc(away)
        return held + away

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

    def _fly(self) -> int:
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
            flights, ended = self._prepare(endpoints, messages, sent, now)
        except IntakeDown:
            pause = wall + dt.timedelta(seconds=self._next_pause())
            self._give_back([Released(one.id, one.generation, one.circuit, pause) for one in endpoints])
            raise
        flying = {flight.endpoint for flight in flights}
        idle = [Released(one.id, one.generation, one.circuit) for one in endpoints if one.id not in flying]
        with self._engine.begin() as connection:
            wanted = [(flight.endpoint, parcel.due) for flight in flights for parcel in flight.parcels]
            webhook_store.lock(connection, self._holder, [one.endpoint for one in idle])
            ours = webhook_store.begin(connection, wanted)
            webhook_store.end(connection, ended)
            webhook_store.release(connection, self._holder, idle)
        self._crash("after_sending")
        repeated = count = 0
        for flight in flights:
            kept = [parcel for parcel in flight.parcels if (flight.endpoint, parcel.due.message) in ours]
            flight.parcels.clear()
            flight.parcels.extend(kept)
            flight.until = started + self._begin_within_s
            self._held[flight.endpoint] = (flight.circuit.proven, sum(len(parcel.raw) for parcel in kept))
            repeated += sum(parcel.due.unknown for parcel in kept)
            count += len(kept)
        if repeated:
            DELIVERIES.labels("webhook", "repeated").inc(repeated)
            log.warning("called again after an unknown outcome", count=repeated)
        self._caller.fly(flights)
        return count

    def _prepare(
        self,
        endpoints: Sequence[Endpoint],
        messages: dict[str, Message],
        sent: dict[str, dt.datetime],
        now: dt.datetime,
    ) -> tuple[list[Flight], list[Ended]]:
        """The flights, and the deliveries that end without a call.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        hooks = self._intake.webhooks({endpoint.party for endpoint in endpoints})
        parties = {endpoint.party for endpoint in endpoints}
        for known in messages.values():
            if known.notice is None:
                facts = known.items[0].facts
                parties.update(filter(None, (facts.complainant, facts.principal, facts.seller)))
        contacts = self._intake.contacts(parties)
        claims = [message.claim for message in messages.values() if message.notice is None]
        numbers = self._intake.right_numbers(claims) if claims else {}
        flights: list[Flight] = []
        ended: list[Ended] = []
        made: dict[tuple[str, bool], Parcel | None] = {}
        for endpoint in endpoints:
            hook = hooks.get(endpoint.party, {}).get(endpoint.id)
            if hook is None:
                # deleted, disabled or erased: the event that says so is on its way
                ended += [Ended(endpoint.id, one.message, "dropped", "disabled", tried=False) for one in endpoint.due]
                continue
            flight = Flight(endpoint.id, endpoint.party, endpoint.generation, endpoint.circuit, hook.url, hook.secrets)
            for one in endpoint.due:
                message = messages.get(one.message)
                if message is None:
                    ended.append(Ended(endpoint.id, one.message, "dropped", "unknown", tried=False))
                    continue
                key = (message.id, one.replay)
                if key not in made:
                    made[key] = self._render(message, one, contacts, numbers, sent.get(message.id, now))
                parcel = made[key]
                if parcel is None:
                    ended.append(Ended(endpoint.id, one.message, "failed", "not_rendered", tried=False))
                    continue
                flight.parcels.append(Parcel(one, message, parcel.raw, parcel.digest, parcel.shown))
            if flight.parcels:
                flights.append(flight)
        return flights, ended

    def _render(
        self,
        message: Message,
        due: Due,
        contacts: dict[str, Contact | None],
        numbers: dict[str, str | None],
        at: dt.datetime,
    ) -> Parcel | None:
        try:
            raw, shown = payload.body(
                message, contacts, numbers.get(message.claim), site=self.settings.marketplace_url, now=at
            )
        except Exception as error:
            # a bug of ours; log no traceback, which would show contact data
            log.error("rendering failed", message=message.id, kind=message.kind, error=type(error).__name__)
            DELIVERIES.labels("webhook", "failed").inc()
            return None
        return Parcel(due, message, raw, digest(raw), replace(shown, body="", html=""))

    def _note(self) -> int:
        """Record the results that have arrived, in one transaction; returns how many."""
        self._back += self._caller.drain()
        if not self._back:
            return 0
        landed = [one for one in self._back if isinstance(one, Landed)]
        spans = {} if self._tracing is None else call_spans(self._tracing, landed)
        over = [one.flight for one in self._back if isinstance(one, FlightEnded)]
        with self._engine.begin() as connection:
            now, wall = clock.read(connection)
            circuits = _circuits(landed, over, wall)
            reasons = {
                one.endpoint: "failing"
                for one in over
                if circuit.hopeless(circuits[one.endpoint], wall, self._hopeless)
            }
            reasons |= {one.endpoint: "gone" for one in over if one.gone}
            webhook_store.lock(connection, self._holder, [one.endpoint for one in over])
            taken = _sent(landed)
            for sent in taken:
                found = spans.get(sent.message.id)
                sent.trace = next(iter(sent.message.traces), None) if found is None else tracing.context_of(found[0])
            noted = store.finish(connection, webhook_store.HOLDER, taken, now, wall)
            # sent before by another channel or webhook: arriving here may still begin a window
            before = {one.message.id for one in taken} - {one.message.id for one in noted}
            store.begin_windows(connection, sorted(before), "delivered", now, now=now)
            webhook_store.end(connection, [self._ended(one, wall) for one in landed] + _untried(over))
            webhook_store.release(
                connection,
                self._holder,
                [Released(one.endpoint, one.generation, circuits[one.endpoint]) for one in over],
            )
            hopeless = [
                Endpoint(one.endpoint, one.party, one.generation, Circuit(), [])
                for one in over
                if one.endpoint in reasons
            ]
            disabled = webhook_store.disable(connection, hopeless, reasons, now, self.settings.partitions)
        self._crash("after_commit")
        for span, ended in spans.values():
            span.end(ended)
        for one in landed:
            one.flight.circuit = circuits[one.flight.endpoint]
        self._count(landed, over, noted, {id_: reasons[id_] for id_ in disabled})
        done, self._back = len(self._back), []
        return done

    def _ended(self, one: Landed, wall: dt.datetime) -> Ended:
        """The outcome of a delivery, from the answer to its call."""
        answer, due = one.answer, one.parcel.due
        entry = WebhookTry(at=one.at, result=answer.reason, ms=answer.ms, replay=due.replay)
        if answer.outcome == "delivered":
            return Ended(one.flight.endpoint, due.message, "delivered", answer.reason, entry=entry)
        again = retrying.next_try(due.tries + 1, due.began, wall, self._lasts, random.random(), answer.wait)
        if again is None or answer.outcome == "gone":
            return Ended(one.flight.endpoint, due.message, "failed", answer.reason, entry=entry)
        state = "sending" if answer.outcome == "unknown" else "queued"
        return Ended(one.flight.endpoint, due.message, state, answer.reason, due=again, entry=entry)

    def _challenge(self) -> None:
        """Report the results of challenges to intake, and call further new webhooks."""
        self._hear()
        if self._stop or time.monotonic() < self._challenge_at:
            return
        self._challenge_at = time.monotonic() + CHALLENGE_S
        try:
            found = self._intake.challenges(self._told, CHALLENGES - self._asking)
        except IntakeDown as away:
            # an older version of intake does not have this route; nothing else depends on it
            log.info("challenges unavailable", error=str(away))
            return
        self._asking -= len(self._told)
        self._told.clear()
        self._crash("after_challenges")
        now = dt.datetime.now(dt.UTC)
        self._asking += len(found)
        self._caller.ask(
            [
                Question(
                    one.id, one.ask, one.url, one.secrets, payload.challenge(one.id, one.code, one.expires_at, now)
                )
                for one in found
            ]
        )

    def _hear(self) -> None:
        for question, answer in self._caller.answers():
            CHALLENGES_SENT.labels(answer.outcome).inc()
            over = answer.outcome in ("delivered", "gone")
            self._told.append(ChallengeEnded(question.endpoint, question.ask, answer.reason, over))

    def _give_back(self, released: Sequence[Released]) -> None:
        with self._engine.begin() as connection:
            webhook_store.lock(connection, self._holder, [one.endpoint for one in released])
            webhook_store.release(connection, self._holder, released)

    def _count(
        self, landed: Sequence[Landed], over: Sequence[Flight], noted: Sequence[Sent], disabled: dict[str, str]
    ) -> None:
        for one in landed:
            outcome = one.answer.outcome
            ATTEMPTS.labels(outcome).inc()
            if one.parcel.due.replay:
                REPLAYS.inc()
            if outcome == "delivered":
                SECONDS.observe(one.answer.ms / 1000)
            else:
                DELIVERIES.labels("webhook", "refused" if outcome == "gone" else "later").inc()
            proven, size = self._held.get(one.flight.endpoint, (False, 0))
            self._held[one.flight.endpoint] = (proven, size - len(one.parcel.raw))
        for flight in over:
            self._held.pop(flight.endpoint, None)
        for sent in noted:
            DELIVERIES.labels(sent.channel, sent.result).inc()
        for endpoint, reason in disabled.items():
            DISABLED.labels(reason).inc()
            log.warning("webhook disabled", webhook=endpoint, reason=reason)

    # ---------------------------------------------------------------------------------------------------- the rest

    def _observe(self) -> None:
        IN_FLIGHT.set(len(self._held))
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_S
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
        ceiling = min(self.settings.retry_max_s, 0.1 * 2 ** min(self._failures + 1, 12))
        return random.uniform(ceiling / 2, ceiling)

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


def call_spans(tracing_: tracing.Tracing, landed: Sequence[Landed]) -> dict[str, tuple[Any, int]]:
    """Spans of traced calls and their ends, by message: the first accepted call, else the last. Without addresses."""
    spans: dict[str, tuple[Any, int]] = {}
    taken: set[str] = set()
    for one in landed:
        message, answer = one.parcel.message, one.answer
        if not message.traces or message.id in taken:
            continue
        attributes: dict[str, Any] = {"http.request.method": "POST", "goodfaith.message.result": answer.outcome}
        if answer.status is not None:
            attributes["http.response.status_code"] = answer.status
        if message.items:
            attributes["goodfaith.claim"] = message.claim
        ended = int(one.at.timestamp() * 1e9)
        begun = ended - answer.ms * 1_000_000
        spans[message.id] = (
            tracing_.span("POST", "CLIENT", message.traces[0], attributes, start_ns=begun),
            ended,
        )
        if answer.outcome == "delivered":
            taken.add(message.id)
    return spans


def _sent(landed: Sequence[Landed]) -> list[Sent]:
    """Messages that a webhook has accepted, each once."""
    found: dict[str, Sent] = {}
    for one in landed:
        parcel = one.parcel
        if one.answer.outcome == "delivered" and parcel.message.id not in found:
            shown = parcel.shown
            found[parcel.message.id] = Sent(
                parcel.message,
                "webhook",
                "sent",
                shown.template,
                shown.version,
                parcel.digest,
                locale=shown.locale,
                edition=shown.edition,
                rendered_at=shown.at,
                delivered=True,
            )
    return list(found.values())


def _untried(over: Sequence[Flight]) -> list[Ended]:
    """Deliveries for which no call was made: they stay as they were."""
    return [
        Ended(flight.endpoint, one.due.message, "sending" if one.due.unknown else "queued", "given_back", tried=False)
        for flight in over
        for one in flight.parcels
    ]


def _circuits(landed: Sequence[Landed], over: Sequence[Flight], wall: dt.datetime) -> dict[str, Circuit]:
    """Circuits of endpoints after their calls, in order. The flights themselves are not changed before the commit."""
    found = {flight.endpoint: flight.circuit for flight in (*(one.flight for one in landed), *over)}
    for one in landed:
        before = found[one.flight.endpoint]
        if one.answer.outcome == "delivered":
            after = circuit.succeeded()
        elif one.answer.outcome == "wait":
            after = circuit.throttled(before, wall, wall + (one.answer.wait or circuit.FIRST_PAUSE))
        else:
            after = circuit.failed(before, wall, random.random())
        found[one.flight.endpoint] = after
    return found


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
