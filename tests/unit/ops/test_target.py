"""The 24-hour target in numbers, from counts by window."""

from __future__ import annotations

from services.ops.target import WINDOWS, Figures, windows


def test_windows_are_figures_of_their_own() -> None:
    found = windows([("met", 1, 2, 3, 4), ("missed", 0, 0, 1, 1), ("taken_down", 2, 2, 2, 5)])
    assert list(found) == list(WINDOWS) == ["1h", "1d", "30d", "all"]
    assert found["1h"] == Figures(met=1, taken_down=2)
    assert found["all"] == Figures(met=4, missed=1, taken_down=5)
    assert found["30d"].handled_within_24h == 0.75
    assert found["all"].as_json()["handled_within_24h"] == 0.8
    assert found["all"].takedown_rate == 1.0


def test_of_nothing_there_is_no_share() -> None:
    found = windows([])
    assert found["1d"] == Figures()
    assert found["1d"].handled_within_24h is None
    assert found["1d"].takedown_rate is None
