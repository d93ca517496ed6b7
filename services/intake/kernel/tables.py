"""Tables that several contexts use, and the runtime's. Row-level policies are in the migrations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)

from shared.columns import ID, TIME, XID8, identity, one_of, required
from shared.runtime.tables import runtime_tables

metadata = MetaData(schema="intake")
runtime_tables(metadata)
runtime_tables(metadata, "inbound_")

accounts = Table(
    "accounts",
    metadata,
    Column("id", ID, primary_key=True),
    one_of("role", "holder", "seller", "reviewer", "operator", "upstream"),
    one_of("kind", "person", "company"),
    required("identity_verified", Boolean, server_default="false"),
    required("good_faith", Boolean, server_default="false"),
    required("registered", Boolean, server_default="false"),
    required("opened_at", TIME),
    Column("opened_by", Text),
    one_of("status", "open", "suspended", "closed", server_default="open"),
    Column("email_confirmed_at", TIME),
    Column("record", Text),
    one_of("misuse", "clear", "warning", "quota", "suspension", server_default="clear"),
    Column("misuse_items", Integer),
    Column("misuse_until", Date),
    Column("erased_at", TIME),
    required("canary", Boolean, server_default="false"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    required("account", ID, ForeignKey("accounts.id")),
    required("expires_wall", TIME),
    required("created_wall", TIME, server_default=func.now()),
    required("name", Text, server_default=""),
    Column("revoked_wall", TIME),
    Index("tokens_account", "account"),
)
subject_keys = Table(
    "subject_keys",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    required("wrapped", LargeBinary),
)
contacts = Table(
    "contacts",
    metadata,
    Column("account", ID, ForeignKey("accounts.id"), primary_key=True),
    required("sealed", LargeBinary),
    required("changed_wall", TIME, server_default=func.now()),
    Column("named_wall", TIME),
    required(
        "fed",
        Boolean,
        server_default="false",
        comment="it came from the marketplace's feed; false: from the account itself",
    ),
)
former_names = Table(
    "former_names",
    metadata,
    identity(),
    required("account", ID, ForeignKey("accounts.id")),
    required("sealed", LargeBinary),
    required("until_wall", TIME, server_default=func.now()),
    Index("former_names_account", "account", "id"),
)
claims = Table(
    "claims",
    metadata,
    Column("id", ID, primary_key=True),
    required("complainant", ID),
    required("principal", ID),
    required("right_id", ID),
    required("right_type", Text),
    required("reason", Text),
    required("profile", Text),
    required("lane", Text),
    required("size", Integer),
    required("channel", Text),
    required("accepted_at", TIME),
    required("terms", Text),
    required("told_partition", Integer, comment="partition of filings on which it is published"),
    Column("via", ID),
    Index("claims_complainant", "complainant", "id"),
    Index("claims_principal", "principal", "id", postgresql_where=text("principal <> complainant")),
    Index("claims_told", "told_partition", "accepted_at"),
    Index("claims_right_id", "right_id", "id"),
)
items = Table(
    "items",
    metadata,
    Column("id", ID, primary_key=True),
    required("claim", ID),
    required("listing", ID),
    required("on_site", Boolean),
    required("link", Text),
    required("state", Text, server_default="RECEIVED"),
    required("revision", Integer, server_default="0"),
    Column("seller", ID),
    required("told", SmallInteger, server_default="0"),
    required("changed_at", TIME),
    Column("last", Text),
    required("taken_down", Boolean, server_default="false"),
    Column("triage", Text),
    Index("items_seller", "seller", "id", postgresql_where=text("seller is not null")),
)
commands = Table(
    "commands",
    metadata,
    Column("id", ID, primary_key=True),
    required("claim", ID),
    required("item", ID),
    required("kind", Text),
    required("by", ID),
    required("role", Text),
    required("accepted_at", TIME),
    one_of("status", "accepted", "applied", "refused", server_default="accepted"),
    Column("code", Text),
    Column("detail", Text),
    Column("via", ID),
    Column("text", ID, comment="id in texts; the commands of one request share it"),
    Column("revision", Integer, comment="of the item, by which it was applied"),
    Index("commands_item", "item", "id"),
)
texts = Table(
    "texts",
    metadata,
    Column("id", ID, primary_key=True, comment="of the claim or item explained, or of the request's first command"),
    required("claim", ID),
    required("account", ID, ForeignKey("accounts.id")),
    one_of("kind", "explanation", "counter", "response", "complaint"),
    required("sealed", LargeBinary),
    Index("texts_claim", "claim", "id"),
    Index("texts_account", "account", "id"),
)
admission_queue = Table(
    "admission_queue",
    metadata,
    identity(),
    one_of("kind", "submit", "command", "account", "filing"),
    required("lane", Text),
    required("complainant", ID),
    required("partition", Integer),
    required("claim", ID),
    required("item", ID),
    required("listing", ID),
    required("on_site", Boolean, server_default="true"),
    Column("type", Text),
    Column("payload", Text),
    required("accepted_at", TIME),
    Column("traceparent", Text),
    Index(
        "admission_queue_commands",
        "partition",
        "accepted_at",
        "id",
        postgresql_where=text("kind in ('command', 'account')"),
    ),
    Index("admission_queue_lanes", "lane", "partition", "complainant", "id", postgresql_where=text("kind = 'submit'")),
    Index("admission_queue_items", "item", postgresql_where=text("kind = 'submit'")),
    Index("admission_queue_filings", "partition", "id", postgresql_where=text("kind = 'filing'")),
)
admission_time = Table(
    "admission_time",
    metadata,
    Column("one", Boolean, CheckConstraint("one"), primary_key=True, server_default="true"),
    Column("upto", TIME),
    required("turn", BigInteger, server_default="0"),
)
right_jobs = Table(
    "right_jobs",
    metadata,
    Column("right_id", ID, primary_key=True),
    Column("agent", ID, primary_key=True, server_default=""),
    Column("principal", ID, primary_key=True, server_default=""),
    Column("after", XID8),
    required("next", ID, server_default=""),
    required("again", Boolean, server_default="false"),
    required("turn", BigInteger, server_default="0"),
    required("since_wall", TIME, server_default=func.now()),
)
_event_log = metadata.tables["intake.event_log"]
# for the stream views
Index(
    "event_log_filings",
    _event_log.c.partition,
    _event_log.c.seq,
    postgresql_where=text("type = 'goodfaith.claim.filed.v1'"),
)
Index(
    "event_log_accounts",
    _event_log.c.partition,
    _event_log.c.seq,
    postgresql_where=text(
        "type in ('goodfaith.account.notice.v1', 'goodfaith.account.channels.v1', 'goodfaith.message.read.v1',"
        " 'goodfaith.account.erased.v1', 'goodfaith.sanction.lift.v1')"
    ),
)
