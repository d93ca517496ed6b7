"""Attacks by races and repetition: several requests at once, or one request again and again."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import httpx

from labs.attacks.bed import ACCEPTED, SITE, Attack, AttackBed, AttackOutcome, listed


def right_race(bed: AttackBed) -> AttackOutcome:
    """Reactivate a registration while a reviewer gives the right to its true owner."""
    rounds, won = bed.count(3, 10), 0
    for _ in range(rounds):
        impostor, owner = bed.person(), bed.person()
        number = bed.number()
        false = bed.right(impostor, number=number)
        true = bed.right(owner, number=number, active=False)
        patch = partial(impostor.request, "PATCH", f"/v1/rights/{false}", {"status": "active"})
        decide = partial(bed.reviewer.request, "POST", f"/v1/rights/{true}/decision", ACCEPTED)
        bed.together([*[patch] * 6, decide, *[patch] * 6], threads=13)
        bed.must(bed.admin, "GET", f"/v1/rights/{true}")
        states = [bed.must(bed.admin, "GET", f"/v1/rights/{id}")["status"] for id in (false, true)]
        won += states[0] == "active"
    return AttackOutcome(won > 0, f"the impostor won {won} of {rounds} rounds")


def idle_patch(bed: AttackBed) -> AttackOutcome:
    """Repeat a PATCH that changes nothing on a right with 300 items."""
    holder = bed.person()
    right = bed.right(holder)
    for _ in range(3):
        bed.claim(holder, right, *[""] * 100)

    def written() -> int:
        return int(
            bed.query(
                """select count(*) from intake.commands where kind = 'change_right' and item in (
                    select i.id from intake.items i join intake.claims c on c.id = i.claim where c.right_id = %s)""",
                right,
            )[0][0]
        )

    # bringing the right into force may have sent commands to its items: wait until that is over
    before = -1
    while before != (before := written()):
        time.sleep(2.0)
    answers = bed.statuses(
        [partial(holder.request, "PATCH", f"/v1/rights/{right}", {"status": "active"})] * bed.count(5, 50), threads=4
    )
    bed.wait(lambda: written() > before, 5.0)
    more = written() - before
    return AttackOutcome(more > 0, f"{listed(answers)}; {more:,} commands written for 300 items")


def idempotency_race(bed: AttackBed) -> AttackOutcome:
    """Send one request many times at once under one idempotency key."""
    holder = bed.person()
    right = bed.right(holder)
    body = {"right": right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]}
    file = partial(holder.request, "POST", "/v1/claims", body, headers={"Idempotency-Key": secrets.token_hex(8)})
    answers = [one for one in bed.together([file] * bed.count(32, 200)) if isinstance(one, httpx.Response)]
    made = {one.json()["claim"] for one in answers if one.is_success}
    stored = bed.query("select count(*) from intake.claims where complainant = %s", holder.account)[0][0]
    return AttackOutcome(len(made) > 1 or stored != 1, f"{len(answers)} requests, {stored} claim")


def revoked_token(bed: AttackBed) -> AttackOutcome:
    """Use a token while it is being revoked, and afterwards."""
    holder = bed.person()
    revoked = threading.Event()

    def use() -> None:
        while not revoked.is_set():
            holder.request("GET", "/v1/me")

    def revoke() -> None:
        time.sleep(0.3)
        bed.must(holder, "DELETE", "/v1/tokens/current")
        revoked.set()

    bed.together([use] * 8 + [revoke], threads=9)
    time.sleep(bed.settings.token_cache_s + 0.5)
    answers = bed.statuses([partial(holder.request, "GET", "/v1/me")] * 10)
    return AttackOutcome(answers["200"] > 0, f"afterwards {listed(answers)}")


def double_decision(bed: AttackBed) -> AttackOutcome:
    """Have two reviewers decide one right at the same time."""
    other, doubled = bed.person("reviewer"), 0
    for _ in range(rounds := bed.count(3, 10)):
        holder = bed.person()
        body = {"right_type": "trademark", "register": "us", "number": bed.number()}
        right = bed.must(holder, "POST", "/v1/rights", body)["id"]
        path = f"/v1/rights/{right}/decision"
        answers = bed.statuses([partial(who.request, "POST", path, ACCEPTED) for who in (other, bed.reviewer) * 4])
        doubled += answers["200"] > 1
    return AttackOutcome(doubled > 0, f"{doubled} of {rounds} decided twice")


RACES: Final[Sequence[Attack]] = (
    Attack("right race", "undo a reviewer's decision", right_race, "S2"),
    Attack("idle patch", "cause work for every item", idle_patch, "S3"),
    Attack("idempotency race", "have one request executed twice", idempotency_race),
    Attack("revoked token", "keep using a revoked token", revoked_token),
    Attack("double decision", "have one right decided twice", double_decision),
)
