"""The checks of `goodfaith verify`, one function each: what must hold between the services' data at rest.

A finding is ``lost`` (something accepted or decided has no effect), ``doubled`` (it has an effect twice) or a
``problem`` (data that must agree do not, or something waits for a person).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from services.ops.verify.entity_checks import entity_members, entity_standings
from services.ops.verify.evidence import FILED, SUBMITTED, Category, Evidence, Finding, Tally
from services.ops.verify.item_model import ENDED, UPHELD
from services.ops.verify.penalty_model import Violation, costs, standing
from services.ops.verify.sanction_checks import sanctioned, sellers_told
from services.ops.verify.telling import CLOSED, WINDOW_KINDS
from shared import policy, topics
from shared.events import ItemSubmitted

Check = Callable[[Evidence], list[Finding]]
# a dead letter waits for a person and is reported as such: what depends on it is not reported as lost too
_NOT_PARKED: Final = "not in (select key from {schema}.{prefix}dead_letters where state <> 'done')"
_NOT_HELD: Final = _NOT_PARKED.format(schema="intake", prefix="")
_WAITING: Final = _NOT_PARKED.format(schema="verification", prefix="")


def _list(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


# --------------------------------------------------------------------------------------- group commit and admission


def submissions(e: Evidence) -> list[Finding]:
    """Every accepted submission has its claim or commands, with everything that the answer named."""
    return [
        *e.find(
            "lost",
            "claim-missing",
            "select s.resource from intake.submissions s left join intake.claims c on c.id = s.resource"
            " where starts_with(s.resource, 'c-') and c.id is null",
        ),
        *e.find(
            "lost",
            "command-missing",
            "select s.resource from intake.submissions s left join intake.commands k on k.id = s.resource"
            " where starts_with(s.resource, 'k-') and k.id is null",
        ),
        *e.find(
            "lost",
            "acknowledged-item-missing",
            "select n.item from (select jsonb_array_elements(answer::jsonb -> 'items') ->> 'item' as item"
            " from intake.submissions where starts_with(resource, 'c-')) n"
            " left join intake.items i on i.id = n.item where i.id is null",
        ),
        *e.find(
            "problem",
            "claim-unasked",
            "select c.id from intake.claims c left join intake.submissions s on s.resource = c.id where s.resource is null",
        ),
        *e.find(
            "doubled",
            "submission-twice",
            "select resource from intake.submissions group by resource having count(*) > 1",
        ),
    ]


def claim_items(e: Evidence) -> list[Finding]:
    """Every claim has as many items as it says."""
    counted = (
        "select c.id || ': ' || coalesce(n, 0) || ' of ' || size from intake.claims c"
        " left join (select claim, count(*) as n from intake.items group by claim) i on i.claim = c.id"
    )
    return [
        *e.find("lost", "items-missing", f"{counted} where coalesce(n, 0) < size"),
        *e.find("doubled", "items-too-many", f"{counted} where n > size"),
        *e.find(
            "problem",
            "item-without-claim",
            "select i.id from intake.items i left join intake.claims c on c.id = i.claim where c.id is null",
        ),
    ]


def items_published(e: Evidence) -> list[Finding]:
    """Every item was published exactly once, or waits for admission, or for the end of a suspension."""
    counted = (
        "select i.id from intake.items i left join (select item, count(*) as n from"
        f" (select item from v_filed where type = '{SUBMITTED}' union all"
        " select item from intake.admission_queue where kind = 'submit' union all select item from intake.held_items) t group by item) p on p.item = i.id"
    )
    return [
        *e.find("lost", "item-unpublished", f"{counted} where n is null and 'admission:' || i.listing {_NOT_HELD}"),
        *e.find("doubled", "item-published-twice", f"{counted} where n > 1"),
        *e.find(
            "problem",
            "item-unaccepted",
            f"select f.item from v_filed f left join intake.items i on i.id = f.item where f.type = '{SUBMITTED}' and i.id is null",
        ),
    ]


def claims_told(e: Evidence) -> list[Finding]:
    """Every claim was announced exactly once, as it is, or waits for admission.

    Claims from a version that announced none are not expected.
    """
    told = (
        "(select partition, d ->> 'claim' as claim, d ->> 'account' as account, (d ->> 'items')::int as items,"
        " d ->> 'right_type' as right_type, d ->> 'channel' as channel, (d ->> 'at')::timestamptz as at,"
        " coalesce((d ->> 'canary')::bool, false) as canary from (select partition, payload::jsonb -> 'data' as d"
        f" from intake.event_log where type = '{FILED}' union all"
        " select partition, payload::jsonb from intake.admission_queue where kind = 'filing') t)"
    )
    counted = (
        f"select c.id from intake.claims c left join (select claim, count(*) as n from {told} t group by claim) t"
        " on t.claim = c.id"
    )
    return [
        *e.find(
            "lost",
            "claim-untold",
            f"{counted} where t.n is null and c.told_partition is not null and 'admission:' || c.complainant {_NOT_HELD}",
        ),
        *e.find("doubled", "claim-told-twice", f"{counted} where t.n > 1"),
        *e.find(
            "problem",
            "claim-told-wrong",
            f"select t.claim from {told} t left join intake.claims c on c.id = t.claim where"
            " (t.account, t.items, t.right_type, t.channel, t.at, t.partition, t.canary) is distinct from"
            " (c.complainant, c.size, c.right_type, c.channel, c.accepted_at, c.told_partition, c.channel = 'canary')",
        ),
    ]


def published_as_filed(e: Evidence) -> list[Finding]:
    """What intake published of items and commands is what was filed."""
    own = "array['item', 'listing', 'on_site', 'accepted_at']"
    # a field with its default value may be left out
    absent = {field.name: field.default for field in msgspec.structs.fields(ItemSubmitted) if not field.required}
    defaults = f"'{msgspec.json.encode(absent).decode()}'::jsonb"
    # an item that waited for the end of a suspension counts from then on
    held = (
        "exists (select from intake.misuse_measures m where m.account = c.complainant and m.kind = 'suspension'"
        " and (d ->> 'accepted_at')::timestamptz > c.accepted_at)"
    )
    columns = (
        "c.id, c.complainant, c.principal, c.right_id, c.right_type, c.reason, c.profile, c.lane, c.size, c.accepted_at"
    )
    terms = (
        "t ->> 'claim', t ->> 'complainant', t ->> 'principal', t ->> 'right', t ->> 'right_type', t ->> 'reason',"
        " t ->> 'profile', coalesce(t ->> 'lane', 'standard'), (t ->> 'claim_size')::int, (t ->> 'accepted_at')::timestamptz"
    )
    return [
        *e.find(
            "problem",
            "claim-differs",
            f"select c.id from (select *, terms::jsonb as t from intake.claims) c where ({columns}) is distinct from ({terms})",
        ),
        *e.find(
            "problem",
            "item-published-wrong",
            f"with c as materialized (select id, complainant, accepted_at, {defaults} || terms::jsonb - {own} as terms from intake.claims)"
            # offset 0: each payload is parsed once
            " select i.id from (select payload::jsonb -> 'data' as d from intake.event_log"
            f" where type = '{SUBMITTED}' offset 0) l join intake.items i on i.id = d ->> 'item' join c on c.id = i.claim"
            f" where {defaults} || d - {own} is distinct from c.terms or d ->> 'listing' <> i.listing"
            " or coalesce((d ->> 'on_site')::bool, true) <> i.on_site"
            f" or ((d ->> 'accepted_at')::timestamptz <> c.accepted_at and not {held})",
        ),
        *e.find(
            "problem",
            "command-published-wrong",
            "select k.id from (select type, payload::jsonb -> 'data' as d from intake.event_log"
            " where starts_with(type, 'goodfaith.command.') offset 0) l join intake.commands k on k.id = d ->> 'command'"
            " where (split_part(type, '.', 3), d ->> 'item', d ->> 'claim', d ->> 'by', d ->> 'role', (d ->> 'accepted_at')::timestamptz)"
            " is distinct from (k.kind, k.item, k.claim, k.by, k.role, k.accepted_at)",
        ),
    ]


def commands_published(e: Evidence) -> list[Finding]:
    """Every command was published exactly once after its item, or waits for admission."""
    counted = (
        "select k.id from intake.commands k left join (select command, count(*) as n from"
        " (select command from v_filed where command is not null union all"
        " select payload::jsonb ->> 'command' from intake.admission_queue where kind = 'command') t group by command) p on p.command = k.id"
    )
    return [
        *e.find(
            "lost",
            "command-unpublished",
            f"{counted} join intake.items i on i.id = k.item where n is null and 'admission:' || i.listing {_NOT_HELD}",
        ),
        *e.find("doubled", "command-published-twice", f"{counted} where n > 1"),
        *e.find(
            "problem",
            "command-unaccepted",
            "select f.command from v_filed f left join intake.commands k on k.id = f.command"
            " where f.command is not null and k.id is null",
        ),
        *e.find(
            "problem",
            "command-before-item",
            "select k.command from v_filed k join v_filed i on i.item = k.item and i.partition = k.partition"
            f" where k.command is not null and i.type = '{SUBMITTED}' and k.seq < i.seq",
        ),
    ]


def items_judged(e: Evidence) -> list[Finding]:
    """Verification knows every published item, and no others."""
    return [
        *e.find(
            "lost",
            "item-unjudged",
            "select f.item from v_filed f join intake.items n on n.id = f.item left join verification.items i on i.item = f.item"
            f" where f.type = '{SUBMITTED}' and i.item is null and n.listing {_WAITING}",
        ),
        *e.find(
            "problem",
            "item-unfiled",
            "select i.item from verification.items i left join v_filed f on f.item = i.item"
            f" and f.type = '{SUBMITTED}' where f.item is null",
        ),
    ]


def commands_ended(e: Evidence) -> list[Finding]:
    """Every command was applied or refused, once, and the read model shows it."""
    ends = (
        "(select command, 'applied' as status from v_change where command is not null"
        " union all select command, 'refused' from v_refused)"
    )
    # a right's change without effect on an item leaves no trace
    open_ = "k.kind <> 'change_right'"
    return [
        *e.find(
            "lost",
            "command-open",
            f"select k.id from intake.commands k left join {ends} c on c.command = k.id join intake.items i on i.id = k.item"
            f" where c.command is null and {open_} and i.listing {_WAITING}"
            " and not exists (select from intake.admission_queue d where d.kind = 'command' and d.item = k.item)",
        ),
        *e.find("doubled", "command-ended-twice", f"select command from {ends} c group by command having count(*) > 1"),
        *e.find(
            "problem",
            "command-status",
            f"select k.id || ': ' || k.status || ', not ' || c.status from intake.commands k join {ends} c on c.command = k.id"
            " where k.status <> c.status",
        ),
        *e.find(
            "problem",
            "command-status",
            f"select k.id || ': ' || k.status from intake.commands k left join {ends} c on c.command = k.id"
            " where k.status <> 'accepted' and c.command is null",
        ),
        *e.find(
            "problem",
            "command-unknown",
            f"select c.command from {ends} c left join intake.commands k on k.id = c.command where k.id is null",
        ),
    ]


# ----------------------------------------------------------------------------------------------------- logs and topics


def event_logs(e: Evidence) -> list[Finding]:
    """Logs have no gaps, their hash chains hold, and the partitions' rows name their heads."""
    found = []
    for reader in e.readers:
        table = f"{reader.schema}.{reader.prefix}"
        chain = (
            f"(select partition, seq, hash, payload, lag(hash, 1, '') over w as before, lag(seq, 1, 0::bigint) over w as prior"
            f" from {table}event_log window w as (partition by partition order by seq)) t"
        )
        place = f"'{reader.name}.' || partition || '.' || seq"
        found += e.find("lost", "log-gap", f"select {place} || ' after ' || prior from {chain} where seq <> prior + 1")
        found += e.find(
            "problem",
            "log-chain",
            f"select {place} from {chain} where hash <> encode(sha256(convert_to(before || payload, 'UTF8')), 'hex')"
            f' or not starts_with(payload, \'{{"specversion":"1.0","id":"\' || {place} || \'"\')',
        )
        found += e.find(
            "problem",
            "log-head",
            f"select '{reader.name}.' || coalesce(p.partition, l.partition) from {table}partitions p"
            f" full join (select distinct on (partition) partition, seq, hash from {table}event_log"
            " order by partition, seq desc) l on l.partition = p.partition"
            " where p.seq is distinct from coalesce(l.seq, 0) or p.hash is distinct from coalesce(l.hash, '')",
        )
        found += e.find(
            "problem",
            "unpublished",
            f"select '{reader.name}.' || partition || ': ' || published_upto || ' of ' || seq from {table}partitions"
            " where published_upto <> seq",
        )
    return merged(found)


