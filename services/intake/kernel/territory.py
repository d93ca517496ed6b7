"""Where a right or an authorisation applies: countries and unions of countries. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_CODES: Final = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD
    CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF
    GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN
    KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
    NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI
    SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI
    VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES: Final = frozenset(_CODES.split())
"""ISO 3166-1 alpha-2, officially assigned: 249 codes."""
_OAPI: Final = "BF BJ CF CG CI CM GA GN GQ GW KM ML MR NE SN TD TG"
_EU: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
UNIONS: Final[dict[str, frozenset[str]]] = {
    "EU": frozenset(_EU.split()),
    "EM": frozenset(_EU.split()),
    "BX": frozenset({"BE", "NL", "LU"}),
    "OA": frozenset(_OAPI.split()),
}
"""Codes for several countries: EU (reserved in ISO 3166), and those of WIPO ST.3 that a designation may name:
EM (EUIPO), BX (Benelux), OA (OAPI)."""


def countries(territory: Collection[str] | None) -> frozenset[str] | None:
    """The countries of a territory; None: everywhere, or not known."""
    if territory is None:
        return None
    return frozenset().union(*(UNIONS.get(code, frozenset({code})) for code in territory))


def overlap(one: Collection[str] | None, other: Collection[str] | None) -> bool:
    """Whether two territories have a country in common."""
    return one is None or other is None or bool((countries(one) or set()) & (countries(other) or set()))
