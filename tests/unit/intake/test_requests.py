"""Input is strict and bounded, and what is wrong is named."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.kernel import requests
from services.intake.kernel.refusals import decoded
from shared.refusals import Refused

KINDS = [
    requests.OpenAccount,
    requests.Contact,
    requests.RegisterRight,
    requests.ChangeRight,
    requests.Authorise,
    requests.Verify,
    requests.SubmitClaim,
    *requests.COMMANDS.values(),
    *requests.WORDED.values(),
    requests.ContactIds,
    *requests.BY_TOPIC.values(),
]


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_are_refused(kind: type[requests.In]) -> None:
    with pytest.raises(Refused) as refused:
        decoded(b'{"nonsense": 1}', kind)
    assert refused.value.status == 422
    assert refused.value.field == "nonsense"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "right"),
        (b'{"right": 1}', "right"),
        (b'{"right": "a b"}', "right"),
        (b'{"right": "a\\n"}', "right"),
        (b'{"right": "r", "reason": "x", "listings": []}', "listings"),
        (b'{"right": "r", "reason": "x", "listings": ["a", 1]}', "listings[1]"),
        (b'{"right": "r", "reason": "x", "listings": ["a"], "materials": ["a/b"]}', "materials[0]"),
        (b'{"right": "r", "reason": "x", "listings": "a"}', "listings"),
    ],
)
def test_the_field_is_named(body: bytes, field: str) -> None:
    with pytest.raises(Refused) as refused:
        decoded(body, requests.SubmitClaim)
    assert refused.value.status == 422
    assert refused.value.field == field


@pytest.mark.parametrize("body", [b"", b"{", b'{"right": "\xff"}', b"\x00", b"nope", b'{"right": "\\ud800"}'])
def test_what_is_no_json_is_400(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decoded(body, requests.SubmitClaim)
    assert refused.value.status == 400


def test_deep_nesting_is_refused() -> None:
    for body in (b"[" * 200_000, b'{"materials":' + b"[" * 200_000, b'{"x":' * 100_000):
        with pytest.raises(Refused):
            decoded(body, requests.SubmitClaim)


def outcome(body: bytes, kind: type[requests.In]) -> int:
    """200 when it was read as that kind."""
    try:
        return 200 if isinstance(decoded(body, kind), kind) else 0
    except Refused as refused:
        return refused.status


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    for kind in (requests.SubmitClaim, requests.Counter, requests.Contact):
        assert outcome(body, kind) in (200, 400, 422)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_refused_or_read(value: object) -> None:
    body = msgspec.json.encode(value)
    for kind in (requests.SubmitClaim, requests.Counter, requests.OpenAccount):
        assert outcome(body, kind) in (200, 400, 422)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "a\nb"),
        ("name", "a\x00"),
        ("name", "a\n"),
        ("name", "a\x85Bcc: c@d"),
        ("address", "a\x9b1mb"),
        ("address", "a\r\nb"),
        ("email", "a@b\nBcc: c@d"),
        ("email", "ada@example.org\n"),
        ("email", "a b@c"),
        ("email", "nobody"),
    ],
)
def test_contacts_cannot_forge_headers(field: str, text: str) -> None:
    body = {"name": "Ada", "address": "Road 1\nTown", "email": "ada@example.org", field: text}
    with pytest.raises(Refused) as refused:
        decoded(msgspec.json.encode(body), requests.Contact)
    assert refused.value.field == field
