"""Misuse by complainants on the real database: counted by the fold, judged daily under a stepped clock, told, explained."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack
from services.intake.worker import Intake
from shared import policy, topics
from shared.events import State
from tests.integration.intake_parts import PARTITIONS, Parts, People
from tests.integration.test_goodfaith import DAY, Clock, change, fold, insert_items

pytestmark = pytest.mark.stack
S = State
TERMS = policy.current("ipp").misuse
WARNING, QUOTA, SUSPENSION = TERMS.steps


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def at(parts: Parts) -> Iterator[Clock]:
    made = Clock(parts)
    yield made
    made.close()


@pytest.fixture
def quiet(parts: Parts) -> Iterator[Intake]:
    """The worker's service without its threads."""
    service = Intake(parts.settings, background=False)
    yield service
    service.close()


def ends(
    service: Intake, parts: Parts, account: str, at: Clock, count: int, rule: str = "6-refused", **values: Any
) -> list[str]:
    """Items that the account files and that end now: refused as plainly unfounded, unless said otherwise."""
    values = {"state": S.REJECTED, "code": "plainly_unfounded", "severity": "serious", **values}
    at.to(at.now + dt.timedelta(minutes=1))
    items = [f"i-{uuid.uuid4().hex}" for _ in range(count)]
    firsts = [change(item, account, 1, S.UNDER_REVIEW, received_at=at.now) for item in items]
    insert_items(parts, firsts)
    parts.query(
        "update claims set accepted_at = %s where id = any(%s)", at.now, [data.claim for data in firsts]
    )  # fmt: skip
    changes = [change(item, account, 2, previous=S.UNDER_REVIEW, rule=rule, **values) for item in items]
    fold(service, parts, [(topics.partition_of(data.listing, PARTITIONS), at.now, data) for data in changes])
    return items


def judged(service: Intake, at: Clock, days: int = 1) -> None:
    at.to(at.now + days * DAY)
    service.judge()


def of(people: People, account: str) -> dict[str, Any]:
    answer = people.client.get(f"/v1/accounts/{account}/misuse", headers=people.operator)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def told(parts: Parts, account: str) -> list[dict[str, Any]]:
    rows = parts.query(
        """select payload::json from door where type = 'goodfaith.account.notice.v1' and listing = %s
        and payload::json ->> 'kind' like 'misuse_%%' order by id""",
        account,
    )
    return [row[0] for row in rows]


def test_warned_limited_suspended_and_good_again(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open(good_faith=True)
    quiet.judge()
    ends(quiet, parts, account, at, WARNING.number)
    quiet.judge()
    assert of(people, account)["state"] == "clear"  # today is not over
    judged(quiet, at)
    quiet.judge()
    shown = of(people, account)
    assert (shown["state"], shown["until"]) == ("warning", None)
    (warning,) = shown["measures"]
    assert (warning["kind"], warning["state"], warning["complaint"]) == ("warning", "on", None)
    figures = warning["figures"]
    assert (figures["unfounded"], figures["settled"], figures["share"], figures["weight"]) == (10, 10, 1.0, 20)
    assert figures["grounds"] == {"rejected:plainly_unfounded": 10}
    assert figures["window_to"] == (at.now - DAY).date().isoformat()
    assert [rule["measure"] for rule in shown["rules"]] == ["warning", "quota", "suspension"]

    # nothing filed after the warning, nothing more
    judged(quiet, at, 8)
    assert of(people, account)["state"] == "warning"
    ends(quiet, parts, account, at, QUOTA.again)
    judged(quiet, at)
    shown = of(people, account)
    assert QUOTA.lasts is not None
    assert (shown["state"], shown["items"], shown["used"]) == ("quota", QUOTA.items, 0)
    assert shown["until"] == (at.now.date() + QUOTA.lasts.exact).isoformat()
    # and out of the mechanism, though it was let in by a person
    assert people.client.get("/v1/good-faith", headers=headers).json()["member"] is False
    ends(quiet, parts, account, at, SUSPENSION.number - 15)
    judged(quiet, at, 7)
    shown = of(people, account)
    assert [m["kind"] for m in shown["measures"]] == ["suspension", "quota", "warning"]
    assert [m["prior"] for m in shown["measures"]] == [*[m["id"] for m in shown["measures"]][1:], None]
    assert shown["state"] == "suspension"

    # the suspension is over, then the warning stands; and when the window has moved on the record is good again
    judged(quiet, at, 30)
    assert of(people, account)["state"] == "warning"
    judged(quiet, at, 180)
    assert (of(people, account)["state"], of(people, account)["figures"]["number"]) == ("clear", 0)
    kinds = ["warned", "limited", "suspended", "over", "over", "lifted"]
    page = people.client.get("/v1/misuse/history", headers=headers).json()
    assert [entry["kind"] for entry in page["items"]] == kinds[::-1]
    notices = told(parts, account)
    assert [notice["kind"] for notice in notices] == [f"misuse_{kind}" for kind in kinds]
    assert notices[1]["figures"]["items_a_day"] == 100
    assert notices[1]["figures"]["because"] == "rejected:plainly_unfounded 15"
    assert notices[1]["about"] == shown["measures"][1]["id"]
    assert people.client.get("/v1/good-faith", headers=headers).json()["state"] == "out"


def test_what_does_not_count_and_what_is_taken_back(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open()
    ends(quiet, parts, account, at, 20, code="right_out_of_scope")
    ends(quiet, parts, account, at, 20, rule="3-link-invalid", state=S.LINK_INVALID, code=None)
    ends(quiet, parts, account, at, 20, rule="15-holder-silent", state=S.RESTORED, code=None)
    items = ends(quiet, parts, account, at, 12)
    figures = people.client.get("/v1/misuse", headers=headers).json()["figures"]
    assert (figures["settled"], figures["unfounded"], figures["weight"]) == (52, 12, 24)
    # complained of: open again, and nothing is held against it; confirmed: as before, though its code is another
    batch = [
        change(item, account, 3, S.APPEALED, previous=S.REJECTED, rule="19-appealed", severity="serious")
        for item in items
    ]
    fold(quiet, parts, [(0, at.now, data) for data in batch])
    assert people.client.get("/v1/misuse", headers=headers).json()["figures"]["unfounded"] == 0
    judged(quiet, at)
    assert of(people, account)["state"] == "clear"
    batch = [
        change(
            item,
            account,
            4,
            S.REJECTED,
            previous=S.APPEALED,
            rule="19-confirmed",
            code="decision_stands",
            severity="serious",
        )
        for item in items
    ]
    for _ in range(2):  # what is read again changes nothing
        fold(quiet, parts, [(0, at.now, data) for data in batch])
    judged(quiet, at)
    assert of(people, account)["state"] == "warning"


def test_each_is_shown_its_own(people: People) -> None:
    account, headers = people.open()
    shown = people.client.get("/v1/misuse", headers=headers).json()
    assert shown == of(people, account)
    assert (shown["state"], shown["measures"], shown["held"], shown["used"]) == ("clear", [], 0, None)
    missing = people.client.get("/v1/accounts/a-none/misuse", headers=people.operator)
    assert missing.status_code == 404
