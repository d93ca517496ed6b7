"""Markdown of the HTTP and event contracts, from docs/reference/openapi.json and asyncapi.json, for the docs site.

``docs/conf.py`` appends it to two pages when the site is built. One renderer serves both, since both describe their
data by JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

Json = Mapping[str, Any]

PROBLEM: Final = "application/problem+json"

BOUNDS: Final = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
}
"""What a bound of JSON Schema says, by keyword."""


def http(document: Json) -> str:
    """The operations of an OpenAPI 3.1 document by tag, and its schemas."""
    tags: dict[str, list[str]] = {}
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            tags.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(method, path, operation))
    parts = [f"\n## {tag.capitalize()}\n\n{''.join(operations)}" for tag, operations in sorted(tags.items())]
    return "".join(parts) + _schemas(document["components"]["schemas"], "http")


def events(document: Json) -> str:
    """The channels of an AsyncAPI 3.0 document with their messages, and its schemas."""
    parts = ["\n## Topics\n"]
    for _, channel in sorted(document["channels"].items()):
        parts.append(f"\n### {channel['address']}\n\n{channel['description']}\n")
        rows = []
        for kind in channel["messages"]:
            message = document["components"]["messages"][kind]
            data = _type(message["payload"]["properties"]["data"], "event")
            rows.append((f"`{kind}`", data, message["summary"]))
        parts.append(_table(("type", "data", "meaning"), rows))
    return "".join(parts) + _schemas(document["components"]["schemas"], "event")


def _operation(method: str, path: str, operation: Json) -> str:
    parts = [f"### {method.upper()} {path}\n\n{operation.get('description', '')}\n"]
    if operation.get("security") == [{}]:
        parts.append("\nNeeds no token.\n")
    parameters = [
        (
            f"`{one['name']}`",
            one["in"],
            _mark(one.get("required")),
            _type(one["schema"], "http"),
            one.get("description", ""),
        )
        for one in operation.get("parameters", ())
    ]
    parts.append(_table(("parameter", "in", "required", "type", "meaning"), parameters))
    if body := operation.get("requestBody"):
        parts.append(f"\nBody: {_content(body['content'])}\n")
    problems, answers = [], []
    for status, answer in sorted(operation["responses"].items()):
        content = answer.get("content", {})
        if PROBLEM in content:
            problems.append(status)
        else:
            answers.append(f"{status} {_content(content)}")
    parts.append(f"\nAnswers: {'; '.join(answers)}\n")
    if problems:
        parts.append(f"\n[Problems](#http-problem): {', '.join(problems)}\n")
    return "".join(parts) + "\n"


def _content(content: Json) -> str:
    texts = [
        _type(one.get("schema", {}), "http") + ("" if media == "application/json" else f" (`{media}`)")
        for media, one in content.items()
    ]
    return ", ".join(texts) or "without a body"


def _schemas(schemas: Json, prefix: str) -> str:
    parts = ["\n## Types\n"]
    for name, schema in sorted(schemas.items()):
        parts.append(f"\n({_anchor(prefix, name)})=\n\n**{_title(name)}**\n")
        if schema.get("description"):
            parts.append(f"\n{_prose(schema['description'])}\n")
        if schema.get("properties"):
            required = schema.get("required", ())
            rows = [
                (f"`{field}`", _mark(field in required), _type(one, prefix), one.get("description", ""))
                for field, one in schema["properties"].items()
            ]
            parts.append(_table(("field", "required", "type", "meaning"), rows))
        else:
            parts.append("\nNo fields.\n" if schema.get("type") == "object" else f"\n{_type(schema, prefix)}\n")
    return "".join(parts)


def _type(schema: Json, prefix: str) -> str:
    """A schema in words, with links to the schemas that it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{_title(name)}](#{_anchor(prefix, name)})"
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return ", ".join(_literal(value) for value in schema["enum"])
    for union in ("oneOf", "anyOf", "allOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_type(one, prefix) for one in schema[union]))
    kinds = schema.get("type", "any")
    words = " or ".join(_kind(kind, schema, prefix) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    bounds = [text.format(_number(schema[keyword])) for keyword, text in BOUNDS.items() if keyword in schema]
    if schema.get("default") not in (None, [], {}):
        bounds.append(f"default {_literal(schema['default'])}")
    return f"{words} ({'; '.join(bounds)})" if bounds else words


def _kind(kind: str, schema: Json, prefix: str) -> str:
    if kind == "array":
        return f"array of {_type(schema.get('items') or {}, prefix)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'], prefix)}"
    return f"{kind} ({schema['format']})" if kind == "string" and "format" in schema else kind


def _number(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _literal(value: object) -> str:
    return "null" if value is None else f"`{value}`"


def _mark(required: object) -> str:
    return "yes" if required else ""


def _title(name: str) -> str:
    """A schema's name; that of a generic type, such as `Page_a.b.Item_`, in words."""
    return re.sub(r"^(\w+?)_(?:[\w.]*\.)?(\w+)_$", r"\1 of \2", name)


def _anchor(prefix: str, name: str) -> str:
    return f"{prefix}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"


def _prose(text: str) -> str:
    """A docstring as Markdown: its double backticks are code."""
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(("", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, "")) if lines else ""


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")
