"""Policies: every number and choice of the programme, versioned TOML under ``shared/policies/``.

A policy is read and validated once; an item keeps the version that it was filed under.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import available_timezones

import msgspec
from msgspec import Meta, Struct

from shared import calendars
from shared.calendars import Calendar, CalendarError
from shared.events import Id, RightType

FOLDER: Final = Path(__file__).parent / "policies"
UNITS: Final = {"d": dt.timedelta(days=1), "h": dt.timedelta(hours=1), "min": dt.timedelta(minutes=1)}
RULE_CODES: Final = ("unknown_reason", "reason_not_for_right")
"""Refusals that the rule of row 6 gives by itself."""

MEASURES: Final = ("warning", "quota", "suspension")
"""Measures against misuse by complainants, from the mildest."""

Count = Annotated[int, Meta(ge=0)]
Elements = tuple[Id, ...]
Eea = Literal[
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IS", "IT", "LI", "LT", "LU",
    "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
]  # fmt: skip
"""Countries of the European Economic Area, ISO 3166-1 alpha-2."""
ContentType = Literal[
    "CONTENT_TYPE_APP", "CONTENT_TYPE_AUDIO", "CONTENT_TYPE_IMAGE", "CONTENT_TYPE_PRODUCT", "CONTENT_TYPE_SYNTHETIC_MEDIA",
    "CONTENT_TYPE_TEXT", "CONTENT_TYPE_VIDEO",
]  # fmt: skip
SourceType = Literal["SOURCE_ARTICLE_16", "SOURCE_TRUSTED_FLAGGER", "SOURCE_TYPE_OTHER_NOTIFICATION"]


class PolicyError(ValueError):
    """A policy file is wrong; the message names file and key."""


class Span:
    """A duration as written in a policy: working days, or exact time. Immutable."""

    # a plain class: msgspec would decode a dataclass from a table, but durations are written as text
    __slots__ = ("exact", "text", "working_days")

    def __init__(self, text: object) -> None:
        """Parse ``3 wd``, ``90 d``, ``24 h`` or ``15 min``.

        Raises:
            ValueError: anything else, or zero.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,4}) (wd|d|h|min)", text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'Expected a duration such as "3 wd", "90 d", "24 h" or "15 min", got {text!r}')
        number, unit = int(match[1]), match[2]
        self.text: Final = match[0]
        self.working_days: Final = number if unit == "wd" else 0
        self.exact: Final = dt.timedelta() if unit == "wd" else number * UNITS[unit]

    def __repr__(self) -> str:
        return f"Span({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def after(self, start: dt.datetime, calendar: Calendar) -> dt.datetime:
        """The end of the duration that begins at ``start`` (aware, UTC)."""
        if self.working_days:
            return calendar.add_working_days(start, self.working_days)
        return start + self.exact


class Rate:
    """A share as written in a policy, ``90 %``: a fraction of whole numbers, compared without rounding. Immutable."""

    __slots__ = ("denominator", "numerator", "text")

    def __init__(self, text: object) -> None:
        """Parse ``90 %`` or ``2.5 %``.

        Raises:
            ValueError: anything else, or more than 100 %.
        """
        match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,4}))? %", text) if isinstance(text, str) else None
        digits = "" if match is None else match[2] or ""
        denominator = 100 * 10 ** len(digits)
        numerator = 0 if match is None else int(match[1] + digits)
        if match is None or numerator > denominator:
            raise ValueError(f'Expected a share such as "90 %" or "2.5 %", got {text!r}')
        self.text: Final = match[0]
        self.numerator: Final[int] = numerator
        self.denominator: Final[int] = denominator

    def __repr__(self) -> str:
        return f"Rate({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def reached(self, part: int, whole: int) -> bool:
        """Whether part of whole is at least this share; exact, and true of nothing out of nothing."""
        return part * self.denominator >= self.numerator * whole

    def kept(self, part: int, whole: int) -> bool:
        """Whether part of whole is at most this share; exact, and true of nothing out of nothing."""
        return part * self.denominator <= self.numerator * whole


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a policy's tables."""


