"""Row 20: the system files a claim for a listing that verification found to be a near copy of an upheld one.

The claim repeats the older one for one listing, under the policy in force. It is filed only if its complainant could
file it now: the right is active and the principal's, the account open, the authorisation good, the contacts confirmed, the
profile offered.
Otherwise verification's event stands alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from services.intake.evidence import store as evidence_store
from services.intake.filing import domain as filing_domain
from services.intake.filing import store as filing_store
from services.intake.kernel import filings, requests, store
from services.intake.kernel.domain import Account, Right
from services.intake.kernel.filings import Filed, Filing
from services.intake.kernel.listings import ListingRef
from shared import events, site_links
from shared.events import RecurrenceFound, State
from shared.refusals import Refused
from shared.settings import Settings
from shared.site_links import SiteLinks

SYSTEM: Final = "a-system"
CHANNEL: Final = "recurrence"
_ENDED: Final = frozenset(
    {State.DUPLICATE, State.LINK_INVALID, State.LAPSED, State.REJECTED, State.RESTORED, State.WITHDRAWN}
)
_DECODE: Final = msgspec.json.Decoder(events.ItemSubmitted)


class Precedent(msgspec.Struct, frozen=True):
    """What an upheld item rests on: its claim's terms, and what was added since."""

    terms: events.ItemSubmitted
    state: State
    materials: frozenset[str] = frozenset()
    """Kinds of proof that were added later."""
    documents: tuple[str, ...] = ()


def filing(
    found: RecurrenceFound,
    precedent: Precedent | None,
    account: Account | None,
    right: Right | None,
    *,
    site: SiteLinks,
    now: dt.datetime,
    pinned: Mapping[str, str],
    offered: Sequence[str] = (),
) -> Filing:
    """Make the claim to file. It goes through the same checks as any other.

    Raises:
        Refused: it could not be filed now.
    """
    if precedent is None or account is None or right is None:
        raise Refused(404, "not_found", "The upheld item is not known.")
    if precedent.state in _ENDED:
        raise Refused(422, "original_ended", "The upheld item has ended without a takedown.")
    terms = precedent.terms
    if right.status_at(now) != "active":
        raise Refused(422, "right_not_active", "The right is not in force.")
    link = site.link(found.listing)
    body = requests.SubmitClaim(
        right=terms.right,
        reason=terms.reason,
        listings=[link],
        profile=terms.profile,
        principal=None if terms.principal == terms.complainant else terms.principal,
        abroad=terms.abroad,
        materials=sorted({*terms.materials, *precedent.materials}),
        evidence=list(precedent.documents),
    )
    rules = filing_domain.check_claim(body, account, pinned, offered)
    key = f"recurrence:{found.item}:{found.listing}"
    return Filing(
        account,
        key,
        SYSTEM,
        filings.digest("submit_claim", key, b""),
        "submit_claim",
        body,
        CHANNEL,
        listings=[ListingRef(found.listing, True, link)],
        rules=rules,
        recurs=found.item,
    )


def file(
    connection: sa.Connection, found: Sequence[RecurrenceFound], now: dt.datetime, wall: dt.datetime, settings: Settings
) -> list[Filed | Refused]:
    """File a claim for each near copy, at most once each. Call ``enter_admission`` first."""
    precedents = _precedents(connection, found)
    people = store.accounts(connection, [one.terms.complainant for one in precedents.values()])
    known = store.rights(connection, [one.terms.right for one in precedents.values()])
    site = site_links.of(settings.site_links)
    results: list[Filed | Refused | None] = []
    filings: list[Filing] = []
    for one in found:
        old = precedents.get(one.item)
        account = None if old is None else people.get(old.terms.complainant)
        right = None if old is None else known.get(old.terms.right)
        try:
            filings.append(
                filing(
                    one,
                    old,
                    account,
                    right,
                    site=site,
                    now=now,
                    pinned=settings.pinned_policies,
                    offered=settings.profiles,
                )
            )
            results.append(None)
        except Refused as refused:
            results.append(refused)
    filed = iter(filing_store.file(connection, filings, now, wall, settings.partitions))
    return [next(filed) if result is None else result for result in results]


def _precedents(connection: sa.Connection, found: Sequence[RecurrenceFound]) -> dict[str, Precedent]:
    items = sorted({one.item for one in found})
    rows = connection.exec_driver_sql(
        "select i.id, i.claim, i.state, c.terms from items i join claims c on c.id = i.claim where i.id = any(%s)",
        (items,),
    ).all()
    claims = sorted({row.claim for row in rows})
    kinds = evidence_store.kinds_named(connection, claims)
    documents = evidence_store.documents_named(connection, claims)
    result = {}
    for item, claim, state, text in rows:
        terms = _DECODE.decode(text)
        mine = (claim, terms.complainant)
        result[item] = Precedent(
            terms, State(state), frozenset(kinds.get(mine, ())), tuple(sorted(documents.get(mine, ())))
        )
    return result
