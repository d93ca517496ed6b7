"""Prometheus and Alertmanager as child processes, so that a local stack is observed like a real installation.

They are Debian's packages, or any `prometheus` and `alertmanager` on the path; without them a stack runs unobserved.
Rules are those of `deploy.prometheus`, routes and inhibitions those of `deploy/alertmanager`. This module adds only
ports, folders and, for drills, a faster clock.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.children import Child, StackError, end, find, spawn, tail
from deploy.prometheus import routing, writing
from deploy.prometheus.model import Pace

START_S = 60.0
LOOKBACK_S = 300
"""Prometheus's default: how long the last sample of a series counts when its end was not recorded."""
LOOKBACK_LEAST_S = 20
"""A busy machine misses some scrapes, however fast the rules' clock runs."""
INSTALL = "Debian and Ubuntu have the packages prometheus and prometheus-alertmanager"

# names of the programs, Debian's first
BINARIES = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}


@dataclass(frozen=True)
class Plan:
    """How a stack is observed.

    Attributes:
        scrape_s: Seconds between two scrapes of a process, and between two evaluations of the rules.
        speed: How many times faster than in an installation time passes for rules and notifications: windows, `for`,
            thresholds in time. 1 except in drills.
        sink: Where to send all notifications, as `<sink>/<receiver>`. Empty: nowhere, they are only visible in
            Alertmanager.
    """

    scrape_s: float = 15.0
    speed: float = 1
    sink: str = ""


def missing() -> list[str]:
    """Which of the two are not installed."""
    return [part for part in BINARIES if _binary(part) is None]


def _binary(part: str) -> str | None:
    return next((path for name in BINARIES[part] if (path := shutil.which(name))), None)


class Server(Child):
    """One of the two, with its state in `folder`; the caller keeps its `handle` (the pid) and holds the stack's lock.

    A stopped or killed server keeps its data; `launch` continues with it on the same port.
    """

    def __init__(
        self, part: str, folder: Path, log: Path, port: int, handle: int | None = None, speed: float = 1
    ) -> None:
        self.handle = handle
        self.part = part
        self.folder = folder.resolve()
        self.log = log
        self.port = port
        self.speed = speed
        self.config = self.folder / f"{part}.yml"
        self.marker = f"--config.file={self.config}"

    def launch(self) -> None:
        """Start it with its configuration, which must exist, without waiting for it.

        Raises:
            StackError: it is not installed.
        """
        binary = _binary(self.part)
        if binary is None:
            raise StackError(f"{self.part} is not installed; {INSTALL}")
        for orphan in find(self.marker):  # two must never share the data
            end(orphan, self.marker)
        data = self.folder / "data"
        # Alertmanager resolves an alert that it has not received for four of these
        resend_s = max(1, round(60 / self.speed))
        options = [self.marker, f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        if self.part == "prometheus":
            # the longest window of the rules is 30 days
            options += [f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=35d", "--web.enable-lifecycle"]
            options += ["--storage.tsdb.retention.size=2GB", f"--rules.alert.resend-delay={resend_s}s"]
            # the last samples from before a restart count for five minutes on the rules' clock
            options += [f"--query.lookback-delta={max(round(LOOKBACK_S / self.speed), LOOKBACK_LEAST_S)}s"]
            # how soon started and ended processes are noticed
            options += ["--scrape.discovery-reload-interval=1s"]
        else:
            options += [f"--storage.path={data}", "--cluster.listen-address="]
        self.handle = spawn([binary, *options], self.log, cwd=self.folder)

    def wait_ready(self) -> None:
        """Wait until it answers queries.

        Raises:
            StackError: it ended, or took longer than `START_S` seconds.
        """
        until = time.monotonic() + START_S
        while self._ask("GET", "/-/ready")[0] != 200:
            if not self.running:
                raise StackError(f"{self.part} ended while starting{tail(self.log)}")
            if time.monotonic() > until:
                raise StackError(f"{self.part} was not ready within {START_S:.0f} s{tail(self.log)}")
            time.sleep(0.05)

    def reload(self) -> None:
        """Read the configuration again.

        Raises:
            StackError: it is invalid; the old one stays in force.
        """
        status, text = self._ask("POST", "/-/reload")
        if status != 200:
            raise StackError(f"{self.part} refuses its configuration: {text.strip() or status}{tail(self.log)}")

    def _ask(self, method: str, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()


def configure(folder: Path, targets: Path, ports: Mapping[str, int], plan: Plan) -> None:
    """Write the configuration of both into the folders of a stack.

    Args:
        folder: Holds the folders `prometheus` and `alertmanager`.
        targets: The file that lists what is scraped, as file_sd reads it; kept up to date by `deploy.local.processes`.
        ports: Ports of both, by name.
        plan: How the stack is observed.
    """
    for part in BINARIES:
        (folder / part).mkdir(parents=True, exist_ok=True)
    rules = folder / "prometheus" / "rules"
    shutil.rmtree(rules, ignore_errors=True)
    rules.mkdir()
    write_rules(rules, plan.speed)
    own = [
        {"job_name": part, "static_configs": [{"targets": [f"127.0.0.1:{ports[part]}"], "labels": {"instance": part}}]}
        for part in BINARIES
    ]
    often = f"{round(plan.scrape_s * 1000)}ms"
    prometheus = {
        "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
        "rule_files": [f"{rules}/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}]},
        "scrape_configs": [
            # the file sets the job of each target
            {"job_name": "goodfaith", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "5s"}]},
            *own,
        ],
    }
    _write(folder / "prometheus" / "prometheus.yml", prometheus)
    _write(folder / "alertmanager" / "alertmanager.yml", alertmanager(plan))


def _write(path: Path, content: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content, indent=1))  # JSON is YAML
    fresh.rename(path)


def write_rules(folder: Path, speed: float) -> None:
    """Write the rules for a clock that runs `speed` times as fast."""
    for name, text in writing.rule_files(Pace(speed)).items():
        (folder / name).write_text(text, encoding="utf-8")


def alertmanager(plan: Plan) -> dict[str, Any]:
    """Alertmanager's configuration: routes as in an installation, with the plan's sink for all receivers."""
    return routing.configuration(Pace(plan.speed), plan.sink)


def write_targets(path: Path, ports: Mapping[str, int]) -> None:
    """Write the scrape targets; `ports` are the metrics ports by process, such as `intake-worker.0`."""
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"job": name.rpartition(".")[0], "instance": name}}
        for name, port in sorted(ports.items())
    ]
    with contextlib.suppress(FileNotFoundError):
        if json.loads(path.read_bytes()) == targets:
            return
    _write(path, targets)
