"""``goodfaith upgrade drill``: two versions of the software side by side on one broker and one database, under load.

The version before is laid out from the repository, makes its own tables and runs. Real notices flow in, as in `drills`. Then this
version's migrations are run beside it; its processes are exchanged one by one, half of each kind first, so that old and new share
partitions, topics and tables; then the others; and back again, on the new tables. Twice everything comes to rest and `verify` looks
at it; what was acknowledged is compared with the record kept outside. How far readers are behind is seen from outside all the while.

Both versions run on the packages that are installed: a release that needs others is drilled with both sets (docs/how-to/upgrade.md).
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import psutil
import typer

from deploy.local import fleet
from deploy.local.children import StackError
from deploy.local.processes import Fleet, Process, Version
from deploy.local.stack import Stack
from deploy.local.up import JsonOption, begin, destroy, root, settle
from labs.drills import ENVIRONMENT, REPOSITORY, Load, Notices
from labs.exposition import parsed
from labs.faults.load import Faults
from labs.notices import SAMPLE, read
from services.ops.terminal import console, errors, print_json
from services.ops.verify.verify import verify_stack
from shared import kafka_links

LAG_S: Final = 10.0
"""So far may a reader be behind while processes are exchanged."""
ORDER: Final = ("streams", "notification", "enforcement", "verification", "intake")
"""Services in the order in which they are exchanged: readers before writers. What is of no service comes last."""
SPARED: Final = frozenset({"mailbox", "marketplace", "status", "canary"})
"""The world's, or not part of this."""
NOTICES: Final = 60
ITEMS: Final = 20_000
"""More than can be filed meanwhile."""
LOOK_S: Final = 0.5
READY_S: Final = 480.0
REST_S: Final = 300.0
DAYS: Final = (8, 8, 12)
"""Steps of business time at each rest: windows lapse, sanctions end."""
_COMMANDS: Final = (
    "import json; from deploy.local.fleet import FLEET; print(json.dumps({s.name: s.command for s in FLEET}))"
)
_REVISIONS: Final = ("services/*/migrations/versions/*.py", "deploy/*/migrations/versions/*.py")


# --------------------------------------------------------------------------------------------------- the version before


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, check=True)
    except FileNotFoundError:
        raise StackError("git is needed to lay out the version before") from None
    except subprocess.CalledProcessError as error:
        raise StackError(f"git {arguments[0]}: {error.stderr.decode().strip() or 'failed'}") from None
    return done.stdout


def commit_of(revision: str) -> str:
    """The commit that a tag, branch or commit names.

    Raises:
        StackError: it is not in this repository.
    """
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}").decode().strip()
    except StackError:
        raise StackError(
            f"{revision!r} is not in this repository; a shallow clone lacks history: git fetch --unshallow --tags"
        ) from None


def version_before() -> str:
    """The commit of the release before this one; while nothing is released, the one before the newest migration.

    Raises:
        StackError: the history here does not reach that far.
    """
    for tag in _git("tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname").decode().split():
        if commit_of(tag) != commit_of("HEAD"):
            return commit_of(tag)
    newest = _git("log", "-1", "--format=%H", "--diff-filter=A", "--", *_REVISIONS).decode().strip()
    if not newest:
        raise StackError("the history here has no migration; name a version by --old")
    return commit_of(f"{newest}^")


