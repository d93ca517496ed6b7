"""Sanctions: grounds against a brute-force count, decisions against a life told day by day."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from services.enforcement import penalties, sanctions
from services.enforcement.penalties import NEVER, Entry
from services.enforcement.sanctions import Account, EntityRecord, Facts, OpenGrounds
from shared import policy

RULES = policy.current("ipp").penalties
DSA = policy.current("dsa").penalties
WARNS = msgspec.structs.replace(RULES, prior_warning=True)
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
YEAR = 365 * DAY
Violations = list[tuple[dt.datetime, str, Any]]


def entries(violations: Violations, rules: policy.Penalties = RULES) -> list[Entry]:
    """Unreversed entries of violations in force."""
    return [Entry(f"e.{penalty.claim}", penalty) for penalty in penalties.assess(violations, rules)[0]]


def naive(found: list[Entry], now: dt.datetime) -> set[tuple[str, int, dt.datetime, str, dt.datetime | None]]:
    """Grounds by summing everything again at every moment, in other words than the code's."""
    result = set()
    for ledger, steps in (("general", RULES.general.thresholds), ("serious", RULES.serious.thresholds)):
        mine = sorted((e for e in found if e.penalty.ledger == ledger), key=lambda e: (e.penalty.effective_at, e.entry))
        for number, threshold in enumerate(steps, 1):
            since: tuple[dt.datetime, str] | None = None
            moments: list[tuple[dt.datetime, int, Entry]] = []
            for entry in mine:
                moments.append((entry.penalty.effective_at, 1, entry))
                if entry.penalty.expires_at <= now:
                    moments.append((entry.penalty.expires_at, 0, entry))
            begun: list[Entry] = []
            for at, begins, entry in sorted(moments, key=lambda m: (m[0], m[1], m[2].entry)):
                if begins:
                    begun.append(entry)
                live = [e for e in begun if e.penalty.expires_at > at]
                there = sum(e.penalty.points for e in live) >= threshold.points
                there = there or (bool(live) and threshold.consequence == "warning" and ledger == "general")
                if there and since is None:
                    since = (at, entry.entry)
                elif since is not None and not there:
                    result.add((ledger, number, *since, at))
                    since = None
            if since is not None:
                result.add((ledger, number, *since, None))
    return result


@st.composite
def histories(draw: st.DrawFn) -> Violations:
    """Violations of three years, at moments that often fall together or on one another's expiry."""
    days = st.integers(0, 1100) | st.sampled_from([0, 1, 2, 365, 366, 730])
    count = draw(st.integers(0, 14))
    return [
        (
            NOW - 1100 * DAY + draw(days) * DAY + draw(st.sampled_from([0, 0, 5])) * dt.timedelta(hours=1),
            f"c{number:02}",
            draw(st.sampled_from(["general", "general", "serious"])),
        )
        for number in range(count)
    ]


@given(histories(), st.integers(0, 1600))
def test_grounds_are_those_of_a_naive_count(violations: Violations, days: int) -> None:
    now = NOW - 1100 * DAY + days * DAY
    known = entries([v for v in violations if v[0] <= now])
    found = sanctions.grounds(known, RULES, now)
    assert {(g.ledger, g.level, g.crossed_at, g.entry, g.fell_at) for g in found} == naive(known, now)
    assert list(found) == sorted(found, key=lambda g: (g.ledger, g.level, g.crossed_at))


@given(histories(), st.lists(st.integers(0, 40), max_size=14))
def test_the_open_grounds_are_what_all_entries_would_say(violations: Violations, lags: list[int]) -> None:
    """Whatever ``needs_history`` lets pass is judged from the sums as it would be from all entries."""
    seen: Violations = []
    known = OpenGrounds(rules="v")
    now = NOW - 1100 * DAY
    order = sorted(violations, key=lambda v: v[0])
    for number, violation in enumerate(order):
        before = now
        now = max(now, violation[0] + (lags[number] if number < len(lags) else 0) * DAY)
        expiring = any(before < e.penalty.expires_at <= now for e in entries(seen))
        first_of_all = all((v[0], v[1]) < violation[:2] for v in seen)
        seen.append(violation)
        found = entries(seen)
        whole = sanctions.open_grounds(sanctions.grounds(found, RULES, now), found, "v", now)
        if expiring or not first_of_all or sanctions.needs_history(known, "v", violation[0]):
            known = whole
        else:
            (entry,) = [e for e in found if e.penalty.claim == violation[1]]
            ledger = entry.penalty.ledger
            points = sum(e.penalty.points for e in found if e.penalty.ledger == ledger and e.penalty.expires_at > now)
            known = sanctions.advance(known, entry, points, RULES, now)
        assert known == whole


