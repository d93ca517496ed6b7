"""Domains that accounts name: which may be named, what records say, and how a domain stands after each look-up."""

from __future__ import annotations

import datetime as dt
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.accounts import domains
from services.intake.accounts.domains import AGAIN, KEPT, PAUSE, PENDING, RARELY, Answer, Standing
from shared.refusals import Refused

NOW = dt.datetime(2027, 1, 4, 12, tzinfo=dt.UTC)
TOKEN = "a1" * 20
OWN = f"goodfaith-verification={TOKEN}".encode()
MISSES: list[Answer] = [one for one in get_args(Answer) if one != "found"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("brand.example", "brand.example"),
        (" Shop.Brand.Example. ", "shop.brand.example"),
        ("bücher.de", "xn--bcher-kva.de"),
        ("BÜCHER.de", "xn--bcher-kva.de"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("ｂｒａｎｄ。example", "brand.example"),
        ("a\u200bb.example", "ab.example"),
        # letters of another script stay what they are
        ("аррӏе.com", "xn--80ak6aa92e.com"),
        ("brand.co.uk", "brand.co.uk"),
        # exceptions and wildcards of the list
        ("www.ck", "www.ck"),
        ("a.b.ck", "a.b.ck"),
        ("city.kawasaki.jp", "city.kawasaki.jp"),
        ("brand.github.io", "brand.github.io"),
    ],
)
def test_a_domain_is_written_as_dns_has_it(given: str, written: str) -> None:
    assert domains.parse(given) == written


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *((text, "bad_domain") for text in ("brand", "", ".", "brand..example", "-a.example", "a-.example")),
        *((text, "bad_domain") for text in ("https://brand.example", "brand.example/a", "ada@brand.example")),
        *((text, "bad_domain") for text in ("192.0.2.1", "[::1]", "a.1", "_dmarc.brand.example", "*.brand.example")),
        *((text, "bad_domain") for text in ("host.local", "db.internal", "a.localhost", "2.0.192.in-addr.arpa")),
        *((text, "bad_domain") for text in ("xn--a.example", "a b.example", "brand.example\0")),
        (f"{'a' * 64}.example", "bad_domain"),
        (".".join(["a" * 58] * 4), "bad_domain"),
        *((text, "public_suffix") for text in ("co.uk", "CO.UK", "b.ck", "ide.kyoto.jp", "github.io", "公司.cn")),
        *((text, "free_mail") for text in ("gmail.com", "GMX.de", "web.de.", "mail.gmail.com")),
    ],
)
def test_what_cannot_be_named_is_refused_with_a_cure(given: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        domains.parse(given)
    assert (refused.value.reason, refused.value.field) == (reason, "domain")
    assert refused.value.cure


# points and hyphens often, and letters that are mapped, combined, or read from right to left
TEXTS = st.text(st.sampled_from("ab-.1 _@/:*éßＡ。\u0301\u200d\u05d0aÖ漢\0\n"), max_size=40) | st.text(max_size=260)


@given(TEXTS | TEXTS.map(lambda text: f"{text}.brand.example"))
def test_any_text_is_refused_or_written_once_and_for_all(text: str) -> None:
    try:
        domain = domains.parse(text)
    except Refused:
        return
    assert domains.parse(domain) == domain
    assert domain.isascii()
    assert len(domains.NAME + domain) <= 253
    assert all(0 < len(label) <= 63 for label in domain.split("."))


def test_an_address_is_at_its_domain_and_at_no_other() -> None:
    assert domains.domain_of("ada@Brand.Example") == "brand.example"
    assert domains.domain_of("ada@mail.brand.example") == "mail.brand.example"
    assert domains.domain_of("ada@gmail.com") is None


def test_only_this_tokens_record_counts() -> None:
    assert domains.read([b"v=spf1 -all", OWN + b" "], TOKEN) == "found"
    assert domains.read([], TOKEN) == "no_record"
    others = [OWN + b"x", b"x" + OWN, OWN.upper(), OWN[:-1], b"goodfaith-verification=", OWN + b" " + OWN]
    assert domains.read([*others, OWN[: len(OWN) // 2], OWN[len(OWN) // 2 :]], TOKEN) == "other_record"
    assert domains.read([OWN + b" " * 400], TOKEN) == "other_record"
    assert domains.read([b"x"] * 50 + [OWN], TOKEN) == "too_long"
    assert domains.new_token() != domains.new_token()


ANSWERS = st.lists(st.tuples(st.sampled_from(get_args(Answer)), st.integers(0, 200_000)), max_size=40)


@given(ANSWERS)
def test_a_domain_is_verified_only_while_its_record_was_seen_lately(answers: list[tuple[Answer, int]]) -> None:
    """Whatever is answered, and however late: look-ups end, or the record was seen in the last three days."""
    now, seen, known = NOW, None, domains.asked(Standing("pending"), NOW)
    for answer, late_s in answers:
        if known.due_at is None:
            break
        assert known.due_at - now <= max(AGAIN, RARELY)
        now = max(now, known.due_at) + dt.timedelta(seconds=late_s)
        known = domains.looked_up(domains.shown(known, now), answer, now)
        seen = now if answer == "found" else seen
        assert known.seen_at == seen
        assert (known.state == "verified") == (seen is not None and now < seen + KEPT)
        assert (known.since is not None) == (known.state == "verified")
        assert (known.due_at is None) == (known.state == "failed")
        assert (known.reason is None) == (answer == "found")


@pytest.mark.parametrize("answer", MISSES)
def test_a_record_is_looked_for_during_a_day(answer: Answer) -> None:
    known = domains.asked(Standing("failed", "no_record", tries=9), NOW)
    assert (known.state, known.due_at, known.tries) == ("pending", NOW, 0)
    tries = 0
    while known.due_at is not None:
        at, tries = known.due_at, tries + 1
        known = domains.looked_up(domains.replace(known, tries=tries), answer, at)
    assert (known.state, known.reason, at) == ("failed", answer, NOW + PENDING)
    assert 5 < tries < 20


def test_a_fault_takes_nothing_away_for_three_days() -> None:
    known = domains.looked_up(domains.asked(Standing("pending"), NOW), "found", NOW)
    assert (known.state, known.since, known.due_at) == ("verified", NOW, NOW + AGAIN)
    later = domains.looked_up(known, "found", NOW + AGAIN)
    assert (later.since, later.seen_at) == (NOW, NOW + AGAIN)
    missed = domains.looked_up(later, "no_record", NOW + AGAIN + KEPT - PAUSE)
    assert (missed.state, missed.since, missed.due_at) == ("verified", NOW, NOW + AGAIN + KEPT)
    lapsed = domains.looked_up(missed, "no_answer", NOW + AGAIN + KEPT)
    assert (lapsed.state, lapsed.since, lapsed.due_at) == ("failed", None, None)
    # nor does it stay verified while nobody looks
    assert domains.shown(missed, NOW + AGAIN + KEPT - PAUSE) == missed
    shown = domains.shown(missed, NOW + AGAIN + KEPT)
    assert (shown.state, shown.reason, shown.since) == ("failed", "not_checked", None)
    assert domains.looked_up(shown, "found", NOW + 9 * AGAIN).since == NOW + 9 * AGAIN


def test_one_asks_once_a_minute() -> None:
    known = domains.asked(Standing("pending"), NOW)
    with pytest.raises(Refused) as refused:
        domains.asked(known, NOW + PAUSE - dt.timedelta(seconds=1))
    assert refused.value.reason == "check_too_soon"
    assert domains.asked(known, NOW + PAUSE).asked_at == NOW + PAUSE
