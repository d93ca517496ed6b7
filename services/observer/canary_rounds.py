"""The canary: sends a marked claim through all services each minute, over the public API, and reports how that went.

One round: file a claim against the canary's own listing; wait until it is recorded, the listing is down, the seller
is notified and the item is handled; withdraw it; wait until it is withdrawn and the listing is shown again. A round
that is not complete in time, or leaves this path, has failed; its claim is withdrawn before the next one is filed.

The canary uses the API like any client and knows no more than one, so it notices a fault wherever that is. It counts
in wall time: a round succeeds even while business time stands still, as in a replay.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Literal

import httpx
import structlog

from shared import metrics, site_links
from shared.callers import trust
from shared.events import ENDED, State
from shared.runtime.health import Health
from shared.settings import Settings

log = structlog.get_logger(__name__)

Step = Literal["filed", "recorded", "down", "notified", "handled", "asked", "withdrawn", "restored"]
Result = Literal["ok", "refused", "astray", "late"]
STEPS: Final[tuple[Step, ...]] = (
    "filed",
    "recorded",
    "down",
    "notified",
    "handled",
    "asked",
    "withdrawn",
    "restored",
)
"""``asked``: the withdrawal was accepted."""
RESULTS: Final[tuple[Result, ...]] = ("ok", "refused", "astray", "late")
"""``refused``: by the API; ``astray``: in a state that no canary reaches; ``late``: not within the round's time."""
RIGHT: Final = "r-canary"
"""Intake registers it when it starts (``services.intake.canary``)."""
POLL_S: Final = 0.25
ON_ITS_WAY: Final = frozenset({State.RECEIVED, State.NOTIFIED})
"""States in which an item may be on its way."""

COMPLETED = metrics.gauge(
    "goodfaith_canary_last_completed_timestamp_seconds",
    "When the last successful round ended (wall time); 0: none since the process started.",
    of="canary",
    do="`time() - x` above five minutes: [the canary](../how-to/canary.md#when-a-round-fails)",
)
DURATION = metrics.histogram(
    "goodfaith_canary_duration_seconds",
    "Wall time of successful rounds.",
    buckets=(1, 2, 3, 5, 8, 10, 15, 20, 30, 45, 60, 90, 120, 300),
    of="canary",
    do="grows: the metrics of the stages show which one is slow",
)
STEPS_TOTAL = metrics.counter(
    "goodfaith_canary_steps_total",
    "Steps of canary rounds that ended, by result.",
    {"step": STEPS, "result": RESULTS},
    of="canary",
    do="the step whose `late` grows names the service to check: [the canary](../how-to/canary.md#when-a-round-fails)",
)


