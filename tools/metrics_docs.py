"""``python -m tools.metrics_docs > docs/reference/metrics.md``: every metric of every process, from the declarations.

A test fails when the document is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from shared.metrics import WORKERS, Declared, Values, load

HEAD: Final = """# Metrics

Generated from the declarations: `python -m tools.metrics_docs > docs/reference/metrics.md`.

Prometheus text, at `/metrics` of each process's health port ([operating.md](operating.md#health)). Base units. Counters end in `_total`
and are added up over processes; timestamps are seconds since 1970, so that `time() - x` ages by itself when a process is stuck; those
that say *business time* are in that, not in wall time ([the clock](operating.md#the-clock)).
No id of a party, claim or item is ever a label. A label's values are all that there are, and such series begin at 0 with the process;
where values are bounded but not known in the code, it says what they are. Label `worker` is the worker's name, `tier` the lane.

Prometheus' label `job` is the process, as in `deploy/local/fleet.py`; `instance` one of its kind.
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
    """The heading that a metric stands under: its service's."""
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
    """The document."""
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
            parts.append(
                f"\n{', '.join(f'`{name}`' for name in WORKERS)}. In the column *process* only what exports it besides.\n"
            )
        parts.append("\n| metric | kind | means | labels | process | what to do |\n|---|---|---|---|---|---|\n")
        for metric in found:
            shown = [f"`{name}`" for name in metric.processes if title != "Every worker" or name not in WORKERS]
            parts.append(_row(metric, shown) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document(load()))
