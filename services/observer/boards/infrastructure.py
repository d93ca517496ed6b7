"""The board "Infrastructure"."""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Board, Limits, Panel, Query, Row
from services.observer.boards.promql import one, rate, wall_age

INFRASTRUCTURE: Final = Board(
    key="infrastructure",
    title="Infrastructure",
    help="Do the broker, the database and the processes work, and does what is sent out arrive?",
    rows=(
        Row(
            "Broker and database",
            (
                Panel(
                    "broker",
                    "Broker",
                    "Seen by watch from outside. Down: intake still accepts, no deadline passes, workers wait.",
                    one("min(goodfaith_broker_up)"),
                    "up",
                    "number",
                    Limits(1, 1, below=True),
                    runbooks=("BrokerDown",),
                    width=4,
                ),
                Panel(
                    "broker_partitions",
                    "Partitions at risk",
                    "Under-replicated: a node is away or behind. Offline: these partitions can be neither read nor "
                    "written.",
                    (
                        Query("max(goodfaith_broker_under_replicated_partitions)", "under-replicated"),
                        Query("max(goodfaith_broker_offline_partitions)", "offline"),
                    ),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("BrokerUnderReplicated", "BrokerOfflinePartitions"),
                    width=8,
                ),
                Panel(
                    "database",
                    "Database",
                    "Seen by watch from outside. Down: intake answers 503; workers wait, and later continue from "
                    "their cursors.",
                    one("min(goodfaith_database_up)"),
                    "up",
                    "number",
                    Limits(1, 1, below=True),
                    runbooks=("DatabaseDown",),
                    width=4,
                ),
                Panel(
                    "connections",
                    "Connections in use",
                    "Share of the database's connections. Near 100 %: run fewer workers, or put a pooler in front.",
                    one("sum(goodfaith_database_connections) / max(goodfaith_database_connections_max)"),
                    "ratio",
                    "number",
                    Limits(0.7, 0.9),
                    runbooks=("DatabaseConnectionsHigh",),
                    width=4,
                ),
                Panel(
                    "transaction",
                    "Oldest transaction",
                    "A transaction that stays open holds locks and keeps old rows from being removed.",
                    one(wall_age("goodfaith_database_oldest_transaction_timestamp_seconds")),
                    "seconds",
                    "number",
                    Limits(60, 600),
                    runbooks=("DatabaseOldTransaction",),
                    width=4,
                    may_be_empty=True,
                ),
                Panel(
                    "database_size",
                    "Size of the database",
                    "It grows with the load; goodfaith prune deletes what is no longer needed (docs/how-to/prune.md).",
                    one("max(goodfaith_database_size_bytes)"),
                    "bytes",
                    width=8,
                ),
                Panel(
                    "reconciliation",
                    "Views against the database",
                    "Differences between the stream views and PostgreSQL, counted at one position. Must always be 0, "
                    "else the figures on these boards are wrong; goodfaith streams rebuild corrects them.",
                    one("max by (view) (goodfaith_reconciliation_difference)", "{{view}}"),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("ReconciliationDifference",),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "reconciliation_age",
                    "Last compared",
                    "How long ago each view was last compared with the database.",
                    one(wall_age("goodfaith_reconciliation_last_timestamp_seconds", "view"), "{{view}}"),
                    "seconds",
                    "number",
                    Limits(600, 1800),
                    runbooks=("ReconciliationOld",),
                    width=8,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "up",
                    "Processes that answer",
                    "All processes that are scraped and answer.",
                    one("sum(up)"),
                    "count",
                    "number",
                    width=4,
                ),
                Panel(
                    "down",
                    "Processes that do not answer",
                    "By job. The supervisor restarts them; look at their logs. While one is down, its figures are "
                    "not known.",
                    one("count by (job) (up == 0)", "{{job}}"),
                    "count",
                    "number",
                    Limits(1, 1),
                    runbooks=("ProcessDown", "InstanceDown"),
                    width=8,
                    may_be_empty=True,
                ),
                Panel(
                    "progress",
                    "Loops that do not come round",
                    "Seconds since a worker's loop last came round. Above a minute it is stuck, even if its port "
                    "answers.",
                    one("max by (worker) (time() - goodfaith_worker_progress_timestamp_seconds)", "{{worker}}"),
                    "seconds",
                    limits=Limits(30, 60),
                    runbooks=("WorkerStuck",),
                ),
                Panel(
                    "batch",
                    "Time of a batch, 99 of a hundred",
                    "Time of one transaction, by kind of worker. If it grows, look at the database.",
                    one(
                        "histogram_quantile(0.99, sum by (worker, le) "
                        "(rate(goodfaith_event_processing_duration_seconds_bucket[5m])))",
                        "{{worker}}",
                    ),
                    "seconds",
                    limits=Limits(1, 5),
                    may_be_empty=True,
                ),
                Panel(
                    "memory",
                    "Memory",
                    "Resident memory of the largest process of each job, the eight largest. Growth without end is a leak.",
                    one("topk(8, max by (job) (process_resident_memory_bytes))", "{{job}}"),
                    "bytes",
                ),
                Panel(
                    "cpu",
                    "Processor",
                    "Cores used by each job, the eight busiest. A job that uses one core per process is bound by "
                    "that: start another worker.",
                    one("topk(8, sum by (job) (rate(process_cpu_seconds_total[5m])))", "{{job}}"),
                    "count",
                ),
                Panel(
                    "rebalances",
                    "Rebalances in the last hour",
                    "Assignments taken over. If it grows steadily, workers come and go: look at logs and the session "
                    "timeout.",
                    one("round(sum by (worker) (increase(goodfaith_consumer_rebalances_total[1h])))", "{{worker}}"),
                    "count",
                    "bars",
                    Limits(50, 500),
                ),
                Panel(
                    "transient",
                    "Batches put off",
                    "By the part that failed for a while: broker, database. A bug is shown as part bug, and needs a "
                    "person.",
                    one(
                        "round(sum by (worker, part) (increase(goodfaith_transient_failures_total[1h]))) > 0",
                        "{{worker}}: {{part}}",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "fenced",
                    "Fenced writes in the last hour",
                    "A few around rebalances are normal. A steady stream means that two installations share a "
                    "database.",
                    one("round(sum by (worker) (increase(goodfaith_fenced_total[1h]))) > 0", "{{worker}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "What leaves the house",
            (
                Panel(
                    "deliveries",
                    "Messages",
                    "By channel and result. Failed: look at the template. Later: the mail server refuses for now.",
                    one(f"{rate('goodfaith_deliveries_total', 'channel', 'result')} > 0", "{{channel}}: {{result}}"),
                    "per_second",
                    may_be_empty=True,
                ),
                Panel(
                    "delivery_oldest",
                    "Oldest message still to be told",
                    "No window begins before its notice is sent. If it is old, look at the mail server, a webhook, "
                    "or intake's internal API.",
                    one(wall_age("goodfaith_delivery_oldest_pending_timestamp_seconds")),
                    "seconds",
                    limits=Limits(300, 900),
                    runbooks=("DeliveryLate", "MessagesFailed"),
                    may_be_empty=True,
                ),
                Panel(
                    "webhooks",
                    "Webhooks by circuit",
                    "If many are open at once, look at our own network.",
                    one("max by (state) (goodfaith_webhook_endpoints)", "{{state}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "resent",
                    "Commands sent again to the marketplace",
                    "For lack of a receipt, in the last hour. If it grows, the marketplace does not answer, and "
                    "items are not handled.",
                    (
                        Query("round(sum(increase(goodfaith_marketplace_commands_resent_total[1h])))", "listings"),
                        Query("round(sum(increase(goodfaith_seller_commands_resent_total[1h])))", "sellers"),
                    ),
                    "count",
                    "number",
                    Limits(1, 100),
                    runbooks=("MarketplaceSilent", "SellerCommandsUnanswered"),
                ),
                Panel(
                    "statements",
                    "Statements of reasons refused",
                    "They wait for a person: goodfaith statements list.",
                    one("max(goodfaith_statements_refused)"),
                    "count",
                    "number",
                    Limits(1, 10),
                    runbooks=("StatementsRefused",),
                    optional=True,
                ),
                Panel(
                    "statements_waiting",
                    "Statements of reasons waiting",
                    "They wait to be sent to the EU's database. If they grow while a sender runs, that database is "
                    "away.",
                    one("max(goodfaith_statements_waiting)"),
                    "count",
                    "number",
                    Limits(1000, 10_000),
                    optional=True,
                ),
            ),
        ),
    ),
)
