"""Tokens and the encryption of contacts."""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidTag

from services.intake.kernel.requests import Contact
from services.intake.kernel.security import Contacts, KeyMissing, digest, is_token, new_token

KEY = base64.b64encode(b"k" * 32).decode()
CONTACT = Contact(name="Ada", address="Road 1\nTown", email="ada@example.org")


def test_tokens() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == len({digest(token) for token in tokens}) == 100
    assert all(is_token(token) for token in tokens)
    for text in ("", "gf_", "gf_12345678_short", next(iter(tokens)) + "x", next(iter(tokens))[1:]):
        assert not is_token(text)


def test_a_contact_comes_back() -> None:
    contacts = Contacts(KEY)
    wrapped = contacts.new_key("a-1")
    sealed = contacts.seal("a-1", wrapped, CONTACT)
    assert contacts.open("a-1", wrapped, sealed) == CONTACT
    assert b"ada@example.org" not in sealed
    assert sealed != contacts.seal("a-1", wrapped, CONTACT)


def test_a_contact_is_bound_to_its_account_and_keys() -> None:
    contacts = Contacts(KEY)
    wrapped = contacts.new_key("a-1")
    sealed = contacts.seal("a-1", wrapped, CONTACT)
    for account, key, text in (
        ("a-2", wrapped, sealed),
        ("a-1", contacts.new_key("a-1"), sealed),
        ("a-1", wrapped, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ("a-1", wrapped, b""),
    ):
        with pytest.raises(InvalidTag):
            contacts.open(account, key, text)
    with pytest.raises(InvalidTag):
        Contacts(base64.b64encode(b"j" * 32).decode()).open("a-1", wrapped, sealed)


def test_the_key_is_changed_without_anything_that_does_not_open() -> None:
    old, new = KEY, base64.b64encode(b"n" * 32).decode()
    made = {name: Contacts(old).new_key(name) for name in ("a-1", "a-2")}
    sealed = {name: Contacts(old).seal(name, wrapped, CONTACT) for name, wrapped in made.items()}
    # one by one the services come to know the new key, then to wrap under it
    for one in (Contacts(old), Contacts(old, new), Contacts(new, old)):
        assert all(one.open(name, made[name], sealed[name]) == CONTACT for name in made)
    fresh = Contacts(new, old).new_key("a-3")
    kept = Contacts(new, old).seal("a-3", fresh, CONTACT)
    assert Contacts(old, new).open("a-3", fresh, kept) == CONTACT
    # what was sealed stays as it is: only its key is wrapped again
    again = {name: Contacts(new, old).rewrap(name, wrapped) for name, wrapped in made.items()}
    for name, wrapped in again.items():
        assert wrapped is not None
        assert Contacts(new).open(name, wrapped, sealed[name]) == CONTACT
        assert Contacts(new, old).rewrap(name, wrapped) is None
        with pytest.raises(InvalidTag):
            Contacts(old).open(name, wrapped, sealed[name])
    assert Contacts(new, old).rewrap("a-3", fresh) is None
    for name in ("a-2", "a-1"):
        with pytest.raises(InvalidTag):
            Contacts(new, old).rewrap("another", made[name])
    with pytest.raises(InvalidTag):
        Contacts(new).rewrap("a-1", made["a-1"])


def test_the_key_is_checked_at_start() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Contacts(base64.b64encode(b"k" * 16).decode())
    with pytest.raises(ValueError, match="base64"):
        Contacts("not base64!")
    with pytest.raises(KeyMissing):
        Contacts(None).new_key("a-1")
