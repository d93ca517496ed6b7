"""Routes that read claims, items and commands."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from litestar import Request, get, post

from services.intake.kernel import judged, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.web import EVERYONE, INTERNAL, MAY_FAIL, Body, Context, ItemState, context_of, known_id, out
from services.intake.kernel.weighed import audit_of, why_person
from services.intake.reading import answers
from services.intake.reading import store as reading_store
from services.intake.registry import forms
from shared import languages
from shared.content import Revisions
from shared.events import ItemChanged, State, Triage
from shared.paging import Cursor, Int, Limit, Page, cursor_of, key_of, page_of
from shared.problems import language_of


@get("/v1/claims", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_claims(
    request: Request[Account, Any, Any], item_state: ItemState = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.ClaimOut]:
    """Claims that the caller is party to, latest first. With `state`, only those with an item in that state."""
    (before,) = key_of(cursor, tuple[str]) or (None,)
    rows = await context_of(request).read(
        request.user, reading_store.list_claims, request.user, state=item_state, before=before, limit=limit + 1
    )
    return page_of([claim_out(row) for row in rows], limit, lambda claim: (claim.id,))


@get("/v1/claims/{claim_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def get_claim(request: Request[Account, Any, Any], claim_id: str) -> answers.ClaimOut:
    """One claim."""
    return claim_out(
        await context_of(request).read(request.user, reading_store.get_claim, request.user, known_id(claim_id))
    )


@get("/v1/claims/{claim_id:str}/items", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_items(
    request: Request[Account, Any, Any],
    claim_id: str,
    item_state: ItemState = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[answers.ItemOut]:
    """Items of a claim."""
    (after,) = key_of(cursor, tuple[str]) or (None,)
    rows = await context_of(request).read(
        request.user,
        reading_store.list_items,
        request.user,
        known_id(claim_id),
        state=item_state,
        after=after,
        limit=limit + 1,
    )
    language = language_of(request)
    page = page_of([item_out(row, request.user, language) for row in rows], limit, lambda item: (item.id,))
    found = await context_of(request).run(judged.details, [item.id for item in page.items])
    for item in page.items:
        item.right_details = judged.right_of(found[item.id])
    return page


@get("/v1/claims/{claim_id:str}/timeline", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def timeline(
    request: Request[Account, Any, Any], claim_id: str, cursor: Cursor = None, limit: Limit = 100
) -> Page[answers.ChangeOut]:
    """What happened to the items of a claim."""
    after = key_of(cursor, tuple[str, Int])
    rows = await context_of(request).read(
        request.user, reading_store.timeline, request.user, known_id(claim_id), after=after, limit=limit + 1
    )
    return page_of([out(answers.ChangeOut, row) for row in rows], limit, lambda change: (change.item, change.revision))


@get("/v1/claims/{claim_id:str}/texts", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["claims"])
async def list_texts(
    request: Request[Account, Any, Any], claim_id: str, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.TextOut]:
    """What the parties said about a claim in their own words, as far as it is released to the caller.

    A page may have fewer entries than `limit`; `next` says whether there are more.
    """
    context, caller = context_of(request), request.user
    (after,) = key_of(cursor, tuple[str]) or (None,)
    rows, last = await context.read(caller, reading_store.texts, caller, known_id(claim_id), after=after, limit=limit)
    authors = {row["account"] for row in rows}
    keys = await context.run(store.subject_keys, authors) if authors else {}
    return Page(
        items=[out(answers.TextOut, {**row, "text": _opened(context, keys, row)}) for row in rows],
        next=None if last is None else cursor_of(last),
    )


def _opened(context: Context, keys: Mapping[str, bytes], row: Mapping[str, Any]) -> str | None:
    wrapped = keys.get(row["account"])
    if wrapped is not None:
        with contextlib.suppress(InvalidTag):  # sealed under a key that was destroyed since
            return context.contacts.open_words(row["account"], wrapped, row["id"], bytes(row["sealed"]))
    return None


@get("/v1/items/{item_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["items"])
async def get_item(request: Request[Account, Any, Any], item_id: str) -> answers.ItemOut:
    """One item, with what it is judged on."""
    context = context_of(request)
    row = await context.read(request.user, reading_store.get_item, request.user, known_id(item_id))
    item = item_out(row, request.user, language_of(request))
    details = (await context.run(judged.details, [item.id]))[item.id]
    item.right_details = judged.right_of(details)
    if request.user.sees_all or request.user.id in (item.complainant, item.principal):
        item.pictures = judged.pictures_of(details)
    item.listing_content = (await judged.contents(context, [item.id]))[item.id]
    if _blind(row, request.user):
        item.listing_content.state = None  # it tells of a hold
    return item


@get("/v1/items/{item_id:str}/revisions", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["items"])
async def list_revisions(request: Request[Account, Any, Any], item_id: str) -> Revisions:
    """What the item's listing showed since the first item was filed on it, oldest first: edits during a claim.

    Besides what items are judged on, the first 20 later revisions are kept, and the present one.
    """
    context, id = context_of(request), known_id(item_id)
    await context.read(request.user, reading_store.get_item, request.user, id)
    return await judged.revisions(context, id)


@get("/v1/commands/{command_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["commands"])
async def get_command(request: Request[Account, Any, Any], command_id: str) -> answers.CommandOut:
    """What became of a command."""
    found = out(
        answers.CommandOut,
        await context_of(request).read(request.user, reading_store.get_command, request.user, known_id(command_id)),
    )
    found.detail = found.detail and languages.translate(found.detail, language_of(request))
    return found


def claim_out(row: Mapping[str, Any]) -> answers.ClaimOut:
    """Convert a claim's row to the answer."""
    return out(answers.ClaimOut, {**row, "states": msgspec.json.decode(row["states"])})


