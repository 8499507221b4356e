"""What the sections of a panel ask of the application: dialogs, views, other modules.

Qt's classes are handed in, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from .words import plain


class Window(Protocol):
    """What only the application can do."""

    def show_error(self, title: str, error: BaseException, details: Sequence[str] = ()) -> None:
        """Show a failure: what did not come about, the error, and lines of detail folded away."""

    def confirm(self, question: str) -> bool:
        """Ask; True when the user agrees."""

    def ask_for_file(self, title: str, pattern: str) -> str:
        """A file that exists, "" for none. ``pattern`` : as Qt's file dialogs take it."""

    def ask_for_folder(self, title: str) -> str:
        """A folder that exists, "" for none."""

    def ask_for_new_file(self, title: str, name: str, pattern: str) -> str:
        """A file to be written, "" for none. ``name`` : proposed."""

    def show_chart(self, chart: Any) -> None:
        """Show a vtkMRMLPlotChartNode in a plot view."""

    def open_file(self, path: Path) -> None:
        """Open a file with the program that the system has for it."""

    def use_bundle(self, module: str, path: Path) -> None:
        """Choose a bundle in another module, and show that module."""


class SlicerWindow:
    """The window of the Slicer that runs this.

    Parameters
    ----------
    file_dialog, desktop_services, url : qt.QFileDialog, qt.QDesktopServices and qt.QUrl.
    """

    def __init__(self, file_dialog: Any, desktop_services: Any, url: Any) -> None:
        self._file_dialog, self._desktop_services, self._url = file_dialog, desktop_services, url

    def show_error(self, title: str, error: BaseException, details: Sequence[str] = ()) -> None:
        from .error_display import show_failure

        show_failure(title, error, details)

    def confirm(self, question: str) -> bool:
        import slicer

        return bool(slicer.util.confirmOkCancelDisplay(plain(question)))

    def ask_for_file(self, title: str, pattern: str) -> str:
        return _path(self._file_dialog.getOpenFileName(_main_window(), title, "", pattern))

    def ask_for_folder(self, title: str) -> str:
        return _path(self._file_dialog.getExistingDirectory(_main_window(), title))

    def ask_for_new_file(self, title: str, name: str, pattern: str) -> str:
        return _path(self._file_dialog.getSaveFileName(_main_window(), title, name, pattern))

    def show_chart(self, chart: Any) -> None:
        import slicer

        slicer.modules.plots.logic().ShowChartInLayout(chart)

    def open_file(self, path: Path) -> None:
        self._desktop_services.openUrl(self._url.fromLocalFile(str(path)))

    def use_bundle(self, module: str, path: Path) -> None:
        import slicer

        slicer.util.getModuleLogic(module).getParameterNode().bundle = path
        slicer.util.selectModule(module)


def _main_window() -> Any:
    import slicer

    return slicer.util.mainWindow()


def _path(answer: Any) -> str:
    """The path that a file dialog gives; other bindings than Slicer's give it with the chosen filter."""
    return str(answer[0] if isinstance(answer, tuple) else answer or "")
