"""`goodfaith verify`'s model of sanctions and entities: enforcement agrees with it, and a mistake of enforcement's is found."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import entities, entities_worker, penalties, sanctions, sanctions_store
from services.enforcement.penalties import NEVER, Entry
from services.enforcement.sanctions import Account, Facts
from services.ops.verify import entity_checks, sanction_checks
from services.ops.verify import sanction_model as model
from services.ops.verify.findings import Tally
from shared import policy
from shared.events import LiftSanction, SellerKey
from shared.policy import Penalties

RULES = policy.current("ipp").penalties
PROFILES = {name: policy.current(name).penalties for name in ("ipp", "bpp", "dsa")}
LINKS = policy.Entity(links={"registration": 4, "payment": 3, "device": 2}, largest=4)
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MICRO = dt.timedelta(microseconds=1)
Own = entities.AccountViolation


COLUMNS = (  # of a row of enforcement.sanctions
    *("seller", "number", "sanction", "scope", "ledger", "level", "measures", "withheld", "entry", "claim", "began"),
    *("ends", "state", "cause", "over_at", "stands", "reason", "after"),
)


class Business:
    """Some accounts, judged by enforcement as they violate, are reversed, linked, cut off and lifted."""

    def __init__(self, rules: Penalties = RULES, sellers: Sequence[str] = ("a",)) -> None:
        self.rules = rules
        self.now = NOW
        self.linked = len(sellers) > 1
        self.violations: dict[tuple[str, str], Own] = {}
        self.accounts = {seller: Account(seller) for seller in sellers}

    def own(self, seller: str) -> list[Own]:
        return [own for own in self.violations.values() if own.seller == seller]

    def violate(self, claim: str, severity: Any = "general", seller: str = "a", late: int = 0) -> Business:
        self.violations[seller, claim] = Own(seller, claim, severity, self.now - late * DAY, f"{seller}.{claim}")
        return self

    def entries(self, seller: str) -> list[Entry]:
        history = [(own.at, own.claim, own.severity) for own in self.own(seller)]
        return [Entry(f"{seller}.{one.claim}", one) for one in penalties.assess(history, self.rules)[0]]

    def counted(self) -> entities_worker.EntityStanding:
        warned = [
            s.began for a in self.accounts.values() for s in a.sanctions if not s.measures and s.state != "lifted"
        ]
        return entities_worker.counted(list(self.violations.values()), self.rules, self.now, warned)

    def facts(self, seller: str) -> Facts:
        """As the ledger's worker puts them together."""
        entity, own = None, self.own(seller)
        if self.linked:
            counted = self.counted()
            entity = sanctions.EntityRecord("e-1", counted.grounds, counted.last or NEVER, counted.warned)
        counts = any(one.at + self.rules.repeat_offender.within.exact > self.now for one in own)
        found = sanctions.grounds(self.entries(seller), self.rules, self.now)
        return Facts(found, True, max((one.at for one in own), default=NEVER), counts, entity)

    def decide(self) -> Business:
        for _ in range(2):  # a warning to one account counts for all
            for seller, account in self.accounts.items():
                sanctions.decide(account, self.facts(seller), self.rules, self.now)
        return self

    def given(self, seller: str) -> list[model.Sanction]:
        """As they would be stored and read."""
        rows = [sanctions_store.sanction_row(sanction) for sanction in self.accounts[seller].sanctions]
        return [sanction_checks.stored(SimpleNamespace(**dict(zip(COLUMNS, row, strict=True)))) for row in rows]

    def known(self, seller: str) -> model.AccountFacts:
        """As `verify` puts it together."""
        facts = self.facts(seller)
        entity = None
        if facts.entity is not None:
            entity = sanction_checks.stored_entity.decode(msgspec.json.encode(facts.entity)).known
        entries = [model.Entry(one.entry, *msgspec.structs.astuple(one.penalty)) for one in self.entries(seller)]
        own = model.grounds(entries, self.rules, self.now)
        return model.AccountFacts(own, max((one.at for one in entries), default=None), facts.counts, entity)

    def found(self, seller: str = "a") -> set[str]:
        tally = Tally()
        sanction_checks.judge(seller, self.given(seller), self.known(seller), self.rules, self.now, tally)
        return {finding.kind for finding in tally.findings()}

    def settled(self, seller: str) -> bool:
        """Whether deciding once more changes nothing."""
        account = copy.deepcopy(self.accounts[seller])
        sanctions.decide(account, self.facts(seller), self.rules, self.now)
        return account == self.accounts[seller]


