"""Filings: what intake tells of claims, folded as it goes from intake, against intake's tables at every step."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.filing.recurrence import CHANNEL
from services.intake.kernel import filings as requested
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filing
from services.intake.kernel.listings import named_by
from services.intake.worker import Intake
from services.streams import filings, reconcile
from services.streams.views import Meta
from shared import clock, db, events, site_links
from tests.integration.intake_parts import PARTITIONS, Parts, on_file
from tests.integration.test_intake_worker import pull

pytestmark = pytest.mark.stack
HOLDERS = [Account(f"a-{number}", "holder", True, False, True) for number in range(6)]
CANARY = Account("a-canary", "holder", True, False, True, canary=True)


@pytest.fixture
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("filings"))
    with parts.engine.begin() as connection:
        for account in (*HOLDERS, CANARY):
            store.open_account(connection, account, "company", by=None)
            connection.exec_driver_sql(
                """insert into rights (id, owner, right_type, number, status, proof, registered_at)
                values (%s, %s, 'trademark', '1', 'active', 'd', now())""",
                (f"r-{account.id}", account.id),
            )
        on_file(connection, *(account.id for account in HOLDERS))
    yield parts
    parts.close()


def claim(account: Account, channel: str, *listings: str) -> Filing:
    """A claim, checked."""
    links = [f"https://market.example/items/{name}" for name in listings]
    body = requests.SubmitClaim(right=f"r-{account.id}", reason="counterfeit", listings=links)
    return Filing(
        account,
        None,
        account.id,
        b"",
        "submit_claim",
        body,
        channel,
        listings=named_by(links, site_links.of(("market.example/items/{id}",))).listings,
        rules=check_claim(body, account),
        recurs="i-upheld" if channel == CHANNEL else None,
    )


def test_view_and_tables_agree_whatever_waits_in_intake(parts: Parts) -> None:
    dice = random.Random(7)
    service = Intake(parts.settings, background=False)
    service._inbound = ()
    totals = [filings.Totals() for _ in range(PARTITIONS)]
    told = 0

    def agree() -> int:
        """How many claims both have."""
        found = 0
        with parts.engine.connect() as connection:
            now, _ = clock.read(connection)
            for partition in range(PARTITIONS):
                counts = totals[partition].counts(now)
                assert reconcile.filings(connection, partition, now, PARTITIONS) == counts
                found += counts.get("claims", 0)
        return found

    for turn in range(8):
        filed = [
            claim(account, channel, *(f"l-{turn}-{place}-{n}" for n in range(dice.choice((1, 2, 12)))))
            for place, (account, channel) in enumerate(
                [*((dice.choice(HOLDERS), "http") for _ in range(6)), (HOLDERS[0], CHANNEL), (CANARY, CANARY.channel)]
            )
        ]
        with parts.engine.begin() as connection:
            now, wall = store.enter_admission(connection)
            results = filing_store.file(connection, filed, now, wall, PARTITIONS)
        assert all(isinstance(result, requested.Filed) for result in results), results
        assert agree() == told, "what waits in intake is in no log yet"
        for _ in range(turn % 3):
            for incoming in pull(parts, service, 40):
                if isinstance(incoming.data, events.ClaimFiled):
                    key = filings.key(incoming.data)
                    if key is not None:
                        at = dt.datetime.now(dt.UTC)
                        state = filings.fold(None, incoming.data, Meta("intake.0.1", at, at))
                        totals[incoming.partition].move(key, None, state)
                        told += 1
            assert agree() == told
    service.close()
    waiting = parts.query("select count(*) from admission_queue where kind = 'filing'")[0][0]
    assert told > 20
    assert parts.query("select count(*), count(told_partition) from claims") == [(64, 64)]
    assert waiting > 0


def test_a_partitions_claims_of_some_days_are_found_by_index(parts: Parts) -> None:
    parts.query(
        """insert into claims (id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel, accepted_at,
            terms, told_partition)
        select 'c-' || n, 'a-' || n %% 50, 'p', 'r', 'trademark', 'counterfeit', 'ipp', 'standard', 1, 'http',
            now() - n * interval '10 minutes', repeat('x', 600), n %% 4 from generate_series(1, 40000) as n"""
    )
    engine = db.administer(parts.admin_url, autocommit=True, pooled=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            """insert into intake.event_log (partition, seq, topic, key, target, type, payload, hash)
            select 1, n, 'intake.events', 'l', 1, 'goodfaith.item.submitted.v1', repeat('x', 300), '' from generate_series(1, 20000) as n"""
        )
        connection.exec_driver_sql("analyze intake.claims, intake.event_log")
    engine.dispose()
    with parts.engine.begin() as connection:
        given = {"partition": 1, "since": dt.datetime.now(dt.UTC) - dt.timedelta(days=29), "left_out": ["canary"]}
        plan = connection.exec_driver_sql(f"explain {reconcile._FILINGS}", given).scalars().all()
    assert any("claims_told" in line for line in plan), plan
    with parts.engine.begin() as connection:
        last = connection.exec_driver_sql(f"explain {reconcile._FILED}", given).scalars().all()
        told = connection.exec_driver_sql(f"explain {reconcile._QUEUE}", given).scalars().all()
    assert any("event_log_filings" in line for line in last), last
    assert any("event_log_accounts" in line for line in told), told
