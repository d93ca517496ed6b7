"""Accounts and rights through the whole system: a code by mail, a right that expires under the clock, one that passes on."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from tests.e2e.world import SITE, World, plain

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
DAY = dt.timedelta(days=1)


def told(world: World, account: str, words: str) -> list[str]:
    """Texts of the mails to an account whose subject has these words."""
    return [
        plain(message)
        for receiver, message in world.mail()
        if receiver == f"{account}@private.example" and words in str(message["Subject"])
    ]


def test_an_address_is_confirmed_by_a_code_that_came_by_mail(world: World) -> None:
    holder = world.account("h-code", verified=False, confirmed=False)
    assert world.call(holder, "GET", "/v1/me")["state"] == "applied"
    world.call(holder, "POST", "/v1/contact/code", expect=202)
    (text,) = world.until(lambda: told(world, holder, "Confirm your e-mail"))
    found = re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", text)
    assert found is not None
    # looked for everywhere by test_no_secrets
    code = world.secrets.add("code of h-code", found[0])
    me = world.call(holder, "POST", "/v1/contact/confirmation", {"code": code})
    assert (me["state"], me["email_confirmed"]) == ("email_confirmed", True)
    passport = world.document(holder, b"passport", "identity")
    world.call(holder, "POST", "/v1/me/evidence", {"evidence": [passport]})
    verdict = {"identity_verified": True, "documents": [passport]}
    world.call("r-rita", "POST", f"/v1/accounts/{holder}/verify", verdict)
    assert world.call(holder, "GET", "/v1/me")["state"] == "verified"
    world.until(lambda: told(world, holder, "account verified"))
    inbox = world.until(lambda: len(found := world.call(holder, "GET", "/v1/inbox")["items"]) == 2 and found)
    # the clock stands, so that their order is that of chance
    assert sorted((one["claim"], one["kind"], one["items"]) for one in inbox) == [
        (None, "account_verified", []),
        (None, "email_code", []),
    ]


def test_a_right_expires_and_is_renewed(world: World) -> None:
    holder, seller = world.account("h-expiry"), world.account("s-expiry", "seller")
    begins = world.now()
    asked = {
        "right_type": "trademark",
        "register": "us",
        "number": "7,654,321",
        "mark": "ＥＸＰＩＲＹ",
        "expires_at": (begins + 31 * DAY).isoformat(),
        "evidence": [world.document(holder, b"certificate", "ownership")],
    }
    right = world.call(holder, "POST", "/v1/rights", asked)
    assert (right["pending_reason"], right["mark"], right["normalised"]) == (
        "proof_unseen",
        "EXPIRY",
        ["number", "mark"],
    )
    decision = {"accept": True, "documents": asked["evidence"]}
    assert world.call("operator", "POST", f"/v1/rights/{right['id']}/decision", decision) == {"changed": True}
    world.to(begins + 2 * DAY)
    (warning,) = world.until(lambda: told(world, holder, "about to expire"))
    assert right["id"] in warning
    world.to(begins + 30 * DAY)
    kept, dropped = world.offer(seller, "expiry-1", "expiry-2")
    first, second = world.file(holder, right["id"], [kept]), world.file(holder, right["id"], [dropped])
    left = {}
    for claim in (first, second):
        item = claim.items[0]
        left[item] = dt.datetime.fromisoformat(world.notified(item)["due"]) - world.now()
    world.do(seller, second.items[0], "accept")
    world.reach(second.items[0], "UPHELD")
    world.to(begins + 31 * DAY + dt.timedelta(seconds=1))
    world.reach(first.items[0], "SUSPENDED", code="right_expired")
    assert world.item(second.items[0])["state"] == "UPHELD"  # what is settled stays
    world.until(lambda: told(world, holder, "right expired"))
    renewed = {"expires_at": (begins + 3000 * DAY).isoformat()}
    assert world.call(holder, "POST", f"/v1/rights/{right['id']}/renewal", renewed) == {"changed": True}
    world.reach(first.items[0], "NOTIFIED")
    assert len(told(world, holder, "about to expire")) == 1


def test_a_right_that_passes_on_is_claimed_again(world: World) -> None:
    old, new = world.account("h-old"), world.account("h-new")
    seller = world.account("s-passes", "seller")
    right = world.right(old)
    links = world.offer(seller, "passes-1")
    claim = world.file(old, right, links)
    world.notified(claim.items[0])
    world.call(old, "POST", f"/v1/rights/{right}/assignment", {"to": new})
    world.call(new, "POST", f"/v1/rights/{right}/assignment/consent", {"accept": True})
    suspended = world.reach(claim.items[0], "SUSPENDED", code="right_lost", due=...)
    again = world.file(new, right, links)
    world.reach(again.items[0], "DUPLICATE")
    world.past(suspended["due"])
    world.reach(claim.items[0], "WITHDRAWN", code="right_ended")
    world.notified(again.items[0])
    assert told(world, new, "right received")


def test_nobody_claims_against_itself(world: World) -> None:
    """Known to the judge alone: intake does not know who sells."""
    holder = world.account("h-self")
    claim = world.file(holder, world.right(holder), world.offer(holder, "self-1"))
    world.reach(claim.items[0], "REJECTED", code="own_listing", held=False)
    assert world.page(SITE + "self-1") == 200
    (text,) = world.until(lambda: world.mails(holder, claim))
    assert "The listing is your own" in text


def test_it_all_adds_up(world: World) -> None:
    world.settle()
    # an item that reopens because another's timer fired does so now, and marks end just before a standing clock
    world.to(world.now() + dt.timedelta(seconds=1))
    world.settle()
    world.verify()
