"""The life cycle of domain.md (rows 1-18, 21, 22) as stories, over HTTP, on the real fleet; the clock is stepped.

What a story shows is seen from outside: the API, the listing's page, the mailbox, and the penalty ledger.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.world import COMPLETE, DAY, HOUR, SITE, Claim, World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def proved(world: World) -> Iterator[None]:
    """All that the stories have left behind agrees."""
    yield
    world.verify()


@pytest.fixture(scope="module")
def owl(world: World) -> str:
    """A verified right holder."""
    return world.account("h-owl")


@pytest.fixture(scope="module")
def mark(world: World, owl: str) -> str:
    """Its trademark."""
    return world.right(owl)


def at(moment: str) -> dt.datetime:
    return dt.datetime.fromisoformat(moment)


def test_the_seller_accepts(world: World, owl: str, mark: str) -> None:
    """Rows 1, 5, 7, 8: from the filing to a takedown that nobody disputes; what each party is told."""
    seller = world.account("s-anna", "seller")
    links = world.offer(seller, "anna-1")
    claim = world.file(owl, mark, links)
    (item,) = claim.items
    assert world.call(owl, "GET", f"/v1/claims/{claim.id}")["size"] == 1  # an accepted claim is there at once
    shown = world.notified(item)
    assert (shown["seller"], shown["sla"], shown["settled"]) == (seller, "met", False)
    assert world.page("anna-1") == 410
    (notice,) = world.until(lambda: world.mails(seller, claim))
    for part in (
        "Nomen h-owl Privatum",
        "7 h-owl Secret Lane",
        "h-owl@private.example",
        "/items/anna-1",
        "Counterfeit goods",
    ):
        assert part in notice
    assert "agent" not in notice
    (receipt,) = world.until(lambda: world.mails(owl, claim, "received"))
    assert "s-anna" not in receipt  # the seller's data are not released before a counter

    inbox = world.call(seller, "GET", "/v1/inbox")["items"]
    assert [(message["kind"], message["items"]) for message in inbox] == [("seller_notice", [item])]
    assert [(c["part"], c["email"]) for c in inbox[0]["contacts"]] == [("complainant", "h-owl@private.example")]

    world.do(seller, item, "accept")
    assert world.reach(item, "UPHELD", upheld=True, settled=True)["due"] is None
    assert world.page("anna-1") == 410
    world.until(lambda: world.ledger(seller) == [("serious", "violation", 1)])
    assert world.refused(seller, item, "accept")
    world.until(lambda: len(world.mails(seller, claim)) == 2 and len(world.mails(owl, claim)) == 2)


def test_counters_and_how_they_end(world: World, owl: str, mark: str) -> None:
    """Rows 9-15 and 17: by default, countered, sent back, accepted, rejected, silence, and nobody decides."""
    seller = world.account("s-ben", "seller")
    names = [f"ben-{number}" for number in range(6)]
    claim = world.file(owl, mark, world.offer(seller, *names), reason="improper_use")
    default, accepted, upheld, restored, silent, defective = claim.items
    windows = [world.notified(item)["due"] for item in claim.items]
    assert len(world.until(lambda: world.mails(seller, claim))) == 1  # one message, not one an item

    for item in (accepted, upheld, restored, silent):
        world.do(seller, item, "counter", COMPLETE)
    world.do(seller, defective, "counter", {"materials": ["identity"]})
    # row 11: back where it was, with the time to file again; and filed again it is complete
    sent_back = world.reach(defective, "NOTIFIED", missing=["statement"], due=...)
    assert at(sent_back["due"]) >= at(windows[5])
    assert world.until(lambda: world.mails(seller, claim, "incomplete"))
    world.do(seller, defective, "counter", COMPLETE)
    for item in (accepted, upheld, restored, silent, defective):
        world.reach(item, "HOLDER_RESPONSE", due=...)
    told = world.until(lambda: world.mails(owl, claim, "counter-notification"))
    assert "s-ben@private.example" in told[0]
    assert "7 s-ben Secret Lane" in told[0]
    assert world.refused(owl, default, "response", {"accept": True})  # there is no counter

    world.do(owl, accepted, "response", {"accept": True})
    world.do(owl, defective, "response", {"accept": True})
    world.do(owl, upheld, "response", {"accept": False})
    world.do(owl, restored, "response", {"accept": False})
    for item, name in ((accepted, names[1]), (defective, names[5])):
        world.reach(item, "RESTORED", held=False, settled=True)
        world.until(lambda name=name: world.page(name) == 200)
    for item in (upheld, restored):
        world.reach(item, "PLATFORM_REVIEW")
    world.do("r-rita", upheld, "decision", {"decision": "uphold"})
    world.do("r-rita", restored, "decision", {"decision": "restore"})
    world.reach(upheld, "UPHELD_AFTER_COUNTER", upheld=True)
    world.reach(restored, "RESTORED")
    world.until(lambda: world.page(names[3]) == 200)
    assert world.page(names[2]) == 410
    world.until(lambda: world.ledger(seller) == [("general", "violation", 0)])  # a first violation costs nothing

    # the seller's silence, and the holder's: each as of its own deadline
    due = world.item(silent)["due"]
    world.past(max(windows[0], due))
    world.reach(default, "UPHELD_BY_DEFAULT", upheld=True)
    change = next(c for c in world.timeline(claim, default) if c["what"] == "upheld_by_default")
    assert (change["at"], change["by"]) == (windows[0], "system")
    review = world.reach(silent, "PLATFORM_REVIEW", due=...)
    world.past(review["due"])
    world.until(lambda: any(c["what"] == "overdue" for c in world.timeline(claim, silent)))
    grace = world.reach(silent, "PLATFORM_REVIEW", due=...)
    world.past(grace["due"])
    world.reach(silent, "RESTORED")  # policy.overdue_decision: in doubt for the seller
    world.until(lambda: world.page(names[4]) == 200)

    # row 10: late, once; the holder accepts, and the penalty is reversed once the claim's last violation has gone
    for item in (default, upheld):
        world.do(seller, item, "counter", COMPLETE)
        world.reach(item, "HOLDER_RESPONSE", due=...)
        world.do(owl, item, "response", {"accept": True})
        world.reach(item, "RESTORED")
    world.until(lambda: [entry[1] for entry in world.ledger(seller)] == ["violation", "reversal"])
    for name in names:
        assert world.until(lambda name=name: world.page(name) == 200)
    assert world.refused(seller, default, "counter", COMPLETE)  # a final state stays final


def test_each_side_reads_what_the_other_says_when_it_is_released(world: World, owl: str, mark: str) -> None:
    """Rows 7, 11, 12, 14, 17, 19: explanation, counter, response and complaint, in the parties' own words."""
    seller = world.account("s-sue", "seller")
    links = world.offer(seller, "sue-1")
    claim = world.file(owl, mark, links, reason="improper_use", explanation="The label is ours.")
    (item,) = claim.items

    def said(who: str) -> list[tuple[str, str]]:
        page = world.call(who, "GET", f"/v1/claims/{claim.id}/texts")
        return [(text["kind"], text["text"]) for text in page["items"]]

    explained = ("explanation", "The label is ours.")
    world.notified(item)
    assert said(seller) == [explained]
    world.do(seller, item, "counter", {"materials": ["identity"], "text": "Not finished"})
    world.reach(item, "NOTIFIED", missing=["statement"], due=...)
    world.do(seller, item, "counter", {**COMPLETE, "text": "It is a reference."})
    world.reach(item, "HOLDER_RESPONSE", due=...)
    assert said(owl) == [explained, ("counter", "It is a reference.")], "not the one that was sent back"
    assert said("r-rita") == [explained, ("counter", "Not finished"), ("counter", "It is a reference.")]
    world.do(owl, item, "response", {"accept": False, "text": "It is not."})
    world.reach(item, "PLATFORM_REVIEW")
    assert ("response", "It is not.") not in said(seller)
    world.do("r-rita", item, "decision", {"decision": "restore"})
    world.reach(item, "RESTORED")
    assert ("response", "It is not.") in said(seller)
    world.do(owl, item, "complaint", {"text": "Look again."})
    world.reach(item, "APPEALED")
    assert ("complaint", "Look again.") in said("r-rita")
    assert ("complaint", "Look again.") not in said(seller)


