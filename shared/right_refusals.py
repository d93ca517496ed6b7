"""Why a reviewer refuses a right, by code: what its owner is told, and how to cure it."""

from __future__ import annotations

from typing import Final

from shared.languages import mark

TEXTS: Final[dict[str, str]] = {
    "another_owner": mark(
        "The documents name another owner. Have the owner register the right, or add the document by which it passed to you."
    ),
    "another_right": mark(
        "The documents are about another right. Add the certificate, or the register's extract, of the one that you registered."
    ),
    "differs": mark(
        "The documents say otherwise than what was registered. Register the right again, as in the register."
    ),
    "incomplete": mark("The documents do not show all that is needed. Add the missing pages or documents."),
    "not_in_force": mark("The register does not show the right as in force. Add its renewal, or a present extract."),
    "not_verifiable": mark(
        "The documents could not be confirmed. Add an extract that the register or a notary certified."
    ),
    "unreadable": mark("The documents cannot be read. Add a better copy."),
}
