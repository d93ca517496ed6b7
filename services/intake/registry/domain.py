"""The rights registry: what may be registered, where a right applies, and what its open items are told. Pure.

A right is registered once and then referred to. It comes into force once a person has accepted its documents; what its
owner says of them proves nothing. For one right in a register (same register, type and number) at most
one registration is in force here. A second one, under another account, waits for a reviewer.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

from services.intake.evidence.domain import Document, check_named, kinds_of
from services.intake.kernel.requests import FirstPublication, Register
from services.intake.kernel.territory import COUNTRIES, UNIONS, countries
from shared import languages, right_refusals
from shared.events import RightType
from shared.refusals import Refused

Pending = Literal["proof_missing", "right_registered_elsewhere", "mark_mixed_script", "refused"]
"""Why a right is not in force yet: nobody has accepted its proof, another account has it, a reviewer must look at its
words, or a reviewer has refused it."""

_OF: Final[dict[str, tuple[str, ...]]] = {"us": ("US",), "eu": ("EU",), "cn": ("CN",)}
"""Where the rights of a register apply. They apply nowhere else, so it need not be named."""
DESIGNATES: Final = frozenset({("wipo", "trademark"), ("wipo", "design")})
"""Registers whose rights apply where designated (Madrid Protocol, article 3ter; Hague, Geneva Act, article 5)."""
MARK_MAX: Final = 200
NICE: Final = 45
"""Nice Classification: 34 classes of goods, 11 of services (WIPO)."""
LOCARNO: Final = 32
"""Locarno Classification: 32 classes, each with subclasses up to 99, "miscellaneous" (WIPO)."""
CLASSES: Final[dict[RightType, str]] = {
    "trademark": languages.mark("the numbers 1 to 45 (Nice)"),
    "design": languages.mark("NN-NN, such as 02-02 (Locarno)"),
}
"""What classes look like, for the types of right that have any."""
WAITING_MOST: Final = 100
"""Most authorisations that one account asked for and that wait for an answer: each told the other side something."""
UNREGISTERED: Final = frozenset({"sworn_statement", "specimen"})
"""Kinds of document that a copyright needs that is in no register: who made the work and owns it, and the work."""
PROOFS: Final = UNREGISTERED | {"ownership"}
"""Kinds of document that prove a right, of one kind or another."""
EARLIEST: Final = dt.date(1800, 1, 1)
"""No work that was published before is protected: the longest term counts from the death of its author."""
VIEWS_MOST: Final = 10
"""Most views of one design."""
LONGEST: Final = dt.timedelta(days=366 * 20)
"""No right is granted or renewed for longer at a time (patents: 20 years, TRIPS article 33; others less)."""


# ----------------------------------------------------------------------------------------------------------- territory


def territory(given: Sequence[str] | None, field: str = "territory") -> tuple[str, ...] | None:
    """Normalise a territory: known codes, each once.

    Raises:
        Refused: an unknown code.
    """
    if given is None:
        return None
    for index, code in enumerate(given):
        if code not in COUNTRIES and code not in UNIONS:
            raise Refused(
                422,
                "unknown_country",
                f"{code} is not a country code.",
                field=f"{field}[{index}]",
                cure="Use the two letters of ISO 3166-1, or EU, EM, BX, OA.",
            )
    return tuple(sorted(set(given)))


def territory_of(
    register: Register | None, right_type: RightType, given: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Where a right applies: the register's own territory, or the countries that the owner names.

    Raises:
        Refused: an international registration names none, or a code is unknown or outside the register's territory.
    """
    named = territory(given)
    own = _OF.get(register or "")
    if own is not None:
        if named is not None and not (countries(named) or set()) <= (countries(own) or set()):
            raise Refused(
                422,
                "territory_of_register",
                f"A right in this register applies in {', '.join(own)} only.",
                field="territory",
                cure="Leave `territory` out, or name states of the register.",
            )
        return named or own
    if (register, right_type) in DESIGNATES and not named:
        raise Refused(
            422,
            "designations_missing",
            "An international registration applies only where it was designated.",
            field="territory",
            cure="Name the designated states as the register lists them.",
        )
    return named or None


# ------------------------------------------------------------------------------------------------------------- classes


