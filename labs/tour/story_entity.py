"""The story of a business with two accounts: from a warning to closure, half of which is undone.

Chapter by chapter: each acts, waits for the result, and tells what was observed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from typing import Any

from labs.tour.guide import SITE, Tour, must

NORTH, SOUTH = "s-north", "s-south"
DAY = dt.timedelta(days=1)
COUNTER = {"materials": ["identity", "statement"]}
REGISTRATION = {"kind": "registration", "digest": hashlib.sha256(b"HRB 12345 Example Town").hexdigest()}
"""The key of both accounts, hashed by the marketplace."""
GOODS = (
    ("story-1", SOUTH, "Handbag in the style of Owl and Moon"),
    ("story-2", NORTH, "Scarf in the style of Owl and Moon"),
    ("story-3", SOUTH, "Owl and Moon handbag, original"),
    ("story-4", NORTH, "Owl and Moon scarf, original"),
    ("story-5", SOUTH, "Owl and Moon umbrella, original"),
)
"""Listings that are claimed, one claim each, in this order: listing, seller, title."""


@dataclass
class EntityStory:
    """The holder, right and claims that the chapters share."""

    owl: str = "h-owl"
    right: str = ""
    claims: list[str] = field(default_factory=list)
    """In the order in which they were filed; the story numbers them in this order."""


def tell(tour: Tour) -> None:
    """Tell the whole story."""
    cast = EntityStory()
    warned(tour, cast)
    changes_accounts(tour, cast)
    first_strike(tour, cast)
    second_strike(tour, cast)
    third_strike(tour, cast)
    explained(tour, cast)
    countered(tour, cast)
    forgotten(tour, cast)


# ------------------------------------------------------------------------------------------------------------- doing


def _upheld(tour: Tour, cast: EntityStory, reason: str) -> None:
    """File the next claim, about the next of the goods. Its seller does not answer, and it is upheld by default."""
    listing = GOODS[len(cast.claims)][0]
    claim = tour.file(cast.owl, cast.right, [SITE + listing], reason=reason)["claim"]
    cast.claims.append(claim)
    tour.reach(claim, NOTIFIED=1)
    (item,) = tour.until(
        "the item is handled and has a due time", lambda: [i for i in tour.items(claim) if i["due"] and i["handled_at"]]
    )
    tour.to(dt.datetime.fromisoformat(item["due"]) + dt.timedelta(minutes=1))
    tour.reach(claim, UPHELD_BY_DEFAULT=1)


def _under(tour: Tour, seller: str, *measures: str) -> None:
    """Wait until the marketplace has a seller under exactly these measures."""
    tour.until(
        f"{seller} is under {list(measures)}",
        lambda: set(tour.under(seller)) == set(measures),
        seen=lambda: tour.under(seller),
    )


def _standing(tour: Tour, seller: str) -> dict[str, Any]:
    found: dict[str, Any] = tour.call("operator", "GET", f"/v1/sellers/{seller}/standing")
    return found


def _business(tour: Tour, seller: str, **figures: int) -> dict[str, Any]:
    """Wait until the business behind a seller has these figures."""

    def look() -> dict[str, Any] | None:
        found = _standing(tour, seller)
        return found if all(found[f"entity_{name}"] == value for name, value in figures.items()) else None

    return tour.until(f"the business stands at {figures}", look, seen=lambda: _standing(tour, seller))


def _mail(tour: Tour, seller: str, words: str, count: int = 1) -> list[str]:
    """Wait for this many mails with these words in their subject."""
    return tour.until(
        f"{seller} has {count} mails {words!r}",
        lambda: found if len(found := tour.mails(seller, words)) >= count else None,
        seen=lambda: len(tour.mails(seller, words)),
    )


# ---------------------------------------------------------------------------------------------------------- chapters


def warned(tour: Tour, cast: EntityStory) -> None:
    """A first violation."""
    tour.chapter("A warning")
    tour.account(cast.owl, "holder")
    for seller in (NORTH, SOUTH):
        tour.account(seller, "seller")
        goods = {listing: title for listing, whose, title in GOODS if whose == seller}
        tour.offer(seller, {**goods, f"open-{seller}": "Garden chair"})
    right = {
        "right_type": "trademark",
        "register": "us",
        "number": "5,123,456",
        "mark": "Owl and Moon",
        "classes": ["18"],
        "seen": "certificate-1",
        "owner": cast.owl,
    }
    cast.right = tour.call("operator", "POST", "/v1/rights", right)["id"]
    _upheld(tour, cast, "improper_use")
    _mail(tour, SOUTH, "A warning to your account")
    must(tour.under(SOUTH) == [], "a warning is no measure")
    standing = tour.until("South has a violation", lambda: (s := _standing(tour, SOUTH))["violations"] == 1 and s)
    tour.say(
        f"Owl claims a handbag of South, whose title uses Owl's mark (`improper_use`). South does not answer, and the claim is"
        f" upheld when its window ends. A first violation costs {standing['general_points']} points, and South gets a warning by"
        " e-mail. Its pages stay up."
    )


def changes_accounts(tour: Tour, cast: EntityStory) -> None:
    """A second account of the same business."""
    tour.chapter("Another account, the same business")
    tour.link({seller: [REGISTRATION] for seller in (NORTH, SOUTH)})
    standing = tour.until("South is of a business", lambda: (s := _standing(tour, SOUTH))["entity"] and s)
    tour.say(
        "South's owner goes on selling as North. The marketplace reports that both accounts have the same registration number, as"
        f" a hash: they are one business, `{standing['entity']}`."
    )
    _upheld(tour, cast, "improper_use")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "listing_restricted")
    standing = _business(tour, NORTH, violations=2, points=6)
    must(standing["general_points"] == 0, "its own first violation is free")
    _mail(tour, NORTH, "A measure against your account")
    tour.say(
        f"Then a claim against a scarf of North's is upheld. For North itself it is the first violation,"
        f" {standing['general_points']} points; for the business it is the second: {standing['entity_points']} points. Changing"
        " accounts does not help: listing is restricted for three days, for both. Their pages stay up."
    )
    must(tour.visible(f"open-{NORTH}") and tour.visible(f"open-{SOUTH}"), "a page of a restricted seller is gone")
    tour.to(tour.day + 3 * DAY)
    for seller in (NORTH, SOUTH):
        _under(tour, seller)
    _mail(tour, SOUTH, "has ended")
    tour.say("Three days later the restriction ends by itself.")


def first_strike(tour: Tour, cast: EntityStory) -> None:
    """A serious violation."""
    tour.chapter("Frozen")
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "frozen")
        tour.until(f"nothing of {seller} shows", lambda seller=seller: not tour.visible(f"open-{seller}"))  # type: ignore[misc]
    standing = _business(tour, SOUTH, strikes=1)
    tour.say(
        f"A claim against a counterfeit of South's is upheld: a serious violation, and strike {standing['entity_strikes']}. South"
        " is frozen, and so is North, which has a violation of its own. None of their pages is shown, not even those of goods"
        " that were never claimed."
    )


def second_strike(tour: Tour, cast: EntityStory) -> None:
    """A measure for the whole business."""
    tour.chapter("May not list")
    tour.to(tour.day + DAY)
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "frozen", "may_not_list")
    standing = _business(tour, NORTH, strikes=2)
    refused = tour.refused(SOUTH, {"late-1": "Owl and Moon umbrella"})
    tour.say(
        f"A claim against a counterfeit of North's is upheld: strike {standing['entity_strikes']}. No account of the business may"
        f" offer anything new. The marketplace answers South {refused}"
    )


def third_strike(tour: Tour, cast: EntityStory) -> None:
    """The closure of both accounts."""
    tour.chapter("Closed")
    tour.to(tour.day + DAY)
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "closed", "frozen", "may_not_list")
    standing = _business(tour, SOUTH, strikes=3)
    (text,) = tour.until(
        "North has the closure by mail",
        lambda: [t for t in tour.mails(NORTH, "A measure against your account") if "is closed" in t],
    )
    must("does not end by itself" in text, "the message does not say how long")
    tour.say(
        f"One more claim against South is upheld, strike {standing['entity_strikes']}: both accounts are closed. Each gets an"
        " e-mail with the reasons. It says that the closure does not end by itself, and how to complain."
    )


def explained(tour: Tour, cast: EntityStory) -> None:
    """Every step of the standings, from the ledger."""
    tour.chapter("Why")
    for seller in (SOUTH, NORTH):
        _explain(tour, cast, seller)
    tour.say(
        "The replay agrees with what is stored, for each account's own ledger. The business's ledger is both histories in one."
    )


def _explain(tour: Tour, cast: EntityStory, seller: str) -> None:
    found = tour.explain(seller)
    must(found.agrees, "; ".join(found.differences))
    rows = "\n".join(
        f"| {step.at:%-d %B} | {cast.claims.index(step.claim) + 1} | {_plain(step, says)} | {step.points:+d} | {step.general_points} | {step.serious_strikes} |"
        for step, says in found.steps
    )
    tour.say(f"`goodfaith standing explain {seller}` replays it from the ledger:")
    tour.say(f"| on | claim | why | change | points | strikes |\n|---|---|---|---|---|---|\n{rows}")


def _plain(step: Any, says: str) -> str:
    """The explanation without the entry's id."""
    return f"reversed: {says.partition(': ')[2]}" if step.what == "reversed" else says


