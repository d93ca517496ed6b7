"""Checks of `goodfaith verify` on sanctions: they are what the ledgers ask for, and the marketplace follows them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from services.ops.verify import sanction_model as model
from services.ops.verify.evidence import Check, Evidence, not_set_aside
from services.ops.verify.findings import Finding, Tally
from services.ops.verify.sanction_model import AccountFacts, Entry, Ground, KnownEntity, Sanction
from shared import policy

NOT_SET_ASIDE: Final = not_set_aside("enforcement", "ledger_")
LATE: Final = "interval '1 minute'"
"""The ledger's worker looks for ends once a second, so what fell due a moment ago is not late."""
_MINUTE: Final = dt.timedelta(minutes=1)


class StoredGround(Struct, frozen=True):
    """A ground, as stored."""

    ledger: str
    level: int
    crossed_at: dt.datetime
    entry: str
    claim: str
    fell_at: dt.datetime | None = None

    @property
    def ground(self) -> Ground:
        """In the model's words."""
        return Ground(self.ledger, self.level, self.crossed_at, self.entry, self.claim, self.fell_at)


class StoredOpenGrounds(Struct, frozen=True):
    """``standings.open_grounds``: reached thresholds, the last expiry, and the version of the policy that they are by."""

    open: tuple[StoredGround, ...] = ()
    expired: dt.datetime | None = None
    rules: str = ""


class StoredEntity(Struct, frozen=True):
    """``standings.entity_grounds``: the entity as the account knows it."""

    entity: str
    grounds: tuple[StoredGround, ...] = ()
    last: dt.datetime | None = None
    warned: tuple[dt.datetime, ...] = ()

    @property
    def known(self) -> KnownEntity:
        """In the model's words."""
        return KnownEntity([one.ground for one in self.grounds], self.last)


_open_grounds = msgspec.json.Decoder(StoredOpenGrounds)
stored_grounds = msgspec.json.Decoder(tuple[StoredGround, ...])
stored_entity = msgspec.json.Decoder(StoredEntity)


def stored(row: Any) -> Sanction:
    """A sanction from a row of its table."""
    return Sanction(
        id=row.sanction,
        scope=row.scope,
        ledger=row.ledger,
        level=row.level,
        measures=_names(row.measures),
        withheld=_names(row.withheld),
        began=row.began,
        ends=row.ends,
        in_force=row.state == "in_force",
        stands=row.stands,
        after=row.after,
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) - {""}


def sanctioned(e: Evidence) -> list[Finding]:
    """Each threshold that a seller's entries reach is answered once, as the policy says; nothing else is in force."""
    newest = policy.current(e.settings.penalties_profile)
    tally = Tally()
    answers: dict[str, list[Sanction]] = {}
    for row in e.connection.exec_driver_sql(
        "select seller, sanction, scope, ledger, level, measures, withheld, began, ends, state, stands, after"
        " from enforcement.sanctions order by seller, number"
    ):
        answers.setdefault(row.seller, []).append(stored(row))
    rows = e.rows(
        "select s.seller, s.changed_at, s.open_grounds, s.measures, s.until, s.violations, s.entity_grounds,"
        " v.entry, v.claim, v.ledger, v.points, v.effective_at, v.expires_at from enforcement.standings s"
        " left join enforcement.violations v on v.seller = s.seller and v.entry is not null"
        f" where s.seller {NOT_SET_ASIDE} order by s.seller"
    )
    for seller, group in itertools.groupby(rows, key=lambda row: row.seller):
        history = list(group)
        standing = history[0]
        given = answers.get(seller, [])
        _told(seller, given, _names(standing.measures), standing.until, tally)
        there = _open_grounds.decode(standing.open_grounds)
        if there.rules != newest.version:
            continue  # due to be judged again
        entries = [
            Entry(row.entry, row.claim, row.ledger, row.points, row.effective_at, row.expires_at)
            for row in history
            if row.entry is not None
        ]
        at = standing.changed_at
        own = model.grounds(entries, newest.penalties, at)
        _open(seller, there, own, entries, at, tally)
        facts = AccountFacts(
            own=own,
            last=max((entry.at for entry in entries), default=None),
            counts=standing.violations > 0,
            entity=None if standing.entity_grounds is None else stored_entity.decode(standing.entity_grounds).known,
        )
        # what was due a minute ago is late, no matter when the seller was last judged
        judge(seller, given, facts, newest.penalties, max(at, e.now - _MINUTE), tally)
    return [
        *tally.findings(),
        *e.find(
            {
                ("problem", "sanction-overdue"): f"""
                    select seller from enforcement.standings
                    where due_at <= '{e.now.isoformat()}'::timestamptz - {LATE} and seller {NOT_SET_ASIDE}""",
                ("problem", "sanction-without-standing"): """
                    select distinct x.seller from enforcement.sanctions x
                    left join enforcement.standings s on s.seller = x.seller where s.seller is null""",
            }
        ),
    ]


