"""The rendered contracts have everything that the documents have, and their links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools import contract_pages, contracts

DOCUMENTS: dict[str, Any] = {
    name: json.loads(Path(contracts.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("openapi", "asyncapi")
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (contract_pages.http(DOCUMENTS["openapi"]), "openapi"),
        (contract_pages.events(DOCUMENTS["asyncapi"]), "asyncapi"),
    ],
)
def test_every_type_is_there_and_every_link_leads_to_one(text: str, name: str) -> None:
    anchors = re.findall(r"^\((.+)\)=$", text, flags=re.M)
    assert len(anchors) == len(set(anchors)) == len(DOCUMENTS[name]["components"]["schemas"])
    assert set(re.findall(r"\]\(#(.+?)\)", text)) <= set(anchors)


def test_every_route_and_every_topic_is_there() -> None:
    text = contract_pages.http(DOCUMENTS["openapi"])
    for path, methods in DOCUMENTS["openapi"]["paths"].items():
        assert all(f"\n### {method.upper()} {path}\n" in text for method in methods)
    text = contract_pages.events(DOCUMENTS["asyncapi"])
    for channel in DOCUMENTS["asyncapi"]["channels"].values():
        assert f"\n### {channel['address']}\n" in text
        assert all(f"`{kind}`" in text for kind in channel["messages"])


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": ["string", "null"], "maxLength": 9}, "string or null (at most 9 characters)"),
        ({"type": "string", "format": "date-time"}, "string (date-time)"),
        ({"type": "array", "items": {"$ref": "#/x/Page_a.b.Item_"}}, "array of [Page of Item](#p-page-a-b-item-)"),
        ({"type": "integer", "minimum": 1.0, "default": 50}, "integer (≥ 1; default `50`)"),
        ({"enum": ["a", None]}, "`a`, null"),
        (
            {"anyOf": [{"const": "b"}, {"type": "object", "additionalProperties": {"type": "integer"}}]},
            "`b` or object of integer",
        ),
        ({}, "any"),
    ],
)
def test_a_type_in_words(schema: dict[str, Any], words: str) -> None:
    assert contract_pages._type(schema, "p") == words
