"""Tests images and compose file: starts everything, replays real notices, kills containers, and checks for losses.

Then it runs part of the test suite on a broker and a database in containers (testcontainers). Each step is timed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from deploy.compose import secrets
from deploy.containers import build, engine
from deploy.containers.engine import FOLDER, Engine
from deploy.images import ROOT
from deploy.local.children import StackError, free_port
from deploy.local.steps import Steps, console

PROJECT: Final = "goodfaith-trial"
PROFILES: Final = ("core", "demo")
SETTINGS: Final = {
    # the replay steps its clock without waiting, so messages and watermarks must not wait either
    "GOODFAITH_COLLECT_S": "0.02",
    "GOODFAITH_WATERMARK_MS": "50",
    "GOODFAITH_POLL_MS": "50",
}
READY_S: Final = 360.0
SUITE: Final = (
    "tests/integration/test_containers.py",
    "tests/integration/test_runtime.py",
    "tests/integration/test_database_roles.py",
    "tests/integration/test_intake_worker.py",
    "tests/integration/test_enforcement.py",
    "tests/integration/test_notification.py",
)
"""Tests run on containers: the containers, the worker's loop with its crashes, migrations with grants, each service."""
CRASH: Final = "import os, signal\nfor p in os.listdir('/proc'):\n    if p.isdigit() and int(p) not in (1, os.getpid()): os.kill(int(p), signal.SIGKILL)\n"
"""Run in a container: kills our process, so that the container exits as in a crash and the engine restarts it."""


class Installation:
    """The compose file as a separate project on an engine, with its own secrets, ports and settings."""

    def __init__(self, engine_: Engine, names: Mapping[str, str]) -> None:
        self._engine = engine_
        self._secrets = FOLDER / "secrets"
        FOLDER.mkdir(parents=True, exist_ok=True)
        settings = FOLDER / "trial.env"
        ports: dict[str, int] = {}
        for name in ("GOODFAITH_INTAKE_API_PORT", "GOODFAITH_MARKETPLACE_PORT"):
            ports[name] = free_port(set(ports.values()))
        values = {**names, **SETTINGS, **ports, "GOODFAITH_SECRETS": str(self._secrets)}
        settings.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
        profiles = [word for profile in PROFILES for word in ("--profile", profile)]
        self._command = [
            *engine_.compose(),
            "-p",
            PROJECT,
            "--env-file",
            str(settings),
            "-f",
            str(ROOT / "deploy" / "compose.yaml"),
            *profiles,
        ]

    def compose(self, *words: str, timeout_s: float = 600.0) -> str:
        """Run a compose command on the project.

        Raises:
            StackError: it failed.
        """
        return self._engine.run(*self._command, *words, timeout_s=timeout_s)

    def up(self) -> None:
        """Generate secrets, start everything and wait until it is healthy.

        Raises:
            StackError: something does not start or is not healthy in time; the message ends with its log.
        """
        self.down()  # one that was killed has left its volumes, which know other passwords
        secrets.write(self._secrets)
        self.compose("up", "-d")
        self.wait_healthy()

    def containers(self) -> dict[str, Any]:
        """Its containers by service."""
        found = self._engine.client.containers.list(
            # containers of single commands come and go
            all=True,
            ignore_removed=True,
            filters={"label": f"com.docker.compose.project={PROJECT}"},
        )
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def wait_healthy(self, timeout_s: float = READY_S) -> None:
        """Wait until every container with a health check is healthy.

        Raises:
            StackError: one is not healthy in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            states = {name: one.attrs["State"] for name, one in self.containers().items()}
            waiting = sorted(
                name for name, state in states.items() if state.get("Health", {}).get("Status", "healthy") != "healthy"
            )
            waiting += sorted(
                name for name, state in states.items() if state["Status"] != "running" and "Health" in state
            )
            if not waiting:
                return
            if time.monotonic() > until:
                ends = "".join(
                    f"\n--- {name} ---\n{self.containers()[name].logs(tail=20).decode(errors='replace')}"
                    for name in waiting[:3]
                )
                raise StackError(f"not healthy after {timeout_s:.0f} s: {', '.join(waiting)}{ends}")
            time.sleep(0.5)

    def operator(self, *words: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Run a `goodfaith` command with `--json`; returns its result.

        Raises:
            StackError: it failed.
        """
        return last_object(self.compose("run", "--rm", "-T", "operator", *words, "--json", timeout_s=timeout_s))

    def begin_lab(self, *words: str) -> subprocess.Popen[str]:
        """Start a `goodfaith lab` command with `--json` in the background. The image has no lab: it is mounted."""
        mounted = ["-v", f"{ROOT / 'labs'}:/opt/lab/labs:ro", "-e", "PYTHONPATH=/opt/lab"]
        command = [*self._command, "run", "--rm", "-T", *mounted, "operator", "lab", *words, "--json"]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def down(self) -> None:
        """Remove containers, volumes and secrets."""
        self.compose("--profile", "tools", "down", "-v", "--remove-orphans")
        shutil.rmtree(self._secrets, ignore_errors=True)


