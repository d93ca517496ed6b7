"""Clients for intake's two interfaces: HTTP with each party's token, and an upstream's topic."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import time
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
from shared.events import Picture
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
    "complain": "/v1/items/{item}/complaint",
}
SEED_MOST = 5000
"""Listings in one request to the demo marketplace."""
PATIENCE_S = 30
"""The longest `Retry-After` that is waited for: a rate limit names seconds, a used-up daily quota hours."""


class Request(Struct, frozen=True):
    """One request to intake.

    Attributes:
        kind: A key of ``PATHS``.
        by: Account that sends it.
        key: Idempotency key, and id of the CloudEvent.
        body: Body of the HTTP request, and data of the CloudEvent.
        item: Id of the item that it is about.
    """

    kind: str
    by: str
    key: str
    body: dict[str, Any]
    item: str | None = None


def _marketplace(settings: Settings) -> httpx.Client:
    assert settings.internal_token is not None
    headers = {"authorization": f"Bearer {settings.internal_token.get_secret_value()}"}
    return httpx.Client(base_url=settings.marketplace_url, headers=headers, timeout=60, trust_env=False)


def _taken(response: httpx.Response, status: int) -> None:
    if response.status_code != status:
        raise StackError(f"the demo marketplace answers {response.status_code}: {response.text[:200]}")


def seed(settings: Settings, listings: Iterable[dict[str, Any]], again_s: Sequence[float] = ()) -> None:
    """Put listings into the demo marketplace.

    Args:
        settings: With ``internal_token``.
        again_s: Seconds to pause before a request that got 503 is sent again, each time.

    Raises:
        StackError: it does not take them.
    """
    left = iter(listings)
    with _marketplace(settings) as client:
        while some := list(itertools.islice(left, SEED_MOST)):
            response = client.post("/seed", json=some)
            for pause in again_s:
                if response.status_code != 503:
                    break
                time.sleep(pause)
                response = client.post("/seed", json=some)
            _taken(response, 202)


def upload_pictures(settings: Settings, pictures: Iterable[bytes]) -> list[Picture]:
    """Have the demo marketplace keep pictures, for listings to show; in their order.

    Raises:
        StackError: it does not take them.
    """
    found = []
    with _marketplace(settings) as client:
        for data in pictures:
            response = client.put("/pictures", content=data)
            _taken(response, 201)
            told = response.json()
            url = f"{settings.marketplace_url}{told['path']}"
            found.append(Picture(id="front", sha256=told["sha256"], url=url))
    return found


class Channel(Protocol):
    """One of intake's interfaces."""

    @property
    def accepted(self) -> Counter[str]:
        """Number of accepted requests by kind."""

    @property
    def refused(self) -> Counter[str]:
        """Number of refused requests by code."""

    def send(self, requests: Sequence[Request]) -> None:
        """Send the requests; returns when each is accepted or refused."""

    def close(self) -> None:
        """Close connections."""


