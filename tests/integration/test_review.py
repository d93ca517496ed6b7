"""The review queue over HTTP on a real database: leases, decisions, four eyes, and people who get in each other's way.

The judge is the real life cycle, run by the test between intake's table and the read model's fold: no broker is needed.
"""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from deploy.local.stack import Stack
from services.intake.kernel import judged, metrics
from services.intake.review import store as review_store
from services.intake.worker import Intake
from services.verification.item import Item
from services.verification.lifecycle import Change, Facts, decide, fire
from shared import clock, events
from shared.events import State
from shared.runtime import Tx
from shared.runtime.types import Incoming
from tests.integration.intake_parts import PARTITIONS, Parts, People
from tests.integration.test_intake_http import problem
from tests.patience import PATIENCE_S
from tests.unit.verification.world import MANUAL

pytestmark = pytest.mark.stack
S = State


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("review"))
    yield parts
    parts.close()


class Judge:
    """Verification and intake's worker, in one thread: what intake accepted is judged and folded."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.items: dict[str, Item] = {}
        self.applied: Counter[str] = Counter()
        self.refused: list[events.CommandRefused] = []
        self.unknown: set[str] = set()
        self._service = Intake(parts.settings, background=False)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self._service.close()

    def facts(self, listing: str) -> Facts:
        if listing in self.unknown:
            return Facts(None)
        return Facts(events.Listing(listing=listing, seller=f"s-{listing}", state="visible"))

    def run(self) -> None:
        """One round, in one transaction."""
        with self.parts.engine.begin() as connection:
            now, wall = clock.read(connection)
            rows = connection.exec_driver_sql(
                """with taken as (delete from admission_queue returning *)
                select t.*, c.terms from taken t left join claims c on c.id = t.claim order by t.id"""
            ).mappings()
            changes: list[Change] = []
            for row in rows.all():
                data: Any
                if row["kind"] == "submit":
                    terms = msgspec.json.decode(row["terms"], type=events.ItemSubmitted)
                    data = msgspec.structs.replace(
                        terms, item=row["item"], listing=row["listing"], on_site=row["on_site"]
                    )
                else:
                    data = msgspec.json.decode(row["payload"], type=events.TYPES[row["type"]])
                changes += self._judge(data, now)
            self._fold(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), changes)

    def listed(self, item: str) -> None:
        """The item's listing becomes known."""
        listing = self.items[item].listing
        self.unknown.discard(listing)
        known = self.facts(listing)
        assert known.listing is not None
        with self.parts.engine.begin() as connection:
            now, wall = clock.read(connection)
            outcome = decide(self.items[item], known.listing, known, MANUAL, now)
            assert outcome.item is not None
            self.items[item] = outcome.item
            self._fold(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), list(outcome.changes))

    def fire(self, item: str) -> None:
        """The item's next timer."""
        with self.parts.engine.begin() as connection:
            now, wall = clock.read(connection)
            due = self.items[item].next_due
            assert due is not None
            outcome = fire(self.items[item], self.facts(self.items[item].listing), MANUAL, due)
            assert outcome.item is not None
            self.items[item] = outcome.item
            self._fold(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), list(outcome.changes))

    def _judge(self, data: Any, now: dt.datetime) -> list[Change]:
        if isinstance(data, events.AccountNotice | events.ClaimFiled):
            return []
        outcome = decide(self.items.get(data.item), data, self.facts(data.listing), MANUAL, now)
        if outcome.item is not None:
            self.items[data.item] = outcome.item
        if outcome.refused is not None:
            self.refused.append(outcome.refused)
            return [Change("", now, outcome.refused)]  # type: ignore[arg-type]
        if isinstance(data, events.Decide):
            self.applied[data.item] += 1
        return list(outcome.changes)

    def _fold(self, tx: Tx, changes: list[Change]) -> None:
        fold = self._service.open(tx, [])
        for change in changes:
            number = next(self._numbers)
            kind = f"goodfaith.item.{change.kind}.v1" if change.kind else "goodfaith.command.refused.v1"
            text = events.encode(
                change.data, id=f"t.{number}", source="/test", type=kind, subject=None, time=change.at, key="k"
            )
            envelope = events.decode_envelope(text)
            data = events.decode_data(envelope)
            assert data is not None
            fold.apply(Incoming("verification.events", 0, number, "k", f"t.{number}", kind, data, envelope))
        fold.save()


@pytest.fixture(scope="module")
def judge(parts: Parts) -> Iterator[Judge]:
    judge = Judge(parts)
    yield judge
    judge.close()


@pytest.fixture(autouse=True)
def empty(parts: Parts) -> None:
    """Each test begins with an empty queue."""
    parts.query("delete from cases")
    parts.query("delete from admission_queue")