def classes_of(right_type: RightType, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Normalise classes: 1 to 45 for trade marks (Nice), ``NN-NN`` for designs (Locarno); each once, in order.

    Raises:
        Refused: not a class of that kind of right.
    """
    if given is None:
        return None
    read: dict[tuple[int, ...], str] = {}
    for index, text in enumerate(given):
        plain = unicodedata.normalize("NFKC", text).strip()
        key: tuple[int, ...] | None = None
        if right_type == "trademark" and re.fullmatch(r"0?[0-9]{1,2}", plain, re.ASCII):
            key = (int(plain),) if 1 <= int(plain) <= NICE else None
            plain = str(int(plain))
        elif right_type == "design" and (match := re.fullmatch(r"([0-9]{2})-([0-9]{2})", plain, re.ASCII)):
            key = (int(match[1]), int(match[2])) if 1 <= int(match[1]) <= LOCARNO and match[2] != "00" else None
        if key is None:
            looks = CLASSES.get(right_type)
            raise Refused(
                422,
                "bad_class",
                f"{plain[:20]!r} is not a class of a {right_type.replace('_', ' ')}.",
                field=f"classes[{index}]",
                cure=f"Use {looks}." if looks else "Leave `classes` out.",
            )
        read[key] = plain
    return tuple(read[key] for key in sorted(read))


def check_class(right_type: RightType, classes: Sequence[str] | None) -> None:
    """Check that a design has a class: without one it cannot be compared with goods.

    Raises:
        Refused: it has none.
    """
    if right_type == "design" and not classes:
        raise Refused(
            422,
            "class_missing",
            "A design needs its Locarno class.",
            field="classes",
            cure="Give the class as in the register, such as 02-02.",
        )


def unregistered(right_type: RightType, number: str | None) -> bool:
    """Whether a right is in no register. Only a copyright may be; its number is then missing."""
    return right_type == "copyright" and number is None


def check_published(
    right_type: RightType, number: str | None, published: FirstPublication | None, day: dt.date, *, needed: bool
) -> None:
    """Check what is said of the first publication of a work.

    Args:
        needed: False: an operator has seen the proof elsewhere.

    Raises:
        Refused: it is missing, not in the past, or about something else than an unregistered copyright.
    """
    if not unregistered(right_type, number):
        if published is not None:
            raise Refused(
                422,
                "no_publication",
                "Only a copyright that is in no register needs its first publication.",
                field="published",
                cure="Leave the field out.",
            )
    elif published is None:
        if needed:
            raise Refused(
                422,
                "publication_missing",
                "A work that is in no register is known by its first publication.",
                field="published",
                cure="Say when and where it was first published, or give the number under which it is registered.",
            )
    elif not EARLIEST <= published.on <= day:
        raise Refused(
            422,
            "bad_publication",
            "The date of the first publication is in the future, or too long ago for a right to be in force.",
            field="published.on",
            cure="Give the date of the first publication.",
        )


def proves(right_type: RightType, number: str | None, new: Collection[str], named: Collection[str]) -> bool:
    """Whether documents are enough for a reviewer to look at.

    Args:
        new: kinds of the documents that are named now.
        named: kinds of all documents that are named in the right, those included.
    """
    if unregistered(right_type, number):
        return bool(UNREGISTERED & set(new)) and set(named) >= UNREGISTERED
    return "ownership" in new


def check_views(right_type: RightType, views: int, *, needed: bool) -> None:
    """Check how many documents are named in a right as its views.

    Args:
        needed: whether a design must have one. Designs that version 0.2.0 registered may be without.

    Raises:
        Refused: none where they are needed, too many, or views of something else than a design.
    """
    if right_type != "design" and views:
        raise Refused(
            422,
            "no_views",
            "Only a design has views.",
            field="evidence",
            cure="Upload it as a document of another kind.",
        )
    if right_type == "design" and needed and not views:
        raise Refused(
            422,
            "views_missing",
            "Nobody can judge a design that they cannot see.",
            field="evidence",
            cure="Upload its views as in the register, as documents of kind `design_view`, and name them here.",
        )
    if views > VIEWS_MOST:
        raise Refused(
            422,
            "too_many_views",
            f"A design has at most {VIEWS_MOST} views.",
            field="evidence",
            cure="Name those that show most of it.",
        )


# ---------------------------------------------------------------------------------------------------- words of the mark


def mark_of(text: str) -> str:
    """Normalise the words of a mark: NFKC for compatibility characters, no invisible ones, single spaces.

    Raises:
        Refused: nothing is left, or it is too long.
    """
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(character for character in plain if unicodedata.category(character) not in ("Cf", "Cc", "Co", "Cs"))
    plain = unicodedata.normalize("NFKC", " ".join(plain.split()))
    if not plain or len(plain) > MARK_MAX:
        raise Refused(
            422,
            "bad_mark",
            f"The words of a mark are 1 to {MARK_MAX} visible characters.",
            field="mark",
            cure="Give the words as in the register, or leave `mark` out for a mark without words.",
        )
    return plain


_TOGETHER: Final = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
"""Scripts that may be mixed in one word: Japanese, Chinese, Korean (UTS #39, "Highly Restrictive")."""


def mixed_script(mark: str) -> bool:
    """Whether a word of the mark mixes scripts that do not go together, such as a Cyrillic letter among Latin ones."""
    return any(_mixed(word) for word in re.split(r"[\s\-_/.,&+']+", mark))


def _mixed(word: str) -> bool:
    scripts = {unicodedata.name(char, "UNKNOWN").split()[0] for char in word if unicodedata.category(char)[0] == "L"}
    # the long vowel mark is shared by both kana scripts
    scripts.discard("KATAKANA-HIRAGANA")
    scripts.discard("MODIFIER")
    return len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)


# ------------------------------------------------------------------------------------------------------------ decisions


def pending_because(accepted: bool, mark: str | None, elsewhere: bool) -> Pending | None:
    """Why a right is not in force; None: it is.

    Args:
        accepted: the operator who registers it has seen its proof.
        elsewhere: another account's registration of it is in force.
    """
    if elsewhere:
        return "right_registered_elsewhere"
    if mark is not None and mixed_script(mark):
        return "mark_mixed_script"
    return None if accepted else "proof_missing"


def check_decision(
    accept: bool,
    code: str | None,
    documents: Sequence[str],
    seen: str | None,
    named: Mapping[str, Document],
    *,
    unregistered: bool = False,
) -> None:
    """Check a reviewer's decision on a right.

    Args:
        unregistered: a copyright in no register.
        documents, seen: what the decision rests on: documents, or where else its proof was seen.
        named: documents that are named in the right, still kept, and were not found to be forged.

    Raises:
        Refused: it accepts nothing, rests on a document that is not there, or gives no reason that its owner can cure.
    """
    check_named(documents, named)
    if accept and not documents and seen is None:
        raise Refused(
            422,
            "nothing_accepted",
            "A right is accepted by its documents.",
            field="documents",
            cure="Name those that you looked at; if you saw the proof elsewhere, say where in `seen`.",
        )
    if accept and unregistered and seen is None:
        missing = sorted(UNREGISTERED - kinds_of(named[id] for id in documents))
        if missing:
            raise Refused(
                422,
                "kinds_missing",
                f"A copyright that is in no register is not accepted without: {', '.join(missing)}.",
                field="documents",
                cure="Name those that you looked at; if you saw the proof elsewhere, say where in `seen`.",
            )
    if not accept and code not in right_refusals.TEXTS:
        raise Refused(
            422,
            "unknown_code",
            "A refusal needs a reason that its owner can cure.",
            field="code",
            cure=f"Use one of: {', '.join(sorted(right_refusals.TEXTS))}.",
        )


def check_power(
    accept: bool, code: str | None, documents: Sequence[str], seen: str | None, named: Mapping[str, Document]
) -> None:
    """Check a reviewer's decision on a power of attorney. The arguments are those of ``check_decision``.

    Raises:
        Refused: it accepts nothing, rests on a document that is not there or is none, or gives no reason that the agent
            can cure.
    """
    check_named(documents, named)
    if accept and seen is None and "authority" not in kinds_of(named[id] for id in documents):
        raise Refused(
            422,
            "nothing_accepted",
            "A power of attorney is accepted by a document of kind authority.",
            field="documents",
            cure="Name what you looked at; if you saw the power of attorney elsewhere, say where in `seen`.",
        )
    if not accept and code not in right_refusals.POWERS:
        raise Refused(
            422,
            "unknown_code",
            "A refusal needs a reason that the agent can cure.",
            field="code",
            cure=f"Use one of: {', '.join(sorted(right_refusals.POWERS))}.",
        )


def sides(me: str, agent: str | None, principal: str | None) -> tuple[str, Literal["agent", "principal"]]:
    """Whom an account asks for an authorisation: (the other account, the field that names it).

    Raises:
        Refused: it names nobody, both, or itself.
    """
    if agent is not None and principal is not None:
        raise Refused(
            422,
            "both_sides",
            "One side of an authorisation is the caller.",
            field="principal",
            cure="Name the agent, or the principal for whom you want to act.",
        )
    if principal is not None:
        other, field = principal, "principal"
    elif agent is not None:
        other, field = agent, "agent"
    else:
        raise Refused(
            422,
            "other_side_missing",
            "An authorisation has two sides.",
            field="agent",
            cure="Name the agent, or in `principal` the owner for whom you want to act.",
        )
    if other == me:
        raise Refused(422, "own_agent", "An owner needs no authorisation.", field=field, cure="Name another account.")
    return other, "agent" if principal is None else "principal"


def check_grant_ends(expires_at: dt.datetime | None, now: dt.datetime) -> None:
    """Check that an authorisation does not end before it begins.

    Raises:
        Refused: it does.
    """
    if expires_at is not None and expires_at <= now:
        raise Refused(
            422,
            "expired",
            "The authorisation would end in the past.",
            field="expires_at",
            cure="Give an end in the future.",
        )


def check_waiting(count: int) -> None:
    """Check that an account may ask for a further authorisation.

    Args:
        count: those that it has asked for, and that wait.

    Raises:
        Refused: there are too many.
    """
    if count >= WAITING_MOST:
        raise Refused(
            422,
            "too_many_waiting",
            f"At most {WAITING_MOST} authorisations that you asked for may wait for an answer.",
            cure="Wait for answers, or withdraw some: DELETE /v1/authorisations/<id>.",
        )


def check_consent(asked: str | None, me: str, accept: bool) -> None:
    """Check that an account may answer what was asked of another. Who may see it may decline it.

    Args:
        asked: whose consent is wanting; None: nobody's.

    Raises:
        Refused: 409, nothing waits; 403, nobody consents to its own request.
    """
    if asked is None:
        raise Refused(409, "not_pending", "Nobody's consent is wanting.", cure="Look at it again.")
    if accept and me != asked:
        raise Refused(
            403,
            "others_consent",
            "Only the account that was asked can consent.",
            field="accept",
            cure="Wait for it to consent.",
        )


def check_proves(pending: str | None, me: str, agent: str) -> None:
    """Check that a power of attorney may be named in an authorisation.

    Raises:
        Refused: 403, the caller is not the agent; 409, no power of attorney is wanting.
    """
    if me != agent:
        raise Refused(403, "agents_only", "Only the agent names its power of attorney.", cure="Confirm, or decline.")
    if pending not in ("proof_missing", "proof_unseen", "refused"):
        raise Refused(
            409, "not_pending", "No power of attorney is wanting here.", cure="Look at the authorisation again."
        )


def check_status(
    before: str,
    after: str,
    expires_at: dt.datetime | None,
    now: dt.datetime,
    *,
    operator: bool,
    changed: bool = True,
    was_in_force: bool = True,
) -> None:
    """Check that a right may be given a status.

    Args:
        before: the current status, read under the row's lock.
        changed: whether its end changes.
        was_in_force: a right that is lost was in force before, so somebody had accepted its documents.

    Raises:
        Refused: only a decision on its documents brings it into force, or only an operator brings it back; it has
            expired; or it ends later than any term.
    """
    if changed:
        check_term(expires_at, now)
    if after != "lost" and not operator and before in ("lost", "pending"):
        raise Refused(
            403,
            "operators_only",
            f"Only a reviewer or an operator can bring a right that is {before} into force.",
            field="status",
            cure="Show them the proof.",
        )
    if after != "lost" and (before == "pending" or (before == "lost" and not was_in_force)):
        raise Refused(
            422,
            "not_accepted",
            "Nobody has accepted the right's documents.",
            field="status",
            cure="Decide on it while it is pending: POST /v1/rights/<id>/decision.",
        )
    if after == "active" and expires_at is not None and expires_at <= now:
        raise Refused(422, "expired", "The right has expired.", field="expires_at", cure="Give its new expiry.")


def check_renewal(status: str, before: dt.datetime | None, after: dt.datetime, now: dt.datetime) -> None:
    """Check that a right may be given a later end.

    Raises:
        Refused: it is lost, or the new end is not later or is further off than any term.
    """
    if status == "lost":
        raise Refused(
            422,
            "right_lost",
            "A right that is lost cannot be renewed.",
            field="expires_at",
            cure="Register the new right.",
        )
    if after <= now or (before is not None and after <= before):
        raise Refused(
            422,
            "not_later",
            "A renewal ends later than the present term, and not in the past.",
            field="expires_at",
            cure="Give the new end as in the register.",
        )
    check_term(after, now)


def check_term(ends: dt.datetime | None, now: dt.datetime) -> None:
    """Check that a right may end then.

    Raises:
        Refused: the end is further off than any term.
    """
    if ends is not None and ends > now + LONGEST:
        raise Refused(
            422,
            "term_too_long",
            "No right is granted or renewed for more than 20 years at a time.",
            field="expires_at",
            cure="Give the end of the present term as in the register.",
        )
