"""Commands on an installation that the environment describes, without a local stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import fleet
from deploy.local.stack import Stack
from labs.replay import upstream_ready
from shared.failures import CommandError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("GOODFAITH_KAFKA", "kafka.example:9092")
    monkeypatch.setenv("GOODFAITH_DATABASE", "postgresql://admin:word@db.example/goodfaith")
    monkeypatch.setenv("GOODFAITH_INTAKE_URL", "http://intake.example:8080")
    monkeypatch.setenv("GOODFAITH_INTERNAL_TOKEN", "gf_internal" * 4)
    stack = Stack.join(tmp_path)
    assert stack is not None
    return stack


def test_it_is_known_by_settings_alone(elsewhere: Stack, tmp_path: Path) -> None:
    assert not elsewhere.ours
    assert elsewhere.kafka == "kafka.example:9092"
    assert elsewhere.admin_url == "postgresql://admin:word@db.example/goodfaith"
    settings = fleet.settings_of(elsewhere, secret=True)
    assert settings.intake_url == "http://intake.example:8080", "not this machine's"
    assert settings.internal_token is not None
    assert settings.internal_token.get_secret_value() == "gf_internal" * 4, "not one made here"
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_what_only_a_local_stack_can_do_is_refused(elsewhere: Stack) -> None:
    with pytest.raises(CommandError, match="local stack only"):
        fleet.settings_of(elsewhere, role="intake")
    with pytest.raises(CommandError, match="GOODFAITH_UPSTREAMS"):
        upstream_ready(elsewhere)


def test_half_an_installation_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOODFAITH_KAFKA", "GOODFAITH_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    assert Stack.join(tmp_path) is None
    monkeypatch.setenv("GOODFAITH_KAFKA", "kafka.example:9092")
    assert Stack.join(tmp_path) is None
