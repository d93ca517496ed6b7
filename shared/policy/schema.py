"""What a policy holds, table by table. One catalogue, which mirrors the files: so it may be long."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from shared.events import AuditedOutcome, BrakeReason, Id, RightType
from shared.policy.values import Rate, Span

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
    """Share of items upheld by default that a person reviews afterwards (row 19). Superseded by ``audits``."""


class Audits(Part, frozen=True, kw_only=True):
    """Shares of what no person decided that a person looks at, blind. The item's id decides which, with the seed."""

    seed: Annotated[str, Meta(min_length=1, max_length=60)]
    """Not a secret: it makes the samples of versions independent of each other."""
    shares: dict[AuditedOutcome, Annotated[float, Meta(ge=0, le=1)]]
    agrees: Id
    """Code of ``appeals.reasons`` with which an audit confirms a silent outcome, as its parties are told."""
    overturned: Id
    """Ditto, with which it reverses one."""


class Brake(Part, frozen=True, kw_only=True):
    """How much an account may file before a person decides what it files. Days are business days, UTC."""

    probation_settled: Count
    """On probation: accounts with fewer settled items in the window of the good-faith statistic."""
    probation_items: Count
    """Items a day that rules may decide then."""
    floor: Count
    """Later: at least as many a day, ..."""
    times: Annotated[int, Meta(ge=1, le=1000)]
    """... and so many times those of the account's best day of the ``window``."""
    window: Span
    lasts: Span
    """How long a person decides everything, once it was more."""
    says: Annotated[dict[BrakeReason, Annotated[str, Meta(min_length=1, max_length=300)]], Meta(min_length=2)]
    """What it means for an item, for the holder and reviewers."""


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
    unregistered: bool = True
    """Open to copyrights that are in no register."""
    unregistered_materials: Elements = ()
    """Materials that such a right needs besides the others, also of accounts in the good-faith mechanism."""
    title: Annotated[str, Meta(max_length=100)] = ""
    explanation: Annotated[str, Meta(max_length=1000)] = ""
    """What it means, for the complainant and for those who are notified."""

    def needed(self, good_faith: bool, *, registered: bool = True) -> Elements:
        """Materials that must be on file."""
        needed = self.materials
        if good_faith and self.good_faith_materials is not None:
            needed = self.good_faith_materials
        return (
            needed if registered else (*needed, *(kind for kind in self.unregistered_materials if kind not in needed))
        )


SignalName = Literal[
    "good_faith",
    "settled",
    "takedown_rate",
    "counter_rate",
    "evidence",
    "claim_size",
    "title_similarity",
    "mark_use",
    "picture_match",
    "brand_named",
    "failed_before",
    "upheld_here",
    "seller_violations",
    "right_in_force",
    "registered",
]


class TriageRule(Part, frozen=True, kw_only=True):
    """Adds its weight to the score if the signal is known and within the bounds."""

    signal: SignalName
    at_least: float | None = None
    at_most: float | None = None
    needs_settled: Count = 0
    """Fires only for complainants with at least this many settled items."""
    weight: Annotated[int, Meta(ge=-1000, le=1000)]
    says: Annotated[str, Meta(min_length=1, max_length=300)] | None = None
    """What it means that the rule fired, for the holder and reviewers; needed if it bars an immediate uphold."""


class Bound(Part, frozen=True, kw_only=True):
    """Holds if the signal is known and within the bounds."""

    signal: SignalName
    at_least: float | None = None
    at_most: float | None = None


class TriageFinding(Part, frozen=True, kw_only=True):
    """Positive evidence: it is there if all of its bounds hold."""

    all: Annotated[tuple[Bound, ...], Meta(min_length=1, max_length=10)]
    lacking: Annotated[str, Meta(min_length=1, max_length=300)]
    """What it means that it is not there, for the holder and reviewers."""


Ways = Annotated[tuple[Annotated[tuple[Id, ...], Meta(min_length=1, max_length=10)], ...], Meta(max_length=10)]


class TriageNeeds(Part, frozen=True, kw_only=True):
    """What an immediate uphold needs besides the score, by severity of the reason.

    Each entry is one way: all findings of it. Without any way, a person decides.
    """

    general: Ways
    serious: Ways


class Triage(Part, frozen=True, kw_only=True):
    """Score bands: upheld at once from ``uphold_at``, refused at once up to ``refuse_at``, in between by a person."""

    base: int
    uphold_at: int
    refuse_at: int
    refusal: Id
    """Code of an immediate refusal."""
    rules: dict[Id, TriageRule]
    findings: dict[Id, TriageFinding] = {}
    needs: TriageNeeds | None = None
    """If given, no score upholds an item against which a rule speaks, or for which no way of these is complete."""


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


class Sellers(Part, frozen=True, kw_only=True):
    """A seller whose notice can only be put into an inbox that nobody owns."""

    unreachable: Literal["proceed", "wait", "review"] = "proceed"
    """``proceed``: as if it had been reached. Otherwise no window begins until it is; with ``review`` a person decides
    meanwhile."""


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
    audits: Audits | None = None
    brake: Brake | None = None
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
    sellers: Sellers = Sellers()
    quiet: QuietHours | None = None
    erasure: Erasure = Erasure()
    good_faith: GoodFaith = GoodFaith()
    misuse: Misuse = Misuse()


# msgspec analyses a struct when it first meets it; two threads that do so at once crash the process
msgspec.json.Decoder(Policy)
