"""The load of drills: real notices, which flow while drills go on and can be paused."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from deploy.local.children import StackError
from labs.clients import Request
from labs.faults.load_run import LoadRun
from labs.faults.plan import REASONS, Claim, LoadPlan
from labs.faults.submitter import Submitter
from labs.notices import Notice

RATE: Final = 2.5
"""Items filed a second."""
NOTICES: Final = 60
"""Number of notices that are filed again and again."""
ITEMS: Final = 6_000
"""More than can be filed in 40 minutes, almost twice what all drills took."""


class NoticePlan(LoadPlan):
    """Real notices, filed again and again, each time with other ids for their listings."""

    def __init__(self, notices: Sequence[Notice], namespace: str, *, items: int = ITEMS) -> None:
        super().__init__(items, 1, namespace)
        self._notices = [one for one in notices if one.kind == "takedown" and 1 <= len(one.listings) <= 20]
        named = sum(len(one.listings) for one in self._notices)
        self._rounds = math.ceil(items / named)
        self.holders = sorted({self._holder(one) for one in self._notices})
        self._sellers = {
            self._listing(number, named.url): f"s-{namespace}-{named.seller}"
            for number in range(self._rounds)
            for one in self._notices
            for named in one.listings
        }
        self.sellers = sorted(set(self._sellers.values()))

    def _holder(self, notice: Notice) -> str:
        return f"h-{self.ns}-{notice.complainant}"

    def _listing(self, number: int, url: str) -> str:
        return f"{self.ns}-{number}x{url.rpartition('/')[2]}"

    def seller(self, listing: str) -> str:
        """The seller of a listing."""
        return self._sellers[listing]

    def listings(self) -> Iterator[str]:
        """All listings on the site."""
        return iter(self._sellers)

    def claims(self) -> Iterator[Claim]:
        """One claim for each notice."""
        for number, notice in itertools.product(range(self._rounds), self._notices):
            listings = dict.fromkeys(self._listing(number, one.url) for one in notice.listings)
            body = {
                "right": self.rights[self._holder(notice)],
                "reason": REASONS[number % len(REASONS)],
                "listings": [f"https://market.example/items/{listing}" for listing in listings],
            }
            key = f"{self.ns}.{number}.{notice.notice}"
            yield Claim(Request("submit_claim", self._holder(notice), key, body), tuple(listings))

    def reactions(self, claim: Claim, item: str, listing: str) -> list[tuple[float, Request]]:
        """As in other runs, but sooner, because each drill ends with an idle system."""
        return [(delay * 0.1, request) for delay, request in super().reactions(claim, item, listing)]


class NoticeLoad:
    """Files notices in a thread while drills go on, and keeps the outside record. It begins paused."""

    def __init__(self, run: LoadRun, rate: float = RATE) -> None:
        self.run = run
        self._rate = rate
        self._stop = threading.Event()
        claims = run.plan.claims()
        run.plan.claims = lambda: itertools.takewhile(lambda _: not self._stop.is_set(), claims)  # type: ignore[method-assign]
        self.submitter = Submitter(run.plan, run.settings, run.tokens, rate=0, step=lambda: None)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.submitter.run(lambda _: None)), name="load")
        self._thread.start()

    def resume(self) -> None:
        """Let notices flow.

        Raises:
            StackError: the notices are used up, or filing has failed.
        """
        self._check_alive()
        self.submitter.rate = self._rate

    def pause(self, timeout_s: float = 90.0) -> None:
        """Stop filing, and wait until every request is answered and nothing is in progress.

        Raises:
            TimeoutError: something still is in progress after `timeout_s` seconds.
            StackError: the notices are used up, or filing has failed.
        """
        self.submitter.rate = 0
        until = time.monotonic() + timeout_s
        while self.submitter.busy:
            self._check_alive()
            if time.monotonic() > until:
                raise TimeoutError("requests stay unanswered")
            time.sleep(0.1)
        self.run.settle(max(1.0, until - time.monotonic()))

    def _check_alive(self) -> None:
        if not self._thread.is_alive():
            raise StackError(f"the load has ended: {self.submitter.record.contradictions}")

    def close(self) -> None:
        """Stop filing, and close connections."""
        self._stop.set()
        self.submitter.rate = self._rate
        self._thread.join(60)
        self.run.close()
