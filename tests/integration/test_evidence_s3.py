"""Evidence in an S3 server: what differs from a folder, and what happens when it is away."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local.s3server import S3Server
from deploy.local.stack import Stack
from services.intake.evidence.blobs import Blobs, BlobsUnavailable
from tests import evidence_files as files
from tests.integration.intake_parts import Parts, People, wait
from tests.integration.test_evidence import Someone, due, fetched, kept, send, state, sweep
from tests.integration.test_intake_http import problem

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3")).start()
    # the clean-up runs in this process
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(scope="module")
def parts(stack: Stack, server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("evidence"),
        evidence_url=f"s3://{server.bucket}/of/intake",
        evidence_upload_s=40.0,
    )
    yield parts
    parts.close()


@pytest.fixture
def holder(people: People) -> Someone:
    return people.open()


def objects(server: S3Server, document: str = "") -> list[Path]:
    """Objects, or the document's; what the server itself keeps of unfinished uploads is the bucket's rule to remove."""
    return [path for path in (server.data / "of").rglob("*") if path.is_file() and document in path.name]


def test_files_are_kept_in_the_bucket_and_come_back(server: S3Server, people: People, holder: Someone) -> None:
    # the second is sent in parts
    for content in (files.pdf(), files.picture("PNG", (2400, 1800))):
        document = kept(people, holder[1], content)
        (path,) = objects(server, document)
        assert content[:64] not in path.read_bytes()
        assert path.relative_to(server.data).parts[:3] == ("of", "intake", "sealed")
        got = fetched(people, holder[1], document)
        assert (got.status_code, got.content == content) == (200, True)
    assert len(content) > 8_400_000


def test_many_at_once_send_the_same(parts: Parts, server: S3Server, people: People, holder: Someone) -> None:
    content = files.picture("JPEG", (1200, 1200), quality=95)

    def once(_: int) -> httpx.Response:
        while (answer := send(people, holder[1], content)).status_code in (429, 503):
            time.sleep(0.05)
        return answer

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(once, range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    sweep(parts)
    documents = [id for (id,) in parts.query("select id from evidence where account = %s", holder[0])]
    assert [path.name for id in documents for path in objects(server, id)] == [answers[0].json()["id"]]


def test_forged_files_never_reach_the_bucket(server: S3Server, people: People, holder: Someone) -> None:
    before = objects(server)
    for content in (files.picture("PNG")[:-40], files.zip_bomb(), files.picture("JPEG") + files.archive(x=b"y")):
        problem(send(people, holder[1], content), 422)
        assert objects(server) == before


def test_what_is_not_needed_is_deleted_once(parts: Parts, server: S3Server, people: People, holder: Someone) -> None:
    document = kept(people, holder[1], content := b"not needed")
    due(parts, document)
    # several workers at once
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sweep(parts), range(4)))
    assert state(parts, document) == "gone"
    assert objects(server, document) == []
    # the bytes went, and then the process died: the next turn finds nothing to delete, and says so
    document = kept(people, holder[1], content)
    parts.query("update evidence set state = 'going' where id = %s", document)
    objects(server, document)[0].unlink()
    assert sweep(parts) == 1
    assert state(parts, document) == "gone"


def test_an_altered_object_is_not_handed_out_whole(server: S3Server, people: People, holder: Someone) -> None:
    document = kept(people, holder[1], files.picture("PNG", (700, 700)))
    (path,) = objects(server, document)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(httpx.RemoteProtocolError):
        fetched(people, holder[1], document)


def test_while_the_server_is_away_nothing_is_lost(
    parts: Parts, server: S3Server, people: People, holder: Someone
) -> None:
    before = kept(people, holder[1], b"before")
    doomed = kept(people, holder[1], b"doomed")
    due(parts, doomed)
    server.stop()
    try:
        problem(send(people, holder[1], b"meanwhile"), 503)
        link = people.client.post(f"/v1/evidence/{before}/link", headers=holder[1]).json()["url"]
        problem(people.client.get(link), 503)
        with pytest.raises(BlobsUnavailable):
            sweep(parts)
        assert state(parts, doomed) == "going"
        problem(people.client.get(f"/v1/evidence/{doomed}", headers=holder[1]), 404)
    finally:
        server.start()
    sweep(parts)
    assert state(parts, doomed) == "gone"
    assert people.client.get(link).content == b"before"
    assert send(people, holder[1], b"meanwhile").status_code == 201


def test_killed_while_the_bytes_are_on_their_way(parts: Parts, server: S3Server, people: People) -> None:
    account, who = people.open()
    content = files.picture("PNG", (2400, 1800))
    with parts.api(GOODFAITH_KAFKA="127.0.0.1:1") as client:
        child = parts._processes[-1]
        server.signal(signal.SIGSTOP)
        try:
            sending = threading.Thread(target=_sent, args=(client, content, who))
            sending.start()
            wait(lambda: parts.query("select 1 from evidence where account = %s and state = 'arriving'", account))
            time.sleep(0.3)
            child.kill()
            child.wait()
            sending.join()
        finally:
            server.signal(signal.SIGCONT)
    ((document,),) = parts.query("select id from evidence where account = %s", account)
    sweep(parts)
    assert state(parts, document) == "arriving"  # it may be under way still
    parts.query("update evidence set changed_wall = now() - %s where id = %s", dt.timedelta(minutes=61), document)
    sweep(parts)
    assert state(parts, document) == "gone"
    assert objects(server, document) == []
    # and the party sends it again
    assert fetched(people, who, kept(people, who, content)).content == content


def _sent(client: httpx.Client, content: bytes, who: dict[str, str]) -> None:
    with pytest.raises(httpx.TransportError):
        client.post("/v1/evidence?kind=ownership", content=content, headers=who)


def test_a_wrong_address_stops_the_process(tmp_path: Path) -> None:
    for url in ("s3://", "ftp://x/y", "file:relative", "/etc", (tmp_path / "file").as_uri()):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="evidence_url"):
            Blobs(url)