def last_object(said: str) -> dict[str, Any]:
    """The last JSON object in a command's output; compose may print something after it.

    Raises:
        StackError: there is none.
    """
    for line in reversed(said.splitlines()):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise StackError(f"no result in what was said:\n{said[-4000:]}")


def crash(installation: Installation, service: str) -> float:
    """Kill the process in a container and wait until the engine has restarted it; returns how many seconds that took.

    Raises:
        StackError: it does not come back.
    """
    container = installation.containers()[service]
    before, restarts = container.attrs["State"]["StartedAt"], container.attrs["RestartCount"]
    begun = time.monotonic()
    container.exec_run(["/opt/goodfaith/bin/python", "-c", CRASH])
    while True:
        container.reload()
        state = container.attrs["State"]
        if state["Running"] and state["StartedAt"] != before and container.attrs["RestartCount"] > restarts:
            return time.monotonic() - begun
        if time.monotonic() - begun > 60:
            raise StackError(f"{service} was killed and is not started again: {state['Status']}")
        time.sleep(0.1)


def kill(installation: Installation, service: str) -> None:
    """`docker kill` a container, which the engine takes as intended and does not restart, and start it again."""
    container = installation.containers()[service]
    container.kill()
    container.start()


def flow(installation: Installation, process: subprocess.Popen[str], timeout_s: float = 300.0) -> None:
    """Wait until items of the replay reach verification.

    Raises:
        StackError: the replay has ended, or no item arrives in time.
    """
    query = "select count(*) from verification.items"
    count = f"PGPASSWORD=$(cat /run/secrets/postgres_password) exec psql -h 127.0.0.1 -U postgres -d goodfaith -tAc '{query}'"
    until = time.monotonic() + timeout_s
    while True:
        code, said = installation.containers()["postgres"].exec_run(["sh", "-c", count])
        if code == 0 and int(said.decode().strip()) > 0:
            return
        if process.poll() is not None:
            raise StackError(f"the replay ended at once:\n{process.communicate()[0][-4000:]}")
        if time.monotonic() > until:
            raise StackError(f"no item has come from the replay: {said.decode(errors='replace').strip()}")
        time.sleep(1)


def replay_and_kill(installation: Installation, notices: int) -> tuple[dict[str, Any], str]:
    """Replay real notices, with a crash and a kill meanwhile; returns the replay's result and what was killed.

    Raises:
        StackError: the replay failed, or something does not come back.
    """
    process = installation.begin_lab("replay", "--limit", str(notices))
    try:
        flow(installation, process)
        back = crash(installation, "verification")
        time.sleep(3)
        kill(installation, "enforcement-worker")
        said, _ = process.communicate(timeout=1800)
    except subprocess.TimeoutExpired:
        process.kill()
        raise StackError("the replay has not come to its end within 30 minutes") from None
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise StackError(f"the replay failed:\n{said[-4000:]}")
    return (
        last_object(said),
        f"verification crashed, started again by the engine after {back:.1f} s; enforcement-worker killed, started",
    )


