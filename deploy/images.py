"""The images that installations and tests run on, each named only here.

Defaults are the official ones, pinned by version. To use another registry, version or digest
(`postgres:18.4@sha256:...`), set the image's variable; compose files and tests both read it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: What runs in it.
        default: Repository and version.
        variable: Environment variable that names another image.
    """

    name: str
    default: str

    @property
    def variable(self) -> str:
        """The environment variable that names another image."""
        return f"GOODFAITH_{self.name.upper()}_IMAGE"

    @property
    def reference(self) -> str:
        """The image to run: the one that the environment names, else the default."""
        return os.environ.get(self.variable) or self.default

    @property
    def substitution(self) -> str:
        """The same in the syntax of compose files."""
        return f"${{{self.variable}:-{self.default}}}"


KAFKA: Final = Image("kafka", "apache/kafka:4.3.1")
POSTGRES: Final = Image("postgres", "postgres:18.4")
PROMETHEUS: Final = Image("prometheus", "prom/prometheus:v3.13.3")
ALERTMANAGER: Final = Image("alertmanager", "prom/alertmanager:v0.34.1")
GRAFANA: Final = Image("grafana", "grafana/grafana:12.4.4")
PYTHON: Final = Image("python", "python:3.13-slim-bookworm")
"""The base of the project's own image (`deploy/images/Dockerfile`)."""
PUBLIC: Final = (KAFKA, POSTGRES, PROMETHEUS, ALERTMANAGER, GRAFANA, PYTHON)


def version() -> str:
    """The project's version, from its checkout.

    Raises:
        FileNotFoundError: this is an installed package without its checkout.
    """
    project: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return project


def own() -> Image:
    """The project's own image, of which every process is a command. `GOODFAITH_IMAGE` names another."""
    return _Own("goodfaith", f"goodfaith:{version()}")


class _Own(Image):
    @property
    def variable(self) -> str:
        return "GOODFAITH_IMAGE"
