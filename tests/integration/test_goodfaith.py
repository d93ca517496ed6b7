"""The good-faith mechanism on the real database: counted once, judged daily under a stepped clock, joined and left by HTTP."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest
from kafka import KafkaProducer

from deploy.local.stack import Stack
from labs import deep, recount
from services.intake.goodfaith import store as goodfaith_store
from services.intake.goodfaith.domain import Counts
from services.intake.kernel import store
from services.intake.kernel.domain import Account
from services.intake.worker import Intake
from shared import clock, db, declarations, events, policy, topics
from shared.events import ItemChanged, State
from shared.runtime import Tx
from shared.runtime.types import Incoming
from tests.integration.intake_parts import PARTITIONS, Parts, People, wait
from tests.integration.test_intake_worker import running

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
S = State
TERMS = policy.current("ipp").good_faith
BEGINS = dt.datetime(2030, 1, 14, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TEXT = declarations.load(TERMS.declaration)
SIGNED = {"version": TEXT.version, "sha256": TEXT.sha256, "name": "Sealed Signatory", "capacity": "sworn director"}


class Clock:
    """The installation's clock, standing where it is put."""

    def __init__(self, parts: Parts) -> None:
        self._engine = db.administer(parts.admin_url)
        self.now = BEGINS
        self.to(BEGINS)

    def to(self, moment: dt.datetime) -> None:
        """Set it ahead."""
        with self._engine.begin() as connection:
            clock.set_anchor(connection, business=moment, rate=0)
        self.now = moment

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    topics.create(parts.settings)
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def client(parts: Parts) -> Iterator[httpx.Client]:
    with parts.api() as client:
        yield client


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


def open_accounts(parts: Parts, *names: str, verified: bool = True) -> None:
    with parts.engine.begin() as connection:
        for name in names:
            store.open_account(connection, Account(name, "holder", verified, False, True), "company", by=None)


def change(item: str, account: str, revision: int, state: State, **values: Any) -> ItemChanged:
    return ItemChanged(
        **{
            "item": item,
            "claim": f"c-{item}",
            "claim_size": 1,
            "listing": f"l-{item}",
            "complainant": account,
            "principal": "p",
            "right": "r",
            "right_type": "trademark",
            "reason": "counterfeit",
            "profile": "ipp",
            "policy": "p",
            "revision": revision,
            "state": state,
            "rule": "r",
            "settled": state in deep.SETTLED,
            "received_at": BEGINS,
            **values,
        }
    )


def life(item: str, account: str, *states: State | tuple[State, str], **values: Any) -> list[ItemChanged]:
    """Changes of an item through states; from NOTIFIED on it is down until it ends without a takedown."""
    made: list[ItemChanged] = []
    held = False
    for step in (S.RECEIVED, S.NOTIFIED, *states):
        state, code = step if isinstance(step, tuple) else (step, None)
        held = state not in deep.ENDED and (held or state in (S.NOTIFIED, *deep.UPHELD))
        previous = made[-1].state if made else None
        made.append(change(item, account, len(made) + 1, state, previous=previous, code=code, held=held, **values))
    return made


def insert_items(parts: Parts, changes: Iterable[ItemChanged]) -> None:
    """The items' rows, as intake leaves them."""
    firsts = {data.item: data for data in changes}
    with parts.engine.begin() as connection:
        for data in firsts.values():
            connection.exec_driver_sql(
                """insert into claims (id, complainant, principal, right_id, right_type, reason, profile, lane, size, channel,
                    accepted_at, terms, told_partition)
                values (%s, %s, 'p', 'r', 'trademark', %s, 'ipp', 'standard', 1, 'http', now(), '{}', 0)
                on conflict do nothing""",
                (data.claim, data.complainant, data.reason),
            )
            connection.exec_driver_sql(
                "insert into items (id, claim, listing, on_site, link, changed_at) values (%s, %s, %s, true, '', now())",
                (data.item, data.claim, data.listing),
            )


