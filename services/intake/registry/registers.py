"""Numbers of registered rights: each register's formats, and how to cure a number that does not fit. Pure.

A number is normalised (full-width characters, spaces, separators, an office's prefix), then checked against the
register's format. A check digit, if the format has one, is computed: so a typing error is found before a seller is
told about somebody else's right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.intake.kernel.requests import Register
from shared.events import RightType
from shared.refusals import Refused

_COPY: Final = "Copy the number from the certificate."
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./-]*")


def _refused(reason: str, detail: str, cure: str) -> Refused:
    return Refused(422, reason, detail, field="number", cure=cure)


def normalise(register: Register | None, right_type: RightType, number: str) -> str:
    """The number as its register writes it; without a known register (None), in plain characters.

    ``number`` may have full-width characters, spaces, thousands separators and the office's prefix.

    Raises:
        Refused: the register keeps no such rights, or the number does not fit, is pending, or fails its check digit.
    """
    if register is None:
        plain = unicodedata.normalize("NFKC", number).strip()
        if not _PLAIN.fullmatch(plain):
            raise _misfit("letters, digits, spaces, points, dashes and slashes")
        return plain
    form = FORMATS.get((register, right_type))
    if form is None:
        kept = ", ".join(sorted(name for name, kind in FORMATS if kind == right_type))
        raise Refused(
            422,
            "register_without_such_rights",
            f"{OFFICES[register]} registers no right of type {right_type}.",
            field="register",
            cure=f"Use one of: {kept}." if kept else "Leave `register` out: rights of this type have no register here.",
        )
    # NFKC makes full-width digits plain and leaves letters of other scripts as they are: these do not fit and are refused
    plain = re.sub(r"\s", "", unicodedata.normalize("NFKC", number)).upper()
    for prefix in form.prefixes:
        plain = plain.removeprefix(prefix)
    read = form.read(plain)
    if read is None:
        raise _misfit(form.looks)
    return read


@dataclass(frozen=True, slots=True)
class Format:
    """How one register writes the numbers of one kind of right.

    Attributes:
        looks: what a number looks like, for the refusal.
        read: normalises a plain number; None if it does not look like one. May refuse one that does.
        prefixes: what may precede a number and is not part of it.
        source: where the format is published.
    """

    looks: str
    read: Callable[[str], str | None]
    source: str
    prefixes: tuple[str, ...] = ()


def _misfit(looks: str) -> Refused:
    return _refused("bad_number", f"A number has {looks}.", _COPY)


def _pattern(
    pattern: str, write: Callable[[re.Match[str]], str] = lambda match: match[0], *, separators: str = ""
) -> Callable[[str], str | None]:
    form = re.compile(pattern, re.ASCII)
    drop = str.maketrans("", "", separators)

    def read(plain: str) -> str | None:
        match = form.fullmatch(plain.translate(drop))
        return None if match is None else write(match)

    return read


def _us_trademark(plain: str) -> str | None:
    digits = plain.replace(",", "").replace("/", "")
    if re.fullmatch(r"[0-9]{8}", digits):
        # series code and serial number: an application, whose mark may never be registered
        raise _refused(
            "number_is_pending",
            "Eight digits are the serial number of an application, not a registration number.",
            "Give the registration number (up to 7 digits) once the mark is registered.",
        )
    return digits if re.fullmatch(r"[1-9][0-9]{0,6}", digits) else None


def check_digit(digits: str) -> str:
    """Check digit of a Chinese patent number of 8 or 12 digits (ZC 0006-2003): weights 2-9, 2-5, modulo 11, 10 as X."""
    left = (
        sum(int(digit) * weight for digit, weight in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False))
        % 11
    )
    return "X" if left == 10 else str(left)


_CHINESE: Final[dict[RightType, tuple[str, str]]] = {
    "invention": ("18", "1 or 8"),
    "utility_model": ("29", "2 or 9"),
    "design": ("3", "3"),
}
"""Digits of the kind of right (8 and 9: by PCT)."""


def _chinese_patent(right_type: RightType) -> Callable[[str], str | None]:
    kinds, named = _CHINESE[right_type]

    def read(plain: str) -> str | None:
        # before 1 October 2003: two digits of the year, the kind, five digits; since: four, the kind, seven
        match = re.fullmatch(r"((?:19|20)[0-9]{2}([0-9])[0-9]{7}|[0-9]{2}([0-9])[0-9]{5})\.?([0-9X])", plain, re.ASCII)
        if match is None:
            return None
        digits, check = match[1], match[4]
        kind = match[2] or match[3]
        if kind not in kinds:
            raise _refused(
                "number_of_another_kind",
                f"A number of this kind of right has {named} after the year, not {kind}.",
                "Check `right_type` and the number.",
            )
        if check != check_digit(digits):
            raise _refused("check_digit", "The check digit does not fit the number.", _COPY)
        return f"ZL{digits}.{check}"

    return read


_MADRID = "up to 7 digits, and a letter after a partial transfer"
_ZL = "ZL, the year, the kind, 7 digits, a point and a check digit: ZL 2017 1 0601862.3"
_ZC = "CNIPA, ZC 0006-2003, Standard for Patent Application Number"
FORMATS: Final[dict[tuple[Register, RightType], Format]] = {
    ("us", "trademark"): Format(
        "up to 7 digits",
        _us_trademark,
        "USPTO, Trademark Status and Document Retrieval: registration and serial numbers",
        ("US", "REG.", "NO."),
    ),
    ("eu", "trademark"): Format(
        "up to 9 digits",
        _pattern(r"[0-9]{1,9}", lambda match: match[0].zfill(9)),
        "EUIPO, eSearch plus: numbers of EU trade marks have 9 digits with leading zeros",
        ("EUTM", "EM", "EU"),
    ),
    ("wipo", "trademark"): Format(
        _MADRID,
        _pattern(r"[1-9][0-9]{0,6}[A-Z]?"),
        "WIPO, Guide to the Madrid System: international registration number",
        ("WO", "IR", "MM"),
    ),
    ("cn", "trademark"): Format(
        "up to 8 digits, and a letter where the mark was divided",
        _pattern(r"[1-9][0-9]{0,7}[A-Z]?"),
        "CNIPA, China Trade Mark Office: registration number",
        ("CN", "第"),
    ),
    ("us", "design"): Format(
        "D and 6 or 7 digits",
        _pattern(r"D0?([0-9]{6,7})", lambda match: f"D{match[1].lstrip('0').zfill(6)}", separators=",/"),
        "USPTO, Patent number formats: design patents",
        ("US",),
    ),
    ("eu", "design"): Format(
        "9 digits, a dash and 4 digits",
        _pattern(r"([0-9]{9})-([0-9]{4})"),
        "EUIPO, registered Community designs: number of the application and of the design in it",
        ("RCD", "EU"),
    ),
    ("wipo", "design"): Format(
        "DM/ and 6 digits",
        _pattern(r"DM/?([0-9]{6})", lambda match: f"DM/{match[1]}"),
        "WIPO, Guide to the Hague System: international registration number",
    ),
    ("cn", "design"): Format(_ZL, _chinese_patent("design"), _ZC, ("CN", "ZL")),
    ("cn", "utility_model"): Format(_ZL, _chinese_patent("utility_model"), _ZC, ("CN", "ZL")),
    ("cn", "invention"): Format(_ZL, _chinese_patent("invention"), _ZC, ("CN", "ZL")),
    ("us", "invention"): Format(
        "7 or 8 digits",
        _pattern(r"[1-9][0-9]{6,7}(?:[AB][12])?", lambda match: re.sub(r"[AB][12]$", "", match[0]), separators=",/"),
        "USPTO, Patent number formats: utility patents",
        ("US",),
    ),
    ("ep", "invention"): Format(
        "7 digits",
        _pattern(r"([0-9]{7})(?:B[1-3])?", lambda match: match[1]),
        "EPO, European Patent Register: publication number",
        ("EP",),
    ),
}
OFFICES: Final[dict[Register, str]] = {
    "us": "The USPTO",
    "eu": "The EUIPO",
    "wipo": "WIPO",
    "cn": "The CNIPA",
    "ep": "The EPO",
}
