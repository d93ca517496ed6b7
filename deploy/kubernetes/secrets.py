"""`python -m deploy.kubernetes.secrets OUT`: write Secrets with random values for a new installation.

OUT is readable by its owner only and is never overwritten: if you lose `contact_key`, you lose all contacts. Add by
hand what others issue: the mail server's password, the tokens of the marketplace and of the transparency database, the
keys of the evidence store.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deploy.kubernetes.manifests import AUTHORITIES, NAMESPACE, Document
from deploy.kubernetes.model import PROCESSES
from deploy.local import fleet
from deploy.local.stack import new_secret
from deploy.prometheus.model import dump
from shared import callers

OWN = (
    *fleet.CALLERS.values(),
    "contact_key",
    "feed_key",
    "operator_token",
    "evidence_key",
    "mail_key",
    "canary_token",
    "status_token",
)
"""Secrets that we generate ourselves."""
ADMIN = "goodfaith"
"""Role that owns the database."""


BASIC: Final = "kubernetes.io/basic-auth"
"""Type of the Secrets that the database's operator reads."""


def _secret(name: str, namespace: str, values: dict[str, str], kind: str = "Opaque") -> Document:
    labels = {"app.kubernetes.io/name": "goodfaith"}
    if kind == BASIC:
        # otherwise CloudNativePG applies a changed password only when it next has something else to do
        labels["cnpg.io/reload"] = "true"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": kind,
        "stringData": values,
    }


def documents(database: str, database_namespace: str | None) -> Iterator[Document]:
    """All Secrets, with new values on each call.

    Args:
        database: `host[:port]/name` of the database.
        database_namespace: Where the database's operator looks for the roles' passwords; None: it does not.
    """
    own = {name: new_secret(name) for name in OWN}
    known = callers.written({caller: own[name] for caller, name in fleet.CALLERS.items()})
    yield _secret("goodfaith", NAMESPACE, {**own, "internal_callers": known})
    roles = dict.fromkeys(process.spec.role for process in PROCESSES if process.spec.role)
    given: dict[str, str] = {}
    for name, login in {"admin": ADMIN, **{role: f"goodfaith_{role}" for role in roles}}.items():
        password = secrets.token_urlsafe(32)
        authority = quote(f"{AUTHORITIES}/postgres.crt", safe="/")
        url = f"postgresql://{login}:{quote(password, safe='')}@{database}?sslmode=verify-full&sslrootcert={authority}"
        yield _secret(f"goodfaith-database-{name}", NAMESPACE, {"url": url})
        if database_namespace:
            values = {"username": login, "password": password}
            yield _secret(f"goodfaith-database-{name}", database_namespace, values, BASIC)
        elif name != "admin":
            given[login] = password
    if given:
        # for the migration Job (components/passwords)
        yield _secret("goodfaith-database-passwords", NAMESPACE, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; returns 1 if it exists already."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes.secrets", description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="file to write; it must not exist")
    parser.add_argument("--database", default="goodfaith-rw.postgres.svc/goodfaith", help="host[:port]/name")
    parser.add_argument(
        "--database-namespace", help="write the roles' passwords for this namespace too (CloudNativePG)"
    )
    given = parser.parse_args(arguments)
    try:
        handle = os.open(given.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.stderr.write(f"{given.out} is there already: keep it, or name another file\n")
        return 1
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write("---\n".join(dump(one) for one in documents(given.database, given.database_namespace)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
