"""The installed package runs the local stack and the demo, from an empty folder and without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy import images
from deploy.local.jars import CACHE
from tools import supply

PACKAGES = ("services", "shared", "labs", "deploy")
CHECKOUT_ONLY = {"deploy/local/setup.sh", "deploy/prometheus/prometheus.yml"}
"""Files that are not needed at run time."""

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and an empty folder to work in."""

    source: Path
    wheel: Path
    program: Path
    folder: Path

    def run(self, *words: str) -> str:
        """What `goodfaith` prints; only the cache of jars is shared with the checkout."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        done = subprocess.run([self.program, *words], cwd=self.folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def facts(self, *words: str) -> dict[str, Any]:
        """The JSON object that `goodfaith ... --json` prints as its last line."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json").splitlines()[-1])
        return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("installed")
    source, folder = place / "source", place / "empty"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "secrets", ".env")
        shutil.copytree(supply.ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(supply.ROOT / name, source)
    pins = supply.pins((supply.ROOT / "requirements-dev.txt").read_text())
    constraints = place / "constraints.txt"
    constraints.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in pins if pin.applies))

    venv.create(place / "venv", with_pip=True)
    pip = [place / "venv" / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", place, source], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "install", "--constraint", constraints, f"{wheel}[local]"], check=True)

    (folder / "cache").mkdir(parents=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "goodfaith").symlink_to(CACHE)
    return Installed(source, wheel, place / "venv" / "bin" / "goodfaith", folder)


def test_the_wheel_has_every_file_of_its_packages_and_nothing_else(installed: Installed) -> None:
    names = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)
    packaged = {Path(name).parent for name in names} - {Path("deploy")}
    there = {
        path.relative_to(installed.source).as_posix()
        for folder in packaged
        for path in (installed.source / folder).iterdir()
        if path.is_file()
    }
    assert there - names == CHECKOUT_ONLY
    assert not [name for name in names if "secrets/" in name]


def test_the_command_line_works(installed: Installed) -> None:
    assert installed.run("--version") == f"goodfaith {images.version()}\n"
    assert "demo" in installed.run("--help")


def test_it_runs_the_local_stack(installed: Installed) -> None:
    stack = ("--stack", "packaged")
    try:
        assert installed.facts("up", "--no-observe", *stack)["intake"].startswith("http://127.0.0.1:")
        assert all(process["ready"] for process in installed.facts("status", *stack)["processes"])
    finally:
        installed.run("down", "--destroy", "--yes", *stack)


def test_it_runs_the_demo(installed: Installed) -> None:
    facts = installed.facts("demo", "--limit", "20", "--no-keep")
    assert facts["lost"] == facts["doubled"] == facts["problems"] == 0
    assert facts["items"] > 0
    assert facts["population"]["items"] > 0