class Desk:
    """A reviewer at work."""

    def __init__(self, people: People, role: str = "reviewer") -> None:
        self.client = people.client
        self.account, self.headers = people.open(role)

    def call(
        self, method: str, path: str, body: Any = None, lease: str | None = None, **headers: str
    ) -> httpx.Response:
        extra = {"Lease-Token": lease} if lease is not None else {}
        return self.client.request(method, path, json=body, headers={**self.headers, **extra, **headers})

    def lease(self, **wanted: Any) -> dict[str, Any]:
        answer = self.call("POST", "/v1/review/lease", wanted)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def decide(self, item: str, decision: str = "uphold", **body: Any) -> httpx.Response:
        return self.call("POST", f"/v1/items/{item}/decision", {"decision": decision, **body})


def claim(people: People, judge: Judge, size: int = 1, reason: str = "improper_use", **account: Any) -> list[str]:
    """Items of a claim that wait for a person."""
    _, headers = people.open(**account)
    listings = [uuid.uuid4().hex for _ in range(size)]
    made = people.claim(headers, people.right(headers), *listings, reason=reason)
    judge.run()
    items = [item["item"] for item in made["items"]]
    assert {judge.items[item].state for item in items} == {S.UNDER_REVIEW}
    return items


def taken(lease: dict[str, Any]) -> list[str]:
    return [case["item"] for case in lease["cases"]]


# ---- in and out


def test_a_case_comes_is_leased_decided_and_goes(parts: Parts, people: People, judge: Judge) -> None:
    (item,) = claim(people, judge)
    ann, ben = Desk(people), Desk(people)
    lease = ann.lease()
    (case,) = lease["cases"]
    assert (case["item"], case["state"], case["reviewer"]) == (item, "UNDER_REVIEW", ann.account)
    assert case["decisions"] == ["uphold", "refuse"]
    assert "not_infringing" in lease["codes"]
    assert parts.query(
        "select count(*) from cases where lease is not null and encode(lease, 'escape') like 'gl%%'"
    ) == [(0,)]
    assert ben.lease() == {"token": None, "expires": None, "cases": [], "codes": {}}
    answer = ann.decide(item, lease=lease["token"])
    assert answer.status_code == 202, answer.text
    assert ann.call("GET", f"/v1/review/cases/{item}").json()["decided"] is True
    assert taken(ben.lease()) == []
    judge.run()
    assert judge.items[item].state is S.NOTIFIED
    problem(ann.call("GET", f"/v1/review/cases/{item}"), 404)
    (command,) = answer.json()["commands"]
    assert ann.call("GET", f"/v1/commands/{command['command']}").json()["status"] == "applied"
    assert parts.query("select kind, outcome, reviewer from review_decisions where item = %s", item) == [
        ("decision", "applied", ann.account)
    ]
    assert judge.items[item].revision == 2
    sent = parts.query("select by, role from commands where id = %s", command["command"])
    assert sent == [(ann.account, "reviewer")]


def test_what_is_withdrawn_leaves_the_queue_and_the_reviewers_hands(people: People, judge: Judge) -> None:
    _, headers = people.open()
    made = people.claim(headers, people.right(headers), uuid.uuid4().hex, reason="improper_use")
    judge.run()
    item = made["items"][0]["item"]
    ann = Desk(people)
    lease = ann.lease(claim=made["claim"])
    assert taken(lease) == [item]
    people.client.post(f"/v1/items/{item}/withdraw", json={"ground": "error"}, headers=headers)
    judge.run()
    found = problem(ann.decide(item, lease=lease["token"]), 409, field="lease")
    assert found["type"].endswith(":lease_lost")
    problem(ann.call("POST", "/v1/review/lease/heartbeat", lease=lease["token"]), 409)


def test_the_most_urgent_comes_first(parts: Parts, people: People, judge: Judge) -> None:
    (bulk,) = claim(people, judge)
    (standard,) = claim(people, judge)
    (express,) = claim(people, judge, good_faith=True)
    (late,) = claim(people, judge)
    parts.query("update cases set lane = 'bulk', rank = 3 where item = %s", bulk)
    judge.fire(late)  # the 24 hours are over
    ann = Desk(people)
    order = [late, express, standard, bulk]
    listed = ann.call("GET", "/v1/review/cases").json()["items"]
    assert [case["item"] for case in listed] == order
    assert [case["escalated"] for case in listed] == [True, False, False, False]
    assert [taken(ann.lease()) for _ in order] == [[item] for item in order]


