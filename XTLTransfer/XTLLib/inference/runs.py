"""Voxels as runs along i: connected components at a cost that grows with the voxels, not with the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

# Half of a voxel's neighbouring lines (dk, dj), and how far a run reaches sideways in them.
_NEIGHBOURS: dict[int, tuple[tuple[int, int, int], ...]] = {
    6: ((0, 1, 0), (1, 0, 0)),
    18: ((0, 1, 1), (1, 0, 1), (1, 1, 0), (1, -1, 0)),
    26: ((0, 1, 1), (1, 0, 1), (1, 1, 1), (1, -1, 1)),
}


@dataclass(frozen=True, eq=False)
class Runs:
    """Voxels of a volume as its longest stretches along i, in array order.

    Attributes
    ----------
    k, j : (n,) the line of each run. first, last : (n,) its first and last voxel's i.
    begins : (n,) where the run begins in the list of voxels that it was made of.
    shape : of the volume, (K, J, I).
    """

    k: np.ndarray
    j: np.ndarray
    first: np.ndarray
    last: np.ndarray
    begins: np.ndarray
    shape: tuple[int, int, int]

    @property
    def lengths(self) -> np.ndarray:
        """(n,) voxels of each run."""
        return self.last - self.first + 1

    def __len__(self) -> int:
        return self.begins.size

    def take(self, chosen: np.ndarray) -> Runs:
        """The runs of an index array, in its order."""
        parts = (part[chosen] for part in (self.k, self.j, self.first, self.last, self.begins))
        return Runs(*parts, self.shape)


def runs_of(voxels: np.ndarray, shape: tuple[int, int, int]) -> Runs:
    """The runs of sorted flat indices (array order, each once) into a volume of that shape."""
    voxels = np.asarray(voxels, dtype=np.int64)
    width = shape[2]
    is_begin = voxels % width == 0
    is_begin[:1] = True
    is_begin[1:] |= voxels[1:] != voxels[:-1] + 1
    begins = np.flatnonzero(is_begin)
    ends = np.append(begins[1:], voxels.size)
    line, first = np.divmod(voxels[begins], width)
    k, j = np.divmod(line, shape[1])
    return Runs(k, j, first, first + (ends - begins) - 1, begins, tuple(shape))


def components_of(runs: Runs, connectivity: int) -> tuple[np.ndarray, int]:
    """The connected component 0..n-1 of each run, numbered in the order of their first voxels, and n.

    Parameters
    ----------
    connectivity : 6 (shared faces), 18 (faces and edges) or 26 (faces, edges and corners).
    """
    if connectivity not in _NEIGHBOURS:
        raise InputError(f"a connectivity of {connectivity}", "Choose 6, 18 or 26")
    count = len(runs)
    if count == 0:
        return np.zeros(0, dtype=np.int64), 0
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [_touching(runs, *neighbour) for neighbour in _NEIGHBOURS[connectivity]]
    one, other = (np.concatenate(side) for side in zip(*pairs))
    graph = coo_array((np.ones(one.size, dtype=np.int8), (one, other)), shape=(count, count))
    found, component = connected_components(graph, directed=False)
    return component.astype(np.int64), int(found)


def _touching(runs: Runs, dk: int, dj: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs that touch, the second in the line (dk, dj) away from the first one's."""
    height, width = runs.shape[1], runs.shape[2]
    line = runs.k * height + runs.j
    first, last = line * width + runs.first, line * width + runs.last
    inside = np.flatnonzero((runs.j + dj >= 0) & (runs.j + dj < height))
    start = (line[inside] + dk * height + dj) * width
    lowest = start + np.maximum(runs.first[inside] - reach, 0)
    highest = start + np.minimum(runs.last[inside] + reach, width - 1)
    # Runs are sorted and apart: those that meet [lowest, highest] stand side by side in the list.
    begin = np.searchsorted(last, lowest, side="left")
    counts = np.searchsorted(first, highest, side="right") - begin
    return np.repeat(inside, counts), expand(begin, counts)


def expand(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """begins[0], begins[0] + 1, ... (counts[0] of them), begins[1], ... in one array."""
    total = int(counts.sum())
    offsets = np.cumsum(counts) - counts
    return np.repeat(begins - offsets, counts) + np.arange(total)
