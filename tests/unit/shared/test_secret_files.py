"""Secrets out of files: found, refused in words that name the cure, read again when they change, and shown nowhere."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.secret_files import MOST_BYTES, Present, SecretFileError, read
from shared.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GOODFAITH_")]:
        monkeypatch.delenv(name)


def _write(file: Path, text: str) -> Path:
    file.write_bytes(text.encode())
    return file


def test_a_file_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_INTERNAL_TOKEN_FILE", str(_write(tmp_path / "t", "s3cret" * 8 + "\n")))
    settings = Settings()
    assert settings.internal_token is not None
    assert settings.internal_token.get_secret_value() == "s3cret" * 8
    assert "s3cret" not in repr(settings) + str(settings.present("internal_token"))


@pytest.mark.parametrize("name", ["GOODFAITH_SMTP_PASSWORD", "smtp_password"])
def test_a_folder_holds_secrets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / name, "of the folder")
    monkeypatch.setenv("GOODFAITH_SECRETS_DIR", str(tmp_path))
    assert Settings().present("smtp_password").read() == "of the folder"
    monkeypatch.setenv("GOODFAITH_SMTP_PASSWORD", "of the environment")
    assert Settings().present("smtp_password").read() == "of the environment"


def test_what_the_caller_gives_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_DATABASE_FILE", str(_write(tmp_path / "url", "postgresql://of.a.file/x")))
    given_ = Settings(database="postgresql://given/x")  # type: ignore[arg-type]
    assert given_.present("database").read() == "postgresql://given/x"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=200))
def test_any_text_is_a_secret(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "f"
    for ending in ("", "\n", "\r\n"):
        assert read(_write(file, text + ending), "X") == text


def test_what_cannot_be_a_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    cases = {
        tmp_path / "missing": "cannot be read",
        tmp_path: "cannot be read",
        Path("/dev/zero"): "not a file",
        _write(tmp_path / "empty", "\n"): "is empty",
        _write(tmp_path / "large", "x" * (MOST_BYTES + 1)): "more than",
        tmp_path / "binary": "no UTF-8",
    }
    for file, says in cases.items():
        with pytest.raises(SecretFileError, match=f"GOODFAITH_X_FILE names .*{says}"):
            read(file, "GOODFAITH_X_FILE")


def test_twice_is_once_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_MAIL_KEY_FILE", str(_write(tmp_path / "k", "x" * 40)))
    monkeypatch.setenv("GOODFAITH_MAIL_KEY", "y" * 40)
    with pytest.raises(SecretFileError, match="GOODFAITH_MAIL_KEY and GOODFAITH_MAIL_KEY_FILE are both set"):
        Settings()


def test_a_secret_of_a_file_that_breaks_a_rule_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODFAITH_MAIL_KEY_FILE", str(_write(tmp_path / "k", "too-short-a-key")))
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "too-short-a-key" not in str(caught.value)
    assert "mail_key" in str(caught.value)


def test_a_file_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(tmp_path / "p", "first")
    monkeypatch.setenv("GOODFAITH_SMTP_PASSWORD_FILE", str(file))
    settings: Settings = pickle.loads(pickle.dumps(Settings()))  # noqa: S301 - as it goes to another process
    present = settings.present("smtp_password")
    assert (present.read(), present.encode()) == ("first", b"first")
    _write(file, "second\n")
    assert (present.read(), settings.present("smtp_password").read()) == ("second", "second")
    file.unlink()
    assert present.read() == "second"
    assert settings.smtp_password is not None
    assert settings.smtp_password.get_secret_value() == "first"


def test_a_setting_that_is_not_set_is_empty() -> None:
    assert not Settings().present("smtp_password")
    assert not Settings().present("kafka_user")
    assert Present("x")
