"""Intake's worker and upstream intake on the real broker and database."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.filing.inbound import Inbound
from services.intake.kernel import domain, metrics, outbox, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.listings import named_by
from services.intake.reading import store as reading_store
from services.intake.worker import Intake
from shared import clock, db, events, site_links, topics
from shared.runtime import Tx, Worker
from shared.runtime.types import Service
from shared.settings import Relayed
from tests.integration.intake_parts import PARTITIONS, Parts, on_file, wait
from tests.patience import PATIENCE_S

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
BOUND: Any = {
    "market": {
        "accounts": ["a-holder", "a-bare", "a-none", "a-operator"],
        "commands": [name for name in get_args(Relayed) if name != "complain"],
    }
}
HOLDER = Account("a-holder", "holder", True, False, True)


@pytest.fixture
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("intake"),
        upstreams={"market": "a-market"},
        upstream_may=BOUND,
        window_standard=200,
        window_bulk=100,
    )
    with parts.engine.begin() as connection:
        for account in (
            HOLDER,
            Account("a-bare", "holder", True, False, True),
            Account("a-market", "upstream"),
            Account("s-1", "seller"),
            Account("a-operator", "operator"),
        ):
            store.open_account(connection, account, "company", by=None)
        on_file(connection, HOLDER.id)
        connection.exec_driver_sql(
            """insert into rights (id, owner, right_type, number, status, proof, registered_at)
            values ('r-1', %s, 'trademark', '1', 'active', 'd', now())""",
            (HOLDER.id,),
        )
        connection.exec_driver_sql(
            """insert into rights (id, owner, right_type, number, status, proof, registered_at)
            values ('r-bare', 'a-bare', 'trademark', '2', 'active', 'd', now())"""
        )
    yield parts
    parts.close()


def submit(account: Account, *listings: str, right: str = "r-1") -> Filing:
    """A claim, checked."""
    body = requests.SubmitClaim(
        right=right, reason="counterfeit", listings=[f"https://market.example/items/{name}" for name in listings]
    )
    return Filing(
        account,
        None,
        account.id,
        b"",
        "submit_claim",
        body,
        "http",
        listings=named_by(body.listings, site_links.of(("market.example/items/{id}",))).listings,
        rules=check_claim(body, account),
    )


def file(parts: Parts, *filings: Filing) -> list[dict[str, Any]]:
    """Accept filings as intake does."""
    with parts.engine.begin() as connection:
        now, wall = store.enter_admission(connection)
        results = filing_store.file(connection, filings, now, wall, PARTITIONS)
    assert all(isinstance(result, Filed) for result in results), results
    return [msgspec.json.decode(result.answer) for result in results if isinstance(result, Filed)]


def backlog(parts: Parts, lane: str, complainant: str, count: int) -> None:
    """Rows of intake as many claims would leave them."""
    parts.query(
        """insert into claims select 'c-' || %s || n, %s, 'p', 'r-1', 'trademark', 'counterfeit', 'ipp', %s, 1, 'http', now(), %s, 0
        from generate_series(1, %s) as n""",
        complainant,
        complainant,
        lane,
        msgspec.json.encode(terms(complainant)).decode(),
        count,
    )
    parts.query(
        """insert into admission_queue (kind, lane, complainant, partition, claim, item, listing, accepted_at)
        select 'submit', %s, %s, n %% %s, 'c-' || %s || n, 'i-' || %s || n, 'l-' || %s || n, now() from generate_series(1, %s) as n""",
        lane,
        complainant,
        PARTITIONS,
        complainant,
        complainant,
        complainant,
        count,
    )


def terms(complainant: str) -> events.ItemSubmitted:
    return events.ItemSubmitted(
        item="i",
        claim="c",
        claim_size=1,
        listing="l",
        complainant=complainant,
        principal="p",
        right="r-1",
        right_type="trademark",
        reason="counterfeit",
        profile="ipp",
        policy="p",
        accepted_at=dt.datetime.now(dt.UTC),
    )


def pull(parts: Parts, service: Intake, room: int = 1000, blocked: frozenset[str] = frozenset()) -> list[Any]:
    """One batch of admission."""
    with parts.engine.begin() as connection:
        now, wall = clock.read(connection)
        tx = Tx(connection, now, wall, list(range(PARTITIONS)), {}, blocked)
        taken = list(service.pull(tx, room))
        service.last = service.open(tx, taken).marks()  # type: ignore[attr-defined]
    tx.counted()
    return taken


@pytest.fixture
def quiet(parts: Parts) -> Iterator[Intake]:
    """The worker's service without its threads."""
    service = Intake(parts.settings, background=False)
    service.barrier._inbound = []
    yield service
    service.close()


