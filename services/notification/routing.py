"""Which channel a message tries first, and which webhooks it goes to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from services.notification.channels import ORDER, Channel, choose
from services.notification.domain import ACCOUNT, WINDOW_KINDS
from shared.events import WebhookKnown

BY_MAIL_ONLY: Final = frozenset({ACCOUNT + "email_code", ACCOUNT + "webhook_disabled"})
"""Never sent to a webhook: a code must go to the address it confirms, and a webhook cannot report its own failure."""


def channel(
    kind: str,
    order: Sequence[str],
    webhooks: Collection[WebhookKnown],
    tried: Collection[str] = (),
    *,
    mail: bool = True,
    centre: bool = False,
) -> Channel:
    """The channel to try now.

    A message that begins a window goes to the inbox only if no other channel is left, whatever the party prefers.

    Args:
        order: the party's preference.
        webhooks: the party's webhooks in use.
        mail: whether the party can be reached by e-mail.
        centre: whether it is a seller that the marketplace's message centre is open to.
    """
    wanted: list[Channel] = [one for one in ORDER if one in order]
    wanted.sort(key=list(order).index)
    if kind in WINDOW_KINDS:
        wanted.sort(key=lambda one: one == "inbox")
        wanted = [one for one in wanted if one != "inbox"]
    available: set[Channel] = {"email"} if mail else set()
    if centre:
        available.add("centre")
    if kind not in BY_MAIL_ONLY and endpoints(kind, webhooks):
        available.add("webhook")
    if kind in BY_MAIL_ONLY:
        wanted = ["email"]
    return choose(wanted, available, tried)


def endpoints(kind: str, webhooks: Collection[WebhookKnown]) -> list[WebhookKnown]:
    """The webhooks that receive a kind: those that did not choose other kinds only. A window kind goes to all."""
    return [one for one in webhooks if not one.kinds or kind in one.kinds or kind in WINDOW_KINDS]
