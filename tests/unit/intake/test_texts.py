"""What parties say in their own words: how it is read, where it belongs, and who is shown it."""

from __future__ import annotations

import base64
import datetime as dt
import unicodedata
from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from services.intake.filing import domain as filing_domain
from services.intake.filing import inbound
from services.intake.kernel import requests
from services.intake.kernel.domain import Account
from services.intake.kernel.filings import Filing, ItemRow, Rows, TextKind
from services.intake.kernel.listings import named_by
from services.intake.kernel.refusals import decoded
from services.intake.kernel.security import Contacts
from services.intake.reading.domain import Place, Said, about, released
from services.verification.lifecycle import AGAIN, BACK, STAY, TABLE
from shared import events
from shared.events import State
from shared.refusals import Refused
from shared.runtime.types import Incoming
from shared.settings import Settings
from shared.site_links import SiteLinks

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
SITE = SiteLinks(("market.example/items/{id}", "market.example/i/{id}"))
LINKS = ["https://market.example/items/1", "https://market.example/items/2"]
CLAIM = {"right": "r-1", "reason": "counterfeit", "listings": LINKS}


def read(kind: type[requests.In], **values: Any) -> Any:
    return decoded(msgspec.json.encode(values), kind)


# ---- how it is read


def test_a_text_is_kept_in_its_normal_form() -> None:
    for text in ("Ärger", "说明\n第二行\t列", "مرحبا\u200f!", "👩\u200d🔬", "e\u0301"):
        counter = read(requests.WordedCounter, text=f"  \n{unicodedata.normalize('NFD', text)} ")
        assert counter.text == unicodedata.normalize("NFC", text)
        claim = read(
            requests.ExplainedClaim, **CLAIM, explanation=f"{text}\n", explanations=[{"listing": "x", "text": text}]
        )
        assert (claim.explanation, claim.explanations[0].text) == (counter.text, counter.text)


HOSTILE = [
    "",
    " \n\t ",
    "\u3000",
    *(f"a{char}b" for char in "\0\x08\x0b\r\x1b\x7f\x85\x9b\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"),
]


@pytest.mark.parametrize("text", [*HOSTILE, "a" * 4001, 1, ["a"], {"a": "b"}])
def test_a_hostile_text_is_refused_by_its_field(text: object) -> None:
    asked: list[tuple[type[requests.In], dict[str, Any], str]] = [
        (requests.WordedCounter, {"text": text}, "text"),
        (requests.WordedComplaint, {"text": text}, "text"),
        (requests.WordedResponse, {"accept": False, "text": text}, "text"),
        (requests.ExplainedClaim, {**CLAIM, "explanation": text}, "explanation"),
    ]
    for kind, values, field in asked:
        with pytest.raises(Refused) as refused:
            read(kind, **values)
        assert (refused.value.status, refused.value.field) == (422, field)
        assert not isinstance(text, str) or len(text) < 2 or text not in str(refused.value.detail)


@pytest.mark.parametrize("text", [*HOSTILE, "a" * 1001, None])
def test_a_hostile_text_about_a_listing_is_refused(text: object) -> None:
    with pytest.raises(Refused) as refused:
        read(requests.ExplainedClaim, **CLAIM, explanations=[{"listing": LINKS[0], "text": text}])
    assert refused.value.status == 422
    assert refused.value.field in ("explanations[0]", "explanations[0].text")


def test_a_text_is_bounded_in_its_normal_form() -> None:
    # U+0958 has a normal form of two characters
    assert len(read(requests.WordedCounter, text="\u0958" * 2000).text) == 4000
    with pytest.raises(Refused) as refused:
        read(requests.WordedCounter, text="\u0958" * 2001)
    assert refused.value.field == "text"


@given(st.text(max_size=50))
def test_any_text_is_refused_or_read_in_its_normal_form(text: str) -> None:
    try:
        found = read(requests.WordedCounter, text=text).text
    except Refused as refused:
        found = None
        status = refused.status
    if found is None:
        assert status in (400, 422)
    else:
        assert found == unicodedata.normalize("NFC", found).strip()
        assert found


# ---- a topic never carries it


