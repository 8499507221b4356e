"""The part of the XTL Segment panel that follows lesions over time.

Widgets are known by their properties only, so that no GUI library is needed here. The time points and the outputs are
references of the parameter node's own node: they come back with a saved scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ..errors import Cancelled
from .compare_run import HISTORY_OUTPUTS, SUMMARY, BackgroundComparison
from .packages import ensure_packages
from .panel import PanelRun
from .session import import_slicer
from .table_view import fit_columns
from .time_points import TimePointNodes, image_of, store_time_points, stored_time_points
from .views import centre_slice_views
from .words import in_sentences, plain

_OUTPUT_ROLE = "XTL.OverTime."  # + one of HISTORY_OUTPUTS


class LongitudinalSection:
    """The list of time points, Compare, and the table of what became of the lesions.

    Parameters
    ----------
    ui : the panel's widgets by name.
    show_error : shows a failure to the user: what did not come about, the error, lines of detail.
    background : None takes one with a worker process of its own.
    """

    def __init__(
        self,
        ui: Any,
        show_error: Callable[[str, BaseException, Sequence[str]], None],
        background: BackgroundComparison | None = None,
    ) -> None:
        from slicer.i18n import tr

        self._ui, self._show_error, self._tr = ui, show_error, tr
        parts = SimpleNamespace(
            applyButton=ui.compareButton, progressBar=ui.compareProgressBar, statusLabel=ui.compareLabel
        )
        self._run = PanelRun(parts, (), lambda: None, self.update, tr("Compare"))
        self._background = background or BackgroundComparison()
        self._parameters: Any = None
        self._scene: Any = None
        self._message = ""
        self._listed: tuple[str, ...] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a comparison is under way."""
        return self._run.is_running

    def attach(self, parameters: Any, scene: Any) -> None:
        """Serve this parameter node."""
        self._parameters, self._scene = parameters, scene
        self._message, self._listed = "", None
        self.update()

    def release(self) -> None:
        """Let go of the scene: it is being closed."""
        self.cancel()
        self._parameters = self._scene = None
        self._message = ""
        self._show_table(None)

    def close(self) -> None:
        """The panel goes: end the worker, whatever it does."""
        self.release()
        self._background.close()

    def update(self) -> None:
        """Show the time points, and say whether they can be compared."""
        ui = self._ui
        if self._parameters is None:
            return
        points = self.points
        self._list(points)
        chosen = (ui.pointLesionsSelector.currentNode(), ui.pointImageSelector.currentNode())
        ui.addPointButton.enabled = None not in chosen
        ui.removePointButton.enabled = bool(points)
        ui.earlierPointButton.enabled = len(points) > 1
        if self._run.is_running:
            return
        missing = ""
        if len(points) < 2:
            missing = self._tr("Add two or more time points, in order of time: the lesions and the FLAIR of each.")
        ui.compareButton.enabled = not missing
        ui.compareButton.toolTip = plain(missing) or self._tr(
            "Find new, enlarging, stable, shrinking and resolved lesions"
        )
        table = self._outputs()["table"]
        self._show_table(table)
        shown = "" if table is None else in_sentences(table.GetAttribute(SUMMARY) or "")
        ui.compareLabel.text = self._message or shown or missing

    @property
    def points(self) -> list[TimePointNodes]:
        """The time points, in order of time."""
        return [] if self._parameters is None else stored_time_points(self._parameters.parameterNode)

    def lesions_chosen(self, node: Any) -> None:
        """Lesions were chosen for the next time point: their image is chosen as well where it is known."""
        image = None if node is None else image_of(node)
        if image is not None:
            self._ui.pointImageSelector.setCurrentNode(image)
        self.update()

    def add(self) -> None:
        """Add the chosen lesions and image: at the end, or before the present result, which is the last guess."""
        lesions, image = self._ui.pointLesionsSelector.currentNode(), self._ui.pointImageSelector.currentNode()
        if self._parameters is None or lesions is None or image is None:
            return
        points = self.points
        if any(point.lesions is lesions for point in points):
            self._say(self._tr("{name} is in the list already.").format(name=lesions.GetName()))
            return
        result = self._parameters.segmentation
        place = len(points) - 1 if points and result is not None and points[-1].lesions is result else len(points)
        points.insert(place, TimePointNodes(lesions, image))
        self._store(points, place)

    def remove(self) -> None:
        """Take the chosen time point out of the list, or the last one."""
        points = self.points
        if points:
            place = self._row(points)
            del points[place]
            self._store(points, place)

    def move_up(self) -> None:
        """Let the chosen time point be the earlier one of two."""
        points = self.points
        place = self._row(points)
        if place > 0:
            points[place - 1 : place + 1] = points[place], points[place - 1]
            self._store(points, place - 1)

    def result_came(self, lesions: Any, image: Any) -> None:
        """The present result has come: it is the last time point, until the user says otherwise."""
        if self._parameters is None or image is None:
            return
        points = self.points
        places = [n for n, point in enumerate(points) if point.lesions is lesions]
        if places:
            points[places[0]] = TimePointNodes(lesions, image)  # it may be of another image now
        else:
            points.append(TimePointNodes(lesions, image))
        self._store(points)

    def compare(self) -> bool:
        """Start; while it runs, cancel. Whether a comparison was started, for which :meth:`tick` has to be called."""
        if self._run.is_running:
            self.cancel()
            return False
        if self._parameters is None:
            return False
        try:
            ensure_packages("XTL Segment")
            self._background.start(self.points, self._outputs(), self._parameters.registerTimePoints)
        except Cancelled:
            return False
        except Exception as error:
            self._fail(error)
            return False
        self._message = ""
        self._run.begin()
        self._ui.compareLabel.text = self._tr("Starting ...")
        return True

    def cancel(self) -> None:
        """Stop a comparison that is under way; :meth:`tick` finds its end."""
        if self._run.is_running:
            self._run.cancel()
            self._background.cancel()

    def tick(self) -> None:
        """Take in what the worker reported, and notice its end."""
        if not self._run.is_running:
            return
        for event in self._background.poll():
            self._run.show(event)
        if not self._background.is_running:
            self._finish()

    def row_chosen(self, current: Any, previous: Any = None) -> None:
        """A row of the table became the current one: the views go to its lesion."""
        text = str(current.sibling(current.row(), 0).data()) if current.isValid() else ""
        table = None if self._parameters is None else self._outputs()["table"]
        if not text or table is None:
            return
        columns = {name: import_slicer().util.arrayFromTableColumn(table, name) for name in ("id", "R", "A", "S")}
        rows = (columns["id"] == int(float(text))).nonzero()[0]
        if rows.size:
            centre_slice_views(self._scene, tuple(float(columns[axis][rows[0]]) for axis in "RAS"))

    def _finish(self) -> None:
        self._message = self._tr("Nothing was compared; the scene is as it was.")
        try:
            compared = self._background.finish(self._scene)
            for role in HISTORY_OUTPUTS:
                node = getattr(compared.nodes, role)
                self._parameters.parameterNode.SetNodeReferenceID(_OUTPUT_ROLE + role, node.GetID())
            self._message = in_sentences(compared.nodes.table.GetAttribute(SUMMARY), *compared.notes)
        except Cancelled:
            pass
        except Exception as error:
            self._fail(error)
        finally:
            self._background.forget()
            self._run.end()

    def _outputs(self) -> dict[str, Any]:
        node = self._parameters.parameterNode
        return {role: node.GetNodeReference(_OUTPUT_ROLE + role) for role in HISTORY_OUTPUTS}

    def _store(self, points: Sequence[TimePointNodes], chosen: int = -1) -> None:
        self._message = ""
        store_time_points(points, self._parameters.parameterNode)
        self.update()
        if 0 <= chosen < len(points):
            self._ui.timePointsList.currentRow = chosen

    def _row(self, points: Sequence[TimePointNodes]) -> int:
        row = self._ui.timePointsList.currentRow
        return row if 0 <= row < len(points) else len(points) - 1

    def _list(self, points: Sequence[TimePointNodes]) -> None:
        texts = tuple(f"{n}. {point.name}: {point.lesions.GetName()}" for n, point in enumerate(points, start=1))
        if texts != self._listed:
            self._listed = texts
            self._ui.timePointsList.clear()
            for text in texts:
                self._ui.timePointsList.addItem(text)

    def _show_table(self, table: Any) -> None:
        view = self._ui.historyTableView
        view.visible = table is not None
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
            fit_columns(view)

    def _say(self, message: str) -> None:
        self._message = self._ui.compareLabel.text = message

    def _fail(self, error: Exception) -> None:
        title = self._tr("The time points were not compared.")
        self._show_error(title, error, self._background.details)
