"""A run under load on a running stack: accounts, business time, load, and the comparison with the outside record.

What was submitted and acknowledged is recorded outside the system. At the end every process runs again and becomes
idle; then `verify` must find nothing, and what was acknowledged must be stored exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec
import sqlalchemy as sa

from deploy.local import fleet
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from labs.clients import HttpClient, seed
from labs.faults.killer import Kill, Killer
from labs.faults.plan import ACCOUNT, UPSTREAM, LoadPlan
from labs.faults.record import ClockReading, LoggedChange, OutsideRecord, judge_close_call, submission_name
from labs.faults.submitter import DAY, Submitter
from services.ops.idle import Watch
from services.ops.verify.verify import Report, verify_stack
from shared import clock, db
from shared.settings import Relayed

ENVIRONMENT: Final = {
    "GOODFAITH_UPSTREAMS": msgspec.json.encode({UPSTREAM: ACCOUNT}).decode(),
    # the upstream acts for all parties of the load
    "GOODFAITH_UPSTREAM_MAY": msgspec.json.encode(
        {UPSTREAM: {"accounts": ["*"], "commands": get_args(Relayed)}}
    ).decode(),
    **fleet.UNREVIEWED,
    "GOODFAITH_COLLECT_S": "0.5",
    # a killed member's partitions are reassigned after this; a run is to see many reassignments in a short time
    "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
    "GOODFAITH_RETRY_MAX_S": "2",
    # another sender takes over a killed sender's messages after this
    "GOODFAITH_SEND_LEASE_S": "8",
}
"""Settings of a stack under load."""
READY_S: Final = 300.0
SEED_AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0)


@dataclass(slots=True)
class LoadOutcome:
    """The result of a run under load."""

    items: int
    kills: list[Kill]
    record: OutsideRecord
    verified: Report
    lost: list[str]
    doubled: list[str]
    problems: list[str]
    load_s: float
    seconds: float
    in_flight: int = 0
    """The most requests that were outstanding at one time."""

    def json(self) -> dict[str, Any]:
        """For `--json`: `lost`, `doubled` and `problems` of `verify` and of the outside record together."""
        counts = self.verified.counts
        slowest = max(self.kills, key=lambda kill: kill.recovered_s, default=None)
        calls = self.record.close_calls
        return {
            "items": self.items,
            "kills": len(self.kills),
            "lost": len(self.lost) + counts.get("lost", 0),
            "doubled": len(self.doubled) + counts.get("doubled", 0),
            "problems": len(self.problems) + counts.get("problems", 0),
            "claims": self.record.claims,
            "commands": counts.get("commands", 0),
            "acknowledged": len(self.record.answers),
            "close": len(calls),
            "close_in_time": sum(call.in_time for call in calls),
            "retries": self.record.retries,
            "refused": dict(self.record.refused),
            "message_repeats": self.verified.totals.get("message_repeats", 0),
            "resent_records": self.verified.totals.get("resent_records", 0),
            "kills_by_process": dict(sorted(Counter(kill.name for kill in self.kills).items())),
            "longest_recovery_s": round(slowest.recovered_s, 1) if slowest else None,
            "slowest_to_recover": slowest.name if slowest else None,
            "load_s": round(self.load_s, 1),
            "seconds": round(self.seconds, 1),
            "examples": self.examples,
            "kinds": self.verified.kinds,
        }

    @property
    def examples(self) -> list[str]:
        """Examples of what was found, in words; at most 20."""
        kinds = [f"{kind['kind']}: {', '.join(map(str, kind['examples'][:2]))}" for kind in self.verified.kinds]
        return (self.lost + self.doubled + self.problems + kinds)[:20]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, doubled or otherwise wrong."""
        found = self.json()
        return not (found["lost"] or found["doubled"] or found["problems"])


