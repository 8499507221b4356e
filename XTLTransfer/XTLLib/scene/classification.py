"""A classification result in the scene: lesion table, label map coloured by probability, labelled findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..inference.results import ClassificationResult
from ..inference.table import finding_columns
from .change import check_output, one_change, output_node
from .colors import color_labels, probability_color
from .findings import findings_to_node, label_with_probability
from .hierarchy import place_beside
from .nodes import label_to_node
from .segmentation import describe
from .table import fill_table, table_columns
from .views import show_in_slice_views


@dataclass(frozen=True)
class ClassificationNodes:
    """The output nodes of a classification.

    Attributes
    ----------
    table : vtkMRMLTableNode, one row a finding: the columns of lesions.tsv.
    label : vtkMRMLLabelMapVolumeNode, a ball at each finding with its row number as value.
    colors : vtkMRMLColorTableNode of the label map: an entry "finding 1: 0.73" in the colour of 0.73.
    findings : vtkMRMLMarkupsFiducialNode, labelled with the probabilities.
    """

    table: Any
    label: Any
    colors: Any
    findings: Any


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
        probabilities. None (findings from a file): a new point list is made.
    label_node, table_node : filled anew when given, so that a second Apply adds no node.

    Raises
    ------
    InputError : an output node of the wrong class; the scene is as it was.
    """
    check_output(findings_node, "vtkMRMLMarkupsNode")
    check_output(label_node, "vtkMRMLLabelMapVolumeNode")
    check_output(table_node, "vtkMRMLTableNode")
    columns = table_columns(finding_columns(result), result.findings)
    names = [f"finding {rated.finding.identifier}: {rated.probability:.2f}" for rated in result.findings]
    rgb = [probability_color(rated.probability) for rated in result.findings]
    prefix = "" if reference_node is None else f"{reference_node.GetName()} "

    with one_change(scene):
        label_node = label_to_node(result.label, f"{prefix}finding label map", scene, label_node)
        colors = color_labels(label_node, names, rgb, scene)
        table_node = output_node(table_node, "vtkMRMLTableNode", f"{prefix}lesion table", scene)
        fill_table(table_node, columns)
        if findings_node is None:
            points = [rated.finding for rated in result.findings]
            findings_node = findings_to_node(points, f"{prefix}findings", scene)
        probabilities = {rated.finding.identifier: rated.probability for rated in result.findings}
        label_with_probability(findings_node, probabilities)
        for node in (table_node, label_node):
            describe(node, result.bundle_name, "probability of clinically significant cancer")
        place_beside(scene, (table_node, label_node, findings_node), reference_node)
        show_in_slice_views(scene, reference_node, label_node)
    return ClassificationNodes(table_node, label_node, colors, findings_node)
