"""A live table of a study on a terminal: its arms, what is at work, and how long it will take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .board import Board

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 20
_UPDATES_PER_S = 4
_SHOWN = 16  # runs at work


class LiveTable:
    """A run.Watch that draws; to be used in a ``with`` block. Needs the package rich and a terminal."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name, self._began, self._drawn = name, time.monotonic(), 0.0
        self._live = Live(console=Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, board: Board) -> None:
        now = time.monotonic()
        if now - self._drawn >= 1 / _UPDATES_PER_S or board.fraction >= 1:
            self._drawn = now
            self._live.update(table_of(board, self._name, now - self._began), refresh=True)


def table_of(board: Board, name: str, elapsed_s: float) -> Table:
    """The board as rich draws it."""
    from rich.table import Table

    table = Table(title=f"{name}: {board.line}, {_remaining(board, elapsed_s)}", title_justify="left")
    for title in ("arm or run", "finished", "failed", f"mean {board.metric} so far"):
        table.add_column(title, justify="left" if title.startswith("arm") else "right")
    for arm, count in board.arms.items():
        mean = "" if count.mean is None else f"{count.mean:.3f}"
        table.add_row(arm, f"{count.finished} of {count.planned}", str(count.failed or ""), mean)
    table.add_section()
    for number, (run, (fraction, stage)) in enumerate(board.running.items()):
        if number == _SHOWN:
            table.add_row(f"and {len(board.running) - _SHOWN} more")
            break
        full = round(_BAR * fraction)
        table.add_row(run, f"{'━' * full}{'╌' * (_BAR - full)} {fraction:4.0%}", "", stage)
    return table


def _remaining(board: Board, elapsed_s: float) -> str:
    done = board.fraction
    if done >= 1:
        return f"{_clock(elapsed_s)} in all"
    return f"{_clock(elapsed_s)} so far" + (
        f", about {_clock(elapsed_s * (1 - done) / done)} left" if done > 0.02 else ""
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