# ---- admission


def complainants(taken: list[Any]) -> Counter[str]:
    return Counter(incoming.data.complainant for incoming in taken)


def test_one_complainant_with_most_of_the_load_does_not_hold_up_the_others(parts: Parts, quiet: Intake) -> None:
    backlog(parts, "standard", "a-big", 6400)
    for number in range(36):
        backlog(parts, "standard", f"a-small-{number}", 10)
    quiet.pressure.windows = {}
    first = pull(parts, quiet, 500)
    assert len(first) == 500
    # an account with little has all of it within the first batch, though the big one was there before
    counts = complainants(first)
    assert counts["a-big"] == 500 - 360
    assert sum(counts.values()) - counts["a-big"] == 360
    while taken := pull(parts, quiet, 500):
        assert set(complainants(taken)) == {"a-big"}
    assert parts.query("select count(*) from admission_queue") == [(0,)]


def test_what_tells_of_claims_gives_way_and_goes_on(parts: Parts, quiet: Intake) -> None:
    backlog(parts, "standard", "a-big", 1600)
    quiet.pressure.windows = {}
    now = dt.datetime.now(dt.UTC)
    filed = [
        events.ClaimFiled(claim=claim, account="a-big", items=1, right_type="trademark", channel="http", at=now)
        for (claim,) in parts.query("select id from claims")
    ]
    with parts.engine.begin() as connection:
        db.copy(connection, "admission_queue", filing_store._filings(filed, [0] * len(filed)))
    first = pull(parts, quiet, 400)
    told = [incoming for incoming in first if isinstance(incoming.data, events.ClaimFiled)]
    assert (len(first), len(told)) == (450, 50)
    rest = []
    while taken := pull(parts, quiet, 400):
        rest += taken
    told += [incoming for incoming in rest if isinstance(incoming.data, events.ClaimFiled)]
    assert len({incoming.data.claim for incoming in told}) == len(told) == 1600
    assert parts.query("select count(*) from admission_queue") == [(0,)]


def test_more_complainants_than_are_looked_at_in_one_go_take_turns(parts: Parts, quiet: Intake) -> None:
    for number in range(200):
        backlog(parts, "standard", f"a-{number:03}", 8)
    quiet.pressure.windows = {}
    seen: Counter[str] = Counter()
    for _ in range(8):
        seen += complainants(pull(parts, quiet, 200))
    assert len(seen) == 200
    while taken := pull(parts, quiet, 200):
        seen += complainants(taken)
    assert set(seen.values()) == {8}


def test_lanes_share_by_weight_and_bulk_never_starves(parts: Parts, quiet: Intake) -> None:
    for lane in domain.LANES:
        backlog(parts, lane, f"a-{lane}", 3000)
    quiet.pressure.windows = {}
    lanes: Counter[str] = Counter()
    for _ in range(10):
        lanes += complainants(pull(parts, quiet, 120))
    assert lanes == {"a-express": 800, "a-standard": 300, "a-bulk": 100}