def test_filters_and_pages(people: People, judge: Judge) -> None:
    items = [*claim(people, judge, 3), *claim(people, judge, 4, good_faith=True)]
    ann = Desk(people)
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = ann.call("GET", f"/v1/review/cases?limit=2{cursor and '&cursor='}{cursor}").json()
        found += [case["item"] for case in page["items"]]
        cursor = page["next"]
    assert (len(found), set(found)) == (7, set(items))
    assert len(ann.call("GET", "/v1/review/cases?lane=express&state=UNDER_REVIEW").json()["items"]) == 4
    assert ann.call("GET", "/v1/review/cases?state=COUNTERED").json()["items"] == []
    lease = ann.lease(lane="standard", count=2)
    assert len(taken(lease)) == 2
    mine = ann.call("GET", f"/v1/review/cases?reviewer={ann.account}").json()["items"]
    assert [case["item"] for case in mine] == taken(lease)
    assert len(ann.call("GET", "/v1/review/cases?free=true").json()["items"]) == 5
    for wanted in ({"reason": "design"}, {"right_type": "copyright"}, {"severity": "serious"}, {"claim": "c-none"}):
        assert taken(ann.lease(**wanted)) == []
    problem(ann.call("GET", "/v1/review/cases?cursor=WzEsMiwzXQ"), 400)
    problem(ann.call("POST", "/v1/review/lease", {"count": 51}), 422, field="count")
    problem(ann.call("POST", "/v1/review/lease", {"language": "xx"}), 422, field="language")


def test_a_whole_claim_in_one_request(parts: Parts, people: People, judge: Judge) -> None:
    items, other = claim(people, judge, 5), claim(people, judge, 2)
    ann, ben = Desk(people), Desk(people)
    lease = ann.lease(count=50)
    assert taken(lease) == items  # of one claim, whatever the count
    about = f"/v1/claims/{lease['cases'][0]['claim']}/decision"
    problem(ann.call("POST", about, {"decision": "uphold"}), 409, field="lease")
    problem(ben.call("POST", about, {"decision": "uphold", "lease": lease["token"]}), 409, field="lease")
    ann.call("POST", "/v1/review/lease/skip", {"items": items[:1]}, lease=lease["token"])
    body = {"decision": "refuse", "code": "not_infringing", "lease": lease["token"]}
    first = ann.call("POST", about, body, **{"Idempotency-Key": "once"})
    assert [one["item"] for one in first.json()["commands"]] == items[1:]
    again = ann.call("POST", about, body, **{"Idempotency-Key": "once"})
    assert (again.text, again.headers["idempotency-replayed"]) == (first.text, "true")
    problem(ann.call("POST", about, body), 409)
    judge.run()
    assert [judge.items[item].state for item in items] == [S.UNDER_REVIEW, *[S.REJECTED] * 4]
    assert {judge.items[item].code for item in items[1:]} == {"not_infringing"}
    assert {judge.items[item].state for item in other} == {S.UNDER_REVIEW}


# ---- leases


def test_a_lease_expires_is_taken_by_another_and_its_token_is_refused(
    parts: Parts, people: People, judge: Judge
) -> None:
    (item,) = claim(people, judge)
    ann, ben = Desk(people), Desk(people)
    old = ann.lease()
    parts.query("update cases set expires_wall = now() - interval '1 second' where item = %s", item)
    for call in (
        ann.decide(item, lease=old["token"]),
        ann.call("POST", "/v1/review/lease/heartbeat", lease=old["token"]),
        ann.call("DELETE", "/v1/review/lease", lease=old["token"]),
        ann.call("POST", "/v1/review/lease/skip", {}, lease=old["token"]),
        ann.call("POST", "/v1/review/lease/hand-over", {"to": ben.account}, lease=old["token"]),
    ):
        assert problem(call, 409)["type"].endswith(":lease_lost")
    new = ben.lease()
    assert taken(new) == [item]
    problem(ann.decide(item, lease=old["token"]), 409)
    assert ben.decide(item, lease=new["token"]).status_code == 202
    judge.run()
    assert judge.applied[item] == 1


def test_a_heartbeat_prolongs_and_not_for_ever(parts: Parts, people: People, judge: Judge) -> None:
    (item,) = claim(people, judge)
    ann = Desk(people)
    lease = ann.lease()
    parts.query("update cases set expires_wall = now() + interval '1 second' where item = %s", item)
    answer = ann.call("POST", "/v1/review/lease/heartbeat", lease=lease["token"])
    assert answer.status_code == 200
    assert answer.json()["expires"] >= lease["expires"]
    assert answer.json()["token"] is None
    long = f"interval '{parts.settings.review_hold_s} seconds'"
    parts.query(
        f"update cases set leased_wall = now() - {long}, expires_wall = now() + interval '9 seconds' where item = %s",
        item,
    )
    assert ann.call("POST", "/v1/review/lease/heartbeat", lease=lease["token"]).status_code == 200
    assert parts.query("select expires_wall < now() + interval '10 seconds' from cases where item = %s", item) == [
        (True,)
    ]


