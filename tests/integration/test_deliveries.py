"""What is written of messages and deliveries, on the real tables, where transactions meet or things come in another order."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.notification import digests, store, webhook_store, windows
from services.notification.api import of_party
from services.notification.circuit import Circuit
from services.notification.closing import Closer
from services.notification.types import ItemRows
from services.notification.webhook_store import HOLDER, Endpoint
from shared import db, migrate
from shared.events import AccountChannels, DigestWanted, WebhookKnown
from tests.unit.notification.making import NOW, facts

pytestmark = pytest.mark.stack


@pytest.fixture
def engine(stack: Stack) -> Iterator[sa.Engine]:
    migrate.migrate(stack.admin_url, stack.role_passwords("notification"))
    engine = db.connect(stack.role_url("notification"), schema="notification", name="test")
    yield engine
    with engine.begin() as connection:
        for table in (
            "announcements",
            "deliveries",
            "webhook_deliveries",
            "endpoints",
            "channels",
            "messages",
            "message_items",
            "digests",
        ):
            connection.exec_driver_sql(f"delete from {table}")
    engine.dispose()


def rows(engine: sa.Engine, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        found = connection.exec_driver_sql(query, values)
        return [tuple(row) for row in found] if found.returns_rows else []


def party() -> str:
    return f"a-{uuid.uuid4().hex[:8]}"


def daily(account: str, revision: int, wanted: DigestWanted | None) -> AccountChannels:
    return AccountChannels(account=account, revision=revision, order=("email",), digest=wanted, at=NOW)


def receipt(account: str) -> ItemRows:
    raw = msgspec.json.encode(facts("l-1")).decode()
    return ItemRows([f"{account}.1"], [1], ["claim_receipt"], [account], [f"c-{account}"], [1], [0], ["l-1"], [raw])


def message(engine: sa.Engine, account: str, **more: Any) -> str:
    """A receipt, in a message of its own."""
    id_ = f"m-{account}"
    with engine.begin() as connection:
        store.insert(connection, receipt(account), NOW)
    values = {
        "id": id_,
        "claim": f"c-{account}",
        "party": account,
        "kind": "claim_receipt",
        "items": [f"{account}.1"],
        "revisions": [1],
        "opened_wall": NOW,
        "state": "sent",
        "route": "email",
        **more,
    }
    rows(engine, "update message_items set message = %s where party = %s", id_, account)
    rows(
        engine,
        f"insert into messages ({', '.join(values)}) values ({', '.join(['%s'] * len(values))})",
        *values.values(),
    )
    return id_


def hook(engine: sa.Engine, account: str, generation: int = 1) -> str:
    """A webhook in use."""
    known = WebhookKnown(webhook=f"w-{account}", generation=generation)
    with engine.begin() as connection:
        event = AccountChannels(
            account=account, revision=generation, order=("email", "webhook"), webhooks=(known,), at=NOW
        )
        webhook_store.fold(connection, [event])
    return known.webhook


def test_what_meets_the_end_of_a_digest_is_told_all_the_same(engine: sa.Engine) -> None:
    """A worker reads that the party wants digests; another writes that it does not, and cannot see the row of the first."""
    one, other = party(), party()
    with engine.begin() as connection:
        digests.fold(connection, [daily(name, 1, DigestWanted(hour=8, zone="UTC")) for name in (one, other)], NOW)
    with engine.begin() as first:
        for name in (one, other):
            store.insert(first, receipt(name), NOW)
        with engine.begin() as second:
            digests.fold(second, [daily(one, 2, None)], NOW)
    assert rows(engine, "select held from message_items where party = %s", one) == [(True,)]
    Closer(engine, dt.timedelta(hours=1)).close()
    assert rows(engine, "select held from message_items where party = %s", one) == [(False,)]
    assert rows(engine, "select held from message_items where party = %s", other) == [(True,)]


def test_the_oldest_that_waits_is_told_by_channel_and_without_quiet_hours(engine: sa.Engine) -> None:
    def oldest(route: Any) -> dt.datetime | None:
        with engine.begin() as connection:
            return store.oldest(connection, route)

    assert oldest("email") is None
    hour = dt.timedelta(hours=1)
    message(engine, party(), state="queued", opened_wall=NOW - 9 * hour, result="quiet")
    assert oldest("email") is None
    message(engine, party(), state="queued", opened_wall=NOW - 2 * hour, result="later")
    message(engine, party(), state="sending", opened_wall=NOW - 5 * hour, route="webhook")
    assert (oldest("email"), oldest("webhook")) == (NOW - 2 * hour, NOW - 5 * hour)
    with engine.begin() as connection:
        store.insert(connection, receipt(party()), NOW - 7 * hour)
    assert (oldest("email"), oldest("webhook")) == (NOW - 7 * hour, NOW - 7 * hour)


def test_one_in_use_again_is_not_disabled_by_what_came_before(engine: sa.Engine) -> None:
    account = party()
    webhook = hook(engine, account, 2)

    def disable(generation: int) -> list[str]:
        with engine.begin() as connection:
            one = Endpoint(webhook, account, generation, Circuit(), [])
            return webhook_store.disable(connection, [one], {webhook: "failing"}, NOW, 4)

    assert disable(1) == []
    assert rows(engine, "select state from endpoints where id = %s", webhook) == [("enabled",)]
    assert rows(engine, "select 1 from announcements where message = %s", webhook) == []
    assert disable(2) == [webhook]
    assert disable(2) == []


def test_a_digest_that_is_read_has_come(engine: sa.Engine) -> None:
    account = party()
    id_ = message(engine, account, kind="digest", sent_at=NOW)
    with engine.begin() as connection:
        windows.begin_windows(connection, [id_], "read", NOW, parties=[account], now=NOW)
    with engine.connect() as connection:
        (told,) = of_party(connection, account, before=None, limit=9)
    assert (told.state, told.delivered_at, told.claim) == ("delivered", NOW, None)


@pytest.mark.parametrize("before", ["failed", "delivered"])
def test_a_replay_is_no_try_of_what_bounces_later(engine: sa.Engine, before: str) -> None:
    """Mailed, replayed, bounced: the webhook is its other channel. One that tried for all of its time is given up."""
    account = party()
    webhook = hook(engine, account)
    id_ = message(engine, account, state="queued", route="webhook", tried=["email"], sent_at=NOW, result="bounced")
    rows(
        engine,
        "insert into webhook_deliveries (endpoint, message, party, kind, state, tries, replays, ended_wall)"
        " values (%s, %s, %s, 'claim_receipt', %s, 3, 1, now())",
        webhook,
        id_,
        account,
        before,
    )

    def assign() -> tuple[int, int]:
        with engine.begin() as connection:
            return webhook_store.assign(connection, 10, {True: 60.0, False: 60.0}, NOW, NOW)

    assert assign() == (1, 0)
    assert rows(engine, "select holder, route from messages where id = %s", id_) == [(HOLDER, "webhook")]
    assert rows(engine, "select state, tries, ended_wall from webhook_deliveries where message = %s", id_) == [
        ("queued", 0, None)
    ]
    rows(engine, "update messages set due_wall = clock_timestamp() where id = %s", id_)
    assert assign() == (0, 1)
    assert rows(engine, "select route, tried from messages where id = %s", id_) == [("email", ["email", "webhook"])]
