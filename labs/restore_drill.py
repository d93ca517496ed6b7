"""`goodfaith lab restore-drill`: lose the database under load, and restore it; compare with a record kept outside.

The drill does so twice, each time from a base backup and the WAL received since:

- *whole*: with all of the WAL. The processes keep running, wait for the database, and go on. Nothing may be lost.
- *cut*: without the end of the WAL. The processes are stopped, the database is restored to an earlier moment, the
  topics are
  created again (`goodfaith restore topics`), and the processes start. What was acknowledged after that moment is lost;
  it is filed again, with the same keys. The demo marketplace keeps what it has done, like a real marketplace.

After each, `verify` must find nothing, and every acknowledged request must be stored exactly once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import httpx
import typer

from deploy.local import fleet
from deploy.local.backup import Backup
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.local.up import bring_up, confirm_replacing, destroy
from labs.clients import PATHS, Request
from labs.faults.load_run import LoadRun
from labs.faults.plan import Claim, LoadPlan
from services.ops.restore.restore import restore_topics
from services.ops.terminal import JsonOption, YesOption, console, print_json, progress, table
from services.ops.verify.verify import verify_stack
from shared import db

WITHOUT: Final = frozenset({"canary"})
"""Processes that take no part: the canary's rounds would disturb the figures."""
ENVIRONMENT: Final = {
    **fleet.UNREVIEWED,
    "GOODFAITH_COLLECT_S": "0.5",
    "GOODFAITH_PARTITIONS": "4",
    "GOODFAITH_SESSION_TIMEOUT_MS": "6000",
    "GOODFAITH_RETRY_MAX_S": "1",
    "GOODFAITH_RECONCILE_S": "2",
}
GIVE_UP_S: Final = 300.0
THREADS: Final = 4
READY_S: Final = 240.0
RECONCILED_S: Final = 180.0


@dataclass(slots=True)
class AcknowledgedClaims:
    """Acknowledged claims by idempotency key: the request, the claim in the answer, and when it came (monotonic)."""

    requests: dict[str, Request] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    troubles: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    """The longest time from a request to its acknowledgement."""


