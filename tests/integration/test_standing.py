"""Sellers through the real applications: intake asks enforcement, which reads what the real ledger wrote."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.enforcement import offenders, reading
from services.ops import cli, terminal
from shared import clock, policy, topics
from shared.events import LiftSanction
from shared.paging import cursor_of
from tests.integration.intake_parts import Parts, People, wait
from tests.integration.sellers import Ledgers, many
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.stack
RULES = policy.current("ipp").penalties
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(stack, tmp_path_factory.mktemp("intake"), enforcement_url=f"http://127.0.0.1:{free_port()}")
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def ledgers(parts: Parts, stack: Stack) -> Iterator[Ledgers]:
    ledgers = Ledgers(parts.enforcement(stack))
    yield ledgers
    ledgers.close()


@pytest.fixture(scope="module")
def now(ledgers: Ledgers) -> dt.datetime:
    with ledgers.engine.connect() as connection:
        return clock.read(connection)[0]


@pytest.fixture(scope="module")
def sellers(ledgers: Ledgers, now: dt.datetime) -> list[str]:
    """Ten sellers; s-<n> has n violations, a day apart, the last of them yesterday; of s-4 the first was reversed since."""
    for back in range(10, 0, -1):
        at = now - back * DAY
        ledgers.batch(
            at + dt.timedelta(minutes=1),
            *[ledgers.say(f"s-{n}", f"c-{n}-{back}", at) for n in range(10) if n >= back],
        )
    ledgers.batch(now - dt.timedelta(hours=2), ledgers.say("s-4", "c-4-4", now - 4 * DAY, in_force=False))
    ledgers.batch(
        now - dt.timedelta(hours=1), ledgers.say("s-9", "c-9-s", now - dt.timedelta(hours=1), severity="serious")
    )
    return [f"s-{n}" for n in range(1, 10)]


@pytest.fixture(scope="module")
def staff(sellers: list[str], people: People) -> dict[str, str]:
    return people.open("reviewer")[1]


def every(client: httpx.Client, path: str, headers: dict[str, str], **params: Any) -> list[dict[str, Any]]:
    """All entries of a listing, two a page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = client.get(
            path, params={**params, "limit": 2, **({"cursor": cursor} if cursor else {})}, headers=headers
        )
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) <= 2
        found += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return found


def test_sellers_are_listed_sorted_and_filtered(client: httpx.Client, staff: dict[str, str], now: dt.datetime) -> None:
    def ids(**params: Any) -> list[str]:
        return [row["seller"] for row in every(client, "/v1/sellers", staff, **params)]

    assert ids() == ["s-9", "s-8", "s-7", "s-6", "s-5", "s-3", "s-4", "s-2", "s-1"]
    assert ids(sort="seller") == [f"s-{n}" for n in range(1, 10)]
    assert ids(sort="strikes")[:2] == ["s-9", "s-1"]
    assert ids(sort="changed")[:2] == ["s-9", "s-4"]
    assert ids(tier="2") == ["s-2"]
    assert ids(tier="3-5") == ["s-5", "s-3", "s-4"]
    assert ids(tier="6+") == ["s-9", "s-8", "s-7", "s-6"]
    assert ids(repeat_offender="false") == ["s-1"]
    assert ids(consequence="closed") == ["s-9"]
    assert ids(consequence="warning") == ["s-1"]
    assert ids(measure="closed") == ["s-9"]
    assert "s-3" in ids(measure="frozen")
    assert ids(measure="may_not_list", tier="3-5") == ["s-5"]
    assert ids(since=(now - dt.timedelta(hours=3)).isoformat()) == ["s-9"]
    row = every(client, "/v1/sellers", staff, tier="2")[0]
    assert (row["violations"], row["general_points"], row["repeat_offender"], row["tier"]) == (2, 6, True, "2")