def record(data: ItemChanged, time: dt.datetime) -> bytes:
    return events.encode(
        data,
        id=f"verification.{uuid.uuid4().hex}",
        source="/t",
        type=f"goodfaith.item.{data.state.lower()}.v1",
        subject=data.item,
        time=time,
        key=data.listing,
    )


def fold(service: Intake, parts: Parts, batch: Sequence[tuple[int, dt.datetime, ItemChanged]]) -> None:
    """One batch through the worker's own fold."""
    with parts.engine.begin() as connection:
        now, wall = clock.read(connection)
        made = service.open(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), [])
        for partition, time, data in batch:
            envelope = events.decode_envelope(record(data, time))
            made.apply(
                Incoming(
                    topics.VERIFICATION.name,
                    partition,
                    0,
                    data.listing,
                    envelope.id,
                    envelope.type,
                    data,
                    envelope=envelope,
                )
            )
        made.save()


def settle(service: Intake, parts: Parts, account: str, now: dt.datetime, **ends: int) -> None:
    """Items of an account that end now: so many ``upheld``, ``restored``, ``refused``."""
    how: dict[str, tuple[State, ...]] = {
        "upheld": (S.UPHELD_BY_DEFAULT,),
        "restored": (S.COUNTERED, S.RESTORED),
        "refused": (S.REJECTED,),
    }
    changes = [
        data
        for end, count in ends.items()
        for _ in range(count)
        for data in life(f"i-{uuid.uuid4().hex}", account, *how[end])
    ]
    insert_items(parts, changes)
    fold(service, parts, [(topics.partition_of(data.listing, PARTITIONS), now, data) for data in changes])


def standing(parts: Parts, account: str) -> tuple[Any, ...]:
    """(state, how, demote_on, barred_until, what intake reads)."""
    rows = parts.query(
        """select s.state, s.how, s.demote_on, s.barred_until, a.good_faith
        from accounts a left join good_faith_standings s on s.account = a.id where a.id = %s""",
        account,
    )
    return rows[0]


def history(parts: Parts, account: str) -> list[str]:
    return [
        row[0] for row in parts.query("select kind from good_faith_history where account = %s order by id", account)
    ]


# ---- counting


@pytest.mark.parametrize("seed", [1, 2])
def test_any_histories_are_counted_as_a_recount_says(parts: Parts, quiet: Intake, seed: int) -> None:
    dice = random.Random(seed)
    engine = deep.Engine()
    accounts = [f"a-{seed}-{number}" for number in range(3)]
    histories = []
    for number in range(400):
        make = engine.history if number % 2 else deep.walk
        name = f"i-{seed}-{number}"
        made = make(dice, number, dice.choice(accounts), dice.choice(("counterfeit", "design")))
        histories.append(
            [
                (time, msgspec.structs.replace(data, item=name, claim=f"c-{name}", listing=f"l-{name}"))
                for time, data in made
            ]
        )
    insert_items(parts, [line[0][1] for line in histories])
    order = [place for place, line in enumerate(histories) for _ in line]
    dice.shuffle(order)
    left = [iter(line) for line in histories]
    records = []
    for place in order:
        time, data = next(left[place])
        records.append((topics.partition_of(data.listing, PARTITIONS), time, data))
    start = 0
    while start < len(records):
        size = dice.choice((1, 5, 60, 700))
        fold(quiet, parts, records[start : start + size])
        if dice.random() < 0.2:
            fold(quiet, parts, records[start : start + size])  # again: nothing changes
        start += size
    naive: dict[tuple[Any, ...], Counts] = defaultdict(Counts)
    for line in histories:
        found = recount.item(line)
        if found is not None:
            account, reason, day, numbers = found
            naive[account, reason, day] += Counts(**numbers)
    kept = parts.query(
        """select account, reason, day, sum(settled)::int, sum(upheld)::int, sum(taken_down)::int, sum(restored)::int
        from good_faith_days where account = any(%s) group by account, reason, day""",
        accounts,
    )
    sums = {tuple(row[:3]): Counts(*row[3:]) for row in kept}
    assert {key: counts for key, counts in sums.items() if counts != Counts()} == dict(naive)
    assert len(naive) > 100


