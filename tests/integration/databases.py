"""Databases of a test's own on the session's server."""

from __future__ import annotations

import contextlib

import psycopg2

from deploy.local.stack import Stack


def execute(stack: Stack, statement: str) -> None:
    """Run a statement that may not be in a transaction, as an administrator."""
    with contextlib.closing(psycopg2.connect(stack.admin_url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)
