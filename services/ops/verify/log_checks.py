"""Checks of `goodfaith verify` on logs and topics: complete, in order, read by all readers, and each effect caused."""

from __future__ import annotations

from typing import Final

from services.ops.idle import Reader
from services.ops.verify.evidence import Check, Evidence, quoted
from services.ops.verify.findings import Finding, Table, merged
from shared import topics

# log rows that are on their topic
_THERE: Final = "v_log l join v_rec r on r.id = l.id and r.topic = l.topic and r.partition = l.target"
_PAIRS: Final = "v_log l full join v_rec r on r.id = l.id and r.topic = l.topic and r.partition = l.target"
_SEEN: Final = 'select id, topic, partition, min("offset") as at from v_rec group by id, topic, partition'


def _heads(e: Evidence) -> str:
    """SQL of all logs' heads."""
    return " union all ".join(
        f"select '{reader.name}' as writer, partition, seq, published_upto from {reader.tables}partitions"
        for reader in e.readers
    )


def _compacted(e: Evidence) -> str:
    return quoted(e.name(topic) for topic in topics.TOPICS if topic.compacted)


def event_logs(e: Evidence) -> list[Finding]:
    """Logs have no gaps, their hash chains hold, and the partitions' rows name their heads."""
    return merged(finding for reader in e.readers for finding in e.find(_event_log(reader)))


def _event_log(reader: Reader) -> Table:
    chain = f"""
        (select partition, seq, hash, payload, lag(hash, 1, '') over w as before, lag(seq, 1, 0::bigint) over w as prior
        from {reader.tables}event_log window w as (partition by partition order by seq)) t"""
    id_ = f"'{reader.name}.' || partition || '.' || seq"
    return {
        ("lost", "log-gap"): f"select {id_} || ' after ' || prior from {chain} where seq <> prior + 1",
        ("problem", "log-chain"): f"""
            select {id_} from {chain}
            where hash <> encode(sha256(convert_to(before || payload, 'UTF8')), 'hex')
            or not starts_with(payload, '{{"specversion":"1.0","id":"' || {id_} || '"')""",
        ("problem", "log-head"): f"""
            select '{reader.name}.' || coalesce(p.partition, l.partition) from {reader.tables}partitions p
            full join (select distinct on (partition) partition, seq, hash from {reader.tables}event_log
                order by partition, seq desc) l on l.partition = p.partition
            where p.seq is distinct from coalesce(l.seq, 0) or p.hash is distinct from coalesce(l.hash, '')""",
        ("problem", "unpublished"): f"""
            select '{reader.name}.' || partition || ': ' || published_upto || ' of ' || seq
            from {reader.tables}partitions where published_upto <> seq""",
    }


def on_topics(e: Evidence) -> list[Finding]:
    """Every log row is on its topic, and every record there is a log row, byte by byte, in its partition."""
    ours = quoted(e.name(topic) for topic in e.topics())
    return e.find(
        {
            ("lost", "not-on-topic"): f"""
                with missing as materialized (select l.* from v_log l
                    left join v_rec r on r.id = l.id and r.topic = l.topic and r.partition = l.target
                    join ({_heads(e)}) p on p.writer = l.writer and p.partition = l.partition
                    where r.id is null and l.topic in ({ours}) and l.seq <= p.published_upto),
                firsts as (select l.writer, l.partition, l.topic, l.target, min(l.seq) as seq from {_THERE}
                    group by 1, 2, 3, 4),
                lasts as (select l.topic, l.partition, l.key, max(l.seq) as seq from {_THERE}
                    where l.topic in ({_compacted(e)}) group by 1, 2, 3)
                select m.id from missing m left join v_ends n on n.topic = m.topic and n.partition = m.target
                left join firsts f on f.writer = m.writer and f.partition = m.partition
                    and f.topic = m.topic and f.target = m.target
                left join lasts z on z.partition = m.partition and z.key = m.key and z.topic = m.topic
                -- retention deleted it, with everything before its writer's first record that is still there
                where not (coalesce(n.first, 0) > 0 and m.seq < coalesce(f.seq, m.seq + 1))
                -- compaction deleted it: a later one of the key is there
                and coalesce(z.seq, 0) < m.seq""",
            ("problem", "foreign-record"): f"""
                select r.topic || '/' || r.partition || '@' || r."offset" || ' ' || coalesce(r.id, '?')
                from {_PAIRS} where l.id is null""",
            ("problem", "record-altered"): f"""
                select l.id || ' at ' || r.topic || '/' || r.partition || '@' || r."offset"
                from {_PAIRS} where r.sum <> l.sum""",
        }
    )


