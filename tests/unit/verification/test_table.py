"""The table itself: it has domain.md's rows, every state has an exit or is final, and its documentation is fresh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.verification import lifecycle
from services.verification.item import ENDED, OPEN, SETTLED, UPHELD
from services.verification.lifecycle import AGAIN, AUTO, BACK, INDEX, SIDES, STAY, TABLE, markdown
from shared.events import COMMANDS, TYPES, State

S = State
ROWS = set(range(1, 23))

DOMAIN: dict[int, tuple[set[State], set[State | str]]] = {
    # row: from, to, as in domain.md's table
    2: ({S.RECEIVED, S.DUPLICATE}, {S.DUPLICATE, S.RECEIVED}),
    3: ({S.RECEIVED}, {S.LINK_INVALID}),
    4: ({S.RECEIVED, S.NEEDS_INFO}, {S.NEEDS_INFO, S.LAPSED}),
    5: ({S.RECEIVED, S.NEEDS_INFO}, {S.UNDER_REVIEW}),
    6: ({S.UNDER_REVIEW}, {S.REJECTED}),
    7: ({S.UNDER_REVIEW}, {S.NOTIFIED}),
    8: ({S.NOTIFIED}, {S.UPHELD}),
    9: ({S.NOTIFIED}, {S.UPHELD_BY_DEFAULT, S.APPEALED, BACK}),
    10: ({S.NOTIFIED, S.UPHELD, S.UPHELD_BY_DEFAULT, S.UPHELD_AFTER_COUNTER}, {S.COUNTERED}),
    11: ({S.COUNTERED}, {BACK}),
    12: ({S.COUNTERED}, {S.HOLDER_RESPONSE}),
    13: ({S.HOLDER_RESPONSE}, {S.RESTORED}),
    14: ({S.HOLDER_RESPONSE}, {S.PLATFORM_REVIEW}),
    15: ({S.HOLDER_RESPONSE}, {S.PLATFORM_REVIEW, S.RESTORED}),
    16: (set(OPEN | UPHELD) - {S.LITIGATION}, {S.LITIGATION}),
    17: ({S.PLATFORM_REVIEW}, {S.RESTORED, S.UPHELD_AFTER_COUNTER}),
    18: (set(OPEN | UPHELD), {S.WITHDRAWN}),
    19: (
        {S.REJECTED, S.DUPLICATE, S.LINK_INVALID, S.LAPSED, S.RESTORED, S.APPEALED} | UPHELD,
        {S.APPEALED, BACK, S.UNDER_REVIEW, S.RESTORED, S.UPHELD_AFTER_COUNTER},
    ),
    20: (set(), {S.RECEIVED}),  # the state that it comes from is another item's
    21: ({S.LITIGATION}, {S.UPHELD_AFTER_COUNTER, S.RESTORED, BACK}),
    22: (set(OPEN), {S.SUSPENDED, S.WITHDRAWN, BACK}),
}
WIDER = {
    # where the table in code goes beyond domain.md's, and why
    2: {S.NEEDS_INFO, S.APPEALED},  # a lapsed claim may come back when a younger one has its place; ditto a complaint
    3: {S.NEEDS_INFO, S.UNDER_REVIEW},  # the look-up's answer may come late
    9: {S.APPEALED},  # a person looks at the takedown of a seller that cannot be reached
}


AGAIN_BY = {7: {S.UNDER_REVIEW}}
"""States that a row enters anew."""


@pytest.mark.parametrize("number", sorted(ROWS - {1}))
def test_rows_of_the_domain(number: int) -> None:
    moves = [row for row in TABLE if row.number == number and row.to not in (STAY, AGAIN)]
    states, targets = DOMAIN[number]
    assert {state for row in moves for state in row.states} - WIDER.get(number, set()) == states
    assert {row.to for row in moves} - AGAIN_BY.get(number, set()) == targets


def test_no_row_is_missing_and_none_invented() -> None:
    assert {row.number for row in TABLE} == ROWS


def test_every_state_has_an_exit_or_is_final() -> None:
    final = {S.WITHDRAWN}
    for state in State:
        exits = [row for row in TABLE if state in row.states and row.to not in (STAY, AGAIN)]
        assert bool(exits) == (state not in final), state
    assert [row.rule for row in TABLE if set(row.states) & ENDED] == ["2-reopened", "19-appealed", "19-audited"]


def test_open_states_have_an_exit_that_needs_no_party() -> None:
    """By a rule, a timer, or a reviewer: the silence of both sides leaves nothing open, but for a court."""
    for state in OPEN - {S.LITIGATION}:
        assert any(
            (
                state in row.states
                and row.to not in (STAY, AGAIN)
                and (isinstance(row.on, str) or row.by == ("reviewer",))
                and row.number != 22
            )
            or (state is S.SUSPENDED and row.on == "suspended")
            for row in TABLE
        ), state


def test_states_are_divided() -> None:
    assert set(State) == OPEN | UPHELD | ENDED
    assert not OPEN & SETTLED


def test_every_event_of_the_table_has_a_type() -> None:
    for row in TABLE:
        kind = row.emit if row.emit is not None else row.to.lower() if isinstance(row.to, State) else None
        if kind:
            assert f"goodfaith.item.{kind}.v1" in TYPES
        assert re.fullmatch(r"[0-9]+-[a-z0-9-]+", row.rule)


def test_every_command_has_its_sides() -> None:
    assert set(SIDES) == set(COMMANDS.values())
    for row in TABLE:
        if row.by:
            assert row.by == SIDES[row.on], "one command, one set of sides"


def test_what_goes_by_rule_comes_to_rest() -> None:
    """No circle among the rows that follow by themselves."""
    follows = {state: {row.to for row in INDEX.get((state, AUTO), ()) if isinstance(row.to, State)} for state in State}
    for state in State:
        seen: set[State] = set()
        frontier = set(follows[state])
        while frontier:
            seen |= frontier
            frontier = {after for found in frontier for after in follows[found]} - seen
        assert state not in seen


def test_no_profile_is_named_in_the_code() -> None:
    folder = Path(lifecycle.__file__).parent
    rules = [path.relative_to(folder) for path in (folder / "rules").glob("*.py")]
    for name in ("lifecycle.py", "draft.py", "item.py", "refusals.py", *rules):
        code = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"\b(ipp|dmca|bpp|cn-ecl|project-zero|dsa)\b", code), str(name)


def test_documentation_is_fresh() -> None:
    path = Path(lifecycle.__file__).parents[2] / "docs" / "reference" / "lifecycle.md"
    assert path.read_text(encoding="utf-8") == markdown(), (
        "python -m services.verification.lifecycle > docs/reference/lifecycle.md"
    )
