"""Sends statements of reasons to the transparency database, in batches of 1 to 100, all or nothing.

A statement that was taken becomes due again after its lease, so a killed process loses nothing. The database recognises
a repeated statement by its ``puid`` and says so, which counts as sent. A rejected batch is sent again without the
statements that the answer names, or in halves if it names none: one bad statement does not hold up the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog
from msgspec import Struct

from services.enforcement import store
from shared import db, metrics
from shared.runtime.rounds import RoundFailed, run_rounds
from shared.settings import Settings

log = structlog.get_logger(__name__)
NAME: Final = "enforcement-statements"
POSTS = metrics.counter(
    "goodfaith_statement_posts_total",
    "Batches posted to the transparency database, by outcome.",
    {"outcome": metrics.HTTP_STATUS},
    of=NAME,
    do="`401`: check the token; `404`: check the address; `unreachable`: the database does not answer",
)
ENDED = metrics.counter(
    "goodfaith_statements_total",
    "Statements of reasons sent or refused; `known`: sent before, but the answer was lost.",
    {"outcome": ("sent", "known", "refused")},
    of=NAME,
    do="`refused`: [statements of reasons](../how-to/statements-of-reasons.md#when-a-statement-is-refused)",
)
WAITING = metrics.gauge("goodfaith_statements_waiting", "Statements of reasons waiting to be sent.", of=NAME)
REFUSED = metrics.gauge(
    "goodfaith_statements_refused",
    "Statements of reasons that were refused and need a person.",
    of=NAME,
    do="above 0: `goodfaith statements list`",
)
OLDEST = metrics.gauge(
    "goodfaith_statements_oldest_timestamp_seconds",
    "When the oldest statement waiting to be sent was made; 0: none.",
    of=NAME,
    do="old: the transparency database is unavailable, or no sender runs",
)

_IDLE_S: Final = 0.5
_LOOK_EVERY: Final = 20
"""Rounds between two updates of the gauges."""
_ANSWER_MAX: Final = 1_000_000
_ABOUT_CONTENT: Final = frozenset({400, 409, 413, 422})
"""Statuses that are about what was sent; any other failure is the database's or ours, and transient."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Taken = tuple[str, str]
"""(puid, body)."""


class Rejection(Struct, frozen=True):
    """A rejected batch: the statements named as known already, and by position what is wrong with others."""

    status: int
    text: str
    known: frozenset[str] = frozenset()
    bad: dict[int, str] = {}
    duplicate: bool = False
    """The answer says that identifiers are taken."""


def read_answer(status: int, raw: bytes) -> Rejection:
    """Parse a rejection (EU database: ``errors.existing_puids``, ``errors.statement_<index>``, ``existing``)."""
    text = f"HTTP {status}: {raw[:300].decode(errors='replace')}".replace("\0", "\ufffd")
    try:
        answer = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return Rejection(status, text, duplicate=status == 409)
    found = answer.get("errors")
    errors: dict[str, Any] = found if isinstance(found, dict) else {}
    named = errors.get("existing_puids")
    known = frozenset(puid for puid in named if isinstance(puid, str)) if isinstance(named, list) else frozenset()
    bad = {}
    for name, problem in errors.items():
        index = name.removeprefix("statement_")
        if index != name and index.isascii() and index.isdigit() and len(index) < 4:
            bad[int(index)] = f"HTTP {status}: {msgspec.json.encode(problem)[:300].decode(errors='replace')}"
    return Rejection(status, text, known, bad, status == 409 or "existing" in answer)


