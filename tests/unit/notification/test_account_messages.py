"""Messages that tell an account of itself."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain import ACCOUNT, notice_of
from services.notification.render import FIGURES, NOTICES, Contact, mail, render_notice, render_unconfirmed
from shared.events import AccountNotice, SanctionChanged
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
    assert (made.template, made.version) == ("account.notice", 1)
    assert "review noted" in made.subject
    for needed in ("takedown rate", "0.88", "41", "counterfeit"):
        assert needed in made.body, needed


def test_what_a_notice_means_is_said() -> None:
    assert "Another account has registered the same right." in body(notice("right_registered_elsewhere", about="r-7"))
    assert "is suspended" in body(notice("account_suspended"))


def test_a_warning_says_by_what_numbers_and_until_when() -> None:
    figures = {
        "window_from": "2026-08-25",
        "window_to": "2026-11-24",
        "settled": 31,
        "upheld": 27,
        "taken_down": 28,
        "restored": 1,
        "takedown_rate": "90 %",
        "counter_rate": "5 %",
        "misses": "overall takedown 27/31",
        "demote_on": "2026-12-08",
    }
    text = body(notice("good_faith_warned", figures=figures))
    for needed in ("2026-08-25 to 2026-11-24", "27 of 31", "at least 90 %", "1 of 28", "at most 5 %", "on 2026-12-08"):
        assert needed in text, needed
    assert "from 2027-02-24" in body(notice("good_faith_demoted", figures={**figures, "barred_until": "2027-02-24"}))
    assert "first in the queue" in " ".join(body(notice("good_faith_upgraded", figures=figures)).split())


def test_a_measure_against_misuse_says_why_by_which_rule_until_when_and_how_to_complain() -> None:
    figures = {
        "window_from": "2026-05-29",
        "window_to": "2026-11-24",
        "settled": 40,
        "unfounded": 20,
        "claims": 6,
        "weight": 31,
        "because": "rejected:plainly_unfounded 20",
        "rule": "5 claims, 15 items, 20 %, weight 25",
        "policy": "ipp-2026-11",
        "complain_until": "2027-05-28",
    }
    for kind, more, words in (
        ("misuse_warned", {}, "This is a warning"),
        ("misuse_limited", {"items_a_day": 100, "until": "2026-12-25"}, "100 items a day"),
        ("misuse_suspended", {"until": "2026-12-25"}, "in spite of a warning"),
    ):
        text = body(notice(kind, about="m-7", figures={**figures, **more}))
        for needed in (
            words,
            "2026-05-29 to 2026-11-24",
            "20 of 40",
            "rejected:plainly_unfounded 20",
            "5 claims, 15 items, 20 %, weight 25",
            "ipp-2026-11",
            "until 2027-05-28",
            "POST /v1/misuse/m-7/complaint",
            *(["2026-12-25"] if "until" in more else []),
        ):
            assert needed in text, (kind, needed)
    # what follows is what the policy has, and nothing else
    follows = {
        "quota, suspension": "a daily quota of items follows, and then a suspension",
        "quota": "a daily quota of items follows.",
        "suspension": "a suspension of the processing of your notices follows.",
    }
    for after, words in follows.items():
        assert words in body(notice("misuse_warned", about="m-7", figures={**figures, "next": after}))
    assert "follows" not in body(notice("misuse_warned", about="m-7", figures=figures)).replace("step follows", "")
    assert "quota" not in body(notice("misuse_suspended", about="m-7", figures=figures))
    for kind in ("misuse_warned", "misuse_limited", "misuse_suspended"):
        text = body(notice(kind, about="m-8", figures={"finding": "f-3", "items_a_day": 5}))
        assert "relied on a forged document" in text, kind
        for wrong in ("since the warning", "in spite of", "many of", "follows,"):
            assert wrong not in text, (kind, wrong)
    forged = {"until": "2027-02-22", "finding": "f-3", "complain_until": "2027-05-28"}
    text = body(notice("misuse_suspended", about="m-8", figures=forged))
    for needed in ("a forged document", "f-3", "2027-02-22", "/v1/misuse/m-8/complaint"):
        assert needed in text, needed


def test_a_code_is_where_it_is_meant_to_be_only() -> None:
    said = notice("email_code", figures={"minutes": 60})
    assert "ABCD-EFGH-JKMN" in body(said, "ABCD-EFGH-JKMN")
    assert "60 minutes" in body(said, "ABCD-EFGH-JKMN")
    assert "ABCD" not in body(said)


def test_an_address_that_may_be_anybodys_is_told_nothing_that_a_party_wrote() -> None:
    hostile = Contact.of(
        {"name": "Visit https://evil.example", "address": "evil road", "email": "victim@elsewhere.example"}
    )
    assert hostile is not None
    code = render_notice(id="m-1", notice=notice("email_code"), party=hostile, secret="ABCD-EFGH-JKMN", now=NOW)
    bare = render_unconfirmed(id="m-1", account="a-1", ends=NOW + dt.timedelta(days=10), now=NOW, locale="en")
    for shown in (code, bare):
        raw = mail(shown, id="m-1", sender="ipp@market.example", to=hostile, at=NOW)
        read = email.message_from_bytes(raw, policy=email.policy.default)
        assert read["To"] == "victim@elsewhere.example"
        words = raw + b"".join(part.get_payload(decode=True) or b"" for part in read.walk() if not part.is_multipart())
        assert b"evil" not in words
        assert b"http" not in words.replace(b"http-equiv", b"")
    assert "2026-12-04 12:00 UTC" in bare.body
    # an address that was confirmed is written to by its name
    known = render_notice(id="m-1", notice=notice("account_verified"), party=hostile, secret=None, now=NOW)
    assert b"Visit" in mail(known, id="m-1", sender="ipp@market.example", to=hostile, at=NOW)


@given(
    st.sampled_from([*(kind.removeprefix("account.") for kind in NOTICES), "x", "review.y"]),
    st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.floats(), st.text(max_size=300)), max_size=40),
)
def test_any_figures_are_stated_harmlessly(kind: str, figures: dict[str, Any]) -> None:
    made = render_notice(id="m-1", notice=notice(kind, figures=figures), party=ANN, secret=None, now=NOW)
    assert "\n" not in made.subject
    assert len(made.body) < 2_000 + FIGURES * 450
    assert "\x00" not in made.body


# ---- sanctions


def sanction(**more: Any) -> SanctionChanged:
    fields: dict[str, Any] = {
        "seller": "s-1",
        "sanction": "abc.s2",
        "change": "imposed",
        "cause": "threshold",
        "measures": ("frozen", "may_not_list"),
        "ledger": "general",
        "level": 4,
        "begins": NOW,
        "ends": NOW + dt.timedelta(days=14),
        "entry": "e.5",
        "claim": "c-9",
        "at": NOW,
    }
    return SanctionChanged(**{**fields, **more})


def told(change: SanctionChanged, language: str = "en") -> tuple[str, str]:
    """(subject, text) of what the seller is told."""
    said = notice_of(change)
    assert said is not None
    assert ACCOUNT + said.kind in NOTICES
    party = Contact.of(
        {"name": "Sam Seller", "address": "2 Shop Street", "email": "sam@shop.example", "language": language}
    )
    made = render_notice(id="m-1", notice=said, party=party, secret=None, now=NOW)
    return made.subject, " ".join(made.body.split())


def test_a_measure_is_told_with_why_until_when_and_how_to_be_heard() -> None:
    subject, text = told(sanction())
    assert "measure against your account s-1" in subject
    for needed in (
        "from 2026-11-24 12:00 UTC on",
        "its listings are not shown",
        "may not offer new listings",
        "on 2026-12-08 12:00 UTC",
        "violations, counted in points",
        "c-9",
        "by rule, without a decision of a person",
        "GET /v1/standing/ledger",
        "counter claims against you, or complain",
        "free of charge",
        "a person looks at it",
        "out-of-court dispute settlement",
        "courts",
        "GET /v1/standing/sanctions",
    ):
        assert needed in text, needed
    for absent in ("is closed", "Listing is restricted", "None", "does not end"):
        assert absent not in text, absent
    _, text = told(sanction(measures=("closed",), ends=None, ledger="serious", level=3, scope="entity"))
    for needed in (
        "The account is closed",
        "does not end by itself",
        "counted in strikes",
        "the business that this account belongs to",
    ):
        assert needed in text, needed
    _, text = told(sanction(measures=("frozen",), ends=None))
    assert "when so many violations have expired" in text


def test_a_warning_restricts_nothing_and_a_prior_one_says_what_it_comes_before() -> None:
    subject, text = told(sanction(measures=(), ends=None, level=1))
    assert "warning" in subject
    for needed in ("under no restriction", "c-9", "How to be heard"):
        assert needed in text, needed
    subject, text = told(sanction(measures=(), ends=None, prior=True))
    assert "before suspension" in subject
    for needed in (
        "not suspended now",
        "Digital Services Act, Article 23",
        "frozen or closed",
        "Number, gravity and share",
        "How to be heard",
    ):
        assert needed in text, needed


@pytest.mark.parametrize(
    ("cause", "needed"),
    [("reversal", "does not stand"), ("operator", "The operator of the programme"), ("unlinked", "no longer belongs")],
)
def test_what_is_lifted_is_told_with_its_cause(cause: Any, needed: str) -> None:
    subject, text = told(sanction(change="lifted", cause=cause, reason="mistake" if cause == "operator" else None))
    assert subject.endswith("is lifted")
    assert needed in text
    subject, text = told(sanction(change="lifted", cause=cause, measures=()))
    assert subject.endswith("is taken back")
    assert needed in text


def test_what_is_lifted_of_a_business_names_both_reasons_that_there_may_be() -> None:
    _, text = told(sanction(change="lifted", cause="reversal", scope="entity"))
    assert "one does not stand, or an account no longer belongs to the business" in text
    assert "A violation that it rested on" not in text


def test_an_end_is_told_and_what_another_message_says_is_not() -> None:
    subject, text = told(sanction(change="ended", cause="timer"))
    assert subject.endswith("has ended")
    assert "may bring the next measure" in text
    assert notice_of(sanction(change="ended", cause="replaced")) is None
    assert notice_of(sanction(change="ended", cause="expiry", measures=())) is None
    both = [notice_of(sanction()), notice_of(sanction(change="lifted", cause="operator"))]
    assert len({said.notice for said in both if said}) == 2


@pytest.mark.parametrize("language", ["de", "zh"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"measures": (), "ends": None},
        {"measures": (), "prior": True},
        {"change": "lifted", "cause": "reversal"},
        {"change": "ended", "cause": "timer"},
    ],
)
def test_sellers_are_told_in_their_language(language: str, more: dict[str, Any]) -> None:
    english, text = told(sanction(**more))
    subject, here = told(sanction(**more), language)
    assert subject != english
    assert here != text
    # no sentence was left in English
    assert not re.search(r"\b(the|account is|they)\b", here)
