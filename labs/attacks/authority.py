"""Attacks on authority: act for another, or have another own or do something, without its word."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from deploy.local.children import StackError
from deploy.registers.server import Fault, Registers, uspto
from labs.attacks.accounts import started
from labs.attacks.bed import CONTACT, SEEN, SITE, Attack, AttackBed, AttackOutcome, Person, listed

ACCEPT: Final = {"accept": True, "seen": "me"}
"""What an account might send to consent to its own request, or to decide on it."""


def _files(bed: AttackBed, agent: Person, principal: Person, right: str) -> bool:
    """Whether the agent can file under the principal's right."""
    body = {"right": right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]}
    return agent.request("POST", "/v1/claims", {**body, "principal": principal.account}).is_success


def self_made_agent(bed: AttackBed) -> AttackOutcome:
    """Ask to act for a principal, and answer in its place: with one's own word, a stranger's, or foreign documents."""
    agent, other, principal = bed.person(), bed.person(), bed.person()
    right = bed.right(principal)
    power = bed.upload(agent, b"Power of attorney.", kind="authority").json()["id"]
    foreign = bed.upload(other, b"Another's power of attorney.", kind="authority").json()["id"]
    asked = {"principal": principal.account, "evidence": [power]}
    odd: list[Any] = [[foreign], ["d-none"], [power] * 21, power, [{}], ["\u202e"]]
    answers = bed.statuses(
        [
            partial(agent.request, "POST", "/v1/authorisations", {"principal": principal.account, "evidence": named})
            for named in odd
        ]
    )
    grant = bed.must(agent, "POST", "/v1/authorisations", asked)["id"]
    path = f"/v1/authorisations/{grant}"
    answers += bed.statuses(
        [
            partial(person.request, "POST", f"{path}/{step}", body)
            for person in (agent, other)
            for step, body in (
                ("consent", {"accept": True}),
                ("consent", ACCEPT),
                ("decision", ACCEPT),
                ("decision", {"accept": True, "documents": [power]}),
                ("evidence", {"evidence": [foreign]}),
            )
        ]
    )
    taken = answers["200"] + answers["201"]
    if _files(bed, agent, principal, right):
        return AttackOutcome(True, f"filed; {listed(answers)}")
    # what the other side is asked is no flood
    flood = bed.statuses([partial(agent.request, "POST", "/v1/authorisations", asked)] * 120, threads=4)
    waiting = bed.query(
        "select count(*) from intake.authorisations where asked_by = %s and pending_reason is not null", agent.account
    )[0][0]
    # the stranger's document named by its own account is refused too: it is not the agent
    return AttackOutcome(taken > 0 or waiting > 100, f"{listed(answers)}; {flood.total()} requests, {waiting} wait")


def unasked(bed: AttackBed) -> AttackOutcome:
    """Make an account somebody's agent, or the owner of a right, without asking it."""
    owner, victim = bed.person(), bed.person()
    right = bed.right(owner)
    owner.request("POST", "/v1/authorisations", {"agent": victim.account})
    made = []
    if _files(bed, victim, owner, right):
        made.append("an agent")
    owner.request("POST", f"/v1/rights/{right}/assignment", {"to": victim.account})
    for person in (owner, bed.admin):
        person.request("POST", f"/v1/rights/{right}/assignment/consent", {"accept": True})
    if bed.must(bed.admin, "GET", f"/v1/rights/{right}")["owner"] == victim.account:
        made.append("an owner")
    return AttackOutcome(bool(made), f"made {' and '.join(made)}" if made else "neither agent nor owner")


def lying_register(bed: AttackBed) -> AttackOutcome:
    """Have a register answer with what breaks its reader, and with another's mark for an account that took its name."""
    office = Registers("client:secret", "key-of-the-office")
    office.start()
    squatter, number = bed.person(verified=False), bed.number()
    bed.must(squatter, "PUT", "/v1/contact", {**CONTACT, "name": "Somebody Else"})
    bed.must(bed.admin, "POST", f"/v1/accounts/{squatter.account}/verify", SEEN)
    # now that a person has verified it, it takes the owner's name
    bed.must(squatter, "PUT", "/v1/contact", {**CONTACT, "name": "Owl and Moon GmbH"})
    body = {"right_type": "trademark", "register": "us", "number": number, "mark": "Owl"}
    right = bed.must(squatter, "POST", "/v1/rights", body)["id"]
    true = json.dumps(uspto(number, "Owl", ["Owl and Moon GmbH"], "REGISTERED")).encode()
    hostile: list[Fault] = [
        "huge",
        "redirect",
        "html",
        "drop",
        b"[" * 900_000,
        b'{"a":' * 100_000,
        b"\xff\xfe\x00",
        b"null",
    ]
    hostile += [true.replace(b'"Owl"', b'"' + b"O" * 3000 + b'"'), true.replace(b'"20"', b'"' + b"9" * 4000 + b'"')]
    office.faults.extend(hostile)
    office.add("us", number, "Owl", "Owl and Moon GmbH")
    bed.query(
        """insert into intake.register_queries (right_id, register, number) values (%s, 'us', %s)
        on conflict do nothing returning right_id""",
        right,
        number,
    )
    settings = {"GOODFAITH_REGISTERS": '["us"]', "GOODFAITH_USPTO_URL": office.url, "GOODFAITH_USPTO_KEY": office.key}
    settings["GOODFAITH_RETRY_MAX_S"] = "1"
    child, _ = started(bed, "intake-registers", settings)

    def answered() -> bool:
        with bed.engine.begin() as connection:
            connection.exec_driver_sql("update intake.register_queries set due_wall = now() where state = 'waiting'")
        return child.poll() is not None or not bed.query(
            "select right_id from intake.register_queries where right_id = %s and state = 'waiting'", right
        )

    try:
        if not bed.wait(answered, 90.0):
            raise StackError("the register was not asked often enough")
        ended = child.poll() is not None
        status = bed.must(bed.admin, "GET", f"/v1/rights/{right}")["status"]
        found = bed.query("select coalesce(result, state) from intake.register_queries where right_id = %s", right)
    finally:
        child.kill()
        child.wait()
        office.stop()
    happened = f"{len(office.calls)} answers; the right is {status} ({found[0][0]})"
    return AttackOutcome(ended or status == "active", happened + ("; the process ended" if ended else ""))


AUTHORITY: Final[Sequence[Attack]] = (
    Attack("self-made agent", "act for a principal that never said so", self_made_agent),
    Attack("lying register", "take another's mark by its name, or break who asks", lying_register),
    Attack("unasked", "make another an agent or owner", unasked),
)