class Transparency:
    """Takes statements, posts them and records the outcome; ``once`` is one round."""

    def __init__(self, settings: Settings, client: httpx.Client | None = None) -> None:
        """Raises:
        ValueError: no address or no token, or the address would expose the token on the network.
        """
        url = urlsplit(settings.statements_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise ValueError(
                "statements_url: expected an https address (http on this host); set GOODFAITH_STATEMENTS_URL"
            )
        if settings.statements_token is None:
            raise ValueError("statements_token: the transparency database wants one; set GOODFAITH_STATEMENTS_TOKEN")
        self._url = settings.statements_url
        self._headers = {
            "Authorization": f"Bearer {settings.statements_token.get_secret_value()}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        self._batch = settings.statements_batch
        # a call connects, sends and waits for the answer; none begins that might end after the lease
        call_s = 3 * settings.statements_timeout_s
        self._begin_within_s = call_s
        self._lease_s = self._begin_within_s + call_s + 5.0
        self._client = client or httpx.Client(timeout=settings.statements_timeout_s)
        self._engine = db.connect(settings.present("database"), schema="enforcement", name=NAME)
        self.troubled = False
        """The last round met a transient failure: wait before the next."""

    def once(self) -> int:
        """Send what is due; returns how many statements were tried."""
        self.troubled = False
        until = time.monotonic() + self._begin_within_s
        with self._engine.begin() as connection:
            taken = store.take_statements(connection, self._batch, self._lease_s)
        batches = [sorted(taken)] if taken else []
        while batches:
            batch = batches.pop()
            late = time.monotonic() > until
            answer = "its lease would not last" if late else self._post([body for _, body in batch])
            if isinstance(answer, str):
                self._postpone([puid for rest in (batch, *batches) for puid, _ in rest], answer)
                break
            if answer is None:
                self._end([(puid, "sent", None) for puid, _ in batch], "sent")
            else:
                batches += self._rejected(batch, answer)
        return len(taken)

    def _rejected(self, batch: Sequence[Taken], answer: Rejection) -> list[list[Taken]]:
        """Record what the answer names; returns the batches in which to send the others again."""
        known = [taken for taken in batch if taken[0] in answer.known]
        bad = {batch[index][0]: why for index, why in answer.bad.items() if index < len(batch)}
        if len(batch) == 1 and not known and not bad:
            if answer.duplicate:
                known = list(batch)
            else:
                bad = {batch[0][0]: answer.text}
        self._end([(puid, "sent", None) for puid, _ in known], "known")
        refused = [(puid, "refused", why) for puid, why in bad.items() if puid not in answer.known]
        self._end(refused, "refused")
        if refused:
            log.error("statements refused", count=len(refused), first=refused[0][0], why=refused[0][2])
        ended = {puid for puid, _ in known} | bad.keys()
        if ended:
            rest = [taken for taken in batch if taken[0] not in ended]
            return [rest] if rest else []
        half = len(batch) // 2
        return [list(batch[half:]), list(batch[:half])]

    def _post(self, bodies: Sequence[str]) -> Rejection | str | None:
        """Post a batch; None if it was accepted, else what is wrong with it, or why it could not be delivered."""
        content = f'{{"statements":[{",".join(bodies)}]}}'.encode()
        raw = b""
        try:
            with self._client.stream("POST", self._url, content=content, headers=self._headers) as response:
                status = response.status_code
                if status not in (200, 201):
                    for part in response.iter_bytes(65_536):
                        raw += part
                        if len(raw) > _ANSWER_MAX:
                            break
        except httpx.HTTPError as error:
            POSTS.labels("unreachable").inc()
            return f"{type(error).__name__}: {error}"[:500]
        POSTS.labels(str(status)).inc()
        if status in (200, 201):
            return None
        if status in _ABOUT_CONTENT:
            return read_answer(status, raw)
        return f"HTTP {status}: {raw[:300].decode(errors='replace')}".replace("\0", "\ufffd")

    def _end(self, ends: Sequence[tuple[str, str, str | None]], outcome: Literal["sent", "known", "refused"]) -> None:
        # in its own transaction: what is known of a batch is not lost with the rest
        if ends:
            with self._engine.begin() as connection:
                store.end_statements(connection, ends)
            ENDED.labels(outcome).inc(len(ends))

    def _postpone(self, puids: list[str], why: str) -> None:
        self.troubled = True
        log.warning("statements not sent", count=len(puids), why=why)
        with self._engine.begin() as connection:
            store.postpone_statements(connection, puids, why)

    def look(self) -> None:
        """Set the gauges."""
        with self._engine.begin() as connection:
            waiting, refused, oldest = store.statements_waiting(connection)
        WAITING.set(waiting)
        REFUSED.set(refused)
        OLDEST.set(0 if oldest is None else oldest.timestamp())

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._engine.dispose()


class _Rounds:
    """Sends, sets the gauges now and then, and waits longer while the transparency database is unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._sender = Transparency(settings)
        self._rounds = 0

    def once(self) -> int:
        tried = self._sender.once()
        if self._rounds % _LOOK_EVERY == 0:
            self._sender.look()
        self._rounds += 1
        if self._sender.troubled:
            raise RoundFailed
        return tried

    def close(self) -> None:
        self._sender.close()


def run(settings: Settings) -> None:
    """Send until SIGTERM or SIGINT; waits while a database, ours or theirs, is unavailable."""
    run_rounds(settings, NAME, lambda: _Rounds(settings), _IDLE_S)