def test_lanes_pause_when_verification_lags(parts: Parts, quiet: Intake) -> None:
    for lane in ("standard", "bulk"):
        backlog(parts, lane, f"a-{lane}", 3000)
    quiet.pressure.observe(150)  # windows: standard 200, bulk 100
    first = complainants(pull(parts, quiet, 1000))
    assert first["a-standard"] == 50
    assert first["a-bulk"] == 50 // 3
    assert not pull(parts, quiet, 1000)
    time.sleep(1.1)
    trickle = complainants(pull(parts, quiet, 1000))
    assert trickle["a-bulk"] > 0
    assert trickle["a-standard"] > 0
    backlog(parts, "express", "a-express", 800)
    shares = complainants(pull(parts, quiet, 1000))
    assert shares["a-express"] == 800
    assert 90 <= shares["a-bulk"] <= 110
    assert 290 <= shares["a-standard"] <= 310
    quiet.pressure.observe(0)
    assert complainants(pull(parts, quiet, 1000)) == {"a-standard": 200, "a-bulk": 100}


@pytest.mark.thorough
def test_a_backlog_of_a_million_is_cheap(parts: Parts, quiet: Intake) -> None:
    quiet.pressure.windows = {}

    def median() -> float:
        pull(parts, quiet, 10)  # plans and caches
        times = []
        for _ in range(9):
            started = time.perf_counter()
            assert len(pull(parts, quiet, 100)) == 100
            times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2]

    backlog(parts, "bulk", "a-few", 1000)
    backlog(parts, "standard", "a-other", 1000)
    short = median()
    backlog(parts, "bulk", "a-million", 1_000_000)
    backlog(parts, "standard", "a-third", 1000)
    # a scan of the backlog would take hundreds of times as long
    assert median() < 20 * short


def test_a_command_brings_its_item_along(parts: Parts, quiet: Intake) -> None:
    backlog(parts, "standard", "a-big", 3000)
    (made,) = file(parts, submit(HOLDER, "mine"))
    item = made["items"][0]["item"]
    withdraw = Filing(HOLDER, None, HOLDER.id, b"", "withdraw", requests.Withdraw(ground="error"), "http", item=item)
    file(parts, withdraw)
    quiet.pressure.observe(10_000)
    taken = pull(parts, quiet, 100)
    kinds = [type(incoming.data) for incoming in taken if getattr(incoming.data, "item", None) == item]
    assert kinds == [events.ItemSubmitted, events.Withdraw]


@pytest.mark.parametrize("crowded", [False, True])
def test_what_is_said_of_accounts_is_admitted_with_the_commands_and_not_counted_as_one(
    parts: Parts, quiet: Intake, crowded: bool
) -> None:
    if crowded:
        backlog(parts, "standard", "a-big", 300)
    (made,) = file(parts, submit(HOLDER, "l1", "l2"))
    for number, item in enumerate(made["items"]):
        with parts.engine.begin() as connection:
            now, wall = store.enter_admission(connection)
            told = outbox.notice(HOLDER.id, "right_expired", f"r-{number}", now, wall)
            outbox.publish_accounts(connection, [told], PARTITIONS)
        withdraw = requests.Withdraw(ground="error")
        file(parts, Filing(HOLDER, None, HOLDER.id, b"", "withdraw", withdraw, "http", item=item["item"]))
    assert parts.query(
        "select kind, count(*) from admission_queue where kind in ('command', 'account') group by 1"
    ) == [
        ("account", 2),
        ("command", 2),
    ]
    counted = metrics.ADMITTED.labels("command")
    before = counted._value.get()  # type: ignore[attr-defined]
    taken = [incoming for incoming in pull(parts, quiet, 100) if not isinstance(incoming.data, events.ItemSubmitted)]
    kinds = [type(incoming.data) for incoming in taken if not isinstance(incoming.data, events.ClaimFiled)]
    assert kinds == [events.AccountNotice, events.Withdraw] * 2
    assert counted._value.get() == before + 2  # type: ignore[attr-defined]


# ---- watermarks


def upto(parts: Parts) -> dt.datetime | None:
    """T: up to where watermarks may be published."""
    ((found,),) = parts.query("select upto from admission_time")
    return found  # type: ignore[no-any-return]


