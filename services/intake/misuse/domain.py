"""Misuse by complainants (DSA art. 23(2) and (3)): what was unfounded, how it weighs, and what follows. Pure: no I/O.

How an item ended makes it *unfounded*; the policy says how heavily it weighs. It counts once, as it is settled now,
for the account that filed it, in addition to what it counts as in the good-faith statistic. A *measure* (warning,
quota, suspension) follows in steps from number, share and weight, never without a prior warning. Only the finding
that a document was forged leads to one at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from shared.events import ItemChanged, State
from shared.policy import MEASURES, Misuse, MisuseStep
from shared.refusals import Refused

KEPT: Final = "kept"
"""Ground of an item that is open again, or was confirmed on a complaint: it keeps the one that it had."""
CONFIRMED: Final = "19-confirmed"
RESTORED_BY: Final[dict[str, str]] = {
    "13-holder-accepted": "counter_accepted",
    "17-restored": "restored_by_person",
    "19-reversed": "reversed",
    "21-for-the-seller": "restored_by_court",
}
"""Ground by the row that restored an item. Others, by silence or our own timer, say nothing about the notice."""
PERSON: Final = "6-refused"

Kind = Literal["warning", "quota", "suspension"]
FindingKind = Literal["forged_document", "knowingly_false", "none"]


# ------------------------------------------------------------------------------------------------------- item by item


def grounds_of(change: ItemChanged) -> tuple[str | None, str | None]:
    """Why an item that entered this state was unfounded, if it was: (if taken down, if not).

    A refusal's code follows a colon. ``KEPT``: as before.
    """
    if change.rule == CONFIRMED:
        return KEPT, KEPT
    if change.state is State.REJECTED:
        end = "rejected" if change.rule == PERSON else "rejected_by_rule"
        ground = end if change.code is None else f"{end}:{change.code}"
        return ground, ground
    if change.state is State.RESTORED:
        restored = RESTORED_BY.get(change.rule)
        return restored, restored
    if change.state is State.WITHDRAWN:
        return ("withdrawn_error", "withdrawn_early") if change.code == "error" else (None, None)
    return (None, None) if change.settled else (KEPT, KEPT)


def weight_of(ground: str, serious: bool, terms: Misuse) -> int:
    """How heavily an item that ended so weighs; 0: it does not count."""
    name, _, code = ground.partition(":")
    end = next((end for known, end in terms.ends.items() if known == name), None)
    if end is None or (name.startswith("rejected") and code not in end.codes):
        return 0
    return end.serious if serious and end.serious is not None else end.weight


def counted(terms: Misuse) -> list[str]:
    """Grounds that count, as they are stored."""
    return sorted(
        ground
        for name, end in terms.ends.items()
        for ground in ([f"{name}:{code}" for code in end.codes] if name.startswith("rejected") else [name])
    )


# --------------------------------------------------------------------------------------------------------------- facts


class MisuseFacts(Struct, frozen=True):
    """What an account is judged by: sums of the window.

    Attributes:
        settled: items of any outcome.
        notices: claims with an unfounded item, and findings.
        number: unfounded items, and findings.
        items: unfounded items only, from which the share is computed.
        knowingly: a finding says that it was done knowingly.
        again: unfounded items filed, and findings made, since the last step began or ended.
        grounds: number of unfounded items by how they ended, and of findings by kind.
    """

    settled: int = 0
    number: int = 0
    items: int = 0
    weight: int = 0
    knowingly: bool = False
    again: int = 0
    grounds: dict[str, int] = {}
    notices: int = 0


def facts_of(
    settled: int,
    grounds: Iterable[tuple[str, bool, int]],
    findings: Mapping[str, int],
    terms: Misuse,
    again: int = 0,
    claims: int = 0,
) -> MisuseFacts:
    """Weigh an account's window.

    Args:
        grounds: (ground, alleged a serious reason, items).
        claims: number of claims that the counted items belong to.
        findings: in force, by kind.
    """
    found: dict[str, int] = {}
    items = weight = 0
    for ground, serious, count in grounds:
        each = weight_of(ground, serious, terms)
        if each and count:
            found[ground] = found.get(ground, 0) + count
            items += count
            weight += each * count
    number = items
    for kind, each in (("knowingly_false", terms.knowingly), ("forged_document", terms.forged_weight)):
        if count := findings.get(kind, 0):
            found[kind] = count
            number += count
            weight += each * count
    # an item that was settled again may have left its day's sum, so take the share of what there is
    return MisuseFacts(
        max(settled, items),
        number,
        items,
        weight,
        findings.get("knowingly_false", 0) > 0,
        again,
        {name: found[name] for name in sorted(found)},
        claims + number - items,
    )


def reaches(facts: MisuseFacts, step: MisuseStep) -> bool:
    """Whether notices, number, share and weight all reach those of a step."""
    return (
        facts.notices >= step.notices
        and facts.number >= step.number
        and facts.weight >= step.weight
        and (facts.knowingly or step.share.reached(facts.items, facts.settled))
    )


# ------------------------------------------------------------------------------------------------------------ measures


class MisuseMeasure(Struct, frozen=True):
    """A measure against an account. Days are business days, UTC.

    Attributes:
        until: first day on which it no longer runs; None: until the record is good again.
        items: of a quota, items per day.
        prior: the measure that it followed.
        finding: the finding that it is based on, without a prior measure.
        ended: day on which it ended other than by its time, or was found to be over.
    """

    id: str
    kind: Kind
    day: dt.date
    at: dt.datetime
    until: dt.date | None = None
    items: int | None = None
    prior: str | None = None
    finding: str | None = None
    state: Literal["on", "over", "lifted", "reversed", "fallen"] = "on"
    ended: dt.date | None = None

    def runs(self, day: dt.date) -> bool:
        """Whether it is in force on a day."""
        return self.state == "on" and (self.until is None or day < self.until)


def current(measures: Iterable[MisuseMeasure], day: dt.date) -> MisuseMeasure | None:
    """The most severe measure that runs; of equals, the one that runs longest."""
    running = [measure for measure in measures if measure.runs(day)]
    return max(running, key=lambda m: (MEASURES.index(m.kind), m.until or dt.date.max, m.day, m.id), default=None)


def warned(measures: Iterable[MisuseMeasure], day: dt.date) -> bool:
    """Whether a warning stands."""
    return any(measure.kind == "warning" and measure.runs(day) for measure in measures)


def last_step(measures: Iterable[MisuseMeasure]) -> dt.datetime | None:
    """When the last step began or ended: what was filed before cannot have heeded it. Reversed steps do not count.

    Nor does the end of a quota: what was filed under the quota was filed in spite of it, whenever that comes out.
    """
    moments = []
    for measure in measures:
        if measure.state in ("reversed", "fallen"):
            continue
        moments.append(measure.at)
        if measure.ended is not None and measure.kind != "quota":
            moments.append(dt.datetime.combine(measure.ended, dt.time(), dt.UTC))
    return max(moments, default=None)


class MeasureChange(Struct, frozen=True):
    """A measure after a change, and what happened to it."""

    measure: MisuseMeasure
    kind: Literal["warned", "limited", "suspended", "over", "lifted", "reversed", "fallen"]


BEGUN: Final[dict[str, Literal["warned", "limited", "suspended"]]] = {
    "warning": "warned",
    "quota": "limited",
    "suspension": "suspended",
}


def reached_step(measures: Sequence[MisuseMeasure], day: dt.date) -> MisuseMeasure | None:
    """How far the account has come under the warning that stands: its most severe step, even if over, or what runs.

    A measure based on a finding is not a step, and counts only while it runs. None: no warning stands.
    """
    since = min((m.at for m in measures if m.kind == "warning" and m.runs(day)), default=None)
    if since is None:
        return None
    steps = [m for m in measures if m.state not in ("reversed", "fallen") and m.finding is None and m.at >= since]
    now = current(measures, day)
    return max(
        steps if now is None else [*steps, now], key=lambda m: (MEASURES.index(m.kind), m.finding is None, m.at, m.id)
    )


def next_step(measures: Sequence[MisuseMeasure], day: dt.date, terms: Misuse) -> tuple[MisuseStep | None, str | None]:
    """The step that would follow, and the measure that it would follow. While no warning stands, it is a warning.

    The last step is repeated when its time is over.
    """
    if not terms.steps:
        return None, None
    now = current(measures, day)
    reached = reached_step(measures, day)
    if now is None or reached is None:
        return terms.steps[0], None if now is None else now.id
    step = next((s for s in terms.steps if MEASURES.index(s.measure) > MEASURES.index(reached.kind)), None)
    if step is not None:
        return step, reached.id
    last = terms.steps[-1]
    if MEASURES.index(now.kind) >= MEASURES.index(last.measure):
        return None, None
    # it follows what the first one followed, not the first one itself
    return last, reached.prior


def review(
    measures: Sequence[MisuseMeasure], facts: MisuseFacts, now: dt.datetime, new_id: str, terms: Misuse
) -> tuple[MeasureChange, ...]:
    """The daily judgement, by the figures up to the day before.

    Measures that have run their time are over, those that run until the record is good again are lifted when it is,
    and at most one step is taken. The same judgement twice changes nothing. A step needs the policy's time since
    the prior one, and unfounded items filed since then.
    """
    day = now.astimezone(dt.UTC).date()
    made: list[MeasureChange] = []
    kept: list[MisuseMeasure] = []
    good = not terms.steps or not reaches(facts, terms.steps[0])
    for measure in measures:
        if measure.state == "on" and not measure.runs(day):
            # it ended on the day that it names, however late that is noticed
            measure = replace(measure, state="over", ended=measure.until)
            made.append(MeasureChange(measure, "over"))
        elif measure.runs(day) and measure.until is None and good:
            measure = replace(measure, state="lifted", ended=day)
            made.append(MeasureChange(measure, "lifted"))
        kept.append(measure)
    step, prior = next_step(kept, day, terms)
    if good or step is None or not reaches(facts, step):
        return tuple(made)
    if step.measure != "warning":
        since = last_step(kept)
        if facts.again < step.again or (since is not None and now < since + step.after.exact):
            return tuple(made)
    begun = MisuseMeasure(
        new_id,
        step.measure,
        day,
        now,
        None if step.lasts is None else day + step.lasts.exact,
        step.items,
        prior,
    )
    return (*made, MeasureChange(begun, BEGUN[step.measure]))


def at_once(finding: str, now: dt.datetime, new_id: str, terms: Misuse) -> MeasureChange | None:
    """What follows from the finding that a document was forged, whatever else runs; None: nothing."""
    rule = terms.forged
    if rule.measure == "none":
        return None
    day = now.astimezone(dt.UTC).date()
    until = None if rule.lasts is None else day + rule.lasts.exact
    begun = MisuseMeasure(new_id, rule.measure, day, now, until, rule.items, None, finding)
    return MeasureChange(begun, BEGUN[rule.measure])


def reverse(measures: Sequence[MisuseMeasure], id: str, day: dt.date) -> tuple[MeasureChange, ...]:
    """Reverse a measure; all that followed from it falls too, as if none had ever been taken.

    A measure based on a finding of its own does not fall.
    """
    gone = {id}
    made: list[MeasureChange] = []
    for measure in sorted(measures, key=lambda measure: (measure.at, measure.id)):
        if measure.id == id:
            if measure.state not in ("reversed", "fallen"):
                made.append(MeasureChange(replace(measure, state="reversed", ended=day), "reversed"))
        elif measure.prior in gone and measure.finding is None:
            gone.add(measure.id)
            if measure.state not in ("reversed", "fallen"):
                made.append(MeasureChange(replace(measure, state="fallen", ended=day), "fallen"))
    return tuple(made)


# ---------------------------------------------------------------------------------------------------------- complaints


def check_complaint(measure: MisuseMeasure, complained: bool, now: dt.datetime, terms: Misuse) -> None:
    """Check that a measure can be complained about.

    Raises:
        Refused: it was before, it is too late, or there is nothing left to complain about.
    """
    if complained:
        raise Refused(409, "complaint_known", "You have already complained about the measure.", cure="Nothing to do.")
    check_standing(measure)
    if now > measure.at + terms.complaint.exact:
        raise Refused(
            409,
            "complaint_too_late",
            "The time for complaining about the measure has passed.",
            cure="Write to the operator of the programme.",
        )


def check_standing(measure: MisuseMeasure) -> None:
    """Check that there is a measure to complain about, or to decide on: a reversed one counts as never taken.

    Raises:
        Refused: 409.
    """
    if measure.state in ("reversed", "fallen"):
        raise Refused(409, "measure_reversed", "The measure was reversed.", cure="Nothing to do.")


def check_decider(by: str, found_by: Iterable[str | None]) -> None:
    """Check that a complaint is not decided by a person who made the finding, or agreed with it.

    Raises:
        Refused: 403.
    """
    if by in found_by:
        raise Refused(
            403,
            "own_finding",
            "You made or seconded the finding that the measure is based on.",
            cure="Another reviewer decides.",
        )


# -------------------------------------------------------------------------------------------------------------- quotas


def resumes(day: dt.date) -> dt.datetime:
    """When a quota that is used up for a day is free again: the next business day (UTC)."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
