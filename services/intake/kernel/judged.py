"""What an item is judged on, for those who decide or are concerned: what the listing shows, and the right.

Verification keeps what listings show, and is asked for it. While it does not answer, everything else is shown, and
the answer says that this is missing. Who may see an item is decided before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from litestar import Request
from msgspec import Struct

from services.intake.kernel.domain import Account
from services.intake.kernel.ids import item_range
from services.intake.kernel.refusals import busy
from services.intake.kernel.store import Row
from services.intake.kernel.web import Context, answered, context_of
from services.intake.kernel.weighed import AUDITED
from shared.comparison.pictures import Finding
from shared.content import Content, Revisions, SeenItems
from shared.refusals import Refused

log = structlog.get_logger(__name__)

MOST: Final = 50
"""Most items about which verification is asked at a time."""
_DETAILS: Final = """
    select i.id as item, i.triage, i.last, c.right_id as right, r.register, r.number, r.mark, r.classes, r.territory,
        array(select l.document from evidence_links l join evidence d on d.id = l.document and d.state = 'kept'
            where l.about = r.id and 'design_view' = any(l.kinds) order by l.document) as views,
        p.state as pictures_state, p.body as pictures_body
    from items i join claims c on c.id = i.claim left join rights r on r.id = c.right_id
    left join picture_checks p on p.item = i.id where i.id = any(%s)"""


class ListingContent(Struct, kw_only=True):
    """What the listing showed when the item was taken up, and what it shows now.

    ``status``: ``known``; ``none``: the marketplace has published nothing of it; ``unavailable``: it cannot be read at
    present, so ask again before you decide.
    """

    status: Literal["known", "none", "unavailable"]
    state: Literal["visible", "suspended", "removed", "ended", "unknown"] | None = None
    """What the marketplace last said of the listing."""
    filed: Content | None = None
    """What the item is judged on; null: nothing was published then."""
    filed_at: dt.datetime | None = None
    """Since when it showed that, as far as is known."""
    now: Content | None = None
    """What it shows now; null: nothing is published now."""
    edited: bool | None = None
    """Whether ``now`` differs from ``filed``; null: there is no ``filed``."""
    differing: list[str] = []
    """The fields that differ."""


class RightDetails(Struct, kw_only=True):
    """The right as it is registered."""

    register: str | None
    number: str | None
    mark: str | None
    """The words of a trade mark."""
    classes: list[str] | None
    """Nice or Locarno."""
    territory: list[str] | None
    """Where it applies; null: everywhere."""
    views: list[str]
    """Documents that show a design."""


class UnseenPicture(Struct, kw_only=True):
    """A picture that was not compared, which says nothing for or against anybody."""

    id: str
    """Of the listing's picture, or of the document that shows the right."""
    of: Literal["listing", "right"]
    reason: str
    """A code: see docs/how-to/pictures.md."""


class PicturesFound(Struct, kw_only=True):
    """What a comparison of pictures found."""

    pictures: int = 0
    """How many the listing showed when the item was taken up."""
    references: int = 0
    """How many the right has."""
    findings: list[Finding] = []
    """The surest first; at most 24."""
    unseen: list[UnseenPicture] = []
    """What was left out, and why."""


class PictureComparison(PicturesFound, kw_only=True):
    """The right's pictures in those of the listing, as it was taken up. That none was found proves nothing.

    ``status``: ``waiting``; ``compared``; ``given_up``: nothing could be compared for so long that a person looks.
    """

    status: Literal["waiting", "compared", "given_up"]


_found: Final = msgspec.json.Decoder(PicturesFound).decode


def details(connection: sa.Connection, items: Iterable[str]) -> dict[str, Row]:
    """By item, its right, triage and last change. Reads as the service: a party sees more of its item than its own rows."""
    rows = connection.exec_driver_sql(_DETAILS, (sorted(set(items)),)).mappings()
    return {row["item"]: dict(row) for row in rows}


def right_of(row: Mapping[str, object]) -> RightDetails:
    """The right in a row of ``details``."""
    return RightDetails(**{name: row[name] for name in RightDetails.__struct_fields__})  # type: ignore[arg-type]


def pictures_of(row: Mapping[str, Any]) -> PictureComparison | None:
    """What was found of pictures, by a row of ``details``; None: the right has none, or pictures are not compared here."""
    if row["pictures_state"] is None:
        return None
    found = {} if row["pictures_body"] is None else msgspec.structs.asdict(_found(row["pictures_body"]))
    return PictureComparison(status=row["pictures_state"], **found)


async def contents(context: Context, items: Sequence[str]) -> dict[str, ListingContent]:
    """By item, what its listing showed and shows. Never raises: what cannot be read is ``unavailable``."""
    found: dict[str, ListingContent] = {}
    for first in range(0, len(items), MOST):
        some = items[first : first + MOST]
        try:
            call = context.verification.post("/internal/seen", SeenItems, {"items": some})
            seen = (await answered(call, _unavailable())).items
        except Refused as refused:
            log.warning("contents cannot be read", reason=refused.reason)
            found |= {item: ListingContent(status="unavailable") for item in some}
            continue
        for item in some:
            one = seen.get(item)
            if one is None:
                # verification has not taken it up yet
                found[item] = ListingContent(status="none")
                continue
            found[item] = ListingContent(
                status="none" if one.filed is None and one.now is None else "known",
                state=one.state,
                filed=one.filed,
                filed_at=one.filed_at,
                now=one.now,
                edited=one.edited,
                differing=list(one.differing),
            )
    return found


async def revisions(context: Context, item: str) -> Revisions:
    """What the item's listing showed, oldest first.

    Raises:
        Refused: 503.
    """
    return await answered(context.verification.get("/internal/revisions", Revisions, {"item": item}), _unavailable())


def _unavailable() -> Refused:
    return busy("What listings showed cannot be read at present.")


class _OfClaim(Protocol):
    @property
    def claim(self) -> str | None: ...


_T = TypeVar("_T", bound=_OfClaim)


def audited(connection: sa.Connection, claims: Iterable[str]) -> frozenset[str]:
    """Those of the claims that have an item which a person is asked to audit."""
    ids = sorted(set(claims))
    rows = connection.exec_driver_sql(
        f"""select n.claim from unnest(%s::text[], %s::text[], %s::text[]) as n(claim, low, high)
        where exists (select from items i where i.id > n.low and i.id <= n.high and {AUDITED})""",
        (ids, *map(list, zip(*map(item_range, ids), strict=True))),
    )
    return frozenset(rows.scalars())


async def without_audited(request: Request[Account, Any, Any], rows: Sequence[_T]) -> list[_T]:
    """What tells of takedowns, for its reader: to a reviewer, nothing about claims with an item that is audited.

    A page may have fewer entries for it.
    """
    claims = {row.claim for row in rows if row.claim is not None}
    if request.user.role != "reviewer" or not claims:
        return list(rows)
    hidden = await context_of(request).run(audited, claims)
    return [row for row in rows if row.claim not in hidden]
