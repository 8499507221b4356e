"""What the tests of XTL Transfer do again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import slicer


def wait(done: Callable[[], bool], limit_s: float = 120.0) -> None:
    """Let the application handle events until ``done``."""
    deadline = time.monotonic() + limit_s
    while not done():
        slicer.app.processEvents()
        time.sleep(0.02)
        assert time.monotonic() < deadline, "it took too long"


def look(panel: Any) -> str:
    """Wait until the choices were looked at; what the panel then says."""
    wait(lambda: not panel.widget._panel.is_waiting)
    return panel.widget.ui.statusLabel.text


def train(panel: Any) -> None:
    """Press Apply and wait for the end."""
    assert panel.widget.ui.applyButton.enabled, panel.widget.ui.statusLabel.text
    panel.widget.ui.applyButton.click()
    wait(lambda: not panel.widget._panel.is_running)
    look(panel)


class FakeWindow:
    """A window whose user always answers the same, and that notes down what was asked of it."""

    def __init__(self, file: str = "", agrees: bool = True) -> None:
        self.file, self.agrees = file, agrees
        self.errors: list[tuple[str, BaseException]] = []
        self.asked: list[str] = []
        self.charts: list[Any] = []
        self.opened: list[Any] = []
        self.used: list[tuple[str, Any]] = []

    def show_error(self, title: str, error: BaseException, details: Any = ()) -> None:
        self.errors.append((title, error))

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees

    def ask_for_file(self, title: str, pattern: str) -> str:
        return self.file

    def ask_for_folder(self, title: str) -> str:
        return self.file

    def ask_for_new_file(self, title: str, name: str, pattern: str) -> str:
        return self.file

    def show_chart(self, chart: Any) -> None:
        self.charts.append(chart)

    def open_file(self, path: Any) -> None:
        self.opened.append(path)

    def use_bundle(self, module: str, path: Any) -> None:
        self.used.append((module, path))


def with_window(panel: Any, window: FakeWindow) -> FakeWindow:
    """Let the panel ask a fake window."""
    widget = panel.widget._panel
    for part in (widget, widget.study, widget.library):
        part._window = window
    for run in (widget._plan, widget.study._plan, widget.study._run, widget.library._run):
        run._show_error = window.show_error
    return window
