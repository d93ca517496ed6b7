"""The operator's table of who reads what is what the services say themselves: `verify` and the wait for idleness hang on it."""

from __future__ import annotations

from typing import Any

from deploy.marketplace.worker import Marketplace
from services.enforcement.ledger import EnforcementLedger
from services.enforcement.worker import Enforcement
from services.intake.worker import Intake
from services.notification.worker import Notification
from services.operator.idle import READERS
from services.verification.worker import Verification


def test_readers_are_as_the_services_say() -> None:
    services: list[Any] = [Intake, Verification, Enforcement, EnforcementLedger, Notification, Marketplace]
    declared = {s.name: (s.schema, s.prefix, {topic.name for topic in s.reads}) for s in services}
    assert {r.name: (r.schema, r.prefix, {topic.name for topic in r.reads}) for r in READERS} == declared
