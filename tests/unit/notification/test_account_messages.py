"""Messages that tell an account of itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.notification.render import FIGURES, NOTICES, Contact, render_notice
from shared.events import AccountNotice
from tests.unit.notification.making import NOW

ANN = Contact.of({"name": "Ann Holder", "address": "1 Right Street", "email": "ann@holder.example"})


def notice(kind: str, **more: Any) -> AccountNotice:
    return AccountNotice(**{"notice": "n-1", "account": "a-1", "kind": kind, "at": NOW, **more})


def body(said: AccountNotice, secret: str | None = None) -> str:
    return " ".join(render_notice(id="m-1", notice=said, party=ANN, secret=secret, now=NOW).body.split())


def test_an_expiring_right_is_named_with_its_date_and_the_way_to_renew_it() -> None:
    text = body(notice("right_expiring", about="r-7", figures={"expires_at": "2026-12-24T12:00:00Z"}))
    for needed in ("r-7", "2026-12-24 12:00 UTC", "Ann Holder", "/v1/rights/r-7/renewal"):
        assert needed in text, needed


def test_a_kind_without_a_template_is_told_plainly() -> None:
    made = render_notice(
        id="m-1",
        notice=notice("review_noted", figures={"takedown_rate": 0.876, "items": 41, "reason": "counterfeit"}),
        party=None,
        secret=None,
        now=NOW,
    )
    assert (made.template, made.version) == ("account.notice", 2)
    assert "review noted" in made.subject
    for needed in ("takedown rate", "0.88", "41", "counterfeit"):
        assert needed in made.body, needed


def test_what_a_notice_means_is_said() -> None:
    assert "Another account has registered the same right." in body(notice("right_registered_elsewhere", about="r-7"))
    assert "is suspended" in body(notice("account_suspended"))


def test_a_warning_says_by_what_numbers_and_until_when() -> None:
    figures = {
        "window_from": "2026-08-25", "window_to": "2026-11-24", "settled": 31, "upheld": 27, "taken_down": 28, "restored": 1,
        "takedown_rate": "90 %", "counter_rate": "5 %", "misses": "overall takedown 27/31", "demote_on": "2026-12-08",
    }  # fmt: skip
    text = body(notice("good_faith_warned", figures=figures))
    for needed in ("2026-08-25 to 2026-11-24", "27 of 31", "at least 90 %", "1 of 28", "at most 5 %", "on 2026-12-08"):
        assert needed in text, needed
    assert "from 2027-02-24" in body(notice("good_faith_demoted", figures={**figures, "barred_until": "2027-02-24"}))
    assert "first in the queue" in " ".join(body(notice("good_faith_upgraded", figures=figures)).split())


def test_a_code_is_where_it_is_meant_to_be_only() -> None:
    said = notice("email_code", figures={"minutes": 60})
    assert "ABCD-EFGH-JKMN" in body(said, "ABCD-EFGH-JKMN")
    assert "60 minutes" in body(said, "ABCD-EFGH-JKMN")
    assert "ABCD" not in body(said)


@given(
    st.sampled_from([*(kind.removeprefix("account.") for kind in NOTICES), "x", "review.y"]),
    st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.floats(), st.text(max_size=300)), max_size=40),
)  # fmt: skip
def test_any_figures_are_stated_harmlessly(kind: str, figures: dict[str, Any]) -> None:
    made = render_notice(id="m-1", notice=notice(kind, figures=figures), party=ANN, secret=None, now=NOW)
    assert "\n" not in made.subject
    assert len(made.body) < 2_000 + FIGURES * 450
    assert "\x00" not in made.body
