"""The topics: names, keys, partitions and retention, declared once.

A topic is written by exactly one service. Names get the installation's prefix (``GOODFAITH_TOPIC_PREFIX``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import NoError, TopicAlreadyExistsError, for_code
from kafka.partitioner.default import murmur2

from shared import kafka_links
from shared.settings import Settings

DAY_MS: Final = 86_400_000
_READY_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as declared.

    Attributes:
        writer: service that writes it; ``marketplace`` and ``upstream`` are outside.
        key: what records are keyed by.
        retention_ms: longest retention in milliseconds (see ``kept_ms``); -1: forever.
        compacted: keep the last record of each key instead of deleting by age.
        broker_time: the broker stamps records (LogAppendTime): the time of right of an upstream's command.
        ordered: records that belong together must lie in one partition and stay in order.
    """

    name: str
    writer: str
    key: str
    retention_ms: int = 30 * DAY_MS
    compacted: bool = False
    broker_time: bool = False
    ordered: bool = True

    @property
    def writers(self) -> tuple[str, ...]:
        """The services that write it, and ``marketplace``."""
        return SERVICES if self.writer == "every service" else tuple(self.writer.split(", "))

    def kept_ms(self, settings: Settings) -> int:
        """How long the topic keeps records in an installation, in milliseconds; -1: forever."""
        return self.retention_ms if self.retention_ms < 0 else min(self.retention_ms, settings.topic_days * DAY_MS)

    def configs(self, settings: Settings) -> dict[str, str]:
        """The topic's settings at the broker, as far as they are declared here."""
        found = {
            "retention.ms": str(self.kept_ms(settings)),
            "cleanup.policy": "compact" if self.compacted else "delete",
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }
        return found | safety(settings)


def safety(settings: Settings) -> dict[str, str]:
    """Settings of every topic in an installation with several brokers."""
    return {"min.insync.replicas": "2"} if settings.replication >= 3 else {}


SERVICES: Final = ("intake", "verification", "enforcement", "notification", "marketplace")

INTAKE: Final = Topic("intake.events", "intake", "listing")
ACCOUNTS: Final = Topic("intake.accounts", "intake", "account")
FILINGS: Final = Topic("intake.filings", "intake", "complainant's account")
REFUSALS: Final = Topic("inbound.refusals", "intake", "upstream's event id", 14 * DAY_MS, ordered=False)
VERIFICATION: Final = Topic("verification.events", "verification", "listing")
ENFORCEMENT: Final = Topic("enforcement.events", "enforcement", "listing")
VIOLATIONS: Final = Topic("enforcement.violations", "enforcement", "seller")
LEDGER: Final = Topic("enforcement.ledger", "enforcement", "seller")
NOTIFICATION: Final = Topic("notification.events", "notification", "listing; of a message to an account: account")
MARKETPLACE_COMMANDS: Final = Topic("marketplace.commands", "enforcement, verification", "listing")
MARKETPLACE_RECEIPTS: Final = Topic("marketplace.receipts", "marketplace", "listing")
MARKETPLACE_LISTINGS: Final = Topic("marketplace.listings", "marketplace", "listing", -1, compacted=True)
SELLER_COMMANDS: Final = Topic("marketplace.seller_commands", "enforcement", "seller")
SELLER_RECEIPTS: Final = Topic("marketplace.seller_receipts", "marketplace", "seller")
MARKETPLACE_SELLERS: Final = Topic("marketplace.sellers", "marketplace", "seller", -1, compacted=True)
MARKETPLACE_CONTACTS: Final = Topic("marketplace.contacts", "marketplace", "seller", 14 * DAY_MS)
"""Sealed personal data: kept for a time, never compacted."""
CENTRE_MESSAGES: Final = Topic("marketplace.messages", "notification", "seller", 14 * DAY_MS)
"""Sealed, as ``MARKETPLACE_CONTACTS``."""
CENTRE_RECEIPTS: Final = Topic("marketplace.message_receipts", "marketplace", "seller")
DEAD_LETTERS: Final = Topic("dead-letters", "every service", "the record's own key", 14 * DAY_MS, ordered=False)

CLOCK: Final = Topic("intake.clock", "intake", "nothing", DAY_MS, broker_time=True, ordered=False)
"""Empty records whose timestamps show intake's workers the brokers' clocks. Not in ``TOPICS``, as nobody reads it."""

TOPICS: Final = (
    INTAKE,
    ACCOUNTS,
    FILINGS,
    REFUSALS,
    VERIFICATION,
    ENFORCEMENT,
    VIOLATIONS,
    LEDGER,
    NOTIFICATION,
    MARKETPLACE_COMMANDS,
    MARKETPLACE_RECEIPTS,
    MARKETPLACE_LISTINGS,
    SELLER_COMMANDS,
    SELLER_RECEIPTS,
    MARKETPLACE_SELLERS,
    MARKETPLACE_CONTACTS,
    CENTRE_MESSAGES,
    CENTRE_RECEIPTS,
    DEAD_LETTERS,
)


def inbound(upstream: str) -> Topic:
    """The topic that one upstream writes its commands to."""
    return Topic(f"inbound.{upstream}", "upstream", "anything", 14 * DAY_MS, broker_time=True)


def of(settings: Settings) -> tuple[Topic, ...]:
    """All topics of an installation."""
    return (*TOPICS, CLOCK, *(inbound(name) for name in settings.upstreams))


@lru_cache(maxsize=20_000)
def partition_of(key: str, partitions: int) -> int:
    """Partition of a key by Kafka's default partitioner (murmur2), so producers outside agree."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def create(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names. Existing topics are left as they are.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    admin = kafka_links.admin(settings, client_id="goodfaith-topics")
    try:
        existing = set(admin.list_topics())
        wanted = {settings.topic_prefix + topic.name: topic.configs(settings) for topic in of(settings)}
        return _create(admin, settings, {name: configs for name, configs in wanted.items() if name not in existing})
    finally:
        admin.close()


def create_one(admin: KafkaAdminClient, settings: Settings, name: str, configs: Mapping[str, str]) -> bool:
    """Create a topic by its full name, with the installation's partitions and replicas; False if it exists already.

    Raises:
        kafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    return bool(_create(admin, settings, {name: configs}))


def _create(admin: KafkaAdminClient, settings: Settings, missing: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Create topics and return those that did not exist yet. All of them can be used afterwards.

    The controller answers before the broker that is asked next knows of a new topic.
    """
    if not missing:
        return []
    new = [
        NewTopic(name, settings.partitions, settings.replication, topic_configs={**configs, **safety(settings)})
        for name, configs in missing.items()
    ]
    created = []
    for topic in admin.create_topics(new, timeout_ms=_READY_MS, raise_errors=False)["topics"]:
        error = for_code(topic["error_code"])
        if error is NoError:
            created.append(topic["name"])
        elif error is not TopicAlreadyExistsError:
            raise error(topic["error_message"])
    admin.wait_for_topics(list(missing), timeout_ms=_READY_MS)
    return created
