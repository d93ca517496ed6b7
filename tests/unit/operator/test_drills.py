"""What drills are made of, without a stack: runbooks' commands, the pager's notes, the load of real notices."""

from __future__ import annotations

import itertools
import json

import pytest

from deploy.local import prometheus
from services.operator.drills import ALERTS, DRILLS, NOTICES, SPEED, Notices, Ran, blocks
from services.operator.notices import SAMPLE, read
from services.operator.pager import Notes

BOOK = """# An alert

## Look here

Words.

```sh
goodfaith status
```

- in a list:

  ```sh
  goodfaith dlq list
  ```

## Do this

```sh
goodfaith up
goodfaith verify
```

```text
not a command
```

## Done when

```sh
never
```
"""


def test_a_runbooks_commands_are_found_by_heading() -> None:
    assert [block.split() for block in blocks(BOOK, "Look here")] == [
        ["goodfaith", "status"],
        ["goodfaith", "dlq", "list"],
    ]
    assert blocks(BOOK, "Do this") == ["goodfaith up\ngoodfaith verify\n"]
    assert blocks(BOOK, "Nowhere") == []


@pytest.mark.parametrize(
    ("status", "output", "broken"),
    [
        (0, "", ""),
        (1, "3 records are parked", ""),
        (2, "No such option: --al", "exit 2"),
        (127, "not found", "exit 127"),
        (-1, "", "exit -1"),
        (1, "Traceback (most recent call last):\n", "traceback"),
    ],
)
def test_what_a_command_finds_is_no_fault_of_the_command(status: int, output: str, broken: str) -> None:
    assert Ran("x", status, output, 0.1).broken == broken


def told(*alerts: tuple[str, str, str]) -> bytes:
    """A notification of (name, worker, status)."""
    return json.dumps(
        {
            "receiver": "pager",
            "status": "firing",
            "version": "4",
            "alerts": [
                {"status": status, "labels": {"alertname": name, "worker": worker}, "startsAt": "2026-11-25T00:00:00Z"}
                for name, worker, status in alerts
            ],
        }
    ).encode()


def test_an_alert_is_over_when_all_its_instances_are() -> None:
    notes = Notes()
    notes.take(told(("Old", "a", "firing")), 1.0)
    notes.take(told(("Lag", "a", "firing"), ("Lag", "b", "firing"), ("Lag", "z", "resolved")), 2.0)
    assert notes.open("Lag", 0.0) == (2, 2.0)
    notes.take(told(("Lag", "a", "resolved"), ("Lag", "b", "firing")), 3.0)
    assert notes.wait_resolved("Lag", since=0.0, timeout_s=0) is None
    notes.take(told(("Lag", "b", "resolved")), 4.0)
    assert notes.wait_resolved("Lag", since=0.0, timeout_s=0) == 4.0
    # what came before the fault is not its alert
    assert notes.wait(lambda note: note.alert == "Old", since=1.5, timeout_s=0) is None
    assert notes.open("Old", 1.5) == (0, 0.0)


def test_the_load_is_of_real_notices_under_other_ids_each_time() -> None:
    plan = Notices(list(read(SAMPLE, NOTICES)), "t", items=500)
    plan.rights = dict.fromkeys(plan.holders, "r")
    claims = list(plan.claims())
    named = [listing for claim in claims for listing in claim.listings]
    assert 500 <= len(named) == len(set(named)) == len(list(plan.listings()))
    assert {plan.seller(listing) for listing in named} == set(plan.sellers)
    assert {claim.ask.by for claim in claims} == set(plan.holders)
    assert len({claim.ask.key for claim in claims}) == len(claims)
    acts = itertools.chain.from_iterable(plan.about(claims[0], f"i-{n}", named[0]) for n in range(500))
    assert max(delay for delay, _ in acts) < 5


def test_routes_of_a_local_stack_go_to_its_sink() -> None:
    made = prometheus.alertmanager(prometheus.Plan(speed=30, sink="http://127.0.0.1:1"))
    assert made["receivers"]
    for receiver in made["receivers"]:
        (hook,) = receiver["webhook_configs"]
        assert hook["url"] == f"http://127.0.0.1:1/{receiver['name']}"
    nowhere = prometheus.alertmanager(prometheus.Plan())
    assert [set(receiver) for receiver in nowhere["receivers"]] == [{"name"}] * len(made["receivers"])


def test_drills_have_bounds_and_names_of_their_own() -> None:
    assert len({drill.fault for drill in DRILLS}) == len(DRILLS)
    assert all(drill.alert in ALERTS and drill.rule.severity == "page" for drill in DRILLS)
    assert sum(drill.after_s for drill in DRILLS) / SPEED < 360, "all together are to take a quarter of an hour"
