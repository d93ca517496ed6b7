"""Tokens and the encryption of contacts and texts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.intake.kernel.requests import Contact
from shared.settings import Settings

_TOKEN: Final = re.compile(r"gf_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}")
_NONCE: Final = 12


def new_token() -> str:
    """A bearer token: 8 characters to recognise it by, and 256 random bits. Shown once."""
    return f"gf_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def digest(token: str) -> bytes:
    """The digest that is kept of a token. A fast hash will do, because nobody guesses 256 bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def is_token(text: str) -> bool:
    """Whether the text has the form of a token. Nothing else is looked up."""
    return _TOKEN.fullmatch(text) is not None


class KeyMissing(Exception):
    """``GOODFAITH_CONTACT_KEY`` is not set, so contacts can be neither written nor read."""


class Contacts:
    """Encrypts contacts with AES-256-GCM under one key per subject, wrapped by the installation's key.

    Erasing a subject's key erases the contact wherever a copy exists without the key. Topics and logs never hold
    either; a backup of the whole database holds both (docs/how-to/back-up-and-restore.md, "What to back up").
    """

    def __init__(self, key: str | None, other: str | None = None) -> None:
        """
        Args:
            key: base64 of 32 bytes.
            other: a second key that opens but never wraps, during a key rotation.

        Raises:
            ValueError: not base64, or not 32 bytes.
        """
        self._master = _cipher("contact_key", key)
        self._other = _cipher("contact_key_other", other)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Create with the installation's keys.

        Raises:
            ValueError: a key is not base64, or not 32 bytes.
        """
        return cls(
            *(
                None if key is None else key.get_secret_value()
                for key in (settings.contact_key, settings.contact_key_other)
            )
        )

    @property
    def master(self) -> AESGCM:
        """The installation's key."""
        if self._master is None:
            raise KeyMissing
        return self._master

    def new_key(self, account: str) -> bytes:
        """A new wrapped key for a subject, or for a document by its id."""
        return _seal(self.master, AESGCM.generate_key(256), f"key:{account}")

    def seal(self, account: str, wrapped: bytes, contact: Contact) -> bytes:
        """Encrypt a contact."""
        return self.seal_text(account, wrapped, msgspec.json.encode(contact), "contact")

    def open(self, account: str, wrapped: bytes, sealed: bytes) -> Contact:
        """Decrypt a contact.

        Raises:
            cryptography.exceptions.InvalidTag: altered, another account's, or the installation's key has changed.
        """
        return msgspec.json.decode(self.open_text(account, wrapped, sealed, "contact"), type=Contact)

    def seal_text(self, account: str, wrapped: bytes, text: bytes, purpose: str) -> bytes:
        """Encrypt other data of the subject. It opens only for the same account and purpose."""
        return _seal(self._subject(account, wrapped), text, f"{purpose}:{account}")

    def open_text(self, account: str, wrapped: bytes, sealed: bytes, purpose: str) -> bytes:
        """Decrypt what ``seal_text`` encrypted.

        Raises:
            cryptography.exceptions.InvalidTag: altered, of another account or purpose, or a key has changed.
        """
        return _open(self._subject(account, wrapped), sealed, f"{purpose}:{account}")

    def seal_name(self, account: str, wrapped: bytes, name: str) -> bytes:
        """Encrypt a name that the account had."""
        return self.seal_text(account, wrapped, msgspec.json.encode(name), "former_name")

    def open_name(self, account: str, wrapped: bytes, sealed: bytes) -> str:
        """Decrypt what ``seal_name`` encrypted.

        Raises:
            cryptography.exceptions.InvalidTag: altered, another's, or sealed under a key that was destroyed since.
        """
        return msgspec.json.decode(self.open_text(account, wrapped, sealed, "former_name"), type=str)

    def seal_words(self, account: str, wrapped: bytes, id: str, text: str) -> bytes:
        """Encrypt what a party says in its own words, bound to the id under which it is kept."""
        return self.seal_text(account, wrapped, msgspec.json.encode(text), f"text:{id}")

    def open_words(self, account: str, wrapped: bytes, id: str, sealed: bytes) -> str:
        """Decrypt what ``seal_words`` encrypted.

        Raises:
            cryptography.exceptions.InvalidTag: altered, another's, or sealed under a key that was destroyed since.
        """
        return msgspec.json.decode(self.open_text(account, wrapped, sealed, f"text:{id}"), type=str)

    def rewrap(self, account: str, wrapped: bytes) -> bytes | None:
        """Wrap a subject's key under the installation's current key; None: it already is.

        Raises:
            cryptography.exceptions.InvalidTag: neither key opens it.
        """
        try:
            _open(self.master, wrapped, f"key:{account}")
        except InvalidTag:
            return _seal(self.master, self.unwrap(account, wrapped), f"key:{account}")
        return None

    def _subject(self, account: str, wrapped: bytes) -> AESGCM:
        return AESGCM(self.unwrap(account, wrapped))

    def unwrap(self, account: str, wrapped: bytes) -> bytes:
        """Unwrap a subject's or document's key.

        Raises:
            cryptography.exceptions.InvalidTag: it is another's, or wrapped under none of our keys.
        """
        try:
            return _open(self.master, wrapped, f"key:{account}")
        except InvalidTag:
            if self._other is None:
                raise
            return _open(self._other, wrapped, f"key:{account}")


def _cipher(name: str, key: str | None) -> AESGCM | None:
    if key is None:
        return None
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise ValueError(f"{name}: not base64") from None
    if len(raw) != 32:
        raise ValueError(f"{name}: {len(raw)} bytes, not 32")
    return AESGCM(raw)


def _seal(key: AESGCM, text: bytes, bound_to: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + key.encrypt(nonce, text, bound_to.encode())


def _open(key: AESGCM, sealed: bytes, bound_to: str) -> bytes:
    if len(sealed) < _NONCE:
        raise InvalidTag
    return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to.encode())
