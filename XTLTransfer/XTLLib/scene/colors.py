"""Colours of lesions and of probabilities, and the colour table nodes that hold them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any

from .change import output_node
from .session import import_slicer

Rgb = tuple[float, float, float]

LESION_COLOR: Rgb = (0.90, 0.29, 0.23)
PROBABILITY_MAP_ID = "vtkMRMLColorTableNodeIron"  # black through red to white; every Slicer has it
# Blue (0) through yellow (0.5) to red (1): also told apart by the colour-blind.
_PROBABILITY_STOPS: tuple[Rgb, ...] = ((0.20, 0.40, 0.85), (0.98, 0.90, 0.25), (0.85, 0.10, 0.10))
_GOLDEN_RATIO = 0.618033988749895
_ROLE = "XTL.LabelColors"
_EVIDENCE_ROLE = "XTL.EvidenceColors"
_EVIDENCE_STEPS = 256
UNRATED_COLOR: Rgb = (0.6, 0.6, 0.6)


def lesion_colors(count: int) -> list[Rgb]:
    """Colours for lesions 1..count, always the same ones; neighbours in the list differ clearly in hue."""
    return [colorsys.hsv_to_rgb((0.02 + n * _GOLDEN_RATIO) % 1.0, 0.75, 0.95) for n in range(count)]


def probability_color(probability: float) -> Rgb:
    """Blue at 0 through yellow at 0.5 to red at 1, linear between them; grey for NaN."""
    if math.isnan(probability):
        return UNRATED_COLOR
    return _between(_PROBABILITY_STOPS, probability)


def _between(stops: Sequence[Rgb], share: float) -> Rgb:
    """The colour at a share (0 to 1) of the way along the stops."""
    place = min(max(float(share), 0.0), 1.0) * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    low, high = stops[first], stops[first + 1]
    return tuple(a + (b - a) * (place - first) for a, b in zip(low, high))


def color_labels(label_node: Any, names: Sequence[str], colors: Sequence[Rgb], scene: Any) -> Any:
    """Give labels 1..n of a label map node their names and colours; 0 is transparent.

    The colour table node made for a label map before is filled anew, so that results do not pile up.
    Returns the colour table node.
    """
    display = label_node.GetDisplayNode()
    current = display.GetColorNode()
    own = current if current is not None and current.GetAttribute(_ROLE) else None
    table = output_node(own, "vtkMRMLColorTableNode", f"{label_node.GetName()} colors", scene)
    modifying = table.StartModify()  # otherwise every colour redraws every view
    table.SetTypeToUser()
    table.SetAttribute(_ROLE, "1")
    table.SetAttribute("Category", "XTL")
    table.SetDescription(f"Colors of {label_node.GetName()}")
    table.SetNumberOfColors(len(names) + 1)
    table.SetColor(0, "background", 0.0, 0.0, 0.0, 0.0)
    for value, (name, color) in enumerate(zip(names, colors), start=1):
        table.SetColor(value, name, *color, 1.0)
    table.GetLookupTable().SetRange(0, max(len(names), 1))
    table.EndModify(modifying)
    display.SetAndObserveColorNodeID(table.GetID())
    return table


def evidence_colors(scene: Any, is_signed: bool) -> Any:
    """The scene's colour table for evidence maps: grey to red, or with both signs blue through grey to red."""
    kind = "signed" if is_signed else "positive"
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")):
        table = scene.GetNthNodeByClass(index, "vtkMRMLColorTableNode")
        if table.GetAttribute(_EVIDENCE_ROLE) == kind:
            return table
    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", f"XTL evidence ({kind})")
    stops = (_PROBABILITY_STOPS[0], UNRATED_COLOR) if is_signed else (UNRATED_COLOR, _PROBABILITY_STOPS[1])
    stops = (*stops, _PROBABILITY_STOPS[2])
    modifying = table.StartModify()
    table.SetTypeToUser()
    table.SetAttribute(_EVIDENCE_ROLE, kind)
    table.SetAttribute("Category", "XTL")
    table.SetHideFromEditors(True)
    table.SetNumberOfColors(_EVIDENCE_STEPS)
    for step in range(_EVIDENCE_STEPS):
        table.SetColor(step, f"{step}", *_between(stops, step / (_EVIDENCE_STEPS - 1)), 1.0)
    table.GetLookupTable().SetRange(0, _EVIDENCE_STEPS - 1)
    table.EndModify(modifying)
    return table


def show_legend(node: Any, title: str) -> Any:
    """Show what the labels of a label map mean beside the slices; None in a Slicer that has no colour legends."""
    slicer = import_slicer()
    if not hasattr(slicer, "vtkMRMLColorLegendDisplayNode") or not hasattr(slicer, "vtkSlicerColorLogic"):
        return None
    logic = slicer.vtkSlicerColorLogic
    legend = logic.GetColorLegendDisplayNode(node) or logic.AddDefaultColorLegendDisplayNode(node)
    if legend is None:
        return None
    count = node.GetDisplayNode().GetColorNode().GetNumberOfColors() - 1  # without the background
    modifying = legend.StartModify()
    legend.SetTitleText(title)
    legend.SetUseColorNamesForLabels(True)
    legend.SetMaxNumberOfColors(max(count, 1))
    legend.SetNumberOfLabels(max(count, 1))
    legend.SetVisibility(count > 0)
    legend.EndModify(modifying)
    return legend
