"""The same broker and database as containers, where a Docker engine answers (`GOODFAITH_STACK=docker`).

Not exercised yet: a later issue builds the images and runs the suites on them.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import docker  # type: ignore[import-untyped]
import psycopg2
from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.postgres import PostgresContainer

from deploy.local.children import StackError
from deploy.local.postgres import DATABASE, SUPERUSER

KAFKA_IMAGE = os.environ.get("GOODFAITH_KAFKA_IMAGE", "confluentinc/cp-kafka:8.1.0")
POSTGRES_IMAGE = os.environ.get("GOODFAITH_POSTGRES_IMAGE", "postgres:18")

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
        """Nothing: a stopped or killed container keeps its id, and `launch` starts it again."""

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
        """SIGKILL what runs in the container."""
        if self.running:
            self._docker().kill()

    def destroy(self) -> None:
        """Remove the container and its data."""
        with contextlib.suppress(docker.errors.NotFound):
            if self.handle is not None:
                self._docker().remove(force=True, v=True)


class Kafka(_Container):
    """A KRaft node."""

    def _make(self) -> Any:
        container = KafkaContainer(KAFKA_IMAGE).with_kraft().with_bind_ports(9093, self.port)
        return container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")

    def wait_ready(self) -> None:
        """Nothing: testcontainers has waited; after a kill clients retry."""


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
        container = PostgresContainer(POSTGRES_IMAGE, username=SUPERUSER, password=self._password, dbname=DATABASE)
        return container.with_bind_ports(5432, self.port)

    def wait_ready(self) -> None:
        """Wait until the server accepts connections.

        Raises:
            psycopg2.OperationalError: it does not within 60 s.
        """
        import stamina

        for attempt in stamina.retry_context(on=psycopg2.OperationalError, timeout=60.0, attempts=None):
            with attempt:
                psycopg2.connect(self.url).close()
