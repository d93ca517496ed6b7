"""`python -m labs.bench.triage`: CPU time of triage for one item, compared with decoding the item's stored state.

Titles differ, so that only marks are cached between items; every rule of the policy has its signal.
"""

from __future__ import annotations

import datetime as dt
import json
import time

import msgspec

from services.verification.item import Facts, Item
from services.verification.triage import triage
from shared import policy
from shared.events import Listing, Record

ITEMS = 20_000
ROUNDS = 5


def main() -> None:
    """Print one JSON object: microseconds of CPU time per item, the minimum of all rounds, and their ratio."""
    now = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC)
    rules = policy.current("ipp").triage
    assert rules is not None
    items = [
        Item(
            item=f"i-{n}",
            claim="c-1",
            claim_size=1,
            listing=f"l-{n}",
            complainant="a-1",
            principal="a-1",
            right="r-1",
            right_type="trademark",
            reason="counterfeit",
            profile="ipp",
            policy="ipp-2026-11",
            received_at=now,
            sla_due=now,
            good_faith=True,
            materials=("certificate", "ownership", "photograph"),
            mark=f"Acme {n % 50}",
            record=Record(settled=50, upheld=49, countered=1),
        )
        for n in range(ITEMS)
    ]
    facts = [
        Facts(
            listing=Listing(
                listing=f"l-{n}", seller="s", state="visible", title=f"Acme shoes number {n}, blue, size 42"
            ),
            upheld_here=1,
            seller_violations=2,
        )
        for n in range(ITEMS)
    ]
    bodies = [msgspec.json.encode(item) for item in items]
    decode = msgspec.json.Decoder(Item).decode
    weighing, reference = [], []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for item, fact in zip(items, facts, strict=True):
            triage(item, fact, rules)
        between = time.process_time()
        for body in bodies:
            decode(body)
        weighing.append((between - begun) / ITEMS * 1e6)
        reference.append((time.process_time() - between) / ITEMS * 1e6)
    us, reference_us = min(weighing), min(reference)
    print(
        json.dumps({"us": round(us, 2), "reference_us": round(reference_us, 2), "ratio": round(us / reference_us, 2)})
    )


if __name__ == "__main__":
    main()
