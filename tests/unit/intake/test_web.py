"""What intake answers to what it did not foresee."""

from __future__ import annotations

from litestar import Litestar, get
from litestar.testing import TestClient

from shared.problems import on_error


@get("/")
async def fails() -> None:
    raise RuntimeError("an internal detail")


def test_a_fault_tells_nothing() -> None:
    app = Litestar([fails], exception_handlers={Exception: on_error}, logging_config=None)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:goodfaith:problem:internal"
    assert "internal detail" not in answer.text
    assert "RuntimeError" not in answer.text