class HttpClient:
    """A client of intake's HTTP API. It also opens accounts and registers rights.

    Raises:
        StackError: from any call that gets no answer, or an unexpected one.
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
        """Run requests concurrently; returns their results in order."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*work)

        return self._loop.run_until_complete(gather())

    async def must(self, method: str, path: str, body: Any, *, token: str) -> Any:
        """Send one request that must succeed; its answer. ``body``: JSON, or the bytes of a document."""
        response = await self.call(method, path, body, token=token)
        if not response.is_success:
            self._expect(response, 200)
        return response.json()

    async def call(self, method: str, path: str, body: Any, *, token: str, key: str | None = None) -> httpx.Response:
        """Send one request, and repeat it while the API is away or asks to wait. An idempotency key makes that safe."""
        content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {"authorization": f"Bearer {token}"}
        if key is not None:
            headers["idempotency-key"] = key
        async with self._gate:
            for attempt in range(60):
                try:
                    response = await self._client.request(method, path, **content, headers=headers)
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

    async def open_account(
        self, role: str, account: str, contact: tuple[str, str, str] | None, *, good_faith: bool = False
    ) -> None:
        """Open a verified account with this id; `contact`: name, address and e-mail of its owner."""
        body = {"role": role, "id": account, "identity_verified": True, "good_faith": good_faith}
        response = await self._seen("/v1/accounts", body, account)
        if response.status_code == 409:
            raise StackError(
                f"account {account} exists already: the notices were replayed on this stack before; give another --namespace"
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
        """Register a right as an operator who has seen its proof; returns its id."""
        response = await self._seen("/v1/rights", {**body, "owner": owner}, body["proof"])
        self._expect(response, 201)
        right: str = response.json()["id"]
        return right

    async def _seen(self, path: str, body: dict[str, Any], where: str) -> httpx.Response:
        """A request of an operator, who says where it has seen a proof. Version 0.2.0 does not ask for that."""
        response = await self.call("POST", path, {**body, "seen": where}, token=self._operator)
        if response.status_code == 422 and response.json().get("field") == "seen":
            response = await self.call("POST", path, body, token=self._operator)
        return response

    @staticmethod
    def _expect(response: httpx.Response, status: int) -> None:
        if response.status_code != status:
            raise StackError(
                f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:300]}"
            )

    def send(self, requests: Sequence[Request]) -> None:
        """Send the requests, each with its party's token."""
        self.all(self._one(request) for request in requests)

    async def _one(self, request: Request) -> None:
        path = PATHS[request.kind].format(item=request.item)
        response = await self.call("POST", path, request.body, token=self.tokens[request.by], key=request.key)
        if response.status_code == 202:
            self.accepted[request.kind] += 1
        else:
            problem = response.json()
            self.refused[str(problem.get("type", "")).rpartition(":")[2] or str(response.status_code)] += 1


class UpstreamClient:
    """A client that sends CloudEvents to an upstream's topic. The topic's account acts on behalf of the parties."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + topics.inbound(name).name
        self._source = f"/upstream/{name}"
        self._producer: Any = kafka_links.producer(settings, acks="all", linger_ms=5, batch_size=262_144)
        self._refusals: Any = kafka_links.consumer(settings, enable_auto_commit=False)
        refusals = settings.topic_prefix + topics.REFUSALS.name
        self._partitions = [TopicPartition(refusals, partition) for partition in range(settings.partitions)]
        self._refusals.assign(self._partitions)
        self._refusals.seek_to_end(*self._partitions)
        for partition in self._partitions:
            self._refusals.position(partition)
        self._accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def close(self) -> None:
        """Close connections."""
        self._producer.close()
        self._refusals.close()

    def send(self, requests: Sequence[Request]) -> None:
        """Write the requests to the topic; returns when the broker has them."""
        encode = msgspec.json.encode
        for request in requests:
            data = {**request.body, "on_behalf_of": request.by}
            if request.item is not None:
                data["item"] = request.item
            document = {
                "specversion": "1.0",
                "id": request.key,
                "source": self._source,
                "type": f"goodfaith.request.{request.kind}.v1",
                "time": dt.datetime.now(dt.UTC),
                "datacontenttype": "application/json",
                "data": data,
            }
            # keyed by party: the requests of one party stay in order
            self._producer.send(self._topic, key=request.by.encode(), value=encode(document))
            self._accepted[request.kind] += 1
        self._producer.flush()

    def _drain(self) -> None:
        ends = self._refusals.end_offsets(self._partitions)
        while any(self._refusals.position(partition) < end for partition, end in ends.items()):
            for records in self._refusals.poll(timeout_ms=200).values():
                for record in records:
                    data = msgspec.json.decode(record.value).get("data", {})
                    self._refused[str(data.get("code") or data.get("reason"))] += 1

    @property
    def accepted(self) -> Counter[str]:
        """Number of requests written by kind, refused ones included."""
        return self._accepted

    @property
    def refused(self) -> Counter[str]:
        """Number of refusals read so far by code."""
        self._drain()
        return self._refused