class Failed(Exception):
    """A round failed in a step. The message says why, in ids and codes only."""

    def __init__(self, step: Step, result: Result, why: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step
        self.result = result


@dataclass(frozen=True, slots=True)
class RoundState:
    """What the API says of the item, and the HTTP status of the listing's page; 0: no answer; None: not looked at."""

    item: Mapping[str, Any]
    page: int | None = None

    @property
    def state(self) -> str:
        """The item's state."""
        return str(self.item["state"])


def reached(step: Step, seen: RoundState) -> bool:
    """Whether what a step waits for has happened."""
    item, page = seen.item, seen.page
    if step == "recorded":
        return bool(item["revision"])
    if step == "down":
        return bool(item["held"]) and (page is None or 400 <= page < 500)
    if step == "notified":
        return item["noticed_at"] is not None
    if step == "handled":
        return item["handled_at"] is not None
    if step == "withdrawn":
        return seen.state == State.WITHDRAWN
    return page is None or page == 200


def astray(step: Step, seen: RoundState) -> bool:
    """Whether the item is where no canary should be: a duplicate, refused, or before a reviewer."""
    return seen.state not in (ON_ITS_WAY | {State.WITHDRAWN} if step in ("withdrawn", "restored") else ON_ITS_WAY)


def _nap(seconds: float) -> bool:
    time.sleep(seconds)
    return True


class Canary:
    """Runs rounds over HTTP, one after the other.

    Args:
        sleep: waits, and returns whether to continue.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        intake: httpx.Client | None = None,
        pages: httpx.Client | None = None,
        sleep: Callable[[float], bool] = _nap,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Raises:
            ValueError: there is no token.
        """
        if settings.canary_token is None:
            raise ValueError("GOODFAITH_CANARY_TOKEN: needed by the canary")
        self._settings = settings
        headers = {"authorization": f"Bearer {settings.canary_token.get_secret_value()}"}
        self._intake = intake or httpx.Client(
            base_url=settings.intake_url,
            timeout=10,
            trust_env=False,
            verify=trust(settings.intake_url, settings.internal_ca),
        )
        self._intake.headers.update(headers)
        self._pages = pages or httpx.Client(timeout=5, trust_env=False, follow_redirects=False)
        self._sleep = sleep
        self._clock = clock
        self._clean = False
        self.trace = ""

    def close(self) -> None:
        """Close connections."""
        self._intake.close()
        self._pages.close()

    def round(self) -> float:
        """Run one round, and count its steps. Returns how many seconds it took.

        Raises:
            Failed: it did not succeed.
        """
        self.trace = secrets.token_hex(16)
        begun = self._clock()
        until = begun + self._settings.canary_timeout_s
        clean, self._clean = self._clean, False
        step: Step = "filed"
        try:
            if not clean:
                self._tidy(until)
            filed = self._post(step, "/v1/claims", self._claim(), until)
            item = str(filed["items"][0]["item"])
            for step in STEPS:
                if step == "asked":
                    self._post(step, f"/v1/items/{item}/withdraw", {"ground": "error"}, until)
                elif step != "filed":
                    self._wait(step, item, until)
                if step != "restored" or self._settings.canary_page:
                    STEPS_TOTAL.labels(step, "ok").inc()
        except Failed as failed:
            STEPS_TOTAL.labels(failed.step, failed.result).inc()
            raise
        self._clean = True
        took = self._clock() - begun
        DURATION.observe(took)
        COMPLETED.set(time.time())
        return took

    def _claim(self) -> dict[str, Any]:
        link = site_links.of(self._settings.site_links).link(self._settings.canary_listing)
        return {"right": RIGHT, "reason": "copied_image_or_text", "listings": [link]}

    def _tidy(self, until: float) -> None:
        """Withdraw what an earlier round left open; the next claim would only be its duplicate."""
        for claim in self._get("/v1/claims?limit=20", until)["items"]:
            if set(claim["states"]) - ENDED:
                self._post("filed", f"/v1/claims/{claim['id']}/withdraw", {"ground": "error"}, until)
                for item in self._get(f"/v1/claims/{claim['id']}/items", until)["items"]:
                    self._settle(item["id"], until)

    def _settle(self, item: str, until: float) -> None:
        while True:
            seen = self._look("filed", item, until)
            if seen.state in ENDED:
                return
            self._rest("filed", f"{item} of an earlier round is {seen.state}", until)

    def _wait(self, step: Step, item: str, until: float) -> None:
        """Wait until the step has happened."""
        while True:
            seen = self._look(step, item, until)
            if astray(step, seen):
                raise Failed(step, "astray", f"{item} is {seen.state}")
            if reached(step, seen):
                return
            self._rest(step, f"{item} is {seen.state}, page {seen.page}", until)

    def _look(self, step: Step, item: str, until: float) -> RoundState:
        found = self._ask(step, lambda: self._intake.get(f"/v1/items/{item}"), until)
        page: int | None = None
        if step in ("down", "restored") and self._settings.canary_page:
            try:
                page = self._pages.get(self._settings.canary_page).status_code
            except httpx.HTTPError:
                page = 0
        return RoundState(found, page)

    def _get(self, path: str, until: float) -> Any:
        return self._ask("filed", lambda: self._intake.get(path), until)

    def _post(self, step: Step, path: str, body: Mapping[str, Any], until: float) -> Any:
        # one key for all attempts: a request whose answer was lost is not accepted twice
        key = {"idempotency-key": f"canary-{uuid.uuid4().hex}"}
        # a whole round is one trace, if traces are on
        key["traceparent"] = f"00-{self.trace}-{secrets.token_hex(8)}-01"
        return self._ask(step, lambda: self._intake.post(path, json=body, headers=key), until)

    def _ask(self, step: Step, call: Callable[[], httpx.Response], until: float) -> Any:
        """The API's answer. Asks again while the API cannot give one.

        Raises:
            Failed: the API refuses, or the round's time is over.
        """
        while True:
            try:
                answer = call()
                if answer.status_code < 300:
                    return answer.json()
                why = f"intake answers {answer.status_code}"
                if answer.status_code < 500 and answer.status_code != 429:
                    raise Failed(step, "refused", why)
            except (httpx.HTTPError, ValueError) as error:
                why = f"intake does not answer: {type(error).__name__}"
            self._rest(step, why, until)

    def _rest(self, step: Step, why: str, until: float) -> None:
        if self._clock() + POLL_S > until:
            raise Failed(step, "late", why)
        if not self._sleep(POLL_S):
            raise Failed(step, "late", "stopped")


def run(settings: Settings) -> None:
    """Run rounds until SIGTERM. An unfinished round is left as it is; the next start withdraws its claim."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    health = Health("canary", stuck_after_s=max(120.0, 2 * settings.canary_timeout_s))
    server = health.serve(settings)
    log.info("started", worker="canary", health_port=server.server_address[1], listing=settings.canary_listing)

    def sleep(seconds: float) -> bool:
        health.progress()
        return not stop.wait(seconds)

    canary = Canary(settings, sleep=sleep)
    health.ready()
    said = ""
    while not stop.is_set():
        begun = time.monotonic()
        health.progress()
        try:
            took = canary.round()
            if said:
                log.info("canary succeeds again", seconds=round(took, 1))
            said = ""
        except Failed as failed:
            if not stop.is_set():
                if failed.step != said:
                    log.warning(
                        "canary failed",
                        step=failed.step,
                        result=failed.result,
                        error=str(failed),
                        trace_id=canary.trace,
                    )
                said = failed.step
        stop.wait(max(begun + settings.canary_every_s - time.monotonic(), POLL_S))
    canary.close()
    server.shutdown()