class Timers(Part, frozen=True, kw_only=True):
    """Durations of the life cycle; the rows are in the file's comments."""

    needs_info: Span
    review_sla: Span
    window: Span
    round_window: Span
    late_counter: Span
    refile: Span
    counter_check: Span
    holder_response: Span
    holder_response_abroad: Span | None = None
    """Of a holder without residence in the country of the profile's law."""
    restore_by: Span | None = None
    """From when the counter was filed: restored then at the latest, whatever became of its forwarding."""
    platform_review: Span
    platform_review_grace: Span
    litigation_reminder: Span
    suspended: Span
    lookup_retry: Span
    lookup_give_up: Span


class Rules(Part, frozen=True, kw_only=True):
    """Choices between the life cycle's variants."""

    removal: Literal["on_notice", "after_window"]
    review: Literal["prima_facie", "triage", "manual"]
    seller_silent: Literal["uphold", "nothing"] = "uphold"
    """``nothing``: no window runs; the takedown stands from the notice on, and a counter is never late."""
    counter_check: Literal["rule", "manual"]
    overdue_counter_check: Literal["complete", "incomplete"]
    holder_rejects: Literal["platform_review", "no_effect"]
    holder_silent: Literal["platform_review", "restore"]
    overdue_decision: Literal["restore", "uphold"]
    audited_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Of items upheld by default: looked at by a person afterwards, as if complained of (row 19)."""


class Claim(Part, frozen=True, kw_only=True):
    """Limits and elements of a claim."""

    max_items: Annotated[int, Meta(ge=1)]
    max_items_unregistered: Annotated[int, Meta(ge=1)]
    good_faith_only: bool = False
    """Only accounts in the good-faith mechanism claim under this profile."""
    required: Elements


class CounterRules(Part, frozen=True, kw_only=True):
    """Limits and elements of a counter-notification."""

    rounds: Count
    late: Count
    refiles: Count
    required: Elements


class Reason(Part, frozen=True, kw_only=True):
    """What a claim may allege: the rights that it fits, its severity and the proof that it needs."""

    rights: Annotated[tuple[RightType, ...], Meta(min_length=1)]
    severity: Literal["general", "serious"]
    materials: Elements
    good_faith_materials: Elements | None = None
    good_faith_only: bool = False
    """Open to accounts in the good-faith mechanism alone."""
    title: Annotated[str, Meta(max_length=100)] = ""
    explanation: Annotated[str, Meta(max_length=1000)] = ""
    """What it means, for who files and for who is told."""

    def needed(self, good_faith: bool) -> Elements:
        """Materials to be on file."""
        if good_faith and self.good_faith_materials is not None:
            return self.good_faith_materials
        return self.materials


SignalName = Literal[
    "good_faith", "settled", "takedown_rate", "counter_rate", "evidence", "claim_size", "title_similarity", "failed_before",
    "upheld_here", "seller_violations",
]  # fmt: skip


class TriageRule(Part, frozen=True, kw_only=True):
    """Fires where the signal is known and within the bounds, and then adds its weight."""

    signal: SignalName
    at_least: float | None = None
    at_most: float | None = None
    needs_settled: Count = 0
    """Fires only for complainants with as many settled items."""
    weight: Annotated[int, Meta(ge=-1000, le=1000)]


class Triage(Part, frozen=True, kw_only=True):
    """Bands: upheld at once from ``uphold_at`` on, refused at once up to ``refuse_at``, a person in between."""

    base: int
    uphold_at: int
    refuse_at: int
    refusal: Id
    """Code of a refusal at once."""
    rules: dict[Id, TriageRule]


class Appeals(Part, frozen=True, kw_only=True):
    """Complaints against decisions: a person decides them, never the rule."""

    within: Span
    """From the decision."""
    review: Span
    """Then escalated, and again as long as nobody decides."""
    rounds: Annotated[int, Meta(ge=1)]
    """Complaints about one item, of both sides together."""
    reasons: Annotated[dict[Id, Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    """Code of the decision on a complaint -> what it says."""


class Review(Part, frozen=True, kw_only=True):
    """Decisions that two people must agree on (four eyes): of these reasons, or of claims of these severities."""

    four_eyes: tuple[Id, ...] = ()
    four_eyes_severity: tuple[Literal["general", "serious"], ...] = ()
    four_eyes_on: Annotated[
        tuple[Literal["uphold", "refuse", "restore", "confirm", "reverse"], ...], Meta(min_length=1)
    ] = ("uphold",)
    """The decisions that need it; others are one person's."""

    def two(self, reason: str, severity: str, decision: str) -> bool:
        """Whether that decision needs a second person."""
        return decision in self.four_eyes_on and (reason in self.four_eyes or severity in self.four_eyes_severity)


