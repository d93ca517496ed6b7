"""Intake's API over a module's own ``parts`` (``intake_parts``), and those who use it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.intake_parts import Parts, People


@pytest.fixture(scope="module")
def client(parts: Parts) -> Iterator[httpx.Client]:
    """The API; no broker is needed to accept a claim, so that this one's is nowhere."""
    with parts.api(GOODFAITH_KAFKA="127.0.0.1:1") as client:
        yield client


@pytest.fixture(scope="module")
def people(parts: Parts, client: httpx.Client) -> People:
    """Accounts by that API."""
    return People(client, parts.operator)
