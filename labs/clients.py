"""The two entrances to intake, used as a marketplace's own programs would: HTTP with each party's token, and an upstream's topic."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol

import httpx
import msgspec
import uvloop
from kafka import TopicPartition
from msgspec import Struct

from deploy.local.children import StackError
from shared import kafka_links, topics
from shared.callers import trust
from shared.settings import Settings

PATHS = {
    "submit_claim": "/v1/claims",
    "withdraw": "/v1/items/{item}/withdraw",
    "accept": "/v1/items/{item}/accept",
    "counter": "/v1/items/{item}/counter",
    "respond": "/v1/items/{item}/response",
    "report_action": "/v1/items/{item}/action",
    "report_result": "/v1/items/{item}/result",
    "decide": "/v1/items/{item}/decision",
}
PATIENCE_S = 30
"""A rate limit asks for a wait of seconds, a used-up daily quota for hours."""


class Ask(Struct, frozen=True):
    """One request to intake.

    Attributes:
        by: account that asks.
        key: idempotency key; also the id of the CloudEvent.
    """

    kind: str
    by: str
    key: str
    body: dict[str, Any]
    item: str | None = None


class Channel(Protocol):
    """Where requests go in."""

    @property
    def accepted(self) -> Counter[str]:
        """Requests taken in, by kind."""

    @property
    def refused(self) -> Counter[str]:
        """Requests refused, by code."""

    def send(self, asks: Sequence[Ask]) -> None:
        """Hand the requests in; returns when each is accepted or refused."""

    def close(self) -> None:
        """Close connections."""


class Http:
    """Intake's HTTP API. Also what sets accounts, contacts and rights up.

    Raises:
        StackError: from any call, when the API answers what a replay cannot go on with.
    """

    def __init__(self, settings: Settings, *, concurrency: int = 8) -> None:
        assert settings.operator_token is not None
        self._settings = settings
        self._operator = settings.operator_token.get_secret_value()
        self.tokens: dict[str, str] = {}
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._loop = uvloop.new_event_loop()
        self._gate = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            base_url=settings.intake_url,
            verify=trust(settings.intake_url, settings.internal_ca),
            timeout=30,
            trust_env=False,
            limits=httpx.Limits(max_connections=concurrency),
        )

    def close(self) -> None:
        """Close connections."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    def all(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run requests concurrently; their results in order."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*work)

        return self._loop.run_until_complete(gather())

    async def call(self, method: str, path: str, body: Any, *, token: str, key: str | None = None) -> httpx.Response:
        """One request; tried again while the API is away (the idempotency key makes that safe) or asks for patience."""
        headers = {"authorization": f"Bearer {token}"}
        if key is not None:
            headers["idempotency-key"] = key
        async with self._gate:
            for attempt in range(60):
                try:
                    response = await self._client.request(method, path, json=body, headers=headers)
                except httpx.TransportError:
                    response = None
                wait = min(0.1 * 2**attempt, 2.0)
                if response is not None and response.status_code < 500:
                    after = response.headers.get("retry-after", "")
                    if response.status_code != 429 or not after.isdigit() or int(after) > PATIENCE_S:
                        return response
                    wait = float(after)
                await asyncio.sleep(wait)
        raise StackError(f"{method} {path}: no answer from {self._settings.intake_url}")

    async def open_account(self, role: str, account: str, contact: tuple[str, str, str] | None) -> None:
        """An account with a given id, verified, and how to reach its owner."""
        body = {"role": role, "id": account, "identity_verified": True}
        response = await self.call("POST", "/v1/accounts", body, token=self._operator)
        if response.status_code == 409:
            raise StackError(
                f"account {account} is there already: this stack has seen the notices; use --namespace to tell runs apart"
            )
        self._expect(response, 201)
        self.tokens[account] = response.json()["token"]
        if contact is not None:
            name, address, email = contact
            body = {"name": name, "address": address, "email": email}
            self._expect(await self.call("PUT", "/v1/contact", body, token=self.tokens[account]), 204)
            known = {"email_confirmed": True}
            self._expect(await self.call("POST", f"/v1/accounts/{account}/verify", known, token=self._operator), 200)

    async def register_right(self, owner: str, body: dict[str, Any]) -> str:
        """A right; returns its id."""
        response = await self.call("POST", "/v1/rights", {**body, "owner": owner}, token=self._operator)
        self._expect(response, 201)
        right: str = response.json()["id"]
        return right

    @staticmethod
    def _expect(response: httpx.Response, status: int) -> None:
        if response.status_code != status:
            raise StackError(
                f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:300]}"
            )

    def send(self, asks: Sequence[Ask]) -> None:
        """Hand the requests in, each with its party's token."""
        self.all(self._one(ask) for ask in asks)

    async def _one(self, ask: Ask) -> None:
        path = PATHS[ask.kind].format(item=ask.item)
        response = await self.call("POST", path, ask.body, token=self.tokens[ask.by], key=ask.key)
        if response.status_code == 202:
            self.accepted[ask.kind] += 1
        else:
            problem = response.json()
            self.refused[str(problem.get("type", "")).rpartition(":")[2] or str(response.status_code)] += 1


class Upstream:
    """An upstream's inbound topic: CloudEvents; the account of the topic acts on behalf of the parties."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + topics.inbound(name).name
        self._source = f"/upstream/{name}"
        self._producer: Any = kafka_links.producer(settings, acks="all", linger_ms=5, batch_size=262_144)
        self._refusals: Any = kafka_links.consumer(settings, enable_auto_commit=False)
        name_ = settings.topic_prefix + topics.REFUSALS.name
        self._places = [TopicPartition(name_, partition) for partition in range(settings.partitions)]
        self._refusals.assign(self._places)
        self._refusals.seek_to_end(*self._places)
        for place in self._places:
            self._refusals.position(place)
        self._accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def close(self) -> None:
        """Close connections."""
        self._producer.close()
        self._refusals.close()

    def send(self, asks: Sequence[Ask]) -> None:
        """Write the requests to the topic; returns when the broker has them."""
        encode = msgspec.json.encode
        for ask in asks:
            data = {**ask.body, "on_behalf_of": ask.by}
            if ask.item is not None:
                data["item"] = ask.item
            document = {
                "specversion": "1.0",
                "id": ask.key,
                "source": self._source,
                "type": f"goodfaith.request.{ask.kind}.v1",
                "time": dt.datetime.now(dt.UTC),
                "datacontenttype": "application/json",
                "data": data,
            }
            # by complainant or seller: what one party sends stays in order
            self._producer.send(self._topic, key=ask.by.encode(), value=encode(document))
            self._accepted[ask.kind] += 1
        self._producer.flush()

    def _drain(self) -> None:
        ends = self._refusals.end_offsets(self._places)
        while any(self._refusals.position(place) < end for place, end in ends.items()):
            for records in self._refusals.poll(timeout_ms=200).values():
                for record in records:
                    data = msgspec.json.decode(record.value).get("data", {})
                    self._refused[str(data.get("code") or data.get("reason"))] += 1

    @property
    def accepted(self) -> Counter[str]:
        """Requests written, by kind, the refused ones among them."""
        return self._accepted

    @property
    def refused(self) -> Counter[str]:
        """Refusals read so far, by code."""
        self._drain()
        return self._refused
