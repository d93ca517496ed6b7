"""The rights registry: territories, classes, words of marks, standing, renewal."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import unicodedata

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from services.intake.evidence.domain import Document
from services.intake.kernel import domain
from services.intake.kernel.requests import FirstPublication
from services.intake.kernel.territory import COUNTRIES, UNIONS, countries, overlap
from services.intake.registry import domain as registry
from services.intake.registry import names
from shared import right_refusals
from shared.events import RightType
from shared.refusals import Refused

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
CODES = st.lists(st.sampled_from(sorted(COUNTRIES | set(UNIONS))), min_size=1, max_size=6)


def reason(refused: pytest.ExceptionInfo[Refused]) -> str:
    assert refused.value.cure
    assert refused.value.status == 422
    return refused.value.reason


# ---- territory


def test_countries_are_those_of_iso_3166() -> None:
    assert len(COUNTRIES) == 249
    assert set(Locale("en").territories) >= COUNTRIES
    assert all(members <= COUNTRIES for members in UNIONS.values())
    assert {name: len(members) for name, members in UNIONS.items()} == {"EU": 27, "EM": 27, "BX": 3, "OA": 17}


@given(CODES, CODES)
def test_territories_overlap_when_they_have_a_state_in_common(one: list[str], other: list[str]) -> None:
    assert overlap(one, other) == overlap(other, one) == bool((countries(one) or set()) & (countries(other) or set()))
    assert overlap(one, None)
    assert overlap(None, other)
    assert overlap(one, one)


def test_where_a_right_is_good() -> None:
    assert registry.territory_of("us", "trademark", None) == ("US",)
    assert registry.territory_of("eu", "design", None) == ("EU",)
    assert registry.territory_of("eu", "trademark", ["DE", "FR", "DE"]) == ("DE", "FR")
    assert registry.territory_of("wipo", "trademark", ["CN", "EM"]) == ("CN", "EM")
    assert registry.territory_of("ep", "invention", None) is None
    assert registry.territory_of(None, "copyright", None) is None


@pytest.mark.parametrize(
    ("register", "right_type", "given", "why"),
    [
        ("wipo", "trademark", None, "designations_missing"),
        ("wipo", "design", None, "designations_missing"),
        ("us", "trademark", ["CN"], "territory_of_register"),
        ("eu", "trademark", ["DE", "GB"], "territory_of_register"),
        ("wipo", "trademark", ["ZZ"], "unknown_country"),
        (None, "copyright", ["UK"], "unknown_country"),
    ],
)
def test_territories_that_cannot_be_are_refused(register: str, right_type: str, given: list[str], why: str) -> None:
    with pytest.raises(Refused) as refused:
        registry.territory_of(register, right_type, given)  # type: ignore[arg-type]
    assert reason(refused) == why


# ---- classes


def test_classes_are_kept_once_and_in_order() -> None:
    assert registry.classes_of("trademark", ["25", "9", "09", "３５"]) == ("9", "25", "35")
    assert registry.classes_of("design", ["09-03", "02-02", "32-00"[:3] + "99"]) == ("02-02", "09-03", "32-99")
    assert registry.classes_of("invention", None) is None


@pytest.mark.parametrize(
    ("right_type", "text"),
    [
        ("trademark", "0"),
        ("trademark", "46"),
        ("trademark", "x"),
        ("trademark", ""),
        ("trademark", "02-02"),
        ("design", "2-2"),
        ("design", "00-01"),
        ("design", "33-01"),
        ("design", "02-00"),
        ("design", "25"),
        ("invention", "1"),
        ("copyright", "25"),
    ],
)
def test_what_is_no_class_is_refused(right_type: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        registry.classes_of(right_type, [text])  # type: ignore[arg-type]
    assert reason(refused) == "bad_class"


# ---- words of the mark


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ACME", "ACME"),
        ("  ACME   Works ", "ACME Works"),
        ("ＡＣＭＥ", "ACME"),
        ("AC\u200bME", "ACME"),
        ("AC\u202eME", "ACME"),
        ("ﬁne", "fine"),
        ("Cafe\u0301", "Café"),
        ("阿里巴巴", "阿里巴巴"),
    ],
)
def test_words_of_a_mark_are_made_plain(given: str, kept: str) -> None:
    assert registry.mark_of(given) == kept


@given(st.text(max_size=400))
def test_any_words_are_kept_plain_or_refused(text: str) -> None:
    try:
        kept = registry.mark_of(text)
    except Refused:
        return
    assert 0 < len(kept) <= registry.MARK_MAX
    assert registry.mark_of(kept) == kept
    assert unicodedata.is_normalized("NFKC", kept)
    registry.mixed_script(kept)


@pytest.mark.parametrize(
    ("mark", "mixed"),
    [
        ("APPLE", False),
        ("\u0410PPLE", True),
        ("PAYP\u0391L", True),
        ("ACME \u0412\u0435\u0441\u0442\u0430", False),
        ("ソニー", False),
        ("東京タワー", False),
        ("LG 전자", False),
        ("LG전자", False),
        ("Coca-Cola", False),
        ("7UP", False),
        ("G\u043e\u043egle", True),
        ("TOKYO東京", False),
        ("ΑΒΓ-XYZ", False),
        ("м&m", False),
        ("мm", True),
    ],
)
def test_letters_of_another_script_within_a_word_are_seen(mark: str, mixed: bool) -> None:
    assert registry.mixed_script(registry.mark_of(mark)) is mixed


# ---- registration, standing, renewal


def test_why_a_right_waits() -> None:
    assert registry.pending_because(True, "ACME", False) is None
    assert registry.pending_because(False, "ACME", False) == "proof_missing"
    assert registry.pending_because(True, "\u0410CME", False) == "mark_mixed_script"
    assert registry.pending_because(True, "\u0410CME", True) == "right_registered_elsewhere"


def test_a_decision_rests_on_something() -> None:
    def reason_of(*given: object) -> str | None:
        try:
            registry.check_decision(*given)  # type: ignore[arg-type]
        except Refused as refused:
            return f"{refused.field} {refused.reason}"
        return None

    assert reason_of(True, None, ["d-1"], None, {"d-1", "d-2"}) is None
    assert reason_of(True, None, [], "file-7", ()) is None
    assert reason_of(True, None, [], None, {"d-1"}) == "documents nothing_accepted"
    assert reason_of(True, None, ["d-1", "d-9"], "file-7", {"d-1"}) == "documents[1] unknown_document"
    assert reason_of(False, None, ["d-1"], None, {"d-1"}) == "code unknown_code"
    assert reason_of(False, "because", [], None, ()) == "code unknown_code"
    for code in right_refusals.TEXTS:
        assert reason_of(False, code, [], None, ()) is None


@pytest.mark.parametrize("before", ["active", "expired", "lost", "pending"])
@pytest.mark.parametrize("after", ["active", "expired", "lost"])
@pytest.mark.parametrize("operator", [True, False])
@pytest.mark.parametrize("was_in_force", [True, False])
def test_what_nobody_accepted_is_not_brought_into_force(
    before: str, after: str, operator: bool, was_in_force: bool
) -> None:
    allowed = after == "lost" or before in ("active", "expired") or (before == "lost" and was_in_force and operator)
    with contextlib.nullcontext() if allowed else pytest.raises(Refused) as refused:
        registry.check_status(before, after, None, NOW, operator=operator, was_in_force=was_in_force)
    if refused is not None:
        assert refused.value.reason == ("not_accepted" if operator else "operators_only")


@pytest.mark.parametrize(
    ("registrant", "name", "score"),
    [
        ("Acme Works Ltd", "ACME  WORKS LIMITED", 100),
        ("Barilla S.p.A.", "Barilla", 100),
        ("Novo A/S", "Novo AS", 100),
        ("Müller & Söhne GmbH & Co. KG", "Muller und Sohne GmbH", 100),
        ("L'Oréal S.A.", "LOREAL", 100),
        ("Doe, Jane", "Jane Doe", 100),
        ("J. R. R. Tolkien", "JRR Tolkien", 100),
        ("株式会社トヨタ", "トヨタ", 100),
        ("有限公司", "有限公司", 100),
        ("Acme Inc.", "Ltd", 0),
        ("...", "Acme", 0),
    ],
)
def test_names_that_differ_in_form_only_are_the_same(registrant: str, name: str, score: int) -> None:
    assert names.alike(registrant, name) == names.alike(name, registrant)
    assert names.alike(registrant, name) >= score if score else names.alike(registrant, name) < 50


def test_other_names_are_less_alike_the_more_they_differ() -> None:
    close, far = names.alike("Acme Works Ltd", "Acme Work Ltd"), names.alike("Acme Works Ltd", "Globex GmbH")
    assert far < 50 < 90 < close < 100
    assert names.alike("Acme Works", "Acme Toys") < 80


def test_what_items_are_told() -> None:
    """All of ownership, right and authorisation must be there for "active"; the first that is wanting is said."""
    for owns, status, covered in itertools.product(
        (True, False), ("active", "expired", "lost", "pending"), (True, False)
    ):
        told = domain.right_standing(owns=owns, status=status, covered=covered)
        assert (told == "active") == (owns and status == "active" and covered)
        assert (told == "lost") == (not owns or status == "lost")
        assert (told is None) == (owns and status == "pending")
        assert (told == "unauthorised") == (owns and status == "active" and not covered)


def test_a_renewal_ends_later() -> None:
    year = dt.timedelta(days=365)
    registry.check_renewal("active", NOW + year, NOW + 2 * year, NOW)
    registry.check_renewal("expired", NOW - year, NOW + year, NOW)
    registry.check_renewal("active", None, NOW + year, NOW)
    for status, before, after, why in (
        ("lost", None, NOW + year, "right_lost"),
        ("active", NOW + year, NOW + year, "not_later"),
        ("expired", NOW - 2 * year, NOW - year, "not_later"),
        ("active", NOW + year, NOW + 21 * year, "term_too_long"),
    ):
        with pytest.raises(Refused) as refused:
            registry.check_renewal(status, before, after, NOW)
        assert reason(refused) == why
        assert refused.value.field == "expires_at"


# ---- designs


@pytest.mark.parametrize("classes", [None, ()])
def test_a_design_needs_a_class(classes: tuple[str, ...] | None) -> None:
    with pytest.raises(Refused) as refused:
        registry.check_class("design", classes)
    assert (reason(refused), refused.value.field) == ("class_missing", "classes")
    registry.check_class("design", ("02-02",))
    registry.check_class("trademark", classes)


@pytest.mark.parametrize(
    ("right_type", "views", "needed", "why"),
    [
        ("design", 0, True, "views_missing"),
        ("design", 11, True, "too_many_views"),
        ("design", 11, False, "too_many_views"),
        ("trademark", 1, True, "no_views"),
        ("copyright", 1, False, "no_views"),
    ],
)
def test_what_views_a_right_may_have(right_type: RightType, views: int, needed: bool, why: str) -> None:
    with pytest.raises(Refused) as refused:
        registry.check_views(right_type, views, needed=needed)
    assert (reason(refused), refused.value.field) == (why, "evidence")


def test_a_design_has_one_to_ten_views_and_an_old_one_may_have_none() -> None:
    for views in (1, 10):
        registry.check_views("design", views, needed=True)
    registry.check_views("design", 0, needed=False)
    registry.check_views("trademark", 0, needed=True)


# ---- consent and powers of attorney


def document(id: str, *kinds: str) -> Document:
    return Document(id, "h-1", kinds)


@pytest.mark.parametrize(
    ("accept", "code", "documents", "seen", "why"),
    [
        (True, None, (), None, "nothing_accepted"),
        (True, None, ("other",), None, "nothing_accepted"),
        (True, None, ("power", "none"), None, "unknown_document"),
        (False, None, ("power",), None, "unknown_code"),
        (False, "another_right", (), None, "unknown_code"),
        (True, None, ("power", "other"), None, None),
        (True, None, (), "office", None),
        (False, "not_signed", (), None, None),
    ],
)
def test_what_a_decision_on_a_power_of_attorney_rests_on(
    accept: bool, code: str | None, documents: tuple[str, ...], seen: str | None, why: str | None
) -> None:
    named = {"power": document("power", "authority", "other"), "other": document("other", "ownership")}
    if why is None:
        registry.check_power(accept, code, documents, seen, named)
        return
    with pytest.raises(Refused) as refused:
        registry.check_power(accept, code, documents, seen, named)
    assert reason(refused) == why


@pytest.mark.parametrize(
    ("asked", "me", "accept", "why"),
    [
        ("b", "b", True, None),
        ("b", "b", False, None),
        ("b", "a", False, None),
        ("b", "a", True, "others_consent"),
        (None, "b", True, "not_pending"),
        (None, "a", False, "not_pending"),
    ],
)
def test_who_consents_is_who_was_asked(asked: str | None, me: str, accept: bool, why: str | None) -> None:
    if why is None:
        registry.check_consent(asked, me, accept)
        return
    with pytest.raises(Refused) as refused:
        registry.check_consent(asked, me, accept)
    assert refused.value.cure
    assert refused.value.reason == why


def test_an_authorisation_has_two_sides() -> None:
    assert registry.sides("me", "x", None) == ("x", "agent")
    assert registry.sides("me", None, "x") == ("x", "principal")
    for agent, principal, why in (
        (None, None, "other_side_missing"),
        ("x", "y", "both_sides"),
        ("me", None, "own_agent"),
        (None, "me", "own_agent"),
    ):
        with pytest.raises(Refused) as refused:
            registry.sides("me", agent, principal)
        assert reason(refused) == why


# ---- works that are in no register

PUBLISHED = FirstPublication(on=dt.date(2020, 5, 1), where="work.example")


@pytest.mark.parametrize(
    ("right_type", "number", "published", "needed", "why"),
    [
        ("copyright", None, None, True, "publication_missing"),
        ("copyright", None, FirstPublication(on=dt.date(2026, 11, 25), where="x"), False, "bad_publication"),
        ("copyright", None, FirstPublication(on=dt.date(1799, 12, 31), where="x"), True, "bad_publication"),
        ("copyright", "VA-1", PUBLISHED, True, "no_publication"),
        ("trademark", "1", PUBLISHED, False, "no_publication"),
        ("copyright", None, PUBLISHED, True, None),
        ("copyright", None, FirstPublication(on=dt.date(2026, 11, 24), where="x"), True, None),
        ("copyright", None, None, False, None),
        ("copyright", "VA-1", None, True, None),
    ],
)
def test_a_work_in_no_register_is_known_by_its_first_publication(
    right_type: RightType, number: str | None, published: FirstPublication | None, needed: bool, why: str | None
) -> None:
    def check() -> None:
        registry.check_published(right_type, number, published, NOW.date(), needed=needed)

    if why is None:
        check()
        return
    with pytest.raises(Refused) as refused:
        check()
    assert reason(refused) == why


def test_what_a_reviewer_is_shown_as_proof() -> None:
    both = {"sworn_statement", "specimen"}
    assert registry.proves("copyright", None, both, both)
    assert registry.proves("copyright", None, {"specimen"}, both | {"other"})
    assert not registry.proves("copyright", None, {"specimen"}, {"specimen", "ownership"})
    assert not registry.proves("copyright", None, {"other"}, both | {"other"})
    for right_type in ("copyright", "trademark"):
        assert registry.proves(right_type, "1", {"ownership"}, {"ownership"})
        assert not registry.proves(right_type, "1", both, both)


def test_a_work_in_no_register_is_accepted_by_a_statement_and_a_specimen() -> None:
    named = {"s": document("s", "sworn_statement"), "w": document("w", "specimen"), "o": document("o", "ownership")}

    def decide(accept: bool, code: str | None, documents: list[str], seen: str | None = None) -> None:
        registry.check_decision(accept, code, documents, seen, named, unregistered=True)

    for documents in (["o"], ["s", "o"], ["w"]):
        with pytest.raises(Refused) as refused:
            decide(True, None, documents)
        assert reason(refused) == "kinds_missing"
    decide(True, None, ["s", "w"])
    decide(True, None, [], "office")
    decide(False, "unreadable", ["o"])
    registry.check_decision(True, None, ["o"], None, named)


def test_a_former_name_counts_if_it_is_more_alike() -> None:
    assert names.match("Acme Ltd", None, []) is None
    assert names.match("Acme Ltd", "Acme GmbH", ["Acme Inc"]) == (100, False)
    assert names.match("Acme Ltd", "Globex", ["Umbrella", "ACME"]) == (100, True)
    assert names.match("Acme Ltd", None, ["ACME"]) == (100, True)
    found = names.match("Acme Ltd", "Globex", ["Zz"])
    assert found is not None
    assert found.score < 50