def test_a_transaction_in_flight_holds_the_watermark_back(parts: Parts, quiet: Intake) -> None:
    assert quiet.barrier.turn()
    before = upto(parts)
    assert before is not None
    (made,) = file(parts, submit(HOLDER, "l"))
    item = made["items"][0]["item"]
    inside, go_on = threading.Event(), threading.Event()
    accepted: list[dt.datetime] = []

    def slow() -> None:
        with parts.engine.begin() as connection:
            now, wall = store.enter_admission(connection)
            accepted.append(now)
            filing = Filing(
                HOLDER, None, HOLDER.id, b"", "withdraw", requests.Withdraw(ground="error"), "http", item=item
            )
            filing_store.file(connection, [filing], now, wall, PARTITIONS)
            inside.set()
            go_on.wait(PATIENCE_S)

    thread = threading.Thread(target=slow)
    thread.start()
    inside.wait(PATIENCE_S)
    assert not quiet.barrier.turn()  # gives up after its lock timeout
    assert upto(parts) == before
    pull(parts, quiet)
    go_on.set()
    thread.join()
    assert quiet.barrier.turn()
    mark = upto(parts)
    assert mark is not None
    assert mark > accepted[0]
    quiet._marked_at = 0.0
    taken = pull(parts, quiet)
    assert [type(incoming.data) for incoming in taken] == [events.Withdraw]
    assert set(quiet.last.values()) == {mark}  # type: ignore[attr-defined]


def test_a_watermark_does_not_pass_commands_that_were_not_taken(parts: Parts, quiet: Intake) -> None:
    made = file(parts, submit(HOLDER, *(f"l{number}" for number in range(40))))[0]
    pull(parts, quiet)
    times = []
    for item in made["items"]:
        withdraw = Filing(
            HOLDER, None, HOLDER.id, b"", "withdraw", requests.Withdraw(ground="error"), "http", item=item["item"]
        )
        times.append(dt.datetime.fromisoformat(file(parts, withdraw)[0]["accepted_at"]))
    quiet.barrier.turn()
    quiet._marked_at = 0.0
    taken = pull(parts, quiet, 10)
    assert [incoming.data.accepted_at for incoming in taken] == times[:10]
    marks = quiet.last  # type: ignore[attr-defined]
    assert marks
    assert all(mark < times[9] for mark in marks.values())
    while pull(parts, quiet, 10):
        pass
    quiet._marked_at = 0.0
    pull(parts, quiet, 10)
    assert all(mark > times[-1] for mark in quiet.last.values())  # type: ignore[attr-defined]


def test_a_watermark_does_not_pass_a_command_that_was_set_aside(parts: Parts, quiet: Intake) -> None:
    """It is not published before it is replayed; deadlines of other partitions go on."""
    made = file(parts, submit(HOLDER, "set-aside-command"))[0]
    withdraw = requests.Withdraw(ground="error")
    item = made["items"][0]["item"]
    file(parts, Filing(HOLDER, None, HOLDER.id, b"", "withdraw", withdraw, "http", item=item))
    command = next(one for one in pull(parts, quiet) if isinstance(one.data, events.Withdraw))
    raw = events.encode(
        command.data,
        id=command.id,
        source="/t",
        type=command.type,
        subject=item,
        time=command.data.accepted_at,
        key=None,
    )
    parts.query(
        """insert into dead_letters (partition, key, topic, "offset", event_id, type, value, error)
        values (%s, %s, '@queue', %s, %s, %s, %s, 'refused')""",
        command.partition,
        command.key,
        command.offset,
        command.id,
        command.type,
        raw,
    )
    try:
        assert quiet.barrier.turn()
        mark = upto(parts)
        quiet._marked_at = 0.0
        pull(parts, quiet, blocked=frozenset({command.key}))
        marks = quiet.last  # type: ignore[attr-defined]
        assert mark is not None
        assert mark > command.data.accepted_at
        assert marks.pop(command.partition) < command.data.accepted_at
        assert set(marks.values()) == {mark}
    finally:
        parts.query("update dead_letters set state = 'done'")
    quiet._marked_at = 0.0
    pull(parts, quiet)
    assert quiet.last == {command.partition: mark}  # type: ignore[attr-defined]


