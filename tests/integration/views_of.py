"""What the streams of a run say of it, asked by their own port."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import httpx

from labs.view_checks import compared
from tests.integration.small_run import SELLERS, SmallRun
from tests.patience import PATIENCE_S


@dataclass
class Told:
    """Answers of the query API: status, views of claims and sellers by name."""

    status: Any
    claims: dict[str, Any]
    sellers: dict[str, Any]


def watched(run: SmallRun, timeout_s: float = PATIENCE_S) -> Told:
    """Wait until every view was compared on every partition, all at rest, and ask for everything."""
    compared(run.fleet, dt.datetime.now(dt.UTC), within_s=timeout_s)
    headers = {"authorization": f"Bearer {run.stack.secret('internal_token')}"}
    base = f"http://127.0.0.1:{run.stack.port('streams')}/internal/streams"
    with httpx.Client(headers=headers, timeout=30) as client:

        def ask(path: str, **params: str) -> Any:
            answer = client.get(f"{base}/{path}", params=params)
            answer.raise_for_status()
            return answer.json()

        status = ask("status")
        claims = {name: ask("claim", claim=claim) for name, claim in run.claims.items()}
        return Told(status, claims, {seller: ask("seller", seller=seller) for seller in SELLERS})
