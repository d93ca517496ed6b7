"""What a webhook is sent: verified by the library that receivers use."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from services.notification.payload import body, challenge, headers
from services.notification.render import VERSIONS, Contact
from services.notification.types import Item, Message
from shared.events import AccountNotice
from tests.unit.notification.making import HOLDER, NOW, OWNER, SELLER, facts

KEYS = st.binary(min_size=24, max_size=64).map(lambda raw: "whsec_" + base64.b64encode(raw).decode())
CONTACTS = {
    who: Contact(f"Name of {who}", (f"1 Road of {who}",), f"{who}@x.example") for who in (HOLDER, SELLER, OWNER)
}


def message(kind: str, party: str, items: int = 2) -> Message:
    made = Message("m-1", "claim-1", party, kind, False, 0, NOW, claim_size=items)
    made.items = [Item(f"claim-1.{n}", 2, 0, facts(f"listing-{n}")) for n in range(items)]
    return made


@given(st.lists(KEYS, min_size=1, max_size=3), st.text(max_size=50), KEYS)
def test_each_secret_verifies_and_no_other(keys: list[str], text: str, other: str) -> None:
    raw = json.dumps({"data": text}).encode()
    head = headers("m-1", raw, keys, dt.datetime.now(dt.UTC))
    assert all(value.isascii() and value.isprintable() for value in head.values())
    for key in keys:
        assert Webhook(key).verify(raw, head) == {"data": text}
    for changed in (
        {**head, "webhook-id": "m-2"},
        {**head, "webhook-timestamp": str(int(head["webhook-timestamp"]) + 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(keys[0]).verify(raw, changed)
    if other not in keys:
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(raw, head)


def test_the_body_says_what_the_mail_says_and_the_same_in_fields() -> None:
    raw, shown = body(message("seller_notice", SELLER), CONTACTS, "7654321", site="https://market.example", now=NOW)
    told = json.loads(raw)
    assert set(told) == {"type", "timestamp", "data"}
    assert (told["type"], told["timestamp"]) == ("seller_notice", "2026-11-24T12:00:00Z")
    data = told["data"]
    assert data["text"] == shown.body
    assert [item["listing"] for item in data["items"]] == ["listing-0", "listing-1"]
    assert data["items"][0]["link"] == "https://market.example/items/listing-0"
    assert dt.datetime.fromisoformat(data["deadline"]) > NOW
    for needed in ("Name of holder-1", "1 Road of holder-1", "holder-1@x.example", "7654321"):
        assert needed in data["text"]


@pytest.mark.parametrize("kind", sorted(VERSIONS))
@pytest.mark.parametrize("party", [HOLDER, SELLER])
def test_it_discloses_nobody_whom_the_mail_does_not(kind: str, party: str) -> None:
    raw, shown = body(message(kind, party), CONTACTS, None, site="https://market.example", now=NOW)
    for who in CONTACTS:
        for private in (f"Name of {who}", f"Road of {who}", f"{who}@x.example"):
            assert (private in raw.decode()) == (private in shown.body or private in shown.subject)


def test_a_notice_to_an_account_has_its_figures() -> None:
    made = message("account.right_expiring", HOLDER)
    made.notice = AccountNotice(
        notice="n-1",
        account=HOLDER,
        kind="right_expiring",
        about="r-9",
        figures={"expires_at": "2026-12-24T12:00:00Z"},
        at=NOW,
    )
    data = json.loads(body(made, CONTACTS, None, site="x", now=NOW)[0])["data"]
    assert (data["about"], data["figures"]) == ("r-9", {"expires_at": "2026-12-24T12:00:00Z"})
    assert "claim" not in data


def test_a_digest_says_with_each_item_of_which_claim_it_is() -> None:
    made = message("digest", HOLDER)
    made.items = [Item("c-1.1", 2, 0, facts("l-1"), "c-1"), Item("c-2.1", 2, 0, facts("l-2", reason="parallel"), "c-2")]
    data = json.loads(body(made, CONTACTS, None, site="x", now=NOW)[0])["data"]
    assert not {"claim", "right", "right_type", "reason", "policy"} & set(data)
    assert [(item["claim"], item["reason"]) for item in data["items"]] == [("c-1", facts().reason), ("c-2", "parallel")]
    assert all(item["right"] and item["right_type"] and item["policy"] for item in data["items"])
    # of one claim: once, for all
    data = json.loads(body(message("outcome", HOLDER), CONTACTS, None, site="x", now=NOW)[0])["data"]
    assert (data["claim"], "claim" in data["items"][0]) == ("claim-1", False)


def test_the_same_is_rendered_the_same() -> None:
    one, two = (body(message("outcome", HOLDER), CONTACTS, None, site="x", now=NOW)[0] for _ in range(2))
    assert one == two


def test_a_challenge_says_the_code_and_nothing_of_anybody() -> None:
    until = NOW + dt.timedelta(days=1)
    assert json.loads(challenge("w-1", "ABCD-EFGH-JKMN", until, NOW)) == {
        "type": "webhook.challenge",
        "timestamp": "2026-11-24T12:00:00Z",
        "data": {
            "webhook": "w-1",
            "code": "ABCD-EFGH-JKMN",
            "expires_at": "2026-11-25T12:00:00Z",
            "confirm": "POST /v1/webhooks/w-1/confirmation",
        },
    }
