"""The internal API: how messages went to webhooks, and having them sent again. Intake's front asks it, for the webhook's owner."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from litestar import Request, get, post

from services.notification import webhook_store
from shared import internal
from shared.deliveries import Delivery, Health, Replayed
from shared.internal import Cursor, Given, GivenId, Limit, Page, Parts, body_of, page_of, parts_of
from shared.paging import bad_cursor, key_of
from shared.refusals import Refused
from shared.settings import Settings

NAME: Final = "notification-api"


class Replay(Given, frozen=True, kw_only=True):
    """What is to be sent again: one message, or those sent since a time."""

    webhook: str
    account: str
    message: str | None = None
    since: dt.datetime | None = None


@get("/internal/webhook/deliveries")
async def deliveries(
    request: Request[Any, Any, Any], webhook: GivenId, account: GivenId, cursor: Cursor = None, limit: Limit = 50
) -> Page[Delivery]:
    """What went or goes to a webhook of the account, latest first."""
    before = key_of(cursor, tuple[dt.datetime, str])
    if before is not None and before[0].tzinfo is None:
        raise bad_cursor()
    rows = await parts_of(request).run(webhook_store.deliveries, webhook, account, before, limit + 1)
    return page_of(rows, limit, lambda row: (row.made_at, row.message))


@get("/internal/webhook/health")
async def health(request: Request[Any, Any, Any], webhook: GivenId, account: GivenId) -> Health:
    """How a webhook of the account fares."""
    return await parts_of(request).run(webhook_store.health, webhook, account)


@post("/internal/webhook/replay", status_code=200)
async def replay(request: Request[Any, Any, Any]) -> Replayed:
    """Have messages sent to a webhook again."""
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


ROUTES: Final = [deliveries, health, replay]


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    internal.run(settings, NAME, ROUTES, partial(Parts, settings, schema="notification", name=NAME))
