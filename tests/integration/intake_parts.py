"""A database of its own with intake's tables, and intake's processes on it, for the tests of intake."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg2
import sqlalchemy as sa
from pydantic import SecretStr
from pydantic_core import to_json

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.kernel.security import new_token
from shared import callers, db, migrate
from shared.settings import Settings
from tests.patience import PATIENCE_S

PARTITIONS = 4
RATES = (
    "http_address_rate",
    "http_account_rate",
    "http_failures_a_minute",
    "http_openings_an_hour",
    "http_all_openings_an_hour",
    "webhook_host_challenges",
)
"""Limits that tests from one address would meet."""
PUBLISHED = {"on": "2020-05-01", "where": "work.example"}
CONTACT = {"name": "Ada Example", "address": "Road 1\nTown", "email": "ada@example.org"}


def wait(what: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
    """Wait until it is true."""
    until = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found


def _with_database(url: str, name: str) -> str:
    """The URL of another database of the server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class Parts:
    """Settings, engine and processes."""

    def __init__(self, stack: Stack, folder: Path, **values: Any) -> None:
        self.name = f"intake_{uuid.uuid4().hex[:8]}"
        with contextlib.closing(psycopg2.connect(stack.admin_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {self.name}")
        self.admin_url = _with_database(stack.admin_url, self.name)
        migrate.migrate(self.admin_url, stack.role_passwords("intake"))
        self.operator = new_token()
        self.internal = "internal-secret-of-the-test-of-intake"
        self.settings = Settings(
            kafka=stack.kafka,
            database=SecretStr(_with_database(stack.role_url("intake"), self.name)),
            topic_prefix=f"{self.name.replace('_', '-')}.",
            partitions=PARTITIONS,
            contact_key=SecretStr(stack.secret("contact_key")),
            internal_token=SecretStr(self.internal),
            internal_callers=SecretStr(callers.written(dict.fromkeys(callers.CALLERS, self.internal))),
            operator_token=SecretStr(self.operator),
            evidence_key=SecretStr(stack.secret("evidence_key")),
            token_cache_s=0.0,
            **dict.fromkeys(RATES, 0),
            session_timeout_ms=6_000,
            **{"evidence_url": (folder / "evidence").as_uri(), **values},
        )
        self.engine = db.connect(self.settings.database.get_secret_value(), schema="intake", name="test", pool_size=4)
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def verification(self, stack: Stack) -> Settings:
        """Verification's tables in the same database, and its internal API where ``verification_url`` says."""
        return self._inner(stack, "verification", self.settings.verification_url, "/internal/revisions?item=i-none")

    def enforcement(self, stack: Stack) -> Settings:
        """Enforcement's tables in the same database, and its internal API where ``enforcement_url`` says; its settings."""
        return self._inner(stack, "enforcement", self.settings.enforcement_url, "/internal/offenders")

    def notification(self, stack: Stack) -> Settings:
        """The same of notification, where ``notification_url`` says."""
        path = "/internal/webhook/health?webhook=w&account=a"
        return self._inner(stack, "notification", self.settings.notification_url, path)

    def _inner(self, stack: Stack, service: str, base: str, path: str) -> Settings:
        migrate.migrate(self.admin_url, stack.role_passwords(service))
        url = _with_database(stack.role_url(service), self.name)
        settings = self.settings.model_copy(update={"database": SecretStr(url)})
        self.start("api", service=service, GOODFAITH_DATABASE=url, GOODFAITH_HTTP_PORT=str(urlsplit(base).port))

        def up() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(base + path, headers={"Authorization": f"Bearer {self.internal}"}, trust_env=False)
                return answer.status_code == 200
            return False

        wait(up)
        return settings

    def environment(self, **values: str) -> dict[str, str]:
        """Environment of a process of intake."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("GOODFAITH_")}
        for name, value in self.settings.model_dump(exclude_defaults=True).items():
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(text, dict | tuple | list):
                text = to_json(text).decode()
            env[f"GOODFAITH_{name.upper()}"] = str(text)
        return env | values

    def start(self, process: str, *, service: str = "intake", **values: str) -> subprocess.Popen[bytes]:
        """Start ``python -m services.intake <process>``; its output goes to ``<folder>/<process>.log``."""
        name = process if service == "intake" else f"{service}-{process}"
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}", process],
                env=self.environment(**values),
                stdout=log,
                stderr=log,
            )
        self._processes.append(child)
        return child

    @contextlib.contextmanager
    def api(self, **values: str) -> Iterator[httpx.Client]:
        """The HTTP API as a process."""
        port = free_port()
        child = self.start("api", GOODFAITH_HTTP_PORT=str(port), **values)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

            def up() -> bool:
                assert child.poll() is None, self.log("api")
                with contextlib.suppress(httpx.TransportError):
                    # the first operator is there once the database has answered
                    me = client.get("/v1/me", headers={"Authorization": f"Bearer {self.operator}"})
                    return client.get("/healthz").status_code == 200 and me.status_code in (200, 503)
                return False

            wait(up)
            yield client
        child.terminate()
        assert child.wait(PATIENCE_S) is not None

    def log(self, process: str) -> str:
        """What a process has said."""
        path = self.folder / f"{process}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def code_for(self, client: httpx.Client, webhook: str) -> str:
        """The code that the URL of a new webhook is to be sent, as notification would fetch it."""
        while True:
            answer = client.post(
                "/internal/challenges", json={"most": 100}, headers={"Authorization": f"Bearer {self.internal}"}
            )
            found = {one["id"]: str(one["code"]) for one in answer.json()["challenges"]}
            if webhook in found:
                return found[webhook]
            assert found, "nothing is due"

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result] if result.returns_rows else []

    def tell_rights(self) -> None:
        """Tell open items what became of their rights, as the worker does, until all are told."""
        from services.intake.kernel import right_jobs  # with the client of Kafka, which conftest.py is loaded before

        def told() -> bool:
            with self.engine.begin() as connection:
                right_jobs.pick_up(connection)
            while True:
                with self.engine.begin() as connection:
                    if right_jobs.tell_next(connection, PARTITIONS) is None:
                        break
            return self.query("select count(*) from right_jobs") == [(0,)]

        wait(told)

    def close(self) -> None:
        """End what still runs; the database goes with the stack."""
        for child in self._processes:
            if child.poll() is None:
                child.terminate()
                child.wait(PATIENCE_S)
        self.engine.dispose()


class People:
    """Opens accounts by HTTP."""

    def __init__(self, client: httpx.Client, operator: str) -> None:
        self.client = client
        self.operator = {"Authorization": f"Bearer {operator}"}

    def open(self, role: str = "holder", *, contact: bool | None = None, **values: Any) -> tuple[str, dict[str, str]]:
        """(account id, headers) of a new verified account; a holder's has a confirmed contact unless ``contact`` is False."""
        verified = values.pop("identity_verified", True)
        body = {"role": role, **({"identity_verified": True, "seen": "office"} if verified else {}), **values}
        made = self.client.post("/v1/accounts", json=body, headers=self.operator)
        assert made.status_code == 201, made.text
        account, headers = made.json()["account"], {"Authorization": f"Bearer {made.json()['token']}"}
        if role == "holder" if contact is None else contact:
            self.contact(account, headers)
        return account, headers

    def contact(self, account: str, headers: dict[str, str], **values: Any) -> None:
        """Put the account's contact on file, and have an operator say that the address is its own."""
        body = {**CONTACT, "email": f"{account}@on-file.example", **values}
        put = self.client.put("/v1/contact", json=body, headers=headers)
        assert put.status_code == 204, put.text
        path = f"/v1/accounts/{account}/verify"
        said = self.client.post(path, json={"email_confirmed": True}, headers=self.operator)
        assert said.status_code == 200, said.text

    def verify(self, headers: dict[str, str], account: str, verified: bool = True, **values: Any) -> httpx.Response:
        """A reviewer's verdict on an account's identity: unless it says more, it was seen elsewhere."""
        body = {"identity_verified": verified, **(values or ({"seen": "office"} if verified else {}))}
        return self.client.post(f"/v1/accounts/{account}/verify", json=body, headers=headers)

    def right(self, headers: dict[str, str], **values: Any) -> str:
        """A right of the account, whose proof an operator has seen unless another one, or none, is given."""
        return str(self.registered(headers, **{"number": "1234567", **values})["id"])

    def registered(self, headers: dict[str, str], **values: Any) -> dict[str, Any]:
        """The same, all of it."""
        body = {"right_type": "trademark", **values}
        if not {"proof", "evidence"} & values.keys():
            owner = self.client.get("/v1/me", headers=headers).json()["id"]
            body, headers = {**body, "seen": "doc-1", "owner": owner}, self.operator
        made = self.client.post("/v1/rights", json=body, headers=headers)
        assert made.status_code == 201, made.text
        return dict(made.json())

    def decide(self, headers: dict[str, str], right: str, accept: bool = True, **values: Any) -> httpx.Response:
        """A reviewer's decision on a right: unless it says more, its proof was seen elsewhere, or cannot be read."""
        body = {"accept": accept, **(values or ({"seen": "register"} if accept else {"code": "unreadable"}))}
        return self.client.post(f"/v1/rights/{right}/decision", json=body, headers=headers)

    def authorise(self, owners: dict[str, str], agents: dict[str, str], **values: Any) -> dict[str, Any]:
        """An authorisation to which the agent has consented."""
        agent = self.client.get("/v1/me", headers=agents).json()["id"]
        asked = self.client.post("/v1/authorisations", json={"agent": agent, **values}, headers=owners)
        assert asked.status_code == 201, asked.text
        assert asked.json()["status"] == "pending"
        path = f"/v1/authorisations/{asked.json()['id']}"
        consent = self.client.post(f"{path}/consent", json={"accept": True}, headers=agents)
        assert consent.status_code == 200, consent.text
        return dict(self.client.get(path, headers=owners).json())

    def assign(self, owners: dict[str, str], right: str, heirs: dict[str, str]) -> None:
        """Assign a right to another account, which consents."""
        to = self.client.get("/v1/me", headers=heirs).json()["id"]
        url = f"/v1/rights/{right}/assignment"
        for path, body, headers in ((url, {"to": to}, owners), (f"{url}/consent", {"accept": True}, heirs)):
            answer = self.client.post(path, json=body, headers=headers)
            assert answer.json() == {"changed": True}, answer.text

    def webhook(
        self, parts: Parts, headers: dict[str, str], url: str = "https://1.1.1.1/hook", **more: Any
    ) -> dict[str, Any]:
        """A webhook of the account, confirmed; what was answered when it was registered."""
        made = self.client.post("/v1/webhooks", json={"url": url, **more}, headers=headers)
        assert made.status_code == 201, made.text
        path = f"/v1/webhooks/{made.json()['id']}/confirmation"
        code = parts.code_for(self.client, made.json()["id"])
        confirmed = self.client.post(path, json={"code": code}, headers=headers)
        assert confirmed.status_code == 200, confirmed.text
        return dict(made.json())

    def claim(self, headers: dict[str, str], right: str, *listings: str, **values: Any) -> dict[str, Any]:
        """An accepted claim."""
        body = {
            "right": right,
            "reason": "counterfeit",
            "listings": [f"https://market.example/items/{name}" for name in listings],
            **values,
        }
        made = self.client.post("/v1/claims", json=body, headers=headers)
        assert made.status_code == 202, made.text
        return dict(made.json())


def on_file(connection: sa.Connection, *accounts: str) -> None:
    """As if the accounts had given their contacts and confirmed their addresses; nothing of it can be read."""
    for account in accounts:
        connection.exec_driver_sql("insert into contacts (account, sealed) values (%s, '')", (account,))
    connection.exec_driver_sql("update accounts set email_confirmed_at = now() where id = any(%s)", (list(accounts),))


def sell(engine: sa.Engine, item: str, seller: str, *, state: str = "NOTIFIED", told: int = 1) -> None:
    """As if verification had said who sells the item's listing."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "update items set seller = %s, state = %s, told = %s, revision = revision + 1 where id = %s",
            (seller, state, told, item),
        )
