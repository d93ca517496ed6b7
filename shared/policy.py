"""Policies: every number and choice of the programme, as versioned TOML in ``shared/policies/``.

A policy is read and validated once. An item keeps the version under which it was filed.
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
"""Refusals that row 6 gives by rule."""

MEASURES: Final = ("warning", "quota", "suspension")
"""Measures against misuse by complainants, mildest first."""

Count = Annotated[int, Meta(ge=0)]
Elements = tuple[Id, ...]
Eea = Literal[
    "AT",
    "BE",
    "BG",
    "CY",
    "CZ",
    "DE",
    "DK",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "IE",
    "IS",
    "IT",
    "LI",
    "LT",
    "LU",
    "LV",
    "MT",
    "NL",
    "NO",
    "PL",
    "PT",
    "RO",
    "SE",
    "SI",
    "SK",
]
"""Countries of the European Economic Area, ISO 3166-1 alpha-2."""
ContentType = Literal[
    "CONTENT_TYPE_APP",
    "CONTENT_TYPE_AUDIO",
    "CONTENT_TYPE_IMAGE",
    "CONTENT_TYPE_PRODUCT",
    "CONTENT_TYPE_SYNTHETIC_MEDIA",
    "CONTENT_TYPE_TEXT",
    "CONTENT_TYPE_VIDEO",
]
SourceType = Literal["SOURCE_ARTICLE_16", "SOURCE_TRUSTED_FLAGGER", "SOURCE_TYPE_OTHER_NOTIFICATION"]


class PolicyError(ValueError):
    """A policy file is invalid; the message names file and key."""


class Span:
    """A duration as written in a policy: working days, or exact time. Immutable."""

    # a plain class: msgspec would decode a dataclass from a table, but durations are text
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
        """When the duration ends if it begins at ``start`` (aware, UTC)."""
        if self.working_days:
            return calendar.add_working_days(start, self.working_days)
        return start + self.exact


class Rate:
    """A share as written in a policy, ``90 %``: a fraction of integers, compared without rounding. Immutable."""

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
        """Whether part of whole is at least this share; exact, and true for 0 of 0."""
        return part * self.denominator >= self.numerator * whole

    def kept(self, part: int, whole: int) -> bool:
        """Whether part of whole is at most this share; exact, and true for 0 of 0."""
        return part * self.denominator <= self.numerator * whole


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a policy's tables."""


class Timers(Part, frozen=True, kw_only=True):
    """Durations of the life cycle; comments in the file name the rows."""

    needs_info: Span
    review_sla: Span
    window: Span
    round_window: Span
    late_counter: Span
    refile: Span
    counter_check: Span
    holder_response: Span
    holder_response_abroad: Span | None = None
    """For a holder who does not reside in the country of the profile's law."""
    restore_by: Span | None = None
    """From the filing of the counter: the latest restoration, whatever became of the forwarding."""
    platform_review: Span
    platform_review_grace: Span
    litigation_reminder: Span
    suspended: Span
    lookup_retry: Span
    lookup_give_up: Span


