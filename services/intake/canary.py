"""The canary's accounts: one that files and owns a right, and the seller of its listing. The API creates them once.

The token can have only one listing taken down, the canary's own (``filing.domain.check_canary``). The account has one token:
a new one in the settings replaces it.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
import structlog
from cryptography.exceptions import InvalidTag

from services.intake.accounts import store as accounts_store
from services.intake.kernel import requests, security, store
from services.intake.kernel.domain import Account
from services.intake.registry import store as registry_store
from shared.settings import Settings

log = structlog.get_logger(__name__)

ACCOUNT: Final = "a-canary"
RIGHT: Final = "r-canary"


def ensure(connection: sa.Connection, settings: Settings, contacts: security.Contacts) -> bool:
    """Create what the canary needs and lacks. Safe to repeat, and to run in several processes.

    An account that somebody else opened under one of these names never becomes the canary's. Its contact is kept.

    Returns:
        False: no canary is configured, or its account is somebody else's or closed.
    """
    if not settings.canary_listing or settings.canary_token is None:
        return False
    # two processes that start at once must not both register the right
    connection.exec_driver_sql("select pg_advisory_xact_lock(hashtextextended('intake canary', 0))")
    store.open_account(connection, Account(ACCOUNT, "holder", True, False, True, canary=True), "company", by=None)
    store.open_account(
        connection, Account(settings.canary_seller, "seller", False, False, True, canary=True), "company", by=None
    )
    people = store.accounts(connection, [ACCOUNT, settings.canary_seller])
    if not people[ACCOUNT].canary:
        log.error("no canary: its account is somebody else's", account=ACCOUNT)
        return False
    if people[ACCOUNT].status == "closed":
        # erased, or closed by an operator: final
        log.error("no canary: its account is closed", account=ACCOUNT)
        return False
    digest = security.digest(settings.canary_token.get_secret_value())
    if store.ensure_token(connection, ACCOUNT, digest, settings.token_ttl_days, "canary"):
        store.revoke_tokens(connection, ACCOUNT, keep=digest)
    if RIGHT not in store.rights(connection, [RIGHT]):
        right = requests.RegisterRight(right_type="copyright", proof="canary")
        registry_store.add_right(connection, RIGHT, ACCOUNT, right, ACCOUNT, settings.partitions, accepted="canary")
    if settings.canary_mail and settings.contact_key is not None:
        for account, person in people.items():
            # a real seller keeps its own contact, and an erased account has none
            if person.canary and person.status != "closed":
                _reach(connection, account, settings.canary_mail, contacts)
    return True


def _reach(connection: sa.Connection, account: str, mail: str, contacts: security.Contacts) -> None:
    try:
        for _, wrapped, sealed in store.sealed_contacts(connection, [account]):
            if contacts.open(account, wrapped, sealed).email == mail:
                accounts_store.attest(connection, account, "operator")
                return
        wrapped = store.subject_key(connection, account, lambda: contacts.new_key(account))
        contact = requests.Contact(name="Canary", address="-", email=mail, language="en")
        store.put_contact(connection, account, contacts.seal(account, wrapped, contact), renamed=True)
        accounts_store.attest(connection, account, "operator")
    except InvalidTag:
        # the installation's key has changed: the API starts all the same
        log.error("contact cannot be decrypted", account=account)
