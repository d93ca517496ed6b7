"""The HTTP adapter: delivers queued commands to the marketplace and hands its answers to the worker.

A command that was taken becomes due again after its lease, so a killed process loses nothing. The marketplace
recognises a repeated command by its idempotency key. The lease outlasts every call: none begins that might end
after it.
"""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import structlog

from services.enforcement import sanctions_store, store
from shared import db, marketplace, metrics, tracing
from shared.events import MarketplaceCommand, Receipt, SellerCommand, SellerReceipt
from shared.runtime.rounds import run_rounds
from shared.settings import Settings

log = structlog.get_logger(__name__)
POSTS = metrics.counter(
    "goodfaith_marketplace_posts_total",
    "Requests from the HTTP adapter to the marketplace, by outcome.",
    {"outcome": metrics.HTTP_STATUS},
    of="enforcement-delivery",
    do="`401`: check the secret and the clock; `unreachable`: the marketplace does not answer",
    series=(("200",), ("unreachable",)),
)

_AT_ONCE = 8
_REACH_S = 3.0
"""Wall seconds for connecting, and for sending."""
_ANSWER_S = 10.0
"""Wall seconds for one part of an answer."""
_CALL_S = 2 * _REACH_S + _ANSWER_S
"""Wall seconds for a call; it still waits for the part of the answer that is under way then."""
_ANSWER_MAX = 65_536
_BEGIN_WITHIN_S = 4.0
"""Wall seconds after taking commands within which their calls may begin; the rest is given back."""
_IDLE_S = 0.1
_receipt: msgspec.json.Decoder[Receipt | SellerReceipt] = msgspec.json.Decoder(Receipt)
_seller_receipt: msgspec.json.Decoder[Receipt | SellerReceipt] = msgspec.json.Decoder(SellerReceipt)


class Delivery:
    """Takes commands, posts them and records the answers; ``once`` is one round."""

    def __init__(self, settings: Settings, client: httpx.Client | None = None) -> None:
        """Raises:
        ValueError: no secret to sign with.
        """
        if settings.marketplace_secret is None:
            raise ValueError(
                "marketplace_secret: the HTTP adapter signs its requests; set GOODFAITH_MARKETPLACE_SECRET"
            )
        self._secret = settings.marketplace_secret.get_secret_value()
        self._url = settings.marketplace_url.rstrip("/")
        self._client = client or httpx.Client(timeout=httpx.Timeout(_REACH_S, read=_ANSWER_S))
        self._engine = db.connect(settings.present("database"), schema="enforcement", name="enforcement-delivery")
        self._tracing = tracing.current()
        self._begin_within_s = _BEGIN_WITHIN_S
        self._lease_s = _BEGIN_WITHIN_S + _CALL_S + _ANSWER_S + 5.0
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="post")

    def once(self) -> int:
        """Deliver what is due; returns how many commands were tried."""
        until = time.monotonic() + self._begin_within_s
        with self._engine.begin() as connection:
            # sellers first: they are few, and one freeze stands for many listings
            sellers = sanctions_store.take(connection, _AT_ONCE, self._lease_s)
            listings = store.take(connection, _AT_ONCE * 4 - len(sellers), self._lease_s)
        traces = {command.command: trace for command, trace in listings if trace is not None}
        commands: list[MarketplaceCommand | SellerCommand] = [*sellers, *(command for command, _ in listings)]
        if not commands:
            return 0
        results: dict[str, str] = {}
        errors: dict[str, str] = {}
        back: list[str] = []

        def deliver(command: MarketplaceCommand | SellerCommand) -> Receipt | SellerReceipt | str | None:
            """Deliver a command; None if it is too late to begin."""
            return None if time.monotonic() > until else self._follow(command, traces.get(command.command))

        for command, outcome in zip(commands, self._pool.map(deliver, commands), strict=True):
            if outcome is None:
                back.append(command.command)
            elif isinstance(outcome, Receipt | SellerReceipt):
                results[command.command] = outcome.result
            else:
                errors[command.command] = outcome
        with self._engine.begin() as connection:
            ids = {command.command for command in sellers}
            store.answered(connection, {id_: result for id_, result in results.items() if id_ not in ids})
            store.failed(connection, {id_: error for id_, error in errors.items() if id_ not in ids})
            sanctions_store.answered(connection, {id_: result for id_, result in results.items() if id_ in ids})
            sanctions_store.failed(connection, {id_: error for id_, error in errors.items() if id_ in ids})
            store.give_back(connection, [id_ for id_ in back if id_ not in ids])
            sanctions_store.give_back(connection, [id_ for id_ in back if id_ in ids])
        if errors:
            log.warning("commands not answered", count=len(errors), first=next(iter(errors.values())))
        return len(commands) - len(back)

    def _follow(self, command: MarketplaceCommand | SellerCommand, trace: str | None) -> Receipt | SellerReceipt | str:
        """Call ``_post`` as part of the command's trace."""
        if trace is None or self._tracing is None:
            return self._post(command, trace)
        span = self._tracing.span(f"POST {marketplace.COMMANDS_PATH}", "CLIENT", trace, {"http.request.method": "POST"})
        outcome = self._post(command, tracing.context_of(span))
        span.set_attribute("goodfaith.marketplace.result", "none" if isinstance(outcome, str) else outcome.result)
        span.end()
        return outcome

    def _post(
        self, command: MarketplaceCommand | SellerCommand, trace: str | None = None
    ) -> Receipt | SellerReceipt | str:
        """Post a command; returns the receipt, or why there is none."""
        body, headers = marketplace.signed_request(self._secret, command, dt.datetime.now(dt.UTC))
        if trace is not None:
            headers[tracing.HEADER] = trace
        url = self._url + marketplace.path_of(command)
        until, answer = time.monotonic() + _CALL_S, b""
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                for part in response.iter_bytes():
                    answer += part
                    if len(answer) > _ANSWER_MAX or time.monotonic() > until:
                        raise httpx.ReadTimeout("the answer is too long, or takes too long")
        except httpx.HTTPError as error:
            POSTS.labels("unreachable").inc()
            return f"{type(error).__name__}: {error}"[:500]
        POSTS.labels(str(response.status_code)).inc()
        if response.status_code != 200:
            return f"HTTP {response.status_code}: {answer[:300].decode(errors='replace')}".replace("\0", "\ufffd")
        try:
            receipt = (_seller_receipt if isinstance(command, SellerCommand) else _receipt).decode(answer)
        except msgspec.DecodeError as error:
            return f"not a receipt: {error}"[:500]
        if receipt.command != command.command:
            return "the receipt is of another command"
        return receipt

    def close(self) -> None:
        """Close all connections."""
        self._pool.shutdown()
        self._client.close()
        self._engine.dispose()


def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT; waits while the database is unavailable."""
    run_rounds(settings, "enforcement-delivery", lambda: Delivery(settings), _IDLE_S)
