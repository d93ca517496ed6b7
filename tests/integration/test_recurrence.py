"""Row 20 on the real database: verification finds near copies of upheld listings, and intake files them, once each."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from deploy.local.fleet import UNREVIEWED_IPP
from deploy.local.stack import Stack
from services.intake.filing import store as filing_store
from services.intake.filing.domain import check_claim
from services.intake.kernel import requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.listings import named_by
from services.intake.worker import Intake
from services.verification.worker import Verification
from shared import clock, db, events, migrate, topics
from shared.events import ItemSubmitted, Listing, RecurrenceFound
from shared.runtime import Incoming, Outgoing, Tx
from shared.site_links import SiteLinks
from tests.integration.intake_parts import PARTITIONS, Parts, _with_database, on_file

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
TITLE = "Runner Pro 2 men's running shoes, white, all sizes"
AGAIN = "RUNNER-PRO 2 / running shoes (men's) white / all sizes"
OTHER = "Leather handbag for women with two pockets"
PICTURE = "c3c3a5a53c3c5a5a"
HOLDER = Account("a-holder", "holder", True, True, True)
AGENT = Account("a-agent", "holder", True, False, True)
SITE = SiteLinks(("market.example/items/{id}",))


class Town:
    """Intake and verification on a database of their own, run batch by batch; what would go by topics is handed over."""

    def __init__(self, parts: Parts, stack: Stack) -> None:
        self.parts = parts
        migrate.migrate(parts.admin_url, stack.role_passwords("verification"))
        self.engine = db.connect(
            _with_database(stack.role_url("verification"), parts.name), schema="verification", name="test", pool_size=2
        )
        self.intake = Intake(parts.settings, background=False)
        self.intake._inbound = ()
        self.intake.pressure.windows = {}
        self.judge = Verification()
        self.ids = itertools.count()
        self.found: list[RecurrenceFound] = []
        with parts.engine.begin() as connection:
            for account in (HOLDER, AGENT):
                store.open_account(connection, account, "company", by=None)
            on_file(connection, HOLDER.id, AGENT.id)
        self.right("r-1")

    def close(self) -> None:
        self.intake.close()
        self.engine.dispose()

    def right(self, id: str, owner: str = HOLDER.id) -> None:
        self.parts.query(
            """insert into rights (id, owner, right_type, number, status, proof, registered_at)
            values (%s, %s, 'trademark', %s, 'active', 'd', now())""",
            id,
            owner,
            id,
        )

    def incoming(self, topic: str, data: events.Data, type_: str, key: str, at: dt.datetime) -> Incoming:
        id_ = f"test.{next(self.ids)}"
        raw = events.encode(data, id=id_, source="/test", type=type_, subject=key, time=at, key=key)
        place = topics.partition_of(key, PARTITIONS)
        return Incoming(topic, place, 0, key, id_, type_, data, events.decode_envelope(raw))

    def batch(self, *told: Incoming) -> list[Outgoing]:
        """One batch of verification's."""
        with self.engine.begin() as connection:
            now, wall = clock.read(connection)
            marks = dict.fromkeys(range(PARTITIONS), now)
            made = self.judge.open(Tx(connection, now, wall, list(marks), marks, frozenset()), told)
            out = [one for record in told for one in made.apply(record)]
            for due in made.due(1000):
                out += made.fire(due)
            made.save()
        self.found += [one.data for one in out if isinstance(one.data, RecurrenceFound)]
        return out

    def fold(self, out: list[Outgoing]) -> None:
        """What verification said, folded by intake in one batch."""
        told = [
            self.incoming("verification.events", one.data, one.type, one.key, one.time)
            for one in out
            if one.topic is topics.VERIFICATION
        ]
        with self.parts.engine.begin() as connection:
            now, wall = clock.read(connection)
            fold = self.intake.open(Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset()), told)
            for record in told:
                fold.apply(record)
            fold.save()

    def listed(self, *listings: Listing) -> None:
        """The marketplace says what listings are; then all that follows, to its end."""
        at = dt.datetime.now(dt.UTC)
        kind = "goodfaith.marketplace.listing.v1"
        self.fold(self.batch(*(self.incoming("marketplace.listings", one, kind, one.listing, at) for one in listings)))
        self.settle()

    def offer(self, listing: str, title: str | None = TITLE, seller: str = "s-1", **more: Any) -> None:
        self.listed(Listing(**{"listing": listing, "seller": seller, "state": "visible", "title": title, **more}))

    def settle(self) -> None:
        """Let intake's rows go to verification, and back."""
        while True:
            with self.parts.engine.begin() as connection:
                now, wall = clock.read(connection)
                tx = Tx(connection, now, wall, list(range(PARTITIONS)), {}, frozenset())
                taken = self.intake.pull(tx, 1000)
                out = [one for record in taken for one in self.intake.open(tx, taken).apply(record)]
            if not out:
                return
            self.fold(
                self.batch(*(self.incoming("intake.events", one.data, one.type, one.key, one.time) for one in out))
            )

    def file(
        self, account: Account, *listings: str, right: str = "r-1", version: str = UNREVIEWED_IPP, **more: Any
    ) -> list[str]:
        """File a claim under that version; its items."""
        body = requests.SubmitClaim(
            right=right,
            listings=[f"https://market.example/items/{name}" for name in listings],
            **{"reason": "counterfeit", **more},
        )
        refs = named_by(body.listings, SITE).listings
        rules = check_claim(body, account, {"ipp": version})  # the usual one upholds what is complete
        (answer,) = self.ask(
            Filing(account, None, account.id, b"", "submit_claim", body, "http", listings=refs, rules=rules)
        )
        return [item["item"] for item in answer["items"]]

    def ask(self, *filings: Filing) -> list[dict[str, Any]]:
        with self.parts.engine.begin() as connection:
            now, wall = store.enter_admission(connection)
            results = filing_store.file(connection, filings, now, wall, PARTITIONS)
        self.settle()
        return [msgspec.json.decode(result.answer) for result in results if isinstance(result, Filed)]

    def command(self, who: Account, kind: str, item: str, body: requests.In) -> None:
        self.ask(Filing(who, None, who.id, b"", kind, body, "http", item=item))

    def uphold(self, listing: str, *, account: Account = HOLDER, seller: str = "s-1", **more: Any) -> str:
        """Claim a listing that is there, and have its seller accept."""
        (item,) = self.file(account, listing, **more)
        self.command(Account(seller, "seller"), "accept", item, requests.Accept())
        assert self.state(item) == "UPHELD"
        return item

    def state(self, item: str) -> str:
        ((state,),) = self.parts.query("select state from items where id = %s", item)
        return str(state)

    def recurring(self) -> list[ItemSubmitted]:
        """Terms of the claims that the system has filed, in order."""
        rows = self.parts.query("select terms from claims where channel = 'recurrence' order by id")
        return [msgspec.json.decode(row[0], type=ItemSubmitted) for row in rows]