def test_a_clock_that_stands_still_never_lets_a_mark_reach_it(parts: Parts, quiet: Intake) -> None:
    at = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=1)
    with parts.engine.begin() as connection, contextless_admin(parts) as admin:
        del connection
        admin(at)
    (made,) = file(parts, submit(HOLDER, "l"))
    assert quiet.barrier.turn()
    mark = upto(parts)
    assert mark is not None
    assert dt.datetime.fromisoformat(made["accepted_at"]) == at
    assert mark < at
    assert quiet.barrier.turn()
    assert upto(parts) == mark


@contextmanager
def contextless_admin(parts: Parts) -> Iterator[Any]:
    """Sets the clock, which only an administrator may."""

    engine = db.administer(parts.admin_url)

    def stand_at(at: dt.datetime) -> None:
        with engine.begin() as connection:
            clock.set_anchor(connection, business=at, rate=0.0)

    yield stand_at
    engine.dispose()


def test_an_upstream_that_is_not_read_holds_every_watermark_back(parts: Parts) -> None:
    service = Intake(parts.settings, background=False)
    service.barrier.turn()
    assert upto(parts) is None
    long_ago = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for partition in range(PARTITIONS):
        parts.query("insert into inbound_progress values ('inbound.market', %s, %s)", partition, long_ago)
    service.barrier.turn()
    assert upto(parts) == long_ago
    service.close()


# ---- on the broker


