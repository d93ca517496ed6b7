"""Metrics of the process that calls webhooks."""

from __future__ import annotations

from services.notification.metrics import WEBHOOKS
from shared import metrics

ATTEMPTS = metrics.counter(
    "goodfaith_webhook_attempts_total",
    "Calls to webhooks by outcome: `delivered`, `failed`, `unknown` (may have been accepted), `wait` (429 or "
    "`Retry-After`), `gone` (410).",
    {"outcome": ("delivered", "failed", "unknown", "wait", "gone")},
    of=WEBHOOKS,
    do="mostly `failed` or `unknown`: is it one receiver, or our own outbound network?",
)
CHALLENGES_SENT = metrics.counter(
    "goodfaith_webhook_challenges_total",
    "Calls to new webhooks with the code that confirms them, by outcome as for other calls.",
    {"outcome": ("delivered", "failed", "unknown", "wait", "gone")},
    of=WEBHOOKS,
    do="mostly `failed` or `unknown`: our own outbound network, or webhooks that point at servers that expect none",
)
REPLAYS = metrics.counter(
    "goodfaith_webhook_replays_total",
    "Calls to webhooks made for a replay; also counted among the others.",
    of=WEBHOOKS,
)
SECONDS = metrics.histogram(
    "goodfaith_webhook_seconds",
    "How long webhooks took to answer the calls that they accepted.",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
    of=WEBHOOKS,
)
IN_FLIGHT = metrics.gauge(
    "goodfaith_webhook_in_flight",
    "Webhooks that this process is calling now.",
    of=WEBHOOKS,
    do="at `GOODFAITH_WEBHOOK_IN_FLIGHT` for long: run more processes",
)
ENDPOINTS = metrics.gauge(
    "goodfaith_webhook_endpoints",
    "Webhooks by state of their circuit.",
    {"state": ("closed", "open", "half_open", "disabled")},
    of=WEBHOOKS,
    do="many `open` at once: check our own outbound network",
)
DISABLED = metrics.counter(
    "goodfaith_webhooks_disabled_total",
    "Webhooks that were disabled because they are gone (410) or have been failing for days.",
    {"reason": ("gone", "failing")},
    of=WEBHOOKS,
    do="nothing: their owners are notified",
)
