"""`goodfaith lab upgrade-drill`: run two versions side by side on one broker and one database, under load.

The previous version is extracted from the repository, creates its own tables, and runs. Real notices flow in, as in
`drills`. Then this version's migrations run while the previous one works. Processes are exchanged one by one: first
half of each kind, so that old and new share partitions, topics and tables, then the others; and back again, on the new
tables. Twice the system becomes idle and `verify` runs; what was acknowledged is compared with the outside record. The
lag of readers is watched from outside.

Both versions run on the installed packages. To drill a release that needs others, see docs/how-to/upgrade.md.
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
from deploy.local.up import begin, confirm_replacing, destroy, root, settle
from labs.drills.command import ENVIRONMENT
from labs.drills.load import NoticeLoad, NoticePlan
from labs.drills.runbooks import REPOSITORY
from labs.exposition import parsed
from labs.faults.load_run import LoadRun
from labs.notices import SAMPLE, read
from services.ops.terminal import JsonOption, YesOption, console, print_json, progress, table
from services.ops.verify.verify import verify_stack
from shared import kafka_links
from shared.failures import CommandError

LAG_S: Final = 10.0
"""Seconds that a reader may lag behind while processes are exchanged."""
ORDER: Final = ("streams", "notification", "enforcement", "verification", "intake")
"""Services in the order in which they are exchanged: readers before writers. Processes of no service come last."""
SPARED: Final = frozenset({"mailbox", "marketplace", "status", "canary"})
"""Processes that stand for other systems, or take no part."""
NOTICES: Final = 60
ITEMS: Final = 20_000
"""More than can be filed during the drill."""
LOOK_S: Final = 0.5
READY_S: Final = 480.0
REST_S: Final = 300.0
DAYS: Final = (8, 8, 12)
"""Steps of business time, in days, each time the system is idle: windows lapse, sanctions end."""
_COMMANDS: Final = (
    "import json; from deploy.local.fleet import FLEET; print(json.dumps({s.name: s.command for s in FLEET}))"
)


# ------------------------------------------------------------------------------------------------- the previous version


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, check=True)
    except FileNotFoundError:
        raise StackError("git is needed to extract the previous version") from None
    except subprocess.CalledProcessError as error:
        raise StackError(f"git {arguments[0]}: {error.stderr.decode().strip() or 'failed'}") from None
    return done.stdout


def commit_of(revision: str) -> str:
    """The commit that a tag, branch or commit id names.

    Raises:
        CommandError: it is not in this repository.
    """
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}").decode().strip()
    except StackError:
        raise CommandError(
            f"{revision!r} is not in this repository; a shallow clone lacks history: git fetch --unshallow --tags"
        ) from None


def version_before() -> str:
    """The commit of the newest release before this version: the newest tag `v*` of its history, `v0.2.0` or later.

    Raises:
        StackError: no such release is tagged here.
    """
    for tag in _git("tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname").decode().split():
        if commit_of(tag) != commit_of("HEAD"):
            return commit_of(tag)
    raise StackError(
        "no release before this version is tagged here (v0.2.0 is the first): nothing to upgrade from. In a clone without tags"
        " run `git fetch --tags --unshallow`; to start from any other commit, name it by --old"
    )


def lay_out(commit: str, folder: Path) -> Version:
    """Extract a commit's files, and ask it how it starts its processes.

    Raises:
        StackError: the commit is not in this repository, or cannot run on the installed packages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS], cwd=folder, env=_environment(folder), capture_output=True, check=False
    )
    if done.returncode:
        raise StackError(f"{commit} does not run on the installed packages: {done.stderr.decode()[-500:]}")
    return Version(folder, json.loads(done.stdout))


def policies_of(version: Version) -> dict[str, str]:
    """The newest policy of each profile that the version has: claims stay under these while it may come back."""
    names = sorted(file.stem for file in (version.code / "shared" / "policies").glob("*-[0-9]*-[0-9]*.toml"))
    return {name.rsplit("-", 2)[0]: name for name in names}


def _environment(code: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code), **more}


def migrate_as(version: Version, stack: Stack) -> None:
    """Run the version's own `goodfaith migrate`, which creates its roles, tables and topics.

    Raises:
        StackError: it failed; the message has the end of its output.
    """
    # the administrator's URL goes by the environment, because other users can see command lines
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
        raise StackError(f"the previous version cannot migrate: {done.stderr.decode()[-1000:]}")


# ------------------------------------------------------------------------------------------------------------ the lag