def test_penalties_are_reversed_when_the_counter_succeeds(world: World, owl: str, mark: str) -> None:
    """Rows 9, 10, 13: a strike by default, and its reversal; withdrawn as settled the strike stays (row 18)."""
    seller = world.account("s-cleo", "seller")
    lost = world.file(owl, mark, world.offer(seller, "cleo-1"))
    world.past(world.notified(lost.items[0])["due"])
    world.reach(lost.items[0], "UPHELD_BY_DEFAULT")
    world.until(lambda: world.ledger(seller) == [("serious", "violation", 1)])
    world.until(lambda: world.under(seller) == ["frozen"])
    world.do(seller, lost.items[0], "counter", COMPLETE)
    world.reach(lost.items[0], "HOLDER_RESPONSE")
    world.do(owl, lost.items[0], "response", {"accept": True})
    world.reach(lost.items[0], "RESTORED")
    world.until(lambda: world.page("cleo-1") == 200)
    world.until(lambda: world.ledger(seller) == [("serious", "violation", 1), ("serious", "reversal", -1)])
    world.until(lambda: world.under(seller) == [])

    settled = world.file(owl, mark, world.offer(seller, "cleo-2"))
    wrong = world.file(owl, mark, world.offer(seller, "cleo-3"), reason="improper_use")
    for claim in (settled, wrong):
        world.notified(claim.items[0])
        world.do(seller, claim.items[0], "accept")
        world.reach(claim.items[0], "UPHELD")
    world.until(lambda: len(world.ledger(seller)) == 4)
    world.do(owl, settled.items[0], "withdraw", {"ground": "settled"})
    world.do(owl, wrong.items[0], "withdraw", {"ground": "error"})
    for claim, page in ((settled, "cleo-2"), (wrong, "cleo-3")):
        world.reach(claim.items[0], "WITHDRAWN", held=False)
        world.until(lambda page=page: world.page(page) == 200)
    world.until(lambda: len(world.ledger(seller)) == 5)
    assert sum(points for ledger, _, points in world.ledger(seller) if ledger == "serious") == 1
    assert sum(points for ledger, _, points in world.ledger(seller) if ledger == "general") == 0


