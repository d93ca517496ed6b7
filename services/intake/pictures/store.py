"""The queue of comparisons. Times are wall time: whoever serves pictures knows no other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa

from services.intake.evidence import domain as evidence
from services.intake.evidence.store import Row
from services.intake.kernel.judged import PicturesFound
from shared.comparison.pictures.types import AIDS, Kind
from shared.events import RightType

KINDS: Final[dict[RightType, tuple[str, Kind]]] = {
    "copyright": ("specimen", "work"),
    "design": (evidence.VIEW, "design"),
}
"""By type of right: the kind of document that shows it, and what such a picture is."""
REFERENCES: Final = 10
TRIES: Final = 20
"""After so many a check is given up, whatever broke it off."""
_QUEUE: Final = """
    insert into picture_checks (item, right_id)
    select n.item, n.right_id from unnest(%s::text[], %s::text[], %s::text[]) as n(item, right_id, kind)
    where exists (select from evidence_links l where l.about = n.right_id and n.kind = any(l.kinds))
    order by n.item on conflict do nothing"""
_TAKE: Final = """
    update picture_checks p set due_wall = now() + %s * interval '1 s', tries = tries + 1 from (
        select item from picture_checks where state = 'waiting' and due_wall <= now()
        order by due_wall limit 1 for update skip locked) n join items i on i.id = n.item
    where p.item = n.item
    returning p.item, p.right_id, i.claim, i.listing, p.tries > %s or p.since_wall < now() - %s * interval '1 s' as late,
        (select r.right_type from rights r where r.id = p.right_id) as right_type"""
_POSTPONE: Final = """
    update picture_checks set due_wall = now() + least(600, 2 ^ least(tries, 10)) * interval '1 s'
    where item = %s and state = 'waiting'"""
_REFERENCES: Final = """
    select d.id, d.digest, d.size, d.sealed, d.key, d.state = 'kept' and d.forged is null as kept,
        exists (select from right_changes h
            where h.right_id = l.about and h.kind = 'accepted' and d.id = any(h.documents)) as accepted
    from evidence_links l join evidence d on d.id = l.document where l.about = %s and %s = any(l.kinds)
    order by l.linked_at, d.id limit %s"""


class Check(NamedTuple):
    """An item whose pictures are to be compared. ``late``: it has taken so long that it is done with what there is."""

    item: str
    right: str
    claim: str
    listing: str
    late: bool
    right_type: RightType


def queue(connection: sa.Connection, items: Collection[tuple[str, str, RightType]]) -> None:
    """Have the pictures of items (item, right, its type) compared, if the right has any; once for each item."""
    rows = [(item, right, KINDS[kind][0]) for item, right, kind in items if kind in KINDS]
    if rows:
        connection.exec_driver_sql(_QUEUE, tuple(map(list, zip(*rows, strict=True))))


def take(connection: sa.Connection, lease_s: float, give_up_s: float) -> Check | None:
    """Take a due check; it becomes due again after ``lease_s``."""
    row = connection.exec_driver_sql(_TAKE, (lease_s, TRIES, give_up_s)).one_or_none()
    return None if row is None else Check(*row)


def postpone(connection: sa.Connection, item: str) -> None:
    """Something cannot be reached at present: try again after 2 to 600 seconds."""
    connection.exec_driver_sql(_POSTPONE, (item,))


def references(connection: sa.Connection, check: Check) -> list[Row]:
    """The documents that show the right.

    Of one that is not ``kept`` the bytes are gone, or prove nothing. One that is not ``accepted`` its owner may have
    named since: it shows whatever suits the owner, such as the seller's own picture.
    """
    values = (check.right, KINDS[check.right_type][0], REFERENCES)
    rows = connection.exec_driver_sql(_REFERENCES, values).mappings()
    return [
        {**row, "digest": bytes(row["digest"]), "key": None if row["key"] is None else bytes(row["key"])}
        for row in rows
    ]


def settle(connection: sa.Connection, item: str, found: PicturesFound | None) -> bool:
    """A check is done; None: given up without result. False: another process was quicker."""
    state, body = ("given_up", None) if found is None else ("compared", msgspec.json.encode(found).decode())
    statement = "update picture_checks set state = %s, body = %s where item = %s and state = 'waiting'"
    return bool(connection.exec_driver_sql(statement, (state, body, item)).rowcount)


def match(found: PicturesFound, right_type: RightType) -> float | None:
    """How surely a picture that proves something is in the listing; None: that is not known.

    Of a design it never is: a likeness of photographs does not say whether the goods have its appearance.
    """
    if KINDS[right_type][1] in AIDS:
        return None
    best = max((one.score for one in found.findings), default=0.0)
    whole = found.pictures > 0 and found.references > 0 and not found.unseen
    return best if best > 0 or whole else None


def waiting(connection: sa.Connection) -> tuple[int, dt.datetime | None]:
    """How many checks wait, and since when the oldest does."""
    count, since = connection.exec_driver_sql(
        "select count(*), min(since_wall) from picture_checks where state = 'waiting'"
    ).one()
    return count, since