def lay_out(commit: str, folder: Path) -> Version:
    """The files of a commit, and how it starts its processes.

    Raises:
        StackError: the commit is not here, or cannot run on the packages that are installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS], cwd=folder, env=_environment(folder), capture_output=True, check=False
    )
    if done.returncode:
        raise StackError(f"{commit} does not run on the packages installed here: {done.stderr.decode()[-500:]}")
    return Version(folder, json.loads(done.stdout))


def _environment(code: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code), **more}


def migrate_as(version: Version, stack: Stack) -> None:
    """The version's own `goodfaith migrate`: roles, tables and topics as it knows them.

    Raises:
        StackError: it failed; with the end of what it said.
    """
    # the administrator's URL by the environment: a command line can be seen by others
    where = {**fleet.shared_environment(stack), **stack.broker_login("operator"), **stack.environment()}
    env = _environment(version.code, **where)
    done = subprocess.run(
        [sys.executable, "-m", "services.ops.cli", "migrate"],
        cwd=version.code,
        env={**env, "GOODFAITH_DATABASE": stack.admin_url},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"the version before cannot migrate: {done.stderr.decode()[-1000:]}")


# ------------------------------------------------------------------------------------------------------------ the lag


@dataclass(slots=True)
class Phase:
    """A stretch of the drill.

    Attributes:
        lag_s: How far the last of the readers was behind, at most; `of` which.
        unseen_s: Longest time in which nobody looked (the process that looks is exchanged as well).
        retries: Requests that had to be made again: intake is one process on a local stack.
    """

    name: str
    exchanges: bool
    seconds: float = 0.0
    filed: int = 0
    retries: int = 0
    lag_s: float = 0.0
    of: str = ""
    unseen_s: float = 0.0


def worst(text: str, without: Collection[str] = ()) -> tuple[float, str]:
    """The longest lag that an exposition of `watch` tells of, and whose it is; some topics left out."""
    lags = [
        (sample.value, f"{sample.labels['group']} {sample.labels['topic']}/{sample.labels['partition']}")
        for sample in parsed(text)
        if sample.name == "goodfaith_consumer_lag_seconds" and sample.labels["topic"] not in without
    ]
    return max(lags, default=(0.0, ""))


class Lags:
    """Looks at `watch` all the time, and keeps the worst for the phase that is on."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._enough = threading.Event()
        self.phase: Phase | None = None
        self.without: frozenset[str] = frozenset()
        """Topics that the version before does not read: nobody is late with them."""
        self._thread = threading.Thread(target=self._run, name="lags")
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        seen = time.monotonic()
        with httpx.Client(timeout=5, trust_env=False) as http:
            while not self._enough.wait(LOOK_S):
                phase = self.phase
                try:
                    lag, of = worst(http.get(self._url).raise_for_status().text, self.without)
                except httpx.HTTPError:
                    if phase is not None:
                        phase.unseen_s = max(phase.unseen_s, time.monotonic() - seen)
                    continue
                seen = time.monotonic()
                if phase is not None and lag > phase.lag_s:
                    phase.lag_s, phase.of = lag, of


# ---------------------------------------------------------------------------------------------------------- the drill


def in_order(names: Sequence[str]) -> list[str]:
    """Names of processes (`intake-worker.0`) in the order in which they are exchanged; the first of each kind first."""

    def place(name: str) -> tuple[int, int, str]:
        kind, _, number = name.rpartition(".")
        service = fleet.BY_NAME[kind].service
        return int(number), ORDER.index(service) if service in ORDER else len(ORDER), kind

    return sorted(names, key=place)


def halves(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first half of each kind, in order, and the others; of what there is one of, it is among the first."""
    kinds = {name: sum(one.rpartition(".")[0] == name.rpartition(".")[0] for one in names) for name in names}
    ordered = in_order(names)
    first = [name for name in ordered if int(name.rpartition(".")[2]) < (kinds[name] + 1) // 2]
    return first, [name for name in ordered if name not in first]


@dataclass(slots=True)
class Outcome:
    """What came of it: phases, what `verify` counted at each rest, and what the record outside says."""

    old: str
    phases: list[Phase] = field(default_factory=list)
    rests: dict[str, dict[str, Any]] = field(default_factory=dict)
    exchanged: int = 0
    migrated_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def lag_s(self) -> float:
        """The longest lag while processes were exchanged."""
        return max((phase.lag_s for phase in self.phases if phase.exchanges), default=0.0)

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, or at odds."""
        found = [rest[name] for rest in self.rests.values() for name in ("lost", "doubled", "problems")]
        return bool(found) and not any(found) and not (self.lost or self.doubled or self.problems)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "old": self.old,
            "exchanged": self.exchanged,
            "migrated_s": round(self.migrated_s, 1),
            "filed": sum(phase.filed for phase in self.phases),
            "lag_s": round(self.lag_s, 1),
            "clean": self.clean,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "problems": len(self.problems),
            "rests": self.rests,
            "examples": [*self.lost, *self.doubled, *self.problems][:20],
            "phases": [
                {
                    "name": one.name,
                    "seconds": round(one.seconds, 1),
                    "filed": one.filed,
                    "retries": one.retries,
                    "lag_s": round(one.lag_s, 1),
                    "of": one.of,
                    "unseen_s": round(one.unseen_s, 1),
                }
                for one in self.phases
            ],
            "seconds": round(self.seconds, 1),
        }


