"""A reader's number is the last row up to which everything was read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ops.broker.linking import contiguous


@given(start=st.integers(0, 20), rows=st.dictionaries(st.integers(21, 60), st.booleans()))
def test_a_number_never_passes_a_row_that_was_not_read(start: int, rows: dict[int, bool]) -> None:
    read = max((seq for seq, yes in rows.items() if yes), default=0)
    unread = min((seq for seq, yes in rows.items() if not yes), default=0)
    found = contiguous(start, read, unread)
    if any(not rows[seq] for seq in rows if seq < read):
        assert found is None, "there is a hole"
    else:
        assert found == (read or start)
