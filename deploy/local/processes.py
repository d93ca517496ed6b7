"""Goodfaith's own processes on a local stack. Any invocation can start, inspect and stop them, and they outlive it."""

from __future__ import annotations

import fcntl
import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deploy.local import fleet
from deploy.local.children import StackError, alive, end, find, free_port, send, spawn, tail
from deploy.local.prometheus import write_targets
from deploy.local.stack import Stack

READY_S = 180.0


class Book:
    """`processes.json`: the processes of a stack by name, shared by invocations under a file lock.

    `targets.json` next to it lists them for Prometheus. A killed process stays in both, so it is seen as down.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "processes.json"

    @contextmanager
    def open(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The entries; changes to them are saved."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = json.loads(self._path.read_bytes()) if self._path.exists() else {}
            before = json.dumps(entries)
            yield entries
            if json.dumps(entries) != before:
                fresh = self._path.with_suffix(".new")
                fresh.write_text(json.dumps(entries, indent=2))
                fresh.rename(self._path)
                ports = {name: entry["metrics_port"] for name, entry in entries.items()}
                write_targets(self._path.with_name("targets.json"), ports)


@dataclass(frozen=True)
class Version:
    """Another version of the software, whose processes to run.

    Attributes:
        code: Folder with its packages (`services`, `shared`, `deploy`).
        commands: What follows `python -m`, by kind of process; `{dir}` is the stack's folder.
    """

    code: Path
    commands: Mapping[str, Sequence[str]]


class Process:
    """One of our `python -m ...` processes, started in a session of its own.

    Attributes:
        name: Unique in its stack, such as `intake-worker.0`.
        argv: The whole command.
        env: The whole environment; it contains the secrets, which are never in `argv`.
        log_path: Where its output goes.
        metrics_port: Port of its `/live`, `/ready` and `/metrics`.
        code: Folder of the other version that it runs; None: this version.
    """

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log_path: Path, pid: int | None = None
    ) -> None:
        self.name = name
        # Python ignores unknown `-X` options: ours shows which stack the process belongs to.
        self.marker = f"goodfaith={log_path.parent.parent}/{name}"
        self.argv = self._ours = [sys.executable, "-X", self.marker, *argv]
        self.env = dict(env)
        self.code: Path | None = None
        self.log_path = log_path
        self.metrics_port = int(env["GOODFAITH_METRICS_PORT"])
        self._book = Book(log_path.parent.parent)
        self.pid = pid

    def alive(self) -> bool:
        """Whether it runs."""
        return alive(self.pid, self.marker)

    def of(self, version: Version | None) -> Self:
        """Run another version from the next start on; None: this one."""
        if version is None:
            self.code, self.argv = None, self._ours
        else:
            folder = self.log_path.parent.parent
            command = version.commands[self.name.rpartition(".")[0]]
            self.code, self.argv = version.code, [*self._ours[:3], "-m", *(part.format(dir=folder) for part in command)]
        return self

    def start(self) -> Self:
        """Start it unless it runs, with the same ports and environment as before."""
        with self._book.open() as entries:
            self.pid = entries.get(self.name, {}).get("pid", self.pid)
            if not self.alive():
                # `-m` searches the working directory first, but the process's own children search PYTHONPATH
                env = self.env if self.code is None else {**self.env, "PYTHONPATH": str(self.code)}
                self.pid = next(iter(find(self.marker)), None) or spawn(self.argv, self.log_path, env, self.code)
            ports = {key: self.env[f"GOODFAITH_{key.upper()}"] for key in ("metrics_port", "http_port")}
            entries[self.name] = {"pid": self.pid, **{key: int(port) for key, port in ports.items()}}
        return self

    def ready(self) -> bool:
        """Whether `/ready` answers 200 now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_ready(self, timeout_s: float = READY_S) -> Self:
        """Wait until it is ready.

        Raises:
            StackError: it ended, or is not ready after `timeout_s` seconds; with the end of its log.
        """
        until = time.monotonic() + timeout_s
        while not self.ready():
            if not self.alive():
                raise StackError(f"{self.name} ended while starting{tail(self.log_path, 30)}")
            if time.monotonic() > until:
                raise StackError(f"{self.name} is not ready after {timeout_s:.0f} s{tail(self.log_path, 30)}")
            time.sleep(0.05)
        return self

    def terminate(self, wait_s: float = 20.0) -> None:
        """SIGTERM, and wait until it has finished its work in hand; after `wait_s` seconds SIGKILL."""
        end(self.pid, self.marker, wait_s=wait_s)
        self._forget()

    def restart(self, wait_s: float = 20.0) -> Self:
        """Stop and start it, even if it hangs or is frozen (SIGSTOP); its entry stays meanwhile."""
        if send(self.pid, self.marker, signal.SIGTERM):
            # a frozen process handles SIGTERM only once it continues
            end(self.pid, self.marker, signal_=signal.SIGCONT, wait_s=wait_s)
        return self.start()

    def kill9(self) -> None:
        """SIGKILL. Its entry stays, and `start` brings it back."""
        end(self.pid, self.marker, signal_=signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send any signal, such as SIGSTOP, without waiting for the effect."""
        send(self.pid, self.marker, number)

    def _forget(self) -> None:
        with self._book.open() as entries:
            entries.pop(self.name, None)


class Fleet:
    """The processes of one stack, by name."""

    def __init__(self, stack: Stack, processes: Mapping[str, Process]) -> None:
        self.stack = stack
        self.processes = dict(processes)

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    def __iter__(self) -> Iterator[Process]:
        return iter(self.processes.values())

    @classmethod
    def start(
        cls,
        stack: Stack,
        counts: Mapping[str, int] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        version: Version | None = None,
    ) -> Self:
        """Start what does not run yet; returns without waiting for readiness (`wait_ready`).

        Args:
            stack: A running stack whose migrations have run.
            counts: Number of instances by service (for all its processes that can have several) or by process
                (`intake-worker`), which takes precedence. Default: one of each.
            env: Settings for every process, kept for later starts on this stack.
            version: Another version to run; processes that it does not have are left out.

        Raises:
            StackError: a name that is neither a service nor a process.
        """
        kept = stack.environment(**(env or {}))
        wanted = [
            f"{spec.name}.{number}"
            for spec, count in fleet.expand(counts, kept)
            for number in range(count)
            if version is None or spec.name in version.commands
        ]
        with Book(stack.dir).open() as entries:
            known = dict(entries)
        made = cls(stack, _make(stack, wanted, known, kept))
        for process in made:
            process.of(version).start()
        return made

    @classmethod
    def load(cls, stack: Stack) -> Self:
        """The processes that were started on this stack and not terminated, running or killed."""
        with Book(stack.dir).open() as entries:
            known = dict(entries)
        return cls(stack, _make(stack, list(known), known, stack.environment()))

    @staticmethod
    def end(folder: Path) -> list[str]:
        """SIGTERM all processes of the stack whose state is `folder`, and wait; returns the names of those that ran.

        Works without the stack itself: broker and database may be gone.
        """
        with Book(folder).open() as entries:
            marked = [(name, entry["pid"], f"goodfaith={folder}/{name}") for name, entry in entries.items()]
            running = [(name, pid, marker) for name, pid, marker in marked if alive(pid, marker)]
            for _, pid, marker in running:
                send(pid, marker, signal.SIGTERM)
            for _, pid, marker in running:
                # a frozen process handles SIGTERM only once it continues
                end(pid, marker, signal_=signal.SIGCONT)
            entries.clear()
        return [name for name, _, _ in running]

    def wait_ready(self, timeout_s: float = READY_S) -> Self:
        """Wait until every process is ready.

        Raises:
            StackError: one ended, or `timeout_s` seconds have passed.
        """
        until = time.monotonic() + timeout_s
        for process in self:
            process.wait_ready(max(0.1, until - time.monotonic()))
        return self

    def stop(self) -> None:
        """SIGTERM all at once, and wait until they have finished their work in hand."""
        self.end(self.stack.dir)


def _make(
    stack: Stack, names: Sequence[str], known: Mapping[str, Mapping[str, Any]], kept: Mapping[str, str]
) -> dict[str, Process]:
    taken = {entry[key] for entry in known.values() for key in ("metrics_port", "http_port")}
    made = {}
    for name in names:
        spec = fleet.BY_NAME[name.rpartition(".")[0]]
        entry = known.get(name)
        if entry is not None:
            metrics_port, http_port = entry["metrics_port"], entry["http_port"]
        else:
            taken.add(metrics_port := free_port(taken))
            # further instances have a port of their own; there is no load balancer on a local stack
            http_port = stack.port(spec.port) if spec.port and name.endswith(".0") else free_port(taken)
            taken.add(http_port)
        env = fleet.environment(stack, spec, kept)
        env |= {"GOODFAITH_METRICS_PORT": str(metrics_port), "GOODFAITH_HTTP_PORT": str(http_port)}
        env["GOODFAITH_INSTANCE"] = name
        argv = ["-m", *(part.format(dir=stack.dir) for part in spec.command)]
        log = stack.dir / "log" / f"{name}.log"
        made[name] = Process(name, argv, env, log, entry["pid"] if entry else None)
    return made