class Recurrence(Part, frozen=True, kw_only=True):
    """Row 20: when a listing is a near copy of one that was upheld against the same seller or business."""

    enabled: bool
    within: Span
    """From when the older one was upheld."""
    title: Annotated[int, Meta(ge=50, le=100)]
    """Titles, normalised, are near from so many per cent on (``rapidfuzz.fuzz.token_sort_ratio``)."""
    title_length: Annotated[int, Meta(ge=1, le=300)]
    """Letters and digits that a title must have to say anything."""
    picture: Annotated[int, Meta(ge=0, le=31)]
    """Pictures are near up to so many differing bits of 64 (``imagehash.phash``)."""
    needs: Literal["either", "both"]
    """A near title or a near picture, or both."""
    review: Literal["manual", "as_usual"]
    """Who decides the new item: a person, or whoever decides any other."""


class Accounts(Part, frozen=True, kw_only=True):
    """How accounts are confirmed and verified. Programme-wide: those of the policy in force when it is done."""

    code: Span = Span("60 min")
    """How long a code that confirms an e-mail address is good."""
    code_tries: Annotated[int, Meta(ge=1)] = 10
    code_pause: Span = Span("1 min")
    """Between two codes."""
    codes_a_day: Annotated[int, Meta(ge=1)] = 5
    verify_when: tuple[Literal["email_confirmed", "contact", "company", "right_registered"], ...] = ()
    """An account for which all of these hold is verified by rule; none named: by a reviewer only."""


class Registry(Part, frozen=True, kw_only=True):
    """Rights as registered. Programme-wide."""

    warn: Span = Span("30 d")
    """Before a right expires its owner is told."""


class Withdrawal(Part, frozen=True, kw_only=True):
    """Grounds that reverse the penalties of a withdrawn item."""

    reverses: tuple[Literal["error", "settled", "licensed", "right_ended"], ...]


class Evidence(Part, frozen=True, kw_only=True):
    """How long documents are kept, and which no counterpart reads."""

    kept: Span = Span("1095 d")
    """From the last change of what they were named in, once nothing of it is open."""
    unused: Span = Span("1 d")
    """From the upload, when no request has named them; wall time."""
    private: Elements = ("identity",)
    """Kinds of proof that are for reviewers alone."""


class Threshold(Part, frozen=True, kw_only=True):
    """A consequence that begins at ``points`` (strikes in the serious ledger); ``days`` 0: until lifted."""

    points: Annotated[int, Meta(ge=1)]
    consequence: Literal["warning", "listing_restricted", "frozen", "closed"]
    days: Count = 0
    entity_may_not_list: bool = False
    entity_closed: bool = False


class GeneralPenalties(Part, frozen=True, kw_only=True):
    """Points of the general ledger."""

    first: Count
    repeat: Count
    daily_cap: Count
    expires: Span
    thresholds: Annotated[tuple[Threshold, ...], Meta(min_length=1)]


