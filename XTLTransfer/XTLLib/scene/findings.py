"""Findings <-> nodes: a point list, as a user marks them in Slicer; also the lesions of a segmentation or label map."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.case import Finding
from ..data.finding_sources import regions_as_findings
from ..data.findings import zone_in_words
from ..data.geometry import Grid
from ..data.volume import Volume
from ..errors import InputError
from .change import output_node
from .session import import_slicer

# What label_with_probability appends, so that a second Apply meets the finding's own name again.
_PROBABILITY = re.compile(r":\s[01]\.\d\d$")


def findings_from_node(node: Any) -> tuple[Finding, ...]:
    """The findings that a node marks, in world coordinates.

    * A point list: one finding for each placed control point, in the order of the list. The point's label
      names the finding (its number where the label is empty), its world position is the finding's position,
      and the first of PZ, TZ, AS, SV in its description is the zone.
    * A segmentation: one finding for each 26-connected region of a segment, named after the segment.
    * A label map: one for each 26-connected region of values above 0 (see data.finding_sources).

    Raises
    ------
    InputError : another kind of node, no placed point or no region, two findings of one name, a segmentation
        without a binary label map, or a non-linear transform above the node.
    """
    slicer = import_slicer()
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        findings = _findings_of_segmentation(node)
    elif isinstance(node, slicer.vtkMRMLLabelMapVolumeNode):
        from .nodes import volume_from_node

        findings = [region.finding for region in regions_as_findings(volume_from_node(node, "the findings"))]
        if not findings:
            raise InputError(f"the label map {node.GetName()} is empty", "Choose one with at least one lesion")
    elif isinstance(node, slicer.vtkMRMLMarkupsNode):
        findings = list(findings_by_point(node).values())
        if not findings:
            raise InputError(f"the point list {node.GetName()} has no placed point", "Place a point at each finding")
    else:
        name = "no node" if node is None else f"the node {node.GetName()}"
        raise InputError(
            f"{name} is chosen for the findings, which is no point list",
            "Choose a point list, a segmentation or a label map",
        )
    _require_own_names(node, findings)
    return tuple(findings)


def findings_by_point(node: Any) -> dict[str, Finding]:
    """ID of each placed control point -> its finding, in the order of the list. Raises InputError for equal names."""
    findings = {}
    for index in _placed_points(node):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(index, position)
        finding = Finding(_identifier(node, index), tuple(position), _zone(node, index))
        findings[node.GetNthControlPointID(index)] = finding
    _require_own_names(node, findings.values())
    return findings


def _require_own_names(node: Any, findings: Iterable[Finding]) -> None:
    names = [finding.identifier for finding in findings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{node.GetName()} has two findings named {twice[0]}", "Give each finding its own name")


def _findings_of_segmentation(node: Any) -> list[Finding]:
    slicer = import_slicer()
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    from .arrays import numpy_matrix
    from .nodes import world_matrix

    to_world, segmentation = world_matrix(node), node.GetSegmentation()
    findings: list[Finding] = []
    for index in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(index)
        name = segmentation.GetSegment(segment_id).GetName() or segment_id
        image = slicer.vtkOrientedImageData()
        if not node.GetBinaryLabelmapRepresentation(segment_id, image):
            raise InputError(
                f"the segment {name} of {node.GetName()} has no binary label map",
                "Create that representation (Segmentations module)",
            )
        if image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
            continue
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        affine, extent = to_world @ numpy_matrix(matrix), image.GetExtent()
        affine[:3, 3] += affine[:3, :3] @ np.array(extent[::2])
        shape = image.GetDimensions()[::-1]
        array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
        regions = regions_as_findings(Volume(array, Grid(shape, affine), f"the segment {name}"))
        names = [name] if len(regions) == 1 else [f"{name}-{place}" for place in range(1, len(regions) + 1)]
        findings += [replace(region.finding, identifier=own) for region, own in zip(regions, names)]
    if not findings:
        raise InputError(f"the segmentation {node.GetName()} is empty", "Choose one with at least one lesion")
    return findings


def findings_to_node(findings: Sequence[Finding], name: str, scene: Any, node: Any = None) -> Any:
    """Put findings into the scene as a point list node; ``node``, when given, is filled anew instead."""
    node = output_node(node, "vtkMRMLMarkupsFiducialNode", name, scene)
    node.SetAndObserveTransformNodeID(None)
    node.RemoveAllControlPoints()
    for index, finding in enumerate(findings):
        node.AddControlPointWorld(*finding.position_ras, finding.identifier)
        node.SetNthControlPointDescription(index, finding.zone)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def label_with_probability(node: Any, probabilities: Mapping[str, float]) -> None:
    """Label each control point "name: 0.73"; ``probabilities`` is by the finding's identifier, others get none."""
    for index in _placed_points(node):
        identifier = _identifier(node, index)
        probability = probabilities.get(identifier)
        label = identifier if probability is None else f"{identifier}: {probability:.2f}"
        if node.GetNthControlPointLabel(index) != label:
            node.SetNthControlPointLabel(index, label)


def set_zone(node: Any, point: str, zone: str) -> None:
    """Write the zone of a finding into the description of its control point (an ID), in place of the one there."""
    index = node.GetNthControlPointIndexByID(point)
    if index < 0:
        return
    words = (node.GetNthControlPointDescription(index) or "").split()
    others = [word for word in words if not zone_in_words(word)]
    node.SetNthControlPointDescription(index, " ".join([zone, *others]).strip())


def _placed_points(node: Any) -> list[int]:
    placed = import_slicer().vtkMRMLMarkupsNode.PositionDefined
    return [
        index
        for index in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(index) == placed
    ]


def _identifier(node: Any, index: int) -> str:
    label = _PROBABILITY.sub("", (node.GetNthControlPointLabel(index) or "").strip()).strip()
    return label or str(index + 1)


def _zone(node: Any, index: int) -> str:
    return zone_in_words(node.GetNthControlPointDescription(index))
