"""Metrics read from the processes' own ports, for drills and benchmarks, which do not wait for a scrape."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deploy.local.processes import Process

TIMEOUT_S: Final = 10.0


def parsed(text: str) -> list[Sample]:
    """The samples of an exposition, in order."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def samples(process: Process) -> list[Sample]:
    """The samples that a process exports now.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    url = f"http://127.0.0.1:{process.metrics_port}/metrics"
    return parsed(httpx.get(url, timeout=TIMEOUT_S, trust_env=False).raise_for_status().text)


def total(processes: Iterable[Process], name: str) -> float:
    """The sum of a metric over all processes that answer."""
    found = 0.0
    for process in processes:
        with contextlib.suppress(httpx.HTTPError):
            found += sum(sample.value for sample in samples(process) if sample.name == name)
    return found
