"""Row-level security: the second filter shows a party nothing of others, whatever the first lets through."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient
from sqlalchemy.exc import ProgrammingError

from deploy.local.stack import Stack
from services.intake.app import create
from services.intake.kernel import store
from services.intake.kernel.domain import Account
from services.intake.reading import store as reading_store
from shared.migrate import PARTY_READS
from tests.integration.intake_parts import Parts, People, sell

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("rows"))
    yield parts
    parts.close()


class Case:
    """A claim of a holder against a seller, with all that there is around it."""

    def __init__(self, parts: Parts, people: People) -> None:
        self.holder, self.headers = people.open()
        self.seller, self.sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:10]}")
        self.right = people.right(self.headers)
        made = people.claim(
            self.headers, self.right, f"x{uuid.uuid4().hex[:8]}", f"y{uuid.uuid4().hex[:8]}", explanation="Not ours."
        )
        self.claim, self.item, self.other_item = made["claim"], made["items"][0]["item"], made["items"][1]["item"]
        sell(parts.engine, self.item, self.seller)
        asked = people.client.post(f"/v1/items/{self.item}/action", json={}, headers=self.headers).json()
        self.command = asked["commands"][0]["command"]
        people.authorise(self.headers, people.open()[1])
        parts.query(
            "insert into timeline (item, revision, type, state, by, at) values (%s, 1, 't', 'NOTIFIED', 'system', now())",
            self.item,
        )
        parts.query(
            """insert into messages (id, party, claim, kind, items, channel, template, version, digest, sent_at)
            values (%s, %s, %s, 'claim_receipt', %s, 'email', 't', 1, 'd', now())""",
            f"m-{self.item}",
            self.holder,
            self.claim,
            [self.item],
        )

    def paths(self) -> list[str]:
        """What a party reads of it."""
        return [
            f"/v1/claims/{self.claim}",
            f"/v1/claims/{self.claim}/items",
            f"/v1/claims/{self.claim}/timeline",
            f"/v1/claims/{self.claim}/texts",
            f"/v1/items/{self.item}",
            f"/v1/commands/{self.command}",
        ]


@pytest.fixture(scope="module")
def cases(parts: Parts, people: People) -> tuple[Case, Case]:
    return Case(parts, people), Case(parts, people)


def _all(me: Account, item: str = "i", claim: str = "c") -> tuple[str, tuple[Any, ...]]:
    """A first filter that lets everything through."""
    return "%s is not null and %s is not null and %s is not null", (me.id, me.id, me.id)


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_without_the_first_filter_nothing_of_others_is_shown(
    parts: Parts, cases: tuple[Case, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = cases
    monkeypatch.setattr(reading_store, "visible_to", _all)
    with TestClient(create(parts.settings)) as client:
        for path in one.paths():
            assert client.get(path, headers=one.headers).status_code == 200, path
            assert client.get(path, headers=one.sellers).status_code == 200, path
            for headers in (other.headers, other.sellers):
                assert client.get(path, headers=headers).status_code == 404, path
        # of a claim that a seller is party to by one item, the other item is not its own
        assert client.get(f"/v1/items/{one.other_item}", headers=one.sellers).status_code == 404
        shown = client.get(f"/v1/claims/{one.claim}/items", headers=one.sellers).json()["items"]
        assert [item["id"] for item in shown] == [one.item]
        assert client.get(f"/v1/claims/{one.claim}", headers=one.sellers).json()["states"] == {"NOTIFIED": 1}
    # the same queries without the second filter
    reader = Account(other.holder, "holder")
    with parts.engine.begin() as connection:
        assert reading_store.get_item(connection, reader, one.item)["id"] == one.item
        assert reading_store.list_items(connection, reader, one.claim, state=None, after=None, limit=9)
        store.become(connection, reader)
        with pytest.raises(store.Refused):
            reading_store.get_item(connection, reader, one.item)


@pytest.mark.parametrize("table", PARTY_READS)
def test_each_table_shows_a_party_its_own_rows(parts: Parts, cases: tuple[Case, Case], table: str) -> None:
    one, other = cases

    def count(reader: Account | None) -> int:
        with parts.engine.begin() as connection:
            if reader is not None:
                store.become(connection, reader)
            return int(connection.exec_driver_sql(f"select count(*) from {table}").scalar_one())

    everything = count(None)
    mine, theirs = count(Account(one.holder, "holder")), count(Account(other.holder, "holder"))
    assert mine
    assert theirs
    assert mine + theirs <= everything
    assert count(Account("a-nobody", "holder")) == 0
    assert count(Account("r-1", "reviewer")) == everything


def test_as_a_party_nothing_else_is_read_and_nothing_changed(parts: Parts, cases: tuple[Case, Case]) -> None:
    one, _ = cases
    with parts.engine.begin() as connection:
        tables = connection.exec_driver_sql(
            "select tablename from pg_tables where schemaname = 'intake' and not tablename = any(%s)",
            (list(PARTY_READS),),
        ).scalars()
        others = list(tables)
    assert {"tokens", "contacts", "subject_keys", "evidence", "webhooks"} <= set(others)

    def denied(statement: str) -> bool:
        with parts.engine.begin() as connection:
            store.become(connection, Account(one.holder, "holder"))
            try:
                connection.exec_driver_sql(statement)
            except ProgrammingError as error:
                connection.rollback()
                return "permission denied" in str(error)
        return False

    assert all(denied(f"select from {table}") for table in others)
    assert all(denied(f"delete from {table}") for table in PARTY_READS)
    assert all(
        denied(f"update {table} set {column} = {column}") for table, column in (("items", "state"), ("rights", "owner"))
    )


def test_what_a_transaction_was_ends_with_it(parts: Parts, cases: tuple[Case, Case]) -> None:
    one, _ = cases
    engine = sa.create_engine(parts.engine.url, pool_size=1, max_overflow=0, creator=parts.engine.pool._creator)
    with engine.begin() as connection:
        store.become(connection, Account(one.holder, "holder"))
        assert connection.exec_driver_sql("select current_user").scalar_one() == "goodfaith_intake_party"
    with engine.begin() as connection:
        assert connection.exec_driver_sql("select current_user").scalar_one() == "goodfaith_intake"
    engine.dispose()
