"""By which channel a message goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import WINDOW_KINDS
from services.notification.routing import BY_MAIL_ONLY, channel, endpoints
from shared.events import WebhookKnown

HOOK = WebhookKnown(webhook="w-1", generation=1)
PICKY = WebhookKnown(webhook="w-2", generation=1, kinds=("outcome",))
ORDERS = st.lists(st.sampled_from(["email", "webhook", "inbox"]), unique=True)


@pytest.mark.parametrize(
    ("order", "hooks", "tried", "mail", "goes"),
    [
        ([], [], [], True, "email"),
        ([], [HOOK], [], True, "email"),
        (["webhook"], [HOOK], [], True, "webhook"),
        (["webhook"], [], [], True, "email"),
        (["webhook"], [HOOK], ["webhook"], True, "email"),
        (["webhook"], [HOOK], ["webhook", "email"], True, "inbox"),
        ([], [HOOK], ["email"], True, "webhook"),
        ([], [HOOK], [], False, "webhook"),
        ([], [], [], False, "inbox"),
        (["inbox"], [HOOK], [], True, "inbox"),
        (["email", "webhook"], [HOOK], [], True, "email"),
        (["webhook"], [PICKY], [], True, "webhook"),
    ],
)
def test_the_party_is_told_by_what_it_prefers_and_what_has_not_failed(
    order: list[str], hooks: list[WebhookKnown], tried: list[str], mail: bool, goes: str
) -> None:
    assert channel("outcome", order, hooks, tried, mail=mail) == goes


@pytest.mark.parametrize("kind", sorted(WINDOW_KINDS))
def test_what_begins_a_window_never_stays_in_the_inbox_while_another_channel_takes_it(kind: str) -> None:
    assert channel(kind, ["inbox"], [HOOK]) == "email"
    assert channel(kind, ["inbox", "webhook"], [HOOK]) == "webhook"
    assert channel(kind, ["inbox"], [HOOK], ["email"]) == "webhook"
    assert channel(kind, ["inbox"], [HOOK], ["email", "webhook"]) == "inbox"
    assert endpoints(kind, [PICKY]) == [PICKY]


def test_a_webhook_is_sent_what_it_wants() -> None:
    assert endpoints("claim_receipt", [HOOK, PICKY]) == [HOOK]
    assert channel("claim_receipt", ["webhook"], [PICKY]) == "email"


@pytest.mark.parametrize("kind", sorted(BY_MAIL_ONLY))
def test_some_go_by_mail_only(kind: str) -> None:
    assert channel(kind, ["webhook", "inbox"], [HOOK]) == "email"
    assert channel(kind, ["webhook"], [HOOK], ["email"]) == "inbox"


@given(ORDERS, st.booleans(), st.booleans(), st.sampled_from(["outcome", "seller_notice", "account.email_code"]))
def test_each_channel_is_tried_once_and_the_inbox_is_the_end(
    order: list[str], hook: bool, mail: bool, kind: str
) -> None:
    tried: list[str] = []
    for _ in range(4):
        goes = channel(kind, order, [HOOK] if hook else [], tried, mail=mail)
        if goes == "inbox":
            break
        assert goes not in tried
        assert goes != "email" or mail
        assert goes != "webhook" or hook
        tried.append(goes)
    assert goes == "inbox"