def on_topics(e: Evidence) -> list[Finding]:
    """Every log row is on its topic, and every record there is a log row, byte by byte, in its partition."""
    pairs = "from v_log l full join v_rec r on r.id = l.id and r.topic = l.topic and r.partition = l.target"
    upto = " union all ".join(
        f"select '{r.name}' as writer, partition, published_upto from {r.schema}.{r.prefix}partitions"
        for r in e.readers
    )
    ours = _list(e.name(topic) for topic in e.topics())
    compacted = _list(e.name(topic) for topic in topics.TOPICS if topic.compacted)
    there = "from v_log l join v_rec r on r.id = l.id and r.topic = l.topic and r.partition = l.target"
    return [
        *e.find(
            "lost",
            "not-on-topic",
            "with missing as materialized (select l.* from v_log l left join v_rec r on r.id = l.id and r.topic = l.topic"
            f" and r.partition = l.target join ({upto}) p on p.writer = l.writer and p.partition = l.partition"
            f" where r.id is null and l.topic in ({ours}) and l.seq <= p.published_upto),"
            f" firsts as (select l.writer, l.partition, l.topic, l.target, min(l.seq) as seq {there} group by 1, 2, 3, 4),"
            f" lasts as (select l.topic, l.partition, l.key, max(l.seq) as seq {there} where l.topic in ({compacted}) group by 1, 2, 3)"
            " select m.id from missing m left join v_ends n on n.topic = m.topic and n.partition = m.target"
            " left join firsts f on f.writer = m.writer and f.partition = m.partition and f.topic = m.topic and f.target = m.target"
            f" left join lasts z on z.partition = m.partition and z.key = m.key and z.topic = m.topic"
            # retention deleted it, with everything before its writer's first record that is still there
            " where not (coalesce(n.first, 0) > 0 and m.seq < coalesce(f.seq, m.seq + 1))"
            # compaction deleted it: a later one of the key is there
            " and coalesce(z.seq, 0) < m.seq",
        ),
        *e.find(
            "problem",
            "foreign-record",
            f"select r.topic || '/' || r.partition || '@' || r.\"offset\" || ' ' || coalesce(r.id, '?') {pairs} where l.id is null",
        ),
        *e.find(
            "problem",
            "record-altered",
            f"select l.id || ' at ' || r.topic || '/' || r.partition || '@' || r.\"offset\" {pairs} where r.sum <> l.sum",
        ),
    ]


