"""The story of a right holder, chapter by chapter: each acts, waits for the result, and tells what was observed."""

from __future__ import annotations

import datetime as dt
import io
import re
from dataclasses import dataclass, field
from typing import Any

from labs.tour.guide import Tour, must

GOODS = ("shirt", "mug", "scarf", "lamp", "cushion", "poster", "bag", "clock")
COUNTER = {"materials": ["identity", "statement"]}
DAY = dt.timedelta(days=1)


@dataclass
class HolderStory:
    """The accounts, right and claim that the chapters share."""

    owl: str = ""
    """The holder's account."""
    right: str = ""
    claim: str = ""
    sellers: tuple[str, ...] = ("s-anna", "s-ben", "s-cleo")
    reviewers: tuple[str, ...] = ("r-rita", "r-ron", "r-rose")
    by_listing: dict[str, str] = field(default_factory=dict)
    """Listing -> item of the claim."""


def tell(tour: Tour) -> None:
    """Tell the whole story."""
    cast = HolderStory()
    for name in cast.reviewers:
        tour.account(name, "reviewer")
    for name in cast.sellers:
        tour.account(name, "seller")
    joins(tour, cast)
    registers(tour, cast)
    claims(tour, cast)
    decide(tour, cast)
    counters(tour, cast)
    silence(tour, cast)
    appeal(tour, cast)
    returns(tour, cast)
    good_faith(tour, cast)
    agent(tour, cast)


def joins(tour: Tour, cast: HolderStory) -> None:
    """An account from applied to verified."""
    tour.chapter("A holder joins")
    cast.owl = tour.opens()
    tour.contact(cast.owl, "owl")
    must(tour.call(cast.owl, "GET", "/v1/me")["state"] == "applied", "the account is not new")
    tour.call(cast.owl, "POST", "/v1/contact/code", expect=202)
    (text,) = tour.until("Owl has the code by mail", lambda: tour.mails("owl", "Confirm your e-mail"))
    code = re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", text)
    assert code is not None
    me = tour.call(cast.owl, "POST", "/v1/contact/confirmation", {"code": code[0]})
    tour.say(f"Owl opens an account, and confirms its address with the code that came by e-mail: `{me['state']}`.")
    passport = tour.call(cast.owl, "POST", "/v1/evidence?kind=identity", _page("PASSPORT  OWL"), expect=201)["id"]
    tour.call(cast.owl, "POST", "/v1/me/evidence", {"evidence": [passport]})
    verdict = {"identity_verified": True, "documents": [passport]}
    tour.call("r-rita", "POST", f"/v1/accounts/{cast.owl}/verify", verdict)
    me = tour.call(cast.owl, "GET", "/v1/me")
    tour.say(
        f"It uploads a passport, and a reviewer looks at it: `{me['state']}`. In good faith: {'yes' if me['good_faith'] else 'not yet'}."
    )


def registers(tour: Tour, cast: HolderStory) -> None:
    """A number that is refused, and its cure."""
    tour.chapter("A trade mark is registered")
    body: dict[str, Any] = {
        "right_type": "trademark",
        "register": "us",
        "number": "97 123 456",
        "mark": "Owl and Moon",
        "classes": ["18", "25"],
        "expires_at": "2027-03-01T00:00:00Z",
    }
    refused = tour.call(cast.owl, "POST", "/v1/rights", body, expect=422)
    tour.say(f"The number `97 123 456` is refused ({refused['field']}): {refused['detail']} {refused['cure']}")
    right = tour.call(cast.owl, "POST", "/v1/rights", {**body, "number": "5,123,456"})
    cast.right = right["id"]
    tour.say(
        f"With the registration number it is accepted as `{right['number']}`, and is `{right['status']}`: a certificate is missing."
    )
    certificate = _page("CERTIFICATE OF REGISTRATION  5,123,456")
    document = tour.call(cast.owl, "POST", "/v1/evidence?kind=ownership", certificate, expect=201)
    named = tour.call(cast.owl, "POST", f"/v1/rights/{cast.right}/evidence", {"evidence": [document["id"]]})
    must(named is not None, "the certificate was not named")
    right = tour.call(cast.owl, "GET", f"/v1/rights/{cast.right}")
    must(right["pending_reason"] == "proof_unseen", "the certificate does not wait for a reviewer")
    tour.say(
        f"Owl uploads the certificate (a picture, {document['media_type']}) and names it in the right: still `{right['status']}`."
    )
    accepted = {"accept": True, "documents": [document["id"]]}
    tour.call("r-rita", "POST", f"/v1/rights/{cast.right}/decision", accepted, expect=200)
    right = tour.call(cast.owl, "GET", f"/v1/rights/{cast.right}")
    must(right["status"] == "active", "the right is not in force")
    tour.say(f"A reviewer looks at the certificate, and accepts it: `{right['status']}`.")


