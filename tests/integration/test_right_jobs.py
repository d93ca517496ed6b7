"""Changes of rights while claims are being filed, decided and settled: nobody is held up, and every open item is told."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.kernel import requests, right_jobs, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.ids import new_claim_ids
from services.intake.kernel.listings import named_by
from services.intake.registry import authority_store
from services.intake.registry import store as registry_store
from shared import site_links
from shared.refusals import Refused
from tests.integration.intake_parts import PARTITIONS, Parts, People, wait
from tests.integration.test_intake_http import body, problem
from tests.integration.test_intake_registry import in_, right, told

pytestmark = pytest.mark.stack
OPERATOR = Account("a-operator", "operator", True, False, True)


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    yield parts
    parts.close()


def filing(account: str, right: str, *listings: str) -> Filing:
    """A claim, checked."""
    me = Account(account, "holder", True, False, True)
    links = [f"https://market.example/items/{name}" for name in listings]
    body = requests.SubmitClaim(right=right, reason="counterfeit", listings=links)
    return Filing(
        me,
        None,
        account,
        b"",
        "submit_claim",
        body,
        "http",
        listings=named_by(body.listings, site_links.of(("market.example/items/{id}",))).listings,
        rules=check_claim(body, me),
    )


def file(connection: sa.Connection, *filings: Filing) -> None:
    """Accept filings as intake does."""
    now, wall = store.enter_admission(connection)
    results = filing_store.file(connection, filings, now, wall, PARTITIONS)
    assert all(isinstance(result, Filed) for result in results), results


def changes(parts: Parts, id: str) -> list[str]:
    """The history of a right, oldest first."""
    return [kind for (kind,) in parts.query("select kind from right_changes where right_id = %s order by id", id)]


def test_no_change_of_a_right_waits_for_intake(parts: Parts, people: People) -> None:
    """A request in intake's transaction never ends; each change is made all the same, and takes no part of intake."""
    owner, owners = people.open()
    heir, _ = people.open()
    agent, _ = people.open()
    made, waiting = right(people, owners, expires_at=in_(days=100)), right(people, owners, proof=None)["id"]
    mine = Account(owner, "holder", True, False, True)
    yes = requests.Consent(accept=True)

    def theirs(account: str) -> Account:
        return Account(account, "holder", True, False, True)

    id = made["id"]
    works: list[Callable[[sa.Connection], Any]] = [
        lambda c: registry_store.change_right(c, id, requests.ChangeRight(status="expired"), mine, PARTITIONS),
        lambda c: registry_store.renew_right(
            c, id, requests.RenewRight(expires_at=domain_time(days=200)), mine, PARTITIONS
        ),
        lambda c: authority_store.ask(c, owner, requests.Authorise(agent=agent), PARTITIONS),
        lambda c: authority_store.answer(
            c, authority_store.list_authorisations(c, mine, "", 1)[0]["id"], yes, theirs(agent), PARTITIONS
        ),
        lambda c: authority_store.end(
            c, authority_store.list_authorisations(c, mine, "", 1)[0]["id"], mine, "ended", PARTITIONS
        ),
        lambda c: registry_store.decide_right(
            c, waiting, requests.DecideRight(accept=True, seen="register"), OPERATOR, PARTITIONS
        ),
        lambda c: registry_store.assign_right(c, id, requests.AssignRight(to=heir), mine, PARTITIONS),
        lambda c: registry_store.answer_offer(c, id, yes, theirs(heir), PARTITIONS),
    ]
    with parts.engine.begin() as filing:
        store.enter_admission(filing)
        for work in works:
            with parts.engine.begin() as connection:
                connection.exec_driver_sql("set local lock_timeout = '2s'")
                work(connection)
                locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = %s and pid = pg_backend_pid()"
                assert connection.exec_driver_sql(locks, (store.ADMISSION_LOCK,)).scalar() == 0
    assert changes(parts, id) == ["registered", "expired", "renewed", "offered", "assigned"]