def links(e: Evidence) -> list[Finding]:
    """Each event names the row that its log published before it to the partition, and topics keep that order."""
    compacted = _list(e.name(topic) for topic in topics.TOPICS if topic.compacted)
    return [
        *e.find(
            "problem",
            "link-wrong",
            "select id || ' names ' || previous || ', not ' || before from (select id, previous, lag(seq, 1, 0::bigint) over"
            " (partition by writer, partition, topic, target order by seq) as before from v_log) t where previous <> before",
        ),
        *e.find(
            "problem",
            "topic-unlinked",  # if sent again, either may be there again
            "with there as materialized (select l.writer, l.partition, l.topic, l.target, l.seq, l.previous, l.id, r.first, r.last from"
            ' (select id, topic, partition, min("offset") as first, max("offset") as last from v_rec'
            f" where topic not in ({compacted}) group by id, topic, partition) r"
            " join v_log l on l.id = r.id and l.topic = r.topic and l.target = r.partition)"
            " select n.id || ' before ' || p.id from there n join there p on p.writer = n.writer and p.partition = n.partition"
            " and p.seq = n.previous and p.topic = n.topic and p.target = n.target where p.first > n.last",
        ),
    ]


def topic_order(e: Evidence) -> list[Finding]:
    """For each key, first occurrences on a topic are in the order of the log."""
    return e.find(
        "problem",
        "topic-disorder",
        "select id || ' after ' || prior from (select l.id, l.seq, lag(l.seq) over w as before, lag(l.id) over w as prior"
        ' from (select id, topic, partition, min("offset") as at from v_rec group by id, topic, partition) r'
        " join v_log l on l.id = r.id and l.topic = r.topic and l.target = r.partition"
        " window w as (partition by l.topic, l.target, l.writer, l.partition, l.key order by r.at)) t where before > seq",
    )


def watermarks(e: Evidence) -> list[Finding]:
    """Every watermark on a topic was true: no command accepted up to it was published after it."""
    name = e.name(topics.INTAKE)
    # a row whose first record is gone and that was sent again is not meant: its log had gone further before it
    return e.find(
        "problem",
        "watermark-false",
        'with firsts as (select l.id, l.target, l.seq, f.accepted_at, f.command, r.at from (select id, partition, min("offset") as at'
        f" from v_rec where topic = '{name}' group by id, partition) r join v_log l on l.id = r.id and l.target = r.partition"
        " join v_filed f on f.partition = l.partition and f.seq = l.seq where l.writer = 'intake'),"
        " both_ as (select id, target, seq, case when command is not null then accepted_at end as accepted_at, at,"
        ' null::timestamptz as upto from firsts union all select null, partition, null, null, "offset", upto from v_mark),'
        " told as (select *, max(upto) over w as known, max(seq) over w as before from both_"
        " window w as (partition by target order by at rows between unbounded preceding and 1 preceding))"
        " select t.id || ', accepted at ' || t.accepted_at || ', after ' || t.known from told t"
        f" join v_ends n on n.topic = '{name}' and n.partition = t.target where t.accepted_at <= t.known"
        " and (n.first = 0 or t.seq > t.before)",
    )


def order_applied(e: Evidence) -> list[Finding]:
    """For each key, the effects of a topic's events are in the reader's log in the order of the events."""
    return e.find(
        "problem",
        "applied-disorder",
        "select id || ' by ' || cause || ' after ' || prior from (select l.id, l.cause, c.seq, lag(c.seq) over w as before,"
        " lag(l.cause) over w as prior from v_log l join v_log c on c.id = l.cause"
        " window w as (partition by l.writer, l.partition, c.writer, c.partition, c.topic, c.key order by l.seq)) t where before > seq",
    )


def _unread(table: str, topic: str) -> str:
    """SQL condition: a reader has not read the row ``l`` of a log. Only this knows how readers record that."""
    return (
        f"not exists (select from {table}reads n where n.topic = '{topic}' and n.partition = l.target and n.writer = l.writer"
        " and n.log_partition = l.partition and l.seq <= n.seq)"
        # readers know events from outside by their id
        f" and not exists (select from {table}inbox i where i.event_id = l.id)"
    )


def applied(e: Evidence) -> list[Finding]:
    """Every row of a log was read by every reader of its topic, or is there to be read; and nothing else was read.

    So a record that retention deleted before it was read is found missing.
    """
    found = []
    heads = " union all ".join(
        f"select '{r.name}' as writer, partition, seq, published_upto from {r.schema}.{r.prefix}partitions"
        for r in e.readers
    )
    for reader in e.readers:
        table = f"{reader.schema}.{reader.prefix}"
        found += e.find(
            "problem",
            "read-beyond-log",
            f"select '{reader.name}: ' || n.topic || ' ' || n.writer || '.' || n.log_partition || '.' || n.seq from {table}reads n"
            f" left join ({heads}) h on h.writer = n.writer and h.partition = n.log_partition where n.seq > coalesce(h.seq, 0)",
        )
        # with its offsets, a worker commits the head of its log
        own = f"select distinct partition, seq, hash from v_group where reader = '{reader.name}' and seq is not null"
        found += e.find(
            "lost",
            "log-cut",
            f"select '{reader.name}.' || g.partition || '.' || g.seq from ({own}) g left join {table}partitions p"
            " on p.partition = g.partition where g.seq > coalesce(p.seq, 0)",
        )
        found += e.find(
            "problem",
            "log-rewritten",
            f"select '{reader.name}.' || g.partition || '.' || g.seq from ({own}) g join {table}event_log l"
            " on l.partition = g.partition and l.seq = g.seq where not starts_with(l.hash, g.hash)",
        )
        for topic in reader.reads:
            name = e.name(topic)
            cursor = f"left join {table}cursors c on c.topic = '{topic.name}' and c.partition"
            there = (
                "" if not topic.compacted else " and r.id is not null"
            )  # what a later record of the key replaced is gone
            found += e.find(
                "lost",
                "not-applied",
                f"select '{reader.name}: ' || l.id from v_log l join ({heads}) h on h.writer = l.writer and h.partition = l.partition"
                f" left join (select id, partition, min(\"offset\") as at from v_rec where topic = '{name}' group by id, partition) r"
                f" on r.id = l.id and r.partition = l.target {cursor} = l.target where l.topic = '{name}'"
                f" and l.seq <= h.published_upto and (r.id is null or r.at < coalesce(c.next_offset, 0)){there}"
                f" and {_unread(table, topic.name)} and not exists (select from {table}dead_letters p where p.topic = '{topic.name}'"
                ' and (p.event_id = l.id or (p.partition = r.partition and p."offset" = r.at)))',
            )
            found += e.find(
                "problem",
                "unread",
                f"select '{reader.name}: ' || r.topic || '/' || r.partition from v_rec r {cursor} = r.partition where r.topic = '{name}'"
                ' and r."offset" >= coalesce(c.next_offset, 0) group by r.topic, r.partition',
            )
            found += e.find(
                "problem",
                "cursor-beyond-end",
                f"select '{reader.name}: {topic.name}/' || c.partition || ' ' || c.next_offset || ' > ' || n.next"
                f" from {table}cursors c join v_ends n on n.topic = '{name}' and n.partition = c.partition"
                f" where c.topic = '{topic.name}' and c.next_offset > n.next",
            )
            found += e.find(
                "lost",
                "unread-gone",
                f"select '{reader.name}: {topic.name}/' || c.partition || ' ' || c.next_offset || ' < ' || n.first"
                f" from {table}cursors c join v_ends n on n.topic = '{name}' and n.partition = c.partition"
                f" where c.topic = '{topic.name}' and c.next_offset < n.first",
            )
            # a worker commits at the broker what its database has: if there is more, the database had it once
            found += e.find(
                "lost",
                "database-behind",
                f"select '{reader.name}: {topic.name}/' || g.partition || ' ' || coalesce(c.next_offset, 0) || ' < ' || g.next"
                f" from v_group g {cursor} = g.partition where g.reader = '{reader.name}' and g.topic = '{topic.name}'"
                " and g.next > coalesce(c.next_offset, 0)",
            )
        if reader.reads and set(reader.reads) <= set(e.topics()):
            found += e.find(
                "problem",
                "applied-unknown",
                f"select '{reader.name}: ' || i.event_id from {table}inbox i left join v_log l on l.id = i.event_id"
                " where l.id is null",
            )
    # ids name their rows: those beyond the head were in the log once
    found += e.find(
        "lost",
        "log-cut",
        "select r.id from (select distinct r.id from v_rec r left join v_log l on l.id = r.id where l.id is null"
        f" and r.id ~ '^[a-z-]+[.][0-9]{{1,9}}[.][0-9]{{1,18}}$') r left join ({heads}) h on h.writer = split_part(r.id, '.', 1)"
        " and h.partition = split_part(r.id, '.', 2)::bigint where split_part(r.id, '.', 3)::bigint > coalesce(h.seq, 0)",
    )
    return merged(found)


