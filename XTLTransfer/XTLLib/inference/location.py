"""Where in the brain lesions lie, after the regions of the McDonald criteria, from a tissue segmentation.

The regions are those of Thompson et al. 2018 (doi 10.1016/S1474-4422(17)30470-2): periventricular,
(juxta)cortical, infratentorial. How near is near is not in the criteria: our distances are a project choice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume
from ..errors import InputError
from .results import SegmentationResult

Location = Literal["periventricular", "juxtacortical", "infratentorial", "deep white matter", "outside"]
LOCATIONS: tuple[Location, ...] = get_args(Location)
Labels = tuple[tuple[int, int], ...]  # ranges of label values, both ends included

_KEYS = ("lateral_ventricles", "cortex", "infratentorial")
_ROUNDING_MM = 1e-3
_FORM = '{"lateral_ventricles": [4, 43], "cortex": [3, 42, [1000, 2999]], "infratentorial": [7, 8, 16, 46, 47]}'


@dataclass(frozen=True)
class TissueLabels:
    """Which values of a tissue segmentation are which structure.

    Attributes
    ----------
    lateral_ventricles, cortex, infratentorial : ranges of label values, both ends included.
    zero_is_outside : 0 means outside of the brain, and not just a tissue without a label.
    """

    lateral_ventricles: Labels
    cortex: Labels
    infratentorial: Labels
    zero_is_outside: bool = False


# The numbers of FreeSurfer's colour table as aseg, aparc+aseg and SynthSeg use them: 4, 43 lateral ventricles, 5, 44
# their temporal horns; 3, 42 cortex, 1000-2999 and 11100-12999 its parcels; 7, 46 white matter and 8, 47 cortex of the
# cerebellum, 15 fourth ventricle, 16 brain stem.
FREESURFER = TissueLabels(
    lateral_ventricles=((4, 5), (43, 44)),
    cortex=((3, 3), (42, 42), (1000, 2999), (11100, 12999)),
    infratentorial=((7, 8), (15, 16), (46, 47)),
    zero_is_outside=True,
)


@dataclass(frozen=True)
class LocationRules:
    """How near is near.

    Attributes
    ----------
    ventricle_gap_mm, cortex_gap_mm : most that may lie between the voxels of a lesion and those of a lateral
        ventricle or the cortex; 0 asks for contact.
    infratentorial_share : least share of a lesion's voxels in brain stem or cerebellum.
    """

    ventricle_gap_mm: float = 1.0
    cortex_gap_mm: float = 1.0
    infratentorial_share: float = 0.5

    @property
    def text(self) -> str:
        """The rules in one sentence, in the order in which they are asked."""
        return (
            f"infratentorial: at least {self.infratentorial_share:.0%} of the lesion in brain stem or cerebellum; else "
            f"periventricular: within {self.ventricle_gap_mm:g} mm of a lateral ventricle; else juxtacortical: within "
            f"{self.cortex_gap_mm:g} mm of the cortex; else deep white matter"
        )


DEFAULT_RULES = LocationRules()


def read_tissue_labels(path: str | os.PathLike) -> TissueLabels:
    """Read a JSON file: ``{"lateral_ventricles": [4, 43], "cortex": [3, [1000, 2999]], "infratentorial": [16]}``.

    A pair is a range. ``"zero_is_outside": true`` may be added. Raises InputError for anything else.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the tissue labels {path} cannot be read as JSON", f"Write for example {_FORM}") from error
    if not isinstance(data, Mapping) or not {*_KEYS} <= {*data} <= {*_KEYS, "zero_is_outside"}:
        raise InputError(
            f"the tissue labels {path} do not have the keys {', '.join(_KEYS)}", f"Write for example {_FORM}"
        )
    try:
        return TissueLabels(*(_ranges(data[key]) for key in _KEYS), bool(data.get("zero_is_outside", False)))
    except (TypeError, ValueError) as error:
        raise InputError(f"the tissue labels {path} hold no numbers and pairs of numbers", f"Write {_FORM}") from error


