"""DKIM (RFC 6376, RFC 8463): signs a message's text and the headers that a reader sees.

``dkimpy`` provides the canonical forms; ``cryptography`` (OpenSSL) makes the signature, because ``dkimpy`` does RSA
in Python (some 6 ms with a 2048-bit key) and needs a further library for Ed25519.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from dkim.canonicalization import Relaxed

SIGNED: Final = (
    b"from",
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"auto-submitted",
    b"content-language",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
"""Headers to sign if a message has them."""
SEALED: Final = (b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"cc")
"""Headers signed once more than they occur, so that adding another one breaks the signature."""
LEAST_BITS: Final = 2048
"""Smallest RSA key accepted. RFC 8301 requires 1024 bits and recommends 2048."""


class Signer(Protocol):
    """Prepends a signature to a message."""

    def sign(self, raw: bytes, at: int) -> bytes:
        """The signed message; ``at`` is seconds since 1970."""
        ...


class Dkim:
    """Signs the messages of a domain with its key.

    Args:
        domain: the signing domain (``d=``).
        selector: names the key in DNS, ``<selector>._domainkey.<domain>`` (``s=``).
        key: PEM of an RSA or Ed25519 private key, without a passphrase.

    Raises:
        ValueError: the key is neither, or too weak.
    """

    def __init__(self, domain: str, selector: str, key: bytes) -> None:
        loaded = serialization.load_pem_private_key(key, None)
        if isinstance(loaded, RSAPrivateKey):
            if loaded.key_size < LEAST_BITS:
                raise ValueError(f"DKIM: an RSA key of {loaded.key_size} bits; {LEAST_BITS} or more")
        elif not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError("DKIM: neither an RSA nor an Ed25519 key")
        self._key: RSAPrivateKey | Ed25519PrivateKey = loaded
        algorithm = "rsa-sha256" if isinstance(loaded, RSAPrivateKey) else "ed25519-sha256"
        self._head = f"v=1; a={algorithm}; c=relaxed/relaxed; d={domain}; s={selector};".encode()

    def sign(self, raw: bytes, at: int) -> bytes:
        """The message with a ``DKIM-Signature`` header prepended."""
        head, _, body = raw.partition(b"\r\n\r\n")
        fields: dict[bytes, list[bytes]] = {}
        for line in head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n"):
            name, _, value = line.partition(b":")
            fields.setdefault(name.strip().lower(), []).append(value)
        names: list[bytes] = []
        signed: list[tuple[bytes, bytes]] = []
        for name in SIGNED:
            # last one first, as RFC 6376 (5.4.2) requires
            for value in reversed(fields.get(name, ())):
                names.append(name)
                signed.append((name, value + b"\r\n"))
        names += SEALED
        body_hash = base64.b64encode(hashlib.sha256(Relaxed.canonicalize_body(body)).digest())
        value = b" %b\r\n t=%d; h=%b;\r\n bh=%b;\r\n b=" % (self._head, at, _list(names), body_hash)
        canonical = Relaxed.canonicalize_headers([*signed, (b"dkim-signature", value)])
        data = b"".join(name + b":" + text for name, text in canonical)[:-2]
        if isinstance(self._key, RSAPrivateKey):
            signature = self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = self._key.sign(hashlib.sha256(data).digest())
        coded = base64.b64encode(signature)
        lines = b"\r\n ".join(coded[start : start + 72] for start in range(0, len(coded), 72))
        return b"DKIM-Signature:%b%b\r\n%b" % (value, lines, raw)


def _list(names: list[bytes]) -> bytes:
    """The value of ``h=``, folded into short lines."""
    lines = [b""]
    for name in names:
        if len(lines[-1]) + len(name) > 70:
            lines.append(b"")
        lines[-1] += name + b":"
    return b"\r\n  ".join(lines)[:-1]
