"""Statements of reasons: whatever is held, its statement is one that the database takes; and no two holds share one."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.transparency.server import problems
from services.enforcement import statements
from services.enforcement.statements import KEYWORDS, Statement, build, puid, statement_of
from services.enforcement.transparency import Transparency, read_answer
from shared import policy
from shared.events import Id, ItemChanged, RightType, Role, SanctionChanged, State
from shared.policy import Policy, PolicyError
from shared.settings import Settings
from tests import statements_policy

NOW = dt.datetime(2026, 11, 24, 23, 30, tzinfo=dt.UTC)
RULES = policy.parse(statements_policy.text(), f"{statements_policy.VERSION}.toml")
CASES = [(kind, name) for name, reason in RULES.reasons.items() for kind in reason.rights]


def taken(
    *, kind: RightType = "trademark", reason: str = "counterfeit", by: Role = "system", **more: object
) -> ItemChanged:
    event = ItemChanged(
        item="i-1",
        claim="c-1",
        claim_size=1,
        listing="shoe",
        seller="s-secret",
        complainant="h-secret",
        principal="p-secret",
        right="r-1",
        right_type=kind,
        reason=reason,
        profile="sor",
        policy=statements_policy.VERSION,
        revision=3,
        state=State.NOTIFIED,
        rule="7-upheld-prima-facie",
        by=by,
        held=True,
        received_at=NOW - dt.timedelta(days=1),
    )
    return msgspec.structs.replace(event, **more)


def sent(event: ItemChanged, rules: Policy = RULES, down: statements.Down = "suspend") -> dict[str, object]:
    found: dict[str, object] = json.loads(msgspec.json.encode(build(event, rules, down, NOW)))
    return found


@pytest.mark.parametrize(("kind", "reason"), CASES)
@pytest.mark.parametrize("by", get_args(Role))
def test_of_every_right_and_reason_the_database_takes_it(kind: RightType, reason: str, by: Role) -> None:
    body = sent(taken(kind=kind, reason=reason, by=by))
    assert problems(body) == {}
    assert body["category_specification"] == [KEYWORDS[kind]]
    assert body["illegal_content_legal_ground"] == f"The law of {kind}"
    assert RULES.reasons[reason].explanation in str(body["decision_facts"])
    wanted = "AUTOMATED_DECISION_NOT_AUTOMATED" if by in ("reviewer", "operator") else "AUTOMATED_DECISION_FULLY"
    assert body["automated_decision"] == wanted
    assert body["automated_detection"] == "No"


def test_what_the_system_found_itself_is_not_said_to_come_from_a_notice() -> None:
    """Row 20: the listing was found by comparison, and a person decided."""
    body = sent(taken(by="reviewer", recurs="i-0"))
    assert problems(body) == {}
    assert (body["automated_detection"], body["source_type"]) == ("Yes", "SOURCE_VOLUNTARY")
    assert body["automated_decision"] == "AUTOMATED_DECISION_NOT_AUTOMATED"
    facts = str(body["decision_facts"])
    assert facts.startswith("No notice led to this claim.")
    assert str(RULES.statements.facts if RULES.statements else "") not in facts
    assert "i-0" not in facts


def test_rights_without_a_reason_have_a_keyword_as_well() -> None:
    assert set(KEYWORDS) == set(get_args(RightType))
    assert {kind for kind, _ in CASES} <= set(KEYWORDS)


def test_dates_and_measure() -> None:
    body = sent(taken())
    assert (body["content_date"], body["application_date"]) == ("2026-11-23", "2026-11-24")
    assert body["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_DISABLED"]
    assert sent(taken(), down="remove")["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_REMOVED"]
    # a date is that of the day in UTC, and a claim is never later than its hold
    east = NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))
    late = build(taken(received_at=NOW + dt.timedelta(days=3)), RULES, "suspend", east)
    assert late.content_date == late.application_date == dt.date(2026, 11, 24)


def test_no_party_is_named() -> None:
    text = json.dumps(sent(taken()))
    for party in ("s-secret", "h-secret", "p-secret", "r-1", "shoe"):
        assert party not in text


def test_the_longest_texts_that_a_policy_allows_fit() -> None:
    table = statements_policy.TABLE.replace(
        "A right holder filed a notice under Article 16 against the listing.", "x" * 2000
    )
    rules = policy.parse(statements_policy.text(table), f"{statements_policy.VERSION}.toml")
    longest = msgspec.structs.replace(rules.reasons["counterfeit"], title="t" * 100, explanation="e" * 1000)
    rules = msgspec.structs.replace(rules, reasons={**rules.reasons, "counterfeit": longest})
    body = sent(taken(item="i" + ":" * 119, rule="r" * 120, policy="p" * 120), rules)
    assert problems(body) == {}


IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,20}\Z")


@given(IDS, st.integers(1, 10**6), IDS, st.integers(1, 10**6))
def test_no_two_holds_share_an_identifier(one: str, first: int, other: str, second: int) -> None:
    assert (puid(one, first) == puid(other, second)) == ((one, first) == (other, second))
    assert msgspec.convert(puid(one, first), statements.Puid)


@given(st.from_type(str))
def test_an_identifier_is_bounded(text: str) -> None:
    try:
        item = msgspec.convert(text, Id)
    except msgspec.ValidationError:
        return
    assert len(puid(item, 2**31 - 1)) <= 500


def test_only_a_policy_that_asks_gets_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statement_of(taken(policy="ipp-2026-11"), "suspend", NOW) is None
    off = msgspec.structs.replace(RULES, statements=msgspec.structs.replace(RULES.statements, enabled=False))
    for rules, wanted in ((RULES, True), (off, False)):
        monkeypatch.setattr(policy, "load", lambda _, rules=rules: rules)
        found = statement_of(taken(), "suspend", NOW)
        assert (found is not None) == wanted
        if found is not None:
            assert (found.puid, found.item, found.revision) == ("i-1-3", "i-1", 3)
            assert msgspec.json.decode(found.body, type=Statement) == build(taken(), RULES, "suspend", NOW)


def test_what_does_not_fit_the_schema_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "load", lambda _: RULES)
    monkeypatch.setattr(statements, "_facts", lambda *_: ["x" * 5001])
    with pytest.raises(msgspec.ValidationError, match="decision_facts"):
        statement_of(taken(), "suspend", NOW)


def test_the_types_bounds_are_the_schemas() -> None:
    _, components = msgspec.json.schema_components([Statement])
    fields = components["Statement"]["properties"]
    bounds = {name: fields[name].get("maxLength") for name in fields if "maxLength" in fields[name]}
    assert bounds == {
        "puid": 500,
        "illegal_content_legal_ground": 500,
        "illegal_content_explanation": 2000,
        "decision_facts": 5000,
    }


def test_a_policy_with_statements_needs_a_ground_for_each_right() -> None:
    text = statements_policy.text()
    start = text.index("[statements.grounds.design]")
    without = text[:start] + text[text.index("[statements.grounds", start + 5) :]
    with pytest.raises(PolicyError, match=r"statements.grounds: 'design' is missing"):
        policy.parse(without, f"{statements_policy.VERSION}.toml")
    policy.parse(without.replace("enabled = true", "enabled = false"), f"{statements_policy.VERSION}.toml")


@pytest.mark.parametrize(
    ("broken", "key"),
    [
        (("[statements]\nenabled = true", '[statements]\nenabled = "yes"'), "statements.enabled"),
        (('"DE", "FR", "NL"', '"DE", "US"'), "statements.territorial_scope"),
        (('["DE", "FR", "NL"]', "[]"), "statements.territorial_scope"),
        (('facts = "A', f'facts = "{"x" * 2001}'), "statements.facts"),
        (
            ("[statements]\nenabled = true", '[statements]\nenabled = true\nsource_type = "SOURCE_VOLUNTARY"'),
            "statements.source_type",
        ),
        (("[statements]\nenabled = true", "[statements]\nenabled = true\nfoo = 1"), "foo"),
    ],
)
def test_a_wrong_table_is_named(broken: tuple[str, str], key: str) -> None:
    with pytest.raises(PolicyError, match=key):
        policy.parse(statements_policy.text().replace(*broken), f"{statements_policy.VERSION}.toml")


@pytest.mark.parametrize(
    ("status", "raw", "known", "bad", "duplicate"),
    [
        (422, b'{"errors": {"statement_1": {"puid": ["no"]}}}', set(), {1}, False),
        (422, b'{"errors": {"puid": ["x"], "existing_puids": ["a", 7]}}', {"a"}, set(), False),
        (422, b'{"message": "not unique", "errors": {"puid": ["x"]}, "existing": {"puid": "a"}}', set(), set(), True),
        (409, b"no json", set(), set(), True),
        (422, b"[" * 100_000, set(), set(), False),
        (422, b'{"errors": [1]}', set(), set(), False),
        (
            422,
            '{"errors": {"statement_٣": [], "statement_99999999999": [], "statement_": []}}'.encode(),
            set(),
            set(),
            False,
        ),
    ],
)
def test_what_a_refusal_says(status: int, raw: bytes, known: set[str], bad: set[int], duplicate: bool) -> None:
    answer = read_answer(status, raw)
    assert (answer.known, set(answer.bad), answer.duplicate) == (known, bad, duplicate)
    assert len(answer.text) < 400


@pytest.mark.parametrize(
    "url", ["", "http://transparency.example/api", "ftp://127.0.0.1/", "http://127.0.0.1.evil.example/"]
)
def test_the_token_goes_nowhere_unencrypted(url: str) -> None:
    with pytest.raises(ValueError, match="statements_url"):
        Transparency(Settings(statements_url=url, statements_token="secret"))


def test_there_must_be_a_token() -> None:
    with pytest.raises(ValueError, match="statements_token"):
        Transparency(Settings(statements_url="https://transparency.example/api"))


# ---- accounts

DSA = policy.current("dsa")


def sanction(**more: Any) -> SanctionChanged:
    fields: dict[str, Any] = {
        "seller": "s-secret",
        "sanction": "0f0f.s3",
        "change": "imposed",
        "cause": "threshold",
        "measures": ("frozen", "may_not_list"),
        "ledger": "general",
        "level": 4,
        "begins": NOW,
        "ends": NOW + dt.timedelta(days=14),
        "entry": "e.5",
        "claim": "c-9",
        "at": NOW,
    }
    return SanctionChanged(**{**fields, **more})


@pytest.mark.parametrize(
    ("more", "decision", "said"),
    [
        ({}, "DECISION_ACCOUNT_SUSPENDED", "suspended until 2026-12-08"),
        ({"measures": ("frozen",), "ends": None}, "DECISION_ACCOUNT_SUSPENDED", "so many violations have expired"),
        (
            {"measures": ("closed",), "ends": None, "ledger": "serious"},
            "DECISION_ACCOUNT_TERMINATED",
            "The account is closed",
        ),
        (
            {"measures": ("closed",), "scope": "entity"},
            "DECISION_ACCOUNT_TERMINATED",
            "of the accounts of one business",
        ),
    ],
)
def test_a_freeze_and_a_closure_have_a_statement_that_the_database_takes(
    more: dict[str, Any], decision: str, said: str
) -> None:
    found = statements.account_statement_of(sanction(**more), DSA)
    assert found is not None
    assert (found.item, found.revision, found.policy) == ("0f0f.s3", 1, DSA.version)
    body = json.loads(found.body)
    assert problems(body) == {}
    assert body["decision_account"] == decision
    assert "decision_visibility" not in body
    assert said in body["decision_facts"]
    assert body["automated_decision"] == "AUTOMATED_DECISION_FULLY"
    assert "s-secret" not in found.body


@pytest.mark.parametrize(
    "more",
    [
        {"measures": ()},
        {"measures": ("listing_restricted",)},
        {"measures": ("may_not_list",)},
        {"change": "lifted", "cause": "timer"},
    ],
)
def test_what_suspends_nobody_has_none(more: dict[str, Any]) -> None:
    assert statements.account_statement_of(sanction(**more), DSA) is None


def test_only_penalties_that_ask_for_statements_on_accounts_have_them() -> None:
    assert statements.account_statement_of(sanction(), policy.current("ipp")) is None
    assert DSA.statements is not None
    for wanted in (
        None,
        msgspec.structs.replace(DSA.statements, accounts=None),
        msgspec.structs.replace(DSA.statements, enabled=False),
    ):
        assert statements.account_statement_of(sanction(), msgspec.structs.replace(DSA, statements=wanted)) is None
