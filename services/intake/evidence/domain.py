"""Evidence files: names, digests, refusals, who may read them, and self-contained links valid for some minutes. Pure.

``detection.py`` decides what a *file* is.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlencode

from services.intake.evidence import detection
from services.intake.kernel.domain import Account
from shared import policy
from shared.refusals import Refused

NAME_MAX: Final = 150
"""Characters of a file's name."""
KINDS_MAX: Final = 8
"""Kinds that one document may stand for."""
DOCUMENTS_MAX: Final = 20
"""Documents that one request may name (``requests.Documents``)."""
VIEW: Final = "design_view"
"""Kind of a document that shows a registered design from one side."""
MORE_KINDS: Final = (
    "authority",
    "comparison",
    "court",
    VIEW,
    "identity",
    "other",
    "ownership",
    "purchase",
    "specimen",
    "statement",
    "sworn_statement",
)
"""Kinds of proof besides those that policies require."""


@lru_cache(maxsize=1)
def kinds() -> tuple[str, ...]:
    """All kinds of proof: those that any profile requires, and some more that help reviewers."""
    found = set(MORE_KINDS)
    for rules in map(policy.current, policy.profiles()):
        found |= {*rules.claim.required, *rules.counter.required} - {"right"}
        for reason in rules.reasons.values():
            found |= {*reason.materials, *(reason.good_faith_materials or ()), *reason.unregistered_materials}
    return tuple(sorted(found))


def check_kind(kind: str) -> str:
    """Return the kind if it exists.

    Raises:
        Refused: 422, it does not.
    """
    if kind not in kinds():
        raise Refused(
            422,
            "unknown_kind",
            "There is no such kind of proof.",
            field="kind",
            cure=f"Use one of: {', '.join(kinds())}.",
        )
    return kind


def private_kinds() -> list[str]:
    """Kinds that no counterpart ever reads: those of all profiles together, because a document has no profile."""
    return sorted({kind for name in policy.profiles() for kind in policy.current(name).evidence.private})


def keeping() -> dict[str, dt.timedelta]:
    """How long documents are kept after the last change to what they were named in, by profile."""
    return {name: policy.current(name).evidence.kept.exact for name in policy.profiles()}


def unused() -> dict[str, dt.timedelta]:
    """How long an upload may stay without being named in anything, by profile."""
    return {name: policy.current(name).evidence.unused.exact for name in policy.profiles()}


# --------------------------------------------------------------------------------------------------------------- names

# plain separators, and those that NFKC does not turn into plain ones
_SEPARATORS: Final = re.compile(r"[/\\\u2044\u2215\u29f5\u29f8\u29f9\ufe68]")


def name_of(text: str) -> str:
    """A file's name as it is stored: data, never a path.

    Raises:
        Refused: 422; a path (even in full-width characters), control or direction characters, empty, or too long.
    """
    name = unicodedata.normalize("NFC", text)
    plain = unicodedata.normalize("NFKC", name)
    if not 1 <= len(name) <= NAME_MAX or not plain.strip(" ."):
        raise _bad_name(
            f"is empty or longer than {NAME_MAX} characters" if plain.strip(" .") or not name else "is not a name"
        )
    if _SEPARATORS.search(name) or _SEPARATORS.search(plain):
        raise _bad_name("contains a path")
    # Cc control, Cf direction and invisible, Cs half of a pair, Co private, Cn unassigned, Zl and Zp line ends
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for letter in name + plain):
        raise _bad_name("contains control or invisible characters")
    return name


def _bad_name(why: str) -> Refused:
    return Refused(
        422,
        "bad_name",
        f"The file's name {why}.",
        field="Content-Disposition",
        cure="Send a plain name without folders, such as certificate.pdf, or none.",
    )


def disposition_name(header: str | None) -> str | None:
    """The file name in a ``Content-Disposition`` header (RFC 6266). ``filename*`` in UTF-8 wins over ``filename``.

    Raises:
        Refused: 422; the header cannot be read, or ``name_of`` refuses the name.
    """
    if header is None:
        return None
    if len(header) > 2000:
        raise _bad_name("is too long")
    extended = re.search(r"""(?:^|;)\s*filename\*\s*=\s*utf-8'[A-Za-z-]*'([^\s;"']+)\s*(?:;|$)""", header, re.I)
    if extended:
        try:
            return name_of(unquote_to_bytes(extended[1]).decode("utf-8"))
        except UnicodeDecodeError:
            raise _bad_name("is not in UTF-8") from None
    quoted = re.search(r"""(?:^|;)\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*(?:;|$)""", header, re.I)
    if quoted:
        # \" and \\ are quoted pairs
        return name_of(re.sub(r"\\(.)", r"\1", quoted[1]) if quoted[1] is not None else quoted[2])
    if re.search(r"filename", header, re.I):
        raise _bad_name("cannot be read")
    return None


