"""`goodfaith target` after a small real run: equal to `verify`, exact in its windows."""

from __future__ import annotations

import datetime as dt
from dataclasses import astuple

import pytest
import sqlalchemy as sa

from services.ops.target import Figures, count
from services.ops.verify.verify import examine
from shared import clock
from tests.integration.small_run import SmallRun

pytestmark = pytest.mark.stack

# what there is to count, told in another way: the stored items
STORED = """select b ->> 'sla', count(*) from (select body::jsonb as b from verification.items) t
    where not coalesce((b ->> 'canary')::boolean, false) and b ->> 'sla' is not null group by 1"""


def test_it_is_what_verify_says(run: SmallRun) -> None:
    with run.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        now = clock.read(connection)[0]
        found = count(connection, now)
        totals = examine(connection, run.settings).totals
    total = found["all"]
    assert total.met + total.missed > 0
    assert total.taken_down > 0
    assert total.declined > 0
    assert total.handled_within_24h == pytest.approx(totals["handled_within_24h"], abs=1e-4)
    assert total.takedown_rate == pytest.approx(totals["takedown_rate_handled"], abs=1e-4)
    with run.engine.connect() as connection:
        stored = dict(map(tuple, connection.exec_driver_sql(STORED)))
    assert {"met": total.met, "missed": total.missed} == {"met": 0, "missed": 0} | stored


def test_windows_add_up(run: SmallRun) -> None:
    """A day's figures are those until its end less those until its beginning; so for every day of the run."""
    with run.engine.connect() as connection:
        until = clock.read(connection)[0]
        whole = found = count(connection, until)
        sums = [0, 0, 0, 0]
        days = 0
        while found["all"] != Figures():
            until -= dt.timedelta(days=1)
            before = count(connection, until)
            assert astuple(found["1d"]) == tuple(
                then - earlier for then, earlier in zip(astuple(found["all"]), astuple(before["all"]), strict=True)
            )
            sums = [sum(pair) for pair in zip(sums, astuple(found["1d"]), strict=True)]
            found = before
            days += 1
            assert days < 1000
        assert tuple(sums) == astuple(whole["all"])


def test_an_item_counts_when_its_outcome_came(run: SmallRun) -> None:
    """What is refused first and taken down later counts as the one until then, and as the other from then on."""
    # the run's engine commits each statement; what is made up here must go again
    engine = run.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection, connection.begin() as transaction:
        at = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)
        for revision, (state, held, hours) in enumerate((("REJECTED", "false", 0), ("NOTIFIED", "true", 5)), 1):
            connection.execute(
                sa.text(
                    "insert into verification.event_log (partition, seq, topic, key, target, type, claim, payload, hash)"
                    " select partition, seq + 900000 + :r, topic, key, target,"
                    " 'goodfaith.item.handled.v1', claim, jsonb_build_object('time', cast(:at as timestamptz), 'data',"
                    " jsonb_build_object('item', 'i-target', 'revision', :r, 'state', cast(:state as text), 'held',"
                    " cast(:held as boolean), 'sla', 'missed', 'handled_at', '2040-01-01T00:00:00Z'))::text, hash"
                    " from verification.event_log limit 1"
                ),
                {"r": revision, "at": at + dt.timedelta(hours=hours), "state": state, "held": held},
            )
        first, second = count(connection, at), count(connection, at + dt.timedelta(hours=5))
        assert first["1h"] == Figures(missed=1, declined=1)
        assert second["1h"] == Figures(taken_down=1, declined=-1)
        assert second["1d"] == Figures(missed=1, taken_down=1)
        transaction.rollback()
