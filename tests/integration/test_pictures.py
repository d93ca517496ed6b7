"""A right's pictures are found in those of a listing: fetched within limits, compared in a confined process, shown."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import io
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.local.children import free_port
from deploy.local.stack import Stack
from services.intake.kernel.domain import Account
from services.intake.pictures import comparing
from services.intake.pictures.comparing import Pictures
from services.intake.pictures.fetching import Fetcher, Unseen
from services.verification.rules import audits
from shared import policy
from shared.events import Listing, Picture
from shared.settings import Settings
from tests.integration.intake_parts import PUBLISHED, Parts, People, wait
from tests.integration.test_calling import Zone, certificate
from tests.integration.test_recurrence import Town
from tests.unit.shared.comparison.pictures.drawn import scene

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:The Result.tuples:sqlalchemy.exc.SADeprecationWarning"),
]
SMALL_S = 0.5


def file_of(seed: int, side: int = 600, *, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(seed, 450, 600)).resize((side, side * 3 // 4)).save(out, format)
    return out.getvalue()


class Shop(http.server.ThreadingHTTPServer):
    """Serves pictures, and answers otherwise than it should where it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def picture(self, data: bytes, *, path: str = "", id: str = "") -> Picture:
        """A picture that is served from now on."""
        path = path or uuid.uuid4().hex
        self.files[f"/{path}"] = data
        url = f"http://127.0.0.1:{self.server_address[1]}/{path}"
        return Picture(id=id or path, sha256=hashlib.sha256(data).hexdigest(), url=url)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Shop

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data = self.server.files[self.path]
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
            return
        if self.path.startswith("/down"):
            self.send_error(503)
            return
        self.send_response(200)
        if self.path.startswith("/gzip"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path.startswith("/slow"):
            for start in range(0, len(data), 16):
                self.wfile.write(data[start : start + 16])
                time.sleep(0.1)
        self.wfile.write(data)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.shutdown()
    shop.server_close()


@pytest.fixture(scope="module")
def parts(stack: Stack, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(
        stack,
        tmp_path_factory.mktemp("pictures"),
        verification_url=f"http://127.0.0.1:{free_port()}",
        pictures_hosts=(f"127.0.0.1:{shop.server_address[1]}", "unknown.invalid"),
        pictures_networks=("127.0.0.0/8",),
        pictures_http=True,
        pictures_timeout_s=SMALL_S,
        pictures_max_bytes=2_000_000,
    )
    parts.verification(stack)
    yield parts
    parts.close()


@pytest.fixture(scope="module")
def town(parts: Parts, stack: Stack) -> Iterator[Town]:
    town = Town(parts, stack)
    yield town
    town.close()


@pytest.fixture
def pictures(parts: Parts) -> Iterator[Pictures]:
    parts.query("update picture_checks set state = 'given_up' where state = 'waiting'")
    pictures = Pictures(parts.settings)
    yield pictures
    pictures.close()


class Owner:
    """A holder with a work that is in no register, and that a reviewer has accepted."""

    def __init__(self, people: People, *works: bytes) -> None:
        self.id, self.headers = people.open()
        self.people = people
        self.account = Account(self.id, "holder", True, False, True)
        sworn = self.upload("sworn_statement", f"I swear, {uuid.uuid4()}".encode())
        self.works = [self.upload("specimen", work) for work in works]
        body = {"right_type": "copyright", "published": PUBLISHED, "evidence": [sworn, *self.works]}
        made = people.client.post("/v1/rights", json=body, headers=self.headers)
        assert made.status_code == 201, made.text
        self.right = made.json()["id"]
        accepted = people.decide(people.operator, self.right, documents=[sworn, *self.works])
        assert accepted.json() == {"changed": True}, accepted.text

    def upload(self, kind: str, data: bytes) -> str:
        made = self.people.client.post(f"/v1/evidence?kind={kind}", content=data, headers=self.headers)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])