def test_reviewers_decide_under_leases(world: World, owl: str, mark: str) -> None:
    """Rows 14, 17 by people: an uphold that carries a strike needs two who agree, a restoration one."""
    for name in ("r-ann", "r-ben"):
        if name not in world.tokens:
            world.account(name, "reviewer")
    seller = world.account("s-lea", "seller")
    claim = world.file(owl, mark, world.offer(seller, "lea-1", "lea-2"))
    for item in claim.items:
        world.notified(item)
        world.do(seller, item, "counter", COMPLETE)
        world.reach(item, "HOLDER_RESPONSE", due=...)
        world.do(owl, item, "response", {"accept": False})
        world.reach(item, "PLATFORM_REVIEW")
    down, back = claim.items
    lease = world.lease("r-ann", claim, 2)
    assert world.call("r-ben", "POST", "/v1/review/lease", {"claim": claim.id})["cases"] == []
    stolen = {"decision": "restore", "lease": lease}
    assert world.call("r-ben", "POST", f"/v1/items/{down}/decision", stolen, expect=409)["field"] == "lease"
    world.do("r-ann", back, "decision", {"decision": "restore", "lease": lease})
    proposed = world.call("r-ann", "POST", f"/v1/items/{down}/decision", {"decision": "uphold", "lease": lease})
    assert (proposed["commands"], proposed["proposed"]) == ([], [down])
    world.reach(back, "RESTORED", held=False)
    assert world.call("r-ann", "POST", "/v1/review/lease", {"claim": claim.id})["cases"] == []
    world.do("r-ben", down, "decision", {"decision": "uphold", "lease": world.lease("r-ben", claim)})
    world.reach(down, "UPHELD_AFTER_COUNTER", upheld=True)
    world.until(lambda: world.ledger(seller) == [("serious", "violation", 1)])
    assert world.call("operator", "GET", f"/v1/review/cases?claim={claim.id}")["items"] == []