class LoadRun:
    """One run under load, on a running stack with the settings ``ENVIRONMENT``."""

    def __init__(self, stack: Stack, processes: Fleet, plan: LoadPlan) -> None:
        self.stack = stack
        self.fleet = processes
        self.plan = plan
        self.settings = fleet.settings_of(stack, secret=True)
        self.engine = db.administer(stack.admin_url, pooled=False)
        self.tokens: dict[str, str] = {}
        self._landed: dt.datetime | None = None

    def prepare(self) -> None:
        """Open accounts, register rights, put listings on the site, and let business time run."""
        plan, http = self.plan, HttpClient(self.settings)
        try:
            with self.engine.connect() as connection:
                known = connection.execute(sa.text("select 1 from intake.accounts where id = :id"), {"id": ACCOUNT})
                openings = [] if known.scalar() else [http.open_account("upstream", ACCOUNT, None)]
            people = [("holder", plan.holders), ("seller", plan.sellers), ("operator", [plan.reviewer])]
            for role, names in people:
                openings += [
                    http.open_account(role, name, (name, "1 Long Lane", f"{name}@party.example")) for name in names
                ]
            http.all(openings)
            proof = {"right_type": "copyright", "proof": f"proof-{plan.ns}"}
            rights = http.all(http.register_right(holder, proof) for holder in plan.holders)
            plan.rights = dict(zip(plan.holders, rights, strict=True))
            self.tokens = http.tokens
        finally:
            http.close()
        self._seed()
        self.advance(dt.timedelta())
        self.settle(300)

    def _seed(self) -> None:
        seeds = ({"listing": name, "seller": self.plan.seller(name), "title": name} for name in self.plan.listings())
        # 503: since the last fault the marketplace has not used its database, and only now notices the change
        seed(self.settings, seeds, SEED_AGAIN_S)

    def advance(self, ahead: dt.timedelta) -> None:
        """Set business time ahead; it runs on from there."""
        with self.engine.begin() as connection:
            now, _ = clock.read(connection)
            clock.set_anchor(connection, business=now + ahead, rate=1)

    def next_day(self) -> ClockReading:
        """Set business time to a whole number of days after the last time that it was set to.

        So time runs through the same seconds of each day, and windows that began in those seconds also end in them.
        """
        with self.engine.begin() as connection:
            now, _ = clock.read(connection)
            landed = now if self._landed is None else self._landed
            while landed <= now:
                landed += DAY
            at = time.monotonic()
            clock.set_anchor(connection, business=landed, rate=1)
        self._landed = landed
        return ClockReading(landed, at)

    def next_day_if_possible(self) -> ClockReading | None:
        """Like ``next_day``; None while the database is away."""
        with contextlib.suppress(sa.exc.OperationalError, sa.exc.InterfaceError):
            return self.next_day()
        return None

    def settle(self, timeout_s: float, tell: Callable[[str], None] = lambda _: None) -> None:
        """Wait until nothing is in progress; `tell` is called with what is.

        Raises:
            TimeoutError: something still is in progress after `timeout_s` seconds.
        """
        watch = Watch(self.engine, self.settings)
        try:
            watch.wait(
                timeout_s=timeout_s, poll_s=0.2, looks=2, tell=lambda pending: tell(f"in progress: {pending}"[:100])
            )
        finally:
            watch.close()

    def run(
        self, *, every: float, rate: float, seed: int, progress: Callable[[int], None], tell: Callable[[str], None]
    ) -> LoadOutcome:
        """Submit the load while processes, broker and database are killed; then wait until idle, and judge."""
        begun = time.monotonic()
        submitter = Submitter(self.plan, self.settings, self.tokens, rate=rate, step=self.next_day_if_possible)
        killer = Killer(self.stack, self.fleet, every=every, seed=seed)
        killer.start()
        try:
            asyncio.run(submitter.run(progress))
            load_s = time.monotonic() - begun
            while not killer.complete:
                time.sleep(0.1)
        finally:
            killer.stop()
        outcome = self.judge(submitter, killer.troubles, begun, tell)
        outcome.kills, outcome.load_s = killer.kills, load_s
        return outcome

    def judge(
        self, submitter: Submitter, troubles: list[str], begun: float, tell: Callable[[str], None] = lambda _: None
    ) -> LoadOutcome:
        """Wait until everything is idle, run `verify`, and compare with the outside record.

        Args:
            submitter: Its record is compared.
            troubles: Problems that were met already.
            begun: When the run began (monotonic).
            tell: Called with what is being done.
        """
        problems = troubles + submitter.record.contradictions
        tell("waiting until idle")
        try:
            self.fleet.wait_ready(READY_S)
            self.settle(120 + self.plan.items / 50, tell)
            # let open items reach their deadlines
            for _ in range(3):
                self.advance(8 * DAY)
                self.settle(120 + self.plan.items / 50, tell)
        except TimeoutError as error:
            problems.append(str(error))
        tell("verifying")
        report = verify_stack(fleet.settings_of(self.stack))
        lost, doubled = self.compare(submitter.record)
        lost += self.wrong_close_calls(submitter.record)
        seconds = time.monotonic() - begun
        return LoadOutcome(
            submitter.filed,
            [],
            submitter.record,
            report,
            lost,
            doubled,
            problems,
            0.0,
            seconds,
            submitter.max_outstanding,
        )

    def compare(self, record: OutsideRecord) -> tuple[list[str], list[str]]:
        """Compare the outside record with the tables; returns (lost, doubled) in words."""
        lost: list[str] = []
        doubled: list[str] = []
        like = {"own": f"{self.plan.ns}-%", "holders": f"h-{self.plan.ns}-%"}
        with self.engine.connect() as connection:

            def rows(sql: str) -> list[tuple[Any, ...]]:
                return [tuple(row) for row in connection.execute(sa.text(sql), like)]

            stored = {
                (account, key): resource
                for account, key, resource in rows("select account, idempotency_key, resource from intake.submissions")
            }
            refused = {
                row[0]
                for row in rows(
                    "select payload::jsonb -> 'data' ->> 'event' from intake.inbound_event_log"
                    " where type = 'goodfaith.inbound.refused.v1'"
                )
            }
            for (account, key), resource in record.answers.items():
                found = stored.get((account, key))
                if found is None and not (resource is None and key in refused):
                    lost.append(submission_name(account, key))
                elif resource is not None and found is not None and found != resource:
                    doubled.append(f"submission {account} {key}: {found}, answered {resource}")
            record.refused["by topic"] = len(refused)

            items = dict(rows("select id, listing from intake.items where listing like :own"))
            judged = {row[0] for row in rows("select item from verification.items where listing like :own")}
            lost += [f"item {item}" for item in record.items if item not in items]
            lost += [f"item {item} not judged" for item in record.items if item in items and item not in judged]
            stored_named = Counter(items.values())
            for listing in stored_named.keys() | record.named.keys():
                difference = stored_named[listing] - record.named[listing]
                if difference:
                    (doubled if difference > 0 else lost).append(f"listing {listing}: {difference:+} items")
            claims = rows("select count(*) from intake.claims where complainant like :holders")[0][0]
            if claims > record.claims:
                doubled.append(f"{claims - record.claims} claims more than were acknowledged")
            commands = Counter(
                {
                    (item, kind): count
                    for item, kind, count in rows(
                        "select item, kind, count(*) from intake.commands group by item, kind"
                    )
                }
            )
            for (item, kind), count in record.commands.items():
                if commands[item, kind] != count:
                    (doubled if commands[item, kind] > count else lost).append(
                        f"{kind} of {item}: {commands[item, kind]}, acknowledged {count}"
                    )
        return lost, doubled

    def wrong_close_calls(self, record: OutsideRecord) -> list[str]:
        """Counters close to their deadlines with the wrong outcome. ``compare`` reports those that were lost."""
        history: dict[str, list[LoggedChange]] = {call.item: [] for call in record.close_calls}
        with self.engine.connect() as connection:
            stored = set(
                connection.execute(
                    sa.text("select id from intake.commands where id = any(:ids)"),
                    {"ids": [call.command for call in record.close_calls]},
                ).scalars()
            )
            rows = connection.execute(
                sa.text(
                    "select payload::jsonb ->> 'time', payload::jsonb -> 'data' from verification.event_log"
                    " where claim in (select claim from intake.items where id = any(:items))"
                    " and starts_with(type, 'goodfaith.item.') order by partition, seq"
                ),
                {"items": list(history)},
            )
            for at, data in rows:
                if data["item"] in history:
                    states = (data.get("previous"), *data.get("via", ()), data["state"])
                    change = LoggedChange(dt.datetime.fromisoformat(at), states, data.get("command"))
                    history[data["item"]].append(change)
        found = (judge_close_call(call, history[call.item]) for call in record.close_calls if call.command in stored)
        return [wrong for wrong in found if wrong is not None]

    def close(self) -> None:
        """Close connections."""
        self.engine.dispose()
