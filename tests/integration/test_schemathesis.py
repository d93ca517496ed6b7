"""Schemathesis against the public API as every role, step by step through what it makes, and against the internal APIs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.exceptions import LitestarDeprecationWarning
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.enforcement import api as enforcement
from services.intake.app import ROUTES
from services.intake.kernel import security, store
from services.intake.kernel.domain import Account
from services.notification import api as notification
from services.verification import api as verification
from shared.events import Role
from tests.integration.intake_parts import Parts, People

pytestmark = pytest.mark.stack

ROLES: tuple[Role, ...] = ("holder", "seller", "reviewer", "operator", "upstream")
CONFIG = Path(__file__).with_name("schemathesis.toml")
INTERNAL_CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,ignored_auth"
"""Internal routes do not declare their refusals: any problem will do."""


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    taken: set[int] = set()
    first, second, third = (f"http://127.0.0.1:{free_port(taken)}" for _ in range(3))
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("intake"),
        max_body_bytes=100_000,
        enforcement_url=first,
        notification_url=second,
        verification_url=third,
    )
    parts.verification(stack)
    parts.enforcement(stack)
    parts.notification(stack)
    yield parts
    parts.close()


def schemathesis(location: str, authorization: str, folder: Path, seconds: int, *options: str) -> None:
    """Run all phases: examples, coverage, fuzzing, and sequences of requests in which one uses what another has made."""
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(CONFIG),
            "run",
            location,
            "--no-color",
            "--seed",
            "1",
            "-H",
            f"Authorization: {authorization}",
            "--max-time",
            str(seconds),
            "--generation-database",
            "none",
            "--continue-on-failure",
            "--rate-limit",
            "auto",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=seconds * 10 + 60,
        cwd=folder,
    )
    assert run.returncode == 0, run.stdout[-8000:]


def public(parts: Parts, people: People, role: Role, folder: Path, seconds: int, *options: str) -> None:
    """As an account of the role. That valid data may be refused for what it means is no finding."""
    token, id = security.new_token(), f"a-{uuid.uuid4().hex[:12]}"
    with parts.engine.begin() as connection:
        # not by the API: as an operator a run may have closed the account that opens others
        store.open_account(connection, Account(id, role, True, False, True), "company", by=None)
        store.ensure_token(connection, id, security.digest(token), 1, "run")
    schemathesis(
        f"{people.client.base_url}/openapi.json",
        f"Bearer {token}",
        folder,
        seconds,
        # it would end its own session
        "--exclude-path-regex",
        "^/v1/tokens",
        "--exclude-checks",
        "positive_data_acceptance",
        *options,
    )
    assert '"level": "error"' not in parts.log("api")


@pytest.mark.parametrize("role", ROLES)
def test_the_api_keeps_to_its_own_document(parts: Parts, people: People, role: Role, tmp_path: Path) -> None:
    public(parts, people, role, tmp_path, 6, "-n", "5")


@pytest.mark.thorough
@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_makes_is_used_by_its_next_requests(
    parts: Parts, people: People, role: Role, tmp_path: Path
) -> None:
    public(parts, people, role, tmp_path, 12, "-n", "20", "--phases", "stateful")


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("role", ROLES)
def test_the_api_keeps_to_its_own_document_for_long(parts: Parts, people: People, role: Role, tmp_path: Path) -> None:
    public(parts, people, role, tmp_path, 120, "-n", "200")


def document(routes: Sequence[Any], path: Path) -> Path:
    """Write an OpenAPI document of the internal routes, which are in none."""
    shown = []
    for route in routes:
        if all(one.startswith("/internal") for one in route.paths):
            shown.append(copy.copy(route))
            shown[-1].include_in_schema = True
    bearer = Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")})
    config = OpenAPIConfig(title="Internal", version="1", components=bearer, security=[{"bearer": []}])
    with warnings.catch_warnings():
        # the services run in processes of their own, where this is no error
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        made = Litestar(route_handlers=shown, openapi_config=config).openapi_schema.to_schema()
    assert len(made["paths"]) == len(shown) > 0
    refusal = {"default": {"description": "Refused.", "content": {"application/problem+json": {"schema": {}}}}}
    for methods in made["paths"].values():
        for operation in methods.values():
            good = {code: answer for code, answer in operation["responses"].items() if code < "300"}
            operation["responses"] = {**good, **refusal}
    path.write_text(json.dumps(made))
    return path


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(120, marks=[pytest.mark.thorough, pytest.mark.timeout(1800)])], ids=["short", "long"]
)
@pytest.mark.parametrize("service", ["intake", "verification", "enforcement", "notification"])
def test_internal_apis_take_anything(
    parts: Parts, client: httpx.Client, service: str, seconds: int, tmp_path: Path
) -> None:
    routes, url = {
        "intake": (ROUTES, str(client.base_url)),
        "verification": (verification.ROUTES, parts.settings.verification_url),
        "enforcement": (enforcement.ROUTES, parts.settings.enforcement_url),
        "notification": (notification.ROUTES, parts.settings.notification_url),
    }[service]
    schemathesis(
        str(document(routes, tmp_path / "openapi.json")),
        f"Bearer {parts.internal}",
        tmp_path,
        seconds,
        "--url",
        url,
        "-c",
        INTERNAL_CHECKS,
        "-n",
        "50",
    )
    name = "api" if service == "intake" else f"{service}-api"
    assert '"level": "error"' not in parts.log(name)
