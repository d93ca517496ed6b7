"""The Faust application: its settings, and its consumer, which resumes from the tables' positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from shared import kafka_links
from shared.settings import Settings

TABLE: Final = "views"
REFILL: Final = "refill"
"""Short name of the topic ``refill_topic``."""
Positions = Callable[[], Mapping[TP, int]]


def app_id(settings: Settings, generation: int) -> str:
    """Name of the application: its consumer group, and the prefix of its topics."""
    return f"{settings.topic_prefix}streams-{generation}"


def changelog_topic(settings: Settings, generation: int) -> str:
    """Name of a generation's changelog."""
    return f"{app_id(settings, generation)}-{TABLE}-changelog"


def refill_topic(settings: Settings, generation: int) -> str:
    """Name of the topic from which a generation is filled with the event logs."""
    return f"{app_id(settings, generation)}-refill"


class Listener(driver.ConsumerRebalanceListener):
    """Keeps a member in its group while it takes over partitions."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Start heartbeats at once.

        The client would start them only after this method, and opening many tables may take longer than a session.
        """
        self._thread._ensure_consumer()._coordinator._start_heartbeat_task()
        await super().on_partitions_assigned(assigned)


class Consumer(driver.Consumer):
    """Resumes from the positions in the tables; the group's committed offsets only show the lag to others."""

    RebalanceListener = Listener
    positions: Positions

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the tables' positions, regardless of the group's offsets."""
        wanted = {tp: offset for tp, offset in self.positions().items() if tp in self.assignment()}
        if wanted:
            await self.seek_wait(wanted)
        return wanted

    def check_group(self) -> None:
        """Check that this member is still in its group.

        Raises:
            aiokafka.errors.KafkaError: an error ended its membership. The client only logs that, and nothing would
                ever be assigned again. A broker that for a moment knows no broker, not even itself, can cause it.
        """
        client = self._thread._consumer
        if client is not None and client._coordinator is not None:
            client._coordinator.check_errors()


def create(settings: Settings, generation: int, folder: Path, positions: Positions, url: str = "") -> Any:
    """An application without agents.

    Args:
        folder: this worker's folder for its tables.
        positions: where to resume, by topic and partition, for recovered partitions.
        url: of this worker's query API, announced to the rest of the group.
    """
    session_s = settings.session_timeout_ms / 1000
    app = faust.App(
        app_id(settings, generation),
        **kafka_links.faust_options(settings),
        canonical_url=url or None,
        broker_client_id=f"streams-{settings.instance}" if settings.instance else "streams",
        # how soon others take over from a stalled worker, and how long a restart waits
        broker_session_timeout=session_s,
        broker_heartbeat_interval=max(0.3, session_s / 5),
        broker_rebalance_timeout=10,
        broker_request_timeout=max(30.0, session_s + 1),
        # Faust acknowledges nothing: the worker commits the tables' positions
        broker_commit_livelock_soft_timeout=31_536_000,
        stream_processing_timeout=31_536_000,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=1_048_576,
        consumer_metadata_max_age_ms=30_000,
        store="rocksdb://?driver=rocksdict",
        datadir=str(folder),
        tabledir=str(folder / "tables"),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_allow_declare=False,
        topic_disable_leader=True,
        # no standby: it would read each changelog a second time, and recovery takes only seconds
        table_standby_replicas=0,
        stream_buffer_maxsize=4096,
        stream_wait_empty=False,
        web_enabled=False,
        autodiscover=False,
    )

    class Own(Consumer):
        pass

    class Transport(driver.Transport):
        Consumer = Own

    Own.positions = staticmethod(positions)
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def table(app: Any, partitions: int) -> Any:
    """The only table, in RocksDB, with its changelog."""
    return app.Table(
        TABLE,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        recovery_buffer_size=5000,
        # one database per partition, so small buffers
        options={
            "write_buffer_size": 8 * 1024 * 1024,
            "max_write_buffer_number": 2,
            "target_file_size_base": 16 * 1024 * 1024,
            "block_cache_size": 8 * 1024 * 1024,
            "max_open_files": 64,
        },
    )
