"""Names of codes in messages, in English. Translations are in the catalogues ``messages`` (``make messages``)."""

from __future__ import annotations

from typing import Final

RIGHTS: Final = {
    "trademark": "trade mark",
    "copyright": "copyright",
    "design": "design",
    "utility_model": "utility model",
    "invention": "patent for an invention",
    "geographical_indication": "geographical indication",
}
ELEMENTS: Final = {
    "identity": "proof of identity of who files",
    "authority": "an authorisation by the right's owner, where somebody else files",
    "right": "a right in force, registered here before",
    "ownership": "proof of ownership of the right: a certificate, or a signed statement for an unregistered work",
    "statement": "a signed statement",
    "comparison": "a comparison of the goods with the right or the genuine product",
    "court": "a document of a court or an authority",
    "purchase": "proof of a test purchase",
    "preliminary_evidence": "preliminary evidence",
    "other": "other evidence",
    # 17 U.S.C. 512(c)(3)(A) and (g)(3)
    "signature": "a signature, in writing or electronic",
    "work": "the copyrighted work that is said to be infringed",
    "contact": "name, address and telephone number",
    "good_faith_belief": (
        "a statement of a good-faith belief that the use is not authorised by the owner, its agent or the law"
    ),
    "accuracy": (
        "a statement that the information is accurate and, under penalty of perjury, that who files may act "
        "for the owner"
    ),
    "material": "the material that was taken down, and where it stood before",
    "mistake_statement": (
        "a statement, under penalty of perjury, of a good-faith belief that the material was taken down by "
        "mistake or misidentification"
    ),
    "jurisdiction": (
        "a statement of consent to the jurisdiction of the Federal District Court of the address or, outside "
        "the United States, of any judicial district in which we may be found, and that service of process by "
        "who gave the notice will be accepted"
    ),
}
"""Names of the elements of a claim or counter. An element without a name is shown by its code."""

NAMES: Final = {
    "barred_until": "may join again from",
    "expires_at": "expires",
    "ends": "ends",
    "until": "until",
    "reason": "reason",
    "right": "right",
    "document": "document",
    "claim": "claim",
    "claims": "claims",
    "code": "reason code",
    "finding": "finding",
    "policy": "policy",
    "settled": "settled items",
    "unfounded": "unfounded items",
    "weight": "weight",
    "because": "because",
    "window_from": "from",
    "window_to": "to",
}
"""Names of a notice's figures. A figure without a name is shown by its code."""
