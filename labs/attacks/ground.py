"""What attacks work with: accounts, clients with their own addresses, an honest client, and the verdict.

Everything stays on loopback. Each attacker connects from its own address (127.66.0.0/16), so that a limit per address
hits the attacker and not the honest client, as it would on the Internet.
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
PAUSE_S: Final = 0.25
"""Seconds between two requests of the honest client."""
SITE: Final = "https://market.example/items/"
CONTACT: Final = {"name": "Ada Example", "address": "Road 1\nTown", "email": "ada@honest.example"}
LATER: Final = frozenset({429, 503})
"""Answers that tell a client to come back later."""
Size = Literal["short", "full"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attack.

    Attributes:
        succeeded: whether the attacker got what it wants.
        happened: what the system did, in a few words.
    """

    succeeded: bool
    happened: str


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack as declared.

    Attributes:
        name: what `--only` takes.
        aim: what the attacker wants.
        act: carries it out.
        finding: the review's finding that it exploits; empty: none.
        restarts: whether it restarts the API, so that the honest client is turned away for a moment.
    """

    name: str
    aim: str
    act: Callable[[AttackBed], Outcome]
    finding: str = ""
    restarts: bool = False


@dataclass(slots=True)
class Honest:
    """What the honest client saw during an attack: the seconds of each served request, and what was refused."""

    served: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """All requests."""
        return len(self.served) + len(self.refused)

    @property
    def p50_ms(self) -> float | None:
        """Median time of an answer."""
        return round(statistics.median(self.served) * 1000, 1) if self.served else None

    def __str__(self) -> str:
        return f"{len(self.served)}/{self.asked}"


@dataclass(slots=True)
class Result:
    """One line of the table."""

    attack: Attack
    outcome: Outcome
    honest: Honest
    ended: list[str] = field(default_factory=list)
    """Processes that did not survive it."""
    error: str = ""
    """Why the attack could not be carried out, so that its result is unknown."""
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether the attacker got what it wants, the honest client was turned away, or a process died."""
        turned_away = bool(self.honest.refused) and not self.attack.restarts
        return self.outcome.succeeded or turned_away or bool(self.ended)

    @property
    def happened(self) -> str:
        """What happened, in a line."""
        said = [self.outcome.happened] if self.outcome.happened else []
        if self.ended:
            said.append(f"ended: {', '.join(self.ended)}")
        if self.honest.refused:
            worst = Counter(self.honest.refused).most_common(2)
            said.append("honest client: " + ", ".join(f"{count} x {what}" for what, count in worst))
        return "; ".join(said)

    def json(self) -> dict[str, Any]:
        """As printed."""
        return {
            "attack": self.attack.name,
            "finding": self.attack.finding,
            "succeeded": self.succeeded,
            "happened": self.happened,
            "error": self.error,
            "honest": {"asked": self.honest.asked, "served": len(self.honest.served), "p50_ms": self.honest.p50_ms},
            "seconds": round(self.seconds, 1),
        }


