"""`python -m tools.messages`: updates the catalogues in `shared/locale/` from the texts in policies and code.

Texts are those of the policies (titles and explanations of reasons, cures of refusals), those that code marks
(`shared.languages.mark`), intake's refusals (`Refused`), the formats of registration numbers, and the refusals of
commands. The texts of messages (templates and tables of services/notification) have catalogues of their own. New
texts get an empty translation, texts that no longer exist are removed, other translations are kept. With `--check`
nothing is written. Exit code 1 if a text has no translation.
"""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from services.intake.evidence import detection as sniff
from services.intake.registry import forms, registers
from services.notification import layout, render, strings, wording
from services.verification import refusals
from services.verification.lifecycle import PARTIES
from shared import languages, policy

ROOT: Final = Path(__file__).resolve().parents[1]
_HEADER: Final = (
    "# Texts of Goodfaith in {language}. The keys are the English texts. Brought up to date by `make messages`.\n"
)

Texts = dict[str, set[str]]
"""English text -> files that have it."""


def of_policies() -> Texts:
    """Texts of every policy."""
    found: Texts = {}
    for version in policy.versions():
        rules = policy.load(version)
        for code, reason in rules.reasons.items():
            for text in (reason.title or forms.plain(code), reason.explanation):
                if text:
                    found.setdefault(text, set()).add(f"shared/policies/{version}.toml")
        said = [*rules.refusals.values(), *rules.appeals.reasons.values()]
        said += [text for paragraphs in rules.texts.values() for text in paragraphs]
        if rules.statements is not None:
            said += [
                text
                for ground in rules.statements.grounds.values()
                for text in (ground.legal_ground, ground.explanation)
            ]
        for text in said:
            found.setdefault(text, set()).add(f"shared/policies/{version}.toml")
    return found


def of_forms() -> Texts:
    """Texts that forms show in addition to those of the policy."""
    texts = (*forms.RIGHTS.values(), *forms.ELEMENTS.values(), *forms.GROUNDS.values())
    return {text: {"services/intake/registry/forms.py"} for text in texts}


@cache
def of_code() -> Texts:
    """Texts of refusals, marked texts, and formats of registration numbers."""
    found: Texts = {}
    for text in (*(form.looks for form in registers.FORMATS.values()), *registers.OFFICES.values()):
        found.setdefault(text, set()).add("services/intake/registry/registers.py")
    for text in refusals.TEXTS.values():
        found.setdefault(text, set()).add("services/verification/refusals.py")
    for detail, cure in sniff.REASONS.values():
        for text in (detail, cure):
            found.setdefault(text, set()).add("services/intake/evidence/detection.py")
    for text in PARTIES.values():
        found.setdefault(text, set()).add("services/verification/lifecycle.py")
    # refusals of upstreams' records go to a topic, in English
    files = sorted(
        set((ROOT / "services" / "intake").rglob("*.py")) - {ROOT / "services" / "intake" / "filing" / "inbound.py"}
    )
    files = [file for file in files if "migrations" not in file.parts]
    files += [ROOT / "shared" / "outbound.py", ROOT / "shared" / "paging.py"]
    trees = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    constants = {name: _constants(tree) for name, tree in trees.items()}
    # functions that make a refusal from their arguments: the texts that their callers pass count too
    makers: dict[str, set[int | str]] = {"Refused": {2, "detail", "cure"}, "mark": {0}}
    for tree in trees.values():
        makers |= _makers(tree)
    for name, tree in trees.items():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and (wanted := makers.get(_name(call.func))):
                for argument in _arguments(call, wanted):
                    for text in _texts(argument, constants[name]):
                        found.setdefault(text, set()).add(name)
    return found


def texts() -> Texts:
    """Every text to translate, except those of messages."""
    found: Texts = {}
    for group in (of_policies(), of_forms(), of_code()):
        for text, places in group.items():
            found.setdefault(text, set()).update(places)
    return found


def of_messages() -> dict[strings.Said, set[str]]:
    """Texts of messages, by (context, text). They have a catalogue of their own."""
    found: dict[strings.Said, set[str]] = {}
    for name in strings.templates():
        for said in strings.in_template(name):
            found.setdefault(said, set()).add(f"services/notification/templates/{name}")
    for said in strings.in_layout():
        found.setdefault(said, set()).add("services/notification/layout.py")
    for place, table in (
        ("render.py", render.SAYS),
        ("render.py", render.STATES),
        ("wording.py", wording.RIGHTS),
        ("wording.py", wording.ELEMENTS),
        ("wording.py", wording.NAMES),
        ("render.py", {kind: render.words(kind) for kind in render.SAYS}),
    ):
        for text in table.values():
            found.setdefault(("", text), set()).add(f"services/notification/{place}")
    return found


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _arguments(call: ast.Call, wanted: set[int | str]) -> Iterator[ast.expr]:
    yield from (argument for place, argument in enumerate(call.args) if place in wanted)
    yield from (keyword.value for keyword in call.keywords if keyword.arg in wanted)