def test_workers_count_one_account_at_once_and_lose_nothing(parts: Parts) -> None:
    account = "a-shared"
    open_accounts(parts, account)
    service = Intake(parts.settings, background=False)
    lines = [
        [life(f"i-shared-{worker}-{number}", account, S.UPHELD, S.COUNTERED, S.RESTORED) for number in range(60)]
        for worker in range(PARTITIONS)
    ]
    insert_items(parts, [line[0] for worker in lines for line in worker])

    def work(partition: int) -> None:
        for step in range(5):
            for start in range(0, 60, 20):
                fold(service, parts, [(partition, BEGINS, line[step]) for line in lines[partition][start : start + 20]])

    def judging() -> None:
        while not done.is_set():
            parts.query("insert into good_faith_due values (%s) on conflict do nothing", account)
            with parts.engine.begin() as connection:
                goodfaith_store.judge_due(connection, PARTITIONS)

    done = threading.Event()
    other = threading.Thread(target=judging)
    other.start()
    with ThreadPoolExecutor(PARTITIONS) as pool:
        list(pool.map(work, range(PARTITIONS)))
    done.set()
    other.join()
    service.close()
    total = parts.query(
        "select sum(settled), sum(upheld), sum(taken_down), sum(restored) from good_faith_days where account = %s",
        account,
    )
    assert total == [(240, 0, 240, 240)]


def test_items_settle_by_kafka_and_are_shown_by_http(parts: Parts, people: People, at: Clock) -> None:
    account, headers = people.open()
    changes = [
        *life("i-k-1", account, S.UPHELD),
        *life("i-k-2", account, S.UPHELD, S.COUNTERED, S.RESTORED),
        *life("i-k-3", account, (S.WITHDRAWN, "settled"), reason="improper_use"),
        *life("i-k-4", account, (S.WITHDRAWN, "error")),
        *life("i-k-5", account, (S.WITHDRAWN, "licensed")),
        *life("i-k-6", account, S.UPHELD, S.LITIGATION),
        change("i-k-7", account, 1, S.DUPLICATE),
        change("i-k-8", account, 1, S.LAPSED),
    ]
    insert_items(parts, changes)
    producer = KafkaProducer(bootstrap_servers=parts.settings.kafka, acks="all")
    for data in changes:
        producer.send(
            parts.settings.topic_prefix + topics.VERIFICATION.name,
            key=data.listing.encode(),
            value=record(data, at.now),
            partition=topics.partition_of(data.listing, PARTITIONS),
        )
    producer.flush()
    producer.close()
    service = Intake(parts.settings)
    with contextlib.closing(service), running(service, parts):
        wait(lambda: parts.query("select count(*) from timeline where item like 'i-k-%%'") == [(len(changes),)])
    shown = people.client.get("/v1/good-faith", headers=headers).json()
    numbers = {name: shown["figures"]["overall"][name] for name in ("settled", "upheld", "taken_down", "restored")}
    assert numbers == {"settled": 6, "upheld": 2, "taken_down": 5, "restored": 2}
    assert shown["figures"]["reasons"].keys() == {"counterfeit", "improper_use"}
    assert shown["figures"]["reasons"]["counterfeit"]["takedown_rate"] == 0.2
    assert (shown["figures"]["window_from"], shown["figures"]["window_to"]) == ("2029-10-15", "2030-01-14")
    assert (shown["state"], shown["member"], shown["figures"]["verdict"]) == ("out", False, "too_few")
    by_staff = people.client.get(f"/v1/accounts/{account}/good-faith", headers=people.operator).json()
    assert by_staff == shown


# ---- the daily judgement


