"""DKIM (RFC 6376, RFC 8463): a signature over a message's text and the headers that a reader sees.

Canonical forms are ``dkimpy``'s; the signature itself is OpenSSL's, by ``cryptography``: ``dkimpy`` raises to powers in
Python, some 6 ms for an RSA key of 2048 bits, and needs a further library for Ed25519.
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
    b"from", b"to", b"subject", b"date", b"message-id", b"auto-submitted", b"content-language", b"mime-version",
    b"content-type", b"content-transfer-encoding",
)  # fmt: skip
"""Headers that are signed where a message has them."""
SEALED: Final = (b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"cc")
"""Headers of which nobody may add a further one without breaking the signature: they are signed once more than there are."""
LEAST_BITS: Final = 2048
"""RFC 8301 asks for 1024, and for 2048 where it can be had."""


class Signer(Protocol):
    """Puts something before a message."""

    def sign(self, raw: bytes, at: int) -> bytes:
        """The message with its signature before it; ``at`` is seconds since 1970."""
        ...


class Dkim:
    """A key by which messages of a domain are signed.

    Args:
        domain: whose key it is (``d=``).
        selector: names the key below the domain: ``<selector>._domainkey.<domain>`` in DNS (``s=``).
        key: PEM of an RSA or an Ed25519 private key, without a passphrase.

    Raises:
        ValueError: no such key, or a weak one.
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
        """The message with ``DKIM-Signature`` before it."""
        head, _, body = raw.partition(b"\r\n\r\n")
        fields: dict[bytes, list[bytes]] = {}
        for line in head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n"):
            name, _, value = line.partition(b":")
            fields.setdefault(name.strip().lower(), []).append(value)
        names: list[bytes] = []
        signed: list[tuple[bytes, bytes]] = []
        for name in SIGNED:
            # the last first, as RFC 6376 (5.4.2) counts them
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
    """``h=`` in lines of a bearable length."""
    lines = [b""]
    for name in names:
        if len(lines[-1]) + len(name) > 70:
            lines.append(b"")
        lines[-1] += name + b":"
    return b"\r\n  ".join(lines)[:-1]