def test_no_event_has_a_field_for_it() -> None:
    said = {"text", "explanation", "explanations"}
    for name, kind in {**events.TYPES, **{kind.__name__: kind for kind in events.COMMANDS.values()}}.items():
        assert not said & set(kind.__struct_fields__), name


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("submit_claim", {**CLAIM, "explanation": "Fake."}, "explanation"),
        ("submit_claim", {**CLAIM, "explanations": [{"listing": LINKS[0], "text": "Fake."}]}, "explanations"),
        ("counter", {"item": "i-1", "text": "It is mine."}, "text"),
        ("respond", {"item": "i-1", "accept": False, "text": "It is not."}, "text"),
        ("complain", {"item": "i-1", "text": "Unfair."}, "text"),
        ("counter", {"item": "i-1"}, None),
        ("counter", {"item": "i-1", "text": None}, "text"),
    ],
)
def test_an_upstreams_record_with_it_is_refused(kind: str, values: dict[str, Any], field: str | None) -> None:
    data = {"specversion": "1.0", "id": "e-1", "source": "/crm", "type": f"goodfaith.request.{kind}.v1", "data": values}
    service = inbound.Inbound.__new__(inbound.Inbound)
    service.settings = Settings()  # type: ignore[call-arg, unused-ignore]
    record = Incoming("inbound.crm", 0, 0, "k", "e", "", None)  # type: ignore[arg-type]
    record.raw = msgspec.json.encode(data)
    event, found, _ = service._read(record)
    assert event == "e-1"
    if field is None:
        assert not isinstance(found, Refused)
        return
    assert isinstance(found, Refused)
    assert (found.status, found.reason, found.field) == (422, "text_by_topic", field)
    assert "HTTP" in found.cure
    assert not {"Fake.", "It is mine.", "It is not.", "Unfair."} & {found.detail, found.cure}


# ---- where it belongs


def filing(kind: str, body: requests.In, **values: Any) -> Filing:
    return Filing(Account("a-1", "holder"), None, "a-1", b"", kind, body, "http", **values)


def item(number: int) -> ItemRow:
    return ItemRow(f"i-{number}", "c-1", str(number), True, LINKS[0], "standard", "a-1", NOW)


def explained(*pairs: tuple[str, str], listings: list[str] = LINKS) -> dict[str, str]:
    given = [{"listing": listing, "text": text} for listing, text in pairs]
    claim = read(requests.ExplainedClaim, **{**CLAIM, "listings": listings}, explanations=given)
    return filing_domain.explained(claim, named_by(claim.listings, SITE).listings)


def test_an_explanation_belongs_to_its_listing() -> None:
    assert explained((LINKS[1], "b"), (LINKS[0], "a")) == {"2": "b", "1": "a"}
    for pairs, field, reason in (
        (((LINKS[0], "a"), ("https://market.example/items/3", "c")), "explanations[1].listing", "not_in_claim"),
        (((LINKS[0], "a"), (LINKS[0], "b")), "explanations[1].listing", "explained_twice"),
    ):
        with pytest.raises(Refused) as refused:
            explained(*pairs)
        assert (refused.value.status, refused.value.field, refused.value.reason) == (422, field, reason)
        assert refused.value.cure


def test_what_is_said_is_kept_under_the_id_of_what_it_is_about() -> None:
    claim = read(requests.ExplainedClaim, **CLAIM, explanation="All fake.")
    rows = Rows("c-1", {"claim": "c-1"}, items=[item(1), item(2)])
    said = filing_domain.words_of(filing("submit_claim", claim, explained={"2": "This one too."}), rows)
    assert said == [("c-1", "All fake.", "explanation"), ("i-2", "This one too.", "explanation")]
    assert filing_domain.words_of(filing("submit_claim", read(requests.ExplainedClaim, **CLAIM)), rows) == []
    for command, kind in requests.WORDED.items():
        if command == "submit_claim":
            continue
        body = kind(**({"accept": True} if command == "respond" else {}), text="So.")
        ((id, text, of),) = filing_domain.words_of(filing(command, body), Rows("k-1", {"claim": "c-1"}))
        assert (id, text) == ("k-1", "So.")
        assert of in get_args(TextKind)


def test_which_requests_say_something() -> None:
    assert set(requests.WORDED) - set(requests.COMMANDS) == {"submit_claim"}
    for name, kind in requests.WORDED.items():
        topic = requests.BY_TOPIC[f"goodfaith.request.{name}.v1"]
        more = set(kind.__struct_fields__) - set(topic.__struct_fields__)
        assert more, name
        assert all(requests.is_worded(name, field) for field in more)
    assert not requests.worded(read(requests.ExplainedClaim, **CLAIM))
    assert not requests.worded(read(requests.WordedCounter, materials=["statement"]))
    assert requests.worded(read(requests.WordedCounter, text="a"))


def test_a_text_opens_in_its_own_place_only() -> None:
    contacts = Contacts(base64.b64encode(bytes(32)).decode())
    key = contacts.new_key("a-1")
    sealed = contacts.seal_words("a-1", key, "c-1", '"1"')
    assert contacts.open_words("a-1", key, "c-1", sealed) == '"1"'
    for account, wrapped, id in (("a-1", key, "i-1"), ("a-1", contacts.new_key("a-1"), "c-1"), ("a-2", key, "c-1")):
        with pytest.raises(InvalidTag):
            contacts.open_words(account, wrapped, id, sealed)


# ---- who is shown it

OWNER, AGENT, SELLER, OTHER, STAFF, STRANGER = (
    Account("a-owner", "holder"),
    Account("a-agent", "holder"),
    Account("s-1", "seller"),
    Account("s-2", "seller"),
    Account("r-1", "reviewer"),
    Account("a-x", "holder"),
)
HOLDERS = frozenset({"a-owner", "a-agent"})


def items(told: int = 0, other: int = 0) -> dict[str, Place]:
    return {"i-1": Place("s-1", told), "i-2": Place("s-2", other), "i-3": Place(None, 0)}