def summary(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The last line of ``--json``."""
    return {
        "attacks": len(results),
        "succeeded": sum(one.succeeded for one in results),
        "unknown": [one.attack.name for one in results if one.error],
        "seconds": round(seconds, 1),
        "results": [one.json() for one in results],
    }


# ---------------------------------------------------------------------------------------------------------------- people


@dataclass(slots=True)
class Person:
    """An account, its token, and a client that connects from one address."""

    account: str
    token: str
    client: httpx.Client

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send one request and return the answer, whatever it is."""
        headers = {"authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return self.client.request(method, path, headers=headers, **options)


class AttackBed:
    """A running stack and what attacks need on it."""

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
        # the first operator's token is what one of the attacks is about: work goes on with another
        self.admin = self.person("operator", address="127.0.0.1")
        self.bootstrap = first
        self.reviewer = self.person("reviewer", address="127.0.0.1")

    def close(self) -> None:
        """Close connections."""
        for client in self._clients:
            client.close()

    def count(self, short: int, full: int) -> int:
        """How many requests, by the size of the run."""
        return short if self.size == "short" else full

    # ---- clients

    def address(self) -> str:
        """A loopback address that was not used before."""
        return next(self._addresses)

    def client(self, address: str | None = None) -> httpx.Client:
        """A client that connects from its own address."""
        transport = httpx.HTTPTransport(
            local_address=address or self.address(), limits=httpx.Limits(max_connections=128), retries=1
        )
        made = httpx.Client(base_url=self.url, timeout=PATIENCE_S, transport=transport, trust_env=False)
        self._clients.append(made)
        return made

    def place(self) -> tuple[str, int]:
        """Host and port of the public API."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    # ---- preparations; each raises StackError when it is refused for good

    def must(self, person: Person, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send one request that has to succeed, repeating it on 429 and 503; returns its JSON."""
        for _ in range(TRIES):
            answer = person.ask(method, path, body, **options)
            if answer.status_code not in LATER:
                break
            time.sleep(min(float(answer.headers.get("retry-after", 1)), 5.0))
        if not answer.is_success:
            raise StackError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    def person(self, role: str = "holder", *, address: str | None = None, **values: Any) -> Person:
        """A new verified account."""
        opened = self.must(self.admin, "POST", "/v1/accounts", {"role": role, "identity_verified": True, **values})
        return Person(opened["account"], opened["token"], self.client(address))

    def number(self) -> str:
        """An unused registration number in the USPTO's format."""
        return f"{next(self._numbers):07d}"

    def right(self, owner: Person, *, active: bool = True, number: str | None = None) -> str:
        """A registered trade mark of the account; with `active`, a reviewer brings it into force if necessary."""
        body = {"right_type": "trademark", "register": "us", "number": number or self.number(), "proof": "doc-1"}
        made = self.must(owner, "POST", "/v1/rights", body)
        if active and made["status"] != "active":
            self.must(self.reviewer, "POST", f"/v1/rights/{made['id']}/decision", {"accept": True})
        return str(made["id"])

    def claim(self, owner: Person, right: str, *listings: str, **values: Any) -> dict[str, Any]:
        """An accepted claim."""
        links = [SITE + (name or secrets.token_hex(6)) for name in listings or ("",)]
        body = {"right": right, "reason": "counterfeit", "listings": links, **values}
        made: dict[str, Any] = self.must(owner, "POST", "/v1/claims", body)
        return made

    def upload(self, owner: Person, content: bytes, *, kind: str = "ownership") -> httpx.Response:
        """Upload a file and return the answer, whatever it is."""
        return owner.ask("POST", f"/v1/evidence?kind={kind}", content=content)

    def must_upload(self, owner: Person, content: bytes) -> str:
        """A document of the account; its id."""
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
        """Run everything on some threads; results in order, with an exception where one was raised."""

        def safely(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except Exception as error:
                return error

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(safely, works))

    def statuses(self, works: Iterable[Callable[[], httpx.Response]], *, threads: int = 16) -> Counter[str]:
        """Count the answers by status."""
        return Counter(
            str(one.status_code) if isinstance(one, httpx.Response) else type(one).__name__
            for one in self.together(works, threads=threads)
        )

    def raw(self, content: bytes) -> bytes:
        """Send bytes; up to 4 KB of the answer, empty if the connection is closed without one."""
        with socket.socket() as one:
            one.bind((self.address(), 0))
            one.settimeout(10.0)
            with contextlib.suppress(OSError):
                one.connect(self.place())
                one.sendall(content)
                return one.recv(4096)
        return b""

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query as superuser, to find out what an attack did."""
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement, values or None)]

    def log(self, process: str) -> str:
        """What a process of the fleet has written."""
        return self.fleet[process].log_path.read_text("utf-8", errors="replace")

    def wait(self, what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Ask until the answer is truthy or the time is up; returns the last answer."""
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


class Customer:
    """An honest client: files claims, reads them, uploads documents.

    On 429 and 503 it waits as `Retry-After` says and tries once more; if that fails too, it was turned away.
    """

    def __init__(self, ground: AttackBed) -> None:
        self._ground = ground
        self._me = ground.person(address="127.0.0.1")
        self._right = ground.right(self._me)
        self._end = threading.Event()
        self.seen = Honest()
        self._claim = ""
        self._round()
        if self.seen.refused:
            raise StackError(f"an honest client is not served before any attack: {self.seen.refused}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[Honest]:
        """Work in the background until the block ends, at least one whole round; what it saw."""
        self.seen = seen = Honest()
        self._end.clear()
        thread = threading.Thread(target=self.run, name="honest")
        thread.start()
        try:
            yield seen
        finally:
            self._end.set()
            thread.join()

    def run(self) -> None:
        """Work until it is told to stop."""
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
                answer = self._me.ask(method, path, body, **options)
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


class Slow:
    """Sockets that send a request byte by byte, or never read the answer."""

    def __init__(self, place: tuple[str, int], addresses: Sequence[str], *, receive: int = 0) -> None:
        self._sockets: list[socket.socket] = []
        for address in addresses:
            one = socket.socket()
            if receive:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            one.bind((address, 0))
            one.settimeout(PATIENCE_S)
            with contextlib.suppress(OSError):
                one.connect(place)
            self._sockets.append(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def each(self) -> Iterator[socket.socket]:
        """The sockets, one by one."""
        yield from self._sockets

    def send(self, content: bytes) -> None:
        """Send the same on all sockets, ignoring closed ones."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.sendall(content)

    def open(self) -> int:
        """How many are still open and have no answer."""
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
        """Send once a second; how many are still open at the end."""
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
