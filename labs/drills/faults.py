"""The drills: faults, how each is injected and mended, and the table of all."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Final

import psycopg2

from deploy.local import clocks
from labs.drills.drill import GRACE_S, HOUR, Drill, DrillBed
from labs.exposition import total
from labs.faults.broker_faults import delete_unread, lose_events

UNREAD: Final = 12
"""Number of records that wait for a worker that is away before they are deleted."""
SETTLE_S: Final = 15.0
"""Seconds for work in progress to finish before business time is set ahead."""
POISONED: Final = "poisoned"


def _kill(name: str) -> Callable[[DrillBed], None]:
    def inject(bed: DrillBed) -> None:
        bed.fleet[name].kill9()

    return inject


def _start(name: str) -> Callable[[DrillBed], None]:
    def mend(bed: DrillBed) -> None:
        bed.fleet[name].start().wait_ready()

    return mend


def _reject_changes(bed: DrillBed, table: str, when: str, count: int) -> None:
    """Make the database reject changes to some listings that are claimed next, like a bug that few records trigger."""
    schema = table.partition(".")[0]
    filed = bed.load.submitter.filed
    chosen = itertools.islice(bed.run.plan.listings(), filed + 8, filed + 8 + count)
    names = ", ".join(f"'{name}'" for name in chosen)
    bed.sql(
        f"""create function {schema}.{POISONED}() returns trigger language plpgsql as $$ begin
            raise exception 'poison'; end $$""",
        f"""create trigger {POISONED} before {when} on {table} for each row
            when (new.listing in ({names})) execute function {schema}.{POISONED}()""",
    )
    bed.wait(lambda: total(bed.fleet, "goodfaith_dead_letters_depth") > 0, "nothing is set aside as a dead letter")


def _poison(bed: DrillBed) -> None:
    """Verification sets some items aside, and four hours pass."""
    _reject_changes(bed, "verification.items", "insert or update", 40)
    bed.sql(
        "update verification.dead_letters set set_aside_wall = set_aside_wall - interval '4 hours' where state <> 'done'"
    )
    for process in bed.fleet:
        if process.name.startswith("verification."):
            process.restart().wait_ready()  # workers read at their start since when a record is set aside


def _cure(bed: DrillBed) -> None:
    """Deploy the version without the bug."""
    bed.sql(f"drop function verification.{POISONED}() cascade")


def _late(bed: DrillBed) -> None:
    """The marketplace cannot carry out commands on some listings, and 19 of the 24 hours pass."""
    _reject_changes(bed, "marketplace.listings", "update", 12)
    bed.load.submitter.rate = 0
    # let work in progress finish, so that it does not become late
    bed.wait(lambda: not bed.load.submitter.outstanding, "requests stay unanswered")
    time.sleep(SETTLE_S)
    bed.run.advance(19 * HOUR)
    bed.load.resume()


def _deliver(bed: DrillBed) -> None:
    """The marketplace's own engineers have mended it."""
    bed.sql(f"drop function marketplace.{POISONED}() cascade")
    bed.engineer.run("goodfaith dlq replay --all")


def _hold(bed: DrillBed) -> None:
    """A forgotten transaction locks one partition of verification."""
    session = psycopg2.connect(bed.stack.admin_url, application_name="psql")
    session.cursor().execute("select from verification.partitions where partition = 0 for update")
    bed.sessions.append(session)


def _release(bed: DrillBed) -> None:
    """End the session, as the runbook says, after asking its owner."""
    bed.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'psql'")
    while bed.sessions:
        with contextlib.suppress(psycopg2.Error):
            bed.sessions.pop().close()


def _hang(bed: DrillBed) -> None:
    """The stream views' worker hangs within a step: it folds nothing, but its metrics port answers."""
    process = bed.fleet["streams.0"]
    process.env["GOODFAITH_CRASH_AT"] = "streams:folded:100:hang"
    process.restart().wait_ready()
    del process.env["GOODFAITH_CRASH_AT"]


def _wrong_clock(bed: DrillBed) -> None:
    """The database's clock steps ahead."""
    with bed.run.engine.begin() as connection:
        clocks.set_ahead(connection, 5.0)


def _right_clock(bed: DrillBed) -> None:
    """The time service of the database's host is repaired."""
    with bed.run.engine.begin() as connection:
        clocks.set_ahead(connection, 0)


def _delete_unread(bed: DrillBed) -> None:
    """Verification is down, and its unread records are deleted."""
    workers = [process for process in bed.fleet if process.name.startswith("verification.")]
    for worker in workers:
        worker.kill9()
    delete_unread(bed.run.settings, UNREAD, GRACE_S)
    for worker in workers:
        worker.start()


def _leave_gap(bed: DrillBed) -> None:
    """Some events never reach their topic, but later ones do."""
    lose_events(bed.run.settings, bed.fleet, bed.run.engine, GRACE_S)


def _read_on(bed: DrillBed) -> bool:
    """Whether all processes that the runbook's last step starts are ready, and no partition is halted."""
    return all(process.ready() for process in bed.fleet) and not total(bed.fleet, "goodfaith_unread_gone_partitions")


DRILLS: Final = (
    # from consequence to cause: an alert that has just paged must not mute the next one
    Drill("target about to be missed", "OldestItemOld", _late, mend=_deliver),
    Drill("a dead letter that is not handled", "DeadLettersOld", _poison, mend=_cure),
    # the canary sends mail here, and notices the fault before DeliveryLate does
    Drill("mail server gone", "CanaryOld", _kill("mailbox.0")),
    Drill("marketplace gone", "ConsumerLag", _kill("marketplace.0"), mend=_start("marketplace.0")),
    Drill("one partition stuck", "PartitionStuck", _hold, mend=_release),
    Drill("a stream worker hangs but exports metrics", "StreamsBehind", _hang),
    Drill("enforcement stopped", "ProcessDown", _kill("enforcement-worker.0")),
    Drill("the database's clock is wrong", "ClocksDisagree", _wrong_clock, mend=_right_clock),
    Drill("broker gone", "BrokerDown", lambda bed: bed.stack.kill_kafka()),
    Drill("database gone", "DatabaseDown", lambda bed: bed.stack.kill_postgres()),
    # last: `goodfaith up` then starts one of each process, however many there were
    Drill("unread records deleted", "UnreadGone", _delete_unread, over=_read_on),
    Drill("a gap in a topic", "UnreadGone", _leave_gap, over=_read_on),
)
