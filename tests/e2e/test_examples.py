"""The programs of `examples/` as their docstrings have them run, each as a process of its own on the real fleet."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import fleet
from deploy.local.children import free_port
from deploy.local.up import shell_variables
from shared import clock, marketplace, webhook_signatures
from tests.e2e.world import COMPLETE, Claim, World
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
LOCAL = {
    "GOODFAITH_WEBHOOK_HTTP": "true",
    "GOODFAITH_WEBHOOK_NETWORKS": '["127.0.0.0/8"]',
    "GOODFAITH_WEBHOOK_PORTS": "[]",
}
"""As the docstring of `webhook_receiver.py` has a local stack started."""


@pytest.fixture(scope="module", autouse=True)
def proved(world: World) -> Iterator[None]:
    """All that the examples have left behind agrees."""
    yield
    world.verify()


@pytest.fixture(scope="module")
def fox(world: World) -> str:
    """A verified right holder."""
    return world.account("h-example")


@pytest.fixture(scope="module")
def mark(world: World, fox: str) -> str:
    """Its trademark."""
    return world.right(fox)


class Example:
    """A program that runs; what it prints are JSON documents, a line each."""

    def __init__(self, name: str, *arguments: str, **env: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / name), *arguments],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def says(self, **facts: Any) -> dict[str, Any] | None:
        """The first thing it said that has these facts; None: nothing yet."""
        assert self.process.poll() is None, "it has ended"
        return next((one for one in self.told if facts.items() <= one.items()), None)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(name: str, *arguments: str, **env: str) -> Iterator[Example]:
    """A program, while something is done with it."""
    example = Example(name, *arguments, **env)
    try:
        yield example
    finally:
        example.stop()


@contextlib.contextmanager
def moving(world: World) -> Iterator[None]:
    """Meanwhile the clock goes as it does on a newcomer's stack."""

    def pace(rate: int) -> None:
        with world.engine.connect() as connection:
            clock.set_anchor(connection, business=None, rate=rate)

    pace(1)
    try:
        yield
    finally:
        pace(0)


