"""The part of the XTL Transfer panel for studies: plan, run in another process, table of the runs, results.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..study.measures import MEASURES
from .button_run import ButtonRun
from .change import one_change, output_node, remove_node
from .packages import ensure_packages
from .panel import Timer
from .plan_words import study_plan_text
from .table import Column, figure_column, fill_table
from .window import Window
from .words import plain, shortened

_TITLE = "XTL Transfer"
_REPORT = "report.html"
_STATE = "XTL.Study"  # attribute of the table


class StudySection:
    """Study file and folder; Plan, Run, Show results, Open report.

    Parameters
    ----------
    ui : the panel's widgets by name. scene : vtkMRMLScene. window : what only the application can do.
    timer : repeating; its owner calls :meth:`tick`.
    """

    def __init__(self, ui: Any, scene: Any, window: Window, timer: Timer) -> None:
        from slicer.i18n import tr

        self._ui, self._scene, self._window, self._timer, self._tr = ui, scene, window, timer, tr
        bar, label, error = ui.studyProgressBar, ui.studyLabel, window.show_error
        failed, sections = tr("The study was not planned."), {"studyPathLineEdit": ui.studyPathLineEdit}
        self._plan = ButtonRun(
            ui.studyPlanButton, bar, label, tr("Plan"), failed, error, self.update, {"run": ui.runStudyButton}
        )
        sections |= {"studyFolderLineEdit": ui.studyFolderLineEdit, "plan": ui.studyPlanButton}
        failed = tr("The study was not finished.")
        self._run = ButtonRun(ui.runStudyButton, bar, label, tr("Run"), failed, error, self.update, sections)
        self._parameters: Any = None
        self._process: Any = None  # of the study that runs
        self._board: Mapping[str, Any] | None = None
        self._message = ""
        self._chosen: tuple[str, str] = ("", "")

    @property
    def is_running(self) -> bool:
        """Whether a study, or its plan, is under way."""
        return self._run.is_running or self._plan.is_running

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node."""
        self._parameters = parameters

    def release(self) -> None:
        """Let go of the scene: it is being closed. A study goes on: it does not live in the scene."""
        self._parameters = None
        self._ui.studyTableView.setMRMLTableNode(None)

    def close(self) -> None:
        """The panel goes: end the processes; a study keeps its finished runs."""
        self._plan.close()
        self._run.close()

    def update(self) -> None:
        """Show what can be done with the chosen study."""
        ui, parameters = self._ui, self._parameters
        if parameters is None:
            return
        table = parameters.studyTable
        if ui.studyTableView.mrmlTableNode() is not table:
            ui.studyTableView.setMRMLTableNode(table)
            ui.studyTableView.resizeColumnsToContents()
        ui.studyTableView.visible = table is not None
        folder = parameters.studyFolder
        # os.path.isfile is False, where Path.is_file raises, for what is no path and what may not be looked at.
        has_folder = folder != Path()
        ui.showStudyButton.enabled = has_folder and os.path.isfile(folder / "results.json")
        ui.openReportButton.enabled = has_folder and os.path.isfile(folder / _REPORT)
        ui.showStudyChartButton.enabled = parameters.studyChart is not None
        ui.studyProgressBar.visible = self.is_running
        if self.is_running:
            return
        chosen = (str(parameters.study), str(folder))
        if chosen != self._chosen:
            self._chosen, self._message = chosen, ""
        missing = self._missing()
        ui.studyPlanButton.enabled = parameters.study != Path() and os.path.isfile(parameters.study)
        ui.studyPlanButton.toolTip = (
            self._tr("Number of runs, time, memory and what the design can show; seconds to minutes")
            if ui.studyPlanButton.enabled
            else self._tr("Choose a study file.")
        )
        is_begun = not missing and _holds_something(folder)
        ui.runStudyButton.text = self._tr("Resume") if is_begun else self._tr("Run")
        ui.runStudyButton.enabled = not missing
        doing = self._tr("Do the runs that are not finished") if is_begun else self._tr("Do all runs, and report")
        ui.runStudyButton.toolTip = plain(missing) or doing
        ui.studyLabel.text = self._message or self._run.message or plain(missing)

    def opened(self, is_collapsed: bool) -> None:
        """The section was opened, or closed."""
        self.update()

    def plan(self) -> None:
        """Find out what the study needs and can show; while that runs, cancel."""
        if self._plan.is_running:
            self._plan.cancel()
            return
        out = [] if self._parameters is None or self._parameters.studyFolder == Path() else ["--out", self._folder]
        self._start(self._plan, ["--plan", *out], self._take_plan)

    def run(self) -> None:
        """Do the runs; while that goes on, cancel. What is finished is kept."""
        if self._run.is_running:
            self._run.cancel()
            return
        self._board = None
        is_begun = self._parameters is not None and os.path.exists(self._folder)
        words = ["--out", self._folder, *(["--resume"] if is_begun else [])]
        self._start(self._run, words, self._take_results)

    def tick(self) -> None:
        """Take in what the processes reported, and notice their ends."""
        if self._run.is_running:
            board = self._process.latest.get("board")
            if board is not None and board is not self._board and self._parameters is not None:
                self._board = board
                self._show_board(board)
        self._plan.tick()
        self._run.tick()

    def show_results(self) -> None:
        """Put the results into the scene: tables and charts."""
        if self._parameters is None:
            return
        from .study import add_study

        try:
            nodes = add_study(self._folder, self._scene)
        except Exception as error:
            self._window.show_error(self._tr("The results cannot be shown."), error)
            return
        parameters = self._parameters
        modifying = parameters.StartModify()
        parameters.studyTable = nodes.results
        parameters.studyChart = next(iter(nodes.charts.values()), None)
        parameters.EndModify(modifying)
        state = self._state_table()
        if state is not None:  # the results say more
            remove_node(state, self._scene)
        self.update()

    def show_chart(self) -> None:
        """Show the chosen chart in a plot view."""
        if self._parameters is not None and self._parameters.studyChart is not None:
            self._window.show_chart(self._parameters.studyChart)

    def open_report(self) -> None:
        """Open the report in the user's browser."""
        if self._parameters is not None:
            self._window.open_file(Path(self._folder).absolute() / _REPORT)

    @property
    def _folder(self) -> str:
        return str(self._parameters.studyFolder)

    def _missing(self) -> str:
        parameters = self._parameters
        if parameters.study == Path():
            return self._tr("Choose a study file.")
        if not os.path.isfile(parameters.study):
            return self._tr("{file} is not a file. Choose a study file.").format(file=shortened(str(parameters.study)))
        if parameters.studyFolder == Path():
            return self._tr("Choose a folder for the study.")
        if not parameters.studyFolder.is_absolute():  # it would lie wherever Slicer was started
            folder = shortened(self._folder)
            return self._tr("{folder} is no whole path. Choose a folder, or type its whole path.").format(folder=folder)
        return ""

    def _start(self, button: ButtonRun, options: list[str], take: Any) -> None:
        if self._parameters is None:
            return
        self._message = ""
        command = ["study", str(self._parameters.study), "--device", self._parameters.device, *options]
        if button.start(lambda: self._make(command), take):
            self._timer.start()

    def _make(self, command: list[str]) -> Any:
        from ..training.result_process import ResultProcess

        ensure_packages(_TITLE, training=True)
        self._process = ResultProcess(command)
        return self._process

    def _take_plan(self, found: Mapping[str, Any]) -> None:
        self._message = study_plan_text(found["plan"])

    def _take_results(self, found: Mapping[str, Any]) -> None:
        failures = found["failures"]
        self._message = self._tr("Study finished.")
        if failures:
            text = self._tr(
                "Study finished; {count} runs failed, the first one: {error} Press Resume to try them again."
            )
            self._message = plain(text.format(count=len(failures), error=failures[0]["error"]))
        self.show_results()

    def _show_board(self, board: Mapping[str, Any]) -> None:
        """The state of the runs as a table, a row an arm."""
        arms = board["arms"]
        columns = [Column("arm", self._tr("Arm"), np.array([arm["arm"] for arm in arms]))]
        for name, title in (("planned", "Planned"), ("finished", "Finished"), ("failed", "Failed")):
            columns.append(Column(name, self._tr(title), np.array([arm[name] for arm in arms], dtype=np.int32)))
        tip = self._tr("Mean over the finished runs so far: how it goes, not what the report will say")
        title = self._tr("{metric} so far").format(metric=MEASURES[board["metric"]].title)
        columns.append(figure_column("mean", title, [arm["mean"] for arm in arms], "", tip))
        with one_change(self._scene):
            node = output_node(self._state_table(), "vtkMRMLTableNode", "Study state", self._scene)
            node.SetAttribute(_STATE, "state")
            fill_table(node, columns)
        self._parameters.studyTable = node
        self._ui.studyTableView.resizeColumnsToContents()

    def _state_table(self) -> Any:
        """The table of a study that runs or was stopped; None when there is none."""
        kind = "vtkMRMLTableNode"
        tables = [self._scene.GetNthNodeByClass(n, kind) for n in range(self._scene.GetNumberOfNodesByClass(kind))]
        return next((table for table in tables if table.GetAttribute(_STATE) == "state"), None)


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except (OSError, ValueError):  # none, no path at all, or not to be looked at
        return False