def test_complaints(world: World, owl: str, mark: str) -> None:
    """Row 19: by the side that lost, decided by somebody else; reversed, everything that was done is undone, once."""
    if "r-rolf" not in world.tokens:
        world.account("r-rolf", "reviewer")
    seller = world.account("s-kay", "seller")
    claim = world.file(owl, mark, world.offer(seller, "kay-1", "kay-2"))
    down, back = claim.items
    for item in claim.items:
        world.notified(item)
    world.do(seller, down, "accept")
    world.reach(down, "UPHELD")
    world.until(lambda: world.ledger(seller) == [("serious", "violation", 1)])
    assert world.refused(owl, down, "complaint") == "not_against_you"
    world.do(seller, down, "complaint", {"materials": ["licence"]})
    world.reach(down, "APPEALED", held=True, upheld=True, due=...)
    assert world.page("kay-1") == 410  # as it is until it is decided
    assert world.until(lambda: world.mails(seller, claim, "complaint received"))
    assert world.until(lambda: world.mails(owl, claim, "complaint received"))
    assert world.refused("r-rita", down, "decision", {"decision": "reverse"}) == "appeal_code"
    world.do("r-rita", down, "decision", {"decision": "reverse", "code": "new_evidence"})
    world.reach(down, "RESTORED", held=False, upheld=False, code="new_evidence")
    world.until(lambda: world.page("kay-1") == 200)
    world.until(lambda: [row[1:] for row in world.ledger(seller)] == [("violation", 1), ("reversal", -1)])
    (told,) = world.until(lambda: [text for text in world.mails(seller, claim, "outcome") if "new evidence" in text])
    assert "leads to another decision" in told

    # the holder complains of the restoration; who decided before may not decide again
    world.do(owl, down, "complaint")
    world.reach(down, "APPEALED", held=False)
    assert (
        world.refused("r-rita", down, "decision", {"decision": "confirm", "code": "decision_stands"})
        == "decided_before"
    )
    lease = world.lease("r-rolf", claim)
    world.do("r-rolf", down, "decision", {"decision": "confirm", "code": "decision_stands", "lease": lease})
    world.reach(down, "RESTORED", settled=True)
    assert world.page("kay-1") == 200
    assert world.refused(owl, down, "complaint") == "complaint_known"

    # too late, after six months
    world.do(seller, back, "accept")
    world.reach(back, "UPHELD")
    world.to(world.now() + 185 * DAY)
    assert world.refused(seller, back, "complaint") == "complaint_too_late"


def test_information_is_missing(world: World) -> None:
    """Row 4: asked, added, judged again; or not, and lapsed. The 24 hours stand still meanwhile."""
    fox = world.account("h-fox", verified=False)
    right = world.right(fox)
    seller = world.account("s-dora", "seller")
    links = world.offer(seller, "dora-1", "dora-2")
    cured, lapsing = (world.file(fox, right, [link]) for link in links)
    for claim in (cured, lapsing):
        assert world.reach(claim.items[0], "NEEDS_INFO", due=...)["missing"] == ["identity"]
        assert world.until(lambda claim=claim: world.mails(fox, claim, "missing"))
    due, target = (world.item(lapsing.items[0])[name] for name in ("due", "sla_due"))
    world.to(at(due) - HOUR)
    world.do(fox, cured.items[0], "information")
    world.until(lambda: any(c["what"] == "needs_info" for c in world.timeline(cured)[1:]))
    assert world.item(cured.items[0])["state"] == "NEEDS_INFO"  # nothing has changed yet
    world.call("operator", "POST", f"/v1/accounts/{fox}/verify", {"identity_verified": True, "seen": "office"})
    world.do(fox, cured.items[0], "information")
    shown = world.notified(cured.items[0])
    assert shown["sla"] == "met"
    assert at(shown["sla_due"]) > at(target)
    world.past(due)
    world.reach(lapsing.items[0], "LAPSED", settled=True)
    assert world.page("dora-2") == 200
    assert world.refused(fox, lapsing.items[0], "information")
    world.do(seller, cured.items[0], "accept")
    world.reach(cured.items[0], "UPHELD")


def test_documents_cure_a_claim(world: World) -> None:
    """Rows 4, 5, 10, 12: what is missing comes as a document; each side reads the other's when the life cycle lets it."""
    hare = world.account("h-hare")
    seller = world.account("s-fritz", "seller")
    right = str(world.call(hare, "POST", "/v1/rights", {"right_type": "trademark", "number": "1999999"})["id"])
    passport = world.document(hare, b"passport", "identity")
    claim = world.file(hare, right, world.offer(seller, "fritz-1"), evidence=[passport])
    (item,) = claim.items
    assert world.reach(item, "NEEDS_INFO", due=...)["missing"] == ["right", "ownership"]
    certificate = world.document(hare, b"certificate", "ownership")
    world.call(seller, "GET", f"/v1/evidence/{certificate}", expect=404)
    world.do(hare, item, "information", {"evidence": [certificate]})
    world.until(lambda: world.item(item)["missing"] == ["right"])
    world.call(hare, "POST", f"/v1/rights/{right}/evidence", {"evidence": [certificate]})
    world.call("operator", "POST", f"/v1/rights/{right}/decision", {"accept": True, "documents": [certificate]})
    world.notified(item)
    link = world.call(seller, "POST", f"/v1/evidence/{certificate}/link")["url"]
    assert world.http.get(link).content == b"certificate"
    world.call(seller, "GET", f"/v1/evidence/{passport}", expect=404)
    licence = world.document(seller, b"I may", "statement")
    papers = world.document(seller, b"papers", "identity")
    world.call(hare, "GET", f"/v1/evidence/{licence}", expect=404)
    world.do(seller, item, "counter", {"evidence": [licence, papers]})
    world.reach(item, "HOLDER_RESPONSE", due=...)
    found = world.call(hare, "GET", f"/v1/evidence?about={claim.id}")["items"]
    assert sorted(document["id"] for document in found) == sorted([passport, certificate, licence])
    world.do(hare, item, "response", {"accept": True})
    world.reach(item, "RESTORED")