def upstreams(e: Evidence) -> list[Finding]:
    """Every record of an upstream up to intake's cursor was answered: accepted under its id, or refused with a reason.

    This looks at what came of the existing records, not at what intake says it has read: a topic that was created
    again has the same offsets as before, but other records.
    """
    if not e.settings.upstreams:
        return []
    prefix = e.settings.topic_prefix
    places = f"intake.inbound_cursors c join v_ends n on n.topic = '{prefix}' || c.topic and n.partition = c.partition"
    refused = (
        "(select d ->> 'topic' as topic, (d ->> 'partition')::int as partition, (d ->> 'offset')::bigint as \"offset\", d ->> 'event' as event"
        " from (select payload::jsonb -> 'data' as d from intake.inbound_event_log where type = 'goodfaith.inbound.refused.v1') t)"
    )
    return [
        *e.find(
            "lost",
            "upstream-unanswered",
            "select u.topic || '/' || u.partition || '@' || u.\"offset\" from v_asked u join intake.inbound_cursors c"
            f" on '{prefix}' || c.topic = u.topic and c.partition = u.partition left join {refused} x"
            f' on \'{prefix}\' || x.topic = u.topic and x.partition = u.partition and x."offset" = u."offset"'
            " and (x.event is null or x.event = u.id)"
            ' where u."offset" < c.next_offset and x.topic is null'
            f" and not exists (select from intake.submissions s where s.idempotency_key = u.id and s.account in ({_list(e.settings.upstreams.values())}))",
        ),
        *e.find(
            "problem",
            "upstream-unread",
            f"select c.topic || '/' || c.partition || ': ' || c.next_offset || ' of ' || n.next from {places}"
            " where c.next_offset < n.next",
        ),
    ]


def parked(e: Evidence) -> list[Finding]:
    """There is no open dead letter."""
    return merged(
        finding
        for r in e.readers
        for finding in e.find(
            "problem",
            "parked",
            f"select '{r.name}: ' || topic || ' ' || coalesce(event_id, '\"' || key || '\"') || ': ' || left(error, 120)"
            f" from {r.schema}.{r.prefix}dead_letters where state <> 'done'",
        )
    )


def causes(e: Evidence) -> list[Finding]:
    """Every effect has a cause: an event of an input topic, a message that was sent, or a timer."""
    reads = " union all ".join(
        f"select '{r.name}' as writer, '{e.name(topic)}' as topic" for r in e.readers for topic in r.reads
    )
    # what comes by a service's own queue: seeds and HTTP requests at the marketplace, receipts that came by HTTP
    queued = (
        "(l.writer = 'marketplace' and (starts_with(l.cause, 'seed.') or starts_with(l.cause, 'http.')))"
        " or (l.writer in ('enforcement', 'enforcement-ledger') and starts_with(l.cause, 'receipt.')) or l.writer in ('notification', 'intake-inbound')"
    )
    if not e.has("marketplace"):
        outside = _list(e.name(topic) for topic in topics.TOPICS if topic.writer == "marketplace")
        queued += f" or exists (select from ({reads}) n where n.writer = l.writer and n.topic in ({outside}))"
    found = [
        *e.find(
            "problem",
            "cause-unknown",
            f"select l.id || ' by ' || l.cause from v_log l left join v_log c on c.id = l.cause"
            f" left join ({reads}) n on n.writer = l.writer and n.topic = c.topic"
            f" where l.cause is not null and n.topic is null and not ({queued})",
        ),
        *e.find(
            "problem",
            "uncaused",
            "select id || ' ' || type from v_log where cause is null and type <> 'goodfaith.dead_letter.v1' and not ("
            "writer in ('intake', 'intake-inbound')"
            " or (writer = 'verification' and starts_with(type, 'goodfaith.item.'))"
            " or (writer in ('verification', 'enforcement') and type = 'goodfaith.marketplace.command.v1')"
            " or (writer = 'notification' and type = 'goodfaith.webhook.disabled.v1')"
            " or (writer = 'enforcement-ledger' and type in ('goodfaith.standing.changed.v1', 'goodfaith.sanction.changed.v1',"
            " 'goodfaith.penalty.entered.v1',"
            " 'goodfaith.marketplace.seller_command.v1')))",
        ),
        *e.find(
            "problem",
            "timer-early",
            "select c.item || ' ' || c.rule from v_change c join verification.partitions p on p.partition = c.partition"
            " where not c.caused and (p.watermark is null or c.at > p.watermark)",
        ),
        # a timer fires by what its worker had read, never by a watermark published after its transaction began
        *e.find(
            "problem",
            "timer-early",
            "with timers as (select c.item || ' ' || c.rule as name, c.partition, c.at, l.recorded_wall from v_change c"
            " join verification.event_log l on l.partition = c.partition and l.seq = c.seq where not c.caused"
            # a duplicate that its original's end reopened is judged at that time, not by a timer
            ' and strpos(l.payload, \'"previous":"DUPLICATE"\') = 0),'
            " both_ as (select null as name, partition, upto, null::timestamptz as at, wall from v_mark union all"
            f" select name, partition, null, at, recorded_wall + interval '{e.settings.broker_skew_ms} ms' from timers)"
            " select name || ' of ' || at || ', known was ' || known from (select *, max(upto) over (partition by partition"
            # watermarks that retention deleted do no harm: nothing is then known of the time before the first that is
            # left
            " order by wall, at nulls first rows unbounded preceding) as known from both_) t where at > known",
        ),
    ]
    if e.has("notification"):
        found += e.find(
            "problem",
            "cause-unknown",
            "select l.id || ' by ' || l.cause from v_log l left join notification.messages m on m.id = l.cause"
            " where l.writer = 'notification' and l.cause is not null and (m.id is null or m.sent_at is null)",
        )
    return merged(found)


# ------------------------------------------------------------------------------------------------------------- items


def folds(e: Evidence) -> list[Finding]:
    """The stored items are the fold of verification's log (compared while the log was read)."""
    return e.folding.findings()


def deadlines(e: Evidence) -> list[Finding]:
    """No item is open past its deadline, and no window waits for a notice that was sent."""
    return [
        *e.find(
            "problem",
            "deadline-passed",
            "select i.item || ' in ' || i.state from verification.items i join verification.partitions p"
            f" on p.partition = i.partition where i.next_due <= p.watermark and i.listing {_WAITING}",
        ),
        *e.find(
            "problem",
            "window-not-begun",
            "select item || ' in ' || state from v_item where state in ('NOTIFIED', 'NEEDS_INFO', 'HOLDER_RESPONSE')"
            f" and awaits and listing {_WAITING}",
        ),
        *e.find(
            "problem",
            "no-exit",
            "select item || ' in ' || state from verification.items where next_due is null and state not in"
            f" ({_list([*UPHELD, *ENDED, 'UNDER_REVIEW', 'NOTIFIED', 'NEEDS_INFO', 'HOLDER_RESPONSE'])})",
        ),
    ]


