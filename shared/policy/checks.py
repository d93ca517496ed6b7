"""What the types of a policy cannot express: problems found by comparing its settings with each other."""

from __future__ import annotations

from zoneinfo import available_timezones

from shared import calendars
from shared.calendars import CalendarError
from shared.policy.schema import MEASURES, RULE_CODES, Forged, MisuseStep, Policy
from shared.policy.values import UNITS


def problems(policy: Policy, file: str) -> list[tuple[str, str]]:
    """Problems that the types cannot express, as (key, problem)."""
    found: list[tuple[str, str]] = []
    if file != f"{policy.version}.toml":
        found.append(("version", f"{policy.version!r} is not the file's name"))
    if not policy.version.startswith(f"{policy.profile}-"):
        found.append(("version", f'does not begin with the profile and "-": {policy.profile!r}'))
    try:
        calendars.calendar(policy.calendar)
    except CalendarError as error:
        found.append(("calendar", str(error)))
    found += [
        ("timers." + name, "expected hours, minutes or days: the target is in elapsed time")
        for name in ("review_sla", "lookup_retry", "lookup_give_up", "late_counter", "litigation_reminder", "suspended")
        if getattr(policy.timers, name).working_days
    ]
    found += _triage_problems(policy)
    if policy.timers.restore_by is not None and policy.rules.holder_silent != "restore":
        found.append(("timers.restore_by", 'means nothing unless rules.holder_silent is "restore"'))
    if policy.brake is not None:
        found += [
            (f"brake.{name}", "expected days")
            for name, span in (("window", policy.brake.window), ("lasts", policy.brake.lasts))
            if span.working_days or span.exact % UNITS["d"]
        ]
    if policy.audits is not None:
        found += [
            (f"audits.{name}", f"there is no reason {code!r} in appeals.reasons")
            for name, code in (("agrees", policy.audits.agrees), ("overturned", policy.audits.overturned))
            if code not in policy.appeals.reasons
        ]
        if policy.rules.audited_share:
            found.append(("rules.audited_share", "audits.shares has it"))
    if policy.appeals.within.working_days:
        found.append(("appeals.within", "expected days"))
    found += [
        ("refusals", f"{code!r} is missing; the rule of row 6 uses it")
        for code in RULE_CODES
        if code not in policy.refusals
    ]
    found += [
        ("review.four_eyes", f"there is no reason {code!r}")
        for code in policy.review.four_eyes
        if code not in policy.reasons
    ]
    found += [
        (key, "expected minutes, hours or days")
        for key, span in (
            ("accounts.code", policy.accounts.code),
            ("accounts.code_pause", policy.accounts.code_pause),
            ("registry.warn", policy.registry.warn),
        )
        if span.working_days
    ]
    if policy.recurrence is not None and policy.recurrence.within.working_days:
        found.append(("recurrence.within", "expected days"))
    for ledger in ("general", "serious"):
        points = [step.points for step in getattr(policy.penalties, ledger).thresholds]
        if points != sorted(set(points)):
            found.append((f"penalties.{ledger}.thresholds", "points must rise"))
    tiers = policy.penalties.repeat_offender.tiers
    if list(tiers) != sorted(set(tiers)) or tiers[0] != policy.penalties.repeat_offender.violations:
        found.append(("penalties.repeat_offender.tiers", "must rise, and begin with `violations`"))
    found += [
        (f"evidence.{name}", "expected days: what is kept is kept in elapsed time")
        for name in ("kept", "unused")
        if getattr(policy.evidence, name).working_days
    ]
    if policy.statements is not None and policy.statements.enabled:
        kinds = {kind for reason in policy.reasons.values() for kind in reason.rights}
        found += [
            ("statements.grounds", f"{kind!r} is missing: a reason fits such rights")
            for kind in sorted(kinds - set(policy.statements.grounds))
        ]
    if policy.penalties.warned_within.working_days:
        found.append(("penalties.warned_within", "expected days"))
    for span in ("general.expires", "serious.grouping", "serious.expires", "repeat_offender.within"):
        part, name = span.split(".")
        if getattr(getattr(policy.penalties, part), name).working_days:
            found.append((f"penalties.{span}", "expected days"))
    if policy.quiet is not None:
        if policy.quiet.zone not in available_timezones():
            found.append(("quiet.zone", f"no time zone: {policy.quiet.zone!r}"))
        if policy.quiet.begins == policy.quiet.ends:
            found.append(("quiet.ends", "the same as quiet.begins"))
    if (policy.notice.deemed is None) != (policy.notice.begins == "sent"):
        found.append(("notice.deemed", 'needed, and of use, where notice.begins is not "sent"'))
    found += _misuse_problems(policy)
    warning = policy.good_faith.warning
    if warning.working_days or warning.exact % UNITS["d"]:
        found.append(("good_faith.warning", "expected days"))
    return found


