"""Routes of the rights registry and of authorisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from litestar import Request, delete, get, patch, post
from litestar.params import QueryParameter

from services.intake.accounts import store as accounts_store
from services.intake.evidence import domain as evidence
from services.intake.evidence import store as evidence_store
from services.intake.evidence.domain import VIEW
from services.intake.kernel import domain, requests, store
from services.intake.kernel.domain import Account
from services.intake.kernel.ids import new_id
from services.intake.kernel.web import (
    EVERYONE,
    HOLDER,
    MAY_FAIL,
    OPERATOR,
    STAFF,
    Body,
    Context,
    context_of,
    known_id,
    out,
)
from services.intake.registry import answers, authority_store, names, registers, registers_store
from services.intake.registry import domain as registry
from services.intake.registry import store as registry_store
from services.intake.review import store as review_store
from shared import clock, languages, policy, right_refusals
from shared.paging import Cursor, Limit, Page, key_of, page_of
from shared.problems import language_of
from shared.refusals import Refused

RightStatus = Annotated[
    Literal["active", "expired", "lost", "pending"] | None,
    QueryParameter(name="status", description="Only rights with this status."),
]
AuthorisationStatus = Annotated[
    Literal["active", "expired", "ended", "pending"] | None,
    QueryParameter(name="status", description="Only authorisations with this status."),
]


@post(
    "/v1/rights",
    opt={"roles": HOLDER | OPERATOR},
    dto=Body[requests.RegisterRight],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def register_right(request: Request[Account, Any, Any], data: requests.RegisterRight) -> answers.RightOut:
    """Register a right, once; claims refer to it. It is pending, with a reason, until a reviewer has accepted it."""
    context, caller = context_of(request), request.user
    domain.check_open(caller)
    if caller.role != "operator":
        for field, wanted in (("owner", data.owner not in (None, caller.id)), ("seen", data.seen is not None)):
            if wanted:
                raise Refused(
                    403, "operators_only", "Only an operator may set this.", field=field, cure="Leave the field out."
                )
    made, normalised = plain(data)
    owner = data.owner or caller.id

    def work(connection: sa.Connection) -> store.Row:
        now, wall = clock.read(connection)
        registry.check_term(made.expires_at, now)
        if owner not in store.accounts(connection, [owner]):
            raise Refused(422, "unknown_account", "There is no such account.", field="owner", cure="Open it first.")
        if made.seen is not None:
            review_store.check_unbiased(connection, caller, owner)
        id = new_id("r", store.wall_ms(wall))
        documents = evidence_store.name_in(connection, data.evidence, caller.id, id, "right", now)
        registry.check_views(made.right_type, sum(VIEW in document.kinds for document in documents), needed=True)
        kinds = evidence.kinds_of(documents)
        day = now.date()
        registry.check_published(made.right_type, made.number, made.published, day, needed=made.seen is None)
        owned: list[str] = []
        if registry.proves(made.right_type, made.number, kinds, kinds):
            owned = [document.id for document in documents if registry.PROOFS & set(document.kinds)]
        right = msgspec.structs.replace(made, proof=owned[0] if owned else made.proof)
        accepted: registry_store.Accepted | None = None if made.seen is None else "person"
        row = registry_store.add_right(
            connection, id, owner, right, caller.id, context.settings.partitions, accepted=accepted, documents=owned
        )
        if right.register is not None and right.register in context.settings.registers:
            registers_store.ask(connection, row)
        _verify_by_rule(connection, context, owner)
        return row

    return out(answers.RightOut, {**await context.run(work), "normalised": normalised})


def _verify_by_rule(connection: sa.Connection, context: Context, owner: str) -> None:
    """A right in force may be what was wanting for its owner to be verified by the policy's rule."""
    if accounts_store.verify_by_rule(connection, owner, policy.current("ipp").accounts, context.settings.partitions):
        context.forget(account=owner)