class ClaimLoad:
    """Files claims at a steady rate from several threads; repeats each with the same key until it is answered."""

    def __init__(
        self, url: str, tokens: dict[str, str], claims: Iterator[Claim], rate: float, kept: AcknowledgedClaims
    ) -> None:
        self._url = url
        self._tokens = tokens
        self._claims = claims
        self._kept = kept
        self._lock = threading.Lock()
        self._pause = 1.0 / rate
        self._next = time.monotonic()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"load-{number}") for number in range(THREADS)]

    def start(self) -> None:
        """Start filing."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop filing, and wait until every request is answered."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=15, trust_env=False) as http:
            while not self._enough.is_set():
                with self._lock:
                    claim = next(self._claims, None)
                    if claim is None:
                        return
                    self._next = max(self._next, time.monotonic() - 1.0) + self._pause * len(claim.listings)
                    wait = self._next - time.monotonic()
                if self._enough.wait(max(wait, 0.0)):
                    return
                post(http, self._tokens, claim.request, self._kept, self._lock)


def post(
    http: httpx.Client, tokens: dict[str, str], request: Request, kept: AcknowledgedClaims, lock: threading.Lock
) -> None:
    """Send a request until it is answered, and record the answer."""
    headers = {"authorization": f"Bearer {tokens[request.by]}", "idempotency-key": request.key}
    begun = time.monotonic()
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = http.post(PATHS[request.kind], json=request.body, headers=headers)
            if answer.status_code < 500:
                break
        if time.monotonic() - begun > GIVE_UP_S:
            with lock:
                kept.troubles.append(f"{request.key}: no answer within {GIVE_UP_S:.0f} s")
            return
        time.sleep(0.2)
    with lock:
        if answer.status_code != 202:
            kept.refused += 1
            return
        kept.requests[request.key], kept.claims[request.key] = request, answer.json()["claim"]
        kept.at[request.key] = time.monotonic()
        kept.longest_s = max(kept.longest_s, time.monotonic() - begun)


class RestoreDrill:
    """Both disasters on one running stack."""

    def __init__(
        self, stack: Stack, processes: Fleet, *, rate: float, seconds: float, tell: Callable[[str], None]
    ) -> None:
        self.stack = stack
        self.fleet = processes
        self.rate = rate
        self.seconds = seconds
        self.tell = tell
        self.plan = LoadPlan(int(rate * seconds * 8) + 500, 1, "restore")
        self.run = LoadRun(stack, processes, self.plan)
        self.settings = self.run.settings
        self.kept = AcknowledgedClaims()

    def prepare(self) -> None:
        """Open accounts, register rights, and put listings on the site."""
        self.run.prepare()
        self.claims = self.plan.claims()

    @contextlib.contextmanager
    def _under_load(self) -> Iterator[ClaimLoad]:
        load = ClaimLoad(self.settings.intake_url, self.run.tokens, self.claims, self.rate, self.kept)
        load.start()
        try:
            yield load
        finally:
            load.stop()

    def _backup(self, name: str) -> Backup:
        folder = self.stack.dir / "backup" / name
        shutil.rmtree(folder, ignore_errors=True)
        return Backup(self.stack.database(), folder)

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        engine = db.administer(self.stack.admin_url, pooled=False)
        with engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows

    def missing(self) -> list[str]:
        """Keys of acknowledged requests that are not stored, or are stored as another claim."""
        stored = dict(
            self._rows(
                "select idempotency_key, resource from intake.submissions where idempotency_key like 'restore.%%'"
            )
        )
        return sorted(key for key, claim in self.kept.claims.items() if stored.get(key) != claim)

    def doubled(self) -> int:
        """Number of stored claims beyond those that were acknowledged."""
        ((stored,),) = self._rows("select count(*) from intake.claims where complainant like 'h-restore-%%'")
        return max(int(stored) - len(self.kept.claims), 0)

    def _lose(self) -> float:
        """Kill the database and delete its disk; returns when (monotonic)."""
        self.stack.kill_postgres()
        at = time.monotonic()
        shutil.rmtree(self.stack.dir / "postgres")
        return at

    def _verify(self, kind: str) -> tuple[dict[str, int | None], list[Any]]:
        """Wait until idle, and run `verify`; returns its counts (-1 each if the system stays busy) and findings."""
        self.tell(f"{kind}: waiting until idle, verifying")
        names = ("lost", "doubled", "problems")
        try:
            self.run.settle(300)
        except TimeoutError as error:
            self.kept.troubles.append(str(error))
            return dict.fromkeys((*names, "reconciliation"), -1), []
        report = verify_stack(fleet.settings_of(self.stack))
        found = {name: report.counts[name] for name in names}
        return {**found, "reconciliation": self._reconciled()}, report.kinds

    def _reconciled(self) -> int | None:
        """The difference between stream views and database, all views together, as compared from now on.

        None: no views run here. -1: they do not catch up, or are not compared in time.
        """
        from labs.view_checks import compared
        from services.ops.streams import behind
        from services.streams import generations

        if "streams.0" not in self.fleet.processes:
            return None
        settings = fleet.settings_of(self.stack)
        until = time.monotonic() + RECONCILED_S
        while behind(settings, generations.newest(settings)):
            if time.monotonic() > until:
                return -1
            time.sleep(0.5)
        try:
            found = compared(self.fleet, dt.datetime.now(dt.UTC), within_s=until - time.monotonic())
        except TimeoutError:
            return -1
        return sum(found.values())

    def _report(self, kind: str, **facts: Any) -> dict[str, Any]:
        found, kinds = self._verify(kind)
        facts |= found
        facts |= {
            "acknowledged": len(self.kept.claims),
            "not_stored": len(self.missing()),
            "stored_twice": self.doubled(),
            "longest_answer_s": round(self.kept.longest_s, 1),
            "troubles": self.kept.troubles[:5],
            "kinds": [*facts.get("kinds", ()), *kinds],
        }
        names = (
            "lost",
            "doubled",
            "problems",
            "reconciliation",
            "before_refiling",
            "not_stored",
            "stored_twice",
            "troubles",
        )
        bad = any(facts.get(name) for name in names)
        return {"drill": kind, "ok": not bad, **facts}

    def whole(self) -> dict[str, Any]:
        """Restore with all of the WAL."""
        self.tell("whole: base backup under load")
        with self._under_load():
            backup = self._backup("whole")
            begun = time.monotonic()
            backup.begin()
            backup_s = time.monotonic() - begun
            time.sleep(self.seconds)
            self.tell("whole: the database is lost, and restored")
            lost_at = self._lose()
            backup.restore()
            self.stack.start_postgres()
            answers_s = time.monotonic() - lost_at
            self.fleet.wait_ready(READY_S)
            first = time.monotonic()
            until = first + READY_S
            while not any(at > lost_at + answers_s for at in list(self.kept.at.values())) and time.monotonic() < until:
                time.sleep(0.1)
            serves_s = time.monotonic() - lost_at
            time.sleep(min(self.seconds, 5.0))
        missing = self.missing()
        first_lost = min((self.kept.at[key] for key in missing), default=lost_at)
        return self._report(
            "whole",
            rpo_s=round(lost_at - first_lost, 1),
            lost_requests=len(missing),
            database_answers_s=round(answers_s, 1),
            rto_s=round(serves_s, 1),
            backup_s=round(backup_s, 1),
        )

    def cut(self) -> dict[str, Any]:
        """Restore without the end of the WAL."""
        self.tell("cut: base backup under load")
        with self._under_load():
            backup = self._backup("cut")
            begun = time.monotonic()
            backup.begin()
            backup_s = time.monotonic() - begun
            time.sleep(self.seconds / 2)
            ((upto, at),) = self._rows("select pg_current_wal_flush_lsn()::text, clock_timestamp()")
            time.sleep(self.seconds / 2)
        ((now, listings),) = self._rows(
            "select clock_timestamp(), (select json_agg(json_build_array(listing, measure, seq))::text from marketplace.listings)"
        )
        self.tell("cut: the database is lost, and restored to a moment before")
        lost_at = self._lose()
        self.fleet.stop()
        backup.restore(upto=upto)
        self.stack.start_postgres()
        answers_s = time.monotonic() - lost_at
        # the marketplace is another system, which has not forgotten what it did
        self._rows(
            "update marketplace.listings l set measure = n.row ->> 1, seq = (n.row ->> 2)::int"
            " from json_array_elements(%s::json) as n(row) where l.listing = n.row ->> 0",
            listings,
        )
        engine = db.administer(self.stack.admin_url)
        rebuilt = restore_topics(fleet.settings_of(self.stack), engine, self.stack.dir / "lost.jsonl", self.tell)
        engine.dispose()
        self.tell("cut: starting the processes")
        self.fleet = Fleet.start(self.stack, counts()).wait_ready(READY_S)
        serves_s = time.monotonic() - lost_at
        # the database lost what the marketplace did last: that must be corrected even if nothing is filed again
        before, kinds = self._verify("cut")
        missing = self.missing()
        self.tell("cut: filing again what was lost")
        lock = threading.Lock()
        with httpx.Client(base_url=self.settings.intake_url, timeout=30, trust_env=False) as http:
            for key in missing:
                post(http, self.run.tokens, self.kept.requests[key], self.kept, lock)
        facts = rebuilt.as_json()
        return self._report(
            "cut",
            rpo_s=round((now - at).total_seconds(), 1),
            lost_requests=len(missing),
            database_answers_s=round(answers_s, 1),
            rto_s=round(serves_s, 1),
            backup_s=round(backup_s, 1),
            topics_s=facts.pop("seconds"),
            before_refiling=sum(abs(number or 0) for number in before.values()),
            kinds=kinds,
            **{f"topics_{name}": value for name, value in facts.items()},
        )

    def close(self) -> None:
        """Close connections."""
        self.run.close()


def counts() -> dict[str, int]:
    """Number of instances of each service that takes part."""
    return {name: int(name not in WITHOUT) for name in fleet.SERVICES}


def run(name: str, *, rate: float, seconds: float, keep: bool) -> dict[str, Any]:
    """Run both disasters on a new stack; returns the results for `--json`."""
    destroy(name)
    begun = time.monotonic()
    results: list[dict[str, Any]] = []
    try:
        with progress("starting") as tell:
            begins = dt.datetime(2025, 1, 27, 9, tzinfo=dt.UTC)
            stack, processes = bring_up(name, counts(), env=ENVIRONMENT, begins=begins)
            drill = RestoreDrill(stack, processes, rate=rate, seconds=seconds, tell=tell)
            tell("accounts and listings")
            drill.prepare()
            results.append(drill.whole())
            results.append(drill.cut())
            drill.close()
    finally:
        if not keep:
            destroy(name)
    failed = [result["drill"] for result in results if not result["ok"]]
    return {
        "drills": len(results),
        "failed": len(failed),
        "results": results,
        "seconds": round(time.monotonic() - begun, 1),
    }


def show(outcome: dict[str, Any]) -> None:
    """Print the results as a table."""

    results = outcome["results"]
    shown = table("", *(result["drill"] for result in results))
    for name in dict.fromkeys(name for result in results for name in result if name not in ("drill", "kinds")):
        shown.add_row(name.replace("_", " "), *(str(result.get(name, "-")) for result in results))
    console.print(shown)
    for result in results:
        for kind in result["kinds"]:
            console.print(f"{result['drill']}: {kind}", markup=False, highlight=False)


def restore_drill(
    rate: Annotated[float, typer.Option(min=1, help="Items filed a second.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of load before each disaster.")] = 20.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; an existing one is destroyed first.")] = "restore",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Lose the database under load and restore it, with and without the end of its WAL; exit 1 if anything is lost."""
    confirm_replacing(stack, own=("restore",), yes=yes)
    outcome = run(stack, rate=rate, seconds=seconds, keep=keep)
    show(outcome)
    if json:
        print_json(outcome)
    if outcome["failed"]:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(restore_drill)
