"""The files that are made of the rules."""

from __future__ import annotations

from deploy.prometheus.cases import tests
from deploy.prometheus.model import Pace, dump
from deploy.prometheus.rules import groups

_COMMENT = "Written by `python -m deploy.prometheus` from deploy/prometheus/rules.py and slo.toml: change those."


def files(pace: Pace) -> dict[str, str]:
    """Text by file name, relative to the folder: `rules/*.yaml`, and `tests/*.yaml` (ordinary pace only)."""
    written = {
        f"rules/{name}.yaml": dump({"groups": [group.plain(pace) for group in those]}, _COMMENT)
        for name, those in groups(pace).items()
    }
    return written | (tests(pace) if pace.speed == 1 else {})