def sla(e: Evidence) -> list[Finding]:
    """Each handled item met or missed the 24-hour target, once, and was reported overdue at most once."""
    return [
        *e.find(
            "problem",
            "sla-open",
            "select item from v_item where handled_at is not null and sla is null",
        ),
        *e.find(
            "doubled",
            "sla-twice",
            "select item from v_change where rule = '5-overdue' group by item having count(*) > 1",
        ),
        *e.find(
            "problem",
            "hold-without-receipt",
            f"select item from v_item where held and handled_at is null and listing {_WAITING}",
        ),
    ]


def duplicates(e: Evidence) -> list[Finding]:
    """No duplicate is left waiting after its original has ended without a takedown."""
    ended = _list(ENDED - {"DUPLICATE"})
    return e.find(
        "lost",
        "duplicate-not-reopened",
        "select d.item || ' of ' || o.item || ' in ' || o.state from verification.items d"
        f" join verification.items o on o.item = d.original where d.state = 'DUPLICATE' and o.state in ({ended})",
    )


def recurrences(e: Evidence) -> list[Finding]:
    """Each near copy was found once. Claims filed for them, and no others, link to the items they recur from."""
    filed = "(select id, terms::jsonb ->> 'recurs' as recurs from intake.claims where channel = 'recurrence')"
    return [
        *e.find(
            "doubled",
            "recurrence-twice",
            "select listing || ' ' || right_id from v_recurrence group by listing, right_id having count(*) > 1",
        ),
        *e.find(
            "problem",
            "recurrence-untold",
            "select coalesce(v.listing, r.listing) || ' ' || coalesce(v.right_id, r.right_id) from v_recurrence v"
            " full join (select * from verification.recurrences where item is not null) r"
            " on r.listing = v.listing and r.right_id = v.right_id where v.item is distinct from r.item",
        ),
        *e.find(
            "problem",
            "recurrence-unfounded",
            f"select c.id from {filed} c join intake.items i on i.claim = c.id left join v_recurrence v"
            " on v.item = c.recurs and v.listing = i.listing where v.item is null",
        ),
        *e.find(
            "problem",
            "recurrence-unlinked",
            "select i.item || ' of ' || i.recurs from (select distinct item, claim, recurs from v_change where recurs is not null) i"
            f" left join {filed} c on c.id = i.claim where i.recurs is distinct from c.recurs",
        ),
        *e.find(
            "problem",
            "recurrence-known",
            "select u.item || ' in ' || coalesce(i.state, 'nothing') from verification.upheld u"
            f" left join verification.items i on i.item = u.item where i.item is null or i.state not in ({_list(UPHELD)})",
        ),
    ]


def read_model(e: Evidence) -> list[Finding]:
    """What intake shows of items is what verification holds, and timelines have no gaps."""
    return [
        *e.find(
            "problem",
            "read-model-item",
            "select v.item || ': ' || coalesce(i.state || '/' || i.revision, 'nothing') || ', not ' || v.state || '/' || v.revision"
            " from v_item v left join intake.items i on i.id = v.item where i.state is distinct from v.state"
            " or i.revision <> v.revision or i.listing <> v.listing or i.claim <> v.claim"
            " or i.seller is distinct from v.seller",
        ),
        *e.find(
            "problem",
            "read-model-item",
            "select i.id from intake.items i left join v_item v on v.item = i.id"
            " where v.item is null and i.revision > 0",
        ),
        *e.find(
            "lost",
            "timeline-gap",
            "select c.item || '/' || c.revision from v_change c left join intake.timeline t on t.item = c.item"
            f" and t.revision = c.revision where t.item is null and c.listing {_NOT_PARKED.format(schema='intake', prefix='')}",
        ),
        *e.find(
            "problem",
            "timeline-differs",
            "select t.item || '/' || t.revision from intake.timeline t left join v_change c on c.item = t.item"
            " and c.revision = t.revision where c.item is null or c.type <> t.type or c.state <> t.state or c.at <> t.at",
        ),
    ]


_RECOUNT: Final = """
    with steps as (
        select item, revision, complainant, reason, state, code, settled, recurs, canary, (at at time zone 'UTC')::date as day,
            bool_or(held) over w as down, lag(place) over w is distinct from place or state = 'WITHDRAWN' as entered
        -- what is settled in NOTIFIED stands, where no window runs
        from (select *, case when state = 'NOTIFIED' and settled then 'STANDS' else state end as place from v_change) c
        window w as (partition by item order by revision)
    ), lasts as (select distinct on (item) * from steps where entered order by item, revision desc)
    select item, complainant as account, reason, day, case when starts_with(state, 'UPHELD') or state = 'NOTIFIED' then 'upheld'
        when not down then 'declined' when state = 'RESTORED' or (state = 'WITHDRAWN' and code = 'error') then 'countered'
        when state = 'WITHDRAWN' and code = 'settled' then 'upheld' else 'lifted' end as outcome
    from lasts where settled and state not in ('DUPLICATE', 'LINK_INVALID') and recurs is null and not canary"""


def good_faith(e: Evidence) -> list[Finding]:
    """Good-faith figures are those of a recount from verification's log, and intake's accounts show who takes part."""
    untold = f"(select listing from intake.items where id = r.item) {_NOT_PARKED.format(schema='intake', prefix='')}"
    sums = "sum(settled) as settled, sum(upheld) as upheld, sum(taken_down) as taken_down, sum(restored) as restored"
    counted = (
        "select account, reason, day, count(*) as settled, count(*) filter (where outcome = 'upheld') as upheld,"
        " count(*) filter (where outcome <> 'declined') as taken_down, count(*) filter (where outcome = 'countered') as restored"
        " from intake.good_faith_items where outcome is not null group by account, reason, day"
    )
    return [
        *e.find(
            "problem",
            "good-faith-item",
            f"with r as ({_RECOUNT}) select coalesce(r.item, g.item) || ': ' || coalesce(g.outcome, 'nothing') || ', not '"
            " || coalesce(r.outcome, 'nothing') from r full join (select * from intake.good_faith_items where outcome is not null) g"
            " on g.item = r.item where (g.account, g.reason, g.day, g.outcome) is distinct from (r.account, r.reason, r.day, r.outcome)"
            f" and ({untold} or r.item is null)",
        ),
        *e.find(
            "problem",
            "good-faith-count",
            f"select coalesce(d.account, c.account) || ' ' || coalesce(d.reason, c.reason) || ' ' || coalesce(d.day, c.day)"
            f" from (select account, reason, day, {sums} from intake.good_faith_days group by account, reason, day) d"
            f" full join ({counted}) c on c.account = d.account and c.reason = d.reason and c.day = d.day"
            " where (coalesce(d.settled, 0), coalesce(d.upheld, 0), coalesce(d.taken_down, 0), coalesce(d.restored, 0))"
            " <> (coalesce(c.settled, 0), coalesce(c.upheld, 0), coalesce(c.taken_down, 0), coalesce(c.restored, 0))",
        ),
        *e.find(
            "problem",
            "good-faith-standing",
            "select a.id from intake.accounts a left join intake.good_faith_standings s on s.account = a.id"
            " where a.good_faith <> coalesce(s.state <> 'out', false)",
        ),
        *e.find(
            "problem",
            "good-faith-unexplained",
            "select s.account from intake.good_faith_standings s left join (select distinct on (account) account, state, barred_until"
            " from intake.good_faith_history order by account, id desc) h on h.account = s.account"
            # members from before the history began have none
            " where (h.account is not null or s.since is not null)"
            " and (s.state is distinct from h.state or s.barred_until is distinct from h.barred_until)",
        ),
    ]


