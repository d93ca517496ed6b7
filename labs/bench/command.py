"""`goodfaith lab bench`: throughput as a ratio to a reference loop on the same parts (docs/explanation/performance.md)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from deploy.local import fleet
from deploy.local.processes import Fleet
from deploy.local.up import bring_up, confirm_replacing, destroy
from services.ops.terminal import JsonOption, YesOption, console, errors, print_json, table
from shared import metrics

SETTINGS = {
    **fleet.UNREVIEWED,
    # marketplace and mail server are not measured and do not answer: nothing must be sent again
    "GOODFAITH_RESEND_S": "86400",
    "GOODFAITH_BATCH_MAX_RECORDS": "2000",
    # under constant load: each service waits up to 50 ms for fuller batches
    "GOODFAITH_FETCH_MIN_BYTES": "300000",
    "GOODFAITH_FETCH_MAX_WAIT_MS": "50",
    "GOODFAITH_WINDOW_STANDARD": "20000",
}
COUNTS = {
    "intake": 1,
    "verification": 1,
    "enforcement-worker": 1,
    "enforcement-ledger": 1,
    "notification-worker": 1,
    "notification-sender": 0,
    "notification-webhooks": 0,
    "marketplace": 0,
    "mailbox": 0,
}


def bench(
    items: Annotated[int, typer.Option(min=1000, help="Number of items in the main run.")] = 200_000,
    stack: Annotated[
        str, typer.Option("--stack", help="Name of the benchmark's own stack; an existing one is replaced.")
    ] = "bench",
    http_seconds: Annotated[float, typer.Option(min=1, help="Seconds of the run of intake alone.")] = 10.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running for inspection.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Measure items a second end to end, latency at half load, memory, and intake alone, against a reference loop."""
    from labs.bench import http_load, reference
    from labs.bench.throughput import ThroughputBench

    confirm_replacing(stack, own=("bench",), yes=yes)
    destroy(stack)
    tell: Callable[[str], None] = lambda text: errors.print(text, style="dim", highlight=False)  # noqa: E731
    running, _ = bring_up(stack, COUNTS, env=SETTINGS)
    measured: ThroughputBench | None = None
    try:
        settings = fleet.settings_of(running, secret=True)
        small = max(items // 5, 1000)
        measured = ThroughputBench(running, COUNTS, tell)
        measured.run(min(small, 5000))  # warm up caches, query plans and the JVM's compiler
        size = measured.event_bytes()

        def refer() -> float:
            tell(f"reference: {small:,} items, {size} bytes an event")
            return reference.run(
                running.kafka, running.admin_url, items=small, partitions=settings.partitions, event_bytes=size
            )

        before = refer()
        main = measured.run(items)
        after = refer()
        half = measured.run(max(int(main.items_per_s * 0.5 * 20), 1000), rate=main.items_per_s * 0.5)
        real = measured.run(small, real=True)
        handled = measured.run(small, receipts=True)
        tell("intake only")
        for process in Fleet.load(running):
            if not process.name.startswith("intake-api"):
                process.terminate()
        assert settings.operator_token is not None
        token = settings.operator_token.get_secret_value()
        alone = http_load.measure([settings.intake_url], token, seconds=http_seconds)
    finally:
        if measured is not None:
            measured.close()
        if not keep:
            destroy(stack)
    ref = (before + after) / 2
    result: dict[str, Any] = {
        "items_per_s": round(main.items_per_s),
        "reference_items_per_s": round(ref),
        "ratio": round(main.items_per_s / ref, 3),
        "p50_s": round(half.p50_s, 3),
        "p99_s": round(half.p99_s, 3),
        "intake_claims_per_s": round(alone.claims_per_s),
        "rss_growth_mb": round(main.rss_growth_mb, 1),
        "rss_mb": [round(mb) for mb in main.rss_mb],
        "items": items,
        "reference_before_after": [round(before), round(after)],
        "event_bytes": size,
        "real_distribution_items_per_s": round(real.items_per_s),
        "handled_items_per_s": round(handled.items_per_s),
        "cpu_us_per_item": {name: round(value) for name, value in main.cpu_us_per_item.items()},
        "stage_us_per_item": {w: {s: round(v) for s, v in stages.items()} for w, stages in main.stages.items()},
        "cores": os.cpu_count(),
    }
    _show(result)
    if json:
        print_json(result)


def _show(result: dict[str, Any]) -> None:
    shown = table("", "measured", "goal", title=f"{result['items']:,} items, one a claim, {result['cores']} cores")
    shown.add_row("items/s, end to end", f"{result['items_per_s']:,}", "2,000")
    shown.add_row("reference loop, items/s", f"{result['reference_items_per_s']:,}", "")
    shown.add_row("ratio", f"{result['ratio']}", "0.6")
    shown.add_row("p50, p99 at half load, s", f"{result['p50_s']}, {result['p99_s']}", "1.0")
    shown.add_row("items/s, sizes as in the real notices", f"{result['real_distribution_items_per_s']:,}", "")
    shown.add_row("items/s until handled (receipts in)", f"{result['handled_items_per_s']:,}", "")
    shown.add_row("intake's HTTP API only, claims/s", f"{result['intake_claims_per_s']:,}", "1,500")
    shown.add_row("growth of memory, MiB", f"{result['rss_growth_mb']}", "flat")
    console.print(shown)
    cpu = table("process", "CPU us per item", title="CPU time")
    for name, value in sorted(result["cpu_us_per_item"].items(), key=lambda pair: -pair[1]):
        cpu.add_row(name, str(value))
    cpu.add_row("total", str(sum(result["cpu_us_per_item"].values())))
    console.print(cpu)
    names = metrics.STAGES
    stages = table("worker", *names, title="Wall us per item in each stage of the loop")
    for worker, found in result["stage_us_per_item"].items():
        stages.add_row(worker, *(str(found.get(name, 0)) for name in names))
    console.print(stages)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)