def judge(
    seller: str, given: Sequence[Sanction], facts: AccountFacts, rules: policy.Penalties, now: dt.datetime, tally: Tally
) -> None:
    """Check a seller's sanctions, oldest first, against what must hold of them."""
    standing = [one.threshold for one in given if one.stands]
    for ledger, level in sorted({ground.threshold for ground in facts.own if ground.until is None} - set(standing)):
        tally.add("lost", "sanction-missing", f"{seller}: {ledger} {level}")
    for ledger, level in sorted({threshold for threshold in standing if standing.count(threshold) > 1}):
        tally.add("doubled", "sanctioned-twice", f"{seller}: {ledger} {level}")
    for one in given:
        name = f"{one.id}: {one.ledger} {one.level}"
        reached = any(
            ground.threshold == one.threshold and (ground.until is None or ground.until > one.began)
            for ground in facts.own
        )
        if one.scope == "own" and (one.in_force or one.stands) and not reached:
            tally.add("problem", "sanction-unfounded", name)
        if one.in_force and one.level <= len(steps := model.steps(rules, one.ledger)):
            step = steps[one.level - 1]
            days = dt.timedelta(days=step.days) if step.days and one.measures else None
            if one.asked not in (model.whole(step), model.shared(step) or model.whole(step)):
                tally.add("problem", "sanction-wrong", f"{name}: {','.join(sorted(one.asked))}")
            elif one.ends != (None if days is None else one.began + days):
                tally.add("problem", "sanction-wrong", f"{name}: until {one.ends}")
    for what, why in model.at_odds(given, facts, rules, now):
        name = what.id if isinstance(what, Sanction) else seller
        tally.add("problem", "sanction-undecided", f"{name}: {what.ledger} {what.level}: {why}")


def _open(
    seller: str,
    there: StoredOpenGrounds,
    own: Collection[Ground],
    entries: Collection[Entry],
    at: dt.datetime,
    tally: Tally,
) -> None:
    """What the next violation will be judged by is what the entries say."""
    wanted = {ground for ground in own if ground.until is None}
    expired = max((entry.until for entry in entries if entry.until <= at), default=None)
    if {one.ground for one in there.open} != wanted or there.expired != expired:
        tally.add("problem", "open-grounds-wrong", f"{seller}: {len(there.open)} reached, not {len(wanted)}")


def _told(
    seller: str, given: Sequence[Sanction], told: frozenset[str], until: dt.datetime | None, tally: Tally
) -> None:
    """What the marketplace was last told is what is in force."""
    measures, over = model.in_force(given)
    if (measures, over) != (told, until):
        said = f"{','.join(sorted(measures))} until {over}, told {','.join(sorted(told))} until {until}"
        tally.add("problem", "measures-untold", f"{seller}: {said}")


_TOLD: Final = """
    (select d ->> 'sanction' as sanction, d ->> 'change' as change from (select payload::jsonb -> 'data' as d
        from enforcement.ledger_event_log where type = 'goodfaith.sanction.changed.v1') t)"""
_COMMANDS: Final = """
    (select distinct key as seller, (d ->> 'seq')::int as seq, d ->> 'command' as command, d as data
        from (select key, payload::jsonb -> 'data' as d from enforcement.ledger_event_log
            where type = 'goodfaith.marketplace.seller_command.v1') t)"""


def sellers_told(e: Evidence) -> list[Finding]:
    """Each change of a sanction was published once, each command given once and answered; the marketplace follows."""
    found = e.find(
        {
            ("lost", "sanction-untold"): f"""
                select x.sanction from enforcement.sanctions x
                left join {_TOLD} t on t.sanction = x.sanction
                    and t.change = case when x.state = 'in_force' then 'imposed' else x.state end
                where t.sanction is null""",
            ("doubled", "sanction-told-twice"): f"""
                select sanction from {_TOLD} t group by sanction
                having count(*) filter (where change = 'imposed') <> 1
                or count(*) filter (where change <> 'imposed') > 1""",
            ("problem", "sanction-unwritten"): f"""
                select t.sanction from {_TOLD} t left join enforcement.sanctions x on x.sanction = t.sanction
                where x.sanction is null or (t.change <> 'imposed' and t.change <> x.state)""",
            ("doubled", "seller-command-twice"): f"""
                select seller || ' ' || seq from {_COMMANDS} t group by seller, seq having count(*) > 1""",
            ("problem", "seller-command-unconfirmed"): """
                select seller || ': ' || seq from enforcement.standings
                where confirmed <> seq or resend_at is not null""",
        }
    )
    if e.settings.marketplace == "kafka":
        found += e.find(
            {
                ("lost", "seller-command-missing"): f"""
                    select s.seller || ': ' || s.seq from enforcement.standings s
                    left join (select seller, max(seq) as seq, count(*) as n from {_COMMANDS} t group by seller) g
                        on g.seller = s.seller
                    where s.seq <> coalesce(g.seq, 0) or s.seq <> coalesce(g.n, 0)""",
            }
        )
    if e.has("marketplace"):
        found += e.find(
            {
                ("problem", "seller-differs"): """
                    select coalesce(s.seller, m.seller) || ': ' || coalesce(m.measures, '') || ' ' || coalesce(m.seq, 0)
                        || ', told ' || coalesce(s.measures, '') || ' ' || coalesce(s.seq, 0)
                    from (select * from enforcement.standings where seq > 0 and result = 'done' and confirmed = seq) s
                    full join (select * from marketplace.sellers where seq > 0) m on m.seller = s.seller
                    where (s.measures, s.until, s.seq) is distinct from (m.measures, m.until, m.seq)
                    and coalesce(s.seller, m.seller) not in
                        (select seller from enforcement.standings where confirmed <> seq or result <> 'done')""",
            }
        )
    return found


CHECKS: Final[dict[str, Check]] = {"sanctioned": sanctioned, "sellers_told": sellers_told}
