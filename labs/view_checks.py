"""The reconciliation of a local stack's stream views."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections import Counter

import httpx

from deploy.local import fleet
from deploy.local.processes import Fleet
from services.streams.reconcile import TRUTHS


def compared(processes: Fleet, since: dt.datetime, *, within_s: float) -> dict[str, int]:
    """Wait until every view was compared with the database on every partition; returns each view's total difference.

    Args:
        processes: Fleet of a local stack.
        since: Wall time; earlier comparisons do not count.
        within_s: Seconds to wait.

    Raises:
        TimeoutError: not all were compared; the message says how many.
    """
    wanted = len(TRUTHS) * fleet.settings_of(processes.stack).partitions
    headers = {"authorization": f"Bearer {processes.stack.secret('internal_token')}"}
    until = time.monotonic() + within_s
    while True:
        found: dict[tuple[str, int], int] = {}
        for process in processes:
            if not process.name.startswith("streams."):
                continue
            scheme = "http" if processes.stack.secured is None else "https"
            url = f"{scheme}://127.0.0.1:{process.env['GOODFAITH_HTTP_PORT']}/internal/streams/status"
            with contextlib.suppress(httpx.HTTPError):
                answer = (
                    httpx.get(url, headers=headers, timeout=30, trust_env=False, verify=fleet.trust(processes.stack))
                    .raise_for_status()
                    .json()
                )
                for one in answer["compared"]:
                    if dt.datetime.fromisoformat(one["wall"]) > since:
                        found[one["view"], one["partition"]] = one["difference"]
        if len(found) == wanted:
            differ: Counter[str] = Counter()
            for (view, _), difference in found.items():
                differ[view] += difference
            return dict(differ)
        if time.monotonic() > until:
            raise TimeoutError(f"{len(found)} of {wanted} views of partitions were compared within {within_s:g} s")
        time.sleep(0.2)