class TissueMap:
    """A tissue segmentation made ready to be asked again and again: what costs its whole volume is done once.

    Parameters
    ----------
    tissue : label values on any grid. labels : what they mean. rules : how near is near.

    Raises
    ------
    InputError : it has no lateral ventricle or no cortex, or holds NaN.
    """

    def __init__(self, tissue: Volume, labels: TissueLabels = FREESURFER, rules: LocationRules = DEFAULT_RULES) -> None:
        values = tissue.require_finite().array
        self._tissue, self._rules = tissue, rules
        structures = {key: _mask(values, getattr(labels, key)) for key in _KEYS}
        for key in ("lateral_ventricles", "cortex"):
            if not structures[key].any():
                raise InputError(
                    f"{tissue.name} has no voxel of {key.replace('_', ' ')} (labels {_words(getattr(labels, key))})",
                    "Give a segmentation such as FreeSurfer's aseg or SynthSeg's, or say what its labels mean",
                )
        self._outside = values == 0 if labels.zero_is_outside else None
        self._infratentorial = structures["infratentorial"]
        self._near = {
            key: _Nearness(structures[key], tissue.grid.spacing_mm, gap)
            for key, gap in (("lateral_ventricles", rules.ventricle_gap_mm), ("cortex", rules.cortex_gap_mm))
        }

    def locate(self, label: Volume) -> dict[int, Location]:
        """The region of each lesion of a label map; see :func:`locate`."""
        voxels = np.flatnonzero(label.array > 0)
        return self.locate_voxels(voxels, label.array.reshape(-1)[voxels], label.grid)

    def locate_voxels(self, voxels: np.ndarray, identifier: np.ndarray, grid: Grid) -> dict[int, Location]:
        """The region of each lesion; what a lesion is does not depend on the others, so a few can be asked at a time.

        Parameters
        ----------
        voxels : (n,) flat indices into an array (K, J, I) on ``grid``. identifier : (n,) the lesion of each, from 1.

        Raises
        ------
        InputError : the tissue segmentation lies elsewhere.
        """
        tissue = self._tissue
        if grid.overlap_with(tissue.grid) == 0:
            raise InputError(f"{tissue.name} does not overlap the lesions' image in patient space", "Register it first")
        kji, identifier = np.stack(np.unravel_index(voxels, grid.shape), axis=1), identifier.astype(np.int64)
        places = np.rint(tissue.grid.ras_to_index(grid.index_to_ras(kji[:, ::-1]))).astype(np.int64)[:, ::-1]
        in_view = ((places >= 0) & (places < tissue.grid.shape)).all(axis=1)
        places = tuple(np.clip(places, 0, np.array(tissue.grid.shape) - 1).T)
        outside = ~in_view if self._outside is None else ~in_view | self._outside[places]
        infratentorial = in_view & self._infratentorial[places]

        counts = np.bincount(identifier)
        away = np.bincount(identifier, outside) > 0.5 * counts
        below = np.bincount(identifier, infratentorial) >= self._rules.infratentorial_share * counts - 1e-9
        points, owner = _box_points(kji, identifier, grid, min(tissue.grid.spacing_mm))
        index = tissue.grid.ras_to_index(points)
        near = {key: np.bincount(owner, nearness(index), counts.size) > 0 for key, nearness in self._near.items()}
        found: dict[int, Location] = {}
        for value in np.flatnonzero(counts).tolist():
            if away[value]:
                found[value] = "outside"
            elif below[value]:
                found[value] = "infratentorial"
            elif near["lateral_ventricles"][value]:
                found[value] = "periventricular"
            else:
                found[value] = "juxtacortical" if near["cortex"][value] else "deep white matter"
        return found


def locate(
    label: Volume, tissue: Volume, labels: TissueLabels = FREESURFER, rules: LocationRules = DEFAULT_RULES
) -> dict[int, Location]:
    """The region of each lesion, by its value in the label map.

    A lesion is ``infratentorial`` by the share of its voxels in brain stem and cerebellum; else
    ``periventricular`` or ``juxtacortical`` by the gap, in patient space, between its voxels (whole boxes,
    not their centres) and those of lateral ventricles or cortex; one that is near both is periventricular;
    else ``deep white matter``. More than half of it out of the tissue segmentation's field of view (or on its 0,
    where that is outside of the brain): ``outside``.

    Parameters
    ----------
    label : (K, J, I), 0 outside, lesions' identifiers inside. tissue : label values on any other grid.

    Raises
    ------
    InputError : the tissue segmentation is elsewhere, or has no lateral ventricle or no cortex.
    """
    return TissueMap(tissue, labels, rules).locate(label)


def with_locations(
    result: SegmentationResult, tissue: Volume, labels: TissueLabels = FREESURFER, rules: LocationRules = DEFAULT_RULES
) -> SegmentationResult:
    """The result with a location for each lesion; see :func:`locate`."""
    found = locate(result.label, tissue, labels, rules)
    lesions = tuple(replace(lesion, location=found[lesion.identifier]) for lesion in result.lesions)
    return replace(result, lesions=lesions, location_rule=rules.text)


def _mask(values: np.ndarray, labels: Labels) -> np.ndarray:
    mask, largest = np.zeros(values.shape, dtype=bool), values.max(initial=0)
    for first, last in labels:
        if first == last:
            mask |= values == first
        elif first <= largest:
            mask |= (values >= first) & (values <= last)
    return mask


