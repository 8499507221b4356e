"""Voxel grids in patient space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular voxel grid in patient space.

    Attributes
    ----------
    shape : voxel counts (K, J, I), the shape of an array on this grid.
    ijk_to_ras : (4, 4) affine, homogeneous voxel index (i, j, k, 1) of a voxel centre -> RAS mm.
    """

    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.ijk_to_ras, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "ijk_to_ras", affine)
        if len(self.shape) != 3 or min(self.shape) < 1 or affine.shape != (4, 4):
            raise InputError(
                f"a voxel grid of shape {self.shape} with an affine of shape {affine.shape}",
                "Give three voxel counts and a 4 x 4 affine",
            )
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError(
                "a voxel grid whose affine is singular or not finite", "Repair the image's orientation and spacing"
            )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    def index_to_ras(self, ijk: np.ndarray) -> np.ndarray:
        """Voxel indices (..., 3) in the order (i, j, k), fractions allowed -> RAS mm (..., 3)."""
        return np.asarray(ijk, dtype=np.float64) @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def ras_to_index(self, ras: np.ndarray) -> np.ndarray:
        """RAS mm (..., 3) -> continuous voxel indices (..., 3) in the order (i, j, k)."""
        inverse = np.linalg.inv(self.ijk_to_ras)
        return np.asarray(ras, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def contains(self, ras: np.ndarray) -> np.ndarray:
        """Whether RAS points (..., 3) lie inside the grid's voxels -> bool (...)."""
        ijk = self.ras_to_index(ras)
        return np.all((ijk >= -0.5) & (ijk <= np.array(self.shape[::-1]) - 0.5), axis=-1)

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Same shape, and every corner voxel within ``tolerance_mm`` of the other grid's."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self._corners() - other._corners()).max() <= tolerance_mm)

    def overlap_with(self, other: Grid) -> float:
        """Fraction (0..1) of this grid's volume that lies inside ``other``, on a lattice of up to 16^3 points."""
        axes = [np.linspace(-0.5, n - 0.5, 2 * min(n, 16) + 1)[1::2] for n in self.shape[::-1]]
        lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return float(other.contains(self.index_to_ras(lattice)).mean())

    def along_lps(self) -> Grid:
        """The same voxels with axes permuted and flipped so that i, j, k run closest to L, P, S.

        An array on the result reads like a radiological axial slice stack: k from inferior to
        superior, rows from anterior to posterior, columns from the patient's right to left.
        """
        order, flips = self._lps_order()
        affine = self.ijk_to_ras.copy()
        counts = self.shape[::-1]
        for axis in range(3):
            if flips[axis]:
                affine[:3, 3] += affine[:3, axis] * (counts[axis] - 1)
                affine[:3, axis] *= -1
        affine[:3, :3] = affine[:3, order]
        return Grid(tuple(counts[axis] for axis in order)[::-1], affine)

    def to_along_lps(self, array: np.ndarray) -> np.ndarray:
        """Rearrange an array (..., K, J, I) on this grid onto ``along_lps()``; a view, no interpolation."""
        order, flips = self._lps_order()
        lead = array.ndim - 3
        array = np.flip(array, [lead + 2 - axis for axis in range(3) if flips[axis]])
        return np.transpose(array, [*range(lead), *(lead + 2 - order[axis] for axis in (2, 1, 0))])

    def from_along_lps(self, array: np.ndarray) -> np.ndarray:
        """Rearrange an array (..., K, J, I) on ``along_lps()`` back onto this grid; inverse of to_along_lps."""
        order, flips = self._lps_order()
        lead = array.ndim - 3
        forward = [*range(lead), *(lead + 2 - order[axis] for axis in (2, 1, 0))]
        array = np.transpose(array, np.argsort(forward))
        return np.flip(array, [lead + 2 - axis for axis in range(3) if flips[axis]])

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """A grid over the same box with about the given spacing along i, j, k (mm), same axes, same centre."""
        old = np.array(self.spacing_mm)
        counts = np.array(self.shape[::-1])
        new_counts = np.maximum(1, np.round(counts * old / np.asarray(spacing_mm, dtype=float))).astype(int)
        affine = self.ijk_to_ras.copy()
        affine[:3, :3] = self.ijk_to_ras[:3, :3] * (np.asarray(spacing_mm, dtype=float) / old)
        centre = self.index_to_ras((counts - 1) / 2)
        affine[:3, 3] = centre - affine[:3, :3] @ ((new_counts - 1) / 2)
        return Grid(tuple(new_counts[::-1]), affine)

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of ``array[box]`` for a box of three slices (k, j, i) with non-negative starts."""
        starts = [part.indices(count)[0] for part, count in zip(box, self.shape)]
        stops = [part.indices(count)[1] for part, count in zip(box, self.shape)]
        affine = self.ijk_to_ras.copy()
        affine[:3, 3] = self.index_to_ras(np.array(starts[::-1]))
        return Grid(tuple(b - a for a, b in zip(starts, stops)), affine)

    def _corners(self) -> np.ndarray:
        last = np.array(self.shape[::-1]) - 1
        corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
        return self.index_to_ras(corners * last)

    def _lps_order(self) -> tuple[list[int], list[bool]]:
        """order[n]: which of this grid's index axes (i=0, j=1, k=2) lies closest to L, P, S; flips by own axis."""
        from itertools import permutations

        directions = self.ijk_to_ras[:3, :3] / np.array(self.spacing_mm)
        lps = np.diag([-1.0, -1.0, 1.0]) @ directions
        order = max(permutations(range(3)), key=lambda p: sum(abs(lps[row, p[row]]) for row in range(3)))
        flips = [False, False, False]
        for row, axis in enumerate(order):
            flips[axis] = bool(lps[row, axis] < 0)
        return list(order), flips


def ras_from_lps(points: np.ndarray) -> np.ndarray:
    """LPS mm (..., 3), as DICOM and ITK have it -> RAS mm; the same function serves the other way."""
    return np.asarray(points, dtype=np.float64) * np.array([-1.0, -1.0, 1.0])
