"""The command line as a whole: exit codes, questions, options that mean the same everywhere, and no tracebacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy as sa
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, TopicAuthorizationFailedError
from typer.main import get_command

from deploy.local import up
from services.ops import cli
from shared.failures import CommandError, Finding, Unavailable
from shared.policy import PolicyError
from shared.secret_files import SecretFileError


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither an installation nor a local stack, and no terminal."""
    for name in ("GOODFAITH_KAFKA", "GOODFAITH_DATABASE", "GOODFAITH_STACK_NAME", "GOODFAITH_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOODFAITH_STATE_DIR", str(tmp_path))


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr("sys.argv", ["goodfaith", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    code = end.value.code
    assert isinstance(code, int | None)
    return code or 0, said.out, said.err


# --------------------------------------------------------------------------------------------------------- exit codes

CODES = (
    (0, "--version"),
    (0, "--help"),
    (0, "size --items-per-s 100"),
    (0, "policy check"),
    (0, "message preview seller_notice"),
    (1, "policy check {bad}"),
    (2, "nonsense"),
    (2, "verify --nonsense"),
    (2, "size"),
    (2, "size --items-per-s -1"),
    (2, "target --at yesterday"),
    (2, "standing list --since yesterday"),
    (2, "standing explain s-1 --at 24.11.2026"),
    (2, "policy backtest ipp-2026-11 {bad}"),
    (2, "policy backtest ipp-2026-11 none-2026-11"),
    (2, "policy backtest ipp-2026-11 {none}"),
    (2, "message preview nonsense"),
    (2, "message preview seller_notice --locale xx"),
    (2, "message preview seller_notice --profile nonsense"),
    (2, "top --board nonsense"),
    (2, "top"),
    (2, "dlq replay"),
    (2, "token revoke a-1"),
    (2, "topics apply --allow nonsense"),
    (2, "erase a-1 --reason {bad} --yes"),
    (2, "up --count nonsense"),
    (2, "up --secure nonsense"),
    (2, "up --begins nonsense"),
    (2, "down --destroy --processes"),
    (2, "down --stack ../nonsense"),
    (2, "demo --file {none}"),
    (2, "demo --file {bad}"),
    (2, "lab replay {none}"),
    (2, "lab replay {bad}"),
    (2, "lab replay --via nonsense"),
    (2, "lab replay --profile nonsense"),
    (2, "lab attack --only nonsense"),
    (2, "lab faults --only nonsense"),
    (2, "lab drills --only nonsense"),
    (2, "lab tour --check {none}"),
    (75, "verify"),
    (75, "status"),
    (75, "env"),
    (75, "restart verification"),
    (75, "target"),
    (75, "claim show c-1"),
    (75, "dlq list"),
    (75, "streams status"),
    (75, "topics plan"),
    (75, "statements list"),
    (75, "token list a-1"),
    (75, "standing list"),
    (75, "message reproduce m-1"),
    (75, "export s-1 --out {none}"),
    (75, "rewrap"),
    (75, "top --once"),
    (75, "lab replay"),
    (75, "lab canary status"),
)


@pytest.mark.parametrize(("code", "words"), CODES, ids=[words for _, words in CODES])
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, code: int, words: str
) -> None:
    """Without a stack: what a command does by itself, mistakes in it, and what it misses."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[nonsense")
    given = [word.format(bad=bad, none=tmp_path / "none.toml") for word in words.split()]
    found, _, error = run(monkeypatch, capsys, *given)
    assert found == code, error
    assert "Traceback" not in error
    assert bool(error.strip()) == (code >= 2)


@pytest.mark.parametrize("words", ["nonsense", "target --at yesterday", "verify", "top --board nonsense"])
def test_with_json_an_error_is_an_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    _, out, error = run(monkeypatch, capsys, *words.split(), "--json")
    assert list(json.loads(out)) == ["error"]
    assert error.strip()


@pytest.mark.parametrize(
    "words", ["size --items-per-s 100", "policy check", "message preview seller_notice", "settings"]
)
def test_with_json_there_is_nothing_else_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert json.loads(run(monkeypatch, capsys, *words.split(), "--json")[1])
    # and the next command talks to people again
    assert not run(monkeypatch, capsys, *words.split())[1].startswith("{")


def _of_database(kind: type[psycopg2.Error], code: str | None = None) -> Any:
    error = kind("what the database says\nDETAIL: and its details")
    if code is not None:
        monkey = type("Coded", (kind,), {"pgcode": code})
        error = monkey("what the database says\nDETAIL: and its details")
    return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandError("no such thing"), 2, "no such thing"),
        (Finding("it is in use"), 1, "it is in use"),
        (Unavailable("not there"), 75, "not there"),
        (SecretFileError("the file is empty"), 2, "the file is empty"),
        (PolicyError("x.toml: timers: wrong"), 2, "x.toml: timers: wrong"),
        (sa.exc.OperationalError("select", {}, _of_database(psycopg2.OperationalError)), 75, "the database"),
        (
            sa.exc.ProgrammingError("select", {}, _of_database(psycopg2.ProgrammingError, "42P01")),
            2,
            "goodfaith migrate",
        ),
        (sa.exc.ProgrammingError("select", {}, _of_database(psycopg2.ProgrammingError, "42501")), 2, "administrator"),
        (KafkaConnectionError("refused"), 75, "the broker"),
        (KafkaTimeoutError("too late"), 75, "the broker"),
        (TopicAuthorizationFailedError("not you"), 75, "not you"),
        (httpx.ConnectError("refused"), 75, "no answer"),
        (TimeoutError("still busy"), 75, "still busy"),
        (FileNotFoundError(2, "No such file or directory", "x.svg"), 2, "x.svg: No such file"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_that_a_user_can_fix_are_sentences(error: Exception, code: int, text: str) -> None:
    found = cli.explain(error)
    assert found is not None
    assert found.exit_code == code
    assert text in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError("x"),
        OSError("no file"),
        sa.exc.ProgrammingError("select", {}, _of_database(psycopg2.ProgrammingError, "42601")),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert cli.explain(error) is None


def test_a_wrong_setting_is_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GOODFAITH_PARTITIONS", "many")
    code, _, error = run(monkeypatch, capsys, "verify")
    assert (code, "GOODFAITH_PARTITIONS: " in error) == (2, True)


@pytest.mark.parametrize("url", ["nonsense", "postgresql://me:sesame@host:port/db", ""])
def test_a_wrong_url_is_a_mistake_and_stays_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("GOODFAITH_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("GOODFAITH_DATABASE", url)
    code, _, error = run(monkeypatch, capsys, "dlq", "list")
    assert code in ((75,) if url == "" else (2,)), error
    assert "sesame" not in error


# ---------------------------------------------------------------------------------------------------------- questions

DESTRUCTIVE = (
    "down --destroy",
    "erase a-1",
    "login broker intake --remove",
    "login database intake --other --remove",
    "migrate --contract",
    "prune",
    "restore topics",
    "restore unread",
    "standing recompute --apply",
    "token revoke a-1 --all",
    "topics apply --allow shorter-retention",
)


@pytest.mark.parametrize("words", DESTRUCTIVE)
def test_what_cannot_be_undone_is_not_done_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    if words.startswith(("login", "topics")):
        # they look at the installation first, which is not connected to
        monkeypatch.setenv("GOODFAITH_KAFKA", "127.0.0.1:1")
        monkeypatch.setenv("GOODFAITH_DATABASE", "postgresql://127.0.0.1:1/x")
    code, _, error = run(monkeypatch, capsys, *words.split())
    assert code == 2
    assert "repeat the command with --yes" in error


def test_another_stack_is_not_replaced_without_a_yes(tmp_path: Path) -> None:
    """Experiments destroy the stack that they start: their own, or one that the user agrees to lose."""
    (tmp_path / "default").mkdir()
    (tmp_path / "demo").mkdir()
    up.confirm_replacing("demo", "none", own=("demo",), yes=False)
    up.confirm_replacing("default", own=("demo",), yes=True)
    with pytest.raises(CommandError, match="Replace default, with all data"):
        up.confirm_replacing("default", own=("demo",), yes=False)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for word, one in (inner or {}).items():
            yield from walk(f"{name} {word}".strip(), one)

    yield from walk("", get_command(cli.build()))


def options() -> Iterator[tuple[str, str, Any]]:
    """Command, spelling and declaration of every option."""
    for name, command in commands():
        for param in command.params:
            for spelling in param.opts if param.param_type_name == "option" else ():
                yield name, spelling, param


def test_commands_that_ask_are_all_tested() -> None:
    asking = {name for name, spelling, _ in options() if spelling == "--yes" and not name.startswith("lab ")}
    asking.discard("demo")
    assert asking == {
        name for name, _ in commands() if any(f"{words} ".startswith(f"{name} ") for words in DESTRUCTIVE)
    }


def test_every_command_speaks_json() -> None:
    names = {name for name, _ in commands()}
    assert names == {name for name, spelling, _ in options() if spelling == "--json"}


ONE_MEANING = ("--json", "--yes", "--at", "--since", "--timeout", "--keep", "--jobs", "--limit", "--out", "--stack")


@pytest.mark.parametrize("spelling", ONE_MEANING)
def test_an_option_means_the_same_everywhere(spelling: str) -> None:
    kinds = {
        (param.is_flag, bool(getattr(param, "multiple", False))) for _, name, param in options() if name == spelling
    }
    assert len(kinds) == 1


def test_every_option_and_command_is_explained() -> None:
    assert not [(name, spelling) for name, spelling, param in options() if not param.help and spelling != "--help"]
    assert not [name for name, command in commands() if not command.help]
