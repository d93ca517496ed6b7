"""A few claims through the whole fleet, over HTTP: every end of an item, in a minute. For tests of what looks at the data."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import httpx
from kafka import KafkaProducer

from deploy.local import fleet
from deploy.local.fleet import settings_of
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.local.up import prepare
from services.ops.idle import Watch
from shared import clock, db

SELLERS = ("s-anna", "s-ben", "s-cleo")
SITE = "https://market.example/items/"
IPP = fleet.UNREVIEWED_IPP
"""The version that the run files under."""


class SmallRun:
    """The fleet on a stack, parties with tokens, and the clock in hand.

    Attributes:
        claims: ids of the claims by a name of ours.
        items: by the same name, (item, listing) pairs.
        views: what the streams said at the end, if somebody asked.
    """

    def __init__(self, stack: Stack, env: dict[str, str] | None = None, profile: str = "ipp") -> None:
        self.stack = stack
        self.profile = profile
        prepare(
            stack,
            {
                "GOODFAITH_COLLECT_S": "0.2",
                "GOODFAITH_PARTITIONS": "4",
                **fleet.UNREVIEWED,
                "GOODFAITH_UPSTREAMS": '{"desk": "u-desk"}',
                "GOODFAITH_UPSTREAM_MAY": '{"desk": {"accounts": ["*"], "commands": ["submit_claim"]}}',
                **(env or {}),
            },
        )
        self.fleet = Fleet.start(stack).wait_ready(180)
        self.settings = settings_of(stack)
        self.engine = db.administer(stack.admin_url, autocommit=True)
        self.http = httpx.Client(base_url=fleet.url(stack, "intake"), verify=fleet.trust(stack), timeout=30)
        self.tokens = {"operator": stack.secret("operator_token")}
        self.claims: dict[str, str] = {}
        self.items: dict[str, list[tuple[str, str]]] = {}
        self.views: Any = None
        self.step(dt.timedelta())  # the clock stands still but for our steps

    def close(self) -> None:
        """Stop the processes."""
        self.http.close()
        self.fleet.stop()
        self.engine.dispose()

    # ---- parts

    def call(self, who: str, method: str, path: str, body: Any = None) -> Any:
        """One request; its answer."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def account(self, name: str, role: str, *, verified: bool = True) -> None:
        """An account with a confirmed contact."""
        body = {"role": role, "id": name, "identity_verified": verified, "seen": "office"}
        self.tokens[name] = self.call("operator", "POST", "/v1/accounts", body)["token"]
        contact = {"name": name, "address": "1 Long Lane", "email": f"{name}@mail.example"}
        self.call(name, "PUT", "/v1/contact", contact)
        self.call("operator", "POST", f"/v1/accounts/{name}/verify", {"email_confirmed": True})

    def right(self, owner: str, kind: str, number: str) -> str:
        """A right whose proof an operator has seen."""
        body = {"right_type": kind, "number": number, "seen": f"proof-{number}", "owner": owner}
        return str(self.call("operator", "POST", "/v1/rights", body)["id"])

    def seed(self, listings: dict[str, str]) -> None:
        """Put listings (id -> seller) on the site."""
        url = f"http://127.0.0.1:{self.stack.port('marketplace')}/seed"
        headers = {"Authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"listing": listing, "seller": seller, "title": listing} for listing, seller in listings.items()]
        assert httpx.post(url, json=body, headers=headers, timeout=30).status_code == 202

    def link(self, *sellers: str) -> None:
        """Have the marketplace say that accounts are of one business."""
        url = f"http://127.0.0.1:{self.stack.port('marketplace')}/sellers"
        headers = {"Authorization": f"Bearer {self.stack.secret('internal_token')}"}
        body = [{"seller": seller, "keys": [{"kind": "registration", "digest": "ab" * 32}]} for seller in sellers]
        assert httpx.post(url, json=body, headers=headers, timeout=30).status_code == 202

    def claim(self, name: str, who: str, right: str, reason: str, links: list[str]) -> None:
        """File a claim."""
        body = {"right": right, "reason": reason, "listings": links, "profile": self.profile}
        answer = self.call(who, "POST", "/v1/claims", body)
        self.claims[name] = answer["claim"]
        self.items[name] = [(item["item"], item["listing"]) for item in answer["items"]]

    def relay(self, number: int, who: str, body: dict[str, Any]) -> None:
        """A claim by the upstream's topic; what is not a request is refused there."""
        data = {**body, "on_behalf_of": who}
        document = {
            "specversion": "1.0",
            "id": f"desk.{number}",
            "source": "/desk",
            "type": "goodfaith.request.submit_claim.v1",
            "data": data,
        }
        producer: Any = KafkaProducer(bootstrap_servers=self.settings.kafka, acks="all")
        producer.send(
            self.settings.topic_prefix + "inbound.desk", key=who.encode(), value=json.dumps(document).encode()
        )
        producer.close()

    def command(self, who: str, claim: str, number: int, path: str, body: dict[str, Any]) -> None:
        """A command about an item of a claim."""
        item, _ = self.items[claim][number]
        self.call(who, "POST", f"/v1/items/{item}/{path}", body)

    def step(self, ahead: dt.timedelta) -> None:
        """Set business time ahead."""
        with self.engine.connect() as connection:
            now, _ = clock.read(connection)
            # from the first event on time runs only a little, so that moments differ
            clock.set_anchor(connection, business=now + ahead, rate=0.001)

    def freeze(self) -> None:
        """Let business time stand still. Then no watermark follows, which only some of the processes would read."""
        with self.engine.connect() as connection:
            now, _ = clock.read(connection)
            clock.set_anchor(connection, business=now, rate=0)
        self.settle()

    def settle(self, timeout_s: float = 120.0) -> None:
        """Wait until nothing is under way."""
        watch = Watch(self.engine, self.settings)
        try:
            watch.wait(timeout_s=timeout_s, poll_s=0.05, looks=3)
        finally:
            watch.close()

    # ---- the story

    def play(self) -> None:
        """Claims that end in every way: accepted, by default, countered, withdrawn, refused, duplicate, dead, lapsed."""
        for name in SELLERS:
            self.account(name, "seller")
        self.account("h-owl", "holder")
        self.account("h-fox", "holder", verified=False)
        self.account("r-rita", "operator")  # decides without a lease
        self.account("u-desk", "upstream")
        listings = {f"li-{number}": SELLERS[number % len(SELLERS)] for number in range(24)}
        self.seed(listings)
        self.link(*SELLERS[:2])
        mark = self.right("h-owl", "trademark", "1234567")
        picture = self.right("h-owl", "copyright", "VA0001234567")
        other = self.right("h-fox", "trademark", "7654321")
        self.settle()
        links = [SITE + listing for listing in listings]
        self.claim("fakes", "h-owl", mark, "counterfeit", links[0:6])
        self.claim(
            "title", "h-owl", mark, "improper_use", [*links[3:9], SITE + "li-none", "https://elsewhere.example/x"]
        )
        self.claim("photo", "h-owl", picture, "copied_image_or_text", links[9:15])
        self.claim("again", "h-owl", mark, "counterfeit", links[0:2])
        self.claim("unproven", "h-fox", other, "counterfeit", links[15:17])
        self.relay(
            1,
            "h-owl",
            {
                "right": picture,
                "reason": "copied_image_or_text",
                "listings": links[17:19],
                "profile": self.profile,
            },
        )
        self.relay(2, "h-owl", {"right": picture, "reason": "nonsense", "listings": links[17:19]})
        self.settle()
        seller = {name: [listings.get(listing, "") for _, listing in items] for name, items in self.items.items()}
        self.command(seller["fakes"][0], "fakes", 0, "accept", {})
        self.command("h-owl", "fakes", 1, "withdraw", {"ground": "error"})
        counter = {"materials": ["identity", "statement"]}
        for number in (2, 3, 4):
            self.command(seller["fakes"][number], "fakes", number, "counter", counter)
        self.command(seller["title"][0], "title", 0, "counter", {"materials": ["identity"]})  # incomplete
        self.command(seller["photo"][0], "photo", 0, "accept", {})
        self.settle()
        self.command("h-owl", "fakes", 2, "response", {"accept": True})
        self.command("h-owl", "fakes", 3, "response", {"accept": False})
        self.command(seller["fakes"][0], "fakes", 0, "accept", {})  # refused: it is done
        self.command("h-owl", "photo", 1, "withdraw", {"ground": "settled"})
        self.settle()
        self.command("r-rita", "fakes", 3, "decision", {"decision": "uphold"})
        self.settle()
        self.step(dt.timedelta(days=8))  # windows lapse, holders stay silent
        self.settle()
        # all that was upheld by default of one seller is countered late, and comes back: its penalty is reversed
        for number in (2, 5):
            self.command(seller["photo"][number], "photo", number, "counter", counter)
        self.settle()
        for number in (2, 5):
            self.command("h-owl", "photo", number, "response", {"accept": True})
        self.settle()
        self.step(dt.timedelta(days=12))
        self.settle()
