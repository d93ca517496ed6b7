"""The internal API: what became of messages. Intake calls it and decides what a person may see."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import sqlalchemy as sa
from litestar import Request, get, post

from services.notification import store, webhook_store
from services.notification.domain import ACCOUNT, DIGEST
from shared import internal
from shared.deliveries import Delivery, Step
from shared.internal import GivenId, Parts, StrictStruct, body_of, parts_of
from shared.paging import Cursor, Limit, Moment, Page, key_of, page_of
from shared.refusals import Refused
from shared.settings import Settings
from shared.webhooks import Replayed, WebhookDelivery, WebhookHealth

NAME: Final = "notification-api"

_MESSAGES: Final = """
    select id, kind, claim, state, channel, tried, opened_wall, sent_at, delivered_at, read_at, begun_at, begun_by, attempts,
        repeats, digest
    from messages where party = %s and (%s::timestamptz is null or (opened_wall, id) < (%s, %s))
    order by opened_wall desc, id desc limit %s"""
_STEPS: Final = "select message, channel, state, reason, at from deliveries where message = any(%s) order by id"


def of_party(
    connection: sa.Connection, party: str, *, before: tuple[dt.datetime, str] | None, limit: int
) -> list[Delivery]:
    """Messages to a party, latest first, each with its steps in order."""
    at, id_ = before or (None, None)
    rows = connection.exec_driver_sql(_MESSAGES, (party, at, at, id_, limit)).all()
    steps: dict[str, list[Step]] = {}
    for step in connection.exec_driver_sql(_STEPS, ([row.id for row in rows],)):
        steps.setdefault(step.message, []).append(
            Step(channel=step.channel, state=step.state, reason=step.reason, at=step.at)
        )
    return [
        Delivery(
            message=row.id,
            kind=row.kind,
            claim=None if row.kind.startswith(ACCOUNT) or row.kind == DIGEST else row.claim,
            state=row.state,
            channel=row.channel,
            failed_channels=tuple(row.tried),
            queued_at=row.opened_wall,
            sent_at=row.sent_at,
            delivered_at=row.delivered_at,
            read_at=row.read_at,
            window_began_at=row.begun_at,
            window_begun_by=row.begun_by,
            attempts=row.attempts,
            repeats=row.repeats,
            digest=row.digest,
            steps=tuple(steps.get(row.id, ())),
        )
        for row in rows
    ]


@get("/internal/deliveries")
async def deliveries(
    request: Request[Any, Any, Any], party: GivenId, cursor: Cursor = None, limit: Limit = 50
) -> Page[Delivery]:
    """Messages to a party, latest first."""
    before = key_of(cursor, tuple[Moment, str])
    rows = await parts_of(request).run(of_party, party, before=before, limit=limit + 1)
    return page_of(rows, limit, lambda one: (one.queued_at, one.message))


class Replay(StrictStruct, frozen=True, kw_only=True):
    """What to send again: one message, or all messages sent since a time."""

    webhook: str
    account: str
    message: str | None = None
    since: dt.datetime | None = None


@get("/internal/webhook/deliveries")
async def webhook_deliveries(
    request: Request[Any, Any, Any], webhook: GivenId, account: GivenId, cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookDelivery]:
    """Past and pending deliveries to a webhook of the account, latest first."""
    before = key_of(cursor, tuple[Moment, str])
    rows = await parts_of(request).run(webhook_store.deliveries, webhook, account, before, limit + 1)
    return page_of(rows, limit, lambda row: (row.made_at, row.message))


@get("/internal/webhook/health")
async def webhook_health(request: Request[Any, Any, Any], webhook: GivenId, account: GivenId) -> WebhookHealth:
    """The health of a webhook of the account."""
    return await parts_of(request).run(webhook_store.health, webhook, account)


@post("/internal/webhook/replay", status_code=200)
async def replay(request: Request[Any, Any, Any]) -> Replayed:
    """Queue messages to be sent to a webhook again."""
    wanted = await body_of(request, Replay)
    if (wanted.message is None) == (wanted.since is None) or (wanted.since is not None and wanted.since.tzinfo is None):
        raise Refused(422, "replay_of_what", "A replay names one message, or a time since which.")

    def work(connection: sa.Connection) -> Replayed | None:
        return webhook_store.replay(
            connection, wanted.webhook, wanted.account, message=wanted.message, since=wanted.since
        )

    done = await parts_of(request).run(work)
    if done is None:
        raise Refused(409, "webhook_not_in_use", "The webhook is not in use.")
    return done


ROUTES: Final[list[Any]] = [deliveries, webhook_deliveries, webhook_health, replay]


def run(settings: Settings) -> None:
    """Serve until SIGTERM.

    Raises:
        ValueError: a setting is missing.
    """
    internal.run(settings, NAME, ROUTES, lambda: Parts(settings, schema=store.SCHEMA, name=NAME))
