"""Routes for channels and webhooks: preferences, registering, rotating secrets, enabling, deleting."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec
import sqlalchemy as sa
from litestar import Request, delete, get, post, put

from services.intake.accounts import answers, webhooks, webhooks_store
from services.intake.accounts import domain as accounts
from services.intake.kernel import metrics, requests, security, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.refusals import busy, not_found
from services.intake.kernel.web import EVERYONE, INTERNAL, MAY_FAIL, Body, Context, answered, context_of, known_id
from shared import clock, outbound
from shared.paging import Cursor, Limit, Page
from shared.refusals import Refused
from shared.webhooks import Replayed, WebhookDelivery, WebhookHealth


@put(
    "/v1/channels",
    opt={"roles": EVERYONE},
    dto=Body[requests.ChooseChannels],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def put_channels(request: Request[Account, Any, Any], data: requests.ChooseChannels) -> answers.ChannelsOut:
    """Set the order in which the caller's channels are tried, and whether receipts and outcomes come once a day.

    A message that begins a window never stays in the inbox alone while another channel takes it.
    """
    if len(set(data.order)) != len(data.order):
        raise Refused(422, "channel_twice", "A channel is named twice.", field="order", cure="Name each once.")
    if data.digest is not None and data.digest.zone not in zones():
        raise Refused(
            422,
            "unknown_zone",
            "There is no such time zone.",
            field="digest.zone",
            cure="Give its IANA name, such as Europe/Berlin.",
        )
    context, digest = context_of(request), None if data.digest is None else (data.digest.hour, data.digest.zone)
    await context.run(webhooks_store.prefer, request.user.id, data.order, digest, context.settings.partitions)
    return _channels(data.order, digest)


def _channels(order: Sequence[str], digest: tuple[int, str] | None) -> answers.ChannelsOut:
    return answers.ChannelsOut(
        order=list(order), digest=None if digest is None else answers.DigestOut(hour=digest[0], zone=digest[1])
    )


@cache
def zones() -> frozenset[str]:
    """All known time zones."""
    return frozenset(available_timezones())


@get("/v1/channels", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def get_channels(request: Request[Account, Any, Any]) -> answers.ChannelsOut:
    """The order in which the caller's channels are tried; empty: the programme's default."""
    context = context_of(request)
    order = await context.run(webhooks_store.preferred, request.user.id)
    return _channels(order, await context.run(webhooks_store.digest, request.user.id))


@post(
    "/v1/webhooks",
    opt={"roles": EVERYONE},
    dto=Body[requests.AddWebhook],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def add_webhook(request: Request[Account, Any, Any], data: requests.AddWebhook) -> answers.WebhookSecret:
    """Register a webhook at a public https address. The answer contains its secret, which is shown only once.

    Its URL is sent a code, with which its owner confirms it. Until then, nothing else is sent there.
    """
    context, account = context_of(request), request.user.id
    target = await _checked(context, data.url)
    secret = webhooks.new_secret()

    def work(connection: sa.Connection) -> str:
        webhooks_store.room(webhooks_store.of_account(connection, account, lock=True), context.settings.webhook_most)
        _, wall = clock.read(connection)
        id = new_id("w", store.wall_ms(wall))
        wrapped = store.subject_key(connection, account, lambda: context.contacts.new_key(account))
        _ask_for_code(connection, context, account, target.host, wall)
        sealed = webhooks.Sealed(target.url, (webhooks.Secret(secret),), accounts.new_code())
        webhooks_store.add(
            connection,
            account,
            id,
            webhooks_store.seal(context.contacts, account, wrapped, id, sealed),
            data.kinds,
            dt.timedelta(seconds=context.settings.webhook_challenge_s),
        )
        return id

    id = await context.run(work)
    metrics.WEBHOOK_CONFIRMATIONS.labels("asked").inc()
    return answers.WebhookSecret(id=id, secret=secret)


def _ask_for_code(connection: sa.Connection, context: Context, account: str, host: str, wall: dt.datetime) -> None:
    settings = context.settings
    if settings.contact_key is None:
        raise security.KeyMissing
    webhooks_store.ask(
        connection,
        account,
        webhooks.host_mark(settings.contact_key.get_secret_value(), host),
        wall,
        a_day=settings.webhook_challenges,
        host_an_hour=settings.webhook_host_challenges,
    )


async def _checked(context: Context, url: str) -> outbound.Target:
    """The URL as it is stored and where it leads, after a DNS lookup.

    Raises:
        Refused: it may not be called.
    """
    try:
        target = outbound.target_of(url, context.outbound)
        await outbound.public(target, context.outbound, context.names)
    except outbound.Unfit as unfit:
        raise Refused(
            422, unfit.reason, unfit.detail, field="url", cure="Give an https URL of a server on the public Internet."
        ) from None
    return target


@get("/v1/webhooks", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def list_webhooks(request: Request[Account, Any, Any]) -> Page[answers.WebhookOut]:
    """The caller's webhooks."""
    context = context_of(request)

    def work(connection: sa.Connection) -> list[answers.WebhookOut]:
        _, wall = clock.read(connection)
        rows = webhooks_store.of_account(connection, request.user.id)
        return [shown for row in rows if (shown := _shown(context, row, wall)) is not None]

    return Page(items=await context.run(work), next=None)


