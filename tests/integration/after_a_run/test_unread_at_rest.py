"""At rest nothing is missing from any topic, and `goodfaith restore unread` has nothing to bring back."""

from __future__ import annotations

import pytest

from services.ops.restore import unread
from tests.integration.small_run import SmallRun

pytestmark = pytest.mark.stack


def test_no_reader_has_a_gap(run: SmallRun) -> None:
    """The demo marketplace's receipts included, which readers tell by their ids and not by numbers."""
    with run.engine.connect() as connection:
        places = connection.exec_driver_sql(
            "select count(*) from enforcement.cursors where topic = 'marketplace.receipts'"
        )
        assert places.scalar_one() > 0
        assert unread.find(run.settings, connection) == []
