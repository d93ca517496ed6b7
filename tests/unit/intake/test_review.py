"""The review queue's decisions: what is a case and how urgent, who may decide it, and when two must."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.kernel import judged, requests
from services.intake.kernel.commands import ItemRef
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Rows
from services.intake.kernel.weighed import BY_PERSON, OTHER_SELLER, audit_of, why_person
from services.intake.review import domain as review
from services.intake.review.domain import Case, CaseChange, DecisionContext, EarlierDecision
from shared import events, policy
from shared.events import DECISIONS, ItemChanged, Role, State
from shared.refusals import Refused

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
S = State
TOKEN = "gl_token"
LEASE = review.digest(TOKEN)
ANN, BEN, CID = (Account(f"r-{name}", "reviewer") for name in ("ann", "ben", "cid"))
OPERATOR = Account("a-op", "operator")
HOLDER = Account("a-1", "holder")
REF = ItemRef("i-1", "c-1", "l-1", "a-1", "a-9", "s-1", "r-1", "UNDER_REVIEW", "standard")
VERSION = policy.current("ipp").version


def changed(revision: int, state: State, previous: State | None = None, **values: Any) -> ItemChanged:
    return msgspec.convert(
        {
            "item": "i-1",
            "claim": "c-1",
            "claim_size": 1,
            "listing": "l-1",
            "complainant": "a-1",
            "principal": "a-9",
            "right": "r-1",
            "right_type": "trademark",
            "reason": "counterfeit",
            "profile": "ipp",
            "policy": VERSION,
            "revision": revision,
            "state": state,
            "previous": previous,
            "rule": "1",
            "received_at": NOW,
            **values,
        },
        ItemChanged,
    )


def case(**values: Any) -> Case:
    """A case that Ann holds."""
    made = Case(
        "i-1", "UNDER_REVIEW", 3, "design", "general", VERSION, LEASE, ANN.id, live=True, seen=4, leased_wall=NOW
    )
    return dataclasses.replace(made, **values)


def decide(
    context: DecisionContext,
    account: Account = ANN,
    decision: str = "uphold",
    *,
    whole: bool = False,
    items: Any = (REF,),
    **values: Any,
) -> Rows:
    body = msgspec.convert({"decision": decision, "lease": TOKEN, **values}, requests.Decide)
    return review.decide_rows(body, account, items, context, whole=whole, now=NOW, wall_ms=1)


def refused(status: int, reason: str, *arguments: Any, **values: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        decide(*arguments, **values)
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert caught.value.cure
    return caught.value


# ---- the queue


def test_what_never_rests_with_a_person_is_of_no_concern() -> None:
    """The hot path: a claim that is upheld prima facie passes through UNDER_REVIEW and costs the queue nothing."""
    assert not review.concerns(changed(1, S.NOTIFIED, via=(S.RECEIVED, S.UNDER_REVIEW)))
    assert not review.concerns(changed(2, S.UPHELD, S.NOTIFIED))
    assert not review.concerns(changed(3, S.HOLDER_RESPONSE, S.NOTIFIED, via=(S.COUNTERED,)))


@pytest.mark.parametrize("state", sorted(DECISIONS))
def test_in_when_it_comes_to_rest_and_out_when_it_leaves(state: State) -> None:
    into, out = changed(2, state, S.RECEIVED), changed(3, S.WITHDRAWN, state)
    assert review.concerns(into)
    assert review.concerns(out)
    move = review.follow(None, into, overdue=False, at=NOW)
    assert (move.is_case, move.entered, move.at, move.due) == (True, 2, NOW, review.NO_DEADLINE)
    assert not review.follow(move, out, overdue=False, at=NOW).is_case


def test_a_change_without_leaving_keeps_the_place() -> None:
    later = NOW + dt.timedelta(hours=1)
    stays = changed(3, S.UNDER_REVIEW, S.UNDER_REVIEW, due=later)
    alone = review.follow(None, stays, overdue=False, at=later)
    assert (alone.entered, alone.due) == (None, later)
    first = review.follow(None, changed(2, S.UNDER_REVIEW, S.RECEIVED), overdue=True, at=NOW)
    both = review.follow(first, stays, overdue=False, at=later)
    assert (both.entered, both.at, both.rank, both.change.revision) == (2, NOW, review.ESCALATED, 3)


def test_a_return_is_a_new_case() -> None:
    first = review.follow(None, changed(2, S.UNDER_REVIEW, S.RECEIVED), overdue=True, at=NOW)
    away = review.follow(first, changed(3, S.SUSPENDED, S.UNDER_REVIEW), overdue=False, at=NOW)
    back = review.follow(away, changed(4, S.UNDER_REVIEW, S.SUSPENDED), overdue=False, at=NOW)
    assert (back.entered, back.rank) == (4, 2)
    # through other states in one instant: as well
    through = changed(5, S.UNDER_REVIEW, S.UNDER_REVIEW, via=(S.RECEIVED,))
    assert review.follow(back, through, overdue=False, at=NOW).entered == 5


def test_an_older_change_changes_nothing() -> None:
    move = review.follow(None, changed(4, S.UNDER_REVIEW, S.RECEIVED), overdue=False, at=NOW)
    assert review.follow(move, changed(3, S.WITHDRAWN, S.UNDER_REVIEW), overdue=False, at=NOW) is move


def test_escalated_before_express_before_standard_before_bulk() -> None:
    ranks = [
        review.rank_of(changed(1, S.UNDER_REVIEW, lane="bulk"), overdue=True),
        *[
            review.rank_of(changed(1, S.UNDER_REVIEW, lane=lane), overdue=False)
            for lane in ("express", "standard", "bulk")
        ],
    ]
    assert ranks == sorted(set(ranks))
    assert review.rank_of(changed(1, S.UNDER_REVIEW, sla="missed"), overdue=False) == review.ESCALATED
    handled = changed(1, S.PLATFORM_REVIEW, sla="missed", handled_at=NOW)
    assert review.rank_of(handled, overdue=False) != review.ESCALATED


STEPS = st.lists(
    st.tuples(
        st.sampled_from([S.UNDER_REVIEW, S.PLATFORM_REVIEW, S.SUSPENDED, S.NOTIFIED]), st.booleans(), st.booleans()
    ),
    max_size=12,
)


@given(STEPS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_batches_make_no_difference(steps: Any, cuts: list[bool]) -> None:
    """However changes are divided into batches, the table comes to the same; and to what a plain fold says."""
    changes, state = [], None
    for revision, (to, passes, overdue) in enumerate(steps, 1):
        changes.append((changed(revision, to, state, via=(S.RECEIVED,) if passes else ()), overdue))
        state = to

    def run(batches: list[list[tuple[ItemChanged, bool]]]) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = None
        for batch in batches:
            move: CaseChange | None = None
            for change, overdue in batch:
                if review.concerns(change):
                    move = review.follow(move, change, overdue=overdue, at=NOW)
            if move is None:
                continue
            if not move.is_case:
                row = None
            elif move.entered is not None:
                row = (move.change.revision, move.entered, move.rank)
            elif row is not None:
                row = (move.change.revision, row[1], min(row[2], move.rank))
        return row

    batches: list[list[tuple[ItemChanged, bool]]] = [[]]
    for place, one in enumerate(changes):
        batches[-1].append(one)
        if cuts[place]:
            batches.append([])
    plain: tuple[Any, ...] | None = None
    for change, overdue in changes:
        rank = 0 if overdue else 2
        if change.state not in DECISIONS:
            plain = None
        elif plain is not None and change.previous == change.state and not change.via:
            plain = (change.revision, plain[1], min(plain[2], rank))
        else:
            plain = (change.revision, change.revision, rank)
    assert run(batches) == run([[one] for one in changes]) == plain


# ---- who decides


def test_a_decision_under_a_lease_carries_the_revision_that_was_seen() -> None:
    context = DecisionContext({"i-1": case()})
    rows = decide(context)
    (command,) = rows.commands
    assert isinstance(command, events.Decide)
    assert (command.decision, command.revision, command.by, command.role) == ("uphold", 4, ANN.id, "reviewer")
    assert "lease" not in msgspec.json.decode(msgspec.json.encode(command))
    assert TOKEN not in str(rows)
    (decided,) = rows.decisions
    assert (decided.kind, decided.command, decided.entered, decided.leased_wall) == (
        "decision",
        command.command,
        3,
        NOW,
    )
    assert decide(DecisionContext({"i-1": case()}), revision=3).commands[0].revision == 3  # type: ignore[attr-defined]


def test_a_reviewer_needs_a_lease_and_an_operator_is_marked() -> None:
    refused(409, "lease_needed", DecisionContext({"i-1": case()}), lease=None)
    rows = decide(DecisionContext({"i-1": case()}), OPERATOR, lease=None)
    assert [one.kind for one in rows.decisions] == ["break_glass"]
    (command,) = rows.commands
    assert isinstance(command, events.Decide)
    assert (command.role, command.break_glass, command.looked) == ("operator", True, ())
    # the read model may be behind
    assert decide(DecisionContext(), OPERATOR, lease=None).commands


@pytest.mark.parametrize(
    ("account", "values"),
    [
        (ANN, {"lease": LEASE + b"x"}),  # another token
        (BEN, {}),  # the right token in another's hands
        (OPERATOR, {}),
        (ANN, {"live": False}),  # expired
        (ANN, {"reviewer": BEN.id}),  # expired and taken by another
        (ANN, {"lease": None, "reviewer": None, "live": False}),  # given back
    ],
)
def test_a_lost_or_stolen_lease(account: Account, values: dict[str, Any]) -> None:
    refused(409, "lease_lost", DecisionContext({"i-1": case(**values)}), account)


def test_a_lease_on_what_has_left_the_queue() -> None:
    refused(409, "lease_lost", DecisionContext())


def test_nobody_decides_what_is_decided() -> None:
    context = DecisionContext({"i-1": case(command="k-1", lease=None, reviewer=None, live=False)})
    refused(409, "already_decided", context)
    # twice in one transaction
    context = DecisionContext({"i-1": case()})
    decide(context)
    refused(409, "already_decided", context)
    # what an operator decides without a lease is judged by the item's owner, who is ahead of us
    first = context.cases["i-1"].command
    assert decide(context, OPERATOR, lease=None).commands
    assert decide(context, OPERATOR, lease=None).commands
    assert context.cases["i-1"].command == first


def test_a_holder_decides_nothing() -> None:
    refused(403, "not_your_part", DecisionContext({"i-1": case()}), HOLDER)
    refused(404, "not_found", DecisionContext({"i-1": case()}), Account("a-3", "holder"))


def test_what_its_owner_would_refuse_is_said_at_once() -> None:
    assert "uphold, refuse" in refused(422, "decision_not_here", DecisionContext({"i-1": case()}), ANN, "restore").cure
    assert "not_infringing" in refused(422, "reason_code", DecisionContext({"i-1": case()}), ANN, "refuse").cure
    refused(422, "reason_code", DecisionContext({"i-1": case()}), ANN, "refuse", code="nope")
    appealed = {"i-1": case(state="APPEALED")}
    refused(422, "reason_code", DecisionContext(appealed), ANN, "confirm", code="not_infringing")
    assert decide(
        DecisionContext(appealed), ANN, "confirm", code=next(iter(review.codes("APPEALED", VERSION)))
    ).commands
    refused(409, "stale", DecisionContext({"i-1": case()}), revision=2)
    assert decide(DecisionContext({"i-1": case()}), ANN, "refuse", code="not_infringing").commands


@pytest.mark.parametrize("party", ["a-1", "a-9", "s-1"])
def test_nobody_decides_about_an_account_that_it_has_to_do_with(party: str) -> None:
    context = DecisionContext({"i-1": case()}, conflicts={ANN.id: {party}, OPERATOR.id: {party}, BEN.id: {"else"}})
    refused(403, "conflict_of_interest", context)
    refused(403, "conflict_of_interest", context, OPERATOR, lease=None)
    assert decide(DecisionContext({"i-1": case(reviewer=BEN.id)}, conflicts=context.conflicts), BEN).commands


def test_a_complaint_is_decided_by_who_did_not_decide_before() -> None:
    past = [EarlierDecision(2, ANN.id, "uphold", "decision")]
    assert review.barred(ANN.id, "APPEALED", 9, past)
    assert not review.barred(BEN.id, "APPEALED", 9, past)
    assert not review.barred(ANN.id, "PLATFORM_REVIEW", 9, past)
    assert review.barred(ANN.id, "UNDER_REVIEW", 2, [EarlierDecision(2, ANN.id, "uphold", "proposal")])
    assert not review.barred(ANN.id, "UNDER_REVIEW", 5, [EarlierDecision(2, ANN.id, "uphold", "proposal")])


# ---- four eyes


def serious(reviewer: Account) -> Case:
    return case(severity="serious", reason="counterfeit", reviewer=reviewer.id)


def test_two_who_agree_decide() -> None:
    context = DecisionContext({"i-1": serious(ANN)})
    first = decide(context, ANN)
    assert (first.commands, first.answer["proposed"], first.resource[:2]) == ([], ["i-1"], "p-")
    assert [one.kind for one in first.decisions] == ["proposal"]
    context.cases["i-1"] = serious(ANN)
    refused(403, "decided_before", context, ANN)
    refused(403, "decided_before", context, dataclasses.replace(ANN, role="operator"), lease=None)
    context.cases["i-1"] = serious(BEN)
    second = decide(context, BEN)
    (command,) = second.commands
    assert isinstance(command, events.Decide)
    assert (command.by, command.looked, command.break_glass) == (BEN.id, (ANN.id,), False)
    (decided,) = second.decisions
    assert (decided.kind, decided.agreed, decided.settles) == ("decision", True, True)


def test_where_two_differ_a_third_decides() -> None:
    context = DecisionContext({"i-1": serious(ANN)})
    decide(context, ANN, "uphold")
    context.cases["i-1"] = serious(BEN)
    second = decide(context, BEN, "refuse", code="not_infringing")
    assert ([one.kind for one in second.decisions], second.commands) == (["proposal"], [])
    for one in (ANN, BEN):
        context.cases["i-1"] = serious(one)
        refused(403, "decided_before", context, one)
    context.cases["i-1"] = serious(CID)
    third = decide(context, CID, "refuse", code="not_infringing")
    assert [(one.kind, one.agreed, one.settles) for one in third.decisions] == [("decision", None, True)]


def test_a_decision_that_takes_nothing_from_anybody_is_one_persons() -> None:
    rows = decide(DecisionContext({"i-1": serious(ANN)}), ANN, "refuse", code="not_infringing")
    assert [one.kind for one in rows.decisions] == ["decision"]


def test_proposals_of_another_visit_do_not_count() -> None:
    context = DecisionContext({"i-1": serious(ANN)}, {"i-1": [EarlierDecision(1, BEN.id, "uphold", "proposal")]})
    assert [one.kind for one in decide(context, ANN).decisions] == ["proposal"]


def test_a_policy_that_is_not_known_here_is_taken_strictly() -> None:
    context = DecisionContext({"i-1": case(policy="ipp-2999-01")})
    assert [one.kind for one in decide(context).decisions] == ["proposal"]


# ---- whole claims

SECOND = dataclasses.replace(REF, item="i-2", listing="l-2")
THIRD = dataclasses.replace(REF, item="i-3", listing="l-3")


def test_a_claim_is_decided_as_far_as_the_lease_goes() -> None:
    context = DecisionContext(
        {"i-1": case(), "i-2": case(item="i-2"), "i-3": case(item="i-3", lease=b"other", reviewer=BEN.id)}
    )
    rows = decide(context, whole=True, items=(REF, SECOND, THIRD))
    assert [command.item for command in rows.commands] == ["i-1", "i-2"]
    refused(409, "lease_lost", context, whole=True, items=(REF, SECOND, THIRD))
    refused(409, "lease_needed", context, OPERATOR, whole=True, lease=None)
    refused(422, "revision_of_a_claim", DecisionContext({"i-1": case()}), whole=True, revision=4)


@given(
    st.lists(
        st.tuples(st.sampled_from([ANN, BEN, CID, OPERATOR]), st.sampled_from(["uphold", "refuse"]), st.booleans()),
        max_size=10,
    ),
    st.booleans(),
)
def test_one_case_is_decided_once_by_people_who_may(steps: Any, severe: bool) -> None:
    """Whichever reviewer takes the lease, in any order: at most one command, and by two people or three where policy says so."""
    context = DecisionContext({"i-1": case()})
    made: list[review.AcceptedDecision] = []
    for account, decision, _ in steps:
        current = context.cases["i-1"]
        if current.command is None:
            context.cases["i-1"] = case(reviewer=account.id, **({"severity": "serious"} if severe else {}))
        try:
            made += decide(context, account, decision, code="not_infringing").decisions
        except Refused as error:
            assert error.reason in ("decided_before", "already_decided")  # noqa: PT017
    final = [one for one in made if one.command is not None]
    assert len(final) <= 1
    assert len({one.reviewer for one in made}) == len(made)
    if severe and final and final[0].decision == "uphold":
        assert sum(one.decision == "uphold" for one in made) >= 2


def test_shares() -> None:
    assert (review.share(1, 3), review.share(0, 0), review.share(2, 2)) == (0.3333, None, 1.0)


def test_tokens_are_not_guessed() -> None:
    tokens = {review.new_lease() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert msgspec.convert(token, requests.Token) == token
        assert len(token) >= 46


@pytest.mark.parametrize(
    ("outcome", "decision", "made", "code"),
    [
        ("upheld_by_default", "uphold", "confirm", "decision_stands"),
        ("upheld_by_default", "refuse", "reverse", "facts_misjudged"),
        ("restored_by_default", "uphold", "reverse", "facts_misjudged"),
        ("restored_by_default", "refuse", "confirm", "decision_stands"),
    ],
)
def test_an_audit_is_decided_without_knowing_what_happened(outcome: str, decision: str, made: str, code: str) -> None:
    context = DecisionContext({"i-1": case(state="APPEALED", audited=outcome)})
    rows = decide(context, decision=decision, code="not_infringing" if decision == "refuse" else None)
    (command,) = rows.commands
    assert isinstance(command, events.Decide)
    assert (command.decision, command.code) == (made, code)


def test_in_an_audit_nobody_decides_about_an_outcome_that_is_not_shown() -> None:
    for decision in ("confirm", "reverse"):
        context = DecisionContext({"i-1": case(state="APPEALED", audited="upheld_by_default")})
        assert refused(422, "decision_blind", context, decision=decision, code="decision_stands").field == "decision"
    # an operator without a lease sees it
    context = DecisionContext({"i-1": case(state="APPEALED", audited="upheld_by_default")})
    (command,) = decide(context, OPERATOR, "reverse", lease=None, code="new_evidence").commands
    assert isinstance(command, events.Decide)
    assert command.decision == "reverse"


def test_instead_of_a_rule_a_person_decides_as_always() -> None:
    context = DecisionContext({"i-1": case(audited="refused_by_rule")})
    (command,) = decide(context, decision="refuse", code="not_infringing").commands
    assert isinstance(command, events.Decide)
    assert (command.decision, command.code) == ("refuse", "not_infringing")


def test_an_audit_waits_until_a_person_has_answered() -> None:
    audit = events.Audit(outcome="upheld_by_rule", size="0")
    waiting, answered = (
        msgspec.json.encode(changed(2, S.UNDER_REVIEW, audit=msgspec.to_builtins(one))).decode()
        for one in (audit, msgspec.structs.replace(audit, found="agrees"))
    )
    assert audit_of(waiting) == audit
    assert audit_of(answered) is None
    assert audit_of(msgspec.json.encode(changed(2, S.UNDER_REVIEW)).decode()) is None
    assert audit_of(None) is None


def test_what_triage_found_is_told_with_the_bounds_of_its_signals() -> None:
    rules = policy.current("ipp").triage
    assert rules is not None
    fired = {name: rule.weight for name, rule in rules.rules.items()}
    base, told = review.triage_of(events.Triage(score=1, band="review", rules={**fired, "gone": 0}), VERSION)
    assert base == rules.base
    assert {name: weight for name, weight, _ in told} == {**fired, "gone": 0}
    heaviest_first = sorted((abs(weight) for weight in fired.values()), reverse=True)
    assert [abs(weight) for _, weight, _ in told] == [*heaviest_first, 0]
    assert {name: rule for name, _, rule in told} == {**rules.rules, "gone": None}


def test_why_a_person_decides_is_told_in_words() -> None:
    rules = policy.current("ipp")
    assert rules.triage is not None
    against = events.Triage(
        score=0, band="review", rules={"mark_only_descriptive": -30, "mark_in_title": 10}, lacks=("match",)
    )
    told = why_person(against, rules.version)
    assert told == [rules.triage.rules["mark_only_descriptive"].says, rules.triage.findings["match"].lacking]
    german = why_person(against, rules.version, "de")
    assert len(german) == len(told)
    assert not set(german) & set(told), "in the reader's language"
    for band in ("uphold", "refuse"):
        assert why_person(msgspec.structs.replace(against, band=band), rules.version) == []
    assert why_person(None, rules.version) == []
    assert rules.brake is not None
    for brake in ("probation", "rate"):
        assert why_person(None, rules.version, braked=brake) == [rules.brake.says[brake]]
        assert why_person(against, rules.version, braked=brake) == [rules.brake.says[brake], *told]
        assert why_person(None, rules.version, braked=brake, other_seller=True) == [
            rules.brake.says[brake],
            OTHER_SELLER,
        ]
    assert why_person(against, rules.version, other_seller=True) == [OTHER_SELLER, *told]
    # of versions before, and of one that this process does not know, there is nothing more to say
    for version in ("ipp-2026-11", "ipp-2099-01"):
        assert why_person(against, version) == [BY_PERSON]


def test_triage_under_a_version_that_is_not_known_here_is_told_without_them() -> None:
    found = review.triage_of(events.Triage(score=1, band="review", rules={"a": 1}), "ipp-2099-01")
    assert found == (None, [("a", 1, None)])


@pytest.mark.parametrize("role", ["reviewer", "operator"])
def test_what_tells_of_a_takedown_is_kept_from_who_may_audit_it(role: Role) -> None:
    class Row(NamedTuple):
        claim: str | None

    asked: list[set[str]] = []

    async def run(work: Any, claims: set[str]) -> frozenset[str]:
        assert work is judged.audited
        asked.append(claims)
        return frozenset({"c-1"})

    state = SimpleNamespace(context=SimpleNamespace(run=run))
    request: Any = SimpleNamespace(user=Account("a-1", role), app=SimpleNamespace(state=state))
    rows = [Row("c-1"), Row("c-2"), Row(None)]
    shown = asyncio.run(judged.without_audited(request, rows))
    assert shown == (rows[1:] if role == "reviewer" else rows)
    assert asked == ([{"c-1", "c-2"}] if role == "reviewer" else [])
    assert asyncio.run(judged.without_audited(request, rows[2:])) == rows[2:]
