"""Slow clients: headers, bodies and files that do not come are given up, and hold up nobody else meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local.stack import Stack
from services.intake.evidence import uploads
from shared import bounded
from tests.integration.intake_parts import Parts, People

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def parts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    # files may be slow here, so that a test says when they are too slow
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("intake"),
        http_header_s=2,
        http_body_s=2,
        evidence_least_rate=0,
        evidence_upload_s=6000,
    )
    yield parts
    parts.close()


@contextlib.contextmanager
def line(client: httpx.Client, *sent: bytes, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection on which something was sent."""
    port = urlsplit(str(client.base_url)).port
    with socket.create_connection(("127.0.0.1", port or 0), timeout=120, source_address=(source, 0)) as made:
        for part in sent:
            made.sendall(part)
        yield made


def answer(made: socket.socket) -> bytes:
    """One whole answer, whose body is a JSON object: head and body may come one after the other."""
    found = b""
    while not found.endswith(b"}"):
        part = made.recv(65536)
        assert part, found
        found += part
    return found


def rest(made: socket.socket) -> bytes:
    """All that comes until the other side ends it; fails when it does not within the socket's time."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := made.recv(65536):
            found += part
    return found


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", b"\r\n", b"GET /heal"])
def test_headers_that_do_not_come_are_given_up(client: httpx.Client, sent: bytes) -> None:
    with line(client, sent) as made:
        said = rest(made)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nx-content-type-options: nosniff\r\n" in said


def test_what_is_no_request_is_refused(client: httpx.Client) -> None:
    with line(client, b"what is this?\r\n\r\n") as made:
        said = rest(made)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-content-type-options: nosniff\r\n" in said


def test_headers_after_an_answer_are_given_up_too(client: httpx.Client) -> None:
    with line(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as made:
        assert answer(made).startswith(b"HTTP/1.1 200 ")
        made.sendall(b"\r\nGET /healthz HTTP/1.1\r\n")
        assert rest(made).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_is_prompt_is_kept(client: httpx.Client) -> None:
    with line(client) as made:
        for _ in range(4):
            made.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(made).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.6)


def test_headers_without_end_are_refused(client: httpx.Client) -> None:
    with line(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n") as made:
        with contextlib.suppress(OSError):
            for number in range(2 * bounded.HEADERS_MOST // 1000):
                made.sendall(b"X-%d: %b\r\n" % (number, b"x" * 1000))
        assert rest(made).startswith((b"HTTP/1.1 400 ", b""))
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("head", [b"Content-Length: 20", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_given_up(client: httpx.Client, head: bytes) -> None:
    sent = b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%b\r\n\r\n" % head
    with line(client, sent) as made:
        said = rest(made)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"urn:goodfaith:problem:too_slow" in said
    assert b"connection: close" in said.lower()


def test_the_rest_of_a_body_is_not_waited_for(client: httpx.Client) -> None:
    with line(client, b"POST /v1/claims HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{") as made:
        assert rest(made).startswith(b"HTTP/1.1 401 ")


# ---- files


def slow_upload(
    client: httpx.Client, headers: dict[str, str], source: str
) -> contextlib.AbstractContextManager[socket.socket]:
    head = f"POST /v1/evidence?kind=statement HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\nContent-Length: 50000\r\n\r\n"
    return line(client, head.encode(), b"slow", source=source)


def upload(client: httpx.Client, headers: dict[str, str], content: bytes) -> int:
    return client.post("/v1/evidence?kind=statement", content=content, headers=headers).status_code


def fill(
    client: httpx.Client,
    held: contextlib.ExitStack,
    *who: tuple[dict[str, str], str],
    refused: bytes = b"HTTP/1.1 429 ",
) -> None:
    """Begin slow uploads of these, by turns, until one is refused: then the others hold all places that they can get."""
    opened: list[socket.socket] = []
    for headers, source in itertools.cycle(who):
        opened.append(held.enter_context(slow_upload(client, headers, source)))
        answered, _, _ = select.select(opened, (), (), 0.5)
        if answered:
            assert answered[0].recv(65536).startswith(refused)
            return
        assert len(opened) <= 4 * uploads.UPLOADS_MAX


def test_slow_uploads_of_others_leave_room(client: httpx.Client, people: People) -> None:
    strangers = []
    for number in range(uploads.UPLOADS_MAX // 2):
        token = client.post("/v1/accounts", json={}).json()["token"]
        strangers.append(({"Authorization": f"Bearer {token}"}, f"127.0.7.{number + 1}"))
    _, verified = people.open()
    with contextlib.ExitStack() as held:
        fill(client, held, *strangers, refused=b"HTTP/1.1 503 ")
        assert upload(client, strangers[0][0], b"one more of a stranger") == 503
        for number in range(5):
            assert upload(client, verified, b"text %d" % number) == 201


def test_one_address_and_one_account_have_shares(client: httpx.Client, people: People) -> None:
    owners = [people.open()[1] for _ in range(3)]
    with contextlib.ExitStack() as held:
        fill(client, held, (owners[0], "127.0.8.1"))
        assert upload(client, owners[0], b"from another address of the same account") == 429
        fill(client, held, (owners[1], "127.0.8.1"))
        transport = httpx.HTTPTransport(local_address="127.0.8.1")
        with httpx.Client(base_url=client.base_url, transport=transport, timeout=60, trust_env=False) as same:
            assert upload(same, owners[2], b"from the same address") == 429
        assert upload(client, owners[2], b"from another address") == 201


def test_an_upload_below_the_least_rate_is_given_up(parts: Parts) -> None:
    with parts.api(GOODFAITH_EVIDENCE_LEAST_RATE="1000", GOODFAITH_EVIDENCE_UPLOAD_S="600") as client:
        _, headers = People(client, parts.operator).open()
        with slow_upload(client, headers, "127.0.0.1") as made:
            made.settimeout(0.2)
            said = b""
            # one byte at a time: it never stands still
            while not said:
                try:
                    said = made.recv(65536)
                except TimeoutError:
                    made.sendall(b"x")
        assert said.startswith(b"HTTP/1.1 408 ")
