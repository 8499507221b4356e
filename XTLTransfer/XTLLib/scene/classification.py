"""A classification result in the scene: lesion table, label map coloured by probability, labels, evidence maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume
from ..inference.classify import ball_map
from ..inference.results import ClassificationResult
from ..inference.table import finding_columns
from .change import check_output, one_change, output_node
from .colors import color_labels, probability_color, show_legend
from .evidence import evidence_of, keep_evidence, lay_over, set_evidence
from .findings import findings_by_point, findings_to_node, label_with_probability
from .hierarchy import place_beside
from .nodes import grid_of_node, label_to_node
from .rated_points import RATED, RatedPoint, numbered, rated_to_json
from .segmentation import describe
from .table import fill_table, table_columns
from .views import show_in_slice_views

FINDINGS_ROLE = "XTL.Findings"  # of the table and the label map: the point list that they are about
REFERENCE_ROLE = "XTL.Reference"  # of the table: the reference channel's volume
_FIRST, _LAST = ("id", "finding", "zone", "probability", "class"), ("patient", "warnings")


@dataclass(frozen=True)
class ClassificationNodes:
    """The output nodes of a classification; the evidence maps are those that evidence.evidence_of finds.

    Attributes
    ----------
    table : vtkMRMLTableNode, one row a finding: the columns of lesions.tsv in another order, and the patient.
    label : vtkMRMLLabelMapVolumeNode, a ball at each finding with its row number as value.
    colors : vtkMRMLColorTableNode of the label map: an entry "finding 1: 0.73" in the colour of 0.73.
    findings : vtkMRMLMarkupsFiducialNode, labelled with the probabilities.
    legend : vtkMRMLColorLegendDisplayNode of the label map; None in a Slicer without them.
    """

    table: Any
    label: Any
    colors: Any
    findings: Any
    legend: Any = None


def add_classification(
    result: ClassificationResult,
    scene: Any,
    reference_node: Any = None,
    findings_node: Any = None,
    label_node: Any = None,
    table_node: Any = None,
) -> ClassificationNodes:
    """Put a classification result into the scene, beside its input in the subject hierarchy.

    Parameters
    ----------
    reference_node : the reference channel's volume node: the results stand under its study, and it
        becomes the background of the slice views. None: they stand at the top.
    findings_node : the point list that the findings came from; its points are labelled with the
        probabilities, and a finding whose point was removed meanwhile has no row. None (findings from a file): a
        new point list is made.
    label_node, table_node : filled anew when given, so that a second Apply adds no node.

    Raises
    ------
    InputError : an output node of the wrong class, or two points of one name; the scene is as it was.
    """
    check_output(findings_node, "vtkMRMLMarkupsNode")
    check_output(label_node, "vtkMRMLLabelMapVolumeNode")
    check_output(table_node, "vtkMRMLTableNode")
    if findings_node is not None:
        findings_by_point(findings_node)
    prefix = "" if reference_node is None else f"{reference_node.GetName()} "

    with one_change(scene):
        if findings_node is None:
            points = [rated.finding for rated in result.findings]
            findings_node = findings_to_node(points, f"{prefix}findings", scene)
        table_node = output_node(table_node, "vtkMRMLTableNode", f"{prefix}lesion table", scene)
        label_node = label_to_node(result.label, f"{prefix}finding label map", scene, label_node)
        for node in (table_node, label_node):
            what = "probability of clinically significant cancer"
            describe(node, result.bundle_name, what + (result.operating_point and f", {result.operating_point}"))
            node.SetNodeReferenceID(FINDINGS_ROLE, findings_node.GetID())
        table_node.SetNodeReferenceID(REFERENCE_ROLE, None if reference_node is None else reference_node.GetID())
        rated = _by_point(result, findings_node)
        legend = show_ratings(rated, table_node, label_node, findings_node, result.case.patient)
        place_beside(scene, (table_node, label_node, findings_node), reference_node)
        show_in_slice_views(scene, reference_node, label_node)
        keep_evidence(table_node, ())  # those of an earlier result
        _add_evidence(result, rated, table_node, reference_node)
    colors = label_node.GetDisplayNode().GetColorNode()
    return ClassificationNodes(table_node, label_node, colors, findings_node, legend)


def show_ratings(points: Sequence[RatedPoint], table: Any, label: Any, findings: Any, patient: str) -> Any:
    """Put these ratings into the table, the label map and the labels of the points; others' evidence maps go.

    Parameters
    ----------
    points : in the order of their rows. table, label, findings : nodes; see ClassificationNodes.

    Returns
    -------
    The legend; see ClassificationNodes.
    """
    rows = [one.rated for one in points]
    columns = sorted(finding_columns(rows, patient), key=lambda column: _place(column.name))
    fill_table(table, table_columns(columns, rows))
    table.SetAttribute(RATED, rated_to_json(points))
    _fill_label(points, label)
    names = [f"finding {one.rated.finding.identifier}: {_in_words(one)}" for one in points]
    color_labels(label, names, [probability_color(row.probability) for row in rows], label.GetScene())
    label_with_probability(findings, {p.rated.finding.identifier: p.rated.probability for p in points if p.is_rated})
    keep_evidence(table, {one.point for one in points if one.is_rated})
    return show_legend(label, "P (significant)")


def _place(column: str) -> int:
    """Where a column stands: what is asked for most comes first, as a panel shows about six; long texts come last."""
    if column in _LAST:
        return len(_FIRST) + 1 + _LAST.index(column)
    return _FIRST.index(column) if column in _FIRST else len(_FIRST)


def _by_point(result: ClassificationResult, findings: Any) -> tuple[RatedPoint, ...]:
    """The ratings in the order of the list, which may have changed since the findings were read from it."""
    rated = {one.finding.identifier: one for one in result.findings}
    places = findings_by_point(findings)
    return numbered(
        [RatedPoint(point, rated[now.identifier]) for point, now in places.items() if now.identifier in rated]
    )


def _in_words(one: RatedPoint) -> str:
    return f"{one.rated.probability:.2f}" if one.is_rated else "not rated"


def _fill_label(points: Sequence[RatedPoint], label: Any) -> None:
    grid = grid_of_node(label)
    inside = [one.rated for one in points if grid.contains(np.array(one.rated.finding.position_ras))]
    rows = np.array([0, *(rated.row for rated in inside)], np.int32)
    balls = rows[ball_map(grid, tuple(rated.finding for rated in inside))]
    _write(label, balls, grid)


def _write(label: Any, array: np.ndarray, grid: Grid) -> None:
    label_to_node(Volume(array, grid, "findings"), "", label.GetScene(), label, share=True)


def _add_evidence(result: ClassificationResult, points: Sequence[RatedPoint], table: Any, reference: Any) -> None:
    """Evidence maps of all findings; that of the likeliest finding is laid over the image."""
    by_name = {one.finding.identifier: result.evidence.get(one.row, {}) for one in result.findings}
    for one in points:
        name = one.rated.finding.identifier
        set_evidence(table, one.point, name, by_name[name], result.bundle_name, reference)
    likeliest = max((one for one in points if one.is_rated), key=lambda one: one.rated.probability, default=None)
    maps = [] if likeliest is None else evidence_of(table, likeliest.point)
    lay_over(table.GetScene(), maps[0] if maps else None)