class Rules(Part, frozen=True, kw_only=True):
    """Choices between variants of the life cycle."""

    removal: Literal["on_notice", "after_window"]
    review: Literal["prima_facie", "triage", "manual"]
    seller_silent: Literal["uphold", "nothing"] = "uphold"
    """``nothing``: no window runs; the takedown stands from the notice on, and no counter is late."""
    counter_check: Literal["rule", "manual"]
    overdue_counter_check: Literal["complete", "incomplete"]
    holder_rejects: Literal["platform_review", "no_effect"]
    holder_silent: Literal["platform_review", "restore"]
    overdue_decision: Literal["restore", "uphold"]
    audited_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of items upheld by default that a person reviews afterwards, as if there were a complaint (row 19)."""


class Claim(Part, frozen=True, kw_only=True):
    """Limits and elements of a claim."""

    max_items: Annotated[int, Meta(ge=1)]
    max_items_unregistered: Annotated[int, Meta(ge=1)]
    good_faith_only: bool = False
    """Only accounts in the good-faith mechanism may claim under this profile."""
    required: Elements


class CounterRules(Part, frozen=True, kw_only=True):
    """Limits and elements of a counter-notification."""

    rounds: Count
    late: Count
    refiles: Count
    required: Elements


class Reason(Part, frozen=True, kw_only=True):
    """What a claim may allege: the rights it fits, its severity and the proof it needs."""

    rights: Annotated[tuple[RightType, ...], Meta(min_length=1)]
    severity: Literal["general", "serious"]
    materials: Elements
    good_faith_materials: Elements | None = None
    good_faith_only: bool = False
    """Open only to accounts in the good-faith mechanism."""
    title: Annotated[str, Meta(max_length=100)] = ""
    explanation: Annotated[str, Meta(max_length=1000)] = ""
    """What it means, for the complainant and for those who are notified."""

    def needed(self, good_faith: bool) -> Elements:
        """Materials that must be on file."""
        if good_faith and self.good_faith_materials is not None:
            return self.good_faith_materials
        return self.materials


SignalName = Literal[
    "good_faith",
    "settled",
    "takedown_rate",
    "counter_rate",
    "evidence",
    "claim_size",
    "title_similarity",
    "failed_before",
    "upheld_here",
    "seller_violations",
]


class TriageRule(Part, frozen=True, kw_only=True):
    """Adds its weight to the score if the signal is known and within the bounds."""

    signal: SignalName
    at_least: float | None = None
    at_most: float | None = None
    needs_settled: Count = 0
    """Fires only for complainants with at least this many settled items."""
    weight: Annotated[int, Meta(ge=-1000, le=1000)]


class Triage(Part, frozen=True, kw_only=True):
    """Score bands: upheld at once from ``uphold_at``, refused at once up to ``refuse_at``, in between by a person."""

    base: int
    uphold_at: int
    refuse_at: int
    refusal: Id
    """Code of an immediate refusal."""
    rules: dict[Id, TriageRule]


class Appeals(Part, frozen=True, kw_only=True):
    """Complaints against decisions; a person decides them, never a rule."""

    within: Span
    """How long after the decision a complaint is accepted."""
    review: Span
    """After this the complaint is escalated, again and again until somebody decides."""
    rounds: Annotated[int, Meta(ge=1)]
    """Most complaints about one item, by both sides together."""
    reasons: Annotated[dict[Id, Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    """Code of the decision on a complaint -> its text."""


class Review(Part, frozen=True, kw_only=True):
    """Decisions on which two people must agree (four eyes): on these reasons, or on claims of these severities."""

    four_eyes: tuple[Id, ...] = ()
    four_eyes_severity: tuple[Literal["general", "serious"], ...] = ()
    four_eyes_on: Annotated[
        tuple[Literal["uphold", "refuse", "restore", "confirm", "reverse"], ...], Meta(min_length=1)
    ] = ("uphold",)
    """The decisions that need it; one person makes the others."""

    def two(self, reason: str, severity: str, decision: str) -> bool:
        """Whether that decision needs a second person."""
        return decision in self.four_eyes_on and (reason in self.four_eyes or severity in self.four_eyes_severity)


class Recurrence(Part, frozen=True, kw_only=True):
    """Row 20: when a listing is a near copy of one that was upheld against the same seller or business."""

    enabled: bool
    within: Span
    """Counted from when the older one was upheld."""
    title: Annotated[int, Meta(ge=50, le=100)]
    """Normalised titles are near if at least this similar, in per cent (``rapidfuzz.fuzz.token_sort_ratio``)."""
    title_length: Annotated[int, Meta(ge=1, le=300)]
    """Fewest letters and digits of a title that is compared."""
    picture: Annotated[int, Meta(ge=0, le=31)]
    """Pictures are near if at most this many of 64 bits differ (``imagehash.phash``)."""
    needs: Literal["either", "both"]
    """Whether a near title or a near picture is enough, or both are needed."""
    review: Literal["manual", "as_usual"]
    """Who decides the new item: a person, or as for any other item."""


class Accounts(Part, frozen=True, kw_only=True):
    """How accounts are confirmed and verified. Programme-wide: the policy in force at that time applies."""

    code: Span = Span("60 min")
    """How long a code that confirms an e-mail address is valid."""
    code_tries: Annotated[int, Meta(ge=1)] = 10
    code_pause: Span = Span("1 min")
    """Shortest time between two codes."""
    codes_a_day: Annotated[int, Meta(ge=1)] = 5
    verify_when: tuple[Literal["email_confirmed", "contact", "company", "right_registered"], ...] = ()
    """An account that meets all of these is verified by rule; empty: only a reviewer verifies."""


class Registry(Part, frozen=True, kw_only=True):
    """Rights as registered. Programme-wide."""

    warn: Span = Span("30 d")
    """How long before a right expires its owner is notified."""


class Withdrawal(Part, frozen=True, kw_only=True):
    """Grounds that reverse the penalties of a withdrawn item."""

    reverses: tuple[Literal["error", "settled", "licensed", "right_ended"], ...]


class Evidence(Part, frozen=True, kw_only=True):
    """How long documents are kept, and which ones the other party may not read."""

    kept: Span = Span("1095 d")
    """From the last change of whatever names them, once none of it is open."""
    unused: Span = Span("1 d")
    """From the upload, for documents that no request has named; wall time."""
    private: Elements = ("identity",)
    """Kinds of proof that only reviewers may read."""


class Threshold(Part, frozen=True, kw_only=True):
    """A consequence that begins at ``points`` (in the serious ledger: strikes); ``days`` 0: until lifted."""

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
    """Which accounts count as one business, by the keys they share (``shared.events.SellerKey``)."""

    links: dict[Literal["registration", "payment", "device"], Annotated[int, Meta(ge=2, le=10_000)]] = msgspec.field(
        default_factory=dict
    )
    """Kinds of key that link, strongest first -> most accounts one key may link; more than that share it by chance."""
    largest: Annotated[int, Meta(ge=2, le=10_000)] = 100
    """Most accounts of one entity. If links make more, the weakest kind of key is ignored, then the next."""


class RepeatOffender(Part, frozen=True, kw_only=True):
    """Who counts as a repeat offender."""

    violations: Annotated[int, Meta(ge=1)]
    within: Span
    tiers: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=10)] = (2, 3, 6)
    """Fewest violations in each tier, for figures and lists."""


class Penalties(Part, frozen=True, kw_only=True):
    """The seller's penalty ledgers."""

    general: GeneralPenalties
    serious: SeriousPenalties
    repeat_offender: RepeatOffender
    prior_warning: bool = False
    """No seller is frozen or closed without a warning before the violation: it comes first (DSA, article 23)."""
    warned_within: Span = Span("365 d")
    """How long a warning counts as a prior one."""
    entity: Entity = Entity()


