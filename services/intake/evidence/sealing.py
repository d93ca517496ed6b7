"""Seals files piece by piece, so that a part of a file opens without the rest. Pure, except for the files it is given.

AES-256-GCM under a key that seals only one file. A piece's nonce is its number and whether it is the last one, so
altered, exchanged or cut-off pieces do not open. (This is the STREAM construction of Hoang, Reyhanitabar, Rogaway and
Vizar.)
"""

from __future__ import annotations

from typing import IO, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PIECE: Final = 1 << 20
"""Bytes of a piece before it is sealed."""
TAG: Final = 16
"""Bytes that sealing adds to a piece."""


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def pieces_of(size: int) -> int:
    """How many pieces a file of that size has. An empty one has one."""
    return max(1, -(-size // PIECE))


def extent(number: int, size: int) -> tuple[int, int]:
    """Where a piece begins and ends in the sealed file; ``size`` is that of the plain one."""
    start = number * (PIECE + TAG)
    return start, start + min(PIECE, size - number * PIECE) + TAG


def seal(key: bytes, plain: IO[bytes], size: int, sealed: IO[bytes]) -> None:
    """Seal a file of ``size`` bytes from its beginning."""
    cipher = AESGCM(key)
    plain.seek(0)
    for number in range(pieces_of(size)):
        piece = plain.read(PIECE)
        sealed.write(cipher.encrypt(_nonce(number, number == pieces_of(size) - 1), piece, None))
    sealed.flush()


def open_piece(key: bytes, number: int, size: int, sealed: bytes) -> bytes:
    """Open a piece of a file whose plain size is known.

    Raises:
        cryptography.exceptions.InvalidTag: altered, at another position, of another file, or under another key.
    """
    return AESGCM(key).decrypt(_nonce(number, number == pieces_of(size) - 1), sealed, None)
