"""Sends messages by mail: closes them, prepares them, mails them and announces them.

A round: lease due messages; ask intake for all their parties and all their claims, in one call each; render. Then, in
flights of ``FLIGHT``: record ``sending`` (committed), send, and record ``sent`` with digest and announcements in the
transaction that also begins the next flight. So a message is sent at least once. It is sent again only if it is
unknown whether the server accepted it: the answer was lost, or this process died between the answer and the commit.
Repeats are counted.

Leases, pauses and the collecting time are wall time; times in messages are business time.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final
from zlib import crc32

import structlog

from services.notification import centre, store, windows
from services.notification.channels import bad_address, status
from services.notification.closing import Closer
from services.notification.domain import WINDOW_KINDS
from services.notification.intake_client import IntakeClient, IntakeDown
from services.notification.mail import Letter, Mailer, MailResult, Relay, RelayDown
from services.notification.metrics import CENTRE, DELIVERIES, OLDEST
from services.notification.metrics import SENDER as NAME
from services.notification.pacing import Limit, Pacer, QuietPeriod, of_domain, quiet_until
from services.notification.preparing import PreparedMessage, Preparer, plain, state_before
from services.notification.render import digest
from services.notification.reports import return_path
from services.notification.signing import Dkim, Signer
from services.notification.types import UNREACHABLE, Failure, Message, PutOff, Sent
from shared import clock, db, metrics, policy, sealing, tracing
from shared.backoff import Quiet, pause_s
from shared.runtime.crashes import crash_from
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

TAKE: Final = 200
"""Messages leased, resolved and rendered at a time."""
FLIGHT: Final = 50
"""Messages sent between two commits: at most so many are repeated after a kill."""
LANES: Final = 4
"""Connections to the mail server: most of a message's time is spent waiting. A party's mail keeps to one, in order."""
DEEM_S: Final = 0.5
"""Wall seconds between checks for messages that count as received by now."""
QUIET_LOOK_S: Final = 900.0
"""Longest pause (wall seconds) of a message that waits for quiet hours (business time) to end."""
LONGEST_PAUSE_S: Final = 900.0
"""Longest pause (wall seconds) after temporary refusals of a message."""


class Sender:
    """Works until ``stop``. Any number of senders may run.

    Args:
        crash: called with the name of each step; tests pass one that kills the process.
    """

    def __init__(
        self, settings: Settings, *, health: Health | None = None, crash: Callable[[str], None] | None = None
    ) -> None:
        if settings.internal_token is None:
            raise ValueError("GOODFAITH_INTERNAL_TOKEN: needed to ask intake for contacts")
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
        lease = settings.send_lease_s
        # flights begin within 30 % of the lease, and every wait ends within 75 % of it, whatever the server does
        self._begin_within_s = lease * 0.3
        self._end_within_s = lease * 0.75
        relay = relay_of(settings)
        self._mailers = [Mailer(relay) for _ in range(LANES)]
        self._signer = signer_of(settings)
        self._bounce_domain = settings.bounce_domain or settings.smtp_from.rpartition("@")[2]
        self._centre = None if settings.centre_key is None else sealing.public_key("centre_key", settings.centre_key)
        self._pool = ThreadPoolExecutor(LANES, thread_name_prefix="lane")
        self._preparer = Preparer(settings, self._engine, self._intake)
        self._closer = Closer(self._engine, timedelta(seconds=settings.collect_s))
        self._pacer = Pacer({name: Limit(*limit) for name, limit in settings.mail_limits.items()})
        self._tracing = tracing.current()
        self._spans: dict[str, Any] = {}
        self._heard: list[tuple[str, MailResult]] = []
        self._quiet = Quiet()
        self._failures = 0
        self._stop = False
        self._gauge_at = 0.0
        self._deem_at = 0.0

    def stop(self) -> None:
        """Finish the current flight and give the rest back. Safe from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Work until ``stop``. Transient failures are retried forever, with growing pauses."""
        while not self._stop:
            try:
                started = time.monotonic()
                worked = self.turn()
                self.health.ready()
                least_s = max(self.settings.poll_ms / 1000, 2 * (time.monotonic() - started))
                self._wait(self._quiet.after_s(worked, least_s))
            except Exception as error:
                if not db.is_transient(error):
                    raise
                self._pause("database", type(error).__name__)
        self.health.ready(False)
        for mailer in self._mailers:
            mailer.quit()
        self._pool.shutdown()
        self._intake.close()
        self._engine.dispose()

    def turn(self) -> bool:
        """Run one round; returns whether there was anything to do."""
        self._progress()
        started = time.monotonic()
        messages = self._take(TAKE)
        self._crash("after_take")
        closed = 0
        if len(messages) < TAKE:
            # queued messages come first: closing more than can be sent would only take CPU time from the workers
            closed = self.collect()
            if closed:
                messages += self._take(TAKE - len(messages))
        if messages:
            self._deliver(messages, started)
        deemed = self._deem()
        self._observe()
        return bool(messages or closed or deemed)

    def _deem(self) -> int:
        """Begin the windows of messages that count as received by now."""
        if time.monotonic() < self._deem_at:
            return 0
        with self._engine.begin() as connection:
            now, _ = clock.read(connection)
            deemed = windows.deem(connection, now)
        self._deem_at = 0.0 if deemed else time.monotonic() + DEEM_S
        return deemed

    def _take(self, limit: int) -> list[Message]:
        with self._engine.begin() as connection:
            return store.take(connection, self._holder, self.settings.send_lease_s, limit)

    def collect(self) -> int:
        """Close the messages that can be closed, unless another process is doing so; returns how many."""
        return self._closer.close()

    # ------------------------------------------------------------------------------------------------------ a round

    def _deliver(self, messages: list[Message], started: float) -> None:
        self._spans = {} if self._tracing is None else begin_spans(self._tracing, messages)
        late = [centre.silent(one) for one in messages if one.result == centre.WAITS]
        if late:
            self._persist(late, [])
            messages = [one for one in messages if one.result != centre.WAITS]
        try:
            prepared, back = self._preparer.prepare(messages)
        except IntakeDown as error:
            self._persist([PutOff(one, state_before(one), "intake_down") for one in messages], [])
            self._pause("intake", str(error))
            return
        done: list[Sent | PutOff] = [*back]
        mails = []
        handed: list[centre.HandOver] = []
        for one in prepared:
            if one.why == centre.WAITS:
                assert self._centre is not None
                sealed = centre.seal(one.message, one.rendered, digest(one.raw), self._centre)
                if sealed is not None:
                    handed.append(sealed)
                    continue
                failure = Failure("centre", "refused", "too_long")
                done.append(PutOff(one.message, state_before(one.message), "refused", failure=failure))
            elif one.to is None:
                done.append(_sent(one, "inbox", one.why))
            elif (waits := self._waits(one)) is not None:
                done.append(waits)
            else:
                mails.append(one)
        if handed:
            self._persist([], [], handed)
        down: RelayDown | None = None
        while mails:
            flight, mails = mails[:FLIGHT], mails[FLIGHT:]
            if self._stop or down or time.monotonic() - started > self._begin_within_s:
                done += [PutOff(one.message, state_before(one.message), "given_back") for one in (*flight, *mails)]
                break
            ours = {message.id for message in self._persist(done, [one.message for one in flight])}
            self._crash("after_sending")
            done = []
            down = self._fly([one for one in flight if one.message.id in ours], done, started)
        self._crash("before_commit")
        self._persist(done, [])
        self._crash("after_commit")
        if down is not None:
            self._pause("smtp", str(down))
        else:
            self._failures = 0

    def _waits(self, one: PreparedMessage) -> PutOff | None:
        """Put a message off until quiet hours end or its domain has room; None if it can go now."""
        message, at = one.message, one.rendered.at
        if at is not None and (until := quiet_end(message, at)) is not None:
            # check again earlier: business time may run at another speed than wall time
            left = min((until - at).total_seconds(), QUIET_LOOK_S)
            return PutOff(message, state_before(message), "quiet", left)
        wait = self._pacer.wait(_domain(one), time.monotonic(), booked=message.result == "held")
        return PutOff(message, state_before(message), "held", wait) if wait > 0.0 else None

    def _fly(self, flight: Sequence[PreparedMessage], done: list[Sent | PutOff], started: float) -> RelayDown | None:
        """Send a flight, each party's messages in order; appends the outcomes to ``done``."""
        lanes: list[list[PreparedMessage]] = [[] for _ in self._mailers]
        for one in flight:
            party = crc32(one.message.party.encode())
            lanes[self._pacer.lane(_domain(one), party, LANES)].append(one)
        futures = [
            self._pool.submit(self._send, mailer, lane, started)
            for mailer, lane in zip(self._mailers, lanes, strict=True)
            if lane
        ]
        down: RelayDown | None = None
        for future in futures:
            results, failed = future.result()
            done += results
            down = down or failed
        heard, self._heard = self._heard, []
        now = time.monotonic()
        for domain, answer in heard:
            if answer.result == "sent":
                self._pacer.eased(domain)
            elif answer.result == "later" and of_domain(answer.reason):
                self._pacer.slowed(domain, now)
        return down

    def _send(
        self, mailer: Mailer, lane: Sequence[PreparedMessage], started: float
    ) -> tuple[list[Sent | PutOff], RelayDown | None]:
        """Send messages in order over one connection; returns their outcomes, and why the rest was not tried."""
        done: list[Sent | PutOff] = []
        late = False

        def letters() -> Iterator[Letter]:
            nonlocal late
            for one in lane:
                if late := time.monotonic() - started > self._begin_within_s:
                    return
                yield self._letter(one)

        down: RelayDown | None = None
        try:
            for answer in mailer.send(letters(), started + self._end_within_s):
                self._progress()
                self._crash("after_send")
                self._heard.append((_domain(lane[len(done)]), answer))
                done.append(_outcome(lane[len(done)], answer))
        except RelayDown as error:
            down = error
        # none of these was sent; an earlier unknown outcome has been counted already
        done += [PutOff(rest.message, "queued", "given_back") for rest in lane[len(done) :]]
        return done, None if late else down

    def _letter(self, one: PreparedMessage) -> Letter:
        key = self.settings.mail_key
        back = self.settings.smtp_from
        if key is not None:
            back = return_path(key.get_secret_value(), one.message.id, self._bounce_domain)
        raw = one.raw if self._signer is None else self._signer.sign(one.raw, int(time.time()))
        return Letter(one.message.id, one.to or "", back, raw)

    def _persist(
        self, done: Sequence[Sent | PutOff], flight: Sequence[Message], handed: Sequence[centre.HandOver] = ()
    ) -> list[Message]:
        """Record the outcomes of messages and that sending of ``flight`` begins; returns those that may be sent.

        ``handed`` goes to the message centre.
        Keeps trying while the leases last, so that a database outage does not cause repeats.
        """
        sent = [one for one in done if isinstance(one, Sent)]
        back = [one for one in done if isinstance(one, PutOff)]
        for one in sent:
            span = self._spans.get(one.message.id)
            one.trace = next(iter(one.message.traces), None) if span is None else tracing.context_of(span)
        until = time.monotonic() + self.settings.send_lease_s / 2
        while True:
            try:
                with self._engine.begin() as connection:
                    now, wall = clock.read(connection)
                    noted = store.finish(connection, self._holder, sent, now, wall)
                    store.put_off(connection, self._holder, back, now, wall)
                    ours = store.sending(connection, self._holder, flight)
                    wait_s, partitions = self.settings.centre_wait_s, self.settings.partitions
                    count = centre.hand_over(
                        connection, self._holder, handed, now, wait_s=wait_s, partitions=partitions
                    )
                break
            except Exception as error:
                if not db.is_transient(error) or time.monotonic() > until:
                    raise
                self._pause("database", type(error).__name__, even_stopping=True)
        if count:
            CENTRE.labels("handed").inc(count)
        for one in noted:
            DELIVERIES.labels(one.channel, one.result).inc()
            end_span(self._spans, one.message, one.channel, one.result)
        for put_off in back:
            by_centre = put_off.failure is not None and put_off.failure.channel == "centre"
            end_span(self._spans, put_off.message, "centre" if by_centre else "email", put_off.result)
            if by_centre:
                CENTRE.labels(put_off.result).inc()
            elif put_off.result in ("later", "failed", "refused", "held", "quiet"):
                DELIVERIES.labels("email", put_off.result).inc()
        repeated = sum(message.unknown for message in ours)
        if repeated:
            DELIVERIES.labels("email", "repeated").inc(repeated)
            log.warning("sent again after an unknown outcome", count=repeated)
        return ours

    # ---------------------------------------------------------------------------------------------------- the rest

    def _observe(self) -> None:
        if time.monotonic() < self._gauge_at:
            return
        self._gauge_at = time.monotonic() + 5.0
        with self._engine.connect() as connection:
            oldest = store.oldest(connection, "email")
            self._pacer.share = store.processes(connection, NAME)
        OLDEST.labels("email").set(0.0 if oldest is None else oldest.timestamp())

    def _progress(self) -> None:
        self.health.progress()
        metrics.PROGRESS.labels(NAME).set_to_current_time()

    def _pause(self, part: str, error: str, *, even_stopping: bool = False) -> None:
        """Wait before the next try: doubling from 100 ms, at most ``retry_max_s``, with jitter."""
        self._failures += 1
        metrics.RETRIES.labels(NAME, part).inc()
        pause = pause_s(self._failures, self.settings.retry_max_s)
        log.warning("paused", part=part, pause_s=round(pause, 3), error=error)
        self._wait(pause, even_stopping=even_stopping)

    def _wait(self, seconds: float, *, even_stopping: bool = False) -> None:
        until = time.monotonic() + seconds
        while (even_stopping or not self._stop) and (left := until - time.monotonic()) > 0:
            self._progress()
            time.sleep(min(0.1, left))


