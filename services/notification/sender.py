"""Closes messages, renders them, mails them, and announces them.

A round: lease due messages; ask intake for all their parties and all their claims, in one call each; render. Then, in
flights of ``FLIGHT``: record ``sending`` (committed), send, and record ``sent`` with digest and announcements in the
transaction that also begins the next flight. So a message is sent at least once. It is sent again only if it is
unknown whether the server accepted it: the answer was lost, or this process died between the answer and the commit.
Repeats are counted.

Leases, pauses and the collecting time are wall time; times in messages are business time.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import httpx
import msgspec
import structlog

from services.notification import store
from services.notification.channels import Channel, address_key, bad_address, status
from services.notification.closing import Closer
from services.notification.domain import SECRET, WINDOW_KINDS, deadline
from services.notification.mail import Answer, Down, Letter, Mailer, Relay
from services.notification.pacing import Limit, Pacer, Quiet, of_domain, quiet_until
from services.notification.render import (
    MASK,
    Contact,
    Rendered,
    Told,
    digest,
    mail,
    render,
    render_notice,
    render_unconfirmed,
)
from services.notification.reports import return_path
from services.notification.routing import channel
from services.notification.signing import Dkim, Signer
from services.notification.store import Failure, Message, PutOff, Sent
from services.notification.webhook_store import Preference, preferences, sent_at
from shared import clock, db, metrics, policy, tracing
from shared.callers import trust
from shared.events import AccountNotice
from shared.runtime.health import Health
from shared.runtime.worker import crash_from
from shared.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "notification-sender"
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
GIVE_UP: Final = 30
"""Temporary refusals (4xx), over some 6 hours, after which a message is left in the inbox."""
LONGEST_PAUSE_S: Final = 900.0
_RESULTS: Final = (
    "sent",
    "repeated",
    "later",
    "held",
    "quiet",
    "refused",
    "gave_up",
    "bounced",
    "bouncing",
    "no_contact",
    "outdated",
    "failed",
)
DELIVERIES = metrics.counter(
    "goodfaith_deliveries_total",
    "Messages by channel and result: `sent`; `repeated` (sent again after an unknown outcome; counted in addition to "
    "its own result); `later` (refused temporarily); `held` (its domain's rate limit or pause); `quiet` (quiet "
    "hours); `refused`, `gave_up`, `bounced`, `bouncing`, `no_contact` (goes by another channel or to the inbox); "
    "`outdated` (a code that is no longer needed); `failed`.",
    {"channel": ("email", "webhook", "inbox"), "result": _RESULTS},
    of=(NAME, "notification-webhooks"),
    do="`failed`: a bug in a template; such messages stay in state `failed` until you set them to `queued` again. "
    "`repeated`: a party may have received a message twice",
)
OLDEST = metrics.gauge(
    "goodfaith_delivery_oldest_pending_timestamp_seconds",
    "When the oldest message that a channel still has to send arose, without those in quiet hours; 0: none.",
    {"channel": ("email", "webhook")},
    of=(NAME, "notification-webhooks"),
    do="old: mail server, webhooks (until another channel takes over) or intake's API. No window begins meanwhile",
    series=(),
)


class IntakeDown(Exception):
    """Intake gave no usable answer."""


class Hook(msgspec.Struct, frozen=True):
    """A webhook as intake returns it for sending. Its address and secrets are never stored."""

    id: str
    url: str
    secrets: tuple[str, ...]


class Challenge(msgspec.Struct, frozen=True):
    """A webhook that its owner has yet to confirm, as intake returns it. Never stored."""

    id: str
    ask: int
    url: str
    secrets: tuple[str, ...]
    code: str
    expires_at: datetime


class ChallengeEnded(msgspec.Struct, frozen=True):
    """The result of a call with a challenge."""

    id: str
    ask: int
    result: str
    over: bool


class IntakeClient:
    """Client of intake's internal API. Its answers are kept for one round only."""

    CHUNK: Final = 500

    def __init__(self, url: str, token: str, authorities: Path | None = None) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=10.0,
            trust_env=False,
            verify=trust(url, authorities),
        )

    def contacts(self, ids: Iterable[str]) -> dict[str, Contact | None]:
        """Contact data by account id; None for accounts that intake does not (or no longer) know.

        Raises:
            IntakeDown: no usable answer; nothing may be sent.
        """
        return {id_: Contact.of(raw) for id_, raw in self._ask("contacts", ids).items()}

    def right_numbers(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Number of the claim's right, by claim id.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("claims", ids)
        return {id_: None if raw is None else raw.get("right_number") for id_, raw in found.items()}

    def webhooks(self, ids: Iterable[str]) -> dict[str, dict[str, Hook]]:
        """Webhooks in use by account, each by id.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("webhooks", ids)
        try:
            known = {id_: msgspec.convert(raw["webhooks"], list[Hook]) for id_, raw in found.items() if raw is not None}
        except (msgspec.ValidationError, KeyError) as error:
            raise IntakeDown("webhooks: not understood") from error
        return {id_: {hook.id: hook for hook in hooks} for id_, hooks in known.items()}

    def challenges(self, ended: Sequence[ChallengeEnded], most: int) -> list[Challenge]:
        """Report the results of challenges, and fetch up to ``most`` new ones.

        Raises:
            IntakeDown: no usable answer. Intake may have recorded the results; report them again.
        """
        try:
            response = self._client.post(
                "/internal/challenges", json={"ended": msgspec.to_builtins(ended), "most": most}
            )
            response.raise_for_status()
            return msgspec.convert(response.json()["challenges"], list[Challenge])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
            raise IntakeDown(f"challenges: {status or type(error).__name__}") from error

    def codes(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Code to send, by notice; None if there is nothing left to confirm. Each answer voids the previous one.

        Raises:
            IntakeDown: no usable answer.
        """
        found = self._ask("codes", ids)
        return {id_: None if raw is None else raw.get("code") for id_, raw in found.items()}

    def _ask(self, what: str, ids: Iterable[str]) -> dict[str, Any]:
        wanted = sorted(set(ids))
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), self.CHUNK):
            chunk = wanted[start : start + self.CHUNK]
            try:
                response = self._client.post(f"/internal/{what}", json={"ids": chunk})
                response.raise_for_status()
                answer = response.json()[what]
                found.update((id_, answer.get(id_)) for id_ in chunk)
            except (httpx.HTTPError, ValueError, KeyError, AttributeError, TypeError) as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
                raise IntakeDown(f"{what}: {status or type(error).__name__}") from error
        if not all(raw is None or isinstance(raw, dict) for raw in found.values()):
            raise IntakeDown(f"{what}: not understood")
        return found

    def close(self) -> None:
        """Close connections."""
        self._client.close()


