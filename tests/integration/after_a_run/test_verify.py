"""`goodfaith verify` on a small real run: clean as it is, and each check shown to fail on data that was tampered with.

What is tampered with is rolled back; the topics are read once and tampered with in the copy, or for real at the end.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest
import sqlalchemy as sa
from kafka import KafkaProducer

from services.enforcement import entities, sanctions
from services.ops.verify import checks
from services.ops.verify.evidence import Evidence
from services.ops.verify.records import Reading, TopicLines, committed, read
from services.ops.verify.verify import Report, examine, verify_stack
from shared import policy, topics
from shared.settings import Settings
from tests import statements_policy
from tests.integration.after_a_run.tampering import ITEM, SANCTION, SANCTIONED, body
from tests.integration.small_run import IPP, SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

LISTING = f"(select listing from verification.items where item = {ITEM})"
HELD = "(select min(item) from enforcement.holds where held)"
MESSAGE = "(select min(id) from notification.messages where kind = 'seller_notice')"
ENTRY = "(select min(entry) from enforcement.ledger_entries where kind = 'violation')"
REVERSAL = "(select min(entry) from enforcement.ledger_entries where kind = 'reversal')"
COMMAND = "(select min(id) from intake.commands where status = 'applied')"
CLAIM = "(select min(id) from intake.claims)"
DOCUMENT = "insert into intake.evidence (id, account, kinds, digest, size, media, state, uploaded_at)"
# a change of the item that is neither its first nor its last, by place in the log
CHANGE = f"""(select partition, seq from verification.event_log where type = 'goodfaith.item.handled.v1'
    and payload::jsonb -> 'data' ->> 'item' = {ITEM} limit 1)"""
RECORD = "(select id from v_rec where topic like '%%verification.events' order by id limit 1)"


# a near copy that verification is said to have found
FOUND = """insert into verification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)
    select partition, seq + 9000 + n, topic, key, target, 'goodfaith.recurrence.found.v1', claim,
        '{"data":{"listing":"l-x","right":"r-x","item":"i-x"}}', hash
    from (select * from verification.event_log limit 1) as one"""

# a counter that came after the default, which is allowed once
LATE = """(select payload::jsonb -> 'data' ->> 'command' from verification.event_log where type = 'goodfaith.item.holder_response.v1'
    and payload::jsonb -> 'data' ->> 'previous' = 'UPHELD_BY_DEFAULT' limit 1)"""
REFUSED = "(select min(id) from intake.commands where status = 'refused' and kind = 'accept')"
NAMES = "payload::jsonb -> 'data' ->> 'command' ="
OF_ITEM = f"payload::jsonb -> 'data' ->> 'item' = {ITEM}"

# kind, and how where there are several ways -> category, SQL on the database
UNREACHED = f"""insert into notification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)
    select partition, seq + 2000, topic, key, target, 'goodfaith.notice.unreached.v1', claim,
        jsonb_set(payload::jsonb, '{{data,at}}', payload::jsonb -> 'data' -> 'sent_at')::text, hash
    from notification.event_log where type = 'goodfaith.notice.sent.v1' and payload::jsonb -> 'data' ->> 'message' = {MESSAGE}"""
"""As if a notice that was sent lay in an inbox that nobody owns as well."""

TAMPERED: dict[str, tuple[str, str]] = {
    # sanctions
    "sanction-missing": ("lost", f"delete from enforcement.sanctions where sanction = {SANCTION}"),
    "sanction-undecided": ("problem", f"delete from enforcement.sanctions where sanction = {SANCTION}"),
    "sanctioned-twice": (
        "doubled",
        "insert into enforcement.sanctions select seller, number + 9000, sanction || 'x', scope, ledger, level, measures, withheld,"
        f" entry, claim, began, ends, state, cause, over_at, stands, reason from enforcement.sanctions where sanction = {SANCTION}",
    ),
    "sanction-unfounded": (
        "problem",
        f"update enforcement.sanctions set level = level + 1 where sanction = {SANCTION}",
    ),
    "sanction-wrong": (
        "problem",
        f"update enforcement.sanctions set measures = 'may_not_list' where sanction = {SANCTION}",
    ),
    # a freeze without days gets some hours, wherever it is written down
    "sanction-wrong hours": (
        "problem",
        f"update enforcement.sanctions set ends = began + interval '20 hours' where sanction = {SANCTION};"
        f" update enforcement.standings s set until = x.ends from enforcement.sanctions x where x.seller = s.seller and x.sanction = {SANCTION};"
        f" update marketplace.sellers m set until = s.until from enforcement.standings s where s.seller = m.seller and s.seller = {SANCTIONED}",
    ),
    "sanction-undecided scope": (
        "problem",
        f"update enforcement.sanctions set scope = 'entity' where sanction = {SANCTION}",
    ),
    "open-grounds-wrong": (
        "problem",
        f"update enforcement.standings set open_grounds = (open_grounds::jsonb - 'open')::text where seller = {SANCTIONED}",
    ),
    "measures-untold": (
        "problem",
        f"update enforcement.sanctions set state = 'ended', over_at = began where seller = {SANCTIONED} and state = 'in_force'",
    ),
    "sanction-overdue": (
        "problem",
        f"update enforcement.standings set due_at = '2001-01-01' where seller = {SANCTIONED}",
    ),
    "sanction-without-standing": ("problem", f"delete from enforcement.standings where seller = {SANCTIONED}"),
    "sanction-untold": (
        "lost",
        "delete from enforcement.ledger_event_log where type = 'goodfaith.sanction.changed.v1'"
        f" and payload::jsonb -> 'data' ->> 'sanction' = {SANCTION}",
    ),
    "sanction-told-twice": (
        "doubled",
        "insert into enforcement.ledger_event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from enforcement.ledger_event_log"
        f" where type = 'goodfaith.sanction.changed.v1' and payload::jsonb -> 'data' ->> 'sanction' = {SANCTION}",
    ),
    "sanction-unwritten": ("problem", f"delete from enforcement.sanctions where sanction = {SANCTION}"),
    "seller-command-twice": (
        "doubled",
        "insert into enforcement.ledger_event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, replace(payload, 'frozen', 'closed'), hash"
        " from enforcement.ledger_event_log where type = 'goodfaith.marketplace.seller_command.v1'",
    ),
    "seller-command-unconfirmed": (
        "problem",
        f"update enforcement.standings set confirmed = 0 where seller = {SANCTIONED}",
    ),
    "seller-command-missing": (
        "lost",
        "delete from enforcement.ledger_event_log where type = 'goodfaith.marketplace.seller_command.v1'"
        f" and key = {SANCTIONED}",
    ),
    "seller-differs": ("problem", f"update marketplace.sellers set measures = '' where seller = {SANCTIONED}"),
    # intake
    "claim-missing": ("lost", f"delete from intake.claims where id = {CLAIM}"),
    "command-missing": ("lost", f"delete from intake.commands where id = {COMMAND}"),
    "acknowledged-item-missing": ("lost", f"delete from intake.items where id = {ITEM}"),
    "text-missing": ("lost", f"update intake.commands set text = 'k-none' where id = {COMMAND}"),
    "text-without-place": (
        "problem",
        f"insert into intake.texts select {ITEM}, 'c-none', id, 'explanation', '' from intake.accounts limit 1",
    ),
    "text-without-place of a command": (
        "problem",
        "insert into intake.texts select k.id, k.claim, k.by, 'complaint', '' from intake.commands k where k.kind = 'counter' limit 1",
    ),
    "command-revision": (
        "problem",
        f"update intake.commands set revision = revision + 1 where id = {COMMAND}",
    ),
    "claim-unasked": ("problem", f"delete from intake.submissions where resource = {CLAIM}"),
    "submission-twice": (
        "doubled",
        "insert into intake.submissions select account, 'again', digest, resource, answer, accepted_at"
        f" from intake.submissions where resource = {CLAIM}",
    ),
    "items-missing": ("lost", f"delete from intake.items where id = {ITEM}"),
    "items-too-many": ("doubled", f"update intake.claims set size = size - 1 where id = {CLAIM}"),
    "item-without-claim": ("problem", f"delete from intake.claims where id = {CLAIM}"),
    "item-unpublished": (
        "lost",
        "delete from intake.event_log where type = 'goodfaith.item.submitted.v1'"
        f" and payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "item-published-twice": (
        "doubled",
        "insert into intake.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from intake.event_log"
        f" where type = 'goodfaith.item.submitted.v1' and payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "claim-untold": (
        "lost",
        f"delete from intake.event_log where type = 'goodfaith.claim.filed.v1' and claim = {CLAIM}",
    ),
    "claim-told-twice": (
        "doubled",
        "insert into intake.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from intake.event_log"
        f" where type = 'goodfaith.claim.filed.v1' and claim = {CLAIM}",
    ),
    "claim-told-wrong": ("problem", f"update intake.claims set complainant = 'h-other' where id = {CLAIM}"),
    "item-unaccepted": ("problem", f"delete from intake.items where id = {ITEM}"),
    "command-unpublished": (
        "lost",
        f"delete from intake.event_log where payload::jsonb -> 'data' ->> 'command' = {COMMAND}",
    ),
    "command-published-twice": (
        "doubled",
        "insert into intake.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from intake.event_log"
        f" where payload::jsonb -> 'data' ->> 'command' = {COMMAND}",
    ),
    "command-unaccepted": ("problem", f"delete from intake.commands where id = {COMMAND}"),
    "command-before-item": (
        "problem",
        f"update intake.event_log set seq = -1 where payload::jsonb -> 'data' ->> 'command' = {COMMAND}",
    ),
    "item-unjudged": ("lost", f"delete from verification.items where item = {ITEM}"),
    "item-unfiled": (
        "problem",
        "insert into verification.items select 'i-forged', partition, claim, listing, right_id, reason, state, original,"
        f" blocks, waits, next_due, revision, body from verification.items where item = {ITEM}",
    ),
    "command-open": (
        "lost",
        f"delete from verification.event_log where payload::jsonb -> 'data' ->> 'command' = {COMMAND}",
    ),
    "command-ended-twice": (
        "doubled",
        "insert into verification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from verification.event_log"
        f" where payload::jsonb -> 'data' ->> 'command' = {COMMAND}",
    ),
    "command-status": ("problem", f"update intake.commands set status = 'accepted' where id = {COMMAND}"),
    "command-unknown": ("problem", f"delete from intake.commands where id = {COMMAND}"),
    "recurrence-twice": ("doubled", f"{FOUND} cross join generate_series(0, 1) as n"),
    "recurrence-untold": ("problem", f"{FOUND} cross join generate_series(0, 0) as n"),
    "recurrence-unfounded": ("problem", f"update intake.claims set channel = 'recurrence' where id = {CLAIM}"),
    "recurrence-unlinked": (
        "problem",
        'update verification.event_log set payload = replace(payload, \'"data":{\', \'"data":{"recurs":"i-old",\')'
        f" where (partition, seq) = {CHANGE}",
    ),
    "recurrence-known": (
        "problem",
        "insert into verification.upheld values ('i-x', 'seller:s', 'c', 'l', 'r', 'x', 'ipp', now(), 'title', null)",
    ),
    "content-differs": ("problem", body(ITEM, 'body::jsonb || \'{"content": "x"}\'')),
    "content-twice": (
        "doubled",
        "update verification.event_log set payload = replace(payload, '\"data\":{',"
        f""" '"data":{{"content":"{"ab" * 32}",') where (partition, seq) = {CHANGE}""",
    ),
    "snapshot-lost": (
        "lost",
        f"update verification.listings set digest = null where listing = (select listing from verification.items where item = {ITEM})",
    ),
    # logs and inboxes
    "log-gap": ("lost", f"delete from verification.event_log where (partition, seq) = {CHANGE}"),
    "log-chain": (
        "problem",
        f"update verification.event_log set payload = replace(payload, 'met', 'not') where (partition, seq) = {CHANGE}",
    ),
    "log-head": ("problem", "update enforcement.ledger_partitions set hash = 'x' where seq > 0"),
    "unpublished": ("problem", "update notification.partitions set published_upto = published_upto - 1 where seq > 0"),
    "not-applied": ("lost", "update notification.reads set seq = seq - 1"),
    "not-applied of a log that was never read": ("lost", "delete from notification.reads where partition = 0"),
    "read-beyond-log": ("problem", "update notification.reads set seq = seq + 1000"),
    "link-wrong": (
        "problem",
        "update verification.event_log set payload = regexp_replace(payload, '\"previous\":([0-9]+)', '\"previous\":9\\1')"
        f" where (partition, seq) = {CHANGE}",
    ),
    "upstream-unanswered": (
        "lost",  # its id stays in the inbox, as an earlier topic's might
        "delete from intake.submissions where account = 'u-desk'",
    ),
    "upstream-unanswered by a refusal": (
        "lost",
        'update intake.inbound_event_log set payload = replace(payload, \'"event":"desk.\', \'"event":"gone.\')',
    ),
    "upstream-unread": ("problem", "update intake.inbound_cursors set next_offset = 0"),
    "applied-unknown": ("problem", "insert into enforcement.inbox (event_id) values ('verification.0.4711')"),
    "unread": (
        "problem",
        "update intake.cursors set next_offset = next_offset - 1 where topic = 'verification.events' and next_offset > 0",
    ),
    "cursor-beyond-end": ("problem", "update enforcement.cursors set next_offset = next_offset + 1000"),
    "dead-letter": (
        "problem",
        'insert into enforcement.ledger_dead_letters (partition, key, topic, "offset", event_id, type, value, error)'
        " values (0, 's-anna', 'enforcement.violations', 0, 'x', 'y', '', 'a bug')",
    ),
    "cause-unknown": (
        "problem",
        "update enforcement.event_log set payload = replace(payload, 'causationid\":\"verif', 'causationid\":\"forged')",
    ),
    "uncaused": (
        "problem",
        "update enforcement.event_log set payload = replace(payload, 'causationid', 'because') where type = 'goodfaith.hold.changed.v1'",
    ),
    "timer-early": ("problem", "update verification.partitions set watermark = watermark - interval '19 days'"),
    "timer-early by the watermarks of that time": (
        "problem",
        "update verification.event_log set recorded_wall = (select min(recorded_wall) from verification.event_log"
        " where type = 'goodfaith.item.handled.v1') where type = 'goodfaith.item.upheld_by_default.v1'",
    ),
    # judged by the model
    "command-misjudged": (
        "problem",  # had it come in time, the default would have been undone
        'update intake.event_log l set payload = regexp_replace(payload, \'"accepted_at":"[^"]*"\','
        f' substring(c.terms from \'"accepted_at":"[^"]*"\')) from intake.claims c where c.id = l.claim and {NAMES} {LATE}',
    ),
    "command-wronged": (
        "lost",  # a complaint would have been admissible
        "update intake.event_log set type = replace(type, 'accept', 'complain'),"
        f" payload = replace(payload, 'command.accept', 'command.complain') where {NAMES} {REFUSED}",
    ),
    "command-unearned": (
        "problem",
        f'update intake.event_log set payload = regexp_replace(payload, \'"by":"[^"]*"\', \'"by":"x"\') where {NAMES} {COMMAND}',
    ),
    "deadline-differs": (
        "problem",
        'update verification.event_log set payload = regexp_replace(payload, \'"time":"[^T]*T\', \'"time":"2026-01-01T\')'
        f" where type = 'goodfaith.item.upheld_by_default.v1' and {OF_ITEM}",
    ),
    "deadline-unkept": (
        "lost",
        f"delete from verification.event_log where type = 'goodfaith.item.upheld_by_default.v1' and {OF_ITEM}",
    ),
    "item-misjudged": (
        "problem",
        f'update verification.event_log set payload = replace(payload, \'"sla":"met"\', \'"sla":"missed"\') where {OF_ITEM};'
        + body(ITEM, 'body::jsonb || \'{"sla": "missed"}\''),
    ),
    "item-not-as-filed": (
        "problem",
        'update verification.event_log set payload = regexp_replace(payload, \'"principal":"[^"]*"\', \'"principal":"x"\')'
        f" where {OF_ITEM}; " + body(ITEM, 'body::jsonb || \'{"principal": "x"}\''),
    ),
    "timers-differ": (
        "problem",
        body(ITEM, 'body::jsonb || \'{"timers": [["lookup_give_up", "2100-01-01T00:00:00Z"]]}\'')
        + f"; update verification.items set next_due = '2100-01-01Z' where item = {ITEM}",
    ),
    "policy-unknown": (
        "problem",
        'update intake.event_log set payload = replace(payload, \'"policy":"ipp\', \'"policy":"none\')'
        f" where type = 'goodfaith.item.submitted.v1' and {OF_ITEM}",
    ),
    # what was published is what was filed
    "claim-differs": ("problem", f"update intake.claims set principal = 'x' where id = {CLAIM}"),
    "item-published-wrong": (
        "problem",
        f"update intake.claims set terms = (terms::jsonb || '{{\"good_faith\": true}}')::text where id = {CLAIM}",
    ),
    "command-published-wrong": (
        "problem",
        f"update intake.commands set accepted_at = accepted_at - interval '1 second' where id = {COMMAND}",
    ),
    # items
    "event-unreadable": (
        "problem",
        f"update verification.event_log set payload = replace(payload, 'NOTIFIED', 'NOWHERE') where (partition, seq) = {CHANGE}",
    ),
    "revision-gap": ("lost", f"delete from verification.event_log where (partition, seq) = {CHANGE}"),
    "revision-fork": (
        "doubled",
        "insert into verification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from verification.event_log"
        f" where (partition, seq) = {CHANGE}",
    ),
    "state-torn": (
        "problem",
        'update verification.event_log set payload = replace(payload, \'"previous":"NOTIFIED"\', \'"previous":"COUNTERED"\')'
        f" where (partition, seq) = {CHANGE}",
    ),
    "settled-wrong": (
        "problem",
        "update verification.event_log set payload = replace(payload, '\"settled\":true', '\"settled\":false')",
    ),
    "item-altered": (
        "problem",
        "update verification.event_log set payload = replace(payload, '\"ipp\"', '\"dmca\"')"
        f" where (partition, seq) = {CHANGE}",
    ),
    "sla-twice": (
        "doubled",
        'update verification.event_log set payload = replace(payload, \'"sla":"met"\', \'"sla":"missed"\')'
        f" where (partition, seq) <> {CHANGE} and payload::jsonb -> 'data' ->> 'item' = {ITEM}"
        " and type = 'goodfaith.item.upheld_by_default.v1'",
    ),
    "final-left": (
        "problem",
        'update verification.event_log set payload = replace(payload, \'"state":"NOTIFIED"\', \'"state":"WITHDRAWN"\')'
        f" where payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "state-differs": ("problem", body(ITEM, "body::jsonb || '{\"counter_round\": 2}'")),
    "item-columns": ("problem", f"update verification.items set blocks = not blocks where item = {ITEM}"),
    "item-untold": (
        "problem",
        f"delete from verification.event_log where payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "item-forgotten": ("lost", f"delete from verification.items where item = {ITEM}"),
    "deadline-passed": (
        "problem",
        f"update verification.items set next_due = now() - interval '1 year' where item = {ITEM}",
    ),
    "window-not-begun": (
        "problem",
        body(ITEM, 'body::jsonb || \'{"state": "NOTIFIED", "awaits": ["seller_notice"]}\''),
    ),
    "no-exit": ("problem", f"update verification.items set state = 'COUNTERED' where item = {ITEM}"),
    "sla-open": ("problem", body(ITEM, "body::jsonb - 'sla'")),
    "hold-without-receipt": ("problem", body(ITEM, "body::jsonb - 'handled_at'")),
    "duplicate-not-reopened": (
        "lost",
        "update verification.items set state = 'REJECTED' where item ="
        " (select min(original) from verification.items where state = 'DUPLICATE')",
    ),
    "read-model-item": ("problem", f"update intake.items set state = 'NOTIFIED' where id = {ITEM}"),
    "timeline-gap": ("lost", f"delete from intake.timeline where item = {ITEM} and revision = 2"),
    "timeline-differs": (
        "problem",
        f"update intake.timeline set state = 'LAPSED' where item = {ITEM} and revision = 2",
    ),
    "good-faith-item": ("problem", f"update intake.good_faith_items set outcome = 'lifted' where item = {ITEM}"),
    "good-faith-count": (
        "problem",
        "update intake.good_faith_days set upheld = upheld - 1 where (account, day, reason, partition) ="
        " (select account, day, reason, partition from intake.good_faith_days limit 1)",
    ),
    "good-faith-standing": ("problem", "update intake.accounts set good_faith = true where id = 'h-owl'"),
    "good-faith-unexplained": (
        "problem",
        "insert into intake.good_faith_standings (account, since, barred_until) values ('h-owl', now()::date, now()::date)"
        " on conflict (account) do update set since = now()::date, barred_until = now()::date",
    ),
    "misuse-standing": ("problem", "update intake.accounts set misuse = 'quota', misuse_items = 5 where id = 'h-owl'"),
    "misuse-unwarned": (
        "problem",
        "insert into intake.misuse_measures (id, account, kind, day, at, basis) values ('m-1', 'h-owl', 'quota', now()::date, now(), '')",
    ),
    # the review queue
    "case-missing": ("lost", body(ITEM, """jsonb_set(body::jsonb, '{state}', '"UNDER_REVIEW"')""")),
    "case-differs": (
        "problem",
        "insert into intake.cases (item, claim, listing, complainant, principal, right_type, reason, severity, profile, policy,"
        " lane, state, revision, entered, rank, due, since) select id, claim, listing, 'a', 'a', 't', 'r', 'general', 'ipp', 'p',"
        f" 'bulk', 'COUNTERED', revision, 1, 1, now(), now() from intake.items where id = {ITEM}",
    ),
    "decision-forgotten": ("lost", "delete from intake.review_decisions"),
    "decision-differs": ("problem", "update intake.review_decisions set outcome = 'refused'"),
    "decided-twice": (
        "doubled",
        "update intake.review_decisions set entered = 1; insert into intake.review_decisions (item, claim, entered, state, reviewer,"
        " role, decision, kind, command, outcome, decided_at) select item, claim, entered, state, 'r-else', role, decision, kind,"
        " 'k-else', outcome, decided_at from intake.review_decisions",
    ),
    "decided-by-one": (
        "problem",
        "insert into intake.review_decisions (item, claim, entered, state, reviewer, role, decision, kind, decided_at)"
        " select item, claim, entered, state, reviewer, role, decision, 'proposal', decided_at from intake.review_decisions",
    ),
    # holds, listings, penalties
    "hold-missing": ("lost", f"delete from enforcement.holds where item = {HELD}"),
    "hold-differs": ("problem", f"update enforcement.holds set held = false where item = {HELD}"),
    "hold-untold": ("problem", f"update enforcement.holds set held = false where item = {HELD}"),
    "holds-miscounted": ("problem", f"update enforcement.listings set holds = holds + 1 where listing = {LISTING}"),
    "measure-unconfirmed": ("problem", f"update enforcement.listings set confirmed = 0 where listing = {LISTING}"),
    "measure-wrong": ("problem", f"update enforcement.listings set action = 'restore' where listing = {LISTING}"),
    "visible-with-hold": ("problem", f"update marketplace.listings set measure = 'none' where listing = {LISTING}"),
    "down-without-hold": ("problem", "update marketplace.listings set measure = 'removed' where listing = 'li-23'"),
    "measure-seq": ("problem", f"update marketplace.listings set seq = seq + 1 where listing = {LISTING}"),
    "listing-unknown": ("problem", f"delete from marketplace.listings where listing = {LISTING}"),
    "violation-missing": ("lost", f"delete from enforcement.violation_items where item = {ITEM}"),
    "violation-unfounded": (
        "problem",
        "update enforcement.violation_items set in_force = true where item ="
        " (select min(item) from enforcement.violation_items where not in_force)",
    ),
    "violation-differs": ("problem", "update enforcement.violations set at = at - interval '1 day' where in_force"),
    "hold-violation-differs": ("problem", f"update enforcement.holds set violation = false where item = {HELD}"),
    "reversal-unfounded": ("problem", f"update enforcement.ledger_entries set points = -5 where entry = {REVERSAL}"),
    "reversed-twice": (
        "doubled",
        "alter table enforcement.ledger_entries drop constraint ledger_entries_reverses_key;"
        " insert into enforcement.ledger_entries select 'forged', seller, claim, ledger, kind, points, reverses, effective_at,"
        f" expires_at from enforcement.ledger_entries where entry = {REVERSAL}",
    ),
    "entry-differs": ("problem", f"update enforcement.ledger_entries set points = points + 1 where entry = {ENTRY}"),
    "punished-twice": (
        "doubled",
        "insert into enforcement.ledger_entries select 'forged', x.seller, x.claim, x.ledger, x.kind, x.points, x.reverses,"
        " x.effective_at, x.expires_at from enforcement.ledger_entries x join enforcement.violations v on v.entry = x.entry limit 1",
    ),
    "entry-untold": (
        "lost",
        f"delete from enforcement.ledger_event_log where payload::jsonb -> 'data' ->> 'entry' = {ENTRY}",
    ),
    "entry-told-twice": (
        "doubled",
        "insert into enforcement.ledger_event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from enforcement.ledger_event_log",
    ),
    "entry-unwritten": ("problem", f"delete from enforcement.ledger_entries where entry = {REVERSAL}"),
    "standing-missing": ("problem", "delete from enforcement.standings where seller = 's-anna'"),
    "entity-unfounded": ("problem", "delete from enforcement.seller_keys where seller = 's-anna'"),
    "entity-misnamed": (
        "problem",
        "update enforcement.entity_members set entity = 'e-x'; update enforcement.entities set entity = 'e-x'",
    ),
    "entity-missing": ("lost", "delete from enforcement.entity_members"),
    "key-untold": ("lost", "delete from enforcement.seller_keys"),
    "entity-uncounted": ("problem", "insert into enforcement.entity_work (seller) values ('s-anna')"),
    "entity-not-taken-in": ("problem", "insert into enforcement.relinked (partition, seller) values (0, 's-anna')"),
    "entity-wrong": ("problem", "update enforcement.entities set serious_strikes = serious_strikes + 1"),
    "entity-wrong warnings": (
        "problem",
        "update enforcement.entities set warned = array_append(warned, '2020-01-01Z')",
    ),
    "entity-wrong last": ("problem", "update enforcement.entities set last = '2020-01-01Z'"),
    "entity-untold grounds": (
        "lost",
        'update enforcement.standings set entity_grounds = (entity_grounds::jsonb || \'{"last": "2020-01-01T00:00:00Z"}\')::text'
        " where entity is not null",
    ),
    "entity-empty": (
        "problem",
        "insert into enforcement.entities values ('e-x', 0, 0, 0, null, '[]', null, '{}', now())",
    ),
    "entity-untold": (
        "lost",
        "update enforcement.standings set entity_points = entity_points + 1 where entity is not null",
    ),
    "entity-above": ("problem", "update enforcement.standings set violations = 99 where entity is not null"),
    "entity-overdue": ("problem", "update enforcement.entities set next_change = '2000-01-01Z'"),
    "entity-sanction-unfounded": (
        "problem",
        "update enforcement.sanctions set scope = 'entity', state = 'in_force', over_at = null, began = '2100-01-01Z'"
        " where seller = 's-cleo'",
    ),
    "standing-wrong": ("problem", "update enforcement.standings set serious_strikes = serious_strikes + 1"),
    "penalty-wrong": ("problem", "update enforcement.violations set points = points + 1 where in_force"),
    # messages
    "untold": ("lost", f"delete from notification.message_items where item = {ITEM} and kind = 'outcome'"),
    "told-unfounded": (
        "problem",
        f"update notification.message_items set party = 's-else' where item = {ITEM} and kind = 'seller_notice'",
    ),
    "untold-yet": ("problem", f"update notification.message_items set message = null where item = {ITEM}"),
    "message-missing": ("lost", f"delete from notification.messages where id = {MESSAGE}"),
    "told-twice": (
        "doubled",
        "insert into notification.messages (id, claim, party, kind, items, revisions, state, opened_wall)"
        f" select 'm-forged', claim, party, kind, items, revisions, state, opened_wall from notification.messages where id = {MESSAGE}",
    ),
    "message-unfounded": (
        "problem",
        f"update notification.messages set revisions = array_fill(9, array[cardinality(items)]) where id = {MESSAGE}",
    ),
    "message-unsent": ("problem", f"update notification.messages set state = 'failed' where id = {MESSAGE}"),
    "message-unannounced": (
        "lost",
        "delete from notification.event_log where type = 'goodfaith.message.sent.v1'"
        f" and payload::jsonb -> 'data' ->> 'message' = {MESSAGE}",
    ),
    "message-announced-twice": (
        "doubled",
        "insert into notification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from notification.event_log"
        " where type = 'goodfaith.message.sent.v1'",
    ),
    "announced-unsent": (
        "problem",
        f"update notification.messages set sent_at = sent_at + interval '1 s' where id = {MESSAGE}",
    ),
    "notice-unannounced": (
        "lost",
        f"delete from notification.event_log where payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "notice-announced-twice": (
        "doubled",
        "insert into notification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
        " select partition, seq + 1000, topic, key, target, type, claim, payload, hash from notification.event_log"
        " where type = 'goodfaith.notice.sent.v1'",
    ),
    "notice-unfounded": (
        "problem",
        f"update notification.messages set begun_at = begun_at + interval '1 s' where id = {MESSAGE}",
    ),
    "beginning-missing": (
        "problem",
        f"update notification.messages set begun_at = null, begun_by = null where id = {MESSAGE}",
    ),
    "beginning-wrong": ("problem", f"update notification.messages set begun_by = 'read' where id = {MESSAGE}"),
    "inbox-message": ("problem", f"delete from intake.messages where id = {MESSAGE}"),
    "centre-unreceipted": ("problem", f"update notification.messages set channel = 'centre' where id = {MESSAGE}"),
    "centre-receipt-ignored": (
        "lost",
        "insert into notification.centre (message, party, handed_at, template, version, digest, locale, edition, result,"
        f" answered_at) select id, party, sent_at, 't', 1, 'd', 'en', '', 'refused', now() from notification.messages"
        f" where id = {MESSAGE}",
    ),
    # under a version whose windows wait for the seller; that of the run proceeds
    "window-unowned": (
        "problem",
        f"update notification.messages set result = 'unreachable' where id = {MESSAGE}; "
        + body(
            f"(select items[1] from notification.messages where id = {MESSAGE})",
            'body::jsonb || \'{"policy": "ipp-2026-12"}\'',
        ),
    ),
    "unreached-unannounced": (
        "lost",
        f"update notification.messages set result = 'unreachable', begins = 'read' where id = {MESSAGE}",
    ),
    "unreached-announced-twice": ("doubled", f"{UNREACHED}; {UNREACHED.replace('+ 2000', '+ 3000')}"),
    "unreached-unfounded": ("problem", UNREACHED),
    "right-unaccepted": ("problem", "update intake.rights set accepted = null where status = 'active'"),
    "authorisation-unaccepted": (
        "problem",
        "insert into intake.authorisations (id, agent, principal, granted_at, basis, asked_by)"
        " select 'u-x', id, id, now(), 'principal', id from intake.accounts limit 1",
    ),
    "document-gone": (
        "problem",
        f"{DOCUMENT} values ('d-1', 'h', '{{other}}', '', 1, 'text/plain', 'gone', now());"
        f" insert into intake.evidence_links values ('d-1', {CLAIM}, 'claim', 'h', '{{other}}', now());"
        f" update intake.items set state = 'NOTIFIED' where claim = {CLAIM}",
    ),
    "document-stuck": (
        "problem",
        f"{DOCUMENT} values ('d-1', 'h', '{{other}}', '', 1, 'text/plain', 'going', now());"
        " update intake.evidence set changed_wall = now() - interval '25 hours'",
    ),
    "erased-kept": (
        "problem",
        "insert into intake.subject_keys select id, '' from intake.accounts limit 1 on conflict do nothing;"
        " update intake.accounts set erased_at = now() where id in (select account from intake.subject_keys)",
    ),
    "erasure-untold": (
        "lost",
        "update intake.accounts set erased_at = now() where id = (select min(id) from intake.accounts)",
    ),
    "noticed-at-wrong": (
        "problem",
        f"delete from notification.event_log where payload::jsonb -> 'data' ->> 'item' = {ITEM}",
    ),
    "noticed-at-missing": (
        "problem",
        body(ITEM, "(body::jsonb - 'noticed_at') || '{\"state\": \"NOTIFIED\"}'")
        + f"; update verification.items set state = 'NOTIFIED' where item = {ITEM}",
    ),
}

STATEMENT = "insert into enforcement.statements (puid, item, revision, policy, body, state)"
HOLDS = f"""select item || '.' || revision, item, revision, '{IPP}', '', 'sent' from (select payload::jsonb -> 'data' ->> 'item' as item,
    (payload::jsonb -> 'data' ->> 'revision')::int as revision, coalesce((payload::jsonb -> 'data' ->> 'held')::bool, false) as held,
    lag(coalesce((payload::jsonb -> 'data' ->> 'held')::bool, false), 1, false) over (partition by payload::jsonb -> 'data' ->> 'item'
    order by (payload::jsonb -> 'data' ->> 'revision')::int) as before
    from verification.event_log where payload::jsonb -> 'data' ? 'revision') t where held and not before"""
# where the policy asks for statements of reasons -> kind, category
ASKING: dict[str, tuple[str, str]] = {
    "statement-missing": (
        "lost",
        f"{STATEMENT} {HOLDS}; delete from enforcement.statements where puid = (select max(puid) from enforcement.statements)",
    ),
    "statement-unfounded": (
        "problem",
        f"{STATEMENT} {HOLDS}; {STATEMENT} values ('x', {ITEM}, 1000, '{IPP}', '', 'sent')",
    ),
    "statement-refused": (
        "problem",
        f"{STATEMENT} {HOLDS}; update enforcement.statements set state = 'refused' where item = {ITEM}",
    ),
    "statement-unsent": (
        "problem",
        f"{STATEMENT} {HOLDS}; update enforcement.statements set state = 'waiting' where item = {ITEM}",
    ),
}

# the copy of the topics -> kind, category
COPIED: dict[str, tuple[str, str]] = {
    "not-on-topic": ("lost", f"delete from v_rec where id = {RECORD}"),
    "foreign-record": ("problem", f"update v_rec set id = 'verification.0.4711' where id = {RECORD}"),
    "record-altered": ("problem", f"update v_rec set sum = md5('x')::uuid where id = {RECORD}"),
    "topic-disorder": (
        "problem",
        f"update v_rec set \"offset\" = 100000 where id = (select id from v_log where writer = 'verification'"
        f" and key = {LISTING} order by seq limit 1)",
    ),
}


COPIED |= {
    "watermark-false": (
        "problem",
        "update v_mark set upto = upto + interval '30 days' where (partition, \"offset\") in"
        ' (select partition, min("offset") from v_mark group by partition)',
    ),
    "topic-unlinked": (
        "problem",
        f"update v_rec set \"offset\" = 100000 where id = (select id from v_log where writer = 'verification'"
        f" and key = {LISTING} order by seq limit 1)",
    ),
    "applied-disorder": (
        "problem",
        "update v_log set seq = seq + 100000 where id = (select cause from v_log where writer = 'verification' and cause like 'intake.%%'"
        " and key in (select key from v_log where writer = 'verification' and cause like 'intake.%%' group by key"
        " having count(distinct cause) > 1) order by partition, seq limit 1)",
    ),
}


class Copy(Reading):
    """The topics as they were read before."""

    def __init__(self, first: Reading, lines: TopicLines) -> None:
        self.ranges = first.ranges
        self._lines = lines

    def into(self, copy: Callable[[str, IO[Any]], None]) -> None:
        for table, lines in self._lines._asdict().items():
            copy(table, io.StringIO(lines))
        copy("v_ends", self.ends())

    def close(self) -> None:
        return


class Rig:
    """The run that is over, and its topics."""

    def __init__(self, run: SmallRun) -> None:
        self.run = run
        self.settings: Settings = run.settings
        names = [topic.name for topic in topics.TOPICS]
        upstreams = [topics.inbound(name).name for name in self.settings.upstreams]
        first = Reading(self.settings, names, upstreams)
        first.close()
        ranges = [one for one in first.ranges if one.next > one.first]
        self.copy = Copy(first, read(self.settings, ranges, upstreams))
        self.groups = committed(self.settings)
        self.engine = run.engine.execution_options(isolation_level="REPEATABLE READ")

    def find(self, tamper: str = "", tamper_copy: str = "") -> dict[str, Any]:
        """Findings by kind on tampered data, which is rolled back."""
        with self.engine.connect() as connection:
            if tamper:
                connection.exec_driver_sql("set session_replication_role = replica")  # no triggers, no foreign keys
                connection.exec_driver_sql(tamper)
            evidence = Evidence(connection, self.settings, self.groups)
            evidence.gather(self.copy)
            for statement in filter(None, tamper_copy.split(";")):
                assert connection.exec_driver_sql(statement).rowcount > 0, statement
            found = {finding.kind: finding for finding in checks.run(evidence)}
            connection.rollback()
            connection.exec_driver_sql("set session_replication_role = default")
            connection.commit()
        return found


@pytest.fixture(scope="module")
def rig(run: SmallRun) -> Rig:
    return Rig(run)


def test_a_run_is_clean(rig: Rig) -> None:
    report = verify_stack(rig.settings)
    assert report.kinds == []
    assert report.clean
    counts = report.as_json()
    assert counts["claims"] == len(rig.run.claims) + 1  # one came by the upstream
    assert counts["items"] == sum(map(len, rig.run.items.values())) + 2
    assert counts["submissions"] == counts["claims"] + counts["commands"]
    # a publisher that heard no answer sends again
    assert counts["events"] == counts["records"] - report.totals["resent_records"] > 200
    states = report.totals["outcomes"]
    assert {
        "DUPLICATE",
        "LAPSED",
        "LINK_INVALID",
        "RESTORED",
        "UPHELD",
        "UPHELD_AFTER_COUNTER",
        "UPHELD_BY_DEFAULT",
    } < set(states)
    assert report.totals["handled_within_24h"] == 1.0


def test_every_kind_of_finding_is_shown() -> None:
    """No check that cannot be seen to fail."""
    said = set()
    folder = Path("services/ops/verify")
    for file in (*folder.glob("*_checks.py"), folder / "fold.py", folder / "judge.py"):
        text = file.read_text()
        said |= set(re.findall(r'"(?:lost|doubled|problem)",\s*"([a-z-]+)"', text))
        said |= set(re.findall(r'Disagreement\(\s*"([a-z-]+)"', text))
    said -= {"unread-gone", "database-behind", "log-cut", "log-rewritten"}  # below, by tests of their own
    # by a name of their own: `<field>-twice`, gap and fork
    assert (
        said
        - {kind.partition(" ")[0] for kind in TAMPERED}
        - set(COPIED)
        - set(ASKING)
        - {"lost", "doubled", "problem"}
        == set()
    )


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampering_is_found(rig: Rig, kind: str) -> None:
    category, sql = TAMPERED[kind]
    kind = kind.partition(" ")[0]
    found = rig.find(tamper=sql)
    assert kind in found, sorted(found)
    assert found[kind].category == category
    assert found[kind].count > 0
    assert found[kind].examples


def test_a_mistake_that_enforcement_makes_again_when_asked_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rules are wrong, and all rows are as the wrong rules have them: neither threshold nor link was ever there."""
    monkeypatch.setattr(sanctions, "thresholds", lambda *_: ())
    monkeypatch.setattr(sanctions, "grounds", lambda *_: ())
    monkeypatch.setattr(entities, "components", lambda *_: [])
    alone = (
        "delete from enforcement.entity_members; delete from enforcement.entities; update enforcement.standings set entity = null,"
        " entity_points = 0, entity_strikes = 0, entity_violations = 0, entity_grounds = null"
    )
    free = (
        "delete from enforcement.sanctions; update enforcement.standings set measures = '', until = null, seq = 0, confirmed = 0,"
        " open_grounds = (open_grounds::jsonb - 'open')::text; delete from enforcement.ledger_event_log where type in"
        " ('goodfaith.sanction.changed.v1', 'goodfaith.marketplace.seller_command.v1');"
        " update marketplace.sellers set measures = '', until = null, seq = 0"
    )
    found = rig.find(tamper=f"{alone}; {free}")
    assert {"entity-missing", "sanction-missing", "open-grounds-wrong"} <= set(found)
    assert (found["entity-missing"].category, found["sanction-missing"].category) == ("lost", "lost")


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    """As if the run's policy asked for statements of reasons."""
    ipp = policy.load(IPP)
    table = policy.parse(statements_policy.text(), f"{statements_policy.VERSION}.toml").statements
    monkeypatch.setattr(policy, "load", lambda _: msgspec.structs.replace(ipp, statements=table))
    monkeypatch.setattr(rig, "settings", rig.settings.model_copy(update={"statements_url": "https://eu.example"}))


