"""From a probability map to lesions: components, their positions and their sizes in patient space."""

from __future__ import annotations

import itertools

import numpy as np

from ..bundle.postprocessing import check_postprocessing
from ..data.volume import Volume
from ..metrics.components import bounding_box, label_components
from .results import Lesion

CONNECTIVITY = 26  # lesions are joined across faces, edges and corners
_HULL_FROM_POINTS = 250  # below this all pairs are quicker than a convex hull


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
    array = probability.require_finite().array
    label = np.zeros(array.shape, dtype=np.int32)
    label_volume = Volume(label, probability.grid, "lesions")
    inside = array >= threshold
    box = bounding_box(inside)
    if box is None:
        return label_volume, ()
    components, count = label_components(inside[box], connectivity)
    kji = np.argwhere(inside[box])
    component = components[tuple(kji.T)]
    kji += [part.start for part in box]

    sizes = np.bincount(component, minlength=count + 1)
    voxel_mm3 = probability.grid.voxel_volume_mm3
    # A minimum of exactly n voxels keeps lesions of n voxels whatever the affine's rounding.
    kept = np.flatnonzero(sizes * voxel_mm3 * (1 + 1e-6) >= max(minimum_volume_mm3, 1e-12))
    kept = kept[np.argsort(-sizes[kept], kind="stable")]
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[kept] = np.arange(1, kept.size + 1)
    identifier = rank[component]
    kji, identifier = kji[identifier > 0], identifier[identifier > 0]
    if not kept.size:
        return label_volume, ()
    label[tuple(kji.T)] = identifier

    order = np.argsort(identifier, kind="stable")  # voxels stay in array order within a lesion
    kji, identifier = kji[order], identifier[order]
    starts = np.searchsorted(identifier, np.arange(1, kept.size + 1))
    counts = sizes[kept]
    values = array[tuple(kji.T)].astype(np.float64)
    centroids = np.add.reduceat(kji[:, ::-1], starts, axis=0) / counts[:, None]
    positions = probability.grid.index_to_ras(centroids)
    means = np.add.reduceat(values, starts) / counts
    maxima = np.maximum.reduceat(values, starts)
    diameters = _longest_diameters(kji, identifier, probability.grid.ijk_to_ras[:3, :3])
    lesions = tuple(
        Lesion(n + 1, tuple(map(float, positions[n])), float(counts[n] * voxel_mm3), *map(float, figures))
        for n, figures in enumerate(zip(diameters, means, maxima))
    )
    return label_volume, lesions


def _longest_diameters(kji: np.ndarray, identifier: np.ndarray, ijk_to_mm: np.ndarray) -> np.ndarray:
    """Largest distance (mm) between the voxels' corners for each lesion 1..n.

    Only the two ends of each line of voxels along i can be extreme points, and corners are shared by
    neighbouring lines, so the corners are reduced to those ends first, for all lesions at once.

    Parameters
    ----------
    kji : (n, 3) voxel indices ordered by lesion, then by k, j, i. identifier : (n,) 1..m.
    ijk_to_mm : (3, 3) linear part of the affine, columns i, j, k.
    """
    starts = _starts_of_runs(identifier, kji[:, 0], kji[:, 1])
    ends = np.r_[starts[1:], identifier.size] - 1
    lesion, k, j = identifier[starts], kji[starts, 0], kji[starts, 1]
    first, last = kji[starts, 2], kji[ends, 2] + 1

    # Corner lattice: corner (k, j, i) sits half a voxel before voxel (k, j, i) along every axis.
    lesion = np.tile(lesion, 4)
    k = np.concatenate([k, k, k + 1, k + 1])
    j = np.concatenate([j, j + 1, j, j + 1])
    first, last = np.tile(first, 4), np.tile(last, 4)
    order = np.lexsort((j, k, lesion))
    lesion, k, j, first, last = (part[order] for part in (lesion, k, j, first, last))
    starts = _starts_of_runs(lesion, k, j)
    first, last = np.minimum.reduceat(first, starts), np.maximum.reduceat(last, starts)
    lesion, k, j = lesion[starts], k[starts], j[starts]

    near = np.stack([first, j, k], axis=1) @ ijk_to_mm.T
    far = np.stack([last, j, k], axis=1) @ ijk_to_mm.T
    bounds = np.searchsorted(lesion, np.arange(1, int(identifier[-1]) + 2))
    return np.array([_diameter(np.concatenate([near[a:b], far[a:b]])) for a, b in itertools.pairwise(bounds)])


def _starts_of_runs(*keys: np.ndarray) -> np.ndarray:
    """Indices at which any of the equally long key arrays changes, 0 included."""
    changed = np.zeros(keys[0].size, dtype=bool)
    changed[0] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def _diameter(points: np.ndarray) -> float:
    """Largest distance between two of the points (n, 3)."""
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import cdist, pdist

    if len(points) > _HULL_FROM_POINTS:
        try:
            points = points[ConvexHull(points).vertices]
        except QhullError:  # flat within rounding: all pairs, block by block
            return float(max(cdist(points[n : n + 256], points).max() for n in range(0, len(points), 256)))
    return float(pdist(points).max())
