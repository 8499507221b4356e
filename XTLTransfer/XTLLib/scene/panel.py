"""What the panels of the modules have in common: the tie to their parameter node, and an Apply that can be cancelled.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import Cancelled
from ..progress import Progress, ProgressEvent
from .words import plain

MODIFIED = "ModifiedEvent"
_LAST = -1.0  # priority of an observer: usual ones have 0


class Timer(Protocol):
    """What is asked of a timer (qt.QTimer): it calls whom its owner connected it with."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class ParameterLink:
    """Ties the scene's parameter node to a panel while the panel is shown.

    Parameters
    ----------
    widget : the module's widget, an observer (slicer.util.VTKObservationMixin) with ``ui`` and ``logic``.
    on_change : called without arguments when the link is made or cut, and with the node and the event
        when a parameter has changed.
    """

    def __init__(self, widget: Any, on_change: Callable[..., None]) -> None:
        self._widget, self._on_change = widget, on_change
        self._tag: Any = None
        self.node: Any = None

    def open(self) -> None:
        """Show the choices of the current scene's parameter node, and keep them and the panel equal."""
        self._cut()
        self.node = self._widget.logic.getParameterNode()
        self._tag = self.node.connectGui(self._widget.ui)
        # After the widgets were given the new values, whoever was connected first.
        self._widget.addObserver(self.node, MODIFIED, self._changed, priority=_LAST)
        self._blank_empty_paths()
        self._on_change()

    def close(self) -> None:
        """Leave the parameter node alone, and the panel as it is."""
        self._cut()
        self._on_change()

    def _cut(self) -> None:
        if self.node is not None:
            self.node.disconnectGui(self._tag)
            self._widget.removeObserver(self.node, MODIFIED, self._changed)
            self.node = None

    def _changed(self, caller: Any, event: str) -> None:
        self._blank_empty_paths()
        self._on_change(caller, event)

    def _blank_empty_paths(self) -> None:
        """An empty path is shown as "." by Slicer, which reads like a choice."""
        for widget in vars(self._widget.ui).values():
            if getattr(widget, "currentPath", None) == ".":
                widget.currentPath = ""


class PanelRun:
    """A context manager around the work of an Apply.

    Inside the block the chosen sections are greyed, the progress bar is shown and the button reads
    Cancel. A cancel ends the block quietly; errors pass on.

    Parameters
    ----------
    ui : has ``applyButton``, ``progressBar``, ``statusLabel`` and the sections.
    sections : names of the widgets that are greyed while the work runs.
    process_events : lets the application react to clicks, and repaint.
    on_end : called when the panel is itself again.
    text : of the button while nothing runs; default: Apply.
    """

    def __init__(
        self,
        ui: Any,
        sections: Sequence[str],
        process_events: Callable[[], None],
        on_end: Callable[[], None],
        text: str = "",
    ) -> None:
        from slicer.i18n import tr

        self._text = text or tr("Apply")
        self._ui, self._sections = ui, tuple(sections)
        self._process_events, self._on_end, self._tr = process_events, on_end, tr
        self.is_running = self.is_cancelled = False
        ui.progressBar.visible = False

    def cancel(self) -> None:
        """Stop the work at its next report."""
        if self.is_running:
            self.is_cancelled = True
            self._ui.applyButton.enabled = False
            self._ui.statusLabel.text = self._tr("Cancelling ...")

    def begin(self) -> Progress:
        """Show that work runs; for work that goes on after a click was dealt with. See also ``end``."""
        self.is_running, self.is_cancelled = True, False
        self._show(True)
        self._ui.applyButton.text = self._tr("Cancel")
        self._ui.applyButton.toolTip = self._tr("Stop the work")
        return Progress(self.show, lambda: self.is_cancelled)

    def end(self) -> None:
        """Show that the work has ended."""
        self.is_running = False
        self._show(False)
        self._ui.applyButton.text = self._text
        self._on_end()

    def __enter__(self) -> Progress:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        self.end()
        return isinstance(error, Cancelled)

    def show(self, event: ProgressEvent) -> None:
        """Show how far the work is, and take clicks."""
        self._ui.progressBar.value = round(100 * event.fraction)
        if not self.is_cancelled:
            figures = "".join(f", {name} {value:.3g}" for name, value in event.figures.items())
            self._ui.statusLabel.text = plain(event.stage) + figures + self._time_left(event.eta_s)
        self._process_events()

    def _show(self, running: bool) -> None:
        for name in self._sections:
            getattr(self._ui, name).enabled = not running
        self._ui.progressBar.value = 0
        self._ui.progressBar.visible = running
        self._ui.applyButton.enabled = running

    def _time_left(self, eta_s: float | None) -> str:
        if eta_s is None:
            return ""
        if eta_s < 90:
            return self._tr(" (about {seconds} s left)").format(seconds=round(eta_s))
        return self._tr(" (about {minutes} min left)").format(minutes=round(eta_s / 60))
