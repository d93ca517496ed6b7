"""What follows from the results of calls to webhooks. Pure, except that traced calls get spans."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from typing import Any

from services.notification import circuit, retrying
from services.notification.calling import CallBatch, CallResult
from services.notification.circuit import Circuit
from services.notification.types import Sent
from services.notification.webhook_store import DeliveryOutcome
from shared import tracing
from shared.webhooks import WebhookTry


def outcome_of(result: CallResult, wall: dt.datetime, lasts: dt.timedelta) -> DeliveryOutcome:
    """The outcome of a delivery, from the answer to its call.

    Args:
        wall: wall time of the transaction.
        lasts: for how long a delivery is tried.
    """
    answer, due = result.answer, result.call.due
    endpoint = result.batch.endpoint
    entry = WebhookTry(at=result.at, result=answer.reason, ms=answer.ms, replay=due.replay)
    if answer.outcome == "delivered":
        return DeliveryOutcome(endpoint, due.message, "delivered", answer.reason, entry=entry)
    again = retrying.next_try(due.tries + 1, due.began, wall, lasts, random.random(), answer.wait)
    if again is None or answer.outcome == "gone":
        return DeliveryOutcome(endpoint, due.message, "failed", answer.reason, entry=entry)
    state = "sending" if answer.outcome == "unknown" else "queued"
    return DeliveryOutcome(endpoint, due.message, state, answer.reason, due=again, entry=entry)


def untried(ended: Sequence[CallBatch]) -> list[DeliveryOutcome]:
    """Deliveries for which no call was made: they stay as they were."""
    return [
        DeliveryOutcome(
            batch.endpoint, call.due.message, "sending" if call.due.unknown else "queued", "given_back", tried=False
        )
        for batch in ended
        for call in batch.calls
    ]


def sent_of(results: Sequence[CallResult]) -> list[Sent]:
    """Messages that a webhook has accepted, each once."""
    found: dict[str, Sent] = {}
    for result in results:
        call = result.call
        if result.answer.outcome == "delivered" and call.message.id not in found:
            shown = call.shown
            found[call.message.id] = Sent(
                call.message,
                "webhook",
                "sent",
                shown.template,
                shown.version,
                call.digest,
                locale=shown.locale,
                edition=shown.edition,
                rendered_at=shown.at,
                delivered=True,
            )
    return list(found.values())


def circuits_after(results: Sequence[CallResult], ended: Sequence[CallBatch], wall: dt.datetime) -> dict[str, Circuit]:
    """Circuits of endpoints after their calls, in order. The batches themselves are not changed before the commit."""
    found = {batch.endpoint: batch.circuit for batch in (*(result.batch for result in results), *ended)}
    for result in results:
        before = found[result.batch.endpoint]
        if result.answer.outcome == "delivered":
            after = circuit.succeeded()
        elif result.answer.outcome == "wait":
            after = circuit.throttled(before, wall, wall + (result.answer.wait or circuit.FIRST_PAUSE))
        else:
            after = circuit.failed(before, wall, random.random())
        found[result.batch.endpoint] = after
    return found


def call_spans(tracing_: tracing.Tracing, results: Sequence[CallResult]) -> dict[str, tuple[Any, int]]:
    """Spans of traced calls and their ends, by message: the first accepted call, else the last. Without addresses."""
    spans: dict[str, tuple[Any, int]] = {}
    accepted: set[str] = set()
    for result in results:
        message, answer = result.call.message, result.answer
        if not message.traces or message.id in accepted:
            continue
        attributes: dict[str, Any] = {"http.request.method": "POST", "goodfaith.message.result": answer.outcome}
        if answer.status is not None:
            attributes["http.response.status_code"] = answer.status
        if message.items:
            attributes["goodfaith.claim"] = message.claim
        ended = int(result.at.timestamp() * 1e9)
        begun = ended - answer.ms * 1_000_000
        spans[message.id] = (tracing_.span("POST", "CLIENT", message.traces[0], attributes, start_ns=begun), ended)
        if answer.outcome == "delivered":
            accepted.add(message.id)
    return spans
