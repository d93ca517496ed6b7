"""`python -m tools.messages`: updates the catalogues in `shared/locale/` from the texts in policies and code.

The catalogue `goodfaith` has the texts of policies (titles and explanations of reasons, cures of refusals), those that
code marks (`shared.languages.mark`), intake's refusals (`Refused`), the formats of registration numbers, and the
refusals of commands. The catalogue `messages` has the templates and tables of services/notification.

New texts get an empty translation, texts that no longer exist are removed, other translations are kept. With `--check`
nothing is written. Exit code 1 if a text has no translation.

Babel reads and writes the catalogues. Its extractor finds only literal arguments; refusals are composed, by f-strings
and by functions that pass their arguments on, so calls are looked up here.
"""

from __future__ import annotations

import ast
import io
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from services.intake.evidence import detection
from services.intake.registry import forms, registers
from services.notification import layout, render, strings, wording
from services.verification import refusals
from services.verification.lifecycle import PARTIES
from shared import languages, policy, right_refusals

ROOT: Final = Path(__file__).resolve().parents[1]
_HEADER: Final = (
    '# Texts of Goodfaith in {language}. The keys are the English texts. Updated by `make messages`.\nmsgid ""\nmsgstr ""\n'
    '"Language: {language}\\n"\n"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    '"Content-Transfer-Encoding: 8bit\\n"\n\n'
)
"""Without dates, so that a file changes only when a text does."""


class Texts(defaultdict[strings.Said, set[str]]):
    """(context, English text) -> files that have it."""

    def __init__(self) -> None:
        super().__init__(set)

    def enter(self, file: str, *texts: str) -> None:
        """Add texts without context, if they are not empty."""
        for text in filter(None, texts):
            self["", text].add(file)


def of_policies() -> Texts:
    """Texts of every policy."""
    found = Texts()
    for version in policy.versions():
        rules = policy.load(version)
        grounds = () if rules.statements is None else rules.statements.grounds.values()
        weighing = rules.triage
        found.enter(
            f"shared/policies/{version}.toml",
            *(reason.title or forms.plain(code) for code, reason in rules.reasons.items()),
            *(reason.explanation for reason in rules.reasons.values()),
            *rules.refusals.values(),
            *rules.appeals.reasons.values(),
            *(text for paragraphs in rules.texts.values() for text in paragraphs),
            *(text for ground in grounds for text in (ground.legal_ground, ground.explanation)),
            *(rule.says or "" for rule in (weighing.rules.values() if weighing else ())),
            *(() if rules.brake is None else rules.brake.says.values()),
            *(finding.lacking for finding in (weighing.findings.values() if weighing else ())),
        )
    return found


def of_forms() -> Texts:
    """Texts that forms show in addition to those of the policy."""
    found = Texts()
    tables = (forms.RIGHTS, forms.ELEMENTS, forms.GROUNDS)
    found.enter("services/intake/registry/forms.py", *(text for table in tables for text in table.values()))
    return found


@cache
def of_code() -> Texts:
    """Texts of refusals, marked texts, and formats of registration numbers."""
    found = Texts()
    formats = (form.looks for form in registers.FORMATS.values())
    found.enter("services/intake/registry/registers.py", *formats, *registers.OFFICES.values())
    found.enter("services/verification/refusals.py", *refusals.TEXTS.values())
    found.enter("services/verification/lifecycle.py", *PARTIES.values())
    found.enter(
        "services/intake/evidence/detection.py", *(text for pair in detection.REASONS.values() for text in pair)
    )
    # refusals of upstreams' records go to a topic, in English
    intake = ROOT / "services" / "intake"
    files = sorted(set(intake.rglob("*.py")) - {intake / "filing" / "inbound.py", *intake.glob("migrations/**/*.py")})
    files += [ROOT / "shared" / f"{name}.py" for name in ("outbound", "paging", "problems", "right_refusals")]
    trees = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    # functions that make a refusal from their arguments: the texts that their callers pass count too
    makers: dict[str, set[int | str]] = {"Refused": {2, "detail", "cure"}, "mark": {0}}
    for tree in trees.values():
        makers |= _makers(tree)
    for name, tree in trees.items():
        constants = _constants(tree)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and (wanted := makers.get(_name(call.func))):
                for argument in _arguments(call, wanted):
                    found.enter(name, *_texts(argument, constants))
    return found


def texts() -> Texts:
    """Every text of the catalogue `goodfaith`."""
    found = Texts()
    for group in (of_policies(), of_forms(), of_code()):
        for said, files in group.items():
            found[said] |= files
    return found


