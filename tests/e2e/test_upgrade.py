"""The version before and this one side by side, forward and back; how long readers were behind is the machine's, and is printed."""

from __future__ import annotations

import os

import pytest

from deploy.local.children import StackError
from labs import upgrade_drill

pytestmark = [pytest.mark.stack, pytest.mark.thorough, pytest.mark.timeout(1800)]


def test_two_versions_work_side_by_side_forward_and_back() -> None:
    try:
        upgrade_drill.version_before()
    except StackError as error:
        pytest.skip(f"no version before is here: {error}")
    found = upgrade_drill.drill(
        None, f"test-{os.getpid()}-upgrade", instances=2, rate=2.0, stay=5.0, keep=False, tell=lambda _: None
    )
    upgrade_drill.show(found)
    assert found.clean, found.as_json()
    assert set(found.rests) == {"new", "old again"}
    assert all(rest["items"] > 0 for rest in found.rests.values())
    assert found.exchanged >= 2 * 10
    # after a notice of twenty listings nothing is filed for ten seconds
    assert all(phase.filed > 0 for phase in found.phases if phase.seconds > 12)
