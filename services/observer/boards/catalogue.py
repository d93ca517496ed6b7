"""The four boards, and their panels by key. Names of series: docs/reference/metrics.md and the rules in deploy/prometheus."""

from __future__ import annotations

from typing import Final

from services.observer.boards.flow import FLOW
from services.observer.boards.infrastructure import INFRASTRUCTURE
from services.observer.boards.offenders import OFFENDERS
from services.observer.boards.target import TARGET

BOARDS: Final = (TARGET, FLOW, OFFENDERS, INFRASTRUCTURE)
PANELS: Final = {panel.key: panel for board in BOARDS for panel in board.panels()}
