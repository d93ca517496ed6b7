"""Checks of `goodfaith verify` on what was filed: accepted, published, and judged or refused, each exactly once."""

from __future__ import annotations

from typing import Final

import msgspec

from services.ops.verify.evidence import FILED, not_set_aside
from services.ops.verify.findings import Table
from services.ops.verify.judge import SUBMITTED
from shared.events import ItemSubmitted

_PUBLISHED_ITEMS: Final = f"""
    select i.id from intake.items i left join (select item, count(*) as n from
        (select item from v_filed where type = '{SUBMITTED}' union all
        select item from intake.admission_queue where kind = 'submit' union all
        select item from intake.held_items) t group by item) p on p.item = i.id"""
_PUBLISHED_COMMANDS: Final = """
    select k.id from intake.commands k left join (select command, count(*) as n from
        (select command from v_filed where command is not null union all
        select payload::jsonb ->> 'command' from intake.admission_queue where kind = 'command') t
        group by command) p on p.command = k.id"""
_ITEMS_OF_CLAIMS: Final = """
    select c.id || ': ' || coalesce(n, 0) || ' of ' || size from intake.claims c
    left join (select claim, count(*) as n from intake.items group by claim) i on i.claim = c.id"""
_ANNOUNCED: Final = f"""
    (select partition, d ->> 'claim' as claim, d ->> 'account' as account, (d ->> 'items')::int as items,
        d ->> 'right_type' as right_type, d ->> 'channel' as channel, (d ->> 'at')::timestamptz as at,
        coalesce((d ->> 'canary')::bool, false) as canary
    from (select partition, payload::jsonb -> 'data' as d from intake.event_log where type = '{FILED}' union all
        select partition, payload::jsonb from intake.admission_queue where kind = 'filing') t)"""
_ANNOUNCED_CLAIMS: Final = f"""
    select c.id from intake.claims c
    left join (select claim, count(*) as n from {_ANNOUNCED} t group by claim) t on t.claim = c.id"""
_ENDS: Final = """
    (select command, 'applied' as status from v_change where command is not null union all
    select command, 'refused' from v_refused)"""
# fields of an item's own; all others are its claim's
_OWN: Final = "array['item', 'listing', 'on_site', 'accepted_at']"
# a field with its default value may be left out
_ABSENT: Final = {field.name: field.default for field in msgspec.structs.fields(ItemSubmitted) if not field.required}
_DEFAULTS: Final = f"'{msgspec.json.encode(_ABSENT).decode()}'::jsonb"