def domain_time(**span: float) -> Any:
    """A time from now."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(**span)


def test_a_change_that_changes_nothing_writes_nothing(parts: Parts, people: People) -> None:
    _, headers = people.open()
    made = right(people, headers, expires_at=in_(days=100), registrant="Ada Ltd")
    claim = people.claim(headers, made["id"], uuid.uuid4().hex)["claim"]
    url = f"/v1/rights/{made['id']}"
    ((version,),) = parts.query("select xmin::text from rights where id = %s", made["id"])
    for asked in ({"status": "active"}, {"status": "active", "expires_at": made["expires_at"]}):
        assert people.client.patch(url, json=asked, headers=headers).json() == {"changed": False}
    assert people.client.post(f"{url}/name", json={"registrant": "Ada Ltd"}, headers=headers).json() == {
        "changed": False
    }
    assert parts.query("select xmin::text from rights where id = %s", made["id"]) == [(version,)]
    assert (changes(parts, made["id"]), told(parts, claim)) == (["registered"], [])
    # a later end of a right in force means nothing to its items
    assert people.client.post(f"{url}/renewal", json={"expires_at": in_(days=200)}, headers=headers).status_code == 200
    assert parts.query("select count(*) from right_jobs where right_id = %s", made["id"]) == [(0,)]


def test_settled_items_are_left_out_unless_something_may_reopen_them(parts: Parts, people: People) -> None:
    _, headers = people.open()
    made = right(people, headers)
    states = ("RECEIVED", "UPHELD", "RESTORED", "REJECTED", "DUPLICATE", "APPEALED", "WITHDRAWN", "UPHELD_BY_DEFAULT")
    items = people.claim(headers, made["id"], *(uuid.uuid4().hex for _ in states))["items"]
    named = {item["item"]: state for item, state in zip(items, states, strict=True)}
    for item, state in named.items():
        parts.query("update items set state = %s where id = %s", state, item)
    countered = next(item for item, state in named.items() if state == "UPHELD_BY_DEFAULT")

    def change(status: str) -> set[str]:
        """States of the items that are told."""
        parts.query("delete from admission_queue where kind = 'command'")
        answer = people.client.patch(f"/v1/rights/{made['id']}", json={"status": status}, headers=people.operator)
        assert answer.json() == {"changed": True}
        parts.tell_rights()
        return {
            named[item]
            for (item,) in parts.query("select item from admission_queue where type like '%%change_right%%'")
        }

    assert change("expired") == {"RECEIVED", "DUPLICATE", "APPEALED"}
    # a counter is on its way: what the read model says of the item is no longer true
    parts.query(
        """insert into commands (id, claim, item, kind, by, role, accepted_at)
        select 'k-' || id, claim, id, 'counter', 's', 'seller', now() from items where id = %s""",
        countered,
    )
    assert change("active") == {"RECEIVED", "DUPLICATE", "APPEALED", "UPHELD_BY_DEFAULT"}
    parts.query("update commands set status = 'applied' where item = %s", countered)
    # commands that told of earlier changes are never answered, and reopen nothing
    assert change("lost") == {"RECEIVED", "DUPLICATE", "APPEALED"}


def test_many_items_are_told_a_bounded_number_at_a_time(parts: Parts, people: People) -> None:
    account, headers = people.open()
    made = right(people, headers)["id"]
    _, others = people.open()
    with parts.engine.begin() as connection:
        for number in range(12):
            file(connection, filing(account, made, *(f"{uuid.uuid4().hex}-{place}" for place in range(100 + number))))
    count = sum(100 + number for number in range(12))
    people.client.patch(f"/v1/rights/{made}", json={"status": "expired"}, headers=headers)
    with parts.engine.begin() as connection:
        right_jobs.pick_up(connection)
    steps: list[int] = []

    def step() -> bool:
        with parts.engine.begin() as connection:
            told = right_jobs.tell_next(connection, PARTITIONS)
        if told is not None:
            steps.append(told)
        return told is not None

    wait(step)
    # it is in force again while others are still to be told: those already told are told again, and no one is left out
    people.client.patch(f"/v1/rights/{made}", json={"status": "active"}, headers=headers)
    # another right's job does not wait for the end of this one
    small = right(people, others)["id"]
    claim = people.claim(others, small, uuid.uuid4().hex)["claim"]
    people.client.patch(f"/v1/rights/{small}", json={"status": "lost"}, headers=others)
    with parts.engine.begin() as connection:
        assert right_jobs.pick_up(connection) == 1
    wait(
        lambda: (
            [step(), parts.query("select count(*) from admission_queue where claim = %s and kind = 'command'", claim)][
                1
            ]
            == [(1,)]
        )
    )
    assert sum(steps) < count
    parts.tell_rights()
    assert max(steps) <= right_jobs.ITEMS
    rows = parts.query(
        """select c.item, array_agg(d.payload::json->>'status' order by d.id) from admission_queue d join commands c
        on c.id = d.payload::json->>'command' where c.kind = 'change_right' and d.complainant = %s group by 1""",
        account,
    )
    assert len(rows) == count
    assert {statuses[-1] for _, statuses in rows} == {"active"}


def test_a_claim_that_is_being_filed_meanwhile_is_told_too(parts: Parts, people: People) -> None:
    """It has read the right before the change, and is committed after it."""
    account, headers = people.open()
    made = right(people, headers)["id"]
    with parts.engine.connect() as connection:
        with connection.begin():
            now, wall = store.enter_admission(connection)
            assert store.rights(connection, [made])[made].status == "active"
            assert (
                people.client.patch(f"/v1/rights/{made}", json={"status": "lost"}, headers=headers).status_code == 200
            )
            # other transactions come and go meanwhile
            parts.query("select pg_current_xact_id()")
            with parts.engine.begin() as job:
                assert right_jobs.pick_up(job) == 1
            with parts.engine.begin() as job:
                assert right_jobs.tell_next(job, PARTITIONS) is None
            # what intake writes of a claim, by what it has read above
            claim = _filed_by_what_was_read(connection, account, made, now, wall)
        parts.tell_rights()
    assert told(parts, claim) == ["lost"]
    assert parts.query(
        "select payload::json->>'status' from admission_queue where claim = %s and kind = 'submit'", claim
    ) == [(None,)]


def _filed_by_what_was_read(connection: sa.Connection, account: str, right: str, now: Any, wall: Any) -> str:
    ms = store.wall_ms(wall)
    claim, (item,) = new_claim_ids(ms, 1)
    connection.exec_driver_sql(
        """insert into claims (id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel,
            accepted_at, terms, told_partition)
        values (%s, %s, %s, %s, 'trademark', 'counterfeit', 'ipp', 'standard', 1, 'http', %s, '{}', 0)""",
        (claim, account, account, right, now),
    )
    connection.exec_driver_sql(
        "insert into items (id, claim, listing, on_site, link, changed_at) values (%s, %s, 'l', true, 'l', %s)",
        (item, claim, now),
    )
    connection.exec_driver_sql(
        """insert into admission_queue (kind, lane, complainant, partition, claim, item, listing, accepted_at)
        values ('submit', 'standard', %s, 0, %s, %s, 'l', %s)""",
        (account, claim, item, now),
    )
    return claim


def test_a_job_from_another_cluster_is_picked_up_anew(parts: Parts, people: People) -> None:
    """A database restored from a dump: the new cluster's transactions have not come that far."""
    _, headers = people.open()
    made = right(people, headers)["id"]
    claim = people.claim(headers, made, uuid.uuid4().hex)["claim"]
    people.client.patch(f"/v1/rights/{made}", json={"status": "lost"}, headers=headers)
    parts.query("update right_jobs set after = '18446744073709551000'")
    assert told(parts, claim) == ["lost"]


