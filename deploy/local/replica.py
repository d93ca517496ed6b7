"""A second database that follows the first by streaming replication, and takes its place.

With ``synchronous`` a commit is answered only once the follower has it on disk: then nothing that was acknowledged is lost
with the first server. While no follower answers, commits wait; that is the price (docs/decisions/0045).
"""

from __future__ import annotations

import contextlib
import shutil
import time

import psycopg2

from deploy.local.children import StackError, tail
from deploy.local.postgres import Postgres

PROMOTED_S = 60.0


def copy(follower: Postgres, of: Postgres, name: str) -> None:
    """Make a server's data a copy of a running one's, which it follows once it is launched; what it had is lost.

    Args:
        name: of the follower, as `synchronous` and the slot that keeps its log know it.

    Raises:
        StackError: it runs, or the copy failed.
    """
    if follower.running:
        raise StackError("the follower runs: its data are not overwritten")
    shutil.rmtree(follower.folder, ignore_errors=True)
    with contextlib.suppress(psycopg2.Error):  # of an earlier follower, which is no more
        of.ask(f"select pg_drop_replication_slot('{name}')")
    follower.give(follower.folder)
    of.run(
        "pg_basebackup", "-D", str(follower.folder), "-R", "-X", "stream", "-C", "-S", name, "--checkpoint=fast",
        "-d", f"application_name={name}",
    )  # fmt: skip
    with contextlib.suppress(FileNotFoundError):
        # a follower waits for none of its own until it is told to
        auto = follower.folder / "postgresql.auto.conf"
        kept = [line for line in auto.read_text().splitlines() if not line.startswith("synchronous_standby_names")]
        auto.write_text("\n".join([*kept, ""]))


def synchronous(primary: Postgres, *names: str) -> None:
    """Have commits wait for one of these followers; for none when none is named."""
    primary.set("synchronous_standby_names", f"ANY 1 ({', '.join(names)})" if names else "")


def wait_following(primary: Postgres, name: str, *, synchronous: bool, timeout_s: float = 60.0) -> None:
    """Wait until a follower streams, and commits wait for it if they are to.

    Raises:
        StackError: it does not within ``timeout_s``.
    """
    until = time.monotonic() + timeout_s
    wanted = ("quorum", "sync") if synchronous else ("async", "potential", "quorum", "sync")
    while True:
        rows = primary.ask(
            f"select sync_state from pg_stat_replication where application_name = '{name}' and state = 'streaming'"
        )
        if rows and rows[0][0] in wanted:
            return
        if time.monotonic() > until:
            raise StackError(f"{name} does not follow: {rows or 'not connected'}{tail(primary.log)}")
        time.sleep(0.1)


def promote(follower: Postgres) -> None:
    """Have a follower take over; it must be certain that the first server is no more, or both would take writes.

    Raises:
        StackError: it does not take over in time.
    """
    # without waiting: the statement would hold a snapshot, for which what is still to be replayed has to wait
    # (max_standby_streaming_delay), and be cancelled then, with nobody the wiser
    follower.ask("select pg_promote(false)")
    until = time.monotonic() + PROMOTED_S
    while follower.ask("select pg_is_in_recovery()") != [(False,)]:
        if time.monotonic() > until:
            raise StackError(f"the follower has not taken over within {PROMOTED_S:.0f} s{tail(follower.log)}")
        time.sleep(0.05)