def test_upgraded_warned_demoted_barred_and_back(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open()
    quiet.housekeeping.judge()
    settle(quiet, parts, account, at.now, upheld=20)
    quiet.housekeeping.judge()
    assert standing(parts, account)[4] is False  # today is not over
    at.to(at.now.replace(hour=0) + DAY)
    quiet.housekeeping.judge()
    quiet.housekeeping.judge()
    assert standing(parts, account) == ("in", "statistic", None, None, True)
    assert history(parts, account) == ["upgraded"]
    # intake knows
    assert people.claim(headers, people.right(headers), uuid.uuid4().hex)["lane"] == "express"

    settle(quiet, parts, account, at.now, upheld=5, refused=3)  # 25 of 28
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    demote_on = at.now.date() + TERMS.warning.exact
    assert standing(parts, account) == ("warned", "statistic", demote_on, None, True)
    settle(quiet, parts, account, at.now, upheld=2)  # 27 of 30 is enough
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    assert standing(parts, account)[:3] == ("in", "statistic", None)
    settle(quiet, parts, account, at.now, restored=1)
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    demote_on = at.now.date() + TERMS.warning.exact
    at.to(at.now + 13 * DAY)
    quiet.housekeeping.judge()
    assert standing(parts, account) == ("warned", "statistic", demote_on, None, True)
    at.to(at.now + DAY)
    assert at.now.date() == demote_on
    quiet.housekeeping.judge()
    until = goodfaith_store.goodfaith.bar_end(demote_on, TERMS)
    assert standing(parts, account) == ("out", None, None, until, False)
    refused = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:goodfaith:problem:barred")
    assert until.isoformat() in refused.json()["detail"]
    assert people.claim(headers, people.right(headers), uuid.uuid4().hex)["lane"] == "standard"

    # good figures do not help before the bar ends
    settle(quiet, parts, account, at.now, upheld=100)
    at.to(dt.datetime.combine(until, dt.time(), dt.UTC) - dt.timedelta(seconds=1))
    quiet.housekeeping.judge()
    assert standing(parts, account)[0] == "out"
    at.to(at.now + dt.timedelta(seconds=1))
    quiet.housekeeping.judge()
    assert standing(parts, account) == ("in", "statistic", None, None, True)
    kinds = ["upgraded", "warned", "warning_lifted", "warned", "demoted", "bar_ended", "upgraded"]
    assert history(parts, account) == kinds

    # every change is explained, page by page, and told to the account once
    shown: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = people.client.get(f"/v1/good-faith/history?limit=3{more}", headers=headers).json()
        shown += page["items"]
        cursor = page["next"]
    assert [entry["kind"] for entry in shown] == kinds[::-1]
    demoted = shown[2]
    assert demoted["barred_until"] == until.isoformat()
    assert demoted["figures"]["misses"] == [
        {"reason": None, "rate": "takedown", "part": 27, "whole": 31},
        {"reason": "counterfeit", "rate": "takedown", "part": 27, "whole": 31},
    ]
    assert demoted["figures"]["window_to"] == (demote_on - DAY).isoformat()
    told = parts.query(
        "select payload::json ->> 'kind' from admission_queue where type = 'goodfaith.account.notice.v1' and listing = %s order by id",
        account,
    )
    assert [row[0] for row in told] == [f"good_faith_{kind}" for kind in kinds]
    again = people.client.get(f"/v1/accounts/{account}/good-faith/history", headers=people.operator).json()
    assert again["items"] == shown


def test_a_member_whose_good_days_leave_the_window_is_judged(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, _ = people.open()
    quiet.housekeeping.judge()
    settle(quiet, parts, account, at.now, upheld=60)
    first = at.now.date()
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    settle(quiet, parts, account, at.now, upheld=18, refused=5)
    for _ in range(3):
        at.to(at.now + DAY)
        quiet.housekeeping.judge()
    assert standing(parts, account)[0] == "in"
    # nothing happens to it but time
    out = goodfaith_store.goodfaith.months_before(first, -3)
    at.to(dt.datetime.combine(out, dt.time(), dt.UTC))
    quiet.housekeeping.judge()
    assert standing(parts, account)[0] == "in"
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    assert standing(parts, account)[0] == "warned"


def test_an_account_that_is_verified_late_is_upgraded_then(
    parts: Parts, people: People, at: Clock, quiet: Intake
) -> None:
    account, _ = people.open(identity_verified=False)
    settle(quiet, parts, account, at.now, upheld=30)
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    assert history(parts, account) == []
    people.verify(people.operator, account)
    quiet.housekeeping.judge()
    assert history(parts, account) == ["upgraded"]


def test_each_account_is_judged_by_one_of_many_workers(parts: Parts, at: Clock, quiet: Intake) -> None:
    accounts = [f"a-many-{number}" for number in range(250)]
    open_accounts(parts, *accounts)
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    changes = []
    for account in accounts:
        for number in range(20):
            changes += life(f"i-{account}-{number}", account, S.UPHELD)
    insert_items(parts, changes)
    fold(quiet, parts, [(0, at.now, data) for data in changes])
    at.to(at.now + DAY)
    workers = [Intake(parts.settings, background=False) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda worker: worker.housekeeping.judge(), workers))
    for worker in workers:
        worker.close()
    assert parts.query(
        "select count(*), count(distinct account) from good_faith_history where account like 'a-many-%%'"
    ) == [(250, 250)]
    assert parts.query("select count(*) from good_faith_due") == [(0,)]
    # no other account was looked at, and one that is out and was not touched is not looked at again
    at.to(at.now + DAY)
    with parts.engine.begin() as connection:
        assert goodfaith_store.find_due(connection)
        assert not goodfaith_store.find_due(connection)
    due = {row[0] for row in parts.query("select account from good_faith_due")}
    assert due >= set(accounts)
    assert "a-shared" not in due
    quiet.housekeeping.judge()


def test_finding_who_is_due_scans_nothing(parts: Parts, quiet: Intake) -> None:
    """A year of many accounts' days that nobody touches is not read: indexes lead to what is."""
    day = dt.date(2030, 6, 1)
    admin = db.administer(parts.admin_url)
    with admin.connect() as connection:
        connection.exec_driver_sql("set search_path = intake, platform")
        connection.exec_driver_sql(
            """insert into good_faith_days (account, day, reason, partition, settled, upheld, taken_down, restored, touched)
            select 'a-old-' || mod(n, 2000), date '2001-01-01' + mod(n, 365), 'counterfeit', 0, 1, 1, 1, 0, false
            from generate_series(1, 200000) as n on conflict do nothing"""
        )
        connection.exec_driver_sql("analyze good_faith_days")
        rows = connection.exec_driver_sql(
            "explain " + goodfaith_store.FIND_DUE,
            (day, day - 93 * DAY, day - 92 * DAY, day, day - 181 * DAY, day - 180 * DAY),
        )
        plan = "\n".join(rows.scalars())
        connection.rollback()
    admin.dispose()
    assert "Seq Scan on good_faith_days" not in plan, plan
    assert "good_faith_days_touched" in plan, plan


# ---- joining and leaving


def test_a_declaration_is_executed_and_sealed(parts: Parts, people: People, at: Clock) -> None:
    text = people.client.get("/v1/good-faith/declaration", headers=people.operator).json()
    assert text == {"version": TEXT.version, "sha256": TEXT.sha256, "text": TEXT.text}
    account, headers = people.open()
    for field, value in (("version", "good-faith-1999"), ("sha256", "0" * 64)):
        wrong = people.client.post("/v1/good-faith/declaration", json={**SIGNED, field: value}, headers=headers)
        assert (wrong.status_code, wrong.json()["field"]) == (422, field)
    for field, value in (("name", "x\ny"), ("name", ""), ("capacity", "x" * 201), ("sha256", "0" * 63), ("more", 1)):  # type: ignore[assignment]
        wrong = people.client.post("/v1/good-faith/declaration", json={**SIGNED, field: value}, headers=headers)
        assert (wrong.status_code, wrong.json()["field"]) == (422, field)
    stranger, strangers = people.open(identity_verified=False)
    refused = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=strangers)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:goodfaith:problem:not_verified")
    assert parts.query("select count(*) from good_faith_declarations where account = %s", stranger) == [(0,)]

    joined = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    assert joined.status_code == 201, joined.text
    assert (joined.json()["state"], joined.json()["how"], joined.json()["member"]) == ("in", "declaration", True)
    assert people.claim(headers, people.right(headers), uuid.uuid4().hex)["lane"] == "express"
    again = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    assert (again.status_code, again.json()["type"]) == (409, "urn:goodfaith:problem:already_declared")
    ((sealed,),) = parts.query("select sealed from good_faith_declarations where account = %s", account)
    assert b"Signatory" not in bytes(sealed)
    assert b"director" not in bytes(sealed)
    assert not parts.query(
        "select 1 from admission_queue where payload like '%%Signatory%%' or payload like '%%sworn%%'"
    )
    path = f"/v1/accounts/{account}/good-faith/declarations"
    (read,) = people.client.get(path, headers=people.operator).json()["items"]
    assert (read["name"], read["capacity"], read["sha256"]) == (SIGNED["name"], SIGNED["capacity"], TEXT.sha256)
    # erased with the account's key once nothing of its claims is open, and unreadable under a new one
    parts.query(
        "update items set state = 'WITHDRAWN' where claim in (select id from claims where complainant = %s)", account
    )
    for act in ("DELETE", "PUT"):
        body = {"name": "n", "address": "a", "email": "e@example.org"} if act == "PUT" else None
        assert people.client.request(act, "/v1/contact", json=body, headers=headers).status_code == 204
        (read,) = people.client.get(path, headers=people.operator).json()["items"]
        assert (read["name"], read["capacity"]) == (None, None)