def of_messages() -> Texts:
    """Every text of the catalogue `messages`."""
    found = Texts()
    for name in strings.templates():
        for said in strings.in_template(name):
            found[said].add(f"services/notification/templates/{name}")
    for said in strings.in_layout():
        found[said].add("services/notification/layout.py")
    for table in (
        render.SAYS,
        render.STATES,
        render.UPHELD_UNREACHED,
        {kind: render.words(kind) for kind in render.SAYS},
    ):
        found.enter("services/notification/render.py", *table.values())
    found.enter("shared/right_refusals.py", *right_refusals.TEXTS.values(), *right_refusals.POWERS.values())
    for table in (wording.RIGHTS, wording.ELEMENTS, wording.NAMES):
        found.enter("services/notification/wording.py", *table.values())
    return found


_REFUSES: Final[dict[str, set[int | str]]] = {
    "Refused": {2, "detail", "cure"},
    "_refused": {1, 2, "detail", "cure"},
}
"""Calls that make a refusal, with those of their arguments that are texts, by position and by name."""
_NO_MAKERS: Final = ("init__", "normalise", "command_targets")
"""Functions whose parameters are values that a refusal quotes."""


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _arguments(call: ast.Call, wanted: set[int | str]) -> Iterator[ast.expr]:
    yield from (argument for position, argument in enumerate(call.args) if position in wanted)
    yield from (keyword.value for keyword in call.keywords if keyword.arg in wanted)


def _makers(tree: ast.Module) -> dict[str, set[int | str]]:
    """Functions of the module that pass parameters of type ``str`` to a refusal as text, with those parameters."""
    found: dict[str, set[int | str]] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name.lstrip("_") in _NO_MAKERS:
            continue
        used = {
            node.id
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and (wanted := _REFUSES.get(_name(call.func)))
            for argument in _arguments(call, wanted)
            for node in ast.walk(argument)
            if isinstance(node, ast.Name)
        }
        for position, parameter in enumerate(function.args.args):
            if (
                parameter.arg in used
                and isinstance(parameter.annotation, ast.Name)
                and parameter.annotation.id == "str"
            ):
                found.setdefault(function.name, set()).update((position, parameter.arg))
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """Text constants of the module."""
    found: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if isinstance(text := statement.value.value, str):
                found |= {target.id: text for target in targets if isinstance(target, ast.Name)}
    return found


def _texts(node: ast.expr, constants: Mapping[str, str]) -> Iterator[str]:
    """Texts that an expression may evaluate to. Placeholders of f-strings are named after what fills them."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, constants)
        yield from _texts(node.orelse, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if any(map(str.isalpha, node.value)):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        text, names = "", set[str]()
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value).replace("{", "").replace("}", "")
            elif isinstance(part, ast.FormattedValue):
                name = base = _place(part.value)
                number = 2
                while name in names:
                    name, number = f"{base}{number}", number + 1
                names.add(name)
                text += f"{{{name}}}"
        if languages.is_template(text):
            yield text


def _place(node: ast.expr) -> str:
    """A name for a placeholder, after what fills it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        key = node.slice
        return str(key.value) if isinstance(key, ast.Constant) and isinstance(key.value, str) else _place(key)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        return "list"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        return "number"
    return "value"


def catalogue(language: str, domain: str, wanted: Mapping[strings.Said, set[str]]) -> Catalog:
    """The catalogue as it should be: the wanted texts, with the translations that its file has."""
    known = Catalog(locale=language)
    if (path := languages.file(language, domain)).exists():
        with path.open("rb") as stream:
            known = read_po(stream, locale=language)
    made = Catalog(locale=language, domain=domain, fuzzy=False)
    for (context, text), files in wanted.items():
        old = known.get(text, context or None)
        places = [(file, 1) for file in sorted(files)]
        made.add(text, old.string if old else "", locations=places, context=context or None)
    return made


def written(made: Catalog, language: str) -> bytes:
    """The content of the file."""
    stream = io.BytesIO()
    write_po(stream, made, omit_header=True, include_lineno=False, width=0, sort_output=True)
    return _HEADER.format(language=language).encode() + stream.getvalue()


def missing(made: Catalog) -> list[str]:
    """Texts without a translation."""
    return sorted(str(message.id) for message in made if message.id and not message.string)


def main(arguments: list[str]) -> int:
    """Write the catalogues, or check them."""
    wanted, untranslated = {languages.DOMAIN: texts(), layout.DOMAIN: of_messages()}, 0
    for language in languages.LANGUAGES[1:]:
        for domain, said in wanted.items():
            path, made = languages.file(language, domain), catalogue(language, domain, said)
            if arguments != ["--check"]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(written(made, language))
            for text in missing(made):
                untranslated += 1
                sys.stdout.write(f"{path.relative_to(ROOT)}: not translated: {text}\n")
    sys.stdout.write(f"{sum(map(len, wanted.values()))} texts, {untranslated} translations missing\n")
    return 1 if untranslated else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
