"""Metrics of the sending processes: of deliveries by any channel."""

from __future__ import annotations

from typing import Final

from shared import metrics

SENDER: Final = "notification-sender"
"""Name of the process that sends mail."""
WEBHOOKS: Final = "notification-webhooks"
"""Name of the process that calls webhooks."""

_RESULTS: Final = (
    "sent",
    "repeated",
    "later",
    "held",
    "quiet",
    "refused",
    "gave_up",
    "bounced",
    "bouncing",
    "no_contact",
    "unreachable",
    "outdated",
    "failed",
)
DELIVERIES = metrics.counter(
    "goodfaith_deliveries_total",
    "Messages by channel and result: `sent`; `repeated` (sent again after an unknown outcome; counted in addition to "
    "its own result); `later` (refused temporarily); `held` (its domain's rate limit or pause); `quiet` (quiet "
    "hours); `refused`, `gave_up`, `bounced`, `bouncing`, `no_contact` (goes by another channel or to the inbox); "
    "`unreachable` (a seller's notice in an inbox that nobody owns); `outdated` (a code that is no longer needed); `failed`.",
    {"channel": ("email", "webhook", "inbox"), "result": _RESULTS},
    of=(SENDER, WEBHOOKS),
    do="`failed`: a bug in a template; such messages stay in state `failed` until you set them to `queued` again. "
    "`repeated`: a party may have received a message twice. `unreachable`: have the marketplace bring the seller to its "
    "account; until then no window of it begins, unless the policy proceeds",
)
CENTRE = metrics.counter(
    "goodfaith_centre_messages_total",
    "Messages of the marketplace's message centre: `handed` to it; receipts `delivered`, `read`, `refused`; `late` "
    "(a receipt that changes nothing: repeated, contradictory, or out of time); `gave_up` (no receipt in time, so it "
    "goes by another channel).",
    {"result": ("handed", "delivered", "read", "refused", "late", "gave_up")},
    of=(SENDER, "notification-worker"),
    do="`gave_up`: the marketplace does not answer on `marketplace.message_receipts`. `refused`: see `reason` in "
    "`notification.deliveries`",
)
OLDEST = metrics.gauge(
    "goodfaith_delivery_oldest_pending_timestamp_seconds",
    "When the oldest message that a channel still has to send arose, without those in quiet hours; 0: none.",
    {"channel": ("email", "webhook")},
    of=(SENDER, WEBHOOKS),
    do="old: mail server, webhooks (until another channel takes over) or intake's API. No window begins meanwhile",
    series=(),
)