def test_a_reviewers_decision_is_not_undone_by_a_request_under_way(parts: Parts, people: People) -> None:
    """The old owner's request finds its right in force, and comes to write once another account's was accepted."""
    for round in range(5):
        _, olds = people.open()
        _, news = people.open()
        number = str(3_000_000 + round)
        mine = right(people, olds, number=number)["id"]
        theirs = right(people, news, number=number)["id"]
        _, reviewers = people.open("reviewer")
        with ThreadPoolExecutor(2) as pool:
            with parts.engine.begin() as connection:
                accept = requests.DecideRight(accept=True, seen="register")
                registry_store.decide_right(connection, theirs, accept, Account("a-rev", "reviewer"), PARTITIONS)
                answers: list[Future[httpx.Response]] = [
                    pool.submit(people.client.patch, f"/v1/rights/{mine}", json={"status": status}, headers=olds)
                    for status in ("active", "expired")
                ]
                # both requests have come as far as they do before the decision is written
                wait(lambda: _waiting(parts) >= 2)
            statuses = [answer.result() for answer in answers]
        for answer in statuses:
            assert problem(answer, 403)["type"].endswith(":operators_only")
        states = [people.client.get(f"/v1/rights/{id}", headers=reviewers).json()["status"] for id in (mine, theirs)]
        assert states == ["lost", "active"]
        assert changes(parts, mine)[-1] == "lost"


