"""An id leads to its row, and what goes by age says why."""

from __future__ import annotations

import pytest

from services.ops.prune import AGED
from shared.runtime.links import place_of


@pytest.mark.parametrize(
    ("id_", "place"),
    [
        ("intake.3.17", ("intake", 3, 17)),
        ("enforcement-ledger.0.1", ("enforcement-ledger", 0, 1)),
        ("verification.12.999999999999999999", ("verification", 12, 999_999_999_999_999_999)),
        ("verification.12.1000000000000000000", None),  # no number of a log is that high; it would not fit
        ("verification.1000000000.1", None),
        ("intake.03.17", None),  # another id than intake.3.17
        ("intake.3.017", None),
        ("intake.3.", None),
        ("intake.3", None),
        (".3.17", None),
        ("inbound.desk.3.17", None),
        ("receipt.i-1.2", None),
        ("intake.٣.17", None),
        ("intake.-3.17", None),
        ("intake.3.17.1", None),
        ("made by others", None),
        ("", None),
    ],
)
def test_an_id_leads_to_its_row_or_is_not_ours(id_: str, place: tuple[str, int, int] | None) -> None:
    assert place_of(id_) == place


def test_what_goes_by_age_says_who_read_it() -> None:
    assert all(rule.why for rule in AGED)
    assert len({rule.table for rule in AGED}) == len(AGED)
