"""Metrics of the process itself; those of the views are in ``collector``."""

from __future__ import annotations

from typing import Final

from shared.metrics import PARTITION, TOPIC, counter, gauge

NAME: Final = "streams"
RESULTS: Final = ("folded", "duplicate", "skipped", "failed")

FOLDED = counter(
    "goodfaith_streams_events_folded_total",
    "Events by result: `folded`, `duplicate` (read before), `skipped` (unknown type), `failed` (kept to try again).",
    {"topic": TOPIC, "result": RESULTS},
    of=NAME,
    do="`folded` stalls while services work: check the position. `failed`: see `goodfaith_streams_failed_events`",
)
POSITION = gauge(
    "goodfaith_streams_position_timestamp_seconds",
    "Wall time up to which a partition's events are in the views: last event, or last check that found no more.",
    {"topic": TOPIC, "partition": PARTITION},
    of=NAME,
    do="`time() - x` is the views' lag: too few workers, a slow disk, or a stalled worker",
)
FAILED = gauge(
    "goodfaith_streams_failed_events",
    "Events that could not be read or that a view could not fold. They are kept, and tried again when a worker takes "
    "over the partition.",
    {"partition": PARTITION},
    of=NAME,
    do="the log entry `not folded` has the error; fix it and restart `streams`",
)
RECOVERING = gauge(
    "goodfaith_streams_recovering",
    "1 while a partition's table is being recovered from its changelog.",
    {"partition": PARTITION},
    of=NAME,
    do="for minutes: check the broker; docs/explanation/performance.md says how long it takes with an empty disk",
)
MISSED = gauge(
    "goodfaith_streams_missed_records",
    "Records that retention had deleted before the views read them.",
    {"partition": PARTITION},
    of=NAME,
    do="above 0: run `goodfaith streams rebuild --from logs`",
)
FOREIGN = counter(
    "goodfaith_streams_foreign_writes_total",
    "Times that another worker had written to our partition's changelog; the current values were then written again.",
    of=NAME,
    do="a few after a frozen worker resumed: normal; a steady stream: two installations share a topic prefix",
)
SOUGHT = counter(
    "goodfaith_streams_sought_total",
    "Times that a topic partition was re-read from the table's position.",
    of=NAME,
    do="a few around rebalances: normal; a steady stream: check the broker and the log",
)
