"""Return paths and delivery reports: known again, and believed for one message only."""

from __future__ import annotations

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.mailbox.server import BOUNCING, outcome_of, report
from services.notification.channels import address_key, bad_address, choose, status
from services.notification.mime import LOCAL
from services.notification.reports import MAX_BYTES, READ, Report, message_of, parse, return_path
from tests.costs import cost

KEY = "k" * 32
ids = st.text("0123456789abcdef", min_size=32, max_size=32).map(lambda text: f"m-{text}")


@given(ids)
def test_a_return_path_is_known_again(id_: str) -> None:
    path = return_path(KEY, id_, "market.example")
    assert len(path.split("@")[0]) <= LOCAL
    for written in (path, path.upper()):
        assert message_of(KEY, written, "Market.example") == id_
    assert message_of(KEY + "x", path, "market.example") is None
    assert message_of(KEY, path, "other.example") is None
    for place in range(len("bounces+"), len(path.split("@")[0])):
        changed = path[:place] + ("0" if path[place] != "0" else "1") + path[place + 1 :]
        assert message_of(KEY, changed, "market.example") is None


@given(st.text(max_size=100))
def test_what_is_no_return_path_is_nobodys(text: str) -> None:
    assert message_of(KEY, text, "market.example") is None
    assert message_of(KEY, f"bounces+{text}@market.example", "market.example") is None


def test_only_a_messages_id_has_one() -> None:
    with pytest.raises(ValueError, match="id"):
        return_path(KEY, "m-1\r\nRCPT TO:<eve@x.example>", "market.example")


@pytest.mark.parametrize(
    ("outcome", "reason"), [("bounced", "5.1.1"), ("delivered", "2.1.5"), ("delayed", "4.4.1"), ("relayed", "2.0.0")]
)
def test_a_report_is_read(outcome: str, reason: str) -> None:
    raw = report(
        to="b@market.example", about="ann@x.example", outcome=outcome, reason=reason, original=b"To: a\r\n\r\nb"
    )
    assert parse(raw) == Report(outcome, reason)  # type: ignore[arg-type]
    # a returned message of any length comes after what is read
    assert parse(raw + b"x" * MAX_BYTES) == Report(outcome, reason)  # type: ignore[arg-type]


def dsn(groups: str, kind: str = "delivery-status") -> bytes:
    return (
        f'Content-Type: multipart/report; report-type={kind}; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n'
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n{groups}\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("groups", "want"),
    [
        ("Action: failed\r\nStatus: 5.1.1 (no such user)\r\n", Report("bounced", "5.1.1")),
        ("Action: FAILED (for good)\r\nStatus: nonsense\r\n", Report("bounced", "5.0.0")),
        ("action: delayed\r\n", Report("delayed", "4.0.0")),
        ("Action: expanded\r\nStatus: 2.1.5\r\n", Report("relayed", "2.1.5")),
        ("Action: delivered\r\nStatus: 2.0.0\r\n\r\nAction: failed\r\nStatus: 5.2.1\r\n", Report("bounced", "5.2.1")),
        ("Action: nothing\r\nStatus: 5.1.1\r\n", None),
        ("Status: 5.1.1\r\n", None),
        ("", None),
    ],
)
def test_what_servers_write(groups: str, want: Report | None) -> None:
    assert parse(dsn(groups)) == want
    assert parse(dsn(groups, "disposition-notification")) is None


@given(st.binary(max_size=2000))
def test_junk_reports_nothing(raw: bytes) -> None:
    assert parse(raw) is None
    parse(b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n' + raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(20_000)),
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_000,
        b"A: " + b"x" * 900_000,
        b"\r\n" * 400_000,
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=\xff\r\n\r\n--\xff",
    ],
)
def test_hostile_reports_cost_little(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: list[int] = []
    parser = email.message_from_bytes
    monkeypatch.setattr(
        email, "message_from_bytes", lambda raw, **how: (given_to.append(len(raw)), parser(raw, **how))[1]
    )
    assert parse(raw) is None
    assert given_to == [min(len(raw), READ)]
    honest = dsn("Action: failed\r\nStatus: 5.1.1\r\n")
    # thrice what the worst of them costs: 20,000 parts, one in another, as far as READ goes
    assert cost(lambda: parse(raw)) < 10_000 * cost(lambda: [parse(honest) for _ in range(20)]) / 20


@given(
    st.permutations(["email", "webhook", "inbox"]),
    st.sets(st.sampled_from(["email", "webhook"])),
    st.sets(st.sampled_from(["email", "webhook"])),
)
def test_there_is_always_a_channel(order: list[str], available: set[str], tried: set[str]) -> None:
    found = choose(order, available, tried)  # type: ignore[arg-type]
    assert found == "inbox" or (found in available and found not in tried)
    if order[0] in available - tried or order[0] == "inbox":
        assert found == order[0]
    if "inbox" not in order[:2]:
        assert (found == "inbox") == (not available - tried)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("5.1.1 no", "5.1.1"),
        ("4.10.255", "4.10.255"),
        ("5.01.1", "5.1.1"),
        ("3.1.1", None),
        ("550", None),
        (None, None),
    ],
)
def test_status(text: object, want: str | None) -> None:
    assert status(text) == want


def test_which_addresses_are_bad() -> None:
    assert all(map(bad_address, ("5.1.1", "5.1.10", "5.2.1", "5.0.0")))
    assert not any(map(bad_address, ("5.2.2", "5.3.4", "5.7.1", "4.1.1", "5.10.1")))


def test_an_address_is_remembered_without_saying_which() -> None:
    assert address_key(KEY, "Ann@X.example") == address_key(KEY, "ann@x.example")
    assert address_key(KEY, "ann@x.example") != address_key("z" * 32, "ann@x.example")
    assert "ann" not in address_key(KEY, "ann@x.example")


def test_what_the_mailbox_reports() -> None:
    every = frozenset({"SUCCESS", "FAILURE"})
    assert outcome_of(f"a@{BOUNCING}", every) == ("bounced", "5.1.1")
    assert outcome_of("a@x.example", every) == ("delivered", "2.0.0")
    assert outcome_of("a@x.example", frozenset({"FAILURE"})) is None
    assert outcome_of(f"a@{BOUNCING}", frozenset({"NEVER"})) is None