@pytest.mark.parametrize(
    ("path", "params", "status", "field"),
    [
        ("/v1/sellers", {"tier": "7+"}, 422, "tier"),
        ("/v1/sellers", {"since": "yesterday"}, 422, "since"),
        ("/v1/sellers", {"since": "2026-01-01"}, 422, "since"),
        ("/v1/sellers", {"since": "0001-01-01T00:00:00+16:08"}, 422, "since"),
        ("/v1/sellers", {"sort": "name"}, 400, "sort"),
        ("/v1/sellers", {"limit": 201}, 400, "limit"),
        ("/v1/sellers", {"cursor": "WzFd"}, 400, "cursor"),
        ("/v1/sellers/s-1/why", {"at": "now"}, 422, "at"),
        ("/v1/sellers/s-1/why", {"steps": 1001}, 400, "steps"),
        ("/v1/sellers/s-1/ledger", {"cursor": "x"}, 400, "cursor"),
        ("/v1/sellers/s-1/ledger", {"cursor": cursor_of("x.99999999999999999999")}, 400, "cursor"),
        ("/v1/sellers/s-1/ledger", {"cursor": cursor_of("x")}, 400, "cursor"),
        ("/v1/sellers/s-1/sanctions", {"cursor": cursor_of("x.s99999999999999999999")}, 400, "cursor"),
        ("/v1/sellers/%00/ledger", {}, 404, None),
    ],
)
def test_what_is_asked_is_checked(
    client: httpx.Client, staff: dict[str, str], path: str, params: dict[str, Any], status: int, field: str | None
) -> None:
    answer = client.get(path, params=params, headers=staff)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert answer.json()["cure"]


def test_a_cursor_belongs_to_its_sort(client: httpx.Client, staff: dict[str, str]) -> None:
    cursor = client.get("/v1/sellers", params={"limit": 1}, headers=staff).json()["next"]
    assert client.get("/v1/sellers", params={"cursor": cursor, "sort": "points"}, headers=staff).status_code == 400


@pytest.mark.parametrize("entity", ["%00", "a%00b", "", "a" * 121])
@pytest.mark.usefixtures("sellers")
def test_a_bad_entity_is_refused_before_the_database_sees_it(parts: Parts, entity: str) -> None:
    url = f"{parts.settings.enforcement_url}/internal/sellers?entity={entity}"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {parts.internal}"}, trust_env=False)
    assert answer.status_code == 400, answer.text


def test_a_sellers_history_and_why(client: httpx.Client, staff: dict[str, str], now: dt.datetime) -> None:
    standing = client.get("/v1/sellers/s-4/standing", headers=staff).json()
    assert (standing["general_points"], standing["violations"], standing["tier"]) == (12, 3, "3-5")
    violations = every(client, "/v1/sellers/s-4/violations", staff)
    assert [(v["claim"], v["in_force"], v["points"]) for v in violations] == [
        ("c-4-1", True, 6),
        ("c-4-2", True, 6),
        ("c-4-3", True, 0),
        ("c-4-4", False, None),
    ]
    assert {v["listings"] for v in violations} == {1}
    assert [v["claim"] for v in every(client, "/v1/sellers/s-4/violations", staff, in_force="false")] == ["c-4-4"]
    entries = every(client, "/v1/sellers/s-4/ledger", staff)
    # the first was reversed: the second is the first now
    assert [(e["claim"], e["kind"], e["points"], e["counts"]) for e in entries] == [
        ("c-4-3", "violation", 0, True),
        ("c-4-3", "reversal", -6, False),
        ("c-4-4", "reversal", 0, False),
        ("c-4-1", "violation", 6, True),
        ("c-4-2", "violation", 6, True),
        ("c-4-3", "violation", 6, False),
        ("c-4-4", "violation", 0, False),
    ]
    by_id = {e["entry"]: e for e in entries}
    assert all(by_id[e["reverses"]]["reversed_by"] == e["entry"] for e in entries if e["reverses"])
    why = client.get("/v1/sellers/s-4/why", headers=staff).json()
    assert why["agrees"], why["differences"]
    assert [(step["what"], step["claim"], step.get("rule")) for step in why["steps"]][-3:] == [
        ("reversed", "c-4-4", None),
        ("reversed", "c-4-3", None),
        ("entered", "c-4-3", "first"),
    ]
    # before the reversal it stood as it stood then
    then = client.get(
        "/v1/sellers/s-4/why", params={"at": (now - 3 * dt.timedelta(hours=1)).isoformat()}, headers=staff
    )
    assert (then.json()["general_points"], then.json()["violations"], then.json()["agrees"]) == (18, 4, True)
    nobody = client.get("/v1/sellers/s-nobody/why", headers=staff).json()
    assert (nobody["agrees"], nobody["steps"], nobody["stored"]["changed_at"]) == (True, [], None)