@dataclass(slots=True)
class Phase:
    """A phase of the drill.

    Attributes:
        exchanges: Whether processes are exchanged in it.
        lag_s: The longest lag of any reader, in seconds; `of`: of which reader.
        unseen_s: The longest time without a measurement, because the process that measures is exchanged too.
        retries: Requests that were sent again: on a local stack, intake is one process.
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
    """The longest lag in an exposition of `watch`, and the reader that has it.

    Args:
        text: The exposition.
        without: Topics to leave out.
    """
    lags = [
        (sample.value, f"{sample.labels['group']} {sample.labels['topic']}/{sample.labels['partition']}")
        for sample in parsed(text)
        if sample.name == "goodfaith_consumer_lag_seconds" and sample.labels["topic"] not in without
    ]
    return max(lags, default=(0.0, ""))


class LagSampler:
    """Reads the lags from `watch` all the time, and keeps the longest of the current phase."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._enough = threading.Event()
        self.phase: Phase | None = None
        self.without: frozenset[str] = frozenset()
        """Topics that the previous version does not read, so that it has no lag on them."""
        self._thread = threading.Thread(target=self._run, name="lags")
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
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
    """Names of processes (`intake-worker.0`) in the order of exchange: all first instances come first."""

    def rank(name: str) -> tuple[int, int, str]:
        kind, _, number = name.rpartition(".")
        service = fleet.BY_NAME[kind].service
        return int(number), ORDER.index(service) if service in ORDER else len(ORDER), kind

    return sorted(names, key=rank)