class LegalGround(Part, frozen=True, kw_only=True):
    """The law that a kind of right rests on, as a statement of reasons cites it. No personal data."""

    legal_ground: Annotated[str, Meta(min_length=1, max_length=500)]
    explanation: Annotated[str, Meta(min_length=1, max_length=2000)]


class Statements(Part, frozen=True, kw_only=True):
    """Statements of reasons for the EU's transparency database (docs/how-to/statements-of-reasons.md)."""

    enabled: bool
    territorial_scope: Annotated[tuple[Eea, ...], Meta(min_length=1, max_length=30)]
    """Where the restriction applies."""
    content_type: Annotated[tuple[ContentType, ...], Meta(min_length=1, max_length=7)] = ("CONTENT_TYPE_PRODUCT",)
    source_type: SourceType = "SOURCE_ARTICLE_16"
    facts: Annotated[str, Meta(min_length=1, max_length=2000)]
    """Beginning of every ``decision_facts``; reason, dates and who decided are added."""
    grounds: dict[RightType, LegalGround]
    accounts: LegalGround | None = None
    """Legal ground for freezing or closing an account; without it these get no statement."""


class QuietHours(Part, frozen=True, kw_only=True):
    """Hours in which messages that begin no window wait; local time, every day."""

    begins: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    ends: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """If earlier than ``begins``, on the next day."""
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
    """When a subject's data are not erased on request. Programme-wide: the newest ``ipp`` policy applies."""

    while_open: Literal["refuse", "warn"] = "refuse"
    """While it is a party to unsettled items or waits for a decision on a complaint (GDPR 17(3)(b), (e))."""
    while_appealable: Literal["refuse", "warn"] = "warn"
    """While settled items may still be complained about."""


