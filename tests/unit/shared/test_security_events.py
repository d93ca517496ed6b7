"""Security events: documented, bounded under a flood, and without addresses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared import security_events
from shared.rates import Rates
from shared.security_events import FLOODS, KINDS, LINES_AT_ONCE, network_of, note


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_events, "_lines", Rates(0.001, LINES_AT_ONCE))
    monkeypatch.setattr(security_events, "_dropped", {})


def count(kind: str) -> float:
    value: Any = security_events.EVENTS.labels(kind)
    return float(value._value.get())


def test_every_kind_is_documented() -> None:
    section = (
        Path("docs/explanation/security.md").read_text().split("\n## Security events\n", 1)[1].split("\n## ", 1)[0]
    )
    rows = re.findall(r"^\| `(\w+)`( \*)? \|", section, flags=re.M)
    assert {kind for kind, _ in rows} == set(KINDS)
    assert {kind for kind, star in rows if star} == FLOODS


def test_a_flood_writes_so_many_lines() -> None:
    before = count("unauthenticated")
    with capture_logs() as lines:
        for _ in range(LINES_AT_ONCE + 50):
            note("unauthenticated", address="192.0.2.77", reason="no_account")
        note("token_revoked", account="a-1", credential="t-1", by="a-2")
        security_events._lines = Rates(0, 1)
        note("unauthenticated", address="192.0.2.77", reason="no_account")
    assert count("unauthenticated") == before + LINES_AT_ONCE + 51
    assert len(lines) == LINES_AT_ONCE + 2
    assert lines[-2] == {
        "event": "security",
        "log_level": "warning",
        "kind": "token_revoked",
        "account": "a-1",
        "credential": "t-1",
        "by": "a-2",
    }
    assert lines[-1]["dropped"] == 50
    assert {line.get("network") for line in lines} == {"192.0.2.0/24", None}


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_a_network_stands_for_an_address(address: str, network: str) -> None:
    assert network_of(address) == network
