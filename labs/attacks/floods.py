"""Attacks on availability: floods, slow clients, starvation. An honest client must still be served."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from labs.attacks.ground import LATER, SITE, Attack, AttackBed, Outcome, Slow, headers, listed, mostly

SLOW_S: Final = 25.0
"""Seconds for which slow clients keep going; a server with time limits has closed them by then."""
_LIMITED: Final = tuple(map(str, sorted(LATER)))


def new_bogus_token() -> str:
    """A token of the right shape that was never issued."""
    return f"gf_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def guessed_tokens(ground: AttackBed) -> Outcome:
    """Guess tokens from one address as fast as possible."""
    client, count = ground.client(), ground.count(300, 5000)
    told = ground.statuses(
        partial(client.get, "/v1/me", headers={"authorization": f"Bearer {new_bogus_token()}"}) for _ in range(count)
    )
    return Outcome(mostly(told, "401") or bool(told["200"]), listed(told))


def free_accounts(ground: AttackBed) -> Outcome:
    """Open accounts from one address as fast as possible."""
    client, count = ground.client(), ground.count(200, 3000)
    told = ground.statuses(partial(client.post, "/v1/accounts", json={}) for _ in range(count))
    return Outcome(mostly(told, "201"), listed(told))


def claims(ground: AttackBed) -> Outcome:
    """File claims from one account as fast as possible."""
    filer, count = ground.person(), ground.count(300, 5000)
    right = ground.right(filer)
    told = ground.statuses(
        partial(
            filer.ask,
            "POST",
            "/v1/claims",
            {"right": right, "reason": "counterfeit", "listings": [SITE + secrets.token_hex(6)]},
        )
        for _ in range(count)
    )
    return Outcome(False, listed(told))


def reads(ground: AttackBed) -> Outcome:
    """List claims and items from one account as fast as possible."""
    reader, count = ground.person(), ground.count(300, 5000)
    right = ground.right(reader)
    claim = ground.claim(reader, right)["claim"]
    paths = (f"/v1/claims/{claim}/items?limit=200", "/v1/claims?limit=200")
    told = ground.statuses(partial(reader.ask, "GET", paths[number % 2]) for number in range(count))
    return Outcome(False, listed(told))


def _slow(ground: AttackBed, begin: bytes, piece: bytes, count: int) -> Outcome:
    """Send requests byte by byte from one address; succeeds if any connection outlives the time limits."""
    address = ground.address()
    with Slow(ground.place(), [address] * count) as slow:
        slow.send(begin)
        left = slow.drip(SLOW_S, piece)
    return Outcome(left > 0, f"{count} begun, {left} held open for {SLOW_S:.0f} s")


def slow_headers(ground: AttackBed) -> Outcome:
    """Send request headers that never end."""
    return _slow(ground, b"GET /v1/me HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"a", ground.count(64, 500))


def slow_bodies(ground: AttackBed) -> Outcome:
    """Send JSON bodies that never end."""
    head = headers("POST", "/v1/accounts", Content_Type="application/json", Content_Length="5000")
    return _slow(ground, head + b'{"kind": "', b"a", ground.count(64, 500))


def slow_uploads(ground: AttackBed) -> Outcome:
    """Start sixteen uploads, four for each of four accounts, and let them crawl."""
    people = [ground.person() for _ in range(4)]
    address = ground.address()
    begun = time.monotonic()
    with Slow(ground.place(), [address] * 16) as slow:
        for number, one in enumerate(slow.each()):
            person = people[number % 4]
            one.sendall(
                headers("POST", "/v1/evidence?kind=ownership", person, Content_Length="1000000") + b"%PDF-1.7\n"
            )
        left = slow.drip(SLOW_S, b"%")
    return Outcome(False, f"16 uploads, {left} held open for {time.monotonic() - begun:.0f} s")


def slow_reads(ground: AttackBed) -> Outcome:
    """Request a file many times and do not read the answers."""
    owner = ground.person()
    content = "\n".join(f"Line {number} of a long letter." for number in range(50_000)).encode()
    document = ground.upload(owner, content).json()["id"]
    link = ground.must(owner, "POST", f"/v1/evidence/{document}/link")["url"]
    count = ground.count(64, 300)
    with Slow(ground.place(), [ground.address()] * count, receive=2048) as slow:
        slow.send(headers("GET", link))
        time.sleep(SLOW_S / 2)
    return Outcome(False, f"{count} readers of {len(content):,} bytes that stand still")


def idle_connections(ground: AttackBed) -> Outcome:
    """Open connections and send nothing."""
    count = ground.count(200, 2000)
    with Slow(ground.place(), [ground.address()] * count) as slow:
        time.sleep(SLOW_S / 3)
        left = slow.open()
    return Outcome(False, f"{count} connections, {left} open")


def unseen_guesses(ground: AttackBed) -> Outcome:
    """Guess a few tokens and look for a security event in the API's log."""
    client = ground.client()
    before = len(ground.log("intake-api.0"))
    told: Counter[str] = ground.statuses(
        partial(client.get, "/v1/me", headers={"authorization": f"Bearer {new_bogus_token()}"}) for _ in range(10)
    )
    seen = ground.wait(lambda: "unauthenticated" in ground.log("intake-api.0")[before:], 5.0)
    return Outcome(not seen, f"{listed(told)}; {'logged' if seen else 'nothing in the log'}")


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
