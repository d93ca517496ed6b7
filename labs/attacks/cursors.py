"""Attacks by forged page cursors: read entries of other claims and parties, or crash a list."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from labs.attacks.bed import Attack, AttackBed, AttackOutcome, Person, listed
from shared.paging import cursor_of

FORGED: Final[Sequence[object]] = (
    (),
    ("",),
    ("zzz",),
    (None,),
    (True,),
    (-1,),
    (2**63,),
    (2**70,),
    (1e308,),
    ("0", 0),
    ("", -1),
    ("z" * 300,),
    ([["x"]],),
    ({"a": 1},),
    ("\0",),
    ("1970-01-01T00:00:00Z", ""),
    ("9999-12-31T23:59:59Z", "z"),
    ("'; select 1; --",),
    ("%",),
    (0, "a", []),
)
"""Keys to forge cursors from."""


def _pages(person: Person, path: str, cursor: str | None) -> Iterator[dict[str, Any]]:
    """Entries of up to ten pages."""
    for _ in range(10):
        mark = "" if cursor is None else f"&cursor={cursor}"
        answer = person.request("GET", f"{path}{'&' if '?' in path else '?'}limit=200{mark}")
        if not answer.is_success:
            return
        page = answer.json()
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _of_another_claim(bed: AttackBed, part: str, field: str, forged: object) -> AttackOutcome:
    """List one claim with a forged cursor and look for entries of another claim."""
    holder = bed.person()
    right = bed.right(holder)
    first, second = (bed.claim(holder, right, "", "") for _ in range(2))
    for made in (first, second):
        for item in made["items"]:
            bed.note_change(item["item"])
    own = {item["item"] for item in second["items"]}
    seen = {one[field] for one in _pages(holder, f"/v1/claims/{second['claim']}/{part}", cursor_of(*forged))}  # type: ignore[misc]
    others = seen - own
    return AttackOutcome(bool(others), f"{len(seen)} entries, {len(others)} of another claim")


def items_cursor(bed: AttackBed) -> AttackOutcome:
    """Page through a claim's items with a cursor that starts before the claim."""
    return _of_another_claim(bed, "items", "id", ("0",))


def timeline_cursor(bed: AttackBed) -> AttackOutcome:
    """Page through a claim's timeline with a cursor that starts before the claim."""
    return _of_another_claim(bed, "timeline", "item", ("0", 0))


def evidence_cursor(bed: AttackBed) -> AttackOutcome:
    """Read document ids out of the `next` cursors of pages that hide the documents themselves."""
    owner, other = bed.person(), bed.person()
    right = bed.right(owner)
    documents = [bed.must_upload(owner, f"Private letter {secrets.token_hex(8)}.".encode()) for _ in range(3)]
    claim = bed.claim(owner, right, evidence=documents)["claim"]
    leaked: set[str] = set()
    cursor: str | None = None
    for _ in range(5):
        mark = "" if cursor is None else f"&cursor={cursor}"
        page = other.request("GET", f"/v1/evidence?about={claim}&limit=1{mark}")
        cursor = page.json().get("next") if page.is_success else None
        if cursor is None:
            break
        leaked |= {document for document in documents if document in _decoded(cursor)}
    return AttackOutcome(bool(leaked), f"{len(leaked)} of {len(documents)} ids leaked")


def _decoded(cursor: str) -> str:
    with contextlib.suppress(ValueError):
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode(errors="replace")
    return ""


LISTS: Final = (
    "/v1/claims",
    "/v1/rights",
    "/v1/authorisations",
    "/v1/inbox",
    "/v1/evidence",
    "/v1/good-faith/history",
    "/v1/misuse/history",
    "/v1/deliveries",
    "/v1/webhooks",
    "/v1/accounts",
    "/v1/misuse/complaints",
    "/v1/review/cases",
    "/v1/sellers",
    "/v1/standing/ledger",
)


def list_cursors(bed: AttackBed) -> AttackOutcome:
    """Send forged cursors to every list as a holder, a seller and an operator."""
    neighbour = bed.person()
    bed.claim(neighbour, bed.right(neighbour))
    holder, seller = bed.person(), bed.person("seller")
    cursors = [cursor_of(*key) if isinstance(key, tuple) else str(key) for key in FORGED]
    cursors += ["", "=", "%00", "AAAA", "WyJ4Il0=", "x" * 399, base64.urlsafe_b64encode(b"[" * 200).decode()]
    answers: Counter[str] = Counter()
    foreign = 0
    for person in (holder, seller, bed.admin):
        for path in LISTS:
            for cursor in cursors:
                answer = person.request("GET", path, params={"cursor": cursor})
                answers[str(answer.status_code)] += 1
                if person is not bed.admin and answer.is_success:
                    foreign += neighbour.account in answer.text
    failed = sum(count for status, count in answers.items() if status >= "500" and status != "503")
    return AttackOutcome(bool(failed or foreign), f"{listed(answers)}; {foreign} foreign entries")


CURSORS: Final[Sequence[Attack]] = (
    Attack("items cursor", "read items beyond the claim", items_cursor, "S4"),
    Attack("timeline cursor", "read the timeline beyond the claim", timeline_cursor, "S4"),
    Attack("evidence cursor", "learn other parties' document ids", evidence_cursor, "S9"),
    Attack("list cursors", "crash a list or read others' entries", list_cursors),
)
