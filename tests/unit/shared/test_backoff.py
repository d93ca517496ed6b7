"""Pauses after failures: they double, have a limit, and differ between processes."""

from __future__ import annotations

import pytest

from shared.backoff import pause_s


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 0.2), (2, 0.4), (3, 0.8), (7, 10.0), (12, 10.0), (10_000, 10.0)])
def test_pauses_double_up_to_a_limit(failures: int, ceiling: float) -> None:
    pauses = [pause_s(failures, 10.0) for _ in range(200)]
    assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
    assert len(set(pauses)) > 100
