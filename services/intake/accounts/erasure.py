"""Rules for erasing a subject: what forbids it, and what is reported about it. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from services.intake.kernel.domain import Refused
from shared import policy
from shared.languages import mark

Matter = Literal["open_items", "open_complaints", "appealable_items"]
"""What may still need the subject's data: unsettled items, its own undecided complaints, and settled items that can
still be appealed."""

STAYS: Final[dict[str, str]] = {
    "items": mark(
        "Claims, items, commands and what was decided: by ids, without names; the proof of what was done, and why."
    ),
    "ledgers": mark("Penalties, sanctions, good faith and misuse: by ids; later standings and measures rest on them."),
    "rights": mark("Rights with their registrant's name, as the public register has it: claims were filed under them."),
    "documents": mark(
        "Files that were named in claims or rights which are open, or were until lately: they go by themselves."
    ),
    "logs": mark("Event logs and topics: they have ids only, and stay whole."),
}
"""What an erasure leaves, and why."""


class Erased(Struct, kw_only=True):
    """What an erasure did; if it was done before, what is still known of it."""

    account: str
    done: bool
    """False: a dry run."""
    already: bool
    """It was erased before."""
    forced: bool = False
    matters: dict[str, int] = {}
    contact: bool = False
    """There was a key, and so contact data or something else sealed under it."""
    tokens: int = 0
    webhooks: int = 0
    documents_going: int = 0
    documents_kept: int = 0
    """Documents that stay for a time; ``stays`` says why."""


def standing_against(matters: Mapping[Matter, int], rules: policy.Erasure) -> list[Matter]:
    """The matters that forbid an erasure under the policy."""
    forbids: dict[Matter, bool] = {
        "open_items": rules.while_open == "refuse",
        "open_complaints": rules.while_open == "refuse",
        "appealable_items": rules.while_appealable == "refuse",
    }
    return [matter for matter, count in matters.items() if count and forbids[matter]]


def check(matters: Mapping[Matter, int], rules: policy.Erasure, *, force: bool, reason: str | None) -> bool:
    """Check that an erasure may proceed. Returns whether it is forced despite something that forbids it.

    Raises:
        Refused: something forbids it and it is not forced, or it is forced without a reason.
    """
    if force and reason is None:
        raise Refused(
            422, "reason_missing", "Who forces an erasure says why.", field="reason", cure="Give a code as `reason`."
        )
    against = standing_against(matters, rules)
    if against and not force:
        raise Refused(
            409,
            "matters_open",
            f"The subject is party to what is not over yet: {', '.join(against)}.",
            field="force",
            cure="Wait until it is over, or force it and say why: deadlines run on, and messages go to nobody.",
        )
    return bool(against)


def check_own(matters: Mapping[Matter, int], rules: policy.Erasure) -> None:
    """Check that a subject may erase its own contact data.

    Raises:
        Refused: something forbids it.
    """
    if against := standing_against(matters, rules):
        raise Refused(
            409,
            "matters_open",
            f"The subject is party to what is not over yet: {', '.join(against)}.",
            cure="Wait until it is over: until then you have to be told of it. PUT /v1/contact changes where.",
        )
