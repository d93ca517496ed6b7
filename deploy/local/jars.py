"""Jars of the servers that local stacks and tests run: Maven dependencies, fetched once and checked by hash.

`python -m deploy.local.jars` fetches Kafka's. This module needs only the standard library, so that setup.sh can run it
while packages are installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.failures import Unavailable

KAFKA_VERSION = "4.3.1"
_CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = (
    _CHECKOUT / ".local" / "cache"
    if (_CHECKOUT / "pyproject.toml").exists()
    else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goodfaith"
)
"""Fetched jars: in the checkout, or in the user's cache if this is an installed package."""


@dataclass(frozen=True)
class Jars:
    """The jars that one server needs.

    Attributes:
        what: Its name, for messages.
        name: Its name and version, for the folder.
        source: Folder with `pom.xml` and `jars.sha256`.
    """

    what: str
    name: str
    source: Path

    @property
    def _pins(self) -> Path:
        return self.source / "jars.sha256"

    @property
    def folder(self) -> Path:
        """The folder of the fetched jars; named after version and pins, so a change of either fetches them again."""
        return CACHE / f"{self.name}-{hashlib.sha256(self._pins.read_bytes()).hexdigest()[:8]}"

    def fetched(self) -> Path:
        """The folder with the jars; fetched with Maven if missing.

        Raises:
            Unavailable: Maven is missing, the download failed, or a jar differs from its recorded hash.
        """
        if self.folder.is_dir():
            return self.folder
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another stack of this checkout may be fetching them
            if not self.folder.is_dir():
                self._fetch()
        return self.folder

    def _fetch(self) -> None:
        if shutil.which("mvn") is None:
            raise Unavailable(
                "Maven (mvn) is missing: `make setup` installs it; Debian and Ubuntu have the package maven"
            )
        fresh = self.folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(self.source / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"Maven could not fetch {self.what}'s jars:\n{(done.stdout + done.stderr)[-3000:]}")
        wanted = {name: digest for digest, name in (line.split() for line in self._pins.read_text().splitlines())}
        got = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in fresh.iterdir()}
        if wrong := sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name)):
            raise Unavailable(f"{self.what}'s jars differ from {self._pins.name}: {', '.join(wrong)}")
        fresh.rename(self.folder)


KAFKA = Jars("Kafka", f"kafka-{KAFKA_VERSION}", Path(__file__).resolve().parent)

if __name__ == "__main__":
    if not KAFKA.folder.is_dir():
        sys.stderr.write("fetching Kafka's jars (once, 54 MB)\n")
    KAFKA.fetched()
