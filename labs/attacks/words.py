"""Attacks with what parties say in their own words: reading it too early, and saying what should not pass."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from labs.attacks.bed import SITE, Attack, AttackBed, AttackOutcome, listed

HOSTILE: Final = (
    "a" * 4001,
    "\u0958" * 2001,  # longer in its normal form
    "a\0b",
    "a\r\nSubject: b",
    "\x1b[2Ja",
    "a\u202etxt.exe",
    "\u2066a",
    "a\u2028b",
    "\ufeff",
    "\u3000 \n",
)
"""Too long, control characters, characters that turn the direction of what follows, and nothing at all."""


def early_reading(bed: AttackBed) -> AttackOutcome:
    """Read an explanation before the notice, and a counter before it is forwarded, on every route that shows claims."""
    holder, stranger = bed.person(), bed.person()
    seller, other = (bed.person("seller", id=f"s-{secrets.token_hex(6)}") for _ in range(2))
    said = [f"Confidential {secrets.token_hex(16)}" for _ in range(2)]
    made = bed.claim(holder, bed.right(holder), "", "", explanation=said[0])
    claim, (mine, theirs) = made["claim"], [item["item"] for item in made["items"]]
    for item, account in ((mine, seller), (theirs, other)):
        bed.query("update intake.items set seller = %s where id = %s returning id", account.account, item)
    bed.must(seller, "POST", f"/v1/items/{mine}/counter", {"text": said[1]})
    routes = [
        "/v1/claims",
        "/v1/inbox",
        f"/v1/claims/{claim}",
        f"/v1/claims/{claim}/items",
        f"/v1/claims/{claim}/timeline",
        f"/v1/claims/{claim}/texts",
        f"/v1/claims/{claim}/texts?limit=1",
        f"/v1/items/{mine}",
        f"/v1/review/cases/{mine}",
        "/v1/review/cases",
    ]
    asked = [(person, text, route) for person, text in ((holder, said[1]), (seller, said[0])) for route in routes]
    asked += [(person, text, route) for person in (stranger, other) for text in said for route in routes]
    answers = bed.together([partial(person.request, "GET", route) for person, _, route in asked], threads=4)
    read = [
        f"{person.account}: {route}"
        for (person, text, route), answer in zip(asked, answers, strict=True)
        if isinstance(answer, Exception) or text in answer.text
    ]
    known = [
        text in person.request("GET", f"/v1/claims/{claim}/texts").text
        for person, text in ((holder, said[0]), (seller, said[1]))
    ]
    found = f"{len(asked)} answers, {len(read)} with the text"
    return AttackOutcome(bool(read) or not all(known), found if all(known) else f"{found}; its own side reads nothing")


def hostile_words(bed: AttackBed) -> AttackOutcome:
    """File texts that are too long, forge lines or turn directions; and as much text as a body holds."""
    holder = bed.person()
    right, link = bed.right(holder), f"{SITE}{secrets.token_hex(6)}"
    body = {"right": right, "reason": "counterfeit", "listings": [link]}
    bodies: list[dict[str, Any]] = [{**body, "explanation": text} for text in HOSTILE]
    bodies += [{**body, "explanations": [{"listing": link, "text": text}]} for text in HOSTILE]
    answers = bed.statuses([partial(holder.request, "POST", "/v1/claims", one) for one in bodies], threads=4)
    links = [f"{link}-{number}" for number in range(300)]
    most = [{"listing": one, "text": "a" * 1000} for one in links]
    whole = holder.request("POST", "/v1/claims", {**body, "listings": links, "explanations": most})
    stored = bed.query("select count(*) from intake.texts where account = %s", holder.account)[0][0]
    passed = answers.total() - answers["422"] - answers["429"]
    return AttackOutcome(
        passed > 0 or whole.status_code >= 500 or stored != (300 if whole.status_code == 202 else 0),
        f"{listed(answers)}; 300 explanations {whole.status_code}",
    )


WORDS: Final[Sequence[Attack]] = (
    Attack("early reading", "read the other side's words before they are released", early_reading),
    Attack("hostile words", "say what forges lines or swamps the database", hostile_words),
)
