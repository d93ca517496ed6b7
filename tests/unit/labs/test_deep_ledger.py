"""The oracle of `goodfaith lab deep` for ledgers and entities: it agrees with the code, and finds planted mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from labs.deep_ledger import run_block
from services.enforcement import entities, penalties, sanctions


def test_a_block_is_as_a_recount_has_it() -> None:
    found = run_block(3, 1, 1_500)
    assert found["penalty_entries"] >= 1_500
    assert found["penalty_differences"] == 0


def _never(*_: Any) -> bool:
    return False


def _apart(violations: Any) -> list[Any]:
    return sorted(violations, key=lambda own: own.at)


def _open_only(*arguments: Any) -> tuple[Any, ...]:
    return tuple(ground for ground in GROUNDS(*arguments) if ground.fell_at is None)


GROUNDS = sanctions.grounds


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (penalties, "needs_history", _never),
        (entities, "merged", _apart),
        (sanctions, "grounds", _open_only),
        (entities, "links", lambda key, holders, rules: holders > 1),
    ],
)
def test_what_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, wrong: Any) -> None:
    monkeypatch.setattr(where, name, wrong)
    assert run_block(3, 1, 1_500)["penalty_differences"] > 0
