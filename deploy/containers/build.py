"""Images for tests: the public ones, or stand-ins made of Debian packages if those cannot be pulled; and our own.

The stand-ins have the variables, paths and commands of the public images, so the same things run on both.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy import images
from deploy.containers.engine import FOLDER, Engine
from deploy.images import ROOT, Image
from deploy.local import kafka
from deploy.local.children import StackError
from deploy.local.postgres import binaries

PULL_S: Final = 600.0
REACH_S: Final = 20.0
"""Seconds in which a registry must return an image's manifest, or it counts as unreachable."""
HERE: Final = ROOT / "deploy" / "images"
WHEELS: Final = ROOT / ".local" / "wheels"
STANDINS: Final = {"kafka": "goodfaith-kafka", "postgres": "goodfaith-postgres", "python": "goodfaith-debian"}


def all_of(engine: Engine) -> dict[str, str]:
    """Pull or build every image that tests run on; returns their names by environment variable.

    Raises:
        StackError: an image can be neither pulled nor built.
    """
    wanted = (images.POSTGRES, images.KAFKA, images.PYTHON)
    found: dict[str, str] = {}
    missing: list[Image] = []
    for image in wanted:
        # if one cannot be pulled, the others cannot either
        found[image.variable] = has(engine, image, pull_s=0 if missing else REACH_S)
        if not found[image.variable]:
            missing.append(image)
    found |= standins(engine, missing)
    own = os.environ.get("GOODFAITH_IMAGE") or project(engine, found[images.PYTHON.variable])
    return {**found, "GOODFAITH_IMAGE": own}


def has(engine: Engine, image: Image, *, pull_s: float = PULL_S) -> str:
    """The image's name if it is present or can be pulled, else an empty string.

    Args:
        pull_s: Seconds in which the registry must return the manifest; 0: do not pull.

    Raises:
        StackError: the environment names an image that cannot be pulled.
    """
    with contextlib.suppress(StackError):
        engine.run("docker", "image", "inspect", image.reference)
        return image.reference
    if image.variable in os.environ:
        engine.run("docker", "pull", "-q", image.reference, timeout_s=PULL_S)
        return image.reference
    try:
        # the small manifest shows whether the registry can be reached; the image may then take longer
        if pull_s:
            engine.run("docker", "manifest", "inspect", image.reference, timeout_s=pull_s)
            engine.run("docker", "pull", "-q", image.reference, timeout_s=PULL_S)
            return image.reference
    except StackError:
        pass
    return ""


def standins(engine: Engine, wanted: list[Image]) -> dict[str, str]:
    """Build stand-ins for public images from Debian packages; returns their names by environment variable."""
    if not wanted:
        return {}
    suite = _suite()
    bases = {
        "goodfaith-debian": "ca-certificates,python3,python3-venv",
        "goodfaith-java": "ca-certificates,default-jre-headless",
    }
    needed = {"goodfaith-debian": any(image.name in ("python", "postgres") for image in wanted)}
    needed["goodfaith-java"] = any(image.name == "kafka" for image in wanted)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda name: _base(engine, f"{name}:{suite}", suite, bases[name]),
                [n for n, yes in needed.items() if yes],
            )
        )
    made = {}
    for image in wanted:
        tag = f"{STANDINS[image.name]}:{suite if image.name == 'python' else image.default.rpartition(':')[2]}"
        if image.name == "kafka":
            _kafka(engine, tag, f"goodfaith-java:{suite}")
        elif image.name == "postgres":
            _postgres(engine, tag, f"goodfaith-debian:{suite}")
        made[image.variable] = tag
    return made


def _suite() -> str:
    """The Debian release for the stand-ins: this machine's if it runs Debian."""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        if release.get("ID") == "debian" and release.get("VERSION_CODENAME"):
            return release["VERSION_CODENAME"]
    return "bookworm"


def _base(engine: Engine, tag: str, suite: str, packages: str) -> None:
    with contextlib.suppress(StackError):
        engine.run("docker", "image", "inspect", tag)
        return
    if shutil.which("mmdebstrap") is None:
        raise StackError("public images cannot be had here, and mmdebstrap, which makes stand-ins, is missing")
    # unsafe-io: no fsync, since only the archive is kept. Manuals are removed last: Java's packages need their folder
    slim = [
        "--dpkgopt=force-unsafe-io",
        '--customize-hook=rm -rf "$1"/usr/share/man/* "$1"/usr/share/doc/* "$1"/usr/share/locale/*',
    ]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *slim, f"--include={packages}", suite, "-"]
    archive = FOLDER / f"{tag.replace(':', '-')}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("wb") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise StackError(f"mmdebstrap could not make {tag}:\n{done.stderr[-3000:]}")
        engine.run("docker", "import", "-c", "ENV LANG=C.UTF-8", str(archive), tag)
    finally:
        archive.unlink(missing_ok=True)


def _context(name: str) -> Path:
    folder = FOLDER / "context" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _kafka(engine: Engine, tag: str, base: str) -> None:
    context = _context("kafka")
    shutil.copytree(kafka.jars(), context / "jars")
    shutil.copy(HERE / "debian" / "kafka-run", context / "run")
    engine.build(HERE / "debian" / "Dockerfile.kafka", context, tag, BASE=base)
    shutil.rmtree(context)


def _postgres(engine: Engine, tag: str, base: str) -> None:
    context = _context("postgres")
    server = binaries().parent
    package = server.parent
    shutil.copytree(
        server, context / "server" / package.name / server.name, symlinks=True, ignore=shutil.ignore_patterns("include")
    )
    # the wheel's libraries are next to its package
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, context / "server" / libraries.name)
    shutil.copy(HERE / "debian" / "postgres-entrypoint", context / "entrypoint")
    engine.build(HERE / "debian" / "Dockerfile.postgres", context, tag, BASE=base)
    shutil.rmtree(context)


def project(engine: Engine, base: str) -> str:
    """Build the project's image on `base` without network, from hash-checked wheels fetched first; returns its name.

    Raises:
        StackError: a dependency could not be fetched, or the image could not be built.
    """
    python = engine.run(
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=python3",
        base,
        "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
    )
    fetch(python.strip())
    tag = f"goodfaith:{images.version()}"
    engine.build(
        HERE / "Dockerfile",
        ROOT,
        tag,
        BASE=base,
        PIP_NO_INDEX="1",
        VERSION=images.version(),
        REVISION=_revision(),
        CREATED=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    return tag


def fetch(python: str) -> None:
    """Fetch the packages that the image is built from, for this version of Python, into `.local/wheels`.

    Raises:
        StackError: a package cannot be fetched, or differs from its recorded hash.
    """
    WHEELS.mkdir(parents=True, exist_ok=True)
    for pins in (ROOT / "requirements.txt", HERE / "requirements-build.txt"):
        command = [*_pip(), "download", "--quiet", "--no-deps", "--require-hashes", "--python-version", python]
        done = subprocess.run(
            [*command, "-r", str(pins), "-d", str(WHEELS)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise StackError(f"pip could not fetch what {pins.name} names:\n{(done.stdout + done.stderr)[-3000:]}")


def _pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if shutil.which("uv"):
        return ["uv", "tool", "run", "pip"]
    raise StackError("pip is missing, with which wheels for the image are fetched: `make clean`, and again without uv")


def _revision() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