def test_a_seller_reads_its_own(client: httpx.Client, people: People, sellers: list[str]) -> None:
    _, headers = people.open("seller", id="s-3")
    assert client.get("/v1/standing", headers=headers).json()["violations"] == 3
    entries = every(client, "/v1/standing/ledger", headers)
    assert [entry["claim"] for entry in entries] == ["c-3-1", "c-3-2", "c-3-3"]
    _, headers = people.open("seller", id="s-new")
    assert client.get("/v1/standing", headers=headers).json()["violations"] == 0


def test_sanctions_are_read_and_lifted(
    parts: Parts, client: httpx.Client, people: People, staff: dict[str, str], ledgers: Ledgers, now: dt.datetime
) -> None:
    shown = every(client, "/v1/sellers/s-2/sanctions", staff)
    assert [(one["sanction"]["consequence"], one["sanction"]["state"]) for one in shown] == [
        ("listing_restricted", "in_force"),
        ("warning", "in_force"),
    ]
    first = shown[0]["sanction"]
    assert (first["claim"], first["measures"], first["ledger"], first["level"]) == (
        "c-2-1",
        ["listing_restricted"],
        "general",
        2,
    )
    assert first["ends"] is not None
    lift = f"/v1/sellers/s-2/sanctions/{first['sanction']}/lift"
    body = {"reason": "operators_mistake", "note": "The wrong seller."}
    assert client.post(lift, json=body, headers=staff).status_code == 403
    assert client.post(lift, json={}, headers=people.operator).status_code == 422
    assert client.post(lift.replace("s-2/", "s-3/"), json=body, headers=people.operator).status_code == 404
    made = client.post(lift, json=body, headers=people.operator)
    assert made.status_code == 202, made.text
    # another operator asks too, before the first word is done: that one has no effect
    late = client.post(lift, json={"reason": "goodwill"}, headers=people.operator)
    assert late.status_code == 202
    # as intake's worker publishes it, and the ledger's takes it
    (payload,), _ = parts.query(
        "select payload from intake.admission_queue where type = 'goodfaith.sanction.lift.v1' order by id"
    )
    asked = msgspec.json.decode(payload, type=LiftSanction)
    assert (asked.account, asked.command, asked.by) == ("s-2", made.json()["command"], "a-operator")
    assert "wrong seller" not in payload
    told = ledgers.batch(now, asked, topic=topics.ACCOUNTS.name, kind="goodfaith.sanction.lift.v1")
    assert [(type(event).__name__, getattr(event, "cause", None)) for event in told][:2] == [
        ("SanctionChanged", "operator"),
        ("SellerCommand", None),
    ]
    after = every(client, "/v1/sellers/s-2/sanctions", staff)[0]
    assert (after["sanction"]["state"], after["sanction"]["reason"]) == ("lifted", "operators_mistake")
    assert (after["lift"]["note"], after["lift"]["by"]) == ("The wrong seller.", "a-operator")
    assert [one["sanction"]["level"] for one in every(client, "/v1/sellers/s-2/sanctions", staff, in_force="true")] == [
        1
    ]
    assert client.get("/v1/sellers/s-2/standing", headers=staff).json()["measures"] == []
    again = client.post(lift, json=body, headers=people.operator)
    assert (again.status_code, again.json()["type"]) == (409, "urn:goodfaith:problem:not_in_force")
    why = client.get("/v1/sellers/s-2/why", headers=staff).json()
    assert why["agrees"], why["differences"]
    assert [one["state"] for one in why["sanctions"]] == ["lifted", "in_force"]
    # before it was lifted it stood, and before it began it did not
    then = client.get("/v1/sellers/s-2/why", params={"at": (now - dt.timedelta(hours=1)).isoformat()}, headers=staff)
    assert [one["state"] for one in then.json()["sanctions"]] == ["in_force", "in_force"]
    then = client.get(
        "/v1/sellers/s-2/why", params={"at": (now - 30 * dt.timedelta(hours=1)).isoformat()}, headers=staff
    )
    assert [one["level"] for one in then.json()["sanctions"]] == [1]


