"""Faults of a database and of the one that follows it: what each breaks, and how it heals (``breakage``)."""

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
"""Bytes that are left on a small disk before it is filled; a log that begins anew after a crash takes a good part of it."""
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


def follow(ground: FaultBed, primary: DatabaseName, follower: DatabaseName) -> None:
    """Make a server follow another, and have commits wait for it."""
    of, new = ground.stack.database(primary), ground.stack.database(follower)
    replica.copy(new, of, follower)
    ground.stack.start_postgres(follower)
    replica.synchronous(of, follower)
    replica.wait_following(of, follower, synchronous=True)


def _failover(ground: FaultBed) -> None:
    """There, and back again: each server has been the one that is lost, and the one that takes over."""
    for primary, follower in (NAMES, NAMES[::-1]):
        ground.clock()
        ground.stack.kill_postgres(primary)
        replica.promote(ground.stack.database(follower))
        ground.flows()
        follow(ground, follower, primary)


def _late(ground: FaultBed) -> None:
    """Commits wait for nobody, and the follower is some seconds behind when it is promoted. All processes run on meanwhile."""
    from services.ops.restore.restore import begin_anew

    primary, follower = NAMES
    server = ground.stack.database(primary)
    replica.synchronous(server)
    late = ground.stack.database(follower)
    ground.keep()
    written = server.ask("select pg_current_wal_lsn()")[0][0]
    ground.wait(
        "the follower has what was acknowledged until now",
        lambda: bool(late.ask(f"select 1 where pg_last_wal_replay_lsn() >= '{written}'")),
    )
    # a receiver that was only frozen would still find some megabytes in its socket
    late.set("primary_conninfo", "")
    ground.wait("the follower gets no more", lambda: not late.ask("select 1 from pg_stat_wal_receiver"))
    cut = len(ground.record.answers)
    time.sleep(BEHIND_S)
    ground.clock()
    ground.stack.kill_postgres(primary)
    after = len(ground.record.answers)
    replica.promote(late)
    workers = len(ground.sql(_OWNERS))
    took = ground.wait(
        "every worker stops, since the database went back",
        lambda: total(ground.fleet, "goodfaith_database_went_back") >= workers,
    )
    before = ground.sql(_HEADS)
    time.sleep(BEHIND_S)
    if ground.sql(_HEADS) != before:
        raise StackError("a worker went on writing to a database that had gone back")
    ground.notes.append(f"{workers} workers stopped within {took:.1f} s of the promotion and wrote nothing more")
    engine = db.administer(ground.stack.admin_url, pooled=False)
    try:
        with ground.everybody_stopped():
            kept = ground.stack.dir / f"lost-{ground.run.plan.ns}.jsonl"
            made = begin_anew(ground.settings, engine, kept)
    finally:
        engine.dispose()
    facts = made.as_json()
    ground.notes.append(
        f"{after - cut} requests acknowledged in those {BEHIND_S:.0f} s; the topics had {facts['ghosts']} events more than"
        f" the logs, of {facts['lost_claims']} claims: kept in a file, the marketplace told anew;"
        f" applied though lost: {len(facts['applied_ghosts'])}"
    )
    ground.flows(whole=False)
    follow(ground, follower, primary)
    # back, in an orderly way: the first one leads again
    ground.stack.kill_postgres(follower)
    replica.promote(ground.stack.database(primary))
    follow(ground, primary, follower)


def _crowded(ground: FaultBed) -> None:
    """Somebody else has all connections: services that lose theirs get none."""
    url = ground.stack.role_url("watch")
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
                ground.stack.database().ask(ours)
            take()
            answers.add(_ask(ground))
            time.sleep(0.3)
        ground.notes.append(f"{len(held)} connections held; intake answered {', '.join(map(str, sorted(answers)))}")
        if 503 not in answers:
            raise StackError(f"intake never answered 503, but {sorted(answers)}")
        ground.clock()
    finally:
        for connection in held:
            connection.close()
    ground.flows()


def _locked(ground: FaultBed) -> None:
    """A transaction that somebody forgot holds what intake writes, and every partition of a worker: they give up and try again."""
    with ground.run.engine.connect() as connection, connection.begin() as holding:
        connection.exec_driver_sql("select from verification.partitions for update")
        connection.exec_driver_sql("lock table intake.admission_queue in share row exclusive mode")
        begun, before = time.monotonic(), len(ground.record.items)
        time.sleep(LASTS_S)
        taken = len(ground.record.items) - before
        ground.notes.append(f"intake took {taken} items in {time.monotonic() - begun:.0f} s")
        ground.clock()
        holding.rollback()
    ground.flows()


