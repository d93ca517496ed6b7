"""The story of ``goodfaith tour --story entity``: a business of two accounts, from a warning to closure, and half of it undone.

Chapter by chapter: each does, waits until it is so, and says what was seen.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from typing import Any

from deploy.local.children import StackError
from labs.stage import SITE, Tour

NORTH, SOUTH = "s-north", "s-south"
DAY = dt.timedelta(days=1)
COUNTER = {"materials": ["identity", "statement"]}
REGISTRATION = {"kind": "registration", "digest": hashlib.sha256(b"HRB 12345 Example Town").hexdigest()}
"""What the marketplace knows both accounts by, hashed by it."""
GOODS = (
    ("story-1", SOUTH, "Handbag in the style of Owl and Moon"),
    ("story-2", NORTH, "Scarf in the style of Owl and Moon"),
    ("story-3", SOUTH, "Owl and Moon handbag, original"),
    ("story-4", NORTH, "Owl and Moon scarf, original"),
    ("story-5", SOUTH, "Owl and Moon umbrella, original"),
)
"""What is claimed, one claim each, in this order: listing, who offers it, title."""


@dataclass
class Cast:
    """Who and what the chapters share."""

    owl: str = "h-owl"
    right: str = ""
    claims: list[str] = field(default_factory=list)
    """In the order in which they were filed; the story calls them by their place."""


def tell(tour: Tour) -> None:
    """The whole story."""
    cast = Cast()
    warned(tour, cast)
    changes_accounts(tour, cast)
    first_strike(tour, cast)
    second_strike(tour, cast)
    third_strike(tour, cast)
    explained(tour, cast)
    countered(tour, cast)
    forgotten(tour, cast)


def _must(truth: bool, what: str) -> None:
    if not truth:
        raise StackError(f"the story does not go on: {what}")


# ------------------------------------------------------------------------------------------------------------- doing


def _upheld(tour: Tour, cast: Cast, reason: str) -> None:
    """The next claim, about the next of the goods; its seller says nothing, and it is upheld by default."""
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
    """Wait until the marketplace has a seller under exactly these."""
    tour.until(
        f"{seller} is under {list(measures)}",
        lambda: set(tour.under(seller)) == set(measures),
        seen=lambda: tour.under(seller),
    )


def _standing(tour: Tour, seller: str) -> dict[str, Any]:
    found: dict[str, Any] = tour.call("operator", "GET", f"/v1/sellers/{seller}/standing")
    return found


def _business(tour: Tour, seller: str, **figures: int) -> dict[str, Any]:
    """Wait until the business behind a seller stands so."""

    def look() -> dict[str, Any] | None:
        found = _standing(tour, seller)
        return found if all(found[f"entity_{name}"] == value for name, value in figures.items()) else None

    return tour.until(f"the business stands at {figures}", look, seen=lambda: _standing(tour, seller))


def _mail(tour: Tour, seller: str, words: str, count: int = 1) -> list[str]:
    """Wait for so many mails with these words in their subject."""
    return tour.until(
        f"{seller} has {count} mails {words!r}",
        lambda: found if len(found := tour.mails(seller, words)) >= count else None,
        seen=lambda: len(tour.mails(seller, words)),
    )


# ---------------------------------------------------------------------------------------------------------- chapters


def warned(tour: Tour, cast: Cast) -> None:
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
        "proof": "certificate-1",
        "owner": cast.owl,
    }
    cast.right = tour.call("operator", "POST", "/v1/rights", right)["id"]
    _upheld(tour, cast, "improper_use")
    _mail(tour, SOUTH, "A warning to your account")
    _must(tour.under(SOUTH) == [], "a warning is no measure")
    standing = tour.until("South has a violation", lambda: (s := _standing(tour, SOUTH))["violations"] == 1 and s)
    tour.say(
        f"Owl claims a handbag of South, whose title uses its mark (`improper_use`). South says nothing; when its window is over the claim"
        f" is upheld. A first violation costs {standing['general_points']} points, and South is warned by e-mail. Its pages show."
    )


def changes_accounts(tour: Tour, cast: Cast) -> None:
    """A second account of the same business."""
    tour.chapter("Another account, the same business")
    tour.link({seller: [REGISTRATION] for seller in (NORTH, SOUTH)})
    standing = tour.until("South is of a business", lambda: (s := _standing(tour, SOUTH))["entity"] and s)
    tour.say(
        "South's owner goes on selling as North. The marketplace reports that both have one registration number, as a hash: they are one"
        f" business, `{standing['entity']}`."
    )
    _upheld(tour, cast, "improper_use")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "listing_restricted")
    standing = _business(tour, NORTH, violations=2, points=6)
    _must(standing["general_points"] == 0, "its own first violation is free")
    _mail(tour, NORTH, "A measure against your account")
    tour.say(
        f"Then a scarf of North's is upheld. For North itself it is the first violation, {standing['general_points']} points; for the business it is the second:"
        f" {standing['entity_points']} points. Who changes accounts sheds nothing: listing is restricted for three days, for both. Their pages show still."
    )
    _must(tour.visible(f"open-{NORTH}") and tour.visible(f"open-{SOUTH}"), "a page of a restricted seller is gone")
    tour.to(tour.day + 3 * DAY)
    for seller in (NORTH, SOUTH):
        _under(tour, seller)
    _mail(tour, SOUTH, "has ended")
    tour.say("Three days later the restriction has ended by itself.")


def first_strike(tour: Tour, cast: Cast) -> None:
    """A serious violation."""
    tour.chapter("Frozen")
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "frozen")
        tour.until(f"nothing of {seller} shows", lambda seller=seller: not tour.visible(f"open-{seller}"))  # type: ignore[misc]
    standing = _business(tour, SOUTH, strikes=1)
    tour.say(
        f"A counterfeit of South's is upheld: a serious violation, and strike {standing['entity_strikes']}. South is frozen, and North with it, which has a violation of"
        " its own: none of their pages shows, not even of goods that nobody has claimed."
    )


def second_strike(tour: Tour, cast: Cast) -> None:
    """What reaches the whole business."""
    tour.chapter("May not list")
    tour.to(tour.day + DAY)
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "frozen", "may_not_list")
    standing = _business(tour, NORTH, strikes=2)
    refused = tour.refused(SOUTH, {"late-1": "Owl and Moon umbrella"})
    tour.say(
        f"A counterfeit of North's is upheld: strike {standing['entity_strikes']}. None of the business's accounts may offer anything new: the"
        f" marketplace answers South {refused}"
    )


def third_strike(tour: Tour, cast: Cast) -> None:
    """The end."""
    tour.chapter("Closed")
    tour.to(tour.day + DAY)
    _upheld(tour, cast, "counterfeit")
    for seller in (NORTH, SOUTH):
        _under(tour, seller, "closed", "frozen", "may_not_list")
    standing = _business(tour, SOUTH, strikes=3)
    (text,) = tour.until(
        "North is told that it is closed",
        lambda: [t for t in tour.mails(NORTH, "A measure against your account") if "is closed" in t],
    )
    _must("does not end by itself" in text, "the message does not say how long")
    tour.say(
        f"One more of South's, strike {standing['entity_strikes']}: both accounts are closed. Each is told by e-mail why, that it does not end by itself, and how to be heard."
    )


def explained(tour: Tour, cast: Cast) -> None:
    """Every step from the ledger."""
    tour.chapter("Why")
    for seller in (SOUTH, NORTH):
        _explain(tour, cast, seller)
    tour.say(
        "What it replays and what is stored agree, for each account's own ledger; the business is their histories in one."
    )


def _explain(tour: Tour, cast: Cast, seller: str) -> None:
    found = tour.explain(seller)
    _must(found.agrees, "; ".join(found.differences))
    rows = "\n".join(
        f"| {step.at:%-d %B} | {cast.claims.index(step.claim) + 1} | {_plain(step, says)} | {step.points:+d} | {step.general_points} | {step.serious_strikes} |"
        for step, says in found.steps
    )
    tour.say(f"`goodfaith standing explain {seller}` replays it from the ledger:")
    tour.say(f"| on | claim | why | change | points | strikes |\n|---|---|---|---|---|---|\n{rows}")


def _plain(step: Any, says: str) -> str:
    """Without the entry's id."""
    return f"reversed: {says.partition(': ')[2]}" if step.what == "reversed" else says


