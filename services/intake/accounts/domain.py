"""Accounts: their states, the code that confirms an e-mail address, and verification by rule. Pure.

applied -> email_confirmed -> verified; an operator suspends (and resumes) or closes. States are not stored: they
follow from the facts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.intake.evidence import domain as evidence
from services.intake.evidence.domain import Document
from services.intake.kernel.domain import Status
from shared.ids import CROCKFORD
from shared.languages import mark
from shared.refusals import Refused

Fact = Literal["email_confirmed", "contact", "company", "right_registered"]
"""What a rule may require: a confirmed address, contact data on file, a company, or a registered right in force."""

CODE_LENGTH: Final = 12
"""Characters of 5 bits: 60 random bits, too many to guess within the code's hour or to find from its digest."""


def check_change(before: Status, after: Status, *, own: bool) -> None:
    """Check that an operator may change an account's status.

    Raises:
        Refused: a closed account stays closed, and nobody changes their own.
    """
    if own:
        raise Refused(
            422,
            "own_account",
            "You cannot suspend or close your own account.",
            field="status",
            cure="Ask another operator.",
        )
    if before == "closed" and after != "closed":
        raise Refused(
            422, "closed_for_good", "A closed account stays closed.", field="status", cure="Open a new account."
        )


def check_verified(documents: Sequence[str], seen: str | None, named: Mapping[str, Document]) -> None:
    """Check that a verification rests on something.

    Args:
        documents, seen: what it rests on: documents, or where else the owner's identity was seen.
        named: documents named in the account, still kept and not found to be forged.

    Raises:
        Refused: it rests on nothing, or on documents that are not there or are no proof of identity.
    """
    evidence.check_named(documents, named)
    if seen is None and "identity" not in evidence.kinds_of(named[id] for id in documents):
        raise Refused(
            422,
            "nothing_seen",
            "An identity is verified by a document of kind identity.",
            field="documents",
            cure="Name what you looked at; if you saw the identity elsewhere, say where in `seen`.",
        )


def satisfied(rule: Collection[Fact], facts: Collection[Fact]) -> bool:
    """Whether the rule verifies an account. An empty rule verifies none; reviewers do."""
    return bool(rule) and set(rule) <= set(facts)


# --------------------------------------------------------------------------------------------------- the code by e-mail


def new_code(random: Callable[[int], int] = secrets.randbits) -> str:
    """Make a code in the form in which it is mailed: ``ABCD-EFGH-JKMN``."""
    value = random(5 * CODE_LENGTH)
    text = "".join(CROCKFORD[value >> 5 * digit & 31] for digit in range(CODE_LENGTH))
    return "-".join(text[start : start + 4] for start in range(0, CODE_LENGTH, 4))


def code_digest(notice: str, code: str) -> bytes:
    """Digest of a code, bound to the request that it was made for."""
    plain = unicodedata.normalize("NFKC", code).upper()
    plain = re.sub(r"[\s-]", "", plain).translate(str.maketrans("ILO", "110"))
    return hashlib.sha256(f"{notice}\n{plain}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Challenge:
    """An address waiting for confirmation.

    Attributes:
        digest: of the mailed code; None: none was mailed yet.
        tries: of all its codes.
    """

    notice: str
    digest: bytes | None
    expires_at: dt.datetime | None
    tries: int
    requested_at: dt.datetime
    requests: int
    since: dt.datetime


def check_code(challenge: Challenge | None, code: str, now: dt.datetime, tries: int) -> Refused | None:
    """Return why a code does not confirm an address; None if it does.

    The caller counts the try, and keeps that count even when the code is refused.
    """
    known = None if challenge is None else challenge.digest
    return code_refused(
        known,
        None if challenge is None or known is None else code_digest(challenge.notice, code),
        None if challenge is None else challenge.expires_at,
        0 if challenge is None else challenge.tries,
        now,
        tries,
        again=mark("Have a new code sent: POST /v1/contact/code."),
        wrong=mark("Copy the code from the message."),
    )


def code_refused(
    known: bytes | None,
    given: bytes | None,
    expires: dt.datetime | None,
    tried: int,
    now: dt.datetime,
    tries: int,
    *,
    again: str,
    wrong: str,
) -> Refused | None:
    """Return why a code is refused; None if it is not.

    Args:
        known: digest of the code that was sent; None: none was.
        given: digest of the code presented.
        tried: tries before this one, of at most ``tries``.
        again: how to get another code.
        wrong: what to do about a wrong one.
    """
    if known is None or given is None:
        return Refused(422, "no_code", "No code is waiting to be confirmed.", field="code", cure=again)
    if tried >= tries:
        return Refused(422, "tries_used", f"A code is good for {tries} tries.", field="code", cure=again)
    if expires is None or expires <= now:
        return Refused(422, "code_expired", "The code has expired.", field="code", cure=again)
    if not hmac.compare_digest(known, given):
        return Refused(422, "wrong_code", "The code is wrong.", field="code", cure=wrong)
    return None


def requested(
    challenge: Challenge | None, notice: str, now: dt.datetime, *, pause: dt.timedelta, a_day: int
) -> Challenge:
    """The challenge after another code was requested.

    Raises:
        Refused: too soon after the last one, or too many in 24 hours.
    """
    since, count = now, 0
    if challenge is not None:
        if now < challenge.requested_at + pause:
            raise Refused(
                422,
                "code_too_soon",
                f"A code was requested less than {int(pause.total_seconds())} s ago.",
                cure="Wait for the message.",
            )
        if now < challenge.since + dt.timedelta(hours=24):
            since, count = challenge.since, challenge.requests
        if count >= a_day:
            raise Refused(422, "codes_used", f"At most {a_day} codes are sent in 24 hours.", cure="Try again tomorrow.")
    return Challenge(notice, None, None, 0, now, count + 1, since)