def _trust(ground: FaultBed) -> ssl.SSLContext | bool:
    return trust(ground.settings.intake_url, ground.settings.internal_ca)


def _ask(ground: FaultBed) -> int:
    """What intake answers to a question that needs the database; 0: nothing."""
    holder = ground.run.plan.holders[0]
    headers = {"authorization": f"Bearer {ground.run.tokens[holder]}"}
    with contextlib.suppress(httpx.HTTPError):
        url = f"{ground.settings.intake_url}/v1/claims?limit=1"
        return httpx.get(url, headers=headers, timeout=20, trust_env=False, verify=_trust(ground)).status_code
    return 0


def _full(ground: FaultBed) -> None:
    """The disk of the database is full: it refuses, or ends; what it has said is there stays."""
    server = ground.stack.database()
    replica.synchronous(server)  # the follower would have room, and is no part of this
    ground.stack.kill_postgres()
    with disks.limited(server.folder, ROOM):
        ground.stack.start_postgres()
        ground.clock()
        ground.flows()
        ballast = disks.fill(server.folder)
        begun = time.monotonic()
        seen: set[str] = set()
        while time.monotonic() - begun < LASTS_S:
            seen.add("it ended" if not ground.stack.database().running else f"intake answered {_post(ground)}")
            time.sleep(0.5)
        ground.notes.append(", ".join(sorted(seen)))
        ground.clock()
        ballast.unlink()
        ground.stack.start_postgres()
        ground.flows()
        ground.stack.kill_postgres()
    ground.stack.start_postgres()
    replica.synchronous(server, "standby")
    replica.wait_following(server, "standby", synchronous=True)
    ground.clock()
    ground.flows()


def _post(ground: FaultBed) -> int:
    """What intake answers to a request that is refused once the database has looked at it; 0: nothing."""
    holder = ground.run.plan.holders[0]
    headers = {
        "authorization": f"Bearer {ground.run.tokens[holder]}",
        "idempotency-key": f"probe-{time.monotonic_ns()}",
    }
    with contextlib.suppress(httpx.HTTPError):
        url = f"{ground.settings.intake_url}/v1/items/i-none/withdraw"
        return httpx.post(
            url, json={"ground": "error"}, headers=headers, timeout=20, trust_env=False, verify=_trust(ground)
        ).status_code
    return 0


def _frozen(ground: FaultBed) -> None:
    """A worker is frozen amid a transaction, with locks in its hands: the database takes them from it."""
    worker = ground.fleet["verification.0"]
    _freeze_in_transaction(ground, worker.pid, f"verification-{worker.name}")
    ground.clock()
    try:
        ground.flows()
    finally:
        worker.signal(signal.SIGCONT)
    ground.clock()
    ground.flows()
    ground.fleet.wait_ready(60)


def _freeze_in_transaction(ground: FaultBed, pid: int | None, name: str) -> None:
    """Freeze a process when one of its sessions is idle in a transaction, and stays so.

    Raises:
        StackError: it was never met in one.
    """
    assert pid is not None
    process = psutil.Process(pid)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        process.suspend()
        time.sleep(0.05)  # what the server had in hand is done
        rows = ground.sql("select state from pg_stat_activity where application_name = %s", name)
        if ("idle in transaction",) in rows:
            return
        process.resume()
        time.sleep(0.03)
    raise StackError(f"{name} was never idle in a transaction")


FAULTS: Final[Sequence[Fault]] = (
    Fault(
        "failover",
        "the database is killed; its synchronous follower takes over, and the other way round",
        "promotion",
        _failover,
        "database",
    ),
    Fault("connections", "others take all connections of the database", "they let go", _crowded, "database"),
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
        "room is made, it is started",
        _full,
        "database",
        disks.missing,
    ),
    Fault(
        "frozen",
        "a worker is frozen amid a transaction",
        "the database ends its session, another takes over; then it wakes",
        _frozen,
        "database",
    ),
    Fault(
        "late follower",
        "the database is killed, its follower is 4 s behind and waits for nobody",
        "promotion, `goodfaith restore topics`",
        _late,
        "database",
        loses="what was acknowledged in those seconds: replication was asynchronous",
    ),
)
