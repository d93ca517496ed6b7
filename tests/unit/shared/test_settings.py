"""Settings at start: which secrets are refused, and how a process says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pydantic import SecretStr, ValidationError

from shared.settings import SECRET_LEAST, Settings

STRONG = (
    "operator_token",
    "internal_token",
    "contact_key",
    "contact_key_other",
    "evidence_key",
    "marketplace_secret",
    "mail_key",
    "canary_token",
    "status_token",
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GOODFAITH_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("value", ["", "x" * (SECRET_LEAST - 1), " " * 40, "x" * 40 + "\n", "ü" * 40])
def test_a_weak_secret_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name}\n.*at least {SECRET_LEAST} characters.*openssl rand") as caught:
        Settings(**{name: SecretStr(value)})
    assert not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize("name", ["kafka_password", "smtp_password", "statements_token", "dkim_key", "database"])
def test_a_secret_of_others_is_not_empty(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: SecretStr("")})


def test_every_secret_is_one_or_the_other() -> None:
    """A new secret without a least length would be accepted empty."""
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation):
            with pytest.raises(ValidationError):
                Settings(**{name: SecretStr("")})


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_INTERNAL_TOKEN", "")
    monkeypatch.setenv("GOODFAITH_STATUS_TOKEN", "")
    monkeypatch.setenv("GOODFAITH_PARTITIONS", "")
    settings = Settings()
    assert settings.internal_token is None
    assert settings.status_token is None
    assert settings.partitions == Settings.model_fields["partitions"].default


def test_a_process_says_in_a_line_what_is_wrong() -> None:
    short = "tooshort" + "1234"
    environment = {**os.environ, "GOODFAITH_INTERNAL_TOKEN": short, "GOODFAITH_PARTITIONS": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "services.intake", "api"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["GOODFAITH_PARTITIONS", "GOODFAITH_INTERNAL_TOKEN"]
    assert "openssl rand" in lines[1]
    assert short not in done.stderr


def test_a_setting_that_was_replaced_is_not_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the site's links would silently be those of the default."""
    monkeypatch.setenv("GOODFAITH_SITE_HOSTS", '["shop.example"]')
    with pytest.raises(SystemExit) as ended:
        Settings.at_start()
    assert ended.value.code == 2
    assert "GOODFAITH_SITE_HOSTS: replaced by GOODFAITH_SITE_LINKS" in capsys.readouterr().err
    # while upgrading, the old version's processes need theirs
    monkeypatch.setenv("GOODFAITH_SITE_LINKS", '["shop.example/items/{id}"]')
    assert Settings.at_start().site_links == ("shop.example/items/{id}",)


def test_links_that_are_no_patterns_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOODFAITH_SITE_LINKS", '["https://shop.example/items/{id}"]')
    with pytest.raises(SystemExit):
        Settings.at_start()
    error = capsys.readouterr().err
    assert "GOODFAITH_SITE_LINKS" in error
    assert "write host/path" in error
