"""Why triage left an item to a person, in words; and which items are audited, blind. Pure: no I/O."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from shared import languages, policy
from shared.events import Audit, BrakeReason, Triage
from shared.languages import mark

BY_PERSON: Final = mark("The rules leave the decision to a person.")
"""If neither a rule that speaks against the item nor a lacking finding says more."""
OTHER_SELLER: Final = mark("The listing is not of a shop that the claim names.")
AUDITED: Final = "coalesce(i.last::jsonb ? 'audit' and i.last::jsonb -> 'audit' ->> 'found' is null, false)"
"""SQL: of an item ``i``, a person is asked to look at it without seeing what happened to it without one."""

STATE_SHOWN: Final = f"case when i.state <> 'UNDER_REVIEW' and {AUDITED} then 'UNDER_REVIEW' else i.state end"
"""SQL: the state of an item ``i`` as those are shown it who may be asked to audit it: as if it had just come in."""


class Last(Struct):
    """What an item's last change says of who decides."""

    audit: Audit | None = None
    brake: BrakeReason | None = None
    other_seller: bool = False


_last = msgspec.json.Decoder(Last).decode


def last_of(last: str | None) -> Last:
    """Read an item's last change; None: there is none yet."""
    return Last() if last is None else _last(last)


def audit_of(last: str | None) -> Audit | None:
    """The audit that waits for a person, by the item's last change; None: there is none."""
    audit = last_of(last).audit
    return None if audit is None or audit.found is not None else audit


def why_person(
    triage: Triage | None,
    version: str,
    language: str = languages.SOURCE,
    braked: BrakeReason | None = None,
    *,
    other_seller: bool = False,
    waits: bool = False,
) -> list[str]:
    """What kept the item from being decided at once: the brake, shops, what speaks against it, and what is lacking.

    Empty if triage did not leave it to a person. One general sentence if the version is not known here (yet).

    Args:
        waits: the item waits for a person all the same, such as one that is audited; nobody may tell by this.
    """
    try:
        found = policy.load(version)
    except policy.PolicyError:
        found = None
    said: list[str] = []
    if braked is not None and found is not None and found.brake is not None:
        said.append(found.brake.says[braked])
    if other_seller:
        said.append(OTHER_SELLER)
    if triage is None or triage.band != "review":
        return [languages.translate(text, language) for text in said or ([BY_PERSON] if waits else [])]
    rules = None if found is None else found.triage
    if rules is not None:
        against = [name for name, weight in triage.rules.items() if weight < 0]
        said += [rule.says for name in against if (rule := rules.rules.get(name)) and rule.says]
        said += [finding.lacking for name in triage.lacks if (finding := rules.findings.get(name))]
    return [languages.translate(text, language) for text in said or [BY_PERSON]]