class Notice(Part, frozen=True, kw_only=True):
    """The moment at which a message begins its window."""

    begins: Literal["sent", "delivered", "read"] = "sent"
    """``delivered``: at the first proof that the message reached the party; its reading is one too."""
    deemed: Span | None = None
    """From the sending: after this it counts as delivered and read, whatever is known. Not for ``sent``."""


class GoodFaith(Part, frozen=True, kw_only=True):
    """The good-faith mechanism (docs/explanation/domain.md, "Good faith"). The newest ``ipp`` judges accounts."""

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
    "counter_accepted",  # row 13: the holder itself yields
    "restored_by_person",  # row 17
    "reversed",  # row 19: a person reverses the takedown on complaint
    "restored_by_court",  # row 21
    "withdrawn_error",  # row 18 as an error, after a takedown
    "withdrawn_early",  # ditto, before any
]
"""How an item can end as unfounded."""


class UnfoundedEnd(Part, frozen=True, kw_only=True):
    """How heavily an item that ended this way weighs: its gravity."""

    weight: Annotated[int, Meta(ge=1, le=1000)]
    serious: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Weight if the alleged reason is a serious one; None: the same."""
    codes: tuple[Id, ...] = ()
    """For ``rejected`` and ``rejected_by_rule``: refusals that mean that the notice was manifestly unfounded."""


class MisuseStep(Part, frozen=True, kw_only=True):
    """A measure and when it follows: ``notices``, ``number``, ``share`` and ``weight`` must all be reached."""

    measure: Literal["warning", "quota", "suspension"]
    notices: Annotated[int, Meta(ge=1)] = 1
    """Claims with an unfounded item, and findings: a single claim of many items is not frequent misuse."""
    number: Annotated[int, Meta(ge=1)]
    """Unfounded items and findings in the window."""
    share: Rate
    """Unfounded items / settled items; not required if a finding says that it was done knowingly."""
    weight: Count
    again: Count = 0
    """Unfounded items filed, and findings made, since the last step began or ended."""
    after: Span = Span("1 d")
    """Shortest time from that moment to this step."""
    lasts: Span | None = None
    """None: until the record is good again by the first step."""
    items: Annotated[int, Meta(ge=1)] | None = None
    """For a quota: items per business day (UTC)."""


class Forged(Part, frozen=True, kw_only=True):
    """What follows at once, without a prior warning, if a document is found to be forged."""

    measure: Literal["none", "warning", "quota", "suspension"] = "suspension"
    lasts: Span | None = Span("90 d")
    items: Annotated[int, Meta(ge=1)] | None = None


class Misuse(Part, frozen=True, kw_only=True):
    """Misuse by complainants (DSA art. 23(2)).

    The newest policy of one profile (``misuse_profile``) judges an account, whatever the profiles of its claims.
    """

    window: Span = Span("180 d")
    ends: dict[MisuseGround, UnfoundedEnd] = msgspec.field(default_factory=dict)
    """What counts as manifestly unfounded; anything not named does not."""
    steps: tuple[MisuseStep, ...] = ()
    """In order; empty: nothing follows."""
    knowingly: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Weight of a finding that an account knowingly filed something untrue."""
    forged_weight: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Weight of a finding that a document was forged."""
    forged: Forged = Forged()
    four_eyes: tuple[Literal["forged_document", "knowingly_false"], ...] = ()
    """Findings on which two people must agree."""
    held_max: Annotated[int, Meta(ge=0)] = 1000
    """Most items that may wait for the end of a suspension; further claims are refused."""
    complaint: Span = Span("184 d")
    """How long after its beginning a measure may be complained about."""
    bars: tuple[Literal["warning", "quota", "suspension"], ...] = ("quota", "suspension")
    """Measures that exclude an account from the good-faith mechanism."""


class Policy(Part, frozen=True, kw_only=True):
    """The rules under which an item is handled."""

    profile: Id
    version: Id
    base: Id | None = None
    """Version whose settings apply where the file has none of its own; a table ``reasons`` replaces all reasons."""
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
    """Kind of message -> paragraphs that the profile's law requires in it."""
    accounts: Accounts = Accounts()
    registry: Registry = Registry()
    notice: Notice = Notice()
    quiet: QuietHours | None = None
    erasure: Erasure = Erasure()
    good_faith: GoodFaith = GoodFaith()
    misuse: Misuse = Misuse()