_last_change = msgspec.json.Decoder(ItemChanged).decode


_triage = msgspec.json.Decoder(Triage).decode
_OUTCOME: Final = frozenset(
    {"held", "upheld", "settled", "code", "noticed_at", "due", "handled_at", "sla", "counter_round", "missing"}
)
"""Fields of an item that tell what happened to it."""


def _blind(row: Mapping[str, Any], reader: Account) -> bool:
    """Whether the reader may be asked to audit the item, and so is not shown what happened to it."""
    return reader.role == "reviewer" and audit_of(row["last"]) is not None


def item_out(row: Mapping[str, Any], reader: Account, language: str) -> answers.ItemOut:
    """Convert an item's row to the answer, with the fields of its last event and, if refused, how to cure it.

    Only reviewers and operators see the triage. The holder's side is told why it left the item to a person.
    """
    last = msgspec.structs.asdict(_last_change(row["last"])) if row["last"] else {}
    own = {name: value for name, value in row.items() if name in answers.ItemOut.__struct_fields__}
    weighed = _triage(row["triage"]) if row["triage"] else None
    if _blind(row, reader):
        # as if it had just come to review: see `CaseOut.blind`
        weighed = None
        own["state"] = State.UNDER_REVIEW.value
        last = {name: value for name, value in last.items() if name not in _OUTCOME}
    own["triage"] = weighed if reader.sees_all else None
    if reader.sees_all or reader.id in (row["complainant"], row["principal"]):
        own["why_person"] = (
            why_person(
                weighed,
                last["policy"],
                language,
                last["brake"],
                other_seller=last["other_seller"],
                waits=own["state"] == State.UNDER_REVIEW,
            )
            if last
            else []
        )
    item = msgspec.convert({**last, **own}, answers.ItemOut, builtin_types=(dt.datetime,))
    if item.state == State.REJECTED and item.code is not None:
        item.cure = forms.cure(last["policy"], item.code, language)
    return item


@post(
    "/internal/claims",
    opt={"roles": INTERNAL},
    dto=Body[requests.ContactIds],
    return_dto=None,
    status_code=200,
    include_in_schema=False,
)
async def internal_claims(request: Request[Any, Any, Any], data: requests.ContactIds) -> answers.ClaimsFacts:
    """Facts about claims for messages, many claims in one call."""
    rows = await context_of(request).run(reading_store.claim_facts, data.ids)
    return answers.ClaimsFacts(claims={row["claim"]: out(answers.ClaimFacts, row) for row in rows})


ROUTES: Final = [
    list_claims,
    get_claim,
    list_items,
    timeline,
    list_texts,
    get_item,
    list_revisions,
    get_command,
    internal_claims,
]