@contextmanager
def running(service: Service, parts: Parts) -> Iterator[Worker]:
    """A worker in a thread."""
    worker = Worker(service, parts.settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def read(parts: Parts, topic: topics.Topic) -> list[dict[str, Any]]:
    """All records of a topic, partition by partition in order."""
    consumer = KafkaConsumer(bootstrap_servers=parts.settings.kafka)
    places = [TopicPartition(parts.settings.topic_prefix + topic.name, partition) for partition in range(PARTITIONS)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    ends = consumer.end_offsets(places)
    found = []
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=200).values():
            found += [msgspec.json.decode(record.value) for record in records]
    consumer.close()
    return found


def send(parts: Parts, topic: topics.Topic, *values: tuple[str, bytes | None]) -> None:
    """Write records: (key, value)."""
    producer = KafkaProducer(bootstrap_servers=parts.settings.kafka, acks="all")
    for key, value in values:
        partition = topics.partition_of(key, PARTITIONS)
        producer.send(parts.settings.topic_prefix + topic.name, key=key.encode(), value=value, partition=partition)
    producer.flush()
    producer.close()


def changed(item: dict[str, Any], **values: Any) -> bytes:
    now = dt.datetime.now(dt.UTC)
    data = events.ItemChanged(
        item=item["item"],
        claim="c",
        claim_size=1,
        listing=item["listing"],
        complainant=HOLDER.id,
        principal=HOLDER.id,
        right="r-1",
        right_type="trademark",
        reason="counterfeit",
        profile="ipp",
        policy="p",
        rule="7",
        received_at=now,
        **values,
    )
    return events.encode(
        data,
        id=f"verification.{uuid.uuid4().hex}",
        source="/test",
        type=f"goodfaith.item.{data.state.lower()}.v1",
        subject=data.item,
        time=now,
        key=data.listing,
    )


def test_what_intake_accepted_is_published_once_and_read_back(parts: Parts) -> None:
    topics.create(parts.settings)
    settings = parts.settings.model_copy(update={"upstreams": {}})
    made = file(parts, *(submit(HOLDER, f"l{number}", f"m{number}") for number in range(20)))
    service = Intake(settings)
    with contextlib.closing(service), running(service, parts):
        wait(lambda: parts.query("select count(*) from admission_queue") == [(0,)])
        item = made[0]["items"][0]
        counter = Filing(
            Account("s-1", "seller"), None, "s-1", b"", "counter", requests.Counter(), "http", item=item["item"]
        )
        send(
            parts,
            topics.VERIFICATION,
            (
                item["listing"],
                changed(item, revision=1, state=events.State.UNDER_REVIEW, via=(events.State.RECEIVED,), seller="s-1"),
            ),
            (item["listing"], changed(item, revision=2, state=events.State.NOTIFIED, seller="s-1", held=True)),
        )
        wait(
            lambda: (
                parts.query("select state, revision, seller, told from items where id = %s", item["item"])
                == [("NOTIFIED", 2, "s-1", 1)]
            )
        )
        accepted = file(parts, counter)[0]["commands"][0]["command"]
        refused = file(parts, counter)[0]["commands"][0]["command"]
        refusal = events.CommandRefused(
            command=refused, item=item["item"], claim="c", listing=item["listing"], code="late", detail="Too late."
        )
        message = events.MessageSent(
            message="m-1",
            claim=made[0]["claim"],
            party="s-1",
            kind="seller_notice",
            items=(item["item"],),
            channel="email",
            template="t",
            version=1,
            digest="0",
            sent_at=dt.datetime.now(dt.UTC),
        )
        send(
            parts,
            topics.VERIFICATION,
            (item["listing"], changed(item, revision=3, state=events.State.COUNTERED, seller="s-1", command=accepted)),
            (
                item["listing"],
                events.encode(
                    refusal,
                    id="verification.x",
                    source="/t",
                    type="goodfaith.command.refused.v1",
                    subject="i",
                    time=dt.datetime.now(dt.UTC),
                    key=item["listing"],
                ),
            ),
        )
        told = events.AccountTold(
            message="m-2",
            notice="n-1",
            account=HOLDER.id,
            kind="right_expiring",
            about="r-1",
            channel="inbox",
            template="t",
            version=1,
            digest="0",
            sent_at=dt.datetime.now(dt.UTC),
        )
        with parts.engine.begin() as connection:
            notice = events.AccountNotice(notice="n-1", account=HOLDER.id, kind="right_expiring", at=told.sent_at)
            outbox.publish_accounts(connection, [notice], PARTITIONS)
        send(
            parts,
            topics.NOTIFICATION,
            (
                HOLDER.id,
                events.encode(
                    told,
                    id="notification.y",
                    source="/t",
                    type="goodfaith.account.told.v1",
                    subject="m",
                    time=told.sent_at,
                    key=HOLDER.id,
                ),
            ),
            (
                item["listing"],
                events.encode(
                    message,
                    id="notification.x",
                    source="/t",
                    type="goodfaith.message.sent.v1",
                    subject="m",
                    time=message.sent_at,
                    key=item["listing"],
                ),
            ),
        )
        wait(
            lambda: (
                dict(parts.query("select id, status from commands where item = %s", item["item"]))
                == {accepted: "applied", refused: "refused"}
            )
        )
        wait(lambda: parts.query("select count(*) from messages") == [(2,)])
        wait(lambda: read(parts, topics.ACCOUNTS))
    with parts.engine.begin() as connection:
        (own,) = reading_store.list_messages(connection, HOLDER, before=None, limit=10)
        assert (own["claim"], own["about"], own["kind"], own["items"]) == (None, "r-1", "right_expiring", [])
        me = Account("s-1", "seller")
        line = reading_store.timeline(connection, me, made[0]["claim"], after=None, limit=10)
        assert [(entry["revision"], entry["state"]) for entry in line] == [
            (1, "UNDER_REVIEW"),
            (2, "NOTIFIED"),
            (3, "COUNTERED"),
        ]
    assert [event["data"]["notice"] for event in read(parts, topics.ACCOUNTS)] == ["n-1"]
    filed = read(parts, topics.FILINGS)
    assert [event["partitionkey"] for event in filed] == [HOLDER.id] * len(made)
    assert Counter((event["data"]["claim"], event["data"]["items"]) for event in filed) == Counter(
        (claim["claim"], len(claim["items"])) for claim in made
    )
    published = read(parts, topics.INTAKE)
    assert Counter(
        event["data"]["item"] for event in published if event["type"] == "goodfaith.item.submitted.v1"
    ) == Counter(item["item"] for claim in made for item in claim["items"])
    marks = [event for event in published if event["type"] == "goodfaith.watermark.v1"]
    assert marks
    # no command comes behind a watermark that speaks of it
    per_partition: dict[int, dt.datetime] = {}
    for event in published:
        if event["type"] == "goodfaith.watermark.v1":
            partition = int(event["id"].split(".")[1])
            per_partition[partition] = dt.datetime.fromisoformat(event["data"]["upto"])
        elif event["type"].startswith("goodfaith.command."):
            partition = topics.partition_of(event["data"]["listing"], PARTITIONS)
            upto = per_partition.get(partition)
            assert upto is None or dt.datetime.fromisoformat(event["data"]["accepted_at"]) > upto


def request_event(id: str, kind: str, data: dict[str, Any], **values: Any) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": id,
            "source": "/upstream",
            "type": f"goodfaith.request.{kind}.v1",
            "data": data,
            **values,
        }
    )


