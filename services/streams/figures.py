"""What the process says of its own work; the figures of the views are in ``collector``."""

from __future__ import annotations

from typing import Final

from shared.metrics import PARTITION, TOPIC, counter, gauge

NAME: Final = "streams"
RESULTS: Final = ("folded", "duplicate", "skipped", "failed")

FOLDED = counter(
    "goodfaith_streams_events_folded_total",
    "Events by what became of them: `folded`; `duplicate`, read before; `skipped`, of an unknown type; `failed`, kept for another try.",
    {"topic": TOPIC, "result": RESULTS},
    of=NAME,
    do="`folded` stands still while services work: look at the position. `failed`: see `goodfaith_streams_failed_events`",
)
POSITION = gauge(
    "goodfaith_streams_position_timestamp_seconds",
    "Wall time up to which a partition's events are in the views: of the last one, or of the look that found no more.",
    {"topic": TOPIC, "partition": PARTITION},
    of=NAME,
    do="`time() - x` is the views' lag: too few workers, a slow disk, or a worker that stands still",
)
FAILED = gauge(
    "goodfaith_streams_failed_events",
    "Events that a view could not fold, or that could not be read. They are kept, and tried again when a worker takes the partition over.",
    {"partition": PARTITION},
    of=NAME,
    do="the log's `not folded` has the error; mend it, restart `streams`",
)
RECOVERING = gauge(
    "goodfaith_streams_recovering",
    "1 while a partition's table is recovered from its changelog.",
    {"partition": PARTITION},
    of=NAME,
    do="for minutes: look at the broker; with an empty disk it takes as long as docs/performance.md says",
)
MISSED = gauge(
    "goodfaith_streams_missed_records",
    "Records that retention had deleted before the views read them.",
    {"partition": PARTITION},
    of=NAME,
    do="above 0: `goodfaith streams rebuild --from logs`",
)
FOREIGN = counter(
    "goodfaith_streams_foreign_writes_total",
    "Times that another worker had written to the changelog of a partition of ours; what stands was written again.",
    of=NAME,
    do="a few after a frozen worker woke; a steady stream: two installations share a topic prefix",
)
SOUGHT = counter(
    "goodfaith_streams_sought_total",
    "Times that reading of a partition of a topic went back to the table's position.",
    of=NAME,
    do="a few around rebalances; a steady stream: look at the broker and the log",
)
