"""The marketplace's feed of sellers' contacts: what a record does to an account. Pure.

What a seller sets itself stands: the feed then changes nothing of its contact, and only confirms the address if the
marketplace vouches for the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from services.intake.kernel.requests import Address, Contact, Email, Line
from services.intake.kernel.security import KeyMissing
from shared import sealing
from shared.events import SellerContact
from shared.languages import choose
from shared.runtime.types import Unacceptable
from shared.settings import Settings

Result = Literal["opened", "changed", "own", "withdrawn", "gone", "stale", "closed"]


class FedContact(Struct, frozen=True, kw_only=True):
    """What the marketplace seals: a contact, and whether it vouches that the address is the seller's."""

    name: Line
    address: Address
    email: Email
    vouched: bool = False


class Known(NamedTuple):
    """What is known of a seller when a record of it is taken in.

    Attributes:
        role: the account's; None: there is none.
        closed: it is closed, or erased.
        revision: of the record taken in last.
        own: the contact on file is from the account itself; None: there is none on file.
        email: the address on file.
    """

    role: str | None = None
    closed: bool = False
    revision: int | None = None
    own: bool | None = None
    email: str | None = None
    confirmed: bool = False


class Step(NamedTuple):
    """What to do about a record.

    Attributes:
        contact: to seal and store.
        withdraw: delete the contact on file, which came from the feed.
        confirmed: what the address counts as from now on; None: as before.
    """

    result: Result
    contact: Contact | None = None
    withdraw: bool = False
    confirmed: bool | None = None


def opened(record: SellerContact, keys: Iterable[X25519PrivateKey]) -> FedContact | None:
    """The contact data of a record; None: it has none.

    Raises:
        KeyMissing: there is no key to open it with.
        Unacceptable: they do not open, or are not contact data.
    """
    if record.sealed is None or record.gone:
        return None
    keys = tuple(keys)
    if not keys:
        raise KeyMissing("GOODFAITH_FEED_KEY is not set: set it for intake's worker, then replay the record")
    try:
        plain = sealing.unseal(keys, sealing.about_contact(record.seller), record.sealed)
    except sealing.Unsealable:
        raise Unacceptable(
            "sealed: it was not sealed for this installation, or for another seller; seal it for this seller"
            " with the key that `goodfaith feed key` prints, and publish it with a higher revision"
        ) from None
    try:
        return _contact.decode(plain)
    except msgspec.ValidationError as error:
        # names the field and what was expected, never a value: no field has a list of values
        raise Unacceptable(f"sealed: {error}; correct the field, and publish it with a higher revision") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unacceptable("sealed: not JSON; seal a JSON document, and publish it with a higher revision") from None


_contact: Final = msgspec.json.Decoder(FedContact)


def latest(records: Iterable[SellerContact]) -> dict[str, SellerContact]:
    """The record with the highest revision of each seller; of several, the first."""
    found: dict[str, SellerContact] = {}
    for one in records:
        if one.seller not in found or found[one.seller].revision < one.revision:
            found[one.seller] = one
    return found


def step(known: Known, record: SellerContact, given: FedContact | None) -> Step:
    """What a record does.

    Args:
        given: the record's contact data.

    Raises:
        Unacceptable: the account is not a seller's.
    """
    if known.role not in (None, "seller"):
        raise Unacceptable(
            f"seller: the account of this id is a {known.role}'s; publish contacts of sellers only, under their own ids"
        )
    if known.revision is not None and record.revision <= known.revision:
        return Step("stale")
    if record.gone:
        return Step("gone")
    if known.closed:
        return Step("closed")
    result: Result = "opened" if known.role is None else "changed"
    if given is None:
        return Step("withdrawn", withdraw=True, confirmed=False) if known.own is False else Step(result)
    same = known.email is not None and known.email.casefold() == given.email.casefold()
    if known.own:
        return Step("own", confirmed=True if given.vouched and same and not known.confirmed else None)
    contact = Contact(name=given.name, address=given.address, email=given.email, language=_language(record.language))
    if given.vouched:
        return Step(result, contact, confirmed=None if known.confirmed else True)
    # a code on its way to another address must not confirm this one, even if that one was not confirmed either
    return Step(result, contact, confirmed=None if same or known.email is None else False)


def _language(tag: str | None) -> Literal["en", "zh", "de"]:
    """The language of messages that comes nearest."""
    return choose(tag)  # type: ignore[return-value]


def keys(settings: Settings) -> tuple[X25519PrivateKey, ...]:
    """The keys that open the feed.

    Raises:
        ValueError: one is not base64, or not 32 bytes.
    """
    return tuple(
        sealing.private_key(name, key.get_secret_value())
        for name, key in (("feed_key", settings.feed_key), ("feed_key_other", settings.feed_key_other))
        if key is not None
    )