CLAIM = {
    "right": "r-1",
    "reason": "counterfeit",
    "listings": ["https://market.example/items/1"],
    "on_behalf_of": HOLDER.id,
}
REFUSED: list[tuple[bytes | None, str, str | None]] = [
    (None, "malformed", None),
    (b"", "malformed", None),
    (b"{", "malformed", None),
    (b"\xff\xfe", "malformed", None),
    (b"[" * 100_000, "not_a_cloudevent", None),
    (b"x" * 950_000, "malformed", None),
    (b"{}", "not_a_cloudevent", "id"),
    (request_event("e-time", "submit_claim", CLAIM, time="yesterday"), "not_a_cloudevent", "time"),
    (request_event("e\u0000", "submit_claim", CLAIM), "bad_id", "id"),
    (request_event("e-type", "nope", CLAIM), "unknown_type", "type"),
    (request_event("e-field", "submit_claim", {**CLAIM, "extra": 1}), "invalid", "extra"),
    (request_event("e-missing", "submit_claim", {"on_behalf_of": HOLDER.id}), "invalid", "right"),
    (request_event("e-link", "submit_claim", {**CLAIM, "listings": ["x"]}), "bad_link", "listings[0]"),
    (request_event("e-301", "submit_claim", {**CLAIM, "listings": CLAIM["listings"] * 301}), "invalid", "listings"),  # type: ignore[operator]
    (request_event("e-right", "submit_claim", {**CLAIM, "right": "r-none"}), "right_not_owned", "right"),
    (request_event("e-document", "submit_claim", {**CLAIM, "evidence": ["d-none"]}), "unknown_document", "evidence[0]"),
    (
        request_event("e-bare", "submit_claim", {**CLAIM, "right": "r-bare", "on_behalf_of": "a-bare"}),
        "no_contact",
        "on_behalf_of",
    ),
    (request_event("e-self", "submit_claim", {**CLAIM, "on_behalf_of": None}), "not_your_role", "on_behalf_of"),
    (request_event("e-who", "submit_claim", {**CLAIM, "on_behalf_of": "a-none"}), "unknown_account", "on_behalf_of"),
    (
        request_event("e-operator", "decide", {"decision": "uphold", "item": "i-1", "on_behalf_of": "a-operator"}),
        "unknown_account",
        "on_behalf_of",
    ),
    (request_event("e-not-for", "submit_claim", {**CLAIM, "on_behalf_of": "a-other"}), "not_bound", "on_behalf_of"),
    (
        request_event("e-not-for-unknown", "submit_claim", {**CLAIM, "on_behalf_of": "z-none"}),
        "not_bound",
        "on_behalf_of",
    ),
    (request_event("e-not-that", "complain", {"item": "i-1", "on_behalf_of": HOLDER.id}), "not_bound", "type"),
    (request_event("e-target", "withdraw", {"ground": "error", "on_behalf_of": HOLDER.id}), "no_target", "item"),
    (
        request_event("e-gone", "withdraw", {"ground": "error", "item": "i-none", "on_behalf_of": HOLDER.id}),
        "not_found",
        None,
    ),
    (
        request_event("e-sub", "withdraw", {"ground": "error", "submission": "none", "on_behalf_of": HOLDER.id}),
        "not_found",
        "submission",
    ),
]