# ---- both agree

MOMENTS = st.integers(0, 12 * 24).map(lambda hours: NOW - 370 * DAY + dt.timedelta(hours=hours)) | st.integers(
    0, 900
).map(lambda days: NOW - days * DAY)


@st.composite
def histories(draw: st.DrawFn, sellers: str = "abc", most: int = 14) -> list[Own]:
    """Violations of some accounts; a claim may be against several of them, and moments fall together."""
    made: dict[tuple[str, str], Own] = {}
    for _ in range(draw(st.integers(0, most))):
        seller, claim = draw(st.sampled_from(sellers)), f"c{draw(st.integers(0, most))}"
        severity = draw(st.sampled_from(("general", "general", "serious")))
        made[seller, claim] = Own(seller, claim, severity, draw(MOMENTS), f"{seller}.{claim}")
    return list(made.values())


def same_grounds(known: Sequence[model.Ground], grounds: Sequence[sanctions.Ground]) -> bool:
    return sorted(known, key=lambda one: (one.threshold, one.since)) == [
        model.Ground(g.ledger, g.level, g.crossed_at, g.entry, g.claim, g.fell_at) for g in grounds
    ]


@given(histories("a", 25), st.integers(0, 800), st.sampled_from(sorted(PROFILES)))
def test_thresholds_are_reached_alike(history: list[Own], days: int, profile: str) -> None:
    business = Business(PROFILES[profile])
    business.violations = {(own.seller, own.claim): own for own in history}
    business.now = NOW + days * DAY
    found = business.entries("a")
    assert same_grounds(business.known("a").own, sanctions.grounds(found, business.rules, business.now))
    for entry in found:  # to the very moment of an end
        for business.now in (entry.penalty.expires_at, entry.penalty.expires_at - MICRO):
            assert same_grounds(business.known("a").own, sanctions.grounds(found, business.rules, business.now))


@given(histories(), st.integers(0, 800), st.sampled_from(sorted(PROFILES)))
def test_entities_are_counted_alike(history: list[Own], days: int, profile: str) -> None:
    rules, now = PROFILES[profile], NOW + days * DAY
    sums, grounds = entities.count(history, rules, now)
    stored = sanction_checks.stored_grounds.decode(msgspec.json.encode(grounds))
    violations = [model.AccountViolation(*msgspec.structs.astuple(own)) for own in history]
    assert entity_checks.counted_wrong(sums, stored, violations, rules, now) == ""
    if sums.violations:
        worse = msgspec.structs.replace(sums, violations=sums.violations - 1)
        assert entity_checks.counted_wrong(worse, stored, violations, rules, now)
    for wrong in (stored[1:], [*stored[1:], msgspec.structs.replace(stored[0], entry="x")]) if stored else ():
        assert entity_checks.counted_wrong(sums, wrong, violations, rules, now)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["registration", "payment", "device", "name"]), st.sampled_from("0123")),
        st.sets(st.sampled_from("abcdefghij"), max_size=5),
        max_size=12,
    ),
    st.integers(2, 10),
)
def test_accounts_hang_together_alike(holders: dict[tuple[Any, str], set[str]], largest: int) -> None:
    rules = policy.Entity(links=LINKS.links, largest=largest)
    wanted = entities.components({SellerKey(*key): sellers for key, sellers in holders.items()}, rules)
    assert model.entities(holders, rules) == set(wanted)
    for members in wanted:
        assert model.entity_id(set(members)) == entities.entity_id(members)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["violates", "violates", "violates", "late", "reverses", "links", "lifts", "nothing"]),
        st.sampled_from([0, 0, 1, 1, 2, 3, 7, 14, 30, 90, 180, 364, 365, 366]),
        st.integers(0, 40),
        st.sampled_from(["general", "general", "general", "serious"]),
        st.sampled_from("aab"),
    ),
    max_size=22,
)