class SeriousPenalties(Part, frozen=True, kw_only=True):
    """Strikes of the serious ledger."""

    grouping: Span
    expires: Span
    thresholds: Annotated[tuple[Threshold, ...], Meta(min_length=1)]


class Entity(Part, frozen=True, kw_only=True):
    """Which accounts are taken for one business, by keys that they share (``shared.events.SellerKey``)."""

    links: dict[Literal["registration", "payment", "device"], Annotated[int, Meta(ge=2, le=10_000)]] = msgspec.field(
        default_factory=dict
    )
    """Kinds of key that link, strongest first: most accounts that a key of the kind may link. More share it by chance."""
    largest: Annotated[int, Meta(ge=2, le=10_000)] = 100
    """Most accounts of one entity. Where links make more, the weakest kind of key is left out, and then the next."""


class RepeatOffender(Part, frozen=True, kw_only=True):
    """Who counts as a repeat offender."""

    violations: Annotated[int, Meta(ge=1)]
    within: Span
    tiers: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=10)] = (2, 3, 6)
    """Fewest violations of each tier, for figures and lists."""


class Penalties(Part, frozen=True, kw_only=True):
    """The seller's penalty ledgers."""

    general: GeneralPenalties
    serious: SeriousPenalties
    repeat_offender: RepeatOffender
    prior_warning: bool = False
    """Nobody is frozen or closed who was not warned before the violation: a warning comes first (DSA, article 23)."""
    warned_within: Span = Span("365 d")
    """For how long a warning counts as given before."""
    entity: Entity = Entity()


class LegalGround(Part, frozen=True, kw_only=True):
    """The law that a kind of right stands on, as a statement of reasons names it. No personal data."""

    legal_ground: Annotated[str, Meta(min_length=1, max_length=500)]
    explanation: Annotated[str, Meta(min_length=1, max_length=2000)]


class Statements(Part, frozen=True, kw_only=True):
    """Statements of reasons to the EU's transparency database (docs/domain.md, "EU statement of reasons")."""

    enabled: bool
    territorial_scope: Annotated[tuple[Eea, ...], Meta(min_length=1, max_length=30)]
    """Where the restriction applies."""
    content_type: Annotated[tuple[ContentType, ...], Meta(min_length=1, max_length=7)] = ("CONTENT_TYPE_PRODUCT",)
    source_type: SourceType = "SOURCE_ARTICLE_16"
    facts: Annotated[str, Meta(min_length=1, max_length=2000)]
    """Begins every ``decision_facts``; reason, dates and who decided are added."""
    grounds: dict[RightType, LegalGround]
    accounts: LegalGround | None = None
    """What a freeze or a closure of an account stands on; without it these have no statement."""


class QuietHours(Part, frozen=True, kw_only=True):
    """Hours in which messages that begin no window wait; local time, every day."""

    begins: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    ends: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """Before ``begins``, it is the next day's."""
    zone: Annotated[str, Meta(min_length=1, max_length=60)]
    """IANA name of a time zone."""

    @property
    def begin(self) -> dt.time:
        """``begins`` as a time of day."""
        return dt.time.fromisoformat(self.begins)

    @property
    def end(self) -> dt.time:
        """``ends`` as a time of day."""
        return dt.time.fromisoformat(self.ends)


class Erasure(Part, frozen=True, kw_only=True):
    """When a subject's data are not erased on request. Programme-wide: that of the newest ``ipp``."""

    while_open: Literal["refuse", "warn"] = "refuse"
    """It is party to items that are not settled, or waits for a decision on a complaint (GDPR 17(3)(b), (e))."""
    while_appealable: Literal["refuse", "warn"] = "warn"
    """Settled items may still be complained about."""


