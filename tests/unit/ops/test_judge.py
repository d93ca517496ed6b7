"""`goodfaith verify` judges by models of its own: they agree with the services, and find what a mistake in these would do."""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import penalties, sanctions
from services.enforcement.penalties import Entry
from services.notification.domain import WINDOW_KINDS, notice_of
from services.ops.verify import penalty_model, telling
from services.ops.verify.item_state import ENDED, FINAL, UPHELD
from services.verification import draft, lifecycle
from services.verification.rules import counters, decisions, review
from shared import events, policy
from shared.events import SanctionChanged, State
from tests.unit.verification.world import DAY, HOUR, MICRO, T, World, judged

S = State


def imports(name: str) -> set[str]:
    """What a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(Path(*name.split(".")).with_suffix(".py").read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_verify_imports_none_of_the_code_that_it_checks() -> None:
    """Nor does anything that its checks import: else a service would be judged by its own word."""
    seen: dict[str, set[str]] = {}
    ahead = ["services.ops.verify.checks"]
    while ahead:
        name = ahead.pop()
        if name not in seen and Path(*name.split(".")).with_suffix(".py").exists():
            seen[name] = imports(name)
            ahead += [one.rpartition(".")[0] for one in seen[name] if one.startswith("services.ops.")]
            ahead += [one for one in seen[name] if one.startswith("services.ops.")]
    judges = {
        "item_model",
        "judge",
        "telling",
        "penalty_model",
        "sanction_model",
        "sanction_checks",
        "entity_checks",
        "evidence",
    }
    assert {f"services.ops.verify.{one}" for one in judges} < set(seen)
    foreign = {
        name: {one for one in found if one.startswith("services.") and not one.startswith("services.ops.")}
        for name, found in seen.items()
    }
    # which topics each worker reads, which is looked up in its declaration
    assert all(one.rpartition(".")[0].endswith((".worker", ".ledger")) for one in foreign.pop("services.ops.idle"))
    assert {name: found for name, found in foreign.items() if found} == {}
    assert all(one.startswith("services.ops.") for one in imports("services.ops.verify.verify") if "services." in one)


def test_the_models_words_are_those_of_the_services() -> None:
    assert frozenset(telling.CLOSED) == events.SETTLED
    assert events.ENDED == ENDED
    assert events.UPHELD == UPHELD
    assert frozenset(telling.WINDOW_KINDS) == WINDOW_KINDS
    leave = {
        state
        for row in lifecycle.TABLE
        for state in row.states
        if row.to not in (state, lifecycle.STAY, lifecycle.AGAIN)
    }
    assert frozenset(State) - leave == FINAL


# ---- who was in time


def countered(*, accepted: dt.timedelta, read: dt.timedelta) -> World:
    """An item whose counter was accepted and read so long after its seller's deadline; the default fired in between."""
    world = World().to(S.NOTIFIED)
    deadline = world.got.counter_due
    assert deadline is not None
    world.pass_time(deadline + read)
    world.counter(accepted_at=deadline + accepted)
    return world


@pytest.mark.parametrize("accepted", [-HOUR, -MICRO, 0 * MICRO, MICRO, HOUR])
def test_a_counter_close_to_the_deadline_is_judged_as_the_life_cycle_does(accepted: dt.timedelta) -> None:
    world = countered(accepted=accepted, read=2 * DAY)
    assert world.state is S.HOLDER_RESPONSE
    assert (world.changes[-1].data.via[0] is S.NOTIFIED) == (
        accepted <= 0 * MICRO
    )  # else it came late, which is allowed once
    assert judged(world) == []


def test_a_default_that_beats_a_counter_in_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_undo", lambda item, lapse: item)
    (found,) = judged(countered(accepted=-HOUR, read=2 * DAY))
    assert found.startswith("command-misjudged")
    assert "NOTIFIED > COUNTERED" in found.partition(", not ")[2]


def test_a_counter_in_time_that_is_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "counter_in_time", lambda draft: False)
    monkeypatch.setattr(lifecycle, "CHECKS", {events.Counter: lambda draft: "counter_too_late"})
    (found,) = judged(countered(accepted=-HOUR, read=-MICRO))
    assert found.startswith("command-wronged")


def test_a_counter_that_comes_too_late_and_wins_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().to(S.UPHELD_BY_DEFAULT)
    world.now += 200 * DAY  # beyond the time of late counters
    monkeypatch.setattr(lifecycle, "CHECKS", {})
    world.counter()
    (found,) = judged(world)
    assert found.startswith("command-unearned")


