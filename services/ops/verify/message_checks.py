"""Checks of `goodfaith verify` on messages: each party is told everything, once, and windows begin with their notice."""

from __future__ import annotations

from typing import Final

from services.ops.verify.evidence import Check, Evidence, not_set_aside, quoted
from services.ops.verify.findings import Finding
from services.ops.verify.telling import WINDOW_KINDS
from shared import policy

_SAME: Final = "m.item = t.item and m.revision = t.revision and m.kind = t.kind and m.party = t.party"
_NAME: Final = "t.kind || ' to ' || t.party || ' of ' || t.item || '/' || t.revision"
# what messages say; rows of a digest keep their own kinds
_SAID: Final = """
    (select m.id, m.kind, m.party, m.claim, u.item, u.revision from notification.messages m,
        unnest(m.items, m.revisions) as u(item, revision) where m.kind <> 'digest'
    union all
    select i.message, i.kind, i.party, m.claim, i.item, i.revision from notification.message_items i
        join notification.messages m on m.id = i.message and m.kind = 'digest')"""
_WINDOWS: Final = quoted(WINDOW_KINDS)
_ANNOUNCED: Final = "(select message, count(*) as n, min(sent_at) as sent_at from v_sent group by message)"
_NOTICED: Final = """
    (select message, item, revision, count(*) as n, min(begins) as begins, min(begun_by) as begun_by
    from v_notice group by message, item, revision)"""
_DUE: Final = f"""
    (select m.id, m.begun_at, m.begun_by, u.item, u.revision from notification.messages m,
        unnest(m.items, m.revisions) as u(item, revision) where m.begun_at is not null and m.kind in ({_WINDOWS}))"""

_UNOWNED: Final = """
    (select m.id, u.item, u.revision from notification.messages m, unnest(m.items, m.revisions) as u(item, revision)
    where m.kind = 'seller_notice' and m.result = 'unreachable' and m.begins = 'read' and m.state in ('sent', 'delivered'))"""


def unowned(e: Evidence) -> list[Finding]:
    """No window waits for less than its reading in an inbox that nobody owns, unless the policy goes on all the same."""
    proceed = [one for one in policy.versions() if policy.load(one).sellers.unreachable == "proceed"]
    return e.find(
        {
            ("problem", "window-unowned"): f"""
                select m.id from notification.messages m join verification.items i on i.item = m.items[1]
                where m.kind = 'seller_notice' and m.result = 'unreachable' and m.begins <> 'read'
                and i.body::jsonb ->> 'policy' <> all(array[{quoted(proceed)}]::text[])"""
        }
    )


