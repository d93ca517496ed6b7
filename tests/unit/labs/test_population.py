"""A population keeps its stated shares, repeats itself, and its truth is what its listings show."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps, ImageStat

from labs.model import Dice
from labs.population import figures, people, pictures, titles
from labs.population.catalogue import FOLDS, Goods, composed, fold_of, of_seed, parse
from labs.population.generator import INFRINGING, PICTURED, Kind, Listing, Population, attack, divided, generate, load
from shared.events import Price
from shared.failures import CommandError

GOODS = composed()
RATES = load()
seeds = st.integers(0, 10_000)
sizes = st.integers(50, 700)
KINDS: tuple[Kind, ...] = get_args(Kind)


def population(items: int, seed: int) -> Population:
    return generate(of_seed(GOODS, seed), RATES, items, seed)


def names(mark: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(mark)}(?!\w)", text, flags=re.IGNORECASE) is not None


# ----------------------------------------------------------------------------------------------------------- catalogue

RECORD = (
    "COL title VAL acme x1 radio COL category VAL radios COL brand VAL acme COL modelno VAL x1 COL price VAL 19.5 "
    "\tCOL title VAL case for acme x1 COL category VAL cases COL brand VAL acme COL modelno VAL  COL price VAL 3.0 \t0\n"
    "COL title VAL acme x2 radio COL category VAL  COL brand VAL acme COL modelno VAL  COL price VAL  "
    "\tCOL title VAL acme x3 radio COL category VAL radios COL brand VAL acme COL modelno VAL x3 COL price VAL 0.1 \t1\n"
    "COL title VAL bolt lamp COL category VAL lamps COL brand VAL bolt COL modelno VAL  COL price VAL 7.0 "
    "\tCOL title VAL acme x1 radio COL category VAL radios COL brand VAL acme COL modelno VAL x1 COL price VAL 19.5 \t1\n"
)


def test_only_a_makers_own_goods_are_read_each_once() -> None:
    """Not the case for its radio, nor the only title of a brand."""
    assert parse([RECORD]) == (
        Goods("acme", "acme x1 radio", "radios", 19.5),
        Goods("acme", "acme x2 radio", "other", 20.0),
        Goods("acme", "acme x3 radio", "radios", 20.0),
    )


def test_seeds_with_different_last_digits_share_no_brand() -> None:
    sets = [{one.brand for one in of_seed(GOODS, seed)} for seed in range(FOLDS)]
    assert Counter(brand for brands in sets for brand in brands) == Counter({one.brand for one in GOODS})
    assert all(len(brands) >= 3 for brands in sets)
    assert {fold_of("Nike"), fold_of("NIKE")} == {fold_of("nike")}
    assert of_seed(GOODS, 3) == of_seed(GOODS, 13) != of_seed(GOODS, 4)


def test_without_real_titles_there_are_composed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert titles.load() == (GOODS, "composed")


def test_titles_that_are_not_the_expected_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CommandError, match=r"train\.txt is not the file"):
        titles.keep(lambda _name: RECORD.encode())
    assert not titles.folder().exists()


def test_titles_in_the_cache_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(titles, "FILES", {"train.txt": hashlib.sha256(RECORD.encode()).hexdigest()})
    titles.keep(lambda _name: RECORD.encode())
    found, which = titles.load()
    assert (len(found), which) == (3, "real")
    (titles.folder() / "train.txt").write_text("altered")
    with pytest.raises(CommandError, match="delete"):
        titles.load()


# ----------------------------------------------------------------------------------------------------------- generator


@given(st.integers(0, 5000), st.dictionaries(st.integers(), st.floats(0.01, 10), min_size=1, max_size=8))
def test_what_is_divided_is_exact_up_to_rounding(count: int, weights: dict[int, float]) -> None:
    found = divided(count, weights)
    assert sum(found.values()) == count
    for name, share in found.items():
        assert abs(share - count * weights[name] / sum(weights.values())) < 1 + 1e-6


@settings(max_examples=8, deadline=None)
@given(sizes, seeds)
def test_the_same_seed_makes_the_same_population(items: int, seed: int) -> None:
    first = population(items, seed)
    assert first == population(items, seed)
    assert first.listings != population(items, seed + FOLDS).listings, "another seed of the same brands"


@settings(max_examples=12, deadline=None)
@given(sizes, seeds)
def test_shares_are_as_stated(items: int, seed: int) -> None:
    found = population(items, seed)
    conduct = {one.mark: one.conduct for one in found.notifiers}
    assert len(conduct) == len(found.notifiers), "each notifier has a mark of its own"
    assert len(found.listings) == items
    for name, behaviour in RATES.conduct.items():
        own = [one for one in found.listings if conduct[one.mark] == name]
        infringing = [one for one in own if one.infringing]
        assert abs(len(own) - behaviour.items * items) < 1
        assert abs(len(infringing) - behaviour.infringing * len(own)) <= 0.5
        for kinds, some in ((behaviour.infringing_kinds, infringing), (behaviour.lawful_kinds, own)):
            whole = len(infringing) if some is infringing else len(own) - len(infringing)
            for kind, weight in kinds.items():
                count = sum(one.kind == kind for one in some)
                assert abs(count - whole * weight / sum(kinds.values())) < 1 + 1e-6


@settings(max_examples=12, deadline=None)
@given(sizes, seeds)
def test_every_listing_is_claimed_once_by_the_owner_of_its_mark(items: int, seed: int) -> None:
    found = population(items, seed)
    notifiers = {one.id: one for one in found.notifiers}
    listings = {one.id: one for one in found.listings}
    assert Counter(id for one in found.filings for id in one.listings) == Counter(list(listings))
    for filing in found.filings:
        notifier = notifiers[filing.notifier]
        assert 0 <= filing.day < found.days
        assert 0 < len(filing.listings) <= RATES.conduct[notifier.conduct].claim[1]
        for listing in map(listings.__getitem__, filing.listings):
            assert listing.mark == notifier.mark
            assert (filing.reason == "copied_image_or_text") is (listing.kind in PICTURED)
            if listing.infringing and listing.kind not in PICTURED:
                assert filing.reason == ("counterfeit" if listing.kind == "counterfeit" else "improper_use")


def consistent(one: Listing) -> None:
    """The truth is what a person would conclude from what the listing shows and from what its seller knows."""
    assert one.infringing == (one.kind in INFRINGING)
    assert 0 < len(one.title) <= 300
    assert msgspec.convert({"amount": one.price, "currency": "EUR"}, Price).amount == one.price
    own_brand = one.brand is not None and one.brand.casefold() == one.mark.casefold()
    head = one.title.casefold().startswith(one.mark.casefold())
    if one.kind == "counterfeit":
        assert one.offer is not None
        assert names(one.mark, one.title) is (one.offer != "disguised")
        assert not (own_brand and one.offer == "disguised")
    else:
        assert one.offer is None
        assert names(one.mark, one.title) is (one.kind != "unrelated")
    assert own_brand == (one.kind in {"genuine", "resale"} | PICTURED) or one.kind == "counterfeit"
    assert (one.condition == "used") is (one.kind == "resale")
    if one.kind == "genuine":
        assert head
    if one.kind == "compatible":
        assert re.search(rf"\b(for|fits|with) {re.escape(one.mark)}(?!\w)", one.title, flags=re.IGNORECASE)


@settings(max_examples=12, deadline=None)
@given(sizes, seeds)
def test_the_truth_is_what_the_listings_show(items: int, seed: int) -> None:
    for one in population(items, seed).listings:
        consistent(one)
        assert one.seller


def test_pictures_are_the_works_their_copies_and_others() -> None:
    found = population(400, 2).listings
    differ: dict[str, list[float]] = {kind: [] for kind in PICTURED}
    for one in found:
        data = pictures.shown(one)
        assert (data is None) is (one.kind not in PICTURED)
        if data is not None:
            assert data == pictures.shown(one)
            image, work = (opened(of) for of in (data, pictures.specimen(one.mark)))
            assert min(image.size) > 150
            ways = (image, ImageOps.mirror(image))
            differ[one.kind].append(
                min(sum(ImageStat.Stat(ImageChops.difference(way.resize(work.size), work)).mean) for way in ways)
            )
    own = statistics.mean(differ.pop("own"))
    assert all(statistics.mean(some) < own / 2 for some in differ.values()), differ


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 400), seeds)
def test_a_stolen_account_files_against_lawful_listings_of_its_own_goods(count: int, seed: int) -> None:
    own = of_seed(GOODS, seed)
    victim = generate(own, RATES, 50, seed).notifiers[0]
    found = attack(own, RATES, victim, count, seed)
    assert found == attack(own, RATES, victim, count, seed)
    assert len({one.id for one in found}) == count
    for one in found:
        consistent(one)
        assert (one.mark, one.infringing) == (victim.mark, False)
        assert names(victim.mark, one.title)
        assert one.seller


def test_a_seed_of_too_few_brands_is_refused() -> None:
    with pytest.raises(CommandError, match="take another seed"):
        generate([Goods("acme", "acme radio", "radios", 5.0)], RATES, 50, 1)


# -------------------------------------------------------------------------------------------------------------- people


def listing(kind: Kind, number: int = 0) -> Listing:
    return Listing(f"l-{number}", "s-1", "acme", kind, "acme", "radios", "1.00", "new", "")


def test_sittings_end_within_the_panels_hours() -> None:
    panel = people.Panel(RATES.panel, Dice(1))
    opens, closes = RATES.panel.hours
    now = dt.datetime(2026, 9, 4, 1, tzinfo=dt.UTC)
    for _ in range(60):
        end = panel.next_sitting(now)
        assert end > now
        assert end.weekday() in RATES.panel.weekdays
        assert opens + RATES.panel.sitting <= end.hour <= closes
        assert panel.next_sitting(end - dt.timedelta(seconds=1)) == end
        now = end
    assert len(panel.reviewers) == RATES.panel.reviewers
    assert panel.quota == RATES.panel.cases_an_hour * RATES.panel.sitting


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["UNDER_REVIEW", "PLATFORM_REVIEW"])
def test_reviewers_err_as_often_as_stated(kind: Kind, state: str) -> None:
    panel = people.Panel(RATES.panel, Dice(1))
    many = 4000
    wrong = sum(not panel.right(0, listing(kind, number), state, 0) for number in range(many))
    stated = RATES.panel.errors[kind][state != "UNDER_REVIEW"]
    assert abs(wrong / many - stated) < 4 * (stated * (1 - stated) / many) ** 0.5
    other = [panel.right(1, listing(kind, number), state, 0) for number in range(many)]
    assert other != [panel.right(0, listing(kind, number), state, 0) for number in range(many)]


@pytest.mark.parametrize(
    ("kind", "state", "stands", "decision"),
    [
        ("counterfeit", "UNDER_REVIEW", False, "uphold"),
        ("resale", "UNDER_REVIEW", False, "refuse"),
        ("passing_off", "PLATFORM_REVIEW", False, "uphold"),
        ("genuine", "PLATFORM_REVIEW", False, "restore"),
        ("counterfeit", "APPEALED", True, "confirm"),
        ("counterfeit", "APPEALED", False, "reverse"),
        ("compatible", "APPEALED", True, "reverse"),
        ("compatible", "APPEALED", False, "confirm"),
        ("genuine", "COUNTERED", False, "complete"),
    ],
)
def test_a_reviewer_who_sees_the_truth_decides_by_it(kind: Kind, state: str, stands: bool, decision: str) -> None:
    never = msgspec.structs.replace(RATES.panel, errors=dict.fromkeys(KINDS, (0.0, 0.0)))
    always = msgspec.structs.replace(RATES.panel, errors=dict.fromkeys(KINDS, (1.0, 1.0)))
    args: Any = (0, listing(kind), state, 0)
    assert people.Panel(never, Dice(1)).decides(*args, stands=stands) == decision
    if state != "COUNTERED":
        assert people.Panel(always, Dice(1)).decides(*args, stands=stands) != decision


def test_sellers_and_holders_act_on_the_truth_as_often_as_stated() -> None:
    many, dice = 4000, Dice(1)
    for kind in ("genuine", "counterfeit"):
        some = [listing(kind, number) for number in range(many)]  # type: ignore[arg-type]
        does = RATES.sellers.infringing if kind == "counterfeit" else RATES.sellers.lawful
        acts = Counter(act[0] for one in some if (act := people.seller_acts(RATES, dice, one)) is not None)
        assert acts["counter"] / many == pytest.approx(does.counters, abs=0.04)
        assert acts["accept"] / many == pytest.approx(does.accepts, abs=0.03)
        late = sum(people.seller_late(RATES, dice, one) is not None for one in some)
        assert late / many == pytest.approx(does.late, abs=0.03)
        for conduct, behaviour in RATES.conduct.items():
            answers = Counter(people.holder_answers(RATES, dice, behaviour, one, 1) for one in some)
            yields = sum(count for answer, count in answers.items() if answer and answer[0] == "accept")
            stated = RATES.holders.yields if kind == "counterfeit" else behaviour.yields
            assert yields / many == pytest.approx(stated, abs=0.04)
            complains = sum(people.holder_complains(RATES, dice, behaviour, one) is not None for one in some)
            insincere = kind == "genuine" and conduct != "malicious"
            assert complains / many == pytest.approx(0 if insincere else behaviour.complains, abs=0.04)


# ------------------------------------------------------------------------------------------------------------- figures


def outcome(
    infringing: bool, by: Any, down: bool, end: bool | None = None, sla: Any = "met", later: bool = False
) -> figures.Outcome:
    kind: Kind = "counterfeit" if infringing else "genuine"
    return figures.Outcome("careful", kind, infringing, by, down, down or later, down if end is None else end, sla)


def test_figures_by_hand() -> None:
    items = [
        *[outcome(True, "rule", True)] * 8,
        outcome(False, "rule", True, end=False),
        outcome(False, "rule", True, end=True),
        outcome(False, "rule", False),
        *[outcome(True, "person", True)] * 5,
        outcome(True, "person", False, sla="missed"),
        outcome(False, "person", True, end=False),
        outcome(False, "person", False, end=True, later=True),
        outcome(False, None, False, sla=None),
    ]
    assert figures.figures(items) == {
        "items": 20,
        "takedown_rate": round(16 / 19, 4),
        "true_rate": 0.7,
        "automatic_share": round(11 / 19, 4),
        "precision": 0.8,
        "precision_low95": 0.4902,
        "recall": round(8 / 14, 4),
        "wrongful": 4,
        "wrongful_undone": 2,
        "within_24h": round(18 / 19, 4),
    }
    assert figures.by_group(items, "kind") == [("counterfeit", 14, 8, 5, 0, 13), ("genuine", 6, 2, 1, 1, 2)]


def test_shares_of_nothing_are_unknown() -> None:
    found = figures.figures([outcome(True, None, False, sla=None)])
    unknown = {"takedown_rate", "automatic_share", "precision", "precision_low95", "within_24h"}
    assert {name for name, value in found.items() if value is None} == unknown


@pytest.mark.parametrize(
    ("good", "of", "low"), [(0, 0, None), (0, 10, 0.0), (10, 10, 0.7225), (95, 100, 0.8882), (1, 2, 0.0945)]
)
def test_the_lower_bound_of_wilson(good: int, of: int, low: float | None) -> None:
    found = figures.wilson_low(good, of)
    assert found == (None if low is None else pytest.approx(low, abs=5e-5))


@pytest.mark.parametrize(
    ("claims", "after"),
    [
        ([], None),
        ([[True, True], [True, True]], None),
        ([[True, True], [False, True]], None),
        ([[True, True], [False, False]], 2),
        ([[True, False], [True], []], 2),
        ([[False], [False]], 0),
        ([[True], [False], [True]], None),
    ],
)
def test_a_stolen_account_is_stopped_once_nothing_of_it_is_upheld_unseen(
    claims: list[list[bool]], after: int | None
) -> None:
    assert figures.stopped_after(claims) == after