def claim(town: Town, owner: Owner, *images: Picture, seller: str = "s-pictures", **more: Any) -> str:
    """An item on a listing that shows these pictures."""
    name = f"pictured-{uuid.uuid4().hex[:8]}"
    town.listed(Listing(listing=name, seller=seller, state="visible", title="A mug", images=images))
    (item,) = town.file(owner.account, name, right=owner.right, reason="copied_image_or_text", **more)
    return item


def shown(people: People, headers: dict[str, str], item: str) -> Any:
    answer = people.client.get(f"/v1/items/{item}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["pictures"]


def due(parts: Parts) -> None:
    """As if the pause were over."""
    parts.query("update picture_checks set due_wall = now() where state = 'waiting'")


def test_a_copied_picture_is_found_and_shown_to_those_who_decide(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures
) -> None:
    owner = Owner(people, file_of(1))
    seller, sellers = people.open("seller", id=f"s-{uuid.uuid4().hex[:8]}")
    _, reviewers = people.open("reviewer")
    copy = shop.picture(file_of(1, 300, format="JPEG"), id="front")
    item = claim(town, owner, copy, shop.picture(file_of(2), id="back"), seller=seller)
    assert shown(people, owner.headers, item)["status"] == "waiting"
    assert pictures.once() == 1
    assert pictures.once() == 0
    for headers in (owner.headers, reviewers):
        told = shown(people, headers, item)
        assert (told["status"], told["pictures"], told["references"], told["unseen"]) == ("compared", 2, 1, [])
        (found,) = told["findings"]
        assert (found["picture"], found["reference"], found["rule"]) == ("front", owner.works[0], "same_picture")
        assert found["score"] > 0.9
    assert shown(people, sellers, item) is None
    # once for each item, whatever is said of it later
    pictures_of_item = parts.query("select tries, state from picture_checks where item = %s", item)
    assert pictures_of_item == [(1, "compared")]


def test_by_what_pictures_show_a_rule_decides_or_leaves_it_to_a_person(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "drawn", lambda *_: False)  # else one of fifty waits for a person all the same
    version = policy.current("ipp").version
    owner = Owner(people, file_of(7))
    found = claim(town, owner, shop.picture(file_of(7, 300)), version=version)
    other = claim(town, owner, shop.picture(file_of(8)), version=version)
    unseen = claim(town, owner, shop.picture(file_of(8)), shop.picture(b"no picture"), version=version)
    _, reviewers = people.open("reviewer")

    def read(item: str) -> Any:
        return people.client.get(f"/v1/items/{item}", headers=reviewers).json()

    for item in (found, other, unseen):
        assert (read(item)["state"], read(item)["triage"]["lacks"]) == (
            "UNDER_REVIEW",
            ["match", "other_goods", "copied_work", "record"],
        )
    assert [pictures.once() for _ in range(4)] == [1, 1, 1, 0]
    told = """select payload::json->>'item', (payload::json->>'match')::float from admission_queue
        where type = 'goodfaith.pictures.compared.v1'"""
    assert sorted(match > 0.9 for _, match in parts.query(told)) == [False, True]
    assert {item for item, _ in parts.query(told)} == {found, other}
    town.settle()
    upheld = read(found)
    assert (upheld["state"], upheld["triage"]["band"], upheld["why_person"]) == ("NOTIFIED", "uphold", [])
    assert upheld["triage"]["signals"]["picture_match"] > 0.9
    for item in (other, unseen):
        assert read(item)["state"] == "UNDER_REVIEW"
        assert any("picture" in why for why in read(item)["why_person"])


def test_what_cannot_be_seen_is_stated_with_its_reason(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures
) -> None:
    owner = Owner(people, file_of(3), b"The work is a poem.\n")
    good = shop.picture(file_of(3, 300), id="good")
    port = shop.server_address[1]
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    shop.picture(b"secret", path="secret")
    images = {
        "no_url": Picture(id="i1", sha256=good.sha256),
        "host_not_named": Picture(id="i2", sha256=good.sha256, url=f"http://localhost.example:{port}/a"),
        "url_private": Picture(id="i3", sha256=good.sha256, url="http://10.0.0.1/a"),
        "another_file": Picture(id="i4", sha256="0" * 64, url=good.url),
        "not_answered": shop.picture(file_of(3, 200), path="redirect", id="i5"),
        "too_large": shop.picture(bytes(2_000_001), id="i6"),
        "too_complex": shop.picture(bomb.getvalue(), id="i7"),
        "svg": shop.picture(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", id="i8"),
        "polyglot": shop.picture(file_of(3, 100) + b"<html>", id="i9"),
        "empty": shop.picture(b"", id="i10"),
        "damaged": shop.picture(file_of(3, 110)[:50] + bytes(9) + file_of(3, 110)[59:], id="i11"),
    }
    item = claim(town, owner, good, *images.values())
    assert pictures.once() == 1
    told = shown(people, owner.headers, item)
    assert [found["picture"] for found in told["findings"]] == ["good"]
    unseen = {(one["of"], one["id"]): one["reason"] for one in told["unseen"]}
    assert unseen.pop(("right", owner.works[1])) == "unknown_type"
    assert unseen == {("listing", picture.id): reason for reason, picture in images.items()}
    assert "/secret" not in shop.asked


def test_what_no_reviewer_accepted_shows_nothing_of_a_right(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures
) -> None:
    owner = Owner(people, file_of(11))
    later = owner.upload("specimen", file_of(12))
    named = people.client.post(f"/v1/rights/{owner.right}/evidence", json={"evidence": [later]}, headers=owner.headers)
    assert named.json() == {"changed": True}, named.text
    item = claim(town, owner, shop.picture(file_of(12)), version=policy.current("ipp").version)
    assert pictures.once() == 1
    told = shown(people, owner.headers, item)
    assert (told["findings"], told["references"]) == ([], 2)
    assert told["unseen"] == [{"id": later, "of": "right", "reason": "document_not_accepted"}]
    assert parts.query("select count(*) from admission_queue where item = '' and listing like 'pictured-%%'") == [(0,)]


def test_a_design_is_shown_as_an_aid_and_tells_triage_nothing(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures
) -> None:
    holder, headers = people.open()
    view = people.client.post("/v1/evidence?kind=design_view", content=file_of(13), headers=headers).json()["id"]
    body = {"right_type": "design", "register": "eu", "number": "001234567-0001", "classes": ["07-01"]}
    made = people.client.post("/v1/rights", json={**body, "evidence": [view]}, headers=headers)
    assert made.status_code == 201, made.text
    right = made.json()["id"]
    assert people.decide(people.operator, right, documents=[view]).json() == {"changed": True}
    name = f"pictured-{uuid.uuid4().hex[:8]}"
    copy = shop.picture(file_of(13, 300))
    town.listed(Listing(listing=name, seller="s-pictures", state="visible", title="A mug", images=(copy,)))
    account = Account(holder, "holder", True, False, True)
    (item,) = town.file(account, name, right=right, reason="design", version=policy.current("ipp").version)
    assert pictures.once() == 1
    (found,) = shown(people, headers, item)["findings"]
    assert (found["rule"], found["score"], found["against"]) == ("same_picture", 0.0, ["aid"])
    assert parts.query("select count(*) from admission_queue where listing = %s", name) == [(0,)]


def test_pictures_come_over_tls_under_the_hosts_name(tmp_path: Path, shop: Shop) -> None:
    cert, context = certificate(tmp_path, "cdn.example")
    server = Shop()
    try:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        port = server.server_address[1]
        data = file_of(1, 100)
        server.files["/a"] = data
        settings = Settings(
            pictures_hosts=(f"cdn.example:{port}", f"other.example:{port}"),
            pictures_networks=("127.0.0.0/8",),
        )
        # nobody listens at the first address
        zone = Zone(["127.0.0.2", "127.0.0.1"])

        def fetch(host: str, **more: Any) -> str | bytes:
            fetcher = Fetcher(settings.model_copy(update=more), zone)
            picture = Picture(id="a", sha256=hashlib.sha256(data).hexdigest(), url=f"https://{host}:{port}/a")
            try:
                return asyncio.run(fetcher.fetch(picture))
            except Unseen as unseen:
                return unseen.reason

        assert fetch("cdn.example", pictures_ca=cert) == data
        assert fetch("other.example", pictures_ca=cert) == "unreachable"
        assert fetch("cdn.example") == "unreachable"
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_down_is_tried_again_and_left_out_in_the_end(
    parts: Parts, town: Town, people: People, shop: Shop, pictures: Pictures
) -> None:
    owner = Owner(people, file_of(4))
    down = shop.picture(file_of(4, 200), path="down", id="down")
    slow = shop.picture(file_of(4, 210), path="slow", id="slow")
    unknown = Picture(id="unknown", sha256="0" * 64, url="http://unknown.invalid/a")
    item = claim(town, owner, down, slow, unknown)
    began = time.monotonic()
    assert pictures.once() == 0
    assert time.monotonic() - began < 20 * SMALL_S
    assert shown(people, owner.headers, item)["status"] == "waiting"
    assert pictures.once() == 0  # not due
    parts.query("update picture_checks set since_wall = now() - interval '5 hours' where item = %s", item)
    due(parts)
    assert pictures.once() == 1
    told = shown(people, owner.headers, item)
    reasons = {one["id"]: one["reason"] for one in told["unseen"]}
    assert (told["status"], told["findings"]) == ("compared", [])
    assert reasons == {"down": "unreachable", "slow": "too_slow", "unknown": "unreachable"}


def test_nothing_is_claimed_while_verification_or_the_comparison_fails(
    parts: Parts, town: Town, people: People, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.query("update picture_checks set state = 'given_up' where state = 'waiting'")
    owner = Owner(people, file_of(5))
    item = claim(town, owner, shop.picture(file_of(5, 200), id="front"))
    url = f"http://127.0.0.1:{free_port()}"
    deaf = Pictures(parts.settings.model_copy(update={"verification_url": url}))
    try:
        assert deaf.once() == 0
        assert deaf.troubled
        parts.query("update picture_checks set since_wall = now() - interval '5 hours' where item = %s", item)
        due(parts)
        assert deaf.once() == 1
    finally:
        deaf.close()
    told = shown(people, owner.headers, item)
    assert (told["status"], told["findings"], told["unseen"]) == ("given_up", [], [])
    # a document that was found to be forged shows nothing
    parts.query("update evidence set state = 'going', key = null where id = %s", owner.works[0])
    again = claim(town, owner, shop.picture(file_of(5, 210), id="front"))
    pictures = Pictures(parts.settings)
    try:
        assert pictures.once() == 1
    finally:
        pictures.close()
    told = shown(people, owner.headers, again)
    assert told["unseen"] == [{"id": owner.works[0], "of": "right", "reason": "document_gone"}]
    monkeypatch.setattr(comparing, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="install the extra"):
        Pictures(parts.settings)


def test_rights_without_pictures_are_not_compared_and_the_process_does_the_rest(
    parts: Parts, town: Town, people: People, shop: Shop
) -> None:
    parts.query("update picture_checks set state = 'given_up' where state = 'waiting'")
    without = Owner(people, file_of(6))
    parts.query("update evidence_links set kinds = '{ownership}' where about = %s", without.right)
    bare = claim(town, without, shop.picture(file_of(6, 200)))
    assert shown(people, without.headers, bare) is None
    owner = Owner(people, file_of(6))
    item = claim(town, owner, shop.picture(file_of(6, 210)))
    child = parts.start("pictures")
    try:
        wait(lambda: shown(people, owner.headers, item)["status"] == "compared")
    finally:
        child.terminate()
    assert child.wait(30) == 0, parts.log("pictures")
