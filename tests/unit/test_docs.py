"""The documents name what there is: links, metrics, commands, settings, topics, routes and tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer
from litestar.handlers import HTTPRouteHandler
from typer.main import get_command

from services.intake.app import ROUTES
from services.intake.kernel.web import EVERYONE
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
            for folder in ("docs", "deploy", "services", "shared", "labs", "examples", "tests")
            for found in (ROOT / folder).rglob("*.md")
        ),
    ]
)
SOURCES = ("services", "shared", "deploy", "labs", "tools", "examples")
AS_THEY_ARE = {
    path
    for path in DOCUMENTS
    if path.is_relative_to("shared/declarations") or path.name in ("tour.md", "story-entity.md")
}
"""Texts whose bytes were signed, and those that the tour tells: their lines stay as they are."""
FORMER = re.compile(r"\b(doors?|anew|beside|whoever|promise[ds]?|parked)\b", flags=re.I)
"""Words that had several meanings, and that the glossary has replaced by others."""
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)
of_today = pytest.mark.parametrize("document", [one for one in DOCUMENTS if one.name != "CHANGELOG.md"], ids=str)
"""All but the changelog, which also names what there was."""


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


@of_today
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


@of_today
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


@of_today
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
    """Settings, and what the code and the compose file read from the environment in addition."""
    settings = {f"GOODFAITH_{name.upper()}" for name in Settings.model_fields}
    settings |= {f"{name}_FILE" for name in settings}
    texts = sources() + text_of(Path("deploy/compose.yaml"))
    return frozenset(settings | set(re.findall(r"GOODFAITH_[A-Z]+(?:_[A-Z]+)*", texts)))


@of_today
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


@of_today
def test_tests_exist(document: Path) -> None:
    for name in re.findall(r"`(test_\w+)`", text_of(document)):
        assert name in known_tests(), name


@of_today
def test_paths_exist(document: Path) -> None:
    """Paths from the root, in code spans."""
    for code in code_of(document):
        if re.fullmatch(r"(?:services|shared|deploy|labs|tools|examples|tests|docs)/[\w./-]+", code):
            assert (ROOT / code).exists(), code


@cache
def words_of_the_code() -> frozenset[str]:
    files = [
        path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".toml")
    ]
    return frozenset(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in files)))


def test_glossary_names_what_is_in_the_code() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| (.+) \|$", text_of(Path("docs/reference/glossary.md")), flags=re.M)
    assert len(rows) > 100
    assert len({term for term, _ in rows}) > len(rows) - 5, "a term has at most one meaning of each kind"
    for term, where in rows[1:]:
        for name in re.findall(r"`(?!GOODFAITH_)([A-Za-z_][\w.]*)`", where):
            assert name.rpartition(".")[2] in words_of_the_code(), (term, name)
        for name, path in re.findall(r"`([A-Za-z_]\w*)` in `([\w/]+\.py)`", where):
            assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), (term, name, path)


def prose_of(document: Path) -> list[tuple[int, str]]:
    """Lines of running text, with their numbers: no code blocks, tables, headings or lines that are one long word."""
    lines, code = [], False
    for number, line in enumerate(text_of(document).splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not (code or line.startswith(("|", "#", "    ")) or " " not in line.strip()):
            lines.append((number, line))
    return lines


@each_document
def test_lines_of_prose_are_short(document: Path) -> None:
    assert not [number for number, line in prose_of(document) if len(line) > 119 and document not in AS_THEY_ARE]


@of_today
def test_words_are_those_of_the_glossary(document: Path) -> None:
    found = [
        (number, word[0])
        for number, line in prose_of(document)
        if (word := FORMER.search(re.sub(r"`[^`]*`", "", line)))
    ]
    assert not found, "these words are in `FORMER` of this test; docs/reference/glossary.md has the terms"


def test_every_decision_is_in_the_index() -> None:
    """With its title, and with the status that it gives itself."""
    index = text_of(Path("docs/decisions/README.md"))
    rows = re.findall(r"^\| \[(\d+)\]\(([\w-]+\.md)\) \| (.+) \| (.+) \|$", index, flags=re.M)
    listed = {name: (number, title, status) for number, name, title, status in rows}
    assert len(listed) == len(rows), "listed twice"
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        number, _, title = text_of(path.relative_to(ROOT)).partition("\n")[0].removeprefix("# ").partition(". ")
        said = re.search(r"^\*\*Status\.\*\* (\w+) by \[decision (\d+)\]", text_of(path.relative_to(ROOT)), flags=re.M)
        status = "in force" if said is None else f"{said[1].lower()} by {said[2]}"
        assert listed.pop(path.name, None) == (number, title, status), path.name
        assert path.name.startswith(f"{int(number):04}-")
    assert not listed


WALKS = "docs/explanation/architecture.md"


def walks() -> dict[str, list[tuple[str, list[str]]]]:
    """The walks through the code: title -> steps, each a file and the names that it explains."""
    section = text_of(Path(WALKS)).split("\n## Walks through the code\n")[1].split("\n## ")[0]
    found = {}
    for walk in section.split("\n### ")[1:]:
        title, _, text = walk.partition("\n")
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`[,:] *((?:.|\n(?!\d+\. |\n))*)", text, flags=re.M)
        found[title] = [(path, re.findall(r"`(_*[A-Za-z]\w*(?:\.\w+)?)`", says)) for path, says in steps]
    return found


def test_walks_name_files_and_what_is_in_them() -> None:
    assert len(walks()) == 3
    for title, steps in walks().items():
        assert len(steps) >= 5, title
        for path, names in steps:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert names, (title, path)
            # the first name is what acts there; the others may be what it takes or makes
            assert re.search(rf"\b{names[0].rpartition('.')[2]}\b", text), (title, path, names[0])
            missing = [name for name in names if name.rpartition(".")[2] not in words_of_the_code()]
            assert not missing, (title, path)


def test_walks_do_not_go_back_and_forth() -> None:
    """A walk leaves each folder once."""
    for title, steps in walks().items():
        rooms = [path.rpartition("/")[0] for path, _ in steps]
        left = [room for room, following in zip(rooms, [*rooms[1:], ""], strict=True) if room != following]
        assert len(left) == len(set(left)), (title, left)


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
