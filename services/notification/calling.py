"""Calls webhooks from an event loop on its own thread: many calls at a time, each bounded in time and size.

``shared.outbound`` decides where a call may go. It checks the URL, every address that the host name resolves to, and
again the address of each socket; there is no other way out of this module. A redirect counts as an answer that is not
2xx, proxy settings of the environment are ignored, and an answer's body is read only as far as needed to keep the
connection.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import ipaddress
import socket
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import structlog
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import TraceConfig
from yarl import URL

from services.notification import circuit, payload, retrying
from services.notification.circuit import Circuit
from services.notification.render import Rendered
from services.notification.retrying import Answer
from services.notification.types import Message
from services.notification.webhook_store import DueDelivery
from shared import outbound
from shared.outbound import Names, Rules, Unfit
from shared.settings import Settings

log = structlog.get_logger(__name__)

READ_MOST: Final = 4096
"""Bytes of an answer's body that are read. After a longer body the connection is closed."""
READ_S: Final = 1.0
"""Seconds allowed for the body once the status is known."""
HEAD_MOST: Final = 65_536
"""Bytes that may arrive before the head of the final answer is complete. Limits interim (1xx) answers."""
KEPT: Final = 2000
"""Most hosts to which a connection is kept open."""
_KEEP_S: Final = 15.0