def begin_spans(tracing_: tracing.Tracing, messages: Iterable[Message]) -> dict[str, Any]:
    """A span for each traced message: one try to send it, from when it was leased."""
    spans = {}
    for message in messages:
        if message.traces:
            first, *others = message.traces
            attributes: dict[str, Any] = {
                "goodfaith.message.kind": message.kind,
                "goodfaith.message.items": len(message.items),
            }
            if message.items:
                attributes["goodfaith.claim"] = message.claim
            spans[message.id] = tracing_.span("send message", "CLIENT", first, attributes, links=others)
    return spans


def end_span(spans: dict[str, Any], message: Message, channel: str, result: str) -> None:
    """End a message's span with the result of the try."""
    span = spans.pop(message.id, None)
    if span is not None:
        span.set_attribute("goodfaith.message.channel", channel)
        span.set_attribute("goodfaith.message.result", result)
        span.end()


def quiet_end(message: Message, now: datetime) -> datetime | None:
    """When the quiet hours that apply to a message end; None if it need not wait.

    Messages that begin a window never wait, nor do messages to an account about itself: some of those are requested,
    some urgent.
    """
    if message.kind in WINDOW_KINDS or message.notice is not None or not message.items:
        return None
    try:
        quiet = policy.load(message.items[0].facts.policy).quiet
    except policy.PolicyError:
        return None
    if quiet is None:
        return None
    return quiet_until(QuietPeriod(quiet.begin, quiet.end, quiet.zone), None, now)