def test_leaving_bars(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open()
    assert people.client.request("DELETE", "/v1/good-faith", headers=headers).status_code == 409
    people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    left = people.client.request("DELETE", "/v1/good-faith", headers=headers).json()
    until = goodfaith_store.goodfaith.bar_end(at.now.date(), TERMS)
    assert (left["member"], left["barred_until"]) == (False, until.isoformat())
    settle(quiet, parts, account, at.now, upheld=30)
    at.to(at.now + DAY)
    quiet.housekeeping.judge()
    assert standing(parts, account)[0] == "out"
    assert people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers).status_code == 409
    # a person may decide otherwise
    people.client.post(f"/v1/accounts/{account}/verify", json={"good_faith": True}, headers=people.operator)
    assert standing(parts, account)[:2] == ("in", "staff")
    assert history(parts, account) == ["joined", "left", "admitted"]
    assert people.client.get("/v1/good-faith", headers=headers).json()["barred_until"] is None


def test_a_suspended_account_takes_no_part(parts: Parts, people: People, at: Clock, quiet: Intake) -> None:
    account, headers = people.open()
    people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    body = {"status": "suspended", "code": "fraud"}
    assert people.client.post(f"/v1/accounts/{account}/status", json=body, headers=people.operator).status_code == 200
    quiet.housekeeping.judge()
    assert standing(parts, account) == ("out", None, None, None, False)
    assert history(parts, account) == ["joined", "removed"]
    refused = people.client.post("/v1/good-faith/declaration", json=SIGNED, headers=headers)
    assert refused.status_code == 403


def test_an_account_opened_in_good_faith_has_its_history(parts: Parts, people: People) -> None:
    account, _ = people.open(good_faith=True)
    assert standing(parts, account) == ("in", "staff", None, None, True)
    assert history(parts, account) == ["admitted"]
    missing = people.client.get("/v1/accounts/a-none/good-faith", headers=people.operator)
    assert missing.status_code == 404
