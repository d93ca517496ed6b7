"""Renders boards as Grafana's JSON with grafana-foundation-sdk (a development dependency)."""

from __future__ import annotations

import json
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.prometheus.model import RUNBOOKS
from services.observer.boards.model import Board, Limits, Panel, Query, Unit

TAG: Final = "goodfaith"
SOURCE: Final = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
UNITS: Final[dict[Unit, str]] = {
    "ratio": "percentunit",
    "seconds": "s",
    "count": "short",
    "per_second": "cps",
    "bytes": "decbytes",
    "up": "short",
}
HEIGHTS: Final = {"number": 4, "bars": 8, "lines": 8, "table": 8}
COLUMNS: Final = 24
GOOD, WARN, BAD = "green", "orange", "red"
Visual = stat.Panel | bargauge.Panel | timeseries.Panel | table.Panel


def as_json(board: Board) -> str:
    """The board's JSON with a final newline, as it is committed and provisioned."""
    return json.dumps(build(board), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def build(board: Board) -> d.Dashboard:
    """The board in Grafana's own types."""
    made = (
        dashboard.Dashboard(f"Goodfaith: {board.title}")
        .uid(f"goodfaith-{board.key}")
        .description(board.help)
        .tags([TAG])
        .readonly()
        .timezone("utc")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        # where the runbooks are published: a constant of the installation
        .with_variable(dashboard.ConstantVariable("runbooks").value(RUNBOOKS).label("Address of the runbooks"))
        .link(
            dashboard.DashboardLink("Goodfaith")
            .type(d.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
    )
    number, top = 0, 0
    for row in board.rows:
        number += 1
        made = made.with_row(dashboard.Row(row.title).id(number).grid_pos(d.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        top += 1
        left, high = 0, 0
        for panel in row.panels:
            number += 1
            if left + panel.width > COLUMNS:
                left, top, high = 0, top + high, 0
            place = d.GridPos(h=HEIGHTS[panel.kind], w=panel.width, x=left, y=top)
            made = made.with_panel(_panel(panel).id(number).grid_pos(place))
            left, high = left + panel.width, max(high, place.h)
        top += high
    return made.build()


def _panel(panel: Panel) -> Visual:
    visual: Visual
    if panel.kind == "number":
        visual = stat.Panel().graph_mode(c.BigValueGraphMode.NONE).reduce_options(_last())
        visual = visual.color_mode(c.BigValueColorMode.VALUE if panel.limits else c.BigValueColorMode.NONE)
        visual = visual.text_mode(
            c.BigValueTextMode.VALUE_AND_NAME if any(q.legend for q in panel.queries) else c.BigValueTextMode.VALUE
        )
    elif panel.kind == "bars":
        visual = bargauge.Panel().orientation(c.VizOrientation.HORIZONTAL).reduce_options(_last()).min(0)
        visual = visual.display_mode(c.BarGaugeDisplayMode.BASIC)
    elif panel.kind == "lines":
        visual = timeseries.Panel().min(0).line_width(1).fill_opacity(8).show_points(c.VisibilityMode.NEVER)
        visual = visual.legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
        ).tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        if panel.limits:
            visual = visual.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphTresholdsStyleMode.DASHED))
    else:
        visual = table.Panel().footer(common.TableFooterOptions().show(False).reducer([]))
    visual = (
        visual.title(panel.title)
        .description(_description(panel))
        .datasource(SOURCE)
        .unit(UNITS[panel.unit])
        .height(HEIGHTS[panel.kind])
        .span(panel.width)
        .no_value(
            "none" if panel.may_be_empty else "no series: not in use, or not known" if panel.optional else "not known"
        )
    )
    if panel.kind != "table":
        visual = visual.thresholds(_thresholds(panel.limits))
        visual = visual.color_scheme(
            dashboard.FieldColor().mode(
                d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME if panel.kind == "lines" else d.FieldColorModeId.THRESHOLDS
            )
        )
    if panel.unit == "up":
        visual = visual.mappings([_words()])
    if panel.runbooks:
        visual = visual.links(
            [
                dashboard.DashboardLink(f"Runbook: {name}")
                .type(d.DashboardLinkType.LINK)
                .url(f"${{runbooks}}/{name}.md")
                .target_blank(True)
                for name in panel.runbooks
            ]
        )
    for place, query in enumerate(panel.queries):
        visual = visual.with_target(_target(query, panel, place))
    return visual


def _description(panel: Panel) -> str:
    if not panel.runbooks:
        return panel.help
    return f"{panel.help}\n\nRunbooks: {', '.join(f'docs/runbooks/{name}.md' for name in panel.runbooks)}"


def _target(query: Query, panel: Panel, place: int) -> prometheus.Dataquery:
    made = (
        prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place)).legend_format(query.legend or panel.title)
    )
    # an instant query: the last point of a range may be old, and would be shown as the current figure
    made = made.range() if panel.kind == "lines" else made.instant()
    return made.format(PromQueryFormat.TABLE if panel.kind == "table" else PromQueryFormat.TIME_SERIES)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["last"]).values(False)


def _thresholds(limits: Limits | None) -> dashboard.ThresholdsConfig:
    made = dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE)
    if limits is None:
        return made.steps([d.Threshold(value=None, color="text")])
    if limits.below:
        edges = [(None, BAD), (limits.bad, WARN), (limits.warn, GOOD)]
    else:
        edges = [(None, GOOD), (limits.warn, WARN), (limits.bad, BAD)]
    if limits.warn == limits.bad:
        edges.pop(1)
        if limits.below:
            edges[1] = (limits.bad, GOOD)
    return made.steps([d.Threshold(value=value, color=color) for value, color in edges])


def _words() -> d.ValueMap:
    return d.ValueMap(
        options={
            "0": d.ValueMappingResult(text="down", color=BAD, index=0),
            "1": d.ValueMappingResult(text="up", color=GOOD, index=1),
        }
    )
