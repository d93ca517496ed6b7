"""A Docker engine for tests: one that runs already, else our own, stopped afterwards, with its data in the checkout.

Our own is Debian's, started as root on a private socket, out of the way of everything else on the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import docker  # type: ignore[import-untyped]

from deploy.images import ROOT
from deploy.local.children import StackError, end, spawn, tail

START_S: Final = 60.0
PATIENT: Final = {"COMPOSE_HTTP_TIMEOUT": "300"}
"""With its default timeout docker-compose 1.29 gives up on a busy machine."""
FOLDER: Final = ROOT / ".local" / "docker"
SETUP: Final = ROOT / "deploy" / "local" / "setup.sh"


class Unavailable(StackError):
    """No engine answers and none can be started here; the message says why and what would help."""


@dataclass
class Engine:
    """An engine that answers.

    Attributes:
        client: Its API.
        environment: Environment for programs that use it: the caller's, with the engine's address.
        log: Log file of our own engine; None for one that ran already.
    """

    client: docker.DockerClient
    environment: dict[str, str]
    log: Path | None = None
    _compose: list[str] = field(default_factory=list)

    @property
    def described(self) -> str:
        """Version and storage driver, for people."""
        info = self.client.info()
        whose = "our own" if self.log else "found"
        return f"{whose}, {self.client.version()['Version']}, storage {info['Driver']}, cgroups v{info.get('CgroupVersion', '1')}"

    def run(self, *argv: str, timeout_s: float = 600.0, more: Mapping[str, str] | None = None) -> str:
        """Run a program against this engine; returns its output.

        Raises:
            StackError: it failed or timed out; the message ends with its output.
        """
        try:
            done = subprocess.run(
                argv,
                cwd=ROOT,
                env=PATIENT | self.environment | dict(more or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise StackError(f"{' '.join(argv[:4])} took longer than {timeout_s:.0f} s") from None
        if done.returncode:
            raise StackError(f"{' '.join(argv[:6])} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def compose(self) -> list[str]:
        """The command line of compose: the plugin, else docker-compose.

        Raises:
            StackError: neither is installed.
        """
        if not self._compose:
            with contextlib.suppress(StackError):
                self.run("docker", "compose", "version")
                self._compose = ["docker", "compose"]
        if not self._compose and shutil.which("docker-compose"):
            self._compose = ["docker-compose"]
        if not self._compose:
            raise StackError(
                "neither `docker compose` nor docker-compose is installed; Debian has it in the package docker-compose"
            )
        return self._compose

    def build(self, dockerfile: Path, context: Path, tag: str, *, network: str = "none", **arguments: str) -> None:
        """Build an image with the client's builder.

        Raises:
            StackError: the build failed.
        """
        # a current client without the buildx plugin has only the old builder, which must be requested
        buildkit = {}
        try:
            self.run("docker", "buildx", "version")
        except StackError:
            buildkit = {"DOCKER_BUILDKIT": "0"}
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        command = [
            "docker",
            "build",
            "--force-rm",
            "--network",
            network,
            "-f",
            str(dockerfile),
            "-t",
            tag,
            *given,
            str(context),
        ]
        self.run(*command, more=buildkit)


@contextlib.contextmanager
def running() -> Iterator[Engine]:
    """The engine that answers, else our own, which is stopped afterwards.

    Raises:
        Unavailable: none answers and none can be started.
        StackError: our own does not start.
    """
    found = _answering()
    if found is not None:
        yield Engine(found, dict(os.environ))
        return
    _prepare()
    # short, as a socket's path is limited to 107 characters; the engine's mounts in it may stay busy for a while
    with tempfile.TemporaryDirectory(prefix="goodfaith-docker-", ignore_cleanup_errors=True) as short:
        yield from _own(Path(short))


def _answering(host: str | None = None) -> docker.DockerClient | None:
    client = None
    try:
        client = docker.DockerClient(base_url=host, timeout=300) if host else docker.from_env(timeout=300)
        client.ping()
    except (docker.errors.DockerException, OSError):
        if client is not None:
            client.close()
        return None
    return client


def _prepare() -> None:
    """Install the programs if that needs no confirmation."""
    if os.geteuid() != 0:
        raise Unavailable("no Docker engine answers, and one is started as root only: start one, or set DOCKER_HOST")
    needed = ("dockerd", "iptables", "mmdebstrap")
    if all(map(shutil.which, needed)) and (shutil.which("docker-compose") or shutil.which("docker")):
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(
            "no Docker engine answers, and only Debian's and Ubuntu's is installed here: install one, start it"
        )
    done = subprocess.run(["sh", str(SETUP), "docker"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(
            f"no Docker engine answers, and none could be installed:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _own(short: Path) -> Iterator[Engine]:
    host, log = f"unix://{short}/docker.sock", FOLDER / "engine.log"
    FOLDER.mkdir(parents=True, exist_ok=True)
    marker = f"--pidfile={short}/docker.pid"
    command = ["dockerd", marker, f"--host={host}", f"--data-root={FOLDER / 'data'}", f"--exec-root={short}/exec"]
    pid = spawn([*command, "--log-level=warn"], log)
    try:
        client = _wait(pid, host, log)
        yield Engine(client, {**os.environ, "DOCKER_HOST": host}, log)
        client.close()
    finally:
        end(pid, marker, wait_s=60.0)


def _wait(pid: int, host: str, log: Path) -> docker.DockerClient:
    until = time.monotonic() + START_S
    while True:
        client = _answering(host)
        if client is not None:
            return client
        if not Path("/proc", str(pid)).exists() or time.monotonic() > until:
            raise StackError(f"the Docker engine of our own does not answer{tail(log, 30)}")
        time.sleep(0.2)