def test_statements_that_are_there_are_fine(rig: Rig, asking: None) -> None:
    assert rig.find(tamper=f"{STATEMENT} {HOLDS}") == {}
    assert set(rig.find()) == {"statement-missing"}


@pytest.mark.parametrize("kind", ASKING)
def test_a_statement_too_many_or_too_few_is_found(rig: Rig, asking: None, kind: str) -> None:
    category, sql = ASKING[kind]
    found = rig.find(tamper=sql)
    assert set(found) == {kind}
    assert (found[kind].category, found[kind].count) == (category, 1)


@pytest.mark.parametrize("kind", COPIED)
def test_topics_are_compared(rig: Rig, kind: str) -> None:
    category, sql = COPIED[kind]
    found = rig.find(tamper_copy=sql)
    assert kind in found, sorted(found)
    assert found[kind].category == category


def test_a_resent_record_is_no_fault(rig: Rig) -> None:
    found = rig.find(
        tamper_copy='insert into v_rec select topic, partition, "offset", id, sum from v_rec order by "offset" limit 50'
    )
    assert found == {}


def test_what_retention_or_compaction_took_is_not_missed(rig: Rig) -> None:
    old = "select topic, partition, min(\"offset\") as at from v_rec where topic like '%%verification.events' group by 1, 2"
    passed = (
        f"update v_ends e set first = o.at + 1 from ({old}) o where o.topic = e.topic and o.partition = e.partition;"
        f' delete from v_rec r using ({old}) o where r.topic = o.topic and r.partition = o.partition and r."offset" = o.at'
    )
    assert rig.find(tamper_copy=passed) == {}
    again = (
        "insert into marketplace.event_log (partition, seq, topic, key, target, type, claim, payload, hash) select partition,"
        " 0, topic, key, target, type, claim, payload, hash from marketplace.event_log where seq = 1 and topic like '%%listings'"
    )
    found = rig.find(tamper=again)  # an older word on a listing, which is not on the topic
    assert "log-chain" in found
    assert "not-on-topic" not in found


