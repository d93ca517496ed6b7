"""Checks the history of each process's pods against docs/how-to/deploy-on-kubernetes.md. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]
COMPONENT: Final = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Moment:
    """The pods of one process at one moment.

    Attributes:
        exist: All of them, terminating ones included.
        wanted: Those that are not terminating.
        serve: Those that are ready and not terminating.
    """

    exist: int
    wanted: int
    serve: int


def ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready and not terminating."""
    conditions = pod.get("status", {}).get("conditions", ())
    good = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return good and "deletionTimestamp" not in pod["metadata"]


def component(pod: Mapping[str, Any]) -> str:
    """The process that a pod runs."""
    return str(pod["metadata"].get("labels", {}).get(COMPONENT, ""))


def moments(before: Iterable[Document], events: Iterable[Document], process: str) -> Iterator[Moment]:
    """The pods of a process at the start, and after each event about one of them."""
    pods = {pod["metadata"]["uid"]: pod for pod in before if component(pod) == process}
    yield _moment(pods)
    for event in events:
        pod = event["object"]
        if component(pod) != process:
            continue
        if event["type"] == "DELETED":
            pods.pop(pod["metadata"]["uid"], None)
        else:
            pods[pod["metadata"]["uid"]] = pod
        yield _moment(pods)


def _moment(pods: Mapping[str, Document]) -> Moment:
    wanted = [pod for pod in pods.values() if "deletionTimestamp" not in pod["metadata"]]
    return Moment(len(pods), len(wanted), sum(map(ready, wanted)))


def rollout(seen: Iterable[Moment], way: str) -> str | None:
    """What went wrong in the rollout of a process; None if nothing did.

    Args:
        way: `one more first`, `one after the other` or `the old one ends first`.
    """
    first, *rest = seen
    number = first.serve
    if not rest:
        return "no pod changed"
    if rest[-1].serve != number:
        return f"{rest[-1].serve} serve at the end, {number} did before"
    least, most = min(one.serve for one in rest), max(one.wanted for one in rest)
    if way == "one more first":
        if least < number:
            return f"only {least} of {number} served for a while"
        if most != number + 1:
            return f"up to {most} were there instead of {number + 1}"
    elif way == "one after the other":
        if least != number - 1 or most > number:
            return f"{least} to {most} of {number} instead of one missing at a time"
    elif way == "the old one ends first":
        if (both := max(one.exist for one in rest)) > number:
            return f"{both} existed at the same time"
    else:
        raise ValueError(way)
    return None


def disruption(seen: Iterable[Moment], unavailable: int) -> str | None:
    """What went wrong while pods of a process were evicted; None if nothing did."""
    first, *rest = seen
    if rest and rest[-1].serve < first.serve:
        return f"{rest[-1].serve} serve at the end, {first.serve} did before"
    least = min([one.serve for one in rest], default=first.serve)
    return f"only {least} of {first.serve} served" if least < first.serve - unavailable else None


def scaling(steps: Sequence[tuple[int, float]], least: int, begun: float, wait_s: float, pause_s: float) -> str | None:
    """What went wrong while a process was scaled up; None if nothing did.

    Args:
        steps: New sizes and their times, which are cut to whole seconds.
        least: The size before.
        begun: When there was reason to scale up.
        wait_s: How long that reason must last.
        pause_s: How much time must pass between two steps.
    """
    sizes = [size for size, _ in steps]
    if sizes != list(range(least + 1, least + 1 + len(steps))) or not steps:
        return f"scaled from {least} to {sizes} instead of one by one"
    if (first := steps[0][1] - begun) < wait_s - 2:
        return f"one more after only {first:.0f} s"
    gaps = [after - before for (_, before), (_, after) in itertools.pairwise(steps)]
    return f"only {min(gaps):.0f} s between two steps" if gaps and min(gaps) < pause_s - 1 else None


def uneven(pods: Iterable[Document], zones: Mapping[str, str]) -> list[str]:
    """Processes that have several ready pods, all in one zone."""
    places: dict[str, list[str]] = {}
    for pod in pods:
        if ready(pod):
            places.setdefault(component(pod), []).append(zones[pod["spec"]["nodeName"]])
    return sorted(name for name, found in places.items() if len(found) > 1 and len(set(found)) == 1)


def differences(before: Mapping[str, Document], after: Mapping[str, Document]) -> list[str]:
    """Names of objects that differ in more than status, version and managed fields."""
    return sorted(name for name in before.keys() | after.keys() if _plain(before.get(name)) != _plain(after.get(name)))


def _plain(one: Document | None) -> Document | None:
    if one is None:
        return None
    meta = {key: value for key, value in one["metadata"].items() if key not in ("managedFields", "resourceVersion")}
    return {**{key: value for key, value in one.items() if key != "status"}, "metadata": meta}