def put_under_audit(parts: Parts, item: str, outcome: str, state: str) -> None:
    """The item as verification's change would leave it: in this state, and a person is asked about it, blind."""
    parts.query(
        """update items set state = %s, last = (last::jsonb || jsonb_build_object('state', %s::text, 'audit',
            jsonb_build_object('outcome', %s::text, 'size', '0')))::text where id = %s""",
        state,
        state,
        outcome,
        item,
    )
    parts.query("update cases set state = %s where item = %s", state, item)


def test_nothing_that_a_reviewer_can_list_tells_what_an_audit_is_about(
    parts: Parts, people: People, judge: Judge
) -> None:
    items = claim(people, judge, 3)
    one, other, third = items
    put_under_audit(parts, one, "upheld_by_default", "APPEALED")
    parts.query("update items set state = 'APPEALED' where id = %s", third)  # a complaint, which is no secret
    parts.query("update cases set state = 'APPEALED' where item = %s", third)
    desk, operator = Desk(people), Desk(people, "operator")
    number = parts.query("select claim from items where id = %s", one)[0][0]

    def listed(path: str, who: Desk, **params: str) -> list[dict[str, Any]]:
        answer = who.client.get(path, params=params, headers=who.headers)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    for path in ("/v1/review/cases", f"/v1/claims/{number}/items"):
        name = "item" if "review" in path else "id"
        asked = {"claim": number} if "review" in path else {}
        assert {row[name]: row["state"] for row in listed(path, desk, **asked)} == {
            one: "UNDER_REVIEW",
            other: "UNDER_REVIEW",
            third: "APPEALED",
        }
        assert {row[name] for row in listed(path, desk, state="APPEALED", **asked)} == {third}
        assert {row[name] for row in listed(path, desk, state="UNDER_REVIEW", **asked)} == {one, other}
    assert {row["id"] for row in listed(f"/v1/claims/{number}/items", operator, state="APPEALED")} == {one, third}
    assert desk.call("GET", f"/v1/claims/{number}").json()["states"] == {"UNDER_REVIEW": 2, "APPEALED": 1}
    assert operator.call("GET", f"/v1/claims/{number}").json()["states"] == {"UNDER_REVIEW": 1, "APPEALED": 2}
    put_under_audit(parts, third, "restored_by_default", "APPEALED")
    assert number not in {row["id"] for row in listed("/v1/claims", desk, state="APPEALED")}
    assert number in {row["id"] for row in listed("/v1/claims", operator, state="APPEALED")}
    with parts.engine.begin() as connection:
        assert judged.audited(connection, [number, "c-none"]) == {number}
    assert {row["due"] for row in listed("/v1/review/cases", desk, claim=number) if row["blind"]} == {None}
    # what is leased together looks alike, and an outcome cannot be asked for
    assert desk.lease(state="APPEALED", claim=number, count=5)["cases"] == []
    assert set(taken(desk.lease(claim=number, count=5))) == {one, other, third}


def test_a_stolen_token_is_of_no_use(people: People, judge: Judge) -> None:
    items = claim(people, judge, 2)
    ann, ben, operator = Desk(people), Desk(people), Desk(people, "operator")
    mine, theirs = ann.lease(), ben.lease()
    assert taken(mine) + taken(theirs) == items
    for thief in (ben, operator):
        problem(thief.decide(items[0], lease=mine["token"]), 409, field="lease")
        problem(thief.call("POST", "/v1/review/lease/heartbeat", lease=mine["token"]), 409)
        problem(thief.call("DELETE", "/v1/review/lease", lease=mine["token"]), 409)
    problem(ann.decide(items[1], lease=mine["token"]), 409, field="lease")  # a lease is on its own cases only
    problem(ann.decide(items[0], lease="gl_guess"), 409, field="lease")
    problem(ann.decide(items[0]), 409, field="lease")
    problem(ann.call("POST", "/v1/review/lease/heartbeat"), 409)
    assert ann.decide(items[0], lease=mine["token"]).status_code == 202


def test_given_back_is_offered_at_once_and_skipped_to_others_only(parts: Parts, people: People, judge: Judge) -> None:
    (item,) = claim(people, judge)
    ann, ben = Desk(people), Desk(people)
    lease = ann.lease()
    assert ann.call("DELETE", "/v1/review/lease", lease=lease["token"]).status_code == 204
    lease = ann.lease()
    assert taken(lease) == [item]
    problem(ann.call("POST", "/v1/review/lease/skip", {"items": [item, "i-x"]}, lease=lease["token"]), 409)
    assert ann.call("POST", "/v1/review/lease/skip", {}, lease=lease["token"]).status_code == 204
    assert taken(ann.lease()) == []
    assert taken(ben.lease()) == [item]
    parts.query("update review_skips set until_wall = now()")
    parts.query("update cases set expires_wall = now()")
    with parts.engine.begin() as connection:
        review_store.forget_skips(connection)
    assert parts.query("select count(*) from review_skips") == [(0,)]
    assert taken(ann.lease()) == [item]