class Notice(Part, frozen=True, kw_only=True):
    """The moment from which the window runs that a message begins."""

    begins: Literal["sent", "delivered", "read"] = "sent"
    """``delivered``: with what says that it came to the party, which its reading does too."""
    deemed: Span | None = None
    """From the sending: then it counts as delivered and read, whatever is known. Not for ``sent``."""


class GoodFaith(Part, frozen=True, kw_only=True):
    """The good-faith takedown mechanism (domain.md, "Good faith"). An account is judged by the newest ``ipp``."""

    takedown_rate: Rate = Rate("90 %")
    counter_rate: Rate = Rate("5 %")
    window_months: Annotated[int, Meta(ge=1, le=24)] = 3
    min_items: Annotated[int, Meta(ge=1)] = 20
    reason_min_items: Annotated[int, Meta(ge=1)] = 1
    warning: Span = Span("14 d")
    bar_months: Annotated[int, Meta(ge=1, le=24)] = 3
    declaration: Id = "good-faith-2026-11"


MisuseGround = Literal[
    "rejected",  # row 6, by a person; `codes` says which refusals
    "rejected_by_rule",  # row 6, by rule; ditto
    "counter_accepted",  # row 13: the holder itself gives way
    "restored_by_person",  # row 17
    "reversed",  # row 19: a person reverses the takedown on complaint
    "restored_by_court",  # row 21
    "withdrawn_error",  # row 18 as an error, after a takedown
    "withdrawn_early",  # ditto, before any
]
"""How an item ends as unfounded."""


class UnfoundedEnd(Part, frozen=True, kw_only=True):
    """How heavily an item weighs that ended so: its gravity."""

    weight: Annotated[int, Meta(ge=1, le=1000)]
    serious: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Where the reason that was alleged is a serious one; none given: the same."""
    codes: tuple[Id, ...] = ()
    """Of ``rejected`` and ``rejected_by_rule``: refusals that say that the notice was manifestly unfounded."""


class MisuseStep(Part, frozen=True, kw_only=True):
    """A measure, and from when on it follows: ``notices``, ``number``, ``share`` and ``weight`` must all be reached."""

    measure: Literal["warning", "quota", "suspension"]
    notices: Annotated[int, Meta(ge=1)] = 1
    """Claims with an unfounded item, and findings: one claim of many items is no frequent misuse."""
    number: Annotated[int, Meta(ge=1)]
    """Unfounded items and findings in the window."""
    share: Rate
    """Unfounded items of settled ones; not asked for where a finding says that it was done knowingly."""
    weight: Count
    again: Count = 0
    """Unfounded items that were filed, and findings, since the last step began or ended."""
    after: Span = Span("1 d")
    """From that moment on, at the earliest."""
    lasts: Span | None = None
    """None: until the record is good again, by the first step."""
    items: Annotated[int, Meta(ge=1)] | None = None
    """Of a quota: items a business day (UTC)."""


class Forged(Part, frozen=True, kw_only=True):
    """What follows at once on the finding that a document was forged, without a prior warning."""

    measure: Literal["none", "warning", "quota", "suspension"] = "suspension"
    lasts: Span | None = Span("90 d")
    items: Annotated[int, Meta(ge=1)] | None = None


class Misuse(Part, frozen=True, kw_only=True):
    """Misuse by complainants (DSA art. 23(2)). An account is judged by the newest policy of one profile, whatever its claims'."""

    window: Span = Span("180 d")
    ends: dict[MisuseGround, UnfoundedEnd] = msgspec.field(default_factory=dict)
    """What counts as manifestly unfounded; what is not named does not count."""
    steps: tuple[MisuseStep, ...] = ()
    """In order; none: nothing follows."""
    knowingly: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Weight of a finding that an account filed what it knew to be untrue."""
    forged_weight: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Weight of a finding that a document was forged."""
    forged: Forged = Forged()
    four_eyes: tuple[Literal["forged_document", "knowingly_false"], ...] = ()
    """Findings that two people must agree on."""
    held_max: Annotated[int, Meta(ge=0)] = 1000
    """Items that may wait for the end of a suspension; beyond, claims are refused."""
    complaint: Span = Span("184 d")
    """From a measure's beginning: how long it may be complained of."""
    bars: tuple[Literal["warning", "quota", "suspension"], ...] = ("quota", "suspension")
    """Measures under which an account takes no part in the good-faith mechanism."""


