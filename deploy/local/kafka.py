"""Apache Kafka as a JVM child process: one KRaft node, broker and controller, on loopback.

The jars are an ordinary Maven dependency set (pom.xml), fetched once for a checkout and checked against jars.sha256.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from deploy.local.children import Child, StackError, end, find, spawn, tail
from deploy.local.jars import Jars

VERSION = "4.3.1"
HERE = Path(__file__).resolve().parent
START_S = 60.0

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
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
log.message.timestamp.type=CreateTime
log.retention.hours=336
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
# one node: the internal topics have one replica, and few partitions so that they open quickly
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# a first join need not wait for others, and a test may have a short session
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.max.session.timeout.ms=300000
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# after a crash the controller waits until the dead registration of this very node has expired (default 9 s); shorter
# than this, and a busy machine fences its only broker
broker.session.timeout.ms=2500
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
"""

# Logged once the broker is unfenced; behind an open port alone may still be one that refuses to create topics.
STARTED = b"Kafka Server started"
# Written by us before each start, so that an earlier start's line is not taken for this one's.
BEGIN = b"--- goodfaith starts Kafka ---\n"


JARS = Jars("Kafka", f"kafka-{VERSION}", HERE)


def cached() -> bool:
    """Whether Kafka's jars are at hand."""
    return JARS.folder.is_dir()


def jars() -> Path:
    """Folder with Kafka's jars; fetched with Maven when missing (54 MB, some seconds).

    Raises:
        StackError: Java or Maven missing, the download failed, or a jar differs from its recorded hash.
    """
    return JARS.fetched()


class Kafka(Child):
    """One node whose state is `folder`; the caller keeps its `handle` (the pid) and holds the stack's lock.

    Stopped and killed nodes keep their data; `launch` continues with it on the same port.
    """

    def __init__(self, folder: Path, log: Path, port: int, controller_port: int, handle: int | None = None) -> None:
        self.handle = handle
        self.folder = folder.resolve()
        self.log = log
        self.port = port
        self.properties = self.folder / "server.properties"
        self.marker = str(self.properties)
        self._text = PROPERTIES.format(port=port, controller_port=controller_port, data=self.folder / "data")

    def launch(self) -> None:
        """Format the storage if need be and start the node, without waiting for it.

        Raises:
            StackError: Java is missing or the storage could not be formatted.
        """
        if shutil.which("java") is None:
            raise StackError("Java is missing; `make setup` installs it or says how")
        for orphan in find(self.marker):  # two must never share the data
            end(orphan, self.marker)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties.write_text(self._text)
        log4j = self.folder / "log4j2.properties"
        log4j.write_text(LOG4J)
        java = ["java", *JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars()}/*"]
        formatted = self.folder / "formatted"
        if not formatted.exists():
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
            command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", self.marker]
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