def _makers(tree: ast.Module) -> dict[str, set[int | str]]:
    """Functions of the module that pass parameters to ``Refused`` as text, with those parameters."""
    found: dict[str, set[int | str]] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name == "__init__":
            continue
        parameters = [argument.arg for argument in function.args.args]
        used: set[str] = set()
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and _name(call.func) in ("Refused", "_refused"):
                wanted: set[int | str] = (
                    {2, "detail", "cure"} if _name(call.func) == "Refused" else {1, 2, "detail", "cure"}
                )
                for argument in _arguments(call, wanted):
                    used |= {node.id for node in ast.walk(argument) if isinstance(node, ast.Name)}
        places = {place for place, name in enumerate(parameters) if name in used}
        # only parameters that are annotated as text
        texts = {
            place
            for place in places
            if isinstance(annotation := function.args.args[place].annotation, ast.Name) and annotation.id == "str"
        }
        if texts and function.name.lstrip("_") not in ("normalise", "command_targets"):
            found[function.name] = {*texts, *(parameters[place] for place in texts)}
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """Text constants of the module."""
    found: dict[str, str] = {}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if (
            targets
            and isinstance(value := getattr(statement, "value", None), ast.Constant)
            and isinstance(value.value, str)
        ):
            found |= {target.id: value.value for target in targets if isinstance(target, ast.Name)}
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


def catalogue(language: str, wanted: Texts) -> Catalog:
    """The catalogue as it should be: the wanted texts, with the existing translations."""
    known: dict[str, str] = {}
    if (path := languages.file(language)).exists():
        with path.open("rb") as stream:
            known = {str(message.id): str(message.string) for message in read_po(stream, locale=language) if message.id}
    made = Catalog(
        locale=language, domain=languages.DOMAIN, header_comment=_HEADER.format(language=language), fuzzy=False
    )
    for text in sorted(wanted):
        flags = ["python-brace-format"] if languages.is_template(text) else []
        made.add(text, known.get(text, ""), locations=[(place, 1) for place in sorted(wanted[text])], flags=flags)
    return made


def message_catalogue(language: str, wanted: Mapping[strings.Said, set[str]]) -> Catalog:
    """The catalogue of messages as it should be: the wanted texts, with the existing translations."""
    known: dict[strings.Said, str] = {}
    if (path := languages.file(language, layout.DOMAIN)).exists():
        with path.open("rb") as stream:
            messages = [message for message in read_po(stream, locale=language) if message.id]
        known = {(message.context or "", str(message.id)): str(message.string) for message in messages}
    made = Catalog(locale=language, domain=layout.DOMAIN, fuzzy=False)
    for context, text in sorted(wanted, key=lambda said: (said[1], said[0])):
        flags = ["python-brace-format"] if "{" in text else []
        places = [(place, 1) for place in sorted(wanted[context, text])]
        made.add(text, known.get((context, text), ""), locations=places, flags=flags, context=context or None)
    return made


def written(made: Catalog, language: str) -> bytes:
    """The content of the file: without dates, so that it changes only when a text does."""
    stream = io.BytesIO()
    write_po(stream, made, omit_header=True, include_lineno=False, width=0, sort_output=True)
    header = (
        f'{_HEADER.format(language=language)}msgid ""\nmsgstr ""\n"Language: {language}\\n"\n'
        '"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n"Content-Transfer-Encoding: 8bit\\n"\n\n'
    )
    return header.encode() + stream.getvalue()


def missing(language: str, wanted: Iterable[str]) -> list[str]:
    """Texts without a translation."""
    there = languages.catalogue(language).texts
    return sorted(text for text in wanted if text not in there)


def missing_in_messages(language: str, wanted: Iterable[strings.Said]) -> list[str]:
    """Texts of messages without a translation."""
    there = layout.catalogue(language)
    return sorted(text for context, text in wanted if (context, text) not in there)


def main(arguments: list[str]) -> int:
    """Write the catalogues, or check them."""
    wanted, said, untranslated = texts(), of_messages(), 0
    for language in languages.LANGUAGES[1:]:
        if arguments != ["--check"]:
            path = languages.file(language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written(catalogue(language, wanted), language))
            path = languages.file(language, layout.DOMAIN)
            path.write_bytes(written(message_catalogue(language, said), language))
            languages.catalogue.cache_clear()
            layout.catalogue.cache_clear()
        for domain, absent in (
            (languages.DOMAIN, missing(language, wanted)),
            (layout.DOMAIN, missing_in_messages(language, said)),
        ):
            for text in absent:
                untranslated += 1
                sys.stdout.write(f"{languages.file(language, domain).relative_to(ROOT)}: not translated: {text}\n")
    sys.stdout.write(f"{len(wanted) + len(said)} texts, {untranslated} translations missing\n")
    return 1 if untranslated else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
