"""What attacks use: accounts, clients with addresses of their own, an honest client, and the verdict.

Everything stays on loopback. Each attacker connects from its own address (127.66.0.0/16), so that a limit per address
affects the attacker and not the honest client, as it would on the Internet.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import httpx
import sqlalchemy as sa

from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from shared.settings import Settings

PATIENCE_S: Final = 30.0
"""Seconds that a client waits for one answer."""
TRIES: Final = 40
"""How often an attack's preparations repeat a request that was answered 429 or 503."""
ANSWERS_S: Final = 60.0
"""Seconds to wait for something that arrives by topic or mail."""
PAUSE_S: Final = 0.25
"""Seconds between two requests of the honest client."""
SITE: Final = "https://market.example/items/"
CONTACT: Final = {"name": "Ada Example", "address": "Road 1\nTown", "email": "ada@honest.example"}
ACCEPTED: Final = {"accept": True, "seen": "register"}
SEEN: Final = {"identity_verified": True, "seen": "office"}
LATER: Final = frozenset({429, 503})
"""Answers that tell a client to come back later."""
Size = Literal["short", "full"]


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """The outcome of one attack.

    Attributes:
        succeeded: Whether the attacker reached its aim.
        happened: What the system did, in a few words.
    """

    succeeded: bool
    happened: str


@dataclass(frozen=True, slots=True)
class Attack:
    """A declared attack.

    Attributes:
        name: Name for `--only`.
        aim: What the attacker wants.
        act: Carries it out.
        finding: The review's finding that it exploits; empty: none.
        restarts: Whether it restarts the API, so that the honest client is refused for a moment.
    """

    name: str
    aim: str
    act: Callable[[AttackBed], AttackOutcome]
    finding: str = ""
    restarts: bool = False


@dataclass(slots=True)
class HonestFigures:
    """How the honest client fared during an attack: seconds of each served request, and refused requests."""

    served: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Number of requests."""
        return len(self.served) + len(self.refused)

    @property
    def p50_ms(self) -> float | None:
        """Median time of an answer in milliseconds; None without answers."""
        return round(statistics.median(self.served) * 1000, 1) if self.served else None

    def __str__(self) -> str:
        return f"{len(self.served)}/{self.asked}"


@dataclass(slots=True)
class AttackResult:
    """The result of one attack: a line of the table."""

    attack: Attack
    outcome: AttackOutcome
    honest: HonestFigures
    ended: list[str] = field(default_factory=list)
    """Processes that ended."""
    error: str = ""
    """Why the attack could not be carried out. Its result is then unknown."""
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether the attacker reached its aim, the honest client was refused, or a process ended."""
        turned_away = bool(self.honest.refused) and not self.attack.restarts
        return self.outcome.succeeded or turned_away or bool(self.ended)

    @property
    def happened(self) -> str:
        """What happened, in one line."""
        said = [self.outcome.happened] if self.outcome.happened else []
        if self.ended:
            said.append(f"ended: {', '.join(self.ended)}")
        if self.honest.refused:
            worst = Counter(self.honest.refused).most_common(2)
            said.append("honest client: " + ", ".join(f"{count} x {what}" for what, count in worst))
        return "; ".join(said)

    def json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "attack": self.attack.name,
            "finding": self.attack.finding,
            "succeeded": self.succeeded,
            "happened": self.happened,
            "error": self.error,
            "honest": {"asked": self.honest.asked, "served": len(self.honest.served), "p50_ms": self.honest.p50_ms},
            "seconds": round(self.seconds, 1),
        }


def summary(results: Sequence[AttackResult], seconds: float) -> dict[str, Any]:
    """The last line of ``--json``."""
    return {
        "attacks": len(results),
        "succeeded": sum(one.succeeded for one in results),
        "unknown": [one.attack.name for one in results if one.error],
        "seconds": round(seconds, 1),
        "results": [one.json() for one in results],
    }


# --------------------------------------------------------------------------------------------------------------- people