def _page(text: str) -> bytes:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (420, 300), "white")
    ImageDraw.Draw(picture).text((40, 130), text, fill="black")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _down(tour: Tour, cast: HolderStory) -> bool:
    """Whether all notified items are handled, and have a window that ends."""
    return all(item["handled_at"] and item["due"] for item in tour.items(cast.claim, "NOTIFIED"))


def claims(tour: Tour, cast: HolderStory) -> None:
    """120 listings, and what triage makes of them."""
    tour.chapter("A claim against 120 listings")
    links: list[str] = []
    for index, seller in enumerate(cast.sellers):
        numbers = range(index * 40, index * 40 + 40)
        titles = {f"tour-{n}": f"Owl and Moon {GOODS[n % 8]} {n}" if n % 6 else f"Jug {n}" for n in numbers}
        links += tour.offer(seller, titles)
    answer = tour.file(cast.owl, cast.right, links)
    cast.claim = answer["claim"]
    cast.by_listing = {pair["listing"]: pair["item"] for pair in answer["items"]}
    tour.say(
        f"Owl claims {len(answer['items'])} listings of three sellers as `counterfeit`, under its one right. The claim goes to"
        f" the lane `{answer['lane']}`."
    )
    tour.reach(cast.claim, NOTIFIED=100, UNDER_REVIEW=20)
    tour.until("what is down has a due time", lambda: _down(tour, cast))
    upheld, unsure = (
        tour.items(cast.claim, "NOTIFIED")[0]["triage"],
        tour.items(cast.claim, "UNDER_REVIEW")[0]["triage"],
    )
    tour.say(
        f"100 are upheld at once, prima facie: their titles have the mark (score {upheld['score']}: {_rules(upheld)}). They are"
        " taken down, and each seller gets one message for all of its listings, with Owl's contact data."
    )
    tour.say(
        f"20 titles do not have the mark: score {unsure['score']} ({_rules(unsure)}). A person decides about these."
    )
    tour.until(
        "each seller has one notice by mail",
        lambda: all(len(tour.mails(seller, "Notice of")) == 1 for seller in cast.sellers),
        seen=lambda: {seller: len(tour.mails(seller, "Notice of")) for seller in cast.sellers},
    )


