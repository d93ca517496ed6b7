"""Seals personal data that crosses a topic: HPKE (RFC 9180), so that any library of it can write what we read.

Base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; no associated data. The sealed form is the encapsulated
key, then the ciphertext, in base64. ``info`` binds it to what it is about: it opens as nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MESSAGE: Final = "goodfaith.marketplace.message.v1"
_CONTACT: Final = "goodfaith.marketplace.contact.v1"


class Unsealable(ValueError):
    """It was not sealed for any of these keys, or not for this use."""


def private_key(name: str, text: str) -> X25519PrivateKey:
    """A private key from a setting.

    Raises:
        ValueError: not base64 of 32 bytes.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"{name}: not base64") from None
    if len(raw) != 32:
        raise ValueError(f"{name}: {len(raw)} bytes, not 32")
    return X25519PrivateKey.from_private_bytes(raw)


def public_text(key: X25519PrivateKey) -> str:
    """The public key to give away, in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def about_contact(seller: str) -> bytes:
    """The ``info`` of a seller's contact data."""
    return f"{_CONTACT}\n{seller}".encode()


def about_message(seller: str, message: str) -> bytes:
    """The ``info`` of a message to a seller's message centre."""
    return f"{_MESSAGE}\n{seller}\n{message}".encode()


def public_key(name: str, text: str) -> str:
    """A public key from a setting, unchanged.

    Raises:
        ValueError: it is no public key.
    """
    try:
        X25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:
        raise ValueError(f"{name}: not base64 of 32 bytes") from None
    return text


def seal(public: str, info: bytes, plain: bytes) -> str:
    """Seal for whom the public key belongs to.

    Raises:
        ValueError: it is no public key.
    """
    key = X25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
    return base64.b64encode(_SUITE.encrypt(plain, key, info)).decode()


def unseal(keys: Iterable[X25519PrivateKey], info: bytes, sealed: str) -> bytes:
    """Open with the first of the keys that opens it.

    Raises:
        Unsealable: none does.
    """
    try:
        raw = base64.b64decode(sealed, validate=True)
    except ValueError:
        raise Unsealable("not base64") from None
    for key in keys:
        try:
            return _SUITE.decrypt(raw, key, info)
        except (InvalidTag, ValueError):
            continue
    raise Unsealable("no key opens it")