CHECKS: Final[dict[str, Check]] = {
    # what the parties must be told is in exactly one message, and nothing else is in one
    "told": {
        ("lost", "untold"): f"""
            select {_NAME} from v_told t left join notification.message_items m on {_SAME}
            left join verification.items v on v.item = t.item
            where m.item is null and coalesce(v.listing, t.party) {not_set_aside("notification")}""",
        ("problem", "told-unfounded"): f"""
            select {_NAME.replace("t.", "m.")} from notification.message_items m left join v_told t on {_SAME}
            where t.item is null""",
        ("problem", "untold-yet"): f"""
            select {_NAME} from notification.message_items t where t.message is null and not t.held""",
        ("lost", "message-missing"): f"""
            select {_NAME} from notification.message_items t left join {_SAID} m on {_SAME} and m.id = t.message
            where t.message is not null and m.id is null""",
        ("doubled", "told-twice"): f"""
            select {_NAME} from {_SAID} t group by t.item, t.revision, t.kind, t.party having count(*) > 1""",
        ("problem", "message-unfounded"): f"""
            select m.id || ': ' || m.item from {_SAID} m
            left join notification.message_items t on {_SAME} and t.message = m.id where t.item is null""",
    },
    # every message was sent and announced once; one that begins windows was announced for each of its items
    "messages_sent": {
        ("problem", "message-unsent"): """
            select id || ' ' || kind || ' ' || state || coalesce(': ' || result, '') from notification.messages
            where state not in ('sent', 'delivered')""",
        ("lost", "message-unannounced"): f"""
            select m.id from notification.messages m left join {_ANNOUNCED} s on s.message = m.id
            where m.sent_at is not null and s.message is null
            and not exists (select from notification.announcements a where a.message = m.id)""",
        ("doubled", "message-announced-twice"): f"select message from {_ANNOUNCED} s where n > 1",
        ("problem", "announced-unsent"): f"""
            select s.message from {_ANNOUNCED} s left join notification.messages m on m.id = s.message
            where m.id is null or m.sent_at is null or m.sent_at <> s.sent_at""",
        ("lost", "notice-unannounced"): f"""
            select d.id || ': ' || d.item from {_DUE} d
            left join {_NOTICED} n on n.message = d.id and n.item = d.item and n.revision = d.revision
            where n.message is null
            and not exists (select from notification.announcements a where a.message = d.id)""",
        ("doubled", "notice-announced-twice"): f"select message || ': ' || item from {_NOTICED} n where n.n > 1",
        ("problem", "notice-unfounded"): f"""
            select n.message || ': ' || n.item from {_NOTICED} n
            left join {_DUE} d on d.id = n.message and d.item = n.item and d.revision = n.revision
            where d.id is null or d.begun_at <> n.begins or d.begun_by <> n.begun_by""",
        ("problem", "beginning-missing"): f"""
            select id from notification.messages
            where kind in ({_WINDOWS}) and state in ('sent', 'delivered') and begun_at is null and (begins is null
            or begins = 'sent' or read_at is not null or (begins = 'delivered' and delivered_at is not null))""",
        ("problem", "beginning-wrong"): """
            select id || ' ' || begun_by from notification.messages where begun_at is not null and not case begun_by
                when 'sent' then begins = 'sent'
                when 'delivered' then begins = 'delivered' and begun_at >= delivered_at
                when 'read' then begins <> 'sent' and begun_at >= read_at
                else begins <> 'sent' and begun_at >= deemed_at end""",
        ("lost", "unreached-unannounced"): f"""
            select d.id || ': ' || d.item from {_UNOWNED} d
            left join v_unreached n on n.message = d.id and n.item = d.item and n.revision = d.revision
            where n.message is null
            and not exists (select from notification.announcements a where a.message = d.id)""",
        ("doubled", "unreached-announced-twice"): """
            select message || ': ' || item from v_unreached group by message, item, revision having count(*) > 1""",
        ("problem", "unreached-unfounded"): f"""
            select n.message || ': ' || n.item from v_unreached n
            left join {_UNOWNED} d on d.id = n.message and d.item = n.item and d.revision = n.revision
            where d.id is null""",
        ("problem", "inbox-message"): f"""
            select coalesce(s.message, m.id) from {_ANNOUNCED} s full join intake.messages m on m.id = s.message
            where m.id is null or s.message is null or m.sent_at <> s.sent_at""",
    },
    # what counts as delivered or read by the marketplace's message centre rests on its receipts
    "centre": {
        ("problem", "centre-unreceipted"): """
            select m.id from notification.messages m left join notification.centre c on c.message = m.id
            where m.channel = 'centre' and m.state in ('sent', 'delivered') and (c.result is distinct from 'delivered'
                or c.party <> m.party or m.delivered_at is null
                or (m.tried = '{}' and (m.sent_at <> c.answered_at or m.begun_at < c.answered_at)))""",
        ("lost", "centre-receipt-ignored"): """
            select c.message from notification.centre c left join notification.messages m on m.id = c.message
            where m.id is null or (c.result = 'delivered' and m.sent_at is null)
            or (c.result = 'refused' and not 'centre' = any(m.tried)) or (c.read_at is not null and m.read_at is null)""",
    },
    "unowned": unowned,
    # a seller's window began when the notice was sent or, if it could not be reached, when the seller first acted; if it
    # had acted by then, when the notice was put into its inbox
    "noticed": {
        ("problem", "noticed-at-wrong"): """
            select v.item from v_item v
            left join v_notice n on n.item = v.item and n.kind = 'seller_notice' and n.begins = v.noticed_at
            where v.noticed_at is not null and n.item is null and not exists (
                select from intake.commands c where c.item = v.item and c.role = 'seller'
                and c.accepted_at = v.noticed_at)
            and not exists (select from v_unreached u where u.item = v.item and u.at = v.noticed_at)""",
        ("problem", "noticed-at-missing"): f"""
            select distinct v.item from v_item v join v_notice n on n.item = v.item and n.kind = 'seller_notice'
            where v.state = 'NOTIFIED' and v.noticed_at is null and v.listing {not_set_aside("verification")}""",
    },
}