def _box_points(kji: np.ndarray, identifier: np.ndarray, grid: Grid, spacing_mm: float) -> tuple[np.ndarray, ...]:
    """Points (n, 3) in RAS over the boxes of voxels, corners included, no farther apart than ``spacing_mm``.

    Returns them with the identifier of each; those that neighbouring voxels of a lesion share come once.
    """
    parts = np.maximum(1, np.ceil(np.array(grid.spacing_mm) / spacing_mm - 1e-6)).astype(np.int64)
    steps = np.array(list(product(*(range(n + 1) for n in parts))))
    lattice = (kji[:, None, ::-1] * parts + steps).reshape(-1, 3)
    shape = (int(identifier.max(initial=0)) + 1, *(np.array(grid.shape[::-1]) * parts + 1))
    rows = np.repeat(identifier, len(steps)), *lattice.T
    # As single numbers, sorted by hand: rows take twenty times as long, and what NumPy does for unique numbers several.
    numbers = np.sort(np.ravel_multi_index(rows, shape))
    is_first = np.concatenate([numbers[:1] == numbers[:1], numbers[1:] != numbers[:-1]])
    owner, *place = np.unravel_index(numbers[is_first], shape)
    return grid.index_to_ras(np.stack(place, axis=1) / parts - 0.5), owner


class _Nearness:
    """Whether points lie within ``gap_mm`` of a voxel's box of a structure, bool (K, J, I)."""

    def __init__(self, structure: np.ndarray, spacing_mm: Sequence[float], gap_mm: float) -> None:
        self._shape, self._gap_mm, self._spacing = structure.shape, gap_mm, np.asarray(spacing_mm)
        self._reach = (gap_mm / self._spacing + 0.5).astype(int) + 1
        self._block = int(self._reach.max())
        self._blocks = _near_blocks(structure, self._block)
        self._padded = np.pad(structure, [(n, n) for n in self._reach[::-1]])

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """bool (n,) of points (n, 3), as indices (i, j, k)."""
        nearest = np.rint(index).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < self._shape[::-1])).all(axis=1)
        found = np.zeros(len(index), dtype=bool)
        # Most points have nothing near, and need no measuring.
        inside[inside] = self._blocks[tuple((nearest[inside] // self._block).T[::-1])]
        near = np.flatnonzero(inside)
        nearest, fraction = nearest[near], index[near] - nearest[near]
        limit = (self._gap_mm + _ROUNDING_MM) ** 2
        # Squares of the distances along each axis, by offset; and places in memory, counted from each point's own.
        apart = [
            {
                o: (np.maximum(np.abs(o - fraction[:, axis]) - 0.5, 0) * self._spacing[axis]) ** 2
                for o in range(-n, n + 1)
            }
            for axis, n in enumerate(self._reach.tolist())
        ]
        padded, shape = self._padded.reshape(-1), self._padded.shape
        place = np.ravel_multi_index(tuple((nearest + self._reach).T[::-1]), shape)
        is_near = np.zeros(near.size, dtype=bool)
        for offset in product(*apart):
            if np.sum((np.maximum(np.abs(offset) - 1, 0) * self._spacing) ** 2) > limit:
                continue
            i, j, k = offset
            hit = padded[place + (k * shape[1] + j) * shape[2] + i]
            is_near |= hit & (apart[0][i] + apart[1][j] + apart[2][k] <= limit)
        found[near] = is_near
        return found


def _near_blocks(mask: np.ndarray, block: int) -> np.ndarray:
    """Which cubes of ``block`` voxels hold a voxel of the mask, or lie beside one that does: a coarse answer."""
    cubes = np.pad(mask, [(0, -n % block) for n in mask.shape])
    for axis in range(3):  # slices first: the quickest along memory
        cubes = cubes.reshape(*cubes.shape[:axis], -1, block, *cubes.shape[axis + 1 :]).any(axis=axis + 1)
    for axis in range(3):
        cubes = np.moveaxis(cubes, axis, 0)
        grown = cubes.copy()
        grown[1:] |= cubes[:-1]
        grown[:-1] |= cubes[1:]
        cubes = np.moveaxis(grown, 0, axis)
    return cubes


def _ranges(values: Any) -> Labels:
    pairs = [(value, value) if isinstance(value, int) else tuple(value) for value in values]
    if any(len(pair) != 2 or not all(isinstance(end, int) for end in pair) for pair in pairs):
        raise ValueError("no pair")
    return tuple(pairs)


def _words(labels: Labels) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in labels)