@given(ACTS, st.sampled_from(sorted(PROFILES)), st.booleans(), st.booleans())
def test_what_enforcement_decides_is_as_it_must_be_and_what_it_would_change_is_not(
    acts: list[tuple[str, int, int, Any, str]], profile: str, warns: bool, several: bool
) -> None:
    """After each decision nothing is found. Before it something is exactly where the decision changes something."""
    business = Business(
        msgspec.structs.replace(PROFILES[profile], prior_warning=warns), ("a", "b") if several else ("a",)
    )
    for number, (what, days, which, severity, name) in enumerate(acts):
        seller = name if several else "a"
        business.now += days * DAY
        if what in ("violates", "late"):
            business.violate(f"c{number % 17:02}", severity, seller, which if what == "late" else 0)
        elif what == "reverses" and business.violations:
            del business.violations[sorted(business.violations)[which % len(business.violations)]]
        elif what == "links" and several:
            business.linked = not business.linked
        elif what == "lifts" and (live := [s for s in business.accounts[seller].sanctions if s.in_force]):
            lifted = live[which % len(live)].sanction
            asked = LiftSanction(command="k", account=seller, sanction=lifted, by="o", reason="r", at=business.now)
            assert sanctions.lift(business.accounts[seller], asked, business.now)
        for one, account in business.accounts.items():
            odds = list(model.at_odds(business.given(one), business.known(one), business.rules, business.now))
            assert bool(odds) != business.settled(one), odds
            measures, until = sanctions.in_force(account.sanctions)
            assert model.in_force(business.given(one)) == (frozenset(measures), until)
        business.decide()
        for one in business.accounts:
            assert business.found(one) == set()


# ---- a mistake of enforcement's is found, though enforcement agrees with itself
# (the old checks asked its own functions whether what it had stored is right)

WARNS = msgspec.structs.replace(RULES, prior_warning=True)
Plant = Callable[[pytest.MonkeyPatch], None]


def plant(module: Any, name: str, made: Callable[[Any], Any]) -> Plant:
    """Put a function in the place of another that it is made from."""
    return lambda patch: patch.setattr(module, name, made(getattr(module, name)))


def shifted(right: Any) -> Any:
    """Each threshold lies one point higher."""

    def wrong(rules: Penalties, ledger: Any) -> Any:
        return tuple(msgspec.structs.replace(step, points=step.points + 1) for step in right(rules, ledger))

    return wrong


def endless(right: Any) -> Any:
    """No sanction has days."""

    def wrong(account: Account, *args: Any) -> Any:
        event = right(account, *args)
        account.sanctions[-1].ends = None
        return event

    return wrong


def once(severity: Any) -> Callable[[Penalties], Business]:
    def play(rules: Penalties) -> Business:
        return Business(rules).violate("c0", severity).decide()

    return play


def twice_general(rules: Penalties) -> Business:
    business = once("general")(rules)
    business.now += 10 * DAY
    return business.violate("c1").decide()


def reversed_(rules: Penalties) -> Business:
    business = once("serious")(rules)
    business.now += DAY
    business.violations.clear()
    return business.decide()


def expired(rules: Penalties) -> Business:
    business = once("serious")(rules)
    business.now += 366 * DAY
    return business.decide()


def warned(_: Penalties) -> Business:
    business = once("serious")(WARNS)
    business.now += 10 * DAY
    return business.violate("c1").decide()


def of_another(rules: Penalties) -> Business:
    """Three strikes of another account."""
    business = Business(rules, ("a", "b"))
    for number in range(3):
        business.now += 10 * DAY
        business.violate(f"c{number}", "serious", "b").decide()
    return business


