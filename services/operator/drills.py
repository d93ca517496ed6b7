"""``goodfaith drills``: faults on purpose, on a stack that is watched as an installation is, met by its own runbooks.

Real notices flow in. A fault is made; its alert must reach the pager in time, and no other page; the commands of the
alert's runbook are run as they stand there; the alert must be resolved. Then nothing may be lost or done twice, and the
stream views must agree with the database. Rules run on a fast clock: as fast as this machine can follow, which is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Self

import httpx
import psycopg2
import sqlalchemy as sa
import typer
from rich.markup import escape
from rich.table import Table

import deploy
from deploy.local import clocks, fleet, prometheus
from deploy.local.children import StackError
from deploy.local.processes import Fleet
from deploy.local.stack import Stack
from deploy.prometheus import model, rules
from services.operator import faults
from services.operator.broker_faults import delete_unread, lose_events
from services.operator.cli import console, errors, print_json
from services.operator.doors import Ask
from services.operator.exposition import total
from services.operator.faults import Claim, Faults, Plan, Submitter
from services.operator.notices import SAMPLE, Notice, read
from services.operator.pager import Note, Pager, pages
from services.operator.streams import compared
from services.operator.up import JsonOption, bring_up, destroy
from services.operator.verify import verify_stack
from shared.settings import Settings

REPOSITORY: Final = Path(deploy.__file__).resolve().parents[1]
RUNBOOKS: Final = REPOSITORY / "docs" / "runbooks"
SPEED: Final = 12
"""The most that the rules' clock is sped up. A worker may wait 20 s for a lock, which is not scaled: at this speed it stays
below the five minutes after which WorkerStuck fires."""
LOOKS_S: Final = 15.0
"""Seconds, on the rules' clock, between two looks at each process: as in an installation."""
SHARE: Final = 0.5
"""A look takes at most this share of the time between two."""
LOOKS: Final = tuple(
    f"quantile(0.9, quantile_over_time(0.9, {series}[1m]))"
    for series in ("scrape_duration_seconds", "prometheus_rule_group_last_duration_seconds")
)
"""How long looks take, and rounds of rules: most of them, most of the time. A process that is frozen, as the canary is during
a proof, says nothing of the machine."""
STARTS: Final = 2.0
"""In the time after which ProcessDown fires a process can start this many times: a runbook that restarts one is no outage."""
CLOSE: Final = 1.3
"""The rules' clock is left alone as long as it could go only so many times faster."""
GRACE_S: Final = 60.0
"""Wall seconds that an alert may take beyond what its rule waits for: scraping, evaluating, telling."""
RATE: Final = 2.5
"""Items filed a second, from real notices."""
NOTICES: Final = 60
ITEMS: Final = 6_000
"""More than can be filed in 40 minutes, almost twice what all drills took."""
COMMAND_S: Final = 240.0
QUIET_S: Final = 150.0
UNREAD: Final = 12
"""So many records wait for a worker that is away before they are deleted."""
STEP_S: Final = 15.0
"""Seconds for which a runbook's step is given time to help before the next is tried."""
HOUR: Final = dt.timedelta(hours=1)
ALERTS: Final = {alert.name: alert for alert in rules.alerts()}
ENVIRONMENT: Final = {
    **faults.ENVIRONMENT,
    # what is looked at every so often keeps pace with the rules
    "GOODFAITH_WATCH_S": "1",
    "GOODFAITH_CANARY_EVERY_S": "2",
    "GOODFAITH_RECONCILE_S": "2",
}
COUNTS: Final = {**dict.fromkeys(fleet.SERVICES, 1), "verification": 3}
"""Three workers share verification's partitions, so that one of them can be stuck and most partitions go on."""


# ------------------------------------------------------------------------------------------------------------ the load