class Policy(Part, frozen=True, kw_only=True):
    """The rules that an item is handled under."""

    profile: Id
    version: Id
    base: Id | None = None
    """Version whose settings count where the file has none of its own; a table ``reasons`` replaces all reasons."""
    calendar: Id
    timers: Timers
    rules: Rules
    claim: Claim
    counter: CounterRules
    reasons: Annotated[dict[Id, Reason], Meta(min_length=1)]
    refusals: dict[Id, Annotated[str, Meta(min_length=1)]]
    triage: Triage | None = None
    appeals: Appeals
    withdrawal: Withdrawal
    penalties: Penalties
    evidence: Evidence = Evidence()
    statements: Statements | None = None
    review: Review = Review()
    recurrence: Recurrence | None = None
    texts: dict[Id, tuple[Annotated[str, Meta(min_length=1, max_length=1500)], ...]] = {}
    """Kind of a message -> paragraphs that the profile's law wants said in it."""
    accounts: Accounts = Accounts()
    registry: Registry = Registry()
    notice: Notice = Notice()
    quiet: QuietHours | None = None
    erasure: Erasure = Erasure()
    good_faith: GoodFaith = GoodFaith()
    misuse: Misuse = Misuse()


# msgspec works out a struct's fields when it first meets it; two threads that do so at once crash the process
msgspec.json.Decoder(Policy)


def parse(text: str, file: str) -> Policy:
    """A policy from its TOML document, validated; ``file`` is its name, which must be the version's.

    Raises:
        PolicyError: naming file and key.
    """
    policy, problems = examine(text, file)
    if policy is None or problems:
        raise PolicyError(problems[0])
    return policy


def examine(text: str, file: str) -> tuple[Policy | None, list[str]]:
    """A policy from its TOML document, if it can be read as one, and all that is wrong with it, as "file: key: problem".

    Raises:
        PolicyError: it is no TOML, or its base is wrong.
    """
    document = _document(text, file)
    try:
        policy = msgspec.convert(document, Policy, dec_hook=_hook)
    except msgspec.ValidationError as error:
        return None, [f"{file}: {_located(document, str(error))}"]
    return policy, [f"{file}: {key}: {problem}" for key, problem in _problems(policy, file)]


WHOLE: Final = ("reasons",)
"""Tables that a file gives whole or not at all."""


def _document(text: str, file: str) -> dict[str, Any]:
    """A file's settings over those of its base."""
    own = _toml(text, file)
    base = own.get("base")
    if base is None:
        return own
    if base not in versions():
        raise PolicyError(f"{file}: base: there is no policy {base!r}")
    path = FOLDER / f"{base}.toml"
    under = _toml(path.read_text(encoding="utf-8"), path.name)
    if "base" in under:
        raise PolicyError(f"{file}: base: a base stands on no other, and {base!r} does")
    return _over(under, own)


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{file}: {error}") from None


def _over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        under = base.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and key not in WHOLE:
            value = _over(under, value)
        result[key] = value
    return result


def _hook(kind: type, value: object) -> object:
    if kind is Span or kind is Rate:
        return kind(value)
    raise NotImplementedError(kind)


def _located(document: dict[str, Any], message: str) -> str:
    """``message`` as "key: problem"; msgspec does not say which key of a table of tables is wrong, so try each."""
    problem, _, path = message.partition(" - at `")
    path = path.rstrip("`")
    if path.startswith("$.reasons[...]"):
        for name, value in document["reasons"].items():
            try:
                msgspec.convert(value, Reason, dec_hook=_hook)
            except msgspec.ValidationError:
                path = path.replace("[...]", f".{name}")
                break
    return f"{path.removeprefix('$').lstrip('.') or 'document'}: {problem}"