def test_a_duplicate_takes_the_place_of_its_original(world: World, owl: str, mark: str) -> None:
    """Rows 2, 18: linked to the original; goes on when that ends without a takedown; the listing stays down meanwhile."""
    seller = world.account("s-emil", "seller")
    links = world.offer(seller, "emil-1")
    first = world.file(owl, mark, links)
    world.notified(first.items[0])
    second, third = world.file(owl, mark, links), world.file(owl, mark, links)
    other = world.file(owl, mark, links, reason="improper_use")  # another reason is another item
    for claim in (second, third):
        assert world.reach(claim.items[0], "DUPLICATE")["original"] == first.items[0]
    world.notified(other.items[0])
    world.do(owl, first.items[0], "withdraw", {"ground": "error"})
    world.reach(first.items[0], "WITHDRAWN")
    world.notified(second.items[0])
    assert world.reach(third.items[0], "DUPLICATE", original=second.items[0])
    assert world.page("emil-1") == 410
    # a listing comes back when its last hold is lifted
    world.do(owl, other.items[0], "withdraw", {"ground": "licensed"})
    world.reach(other.items[0], "WITHDRAWN")
    world.settle()
    assert world.page("emil-1") == 410
    for claim in (second, third):
        if claim is third:
            world.notified(third.items[0])
        world.do(owl, claim.items[0], "withdraw", {"ground": "error"})
        world.reach(claim.items[0], "WITHDRAWN")
    world.until(lambda: world.page("emil-1") == 200)


def test_links_that_lead_nowhere(world: World, owl: str, mark: str) -> None:
    """Row 3: another site's, and one that the marketplace does not know; the good one of the same claim goes its way."""
    seller = world.account("s-fred", "seller")
    (good,) = world.offer(seller, "fred-1")
    claim = world.file(owl, mark, [good, SITE + "fred-none", "https://elsewhere.example/fred-1"])
    world.notified(claim.items[0])
    for item in claim.items[1:]:
        shown = world.reach(item, "LINK_INVALID", settled=True, sla="met")
        assert not shown["held"]
    assert [world.item(item)["on_site"] for item in claim.items] == [True, True, False]
    assert world.states(claim) == {"NOTIFIED": 1, "LINK_INVALID": 2}
    (notice,) = world.until(lambda: world.mails(seller, claim))
    assert "fred-none" not in notice
    world.do(seller, claim.items[0], "accept")
    world.reach(claim.items[0], "UPHELD")


def test_a_listing_that_nobody_answers_for(world: World, owl: str, mark: str) -> None:
    """Rows 5, 6, 7: the marketplace is away; after 20 hours a person decides, and what is open after 24 is missed."""
    seller = world.account("s-gail", "seller")
    claim = world.file(owl, mark, world.offer(seller, "gail-1"), reason="improper_use")
    world.notified(claim.items[0])
    world.kill("marketplace")
    unknown = world.file(owl, mark, [SITE + "gail-2", SITE + "gail-3"])
    for item in unknown.items:
        world.reach(item, "RECEIVED", revision=1)
    filed = world.now()
    world.to(filed + 21 * HOUR)
    for item in unknown.items:
        world.reach(item, "UNDER_REVIEW")
    refused, upheld = unknown.items
    assert world.refused("r-rita", refused, "decision", {"decision": "uphold"}) == "listing_unknown"
    assert (
        world.refused("r-rita", refused, "decision", {"decision": "refuse", "code": "no-such-code"}) == "refusal_code"
    )
    world.do("r-rita", refused, "decision", {"decision": "refuse", "code": "not_infringing"})
    assert world.reach(refused, "REJECTED", code="not_infringing", settled=True)["sla"] == "met"
    (told,) = world.until(lambda: world.mails(owl, unknown, "outcome"))
    assert "File again with an explanation" in told  # how to cure it
    world.to(filed + 25 * HOUR)
    late = world.reach(upheld, "UNDER_REVIEW", sla="missed")
    overdue = next(c for c in world.timeline(unknown, upheld) if c["what"] == "overdue")
    assert at(overdue["at"]) == at(late["sla_due"]) == filed + 24 * HOUR  # as of the deadline
    world.start("marketplace")
    world.offer(seller, "gail-3")
    world.settle()
    if world.item(upheld)["state"] == "UNDER_REVIEW":
        world.do("r-rita", upheld, "decision", {"decision": "uphold"})
        assert world.notified(upheld)["sla"] == "missed"  # a late item stays missed
        world.do(seller, upheld, "accept")
        world.reach(upheld, "UPHELD")
    world.do(seller, claim.items[0], "accept")
    world.reach(claim.items[0], "UPHELD")


