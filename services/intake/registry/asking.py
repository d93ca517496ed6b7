"""Asks registers for the rights that wait, and records what they answer: ``python -m services.intake registers``.

A query that was taken becomes due again after its lease, so a killed process loses nothing, and asking twice changes
nothing. A register that does not answer is asked again at growing intervals, until the right is left to a person.
"""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import structlog
from cryptography.exceptions import InvalidTag

from services.intake.kernel.metrics import REGISTER_ANSWERS, REGISTER_CALLS, REGISTERS_OLDEST, REGISTERS_WAITING
from services.intake.kernel.security import Contacts
from services.intake.registry import registers_store
from services.intake.registry.entries import ANSWER_MOST, READERS, BadAnswer, Entry
from services.intake.registry.registers_store import Query
from shared import db
from shared.runtime.rounds import RoundFailed, run_rounds
from shared.settings import Settings

log = structlog.get_logger(__name__)
NAME: Final = "intake-registers"
_AT_ONCE: Final = 8
_IDLE_S: Final = 0.5
_LOOK_EVERY: Final = 20
"""Rounds between two updates of the gauges."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SOONER_S: Final = 60.0
"""Seconds before its end after which a token is used no more."""


class Unanswered(Exception):
    """The register gave no answer; the message says why."""


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = 300.0


class Registers:
    """Takes queries, asks, and records the answers; ``once`` is one round."""

    def __init__(self, settings: Settings, client: httpx.Client | None = None) -> None:
        """Raises:
        ValueError: no register is configured; one has no credential, or an address that would expose it.
        """
        if not settings.registers:
            raise ValueError("registers: no register is configured; set GOODFAITH_REGISTERS")
        urls: dict[str, str] = {"eu": settings.euipo_url, "us": settings.uspto_url}
        self._urls: dict[str, str] = {name: _checked(name, urls[name]).rstrip("/") for name in settings.registers}
        if "eu" in self._urls and settings.euipo_client is None:
            raise ValueError("euipo_client: the EUIPO wants a client; set GOODFAITH_EUIPO_CLIENT")
        if "us" in self._urls and settings.uspto_key is None:
            raise ValueError("uspto_key: the USPTO wants a key; set GOODFAITH_USPTO_KEY")
        self._token_url = _checked("euipo_token", settings.euipo_token_url)
        self._eu_client = "" if settings.euipo_client is None else settings.euipo_client.get_secret_value()
        self._us_key = "" if settings.uspto_key is None else settings.uspto_key.get_secret_value()
        self._token, self._token_until = "", 0.0
        self._partitions = settings.partitions
        self._give_up_s = settings.registers_give_up_s
        # a call connects, sends and waits; two of them make an answer, and none begins that might end after the lease
        self._call_s = 3 * settings.registers_timeout_s
        self._lease_s = (2 * _AT_ONCE + 2) * self._call_s + 5.0
        self._client = client or httpx.Client(timeout=settings.registers_timeout_s, follow_redirects=False)
        self._contacts = Contacts.of(settings)
        self._engine = db.connect(settings.present("database"), schema="intake", name=NAME)
        self.troubled = False
        """The last round met a register that does not answer: wait before the next."""

    def once(self) -> int:
        """Ask what is due; returns how many answers came."""
        self.troubled = False
        with self._engine.begin() as connection:
            queries = registers_store.take(connection, _AT_ONCE, self._lease_s, self._give_up_s)
        answers = 0
        for query in queries:
            try:
                entry = self._ask(query)
            except Unanswered as error:
                self._failed(query, str(error))
                continue
            with self._engine.begin() as connection:
                result = registers_store.answered(connection, query, entry, self._name, self._partitions)
            if result is not None:
                REGISTER_ANSWERS.labels(query.register, result).inc()
            answers += 1
        return answers

    def _failed(self, query: Query, why: str) -> None:
        self.troubled = True
        log.warning("register does not answer", register=query.register, right=query.right, why=why)
        with self._engine.begin() as connection:
            if query.late:
                registers_store.silent(connection, query.right, why)
                REGISTER_ANSWERS.labels(query.register, "silent").inc()
            else:
                registers_store.failed(connection, query.right, why)

    def _name(self, sealed: list[tuple[str, bytes, bytes]]) -> str | None:
        for account, wrapped, contact in sealed:
            try:
                return self._contacts.open(account, wrapped, contact).name
            except InvalidTag:
                log.error("contact cannot be decrypted", account=account)
        return None

    def _ask(self, query: Query) -> Entry | None:
        """The register's entry; None: it has none.

        Raises:
            Unanswered: it cannot be reached, refuses us, or answers something else.
        """
        base = self._urls.get(query.register)
        if base is None:
            raise Unanswered("no such register is configured")
        number = quote(query.number, safe="")
        if query.register == "eu":
            client = self._eu_client.partition(":")[0]
            headers = {"Authorization": f"Bearer {self._eu_token()}", "X-IBM-Client-Id": client}
            status, body = self._call("GET", f"{base}/trademarks/{number}", query.register, headers=headers)
        else:
            path = f"{base}/ts/cd/casestatus/rn{number}/info.json"
            status, body = self._call("GET", path, query.register, headers={"USPTO-API-KEY": self._us_key})
        if status == 404:
            return None
        if status == 401:
            self._token = ""
        if status != 200:
            raise Unanswered(f"HTTP {status}")
        try:
            return READERS[query.register](body)
        except BadAnswer as error:
            raise Unanswered(f"not in its format: {error}") from None

    def _eu_token(self) -> str:
        """A bearer token of the EUIPO, by client credentials (RFC 6749, 4.4); kept until shortly before its end."""
        if not self._token or time.monotonic() >= self._token_until:
            client, _, secret = self._eu_client.partition(":")
            form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
            status, body = self._call("POST", self._token_url, "eu", data={**form, "scope": "uid"})
            try:
                given = msgspec.json.decode(body, type=_Token) if status == 200 else None
            except (msgspec.DecodeError, RecursionError):
                given = None
            if given is None or not given.access_token.isascii() or not given.access_token.isprintable():
                raise Unanswered(f"no token: HTTP {status}")
            self._token = given.access_token
            self._token_until = time.monotonic() + max(given.expires_in - _SOONER_S, 0.0)
        return self._token

    def _call(self, method: str, url: str, register: str, **options: Any) -> tuple[int, bytes]:
        """Status and body, which is bounded in bytes and in time.

        Raises:
            Unanswered: neither came.
        """
        until, body = time.monotonic() + self._call_s, b""
        try:
            with self._client.stream(method, url, **options) as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > ANSWER_MOST or time.monotonic() > until:
                        raise httpx.ReadTimeout("the answer is too long, or takes too long")
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            REGISTER_CALLS.labels(register, "unreachable").inc()
            raise Unanswered(f"{type(error).__name__}: {error}"[:300].replace("\0", "\ufffd")) from None
        REGISTER_CALLS.labels(register, str(status)).inc()
        return status, body

    def look(self) -> None:
        """Set the gauges."""
        with self._engine.begin() as connection:
            count, since = registers_store.waiting(connection)
        REGISTERS_WAITING.set(count)
        REGISTERS_OLDEST.set(0 if since is None else since.timestamp())

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._engine.dispose()


def _checked(name: str, url: str) -> str:
    """The address, if it exposes no credential.

    Raises:
        ValueError: it does.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{name}: expected an https address (http on this host)")
    return url


class _Rounds:
    """Asks, sets the gauges now and then, and waits longer while a register does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._registers = Registers(settings)
        self._rounds = 0

    def once(self) -> int:
        answers = self._registers.once()
        if self._rounds % _LOOK_EVERY == 0:
            self._registers.look()
        self._rounds += 1
        if self._registers.troubled and not answers:
            raise RoundFailed
        return answers

    def close(self) -> None:
        self._registers.close()


def run(settings: Settings) -> None:
    """Ask until SIGTERM or SIGINT; waits while a register or the database is unavailable."""
    run_rounds(settings, NAME, lambda: _Rounds(settings), _IDLE_S)