def _rules(triage: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {weight:+d}" for name, weight in triage["rules"].items()) or "nothing fired"


def decide(tour: Tour, cast: HolderStory) -> None:
    """Leases, refusals with a cure, and decisions by two reviewers."""
    rita, ron, _ = cast.reviewers
    tour.chapter("Reviewers decide")
    lease, items = tour.lease(rita, cast.claim, "UNDER_REVIEW", 20)
    tour.say("Rita leases the 20 cases. During the lease they are not offered to anyone else.")
    for item in items[:5]:
        tour.do(rita, item, "decision", {"decision": "refuse", "code": "not_infringing", "lease": lease})
    tour.reach(cast.claim, NOTIFIED=100, UNDER_REVIEW=15, REJECTED=5)
    refused = tour.call(cast.owl, "GET", f"/v1/items/{items[0]}")
    tour.say(f"She refuses 5 as `{refused['code']}`. Owl gets the cure: {refused['cure']}")
    for item in items[5:]:
        tour.do(rita, item, "decision", {"decision": "uphold", "lease": lease})
    tour.say(
        "She wants to uphold 15. Counterfeits are serious, so her decision is only a proposal: the listings stay up for now."
    )
    must(tour.states(cast.claim)["UNDER_REVIEW"] == 15, "a proposal has taken effect")
    lease, items = tour.lease(ron, cast.claim, "UNDER_REVIEW", 15)
    for item in items:
        tour.do(ron, item, "decision", {"decision": "uphold", "lease": lease})
    tour.reach(cast.claim, NOTIFIED=115, REJECTED=5)
    tour.until("what is down has a due time", lambda: _down(tour, cast))
    in_time = sum(item["sla"] == "met" for item in tour.items(cast.claim))
    tour.say(
        f"Ron, who does not see her proposals, decides the same, so the 15 are taken down too. Handled within 24 hours:"
        f" {in_time} of 120."
    )


def counters(tour: Tour, cast: HolderStory) -> None:
    """A seller counters; the holder answers; the platform decides."""
    rita, ron, _ = cast.reviewers
    anna = cast.sellers[0]
    tour.chapter("A seller counters, the holder rejects, the platform decides")
    items = [item["id"] for item in tour.items(cast.claim, "NOTIFIED") if item["seller"] == anna][:4]
    for item in items:
        tour.do(anna, item, "counter", COUNTER)
    tour.reach(cast.claim, NOTIFIED=111, REJECTED=5, HOLDER_RESPONSE=4)
    tour.until("Owl has the counter by mail", lambda: tour.mails("owl", "counter-notification"))
    tour.say(
        "Anna counters 4, with all required elements. Owl gets the counter-notification with Anna's contact data, and may"
        " accept or reject it."
    )
    tour.applied(tour.do(cast.owl, items[0], "response", {"accept": True}))
    for item in items[1:]:
        tour.applied(tour.do(cast.owl, item, "response", {"accept": False}))
    tour.reach(cast.claim, NOTIFIED=111, REJECTED=5, RESTORED=1, PLATFORM_REVIEW=3)
    tour.say("Owl accepts 1, and the listing is back. It rejects 3, and the platform decides.")
    lease, cases = tour.lease(rita, cast.claim, "PLATFORM_REVIEW", 3)
    tour.applied(tour.do(rita, cases[0], "decision", {"decision": "restore", "lease": lease}))
    for item in cases[1:]:
        tour.do(rita, item, "decision", {"decision": "uphold", "lease": lease})
    lease, cases = tour.lease(ron, cast.claim, "PLATFORM_REVIEW", 2)
    for item in cases:
        tour.do(ron, item, "decision", {"decision": "uphold", "lease": lease})
    tour.reach(cast.claim, NOTIFIED=111, REJECTED=5, RESTORED=2, UPHELD_AFTER_COUNTER=2)
    tour.say("Rita restores 1. About the other 2, she and Ron agree that the claim stands.")


def silence(tour: Tour, cast: HolderStory) -> None:
    """Accepted, or by default."""
    ben = cast.sellers[1]
    tour.chapter("Silence")
    items = [item for item in tour.items(cast.claim, "NOTIFIED") if item["seller"] == ben][:6]
    for item in items:
        tour.do(ben, item["id"], "accept")
    tour.reach(cast.claim, NOTIFIED=105, REJECTED=5, RESTORED=2, UPHELD_AFTER_COUNTER=2, UPHELD=6)
    due = max(dt.datetime.fromisoformat(item["due"]) for item in tour.items(cast.claim, "NOTIFIED"))
    tour.to(due + dt.timedelta(minutes=1))
    tour.reach(cast.claim, UPHELD_BY_DEFAULT=105, REJECTED=5, RESTORED=2, UPHELD_AFTER_COUNTER=2, UPHELD=6)
    tour.say(
        "Ben accepts 6. The sellers do not answer about the others: three working days after the notice was sent, 105 are"
        " upheld by default."
    )
    tour.until(
        "the three shops are frozen",
        lambda: all(tour.under(seller) == ["frozen"] for seller in cast.sellers),
        seen=lambda: {seller: tour.under(seller) for seller in cast.sellers},
    )
    tour.say(
        "One claim is one violation, however many listings it names: each of the three sellers has one strike. The marketplace"
        " freezes their shops until the strike expires or is reversed."
    )


def appeal(tour: Tour, cast: HolderStory) -> None:
    """A second decision, by another reviewer."""
    rose = cast.reviewers[2]
    cleo = cast.sellers[2]
    tour.chapter("An appeal reverses")
    item = next(i for i in tour.items(cast.claim, "UPHELD_BY_DEFAULT") if i["seller"] == cleo)
    tour.applied(tour.do(cleo, item["id"], "complaint", {"materials": ["licence"]}))
    must(not tour.shows(item["listing"]), "the listing is up during the appeal")
    tour.say(
        "Cleo appeals against one, with a licence. Nothing changes until a reviewer decides who has not decided before."
    )
    lease, _ = tour.lease(rose, cast.claim, "APPEALED", 1)
    tour.applied(tour.do(rose, item["id"], "decision", {"decision": "reverse", "code": "new_evidence", "lease": lease}))
    tour.until(f"{item['listing']} shows again", lambda: tour.shows(item["listing"]))
    told = tour.until(
        "Cleo has the new decision by mail",
        lambda: [text for text in tour.mails(cleo, "outcome") if "new evidence" in text],
    )
    must(len(told) == 1, "told once")
    tour.say(
        "Rose reverses it: the hold is lifted, and both sides get the reason. The strike stays, for the other listings of the claim."
    )


def returns(tour: Tour, cast: HolderStory) -> None:
    """A near copy of an upheld listing (row 20)."""
    ben = cast.sellers[1]
    tour.chapter("A listing returns under another number")
    old = next(
        i for i in tour.items(cast.claim, "UPHELD") if i["seller"] == ben and int(i["listing"].split("-")[1]) % 6
    )
    number = int(old["listing"].split("-")[1])
    tour.offer(ben, {"tour-again": f"OWL AND MOON {GOODS[number % 8]}, {number}"})
    claim = tour.until(
        "the near copy is claimed",
        lambda: next((c for c in tour.call(cast.owl, "GET", "/v1/claims")["items"] if c["id"] != cast.claim), None),
    )
    tour.reach(claim["id"], UNDER_REVIEW=1)
    (item,) = tour.items(claim["id"])
    must(item["recurs"] == old["id"], "the new item is not linked to the old")
    tour.say(
        "Ben lists one of the upheld goods again. The system recognises it, and claims it for Owl as a new item that is linked"
        " to the old one. A person decides about it."
    )
    tour.applied(tour.do(cast.owl, item["id"], "withdraw", {"ground": "licensed"}))
    tour.say("Owl has licensed Ben meanwhile, and withdraws the claim.")


def good_faith(tour: Tour, cast: HolderStory) -> None:
    """The statistic, and the entry into the mechanism."""
    tour.chapter("Good faith")
    figures = tour.call(cast.owl, "GET", "/v1/good-faith")["figures"]["overall"]
    tour.say(
        f"Owl's figures: {figures['settled']} settled, {figures['upheld']} upheld, {figures['restored']} of"
        f" {figures['taken_down']} takedowns undone by a counter or an appeal."
    )
    tour.pass_days(1)
    standing = tour.until(
        "Owl is in the mechanism", lambda: (s := tour.call(cast.owl, "GET", "/v1/good-faith"))["member"] and s
    )
    tour.until("Owl has the news by mail", lambda: tour.mails("owl", "good faith") or tour.mails("owl", "good-faith"))
    tour.say(
        f"They are judged on the next business day: for every reason, a takedown rate of at least"
        f" {standing['figures']['takedown_rate']} and at most {standing['figures']['counter_rate']} successful counters. Owl is"
        f" in the good-faith mechanism, by {standing['how']}."
    )


def authorise(tour: Tour, cast: HolderStory, agent: str, **values: str) -> None:
    """Owl authorises an agent, which consents."""
    asked = tour.call(cast.owl, "POST", "/v1/authorisations", {"agent": agent, "rights": [cast.right], **values})
    tour.call(agent, "POST", f"/v1/authorisations/{asked['id']}/consent", {"accept": True})


def agent(tour: Tour, cast: HolderStory) -> None:
    """An agent who is refused, authorised, suspended, and authorised again."""
    tour.chapter("An agent's authorisation expires")
    fox = tour.account("h-fox", "holder")
    links = tour.offer(cast.sellers[2], {f"late-{n}": f"Owl and Moon raincoat {n}" for n in range(3)})
    refused = tour.call(
        fox,
        "POST",
        "/v1/claims",
        {"right": cast.right, "reason": "counterfeit", "listings": links, "principal": cast.owl},
        expect=422,
    )
    tour.say(f"Fox files a claim for Owl, and intake refuses it: {refused['detail']} {refused['cure']}")
    until = tour.day + 2 * DAY
    authorise(tour, cast, fox, expires_at=until.isoformat())
    claim = tour.file(fox, cast.right, links, principal=cast.owl)["claim"]
    tour.reach(claim, NOTIFIED=3)
    tour.until("each item has a due time", lambda: all(item["due"] for item in tour.items(claim)))
    tour.to(until + dt.timedelta(minutes=1))
    tour.reach(claim, SUSPENDED=3)
    tour.say(
        "Owl authorises Fox for two days. Fox consents, and files. When the authorisation ends, the 3 open items are suspended: their"
        " deadlines stand still."
    )
    authorise(tour, cast, fox)
    tour.reach(claim, NOTIFIED=3)
    tour.say("Owl authorises Fox again, and the items go on with the time that was left.")