class Drill:
    """One run on a fresh stack."""

    def __init__(
        self,
        stack: Stack,
        old: Version,
        commit: str,
        *,
        instances: int,
        rate: float,
        stay: float,
        without: Collection[str],
        tell: Callable[[str], None],
    ) -> None:
        self._stack = stack
        self._old = old
        left_out = (SPARED - {"mailbox", "marketplace"}) | set(without)
        self._counts = {spec.name: 0 if {spec.name, spec.service} & left_out else instances for spec in fleet.FLEET}
        self._rate = rate
        self._stay = stay
        self._tell = tell
        self.outcome = Outcome(commit)

    def run(self) -> Outcome:
        """All of it."""
        begun = time.monotonic()
        self._tell("the version before: tables, topics, processes")
        migrate_as(self._old, self._stack)
        begin(self._stack, dt.datetime(2025, 1, 27, 9, tzinfo=dt.UTC))
        self._fleet = Fleet.start(self._stack, self._counts, version=self._old)
        self._fleet.wait_ready(READY_S)
        self._ours = [one.name for one in self._fleet if one.name.rpartition(".")[0] not in SPARED]
        self._are(self._ours, self._old)
        self._faults = Faults(self._stack, self._fleet, Notices(list(read(SAMPLE, NOTICES)), "u", items=ITEMS))
        self._tell("accounts and listings")
        self._faults.prepare()
        self._lags = Lags(self._fleet["watch.0"].metrics_port)
        self._load = Load(self._faults, self._rate)
        try:
            self._drill()
        finally:
            self._lags.close()
            self._load.close()
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _drill(self) -> None:
        first, second = halves(self._ours)
        self._load.flow()
        self._phase("old alone", lambda: None)
        self._phase("migrations beside old", self._migrate)
        added = Fleet.start(self._stack, self._counts)  # kinds of process that the version before did not have
        new = [one.name for one in added if one.name not in self._fleet.processes]
        added.wait_ready(READY_S)
        self._fleet.processes.update(added.processes)
        self._phase("forward, half", lambda: self._exchange(first, None), exchanges=True)
        self._phase("forward, mixed", lambda: None)
        self._phase("forward, the rest", lambda: self._exchange(second, None), exchanges=True)
        self._are(self._ours, None)
        self._rest("new")
        self._load.flow()
        for name in new:
            self._fleet.processes.pop(name).terminate()
        self._phase("back, half", lambda: self._exchange(first, self._old), exchanges=True)
        self._phase("back, mixed", lambda: None)
        self._phase("back, the rest", lambda: self._exchange(second, self._old), exchanges=True)
        self._are(self._ours, self._old)
        # what tells of claims waits for the new version: one from before it leaves that alone
        self._rest("old again", frozenset({"filings"}))
        self.outcome.problems += self._load.submitter.record.contradictions
        self.outcome.lost, self.outcome.doubled = self._faults.compare(self._load.submitter.record)

    def _phase(self, name: str, work: Callable[[], None], *, exchanges: bool = False) -> None:
        """Do something under load, and stay a while."""
        self._tell(name)
        submitter = self._load.submitter
        phase = Phase(name, exchanges, filed=-submitter.filed, retries=-submitter.record.retries)
        self.outcome.phases.append(phase)
        self._lags.phase = phase
        begun = time.monotonic()
        work()
        time.sleep(self._stay)
        phase.seconds = time.monotonic() - begun
        phase.filed += submitter.filed
        phase.retries += submitter.record.retries
        self._lags.phase = None

    def _migrate(self) -> None:
        from deploy.local.up import prepare

        before = self._topics()
        begun = time.monotonic()
        prepare(self._stack)
        self.outcome.migrated_s = time.monotonic() - begun
        self._lags.without = self._topics() - before

    def _topics(self) -> frozenset[str]:
        settings = fleet.settings_of(self._stack)
        admin = kafka_links.admin(settings, client_id="goodfaith-upgrade-drill")
        try:
            return frozenset(name.removeprefix(settings.topic_prefix) for name in admin.list_topics())
        finally:
            admin.close()

    def _exchange(self, names: Sequence[str], version: Version | None) -> None:
        """One after the other, each once the one before is ready."""
        for name in names:
            process: Process = self._fleet[name]
            process.of(version).restart().wait_ready(READY_S)
            self.outcome.exchanged += 1

    def _are(self, names: Sequence[str], version: Version | None) -> None:
        """Whether processes run the code that they are taken to run."""
        code = version.code if version is not None else Path.cwd()
        for name in names:
            pid = self._fleet[name].pid
            if pid is None or Path(psutil.Process(pid).cwd()) != code:
                self.outcome.problems.append(f"{name} does not run the code in {code.name}")

    def _rest(self, name: str, ignore: frozenset[str] = frozenset()) -> None:
        """Everything comes to rest but what is ignored, days pass, `verify` looks at it."""
        self._tell(f"{name}: coming to rest, verifying")
        try:
            self._load.halt(REST_S, ignore)
            for days in DAYS:
                self._faults.step(dt.timedelta(days=days))
                self._faults.settle(REST_S, ignore=ignore)
        except TimeoutError as error:
            self.outcome.problems.append(f"{name}: {error}")
        report = verify_stack(fleet.settings_of(self._stack))
        self.outcome.rests[name] = {
            **{kind: report.counts[kind] for kind in ("items", "lost", "doubled", "problems")},
            "kinds": report.kinds,
        }


