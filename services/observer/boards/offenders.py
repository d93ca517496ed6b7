"""The board "Repeat offenders"."""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Board, Panel, Query, Row
from services.observer.boards.promql import one, view, view_quantile

OFFENDERS: Final = Board(
    key="offenders",
    title="Repeat offenders",
    help="Do sanctions keep sellers from offending again, and how do complainants stand? For the programme's owners. "
    "Counts only: goodfaith standing list and the API name the sellers.",
    rows=(
        Row(
            "Sellers",
            (
                Panel(
                    "tiers",
                    "Sellers by violations in 365 days",
                    "One, two, three to five, six and more. If the last grows, sanctions do not stop them "
                    "(goodfaith standing list --tier 6+).",
                    one(view("goodfaith_repeat_offenders", "tier"), "{{tier}}"),
                    "count",
                    "number",
                    width=12,
                ),
                Panel(
                    "recidivism",
                    "Recidivism",
                    "Of the sellers whose first violation was one to two years ago, the share that had a further one "
                    "within 365 days. If it rises, warnings do not reach sellers, or do not matter to them.",
                    one(
                        'sum(max by (partition) (goodfaith_recidivism_sellers_again{cohort="whole"}))'
                        ' / (sum(max by (partition) (goodfaith_recidivism_sellers{cohort="whole"})) > 0)'
                    ),
                    "ratio",
                    "number",
                    width=6,
                    may_be_empty=True,
                ),
                Panel(
                    "interval",
                    "Time between offences",
                    "Times since the previous offence within which half, and 90 %, of the repeated offences came.",
                    tuple(
                        Query(view_quantile(q, "goodfaith_offence_interval_seconds_bucket"), f"p{q * 100:g}")
                        for q in (0.5, 0.9)
                    ),
                    "seconds",
                    "number",
                    width=6,
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Sanctions",
            (
                Panel(
                    "under",
                    "Sellers under a measure",
                    "If it jumps, did the policy or the reviewers change? goodfaith standing list --measure closed "
                    "names them.",
                    one("max by (measure) (goodfaith_sellers_under)", "{{measure}}"),
                    "count",
                    "bars",
                ),
                Panel(
                    "sanctions",
                    "Sanctions in the last day",
                    "Begun and ended, by cause. If many are lifted by reversal, decisions are overturned.",
                    one(
                        "round(sum by (change, cause) (increase(goodfaith_sanctions_total[1d]))) > 0",
                        "{{change}} ({{cause}})",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "entries",
                    "Penalty entries in the last day",
                    "By ledger and kind; many reversals mean that decisions are overturned.",
                    one(
                        "round(sum by (ledger, kind) (increase(goodfaith_penalty_entries_total[1d]))) > 0",
                        "{{ledger}}: {{kind}}",
                    ),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
        Row(
            "Complainants",
            (
                Panel(
                    "good_faith",
                    "Good-faith complainants",
                    "Accounts by their standing in the good-faith mechanism.",
                    one(view("goodfaith_good_faith_complainants", "state"), "{{state}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "concentration",
                    "Concentration of filings",
                    "Herfindahl-Hirschman index of the items filed in 30 days; at 100 % one complainant files "
                    "everything. Above 18 % a few cause most of the work: GET /internal/streams/filings names them.",
                    one("goodfaith:filing_concentration:hhi"),
                    "ratio",
                    "number",
                    may_be_empty=True,
                ),
                Panel(
                    "filed_by",
                    "Items filed, by size of complainant",
                    "Share of the items of 30 days whose complainant filed this many of them. If 1000+ rises, the "
                    "programme works for few: look at lanes and quotas.",
                    one("goodfaith:filing_items:share", "{{size}}"),
                    "ratio",
                    "bars",
                    may_be_empty=True,
                ),
                Panel(
                    "misuse",
                    "Measures against misuse, last day",
                    "By kind of change. If many are reversed, findings or the policy are too strict.",
                    one("round(sum by (kind) (increase(goodfaith_misuse_changes_total[1d]))) > 0", "{{kind}}"),
                    "count",
                    "bars",
                    may_be_empty=True,
                ),
            ),
        ),
    ),
)
