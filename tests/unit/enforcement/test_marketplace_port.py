"""The port's signature."""

from __future__ import annotations

import datetime as dt
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from deploy.marketplace import old_signature
from shared import marketplace, webhook_signatures
from shared.marketplace import COMMANDS_PATH, SELLER_COMMANDS_PATH, BadSignature, MarketplaceCommand, SellerCommand

SECRET = "a secret of more than thirty-two characters"
DOWN = MarketplaceCommand(command="c-1", listing="shoe", action="suspend", seq=1)
FROZEN = SellerCommand(command="c-1", seller="ann", seq=1, measures=("frozen",))


def now(off_s: float = 0) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=off_s)


@given(st.from_regex("[A-Za-z0-9][A-Za-z0-9._:-]{0,40}", fullmatch=True), st.floats(-290, 290), st.booleans())
def test_who_shares_the_secret_is_believed_within_the_tolerance(name: str, off_s: float, upper: bool) -> None:
    command = MarketplaceCommand(command="c-1", listing=name, action="restore", seq=7)
    body, headers = marketplace.signed_request(SECRET, command, now(off_s))
    given_ = {key.title() if upper else key: value for key, value in headers.items()}
    marketplace.check(SECRET, given_, COMMANDS_PATH, body)
    assert msgspec.json.decode(body, type=MarketplaceCommand) == command


def test_any_library_for_standard_webhooks_verifies_a_command() -> None:
    body, headers = marketplace.signed_request(SECRET, DOWN, now())
    assert Webhook(SECRET.encode()).verify(body, headers)["command"] == headers["webhook-id"] == "c-1"


def test_nobody_else_is() -> None:
    body, headers = marketplace.signed_request(SECRET, DOWN, now())
    other, others = marketplace.signed_request("another secret, as long as the first one", DOWN, now())
    assert other == body
    late, early = (marketplace.signed_request(SECRET, DOWN, now(off))[1] for off in (-310, 310))
    for wrong in (
        {},
        others,
        late,
        early,
        *({key: value for key, value in headers.items() if key != name} for name in headers if "webhook" in name),
        headers | {"webhook-id": "c-2"},
        headers | {"webhook-timestamp": str(int(time.time()) + 5)},
        *(headers | {"webhook-timestamp": value} for value in ("nan", "-1", "9" * 400, "")),
        *(headers | {"webhook-signature": value} for value in ("v1", "v1,é", "v1,AAAA", "v2," + "A" * 43 + "=", ",")),
    ):
        with pytest.raises(BadSignature):
            marketplace.check(SECRET, wrong, COMMANDS_PATH, body)
    for altered in (body + b" ", b"", b"\xff"):
        with pytest.raises(BadSignature):
            marketplace.check(SECRET, headers, COMMANDS_PATH, altered)


@pytest.mark.parametrize(
    ("command", "path"), [(DOWN, SELLER_COMMANDS_PATH), (FROZEN, COMMANDS_PATH)], ids=["listing", "seller"]
)
def test_a_signature_is_valid_for_its_path_only(command: MarketplaceCommand | SellerCommand, path: str) -> None:
    body, headers = marketplace.signed_request(SECRET, command, now())
    marketplace.check(SECRET, headers, marketplace.path_of(command), body)
    with pytest.raises(BadSignature, match="type"):
        marketplace.check(SECRET, headers, path, body)


def test_a_signature_is_valid_for_the_command_that_it_names() -> None:
    body, _ = marketplace.signed_request(SECRET, DOWN, now())
    headers = webhook_signatures.signed_headers("c-2", body, [SECRET.encode()], now())
    with pytest.raises(BadSignature, match="webhook-id"):
        marketplace.check(SECRET, headers, COMMANDS_PATH, body)


BODY = msgspec.json.encode(DOWN)


def old(signature: str, timestamp: str = "1000", key: str = "c-1") -> dict[str, str]:
    return {
        old_signature.SIGNATURE: signature,
        old_signature.TIMESTAMP: timestamp,
        old_signature.IDEMPOTENCY_KEY: key,
    }


def test_the_old_form_is_taken_for_one_release() -> None:
    headers = old(old_signature.sign(SECRET, 1000, COMMANDS_PATH, BODY))
    for off in (-300, 300):
        old_signature.check(SECRET, headers, COMMANDS_PATH, BODY, 1000 + off)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        old(""),
        old("v2=é"),
        *(old(old_signature.sign(SECRET, 1000, COMMANDS_PATH, BODY), at) for at in ("-1000", "1e3", "٣", "9" * 400)),
        old(old_signature.sign("other", 1000, COMMANDS_PATH, BODY)),
        old(old_signature.sign(SECRET, 1001, COMMANDS_PATH, BODY)),
        old(old_signature.sign(SECRET, 1000, COMMANDS_PATH, BODY + b" ")),
        old(old_signature.sign(SECRET, 1000, SELLER_COMMANDS_PATH, BODY)),
        old(old_signature.sign(SECRET, 1000, COMMANDS_PATH, BODY), key="c-2"),
        old(old_signature.sign(SECRET, 600, COMMANDS_PATH, BODY), "600"),
    ],
)
def test_of_the_old_form_too_nobody_else_is(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        old_signature.check(SECRET, headers, COMMANDS_PATH, BODY, 1000.0)


def test_a_page_has_an_address_whatever_the_listing_is_called() -> None:
    assert marketplace.listing_url("http://shop/", "a:b/../c?d") == "http://shop/items/a:b%2F..%2Fc%3Fd"
