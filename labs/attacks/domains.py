"""Attacks on the signs that an account controls a domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from deploy.local.children import StackError
from labs.attacks.bed import ANSWERS_S, CONTACT, Attack, AttackBed, AttackOutcome, Person
from labs.zone import Zone, hostile

RESOLVER: Final = ("127.66.0.53", 5353)
ENVIRONMENT: Final = {
    "GOODFAITH_DOMAINS": "true",
    "GOODFAITH_DOMAINS_RESOLVERS": f'["{RESOLVER[0]}:{RESOLVER[1]}"]',
}
"""Settings of the attacked stack: domains are looked up, at a server of the attack."""


def borrowed_domain(bed: AttackBed) -> AttackOutcome:
    """Take another's domain by its token, by mail, or by answers of DNS that lead elsewhere, lie or do not end."""
    owner, thief = bed.person(), bed.person()
    bed.must(thief, "PUT", "/v1/contact", {**CONTACT, "email": "ceo@victim.example"})
    answers = hostile("")
    with Zone(*RESOLVER) as zone:

        def name(person: Person, domain: str) -> tuple[str, str, str]:
            made = bed.must(person, "POST", "/v1/domains", {"domain": domain})
            return made["id"], made["name"], made["record"]

        ids = []
        for number in range(len(answers) - 1):
            id, at, text = name(thief, f"d{number}.example")
            zone.hostile[at] = hostile(text)[number][1]
            ids.append((thief, id))
        stolen, at, _ = name(thief, "victim.example")
        owned, _, text = name(owner, "victim.example")
        zone.texts[at] = [text]
        # the owner's last: all of the thief's are looked up before it, or with it
        ids += [(thief, stolen), (owner, owned)]
        for person, id in ids:
            bed.must(person, "POST", f"/v1/domains/{id}/check")

        def done() -> bool:
            return not bed.query(
                "select id from intake.account_domains where id = any(%s) and reason is null and state = 'pending'",
                [id for _, id in ids],
            )

        if not bed.wait(done, ANSWERS_S):
            raise StackError("the domains were not looked up")
        elsewhere = sum(not asked.startswith("_goodfaith-challenge.") for asked in zone.asked)
    seen = bed.must(bed.admin, "GET", f"/v1/accounts/{thief.account}")
    taken = [one for one in seen["domains"] if one["state"] == "verified" or one["mail_since"]]
    theirs = bed.must(bed.admin, "GET", f"/v1/accounts/{owner.account}")["domains"][0]["state"]
    return AttackOutcome(
        bool(taken or elsewhere or theirs != "verified"),
        f"{len(taken)} of {len(ids) - 1} domains taken, {elsewhere} questions elsewhere; the owner's is {theirs}",
    )


DOMAINS: Final[Sequence[Attack]] = (Attack("borrowed domain", "pass for the owner of a domain", borrowed_domain),)
