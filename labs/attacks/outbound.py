"""Attacks by what leaves the system: calls to internal addresses, mails in our name, and misleading links."""

from __future__ import annotations

import email
import email.policy
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Final

from labs.attacks.bed import ANSWERS_S, CONTACT, Attack, AttackBed, AttackOutcome, Person, listed

VICTIM: Final = "victim@victim.example"
LURE: Final = "lure.example"
INTERNAL_URLS: Final = (
    "https://127.0.0.1/",
    "https://localhost/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::5efe:7f00:1]/",
    "https://[2a00::200:5efe:127.0.0.1]/",
    "https://[4000::1]/",
    "https://[8000::1]/",
    "https://[fec0::1]/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://017700000001/",
    "https://127.1/",
    "https://user@8.8.8.8/",
    "https://8.8.8.8:22/",
    "http://8.8.8.8/",
    "https://168.63.129.16/",
    "https://100.100.100.200/",
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "https://8.8.8.8\\@127.0.0.1/",
    "https://[::ffff:0:10.0.0.1]/hook",
    "https://0.0.0.0/",
    "https://[::]/",
)
"""URLs that lead to internal addresses or break the rules for outbound calls."""


def ssrf(bed: AttackBed) -> AttackOutcome:
    """Register webhooks at internal addresses, in every notation."""
    person = bed.person()
    taken = [url for url in INTERNAL_URLS if person.request("POST", "/v1/webhooks", {"url": url}).is_success]
    return AttackOutcome(
        bool(taken), f"{len(taken)} of {len(INTERNAL_URLS)} taken" + (f": {', '.join(taken)}" if taken else "")
    )


def _mails(bed: AttackBed, to: str) -> list[str]:
    """All mails to an address, with headers and all text parts."""
    book = bed.stack.dir / "mailbox.jsonl"
    found = []
    for line in book.read_text("utf-8").splitlines() if book.exists() else ():
        entry = json.loads(line)
        if to in entry["to"]:
            message = email.message_from_bytes(
                (bed.stack.dir / entry["file"]).read_bytes(), policy=email.policy.default
            )
            parts = [str(part.get_content()) for part in message.walk() if part.get_content_maintype() == "text"]
            found.append("\n".join([*(f"{name}: {value}" for name, value in message.items()), *parts]))
    return found


def mail_relay(bed: AttackBed) -> AttackOutcome:
    """Open an account, enter a victim's address and a name with a link, and request a confirmation mail."""
    client = bed.client()
    opened = client.post("/v1/accounts", json={}).json()
    sender = Person(opened["account"], opened["token"], client)
    to = f"{secrets.token_hex(4)}.{VICTIM}"
    contact = {"name": f"You have won: https://{LURE}/now", "address": f"{LURE} 1\nTown", "email": to}
    asked = sender.request("PUT", "/v1/contact", contact)
    answer = sender.request("POST", "/v1/contact/code")
    if not answer.is_success:
        return AttackOutcome(False, f"contact {asked.status_code}, code {answer.status_code}")
    mails: list[str] = bed.wait(lambda: _mails(bed, to), ANSWERS_S) or []
    lured = sum(LURE in mail for mail in mails)
    return AttackOutcome(lured > 0, f"{len(mails)} mail, {lured} with the lure")


def mail_injection(bed: AttackBed) -> AttackOutcome:
    """Put line breaks and separators into every field that appears in a mail."""
    person = bed.person()
    tricks = ("\r\nBcc: x@lure.example", "\nX: y", "\r\n\r\nbody", "\0", "\u2028Bcc: x", "\x0b", "\x85Bcc: x")
    answers: Counter[str] = Counter()
    for trick in tricks:
        for name in ("name", "email", "address"):
            # a postal address may have several lines
            if name == "address" and trick == "\nX: y":
                continue
            body = {**CONTACT, name: CONTACT[name] + trick}
            answers[str(person.request("PUT", "/v1/contact", body).status_code)] += 1
    for value in (
        "a@b.example,c@d.example",
        "a@b.example>\r\nRCPT TO:<c@d.example",
        '"a b"@c.example',
        "a@b@c.example",
        "<a@b.example>",
    ):
        answers[str(person.request("PUT", "/v1/contact", {**CONTACT, "email": value}).status_code)] += 1
    return AttackOutcome(answers["204"] > 0, listed(answers))


BIDI: Final = (
    "https://market.example/items/\u202eelpmaxe",
    "https://market.example/items/a\u2066b",
    "https://elsewhere.example/\u202egpj.exe",
    "https://elsewhere.example/<script>alert(1)</script>",
    'https://elsewhere.example/"onload="x',
    "https://elsewhere.example/a\u200bb",
)
"""Links that display as something else or contain markup."""


def misleading_links(bed: AttackBed) -> AttackOutcome:
    """File listing links with bidirectional, invisible or markup characters."""
    holder = bed.person()
    right = bed.right(holder)
    kept = []
    for link in BIDI:
        made = holder.request("POST", "/v1/claims", {"right": right, "reason": "counterfeit", "listings": [link]})
        if made.is_success:
            shown = holder.request("GET", f"/v1/claims/{made.json()['claim']}/items").json()["items"][0]
            text = json.dumps(shown, ensure_ascii=False)
            kept += [link] * any(mark in text for mark in ("\u202e", "\u2066", "\u200b", "<script", '\\"onload'))
    return AttackOutcome(bool(kept), f"{len(kept)} of {len(BIDI)} kept unchanged")


OUTBOUND: Final[Sequence[Attack]] = (
    Attack("SSRF", "make us call internal addresses", ssrf, "S19"),
    Attack("mail relay", "send one's own words in our name", mail_relay, "S5"),
    Attack("mail injection", "inject headers and recipients", mail_injection),
    Attack("misleading links", "show one address and mean another", misleading_links, "S24"),
)