def suite(engine_: Engine, names: Mapping[str, str], arguments: list[str]) -> str:
    """Run part of the tests on a broker and a database in containers; returns pytest's last line.

    Raises:
        StackError: a test failed.
    """
    extra = {
        "GOODFAITH_STACK": "docker",
        "TESTCONTAINERS_RYUK_DISABLED": "true",
        "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
        **{key: value for key, value in names.items() if key != "GOODFAITH_IMAGE"},
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not thorough", *arguments, *SUITE]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=engine_.environment | extra,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise StackError(f"tests on containers failed:\n{done.stdout[-6000:]}")
    return lines[-1]


def run(notices: int = 500) -> None:
    """Run all steps and print a table of them.

    Raises:
        Unavailable: there is no engine and none can be started.
        StackError: a step failed.
    """
    steps = Steps("make test-docker")
    try:
        with contextlib.ExitStack() as stack:
            with steps.step("engine") as say:
                one = stack.enter_context(engine.running())
                say(one.described)
            with steps.step("images") as say:
                names = build.all_of(one)
                size = one.client.images.get(names["GOODFAITH_IMAGE"]).attrs["Size"] / 1e6
                say(f"{', '.join(names.values())}; the project's has {size:.0f} MB")
            with steps.step("closed image") as say:
                say(closed(one, names["GOODFAITH_IMAGE"]))
            _installation(steps, one, names, notices)
            with steps.step("tests on containers") as say:
                say(suite(one, names, []))
    finally:
        console.print(steps.table())


def closed(engine_: Engine, image: str) -> str:
    """Check an image's restrictions: the user it runs as, and that it can write only to its state folder.

    Raises:
        StackError: it runs as another user, or can write elsewhere.
    """
    probe = (
        "import os, sys\n"
        "assert os.getuid() == os.getgid() == 10001, os.getuid()\n"
        "for place in ('/opt/goodfaith', '/etc', '/'):\n"
        "    assert not os.access(place, os.W_OK), place\n"
        "assert os.access(os.environ['GOODFAITH_STATE_DIR'], os.W_OK)\n"
        "import services.ops.cli as cli; cli.build()\n"
        "print('user 10001, writes nowhere but in its state')\n"
    )
    return engine_.run(
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--cap-drop=ALL",
        "--entrypoint=/opt/goodfaith/bin/python",
        image,
        "-c",
        probe,
    ).strip()


def _installation(steps: Steps, one: Engine, names: Mapping[str, str], notices: int) -> None:
    with steps.step("compose file") as say:
        installation = Installation(one, names)
        installation.compose("config", "-q")
        say(f"valid for {one.run(*one.compose(), 'version').splitlines()[0]}")
    try:
        with steps.step("up, all healthy") as say:
            installation.up()
            say(f"{len(installation.containers())} containers")
        with steps.step("logins and permissions") as say:
            installation.compose("run", "--rm", "-T", "operator", "topics", "plan", "--exit-code")
            say("at the broker as declared")
        with steps.step(f"replay of {notices} notices, two killed") as say:
            report, killed = replay_and_kill(installation, notices)
            say(f"{report['items']} items; {killed}")
        with steps.step("verify") as say:
            installation.wait_healthy()
            proof = installation.operator("verify", "--wait")
            found = {name: proof[name] for name in ("lost", "doubled", "problems")}
            say(", ".join(f"{name} {count}" for name, count in found.items()) + f", of {proof['items']} items")
            if any(found.values()) or proof["items"] < report["items"]:
                raise StackError(f"not everything is there: {proof}")
        with steps.step("memory") as say:
            say(_memory(installation))
    finally:
        with steps.step("down") as say:
            installation.down()
            say("nothing left")


def _memory(installation: Installation) -> str:
    """Memory that the containers use at the end, largest first."""
    used = {
        name: one.stats(stream=False, one_shot=True)["memory_stats"].get("usage", 0) / 2**20
        for name, one in installation.containers().items()
    }
    largest = sorted(used.items(), key=lambda pair: -pair[1])
    return f"{sum(used.values()):.0f} MiB in all; " + ", ".join(f"{name} {size:.0f}" for name, size in largest[:6])
