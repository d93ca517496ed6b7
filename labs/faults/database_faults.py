"""Faults of a database with a follower (``breakage``)."""

from __future__ import annotations

import contextlib
import signal
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final

import httpx
import psutil
import psycopg2

from deploy.local import disks, replica
from deploy.local.children import StackError
from deploy.local.stack import DatabaseName
from labs.exposition import total
from labs.faults.breakage import Fault, FaultBed
from shared import db
from shared.callers import trust

LASTS_S: Final = 12.0
"""Longer than a request waits for a connection, and than a worker's transaction may stand idle."""
ROOM: Final = 384 << 20
"""Free bytes on a small disk before it is filled. WAL that is started after a crash takes a good part of them."""
BEHIND_S: Final = 4.0
NAMES: Final[tuple[DatabaseName, DatabaseName]] = ("postgres", "standby")


_LOGS: Final = (
    "intake.",
    "intake.inbound_",
    "verification.",
    "enforcement.",
    "enforcement.ledger_",
    "notification.",
    "marketplace.",
)
_HEADS: Final = (
    " union all ".join(f"select '{log}', partition, seq, hash from {log}partitions" for log in _LOGS) + " order by 1, 2"
)
_OWNERS: Final = " union ".join(f"select '{log}', owner from {log}partitions" for log in _LOGS)


def follow(bed: FaultBed, primary: DatabaseName, follower: DatabaseName) -> None:
    """Make a server follow another one; commits wait for it."""
    of, new = bed.stack.database(primary), bed.stack.database(follower)
    replica.copy(new, of, follower)
    bed.stack.start_postgres(follower)
    replica.synchronous(of, follower)
    replica.wait_following(of, follower, synchronous=True)


def _failover(bed: FaultBed) -> None:
    """In both directions: each server is once the one that is lost, and once the one that takes over."""
    for primary, follower in (NAMES, NAMES[::-1]):
        bed.start_timer()
        bed.stack.kill_postgres(primary)
        replica.promote(bed.stack.database(follower))
        bed.wait_until_flowing()
        follow(bed, follower, primary)


def _late(bed: FaultBed) -> None:
    """Commits do not wait for the follower, which is seconds behind when it is promoted. All processes keep running."""
    from services.ops.restore.restore import restore_topics

    primary, follower = NAMES
    server = bed.stack.database(primary)
    replica.synchronous(server)
    late = bed.stack.database(follower)
    bed.mark_safe()
    written = server.ask("select pg_current_wal_lsn()")[0][0]
    bed.wait(
        "the follower has everything acknowledged so far",
        lambda: bool(late.ask(f"select 1 where pg_last_wal_replay_lsn() >= '{written}'")),
    )
    # a receiver that was only frozen would still have some megabytes in its socket
    late.set("primary_conninfo", "")
    bed.wait("the follower receives nothing more", lambda: not late.ask("select 1 from pg_stat_wal_receiver"))
    cut = len(bed.record.answers)
    time.sleep(BEHIND_S)
    bed.start_timer()
    bed.stack.kill_postgres(primary)
    after = len(bed.record.answers)
    replica.promote(late)
    workers = len(bed.sql(_OWNERS))
    took = bed.wait(
        "every worker stops because the database went back",
        lambda: total(bed.fleet, "goodfaith_database_went_back") >= workers,
    )
    before = bed.sql(_HEADS)
    time.sleep(BEHIND_S)
    if bed.sql(_HEADS) != before:
        raise StackError("a worker went on writing to a database that had gone back")
    bed.notes.append(f"{workers} workers stopped within {took:.1f} s of the promotion, and wrote nothing after that")
    engine = db.administer(bed.stack.admin_url, pooled=False)
    try:
        with bed.all_stopped():
            kept = bed.stack.dir / f"lost-{bed.run.plan.ns}.jsonl"
            made = restore_topics(bed.settings, engine, kept)
    finally:
        engine.dispose()
    facts = made.as_json()
    bed.notes.append(
        f"{after - cut} requests acknowledged in those {BEHIND_S:.0f} s; the topics had {facts['ghosts']} events more"
        f" than the logs, of {facts['lost_claims']} claims: they are kept in a file, and the marketplace's commands were"
        f" sent again; applied although lost: {len(facts['applied_ghosts'])}"
    )
    bed.wait_until_flowing(whole=False)
    follow(bed, follower, primary)
    # switch back gracefully: the first server is the primary again
    bed.stack.kill_postgres(follower)
    replica.promote(bed.stack.database(primary))
    follow(bed, primary, follower)


def _crowded(bed: FaultBed) -> None:
    """Other clients hold all connections: services that lose theirs get no new ones."""
    url = bed.stack.role_url("watch")
    held: list[Any] = []

    def take() -> None:
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                held.append(psycopg2.connect(url, connect_timeout=5, application_name="crowd"))

    begun = time.monotonic()
    answers: set[int] = set()
    ours = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename like 'goodfaith\\_%' and application_name <> 'crowd'"
    try:
        while time.monotonic() - begun < LASTS_S:
            take()
            with contextlib.suppress(psycopg2.Error):
                bed.stack.database().ask(ours)
            take()
            answers.add(_ask(bed))
            time.sleep(0.3)
        bed.notes.append(f"{len(held)} connections held; intake answered {', '.join(map(str, sorted(answers)))}")
        if 503 not in answers:
            raise StackError(f"intake never answered 503, but {sorted(answers)}")
        bed.start_timer()
    finally:
        for connection in held:
            connection.close()
    bed.wait_until_flowing()


