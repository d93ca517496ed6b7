"""A second database that follows the primary by streaming replication, and can take over.

With ``synchronous`` a commit is acknowledged only once the follower has it on disk, so losing the primary loses nothing
that was acknowledged. The price: commits wait while no follower answers (docs/decisions/0045).
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
    """Replace a server's data by a copy of a running server's, which it follows once launched.

    Args:
        name: name of the follower, for `synchronous` and for its replication slot.

    Raises:
        StackError: the follower runs, or the copy failed.
    """
    if follower.running:
        raise StackError("the follower runs: its data are not overwritten")
    shutil.rmtree(follower.folder, ignore_errors=True)
    with contextlib.suppress(psycopg2.Error):  # of an earlier follower that no longer exists
        of.ask(f"select pg_drop_replication_slot('{name}')")
    follower.give(follower.folder)
    of.run(
        "pg_basebackup",
        "-D",
        str(follower.folder),
        "-R",
        "-X",
        "stream",
        "-C",
        "-S",
        name,
        "--checkpoint=fast",
        "-d",
        f"application_name={name}",
    )
    with contextlib.suppress(FileNotFoundError):
        # once promoted, it must not wait for followers of its own until told to
        auto = follower.folder / "postgresql.auto.conf"
        kept = [line for line in auto.read_text().splitlines() if not line.startswith("synchronous_standby_names")]
        auto.write_text("\n".join([*kept, ""]))


def synchronous(primary: Postgres, *names: str) -> None:
    """Make commits wait for one of these followers; without names they wait for none."""
    primary.set("synchronous_standby_names", f"ANY 1 ({', '.join(names)})" if names else "")


def wait_following(primary: Postgres, name: str, *, synchronous: bool, timeout_s: float = 60.0) -> None:
    """Wait until a follower streams and, if `synchronous`, until commits wait for it.

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
    """Promote a follower. Fence the old primary first, or both would accept writes.

    Raises:
        StackError: it does not take over in time.
    """
    # without waiting: the statement would hold a snapshot that holds up the rest of the replay
    # (max_standby_streaming_delay), and would then be cancelled without telling why
    follower.ask("select pg_promote(false)")
    until = time.monotonic() + PROMOTED_S
    while follower.ask("select pg_is_in_recovery()") != [(False,)]:
        if time.monotonic() > until:
            raise StackError(f"the follower has not taken over within {PROMOTED_S:.0f} s{tail(follower.log)}")
        time.sleep(0.05)