def misuse(e: Evidence) -> list[Finding]:
    """Intake's accounts show the measure against misuse in force, and each measure has what must precede it."""
    most = (
        "select distinct on (m.account) m.account, m.kind, m.items, m.until from intake.misuse_measures m where m.state = 'on'"
        " order by m.account, array_position(array['suspension', 'quota', 'warning'], m.kind), m.until desc nulls first, m.day desc, m.id desc"
    )
    return [
        *e.find(
            "problem",
            "misuse-standing",
            f"select a.id from intake.accounts a left join ({most}) m on m.account = a.id"
            " where (a.misuse, a.misuse_items, a.misuse_until) is distinct from (coalesce(m.kind, 'clear'), m.items, m.until)",
        ),
        *e.find(
            "problem",
            "misuse-unwarned",
            "select m.id from intake.misuse_measures m where m.kind <> 'warning' and m.finding is null and m.state <> 'fallen'"
            " and not exists (select from intake.misuse_measures p where p.id = m.prior and p.account = m.account and p.at < m.at)",
        ),
    ]


def review_queue(e: Evidence) -> list[Finding]:
    """The review queue has the items that wait for a person. No decision was applied twice, or by the wrong person."""
    reviewable = _list(("UNDER_REVIEW", "COUNTERED", "PLATFORM_REVIEW", "APPEALED"))
    decided = "from intake.review_decisions where outcome = 'applied' and kind <> 'proposal' and entered > 0"
    return [
        *e.find(
            "lost",
            "case-missing",
            "select v.item || ': ' || v.state from v_item v left join intake.cases c on c.item = v.item"
            f" where v.state in ({reviewable}) and c.item is null and not v.canary and v.listing {_NOT_HELD}",
        ),
        *e.find(
            "problem",
            "case-differs",
            "select c.item || ': ' || c.state || '/' || c.revision from intake.cases c left join v_item v on v.item = c.item"
            " where (v.state, v.revision) is distinct from (c.state, c.revision)"
            f" and c.listing {_NOT_HELD}",
        ),
        *e.find(
            "lost",
            "decision-forgotten",
            "select k.id from intake.commands k left join intake.review_decisions d on d.command = k.id"
            " where k.kind = 'decide' and d.command is null",
        ),
        *e.find(
            "problem",
            "decision-differs",
            "select d.command || ': ' || d.outcome || ', not ' || k.status from intake.review_decisions d"
            " join intake.commands k on k.id = d.command where d.outcome <> replace(k.status, 'accepted', 'filed')",
        ),
        *e.find(
            "doubled",
            "decided-twice",
            f"select item || '/' || entered {decided} group by item, entered having count(*) > 1",
        ),
        *e.find(
            "problem",
            "decided-by-one",
            "select d.command from intake.review_decisions d join intake.review_decisions p on p.item = d.item"
            " and p.entered = d.entered and p.kind = 'proposal' and p.reviewer = d.reviewer where d.kind <> 'proposal'",
        ),
    ]


# --------------------------------------------------------------------------------------------- holds and penalties


def holds(e: Evidence) -> list[Finding]:
    """Enforcement's holds are those of the items, are counted by listing, and were reported back."""
    last = "select distinct on (item) item, held from v_hold order by item, seq desc"  # an item has one log partition
    return [
        *e.find(
            "lost",
            "hold-missing",
            "select v.item from v_item v left join enforcement.holds h on h.item = v.item"
            f" where v.held and h.item is null and v.listing {_NOT_PARKED.format(schema='enforcement', prefix='')}",
        ),
        *e.find(
            "problem",
            "hold-differs",
            "select h.item || case when h.held then ' held' else ' not held' end from enforcement.holds h"
            " left join v_item v on v.item = h.item where v.item is null or h.held <> v.held"
            " or h.listing <> v.listing or h.revision > v.revision",
        ),
        *e.find(
            "problem",
            "hold-untold",
            f"select h.item from enforcement.holds h left join ({last}) t on t.item = h.item"
            " where h.held is distinct from coalesce(t.held, false)",
        ),
        *e.find(
            "problem",
            "holds-miscounted",
            "select coalesce(l.listing, h.listing) || ': ' || coalesce(l.holds, 0) || ', not ' || coalesce(h.n, 0) from enforcement.listings l"
            " full join (select listing, count(*) filter (where held) as n from enforcement.holds group by listing) h"
            " on h.listing = l.listing where coalesce(l.holds, 0) <> coalesce(h.n, 0)",
        ),
        *e.find(
            "problem",
            "measure-unconfirmed",
            "select listing || ': ' || action || ' ' || seq from enforcement.listings where confirmed <> seq or resend_at is not null",
        ),
        *e.find(
            "problem",
            "measure-wrong",
            "select listing || ': ' || action || ' with ' || holds from enforcement.listings"
            " where (holds > 0) <> (action in ('suspend', 'remove'))",
        ),
    ]


def visibility(e: Evidence) -> list[Finding]:
    """A listing is down at the marketplace exactly while it has a hold, and each command was carried out once."""
    if not e.has("marketplace"):
        return []
    return [
        *e.find(
            "problem",
            "visible-with-hold",
            "select m.listing || ' ' || l.holds from marketplace.listings m join enforcement.listings l on l.listing = m.listing"
            " where m.measure = 'none' and l.holds > 0",
        ),
        *e.find(
            "problem",
            "down-without-hold",
            "select m.listing || ' ' || m.measure from marketplace.listings m left join enforcement.listings l"
            " on l.listing = m.listing where m.measure <> 'none' and coalesce(l.holds, 0) = 0",
        ),
        *e.find(
            "problem",
            "measure-seq",
            "select l.listing || ': ' || m.seq || ' of ' || l.seq from enforcement.listings l"
            " join marketplace.listings m on m.listing = l.listing where m.seq <> l.seq",
        ),
        *e.find(
            "problem",
            "listing-unknown",
            "select l.listing from enforcement.listings l left join marketplace.listings m on m.listing = l.listing"
            " where m.listing is null and l.seq > 0 and l.result = 'done'",
        ),
    ]


SUSPENDING: Final = (
    "(select * from enforcement.sanctions where string_to_array(measures, ',') && array['frozen', 'closed'])"
)
"""Sanctions that have a statement of reasons if the penalties' policy asks for them."""


def statements(e: Evidence) -> list[Finding]:
    """Every hold taken under a policy with statements of reasons has exactly one statement, and that was sent."""
    asking = [version for version in policy.versions() if (rules := policy.load(version).statements) and rules.enabled]
    # a statement's policy must be its item's, so it is compared too
    taken = (
        "(select c.item, c.revision, c.listing, split_part(split_part(i.body, '\"policy\":\"', 2), '\"', 1) as policy"
        " from (select item, revision, listing, held, lag(held, 1, false) over (partition by item order by revision) as before"
        " from v_change where not canary) c join verification.items i on i.item = c.item where c.held and not c.before)"
    )
    due = (
        f"(select * from {taken} t where policy in ({_list(asking)}))"
        if asking
        else f"(select * from {taken} t where false)"
    )
    same = "s.item = d.item and s.revision = d.revision and s.policy = d.policy"
    on_accounts = policy.current(e.settings.penalties_profile).statements
    found = [
        *e.find(
            "lost",
            "statement-missing",
            f"select d.item || '/' || d.revision from {due} d left join enforcement.statements s on {same}"
            f" where s.puid is null and d.listing {_NOT_PARKED.format(schema='enforcement', prefix='')}",
        ),
        *e.find(
            "problem",
            "statement-unfounded",
            f"select s.puid from enforcement.statements s left join {due} d on {same} left join {SUSPENDING} x on x.sanction = s.item"
            " where d.item is null and (x.sanction is null or s.revision <> 1)",
        ),
        *e.find(
            "problem",
            "statement-refused",
            "select puid || ': ' || left(coalesce(error, ''), 120) from enforcement.statements where state = 'refused'",
        ),
    ]
    if on_accounts is not None and on_accounts.enabled and on_accounts.accounts is not None:
        # the policy may have begun to ask for them at some time; from then on, each sanction has one
        found += e.find(
            "lost",
            "statement-missing",
            f"select x.sanction from {SUSPENDING} x left join enforcement.statements s on s.item = x.sanction where s.puid is null"
            f" and x.began > (select min(y.began) from {SUSPENDING} y join enforcement.statements t on t.item = y.sanction)",
        )
    if e.settings.statements_url:
        found += e.find(
            "problem", "statement-unsent", "select puid from enforcement.statements where state = 'waiting'"
        )
    return found


