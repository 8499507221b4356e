"""Findings <-> a point list node, as a user marks them in Slicer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.case import Finding
from ..errors import InputError
from .change import output_node
from .session import import_slicer

ZONES = ("PZ", "TZ", "AS", "SV")
# What label_with_probability appends, so that a second Apply meets the finding's own name again.
_PROBABILITY = re.compile(r":\s[01]\.\d\d$")


def findings_from_node(node: Any) -> tuple[Finding, ...]:
    """One finding for each placed control point, in the order of the list.

    The point's label names the finding (its number where the label is empty), its world position is
    the finding's position, and the first of PZ, TZ, AS, SV in its description is the zone.

    Raises
    ------
    InputError : not a point list, no placed point, or two points of one name.
    """
    slicer = import_slicer()
    if not isinstance(node, slicer.vtkMRMLMarkupsNode):
        name = "no node" if node is None else f"the node {node.GetName()}"
        raise InputError(f"{name} is chosen for the findings, which is no point list", "Choose a point list")
    findings = []
    for index in _placed_points(node):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(index, position)
        findings.append(Finding(_identifier(node, index), tuple(position), _zone(node, index)))
    names = [finding.identifier for finding in findings]
    if not findings:
        raise InputError(f"the point list {node.GetName()} has no placed point", "Place a point at each finding")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"the point list {node.GetName()} has two findings named {twice[0]}", "Give each finding its own name"
        )
    return tuple(findings)


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
    """Label each control point "name: 0.73"; ``probabilities`` is by the finding's identifier."""
    for index in _placed_points(node):
        identifier = _identifier(node, index)
        if identifier in probabilities:
            node.SetNthControlPointLabel(index, f"{identifier}: {probabilities[identifier]:.2f}")


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
    words = re.findall(r"[A-Za-z]+", node.GetNthControlPointDescription(index) or "")
    return next((word.upper() for word in words if word.upper() in ZONES), "")
