"""Dashboards as code. `python -m deploy.grafana` writes Grafana's JSON from the declarations in `boards.py`."""

from __future__ import annotations

from deploy.grafana.boards import BOARDS, PANELS
from deploy.grafana.model import Board, Panel, Query

__all__ = ["BOARDS", "PANELS", "Board", "Panel", "Query", "queries"]


def queries() -> tuple[tuple[Panel, Query], ...]:
    """Every query of every board, with its panel."""
    return tuple((panel, query) for board in BOARDS for panel in board.panels() for query in panel.queries)
