"""Compares an exposition with the declarations of `shared.metrics`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from shared.metrics import Declared, Values

IDS = re.compile(r"\b[a-z]-[0-9A-HJKMNP-TV-Z]{20,}|^(h|s|u|r)-[a-z]|.@")
SERIES_MAX = 5_000
CLIENT = ("python_", "process_")
"""Prefixes of the client library's own metrics."""


def findings(text: str, known: Mapping[str, Declared], process: str) -> list[str]:
    """What is wrong with an exposition.

    Args:
        text: the exposition, in Prometheus' text format.
        known: all declarations, by name.
        process: the kind of process, as in the fleet.
    """
    found: list[str] = []
    series = 0
    present: set[tuple[str, tuple[str, ...]]] = set()
    for family in text_string_to_metric_families(text):
        series += len(family.samples)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        declared = known.get(name)
        if declared is None:
            if not name.startswith(CLIENT):
                found.append(f"{name} is not declared")
            continue
        if process not in declared.processes:
            found.append(f"{name} is not declared for {process}")
        if family.type != declared.kind:
            found.append(f"{name} is a {family.type}, declared as {declared.kind}")
        for sample in family.samples:
            labels = {label: value for label, value in sample.labels.items() if label != "le"}
            if set(labels) != set(declared.labels):
                found.append(f"{name} has the labels {sorted(labels)}, declared are {sorted(declared.labels)}")
                continue
            present.add((name, tuple(labels[label] for label in declared.labels)))
            for label, value in labels.items():
                values = declared.labels[label]
                if not (values.matches(value) if isinstance(values, Values) else value in values):
                    found.append(f"{name}: {label}={value!r} is not declared")
                if IDS.search(value):
                    found.append(f"{name}: {label}={value!r} looks like an id")
    shown = {name for name, _ in present}
    for declared in known.values():
        if process not in declared.processes:
            continue
        if declared.name not in shown:
            found.append(f"{declared.name} has no series")
        found += (
            f"{declared.name}{values} does not begin at 0"
            for values in declared.series
            if (declared.name, values) not in present
        )
    if series >= SERIES_MAX:
        found.append(f"{series} series")
    return list(dict.fromkeys(found))