def test_hand_over(parts: Parts, people: People, judge: Judge) -> None:
    items = claim(people, judge, 2)
    ann, ben, cid = Desk(people), Desk(people), Desk(people)
    holder, _ = people.open()
    lease = ann.lease(count=2)
    for to in (holder, "a-none", ann.account):
        problem(ann.call("POST", "/v1/review/lease/hand-over", {"to": to}, lease=lease["token"]), 422, field="to")
    answer = ann.call(
        "POST", "/v1/review/lease/hand-over", {"to": ben.account, "items": items[1:]}, lease=lease["token"]
    )
    assert answer.status_code == 204
    problem(ann.decide(items[1], lease=lease["token"]), 409)
    assert ann.decide(items[0], lease=lease["token"]).status_code == 202
    assert ann.call("GET", f"/v1/review/cases/{items[1]}").json()["assignee"] == ben.account
    assert taken(cid.lease()) == []
    claim(people, judge, good_faith=True)  # more urgent, and yet
    assert taken(ben.lease()) == items[1:]
    # nobody waits for one who does not come
    parts.query(
        "update cases set lease = null, reviewer = null, expires_wall = null, assignee = %s, assigned_wall = now() where item = %s",
        ben.account,
        items[1],
    )
    assert items[1] in taken(cid.lease()) + taken(cid.lease())


def test_one_reviewer_does_not_take_all(people: People, judge: Judge) -> None:
    for _ in range(5):
        claim(people, judge, 50)
    ann = Desk(people)
    for _ in range(4):
        assert len(taken(ann.lease(count=50))) == 50
    assert problem(ann.call("POST", "/v1/review/lease", {}), 409)["type"].endswith(":too_many_leases")


# ---- stale decisions


@pytest.mark.parametrize("batches", [1, 2])
def test_a_case_that_left_and_came_back_is_another(parts: Parts, people: People, judge: Judge, batches: int) -> None:
    _, headers = people.open()
    right = people.right(headers)
    made = people.claim(headers, right, uuid.uuid4().hex, reason="improper_use")
    judge.run()
    item = made["items"][0]["item"]
    ann, operator = Desk(people), Desk(people, "operator")
    lease = ann.lease(claim=made["claim"])
    seen = lease["cases"][0]["revision"]
    for status in ("expired", "active"):
        assert (
            people.client.patch(f"/v1/rights/{right}", json={"status": status}, headers=people.operator).status_code
            == 200
        )
        parts.tell_rights()
        if status == "active" or batches == 2:
            judge.run()
    assert judge.items[item].state is S.UNDER_REVIEW
    problem(ann.decide(item, lease=lease["token"]), 409, field="lease")
    # without a lease it is the item's owner who notices
    answer = operator.decide(item, "refuse", code="not_infringing", revision=seen)
    assert answer.status_code == 202
    judge.run()
    told = operator.call("GET", f"/v1/commands/{answer.json()['commands'][0]['command']}").json()
    assert (told["status"], told["code"]) == ("refused", "stale")
    assert parts.query("select outcome from review_decisions where item = %s", item) == [("refused",)]
    # and the case is free again
    again = ann.lease(claim=made["claim"])
    problem(ann.decide(item, lease=again["token"], revision=seen), 409, field="revision")
    assert ann.decide(item, lease=again["token"]).status_code == 202
    judge.run()
    assert judge.items[item].state is S.NOTIFIED


# ---- four eyes, conflicts, complaints


def test_four_eyes(parts: Parts, people: People, judge: Judge) -> None:
    (item,) = claim(people, judge, reason="counterfeit")
    ann, ben = Desk(people), Desk(people)
    lease = ann.lease()
    first = ann.decide(item, lease=lease["token"])
    assert (first.json()["commands"], first.json()["proposed"]) == ([], [item])
    judge.run()
    assert judge.items[item].state is S.UNDER_REVIEW
    assert taken(ann.lease()) == []
    problem(ann.decide(item, lease=lease["token"]), 409)
    lease = ben.lease()
    assert taken(lease) == [item]
    assert ann.account not in str(lease)  # nobody is shown who said what before
    assert len(ben.decide(item, lease=lease["token"]).json()["commands"]) == 1
    judge.run()
    assert judge.items[item].state is S.NOTIFIED
    assert parts.query("select kind, agreed from review_decisions where item = %s order by id", item) == [
        ("proposal", True),
        ("decision", True),
    ]