def violations(e: Evidence) -> list[Finding]:
    """Violations in force match the upheld items, by seller and claim."""
    upheld = (
        "(select item, claim, listing, seller, severity from v_item where upheld and seller is not null and not canary)"
    )
    return [
        *e.find(
            "lost",
            "violation-missing",
            f"select u.item from {upheld} u left join enforcement.violation_items i on i.item = u.item and i.claim = u.claim"
            f" and i.seller = u.seller and i.in_force where i.item is null and u.seller"
            f" {_NOT_PARKED.format(schema='enforcement', prefix='ledger_')} and u.listing {_NOT_PARKED.format(schema='enforcement', prefix='')}",
        ),
        *e.find(
            "problem",
            "violation-unfounded",
            f"select i.item || ' of ' || i.seller from enforcement.violation_items i left join {upheld} u on u.item = i.item"
            " and u.claim = i.claim and u.seller = i.seller where i.in_force and (u.item is null or u.severity <> i.severity)",
        ),
        *e.find(
            "problem",
            "violation-differs",
            "select v.seller || ' x ' || v.claim from enforcement.violations v left join (select seller, claim,"
            " bool_or(in_force) as in_force, min(at) filter (where in_force) as at,"
            " case when bool_or(severity = 'serious' and in_force) then 'serious' else 'general' end as severity"
            " from enforcement.violation_items group by seller, claim) i on i.seller = v.seller and i.claim = v.claim"
            " where v.in_force is distinct from i.in_force or (v.in_force and (v.at <> i.at or v.severity <> i.severity))"
            " or v.in_force <> (v.entry is not null)",
        ),
        *e.find(
            "problem",
            "violation-differs",
            "select distinct i.seller || ' x ' || i.claim from enforcement.violation_items i left join enforcement.violations v"
            " on v.seller = i.seller and v.claim = i.claim where v.seller is null",
        ),
        *e.find(
            "problem",
            "hold-violation-differs",
            f"select h.item from enforcement.holds h left join {upheld} u on u.item = h.item where h.violation <> (u.item is not null)",
        ),
    ]


def ledger_entries(e: Evidence) -> list[Finding]:
    """Reversals undo existing entries once; violations in force point to unreversed ones; each was published once."""
    told = (
        "(select payload::jsonb -> 'data' ->> 'entry' as entry from enforcement.ledger_event_log"
        " where type = 'goodfaith.penalty.entered.v1')"
    )
    live = (
        "(select x.* from enforcement.ledger_entries x left join enforcement.ledger_entries r on r.reverses = x.entry"
        " where x.kind = 'violation' and r.entry is null)"
    )
    return [
        *e.find(
            "problem",
            "reversal-unfounded",
            "select r.entry from enforcement.ledger_entries r left join enforcement.ledger_entries x on x.entry = r.reverses"
            " where r.kind = 'reversal' and (x.entry is null or x.kind <> 'violation' or x.seller <> r.seller"
            " or x.claim <> r.claim or x.ledger <> r.ledger or x.points <> -r.points or x.expires_at <> r.expires_at)",
        ),
        *e.find(
            "doubled",
            "reversed-twice",
            "select reverses from enforcement.ledger_entries where reverses is not null group by reverses having count(*) > 1",
        ),
        *e.find(
            "problem",
            "entry-differs",
            f"select coalesce(v.entry, x.entry) from (select * from enforcement.violations where in_force) v full join {live} x"
            " on x.entry = v.entry where v.entry is null or x.entry is null or v.seller <> x.seller or v.claim <> x.claim"
            " or v.ledger <> x.ledger or v.points <> x.points or v.effective_at <> x.effective_at or v.expires_at <> x.expires_at",
        ),
        *e.find(
            "doubled",
            "punished-twice",
            f"select seller || ' x ' || claim from {live} x group by seller, claim having count(*) > 1",
        ),
        *e.find(
            "lost",
            "entry-untold",
            f"select x.entry from enforcement.ledger_entries x left join {told} t on t.entry = x.entry where t.entry is null",
        ),
        *e.find("doubled", "entry-told-twice", f"select entry from {told} t group by entry having count(*) > 1"),
        *e.find(
            "problem",
            "entry-unwritten",
            f"select t.entry from {told} t left join enforcement.ledger_entries x on x.entry = t.entry where x.entry is null",
        ),
        *e.find(
            "problem",
            "standing-missing",
            "select distinct v.seller from enforcement.violations v left join enforcement.standings s on s.seller = v.seller"
            " where s.seller is null",
        ),
    ]


def standings(e: Evidence) -> list[Finding]:
    """Each seller's entries and standing are what the rules make of its violations in force."""
    rules = policy.current(e.settings.penalties_profile).penalties
    tally = Tally()
    rows = e.rows(
        "select s.seller, s.changed_at, s.general_points, s.serious_strikes, s.violations, s.repeat_offender,"
        " s.general_level, s.serious_level, s.general_consequence, s.serious_consequence, s.next_change, s.entity_violations,"
        " v.claim, v.severity, v.at, v.entry, v.ledger, v.points, v.effective_at, v.expires_at"
        " from enforcement.standings s left join enforcement.violations v on v.seller = s.seller and v.in_force order by s.seller"
    )
    for name, group in itertools.groupby(rows, key=lambda row: row[0]):
        history = list(group)
        _standing(name, history, rules, tally)
    return tally.findings()


def _standing(name: str, rows: list[tuple[Any, ...]], rules: policy.Penalties, tally: Tally) -> None:
    stored = rows[0]
    in_force = [row for row in rows if row[12] is not None]
    violations = [Violation(row[14], row[12], row[13]) for row in in_force]
    wanted = costs(violations, rules)
    for *_, claim, _, _, _, ledger, points, effective_at, expires_at in in_force:
        if (ledger, points, effective_at, expires_at) != wanted[claim]:
            cost = wanted[claim]
            tally.add(
                "problem", "penalty-wrong", f"{name} x {claim}: {points} {ledger}, not {cost.points} {cost.ledger}"
            )
    # the standing is exact as of when it was last counted; next_change says when it will have to be counted again
    counted = standing(violations, rules, stored[1])
    repeats = max(counted.violations, stored[11]) >= rules.repeat_offender.violations
    expected = (*counted[:3], repeats, *counted[3:])
    if tuple(stored[2:11]) != expected:
        tally.add("problem", "standing-wrong", f"{name}: {stored[2:8]}, not {expected[:6]}")


# ---------------------------------------------------------------------------------------------------------- messages


