"""A canary's round through the whole system: every service takes part, and no figure moves."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from labs.exposition import samples
from services.observer.canary_rounds import COMPLETED, Canary, Failed
from shared.settings import Settings
from tests.e2e.world import SITE, World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
SELLER = "a-canary-seller"
FIGURES = (
    "goodfaith_claim_",
    "goodfaith_takedowns_",
    "goodfaith_item_changes_",
    "goodfaith_review_",
    "goodfaith_penalty_",
    "goodfaith_good_faith_",
    "goodfaith_misuse_",
    "goodfaith_sellers",
    "goodfaith_recidivism",
    "goodfaith_recurrences_",
    "goodfaith_statements_",
    "goodfaith_sanctions_",
    "goodfaith_filing_",
)


@pytest.fixture
def settings(world: World) -> Settings:
    """The settings of a canary whose listing is on the site."""
    token = world.secrets.add("token of the canary", world.stack.secret("canary_token"))
    url = f"http://127.0.0.1:{world.stack.port('marketplace')}"
    world.offer(SELLER, "canary", "not-canary")
    own = {"canary_token": SecretStr(token), "canary_page": f"{url}/items/canary", "canary_timeout_s": 60}
    return world.settings.model_copy(update=own)


def figures(world: World) -> dict[str, float]:
    """Every business figure that a process exports, but what is counted as the canary's."""
    found: dict[str, float] = {}
    for process in world.fleet:
        for sample in samples(process):
            if sample.name.startswith(FIGURES) and not sample.name.endswith("_created"):
                found[f"{process.name} {sample.name} {sorted(sample.labels.items())}"] = sample.value
    return {name: value for name, value in found.items() if value == value}


def last() -> float:
    """When the last round went through."""
    ((sample,),) = (family.samples for family in COMPLETED.collect())
    return sample.value


def test_a_canary_goes_through_everything_and_moves_no_figure(world: World, settings: Settings) -> None:
    world.settle()
    before = figures(world)
    assert before
    canary = Canary(settings)
    assert canary.round() < 60
    went = last()
    world.settle()
    assert figures(world) == before
    counts = "select (select count(*) from {} where {})"
    for table, where in {
        "intake.good_faith_items": "account = 'a-canary'",
        "intake.usage": "account = 'a-canary'",
        "intake.cases": "complainant = 'a-canary'",
        "intake.good_faith_history": "account = 'a-canary'",
        "enforcement.violations": f"seller = '{SELLER}'",
        "enforcement.statements": "item in (select id from intake.items where listing = 'canary')",
        "verification.upheld": "listing = 'canary'",
        "verification.recurrences": "listing = 'canary'",
    }.items():
        assert world.rows(counts.format(table, where)) == [(0,)], table
    assert set(world.rows("select channel, lane from intake.claims where complainant = 'a-canary'")) == {
        ("canary", "standard")
    }
    # both sides were told, by mail, at the canary's own address
    kinds = world.rows("select distinct party, kind from intake.messages where party in ('a-canary', %s)", SELLER)
    assert {("a-canary", "claim_receipt"), (SELLER, "seller_notice")} <= set(kinds)
    assert any(receiver == "canary@private.example" for receiver, _ in world.mail())

    # its token is good for its own listing only
    world.tokens["a-canary"] = world.stack.secret("canary_token")
    other = {"right": "r-canary", "reason": "copied_image_or_text", "listings": [SITE + "not-canary"]}
    refusal = world.call("a-canary", "POST", "/v1/claims", other, expect=403)
    assert "canary_listing_only" in str(refusal)

    # and it finds what does not work
    world.kill("enforcement-worker")
    short = Canary(settings.model_copy(update={"canary_timeout_s": 2}))
    with pytest.raises(Failed) as failed:
        short.round()
    assert (failed.value.step, failed.value.result) == ("down", "late")
    assert last() == went
    world.start("enforcement-worker")
    # what that round has left open is withdrawn first
    again = Canary(settings)
    assert again.round() < 60
    assert last() > went
    for one in (canary, short, again):
        one.close()
    report = world.verify()
    assert report.totals["outcomes"].get("WITHDRAWN", 0) == len(
        world.rows("select item from verification.items where state = 'WITHDRAWN' and listing <> 'canary'")
    )