def _domain(one: PreparedMessage) -> str:
    return (one.to or "").rpartition("@")[2]


def _outcome(one: PreparedMessage, answer: MailResult) -> Sent | PutOff:
    """What to record about a message after the server's answer."""
    message = one.message
    if answer.result == "sent":
        return _sent(one, "email", "sent")
    if answer.result == "unknown":
        return PutOff(message, "sending", "unknown", pause_s(message.tries, LONGEST_PAUSE_S, 2.0), tried=True)
    if answer.result == "later":
        return PutOff(message, "queued", "later", pause_s(message.tries, LONGEST_PAUSE_S, 2.0), tried=True)
    log.info("refused", message=message.id, kind=message.kind, reason=answer.reason)
    # a bare code says only that the failure is permanent; an answer to the text concerns this message only
    code = status(answer.reason) or "5.0.0"
    bad = one.address if not answer.text and bad_address(code) else None
    failure = Failure("email", "refused", answer.reason, bad)
    if one.other != "inbox":
        route = "webhook" if one.other == "webhook" else None
        return PutOff(message, "queued", "refused", route=route, failure=failure)
    inbox = PreparedMessage(message, one.rendered, None, plain(one.rendered), failure=failure)
    return _sent(inbox, "inbox", UNREACHABLE if one.lost else "refused")


