"""What intake answers when nobody can say what became of a commit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from services.intake.filing import group_commit
from services.intake.filing.group_commit import GroupCommit
from services.intake.kernel import store
from shared import db
from shared.refusals import Refused
from shared.settings import Settings

WHEN = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


class Engine:
    """Its commits do not wait for the synchronous follower to the end."""

    @contextmanager
    def begin(self) -> Iterator[None]:
        yield
        raise sa.exc.OperationalError("commit", {}, db.UnknownOutcome("commit: WARNING:  canceling wait"))


def test_a_commit_of_unknown_outcome_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "enter_admission", lambda _connection: (WHEN, WHEN))
    monkeypatch.setattr(group_commit.filing_store, "file", lambda _connection, filings, *_: list(filings))
    commits = GroupCommit(Engine(), Settings())  # type: ignore[call-arg, arg-type, unused-ignore]
    filings: list[Any] = [object(), object()]
    answers = commits.commit(filings)
    assert [isinstance(one, Refused) and one.status for one in answers] == [503, 503]
