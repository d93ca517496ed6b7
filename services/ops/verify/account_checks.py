"""Checks of `goodfaith verify` on what intake keeps next to items: accounts, cases of reviewers, and documents."""

from __future__ import annotations

from typing import Final

from services.ops.verify.evidence import not_set_aside, quoted
from services.ops.verify.findings import Table
from services.ops.verify.telling import CLOSED

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
_MEASURES_IN_FORCE: Final = """
    select distinct on (m.account) m.account, m.kind, m.items, m.until from intake.misuse_measures m where m.state = 'on'
    order by m.account, array_position(array['suspension', 'quota', 'warning'], m.kind), m.until desc nulls first,
        m.day desc, m.id desc"""
_DECIDED: Final = "from intake.review_decisions where outcome = 'applied' and kind <> 'proposal' and entered > 0"
_SEALED: Final = ("subject_keys", "contacts", "former_names", "tokens", "webhooks", "email_codes")
"""Tables with what an erased account must no longer have: keys, what they seal, and ways to log in."""

CHECKS: Final[dict[str, Table]] = {
    # good-faith figures are those of a recount from verification's log, and intake's accounts show who takes part
    "good_faith": {
        ("problem", "good-faith-item"): f"""
            with r as ({_RECOUNT})
            select coalesce(r.item, g.item) || ': ' || coalesce(g.outcome, 'nothing') || ', not '
                || coalesce(r.outcome, 'nothing')
            from r full join (select * from intake.good_faith_items where outcome is not null) g on g.item = r.item
            where (g.account, g.reason, g.day, g.outcome) is distinct from (r.account, r.reason, r.day, r.outcome)
            and ((select listing from intake.items where id = r.item) {not_set_aside("intake")} or r.item is null)""",
        ("problem", "good-faith-count"): """
            select coalesce(d.account, c.account) || ' ' || coalesce(d.reason, c.reason) || ' ' || coalesce(d.day, c.day)
            from (select account, reason, day, sum(settled) as settled, sum(upheld) as upheld,
                    sum(taken_down) as taken_down, sum(restored) as restored
                from intake.good_faith_days group by account, reason, day) d
            full join (select account, reason, day, count(*) as settled,
                    count(*) filter (where outcome = 'upheld') as upheld,
                    count(*) filter (where outcome <> 'declined') as taken_down,
                    count(*) filter (where outcome = 'countered') as restored
                from intake.good_faith_items where outcome is not null group by account, reason, day) c
                on c.account = d.account and c.reason = d.reason and c.day = d.day
            where (coalesce(d.settled, 0), coalesce(d.upheld, 0), coalesce(d.taken_down, 0), coalesce(d.restored, 0))
            <> (coalesce(c.settled, 0), coalesce(c.upheld, 0), coalesce(c.taken_down, 0), coalesce(c.restored, 0))""",
        ("problem", "good-faith-standing"): """
            select a.id from intake.accounts a left join intake.good_faith_standings s on s.account = a.id
            where a.good_faith <> coalesce(s.state <> 'out', false)""",
        ("problem", "good-faith-unexplained"): """
            select s.account from intake.good_faith_standings s
            left join (select distinct on (account) account, state, barred_until from intake.good_faith_history
                order by account, id desc) h on h.account = s.account
            -- members from before the history began have none
            where (h.account is not null or s.since is not null)
            and (s.state is distinct from h.state or s.barred_until is distinct from h.barred_until)""",
    },
    # intake's accounts show the measure against misuse in force, and each measure has what must precede it
    "misuse": {
        ("problem", "misuse-standing"): f"""
            select a.id from intake.accounts a left join ({_MEASURES_IN_FORCE}) m on m.account = a.id
            where (a.misuse, a.misuse_items, a.misuse_until)
            is distinct from (coalesce(m.kind, 'clear'), m.items, m.until)""",
        ("problem", "misuse-unwarned"): """
            select m.id from intake.misuse_measures m
            where m.kind <> 'warning' and m.finding is null and m.state <> 'fallen'
            and not exists (select from intake.misuse_measures p
                where p.id = m.prior and p.account = m.account and p.at < m.at)""",
    },
    # the review queue has the items that wait for a person; no decision was applied twice, or by the wrong person
    "review_queue": {
        ("lost", "case-missing"): f"""
            select v.item || ': ' || v.state from v_item v left join intake.cases c on c.item = v.item
            where v.state in ('APPEALED', 'COUNTERED', 'PLATFORM_REVIEW', 'UNDER_REVIEW') and c.item is null
            and not v.canary and v.listing {not_set_aside("intake")}""",
        ("problem", "case-differs"): f"""
            select c.item || ': ' || c.state || '/' || c.revision from intake.cases c
            left join v_item v on v.item = c.item
            where (v.state, v.revision) is distinct from (c.state, c.revision)
            and c.listing {not_set_aside("intake")}""",
        ("lost", "decision-forgotten"): """
            select k.id from intake.commands k left join intake.review_decisions d on d.command = k.id
            where k.kind = 'decide' and d.command is null""",
        ("problem", "decision-differs"): """
            select d.command || ': ' || d.outcome || ', not ' || k.status from intake.review_decisions d
            join intake.commands k on k.id = d.command where d.outcome <> replace(k.status, 'accepted', 'filed')""",
        ("doubled", "decided-twice"): f"""
            select item || '/' || entered {_DECIDED} group by item, entered having count(*) > 1""",
        ("problem", "decided-by-one"): """
            select d.command from intake.review_decisions d
            join intake.review_decisions p on p.item = d.item and p.entered = d.entered and p.kind = 'proposal'
                and p.reviewer = d.reviewer
            where d.kind <> 'proposal'""",
    },
    # a right is in force only by a decision, a person's or a register's, that says what it rests on, or by the rules of 0.2.0
    "rights": {
        ("problem", "right-unaccepted"): """
            select r.id from intake.rights r where r.status in ('active', 'expired') and (r.accepted is null
            or r.accepted in ('person', 'register') and not exists (select from intake.right_changes h where h.right_id = r.id
                and h.kind in ('accepted', 'registered') and h.now in ('active', 'expired')
                and (h.documents is not null or h.seen is not null)))""",
        # an agent files only by the word of the other side, or by a power of attorney that somebody looked at
        ("problem", "authorisation-unaccepted"): """
            select u.id from intake.authorisations u where u.status = 'active' and (u.basis is null or
            u.basis <> 'rules_0_2_0' and not exists (
                select from intake.authorisation_changes h where h.authorisation = u.id and h.kind = 'accepted'
                and h.by <> u.asked_by
                and (u.basis = 'principal') = (h.documents is null and h.seen is null)))""",
    },
    # no document of an open claim is gone, and none is stuck on its way in or out; the files are not read
    "documents": {
        ("problem", "document-gone"): f"""
            select distinct l.document || ': ' || l.about from intake.evidence_links l
            join intake.evidence d on d.id = l.document join intake.claims c on c.id = l.about
            join intake.items i
                on i.id between 'i-' || substr(c.id, 3, 23) || '000' and 'i-' || substr(c.id, 3, 23) || 'ZZZ'
            where d.state in ('going', 'gone') and i.state not in ({quoted(CLOSED)})""",
        ("problem", "document-stuck"): """
            select id || ' ' || state from intake.evidence where state in ('arriving', 'going')
            and changed_wall < now() - interval '1 day'""",
    },
    # nothing that an erased subject's key opened is left, nor a way to log in, and the log records the erasure
    "erased": {
        ("problem", "erased-kept"): " union all ".join(
            f"""
            select account || ' {table}' from intake.{table}
            where account in (select id from intake.accounts where erased_at is not null)"""
            for table in _SEALED
        ),
        ("lost", "erasure-untold"): """
            select a.id from intake.accounts a where a.erased_at is not null
            and not exists (select from intake.event_log l
                where l.type = 'goodfaith.account.erased.v1' and l.key = a.id)
            and not exists (select from intake.admission_queue d
                where d.type = 'goodfaith.account.erased.v1' and d.listing = a.id)""",
    },
}
