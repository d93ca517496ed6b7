"""Misuse by complainants on the real database: counted by the fold, judged daily under a stepped clock, told, explained."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.kernel import filings, requests, store
from services.intake.kernel.listings import ListingRef
from services.intake.misuse import figures
from services.intake.misuse import store as misuse_store
from services.intake.misuse.domain import MeasureChange, MisuseFacts, MisuseMeasure
from services.intake.worker import Intake
from shared import clock, db, policy, topics
from shared.events import State
from shared.runtime import Tx
from tests.integration.intake_parts import PARTITIONS, Parts, People
from tests.integration.test_goodfaith import DAY, SIGNED, Clock, change, fold, insert_items

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
    parts.query("update claims set accepted_at = %s where id = any(%s)", at.now, [data.claim for data in firsts])
    changes = [change(item, account, 2, previous=S.UNDER_REVIEW, rule=rule, **values) for item in items]
    fold(service, parts, [(topics.partition_of(data.listing, PARTITIONS), at.now, data) for data in changes])
    return items


def judged(service: Intake, at: Clock, days: int = 1) -> None:
    at.to(at.now + days * DAY)
    service.housekeeping.judge()


def of(people: People, account: str) -> dict[str, Any]:
    answer = people.client.get(f"/v1/accounts/{account}/misuse", headers=people.operator)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def told(parts: Parts, account: str) -> list[dict[str, Any]]:
    rows = parts.query(
        """select payload::json from admission_queue where type = 'goodfaith.account.notice.v1' and listing = %s
        and payload::json ->> 'kind' like 'misuse_%%' order by id""",
        account,
    )
    return [row[0] for row in rows]


def test_warned_limited_suspended_and_good_again(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open(good_faith=True)
    quiet.housekeeping.judge()
    ends(quiet, parts, account, at, WARNING.number)
    quiet.housekeeping.judge()
    assert of(people, account)["state"] == "clear"  # today is not over
    judged(quiet, at)
    quiet.housekeeping.judge()
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
    assert [notice["figures"].get("next") for notice in notices[:3]] == ["quota, suspension", "suspension", None]
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


# ---- intake


def put_under(parts: Parts, people: People, at: Clock, kind: str, items: int | None = None, days: int = 10) -> Any:
    """An account under a measure, as the judgement would leave it."""
    account, headers = people.open()
    with parts.engine.begin() as connection:
        now, wall = clock.read(connection)
        measure = MisuseMeasure(
            f"m-{uuid.uuid4().hex}",
            kind,
            now.date(),
            now,
            now.date() + days * DAY,
            items,  # type: ignore[arg-type]
        )
        made = misuse_store.RecordedChange(
            account, MeasureChange(measure, "limited"), figures.basis(MisuseFacts(), now.date(), policy.current("ipp"))
        )
        misuse_store.write(connection, now, wall, [made], {}, "a-system", PARTITIONS)
    return account, headers


def post(people: People, headers: dict[str, str], right: str, *listings: str, key: str | None = None) -> httpx.Response:
    body = {
        "right": right,
        "reason": "counterfeit",
        "listings": [f"https://market.example/items/{n}" for n in listings],
    }
    extra = {} if key is None else {"Idempotency-Key": key}
    return people.client.post("/v1/claims", json=body, headers=headers | extra)


def test_a_quota_is_exact_and_drops_nothing(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = put_under(parts, people, at, "quota", 5)
    right = people.right(headers)
    assert post(people, headers, right, "a1", "a2", "a3", key="k1").json()["lane"] == "standard"
    # sent again it is the same claim; one that is refused uses up nothing
    assert post(people, headers, right, "a1", "a2", "a3", key="k1").headers["Idempotency-Replayed"] == "true"
    assert post(people, headers, "r-none", "a1").status_code == 422
    # begun within it, accepted whole: the part beyond waits in bulk with the rest of its claim
    over = post(people, headers, right, "b1", "b2", "b3", "b4")
    assert (over.status_code, over.json()["lane"], len(over.json()["items"])) == (202, "bulk", 4)
    assert people.client.get("/v1/misuse", headers=headers).json()["used"] == 7
    before = parts.query("select count(*) from claims where complainant = %s", account)
    refused = post(people, headers | {"Accept-Language": "de"}, right, "c1", key="k2")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:goodfaith:problem:quota_used")
    midnight = (at.now + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    assert int(refused.headers["Retry-After"]) == math.ceil((midnight - at.now).total_seconds())
    assert "ein Kontingent von 5 Positionen am Tag (UTC); 7 wurden" in refused.json()["detail"]
    assert midnight.date().isoformat() in refused.json()["cure"]
    assert parts.query("select count(*) from claims where complainant = %s", account) == before
    # the next day it is accepted, under the very key
    at.to(midnight)
    assert post(people, headers, right, "c1", key="k2").status_code == 202
    assert people.client.get("/v1/misuse", headers=headers).json()["used"] == 1
    # and everything is in intake
    assert parts.query("select count(*) from admission_queue where complainant = %s and kind = 'submit'", account) == [
        (8,)
    ]


def test_many_at_once_are_counted_one_after_the_other(parts: Parts, people: People, at: Clock) -> None:
    _, headers = put_under(parts, people, at, "quota", 7)
    right = people.right(headers)
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda n: post(people, headers, right, f"x{n}").status_code, range(32)))
    assert sorted(codes) == [202] * 7 + [429] * 25


def test_what_comes_by_a_topic_waits_in_bulk(parts: Parts, people: People, at: Clock) -> None:
    account, headers = put_under(parts, people, at, "quota", 1)
    right = people.right(headers)
    assert post(people, headers, right, "a").status_code == 202
    results = filed(parts, account, right, "kafka", "b", "c")
    assert [result.rows.answer["lane"] for result in results] == ["bulk", "bulk"]
    # and what the system files for it by itself is none of its notices
    (result,) = filed(parts, account, right, "recurrence", "d", recurs="i-before")
    assert result.rows.answer["lane"] == "standard"
    assert people.client.get("/v1/misuse", headers=headers).json()["used"] == 3


def filed(
    parts: Parts,
    account: str,
    right: str,
    channel: str,
    *listings: str,
    recurs: str | None = None,
    key: str | None = None,
    held_max: int = TERMS.held_max,
) -> list[Any]:
    """Claims of one listing each, in one commit."""
    with parts.engine.begin() as connection:
        now, wall = store.enter_admission(connection)
        who = store.accounts(connection, [account])[account]
        return filing_store.file(
            connection,
            [
                filings.Filing(
                    who,
                    key,
                    account,
                    b"",
                    "submit_claim",
                    requests.SubmitClaim(right=right, reason="counterfeit", listings=["x"]),
                    channel,
                    listings=[ListingRef(name, True, "x")],
                    rules=policy.current("ipp"),
                    recurs=recurs,
                )
                for name in listings
            ],
            now,
            wall,
            PARTITIONS,
            held_max,
        )


@pytest.mark.parametrize(("kind", "items"), [("quota", 1), ("suspension", None)])
def test_a_claim_sent_again_is_not_refused_for_what_it_used_up_itself(
    parts: Parts, people: People, at: Clock, kind: str, items: int | None
) -> None:
    account, headers = put_under(parts, people, at, kind, items)
    right = people.right(headers)
    first, again = filed(parts, account, right, "http", "a", "a", key="k", held_max=1)
    assert (first.replayed, again.replayed, again.answer) == (False, True, first.answer)
    (other,) = filed(parts, account, right, "http", "b", key="another", held_max=1)
    assert (other.status, other.reason) == (429, "quota_used" if kind == "quota" else "too_many_held")
    shown = people.client.get("/v1/misuse", headers=headers).json()
    assert (shown["used"], shown["held"]) == ((1, 0) if kind == "quota" else (None, 1))


def test_what_comes_by_a_topic_waits_however_much_waits(parts: Parts, people: People, at: Clock) -> None:
    """A record that is refused is lost: its offset moves on."""
    account, headers = put_under(parts, people, at, "suspension")
    right = people.right(headers)
    results = filed(parts, account, right, "kafka", "a", "b", "c", held_max=1)
    assert [result.rows.held for result in results] == [True] * 3
    assert people.client.get("/v1/misuse", headers=headers).json()["held"] == 3


def test_a_suspension_makes_claims_wait_and_its_end_processes_them(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = put_under(parts, people, at, "suspension")
    right, other = people.right(headers), people.right(headers, number="7654321")
    accepted = post(people, headers, right, "w1", "w2")
    until = (at.now.date() + 10 * DAY).isoformat()
    assert (accepted.status_code, accepted.json()["held_until"]) == (202, until)
    later = post(people, headers, other, "w3").json()
    assert [result.rows.held for result in filed(parts, account, right, "kafka", "w4")] == [True]
    claim = accepted.json()["claim"]
    assert people.client.get(f"/v1/claims/{claim}", headers=headers).json()["size"] == 2
    assert people.client.get("/v1/misuse", headers=headers).json()["held"] == 4
    assert parts.query("select count(*) from admission_queue where complainant = %s", account) == [(0,)]
    # it is not under way: nothing can be done about it, and another's is another's
    item = accepted.json()["items"][0]["item"]
    for path in (f"/v1/items/{item}/withdraw", f"/v1/claims/{claim}/withdraw"):
        refused = people.client.post(path, json={"ground": "error"}, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:goodfaith:problem:held")
    assert (
        people.client.post(f"/v1/items/{item}/withdraw", json={"ground": "error"}, headers=people.open()[1]).status_code
        == 404
    )
    # a right is lost meanwhile: nobody is told of an item that is not there yet
    assert people.client.patch(f"/v1/rights/{other}", json={"status": "lost"}, headers=headers).status_code == 200
    assert parts.query("select count(*) from admission_queue where item = %s", later["items"][0]["item"]) == [(0,)]

    quiet.housekeeping.release()
    assert people.client.get("/v1/misuse", headers=headers).json()["held"] == 4
    at.to(dt.datetime.combine(at.now.date() + 10 * DAY, dt.time(), dt.UTC))
    quiet.housekeeping.release()
    assert people.client.get("/v1/misuse", headers=headers).json()["held"] == 0
    rows = parts.query(
        "select kind, listing, lane, accepted_at from admission_queue where complainant = %s order by id", account
    )
    assert rows == [
        *[("submit", name, "bulk", at.now) for name in ("w1", "w2", "w3", "w4")],
        ("command", "w3", "bulk", at.now),
    ]
    # their time of right is that of the release
    with parts.engine.begin() as connection:
        now, wall = clock.read(connection)
        taken = quiet.pull(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), 10_000)
        connection.rollback()
    assert {one.data.accepted_at for one in taken if getattr(one.data, "complainant", "") == account} == {at.now}
    # by now intake takes claims as usual, before anybody was judged
    assert "held_until" not in post(people, headers, right, "w5").json()
    quiet.housekeeping.judge()
    assert of(people, account)["state"] == "clear"


def test_not_without_end_do_claims_wait(parts: Parts, people: People, at: Clock) -> None:
    _, headers = put_under(parts, people, at, "suspension")
    right = people.right(headers)
    for _ in range(3):
        assert post(people, headers, right, *[uuid.uuid4().hex for _ in range(300)]).status_code == 202
    refused = post(people, headers, right, *[uuid.uuid4().hex for _ in range(101)])
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:goodfaith:problem:too_many_held")
    assert "900 items wait" in refused.json()["detail"]
    assert 9 * 86_400 < int(refused.headers["Retry-After"]) <= 10 * 86_400
    assert post(people, headers, right, *[uuid.uuid4().hex for _ in range(100)]).status_code == 202


# ---- findings and complaints


def find(people: People, who: dict[str, str], account: str, kind: str, **values: str) -> httpx.Response:
    body = {"kind": kind, "code": "altered", **values}
    return people.client.post(f"/v1/accounts/{account}/misuse/findings", json=body, headers=who)


def upload(people: People, headers: dict[str, str], content: bytes) -> str:
    made = people.client.post("/v1/evidence?kind=ownership", content=content, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:goodfaith:problem:")


def complain(people: People, headers: dict[str, str], measure: str, **values: Any) -> httpx.Response:
    return people.client.post(f"/v1/misuse/{measure}/complaint", json=values, headers=headers)


def decide(people: People, who: dict[str, str], measure: str, decision: str) -> httpx.Response:
    body = {"decision": decision, "code": "facts_misjudged"}
    return people.client.post(f"/v1/misuse/{measure}/decision", json=body, headers=who)


def test_a_forged_document_from_the_finding_to_its_reversal(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = people.open(good_faith=True)
    document, other = upload(people, headers, b"certificate"), upload(people, headers, b"another")
    right = people.right(headers, proof=None, evidence=[document])
    unproven = people.right(headers, number="7654321")
    open_, over = (people.claim(headers, right, name, evidence=[document])["claim"] for name in ("open", "over"))
    parts.query("update items set state = 'WITHDRAWN' where claim = %s", over)
    (_, first), (_, second), (biased, third), (_, fourth) = (people.open("reviewer") for _ in range(4))
    people.client.put("/v1/review/conflicts", json={"accounts": [account], "reviewer": biased}, headers=people.operator)

    # what it rests on must be there, and the account's
    strangers = people.open()[1]
    assert reason(find(people, first, account, "forged_document")) == (422, "no_reference")
    assert reason(find(people, first, account, "knowingly_false")) == (422, "no_reference")
    assert reason(find(people, first, account, "forged_document", document="d-none")) == (422, "unknown_document")
    foreign = upload(people, strangers, b"foreign")
    assert reason(find(people, first, account, "forged_document", document=foreign)) == (422, "unknown_document")
    assert reason(find(people, first, account, "knowingly_false", claim="c-none")) == (422, "unknown_claim")
    assert reason(find(people, first, "a-none", "none", claim="c-none")) == (404, "not_found")
    assert reason(find(people, third, account, "forged_document", document=document)) == (403, "conflict_of_interest")

    # one pair of eyes alone brings nothing about
    found = find(people, first, account, "forged_document", document=document)
    assert found.status_code == 201, found.text
    finding = found.json()["id"]
    assert (found.json()["state"], found.json()["measure"]) == ("proposed", None)
    assert (found.json()["rights"], found.json()["claims"]) == ([right], [open_])
    assert reason(find(people, second, account, "forged_document", document=document)) == (409, "finding_known")
    same = find(people, second, account, "forged_document", document=document, claim=open_)
    assert reason(same) == (409, "finding_known")
    seconding = f"/v1/misuse/findings/{finding}/second"
    assert reason(people.client.post(seconding, json={"agree": True}, headers=first)) == (403, "own_finding")
    assert reason(people.client.post(seconding, json={"agree": True}, headers=third)) == (403, "conflict_of_interest")
    assert (of(people, account)["state"], told(parts, account)) == ("clear", [])
    assert (
        people.client.post("/v1/claims", json=claim_of(unproven, "n1", [document]), headers=headers).status_code == 202
    )

    agreed = people.client.post(seconding, json={"agree": True}, headers=second)
    assert (agreed.status_code, agreed.json()["state"]) == (200, "in_force")
    assert reason(people.client.post(seconding, json={"agree": True}, headers=fourth)) == (409, "not_proposed")
    (measure,) = of(people, account)["measures"]
    assert (measure["kind"], measure["finding"], measure["id"]) == ("suspension", finding, agreed.json()["measure"])
    assert [notice["kind"] for notice in told(parts, account)] == ["misuse_found", "misuse_suspended"]
    assert told(parts, account)[0]["figures"] == {"finding": "forged_document", "code": "altered", "document": document}
    quiet.housekeeping.judge()
    assert people.client.get("/v1/good-faith", headers=headers).json()["member"] is False
    # the document can be named in nothing any more, and stays for who decides on a complaint
    refused = people.client.post("/v1/claims", json=claim_of(unproven, "n2", [document]), headers=headers)
    assert reason(refused) == (422, "forged_document")
    assert reason(people.client.request("DELETE", f"/v1/evidence/{document}", headers=headers)) == (409, "in_use")
    waits = people.client.post("/v1/claims", json=claim_of(unproven, "n3", [other]), headers=headers).json()
    assert waits["held_until"] == measure["until"]

    # the complaint
    assert complain(people, strangers, measure["id"]).status_code == 404
    answer = complain(people, headers, measure["id"], statement="It is a true copy: ask the office.", evidence=[other])
    assert (answer.status_code, answer.json()["complaint"]) == (201, "open")
    assert reason(complain(people, headers, measure["id"])) == (409, "complaint_known")
    ((sealed,),) = parts.query("select sealed from misuse_complaints where measure = %s", measure["id"])
    assert b"true copy" not in bytes(sealed)
    (shown,) = [
        one
        for one in people.client.get("/v1/misuse/complaints", headers=fourth).json()["items"]
        if one["account"] == account
    ]
    assert (shown["statement"], shown["finding"]) == ("It is a true copy: ask the office.", finding)
    for who in (first, second):
        assert reason(decide(people, who, measure["id"], "reverse")) == (403, "own_finding")
    assert reason(decide(people, third, measure["id"], "reverse")) == (403, "conflict_of_interest")
    wrong = people.client.post(
        f"/v1/misuse/{measure['id']}/decision", json={"decision": "confirm", "code": "because"}, headers=fourth
    )
    assert reason(wrong) == (422, "unknown_code")
    assert decide(people, fourth, measure["id"], "reverse").json()["state"] == "reversed"
    assert reason(decide(people, fourth, measure["id"], "confirm")) == (409, "no_complaint")
    assert of(people, account)["state"] == "clear"
    (entry,) = people.client.get(f"/v1/accounts/{account}/misuse/findings", headers=fourth).json()["items"]
    assert entry["state"] == "reversed"
    assert told(parts, account)[-1]["kind"] == "misuse_reversed"
    quiet.housekeeping.release()
    assert of(people, account)["held"] == 0
    assert (
        people.client.post("/v1/claims", json=claim_of(unproven, "n4", [document]), headers=headers).status_code == 202
    )
    # which reviewer it was is not for the account
    history_ = people.client.get("/v1/misuse/history", headers=headers).json()["items"]
    assert [(entry["kind"], entry["by"]) for entry in history_] == [
        ("reversed", "reviewer"),
        ("complained", account),
        ("suspended", "reviewer"),
    ]


def claim_of(right: str, listing: str, evidence: list[str]) -> dict[str, Any]:
    links = [f"https://market.example/items/{listing}"]
    return {"right": right, "reason": "counterfeit", "listings": links, "evidence": evidence}


def test_a_reversed_warning_takes_all_that_followed_with_it_for_good(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = people.open()
    reviewer = people.open("reviewer")[1]
    ends(quiet, parts, account, at, 12)
    judged(quiet, at)
    ends(quiet, parts, account, at, 8)
    judged(quiet, at, 8)
    quota, warning = of(people, account)["measures"]
    assert (quota["kind"], warning["kind"]) == ("quota", "warning")
    for measure in (quota, warning):
        assert complain(people, headers, measure["id"]).status_code == 201
    assert decide(people, reviewer, warning["id"], "reverse").status_code == 200
    assert [(m["kind"], m["state"], m["complaint"]) for m in of(people, account)["measures"]] == [
        ("quota", "fallen", "reversed"),
        ("warning", "reversed", "reversed"),
    ]
    # nobody confirms what has never been
    assert reason(decide(people, reviewer, quota["id"], "confirm")) == (409, "no_complaint")
    parts.query("update misuse_complaints set state = 'open' where measure = %s", quota["id"])
    assert reason(decide(people, reviewer, quota["id"], "confirm")) == (409, "measure_reversed")
    parts.query("delete from misuse_complaints where measure = %s", quota["id"])
    assert of(people, account)["state"] == "clear"
    assert [notice["kind"] for notice in told(parts, account)][-2:] == ["misuse_reversed", "misuse_fallen"]
    # what it stood on does not bring it back; the eight that came after it are too few by themselves
    judged(quiet, at)
    shown = of(people, account)
    assert (shown["state"], shown["figures"]["unfounded"]) == ("clear", 8)
    ends(quiet, parts, account, at, 2)
    judged(quiet, at)
    assert of(people, account)["state"] == "warning"
    # what was reversed is not complained of, nor what fell with it
    assert reason(complain(people, headers, quota["id"])) == (409, "measure_reversed")


def test_a_confirmed_measure_stands_and_the_time_to_complain_ends(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = people.open()
    reviewer = people.open("reviewer")[1]
    ends(quiet, parts, account, at, 10)
    judged(quiet, at)
    (warning,) = of(people, account)["measures"]
    assert reason(decide(people, reviewer, warning["id"], "confirm")) == (409, "no_complaint")
    complain(people, headers, warning["id"])
    stands = decide(people, reviewer, warning["id"], "confirm").json()
    assert (stands["state"], stands["complaint"], stands["complaint_code"]) == ("on", "confirmed", "facts_misjudged")
    assert told(parts, account)[-1]["kind"] == "misuse_confirmed"
    late, lates = people.open()
    ends(quiet, parts, late, at, 10)
    judged(quiet, at)
    (warning,) = of(people, late)["measures"]
    at.to(dt.datetime.fromisoformat(warning["complain_until"]) + dt.timedelta(seconds=1))
    assert reason(complain(people, lates, warning["id"])) == (409, "complaint_too_late")


def test_who_does_it_knowingly_does_not_hide_behind_a_large_number(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = people.open()
    reviewer = people.open("reviewer")[1]
    items = ends(quiet, parts, account, at, 9)
    ends(quiet, parts, account, at, 200, rule="15-holder-silent", state=S.RESTORED, code=None)
    judged(quiet, at)
    assert of(people, account)["state"] == "clear"
    assert find(people, reviewer, account, "none", claim=f"c-{items[0]}").json()["state"] == "in_force"
    found = find(people, reviewer, account, "knowingly_false", claim=f"c-{items[0]}")
    assert (found.status_code, found.json()["state"]) == (201, "in_force")
    quiet.housekeeping.judge()
    (warning,) = of(people, account)["measures"]
    assert (warning["kind"], warning["figures"]["knowingly"], warning["figures"]["number"]) == ("warning", True, 10)
    assert warning["figures"]["grounds"] == {"knowingly_false": 1, "rejected:plainly_unfounded": 9}
    # whose finding brought the step about does not decide whether it was right
    complain(people, headers, warning["id"])
    assert reason(decide(people, reviewer, warning["id"], "confirm")) == (403, "own_finding")
    assert decide(people, people.open("reviewer")[1], warning["id"], "confirm").status_code == 200


def test_without_agreement_a_finding_never_was(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open()
    document = upload(people, headers, b"doubtful")
    first, second = people.open("reviewer")[1], people.open("reviewer")[1]
    finding = find(people, first, account, "forged_document", document=document).json()["id"]
    refused = people.client.post(f"/v1/misuse/findings/{finding}/second", json={"agree": False}, headers=second)
    assert refused.json()["state"] == "refused"
    quiet.housekeeping.judge()
    assert (of(people, account)["state"], told(parts, account)) == ("clear", [])
    # and may be made again
    assert find(people, second, account, "forged_document", document=document).status_code == 201
    page = people.client.get(f"/v1/accounts/{account}/misuse/findings?limit=1", headers=first).json()
    rest = people.client.get(f"/v1/accounts/{account}/misuse/findings?cursor={page['next']}", headers=first).json()
    assert [len(page["items"]), len(rest["items"])] == [1, 1]


def test_one_claim_of_many_listings_is_no_frequent_misuse(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, headers = people.open()
    right = people.right(headers)
    for number in range(3):
        made = people.claim(headers, right, *[f"{account}-{number}-{n}" for n in range(20)])
        batch = [
            change(
                one["item"],
                account,
                2,
                S.REJECTED,
                previous=S.UNDER_REVIEW,
                rule="6-refused",
                code="not_infringing",
                severity="serious",
                listing=one["listing"],
                claim=made["claim"],
            )
            for one in made["items"]
        ]
        fold(quiet, parts, [(topics.partition_of(data.listing, PARTITIONS), at.now, data) for data in batch])
        judged(quiet, at)
        shown = of(people, account)
        assert (shown["figures"]["notices"], shown["figures"]["unfounded"]) == (number + 1, 20 * (number + 1))
        assert shown["state"] == ("warning" if number == 2 else "clear")
    assert told(parts, account)[0]["figures"]["rule"] == "3 claims, 10 items, 20 %, weight 15"


def test_under_a_measure_that_bars_nobody_joins(parts: Parts, people: People, at: Clock) -> None:
    _, headers = put_under(parts, people, at, "quota", 5)
    refused = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    assert reason(refused) == (409, "under_measure")


def test_looking_for_what_was_unfounded_reads_nothing_else(parts: Parts) -> None:
    """However much an account has settled: an index leads to what was unfounded, of the window."""
    admin = db.administer(parts.admin_url)
    day = dt.date(2030, 6, 1)
    with admin.connect() as connection:
        connection.exec_driver_sql("set search_path = intake, platform")
        connection.exec_driver_sql(
            """insert into good_faith_items (item, account, reason, day, outcome, revision, ground)
            select 'i-old-' || n, 'a-large', 'counterfeit', date '2029-01-01' + mod(n, 500), 'upheld', 1,
                case when mod(n, 500) = 7 then 'reversed' end from generate_series(1, 60000) as n"""
        )
        connection.exec_driver_sql("analyze good_faith_items")
        for query, values in (
            (figures._GROUNDS, (["a-large"], [day - 180 * DAY], day)),
            (figures._CLAIMS, (["a-large"], [day - 180 * DAY], ["reversed"], day)),
        ):
            plan = "\n".join(connection.exec_driver_sql("explain " + query, values).scalars())
            assert "good_faith_items_ground" in plan, plan
            assert "Seq Scan on good_faith_items" not in plan, plan
        connection.rollback()
    admin.dispose()