def attachment(name: str | None, document: str, media: str) -> str:
    """``Content-Disposition`` for a download: always an attachment, with the extension of its true type."""
    ending = detection.MEDIA[media]
    full = name or document
    if full.rpartition(".")[2].lower() not in (ending, *{"jpg": ("jpeg",), "txt": ("text",)}.get(ending, ())):
        full = f"{full}.{ending}"
    return f"attachment; filename=\"{document}.{ending}\"; filename*=UTF-8''{quote(full, safe='')}"


# -------------------------------------------------------------------------------------------------------------- digests


def announced_digest(headers: Mapping[str, str]) -> bytes | None:
    """The SHA-256 that the client sent: ``Repr-Digest`` or ``Content-Digest`` (RFC 9530), or ``Digest`` (RFC 3230).

    Other algorithms are ignored.

    Raises:
        Refused: 422; a SHA-256 that cannot be read, or two that differ.
    """
    found: set[bytes] = set()
    for header, shape in (
        ("Repr-Digest", r":([A-Za-z0-9+/=]*):"),
        ("Content-Digest", r":([A-Za-z0-9+/=]*):"),
        ("Digest", r"([A-Za-z0-9+/=]*)"),
    ):
        for part in (headers.get(header.lower()) or "")[:2000].split(","):
            algorithm, equals, value = part.strip().partition("=")
            if algorithm.lower() != "sha-256":
                continue
            match = re.fullmatch(shape, value.strip()) if equals else None
            try:
                digest = base64.b64decode(match[1], validate=True) if match else b""
            except binascii.Error:
                digest = b""
            if len(digest) != 32:
                raise Refused(
                    422,
                    "bad_digest",
                    "The digest cannot be read.",
                    field=header,
                    cure="Send sha-256=:<base64 of the 32 bytes>: in Repr-Digest.",
                )
            found.add(digest)
    if len(found) > 1:
        raise Refused(422, "bad_digest", "Two digests differ.", field="Repr-Digest", cure="Send one of them.")
    return next(iter(found), None)


def check_digest(announced: bytes | None, found: bytes) -> None:
    """Compare the announced digest with the file's.

    Raises:
        Refused: 422, they differ.
    """
    if announced is not None and announced != found:
        raise Refused(
            422,
            "digest_differs",
            "The file that arrived has another SHA-256 than the one announced.",
            field="Repr-Digest",
            cure="Send the file again.",
        )


def object_path(document: str, digest: bytes | None = None) -> str:
    """Path of a document's bytes. Each document has its own object, so deleting one affects no other.

    Args:
        digest: of a document stored before documents were sealed. A sealed one's path reveals nothing of its content.
    """
    if digest is None:
        return f"sealed/{document[-2:]}/{document}"
    name = digest.hex()
    return f"sha256/{name[:2]}/{name}/{document}"


# ------------------------------------------------------------------------------------------------------------- refusals


def too_large(limit: int) -> Refused:
    """413."""
    return Refused(
        413, "too_large", f"The file has more than {limit} bytes.", cure="Send it in parts, or with fewer pixels."
    )


def refusal(reason: str, note: str) -> Refused:
    """What ``detection`` found, as an answer."""
    detail, cure = detection.REASONS[reason]
    if note:
        detail = f"{detail[:-1]} ({note})."
    return Refused(422, reason, detail, field="body", cure=cure)


def unknown_document(index: int) -> Refused:
    """The document does not exist, is gone, or is another account's: one answer for all of these."""
    return Refused(
        422,
        "unknown_document",
        "You have no such document.",
        field=f"evidence[{index}]",
        cure="Upload it first by POST /v1/evidence; name documents of your own.",
    )


# ------------------------------------------------------------------------------------------------------------ documents


@dataclass(frozen=True, slots=True)
class Document:
    """What a request that names a document needs to know of it."""

    id: str
    account: str
    kinds: tuple[str, ...]
    forged: bool = False
    """A reviewer found it to be forged (``misuse/store.py``)."""