def plain(data: requests.RegisterRight) -> tuple[requests.RegisterRight, list[str]]:
    """The right as it is stored, and which of its fields were normalised.

    Raises:
        Refused: naming the field that is wrong or missing.
    """
    if data.number is None and data.right_type != "copyright":
        raise Refused(
            422,
            "number_missing",
            "Only an unregistered copyright has no number.",
            field="number",
            cure="Give the number in the register.",
        )
    if data.mark is not None and data.right_type != "trademark":
        raise Refused(422, "no_mark", "Only a trade mark has words.", field="mark", cure="Leave the field out.")
    number = None if data.number is None else registers.normalise(data.register, data.right_type, data.number)
    mark = None if data.mark is None else registry.mark_of(data.mark)
    classes = registry.classes_of(data.right_type, data.classes)
    registry.check_class(data.right_type, classes)
    territory = registry.territory_of(data.register, data.right_type, data.territory)
    made = msgspec.structs.replace(
        data,
        number=number,
        mark=mark,
        classes=None if classes is None else list(classes),
        territory=None if territory is None else list(territory),
    )
    return made, [name for name in ("number", "mark") if getattr(made, name) != getattr(data, name)]


@get("/v1/rights", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def list_rights(
    request: Request[Account, Any, Any], right_status: RightStatus = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[answers.RightOut]:
    """The caller's rights; reviewers and operators see all. With `status`, only rights with that status."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await context_of(request).read(
        request.user, registry_store.list_rights, request.user, after, limit + 1, right_status
    )
    return page_of([out(answers.RightOut, row) for row in rows], limit, lambda right: (right.id,))


@get("/v1/rights/{right_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def get_right(request: Request[Account, Any, Any], right_id: str) -> answers.RightWithHistory:
    """One of the caller's rights, or one offered to it, and its history; reviewers and operators see all."""
    context, caller, id = context_of(request), request.user, known_id(right_id)

    def work(connection: sa.Connection) -> tuple[store.Row, list[store.Row], names.Match | None]:
        row = registry_store.shown_right(connection, id, caller)
        match = None
        if caller.sees_all and row["registrant"] is not None:
            contact = context.opened(store.sealed_contacts(connection, [row["owner"]])).get(row["owner"])
            former = context.former_names(store.sealed_former_names(connection, row["owner"]))
            match = names.match(row["registrant"], None if contact is None else contact.name, former)
        return row, registry_store.history(connection, id), match

    row, changes, match = await context.read(caller, work)
    shown = await context.run(store.without_staff, caller, changes)
    language = language_of(request)
    history = [
        out(answers.RightChange, {**entry, "cure": _cure(entry, right_refusals.TEXTS, language)}) for entry in shown
    ]
    return out(
        answers.RightWithHistory,
        {
            **row,
            "history": history,
            "registrant_match": None if match is None else match.score,
            "registrant_match_former": match is not None and match.former,
        },
    )


def _cure(entry: store.Row, texts: Mapping[str, str], language: str) -> str | None:
    text = texts.get(entry["code"]) if entry["kind"] == "refused" else None
    return None if text is None else languages.translate(text, language)


@patch(
    "/v1/rights/{right_id:str}",
    opt={"roles": HOLDER | OPERATOR},
    dto=Body[requests.ChangeRight],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def change_right(
    request: Request[Account, Any, Any], right_id: str, data: requests.ChangeRight
) -> answers.Changed:
    """A right was lost, has expired, or is in force again: its open items are told (row 22)."""
    context, id = context_of(request), known_id(right_id)
    changed = await context.run(registry_store.change_right, id, data, request.user, context.settings.partitions)
    return answers.Changed(changed=changed)


def _change(path: str, body: type[requests.In], roles: frozenset[str], work: Any, name: str, text: str) -> Any:
    """Make a route that changes a right and tells its items."""

    async def change(request: Request[Account, Any, Any], right_id: str, data: Any) -> answers.Changed:
        context = context_of(request)
        changed = await context.run(work, known_id(right_id), data, request.user, context.settings.partitions)
        return answers.Changed(changed=changed)

    change.__annotations__["data"] = body
    change.__annotations__["request"] = Request[Account, Any, Any]
    change.__annotations__["return"] = answers.Changed
    change.__annotations__["right_id"] = str
    change.__name__, change.__doc__ = name, text
    return post(
        f"/v1/rights/{{right_id:str}}/{path}",
        opt={"roles": roles},
        dto=Body[body],  # type: ignore[valid-type]
        return_dto=None,
        status_code=200,
        responses=MAY_FAIL,
        tags=["rights"],
        operation_id=name,
    )(change)


renew_right = _change(
    "renewal",
    requests.RenewRight,
    HOLDER | OPERATOR,
    registry_store.renew_right,
    "renew_right",
    "The register has renewed the right: sets a later end. Items on hold because it had expired continue.",
)
assign_right = _change(
    "assignment",
    requests.AssignRight,
    HOLDER | OPERATOR,
    registry_store.assign_right,
    "assign_right",
    "Offer the right to the account to which it has passed. It passes once that account consents.",
)
answer_offer = _change(
    "assignment/consent",
    requests.Consent,
    HOLDER | OPERATOR,
    registry_store.answer_offer,
    "answer_offer",
    "The new owner consents to an assignment: open items of the old owner's claims are put on hold as `lost`. Either"
    " side may decline.",
)
rename_right = _change(
    "name",
    requests.RenameRight,
    HOLDER | OPERATOR,
    registry_store.rename_right,
    "rename_right",
    "The owner's name has changed in the register.",
)
prove_right = _change(
    "evidence",
    requests.NameDocuments,
    HOLDER | OPERATOR,
    registry_store.prove_right,
    "prove_right",
    "Name documents of the caller in the right. With proof of it (kind `ownership`; of an unregistered copyright"
    " `sworn_statement` and `specimen`) a pending right waits for a reviewer.",
)


@post(
    "/v1/rights/{right_id:str}/decision",
    opt={"roles": STAFF},
    dto=Body[requests.DecideRight],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def decide_right(
    request: Request[Account, Any, Any], right_id: str, data: requests.DecideRight
) -> answers.Changed:
    """A reviewer's decision on a pending right, and the documents that it rests on.

    If accepted, another account's registration of the same right is lost. If refused, `code` says why, and the owner is
    told how to cure it.
    """
    context, id, caller = context_of(request), known_id(right_id), request.user

    def work(connection: sa.Connection) -> bool:
        changed = registry_store.decide_right(connection, id, data, caller, context.settings.partitions)
        if data.accept:
            _verify_by_rule(connection, context, registry_store.right_row(connection, id)["owner"])
        return changed

    return answers.Changed(changed=await context.run(work))


@post(
    "/v1/authorisations",
    opt={"roles": HOLDER},
    dto=Body[requests.Authorise],
    return_dto=None,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def authorise(request: Request[Account, Any, Any], data: requests.Authorise) -> answers.AuthorisationOut:
    """The caller names an `agent` that may file for its rights, or asks a `principal` to file for it.

    It is pending until the other side consents or, for a request of an agent, a reviewer has accepted its power of
    attorney.
    """
    context, caller = context_of(request), request.user
    domain.check_open(caller)
    if data.principal is None and data.evidence:
        raise Refused(
            422,
            "no_power",
            "A principal needs no power of attorney.",
            field="evidence",
            cure="Leave the field out, or name the `principal` for whom you want to act.",
        )
    row = await context.run(authority_store.ask, caller.id, data, context.settings.partitions)
    return out(answers.AuthorisationOut, row)


@get("/v1/authorisations", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def list_authorisations(
    request: Request[Account, Any, Any],
    authorisation_status: AuthorisationStatus = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[answers.AuthorisationOut]:
    """Authorisations that the caller has given, received or asked for; reviewers and operators see all."""
    (after,) = key_of(cursor, tuple[str]) or ("",)
    rows = await context_of(request).read(
        request.user, authority_store.list_authorisations, request.user, after, limit + 1, authorisation_status
    )
    return page_of([out(answers.AuthorisationOut, row) for row in rows], limit, lambda grant: (grant.id,))


@get("/v1/authorisations/{authorisation_id:str}", opt={"roles": EVERYONE}, responses=MAY_FAIL, tags=["rights"])
async def get_authorisation(
    request: Request[Account, Any, Any], authorisation_id: str
) -> answers.AuthorisationWithHistory:
    """One authorisation of the caller's and its history; reviewers and operators see all."""
    context, caller, id = context_of(request), request.user, known_id(authorisation_id)

    def work(connection: sa.Connection) -> tuple[store.Row, list[store.Row]]:
        return authority_store.shown(connection, id, caller), authority_store.history(connection, id)

    row, changes = await context.read(caller, work)
    shown = await context.run(store.without_staff, caller, changes)
    language = language_of(request)
    history = [
        out(answers.AuthorisationChange, {**entry, "cure": _cure(entry, right_refusals.POWERS, language)})
        for entry in shown
    ]
    return out(answers.AuthorisationWithHistory, {**row, "history": history})


@post(
    "/v1/authorisations/{authorisation_id:str}/consent",
    opt={"roles": HOLDER},
    dto=Body[requests.Consent],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def answer_authorisation(
    request: Request[Account, Any, Any], authorisation_id: str, data: requests.Consent
) -> answers.Changed:
    """The side that was asked consents, and the agent may file; or either side declines.

    Items on hold for lack of an authorisation continue.
    """
    context, caller, id = context_of(request), request.user, known_id(authorisation_id)
    if data.accept:
        domain.check_open(caller)
    return answers.Changed(
        changed=await context.run(authority_store.answer, id, data, caller, context.settings.partitions)
    )


@post(
    "/v1/authorisations/{authorisation_id:str}/evidence",
    opt={"roles": HOLDER},
    dto=Body[requests.NameDocuments],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def prove_authorisation(
    request: Request[Account, Any, Any], authorisation_id: str, data: requests.NameDocuments
) -> answers.Changed:
    """The agent names its power of attorney, a document of kind `authority`: it waits for a reviewer."""
    context, id = context_of(request), known_id(authorisation_id)
    return answers.Changed(changed=await context.run(authority_store.prove, id, data, request.user))


@post(
    "/v1/authorisations/{authorisation_id:str}/decision",
    opt={"roles": STAFF},
    dto=Body[requests.DecideRight],
    return_dto=None,
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def decide_authorisation(
    request: Request[Account, Any, Any], authorisation_id: str, data: requests.DecideRight
) -> answers.Changed:
    """A reviewer's decision on a power of attorney, and the documents that it rests on.

    If accepted, the agent may file, and the principal is told. If refused, `code` says why, and the agent is told how
    to cure it.
    """
    context, id = context_of(request), known_id(authorisation_id)
    return answers.Changed(
        changed=await context.run(authority_store.decide, id, data, request.user, context.settings.partitions)
    )


@delete(
    "/v1/authorisations/{authorisation_id:str}",
    opt={"roles": HOLDER | OPERATOR},
    status_code=200,
    responses=MAY_FAIL,
    tags=["rights"],
)
async def end_authorisation(request: Request[Account, Any, Any], authorisation_id: str) -> answers.Changed:
    """The principal, the agent or an operator ends an authorisation: the agent's open items are told (row 22)."""
    context = context_of(request)
    changed = await context.run(
        authority_store.end, known_id(authorisation_id), request.user, "ended", context.settings.partitions
    )
    return answers.Changed(changed=changed)


ROUTES: Final = [
    register_right,
    list_rights,
    get_right,
    change_right,
    renew_right,
    assign_right,
    rename_right,
    prove_right,
    decide_right,
    answer_offer,
    authorise,
    list_authorisations,
    get_authorisation,
    answer_authorisation,
    prove_authorisation,
    decide_authorisation,
    end_authorisation,
]
