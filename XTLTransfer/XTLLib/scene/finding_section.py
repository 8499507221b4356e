"""The parts of the XTL Classify panel that deal with findings: where they come from, their table, zones and truth.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.case import Finding
from ..data.tables import unique_names
from ..data.zones import ZONES
from ..errors import InputError
from .clicks import ClickTool
from .findings import findings_by_point, findings_from_node, set_zone
from .live_findings import LiveFindings
from .roc_plots import TruthNodes, truth_of_table
from .words import in_sentences
from .zone_nodes import guess_from_node


class FindingSection:
    """Ties the point list, the lesion table and their buttons to each other.

    Parameters
    ----------
    ui : has ``tableView``, ``placeButton``, ``fromLesionsButton``, ``guessZonesButton``, ``zoneComboBox``,
        ``removeButton`` and ``truthButton``.
    on_change : see LiveFindings. say : shows a sentence to the user.
    """

    def __init__(self, ui: Any, on_change: Callable[[], None], say: Callable[[str], None]) -> None:
        from slicer.i18n import tr

        self._ui, self._on_change, self._say, self._tr = ui, on_change, say, tr
        self._tool = ClickTool(self._clicked, self.stop_clicks)
        self._scene: Any = None
        self._parameters: Any = None
        self._is_showing = False  # what is set meanwhile was not chosen by the user
        self.live = LiveFindings(on_change)
        for text in (tr("Unknown"), *ZONES):
            ui.zoneComboBox.addItem(text)

    def attach(self, parameters: Any, scene: Any) -> None:
        """Serve this parameter node."""
        self._parameters, self._scene = parameters, scene
        self.live.attach(parameters)
        self._try(self.live.show_chosen)

    def release(self) -> None:
        """Let go of the scene."""
        self.stop_clicks()
        self.live.release()
        self._parameters = self._scene = None

    def update(self, is_running: bool) -> None:
        """Show what can be done."""
        ui, parameters = self._ui, self._parameters
        self.live.watch()
        points = parameters.findings
        has_points = points is not None and points.GetNumberOfDefinedControlPoints() > 0
        ui.fromLesionsButton.enabled = parameters.lesions is not None
        ui.guessZonesButton.enabled = parameters.zones is not None and has_points
        is_chosen = not is_running and self.live.is_live and bool(parameters.finding)
        ui.zoneComboBox.enabled = ui.removeButton.enabled = is_chosen
        has_truth = parameters.truth != Path()
        ui.truthButton.enabled = has_truth and parameters.table is not None
        if is_running:
            self.stop_clicks()
        zone = ""
        if is_chosen:
            self._try(lambda: self._show_zone(self.live.zone_of(parameters.finding)))
        else:
            self._show_zone(zone)

    def missing(self) -> str:
        """What is missing of the findings; "" for nothing."""
        findings = self._parameters.findings
        if findings is None:
            return self._tr("Place points on the findings, or choose a point list.")
        if findings.GetNumberOfDefinedControlPoints() == 0:
            return self._tr("Place a point at each finding in {name}.").format(name=findings.GetName())
        return ""

    def row_chosen(self, current: Any, previous: Any = None) -> None:
        """A row of the table became the current one (a QModelIndex, as the view shows it, sorted or not)."""
        text = str(current.sibling(current.row(), 0).data()) if current.isValid() else ""
        if text and self._parameters is not None:
            self._try(lambda: self._choose(int(float(text))))

    def zone_chosen(self, index: int) -> None:
        """A zone was chosen for the chosen finding."""
        if self._is_showing or self._parameters is None or not self._parameters.finding:
            return
        self._try(lambda: self.live.set_zone(self._parameters.finding, ("", *ZONES)[index]))
        self._on_change()

    def remove_chosen(self) -> None:
        """Take the chosen finding out of the list."""
        if self._parameters is not None and self._parameters.finding:
            self._try(lambda: self.live.remove(self._parameters.finding))
            self._on_change()

    def wait_for_clicks(self, is_on: bool) -> None:
        """Take clicks in the views as findings, or give the mouse back."""
        if is_on and self._scene is not None:
            self._tool.start(self._scene)
        elif not is_on:
            self.stop_clicks()

    def stop_clicks(self) -> None:
        """Give the mouse back to the views."""
        self._tool.stop()
        if self._ui.placeButton.checked:
            self._ui.placeButton.checked = False

    def take_lesions(self) -> None:
        """Add a point for each lesion of the chosen segmentation or label map."""
        if self._parameters is not None and self._parameters.lesions is not None:
            self._try(lambda: self._add(findings_from_node(self._parameters.lesions)))

    def guess_zones(self, reference: Any) -> None:
        """Write a zone into the description of each point without one, by the chosen zonal mask.

        ``reference`` : volume node, on whose grid a segmentation is looked at.
        """
        if self._parameters is not None and self._parameters.findings is not None:
            self._try(lambda: self._guess(reference))

    def show_truth(self) -> TruthNodes | None:
        """Compare the table with the chosen truth; None, and why, where that cannot be done."""
        shown: list[TruthNodes] = []
        if self._parameters is not None and self._parameters.table is not None:
            self._try(lambda: shown.append(self._compare()))
        return shown[0] if shown else None

    @property
    def summary(self) -> str:
        """How many findings are rated, and the highest probability; "" without a result."""
        try:
            rated = [one.rated.probability for one in self.live.points if one.is_rated]
        except InputError:
            return ""
        if not rated:
            return ""
        text = self._tr("{count} findings rated, highest probability {highest:.2f}")
        if len(rated) == 1:
            text = self._tr("1 finding rated, probability {highest:.2f}")
        return text.format(count=len(rated), highest=max(rated))

    def follow(self, uses_zones: bool | None) -> None:
        """Bring the results in step with the point list."""
        self._try(lambda: self.live.follow(uses_zones))

    def _choose(self, row: int) -> None:
        point = next((one.point for one in self.live.points if one.rated.row == row), "")
        self.live.choose(point)
        self._show_zone(self.live.zone_of(point))

    def _show_zone(self, zone: str) -> None:
        self._is_showing = True
        self._ui.zoneComboBox.currentIndex = ("", *ZONES).index(zone) if zone in ZONES else 0
        self._is_showing = False

    def _clicked(self, ras: tuple[float, float, float]) -> None:
        self._try(lambda: self._add((Finding("1", ras),)))

    def _add(self, findings: tuple[Finding, ...]) -> None:
        """Add points under names that the list does not have yet."""
        node = self._parameters.findings
        if node is None:
            node = self._scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", self._tr("Findings"))
            node.CreateDefaultDisplayNodes()
            self._parameters.findings = node
        names = [finding.identifier for finding in findings_by_point(node).values()]
        for finding in findings:
            name = finding.identifier
            if name.isdigit():
                name = next(str(number) for number in range(1, len(names) + 2) if str(number) not in names)
            names = unique_names([*names, name])
            index = node.AddControlPointWorld(*finding.position_ras, names[-1])
            node.SetNthControlPointDescription(index, finding.zone)

    def _guess(self, reference: Any) -> None:
        points, node = findings_by_point(self._parameters.findings), self._parameters.findings
        zoned = guess_from_node(tuple(points.values()), self._parameters.zones, reference)
        for point, before, after in zip(points, points.values(), zoned.findings):
            if after.zone != before.zone:
                set_zone(node, point, after.zone)
        self._say(in_sentences(*zoned.notes) or self._tr("Every finding has a zone already."))

    def _compare(self) -> TruthNodes:
        nodes = truth_of_table(self._parameters.table, self._parameters.truth)
        self._say(
            self._tr("AUC {auc:.2f} on {findings} findings; see the plots {name}.").format(
                auc=nodes.auc, findings=nodes.findings, name=nodes.roc_chart.GetName()
            )
        )
        return nodes

    def _try(self, action: Callable[[], Any]) -> None:
        """Do something that a user's input may not allow; then say why."""
        try:
            action()
        except InputError as error:
            self._say(in_sentences(str(error)))