def _problems(policy: Policy, file: str) -> list[tuple[str, str]]:
    """What the types cannot say, as (key, problem)."""
    found: list[tuple[str, str]] = []
    if file != f"{policy.version}.toml":
        found.append(("version", f"{policy.version!r} is not the file's name"))
    if not policy.version.startswith(f"{policy.profile}-"):
        found.append(("version", f'does not begin with the profile and "-": {policy.profile!r}'))
    try:
        calendars.calendar(policy.calendar)
    except CalendarError as error:
        found.append(("calendar", str(error)))
    found += [
        ("timers." + name, "expected hours, minutes or days: the promise is in elapsed time")
        for name in ("review_sla", "lookup_retry", "lookup_give_up", "late_counter", "litigation_reminder", "suspended")
        if getattr(policy.timers, name).working_days
    ]
    found += _triage_problems(policy)
    if policy.timers.restore_by is not None and policy.rules.holder_silent != "restore":
        found.append(("timers.restore_by", 'means nothing unless rules.holder_silent is "restore"'))
    if policy.appeals.within.working_days:
        found.append(("appeals.within", "expected days"))
    found += [
        ("refusals", f"{code!r} is missing; the rule of row 6 uses it")
        for code in RULE_CODES
        if code not in policy.refusals
    ]
    found += [
        ("review.four_eyes", f"there is no reason {code!r}")
        for code in policy.review.four_eyes
        if code not in policy.reasons
    ]
    found += [
        (key, "expected minutes, hours or days")
        for key, span in (
            ("accounts.code", policy.accounts.code),
            ("accounts.code_pause", policy.accounts.code_pause),
            ("registry.warn", policy.registry.warn),
        )
        if span.working_days
    ]
    if policy.recurrence is not None and policy.recurrence.within.working_days:
        found.append(("recurrence.within", "expected days"))
    for ledger in ("general", "serious"):
        points = [step.points for step in getattr(policy.penalties, ledger).thresholds]
        if points != sorted(set(points)):
            found.append((f"penalties.{ledger}.thresholds", "points must rise"))
    tiers = policy.penalties.repeat_offender.tiers
    if list(tiers) != sorted(set(tiers)) or tiers[0] != policy.penalties.repeat_offender.violations:
        found.append(("penalties.repeat_offender.tiers", "must rise, and begin with `violations`"))
    found += [
        (f"evidence.{name}", "expected days: what is kept is kept in elapsed time")
        for name in ("kept", "unused")
        if getattr(policy.evidence, name).working_days
    ]
    if policy.statements is not None and policy.statements.enabled:
        kinds = {kind for reason in policy.reasons.values() for kind in reason.rights}
        found += [
            ("statements.grounds", f"{kind!r} is missing: a reason fits such rights")
            for kind in sorted(kinds - set(policy.statements.grounds))
        ]
    if policy.penalties.warned_within.working_days:
        found.append(("penalties.warned_within", "expected days"))
    for span in ("general.expires", "serious.grouping", "serious.expires", "repeat_offender.within"):
        part, name = span.split(".")
        if getattr(getattr(policy.penalties, part), name).working_days:
            found.append((f"penalties.{span}", "expected days"))
    if policy.quiet is not None:
        if policy.quiet.zone not in available_timezones():
            found.append(("quiet.zone", f"no time zone: {policy.quiet.zone!r}"))
        if policy.quiet.begins == policy.quiet.ends:
            found.append(("quiet.ends", "the same as quiet.begins"))
    if (policy.notice.deemed is None) != (policy.notice.begins == "sent"):
        found.append(("notice.deemed", 'needed, and of use, where notice.begins is not "sent"'))
    found += _misuse_problems(policy)
    warning = policy.good_faith.warning
    if warning.working_days or warning.exact % UNITS["d"]:
        found.append(("good_faith.warning", "expected days"))
    return found