def told(e: Evidence) -> list[Finding]:
    """What the parties must be told is in exactly one message, and nothing else is in one."""
    if not e.has("notification"):
        return []
    key = "m.item = t.item and m.revision = t.revision and m.kind = t.kind and m.party = t.party"
    name = "t.kind || ' to ' || t.party || ' of ' || t.item || '/' || t.revision"
    stamped = (
        # rows of a digest keep their own kinds
        "(select m.id, m.kind, m.party, m.claim, u.item, u.revision from notification.messages m,"
        " unnest(m.items, m.revisions) as u(item, revision) where m.kind <> 'digest' union all"
        " select i.message, i.kind, i.party, m.claim, i.item, i.revision from notification.message_items i"
        " join notification.messages m on m.id = i.message and m.kind = 'digest')"
    )
    return [
        *e.find(
            "lost",
            "untold",
            f"select {name} from v_told t left join notification.message_items m on {key} left join verification.items v"
            " on v.item = t.item where m.item is null"
            f" and coalesce(v.listing, t.party) {_NOT_PARKED.format(schema='notification', prefix='')}",
        ),
        *e.find(
            "problem",
            "told-unfounded",
            f"select {name.replace('t.', 'm.')} from notification.message_items m left join v_told t on {key} where t.item is null",
        ),
        *e.find(
            "problem",
            "untold-yet",
            f"select {name} from notification.message_items t where t.message is null and not t.held",
        ),
        *e.find(
            "lost",
            "message-missing",
            f"select {name} from notification.message_items t left join {stamped} m on {key} and m.id = t.message"
            " where t.message is not null and m.id is null",
        ),
        *e.find(
            "doubled",
            "told-twice",
            f"select {name} from {stamped} t group by t.item, t.revision, t.kind, t.party having count(*) > 1",
        ),
        *e.find(
            "problem",
            "message-unfounded",
            f"select m.id || ': ' || m.item from {stamped} m left join notification.message_items t on {key} and t.message = m.id"
            " where t.item is null",
        ),
    ]


def messages_sent(e: Evidence) -> list[Finding]:
    """Every message was sent and announced once; one that begins windows was announced for each of its items."""
    if not e.has("notification"):
        return []
    windows = _list(WINDOW_KINDS)
    announced = "(select message, count(*) as n, min(sent_at) as sent_at from v_sent group by message)"
    noticed = (
        "(select message, item, revision, count(*) as n, min(begins) as begins, min(begun_by) as begun_by"
        " from v_notice group by message, item, revision)"
    )
    due = (
        "(select m.id, m.begun_at, m.begun_by, u.item, u.revision from notification.messages m,"
        f" unnest(m.items, m.revisions) as u(item, revision) where m.begun_at is not null and m.kind in ({windows}))"
    )
    return [
        *e.find(
            "problem",
            "message-unsent",
            "select id || ' ' || kind || ' ' || state || coalesce(': ' || result, '') from notification.messages where state not in ('sent', 'delivered')",
        ),
        *e.find(
            "lost",
            "message-unannounced",
            f"select m.id from notification.messages m left join {announced} s on s.message = m.id"
            " where m.sent_at is not null and s.message is null"
            " and not exists (select from notification.announcements a where a.message = m.id)",
        ),
        *e.find(
            "doubled",
            "message-announced-twice",
            f"select message from {announced} s where n > 1",
        ),
        *e.find(
            "problem",
            "announced-unsent",
            f"select s.message from {announced} s left join notification.messages m on m.id = s.message"
            " where m.id is null or m.sent_at is null or m.sent_at <> s.sent_at",
        ),
        *e.find(
            "lost",
            "notice-unannounced",
            f"select d.id || ': ' || d.item from {due} d left join {noticed} n on n.message = d.id and n.item = d.item"
            " and n.revision = d.revision where n.message is null"
            " and not exists (select from notification.announcements a where a.message = d.id)",
        ),
        *e.find("doubled", "notice-announced-twice", f"select message || ': ' || item from {noticed} n where n.n > 1"),
        *e.find(
            "problem",
            "notice-unfounded",
            f"select n.message || ': ' || n.item from {noticed} n left join {due} d on d.id = n.message and d.item = n.item"
            " and d.revision = n.revision where d.id is null or d.begun_at <> n.begins or d.begun_by <> n.begun_by",
        ),
        *e.find(
            "problem",
            "beginning-missing",
            f"select id from notification.messages where kind in ({windows}) and state in ('sent', 'delivered') and begun_at is null and (begins is null"
            " or begins = 'sent' or read_at is not null or (begins = 'delivered' and delivered_at is not null))",
        ),
        *e.find(
            "problem",
            "beginning-wrong",
            "select id || ' ' || begun_by from notification.messages where begun_at is not null and not case begun_by"
            " when 'sent' then begins = 'sent' when 'delivered' then begins = 'delivered' and begun_at >= delivered_at"
            " when 'read' then begins <> 'sent' and begun_at >= read_at else begins <> 'sent' and begun_at >= deemed_at end",
        ),
        *e.find(
            "problem",
            "inbox-message",
            f"select coalesce(s.message, m.id) from {announced} s full join intake.messages m on m.id = s.message"
            " where m.id is null or s.message is null or m.sent_at <> s.sent_at",
        ),
    ]


def noticed(e: Evidence) -> list[Finding]:
    """A seller's window began when the notice was sent."""
    if not e.has("notification"):
        return []
    return [
        *e.find(
            "problem",
            "noticed-at-wrong",
            "select v.item from v_item v left join v_notice n on n.item = v.item and n.kind = 'seller_notice'"
            " and n.begins = v.noticed_at where v.noticed_at is not null and n.item is null",
        ),
        *e.find(
            "problem",
            "noticed-at-missing",
            "select distinct v.item from v_item v join v_notice n on n.item = v.item and n.kind = 'seller_notice'"
            f" where v.state = 'NOTIFIED' and v.noticed_at is null and v.listing {_WAITING}",
        ),
    ]


def documents(e: Evidence) -> list[Finding]:
    """No document of an open claim is gone, and none is stuck on its way in or out. The files are not read."""
    closed = _list(CLOSED)
    return [
        *e.find(
            "problem",
            "document-gone",
            "select distinct l.document || ': ' || l.about from intake.evidence_links l join intake.evidence d on d.id = l.document"
            " join intake.claims c on c.id = l.about join intake.items i"
            " on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'"
            f" where d.state in ('going', 'gone') and i.state not in ({closed})",
        ),
        *e.find(
            "problem",
            "document-stuck",
            "select id || ' ' || state from intake.evidence where state in ('arriving', 'going')"
            " and changed_wall < now() - interval '1 day'",
        ),
    ]


def erased(e: Evidence) -> list[Finding]:
    """Nothing that an erased subject's key opened is left, nor a way to log in, and the log records the erasure."""
    left = " union all ".join(
        f"select account || ' {name}' from intake.{name} where account in (select id from intake.accounts where erased_at is not null)"
        for name in ("subject_keys", "contacts", "tokens", "webhooks", "email_codes")
    )
    return [
        *e.find("problem", "erased-kept", left),
        *e.find(
            "lost",
            "erasure-untold",
            "select a.id from intake.accounts a where a.erased_at is not null"
            " and not exists (select from intake.event_log l where l.type = 'goodfaith.account.erased.v1' and l.key = a.id)"
            " and not exists (select from intake.admission_queue d where d.type = 'goodfaith.account.erased.v1' and d.listing = a.id)",
        ),
    ]


CHECKS: Final[tuple[Check, ...]] = (
    submissions,
    claim_items,
    items_published,
    published_as_filed,
    claims_told,
    commands_published,
    items_judged,
    commands_ended,
    event_logs,
    on_topics,
    links,
    topic_order,
    watermarks,
    order_applied,
    applied,
    upstreams,
    parked,
    causes,
    folds,
    deadlines,
    sla,
    duplicates,
    recurrences,
    read_model,
    good_faith,
    misuse,
    review_queue,
    holds,
    visibility,
    statements,
    violations,
    ledger_entries,
    standings,
    entity_members,
    entity_standings,
    sanctioned,
    sellers_told,
    told,
    messages_sent,
    noticed,
    documents,
    erased,
)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings of the same kind."""
    merged: dict[tuple[Category, str], Finding] = {}
    for finding in findings:
        known = merged.setdefault((finding.category, finding.kind), finding)
        if known is not finding:
            known.count += finding.count
            known.examples = (known.examples + finding.examples)[:5]
    return list(merged.values())


def run(e: Evidence) -> list[Finding]:
    """Run all checks on gathered evidence."""
    return merged(finding for check in CHECKS for finding in check(e))
