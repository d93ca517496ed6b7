"""Which PostgreSQL a local stack runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import postgres
from deploy.local.children import StackError


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the system's versions, where the wheel is not installed."""
    monkeypatch.delenv("GOODFAITH_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(postgres, "INSTALLED", str(tmp_path))
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    return tmp_path


def test_without_the_wheel_it_is_the_systems_newest(system: Path) -> None:
    for version in ("9", "15", "16", "common"):
        (system / version / "bin").mkdir(parents=True)
        (system / version / "bin" / "postgres").touch()
    assert postgres.binaries() == postgres.binaries(tls=True) == system / "16" / "bin"


def test_where_there_is_none_the_cure_is_named(system: Path) -> None:
    (system / "14" / "bin").mkdir(parents=True)
    (system / "14" / "bin" / "postgres").touch()
    with pytest.raises(StackError, match=r"goodfaith\[local\]"):
        postgres.binaries()
    with pytest.raises(StackError, match="no TLS"):
        postgres.binaries(tls=True)