def countered(tour: Tour, cast: EntityStory) -> None:
    """Counters that undo half of it."""
    tour.chapter("A counter undoes half of it")
    mine = [cast.claims[1], cast.claims[3]]
    for claim in mine:
        (command,) = tour.call(NORTH, "POST", f"/v1/claims/{claim}/counter", COUNTER)["commands"]
        tour.applied(command["command"])
        tour.reach(claim, HOLDER_RESPONSE=1)
        (item,) = tour.items(claim)
        tour.until(
            "the item has a due time",
            lambda item=item: tour.call("operator", "GET", f"/v1/items/{item['id']}")["due"],  # type: ignore[misc]
        )
        tour.applied(tour.do(cast.owl, item["id"], "response", {"accept": True}))
        tour.reach(claim, RESTORED=1)
    tour.say(
        "North counters both claims against it: its goods came from a licensee of Owl's. The counters are late, which the rules"
        " permit once. Owl finds that North is right, and accepts them. The two claims count as if they had never been filed."
    )
    _under(tour, NORTH, "may_not_list")
    _under(tour, SOUTH, "frozen", "may_not_list")
    standing = _business(tour, NORTH, strikes=2, points=0, violations=3)
    must(_standing(tour, NORTH)["violations"] == 0, "North still has a violation")
    for listing in (f"open-{NORTH}", *(name for name, seller, _ in GOODS if seller == NORTH)):
        tour.until(f"{listing} shows", lambda listing=listing: tour.visible(listing))  # type: ignore[misc]
    must(not tour.visible(f"open-{SOUTH}"), "South's pages are shown")
    _mail(tour, NORTH, "is lifted")
    tour.say(
        f"The business has {standing['entity_strikes']} strikes and {standing['entity_points']} points. The scarf was its second"
        " violation, so the 6 points are gone; of three strikes two are left. Neither account is closed now. North has no"
        " violation, and all its pages are shown again, including the two that were taken down. South stays frozen. Neither may"
        " offer anything new: two strikes mean that for every account of a business."
    )
    _explain(tour, cast, NORTH)


def forgotten(tour: Tour, cast: EntityStory) -> None:
    """An erasure that leaves the proof intact."""
    tour.chapter("North is erased")
    asked = tour.call("operator", "POST", f"/v1/accounts/{NORTH}/erasure", {})
    must(asked["contact"] and not asked["forced"], "there was nothing to erase")
    tour.call(NORTH, "GET", "/v1/me", expect=401)
    tour.say(
        "North gives up, and asks for erasure. It has no open items, so its key is destroyed, and North can no longer be"
        " identified. Claims, ledgers and logs keep its id and stay as they are."
    )