@pytest.fixture
def town(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"))
    town = Town(parts, stack)
    yield town
    town.close()
    parts.close()


def test_a_near_copy_becomes_a_claim_of_its_own(town: Town) -> None:
    town.offer("l-1", image_hash=PICTURE)
    old = town.uphold("l-1", materials=["signature"])
    town.offer("l-2", AGAIN)
    (found,) = town.found
    assert (found.listing, found.before, found.item, found.seller, found.title) == ("l-2", "l-1", old, "s-1", 100)
    assert found.distance is None
    (terms,) = town.recurring()
    assert (terms.recurs, terms.listing, terms.claim_size) == (old, "l-2", 1)
    assert (terms.complainant, terms.principal, terms.right, terms.reason) == (
        HOLDER.id,
        HOLDER.id,
        "r-1",
        "counterfeit",
    )
    assert (terms.authority, terms.identity_verified, terms.lane) == ("owner", True, "standard")
    assert set(terms.materials) == {"ownership", "signature"}
    ((state, last),) = town.parts.query("select state, last from items where id = %s", terms.item)
    assert (state, msgspec.json.decode(last)["recurs"]) == ("UNDER_REVIEW", old)  # a person decides
    assert town.parts.query("select account, idempotency_key from submissions where resource = %s", terms.claim) == [
        ("a-system", f"recurrence:{old}:l-2")
    ]


def test_exactly_one_however_often_it_is_said(town: Town) -> None:
    town.offer("l-1")
    old = town.uphold("l-1")
    copy = Listing(listing="l-2", seller="s-1", state="visible", title=AGAIN)
    out = town.batch(
        *(
            town.incoming(
                "marketplace.listings", copy, "goodfaith.marketplace.listing.v1", "l-2", dt.datetime.now(dt.UTC)
            )
            for _ in range(3)
        )
    )
    assert len(town.found) == 1
    town.fold(out + out)  # within a batch, and
    town.fold(out)  # in a later one
    town.settle()
    town.offer("l-2")
    town.offer("l-2", TITLE, image_hash=PICTURE)
    assert len(town.found) == len(town.recurring()) == 1
    # it ends without a takedown: that the listing stands there is no news any more
    reviewer = Account("a-operator", "operator")
    (terms,) = town.recurring()
    town.command(reviewer, "decide", terms.item, requests.Decide(decision="refuse", code="authorised_sale"))
    assert town.state(terms.item) == "REJECTED"
    town.offer("l-2")
    assert len(town.recurring()) == 1
    assert town.state(old) == "UPHELD"


def test_of_recurrences_there_is_no_circle(town: Town) -> None:
    """A copy of a copy is one more; those that are there are not found again, however they are told of."""
    reviewer = Account("a-operator", "operator")
    town.offer("l-1")
    town.uphold("l-1")
    for number in (2, 3, 4):
        town.offer(f"l-{number}", AGAIN)
        terms = town.recurring()[-1]
        town.command(reviewer, "decide", terms.item, requests.Decide(decision="uphold"))
        town.command(Account("s-1", "seller"), "accept", terms.item, requests.Accept())
        assert town.state(terms.item) == "UPHELD"
        for known in range(1, number + 1):
            town.offer(f"l-{known}", AGAIN, state="suspended")
            town.offer(f"l-{known}", AGAIN)
    assert [found.listing for found in town.found] == ["l-2", "l-3", "l-4"]
    assert len(town.recurring()) == 3


def test_by_picture_and_by_business(town: Town) -> None:
    town.offer("l-1", OTHER, image_hash=PICTURE, entity="e-1")
    town.uphold("l-1")
    near = f"{int(PICTURE, 16) ^ 0b10110:016x}"
    town.offer("l-2", TITLE, "s-2", image_hash=near, entity="e-1")  # another account of the same business
    town.offer("l-3", TITLE, "s-1", image_hash=near)
    town.offer("l-4", TITLE, "s-2", image_hash=near)  # another seller, as far as anybody knows
    town.offer("l-5", None, "s-1")
    assert [(found.listing, found.distance) for found in town.found] == [("l-2", 3), ("l-3", 3)]


def test_nothing_for_others_and_for_what_is_not_upheld(town: Town) -> None:
    town.offer("l-1")
    town.offer("l-2", AGAIN)  # it was there before anything was upheld
    (item,) = town.file(HOLDER, "l-1")
    town.offer("l-3", AGAIN)  # notified only
    town.command(Account("s-1", "seller"), "accept", item, requests.Accept())
    town.offer("l-4", AGAIN, "s-2")
    town.offer("l-5", OTHER)
    town.offer("l-6", AGAIN, state="ended")
    town.offer("l-1")  # the very listing: held, and taken down again by enforcement
    assert town.found == []
    town.command(HOLDER, "withdraw", item, requests.Withdraw(ground="licensed"))
    town.offer("l-7", AGAIN)
    assert town.found == []
    assert town.parts.query("select count(*) from claims") == [(1,)]


def test_what_the_holder_knows_already_is_no_news(town: Town) -> None:
    town.offer("l-1")
    town.offer("l-2")
    town.uphold("l-1")
    (own,) = town.file(HOLDER, "l-2")
    town.offer("l-2", AGAIN)
    assert town.found == []
    town.command(HOLDER, "withdraw", own, requests.Withdraw(ground="licensed"))
    town.offer("l-2", AGAIN)
    assert town.found == []


def test_each_right_for_itself(town: Town) -> None:
    town.right("r-2", AGENT.id)
    town.offer("l-1")
    old = [town.uphold("l-1"), town.uphold("l-1", account=AGENT, right="r-2")]
    town.offer("l-2", AGAIN)
    assert sorted(terms.recurs or "" for terms in town.recurring()) == sorted(old)
    assert {terms.complainant for terms in town.recurring()} == {HOLDER.id, AGENT.id}


@pytest.mark.parametrize(
    "sql",
    [
        "update rights set status = 'expired'",
        "update rights set expires_at = now() - interval '1 second'",
        "update rights set owner = 'a-agent'",
        "update accounts set status = 'suspended' where id = 'a-agent'",
        "update authorisations set status = 'ended'",
        "update accounts set email_confirmed_at = null where id = 'a-agent'",
        "delete from contacts where account = 'a-holder'",
    ],
)
def test_only_the_event_where_nobody_could_file(town: Town, sql: str) -> None:
    town.parts.query(
        "insert into authorisations (id, agent, principal, granted_at) values ('u-1', %s, %s, now())",
        AGENT.id,
        HOLDER.id,
    )
    town.offer("l-1")
    old = town.uphold("l-1", account=AGENT, principal=HOLDER.id)
    town.parts.query(sql)
    town.offer("l-2", AGAIN)
    assert [found.item for found in town.found] == [old]
    assert town.recurring() == []


def test_an_agents_claim_is_an_agents_again(town: Town) -> None:
    town.parts.query(
        "insert into authorisations (id, agent, principal, granted_at) values ('u-1', %s, %s, now())",
        AGENT.id,
        HOLDER.id,
    )
    town.offer("l-1")
    town.uphold("l-1", account=AGENT, principal=HOLDER.id)
    town.offer("l-2", AGAIN)
    (terms,) = town.recurring()
    assert (terms.complainant, terms.principal, terms.authority) == (AGENT.id, HOLDER.id, "authorised")


def test_the_complainant_is_not_judged_by_it(town: Town) -> None:
    """Good faith is about what was asked for."""
    town.offer("l-1")
    town.uphold("l-1")
    town.offer("l-2", AGAIN)
    (terms,) = town.recurring()
    town.command(
        Account("a-operator", "operator"),
        "decide",
        terms.item,
        requests.Decide(decision="refuse", code="not_infringing"),
    )
    assert town.state(terms.item) == "REJECTED"
    assert town.parts.query("select sum(settled)::int, sum(upheld)::int from good_faith_days") == [(1, 1)]


def test_the_look_is_bounded_and_by_index(town: Town) -> None:
    with town.engine.begin() as connection:
        connection.exec_driver_sql(
            """insert into upheld select 'i-' || n, 'seller:s-' || n %% 50, 'c', 'x-' || n, 'r-1', 'counterfeit', 'ipp', now(), 'nothing alike ' || n
            from generate_series(1, 50000) n"""
        )
        connection.exec_driver_sql("analyze upheld")
        plan = "\n".join(
            row[0]
            for row in connection.exec_driver_sql(
                "explain select u.* from unnest(array['seller:s-1', 'seller:none']) as o(owner) cross join lateral"
                " (select * from upheld where owner = o.owner order by upheld_at desc limit 200) u"
            )
        )
        assert "upheld_owner" in plan
        assert "Seq Scan" not in plan
    town.offer("l-1")
    assert town.found == []