class Notices(Plan):
    """Real notices, again and again: each time their listings bear other ids."""

    def __init__(self, notices: Sequence[Notice], namespace: str, *, items: int = ITEMS) -> None:
        super().__init__(items, 1, namespace)
        self._notices = [one for one in notices if one.kind == "takedown" and 1 <= len(one.listings) <= 20]
        named = sum(len(one.listings) for one in self._notices)
        self._rounds = math.ceil(items / named)
        self.holders = sorted({self._holder(one) for one in self._notices})
        self._sellers = {
            self._listing(number, named.url): f"s-{namespace}-{named.seller}"
            for number in range(self._rounds)
            for one in self._notices
            for named in one.listings
        }
        self.sellers = sorted(set(self._sellers.values()))

    def _holder(self, notice: Notice) -> str:
        return f"h-{self.ns}-{notice.complainant}"

    def _listing(self, number: int, url: str) -> str:
        return f"{self.ns}-{number}x{url.rpartition('/')[2]}"

    def seller(self, listing: str) -> str:
        """Whose listing it is."""
        return self._sellers[listing]

    def listings(self) -> Iterator[str]:
        """All listings that are on the site."""
        return iter(self._sellers)

    def claims(self) -> Iterator[Claim]:
        """Claims, one a notice."""
        for number, notice in itertools.product(range(self._rounds), self._notices):
            listings = dict.fromkeys(self._listing(number, one.url) for one in notice.listings)
            body = {
                "right": self.rights[self._holder(notice)],
                "reason": faults.REASONS[number % len(faults.REASONS)],
                "listings": [f"https://market.example/items/{listing}" for listing in listings],
            }
            key = f"{self.ns}.{number}.{notice.notice}"
            yield Claim(Ask("submit_claim", self._holder(notice), key, body), tuple(listings))

    def about(self, claim: Claim, item: str, listing: str) -> list[tuple[float, Ask]]:
        """As ever, but sooner: each drill ends with everything at rest."""
        return [(delay * 0.1, ask) for delay, ask in super().about(claim, item, listing)]


class Load:
    """Notices that flow while drills go on, and can be halted; the record of what was acknowledged is kept outside."""

    def __init__(self, run: Faults, rate: float = RATE) -> None:
        self.run = run
        self._rate = rate
        self._stop = threading.Event()
        claims = run.plan.claims()
        run.plan.claims = lambda: itertools.takewhile(lambda _: not self._stop.is_set(), claims)  # type: ignore[method-assign]
        self.submitter = Submitter(run.plan, run.settings, run.tokens, rate=0, step=lambda: None)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.submitter.run(lambda _: None)), name="load")
        self._thread.start()

    def flow(self) -> None:
        """Let notices flow.

        Raises:
            StackError: the notices are at their end, or filing has failed.
        """
        self._check_alive()
        self.submitter.rate = self._rate

    def halt(self, timeout_s: float = 90.0, ignore: frozenset[str] = frozenset()) -> None:
        """File nothing new; returns when all that was filed is answered and nothing is under way but what is ignored.

        Raises:
            TimeoutError: something is not, after `timeout_s` seconds.
            StackError: the notices are at their end, or filing has failed.
        """
        self.submitter.rate = 0
        until = time.monotonic() + timeout_s
        while self.submitter.busy:
            self._check_alive()
            if time.monotonic() > until:
                raise TimeoutError("requests stay unanswered")
            time.sleep(0.1)
        self.run.settle(max(1.0, until - time.monotonic()), ignore=ignore)

    def _check_alive(self) -> None:
        if not self._thread.is_alive():
            raise StackError(f"the load has ended: {self.submitter.record.contradictions}")

    def close(self) -> None:
        """End."""
        self._stop.set()
        self.submitter.rate = self._rate
        self._thread.join(60)
        self.run.close()


# ------------------------------------------------------------------------------------------------------- the runbooks


@dataclass(frozen=True, slots=True)
class Ran:
    """A command of a runbook, and what came of it."""

    command: str
    status: int
    output: str
    seconds: float

    @property
    def broken(self) -> str:
        """Why the command itself is at fault, as it stands in the runbook; empty when it is not.

        That a command finds something (`verify`, `status`: exit 1) is what it is for.
        """
        if self.status in (2, 126, 127) or self.status < 0:
            return f"exit {self.status}"
        return "traceback" if "Traceback (most recent call last)" in self.output else ""


