"""Zones of findings, guessed from a zonal segmentation or label map of the scene."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.case import Finding
from ..data.findings import zone_in_words
from ..data.volume import Volume
from ..data.zones import ZONES, ZonedFindings, guess_zones
from ..errors import InputError
from .nodes import grid_of_node, own_grid_of_node, volume_from_node
from .refresh import voxels_on
from .session import import_slicer

_WORDS = {"PZ": "peripheral", "TZ": "transition|central gland", "AS": "stroma", "SV": "seminal|vesicle"}


def guess_from_node(findings: Sequence[Finding], zones: Any, reference: Any) -> ZonedFindings:
    """Give the findings without a zone that of a zonal segmentation or label map; see data.zones.guess_zones.

    A segment, and a label whose colour has a name, is known by it ("PZ", "peripheral zone"); labels without such
    names are taken as PI-CAI has them (1 = PZ, 2 = TZ).

    Parameters
    ----------
    zones : vtkMRMLSegmentationNode, or a volume or label map node. reference : volume node on whose grid a
        segmentation is looked at.

    Raises
    ------
    InputError : no segment is named after a zone, or labels that nobody names.
    """
    slicer = import_slicer()
    if isinstance(zones, slicer.vtkMRMLSegmentationNode):
        return guess_zones(findings, _volume_of_segments(zones, reference), dict(enumerate(ZONES, start=1)))
    volume = volume_from_node(zones, "the zones")
    return guess_zones(findings, volume, _named_labels(zones, volume) or None)


def zone_in_name(name: str) -> str:
    """The zone that a name tells: as a word, or in full ("peripheral zone"); "" for none."""
    if zone := zone_in_words(name):
        return zone
    return next((zone for zone, words in _WORDS.items() if re.search(words, name, re.IGNORECASE)), "")


def _volume_of_segments(node: Any, reference: Any) -> Volume:
    if reference is None:
        raise InputError(f"there is no image to look at the segmentation {node.GetName()} on", "Choose the T2W volume")
    segmentation = node.GetSegmentation()
    own = own_grid_of_node(reference)
    labels = np.zeros(own.shape, np.uint8)
    node.CreateBinaryLabelmapRepresentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        zone = zone_in_name(segment.GetName() or "")
        if zone:
            labels.reshape(-1)[voxels_on(own, node, segment, reference)] = ZONES.index(zone) + 1
    if not labels.any():
        raise InputError(
            f"no segment of {node.GetName()} is named after a zone, or none has a voxel",
            f"Name its segments {', '.join(ZONES)}",
        )
    return Volume(labels, grid_of_node(reference), node.GetName())


def _named_labels(node: Any, volume: Volume) -> dict[int, str]:
    """Label -> zone where every label has a colour that is named after a zone; else nothing."""
    display = node.GetDisplayNode()
    colors = None if display is None else display.GetColorNode()
    found = [int(value) for value in np.unique(volume.array) if value != 0]
    if colors is None or not all(0 < value < colors.GetNumberOfColors() for value in found):
        return {}
    named = {value: zone_in_name(colors.GetColorName(value) or "") for value in found}
    return named if all(named.values()) else {}