def test_a_near_copy_returns(world: World, owl: str, mark: str) -> None:
    """Row 20: the seller lists again under another id: one new item, linked to the old, for a person; nobody else is troubled."""
    title = "Runner Pro 2 men's running shoes, white, all sizes"
    seller, other = world.account("s-kora", "seller"), world.account("s-lotte", "seller")

    def recurring(listing: str) -> list[str]:
        rows = world.rows(
            "select i.id from intake.items i join intake.claims c on c.id = i.claim"
            " where i.listing = %s and c.channel = 'recurrence'",
            listing,
        )
        return [str(row[0]) for row in rows]

    claim = world.file(owl, mark, world.offer(seller, "kora-1", title=title), reason="improper_use")
    (old,) = claim.items
    world.notified(old)
    world.do(seller, old, "accept")
    world.reach(old, "UPHELD")
    world.settle()
    world.offer(other, "lotte-1", title=title)
    world.offer(seller, "kora-2", title="Leather handbag for women with two pockets")
    world.offer(seller, "kora-3", title="RUNNER-PRO 2: men's white running shoes (all sizes)")
    (item,) = world.until(lambda: recurring("kora-3"))
    shown = world.reach(item, "UNDER_REVIEW", recurs=old)
    assert (shown["complainant"], shown["right"], shown["reason"], shown["lane"]) == (
        owl,
        mark,
        "improper_use",
        "standard",
    )
    assert (world.page("kora-3"), shown["held"]) == (200, False)  # a person decides
    again = Claim(shown["claim"], [item], ["kora-3"], "standard")
    assert world.call(owl, "GET", f"/v1/claims/{again.id}")["size"] == 1
    (receipt,) = world.until(lambda: world.mails(owl, again, "received"))
    assert "filed claim" in receipt
    assert old in receipt
    assert world.mails(seller, again) == []
    world.do("r-rita", item, "decision", {"decision": "uphold"})
    assert world.notified(item)["recurs"] == old
    assert world.page("kora-3") == 410
    world.do(seller, item, "accept")
    world.reach(item, "UPHELD")
    world.settle()
    # the copy's copy is one more, and told once; what is known is told of in vain
    world.offer(seller, "kora-4", title=title.upper())
    (third,) = world.until(lambda: recurring("kora-4"))
    world.reach(third, "UNDER_REVIEW", recurs=...)
    world.offer(seller, "kora-4", title=title)
    world.offer(seller, "kora-2", title="Leather handbag for women with two pockets, brown")
    world.do(owl, third, "withdraw", {"ground": "licensed"})
    world.reach(third, "WITHDRAWN")
    world.offer(seller, "kora-4", title=title)
    world.settle()
    found = [len(recurring(name)) for name in ("kora-1", "kora-2", "kora-3", "kora-4", "lotte-1")]
    assert found == [0, 0, 1, 1, 0]
    # who sells against a right again: two claims upheld, two entries
    assert len(world.ledger(seller)) == 2


def test_in_court(world: World, owl: str, mark: str) -> None:
    """Rows 16, 21: with proof only; timers stand still; a result for the holder, for the seller, or none."""
    seller = world.account("s-hugo", "seller")
    names = ("hugo-1", "hugo-2", "hugo-3")
    claim = world.file(owl, mark, world.offer(seller, *names), reason="improper_use")
    holder, other, none = claim.items
    window = [world.notified(item)["due"] for item in claim.items][2]
    assert world.refused(seller, none, "action") == "proof_missing"
    for item in claim.items:
        world.do(seller, item, "action", {"proof": "case-7"})
        world.reach(item, "LITIGATION", due=...)
    assert world.refused(owl, none, "action", {"proof": "case-7"}) == "action_known"
    begun = world.now()
    world.to(at(window) + DAY)  # the seller's window stands still
    world.past(world.item(none)["due"])  # row 16: a reminder every 90 days
    world.until(lambda: any(c["what"] == "reminded" for c in world.timeline(claim, none)))
    assert world.item(none)["state"] == "LITIGATION"
    world.do(owl, holder, "result", {"outcome": "holder", "proof": "judgement-1"})
    world.do(seller, other, "result", {"outcome": "seller", "proof": "judgement-2"})
    world.do(seller, none, "result", {"outcome": "ended", "proof": "note-3"})
    world.reach(holder, "UPHELD_AFTER_COUNTER", upheld=True)
    world.reach(other, "RESTORED", held=False)
    back = world.reach(none, "NOTIFIED", due=...)
    assert at(back["due"]) - world.now() == at(window) - begun  # what was left of the window is left
    world.until(lambda: [world.page(name) for name in names] == [410, 200, 410])
    world.past(back["due"])
    world.reach(none, "UPHELD_BY_DEFAULT")


