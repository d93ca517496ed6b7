"""Channels and webhooks by HTTP: who registers what, what is kept of it, and what notification hears."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.accounts import webhooks_store
from shared import db
from shared.events import AccountChannels, WebhookDisabled, WebhookKnown
from tests.integration.intake_parts import CONTACT, Parts, People

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    url = f"http://127.0.0.1:{free_port()}"
    parts = Parts(stack, Path(tmp_path_factory.mktemp("webhooks")), webhook_most=2, notification_url=url)
    parts.notification(stack)
    yield parts
    parts.close()


NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
URL = "https://1.1.1.1/hook?token=deep-secret"


def said(parts: Parts, account: str) -> list[AccountChannels]:
    """What was put into intake for notification."""
    rows = parts.query(
        "select payload from admission_queue where listing = %s and type = 'goodfaith.account.channels.v1' order by id",
        account,
    )
    return [msgspec.json.decode(row[0], type=AccountChannels) for row in rows]


def inner(parts: Parts, client: httpx.Client, *accounts: str) -> dict[str, Any]:
    """As notification asks."""
    answer = client.post(
        "/internal/webhooks", json={"ids": accounts}, headers={"Authorization": f"Bearer {parts.internal}"}
    )
    assert answer.status_code == 200
    return dict(answer.json()["webhooks"])


def test_a_webhook_is_registered_and_its_secret_shown_once(parts: Parts, people: People) -> None:
    account, headers = people.open()
    made = people.webhook(parts, headers, URL, kinds=["outcome"])
    assert made["secret"].startswith("whsec_")
    (shown,) = people.client.get("/v1/webhooks", headers=headers).json()["items"]
    assert (shown["id"], shown["url"], shown["status"], shown["secrets"]) == (made["id"], URL, "enabled", 1)
    assert shown["challenge"] is None
    assert "secret" not in shown
    (known,) = inner(parts, people.client, account)[account]["webhooks"]
    assert known == {
        "id": made["id"],
        "url": URL,
        "secrets": [made["secret"]],
        "kinds": ["outcome"],
        "generation": 1,
    }
    (event,) = said(parts, account)
    assert (event.revision, event.order) == (1, ())
    assert event.webhooks == (WebhookKnown(webhook=made["id"], generation=1, kinds=("outcome",)),)


def test_neither_address_nor_secret_is_kept_in_clear_or_told(parts: Parts, people: People) -> None:
    account, headers = people.open()
    secret = people.webhook(parts, headers, URL)["secret"]
    for (table,) in parts.query("select tablename from pg_tables where schemaname = 'intake'"):
        for needle in ("deep-secret", secret, secret.removeprefix("whsec_")):
            assert not parts.query(f"select 1 from intake.{table} t where t::text like '%%' || %s || '%%'", needle)
    assert "deep-secret" not in parts.log("api")
    assert secret not in parts.log("api")
    assert said(parts, account)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://1.1.1.1/", "url_scheme"),
        ("https://127.0.0.1/", "url_private"),
        ("https://[::1]/", "url_private"),
        ("https://169.254.169.254/latest/meta-data/", "url_private"),
        ("https://2130706433/", "url_host"),
        ("https://a@1.1.1.1/", "url_user"),
        ("https://1.1.1.1:25/", "url_port"),
        ("https://x.invalid/", "url_unresolved"),
    ],
)
def test_inner_addresses_are_refused(people: People, url: str, reason: str) -> None:
    _, headers = people.open()
    answer = people.client.post("/v1/webhooks", json={"url": url}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:goodfaith:problem:{reason}"
    assert answer.json()["field"] == "url"
    assert people.client.get("/v1/webhooks", headers=headers).json()["items"] == []


def test_rotated_both_secrets_sign_for_a_time(parts: Parts, people: People) -> None:
    account, headers = people.open()
    made = people.webhook(parts, headers, URL)
    rotated = people.client.post(f"/v1/webhooks/{made['id']}/secret", headers=headers).json()
    assert rotated["secret"] != made["secret"]
    until = dt.datetime.fromisoformat(rotated["former_until"])
    assert dt.timedelta(hours=23) < until - dt.datetime.now(dt.UTC) < dt.timedelta(hours=25)
    (known,) = inner(parts, people.client, account)[account]["webhooks"]
    assert known["secrets"] == [rotated["secret"], made["secret"]]


def test_an_account_has_so_many_and_no_more(parts: Parts, people: People) -> None:
    _, headers = people.open()
    first = people.webhook(parts, headers, URL)
    people.webhook(parts, headers, URL)
    answer = people.client.post("/v1/webhooks", json={"url": URL}, headers=headers)
    assert answer.json()["type"].endswith("too_many_webhooks")
    people.client.delete(f"/v1/webhooks/{first['id']}", headers=headers)
    people.webhook(parts, headers, URL)


def test_channels_are_kept_and_told(parts: Parts, people: People) -> None:
    account, headers = people.open()
    assert people.client.get("/v1/channels", headers=headers).json() == {"order": [], "digest": None}
    order = {"order": ["webhook", "email"]}
    told = {**order, "digest": None}
    assert people.client.put("/v1/channels", json=order, headers=headers).json() == told
    daily = {**order, "digest": {"hour": 8, "zone": "Europe/Berlin"}}
    assert people.client.put("/v1/channels", json=daily, headers=headers).json() == daily
    assert people.client.get("/v1/channels", headers=headers).json() == daily
    for digest in (
        {"hour": 24, "zone": "UTC"},
        {"hour": 8, "zone": "Mars/Olympus"},
        {"hour": 8},
        {"hour": 8, "zone": "../etc"},
    ):
        refused = people.client.put("/v1/channels", json={**order, "digest": digest}, headers=headers)
        assert refused.status_code in (400, 422), digest
    assert people.client.put("/v1/channels", json=order, headers=headers).json() == told
    assert people.client.get("/v1/channels", headers=headers).json() == told
    for wrong in (["fax"], [], ["email", "email"], ["email", "webhook", "inbox", "email"]):
        assert people.client.put("/v1/channels", json={"order": wrong}, headers=headers).status_code == 422
    assert [
        (event.revision, event.order, event.digest and (event.digest.hour, event.digest.zone))
        for event in said(parts, account)
    ] == [
        (1, ("webhook", "email"), None),
        (2, ("webhook", "email"), (8, "Europe/Berlin")),
        (3, ("webhook", "email"), None),
    ]


def test_disabled_by_notification_and_enabled_again(parts: Parts, people: People) -> None:
    """The owner is told once; what is said of an earlier generation changes nothing."""
    account, headers = people.open()
    hook = people.webhook(parts, headers, URL)["id"]
    gone = WebhookDisabled(
        webhook=hook, account=account, generation=1, reason="gone", at=dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
    )
    with parts.engine.begin() as connection:
        webhooks_store.disabled(connection, [gone, gone], 4)
    shown = people.client.get(f"/v1/webhooks/{hook}", headers=headers).json()
    assert (shown["status"], shown["reason"]) == ("disabled", "gone")
    assert inner(parts, people.client, account) == {}
    assert said(parts, account)[-1].webhooks == ()
    notices = "select count(*) from admission_queue where listing = %s and type = 'goodfaith.account.notice.v1'"
    assert parts.query(notices, account) == [(1,)]

    again = people.client.put(f"/v1/webhooks/{hook}/status", json={"status": "enabled"}, headers=headers).json()
    assert (again["status"], again["reason"]) == ("enabled", None)
    with parts.engine.begin() as connection:
        webhooks_store.disabled(connection, [gone], 4)
    assert inner(parts, people.client, account)[account]["webhooks"][0]["generation"] == 2
    assert said(parts, account)[-1].webhooks[0].generation == 2


def test_erasing_the_key_forgets_webhooks(parts: Parts, people: People) -> None:
    account, headers = people.open()
    people.client.put("/v1/contact", json=CONTACT, headers=headers)
    people.webhook(parts, headers, URL)
    assert people.client.delete("/v1/contact", headers=headers).status_code == 204
    assert people.client.get("/v1/webhooks", headers=headers).json()["items"] == []
    assert parts.query("select 1 from webhooks where account = %s", account) == []
    assert said(parts, account)[-1].webhooks == ()


def known(parts: Parts, account: str, hook: str, *messages: str) -> None:
    """As if notification knew the webhook, and had sent it messages."""
    with db.administer(parts.admin_url, pooled=False).begin() as connection:
        connection.exec_driver_sql(
            "insert into notification.endpoints (id, party, generation, failures) values (%s, %s, 1, 2)",
            (hook, account),
        )
        for n, message in enumerate(messages):
            connection.exec_driver_sql(
                "insert into notification.messages (id, claim, party, kind, items, revisions, opened_wall, state, sent_at,"
                " sent_wall) values (%s, 'c', %s, 'outcome', '{}', '{}', now(), 'delivered', now(), %s)",
                (message, account, NOW + dt.timedelta(hours=n)),
            )
            connection.exec_driver_sql(
                "insert into notification.webhook_deliveries (endpoint, message, party, kind, state, result, attempts,"
                " made_wall, log) values (%s, %s, %s, 'outcome', 'delivered', '204', 1, %s, %s)",
                (
                    hook,
                    message,
                    account,
                    NOW + dt.timedelta(hours=n),
                    ['{"at":"2026-11-25T12:00:00Z","result":"204","ms":12}'],
                ),
            )


def test_deliveries_are_read_and_sent_again_by_the_owner_alone(parts: Parts, people: People) -> None:
    account, headers = people.open()
    _, other = people.open()
    hook = people.webhook(parts, headers, URL)["id"]
    known(parts, account, hook, "m-1", "m-2", "m-3")
    path = f"/v1/webhooks/{hook}"

    health = people.client.get(f"{path}/health", headers=headers).json()
    assert (health["circuit"], health["failures"], health["waiting"]) == ("closed", 2, 0)
    page = people.client.get(f"{path}/deliveries?limit=2", headers=headers).json()
    rest = people.client.get(f"{path}/deliveries?limit=2&cursor={page['next']}", headers=headers).json()
    assert [one["message"] for one in page["items"] + rest["items"]] == ["m-3", "m-2", "m-1"]
    assert rest["next"] is None
    assert page["items"][0]["tries"] == [{"at": "2026-11-25T12:00:00Z", "result": "204", "ms": 12}]

    since = {"since": (NOW + dt.timedelta(minutes=30)).isoformat()}
    for method, what, body in (
        ("GET", "deliveries", None),
        ("GET", "health", None),
        ("POST", "replay", since),
        ("POST", "replay", {"message": "m-1"}),
    ):
        assert people.client.request(method, f"{path}/{what}", json=body, headers=other).status_code == 404

    done = people.client.post(f"{path}/replay", json=since, headers=headers)
    assert (done.status_code, done.json()["messages"]) == (202, 2)
    # what is under way is not doubled
    assert people.client.post(f"{path}/replay", json=since, headers=headers).json()["messages"] == 0
    assert people.client.post(f"{path}/replay", json={"message": "m-1"}, headers=headers).json()["messages"] == 1
    assert people.client.post(f"{path}/replay", json={"message": "m-none"}, headers=headers).json()["messages"] == 0
    items = people.client.get(f"{path}/deliveries", headers=headers).json()["items"]
    assert [(one["state"], one["replays"]) for one in items] == [("queued", 1)] * 3
    assert people.client.get(f"{path}/health", headers=headers).json()["waiting"] == 3


@pytest.mark.parametrize(
    "body", [{}, {"message": "m-1", "since": "2026-11-25T12:00:00Z"}, {"since": "2026-11-25T12:00:00"}]
)
def test_a_replay_says_of_what(parts: Parts, people: People, body: dict[str, Any]) -> None:
    _, headers = people.open()
    hook = people.webhook(parts, headers, URL)["id"]
    assert people.client.post(f"/v1/webhooks/{hook}/replay", json=body, headers=headers).status_code == 422


def test_while_notification_is_away_its_part_is_not_available(parts: Parts, people: People) -> None:
    _, headers = people.open()
    hook = people.webhook(parts, headers, URL)["id"]
    with parts.api(GOODFAITH_KAFKA="127.0.0.1:1", GOODFAITH_NOTIFICATION_URL="http://127.0.0.1:1") as client:
        answer = client.get(f"/v1/webhooks/{hook}/deliveries", headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (503, 503)
        assert client.get(f"/v1/webhooks/{hook}", headers=headers).status_code == 200
