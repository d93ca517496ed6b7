"""The health check of containers, against what a process serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.local.children import free_port
from shared.runtime.health import Health
from shared.settings import Settings


@pytest.fixture
def health() -> Iterator[tuple[Health, int]]:
    health, port = Health("probed"), free_port()
    server = health.serve(Settings(metrics_port=port))
    yield health, port
    server.shutdown()
    server.server_close()


def probe(port: int | str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shared.probe", *words]
    return subprocess.run(command, env={"GOODFAITH_METRICS_PORT": str(port)}, capture_output=True, text=True)


def test_it_says_what_the_process_says(health: tuple[Health, int]) -> None:
    process, port = health
    assert probe(port, "live").returncode == 0
    assert probe(port).returncode == 1, "it has not said that it is ready"
    process.ready()
    assert probe(port, "ready").returncode == 0


def test_nobody_answers() -> None:
    assert probe(free_port(), "live").returncode == 1


@pytest.mark.parametrize(
    ("port", "words"), [("", ()), ("http", ()), ("70000", ()), ("9100", ("well",)), ("9100", ("live", "x"))]
)
def test_a_question_that_is_none_is_refused(port: str, words: tuple[str, ...]) -> None:
    done = probe(port, *words)
    assert done.returncode == 2
    assert done.stderr
