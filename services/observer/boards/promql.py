"""Parts of the boards' queries, in PromQL.

Series of the stream views have a label `partition`, which moves between workers: the queries take the maximum for each
partition first, then the sum. Business times are subtracted from `goodfaith_clock_timestamp_seconds`, wall times from
`time()`.
"""

from __future__ import annotations

from typing import Final

from services.observer.boards.model import Query

HOUR: Final = 3600.0
DAY: Final = 86_400.0
LATE_STAGE: Final = "0.99"
CLOCK: Final = "scalar(max(goodfaith_clock_timestamp_seconds))"


def view(series: str, *by: str) -> str:
    """A figure of the stream views, summed over partitions."""
    inner = f"max by ({', '.join(('partition', *by))}) ({series})"
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def view_quantile(quantile: float, series: str, *by: str, window: str | None = None) -> str:
    """A quantile of a histogram of the stream views, over everything that they know or over a window."""
    inner = view(series, "le", *by)
    if window is not None:
        inner = f"clamp_min({inner} - ({inner.replace(series, f'{series} offset {window}')} or {inner} * 0), 0)"
    return f"histogram_quantile({quantile}, {inner})"


def wall_age(series: str, *by: str) -> str:
    """Seconds since the earliest of several wall timestamps; no value if all are 0."""
    return f"time() - min by ({', '.join(by)}) ({series} > 0)" if by else f"time() - min({series} > 0)"


def business_age(series: str, *by: str) -> str:
    """Seconds of business time since the earliest of several timestamps; no value if all are 0."""
    inner = f"min by ({', '.join(by)}) ({series} > 0)" if by else f"min({series} > 0)"
    return f"{CLOCK} - {inner}"


def rate(series: str, *by: str) -> str:
    """How much a counter grows per second, over five minutes."""
    return f"sum by ({', '.join(by)}) (rate({series}[5m]))" if by else f"sum(rate({series}[5m]))"


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    """A panel's only query."""
    return (Query(expr, legend),)
