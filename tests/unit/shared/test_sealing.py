"""What is sealed for the installation opens with its key, for its purpose, and not otherwise."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared import sealing
from shared.sealing import Unsealable

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
INFO = sealing.about_contact("s-1")
SEALED = sealing.seal(sealing.public_text(KEY), INFO, b"Anna")


def test_it_opens_with_any_of_the_keys() -> None:
    assert sealing.unseal([KEY], INFO, SEALED) == b"Anna"
    assert sealing.unseal([OTHER, KEY], INFO, SEALED) == b"Anna"
    assert b"Anna" not in base64.b64decode(SEALED)
    assert sealing.seal(sealing.public_text(KEY), INFO, b"Anna") != SEALED


@pytest.mark.parametrize("seller", ["s-2", "s-1\n", "", "s-"])
def test_it_does_not_open_for_another_seller(seller: str) -> None:
    with pytest.raises(Unsealable):
        sealing.unseal([KEY], sealing.about_contact(seller), SEALED)


def test_no_other_key_opens_it() -> None:
    for keys in ([], [OTHER]):
        with pytest.raises(Unsealable):
            sealing.unseal(keys, INFO, SEALED)


@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    raw = bytearray(base64.b64decode(SEALED))
    raw[place % len(raw)] ^= change
    with pytest.raises(Unsealable):
        sealing.unseal([KEY], INFO, base64.b64encode(raw).decode())


@given(st.binary(max_size=120).map(lambda raw: base64.b64encode(raw).decode()) | st.text(max_size=50))
def test_rubbish_does_not_open(text: str) -> None:
    with pytest.raises(Unsealable):
        sealing.unseal([KEY], INFO, text)


@pytest.mark.parametrize("text", ["", "é", "AAAA", base64.b64encode(bytes(33)).decode(), "not base64"])
def test_a_private_key_has_32_bytes(text: str) -> None:
    with pytest.raises(ValueError, match=r"^feed_key: "):
        sealing.private_key("feed_key", text)
