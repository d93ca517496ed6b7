"""The published contracts are those of the code."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from shared import events, topics
from tools import contracts


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_documents_are_fresh() -> None:
    for path, text in contracts.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run python -m tools.contracts"
    written = {path.name for path in (contracts.FOLDER / "schemas").glob("*.json")}
    assert written == {path.name for path in contracts.documents() if path.parent.name == "schemas"}


def test_every_type_has_a_channel() -> None:
    carried = {kind for kinds in contracts.CARRIES.values() for kind in kinds}
    assert carried == set(contracts.all_types())
    assert set(contracts.CARRIES) == {topic.name for topic in topics.TOPICS} | {contracts.INBOUND.name}


def _accept() -> events.Accept:
    now = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
    return events.Accept(command="k-1", item="i-1", claim="c-1", listing="l1", by="s-1", role="seller", accepted_at=now)


def _encoded(kind: str = "goodfaith.command.accept.v1") -> bytes:
    return events.encode(
        _accept(),
        id="x.1",
        source="/test",
        type=kind,
        subject="i-1",
        time=_accept().accepted_at,
        key="l1",
        causation="y.2",
    )


def test_encode_and_decode_agree() -> None:
    envelope = events.decode_envelope(_encoded())
    assert (envelope.id, envelope.subject, envelope.partitionkey, envelope.causationid) == ("x.1", "i-1", "l1", "y.2")
    assert events.decode_data(envelope) == _accept()


def test_an_unknown_type_is_none_and_a_newer_version_is_named() -> None:
    assert events.decode_data(events.decode_envelope(_encoded("goodfaith.other.v1"))) is None
    with pytest.raises(events.NewerVersion, match="v2"):
        events.decode_data(events.decode_envelope(_encoded("goodfaith.command.accept.v2")))


def test_an_unknown_field_is_ignored_and_a_missing_one_is_named() -> None:
    raw = _encoded().replace(b'"command":"k-1"', b'"command":"k-1","added_later":1')
    assert events.decode_data(events.decode_envelope(raw)) == _accept()
    raw = _encoded().replace(b'"command":"k-1",', b"")
    with pytest.raises(msgspec.ValidationError, match="command"):
        events.decode_data(events.decode_envelope(raw))


def test_an_id_has_no_trailing_newline() -> None:
    raw = _encoded().replace(b'"command":"k-1"', b'"command":"k-1\\n"')
    with pytest.raises(msgspec.ValidationError, match="command"):
        events.decode_data(events.decode_envelope(raw))


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[]", b'{"id":"x"}', b'{"specversion":"0.3","id":"a","source":"b","type":"c"}']
)
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        events.decode_envelope(raw)
