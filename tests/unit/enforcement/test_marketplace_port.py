"""The port's signature."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import marketplace


@given(st.binary(), st.integers(0, 10**11), st.floats(-300, 300))
def test_who_shares_the_secret_is_believed_within_the_tolerance(body: bytes, timestamp: int, off: float) -> None:
    headers = marketplace.signed_headers("secret", timestamp, "/commands", "c", body)
    marketplace.check(
        "secret", headers[marketplace.TIMESTAMP], headers[marketplace.SIGNATURE], "/commands", body, timestamp + off
    )


@pytest.mark.parametrize(
    ("timestamp", "signature"),
    [
        (None, "v1=00"),
        ("1000", None),
        ("1000", ""),
        ("1000", "v1=é"),
        ("-1000", "v1=00"),
        ("1e3", "v1=00"),
        ("٣", "v1=00"),
        ("9" * 400, "v1=00"),
        ("1000", marketplace.sign("other", 1000, "/commands", b"body")),
        ("1000", marketplace.sign("secret", 1001, "/commands", b"body")),
        ("1000", marketplace.sign("secret", 1000, "/commands", b"Body")),
        ("1000", marketplace.sign("secret", 1000, "/commands", b"body").removeprefix("v2=")),
        ("1000", marketplace.sign("secret", 1000, "/seller-commands", b"body")),
        # the form before this one, which named neither method nor path
        ("1000", "v1=" + hmac.new(b"secret", b"1000.body", hashlib.sha256).hexdigest()),
        ("1000", "v2=" + hmac.new(b"secret", b"1000.body", hashlib.sha256).hexdigest()),
        ("600", marketplace.sign("secret", 600, "/commands", b"body")),
    ],
)
def test_nobody_else_is(timestamp: str | None, signature: str | None) -> None:
    with pytest.raises(marketplace.BadSignature):
        marketplace.check("secret", timestamp, signature, "/commands", b"body", 1000.0)


def test_a_page_has_an_address_whatever_the_listing_is_called() -> None:
    assert marketplace.listing_url("http://shop/", "a:b/../c?d") == "http://shop/items/a:b%2F..%2Fc%3Fd"