def links(e: Evidence) -> list[Finding]:
    """Each event names the row that its log published before it to the partition, and topics keep that order."""
    return e.find(
        {
            ("problem", "link-wrong"): """
                select id || ' names ' || previous || ', not ' || before from (select id, previous,
                    lag(seq, 1, 0::bigint) over (partition by writer, partition, topic, target order by seq) as before
                    from v_log) t where previous <> before""",
            # either may be there again, if it was sent again
            ("problem", "topic-unlinked"): f"""
                with there as materialized (
                    select l.writer, l.partition, l.topic, l.target, l.seq, l.previous, l.id, r.first, r.last
                    from (select id, topic, partition, min("offset") as first, max("offset") as last from v_rec
                        where topic not in ({_compacted(e)}) group by id, topic, partition) r
                    join v_log l on l.id = r.id and l.topic = r.topic and l.target = r.partition)
                select n.id || ' before ' || p.id from there n
                join there p on p.writer = n.writer and p.partition = n.partition
                    and p.seq = n.previous and p.topic = n.topic and p.target = n.target
                where p.first > n.last""",
        }
    )


ORDER: Final[dict[str, Table]] = {
    # for each key, first occurrences on a topic are in the order of the log
    "topic_order": {
        ("problem", "topic-disorder"): f"""
            select id || ' after ' || prior
            from (select l.id, l.seq, lag(l.seq) over w as before, lag(l.id) over w as prior from ({_SEEN}) r
                join v_log l on l.id = r.id and l.topic = r.topic and l.target = r.partition
                window w as (partition by l.topic, l.target, l.writer, l.partition, l.key order by r.at)) t
            where before > seq""",
    },
    # for each key, the effects of a topic's events are in the reader's log in the order of the events
    "order_applied": {
        ("problem", "applied-disorder"): """
            select id || ' by ' || cause || ' after ' || prior
            from (select l.id, l.cause, c.seq, lag(c.seq) over w as before, lag(l.cause) over w as prior
                from v_log l join v_log c on c.id = l.cause
                window w as (partition by l.writer, l.partition, c.writer, c.partition, c.topic, c.key order by l.seq)) t
            where before > seq""",
    },
}


def watermarks(e: Evidence) -> list[Finding]:
    """Every watermark on a topic was true: no command accepted up to it was published after it."""
    name = e.name(topics.INTAKE)
    return e.find(
        {
            ("problem", "watermark-false"): f"""
                with firsts as (select l.id, l.target, l.seq, f.accepted_at, f.command, r.at
                    from (select id, partition, min("offset") as at from v_rec where topic = '{name}'
                        group by id, partition) r
                    join v_log l on l.id = r.id and l.target = r.partition
                    join v_filed f on f.partition = l.partition and f.seq = l.seq where l.writer = 'intake'),
                both_ as (select id, target, seq, case when command is not null then accepted_at end as accepted_at, at,
                        null::timestamptz as upto from firsts
                    union all select null, partition, null, null, "offset", upto from v_mark),
                told as (select *, max(upto) over w as known, max(seq) over w as before from both_
                    window w as (partition by target order by at rows between unbounded preceding and 1 preceding))
                select t.id || ', accepted at ' || t.accepted_at || ', after ' || t.known from told t
                join v_ends n on n.topic = '{name}' and n.partition = t.target
                where t.accepted_at <= t.known
                -- a row that was sent again and whose first record is gone does not count: later rows precede it
                and (n.first = 0 or t.seq > t.before)""",
        }
    )


