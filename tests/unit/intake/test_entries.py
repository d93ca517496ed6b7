"""What registers answer, and what comes of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.registers.server import euipo, uspto
from services.intake.registry import entries
from services.intake.registry.entries import BadAnswer, Entry

DAY = dt.date(2026, 12, 1)
ENTRY = Entry(number="1234567", in_force=True, mark="OWL & MOON", owners=("Owl GmbH",), ends=dt.date(2030, 1, 1))


def test_both_public_formats_are_read() -> None:
    eu = euipo("018123456", "OWL & MOON", ["Owl GmbH", "Moon AG"], "REGISTERED", "2030-01-01")
    assert entries.read_euipo(json.dumps(eu).encode()) == Entry(
        number="018123456",
        in_force=True,
        mark="OWL & MOON",
        owners=("Owl GmbH", "Moon AG"),
        ends=dt.date(2030, 1, 1),
    )
    us = uspto("1234567", "OWL & MOON", ["Owl GmbH"], "REGISTERED")
    # who applied is not who owns it now
    assert entries.read_uspto(json.dumps(us).encode()) == Entry(
        number="1234567", in_force=True, mark="OWL & MOON", owners=("Owl GmbH",), ends=None
    )


@pytest.mark.parametrize("status", ["CANCELLED", "EXPIRED", "APPLICATION_PUBLISHED", "WITHDRAWN", "registered", ""])
def test_what_is_not_registered_is_not_in_force(status: str) -> None:
    for made, read in (
        (euipo("1", "a", ["b"], status, None), entries.read_euipo),
        (uspto("1", "a", ["b"], status), entries.read_uspto),
    ):
        assert not read(json.dumps(made).encode()).in_force


BAD: list[Any] = [
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"applicationNumber": 1, "status": "REGISTERED"}',
    b'{"applicationNumber": "1", "status": "REGISTERED", "expiryDate": "soon"}',
    b'{"applicationNumber": "1", "status": "REGISTERED", "applicants": {}}',
    json.dumps(euipo("1", "x" * 2001, ["b"], "REGISTERED", None)).encode(),
    json.dumps(euipo("1", "x", ["b"] * 101, "REGISTERED", None)).encode(),
    b'{"trademarks": []}',
    b'{"trademarks": [{"status": {}, "parties": {"ownerGroups": {"x": []}}}]}',
    json.dumps({"trademarks": uspto("1", "a", ["b"], "REGISTERED")["trademarks"] * 2}).encode(),
]


@pytest.mark.parametrize("body", BAD)
def test_anything_else_is_no_answer(body: bytes) -> None:
    for read in entries.READERS.values():
        with pytest.raises(BadAnswer):
            read(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists) | st.binary())
def test_no_answer_brings_the_reader_down(answer: Any) -> None:
    body = answer if isinstance(answer, bytes) else json.dumps({"trademarks": answer, "status": answer}).encode()
    for read in entries.READERS.values():
        with contextlib.suppress(BadAnswer):
            read(body)


@pytest.mark.parametrize(
    ("changed", "mark", "name", "result"),
    [
        ({}, "Owl & Moon", "OWL Gesellschaft mbH", "another_owner"),
        ({}, "Owl & Moon", "Owl", "another_owner"),
        ({}, "Owl & Moon", "Owl AG", "another_owner"),
        ({"owners": ("John Smith",)}, "Owl & Moon", "Smith, John", "another_owner"),
        ({"owners": ("Owl International",)}, "Owl & Moon", "Owl Intemational", "another_owner"),
        ({"owners": ("\u6c34\u6708\u6709\u9650\u516c\u53f8",)}, "Owl & Moon", "\u6c34\u6708", "another_owner"),
        ({}, "Owl  &  Moon", "OWL, G.m.b.H.", "accepted"),
        ({"owners": ("Owl Co., Limited",)}, "Owl & Moon", "Owl Company Ltd", "accepted"),
        ({"number": "01234567"}, "Owl & Moon", "Owl GmbH", "accepted"),
        ({"mark": None}, None, "Owl GmbH", "accepted"),
        ({"number": "7654321"}, "Owl & Moon", "Owl", "another_number"),
        ({"in_force": False}, "Owl & Moon", "Owl", "not_in_force"),
        ({"ends": DAY}, "Owl & Moon", "Owl", "not_in_force"),
        ({}, "Owl", "Owl", "another_mark"),
        ({}, None, "Owl", "another_mark"),
        ({}, "Owl & Moon", None, "name_unverified"),
        ({}, "Owl & Moon", "Globex", "another_owner"),
        ({"owners": ()}, "Owl & Moon", "Owl", "another_owner"),
        ({"owners": ("Owl GmbH", "Moon AG")}, "Owl & Moon", "Owl", "another_owner"),
    ],
)
def test_what_comes_of_an_answer(changed: dict[str, Any], mark: str | None, name: str | None, result: str) -> None:
    entry = Entry(**{name: changed.get(name, getattr(ENTRY, name)) for name in ENTRY.__struct_fields__})
    assert entries.judge(entry, "1234567", mark, name, DAY) == result


def test_what_the_register_does_not_have_is_not_accepted() -> None:
    assert entries.judge(None, "1234567", "Owl & Moon", "Owl", DAY) == "not_found"
