"""The documents name what there is: links, metrics, commands, settings, topics, routes and tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer
from litestar.handlers import HTTPRouteHandler
from typer.main import get_command

from services.intake.app import EVERYONE, ROUTES
from services.ops.cli import build
from shared import migrate, topics
from shared.metrics import load
from shared.settings import Settings
from tools import metrics_docs, settings_docs

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in [
        *ROOT.glob("*.md"),
        *(
            found
            for folder in ("docs", "deploy", "services", "shared", "labs", "examples", "tests", "benchmarks")
            for found in (ROOT / folder).rglob("*.md")
        ),
    ]
)
SOURCES = ("services", "shared", "deploy", "labs", "tools", "examples")
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


@cache
def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_of(document: Path) -> list[str]:
    """What stands as code: spans, and lines of blocks."""
    text = text_of(document)
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, flags=re.M | re.S)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^ {4,}(\S.*)$", prose, flags=re.M)
    spans = re.findall(r"`([^`\n]+)`", prose)
    return [*spans, *indented, *(line.strip() for block in blocks for line in block.splitlines())]


def anchors_of(document: Path) -> set[str]:
    """Anchors that headings get on the usual hosts."""
    prose = re.sub(r"^ *```.*?^ *```", "", text_of(document), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.*?) *$", prose, flags=re.M)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", t).lower()).replace(" ", "-") for t in titles
    }


@cache
def sources() -> str:
    files = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".sh")]
    return "\n".join(path.read_text(encoding="utf-8") for path in [*files, ROOT / "Makefile"])


@cache
def metrics() -> frozenset[str]:
    """Metrics as declared."""
    return frozenset(load())


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / document).parent / path if path else ROOT / document
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors_of(there.resolve().relative_to(ROOT)), target


@each_document
def test_metrics_exist(document: Path) -> None:
    roles = {f"goodfaith_{service}{other}" for service in migrate.ROLES for other in ("", migrate.OTHER)}
    roles.add(migrate.PARTY)
    for name in re.findall(r"\bgoodfaith_[a-z][a-z_]*[a-z]", text_of(document)):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in metrics() or name in metrics() | roles, name


def test_the_document_of_metrics_is_fresh() -> None:
    """When this fails: python -m tools.metrics_docs > docs/reference/metrics.md"""
    assert text_of(Path("docs/reference/metrics.md")) == metrics_docs.document(load())


def test_the_document_of_settings_is_fresh() -> None:
    """When this fails: python -m tools.settings_docs > docs/reference/settings.md"""
    assert text_of(Path("docs/reference/settings.md")) == settings_docs.document()


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for code in code_of(document):
        for name in re.findall(r"(?:^|[;&] *)make ([a-z]+(?:-[a-z]+)*)", code):
            assert name in targets, code


@cache
def commands() -> frozenset[tuple[str, ...]]:
    """Commands of the command line, groups with their subcommands."""
    top = get_command(build())
    assert isinstance(top, typer.core.TyperGroup)
    found: set[tuple[str, ...]] = set()
    for name, command in top.commands.items():
        found.add((name,))
        found.update((name, inner) for inner in getattr(command, "commands", ()))
    return frozenset(found)


@each_document
def test_commands_exist(document: Path) -> None:
    known = commands()
    groups = {words[0] for words in known if len(words) == 2}
    for code in code_of(document):
        for first, second in re.findall(r"(?:^|bin/)goodfaith ([a-z]+)(?: ([a-z-]+)\b(?!/))?", code):
            assert (first,) in known, code
            if first in groups and second:
                assert (first, second) in known, code


def test_every_command_is_explained() -> None:
    rows = re.findall(
        r"^\| `goodfaith ([a-z]+)(?: ([a-z-]+))?", text_of(Path("docs/reference/command-line.md")), flags=re.M
    )
    groups = {words[0] for words in commands() if len(words) == 2}
    explained = {(first, second) if first in groups else (first,) for first, second in rows}
    missing = {words for words in commands() if words[0] not in groups or len(words) == 2} - explained
    assert not missing, "give each a row in docs/reference/command-line.md"


@cache
def variables() -> frozenset[str]:
    """Settings, and what the code and the compose file read from the environment beside them."""
    settings = {f"GOODFAITH_{name.upper()}" for name in Settings.model_fields}
    settings |= {f"{name}_FILE" for name in settings}
    texts = sources() + text_of(Path("deploy/compose.yaml"))
    return frozenset(settings | set(re.findall(r"GOODFAITH_[A-Z]+(?:_[A-Z]+)*", texts)))


@each_document
def test_settings_exist(document: Path) -> None:
    for name in re.findall(r"GOODFAITH_[A-Z]+(?:_[A-Z]+)*", text_of(document)):
        assert name in variables(), name


def test_every_secret_says_how_it_is_changed() -> None:
    """Each has a row in docs/how-to/rotate-secrets.md, "Secrets"."""
    text = text_of(Path("docs/how-to/rotate-secrets.md"))
    section = text.split("\n## Secrets\n", 1)[1].split("\n## ", 1)[0]
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {"contact_key", "database"} <= secret
    assert not {name for name in secret if f"`GOODFAITH_{name.upper()}`" not in section}


@cache
def known_tests() -> frozenset[str]:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return frozenset(re.findall(r"def (test_\w+)", "\n".join(path.read_text(encoding="utf-8") for path in files)))


@each_document
def test_tests_exist(document: Path) -> None:
    for name in re.findall(r"`(test_\w+)`", text_of(document)):
        assert name in known_tests(), name


@each_document
def test_paths_exist(document: Path) -> None:
    """Paths from the root, in code spans."""
    for code in code_of(document):
        if re.fullmatch(r"(?:services|shared|deploy|labs|tools|examples|tests|docs|benchmarks)/[\w./-]+", code):
            assert (ROOT / code).exists(), code


def _table(section: str) -> list[list[str]]:
    """Rows of the first table after a heading of docs/reference/events.md."""
    text = text_of(Path("docs/reference/events.md"))
    rows = text[text.index(f"\n{section}\n") :].split("\n|---", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_topics_are_those_of_the_code() -> None:
    declared = {
        f"`{topic.name}`": (
            topic.writer,
            topic.key,
            "compacted" if topic.compacted else f"{topic.retention_ms // topics.DAY_MS} days",
        )
        for topic in topics.TOPICS
    }
    assert {row[0]: (row[1], row[2], row[3]) for row in _table("## Topics")} == declared


def test_routes_are_those_of_the_code() -> None:
    roles = ("holder", "seller", "reviewer", "operator", "upstream")
    words = {"all": set(roles), "staff": {"reviewer", "operator"}}
    declared = {}
    for handler in ROUTES:
        assert isinstance(handler, HTTPRouteHandler)
        if handler.opt["roles"] <= EVERYONE:
            for path in handler.paths:
                for method in handler.http_methods:
                    declared[f"`{method} {re.sub(r':str}', '}', path)}`"] = set(roles) & handler.opt["roles"]
    rows = re.findall(r"^\| (`[A-Z]+ /[^|]*) \| ([a-z, ]+) \|", text_of(Path("docs/reference/http.md")), flags=re.M)
    found = {
        route: words.get(who, set(who.split(", ")))
        for cell, who in rows
        for route in re.findall(r"`[A-Z]+ /[^`]+`", cell)
    }
    assert found == declared
