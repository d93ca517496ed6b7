"""A stack's broker and database as containers (`GOODFAITH_STACK=docker`); needs a running Docker engine.

The images are those of `deploy/images.py`, as for compose; `make test-docker` runs tests on them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from typing import Any

import docker  # type: ignore[import-untyped]
import psycopg2
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer

from deploy import images
from deploy.local import kafka, server_images
from deploy.local.children import StackError
from deploy.local.postgres import DATABASE, SUPERUSER

# The containers outlive the invocation that started them; testcontainers' reaper would end them with it.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")


class _Container:
    """One container with a fixed host port; `handle` is its id."""

    def __init__(self, port: int, handle: str | None) -> None:
        self.port = port
        self.handle = handle

    def _make(self) -> Any:
        raise NotImplementedError

    def _docker(self) -> Any:
        return docker.from_env().containers.get(self.handle)

    @property
    def running(self) -> bool:
        """Whether the container runs; what is in it may not be ready yet."""
        try:
            return self.handle is not None and self._docker().status == "running"
        except docker.errors.NotFound:
            self.handle = None
            return False

    def adopt(self) -> None:
        """Do nothing: a stopped or killed container keeps its id, and `launch` starts it again."""

    def launch(self) -> None:
        """Create and start the container, or start the one that was stopped or killed.

        Raises:
            StackError: no Docker engine answers.
        """
        try:
            if self.handle is None:
                self.handle = self._make().start().get_container_id()
            else:
                self._docker().start()
        except docker.errors.DockerException as error:
            raise StackError(f"GOODFAITH_STACK=docker, but Docker refuses: {error}") from error

    def stop(self) -> None:
        """Stop the container, keeping its data."""
        if self.running:
            self._docker().stop()

    def kill(self) -> None:
        """SIGKILL the process in the container."""
        if self.running:
            self._docker().kill()

    def destroy(self) -> None:
        """Remove the container and its data."""
        with contextlib.suppress(docker.errors.NotFound):
            if self.handle is not None:
                self._docker().remove(force=True, v=True)


class Kafka(_Container):
    """A KRaft node, configured like the local process.

    testcontainers' KafkaContainer is for another image, whose scripts it rewrites. Here the host port is known
    beforehand, so Apache Kafka's image needs only its variables.
    """

    def _make(self) -> Any:
        container: Any = DockerContainer(images.KAFKA.reference)
        # on loopback, which with_bind_ports does not support
        container.ports[str(server_images.KAFKA_PORT)] = ("127.0.0.1", self.port)
        return container.with_envs(**server_images.kafka_environment("127.0.0.1", self.port))

    def wait_ready(self) -> None:
        """Wait until the node that was started last serves clients.

        Raises:
            StackError: it ended, or took longer than `START_S` seconds.
        """
        until = time.monotonic() + kafka.START_S
        container = self._docker()
        since = dt.datetime.fromisoformat(container.attrs["State"]["StartedAt"][:19]).replace(tzinfo=dt.UTC)
        while True:
            said: bytes = container.logs(since=since)
            if kafka.STARTED in said:
                return
            container.reload()
            if container.status != "running" or time.monotonic() > until:
                raise StackError(
                    f"Kafka's container is {container.status} and not ready:\n{said[-2000:].decode(errors='replace')}"
                )
            time.sleep(0.1)


class Postgres(_Container):
    """A server with the database `goodfaith`."""

    def __init__(self, port: int, password: str, handle: str | None) -> None:
        super().__init__(port, handle)
        self._password = password

    @property
    def url(self) -> str:
        """URL of the superuser's login to the database `goodfaith`."""
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    def _make(self) -> Any:
        image = images.POSTGRES.reference
        container: Any = PostgresContainer(image, username=SUPERUSER, password=self._password, dbname=DATABASE)
        container.ports[str(server_images.POSTGRES_PORT)] = ("127.0.0.1", self.port)
        options = [word for key, value in server_images.postgres_options().items() for word in ("-c", f"{key}={value}")]
        return container.with_command(["postgres", *options])

    def wait_ready(self) -> None:
        """Wait until the server accepts connections.

        Raises:
            psycopg2.OperationalError: it does not within 60 s.
        """
        import stamina

        for attempt in stamina.retry_context(on=psycopg2.OperationalError, timeout=60.0, attempts=None):
            with attempt:
                psycopg2.connect(self.url).close()