def halves(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first half of each kind, in order, and the others. A single instance belongs to the first half."""
    kinds = {name: sum(one.rpartition(".")[0] == name.rpartition(".")[0] for one in names) for name in names}
    ordered = in_order(names)
    first = [name for name in ordered if int(name.rpartition(".")[2]) < (kinds[name] + 1) // 2]
    return first, [name for name in ordered if name not in first]


@dataclass(slots=True)
class UpgradeOutcome:
    """The result: phases, what `verify` counted each time the system was idle, and the outside record."""

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
        """Whether nothing is lost, doubled or inconsistent."""
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


class UpgradeDrill:
    """One upgrade drill on a new stack."""

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
        self.outcome = UpgradeOutcome(commit)

    def run(self) -> UpgradeOutcome:
        """Run the whole drill."""
        begun = time.monotonic()
        self._tell("the previous version: tables, topics, processes")
        migrate_as(self._old, self._stack)
        begin(self._stack, dt.datetime(2025, 1, 27, 9, tzinfo=dt.UTC))
        self._fleet = Fleet.start(self._stack, self._counts, version=self._old)
        self._fleet.wait_ready(READY_S)
        self._ours = [one.name for one in self._fleet if one.name.rpartition(".")[0] not in SPARED]
        self._check_code(self._ours, self._old)
        plan = NoticePlan(list(read(SAMPLE, NOTICES)), "u", items=ITEMS)
        self._run = LoadRun(self._stack, self._fleet, plan)
        self._tell("accounts and listings")
        self._run.prepare()
        self._lags = LagSampler(self._fleet["watch.0"].metrics_port)
        self._load = NoticeLoad(self._run, self._rate)
        try:
            self._drill()
        finally:
            self._lags.close()
            self._load.close()
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _drill(self) -> None:
        first, second = halves(self._ours)
        self._load.resume()
        self._phase("old only", lambda: None)
        self._phase("migrations under old", self._migrate)
        added = Fleet.start(self._stack, self._counts)  # kinds of process that the previous version does not have
        new = [one.name for one in added if one.name not in self._fleet.processes]
        added.wait_ready(READY_S)
        self._fleet.processes.update(added.processes)
        self._phase("forward, half", lambda: self._exchange(first, None), exchanges=True)
        self._phase("forward, mixed", lambda: None)
        self._phase("forward, the rest", lambda: self._exchange(second, None), exchanges=True)
        self._check_code(self._ours, None)
        self._rest("new")
        self._load.resume()
        for name in new:
            self._fleet.processes.pop(name).terminate()
        self._phase("back, half", lambda: self._exchange(first, self._old), exchanges=True)
        self._phase("back, mixed", lambda: None)
        self._phase("back, the rest", lambda: self._exchange(second, self._old), exchanges=True)
        self._check_code(self._ours, self._old)
        self._rest("old again")
        self.outcome.problems += self._load.submitter.record.contradictions
        self.outcome.lost, self.outcome.doubled = self._run.compare(self._load.submitter.record)

    def _phase(self, name: str, work: Callable[[], None], *, exchanges: bool = False) -> None:
        """Do something under load, and wait a while."""
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
        """Exchange processes one by one, each when the one before is ready."""
        for name in names:
            process: Process = self._fleet[name]
            process.of(version).restart().wait_ready(READY_S)
            self.outcome.exchanged += 1

    def _check_code(self, names: Sequence[str], version: Version | None) -> None:
        """Check that the processes run the code of this version."""
        code = version.code if version is not None else Path.cwd()
        for name in names:
            pid = self._fleet[name].pid
            if pid is None or Path(psutil.Process(pid).cwd()) != code:
                self.outcome.problems.append(f"{name} does not run the code in {code.name}")

    def _rest(self, name: str) -> None:
        """Wait until nothing is in progress, let days pass, and run `verify`."""
        self._tell(f"{name}: waiting until idle, verifying")
        try:
            self._load.pause(REST_S)
            for days in DAYS:
                self._run.advance(dt.timedelta(days=days))
                self._run.settle(REST_S)
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
) -> UpgradeOutcome:
    """Run the drill on a new stack.

    Args:
        old: Tag or commit of the previous version; None: see ``version_before``.
        name: Name of the stack; an existing one is destroyed first.
        instances: Instances of each process that may have several.
        rate: Items filed a second.
        stay: Seconds of load after each phase's work.
        without: Services or processes that take no part.
        keep: Leave the stack running.
        tell: Called with what is being done.

    Raises:
        StackError: the previous version cannot be extracted, or does not start.
        CommandError: a name in `without` is unknown.
    """
    if unknown := sorted(set(without) - set(fleet.SERVICES) - set(fleet.BY_NAME)):
        raise CommandError(f"neither a service nor a process: {', '.join(unknown)}")
    commit = version_before() if old is None else commit_of(old)
    destroy(name)
    try:
        stack = Stack.start(root(), name)
        tell("extracting the previous version")
        version = lay_out(commit, stack.dir / "versions" / commit[:12])
        settle(stack, {**ENVIRONMENT, "GOODFAITH_PINNED_POLICIES": json.dumps(policies_of(version))})
        return UpgradeDrill(
            stack, version, commit, instances=instances, rate=rate, stay=stay, without=without, tell=tell
        ).run()
    finally:
        if not keep:
            destroy(name)


def upgrade_drill(
    old: Annotated[
        str | None,
        typer.Option(
            help="Version to start from: tag or commit. Default: the newest release before this version; v0.2.0 is the first."
        ),
    ] = None,
    instances: Annotated[
        int, typer.Option(min=1, help="Instances of each process that may have several; 2: an old and a new one.")
    ] = 2,
    rate: Annotated[float, typer.Option(min=0.1, help="Items filed a second.")] = 4.0,
    stay: Annotated[float, typer.Option(min=0, help="Seconds of load after each phase's work.")] = 15.0,
    lag: Annotated[
        float, typer.Option(min=0, help="Seconds that a reader may lag behind while processes are exchanged.")
    ] = LAG_S,
    without: Annotated[
        list[str] | None, typer.Option(help="Service or process that takes no part; repeatable.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    stack: Annotated[str, typer.Option(help="Name of the stack; an existing one is destroyed first.")] = "upgrade",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Run the previous version and this one side by side, forward and back; exit 1 if anything is lost or late."""
    confirm_replacing(stack, own=("upgrade",), yes=yes)
    with progress("starting") as tell:
        outcome = drill(
            old, stack, instances=instances, rate=rate, stay=stay, without=without or (), keep=keep, tell=tell
        )
    show(outcome)
    if json:
        print_json(outcome.as_json())
    if not outcome.clean or outcome.lag_s > lag:
        raise typer.Exit(1)


def show(outcome: UpgradeOutcome) -> None:
    """Print the result as a table."""
    from rich.markup import escape

    facts = outcome.as_json()
    shown = table("phase", "seconds", "items", "retries", "longest lag", "of", "unseen")
    for one in facts["phases"]:
        shown.add_row(
            one["name"],
            str(one["seconds"]),
            str(one["filed"]),
            str(one["retries"]),
            f"{one['lag_s']} s",
            one["of"],
            f"{one['unseen_s']} s",
        )
    console.print(shown)
    for line in _lines(facts):
        console.print(escape(line), highlight=False)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"previous version: {facts['old']}; {facts['exchanged']} processes exchanged; migrated in {facts['migrated_s']} s"
    for name, rest in facts["rests"].items():
        yield f"{name}: {rest['items']} items, lost {rest['lost']}, doubled {rest['doubled']}, problems {rest['problems']}"
        yield from (f"  {kind}" for kind in rest["kinds"])
    yield f"outside record: lost {facts['lost']}, doubled {facts['doubled']}, problems {facts['problems']}"
    yield f"longest lag while processes were exchanged: {facts['lag_s']} s"
    yield from (f"  {example}" for example in facts["examples"])


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(upgrade_drill)
