"""Attacks on availability: floods, slow clients, starvation. An honest client must still be served."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from labs.attacks.bed import LATER, SITE, Attack, AttackBed, AttackOutcome, SlowSockets, headers, listed, mostly

SLOW_S: Final = 25.0
"""Seconds for which slow clients keep going. A server with time limits closes them earlier."""
_LIMITED: Final = tuple(map(str, sorted(LATER)))


def new_bogus_token() -> str:
    """A token of the right shape that was never issued."""
    return f"gf_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def guessed_tokens(bed: AttackBed) -> AttackOutcome:
    """Guess tokens from one address as fast as possible."""
    client, count = bed.client(), bed.count(300, 5000)
    answers = bed.statuses(
        partial(client.get, "/v1/me", headers={"authorization": f"Bearer {new_bogus_token()}"}) for _ in range(count)
    )
    return AttackOutcome(mostly(answers, "401") or bool(answers["200"]), listed(answers))


def free_accounts(bed: AttackBed) -> AttackOutcome:
    """Open accounts from one address as fast as possible."""
    client, count = bed.client(), bed.count(200, 3000)
    answers = bed.statuses(partial(client.post, "/v1/accounts", json={}) for _ in range(count))
    return AttackOutcome(mostly(answers, "201"), listed(answers))


def claims(bed: AttackBed) -> AttackOutcome:
    """File claims from one account as fast as possible."""
    filer, count = bed.person(), bed.count(300, 5000)
    right = bed.right(filer)
    answers = bed.statuses(
        partial(
            filer.request,
            "POST",
            "/v1/claims",
            {"right": right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]},
        )
        for _ in range(count)
    )
    return AttackOutcome(False, listed(answers))


def reads(bed: AttackBed) -> AttackOutcome:
    """List claims and items from one account as fast as possible."""
    reader, count = bed.person(), bed.count(300, 5000)
    right = bed.right(reader)
    claim = bed.claim(reader, right)["claim"]
    paths = (f"/v1/claims/{claim}/items?limit=200", "/v1/claims?limit=200")
    answers = bed.statuses(partial(reader.request, "GET", paths[number % 2]) for number in range(count))
    return AttackOutcome(False, listed(answers))


def _slow(bed: AttackBed, begin: bytes, piece: bytes, count: int) -> AttackOutcome:
    """Send requests byte by byte from one address; succeeds if any connection outlives the time limits."""
    address = bed.address()
    with SlowSockets(bed.api_address(), [address] * count) as slow:
        slow.send(begin)
        left = slow.drip(SLOW_S, piece)
    return AttackOutcome(left > 0, f"{count} begun, {left} held open for {SLOW_S:.0f} s")


def slow_headers(bed: AttackBed) -> AttackOutcome:
    """Send request headers that never end."""
    return _slow(bed, b"GET /v1/me HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"a", bed.count(64, 500))


def slow_bodies(bed: AttackBed) -> AttackOutcome:
    """Send JSON bodies that never end."""
    head = headers("POST", "/v1/accounts", Content_Type="application/json", Content_Length="5000")
    return _slow(bed, head + b'{"kind": "', b"a", bed.count(64, 500))


def slow_uploads(bed: AttackBed) -> AttackOutcome:
    """Start sixteen uploads, four for each of four accounts, and send them very slowly."""
    people = [bed.person() for _ in range(4)]
    address = bed.address()
    begun = time.monotonic()
    with SlowSockets(bed.api_address(), [address] * 16) as slow:
        for number, one in enumerate(slow.each()):
            person = people[number % 4]
            one.sendall(
                headers("POST", "/v1/evidence?kind=ownership", person, Content_Length="1000000") + b"%PDF-1.7\n"
            )
        left = slow.drip(SLOW_S, b"%")
    return AttackOutcome(False, f"16 uploads, {left} held open for {time.monotonic() - begun:.0f} s")


def slow_reads(bed: AttackBed) -> AttackOutcome:
    """Request a file many times and do not read the answers."""
    owner = bed.person()
    content = "\n".join(f"Line {number} of a long letter." for number in range(50_000)).encode()
    document = bed.upload(owner, content).json()["id"]
    link = bed.must(owner, "POST", f"/v1/evidence/{document}/link")["url"]
    count = bed.count(64, 300)
    with SlowSockets(bed.api_address(), [bed.address()] * count, receive=2048) as slow:
        slow.send(headers("GET", link))
        time.sleep(SLOW_S / 2)
    return AttackOutcome(False, f"{count} readers of {len(content):,} bytes that stand still")


def idle_connections(bed: AttackBed) -> AttackOutcome:
    """Open connections and send nothing."""
    count = bed.count(200, 2000)
    with SlowSockets(bed.api_address(), [bed.address()] * count) as slow:
        time.sleep(SLOW_S / 3)
        left = slow.open()
    return AttackOutcome(False, f"{count} connections, {left} open")


def unseen_guesses(bed: AttackBed) -> AttackOutcome:
    """Guess a few tokens and look for a security event in the API's log."""
    client = bed.client()
    before = len(bed.log("intake-api.0"))
    answers: Counter[str] = bed.statuses(
        partial(client.get, "/v1/me", headers={"authorization": f"Bearer {new_bogus_token()}"}) for _ in range(10)
    )
    seen = bed.wait(lambda: "unauthenticated" in bed.log("intake-api.0")[before:], 5.0)
    return AttackOutcome(not seen, f"{listed(answers)}; {'logged' if seen else 'nothing in the log'}")


FLOODS: Final[Sequence[Attack]] = (
    Attack("guessed tokens", "guess tokens without limit", guessed_tokens, "S8"),
    Attack("unseen guesses", "guess without leaving a trace", unseen_guesses, "S15"),
    Attack("free accounts", "open accounts without limit", free_accounts, "S8"),
    Attack("claims", "fill the queue", claims),
    Attack("reads", "keep the readers busy", reads),
    Attack("slow headers", "tie up connections", slow_headers, "S10"),
    Attack("slow bodies", "tie up request handlers", slow_bodies, "S10"),
    Attack("slow uploads", "take all upload slots", slow_uploads, "S6"),
    Attack("slow reads", "tie up answers", slow_reads),
    Attack("idle connections", "use up connections", idle_connections),
)
