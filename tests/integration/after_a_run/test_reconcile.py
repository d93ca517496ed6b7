"""The streams' views, folded from a run's topics, against its database: equal; and a wrong number in either is found."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from services.ops.streams import log_rows
from services.streams import registry, sellers
from services.streams.filings import Filing
from services.streams.fold import POSITIONS, Partition, Record
from services.streams.items import Item
from services.streams.reconcile import TRUTHS, Database, Reconciler
from services.streams.views import Meta, us
from shared import clock, migrate
from shared.events import decode_data, decode_envelope
from shared.settings import Settings
from tests.integration.after_a_run.tampering import ITEM, SANCTION, SANCTIONED, body
from tests.integration.folded import Folded
from tests.integration.small_run import SmallRun

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

AT = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
FILED = "(select id from intake.claims where channel = 'http' order by accepted_at desc, id desc limit 1)"


# what is wrong -> the view that finds it, SQL on the truth
WRONG: dict[str, tuple[str, str]] = {
    "an item in another state": ("items", f"update verification.items set state = 'LITIGATION' where item = {ITEM}"),
    "an item that is gone": ("items", f"delete from verification.items where item = {ITEM}"),
    "an outcome that is another": ("items", body(ITEM, "jsonb_set(body::jsonb, '{sla}', '\"missed\"')")),
    "an item that is taken up again": ("items", body(ITEM, "body::jsonb - 'handled_at'")),
    "an item that was never down": ("items", body(ITEM, "body::jsonb - 'taken_down'")),
    "a violation that is gone": (
        "violations",
        "delete from enforcement.violations where (seller, claim) in (select seller, claim from enforcement.violations"
        " where in_force limit 1)",
    ),
    "points too many": (
        "standings",
        f"update enforcement.standings set general_points = general_points + 5 where seller = {SANCTIONED}",
    ),
    "an account that nobody let in": (
        "accounts",
        "insert into intake.good_faith_standings (account, state, how) values ('h-owl', 'in', 'staff')"
        " on conflict (account) do update set state = 'in'",
    ),
    "a claim of more items": (
        "filings",
        f"update intake.claims set size = size + 1, accepted_at = '2100-01-01' where id = {FILED}",
    ),
    "a sanction that has ended": (
        "standings",
        f"update enforcement.sanctions set state = 'ended', over_at = began where sanction = {SANCTION}",
    ),
}


class Reconciling:
    """The run's topics folded in plain Python, and the database by the streams' own login."""

    def __init__(self, run: SmallRun) -> None:
        stack = run.stack
        migrate.migrate(stack.admin_url, stack.role_passwords("streams"))
        self.folded = Folded(run.settings)
        self.settings = run.settings.model_copy(update={"database": SecretStr(stack.role_url("streams"))})

    def differences(self, tamper: str = "") -> dict[str, int]:
        """By view, over all partitions; what is tampered with is rolled back."""
        database = Tampered(self.folded.settings, tamper) if tamper else Database(self.settings)
        rounds = Reconciler(lambda: self.folded.partitions, database, lambda *_: None)
        asyncio.run(rounds.round())
        database.close()
        assert len(rounds.found) == len(TRUTHS) * len(self.folded.partitions)
        found = dict.fromkeys(TRUTHS, 0)
        for (view, _), (one, _) in rounds.found.items():
            found[view] += one.difference
        return found


class Tampered(Database):
    """Sees tampered data alone, which is rolled back."""

    def __init__(self, settings: Settings, statement: str) -> None:
        super().__init__(settings)
        self._statement = statement

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            connection.exec_driver_sql("set session_replication_role = replica")
            connection.exec_driver_sql(self._statement)
            yield connection
            connection.rollback()


@pytest.fixture(scope="module")
def reconciling(run: SmallRun) -> Reconciling:
    return Reconciling(run)


def test_views_agree_with_the_database(reconciling: Reconciling) -> None:
    assert reconciling.differences() == dict.fromkeys(TRUTHS, 0)
    counts = [partition.totals["items"].counts(AT) for partition in reconciling.folded.partitions.values()]
    assert sum(count for one in counts for name, count in one.items() if name.startswith("state/")) > 20


def test_the_event_logs_fold_to_the_same(reconciling: Reconciling, run: SmallRun) -> None:
    """What `goodfaith streams rebuild --from logs` begins with, against the topics."""
    states: dict[int, dict[tuple[str, str], Any]] = {number: {} for number in reconciling.folded.partitions}
    partitions = {number: Partition(number, registry.VIEWS) for number in states}
    with run.engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
        now, _ = clock.read(connection)
        for row in log_rows(connection, run.settings):
            envelope = decode_envelope(row.payload)
            assert envelope.time is not None
            meta = Meta(envelope.id, envelope.time, row.recorded_wall)
            topic = row.topic.removeprefix(run.settings.topic_prefix)
            known = states[row.target]
            record = Record(topic, 0, decode_data(envelope), meta, counts=False)
            changes, failures = partitions[row.target].fold([record], lambda table, key, at=known: at.get((table, key)))
            assert not failures
            known.update({(change.table, change.key): change.state for change in changes})
    for number, known in states.items():
        told = {place: state for place, state in known.items() if place[0] != POSITIONS}
        of_topics = reconciling.folded.states[number]
        assert told == {place: state for place, state in of_topics.items() if place[0] != POSITIONS}
        assert {name: totals.counts(now) for name, totals in partitions[number].totals.items()} == {
            name: totals.counts(now) for name, totals in reconciling.folded.partitions[number].totals.items()
        }
    assert any(place[0] == "filings" for known in states.values() for place in known)


def test_the_workers_found_the_same(run: SmallRun) -> None:
    """The streams of the fleet itself, by their own login and at their own pace."""
    compared = run.views.status["compared"]
    assert {(one["view"], one["partition"]) for one in compared} == {
        (view, partition) for view in TRUTHS for partition in range(run.settings.partitions)
    }
    assert [one for one in compared if one["difference"]] == []


def test_views_of_claims_and_sellers(run: SmallRun) -> None:
    for name, claim in run.views.claims.items():
        assert [item["item"] for item in claim["items"]] == sorted(item for item, _ in run.items[name])
        assert (claim["missing"], claim["open"]) == (0, 0)
    with run.engine.connect() as connection:
        rows = connection.exec_driver_sql("select item, state, revision, body::jsonb ->> 'sla' from verification.items")
        known = {item: (state, revision, sla) for item, state, revision, sla in rows}
        found = {
            item["item"]: (item["state"], item["revision"], item["sla"])
            for claim in run.views.claims.values()
            for item in claim["items"]
        }
        assert found == {item: known[item] for item in found}
        rows = connection.exec_driver_sql(
            "select seller, violations, general_points, serious_strikes, measures from enforcement.standings"
        )
        for seller, violations, points, strikes, measures in rows:
            told = run.views.sellers[seller]
            assert (told["violations"], told["general_points"], told["serious_strikes"]) == (
                violations,
                points,
                strikes,
            )
            assert {one for sanction in told["sanctions"] for one in sanction["measures"]} == set(
                filter(None, measures.split(","))
            )


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_number_in_the_database_is_found(reconciling: Reconciling, what: str) -> None:
    view, statement = WRONG[what]
    assert [name for name, difference in reconciling.differences(statement).items() if difference] == [view]


def test_a_wrong_number_in_a_view_is_found(reconciling: Reconciling) -> None:
    for view, state in (
        ("items", Item(revision=3, received=1, state="UPHELD", right="design", reason="design", handled=2, sla="met")),
        ("violations", sellers.Violation((sellers.ViolationItem("i-x", 1, True, False, 1),))),
        ("standings", sellers.Standing(5, general_points=6, violations=2)),
        ("filings", Filing(3, us(dt.datetime(2100, 1, 1, tzinfo=dt.UTC)))),
    ):
        totals = reconciling.folded.partitions[1].totals[view]
        totals.move("s-x/c-x", None, state)
        assert [name for name, difference in reconciling.differences().items() if difference] == [view]
        totals.move("s-x/c-x", state, None)


def test_the_streams_login_may_read_that_and_nothing_else(reconciling: Reconciling, run: SmallRun) -> None:
    with run.engine.connect() as connection:
        tables = connection.exec_driver_sql(
            """select table_schema || '.' || table_name, array_agg(column_name::text order by column_name) from information_schema.column_privileges
            where grantee = 'goodfaith_streams' and privilege_type = 'SELECT' and table_schema <> 'platform' group by 1"""
        )
        assert {name: sorted(columns) for name, columns in tables} == {
            name: sorted(columns) for name, columns in migrate.READS["streams"].items()
        }
        others = connection.exec_driver_sql(
            "select count(*) from information_schema.column_privileges where grantee = 'goodfaith_streams' and privilege_type <> 'SELECT'"
        ).scalar_one()
        connection.rollback()
    assert others == 0