def test_where_two_differ_a_third_decides(parts: Parts, people: People, judge: Judge) -> None:
    (item,) = claim(people, judge, reason="counterfeit")
    desks = [Desk(people) for _ in range(3)]
    for desk, decision in zip(desks, ("uphold", "refuse", "refuse"), strict=True):
        lease = desk.lease()
        assert taken(lease) == [item]
        assert desk.decide(item, decision, lease=lease["token"], code="not_infringing").status_code == 202
        judge.run()
        assert all(taken(before.lease()) == [] for before in desks[: desks.index(desk) + 1])
    assert judge.items[item].state is S.REJECTED
    assert parts.query("select kind, agreed from review_decisions where item = %s order by id", item) == [
        ("proposal", False),
        ("proposal", True),
        ("decision", None),
    ]


def test_conflicts_of_interest(people: People, judge: Judge) -> None:
    (item,) = claim(people, judge)
    ann, ben, operator = Desk(people), Desk(people), Desk(people, "operator")
    case = ann.lease()
    parties = case["cases"][0]
    assert ann.call("PUT", "/v1/review/conflicts", {"accounts": [parties["complainant"]]}).json() == {
        "reviewer": ann.account,
        "declared": [parties["complainant"]],
        "set_by_operator": [],
    }
    problem(ann.decide(item, lease=case["token"]), 409)  # the lease has ended with it
    assert taken(ann.lease()) == []
    problem(ben.call("PUT", "/v1/review/conflicts", {"accounts": [], "reviewer": ann.account}), 403, field="reviewer")
    problem(operator.call("PUT", "/v1/review/conflicts", {"accounts": [], "reviewer": "a-none"}), 422, field="reviewer")
    for desk, who in ((operator, ben), (operator, operator)):
        answer = desk.call("PUT", "/v1/review/conflicts", {"accounts": [parties["seller"]], "reviewer": who.account})
        assert answer.status_code == 200
    assert ben.call("PUT", "/v1/review/conflicts", {"accounts": []}).json()["set_by_operator"] == [parties["seller"]]
    assert taken(ben.lease()) == []
    found = problem(operator.decide(item), 403)
    assert found["type"].endswith(":conflict_of_interest")
    cid = Desk(people)
    lease = cid.lease()
    problem(cid.call("POST", "/v1/review/lease/hand-over", {"to": ann.account}, lease=lease["token"]), 422, field="to")
    assert ann.call("PUT", "/v1/review/conflicts", {"accounts": []}).json()["declared"] == []
    assert cid.call("DELETE", "/v1/review/lease", lease=lease["token"]).status_code == 204
    assert taken(ann.lease()) == [item]


def test_a_complaint_goes_to_who_has_not_decided_before(parts: Parts, people: People, judge: Judge) -> None:
    _, headers = people.open()
    made = people.claim(headers, people.right(headers), uuid.uuid4().hex, reason="improper_use")
    judge.run()
    item = made["items"][0]["item"]
    ann, ben, operator = Desk(people), Desk(people), Desk(people, "operator")
    ann.decide(item, "refuse", lease=ann.lease()["token"], code="not_infringing")
    judge.run()
    answer = people.client.post(f"/v1/items/{item}/complaint", json={}, headers=headers)
    assert answer.status_code == 202, answer.text
    judge.run()
    assert judge.items[item].state is S.APPEALED
    assert taken(ann.lease()) == []
    lease = ben.lease()
    (case,) = lease["cases"]
    assert (case["state"], case["decisions"]) == ("APPEALED", ["confirm", "reverse"])
    problem(ben.call("POST", "/v1/review/lease/hand-over", {"to": ann.account}, lease=lease["token"]), 422, field="to")
    problem(ben.decide(item, "reverse", lease=lease["token"]), 422, field="code")
    code = next(iter(lease["codes"]))
    assert ben.decide(item, "reverse", lease=lease["token"], code=code).status_code == 202
    judge.run()
    assert judge.items[item].state is S.UNDER_REVIEW
    assert parts.query("select reviewer, decision, appeal from review_decisions where item = %s order by id", item) == [
        (ann.account, "refuse", "reverse"),
        (ben.account, "reverse", None),
    ]
    (day,) = ann.call("GET", "/v1/review/figures").json()["reviewers"]
    assert (day["appealed"], day["confirmed"], day["confirmation"]) == (1, 0, 0.0)
    # it is under review again: who decided then may decide now, and no complaint is left to be partial about
    assert taken(operator.lease()) == [item]


# ---- notes and figures


def test_notes(people: People, judge: Judge) -> None:
    (item,) = claim(people, judge)
    ann, ben = Desk(people), Desk(people)
    for text in ("looks like the real one", "line\nby line"):
        assert ann.call("POST", f"/v1/review/cases/{item}/notes", {"text": text}).status_code == 201
    notes = ben.call("GET", f"/v1/review/cases/{item}/notes?limit=1").json()
    assert [(note["text"], note["by"]) for note in notes["items"]] == [("looks like the real one", ann.account)]
    notes = ben.call("GET", f"/v1/review/cases/{item}/notes?cursor={notes['next']}").json()
    assert ([note["text"] for note in notes["items"]], notes["next"]) == (["line\nby line"], None)
    problem(ann.call("POST", "/v1/review/cases/i-none/notes", {"text": "x"}), 404)
    for text in ("", "x" * 2001, "\u0000", "a\rb"):
        problem(ann.call("POST", f"/v1/review/cases/{item}/notes", {"text": text}), 422, field="text")