def test_upstreams_file_and_are_refused_with_reasons(parts: Parts) -> None:
    topics.create(parts.settings)
    topic = topics.inbound("market")
    good = request_event(
        "e-1",
        "submit_claim",
        {**CLAIM, "listings": ["https://market.example/items/1", "https://market.example/items/2"]},
    )
    send(
        parts,
        topic,
        ("k", good),
        ("k", good),
        ("k", request_event("e-1", "submit_claim", CLAIM)),
        (
            "k",
            request_event(
                "e-2", "withdraw", {"ground": "settled", "submission": "e-1", "listing": "2", "on_behalf_of": HOLDER.id}
            ),
        ),
        *((f"bad-{place}", value) for place, (value, _, _) in enumerate(REFUSED)),
    )
    service = Inbound(parts.settings)
    with contextlib.closing(service), running(service, parts):
        wait(lambda: len(read(parts, topics.REFUSALS)) >= len(REFUSED) + 1)
        wait(
            lambda: (
                parts.query("select count(*) from inbound_progress where upto > now() - interval '3 s'")
                == [(PARTITIONS,)]
            )
        )
    refusals = read(parts, topics.REFUSALS)
    assert [event["data"]["detail"] for event in refusals if event["data"].get("event") == "e-2"] == []
    assert len(refusals) == len(REFUSED) + 1
    assert Counter((event["data"]["reason"], event["data"].get("field")) for event in refusals) == Counter(
        [("key_reused", "Idempotency-Key"), *((reason, field) for _, reason, field in REFUSED)]
    )
    for event in refusals:
        assert event["data"]["upstream"] == "market"
        assert event["data"]["cure"]
    assert {event["data"].get("event") for event in refusals} >= {"e-1", "e-link", "e-type"}
    assert parts.query("select count(*) from inbound_dead_letters") == [(0,)]
    assert parts.query("select complainant, size, channel, via from claims") == [(HOLDER.id, 2, "kafka", "a-market")]
    assert parts.query("select kind, by, role, i.listing, c.via from commands c join items i on i.id = c.item") == [
        ("withdraw", HOLDER.id, "holder", "2", "a-market")
    ]
    ((accepted_at,),) = parts.query("select accepted_at from claims")
    assert accepted_at.microsecond % 1000 == 0  # the broker's milliseconds


def test_any_record_of_an_upstream_is_filed_or_refused(parts: Parts) -> None:
    """A fuzz: bytes of good records changed at random, and random bytes."""
    import random

    dice = random.Random(7)
    topics.create(parts.settings)
    good = [
        request_event("e", "submit_claim", CLAIM),
        request_event("e", "counter", {"item": "i-1", "materials": ["x"], "on_behalf_of": "s-1"}),
    ]
    values: list[tuple[str, bytes | None]] = []
    for number in range(400):
        raw = bytearray(dice.choice(good)) if dice.random() < 0.9 else bytearray(dice.randbytes(dice.randrange(200)))
        for _ in range(dice.randrange(4)):
            if raw:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
        values.append((str(number), bytes(raw[: dice.randrange(len(raw) + 1)] if dice.random() < 0.2 else raw)))
    send(parts, topics.inbound("market"), *values)
    service = Inbound(parts.settings)
    with contextlib.closing(service), running(service, parts):
        wait(lambda: parts.query("select coalesce(sum(next_offset), 0) from inbound_cursors") == [(len(values),)])
    # all copies of one event id are one submission, or refused for being another body
    assert parts.query("select count(*) from inbound_dead_letters") == [(0,)]
    assert parts.query("select count(*) from claims")[0][0] <= len(values)