def _sent(one: PreparedMessage, channel: str, result: str) -> Sent:
    rendered = one.rendered
    return Sent(
        one.message,
        channel,
        result,
        rendered.template,
        rendered.version,
        digest(one.masked or one.raw),
        locale=rendered.locale,
        edition=rendered.edition,
        rendered_at=rendered.at,
        address=one.address if channel == "email" else None,
        failure=one.failure,
    )


def relay_of(settings: Settings) -> Relay:
    """The mail server from the settings.

    Raises:
        ValueError: a login would be sent unencrypted.
    """
    password = settings.smtp_password
    wait = settings.send_lease_s / 8
    return Relay(
        host=settings.smtp_host,
        port=settings.smtp_port,
        tls=settings.smtp_tls,
        ca_file=settings.smtp_ca_file,
        user=settings.smtp_user,
        password="" if password is None else password.get_secret_value(),
        reports=settings.smtp_reports,
        timeout_s=wait,
        final_s=wait,
    )


def signer_of(settings: Settings) -> Signer | None:
    """A signer with the DKIM key from the settings, if there is one.

    Raises:
        ValueError: the key is invalid or too weak.
    """
    if settings.dkim_key is None:
        return None
    key = settings.dkim_key.get_secret_value().replace("\\n", "\n").encode()
    return Dkim(settings.dkim_domain or settings.smtp_from.rpartition("@")[2], settings.dkim_selector, key)


def run(settings: Settings) -> None:
    """Run a sender as this process, with health server and signal handlers, until SIGTERM or SIGINT.

    Raises:
        ValueError: a setting that the sender needs is missing.
    """
    health = Health(NAME)
    sender = Sender(settings, health=health, crash=crash_from(os.environ.get("GOODFAITH_CRASH_AT"), NAME))
    signal.signal(signal.SIGTERM, lambda *_: sender.stop())
    signal.signal(signal.SIGINT, lambda *_: sender.stop())
    server = health.serve(settings)
    metrics.begin_sender(NAME)
    OLDEST.labels("email")
    log.info("started", worker=NAME, health_port=server.server_address[1])
    sender.run()
    log.info("stopped", worker=NAME)
    server.shutdown()