def _misuse_problems(policy: Policy) -> list[tuple[str, str]]:
    misuse = policy.misuse
    found = [
        (f"misuse.{name}", "expected days")
        for name, span in (
            ("window", misuse.window), ("complaint", misuse.complaint), ("forged.lasts", misuse.forged.lasts),
            *((f"steps.{step.measure}.after", step.after) for step in misuse.steps),
            *((f"steps.{step.measure}.lasts", step.lasts) for step in misuse.steps),
        )
        if span is not None and (span.working_days or span.exact % UNITS["d"])
    ]  # fmt: skip
    order = [MEASURES.index(step.measure) for step in misuse.steps]
    if order and (order[0] != 0 or order != sorted(set(order))):
        # art. 23(2): "after having issued a prior warning"
        found.append(("misuse.steps", "must begin with a warning and grow more severe"))
    measures: tuple[MisuseStep | Forged, ...] = (*misuse.steps, misuse.forged)
    for step in measures:
        if (step.measure == "quota") != (step.items is not None):
            found.append((f"misuse.{step.measure}.items", "a quota has items, and nothing else does"))
        if step.measure == "suspension" and step.lasts is None:
            found.append((f"misuse.{step.measure}.lasts", 'is missing: art. 23(2), "for a reasonable period of time"'))
        if step.measure == "warning" and step.lasts is not None and isinstance(step, MisuseStep):
            found.append(("misuse.warning.lasts", "a warning holds until the record is good again"))
    for name, end in misuse.ends.items():
        if end.codes and not name.startswith("rejected"):
            found.append((f"misuse.ends.{name}.codes", "only refusals have codes"))
        found += [
            (f"misuse.ends.{name}.codes", f"there is no refusal {code!r}")
            for code in end.codes
            if code not in policy.refusals
        ]
    return found


def _triage_problems(policy: Policy) -> list[tuple[str, str]]:
    triage = policy.triage
    if triage is None:
        return [("triage", 'is missing; rules.review is "triage"')] if policy.rules.review == "triage" else []
    found = []
    if triage.refuse_at >= triage.uphold_at:
        found.append(("triage.refuse_at", "must be below uphold_at"))
    if triage.refusal not in policy.refusals:
        found.append(("triage.refusal", f"there is no refusal {triage.refusal!r}"))
    for name, rule in triage.rules.items():
        if rule.at_least is None and rule.at_most is None:
            found.append((f"triage.rules.{name}", "needs at_least or at_most"))
    return found


@lru_cache(maxsize=256)
def load(version: str) -> Policy:
    """The policy of that version.

    Raises:
        PolicyError: there is none, or its file is wrong (naming file and key).
    """
    path = FOLDER / f"{version}.toml"
    # only names that are in the folder are opened: a version may come from outside
    if version not in versions():
        raise PolicyError(f"{path.name}: no such policy; there are {', '.join(versions())}")
    return parse(path.read_text(encoding="utf-8"), path.name)


@cache
def versions() -> tuple[str, ...]:
    """Versions that there are, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml") if path != calendars.FILE))


@cache
def _newest() -> dict[str, Policy]:
    # versions end in year and month, so that their order is that of time
    return {policy.profile: policy for policy in map(load, versions())}


def profiles() -> tuple[str, ...]:
    """Profiles that a claim may choose, sorted."""
    return tuple(sorted(_newest()))


def current(profile: str) -> Policy:
    """The newest policy of a profile: what a claim that is filed now is handled under.

    Raises:
        PolicyError: no such profile.
    """
    found = _newest().get(profile)
    if found is None:
        raise PolicyError(f"no profile {profile!r}; there are {', '.join(profiles())}")
    return found