@pytest.mark.parametrize("early", [MICRO, HOUR])
def test_a_default_before_its_deadline_is_found(early: dt.timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    right = draft.Draft.after
    monkeypatch.setattr(draft.Draft, "after", lambda self, *args: right(self, *args) - early)
    found = judged(World().to(S.UPHELD_BY_DEFAULT))
    assert found
    assert {one.partition(":")[0] for one in found} <= {"item-misjudged", "deadline-differs"}


def test_a_default_that_never_fires_is_found() -> None:
    world = World().to(S.NOTIFIED)
    due = world.got.next_due
    assert due is not None
    assert judged(world, due - MICRO) == []
    (found,) = judged(world, due)
    assert found.startswith("deadline-unkept")


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lambda patch: patch.setattr(decisions, "is_party", lambda *_: True), "command-unearned"),
        (lambda patch: patch.setattr(draft.Draft, "enter", _holds(draft.Draft.enter)), "item-misjudged"),
    ],
)
def test_other_mistakes_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    world = World().to(S.NOTIFIED)
    world.command(events.Accept, "agent", "holder")
    assert [one.partition(":")[0] for one in judged(world)] == [kind]


def _holds(enter: Any) -> Any:
    """No listing is ever held back."""

    def wrong(self: draft.Draft, state: State) -> None:
        enter(self, state)
        self.upheld = True

    return wrong


def test_own_listings_are_refused_by_the_model_too() -> None:
    world = World()
    world.submit(complainant="seller")
    assert world.state is S.REJECTED
    assert judged(world) == []


def test_what_waits_for_a_person_is_not_judged_to_its_end() -> None:
    world = World().to(S.NOTIFIED)
    due = world.got.next_due
    assert due is not None
    assert judged(world, due, blocked=("l",)) == []


def weighed(found: Callable[[events.Triage], events.Triage], monkeypatch: pytest.MonkeyPatch) -> World:
    """An item whose triage says something else than it found."""
    real = review.triage
    monkeypatch.setattr(review, "triage", lambda *args: found(real(*args)))
    world = World(policy.current("ipp"))
    world.submit()
    return world


def test_a_takedown_that_triage_did_not_earn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = weighed(lambda told: msgspec.structs.replace(told, band="uphold", lacks=()), monkeypatch)
    assert world.state is S.NOTIFIED
    (found,) = judged(world)
    assert found.startswith("item-misjudged")
    assert "not 50, review, [], lacking ['copied_work', 'match', 'record']" in found


@pytest.mark.parametrize(
    "changes", [{"score": 51}, {"rules": {"mark_in_title": 10}}, {"lacks": ("match",)}, {"signals": {"settled": 1.0}}]
)
def test_a_triage_that_does_not_follow_from_its_signals_is_found(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = judged(weighed(lambda told: msgspec.structs.replace(told, **changes), monkeypatch))
    assert found.startswith("item-misjudged")


def test_triages_from_before_signals_were_kept_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(weighed(lambda told: msgspec.structs.replace(told, signals={}, lacks=()), monkeypatch)) == []


# ---- penalties, sanctions

_severities = st.sampled_from(["general", "serious"])
_moments = st.integers(0, 24 * 800).map(lambda hours: T + hours * HOUR)


@given(
    found=st.lists(st.tuples(_moments, _severities), max_size=25),
    later=st.integers(0, 24 * 500),
    profile=st.sampled_from(["ipp", "bpp", "project-zero"]),
)
def test_penalties_are_counted_alike(found: list[tuple[dt.datetime, Any]], later: int, profile: str) -> None:
    figures = policy.current(profile).penalties
    history = [(at, f"c-{number:03d}", severity) for number, (at, severity) in enumerate(found)]
    wanted, _ = penalties.assess(history, figures)
    violations = [penalty_model.Violation(*one) for one in history]
    costs = penalty_model.costs(violations, figures)
    assert {one.claim: (one.ledger, one.points, one.effective_at, one.expires_at) for one in wanted} == costs

    now = max((at for at, _ in found), default=T) + later * HOUR
    seller = penalties.Seller("s", 0)
    entries = [Entry(one.claim, one) for one in wanted]
    for (at, claim, severity), entry in zip(sorted(history), entries, strict=True):
        seller.history[claim] = penalties.Violation(claim, True, severity, at, entry)
    penalties.recount(seller, figures, now)
    levels = sanctions.levels(sanctions.open_grounds(sanctions.grounds(entries, figures, now), (), "", now))
    assert penalty_model.standing(violations, figures, now) == (
        seller.general_points,
        seller.serious_strikes,
        seller.violations,
        *levels,
        penalties.consequence(levels[0], figures.general.thresholds),
        penalties.consequence(levels[1], figures.serious.thresholds),
        seller.next_change,
    )


@given(
    change=st.builds(
        SanctionChanged,
        seller=st.just("s"),
        sanction=st.just("x"),
        level=st.just(1),
        ledger=st.just("general"),
        change=st.sampled_from(["imposed", "lifted", "ended"]),
        prior=st.booleans(),
        cause=st.sampled_from(["threshold", "replaced", "timer", "expiry", "reversal", "unlinked", "operator"]),
        measures=st.sampled_from([(), ("frozen",)]),
        begins=st.just(T),
        entry=st.just("e"),
        claim=st.just("c"),
        at=st.just(T),
        ends=st.none(),
        reason=st.none(),
        scope=st.just("own"),
    )
)
def test_sanctions_are_told_alike(change: SanctionChanged) -> None:
    notice = notice_of(change)
    assert telling.told_of_sanction(change) == (None if notice is None else notice.kind)