def _locked(bed: FaultBed) -> None:
    """A forgotten transaction locks what intake writes, and all partitions of a worker: they give up and try again."""
    with bed.run.engine.connect() as connection, connection.begin() as holding:
        connection.exec_driver_sql("select from verification.partitions for update")
        connection.exec_driver_sql("lock table intake.admission_queue in share row exclusive mode")
        begun, before = time.monotonic(), len(bed.record.items)
        time.sleep(LASTS_S)
        taken = len(bed.record.items) - before
        bed.notes.append(f"intake accepted {taken} items in {time.monotonic() - begun:.0f} s")
        bed.start_timer()
        holding.rollback()
    bed.wait_until_flowing()


def _trust(bed: FaultBed) -> ssl.SSLContext | bool:
    return trust(bed.settings.intake_url, bed.settings.internal_ca)


def _ask(bed: FaultBed) -> int:
    """Intake's status for a request that needs the database; 0: no answer."""
    holder = bed.run.plan.holders[0]
    headers = {"authorization": f"Bearer {bed.run.tokens[holder]}"}
    with contextlib.suppress(httpx.HTTPError):
        url = f"{bed.settings.intake_url}/v1/claims?limit=1"
        return httpx.get(url, headers=headers, timeout=20, trust_env=False, verify=_trust(bed)).status_code
    return 0


def _full(bed: FaultBed) -> None:
    """The disk of the database is full: it refuses writes, or ends. What it acknowledged stays."""
    server = bed.stack.database()
    replica.synchronous(server)  # the follower has room, and is not part of this fault
    bed.stack.kill_postgres()
    with disks.limited(server.folder, ROOM):
        bed.stack.start_postgres()
        bed.start_timer()
        bed.wait_until_flowing()
        ballast = disks.fill(server.folder)
        begun = time.monotonic()
        seen: set[str] = set()
        while time.monotonic() - begun < LASTS_S:
            seen.add("the database ended" if not bed.stack.database().running else f"intake answered {_post(bed)}")
            time.sleep(0.5)
        bed.notes.append(", ".join(sorted(seen)))
        bed.start_timer()
        ballast.unlink()
        bed.stack.start_postgres()
        bed.wait_until_flowing()
        bed.stack.kill_postgres()
    bed.stack.start_postgres()
    replica.synchronous(server, "standby")
    replica.wait_following(server, "standby", synchronous=True)
    bed.start_timer()
    bed.wait_until_flowing()


def _post(bed: FaultBed) -> int:
    """Intake's status for a request that it refuses after a look at the database; 0: no answer."""
    holder = bed.run.plan.holders[0]
    headers = {
        "authorization": f"Bearer {bed.run.tokens[holder]}",
        "idempotency-key": f"probe-{time.monotonic_ns()}",
    }
    with contextlib.suppress(httpx.HTTPError):
        url = f"{bed.settings.intake_url}/v1/items/i-none/withdraw"
        return httpx.post(
            url, json={"ground": "error"}, headers=headers, timeout=20, trust_env=False, verify=_trust(bed)
        ).status_code
    return 0


def _frozen(bed: FaultBed) -> None:
    """A worker is frozen in the middle of a transaction, while it holds locks: the database ends its session."""
    worker = bed.fleet["verification.0"]
    _freeze_in_transaction(bed, worker.pid, f"verification-{worker.name}")
    bed.start_timer()
    try:
        bed.wait_until_flowing()
    finally:
        worker.signal(signal.SIGCONT)
    bed.start_timer()
    bed.wait_until_flowing()
    bed.fleet.wait_ready(60)


def _freeze_in_transaction(bed: FaultBed, pid: int | None, name: str) -> None:
    """Freeze a process at a moment when one of its sessions is idle in a transaction.

    Raises:
        StackError: there was no such moment within a minute.
    """
    assert pid is not None
    process = psutil.Process(pid)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        process.suspend()
        time.sleep(0.05)  # let the server finish the statement that it is running
        rows = bed.sql("select state from pg_stat_activity where application_name = %s", name)
        if ("idle in transaction",) in rows:
            return
        process.resume()
        time.sleep(0.03)
    raise StackError(f"{name} was never idle in a transaction")


FAULTS: Final[Sequence[Fault]] = (
    Fault(
        "failover",
        "the database is killed and its synchronous follower takes over, in both directions",
        "promotion",
        _failover,
        "database",
    ),
    Fault(
        "connections",
        "other clients hold all connections of the database",
        "they release them",
        _crowded,
        "database",
    ),
    Fault(
        "locks",
        "a forgotten transaction holds intake's table and a worker's partitions for 12 s",
        "it ends",
        _locked,
        "database",
    ),
    Fault(
        "full database",
        "the disk of the database is full",
        "space is freed, and it is started",
        _full,
        "database",
        disks.missing,
    ),
    Fault(
        "frozen",
        "a worker is frozen in the middle of a transaction",
        "the database ends its session, and another worker takes over; then it wakes",
        _frozen,
        "database",
    ),
    Fault(
        "late follower",
        "the database is killed; its asynchronous follower, 4 s behind, takes over",
        "promotion, `goodfaith restore topics`",
        _late,
        "database",
        loses="acknowledged in those seconds; replication was asynchronous",
    ),
)