def _waiting(parts: Parts) -> int:
    ((count,),) = parts.query(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(count)


def test_many_change_one_right_at_once(parts: Parts, people: People) -> None:
    """Owner, operator, register and heirs at once: no deadlock, and items hear what holds in the end."""
    account, headers = people.open()
    heir, heirs = people.open()
    made = right(people, headers, expires_at=in_(days=10))["id"]
    claim = people.claim(headers, made, uuid.uuid4().hex)["claim"]
    url = f"/v1/rights/{made}"
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", url, {"status": "expired"}),
        ("PATCH", url, {"status": "active"}),
        ("POST", f"{url}/assignment", {"to": heir}),
        ("POST", f"{url}/assignment", {"to": account}),
        ("POST", f"{url}/name", {"registrant": uuid.uuid4().hex}),
    ]
    asked += [("POST", f"{url}/renewal", {"expires_at": in_(days=20 + days)}) for days in range(10)]
    start = threading.Barrier(8)
    done: list[int] = []
    consents: list[int] = []

    def run(turn: int) -> None:
        start.wait()
        for number in range(12):
            method, path, body = asked[(turn * 5 + number * 7) % len(asked)]
            done.append(people.client.request(method, path, json=body, headers=people.operator).status_code)
            if path.endswith("/assignment"):
                consenting = heirs if body["to"] == heir else headers
                answer = people.client.post(f"{path}/consent", json={"accept": True}, headers=consenting)
                consents.append(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(run, turn) for turn in range(8)]:
            future.result()
    assert set(done) <= {200, 422}
    assert done.count(200) > 10
    # others were quicker: nothing is offered any more, or it is offered to the other one
    assert set(consents) <= {200, 403, 404, 409}
    assert 200 in consents
    ((owner, status),) = parts.query("select owner, status from rights where id = %s", made)
    heard = told(parts, claim)
    assert (heard or ["active"])[-1] == (status if owner == account else "lost")


def test_authorisations_that_end_at_once_leave_no_item_covered(parts: Parts, people: People) -> None:
    """Each sees the other still in force, were they not to exclude one another."""
    owner, owners = people.open()
    _, agents = people.open()
    made = right(people, owners)["id"]
    mine = Account(owner, "holder", True, False, True)
    grants = [people.authorise(owners, agents)["id"] for _ in range(2)]
    claim = people.claim(agents, made, uuid.uuid4().hex, principal=owner)["claim"]

    def end(id: str) -> None:
        with parts.engine.begin() as connection:
            authority_store.end(connection, id, mine, "ended", PARTITIONS)

    with ThreadPoolExecutor(1) as pool:
        with parts.engine.begin() as connection:
            authority_store.end(connection, grants[0], mine, "ended", PARTITIONS)
            second = pool.submit(end, grants[1])
            wait(lambda: _waiting(parts) or second.done())
        second.result()
    assert told(parts, claim) == ["unauthorised"]


# ---- who may


def test_nobody_decides_about_an_account_it_has_to_do_with(parts: Parts, people: People) -> None:
    owner, owners = people.open()
    rival, rivals = people.open()
    reviewer, reviewers = people.open("reviewer")
    number = "4000001"
    mine = right(people, owners, number=number)["id"]
    theirs = right(people, rivals, number=number)["id"]
    verified = {"identity_verified": False}

    def conflict(*accounts: str) -> None:
        declared = people.client.put("/v1/review/conflicts", json={"accounts": list(accounts)}, headers=reviewers)
        assert declared.status_code == 200, declared.text

    def refused(answer: httpx.Response) -> bool:
        return bool(problem(answer, 403)["type"].endswith(":conflict_of_interest"))

    def decide() -> httpx.Response:
        return people.decide(reviewers, theirs)

    for account in (rival, owner):  # whose right it is, and who would lose one
        conflict(account)
        assert refused(decide())
        assert refused(people.client.post(f"/v1/accounts/{account}/verify", json=verified, headers=reviewers))
        joined = people.client.post(f"/v1/accounts/{account}/verify", json={"good_faith": True}, headers=reviewers)
        assert refused(joined)
    assert refused(people.client.post(f"/v1/accounts/{reviewer}/verify", json=verified, headers=reviewers))
    assert [changes(parts, id) for id in (mine, theirs)] == [["registered"], ["registered"]]
    conflict()
    assert decide().json() == {"changed": True}


