"""Good faith: the notices tell where each account stands, whatever becomes of it."""

from __future__ import annotations

import datetime as dt
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from services.intake.goodfaith import domain as goodfaith
from services.intake.goodfaith.domain import GoodFaithStanding, Verdict
from services.streams import accounts
from services.streams.views import Meta
from shared import policy
from shared.events import AccountNotice

TERMS = policy.current("ipp").good_faith
DAY = dt.date(2026, 11, 2)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("meets", "misses", "too_few", "join", "leave", "in", "out", "unverified")),
            st.integers(1, 60),
        ),
        max_size=15,
    )
)
def test_notices_say_what_intake_knows(turns: list[tuple[str, int]]) -> None:
    standing, state, day = GoodFaithStanding(), None, DAY
    places = itertools.count(1)
    for turn, days in turns:
        day += dt.timedelta(days=days)
        kinds: list[str] = []
        try:
            if turn == "join":
                standing, kind = goodfaith.join(standing, True, day)
                kinds = [kind]
            elif turn == "leave":
                standing, kind = goodfaith.leave(standing, day, TERMS)
                kinds = [kind]
            elif turn in ("in", "out"):
                standing, by_staff = goodfaith.by_staff(standing, turn == "in", day)
                kinds = [by_staff] if by_staff is not None else []
            else:
                verdict = Verdict("misses" if turn == "unverified" else turn)  # type: ignore[arg-type]
                standing, made = goodfaith.review(standing, turn != "unverified", verdict, day, TERMS)
                kinds = list(made)
        except goodfaith.Refused:
            continue
        for kind in kinds:
            figures: dict[str, int | float | str] = {}
            if standing.demote_on is not None:
                figures["demote_on"] = standing.demote_on.isoformat()
            if standing.barred_until is not None:
                figures["barred_until"] = standing.barred_until.isoformat()
            at = dt.datetime.combine(day, dt.time(), dt.UTC)
            notice = AccountNotice(notice="n-1", account="a-1", kind=f"good_faith_{kind}", figures=figures, at=at)
            assert accounts.key(notice) == "a-1"
            state = accounts.fold(state, notice, Meta(f"intake.0.{next(places)}", at, at))
        told = "out" if state is None else state.state
        wanted = "barred" if standing.state == "out" and standing.barred_until is not None else standing.state
        assert told == wanted