# msgspec analyses a struct when it first meets it; two threads that do so at once crash the process
msgspec.json.Decoder(Policy)


def parse(text: str, file: str) -> Policy:
    """Parse and validate a policy's TOML document; ``file`` is its file name, which must be that of the version.

    Raises:
        PolicyError: naming file and key.
    """
    policy, problems = examine(text, file)
    if policy is None or problems:
        raise PolicyError(problems[0])
    return policy


def examine(text: str, file: str) -> tuple[Policy | None, list[str]]:
    """Parse a policy's TOML document: the policy, or None, and everything wrong with it, as "file: key: problem".

    Raises:
        PolicyError: it is not TOML, or its base is wrong.
    """
    document = _document(text, file)
    try:
        policy = msgspec.convert(document, Policy, dec_hook=_hook)
    except msgspec.ValidationError as error:
        return None, [f"{file}: {_located(document, str(error))}"]
    return policy, [f"{file}: {key}: {problem}" for key, problem in _problems(policy, file)]


WHOLE: Final = ("reasons",)
"""Tables that a file replaces as a whole."""


def _document(text: str, file: str) -> dict[str, Any]:
    """A file's settings on top of its base's."""
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
    """``message`` as "key: problem". msgspec does not say which key of a table of tables is wrong, so try each."""
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
    """Problems that the types cannot express, as (key, problem)."""
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
        ("timers." + name, "expected hours, minutes or days: the target is in elapsed time")
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
            ("window", misuse.window),
            ("complaint", misuse.complaint),
            ("forged.lasts", misuse.forged.lasts),
            *((f"steps.{step.measure}.after", step.after) for step in misuse.steps),
            *((f"steps.{step.measure}.lasts", step.lasts) for step in misuse.steps),
        )
        if span is not None and (span.working_days or span.exact % UNITS["d"])
    ]
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
        PolicyError: there is no such version, or its file is invalid (naming file and key).
    """
    path = FOLDER / f"{version}.toml"
    # only files found in the folder are opened: a version may come from outside
    if version not in versions():
        raise PolicyError(f"{path.name}: no such policy; there are {', '.join(versions())}")
    return parse(path.read_text(encoding="utf-8"), path.name)


@cache
def versions() -> tuple[str, ...]:
    """All versions, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml") if path != calendars.FILE))


@cache
def _newest() -> dict[str, Policy]:
    # versions end in year and month, so they sort by time
    return {policy.profile: policy for policy in map(load, versions())}


def profiles() -> tuple[str, ...]:
    """Profiles that a claim may choose, sorted."""
    return tuple(sorted(_newest()))


def current(profile: str) -> Policy:
    """The newest policy of a profile, which applies to claims filed now.

    Raises:
        PolicyError: there is no such profile.
    """
    found = _newest().get(profile)
    if found is None:
        raise PolicyError(f"no profile {profile!r}; there are {', '.join(profiles())}")
    return found
