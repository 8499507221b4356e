"""Doing something at a certain report of progress while a panel's work runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def at_progress(panel: Any, number: int, action: Callable[[], None]) -> None:
    """Do ``action`` while the application handles events for the n-th report of progress, as a user would."""
    run, count = panel.widget._run, [0]
    process_events = run._process_events

    def counted() -> None:
        count[0] += 1
        process_events()
        if count[0] == number:
            action()

    run._process_events = counted


def watch_progress(panel: Any) -> list[int]:
    """A list that will hold what the progress bar shows at each report, in percent."""
    run, seen = panel.widget._run, []
    process_events = run._process_events

    def watched() -> None:
        seen.append(panel.widget.ui.progressBar.value)
        process_events()

    run._process_events = watched
    return seen
