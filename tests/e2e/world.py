"""One fleet with a clock in hand, and the people that use it: what the end-to-end tests are told in."""

from __future__ import annotations

import contextlib
import datetime as dt
import email
import email.policy
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, TypeVar, get_args

import httpx
from kafka import KafkaProducer

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.fleet import SERVICES, settings_of
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.local.up import bring_up
from services.ops.idle import Watch
from services.ops.verify.verify import Report, verify_stack
from shared import clock, db
from shared.settings import Relayed
from tests.collector import Collector

T = TypeVar("T")
SITE = "https://market.example/items/"
BEGINS = dt.datetime(2025, 3, 3, 2, 0, tzinfo=dt.UTC)
"""A Monday, ten in the morning in the policy's calendar."""
SECOND = dt.timedelta(seconds=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
COMPLETE = {"materials": ["identity", "statement"]}
ENV = {
    "GOODFAITH_COLLECT_S": "2",
    "GOODFAITH_WATERMARK_MS": "50",
    "GOODFAITH_PARTITIONS": "4",
    "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
    "GOODFAITH_RETRY_MAX_S": "1",
    "GOODFAITH_UPSTREAMS": '{"desk": "u-desk"}',
    "GOODFAITH_UPSTREAM_MAY": json.dumps({"desk": {"accounts": ["*"], "commands": get_args(Relayed)}}),
    "GOODFAITH_TRACES_RATIO": "0",
    "GOODFAITH_TRACES_ASKED_PER_S": "1000",
    "GOODFAITH_CANARY_LISTING": "canary",
    **fleet.UNREVIEWED,  # evidence of a match is tests/unit/verification's
    "GOODFAITH_CANARY_MAIL": "canary@private.example",
}
FLEET = {**dict.fromkeys(SERVICES, 1), "canary": 0}
"""The canary's rounds are the tests' own."""


@dataclass(slots=True)
class Claim:
    """An accepted claim, its items in the order of its listings."""

    id: str
    items: list[str]
    listings: list[str]
    lane: str


@dataclass(slots=True)
class Secrets:
    """What must be found nowhere, by what it is."""

    values: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, value: str) -> str:
        """Remember a secret."""
        self.values[what] = value
        return value


def plain(message: EmailMessage) -> str:
    """The text of a mail, as if no line were broken."""
    text = message.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    return " ".join(str(text.get_content()).split())