def _unread(reader: Reader, topic: str) -> str:
    """SQL condition: a reader has not read the row ``l`` of a log. Only this knows how readers record that."""
    return f"""
        not exists (select from {reader.tables}reads n where n.topic = '{topic}' and n.partition = l.target
            and n.writer = l.writer and n.log_partition = l.partition and l.seq <= n.seq)
        -- readers know events from outside by their id
        and not exists (select from {reader.tables}inbox i where i.event_id = l.id)"""


def applied(e: Evidence) -> list[Finding]:
    """Every row of a log was read by every reader of its topic, or is there to be read; and nothing else was read.

    So a record that retention deleted before it was read is found missing.
    """
    heads = _heads(e)
    tables = [_positions(reader, heads) for reader in e.readers]
    tables += [_read(e, reader, topic, heads) for reader in e.readers for topic in reader.reads]
    tables += [
        {
            ("problem", "applied-unknown"): f"""
                select '{reader.name}: ' || i.event_id from {reader.tables}inbox i left join v_log l on l.id = i.event_id
                where l.id is null""",
        }
        for reader in e.readers
        if reader.reads and set(reader.reads) <= set(e.topics())
    ]
    # ids name their rows: those beyond the head were in the log once
    tables.append(
        {
            ("lost", "log-cut"): f"""
                select r.id from (select distinct r.id from v_rec r left join v_log l on l.id = r.id
                    where l.id is null and r.id ~ '^[a-z-]+[.][0-9]{{1,9}}[.][0-9]{{1,18}}$') r
                left join ({heads}) h on h.writer = split_part(r.id, '.', 1)
                    and h.partition = split_part(r.id, '.', 2)::bigint
                where split_part(r.id, '.', 3)::bigint > coalesce(h.seq, 0)""",
        }
    )
    return merged(finding for table in tables for finding in e.find(table))


def _positions(reader: Reader, heads: str) -> Table:
    """What a reader says that it has read and written is in the logs."""
    # with its offsets, a worker commits the head of its log
    own = f"select distinct partition, seq, hash from v_group where reader = '{reader.name}' and seq is not null"
    return {
        ("problem", "read-beyond-log"): f"""
            select '{reader.name}: ' || n.topic || ' ' || n.writer || '.' || n.log_partition || '.' || n.seq
            from {reader.tables}reads n
            left join ({heads}) h on h.writer = n.writer and h.partition = n.log_partition
            where n.seq > coalesce(h.seq, 0)""",
        ("lost", "log-cut"): f"""
            select '{reader.name}.' || g.partition || '.' || g.seq from ({own}) g
            left join {reader.tables}partitions p on p.partition = g.partition where g.seq > coalesce(p.seq, 0)""",
        ("problem", "log-rewritten"): f"""
            select '{reader.name}.' || g.partition || '.' || g.seq from ({own}) g
            join {reader.tables}event_log l on l.partition = g.partition and l.seq = g.seq
            where not starts_with(l.hash, g.hash)""",
    }


