"""Numbers of registered rights: formats, check digits, and refusals that say how to cure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.kernel.requests import Register
from services.intake.registry.registers import FORMATS, check_digit, normalise
from shared.events import RightType
from shared.refusals import Refused

VECTORS: list[tuple[Register, RightType, str, str]] = [
    ("us", "trademark", "5,123,456", "5123456"),
    ("us", "trademark", "Reg. No. 72", "72"),
    ("eu", "trademark", "EUTM 018123456", "018123456"),
    ("eu", "trademark", "1", "000000001"),
    ("wipo", "trademark", "IR 1234567A", "1234567A"),
    ("cn", "trademark", "12345678", "12345678"),
    ("us", "design", "US D1,012,345", "D1012345"),
    ("us", "design", "D 654321", "D654321"),
    ("us", "design", "D0654321", "D654321"),
    ("eu", "design", "RCD 002345678-0001", "002345678-0001"),
    ("wipo", "design", "dm/204567", "DM/204567"),
    # the example of a commentary on ZC 0006-2003, and one of the numbering before it
    ("cn", "invention", "ZL 2017 1 0601862.3", "ZL201710601862.3"),
    ("cn", "invention", "ZL 97 1 01765.4", "ZL97101765.4"),
    # granted ones: utility models (one in a court's judgment), a design; the last by PCT, its check digit computed
    ("cn", "utility_model", "ZL201220572874.0", "ZL201220572874.0"),
    ("cn", "utility_model", "CN201220372059X", "ZL201220372059.X"),
    ("cn", "utility_model", "ZL201190123456.7", "ZL201190123456.7"),
    ("cn", "design", "ZL201330496875.1", "ZL201330496875.1"),
    ("cn", "invention", "ZL 2012 8 0012345.8", "ZL201280012345.8"),
    ("us", "invention", "US 10,000,000 B2", "10000000"),
    ("us", "invention", "7654321", "7654321"),
    ("ep", "invention", "EP 1234567 B1", "1234567"),
    # full-width digits and spaces, as forms in Chinese and Japanese have them
    ("cn", "trademark", "　１２３４５６７ ", "1234567"),
    ("cn", "invention", "ＺＬ２０１７１０６０１８６２．３", "ZL201710601862.3"),
]


@pytest.mark.parametrize(("register", "right_type", "given", "written"), VECTORS)
def test_numbers_are_written_as_the_register_does(
    register: Register, right_type: RightType, given: str, written: str
) -> None:
    assert normalise(register, right_type, given) == written
    assert normalise(register, right_type, written) == written


def test_every_format_has_a_vector_and_a_source() -> None:
    assert {(register, right_type) for register, right_type, _, _ in VECTORS} == set(FORMATS)
    assert all(form.source for form in FORMATS.values())


@pytest.mark.parametrize(
    ("register", "right_type", "given", "reason"),
    [
        ("us", "trademark", "88123456", "number_is_pending"),
        ("us", "trademark", "88/123,456", "number_is_pending"),
        ("us", "trademark", "0", "bad_number"),
        ("us", "trademark", "123456789", "bad_number"),
        ("eu", "trademark", "0181234567", "bad_number"),
        ("wipo", "trademark", "12345678", "bad_number"),
        ("cn", "trademark", "123456789", "bad_number"),
        ("us", "design", "654321", "bad_number"),
        ("eu", "design", "002345678", "bad_number"),
        ("wipo", "design", "DM/20456", "bad_number"),
        ("cn", "invention", "ZL201710601862.4", "check_digit"),
        ("cn", "utility_model", "ZL201710601862.3", "number_of_another_kind"),
        ("cn", "invention", "ZL1017106018623", "bad_number"),
        ("ep", "invention", "12345678", "bad_number"),
        ("ep", "trademark", "1234567", "register_without_such_rights"),
        ("us", "copyright", "VA1234567", "register_without_such_rights"),
        # digits of other scripts, and letters that look like ours
        ("us", "trademark", "١٢٣٤٥", "bad_number"),
        ("us", "design", "Đ654321", "bad_number"),
        ("us", "trademark", "", "bad_number"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_cure(
    register: Register, right_type: RightType, given: str, reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        normalise(register, right_type, given)
    assert refused.value.reason == reason
    assert str(refused.value)
    assert refused.value.cure


DIGITS = st.text("0123456789", min_size=12, max_size=12)


@given(digits=DIGITS, place=st.integers(0, 11), other=st.integers(1, 9))
def test_a_wrong_digit_is_found(digits: str, place: int, other: int) -> None:
    wrong = digits[:place] + str((int(digits[place]) + other) % 10) + digits[place + 1 :]
    assert check_digit(wrong) != check_digit(digits)


@given(digits=DIGITS, place=st.integers(0, 10))
def test_neighbours_that_change_places_are_found(digits: str, place: int) -> None:
    swapped = digits[:place] + digits[place + 1] + digits[place] + digits[place + 2 :]
    # weights of neighbours differ by 1, or by 7 in one place: neither is 0 modulo 11
    assert (check_digit(swapped) == check_digit(digits)) == (swapped == digits)


def test_without_a_register_a_number_is_only_made_plain() -> None:
    assert normalise(None, "geographical_indication", " ＰＧＩ-０１２３ ") == "PGI-0123"
    for number in ("", "§ 5", "1\n2", "-1", "1\0"):
        with pytest.raises(Refused) as refused:
            normalise(None, "trademark", number)
        assert refused.value.reason == "bad_number"


@given(form=st.sampled_from(sorted(FORMATS)), text=st.text(max_size=30))
def test_any_text_is_read_or_refused(form: tuple[Register, RightType], text: str) -> None:
    try:
        written = normalise(*form, text)
    except Refused:
        return
    assert written.isascii()
    assert normalise(*form, written) == written
