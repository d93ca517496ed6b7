"""What the database's client says when a link is refused, in our words; and that nothing is said too often."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError

from shared import db, log_limits

BEGINS = 'connection to server at "db.example" (10.0.0.3), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('FATAL:  password authentication failed for user "goodfaith_intake"', "does not take user 'goodfaith_intake'"),
        ('FATAL:  role "goodfaith_x" does not exist', "does not take user 'goodfaith_x'"),
        (
            'server certificate for "other.example" does not match host name "db.example"',
            "is for 'other.example' and not",
        ),
        (
            'server certificate for "other.example" (and 1 other name) does not match host name "db.example"',
            "is for 'other.example' and not",
        ),
        ("SSL error: certificate verify failed", "not vouched for by the authorities"),
        ('root certificate file "/x/ca.pem" does not exist', "not vouched for by the authorities"),
        ("SSL error: sslv3 alert certificate has expired", "has expired: renew it"),
        ("server does not support SSL, but SSL was required", "does not speak TLS"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "a", database "b", no encryption', "without TLS"),
    ],
)
def test_a_refusal_is_one_sentence_with_its_cure(text: str, says: str) -> None:
    original = psycopg2.OperationalError(BEGINS + text + "\n")
    assert says in str(db.refused(original))
    assert db.refused(OperationalError("select 1", {}, original)) == db.refused(original)


def test_what_passes_is_no_refusal() -> None:
    for error in (
        psycopg2.OperationalError(BEGINS + "Connection refused"),
        psycopg2.OperationalError("server closed the connection unexpectedly"),
        psycopg2.IntegrityError('password authentication failed for user "x"'),
        ValueError("certificate verify failed"),
    ):
        assert db.refused(error) is None


def test_what_stays_so_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(log_limits.time, "monotonic", lambda: now)
    monkeypatch.setattr(log_limits, "_said", {})
    assert [log_limits.seldom("a"), log_limits.seldom("a"), log_limits.seldom("b")] == [True, False, True]
    now += log_limits.AGAIN_S
    assert [log_limits.seldom("a"), log_limits.seldom("a")] == [True, False]
