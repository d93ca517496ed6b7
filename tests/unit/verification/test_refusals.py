"""Commands that are refused: who, when, and how to cure it. A refusal changes nothing."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest

from services.verification import refusals
from services.verification.item import ENDED
from services.verification.lifecycle import CHECKS, INDEX, Facts, decide
from shared.events import (
    COMMANDS,
    DECISIONS,
    Accept,
    AddInformation,
    Command,
    Complain,
    Counter,
    Decide,
    ReportAction,
    ReportResult,
    Respond,
    State,
    Withdraw,
)
from tests.unit.verification.test_rows import world_for
from tests.unit.verification.world import IPP, ITEM, T, World

S = State
ARGUMENTS: dict[type[Command], dict[str, Any]] = {
    AddInformation: {"materials": ("ownership",)},
    Withdraw: {"ground": "error"},
    Accept: {},
    Counter: {"materials": ("identity", "statement")},
    Respond: {"accept": True},
    ReportAction: {"proof": "p"},
    ReportResult: {"outcome": "ended", "proof": "p"},
    Decide: {"decision": "uphold"},
}
COMPLAINT: dict[type[Command], dict[str, Any]] = {Complain: {}}
"""The one command that ended items take (row 19)."""
RIGHTFUL: dict[type[Command], tuple[str, Any]] = {
    AddInformation: ("agent", "holder"),
    Withdraw: ("owner", "holder"),
    Accept: ("seller", "seller"),
    Counter: ("seller", "seller"),
    Respond: ("owner", "holder"),
    ReportAction: ("owner", "holder"),
    ReportResult: ("seller", "seller"),
    Decide: ("rev", "reviewer"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_item_takes_no_command(kind: type[Command], state: State) -> None:
    world = world_for(state)
    before = world.item
    by, role = RIGHTFUL[kind]
    if role == "seller" and world.got.seller is None:
        by, role = "rev", "reviewer"
    refused = world.command(kind, by, role, **ARGUMENTS[kind]).refused
    assert refused is not None
    assert refused.code in ("ended", "not_a_party", "too_late")
    assert world.item is before


@pytest.mark.parametrize("kind", ARGUMENTS)
@pytest.mark.parametrize("state", sorted(S))
def test_every_command_is_applied_or_refused(kind: type[Command], state: State) -> None:
    world = world_for(state)
    by, role = RIGHTFUL[kind]
    outcome = world.command(kind, by, role, **ARGUMENTS[kind])
    assert outcome.ignored is None
    assert (outcome.refused is None) == (
        (bool(outcome.changes) and outcome.changes[-1].data.command == "k1")
        or any(change.data.command == f"k{world.count}" for change in outcome.changes)
    )


@pytest.mark.parametrize("kind", ARGUMENTS)
@pytest.mark.parametrize(
    ("by", "role"),
    [
        ("stranger", "holder"),
        ("stranger", "seller"),
        ("seller", "holder"),
        ("owner", "seller"),
        ("agent", "reviewer"),
        ("rev", "reviewer"),
        ("op", "operator"),
        ("sys", "system"),
        ("up", "upstream"),
    ],
)
def test_only_a_party_may(kind: type[Command], by: str, role: Any) -> None:
    world = World().to(S.NOTIFIED)
    before = world.item
    refused = world.command(kind, by, role, **ARGUMENTS[kind]).refused
    if kind is Decide and role in ("reviewer", "operator"):
        assert refused is not None
        assert refused.code == "not_now"
        return
    assert refused is not None
    assert refused.code == "not_a_party"
    assert world.item is before


def test_nobody_else_moves_the_clock() -> None:
    """A stranger's command does not even fire the timers that precede it."""
    world = World().to(S.NOTIFIED)
    before = world.item
    world.now += 10 * (world.now - T) + 10 * IPP.timers.suspended.exact
    world.command(Counter, "stranger", "seller")
    assert world.item is before


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_unknown_item(kind: type[Command]) -> None:
    arguments = (ARGUMENTS | COMPLAINT).get(kind, {"status": "lost"})
    command = kind(command="k", **ITEM, by="x", role="holder", accepted_at=T, **arguments)
    refused = decide(None, command, Facts(), IPP, T).refused
    assert refused is not None
    assert refused.code == "unknown_item"


@pytest.mark.parametrize("state", sorted(DECISIONS))
@pytest.mark.parametrize("decision", ["uphold", "refuse", "complete", "incomplete", "restore", "confirm", "reverse"])
def test_decisions_fit_their_state(state: State, decision: str) -> None:
    world = world_for(state)
    refused = world.decide(decision, "decision_stands" if state is S.APPEALED else "not_infringing").refused
    if decision in DECISIONS[state]:
        assert refused is None
    else:
        assert refused is not None
        assert refused.code == "decision_not_here"
        assert all(known in refused.detail for known in DECISIONS[state])


@pytest.mark.parametrize("state", sorted(DECISIONS))
def test_a_decision_on_what_was_seen_is_taken(state: State) -> None:
    world = world_for(state)
    code = "decision_stands" if state is S.APPEALED else "not_infringing"
    assert world.decide(DECISIONS[state][0], code, revision=world.got.entered).refused is None


def test_a_decision_is_stale_once_the_item_has_left_and_come_back() -> None:
    """Row 22 there and back: the state and its visit are the same, but who decided did not know."""
    world = world_for(S.UNDER_REVIEW)
    seen = world.got.revision
    world.right("lost")
    assert world.got.state is S.SUSPENDED
    world.right("active")
    assert (world.got.state, world.got.visit <= seen < world.got.entered) == (S.UNDER_REVIEW, True)
    refused = world.decide("refuse", "not_infringing", revision=seen).refused
    assert refused is not None
    assert refused.code == "stale"
    assert world.got.state is S.UNDER_REVIEW
    assert world.decide("refuse", "not_infringing", revision=world.got.revision).refused is None


def test_a_decision_is_stale_in_a_later_state_that_takes_the_same_word() -> None:
    world = world_for(S.UNDER_REVIEW)
    seen = world.got.revision
    world = world_for(S.PLATFORM_REVIEW)
    refused = world.decide("uphold", revision=seen).refused
    assert refused is not None
    assert refused.code == "stale"


def test_what_happens_meanwhile_without_leaving_the_state_makes_no_decision_stale() -> None:
    world = world_for(S.UNDER_REVIEW)
    seen = world.got.revision
    world.pass_time(world.got.sla_due + dt.timedelta(hours=1))
    assert world.got.revision == seen + 1
    assert world.decide("refuse", "not_infringing", revision=seen).refused is None


def test_a_refusal_out_of_time_says_what_the_state_takes() -> None:
    world = World().to(S.UPHELD)
    refused = world.accept().refused
    assert refused is not None
    assert refused.code == "not_now"
    assert "complain, counter, report_action, withdraw" in refused.detail


def test_every_text_says_how_to_cure() -> None:
    names = {name for text in refusals.TEXTS.values() for name in re.findall(r"{(\w+)}", text)}
    for code in refusals.TEXTS:
        given = {"late", "late_within", "rounds", "codes", "complaints", "complain_within", "appeal_codes"}
        text = refusals.detail(code, IPP, **dict.fromkeys(names - given, "x"))
        assert text.count(".") >= 2 or "It takes" in text, code


def test_every_check_guards_a_command_of_the_table() -> None:
    assert set(CHECKS) <= {trigger for _, trigger in INDEX}