def test_other_rules_want_the_history() -> None:
    assert sanctions.needs_history(OpenGrounds(rules="ipp-2026-11"), "ipp-2027-01", NOW)
    assert not sanctions.needs_history(OpenGrounds(rules="ipp-2026-11"), "ipp-2026-11", NOW)


class Life:
    """A seller, day by day; each violation is decided when it happens."""

    def __init__(self, rules: policy.Penalties = RULES) -> None:
        self.rules = rules
        self.account = Account("seller")
        self.violations: dict[str, tuple[dt.datetime, str, Any]] = {}
        self.entity: EntityRecord | None = None
        self.now = NOW
        self.log: list[tuple[int, str, str, int, tuple[str, ...]]] = []

    def at(self, day: float) -> Life:
        """Go on to a day, stopping wherever something ends."""
        until = NOW + day * DAY
        while True:
            ends = [self.account.next_end, *(e.penalty.expires_at for e in entries(list(self.violations.values())))]
            due = min((end for end in ends if end is not None and self.now < end <= until), default=None)
            if due is None:
                break
            self.now = due
            self.decide()
        self.now = until
        return self

    def violates(self, claim: str, severity: Any = "general") -> Life:
        self.violations[claim] = (self.now, claim, severity)
        return self.decide()

    def reverse(self, claim: str) -> Life:
        del self.violations[claim]
        return self.decide()

    def joins(self, *others: tuple[float, str, Any], warned: tuple[dt.datetime, ...] = ()) -> Life:
        """The entity's other accounts have these violations (day, claim, severity); none: not linked any more."""
        merged = [*self.violations.values(), *((NOW + day * DAY, claim, severity) for day, claim, severity in others)]
        found = sanctions.grounds(entries(merged, self.rules), self.rules, self.now)
        last = max((at for at, _, _ in merged), default=NEVER)
        self.entity = EntityRecord("entity", found, last, warned) if others else None
        return self.decide()

    @property
    def counts(self) -> bool:
        return any(at + YEAR > self.now for at, _, _ in self.violations.values())

    def decide(self) -> Life:
        found = entries(list(self.violations.values()), self.rules)
        last = max((at for at, _, _ in self.violations.values()), default=NEVER)
        facts = Facts(sanctions.grounds(found, self.rules, self.now), True, last, self.counts, self.entity)
        day = (self.now - NOW).days
        for event in sanctions.decide(self.account, facts, self.rules, self.now):
            self.log.append((day, event.change, event.cause, event.level, event.measures))
        sanctions.command(self.account, self.now)
        assert not sanctions.decide(
            self.account, facts, self.rules, self.now
        )  # once decided there is nothing to decide
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        assert self.account.measures == sanctions.in_force(self.account.sanctions)[0]
        return self.account.measures

    def news(self) -> list[tuple[int, str, str, int, tuple[str, ...]]]:
        """What has happened since it was asked last."""
        log, self.log = self.log, []
        return log