CHECKS: Final[dict[str, Table]] = {
    # every accepted submission has its claim or commands, with everything that the answer named
    "submissions": {
        ("lost", "claim-missing"): """
            select s.resource from intake.submissions s left join intake.claims c on c.id = s.resource
            where starts_with(s.resource, 'c-') and c.id is null""",
        ("lost", "command-missing"): """
            select s.resource from intake.submissions s left join intake.commands k on k.id = s.resource
            where starts_with(s.resource, 'k-') and k.id is null""",
        ("lost", "acknowledged-item-missing"): """
            select n.item from (select jsonb_array_elements(answer::jsonb -> 'items') ->> 'item' as item
                from intake.submissions where starts_with(resource, 'c-')) n
            left join intake.items i on i.id = n.item where i.id is null""",
        ("problem", "claim-unasked"): """
            select c.id from intake.claims c left join intake.submissions s on s.resource = c.id
            where s.resource is null""",
        ("doubled", "submission-twice"): """
            select resource from intake.submissions group by resource having count(*) > 1""",
    },
    # every claim has as many items as it says
    "claim_items": {
        ("lost", "items-missing"): f"{_ITEMS_OF_CLAIMS} where coalesce(n, 0) < size",
        ("doubled", "items-too-many"): f"{_ITEMS_OF_CLAIMS} where n > size",
        ("problem", "item-without-claim"): """
            select i.id from intake.items i left join intake.claims c on c.id = i.claim where c.id is null""",
    },
    # what a party said with a request is there, and belongs to something
    "texts": {
        ("lost", "text-missing"): """
            select k.id from intake.commands k left join intake.texts t on t.id = k.text and t.claim = k.claim
            where k.text is not null and t.id is null""",
        ("problem", "text-without-place"): """
            select t.id from intake.texts t left join intake.claims c on c.id = t.claim
            left join intake.items i on i.id = t.id and i.claim = t.claim
            left join intake.commands k on k.id = t.id and k.text = t.id
            where case when t.kind = 'explanation' then t.id is distinct from c.id and i.id is null
                else k.kind is distinct from replace(replace(t.kind, 'response', 'respond'), 'complaint', 'complain') end""",
    },
    # every item was published exactly once, or waits for admission or for the end of a suspension
    "items_published": {
        ("lost", "item-unpublished"): f"""
            {_PUBLISHED_ITEMS} where n is null and 'admission:' || i.listing {not_set_aside("intake")}""",
        ("doubled", "item-published-twice"): f"{_PUBLISHED_ITEMS} where n > 1",
        ("problem", "item-unaccepted"): f"""
            select f.item from v_filed f left join intake.items i on i.id = f.item
            where f.type = '{SUBMITTED}' and i.id is null""",
    },
    # what intake published of items and commands is what was filed
    "published_as_filed": {
        ("problem", "claim-differs"): """
            select c.id from (select *, terms::jsonb as t from intake.claims) c where
            (c.id, c.complainant, c.principal, c.right_id, c.right_type, c.reason, c.profile, c.lane, c.size, c.accepted_at)
            is distinct from (t ->> 'claim', t ->> 'complainant', t ->> 'principal', t ->> 'right', t ->> 'right_type',
            t ->> 'reason', t ->> 'profile', coalesce(t ->> 'lane', 'standard'), (t ->> 'claim_size')::int,
            (t ->> 'accepted_at')::timestamptz)""",
        ("problem", "item-published-wrong"): f"""
            with c as materialized (
                select id, complainant, accepted_at, {_DEFAULTS} || terms::jsonb - {_OWN} as terms from intake.claims)
            -- offset 0: each payload is parsed once
            select i.id from (select payload::jsonb -> 'data' as d from intake.event_log
                where type = '{SUBMITTED}' offset 0) l
            join intake.items i on i.id = d ->> 'item' join c on c.id = i.claim
            -- a worker of 0.2.0 publishes what a newer process filed without what it does not know
            where case when d ? 'right_registered' then {_DEFAULTS} || d - {_OWN} is distinct from c.terms
                else ({_DEFAULTS} || d - {_OWN}) - 'right_registered'::text
                    is distinct from c.terms - 'right_registered'::text end
            or d ->> 'listing' <> i.listing
            or coalesce((d ->> 'on_site')::bool, true) <> i.on_site
            -- an item that waited for the end of a suspension counts from then on
            or ((d ->> 'accepted_at')::timestamptz <> c.accepted_at and not exists (select from intake.misuse_measures m
                where m.account = c.complainant and m.kind = 'suspension'
                and (d ->> 'accepted_at')::timestamptz > c.accepted_at))""",
        ("problem", "command-published-wrong"): """
            select k.id from (select type, payload::jsonb -> 'data' as d from intake.event_log
                where starts_with(type, 'goodfaith.command.') offset 0) l
            join intake.commands k on k.id = d ->> 'command'
            where (split_part(type, '.', 3), d ->> 'item', d ->> 'claim', d ->> 'by', d ->> 'role',
                (d ->> 'accepted_at')::timestamptz)
            is distinct from (k.kind, k.item, k.claim, k.by, k.role, k.accepted_at)""",
    },
    # every claim was announced exactly once, as it is, or waits for admission;
    # claims from a version that announced none are not expected
    "claims_told": {
        ("lost", "claim-untold"): f"""
            {_ANNOUNCED_CLAIMS} where t.n is null and c.told_partition is not null
            and 'admission:' || c.complainant {not_set_aside("intake")}""",
        ("doubled", "claim-told-twice"): f"{_ANNOUNCED_CLAIMS} where t.n > 1",
        ("problem", "claim-told-wrong"): f"""
            select t.claim from {_ANNOUNCED} t left join intake.claims c on c.id = t.claim where
            (t.account, t.items, t.right_type, t.channel, t.at, t.partition, t.canary) is distinct from
            (c.complainant, c.size, c.right_type, c.channel, c.accepted_at, c.told_partition, c.channel = 'canary')""",
    },
    # every command was published exactly once after its item, or waits for admission
    "commands_published": {
        ("lost", "command-unpublished"): f"""
            {_PUBLISHED_COMMANDS} join intake.items i on i.id = k.item
            where n is null and 'admission:' || i.listing {not_set_aside("intake")}""",
        ("doubled", "command-published-twice"): f"{_PUBLISHED_COMMANDS} where n > 1",
        ("problem", "command-unaccepted"): """
            select f.command from v_filed f left join intake.commands k on k.id = f.command
            where f.command is not null and k.id is null""",
        ("problem", "command-before-item"): f"""
            select k.command from v_filed k join v_filed i on i.item = k.item and i.partition = k.partition
            where k.command is not null and i.type = '{SUBMITTED}' and k.seq < i.seq""",
    },
    # verification knows every published item, and no others
    "items_judged": {
        ("lost", "item-unjudged"): f"""
            select f.item from v_filed f join intake.items n on n.id = f.item
            left join verification.items i on i.item = f.item
            where f.type = '{SUBMITTED}' and i.item is null and n.listing {not_set_aside("verification")}""",
        ("problem", "item-unfiled"): f"""
            select i.item from verification.items i left join v_filed f on f.item = i.item
            and f.type = '{SUBMITTED}' where f.item is null""",
    },
    # every command was applied or refused, once, and the read model shows it
    "commands_ended": {
        # a right's change without effect on an item leaves no trace
        ("lost", "command-open"): f"""
            select k.id from intake.commands k left join {_ENDS} c on c.command = k.id
            join intake.items i on i.id = k.item
            where c.command is null and k.kind <> 'change_right' and i.listing {not_set_aside("verification")}
            and not exists (select from intake.admission_queue d where d.kind = 'command' and d.item = k.item)""",
        ("doubled", "command-ended-twice"): f"""
            select command from {_ENDS} c group by command having count(*) > 1""",
        # by it the read model knows when what a party said is shown to the other side
        ("problem", "command-revision"): """
            select k.id || ': ' || k.revision || ', not ' || coalesce(v.revision::text, 'any') from intake.commands k
            left join v_change v on v.command = k.id where k.revision is distinct from v.revision
            and k.revision is not null""",
        ("problem", "command-status"): f"""
            select k.id || ': ' || k.status || ', not ' || c.status
            from intake.commands k join {_ENDS} c on c.command = k.id where k.status <> c.status
            union all
            select k.id || ': ' || k.status from intake.commands k left join {_ENDS} c on c.command = k.id
            where k.status <> 'accepted' and c.command is null""",
        ("problem", "command-unknown"): f"""
            select c.command from {_ENDS} c left join intake.commands k on k.id = c.command where k.id is null""",
    },
}
