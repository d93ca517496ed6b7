"""Rules for erasing a subject: what forbids it, and what is reported about it. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from shared import policy
from shared.languages import mark
from shared.refusals import Refused

Matter = Literal["open_items", "open_complaints", "appealable_items"]
"""What may still need the subject's data: unsettled items, its own undecided complaints, and settled items that can
still be appealed."""

STAYS: Final[dict[str, str]] = {
    "items": mark(
        "Claims, items, commands and what was decided: by ids, without names; the proof of what was done, and why."
    ),
    "ledgers": mark(
        "Penalties, sanctions, good faith and misuse: by ids; later standings and measures are based on them."
    ),
    "rights": mark("Rights with their registrant's name, as the public register has it: claims were filed under them."),
    "documents": mark(
        "Files that were named in claims or rights that are open, or were until recently. They are deleted automatically later."
    ),
    "logs": mark("Event logs and topics: they contain ids only, and stay complete."),
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
            422, "reason_missing", "Forcing an erasure needs a reason.", field="reason", cure="Give a code as `reason`."
        )
    against = standing_against(matters, rules)
    if against and not force:
        raise Refused(
            409,
            "matters_open",
            f"The subject is party to matters that are still open: {', '.join(against)}.",
            field="force",
            cure="Wait until they are closed, or force the erasure and give a reason: deadlines keep running, and messages reach nobody.",
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
            f"The subject is party to matters that are still open: {', '.join(against)}.",
            cure="Wait until they are closed: until then you must be reachable. To change your address, use PUT /v1/contact.",
        )