def test_a_verification_that_is_withdrawn_is_in_the_history(parts: Parts, people: People) -> None:
    account, headers = people.open(contact=False)
    reviewer, reviewers = people.open("reviewer")
    passport, other = (
        people.client.post(f"/v1/evidence?kind={kind}", content=kind.encode(), headers=headers).json()["id"]
        for kind in ("identity", "other")
    )
    named = [passport, other]
    for _ in range(2):
        answer = people.verify(reviewers, account, False, code="expired")
        assert answer.json()["identity_verified"] is False
    # not on nothing, nor on what the account has not named, nor on what shows no identity
    assert problem(people.verify(reviewers, account, documents=[]), 422)["field"] == "documents"
    assert problem(people.verify(reviewers, account, documents=named), 422)["field"] == "documents[0]"
    people.client.post("/v1/me/evidence", json={"evidence": named}, headers=headers)
    assert problem(people.verify(reviewers, account, documents=[other]), 422)["field"] == "documents"
    assert people.verify(reviewers, account, documents=named).json()["identity_verified"] is True
    history = people.client.get(f"/v1/accounts/{account}", headers=reviewers).json()["history"]
    assert [(one["kind"], one["by"], one["code"], one["documents"], one["seen"]) for one in history] == [
        ("verified", reviewer, None, named, None),
        ("verification_withdrawn", reviewer, "expired", None, None),
        ("verified", "a-operator", None, None, "office"),
    ]
    unseen = {"identity_verified": True}
    problem(people.client.post("/v1/accounts", json=unseen, headers=people.operator), 422, field="seen")


@pytest.mark.parametrize("how", ["status", "misuse"])
def test_a_suspended_account_does_not_assign_its_rights_away(parts: Parts, people: People, how: str) -> None:
    account, headers = people.open()
    fresh, freshes = people.open()
    made, offered = right(people, headers)["id"], right(people, headers)["id"]
    agents, late = people.open()[1], people.open()
    people.authorise(headers, agents)
    # what was offered or asked before the suspension comes to nothing as well
    assert people.client.post(f"/v1/rights/{offered}/assignment", json={"to": fresh}, headers=headers).is_success
    asked = people.client.post("/v1/authorisations", json={"agent": late[0]}, headers=headers).json()["id"]
    mine = Account(account, "holder", True, False, True)  # as a request has it that began before the suspension
    with parts.engine.begin() as connection:
        if how == "status":
            connection.exec_driver_sql("update accounts set status = 'suspended' where id = %s", (account,))
        else:
            connection.exec_driver_sql("update accounts set misuse = 'suspension' where id = %s", (account,))
    url, to = f"/v1/rights/{made}/assignment", {"to": fresh}
    refused = problem(people.client.post(url, json=to, headers=headers), 403)
    assert refused["type"].endswith(":account_suspended")
    with pytest.raises(Refused, match="suspended"), parts.engine.begin() as connection:
        registry_store.assign_right(connection, made, requests.AssignRight(to=fresh), mine, PARTITIONS)
    assert parts.query("select owner from rights where id = %s", made) == [(account,)]
    # nor does anybody go on with them in its place
    problem(people.client.post("/v1/authorisations", json={"agent": fresh}, headers=headers), 403)
    with pytest.raises(Refused, match="suspended"), parts.engine.begin() as connection:
        authority_store.ask(connection, account, requests.Authorise(agent=fresh), PARTITIONS)
    for path, who in ((f"rights/{offered}/assignment", freshes), (f"authorisations/{asked}", late[1])):
        refused = problem(people.client.post(f"/v1/{path}/consent", json={"accept": True}, headers=who), 403)
        assert refused["type"].endswith(":account_suspended")
    filed = people.client.post("/v1/claims", json=body(made, "x", principal=account), headers=agents)
    assert problem(filed, 403, field="principal")["type"].endswith(":account_suspended")
    # the operator may: a court has decided, or a business was sold
    people.assign(people.operator, made, freshes)
