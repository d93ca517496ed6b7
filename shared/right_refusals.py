"""Why a reviewer refuses a right or a power of attorney, by code: what is told, and how to cure it."""

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
"""Of a right: told to its owner."""
POWERS: Final[dict[str, str]] = {
    "another_agent": mark("The power of attorney names another agent. Add one that names the owner of your account."),
    "another_principal": mark(
        "The power of attorney was given by another than the owner of the right. Add one from the owner, or the chain by which it came to you."
    ),
    "ended": mark("The power of attorney has ended or was revoked. Add one that is in force."),
    "incomplete": mark("The documents do not show all that is needed. Add the missing pages or documents."),
    "narrower": mark(
        "The power of attorney does not cover what you asked for. Ask again for the rights and countries that it names."
    ),
    "not_signed": mark(
        "The power of attorney is not signed by somebody who may sign for the owner. Add one that is, and what shows that they may."
    ),
    "not_verifiable": mark(
        "The power of attorney could not be confirmed. Add one that a notary certified, or have the owner confirm here."
    ),
    "unreadable": mark("The documents cannot be read. Add a better copy."),
}
"""Of a power of attorney: told to the agent."""