def blocks(text: str, heading: str) -> list[str]:
    """The `sh` blocks below the second-level heading of a runbook, in order; none when it is not there."""
    found = re.search(rf"^## {re.escape(heading)}\s*$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    return re.findall(r"^ *```sh\n(.*?)^ *```", found[1], flags=re.M | re.S) if found else []


class Engineer:
    """Who is on call: has the runbooks, a shell, and nothing else."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._folder = folder
        program = folder / "goodfaith"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m services.operator.cli "$@"\n')
        program.chmod(0o755)
        observers = stack.observers()
        self.env = {
            **os.environ,
            "PATH": f"{folder}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(REPOSITORY),
            "GOODFAITH_STACK_NAME": stack.name,
            "GOODFAITH_STATE_DIR": str(stack.dir.parent),
            # `goodfaith up` is to leave the fast clock of the rules alone
            "GOODFAITH_OBSERVE": "false",
            "GOODFAITH_PROMETHEUS_URL": observers["prometheus"],
            "GOODFAITH_ALERTMANAGER_URL": observers["alertmanager"],
        }

    def run(self, command: str) -> Ran:
        """Run some lines of shell; what takes too long is ended with status -1."""
        begun = time.monotonic()
        shell = subprocess.Popen(
            ["sh", "-c", command], cwd=REPOSITORY, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = shell.communicate(timeout=COMMAND_S)
            status = shell.returncode
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, 9)
            output, _ = shell.communicate()
            status = -1
        return Ran(command.strip(), status, output[-4000:], time.monotonic() - begun)

    def steps(self, alert: str, heading: str) -> list[str]:
        """What stands to be run under a heading of the alert's runbook, in order.

        Raises:
            StackError: the alert has no runbook.
        """
        book = RUNBOOKS / f"{alert}.md"
        if not book.exists():
            raise StackError(f"{alert} has no runbook")
        return blocks(book.read_text(encoding="utf-8"), heading)

    def run_all(self, commands: Sequence[str]) -> list[Ran]:
        """Run what only looks, two at a time: order means nothing."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.run, commands))


class Observer:
    """Asks Prometheus."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series.

        Raises:
            StackError: the query is refused.
        """
        answer = self._http.get("/api/v1/query", params={"query": query}).json()
        if answer["status"] != "success":
            raise StackError(f"{query}: {answer.get('error')}")
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """All rules, recorded ones and alerts, with their health, as Prometheus tells."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> list[str]:
        """Alerts that page, muted or not."""
        rows = self.ask('ALERTS{severity="page",alertstate="firing"}')
        return sorted({labels["alertname"] for labels, _ in rows})

    def noisy(self, layer: model.Layer) -> list[str]:
        """Alerts that page, and those that have ended and may still mute an alert of this layer."""
        causes = "|".join(itertools.takewhile(lambda one: one != layer, model.LAYERS))
        rows = self.ask(f'ALERTS{{alertname="Aftermath",alertstate="firing",layer=~"{causes}"}}')
        return sorted({*self.firing(), *(labels["page"] for labels, _ in rows)})

    def looked(self) -> bool:
        """Whether every process has been looked at, successfully or not, since Prometheus was started."""
        targets = self._http.get("/api/v1/targets", params={"state": "active"}).json()["data"]["activeTargets"]
        pools = {target["scrapePool"] for target in targets}
        return "goodfaith" in pools and all(target["health"] != "unknown" for target in targets)

    def look_s(self) -> float:
        """How long a look at a process takes, or a round of rules.

        Raises:
            StackError: nothing was looked at.
        """
        slowest = 0.0
        for query in LOOKS:
            rows = self.ask(query)
            if not rows:
                raise StackError(f"Prometheus does not say how long it takes: {query}")
            slowest = max(slowest, rows[0][1])
        return slowest


def pace(look_s: float, start_s: float, most: float = SPEED) -> float:
    """How many times faster than in an installation the rules' clock may go on this machine.

    Args:
        look_s: How long the slowest look at a process takes, in wall seconds.
        start_s: How long a process takes to start, in wall seconds.
        most: The limit.
    """
    looks = LOOKS_S * SHARE / look_s if look_s else most
    starts = ALERTS["ProcessDown"].after_s / (STARTS * start_s) if start_s else most
    return max(1.0, math.floor(10 * min(most, looks, starts)) / 10)


# ---------------------------------------------------------------------------------------------------------- the drills


def plan(speed: float, pager: Pager) -> prometheus.Plan:
    """How the stack is observed when the rules' clock goes so fast."""
    return prometheus.Plan(LOOKS_S / speed, speed, pager.url)


class Ground:
    """What drills take place on."""

    def __init__(self, stack: Stack, processes: Fleet, pager: Pager, run: Faults, folder: Path, most: float) -> None:
        self.stack = stack
        self.speed = self._most = most
        self.fleet = processes
        self.pager = pager
        self.run = run
        self.load = Load(run)
        self.engineer = Engineer(stack, folder)
        self.prometheus = Observer(stack.observers()["prometheus"])
        self.kept: list[Any] = []
        """What a fault holds on to until it is mended."""
        self.standing: set[str] = set()
        """Alerts that fire without any fault."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.prometheus.close()
        self.load.close()

    def measure(self) -> None:
        """Measure this machine, and let the rules' clock go as fast as it can follow now.

        Raises:
            StackError: Prometheus does not take the rules.
        """
        process = self.fleet["notification-bounces.0"]
        begun = time.monotonic()
        process.restart().wait_ready()
        speed = pace(self.prometheus.look_s(), time.monotonic() - begun, self._most)
        if not self.speed <= speed <= CLOSE * self.speed:
            self.speed = speed
            self.stack.observe(plan(speed, self.pager))
            # of a process that ends before Prometheus, started again, has looked at it, the last figures stay
            self.wait(self.prometheus.looked, "Prometheus does not look at every process")

    def wait(self, until: Callable[[], bool], otherwise: str) -> None:
        """Wait until it holds.

        Raises:
            StackError: it does not, within `GRACE_S` seconds.
        """
        end = time.monotonic() + GRACE_S
        while not until():
            if time.monotonic() > end:
                raise StackError(otherwise)
            time.sleep(0.2)

    def sql(self, *statements: str) -> None:
        """As an administrator."""
        with self.run.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))


@dataclass(frozen=True)
class Drill:
    """A fault and the alert that must tell of it.

    Attributes:
        fault: What is done, in words.
        alert: The alert that must fire, and whose runbook is followed.
        inject: Makes the fault.
        mend: Takes the cause away where that is no command of a runbook: a new version, another firm's server.
        over: What must hold besides, where an alert ends also with whoever says it.
    """

    fault: str
    alert: str
    inject: Callable[[Ground], None]
    mend: Callable[[Ground], None] = lambda _: None
    over: Callable[[Ground], bool] | None = None

    @property
    def rule(self) -> model.Alert:
        """Its alert."""
        return ALERTS[self.alert]

    @property
    def after_s(self) -> float:
        """Seconds from the fault until its alert fires, in an installation. Hours are not waited for: time is set ahead."""
        return (
            float(model.Pace().seconds(self.rule.hold))
            if self.rule.after_s > HOUR.total_seconds()
            else self.rule.after_s
        )


@dataclass(slots=True)
class Result:
    """What came of a drill. Seconds are wall time; alerting ones on the rules' fast clock."""

    drill: Drill
    speed: float = 1.0
    alert_s: float | None = None
    recovery_s: float | None = None
    lost: int = 0
    doubled: int = 0
    problems: int = 0
    reconciliation: float | None = None
    paged: list[str] = field(default_factory=list)
    commands: list[Ran] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As printed."""
        return {
            "fault": self.drill.fault, "alert": self.drill.alert, "speed": self.speed, "alert_s": _round(self.alert_s),
            "recovery_s": _round(self.recovery_s), "lost": self.lost, "doubled": self.doubled, "problems": self.problems,
            "reconciliation": self.reconciliation, "paged": self.paged, "commands": len(self.commands),
            "steps": self.steps, "failures": self.failures,
        }  # fmt: skip


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def exercise(ground: Ground, drill: Drill, tell: Callable[[str], None] = lambda _: None) -> Result:
    """One drill, from quiet to quiet."""
    result = Result(drill)
    step = _Steps(result, tell)
    step("quiet")
    ground.load.flow()
    ground.measure()
    result.speed = ground.speed
    if noisy := sorted(set(_until_quiet(ground, drill.rule.layer)) - ground.standing):
        result.failures.append(f"before the fault: {', '.join(noisy)}")
        return result
    step("fault")
    begun = time.monotonic()
    drill.inject(ground)

    def fires(note: Note) -> bool:
        return note.alert == drill.alert and note.firing

    within_s = drill.after_s / ground.speed + GRACE_S
    note = ground.pager.wait(fires, since=begun, timeout_s=within_s)
    if note is None:
        result.failures.append(f"{drill.alert} has not fired within {within_s:.0f} s: {ground.prometheus.firing()}")
    else:
        result.alert_s = note.at - begun
    step("runbook")
    answered = time.monotonic()
    over = _follow(ground, result, begun)
    ground.fleet = Fleet.load(ground.stack)  # a runbook may have others started in their place
    result.failures += [
        f"runbook: {ran.broken}: {ran.command}\n{ran.output[-600:]}" for ran in result.commands if ran.broken
    ]
    if note is not None:
        step("resolved")
        over = over or ground.pager.wait_resolved(drill.alert, since=begun, timeout_s=QUIET_S)
        if over is None:
            result.failures.append(f"{drill.alert} is not resolved {QUIET_S:.0f} s after the runbook's steps")
        else:
            result.recovery_s = max(over, _holds(ground, result)) - answered
    step("proof")
    proof = time.monotonic()
    _prove(ground, result)
    result.paged = pages(note for note in ground.pager.notes(begun) if note.at < proof or not of_canary(note))
    if result.paged != [drill.alert]:
        result.failures.append(
            f"paged: {', '.join(result.paged) or 'nothing'}; expected: {drill.alert} and nothing else"
        )
    step("")
    return result


def of_canary(note: Note) -> bool:
    """Whether it only says that the canary stands, as it does during the proof."""
    return note.alert == "CanaryOld" or note.labels.get("area") == "canary"


def _holds(ground: Ground, result: Result) -> float:
    """Wait until what is to hold besides does; when it was seen to, 0.0: nothing is to."""
    if (over := result.drill.over) is None:
        return 0.0
    until = time.monotonic() + QUIET_S
    while not over(ground):
        if time.monotonic() > until:
            result.failures.append(f"{result.drill.alert} is resolved, and what it was about is not")
            break
        time.sleep(0.5)
    return time.monotonic()


def _follow(ground: Ground, result: Result, since: float) -> float | None:
    """Look, mend, and do one step after the other, as long as the alert fires; the rest of the steps for their commands' sake.

    Returns when the alert was resolved, None if it is not yet.
    """
    drill, engineer = result.drill, ground.engineer
    result.commands += engineer.run_all(engineer.steps(drill.alert, "Look here"))
    drill.mend(ground)
    over = None
    for command in engineer.steps(drill.alert, "Do this"):
        result.commands.append(engineer.run(command))
        if over is None:
            over = ground.pager.wait_resolved(drill.alert, since=since, timeout_s=STEP_S)
    return over


class _Steps:
    """Says what is going on, and notes how long each step took."""

    def __init__(self, result: Result, tell: Callable[[str], None]) -> None:
        self._result = result
        self._tell = tell
        self._name, self._since = "", 0.0

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        if self._name:
            self._result.steps[self._name] = round(now - self._since, 1)
        self._name, self._since = name, now
        if name:
            self._tell(name)


def _until_quiet(ground: Ground, layer: model.Layer) -> list[str]:
    until = time.monotonic() + QUIET_S + float(model.Pace(ground.speed).seconds(model.AFTERMATH))
    while (noisy := ground.prometheus.noisy(layer)) and set(noisy) - ground.standing:
        if time.monotonic() > until:
            return noisy
        time.sleep(0.5)
    return []


def _prove(ground: Ground, result: Result) -> None:
    """At rest: nothing lost, nothing doubled, and the views agree with the database."""
    try:
        ground.fleet.wait_ready(60)
        with _without_canary(ground.fleet):
            ground.load.halt()
            _compare(ground, result)
    except (StackError, TimeoutError) as error:
        result.failures.append(f"does not come to rest: {str(error).splitlines()[0]}")


@contextlib.contextmanager
def _without_canary(processes: Fleet) -> Iterator[None]:
    """Meanwhile the canary stands still: while it goes round nothing is at rest."""
    processes["canary.0"].signal(signal.SIGSTOP)
    try:
        yield
    finally:
        processes["canary.0"].signal(signal.SIGCONT)


def _compare(ground: Ground, result: Result) -> None:
    rested = dt.datetime.now(dt.UTC)
    report = verify_stack(fleet.settings_of(ground.stack))
    lost, doubled = ground.run.compare(ground.load.submitter.record)
    result.lost = report.counts["lost"] + len(lost)
    result.doubled = report.counts["doubled"] + len(doubled)
    result.problems = report.counts["problems"] + len(ground.load.submitter.record.contradictions)
    result.failures += [f"{kind['kind']}: {kind['examples'][:3]}" for kind in report.kinds]
    result.failures += [*lost[:3], *doubled[:3], *ground.load.submitter.record.contradictions[:3]]
    result.reconciliation = _reconciled(ground, rested)
    if result.reconciliation is None:
        result.failures.append("views were not held against the database")
    elif result.reconciliation:
        result.failures.append(f"views and database differ by {result.reconciliation:.0f}")


def _reconciled(ground: Ground, since: dt.datetime) -> float | None:
    """The difference of all views as counted after `since`; None when they were not counted."""
    try:
        return sum(compared(ground.fleet, since, within_s=60).values())
    except TimeoutError:
        return None


# ---- faults


def _kill(name: str) -> Callable[[Ground], None]:
    def inject(ground: Ground) -> None:
        ground.fleet[name].kill9()

    return inject


POISONED: Final = "poisoned"


def _refuse(ground: Ground, table: str, when: str, count: int) -> None:
    """A service cannot save what becomes of some listings that are claimed next: as with a bug that few data meet."""
    schema = table.partition(".")[0]
    filed = ground.load.submitter.filed
    chosen = itertools.islice(ground.run.plan.listings(), filed + 8, filed + 8 + count)
    names = ", ".join(f"'{name}'" for name in chosen)
    ground.sql(
        f"""create function {schema}.{POISONED}() returns trigger language plpgsql as $$ begin
            raise exception 'poison'; end $$""",
        f"""create trigger {POISONED} before {when} on {table} for each row
            when (new.listing in ({names})) execute function {schema}.{POISONED}()""",
    )
    ground.wait(lambda: total(ground.fleet, "goodfaith_dead_letters_depth") > 0, "nothing is parked")


def _cure(ground: Ground) -> None:
    """The version without the bug."""
    ground.sql(f"drop function verification.{POISONED}() cascade")


def _poison(ground: Ground) -> None:
    """Verification parks some items, and four hours pass."""
    _refuse(ground, "verification.items", "insert or update", 40)
    ground.sql("update verification.parked set parked_wall = parked_wall - interval '4 hours' where state <> 'done'")
    for process in ground.fleet:
        if process.name.startswith("verification."):
            process.restart().wait_ready()  # since when a record is parked is read at the start


def _late(ground: Ground) -> None:
    """The marketplace cannot carry out what it is told about some listings, and 19 of the 24 hours pass."""
    _refuse(ground, "marketplace.listings", "update", 12)
    ground.load.submitter.rate = 0
    # what is only on its way is not to become late
    ground.wait(lambda: not ground.load.submitter.outstanding, "requests stay unanswered")
    time.sleep(STEP_S)
    ground.run.step(19 * HOUR)
    ground.load.flow()


def _deliver(ground: Ground) -> None:
    """The marketplace's people have mended it."""
    ground.sql(f"drop function marketplace.{POISONED}() cascade")
    ground.engineer.run("goodfaith dlq replay --all")


def _start(name: str) -> Callable[[Ground], None]:
    def mend(ground: Ground) -> None:
        ground.fleet[name].start().wait_ready()

    return mend


def _hold(ground: Ground) -> None:
    """A forgotten transaction holds one partition of verification."""
    session = psycopg2.connect(ground.stack.admin_url, application_name="psql")
    session.cursor().execute("select from verification.partitions where partition = 0 for update")
    ground.kept.append(session)


def _let_go(ground: Ground) -> None:
    """As the runbook of an old transaction has it: whoever forgot it was asked."""
    ground.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'psql'")
    while ground.kept:
        with contextlib.suppress(psycopg2.Error):
            ground.kept.pop().close()


def _hang(ground: Ground) -> None:
    """The stream views' worker hangs amid a step: it folds nothing, and its port goes on answering."""
    process = ground.fleet["streams.0"]
    process.env["GOODFAITH_CRASH_AT"] = "streams:folded:100:hang"
    process.restart().wait_ready()
    del process.env["GOODFAITH_CRASH_AT"]


def _wrong_clock(ground: Ground) -> None:
    """The database's clock steps ahead."""
    with ground.run.engine.begin() as connection:
        clocks.set_ahead(connection, 5.0)


def _right_clock(ground: Ground) -> None:
    """Its host's time service is repaired."""
    with ground.run.engine.begin() as connection:
        clocks.set_ahead(connection, 0)


def _delete_unread(ground: Ground) -> None:
    """A worker is away, and somebody deletes what it has not read."""
    workers = [process for process in ground.fleet if process.name.startswith("verification.")]
    for worker in workers:
        worker.kill9()
    delete_unread(ground.run.settings, UNREAD, GRACE_S)
    for worker in workers:
        worker.start()


def _hole(ground: Ground) -> None:
    """Events never reach their topic, and later ones do."""
    lose_events(ground.run.settings, ground.fleet, ground.run.engine, GRACE_S)


def _read_on(ground: Ground) -> bool:
    """All processes of the runbook's last step are ready, and leave no place alone."""
    return all(process.ready() for process in ground.fleet) and not total(
        ground.fleet, "goodfaith_unread_gone_partitions"
    )


DRILLS: Final = (
    # from consequence to cause: what has just paged mutes nothing that comes next
    Drill("promise about to be missed", "OldestItemOld", _late, mend=_deliver),
    Drill("a poison record that nobody mends", "DeadLettersOld", _poison, mend=_cure),
    # the canary writes mail here, and notices before DeliveryLate does
    Drill("mail server gone", "CanaryOld", _kill("mailbox.0")),
    Drill("marketplace gone", "ConsumerLag", _kill("marketplace.0"), mend=_start("marketplace.0")),
    Drill("one partition stuck", "PartitionStuck", _hold, mend=_let_go),
    Drill("a stream worker dead but exporting", "StreamsBehind", _hang),
    Drill("enforcement stopped", "ProcessDown", _kill("enforcement-worker.0")),
    Drill("the database's clock is wrong", "ClocksDisagree", _wrong_clock, mend=_right_clock),
    Drill("broker gone", "BrokerDown", lambda g: g.stack.kill_kafka()),
    Drill("database gone", "DatabaseDown", lambda g: g.stack.kill_postgres()),
    # the last: `goodfaith up` starts one of each process anew, whatever there was before
    Drill("unread records deleted", "UnreadGone", _delete_unread, over=_read_on),
    Drill("a hole in a topic", "UnreadGone", _hole, over=_read_on),
)


# ----------------------------------------------------------------------------------------------------------- the whole


def _environment(speed: float) -> dict[str, str]:
    """Canary rounds are as frequent, and pauses between tries as far below WorkerStuck's limit, as on the rules' clock."""
    scaled = ("retry_max_s", "canary_every_s")
    paced = {f"GOODFAITH_{name.upper()}": str(float(Settings.model_fields[name].default) / speed) for name in scaled}
    return {**ENVIRONMENT, **paced}


def drills(
    only: Annotated[list[str] | None, typer.Argument(help="Alerts whose drills to run; none: all.")] = None,
    speed: Annotated[
        float, typer.Option(min=1, max=SPEED, help="How many times faster the rules' clock goes, at most.")
    ] = SPEED,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, to look at.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; one of that name is destroyed first.")] = "drills",
    json: JsonOption = False,
) -> None:
    """Make faults, wait for their alerts, follow the runbooks, and prove that nothing came to harm; exit 1 if anything did."""
    if missing := prometheus.missing():
        raise StackError(f"{' and '.join(missing)} not installed; {prometheus.INSTALL}")
    chosen = [drill for drill in DRILLS if not only or drill.alert in only]
    if unknown := sorted(set(only or ()) - {drill.alert for drill in DRILLS}):
        raise StackError(f"no drill for {', '.join(unknown)}; there are: {', '.join(d.alert for d in DRILLS)}")
    begun = time.monotonic()
    destroy(stack)
    results: list[Result] = []
    standing: set[str] = set()
    try:
        with errors.status("starting") as status, Pager() as pager, tempfile.TemporaryDirectory() as folder:
            local, processes = bring_up(stack, COUNTS, env=_environment(speed), observe=plan(speed, pager), canary=True)
            status.update("accounts and listings")
            run = Faults(local, processes, Notices(list(read(SAMPLE, NOTICES)), "d"))
            with _without_canary(processes):
                run.prepare()
            with Ground(local, processes, pager, run, Path(folder), speed) as ground:
                status.update("quiet")
                ground.load.flow()
                standing = ground.standing = set(_until_quiet(ground, "platform"))
                for drill in chosen:
                    results.append(exercise(ground, drill, lambda step, d=drill: status.update(f"{d.fault}: {step}")))  # type: ignore[misc]
                    _line(results[-1])
    finally:
        if not keep:
            destroy(stack)
    if standing:
        console.print(f"fire without any fault: {', '.join(sorted(standing))}", style="red")
    failed = _show(results)
    if json:
        totals = {name: sum(getattr(one, name) for one in results) for name in ("lost", "doubled", "problems")}
        seconds = round(time.monotonic() - begun, 1)
        details = [one.json() for one in results]
        print_json(
            {
                "drills": len(results),
                "failed": failed,
                **totals,
                "standing": sorted(standing),
                "seconds": seconds,
                "results": details,
            }
        )
    if failed or standing or len(results) < len(chosen):
        raise typer.Exit(1)


def _line(result: Result) -> None:
    verdict = "failed" if result.failures else "done"
    errors.print(f"{result.drill.fault}: {verdict}", highlight=False)
    for failure in result.failures:
        errors.print(f"  {escape(failure)}", style="red", highlight=False)


def _show(results: Sequence[Result]) -> int:
    table = Table("fault", "paged", "speed", "to alert", "to recovery", "lost", "doubled", "reconciliation", "")
    for one in results:
        table.add_row(
            one.drill.fault, ", ".join(one.paged), f"{one.speed:g}", _seconds(one.alert_s), _seconds(one.recovery_s), str(one.lost),
            str(one.doubled), "-" if one.reconciliation is None else f"{one.reconciliation:.0f}",
            "failed" if one.failures else "",
        )  # fmt: skip
    console.print(table)
    return sum(bool(one.failures) for one in results)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(drills)
