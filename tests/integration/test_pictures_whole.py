"""A claim on copied pictures through the whole fleet: found, decided by rule, and proved by `goodfaith verify`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.stack import Stack
from services.ops.verify.verify import verify_stack
from shared import policy
from tests.conftest import ROOT
from tests.integration.intake_parts import PUBLISHED, wait
from tests.integration.small_run import SITE, SmallRun
from tests.integration.test_pictures import Shop, file_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
COPIED, OTHERS = ("li-c1", "li-c2", "li-c3"), ("li-o1", "li-o2")


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.shutdown()
    shop.server_close()


@pytest.fixture
def run(shop: Shop) -> Iterator[SmallRun]:
    stack = Stack.start(ROOT, f"test-{os.getpid()}-pictures")
    run = SmallRun(
        stack,
        {
            "GOODFAITH_PINNED_POLICIES": "{}",
            "GOODFAITH_PICTURES_HOSTS": json.dumps([f"127.0.0.1:{shop.server_address[1]}"]),
            "GOODFAITH_PICTURES_NETWORKS": '["127.0.0.1/32"]',
            "GOODFAITH_PICTURES_HTTP": "true",
        },
    )
    yield run
    run.close()
    stack.destroy()


def test_copied_pictures_are_found_and_decided_by_rule(run: SmallRun, shop: Shop) -> None:
    run.account("s-anna", "seller")
    run.account("h-owl", "holder")
    run.account("r-rita", "reviewer")
    documents = [
        run.http.post(
            f"/v1/evidence?kind={kind}", content=data, headers={"Authorization": f"Bearer {run.tokens['h-owl']}"}
        ).json()["id"]
        for kind, data in (("sworn_statement", b"I swear."), ("specimen", file_of(1)))
    ]
    body = {"right_type": "copyright", "published": PUBLISHED, "evidence": documents}
    right = run.call("h-owl", "POST", "/v1/rights", body)["id"]
    run.call("r-rita", "POST", f"/v1/rights/{right}/decision", {"accept": True, "documents": documents})
    pictures = {name: shop.picture(file_of(1, 300 + 10 * number)) for number, name in enumerate(COPIED)}
    pictures |= {name: shop.picture(file_of(2 + number, 300)) for number, name in enumerate(OTHERS)}
    seeds = [
        {
            "listing": name,
            "seller": "s-anna",
            "title": "A mug",
            "images": [{"id": "front", "sha256": one.sha256, "url": one.url}],
        }
        for name, one in pictures.items()
    ]
    headers = {"Authorization": f"Bearer {run.stack.secret('internal_token')}"}
    url = f"http://127.0.0.1:{run.stack.port('marketplace')}/seed"
    assert httpx.post(url, json=seeds, headers=headers, timeout=30).status_code == 202
    run.settle()
    run.claim("photo", "h-owl", right, "copied_image_or_text", [SITE + name for name in pictures])
    items = {listing: item for item, listing in run.items["photo"]}

    def read(listing: str) -> Any:
        return run.call("r-rita", "GET", f"/v1/items/{items[listing]}")

    wait(lambda: all((read(name)["pictures"] or {}).get("status") == "compared" for name in pictures))
    run.settle()
    assert policy.current("ipp").audits is not None
    decided = [name for name in COPIED if read(name)["state"] == "NOTIFIED"]
    assert decided, "not one, though a rule's decision is drawn for an audit in one of fifty cases"
    for name in decided:
        told = read(name)
        assert told["triage"]["signals"]["picture_match"] > 0.9
        assert told["pictures"]["findings"][0]["rule"] == "same_picture"
    for name in OTHERS:
        told = read(name)
        assert (told["state"], told["pictures"]["findings"]) == ("UNDER_REVIEW", [])
        case = run.call("r-rita", "GET", f"/v1/review/cases/{items[name]}")
        assert (case["pictures"]["status"], case["pictures"]["unseen"]) == ("compared", [])
    report = verify_stack(run.settings, wait_s=60)
    assert report.clean, report.kinds
