"""Intake's API over a module's own ``parts`` (``intake_parts``), and those who use it; a migrated database to copy."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import httpx
import pytest

from deploy.local.stack import Stack
from shared import migrate
from tests.integration.databases import execute
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


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> str:
    """Name of a migrated database that a test may copy (``create database ... template``); it stays as it is."""
    name = f"migrated_{uuid.uuid4().hex[:8]}"
    execute(stack, f"create database {name}")
    migrate.migrate(stack.admin_url.rpartition("/")[0] + f"/{name}", {})
    return name
