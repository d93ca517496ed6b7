"""Clients of the broker are made in one place, so that no link is left unsecured by an oversight."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MAKING = re.compile(r"\b(?:Kafka(?:Consumer|Producer|AdminClient)|AIOKafka(?:Consumer|Producer))\(")


def test_no_module_makes_a_client_of_its_own() -> None:
    made = {
        str(path.relative_to(ROOT))
        for part in ("services", "shared", "deploy")
        for path in (ROOT / part).rglob("*.py")
        if MAKING.search(path.read_text(encoding="utf-8"))
    }
    assert made == {"shared/kafka_links.py"}, "take a client from shared.kafka_links: it knows how the link is secured"
