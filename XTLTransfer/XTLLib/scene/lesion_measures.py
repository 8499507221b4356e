"""Uncertainty and location of the lesions that a slider finds.

The uncertainty is read off its map at once. Locations take some tenths of a second the first time, more than a slider
may wait: lesions keep that of the place they lie at until :meth:`LesionMeasures.located` is called, when the slider
rests.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume
from ..errors import InputError
from ..inference.lesions import Regions
from ..inference.location import LOCATIONS, Location, TissueMap
from ..inference.measures import regions_with_uncertainty
from .nodes import volume_from_node
from .refresh import ResultNodes
from .segmentation import PROBABILITY_ROLE
from .session import import_slicer

_AT_ONCE_S, _AT_ONCE_VOXELS = 0.03, 10_000
_NOT_YET = "..."
_NAMES = (_NOT_YET, *LOCATIONS)  # a location's code is its place


class LesionMeasures:
    """Measures of the lesions of one result."""

    def __init__(self) -> None:
        self._places: np.ndarray | None = None  # int8, flat: the code of the lesion that was located there
        self._located: np.ndarray | None = None  # voxels of the lesions that were located last
        self._tissue: tuple | None = None  # what they were located with
        self._failed: tuple | None = None
        self._doing: tuple[tuple, dict[int, Location]] | None = None  # lesions and tissue, and what is known by now
        self._map: tuple[tuple, TissueMap] | None = None  # of the tissue segmentation as it was

    def of(self, regions: Regions, nodes: ResultNodes, uncertainty: Any, tissue: Any) -> Regions:
        """The regions with what is known of them now.

        Parameters
        ----------
        uncertainty : volume node or None; one that is not of the result's probability map is left alone.
        tissue : volume node of a tissue segmentation, or None for no locations.
        """
        regions = regions_with_uncertainty(regions, _map_of(nodes, uncertainty))
        names = [""] * len(regions.lesions)
        if tissue is not None and self._failed != _key(tissue):
            names = [_NAMES[code] for code in self._codes(regions, nodes, tissue)]
        lesions = tuple(
            lesion if lesion.location == name else replace(lesion, location=name)
            for lesion, name in zip(regions.lesions, names)
        )
        return replace(regions, lesions=lesions)

    def is_due(self, regions: Regions, tissue: Any) -> bool:
        """Whether :meth:`located` has something to do."""
        if tissue is None or _key(tissue) == self._failed:
            return False
        known = self._located is not None and np.array_equal(self._located, regions.voxels)
        return not known or self._tissue != _key(tissue)

    def located(self, regions: Regions, grid: Grid, tissue: Any) -> Regions | None:
        """The regions with their locations; ``grid`` is the map's, in world coordinates.

        It goes a piece at a time, so that the window can be drawn in between: None as long as it has to be called
        again. Raises InputError for a tissue segmentation that cannot be used; it is not asked again until it changes.
        """
        began, state = time.monotonic(), (regions.voxels, _key(tissue))
        try:
            if self._doing is None or self._doing[0][0] is not state[0] or self._doing[0][1] != state[1]:
                self._tissue_map(tissue)
                self._doing = (state, {})
                return None
            found, starts = self._doing[1], np.searchsorted(regions.identifier, range(1, len(regions.lesions) + 2))
            while len(found) < len(regions.lesions):
                if time.monotonic() - began > _AT_ONCE_S:
                    return None
                done = len(found)
                upto = max(done + 1, int(np.searchsorted(starts, starts[done] + _AT_ONCE_VOXELS, "right")) - 1)
                part = slice(starts[done], starts[upto])
                found.update(
                    self._tissue_map(tissue).locate_voxels(regions.voxels[part], regions.identifier[part], grid)
                )
        except InputError:
            self._failed, self._doing = _key(tissue), None
            raise
        self._doing = None
        lesions = tuple(replace(lesion, location=found[lesion.identifier]) for lesion in regions.lesions)
        regions = replace(regions, lesions=lesions)
        self.take(regions, grid, tissue)
        return regions

    def take(self, regions: Regions, grid: Grid, tissue: Any) -> None:
        """Lesions have come with their locations, by this tissue segmentation."""
        codes = np.array([0, *(_NAMES.index(lesion.location) for lesion in regions.lesions)], np.int8)
        self._places = np.zeros(grid.shape, np.int8).reshape(-1)
        self._places[regions.voxels] = codes[regions.identifier]
        self._located, self._tissue, self._failed = regions.voxels, _key(tissue), None

    def _tissue_map(self, tissue: Any) -> TissueMap:
        """Of the node as it is and lies now."""
        volume = volume_from_node(tissue, "the tissue segmentation")
        key = (*_key(tissue), volume.grid.ijk_to_ras.tobytes())
        if self._map is None or self._map[0] != key:
            self._map = (key, TissueMap(volume))
        return self._map[1]

    def _codes(self, regions: Regions, nodes: ResultNodes, tissue: Any) -> list[int]:
        if self._places is None:
            self._places = _places_shown(nodes)
            if self._places.any():  # a result that came with locations, or from a file
                self._located, self._tissue = np.flatnonzero(self._places), _key(tissue)
                if np.array_equal(self._located, np.sort(regions.voxels)):
                    self._located = regions.voxels
        if self._tissue != _key(tissue) or not regions.lesions:
            return [0] * len(regions.lesions)
        starts = np.searchsorted(regions.identifier, [lesion.identifier for lesion in regions.lesions])
        return np.maximum.reduceat(self._places[regions.voxels], starts).tolist()


def _map_of(nodes: ResultNodes, uncertainty: Any) -> Volume | None:
    if uncertainty is None or uncertainty.GetNodeReference(PROBABILITY_ROLE) is not nodes.probability:
        return None
    image = uncertainty.GetImageData()
    if image is None or image.GetDimensions()[::-1] != nodes.grid.shape:
        return None
    return Volume(import_slicer().util.arrayFromVolume(uncertainty), nodes.grid, uncertainty.GetName())


def _places_shown(nodes: ResultNodes) -> np.ndarray:
    """The codes that the table has, where its lesions lie in the label map."""
    table, label = nodes.table.GetTable(), import_slicer().util.arrayFromVolume(nodes.label).reshape(-1)
    names, identifiers = table.GetColumnByName("location"), table.GetColumnByName("id")
    codes = np.zeros(int(label.max(initial=0)) + 1, np.int8)
    if names is not None and identifiers is not None:
        for row in range(table.GetNumberOfRows()):
            name, value = names.GetValue(row), int(identifiers.GetTuple1(row))
            if name in _NAMES and value < codes.size:
                codes[value] = _NAMES.index(name)
    return codes[label]


def _key(tissue: Any) -> tuple:
    image = tissue.GetImageData()
    return tissue.GetID(), 0 if image is None else image.GetMTime()
