"""Domains that accounts name: which may be named, and what a look-up makes of one. Pure, with two lists on disk.

That an account controls a domain is a signal for reviewers: it verifies nobody.
"""

from __future__ import annotations

import datetime as dt
import gzip
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal

import idna

from shared.refusals import Refused

State = Literal["pending", "verified", "failed", "removed"]
Answer = Literal["found", "no_record", "other_record", "alias", "too_long", "no_answer"]
"""What a look-up found; ``alias``: the name is another's."""
Reason = Literal["no_record", "other_record", "alias", "too_long", "no_answer", "not_checked"]

NAME: Final = "_goodfaith-challenge."
"""Precedes the domain where its record is: only who runs its DNS can publish there."""
RECORD: Final = "goodfaith-verification="
PAUSE: Final = dt.timedelta(minutes=1)
"""Between two requests to look a domain up."""
PENDING: Final = dt.timedelta(days=1)
"""How long a record is looked for after the account asked."""
AGAIN: Final = dt.timedelta(days=1)
"""Between two look-ups of a domain that is verified."""
KEPT: Final = dt.timedelta(days=3)
"""How long a domain stays verified after its record was last seen."""
RARELY: Final = dt.timedelta(hours=6)
"""Longest pause before another try."""
TEXTS_MOST: Final = 50
TEXT_MOST: Final = 300
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST: Final = 253 - len(NAME)
_NOT_PUBLIC: Final = frozenset(
    ("alt", "arpa", "corp", "home", "internal", "invalid", "lan", "local", "localhost", "onion")
)
"""Top-level domains of no public DNS (RFC 6761 and the like): a question for them could only be about our own network."""


@cache
def _listed(name: str) -> frozenset[str]:
    text = gzip.decompress((Path(__file__).parent / f"{name}.txt.gz").read_bytes()).decode("ascii")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def _suffix(labels: Sequence[str]) -> int:
    """How many labels the public suffix has (https://publicsuffix.org/list/): the longest rule; one, if there is none."""
    rules = _listed("suffixes")
    for start in range(len(labels)):
        here, above = ".".join(labels[start:]), ".".join(labels[start + 1 :])
        if f"!{here}" in rules:
            return len(labels) - start - 1
        if here in rules or f"*.{above}" in rules:
            return len(labels) - start
    return 1


def parse(text: str) -> str:
    """The domain in ASCII, without a final point.

    Raises:
        Refused: it is no domain of the public DNS, nobody's own, or one at which anybody gets an address.
    """
    plain = text.strip().removesuffix(".").lower()
    try:
        domain = idna.encode(plain, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, IndexError):
        domain = ""
    labels = domain.split(".")
    if (
        len(labels) < 2
        or len(domain) > _LONGEST
        or not all(_LABEL.fullmatch(label) for label in labels)
        or labels[-1].isdigit()
        or labels[-1] in _NOT_PUBLIC
    ):
        raise _refused(
            "bad_domain",
            "This is no domain of the public DNS.",
            "Give the domain alone, such as brand.example: no address, no URL, no path.",
        )
    suffix = _suffix(labels)
    if suffix >= len(labels):
        raise _refused(
            "public_suffix", "Under this domain, others register theirs.", "Name a domain that is registered to you."
        )
    if ".".join(labels[-suffix - 1 :]) in _listed("freemail"):
        raise _refused(
            "free_mail", "At this domain anybody gets an address.", "Name a domain that is registered to you."
        )
    return domain


def _refused(reason: str, detail: str, cure: str) -> Refused:
    return Refused(422, reason, detail, field="domain", cure=cure)


def domain_of(email: str) -> str | None:
    """The domain of an address, as ``parse`` writes it; None: it is one that no account can name."""
    try:
        return parse(email.rpartition("@")[2])
    except Refused:
        return None


def new_token() -> str:
    """160 random bits, in letters that every DNS service takes."""
    return secrets.token_hex(20)


def read(texts: Sequence[bytes], token: str) -> Answer:
    """What the records say: one of them must be this token's, and nothing else."""
    if len(texts) > TEXTS_MOST:
        return "too_long"
    own = f"{RECORD}{token}".encode()
    if any(text.strip() == own for text in texts if len(text) <= TEXT_MOST):
        return "found"
    return "other_record" if texts else "no_record"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a domain stands. All times are wall times: DNS knows no other.

    Attributes:
        reason: why the last look-up did not find the record.
        asked_at: when the account last asked for a look-up.
        due_at: when it is looked up next; None: not until the account asks.
        tries: look-ups since the record was last seen, or asked for.
        since: since when it is verified.
        seen_at: when its record was last seen.
    """

    state: State
    reason: Reason | None = None
    asked_at: dt.datetime | None = None
    due_at: dt.datetime | None = None
    tries: int = 0
    since: dt.datetime | None = None
    seen_at: dt.datetime | None = None


def asked(known: Standing, now: dt.datetime) -> Standing:
    """The account asks for a look-up.

    Raises:
        Refused: it has just asked.
    """
    if known.asked_at is not None and now < known.asked_at + PAUSE:
        raise Refused(
            422,
            "check_too_soon",
            f"The domain was to be looked up less than {int(PAUSE.total_seconds())} s ago.",
            cure="Read GET /v1/domains: it is looked up again without your asking.",
        )
    state: State = "pending" if known.state == "failed" else known.state
    return replace(known, state=state, asked_at=now, due_at=now, tries=0)


def looked_up(known: Standing, answer: Answer, now: dt.datetime) -> Standing:
    """What a look-up makes of a domain. ``known.tries`` counts it.

    A verified domain stays so for ``KEPT`` after its record was last seen, whatever is answered meanwhile: a fault
    takes nothing away. One that is not verified is looked up for ``PENDING`` after the account asked.
    """
    if answer == "found":
        since = known.since if known.state == "verified" else now
        return replace(known, state="verified", reason=None, due_at=now + AGAIN, tries=0, since=since, seen_at=now)
    begun, lasts = (known.seen_at, KEPT) if known.state == "verified" else (known.asked_at, PENDING)
    if begun is None or now >= begun + lasts:
        return replace(known, state="failed", reason=answer, due_at=None, since=None)
    pause = min(PAUSE * 2 ** min(known.tries, 10), RARELY)
    return replace(known, reason=answer, due_at=min(now + pause, begun + lasts))


def shown(known: Standing, now: dt.datetime) -> Standing:
    """How it is shown: what has not been looked up for too long counts as verified no more."""
    if known.state == "verified" and (known.seen_at is None or now >= known.seen_at + KEPT):
        return replace(known, state="failed", reason="not_checked", since=None)
    return known
