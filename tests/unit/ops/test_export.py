"""What is held on a subject: written row by row, and nobody else is named in it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.intake.accounts import access
from services.ops.privacy import export

IDS = st.sampled_from(["a-me", "a-staff", "s-other", "operator", "rule", "system"])


@given(by=st.none() | IDS, subject=st.sampled_from(["a-me", "a-staff"]))
def test_of_the_staff_nobody_is_named(by: str | None, subject: str) -> None:
    found = access.whose(by, subject, {"a-staff"})
    if by == subject:
        assert found == "self"
    elif by in ("a-staff", "operator"):
        assert found == "staff"
    else:
        assert found == by


def test_a_row_is_shown_without_what_is_not_there() -> None:
    row = {"by": "r-rita", "code": None, "sha256": memoryview(b"\x01\xff"), "kinds": ["a"], "seller": "s-x"}
    assert access.shaped(row, "a-me", {"r-rita"}, people=("by",)) == {
        "by": "staff",
        "sha256": "01ff",
        "kinds": ["a"],
        "seller": "s-x",
    }


def test_rows_are_written_as_they_come() -> None:
    """Not even one is waited for: what is held may be large."""
    out = io.BytesIO()
    sizes = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(1000):
            sizes.append(out.tell())
            yield {"number": number}

    counts = export.write(out, {"subject": "a-me"}, [("none", iter(())), ("many", rows())])
    assert counts == {"none": 0, "many": 1000}
    assert all(after > before for before, after in pairwise(sizes))
    assert msgspec.json.decode(out.getvalue())["held"]["many"][-1] == {"number": 999}


def test_no_part_takes_more_than_it_names() -> None:
    """No `select *`: a column that somebody adds is nobody's business until it is said to be."""
    for part in export.PARTS:
        assert "*" not in part.sql, part.name
        assert "%(s)s" in part.sql, part.name
        assert part.table in part.sql, part.name
    assert len({part.name for part in export.PARTS}) == len(export.PARTS)
