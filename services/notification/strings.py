"""Extracts the translatable texts of messages from templates and layout. Pure, except that it reads these files."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER: Final = Path(__file__).parent / "templates"
Said = tuple[str, str]
"""(context, English text)."""
_IMPORT: Final = re.compile(r'\{%-? *(?:from|import) "([^"]+)"')


@cache
def in_template(name: str) -> tuple[Said, ...]:
    """The texts of a template's ``_("...")`` calls, in order."""
    tree = ImmutableSandboxedEnvironment().parse((FOLDER / name).read_text(encoding="utf-8"))
    found = []
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "_" and call.args:
            text = call.args[0]
            if not isinstance(text, nodes.Const) or not isinstance(text.value, str):
                raise ValueError(f"{name}:{call.lineno}: what is to be translated must stand there as a text")
            context = [one.value.as_const() for one in call.kwargs if one.key == "context"]
            found.append((str(context[0]) if context else "", text.value))
    return tuple(found)


@cache
def in_layout() -> tuple[Said, ...]:
    """The texts of the layout's ``_("...")`` calls."""
    tree = ast.parse((FOLDER.parent / "layout.py").read_text(encoding="utf-8"))
    return tuple(
        ("", call.args[0].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "_"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    )


@cache
def sources(kind: str, version: int) -> tuple[tuple[str, tuple[Said, ...]], ...]:
    """(source, texts) of a template, of the templates it imports, and of the layout."""
    names = [f"{kind}.v{version}.jinja"]
    for name in names:
        names += [used for used in _IMPORT.findall((FOLDER / name).read_text(encoding="utf-8")) if used not in names]
    return (
        *(((FOLDER / name).read_text(encoding="utf-8"), in_template(name)) for name in names),
        ("", in_layout()),
    )


def templates() -> list[str]:
    """Names of the translated templates."""
    return sorted(path.name for path in FOLDER.glob("*.jinja"))
