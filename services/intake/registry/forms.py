"""What a client needs for a claim's form, in the reader's language: rights, reasons, proofs, limits, refusals. Pure.

Everything comes from a policy and from what filing checks, so a form built from it is never refused for something
that could have been known before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, get_args

import msgspec
from msgspec import Struct

from services.intake.evidence import domain as evidence
from services.intake.kernel import requests
from services.intake.registry import domain as registry
from services.intake.registry import registers
from shared import languages, policy
from shared.events import RightType
from shared.languages import mark
from shared.policy import Policy, Reason
from shared.refusals import Refused

RIGHTS: Final[dict[RightType, str]] = {
    "trademark": mark("Trade mark"),
    "copyright": mark("Copyright"),
    "design": mark("Design"),
    "utility_model": mark("Utility model"),
    "invention": mark("Patent for an invention"),
    "geographical_indication": mark("Geographical indication"),
}
ELEMENTS: Final[dict[str, str]] = {
    "identity": mark("Proof of identity of the person who files"),
    "authority": mark("Authorisation by the right's owner, if somebody else files"),
    "right": mark("A right in force, registered here before"),
    "ownership": mark("Proof of ownership of the right: a certificate, or a signed statement for an unregistered work"),
    "statement": mark("A signed statement"),
    "comparison": mark("A comparison of the goods with the right or the genuine product"),
    "court": mark("A document of a court or an authority"),
    "design_view": mark("A view of a registered design"),
    "purchase": mark("Proof of a test purchase"),
    "specimen": mark("A specimen of the work"),
    "sworn_statement": mark("A sworn statement on who made the work, when, and who owns it"),
    "other": mark("Other evidence"),
}
"""Names of the elements of a claim or a counter, by code. Others are shown by their code."""
GROUNDS: Final[dict[str, str]] = {
    "error": mark("The claim was a mistake"),
    "settled": mark("The parties have settled"),
    "licensed": mark("The seller has a licence"),
}
UNREGISTERED: Final[frozenset[RightType]] = frozenset({"copyright"})
"""Rights that may have no number."""


class Named(Struct, frozen=True, kw_only=True):
    """A code and its name."""

    code: str
    label: str


class RegisterForm(Struct, frozen=True, kw_only=True):
    """A register, and what its numbers look like."""

    register: str
    office: str
    number: str
    designates: bool
    """Its rights apply where they were designated, so ``territory`` must be given."""


class ReasonForm(Struct, frozen=True, kw_only=True):
    """A reason that fits a kind of right. ``evidence_in_good_faith`` replaces ``evidence`` for accounts in good faith."""

    code: str
    title: str
    explanation: str
    severity: Literal["general", "serious"]
    good_faith_only: bool
    evidence: tuple[Named, ...]
    evidence_in_good_faith: tuple[Named, ...]
    unregistered: bool
    """Open to a copyright that is in no register, which needs ``evidence_unregistered`` besides."""
    evidence_unregistered: tuple[Named, ...]


class RightForm(Struct, frozen=True, kw_only=True):
    """A kind of right. Any number is accepted if it has no ``registers``, or if no register is named."""

    code: RightType
    label: str
    number_required: bool
    without_number: tuple[Named, ...]
    """Documents that a right without a number needs, besides its first publication (``published``)."""
    classes: str | None
    """What ``classes`` look like; null: it has none."""
    classes_required: bool
    views: int
    """Most documents of kind ``design_view``, of which one is required; 0: it has none."""
    words: bool
    """Whether it may have words (``mark``)."""
    registers: tuple[RegisterForm, ...]
    reasons: tuple[ReasonForm, ...]


class Limits(Struct, frozen=True, kw_only=True):
    """The most that a claim may hold."""

    listings: int
    listings_unverified: int
    materials: int
    link_characters: int


class CounterForm(Struct, frozen=True, kw_only=True):
    """What a counter-notification needs, and how many rounds there are."""

    rounds: int
    evidence: tuple[Named, ...]


class RefusalForm(Struct, frozen=True, kw_only=True):
    """A code with which a claim may be refused, and how to cure it."""

    code: str
    cure: str


class Form(Struct, frozen=True, kw_only=True):
    """The form of a claim under the newest policy of a profile."""

    profile: str
    policy: str
    language: str
    languages: tuple[str, ...]
    profiles: tuple[str, ...]
    """Profiles that claims may name here."""
    limits: Limits
    elements: tuple[Named, ...]
    documents: tuple[Named, ...]
    """Kinds of document that may be uploaded as evidence."""
    rights: tuple[RightForm, ...]
    counter: CounterForm
    withdrawal: tuple[Named, ...]
    refusals: tuple[RefusalForm, ...]


def plain(code: str) -> str:
    """A code as words, for want of a better name."""
    return code.replace("_", " ").capitalize()


def form(rules: Policy, language: str, offered: tuple[str, ...] = ()) -> Form:
    """The form under ``rules`` in a language of ``languages.LANGUAGES``; ``offered``: profiles, if not all are."""

    def say(text: str) -> str:
        return languages.translate(text, language)

    def named(codes: tuple[str, ...]) -> tuple[Named, ...]:
        return tuple(Named(code=code, label=say(ELEMENTS.get(code, plain(code)))) for code in codes)

    def reason(code: str, found: Reason) -> ReasonForm:
        return ReasonForm(
            code=code,
            title=say(found.title or plain(code)),
            explanation=say(found.explanation),
            severity=found.severity,
            good_faith_only=found.good_faith_only,
            evidence=named(found.materials),
            evidence_in_good_faith=named(found.needed(good_faith=True)),
            unregistered=found.unregistered,
            evidence_unregistered=named(found.unregistered_materials),
        )

    def right(kind: RightType) -> RightForm:
        kept = {name: number for (name, of), number in registers.FORMATS.items() if of == kind}
        return RightForm(
            code=kind,
            label=say(RIGHTS[kind]),
            number_required=kind not in UNREGISTERED,
            without_number=named(tuple(sorted(registry.UNREGISTERED))) if kind in UNREGISTERED else (),
            classes=say(registry.CLASSES[kind]) if kind in registry.CLASSES else None,
            classes_required=kind == "design",
            views=registry.VIEWS_MOST if kind == "design" else 0,
            words=kind == "trademark",
            registers=tuple(
                RegisterForm(
                    register=name,
                    office=say(registers.OFFICES[name]),
                    number=say(kept[name].looks),
                    designates=(name, kind) in registry.DESIGNATES,
                )
                for name in sorted(kept)
            ),
            reasons=tuple(reason(code, found) for code, found in rules.reasons.items() if kind in found.rights),
        )

    rights = [right(kind) for kind in get_args(RightType)]
    return Form(
        profile=rules.profile,
        policy=rules.version,
        language=language,
        languages=languages.LANGUAGES,
        profiles=offered or policy.profiles(),
        limits=Limits(
            listings=rules.claim.max_items,
            listings_unverified=rules.claim.max_items_unregistered,
            materials=requests.MATERIALS_MOST,
            link_characters=requests.LINK_MOST,
        ),
        elements=named(rules.claim.required),
        documents=named(evidence.kinds()),
        rights=tuple(kind for kind in rights if kind.reasons),
        counter=CounterForm(rounds=rules.counter.rounds, evidence=named(rules.counter.required)),
        withdrawal=tuple(Named(code=code, label=say(label)) for code, label in GROUNDS.items()),
        refusals=tuple(RefusalForm(code=code, cure=say(cure)) for code, cure in rules.refusals.items()),
    )


def cure(version: str, code: str, language: str) -> str | None:
    """How to cure a refusal under a policy version; None: the policy does not say, or is not known here (yet)."""
    try:
        found = policy.load(version).refusals.get(code)
    except policy.PolicyError:
        return None
    return None if found is None else languages.translate(found, language)


@lru_cache(maxsize=256)
def encoded(version: str, language: str, offered: tuple[str, ...] = ()) -> bytes:
    """The form of a policy's version as JSON."""
    return msgspec.json.encode(form(policy.load(version), language, offered))


def language_of(wanted: str | None, accepted: str | None) -> str:
    """The language that is named, else by ``Accept-Language``.

    Raises:
        Refused: 422, the named language is not supported.
    """
    if wanted is None:
        return languages.choose(accepted)
    if wanted not in languages.LANGUAGES:
        raise Refused(
            422,
            "unknown_language",
            "There are no texts in this language.",
            field="language",
            cure=f"Use one of: {', '.join(languages.LANGUAGES)}.",
        )
    return wanted