class Plain:
    """The same in other words: every sum again at every moment, one answer a threshold, no grounds."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, int], list[dict[str, Any]]] = {}

    @staticmethod
    def reached(found: list[Entry], ledger: str, number: int, at: dt.datetime, *, before: bool = False) -> bool:
        """By what had taken effect at a moment; ``before`` the entries of that very moment, after its expiries."""
        live = [
            e.penalty
            for e in found
            if e.penalty.ledger == ledger
            and (e.penalty.effective_at < at or (not before and e.penalty.effective_at == at))
            and e.penalty.expires_at > at
        ]
        step = (RULES.general if ledger == "general" else RULES.serious).thresholds[number - 1]
        warns = ledger == "general" and number == 1
        return sum(p.points for p in live) >= step.points or (warns and bool(live))

    def observe(self, found: list[Entry], now: dt.datetime) -> set[tuple[str, int]]:
        """Thresholds whose sanctions are in force."""
        result = set()
        for ledger, part in (("general", RULES.general), ("serious", RULES.serious)):
            moments = {e.penalty.effective_at for e in found} | {e.penalty.expires_at for e in found}
            for number, step in enumerate(part.thresholds, 1):
                given = self.given.setdefault((ledger, number), [])
                for one in given:
                    begun = one["began"]
                    times = sorted({m for m in moments if begun < m <= now} | {begun, now})
                    course = [self.reached(found, ledger, number, begun)]
                    for at in times[1:]:
                        course += [self.reached(found, ledger, number, at, before=True)]
                        course += [self.reached(found, ledger, number, at)]
                    fell = any(a and not b for a, b in itertools.pairwise(course))
                    closed = step.consequence == "closed" and one["on"]
                    if one["on"] and step.days and begun + step.days * DAY <= now:
                        one["on"] = False
                    if not any(course):
                        one["on"] = one["answers"] = False
                    elif one["answers"] and fell and not (closed and course[-1]):
                        one["answers"] = False
                        one["on"] = one["on"] and bool(step.days or closed)
                    elif course[-1] and one["on"] and (closed or not fell):
                        one["answers"] = True  # a fall that was seen never was: a late violation bridges it
                if self.reached(found, ledger, number, now) and not any(one["answers"] for one in given):
                    given.append({"began": now, "on": True, "answers": True})
                if any(one["on"] for one in given):
                    result.add((ledger, number))
        return result


Acts = list[tuple[str, int, int, Any]]


def acts() -> st.SearchStrategy[Acts]:
    """(what, days to go before it, which violation or how many days late, severity)."""
    what = st.sampled_from(["violates", "violates", "violates", "late", "reverses", "nothing"])
    days = st.sampled_from([0, 0, 1, 1, 2, 3, 7, 14, 30, 90, 180, 364, 365, 366])
    severity = st.sampled_from(["general", "general", "general", "serious"])
    return st.lists(st.tuples(what, days, st.integers(0, 30), severity), max_size=22)


FALL_THAT_NEVER_WAS: Acts = [
    ("violates", 0, 0, "general"), ("violates", 0, 0, "general"), ("violates", 364, 0, "general"),
    ("late", 1, 2, "general"), ("violates", 7, 0, "general"),
]  # fmt: skip
"""Frozen for seven days on day 364; the sum falls on day 365, and then a violation of day 363 becomes known."""


@example(FALL_THAT_NEVER_WAS, True)
@given(acts(), st.booleans())
def test_a_life_is_as_a_plain_count_tells_it(stream: Acts, watched: bool) -> None:
    """Violations in and out of order, reversals and expiries; seen at every end, or only now and then."""
    life, plain = Life(), Plain()
    decided = life.decide

    def decide() -> Life:
        decided()
        found = entries(list(life.violations.values()))
        there = {(s.ledger, s.level) for s in life.account.sanctions if s.in_force}
        assert there == plain.observe(found, life.now)
        union = {m for s in life.account.sanctions if s.in_force for m in s.measures}
        assert set(life.measures) == union
        return life

    life.decide = decide  # type: ignore[method-assign]
    for number, (what, days, which, severity) in enumerate(stream):
        if watched:
            life.at((life.now - NOW).days + days)
        else:
            life.now += days * DAY
        claim = f"c{number:02}"
        if what == "violates":
            life.violates(claim, severity)
        elif what == "late":
            life.violations[claim] = (life.now - which * DAY, claim, severity)
        elif what == "reverses" and life.violations:
            del life.violations[sorted(life.violations)[which % len(life.violations)]]
        life.decide()


def test_from_a_warning_to_closure() -> None:
    life = Life().violates("c0")
    assert life.news() == [(0, "imposed", "threshold", 1, ())]
    assert (life.measures, life.account.seq) == ((), 0)  # a warning is no command
    life.at(10).violates("c1")
    assert life.news() == [(10, "imposed", "threshold", 2, ("listing_restricted",))]
    assert (life.account.seq, life.account.until) == (1, NOW + 13 * DAY)
    assert life.at(12.9).measures == ("listing_restricted",)
    assert life.at(14).measures == ()
    assert life.news() == [(13, "ended", "timer", 2, ("listing_restricted",))]
    life.at(20).violates("c2").at(21).violates("c3")
    assert life.news() == [(20, "imposed", "threshold", 3, ("frozen",))]
    life.at(22).violates("c4")
    assert life.news() == [(22, "imposed", "threshold", 4, ("frozen", "may_not_list"))]
    assert life.account.until == NOW + 36 * DAY  # in addition to the seven days that are running
    assert life.at(29).measures == ("frozen", "may_not_list")
    assert life.at(36).measures == ()
    for day in (40, 41, 42):
        life.at(day).violates(f"c{day}")
    assert life.measures == ("frozen", "may_not_list")
    life.at(43).violates("c43")
    assert life.measures == ("closed", "frozen", "may_not_list")
    life.at(360)
    assert life.measures == ("closed",)
    assert life.at(1000).measures == ("closed",)  # expiry does not open it again


def test_a_reversal_lifts_at_once_and_what_is_left_is_not_punished_twice() -> None:
    life = Life().violates("c0").at(10).violates("c1").at(20).violates("c2").at(25).violates("c3").at(26)
    assert life.measures == ("frozen",)
    life.news()
    life.reverse("c0")
    # 12 points now, first reached by c3: the seven days that began with c2 go on, and no new ones begin
    assert life.news() == []
    assert life.at(30).measures == ()
    life.news()
    life.reverse("c1")
    life.at(40).violates("c4")
    assert life.news() == [
        (40, "imposed", "threshold", 3, ("frozen",))
    ]  # it fell below twelve meanwhile: another occasion
    life.reverse("c4")
    assert life.news() == [(40, "lifted", "reversal", 3, ("frozen",))]
    assert life.measures == ()


def test_serious_until_the_standing_falls() -> None:
    life = Life().violates("c0", "serious")
    assert life.news() == [(0, "imposed", "threshold", 1, ("frozen",))]
    assert life.account.until is None
    assert life.at(364).measures == ("frozen",)
    assert life.at(366).measures == ()
    assert life.news() == [(365, "ended", "expiry", 1, ("frozen",))]


def test_no_cause_lifts_what_another_holds() -> None:
    life = Life().violates("c0", "serious").violates("g0").at(1).violates("g1").at(2).violates("g2")
    assert life.measures == ("frozen", "listing_restricted")
    life.reverse("c0")
    assert life.measures == ("frozen", "listing_restricted")  # by twelve points
    assert life.account.until == NOW + 4 * DAY
    life.at(5).violates("c1", "serious")
    assert life.at(9).measures == ("frozen",)
    life.reverse("c1")
    assert life.measures == ()


def test_closed_is_undone_by_a_reversal_even_after_the_entries_expired() -> None:
    life = Life()
    for number, day in enumerate((0, 10, 20)):
        life.at(day).violates(f"c{number}", "serious")
    assert life.measures == ("closed", "frozen", "may_not_list")
    life.at(500)
    assert life.measures == ("closed",)
    life.reverse("c0")
    assert life.measures == ()
    assert life.news()[-1] == (500, "lifted", "reversal", 3, ("closed",))


def test_an_expiry_and_a_new_violation_make_a_new_occasion() -> None:
    life = Life().violates("c0").at(1).violates("c1")
    life.at(366)
    assert life.account.measures == ()
    life.news()
    # both happen before anybody looks
    life.violations["c2"] = (NOW + 400 * DAY, "c2", "general")
    life.violations["c3"] = (NOW + 401 * DAY, "c3", "general")
    life.now = NOW + 402 * DAY
    life.decide()
    assert life.news() == [
        (402, "imposed", "threshold", 1, ()),
        (402, "imposed", "threshold", 2, ("listing_restricted",)),
    ]


def test_a_fall_that_never_was_brings_no_second_freeze() -> None:
    """A violation becomes known days late and holds the sum up through an expiry that was seen (decision 0023)."""
    life = Life().violates("c0").violates("c1").at(364).violates("c2")
    assert life.measures == ("frozen",)
    life.at(365).news()  # the first two expire: twelve points fall to six
    life.violations["c3"] = (NOW + 363 * DAY, "c3", "general")
    life.decide()
    assert [change for change in life.news() if change[3] == 3] == []
    assert life.account.until == NOW + 371 * DAY
    # one that is over stays so, and its fall too: what becomes known then is a new occasion
    over = Life().violates("c0").violates("c1").at(350).violates("c2").at(365)
    over.news()
    over.violations["c3"] = (NOW + 349 * DAY, "c3", "general")
    over.decide()
    assert [change for change in over.news() if change[3] == 3] == [(365, "imposed", "threshold", 3, ("frozen",))]


def test_an_operator_lifts_once_for_all() -> None:
    life = Life().violates("c0", "serious")
    asked = sanctions.LiftSanction(
        command="k", account="seller", sanction=life.account.sanctions[0].sanction, by="op", reason="goodwill", at=NOW
    )
    assert sanctions.lift(life.account, asked, life.now)
    assert sanctions.lift(life.account, asked, life.now) is None
    life.at(1).decide()
    assert life.measures == ()
    life.at(10).violates("c1", "serious")
    assert life.measures == ("frozen", "may_not_list")


def test_nobody_is_suspended_without_a_warning_before() -> None:
    life = Life(DSA).violates("c0", "serious")
    assert life.news() == [(0, "imposed", "threshold", 1, ())]
    life.at(10).violates("c1", "serious")
    assert life.measures == ("frozen", "may_not_list")
    late = Life(DSA).violates("c0", "serious")
    late.violations["c1"] = (NOW - 10 * DAY, "c1", "serious")  # found later, but done before the warning
    late.at(1).decide()
    assert (late.measures, late.account.sanctions[-1].withheld) == ((), ("frozen", "may_not_list"))
    late.at(30).violates("c2", "serious")  # warned now: this closes, and what was withheld comes with it
    assert late.measures == ("closed", "frozen", "may_not_list")


def test_what_a_prior_warning_withheld_comes_with_the_next_violation() -> None:
    life = Life(DSA)
    life.violations = {f"c{n}": (NOW + n * 4 * DAY, f"c{n}", "serious") for n in range(4)}
    life.at(20).decide()  # all at once: nobody had warned
    assert life.measures == ()
    assert [s.withheld for s in life.account.sanctions] == [(), ("frozen", "may_not_list"), ("closed",)]
    life.at(30).violates("c9")
    assert life.measures == ("closed", "frozen", "may_not_list")
    assert [change[1:3] for change in life.news()].count(("ended", "replaced")) == 2


def test_a_measure_goes_with_the_violation_that_it_came_with() -> None:
    life = Life(WARNS).violates("A", "serious").at(10).violates("C")
    assert life.measures == ("frozen",)
    life.at(20).news()
    life.reverse("C")
    assert life.news() == [
        (20, "lifted", "reversal", 1, ()),
        (20, "lifted", "reversal", 1, ("frozen",)),
        (20, "imposed", "threshold", 1, ()),
    ]
    assert (life.measures, life.account.sanctions[-1].withheld) == ((), ("frozen",))
    life.at(30).violates("D")  # the next one brings it again
    assert life.measures == ("frozen",)
    # another violation since the warning holds it
    life.at(31).violates("E").reverse("D")
    assert life.measures == ("frozen",)
    life.reverse("E")
    assert life.measures == ()


def test_a_measure_after_a_warning_that_was_served_is_not_asked_for_again() -> None:
    life = Life(DSA)
    life.violations = {f"c{n}": (NOW + n * DAY / 4, f"c{n}", "general") for n in (0, 5, 10)}  # 12 points: frozen 7 days
    life.at(20).decide()
    assert life.account.sanctions[-1].withheld == ("frozen",)
    life.at(30).violates("c99", "serious")
    assert "frozen" in life.measures
    life.at(60).reverse("c99")
    assert (life.measures, [s.withheld for s in life.account.sanctions if s.in_force]) == ((), [()])


@given(acts(), st.sampled_from(["general", "serious"]), st.booleans())
def test_no_reversal_of_a_trigger_leaves_more_than_there_was(stream: Acts, severity: Any, dsa: bool) -> None:
    """A violation after any life, reversed on the same day: what suspends is what suspended before."""
    life = Life(DSA if dsa else WARNS)
    for number, (what, days, which, gravity) in enumerate(stream):
        life.at((life.now - NOW).days + days)
        if what == "violates":
            life.violates(f"c{number:02}", gravity)
        elif what == "reverses" and life.violations:
            life.reverse(sorted(life.violations)[which % len(life.violations)])
    life.at((life.now - NOW).days + 1)
    before = sanctions.SUSPENDS.intersection(life.measures)
    life.violates("trigger", severity).reverse("trigger")
    assert sanctions.SUSPENDS.intersection(life.measures) <= before


def test_what_was_served_is_not_imposed_anew_by_a_link_that_was_cut_and_is_back() -> None:
    others = [(day, f"x{day}", "general") for day in range(3)]  # 12 points: frozen 7 days
    life = Life().violates("c0").at(5).joins(*others)
    assert life.measures == ("frozen", "listing_restricted")
    life.at(12)
    assert life.measures == ()
    life.at(20).joins()
    life.news()
    life.at(21).joins(*others)
    assert (life.measures, life.news()) == ((), [])
    # what an operator lifted neither, and a new occasion is one
    others.append((22, "x22", "general"))
    life.at(22).joins(*others)
    (found,) = [s for s in life.account.sanctions if s.in_force and s.measures]
    asked = sanctions.LiftSanction(
        command="k", account="seller", sanction=found.sanction, by="op", reason="goodwill", at=NOW
    )
    assert sanctions.lift(life.account, asked, life.now)
    life.at(23).joins().at(24).joins(*others)
    assert life.measures == ()
    life.account.sanctions = [s for s in life.account.sanctions if s.matters]  # as the store loads them
    life.at(25).joins().at(26).joins(*others)
    assert life.measures == ()


def test_levels_of_older_rules_above_all_thresholds_are_passed_over() -> None:
    life = Life()
    for day in range(4):
        life.at(day).violates(f"c{day}")
    few = msgspec.structs.replace(
        RULES, general=msgspec.structs.replace(RULES.general, thresholds=RULES.general.thresholds[:2])
    )
    held = sanctions.grounds(entries(list(life.violations.values())), RULES, life.now)
    assert max(ground.level for ground in held) > 2
    facts = Facts(
        sanctions.grounds(entries(list(life.violations.values())), few, life.now),
        True,
        life.now,
        True,
        EntityRecord("entity", held, life.now),
    )
    assert not sanctions.decide(
        Account("other"), Facts((), True, NEVER, False, EntityRecord("entity", held)), few, life.now
    )
    assert {change.level for change in sanctions.decide(Account("seller"), facts, few, life.now)} == {1, 2}
    assert penalties.consequence(4, few.general.thresholds) == "listing_restricted"
    assert penalties.consequence(0, few.general.thresholds) is None


def test_an_account_without_violations_answers_for_the_business_only() -> None:
    life = Life()
    others = [(day, f"x{day}", "general") for day in range(-10, -5)]  # 24 points: frozen 14 + entity may not list
    life.joins(*others)
    assert life.measures == ("may_not_list",)
    life.violates("c0").joins(*others)
    assert life.measures == ("frozen", "listing_restricted", "may_not_list")
    life.reverse("c0").joins(*others)
    assert life.measures == ("may_not_list",)
    life.joins()
    assert life.measures == ()
    assert life.news()[-1][1:3] == ("lifted", "unlinked")


def test_who_is_cut_off_stands_by_itself() -> None:
    life = Life().violates("c0", "serious").joins((-10, "x0", "serious"), (-20, "x1", "serious"))
    assert life.measures == ("closed", "frozen", "may_not_list")
    life.joins()
    assert life.measures == ("frozen",)
    assert [s.sanction for s in life.account.sanctions if s.in_force] == [life.account.sanctions[0].sanction]


def test_what_an_account_has_served_is_not_asked_of_it_as_a_part_of_the_business() -> None:
    others = [(day, f"x{day}", "general") for day in range(200, 204)]
    life = Life().violates("c0").at(204).joins(*others)
    assert life.measures == ("frozen", "listing_restricted", "may_not_list")
    assert life.at(220).measures == ()
    life.news()
    life.at(366).joins(*others)  # its own violation counts no more, the others' do
    assert (life.news(), life.measures) == ([(365, "ended", "expiry", 1, ())], ())


@given(acts(), st.booleans())
def test_whatever_happens_in_a_business_is_answered_once(stream: Acts, dsa: bool) -> None:
    """Others' violations and reversals, links and cuts in addition to the account's own; under either policy."""
    life = Life(DSA if dsa else RULES)
    others: dict[str, tuple[float, str, Any]] = {}
    for number, (what, days, which, severity) in enumerate(stream):
        life.at((life.now - NOW).days + days)
        today = (life.now - NOW).days
        if what == "violates" and which % 2:
            life.violations[f"c{number:02}"] = (life.now, f"c{number:02}", severity)
        elif what in ("violates", "late"):
            others[f"x{number:02}"] = (today - which * (what == "late"), f"x{number:02}", severity)
        elif what == "reverses":
            mine = life.violations if which % 2 else others
            if mine:
                del mine[sorted(mine)[which % len(mine)]]  # type: ignore[attr-defined]
        life.joins(*(() if what == "nothing" else others.values()))
        own = sanctions.grounds(entries(list(life.violations.values()), life.rules), life.rules, life.now)
        shared = life.entity.grounds if life.entity is not None else ()
        open_ = {(g.ledger, g.level) for g in own if g.fell_at is None}
        entitys = {(g.ledger, g.level) for g in shared if g.fell_at is None}
        standing = [(s.ledger, s.level) for s in life.account.sanctions if s.stands]
        assert len(standing) == len(set(standing))
        assert open_ <= set(standing)
        assert set(standing) <= {(g.ledger, g.level) for g in (*own, *shared)}
        for key in entitys:
            step = sanctions.thresholds(life.rules, key[0])[key[1] - 1]
            assert key in standing or not (sanctions.entity_measures(step) or life.counts)
        if not life.violations:
            parts = {
                sanctions.entity_measures(t) for t in life.rules.general.thresholds + life.rules.serious.thresholds
            }
            assert {s.asked for s in life.account.sanctions if s.in_force} <= parts
        if life.entity is None:
            assert all(s.scope == "own" for s in life.account.sanctions if s.in_force and "closed" not in s.measures)


def test_a_warned_entity_is_warned() -> None:
    others = [(-30, "x0", "serious"), (-20, "x1", "serious"), (-10, "x2", "serious")]
    life = Life(DSA).joins(*others)
    assert life.measures == ("may_not_list",)  # which suspends nothing
    life = Life(DSA).joins(*others, warned=(NOW - 25 * DAY,))
    assert life.measures == ("closed", "may_not_list")


def test_until_is_when_the_measures_become_fewer() -> None:
    life = Life().violates("c0").at(1).violates("c1").at(2).violates("c2")
    assert sanctions.in_force(life.account.sanctions) == (("frozen", "listing_restricted"), NOW + 4 * DAY)
    life.at(5)
    assert sanctions.in_force(life.account.sanctions) == (("frozen",), NOW + 9 * DAY)


def test_receipts_of_no_command_change_nothing() -> None:
    account = Life().violates("c0", "serious").account
    receipt = sanctions.SellerReceipt(command=sanctions.command_id("seller", 1), seller="seller", seq=1)
    before = sanctions.SellerReceipt(command=sanctions.command_id("seller", 2), seller="seller", seq=2)
    assert not sanctions.receive(None, receipt)
    assert not sanctions.receive(account, before)
    assert sanctions.receive(account, receipt)
    assert not sanctions.receive(account, receipt)
    assert sanctions.again(account, NOW) is None


def test_who_was_unknown_is_told_of_once_more() -> None:
    account = Life().violates("c0", "serious").account
    receipt = sanctions.SellerReceipt(
        command=sanctions.command_id("seller", 1), seller="seller", seq=1, result="unknown_seller"
    )
    assert sanctions.command(account, NOW) is None  # it is under way
    assert sanctions.receive(account, receipt)
    again = sanctions.command(account, NOW)
    assert again is not None
    assert (again.seq, again.measures) == (2, ("frozen",))


def test_a_command_without_a_receipt_is_sent_again_with_growing_pauses() -> None:
    account = Life().violates("c0", "serious").account
    pauses = []
    for _ in range(8):
        command = sanctions.again(account, NOW)
        assert command is not None
        assert command.command == sanctions.command_id("seller", 1)
        assert account.resend_at is not None
        pauses.append((account.resend_at - NOW).total_seconds())
    assert pauses == [60, 120, 240, 480, 600, 600, 600, 600]