def named(ids: Iterable[str], account: str, known: Mapping[str, Document]) -> list[Document]:
    """The documents that a request of the account names, each once, in order.

    Raises:
        Refused: naming the index of the first that is not the account's, or was found to be forged.
    """
    found: dict[str, Document] = {}
    for index, id in enumerate(ids):
        document = known.get(id)
        if document is None or document.account != account:
            raise unknown_document(index)
        if document.forged:
            raise Refused(
                422,
                "forged_document",
                "A reviewer has found that this document is forged.",
                field=f"evidence[{index}]",
                cure="Name another one, or complain about the finding: GET /v1/misuse.",
            )
        found.setdefault(id, document)
    return list(found.values())


def check_named(ids: Iterable[str], named: Collection[str]) -> None:
    """Check that a decision rests on documents that are there.

    Args:
        named: documents named in the right or account, still kept and not found to be forged.

    Raises:
        Refused: naming the first that is not.
    """
    for index, id in enumerate(ids):
        if id not in named:
            raise Refused(
                422,
                "unknown_document",
                "No such document is named there.",
                field=f"documents[{index}]",
                cure="Name documents of GET /v1/evidence?about=<id>, other than forged ones.",
            )


def kinds_of(documents: Iterable[Document]) -> set[str]:
    """Kinds of proof of the documents."""
    return {kind for document in documents for kind in document.kinds}


@dataclass(frozen=True, slots=True)
class Ties:
    """How a reader is tied to a document: the furthest stage for that reader of any claim that names it."""

    as_seller: int = 0
    """Greatest ``told`` of the reader's items in claims where the *other* side named the document."""
    as_holder: int = 0
    """Greatest ``told`` of items whose seller named the document, in the reader's claims."""
    view: int = 0
    """Greatest ``told`` of the reader's items in claims on the design of which the document is a view."""


def may_read(reader: Account, owner: str, kinds: Collection[str], ties: Ties, private: Collection[str]) -> bool:
    """Whether the reader may read a document.

    Its owner and staff may. The seller may read a complainant's document once told of the claim (row 7). The
    complainant and the principal may read a seller's once the counter was forwarded (row 12). Contacts are released
    in the same way. A seller may also read the views of the design that the claim is about, which its register
    publishes. No counterpart reads private kinds, such as proofs of identity.
    """
    if reader.sees_all or reader.id == owner:
        return True
    if set(kinds) & set(private):
        return False
    return ties.as_seller >= 1 or ties.as_holder >= 2 or ties.view >= 1


# ---------------------------------------------------------------------------------------------------------------- links


class FileLinks:
    """Links to one document for one reader, valid until a given time: an HMAC-SHA256 over the three."""

    def __init__(self, key: str | None) -> None:
        """
        Args:
            key: the installation's secret; None: no links are issued.

        Raises:
            ValueError: shorter than 32 characters.
        """
        if key is not None and len(key) < 32:
            raise ValueError("evidence_key: shorter than 32 characters")
        self._key = None if key is None else hashlib.sha256(f"goodfaith evidence link v1\n{key}".encode()).digest()

    def make(self, document: str, reader: str, until: dt.datetime) -> str:
        """The link's path and query.

        Raises:
            Refused: 503, there is no key.
        """
        expires = int(until.timestamp())
        query = urlencode({"reader": reader, "expires": expires, "signature": self._sign(document, reader, expires)})
        return f"/evidence/{document}?{query}"

    def check(self, document: str, reader: str, expires: int, signature: str, now: dt.datetime) -> None:
        """Check that the link is ours and still valid.

        Raises:
            Refused: 403, one answer for everything that can be wrong; 503, there is no key.
        """
        genuine = hmac.compare_digest(self._sign(document, reader, expires).encode(), signature.encode())
        if not genuine or now.timestamp() >= expires:
            raise bad_link()

    def _sign(self, document: str, reader: str, expires: int) -> str:
        if self._key is None:
            raise Refused(
                503,
                "no_links",
                "This installation issues no links to files.",
                cure="The operator sets GOODFAITH_EVIDENCE_KEY.",
            )
        text = f"{document}\n{reader}\n{expires}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._key, text, "sha256")).decode().rstrip("=")


def bad_link() -> Refused:
    """403: expired, altered, or its reader may no longer read the document."""
    return Refused(
        403,
        "bad_link",
        "The link has expired or is not one of ours.",
        cure="Ask for a new one by POST /v1/evidence/{id}/link.",
    )
