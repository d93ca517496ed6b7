"""A webhook is used once its owner has shown that what is sent there comes to it: by HTTP, with real processes and a real receiver."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.accounts import webhooks_store
from shared import topics
from tests.integration.hooks import Hooks, Received
from tests.integration.intake_parts import CONTACT, Parts, People, _with_database, wait
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

WRONG = "0000-0000-0000"
patient = functools.partial(wait, timeout_s=300.0)
"""Several processes begin at once."""


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        Path(tmp_path_factory.mktemp("challenges")),
        notification_url=f"http://127.0.0.1:{free_port()}",
        webhook_networks=("127.0.0.0/8",),
        webhook_http=True,
        webhook_ports=(),
        webhook_timeout_s=1.0,
        webhook_challenges=4,
        poll_ms=20,
        collect_s=0.1,
        smtp_port=free_port(),
    )
    parts.notification(stack)
    topics.create(parts.settings)
    yield parts
    parts.close()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    hooks = Hooks().start()
    yield hooks
    hooks.stop()


@pytest.fixture
def quiet(parts: Parts) -> None:
    """Nothing is left to be called of what came before."""
    parts.query("update webhook_challenges set due_wall = null")


@contextlib.contextmanager
def process(parts: Parts, stack: Stack, client: httpx.Client, role: str, **values: str) -> Iterator[Any]:
    """A process of notification."""
    url = _with_database(stack.role_url("notification"), parts.name)
    child = parts.start(
        role, service="notification", GOODFAITH_DATABASE=url, GOODFAITH_INTAKE_URL=str(client.base_url), **values
    )
    try:
        yield child
    finally:
        child.terminate()
        assert child.wait(PATIENCE_S) is not None


def register(people: People, headers: dict[str, str], url: str) -> dict[str, Any]:
    made = people.client.post("/v1/webhooks", json={"url": url}, headers=headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def shown(people: People, headers: dict[str, str], hook: str) -> dict[str, Any]:
    return dict(people.client.get(f"/v1/webhooks/{hook}", headers=headers).json())


def confirm(people: People, headers: dict[str, str], hook: str, code: str) -> httpx.Response:
    return people.client.post(f"/v1/webhooks/{hook}/confirmation", json={"code": code}, headers=headers)


def refused(answer: httpx.Response, status: int, reason: str, field: str | None = "code") -> None:
    problem = answer.json()
    assert (answer.status_code, problem["type"].rpartition(":")[2]) == (status, reason)
    assert problem.get("field") == field
    assert problem["cure"]


def told(call: Received, secret: str) -> dict[str, Any]:
    """What a call says; its signature is verified."""
    return dict(Webhook(secret).verify(call.body, call.headers))


def suspend(people: People, account: str, status: str) -> None:
    """Something that the account is told."""
    answer = people.client.post(
        f"/v1/accounts/{account}/status", json={"status": status, "code": "test"}, headers=people.operator
    )
    assert answer.status_code == 200, answer.text


def test_a_webhook_gets_nothing_before_its_owner_confirmed_it(
    parts: Parts, people: People, stack: Stack, hooks: Hooks
) -> None:
    """All processes run: what the account is told while its webhook waits is not told there; afterwards it is."""
    account, headers = people.open()
    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    people.client.put("/v1/channels", json={"order": ["webhook", "email"]}, headers=headers)
    with contextlib.ExitStack() as running:
        for role in ("worker", "webhooks", "sender"):  # the mail server is away
            running.enter_context(process(parts, stack, people.client, role))
        worker = parts.start("worker")
        running.callback(worker.wait, 60)
        running.callback(worker.terminate)
        made = register(people, headers, hooks.url("/ok/a"))
        suspend(people, account, "suspended")
        route = "select route from notification.messages where party = %s and kind = 'account.account_suspended'"

        def routes() -> list[str]:
            with contextlib.closing(administer(parts)) as connection:
                return list(connection.exec_driver_sql(route, (account,)).scalars())

        patient(routes)
        assert routes() == ["email"]
        patient(lambda: hooks.received)
        (call,) = hooks.received
        challenge = told(call, made["secret"])
        assert (challenge["type"], challenge["data"]["webhook"]) == ("webhook.challenge", made["id"])
        assert set(challenge["data"]) == {"webhook", "code", "expires_at", "confirm"}
        patient(lambda: shown(people, headers, made["id"])["challenge"]["result"] == "204")
        waiting = shown(people, headers, made["id"])
        assert (waiting["status"], waiting["reason"], waiting["challenge"]["next_at"]) == ("pending", None, None)

        answer = confirm(people, headers, made["id"], challenge["data"]["code"])
        assert (answer.status_code, answer.json()["status"], answer.json()["challenge"]) == (200, "enabled", None)
        with contextlib.closing(administer(parts)) as connection:
            known = "select webhooks from notification.channels where party = %s"
            patient(lambda: made["id"] in connection.exec_driver_sql(known, (account,)).scalar_one())
        suspend(people, account, "open")
        # and what no mail server has taken meanwhile
        later = {"account.account_suspended", "account.account_resumed"}
        patient(lambda: {told(call, made["secret"])["type"] for call in hooks.received[1:]} == later)
    log = parts.log("api") + parts.log("worker") + parts.log("notification-webhooks")
    assert challenge["data"]["code"] not in log
    assert "/ok/a" not in log


def administer(parts: Parts) -> Any:
    from shared import db

    return db.administer(parts.admin_url, autocommit=True, pooled=False).connect()


def test_killed_between_asking_and_calling_it_calls_later(
    parts: Parts, people: People, stack: Stack, hooks: Hooks, quiet: None
) -> None:
    _, headers = people.open()
    made = register(people, headers, hooks.url("/ok/a"))
    with process(
        parts, stack, people.client, "webhooks", GOODFAITH_CRASH_AT="notification-webhooks:after_challenges:1"
    ) as child:
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
    assert hooks.received == []
    ((calls, due),) = parts.query(
        "select calls, due_wall - clock_timestamp() from webhook_challenges where webhook = %s", made["id"]
    )
    assert calls == 1
    assert dt.timedelta(minutes=3) < due < dt.timedelta(minutes=6)
    parts.query("update webhook_challenges set due_wall = now() where webhook = %s", made["id"])
    with process(parts, stack, people.client, "webhooks"):
        wait(lambda: hooks.received)
    code = told(hooks.received[0], made["secret"])["data"]["code"]
    assert confirm(people, headers, made["id"], code).status_code == 200


def test_what_fails_is_called_three_times_and_no_more(
    parts: Parts, people: People, stack: Stack, hooks: Hooks, quiet: None
) -> None:
    """Under one id, with one code; 410 ends it at once."""
    _, headers = people.open()
    failing, gone = register(people, headers, hooks.url("/fail")), register(people, headers, hooks.url("/gone"))
    with process(parts, stack, people.client, "webhooks"):
        for calls in (1, 2, 3):
            wait(lambda calls=calls: len(hooks.at("/fail")) == calls)
            wait(lambda: shown(people, headers, failing["id"])["challenge"]["result"] == "500")
            next_at = shown(people, headers, failing["id"])["challenge"]["next_at"]
            assert (next_at is None) == (calls == 3)
            parts.query(
                "update webhook_challenges set due_wall = now(), result = null where webhook = %s and due_wall is not null",
                failing["id"],
            )
        wait(lambda: shown(people, headers, gone["id"])["challenge"]["result"] == "410")
    assert len(hooks.at("/gone")) == 1
    assert len({(call.id, json.loads(call.body)["data"]["code"]) for call in hooks.at("/fail")}) == 1


def test_a_wrong_code_is_refused_and_five_void_it(parts: Parts, people: People) -> None:
    _, headers = people.open()
    hook = register(people, headers, "http://127.0.0.1:9/a")["id"]
    code = parts.code_for(people.client, hook)
    for _ in range(5):
        refused(confirm(people, headers, hook, WRONG), 422, "wrong_code")
    refused(confirm(people, headers, hook, code), 422, "tries_used")
    refused(enable(people, headers, hook), 409, "webhook_not_confirmed", "status")
    assert shown(people, headers, hook)["status"] == "pending"


def enable(people: People, headers: dict[str, str], hook: str) -> httpx.Response:
    return people.client.put(f"/v1/webhooks/{hook}/status", json={"status": "enabled"}, headers=headers)


def test_a_code_is_good_for_its_webhook_once_and_in_time(parts: Parts, people: People) -> None:
    _, headers = people.open()
    first = register(people, headers, "http://127.0.0.1:9/a")["id"]
    other = register(people, headers, "http://127.0.0.1:9/a")["id"]
    code = parts.code_for(people.client, first)
    refused(confirm(people, headers, other, code), 422, "wrong_code")

    parts.query("update webhook_challenges set expires_wall = now() where webhook = %s", first)
    refused(confirm(people, headers, first, code), 422, "code_expired")

    ask = f"/v1/webhooks/{first}/challenge"
    early = people.client.post(ask, headers=headers)
    refused(early, 429, "challenge_too_soon", None)
    assert 0 < int(early.headers["retry-after"]) <= 60
    parts.query("update webhook_challenges set asked_wall = now() - interval '1 minute' where webhook = %s", first)
    assert people.client.post(ask, headers=headers).status_code == 202
    refused(confirm(people, headers, first, code), 422, "wrong_code")
    again = parts.code_for(people.client, first)
    # as somebody types it
    assert confirm(people, headers, first, again.lower().replace("-", " ")).status_code == 200
    refused(confirm(people, headers, first, again), 422, "confirmed_already", None)
    refused(people.client.post(ask, headers=headers), 422, "confirmed_already", None)

    # what was confirmed once is put in use again without a code
    disable = {"status": "disabled"}
    assert (
        people.client.put(f"/v1/webhooks/{first}/status", json=disable, headers=headers).json()["status"] == "disabled"
    )
    assert enable(people, headers, first).json()["status"] == "enabled"


def test_another_account_confirms_nothing(parts: Parts, people: People) -> None:
    _, headers = people.open()
    _, other = people.open()
    hook = register(people, headers, "http://127.0.0.1:9/a")["id"]
    code = parts.code_for(people.client, hook)
    assert confirm(people, other, hook, code).status_code == 404
    assert people.client.post(f"/v1/webhooks/{hook}/challenge", headers=other).status_code == 404
    assert parts.query("select tries from webhook_challenges where webhook = %s", hook) == [(0,)]
    assert confirm(people, headers, hook, code).status_code == 200


def test_an_account_has_so_many_codes_a_day_whatever_it_deletes(parts: Parts, people: People) -> None:
    _, headers = people.open()
    for _ in range(4):
        hook = register(people, headers, "http://127.0.0.1:9/a")["id"]
        people.client.delete(f"/v1/webhooks/{hook}", headers=headers)
    answer = people.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/a"}, headers=headers)
    refused(answer, 429, "challenges_used", "url")
    assert int(answer.headers["retry-after"]) > 86_000


def test_a_host_is_sent_so_many_codes_an_hour(parts: Parts, people: People) -> None:
    with parts.api(GOODFAITH_KAFKA="127.0.0.1:1", GOODFAITH_WEBHOOK_HOST_CHALLENGES="2") as client:
        few = People(client, parts.operator)
        for _ in range(2):
            register(few, people.open()[1], "http://127.0.0.77:9/a")
        answer = client.post("/v1/webhooks", json={"url": "http://127.0.0.77:9/b"}, headers=people.open()[1])
        refused(answer, 429, "host_challenges_used", "url")
        assert int(answer.headers["retry-after"]) > 3_500
        register(few, people.open()[1], "http://127.0.0.78:9/a")
    ((hosts,),) = parts.query("select count(*) from webhook_asks t where t::text like '%%127.0.0%%'")
    assert hosts == 0


def test_what_nobody_confirms_is_forgotten(parts: Parts, people: People) -> None:
    _, headers = people.open()
    old, new, used = (register(people, headers, "http://127.0.0.1:9/a")["id"] for _ in range(3))
    assert confirm(people, headers, used, parts.code_for(people.client, used)).status_code == 200
    parts.query("update webhook_challenges set expires_wall = now() - interval '8 days' where webhook = %s", old)
    with parts.engine.begin() as connection:
        assert webhooks_store.forget_unconfirmed(connection) == 1
    left = {one["id"] for one in people.client.get("/v1/webhooks", headers=headers).json()["items"]}
    assert left == {new, used}


def test_what_a_version_before_enables_is_not_used(parts: Parts, people: People) -> None:
    """It knows nothing of codes, and takes the webhook for one that is out of use."""
    account, headers = people.open()
    hook = register(people, headers, "http://127.0.0.1:9/a")["id"]
    parts.query("update webhooks set status = 'enabled', generation = generation + 1 where id = %s", hook)
    inner = people.client.post(
        "/internal/webhooks", json={"ids": [account]}, headers={"Authorization": f"Bearer {parts.internal}"}
    )
    assert inner.json()["webhooks"] == {}
    assert shown(people, headers, hook)["status"] == "pending"


def test_what_a_version_before_registered_stays_in_use(parts: Parts, people: People) -> None:
    account, headers = people.open()
    hook = people.webhook(parts, headers, "http://127.0.0.1:9/a")["id"]
    ((sealed, kinds),) = parts.query("select sealed, kinds from webhooks where id = %s", hook)
    parts.query("delete from webhooks where id = %s", hook)
    parts.query(
        "insert into webhooks (id, account, sealed, kinds, made_at, changed_at) values (%s, %s, %s, %s, now(), now())",
        hook,
        account,
        bytes(sealed),
        kinds,
    )
    assert shown(people, headers, hook)["status"] == "enabled"
