"""Images for tests: the public ones where they can be had, else stand-ins of Debian's packages; and the project's own on them.

What runs is the same in both cases: variables, paths and commands of the stand-ins are those of the public images.
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
"""How long a registry may take to say what an image is made of, until it is taken for one that cannot be reached."""
HERE: Final = ROOT / "deploy" / "images"
WHEELS: Final = ROOT / ".local" / "wheels"
STANDINS: Final = {"kafka": "goodfaith-kafka", "postgres": "goodfaith-postgres", "python": "goodfaith-debian"}


def all_of(engine: Engine) -> dict[str, str]:
    """Have every image that tests run on; returns their names by the variables that say so.

    Raises:
        StackError: one can neither be had nor made.
    """
    wanted = (images.POSTGRES, images.KAFKA, images.PYTHON)
    found: dict[str, str] = {}
    missing: list[Image] = []
    for image in wanted:
        # where one cannot be had, the others cannot either
        found[image.variable] = has(engine, image, pull_s=0 if missing else REACH_S)
        if not found[image.variable]:
            missing.append(image)
    found |= standins(engine, missing)
    own = os.environ.get("GOODFAITH_IMAGE") or project(engine, found[images.PYTHON.variable])
    return {**found, "GOODFAITH_IMAGE": own}


def has(engine: Engine, image: Image, *, pull_s: float = PULL_S) -> str:
    """The image's name, if it is there or can be pulled; else nothing. One that the environment names must be had.

    Args:
        pull_s: How long it may take until the first of it arrives; 0: it is not pulled.

    Raises:
        StackError: the environment names one that cannot be had.
    """
    with contextlib.suppress(StackError):
        engine.run("docker", "image", "inspect", image.reference)
        return image.reference
    if image.variable in os.environ:
        engine.run("docker", "pull", "-q", image.reference, timeout_s=PULL_S)
        return image.reference
    try:
        # what says whether the registry can be reached is small; then the image may take its time
        if pull_s:
            engine.run("docker", "manifest", "inspect", image.reference, timeout_s=pull_s)
            engine.run("docker", "pull", "-q", image.reference, timeout_s=PULL_S)
            return image.reference
    except StackError:
        pass
    return ""


def standins(engine: Engine, wanted: list[Image]) -> dict[str, str]:
    """Images of Debian's packages in the public ones' place."""
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
    """Debian's release: this machine's, where it is one of Debian's."""
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
    # no waiting for the disk: an archive is made of it, or nothing; manuals go last, Java's packages want their folder
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
    # the wheel's libraries lie beside its package
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, context / "server" / libraries.name)
    shutil.copy(HERE / "debian" / "postgres-entrypoint", context / "entrypoint")
    engine.build(HERE / "debian" / "Dockerfile.postgres", context, tag, BASE=base)
    shutil.rmtree(context)


def project(engine: Engine, base: str) -> str:
    """Build the project's image on `base`, without network: of hash-checked wheels that pip has fetched here; its name.

    Raises:
        StackError: a dependency could not be fetched, or the image not be built.
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
        HERE / "Dockerfile", ROOT, tag, BASE=base, PIP_NO_INDEX="1", VERSION=images.version(), REVISION=_revision(),
        CREATED=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    return tag


def fetch(python: str) -> None:
    """Have pip fetch what the image is built of, for this version of Python, into `.local/wheels`.

    Raises:
        StackError: something cannot be fetched, or differs from its recorded hash.
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
