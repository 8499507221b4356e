"""The longest diameters of many lesions at once."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from .runs import Runs

_HULL_FROM_POINTS = 400  # below this all pairs are quicker than a convex hull
_PAIRS_AT_ONCE = 1_000_000
_ROUNDING = 1e-9


def longest_diameters(runs: Runs, lesion: np.ndarray, ijk_to_mm: np.ndarray) -> np.ndarray:
    """Largest distance (mm) between the voxels' corners for each lesion 1..n.

    Only the two ends of each line of voxels along i can be extreme points, and corners are shared by
    neighbouring lines, so the corners are reduced to those ends first, for all lesions at once.

    Parameters
    ----------
    runs : ordered by lesion, then in array order. lesion : 1..n of each run, none left out.
    ijk_to_mm : (3, 3) linear part of the affine, columns i, j, k.
    """
    # Corner lattice: corner (k, j, i) sits half a voxel before voxel (k, j, i) along every axis.
    lesion = np.tile(lesion, 4)
    k = np.concatenate([runs.k, runs.k, runs.k + 1, runs.k + 1])
    j = np.concatenate([runs.j, runs.j + 1, runs.j, runs.j + 1])
    first, last = np.tile(runs.first, 4), np.tile(runs.last + 1, 4)
    line = (lesion * (runs.shape[0] + 1) + k) * (runs.shape[1] + 1) + j
    order = np.argsort(line, kind="stable")
    line = line[order]
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    first, last = np.minimum.reduceat(first[order], starts), np.maximum.reduceat(last[order], starts)
    kept = order[starts]
    lesion, k, j = lesion[kept], k[kept], j[kept]

    index = np.stack([np.stack([first, j, k], axis=1), np.stack([last, j, k], axis=1)], axis=1)
    points = index.reshape(-1, 3) @ ijk_to_mm.T
    return _largest_distances(points, np.repeat(lesion, 2))


def _largest_distances(points: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Largest distance between two points of each lesion; points (n, 3) ordered by lesion 1..m.

    The point farthest from a lesion's middle, and the one farthest from that, bound the distance from
    below; a point too near to the middle to be an end of anything longer is left out.
    """
    starts = np.searchsorted(lesion, np.arange(1, int(lesion[-1]) + 1))
    counts = np.diff(np.append(starts, lesion.size))
    middle = np.add.reduceat(points, starts, axis=0) / counts[:, None]
    radius = np.linalg.norm(points - np.repeat(middle, counts, axis=0), axis=1)
    far = radius
    bound = np.zeros(starts.size)
    for _ in range(3):
        ends = _first_largest(far, starts, counts)
        far = np.linalg.norm(points - np.repeat(points[ends], counts, axis=0), axis=1)
        bound = np.maximum(bound, np.maximum.reduceat(far, starts))
    needed = (bound - np.maximum.reduceat(radius, starts)) * (1 - _ROUNDING) - _ROUNDING
    kept = radius >= np.repeat(needed, counts)
    points, lesion = points[kept], lesion[kept]
    bounds = np.searchsorted(lesion, np.arange(1, starts.size + 2))
    begins, counts = bounds[:-1], np.diff(bounds)
    result = np.zeros(starts.size)
    for count in np.unique(counts):  # many lesions are small, and of few different sizes
        members = np.flatnonzero(counts == count)
        at_once = max(1, _PAIRS_AT_ONCE // int(count) ** 2)
        for part in (members[n : n + at_once] for n in range(0, members.size, at_once)):
            if count > _HULL_FROM_POINTS:
                result[part] = [_diameter_of_many(points[begins[m] : begins[m] + count]) for m in part]
            else:
                result[part] = _diameters(points[begins[part, None] + np.arange(count)])
    return result


def _first_largest(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Index of the first largest value of each stretch."""
    places = np.flatnonzero(values == np.repeat(np.maximum.reduceat(values, starts), counts))
    return places[np.searchsorted(places, starts)]


def _diameters(points: np.ndarray) -> np.ndarray:
    """(m,) largest distance between two of the points of each lesion (m, n, 3)."""
    squares = sum((axis[:, :, None] - axis[:, None, :]) ** 2 for axis in np.moveaxis(points, -1, 0))
    return np.sqrt(squares.max(axis=(1, 2)))


def _diameter_of_many(points: np.ndarray) -> float:
    """Largest distance between two of very many points (n, 3): those of their convex hull."""
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import cdist

    with suppress(QhullError):  # flat within rounding: all of them
        points = points[ConvexHull(points).vertices]
    return float(max(cdist(points[n : n + 256], points).max() for n in range(0, len(points), 256)))