# what retention has taken of a topic whose records were all read
GONE = (
    "delete from v_rec where topic = 'verification.events' or topic like '%%.verification.events';"
    "update v_ends set first = next where topic = 'verification.events' or topic like '%%.verification.events'"
)
CUT = (
    "(select partition from notification.cursors where topic = 'verification.events' order by next_offset desc limit 1)"
)


def test_what_was_read_before_retention_took_it_is_fine(rig: Rig) -> None:
    assert rig.find(tamper_copy=GONE) == {}


def test_what_retention_took_unread_is_found(rig: Rig) -> None:
    short = "update notification.reads set seq = seq - 1 where topic = 'verification.events'"
    assert set(rig.find(tamper=short, tamper_copy=GONE)) == {"not-applied"}


def test_a_cursor_that_retention_has_passed_is_found(rig: Rig) -> None:
    behind = f"update notification.cursors set next_offset = next_offset - 1 where topic = 'verification.events' and partition = {CUT}"
    found = rig.find(tamper=behind, tamper_copy=GONE)
    assert {"unread-gone", "database-behind"} == set(found)


def test_a_database_from_before_is_found_by_what_the_broker_knows(rig: Rig) -> None:
    """A suffix is cut off everywhere alike: its worker had committed more at the broker, and records are left of it."""
    cut = """
        delete from notification.event_log l using notification.partitions p where p.partition = l.partition and l.seq = p.seq;
        update notification.partitions p set seq = l.seq, hash = l.hash, published_upto = l.seq from (select distinct on (partition)
            partition, seq, hash from notification.event_log order by partition, seq desc) l where l.partition = p.partition"""
    found = rig.find(tamper=cut)
    assert (found["log-cut"].category, found["log-cut"].count) == ("lost", found["foreign-record"].count * 2)
    none = "delete from v_rec where id like 'notification.%%'; update v_ends set first = next where topic like '%%notification.events'"
    assert rig.find(tamper=cut, tamper_copy=none)["log-cut"].category == "lost"
    back = "update notification.cursors set next_offset = next_offset - 1 where next_offset > 0"
    assert rig.find(tamper=back)["database-behind"].category == "lost"


