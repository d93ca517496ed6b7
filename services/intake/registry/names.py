"""The registrant of a right and the name of an account: how alike they are, for reviewers, and whether they are the same. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from rapidfuzz import fuzz

_FORMS: Final = """
    co company corp corporation inc incorporated limited llc llp lp ltd plc pte pty
    ag ev gbr gmbh kg kgaa mbh ohg ug
    eurl lda ltda sa sapi sarl sas sasu sca scs sl slu snc spa srl srls
    ab aps as asa bv cv hf ks nv oy oyj uab vof
    doo kft oo sp sro z zrt sti
    bhd kk sdn se tbk
"""
_JOINING: Final = frozenset(("and", "et", "und", "y"))
_IGNORED: Final = _JOINING.union(_FORMS.split())
"""Legal forms, as ``_words`` makes them, and what joins them: often left out, they say nothing of who somebody is."""
_LONG: Final = {"limited": "ltd", "incorporated": "inc", "corporation": "corp", "company": "co"}
"""Legal forms in full, and as they are abbreviated."""
_FORMS_CJK: Final = re.compile(
    "股份有限公司|有限责任公司|有限責任公司|有限公司|株式会社|株式會社|有限会社|合同会社|주식회사|유한회사"
)
"""Legal forms of languages that do not part words."""
_LETTERS: Final = re.compile(r"\b\w(?:[./] ?\w\b)+")
"""Single letters that are one word, as in ``S.p.A.``, ``A/S``."""


def alike(registrant: str, name: str) -> int:
    """How alike two names of a person or company are, from 0 to 100.

    Case, accents, punctuation, the order of words and legal forms make no difference. 100: nothing else does.
    """
    one, other = _plain(registrant), _plain(name)
    return int(fuzz.ratio(one, other)) if one and other else 0


def same(one: str, other: str) -> bool:
    """Whether two names are one company's: the same words in the same order, and the same legal form.

    Case, accents, punctuation and how a form is abbreviated make no difference.
    """
    first, second = (
        [_LONG.get(word, word) for word in _words(name, forms=True) if word not in _JOINING] for name in (one, other)
    )
    return first == second and bool(first)


class Match(NamedTuple):
    """The name of an account that is most like a registrant's."""

    score: int
    former: bool
    """It is one that the account had before."""


def match(registrant: str, name: str | None, former: Iterable[str]) -> Match | None:
    """Compare a registrant with the name of an account and those that it had before; None: it has none.

    A former name counts only if it is more alike than the present one.
    """
    found = [Match(alike(registrant, one), True) for one in former]
    if name is not None:
        found.insert(0, Match(alike(registrant, name), False))
    return max(found, key=lambda one: one.score, default=None)


def _plain(name: str) -> str:
    """The words of a name that count, in order of the alphabet."""
    words = list(_words(name))
    return " ".join(sorted([word for word in words if word not in _IGNORED] or words))


def _words(name: str, *, forms: bool = False) -> Iterator[str]:
    """The words of a name, folded. ``forms``: with the legal forms that are not words of their own."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    bare = "".join(char for char in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(char))
    bare = unicodedata.normalize("NFC", bare).replace("'", "").replace("\u2019", "")
    if not forms:
        bare = _FORMS_CJK.sub(" ", bare).strip() or bare
    bare = _LETTERS.sub(lambda match: re.sub(r"\W", "", match[0]), bare)
    return (match[0] for match in re.finditer(r"\w+", bare))
