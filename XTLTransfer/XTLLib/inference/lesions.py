"""From a probability map to lesions: components, their positions and their sizes in patient space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..bundle.postprocessing import check_postprocessing
from ..data.volume import Volume
from .diameters import longest_diameters
from .results import Lesion
from .runs import components_of, expand, runs_of

CONNECTIVITY = 26  # lesions are joined across faces, edges and corners
# A finder remembers the voxels down to this share of a threshold: sliders move in small steps.
_REMEMBERED = 0.25
_REMEMBERED_VOXELS = 1 / 8  # of the map at most: where most of it is high, looking anew is as quick


@dataclass(frozen=True, eq=False)
class Regions:
    """Lesions with their voxels.

    Attributes
    ----------
    voxels : (n,) flat indices into the map, by lesion, within a lesion in array order.
    identifier : (n,) 1..m, the lesion of each voxel. lesions : m, by identifier.
    """

    voxels: np.ndarray
    identifier: np.ndarray
    lesions: tuple[Lesion, ...]

    def of(self, identifier: int) -> np.ndarray:
        """The voxels of a lesion; empty where there is no such lesion."""
        first, last = np.searchsorted(self.identifier, (identifier, identifier + 1))
        return self.voxels[first:last]


NO_REGIONS = Regions(np.zeros(0, np.int64), np.zeros(0, np.int32), ())


def regions_of(label: Volume, lesions: tuple[Lesion, ...]) -> Regions:
    """The regions of a label map of lesions, whose values are the identifiers of ``lesions``."""
    values = label.array.reshape(-1)
    voxels = np.flatnonzero(values)
    identifier = values[voxels]
    order = np.argsort(identifier, kind="stable")
    return Regions(voxels[order], identifier[order], lesions)


class LesionFinder:
    """Finds the lesions of one probability map again and again, for example while a slider moves.

    Parameters
    ----------
    probability : (K, J, I), 0 to 1, on any grid: anisotropic, oblique, left-handed. Its values must not
        change as long as the finder is used.
    connectivity : 6, 18 or 26.

    Raises
    ------
    InputError : the map holds NaN.
    """

    def __init__(self, probability: Volume, connectivity: int = CONNECTIVITY) -> None:
        self.probability = probability.require_finite()
        self.values = np.ascontiguousarray(probability.array).reshape(-1)
        self._connectivity = connectivity
        self._floor = np.inf
        self._known = np.zeros(0, np.int64)
        self._found: tuple[tuple[float, float], Regions] | None = None

    def voxels_from(self, threshold: float) -> np.ndarray:
        """The flat indices of all voxels of at least this probability, in array order."""
        if threshold < self._floor:
            floor = threshold * _REMEMBERED
            known = np.flatnonzero(self.values >= floor)
            if known.size > self.values.size * _REMEMBERED_VOXELS:
                return np.flatnonzero(self.values >= threshold)
            self._floor, self._known = floor, known
        return self._known[self.values[self._known] >= threshold]

    def find(self, threshold: float, minimum_volume_mm3: float = 0.0) -> Regions:
        """The lesions at a threshold; see :func:`find_lesions`. Asked for the same again, it knows them."""
        check_postprocessing(threshold, minimum_volume_mm3)
        if self._found is None or self._found[0] != (threshold, minimum_volume_mm3):
            regions = self.measure(self.voxels_from(threshold), minimum_volume_mm3)
            self._found = ((threshold, minimum_volume_mm3), regions)
        return self._found[1]

    def measure(self, voxels: np.ndarray, minimum_volume_mm3: float = 0.0) -> Regions:
        """The components of any voxels (flat indices in array order), measured as lesions."""
        if voxels.size == 0:
            return NO_REGIONS
        grid = self.probability.grid
        runs = runs_of(voxels, grid.shape)
        component, count = components_of(runs, self._connectivity)
        sizes = np.bincount(component, weights=runs.lengths, minlength=count).astype(np.int64)
        voxel_mm3 = grid.voxel_volume_mm3
        # A minimum of exactly n voxels keeps lesions of n voxels whatever the affine's rounding.
        kept = np.flatnonzero(sizes * voxel_mm3 * (1 + 1e-6) >= max(minimum_volume_mm3, 1e-12))
        kept = kept[np.argsort(-sizes[kept], kind="stable")]
        if kept.size == 0:
            return NO_REGIONS
        rank = np.zeros(count, dtype=np.int32)
        rank[kept] = np.arange(1, kept.size + 1)
        order = np.argsort(rank[component], kind="stable")  # runs stay in array order within a lesion
        order = order[rank[component[order]] > 0]
        runs, lesion = runs.take(order), rank[component[order]]

        counts = sizes[kept]
        voxels = voxels[expand(runs.begins, runs.lengths)]
        starts = np.cumsum(counts) - counts
        values = self.values[voxels].astype(np.float64)
        means = np.add.reduceat(values, starts) / counts
        maxima = np.maximum.reduceat(values, starts)
        # Twice the sum over a run is a whole number: first + last, as often as it has voxels.
        doubled = np.stack([runs.first + runs.last, 2 * runs.j, 2 * runs.k], axis=1) * runs.lengths[:, None]
        run_starts = np.searchsorted(lesion, np.arange(1, kept.size + 1))
        centroids = np.add.reduceat(doubled, run_starts, axis=0) / (2 * counts[:, None])
        positions = grid.index_to_ras(centroids).tolist()
        diameters = longest_diameters(runs, lesion, grid.ijk_to_ras[:3, :3])
        figures = np.stack([counts * voxel_mm3, diameters, means, maxima], axis=1).tolist()
        lesions = tuple(Lesion(n + 1, tuple(positions[n]), *figures[n]) for n in range(kept.size))
        return Regions(voxels, np.repeat(lesion, runs.lengths), lesions)


def find_lesions(
    probability: Volume,
    threshold: float,
    minimum_volume_mm3: float = 0.0,
    connectivity: int = CONNECTIVITY,
) -> tuple[Volume, tuple[Lesion, ...]]:
    """Lesions are the connected components of ``probability >= threshold``.

    Parameters
    ----------
    probability : (K, J, I), 0 to 1, on any grid: anisotropic, oblique, left-handed.
    threshold : above 0, up to 1.
    minimum_volume_mm3 : components of a smaller volume are dropped.
    connectivity : 6, 18 or 26.

    Returns
    -------
    A label volume (int32, same grid, 0 outside, identifiers inside) and the lesions by decreasing
    volume; lesions of equal volume follow the order of their first voxel. No lesion is no error.

    Raises
    ------
    InputError : the map holds NaN, or a parameter is out of range.
    """
    check_postprocessing(threshold, minimum_volume_mm3)
    finder = LesionFinder(probability, connectivity)
    regions = finder.measure(np.flatnonzero(finder.values >= threshold), minimum_volume_mm3)
    label = np.zeros(probability.array.shape, dtype=np.int32)
    label.reshape(-1)[regions.voxels] = regions.identifier
    return Volume(label, probability.grid, "lesions"), regions.lesions