def test_a_seller_is_told_how_a_sanction_is_undone(client: httpx.Client, people: People, sellers: list[str]) -> None:
    _, headers = people.open("seller", id="s-5")
    found = every(client, "/v1/standing/sanctions", headers, in_force="true")
    assert found[0]["sanction"]["measures"] == ["frozen", "may_not_list"]
    assert found[0]["why"] == "The account's own violations reached a threshold of its penalty ledgers."
    assert found[0]["undone"][0] == "It ends automatically when its time is over."
    german = every(client, "/v1/standing/sanctions", {**headers, "Accept-Language": "de"}, in_force="true")
    assert german[0]["why"] != found[0]["why"]
    assert len(every(client, "/v1/standing/violations", headers)) == 5


def test_figures_by_the_api_and_the_gauges(client: httpx.Client, staff: dict[str, str]) -> None:

    def counted() -> dict[str, Any] | None:
        figures = client.get("/v1/offenders/figures", headers=staff).json()
        return figures if figures["sellers"] else None  # those of the last two seconds are shown again

    figures = wait(counted)
    assert {tier["tier"]: tier["sellers"] for tier in figures["tiers"]} == {"1": 1, "2": 1, "3-5": 3, "6+": 4}
    assert figures["repeat_offenders"] == 8
    assert figures["recidivism"]["rate"] is None
    assert figures["measures"]["closed"] == 1
    assert (figures["recidivism_young"]["again"], figures["recidivism_young"]["sellers"]) == (8, 9)


def test_the_command_line(
    parts: Parts, stack: Stack, sellers: list[str], ledgers: Ledgers, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODFAITH_KAFKA", stack.kafka)
    monkeypatch.setenv("GOODFAITH_DATABASE", parts.admin_url)
    monkeypatch.setattr(terminal.console, "width", 80)
    app = cli.build()

    def run(*arguments: str, code: int = 0) -> tuple[str, Any]:
        said = CliRunner().invoke(app, ["standing", *arguments])
        answer = CliRunner().invoke(app, ["standing", *arguments, "--json"])
        assert (said.exit_code, answer.exit_code) == (code, code), answer.output
        return said.stdout, json.loads(answer.stdout)

    text, found = run("explain", "s-4")
    assert found["agrees"]
    assert "the claim does not stand" in text
    assert "no threshold" in text.split("serious:")[1]
    text, found = run("explain", "s-4", "--at", (now - 3 * DAY + dt.timedelta(minutes=2)).isoformat())
    assert (found["general_points"], found["violations"]) == (6, 2)
    _, found = run("list", "--tier", "6+", "--sort", "seller")
    assert [row["seller"] for row in found["sellers"]] == ["s-6", "s-7", "s-8", "s-9"]
    text, found = run("figures")
    assert found["repeat_offenders"] == 8
    assert "9 sellers with violations" in text
    # a sum that somebody changed is found
    with ledgers.engine.begin() as connection:
        connection.exec_driver_sql("update standings set general_points = 0 where seller = 's-7'")
    text, found = run("explain", "s-7", code=1)
    assert not found["agrees"]
    assert "does not agree" in text
    with ledgers.engine.begin() as connection:
        connection.exec_driver_sql("update standings set general_points = 36 where seller = 's-7'")
    run("explain", "s-7")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 900), st.integers(0, 3), st.booleans()), max_size=40))