def _misuse_problems(policy: Policy) -> list[tuple[str, str]]:
    misuse = policy.misuse
    found = [
        (f"misuse.{name}", "expected days")
        for name, span in (
            ("window", misuse.window),
            ("complaint", misuse.complaint),
            ("forged.lasts", misuse.forged.lasts),
            *((f"steps.{step.measure}.after", step.after) for step in misuse.steps),
            *((f"steps.{step.measure}.lasts", step.lasts) for step in misuse.steps),
        )
        if span is not None and (span.working_days or span.exact % UNITS["d"])
    ]
    order = [MEASURES.index(step.measure) for step in misuse.steps]
    if order and (order[0] != 0 or order != sorted(set(order))):
        # art. 23(2): "after having issued a prior warning"
        found.append(("misuse.steps", "must begin with a warning and grow more severe"))
    measures: tuple[MisuseStep | Forged, ...] = (*misuse.steps, misuse.forged)
    for step in measures:
        if (step.measure == "quota") != (step.items is not None):
            found.append((f"misuse.{step.measure}.items", "a quota has items, and nothing else does"))
        if step.measure == "suspension" and step.lasts is None:
            found.append((f"misuse.{step.measure}.lasts", 'is missing: art. 23(2), "for a reasonable period of time"'))
        if step.measure == "warning" and step.lasts is not None and isinstance(step, MisuseStep):
            found.append(("misuse.warning.lasts", "a warning holds until the record is good again"))
    for name, end in misuse.ends.items():
        if end.codes and not name.startswith("rejected"):
            found.append((f"misuse.ends.{name}.codes", "only refusals have codes"))
        found += [
            (f"misuse.ends.{name}.codes", f"there is no refusal {code!r}")
            for code in end.codes
            if code not in policy.refusals
        ]
    return found


def _triage_problems(policy: Policy) -> list[tuple[str, str]]:
    triage = policy.triage
    if triage is None:
        return [("triage", 'is missing; rules.review is "triage"')] if policy.rules.review == "triage" else []
    found = []
    if triage.refuse_at >= triage.uphold_at:
        found.append(("triage.refuse_at", "must be below uphold_at"))
    if triage.refusal not in policy.refusals:
        found.append(("triage.refusal", f"there is no refusal {triage.refusal!r}"))
    for name, rule in triage.rules.items():
        if rule.at_least is None and rule.at_most is None:
            found.append((f"triage.rules.{name}", "needs at_least or at_most"))
    found += [
        (f"triage.findings.{name}", "each bound needs at_least or at_most")
        for name, finding in triage.findings.items()
        if any(bound.at_least is None and bound.at_most is None for bound in finding.all)
    ]
    if triage.needs is None:
        return found
    for severity in ("general", "serious"):
        named = {name for way in getattr(triage.needs, severity) for name in way}
        found += [
            (f"triage.needs.{severity}", f"there is no finding {name!r}")
            for name in sorted(named - triage.findings.keys())
        ]
    found += [
        (f"triage.rules.{name}.says", "is missing: the rule keeps an item from being upheld at once")
        for name, rule in triage.rules.items()
        if rule.weight < 0 and rule.says is None
    ]
    return found
