"""Rated findings that stay in step: points that are moved, added, renamed or removed after an Apply.

What is known stands on the lesion table (rated_points.RATED) and what is chosen in the parameter node, so that a
scene goes on where it was saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.case import Finding
from ..inference.results import ClassificationResult
from .change import one_change
from .classification import FINDINGS_ROLE, REFERENCE_ROLE, show_ratings
from .evidence import evidence_of, lay_over, set_evidence
from .findings import findings_by_point, set_zone
from .hierarchy import patient_of
from .highlight import hide_highlight, highlight
from .nodes import own_grid_of_node
from .observe import PointObserver
from .rated_points import RATED, RatedPoint, numbered, rated_from_json, unrated
from .session import import_slicer
from .views import centre_slice_views

_SAME_PLACE_MM = 0.01  # a file of points rounds


@dataclass(frozen=True)
class DueFinding:
    """A point that has to be rated: its ID, and the finding as it is now."""

    point: str
    finding: Finding


class LiveFindings:
    """Keeps the result that a parameter node names in step with its point list.

    Parameters
    ----------
    on_change : called, often several times in a row, when the list changed; the owner calls :meth:`follow` a moment
        after the last call, and rates what is :meth:`due`.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._observer = PointObserver(self._changed)
        self._on_change = on_change
        self._parameters: Any = None
        self._is_writing = False
        self._uses_zones = False
        self._forget()

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node."""
        self._parameters = parameters
        self._forget()
        self.watch()

    def release(self) -> None:
        """Let go of the scene: it is being closed, or the panel is."""
        self._parameters = None
        self._observer.watch(None)
        self._forget()

    def watch(self) -> None:
        """Listen to the point list that is chosen now."""
        self._observer.watch(None if self._parameters is None else self._parameters.findings)

    def begin(self, uses_zones: bool) -> None:
        """A new result has come, from a model that looks at zones or not."""
        self._forget()
        self._uses_zones = uses_zones

    @property
    def is_live(self) -> bool:
        """Whether there is a result that belongs to the chosen point list."""
        parameters = self._parameters
        if parameters is None:
            return False
        nodes = (parameters.table, parameters.labelMap, parameters.findings)
        if any(node is None or node.GetScene() is None for node in nodes):
            return False
        table, label, findings = nodes
        belongs = all(node.GetNodeReference(FINDINGS_ROLE) is findings for node in (table, label))
        return belongs and bool(table.GetAttribute(RATED)) and label.GetImageData() is not None

    @property
    def bundle_name(self) -> str:
        """What the result was computed with; "" without a result."""
        return (self._parameters.table.GetAttribute("XTL.Bundle") or "") if self.is_live else ""

    @property
    def points(self) -> tuple[RatedPoint, ...]:
        """The rows of the table. Raises InputError where a scene from elsewhere holds something else."""
        if not self.is_live:
            return ()
        text = self._parameters.table.GetAttribute(RATED)
        if self._read is None or self._read[0] != text:
            self._read = (text, rated_from_json(text))
        return self._read[1]

    def follow(self, uses_zones: bool | None = None) -> bool:
        """Bring table, label map and evidence in step with the list; a point that was moved loses its rating at once.

        Parameters
        ----------
        uses_zones : whether the model looks at zones, where that is known now.

        Returns
        -------
        False when nothing had to change. Raises InputError for two points of one name.
        """
        if uses_zones is not None:
            self._uses_zones = uses_zones
        if not self.is_live:
            return False
        known = {one.point: one for one in self.points}
        now = findings_by_point(self._parameters.findings)
        rows = [self._row(point, finding, known.get(point)) for point, finding in now.items()]
        self._failed = {point: finding for point, finding in self._failed.items() if now.get(point) == finding}
        return self._show(numbered(rows))

    def due(self) -> list[DueFinding]:
        """The points that wait for a rating, but for those that could not be rated where they are."""
        return [
            DueFinding(one.point, one.rated.finding)
            for one in self.points
            if not one.is_rated and self._failed.get(one.point) != one.rated.finding
        ]

    def take(self, due: DueFinding, result: ClassificationResult) -> None:
        """Show the rating of a point; when it was moved meanwhile, it is let go."""
        (rated,) = result.findings
        table = self._parameters.table if self.is_live else None
        if table is None or not self._replace(due, lambda row: replace(rated, row=row, finding=due.finding)):
            return
        with one_change(table.GetScene()):
            maps = result.evidence.get(rated.row, {})
            reference = table.GetNodeReference(REFERENCE_ROLE)
            set_evidence(table, due.point, due.finding.identifier, maps, result.bundle_name, reference)
        if self._parameters.finding == due.point:
            self._show_evidence(due.point)

    def refuse(self, due: DueFinding, why: str) -> None:
        """Say of a point why it has no rating; it is not asked for again until it is moved."""
        self._failed[due.point] = due.finding
        self._replace(due, lambda row: unrated(due.point, row, due.finding, why).rated)

    def choose(self, point: str) -> None:
        """Centre the slice views on a finding, outline it, and lay its evidence over the image; "" chooses none."""
        if not self.is_live:
            return
        one = self._of(point)
        if self._parameters.finding != (one.point if one else ""):
            self._parameters.finding = one.point if one else ""
        if one is not None:
            centre_slice_views(self._parameters.table.GetScene(), one.rated.finding.position_ras)
            self._show_evidence(point)
        self._outline()

    def show_chosen(self) -> None:
        """Outline the finding that the parameters name, where the scene was just opened; the views stay."""
        if self.is_live and self._parameters.finding:
            self._outline()

    def zone_of(self, point: str) -> str:
        """The zone of a point; "" for none."""
        one = self._of(point)
        return "" if one is None else one.rated.finding.zone

    def set_zone(self, point: str, zone: str) -> None:
        """Write a zone into the description of a point."""
        if self.is_live:
            set_zone(self._parameters.findings, point, zone)
            self.follow()

    def remove(self, point: str) -> None:
        """Take a finding out of the list."""
        if self.is_live:
            findings = self._parameters.findings
            index = findings.GetNthControlPointIndexByID(point)
            if index >= 0:
                findings.RemoveNthControlPoint(index)
            self.follow()

    def _row(self, point: str, finding: Finding, known: RatedPoint | None) -> RatedPoint:
        from slicer.i18n import tr as _

        if known is not None and self._is_same(known.rated.finding, finding):
            # A rating of a point is one of where it stood: the place stays what it was to the last digit.
            finding = replace(finding, position_ras=known.rated.finding.position_ras)
            return known if finding == known.rated.finding else RatedPoint(point, replace(known.rated, finding=finding))
        return unrated(point, 0, finding, _("not rated yet"))

    def _is_same(self, before: Finding, now: Finding) -> bool:
        distance = np.linalg.norm(np.subtract(before.position_ras, now.position_ras))
        return distance <= _SAME_PLACE_MM and (before.zone == now.zone or not self._uses_zones)

    def _replace(self, due: DueFinding, make: Callable[[int], Any]) -> bool:
        """Change the row of a point that is still where it was; False when it is not."""
        rows = list(self.points)
        for index, one in enumerate(rows):
            if one.point == due.point and one.rated.finding == due.finding:
                rows[index] = RatedPoint(due.point, make(one.rated.row))
                return self._show(tuple(rows))
        return False

    def _show(self, rows: tuple[RatedPoint, ...]) -> bool:
        parameters = self._parameters
        if rows == self.points:
            return False
        self._is_writing = True  # the labels of the points are written too
        try:
            with one_change(parameters.table.GetScene()):
                reference = parameters.table.GetNodeReference(REFERENCE_ROLE)
                patient = patient_of(reference) or "patient"
                show_ratings(rows, parameters.table, parameters.labelMap, parameters.findings, patient)
        finally:
            self._is_writing = False
        if parameters.finding and self._of(parameters.finding) is None:
            parameters.finding = ""
        self._outline()
        return True

    def _show_evidence(self, point: str) -> None:
        table = self._parameters.table
        maps = evidence_of(table, point)
        lay_over(table.GetScene(), maps[0] if maps else None)

    def _outline(self) -> None:
        label = self._parameters.labelMap
        one = self._of(self._parameters.finding)
        voxels = np.zeros(0, np.int64)
        if one is not None:
            voxels = np.flatnonzero(import_slicer().util.arrayFromVolume(label) == one.rated.row)
        if voxels.size:
            highlight(label, voxels, own_grid_of_node(label))
        else:
            hide_highlight(label.GetScene())

    def _of(self, point: str) -> RatedPoint | None:
        return next((one for one in self.points if one.point == point), None)

    def _changed(self) -> None:
        if not self._is_writing:
            self._on_change()

    def _forget(self) -> None:
        self._read: tuple[str, tuple[RatedPoint, ...]] | None = None
        self._failed: dict[str, Finding] = {}