def _read(e: Evidence, reader: Reader, topic: topics.Topic, heads: str) -> Table:
    """A reader has read a topic to its end and without gaps, and the broker knows no more of it than the database."""
    name = e.name(topic)
    cursors = f"{reader.tables}cursors c"
    cursor = f"left join {cursors} on c.topic = '{topic.name}' and c.partition"
    ends = f"join v_ends n on n.topic = '{name}' and n.partition = c.partition where c.topic = '{topic.name}'"
    position = f"'{reader.name}: {topic.name}/' || c.partition || ' ' || c.next_offset"
    # what a later record of the key replaced is gone
    there = "and r.id is not null" if topic.compacted else ""
    return {
        ("lost", "not-applied"): f"""
            select '{reader.name}: ' || l.id from v_log l
            join ({heads}) h on h.writer = l.writer and h.partition = l.partition
            left join (select id, partition, min("offset") as at from v_rec where topic = '{name}'
                group by id, partition) r on r.id = l.id and r.partition = l.target
            {cursor} = l.target
            where l.topic = '{name}' and l.seq <= h.published_upto
            and (r.id is null or r.at < coalesce(c.next_offset, 0)) {there} and {_unread(reader, topic.name)}
            and not exists (select from {reader.tables}dead_letters p where p.topic = '{topic.name}'
                and (p.event_id = l.id or (p.partition = r.partition and p."offset" = r.at)))""",
        ("problem", "unread"): f"""
            select '{reader.name}: ' || r.topic || '/' || r.partition from v_rec r {cursor} = r.partition
            where r.topic = '{name}' and r."offset" >= coalesce(c.next_offset, 0) group by r.topic, r.partition""",
        ("problem", "cursor-beyond-end"): f"""
            select {position} || ' > ' || n.next from {cursors} {ends} and c.next_offset > n.next""",
        ("lost", "unread-gone"): f"""
            select {position} || ' < ' || n.first from {cursors} {ends} and c.next_offset < n.first""",
        # a worker commits at the broker what its database has: if there is more, the database had it once
        ("lost", "database-behind"): f"""
            select '{reader.name}: {topic.name}/' || g.partition || ' ' || coalesce(c.next_offset, 0) || ' < ' || g.next
            from v_group g {cursor} = g.partition
            where g.reader = '{reader.name}' and g.topic = '{topic.name}' and g.next > coalesce(c.next_offset, 0)""",
    }


def upstreams(e: Evidence) -> list[Finding]:
    """Every record of an upstream up to intake's cursor was answered: accepted under its id, or refused with a reason.

    This looks at what came of the existing records, not at what intake says it has read: a topic that was created
    again has the same offsets as before, but other records.
    """
    if not e.settings.upstreams:
        return []
    prefix = e.settings.topic_prefix
    accounts = quoted(e.settings.upstreams.values())
    return e.find(
        {
            ("lost", "upstream-unanswered"): f"""
                select u.topic || '/' || u.partition || '@' || u."offset" from v_asked u
                join intake.inbound_cursors c on '{prefix}' || c.topic = u.topic and c.partition = u.partition
                left join (select d ->> 'topic' as topic, (d ->> 'partition')::int as partition,
                        (d ->> 'offset')::bigint as "offset", d ->> 'event' as event
                    from (select payload::jsonb -> 'data' as d from intake.inbound_event_log
                        where type = 'goodfaith.inbound.refused.v1') t) x
                    on '{prefix}' || x.topic = u.topic and x.partition = u.partition and x."offset" = u."offset"
                    and (x.event is null or x.event = u.id)
                where u."offset" < c.next_offset and x.topic is null
                and not exists (select from intake.submissions s
                    where s.idempotency_key = u.id and s.account in ({accounts}))""",
            ("problem", "upstream-unread"): f"""
                select c.topic || '/' || c.partition || ': ' || c.next_offset || ' of ' || n.next
                from intake.inbound_cursors c
                join v_ends n on n.topic = '{prefix}' || c.topic and n.partition = c.partition
                where c.next_offset < n.next""",
        }
    )


def dead_letters(e: Evidence) -> list[Finding]:
    """There is no open dead letter."""
    return merged(
        finding
        for reader in e.readers
        for finding in e.find(
            {
                ("problem", "dead-letter"): f"""
                    select '{reader.name}: ' || topic || ' ' || coalesce(event_id, '"' || key || '"')
                        || ': ' || left(error, 120)
                    from {reader.tables}dead_letters where state <> 'done'""",
            }
        )
    )


