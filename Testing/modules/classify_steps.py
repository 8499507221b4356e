"""What a user does in the panel of XTL Classify, and waits for."""

from __future__ import annotations

from typing import Any

from lent_worker import wait


def is_running(panel: Any) -> bool:
    return panel.widget._panel.run.is_running


def finish(panel: Any) -> None:
    wait(lambda: not is_running(panel))


def apply(panel: Any) -> None:
    panel.widget.ui.applyButton.click()
    finish(panel)


def settle(panel: Any) -> None:
    """Until nothing moves any more, and everything is rated that can be."""
    own = panel.widget._panel
    quiet = [0]

    def is_quiet() -> bool:
        is_busy = panel.widget._movedTimer.active or own._due is not None or own.run.is_running
        quiet[0] = 0 if is_busy else quiet[0] + 1
        return quiet[0] > 3

    wait(is_quiet)
