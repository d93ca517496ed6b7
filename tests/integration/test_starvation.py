"""One caller cannot keep others from intake: forged cursors, slow reads, statements that take too long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.kernel.ids import item_range
from shared.paging import cursor_of
from tests.integration.intake_parts import Parts, People

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


@contextlib.contextmanager
def locked(parts: Parts, table: str) -> Iterator[None]:
    """Everybody who reads the table waits."""
    with parts.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"lock table {table} in access exclusive mode")
        yield


@pytest.mark.parametrize("route", ["items", "timeline"])
def test_a_cursor_of_another_claim_is_refused(parts: Parts, people: People, route: str) -> None:
    _, headers = people.open()
    right = people.right(headers)
    mine, other = (people.claim(headers, right, "a", "b", "c")["claim"] for _ in range(2))
    low, high = item_range(mine)
    forged = ["", "i-", "zzz", low[:-1], item_range(other)[0], high + "0"]
    for item in forged:
        key = (item,) if route == "items" else (item, 0)
        answer = people.client.get(f"/v1/claims/{mine}/{route}", params={"cursor": cursor_of(*key)}, headers=headers)
        assert answer.status_code == 400, item
        assert answer.json()["field"] == "cursor"
    whole = people.client.get(f"/v1/claims/{mine}/items", headers=headers).json()["items"]
    first = people.client.get(f"/v1/claims/{mine}/items?limit=1", headers=headers).json()
    rest = people.client.get(f"/v1/claims/{mine}/items", params={"cursor": first["next"]}, headers=headers).json()
    assert [*first["items"], *rest["items"]] == whole
    assert len(whole) == 3


def test_slow_reads_of_one_account_hold_up_nobody_else(parts: Parts) -> None:
    with parts.api(GOODFAITH_HTTP_STATEMENT_S="600", GOODFAITH_TOKEN_CACHE_S="300") as client:
        people = People(client, parts.operator)
        _, slow = people.open()
        _, other = people.open()
        for headers in (slow, other):
            assert client.get("/v1/me", headers=headers).status_code == 200
        with (
            ThreadPoolExecutor(30) as pool,
            httpx.Client(base_url=client.base_url, timeout=600, trust_env=False) as many,
        ):
            with locked(parts, "rights"):
                waiting = [pool.submit(many.get, "/v1/rights", headers=slow) for _ in range(30)]
                for _ in range(20):
                    assert client.get("/v1/claims", headers=other).status_code == 200
                assert not any(one.done() for one in waiting)
            assert {one.result().status_code for one in waiting} == {200}


def test_a_statement_that_takes_too_long_is_cancelled(parts: Parts) -> None:
    with parts.api(GOODFAITH_HTTP_STATEMENT_S="0.5") as client:
        people = People(client, parts.operator)
        _, headers = people.open()
        with locked(parts, "rights"):
            answer = client.get("/v1/rights", headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/v1/rights", headers=headers).status_code == 200
