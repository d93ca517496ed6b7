"""``python -m tools.metrics_docs > docs/reference/metrics.md``: documents every metric, from the declarations.

A test fails if the document is stale.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import Final

from shared.metrics import WORKERS, Declared, Values, load

HEAD: Final = """# Metrics

Every metric of every process, for operators. Generated from the declarations:
`python -m tools.metrics_docs > docs/reference/metrics.md`.

Each process serves Prometheus text at `/metrics` of its [health port](processes.md#health-endpoints). Units are base
units. Counters end in `_total`; add them up over processes. Timestamps are seconds since 1970, so `time() - x` keeps
growing when a process is stuck. Those that say *business time* are in [that](../how-to/clock.md), not in wall time.

The id of a party, claim or item is never a label. The values listed for a label are all that exist, and such series
start at 0 with the process. Where the values are bounded but not known in the code, the table says what they are. The
label `worker` is the worker's name, `tier` the lane.

Prometheus's label `job` is the process, as in `deploy/local/fleet.py`; `instance` is one of its kind.
"""
_TITLES: Final = {
    "intake": "Intake",
    "verification": "Verification",
    "enforcement": "Enforcement",
    "notification": "Notification",
    "streams": "Streams",
    "watch": "Watch",
    "canary": "Canary",
    "marketplace": "Marketplace (demo)",
    "mailbox": "Mailbox (demo)",
}


def section(metric: Declared) -> str:
    """The heading of a metric: that of its service."""
    if set(WORKERS) <= set(metric.processes):
        return "Every worker"
    name = metric.processes[0].partition("-")[0]
    return _TITLES.get(name, name.capitalize())


def _labels(metric: Declared) -> str:
    return "; ".join(
        f"`{label}`: {values.text if isinstance(values, Values) else ', '.join(f'`{value}`' for value in values)}"
        for label, values in metric.labels.items()
    )


def _row(metric: Declared, shown: Iterable[str]) -> str:
    processes = ", ".join(shown) or "-"
    cells = (f"`{metric.name}`", metric.kind, metric.means, _labels(metric) or "-", processes, metric.do)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def document(metrics: Mapping[str, Declared]) -> str:
    """The whole document, as Markdown."""
    sections: dict[str, list[Declared]] = {"Every worker": []}
    for title in _TITLES.values():
        sections[title] = []
    for _, metric in sorted(metrics.items()):
        sections.setdefault(section(metric), []).append(metric)
    parts = [HEAD]
    for title, found in sections.items():
        if not found:
            continue
        parts.append(f"\n## {title}\n")
        if title == "Every worker":
            listed = ", ".join(f"`{name}`" for name in WORKERS) + ". The column *process* lists further processes."
            parts.append(f"\n{textwrap.fill(listed, 118, break_on_hyphens=False)}\n")
        parts.append("\n| metric | kind | means | labels | process | what to do |\n|---|---|---|---|---|---|\n")
        for metric in found:
            shown = [f"`{name}`" for name in metric.processes if title != "Every worker" or name not in WORKERS]
            parts.append(_row(metric, shown) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document(load()))