def test_the_right_is_lost(world: World, owl: str) -> None:
    """Row 22: on hold while it is lost, and back with what was left; after 30 days withdrawn, the listing comes back."""
    seller = world.account("s-ines", "seller")
    fleeting, gone = world.right(owl), world.right(owl)
    kept = world.file(owl, fleeting, world.offer(seller, "ines-1"))
    dropped = world.file(owl, gone, world.offer(seller, "ines-2"))
    left = at(world.notified(kept.items[0])["due"]) - world.now()
    world.notified(dropped.items[0])
    for right in (fleeting, gone):
        assert world.call(owl, "PATCH", f"/v1/rights/{right}", {"status": "lost"}) == {"changed": True}
    for claim in (kept, dropped):
        assert world.reach(claim.items[0], "SUSPENDED", code="right_lost", due=...)["held"]
    world.to(world.now() + 20 * DAY)
    world.call(owl, "PATCH", f"/v1/rights/{fleeting}", {"status": "active"}, expect=403)
    world.call("operator", "PATCH", f"/v1/rights/{fleeting}", {"status": "active"})
    back = world.reach(kept.items[0], "NOTIFIED", due=...)
    assert at(back["due"]) - world.now() == left
    world.past(world.item(dropped.items[0])["due"])
    world.reach(dropped.items[0], "WITHDRAWN", code="right_ended", held=False)
    world.until(lambda: world.page("ines-2") == 200)
    world.reach(kept.items[0], "UPHELD_BY_DEFAULT")


def test_an_agent_files(world: World, owl: str, mark: str) -> None:
    """Materials (a): with an authorisation the notice names principal and agent; ended, row 22; given again, it goes on."""
    agent = world.account("h-agent")
    seller = world.account("s-jack", "seller")
    grant = world.authorise(owl, agent, rights=[mark])
    claim = world.file(agent, mark, world.offer(seller, "jack-1"), principal=owl)
    world.notified(claim.items[0])
    (notice,) = world.until(lambda: world.mails(seller, claim))
    for part in ("Nomen h-owl Privatum", "h-owl@private.example", "Nomen h-agent Privatum", "7 h-agent Secret Lane"):
        assert part in notice
    assert world.call(owl, "GET", f"/v1/claims/{claim.id}")["complainant"] == agent  # the principal is party to it
    assert world.call(owl, "DELETE", f"/v1/authorisations/{grant}") == {"changed": True}
    world.reach(claim.items[0], "SUSPENDED", code="right_unauthorised")
    grant = world.authorise(owl, agent)
    world.reach(claim.items[0], "NOTIFIED")
    assert world.call(owl, "DELETE", f"/v1/authorisations/{grant}") == {"changed": True}
    world.reach(claim.items[0], "SUSPENDED", code="right_unauthorised")
    world.past(world.reach(claim.items[0], "SUSPENDED", due=...)["due"])
    world.reach(claim.items[0], "WITHDRAWN")
    world.until(lambda: world.page("jack-1") == 200)


