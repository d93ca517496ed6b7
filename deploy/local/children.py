"""Child processes that outlive their parent and are found again by the next one.

A pid is trusted only while one of the process's arguments is our marker, which names the stack's state folder. So a pid
that the system has reused is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import psutil

from shared.failures import Unavailable

# Below the range from which systems take ports for outgoing connections: the port of a killed server stays free until
# it is started again.
PORTS = range(20000, 32000)

_reserved: list[int] = []
# Kept so that our own dead children can be reaped; a child of an earlier invocation belongs to init.
_spawned: dict[int, subprocess.Popen[bytes]] = {}


class StackError(Unavailable):
    """A part of the local stack could not be started, found or stopped; the message says which and why."""


def free_port(taken: Container[int] = ()) -> int:
    """A free loopback TCP port that is not in `taken`.

    On Linux it stays reserved while this process lives, so nobody else gets it before its server listens.

    Raises:
        StackError: no port is free.
    """
    for port in random.sample(PORTS, 200):
        if port not in taken and _reserve(port):
            return port
    raise StackError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def _reserve(port: int) -> bool:
    """Reserve a port if it is free, by a socket that is bound but does not listen: a server can still bind it."""
    if sys.platform != "linux":  # elsewhere the server could not bind the port
        return is_free(port)
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return False
    # set only after binding: it would let two reservations bind the same port
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _reserved.append(probe.detach())
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # as servers do: a dead server's connections in TIME_WAIT do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Start a process in a session of its own, output appended to `log`; returns its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd, start_new_session=True
        )
    _spawned[child.pid] = child
    return child.pid


def alive(pid: int | None, marker: str) -> bool:
    """Whether `pid` runs and is ours: one of its arguments is `marker`."""
    if not pid:
        return False
    if (child := _spawned.get(pid)) is not None:
        if child.poll() is None:
            return True  # nobody else can have its pid; its command line is empty for a moment while it calls exec
        del _spawned[pid]
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and marker in process.cmdline()
    except psutil.Error:
        return False


def find(marker: str) -> list[int]:
    """Pids of all running processes that have `marker` as an argument."""
    return [
        p.pid for p in psutil.process_iter(["cmdline"]) if marker in (p.info["cmdline"] or ()) and alive(p.pid, marker)
    ]


def send(pid: int | None, marker: str, number: signal.Signals) -> bool:
    """Signal our process without waiting for the effect. False if it was not running."""
    if pid is None or not alive(pid, marker):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


def end(pid: int | None, marker: str, *, signal_: signal.Signals = signal.SIGTERM, wait_s: float = 20.0) -> bool:
    """Signal our process and wait until it is gone; after `wait_s` it gets SIGKILL. False if it was not running.

    Raises:
        StackError: it is still there 10 s after SIGKILL.
    """
    if pid is None or not send(pid, marker, signal_):
        return False
    if wait_gone(pid, marker, wait_s):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not wait_gone(pid, marker, 10.0):
        raise StackError(f"process {pid} is still running 10 s after SIGKILL")
    return True


def wait_gone(pid: int, marker: str, wait_s: float) -> bool:
    """Wait at most `wait_s` seconds until our process is gone."""
    until = time.monotonic() + wait_s
    while alive(pid, marker):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def kill_all(processes: Sequence[psutil.Process], wait_s: float = 10.0) -> None:
    """SIGKILL processes, which the caller knows to be ours, and wait until none runs.

    Raises:
        StackError: one still runs after `wait_s` seconds.
    """
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until = time.monotonic() + wait_s
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # init may be slow to reap a dead one
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > until:
                    raise StackError(f"process {process.pid} is still running {wait_s:.0f} s after SIGKILL")
                time.sleep(0.01)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        text = []
    return f"\n--- {log} ---\n" + ("\n".join(text) or "(empty)")


class Child:
    """A server of a stack that runs as a process. The caller keeps `handle`, its pid; `marker` shows it is ours."""

    handle: int | None
    marker: str

    @property
    def running(self) -> bool:
        """Whether its process runs; it may not be ready yet."""
        return alive(self.handle, self.marker)

    def adopt(self) -> None:
        """Take over a process of ours whose pid was never recorded: the invocation that started it died."""
        self.handle = next(iter(find(self.marker)), None)

    def stop(self) -> None:
        """Stop it gracefully (SIGTERM, after 20 s SIGKILL)."""
        end(self.handle, self.marker)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        end(self.handle, self.marker, signal_=signal.SIGKILL)
