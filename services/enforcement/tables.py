"""Enforcement's tables. The view ``ledger_queue`` and the trigger on ``ledger_entries`` are in the migrations."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from shared.columns import ID, TIME, identity, one_of, required
from shared.runtime.tables import runtime_tables

metadata = MetaData(schema="enforcement")
runtime_tables(metadata)
runtime_tables(metadata, "ledger_")

listings = Table(
    "listings",
    metadata,
    Column("listing", ID, primary_key=True),
    required("partition", Integer),
    required("holds", Integer, CheckConstraint("holds >= 0"), comment="rows of table holds with this listing and held"),
    required("seq", Integer, comment="of the latest command to the marketplace; 0 before the first"),
    one_of("action", "", "suspend", "remove", "restore"),
    required("confirmed", Integer, comment="highest seq with a receipt; below seq a command is under way"),
    one_of("result", "done", "unknown_listing", comment="result of the confirmed command"),
    Column("resend_at", TIME, comment="wall time at which the command under way is sent again"),
    required("tries", Integer, server_default="0"),
    CheckConstraint("confirmed <= seq"),
    Index("listings_resend", "partition", "resend_at", postgresql_where=text("resend_at is not null")),
    comment="A listing with or after a hold. To be down exactly while holds > 0; at rest when confirmed = seq.",
)
holds = Table(
    "holds",
    metadata,
    Column("item", ID, primary_key=True),
    required("listing", ID),
    required("claim", Text),
    required(
        "revision",
        Integer,
        comment="highest revision of the item that was folded in (events that only tell of times are left out)",
    ),
    required("held", Boolean, comment="the item holds the listing"),
    required(
        "waits",
        Integer,
        comment="seq of the command whose receipt is reported to the item; reported once listings.confirmed >= waits",
    ),
    Column("seller", Text, comment="seller whose violation was declared last"),
    required("violation", Boolean, comment="the violation is in force, as declared on violations"),
    Index("holds_listing", "listing", "waits"),
    comment="Every item that ever had a hold or a violation (or a later revision without either).",
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("command", ID, primary_key=True),
    required("listing", Text),
    required("partition", Integer),
    required("seq", Integer),
    required("action", Text),
    required("next_wall", TIME, server_default=func.now()),
    required("tries", Integer, server_default="0"),
    Column("error", Text),
    Column("traceparent", Text),
    Index("deliveries_due", "next_wall"),
    comment="HTTP adapter: commands that the marketplace has not answered yet. A taker moves next_wall ahead: its lease.",
)
receipts = Table(
    "receipts",
    metadata,
    identity(),
    required("partition", Integer),
    required("command", Text),
    required("listing", Text),
    required("seq", Integer),
    required("result", Text),
    Column("traceparent", Text),
    comment="HTTP adapter: answers on their way to the worker that owns the partition, which deletes them as it takes them in.",
)
standings = Table(
    "standings",
    metadata,
    Column("seller", ID, primary_key=True),
    required("partition", Integer),
    required(
        "general_points", Integer, comment="sum(points) of ledger_entries of ledger general with expires_at > now"
    ),
    required(
        "serious_strikes", Integer, comment="sum(points) of ledger_entries of ledger serious with expires_at > now"
    ),
    required(
        "violations",
        Integer,
        comment="violations in force with at within the policy's repeat_offender.within (365 days)",
    ),
    required("repeat_offender", Boolean, comment="the account or its entity has as many violations as the policy says"),
    required(
        "general_level",
        Integer,
        comment="thresholds reached (policy: penalties.general.thresholds); 1 at least while a violation counts",
    ),
    Column("general_consequence", Text),
    required("serious_level", Integer),
    Column("serious_consequence", Text),
    Column("next_change", TIME),
    required("changed_at", TIME),
    required("entries", Integer, comment="entries ever written for the seller: numbers the next one"),
    required("tail", Text, comment="JSON: what assessing one more violation after all others needs (penalties.Tail)"),
    required(
        "open_grounds",
        Text,
        server_default="{}",
        comment="JSON: thresholds that are reached, and since when (sanctions.OpenGrounds)",
    ),
    Column("due_at", TIME, comment="when the seller is judged again: next_change, or the end of a sanction's days"),
    required(
        "sanctions", Integer, server_default="0", comment="sanctions ever made for the seller: numbers the next one"
    ),
    required(
        "seq", Integer, server_default="0", comment="of the latest command to the marketplace; 0 before the first"
    ),
    required(
        "measures",
        Text,
        server_default="",
        comment="that command's: all that are in force, sorted, with commas between",
    ),
    Column("until", TIME, comment="that command's: when they become fewer by themselves"),
    required(
        "confirmed", Integer, server_default="0", comment="highest seq with a receipt; below seq a command is under way"
    ),
    one_of("result", "done", "unknown_seller", server_default="done"),
    Column("resend_at", TIME, comment="wall time at which the command under way is sent again"),
    required("tries", Integer, server_default="0"),
    Column(
        "entity",
        ID,
        comment="the business that the account is one of, as far as the ledger's worker has taken it in; with what it stands at",
    ),
    required("entity_points", Integer, server_default="0"),
    required("entity_strikes", Integer, server_default="0"),
    required("entity_violations", Integer, server_default="0"),
    Column(
        "entity_grounds", Text, comment="JSON: sanctions.EntityRecord, as far as the ledger's worker has taken it in"
    ),
    CheckConstraint("confirmed <= seq"),
    Index("standings_repeat", "seller", postgresql_where=text("repeat_offender")),
    Index("standings_due", "partition", "due_at", postgresql_where=text("due_at is not null")),
    Index("standings_resend", "partition", "resend_at", postgresql_where=text("resend_at is not null")),
    comment="A seller's standing as of changed_at; exact until next_change, when the worker recomputes it.",
)
violations = Table(
    "violations",
    metadata,
    Column("seller", ID, primary_key=True),
    Column("claim", ID, primary_key=True),
    required("in_force", Boolean),
    one_of("severity", "general", "serious", comment="serious when one of its items in force is"),
    required("at", TIME, comment="earliest of its items in force (the last known when none is)"),
    Column(
        "entry",
        Text,
        comment="its unreversed entry in ledger_entries: set exactly while in force; ledger, points and times are that entry's",
    ),
    Column("ledger", Text),
    Column("points", Integer),
    Column("effective_at", TIME),
    Column("expires_at", TIME),
    comment="A violation: one seller x one claim. In force while one of its items is.",
)
violation_items = Table(
    "violation_items",
    metadata,
    Column("seller", ID, primary_key=True),
    Column("claim", ID, primary_key=True),
    Column("item", ID, primary_key=True),
    required("listing", Text),
    required("revision", Integer),
    required("in_force", Boolean),
    required("severity", Text),
    required("at", TIME),
)
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("entry", ID, primary_key=True),
    required("seller", ID),
    required("claim", Text),
    one_of("ledger", "general", "serious"),
    one_of("kind", "violation", "reversal"),
    required("points", Integer),
    Column("reverses", Text, ForeignKey("ledger_entries.entry"), unique=True),
    required("effective_at", TIME),
    required("expires_at", TIME),
    required("recorded_wall", TIME, server_default=func.now()),
    CheckConstraint("(kind = 'reversal') = (reverses is not null)"),
    CheckConstraint("((kind = 'reversal') and (points <= 0)) or ((kind = 'violation') and (points >= 0))"),
    Index("ledger_entries_seller", "seller", "expires_at"),
    comment="Append-only. Standing = sum(points) where expires_at > now: a reversal has the negated points and the expiry of what it reverses.",
)
statements = Table(
    "statements",
    metadata,
    Column("puid", ID, primary_key=True),
    required("item", ID),
    required("revision", Integer, comment="revision of the item that took the hold"),
    required("policy", Text),
    required("body", Text),
    one_of(
        "state",
        "waiting",
        "sent",
        "refused",
        server_default="waiting",
        comment="refused: the transparency database rejects it as it is; a person looks at it (goodfaith statements)",
    ),
    required("next_wall", TIME, server_default=func.now(), comment="when it is due; a taker moves it ahead: its lease"),
    required("tries", Integer, server_default="0"),
    Column("error", Text, comment="why it was not sent at the last try, or was refused"),
    required("made_wall", TIME, server_default=func.now()),
    Column("ended_wall", TIME),
    UniqueConstraint("item", "revision"),
    Index("statements_due", "next_wall", postgresql_where=text("state = 'waiting'")),
    Index("statements_open", "state", postgresql_where=text("state <> 'sent'")),
    comment="One statement of reasons for each hold that an item took under a policy that asks for statements.",
)
sanctions = Table(
    "sanctions",
    metadata,
    Column("seller", ID, primary_key=True),
    Column("number", Integer, primary_key=True),
    required("sanction", ID, unique=True),
    one_of("scope", "own", "entity", comment="whose standing reached the threshold: the seller's or its entity's"),
    one_of("ledger", "general", "serious"),
    required("level", Integer, CheckConstraint("level > 0"), comment="number of the threshold in the policy, from 1"),
    required("measures", Text, comment="sorted, with commas between; empty: a warning"),
    required("withheld", Text, comment="measures that a prior warning replaces"),
    required("entry", Text, comment="ledger entry that crossed the threshold when the sanction began"),
    required("claim", Text),
    required("began", TIME),
    Column(
        "ends",
        TIME,
        comment="when its days are over; null: until the standing falls below the threshold, or it is lifted",
    ),
    one_of("state", "in_force", "lifted", "ended"),
    required("cause", Text, comment="of the last change: events.SanctionChanged"),
    Column("over_at", TIME),
    required(
        "stands",
        Boolean,
        comment="the threshold is answered by it, in force or not: no other sanction is due for the same crossing",
    ),
    Column("reason", Text, comment="code that an operator gave for lifting it"),
    Column(
        "after",
        TIME,
        comment="when the warning was given that a later violation turned into it; null: it was imposed for the threshold",
    ),
    CheckConstraint("(state = 'in_force') = (over_at is null)"),
    Index(
        "sanctions_open",
        "seller",
        postgresql_where=text(
            "(state = 'in_force') or stands or ((measures = '') and (state <> 'lifted')) or ((scope = 'entity') and cause in ('timer', 'operator'))"
        ),
    ),
    comment="Answers to thresholds that a standing reached (services/enforcement/sanctions.py). Never deleted.",
)
seller_deliveries = Table(
    "seller_deliveries",
    metadata,
    Column("command", ID, primary_key=True),
    required("seller", Text),
    required("partition", Integer),
    required("seq", Integer),
    required("body", Text),
    required("next_wall", TIME, server_default=func.now()),
    required("tries", Integer, server_default="0"),
    Column("error", Text),
    Index("seller_deliveries_due", "next_wall"),
    comment="As deliveries, for commands on sellers; body: the command as JSON.",
)
seller_receipts = Table(
    "seller_receipts",
    metadata,
    identity(),
    required("partition", Integer),
    required("command", Text),
    required("seller", Text),
    required("seq", Integer),
    required("result", Text),
    comment="As receipts, for the ledger's worker.",
)
seller_keys = Table(
    "seller_keys",
    metadata,
    one_of("kind", "registration", "payment", "device", primary_key=True),
    Column("digest", ID, primary_key=True),
    Column("seller", ID, primary_key=True),
    Index("seller_keys_seller", "seller"),
    comment="Keys of accounts, as last reported by the marketplace (marketplace.sellers). Written by ledger.",
)
entity_work = Table(
    "entity_work",
    metadata,
    identity(),
    required("seller", ID),
    Column("kind", Text),
    Column("digest", ID),
    comment="Marks: the account's history or (with kind) its hold of a key has changed. Written by ledger in the transaction of the change, deleted by entities in that of the count.",
)
common_keys = Table(
    "common_keys",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("digest", ID, primary_key=True),
    comment="Keys that more accounts share than the policy lets link; checked again when an account gets or loses one.",
)
entities = Table(
    "entities",
    metadata,
    Column("entity", ID, primary_key=True),
    required("general_points", Integer),
    required("serious_strikes", Integer),
    required("violations", Integer),
    Column("next_change", TIME),
    required("grounds", Text, comment="JSON: times for which thresholds were reached (sanctions.Ground)"),
    Column("last", TIME, comment="last violation in force of any of its accounts"),
    required("warned", ARRAY(TIME), comment="when its accounts were warned, as far as that is not taken back"),
    required("counted_at", TIME),
    Index("entities_next", "next_change", postgresql_where=text("next_change is not null")),
    comment="Where a business of two accounts and more stands, as of counted_at; exact until next_change, when it is counted again.",
)
entity_members = Table(
    "entity_members",
    metadata,
    Column("seller", ID, primary_key=True),
    required("entity", ID, ForeignKey("entities.entity", deferrable=True, initially="DEFERRED")),
    required(
        "entries",
        Integer,
        comment="standings.entries of the account when the entity was counted: higher by now, and it must be counted again",
    ),
    Index("entity_members_entity", "entity"),
)
relinked = Table(
    "relinked",
    metadata,
    identity(),
    required("partition", Integer),
    required("seller", ID),
    comment="Accounts whose entity has changed, until the ledger's worker that owns the partition takes them in.",
)
entity_rules = Table(
    "entity_rules",
    metadata,
    Column("one", Boolean, CheckConstraint("one"), primary_key=True, server_default="true"),
    required("rules", Text),
    comment="The rules by which entities were counted: when others are in force, all are counted again.",
)