class World:
    """The installation, seen from outside: HTTP, the upstream's topic, the mailbox, the listing pages."""

    def __init__(self, stack: Stack) -> None:
        self.collector = Collector()
        env = {**ENV, "GOODFAITH_TRACES_URL": self.collector.url}
        try:
            _, self.fleet = bring_up(stack.name, FLEET, env=env, begins=BEGINS)
        except StackError:
            # others work on this machine: what was started may only need longer
            self.fleet = Fleet.load(stack).wait_ready(240)
        self.stack = stack
        self.settings = settings_of(stack)
        self.engine = db.administer(stack.admin_url, autocommit=True)
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{stack.port('intake')}", timeout=30, trust_env=False, limits=limits
        )
        self.site = httpx.Client(
            base_url=f"http://127.0.0.1:{stack.port('marketplace')}", timeout=30, trust_env=False, limits=limits
        )
        self.secrets = Secrets()
        self.tokens = {"operator": self.secrets.add("operator token", stack.secret("operator_token"))}
        self._mail: list[tuple[str, EmailMessage]] = []
        self._mail_read = 0
        self._numbers = itertools.count(1)
        self.account("r-rita", "operator")  # decides without a lease
        self.account("u-desk", "upstream")

    def close(self) -> None:
        """Close what we opened; the fleet ends with its stack."""
        self.http.close()
        self.site.close()
        self.engine.dispose()
        self.collector.close()

    # ---- people

    @contextlib.contextmanager
    def traced(self, traceparent: str) -> Iterator[None]:
        """Meanwhile requests carry a ``traceparent``; nothing else is traced in this world."""
        self.http.headers["traceparent"] = traceparent
        try:
            yield
        finally:
            del self.http.headers["traceparent"]

    def call(self, who: str, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """One request and its answer; ``expect``: the status that must come, else any success."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        answer = self.http.request(method, path, json=body, headers=headers)
        good = answer.status_code < 300 if expect is None else answer.status_code == expect
        assert good, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def account(
        self,
        name: str,
        role: str = "holder",
        *,
        verified: bool = True,
        confirmed: bool = True,
        opened_by: str = "operator",
    ) -> str:
        """An account with a contact; opened by nobody (``opened_by`` empty), it is an unregistered holder's."""
        body = {"role": role, "id": name, "identity_verified": verified, "seen": "office"} if opened_by else {}
        made = self.call(opened_by, "POST", "/v1/accounts", body)
        account = name = str(made["account"])
        self.tokens[account] = self.secrets.add(f"token of {account}", made["token"])
        contact = {
            "name": self.secrets.add(f"name of {account}", f"Nomen {name} Privatum"),
            "address": f"{self.secrets.add(f'address of {account}', f'7 {name} Secret Lane')}\nSmalltown",
            "email": self.secrets.add(f"e-mail of {account}", f"{name}@private.example"),
        }
        self.call(account, "PUT", "/v1/contact", contact)
        if confirmed:
            self.call("operator", "POST", f"/v1/accounts/{account}/verify", {"email_confirmed": True})
        return account

    def right(self, owner: str, kind: str = "trademark") -> str:
        """A right whose proof an operator has seen."""
        number = next(self._numbers)
        body = {"right_type": kind, "number": str(1_000_000 + number), "seen": f"proof-{number}", "owner": owner}
        return str(self.call("operator", "POST", "/v1/rights", body)["id"])

    def authorise(self, owner: str, agent: str, **values: Any) -> str:
        """An authorisation to which the agent has consented."""
        grant = str(self.call(owner, "POST", "/v1/authorisations", {"agent": agent, **values})["id"])
        self.call(agent, "POST", f"/v1/authorisations/{grant}/consent", {"accept": True})
        return grant

    def document(self, who: str, content: bytes, kind: str, name: str | None = None) -> str:
        """A document of an account."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        if name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        answer = self.http.post(f"/v1/evidence?kind={kind}", content=content, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    def offer(self, seller: str, *names: str, **more: Any) -> list[str]:
        """Listings of a seller on the site, with their pages; their title is their name unless ``more`` says so."""
        headers = {"Authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"listing": name, "seller": seller, "title": name, **more} for name in names]
        assert self.site.post("/seed", json=body, headers=headers).status_code == 202
        self.until(lambda: self.page(names[-1]) == 200)
        return [SITE + name for name in names]

    def page(self, listing: str) -> int:
        """Status of a listing's page, as far as it is the listing's own: who is frozen hides all that it sells."""
        answer = self.site.get(f"/items/{listing.removeprefix(SITE)}")
        return 200 if answer.status_code == 404 and "the account is " in answer.text else answer.status_code

    def under(self, seller: str) -> list[str]:
        """What a seller's account is under, as the marketplace says in public."""
        return list(self.site.get(f"/sellers/{seller}").json()["measures"])

    # ---- claims

    def file(self, who: str, right: str, links: Sequence[str], reason: str = "counterfeit", **more: Any) -> Claim:
        """An accepted claim."""
        body = {"right": right, "reason": reason, "listings": list(links), **more}
        answer = self.call(who, "POST", "/v1/claims", body)
        pairs = [(item["item"], item["listing"]) for item in answer["items"]]
        return Claim(answer["claim"], [pair[0] for pair in pairs], [pair[1] for pair in pairs], answer["lane"])

    def do(self, who: str, item: str, what: str, body: Any = None) -> str:
        """Ask for something about an item; the command's id."""
        answer = self.call(who, "POST", f"/v1/items/{item}/{what}", body or {})
        return str(answer["commands"][0]["command"])

    def lease(self, who: str, claim: Claim, count: int = 1) -> str:
        """A reviewer's lease on cases of a claim, once there are any that it may decide; its token."""
        body = {"claim": claim.id, "count": count}
        lease = self.until(lambda: (got := self.call(who, "POST", "/v1/review/lease", body))["cases"] and got)
        return self.secrets.add(f"lease of {who}", str(lease["token"]))

    def refused(self, who: str, item: str, what: str, body: Any = None) -> str:
        """Ask for what the item's owner refuses; the code of the refusal."""
        command = self.do(who, item, what, body)
        answer = self.until(
            lambda: (c := self.call(who, "GET", f"/v1/commands/{command}"))["status"] != "accepted" and c
        )
        assert answer["status"] == "refused", answer
        assert answer["detail"]
        return str(answer["code"])

    def relay(self, event: str, kind: str, who: str, **data: Any) -> None:
        """A request by the upstream's topic."""
        document = {
            "specversion": "1.0",
            "id": event,
            "source": "/desk",
            "type": f"goodfaith.request.{kind}.v1",
            "data": {**data, "on_behalf_of": who},
        }
        producer: Any = KafkaProducer(bootstrap_servers=self.settings.kafka, acks="all")
        producer.send(
            f"{self.settings.topic_prefix}inbound.desk", key=event.encode(), value=json.dumps(document).encode()
        )
        producer.close()

    def item(self, item: str) -> dict[str, Any]:
        """An item as an operator sees it."""
        return dict(self.call("operator", "GET", f"/v1/items/{item}"))

    def reach(self, item: str, state: str, **facts: Any) -> dict[str, Any]:
        """Wait until the item is in a state (and so); None stands for any value but null."""

        def there() -> dict[str, Any] | None:
            found = self.item(item)
            # a fact that is awaited as `...` only has to be known
            same = all(found[k] is not None if v is ... else found[k] == v for k, v in facts.items())
            return found if found["state"] == state and same else None

        try:
            return self.until(there)
        except AssertionError:
            raise AssertionError(f"not {state} {facts}: {self.item(item)}") from None

    def notified(self, item: str) -> dict[str, Any]:
        """Wait until the seller's window runs and the listing is down."""
        return self.reach(item, "NOTIFIED", held=True, due=..., noticed_at=..., handled_at=...)

    def states(self, claim: Claim) -> Counter[str]:
        """Items of a claim by state."""
        return Counter(self.call("operator", "GET", f"/v1/claims/{claim.id}")["states"])

    def timeline(self, claim: Claim, item: str | None = None) -> list[dict[str, Any]]:
        """What happened to a claim's items (or one of them); the events' short names as ``what``."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            more = f"&cursor={cursor}" if cursor else ""
            page = self.call("operator", "GET", f"/v1/claims/{claim.id}/timeline?limit=200{more}")
            found += page["items"]
            cursor = page["next"]
        for change in found:
            change["what"] = change["type"].split(".")[2]
        return [change for change in found if item in (None, change["item"])]

    # ---- what the parties get

    def mail(self) -> list[tuple[str, EmailMessage]]:
        """(receiver, message) of everything in the mailbox."""
        book = self.stack.dir / "mailbox.jsonl"
        lines = book.read_text().splitlines() if book.exists() else []
        for line in lines[self._mail_read :]:
            entry = json.loads(line)
            raw = (self.stack.dir / entry["file"]).read_bytes()
            message = email.message_from_bytes(raw, policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            self._mail += [(receiver, message) for receiver in entry["to"]]
        self._mail_read = len(lines)
        return self._mail

    def mails(self, account: str, claim: Claim, subject: str = "") -> list[str]:
        """Texts of the mails to an account about a claim."""
        return [
            plain(message)
            for receiver, message in self.mail()
            if receiver == f"{account}@private.example"
            and claim.id in str(message["Subject"])
            and subject in str(message["Subject"])
        ]

    def ledger(self, seller: str) -> list[tuple[str, str, int]]:
        """(ledger, kind, points) of the entries of a seller's penalty ledgers, in order."""
        return [
            tuple(row)
            for row in self.rows(
                "select ledger, kind, points from enforcement.ledger_entries where seller = %s order by entry", seller
            )
        ]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, as an administrator."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement, values or None)]

    # ---- time

    def now(self) -> dt.datetime:
        """Business time."""
        with self.engine.connect() as connection:
            return clock.read(connection)[0]

    def to(self, moment: dt.datetime | str) -> None:
        """Set the clock ahead to a moment, where it stands still."""
        if isinstance(moment, str):
            moment = dt.datetime.fromisoformat(moment)
        with self.engine.connect() as connection:
            clock.set_anchor(connection, business=moment, rate=0)

    def past(self, due: str) -> None:
        """Set the clock to just after a deadline."""
        self.to(dt.datetime.fromisoformat(due) + SECOND)

    def until(self, what: Callable[[], T | None], timeout_s: float = 300.0) -> T:
        """Wait until it is true; what takes `timeout_s` hangs."""
        end = time.monotonic() + timeout_s
        while not (found := what()):
            assert time.monotonic() < end, f"not within {timeout_s} s"
            time.sleep(0.05)
        return found

    def settle(self, timeout_s: float = 300.0) -> None:
        """Wait until nothing is under way."""
        watch = Watch(self.engine, self.settings)
        try:
            watch.wait(timeout_s=timeout_s, poll_s=0.05, looks=2)
        finally:
            watch.close()

    def verify(self) -> Report:
        """Prove from the data that all is well."""
        report = verify_stack(self.settings, wait_s=120)
        assert report.clean, json.dumps(report.kinds, indent=1)
        return report

    # ---- processes

    def kill(self, *names: str) -> None:
        """SIGKILL processes; they keep their places."""
        for name in names:
            self.fleet[f"{name}.0"].kill9()

    @contextlib.contextmanager
    def changed(self, name: str, **settings: str) -> Iterator[None]:
        """Meanwhile a process runs with other settings."""
        process = self.fleet[f"{name}.0"]
        own = dict(process.env)

        def restart(env: dict[str, str]) -> None:
            self.kill(name)
            process.env.clear()
            process.env.update(env)
            self.start(name)

        restart(own | settings)
        try:
            yield
        finally:
            restart(own)

    def start(self, *names: str) -> None:
        """Start them again."""
        for name in names:
            self.fleet[f"{name}.0"].start()
        for name in names:
            self.fleet[f"{name}.0"].wait_ready(180)
