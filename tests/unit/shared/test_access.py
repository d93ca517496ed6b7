"""Who may do what at the broker is declared as the code does it, and no more."""

from __future__ import annotations

from deploy.local.fleet import FLEET
from deploy.marketplace.worker import Marketplace
from services.enforcement.ledger import EnforcementLedger
from services.enforcement.worker import Enforcement
from services.intake.filing.inbound import Inbound
from services.intake.worker import Intake
from services.notification.worker import Notification
from services.ops import idle
from services.streams.registry import VIEWS
from services.verification.worker import Verification
from shared import access, topics
from shared.access import Acl
from shared.settings import Settings

SETTINGS = Settings(upstreams={"crm": "acc-1", "erp": "acc-2"}, topic_prefix="eu.")
BY_NAME = {one.name: one for one in access.principals(SETTINGS)}


def of(name: str) -> set[Acl]:
    return {acl for acl in access.acls(SETTINGS) if acl.principal == f"User:goodfaith-{name}"}


def test_declared_is_what_the_workers_read() -> None:
    read = {reader.name: (reader.schema, set(reader.reads)) for reader in idle.readers(SETTINGS)}
    said = {group: (name, set(reads)) for name, groups in access.READS.items() for group, reads in groups.items()} | {
        access.INBOUND_GROUP: ("intake", set(access.inbound(SETTINGS)))
    }
    assert said == read
    assert Inbound.name == access.INBOUND_GROUP
    assert set(access.VIEWED) == {topic for view in VIEWS for topic in view.reads}


def test_what_workers_compare_with_their_logs_is_theirs_to_read() -> None:
    """A worker that is started again would read nothing of it otherwise, and do nothing."""
    compared: dict[str, set[str]] = {}
    for service in (Intake, Inbound, Verification, Enforcement, EnforcementLedger, Notification, Marketplace):
        compared.setdefault(service.schema, set()).update(service.keyed_like)  # type: ignore[attr-defined]
    assert {name: {topic.name for topic in of_its_own} for name, of_its_own in access.COMPARES.items()} == compared
    assert all(set(one.compares) <= set(one.writes) for one in BY_NAME.values())
    assert Acl("User:goodfaith-verification", "topic", "eu.verification.events", False, "READ") in of("verification")


def test_every_topic_has_its_writers() -> None:
    for topic in topics.TOPICS:
        writing = {one.name for one in BY_NAME.values() if topic in one.writes and not one.administers}
        assert writing == set(topic.writers)
        assert writing


def test_every_process_at_the_broker_has_a_principal_of_its_own_service() -> None:
    for spec in FLEET:
        if spec.principal is not None:
            assert spec.principal in BY_NAME
            assert spec.principal in (spec.service, spec.role)


def test_a_service_does_nothing_that_is_not_declared() -> None:
    assert of("notification") == {
        Acl("User:goodfaith-notification", *rest)  # type: ignore[arg-type]
        for rest in (
            ("topic", "eu.verification.events", False, "READ"),
            ("topic", "eu.intake.accounts", False, "READ"),
            ("topic", "eu.enforcement.ledger", False, "READ"),
            ("topic", "eu.notification.events", False, "WRITE"),
            ("topic", "eu.notification.events", False, "READ"),
            ("topic", "eu.marketplace.message_receipts", False, "READ"),
            ("topic", "eu.marketplace.messages", False, "WRITE"),
            ("topic", "eu.marketplace.messages", False, "READ"),
            ("topic", "eu.dead-letters", False, "WRITE"),
            ("group", "eu.notification", False, "READ"),
        )
    }


def test_an_upstream_writes_to_its_own_topic_and_sees_no_other() -> None:
    assert of("upstream.crm") == {Acl("User:goodfaith-upstream.crm", "topic", "eu.inbound.crm", False, "WRITE")}


def test_only_the_operator_touches_what_is_not_read_or_written() -> None:
    for name in BY_NAME.keys() - {"operator"}:
        assert {acl.operation for acl in of(name)} <= {"READ", "WRITE", "DESCRIBE", "CREATE"}
        assert not [acl for acl in of(name) if acl.resource == "cluster"]
    assert [acl for acl in of("streams") if acl.operation == "CREATE"] == [
        Acl("User:goodfaith-streams", "topic", "eu.streams-", True, "CREATE")
    ]


def test_both_logins_may_do_the_same() -> None:
    for name in BY_NAME:
        first = {(acl.resource, acl.name, acl.prefixed, acl.operation) for acl in of(name)}
        second = {(acl.resource, acl.name, acl.prefixed, acl.operation) for acl in of(f"other.{name}")}
        assert first == second
        assert first


def test_principals_are_told_from_strangers() -> None:
    ours = access.ours(SETTINGS)
    for name in ("intake", "other.watch", "upstream.crm", "upstream.gone", "other.upstream.gone"):
        assert ours.fullmatch(f"User:goodfaith-{name}")
    for name in (
        "User:goodfaith-",
        "User:goodfaith-analytics",
        "User:analytics",
        "Group:goodfaith-intake",
        "User:goodfaith-upstream.",
    ):
        assert not ours.fullmatch(name)
    named = SETTINGS.model_copy(update={"kafka_principal": "CN={name},O=market"})
    assert access.ours(named).fullmatch("User:CN=intake,O=market")
    assert "User:CN=other.intake,O=market" in {acl.principal for acl in access.acls(named)}