def test_a_log_whose_chain_was_made_again_is_found_by_what_the_broker_knows(rig: Rig) -> None:
    again = """
        update notification.event_log l set payload = replace(l.payload, '"sent_at":"2', '"sent_at":"1'),
            hash = encode(sha256(convert_to(b.hash || replace(l.payload, '"sent_at":"2', '"sent_at":"1'), 'UTF8')), 'hex')
        from notification.partitions p, notification.event_log b
        where p.partition = l.partition and l.seq = p.seq and b.partition = l.partition and b.seq = l.seq - 1;
        update notification.partitions p set hash = l.hash from notification.event_log l
        where p.partition = l.partition and l.seq = p.seq"""
    found = rig.find(tamper=again)
    assert "log-chain" not in found
    assert found["log-rewritten"].category == "problem"


def test_nothing_is_written(rig: Rig) -> None:
    with rig.engine.connect() as connection:
        evidence = Evidence(connection, rig.settings)
        evidence.gather(rig.copy)
        with pytest.raises(sa.exc.InternalError, match="read-only"):
            connection.exec_driver_sql("delete from intake.items")


def test_a_foreign_record_on_a_real_topic(rig: Rig) -> None:
    """Last, for it stays there."""
    producer: Any = KafkaProducer(bootstrap_servers=rig.settings.kafka, acks="all")
    producer.send(
        rig.settings.topic_prefix + topics.VERIFICATION.name, key=b"li-1", value=b"\xff not ours", partition=0
    )
    producer.close()
    with rig.engine.connect() as connection, connection.begin():
        report: Report = examine(connection, rig.settings)
    assert [kind["kind"] for kind in report.kinds if kind["kind"] == "foreign-record"]
    assert not report.clean