def causes(e: Evidence) -> list[Finding]:
    """Every effect has a cause: an event of an input topic, a message that was sent, or a timer."""
    reads = " union all ".join(
        f"select '{reader.name}' as writer, '{e.name(topic)}' as topic"
        for reader in e.readers
        for topic in reader.reads
    )
    # what comes by a service's own queue: seeds and HTTP requests at the marketplace, receipts that came by HTTP
    queued = """
        (l.writer = 'marketplace' and (starts_with(l.cause, 'seed.') or starts_with(l.cause, 'http.')))
        or (l.writer in ('enforcement', 'enforcement-ledger') and starts_with(l.cause, 'receipt.'))
        or l.writer in ('notification', 'intake-inbound')"""
    if not e.has("marketplace"):
        outside = quoted(e.name(topic) for topic in topics.TOPICS if topic.writer == "marketplace")
        queued += f" or exists (select from ({reads}) n where n.writer = l.writer and n.topic in ({outside}))"
    found = e.find(
        {
            ("problem", "cause-unknown"): f"""
                select l.id || ' by ' || l.cause from v_log l left join v_log c on c.id = l.cause
                left join ({reads}) n on n.writer = l.writer and n.topic = c.topic
                where l.cause is not null and n.topic is null and not ({queued})""",
            ("problem", "uncaused"): """
                select id || ' ' || type from v_log
                where cause is null and type <> 'goodfaith.dead_letter.v1' and not (writer in ('intake', 'intake-inbound')
                or (writer = 'verification' and starts_with(type, 'goodfaith.item.'))
                or (writer in ('verification', 'enforcement') and type = 'goodfaith.marketplace.command.v1')
                or (writer = 'notification' and type = 'goodfaith.webhook.disabled.v1')
                or (writer = 'enforcement-ledger' and type in ('goodfaith.standing.changed.v1',
                    'goodfaith.sanction.changed.v1', 'goodfaith.penalty.entered.v1',
                    'goodfaith.marketplace.seller_command.v1')))""",
            ("problem", "timer-early"): """
                select c.item || ' ' || c.rule from v_change c
                join verification.partitions p on p.partition = c.partition
                where not c.caused and (p.watermark is null or c.at > p.watermark)""",
        }
    )
    found += e.find(
        {
            # a timer fires by what its worker had read, never by a watermark published after its transaction began
            ("problem", "timer-early"): f"""
                with timers as (select c.item || ' ' || c.rule as name, c.partition, c.at, l.recorded_wall from v_change c
                    join verification.event_log l on l.partition = c.partition and l.seq = c.seq where not c.caused
                    -- a duplicate that its original's end reopened is judged at that time, not by a timer
                    and strpos(l.payload, '"previous":"DUPLICATE"') = 0),
                both_ as (select null as name, partition, upto, null::timestamptz as at, wall from v_mark union all
                    select name, partition, null, at, recorded_wall + interval '{e.settings.broker_skew_ms} ms'
                    from timers)
                select name || ' of ' || at || ', known was ' || known
                -- watermarks that retention deleted do no harm: before the first that is left, nothing is known
                from (select *, max(upto) over (partition by partition order by wall, at nulls first
                    rows unbounded preceding) as known from both_) t where at > known""",
        }
    )
    if e.has("notification"):
        found += e.find(
            {
                ("problem", "cause-unknown"): """
                    select l.id || ' by ' || l.cause from v_log l left join notification.messages m on m.id = l.cause
                    where l.writer = 'notification' and l.cause is not null and (m.id is null or m.sent_at is null)""",
            }
        )
    return merged(found)


CHECKS: Final[dict[str, Check]] = {
    "event_logs": event_logs,
    "on_topics": on_topics,
    "links": links,
    **ORDER,
    "watermarks": watermarks,
    "applied": applied,
    "upstreams": upstreams,
    "dead_letters": dead_letters,
    "causes": causes,
}
