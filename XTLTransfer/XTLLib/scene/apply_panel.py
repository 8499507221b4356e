"""What the panels that apply a bundle have in common: Apply in the background, which becomes Cancel, and its end.

Widgets and timers are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import Cancelled
from .background import BackgroundRun
from .choices import BundleReader, describe_bundle
from .packages import ensure_packages
from .panel import PanelRun, Timer
from .table_view import fit_columns
from .words import plain

_SECTIONS = tuple(f"{name}CollapsibleButton" for name in ("inputs", "settings", "advanced", "outputs"))


@dataclass(frozen=True)
class Words:
    """What a panel says.

    Attributes
    ----------
    title : of the module, for the question about packages. action : tool tip of Apply.
    failed : head of an error message. nothing : after a cancel or a failure.
    """

    title: str
    action: str
    failed: str
    nothing: str


class ApplyPanel:
    """A panel's behaviour around Apply; :meth:`_start`, :meth:`_take_result` and :meth:`update` are a panel's own.

    Parameters
    ----------
    ui : the panel's widgets by name. scene : vtkMRMLScene.
    task : "segmentation" or "classification". words : what is said.
    channels : channel -> the parameter that holds its volume.
    run_timer : repeating; its owner connects it with :meth:`tick`.
    show_error : shows a failure to the user: what did not come about, the error, lines of detail.
    """

    def __init__(
        self,
        ui: Any,
        scene: Any,
        task: str,
        words: Words,
        channels: Mapping[str, str],
        run_timer: Timer,
        show_error: Callable[[str, BaseException, Sequence[str]], None],
        background: BackgroundRun,
    ) -> None:
        from slicer.i18n import tr

        self._ui, self._scene, self._words, self._channels, self._tr = ui, scene, words, dict(channels), tr
        self._run_timer, self._show_error, self._background = run_timer, show_error, background
        self._bundles = BundleReader(task)
        sections = [name for name in _SECTIONS if hasattr(ui, name)]
        self.run = PanelRun(ui, sections, lambda: None, self.update)
        self._parameters: Any = None
        self._message = ""
        self._began = 0.0

    def update(self, by_user: bool = False) -> None:
        """Show what the parameters say.

        Parameters
        ----------
        by_user : something was chosen: what was said of the last run is out of date.
        """
        raise NotImplementedError

    def say(self, message: str) -> None:
        """Show a sentence, until the user goes on."""
        self._message = self._ui.statusLabel.text = message

    def apply(self) -> None:
        """Start; while it runs, cancel."""
        if self.run.is_running:
            self.cancel()
            return
        if self._parameters is None:
            return
        self._message = self._words.nothing
        with self._errors_shown(self._words.failed):
            ensure_packages(self._words.title)
            self._start(self._parameters)
            self._began = time.monotonic()
            self.run.begin()
            self._run_timer.start()
        self._ui.statusLabel.text = self._tr("Starting ...") if self.run.is_running else self._message

    def cancel(self) -> None:
        """Stop a run that is under way; :meth:`tick` finds its end."""
        if self.run.is_running:
            self.run.cancel()
            self._background.cancel()

    def tick(self) -> None:
        """Take in what the worker reported, and notice its end."""
        was_running = self._background.is_running
        for event in self._background.poll():
            if self.run.is_running:
                self.run.show(event)
        # What has just come waits for the next look: to receive it and to show it takes longer than a window may wait.
        if self.run.is_running and not was_running:
            self._finish()

    def _start(self, parameters: Any) -> None:
        """Hand the work to the worker. Raises XTLError for what the user can put right."""
        raise NotImplementedError

    def _take_result(self) -> str:
        """Bring the result into the scene; a sentence about it."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Bring the result into the scene and say what it is."""
        self._message = self._words.nothing
        try:
            with self._errors_shown(self._words.failed):
                self._message = self._take_result()
                self._ui.bundlePathLineEdit.addCurrentPathToHistory()
        finally:
            self._background.forget()
            self.run.end()

    def _in_seconds(self) -> str:
        """How long the run took, in words."""
        return self._tr("in {seconds:.1f} s").format(seconds=time.monotonic() - self._began)

    def _show_choice(self, bundle: Any, missing: str) -> None:
        """Show the bundle, the channels that it takes, and whether Apply can run."""
        ui, table = self._ui, self._parameters.table
        ui.bundleLabel.text = describe_bundle(bundle)
        ui.bundleLabel.visible = bundle is not None
        for channel, name in self._channels.items():
            getattr(ui, f"{name}Selector").enabled = bundle is None or channel in bundle.channels
        if ui.tableView.mrmlTableNode() is not table:
            ui.tableView.setMRMLTableNode(table)
            fit_columns(ui.tableView)
        ui.resultsCollapsibleButton.visible = table is not None
        ui.applyButton.enabled = not missing
        ui.applyButton.toolTip = plain(missing) or self._words.action
        ui.statusLabel.text = self._message or missing

    def _warm(self, bundle: Any) -> None:
        """Let the worker load the chosen bundle while the user still chooses."""
        if bundle is not None:
            self._background.warm(self._parameters.bundle)
            self._run_timer.start()

    def _volumes(self) -> dict[str, Any]:
        return {channel: getattr(self._parameters, name) for channel, name in self._channels.items()}

    @contextmanager
    def _errors_shown(self, title: str) -> Iterator[None]:
        """Show what goes wrong as a message; a cancel needs none."""
        try:
            yield
        except Cancelled:
            pass
        except Exception as error:
            self._show_error(title, error, self._background.details)
