"""Dashboards as code, for Grafana (`python -m deploy.grafana`), `goodfaith top` and the status page."""

from __future__ import annotations

from services.observer.boards.catalogue import BOARDS, PANELS
from services.observer.boards.model import Board, Panel, Query

__all__ = ["BOARDS", "PANELS", "Board", "Panel", "Query", "queries"]


def queries() -> tuple[tuple[Panel, Query], ...]:
    """Every query of every board, with its panel."""
    return tuple((panel, query) for board in BOARDS for panel in board.panels() for query in panel.queries)
