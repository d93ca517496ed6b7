"""The canary's accounts: what is somebody else's stays so."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from services.intake import canary
from services.intake.filing.inbound import Inbound, UpstreamRequest
from services.intake.kernel.domain import Account
from services.intake.kernel.requests import SubmitClaim
from shared.refusals import Refused
from shared.settings import Settings

NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
OWN = Account("a-canary", "holder", True, False, True, canary=True)
SELLER = Account("a-shop", "seller", canary=True)


def ensured(monkeypatch: pytest.MonkeyPatch, own: Account, seller: Account) -> tuple[bool, list[str]]:
    """Whether there is a canary, and whose contacts were written, where these accounts are."""
    reached: list[str] = []
    fake = SimpleNamespace(
        open_account=lambda *_, **__: False,
        accounts=lambda *_: {own.id: own, seller.id: seller},
        ensure_token=lambda *_: False,
        rights=lambda *_: {canary.RIGHT: None},
    )
    monkeypatch.setattr(canary, "store", fake)
    monkeypatch.setattr(canary, "_reach", lambda _connection, account, *_: reached.append(account))
    settings = Settings(
        canary_listing="l",
        canary_token=SecretStr("t" * 40),
        canary_seller=seller.id,
        canary_mail="c@private.example",
        contact_key=SecretStr("k" * 32),
    )
    connection: Any = SimpleNamespace(exec_driver_sql=lambda *_: None)
    there = canary.ensure(connection, settings, None)  # type: ignore[arg-type]
    return there, reached


def test_the_canarys_own_accounts_are_reached_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ensured(monkeypatch, OWN, SELLER) == (True, ["a-canary", "a-shop"])


@pytest.mark.parametrize("status", ["open", "closed"])
def test_a_real_seller_keeps_its_contact(monkeypatch: pytest.MonkeyPatch, status: Any) -> None:
    real = Account("a-shop", "seller", status=status)
    assert ensured(monkeypatch, OWN, real) == (True, ["a-canary"])


def test_of_a_seller_that_was_erased_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ensured(monkeypatch, OWN, replace(SELLER, status="closed")) == (True, ["a-canary"])


@pytest.mark.parametrize("own", [replace(OWN, canary=False), replace(OWN, status="closed")])
def test_without_an_account_of_its_own_there_is_no_canary(monkeypatch: pytest.MonkeyPatch, own: Account) -> None:
    assert ensured(monkeypatch, own, SELLER) == (False, [])


@pytest.mark.parametrize("bound", ["a-upstream", "a-canary"])
def test_no_upstream_files_for_a_canary(bound: str) -> None:
    inbound = Inbound(
        Settings(upstreams={"x": bound}, upstream_may={"x": {"accounts": ["*"], "commands": ["submit_claim"]}}),
        background=False,
    )
    try:
        record: Any = SimpleNamespace(topic="inbound.x", trace=None)
        body = SubmitClaim(right="r-canary", reason="counterfeit", listings=[])
        read = UpstreamRequest("e-1", "goodfaith.request.submit_claim.v1", b"{}", body)
        people = {"a-upstream": Account("a-upstream", "upstream"), "a-canary": OWN}
        with pytest.raises(Refused) as refused:
            inbound._filing(record, read, "a-canary", people, NOW)
        assert (refused.value.status, refused.value.reason, refused.value.field) == (
            403,
            "canary_listing_only",
            "on_behalf_of",
        )
    finally:
        inbound.close()
