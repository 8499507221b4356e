"""The button "Adapt to this scanner": the bundle learns from the corrected case in a process of its own.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.images import write_volume
from ..data.volume import Volume
from ..errors import Cancelled
from ..progress import ProgressEvent
from .button_run import ButtonRun, ProcessLike
from .nodes import case_from_nodes
from .words import plain

MakeProcess = Callable[[Path, Mapping[str, Path], Path, Path], ProcessLike]
"""(bundle, channel -> image file, mask file, folder of the new bundle) -> an adaptation that has not started."""


class AdaptSection:
    """The button, its progress, and the offer of what came of it.

    Parameters
    ----------
    ui : has ``adaptButton``, ``adaptProgressBar``, ``adaptLabel`` and ``useAdaptedButton``.
    make_process : None takes ``xtl adapt``.
    show_error : shows a failure to the user: what did not come about, the error, lines of detail.
    """

    def __init__(
        self,
        ui: Any,
        show_error: Callable[[str, BaseException, Sequence[str]], None],
        make_process: MakeProcess | None = None,
    ) -> None:
        from slicer.i18n import tr

        self._ui, self._show_error, self._tr = ui, show_error, tr
        self._make_process = make_process or _xtl_adapt
        self._run = ButtonRun(
            ui.adaptButton,
            ui.adaptProgressBar,
            ui.adaptLabel,
            tr("Adapt to this scanner"),
            tr("The model was not adapted."),
            self._fail,
            self._ended,
            cancelled=tr("Cancelled; nothing was kept."),
        )
        self._files: tempfile.TemporaryDirectory | None = None
        self._offered: Path | None = None
        self._message = ""
        self._show("")

    @property
    def is_running(self) -> bool:
        """Whether an adaptation is under way."""
        return self._run.is_running

    def update(self, missing: str) -> None:
        """Say whether the button can be pressed. ``missing`` : what the user has to do first; "" for nothing."""
        if self._run.is_running:
            return
        self._ui.adaptButton.enabled = not missing
        self._ui.adaptButton.toolTip = plain(missing) or self._tr(
            "Train the model further on this case as you corrected it, in the background. The model itself stays; "
            "a new one is offered when it is better on a part of the case that it did not see."
        )

    def start(self, bundle: Any, channels: Mapping[str, Any], label: Any) -> None:
        """Send the case to a new process.

        Parameters
        ----------
        bundle : the chosen one. channels : channel -> volume node. label : the corrected lesions.
        """
        self._message = ""
        if self._run.start(lambda: self._send(bundle, channels, label), self._take):
            self._offered = None
            self._show_offer()

    def cancel(self) -> None:
        """Stop it; :meth:`tick` finds its end."""
        self._run.cancel()

    def tick(self) -> None:
        """Take in what the process reported, and notice its end."""
        self._run.tick()

    def take_offer(self) -> Path | None:
        """The folder of the adapted bundle, which the user accepts."""
        offered, self._offered = self._offered, None
        self._show("")
        return offered

    def close(self) -> None:
        """The panel goes: end the process and remove its files."""
        self._run.close()
        self._remove_files()

    def _send(self, bundle: Any, channels: Mapping[str, Any], label: Any) -> ProcessLike:
        from ..bundle.library import models_folder

        used = {name: node for name in bundle.channels if (node := channels.get(name)) is not None}
        case = case_from_nodes(used, bundle.reference, mask_node=label)
        self._files = tempfile.TemporaryDirectory(prefix="xtl-adapt-")
        folder = Path(self._files.name)
        files, mask = {name: folder / f"{name}.nii" for name in case.channels}, folder / "mask.nii"
        volumes = [*((volume, files[name]) for name, volume in case.channels.items()), (case.mask, mask)]
        out = _free_folder(models_folder(), bundle.name)
        return _AfterWriting(volumes, lambda: self._make_process(bundle.path, files, mask, out))

    def _take(self, outcome: Any) -> None:
        if outcome.refused:
            text = self._tr("The adapted model is no better and was not kept: {outcome}.")
        else:
            self._offered = outcome.bundle
            text = self._tr("Adapted: {outcome}.")
        self._message = text.format(outcome=outcome)

    def _ended(self) -> None:
        self._remove_files()
        self._show(self._message or self._run.message)

    def _fail(self, title: str, error: BaseException) -> None:
        self._remove_files()
        self._show_error(title, error, ())

    def _show(self, text: str) -> None:
        self._ui.adaptLabel.text = text
        self._ui.adaptLabel.visible = bool(text)
        self._show_offer()

    def _show_offer(self) -> None:
        self._ui.useAdaptedButton.visible = self._ui.useAdaptedButton.enabled = self._offered is not None

    def _remove_files(self) -> None:
        if self._files is not None:
            self._files.cleanup()
            self._files = None


class _AfterWriting:
    """A process that starts when its images are written: one at each look, as all at once would stop the window.

    Parameters
    ----------
    volumes : with the file of each. make : gives the process.
    """

    def __init__(self, volumes: Sequence[tuple[Volume, Path]], make: Callable[[], ProcessLike]) -> None:
        self._volumes, self._make = list(volumes), make
        self._process: ProcessLike | None = None
        self._error: Exception | None = None

    @property
    def is_running(self) -> bool:
        return self._error is None and (self._process is None or self._process.is_running)

    def start(self) -> None:
        """Nothing is done before the first look."""

    def poll(self) -> list[ProgressEvent]:
        if self._process is not None:
            return self._process.poll()
        if self._error is not None:
            return []
        try:
            if self._volumes:
                write_volume(*self._volumes.pop(0))
            else:
                process = self._make()
                process.start()
                self._process = process
        except Exception as error:  # result() tells it
            self._error = error
        return []

    def cancel(self) -> None:
        if self._process is not None:
            self._process.cancel()
        elif self._error is None:
            self._error = Cancelled("adaptation")

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._process.result()

    def close(self, patience_s: float = 0.0) -> None:
        if self._process is not None:
            self._process.close(patience_s)


def _xtl_adapt(bundle: Path, volumes: Mapping[str, Path], mask: Path, out: Path) -> ProcessLike:
    from ..training.adapt_process import AdaptProcess

    return AdaptProcess(bundle, volumes, mask, out)


def _free_folder(library: Path, name: str) -> Path:
    """A folder of the model library that is not there yet: name-adapted, name-adapted-2, ..."""
    stem = name if name.endswith("-adapted") else f"{name}-adapted"
    number, folder = 1, library / stem
    while folder.exists():
        number += 1
        folder = library / f"{stem}-{number}"
    return folder
