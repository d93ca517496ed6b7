"""Backup of a local stack's database: a base backup, its log (WAL) as it is written, and a server made of both.

With ``synchronous`` a commit is answered only once its log has been received: then nothing that was acknowledged is lost with
the server's disk. It costs each commit that flush, and while nobody receives, commits wait.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import psycopg2

from deploy.local import postgres
from deploy.local.children import StackError, end, spawn, tail
from deploy.local.postgres import SUPERUSER, Postgres

SLOT: Final = "archive"
RECEIVER: Final = "goodfaith_archive"
_RECOVERY: Final = """\
# nobody is served before the end: what writes would only be refused
hot_standby = off
restore_command = 'cp "{wal}/%f" "%p"'
recovery_target_action = 'promote'
synchronous_standby_names = ''
"""


class Backup:
    """One backup in ``folder``: ``base`` and ``wal``. The server must run to begin one, and not to restore it."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self._server = server
        self.base = folder.resolve() / "base"
        self.wal = folder.resolve() / "wal"
        self._log = server.log.with_name("backup.log")
        self._pid: int | None = None

    def begin(self, *, synchronous: bool = True, timeout_s: float = 120.0) -> None:
        """Receive the log from now on, and take a base backup.

        Raises:
            StackError: either failed, or took longer than ``timeout_s``.
        """
        self._give(self.base.parent, self.wal)
        receive = ["-D", str(self.wal), "-S", SLOT, "--synchronous", "-d", f"application_name={RECEIVER}"]
        self._run("pg_receivewal", "-S", SLOT, "--create-slot", "--if-not-exists", timeout_s=timeout_s)
        self._pid = spawn(self._command("pg_receivewal", *receive), self._log, env=self._environment())
        until = time.monotonic() + timeout_s
        while not self._receiving():
            if time.monotonic() > until:
                raise StackError(f"the database's log is not received{tail(self._log)}")
            time.sleep(0.1)
        self._run("pg_basebackup", "-D", str(self.base), "-X", "none", "--checkpoint=fast", timeout_s=timeout_s)
        if synchronous:
            self._set("synchronous_standby_names", RECEIVER)

    def end(self) -> None:
        """Receive no more. What runs on goes on without."""
        with contextlib.suppress(psycopg2.Error):
            self._set("synchronous_standby_names", "")
        end(self._pid, str(self.wal))
        with contextlib.suppress(psycopg2.Error):
            self._ask("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active")

    def restore(self, *, upto: str | None = None) -> None:
        """Put a data folder in the place of the server's, to be started: with all that was received, or up to a place in the log.

        Args:
            upto: as ``pg_current_wal_lsn()`` gives it.

        Raises:
            StackError: the server runs, or the copy failed.
        """
        if self._server.running:
            raise StackError("the database runs: it is not overwritten")
        end(self._pid, str(self.wal))
        for part in self.wal.glob("*.partial"):
            # the segment that was being written: what is behind its end are zeros, where recovery stops
            part.rename(part.with_suffix(""))
        folder = self._server.folder
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(["cp", "-a", str(self.base), str(folder)], capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"the base backup cannot be copied: {done.stderr[-500:]}")
        text = _RECOVERY.format(wal=self.wal) + (f"recovery_target_lsn = '{upto}'\n" if upto else "")
        (folder / "postgresql.auto.conf").write_text(text)
        (folder / "recovery.signal").touch()
        self._give(folder / "postgresql.auto.conf", folder / "recovery.signal")

    def _receiving(self) -> bool:
        rows = self._ask(f"select state from pg_stat_replication where application_name = '{RECEIVER}'")
        return rows == [("streaming",)]

    def _set(self, name: str, value: str) -> None:
        self._ask(f"alter system set {name} = '{value}'")
        self._ask("select pg_reload_conf()")

    def _ask(self, statement: str) -> list[tuple[object, ...]]:
        with contextlib.closing(psycopg2.connect(self._server.url, connect_timeout=5)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def _give(self, *paths: Path) -> None:
        user, _ = postgres.as_user(self._server.folder)
        for path in paths:
            if not path.exists():
                path.mkdir(mode=0o700, parents=True)
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)

    def _command(self, tool: str, *arguments: str) -> list[str]:
        _, prefix = postgres.as_user(self._server.folder)
        where = ["-h", "127.0.0.1", "-p", str(self._server.port), "-U", SUPERUSER, "-w"]
        return [*prefix, str(postgres.binaries() / tool), *where, *arguments]

    def _environment(self) -> dict[str, str]:
        return {**postgres.environment(), "PGPASSWORD": self._server.password}

    def _run(self, tool: str, *arguments: str, timeout_s: float) -> None:
        try:
            done = subprocess.run(
                self._command(tool, *arguments), env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=timeout_s, cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise StackError(f"{tool} took longer than {timeout_s:.0f} s") from None
        if done.returncode:
            raise StackError(f"{tool} failed: {done.stderr[-1000:]}")