@dataclass(slots=True)
class Person:
    """An account, its token, and a client that connects from one address."""

    account: str
    token: str
    client: httpx.Client

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send one request; returns any answer."""
        headers = {"authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return self.client.request(method, path, headers=headers, **options)


class AttackBed:
    """A running stack, and what attacks need on it."""

    def __init__(self, stack: Stack, fleet: Fleet, settings: Settings, engine: sa.Engine, size: Size) -> None:
        self.stack = stack
        self.fleet = fleet
        self.settings = settings
        self.engine = engine
        self.size = size
        self.url = settings.intake_url
        self._addresses = (f"127.66.{high}.{low}" for high in range(256) for low in range(1, 255))
        self._numbers = itertools.count(secrets.randbelow(4_000_000) + 1_000_000)
        self._clients: list[httpx.Client] = []
        assert settings.operator_token is not None
        first = Person("a-operator", settings.operator_token.get_secret_value(), self.client("127.0.0.1"))
        self.admin = first
        # one of the attacks revokes the first operator's token: everything else uses another operator
        self.admin = self.person("operator", address="127.0.0.1")
        self.bootstrap = first
        self.reviewer = self.person("reviewer", address="127.0.0.1")

    def close(self) -> None:
        """Close connections."""
        for client in self._clients:
            client.close()

    def count(self, short: int, full: int) -> int:
        """Number of requests, by the size of the run."""
        return short if self.size == "short" else full

    # ---- clients

    def address(self) -> str:
        """A loopback address that is not in use yet."""
        return next(self._addresses)

    def client(self, address: str | None = None) -> httpx.Client:
        """A client that connects from an address of its own."""
        transport = httpx.HTTPTransport(
            local_address=address or self.address(), limits=httpx.Limits(max_connections=128), retries=1
        )
        made = httpx.Client(base_url=self.url, timeout=PATIENCE_S, transport=transport, trust_env=False)
        self._clients.append(made)
        return made

    def api_address(self) -> tuple[str, int]:
        """Host and port of the public API."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    # ---- preparations; each raises StackError if it is refused

    def must(self, person: Person, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send one request that must succeed, and repeat it on 429 and 503; returns the JSON of the answer."""
        for _ in range(TRIES):
            answer = person.request(method, path, body, **options)
            if answer.status_code not in LATER:
                break
            time.sleep(min(float(answer.headers.get("retry-after", 1)), 5.0))
        if not answer.is_success:
            raise StackError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    def person(
        self, role: str = "holder", *, address: str | None = None, verified: bool = True, **values: Any
    ) -> Person:
        """Open an account, verified or not; a holder's has a confirmed contact, without which it could not file."""
        body = {"role": role, **(SEEN if verified else {}), **values}
        opened = self.must(self.admin, "POST", "/v1/accounts", body)
        person = Person(opened["account"], opened["token"], self.client(address))
        if role == "holder":
            self.must(person, "PUT", "/v1/contact", CONTACT)
            self.must(self.admin, "POST", f"/v1/accounts/{person.account}/verify", {"email_confirmed": True})
        return person

    def number(self) -> str:
        """An unused registration number in the USPTO's format."""
        return f"{next(self._numbers):07d}"

    def right(self, owner: Person, *, active: bool = True, number: str | None = None) -> str:
        """Register a trade mark; with `active`, a reviewer accepts it. Returns its id."""
        body = {"right_type": "trademark", "register": "us", "number": number or self.number(), "proof": "doc-1"}
        made = self.must(owner, "POST", "/v1/rights", body)
        if active:
            self.must(self.reviewer, "POST", f"/v1/rights/{made['id']}/decision", ACCEPTED)
        return str(made["id"])

    def claim(self, owner: Person, right: str, *listings: str, **values: Any) -> dict[str, Any]:
        """File a claim; returns the answer."""
        links = [SITE + (name or secrets.token_hex(6)) for name in listings or ("",)]
        body = {"right": right, "reason": "counterfeit", "listings": links, **values}
        made: dict[str, Any] = self.must(owner, "POST", "/v1/claims", body)
        return made

    def upload(self, owner: Person, content: bytes, *, kind: str = "ownership") -> httpx.Response:
        """Upload a file; returns any answer."""
        return owner.request("POST", f"/v1/evidence?kind={kind}", content=content)

    def must_upload(self, owner: Person, content: bytes) -> str:
        """Upload a file that must be accepted; returns the document's id."""
        made: dict[str, Any] = self.must(owner, "POST", "/v1/evidence?kind=ownership", content=content)
        return str(made["id"])

    def note_change(self, item: str) -> None:
        """Add an entry to an item's timeline, as verification would."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                """insert into intake.timeline (item, revision, type, state, by, code, at)
                values (%s, 1, 'goodfaith.item.noted.v1', 'RECEIVED', 'system', null, now())""",
                (item,),
            )

    # ---- many at once

    def together(self, works: Iterable[Callable[[], Any]], *, threads: int = 16) -> list[Any]:
        """Run everything on several threads; returns results in order, and exceptions in place of results."""

        def safely(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except Exception as error:
                return error

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(safely, works))

    def statuses(self, works: Iterable[Callable[[], httpx.Response]], *, threads: int = 16) -> Counter[str]:
        """Send everything on several threads; returns the number of answers by status."""
        return Counter(
            str(one.status_code) if isinstance(one, httpx.Response) else type(one).__name__
            for one in self.together(works, threads=threads)
        )

    def raw(self, content: bytes) -> bytes:
        """Send bytes; returns up to 4 KB of the answer, or nothing if the connection is closed without one."""
        with socket.socket() as one:
            one.bind((self.address(), 0))
            one.settimeout(10.0)
            with contextlib.suppress(OSError):
                one.connect(self.api_address())
                one.sendall(content)
                return one.recv(4096)
        return b""

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query as superuser, to find out what an attack did; returns its rows."""
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement, values or None)]

    def log(self, process: str) -> str:
        """The log of a process."""
        return self.fleet[process].log_path.read_text("utf-8", errors="replace")

    def wait(self, what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Repeat a check until it is truthy or the time is up; returns its last result."""
        until = time.monotonic() + timeout_s
        while not (found := what()) and time.monotonic() < until:
            time.sleep(0.2)
        return found


def listed(counts: Counter[str]) -> str:
    """Counts in words: `401 x 20, 429 x 380`."""
    return ", ".join(f"{status} x {count}" for status, count in sorted(counts.items()))


def mostly(counts: Counter[str], *statuses: str) -> bool:
    """Whether these statuses are more than half of all answers."""
    return 2 * sum(counts[status] for status in statuses) > counts.total()


# ------------------------------------------------------------------------------------------------------ honest and slow


class HonestClient:
    """An honest client: files claims, reads them, uploads documents.

    On 429 and 503 it waits as `Retry-After` says, and tries once more. If that fails too, it counts as refused.
    """

    def __init__(self, bed: AttackBed) -> None:
        self._ground = bed
        self._me = bed.person(address="127.0.0.1")
        self._right = bed.right(self._me)
        self._end = threading.Event()
        self.seen = HonestFigures()
        self._claim = ""
        self._round()
        if self.seen.refused:
            raise StackError(f"an honest client is not served before any attack: {self.seen.refused}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[HonestFigures]:
        """Work in the background until the block ends, for at least one whole round; yields its figures."""
        self.seen = seen = HonestFigures()
        self._end.clear()
        thread = threading.Thread(target=self.run, name="honest")
        thread.start()
        try:
            yield seen
        finally:
            self._end.set()
            thread.join()

    def run(self) -> None:
        """Work until the end of ``watching``."""
        while True:
            self._round()
            if self._end.wait(PAUSE_S):
                return

    def _round(self) -> None:
        body = {"right": self._right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]}
        filed = self._one("file", "POST", "/v1/claims", body)
        if filed is not None:
            self._claim = filed.json()["claim"]
        if self._claim:
            self._one("read", "GET", f"/v1/claims/{self._claim}/items")
        self._one("upload", "POST", "/v1/evidence?kind=ownership", content=f"Letter {secrets.token_hex(8)}.\n".encode())

    def _one(self, what: str, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response | None:
        said = ""
        for _ in range(2):
            begun = time.monotonic()
            try:
                answer = self._me.request(method, path, body, **options)
            except httpx.HTTPError as error:
                said = type(error).__name__
                continue
            if answer.is_success:
                self.seen.served.append(time.monotonic() - begun)
                return answer
            said = str(answer.status_code)
            if answer.status_code not in LATER:
                break
            time.sleep(min(float(answer.headers.get("retry-after", 1)), 10.0))
        self.seen.refused.append(f"{what} {said}")
        return None


class SlowSockets:
    """Sockets that send a request byte by byte, or do not read the answer."""

    def __init__(self, address_of_api: tuple[str, int], addresses: Sequence[str], *, receive: int = 0) -> None:
        self._sockets: list[socket.socket] = []
        for address in addresses:
            one = socket.socket()
            if receive:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            one.bind((address, 0))
            one.settimeout(PATIENCE_S)
            with contextlib.suppress(OSError):
                one.connect(address_of_api)
            self._sockets.append(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def each(self) -> Iterator[socket.socket]:
        """The sockets."""
        yield from self._sockets

    def send(self, content: bytes) -> None:
        """Send the same bytes on all sockets, ignoring closed ones."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.sendall(content)

    def open(self) -> int:
        """Number of sockets that are still open and have no answer."""
        found = 0
        for one in self._sockets:
            try:
                one.setblocking(False)
                one.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                found += 1
            except OSError:
                pass
            finally:
                one.settimeout(PATIENCE_S)
        return found

    def drip(self, seconds: float, content: bytes) -> int:
        """Send the bytes once a second; returns how many sockets are still open at the end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.open():
            self.send(content)
            time.sleep(1.0)
        return self.open()


def headers(method: str, path: str, person: Person | None = None, **fields: str) -> bytes:
    """The head of an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: intake.example"]
    if person is not None:
        lines.append(f"Authorization: Bearer {person.token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def as_json(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