def test_figures(parts: Parts, people: People, judge: Judge) -> None:
    plain, severe = claim(people, judge, 2), claim(people, judge, reason="counterfeit")
    ann, ben, operator = Desk(people), Desk(people), Desk(people, "operator")
    lease = ann.lease(reason="improper_use", count=2)
    ann.decide(plain[0], lease=lease["token"])
    for desk in (ann, ben):
        lease = desk.lease(reason="counterfeit")
        parts.query("update cases set leased_wall = now() - interval '60 seconds' where item = %s", severe[0])
        assert desk.decide(severe[0], lease=lease["token"]).status_code == 202
    operator.decide(plain[1])
    judge.run()
    parts.query("update review_decisions set appeal = 'confirm' where item = %s", plain[0])
    (day,) = ann.call("GET", "/v1/review/figures").json()["reviewers"]
    assert (day["reviewer"], day["decided"], day["proposed"], day["agreement"]) == (ann.account, 1, 1, 1.0)
    assert (day["confirmation"], day["appealed"], day["without_lease"]) == (1.0, 1, 0)
    assert 29 < day["median_s"] < 40
    problem(ann.call("GET", f"/v1/review/figures?reviewer={ben.account}"), 403)
    (day,) = operator.call("GET", f"/v1/review/figures?reviewer={operator.account}").json()["reviewers"]
    assert (day["decided"], day["without_lease"], day["median_s"]) == (1, 1, None)
    everyone: list[str] = []
    cursor = ""
    while cursor is not None:
        page = operator.call("GET", f"/v1/review/figures?limit=2{cursor and '&cursor='}{cursor}").json()
        everyone += [one["reviewer"] for one in page["reviewers"]]
        cursor = page["next"]
    assert {ann.account, ben.account, operator.account} <= set(everyone)
    assert len(everyone) == len(set(everyone))
    problem(ann.call("GET", "/v1/review/figures?since=2020-01-01&until=2026-01-01"), 422, field="until")
    claim(people, judge)
    depth = ann.call("GET", "/v1/review/figures").json()["queue"]
    assert [(one["state"], one["lane"], one["free"]) for one in depth] == [("UNDER_REVIEW", "standard", 1)]
    service = Intake(parts.settings, background=False)
    service.housekeeping.look_at_the_queue()
    service.close()
    shown = metrics.CASES.labels("UNDER_REVIEW", "standard", "free")._value.get()  # type: ignore[attr-defined]
    assert shown == 1


# ---- together


def test_nobody_decides_what_another_decides(parts: Parts, people: People, judge: Judge) -> None:
    """Eight people at once on one queue, who lease, decide, skip, hand over, lose leases and repeat requests: no case has
    two holders, none is decided twice, and all come to an end."""
    items = [item for size in (1, 1, 2, 3, 5, 8) for item in claim(people, judge, size)]
    items += [item for _ in range(20) for item in claim(people, judge, reason="counterfeit")]
    desks = [Desk(people) for _ in range(8)]
    holders: dict[str, str] = {}
    lock = threading.Lock()
    doubled: list[str] = []
    done = threading.Event()

    def work(desk: Desk, seed: int) -> None:
        dice = random.Random(seed)
        while not done.is_set():
            lease = desk.lease(count=dice.choice((1, 1, 3)))
            mine = taken(lease)
            with lock:
                doubled.extend(item for item in mine if item in holders)
                holders.update(dict.fromkeys(mine, desk.account))
            if not mine:
                done.wait(0.05)
                continue
            act = dice.random()

            def let_go(some: list[str]) -> None:
                # before the request, for it is free the moment that the database says so
                with lock:
                    for item in some:
                        holders.pop(item, None)

            if act < 0.1:
                let_go(mine)
                desk.call("DELETE", "/v1/review/lease", lease=lease["token"])
            elif act < 0.2:
                let_go(mine)
                to = dice.choice([other.account for other in desks if other is not desk])
                answer = desk.call("POST", "/v1/review/lease/hand-over", {"to": to}, lease=lease["token"])
                if answer.status_code == 422:  # the other has had its say
                    desk.call("DELETE", "/v1/review/lease", lease=lease["token"])
            else:
                desk.call("POST", "/v1/review/lease/heartbeat", lease=lease["token"])
                for item in mine:
                    body = {
                        "decision": dice.choice(("uphold", "refuse")),
                        "code": "not_infringing",
                        "lease": lease["token"],
                    }
                    key = {"Idempotency-Key": uuid.uuid4().hex}
                    thief = dice.choice([other for other in desks if other is not desk])
                    assert thief.decide(item, **body).status_code in (409, 403)
                    let_go([item])
                    sent = [pool.submit(desk.call, "POST", f"/v1/items/{item}/decision", body, **key) for _ in range(2)]
                    answers = [one.result() for one in sent]
                    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
                    assert len({answer.text for answer in answers}) == 1

    with concurrent.futures.ThreadPoolExecutor(16) as pool, concurrent.futures.ThreadPoolExecutor(8) as people_:
        working = [people_.submit(work, desk, seed) for seed, desk in enumerate(desks)]
        until = time.monotonic() + PATIENCE_S
        try:
            while parts.query("select count(*) from cases") != [(0,)]:
                assert time.monotonic() < until, parts.query("select * from cases")
                assert not any(one.done() for one in working), [one.result() for one in working if one.done()]
                judge.run()
        finally:
            done.set()
        for one in working:
            one.result()
    assert doubled == []
    assert {item: judge.applied[item] for item in items} == dict.fromkeys(items, 1)
    assert [refused for refused in judge.refused if refused.item in items] == []
    for item in items:
        assert judge.items[item].state in (S.NOTIFIED, S.REJECTED)
        looks = parts.query("select reviewer, kind, decision from review_decisions where item = %s order by id", item)
        assert len({reviewer for reviewer, _, _ in looks}) == len(looks)
        assert [kind for _, kind, _ in looks] == ["proposal"] * (len(looks) - 1) + ["decision"]
        if judge.items[item].severity == "serious" and judge.items[item].state is S.NOTIFIED:
            assert sum(decision == "uphold" for _, _, decision in looks) >= 2


