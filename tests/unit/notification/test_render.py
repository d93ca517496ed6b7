"""What messages say, and that nothing in them can be turned against a reader or a mail server."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.render import VERSIONS, Contact, MessageItem, Rendered, digest, line, mail, render
from shared.events import State
from tests.unit.notification.making import HOLDER, NOW, OWNER, SELLER, facts

ANN = Contact.of({"name": "Ann Holder", "address": "1 Right Street\n10115 Berlin", "email": "ann@holder.example"})
SAM = Contact.of({"name": "Sam Seller", "address": "2 Shop Lane\nParis", "email": "sam@shop.example"})
OWL = Contact.of({"name": "Owl Works Ltd", "address": "3 Owner Road\nOslo", "email": "legal@owl.example"})
CONTACTS = {HOLDER: ANN, SELLER: SAM, OWNER: OWL}


def made(
    kind: str,
    *,
    party: str = SELLER,
    listings: int = 1,
    contacts: Any = None,
    number: str | None = "1234567",
    **more: Any,
) -> Rendered:
    told = [MessageItem(f"claim-1.{n}", facts(f"listing-{n}", **more)) for n in range(1, listings + 1)]
    return render(
        id="m-1",
        claim="claim-1",
        party=party,
        kind=kind,
        items=told,
        claim_size=listings,
        contacts=CONTACTS if contacts is None else contacts,
        right_number=number,
        site="https://market.example",
        now=NOW,
    )


def flat(text: str) -> str:
    """As if no line had been broken."""
    return " ".join(text.split())


def test_notice_to_the_seller_has_all_it_must_have() -> None:
    body = flat(made("seller_notice", listings=3).body)

    for needed in (
        "Ann Holder",
        "1 Right Street",
        "10115 Berlin",
        "ann@holder.example",
        "trade mark",
        "1234567",
        "Counterfeit goods",
        *(f"https://market.example/items/listing-{n}" for n in (1, 2, 3)),
        'choose "counter"',
        "statement",
        "2026-11-27 12:00 UTC",
        "Settle with the right holder directly",
    ):
        assert needed in body, needed


def test_notice_names_principal_and_agent() -> None:
    body = made("seller_notice", principal=OWNER).body

    assert "Owl Works Ltd" in body
    assert "legal@owl.example" in body
    assert "Ann Holder" in body
    assert "agent" in body


def test_contact_data_are_exchanged_when_a_counter_is_forwarded() -> None:
    to_holder = flat(made("counter_forwarded", party=HOLDER).body)
    to_seller = flat(made("counter_received").body)

    for needed in (
        "Sam Seller",
        "2 Shop Lane",
        "sam@shop.example",
        'choose "accept"',
        '"reject"',
        "2026-11-27 12:00 UTC",
    ):
        assert needed in to_holder, needed
    assert "ann@holder.example" not in to_holder
    for needed in ("Ann Holder", "1 Right Street", "ann@holder.example"):
        assert needed in to_seller, needed


@pytest.mark.parametrize("kind", ["claim_receipt", "info_request", "counter_defect", "outcome"])
def test_other_messages_disclose_nobody_else(kind: str) -> None:
    party = SELLER if kind == "counter_defect" else HOLDER
    body = made(kind, party=party, principal=OWNER, missing=("identity",)).body

    other = ANN if party == SELLER else SAM
    assert other is not None
    assert other.name not in body
    assert other.email not in body
    assert "owl.example" not in body


def test_receipt_says_what_became_of_each_item() -> None:
    told = [
        MessageItem("claim-1.1", facts("a")),
        MessageItem("claim-1.2", facts("b", state=State.REJECTED, code="unknown_reason")),
        MessageItem("claim-1.3", facts("c", state=State.DUPLICATE, original="claim-0.1")),
        MessageItem("claim-1.4", facts("d", state=State.NEEDS_INFO, missing=("ownership",))),
    ]
    made = render(
        id="m-1",
        claim="claim-1",
        party=HOLDER,
        kind="claim_receipt",
        items=told,
        claim_size=5,
        contacts=CONTACTS,
        right_number="1",
        site="https://market.example",
        now=NOW,
    )
    body = flat(made.body)

    for needed in (
        "claim-1",
        "the seller is notified",
        "refused",
        "File the claim again with one of the reasons",
        "claim-0.1",
        "missing: proof of ownership",
        "4 of its 5 listings",
    ):
        assert needed in body, needed


def test_receipt_of_what_recurs_says_that_nobody_asked_for_it() -> None:
    assert "we have received your claim claim-1." in made("claim_receipt", party=HOLDER).body
    body = flat(made("claim_receipt", party=HOLDER, recurs="claim-0.7", state=State.UNDER_REVIEW).body)
    assert "we have filed claim claim-1 for you" in body
    assert "claim-0.7" in body
    assert "we have received" not in body


def test_a_longer_window_that_runs_already_is_said_for_a_defect() -> None:
    later = dt.datetime(2026, 12, 9, 8, 30, tzinfo=dt.UTC)

    assert "2026-12-09 08:30 UTC" in made("counter_defect", due=later, missing=("statement",)).body
    assert "2026-11-27 12:00 UTC" in made("counter_defect", due=NOW, missing=("statement",)).body


@pytest.mark.parametrize("kind", VERSIONS)
def test_missing_data_do_not_stop_a_message(kind: str) -> None:
    rendered = made(kind, contacts={}, number=None, policy="gone-2020-01")

    assert rendered.subject
    assert rendered.template == kind
    assert "None" not in rendered.body
    assert "right-1" in rendered.body or kind == "digest"


@pytest.mark.parametrize("kind", VERSIONS)
def test_lines_fit_a_mail(kind: str) -> None:
    assert max(map(len, made(kind, listings=300).body.splitlines())) < 998


HOSTILE = "Ann\r\nBcc: victim@x.example\r\n\r\nYour claim was decided\u202e {{ 7 * 7 }} <b>"


def test_contact_data_cannot_inject_headers_lines_or_templates() -> None:
    contact = Contact.of({"name": HOSTILE, "address": "x\r\n.\r\nQUIT\n\nb\x00c\u2028d", "email": "ann@holder.example"})
    assert contact is not None
    rendered = made("seller_notice", contacts={HOLDER: contact, SELLER: contact})
    raw = mail(rendered, id="m-1", sender="ip@market.example", to=contact, at=NOW)
    parsed = email.message_from_bytes(raw, policy=email.policy.default)

    assert "\n" not in contact.name
    assert "\u202e" not in rendered.body
    assert "{{ 7 * 7 }}" in rendered.body
    assert parsed["Bcc"] is None
    assert parsed["To"].addresses[0].addr_spec == "ann@holder.example"
    assert len(parsed["To"].addresses) == 1
    assert "\x00" not in rendered.body


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@b@c",
        "a b@c.example",
        "a@c.example\nBcc: x@y.example",
        "a@c.example,b@c.example",
        "<a@c.example>",
        7,
        None,
    ],
)
def test_what_is_no_address_is_none(address: Any) -> None:
    contact = Contact.of({"name": "Ann", "address": None, "email": address})

    assert contact is not None
    assert contact.email == ""


def test_mail_has_the_messages_id_and_the_digest_is_stable() -> None:
    assert ANN is not None
    rendered = made("outcome", party=HOLDER)
    raw = mail(rendered, id="m-1", sender="ip@market.example", to=ANN, at=NOW)

    assert b"Message-ID: <m-1@market.example>\r\n" in raw
    assert digest(raw) == digest(mail(rendered, id="m-1", sender="ip@market.example", to=ANN, at=NOW))
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0


@given(st.text(max_size=300))
def test_any_name_can_be_written_to(name: str) -> None:
    cleaned = line(name)
    contact = Contact(name=cleaned, email="ann@holder.example")
    raw = mail(made("outcome"), id="m-1", sender="ip@market.example", to=contact, at=NOW)
    parsed = email.message_from_bytes(raw, policy=email.policy.default)

    assert cleaned == line(cleaned)
    assert [address.addr_spec for address in parsed["To"].addresses] == ["ann@holder.example"]
    assert set(parsed.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Language",
        "MIME-Version",
    }