def explains(me: Account, id: str, places: dict[str, Place]) -> list[str] | None:
    mine = {name: place for name, place in places.items() if me.role != "seller" or place.seller == me.id}
    return about(me, HOLDERS, mine, kind="explanation", id=id, author="a-agent")


def test_an_explanation_is_shown_to_the_seller_once_it_is_notified() -> None:
    for told, other in product((0, 1, 2), repeat=2):
        places = items(told, other)
        for me in (OWNER, AGENT, STAFF):
            assert (explains(me, "c-1", places), explains(me, "i-1", places)) == ([], ["i-1"])
        assert explains(SELLER, "c-1", places) == ([] if told else None)
        assert explains(SELLER, "i-1", places) == (["i-1"] if told else None)
        assert explains(OTHER, "c-1", places) == ([] if other else None)
        assert explains(OTHER, "i-1", places) is None, "it is another seller's listing"
        assert explains(STRANGER, "c-1", places) is None


def commanded(me: Account, kind: TextKind, role: str, author: str, since: list[str]) -> list[str] | None:
    commands = [Said("i-1", role, since), Said("i-2", role, since)]
    mine = {name: place for name, place in items(2, 2).items() if me.role != "seller" or place.seller == me.id}
    return about(me, HOLDERS, mine, kind=kind, id="k-1", author=author, commands=commands)


def test_a_counter_is_shown_to_the_holder_once_it_is_forwarded() -> None:
    for since, forwarded in (
        ([], False),  # not applied, or refused
        (["COUNTERED"], False),
        (["HOLDER_RESPONSE"], True),  # complete by rule
        (["COUNTERED", "HOLDER_RESPONSE"], True),
        (["COUNTERED", "LITIGATION", "COUNTERED", "SUSPENDED", "COUNTERED", "HOLDER_RESPONSE", "RESTORED"], True),
        # sent back (row 11), and the next one forwarded: that is another text
        (["NOTIFIED", "COUNTERED", "HOLDER_RESPONSE", "PLATFORM_REVIEW", "RESTORED"], False),
        (["COUNTERED", "UPHELD_BY_DEFAULT", "COUNTERED", "HOLDER_RESPONSE"], False),
        # ended by a court, or withdrawn, before anybody forwarded it
        (["COUNTERED", "LITIGATION", "RESTORED"], False),
        (["COUNTERED", "WITHDRAWN"], False),
    ):
        assert released("counter", since) is forwarded, since
        for me in (OWNER, AGENT):
            assert commanded(me, "counter", "seller", "s-1", since) == (["i-1", "i-2"] if forwarded else None)
        assert commanded(SELLER, "counter", "seller", "s-1", since) == ["i-1"]
        assert commanded(OTHER, "counter", "seller", "s-1", since) is None
        assert commanded(STAFF, "counter", "seller", "s-1", since) == ["i-1", "i-2"]
        assert commanded(STRANGER, "counter", "seller", "s-1", since) is None


def test_a_response_is_shown_to_the_seller_once_it_is_decided() -> None:
    for since, decided in (
        ([], False),
        (["HOLDER_RESPONSE"], False),
        (["PLATFORM_REVIEW", "LITIGATION"], False),
        (["PLATFORM_REVIEW", "WITHDRAWN"], False),
        (["RESTORED"], True),
        (["PLATFORM_REVIEW", "UPHELD_AFTER_COUNTER", "APPEALED"], True),
    ):
        assert commanded(SELLER, "response", "holder", "a-agent", since) == (["i-1"] if decided else None), since
        assert commanded(OTHER, "response", "holder", "a-agent", since) == (["i-2"] if decided else None)
        for me in (OWNER, AGENT, STAFF):
            assert commanded(me, "response", "holder", "a-agent", since) == ["i-1", "i-2"]


def test_a_complaint_is_shown_to_its_side_and_staff() -> None:
    since = ["APPEALED", "RESTORED"]
    assert commanded(SELLER, "complaint", "seller", "s-1", since) == ["i-1"]
    assert commanded(OWNER, "complaint", "seller", "s-1", since) is None
    assert commanded(OWNER, "complaint", "holder", "a-agent", since) == ["i-1", "i-2"]
    assert commanded(SELLER, "complaint", "holder", "a-agent", since) is None
    assert commanded(STAFF, "complaint", "seller", "s-1", since) == ["i-1", "i-2"]


def test_only_row_12_releases_a_counter_and_row_11_never_does() -> None:
    """Every way out of COUNTERED: what a new row of the life cycle would release must be thought of here."""
    for row in TABLE:
        if State.COUNTERED not in row.states or row.to in (STAY, AGAIN):
            continue
        for before in (State.NOTIFIED, State.UPHELD, State.UPHELD_BY_DEFAULT, State.UPHELD_AFTER_COUNTER):
            to = before if row.to == BACK else State(row.to)
            assert released("counter", ["COUNTERED", to]) is (row.number == 12), row.rule
