"""Why triage left an item to a person, in words; and which items are audited, blind. Pure: no I/O."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from shared import languages, policy
from shared.events import Audit, Triage
from shared.languages import mark

BY_PERSON: Final = mark("The rules leave the decision to a person.")
"""If neither a rule that speaks against the item nor a lacking finding says more."""


AUDITED: Final = "coalesce(i.last::jsonb ? 'audit' and i.last::jsonb -> 'audit' ->> 'found' is null, false)"
"""SQL: of an item ``i``, a person is asked to look at it without seeing what happened to it without one."""


class _Last(Struct):
    audit: Audit | None = None


_last = msgspec.json.Decoder(_Last).decode


def audit_of(last: str | None) -> Audit | None:
    """The audit that waits for a person, by the item's last change; None: there is none."""
    audit = None if last is None else _last(last).audit
    return None if audit is None or audit.found is not None else audit


def why_person(triage: Triage | None, version: str, language: str = languages.SOURCE) -> list[str]:
    """What kept the item from being decided at once: first what speaks against it, then what is lacking.

    Empty if triage did not leave it to a person. One general sentence if the version is not known here (yet).
    """
    if triage is None or triage.band != "review":
        return []
    try:
        rules = policy.load(version).triage
    except policy.PolicyError:
        rules = None
    said: list[str] = []
    if rules is not None:
        against = [name for name, weight in triage.rules.items() if weight < 0]
        said += [rule.says for name in against if (rule := rules.rules.get(name)) and rule.says]
        said += [finding.lacking for name in triage.lacks if (finding := rules.findings.get(name))]
    return [languages.translate(text, language) for text in said or [BY_PERSON]]
