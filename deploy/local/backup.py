"""Backup of a local stack's database: a base backup, its log (WAL) as it is written, and a restore from both.

With ``synchronous`` a commit is acknowledged only once its log has been received, so losing the server's disk loses
nothing that was acknowledged. It costs each commit that flush, and commits wait while nothing receives.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import psycopg2

from deploy.local.children import StackError, end, spawn, tail
from deploy.local.postgres import Postgres

SLOT: Final = "archive"
RECEIVER: Final = "goodfaith_archive"
_RECOVERY: Final = """\
# no connections before recovery ends: writes would only be refused
hot_standby = off
restore_command = 'cp "{wal}/%f" "%p"'
recovery_target_action = 'promote'
synchronous_standby_names = ''
"""


class Backup:
    """One backup in ``folder``: ``base`` and ``wal``. The server must run to begin it, and be stopped to restore it."""

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
        self._server.give(self.base.parent, self.wal)
        receive = ["-D", str(self.wal), "-S", SLOT, "--synchronous", "-d", f"application_name={RECEIVER}"]
        self._server.run("pg_receivewal", "-S", SLOT, "--create-slot", "--if-not-exists", timeout_s=timeout_s)
        self._pid = spawn(
            self._server.command("pg_receivewal", *receive), self._log, env=self._server.client_environment()
        )
        until = time.monotonic() + timeout_s
        while not self._receiving():
            if time.monotonic() > until:
                raise StackError(f"the database's log is not received{tail(self._log)}")
            time.sleep(0.1)
        self._server.run("pg_basebackup", "-D", str(self.base), "-X", "none", "--checkpoint=fast", timeout_s=timeout_s)
        if synchronous:
            self._server.set("synchronous_standby_names", RECEIVER)

    def end(self) -> None:
        """Stop receiving; the server goes on without a backup."""
        with contextlib.suppress(psycopg2.Error):
            self._server.set("synchronous_standby_names", "")
        end(self._pid, str(self.wal))
        with contextlib.suppress(psycopg2.Error):
            self._server.ask("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active")

    def restore(self, *, upto: str | None = None) -> None:
        """Replace the server's data folder by the backup, with all of the log or up to a position in it.

        Args:
            upto: a position as returned by ``pg_current_wal_lsn()``; None: all that was received.

        Raises:
            StackError: the server runs, or the copy failed.
        """
        if self._server.running:
            raise StackError("the database runs: it is not overwritten")
        end(self._pid, str(self.wal))
        for part in self.wal.glob("*.partial"):
            # the segment that was being written: recovery stops at the zeros that follow its last record
            part.rename(part.with_suffix(""))
        folder = self._server.folder
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(["cp", "-a", str(self.base), str(folder)], capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"the base backup cannot be copied: {done.stderr[-500:]}")
        text = _RECOVERY.format(wal=self.wal) + (f"recovery_target_lsn = '{upto}'\n" if upto else "")
        (folder / "postgresql.auto.conf").write_text(text)
        (folder / "recovery.signal").touch()
        self._server.give(folder / "postgresql.auto.conf", folder / "recovery.signal")

    def _receiving(self) -> bool:
        rows = self._server.ask(f"select state from pg_stat_replication where application_name = '{RECEIVER}'")
        return rows == [("streaming",)]
