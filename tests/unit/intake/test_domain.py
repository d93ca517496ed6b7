"""Intake's decisions: links, ids, claims, commands, shares."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.filing import domain as filing_domain
from services.intake.filing import recurrence
from services.intake.filing.inbound import Inbound, UpstreamRequest, check_bound
from services.intake.filing.shares import Shares, share_out
from services.intake.kernel import commands, domain, ids, listings, requests
from services.intake.kernel.commands import ItemRef
from services.intake.kernel.domain import Account, Authorisation, Right
from services.intake.kernel.filings import Filing, Rows
from shared import events, policy
from shared.events import ItemChanged, State
from shared.refusals import Refused
from shared.settings import Relayed, Settings, UpstreamMay
from shared.site_links import SiteLinks

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
SITE = SiteLinks(("market.example/items/{id}", "www.market.example/items/{id}"))
BOUND = UpstreamMay(accounts=("h-*", "s-7"), commands=("submit_claim", "withdraw"))
HOLDER = Account("a-1", "holder", identity_verified=True, registered=True)
RIGHT = Right("r-1", "a-1", "trademark", "active")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")


# ---- links


@pytest.mark.parametrize(
    "link",
    [
        "https://market.example/items/123",
        "http://market.example/items/123",
        "HTTPS://MARKET.EXAMPLE/items/123",
        "https://market.example:443/items/123",
        "https://market.example./items/123/",
        "https://market.example/items/123?ref=mail#top",
        "https://www.market.example/items/123",
    ],
)
def test_links_of_this_site(link: str) -> None:
    assert listings.listing_of(link, SITE) == listings.ListingRef("123", True, link)


@pytest.mark.parametrize(
    "link",
    [
        "https://market.example.evil.example/items/123",
        "https://evil.example/items/123",
        "https://market.example@evil.example/items/123",
        "https://user:secret@market.example/items/123",
        "https://market.example:8443/items/123",
        "https://market.example/item/123",
        "https://market.example/items/123/more",
        "https://market.example/items/",
        "https://market.example/items/x-0123456789abcdef01234567",
        "https://market.example/items/%2e%2e",
    ],
)
def test_links_elsewhere_are_digests(link: str) -> None:
    found = listings.listing_of(link, SITE)
    assert not found.on_site
    assert re.fullmatch(r"x-[0-9a-f]{24}", found.listing)
    assert found == listings.listing_of(link, SITE)


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://market.example/items/1",
        "market.example/items/1",
        "/items/1",
        "",
        "https://",
        "https:///items/1",
        "https://market.example/items/1\n",
        "https://market.example/items/\x001",
        "https://market.example/items/1 2",
        "https://[::1/items/1",
        "https://market.example:x/items/1",
        "https://market.example/\u2028",
        "https://market.example/items/" + "a" * 2000,
        "https://x/\ud800",
    ],
)
def test_bad_links_are_refused(link: str) -> None:
    with pytest.raises(Refused) as refused:
        listings.named_by(["https://market.example/items/1", link], SITE)
    assert (refused.value.status, refused.value.field) == (422, "listings[1]")
    assert refused.value.cure


def elsewhere(link: str) -> listings.ListingRef:
    """What a link is that leads to no listing of the site."""
    return listings.ListingRef(f"x-{hashlib.sha256(link.encode()).hexdigest()[:24]}", False, link)


@pytest.mark.parametrize(
    "char",
    [*'"<>\\^`{|}', *"\u202e\u2066\u2069\u200e\u200f\u061c\u200b\ufeff\u00ad\u00a0\u3000\u2028\ue000", "\U000e0041"],
)
@pytest.mark.parametrize(
    "link", ["https://elsewhere.example/{}", "https://elsewhere.example/?a={}", "https://market.example/items/1{}"]
)
def test_links_hold_nothing_that_is_invisible_turned_or_markup(link: str, char: str) -> None:
    with pytest.raises(Refused) as refused:
        listings.named_by([link.replace("{}", char)], SITE)
    assert (refused.value.status, refused.value.reason, refused.value.field) == (422, "bad_link", "listings[0]")
    encoded = link.replace("{}", quote(char))
    assert listings.listing_of(encoded, SITE) == elsewhere(encoded)


def test_letters_of_any_language_may_be_in_a_link() -> None:
    for link in (
        "https://elsewhere.example/Ü/商品?q=آ",
        "https://bücher.example/",
        "https://elsewhere.example/it's(1)*~!$&+,;=@",
    ):
        assert listings.listing_of(link, SITE) == elsewhere(link)


@given(st.text(max_size=60))
def test_a_link_is_understood_or_refused(text: str) -> None:
    for link in (text, f"https://market.example/items/{text}", f"https://{text}/items/1"):
        with contextlib.suppress(Refused):
            found = listings.listing_of(link, SITE)
            assert ID.fullmatch(found.listing)
            assert found.on_site != found.listing.startswith("x-")


PATTERNS = SiteLinks(
    (
        "market.example/{locale}/items/{slug}-{id}.html",
        "market.example/items/{id}",
        "market.example/item?number={id}",
        "market.example/shops/{seller}/{id}",
        "market.example/shops/{seller}",
        "mkt.example/{id}",
        "www.market.example/{id}",
        "{seller}.market.example/items/{id}",
        "{seller}.market.example/",
    )
)


@pytest.mark.parametrize(
    "link",
    [
        "https://market.example/de/items/rote-schuhe-42-123.html",
        "https://market.example/pt-BR/items/t%C3%AAnis-123.html?ref=mail",
        "https://market.example/items/123/",
        "https://market.example/item?ref=mail&number=123",
        "https://market.example/shops/s-7/123",
        "https://mkt.example/123",
        "http://mkt.example/123/",
        "https://annas-shop.market.example/items/123",
        "https://ANNAS-SHOP.market.example./items/123?ref=mail",
    ],
)
def test_links_in_every_form_of_the_site(link: str) -> None:
    assert listings.listing_of(link, PATTERNS) == listings.ListingRef("123", True, link)


@pytest.mark.parametrize(
    "link",
    [
        "https://market.example/deutsch/items/schuhe-123.html",
        "https://market.example/de/items/123.html",
        "https://market.example/de/items/schuhe-123_html",
        "https://market.example/item?number=123&number=124",
        "https://market.example/item?number=",
        "https://market.example/item?number=1%2F2",
        "https://mkt.example/x-0123456789abcdef01234567",
        "https://mkt.example/items/123",
        "https://www.market.example/items/123",
        "https://a.b.market.example/items/123",
        "https://.market.example/items/123",
        "https://annas-shop.market.example.evil.example/items/123",
        "https://annas-shop.mkt.example/123",
        "https://-.market.example/",
        "https://www.market.example/",
    ],
)
def test_links_in_no_form_of_the_site_are_elsewhere(link: str) -> None:
    assert listings.listing_of(link, PATTERNS) == elsewhere(link)


@pytest.mark.parametrize(
    ("link", "seller"),
    [
        ("https://market.example/shops/s-7?page=2", "s-7"),
        ("https://annas-shop.market.example", "annas-shop"),
        ("https://annas-shop.market.example/?page=2", "annas-shop"),
    ],
)
def test_a_shop_says_whose_listings_are_meant_and_is_none(link: str, seller: str) -> None:
    named = listings.named_by(["https://mkt.example/1", link, "https://mkt.example/2", link], PATTERNS)
    assert ([ref.listing for ref in named.listings], named.sellers) == (["1", "2"], (seller,))
    with pytest.raises(Refused) as refused:
        listings.named_by([link, link], PATTERNS)
    assert (refused.value.reason, refused.value.field) == ("shop_link", "listings[0]")
    assert "Name each listing" in (refused.value.cure or "")


def test_a_claim_names_so_many_shops() -> None:
    links = ["https://mkt.example/1", *(f"https://market.example/shops/s-{number}" for number in range(listings.SHOPS))]
    assert len(listings.named_by(links, PATTERNS).sellers) == listings.SHOPS
    with pytest.raises(Refused) as refused:
        listings.named_by([*links, "https://market.example/shops/one-more"], PATTERNS)
    assert (refused.value.reason, refused.value.field) == ("too_many_shops", "listings")


@pytest.mark.parametrize(
    "patterns",
    [
        (),
        ("market.example",),
        ("https://market.example/{id}",),
        ("Market.example/{id}",),
        ("market.example/items",),
        ("market.example/{id}/{id}",),
        ("market.example/{name}",),
        ("market.example/{id}?id={id}",),
        ("market.example/{slug}-{id}",),
        ("market.example/shops/{seller}",),
        ("{seller}.market.example/{id}",),
        ("{id}.market.example/", "market.example/{id}"),
        ("{seller}/{id}", "market.example/{id}"),
        ("{seller}.market.example/shops/{seller}", "market.example/{id}"),
        ("market.example/[a-z]+/{id}",),
    ],
)
def test_patterns_that_are_none_or_write_no_link(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"host/path|may stand in it once|needs"):
        SiteLinks(patterns)


@given(st.from_regex(ID, fullmatch=True).filter(lambda name: not name.startswith("x-")))
def test_a_link_that_is_written_is_read_again(name: str) -> None:
    for site in (SITE, PATTERNS, SiteLinks(("market.example/item?number={id}",))):
        assert listings.listing_of(site.link(name), site).listing == name


def test_a_listing_that_is_named_twice_counts_once() -> None:
    links = ["https://market.example/items/1", "http://market.example/items/1/", "https://market.example/items/2"]
    assert [ref.listing for ref in listings.named_by(links, SITE).listings] == ["1", "2"]


# ---- upstreams


def test_what_an_upstream_may_relay_is_all_that_its_topic_knows() -> None:
    assert {f"goodfaith.request.{name}.v1" for name in get_args(Relayed)} == set(requests.BY_TOPIC)


def test_a_binding_of_an_upstream_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'shop', which is not in GOODFAITH_UPSTREAMS"):
        Settings(upstreams={"crm": "a-crm"}, upstream_may={"shop": BOUND})


@pytest.mark.parametrize(
    ("may", "kind", "account", "field"),
    [
        (None, "decide", "a-up", None),
        (None, "submit_claim", "h-1", "on_behalf_of"),
        (BOUND, "submit_claim", "a-up", None),
        (BOUND, "submit_claim", "h-1", None),
        (BOUND, "withdraw", "s-7", None),
        (BOUND, "withdraw", "s-77", "on_behalf_of"),
        (BOUND, "withdraw", "H-1", "on_behalf_of"),
        (BOUND, "decide", "h-1", "type"),
        (BOUND, "decide", "a-up", "type"),
    ],
)
def test_an_upstream_keeps_to_what_it_is_bound_to(
    may: UpstreamMay | None, kind: str, account: str, field: str | None
) -> None:
    if field is None:
        check_bound(may, "a-up", kind, account)
        return
    with pytest.raises(Refused) as refused:
        check_bound(may, "a-up", kind, account)
    assert (refused.value.status, refused.value.reason, refused.value.field) == (403, "not_bound", field)
    assert "GOODFAITH_UPSTREAM_MAY" in refused.value.cure


# ---- ids


@given(st.integers(0, 2**47), st.integers(1, 300), st.integers(0, 2**65 - 1))
def test_items_of_a_claim_are_a_range(wall_ms: int, size: int, chance: int) -> None:
    claim, items = ids.new_claim_ids(wall_ms, size, lambda _bits: chance)
    low, high = ids.item_range(claim)
    assert len(claim) == 28
    assert len(set(items)) == size
    assert items == sorted(items)
    assert all(low < item < high for item in items)
    other, others = ids.new_claim_ids(wall_ms, 1, lambda _bits: (chance + 1) % 2**65)
    assert other != claim
    assert not low <= others[0] <= high


@given(st.integers(0, 2**47 - 2))
def test_ids_sort_by_time(wall_ms: int) -> None:
    first = ids.new_id("a", wall_ms)
    assert len(first) == 28
    assert first < ids.new_id("a", wall_ms + 1)
    assert ID.fullmatch(first)


# ---- claims


def claim(**values: object) -> requests.SubmitClaim:
    return msgspec.convert(
        {"right": "r-1", "reason": "counterfeit", "listings": ["https://market.example/items/1"], **values},
        requests.SubmitClaim,
    )


def rows(body: requests.SubmitClaim, account: Account = HOLDER, right: Right | None = RIGHT, **values: object) -> Rows:
    contacts = dict.fromkeys((account.id, body.principal), "confirmed")
    options: dict[str, object] = {"granted": (), "over_quota": False, "contacts": contacts, **values}
    return filing_domain.claim_rows(
        body,
        listings.named_by(body.listings, SITE).listings,
        rules=filing_domain.check_claim(body, account),
        complainant=account,
        right=right,
        channel="http",
        now=NOW,
        wall_ms=1,
        **options,  # type: ignore[arg-type]
    )


def terms(made: Rows) -> events.ItemSubmitted:
    assert made.claim is not None
    return msgspec.json.decode(made.claim.terms, type=events.ItemSubmitted)


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (claim(profile="nope"), "profile", "unknown_profile"),
        (claim(reason="nope"), "reason", "unknown_reason"),
        (claim(reason="design"), "reason", "reason_not_for_right"),
        (claim(principal="a-2"), "right", "right_not_owned"),
    ],
)
def test_what_a_claim_needs(body: requests.SubmitClaim, field: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        rows(body)
    assert (refused.value.status, refused.value.field, refused.value.reason) == (422, field, reason)


@pytest.mark.parametrize("contact", ["missing", "unconfirmed"])
@pytest.mark.parametrize(
    ("of", "more", "field"),
    [("a-2", {}, None), ("a-2", {"behalf": True}, "on_behalf_of"), ("a-1", {}, "principal")],
)
def test_the_seller_is_told_whom_to_reach(contact: str, of: str, more: dict[str, object], field: str | None) -> None:
    agent = Account("a-2", "holder", True, False, True)
    options = {"granted": [Authorisation(None, None)], **more}
    contacts = {"a-1": "confirmed", "a-2": "confirmed"}
    assert rows(claim(principal="a-1"), agent, contacts=contacts, **options).items
    known = (
        {**contacts, of: contact} if contact == "unconfirmed" else {who: "confirmed" for who in contacts if who != of}
    )
    with pytest.raises(Refused) as refused:
        rows(claim(principal="a-1"), agent, contacts=known, **options)
    reason = {"missing": "no_contact", "unconfirmed": "contact_unconfirmed"}[contact]
    assert (refused.value.status, refused.value.reason, refused.value.field) == (422, reason, field)
    assert "/v1/contact" in refused.value.cure
    # whoever may not file for the principal learns nothing about it, and a canary tells nobody
    with pytest.raises(Refused, match="not authorised"):
        rows(claim(principal="a-1"), agent, contacts=known)
    assert rows(claim(), Account("a-1", "holder", canary=True), contacts={}).items


def test_the_number_of_listings_is_limited() -> None:
    links = [f"https://market.example/items/{number}" for number in range(300)]
    assert len(rows(claim(listings=links)).items) == 300
    unregistered = Account("a-1", "holder")
    assert len(rows(claim(listings=links[:10]), unregistered).items) == 10
    with pytest.raises(Refused) as refused:
        rows(claim(listings=links[:11]), unregistered)
    assert refused.value.field == "listings"
    with pytest.raises(msgspec.ValidationError, match="listings"):
        claim(listings=[*links, links[0]])


def test_lanes() -> None:
    good = Account("a-1", "holder", True, True, True)
    assert terms(rows(claim(), good)).lane == "express"
    assert terms(rows(claim(), HOLDER)).lane == "standard"
    assert terms(rows(claim(), Account("a-1", "holder"))).lane == "bulk"
    assert terms(rows(claim(), good, over_quota=True)).lane == "bulk"


def test_authority() -> None:
    agent = Account("a-2", "holder", True, False, True)
    body = claim(principal="a-1")
    assert terms(rows(claim())).authority == "owner"
    german = Right("r-1", "a-1", "trademark", "active", None, territory=("DE", "AT"))
    later = NOW + dt.timedelta(seconds=1)
    for right, granted in (
        (RIGHT, Authorisation(None, None)),
        (RIGHT, Authorisation({"r-1"}, later)),
        (RIGHT, Authorisation(None, None, ("FR",))),
        (german, Authorisation(None, None, ("EU",))),
        (german, Authorisation(None, None, ("FR", "AT"))),
    ):
        assert terms(rows(body, agent, right, granted=[granted])).authority == "authorised"
    for right, granted in (
        (RIGHT, None),
        (RIGHT, Authorisation({"r-2"}, None)),
        (RIGHT, Authorisation({"r-1"}, NOW)),
        (german, Authorisation(None, None, ("FR",))),
        (german, Authorisation(None, None, ("BX", "US"))),
    ):
        with pytest.raises(Refused) as refused:
            rows(body, agent, right, granted=[] if granted is None else [granted])
        assert (refused.value.status, refused.value.reason, refused.value.field) == (422, "not_authorised", "principal")
        assert "/v1/authorisations" in refused.value.cure


def test_a_suspended_account_files_nothing() -> None:
    for status in ("suspended", "closed"):
        with pytest.raises(Refused) as refused:
            rows(claim(), Account("a-1", "holder", True, False, True, status))  # type: ignore[arg-type]
        assert (refused.value.status, refused.value.reason) == (403, f"account_{status}")


def test_a_claim_says_the_words_of_the_mark() -> None:
    assert terms(rows(claim(), right=Right("r-1", "a-1", "trademark", "active", None, "ACME"))).mark == "ACME"


def test_a_right_whose_time_has_passed_is_expired() -> None:
    assert terms(rows(claim(), right=Right("r-1", "a-1", "trademark", "active", NOW))).right_status == "expired"
    later = NOW + dt.timedelta(seconds=1)
    assert terms(rows(claim(), right=Right("r-1", "a-1", "trademark", "active", later))).right_status == "active"


def test_what_counts_as_proof() -> None:
    """A right that somebody accepted, and documents. What a complainant merely says is none, but for statements."""
    said = claim(materials=["ownership", "comparison", "signature"])
    assert terms(rows(said, right=replace(RIGHT, status="pending"))).materials == ("signature",)
    assert terms(rows(said)).materials == ("ownership", "signature")
    assert terms(rows(claim(), kinds={"comparison"})).materials == ("comparison", "ownership")
    for profile in policy.profiles():
        rules = policy.current(profile)
        proofs = {kind for reason in rules.reasons.values() for kind in reason.materials} | {"identity", "authority"}
        assert not filing_domain.STATED & proofs


def test_what_is_added_counts_as_proof_if_it_is_a_document() -> None:
    on_file = {"identity_verified": True, "authority": "owner", "right_status": "active", "materials": ("ownership",)}
    body = requests.AddInformation(materials=["comparison", "accuracy"])
    complaint = requests.Complain(materials=["licence"])

    def materials(kind: str, body: requests.In, who: str) -> tuple[str, ...]:
        made = filing_domain.command_rows(
            kind, body, PEOPLE[who], [ITEM], standing=lambda _: on_file, now=NOW, wall_ms=1, kinds={"purchase"}
        )
        return getattr(made.commands[0], "materials")  # noqa: B009

    assert materials("add_information", body, "complainant") == ("accuracy", "ownership", "purchase")
    assert materials("complain", complaint, "complainant") == ("ownership", "purchase")
    # a seller's words prove nothing either, but no rule asks for proof of them
    assert materials("complain", complaint, "seller") == ("licence", "purchase")
    assert materials("counter", requests.Counter(materials=["statement"]), "seller") == ("purchase", "statement")


def test_every_policy_can_be_claimed_under() -> None:
    for profile in policy.profiles():
        reason = next(iter(policy.current(profile).reasons))
        trusted = replace(HOLDER, good_faith=True)
        assert filing_domain.check_claim(claim(profile=profile, reason=reason), trusted).profile == profile


def test_an_installation_takes_claims_under_the_profiles_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("ipp", "dmca"):
        rules = policy.current(named)
        asked = claim(profile=named, reason=next(iter(rules.reasons)))
        assert filing_domain.check_claim(asked, HOLDER, offered=("ipp", named)) is rules
        pinned = {named: f"{named}-2026-11"}
        assert filing_domain.check_claim(asked, HOLDER, pinned, ("ipp", named)).version == f"{named}-2026-11"
        with pytest.raises(Refused) as refused:
            filing_domain.check_claim(asked, HOLDER, pinned, ("cn-ecl", "bpp"))
        told = refused.value
        assert (told.status, told.reason, told.field) == (422, "profile_not_offered", "profile")
        assert told.cure == "Use one of: bpp, cn-ecl."
    with pytest.raises(Refused) as refused:
        filing_domain.check_claim(claim(profile="nope"), HOLDER, offered=("ipp",))
    assert refused.value.cure == "Use one of: ipp.", "it may not be there either"
    assert domain.profiles_offered(()) == policy.profiles()
    assert domain.profiles_offered(("ipp", "dmca", "ipp")) == ("dmca", "ipp")
    with pytest.raises(policy.PolicyError, match="'imp'"):
        domain.profiles_offered(("ipp", "imp"))


def upstream_files(profile: str, **values: Any) -> Filing:
    """A claim that an upstream files for itself."""
    account = Account("a-market", "upstream")
    inbound = Inbound(Settings(upstreams={"x": account.id}, **values), background=False)
    with contextlib.closing(inbound):
        record: Any = SimpleNamespace(topic="inbound.x", trace=None)
        body = claim(profile=profile, reason=next(iter(policy.current(profile).reasons)))
        read = UpstreamRequest("e-1", "goodfaith.request.submit_claim.v1", b"{}", body)
        holder = replace(HOLDER, id=account.id)
        return inbound._filing(record, read, None, {account.id: holder}, NOW)


def test_so_it_does_from_upstreams_and_of_near_copies() -> None:
    assert upstream_files("dmca").rules is policy.current("dmca")
    assert upstream_files("ipp", profiles=("ipp",)).rules is policy.current("ipp")
    with pytest.raises(Refused) as refused:
        upstream_files("dmca", profiles=("ipp",))
    assert (refused.value.reason, refused.value.field) == ("profile_not_offered", "profile")
    made = rows(claim())
    assert made.claim is not None
    old = recurrence.Precedent(msgspec.json.decode(made.claim.terms, type=events.ItemSubmitted), State.UPHELD)
    copy = events.RecurrenceFound(
        item="i-1",
        claim="c-1",
        before="1",
        listing="2",
        right="r-1",
        reason="counterfeit",
        profile="ipp",
    )
    made_of = {"site": SITE, "now": NOW, "pinned": {}}
    assert recurrence.filing(copy, old, HOLDER, RIGHT, **made_of, offered=("ipp",)).rules is policy.current("ipp")
    with pytest.raises(Refused) as refused:
        recurrence.filing(copy, old, HOLDER, RIGHT, **made_of, offered=("dmca",))
    assert refused.value.reason == "profile_not_offered"


def test_a_profile_may_be_for_accounts_in_good_faith_only() -> None:
    with pytest.raises(Refused) as refused:
        filing_domain.check_claim(claim(profile="project-zero"), HOLDER)
    assert (refused.value.reason, refused.value.field) == ("good_faith_only", "profile")


# ---- commands

ITEM = ItemRef("i-1", "c-1", "l1", "a-1", "a-9", "s-1", "r-1", "NOTIFIED", "standard")
BODIES = {
    "add_information": {},
    "withdraw": {"ground": "error"},
    "accept": {},
    "counter": {"materials": ["statement"]},
    "respond": {"accept": True},
    "report_action": {"proof": "d-1"},
    "report_result": {"outcome": "ended"},
    "complain": {},
    "decide": {"decision": "uphold"},
}
PEOPLE = {
    "complainant": HOLDER,
    "principal": Account("a-9", "holder"),
    "other": Account("a-3", "holder"),
    "seller": Account("s-1", "seller"),
    "other seller": Account("s-2", "seller"),
    "reviewer": Account("v-1", "reviewer"),
    "operator": Account("o-1", "operator"),
    "upstream": Account("u-1", "upstream"),
}


@pytest.mark.parametrize("kind", sorted(BODIES))
@pytest.mark.parametrize("who", sorted(PEOPLE))
def test_who_may_give_a_command(kind: str, who: str) -> None:
    part = {
        "complainant": "holder",
        "principal": "holder",
        "seller": "seller",
        "reviewer": "reviewer",
        "operator": "operator",
    }.get(who)
    body = msgspec.convert(BODIES[kind], requests.COMMANDS[kind])
    asked = {"identity_verified": True, "authority": "owner", "right_status": "active", "materials": ("ownership",)}

    def make() -> Rows:
        return filing_domain.command_rows(kind, body, PEOPLE[who], [ITEM], standing=lambda _: asked, now=NOW, wall_ms=1)

    if part is None:
        with pytest.raises(Refused) as refused:
            make()
        assert refused.value.status == 404
    elif part not in commands.MAY[kind]:
        with pytest.raises(Refused) as refused:
            make()
        assert refused.value.status == 403
    else:
        (command,) = make().commands
        assert type(command) is events.COMMANDS[kind]
        assert (command.item, command.listing, command.by, command.role) == ("i-1", "l1", PEOPLE[who].id, part)
        assert msgspec.json.decode(msgspec.json.encode(command), type=type(command)) == command


def test_every_command_of_a_party_is_covered() -> None:
    assert set(BODIES) == set(requests.COMMANDS) == set(commands.MAY) == set(events.COMMANDS) - {"change_right"}


def test_a_seller_commands_only_its_own_items_of_a_claim() -> None:
    theirs = ItemRef("i-2", "c-1", "l2", "a-1", "a-1", "s-2", "r-1", "NOTIFIED", "standard")
    part, targets = commands.command_targets("counter", PEOPLE["seller"], [ITEM, theirs])
    assert (part, targets) == ("seller", [ITEM])


# ---- contacts


def changed(**values: object) -> ItemChanged:
    return msgspec.convert(
        {
            "item": "i-1",
            "claim": "c-1",
            "claim_size": 1,
            "listing": "l1",
            "complainant": "a-1",
            "principal": "a-1",
            "right": "r-1",
            "right_type": "trademark",
            "reason": "counterfeit",
            "profile": "ipp",
            "policy": "p",
            "revision": 1,
            "state": "RECEIVED",
            "rule": "1",
            "received_at": NOW,
            **values,
        },
        ItemChanged,
    )


def test_contacts_are_released_by_the_life_cycle() -> None:
    before = {
        State.RECEIVED,
        State.DUPLICATE,
        State.LINK_INVALID,
        State.NEEDS_INFO,
        State.LAPSED,
        State.UNDER_REVIEW,
        State.REJECTED,
    }
    for state in before:
        assert domain.told(changed(state=state)) == 0
    assert domain.told(changed(state=State.NOTIFIED)) == 1
    assert domain.told(changed(state=State.COUNTERED)) == 1
    assert domain.told(changed(state=State.HOLDER_RESPONSE)) == 2
    assert domain.told(changed(state=State.RESTORED, via=(State.HOLDER_RESPONSE,))) == 2
    assert domain.told(changed(state=State.WITHDRAWN)) == 0
    assert domain.told(changed(state=State.WITHDRAWN, noticed_at=NOW)) == 1
    assert domain.told(changed(state=State.UNDER_REVIEW, via=(State.RECEIVED,))) == 0


# ---- shares


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50)), max_size=20), st.integers(0, 200))
def test_room_is_shared_out_evenly(waiting: list[tuple[str, int]], room: int) -> None:
    sizes = share_out(waiting, room)
    assert all(0 <= size <= count for size, (_, count) in zip(sizes, waiting, strict=True))
    assert sum(sizes) == min(room, sum(count for _, count in waiting))
    taken: dict[str, int] = {}
    totals: dict[str, int] = {}
    for size, (name, count) in zip(sizes, waiting, strict=True):
        taken[name] = taken.get(name, 0) + size
        totals[name] = totals.get(name, 0) + count
    hungry = [taken[name] for name in taken if taken[name] < totals[name]]
    # nobody who still waits has got more than one row less than anybody
    assert all(max(taken.values(), default=0) - least <= 1 for least in hungry)


@given(st.lists(st.sampled_from(["all", "express", "standard", "bulk"]), min_size=50, max_size=200), st.integers(1, 40))
def test_lanes_get_their_weight(rounds: list[str], room: int) -> None:
    shares = Shares({"express": 8, "standard": 3, "bulk": 1})
    got = dict.fromkeys(domain.LANES, 0)
    count = 0
    for waiting in rounds:
        lanes = domain.LANES if waiting == "all" else (waiting,)
        split = shares.split(room, lanes)  # type: ignore[arg-type]
        assert sum(split.values()) <= room
        for lane, size in split.items():
            shares.took(lane, size, exhausted=False)
            if waiting == "all":
                got[lane] += size
        count += waiting == "all"
    for lane, weight in (("express", 8), ("standard", 3), ("bulk", 1)):
        # bulk never starves; nobody is off by more than what one round carries over
        assert got[lane] >= count * room * weight / 12 - room - 1  # type: ignore[index]


def test_a_paused_lane_gets_its_share_of_what_the_open_ones_get() -> None:
    shares = Shares({"express": 8, "standard": 3, "bulk": 1})
    taken = 0
    for _ in range(80):
        size = shares.paused("bulk", 10, ["express"])
        shares.took("bulk", size, exhausted=False)
        taken += size
    assert taken == 100


def test_a_policy_tells_rights_in_no_register_apart() -> None:
    body = claim(reason="pirated_product")
    rules = filing_domain.check_claim(body, HOLDER)
    closed = msgspec.structs.replace(rules.reasons["pirated_product"], unregistered=False)
    strict = msgspec.structs.replace(rules, reasons={**rules.reasons, "pirated_product": closed})

    def terms(rules: policy.Policy, *, registered: bool) -> events.ItemSubmitted:
        made = filing_domain.claim_rows(
            body,
            listings.named_by(body.listings, SITE).listings,
            rules=rules,
            complainant=HOLDER,
            right=Right("r-1", "a-1", "copyright", "active", registered=registered),
            granted=(),
            contacts={HOLDER.id: "confirmed"},
            over_quota=False,
            channel="http",
            now=NOW,
            wall_ms=1,
        )
        assert made.claim is not None
        return msgspec.json.decode(made.claim.terms, type=events.ItemSubmitted)

    assert [terms(rules, registered=registered).right_registered for registered in (True, False)] == [True, False]
    assert terms(strict, registered=True).right_registered
    with pytest.raises(Refused) as refused:
        terms(strict, registered=False)
    assert (refused.value.reason, refused.value.field) == ("right_unregistered", "reason")
