"""Apache Kafka as a JVM child process: a KRaft node, broker and controller, on loopback; alone, or one of several (cluster.py).

The jars are an ordinary Maven dependency set (pom.xml), fetched once for a checkout and checked against jars.sha256.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.children import Child, StackError, end, find, spawn, tail
from deploy.local.jars import KAFKA

START_S = 400.0
"""A busy machine takes minutes to start a broker; one that ends while starting is noticed at once."""
SESSION_MS = 5_000
CLUSTER_SESSION_MS = 6_000

# C1 only, serial collector: 300 MB resident and listening after 2.4 s; a small machine has no cores for more.
JVM = (
    "-Xmx512m",
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=CLIENTS://127.0.0.1:{port},PEERS://127.0.0.1:{peer_port},CONTROLLER://127.0.0.1:{controller_port}
# clients may be sent through a proxy (deploy/local/proxy.py), links between nodes never
advertised.listeners=CLIENTS://127.0.0.1:{advertised_port},PEERS://127.0.0.1:{peer_port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,PEERS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PEERS
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={in_sync}
log.message.timestamp.type=CreateTime
log.retention.hours=336
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
# the internal topics have few partitions, so that they open quickly
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
# the first member need not wait for others to join, and tests may use short sessions
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.max.session.timeout.ms=300000
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# after a crash the controller waits until this node's old registration has expired (default 9 s), and with several
# nodes the others lead from then on; a shorter time would fence live nodes on a busy machine
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms=500
"""

LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n%throwable
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
# who was refused what
logger.authorizer.name = kafka.authorizer.logger
logger.authorizer.level = INFO
"""

# Logged once the broker is unfenced; before that its port may be open while it still refuses to create topics.
STARTED = b"Kafka Server started"
# Written by us before each start, so that an earlier start's line is not mistaken for this one's.
BEGIN = b"--- goodfaith starts Kafka ---\n"


def jars() -> Path:
    """Folder with Kafka's jars; fetched with Maven when missing (54 MB, some seconds).

    Raises:
        Unavailable: Java or Maven missing, the download failed, or a jar differs from its recorded hash.
    """
    return KAFKA.fetched()


@dataclass(frozen=True, slots=True)
class Node:
    """A node's place in its cluster.

    Attributes:
        number: its id, from 1.
        port: its port for clients.
        peer_port: its port for the other nodes.
        controllers: the controller ports of all nodes, by number.
        advertised_port: the port that clients are told to use; 0: `port`.
        certificates_port: its port for clients that show a certificate, if links are secured.
        cluster: the cluster's id, the same for all its nodes.
    """

    number: int
    port: int
    peer_port: int
    controllers: Mapping[int, int]
    cluster: str
    advertised_port: int = 0
    certificates_port: int = 0

    @property
    def address(self) -> str:
        """Its address for clients."""
        return f"127.0.0.1:{self.advertised_port or self.port}"

    def properties(self, data: Path) -> str:
        """Its `server.properties`: every node has a replica of each partition, and most must acknowledge a write."""
        count = len(self.controllers)
        return PROPERTIES.format(
            node=self.number,
            voters=",".join(f"{number}@127.0.0.1:{port}" for number, port in sorted(self.controllers.items())),
            port=self.port,
            peer_port=self.peer_port,
            controller_port=self.controllers[self.number],
            advertised_port=self.advertised_port or self.port,
            data=data,
            replicas=count,
            in_sync=count // 2 + 1,
            session_ms=SESSION_MS if count == 1 else CLUSTER_SESSION_MS,
        )


def cluster_id() -> str:
    """An id for a new cluster."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


class Kafka(Child):
    """One node whose state is `folder`; the caller keeps its `handle` (the pid) and holds the stack's lock.

    Stopped and killed nodes keep their data; `launch` continues with it on the same port.
    """

    def __init__(self, folder: Path, log: Path, node: Node, handle: int | None = None, more: str = "") -> None:
        """
        Args:
            more: further properties, which override the others.
        """
        self.handle = handle
        self.folder = folder.resolve()
        self.log = log
        self.node = node
        self.port = node.port
        self.properties = self.folder / "server.properties"
        self.data = self.folder / "data"
        self.marker = str(self.properties)
        self._text = node.properties(self.data) + more

    def launch(self) -> None:
        """Format the storage if need be and start the node, without waiting for it.

        Raises:
            StackError: Java is missing or the storage could not be formatted.
        """
        if shutil.which("java") is None:
            raise StackError(
                "Java is missing: `make setup` installs it; on Debian and Ubuntu it is the package default-jre-headless"
            )
        for orphan in find(self.marker):  # two must never share the data
            end(orphan, self.marker)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties.write_text(self._text)
        log4j = self.folder / "log4j2.properties"
        log4j.write_text(LOG4J)
        java = ["java", *JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars()}/*"]
        formatted = self.folder / "formatted"
        if not formatted.exists():
            shutil.rmtree(self.data, ignore_errors=True)
            command = [*java, "kafka.tools.StorageTool", "format", "-t", self.node.cluster, "-c", self.marker]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:
                raise StackError(f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr)[-3000:]}")
            formatted.touch()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(BEGIN)
        self.handle = spawn([*java, "kafka.Kafka", self.marker], self.log)

    def wait_ready(self) -> None:
        """Wait until the node that was launched last serves clients.

        Raises:
            StackError: it ended, or took longer than `START_S` seconds.
        """
        until = time.monotonic() + START_S
        while True:
            with contextlib.suppress(FileNotFoundError):
                if STARTED in self.log.read_bytes().rpartition(BEGIN)[2]:
                    return
            if not self.running:
                raise StackError(f"Kafka ended while starting{tail(self.log)}")
            if time.monotonic() > until:
                raise StackError(f"Kafka was not ready within {START_S:.0f} s{tail(self.log)}")
            time.sleep(0.05)