def test_the_quick_start(world: World) -> None:
    variables = shell_variables(world.stack)
    with moving(world):
        done = subprocess.run(
            ["sh", "examples/quickstart.sh"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, last = done.stdout.splitlines()
    found = json.loads(last)
    assert (found["taken_down"], found["restored"]) == (True, True)
    assert world.call("operator", "GET", f"/v1/claims/{found['claim']}")["states"] == {"RESTORED": 1}
    assert "complainant Owl Ltd" in done.stdout
    assert "seller shop@example.com" in done.stdout
    assert all(len(step) > 20 for step in steps)
    for token in (variables["OPERATOR_TOKEN"], variables["MARKETPLACE_TOKEN"]):
        assert token not in done.stdout + done.stderr


def test_the_quick_start_says_what_went_wrong(world: World) -> None:
    variables = {**shell_variables(world.stack), "OPERATOR_TOKEN": "gf_0_0"}
    done = subprocess.run(
        ["sh", "examples/quickstart.sh"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "/v1/accounts failed" in done.stderr
    assert "urn:goodfaith:problem:" in done.stderr


def test_an_upstream_files_by_topic(world: World, fox: str, mark: str) -> None:
    def send(right: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [
                sys.executable,
                "examples/upstream_producer.py",
                "desk",
                "--kafka",
                world.settings.kafka,
                "--account",
                fox,
                "--right",
                right,
                link,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    seller = world.account("s-example-up", "seller")
    (link,) = world.offer(seller, "example-up", brand="Owl", price={"amount": "12.50", "currency": "EUR"})
    status, answer = send(mark)
    assert (status, answer["accepted"], answer["account"]) == (0, True, fox)
    filed = world.call("operator", "GET", f"/v1/claims/{answer['claim']}")
    assert (filed["complainant"], filed["via"]) == (fox, "u-desk")
    (item,) = (one["id"] for one in world.call("operator", "GET", f"/v1/claims/{filed['id']}/items")["items"])
    world.notified(item)
    # what the marketplace published of the listing is what all sides see
    for reader in (fox, seller, "operator"):
        shown = world.call(reader, "GET", f"/v1/items/{item}")["listing_content"]
        assert (shown["status"], shown["edited"], shown["filed"]["brand"]) == ("known", False, "Owl")
        assert shown["filed"]["price"] == {"amount": "12.50", "currency": "EUR"}
    world.do(fox, item, "withdraw", {"ground": "error"})
    world.reach(item, "WITHDRAWN")

    status, answer = send("r-none")
    assert (status, answer["accepted"], answer["reason"]) == (1, False, "right_not_owned")
    assert answer["cure"]


def test_a_party_receives_webhooks(world: World, fox: str, mark: str) -> None:
    seller = world.account("s-example-hook", "seller")
    links = world.offer(seller, "example-hook")
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    env = {"INTAKE": shell_variables(world.stack)["INTAKE"], "TOKEN": world.tokens[seller]}
    with (
        world.changed("intake-api", **LOCAL),
        world.changed("notification-webhooks", **LOCAL),
        running("webhook_receiver.py", url, "--port", str(port), **env) as receiver,
    ):
        made = world.until(lambda: next((one for one in receiver.told if "registered" in one), None))
        asked = world.until(lambda: receiver.says(webhook=made["registered"]))
        assert asked["confirm"] == f"POST /v1/webhooks/{made['registered']}/confirmation"
        world.call(seller, "POST", f"/v1/webhooks/{made['registered']}/confirmation", {"code": asked["code"]})
        world.call(seller, "PUT", "/v1/channels", {"order": ["webhook", "email"]})
        world.settle()
        claim = world.file(fox, mark, links)
        told = world.until(lambda: receiver.says(type="seller_notice"))
        assert told["claim"] == claim.id
        assert claim.id in told["subject"]
        forged = {"webhook-id": "m-1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        assert httpx.post(url, content=b"{}", headers=forged, trust_env=False).status_code == 401
        assert httpx.post(url, content=b"{}", trust_env=False).status_code == 401
        world.notified(claim.items[0])
        world.call(seller, "DELETE", f"/v1/webhooks/{made['registered']}")
    world.do(fox, claim.items[0], "withdraw", {"ground": "error"})
    world.reach(claim.items[0], "WITHDRAWN")
    assert sum("refused" in one for one in receiver.told) == 2  # the forged ones


@contextlib.contextmanager
def by_http(world: World, url: str) -> Iterator[None]:
    """Meanwhile commands on listings go to a marketplace by HTTP."""
    own = {"GOODFAITH_MARKETPLACE": "http", "GOODFAITH_MARKETPLACE_URL": url}
    spec = fleet.BY_NAME["enforcement-delivery"]
    env = fleet.environment(world.stack, spec, world.stack.environment()) | own
    env |= {"GOODFAITH_METRICS_PORT": str(free_port()), "GOODFAITH_INSTANCE": "enforcement-delivery.0"}
    world.settle()
    with world.changed("enforcement-worker", **own):
        delivery = subprocess.Popen([sys.executable, "-m", *spec.command], cwd=ROOT, env=env)
        try:
            yield
            world.settle()
        finally:
            delivery.terminate()
            delivery.wait(PATIENCE_S)


def test_a_marketplace_is_moderated_by_http(world: World, fox: str, mark: str) -> None:
    seller = world.account("s-example-shop", "seller")
    links = world.offer(seller, "example-shop")  # the demo's marketplace publishes it
    secret, port = world.stack.secret("marketplace_secret"), free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        running(
            "marketplace_adapter.py", f"example-shop={seller}", "--port", str(port), GOODFAITH_MARKETPLACE_SECRET=secret
        ) as adapter,
        httpx.Client(base_url=url, trust_env=False) as shop,
        by_http(world, url),
    ):
        claim = world.file(fox, mark, links)
        world.notified(claim.items[0])
        assert adapter.says(listing="example-shop", action="suspend", result="done")
        assert shop.get("/items/example-shop").status_code == 410
        _countered(world, fox, seller, claim)
        world.until(lambda: shop.get("/items/example-shop").status_code == 200)
        assert adapter.says(listing="example-shop", action="restore", result="done")
        _is_careful(shop, secret, seller)
    # the demo's marketplace has not had these two commands; `verify` holds it against what enforcement has sent
    assert world.page("example-shop") == 200
    world.rows("update marketplace.listings set seq = 2 where listing = 'example-shop' returning seq")


def _countered(world: World, holder: str, seller: str, claim: Claim) -> None:
    (item,) = claim.items
    world.do(seller, item, "counter", COMPLETE)
    world.reach(item, "HOLDER_RESPONSE", due=...)
    world.do(holder, item, "response", {"accept": True})
    world.reach(item, "RESTORED", held=False)


def _is_careful(shop: httpx.Client, secret: str, seller: str) -> None:
    """Only what is signed is carried out, for its path, now, and in its order."""

    def post(
        path: str, command: dict[str, Any], *, signed_for: str = "", age_s: int = 0, key: str = "c-9"
    ) -> httpx.Response:
        body = json.dumps({"type": marketplace.TYPES[signed_for or path], **command}).encode()
        at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age_s)
        headers = webhook_signatures.signed_headers(key, body, [secret.encode()], at)
        return shop.post(path, content=body, headers=headers)

    suspend = {"command": "c-9", "listing": "example-shop", "action": "suspend", "seq": 1}
    freeze = {"command": "c-9", "seller": seller, "seq": 1, "measures": ["frozen"]}
    assert shop.post("/commands", json=suspend).status_code == 401
    assert post("/commands", suspend, signed_for="/seller-commands").status_code == 401
    assert post("/commands", suspend, age_s=400).status_code == 401
    assert post("/commands", suspend, key="c-8").status_code == 401
    assert post("/commands", {**suspend, "action": "burn"}).status_code == 422
    assert post("/commands", suspend).json()["result"] == "done"  # late: the restoration was number 2
    assert shop.get("/items/example-shop").status_code == 200
    assert post("/commands", {**suspend, "listing": "none"}).json()["result"] == "unknown_listing"
    assert post("/seller-commands", freeze).json()["result"] == "done"
    assert shop.get("/items/example-shop").status_code == 404
    assert post("/seller-commands", {**freeze, "seq": 2, "measures": []}).json()["result"] == "done"
    assert shop.get("/items/example-shop").status_code == 200
    assert post("/seller-commands", {**freeze, "seller": "s-none"}).json()["result"] == "unknown_seller"
