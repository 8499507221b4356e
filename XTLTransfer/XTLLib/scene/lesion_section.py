"""The part of the XTL Segment panel below Apply: the table that centres the views, clicks, undo and redo.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import InputError
from ..inference.lesions import Regions
from .clicks import ClickTool
from .interactive import InteractiveLesions
from .surfaces import hide_in_3d, is_shown_in_3d, show_in_3d_by_pieces
from .table_view import fit_columns
from .words import in_sentences

_DONE = object()
_AT_ONCE_S = 0.02


class LesionSection:
    """Ties the lesion table and its buttons to a result in the scene.

    Parameters
    ----------
    ui : has ``tableView``, ``addLesionButton``, ``removeLesionButton``, ``undoButton`` and ``redoButton``.
    on_drawn : see InteractiveLesions.
    on_work : there is something to be done; the owner calls :meth:`work` now and then while :attr:`is_working`.
    say : shows a sentence to the user.
    """

    def __init__(
        self, ui: Any, on_drawn: Callable[[], None], on_work: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._ui, self._on_work, self._say = ui, on_work, say
        self._buttons = {"add": ui.addLesionButton, "remove": ui.removeLesionButton}
        self._tool = ClickTool(self._clicked, self.stop_clicks)
        self._mode = ""
        self._scene: Any = None
        self._parameters: Any = None
        self._in_3d: tuple[Any, bool] = (None, False)  # what was done last: the segmentation, and whether shown
        self._surface: Iterator[None] | None = None  # that is being made
        self._is_outdated = False  # a surface that is shown
        self.lesions = InteractiveLesions(on_drawn, keeps_surface=True)

    def attach(self, parameters: Any, scene: Any) -> None:
        """Serve this parameter node."""
        self._scene, self._parameters, self._in_3d, self._surface = scene, parameters, (None, False), None
        self.lesions.attach(parameters)
        self._try(self.lesions.take_in)  # what was drawn while nobody looked
        self._try(self.lesions.show_chosen)

    def release(self) -> None:
        """Let go of the scene."""
        self.stop_clicks()
        self.lesions.release()
        self._scene = self._parameters = self._surface = None
        self._in_3d = (None, False)

    def update(self, bundle: Any) -> None:
        """Show what the parameters say, and what can be done.

        Parameters
        ----------
        bundle : the chosen one or None; sliders that show the settings of another bundle than the result's
            leave the result as it is.
        """
        if bundle is not None and bundle.name != self.lesions.bundle_name:
            self.lesions.hold()
        else:
            self._try(self._refresh)
        self._follow_3d()
        is_live = self.lesions.is_live
        for button in self._buttons.values():
            button.enabled = is_live
        if not is_live and self._mode:
            self.stop_clicks()
        self._show_history()

    def take_in(self) -> None:
        """Follow what was drawn in the Segment Editor."""
        self._try(self.lesions.take_in)
        self._show_history()

    def settle(self) -> None:
        """Nothing was moved or drawn for a moment: follow what was drawn, and find out where the lesions lie."""
        self.take_in()
        self._try(self.lesions.locate)

    def row_chosen(self, current: Any, previous: Any = None) -> None:
        """A row of the table became the current one (a QModelIndex, as the view shows it, sorted or not)."""
        text = str(current.sibling(current.row(), 0).data()) if current.isValid() else ""
        if text:
            self._try(lambda: self.lesions.choose(int(float(text))))

    def wait_for_clicks(self, mode: str, is_on: bool) -> None:
        """Take clicks in the views as lesions to "add" or to "remove", or give the mouse back."""
        if not is_on:
            if mode == self._mode:
                self.stop_clicks()
            return
        self._mode = mode
        for name, button in self._buttons.items():
            if name != mode and button.checked:
                button.checked = False
        self._tool.start(self._scene)

    def undo(self) -> None:
        """Take the last edit back."""
        self._try(self.lesions.undo)
        self._show_history()

    def redo(self) -> None:
        """Make it again."""
        self._try(self.lesions.redo)
        self._show_history()

    def _clicked(self, ras: tuple[float, float, float]) -> None:
        change = self.lesions.add_at if self._mode == "add" else self.lesions.remove_at
        if self._try(lambda: change(ras)):
            self._say("")
        self._show_history()

    def stop_clicks(self) -> None:
        """Give the mouse back to the views."""
        self._mode = ""
        self._tool.stop()
        for button in self._buttons.values():
            if button.checked:
                button.checked = False

    @property
    def is_working(self) -> bool:
        """Whether :meth:`work` has something to do."""
        return self._surface is not None

    def work(self) -> None:
        """Do some of what takes longer than a window may wait: the lesions in 3D."""
        began = time.monotonic()
        while self._surface is not None and time.monotonic() - began < _AT_ONCE_S:
            if next(self._surface, _DONE) is _DONE:
                self._surface = None

    def end(self) -> None:
        """Other lesions take the place of those that are shown: their surface would be made anew at once."""
        if self._parameters.show3d and self._parameters.segmentation is not None:
            hide_in_3d(self._parameters.segmentation)
        self._surface, self._in_3d = None, (None, self._in_3d[1])

    def begin(self, regions: Regions) -> None:
        """A new result has come, with these lesions."""
        self.lesions.begin(regions)
        self._in_3d = (None, False)
        self._follow_3d()
        fit_columns(self._ui.tableView)

    @property
    def is_corrected(self) -> bool:
        """Whether there is a result that the user has changed."""
        try:
            return self.lesions.can_undo
        except InputError:
            return False

    @property
    def summary(self) -> str:
        """How many lesions there are, and their volume; "" without a result that can be read."""
        from slicer.i18n import tr as _

        try:
            lesions = self.lesions.lesions
        except InputError:
            return ""
        if not self.lesions.is_live:
            return ""
        volume_ml = sum(lesion.volume_mm3 for lesion in lesions) / 1000
        text = _("1 lesion, {volume:.2f} ml") if len(lesions) == 1 else _("{count} lesions, {volume:.2f} ml together")
        return text.format(count=len(lesions), volume=volume_ml)

    def _refresh(self) -> None:
        if self.lesions.refresh():
            self._in_3d, self._is_outdated = (None, self._in_3d[1]), self._parameters.show3d

    def _follow_3d(self) -> None:
        """Show the lesions in 3D when that is asked for, and again after they changed; hide what was shown."""
        if not self.lesions.is_live:
            return
        segmentation, wanted = self._parameters.segmentation, self._parameters.show3d
        if self._in_3d == (segmentation, wanted):
            return
        self._surface = None
        if wanted and (self._is_outdated or not is_shown_in_3d(segmentation)):
            self._surface = show_in_3d_by_pieces(segmentation)
            self._on_work()
        elif not wanted and self._in_3d[1]:
            hide_in_3d(segmentation)
        self._in_3d, self._is_outdated = (segmentation, wanted), False

    def _show_history(self) -> None:
        self._ui.summaryLabel.text = self.summary
        try:
            can_undo, can_redo = self.lesions.can_undo, self.lesions.can_redo
        except InputError:  # said when it was met first
            can_undo = can_redo = False
        self._ui.undoButton.enabled, self._ui.redoButton.enabled = can_undo, can_redo

    def _try(self, action: Callable[[], Any]) -> bool:
        """Do something that a user's input may not allow; then say why."""
        try:
            action()
        except InputError as error:
            self._say(in_sentences(str(error)))
            return False
        return True