@pytest.mark.thorough
def test_three_hundred_listings(world: World, owl: str, mark: str) -> None:
    """Items of one claim have fates of their own; each party gets one message for all of them."""
    sellers = [world.account(f"s-many-{number}", "seller") for number in range(3)]
    names = [f"many-{number}" for number in range(294)]
    links: list[str] = []
    for place, seller in enumerate(sellers):
        links += world.offer(seller, *names[place * 98 : place * 98 + 98])
    before = world.file(owl, mark, links[:3])
    for item in before.items:
        world.notified(item)
    foreign = [f"https://elsewhere.example/{number}" for number in range(3)]
    # collected for longer than this machine may need for 300 items
    with world.changed("notification-sender", GOODFAITH_COLLECT_S="30"):
        claim = world.file(owl, mark, [*links, SITE + "many-x", SITE + "many-y", SITE + "many-z", *foreign])
        assert len(claim.items) == 300
        world.until(lambda: world.states(claim) == {"NOTIFIED": 291, "DUPLICATE": 3, "LINK_INVALID": 6})
        world.settle()
    assert world.page("many-200") == 410
    assert [len(world.mails(seller, claim)) for seller in sellers] == [1, 1, 1]
    # the receipt, and one message for all that was found to lead nowhere once the marketplace had been asked
    assert [len(world.mails(owl, claim, subject)) for subject in ("", "received", "outcome")] == [2, 1, 1]
    (notice,) = world.mails(sellers[2], claim)
    assert all(f"/items/{name} " in notice for name in names[196:])
    assert f"/items/{names[195]} " not in notice

    for item in claim.items[10:20]:
        world.do(sellers[0], item, "accept")
    for item in claim.items[100:110]:
        world.do(sellers[1], item, "counter", COMPLETE)
    for item in claim.items[200:210]:
        world.do(owl, item, "withdraw", {"ground": "settled"})
    world.until(lambda: world.states(claim)["HOLDER_RESPONSE"] == 10 and world.states(claim)["WITHDRAWN"] == 10)
    answer = world.call(owl, "POST", f"/v1/claims/{claim.id}/response", {"accept": True})
    # about all of them: where the holder is not asked, the item's owner refuses
    assert {command["item"] for command in answer["commands"]} > set(claim.items[100:110])
    world.until(lambda: world.states(claim)["RESTORED"] == 10)
    world.settle()
    world.past(max(item["due"] for item in pages(world, claim.id) if item["due"]))
    world.until(
        lambda: (
            world.states(claim)
            == {
                "UPHELD_BY_DEFAULT": 261,
                "UPHELD": 10,
                "RESTORED": 10,
                "WITHDRAWN": 10,
                "DUPLICATE": 3,
                "LINK_INVALID": 6,
            }
        )
    )
    world.settle()
    # 98 listings and one violation: seller x claim; the first seller's other claim is another one
    assert [len(world.ledger(seller)) for seller in sellers] == [2, 1, 1]
    pages_ = {name: world.page(name) for name in (names[4], names[100], names[205], names[290])}
    assert list(pages_.values()) == [410, 200, 200, 410]


def pages(world: World, claim: str) -> list[dict[str, Any]]:
    """All items of a claim."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = world.call("operator", "GET", f"/v1/claims/{claim}/items?limit=200{more}")
        found += page["items"]
        cursor = page["next"]
    return found


def test_a_seller_that_cannot_be_reached(world: World) -> None:
    """Row 9: no window begins on an inbox that nobody owns; a person decides, unless the seller turns up."""
    owl = world.account("h-barn")  # without the other stories' counters, which triage would weigh
    mark = world.right(owl)
    sellers = ["s-nobody", "s-reads", "s-acts"]
    links = [world.offer(seller, f"{seller}-1")[0] for seller in sellers]
    for seller in sellers[1:]:
        made = world.call("operator", "POST", "/v1/accounts", {"role": "seller", "id": seller})
        world.tokens[seller] = world.secrets.add(f"token of {seller}", made["token"])
    claim = world.file(owl, mark, links, profile="dsa")
    nobody, reads, acts = claim.items
    for item in claim.items:
        world.reach(item, "UNDER_REVIEW")
        world.do("r-rita", item, "decision", {"decision": "uphold"})
    for item in claim.items:
        shown = world.reach(item, "APPEALED", held=True)
        assert (shown["noticed_at"], shown["upheld"]) == (None, False)
    (notice,) = world.until(lambda: world.call("s-reads", "GET", "/v1/inbox")["items"])
    assert (notice["kind"], notice["channel"], notice["contacts"][0]["part"]) == (
        "seller_notice",
        "inbox",
        "complainant",
    )
    message = notice["id"]
    world.call("s-reads", "POST", f"/v1/inbox/{message}/read")
    world.notified(reads)
    world.do("s-acts", acts, "counter", COMPLETE)
    world.reach(acts, "HOLDER_RESPONSE", noticed_at=...)
    world.do("operator", nobody, "decision", {"decision": "confirm", "code": "decision_stands"})
    assert world.reach(nobody, "UPHELD_BY_DEFAULT", upheld=True)["noticed_at"] is None
    world.until(lambda: any("could not be reached" in text for text in world.mails(owl, claim)))
    assert {one["what"] for one in world.timeline(claim, nobody)} >= {"notified", "appealed", "upheld_by_default"}