def test_a_group_of_requests_shares_a_transaction_and_no_decision(people: People, judge: Judge) -> None:
    """Many at once for one item, under one lease and different keys: one is accepted."""
    (item,) = claim(people, judge)
    ann = Desk(people)
    lease = ann.lease()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ann.decide(item, lease=lease["token"]), range(16)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 15}
    judge.run()
    assert judge.applied[item] == 1


def test_leases_are_given_quickly_from_a_long_queue(parts: Parts, people: People, judge: Judge) -> None:
    """A backlog: the most urgent of 200,000 without reading them all, whatever the filter's luck."""
    (like,) = claim(people, judge)
    parts.query(
        """insert into cases select 'i-big' || n, 'c-big' || n / 3, 'l' || n, 'a-1', 'a-1', 's-1', 'trademark',
            case when n = 150000 then 'rare' else 'improper_use' end, 'general', 'ipp', 'ipp-2026-11', 'standard',
            'UNDER_REVIEW', null, 1, 1, 2, now() + n * interval '1 second', now() from generate_series(1, 200000) as n"""
    )
    # items and claims of those that are leased below, like one that was filed
    leased = [*range(1, 21), 150_000]
    parts.query(
        """insert into claims select (jsonb_populate_record(c, jsonb_build_object('id', 'c-big' || n))).* from claims c,
            (select distinct n / 3 as n from unnest(%s::int[]) as n) as n where c.id = (select claim from items where id = %s)""",
        leased,
        like,
    )
    parts.query(
        """insert into items select (jsonb_populate_record(i,
            jsonb_build_object('id', 'i-big' || n, 'claim', 'c-big' || n / 3, 'listing', 'l' || n))).*
        from items i, unnest(%s::int[]) as n where i.id = %s""",
        leased,
        like,
    )
    parts.query("analyze cases")
    ann = Desk(people)
    began = time.monotonic()
    assert len(parts.query("select * from cases order by rank, due")) > 200_000
    whole = time.monotonic() - began
    began = time.monotonic()
    for _ in range(20):
        assert len(taken(ann.lease())) == 1
    assert time.monotonic() - began < 20 * whole, "each costs less than to read the whole queue"
    began = time.monotonic()
    assert len(taken(ann.lease(reason="rare"))) == 1
    assert time.monotonic() - began < 5 * whole


def test_a_right_accepted_while_the_listing_is_looked_up_is_told_again(
    parts: Parts, people: People, judge: Judge
) -> None:
    _, headers = people.open()
    right = people.right(headers, proof=None)
    listing = uuid.uuid4().hex
    judge.unknown.add(listing)
    item = people.claim(headers, right, listing)["items"][0]["item"]
    judge.run()
    assert people.decide(people.operator, right).json() == {"changed": True}
    parts.tell_rights()
    judge.run()
    assert judge.items[item].state is S.RECEIVED
    judge.listed(item)
    assert (judge.items[item].state, judge.items[item].missing) == (S.NEEDS_INFO, ("right", "ownership"))
    parts.tell_rights()
    judge.run()
    assert judge.items[item].state is S.UNDER_REVIEW
