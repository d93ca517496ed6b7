"""What registers publish of a right, and whether that is enough to accept it without a person. Pure.

Two public formats are read: the EUIPO's trade mark search (``GET /trademarks/{applicationNumber}``) and the USPTO's TSDR
(``GET /ts/cd/casestatus/rn{number}/info.json``). Of either only these fields are used; everything else is ignored. An
answer that is not as declared here counts as none.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.intake.registry import names

ANSWER_MOST: Final = 1_000_000
"""Most bytes of an answer: a mark for all classes with its list of goods has some hundred thousand."""
_Text = Annotated[str, Meta(max_length=2000)]
_Some = Annotated[list["_Owner"], Meta(max_length=100)]
Result = Literal[
    "accepted",
    "not_found",
    "not_in_force",
    "another_number",
    "another_mark",
    "another_owner",
    "name_unverified",
    "not_a_company",
    "refused_before",
    "right_registered_elsewhere",
    "not_waiting",
]
"""What came of a register's answer. All but ``accepted`` leave the right to a person."""


_Found = TypeVar("_Found")


class BadAnswer(Exception):
    """The register's answer is not in its published format."""


class Entry(Struct, frozen=True, kw_only=True):
    """A right as its register shows it."""

    number: str
    in_force: bool
    mark: str | None
    owners: tuple[str, ...]
    ends: dt.date | None = None


# -------------------------------------------------------------------------------------------------------------- formats


class _Owner(Struct):
    name: _Text | None = None


class _Words(Struct, rename="camel"):
    verbal_element: _Text | None = None


class _Euipo(Struct, rename="camel"):
    application_number: _Text
    status: _Text
    applicants: _Some = []
    word_mark_specification: _Words | None = None
    expiry_date: dt.date | None = None


EU_IN_FORCE: Final = frozenset({"REGISTERED", "CANCELLATION_PENDING"})
"""Of the EUIPO's statuses. A mark stays in force while its cancellation is being asked for."""
_euipo: Final = msgspec.json.Decoder(_Euipo)


def read_euipo(body: bytes) -> Entry:
    """Read the EUIPO's answer.

    Raises:
        BadAnswer: it is none.
    """
    found = _decoded(_euipo, body)
    words = found.word_mark_specification
    return Entry(
        number=found.application_number,
        in_force=found.status in EU_IN_FORCE,
        mark=None if words is None else words.verbal_element,
        owners=tuple(owner.name for owner in found.applicants if owner.name),
        ends=found.expiry_date,
    )


class _Status(Struct, rename="camel"):
    us_registration_number: _Text = ""
    tm5_status_desc: _Text = ""
    mark_element: _Text | None = None


class _Parties(Struct, rename="camel"):
    owner_groups: Annotated[dict[Annotated[str, Meta(pattern=r"^[0-9]{1,3}$")], _Some], Meta(max_length=100)] = {}


class _Case(Struct):
    status: _Status
    parties: _Parties


class _Tsdr(Struct):
    trademarks: Annotated[list[_Case], Meta(min_length=1, max_length=1)]


US_IN_FORCE: Final = "LIVE/REGISTRATION/"
"""How the common status (TM5) of a registration in force begins; an application's is ``LIVE/APPLICATION/...``."""
_tsdr: Final = msgspec.json.Decoder(_Tsdr)


def read_uspto(body: bytes) -> Entry:
    """Read the USPTO's answer. The last group of owners is the present one: the groups' numbers rise.

    Raises:
        BadAnswer: it is none.
    """
    (case,) = _decoded(_tsdr, body).trademarks
    groups = case.parties.owner_groups
    present = groups[max(groups, key=int)] if groups else []
    return Entry(
        number=case.status.us_registration_number,
        in_force=case.status.tm5_status_desc.startswith(US_IN_FORCE),
        mark=case.status.mark_element,
        owners=tuple(owner.name for owner in present if owner.name),
    )


def _decoded(decoder: msgspec.json.Decoder[_Found], body: bytes) -> _Found:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadAnswer(str(error)[:300]) from None


READERS: Final[dict[str, Callable[[bytes], Entry]]] = {"eu": read_euipo, "us": read_uspto}
"""How each register's answer is read. Only trade marks are asked for."""


# ------------------------------------------------------------------------------------------------------------- judging


def judge(entry: Entry | None, number: str, mark: str | None, name: str | None, day: dt.date) -> Result:
    """What comes of an answer for a right that waits.

    Args:
        entry: None: the register has no such number.
        mark: the right's words, as registered here; None: none were given.
        name: the account's name, as its identity was verified by; None: it was not.
    """
    if entry is None:
        return "not_found"
    if entry.number.lstrip("0") != number.lstrip("0"):
        return "another_number"
    if not entry.in_force or (entry.ends is not None and entry.ends <= day):
        return "not_in_force"
    if _plain(mark) != _plain(entry.mark):
        return "another_mark"
    if name is None:
        return "name_unverified"
    return "accepted" if _owned(entry.owners, name) else "another_owner"


def _owned(owners: Sequence[str], name: str) -> bool:
    """Whether the name is the only owner's. Of several owners one alone may not act for all: a person decides."""
    return len(owners) == 1 and names.same(owners[0], name)


def _plain(mark: str | None) -> str:
    return " ".join(unicodedata.normalize("NFKC", mark or "").casefold().split())