class PrivateAddress(OSError):
    """A socket would have connected to an address that may not be called."""


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp to addresses that may be called. aiohttp itself looks nothing up."""

    def __init__(self, rules: Rules, names: Names) -> None:
        self._rules = rules
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            OSError: the name has no address, or one that may not be called.
        """
        target = outbound.Target("", host, port, None)
        try:
            found = await outbound.public(target, self._rules, self._names)
        except Unfit as unfit:
            raise PrivateAddress(unfit.reason) if unfit.reason == "url_private" else OSError(unfit.reason) from None
        return [
            ResolveResult(
                hostname=host,
                host=str(one),
                port=port,
                family=socket.AF_INET if one.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for one in found
        ]

    async def close(self) -> None:
        """Nothing to close."""


def opener(rules: Rules) -> Callable[[Any], socket.socket]:
    """A socket factory that refuses addresses that may not be called."""

    def make(info: Any) -> socket.socket:
        family, kind, proto, _, address = info
        if not outbound.allowed(ipaddress.ip_address(address[0]), rules):
            raise PrivateAddress("url_private")
        return socket.socket(family, kind, proto)

    return make


class _Bounded(ResponseHandler):
    """Aborts a connection that sends more than ``HEAD_MOST`` bytes without a final answer.

    aiohttp itself would go on reading interim answers on the shared loop for as long as they arrive.
    """

    _came = 0
    _answered = False
    _broken = False

    def set_response_params(self, **values: Any) -> None:
        """Called when a request begins."""
        self._came, self._answered = 0, False
        super().set_response_params(**values)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called when a head is complete."""
        self._answered = self._answered or data[0].code >= 200
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called when bytes arrive."""
        if self._broken:
            return
        self._came += len(data)
        super().data_received(data)
        if not self._answered and self._came > HEAD_MOST:
            self._broken = True
            self.set_exception(aiohttp.ServerDisconnectedError())
            if self.transport is not None:
                self.transport.abort()


@dataclass(slots=True)
class Call:
    """A delivery ready to go. It is signed only when called, because the signature covers the time of the call."""

    due: DueDelivery
    message: Message
    raw: bytes
    digest: str
    shown: Rendered
    """Template data, without the text."""


@dataclass(slots=True)
class CallBatch:
    """The deliveries for one endpoint, in order, ``room`` at a time. After the first failure the rest is not sent."""

    endpoint: str
    party: str
    generation: int
    circuit: Circuit
    url: str
    secrets: Sequence[str]
    calls: deque[Call] = field(default_factory=deque)
    until: float = 0.0
    """Monotonic time after which no call begins, because the lease might expire during it."""
    gone: bool = False
    """The endpoint answered 410."""


@dataclass(frozen=True, slots=True)
class ChallengeCall:
    """A call that asks the owner of webhook ``endpoint`` to confirm it, for the ``ask``-th time."""

    endpoint: str
    ask: int
    url: str
    secrets: Sequence[str]
    raw: bytes

    @property
    def id(self) -> str:
        """The message id; the same for each call with the same code."""
        return f"{self.endpoint}.{self.ask}"


@dataclass(slots=True)
class CallResult:
    """The result of a call."""

    batch: CallBatch
    call: Call
    answer: Answer
    at: dt.datetime
    """This process's wall time, only for the log of tries."""


@dataclass(slots=True)
class BatchEnded:
    """A batch has ended. Its endpoint has to be given back, and so do the calls that were not tried."""

    batch: CallBatch


class Caller:
    """Runs the event loop on its own thread. ``drain`` returns the results.

    Args:
        names: the resolver; tests pass one with their own zone.
        after_call: called on the loop's thread after each call; tests kill the process there.
    """

    def __init__(
        self, settings: Settings, *, names: Names | None = None, after_call: Callable[[], None] | None = None
    ) -> None:
        self._settings = settings
        self._rules = Rules.of(settings)
        self._names = names or outbound.Dns(settings.webhook_timeout_s / 3)
        self._after_call = after_call or (lambda: None)
        self._out: deque[CallResult | BatchEnded] = deque()
        self._challenged: deque[tuple[ChallengeCall, Answer]] = deque()
        self.news = threading.Event()
        """Set when there may be something to drain."""
        self._hosts: OrderedDict[str, float] = OrderedDict()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[str, CallBatch] = {}
        self._session: aiohttp.ClientSession | None = None
        self._began = threading.Event()
        self._thread.start()
        self._began.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._begin())
        self._began.set()
        self._loop.run_forever()
        self._loop.close()

    async def _begin(self) -> None:
        total = self._settings.webhook_timeout_s
        context = ssl.create_default_context(cafile=self._settings.webhook_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        trace = TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        connector = aiohttp.TCPConnector(
            # the number of calls at a time is limited where flights are created
            limit=0,
            resolver=GuardedResolver(self._rules, self._names),
            socket_factory=opener(self._rules),
            ssl=context,
            keepalive_timeout=_KEEP_S,
            ttl_dns_cache=10,
        )
        connector._factory = functools.partial(_Bounded, loop=self._loop)  # type: ignore[assignment] # partial is invariant
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total, connect=total / 3, sock_connect=total / 3),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2 * READ_MOST,
            max_line_size=4096,
            max_field_size=4096,
            trace_configs=[trace],
        )

    def start(self, batches: Sequence[CallBatch]) -> None:
        """Start calling. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._start, list(batches))

    def drain(self) -> list[CallResult | BatchEnded]:
        """The results since the last call."""
        self.news.clear()
        found = []
        while self._out:
            found.append(self._out.popleft())
        return found

    def challenge(self, calls: Sequence[ChallengeCall]) -> None:
        """Call each unconfirmed webhook once. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._start_challenges, list(calls))

    def challenge_answers(self) -> list[tuple[ChallengeCall, Answer]]:
        """The answers to challenges since the last call."""
        found = []
        while self._challenged:
            found.append(self._challenged.popleft())
        return found

    def close(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds for calls under way, then cancel them."""
        until = time.monotonic() + timeout_s
        while self._tasks and time.monotonic() < until:
            time.sleep(0.01)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            # the loop closes connections in its next iterations
            await asyncio.sleep(0.05)

    def stop_calls(self) -> None:
        """Start no further call of any batch. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._clear)

    def _clear(self) -> None:
        for batch in self._batches.values():
            batch.until = 0.0

    def _start(self, batches: Sequence[CallBatch]) -> None:
        for batch in batches:
            self._batches[batch.endpoint] = batch
            self._task(self._go(batch))

    def _start_challenges(self, calls: Sequence[ChallengeCall]) -> None:
        for call in calls:
            self._task(self._challenge(call))

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _challenge(self, call: ChallengeCall) -> None:
        self._challenged.append((call, await self._call(call, call.id, call.raw)))

    async def _go(self, batch: CallBatch) -> None:
        now = dt.datetime.now(dt.UTC)
        lanes = max(1, min(circuit.room(batch.circuit, now), len(batch.calls)))
        try:
            await asyncio.gather(*(self._lane(batch) for _ in range(lanes)))
        finally:
            self._batches.pop(batch.endpoint, None)
            self._out.append(BatchEnded(batch))
            self.news.set()

    async def _lane(self, batch: CallBatch) -> None:
        while batch.calls and time.monotonic() < batch.until:
            call = batch.calls.popleft()
            answer = await self._call(batch, call.due.message, call.raw)
            self._after_call()
            batch.gone = batch.gone or answer.outcome == "gone"
            self._out.append(CallResult(batch, call, answer, dt.datetime.now(dt.UTC)))
            self.news.set()
            if answer.outcome != "delivered":
                batch.until = 0.0

    async def _call(self, to: CallBatch | ChallengeCall, id: str, raw: bytes) -> Answer:
        assert self._session is not None
        began = time.monotonic()
        sent: dict[str, bool] = {}

        def took() -> int:
            return int((time.monotonic() - began) * 1000)

        try:
            target = outbound.target_of(to.url, self._rules)
            head = payload.headers(id, raw, to.secrets, dt.datetime.now(dt.UTC))
            head["accept-encoding"] = "identity"
            if not self._keeps(f"{target.host}:{target.port}"):
                head["connection"] = "close"
            async with self._session.post(
                URL(target.url, encoded=True),
                data=raw,
                headers=head,
                allow_redirects=False,
                trace_request_ctx=sent,
            ) as response:
                status, wait = response.status, response.headers.get("retry-after")
                await _rest(response)
        except Unfit as unfit:
            return Answer(error=unfit.reason, sent=False, ms=took())
        except TimeoutError:
            return Answer(error="timeout", sent=bool(sent), ms=took())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=_word(error), sent=bool(sent), ms=took())
        except Exception as error:
            # a bug of ours or of the library: count it as a failure, or it would be retried in a tight loop
            log.error("call failed", webhook=to.endpoint, error=type(error).__name__)
            return Answer(error="failed", sent=bool(sent), ms=took())
        return Answer(status, wait=retrying.wait_of(wait, dt.datetime.now(dt.UTC)), ms=took())

    def _keeps(self, host: str) -> bool:
        """Whether to keep a connection to the host open; at most ``KEPT`` hosts are kept."""
        now = time.monotonic()
        while self._hosts and next(iter(self._hosts.values())) < now - _KEEP_S:
            self._hosts.popitem(last=False)
        if host not in self._hosts and len(self._hosts) >= KEPT:
            return False
        self._hosts[host] = now
        self._hosts.move_to_end(host)
        return True


async def _note_sent(_session: Any, context: Any, _params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx["sent"] = True


async def _rest(response: aiohttp.ClientResponse) -> None:
    """Read a short body to keep its connection; close the connection of a longer one."""
    length = response.content_length
    if length is None or length <= READ_MOST:
        try:
            async with asyncio.timeout(READ_S):
                got = 0
                while part := await response.content.read(READ_MOST):
                    got += len(part)
                    if got > READ_MOST:
                        break
                else:
                    return
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            pass  # the status is known, and that is all that counts
    response.close()


def _word(error: BaseException) -> str:
    """What went wrong, in a word of ours; never text from the other side."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PrivateAddress):
            return "url_private"
        cause = getattr(cause, "os_error", None) or cause.__cause__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "url_unresolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "unreachable"
    return "broken"