def drill(
    old: str | None,
    name: str,
    *,
    instances: int,
    rate: float,
    stay: float,
    without: Collection[str] = (),
    keep: bool = False,
    tell: Callable[[str], None],
) -> Outcome:
    """Run it on a fresh stack; the stack is destroyed afterwards unless it is to be kept.

    Args:
        without: services or processes that take no part.

    Raises:
        StackError: the version before cannot be laid out, or does not start; a name that is neither.
    """
    if unknown := sorted(set(without) - set(fleet.SERVICES) - set(fleet.BY_NAME)):
        raise StackError(f"neither a service nor a process: {', '.join(unknown)}")
    commit = version_before() if old is None else commit_of(old)
    destroy(name)
    try:
        stack = Stack.start(root(), name)
        # as in an upgrade from a version whose services share one token: theirs is every caller's until all are new
        shared = stack.secret("internal_token")
        for name in fleet.CALLERS.values():
            stack.secret(name, shared)
        settle(stack, {**ENVIRONMENT, "GOODFAITH_INTERNAL_TOKEN": shared})
        tell("laying out the version before")
        version = lay_out(commit, stack.dir / "versions" / commit[:12])
        return Drill(
            stack, version, commit, instances=instances, rate=rate, stay=stay, without=without, tell=tell
        ).run()
    finally:
        if not keep:
            destroy(name)


app = typer.Typer(no_args_is_help=True, help="Upgrades, tried before they are made.")


def upgrade_drill(
    old: Annotated[
        str | None,
        typer.Option(
            help="Version before: tag or commit. Default: the release before, else what was before the newest migration."
        ),
    ] = None,
    instances: Annotated[
        int, typer.Option(min=1, help="Of each process that may have several; 2: old and new of each.")
    ] = 2,
    rate: Annotated[float, typer.Option(min=0.1, help="Items filed a second.")] = 4.0,
    stay: Annotated[float, typer.Option(min=0, help="Seconds of load after each step.")] = 15.0,
    lag: Annotated[
        float, typer.Option(min=0, help="Seconds that a reader may be behind while processes are exchanged.")
    ] = LAG_S,
    without: Annotated[
        list[str] | None, typer.Option(help="A service or process that takes no part; repeatable.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, to look at.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; one of that name is destroyed first.")] = "upgrade",
    json: JsonOption = False,
) -> None:
    """Run the version before and this one side by side under load, forward and back; exit 1 if anything is lost, double or late."""
    with errors.status("starting") as status:
        outcome = drill(
            old, stack, instances=instances, rate=rate, stay=stay, without=without or (), keep=keep, tell=status.update
        )
    show(outcome)
    if json:
        print_json(outcome.as_json())
    if not outcome.clean or outcome.lag_s > lag:
        raise typer.Exit(1)


def show(outcome: Outcome) -> None:
    """Print what came of it, for people."""
    from rich.markup import escape
    from rich.table import Table

    facts = outcome.as_json()
    table = Table("phase", "seconds", "items", "asked again", "longest lag", "of", "unseen")
    for one in facts["phases"]:
        table.add_row(
            one["name"],
            str(one["seconds"]),
            str(one["filed"]),
            str(one["retries"]),
            f"{one['lag_s']} s",
            one["of"],
            f"{one['unseen_s']} s",
        )
    console.print(table)
    for line in _lines(facts):
        console.print(escape(line), highlight=False)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"version before: {facts['old']}; {facts['exchanged']} processes exchanged; migrated in {facts['migrated_s']} s"
    for name, rest in facts["rests"].items():
        yield f"{name}: {rest['items']} items, lost {rest['lost']}, doubled {rest['doubled']}, problems {rest['problems']}"
        yield from (f"  {kind}" for kind in rest["kinds"])
    yield f"outside record: lost {facts['lost']}, doubled {facts['doubled']}, problems {facts['problems']}"
    yield f"longest lag while processes were exchanged: {facts['lag_s']} s"
    yield from (f"  {example}" for example in facts["examples"])


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(upgrade_drill)
