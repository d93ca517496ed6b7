"""Files sealed piece by piece."""

from __future__ import annotations

import io
import secrets

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from services.intake.evidence import sealing
from services.intake.evidence.sealing import PIECE, TAG

KEY = bytes(range(32))
SIZES = (1, 15, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 7)


def sealed_of(plain: bytes, key: bytes = KEY) -> bytes:
    out = io.BytesIO()
    sealing.seal(key, io.BytesIO(plain), len(plain), out)
    return out.getvalue()


def opened(sealed: bytes, size: int, key: bytes = KEY) -> bytes:
    found = b""
    for number in range(sealing.pieces_of(size)):
        start, end = sealing.extent(number, size)
        found += sealing.open_piece(key, number, size, sealed[start:end])
    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_file_opens_as_it_was(size: int) -> None:
    plain = secrets.token_bytes(size)
    sealed = sealed_of(plain)
    assert len(sealed) == size + TAG * sealing.pieces_of(size)
    assert plain[:16] not in sealed or size < 16
    assert opened(sealed, size) == plain


@pytest.mark.parametrize("size", SIZES)
def test_no_other_key_opens_it(size: int) -> None:
    with pytest.raises(InvalidTag):
        opened(sealed_of(bytes(size)), size, secrets.token_bytes(32))


@given(st.binary(min_size=1, max_size=200), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_is_found(plain: bytes, place: int, change: int) -> None:
    sealed = bytearray(sealed_of(plain))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(InvalidTag):
        opened(bytes(sealed), len(plain))


def test_pieces_stay_in_their_place() -> None:
    size = 3 * PIECE
    sealed = sealed_of(bytes(size))
    first, second = (sealed[slice(*sealing.extent(number, size))] for number in (0, 1))
    with pytest.raises(InvalidTag):
        opened(second + first + sealed[2 * (PIECE + TAG) :], size)
    # cut off behind a whole piece, by somebody who can change what size the file is said to have
    with pytest.raises(InvalidTag):
        opened(first + second, 2 * PIECE)
