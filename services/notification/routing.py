"""By which channel a message goes first, and which webhooks it goes to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from services.notification.channels import ORDER, Channel, choose
from services.notification.domain import ACCOUNT, WINDOW_KINDS
from shared.events import WebhookKnown

BY_MAIL_ONLY: Final = frozenset({ACCOUNT + "email_code", ACCOUNT + "webhook_disabled"})
"""Never sent to a webhook: what proves an address must go to it, and what a webhook failed at is told otherwise."""


def channel(
    kind: str,
    order: Sequence[str],
    webhooks: Collection[WebhookKnown],
    tried: Collection[str] = (),
    *,
    mail: bool = True,
) -> Channel:
    """The channel to try now.

    A message that begins a window is not left in the inbox while another channel may take it, whatever the party prefers.

    Args:
        order: the party's preference.
        webhooks: those that the party has in use.
        mail: whether the party can be written to.
    """
    wanted: list[Channel] = [one for one in ORDER if one in order]
    wanted.sort(key=list(order).index)
    if kind in WINDOW_KINDS:
        wanted.sort(key=lambda one: one == "inbox")
        wanted = [one for one in wanted if one != "inbox"]
    available: set[Channel] = {"email"} if mail else set()
    if kind not in BY_MAIL_ONLY and endpoints(kind, webhooks):
        available.add("webhook")
    if kind in BY_MAIL_ONLY:
        wanted = ["email"]
    return choose(wanted, available, tried)


def endpoints(kind: str, webhooks: Collection[WebhookKnown]) -> list[WebhookKnown]:
    """The webhooks that a message of the kind goes to: all that did not say that they want others only."""
    return [one for one in webhooks if not one.kinds or kind in one.kinds or kind in WINDOW_KINDS]