def test_figures_are_what_a_recount_finds(ledgers: Ledgers, rows: list[tuple[int, int, int, bool]]) -> None:
    """Counted by the database and, one by one, by the definition; days apart and exactly on its edges."""
    now = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
    repeat = RULES.repeat_offender
    violations = [
        (f"x-{seller}", f"c-{place}", now - days * DAY - hours * dt.timedelta(hours=1), in_force)
        for place, (seller, days, hours, in_force) in enumerate(rows)
    ]
    in_force = [(seller, at) for seller, _, at, stands in violations if stands]
    counts: dict[str, int] = {}
    for seller, at in in_force:
        counts[seller] = counts.get(seller, 0) + (at + repeat.within.exact > now)
    with ledgers.engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("delete from violations")
        connection.exec_driver_sql("delete from standings")
        for seller, claim, at, stands in violations:
            connection.exec_driver_sql(
                "insert into violations (seller, claim, in_force, severity, at) values (%s, %s, %s, 'general', %s)",
                (seller, claim, stands, at),
            )
        for seller, count in counts.items():
            connection.exec_driver_sql(
                """insert into standings (seller, partition, general_points, serious_strikes, violations, repeat_offender,
                    general_level, serious_level, changed_at, entries, tail)
                values (%s, 0, 0, 0, %s, %s, 0, 0, %s, 0, '{}')""",
                (seller, count, count >= repeat.violations, now),
            )
        found = reading.figures(connection, repeat, now)
        transaction.rollback()
    assert msgspec.structs.replace(found, measures={}, entities=0, repeat_entities=0) == offenders.figures(
        in_force, repeat, now
    )


def test_a_long_ledger_is_explained_soon(ledgers: Ledgers, now: dt.datetime) -> None:
    """A seller with 2,000 violations, out of order: read and replayed at once, not once for each."""
    at = now - 300 * DAY
    events = [ledgers.say("s-long", f"long-{n}", at + n * dt.timedelta(hours=1)) for n in range(2000)]
    many(ledgers, at + 100 * DAY, events, 2000)
    with ledgers.engine.begin() as connection:
        found = reading.why(connection, "s-long", RULES, "ipp", now)
    assert found.agrees, found.differences
    assert found.left_out == 1000


def test_the_accounts_of_a_business(
    client: httpx.Client, staff: dict[str, str], ledgers: Ledgers, now: dt.datetime
) -> None:
    """As the process that counts entities leaves them."""
    with ledgers.engine.begin() as connection:
        connection.exec_driver_sql(
            """insert into entities (entity, general_points, serious_strikes, violations, next_change, grounds, last, warned, counted_at)
            values ('e-1', 18, 0, 4, null, '[]', null, '{}', %s), ('e-2', 0, 0, 1, null, '[]', null, '{}', %s)""",
            (now, now),
        )
        connection.exec_driver_sql(
            "insert into entity_members (seller, entity, entries) values ('s-1', 'e-1', 1), ('s-3', 'e-1', 3), ('s-2', 'e-2', 2)"
        )
        found = reading.figures(connection, RULES.repeat_offender, now)
    assert (found.entities, found.repeat_entities) == (2, 1)
    rows = every(client, "/v1/sellers", staff, entity="e-1")
    assert [row["seller"] for row in rows] == ["s-3", "s-1"]
    assert every(client, "/v1/sellers", staff, entity="e-none") == []


def test_a_freeze_under_the_dsa_has_its_statement(ledgers: Ledgers, now: dt.datetime) -> None:
    """In the transaction that imposes it, once; a warning, the first and the prior one, has none."""
    under = Ledgers(ledgers.settings.model_copy(update={"penalties_profile": "dsa"}))
    at = now - 700 * DAY
    for day in range(6):
        under.batch(at + day * DAY, under.say("s-dsa", f"dsa-{day}", at + day * DAY))
    under.close()
    with ledgers.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "select s.body, x.level, x.measures from statements s join sanctions x on x.sanction = s.item order by x.number"
        ).all()
        prior = connection.exec_driver_sql(
            "select level, withheld from sanctions where seller = 's-dsa' and measures = ''"
        )
        assert [tuple(row) for row in prior] == [(1, "")]
    assert [(level, measures) for _, level, measures in rows] == [(3, "frozen"), (4, "frozen,may_not_list")]
    assert [msgspec.json.decode(body)["decision_account"] for body, *_ in rows] == ["DECISION_ACCOUNT_SUSPENDED"] * 2


def test_nobody_is_answered_while_enforcement_is_away(parts: Parts, client: httpx.Client, people: People) -> None:
    """Last, as it ends enforcement's process."""
    (process,) = [one for one in parts._processes if "services.enforcement" in str(one.args)]
    process.terminate()
    process.wait(PATIENCE_S)
    answer = client.get("/v1/sellers", headers=people.operator)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:goodfaith:problem:unavailable")
    assert answer.headers["retry-after"]
    assert client.get("/v1/me", headers=people.operator).status_code == 200
