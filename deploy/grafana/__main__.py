"""`python -m deploy.grafana`: write the boards' JSON to `deploy/grafana/dashboards/`."""

from __future__ import annotations

from pathlib import Path

from services.observer.boards.catalogue import BOARDS
from services.observer.boards.model import Board

FOLDER = Path(__file__).resolve().parent / "dashboards"


def path_of(board: Board) -> Path:
    """Path of a board's JSON."""
    return FOLDER / f"{board.key}.json"


def main() -> None:
    """Write all boards, and remove files of boards that no longer exist."""
    from deploy.grafana.render import as_json

    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        path_of(board).write_text(as_json(board), encoding="utf-8")
    for old in set(FOLDER.glob("*.json")) - {path_of(board) for board in BOARDS}:
        old.unlink()


if __name__ == "__main__":
    main()
