"""What an installation needs: figures are those that were measured, and what is reckoned from them is enough."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.local.fleet import FLEET
from services.ops import sizing
from services.ops.cli import build
from services.ops.sizing import Wanted, size
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
RATES = ((20, 5), (500, 100), (2_000, 500), (10_000, 2_500))
"""As in docs/how-to/size-an-installation.md."""

wanted = st.builds(
    lambda peak, share, by_http, spare: Wanted(peak, peak * share, by_http, spare),
    st.floats(0.1, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 0.9),
)


def test_figures_are_those_that_were_measured() -> None:
    """When this fails, something was measured again: write it into services/ops/sizing.py, and the table again."""
    text = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
    capacity = (ROOT / "docs/how-to/scale.md").read_text(encoding="utf-8")

    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        assert found is not None, pattern
        return float(found[1].replace(",", ""))

    assert number(r"\| items/s, end to end \| ([\d,]+)") == sizing.RATE
    assert number(r"\| items/s until handled \(receipts in\) \| ([\d,]+)") == sizing.RATE_HANDLED
    assert number(r"\| ([\d,]+) durable claims/s") == sizing.HTTP_PER_S
    assert number(r"one worker, 24 partitions .*? \| ([\d,]+) events/s") == sizing.STREAMS_PER_S
    assert number(r"CPU a message, about ([\d,]+)/s of one core") == sizing.SENDER_PER_S
    claims, items, events, messages = (
        float(one.replace(",", ""))
        for one in re.search(  # type: ignore[union-attr]
            r"notices, ([\d,]+) claims, ([\d,]+) items, ([\d,]+) events, ([\d,]+) messages", text
        ).groups()
    )
    assert items / claims == sizing.ITEMS
    assert messages / items == sizing.MESSAGES
    assert round(events / items, 1) == sizing.EVENTS
    parts = dict(
        re.findall(
            r"([a-z'\s]+?) (\d+)(?=[,;])", re.search(r"CPU an item, in us: (.*?); together", text, re.S)[1] + ";"
        )
    )  # type: ignore[index]
    named = {
        "database": "database",
        "verification": "verification",
        "intake's worker": "intake-worker",
        "enforcement's worker": "enforcement-worker",
        "intake's inbound": "intake-inbound",
        "broker": "broker",
        "notification's worker": "notification-worker",
        "the ledger": "enforcement-ledger",
    }
    assert {named[" ".join(name.split())]: int(cost) for name, cost in parts.items()} == dict(sizing.CPU_US)
    connections = re.search(
        r"at most (\d+) for each worker .2 kept; of `intake-worker` (\d+), of `intake-inbound` and `streams` (\d+).,"
        r" (\d+) for `intake-api` .*?, (\d+) for the other `api` processes and `notification-bounces` .*?, (\d+) for `watch`",
        capacity,
    )
    assert connections is not None
    names = ("intake-worker", "streams", "intake-api", "enforcement-api", "watch")
    assert [int(one) for one in connections.groups()] == [
        sizing.WORKER_CONNECTIONS,
        *(sizing.CONNECTIONS[name] for name in names),
    ]
    assert f"{sizing.EVENTS} events an item, of some {sizing.EVENT_BYTES} bytes" in capacity


def test_every_process_with_a_login_at_the_database_is_counted() -> None:
    optional = {"marketplace", *(spec.name for spec in FLEET if spec.needs)}
    asked = {need.name for need in size(Wanted(1_000, 250)).needs} | sizing.ALWAYS.keys()
    assert {spec.name for spec in FLEET if spec.role} - optional == asked - {"database", "broker"}
    # of the least installation, by hand: two of each, one more while a version is rolled out
    by_hand = 3 * (12 + 8 + 6 + 6 + 6 + 6 + 6 + 7) + 3 * (8 + 8 + 8 + 6 + 8 + 6) + 2 * 2
    assert size(Wanted(20, 5)).connections == by_hand


@given(wanted)
def test_what_is_planned_is_enough(one: Wanted) -> None:
    found = size(one)
    full = 1 - one.spare
    for need in found.needs:
        if need.name in sizing.WORKERS or need.name in ("intake-api", "notification-sender", "streams"):
            assert need.cores <= need.count * full * (1 + 1e-9), need.name
            assert need.count == 2 or need.cores > (need.count - 1) * full * (1 - 1e-9), "one too many"
        if need.name in sizing.WORKERS or need.name == "streams":
            assert found.partitions >= 2 * need.count
    assert found["broker"].count >= one.replication
    assert found.partitions >= Settings.model_fields["partitions"].default
    assert found.connections >= 6 * len(sizing.WORKERS[2:])


@given(wanted, st.floats(1, 10))
def test_more_needs_no_less(one: Wanted, times: float) -> None:
    less, more = size(one), size(Wanted(one.peak * times, one.mean * times, one.claims_by_http, one.spare))
    for need in less.needs:
        assert more[need.name].count >= need.count
        assert more[need.name].cores >= need.cores * (1 - 1e-9)
    assert more.partitions >= less.partitions
    assert more.topics_gb >= less.topics_gb * (1 - 1e-9)


def test_who_files_by_topic_needs_its_worker() -> None:
    names = {need.name for need in size(Wanted(1_000, 250, claims_by_http=1)).needs}
    assert "intake-inbound" not in names
    assert "intake-inbound" in {need.name for need in size(Wanted(1_000, 250, claims_by_http=0.5)).needs}


def test_an_example_by_hand() -> None:
    found = size(Wanted(1_000, 0, spare=0.5))
    assert found["verification"].cores == pytest.approx(1_000 * 104e-6 * 2_727 / 1_245)
    assert found["verification"].count == 2
    assert found["streams"].count == 8  # 15,600 events/s, 4,136 each, half of each
    assert found["broker"].count == 3
    assert found.log_gb_a_day == 0
    assert size(Wanted(1_000, 1_000)).log_gb_a_day == pytest.approx(1_000 * 86_400 * 15.6 * 690 / 1e9)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ((0, 0), "peak"),
        ((float("nan"), 0), "peak"),
        ((10, 11), "mean"),
        ((10, 1, 1.1), "claims_by_http"),
        ((10, 1, 1, 1), "spare"),
        ((10, 1, 1, 0.4, 0), "replication"),
        ((10, 1, 1, 0.4, 3, 0), "topic_days"),
    ],
)
def test_what_is_out_of_bounds_is_named(given: tuple[float, ...], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        Wanted(*given)  # type: ignore[arg-type]


def test_the_documents_table_is_fresh() -> None:
    """When this fails: put what is printed into docs/how-to/size-an-installation.md."""
    head, *rows = sizing.table(RATES)
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, ["---"] * len(head), *rows)]
    lines[1] = "|" + "---|" * len(head)
    expected = "\n".join(lines)
    assert expected in (ROOT / "docs/how-to/size-an-installation.md").read_text(encoding="utf-8"), f"\n{expected}"


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(build(), ["size", "--items-per-s", "1000", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output.splitlines()[-1])
    assert said == json.loads(json.dumps(size(Wanted(1_000, 250)).as_json()))