@get("/v1/webhooks/{webhook_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def get_webhook(request: Request[Account, Any, Any], webhook_id: str) -> answers.WebhookOut:
    """One of the caller's webhooks."""
    return await _one(request, webhook_id)


async def _one(request: Request[Account, Any, Any], id: str) -> answers.WebhookOut:
    context = context_of(request)

    def work(connection: sa.Connection) -> answers.WebhookOut:
        _, wall = clock.read(connection)
        shown = _shown(context, webhooks_store.one(connection, request.user.id, known_id(id)), wall)
        if shown is None:
            raise not_found()
        return shown

    return await context.run(work)


def _shown(context: Context, row: store.Row, wall: dt.datetime) -> answers.WebhookOut | None:
    sealed = webhooks_store.opened(context.contacts, row)
    if sealed is None:
        return None
    challenge = None
    if row["pending"]:
        challenge = answers.ChallengeOut(
            expires_at=row["expires_wall"],
            again_at=row["asked_wall"] + webhooks.ASK_PAUSE,
            calls=row["calls"],
            next_at=row["due_wall"],
            result=row["result"],
        )
    return answers.WebhookOut(
        id=row["id"],
        url=sealed.url,
        kinds=row["kinds"],
        status="pending" if row["pending"] else row["status"],
        challenge=challenge,
        reason=row["reason"],
        secrets=len(webhooks.signing(sealed, wall)),
        made_at=row["made_at"],
        changed_at=row["changed_at"],
    )


@delete("/v1/webhooks/{webhook_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def delete_webhook(request: Request[Account, Any, Any], webhook_id: str) -> None:
    """Delete a webhook. Messages under way to it go through another channel."""
    context = context_of(request)
    await context.run(webhooks_store.remove, request.user.id, known_id(webhook_id), context.settings.partitions)


@post(
    "/v1/webhooks/{webhook_id:str}/secret",
    opt={"roles": EVERYONE},
    status_code=200,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def rotate_secret(request: Request[Account, Any, Any], webhook_id: str) -> answers.WebhookSecret:
    """Issue a new secret, which is shown only once. For a while the former one signs as well."""
    context, account, id = context_of(request), request.user.id, known_id(webhook_id)
    secret = webhooks.new_secret()
    overlap = dt.timedelta(seconds=context.settings.webhook_rotation_s)

    def work(connection: sa.Connection) -> dt.datetime:
        _, wall = clock.read(connection)
        row = webhooks_store.one(connection, account, id, lock=True)
        sealed = webhooks_store.opened(context.contacts, row)
        if sealed is None:
            raise not_found()
        changed = webhooks.rotated(sealed, secret, wall, overlap)
        webhooks_store.reseal(
            connection, id, webhooks_store.seal(context.contacts, account, bytes(row["wrapped"]), id, changed)
        )
        return wall + overlap

    return answers.WebhookSecret(id=id, secret=secret, former_until=await context.run(work))


@put(
    "/v1/webhooks/{webhook_id:str}/status",
    opt={"roles": EVERYONE},
    dto=Body[requests.ChangeWebhook],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def change_webhook(
    request: Request[Account, Any, Any], webhook_id: str, data: requests.ChangeWebhook
) -> answers.WebhookOut:
    """Enable or disable a confirmed webhook. Enabling it checks its address again."""
    context, account, id = context_of(request), request.user.id, known_id(webhook_id)
    if data.status == "enabled":
        await _checked(context, (await _one(request, id)).url)

    def work(connection: sa.Connection) -> None:
        row = webhooks_store.one(connection, account, id, lock=True)
        if row["pending"] and data.status == "enabled":
            raise Refused(
                409,
                "webhook_not_confirmed",
                "Nobody has confirmed the webhook yet.",
                field="status",
                cure="Confirm it by the code that its URL was sent: POST /v1/webhooks/{webhook_id}/confirmation.",
            )
        if row["status"] != data.status:
            change = webhooks_store.enable if data.status == "enabled" else webhooks_store.disable
            change(connection, account, id, context.settings.partitions)

    await context.run(work)
    return await _one(request, id)


@post(
    "/v1/webhooks/{webhook_id:str}/challenge",
    opt={"roles": EVERYONE},
    status_code=202,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def ask_code(request: Request[Account, Any, Any], webhook_id: str) -> answers.WebhookOut:
    """Have another code sent to an unconfirmed webhook. It voids the previous one."""
    context, account, id = context_of(request), request.user.id, known_id(webhook_id)
    target = await _checked(context, (await _one(request, id)).url)

    def work(connection: sa.Connection) -> None:
        _, wall = clock.read(connection)
        row = webhooks_store.one(connection, account, id, lock=True)
        if not row["pending"]:
            raise webhooks.confirmed_already()
        webhooks.check_again(row["asked_wall"], wall)
        sealed = webhooks_store.opened(context.contacts, row)
        if sealed is None:
            raise not_found()
        _ask_for_code(connection, context, account, target.host, wall)
        changed = msgspec.structs.replace(sealed, code=accounts.new_code())
        webhooks_store.ask_again(
            connection,
            id,
            webhooks_store.seal(context.contacts, account, bytes(row["wrapped"]), id, changed),
            wall,
            dt.timedelta(seconds=context.settings.webhook_challenge_s),
        )

    await context.run(work)
    metrics.WEBHOOK_CONFIRMATIONS.labels("asked").inc()
    return await _one(request, id)


@post(
    "/v1/webhooks/{webhook_id:str}/confirmation",
    opt={"roles": EVERYONE},
    dto=Body[requests.ConfirmWebhook],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def confirm_webhook(
    request: Request[Account, Any, Any], webhook_id: str, data: requests.ConfirmWebhook
) -> answers.WebhookOut:
    """Confirm a webhook with the code that its URL was sent. It is in use from now on."""
    context, id = context_of(request), known_id(webhook_id)
    refused = await context.run(
        webhooks_store.confirm, context.contacts, request.user.id, id, data.code, context.settings.partitions
    )
    metrics.WEBHOOK_CONFIRMATIONS.labels("confirmed" if refused is None else "refused").inc()
    if refused is not None:
        raise refused
    return await _one(request, id)


async def _named(request: Request[Account, Any, Any], id: str) -> dict[str, str]:
    """What names one of the caller's webhooks to notification.

    Raises:
        Refused: 404.
    """
    await context_of(request).run(webhooks_store.one, request.user.id, known_id(id))
    return {"webhook": id, "account": request.user.id}


def _unavailable() -> Refused:
    return busy("Deliveries cannot be read at present.")


@get("/v1/webhooks/{webhook_id:str}/deliveries", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def webhook_deliveries(
    request: Request[Account, Any, Any], webhook_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookDelivery]:
    """Deliveries to one of the caller's webhooks, latest first, each with its latest attempts. Wall times."""
    params = {**await _named(request, webhook_id), "cursor": cursor, "limit": limit}
    call = context_of(request).notification.get("/internal/webhook/deliveries", Page[WebhookDelivery], params)
    return await answered(call, _unavailable())


@get("/v1/webhooks/{webhook_id:str}/health", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["webhooks"])
async def webhook_health(request: Request[Account, Any, Any], webhook_id: str) -> WebhookHealth:
    """Health of one of the caller's webhooks: its circuit, consecutive failures, and what waits for it."""
    params = await _named(request, webhook_id)
    call = context_of(request).notification.get("/internal/webhook/health", WebhookHealth, params)
    return await answered(call, _unavailable())


@post(
    "/v1/webhooks/{webhook_id:str}/replay",
    opt={"roles": EVERYONE},
    dto=Body[requests.ReplayWebhook],
    return_dto=None,
    status_code=202,
    responses=MAY_FAIL,
    tags=["webhooks"],
)
async def replay_webhook(
    request: Request[Account, Any, Any], webhook_id: str, data: requests.ReplayWebhook
) -> Replayed:
    """Send the caller's messages to a webhook again, under their ids: one, or the oldest 1,000 since a time."""
    if (data.message is None) == (data.since is None):
        raise Refused(
            422,
            "replay_of_what",
            "A replay names either one message or a start time.",
            field="message",
            cure="Give either `message` or `since`.",
        )
    body = {**await _named(request, webhook_id), "message": data.message, "since": data.since}
    try:
        return await answered(
            context_of(request).notification.post("/internal/webhook/replay", Replayed, body), _unavailable()
        )
    except Refused as refused:
        if refused.reason != "webhook_not_in_use":
            raise
        raise Refused(
            409,
            "webhook_not_in_use",
            "The webhook is disabled.",
            cure="Enable it: PUT /v1/webhooks/{webhook_id}/status.",
        ) from None


@post(
    "/internal/webhooks",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_webhooks(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.WebhooksFor:
    """Webhooks in use of many accounts in one call, with addresses and secrets, for sending messages."""
    context = context_of(request)
    rows, wall = await context.run(webhooks_store.of_accounts, data.ids)
    found: dict[str, answers.WebhooksOf] = {}
    for row in rows:
        sealed = webhooks_store.opened(context.contacts, row)
        if sealed is not None:
            found.setdefault(row["account"], answers.WebhooksOf(webhooks=[])).webhooks.append(
                answers.WebhookFor(
                    id=row["id"],
                    url=sealed.url,
                    secrets=list(webhooks.signing(sealed, wall)),
                    kinds=row["kinds"],
                    generation=row["generation"],
                )
            )
    return answers.WebhooksFor(webhooks=found)


@post(
    "/internal/challenges",
    opt={"roles": INTERNAL},
    dto=Body[requests.TakeChallenges],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_challenges(request: Request[Any, Any, Any], data: requests.TakeChallenges) -> answers.ChallengesFor:
    """Record the results of earlier calls, then return the webhooks to send confirmation codes to."""
    context = context_of(request)

    def work(connection: sa.Connection) -> tuple[list[store.Row], dt.datetime]:
        webhooks_store.called(connection, [(one.id, one.ask, one.result, one.over) for one in data.ended])
        _, wall = clock.read(connection)
        return webhooks_store.take_challenges(connection, data.most) if data.most else [], wall

    rows, wall = await context.run(work)
    found = []
    for row in rows:
        sealed = webhooks_store.opened(context.contacts, row)
        if sealed is not None and sealed.code is not None:
            found.append(
                answers.ChallengeFor(
                    id=row["id"],
                    ask=row["asks"],
                    url=sealed.url,
                    secrets=list(webhooks.signing(sealed, wall)),
                    code=sealed.code,
                    expires_at=row["expires_wall"],
                )
            )
    return answers.ChallengesFor(challenges=found)


ROUTES: Final = [
    put_channels,
    get_channels,
    add_webhook,
    list_webhooks,
    get_webhook,
    delete_webhook,
    rotate_secret,
    change_webhook,
    ask_code,
    confirm_webhook,
    webhook_deliveries,
    webhook_health,
    replay_webhook,
    internal_webhooks,
    internal_challenges,
]