def countered(tour: Tour, cast: Cast) -> None:
    """Half of it is undone."""
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
        "North counters both claims against it, late, which the rules admit once: its goods came from a licensee of Owl's. Owl sees that it is so, and accepts. The two claims"
        " count as if they had never been."
    )
    _under(tour, NORTH, "may_not_list")
    _under(tour, SOUTH, "frozen", "may_not_list")
    standing = _business(tour, NORTH, strikes=2, points=0, violations=3)
    _must(_standing(tour, NORTH)["violations"] == 0, "North has a violation yet")
    for listing in (f"open-{NORTH}", *(name for name, seller, _ in GOODS if seller == NORTH)):
        tour.until(f"{listing} shows", lambda listing=listing: tour.visible(listing))  # type: ignore[misc]
    _must(not tour.visible(f"open-{SOUTH}"), "South's pages show")
    _mail(tour, NORTH, "is lifted")
    tour.say(
        f"The business stands at {standing['entity_strikes']} strikes and {standing['entity_points']} points: the scarf was its second violation, and its 6 points are gone with it; of three strikes two are left."
        " Nothing is closed any more. North, with nothing against itself, shows all its pages again, the two that were taken down among them; South stays frozen. Neither may offer"
        " anything new, for that is what two strikes mean for every account of a business."
    )
    _explain(tour, cast, NORTH)


def forgotten(tour: Tour, cast: Cast) -> None:
    """Erased, and still proven."""
    tour.chapter("North is forgotten")
    asked = tour.call("operator", "POST", f"/v1/accounts/{NORTH}/erasure", {})
    _must(asked["contact"] and not asked["forced"], "there was nothing to erase")
    tour.call(NORTH, "GET", "/v1/me", expect=401)
    tour.say(
        "North gives up, and asks to be forgotten. Nothing of it is open, so its key is destroyed: who North was, nobody can tell any more. Claims, ledgers and logs"
        " stay as they were, by ids."
    )