@pytest.mark.parametrize(
    ("mistake", "play", "kind"),
    [
        (plant(sanctions, "thresholds", shifted), once("serious"), "sanction-missing"),
        (plant(sanctions, "thresholds", shifted), twice_general, "sanction-missing"),
        (plant(sanctions, "thresholds", lambda right: lambda *args: right(*args)[1:]), twice_general, "sanction-wrong"),
        (plant(sanctions, "reached", lambda _: lambda *args: 0), once("general"), "sanction-missing"),
        (plant(sanctions, "measures", lambda _: lambda step: ()), once("serious"), "sanction-wrong"),
        (plant(sanctions, "entity_measures", lambda _: lambda step: ()), of_another, "sanction-undecided"),
        (plant(sanctions, "_impose", endless), twice_general, "sanction-wrong"),
        (plant(sanctions, "_answer", lambda _: lambda *args: []), once("serious"), "sanction-missing"),
        (plant(sanctions, "_review", lambda _: lambda *args: []), reversed_, "sanction-unfounded"),
        (plant(sanctions, "_review", lambda _: lambda *args: []), expired, "sanction-undecided"),
        (plant(sanctions, "_course", lambda right: lambda *args: right(*args[:3], NOW)), expired, "sanction-undecided"),
        (plant(Facts, "latest", lambda _: NEVER), warned, "sanction-undecided"),
    ],
)
def test_a_mistake_of_sanctions_is_found(
    mistake: Plant, play: Callable[[Penalties], Business], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play(RULES).found() == set()
    mistake(monkeypatch)
    business = play(RULES)
    assert business.settled("a")
    assert kind in business.found()


def test_a_threshold_that_is_answered_twice_is_found() -> None:
    business = once("serious")(RULES)
    account = business.accounts["a"]
    account.sanctions.append(copy.copy(account.sanctions[0]))
    assert business.found() == {"sanctioned-twice"}


def test_days_that_are_over_are_found_whatever_the_ledger_says_is_due() -> None:
    business = twice_general(RULES)
    business.now += 3 * DAY - MICRO
    assert business.found() == set()
    business.now += MICRO
    assert business.found() == {"sanction-undecided"}


HOLDERS: dict[tuple[Any, str], set[str]] = {
    ("registration", "1"): {"a", "b"},
    ("payment", "1"): {"b", "c"},
    ("device", "1"): {"d", "e"},
    ("payment", "2"): {"v", "w", "x"},
    ("device", "2"): {"x", "y"},
    ("device", "3"): {"y", "z"},
}


@pytest.mark.parametrize(
    ("mistake", "kinds"),
    [
        (plant(entities, "links", lambda _: lambda *args: False), {"entity-missing"}),
        (
            plant(entities, "_union", lambda _: lambda groups: [tuple(sorted(one)) for one in groups]),
            {"entity-missing", "entity-unfounded"},
        ),
        (
            plant(entities, "_split", lambda _: lambda linking, kinds, largest: entities._union(linking.values())),
            {"entity-missing", "entity-unfounded"},
        ),
        (plant(entities, "entity_id", lambda _: lambda members: f"e-{max(members)}"), {"entity-misnamed"}),
    ],
)
def test_a_mistake_in_who_is_one_business_is_found(
    mistake: Plant, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> set[str]:
        linked = entities.components({SellerKey(*key): sellers for key, sellers in HOLDERS.items()}, LINKS)
        stored = {entities.entity_id(members): members for members in linked}
        tally = Tally()
        entity_checks.membership(stored, model.entities(HOLDERS, LINKS), tally)
        return {finding.kind for finding in tally.findings()}

    assert found() == set()
    mistake(monkeypatch)
    assert found() == kinds


@pytest.mark.parametrize(
    "mistake",
    [
        plant(entities, "merged", lambda _: lambda violations: sorted(violations, key=lambda own: own.at)),
        plant(entities, "merged", lambda _: lambda violations: [own for own in violations if own.seller == "a"]),
        plant(entities, "united", lambda _: lambda courses: tuple(next(iter(courses)))),
        plant(sanctions, "thresholds", shifted),
        plant(penalties, "step", lambda right: lambda tail, *args: right(penalties.BEGIN, *args)),
    ],
)
def test_a_mistake_in_where_a_business_stands_is_found(mistake: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [
        Own("a", "c1", "serious", NOW - 366 * DAY, "a.1"),
        Own("b", "c2", "serious", NOW - 364 * DAY, "b.1"),
        Own("a", "c3", "general", NOW - 20 * DAY, "a.2"),
        Own("b", "c3", "general", NOW - 19 * DAY, "b.2"),
        Own("b", "c4", "general", NOW - 10 * DAY, "b.3"),
        Own("a", "c5", "general", NOW - 5 * DAY, "a.3"),
    ]

    def found() -> str:
        sums, grounds = entities.count(history, RULES, NOW)
        stored = sanction_checks.stored_grounds.decode(msgspec.json.encode(grounds))
        violations = [model.AccountViolation(*msgspec.structs.astuple(own)) for own in history]
        return entity_checks.counted_wrong(sums, stored, violations, RULES, NOW)

    assert found() == ""
    mistake(monkeypatch)
    assert found() != ""