@dataclass(slots=True)
class Parcel:
    """A message ready to be sent; without ``to`` it goes to the inbox, for the reason ``why``."""

    message: Message
    rendered: Rendered
    to: str | None
    raw: bytes
    why: str = ""
    kept: bytes | None = None
    """The message without its code, from which the digest is computed; None if it has no code."""
    address: str | None = None
    """Keyed hash of ``to``."""
    failure: Failure | None = None
    """The channel that was given up for this one."""
    other: Channel = "inbox"
    """The channel to try if e-mail fails."""


class Sender:
    """Runs until told to stop. Any number of senders may run.

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
        self._pool = ThreadPoolExecutor(LANES, thread_name_prefix="lane")
        self._closer = Closer(self._engine, timedelta(seconds=settings.collect_s))
        self._pacer = Pacer({name: Limit(*limit) for name, limit in settings.mail_limits.items()})
        self._tracing = tracing.current()
        self._spans: dict[str, Any] = {}
        self._heard: list[tuple[str, Answer]] = []
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
                if not worked:
                    self._wait(max(self.settings.poll_ms / 1000, 2 * (time.monotonic() - started)))
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
            deemed = store.deem(connection, now)
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
        done: list[Sent | PutOff] = []
        self._spans = {} if self._tracing is None else begin_spans(self._tracing, messages)
        try:
            parcels = self._prepare(messages, done)
        except IntakeDown as away:
            self._persist([PutOff(one, _before(one), "intake_down") for one in messages], [])
            self._pause("intake", str(away))
            return
        mails = []
        for parcel in parcels:
            if parcel.to is None:
                done.append(_sent(parcel, "inbox", parcel.why))
            elif (rests := self._rests(parcel)) is not None:
                done.append(rests)
            else:
                mails.append(parcel)
        down: Down | None = None
        while mails:
            flight, mails = mails[:FLIGHT], mails[FLIGHT:]
            if self._stop or down or time.monotonic() - started > self._begin_within_s:
                done += [PutOff(parcel.message, _before(parcel.message), "given_back") for parcel in (*flight, *mails)]
                break
            ours = {message.id for message in self._persist(done, [parcel.message for parcel in flight])}
            self._crash("after_sending")
            done = []
            down = self._fly([parcel for parcel in flight if parcel.message.id in ours], done, started)
        self._crash("before_commit")
        self._persist(done, [])
        self._crash("after_commit")
        if down is not None:
            self._pause("smtp", str(down))
        else:
            self._failures = 0

    def _rests(self, parcel: Parcel) -> PutOff | None:
        """Put a message off until quiet hours end or its domain has room; None if it can go now."""
        message, at = parcel.message, parcel.rendered.at
        if at is not None and (until := quiet_end(message, at)) is not None:
            # check again earlier: business time may run at another speed than wall time
            left = min((until - at).total_seconds(), QUIET_LOOK_S)
            return PutOff(message, _before(message), "quiet", left)
        wait = self._pacer.wait(_domain(parcel), time.monotonic(), booked=message.result == "held")
        return PutOff(message, _before(message), "held", wait) if wait > 0.0 else None

    def _prepare(self, messages: Sequence[Message], done: list[Sent | PutOff]) -> list[Parcel]:
        parties = {message.party for message in messages}
        for message in messages:
            if message.notice is None:
                facts = message.items[0].facts
                parties.update(filter(None, (facts.complainant, facts.principal, facts.seller)))
        contacts = self._intake.contacts(parties)
        claims = [message.claim for message in messages if message.notice is None]
        numbers = self._intake.right_numbers(claims) if claims else {}
        secrets = [message.notice.notice for message in messages if message.notice and message.kind in SECRET]
        codes = self._intake.codes(secrets) if secrets else {}
        with self._engine.connect() as connection:
            now, _ = clock.read(connection)
            marked = store.bouncing(connection, (message.party for message in messages), self.settings.bounce_days)
            known = preferences(connection, (message.party for message in messages))
            before = [message.id for message in messages if not message.first]
            sent = sent_at(connection, before) if before else {}
        parcels = []
        for message in messages:
            to = contacts.get(message.party)
            # a repeat says what the first sending said: the windows run from then
            at = sent.get(message.id, now)
            try:
                address = None if to is None or not to.email else self._known(to.email)
                why, failure = self._unreachable(
                    message, to, address is not None and marked.get(message.party) == address
                )
                wish = known.get(message.party, Preference())
                other = channel(message.kind, wish.order, wish.webhooks, message.tried, mail=False)
                first = channel(message.kind, wish.order, wish.webhooks, message.tried)
                if (why and other == "webhook") or first == "webhook":
                    state = _before(message)
                    done.append(PutOff(message, state, why or "preferred", route="webhook", failure=failure))
                    continue
                if not why and first == "inbox":
                    why = "preferred"
                if not why and to is not None and not to.confirmed and message.kind not in SECRET:
                    parcels.append(self._unconfirmed(message, to, at, address, other))
                    continue
                if message.notice is not None:
                    parcel = self._notice(message, message.notice, to, codes, at, why)
                    parcel.address, parcel.failure, parcel.other = address, failure, other
                    parcels.append(parcel)
                    continue
                rendered = render(
                    id=message.id,
                    claim=message.claim,
                    party=message.party,
                    kind=message.kind,
                    items=[Told(item.item, item.facts) for item in message.items],
                    claim_size=message.claim_size,
                    contacts=contacts,
                    right_number=numbers.get(message.claim),
                    site=self.settings.marketplace_url,
                    now=at,
                )
                text = f"{rendered.subject}\n{rendered.body}".encode()
                if why or to is None:
                    parcels.append(Parcel(message, rendered, None, text, why, failure=failure))
                else:
                    raw = mail(rendered, id=message.id, sender=self.settings.smtp_from, to=to, at=at)
                    parcels.append(Parcel(message, rendered, to.email, raw, address=address, other=other))
            except Exception as error:
                # a bug of ours; log no traceback, which would show contact data
                log.error("rendering failed", message=message.id, kind=message.kind, error=type(error).__name__)
                done.append(PutOff(message, "failed", "failed"))
        return parcels

    def _unreachable(self, message: Message, to: Contact | None, bounces: bool) -> tuple[str, Failure | None]:
        """Why this message cannot go by e-mail ("" if it can), and the failure to record."""
        if to is None or not to.email:
            return "no_contact", None
        if "email" in message.tried:
            return "bounced", None
        if bounces and message.kind not in SECRET:
            # a code was requested for that address, so send it even if earlier mail bounced
            return "bouncing", None
        if message.tries >= GIVE_UP:
            return "gave_up", Failure("email", "gave_up")
        return "", None

    def _unconfirmed(self, message: Message, to: Contact, at: datetime, address: str | None, other: Channel) -> Parcel:
        """A mail that says only that there is a message, for an address that may be a stranger's."""
        shown = render_unconfirmed(
            id=message.id,
            account=message.party,
            ends=deadline(message.kind, [item.facts for item in message.items], at),
            now=at,
            locale=to.language,
        )
        raw = mail(shown, id=message.id, sender=self.settings.smtp_from, to=to, at=at)
        return Parcel(message, shown, to.email, raw, address=address, other=other)

    def _known(self, address: str) -> str | None:
        """The keyed hash by which an address is remembered; None without a mail key."""
        key = self.settings.mail_key
        return None if key is None else address_key(key.get_secret_value(), address)

    def _notice(
        self,
        message: Message,
        notice: AccountNotice,
        to: Contact | None,
        codes: dict[str, str | None],
        now: datetime,
        why: str,
    ) -> Parcel:
        """A message to an account about itself. A code in it is never stored."""
        needs = message.kind in SECRET
        code = codes.get(notice.notice) if needs else None
        shown = render_notice(id=message.id, notice=notice, party=to, secret=MASK if needs else None, now=now)
        text = f"{shown.subject}\n{shown.body}".encode()
        if why in ("", "gave_up") and needs and code is None:
            why = "outdated"
        if why or to is None:
            return Parcel(message, shown, None, text, why)
        kept = mail(shown, id=message.id, sender=self.settings.smtp_from, to=to, at=now)
        if not needs:
            return Parcel(message, shown, to.email, kept)
        whole = render_notice(id=message.id, notice=notice, party=to, secret=code, now=now)
        raw = mail(whole, id=message.id, sender=self.settings.smtp_from, to=to, at=now)
        return Parcel(message, shown, to.email, raw, kept=kept)

    def _fly(self, flight: Sequence[Parcel], done: list[Sent | PutOff], started: float) -> Down | None:
        """Send a flight, each party's messages in order; appends the outcomes to ``done``."""
        lanes: list[list[Parcel]] = [[] for _ in self._mailers]
        for parcel in flight:
            party = crc32(parcel.message.party.encode())
            lanes[self._pacer.lane(_domain(parcel), party, LANES)].append(parcel)
        futures = [
            self._pool.submit(self._send, mailer, lane, started)
            for mailer, lane in zip(self._mailers, lanes, strict=True)
            if lane
        ]
        down: Down | None = None
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
        self, mailer: Mailer, parcels: Sequence[Parcel], started: float
    ) -> tuple[list[Sent | PutOff], Down | None]:
        """Send parcels in order over one connection; (their outcomes, why the rest was not tried)."""
        done: list[Sent | PutOff] = []
        late = False

        def letters() -> Iterator[Letter]:
            nonlocal late
            for parcel in parcels:
                if late := time.monotonic() - started > self._begin_within_s:
                    return
                yield self._letter(parcel)

        down: Down | None = None
        try:
            for answer in mailer.send(letters(), started + self._end_within_s):
                self._progress()
                self._crash("after_send")
                self._heard.append((_domain(parcels[len(done)]), answer))
                done.append(_outcome(parcels[len(done)], answer))
        except Down as error:
            down = error
        # none of these was sent; an earlier unknown outcome has been counted already
        done += [PutOff(rest.message, "queued", "given_back") for rest in parcels[len(done) :]]
        return done, None if late else down

    def _letter(self, parcel: Parcel) -> Letter:
        key = self.settings.mail_key
        back = self.settings.smtp_from
        if key is not None:
            back = return_path(key.get_secret_value(), parcel.message.id, self._bounce_domain)
        raw = parcel.raw if self._signer is None else self._signer.sign(parcel.raw, int(time.time()))
        return Letter(parcel.message.id, parcel.to or "", back, raw)

    def _persist(self, done: Sequence[Sent | PutOff], flight: Sequence[Message]) -> list[Message]:
        """Record the outcomes of messages and that sending of ``flight`` begins; returns those that may be sent.

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
                break
            except Exception as error:
                if not db.is_transient(error) or time.monotonic() > until:
                    raise
                self._pause("database", type(error).__name__, even_stopping=True)
        for one in noted:
            DELIVERIES.labels(one.channel, one.result).inc()
            end_span(self._spans, one.message, one.channel, one.result)
        for put_off in back:
            end_span(self._spans, put_off.message, "email", put_off.result)
            if put_off.result in ("later", "failed", "refused", "held", "quiet"):
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
        ceiling = min(self.settings.retry_max_s, 0.1 * 2 ** min(self._failures, 12))
        pause = random.uniform(ceiling / 2, ceiling)
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
    return quiet_until(Quiet(quiet.begin, quiet.end, quiet.zone), None, now)


def _domain(parcel: Parcel) -> str:
    return (parcel.to or "").rpartition("@")[2]


def _before(message: Message) -> str:
    return "sending" if message.unknown else "queued"


def _pause_s(tries: int) -> float:
    ceiling: float = min(LONGEST_PAUSE_S, 2.0 * 2 ** min(tries, 12))
    return random.uniform(ceiling / 2, ceiling)


def _outcome(parcel: Parcel, answer: Answer) -> Sent | PutOff:
    """What to record about a message after the server's answer."""
    message = parcel.message
    if answer.result == "sent":
        return _sent(parcel, "email", "sent")
    if answer.result == "unknown":
        return PutOff(message, "sending", "unknown", _pause_s(message.tries), tried=True)
    if answer.result == "later":
        return PutOff(message, "queued", "later", _pause_s(message.tries), tried=True)
    log.info("refused", message=message.id, kind=message.kind, reason=answer.reason)
    # a bare code says only that the failure is permanent; an answer to the text concerns this message only
    code = status(answer.reason) or "5.0.0"
    bad = parcel.address if not answer.text and bad_address(code) else None
    failure = Failure("email", "refused", answer.reason, bad)
    if parcel.other == "webhook":
        return PutOff(message, "queued", "refused", route="webhook", failure=failure)
    text = f"{parcel.rendered.subject}\n{parcel.rendered.body}".encode()
    return _sent(Parcel(message, parcel.rendered, None, text, failure=failure), "inbox", "refused")


def _sent(parcel: Parcel, channel: str, result: str) -> Sent:
    rendered = parcel.rendered
    return Sent(
        parcel.message,
        channel,
        result,
        rendered.template,
        rendered.version,
        digest(parcel.kept or parcel.raw),
        locale=rendered.locale,
        edition=rendered.edition,
        rendered_at=rendered.at,
        address=parcel.address if channel == "email" else None,
        failure=parcel.failure,
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
